//! One generator thread: what its connections share, and its life from the first connect to the last answer.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use ucaffeine::rt::time::Instant;
use ucaffeine::rt::{self, Stats, time};

use super::connecting::Connecting;
use super::{Failure, connection, pacer};
use crate::plan::Plan;
use crate::reader::Heads;
use crate::record::{ErrorClass, Live, Recorder, RecorderConfig};
use crate::rng::Rng;
use crate::schedule::{Load, Schedule, Step};

/// How often a thread tells its recorder the time when nothing else happens.
const TICK: Duration = Duration::from_millis(100);
/// Streams of chance, beside the schedules' own.
const TRAFFIC_STREAM: u64 = 1 << 32;

/// What a thread used, and left undone.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// CPU time in the measured window.
    pub cpu_ns: u64,
    /// How much of that was looking at the clock, because the next moment of the schedule was near.
    pub spin_ns: u64,
    /// How busy the busiest thread was in the window, without that: 0 to 1.
    pub busiest_share: f64,
    /// `io_uring_enter` calls in the window.
    pub enters: u64,
    /// Requests that the schedule wanted in the window (open loop).
    pub offered: u64,
    /// Of those wanted, the ones that were never sent.
    pub unsent: u64,
    /// Requests that had no answer when the thread gave up.
    pub unanswered: u64,
    /// Requests that were sent, the warm-up's too.
    pub sent: u64,
    /// Connections that were made.
    pub connected: u64,
    /// When the last answer was there, since the start.
    pub elapsed_ns: u64,
}

impl Usage {
    pub(super) fn add(&mut self, other: &Usage) {
        self.cpu_ns += other.cpu_ns;
        self.spin_ns += other.spin_ns;
        self.busiest_share = self.busiest_share.max(other.busiest_share);
        self.enters += other.enters;
        self.offered += other.offered;
        self.unsent += other.unsent;
        self.unanswered += other.unanswered;
        self.sent += other.sent;
        self.connected += other.connected;
        self.elapsed_ns = self.elapsed_ns.max(other.elapsed_ns);
    }
}

/// What the connections of a thread share.
pub(super) struct Thread {
    pub(super) plan: Arc<Plan>,
    pub(super) recorder: RefCell<Recorder>,
    pub(super) connecting: Connecting,
    /// Of this thread's connections, the number of the first in the whole run.
    pub(super) first: usize,
    /// The only kind of request, as often as it may be in flight; empty where there are several kinds.
    pub(super) burst: Bytes,
    /// The head that the connections have read last.
    pub(super) heads: RefCell<Heads>,
    schedule: RefCell<Schedule>,
    pub(super) rng: RefCell<Rng>,
    /// The clock's time at the start; `None` before it.
    start_ns: Cell<Option<u64>>,
    /// Connections that wait for the start.
    gate: RefCell<Vec<Waker>>,
    due: RefCell<Due>,
    open: bool,
    /// The schedule will bring no more.
    over: Cell<bool>,
    pub(super) tally: RefCell<Usage>,
    /// Requests of the schedule so far: sent, or due.
    begun: Cell<u64>,
    /// Requests that were sent and have neither an answer nor an error yet.
    in_flight: Cell<u64>,
    /// When the latest of those that are over ended, since the start.
    last_end_ns: Cell<u64>,
    /// Connections whose first connect is not through.
    unmade: Cell<u32>,
    first_failure: OnceCell<String>,
    turn: Cell<Turn>,
    /// Whoever waits for something to be over: the thread itself.
    watcher: RefCell<Option<Waker>>,
}

/// Requests of an open loop that are due, and connections that have nothing to do.
#[derive(Default)]
pub(super) struct Due {
    /// When each was due.
    requests: VecDeque<u64>,
    /// Connections with nothing to do, the longest-idle first, so that all are used alike. A number may stand here though
    /// its connection has found something to do: what counts is the waker.
    idle: VecDeque<u32>,
    wakers: Vec<Option<Waker>>,
}

/// The turn of the loop whose completions are being handled.
#[derive(Clone, Copy, Default)]
struct Turn {
    start_ns: u64,
    /// How many brought something.
    received: u32,
    /// When what followed from the last of them had been sent.
    last_ns: u64,
}

/// The life of a thread.
pub(super) fn main(
    plan: &Arc<Plan>,
    number: u32,
    tell: Sender<Arc<Live>>,
    start: impl FnOnce() -> Option<u64>,
) -> Result<(Recorder, Usage), Failure> {
    if !plan.cpus.is_empty() {
        let cpu = plan.cpus[number as usize % plan.cpus.len()];
        rt::set_affinity(&[cpu]).map_err(|error| Failure::Pin(cpu, error))?;
    }
    let runtime = builder(plan, number).build().map_err(Failure::Ring)?;
    // A thread that cannot be heard has nobody who waits for it.
    run_on(runtime, plan, number, |live| {
        drop(tell.send(live));
        drop(tell);
        start()
    })
}

