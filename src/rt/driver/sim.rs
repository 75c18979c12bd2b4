//! A kernel made of a seed: virtual time, a network in memory, faults on purpose. The same seed plays the same world,
//! to the bit.
//!
//! A test makes a [`World`], starts client programs in it ([`World::spawn`], [`Client`]), and runs the server under test
//! on a runtime that [`Builder::build_sim`](crate::rt::Builder) made of that world. Nothing sleeps: an `enter` that
//! waits moves the clock to the next event. Where nothing is left that could ever happen, it panics: a deadlock.
//!
//! Played: accepts, connects (each to whoever waits in [`World::dialled`]), receives, sends, polls, closes, cancels, NOP and
//! the peer's address on simulated sockets; reads, writes and opens of real files, carried out at once and reported later.
//! Everything else is -EOPNOTSUPP.

#![cfg_attr(not(test), allow(dead_code, reason = "`rt::sim` shows a part of what the tests use"))]

mod faults;
mod net;
mod programs;
mod request;
#[cfg(test)]
pub(crate) mod seeds;

use std::cell::{RefCell, RefMut};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

pub(crate) use faults::{Faults, Rng};
pub(crate) use programs::{Client, Incoming};

use crate::rt::op::Key;
use crate::rt::sys::buf_ring::BufRing;
use crate::rt::sys::lent::Lent;
use crate::rt::sys::perform;
use crate::rt::sys::ring::{RingSizes, Wait};
use crate::rt::sys::sqe::{CANCEL_ALL, CQE_SKIP_SUCCESS, Cqe, Fd, SOCKET_SETSOCKOPT, Sqe, op};
use net::{File, Happening, Listener, Side, State};
use programs::{Programs, Ready};
use request::{Kernel, Request, Step};

/// Where a scenario that still runs is taken for one that never ends.
const VIRTUAL_NS_MAX: u64 = 3_600 * 1_000_000_000;
const ENTERS_MAX: u64 = 100_000;

/// The world of one seed: its network, its clients, its clock. A handle; clones are the same world.
#[derive(Clone)]
pub(crate) struct World {
    inner: Rc<Inner>,
}

struct Inner {
    state: RefCell<State>,
    programs: RefCell<Programs>,
    ready: Arc<Ready>,
}

impl World {
    pub(crate) fn new(seed: u64, faults: Faults) -> World {
        let ready = Arc::new(Ready::default());
        let state = RefCell::new(State::new(seed, faults, Arc::clone(&ready)));
        World { inner: Rc::new(Inner { state, programs: RefCell::default(), ready }) }
    }

    pub(crate) fn seed(&self) -> u64 {
        self.state().seed
    }

    /// Virtual nanoseconds since the world's epoch.
    pub(crate) fn now_ns(&self) -> u64 {
        self.state().now_ns
    }

    /// A source of chance for the scenario, one for each number. What the kernel draws does not change what it gives.
    pub(crate) fn rng(&self, number: u64) -> Rng {
        Rng::new(self.seed() ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93) ^ 0x5ce0_a210)
    }

    /// A listener for `TcpListener::from_fd`. The descriptor is a real socket, bound to nothing: a name for the
    /// simulated one, which clients connect to by the same number.
    pub(crate) fn listen(&self) -> OwnedFd {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
        let token = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).expect("a socket");
        let listener = Listener { token: token.as_raw_fd(), backlog: VecDeque::new(), open: true };
        self.state().listeners.push(listener);
        token
    }

    /// A new connection to the world's listener of that number (0 is the first). It may be used at once.
    pub(crate) fn connect(&self, listener: usize) -> Client {
        let conn = self.state().connect(listener);
        Client::new(self.clone(), conn)
    }

    /// The far end of the next connection that the runtime makes, to whatever address; for client programs.
    pub(crate) async fn dialled(&self) -> Client {
        let conn = std::future::poll_fn(|context| {
            let mut state = self.state();
            match state.dialled.pop_front() {
                Some(conn) => std::task::Poll::Ready(conn),
                None => {
                    state.operators.push(context.waker().clone());
                    std::task::Poll::Pending
                }
            }
        });
        Client::new(self.clone(), conn.await)
    }

    /// What happens when the last descriptor of a listening socket is closed, which the world cannot see by itself:
    /// connections that nobody accepted are reset, and new ones too.
    pub(crate) fn stop_listening(&self, listener: usize) {
        let mut state = self.state();
        state.listeners[listener].open = false;
        let waiting = std::mem::take(&mut state.listeners[listener].backlog);
        for conn in waiting {
            state.conns[conn].excused = true;
            state.reset(conn, Side::Server);
        }
    }

    /// Things that only a bug in the runtime does, in words.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.state().violations.clone()
    }

    /// A digest of every completion so far, and when it was reaped.
    pub(crate) fn trace(&self) -> u64 {
        self.state().trace
    }

    /// Each connection that is not over, in words.
    pub(crate) fn describe(&self) -> String {
        self.state().describe().join("\n")
    }

    fn state(&self) -> RefMut<'_, State> {
        self.inner.state.borrow_mut()
    }
}

