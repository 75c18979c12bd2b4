//! What an operator may do with a server that runs, besides stopping it: have it read its configuration again, and have another
//! process take its place. Asked for by signals or on the control socket; one thing at a time.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};
use ucaffeine::rt::process::orphans;
use ucaffeine::serve::Server;
use ucaffeine::serve::options::SiteConfig;

use super::Home;
use super::manager::Manager;
use super::successor::{Binary, Estate, Successor};
use crate::config::{Config, at_root};
use crate::instance::{Lock, State};
use crate::{Level, cli};

/// A job that a signal has asked for.
#[derive(Clone, Copy)]
pub(super) enum Job {
    Reload = 1,
    Upgrade = 2,
}

/// The server, and what it was told.
pub(super) struct Operator {
    pub(super) server: Arc<Server>,
    pub(super) manager: Arc<Manager>,
    level: Level,
    binary: Option<Binary>,
    home: Option<Home>,
    /// What only a start can change is compared with this.
    started: Config,
    current: Mutex<Current>,
    /// A reload, a release and an upgrade each see the end of the one before.
    changing: Mutex<()>,
    has_scripts: AtomicBool,
    pending: AtomicU8,
    worker: OnceLock<std::thread::Thread>,
    /// Of a server with a name: by which it is found.
    named: OnceLock<(Arc<Lock>, Mutex<State>)>,
}

/// What is served by now.
pub(super) struct Current {
    pub(super) config: Config,
    /// The folder of an instance, while it serves that.
    pub(super) own: Option<PathBuf>,
}

impl Operator {
    pub(super) fn new(
        server: Arc<Server>,
        manager: Arc<Manager>,
        level: Level,
        binary: Option<Binary>,
        home: Option<Home>,
        current: Current,
    ) -> Operator {
        let has_scripts = home.is_some() || current.config.options.sites.iter().any(|site| !site.mounts.is_empty());
        Operator {
            server,
            manager,
            level,
            binary,
            home,
            started: current.config.clone(),
            current: Mutex::new(current),
            changing: Mutex::default(),
            has_scripts: has_scripts.into(),
            pending: AtomicU8::new(0),
            worker: OnceLock::new(),
            named: OnceLock::new(),
        }
    }

    /// From now on signals are acted upon, by a thread of its own: what they ask for takes a while, and a stop must not wait for it.
    pub(super) fn listen(self: &Arc<Operator>) -> std::io::Result<()> {
        let operator = Arc::clone(self);
        let work = move || {
            loop {
                match operator.pending.swap(0, Ordering::AcqRel) {
                    0 => std::thread::park(),
                    jobs => operator.work(jobs),
                }
            }
        };
        let thread = std::thread::Builder::new().name("operator".into()).spawn(work)?;
        let _ = self.worker.set(thread.thread().clone());
        Ok(())
    }

    /// To be done soon. What is asked for twice before it begins is done once.
    pub(super) fn ask(&self, job: Job) {
        self.pending.fetch_or(job as u8, Ordering::AcqRel);
        self.worker.get().into_iter().for_each(std::thread::Thread::unpark);
    }

    fn work(&self, jobs: u8) {
        // Both have said what came of it, in the log.
        if jobs & Job::Reload as u8 != 0 {
            let _ = self.reload();
        }
        if jobs & Job::Upgrade as u8 != 0 {
            let _ = self.upgrade();
        }
    }

    /// The server can be found by this from now on.
    pub(super) fn named(&self, lock: Arc<Lock>, state: State) {
        let _ = self.named.set((lock, Mutex::new(state)));
    }

    pub(super) fn has_scripts(&self) -> bool {
        self.has_scripts.load(Ordering::Acquire)
    }

    /// One change at a time.
    pub(super) fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The folder that it serves in place of an instance's own.
    pub(super) fn given_dir(&self) -> Option<PathBuf> {
        given_dir(&self.current())
    }

    /// The folder of an instance, while it serves that.
    pub(super) fn own(&self) -> Option<PathBuf> {
        self.current().own.clone()
    }

    /// The sites as they are configured by now, the default one with this folder as its root.
    pub(super) fn sites_at(&self, root: &std::path::Path) -> Vec<SiteConfig> {
        let current = self.current();
        let mut sites = current.config.options.sites.iter().cloned();
        let mut site = sites.next().unwrap_or_else(|| SiteConfig::files_only(PathBuf::from("/")));
        if current.own.as_ref() == Some(&site.root) {
            // What is not to be seen beside the content may well be a part of it.
            site.hidden.retain(|hidden| !crate::instance::OURS.iter().any(|ours| hidden == std::path::Path::new(ours)));
        }
        std::iter::once(at_root(&site, root, current.config.programs)).chain(sites).collect()
    }

