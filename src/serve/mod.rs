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
mod listeners;
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
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::rt::cpu::CpuPlan;
use crate::rt::{self, Unavailable};

use cgi::{Admission, AllBounds};
use listeners::{Address, LivesOn};
use metrics::Observer;
use options::{AccessLog, Engine, Listen, Options, SiteConfig};
use per_ip::PerIp;
use sites::{InUse, Opened};
use stop::{Stage, StopSignal};

pub use crate::rt::histogram::Times;
pub use cgi::rehearsal::{Client, rehearse};
pub use listeners::Listener;
pub use metrics::{Answered, CoreReport, CoreStats, CutStats, Exit, Replies, RunningScript, Stopped, Watched};

/// How long a write to an access log that is replaced may take to end.
const REOPEN_MAX: Duration = Duration::from_secs(10);

/// A running server. Dropped: it is cut, and waited for.
pub struct Server {
    listening: Vec<Listen>,
    addresses: Vec<Address>,
    lives_on: Arc<LivesOn>,
    plan: CpuPlan,
    stop: StopSignal,
    cores: Vec<Core>,
    /// Disconnected when the last core has stopped.
    running: Mutex<mpsc::Receiver<Infallible>>,
    /// Locked while it is replaced, so that all cores see the same order.
    current: Mutex<Current>,
    admission: Arc<Admission>,
    cut: Arc<metrics::Cut>,
    in_use: Arc<InUse>,
    all_bounds: Arc<AllBounds>,
    observer: Arc<Observer>,
    /// Where metrics are answered, if they are.
    metrics: Option<metrics::Listener>,
}