/// The engine: a kernel in that world.
pub(crate) struct Sim {
    world: World,
    kernel: Kernel,
    /// Pushed, not submitted.
    line: VecDeque<Lent>,
    /// In flight and not done, oldest first.
    requests: Vec<Request>,
    requests_made: u64,
    /// Posted, not reaped.
    completions: Vec<Cqe>,
    enters: u64,
    /// It panicked already: the drain that follows is not to be disturbed.
    gave_up: bool,
}

impl Sim {
    pub(crate) fn new(world: &World, sizes: RingSizes) -> Sim {
        // As `DirectTable::backlog_max`, which is what a listener would have been given.
        world.state().backlog_max = super::super::direct::backlog_max(sizes.direct_slots) as usize;
        let pool = BufRing::new(sizes.buffers, sizes.buffer_bytes).expect("memory for a small pool");
        Sim {
            world: world.clone(),
            kernel: Kernel { pool: Rc::new(pool), head: 0, slots: vec![None; sizes.direct_slots as usize] },
            line: VecDeque::new(),
            requests: Vec::new(),
            requests_made: 0,
            completions: Vec::new(),
            enters: 0,
            gave_up: false,
        }
    }

    pub(crate) fn push(&mut self, lent: Lent) {
        self.line.push_back(lent);
    }

    pub(crate) fn reap(&mut self, into: &mut Vec<Cqe>) {
        if std::mem::take(&mut self.world.state().runtime_woken) {
            into.push(Cqe { user_data: Key::WAKE_UP.user_data(), result: 0, flags: 0 });
        }
        let mut state = self.world.state();
        self.completions.iter().for_each(|cqe| state.trace(cqe));
        drop(state);
        into.append(&mut self.completions);
    }

    pub(crate) fn now_ns(&self) -> u64 {
        self.world.now_ns()
    }

    pub(crate) fn queued(&mut self) -> usize {
        self.line.len()
    }

    pub(crate) fn pool(&self) -> &Rc<BufRing> {
        &self.kernel.pool
    }

    pub(crate) fn enters(&self) -> u64 {
        self.enters
    }

    /// What the kernel still holds, in words; nothing after a drain.
    pub(crate) fn held(&self) -> Vec<String> {
        let slots = self.kernel.slots.iter().enumerate().filter(|slot| slot.1.is_some());
        let requests = self.requests.iter().map(Request::describe);
        requests.chain(slots.map(|(slot, conn)| format!("direct slot {slot}: {conn:?}"))).collect()
    }

