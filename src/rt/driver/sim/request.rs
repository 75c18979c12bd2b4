//! One operation on a simulated socket: how far it gets, and what it reports.

use std::rc::Rc;

use super::net::{File, Happening, Side, State};
use crate::rt::sys::buf_ring::BufRing;
use crate::rt::sys::lent::Lent;
use crate::rt::sys::sqe::{
    ACCEPT_MULTISHOT, BUFFER_SELECT, CQE_BUFFER, CQE_MORE, CQE_NOTIF, CQE_SKIP_SUCCESS, Cqe, NOTIF_COPIED,
    POLL_ADD_MULTI, RECV_MULTISHOT, op,
};

/// What operations use up: the buffers and the descriptor table.
pub(super) struct Kernel {
    pub(super) pool: Rc<BufRing>,
    /// The next entry of the pool's ring.
    pub(super) head: u16,
    /// The connection in each slot of the direct table.
    pub(super) slots: Vec<Option<usize>>,
}

pub(super) struct Request {
    pub(super) number: u64,
    pub(super) file: File,
    lent: Lent,
    /// Bytes that a multishot receive may still take; `None` for any number.
    bytes_left: Option<usize>,
    /// What a multishot poll has reported last.
    reported: i32,
    /// When its latest completion is posted: the next one must not be earlier.
    posted_ns: u64,
    /// What a send that waits for all has sent so far.
    sent: usize,
}

/// How far an operation got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It waits for its file to change.
    Parked,
    /// Its last completion is on the way.
    Done,
}

/// What an attempt has to report.
enum Attempt {
    /// Nothing can be done now.
    Park,
    /// The last result.
    Last(i32),
    /// The end of input, in a buffer that has nothing in it.
    EndIn(u16),
    /// A result of a multishot that goes on, unless the kernel has a reason not to; with the buffer it is in.
    Some(i32, Option<u16>),
    /// The last completion, posted without delay; and whether everything was done.
    AtOnce(i32, bool),
}

impl Request {
    pub(super) fn new(number: u64, lent: Lent, file: File) -> Request {
        let sqe = lent.sqe();
        let limited = sqe.opcode == op::RECV && sqe.ioprio & RECV_MULTISHOT != 0 && sqe.file_index > 0;
        let bytes_left = limited.then_some(sqe.file_index as usize);
        Request { number, file, lent, bytes_left, reported: 0, posted_ns: 0, sent: 0 }
    }

    pub(super) fn user_data(&self) -> u64 {
        self.lent.sqe().user_data
    }

    pub(super) fn is_accept(&self) -> bool {
        self.lent.sqe().opcode == op::ACCEPT
    }

    pub(super) fn describe(&self) -> String {
        let sqe = self.lent.sqe();
        format!("operation {} on {:?}, user_data {:#x}", sqe.opcode, self.file, sqe.user_data)
    }

    /// The first attempt.
    pub(super) fn start(&mut self, kernel: &mut Kernel, state: &mut State) -> Step {
        if self.bytes_left.is_some() && state.faults.refuses_recv_limits {
            self.complete(state, -libc::EINVAL, 0);
            return Step::Done;
        }
        // A receive picks its buffer before it looks for data, so an empty pool ends it even when there is none.
        if self.lent.sqe().flags & BUFFER_SELECT != 0 && !kernel.pool.has_at(kernel.head) {
            self.complete(state, -libc::ENOBUFS, 0);
            return Step::Done;
        }
        self.run(kernel, state)
    }

    /// Goes as far as it can.
    pub(super) fn run(&mut self, kernel: &mut Kernel, state: &mut State) -> Step {
        loop {
            match self.attempt(kernel, state) {
                Attempt::Park => return Step::Parked,
                Attempt::Last(result) if result >= 0 && self.lent.sqe().opcode == op::SEND_ZC => {
                    self.complete(state, result, CQE_MORE);
                    let copied = if state.rng.chance(500) { NOTIF_COPIED as i32 } else { 0 };
                    self.complete(state, copied, CQE_NOTIF);
                    return Step::Done;
                }
                Attempt::Last(result) => {
                    self.complete(state, result, 0);
                    return Step::Done;
                }
                Attempt::AtOnce(result, whole) => {
                    // Seen by the enter that submitted it, or, with CQE_SKIP_SUCCESS, not at all.
                    if !whole || self.lent.sqe().flags & CQE_SKIP_SUCCESS == 0 {
                        let cqe = Cqe { user_data: self.user_data(), result, flags: 0 };
                        state.schedule(0, Happening::Post(cqe));
                    }
                    return Step::Done;
                }
                Attempt::EndIn(bid) => {
                    self.complete(state, 0, buffer_flags(bid));
                    return Step::Done;
                }
                Attempt::Some(result, buffer) => {
                    let buffer = buffer.map_or(0, buffer_flags);
                    let full = self.bytes_left == Some(0);
                    let more =
                        self.is_multishot() && !full && !state.rng.chance(state.faults.multishots_ended_permille);
                    self.complete(state, result, buffer | if more { CQE_MORE } else { 0 });
                    if !more {
                        return Step::Done;
                    }
                }
            }
        }
    }

