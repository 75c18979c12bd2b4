//! The connections of a core, so that the idle ones can be told to go: when the descriptor table runs full, and when the
//! server stops.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::task::Waker;

use crate::rt;

use super::metrics::Cut;
use super::stop::{Stage, StopSignal};

/// Idle connections that are told to go for one newcomer, at most.
const EVICTED_AT_ONCE_MAX: usize = 32;

/// For so long a connection that has not asked for anything yet is not told to go: its request may be on the way. Beyond, it
/// is as idle as any: whoever connects and is silent does not keep others out for longer.
const NEWCOMER_MS_MIN: u64 = 1_000;

/// Every connection has a seat for as long as it lives.
pub(super) struct Registry {
    stop: StopSignal,
    cut: Arc<Cut>,
    seats: RefCell<Vec<Seat>>,
    free: RefCell<Vec<u32>>,
    taken: Cell<usize>,
    /// Newcomers for whom nobody was idle: the next ones to become idle make room for them.
    owed: Cell<usize>,
    leaving: RefCell<Option<Waker>>,
    /// Whether there is so little room that somebody has to go.
    is_filling: fn() -> bool,
}

struct Seat {
    state: State,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// A request is being read or answered, or the seat is free.
    Busy,
    /// Has just come.
    Newcomer {
        since_ms: u64,
    },
    Idle {
        since_ms: u64,
    },
    /// Was idle, and shall close, unless a request comes first.
    Evicted,
}

const FREE: Seat = Seat { state: State::Busy, waker: None };

/// A connection's seat; given back on drop.
pub(super) struct SeatGuard<'r> {
    registry: &'r Registry,
    seat: u32,
}

impl Registry {
    pub(super) fn new(stop: StopSignal, cut: Arc<Cut>) -> Registry {
        let (seats, free, taken, owed, leaving) = Default::default();
        Registry { stop, cut, seats, free, taken, owed, leaving, is_filling: rt::net::table_is_filling }
    }

    pub(super) fn sit(&self, now_ms: u64) -> SeatGuard<'_> {
        let mut seats = self.seats.borrow_mut();
        let seat = self.free.borrow_mut().pop().unwrap_or_else(|| {
            seats.push(FREE);
            (seats.len() - 1) as u32
        });
        seats[seat as usize].state = State::Newcomer { since_ms: now_ms };
        self.taken.set(self.taken.get() + 1);
        SeatGuard { registry: self, seat }
    }

    pub(super) fn len(&self) -> usize {
        self.taken.get()
    }

    /// A connection has come. When the descriptor table is filling up, the longest-idle others make room: better than to
    /// keep the newcomer waiting for somebody who has nothing to say.
    pub(super) fn make_room(&self, now_ms: u64) {
        if !(self.is_filling)() {
            return;
        }
        let mut seats = self.seats.borrow_mut();
        let mut idle: Vec<(u64, usize)> = (seats.iter().enumerate())
            .filter_map(|(index, seat)| match seat.state {
                State::Idle { since_ms } => Some((since_ms, index)),
                State::Newcomer { since_ms } if now_ms >= since_ms + NEWCOMER_MS_MIN => Some((since_ms, index)),
                State::Busy | State::Newcomer { .. } | State::Evicted => None,
            })
            .collect();
        let count = (idle.len() / 8).clamp(1, EVICTED_AT_ONCE_MAX).min(idle.len());
        if count == 0 {
            self.owed.set(self.owed.get() + 1);
            // Those that are silent must see by themselves when their time is over.
            let newcomers = seats.iter_mut().filter(|seat| matches!(seat.state, State::Newcomer { .. }));
            let woken: Vec<Waker> = newcomers.filter_map(|seat| seat.waker.take()).collect();
            drop(seats);
            woken.into_iter().for_each(Waker::wake);
            return;
        }
        idle.select_nth_unstable(count - 1);
        let woken: Vec<Waker> = idle[..count]
            .iter()
            .filter_map(|&(_, index)| {
                seats[index].state = State::Evicted;
                seats[index].waker.take()
            })
            .collect();
        drop(seats);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Has every idle connection look at what has changed.
    pub(super) fn wake_all(&self) {
        let woken: Vec<Waker> = self.seats.borrow_mut().iter_mut().filter_map(|seat| seat.waker.take()).collect();
        woken.into_iter().for_each(Waker::wake);
    }

    /// Waits until a connection or a script has left.
    pub(super) async fn left(&self) {
        let mut waited = false;
        std::future::poll_fn(|context| {
            if std::mem::replace(&mut waited, true) {
                return std::task::Poll::Ready(());
            }
            *self.leaving.borrow_mut() = Some(context.waker().clone());
            std::task::Poll::Pending
        })
        .await;
    }

    /// Something that `left` waits for has gone.
    pub(super) fn tell_left(&self) {
        let waker = self.leaving.borrow_mut().take();
        waker.into_iter().for_each(Waker::wake);
    }
}

