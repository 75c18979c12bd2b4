//! The state of the world: time, what is going to happen, and a network in memory that keeps TCP's rules.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::task::Waker;

use super::faults::{Faults, Rng};
use super::programs::Ready;
use crate::rt::sys::sqe::Cqe;

/// Everything that the kernel and the clients share. Pure but for the wakers.
pub(super) struct State {
    pub(super) seed: u64,
    pub(super) faults: Faults,
    pub(super) rng: Rng,
    pub(super) now_ns: u64,
    pub(super) conns: Vec<Conn>,
    pub(super) listeners: Vec<Listener>,
    /// Connections that a listener holds for its accept.
    pub(super) backlog_max: usize,
    /// Files on which a parked operation may now get further.
    pub(super) touched: Vec<File>,
    /// A waker of the runtime's own was called: the core must be let run.
    pub(super) runtime_woken: bool,
    /// Things that only a bug does (a close of an empty slot), in words.
    pub(super) violations: Vec<String>,
    pub(super) trace: u64,
    /// Connections that the runtime has made and nobody has picked up.
    pub(super) dialled: VecDeque<usize>,
    /// Programs that wait for one.
    pub(super) operators: Vec<Waker>,
    events: BinaryHeap<Reverse<Event>>,
    event_count: u64,
    ready: Arc<Ready>,
}

/// What an operation works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum File {
    Listener(usize),
    Conn(usize),
}

pub(super) enum Happening {
    /// A segment reaches an end.
    Arrive(usize, Side),
    /// A client knocks.
    Knock(usize),
    /// The network breaks a connection.
    Break(usize),
    /// A parked operation may get further: a window has opened.
    Touch(File),
    Wake(Waker),
    Post(Cqe),
    /// A cancel that was submitted earlier is carried out now.
    Cancel(u64),
    /// A cancel that found its operation (by number) and takes effect now.
    CancelRequest(u64),
}

struct Event {
    at_ns: u64,
    count: u64,
    what: Happening,
}

impl Ord for Event {
    fn cmp(&self, other: &Event) -> std::cmp::Ordering {
        (self.at_ns, self.count).cmp(&(other.at_ns, other.count))
    }
}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Event) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Event) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Event {}

pub(super) struct Listener {
    /// The number of the real descriptor that stands for it.
    pub(super) token: RawFd,
    pub(super) backlog: VecDeque<usize>,
    pub(super) open: bool,
}

/// Whose end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Server,
    Client,
}

impl Side {
    fn other(self) -> Side {
        match self {
            Side::Server => Side::Client,
            Side::Client => Side::Server,
        }
    }
}

pub(super) struct Conn {
    pub(super) listener: usize,
    /// Of the server and of the client.
    ends: [End; 2],
    /// The direct slot and the operations that hold the server's end open.
    pub(super) server_refs: u32,
    /// The world broke it, not the server: a client must not complain.
    pub(super) excused: bool,
    /// Client programs that wait for a change.
    wakers: Vec<Waker>,
}

/// One end of a connection.
pub(super) struct End {
    /// On the way here, in order, with the time of arrival.
    flying: VecDeque<(u64, Segment)>,
    flying_bytes: usize,
    /// Arrived and not yet read.
    pub(super) unread: VecDeque<u8>,
    window: usize,
    /// The peer's end of output has arrived.
    pub(super) ended: bool,
    /// Reset: nothing goes in or out any more.
    pub(super) dead: bool,
    /// Reported once, by the next call on this end.
    pub(super) error: Option<i32>,
    /// Nobody reads here any more.
    pub(super) closed: bool,
    pub(super) fin_sent: bool,
}

impl std::fmt::Debug for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let flags = [
            (self.ended, "ended"),
            (self.dead, "dead"),
            (self.error.is_some(), "error"),
            (self.closed, "closed"),
            (self.fin_sent, "fin sent"),
        ];
        let flags: Vec<&str> = flags.iter().filter_map(|(is, word)| is.then_some(*word)).collect();
        let (flying, unread, window) = (self.flying_bytes, self.unread.len(), self.window);
        write!(f, "End({flying} bytes flying, {unread} unread, window {window}, {})", flags.join(", "))
    }
}

enum Segment {
    Bytes(Vec<u8>),
    Fin,
    Reset,
}

impl End {
    fn new(window: usize) -> End {
        End {
            flying: VecDeque::new(),
            flying_bytes: 0,
            unread: VecDeque::new(),
            window,
            ended: false,
            dead: false,
            error: None,
            closed: false,
            fin_sent: false,
        }
    }