    /// Submits, lets the world go on, and returns as io_uring_enter(2) would; in no time at all.
    pub(crate) fn enter(&mut self, wait: Wait) -> io::Result<()> {
        let world = self.world.clone();
        self.enters += 1;
        if (world.now_ns() > VIRTUAL_NS_MAX || self.enters > ENTERS_MAX) && !self.gave_up {
            self.gave_up = true;
            self.give_up("no end in sight");
        }
        let sq_entries = {
            let mut state = world.state();
            let enter_ns_max = state.faults.enter_ns_max;
            let enter_ns = state.rng.below(enter_ns_max);
            // At least 1, so that a core which polls without waiting sees time pass.
            state.now_ns += 1 + enter_ns;
            state.faults.sq_entries
        };
        for lent in self.line.drain(..sq_entries.min(self.line.len())).collect::<Vec<_>>() {
            self.submit(&mut world.state(), lent);
        }
        if wait == Wait::Submit {
            return Ok(());
        }
        // With entries still in line there is work: the core does not sleep on it.
        let wait = if self.line.is_empty() { wait } else { Wait::No };
        let entered_ns = world.now_ns();
        loop {
            self.happen(&world);
            let until_ns = match self.until(wait, entered_ns) {
                Until::Now => return Ok(()),
                Until::Event { at_most_ns } => at_most_ns,
            };
            let mut state = world.state();
            let next_ns = state.next_event_ns().filter(|next_ns| until_ns.is_none_or(|until_ns| *next_ns <= until_ns));
            match next_ns.or(until_ns) {
                Some(next_ns) => state.now_ns = state.now_ns.max(next_ns),
                None => {
                    drop(state);
                    self.give_up("deadlock: nothing is left that could ever happen");
                }
            }
            if next_ns.is_none() {
                return Ok(());
            }
        }
    }

