//! The runtime: tasks, timers, sockets, files, pipes and processes on one io_uring per thread. It knows nothing of HTTP.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let runtime = ucaffeine::rt::Builder::new().build()?;
//! runtime.block_on(async {
//!     let listener = ucaffeine::rt::net::TcpListener::bind("127.0.0.1:0".parse().unwrap())?;
//!     loop {
//!         let stream = listener.accept().await?;
//!         ucaffeine::rt::spawn(async move {
//!             while let Ok(Some(data)) = stream.recv().await {
//!                 if stream.write_all(data.to_vec()).await.0.is_err() {
//!                     break;
//!                 }
//!             }
//!         });
//!     }
//! })
//! # }
//! ```
//!
//! A runtime belongs to the thread that built it, and a thread has at most one in its life: operations are found by
//! their number alone. Everything it hands out works only there; [`Remote`] is the way in from other threads.
//!
//! **Buffers are owned.** An operation takes its buffer and gives it back with the result, because the kernel may write
//! to it until the operation's last completion. **Dropping a future** cancels its operation and never blocks; what each
//! one may have done by then is said where it is made.

pub(crate) mod driver;
pub(crate) mod op;

pub(crate) mod sys;
pub(crate) mod task;
pub(crate) mod timer;
pub(crate) mod waker;

mod alarm;
mod builder;
mod direct;
pub mod histogram;
mod mailbox;
mod select;
#[cfg(feature = "sim")]
pub mod sim;
#[cfg(test)]
mod sim_tests;
pub(crate) mod spawner;
mod stats;

pub mod blocking;
pub mod confine;
pub mod fs;
pub mod net;
pub mod process;
pub mod signal;

pub mod time;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

pub use builder::{Builder, Unavailable, capabilities, memlock_plan, raise_memlock_limit};
pub use mailbox::Remote;
pub use select::{Either, join2, select2};
pub use stats::Stats;
pub use sys::buf_ring::RecvBuf;
pub use sys::cpu;
pub use sys::inherited;
pub use sys::io_buf::{IoBuf, IoBufMut};
pub use sys::sched::{add_nice, set_affinity, set_slice};
pub use task::{JoinError, JoinHandle};

use driver::Driver;
use op::{Key, SharedSlots, Silence};
use sys::lent::Lent;
use sys::ring::Wait;
use sys::sqe::{Cqe, Fd, Sqe};
use waker::TaskId;

/// Polls of ready tasks between two looks at the kernel: enough for every connection of a full pass, few enough that
/// tasks which wake each other cannot keep the ring waiting.
const POLLS_PER_TURN_MAX: usize = 1024;
/// How long the end of a runtime waits for the kernel's last word before it leaks what is still lent.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// How much later than it might a completion "at leisure" may be noticed.
const LEISURE_MAX: Duration = Duration::from_millis(1);
/// The index that the future of `block_on` goes by.
const MAIN: u32 = TaskId::TASKS_MAX - 1;

/// Everything that belongs to one core.
pub(crate) struct Core {
    /// Number of this runtime in the process, the first part of its tasks' names.
    id: u16,
    driver: RefCell<Driver>,
    pub(crate) slots: SharedSlots,
    tasks: task::Tasks,
    pub(crate) timers: RefCell<timer::Wheel>,
    pub(crate) alarms: RefCell<alarm::Alarms>,
    /// How long before an alarm the core looks again and again instead of sleeping ([`Builder::spin`]).
    spin_ns: u64,
    pub(crate) direct: Rc<direct::DirectTable>,
    mailbox: Arc<mailbox::Mailbox>,
    pub(crate) stats: stats::Counters,
    helpers: blocking::Helpers,
    main_woken: Cell<bool>,
    /// Bytes after which a receive ends by itself, so that one pass cannot fill the pool from one socket; 0 where the
    /// kernel does not know of it.
    pub(crate) recv_total: Cell<u32>,
    /// Entries queued so far.
    pushed: Cell<u64>,
    now_ns: Cell<u64>,
    /// Between turns: completions on their way from the driver to their slots.
    reaped: RefCell<Vec<Cqe>>,
    /// Between turns: wakers of timers that are over.
    due: RefCell<Vec<Waker>>,
    /// Operations queued in this turn whose completion nobody is in a hurry for ([`op::Op::start_at_leisure`]).
    pub(crate) at_leisure: RefCell<Vec<(Key, Silence)>>,
    /// Inside `block_on`.
    running: Cell<bool>,
}

