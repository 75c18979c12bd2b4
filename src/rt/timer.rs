//! The timer wheel of a core: deadlines to the millisecond, insert and cancel in constant time, no allocation once grown.
//! Pure: time is an argument.
//!
//! Six levels of 64 places. Level 0 holds the next 64 ms by the millisecond, level 1 the next 4 s by 64 ms, and so on
//! to 2 years; a place of a higher level is spread over the lower ones when its time comes ("cascade").
//! Entries are nodes of doubly linked lists in one `Vec`.

use std::num::NonZeroU32;
use std::task::Waker;

const LEVELS: usize = 6;
const PLACES: usize = 64;
const BITS: u32 = 6;
const NONE: u32 = u32::MAX;

/// Milliseconds since the runtime's epoch.
pub(crate) type Tick = u64;

/// An armed timer. Its number is used again once it has fired or was cancelled; whoever holds it forgets it then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerKey(NonZeroU32);

impl TimerKey {
    fn new(index: u32) -> TimerKey {
        TimerKey(NonZeroU32::MIN.saturating_add(index))
    }

    fn index(self) -> u32 {
        self.0.get() - 1
    }
}

/// Invariant: every armed node is in the list `heads[level][place]` that its deadline maps to at `elapsed`, and
/// `occupied[level]` has the bit of each list that is not empty.
pub(crate) struct Wheel {
    elapsed: Tick,
    nodes: Vec<Node>,
    free: u32,
    heads: [[u32; PLACES]; LEVELS],
    occupied: [u64; LEVELS],
    armed: usize,
}

struct Node {
    deadline: Tick,
    waker: Option<Waker>,
    previous: u32,
    next: u32,
    /// Level and place, so that unlinking needs no arithmetic on time.
    home: u16,
    /// Set when it has fired and the owner has not yet looked.
    fired: bool,
}

impl Wheel {
    pub(crate) fn new(now: Tick) -> Wheel {
        Wheel {
            elapsed: now,
            nodes: Vec::new(),
            free: NONE,
            heads: [[NONE; PLACES]; LEVELS],
            occupied: [0; LEVELS],
            armed: 0,
        }
    }

    /// Arms a timer. A deadline that has passed fires at the next `expire`.
    pub(crate) fn insert(&mut self, deadline: Tick, waker: Waker) -> TimerKey {
        let deadline = deadline.max(self.elapsed + 1);
        let node = Node { deadline, waker: Some(waker), previous: NONE, next: NONE, home: 0, fired: false };
        let index = match self.free {
            NONE => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as u32
            }
            index => {
                self.free = self.nodes[index as usize].next;
                self.nodes[index as usize] = node;
                index
            }
        };
        self.link(index);
        self.armed += 1;
        TimerKey::new(index)
    }

    /// Forgets a timer, fired or not. The key is dead afterwards.
    pub(crate) fn remove(&mut self, key: TimerKey) {
        if !self.nodes[key.index() as usize].fired {
            self.unlink(key.index());
            self.armed -= 1;
        }
        let node = &mut self.nodes[key.index() as usize];
        node.waker = None;
        node.next = self.free;
        self.free = key.index();
    }

    /// Whether it has fired; if not, `waker` is the one to wake.
    pub(crate) fn poll(&mut self, key: TimerKey, waker: &Waker) -> bool {
        let node = &mut self.nodes[key.index() as usize];
        if node.fired {
            return true;
        }
        if !node.waker.as_ref().is_some_and(|old| old.will_wake(waker)) {
            node.waker = Some(waker.clone());
        }
        false
    }

    /// When `expire` next has something to do: a deadline, or a cascade that comes before one. `None`: nothing is armed.
    pub(crate) fn next(&self) -> Option<Tick> {
        (0..LEVELS).filter_map(|level| self.next_of(level)).min()
    }

    /// Fires everything up to and including `now`; each waker is handed to `wake`.
    pub(crate) fn expire(&mut self, now: Tick, mut wake: impl FnMut(Waker)) {
        while let Some(tick) = self.next().filter(|tick| *tick <= now) {
            self.elapsed = tick;
            for level in (0..LEVELS).rev() {
                let place = place_of(tick, level);
                // A higher level's place is due only when all lower bits of the time are zero.
                if tick.trailing_zeros() < BITS * level as u32 || self.occupied[level] & (1 << place) == 0 {
                    continue;
                }
                self.empty_place(level, place, &mut wake);
            }
        }
        self.elapsed = self.elapsed.max(now);
    }

    /// How many timers are armed.
    pub(crate) fn armed(&self) -> usize {
        self.armed
    }

    fn empty_place(&mut self, level: usize, place: usize, wake: &mut impl FnMut(Waker)) {
        let mut index = std::mem::replace(&mut self.heads[level][place], NONE);
        self.occupied[level] &= !(1 << place);
        while index != NONE {
            let node = &mut self.nodes[index as usize];
            let next = node.next;
            if node.deadline <= self.elapsed {
                node.fired = true;
                self.armed -= 1;
                node.waker.take().map(&mut *wake);
            } else {
                self.link(index);
            }
            index = next;
        }
    }

    /// The next tick at which a place of this level is due.
    fn next_of(&self, level: usize) -> Option<Tick> {
        if self.occupied[level] == 0 {
            return None;
        }
        let shift = BITS * level as u32;
        let here = place_of(self.elapsed, level) as u32;
        // Rotate so that the place after the current one is bit 0: the distance to the next occupied one.
        let ahead = self.occupied[level].rotate_right((here + 1) % PLACES as u32).trailing_zeros() + 1;
        Some(((self.elapsed >> shift) + u64::from(ahead)) << shift)
    }

    fn link(&mut self, index: u32) {
        let deadline = self.nodes[index as usize].deadline;
        let level = level_of(self.elapsed, deadline);
        // Beyond the last level: parked in its farthest place, and spread again from there.
        let reach = self.elapsed + (1 << (BITS * LEVELS as u32)) - (1 << (BITS * (LEVELS as u32 - 1)));
        let place = place_of(deadline.min(reach), level);
        let head = std::mem::replace(&mut self.heads[level][place], index);
        self.occupied[level] |= 1 << place;
        let node = &mut self.nodes[index as usize];
        node.previous = NONE;
        node.next = head;
        node.home = (level * PLACES + place) as u16;
        if head != NONE {
            self.nodes[head as usize].previous = index;
        }
    }

    fn unlink(&mut self, index: u32) {
        let Node { previous, next, home, .. } = self.nodes[index as usize];
        if next != NONE {
            self.nodes[next as usize].previous = previous;
        }
        if previous != NONE {
            self.nodes[previous as usize].next = next;
            return;
        }
        let (level, place) = (usize::from(home) / PLACES, usize::from(home) % PLACES);
        self.heads[level][place] = next;
        if next == NONE {
            self.occupied[level] &= !(1 << place);
        }
    }
}

