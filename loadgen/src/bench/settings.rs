//! What a comparison is: everything that must be the same when it is resumed, and that a reader must know.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::cell::{CELLS, Drive, Key, RAMP};
use super::plan::{self, Lengths, Step};
use super::subject::Subject;
use crate::record::Host;

/// The name and number of the format.
pub const SCHEMA: &str = "loadgen-bench/1";

/// The file `settings.json` of a folder of results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// [`SCHEMA`].
    pub schema: String,
    /// What is compared, as in the folder's name.
    pub question: String,
    /// The words of the command that began it.
    pub command_line: Vec<String>,
    /// The machine.
    pub host: Host,
    /// Its name.
    pub host_name: String,
    /// What the kernel paces and delays by.
    pub congestion_control: String,
    /// The day it began, as in 2026-11-21.
    pub date: String,
    /// How often everything is measured.
    pub rounds: u32,
    /// How long, each time.
    pub seconds: f64,
    /// And how long before that nothing is counted.
    pub warmup: f64,
    /// The CPUs of the servers.
    pub server_cpus: Vec<usize>,
    /// The CPUs of the generator.
    pub generator_cpus: Vec<usize>,
    /// The cells, by name.
    pub cells: Vec<String>,
    /// The servers.
    pub servers: Vec<Entrant>,
    /// What chance is made from.
    pub seed: u64,
    /// Of the second part, once the first has been measured.
    pub rates: Option<Rates>,
}

/// A server, and which program it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entrant {
    /// Its lines of configuration.
    pub subject: Subject,
    /// What it says it is.
    pub version_found: Option<String>,
    /// The CRC-32 of the program's file: another build is another server.
    pub program_crc32: Option<u32>,
}

/// The rates of the open loops.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// By cell: the capacity of the slowest server, in requests a second, and which one that is.
    pub slowest: BTreeMap<String, (f64, String)>,
    /// By server: its own capacity in the cell whose knee is looked for.
    pub own: BTreeMap<String, f64>,
}

impl Settings {
    /// The servers alone.
    #[must_use]
    pub fn subjects(&self) -> Vec<Subject> {
        self.servers.iter().map(|entrant| entrant.subject.clone()).collect()
    }

    /// The cells' places in [`CELLS`].
    #[must_use]
    pub fn cell_places(&self) -> Vec<usize> {
        plan::cells_named(&self.cells).unwrap_or_default()
    }

    /// How long one measurement is.
    #[must_use]
    pub fn lengths(&self) -> Lengths {
        Lengths { seconds: self.seconds, warmup: self.warmup }
    }

    /// The first part, in its order.
    #[must_use]
    pub fn first_part(&self) -> Vec<Step> {
        plan::capacities(&self.cell_places(), &self.subjects(), self.rounds)
    }

    /// The second part, in its order.
    #[must_use]
    pub fn second_part(&self) -> Vec<Step> {
        plan::paced(&self.cell_places(), &self.subjects(), self.rounds)
    }

    /// Why this cannot go on where `other` was begun; nothing if it can.
    #[must_use]
    pub fn differences(&self, other: &Settings) -> Vec<String> {
        let mut found: Vec<String> =
            self.host.differences(&other.host).into_iter().map(|what| format!("another machine: {what}")).collect();
        if self.host_name != other.host_name {
            found.push(format!("another machine: {} and {}", self.host_name, other.host_name));
        }
        for (mine, theirs) in self.servers.iter().zip(&other.servers) {
            if mine.program_crc32 != theirs.program_crc32 {
                found.push(format!("{} is another program than the one that was measured", mine.subject.name));
            }
        }
        found
    }
}

impl Rates {
    /// What is offered there, in requests a second, from the beginning to the end; `None` where nothing is known to offer.
    #[must_use]
    pub fn offered(&self, key: Key, server: &str) -> Option<(f64, f64)> {
        match key.drive {
            Drive::Capacity => None,
            Drive::Paced(percent) => {
                let rate = self.slowest.get(CELLS[key.cell].name)?.0 * f64::from(percent) / 100.0;
                Some((rate, rate))
            }
            Drive::Ramp => self.own.get(server).map(|own| (own * RAMP.0, own * RAMP.1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_offered_the_same_but_for_the_ramp() {
        let rates = Rates {
            slowest: [("close".to_owned(), (1_000.0, "a".to_owned()))].into(),
            own: [("a".to_owned(), 2_000.0)].into(),
        };
        let key = |text: &str| text.parse::<Key>().unwrap();
        assert_eq!(rates.offered(key("close@80"), "a"), Some((800.0, 800.0)));
        assert_eq!(rates.offered(key("close@80"), "b"), Some((800.0, 800.0)));
        assert_eq!(rates.offered(key("close"), "a"), None);
        assert_eq!(rates.offered(key("cgi-hello@10"), "a"), None);
        assert_eq!(rates.offered(key("keepalive-64@ramp"), "a"), Some((400.0, 2_600.0)));
        assert_eq!(rates.offered(key("keepalive-64@ramp"), "b"), None);
    }
}
