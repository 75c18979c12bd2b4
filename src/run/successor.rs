//! One process takes the place of another: the running one starts the binary again, as it is on the disk by now, and gives it its
//! listening sockets and its name; that one says when it could serve, is told to, and the first one drains.
//!
//! They talk over a socket, which is the standard input of the new one, in messages of JSON:
//!
//! | from | message | with |
//! |---|---|---|
//! | the old one | `addresses`, `lock` | the descriptors, in this message and in empty ones behind it |
//! | the new one | `ready`: `taken`, the addresses that it listens on | |
//! | | or `failed`: why | |
//! | the old one | `go`: from here on the new one serves, and the old one drains | |
//! | the new one | `settled`: it can be found and controlled | |

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde_json::{Value, json};
use ucaffeine::serve::Listener;
use ucaffeine::serve::options::Listen;

/// Tells a process that it is to take the place of the one of this number, if that is its parent.
const VARIABLE: &str = "_UCAFFEINE_SUCCEEDS";
/// Raised when an old process would misread a new one, or the other way round.
const VERSION: u64 = 1;
/// Descriptors in one message: SCM_MAX_FD is 253 (unix(7)).
const DESCRIPTORS_MAX: usize = 250;
/// One message: a few hundred addresses.
const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// How often the old one looks up while it waits.
const LOOK_UP_EVERY: Duration = Duration::from_millis(100);
/// How long one that is about to end has for that.
const LAST_WORDS_MAX: Duration = Duration::from_secs(5);
/// How long the new one waits for a word that is due at once.
const WORD_MAX: Duration = Duration::from_secs(30);

/// The program that this process was started as.
pub(crate) struct Binary {
    /// As it was typed, if that led to it: a link may lead to another version by now.
    typed: Option<PathBuf>,
    itself: PathBuf,
    /// Where relative paths of the command line begin.
    folder: PathBuf,
}

impl Binary {
    /// Of this process. To be asked for at its start.
    ///
    /// # Errors
    /// /proc is not mounted.
    pub(crate) fn of_this_process(folder: &Path) -> io::Result<Binary> {
        let itself = std::fs::read_link("/proc/self/exe")?;
        let typed = std::env::args_os().next().and_then(|typed| found(&typed, folder, std::env::var_os("PATH")));
        let typed = typed.filter(|path| path.canonicalize().is_ok_and(|path| path == itself));
        Ok(Binary { typed, itself, folder: folder.to_owned() })
    }

    /// Where its successor is: at the same path.
    fn path(&self) -> PathBuf {
        // The kernel says so of a file that was replaced (proc_pid_exe(5)).
        const DELETED: &[u8] = b" (deleted)";
        let itself = self.itself.as_os_str().as_bytes();
        let replaced = itself.strip_suffix(DELETED).filter(|_| !self.itself.exists());
        let itself = replaced.map_or(self.itself.as_path(), |path| Path::new(OsStr::from_bytes(path)));
        self.typed.as_deref().unwrap_or(itself).to_owned()
    }

    /// The same command line again, in the same folder, if that is still there.
    fn command(&self) -> Command {
        let mut arguments = std::env::args_os();
        let mut command = Command::new(self.path());
        command.arg0(arguments.next().unwrap_or_else(|| OsString::from("ucaffeine"))).args(arguments);
        command.current_dir(if self.folder.is_dir() { &self.folder } else { Path::new("/") });
        command
    }
}

/// As a shell finds it.
fn found(typed: &OsStr, folder: &Path, path: Option<OsString>) -> Option<PathBuf> {
    if typed.as_bytes().contains(&b'/') {
        return Some(folder.join(typed));
    }
    std::env::split_paths(&path?).map(|dir| folder.join(dir).join(typed)).find(|path| path.is_file())
}

/// What the old one gives away.
pub(crate) struct Estate {
    pub(crate) listeners: Vec<Listener>,
    /// Of an instance's name.
    pub(crate) lock: Option<OwnedFd>,
}

/// A process that is to take our place.
pub(crate) struct Successor {
    child: Child,
    line: OwnedFd,
    /// The addresses that it listens on, as they were asked for.
    pub(crate) taken: Vec<Listen>,
}

