//! Building a runtime on the calling thread: the memory plan, the ring, and why there is none.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::Duration;

use super::direct::DirectTable;
use super::driver::{Driver, uring::Uring};
use super::mailbox::{self, Bell, Mailbox};
use super::op::{HELD_BUFFERS_MAX, Slots};
use super::sys::buf_ring::BufRing;
use super::sys::ring::{RingSizes, message_from_outside};
use super::{CORE, Core, Runtime, alarm, stats, sys, task, timer};

/// What a runtime is made with.
#[derive(Clone, Debug)]
pub struct Builder {
    sizes: RingSizes,
    spin: Duration,
    /// Runtimes of this process that share its locked memory.
    sharers: usize,
    helper_cpus: Vec<usize>,
}

impl Default for Builder {
    fn default() -> Builder {
        Builder::new()
    }
}

/// Ring sizes from the wish down to what fits into an unprivileged 8 MiB of RLIMIT_MEMLOCK next to 60 others.
const LADDER: [(u32, u32); 3] = [(1024, 8192), (512, 2048), (128, 512)];

impl Builder {
    /// The defaults: 256 receive buffers of 16 KiB, and as many direct descriptors as RLIMIT_NOFILE allows, up to 65,536.
    pub fn new() -> Builder {
        let (sq_entries, cq_entries) = LADDER[0];
        let direct_slots = sys::socket::nofile().min(1 << 16) as u32;
        let sizes = RingSizes { sq_entries, cq_entries, buffers: 256, buffer_bytes: 16 << 10, direct_slots };
        Builder { sizes, spin: Duration::ZERO, sharers: 1, helper_cpus: Vec::new() }
    }

    /// How many sockets the ring's own descriptor table holds; at most RLIMIT_NOFILE.
    pub fn direct_slots(mut self, slots: u32) -> Builder {
        self.sizes.direct_slots = slots.clamp(8, 1 << 20);
        self
    }

    /// How many runtimes this process is going to have: RLIMIT_MEMLOCK holds for all of them together, so the first must not
    /// take what the last one needs.
    pub fn sharers(mut self, runtimes: usize) -> Builder {
        self.sharers = runtimes.max(1);
        self
    }

    /// The receive buffers: `count` (a power of two up to 32,768) of `bytes` each. Memory is used only where data lands.
    ///
    /// # Panics
    /// If `count` is no such power.
    pub fn recv_buffers(mut self, count: u16, bytes: usize) -> Builder {
        assert!(count.is_power_of_two() && count <= 1 << 15, "{count} is not a power of two up to 32,768");
        (self.sizes.buffers, self.sizes.buffer_bytes) = (count, bytes);
        self
    }

    /// The CPUs that helper threads may run on ([`super::blocking`]); by default those of this thread, which may be pinned.
    pub fn helper_cpus(mut self, cpus: &[usize]) -> Builder {
        self.helper_cpus = cpus.to_owned();
        self
    }

    /// How long before a [`time::alarm`](super::time::alarm) the core stops sleeping and looks at the kernel again and
    /// again, because a sleeping CPU needs some microseconds to wake up. Zero by default. That time is in
    /// [`Stats::spun_ns`](super::Stats::spun_ns).
    pub fn spin(mut self, spin: Duration) -> Builder {
        self.spin = spin;
        self
    }

    /// A runtime on io_uring, for this thread.
    ///
    /// # Errors
    /// See [`Unavailable`]. The rings shrink before memory is refused.
    ///
    /// # Panics
    /// If this thread had a runtime before.
    pub fn build(self) -> Result<Runtime, Unavailable> {
        let share = memlock().map(|limit| limit / self.sharers as u64);
        let smallest = LADDER[LADDER.len() - 1];
        let mut last = None;
        for (sq_entries, cq_entries) in LADDER {
            let sizes = RingSizes { sq_entries, cq_entries, ..self.sizes };
            let fits = share.is_none_or(|share| locked_bytes(sizes) <= share);
            if !fits && (sq_entries, cq_entries) != smallest {
                continue;
            }
            match Uring::new(sizes) {
                Ok(uring) => return self.finish_uring(uring),
                Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => last = Some((error, sizes)),
                Err(error) => return Err(Unavailable::why(error, sizes)),
            }
        }
        let (error, sizes) = last.expect("the smallest rung is always tried");
        Err(Unavailable::why(error, sizes))
    }

