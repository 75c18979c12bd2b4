//! Why a program did not start, in one line that says what to do about it.
//!
//! `execve` has one number for many causes: ENOENT for a script whose interpreter is missing looks like ENOENT for the
//! script. The files are looked at once more after the failure, which happens on the spawner's thread and may block.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::Access;
use rustix::io::Errno;

use super::Command;

/// The kernel looks for `#!` and the interpreter's path in this much of the file (BINPRM_BUF_SIZE, include/uapi/linux/binfmts.h).
const FIRST_LINE_BYTES_MAX: usize = 256;

/// A program that could not be started. Displays as one line for the operator, never for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpawnError {
    /// What the kernel answered.
    pub errno: Errno,
    /// What that most likely means.
    pub cause: Cause,
    /// The program.
    pub path: PathBuf,
}

/// What went wrong. Seen after the fact: `Display` says what is so now, `errno` what was then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The program is not there.
    Missing,
    /// A directory above the program may not be searched.
    Unreachable,
    /// It is a directory, a device, a pipe.
    NotAFile,
    /// The working directory is missing or may not be entered.
    Directory(PathBuf),
    /// No execute permission for this user.
    NotExecutable,
    /// Permissions are fine, and still EACCES: a `noexec` mount or a security module.
    Forbidden,
    /// An empty file.
    Empty,
    /// Text without a `#!` line.
    NoInterpreterLine,
    /// A UTF-8 byte order mark hides the `#!`.
    ByteOrderMark,
    /// A `#!` line that names nothing, or whose path does not fit into what the kernel reads of it.
    BadInterpreterLine,
    /// The interpreter's name ends with a carriage return: the script was saved with CRLF line ends.
    InterpreterWithCr(PathBuf),
    /// The script's interpreter is not there.
    InterpreterMissing(PathBuf),
    /// The script's interpreter may not be executed.
    InterpreterNotExecutable(PathBuf),
    /// A binary whose dynamic loader is not there.
    LoaderMissing,
    /// A binary for another machine.
    WrongMachine,
    /// Open for writing somewhere (ETXTBSY).
    Busy,
    /// Arguments and environment are larger than the kernel takes.
    TooBig,
    /// No more processes: RLIMIT_NPROC, `pids.max` or `kernel.pid_max`.
    ProcessLimit,
    /// No memory.
    Memory,
    /// No descriptors left, here or in the system.
    Descriptors,
    /// A NUL inside the program's path, an argument, a variable or the directory.
    Nul,
    /// The spawner was stopped first.
    Stopped,
    /// Nothing above: the errno has to do.
    Other,
}

/// Whose fault it is that a program does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// Nobody's: it is not there.
    Missing,
    /// It is there, and may not be executed.
    Forbidden,
    /// The machine is short of something: later it may run.
    Shortage,
    /// The program's own.
    Program,
    /// Of who wanted to start it.
    Server,
}

impl Blame {
    const LETTERS: [(u8, Blame); 5] = [
        (b'm', Blame::Missing),
        (b'f', Blame::Forbidden),
        (b's', Blame::Shortage),
        (b'p', Blame::Program),
        (b'S', Blame::Server),
    ];

    pub(crate) fn letter(self) -> u8 {
        Blame::LETTERS.iter().find(|(_, blame)| *blame == self).map_or(b'S', |(letter, _)| *letter)
    }

    pub(crate) fn from_letter(letter: u8) -> Blame {
        Blame::LETTERS.iter().find(|(known, _)| *known == letter).map_or(Blame::Server, |(_, blame)| *blame)
    }
}

