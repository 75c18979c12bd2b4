//! What is known of a run besides its samples: everything that is needed to run it again, and to judge it.

use serde::{Deserialize, Serialize};

use super::host::Host;

/// What the engine says of a run when it has ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunFacts {
    /// The words of the command line, the program's name first.
    pub command_line: Vec<String>,
    /// What random numbers were made from.
    pub seed: u64,
    /// The version of the load generator.
    pub version: String,
    /// The commit that it was built from, if known.
    pub git_sha: Option<String>,
    /// When the run began, by the wall clock.
    pub started_unix_ms: u64,
    /// The machine.
    pub host: Host,
    /// What was asked for.
    pub load: Load,
    /// The URLs, by their numbers.
    pub urls: Vec<String>,
    /// How long the run took, the warm-up included.
    pub elapsed_ns: u64,
    /// How much of it was warm-up.
    pub warmup_ns: u64,
    /// What the generator used in the measured window.
    pub generator: GeneratorUsage,
    /// What the server used in the measured window, if it was watched.
    pub server: Option<ServerUsage>,
    /// The share of the processors' time that the hypervisor took, 0 to 1, if known.
    pub steal_share: Option<f64>,
    /// Connections that the kernel dropped during the run because a listen queue was full (TcpExt ListenOverflows), if known.
    pub listen_overflows: Option<u64>,
}

/// Whether requests wait for answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoadModel {
    /// The next request of a connection is sent when it has its answer.
    #[default]
    Closed,
    /// Requests are sent by a schedule.
    Open,
}

/// The load that was asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Whether requests wait for answers.
    pub model: LoadModel,
    /// The schedule in words, as in `poisson, 50000/s`; nothing in a closed loop.
    pub schedule: Option<String>,
    /// Connections of all threads.
    pub connections: u32,
    /// Generator threads.
    pub threads: u32,
    /// Requests in flight on one connection.
    pub pipeline: u32,
    /// How many requests the schedule wanted in the measured window; nothing in a closed loop.
    pub offered_requests: Option<u64>,
    /// Requests that the schedule wanted and that were never sent.
    pub unsent_requests: u64,
    /// Requests that were sent and had neither an answer nor an error when the run ended.
    pub unanswered_requests: u64,
}

/// What the generator used, in the measured window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GeneratorUsage {
    /// CPU time of all its threads, user and system.
    pub cpu_ns: u64,
    /// How much of that was waiting for a moment of the schedule without sleeping.
    pub spin_ns: u64,
    /// How busy its busiest thread was, without that waiting: 0 to 1 of one core.
    pub busiest_thread_share: f64,
    /// Resident memory at the end.
    pub rss_bytes: u64,
    /// `io_uring_enter` calls of all its threads.
    pub enters: u64,
}

/// What the server used, in the measured window: its process tree, with the children it has reaped.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServerUsage {
    /// The process that was named.
    pub pid: u32,
    /// How many processes its tree had at the end.
    pub processes: u32,
    /// User time.
    pub user_ns: u64,
    /// System time.
    pub system_ns: u64,
    /// How long the threads that are there at the end were on a CPU, to the nanosecond; the two above come in ticks.
    #[serde(default)]
    pub run_ns: Option<u64>,
    /// How long they were ready to run while something else had the CPU.
    #[serde(default)]
    pub wait_ns: Option<u64>,
    /// Context switches, voluntary and not.
    pub context_switches: u64,
    /// Resident memory at the end.
    pub rss_bytes: u64,
    /// The core that it is pinned to, if it is pinned to one.
    pub core: Option<u32>,
    /// How long that core was not idle. On loopback a part of the server's work is done in the generator's context, so
    /// this says more than the process's own time.
    pub core_busy_ns: Option<u64>,
}

impl RunFacts {
    /// The measured window.
    #[must_use]
    pub fn window_ns(&self) -> u64 {
        self.elapsed_ns.saturating_sub(self.warmup_ns)
    }

    /// What the schedule wanted each second of the window; nothing in a closed loop.
    #[must_use]
    pub fn offered_per_second(&self) -> Option<f64> {
        Some(super::per_second(self.load.offered_requests?, self.window_ns()))
    }
}

impl ServerUsage {
    /// CPU time, user and system.
    #[must_use]
    pub fn cpu_ns(&self) -> u64 {
        self.user_ns.saturating_add(self.system_ns)
    }
}
