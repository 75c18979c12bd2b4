//! `ucaffeine top`: what follows the verb.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Arg, ArgAction, Command, value_parser};

use crate::config::Unit;
use crate::instance::Show;

/// The first argument that means this. A folder of that name is `./top`.
pub(crate) const VERB: &str = "top";

/// What was typed.
pub(crate) struct Top {
    pub(crate) name: Option<OsString>,
    pub(crate) show: Show,
    pub(crate) every: Duration,
}

const INTERVAL_DEFAULT: &str = "1s";
/// More often, and looking becomes a load of its own.
const INTERVAL_MS_MIN: u64 = 100;
const INTERVAL_MS_MAX: u64 = 3_600_000;

/// Reads what follows the verb.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Top, clap::Error> {
    let program = std::iter::once(OsString::from("ucaffeine top"));
    let matches = command().try_get_matches_from(program.chain(arguments))?;
    let show = match (matches.get_flag("json"), matches.get_flag("once")) {
        (true, _) => Show::Json,
        (false, true) => Show::Once,
        (false, false) => Show::Live,
    };
    let name = matches.get_one::<OsString>("name").cloned();
    Ok(Top { name, show, every: matches.get_one("interval").copied().unwrap_or_default() })
}

pub(crate) fn command() -> Command {
    let switch =
        |name: &'static str, help: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue).help(help);
    Command::new("ucaffeine top")
        .about("Watches an instance: its cores, latencies, paths and running scripts.")
        .override_usage("ucaffeine top [-n NAME] [FLAGS]")
        .max_term_width(100)
        .arg(
            Arg::new("name")
                .long("name")
                .short('n')
                .value_name("NAME")
                .value_parser(value_parser!(OsString))
                .help("Which; not needed when only one runs"),
        )
        .arg(switch("once", "Look twice, an interval apart, and print one table; also where there is no terminal"))
        .arg(switch("json", "The same, as one JSON object").conflicts_with("once"))
        .arg(
            Arg::new("interval")
                .long("interval")
                .short('i')
                .value_name("TIME")
                .default_value(INTERVAL_DEFAULT)
                .value_parser(interval)
                .help("From one look to the next"),
        )
        .after_help("Keys: q quits, p pauses, s sorts, ? explains.")
}

fn interval(text: &str) -> Result<Duration, String> {
    match Unit::Millis.parse(text)? {
        ms @ INTERVAL_MS_MIN..=INTERVAL_MS_MAX => Ok(Duration::from_millis(ms)),
        _ => Err(String::from("out of bounds; 100ms to 1h")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn what_is_typed_is_meant() {
        let parsed = |arguments: &[&str]| parse(arguments.iter().map(OsString::from));
        let top = parsed(&["-n", "shop", "--once", "-i", "250ms"]).unwrap();
        assert_eq!((top.name, top.show, top.every), (Some("shop".into()), Show::Once, Duration::from_millis(250)));
        let top = parsed(&[]).unwrap();
        assert_eq!((top.name, top.show, top.every), (None, Show::Live, Duration::from_secs(1)));
        for wrong in [&["-i", "1ms"][..], &["-i", "2h"], &["-i", "x"], &["--once", "--json"], &["shop"]] {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
        }
    }
}
