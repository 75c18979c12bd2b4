//! Serving: alone or as an instance, in front or in the background, until the word to stop.
//!
//! - [`operator`] reads the configuration again, and has another process take over.
//! - [`successor`] is how one process takes the place of another, from both ends.
//! - [`manager`] is what a service manager gives us, and what it hears.

mod manager;
mod operator;
mod successor;

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ucaffeine::rt::confine::User;
use ucaffeine::rt::process::orphans;
use ucaffeine::rt::signal::{Signal, Signals};
use ucaffeine::serve::options::Listen;
use ucaffeine::serve::{Listener, Server, StartError};

use crate::banner::{self, Look, Started};
use crate::cli::{Action, Typed};
use crate::config::{Config, Given, Layer, Origin, level as level_of, started_in};
use crate::instance::{Control, Desk, Failed, Folders, Lock, Name, Releases, State, daemon};
use crate::log;
use crate::{EXIT_BIND, EXIT_CONFIGURATION, EXIT_USAGE, Level};

use manager::Manager;
use operator::{Current, Job, Operator};
use successor::{Binary, Estate, Predecessor};

const EXIT_ENGINE: u8 = 5;

/// What this process was started with, besides its command line: sockets that listen already, a name.
pub(crate) struct Arrival {
    predecessor: Option<Predecessor>,
    listeners: Vec<Listener>,
    lock: Option<OwnedFd>,
    manager: Manager,
}

impl Arrival {
    /// From a service manager, or from the process whose place this one takes. To be asked for before anything is opened.
    ///
    /// # Errors
    /// What was given is not what it should be.
    pub(crate) fn find(environment: &[(OsString, OsString)]) -> Result<Arrival, Failed> {
        let passed = manager::passed(environment)?;
        let found = Predecessor::find(environment).map_err(Failed::new)?;
        let manager = Manager::find(environment, found.is_some());
        Ok(match found {
            Some((predecessor, Estate { listeners, lock })) => {
                Arrival { predecessor: Some(predecessor), listeners, lock, manager }
            }
            None => Arrival { predecessor: None, listeners: passed, lock: None, manager },
        })
    }
}

impl Arrival {
    /// Nothing comes of it: whoever serves goes on.
    pub(crate) fn failed(&self, why: &str) {
        if let Some(predecessor) = &self.predecessor {
            predecessor.failed(why);
        }
    }
}

/// A server that has a name, from before it knows what it serves.
pub(crate) struct Instance {
    home: Home,
    lock: Option<Lock>,
    /// What of its own folder is to be served.
    root: PathBuf,
    background: Option<Background>,
}

/// The folder that an instance has of its own.
#[derive(Clone)]
struct Home {
    name: Name,
    own: PathBuf,
    in_background: bool,
}

/// One that has no terminal.
struct Background {
    /// Whoever started it waits here; nobody, where it has taken another's place.
    say: Option<OwnedFd>,
    look: Look,
    log: PathBuf,
}

/// Reads a name.
pub(crate) fn name(text: &OsStr) -> Result<Name, Failed> {
    Name::parse(text).map_err(|why| Failed { code: EXIT_USAGE, why: format!("--name {}: {why}", text.display()) })
}

/// What `--name` says about this server; its name is held from here on, unless it only explains (and has not arrived).
pub(crate) fn instance(
    typed: &Typed,
    environment: &[(OsString, OsString)],
    arrival: Option<&mut Arrival>,
) -> Result<Option<Instance>, Failed> {
    let Some(text) = &typed.name else { return Ok(None) };
    let name = name(text)?;
    let folders = Folders::find(environment).map_err(Failed::new)?;
    let is_successor = arrival.as_ref().is_some_and(|arrival| arrival.predecessor.is_some());
    let background = match typed.action {
        Action::InBackground { terminal } => {
            let detach =
                || daemon::detach().map_err(|error| Failed::new(format!("cannot go to the background: {error}")));
            let say = if is_successor { None } else { Some(detach()?) };
            let look = if terminal { Look::Terminal } else { Look::Plain };
            Some(Background { say, look, log: folders.log(&name) })
        }
        _ => None,
    };
    let given = arrival.and_then(|arrival| arrival.lock.take());
    let lock = match (given, &typed.action) {
        (Some(held), _) => Some(Lock::given(&folders, &name, held)),
        (None, Action::Explain { .. }) => None,
        (None, _) => match Lock::take(&folders, &name) {
            Ok(Some(lock)) => Some(lock),
            Ok(None) => {
                return Err(Failed::new(format!("an instance {name} is running already; ucaffeine -L lists them")));
            }
            Err(error) => return Err(Failed::new(format!("cannot take the name {name}: {error}"))),
        },
    };
    let home = Home { own: folders.content(&name), name, in_background: background.is_some() };
    let root = home.root()?;
    Ok(Some(Instance { home, lock, root, background }))
}

