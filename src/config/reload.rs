//! What only a start can change: addresses, threads, rings, files that were opened once. Everything else is taken up while the
//! server runs.

use super::limits::LIMITS;
use super::settings::{Group, SETTINGS};
use super::{Config, Settled};

/// Of what is said about serving, what can change. The rest of it is about how the process was set up.
const SERVING_CAN_CHANGE: [&str; 2] = ["path", "log-level"];
/// Of everything else, what cannot: what a core's ring and its buffers were made from.
const CANNOT_CHANGE: [&str; 4] =
    ["connections-max", "cold-buffer-bytes-max", "drain-delay-ms", "access-log-buffer-bytes-max"];

/// Whether only a start can change it.
fn is_fixed(name: &str) -> bool {
    let group = SETTINGS.iter().find(|setting| setting.name == name).map(|setting| setting.group);
    let group = group.or_else(|| LIMITS.iter().find(|limit| limit.name == name).map(|limit| limit.group));
    match group {
        Some(Group::Serving) => !SERVING_CAN_CHANGE.contains(&name),
        _ => CANNOT_CHANGE.contains(&name),
    }
}

impl Config {
    /// What is not as it was when the server `started`, and cannot change before the next start.
    pub(crate) fn needs_restart(&self, started: &Config) -> Vec<&'static str> {
        let was = |now: &&Settled| started.settled.iter().find(|was| was.name == now.name).map(|was| &was.value);
        let changed = self.settled.iter().filter(|now| is_fixed(now.name) && was(now) != Some(&now.value));
        // Another way to write the same addresses is no change of them.
        let is_same_place = self.options.listen == started.options.listen;
        let names = changed.map(|now| now.name).filter(|name| !(is_same_place && matches!(*name, "bind" | "port")));
        names.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Given, Layer, Origin};
    use super::*;

    /// What was said: names and values.
    type Said = &'static [(&'static str, &'static str)];

    fn config(said: Said) -> Config {
        let mut flags = Layer::default();
        for (name, text) in said {
            flags.add(name, Given { text: text.into(), origin: Origin::Flag(format!("--{name}")) });
        }
        Config::resolve(flags, None, &[], Layer::default()).unwrap()
    }

    #[test]
    fn what_cannot_change_is_told_by_name() {
        let started = config(&[("path", "/"), ("port", "80")]);
        let table: [(Said, &[&str]); 6] = [
            (&[("path", "/"), ("port", "80")], &[]),
            (&[("path", "/tmp"), ("port", "80"), ("log-level", "debug"), ("idle-ms-max", "1s")], &[]),
            (&[("path", "/"), ("port", "81")], &["port"]),
            (&[("path", "/"), ("bind", "127.0.0.1:80")], &[]),
            (&[("path", "/"), ("bind", "127.0.0.2"), ("port", "80"), ("cores", "3")], &["bind", "cores"]),
            (
                &[("path", "/"), ("port", "80"), ("engine", "uring"), ("connections-max", "9")],
                &["engine", "connections-max"],
            ),
        ];
        for (said, want) in table {
            assert_eq!(config(said).needs_restart(&started), want, "{said:?}");
        }
    }

    #[test]
    fn the_lists_name_what_there_is() {
        let known: Vec<_> = super::super::settings::names().collect();
        for name in SERVING_CAN_CHANGE.iter().chain(&CANNOT_CHANGE) {
            assert!(known.contains(name), "{name}");
        }
    }
}
