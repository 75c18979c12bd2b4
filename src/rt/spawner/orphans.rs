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

/// Signals every process that was started with `name=value` in its environment, and returns how many it were. Descendants
/// inherit the environment of a script even when they leave its process group and session; only one that was given another
/// environment is missed. `value` must be unguessable, as a number per request and a random one per server are.
pub fn kill_by_environment(name: &[u8], value: &[u8], signal: Signal) -> io::Result<usize> {
    let wanted = [name, b"=", value].concat();
    let mut signalled = HashSet::from([rustix::process::getpid()]);
    for _ in 0..KILL_PASSES_MAX {
        let before = signalled.len();
        for pid in processes()? {
            if !signalled.contains(&pid) && was_started_with(pid, &wanted) && signal_if(pid, &wanted, signal) {
                signalled.insert(pid);
            }
        }
        if signalled.len() == before {
            break;
        }
    }
    // Without ourselves.
    Ok(signalled.len() - 1)
}

/// Checks once more with the pidfd in hand. If the pid has changed hands since it was opened, the signal goes to a process
/// that is gone, and nowhere else.
fn signal_if(pid: Pid, wanted: &[u8], signal: Signal) -> bool {
    let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return false };
    was_started_with(pid, wanted) && rustix::process::pidfd_send_signal(pidfd, signal).is_ok()
}

/// Unreadable is no: another user's process is none of ours, and a zombie has no environment.
fn was_started_with(pid: Pid, wanted: &[u8]) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|&byte| byte == 0).any(|variable| variable == wanted)
}

fn processes() -> io::Result<Vec<Pid>> {
    let pid = |name: std::ffi::OsString| Pid::from_raw(name.to_str()?.parse().ok()?);
    Ok(fs::read_dir("/proc")?.filter_map(|entry| pid(entry.ok()?.file_name())).collect())
}
