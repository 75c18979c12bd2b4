//! The glue: moves the bytes that `site` decided on. One worker a core, and nothing shared between them but the word to
//! stop and the places for scripts.
//!
//! ```no_run
//! use ucaffeine::serve::{Server, options::{Options, SiteConfig}};
//! # fn main() -> Result<(), ucaffeine::serve::StartError> {
//! let options = Options { sites: vec![SiteConfig::files_only("/srv/www".into())], ..Options::default() };
//! let server = Server::start(options)?;
//! println!("{:?}", server.listening());
//! server.drain();
//! server.join();
//! # Ok(()) }
//! ```

mod access_log;
mod answer;
mod auth;
mod cgi;
mod conn;
mod error_page;
mod file_cache;
mod holder;
mod inject;
mod input;
mod learn;
mod link;
mod listing;
mod metrics;
pub mod options;
mod origin;
mod parts;
mod per_ip;
mod places;
mod registry;
mod seldom;
#[cfg(test)]
mod sim_tests;
mod sites;
mod start;
mod stop;
mod transfer;
mod user;
mod worker;

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::rt::cpu::CpuPlan;
use crate::rt::{self, Unavailable};

use cgi::{Admission, AllBounds};
use metrics::Observer;
use options::{AccessLog, Engine, Listen, Options, SiteConfig};
use per_ip::PerIp;
use sites::{InUse, Opened};
use stop::{Stage, StopSignal};

pub use crate::rt::histogram::Times;
pub use cgi::rehearsal::{Client, rehearse};
pub use metrics::{Answered, CoreReport, CoreStats, CutStats, Exit, Replies, RunningScript, Stopped, Watched};

/// How long a write to an access log that is replaced may take to end.
const REOPEN_MAX: Duration = Duration::from_secs(10);

/// A running server. Dropped: it is cut, and waited for.
pub struct Server {
    listening: Vec<Listen>,
    plan: CpuPlan,
    stop: StopSignal,
    cores: Vec<Core>,
    /// Disconnected when the last core has stopped.
    running: Mutex<mpsc::Receiver<Infallible>>,
    /// How often the sites were replaced; locked while they are, so that all cores see the same order.
    generation: Mutex<u32>,
    cut: Arc<metrics::Cut>,
    in_use: Arc<InUse>,
    all_bounds: Arc<AllBounds>,
    /// As it was started: what it may run at once is divided by these.
    options: Arc<Options>,
    observer: Arc<Observer>,
    /// Where metrics are answered, if they are.
    metrics: Option<(Listen, metrics::Listener)>,
}

struct Core {
    thread: Option<JoinHandle<()>>,
    remote: rt::Remote,
}

/// What all cores are given.
struct Shared {
    options: Arc<Options>,
    admission: Arc<Admission>,
    /// What scripts are bound by.
    all_bounds: Arc<AllBounds>,
    /// How many connections each address has, if somebody wants that bounded.
    per_ip: Option<Arc<PerIp>>,
    stop: StopSignal,
    cut: Arc<metrics::Cut>,
    in_use: Arc<InUse>,
    log_sink: Arc<access_log::Sink>,
    /// CPUs that scripts may run on.
    cpus: Vec<usize>,
    cores: usize,
    nofile: u64,
}

