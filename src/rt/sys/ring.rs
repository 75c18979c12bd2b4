//! One io_uring: set-up with its fallbacks, submission, and the one `io_uring_enter` of a turn.
//!
//! The mappings and queues are the `io-uring` crate's; flags, entries and the enter call are ours.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use io_uring::{IoUring, cqueue, squeue, types};

use super::buf_ring::BufRing;
use super::clock;
use super::lent::Lent;
use super::read_pool::ReadPool;
use super::sqe::{BUF_GROUP, Cqe, Sqe, op};
use super::standing::{End, Standing};

/// `io_uring_enter` flags.
const ENTER_GETEVENTS: u32 = 1 << 0;
const ENTER_EXT_ARG: u32 = 1 << 3;
const ENTER_NO_IOWAIT: u32 = 1 << 7;

/// A ring and its pool, for the thread that made them.
pub(crate) struct Ring {
    ring: IoUring<squeue::Entry, cqueue::Entry>,
    enter_flags: u32,
    enters: u64,
    /// Declared after `ring`: the ring closes before the pool's memory goes.
    pool: Rc<BufRing>,
    /// And before these.
    standing: Standing,
}

/// Sizes of a ring, from the memlock plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RingSizes {
    pub(crate) sq_entries: u32,
    pub(crate) cq_entries: u32,
    pub(crate) buffers: u16,
    pub(crate) buffer_bytes: usize,
    pub(crate) direct_slots: u32,
}

/// How long a turn may wait in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Submit and come back.
    Submit,
    /// Submit, run what is ready, come back.
    No,
    /// Until `completions` are there or the time is over (`None`: for ever).
    For { completions: u32, timeout: Option<Duration> },
}

