//! The word to begin and to stop, from any thread to every core: "accept", then "finish what you have", then "cut it".

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// How far a server has come. It only ever goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Stage {
    /// Everything is ready, and nobody is accepted yet.
    Holding = 0,
    Serving = 1,
    /// Serves as before, and tells those who ask that it is about to stop.
    Leaving = 2,
    Draining = 3,
    Cutting = 4,
}

#[derive(Clone)]
pub(super) struct StopSignal(Arc<Inner>);

struct Inner {
    stage: AtomicU8,
    waiting: Mutex<Waiting>,
}

/// Those who wait, each at a place of its own for as long as it does.
#[derive(Default)]
struct Waiting {
    places: Vec<Option<(Stage, Waker)>>,
    free: Vec<usize>,
}

/// What [`StopSignal::reached`] returns. It leaves its place when it is dropped: a program's exchange waits for a stop that hardly
/// ever comes, and there are thousands of them a second.
pub(super) struct Reached<'s> {
    signal: &'s StopSignal,
    stage: Stage,
    /// Where it waits, and whom that wakes.
    waits: Option<(usize, Waker)>,
}

impl StopSignal {
    pub(super) fn new(first: Stage) -> StopSignal {
        StopSignal(Arc::new(Inner { stage: AtomicU8::new(first as u8), waiting: Mutex::default() }))
    }

    /// Moves on to a stage; it never goes back.
    pub(super) fn raise(&self, stage: Stage) {
        self.0.stage.fetch_max(stage as u8, Ordering::AcqRel);
        let mut waiting = self.waiting();
        let reached =
            waiting.places.iter_mut().filter_map(|place| place.take_if(|(wanted, _)| self.has_reached(*wanted)));
        let woken: Vec<_> = reached.collect();
        drop(waiting);
        woken.into_iter().for_each(|(_, waker)| waker.wake());
    }

    pub(super) fn has_reached(&self, stage: Stage) -> bool {
        self.0.stage.load(Ordering::Acquire) >= stage as u8
    }

    /// Waits for a stage.
    pub(super) fn reached(&self, stage: Stage) -> Reached<'_> {
        Reached { signal: self, stage, waits: None }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Future for Reached<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let (signal, stage, waker) = (self.signal, self.stage, context.waker());
        if signal.has_reached(stage) {
            return Poll::Ready(());
        }
        // Locked when it begins and when it ends, and not each time that its task is polled for something else.
        if !self.waits.as_ref().is_some_and(|(_, known)| known.will_wake(waker)) {
            let mut waiting = signal.waiting();
            let place = self.waits.take().map_or_else(|| waiting.take_place(), |(place, _)| place);
            waiting.places[place] = Some((stage, waker.clone()));
            self.waits = Some((place, waker.clone()));
        }
        // It may have come between the look and the entry.
        if signal.has_reached(stage) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Reached<'_> {
    fn drop(&mut self) {
        if let Some((place, _)) = self.waits {
            let mut waiting = self.signal.waiting();
            waiting.places[place] = None;
            waiting.free.push(place);
        }
    }
}

impl Waiting {
    fn take_place(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn poll(reached: &mut Reached<'_>, woken: &Arc<Woken>) -> Poll<()> {
        Pin::new(reached).poll(&mut Context::from_waker(&Waker::from(Arc::clone(woken))))
    }

    /// Each program that was not over at once left an entry behind, and every one looked through all of them at each turn.
    #[test]
    fn who_waited_for_a_stop_and_went_leaves_nothing() {
        let signal = StopSignal::new(Stage::Serving);
        for _ in 0..1_000 {
            let woken = Arc::<Woken>::default();
            let mut one = signal.reached(Stage::Cutting);
            let mut other = signal.reached(Stage::Cutting);
            assert!(poll(&mut one, &woken).is_pending() && poll(&mut other, &woken).is_pending());
            assert!(poll(&mut one, &Arc::default()).is_pending(), "by another task");
        }
        let waiting = signal.waiting();
        assert_eq!((waiting.places.len(), waiting.free.len()), (2, 2));
    }

    #[test]
    fn who_waits_is_woken_when_his_stage_comes() {
        let signal = StopSignal::new(Stage::Serving);
        let (early, late) = (Arc::<Woken>::default(), Arc::<Woken>::default());
        let (mut draining, mut cutting) = (signal.reached(Stage::Draining), signal.reached(Stage::Cutting));
        assert!(poll(&mut draining, &early).is_pending() && poll(&mut cutting, &late).is_pending());
        signal.raise(Stage::Draining);
        assert_eq!((early.0.load(Ordering::SeqCst), late.0.load(Ordering::SeqCst)), (1, 0));
        assert!(poll(&mut draining, &early).is_ready() && poll(&mut cutting, &late).is_pending());
        drop(draining);
        signal.raise(Stage::Cutting);
        assert_eq!((early.0.load(Ordering::SeqCst), late.0.load(Ordering::SeqCst)), (1, 1));
        assert!(poll(&mut cutting, &late).is_ready());
        assert!(poll(&mut signal.reached(Stage::Holding), &early).is_ready(), "long since");
    }
}
