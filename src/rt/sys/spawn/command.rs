//! What to start: a program with its arguments, environment, directory and three descriptors.

use std::ffi::{CStr, CString, OsStr, c_char};
use std::fmt;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A program to start. It gets exactly what is said here: an empty environment unless variables are added, descriptors
/// 0, 1 and 2 and no others, a process group of its own (not a session: `kernel.sched_autogroup_enabled` gives every session
/// an equal share of the CPU, whatever its nice value), default signal actions and an empty signal mask.
pub struct Command {
    pub(super) program: CString,
    pub(super) arguments: CStrings,
    pub(super) environment: CStrings,
    pub(super) directory: Option<CString>,
    pub(super) stdin: Stdio,
    pub(super) stderr: Stdio,
    /// Descriptor 3, for a helper.
    pub(super) report: Option<OwnedFd>,
    pub(crate) priority: Priority,
    /// Something had a NUL inside, which no C string can carry: starting it fails with EINVAL.
    pub(super) has_nul: bool,
    /// The last to be dropped: whoever waits for its end wakes once, and finds that of stderr there, too.
    pub(super) stdout: Stdio,
}

/// What a child finds at one of its three descriptors.
#[derive(Debug, Default)]
pub enum Stdio {
    /// What this process has there.
    #[default]
    Inherit,
    /// `/dev/null`.
    Null,
    /// This one: a pipe's end, or a file at the offset where it stands. It is closed here once the child has its copy.
    Fd(OwnedFd),
}

/// What a child may take from the ring threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Priority {
    /// SCHED_BATCH and [`NICE_INCREMENT`](crate::rt::spawner::NICE_INCREMENT): the default.
    #[default]
    Background,
    /// SCHED_BATCH at this process's own nice value, for who sets another one later.
    Batch,
    /// As this process runs.
    Normal,
}

impl Command {
    /// `program` is resolved after the change to [`directory`](Command::directory), and never searched for in PATH. Its
    /// first argument, `argv[0]`, is the same path.
    pub fn new(program: impl AsRef<Path>) -> Command {
        let mut has_nul = false;
        let program = c_string(program.as_ref().as_os_str(), &mut has_nul);
        let mut arguments = CStrings::default();
        arguments.push(&[program.as_bytes()]);
        Command {
            program,
            arguments,
            environment: CStrings::default(),
            directory: None,
            stdin: Stdio::Null,
            stderr: Stdio::Inherit,
            report: None,
            priority: Priority::default(),
            has_nul,
            stdout: Stdio::Inherit,
        }
    }

    /// Adds an argument.
    pub fn arg(&mut self, argument: impl AsRef<OsStr>) -> &mut Command {
        self.has_nul |= !self.arguments.push(&[argument.as_ref().as_bytes()]);
        self
    }

    /// Lets `helper` become the program: it is started instead, with these arguments, `--` and the program's path, and with
    /// `report` at descriptor 3 (`take_report`).
    pub fn through(
        &mut self,
        helper: impl AsRef<Path>,
        arguments: impl IntoIterator<Item = Vec<u8>>,
        report: OwnedFd,
    ) -> &mut Command {
        let helper = c_string(helper.as_ref().as_os_str(), &mut self.has_nul);
        let program = std::mem::replace(&mut self.program, helper);
        self.arguments = CStrings::default();
        self.arguments.push(&[self.program.as_bytes()]);
        for argument in arguments {
            self.has_nul |= !self.arguments.push(&[&argument]);
        }
        self.arguments.push(&[b"--"]);
        self.arguments.push(&[program.as_bytes()]);
        self.report = Some(report);
        self
    }

