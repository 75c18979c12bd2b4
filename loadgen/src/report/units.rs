//! Numbers as people read them, and as they write them.
//!
//! Three digits, one unit, and never a number that its unit does not fit: 999.7 us is `1.00 ms`. Factors are decimal, as in
//! networks: a kB is 1,000 bytes.

type Scale = &'static [(&'static str, f64)];

/// Ascending, as all scales.
const DURATIONS: Scale = &[("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9)];
const BYTES: Scale = &[("B", 1.0), ("kB", 1e3), ("MB", 1e6), ("GB", 1e9), ("TB", 1e12), ("PB", 1e15)];

/// `480 us`, `1.20 ms`, `12.3 s`.
#[must_use]
pub fn duration(ns: u64) -> String {
    duration_f64(ns as f64)
}

/// The same for a mean.
#[must_use]
pub fn duration_f64(ns: f64) -> String {
    scaled(ns, DURATIONS)
}

/// A duration that is round, as on an axis: `500 us`, `1 ms`, `1.5 ms`.
#[must_use]
pub fn round_duration(ns: f64) -> String {
    let text = duration_f64(ns);
    text.split_once(' ').map_or_else(|| text.clone(), |(number, unit)| format!("{} {unit}", trimmed(number)))
}

/// `1.52 GB`.
#[must_use]
pub fn bytes(bytes: f64) -> String {
    scaled(bytes, BYTES)
}

/// `131,204/s`; small rates with their fraction.
#[must_use]
pub fn rate(per_second: f64) -> String {
    if per_second > 0.0 && per_second < 99.95 {
        return format!("{}/s", three_digits(per_second));
    }
    format!("{}/s", count(per_second.round() as u64))
}

/// `1,312,040`.
#[must_use]
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
    groups.join(",")
}

/// `1 error`, `2,000 errors`.
#[must_use]
pub fn plural(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

/// `99.5%`, `0.01%`; never `100%` or `0%` for what is not quite so.
#[must_use]
pub fn share(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        p if p <= 0.0 => String::from("0%"),
        p if p < 0.001 => String::from("<0.001%"),
        p if p > 99.9 && p < 100.0 => String::from(">99.9%"),
        p => format!("{}%", trimmed(&three_digits(p))),
    }
}

/// `x1.53`: how many times.
#[must_use]
pub fn ratio(ratio: f64) -> String {
    if ratio >= 99.95 { format!("x{}", count(ratio.round() as u64)) } else { format!("x{}", three_digits(ratio)) }
}

/// A ratio that is round, as on an axis: `x1.5`, `x10`.
#[must_use]
pub fn round_ratio(value: f64) -> String {
    trimmed(&ratio(value)).to_owned()
}

/// Three digits and the unit that leaves one to three before the point.
fn scaled(value: f64, scale: Scale) -> String {
    let base = scale[0].1;
    let fits = |&&(_, factor): &&(&str, f64)| value / factor < 999.5;
    let &(unit, factor) = scale.iter().find(fits).unwrap_or(&scale[scale.len() - 1]);
    let number = value / factor;
    if factor == base && value.fract() == 0.0 || number >= 999.5 {
        return format!("{} {unit}", count(number.round() as u64));
    }
    format!("{} {unit}", three_digits(number))
}

/// `1.20`, `12.3`, `480`.
fn three_digits(number: f64) -> String {
    match number {
        n if n < 0.01 && n > 0.0 => format!("{n:.4}"),
        n if n < 0.9995 => format!("{n:.3}"),
        n if n < 9.995 => format!("{n:.2}"),
        n if n < 99.95 => format!("{n:.1}"),
        n => format!("{n:.0}"),
    }
}

/// Without zeros at the end of a fraction.
fn trimmed(number: &str) -> &str {
    if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number }
}

/// Nanoseconds as the shortest text that [`parse_duration`] reads back.
#[must_use]
pub fn exact_duration(ns: f64) -> String {
    let text = |&(unit, factor): &(&str, f64)| format!("{}{unit}", ns / factor);
    let same = |text: &String| parse_duration(text) == Ok(ns);
    DURATIONS.iter().map(text).filter(same).min_by_key(String::len).unwrap_or_else(|| format!("{ns}ns"))
}

/// Reads `2ms`, `1.5s`, `500us` as nanoseconds.
pub fn parse_duration(text: &str) -> Result<f64, String> {
    let (number, unit) = split(text)?;
    // Two ways to write a micro sign.
    let unit = if matches!(unit, "\u{b5}s" | "\u{3bc}s") { "us" } else { unit };
    let factor = DURATIONS.iter().chain(&[("m", 60e9)]).find(|(name, _)| *name == unit).map(|row| row.1);
    factor.map(|factor| number * factor).ok_or_else(|| {
        let found =
            if unit.is_empty() { format!("`{text}` has no unit") } else { format!("`{unit}` is no unit of time") };
        format!("{found}; write ns, us, ms, s or m, as in 2ms")
    })
}

