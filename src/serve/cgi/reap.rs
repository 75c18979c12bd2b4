//! The end of a script: waited for, ended where it must be, and never left as a zombie.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::process::ExitStatus;
use std::rc::Rc;
use std::time::Duration;

use crate::rt::process::{Child, Exited, PipeReader, Signal};
use crate::rt::{self, process, time};

use super::super::worker::Worker;
use super::admission::Permit;
use super::exchange::describe;
use super::output::drain_errors;

/// A child and its place among the running. Dropped (with the runtime): the child's group is killed.
pub(super) struct Ward {
    worker: Rc<Worker>,
    child: Option<Child>,
    _permit: Permit,
}

/// How to take leave of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// It may finish what it is doing.
    Alone,
    /// TERM to its group, and KILL some seconds later.
    Kill,
}

impl Ward {
    pub(super) fn new(worker: Rc<Worker>, child: Child, permit: Permit) -> Ward {
        worker.metrics.scripts_running.add(1);
        Ward { worker, child: Some(child), _permit: permit }
    }

    pub(super) fn child(&self) -> &Child {
        self.child.as_ref().expect("only dismiss takes the child, and it takes the ward")
    }

    /// Sees the child off in a task of its own; its place is free when it has gone. `exit`: it has been reaped already.
    pub(super) fn dismiss(mut self, stderr: PipeReader, script: String, exit: Option<ExitStatus>, leave: Leave) {
        let Some(child) = self.child.take() else { return };
        let patience = Duration::from_millis(self.worker.options.cgi.term_to_kill_ms);
        let held = Duration::from_millis(self.worker.options.cgi.held_stdout_ms_max);
        rt::spawn_detached(async move {
            // Boxed and fused: its end must not be polled for again.
            let mut errors = Box::pin(drain_errors(&stderr, &script));
            let mut errors_ended = false;
            let mut gone = pin!(async {
                match exit {
                    Some(status) => Some(child.reaped(status)),
                    None => see_off(child, leave, patience).await,
                }
            });
            let exited = poll_fn(|context| {
                errors_ended = errors_ended || errors.as_mut().poll(context).is_ready();
                gone.as_mut().poll(context)
            })
            .await;
            if let Some(exited) = exited {
                if !exited.status.success() && leave == Leave::Alone {
                    tracing::info!(script, "{}", describe(Some(exited.status)));
                }
                if leave == Leave::Kill {
                    end_group(&exited, patience).await;
                } else if !errors_ended && time::timeout(held, errors).await.is_err() {
                    // Whoever still holds stderr has as long as one that holds stdout.
                    end_group(&exited, patience).await;
                }
            }
            drop(self);
        });
    }
}

/// Waits for the exit; with `Leave::Kill`, after having asked for it, and for so long and no longer.
async fn see_off(child: Child, leave: Leave, patience: Duration) -> Option<Exited> {
    if leave == Leave::Kill {
        let _ = child.kill_group(Signal::TERM);
        if let Ok(status) = time::timeout(patience, process::exited(&child)).await {
            return status.ok().map(|status| child.reaped(status));
        }
        let _ = child.kill_group(Signal::KILL);
    }
    process::wait(child).await.ok()
}

/// What the script has left of its group: ESRCH when nothing.
async fn end_group(exited: &Exited, patience: Duration) {
    if exited.kill_group(Signal::TERM).is_ok() {
        time::sleep(patience).await;
        let _ = exited.kill_group(Signal::KILL);
    }
}

impl Drop for Ward {
    fn drop(&mut self) {
        self.worker.metrics.scripts_running.sub(1);
        self.worker.registry.tell_left();
    }
}