/// Why a server does not start. Displayed, it is one line with the cause.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// An address cannot be listened on.
    Bind {
        /// The address.
        listen: Listen,
        /// What the kernel said.
        error: io::Error,
        /// Who has it, when that can be known.
        holder: Option<String>,
    },
    /// The engine that was asked for is not to be had.
    Engine(String),
    /// io_uring is not to be had, and why.
    Uring(Unavailable),
    /// A folder or program of a site is not as it was when it was configured.
    Site {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// The access log cannot be opened.
    Log {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// Scripts cannot be bound as they shall be, and why.
    Bounds(String),
    /// A thread cannot be started.
    Thread(io::Error),
    /// This process cannot become that user, because it is not root.
    NotRoot {
        /// Which.
        user: String,
    },
    /// This process cannot become that user, and why.
    User {
        /// Which.
        user: String,
        /// One line.
        why: String,
    },
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StartError::Bind { listen, error, holder } => {
                write!(f, "cannot listen on {listen}: {error}")?;
                match (holder, error.kind()) {
                    (Some(holder), _) => write!(f, "; {holder} has it"),
                    (None, io::ErrorKind::PermissionDenied) => {
                        write!(f, "; ports below 1024 need CAP_NET_BIND_SERVICE")
                    }
                    (None, io::ErrorKind::AddrInUse) => write!(f, "; another process has it"),
                    (None, io::ErrorKind::AddrNotAvailable) => write!(f, "; no interface has this address"),
                    (None, _) => Ok(()),
                }
            }
            StartError::Engine(why) => f.write_str(why),
            StartError::Uring(why) => {
                write!(f, "{why}; there is no other engine yet (epoll is not built into this version)")
            }
            StartError::Site { path, error } if error.kind() == io::ErrorKind::PermissionDenied => {
                let uid = rustix::process::geteuid().as_raw();
                write!(
                    f,
                    "cannot open {}: permission denied; the server's user (uid {uid}) may not enter it",
                    path.display()
                )
            }
            StartError::Site { path, error } => write!(f, "cannot open {}: {error}", path.display()),
            StartError::Log { path, error } => write!(f, "cannot open the access log {}: {error}", path.display()),
            StartError::Bounds(why) => write!(f, "programs cannot be run as asked: {why}"),
            StartError::Thread(error) => write!(f, "cannot start a thread: {error}"),
            StartError::NotRoot { user } => {
                write!(
                    f,
                    "--user {user}: only root can become another user; start it as root, or as {user} without --user"
                )
            }
            StartError::User { user, why } => write!(f, "--user {user}: {why}"),
        }
    }
}

impl std::error::Error for StartError {}

impl Server {
    /// Binds, starts the cores, and returns when all of them serve.
    ///
    /// # Errors
    /// [`StartError`]. Nothing is left behind then.
    pub fn start(options: Options) -> Result<Server, StartError> {
        if options.engine == Engine::Epoll {
            let why = "the epoll engine is not built into this version: use --engine uring (or auto)".to_owned();
            return Err(StartError::Engine(why));
        }
        start::start(options)
    }

    /// Where it listens; a port that was left to the kernel is filled in.
    pub fn listening(&self) -> &[Listen] {
        &self.listening
    }

    /// Where it answers those who watch it; a port that was left to the kernel is filled in.
    pub fn metrics_at(&self) -> Option<&Listen> {
        self.metrics.as_ref().map(|(listen, _)| listen)
    }

    /// Which CPUs its cores run on, and why.
    pub fn plan(&self) -> &CpuPlan {
        &self.plan
    }

    /// Stops accepting, after the delay that was asked for, and lets what is in flight finish until the drain deadline. Returns
    /// at once.
    pub fn drain(&self) {
        self.stopper().drain();
    }

    /// Whether it has been told to stop.
    pub fn is_stopping(&self) -> bool {
        self.stop.has_reached(Stage::Leaving)
    }

    /// Ends what is still in flight. Returns at once.
    pub fn cut(&self) {
        self.stop.raise(Stage::Cutting);
    }

    /// A handle that can be told to drain or cut from another thread.
    pub fn stopper(&self) -> Stopper {
        Stopper { stop: self.stop.clone(), delays: self.options.drain_delay_ms > 0 }
    }

    /// Waits until every core has stopped.
    pub fn join(mut self) {
        self.join_all();
    }

    /// Waits until every core has stopped, without taking the server apart.
    pub fn wait_stopped(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        // Nothing is ever sent: it ends when the last core drops its sender.
        let Err(mpsc::RecvError) = running.recv();
    }

    /// What each core has counted. A core that has stopped is left out.
    pub fn stats(&self) -> Vec<CoreStats> {
        self.cores
            .iter()
            .filter_map(|core| {
                let (sender, receiver) = mpsc::channel();
                // The receiver waits, unless the core is gone; then nobody does.
                core.remote.run(move || {
                    let _ = sender.send(start::with_worker(metrics::stats));
                });
                receiver.recv().ok().flatten()
            })
            .collect()
    }

    /// Everything that each core has counted, asked for by one message a core. `None` for one that has not answered in time; what
    /// one that has stopped had counted at its end stays.
    pub fn reports(&self, patience: Duration) -> Vec<Option<CoreReport>> {
        self.observer.reports(patience)
    }