impl Successor {
    /// Starts it, and returns when it could serve. `gave_up`: whether it is not wanted any more.
    ///
    /// # Errors
    /// Why it does not; it has ended then.
    pub(crate) fn start(
        binary: &Binary,
        estate: Estate,
        patience: Duration,
        gave_up: impl Fn() -> bool,
    ) -> Result<Successor, String> {
        let until = Instant::now() + patience;
        let (line, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(|error| format!("no socket to talk to it: {error}"))?;
        let mut command = binary.command();
        command.stdin(Stdio::from(theirs)).env(VARIABLE, rustix::process::getpid().to_string());
        let child = command.spawn().map_err(|error| format!("{}: {error}", binary.path().display()))?;
        // What is left of their end is theirs alone: when they end, we hear of it.
        drop(command);
        let mut successor = Successor { child, line, taken: Vec::new() };
        match successor.prepare(&estate, until, gave_up) {
            Ok(taken) => Ok(Successor { taken, ..successor }),
            Err(trouble) => Err(successor.end(trouble)),
        }
    }

    fn prepare(&mut self, estate: &Estate, until: Instant, gave_up: impl Fn() -> bool) -> Result<Vec<Listen>, Trouble> {
        // What it does not take it does not know what to do with, and says so by what it does next.
        let _ = give(&self.line, estate);
        loop {
            if gave_up() {
                return Err(Trouble::Unwanted("this one was told to stop meanwhile"));
            }
            if Instant::now() >= until {
                return Err(Trouble::Unwanted("it was not ready in time (--upgrade-ms-max)"));
            }
            if !readable(&self.line, LOOK_UP_EVERY) {
                continue;
            }
            let Ok(Some((said, _))) = receive(&self.line) else { return Err(Trouble::Ended) };
            if let Some(why) = said["failed"].as_str() {
                return Err(Trouble::Failed(why.to_owned()));
            }
            let taken = said["ready"].as_bool().and_then(|_| said["taken"].as_array()?.iter().map(to_listen).collect());
            return taken.ok_or(Trouble::Unwanted("it said what this one does not understand"));
        }
    }

    /// Sees it to its end, and says what was wrong.
    fn end(mut self, trouble: Trouble) -> String {
        let will_end = match trouble {
            Trouble::Ended | Trouble::Failed(_) => readable(&self.line, LAST_WORDS_MAX),
            Trouble::Unwanted(_) => false,
        };
        if !will_end {
            let _ = self.child.kill();
        }
        let status = self.child.wait();
        match (trouble, status) {
            (Trouble::Failed(why), _) => why,
            (Trouble::Unwanted(why), _) => why.to_owned(),
            (Trouble::Ended, Ok(status)) => format!("it ended before it was ready: {status}"),
            (Trouble::Ended, Err(error)) => format!("it ended before it was ready: {error}"),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// From here on it serves.
    ///
    /// # Errors
    /// It has ended meanwhile, and said so.
    pub(crate) fn go(mut self) -> Result<Settling, String> {
        match send(&self.line, &json!({ "go": true }), &[]) {
            Ok(()) => Ok(Settling { line: self.line }),
            Err(error) => {
                let _ = self.child.kill();
                let _ = self.child.wait();
                Err(format!("it ended when it was about to serve ({error})"))
            }
        }
    }
}

/// Why a successor is none.
enum Trouble {
    /// It has said why, and ends.
    Failed(String),
    /// It has closed its end without a word.
    Ended,
    /// It would go on.
    Unwanted(&'static str),
}

/// A successor that serves, and arranges itself.
pub(crate) struct Settling {
    line: OwnedFd,
}

impl Settling {
    /// Returns when it can be found and controlled, or has waited long enough.
    pub(crate) fn wait(self) {
        if readable(&self.line, WORD_MAX) {
            let _ = receive(&self.line);
        }
    }
}

/// The process that this one is to take the place of.
pub(crate) struct Predecessor {
    line: OwnedFd,
    pub(crate) pid: u32,
}

impl Predecessor {
    /// If there is one, with what it gives us. Standard input is empty from then on.
    ///
    /// # Errors
    /// It has gone, or speaks another version.
    pub(crate) fn find(environment: &[(OsString, OsString)]) -> Result<Option<(Predecessor, Estate)>, String> {
        let told =
            environment.iter().find(|(name, _)| name == VARIABLE).and_then(|(_, pid)| pid.to_str()?.parse().ok());
        let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get());
        // The variable is inherited by whatever is started from here, and means only ourselves.
        let Some(pid) = told.filter(|&pid| Some(pid) == parent) else { return Ok(None) };
        let failed = |error: io::Error| format!("what pid {pid} gives us cannot be taken: {error}");
        let line = io::stdin().as_fd().try_clone_to_owned().map_err(failed)?;
        rustix::stdio::dup2_stdin(File::open("/dev/null").map_err(failed)?).map_err(|error| failed(error.into()))?;
        let estate = take(&line).map_err(failed)?;
        Ok(Some((Predecessor { line, pid: pid.unsigned_abs() }, estate)))
    }

    /// Says that we could serve, and waits for the word.
    ///
    /// # Errors
    /// It has changed its mind.
    pub(crate) fn ready(&self, taken: &[Listen]) -> Result<(), String> {
        let taken: Vec<Value> = taken.iter().map(from_listen).collect();
        let sent = send(&self.line, &json!({ "v": VERSION, "ready": true, "taken": taken }), &[]);
        let told = sent.and_then(|()| match readable(&self.line, WORD_MAX) {
            true => receive(&self.line),
            false => Err(io::ErrorKind::TimedOut.into()),
        });
        match told {
            Ok(Some((said, _))) if said["go"] == true => Ok(()),
            Ok(_) => Err(format!("pid {} goes on serving itself", self.pid)),
            Err(error) => Err(format!("pid {} does not say that we shall serve: {error}", self.pid)),
        }
    }

    /// We can be found.
    pub(crate) fn settled(self) {
        // It may have gone: it has nothing to do with us any more.
        let _ = send(&self.line, &json!({ "v": VERSION, "settled": true }), &[]);
    }

    pub(crate) fn failed(&self, why: &str) {
        let _ = send(&self.line, &json!({ "v": VERSION, "failed": why }), &[]);
    }
}

fn give(line: &OwnedFd, estate: &Estate) -> io::Result<()> {
    let address = |listener: &Listener| {
        json!({
            "asked": from_listen(&listener.asked), "bound": from_listen(&listener.bound), "kept": listener.kept,
            "for_metrics": listener.for_metrics,
            "sockets": listener.sockets.len(),
        })
    };
    let sockets = estate.listeners.iter().flat_map(|listener| &listener.sockets);
    let all: Vec<BorrowedFd<'_>> = estate.lock.iter().chain(sockets).map(AsFd::as_fd).collect();
    let addresses: Vec<Value> = estate.listeners.iter().map(address).collect();
    let first = json!({ "v": VERSION, "lock": estate.lock.is_some(), "addresses": addresses });
    let mut parts = all.chunks(DESCRIPTORS_MAX);
    send(line, &first, parts.next().unwrap_or_default())?;
    parts.try_for_each(|part| send(line, &json!({}), part))
}

fn take(line: &OwnedFd) -> io::Result<Estate> {
    let gone = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let unknown = || io::Error::new(io::ErrorKind::InvalidData, "another version of this program wrote it");
    let (said, mut all) = receive(line)?.ok_or_else(gone)?;
    if said["v"] != VERSION {
        return Err(unknown());
    }
    let addresses = said["addresses"].as_array().ok_or_else(unknown)?;
    let count =
        |address: &Value| address["sockets"].as_u64().and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
    let expected = addresses.iter().map(count).sum::<usize>() + usize::from(said["lock"] == true);
    while all.len() < expected {
        all.extend(receive(line)?.ok_or_else(gone)?.1);
    }
    let mut all = all.into_iter();
    let lock = if said["lock"] == true { all.next() } else { None };
    let listener = |address: &Value| {
        Some(Listener {
            asked: to_listen(&address["asked"])?,
            bound: to_listen(&address["bound"])?,
            kept: address["kept"].as_bool()?,
            // Who is older has none.
            for_metrics: address["for_metrics"].as_bool().unwrap_or(false),
            sockets: all.by_ref().take(count(address)).collect(),
        })
    };
    let listeners = addresses.iter().map(listener).collect::<Option<Vec<_>>>().ok_or_else(unknown)?;
    Ok(Estate { listeners, lock })
}

/// A path may be any bytes.
fn from_listen(listen: &Listen) -> Value {
    match listen {
        Listen::Tcp(address) => json!(address.to_string()),
        Listen::Unix(path) => json!(path.as_os_str().as_bytes()),
    }
}

fn to_listen(value: &Value) -> Option<Listen> {
    if let Some(address) = value.as_str() {
        return address.parse().ok().map(Listen::Tcp);
    }
    let byte = |value: &Value| u8::try_from(value.as_u64()?).ok();
    let path = value.as_array()?.iter().map(byte).collect::<Option<Vec<u8>>>()?;
    Some(Listen::Unix(PathBuf::from(OsString::from_vec(path))))
}

fn readable(line: &OwnedFd, patience: Duration) -> bool {
    let patience = Timespec::try_from(patience).ok();
    poll(&mut [PollFd::new(line, PollFlags::IN)], patience.as_ref()).is_ok_and(|count| count > 0)
}

fn send(line: &OwnedFd, what: &Value, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let text = what.to_string();
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut room);
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    sendmsg(line, &[IoSlice::new(text.as_bytes())], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The next message; `None` when the other end has gone.
fn receive(line: &OwnedFd) -> io::Result<Option<(Value, Vec<OwnedFd>)>> {
    let mut text = vec![0; MESSAGE_BYTES_MAX];
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut room);
    let received = recvmsg(line, &mut [IoSliceMut::new(&mut text)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    match received.bytes {
        0 => Ok(None),
        count => Ok(Some((serde_json::from_slice(&text[..count])?, descriptors))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_is_what_is_taken() {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let tcp = |port: u16| Listen::Tcp(([127, 0, 0, 1], port).into());
        let sockets = |count: usize| {
            let socket = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().into();
            (0..count).map(|_| socket()).collect::<Vec<OwnedFd>>()
        };
        let many = Listener { asked: tcp(0), bound: tcp(8080), kept: false, for_metrics: false, sockets: sockets(300) };
        let path = Listen::Unix(OsString::from_vec(b"/run/\xff".to_vec()).into());
        let one =
            Listener { asked: path.clone(), bound: path.clone(), kept: true, for_metrics: true, sockets: sockets(1) };
        let estate = Estate { listeners: vec![many, one], lock: Some(File::open("/dev/null").unwrap().into()) };
        let inodes = |estate: &Estate| -> Vec<u64> {
            let sockets = estate.listeners.iter().flat_map(|listener| &listener.sockets);
            sockets.chain(&estate.lock).map(|fd| rustix::fs::fstat(fd).unwrap().st_ino).collect()
        };
        give(&ours, &estate).unwrap();
        let taken = take(&theirs).unwrap();
        assert_eq!(inodes(&taken), inodes(&estate));
        assert_eq!((&taken.listeners[0].asked, &taken.listeners[0].bound), (&tcp(0), &tcp(8080)));
        assert_eq!((&taken.listeners[1].asked, taken.listeners[1].kept), (&path, true));
        assert_eq!((taken.listeners[0].for_metrics, taken.listeners[1].for_metrics), (false, true));
        drop(ours);
        assert!(take(&theirs).is_err_and(|error| error.kind() == io::ErrorKind::UnexpectedEof));
    }

    #[test]
    fn a_binary_is_looked_for_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let binary = |typed: Option<&str>, itself: &str| Binary {
            typed: typed.map(|typed| dir.path().join(typed)),
            itself: dir.path().join(itself),
            folder: dir.path().to_owned(),
        };
        assert_eq!(binary(None, "server (deleted)").path(), dir.path().join("server"));
        assert_eq!(binary(Some("current/server"), "v1/server").path(), dir.path().join("current/server"));
        std::fs::write(dir.path().join("odd (deleted)"), "").unwrap();
        assert_eq!(binary(None, "odd (deleted)").path(), dir.path().join("odd (deleted)"), "that is its name");
        std::fs::create_dir(dir.path().join("bin")).unwrap();
        std::fs::write(dir.path().join("bin/server"), "").unwrap();
        let by_path = |typed: &str| found(typed.as_ref(), dir.path(), Some("/nowhere:bin".into()));
        assert_eq!(by_path("server"), Some(dir.path().join("bin/server")));
        assert_eq!(by_path("./server"), Some(dir.path().join("./server")));
        assert_eq!(by_path("other"), None);
    }
}
