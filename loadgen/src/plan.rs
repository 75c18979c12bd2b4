//! A run, before it is made: everything that the engine needs to know, and nothing about how it was typed.

use std::net::IpAddr;
use std::time::Duration;

use crate::rng::Rng;
use crate::schedule::{Bounds, Load};
use crate::target::Address;
use crate::traffic::{Traffic, Verify};

/// What is to be done.
#[derive(Debug)]
pub struct Plan {
    /// The server.
    pub address: Address,
    /// What is sent to it.
    pub traffic: Traffic,
    /// How closely answers are looked at.
    pub verify: Verify,
    /// How the load is offered.
    pub load: Load,
    /// When it ends; the warm-up is a part of it.
    pub bounds: Bounds,
    /// What comes before is not measured.
    pub warmup_ns: u64,
    /// Connections of all threads, at least one each.
    pub connections: u32,
    /// Generator threads.
    pub threads: u32,
    /// The CPU of each thread, in turn; empty to leave them where the system puts them.
    pub cpus: Vec<usize>,
    /// Requests in flight on one connection.
    pub pipeline: u32,
    /// When a connection is closed by us.
    pub close: CloseEvery,
    /// How long a connection rests between an answer and the next request (closed loop).
    pub think: Think,
    /// Arrivals that come together (open loop).
    pub burst: u64,
    /// How long an answer may take, from the send on; and a connect.
    pub timeout: Duration,
    /// How late a request may be sent before it is not sent at all (open loop).
    pub deadline: Option<Duration>,
    /// How connections are made.
    pub connecting: Connecting,
    /// How long an interval of the series is.
    pub interval: Duration,
    /// How long before the schedule's moments a thread stops sleeping.
    pub spin: Duration,
    /// What chance is made from.
    pub seed: u64,
}

/// When the generator itself closes a connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CloseEvery {
    /// Never: it stays for as long as the server lets it.
    Never,
    /// After so many answers.
    Requests(u64),
    /// After an answer, with that probability.
    Chance(f64),
}

/// How long to rest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Think {
    /// Not at all.
    None,
    /// Always so long, in nanoseconds.
    Fixed(u64),
    /// Exponentially distributed around that mean, in nanoseconds.
    Exponential(u64),
    /// Anything between the two, in nanoseconds.
    Uniform(u64, u64),
}

/// How connections are made.
#[derive(Clone, Debug, PartialEq)]
pub struct Connecting {
    /// Connects under way at a time, of all threads: below the server's backlog.
    pub window: u32,
    /// Connects begun in a second, of all threads, before the run begins.
    pub rate: f64,
    /// Where they come from, in turn; empty to leave it to the system.
    pub sources: Vec<IpAddr>,
}

impl CloseEvery {
    /// Whether the connection is to be closed after its answer number `answered`, counted from 1.
    #[must_use]
    pub fn is_due(self, answered: u64, rng: &mut Rng) -> bool {
        match self {
            CloseEvery::Never => false,
            CloseEvery::Requests(count) => answered >= count,
            CloseEvery::Chance(chance) => rng.unit() < chance,
        }
    }

    /// How many requests may be sent on a connection that has sent `sent`.
    #[must_use]
    pub fn room(self, sent: u64) -> u64 {
        match self {
            CloseEvery::Requests(count) => count.saturating_sub(sent),
            CloseEvery::Never | CloseEvery::Chance(_) => u64::MAX,
        }
    }
}

impl Think {
    /// How long to rest this time, in nanoseconds.
    #[must_use]
    pub fn draw(self, rng: &mut Rng) -> u64 {
        match self {
            Think::None => 0,
            Think::Fixed(ns) => ns,
            Think::Exponential(mean_ns) => (rng.exponential() * mean_ns as f64) as u64,
            Think::Uniform(from_ns, to_ns) => from_ns + rng.below(to_ns.saturating_sub(from_ns) + 1),
        }
    }
}

impl Plan {
    /// How many of `count` belong to that thread.
    #[must_use]
    pub fn share(&self, count: u32, thread: u32) -> u32 {
        count / self.threads + u32::from(thread < count % self.threads)
    }
}
