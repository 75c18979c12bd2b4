//! The hidden flags that make the server slow on purpose, for proving that a measurement finds it: docs/gate.md. They have
//! no key and no variable, so that no configuration turns them on unseen.

use std::time::Duration;

use clap::{Arg, ArgMatches, Command};
use ucaffeine::serve::options::Inject;

const DELAY: &str = "inject-delay";
const SPIN: &str = "inject-spin";
/// Longer is no test of a measurement any more, and a core that spins answers nobody else.
const TIME_MAX: Duration = Duration::from_millis(100);

pub(super) fn add(command: Command) -> Command {
    command
        .arg(Arg::new(DELAY).long(DELAY).value_name("TIME:SHARE").value_parser(delay).hide(true))
        .arg(Arg::new(SPIN).long(SPIN).value_name("TIME").value_parser(time).hide(true))
}

pub(super) fn of(matches: &ArgMatches) -> Inject {
    let (delay, delayed_per_million) = matches.get_one::<(Duration, u32)>(DELAY).copied().unwrap_or_default();
    Inject { delay, delayed_per_million, spin: matches.get_one(SPIN).copied().unwrap_or_default() }
}

/// `200us:0.02`: so long, for that share of what comes.
fn delay(text: &str) -> Result<(Duration, u32), String> {
    let (length, share) = text.split_once(':').ok_or("a delay is written TIME:SHARE, as in 200us:0.02")?;
    match share.parse::<f64>() {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok((time(length)?, (share * 1e6).round() as u32)),
        _ => Err(format!("{share} is no share: one is above 0 and at most 1, as in 0.02")),
    }
}

/// `3us`, `1ms`.
fn time(text: &str) -> Result<Duration, String> {
    let read = |digits: &str| digits.parse::<u32>().ok().map(u64::from);
    let time = match (text.strip_suffix("us").and_then(read), text.strip_suffix("ms").and_then(read)) {
        (Some(us), _) => Duration::from_micros(us),
        (None, Some(ms)) => Duration::from_millis(ms),
        (None, None) => return Err(format!("{text} is no time: one is written as 3us or 1ms")),
    };
    match time {
        time if time.is_zero() => Err(String::from("no time is no test")),
        time if time > TIME_MAX => Err(format!("at most {} ms", TIME_MAX.as_millis())),
        time => Ok(time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_shares_are_read() {
        assert_eq!(time("3us"), Ok(Duration::from_micros(3)));
        assert_eq!(delay("200us:0.02"), Ok((Duration::from_micros(200), 20_000)));
        assert_eq!(delay("1ms:1"), Ok((Duration::from_millis(1), 1_000_000)));
        for text in ["", "3", "us", "-1us", "0us", "101ms", "99999999999us"] {
            assert!(time(text).is_err(), "{text}");
        }
        for text in ["200us", "200us:", "200us:0", "200us:2", "200us:x", ":0.1", "0us:0.1"] {
            assert!(delay(text).is_err(), "{text}");
        }
    }
}