/// What every core serves by.
struct Current {
    /// How often it was replaced.
    generation: u32,
    options: Arc<Options>,
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
    lives_on: Arc<LivesOn>,
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
        Server::start_from(options, Vec::new(), Stage::Serving)
    }

    /// As [`start`](Self::start), on sockets that listen already wherever there are some for an address of `options`; the others
    /// are closed. Nobody is accepted before the word to [`open`](Self::open): what comes meanwhile waits in the backlogs.
    ///
    /// # Errors
    /// [`StartError`]. What waits in the backlogs is there for whoever has the sockets, too.
    pub fn start_with(options: Options, listeners: Vec<Listener>) -> Result<Server, StartError> {
        Server::start_from(options, listeners, Stage::Holding)
    }

    fn start_from(options: Options, listeners: Vec<Listener>, first: Stage) -> Result<Server, StartError> {
        if options.engine == Engine::Epoll {
            let why = "the epoll engine is not built into this version: use --engine uring (or auto)".to_owned();
            return Err(StartError::Engine(why));
        }
        start::start(options, listeners, first)
    }

    /// Begins to accept. Returns at once.
    pub fn open(&self) {
        self.stop.raise(Stage::Serving);
    }

    /// Where it listens; a port that was left to the kernel is filled in.
    pub fn listening(&self) -> &[Listen] {
        &self.listening
    }

    /// Where it answers those who watch it; a port that was left to the kernel is filled in.
    pub fn metrics_at(&self) -> Option<&Listen> {
        self.metrics.as_ref().map(metrics::Listener::bound)
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

    /// The sockets that it listens on, each once, for a server in another process.
    ///
    /// # Errors
    /// EMFILE.
    pub fn listeners(&self) -> io::Result<Vec<Listener>> {
        let of_cores = self.ask_cores(start::core_sockets).into_iter().collect::<io::Result<_>>()?;
        let mut listeners = listeners::gather(&self.addresses, of_cores);
        listeners.extend(self.metrics.as_ref().map(metrics::Listener::give).transpose()?);
        Ok(listeners)
    }

    /// As [`drain`](Self::drain), with somebody else listening from now on wherever `taken` says, as it was asked for: what waits in
    /// those backlogs is left to them, and a connection that is idle has as long as a head may take for one more request.
    pub fn hand_over(&self, taken: &[Listen]) {
        self.lives_on.hand_over(&self.addresses, taken);
        let metrics = self.metrics.as_ref().filter(|metrics| taken.contains(metrics.asked()));
        metrics.into_iter().for_each(metrics::Listener::stop);
        // Nobody has to be told to go elsewhere first.
        self.stop.raise(Stage::Draining);
    }

    /// Whether somebody else serves those who come, since [`hand_over`](Self::hand_over).
    pub fn has_successor(&self) -> bool {
        self.lives_on.has_successor()
    }

    /// Whether every core that still runs has made a turn, no later than that.
    pub fn is_alive(&self, patience: Duration) -> bool {
        let (waiting, answered) = mpsc::channel::<Infallible>();
        for core in &self.cores {
            let waiting = waiting.clone();
            core.remote.run(move || drop(waiting));
        }
        drop(waiting);
        // Nothing is ever sent: it is disconnected when every core has read its letter, or has ended with it unread.
        matches!(answered.recv_timeout(patience), Err(mpsc::RecvTimeoutError::Disconnected))
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
        Stopper { stop: self.stop.clone(), delays: self.current().options.drain_delay_ms > 0 }
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
        // Whoever still has a server in hand (a thread of the control socket) keeps no control group alive by that.
        self.all_bounds.forget();
    }

    /// What each core has counted. A core that has stopped is left out.
    pub fn stats(&self) -> Vec<CoreStats> {
        self.ask_cores(|| start::with_worker(metrics::stats)).into_iter().flatten().collect()
    }

    /// The answer of every core that still runs.
    fn ask_cores<T: Send + 'static>(&self, question: fn() -> T) -> Vec<T> {
        let ask = |core: &Core| {
            let (sender, receiver) = mpsc::channel();
            // The receiver waits, unless the core is gone; then nobody does.
            core.remote.run(move || {
                let _ = sender.send(question());
            });
            receiver.recv().ok()
        };
        self.cores.iter().filter_map(ask).collect()
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
    /// [`StartError::Site`], [`StartError::Bounds`]; the old ones are served as before, then.
    pub fn replace_sites(&self, sites: &[SiteConfig]) -> Result<(), StartError> {
        let mut current = self.current();
        let options = Options { sites: sites.to_vec(), ..Options::clone(&current.options) };
        self.replace(&mut current, options)
    }

    /// Serves by these options from now on, and returns when every core does: what is under way keeps those that it began with, on
    /// every connection the next request has the new ones. Only a start can change who listens and on what cores, who is trusted, who
    /// the process is, what it logs to and who watches it (`listen`, `cores`, `engine`, `connections_max`, `access_log` with its form
    /// and buffer, `metrics`, `trusted`, `proxy_protocol`, `conns_per_ip_max`, `user`, `drain_delay_ms`, `inject` and
    /// `files.cold_buffer_bytes_max`): they stay as they were.
    ///
    /// # Errors
    /// [`StartError::Site`], [`StartError::Bounds`]; everything is as before, then.
    pub fn reload(&self, options: Options) -> Result<(), StartError> {
        let mut current = self.current();
        let mut options = options;
        let first = &current.options;
        options.listen.clone_from(&first.listen);
        options.access_log.clone_from(&first.access_log);
        options.files.cold_buffer_bytes_max = first.files.cold_buffer_bytes_max;
        (options.cores, options.engine, options.connections_max) = (first.cores, first.engine, first.connections_max);
        options.access_log_form = first.access_log_form;
        options.access_log_buffer_bytes_max = first.access_log_buffer_bytes_max;
        options.metrics.clone_from(&first.metrics);
        options.trusted.clone_from(&first.trusted);
        options.proxy_protocol.clone_from(&first.proxy_protocol);
        options.user.clone_from(&first.user);
        options.conns_per_ip_max = first.conns_per_ip_max;
        options.drain_delay_ms = first.drain_delay_ms;
        options.inject = first.inject;
        self.replace(&mut current, options)
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replace(&self, current: &mut Current, options: Options) -> Result<(), StartError> {
        // All that can fail comes first.
        let generation = current.generation + 1;
        let open = |_| Opened::open(&options, generation, &self.admission, &self.in_use, &self.all_bounds);
        let opened = self.cores.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        sites::share_places(&options, &self.admission);
        options.sites.iter().for_each(start::warn_of_missing_pages);
        *current = Current { generation, options: Arc::new(options) };
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
        let options = Arc::clone(&self.current().options);
        let path = match &options.access_log {
            AccessLog::File(path) => path.as_path(),
            _ => Path::new("-"),
        };
        let Some(opened) = start::reopen_log(&options, self.cores.len())? else { return Ok(()) };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_alive_while_every_core_takes_its_turns() {
        let dir = tempfile::tempdir().unwrap();
        let listen = vec![Listen::Tcp(([127, 0, 0, 1], 0).into())];
        let sites = vec![SiteConfig::files_only(dir.path().into())];
        let options = Options { listen, sites, cores: Some(2), ..Options::default() };
        let server = Server::start(options).unwrap();
        assert!(server.is_alive(Duration::from_secs(60)));
        let (release, held) = mpsc::channel::<Infallible>();
        server.cores[1].remote.run(move || {
            let _ = held.recv();
        });
        assert!(!server.is_alive(Duration::from_millis(20)), "one of them is held up");
        drop(release);
        assert!(server.is_alive(Duration::from_secs(60)));
        server.drain();
        server.wait_stopped();
        assert!(server.is_alive(Duration::from_secs(60)), "a core that has ended holds up nobody");
    }
}
