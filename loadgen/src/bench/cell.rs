//! What is measured: a table of loads, and the ways in which each is driven. Pure.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::subject::{AfterReply, Programs, Subject};

/// One load.
#[derive(Debug, PartialEq, Eq)]
pub struct Cell {
    /// As in `--cells` and in the names of files.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    /// What is asked for.
    pub what: What,
    /// How many connections ask.
    pub connections: u32,
    /// Requests in flight on each.
    pub pipeline: u32,
    /// Whether the generator closes after each answer, whoever serves.
    pub closes: bool,
    /// Whether it is measured at the same rate for all, too.
    pub paced: bool,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// A file of 1 KiB.
    Small,
    /// A file of 100 KiB.
    Medium,
    /// A file of 10 MiB.
    Large,
    /// A program that says hello.
    Hello,
    /// A program that says 1 MiB.
    Output,
}

/// The cells, in the order of tables.
pub const CELLS: &[Cell] = &[
    cell("keepalive-1", "1 KiB, 1 connection", What::Small, 1),
    Cell { paced: true, ..cell("keepalive-64", "1 KiB, 64 connections", What::Small, 64) },
    cell("keepalive-1k", "1 KiB, 1,000 connections", What::Small, 1_000),
    cell("keepalive-10k", "1 KiB, 10,000 connections", What::Small, 10_000),
    Cell { pipeline: 16, ..cell("pipelined", "1 KiB, 64 connections, 16 requests in flight on each", What::Small, 64) },
    Cell {
        closes: true,
        paced: true,
        ..cell("close", "1 KiB, a connection per request, 64 at a time", What::Small, 64)
    },
    cell("file-100k", "100 KiB, 64 connections", What::Medium, 64),
    cell("file-10m", "10 MiB, 16 connections", What::Large, 16),
    Cell {
        closes: true,
        paced: true,
        ..cell("cgi-hello", "a program that says hello, a connection per request, 16 at a time", What::Hello, 16)
    },
    Cell {
        closes: true,
        ..cell("cgi-1m", "a program that says 1 MiB, a connection per request, 16 at a time", What::Output, 16)
    },
];

/// The cell whose rate is raised until it is too much: the knee.
pub const KNEE_CELL: &str = "keepalive-64";

/// The shares of the slowest server's capacity that all are offered, in percent.
pub const PERCENTS: [u8; 3] = [10, 50, 80];

/// The share of its own capacity at which a ramp begins, and at which it ends.
pub const RAMP: (f64, f64) = (0.2, 1.3);

/// A ramp takes so many times as long as the other cells, for every rate of it to have its answers.
pub const RAMP_TIMES: f64 = 2.0;

/// How a cell is driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Drive {
    /// A closed loop: as fast as it goes.
    Capacity,
    /// An open loop at that share of what the slowest server can do, in percent.
    Paced(u8),
    /// An open loop that grows beyond what this server can do.
    Ramp,
}

/// A cell and how it is driven: `close`, `close@50`, `keepalive-64@ramp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key {
    /// Its place in [`CELLS`].
    pub cell: usize,
    /// How it is driven.
    pub drive: Drive,
}

const fn cell(name: &'static str, title: &'static str, what: What, connections: u32) -> Cell {
    Cell { name, title, what, connections, pipeline: 1, closes: false, paced: false }
}

impl What {
    /// The path, below the server's address.
    #[must_use]
    pub fn path(self, programs: Programs) -> &'static str {
        match (self, programs) {
            (What::Small, _) => "/1k.html",
            (What::Medium, _) => "/100k.bin",
            (What::Large, _) => "/10m.bin",
            (What::Hello, Programs::Nph) => "/cgi-bin/nph-hello",
            (What::Hello, _) => "/cgi-bin/hello",
            (What::Output, Programs::Nph) => "/cgi-bin/nph-1m",
            (What::Output, _) => "/cgi-bin/1m",
        }
    }

    /// How long the body of the answer is.
    #[must_use]
    pub fn bytes(self) -> u64 {
        match self {
            What::Small => 1 << 10,
            What::Medium => 100 << 10,
            What::Large => 10 << 20,
            What::Hello => HELLO.len() as u64,
            What::Output => 1 << 20,
        }
    }

    fn is_program(self) -> bool {
        matches!(self, What::Hello | What::Output)
    }
}

/// What the small program says.
pub const HELLO: &str = "hello\n";

impl Cell {
    /// Whether a server has this at all; `Err` says why not.
    ///
    /// # Errors
    /// The reason, for the table.
    pub fn applies_to(&self, subject: &Subject) -> Result<(), &'static str> {
        if self.what.is_program() && subject.programs == Programs::None {
            return Err("it runs no programs");
        }
        if subject.only_small && self.what != What::Small {
            return Err("it has one answer, of 1 KiB");
        }
        match subject.cells.is_empty() || subject.cells.iter().any(|name| name == self.name) {
            true => Ok(()),
            false => Err("not asked of it"),
        }
    }

    /// Why this server is driven with a connection per request, though others keep theirs; `None` if it is not.
    #[must_use]
    pub fn closes_because(&self, subject: &Subject) -> Option<&'static str> {
        match subject.after_reply {
            _ if self.closes => None,
            AfterReply::Closes => Some("a connection per request: it closes after each reply"),
            AfterReply::HoldsWorker if self.connections > HOLDERS => {
                Some("a connection per request: each that is kept holds a worker, and the others would starve")
            }
            AfterReply::HoldsWorker | AfterReply::Keeps => None,
        }
    }

    /// How many connections are made to that server. Where they are not kept, no more than its backlog holds (4,096 in all
    /// of ours): workers that wait for a silent client let nobody else in, and the rest would never be connected.
    #[must_use]
    pub fn connections_to(&self, subject: &Subject) -> u32 {
        match self.closes_because(subject) {
            Some(_) => self.connections.min(AT_ONCE_MAX),
            None => self.connections,
        }
    }

    /// How a server is driven otherwise than the others, and why; `None` if it is not.
    #[must_use]
    pub fn note(&self, subject: &Subject) -> Option<String> {
        let because = self.closes_because(subject)?;
        match self.connections_to(subject) {
            all if all == self.connections => Some(because.to_owned()),
            fewer => Some(format!("{because}; {fewer} at a time, as many as its backlog takes")),
        }
    }

    /// That of this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<usize> {
        CELLS.iter().position(|cell| cell.name == name)
    }
}