    fn room(&self) -> usize {
        self.window.saturating_sub(self.flying_bytes + self.unread.len())
    }
}

impl Conn {
    pub(super) fn end(&self, side: Side) -> &End {
        &self.ends[side as usize]
    }

    pub(super) fn end_mut(&mut self, side: Side) -> &mut End {
        &mut self.ends[side as usize]
    }

    /// To be woken when anything changes.
    pub(super) fn wait(&mut self, waker: &Waker) {
        if !self.wakers.iter().any(|old| old.will_wake(waker)) {
            self.wakers.push(waker.clone());
        }
    }

    /// How much `side` may send now.
    pub(super) fn room_from(&self, side: Side) -> usize {
        self.end(side.other()).room()
    }
}

impl State {
    pub(super) fn new(seed: u64, faults: Faults, ready: Arc<Ready>) -> State {
        State {
            seed,
            rng: Rng::new(seed),
            faults,
            now_ns: 1_000_000_000,
            conns: Vec::new(),
            listeners: Vec::new(),
            backlog_max: 1,
            touched: Vec::new(),
            runtime_woken: false,
            violations: Vec::new(),
            trace: 0,
            dialled: VecDeque::new(),
            operators: Vec::new(),
            events: BinaryHeap::new(),
            event_count: 0,
            ready,
        }
    }

    pub(super) fn schedule(&mut self, delay_ns: u64, what: Happening) {
        self.schedule_at(self.now_ns + delay_ns, what);
    }

    /// Events of the same moment happen in the order in which they were scheduled.
    pub(super) fn schedule_at(&mut self, at_ns: u64, what: Happening) {
        self.event_count += 1;
        self.events.push(Reverse(Event { at_ns, count: self.event_count, what }));
    }

    pub(super) fn next_event_ns(&self) -> Option<u64> {
        self.events.peek().map(|event| event.0.at_ns)
    }

    pub(super) fn take_due(&mut self) -> Option<Happening> {
        if self.next_event_ns()? > self.now_ns {
            return None;
        }
        self.events.pop().map(|event| event.0.what)
    }

    /// Each connection that is not over, in words.
    pub(super) fn describe(&self) -> Vec<String> {
        let alive = self.conns.iter().enumerate().filter(|(_, conn)| conn.ends.iter().any(|end| !end.closed));
        alive.map(|(number, conn)| format!("conn {number}: {} holders, {:?}", conn.server_refs, conn.ends)).collect()
    }

    pub(super) fn fire(&mut self, waker: Waker) {
        let before = self.ready.wakes();
        waker.wake();
        // Not one of the client programs: then a task of the runtime.
        self.runtime_woken |= self.ready.wakes() == before;
    }

    pub(super) fn latency(&mut self) -> u64 {
        1 + self.rng.below(self.faults.latency_ns_max)
    }

    /// A client's new connection, on its way to the listener.
    pub(super) fn connect(&mut self, listener: usize) -> usize {
        let conn = self.unconnected();
        self.conns[conn].listener = listener;
        let latency = self.latency();
        self.schedule(latency, Happening::Knock(conn));
        if self.rng.chance(self.faults.resets_permille) {
            let when = self.rng.below(20 * self.faults.latency_ns_max);
            self.schedule(when, Happening::Break(conn));
        }
        conn
    }

    /// Both ends of a connection that is on its way to nobody.
    pub(super) fn unconnected(&mut self) -> usize {
        let windows = [(); 2].map(|()| self.rng.up_to(self.faults.window_bytes_max));
        let ends = windows.map(End::new);
        self.conns.push(Conn { listener: usize::MAX, ends, server_refs: 0, excused: false, wakers: Vec::new() });
        self.conns.len() - 1
    }

    /// The runtime connects: its end hears of it when a segment has gone there and back, the far end waits to be picked up.
    pub(super) fn dial(&mut self, conn: usize, user_data: u64) {
        let there_and_back = self.latency() + self.latency();
        self.schedule(there_and_back, Happening::Post(Cqe { user_data, result: 0, flags: 0 }));
        self.dialled.push_back(conn);
        for waker in std::mem::take(&mut self.operators) {
            self.fire(waker);
        }
    }

