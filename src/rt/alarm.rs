//! Moments to the nanosecond, for the few that the wheel's millisecond is too coarse for: a heap, soonest first.
//! Pure: time is an argument. Allocates only to grow.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::task::Waker;

/// An armed alarm: its place, and which tenant of that place it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AlarmKey {
    place: u32,
    generation: u32,
}

/// The alarms of a core.
#[derive(Default)]
pub(crate) struct Alarms {
    /// Removed ones stay until they come to the front.
    heap: BinaryHeap<Reverse<(u64, AlarmKey)>>,
    places: Vec<Place>,
    free: Vec<u32>,
}

struct Place {
    generation: u32,
    waker: Option<Waker>,
}

impl Alarms {
    /// Arms one for `at_ns` on the core's clock.
    pub(crate) fn insert(&mut self, at_ns: u64, waker: &Waker) -> AlarmKey {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { generation: 0, waker: None });
            (self.places.len() - 1) as u32
        });
        let slot = &mut self.places[place as usize];
        slot.waker = Some(waker.clone());
        let key = AlarmKey { place, generation: slot.generation };
        self.heap.push(Reverse((at_ns, key)));
        key
    }

    /// Who is to be woken, if it still waits.
    pub(crate) fn set_waker(&mut self, key: AlarmKey, waker: &Waker) {
        if let Some(place) = self.place(key) {
            place.waker.clone_from(&Some(waker.clone()));
        }
    }

    /// Forgets it; nothing if it has fired.
    pub(crate) fn remove(&mut self, key: AlarmKey) {
        if self.place(key).is_some() {
            self.release(key);
        }
        self.drop_removed();
    }

    /// The soonest, in nanoseconds on the core's clock.
    pub(crate) fn next(&self) -> Option<u64> {
        self.heap.peek().map(|soonest| soonest.0.0)
    }

    /// Hands out the waker of each one that is due.
    pub(crate) fn expire(&mut self, now_ns: u64, mut due: impl FnMut(Waker)) {
        while let Some(Reverse((at_ns, key))) = self.heap.peek().copied() {
            if at_ns > now_ns {
                break;
            }
            self.heap.pop();
            if self.place(key).is_some()
                && let Some(waker) = self.release(key)
            {
                due(waker);
            }
        }
        self.drop_removed();
    }

    /// So that `next` never names one that nobody waits for.
    fn drop_removed(&mut self) {
        while let Some(Reverse((_, key))) = self.heap.peek().copied() {
            if self.place(key).is_some() {
                break;
            }
            self.heap.pop();
        }
    }

    fn place(&mut self, key: AlarmKey) -> Option<&mut Place> {
        self.places.get_mut(key.place as usize).filter(|place| place.generation == key.generation)
    }

    fn release(&mut self, key: AlarmKey) -> Option<Waker> {
        let place = &mut self.places[key.place as usize];
        place.generation = place.generation.wrapping_add(1);
        self.free.push(key.place);
        place.waker.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fired(alarms: &mut Alarms, now_ns: u64) -> usize {
        let mut count = 0;
        alarms.expire(now_ns, |_| count += 1);
        count
    }

    #[test]
    fn fires_in_order_and_never_early() {
        let mut alarms = Alarms::default();
        for at_ns in [30, 10, 20] {
            alarms.insert(at_ns, Waker::noop());
        }
        assert_eq!(alarms.next(), Some(10));
        assert_eq!(fired(&mut alarms, 9), 0);
        assert_eq!(fired(&mut alarms, 20), 2);
        assert_eq!(alarms.next(), Some(30));
        assert_eq!(fired(&mut alarms, 30), 1);
        assert_eq!(alarms.next(), None);
    }

    #[test]
    fn a_removed_one_is_forgotten_and_its_place_is_used_again() {
        let mut alarms = Alarms::default();
        let first = alarms.insert(10, Waker::noop());
        let second = alarms.insert(20, Waker::noop());
        alarms.remove(first);
        assert_eq!(alarms.next(), Some(20));
        let third = alarms.insert(5, Waker::noop());
        assert_eq!(third.place, first.place);
        // A late removal by the earlier tenant's key hits nobody.
        alarms.remove(first);
        assert_eq!(alarms.next(), Some(5));
        alarms.remove(second);
        assert_eq!(fired(&mut alarms, 100), 1);
        assert_eq!(alarms.places.len(), 2);
    }
}