    /// Adds a variable. A name that is given twice is there twice: the caller owns the set.
    pub fn env(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> &mut Command {
        self.has_nul |= !self.environment.push(&[name.as_ref(), b"=", value.as_ref()]);
        self
    }

    /// The working directory; this process's own without it.
    pub fn directory(&mut self, directory: impl AsRef<Path>) -> &mut Command {
        self.directory = Some(c_string(directory.as_ref().as_os_str(), &mut self.has_nul));
        self
    }

    /// Descriptor 0: `/dev/null` unless said otherwise.
    pub fn stdin(&mut self, stdin: Stdio) -> &mut Command {
        self.stdin = stdin;
        self
    }

    /// Descriptor 1: inherited unless said otherwise.
    pub fn stdout(&mut self, stdout: Stdio) -> &mut Command {
        self.stdout = stdout;
        self
    }

    /// Descriptor 2: inherited unless said otherwise.
    pub fn stderr(&mut self, stderr: Stdio) -> &mut Command {
        self.stderr = stderr;
        self
    }

    /// Background unless said otherwise. Only [`Spawner`](crate::rt::spawner::Spawner) reads it: by itself a child is
    /// scheduled as the thread that starts it.
    pub fn priority(&mut self, priority: Priority) -> &mut Command {
        self.priority = priority;
        self
    }

    /// Every variable, `NAME=VALUE`, in the order in which it was added.
    pub(crate) fn variables(&self) -> impl Iterator<Item = &[u8]> {
        // The last of the parts is what follows the last NUL: nothing.
        let bytes = self.environment.bytes.as_slice();
        bytes.split(|&byte| byte == 0).take(self.environment.starts.len())
    }

    pub(crate) fn program_path(&self) -> &Path {
        path(&self.program)
    }

    pub(crate) fn directory_path(&self) -> Option<&Path> {
        self.directory.as_deref().map(path)
    }
}

/// Without the environment, which holds credentials (HTTP_AUTHORIZATION, HTTP_COOKIE).
impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command")
            .field("program", &self.program)
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

/// A list of C strings in one allocation: an environment of forty variables costs two, not forty.
#[derive(Default)]
pub(super) struct CStrings {
    /// Each string with its NUL.
    bytes: Vec<u8>,
    /// Where each begins. Offsets, because `bytes` moves as it grows.
    starts: Vec<usize>,
}

impl CStrings {
    /// Appends one string, given in parts. `false`, and nothing appended, if there is a NUL in it.
    fn push(&mut self, parts: &[&[u8]]) -> bool {
        if parts.iter().any(|part| part.contains(&0)) {
            return false;
        }
        self.starts.push(self.bytes.len());
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.bytes.push(0);
        true
    }

    /// The null-terminated array that `execve` takes. The pointers are into `self` and good until it changes.
    pub(super) fn pointers(&self) -> Vec<*mut c_char> {
        let base = self.bytes.as_ptr();
        // `wrapping_add` stays inside: every start is less than the length, since each string has at least its NUL.
        let strings = self.starts.iter().map(|&start| base.wrapping_add(start).cast_mut().cast());
        strings.chain([std::ptr::null_mut()]).collect()
    }
}

fn c_string(string: &OsStr, has_nul: &mut bool) -> CString {
    CString::new(string.as_bytes()).unwrap_or_else(|_| {
        *has_nul = true;
        CString::default()
    })
}

fn path(string: &CStr) -> &Path {
    Path::new(OsStr::from_bytes(string.to_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_lie_end_to_end_with_their_nuls() {
        let mut list = CStrings::default();
        assert!(list.push(&[b"A", b"=", b"1"]));
        assert!(list.push(&[b""]));
        assert!(!list.push(&[b"B=", b"x\0y"]));
        assert!(list.push(&[b"C="]));
        assert_eq!(list.bytes, b"A=1\0\0C=\0");
        assert_eq!(list.starts, [0, 4, 5]);
        let pointers = list.pointers();
        assert_eq!(pointers.len(), 4);
        assert!(pointers[3].is_null());
    }

    #[test]
    fn debug_shows_no_credentials() {
        let mut command = Command::new("/bin/true");
        command.env("HTTP_AUTHORIZATION", "Basic c2VjcmV0");
        assert!(!format!("{command:?}").contains("c2VjcmV0"));
    }
}
