//! The end of a script: waited for, ended where it must be, and never left as a zombie.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::process::ExitStatus;
use std::rc::Rc;
use std::time::Duration;

use crate::rt::process::{Child, Exited, Signal, orphans};
use crate::rt::{self, process, time};

use super::super::options::CgiOptions;
use super::super::worker::Worker;
use super::admission::Permit;
use super::escaped::Escaped;
use super::exchange::describe;
use super::journal::{Errors, Journal};

/// A child and its place among the running. Dropped (with the runtime): the child's group is killed.
pub(super) struct Ward {
    worker: Rc<Worker>,
    cgi: Rc<CgiOptions>,
    child: Option<Child>,
    escaped: Escaped,
    _permit: Permit,
}

/// How to take leave of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// It may finish what it is doing.
    Alone,
    /// It has a moment to end by itself; then as `Kill`.
    Tidy,
    /// TERM to its group and to what has left that, and KILL some seconds later.
    Kill,
}

impl Ward {
    pub(super) fn new(worker: Rc<Worker>, cgi: Rc<CgiOptions>, child: Child, escaped: Escaped, permit: Permit) -> Ward {
        worker.metrics.scripts_running.add(1);
        Ward { worker, cgi, child: Some(child), escaped, _permit: permit }
    }

    pub(super) fn child(&self) -> &Child {
        self.child.as_ref().expect("only dismiss takes the child, and it takes the ward")
    }

    /// Sees the child off in a task of its own; its place is free when it has gone. `exit`: it has been reaped already.
    pub(super) fn dismiss(mut self, errors: Errors, journal: Rc<Journal>, exit: Option<ExitStatus>, leave: Leave) {
        let Some(child) = self.child.take() else { return };
        let mut errors = errors;
        rt::spawn_detached(async move {
            let times = Times::of(&self.cgi);
            let at_once = (leave == Leave::Kill).then(|| self.escaped.end(&self.worker.cpus, times.patience));
            let seen_off = async {
                match exit {
                    Some(status) => Some(child.reaped(status)),
                    None => see_off(child, leave, &times).await,
                }
            };
            // `None`: somebody else has reaped it.
            let exited = beside(&mut errors, seen_off).await;
            if leave == Leave::Alone {
                let status = exited.as_ref().map(|exited| exited.status);
                if status.is_some_and(|status| !status.success()) {
                    journal.info(describe(status));
                }
                // Whoever still holds stderr has as long as one that holds stdout.
                if all_logged(&mut errors, times.held).await.is_err() {
                    let escaped = self.escaped.end(&self.worker.cpus, times.patience);
                    beside(&mut errors, end_group(exited.as_ref(), times.patience)).await;
                    beside(&mut errors, escaped).await;
                }
            } else {
                beside(&mut errors, end_group(exited.as_ref(), times.patience)).await;
                // A script that has ended has left something behind only if we have been given an orphan.
                let later = || orphans::exist().then(|| self.escaped.end(&self.worker.cpus, times.patience));
                if let Some(ended) = at_once.or_else(later) {
                    beside(&mut errors, ended).await;
                }
                let _ = all_logged(&mut errors, times.held).await;
            }
            drop(self);
        });
    }
}

struct Times {
    /// From TERM to KILL.
    patience: Duration,
    /// For one who holds a pipe of a script that has ended.
    held: Duration,
    /// For a script that has said all, to end by itself.
    moment: Duration,
}

impl Times {
    fn of(options: &CgiOptions) -> Times {
        Times {
            patience: Duration::from_millis(options.term_to_kill_ms),
            held: Duration::from_millis(options.held_stdout_ms_max),
            moment: Duration::from_millis(options.exit_wait_ms_max),
        }
    }
}

/// Waits for something, and goes on logging meanwhile: a script that waits for its stderr to be read would never end.
async fn beside<F: Future>(errors: &mut Errors, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|context| {
        let _ = errors.poll_ended(context);
        future.as_mut().poll(context)
    })
    .await
}

/// What is still in the pipe of stderr, until nobody holds it any more.
async fn all_logged(errors: &mut Errors, patience: Duration) -> Result<(), time::Elapsed> {
    time::timeout(patience, poll_fn(|context| errors.poll_ended(context))).await
}

/// Waits for the exit; except with `Leave::Alone`, after having asked for it, and for so long and no longer.
async fn see_off(child: Child, leave: Leave, times: &Times) -> Option<Exited> {
    if leave == Leave::Tidy
        && let Ok(status) = time::timeout(times.moment, process::exited(&child)).await
    {
        return status.ok().map(|status| child.reaped(status));
    }
    if leave != Leave::Alone {
        let _ = child.kill_group(Signal::TERM);
        if let Ok(status) = time::timeout(times.patience, process::exited(&child)).await {
            return status.ok().map(|status| child.reaped(status));
        }
        let _ = child.kill_group(Signal::KILL);
    }
    process::wait(child).await.ok()
}

/// What the script has left of its group: ESRCH when nothing.
async fn end_group(exited: Option<&Exited>, patience: Duration) {
    let Some(exited) = exited else { return };
    if exited.kill_group(Signal::TERM).is_ok() {
        // Looked at often: mostly it is gone at once, and its place is wanted.
        let gone = time::timeout(patience, async {
            while exited.has_group() {
                time::sleep(GROUP_POLL).await;
            }
        });
        if gone.await.is_err() {
            let _ = exited.kill_group(Signal::KILL);
        }
    }
}

const GROUP_POLL: Duration = Duration::from_millis(20);

impl Drop for Ward {
    fn drop(&mut self) {
        self.escaped.forget(&self.worker.cpus);
        self.worker.metrics.scripts_running.sub(1);
        self.worker.registry.tell_left();
    }
}
