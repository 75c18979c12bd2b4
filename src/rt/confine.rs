//! What a start by the spawner does not set for a child: resource limits, nice value, umask, user and groups, a control group.
//!
//! A program of our own sets it and then becomes the child: the verb [`VERB`], which [`main`] is. It says what went wrong on
//! a pipe that the kernel closes when the child has been executed, so a failure is as well described as any other.
//! It costs the start of one more program, about a millisecond, and only where something of this was asked for.

pub mod groups;
mod user;
mod verb;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

pub use crate::rt::sys::spawn::Blame;
pub use user::User;
pub use verb::main;

use super::process::{self, Command, PipeReader, Priority};

/// The first argument of the program that sets all this.
pub const VERB: &str = "cgi-exec";

/// What a child shall be bound by. Nothing by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confinement {
    /// Seconds of CPU time; a signal (SIGXCPU) then, and a second later the end.
    pub cpu_s_max: Option<u64>,
    /// Bytes of address space.
    pub address_space_bytes_max: Option<u64>,
    /// Open descriptors.
    pub open_files_max: Option<u64>,
    /// Processes of the same user, all together.
    pub processes_max: Option<u64>,
    /// The longest file that may be written.
    pub file_bytes_max: Option<u64>,
    /// The longest core file.
    pub core_bytes_max: Option<u64>,
    /// The nice value.
    pub nice: Option<i32>,
    /// The umask.
    pub umask: Option<u32>,
    /// Who it is.
    pub user: Option<User>,
}

impl Confinement {
    /// Whether nothing was asked for.
    pub fn is_empty(&self) -> bool {
        *self == Confinement::default()
    }

    /// Changes a command so that `helper` is started, binds itself by this, and becomes the program. `group`: a control
    /// group to make and to join. The pipe has to be read to its end: [`started`].
    ///
    /// # Errors
    /// EMFILE, ENFILE: pipe(2).
    pub fn wrap(&self, helper: &Path, group: Option<&Path>, command: &mut Command) -> io::Result<PipeReader> {
        let (report, end) = process::stdout_pipe()?;
        let arguments = self.arguments(group).into_iter().map(OsString::into_vec);
        command.through(helper, arguments, end);
        if self.nice.is_some() {
            // A nice value cannot be lowered again without privileges: the helper starts from ours.
            command.priority(Priority::Batch);
        }
        Ok(report)
    }

    /// Tries all of it in a process that does nothing else. Blocking; for start-up.
    ///
    /// # Errors
    /// One line about what is not possible here, and why.
    pub fn probe(&self, helper: &Path, group: Option<&Path>) -> Result<(), String> {
        let mut command = std::process::Command::new(helper);
        command.args(self.arguments(group)).arg(verb::PROBE).stdin(std::process::Stdio::null());
        let output = command.output().map_err(|error| format!("cannot start {}: {error}", helper.display()))?;
        match output.status.success() && output.stdout == verb::PROBED {
            true => Ok(()),
            false => {
                let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                Err(if said.is_empty() { format!("{}: {}", helper.display(), output.status) } else { said })
            }
        }
    }

    /// The verb and what it is to set.
    fn arguments(&self, group: Option<&Path>) -> Vec<OsString> {
        let numbers = [
            ("cpu", self.cpu_s_max),
            ("as", self.address_space_bytes_max),
            ("nofile", self.open_files_max),
            ("nproc", self.processes_max),
            ("fsize", self.file_bytes_max),
            ("core", self.core_bytes_max),
            ("nice", self.nice.and_then(|nice| nice.try_into().ok())),
            ("umask", self.umask.map(u64::from)),
        ];
        let numbers = numbers.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value?).into()));
        let user = self.user.iter().map(|user| format!("user={user}").into());
        let group = group.into_iter().map(|group| {
            let mut argument = OsString::from("cgroup=");
            argument.push(group);
            argument
        });
        std::iter::once(VERB.into()).chain(numbers).chain(user).chain(group).collect()
    }

    /// The inverse, without the verb and up to the first argument that is not a setting.
    fn parse(
        arguments: &mut std::iter::Peekable<impl Iterator<Item = OsString>>,
    ) -> Option<(Confinement, Option<PathBuf>)> {
        let mut confinement = Confinement::default();
        let mut group = None;
        while let Some(argument) = arguments.next_if(|argument| argument != verb::PROGRAM && argument != verb::PROBE) {
            let bytes = argument.into_vec();
            let equals = bytes.iter().position(|&byte| byte == b'=')?;
            let value = OsString::from_vec(bytes.get(equals + 1..)?.to_vec());
            let number = || -> Option<u64> { value.to_str()?.parse().ok() };
            match bytes.get(..equals)? {
                b"cpu" => confinement.cpu_s_max = Some(number()?),
                b"as" => confinement.address_space_bytes_max = Some(number()?),
                b"nofile" => confinement.open_files_max = Some(number()?),
                b"nproc" => confinement.processes_max = Some(number()?),
                b"fsize" => confinement.file_bytes_max = Some(number()?),
                b"core" => confinement.core_bytes_max = Some(number()?),
                b"nice" => confinement.nice = Some(number()?.try_into().ok()?),
                b"umask" => confinement.umask = Some(number()?.try_into().ok()?),
                b"user" => confinement.user = Some(User::from_numbers(value.to_str()?)?),
                b"cgroup" => group = Some(value.into()),
                _ => return None,
            }
        }
        Some((confinement, group))
    }
}

/// A program that was to be started and was not: whose fault it is, and a line for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotStarted {
    /// Whose fault it is.
    pub blame: Blame,
    /// What went wrong.
    pub line: String,
}

impl fmt::Display for NotStarted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

/// Waits until the helper has become the program.
///
/// Dropped while waiting: whether it has is not known.
///
/// # Errors
/// [`NotStarted`].
pub async fn started(report: &PipeReader) -> Result<(), NotStarted> {
    let mut said = Vec::new();
    while let Ok(Some(bytes)) = report.read().await {
        said.extend_from_slice(&bytes);
    }
    verb::understand(&said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood() {
        let all = Confinement {
            cpu_s_max: Some(1),
            address_space_bytes_max: Some(u64::MAX),
            open_files_max: Some(3),
            processes_max: Some(4),
            file_bytes_max: Some(0),
            core_bytes_max: Some(6),
            nice: Some(19),
            umask: Some(0o777),
            user: User::from_numbers("1000:100:100,27"),
        };
        assert!(all.user.is_some());
        let group = Path::new("/sys/fs/cgroup/a b=c");
        for (confinement, group) in [(all, Some(group)), (Confinement::default(), None)] {
            let mut arguments = confinement.arguments(group).into_iter().chain(["--".into(), "/x".into()]).peekable();
            assert_eq!(arguments.next().unwrap(), VERB);
            let parsed = Confinement::parse(&mut arguments);
            assert_eq!(parsed, Some((confinement, group.map(Path::to_path_buf))));
            assert_eq!(arguments.next().unwrap(), "--");
        }
        for junk in ["", "cpu", "cpu=", "cpu=x", "color=1", "nice=-1", "user=1", "=", "nice=99999999999"] {
            let mut arguments = [OsString::from(junk)].into_iter().peekable();
            assert_eq!(Confinement::parse(&mut arguments), None, "{junk}");
        }
    }
}