    /// Posts a completion, now or later, but never before an earlier one of this operation.
    pub(super) fn complete(&mut self, state: &mut State, result: i32, flags: u32) {
        self.posted_ns = self.posted_ns.max(state.now_ns + state.completion_delay());
        let cqe = Cqe { user_data: self.user_data(), result, flags };
        state.schedule_at(self.posted_ns, Happening::Post(cqe));
    }

    fn is_multishot(&self) -> bool {
        let sqe = self.lent.sqe();
        match sqe.opcode {
            op::ACCEPT => sqe.ioprio & ACCEPT_MULTISHOT != 0,
            op::RECV => sqe.ioprio & RECV_MULTISHOT != 0,
            op::POLL_ADD => sqe.len & POLL_ADD_MULTI != 0,
            _ => false,
        }
    }

    fn attempt(&mut self, kernel: &mut Kernel, state: &mut State) -> Attempt {
        match (self.lent.sqe().opcode, self.file) {
            (op::ACCEPT, File::Listener(listener)) => self.accept(kernel, state, listener),
            (op::RECV, File::Conn(conn)) => self.recv(kernel, state, conn),
            (op::SEND | op::SENDMSG | op::SEND_ZC, File::Conn(conn)) => self.send(state, conn),
            (op::POLL_ADD, File::Conn(conn)) => self.poll(state, conn),
            _ => Attempt::Last(-libc::EOPNOTSUPP),
        }
    }

    fn accept(&self, kernel: &mut Kernel, state: &mut State, listener: usize) -> Attempt {
        if state.listeners[listener].backlog.is_empty() {
            return Attempt::Park;
        }
        if self.ends_unasked(state) {
            return Attempt::Last(-libc::ECANCELED);
        }
        let Some(conn) = state.listeners[listener].backlog.pop_front() else { return Attempt::Park };
        let Some(slot) = kernel.slots.iter().position(Option::is_none) else {
            // As the kernel does it: the connection is off the backlog by now, and is destroyed.
            state.conns[conn].excused = true;
            state.reset(conn, Side::Server);
            return Attempt::Last(-libc::ENFILE);
        };
        kernel.slots[slot] = Some(conn);
        state.conns[conn].server_refs += 1;
        Attempt::Some(slot as i32, None)
    }

    fn recv(&mut self, kernel: &mut Kernel, state: &mut State, conn: usize) -> Attempt {
        let end = state.conns[conn].end_mut(Side::Server);
        if end.unread.is_empty() {
            return match end.error.take() {
                Some(errno) => Attempt::Last(-errno),
                None if end.ended || end.dead => self.end_of_input(kernel, state),
                None => Attempt::Park,
            };
        }
        if self.ends_unasked(state) {
            return Attempt::Last(-libc::ECANCELED);
        }
        let there = state.conns[conn].end(Side::Server).unread.len();
        let short = state.rng.chance(state.faults.short_reads_permille);
        let most = if short { state.rng.up_to(there) } else { there };
        if self.lent.sqe().flags & BUFFER_SELECT == 0 {
            let room = self.lent.bytes_mut();
            let taken = state.take_unread(conn, Side::Server, most.min(room.len()));
            room[..taken.len()].copy_from_slice(&taken);
            return Attempt::Last(taken.len() as i32);
        }
        let unread = &mut state.conns[conn].end_mut(Side::Server).unread;
        let data = &unread.make_contiguous()[..most.min(self.bytes_left.unwrap_or(most))];
        let Some((bid, count)) = kernel.pool.fill(&mut kernel.head, data) else {
            return Attempt::Last(-libc::ENOBUFS);
        };
        self.bytes_left = self.bytes_left.map(|left| left - count);
        state.take_unread(conn, Side::Server, count);
        Attempt::Some(count as i32, Some(bid))
    }

