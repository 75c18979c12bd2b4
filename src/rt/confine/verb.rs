//! The helper's side: a process that is about to become another. It has one thread, says at most one line, and that only on
//! its report pipe, since its stdout and stderr are already the program's.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use rustix::fs::Mode;
use rustix::process::{Gid, Resource, Rlimit, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::{Blame, Confinement, NotStarted, User};
use crate::rt::spawner::BUSY_RETRY_MS;
use crate::rt::sys::signal::{self, Signal};
use crate::rt::sys::spawn::{self, Cause, Command, SpawnError};

/// Before the program.
pub(super) const PROGRAM: &str = "--";
/// Instead of it: nothing is executed.
pub(super) const PROBE: &str = "--probe";
/// What a probe says when all is well.
pub(super) const PROBED: &[u8] = b"confined\n";

/// What a shell exits with when it could not execute a program. Nobody looks at it: the report says more.
const EXIT_NOT_EXECUTED: u8 = 127;

/// The verb [`VERB`](super::VERB): binds this process by what the arguments say (those after the verb) and becomes the
/// program. Returns only when that fails, or after a probe. For the first line of a program's `main`: nothing must have
/// been started yet.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let mut arguments = arguments.peekable();
    let asked = Confinement::parse(&mut arguments);
    let (kind, program) = (arguments.next(), arguments.next());
    match (asked, kind.as_deref().and_then(|kind| kind.to_str()), program) {
        (Some((confinement, group)), Some(PROBE), None) => match confinement.apply(group.as_deref()) {
            Ok(()) => {
                let said = io::stdout().write_all(PROBED);
                if said.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
            }
            Err(why) => {
                let _ = writeln!(io::stderr(), "{why}");
                ExitCode::FAILURE
            }
        },
        (Some((confinement, group)), Some(PROGRAM), Some(program)) => {
            let Some(report) = spawn::take_report() else { return EXIT_NOT_EXECUTED.into() };
            let failed = match confinement.apply(group.as_deref()) {
                Ok(()) => {
                    let error = execute(&program);
                    NotStarted { blame: error.blame(), line: error.to_string() }
                }
                Err(line) => NotStarted { blame: Blame::Server, line },
            };
            tell(report, &failed);
            EXIT_NOT_EXECUTED.into()
        }
        _ => {
            let _ = writeln!(io::stderr(), "this verb is for the server's own use");
            EXIT_NOT_EXECUTED.into()
        }
    }
}

/// Becomes the program, with this process's environment.
fn execute(program: &OsString) -> SpawnError {
    let mut command = Command::new(program);
    for (name, value) in std::env::vars_os() {
        command.env(name.as_encoded_bytes(), value.as_encoded_bytes());
    }
    // Rust's start-up code ignores it, and what is ignored stays so in the program.
    let _ = signal::set_default(Signal::PIPE);
    for pause_ms in BUSY_RETRY_MS {
        match spawn::replace(&command) {
            error if error.cause == Cause::Busy => thread::sleep(Duration::from_millis(pause_ms)),
            error => return error,
        }
    }
    spawn::replace(&command)
}

impl Confinement {
    /// All of it, to the calling thread: in an order in which each step is still allowed. The error is a line.
    fn apply(&self, group: Option<&Path>) -> Result<(), String> {
        if let Some(group) = group {
            join(group).map_err(|error| format!("cannot join the control group {}: {error}", group.display()))?;
        }
        if let Some(nice) = self.nice {
            let set = rustix::process::setpriority_process(None, nice);
            set.map_err(|errno| {
                refused(format_args!("nice value {nice}"), errno, "CAP_SYS_NICE to go below the server's own")
            })?;
        }
        if let Some(umask) = self.umask {
            rustix::process::umask(Mode::from_raw_mode(umask));
        }
        let limits = [
            ("CPU time", Resource::Cpu, self.cpu_s_max),
            ("open files", Resource::Nofile, self.open_files_max),
            ("processes", Resource::Nproc, self.processes_max),
            ("file size", Resource::Fsize, self.file_bytes_max),
            ("core size", Resource::Core, self.core_bytes_max),
            // The last, because it binds what follows.
            ("address space", Resource::As, self.address_space_bytes_max),
        ];
        for (name, resource, most) in limits.into_iter().filter_map(|(name, what, most)| Some((name, what, most?))) {
            // At the soft limit of CPU time comes a signal that can be handled, at the hard one the end.
            let hard = if resource == Resource::Cpu { most.saturating_add(1) } else { most };
            let set = rustix::process::setrlimit(resource, Rlimit { current: Some(most), maximum: Some(hard) });
            set.map_err(|errno| {
                refused(
                    format_args!("a limit of {most} on {name}"),
                    errno,
                    "a hard limit that is not below it (ulimit -H)",
                )
            })?;
        }
        self.user.as_ref().map_or(Ok(()), become_user)
    }
}

/// Groups first: without privileges they cannot be changed any more. All three of each kind, so that there is no way back.
fn become_user(user: &User) -> Result<(), String> {
    let groups: Vec<Gid> = user.groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    let changed = set_thread_groups(&groups)
        .and_then(|()| set_thread_res_gid(gid, gid, gid))
        .and_then(|()| set_thread_res_uid(uid, uid, uid));
    changed.map_err(|errno| refused(format_args!("user {} with group {}", user.uid, user.gid), errno, "root"))
}

fn refused(what: std::fmt::Arguments<'_>, errno: rustix::io::Errno, needs: &str) -> String {
    format!("cannot set {what}: {} (it needs {needs})", io::Error::from(errno))
}

/// Makes the group, and is its first member: everything that is started from here on is in it.
fn join(group: &Path) -> io::Result<()> {
    match fs::create_dir(group) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // cgroups(7): 0 is the writer.
    fs::write(group.join("cgroup.procs"), "0")
}

/// A letter for whose fault it is, and the line. One write, shorter than PIPE_BUF: it cannot block, nor come in parts.
fn tell(report: OwnedFd, failed: &NotStarted) {
    let mut bytes = vec![failed.blame.letter()];
    bytes.extend_from_slice(failed.line.as_bytes());
    bytes.truncate(REPORT_BYTES_MAX);
    // Nobody listens any more: then nobody wants to know.
    let _ = rustix::io::write(report, &bytes);
}

const REPORT_BYTES_MAX: usize = 4096;

/// Nothing was said: the report was closed by the kernel, and the program runs.
pub(super) fn understand(said: &[u8]) -> Result<(), NotStarted> {
    let Some((letter, line)) = said.split_first() else { return Ok(()) };
    Err(NotStarted { blame: Blame::from_letter(*letter), line: String::from_utf8_lossy(line).into_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn what_is_told_is_understood() {
        assert_eq!(understand(b""), Ok(()));
        for blame in [Blame::Missing, Blame::Forbidden, Blame::Shortage, Blame::Program, Blame::Server] {
            let failed = NotStarted { blame, line: "x".repeat(5000) };
            let (read, write) = rustix::pipe::pipe().unwrap();
            tell(write, &failed);
            let mut said = Vec::new();
            fs::File::from(read).read_to_end(&mut said).unwrap();
            let understood = understand(&said).unwrap_err();
            assert_eq!((understood.blame, understood.line.len()), (blame, REPORT_BYTES_MAX - 1));
        }
    }
}
