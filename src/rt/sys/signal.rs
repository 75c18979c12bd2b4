//! Signal sets, masks and default actions.

use std::io;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd};

pub use rustix::process::Signal;

/// A set of signals, as `sigset_t` has it.
#[derive(Clone, Copy)]
pub struct SignalSet(libc::sigset_t);

impl SignalSet {
    /// No signal.
    pub fn empty() -> SignalSet {
        SignalSet::filled_with(0)
    }

    /// Every signal, 32 and 33 included: `sigfillset` leaves out these two, glibc's own, and a child that is started with
    /// that set inherits them as ignored.
    pub fn every() -> SignalSet {
        SignalSet::filled_with(0xff)
    }

    /// These signals.
    pub fn of(signals: &[Signal]) -> SignalSet {
        let mut set = SignalSet::empty();
        for signal in signals {
            // SAFETY: `set.0` is an initialised set that only we refer to. A `Signal` is a valid number, so that EINVAL,
            // the one error, cannot be.
            unsafe { libc::sigaddset(&mut set.0, signal.as_raw()) };
        }
        set
    }

    /// Every signal but these.
    pub fn every_but(signals: &[Signal]) -> SignalSet {
        let mut set = SignalSet::every();
        for signal in signals {
            // SAFETY: as in `of`.
            unsafe { libc::sigdelset(&mut set.0, signal.as_raw()) };
        }
        set
    }

    pub(super) fn as_ptr(&self) -> *const libc::sigset_t {
        &self.0
    }

    fn filled_with(byte: u8) -> SignalSet {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: the write covers exactly the one `sigset_t` that the pointer is to.
        unsafe { set.as_mut_ptr().write_bytes(byte, 1) };
        // SAFETY: every byte has just been written, and `sigset_t` is an array of integers: any bits are a value.
        SignalSet(unsafe { set.assume_init() })
    }
}

/// The calling thread's signals are blocked until this is dropped. A thread started meanwhile inherits the mask, without
/// a moment in which a signal could be delivered to it.
#[must_use = "dropping it restores the mask"]
pub struct Blocked {
    before: libc::sigset_t,
    /// A mask belongs to its thread: the guard must not be dropped in another one.
    _not_send: PhantomData<*mut ()>,
}

/// Blocks `signals` in the calling thread.
pub fn block(signals: &SignalSet) -> Blocked {
    let mut before = SignalSet::empty().0;
    // SAFETY: both pointers are to initialised sets that outlive the call. It fails (EINVAL) only for an unknown `how`.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, signals.as_ptr(), &mut before) };
    Blocked { before, _not_send: PhantomData }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // SAFETY: `before` is the mask that `block` was given by the kernel; a null third argument asks for nothing.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, std::ptr::null_mut()) };
    }
}

/// Gives `signal` its default action in this process.
///
/// A process that waits for its children needs it for SIGCHLD: one that was started with SIGCHLD ignored (a parent may do
/// that) has its children reaped by the kernel, and neither their status nor their pid is its own any more.
pub fn set_default(signal: Signal) -> io::Result<()> {
    // SAFETY: `sigaction` is integers, an integer-sized handler and an optional function pointer: all zeroes is a value, and
    // the zero handler is SIG_DFL.
    let action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: `action` outlives the call, and SIG_DFL installs no code of ours that could run in a signal's context.
    match unsafe { libc::sigaction(signal.as_raw(), &action, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The signals that do not have their default action in this process, by number: those that it ignores, or has a handler for.
/// All of them where /proc cannot tell.
pub fn altered() -> Vec<i32> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
    };
    let masks = mask("SigIgn:").zip(mask("SigCgt:")).map_or(u64::MAX, |(ignored, caught)| ignored | caught);
    let is_settable = |signal: &i32| ![Signal::KILL.as_raw(), Signal::STOP.as_raw()].contains(signal);
    (1..=64).filter(|signal| masks & 1 << (signal - 1) != 0).filter(is_settable).collect()
}

/// A descriptor that reads as one `signalfd_siginfo` per pending signal of the set (signalfd(2)), CLOEXEC and
/// non-blocking. The signals must be blocked in every thread, or they go to their action first.
pub fn signalfd(signals: &SignalSet) -> io::Result<OwnedFd> {
    // SAFETY: the set outlives the call; -1 asks for a new descriptor.
    let fd = unsafe { libc::signalfd(-1, signals.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just returned this descriptor to us, and nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A mask of this thread, from /proc/thread-self/status.
    fn mask(name: &str) -> u64 {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    }

    #[test]
    fn blocking_lasts_as_long_as_the_guard_and_a_new_thread_inherits_it() {
        let before = mask("SigBlk:");
        let guard = block(&SignalSet::of(&[Signal::USR1, Signal::TERM]));
        let wanted = before | 1 << (Signal::USR1.as_raw() - 1) | 1 << (Signal::TERM.as_raw() - 1);
        assert_eq!(mask("SigBlk:"), wanted);
        assert_eq!(std::thread::spawn(|| mask("SigBlk:")).join().unwrap(), wanted);
        drop(guard);
        assert_eq!(mask("SigBlk:"), before);
    }

    #[test]
    fn a_signalfd_receives_what_is_blocked() {
        let set = SignalSet::of(&[Signal::USR2]);
        let _guard = block(&set);
        let fd = signalfd(&set).unwrap();
        // SAFETY: raise(3) sends to the calling thread, where the signal is blocked: no action runs.
        assert_eq!(unsafe { libc::raise(libc::SIGUSR2) }, 0);
        let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
        assert_eq!(rustix::io::read(&fd, &mut info).unwrap(), info.len());
        assert_eq!(u32::from_ne_bytes(info[..4].try_into().unwrap()), libc::SIGUSR2 as u32);
        assert_eq!(rustix::io::read(&fd, &mut info), Err(rustix::io::Errno::AGAIN));
    }
}