    /// A runtime on a simulated kernel in that world, with these buffers and slots: `driver::sim` says what it plays.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn build_sim(self, world: &super::driver::sim::World) -> Runtime {
        let sim = super::driver::sim::Sim::new(world, self.sizes);
        self.finish(Driver::Sim(Box::new(sim)), Bell::None)
    }

    fn finish_uring(self, uring: Uring) -> Result<Runtime, Unavailable> {
        // Asked by doing it: a message to our own ring. The completion is a wake-up, which is always ignored.
        let by_ring = message_from_outside(uring.as_raw_fd(), super::Key::WAKE_UP.user_data()).is_ok();
        let bell = if by_ring {
            Bell::Ring(uring.as_raw_fd())
        } else {
            use rustix::event::{EventfdFlags, eventfd};
            let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
            Bell::EventFd(eventfd(0, flags).map_err(|error| Unavailable::Other(error.into()))?)
        };
        let runtime = self.finish(Driver::Uring(Box::new(uring)), bell);
        if !by_ring {
            runtime.core.tasks.add(Box::pin(mailbox::listen(std::sync::Arc::clone(&runtime.core.mailbox))));
        }
        Ok(runtime)
    }

    fn finish(self, driver: Driver, bell: Bell) -> Runtime {
        assert!(!HAD_RUNTIME.replace(true), "a thread has at most one ucaffeine runtime in its life");
        let (id, mailbox) = mailbox::register(|| Mailbox::new(bell)).expect("65,536 runtimes");
        let now_ns = driver.now_ns();
        let recv_total =
            u32::try_from(self.sizes.buffer_bytes).map_or(0, |bytes| bytes.saturating_mul(HELD_BUFFERS_MAX.into()));
        let direct = Rc::new(DirectTable::new(self.sizes.direct_slots));
        let core = Rc::new(Core {
            id,
            slots: Slots::new(Rc::clone(driver.pool()), Rc::clone(&direct)).into(),
            driver: driver.into(),
            tasks: task::Tasks::new(id),
            timers: timer::Wheel::new(now_ns / 1_000_000).into(),
            alarms: alarm::Alarms::default().into(),
            spin_ns: u64::try_from(self.spin.as_nanos()).unwrap_or(u64::MAX),
            direct,
            mailbox,
            stats: stats::Counters::default(),
            helpers: super::blocking::Helpers::new(&self.helper_cpus),
            main_woken: Cell::new(false),
            recv_total: Cell::new(recv_total),
            pushed: Cell::new(0),
            now_ns: Cell::new(now_ns),
            reaped: Vec::new().into(),
            due: Vec::new().into(),
            at_leisure: Vec::new().into(),
            running: Cell::new(false),
        });
        CORE.with(|current| *current.borrow_mut() = Some(Rc::clone(&core)));
        Runtime { core }
    }
}

thread_local! {
    static HAD_RUNTIME: Cell<bool> = const { Cell::new(false) };
}

/// Why there is no io_uring here. Displayed, it is one line with the cause and the remedy.
#[derive(Debug)]
#[non_exhaustive]
pub enum Unavailable {
    /// The kernel has no io_uring (ENOSYS): built without it, or hidden by a filter that answers so.
    Missing,
    /// `kernel.io_uring_disabled` is 1 (only for its group) or 2 (for nobody).
    Sysctl(u8),
    /// A seccomp filter forbids it (EPERM); Docker's default profile does.
    Seccomp,
    /// RLIMIT_MEMLOCK is too small for even the smallest ring.
    Memlock {
        /// What the limit is, in bytes; `None` when there is none and the kernel is out of memory for real.
        limit: Option<u64>,
        /// What one core's ring needs.
        needed: u64,
    },
    /// The kernel has io_uring but not what we ask of it.
    TooOld {
        /// `uname -r`.
        release: String,
    },
    /// RLIMIT_NOFILE is too small.
    Descriptors,
    /// Anything else.
    Other(io::Error),
}

