//! A run from beginning to end: the engine, what is watched beside it, and the result as plain data.

use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use crate::engine::{self, Failure, Finished, monotonic_ns};
use crate::plan::Plan;
use crate::prepare::schedule_in_words;
use crate::record::{GeneratorUsage, Host, Live, Load, LoadModel, Recorder, Run, RunFacts};
use crate::schedule;
use crate::watch::{Machine, Server};

/// What is known of a run beside its plan.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// The words of the command line.
    pub words: Vec<String>,
    /// The process to watch.
    pub server_pid: Option<u32>,
}

/// How often the end is looked for.
const POLL: Duration = Duration::from_millis(5);

/// Makes a run. `progress` gets what the threads publish meanwhile, and is dropped when the run has ended.
///
/// # Errors
/// [`Failure`]: there is no result.
pub fn run<P>(plan: &Arc<Plan>, about: &About, progress: impl FnOnce(Vec<Arc<Live>>) -> P) -> Result<Run, Failure> {
    let running = engine::start(plan)?;
    let shown = progress(running.lives.clone());
    let window_ns = running.start_ns.saturating_add(plan.warmup_ns);
    while monotonic_ns() < window_ns && !running.is_finished() {
        sleep(Duration::from_nanos(window_ns.saturating_sub(monotonic_ns())).min(POLL));
    }
    let before = Watched::now(about);
    while !running.is_finished() {
        sleep(POLL);
    }
    let after = Watched::now(about);
    drop(shown);
    let finished = running.finish()?;
    let mut run = result(plan, finished, about);
    run.facts.server = before.server.zip(after.server).map(|(before, after)| after.since(&before));
    run.facts.steal_share =
        before.machine.zip(after.machine).and_then(|(before, after)| after.steal_share_since(&before));
    run.facts.listen_overflows =
        before.overflows.zip(after.overflows).map(|(before, after)| after.saturating_sub(before));
    Ok(run)
}

/// The result of a run, without what is seen from outside.
#[must_use]
pub fn result(plan: &Plan, finished: Finished, about: &About) -> Run {
    let Finished { recorders, usage, started_unix_ms } = finished;
    let open = plan.load != schedule::Load::Closed;
    let facts = RunFacts {
        command_line: about.words.clone(),
        seed: plan.seed,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        git_sha: option_env!("LOADGEN_GIT_SHA").map(str::to_owned),
        started_unix_ms,
        host: Host::read(),
        load: Load {
            model: if open { LoadModel::Open } else { LoadModel::Closed },
            schedule: schedule_in_words(plan.load, plan.burst),
            connections: plan.connections,
            threads: plan.threads,
            pipeline: plan.pipeline,
            offered_requests: open.then_some(usage.offered),
            unsent_requests: usage.unsent,
            unanswered_requests: usage.unanswered,
        },
        urls: plan.traffic.requests().iter().map(|request| request.name.clone()).collect(),
        elapsed_ns: usage.elapsed_ns,
        warmup_ns: plan.warmup_ns.min(usage.elapsed_ns),
        generator: GeneratorUsage {
            cpu_ns: usage.cpu_ns,
            spin_ns: usage.spin_ns,
            busiest_thread_share: usage.busiest_share,
            rss_bytes: crate::watch::own_rss_bytes(),
            enters: usage.enters,
        },
        server: None,
        steal_share: None,
        listen_overflows: None,
    };
    Recorder::merge(recorders, facts)
}

/// What is looked at from outside, at one moment.
struct Watched {
    server: Option<Server>,
    machine: Option<Machine>,
    overflows: Option<u64>,
}

impl Watched {
    fn now(about: &About) -> Watched {
        let machine = Machine::read();
        Watched {
            server: about.server_pid.and_then(|pid| Server::read(pid, machine.as_ref())),
            machine,
            overflows: crate::watch::listen_overflows(),
        }
    }
}
