//! How the kernel schedules the calling thread, and every process started from it: nice value and CPUs are inherited.

use std::io;

use rustix::thread::CpuSet;

/// Asks for a short slice for the calling thread (sched_setattr(2), custom slices since 6.12): it then preempts a program
/// with the usual slice soon after it wakes. With 0.1 ms, beside busy scripts on the same core, wake-ups were served in
/// 37 us at p99 instead of milliseconds. Older kernels ignore the number.
pub fn set_slice(slice: std::time::Duration) -> io::Result<()> {
    /// `struct sched_attr` of the first version (`SCHED_ATTR_SIZE_VER0`).
    #[repr(C)]
    struct SchedAttr {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
    }
    let attr = SchedAttr {
        size: size_of::<SchedAttr>() as u32,
        policy: libc::SCHED_OTHER as u32,
        flags: 0,
        nice: rustix::process::getpriority_process(None)?,
        priority: 0,
        runtime: slice.as_nanos() as u64,
        deadline: 0,
        period: 0,
    };
    // SAFETY: the kernel reads `size` bytes from a struct that outlives the call; 0 is the calling thread.
    match unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) } {
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