impl Instance {
    /// The folder of what runs is given to the user that root is about to become. What is wrong with that user is for the start
    /// to say.
    fn hand_over(&mut self, user: &str) -> Result<(), Failed> {
        let (Some(lock), Ok(user), true) = (&mut self.lock, User::look_up(user), rustix::process::geteuid().is_root())
        else {
            return Ok(());
        };
        let failed =
            |error: io::Error| Failed::new(format!("cannot give the folder of {} away: {error}", self.home.name));
        lock.hand_over(user.uid(), user.gid()).map_err(failed)
    }

    /// What holds for an instance where nobody says anything else.
    pub(crate) fn defaults(&self) -> Layer {
        self.home.defaults(&self.root)
    }
}

impl Home {
    /// What of it is to be served.
    fn root(&self) -> Result<PathBuf, Failed> {
        let broken = |error: io::Error| Failed {
            code: EXIT_CONFIGURATION,
            why: format!("the folder of {}: {error}", self.name),
        };
        Releases::of(&self.own).served().map_err(broken)
    }

    fn defaults(&self, root: &Path) -> Layer {
        let mut defaults = Layer::default();
        let given = |flag: &str, text: OsString| Given { text, origin: Origin::Flag(flag.to_owned()) };
        // It is made when it is not there: an instance may be started first and filled later.
        let _ = std::fs::create_dir_all(&self.own);
        defaults.add("path", given("--name", root.into()));
        if self.in_background {
            defaults.add("access-log", given("--daemon", "-".into()));
        }
        defaults
    }

    /// Makes sure that only content is served from it. Returns the folder, if it is what is served.
    fn settle(&self, root: &Path, config: &mut Config) -> Option<PathBuf> {
        // The default site may be the instance's own folder; hosts have folders of theirs.
        let site = config.options.sites.first_mut().filter(|site| site.root == root)?;
        if root == self.own {
            // While the folder itself is served, its releases are not: what comes with the first deploy.
            site.hidden.extend(crate::instance::OURS.map(PathBuf::from));
        }
        Some(self.own.clone())
    }
}

/// Binds, starts the cores, says so, waits for the word to stop, drains.
pub(crate) fn run(
    config: Config,
    instance: Option<Instance>,
    level: &Level,
    arrival: &mut Arrival,
) -> Result<(), Failed> {
    // Before any thread exists, so that all of them inherit the mask and the signals come to us.
    let signals = [Signal::INT, Signal::TERM, Signal::HUP, Signal::USR1, Signal::USR2, Signal::XFSZ];
    let signals = Signals::new(&signals).map_err(|error| Failed::new(format!("cannot wait for signals: {error}")))?;
    log::start();
    let served = serve(config, instance, level, &signals, arrival);
    log::finish();
    served
}

