//! How many scripts run at once, over all cores: a cap in all and one for each mount, bounded queues in order of arrival,
//! and a deadline in them. A lock, but only scripts take it, and a script costs a thousand times as much.
//!
//! One slow mount must not starve another. So a part of all places is kept for each mount ([`Shares`]), and a mount may
//! take more than its part only from what the others are not kept. The places of the queue are divided in the same way,
//! and a place that becomes free goes to the mounts in turn.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::rt::time;

pub(in crate::serve) struct Admission(Mutex<State>);

/// How so many places are divided among the mounts.
#[derive(Default)]
struct Shares {
    places: usize,
    /// For each mount: what is kept for it, and what it may have at most.
    mounts: Vec<Share>,
}

#[derive(Clone, Copy)]
struct Share {
    kept: usize,
    most: usize,
}

#[derive(Default)]
struct State {
    running_shares: Shares,
    queued_shares: Shares,
    /// What each number stands for: the names of a site, and the prefix of a mount there. A number is never given to another.
    known: Vec<(Vec<String>, String)>,
    /// Per mount.
    running: Vec<usize>,
    queues: Vec<VecDeque<Waiter>>,
    /// The mount that is asked first when a place is free.
    turn: usize,
    next: u64,
}

struct Waiter {
    number: u64,
    granted: bool,
    waker: Waker,
}

/// The right to run a script of a mount; given back on drop.
pub(super) struct Permit {
    admission: Arc<Admission>,
    mount: usize,
}

/// Too many scripts run, and too many requests wait, or this one has waited too long.
#[derive(Debug)]
pub(super) struct Full;

/// What a mount may have at most; `None`: whatever is there.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::serve) struct Caps {
    pub(in crate::serve) running_max: Option<usize>,
    pub(in crate::serve) queued_max: Option<usize>,
}

impl Admission {
    /// With places for nobody, until they are [shared](Self::share).
    pub(in crate::serve) fn new() -> Arc<Admission> {
        Arc::new(Admission(Mutex::default()))
    }

    /// The number of a mount: the same for as long as the server runs, whatever is configured meanwhile.
    pub(in crate::serve) fn number(&self, names: &[String], prefix: &str) -> usize {
        let mut state = self.state();
        if let Some(number) = state.known.iter().position(|known| known.0 == names && known.1 == prefix) {
            return number;
        }
        state.known.push((names.to_vec(), prefix.to_owned()));
        state.running.push(0);
        state.queues.push(VecDeque::new());
        let (running, queued) = (state.running_shares.places, state.queued_shares.places);
        state.running_shares.mounts.push(Share { kept: 0, most: running });
        state.queued_shares.mounts.push(Share { kept: 0, most: queued });
        state.known.len() - 1
    }

    /// From now on there are so many places, and these mounts share them, by number. A mount that is not among them has nothing
    /// kept for it; what runs and waits there still may.
    pub(in crate::serve) fn share(&self, running_max: usize, queued_max: usize, mounts: &[(usize, Caps)]) {
        let mut state = self.state();
        let (count, numbers) = (state.known.len(), mounts.iter().map(|(number, _)| *number));
        let running = mounts.iter().map(|(_, caps)| caps.running_max.map(|max| max.max(1)));
        state.running_shares = Shares::new(running_max.max(1), running).spread(numbers.clone(), count);
        let queued = mounts.iter().map(|(_, caps)| caps.queued_max);
        state.queued_shares = Shares::new(queued_max, queued).spread(numbers, count);
        let granted: Vec<Waker> = std::iter::from_fn(|| state.grant()).collect();
        drop(state);
        granted.into_iter().for_each(Waker::wake);
    }

    /// Requests that wait, for scripts of all mounts.
    pub(in crate::serve) fn queued(&self) -> usize {
        self.state().queues.iter().flatten().filter(|waiter| !waiter.granted).count()
    }

    /// Waits for a place for a script of a mount.
    pub(super) async fn acquire(self: &Arc<Admission>, mount: usize, wait: Duration) -> Result<Permit, Full> {
        let permit = || Permit { admission: Arc::clone(self), mount };
        let Some(place) = self.enter(mount)? else { return Ok(permit()) };
        let granted = poll_fn(|context| self.poll_granted(mount, place.number, context.waker()));
        match time::timeout(wait, granted).await {
            Ok(()) => {
                std::mem::forget(place);
                Ok(permit())
            }
            Err(time::Elapsed) => Err(Full),
        }
    }