impl Unavailable {
    fn why(error: io::Error, sizes: RingSizes) -> Unavailable {
        match error.raw_os_error() {
            Some(libc::ENOSYS) => Unavailable::Missing,
            Some(libc::EPERM | libc::EACCES) => match disabled_by_sysctl() {
                Some(value) if value > 0 => Unavailable::Sysctl(value),
                _ => Unavailable::Seccomp,
            },
            Some(libc::ENOMEM) => {
                let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
                Unavailable::Memlock { limit, needed: locked_bytes(sizes) }
            }
            Some(libc::EINVAL) => Unavailable::TooOld { release: release() },
            Some(libc::EMFILE | libc::ENFILE) => Unavailable::Descriptors,
            _ => Unavailable::Other(error),
        }
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unavailable::Missing => write!(
                f,
                "io_uring is missing (ENOSYS): kernel {} was built without it, or a seccomp filter hides it",
                release()
            ),
            Unavailable::Sysctl(value) => write!(
                f,
                "io_uring is switched off by sysctl (EPERM): kernel.io_uring_disabled = {value}; \
                 `sysctl kernel.io_uring_disabled=0` allows it"
            ),
            Unavailable::Seccomp => write!(
                f,
                "io_uring is forbidden by a seccomp filter (EPERM): a container's default profile does that; \
                 allow io_uring_setup, io_uring_enter and io_uring_register in it"
            ),
            Unavailable::Memlock { limit: Some(limit), needed } => write!(
                f,
                "io_uring got no memory (ENOMEM): RLIMIT_MEMLOCK (memlock) is {} KiB, shared by all of this user's rings; \
                 one core needs {} KiB; raise it (`ulimit -l`, LimitMEMLOCK=) or use fewer --cores",
                limit >> 10,
                needed >> 10
            ),
            Unavailable::Memlock { limit: None, needed } => {
                write!(f, "io_uring got no memory (ENOMEM): the kernel could not find {} KiB for a ring", needed >> 10)
            }
            Unavailable::TooOld { release } => {
                write!(f, "this kernel's io_uring is too old (EINVAL): it is {release}, and Linux 6.8 is needed")
            }
            Unavailable::Descriptors => {
                write!(f, "no descriptor left for an io_uring (EMFILE): RLIMIT_NOFILE is too small (`ulimit -n`)")
            }
            Unavailable::Other(error) => write!(f, "io_uring cannot be set up: {error}"),
        }
    }
}

impl std::error::Error for Unavailable {}

/// What a ring of these sizes charges against RLIMIT_MEMLOCK (Linux 6.14 on; root is exempt): its queues and the entries
/// of its buffer ring, in whole pages.
pub(crate) fn locked_bytes(sizes: RingSizes) -> u64 {
    let pages = |bytes: u64| bytes.next_multiple_of(4096);
    let submissions = pages(u64::from(sizes.sq_entries) * 64);
    let completions = pages(u64::from(sizes.cq_entries) * 16 + 4096);
    submissions + completions + pages(BufRing::locked_bytes(sizes.buffers))
}

/// What io_uring can do here, found out by setting one up on a thread of its own: (what, answer).
pub fn capabilities() -> Vec<(String, String)> {
    let probe = || match Builder::new().build() {
        Err(why) => vec![("io_uring".to_owned(), why.to_string())],
        Ok(runtime) => runtime.core.driver.borrow().describe(),
    };
    std::thread::spawn(probe).join().unwrap_or_default()
}

/// What may be locked, in bytes; `None` without a limit: none is set, or CAP_IPC_LOCK lifts it (getrlimit(2)).
fn memlock() -> Option<u64> {
    use rustix::thread::{CapabilitySet, capabilities};
    let exempt = capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    if exempt { None } else { rustix::process::getrlimit(rustix::process::Resource::Memlock).current }
}

/// Raises the soft RLIMIT_MEMLOCK to the hard one: rings are charged against it.
pub fn raise_memlock_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Memlock).maximum;
    // Allowed to anyone; refused only by a filter, and then the soft limit stands.
    let _ = setrlimit(Resource::Memlock, Rlimit { current: maximum, maximum });
}

/// The memlock plan: each rung of sizes, and what it needs on each core.
pub fn memlock_plan(cores: usize) -> Vec<(String, String)> {
    let limit = match rustix::process::getrlimit(rustix::process::Resource::Memlock).current {
        Some(limit) => format!("{} KiB", limit >> 10),
        None => "unlimited".to_owned(),
    };
    let sizes = Builder::new().sizes;
    let mut lines = vec![("RLIMIT_MEMLOCK".to_owned(), limit)];
    for (sq_entries, cq_entries) in LADDER {
        let needed = locked_bytes(RingSizes { sq_entries, cq_entries, ..sizes }) >> 10;
        let total = needed * cores as u64;
        lines.push((
            format!("ring of {sq_entries} + {cq_entries} entries"),
            format!("{needed} KiB a core, {total} KiB on {cores}"),
        ));
    }
    lines
}

fn disabled_by_sysctl() -> Option<u8> {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?.trim().parse().ok()
}

fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}
