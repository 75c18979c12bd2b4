//! The child between its birth and its program. It runs in our memory, on a stack of its own, while the thread that started
//! it stands still: only system calls, no allocation, no lock, no panic.

use std::ffi::{c_char, c_int, c_void};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicI32, Ordering};

use super::super::signal::SignalSet;
use super::{Command, Priority, REPORT_FD};

/// Everything that a child needs to know; made by its parent, read by the child.
pub(super) struct Child<'a> {
    program: *const c_char,
    arguments: *const *mut c_char,
    environment: *const *mut c_char,
    /// Null: our own.
    directory: *const c_char,
    /// What descriptors 0, 1 and 2 become copies of (nothing: they stay what they are here), and the report, if there is one.
    sources: [Option<RawFd>; 4],
    /// No descriptor above this one is copied.
    last_source: RawFd,
    /// Which signals get their default action again.
    altered: &'a [c_int],
    is_batch: bool,
    unblocked: SignalSet,
    /// Why the program was not executed; 0 if it was.
    pub(super) errno: AtomicI32,
    /// The pointers are into these.
    _borrowed: PhantomData<&'a Command>,
}

impl<'a> Child<'a> {
    /// Both arrays end with a null.
    pub(super) fn new(
        command: &'a Command,
        sources: [Option<RawFd>; 4],
        last_source: RawFd,
        altered: &'a [c_int],
        arguments: &'a [*mut c_char],
        environment: &'a [*mut c_char],
    ) -> Child<'a> {
        Child {
            program: command.program.as_ptr(),
            arguments: arguments.as_ptr(),
            environment: environment.as_ptr(),
            directory: command.directory.as_deref().map_or(std::ptr::null(), |directory| directory.as_ptr()),
            sources,
            last_source,
            altered,
            is_batch: command.priority != Priority::Normal,
            unblocked: SignalSet::empty(),
            errno: AtomicI32::new(0),
            _borrowed: PhantomData,
        }
    }

    /// What the child does: `child` points to a `Child`.
    pub(super) extern "C" fn run(child: *mut c_void) -> c_int {
        // SAFETY: `Launcher::start` passes a `Child` that outlives this function, because its thread waits for us; it is only
        // read, but for the atomic.
        let child = unsafe { &*child.cast::<Child<'_>>() };
        // errno is the waiting thread's: we share its thread-local storage, and it looks at it only for a failed clone.
        child.errno.store(child.become_the_program(), Ordering::Relaxed);
        // SAFETY: ends this process without running anything of the parent's.
        unsafe { libc::_exit(127) }
    }

    /// Returns only if that failed, with its errno.
    fn become_the_program(&self) -> c_int {
        // SAFETY: takes two integers. A group of its own, with the child's pid.
        if unsafe { libc::setpgid(0, 0) } != 0 {
            return errno();
        }
        // Until here the descriptor table is the parent's. Now it becomes our own, and what is above the sources is not even
        // copied: a server may have a thousand files open, and copying and closing them costs more than all of the rest.
        if close_range(self.last_source + 1, CLOSE_RANGE_UNSHARE) != 0 {
            return errno();
        }
        for (target, source) in (0..).zip(self.sources) {
            // SAFETY: takes two integers, and acts on the child's own table. The source is never the target (`Launcher::new`),
            // so that CLOEXEC is not copied.
            if source.is_some_and(|source| unsafe { libc::dup2(source, target) } < 0) {
                return errno();
            }
        }
        // SAFETY: a C string that `Command` owns.
        if !self.directory.is_null() && unsafe { libc::chdir(self.directory) } != 0 {
            return errno();
        }
        // Everything of ours is CLOEXEC; this is for what we inherited, and for what a library opened without it.
        let first_other = if self.sources[REPORT_FD as usize].is_some() { REPORT_FD + 1 } else { REPORT_FD };
        if close_range(first_other, 0) != 0 {
            return errno();
        }
        if self.is_batch {
            // SAFETY: `sched_param` is a struct of integers, for which all zeroes is a value (and the one that BATCH demands).
            let param: libc::sched_param = unsafe { MaybeUninit::zeroed().assume_init() };
            // A refusal (a seccomp filter) costs politeness, not correctness.
            // SAFETY: the kernel reads one `sched_param`, which outlives the call; 0 is this process.
            unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &param) };
        }
        for &signal in self.altered {
            set_default(signal);
        }
        // SAFETY: an initialised set; a null third argument asks for nothing. It fails only for an unknown `how`.
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, self.unblocked.as_ptr(), std::ptr::null_mut()) };
        // SAFETY: both arrays end with a null and point to NUL-terminated strings (`Child::new`).
        unsafe { libc::execve(self.program, self.arguments.cast(), self.environment.cast()) };
        errno()
    }
}

/// close_range(2), 5.9 (`linux/close_range.h`).
const CLOSE_RANGE_UNSHARE: u32 = 1 << 1;

fn close_range(first: RawFd, flags: u32) -> i64 {
    // SAFETY: takes three integers; with UNSHARE it acts on the child's own table from then on, and later calls do, too.
    unsafe { libc::syscall(libc::SYS_close_range, first, c_int::MAX, flags) }
}

/// By the bare call: the C library refuses to speak of signals 32 and 33, which it uses itself.
fn set_default(signal: c_int) {
    // `struct sigaction` of the kernel is at most four words, and all zeroes is SIG_DFL in any order of its fields.
    let action = [0usize; 4];
    // SAFETY: the kernel reads one such structure, and a set of 8 bytes at its end; a null third argument asks for nothing.
    // Handlers are not shared with the parent: there is no CLONE_SIGHAND. It fails for KILL and STOP, which are never altered.
    unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, &raw const action, 0usize, 8usize) };
}

fn errno() -> c_int {
    // SAFETY: a pointer to the calling thread's errno, which is the waiting thread's.
    unsafe { *libc::__errno_location() }
}

/// Room for the child's few frames. One child at a time uses it, and its parent waits for that one to have left it.
pub(super) struct Stack(Box<[MaybeUninit<Page>; STACK_PAGES]>);

/// Aligned as the ABIs want a stack to be.
#[repr(align(64))]
#[derive(Clone, Copy)]
struct Page(#[expect(dead_code, reason = "nobody reads a stack by its name")] [u8; 4096]);

/// 16 KiB: `run` and the C library's wrappers need less than one.
const STACK_PAGES: usize = 4;

impl Stack {
    pub(super) fn new() -> Stack {
        Stack(Box::new([MaybeUninit::uninit(); STACK_PAGES]))
    }

    /// Its end: on all our machines a stack grows down.
    pub(super) fn top(&mut self) -> *mut c_void {
        self.0.as_mut_ptr_range().end.cast()
    }
}