    /// A place to run, or one in the queue.
    fn enter(self: &Arc<Admission>, mount: usize) -> Result<Option<Place<'_>>, Full> {
        let mut state = self.state();
        // Whoever came before and may run now has been granted it already.
        if state.running_shares.allow(&state.running, mount) {
            state.running[mount] += 1;
            return Ok(None);
        }
        let queued: Vec<usize> = state.queues.iter().map(VecDeque::len).collect();
        if !state.queued_shares.allow(&queued, mount) {
            return Err(Full);
        }
        let number = state.next;
        state.next += 1;
        state.queues[mount].push_back(Waiter { number, granted: false, waker: Waker::noop().clone() });
        Ok(Some(Place { admission: self, mount, number }))
    }

    fn poll_granted(&self, mount: usize, number: u64, waker: &Waker) -> Poll<()> {
        let mut state = self.state();
        let queue = &mut state.queues[mount];
        let Some(index) = queue.iter().position(|waiter| waiter.number == number) else { return Poll::Ready(()) };
        if queue[index].granted {
            queue.remove(index);
            return Poll::Ready(());
        }
        queue[index].waker = waker.clone();
        Poll::Pending
    }

    /// A place of a mount has become free: the first in some queue that may have it has it, or nobody.
    fn release(&self, mount: usize) {
        let mut state = self.state();
        state.running[mount] -= 1;
        let granted = state.grant();
        drop(state);
        granted.into_iter().for_each(Waker::wake);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Gives a place that is free, if one is, to the first in the queue of a mount that may have it.
    fn grant(&mut self) -> Option<Waker> {
        let mounts = self.queues.len();
        for mount in (0..mounts).map(|offset| (self.turn + offset) % mounts) {
            if !self.running_shares.allow(&self.running, mount) {
                continue;
            }
            let Some(waiter) = self.queues[mount].iter_mut().find(|waiter| !waiter.granted) else { continue };
            waiter.granted = true;
            self.running[mount] += 1;
            self.turn = (mount + 1) % mounts;
            return Some(waiter.waker.clone());
        }
        None
    }
}

impl Shares {
    /// A quarter of the places is kept for the others of each mount, in equal parts, and one for each at the least: so the
    /// parts of all together are at most half of the places, or one for each. With fewer places than mounts nothing is kept.
    fn new(places: usize, caps: impl ExactSizeIterator<Item = Option<usize>>) -> Shares {
        let mounts = caps.len();
        let kept = match mounts {
            0 | 1 => 0,
            _ if places < mounts => 0,
            _ => (places / 4 / (mounts - 1)).max(1),
        };
        let share = |cap: Option<usize>| Share { kept: kept.min(cap.unwrap_or(places)), most: cap.unwrap_or(places) };
        Shares { places, mounts: caps.map(share).collect() }
    }

    /// By the numbers of the mounts, of which there are so many in all.
    fn spread(self, numbers: impl Iterator<Item = usize>, count: usize) -> Shares {
        let mut mounts = vec![Share { kept: 0, most: self.places }; count];
        numbers.zip(self.mounts).for_each(|(number, share)| mounts[number] = share);
        Shares { places: self.places, mounts }
    }

    /// Whether one more may be taken for a mount.
    fn allow(&self, taken: &[usize], mount: usize) -> bool {
        let kept_for = |(other, share): (usize, &Share)| match other == mount {
            true => taken[other],
            false => taken[other].max(share.kept),
        };
        let spoken_for: usize = self.mounts.iter().enumerate().map(kept_for).sum();
        taken[mount] < self.mounts[mount].most && spoken_for < self.places
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.release(self.mount);
    }
}