/// The level whose places are just fine enough: by the highest bit in which deadline and now differ.
fn level_of(elapsed: Tick, deadline: Tick) -> usize {
    let differing = (elapsed ^ deadline) | 1;
    (((63 - differing.leading_zeros()) / BITS) as usize).min(LEVELS - 1)
}

fn place_of(tick: Tick, level: usize) -> usize {
    ((tick >> (BITS * level as u32)) % PLACES as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Count(AtomicU64);
    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    proptest! {
        /// Each timer fires at the first `expire` at or after its deadline, and never before; a removed one never does.
        #[test]
        fn fires_on_time(
            start in 0u64..1 << 40,
            timers in prop::collection::vec((1u64..1 << 38, any::<bool>()), 1..60),
            steps in prop::collection::vec(0u64..1 << 33, 1..60),
        ) {
            let mut wheel = Wheel::new(start);
            let armed: Vec<_> = timers.iter().map(|&(delay, kept)| {
                let count = Arc::new(Count(AtomicU64::new(0)));
                let key = wheel.insert(start + delay, Waker::from(Arc::clone(&count)));
                (start + delay, kept, key, count)
            }).collect();
            for (_, kept, key, _) in &armed {
                if !kept { wheel.remove(*key); }
            }
            let mut now = start;
            for step in steps {
                now += step;
                wheel.expire(now, |waker| waker.wake());
                for (deadline, kept, _, count) in &armed {
                    let due = u64::from(*kept && *deadline <= now);
                    prop_assert_eq!(count.0.load(Ordering::Relaxed), due, "deadline {} at {}", deadline, now);
                }
                let earliest = armed.iter().filter(|(at, kept, ..)| *kept && *at > now).map(|(at, ..)| *at).min();
                prop_assert_eq!(wheel.next().is_some(), earliest.is_some());
                prop_assert!(wheel.next().is_none_or(|next| next <= earliest.unwrap()));
            }
        }
    }

    #[test]
    fn memory_is_used_again() {
        let mut wheel = Wheel::new(0);
        for round in 0..1000 {
            let keys: Vec<_> = (0..8).map(|n| wheel.insert(round + n * 100, Waker::noop().clone())).collect();
            wheel.expire(round + 1, |_| ());
            keys.into_iter().for_each(|key| wheel.remove(key));
        }
        assert_eq!((wheel.nodes.len(), wheel.armed()), (8, 0));
    }
}
