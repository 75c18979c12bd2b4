//! Sizes, durations and counts, as people write them.

/// What a limit is measured in. The last word of its name says it too: `bytes`, `ms`, `per-s`, or nothing for a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Bytes,
    Millis,
    Count,
    BytesPerSecond,
}

/// What stands for no limit, where a limit may be absent.
pub(crate) const NONE: &str = "none";

type Suffixes = &'static [(&'static str, u64)];

/// Ascending; a number without a suffix is in the first.
const SIZES: Suffixes = &[("", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];
const DURATIONS: Suffixes = &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
const COUNTS: Suffixes = &[("", 1)];

impl Unit {
    /// Reads `64KiB`, `10s` or `100`; the error says what would have been right.
    pub(crate) fn parse(self, text: &str) -> Result<u64, String> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, suffix) = text.split_at(digits);
        let factor = match suffix.trim() {
            "" => Some(1),
            suffix => self.suffixes().iter().find(|(name, _)| name.eq_ignore_ascii_case(suffix)).map(|&(_, by)| by),
        };
        let (Ok(number), Some(factor)) = (number.parse::<u64>(), factor) else {
            return Err(format!("not {}", self.expected()));
        };
        number.checked_mul(factor).ok_or_else(|| String::from("too large"))
    }

    /// The shortest exact way to write it, which [`Unit::parse`] reads back.
    pub(crate) fn show(self, value: u64) -> String {
        let exact = |&&(_, by): &&(&str, u64)| value >= by && value.is_multiple_of(by);
        match self.suffixes().iter().rev().find(exact) {
            Some((suffix, by)) => format!("{}{suffix}", value / by),
            None => value.to_string(),
        }
    }

    /// The placeholder in the help.
    pub(crate) fn placeholder(self) -> &'static str {
        match self {
            Unit::Bytes => "SIZE",
            Unit::Millis => "TIME",
            Unit::Count => "N",
            Unit::BytesPerSecond => "SIZE",
        }
    }

    fn suffixes(self) -> Suffixes {
        match self {
            Unit::Bytes | Unit::BytesPerSecond => SIZES,
            Unit::Millis => DURATIONS,
            Unit::Count => COUNTS,
        }
    }

    fn expected(self) -> &'static str {
        match self {
            Unit::Bytes | Unit::BytesPerSecond => "a size; write bytes, or a number with KiB, MiB or GiB, as in 64KiB",
            Unit::Millis => "a time; write milliseconds, or a number with ms, s, m or h, as in 10s",
            Unit::Count => "a whole number",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_read() {
        let table = [
            (Unit::Bytes, "0", 0),
            (Unit::Bytes, "8000", 8_000),
            (Unit::Bytes, "64KiB", 65_536),
            (Unit::Bytes, "64kib", 65_536),
            (Unit::Bytes, "1 MiB", 1 << 20),
            (Unit::Millis, "1500", 1_500),
            (Unit::Millis, "500ms", 500),
            (Unit::Millis, "10s", 10_000),
            (Unit::Millis, "5m", 300_000),
            (Unit::Millis, "2h", 7_200_000),
            (Unit::Count, "64", 64),
            (Unit::BytesPerSecond, "1KiB", 1_024),
        ];
        for (unit, text, want) in table {
            assert_eq!(unit.parse(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_an_example() {
        let table = [
            (Unit::Bytes, "64KB", "as in 64KiB"),
            (Unit::Bytes, "", "not a size"),
            (Unit::Bytes, "-1", "not a size"),
            (Unit::Bytes, "1.5MiB", "not a size"),
            (Unit::Bytes, "99999999999TiB", "too large"),
            (Unit::Bytes, "99999999999999999999999", "not a size"),
            (Unit::Millis, "10sec", "as in 10s"),
            (Unit::Millis, "s", "not a time"),
            (Unit::Count, "64KiB", "whole number"),
        ];
        for (unit, text, want) in table {
            let error = unit.parse(text).unwrap_err();
            assert!(error.contains(want), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_shown_is_read_back() {
        for (unit, value, want) in [
            (Unit::Bytes, 65_536, "64KiB"),
            (Unit::Bytes, 8_000, "8000"),
            (Unit::Millis, 60_000, "1m"),
            (Unit::Millis, 100, "100ms"),
            (Unit::Millis, 0, "0"),
            (Unit::Count, 100, "100"),
        ] {
            assert_eq!(unit.show(value), want);
            assert_eq!(unit.parse(want), Ok(value));
        }
    }

    proptest::proptest! {
        #[test]
        fn show_and_parse_agree(value: u64) {
            for unit in [Unit::Bytes, Unit::Millis, Unit::Count, Unit::BytesPerSecond] {
                proptest::prop_assert_eq!(unit.parse(&unit.show(value)), Ok(value));
            }
        }

        #[test]
        fn no_text_panics(text: String) {
            for unit in [Unit::Bytes, Unit::Millis, Unit::Count, Unit::BytesPerSecond] {
                let _ = unit.parse(&text);
            }
        }
    }
}