/// A place in the queue; dropped, it is left, and what was granted meanwhile goes to the next.
struct Place<'a> {
    admission: &'a Admission,
    mount: usize,
    number: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.admission.state();
        let queue = &mut state.queues[self.mount];
        let Some(index) = queue.iter().position(|waiter| waiter.number == self.number) else { return };
        let granted = queue.remove(index).is_some_and(|waiter| waiter.granted);
        drop(state);
        if granted {
            self.admission.release(self.mount);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each mount can take when they come one after the other, each as much as it gets.
    fn taken(places: usize, caps: &[Option<usize>], order: &[usize]) -> Vec<usize> {
        let shares = Shares::new(places, caps.iter().copied());
        let mut taken = vec![0; caps.len()];
        for &mount in order {
            while shares.allow(&taken, mount) {
                taken[mount] += 1;
            }
        }
        taken
    }

    #[test]
    fn a_part_is_kept_for_the_others() {
        let any = [None; 3];
        assert_eq!(taken(64, &any[..1], &[0]), [64], "alone it may have all");
        assert_eq!(taken(64, &any[..2], &[0, 1]), [48, 16]);
        assert_eq!(taken(64, &any[..2], &[1, 0]), [16, 48]);
        assert_eq!(taken(64, &any, &[0, 1, 2]), [48, 8, 8]);
        assert_eq!(taken(4, &any[..2], &[0, 1]), [3, 1]);
        assert_eq!(taken(2, &any[..2], &[0, 1]), [1, 1]);
        assert_eq!(taken(3, &any, &[0, 1, 2]), [1, 1, 1]);
        assert_eq!(taken(1, &any[..2], &[0, 1]), [1, 0], "one place cannot be shared: they take turns");
        assert_eq!(taken(64, &[Some(4), None], &[0, 1]), [4, 60], "a cap holds, and the rest is the others'");
        assert_eq!(taken(64, &[Some(4), None], &[1, 0]), [4, 60]);
        assert_eq!(taken(0, &any[..2], &[0, 1]), [0, 0], "no queue at all");
    }

    proptest::proptest! {
        /// Whoever comes first, the places are never more than there are, and each mount gets at least its part.
        #[test]
        fn nobody_is_starved(
            places in 0..200_usize,
            caps in proptest::collection::vec(proptest::option::of(1..50_usize), 1..6),
            seed in 0..6_usize,
        ) {
            let order: Vec<usize> = (0..caps.len()).map(|at| (at + seed) % caps.len()).collect();
            let shares = Shares::new(places, caps.iter().copied());
            let got = taken(places, &caps, &order);
            assert!(got.iter().sum::<usize>() <= places);
            for (got, share) in got.iter().zip(&shares.mounts) {
                assert!(*got >= share.kept && *got <= share.most, "{got}");
            }
        }
    }

    fn of_two_mounts(running_max: usize) -> Arc<Admission> {
        let admission = Admission::new();
        let numbers = ["/a", "/b"].map(|prefix| (admission.number(&[], prefix), Caps::default()));
        admission.share(running_max, 8, &numbers);
        admission
    }

    #[test]
    fn places_may_become_more_or_fewer_while_they_are_taken() {
        let admission = of_two_mounts(1);
        assert_eq!(admission.number(&[], "/b"), 1, "a number is for good");
        assert!(admission.enter(0).unwrap().is_none(), "it runs");
        let waiting = admission.enter(1).unwrap().unwrap();
        let granted = || admission.poll_granted(1, waiting.number, Waker::noop()).is_ready();
        // The mount of the one that waits is gone by now; it was promised a turn all the same.
        let (first, third) = (admission.number(&[], "/a"), admission.number(&[], "/c"));
        let mounts = [(first, Caps::default()), (third, Caps::default())];
        admission.share(1, 8, &mounts);
        assert!(!granted(), "one place, and it is taken");
        admission.share(3, 8, &mounts);
        assert!(granted(), "there is one more, and one is kept for the newcomer");
        admission.share(1, 0, &mounts);
        assert!(admission.enter(third).is_err(), "there are fewer than run, and no queue");
        admission.release(0);
        admission.release(1);
        assert!(admission.enter(third).unwrap().is_none());
        std::mem::forget(waiting);
    }

    #[test]
    fn a_place_that_is_given_back_goes_to_the_mounts_in_turn() {
        let admission = of_two_mounts(1);
        let first = admission.enter(0).unwrap();
        assert!(first.is_none(), "it runs");
        let waiting: Vec<Place<'_>> = [0, 0, 1, 1].map(|mount| admission.enter(mount).unwrap().unwrap()).into();
        let mut ran = Vec::new();
        let mut runs = 0;
        for _ in 0..4 {
            admission.release(runs);
            let granted = waiting.iter().find(|place| {
                !ran.contains(&place.number)
                    && admission.poll_granted(place.mount, place.number, Waker::noop()).is_ready()
            });
            let granted = granted.expect("somebody has it");
            ran.push(granted.number);
            runs = granted.mount;
        }
        assert_eq!(ran, [0, 2, 1, 3], "by turns, each mount in the order of arrival");
    }
}