impl SpawnError {
    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        match self.cause {
            Cause::Missing => Blame::Missing,
            Cause::NotExecutable | Cause::Forbidden | Cause::NotAFile | Cause::Unreachable => Blame::Forbidden,
            Cause::ProcessLimit | Cause::Memory | Cause::Descriptors | Cause::Stopped => Blame::Shortage,
            Cause::Nul | Cause::TooBig | Cause::Directory(_) => Blame::Server,
            _ => Blame::Program,
        }
    }

    /// Whether trying later may help: shortages, and a file that is being written.
    pub fn is_transient(&self) -> bool {
        use Cause::*;
        matches!(self.cause, Busy | ProcessLimit | Memory | Descriptors | Stopped)
    }

    pub(crate) fn new(command: &Command, errno: Errno, cause: Cause) -> SpawnError {
        SpawnError { errno, cause, path: command.program_path().to_owned() }
    }

    /// Looks for the cause of what a start returned.
    pub(super) fn diagnose(command: &Command, errno: Errno) -> SpawnError {
        let cause = match errno {
            Errno::TOOBIG => Cause::TooBig,
            Errno::AGAIN => Cause::ProcessLimit,
            Errno::NOMEM => Cause::Memory,
            Errno::MFILE | Errno::NFILE => Cause::Descriptors,
            Errno::TXTBSY => Cause::Busy,
            Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::NOEXEC => {
                let directory = command.directory_path();
                let resolve = |path: &Path| directory.map_or_else(|| path.to_owned(), |directory| directory.join(path));
                match directory.filter(|directory| !may_enter(directory)) {
                    Some(directory) => Cause::Directory(directory.to_owned()),
                    None => inspect(&resolve(command.program_path()), errno, resolve),
                }
            }
            _ => Cause::Other,
        };
        SpawnError::new(command, errno, cause)
    }
}

fn may_enter(directory: &Path) -> bool {
    directory.is_dir() && rustix::fs::access(directory, Access::EXEC_OK).is_ok()
}

/// What is wrong with the program's file. `resolve` makes a path absolute as the child would see it.
fn inspect(program: &Path, errno: Errno, resolve: impl Fn(&Path) -> PathBuf) -> Cause {
    let metadata = match fs::metadata(program) {
        Ok(metadata) => metadata,
        Err(error) if error.raw_os_error() == Some(Errno::ACCESS.raw_os_error()) => return Cause::Unreachable,
        Err(_) => return Cause::Missing,
    };
    if !metadata.is_file() {
        return Cause::NotAFile;
    }
    let head = first_bytes(program);
    let interpreter = interpreter_of(&head).map(Path::new);
    match (errno, interpreter) {
        (Errno::NOENT | Errno::NOTDIR, Some(path)) if path.as_os_str().as_bytes().ends_with(b"\r") => {
            Cause::InterpreterWithCr(path.to_owned())
        }
        (Errno::NOENT | Errno::NOTDIR, Some(path)) => Cause::InterpreterMissing(path.to_owned()),
        (Errno::NOENT, None) if head.starts_with(b"\x7fELF") => Cause::LoaderMissing,
        (Errno::ACCESS, _) if !may_execute(program, &metadata) => Cause::NotExecutable,
        (Errno::ACCESS, Some(path)) if !is_executable(&resolve(path)) => {
            Cause::InterpreterNotExecutable(path.to_owned())
        }
        (Errno::ACCESS, _) => Cause::Forbidden,
        (Errno::NOEXEC, _) => unrecognised(&head),
        _ => Cause::Other,
    }
}

/// What ENOEXEC means for a file that begins like this.
fn unrecognised(head: &[u8]) -> Cause {
    match head {
        [] => Cause::Empty,
        [b'#', b'!', ..] => Cause::BadInterpreterLine,
        [0xef, 0xbb, 0xbf, b'#', b'!', ..] => Cause::ByteOrderMark,
        [0x7f, b'E', b'L', b'F', ..] => Cause::WrongMachine,
        _ => Cause::NoInterpreterLine,
    }
}

/// The path on a `#!` line, as `fs/binfmt_script.c` reads it: after blanks, up to a blank, NUL or the line's end. A carriage
/// return is part of it.
fn interpreter_of(head: &[u8]) -> Option<&OsStr> {
    let line = head.strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
    let path = line.split(|&byte| matches!(byte, b' ' | b'\t' | 0)).find(|word| !word.is_empty())?;
    Some(OsStr::from_bytes(path))
}

/// Nothing if the file cannot be read: a binary may be executable and not readable.
fn first_bytes(program: &Path) -> Vec<u8> {
    let mut head = Vec::with_capacity(FIRST_LINE_BYTES_MAX);
    if let Ok(file) = File::open(program) {
        // An error leaves what was read so far, and that is what there is to say.
        let _ = file.take(FIRST_LINE_BYTES_MAX as u64).read_to_end(&mut head);
    }
    head
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && may_execute(path, &metadata))
}