/// Connects, says so to `start`, which knows when time begins, and runs until the end.
pub(super) fn run_on(
    runtime: rt::Runtime,
    plan: &Arc<Plan>,
    number: u32,
    start: impl FnOnce(Arc<Live>) -> Option<u64>,
) -> Result<(Recorder, Usage), Failure> {
    let connections = plan.share(plan.connections, number);
    let thread = Rc::new(Thread::new(plan, number, connections));
    runtime.block_on(thread.connect_all(connections));
    if let (Some(why), 0) = (thread.first_failure.get(), thread.tally.borrow().connected) {
        return Err(Failure::Connect(why.clone()));
    }
    let live = thread.recorder.borrow().live();
    let Some(start_ns) = start(live) else { return Err(Failure::Panicked) };
    runtime.block_on(thread.run(start_ns));
    drop(runtime);
    let Ok(thread) = Rc::try_unwrap(thread) else { return Err(Failure::Panicked) };
    Ok((thread.recorder.into_inner(), thread.tally.into_inner()))
}

/// Receive buffers hold a small answer whole; there are as many as connections can have answers at a time, up to 32 MiB.
pub(super) fn builder(plan: &Plan, number: u32) -> rt::Builder {
    let connections = plan.share(plan.connections, number);
    let buffers = connections.next_power_of_two().clamp(64, 2048) as u16;
    // A slot for each connection, for as many that are still being closed, and some for nothing in particular.
    let slots = connections.saturating_mul(2).saturating_add(64);
    // The kernel allows no larger table than that, though its descriptors are none of the process's.
    let most = u32::try_from(rt::net::raise_descriptor_limit()).unwrap_or(u32::MAX);
    let slots = slots.min(most);
    let builder = rt::Builder::new().sharers(plan.threads as usize);
    builder.direct_slots(slots).recv_buffers(buffers, 16 << 10).spin(plan.spin)
}

impl Thread {
    fn new(plan: &Arc<Plan>, number: u32, connections: u32) -> Thread {
        let config = RecorderConfig {
            warmup_ns: plan.warmup_ns,
            interval_ns: plan.interval.as_nanos() as u64,
            urls: plan.traffic.requests().len(),
            connections: connections as usize,
        };
        let share = (u64::from(number), u64::from(plan.threads));
        let wakers = (0..connections).map(|_| None).collect();
        Thread {
            recorder: Recorder::new(&config).into(),
            connecting: Connecting::new(plan.share(plan.connecting.window, number)),
            first: (0..number).map(|before| plan.share(plan.connections, before) as usize).sum(),
            schedule: Schedule::new(plan.load, plan.bounds, plan.burst, plan.seed, share).into(),
            rng: Rng::new(plan.seed, TRAFFIC_STREAM + u64::from(number)).into(),
            heads: RefCell::default(),
            burst: plan.traffic.only().map(|only| only.bytes.repeat(plan.pipeline as usize).into()).unwrap_or_default(),
            open: matches!(plan.load, Load::Open(..)),
            plan: Arc::clone(plan),
            start_ns: Cell::new(None),
            gate: RefCell::default(),
            due: Due { wakers, ..Due::default() }.into(),
            over: Cell::new(false),
            tally: RefCell::default(),
            begun: Cell::new(0),
            in_flight: Cell::new(0),
            last_end_ns: Cell::new(0),
            unmade: Cell::new(connections),
            first_failure: OnceCell::new(),
            turn: Cell::new(Turn::default()),
            watcher: RefCell::new(None),
        }
    }

    /// Starts the connections, at a pace that a backlog can follow, and waits until each has been made or has failed once.
    async fn connect_all(self: &Rc<Thread>, connections: u32) {
        let gap = Duration::from_secs_f64(f64::from(self.plan.threads) / self.plan.connecting.rate.max(1.0));
        let begun = Instant::fresh();
        for number in 0..connections {
            // Absolute, so that a late wake-up is made up for.
            time::alarm(begun + gap * number).await;
            rt::spawn_detached(connection::run(Rc::clone(self), number));
        }
        self.watch(|| self.unmade.get() == 0).await;
    }

