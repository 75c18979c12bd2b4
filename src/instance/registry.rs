//! Which instances there are. The truth about "it runs" is a lock, held for as long as its process lives and let go by the
//! kernel whatever the end was like; what is written down beside it only helps to find that process.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::{Value, json};

use super::folders::{private, private_or_given, take_back};
use super::{Folders, Name};

const LOCK: &str = "lock";
const STATE: &str = "state.json";
pub(super) const SOCKET: &str = "control.sock";
/// A socket that is about to become that.
pub(super) const SOCKET_DRAFT: &str = "control.new";

/// An instance's folder, and the word that it is ours until this is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    folder: PathBuf,
    /// Where the folder is another user's, and the way to it may be closed.
    given: Option<OwnedFd>,
}

/// What a running instance has written down about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) pid: i32,
    /// Clock ticks from boot to its start, and which boot: a pid alone may be anybody's by now.
    pub(crate) start_ticks: u64,
    pub(crate) boot_id: String,
    pub(crate) started_unix_s: u64,
    pub(crate) argv: Vec<String>,
    pub(crate) addresses: Vec<String>,
    /// Where its output goes, if that is ours to know.
    pub(crate) log: Option<String>,
    /// The folder that it was told to serve in place of its own.
    pub(crate) dir: Option<String>,
}

/// What there is of an instance.
#[derive(Debug)]
pub(crate) enum Entry {
    /// Somebody holds the lock. Without a state it is starting, or ending.
    Running(Option<State>),
    /// Nobody does; what its end had left is gone now.
    Nothing,
}

/// How long a start waits for a lock that somebody only looks at.
const LOOK_MAX: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(10);

impl Lock {
    /// Takes the name, and makes its folder.
    ///
    /// # Errors
    /// The folder cannot be made. `Ok(None)`: an instance of that name runs.
    pub(crate) fn take(folders: &Folders, name: &Name) -> io::Result<Option<Lock>> {
        let folder = folders.run(name);
        private(folders.all_running())?;
        let until = Instant::now() + LOOK_MAX;
        loop {
            private_or_given(&folder)?;
            if let Some(lock) = Lock::attempt(&folder)? {
                take_back(&folder)?;
                lock.forget();
                return Ok(Some(lock));
            }
            // Without a process that is known to live it may be somebody who lists, or cleans; or one that starts.
            let lives = read_state(&folder).is_some_and(|state| state.process().is_some());
            if lives || Instant::now() > until {
                return Ok(None);
            }
            std::thread::sleep(POLL);
        }
    }

    /// `None`: it is taken, or has just been cleaned away.
    fn attempt(folder: &Path) -> io::Result<Option<Lock>> {
        let path = folder.join(LOCK);
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(NOFOLLOW)
            .open(&path);
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error.into()),
            Ok(()) => {}
        }
        // Whoever cleans removes the file under its lock: one that is no longer there locks nothing.
        let still_there =
            fs::metadata(&path).is_ok_and(|there| file.metadata().is_ok_and(|ours| ours.ino() == there.ino()));
        Ok(still_there.then(|| Lock { file, folder: folder.to_owned(), given: None }))
    }

    /// Gives the folder to another user, whom this process is about to become. From then on it is reached through a descriptor,
    /// because the folders above it may be closed to that user. The lock's file stays root's: it is held already.
    ///
    /// # Errors
    /// EPERM: this is not root.
    pub(crate) fn hand_over(&mut self, uid: u32, gid: u32) -> io::Result<()> {
        let folder = OpenOptions::new().read(true).custom_flags(NOFOLLOW | DIRECTORY).open(&self.folder)?;
        std::os::unix::fs::fchown(&folder, Some(uid), Some(gid))?;
        self.folder = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
        self.given = Some(folder.into());
        Ok(())
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes down what others will want to know: whole, or not at all.
    ///
    /// # Errors
    /// The folder is full, or gone.
    pub(crate) fn tell(&self, state: &State) -> io::Result<()> {
        let draft = self.folder.join("state.new");
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        io::Write::write_all(&mut file, state.to_json().to_string().as_bytes())?;
        fs::rename(draft, self.folder.join(STATE))
    }

    /// Removes what a former holder has left.
    fn forget(&self) {
        for left in [STATE, SOCKET, SOCKET_DRAFT, "state.new"] {
            let _ = fs::remove_file(self.folder.join(left));
        }
    }

    /// What a former process of this instance held, and has given to us.
    pub(crate) fn given(folders: &Folders, name: &Name, held: OwnedFd) -> Lock {
        Lock { file: File::from(held), folder: folders.run(name), given: None }
    }

    /// The descriptor by which it is held: as long as anybody has one.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Removes everything. It is held until it is dropped.
    pub(crate) fn clear(&self) {
        self.forget();
        // The lock's file last, and while it is held: see `attempt`.
        let _ = fs::remove_file(self.folder.join(LOCK));
        // Fails where the folder above it is root's, and this is not root any more. An empty one is nobody.
        let _ = fs::remove_dir(&self.folder);
    }
}

/// What there is under a name; a stale entry is cleaned up.
///
/// # Errors
/// The folder cannot be looked into.
pub(crate) fn look(folders: &Folders, name: &Name) -> io::Result<Entry> {
    let folder = folders.run(name);
    if !folder.join(LOCK).exists() {
        // Without a lock's file nobody can hold it.
        return Ok(Entry::Nothing);
    }
    match Lock::attempt(&folder)? {
        Some(lock) => {
            lock.clear();
            Ok(Entry::Nothing)
        }
        None => Ok(Entry::Running(read_state(&folder))),
    }
}

