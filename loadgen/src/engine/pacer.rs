//! The open loop's clock: brings each request when it is due, and waits until the next one, whatever the answers do.

use std::rc::Rc;

use ucaffeine::rt::time;

use super::thread::Thread;
use crate::schedule::Step;

/// Until the schedule is over.
pub(super) async fn run(thread: &Rc<Thread>) {
    loop {
        match thread.step(thread.fresh_ns()) {
            Step::Send { intended_ns } => thread.is_due(intended_ns),
            Step::Wait { until_ns } => time::alarm(thread.moment(until_ns)).await,
            Step::Stop => return,
        }
    }
}