impl SeatGuard<'_> {
    /// The connection waits for a request. If that is its first, and newcomers are owed room, the moment at which this is to be
    /// called again is returned: nobody else may come who would look. Where nobody is owed anything, it costs no timer.
    pub(super) fn idle(&self, now_ms: u64) -> Option<u64> {
        let owed = self.registry.owed.get();
        let mut seats = self.registry.seats.borrow_mut();
        let state = &mut seats[self.seat as usize].state;
        match *state {
            State::Newcomer { since_ms } if now_ms < since_ms + NEWCOMER_MS_MIN => {
                return (owed > 0).then_some(since_ms + NEWCOMER_MS_MIN);
            }
            State::Newcomer { since_ms } | State::Idle { since_ms } => *state = State::Idle { since_ms },
            State::Busy | State::Evicted => *state = State::Idle { since_ms: now_ms },
        }
        drop(seats);
        if owed > 0 {
            self.registry.owed.set(owed - 1);
            self.registry.make_room(now_ms);
        }
        None
    }

    /// It is a newcomer, and by now newcomers are owed room: [`idle`](Self::idle) has something else to say.
    pub(super) fn is_to_look_again(&self) -> bool {
        let state = self.registry.seats.borrow()[self.seat as usize].state;
        matches!(state, State::Newcomer { .. }) && self.registry.owed.get() > 0
    }

    /// Bytes have come. If it was to go, another has to, later.
    pub(super) fn busy(&self) {
        let seat = &mut self.registry.seats.borrow_mut()[self.seat as usize];
        if std::mem::replace(&mut seat.state, State::Busy) == State::Evicted {
            self.registry.owed.set(self.registry.owed.get() + 1);
        }
    }

    /// Whether it shall close, if it is idle; if not, `waker` hears of a change.
    pub(super) fn is_evicted(&self, waker: &Waker) -> bool {
        let seat = &mut self.registry.seats.borrow_mut()[self.seat as usize];
        if !seat.waker.as_ref().is_some_and(|old| old.will_wake(waker)) {
            seat.waker = Some(waker.clone());
        }
        seat.state == State::Evicted
    }
}

impl Drop for SeatGuard<'_> {
    fn drop(&mut self) {
        // Whoever is still there when the drain is over was not finished with.
        if self.registry.stop.has_reached(Stage::Cutting) {
            self.registry.cut.add(1, 0);
        }
        self.registry.seats.borrow_mut()[self.seat as usize] = FREE;
        self.registry.free.borrow_mut().push(self.seat);
        self.registry.taken.set(self.registry.taken.get() - 1);
        self.registry.tell_left();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Registry {
        let registry = Registry::new(StopSignal::new(Stage::Serving), Arc::default());
        Registry { is_filling: || true, ..registry }
    }

    fn is_told_to_go(seat: &SeatGuard<'_>) -> bool {
        seat.is_evicted(Waker::noop())
    }

    #[test]
    fn the_longest_idle_goes_and_no_newcomer() {
        let registry = full();
        let seats: Vec<_> = (0..4).map(|_| registry.sit(0)).collect();
        assert_eq!(seats[0].idle(10), None, "nobody is owed anything: no timer");
        for (seat, now_ms) in seats[1..].iter().zip([30, 20, 40]) {
            seat.busy();
            assert_eq!(seat.idle(now_ms), None);
        }
        registry.make_room(50);
        let told: Vec<bool> = seats.iter().map(is_told_to_go).collect();
        assert_eq!(told, [false, false, true, false]);
        // After a second without a request it is as idle as any, and the longest.
        registry.make_room(NEWCOMER_MS_MIN);
        assert!(is_told_to_go(&seats[0]));
    }

    /// Silent ones make room when their time is over, without that anybody else comes: nobody does, the table being full.
    #[test]
    fn who_comes_and_is_silent_goes_in_the_end() {
        let registry = full();
        let silent = registry.sit(0);
        assert_eq!(silent.idle(1), None);
        assert!(!silent.is_to_look_again());
        registry.make_room(5);
        assert!(silent.is_to_look_again());
        assert_eq!(silent.idle(6), Some(NEWCOMER_MS_MIN));
        let last = registry.sit(5);
        assert_eq!(last.idle(6), Some(5 + NEWCOMER_MS_MIN), "for whom nobody has gone");
        assert!(!is_told_to_go(&silent) && !is_told_to_go(&last), "both are new");
        assert_eq!(last.idle(5 + NEWCOMER_MS_MIN), None);
        assert!(is_told_to_go(&silent), "it was owed, and is the longest here");
        assert!(!is_told_to_go(&last));
        assert_eq!(registry.owed.get(), 0);
    }

    #[test]
    fn a_request_in_the_last_moment_is_answered_and_somebody_else_goes() {
        let registry = full();
        let seat = registry.sit(0);
        seat.busy();
        seat.idle(1);
        registry.make_room(2);
        assert!(is_told_to_go(&seat));
        seat.busy();
        assert!(!is_told_to_go(&seat));
        assert_eq!(registry.owed.get(), 1);
        assert_eq!(seat.idle(3), None);
        assert!(is_told_to_go(&seat), "when it is idle again");
    }
}
