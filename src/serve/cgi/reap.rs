//! The end of a script: waited for, ended where it must be, and never left as a zombie.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::process::ExitStatus;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::rt::process::{Child, Exited, PipeReader, Signal, orphans};
use crate::rt::{self, process, time};

use super::super::worker::Worker;
use super::admission::Permit;
use super::exchange::describe;
use super::output::drain_errors;

/// A child and its place among the running. Dropped (with the runtime): the child's group is killed.
pub(super) struct Ward {
    worker: Rc<Worker>,
    child: Option<Child>,
    /// The value of [`TAG`] in its environment.
    tag: String,
    _permit: Permit,
}

/// A variable that every script has with a value of its own, and its descendants with it, wherever they go: how those are
/// found that leave the process group. The name is the one that other servers use for a request's unique number.
pub(super) const TAG: &str = "UNIQUE_ID";

/// How to take leave of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// It may finish what it is doing.
    Alone,
    /// TERM to its group, and KILL some seconds later.
    Kill,
}

impl Ward {
    pub(super) fn new(worker: Rc<Worker>, child: Child, tag: String, permit: Permit) -> Ward {
        worker.metrics.scripts_running.add(1);
        Ward { worker, child: Some(child), tag, _permit: permit }
    }

    pub(super) fn child(&self) -> &Child {
        self.child.as_ref().expect("only dismiss takes the child, and it takes the ward")
    }

    /// Sees the child off in a task of its own; its place is free when it has gone. `exit`: it has been reaped already.
    pub(super) fn dismiss(mut self, stderr: PipeReader, script: String, exit: Option<ExitStatus>, leave: Leave) {
        let Some(child) = self.child.take() else { return };
        let patience = Duration::from_millis(self.worker.options.cgi.term_to_kill_ms);
        let held = Duration::from_millis(self.worker.options.cgi.held_stdout_ms_max);
        if leave == Leave::Kill {
            end_escaped(std::mem::take(&mut self.tag), self.worker.cpus.clone(), patience);
        }
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

/// Ends what has left the script's process group (setsid), on a thread of its own: it reads the environment of every
/// process, which is nothing for a core to do.
fn end_escaped(tag: String, cpus: Vec<usize>, patience: Duration) {
    if ENDING.fetch_add(1, Ordering::Relaxed) >= ENDING_MAX {
        ENDING.fetch_sub(1, Ordering::Relaxed);
        tracing::warn!("too many scripts are being ended at once: what one of them has left behind may live on");
        return;
    }
    let end = move || {
        // Not where the core is, and after everything else. A refusal changes only who waits for whom.
        let _ = rt::set_affinity(&cpus).and(rt::add_nice(process::NICE_INCREMENT));
        let signal = |signal| orphans::kill_by_environment(TAG.as_bytes(), tag.as_bytes(), signal).unwrap_or(0);
        if signal(Signal::TERM) > 0 {
            std::thread::sleep(patience);
            signal(Signal::KILL);
        }
        ENDING.fetch_sub(1, Ordering::Relaxed);
    };
    let thread = std::thread::Builder::new().name("end-escaped".to_owned()).stack_size(ENDER_STACK_BYTES);
    if let Err(error) = thread.spawn(end) {
        ENDING.fetch_sub(1, Ordering::Relaxed);
        tracing::warn!(%error, "what a script has left behind may live on");
    }
}

/// Threads of `end_escaped`, in all.
static ENDING: AtomicUsize = AtomicUsize::new(0);
const ENDING_MAX: usize = 32;
const ENDER_STACK_BYTES: usize = 128 << 10;

impl Drop for Ward {
    fn drop(&mut self) {
        self.worker.metrics.scripts_running.sub(1);
        self.worker.registry.tell_left();
    }
}
