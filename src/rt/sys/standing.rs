//! Short waits by timers that stay armed.
//!
//! A timeout of `io_uring_enter` is a timer that is set when the thread goes to sleep and cancelled when it wakes. Where that is
//! sooner than the next tick, both mean programming the CPU's timer, which on a virtual machine is a way out to the hypervisor
//! each time: 12 us of 113 for a script, which sleeps twice (docs/decisions/0029-short-waits.md). A core that is busy
//! wakes hundreds of times before such a timeout is over. So an operation on the ring is the timer, armed once, and it stays
//! while turn follows turn; when it is over its completion ends a wait, at the earliest of what the waits have asked for or sooner.

use std::time::Duration;

use super::lent::Lent;
use super::sqe::Sqe;

/// Timers that stand at once: each is for a moment before all of the others. With none free, a wait has its own timeout.
const TIMERS_MAX: usize = 8;
/// A shorter wait is for a moment that is meant exactly, and has its own timeout.
const WAIT_MIN: Duration = Duration::from_micros(500);
/// A longer one ends after the next tick, at 100 ticks a second: its timer is a list entry, and costs nothing.
const WAIT_MAX: Duration = Duration::from_millis(10);
/// The `user_data` of the first; those of the others follow. Below the two of `op::Key`, and never an index.
const USER_DATA: u64 = u64::MAX - 1 - TIMERS_MAX as u64;

/// The timers of one ring.
pub(super) struct Standing {
    timers: Box<[Timer; TIMERS_MAX]>,
    over: u64,
}

#[derive(Clone, Copy)]
struct Timer {
    /// When it is over, on CLOCK_MONOTONIC; `None` once its completion has been seen.
    at_ns: Option<u64>,
    /// The same for the kernel (`struct __kernel_timespec`), which reads it when the entry is submitted.
    timespec: [i64; 2],
}

/// How a wait of some length is to be ended.
pub(super) enum End {
    /// By a timer that stands.
    Stands,
    /// By one that this entry arms.
    Arm(Lent, u64),
    /// By a timeout of its own.
    Own,
}

impl Standing {
    pub(super) fn new() -> Standing {
        Standing { timers: Box::new([Timer { at_ns: None, timespec: [0; 2] }; TIMERS_MAX]), over: 0 }
    }

    /// How many were over so far.
    pub(super) fn count_over(&self) -> u64 {
        self.over
    }

    pub(super) fn end(&mut self, timeout: Duration, now_ns: u64) -> End {
        if timeout > WAIT_MAX {
            return End::Own;
        }
        let at_ns = now_ns + timeout.as_nanos() as u64;
        if self.timers.iter().any(|timer| timer.at_ns.is_some_and(|armed_ns| armed_ns <= at_ns)) {
            return End::Stands;
        }
        let free = self.timers.iter_mut().zip(USER_DATA..).find(|(timer, _)| timer.at_ns.is_none());
        let Some((timer, user_data)) = free.filter(|_| timeout >= WAIT_MIN) else { return End::Own };
        timer.at_ns = Some(at_ns);
        timer.timespec = [(at_ns / 1_000_000_000) as i64, (at_ns % 1_000_000_000) as i64];
        let mut sqe = Sqe::timeout_at(&raw const timer.timespec);
        sqe.user_data = user_data;
        // SAFETY: the timers are in a box that is dropped with the ring, after it, and this one is not written to again until
        // its completion has been seen (`is_over`).
        End::Arm(unsafe { Lent::new(sqe) }, user_data)
    }

    /// Whether a completion is one of ours. Its timer is free then; also for one that was not submitted after all.
    pub(super) fn is_over(&mut self, user_data: u64) -> bool {
        let timer = user_data.checked_sub(USER_DATA).and_then(|index| self.timers.get_mut(index as usize));
        let Some(timer) = timer else { return false };
        timer.at_ns = None;
        self.over += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn armed(standing: &mut Standing, ms: u64, now_ns: u64) -> Option<u64> {
        match standing.end(Duration::from_millis(ms), now_ns) {
            End::Arm(_, user_data) => Some(user_data),
            End::Stands | End::Own => None,
        }
    }

    #[test]
    fn one_timer_serves_all_waits_that_end_after_it() {
        let mut standing = Standing::new();
        let first = armed(&mut standing, 3, 100 * MS).unwrap();
        for later_ns in [100 * MS, 101 * MS, 102 * MS + 1] {
            assert!(matches!(standing.end(Duration::from_millis(3), later_ns), End::Stands));
        }
        assert!(matches!(standing.end(Duration::from_millis(2), 101 * MS), End::Stands));
        let sooner = armed(&mut standing, 1, 100 * MS).unwrap();
        assert_ne!(first, sooner);
        assert!(matches!(standing.end(Duration::from_millis(2), 100 * MS), End::Stands));
        assert!(standing.is_over(sooner) && standing.is_over(first));
        assert!(armed(&mut standing, 5, 103 * MS).is_some());
    }

    #[test]
    fn exact_and_long_waits_have_their_own() {
        let mut standing = Standing::new();
        assert!(matches!(standing.end(Duration::from_micros(499), 0), End::Own));
        assert!(matches!(standing.end(Duration::from_millis(11), 0), End::Own));
        // But for one that ends with a timer that stands, nothing is to be done.
        assert!(armed(&mut standing, 1, 0).is_some());
        assert!(matches!(standing.end(Duration::from_micros(200), 800_000), End::Stands));
        assert!(matches!(standing.end(Duration::from_micros(199), 800_000), End::Own));
    }

    #[test]
    fn there_are_so_many_and_no_more() {
        let mut standing = Standing::new();
        let all: Vec<u64> = (1..=9).rev().filter_map(|ms| armed(&mut standing, ms, 0)).collect();
        assert_eq!(all.len(), TIMERS_MAX);
        assert!(all.iter().all(|&user_data| user_data < u64::MAX - 1));
        assert!(!standing.is_over(u64::MAX) && !standing.is_over(u64::MAX - 1) && !standing.is_over(3 << 32 | 7));
        assert!(standing.is_over(all[0]));
        assert_eq!(armed(&mut standing, 1, 0), Some(all[0]));
    }
}
