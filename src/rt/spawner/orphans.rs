//! Processes that a script left behind: those whose parent is gone, and those that left its process group.
//!
//! Blocking, for a control thread.

use std::collections::HashSet;
use std::fs;
use std::io;

use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};

/// How often [`kill_by_environment`] looks for more: a process may be started between the look at its parent and the
/// signal. One that starts children faster than this many looks is for a cgroup to stop.
const KILL_PASSES_MAX: usize = 8;

/// Makes this process the parent of its descendants' orphans, instead of init: so they can be found, and reaped.
pub fn become_subreaper() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
}

/// Reaps the orphans that have ended, and returns how many. Never waits, and never takes a child of a spawner.
///
/// The kernel gives orphans to the first live thread of the subreaper, the main thread, and a child belongs to the thread that
/// started it. So the main thread's children are the orphans, and whatever the main thread started itself or inherited from
/// a spawner that has stopped: `is_owned` says which of those somebody else waits for. A loop of `waitid(P_ALL)` could not
/// do this: it would take a child between its start and its becoming known to `is_owned`, and with WNOWAIT the first owned
/// zombie would hide all others.
///
/// NotFound on a kernel without CONFIG_PROC_CHILDREN.
pub fn reap(is_owned: impl Fn(Pid) -> bool) -> io::Result<usize> {
    let main_thread = rustix::process::getpid();
    let children = fs::read_to_string(format!("/proc/self/task/{main_thread}/children"))?;
    let pids = children.split_ascii_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?));
    let is_dead = |&pid: &Pid| {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        matches!(rustix::process::waitid(WaitId::Pid(pid), options), Ok(Some(_)))
    };
    Ok(pids.filter(|&pid| !is_owned(pid)).filter(is_dead).count())
}

/// Whether there is an orphan, alive or not: a process whose parent has ended, and that has not been [`reap`]ed. A few
/// microseconds. True where it cannot be known.
pub fn exist() -> bool {
    let main_thread = rustix::process::getpid();
    fs::read(format!("/proc/self/task/{main_thread}/children")).map_or(true, |children| !children.is_empty())
}

/// Signals every process that was started with `name=value` in its environment, for any of these values, and returns those
/// of which there was one. Descendants inherit the environment of a script even when they leave its process group and session;
/// only one that was given another environment is missed. Values must be unguessable, as a number per request and a random
/// one per server are. No signal: only looks.
pub fn kill_by_environment(
    name: &str,
    values: &HashSet<String>,
    signal: Option<Signal>,
) -> io::Result<HashSet<String>> {
    let wanted = Wanted { name: name.as_bytes(), values };
    let mut signalled = HashSet::from([rustix::process::getpid()]);
    let mut found = HashSet::new();
    for _ in 0..KILL_PASSES_MAX {
        let before = signalled.len();
        for pid in processes()?.into_iter().filter(|pid| !signalled.contains(pid)).collect::<Vec<_>>() {
            if let Some(value) = wanted.value_of(pid)
                && signal_if(pid, &wanted, signal)
            {
                signalled.insert(pid);
                found.insert(value);
            }
        }
        if signalled.len() == before || signal.is_none() {
            break;
        }
    }
    Ok(found)
}

/// Checks once more with the pidfd in hand. If the pid has changed hands since it was opened, the signal goes to a process
/// that is gone, and nowhere else.
fn signal_if(pid: Pid, wanted: &Wanted<'_>, signal: Option<Signal>) -> bool {
    let Some(signal) = signal else { return true };
    let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return false };
    wanted.value_of(pid).is_some() && rustix::process::pidfd_send_signal(pidfd, signal).is_ok()
}

struct Wanted<'w> {
    name: &'w [u8],
    values: &'w HashSet<String>,
}

impl Wanted<'_> {
    /// Unreadable is none: another user's process is none of ours, and a zombie has no environment.
    fn value_of(&self, pid: Pid) -> Option<String> {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let value = |variable: &[u8]| -> Option<String> {
            let value = std::str::from_utf8(variable.strip_prefix(self.name)?.strip_prefix(b"=")?).ok()?;
            self.values.get(value).cloned()
        };
        environment.split(|&byte| byte == 0).find_map(value)
    }
}

fn processes() -> io::Result<Vec<Pid>> {
    let pid = |name: std::ffi::OsString| Pid::from_raw(name.to_str()?.parse().ok()?);
    Ok(fs::read_dir("/proc")?.filter_map(|entry| pid(entry.ok()?.file_name())).collect())
}
