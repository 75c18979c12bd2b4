//! Asks the cores what they have counted, from any other thread: one message a core, and a bound on how long it waits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use super::super::cgi::Admission;
use super::super::start;
use super::super::stop::{Stage, StopSignal};
use super::super::worker::Worker;
use super::report::{CoreReport, Watched, report};
use crate::rt;

/// Everybody who looks at a server shares this.
pub(in crate::serve) struct Observer {
    remotes: Vec<rt::Remote>,
    stop: StopSignal,
    admission: Arc<Admission>,
    last: Arc<Last>,
}

/// What the cores that have stopped had counted: their clients are gone, but no counter goes back.
#[derive(Default)]
pub(in crate::serve) struct Last(Mutex<Vec<(usize, CoreReport)>>);

/// What came of asking a core.
pub(in crate::serve) enum Asked<T> {
    Told(T),
    /// It has stopped, as it was told to.
    Stopped,
    /// It does not answer.
    Silent,
}

impl Last {
    fn lock(&self) -> MutexGuard<'_, Vec<(usize, CoreReport)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// On the thread of a core, at its end.
    pub(in crate::serve) fn keep(&self, index: usize, worker: &Worker) {
        self.lock().push((index, report(worker)));
    }

    fn of(&self, index: usize) -> Option<CoreReport> {
        self.lock().iter().find(|(core, _)| *core == index).map(|(_, report)| report.clone())
    }
}

impl Observer {
    pub(in crate::serve) fn new(
        remotes: Vec<rt::Remote>,
        stop: StopSignal,
        admission: Arc<Admission>,
        last: Arc<Last>,
    ) -> Observer {
        Observer { remotes, stop, admission, last }
    }

    /// Whether it serves, and has not been told to stop.
    pub(super) fn is_ready(&self) -> bool {
        self.stop.has_reached(Stage::Serving) && !self.stop.has_reached(Stage::Leaving)
    }

    /// Requests that wait for a script's place.
    pub(in crate::serve) fn scripts_queued(&self) -> usize {
        self.admission.queued()
    }

    /// What each core has counted. `None`: it did not answer in time.
    pub(in crate::serve) fn reports(&self, patience: Duration) -> Vec<Option<CoreReport>> {
        let asked = self.ask(patience, || start::with_worker(report));
        let report = |(index, asked)| match asked {
            Asked::Told(report) => Some(report),
            Asked::Stopped => self.last.of(index),
            Asked::Silent => None,
        };
        asked.into_iter().enumerate().map(report).collect()
    }

    /// The same, and what is only known while somebody watches.
    pub(in crate::serve) fn watch(&self, patience: Duration) -> Vec<Option<(CoreReport, Watched)>> {
        let both = |worker: &Worker| (report(worker), super::report::watched(worker));
        let asked = self.ask(patience, move || start::with_worker(both));
        let told = |(index, asked)| match asked {
            Asked::Told(both) => Some(both),
            Asked::Stopped => self.last.of(index).map(|report| (report, Watched::default())),
            Asked::Silent => None,
        };
        asked.into_iter().enumerate().map(told).collect()
    }

    /// The cores that do not answer.
    pub(super) fn silent(&self, patience: Duration) -> Vec<usize> {
        let asked = self.ask(patience, || Some(()));
        let silent = asked.iter().enumerate().filter(|(_, asked)| matches!(asked, Asked::Silent));
        silent.map(|(index, _)| index).collect()
    }

    /// Has every core run `work`, all at the same time.
    fn ask<T: Send + 'static>(
        &self,
        patience: Duration,
        work: impl Fn() -> Option<T> + Clone + Send + 'static,
    ) -> Vec<Asked<T>> {
        let until = Instant::now() + patience;
        let send = |remote: &rt::Remote| {
            let (sender, receiver) = mpsc::channel();
            let work = work.clone();
            // Nobody may be left who waits for it.
            remote.run(move || drop(sender.send(work()))).then_some(receiver)
        };
        let sent: Vec<_> = self.remotes.iter().map(send).collect();
        let answer = |receiver: Option<mpsc::Receiver<Option<T>>>| {
            let Some(receiver) = receiver else { return Asked::Stopped };
            match receiver.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Some(told)) => Asked::Told(told),
                // It was dropped unread, or the core is past serving.
                Ok(None) | Err(mpsc::RecvTimeoutError::Disconnected) => Asked::Stopped,
                Err(mpsc::RecvTimeoutError::Timeout) => Asked::Silent,
            }
        };
        sent.into_iter().map(answer).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_that_hangs_is_told_from_one_that_answers_and_one_that_has_ended() {
        let (remotes, remote) = mpsc::channel();
        let (go, told_to_go) = mpsc::channel::<()>();
        let core = std::thread::spawn(move || {
            let runtime = rt::Builder::new().direct_slots(1).build().unwrap();
            remotes.send(runtime.remote()).unwrap();
            // It hangs.
            told_to_go.recv().unwrap();
            runtime.block_on(async {
                while told_to_go.try_recv().is_err() {
                    rt::time::sleep(Duration::from_millis(1)).await;
                }
            });
        });
        let remote = remote.recv().unwrap();
        let stop = StopSignal::new(Stage::Serving);
        let observer = Observer::new(vec![remote], stop.clone(), Admission::new(), Arc::default());
        assert_eq!(observer.silent(Duration::from_millis(10)), [0]);
        assert!(observer.reports(Duration::from_millis(10))[0].is_none());
        go.send(()).unwrap();
        assert!(observer.silent(Duration::from_secs(60)).is_empty());
        go.send(()).unwrap();
        core.join().unwrap();
        assert!(observer.silent(Duration::from_secs(60)).is_empty());
        assert!(observer.is_ready());
        stop.raise(Stage::Leaving);
        assert!(!observer.is_ready());
    }
}