/// What a core has to do while the kernel works.
enum Turn {
    /// More tasks are ready.
    Busy,
    /// Nothing, but an alarm is so near that to sleep would miss it.
    Spin { since_ns: u64 },
    /// Nothing.
    Idle(Wait),
}

/// Ends `Core::running`, however `block_on` ends.
struct Running<'c>(&'c Core);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.set(false);
    }
}

/// A runtime on the thread that built it ([`Builder::build`]).
///
/// Dropped: every task is dropped, everything in flight is cancelled and waited for (5 s at most; what the kernel still
/// holds then is leaked, for the kernel may write to it).
pub struct Runtime {
    core: Rc<Core>,
}

impl Runtime {
    /// Runs `future`, and every task it spawns, until it is ready. Tasks that are not done then stay, and go on with the
    /// next `block_on`.
    ///
    /// # Panics
    /// If called from inside a task.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        let core = &self.core;
        assert!(!core.running.replace(true), "block_on was called from inside a task");
        let _running = Running(core);
        let mut main = std::pin::pin!(future);
        let waker = TaskId::new(core.id, MAIN, 0).waker();
        let mut context = Context::from_waker(&waker);
        core.main_woken.set(true);
        loop {
            if core.main_woken.replace(false)
                && let Poll::Ready(output) = main.as_mut().poll(&mut context)
            {
                // Closes, cancels and wake-ups for other cores must not wait for a next `block_on`.
                if core.driver.borrow_mut().queued() > 0 {
                    core.turn(true);
                }
                return output;
            }
            core.tasks.run(POLLS_PER_TURN_MAX);
            core.turn(false);
        }
    }

    /// A handle through which other threads reach this one.
    pub fn remote(&self) -> Remote {
        Remote::new(Arc::clone(&self.core.mailbox))
    }

    /// What has been counted so far.
    pub fn stats(&self) -> Stats {
        self.core.stats()
    }
}

impl Core {
    /// One turn: everything queued goes to the kernel, everything that is done comes back, in one syscall.
    fn turn(&self, hurry: bool) {
        let pool = Rc::clone(self.driver.borrow().pool());
        let starving = pool.wake_starved();
        // Not the turn's time: the tasks have been running since then.
        let worked_ns = self.driver.borrow().now_ns();
        self.stats.worked(worked_ns.saturating_sub(self.now_ns.get()));
        let wait = if starving || hurry { Turn::Busy } else { self.wait(worked_ns) };
        let (wait, spun_since_ns) = match wait {
            Turn::Busy => (Wait::No, None),
            Turn::Spin { since_ns } => (Wait::No, Some(since_ns)),
            Turn::Idle(wait) => (wait, None),
        };
        let mut driver = self.driver.borrow_mut();
        self.stats.submitted(driver.queued() as u64);
        driver.enter(wait).expect("io_uring_enter failed for a reason that is a bug here");
        let mut reaped = self.reaped.take();
        driver.reap(&mut reaped);
        let now_ns = driver.now_ns();
        self.now_ns.set(now_ns);
        drop(driver);
        self.stats.turned(reaped.len() as u64);
        if let Some(since_ns) = spun_since_ns.filter(|_| reaped.is_empty()) {
            stats::add(&self.stats.spun_ns, now_ns.saturating_sub(since_ns));
        }
        for cqe in reaped.drain(..) {
            self.complete(cqe);
        }
        self.reaped.replace(reaped);
        self.hear_silence();
        self.pause_accepts();
        self.read_mail();
        let now = self.now_ns.get() / 1_000_000;
        // Woken when nothing is borrowed: a waker that is not ours may run anything.
        let mut due = self.due.take();
        self.timers.borrow_mut().expire(now, |waker| due.push(waker));
        self.alarms.borrow_mut().expire(now_ns, |waker| due.push(waker));
        due.drain(..).for_each(Waker::wake);
        self.due.replace(due);
    }

    /// After the completions of a turn: what their absence means for the operations "at leisure" that it submitted.
    fn hear_silence(&self) {
        if self.at_leisure.borrow().is_empty() || !self.driver.borrow_mut().is_settled() {
            return;
        }
        let mut submitted = self.at_leisure.take();
        for (key, silence) in submitted.drain(..) {
            match silence {
                Silence::Means(result) if self.slots.borrow().is_pending(key) => {
                    self.complete(Cqe { user_data: key.user_data(), result: result as i32, flags: 0 });
                }
                Silence::Means(_) => {}
                Silence::MeansNothing => {
                    let waker = self.slots.borrow_mut().waker_if_pending(key);
                    waker.into_iter().for_each(Waker::wake);
                }
            }
        }
        self.at_leisure.replace(submitted);
    }

