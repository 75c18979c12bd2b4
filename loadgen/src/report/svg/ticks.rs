//! Where an axis has its marks: round numbers, few enough to be read.

/// More marks than this are crowded.
const TICKS_MAX: usize = 8;

/// Round numbers between two bounds, evenly spaced.
pub(super) fn linear(from: f64, to: f64) -> Vec<f64> {
    let span = (to - from).max(f64::MIN_POSITIVE);
    let decade = 10f64.powf((span / TICKS_MAX as f64).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * decade);
    let step = step.into_iter().find(|step| span / step <= TICKS_MAX as f64).unwrap_or(10.0 * decade);
    let (first, last) = ((from / step - 1e-9).ceil() as i64, (to / step + 1e-9).floor() as i64);
    // Division by a whole number of steps keeps 0.3 from becoming 0.30000000000000004.
    let per_step = (1.0 / step).round();
    let value = |number: i64| if step < 1.0 { number as f64 / per_step } else { number as f64 * step };
    (first..=last).map(value).collect()
}

/// Round numbers between two powers of ten: ones, twos and fives as far as there is room for them.
pub(super) fn logarithmic(from: f64, to: f64) -> Vec<f64> {
    let within = |factors: &[f64]| -> Vec<f64> {
        let decades = from.floor() as i32..=to.ceil() as i32;
        let all = decades.flat_map(|decade| factors.iter().map(move |factor| factor * 10f64.powi(decade)));
        all.filter(|value| (from..=to).contains(&value.log10())).collect()
    };
    let candidates: [&[f64]; 4] = [&[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0], &[1.0, 2.0, 5.0], &[1.0, 3.0], &[1.0]];
    candidates.into_iter().map(within).find(|ticks| ticks.len() <= TICKS_MAX).unwrap_or_default()
}

/// Ratios up to a logarithm, and their inverses, with 1 between.
pub(super) fn ratios(most: f64) -> Vec<f64> {
    let candidates: [&[f64]; 7] = [
        &[1.02, 1.05, 1.1],
        &[1.1, 1.2, 1.3, 1.5],
        &[1.2, 1.5, 2.0],
        &[1.5, 2.0, 3.0, 5.0],
        &[2.0, 5.0, 10.0, 20.0],
        &[3.0, 10.0, 30.0, 100.0],
        &[10.0, 100.0, 1_000.0],
    ];
    let fitting = candidates.into_iter().find(|ratios| ratios.iter().any(|ratio| ratio.ln() > most));
    let ups: Vec<f64> = fitting.unwrap_or(candidates[6]).iter().copied().filter(|ratio| ratio.ln() <= most).collect();
    let downs = ups.iter().rev().map(|ratio| 1.0 / ratio);
    downs.chain([1.0]).chain(ups.iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_marks_are_round_and_few() {
        assert_eq!(linear(0.5, 2.5), [0.5, 1.0, 1.5, 2.0, 2.5]);
        assert_eq!(
            linear(0.0, 140_000.0),
            [0.0, 20_000.0, 40_000.0, 60_000.0, 80_000.0, 100_000.0, 120_000.0, 140_000.0]
        );
        assert_eq!(linear(0.0, 0.7), [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]);
        for span in [1e-3, 0.9, 7.0, 61.0, 3_600.0, 1e9] {
            let ticks = linear(0.0, span);
            assert!((3..=TICKS_MAX + 1).contains(&ticks.len()), "{span}: {ticks:?}");
        }
    }

    #[test]
    fn logarithmic_marks_fit_their_span() {
        assert_eq!(logarithmic(5.3, 7.4), [2e5, 5e5, 1e6, 2e6, 5e6, 1e7, 2e7]);
        assert_eq!(logarithmic(3.0, 9.0).len(), 7);
        assert!((2..=TICKS_MAX).contains(&logarithmic(5.4, 5.7).len()));
    }

    #[test]
    fn ratios_are_the_same_up_and_down() {
        for most in [1.1_f64, 1.4, 2.2, 4.0, 30.0, 5_000.0] {
            let ticks = ratios(most.ln());
            assert!(ticks.len() >= 3 && ticks.contains(&1.0), "{most}: {ticks:?}");
            assert!(ticks.iter().zip(ticks.iter().rev()).all(|(a, b)| (a * b - 1.0).abs() < 1e-9));
        }
    }
}