    /// Reads flags, environment and file again, and serves by them. Returns what only a start could have changed.
    ///
    /// # Errors
    /// All that is wrong with them; everything is as it was.
    pub(super) fn reload(&self) -> Result<Vec<&'static str>, Vec<String>> {
        let _one = self.changing();
        if self.server.is_stopping() {
            return Err(vec![String::from("it is stopping")]);
        }
        self.manager.reloading();
        let reloaded = self.try_reload();
        match &reloaded {
            Ok(names) if names.is_empty() => {
                tracing::info!("the configuration was reloaded");
                self.manager.ready("serving");
            }
            Ok(names) => {
                let names = names.join(", ");
                tracing::warn!("the configuration was reloaded; needs a restart (--upgrade): {names}");
                self.manager.ready(&format!("serving; needs a restart: {names}"));
            }
            Err(problems) => {
                let problems = problems.join("; ");
                tracing::error!("the configuration was not reloaded, and is as it was: {problems}");
                self.manager.ready(&format!("serving; not reloaded: {problems}"));
            }
        }
        reloaded
    }

    fn try_reload(&self) -> Result<Vec<&'static str>, Vec<String>> {
        let one = |why: String| vec![why];
        let typed = cli::parse(std::env::args_os()).map_err(|error| one(error.to_string()))?;
        let environment: Vec<(OsString, OsString)> = std::env::vars_os().collect();
        let home = self.home.as_ref();
        let root = home.map(Home::root).transpose().map_err(|failed| one(failed.why))?;
        let defaults = home.zip(root.as_deref()).map(|(home, root)| home.defaults(root)).unwrap_or_default();
        let resolved = Config::resolve(typed.flags, typed.file, &environment, defaults);
        let mut config = resolved.map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        let own = home.zip(root.as_deref()).and_then(|(home, root)| home.settle(root, &mut config));
        let names = config.needs_restart(&self.started);
        let has_scripts = config.options.sites.iter().any(|site| !site.mounts.is_empty());
        if has_scripts && !self.has_scripts.swap(true, Ordering::AcqRel) {
            adopt_orphans();
        }
        self.server.reload(config.options.clone()).map_err(|error| one(error.to_string()))?;
        let mut current = self.current();
        if config.log_level != current.config.log_level {
            // Fails only when there is no subscriber any more.
            let _ = self.level.reload(config.log_level);
        }
        *current = Current { config, own };
        if let Some((lock, state)) = self.named.get() {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            let dir = given_dir(&current).map(|dir| dir.display().to_string());
            if state.dir != dir {
                state.dir = dir;
                if let Err(error) = lock.tell(&state) {
                    tracing::warn!(%error, "what is written down about this instance is not up to date");
                }
            }
        }
        Ok(names)
    }

    /// Has another process take the place of this one; returns its number when it serves, and can be found. This one drains then.
    ///
    /// # Errors
    /// Why it goes on serving.
    pub(super) fn upgrade(&self) -> Result<u32, String> {
        let _one = self.changing();
        let upgraded = self.try_upgrade();
        match &upgraded {
            Ok(pid) => tracing::info!("process {pid} has taken over; this one drains"),
            Err(why) => tracing::error!("no other process takes over, this one goes on serving: {why}"),
        }
        upgraded
    }

    fn try_upgrade(&self) -> Result<u32, String> {
        if self.server.is_stopping() {
            return Err(String::from("it is stopping"));
        }
        if getpid().is_init() {
            return Err(String::from("it is process 1: when that ends, all others of its namespace are killed"));
        }
        if self.named.get().is_some() && self.current().config.options.user.is_some() {
            return Err(String::from(
                "it has given up root (--user), and the folders of its name are root's: restart it",
            ));
        }
        let binary = self.binary.as_ref().ok_or("/proc does not say which program this is")?;
        let listeners =
            self.server.listeners().map_err(|error| format!("its sockets cannot be duplicated: {error}"))?;
        let lock = self.named.get().map(|(lock, _)| lock.as_fd().try_clone_to_owned()).transpose();
        let lock: Option<OwnedFd> = lock.map_err(|error| format!("its name cannot be given away: {error}"))?;
        let patience = Duration::from_millis(self.current().config.options.upgrade_ms_max);
        let gave_up = || self.server.is_stopping();
        let successor = Successor::start(binary, Estate { listeners, lock }, patience, gave_up)?;
        let (pid, taken) = (successor.pid(), successor.taken.clone());
        // Before it says a word: what a process says that is not the main one is not listened to.
        self.manager.main_pid(pid);
        let settling = successor.go().inspect_err(|_| self.manager.main_pid(std::process::id()))?;
        self.server.hand_over(&taken);
        // Wakes the main thread, which sits in a wait for signals; it takes this one for the first.
        let _ = kill_process(getpid(), Signal::TERM);
        settling.wait();
        Ok(pid)
    }
}

/// The folder that an instance serves in place of its own.
fn given_dir(current: &Current) -> Option<PathBuf> {
    current.config.options.sites.first().map(|site| site.root.clone()).filter(|_| current.own.is_none())
}

/// What scripts leave behind becomes ours.
pub(super) fn adopt_orphans() {
    if let Err(error) = orphans::become_subreaper() {
        tracing::warn!(%error, "what scripts leave behind goes to init");
    }
}
