//! Which percentile may be printed. One is an estimate from the samples beyond it: below a hundred of them it says more
//! about chance than about the server.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Samples that must lie beyond a percentile before it is printed.
pub const BEYOND_MIN: u64 = 100;

/// Parts of a percent: percentiles are whole numbers of them, so that no rounding decides what is printed.
const PER_PERCENT: u32 = 100_000;
const WHOLE: u32 = 100 * PER_PERCENT;

/// The percentiles of a summary and of the JSON.
pub const PERCENTILES: &[Percentile] = &[
    Percentile::percent(50),
    Percentile::percent(75),
    Percentile::percent(90),
    Percentile::percent(95),
    Percentile::percent(99),
    Percentile(9_990_000),
    Percentile(9_999_000),
    Percentile(9_999_900),
];

/// A percentile between 0 and 100, both excluded, to five decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Percentile(u32);

impl Percentile {
    /// The median.
    pub const P50: Percentile = Percentile::percent(50);
    /// One of a hundred is beyond it.
    pub const P99: Percentile = Percentile::percent(99);

    /// A whole number of percent; 50 is the median.
    ///
    /// # Panics
    /// When it is 0, or 100 or more: the callers are constants.
    #[must_use]
    pub const fn percent(percent: u32) -> Percentile {
        assert!(percent > 0 && percent < 100, "a percentile is between 0 and 100");
        Percentile(percent * PER_PERCENT)
    }

    /// The percentile with half as many samples beyond it: p99.5 for p99.
    #[must_use]
    pub fn halfway_to_max(self) -> Percentile {
        Percentile(WHOLE - (WHOLE - self.0).div_ceil(2))
    }

    /// As a share: 0.99 for p99.
    #[must_use]
    pub fn quantile(self) -> f64 {
        f64::from(self.0) / f64::from(WHOLE)
    }

    /// How many of so many samples lie beyond it.
    #[must_use]
    pub fn beyond(self, samples: u64) -> u64 {
        let beyond = u128::from(samples) * u128::from(WHOLE - self.0) / u128::from(WHOLE);
        u64::try_from(beyond).unwrap_or(u64::MAX)
    }

    /// True if so many samples are enough to print it.
    #[must_use]
    pub fn is_known_from(self, samples: u64) -> bool {
        self.beyond(samples) >= BEYOND_MIN
    }

    /// How many samples it takes to print it.
    #[must_use]
    pub fn samples_min(self) -> u64 {
        (BEYOND_MIN * u64::from(WHOLE)).div_ceil(u64::from(WHOLE - self.0))
    }
}

/// `50`, `99.9`.
impl fmt::Display for Percentile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / PER_PERCENT, self.0 % PER_PERCENT);
        if part == 0 {
            return write!(f, "{whole}");
        }
        write!(f, "{whole}.{}", format!("{part:05}").trim_end_matches('0'))
    }
}

/// Reads `50`, `99.9` and `p99.9`.
impl FromStr for Percentile {
    type Err = String;

    fn from_str(text: &str) -> Result<Percentile, String> {
        let digits = text.strip_prefix(['p', 'P']).unwrap_or(text);
        let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let fits = !whole.is_empty() && whole.len() <= 2 && part.len() <= 5 && plain(whole) && plain(part);
        let parsed = format!("{whole}{part:0<5}").parse::<u32>().ok().filter(|&value| fits && value > 0);
        parsed.map(Percentile).ok_or_else(|| {
            format!("`{text}` is no percentile; write a number between 0 and 100, with up to five decimals, as in 99.9")
        })
    }
}

impl TryFrom<String> for Percentile {
    type Error = String;

    fn try_from(text: String) -> Result<Percentile, String> {
        text.parse()
    }
}

impl From<Percentile> for String {
    fn from(percentile: Percentile) -> String {
        percentile.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_printed_from_a_hundred_samples_beyond_on() {
        for (percentile, samples) in
            [("50", 200), ("90", 1_000), ("99", 10_000), ("99.9", 100_000), ("99.99", 1_000_000)]
        {
            let percentile: Percentile = percentile.parse().expect(percentile);
            assert!(percentile.is_known_from(samples), "{percentile} of {samples}");
            assert!(!percentile.is_known_from(samples - 1), "{percentile} of {}", samples - 1);
            assert_eq!(percentile.samples_min(), samples);
        }
        assert_eq!(Percentile::P50.beyond(u64::MAX), u64::MAX / 2);
    }

    #[test]
    fn it_is_written_as_it_is_read() {
        for text in ["50", "1", "99.9", "99.999", "0.00001", "99.99999", "2.5"] {
            assert_eq!(text.parse::<Percentile>().expect(text).to_string(), text);
        }
        assert_eq!("p99".parse(), Ok(Percentile::P99));
        for text in ["", "p", "0", "100", "99.999999", "-1", "1e1", "99,9", "+9", ".5"] {
            assert!(text.parse::<Percentile>().is_err(), "{text}");
        }
    }

    #[test]
    fn halfway_to_the_maximum() {
        assert_eq!(Percentile::P99.halfway_to_max().to_string(), "99.5");
        assert_eq!(Percentile::P50.halfway_to_max().to_string(), "75");
    }
}