    /// Whether the caller's wait is over, and if not, when it is at the latest.
    fn until(&self, wait: Wait, entered_ns: u64) -> Until {
        let Wait::For { completions, timeout } = wait else { return Until::Now };
        if self.completions.len() >= completions as usize || self.world.state().runtime_woken {
            return Until::Now;
        }
        let after = |wait: std::time::Duration| entered_ns + u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX / 2);
        Until::Event { at_most_ns: timeout.map(after) }
    }

    /// Everything that is due, what it lets the parked operations do, and what the clients make of it.
    fn happen(&mut self, world: &World) {
        loop {
            let mut state = world.state();
            while let Some(happening) = state.take_due() {
                self.play(&mut state, happening);
            }
            self.resume(&mut state);
            drop(state);
            if !world.run_programs() {
                break;
            }
        }
    }

    fn play(&mut self, state: &mut State, happening: Happening) {
        match happening {
            Happening::Arrive(conn, side) => state.arrive(conn, side),
            Happening::Knock(conn) => state.knock(conn),
            Happening::Break(conn) => state.break_off(conn),
            Happening::Touch(file) => state.touched.push(file),
            Happening::Wake(waker) => state.fire(waker),
            Happening::Post(cqe) => self.completions.push(cqe),
            Happening::Cancel(user_data) => drop(self.cancel(state, user_data)),
            Happening::CancelRequest(number) => {
                if let Some(at) = self.requests.iter().position(|request| request.number == number) {
                    self.end(state, at, -libc::ECANCELED);
                }
            }
        }
        self.resume(state);
    }

    /// Lets operations go on whose file has changed.
    fn resume(&mut self, state: &mut State) {
        while let Some(file) = state.touched.pop() {
            let mut at = 0;
            while let Some(request) = self.requests.get_mut(at) {
                if request.file == file && request.run(&mut self.kernel, state) == Step::Done {
                    self.forget(state, at);
                } else {
                    at += 1;
                }
            }
        }
    }

    fn submit(&mut self, state: &mut State, lent: Lent) {
        let sqe = *lent.sqe();
        match sqe.opcode {
            op::ACCEPT | op::RECV | op::SEND | op::SENDMSG | op::SEND_ZC | op::POLL_ADD => {
                match self.file_of(state, &sqe) {
                    Ok(file) => self.start(state, lent, file),
                    Err(errno) => state.post(&sqe, -errno),
                }
            }
            op::ASYNC_CANCEL if sqe.op_flags & CANCEL_ALL != 0 => {
                let count = self.requests.len();
                (0..count).for_each(|_| self.end(state, 0, -libc::ECANCELED));
                state.post(&sqe, count as i32);
            }
            op::ASYNC_CANCEL => {
                let result = self.cancel_or_later(state, sqe.addr);
                state.post(&sqe, result);
            }
            op::CLOSE => {
                let result = self.close(state, &sqe);
                state.post(&sqe, result);
            }
            op::SOCKET => {
                let result = self.socket(state);
                state.post(&sqe, result);
            }
            op::CONNECT => match self.file_of(state, &sqe) {
                Ok(File::Conn(conn)) => state.dial(conn, sqe.user_data),
                _ => state.post(&sqe, -libc::EBADF),
            },
            op::URING_CMD if sqe.off == SOCKET_SETSOCKOPT => state.post(&sqe, 0),
            op::URING_CMD => {
                let result = self.peer_name(state, lent);
                state.post(&sqe, result);
            }
            op::NOP => state.post(&sqe, 0),
            // There is no real socket behind a simulated one: as when the process is out of descriptors.
            op::FIXED_FD_INSTALL => state.post(&sqe, -libc::EMFILE),
            op::READ if sqe.off != u64::MAX => {
                let short = state.rng.chance(state.faults.short_reads_permille);
                let most = if short { state.rng.up_to(sqe.len.max(1) as usize) } else { usize::MAX };
                state.post(&sqe, perform::read_at(&lent, most));
            }
            op::WRITE => state.post(&sqe, perform::write(&lent)),
            op::OPENAT2 => {
                let cold = state.rng.chance(state.faults.cold_names_permille);
                state.post(&sqe, perform::openat2(&lent, cold));
            }
            _ => state.post(&sqe, -libc::EOPNOTSUPP),
        }
    }

    fn start(&mut self, state: &mut State, lent: Lent, file: File) {
        self.requests_made += 1;
        let mut request = Request::new(self.requests_made, lent, file);
        if let File::Conn(conn) = file {
            state.conns[conn].server_refs += 1;
        }
        let step = request.start(&mut self.kernel, state);
        self.requests.push(request);
        if step == Step::Done {
            self.forget(state, self.requests.len() - 1);
        }
    }

    fn file_of(&self, state: &mut State, sqe: &Sqe) -> Result<File, i32> {
        match (sqe.target(), sqe.opcode) {
            (Fd::Direct(slot), op::RECV | op::SEND | op::SENDMSG | op::SEND_ZC | op::POLL_ADD | op::CONNECT) => {
                let conn = self.kernel.slots.get(slot as usize).copied().flatten();
                conn.map(File::Conn).ok_or_else(|| {
                    state.violations.push(format!("operation {} on the empty slot {slot}", sqe.opcode));
                    libc::EBADF
                })
            }
            (Fd::Raw(token), op::ACCEPT) => {
                let listener = state.listeners.iter().rposition(|listener| listener.token == token);
                listener.map(File::Listener).ok_or(libc::EINVAL)
            }
            _ => Err(libc::EOPNOTSUPP),
        }
    }

    fn cancel_or_later(&mut self, state: &mut State, user_data: u64) -> i32 {
        let target = self.requests.iter().find(|request| request.user_data() == user_data);
        let late =
            target.is_none_or(|target| !target.is_accept()) && state.rng.chance(state.faults.late_cancels_permille);
        if !late {
            return self.cancel(state, user_data);
        }
        let delay_ns = 1 + state.rng.below(state.faults.late_ns_max);
        state.schedule(delay_ns, Happening::Cancel(user_data));
        0
    }

    fn cancel(&mut self, state: &mut State, user_data: u64) -> i32 {
        let Some(at) = self.requests.iter().position(|request| request.user_data() == user_data) else {
            return -libc::ENOENT;
        };
        if !self.requests[at].is_accept() && state.rng.chance(state.faults.cancels_already_permille) {
            let delay_ns = 1 + state.rng.below(state.faults.late_ns_max);
            state.schedule(delay_ns, Happening::CancelRequest(self.requests[at].number));
            return -libc::EALREADY;
        }
        self.end(state, at, -libc::ECANCELED);
        0
    }

    /// The last completion of an operation, and the operation is gone.
    fn end(&mut self, state: &mut State, at: usize, result: i32) {
        self.requests[at].complete(state, result, 0);
        self.forget(state, at);
    }

    fn forget(&mut self, state: &mut State, at: usize) {
        if let File::Conn(conn) = self.requests.remove(at).file {
            release(state, conn);
        }
    }

    fn close(&mut self, state: &mut State, sqe: &Sqe) -> i32 {
        if sqe.file_index == 0 {
            return perform::close(sqe.fd);
        }
        let slot = sqe.file_index as usize - 1;
        let Some(conn) = self.kernel.slots.get_mut(slot).and_then(Option::take) else {
            state.violations.push(format!("close of the empty slot {slot}"));
            return -libc::EBADF;
        };
        release(state, conn);
        0
    }

    /// A socket that is not connected yet, in the first free slot.
    fn socket(&mut self, state: &mut State) -> i32 {
        let Some(slot) = self.kernel.slots.iter().position(Option::is_none) else { return -libc::ENFILE };
        let conn = state.unconnected();
        state.conns[conn].server_refs += 1;
        self.kernel.slots[slot] = Some(conn);
        slot as i32
    }

    /// SO_PEERNAME: 127.0.0.1, and a port for each connection.
    fn peer_name(&self, state: &State, mut lent: Lent) -> i32 {
        let Fd::Direct(slot) = lent.sqe().target() else { return -libc::EOPNOTSUPP };
        let Some(conn) = self.kernel.slots.get(slot as usize).copied().flatten() else { return -libc::EBADF };
        if state.conns[conn].end(Side::Server).dead {
            return -libc::ENOTCONN;
        }
        let mut name = [0u8; 16];
        name[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
        name[2..4].copy_from_slice(&(10_000 + conn as u16 % 50_000).to_be_bytes());
        name[4..8].copy_from_slice(&[127, 0, 0, 1]);
        let room = lent.option_mut();
        // As the kernel does it: room that the address does not fill is refused.
        if room.len() > name.len() {
            return -libc::EINVAL;
        }
        room.copy_from_slice(&name[..room.len()]);
        room.len() as i32
    }

    fn give_up(&self, why: &str) -> ! {
        let (seed, now_ns, clients, conns) =
            (self.world.seed(), self.now_ns(), self.world.clients_left(), self.world.describe());
        panic!(
            "seed {seed}, at {now_ns} ns: {why}; {clients} clients are not done; the kernel holds {:#?}\n{conns}",
            self.held()
        );
    }
}

/// How long an `enter` goes on.
enum Until {
    Now,
    Event { at_most_ns: Option<u64> },
}

/// One holder of the server's end less; the last one closes it.
fn release(state: &mut State, conn: usize) {
    state.conns[conn].server_refs -= 1;
    if state.conns[conn].server_refs == 0 {
        state.close(conn, Side::Server);
    }
}

impl State {
    /// The completion of an entry that is done at once.
    fn post(&mut self, sqe: &Sqe, result: i32) {
        if sqe.flags & CQE_SKIP_SUCCESS != 0 && result >= 0 {
            return;
        }
        let delay_ns = self.completion_delay();
        self.schedule(delay_ns, Happening::Post(Cqe { user_data: sqe.user_data, result, flags: 0 }));
    }

    fn trace(&mut self, cqe: &Cqe) {
        let mixed = self.trace ^ cqe.user_data ^ u64::from(cqe.result as u32) << 32 ^ u64::from(cqe.flags);
        self.trace = Rng::new(mixed ^ self.now_ns).next();
    }

    fn completion_delay(&mut self) -> u64 {
        if self.rng.chance(self.faults.late_completions_permille) { self.rng.below(self.faults.late_ns_max) } else { 0 }
    }
}
