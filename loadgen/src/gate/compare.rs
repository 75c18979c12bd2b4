//! Two servers, in pairs, until it is decided.

use super::metric::{Difference, Each};
use super::server::Arm;
use super::trial::{Bench, Failure, Pair};
use super::verdict::{Batch, Margins, Rules, Step, Verdict, next};
use crate::record::{Hist, Host};
use crate::report::units;
use crate::rng::Rng;

/// What was compared, and what came of it.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The load's name.
    pub scenario: String,
    /// What the arms are called.
    pub names: (String, String),
    /// Requests a second.
    pub rate: f64,
    /// What chance was made from.
    pub seed: u64,
    /// The machine.
    pub host: Host,
    /// What came of it.
    pub verdict: Verdict,
    /// The response times of all trials of the base.
    pub base: Hist,
    /// And of the head.
    pub head: Hist,
    /// What a reader must know before believing it.
    pub remarks: Vec<String>,
}

/// Measures until [`next`] has decided; `say` gets a line for each pair.
///
/// # Errors
/// [`Failure`].
pub fn compare(
    bench: &Bench,
    (base, head): (&Arm, &Arm),
    margins: &Margins,
    rules: &Rules,
    seed: u64,
    say: impl FnMut(&str),
) -> Result<Comparison, Failure> {
    measure(bench, (base, head), seed, |first, second| next(first, second, margins, rules), say)
}

/// Measures until `decide` has decided by the pairs of both batches; `say` gets a line for each.
///
/// # Errors
/// [`Failure`].
pub fn measure(
    bench: &Bench,
    (base, head): (&Arm, &Arm),
    seed: u64,
    decide: impl Fn(&[Difference], &[Difference]) -> Step,
    mut say: impl FnMut(&str),
) -> Result<Comparison, Failure> {
    let mut rng = Rng::new(seed, 0);
    let (mut first, mut second): (Vec<Difference>, Vec<Difference>) = (Vec::new(), Vec::new());
    let (mut all_base, mut all_head) = (Hist::durations(), Hist::durations());
    let verdict = loop {
        let batch = match decide(&first, &second) {
            Step::Over(verdict) => break verdict,
            Step::Measure(batch) => batch,
        };
        let pair = bench.pair(base, head, &mut rng)?;
        all_base.add(&pair.base.response);
        all_head.add(&pair.head.response);
        let (measured, word) = match batch {
            Batch::First => (&mut first, "pair"),
            Batch::Second => (&mut second, "confirming pair"),
        };
        measured.push(pair.difference());
        say(&line(word, measured.len(), &pair));
    };
    Ok(Comparison {
        scenario: bench.scenario.name.to_owned(),
        names: (base.name.clone(), head.name.clone()),
        rate: bench.rate,
        seed,
        host: Host::read(),
        verdict,
        base: all_base,
        head: all_head,
        remarks: Vec::new(),
    })
}

/// `pair 3: latency x1.02, p99 x0.98, cpu x1.00 (base first)`.
#[must_use]
pub fn line(word: &str, number: usize, pair: &Pair) -> String {
    let Each { latency, p99, cpu } = pair.difference().map(|_, log| units::ratio(log.exp()));
    let order = if pair.base_first { "base first" } else { "head first" };
    format!("{word} {number}: latency {latency}, p99 {p99}, cpu {cpu} ({order})")
}
