//! How often the gate is wrong, from pairs that were recorded on a real machine: the same program on both sides, drawn ten thousand times
//! with a random side each, and with an injected shift. No clock is read, and the seed is fixed: it comes out the same anywhere.

use std::path::Path;

use loadgen::gate::margins::{Calibrated, Calibration};
use loadgen::gate::metric::{Difference, Metric};
use loadgen::gate::recording::Recording;
use loadgen::gate::replay::{self, Rates, Shift};
use loadgen::gate::trial::Pair;
use loadgen::gate::verdict::{Margins, RULES, Step, next};

const ROUNDS: u32 = 10_000;
const SEED: u64 = 8;
/// Of the committed recording; `gate calibrate --pairs 48` goes on with it on an idle machine.
const PAIRS_MIN: usize = 40;
/// Of what has no effect, or too small a one.
const FALSE_SHARE_MAX: f64 = 0.01;
/// Of what is twice the margin.
const FOUND_SHARE_MIN: f64 = 0.95;

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn recording() -> Recording {
    Recording::read(&root().join("results/gate/aa-pairs.json")).expect("the recorded pairs")
}

fn margins() -> Margins {
    let file = Calibration::read(&root().join("results/gate.toml")).expect("margins").expect("the file");
    file.scenario["keepalive"].margin
}

fn rates(pairs: &[Pair], shift: Shift) -> Rates {
    replay::rates(&replay::differences(pairs, shift), &margins(), &RULES, ROUNDS, SEED)
}

#[test]
fn the_recording_is_large_enough_and_the_margins_are_made_of_it() {
    let recording = recording();
    assert!(recording.pairs.len() >= PAIRS_MIN, "{} pairs", recording.pairs.len());
    let firsts = recording.pairs.iter().filter(|pair| pair.base_first).count();
    assert!((10..recording.pairs.len() - 10).contains(&firsts), "the base went first in {firsts}");
    let differences: Vec<Difference> = recording.pairs.iter().map(Pair::difference).collect();
    let made = Calibrated::of(&differences);
    for metric in Metric::ALL {
        assert!((made.margin.of(metric) - margins().of(metric)).abs() < 1e-6, "{}: {made:?}", metric.name());
    }
}

#[test]
fn noise_alone_does_not_alarm() {
    let found = rates(&recording().pairs, Shift::None);
    println!("A/A: {found:?}");
    assert!(found.regression <= FALSE_SHARE_MAX, "{found:?}");
    // It also ends early, or it would not be used.
    assert!(found.pairs < 12.0, "{found:?}");
}

#[test]
fn what_is_twice_the_margin_is_found_and_what_is_below_half_of_it_is_not() {
    let pairs = recording().pairs;
    for (metric, twice, half) in [
        (
            Metric::Latency,
            Shift::Stretch(1.0 + 2.0 * margins().latency),
            Shift::Stretch(1.0 + 0.45 * margins().latency),
        ),
        (Metric::P99, Shift::Stretch(1.0 + 2.0 * margins().p99), Shift::None),
        (Metric::Cpu, Shift::Cpu(1.0 + 2.0 * margins().cpu), Shift::Cpu(1.0 + 0.45 * margins().cpu)),
    ] {
        let (found, quiet) = (rates(&pairs, twice), rates(&pairs, half));
        println!("{}: twice the margin {found:?}, below half {quiet:?}", metric.name());
        assert!(found.regression >= FOUND_SHARE_MIN, "{metric:?} {found:?}");
        assert!(quiet.regression <= FALSE_SHARE_MAX, "{metric:?} {quiet:?}");
    }
}

/// What the margins promise about these depends on how large they are against the margins of the machine that was recorded.
#[test]
fn the_injected_shifts_are_found_as_the_margins_promise() {
    let pairs = recording().pairs;
    let shifts = [
        Shift::Stretch(1.05),
        Shift::Stretch(1.10),
        Shift::Stretch(1.3),
        Shift::Delay { ns: 200_000, share: 0.02 },
        Shift::Delay { ns: 200_000, share: 0.000_5 },
    ];
    let (mut loud, mut silent) = (0, 0);
    for shift in shifts {
        let effect = effect(&pairs, shift);
        let of_margin = |metric: Metric| effect.of(metric).exp_m1() / margins().of(metric);
        let most = Metric::ALL.into_iter().map(of_margin).fold(0.0, f64::max);
        let found = rates(&pairs, shift);
        println!("{shift:?}: {most:.2} margins, {found:?}");
        // A histogram has three digits.
        if most >= 1.99 {
            assert!(found.regression >= FOUND_SHARE_MIN, "{shift:?}: {found:?}");
            loud += 1;
        } else if most <= 0.5 {
            assert!(found.regression <= FALSE_SHARE_MAX, "{shift:?}: {found:?}");
            silent += 1;
        }
    }
    assert!(loud >= 2 && silent >= 1, "{loud} shifts are beyond twice the margin, {silent} below half of it");
}

/// The middle of what a shift does to a trial, compared with itself.
fn effect(pairs: &[Pair], shift: Shift) -> Difference {
    let moved =
        |pair: &Pair| loadgen::gate::metric::difference(&pair.head.logs(), &replay::injected(&pair.head, shift).logs());
    let all: Vec<Difference> = pairs.iter().map(moved).collect();
    Difference::default().map(|metric, _: f64| {
        loadgen::gate::stats::median(&all.iter().map(|one| one.of(metric)).collect::<Vec<f64>>()).expect("pairs")
    })
}

#[test]
fn swapped_arms_give_the_mirrored_estimate() {
    let pairs = recording().pairs;
    let first: Vec<Difference> = pairs.iter().take(16).map(Pair::difference).collect();
    let swapped = |pair: &Pair| Pair { base: pair.head.clone(), head: pair.base.clone(), ..pair.clone() }.difference();
    let mirrored: Vec<Difference> = pairs.iter().take(16).map(swapped).collect();
    let over = |batch: &[Difference]| match next(batch, batch, &Margins::all(9.0), &RULES) {
        Step::Over(verdict) => verdict,
        step @ Step::Measure(_) => panic!("{step:?}"),
    };
    for (one, other) in over(&first).findings.iter().zip(over(&mirrored).findings) {
        assert_eq!((one.estimate, one.low, one.high), (-other.estimate, -other.high, -other.low));
        // Of a sum that is reached both ways, the two chances overlap in it.
        assert!((one.p - (1.0 - other.p)).abs() < 0.02, "{one:?} {other:?}");
    }
}

#[test]
fn a_replay_comes_out_the_same_from_the_same_seed() {
    let differences = replay::differences(&recording().pairs, Shift::Stretch(1.1));
    let play = |seed| replay::rates(&differences, &margins(), &RULES, 200, seed);
    assert_eq!(play(1), play(1));
}