fn serve(
    mut config: Config,
    mut instance: Option<Instance>,
    level: &Level,
    signals: &Signals,
    arrival: &mut Arrival,
) -> Result<(), Failed> {
    let terminal = Terminal::find();
    let binary = started_in().and_then(Binary::of_this_process);
    let binary = binary.inspect_err(|error| tracing::debug!(%error, "this binary cannot be started again")).ok();
    let own = instance.as_ref().and_then(|instance| instance.home.settle(&instance.root, &mut config));
    let listeners = std::mem::take(&mut arrival.listeners);
    let kept: Vec<Listen> = listeners.iter().filter(|one| one.kept).map(|one| one.asked.clone()).collect();
    if !kept.is_empty() {
        // What the service manager passes is what is listened on.
        config.options.listen = kept;
    }
    let is_taken = |one: &&Listener| match one.for_metrics {
        true => config.options.metrics.as_ref() == Some(&one.asked),
        false => config.options.listen.contains(&one.asked),
    };
    let taken: Vec<Listen> = listeners.iter().filter(is_taken).map(|one| one.asked.clone()).collect();
    // A deploy may bring scripts to an instance that has none.
    if instance.is_some() || config.options.sites.iter().any(|site| !site.mounts.is_empty()) {
        operator::adopt_orphans();
    }
    if let (Some(user), Some(instance)) = (&config.options.user, &mut instance) {
        instance.hand_over(user)?;
    }
    let started = Server::start_with(config.options.clone(), listeners);
    let server = Arc::new(started.map_err(|error| Failed { code: exit_code(&error), why: error.to_string() })?);
    if instance.as_ref().is_some_and(|instance| instance.background.is_some()) {
        // Every path is absolute by now; the folder it was started in may be unmounted.
        let _ = std::env::set_current_dir("/");
    }
    let manager = std::mem::replace(&mut arrival.manager, Manager::find(&[], false));
    let background = instance.as_ref().and_then(|instance| instance.background.as_ref());
    let own_log = background.map(|background| background.log.clone());
    let logs = Arc::new(Logs { server: Arc::clone(&server), own: own_log });
    let home = instance.as_ref().map(|instance| instance.home.clone());
    let current = Current { config: config.clone(), own };
    let operator = Operator::new(Arc::clone(&server), Arc::new(manager), level.clone(), binary, home, current);
    let operator = Arc::new(operator);
    operator.listen().map_err(|error| Failed::new(format!("cannot start a thread: {error}")))?;
    if let Some(predecessor) = &arrival.predecessor {
        predecessor.ready(&taken).map_err(Failed::new)?;
    }
    server.open();
    let named = instance.map(|instance| Named::start(instance, &operator, &logs, level)).transpose();
    let named = match (named, &arrival.predecessor) {
        (Ok(named), _) => named,
        (Err(failed), None) => return Err(failed),
        // It serves, and there is nobody left who would, if it did not.
        (Err(failed), Some(_)) => {
            tracing::error!("{}", failed.why);
            None
        }
    };
    match arrival.predecessor.take() {
        Some(predecessor) => {
            tracing::info!("this process serves in the place of process {}", predecessor.pid);
            predecessor.settled();
        }
        None => announce(&config, &server, named.as_ref()),
    }
    operator
        .manager
        .ready(&format!("serving {}", server.listening().iter().map(address).collect::<Vec<_>>().join(" ")));
    operator.manager.watch(&server);
    // Nobody waits for its start any more.
    let named = named.map(Named::served);
    wait(signals, &operator, &logs, &terminal);
    if let Some((control, lock)) = named {
        control.tell_end(server.cut_stats());
        // What another process has taken over is its own.
        if !server.has_successor() {
            lock.clear();
        }
    }
    Ok(())
}

/// An instance that serves.
struct Named {
    home: Home,
    lock: Arc<Lock>,
    control: Control,
    background: Option<Background>,
}

impl Named {
    /// Opens its control socket, and lets it be found.
    fn start(instance: Instance, operator: &Arc<Operator>, logs: &Arc<Logs>, level: &Level) -> Result<Named, Failed> {
        let Instance { home, lock, background, .. } = instance;
        let lock = lock.ok_or_else(|| Failed::new(format!("{} is not locked", home.name)))?;
        let failed = |error: io::Error| Failed::new(format!("{} cannot be controlled: {error}", home.name));
        let control = Control::start(lock.folder(), desk(operator, logs, level)).map_err(failed)?;
        let addresses = operator.server.listening().iter().map(address).collect();
        let log = background.as_ref().map(|background| background.log.as_path());
        let state = State::of_this_process(addresses, log, operator.given_dir().as_deref()).map_err(failed)?;
        lock.tell(&state).map_err(failed)?;
        let lock = Arc::new(lock);
        operator.named(Arc::clone(&lock), state);
        Ok(Named { home, lock, control, background })
    }

    /// Lets go of whoever has started it.
    fn served(self) -> (Control, Arc<Lock>) {
        (self.control, self.lock)
    }
}

fn desk(operator: &Arc<Operator>, logs: &Arc<Logs>, level: &Level) -> Desk {
    let (level, server, reopened) = (level.clone(), Arc::clone(&operator.server), Arc::clone(logs));
    let operator = || Arc::clone(operator);
    let (own, sites_at, alone, reload, upgrade) = (operator(), operator(), operator(), operator(), operator());
    Desk {
        server,
        own: Box::new(move || own.own()),
        sites_at: Box::new(move |root: &Path| sites_at.sites_at(root)),
        set_level: Box::new(move |name| level_of(name).is_some_and(|filter| level.reload(filter).is_ok())),
        alone: Box::new(move |work| {
            let _one = alone.changing();
            work();
        }),
        reload: Box::new(move || reload.reload()),
        upgrade: Box::new(move || upgrade.upgrade()),
        reopen_logs: Box::new(move || reopened.reopen()),
    }
}

/// What is written to files that somebody may move away.
struct Logs {
    server: Arc<Server>,
    /// Where the outputs of one in the background go.
    own: Option<PathBuf>,
}