    /// Ends the multishot accepts where the table is nearly full: here, because nobody may be there to take their results.
    fn pause_accepts(&self) {
        for key in self.direct.to_pause() {
            if self.disarm(key) {
                stats::add(&self.stats.accept_pauses, 1);
            }
        }
    }

    fn wait(&self, now_ns: u64) -> Turn {
        if self.tasks.has_ready() || self.main_woken.get() || self.mailbox.has_mail() {
            return Turn::Busy;
        }
        let wheel_ns = self.timers.borrow().next().map(|tick| tick * 1_000_000);
        let alarm_ns = self.alarms.borrow().next().map(|at_ns| at_ns.saturating_sub(self.spin_ns));
        if alarm_ns.is_some_and(|at_ns| at_ns <= now_ns) {
            return Turn::Spin { since_ns: now_ns };
        }
        let next_ns = wheel_ns.into_iter().chain(alarm_ns).min();
        let timeout = next_ns.map(|at_ns| Duration::from_nanos(at_ns.saturating_sub(now_ns)));
        // Sends to a socket with room complete while they are submitted. To come back for those alone would cost a syscall
        // that finds nothing else to do, so the turn waits for those that post a completion *and* one event more; for a
        // moment only, because one of them may find its socket full, and because somebody may have the time to look.
        let at_leisure = self.at_leisure.borrow();
        if at_leisure.is_empty() {
            return Turn::Idle(Wait::For { completions: 1, timeout });
        }
        let expected = at_leisure.iter().filter(|(_, silence)| *silence == Silence::MeansNothing).count() as u32;
        let timeout = Some(timeout.map_or(LEISURE_MAX, |timeout| timeout.min(LEISURE_MAX)));
        Turn::Idle(Wait::For { completions: 1 + expected, timeout })
    }

    fn complete(&self, cqe: Cqe) {
        if cqe.user_data == Key::NOBODY.user_data() || cqe.user_data == Key::WAKE_UP.user_data() {
            return;
        }
        match cqe.copied() {
            Some(true) => stats::add(&self.stats.zero_copies_copied, 1),
            Some(false) => stats::add(&self.stats.zero_copies, 1),
            None => {}
        }
        let (then, leftover) = self.slots.borrow_mut().complete(cqe);
        drop(leftover);
        self.then(then);
    }

    fn read_mail(&self) {
        for message in self.mailbox.take() {
            match message {
                mailbox::Message::Wake(id) => self.wake(id),
                mailbox::Message::Run(work) => drop(self.tasks.contain(work)),
            }
        }
    }

    fn wake(&self, id: TaskId) {
        if id.index() == MAIN { self.main_woken.set(true) } else { self.tasks.wake(id) }
    }

    /// Queues an entry. Returns how many were queued before it.
    pub(crate) fn push(&self, lent: Lent) -> u64 {
        self.driver.borrow_mut().push(lent);
        self.pushed.replace(self.pushed.get() + 1)
    }

    /// Asks the kernel to give up an operation. It still completes, as cancelled or as done.
    pub(crate) fn cancel(&self, key: Key) {
        stats::add(&self.stats.cancels, 1);
        self.push_for_nobody(Sqe::cancel(key.user_data()).quiet());
    }

    /// Closes a descriptor, after everything that was queued on it.
    pub(crate) fn close(&self, fd: Fd) {
        self.push_for_nobody(Sqe::close(fd).quiet());
        if let Fd::Direct(_) = fd {
            self.direct.released();
        }
    }

    fn push_for_nobody(&self, mut sqe: Sqe) {
        sqe.user_data = Key::NOBODY.user_data();
        self.push(Lent::without_memory(sqe));
    }

    fn stats(&self) -> Stats {
        let in_flight = self.slots.borrow().in_flight();
        let buffers_out = self.driver.borrow().pool().outstanding();
        let timers = self.timers.borrow().armed();
        let enters = self.driver.borrow().enters();
        let short_waits_over = self.driver.borrow().short_waits_over();
        self.stats.snapshot(Stats {
            enters,
            short_waits_over,
            cpu_ns: sys::clock::thread_cpu_ns(),
            now_ns: self.now_ns.get(),
            tasks: self.tasks.live(),
            tasks_panicked: self.tasks.panicked.get(),
            operations_in_flight: in_flight,
            buffers_out: usize::from(buffers_out),
            timers,
            direct_used: self.direct.used(),
            ..Stats::default()
        })
    }

