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
}

struct Seat {
    state: State,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// A request is being read or answered, or the seat is free.
    Busy,
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
        Registry { stop, cut, seats, free, taken, owed, leaving }
    }

    pub(super) fn sit(&self) -> SeatGuard<'_> {
        let mut seats = self.seats.borrow_mut();
        let seat = self.free.borrow_mut().pop().unwrap_or_else(|| {
            seats.push(FREE);
            (seats.len() - 1) as u32
        });
        self.taken.set(self.taken.get() + 1);
        SeatGuard { registry: self, seat }
    }

    pub(super) fn len(&self) -> usize {
        self.taken.get()
    }

    /// A connection has come. When the descriptor table is filling up, the longest-idle others make room: better than to
    /// keep the newcomer waiting for somebody who has nothing to say.
    pub(super) fn make_room(&self) {
        if !rt::net::table_is_filling() {
            return;
        }
        let mut seats = self.seats.borrow_mut();
        let mut idle: Vec<(u64, usize)> = (seats.iter().enumerate())
            .filter_map(|(index, seat)| match seat.state {
                State::Idle { since_ms } => Some((since_ms, index)),
                State::Busy | State::Evicted => None,
            })
            .collect();
        let count = (idle.len() / 8).clamp(1, EVICTED_AT_ONCE_MAX).min(idle.len());
        if count == 0 {
            self.owed.set(self.owed.get() + 1);
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
    /// The connection waits for its next request.
    pub(super) fn idle(&self, since_ms: u64) {
        self.registry.seats.borrow_mut()[self.seat as usize].state = State::Idle { since_ms };
        let owed = self.registry.owed.get();
        if owed > 0 {
            self.registry.owed.set(owed - 1);
            self.registry.make_room();
        }
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