    /// From the start to the last answer.
    async fn run(self: &Rc<Thread>, start_ns: u64) {
        time::alarm(Instant::from_nanos(start_ns)).await;
        self.start_ns.set(Some(start_ns));
        self.gate.take().into_iter().for_each(Waker::wake);
        let baseline = Rc::new(Cell::new(Baseline::now()));
        rt::spawn_detached(take_baseline(Rc::clone(self), Rc::clone(&baseline)));
        rt::spawn_detached(tick(Rc::clone(self)));
        if self.open {
            pacer::run(self).await;
        } else {
            let end = Instant::from_nanos(start_ns.saturating_add(self.plan.bounds.duration_ns));
            rt::select2(time::sleep_until(end), self.watch(|| self.over.get())).await;
        }
        self.over.set(true);
        self.due.borrow_mut().wakers.iter_mut().filter_map(Option::take).for_each(Waker::wake);
        // What is in flight has its own timeout, and what waits for a connection as long again.
        let patience = time::sleep(self.plan.timeout + self.plan.timeout);
        let nothing_left = || self.in_flight.get() == 0 && self.due.borrow().requests.is_empty();
        rt::select2(self.watch(nothing_left), patience).await;
        self.finish(baseline.get());
    }

    fn finish(&self, baseline: Baseline) {
        self.note_turn(u64::MAX);
        let bound_ns = Some(self.plan.bounds.duration_ns).filter(|_| self.plan.bounds.requests == u64::MAX);
        let elapsed_ns = self.last_end_ns.get().max(bound_ns.unwrap_or(0));
        let elapsed_ns = if elapsed_ns == 0 { self.elapsed_ns() } else { elapsed_ns };
        self.recorder.borrow_mut().advance(elapsed_ns);
        let now = Baseline::now();
        let mut tally = self.tally.borrow_mut();
        tally.cpu_ns = now.cpu_ns - baseline.cpu_ns;
        tally.spin_ns = now.spin_ns - baseline.spin_ns;
        tally.enters = now.enters - baseline.enters;
        let window_ns = now.at_ns.saturating_sub(baseline.at_ns).max(1);
        tally.busiest_share = tally.cpu_ns.saturating_sub(tally.spin_ns) as f64 / window_ns as f64;
        tally.sent = self.begun.get() - self.due.borrow().requests.len() as u64;
        tally.unanswered = self.in_flight.get();
        tally.unsent = self.due.borrow().requests.len() as u64;
        tally.elapsed_ns = elapsed_ns;
    }

    /// Since the start, at the beginning of this turn; 0 before the start.
    pub(super) fn elapsed_ns(&self) -> u64 {
        self.start_ns.get().map_or(0, |start_ns| Instant::now().as_nanos().saturating_sub(start_ns))
    }

    /// Since the start, now.
    pub(super) fn fresh_ns(&self) -> u64 {
        self.start_ns.get().map_or(0, |start_ns| Instant::fresh().as_nanos().saturating_sub(start_ns))
    }

    /// The moment so many nanoseconds after the start.
    pub(super) fn moment(&self, ns: u64) -> Instant {
        Instant::from_nanos(self.start_ns.get().unwrap_or(0).saturating_add(ns))
    }

