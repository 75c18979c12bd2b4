//! `gate calibrate`: how far apart the same program is from itself on this machine, and the margins that follow.

use std::path::Path;
use std::time::Duration;

use super::compare;
use super::margins::{Calibrated, Calibration, Machine, SCHEMA};
use super::recording::{self, Recording};
use super::server::Arm;
use super::trial::{Bench, Failure, Scenario};
use crate::record::Host;
use crate::rng::Rng;

/// What is asked for.
#[derive(Debug)]
pub struct Order<'a> {
    /// Of which load.
    pub scenario: Scenario,
    /// The program, on both sides.
    pub arm: &'a Arm,
    /// How many pairs the recording shall have in the end.
    pub pairs: usize,
    /// How many to measure this time.
    pub at_a_time: usize,
    /// Each trial.
    pub time: Duration,
    /// Before it.
    pub warmup: Duration,
    /// What chance is made from, in a new recording.
    pub seed: u64,
}

/// Adds pairs to a recording until it has as many as it shall. One that is there is gone on with, at its rate.
///
/// # Errors
/// [`Failure`]; what was measured until then is in the file.
pub fn record(order: &Order, path: &Path, mut say: impl FnMut(&str)) -> Result<Recording, Failure> {
    let host = Host::read();
    let known = path.exists().then(|| Recording::read(path)).transpose().map_err(Failure::Failed)?;
    let (bench, mut recording) = match known {
        Some(known) if Machine::of(&known.host) != Machine::of(&host) || known.scenario != order.scenario.name => {
            return Err(Failure::Failed(format!("{} is of another machine or load", path.display())));
        }
        Some(known) => (Bench::at_rate(order.scenario, known.rate, order.time, order.warmup)?, known),
        None => {
            let bench = Bench::prepare(order.scenario, order.arm, order.time, order.warmup)?;
            let recording = Recording {
                schema: recording::SCHEMA.to_owned(),
                scenario: order.scenario.name.to_owned(),
                host,
                rate: bench.rate,
                trial_ms: order.time.as_millis() as u64,
                seed: order.seed,
                pairs: Vec::new(),
            };
            (bench, recording)
        }
    };
    for _ in 0..order.at_a_time {
        if recording.pairs.len() >= order.pairs {
            break;
        }
        let mut rng = Rng::new(recording.seed, recording.pairs.len() as u64);
        let pair = match bench.pair(order.arm, order.arm, &mut rng) {
            Ok(pair) => pair,
            // It is said, and not recorded: the gate would not have believed it either.
            Err(Failure::Invalid(why)) => {
                say(&format!("not believed: {why}"));
                continue;
            }
            Err(failed) => return Err(failed),
        };
        recording.pairs.push(pair);
        say(&compare::line("pair", recording.pairs.len(), &recording.pairs[recording.pairs.len() - 1]));
        recording.write(path).map_err(Failure::Failed)?;
    }
    Ok(recording)
}

/// Puts what a recording says about its load into the file of margins.
///
/// # Errors
/// A line that says what is wrong, with the file's name.
pub fn set_margins(recording: &Recording, path: &Path) -> Result<Calibrated, String> {
    let differences: Vec<_> = recording.pairs.iter().map(super::trial::Pair::difference).collect();
    let calibrated = Calibrated::of(&differences);
    let host = Machine::of(&recording.host);
    // Of another machine nothing is kept.
    let mut file = Calibration::read(path)?.filter(|found| found.host == host).unwrap_or_default();
    (file.schema, file.host) = (SCHEMA.to_owned(), host);
    file.scenario.insert(recording.scenario.clone(), calibrated.clone());
    std::fs::write(path, file.to_toml()).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(calibrated)
}
