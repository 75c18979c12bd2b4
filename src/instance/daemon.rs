//! Starting in the background. The binary runs itself once more, with the same command line and a hidden flag; that one leaves
//! the terminal, and says through a pipe, which is its standard input, when it serves.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};

use super::folders::private;
use super::{Failed, Folders, Name};

/// The hidden flag; its value says how the answer is to look.
pub(crate) const FLAG: &str = "in-background";

/// The last line on the pipe of one that serves.
const SERVING: &str = "serving\n";
/// Of what one that does not serve has said.
const LAST_WORDS_BYTES_MAX: u64 = 64 << 10;

/// Starts this command line in the background, and returns when it serves.
///
/// # Errors
/// What it said instead, with the exit code that it had.
pub(crate) fn start(folders: &Folders, name: &Name, look: &str) -> Result<(), Failed> {
    let failed = |what: &str, error: io::Error| Failed::new(format!("cannot start {name}: {what}: {error}"));
    let log = open_log(folders, name).map_err(|error| failed("its log", error))?;
    let begin = log.metadata().map_or(0, |facts| facts.len());
    let (mut said, say) = io::pipe().map_err(|error| failed("a pipe", error))?;
    let mut arguments = std::env::args_os();
    let itself = std::env::current_exe().map_err(|error| failed("its own binary", error))?;
    let mut command = Command::new(itself);
    command.arg0(arguments.next().unwrap_or_else(|| OsString::from("ucaffeine")));
    command.args(arguments).arg(format!("--{FLAG}={look}"));
    command.stdin(Stdio::from(OwnedFd::from(say)));
    command.stdout(log.try_clone().map_err(|error| failed("its log", error))?).stderr(log);
    let mut child = command.spawn().map_err(|error| failed("its own binary", error))?;
    // The child has the other end of the pipe now, and nobody else.
    drop(command);
    let mut text = String::new();
    let _ = said.read_to_string(&mut text);
    if let Some(banner) = text.strip_suffix(SERVING) {
        let _ = io::stdout().write_all(banner.as_bytes());
        return Ok(());
    }
    let status = child.wait().map_err(|error| failed("it cannot be waited for", error))?;
    let mut why = last_words(&folders.log(name), begin).unwrap_or_default();
    if let Some(signal) = status.signal() {
        why.push_str(&format!("ucaffeine: {name} was ended by signal {signal} before it served\n"));
    }
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Err(Failed { code, why })
}

/// In the one that was started: leaves the terminal. Returns what [`serving`] needs.
///
/// # Errors
/// dup(2), open(2).
pub(crate) fn detach() -> io::Result<OwnedFd> {
    let say = io::stdin().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    // EPERM: it leads a session already, which is all that is wanted.
    let _ = rustix::process::setsid();
    Ok(say)
}

/// Tells whoever started this that it serves.
///
/// # Errors
/// EPIPE: whoever it was has gone.
pub(crate) fn serving(say: &OwnedFd, banner: &str) -> io::Result<()> {
    let said = rustix::io::write(say, format!("{banner}{SERVING}").as_bytes());
    said.map(|_| ()).map_err(io::Error::from)
}

/// In the one that was started: both outputs go to what is the log now, after the old one was moved away.
///
/// # Errors
/// open(2), dup(2); then they go where they went.
pub(crate) fn reopen_log(log: &Path) -> io::Result<()> {
    let log = append_to(log)?;
    rustix::stdio::dup2_stdout(&log)?;
    rustix::stdio::dup2_stderr(&log)?;
    Ok(())
}

fn open_log(folders: &Folders, name: &Name) -> io::Result<File> {
    private(&folders.state(name))?;
    append_to(&folders.log(name))
}

fn append_to(log: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(log)
}

/// What was written to the log since.
fn last_words(log: &Path, begin: u64) -> io::Result<String> {
    let mut file = File::open(log)?;
    file.seek(SeekFrom::Start(begin))?;
    let mut words = Vec::new();
    file.take(LAST_WORDS_BYTES_MAX).read_to_end(&mut words)?;
    Ok(String::from_utf8_lossy(&words).into_owned())
}