    pub(super) fn knock(&mut self, conn: usize) {
        /// When a client whose knock was dropped knocks again.
        const RETRY_NS: u64 = 3_000_000;
        let listener = self.conns[conn].listener;
        let Listener { backlog, open, .. } = &mut self.listeners[listener];
        if !*open {
            self.conns[conn].excused = true;
            self.reset(conn, Side::Server);
        } else if backlog.len() >= self.backlog_max {
            self.schedule(RETRY_NS, Happening::Knock(conn));
        } else {
            backlog.push_back(conn);
            self.touched.push(File::Listener(listener));
        }
    }

    /// Sends bytes that fit the window.
    pub(super) fn send(&mut self, conn: usize, from: Side, bytes: Vec<u8>) {
        debug_assert!(bytes.len() <= self.conns[conn].room_from(from));
        self.fly(conn, from.other(), Segment::Bytes(bytes));
    }

    /// Takes up to `most` unread bytes, and lets the peer know that there is room again.
    pub(super) fn take_unread(&mut self, conn: usize, side: Side, most: usize) -> Vec<u8> {
        let unread = &mut self.conns[conn].end_mut(side).unread;
        let taken = unread.drain(..most.min(unread.len())).collect();
        match side {
            Side::Server => self.wake_client(conn),
            Side::Client => {
                let latency = self.latency();
                self.schedule(latency, Happening::Touch(File::Conn(conn)));
            }
        }
        taken
    }

    pub(super) fn shutdown(&mut self, conn: usize, side: Side) {
        let end = self.conns[conn].end_mut(side);
        if !std::mem::replace(&mut end.fin_sent, true) && !end.dead {
            self.fly(conn, side.other(), Segment::Fin);
        }
    }

    /// close(2): an orderly end, unless bytes were left unread, which makes it a reset (RFC 1122, section 4.2.2.13).
    pub(super) fn close(&mut self, conn: usize, side: Side) {
        let end = self.conns[conn].end_mut(side);
        if std::mem::replace(&mut end.closed, true) {
            return;
        }
        if end.unread.is_empty() { self.shutdown(conn, side) } else { self.reset(conn, side) }
    }

    /// Ends one side without manners; the other hears of it.
    pub(super) fn reset(&mut self, conn: usize, side: Side) {
        let end = self.conns[conn].end_mut(side);
        end.closed = true;
        end.unread.clear();
        if !std::mem::replace(&mut end.dead, true) {
            self.fly(conn, side.other(), Segment::Reset);
        }
    }

    /// Both ends at once hear that the connection is broken.
    pub(super) fn break_off(&mut self, conn: usize) {
        self.conns[conn].excused = true;
        self.fly(conn, Side::Server, Segment::Reset);
        self.fly(conn, Side::Client, Segment::Reset);
    }

    fn fly(&mut self, conn: usize, to: Side, segment: Segment) {
        let latency = self.latency();
        let end = self.conns[conn].end_mut(to);
        let arrival = end.flying.back().map_or(0, |last| last.0).max(self.now_ns + latency);
        if let Segment::Bytes(bytes) = &segment {
            end.flying_bytes += bytes.len();
        }
        end.flying.push_back((arrival, segment));
        self.schedule_at(arrival, Happening::Arrive(conn, to));
    }

    pub(super) fn arrive(&mut self, conn: usize, side: Side) {
        let discard = side == Side::Client && self.faults.resets_discard_unread;
        let now_ns = self.now_ns;
        let end = self.conns[conn].end_mut(side);
        debug_assert!(end.flying.front().is_some_and(|segment| segment.0 <= now_ns), "each segment has one arrival");
        let Some((_, segment)) = end.flying.pop_front() else { return };
        match segment {
            Segment::Bytes(bytes) => {
                end.flying_bytes -= bytes.len();
                if end.closed {
                    self.reset(conn, side);
                } else if !end.dead {
                    end.unread.extend(bytes);
                }
            }
            Segment::Fin => end.ended = true,
            Segment::Reset if end.dead => {}
            Segment::Reset => {
                // After the peer's FIN it is a broken pipe (tcp_reset() in the kernel).
                end.error = Some(if end.ended { libc::EPIPE } else { libc::ECONNRESET });
                end.dead = true;
                if discard {
                    end.unread.clear();
                }
            }
        }
        match side {
            Side::Server => self.touched.push(File::Conn(conn)),
            Side::Client => self.wake_client(conn),
        }
    }

    fn wake_client(&mut self, conn: usize) {
        for waker in std::mem::take(&mut self.conns[conn].wakers) {
            self.fire(waker);
        }
    }
}
