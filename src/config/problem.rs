//! What is wrong with what was said: one line each, with the place, the thing and the likely cause.

use std::fmt;

/// Something that keeps the server from starting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) kind: ProblemKind,
    /// Where it was said: `--port 99999`, `UCAFFEINE_PORT=99999`, `site.toml:3:8: port`.
    pub(crate) place: String,
    pub(crate) what: String,
}

/// Which exit code it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProblemKind {
    /// A flag's value cannot be read.
    Usage,
    /// It can be read, but not be done; or it is not a flag that is wrong.
    Configuration,
}

impl fmt::Display for Problem {
    /// On one line, whatever the text of the user holds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", one_line(&format!("{}: {}", self.place, self.what)))
    }
}

/// A terminal must not obey what stands in a path or a value.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// `; did you mean X?` for the nearest of the candidates, or nothing if none is near.
pub(crate) fn did_you_mean(written: &str, candidates: impl Iterator<Item = String>) -> String {
    let near = |candidate: String| {
        let distance = distance(&written.to_lowercase(), &candidate.to_lowercase());
        (distance <= candidate.len().div_ceil(4)).then_some((distance, candidate))
    };
    match candidates.filter_map(near).min() {
        Some((_, candidate)) => format!("; did you mean {candidate}?"),
        None => String::new(),
    }
}

/// Insertions, deletions, substitutions and swaps of neighbours between two words (optimal string alignment). A hyphen is as
/// good as an underscore.
fn distance(a: &str, b: &str) -> usize {
    let letters = |word: &str| -> Vec<char> {
        word.chars().take(WORD_CHARS_MAX).map(|letter| if letter == '-' { '_' } else { letter }).collect()
    };
    let (a, b) = (letters(a), letters(b));
    // Both words have at most WORD_CHARS_MAX letters, so every index below is inside of the table.
    let mut cost = [[0usize; WORD_CHARS_MAX + 1]; WORD_CHARS_MAX + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            cost[i][j] = match (i, j) {
                (0, _) => j,
                (_, 0) => i,
                _ => {
                    let replaced = cost[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                    let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                    let swap = if swapped { cost[i - 2][j - 2] + 1 } else { usize::MAX };
                    replaced.min(cost[i - 1][j] + 1).min(cost[i][j - 1] + 1).min(swap)
                }
            };
        }
    }
    cost[a.len()][b.len()]
}

/// Longer words resemble nothing of ours.
const WORD_CHARS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn suggest(written: &str) -> String {
        did_you_mean(written, super::super::settings::names().map(super::super::settings::key))
    }

    #[test]
    fn near_names_are_suggested_and_far_ones_are_not() {
        for (written, want) in [
            ("prot", "; did you mean port?"),
            ("Port", "; did you mean port?"),
            ("head-bytes-max", "; did you mean head_bytes_max?"),
            ("idle_max", "; did you mean idle_ms_max?"),
            ("workers", ""),
            ("listing_of_folders", ""),
            ("", ""),
        ] {
            assert_eq!(suggest(written), want, "{written}");
        }
    }

    #[test]
    fn distances_are_the_known_ones() {
        for (a, b, want) in
            [("kitten", "sitting", 3), ("", "abc", 3), ("abc", "", 3), ("flaw", "lawn", 2), ("prot", "port", 1)]
        {
            assert_eq!(distance(a, b), want, "{a} {b}");
        }
    }

    #[test]
    fn a_problem_is_one_line() {
        let place = String::from("--path a\nb\x1b[31m");
        let problem = Problem { kind: ProblemKind::Configuration, place, what: String::from("no such folder") };
        assert_eq!(problem.to_string().lines().count(), 1);
        assert!(!problem.to_string().contains('\x1b'));
    }
}