impl Ring {
    /// Sets up a ring for the calling thread only (SINGLE_ISSUER).
    ///
    /// # Errors
    /// ENOSYS (no io_uring), EPERM (sysctl or seccomp), ENOMEM (memlock), EINVAL (a kernel before 6.1),
    /// EMFILE (`direct_slots` over RLIMIT_NOFILE); `rt::unavailable` turns them into a sentence.
    pub(crate) fn new(sizes: RingSizes) -> io::Result<Ring> {
        let pool = Rc::new(BufRing::new(sizes.buffers, sizes.buffer_bytes)?);
        // NO_SQARRAY is 6.6; every other flag is 6.1 or older.
        let ring = match builder(sizes).setup_no_sqarray().build(sizes.sq_entries) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => builder(sizes).build(sizes.sq_entries)?,
            other => other?,
        };
        require_operations(&ring)?;
        ring.submitter().register_files_sparse(sizes.direct_slots)?;
        let (address, entries) = pool.registration();
        // SAFETY: the entries live in `pool`, which this ring keeps until after it is closed.
        unsafe { ring.submitter().register_buf_ring_with_flags(address, entries, BUF_GROUP, 0) }?;
        // Cold opens, read-ahead, and reads where a file system cannot wait by itself are what may reach io-wq; a burst of
        // them must not become a burst of threads.
        ring.submitter().register_iowq_max_workers(&mut [4, 2])?;
        let params = ring.params();
        let no_iowait = if params.is_feature_no_iowait() { ENTER_NO_IOWAIT } else { 0 };
        Ok(Ring { enter_flags: no_iowait, enters: 0, ring, pool, standing: Standing::new() })
    }

    pub(crate) fn pool(&self) -> &Rc<BufRing> {
        &self.pool
    }

    /// Tells the kernel the buffers of a pool, once in the ring's life (5.1): it then knows their pages.
    ///
    /// # Errors
    /// ENOMEM (memlock: they are charged in full), EBUSY (done before).
    pub(crate) fn register_buffers(&self, pool: &ReadPool) -> io::Result<()> {
        // SAFETY: the vectors are parts of the pool's mapping. The kernel takes a reference to each page, so nothing that
        // becomes of the mapping later can make it write to memory that is somebody else's.
        unsafe { self.ring.submitter().register_buffers(&pool.registration()) }
    }

    /// Queues an entry for the next enter. Gives it back where the queue is full.
    pub(crate) fn push(&mut self, lent: Lent) -> Result<(), Lent> {
        let entry = to_crate_entry(lent.sqe());
        // SAFETY: `Lent` is the promise that what the entry points to outlives the operation.
        match unsafe { self.ring.submission().push(&entry) } {
            Ok(()) => Ok(()),
            Err(_full) => Err(lent),
        }
    }

    /// Timers for short waits that were over so far.
    pub(crate) fn short_waits_over(&self) -> u64 {
        self.standing.count_over()
    }

    /// `io_uring_enter` calls so far.
    pub(crate) fn enters(&self) -> u64 {
        self.enters
    }

    /// How many entries wait for the next enter.
    pub(crate) fn queued(&mut self) -> usize {
        self.ring.submission().len()
    }

    /// The one syscall of a turn: submits everything queued, runs deferred completions, and waits.
    ///
    /// DEFER_TASKRUN: completions appear only in here, at most max(20, `completions`) a pass, and only with GETEVENTS.
    pub(crate) fn enter(&mut self, wait: Wait) -> io::Result<()> {
        let wait = self.without_timeout(wait);
        let submit = self.queued() as u32;
        let mut timespec = types::Timespec::new();
        let mut args = types::SubmitArgs::new();
        let (completions, timeout) = match wait {
            Wait::Submit | Wait::No => (0, None),
            Wait::For { completions, timeout } => (completions, timeout),
        };
        if let Some(timeout) = timeout {
            timespec = types::Timespec::from(timeout);
        }
        if timeout.is_some() {
            args = args.timespec(&timespec);
        }
        let events = if wait == Wait::Submit { 0 } else { ENTER_GETEVENTS };
        let flags = events | ENTER_EXT_ARG | self.enter_flags;
        self.enters += 1;
        // SAFETY: `args` and `timespec` are the kernel's `io_uring_getevents_arg` and its timespec, alive for the call.
        let entered = unsafe { self.ring.submitter().enter(submit, completions, flags, Some(&args)) };
        match entered {
            Ok(_submitted) => Ok(()),
            Err(error) => match error.raw_os_error() {
                // ETIME: the time was over. EINTR: a signal. EBUSY: completions overflowed; the reap makes room.
                // EAGAIN: out of request memory for now. All of them: look at the completions and go round again.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// The same wait, ended by a completion where that is cheaper. Where several completions are waited for, one more ends nothing.
    fn without_timeout(&mut self, wait: Wait) -> Wait {
        let Wait::For { completions: 1, timeout: Some(timeout) } = wait else { return wait };
        let stands = match self.standing.end(timeout, clock::monotonic_ns()) {
            End::Stands => true,
            End::Own => false,
            End::Arm(entry, user_data) => {
                let is_queued = self.push(entry).is_ok();
                if !is_queued {
                    self.standing.is_over(user_data);
                }
                is_queued
            }
        };
        if stands { Wait::For { completions: 1, timeout: None } } else { wait }
    }

    /// What this kernel's ring can do, for people: (what, answer).
    pub(crate) fn describe(&self) -> Vec<(String, String)> {
        let params = self.ring.params();
        let yes = |has: bool, instead: &str| if has { "yes".to_owned() } else { format!("no: {instead}") };
        let outside = message_from_outside(self.as_raw_fd(), u64::MAX).is_ok();
        [
            ("io_uring", format!("yes, {} + {} entries", params.sq_entries(), params.cq_entries())),
            ("waits are not iowait (6.15)", yes(params.is_feature_no_iowait(), "an idle server shows as iowait")),
            ("messages from any thread (6.13)", yes(outside, "an eventfd wakes the cores")),
        ]
        .map(|(what, answer)| (what.to_owned(), answer))
        .into()
    }

    /// Whether the kernel has taken every entry, and keeps no completion back for want of room in the queue.
    pub(crate) fn is_settled(&mut self) -> bool {
        let queue = self.ring.submission();
        queue.is_empty() && !queue.cq_overflow()
    }

    /// Calls `f` for each completion that is there now: one look at the tail for all of them.
    pub(crate) fn reap_all(&mut self, mut f: impl FnMut(Cqe)) {
        for cqe in self.ring.completion().filter(|cqe| !self.standing.is_over(cqe.user_data())) {
            f(Cqe { user_data: cqe.user_data(), result: cqe.result(), flags: cqe.flags() });
        }
    }
}

impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}

/// The newest operation that there is no way around: FIXED_FD_INSTALL, 6.8. A kernel that has it has the others.
fn require_operations(ring: &IoUring<squeue::Entry, cqueue::Entry>) -> io::Result<()> {
    let mut probe = io_uring::Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    match probe.is_supported(op::FIXED_FD_INSTALL) {
        true => Ok(()),
        false => Err(io::Error::from_raw_os_error(libc::EINVAL)),
    }
}

/// SINGLE_ISSUER and DEFER_TASKRUN: completions run when we ask, on our core. TASKRUN_FLAG: a submit that waits for
/// nothing still sees them. SUBMIT_ALL: one bad entry does not hold back the rest. CLAMP: sizes are wishes.
fn builder(sizes: RingSizes) -> io_uring::Builder<squeue::Entry, cqueue::Entry> {
    let mut builder = IoUring::<squeue::Entry, cqueue::Entry>::builder();
    builder
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_clamp()
        .setup_cqsize(sizes.cq_entries);
    builder
}

fn to_crate_entry(sqe: &Sqe) -> squeue::Entry {
    const { assert!(size_of::<Sqe>() == size_of::<squeue::Entry>()) };
    // SAFETY: both are the kernel's 64-byte `struct io_uring_sqe`, repr(C), without padding; any bits are valid.
    unsafe { std::mem::transmute::<Sqe, squeue::Entry>(*sqe) }
}

/// Posts a completion to a ring from a thread that has none (REGISTER_SEND_MSG_RING, 6.13).
pub(crate) fn message_from_outside(target: RawFd, user_data: u64) -> io::Result<()> {
    const REGISTER_SEND_MSG_RING: libc::c_uint = 31;
    let sqe = Sqe::msg_ring(target, user_data);
    // SAFETY: the argument is one entry, alive for the call; MSG_RING with data points to no other memory.
    let done = unsafe { libc::syscall(libc::SYS_io_uring_register, -1, REGISTER_SEND_MSG_RING, &raw const sqe, 1) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