/// The mode as well as access(2): on a `noexec` mount the latter says EACCES whatever the mode is.
fn may_execute(path: &Path, metadata: &Metadata) -> bool {
    let denied = rustix::fs::access(path, Access::EXEC_OK) == Err(Errno::ACCESS);
    metadata.permissions().mode() & 0o111 != 0 && (!denied || is_noexec(path))
}

fn is_noexec(path: &Path) -> bool {
    rustix::fs::statvfs(path).is_ok_and(|facts| facts.f_flag.contains(rustix::fs::StatVfsMountFlags::NOEXEC))
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot start {}: {}", shown(&self.path), self.cause)?;
        match self.cause {
            // The kernel was never asked.
            Cause::Nul | Cause::Stopped => Ok(()),
            Cause::Other => write!(f, "{}", std::io::Error::from(self.errno)),
            _ => write!(f, ": {}", std::io::Error::from(self.errno)),
        }
    }
}

/// The likely cause, in words. Nothing where the errno has to do.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Missing => f.write_str("the file does not exist"),
            Cause::Unreachable => f.write_str("a directory above it may not be searched by this user"),
            Cause::NotAFile => f.write_str("not a regular file"),
            Cause::Directory(path) => {
                write!(f, "its working directory {} is missing or may not be entered", shown(path))
            }
            Cause::NotExecutable => f.write_str("this user may not execute it (chmod +x)"),
            Cause::Forbidden => f.write_str("a noexec mount or a security module forbids it"),
            Cause::Empty => f.write_str("the file is empty"),
            Cause::NoInterpreterLine => f.write_str("exec format error: the script has no #! line"),
            Cause::ByteOrderMark => f.write_str("exec format error: a byte order mark comes before the #! line"),
            Cause::BadInterpreterLine => {
                f.write_str("exec format error: the #! line names no interpreter, or is too long")
            }
            Cause::InterpreterWithCr(path) => {
                write!(f, "CRLF line end after the interpreter {} (save the script with LF line ends)", shown(path))
            }
            Cause::InterpreterMissing(path) => write!(f, "its interpreter {} does not exist", shown(path)),
            Cause::InterpreterNotExecutable(path) => write!(f, "its interpreter {} may not be executed", shown(path)),
            Cause::LoaderMissing => f.write_str("its dynamic loader does not exist (a binary for another system?)"),
            Cause::WrongMachine => f.write_str("exec format error: a binary for another kind of machine"),
            Cause::Busy => f.write_str("the file is open for writing"),
            Cause::TooBig => f.write_str("arguments and environment are too large together"),
            Cause::ProcessLimit => f.write_str("no more processes (RLIMIT_NPROC, pids.max or kernel.pid_max)"),
            Cause::Memory => f.write_str("out of memory"),
            Cause::Descriptors => f.write_str("no file descriptors left (ulimit -n, fs.file-max)"),
            Cause::Nul => f.write_str("a NUL in its path, an argument, a variable or the directory"),
            Cause::Stopped => f.write_str("the server is stopping"),
            Cause::Other => Ok(()),
        }
    }
}

impl std::error::Error for SpawnError {}

/// A path on one line of a log: control characters escaped.
fn shown(path: &Path) -> impl fmt::Display + '_ {
    let text = String::from_utf8_lossy(path.as_os_str().as_bytes());
    text.chars().flat_map(|c| c.escape_debug()).collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interpreter_is_what_the_kernel_takes() {
        let cases: [(&[u8], Option<&str>); 9] = [
            (b"#!/bin/sh\necho", Some("/bin/sh")),
            (b"#! \t/bin/sh -e\n", Some("/bin/sh")),
            (b"#!/bin/sh\r\n", Some("/bin/sh\r")),
            (b"#!/bin/sh", Some("/bin/sh")),
            (b"#!/bin/sh\0x\n", Some("/bin/sh")),
            (b"#!\n/bin/sh\n", None),
            (b"#!", None),
            (b"echo", None),
            (b"", None),
        ];
        for (head, path) in cases {
            assert_eq!(interpreter_of(head), path.map(OsStr::new), "{}", head.escape_ascii());
        }
    }

    #[test]
    fn a_path_cannot_break_the_log_line() {
        let error = SpawnError { errno: Errno::NOENT, cause: Cause::Missing, path: "/x\n\x1b[31mé".into() };
        assert_eq!(
            error.to_string(),
            "cannot start /x\\n\\u{1b}[31mé: the file does not exist: No such file or directory (os error 2)"
        );
    }
}