    fn end_of_input(&self, kernel: &mut Kernel, state: &mut State) -> Attempt {
        let selects = self.lent.sqe().flags & BUFFER_SELECT != 0;
        match selects && state.rng.chance(state.faults.ends_with_buffer_permille) {
            true => kernel.pool.fill(&mut kernel.head, &[]).map_or(Attempt::Last(0), |(bid, _)| Attempt::EndIn(bid)),
            false => Attempt::Last(0),
        }
    }

    fn send(&mut self, state: &mut State, conn: usize) -> Attempt {
        let sqe = self.lent.sqe();
        let end = state.conns[conn].end_mut(Side::Server);
        if end.dead {
            let error = -end.error.take().unwrap_or(libc::EPIPE);
            let waits = sqe.op_flags & libc::MSG_DONTWAIT as u32 == 0;
            return if waits { Attempt::Last(error) } else { Attempt::AtOnce(error, false) };
        }
        let parts = if sqe.opcode == op::SENDMSG { self.lent.message() } else { vec![self.lent.bytes()] };
        // With MSG_WAITALL the kernel itself sends what did not fit, when it does.
        let waits_for_all = sqe.op_flags & libc::MSG_WAITALL as u32 != 0;
        let len: usize = parts.iter().map(|part| part.len()).sum::<usize>() - self.sent;
        let room = state.conns[conn].room_from(Side::Server).min(len);
        if sqe.op_flags & libc::MSG_DONTWAIT as u32 != 0 {
            let short = state.rng.chance(state.faults.short_sends_permille);
            let count = if short { state.rng.below(room as u64 + 1) as usize } else { room };
            let bytes = parts.into_iter().flatten().copied().take(count).collect();
            if count > 0 {
                state.send(conn, Side::Server, bytes);
            }
            return Attempt::AtOnce(if count == 0 && len > 0 { -libc::EAGAIN } else { count as i32 }, count == len);
        }
        if room == 0 {
            return if len == 0 { Attempt::Last(self.sent as i32) } else { Attempt::Park };
        }
        let short = !waits_for_all && state.rng.chance(state.faults.short_sends_permille);
        let count = if short { state.rng.up_to(room) } else { room };
        let bytes = parts.into_iter().flatten().copied().skip(self.sent).take(count).collect();
        state.send(conn, Side::Server, bytes);
        if waits_for_all {
            self.sent += count;
            return if count < len { Attempt::Park } else { Attempt::Last(self.sent as i32) };
        }
        Attempt::Last(count as i32)
    }

    /// A multishot poll reports changes.
    fn poll(&mut self, state: &State, conn: usize) -> Attempt {
        match events(state, conn, self.lent.sqe().op_flags) {
            0 => Attempt::Park,
            events if !self.is_multishot() => Attempt::Last(events),
            events if events == self.reported => Attempt::Park,
            events => {
                self.reported = events;
                Attempt::Some(events, None)
            }
        }
    }

    fn ends_unasked(&self, state: &mut State) -> bool {
        self.is_multishot() && state.rng.chance(state.faults.multishots_cancelled_permille)
    }
}

fn buffer_flags(bid: u16) -> u32 {
    CQE_BUFFER | u32::from(bid) << 16
}

/// poll(2)'s `revents`.
fn events(state: &State, conn: usize, asked: u32) -> i32 {
    let end = state.conns[conn].end(Side::Server);
    let gone = end.ended || end.dead;
    let happened = [
        (!end.unread.is_empty() || gone, libc::POLLIN),
        (state.conns[conn].room_from(Side::Server) > 0 || end.dead, libc::POLLOUT),
        (gone, libc::POLLRDHUP),
        (end.dead, libc::POLLHUP),
        (end.error.is_some(), libc::POLLERR),
    ];
    // Asked for or not (IO_POLL_UNMASK, io_uring/poll.c).
    let always = libc::POLLHUP | libc::POLLERR | libc::POLLRDHUP;
    let events = happened.iter().filter(|event| event.0).fold(0, |all, event| all | i32::from(event.1));
    events & (asked as i32 | i32::from(always))
}
