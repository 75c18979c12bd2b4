//! A run: threads with a ring each, a common start, and what they bring home.
//!
//! A thread makes its connections, waits for the others, and runs until its schedule is over and everything that was
//! sent has its answer. Nothing is shared on the way but the plan.

mod connecting;
mod connection;
mod pacer;
mod thread;

use std::fmt;
use std::sync::{Arc, mpsc};

use crate::plan::Plan;
use crate::record::{Live, Recorder};
use ucaffeine::rt;

pub use thread::Usage;

/// Why there is no result.
#[derive(Debug)]
pub enum Failure {
    /// There is no ring.
    Ring(rt::Unavailable),
    /// A thread could not be pinned.
    Pin(usize, std::io::Error),
    /// Not one connection could be made; the first attempt's error.
    Connect(String),
    /// A thread ended before its time.
    Panicked,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Ring(why) => why.fmt(f),
            Failure::Pin(cpu, error) => write!(f, "a thread cannot be pinned to CPU {cpu}: {error}"),
            Failure::Connect(why) => f.write_str(why),
            Failure::Panicked => f.write_str("a generator thread panicked"),
        }
    }
}

impl std::error::Error for Failure {}

/// What a run brought home.
pub struct Finished {
    /// What each thread wrote down.
    pub recorders: Vec<Recorder>,
    /// What all threads together used, and left undone.
    pub usage: Usage,
    /// The wall clock at the common start, in milliseconds since 1970.
    pub started_unix_ms: u64,
}

/// A run under way.
pub struct Running {
    threads: Vec<Thread>,
    /// What each thread publishes meanwhile.
    pub lives: Vec<Arc<Live>>,
    /// When time began: nanoseconds of CLOCK_MONOTONIC.
    pub start_ns: u64,
    /// The same by the wall clock, in milliseconds since 1970.
    started_unix_ms: u64,
}

type Thread = std::thread::JoinHandle<Result<(Recorder, Usage), Failure>>;

/// How long after the last thread is ready time begins: enough for all to have heard of it.
const HEAD_START_NS: u64 = 2_000_000;

/// Begins a run, and returns when its connections are made and its clock is set.
///
/// # Errors
/// [`Failure`]: nothing runs any more.
pub fn start(plan: &Arc<Plan>) -> Result<Running, Failure> {
    let (tell, ready) = mpsc::channel();
    let (mut threads, mut starts) = (Vec::new(), Vec::new());
    for number in 0..plan.threads {
        let (start, heard) = mpsc::channel();
        let (plan, tell) = (Arc::clone(plan), tell.clone());
        let work = move || thread::main(&plan, number, tell, || heard.recv().ok());
        threads.push(std::thread::Builder::new().name(format!("loadgen-{number}")).spawn(work).expect("a thread"));
        starts.push(start);
    }
    drop(tell);
    // Each thread that is ready says so; one that is not ends without a word.
    let lives: Vec<Arc<Live>> = ready.iter().collect();
    if lives.len() < threads.len() {
        // With their senders gone, those that wait for the start hear that there is none.
        drop(starts);
        let failed = threads.into_iter().filter_map(|thread| thread.join().unwrap_or(Err(Failure::Panicked)).err());
        return Err(failed.into_iter().next().unwrap_or(Failure::Panicked));
    }
    let start_ns = monotonic_ns() + HEAD_START_NS;
    // A thread that is gone already is noticed when it is joined.
    for start in starts {
        let _ = start.send(start_ns);
    }
    let started = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Ok(Running { threads, lives, start_ns, started_unix_ms: started.as_millis() as u64 })
}

/// Makes the run of a plan with one thread on this thread, on a runtime that `make` builds: in a simulated world, say.
///
/// # Errors
/// [`Failure`].
///
/// # Panics
/// If this thread had a runtime before.
pub fn run_here(plan: &Arc<Plan>, make: impl FnOnce(rt::Builder) -> rt::Runtime) -> Result<Finished, Failure> {
    let runtime = make(thread::builder(plan, 0));
    let soon = |_| Some(rt::time::Instant::fresh().as_nanos() + HEAD_START_NS);
    let (recorder, usage) = thread::run_on(runtime, plan, 0, soon)?;
    Ok(Finished { recorders: vec![recorder], usage, started_unix_ms: 0 })
}

impl Running {
    /// Whether every thread has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.threads.iter().all(Thread::is_finished)
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// [`Failure::Panicked`].
    pub fn finish(self) -> Result<Finished, Failure> {
        let mut finished =
            Finished { recorders: Vec::new(), usage: Usage::default(), started_unix_ms: self.started_unix_ms };
        for thread in self.threads {
            let (recorder, usage) = thread.join().unwrap_or(Err(Failure::Panicked))?;
            finished.recorders.push(recorder);
            finished.usage.add(&usage);
        }
        Ok(finished)
    }
}

/// CLOCK_MONOTONIC, which is the runtime's clock too.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
