//! Control groups (version 2) of single children: whatever a child starts is in its group, and nothing leaves it. So what has
//! left the process group and the session, and has cleared its environment too, can still be ended: cgroup.kill (5.14).
//!
//! Blocking: for start-up and for a control thread.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, PidfdFlags, Signal};

use crate::rt::sys::cgroup;

/// A group of this process's own that holds those of its children. Dropped: removed, if nobody is left in it.
#[derive(Debug)]
pub struct Groups {
    path: PathBuf,
}

impl Groups {
    /// Makes one below `parent`, or below the group that this process is in.
    ///
    /// # Errors
    /// EACCES, EROFS: the hierarchy is not ours to write to; `NotFound`: there is no version 2 hierarchy.
    pub fn new(parent: Option<&Path>) -> io::Result<Groups> {
        let own =
            || cgroup::own_group().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no cgroup2 is mounted"));
        let parent = parent.map_or_else(own, |parent| Ok(parent.to_owned()))?;
        if !parent.join("cgroup.kill").exists() && !parent.join("cgroup.procs").exists() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "not a directory of cgroup2"));
        }
        let path = parent.join(format!("ucaffeine-{}", std::process::id()));
        match fs::create_dir(&path) {
            // Left by a process of the same number.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made?,
        }
        Ok(Groups { path })
    }

    /// Where the group of one child is, or will be: the child makes it.
    pub fn of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for child in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            // EBUSY: somebody lives on in it, and may.
            let _ = fs::remove_dir(child.path());
        }
        let _ = fs::remove_dir(&self.path);
    }
}

/// Signals every process of a group, and says whether there was one. KILL goes to all at once and misses nobody. No signal:
/// only looks.
pub fn signal(group: &Path, signal: Option<Signal>) -> bool {
    if signal == Some(Signal::KILL) && fs::write(group.join("cgroup.kill"), "1").is_ok() {
        return true;
    }
    let members = members(group);
    for (&pid, signal) in members.iter().filter_map(|pid| Some((pid, signal?))) {
        // With the pidfd in hand: if the number has changed hands since, the new owner is not in the list.
        let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { continue };
        if self::members(group).contains(&pid) {
            let _ = rustix::process::pidfd_send_signal(pidfd, signal);
        }
    }
    !members.is_empty()
}

/// Removes a group in which nobody is left. False: somebody is, it has to be tried again.
pub fn remove(group: &Path) -> bool {
    match fs::remove_dir(group) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

fn members(group: &Path) -> Vec<Pid> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)).collect()
}