/// Connections at a time to a server that does not keep them.
const AT_ONCE_MAX: u32 = 2_000;

/// So many connections may hold a worker each: fewer than there are workers.
const HOLDERS: u32 = 1;

impl Key {
    /// The load.
    #[must_use]
    pub fn load(&self) -> &'static Cell {
        &CELLS[self.cell]
    }

    /// The capacity of a cell, by name.
    #[must_use]
    pub fn capacity(cell: usize) -> Key {
        Key { cell, drive: Drive::Capacity }
    }

    /// Whether a schedule decides when requests are sent.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.drive != Drive::Capacity
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.load().name;
        match self.drive {
            Drive::Capacity => f.write_str(name),
            Drive::Paced(percent) => write!(f, "{name}@{percent}"),
            Drive::Ramp => write!(f, "{name}@ramp"),
        }
    }
}

impl FromStr for Key {
    type Err = String;

    fn from_str(text: &str) -> Result<Key, String> {
        let (name, drive) = text.split_once('@').map_or((text, None), |(name, drive)| (name, Some(drive)));
        let drive = match drive {
            None => Some(Drive::Capacity),
            Some("ramp") => Some(Drive::Ramp),
            Some(percent) => percent.parse().ok().map(Drive::Paced),
        };
        match (Cell::by_name(name), drive) {
            (Some(cell), Some(drive)) => Ok(Key { cell, drive }),
            _ => Err(format!("`{text}` is no cell")),
        }
    }
}

impl TryFrom<String> for Key {
    type Error = String;

    fn try_from(text: String) -> Result<Key, String> {
        text.parse()
    }
}

impl From<Key> for String {
    fn from(key: Key) -> String {
        key.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_back_from_its_name() {
        for cell in 0..CELLS.len() {
            for drive in [Drive::Capacity, Drive::Paced(50), Drive::Ramp] {
                let key = Key { cell, drive };
                assert_eq!(key.to_string().parse(), Ok(key));
            }
        }
        assert!("keepalive".parse::<Key>().is_err() && "close@x".parse::<Key>().is_err());
    }

    #[test]
    fn the_cells_have_names_of_their_own_and_the_knee_is_one_of_them() {
        let names: std::collections::BTreeSet<&str> = CELLS.iter().map(|cell| cell.name).collect();
        assert_eq!(names.len(), CELLS.len());
        assert!(names.contains(KNEE_CELL));
    }

    #[test]
    fn who_closes_is_not_asked_to_keep_and_the_cell_says_so() {
        let cell = |name| &CELLS[Cell::by_name(name).unwrap()];
        let subject = |after_reply| Subject { after_reply, ..Subject::default() };
        let (keeps, holds, closes) =
            (subject(AfterReply::Keeps), subject(AfterReply::HoldsWorker), subject(AfterReply::Closes));
        for (name, expected) in
            [("keepalive-1", [false, false, true]), ("keepalive-64", [false, true, true]), ("close", [false; 3])]
        {
            let because = [&keeps, &holds, &closes].map(|subject| cell(name).closes_because(subject).is_some());
            assert_eq!(because, expected, "{name}");
        }
    }

    #[test]
    fn who_does_not_keep_connections_has_no_more_than_its_backlog_takes_and_the_cell_says_so() {
        let cell = |name| &CELLS[Cell::by_name(name).unwrap()];
        let closes = Subject { after_reply: AfterReply::Closes, ..Subject::default() };
        assert_eq!(cell("keepalive-10k").connections_to(&closes), AT_ONCE_MAX);
        assert!(cell("keepalive-10k").note(&closes).unwrap().contains("2000 at a time"));
        assert_eq!((cell("keepalive-1k").connections_to(&closes), cell("close").note(&closes)), (1_000, None));
        assert_eq!(cell("keepalive-10k").connections_to(&Subject::default()), 10_000);
    }

    #[test]
    fn what_a_server_lacks_is_not_asked_of_it() {
        let subject = Subject { programs: Programs::None, only_small: true, ..Subject::default() };
        let asked: Vec<&str> =
            CELLS.iter().filter(|cell| cell.applies_to(&subject).is_ok()).map(|cell| cell.name).collect();
        assert_eq!(asked, ["keepalive-1", "keepalive-64", "keepalive-1k", "keepalive-10k", "pipelined", "close"]);
        let named = Subject { cells: vec!["close".into()], ..Subject::default() };
        assert_eq!(CELLS.iter().filter(|cell| cell.applies_to(&named).is_ok()).count(), 1);
    }
}