impl Logs {
    /// Opens them again, and returns when nothing is written to the old ones any more. Where one cannot be opened the old one
    /// is written to as before; that is said there, too.
    fn reopen(&self) -> Result<(), String> {
        let own = self.own.as_deref().map_or(Ok(()), |log| {
            daemon::reopen_log(log).map_err(|error| format!("cannot open the log {}: {error}", log.display()))
        });
        let reopened = own.and_then(|()| self.server.reopen_log().map_err(|error| error.to_string()));
        match &reopened {
            Ok(()) => tracing::info!("the logs were opened again"),
            Err(why) => tracing::error!("{why}; it goes on in the old one"),
        }
        reopened
    }
}

/// As a program would use it: a URL, or `unix:PATH`.
fn address(listen: &Listen) -> String {
    match listen {
        Listen::Tcp(address) => format!("http://{address}/"),
        Listen::Unix(_) => listen.to_string(),
    }
}

fn announce(config: &Config, server: &Server, named: Option<&Named>) {
    let background = named.and_then(|named| named.background.as_ref());
    let look = match background {
        Some(background) => background.look,
        None if io::stdout().is_terminal() => Look::Terminal,
        None => Look::Plain,
    };
    let facts = Started {
        listen: server.listening(),
        metrics: server.metrics_at(),
        options: &config.options,
        cpus: server.plan(),
        engine: "uring (io_uring, one ring a core)",
        instance: named.map(|named| banner::Instance {
            name: named.home.name.as_str(),
            pid: rustix::process::getpid().as_raw_nonzero().get(),
            log: background.map(|background| background.log.as_path()),
        }),
    };
    let text = banner::started(&facts, look);
    // Nobody may be left to read it; that does not matter to those who are served.
    let _ = match background.and_then(|background| background.say.as_ref()) {
        Some(say) => daemon::serving(say, &text),
        None => io::stdout().write_all(text.as_bytes()),
    };
}

/// How often what scripts have left behind is looked for and reaped.
const ORPHANS_EVERY: Duration = Duration::from_secs(1);

/// Acts on signals: from the first one to stop on the server drains, from the second it cuts. Meanwhile, orphans are reaped.
fn wait(signals: &Signals, operator: &Operator, logs: &Logs, terminal: &Terminal) {
    let (stopped, stopping) = std::sync::mpsc::channel::<()>();
    let server = &operator.server;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            server.wait_stopped();
            drop(stopped);
        });
        let mut signalled = false;
        loop {
            let every = if signalled || server.is_stopping() { ORPHANS_EVERY / 20 } else { ORPHANS_EVERY };
            match signals.wait_timeout(every) {
                Ok(None) => {}
                // A log that has come to RLIMIT_FSIZE is an error of its write, and no reason to die.
                Ok(Some(Signal::XFSZ)) => {}
                Ok(Some(Signal::USR1)) => {
                    let reopen =
                        std::thread::Builder::new().name("reopen".into()).spawn_scoped(scope, || logs.reopen());
                    // What comes of it is said in the log.
                    drop(reopen);
                }
                Ok(Some(Signal::HUP)) if !terminal.has_gone() => operator.ask(Job::Reload),
                Ok(Some(Signal::USR2)) => operator.ask(Job::Upgrade),
                Ok(Some(_)) if signalled => server.cut(),
                Ok(Some(_)) => {
                    signalled = true;
                    server.drain();
                    if !server.has_successor() {
                        operator.manager.stopping();
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "cannot wait for signals: stopping");
                    return server.cut();
                }
            }
            if operator.has_scripts() {
                // NotFound: a kernel without CONFIG_PROC_CHILDREN; then orphans stay zombies until we end.
                let _ = orphans::reap(|_| false);
            }
            if stopping.try_recv() == Err(std::sync::mpsc::TryRecvError::Disconnected) {
                return;
            }
        }
    });
}

/// The terminal that the server was started at, if it was. When that is closed, SIGHUP means what it was made for.
struct Terminal {
    was_there: bool,
}

impl Terminal {
    fn find() -> Terminal {
        Terminal { was_there: Terminal::is_there() }
    }

    fn has_gone(&self) -> bool {
        self.was_there && !Terminal::is_there()
    }

    /// One that was hung up is none any more (EIO: ioctl_tty(2)).
    fn is_there() -> bool {
        io::stdin().is_terminal() || io::stdout().is_terminal() || io::stderr().is_terminal()
    }
}

pub(crate) fn exit_code(error: &StartError) -> u8 {
    match error {
        StartError::Bind { .. } => EXIT_BIND,
        StartError::Engine(_) | StartError::Uring(_) => EXIT_ENGINE,
        StartError::NotRoot { .. } => EXIT_USAGE,
        StartError::Site { .. } | StartError::Log { .. } | StartError::Bounds(_) | StartError::User { .. } => {
            EXIT_CONFIGURATION
        }
        _ => crate::instance::EXIT_FAILED,
    }
}
