//! `--find-max`: the highest rate that keeps a promise. Pure: it says which rate to try, and is told what came of it.
//!
//! Doubling until the promise is broken brackets the rate, halving the bracket narrows it, and what is then thought to be
//! the answer must hold once more: a bound that holds by luck in one of two trials does not hold.

/// The bracket is narrow enough at this ratio of its ends.
const PRECISION: f64 = 1.02;
/// A trial is short and a rate is not infinite: beyond that many something else is wrong.
const TRIALS_MAX: u32 = 60;
/// No further down than this, in requests a second.
const RATE_MIN: f64 = 1.0;
/// No further up.
const RATE_MAX: f64 = 1e9;
/// A rate that does not hold when it is tried again is taken back by so much.
const BACK_OFF: f64 = 0.95;

/// A search under way.
#[derive(Clone, Debug)]
pub struct Search {
    /// The highest rate that held, and the lowest that did not.
    held: Option<f64>,
    broke: Option<f64>,
    state: State,
    trials: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Looking(f64),
    Confirming(f64),
    Over,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// Try this rate.
    Try(f64),
    /// Try this rate again, for longer: it should be the answer.
    Confirm(f64),
    /// This is the answer; none if not even the lowest rate holds.
    Done(Option<f64>),
}

impl Search {
    /// Begins at a rate that is probably too low.
    #[must_use]
    pub fn from(rate: f64) -> Search {
        Search { held: None, broke: None, state: State::Looking(rate.clamp(RATE_MIN, RATE_MAX)), trials: 0 }
    }

    /// What to do now.
    #[must_use]
    pub fn step(&self) -> Step {
        match self.state {
            State::Looking(rate) => Step::Try(rate),
            State::Confirming(rate) => Step::Confirm(rate),
            State::Over => Step::Done(self.held),
        }
    }

    /// Whether the promise held at the rate that `step` said.
    pub fn tell(&mut self, held: bool) {
        self.trials += 1;
        self.state = match (self.state, held) {
            (State::Looking(rate), true) => {
                self.held = Some(rate);
                self.narrow()
            }
            (State::Looking(rate), false) => {
                self.broke = Some(rate);
                self.narrow()
            }
            (State::Confirming(rate), true) => {
                self.held = Some(rate);
                State::Over
            }
            // It held once by luck. A little below it the same question again; what is known of higher rates stands.
            (State::Confirming(rate), false) => {
                (self.broke, self.held) = (Some(rate), None);
                if rate * BACK_OFF < RATE_MIN { State::Over } else { State::Confirming(rate * BACK_OFF) }
            }
            (State::Over, _) => State::Over,
        };
        if self.trials >= TRIALS_MAX && self.state != State::Over {
            // Nothing was confirmed.
            (self.held, self.state) = (None, State::Over);
        }
    }

    fn narrow(&self) -> State {
        match (self.held, self.broke) {
            (Some(held), None) if held >= RATE_MAX => State::Confirming(held),
            (Some(held), None) => State::Looking((held * 2.0).min(RATE_MAX)),
            (Some(held), Some(broke)) if broke / held <= PRECISION => State::Confirming(held),
            // The geometric mean: a bracket is a ratio.
            (Some(held), Some(broke)) => State::Looking((held * broke).sqrt()),
            (None, Some(broke)) if broke <= RATE_MIN => State::Over,
            (None, Some(broke)) => State::Looking((broke / 4.0).max(RATE_MIN)),
            (None, None) => State::Over,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    /// Runs a search against a server that holds a rate as `holds` says; the answer, and the trials it took.
    fn search(from: f64, mut holds: impl FnMut(f64) -> bool) -> (Option<f64>, u32) {
        let mut search = Search::from(from);
        for trials in 0.. {
            match search.step() {
                Step::Try(rate) | Step::Confirm(rate) => search.tell(holds(rate)),
                Step::Done(answer) => return (answer, trials),
            }
        }
        unreachable!("a search ends")
    }

    #[test]
    fn the_knee_is_found_from_below_and_from_above() {
        for from in [1.0, 1_000.0, 90_000.0, 5e6] {
            let (answer, trials) = search(from, |rate| rate <= 87_654.0);
            let answer = answer.unwrap();
            assert!((87_654.0 / PRECISION..=87_654.0).contains(&answer), "{answer} from {from}");
            assert!(trials <= 30, "{trials} trials from {from}");
        }
    }

    #[test]
    fn a_server_that_holds_nothing_or_everything_ends_the_search() {
        assert_eq!(search(1_000.0, |_| false).0, None);
        assert_eq!(search(1_000.0, |_| true).0, Some(RATE_MAX));
    }

    #[test]
    fn an_answer_always_held_when_it_was_asked_for_the_last_time() {
        let mut rng = Rng::new(3, 0);
        for _ in 0..200 {
            // Below 50,000 it holds, above 100,000 it does not, between them it is a matter of luck.
            let mut last = (0.0, false);
            let (answer, trials) = search(1_000.0, |rate| {
                let held = rate < 50_000.0 + 50_000.0 * rng.unit();
                last = (rate, held);
                held
            });
            assert!(trials <= TRIALS_MAX);
            assert_eq!(last, (answer.unwrap(), true));
        }
    }
}