/// Every name that runs, in order; stale ones are cleaned up.
///
/// # Errors
/// The folder cannot be looked into.
pub(crate) fn list(folders: &Folders) -> io::Result<Vec<(Name, Option<State>)>> {
    let entries = match fs::read_dir(folders.all_running()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names: Vec<Name> = entries.filter_map(|entry| Name::parse(&entry.ok()?.file_name()).ok()).collect();
    names.sort();
    let mut running = Vec::new();
    for name in names {
        if let Entry::Running(state) = look(folders, &name)? {
            running.push((name, state));
        }
    }
    Ok(running)
}

/// What stands in a folder. Where root has given that to another user, what he writes is about processes of his own; else root
/// would stop whomever he names.
fn read_state(folder: &Path) -> Option<State> {
    let mut file = OpenOptions::new().read(true).custom_flags(NOFOLLOW | NONBLOCK).open(folder.join(STATE)).ok()?;
    let owner = file.metadata().ok().filter(fs::Metadata::is_file)?.uid();
    let mut text = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(&mut file, STATE_BYTES_MAX), &mut text).ok()?;
    let state = State::from_json(&serde_json::from_slice(&text).ok()?)?;
    let is_foreign = owner != rustix::process::geteuid().as_raw() && uid_of(state.pid).is_some_and(|uid| uid != owner);
    (!is_foreign).then_some(state)
}

/// Longer is nothing that an instance has written.
const STATE_BYTES_MAX: u64 = 1 << 20;
/// As open(2) wants them.
const NOFOLLOW: i32 = OFlags::NOFOLLOW.bits() as i32;
const NONBLOCK: i32 = OFlags::NONBLOCK.bits() as i32;
const DIRECTORY: i32 = OFlags::DIRECTORY.bits() as i32;

/// Whose process it is. Not by who owns its folder in /proc: that is root where the process has been another user before.
fn uid_of(pid: i32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().next()?.parse().ok()
}

impl State {
    /// Of this very process.
    ///
    /// # Errors
    /// /proc is not mounted.
    pub(crate) fn of_this_process(addresses: Vec<String>, log: Option<&Path>, dir: Option<&Path>) -> io::Result<State> {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let text = |path: &Path| path.display().to_string();
        Ok(State {
            pid,
            start_ticks: start_ticks(pid).ok_or_else(|| io::Error::other("/proc says nothing about this process"))?,
            boot_id: boot_id()?,
            started_unix_s: since_1970.as_secs(),
            argv: std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect(),
            addresses,
            log: log.map(text),
            dir: dir.map(text),
        })
    }

    /// The process, if it is still that one: its descriptor is taken first, and what stands in /proc then is about it.
    pub(crate) fn process(&self) -> Option<OwnedFd> {
        if boot_id().ok()? != self.boot_id {
            return None;
        }
        let pidfd = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        (start_ticks(self.pid)? == self.start_ticks).then_some(pidfd)
    }

    fn to_json(&self) -> Value {
        json!({
            "pid": self.pid, "start_ticks": self.start_ticks, "boot_id": self.boot_id, "started_unix_s": self.started_unix_s,
            "argv": self.argv, "addresses": self.addresses, "log": self.log, "dir": self.dir,
        })
    }

    fn from_json(value: &Value) -> Option<State> {
        let texts = |key: &str| -> Option<Vec<String>> {
            value[key].as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect()
        };
        let text = |key: &str| value[key].as_str().map(str::to_owned);
        Some(State {
            pid: i32::try_from(value["pid"].as_i64()?).ok()?,
            start_ticks: value["start_ticks"].as_u64()?,
            boot_id: text("boot_id")?,
            started_unix_s: value["started_unix_s"].as_u64()?,
            argv: texts("argv")?,
            addresses: texts("addresses")?,
            log: text("log"),
            dir: text("dir"),
        })
    }
}

fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// The 22nd field of /proc/PID/stat (proc_pid_stat(5)); the name before it may hold anything, but ends with the last parenthesis.
fn start_ticks(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders(dir: &Path) -> (Folders, Name) {
        let pair = |name: &str| (name.into(), dir.join(name).into());
        fs::create_dir(dir.join("XDG_RUNTIME_DIR")).unwrap();
        let environment = ["XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CONFIG_HOME"].map(pair);
        (Folders::find(&environment).unwrap(), Name::parse("a".as_ref()).unwrap())
    }

    #[test]
    fn a_name_is_held_once_and_what_a_holder_leaves_is_cleaned() {
        let dir = tempfile::tempdir().unwrap();
        let (folders, name) = folders(dir.path());
        assert!(matches!(look(&folders, &name).unwrap(), Entry::Nothing));
        let lock = Lock::take(&folders, &name).unwrap().unwrap();
        let state = State::of_this_process(vec!["http://x/".into()], None, None).unwrap();
        lock.tell(&state).unwrap();
        assert!(Lock::take(&folders, &name).unwrap().is_none());
        assert!(matches!(look(&folders, &name).unwrap(), Entry::Running(Some(told)) if told == state));
        // As after a kill: the kernel lets go, the files stay.
        drop(lock);
        assert!(folders.run(&name).join(STATE).exists());
        assert_eq!(list(&folders).unwrap(), []);
        assert!(!folders.run(&name).exists());
        Lock::take(&folders, &name).unwrap().unwrap().clear();
        assert!(!folders.run(&name).exists());
    }

    #[test]
    fn a_process_is_known_by_more_than_its_number() {
        let state = State::of_this_process(Vec::new(), None, None).unwrap();
        assert!(state.process().is_some());
        assert_eq!(State::from_json(&state.to_json()), Some(state.clone()));
        assert!(State { start_ticks: state.start_ticks + 1, ..state.clone() }.process().is_none(), "another start");
        assert!(State { boot_id: "other".into(), ..state.clone() }.process().is_none(), "another boot");
        assert!(State { pid: 0, ..state }.process().is_none());
    }
}