    /// Waits for the start.
    pub(super) async fn started(&self) {
        let mut waits = false;
        poll_fn(|context| {
            if self.start_ns.get().is_some() {
                return Poll::Ready(());
            }
            if !std::mem::replace(&mut waits, true) {
                self.gate.borrow_mut().push(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    /// The next request for a connection that is free since `free_ns`: when it was due. `None`: there is none, now or ever.
    pub(super) fn next_request(&self, free_ns: u64) -> Option<u64> {
        if self.open {
            return self.next_due();
        }
        match self.step(free_ns) {
            Step::Send { intended_ns } => {
                self.begun.set(self.begun.get() + 1);
                Some(intended_ns)
            }
            Step::Wait { .. } => None,
            Step::Stop => {
                self.over.set(true);
                self.changed();
                None
            }
        }
    }

    /// The oldest request that is due, and not so late that it is not worth sending any more.
    fn next_due(&self) -> Option<u64> {
        loop {
            let intended_ns = self.due.borrow_mut().requests.pop_front()?;
            let Some(deadline) = self.plan.deadline else { return Some(intended_ns) };
            let now_ns = self.fresh_ns();
            if now_ns.saturating_sub(intended_ns) <= deadline.as_nanos() as u64 {
                return Some(intended_ns);
            }
            let detail = || format!("not sent: it had waited longer than the deadline of {deadline:?}");
            self.recorder.borrow_mut().error(0, ErrorClass::Timeout, None, now_ns, detail);
            self.changed();
        }
    }

    /// A request of the open loop is due.
    pub(super) fn is_due(&self, intended_ns: u64) {
        self.begun.set(self.begun.get() + 1);
        if intended_ns >= self.plan.warmup_ns {
            self.tally.borrow_mut().offered += 1;
        }
        self.due.borrow_mut().requests.push_back(intended_ns);
        self.rouse();
    }

    /// What the schedule wants at that moment.
    pub(super) fn step(&self, now_ns: u64) -> Step {
        self.schedule.borrow_mut().step(now_ns, self.begun.get())
    }

    /// Wakes the connection that has had nothing to do for longest, if a request is due.
    pub(super) fn rouse(&self) {
        let mut due = self.due.borrow_mut();
        if due.requests.is_empty() {
            return;
        }
        while let Some(number) = due.idle.pop_front() {
            if let Some(waker) = due.wakers[number as usize].take() {
                drop(due);
                return waker.wake();
            }
        }
    }

    /// A connection has nothing to do.
    pub(super) fn rest(&self, number: u32, waker: &Waker) {
        let mut due = self.due.borrow_mut();
        if due.wakers[number as usize].replace(waker.clone()).is_none() {
            due.idle.push_back(number);
        }
    }

    /// A connection is gone, or busy: it is not to be woken for a request. If it had been, another one is.
    pub(super) fn busy(&self, number: u32) {
        self.due.borrow_mut().wakers[number as usize] = None;
    }

    /// Whether a request is due and waits for a connection.
    pub(super) fn has_due(&self) -> bool {
        !self.due.borrow().requests.is_empty()
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.get()
    }

    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// Requests were sent.
    pub(super) fn sent(&self, count: u64, now_ns: u64) {
        self.in_flight.set(self.in_flight.get() + count);
        self.turn.set(Turn { last_ns: now_ns, ..self.turn.get() });
    }

    /// A request has its answer, or its error.
    pub(super) fn ended(&self, at_ns: u64) {
        self.last_end_ns.set(at_ns);
        let left = self.in_flight.get() - 1;
        self.in_flight.set(left);
        if left == 0 && self.over.get() {
            self.changed();
        }
    }

    /// The first connect of a connection is through.
    pub(super) fn tried(&self, failure: Option<String>) {
        self.unmade.set(self.unmade.get() - 1);
        if let Some(why) = failure {
            let _ = self.first_failure.set(why);
        }
        self.changed();
    }

    /// Something was received in the turn that began at `turn_ns`. What the turn before it was like is recorded.
    pub(super) fn note_turn(&self, turn_ns: u64) {
        let turn = self.turn.get();
        if turn.start_ns == turn_ns {
            self.turn.set(Turn { received: turn.received + 1, ..turn });
            return;
        }
        if turn.received > 0 {
            let reap_ns = turn.last_ns.saturating_sub(turn.start_ns);
            self.recorder.borrow_mut().batch(turn.received, reap_ns);
        }
        self.turn.set(Turn { start_ns: turn_ns, received: 1, last_ns: turn_ns });
    }

    /// Waits until it is true; whoever may have made it so says so by `changed`.
    async fn watch(&self, is_so: impl Fn() -> bool) {
        poll_fn(|context| {
            if is_so() {
                return Poll::Ready(());
            }
            *self.watcher.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    pub(super) fn changed(&self) {
        if let Some(watcher) = self.watcher.borrow_mut().take() {
            watcher.wake();
        }
    }
}

/// What the thread had used at some moment.
#[derive(Clone, Copy)]
struct Baseline {
    at_ns: u64,
    cpu_ns: u64,
    spin_ns: u64,
    enters: u64,
}

impl Baseline {
    fn now() -> Baseline {
        let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        let Stats { spun_ns, enters, .. } = rt::stats();
        let cpu_ns = cpu.tv_sec as u64 * 1_000_000_000 + cpu.tv_nsec as u64;
        Baseline { at_ns: Instant::fresh().as_nanos(), cpu_ns, spin_ns: spun_ns, enters }
    }
}

/// At the end of the warm-up.
async fn take_baseline(thread: Rc<Thread>, baseline: Rc<Cell<Baseline>>) {
    time::sleep_until(thread.moment(thread.plan.warmup_ns)).await;
    baseline.set(Baseline::now());
}

/// Tells the recorder the time, for intervals in which nothing happens and for whoever watches.
async fn tick(thread: Rc<Thread>) {
    loop {
        time::sleep(TICK).await;
        let mut recorder = thread.recorder.borrow_mut();
        recorder.advance(thread.elapsed_ns());
        recorder.publish();
    }
}
