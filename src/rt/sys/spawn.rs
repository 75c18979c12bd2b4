//! Starting a program by `posix_spawn`.
//!
//! glibc makes the child by CLONE_VM|CLONE_VFORK: no page table is copied, whatever the size of this process, and the calling
//! thread (only that one) stands still until the child has executed the program or failed to. So the error of `execve`, and
//! of every step before it, comes back as `posix_spawn`'s own; and so a ring's thread must not call this.
//! Why posix_spawn, and what it costs: docs/decisions/0004-spawning.md.

mod command;
mod error;
mod process;

use std::ffi::{CStr, c_int};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::fs::FileType;
use rustix::io::{Errno, FdFlags};
use rustix::process::Pid;

use super::signal::SignalSet;
pub use command::{Command, Priority, Stdio};
pub use error::{Blame, Cause, SpawnError};
pub(crate) use process::kill_group_of;
pub use process::{Process, exit_status};

/// Starts the program and blocks until it has been executed, or has failed to. The child inherits how the calling thread is
/// scheduled: policy, nice value and CPUs.
pub fn spawn(command: &Command) -> Result<Process, SpawnError> {
    if command.has_nul {
        return Err(SpawnError::new(command, Errno::INVAL, Cause::Nul));
    }
    start(command).and_then(Process::adopt).map_err(|errno| SpawnError::diagnose(command, errno))
}

fn start(command: &Command) -> Result<Pid, Errno> {
    let lifted = lift(command)?;
    let actions = FileActions::of(command, &lifted)?;
    let attributes = Attributes::new()?;
    let (arguments, environment) = (command.arguments.pointers(), command.environment.pointers());
    let mut pid = 0;
    // SAFETY: both arrays end with a null and point to NUL-terminated strings in `command`, which is borrowed for the call;
    // `actions` and `attributes` were initialised by their constructors. In the child, which shares our memory until it
    // executes the program, only glibc's own code runs, with all signals blocked.
    let errno = unsafe {
        libc::posix_spawn(
            &mut pid,
            command.program.as_ptr(),
            &actions.0,
            &attributes.0,
            arguments.as_ptr(),
            environment.as_ptr(),
        )
    };
    check(errno)?;
    Pid::from_raw(pid).ok_or(Errno::SRCH)
}

/// Becomes the program, with the descriptors, the directory and the attributes of this process. Returns only if it cannot.
pub fn replace(command: &Command) -> SpawnError {
    let (arguments, environment) = (command.arguments.pointers(), command.environment.pointers());
    // SAFETY: both arrays end with a null and point to NUL-terminated strings in `command`, which is borrowed for the call.
    unsafe { libc::execve(command.program.as_ptr(), arguments.as_ptr().cast(), environment.as_ptr().cast()) };
    let errno = Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL);
    SpawnError::diagnose(command, errno)
}

/// A helper's way to say what went wrong: the descriptor that [`Command::through`] has put there, closed when the program
/// is executed. `None`: this process is no helper.
pub fn take_report() -> Option<OwnedFd> {
    // SAFETY: the number is only looked at, by fcntl, which refuses one that is not open (EBADF).
    let report = unsafe { BorrowedFd::borrow_raw(REPORT_FD) };
    let is_pipe = rustix::fs::fstat(report).is_ok_and(|facts| FileType::from_raw_mode(facts.st_mode) == FileType::Fifo);
    if !is_pipe || rustix::io::fcntl_setfd(report, FdFlags::CLOEXEC).is_err() {
        return None;
    }
    // SAFETY: it is open (fstat), and the verb calls this once, before anything else has been opened: nobody else has it.
    Some(unsafe { OwnedFd::from_raw_fd(REPORT_FD) })
}

/// What each of the descriptors is copied from: the usual three, and the report.
type Sources = [Option<OwnedFd>; 4];

/// Copies of those given descriptors that are themselves among the targets, at numbers above. The child's copies are made
/// one after the other, and without this the first could overwrite the source of the next.
fn lift(command: &Command) -> Result<Sources, Errno> {
    let mut lifted = Sources::default();
    let last = if command.report.is_some() { REPORT_FD } else { 2 };
    let stdios = [&command.stdin, &command.stdout, &command.stderr].into_iter();
    let given = stdios.map(|stdio| if let Stdio::Fd(fd) = stdio { Some(fd) } else { None });
    for (copy, fd) in lifted.iter_mut().zip(given.chain([command.report.as_ref()])) {
        if let Some(fd) = fd
            && fd.as_raw_fd() <= last
        {
            *copy = Some(rustix::io::fcntl_dupfd_cloexec(fd, last + 1)?);
        }
    }
    Ok(lifted)
}

/// Where a helper finds its report.
const REPORT_FD: RawFd = 3;

/// `posix_spawn_file_actions_t`: what the child does to its descriptors and directory, in order.
struct FileActions(libc::posix_spawn_file_actions_t);