    /// Cancels everything and waits for the kernel's last word on each. False: some of it is still lent.
    fn drain(&self) -> bool {
        self.tasks.clear();
        self.push_for_nobody(Sqe::cancel_everything());
        let deadline = self.driver.borrow().now_ns() + DRAIN_MAX.as_nanos() as u64;
        loop {
            let mut driver = self.driver.borrow_mut();
            let in_flight = self.slots.borrow().in_flight();
            if in_flight == 0 && driver.queued() == 0 {
                return true;
            }
            if driver.now_ns() > deadline {
                return false;
            }
            let wait = Wait::For { completions: 1, timeout: Some(Duration::from_millis(20)) };
            let entered = driver.enter(if in_flight == 0 { Wait::No } else { wait });
            let mut reaped = Vec::new();
            driver.reap(&mut reaped);
            drop(driver);
            reaped.into_iter().for_each(|cqe| self.complete(cqe));
            self.hear_silence();
            if entered.is_err() {
                return false;
            }
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if !self.core.drain() {
            // The kernel may still write to what is lent: keep all of it, for ever.
            std::mem::forget(Rc::clone(&self.core));
        }
        mailbox::unregister(self.core.id);
        CORE.with(|core| drop(core.borrow_mut().take()));
    }
}

thread_local! {
    static CORE: RefCell<Option<Rc<Core>>> = const { RefCell::new(None) };
}

/// Runs `f` with this thread's core.
///
/// # Panics
/// Outside a runtime.
pub(crate) fn with_core<T>(f: impl FnOnce(&Core) -> T) -> T {
    CORE.with_borrow(|core| f(core.as_ref().expect("this needs a ucaffeine runtime on the thread")))
}

/// As `with_core`; `None` outside a runtime (a handle may be dropped after its runtime).
pub(crate) fn try_with_core<T>(f: impl FnOnce(&Core) -> T) -> Option<T> {
    CORE.try_with(|core| core.try_borrow().ok()?.as_ref().map(|core| f(core))).ok().flatten()
}

/// Starts a task on this core. It runs for as long as the runtime does, whether or not the handle is kept.
///
/// # Panics
/// Outside a runtime.
pub fn spawn<F: Future + 'static>(future: F) -> JoinHandle<F::Output> {
    let (task, handle) = task::joinable(future);
    with_core(|core| core.tasks.add(Box::pin(task)));
    handle
}

/// As [`spawn`], without a handle: one allocation, the future's own.
///
/// # Panics
/// Outside a runtime.
pub fn spawn_detached(future: impl Future<Output = ()> + 'static) {
    with_core(|core| core.tasks.add(Box::pin(future)));
}

/// Lets every other ready task run first.
pub async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// A handle through which other threads reach this one.
///
/// # Panics
/// Outside a runtime.
pub fn remote() -> Remote {
    with_core(|core| Remote::new(Arc::clone(&core.mailbox)))
}

/// What this core has counted so far.
///
/// # Panics
/// Outside a runtime.
pub fn stats() -> Stats {
    with_core(Core::stats)
}

/// Counts something that is done in this turn and leaves with it, as a reply does that the next enter sends: [`turn_times`]
/// then has one more of the time that the turn took. It costs one addition; the clock is read once a turn, for all of them.
///
/// # Panics
/// Outside a runtime.
pub fn leaves_with_turn() {
    with_core(|core| core.stats.leaves());
}

/// From the return of one enter to the next, once for each [`leaves_with_turn`].
///
/// # Panics
/// Outside a runtime.
pub fn turn_times() -> histogram::Times {
    with_core(|core| core.stats.turn_times.snapshot())
}

/// Wakes a task, from any thread.
fn wake(id: TaskId) {
    let here = try_with_core(|core| {
        let mine = core.id == id.runtime();
        if mine {
            core.wake(id);
        }
        mine
    });
    if here != Some(true) {
        mailbox::wake_elsewhere(id);
    }
}

/// Faults that the simulation plants to prove that it would find them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A slot keeps its generation, so a late cancel hits the slot's next tenant.
    GenerationIgnored,
    /// A send that was cut short is taken for whole.
    ShortSendIgnored,
    /// A receive that ended for want of a buffer is not armed again.
    EnobufsNotRearmed,
}

#[cfg(test)]
thread_local! {
    pub(crate) static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

#[cfg(test)]
pub(crate) fn planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

#[cfg(not(test))]
#[inline(always)]
pub(crate) fn planted(_: Bug) -> bool {
    false
}
