//! CLOCK_MONOTONIC, by the vDSO (about 20 ns, no syscall).

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since boot.
pub(crate) fn monotonic_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