    /// As [`reports`](Self::reports), for somebody who watches: from now on, and until half a minute after the last such call, the
    /// cores also count what is asked for.
    pub fn watch(&self, patience: Duration) -> Vec<Option<(CoreReport, Watched)>> {
        self.observer.watch(patience)
    }

    /// Requests that wait for a script's place.
    pub fn scripts_queued(&self) -> usize {
        self.observer.scripts_queued()
    }

    /// Serves these sites from now on, and returns when every core does. A request is answered from the old ones or from the
    /// new, never from some of both; one that begins after this has returned sees the new.
    ///
    /// # Errors
    /// [`StartError::Site`]; the old ones are served as before, then.
    pub fn replace_sites(&self, sites: &[SiteConfig]) -> Result<(), StartError> {
        let mut generation = self.generation.lock().unwrap_or_else(PoisonError::into_inner);
        // All that can fail comes first.
        let opened = self
            .cores
            .iter()
            .map(|_| Opened::open(sites, *generation + 1, &self.options, &self.in_use, &self.all_bounds))
            .collect::<Result<Vec<_>, _>>()?;
        *generation += 1;
        let (acknowledge, acknowledged) = mpsc::channel::<Infallible>();
        for (core, opened) in self.cores.iter().zip(opened) {
            let acknowledge = acknowledge.clone();
            core.remote.run(move || {
                start::replace_sites(opened);
                drop(acknowledge);
            });
        }
        drop(acknowledge);
        // Nothing is ever sent: it ends when the last core has dropped its sender, or has stopped.
        let Err(mpsc::RecvError) = acknowledged.recv();
        Ok(())
    }

    /// Opens the access log again, after its file was moved away, and returns when no core writes to the old one any more.
    /// No record is lost meanwhile, and none is in both.
    ///
    /// # Errors
    /// [`StartError::Log`]; the old one is written to as before, then, or some core cannot let go of it.
    pub fn reopen_log(&self) -> Result<(), StartError> {
        let AccessLog::File(path) = &self.options.access_log else { return self.reopen_log_at(Path::new("-")) };
        self.reopen_log_at(path)
    }

    fn reopen_log_at(&self, path: &Path) -> Result<(), StartError> {
        let Some(opened) = start::reopen_log(&self.options, self.cores.len())? else { return Ok(()) };
        let (done, all_done) = mpsc::channel::<Infallible>();
        for (core, fd) in self.cores.iter().zip(opened) {
            let done = done.clone();
            core.remote.run(move || start::replace_log(fd, done));
        }
        drop(done);
        // Nothing is ever sent: it ends when the last core has dropped its sender, or has stopped.
        match all_done.recv_timeout(REOPEN_MAX) {
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let error = io::Error::new(io::ErrorKind::TimedOut, "a write to the old one does not end");
                Err(StartError::Log { path: path.to_owned(), error })
            }
            _ => Ok(()),
        }
    }

    /// The roots that are served, and those from which something is still sent or run since before they were replaced.
    pub fn roots_in_use(&self) -> Vec<PathBuf> {
        self.in_use.roots()
    }

    /// What the stop has cut so far.
    pub fn cut_stats(&self) -> CutStats {
        self.cut.count()
    }

    fn join_all(&mut self) {
        for core in &mut self.cores {
            if let Some(thread) = core.thread.take() {
                // An error is a panic of the thread, already reported by the panic hook.
                let _ = thread.join();
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Cutting includes draining: a stage that is reached has all before it behind it.
        self.cut();
        self.join_all();
    }
}

/// Opens what a server would open at its start, all but its listeners, and lets go of it. Whatever would keep it from starting is
/// in the list; what it would only warn of is logged.
pub fn check(options: &Options) -> Vec<StartError> {
    start::check(options)
}

/// Tells a server to stop.
#[derive(Clone)]
pub struct Stopper {
    stop: StopSignal,
    /// The cores raise the next stage themselves, later.
    delays: bool,
}

impl Stopper {
    /// As [`Server::drain`].
    pub fn drain(&self) {
        self.stop.raise(if self.delays { Stage::Leaving } else { Stage::Draining });
    }

    /// As [`Server::cut`].
    pub fn cut(&self) {
        self.stop.raise(Stage::Cutting);
    }
}