/// Reads `0.1%` and `0.001` as a share.
pub fn parse_share(text: &str) -> Result<f64, String> {
    let share = match split(text)? {
        (number, "%") => number / 100.0,
        (number, "") => number,
        (_, unit) => return Err(format!("`{unit}` is no unit of a share; write 0.1% or 0.001")),
    };
    if share <= 1.0 { Ok(share) } else { Err(format!("`{text}` is more than all; write 0.1% or 0.001")) }
}

/// Reads `50k`, `1.5m` and `200000`.
pub fn parse_count(text: &str) -> Result<f64, String> {
    let (number, unit) = split(text.trim_end_matches("/s"))?;
    match unit {
        "" => Ok(number),
        "k" | "K" => Ok(number * 1e3),
        "m" | "M" => Ok(number * 1e6),
        _ => Err(format!("`{unit}` is no factor; write k or m, as in 50k")),
    }
}

/// A number without sign and exponent, and what follows it.
fn split(text: &str) -> Result<(f64, &str), String> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number = text[..end].parse::<f64>().map_err(|_| format!("`{text}` does not begin with a number"))?;
    Ok((number, text[end..].trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_three_digits_and_the_unit_that_fits() {
        let table: &[(u64, &str)] = &[
            (0, "0 ns"),
            (1, "1 ns"),
            (999, "999 ns"),
            (1_000, "1.00 us"),
            (9_994, "9.99 us"),
            (9_996, "10.0 us"),
            (99_960, "100 us"),
            (480_000, "480 us"),
            (999_400, "999 us"),
            (999_700, "1.00 ms"),
            (1_204_000, "1.20 ms"),
            (502_100_000, "502 ms"),
            (999_999_999, "1.00 s"),
            (12_340_000_000, "12.3 s"),
            (3_600_000_000_000, "3,600 s"),
        ];
        for (ns, text) in table {
            assert_eq!(duration(*ns), *text);
        }
        assert_eq!([1e6, 1.5e6, 5e5, 2e9].map(round_duration), ["1 ms", "1.5 ms", "500 us", "2 s"]);
        assert_eq!(duration_f64(0.5), "0.500 ns");
        assert_eq!(duration_f64(487.4), "487 ns");
    }

    #[test]
    fn counts_rates_sizes_and_shares() {
        assert_eq!([0, 999, 1_000, 1_312_040].map(count), ["0", "999", "1,000", "1,312,040"]);
        assert_eq!([0.0, 0.25, 12.34, 99.96, 131_203.6].map(rate), ["0/s", "0.250/s", "12.3/s", "100/s", "131,204/s"]);
        assert_eq!(
            [0.0, 999.0, 1_000.0, 1.52e9, 999.6e6].map(bytes),
            ["0 B", "999 B", "1.00 kB", "1.52 GB", "1.00 GB"]
        );
        assert_eq!(
            [0.0, 1e-9, 0.0001, 0.005, 0.5, 0.995, 0.999_9, 1.0].map(share),
            ["0%", "<0.001%", "0.01%", "0.5%", "50%", "99.5%", ">99.9%", "100%"]
        );
        assert_eq!([1.0, 1.5, 10.0, 0.01, 1_000.0].map(round_ratio), ["x1", "x1.5", "x10", "x0.01", "x1,000"]);
        assert_eq!([1.0, 1.534, 0.66, 12.34, 1_234.0].map(ratio), ["x1.00", "x1.53", "x0.660", "x12.3", "x1,234"]);
    }

    #[test]
    fn what_people_write_is_read() {
        for (text, ns) in
            [("2ms", 2e6), ("1.5 s", 1.5e9), ("500us", 5e5), ("500\u{b5}s", 5e5), ("7ns", 7.0), ("1m", 60e9)]
        {
            assert_eq!(parse_duration(text), Ok(ns), "{text}");
        }
        assert_eq!((parse_share("0.1%"), parse_share("0.001"), parse_share("100%")), (Ok(0.001), Ok(0.001), Ok(1.0)));
        assert_eq!((parse_count("50k"), parse_count("1.5m/s"), parse_count("7")), (Ok(5e4), Ok(1.5e6), Ok(7.0)));
    }

    #[test]
    fn what_cannot_be_meant_is_an_error_that_says_what_can() {
        for (error, hint) in [
            (parse_duration("2"), "has no unit"),
            (parse_duration("2 parsecs"), "no unit of time"),
            (parse_duration(""), "number"),
            (parse_duration("-1s"), "number"),
            (parse_duration("1.2.3s"), "number"),
            (parse_share("2"), "more than all"),
            (parse_share("1ms"), "no unit of a share"),
            (parse_count("1x"), "no factor"),
        ] {
            let error = error.expect_err(hint);
            assert!(error.contains(hint), "{error}");
        }
    }

    #[test]
    fn an_exact_duration_is_short_and_reads_back() {
        for (ns, text) in [(2e6, "2ms"), (1.5e9, "1.5s"), (123_456.0, "123456ns"), (0.5, "0.5ns")] {
            assert_eq!(exact_duration(ns), text);
        }
    }
}
