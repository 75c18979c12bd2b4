//! Slowness on purpose, for proving that a measurement finds it (docs/gate.md). Off, it costs one look at an empty option
//! each time that bytes have come.

use std::cell::Cell;
use std::time::Duration;

use crate::rt::time::{Alarm, Instant, alarm};

use super::options::Inject;

const MILLION: u64 = 1_000_000;

/// What a core slows its clients down by.
pub(super) struct Injector {
    what: Inject,
    state: Cell<u64>,
}

impl Injector {
    /// `None` where nothing was asked for.
    pub(super) fn new(what: Inject) -> Option<Injector> {
        (what != Inject::default()).then(|| Injector { what, state: Cell::new(1) })
    }

    /// Bytes have come. Spins, and returns what has to be waited for before they are answered, if it is this one's turn.
    pub(super) fn disturb(&self) -> Option<Alarm> {
        if !self.what.spin.is_zero() {
            spin(self.what.spin);
        }
        let chosen = !self.what.delay.is_zero() && self.draw() < u64::from(self.what.delayed_per_million);
        chosen.then(|| alarm(Instant::fresh() + self.what.delay))
    }

    /// Uniform below a million: a linear congruential generator (Knuth's MMIX), of which the upper bits are good enough.
    fn draw(&self) -> u64 {
        let next = self.state.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.state.set(next);
        ((next >> 32) * MILLION) >> 32
    }
}

/// Keeps the core busy, as a slower program would.
fn spin(time: Duration) {
    let until = Instant::fresh() + time;
    while Instant::fresh() < until {
        std::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_asked_for_is_nothing_at_all() {
        assert!(Injector::new(Inject::default()).is_none());
    }

    #[test]
    fn the_share_is_kept() {
        let what = Inject { delay: Duration::from_micros(1), delayed_per_million: 20_000, spin: Duration::ZERO };
        let injector = Injector::new(what).expect("something");
        let chosen = (0..100_000).filter(|_| injector.draw() < 20_000).count();
        // 2,000, with a deviation of 44.
        assert!((1_800..2_200).contains(&chosen), "{chosen}");
    }

    #[test]
    fn a_spin_takes_its_time_and_a_delay_is_waited_for() {
        std::thread::spawn(|| {
            let runtime = crate::rt::Builder::new().build().unwrap_or_else(|why| panic!("{why}"));
            runtime.block_on(async {
                let what = Inject {
                    delay: Duration::from_micros(200),
                    delayed_per_million: 1_000_000,
                    spin: Duration::from_micros(50),
                };
                let injector = Injector::new(what).expect("something");
                let before = Instant::fresh();
                let wait = injector.disturb().expect("every one is delayed");
                assert!(Instant::fresh().duration_since(before) >= Duration::from_micros(50));
                wait.await;
                assert!(Instant::fresh().duration_since(before) >= Duration::from_micros(250));
            });
        })
        .join()
        .expect("no panic");
    }
}
