//! How the kernel schedules the calling thread, and every process started from it: nice value and CPUs are inherited.

use std::io;

use rustix::process::Pid;
use rustix::thread::CpuSet;

/// SCHED_BATCH for a child that was not waited for: as SCHED_OTHER, but a wake-up never preempts what runs. A script that
/// becomes runnable does not take the CPU from a ring thread.
///
/// Needs no privilege for a process of the same user. Not an attribute of posix_spawn, where glibc takes OTHER, FIFO and RR only.
pub fn set_batch(child: Pid) -> io::Result<()> {
    // SAFETY: `sched_param` is a struct of integers, for which all zeroes is a value (and the one that BATCH demands).
    let param: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel reads one `sched_param` from a reference that outlives the call.
    match unsafe { libc::sched_setscheduler(child.as_raw_nonzero().get(), libc::SCHED_BATCH, &param) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Adds to the nice value of the calling thread: on Linux it belongs to the thread, not to the process (setpriority(2)).
pub fn add_nice(increment: i32) -> io::Result<()> {
    let now = rustix::process::getpriority_process(None)?;
    Ok(rustix::process::setpriority_process(None, now + increment)?)
}

/// Lets the calling thread run on these CPUs; with none named it stays where it is.
pub fn set_affinity(cpus: &[usize]) -> io::Result<()> {
    if cpus.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    for &cpu in cpus.iter().filter(|&&cpu| cpu < CpuSet::MAX_CPU) {
        set.set(cpu);
    }
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}