impl FileActions {
    fn of(command: &Command, lifted: &Sources) -> Result<FileActions, Errno> {
        let mut actions = FileActions::empty()?;
        let stdios = [&command.stdin, &command.stdout, &command.stderr];
        for (target, (stdio, lifted)) in (0..).zip(stdios.into_iter().zip(lifted)) {
            match (stdio, lifted) {
                (Stdio::Inherit, _) => {}
                (Stdio::Null, _) => actions.open_null(target)?,
                (Stdio::Fd(_), Some(fd)) | (Stdio::Fd(fd), None) => actions.dup2(fd, target)?,
            }
        }
        if let Some(directory) = &command.directory {
            actions.change_directory(directory)?;
        }
        let first_other = match &command.report {
            Some(report) => {
                actions.dup2(lifted[3].as_ref().unwrap_or(report), REPORT_FD)?;
                REPORT_FD + 1
            }
            None => 3,
        };
        // Everything of ours is CLOEXEC; this is for what we inherited, and for what a library opened without it.
        actions.close_from(first_other)?;
        Ok(actions)
    }

    fn empty() -> Result<FileActions, Errno> {
        let mut raw = MaybeUninit::uninit();
        // SAFETY: the pointer is to memory for one such object, which the call initialises.
        check(unsafe { libc::posix_spawn_file_actions_init(raw.as_mut_ptr()) })?;
        // SAFETY: it returned 0, and has thus initialised it.
        Ok(FileActions(unsafe { raw.assume_init() }))
    }

    fn open_null(&mut self, target: RawFd) -> Result<(), Errno> {
        let flags = if target == 0 { libc::O_RDONLY } else { libc::O_WRONLY };
        // SAFETY: the object is initialised (`empty`); the call copies the path.
        check(unsafe { libc::posix_spawn_file_actions_addopen(&mut self.0, target, c"/dev/null".as_ptr(), flags, 0) })
    }

    fn dup2(&mut self, source: &OwnedFd, target: RawFd) -> Result<(), Errno> {
        // SAFETY: the object is initialised (`empty`); the numbers are only noted. The source stays open until
        // posix_spawn has returned, because `start` borrows or owns it.
        check(unsafe { libc::posix_spawn_file_actions_adddup2(&mut self.0, source.as_raw_fd(), target) })
    }

    fn change_directory(&mut self, directory: &CStr) -> Result<(), Errno> {
        // SAFETY: the object is initialised (`empty`); the call copies the path.
        check(unsafe { libc::posix_spawn_file_actions_addchdir_np(&mut self.0, directory.as_ptr()) })
    }

    /// glibc 2.34; one close_range(2) in the child.
    fn close_from(&mut self, first: RawFd) -> Result<(), Errno> {
        // SAFETY: the object is initialised (`empty`); the number is only noted.
        check(unsafe { libc::posix_spawn_file_actions_addclosefrom_np(&mut self.0, first) })
    }
}

impl Drop for FileActions {
    fn drop(&mut self) {
        // SAFETY: initialised by `empty`, destroyed once.
        unsafe { libc::posix_spawn_file_actions_destroy(&mut self.0) };
    }
}

/// `posix_spawnattr_t`: a group of its own, every signal at its default, none blocked. Rust's start-up code ignores
/// SIGPIPE, and a script that inherits that goes on writing to a client that has left (`yes | head -1` never ends).
struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    fn new() -> Result<Attributes, Errno> {
        let mut raw = MaybeUninit::uninit();
        // SAFETY: the pointer is to memory for one such object, which the call initialises.
        check(unsafe { libc::posix_spawnattr_init(raw.as_mut_ptr()) })?;
        // SAFETY: it returned 0, and has thus initialised it.
        let mut attributes = Attributes(unsafe { raw.assume_init() });
        let flags = libc::POSIX_SPAWN_SETPGROUP | libc::POSIX_SPAWN_SETSIGDEF | libc::POSIX_SPAWN_SETSIGMASK;
        // SAFETY: initialised above. The three flags are 0x0e together: nothing is lost in a short.
        check(unsafe { libc::posix_spawnattr_setflags(&mut attributes.0, flags as libc::c_short) })?;
        // SAFETY: initialised above; 0 is "a new group with the child's pid".
        check(unsafe { libc::posix_spawnattr_setpgroup(&mut attributes.0, 0) })?;
        // SAFETY: initialised above; the set is copied.
        check(unsafe { libc::posix_spawnattr_setsigdefault(&mut attributes.0, SignalSet::every().as_ptr()) })?;
        // SAFETY: initialised above; the set is copied.
        check(unsafe { libc::posix_spawnattr_setsigmask(&mut attributes.0, SignalSet::empty().as_ptr()) })?;
        Ok(attributes)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: initialised by `new`, destroyed once.
        unsafe { libc::posix_spawnattr_destroy(&mut self.0) };
    }
}

/// The posix_spawn family returns its errno instead of setting it.
fn check(errno: c_int) -> Result<(), Errno> {
    match errno {
        0 => Ok(()),
        errno => Err(Errno::from_raw_os_error(errno)),
    }
}

/// Room for what a wait on the ring finds out.
pub(crate) struct ChildInfo(libc::siginfo_t);

impl ChildInfo {
    pub(crate) fn room(&mut self) -> *mut libc::siginfo_t {
        &mut self.0
    }

    pub(crate) fn siginfo(&self) -> &libc::siginfo_t {
        &self.0
    }
}

impl Default for ChildInfo {
    fn default() -> ChildInfo {
        // SAFETY: `siginfo_t` is plain integers and padding: all zeroes is a value.
        ChildInfo(unsafe { std::mem::zeroed() })
    }
}

#[cfg(test)]
mod tests;
