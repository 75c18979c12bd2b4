//! How long a transfer may go on waiting for its peer.

use super::Millis;
use super::limits::Limits;

/// The terms of one exchange, copied from the limits when it begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    stall_ms: u32,
    bytes_per_s: u32,
}

/// A peer starts with `stall_ms` of patience. Waiting spends it; every byte buys `1 / bytes_per_s` of it back, never
/// to more than `stall_ms`. So a peer that averages the minimal rate over each window of `stall_ms` is never cut, one
/// that stops is cut after `stall_ms`, and one that trickles is cut in the end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// When the wait began.
    since: Millis,
    left_ms: u32,
    /// Thousandths of bytes that did not make up a millisecond yet; less than `bytes_per_s`.
    change: u32,
}

impl Terms {
    pub(super) fn new(limits: &Limits) -> Terms {
        let narrow = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        Terms { stall_ms: narrow(limits.stall_ms_max), bytes_per_s: narrow(limits.progress_bytes_per_s_min) }
    }
}

impl Pace {
    pub(super) fn start(terms: Terms, now: Millis) -> Pace {
        Pace { since: now, left_ms: terms.stall_ms, change: 0 }
    }

    /// When patience ends, if nothing comes until then; never more than `stall_ms_max` from the beginning of the wait.
    pub(super) fn until(&self, stall_ms_max: Millis) -> Millis {
        self.since.saturating_add(stall_ms_max.min(self.left_ms.into()))
    }

    /// A wait begins: the time since the last one ended was ours, not the peer's.
    pub(super) fn wait(&mut self, now: Millis) {
        self.since = now;
    }

    /// So many bytes moved, and the wait for them is over.
    pub(super) fn progress(&mut self, terms: Terms, now: Millis, bytes: u64) {
        let waited = now.saturating_sub(self.since);
        let left = u64::from(self.left_ms).saturating_sub(waited);
        let rate = u64::from(terms.bytes_per_s);
        let paid = bytes.saturating_mul(1000).saturating_add(self.change.into());
        // Without a minimal rate any progress is enough.
        let bought = paid.checked_div(rate).unwrap_or(u64::MAX);
        self.since = now;
        self.left_ms = left.saturating_add(bought).min(terms.stall_ms.into()) as u32;
        self.change = if self.left_ms == terms.stall_ms { 0 } else { paid.checked_rem(rate).unwrap_or(0) as u32 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALL_MS: u64 = 30_000;

    /// When a peer that sends `bytes` every `every_ms` is cut, if it is within ten minutes.
    fn cut_at(rate: u64, bytes: u64, every_ms: u64) -> Option<Millis> {
        let limits = Limits { stall_ms_max: STALL_MS, progress_bytes_per_s_min: rate, ..Limits::default() };
        let terms = Terms::new(&limits);
        let mut pace = Pace::start(terms, 0);
        (1..=600_000 / every_ms).map(|tick| tick * every_ms).find_map(|now| {
            if now >= pace.until(STALL_MS) {
                return Some(pace.until(STALL_MS));
            }
            pace.progress(terms, now, bytes);
            None
        })
    }

    #[test]
    fn slow_but_healthy_is_never_cut() {
        assert_eq!(cut_at(500, 1, 2), None);
        assert_eq!(cut_at(500, 7_500, 15_000), None);
        assert_eq!(cut_at(500, 14_500, 29_000), None);
        // A rate that is no whole number of bytes a millisecond loses nothing to rounding.
        assert_eq!(cut_at(1_500, 3, 2), None);
        assert_eq!(cut_at(0, 1, 29_999), None);
    }

    #[test]
    fn stalled_or_trickling_is_cut() {
        assert_eq!(cut_at(500, 1, 1_000), Some(30_060));
        assert_eq!(cut_at(500, 1, 60_000), Some(STALL_MS));
        assert!(cut_at(500, 250, 1_000).is_some_and(|at| at <= 2 * STALL_MS));
        assert!(cut_at(5_000, 1, 1).is_some_and(|at| at <= 2 * STALL_MS));
        assert_eq!(cut_at(0, 0, 1_000), None, "no progress is no progress only where a rate is asked for");
    }
}
