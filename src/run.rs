//! Serving: alone or as an instance, in front or in the background, until the word to stop.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ucaffeine::rt::confine::User;
use ucaffeine::rt::process::orphans;
use ucaffeine::rt::signal::{Signal, Signals};
use ucaffeine::serve::options::{Listen, SiteConfig};
use ucaffeine::serve::{Server, StartError};

use crate::banner::{self, Look, Started};
use crate::cli::{Action, Typed};
use crate::config::{Config, Given, Layer, Origin, at_root, level as level_of};
use crate::instance::{Control, Desk, Failed, Folders, Lock, Name, Releases, State, daemon};
use crate::log;
use crate::{EXIT_CONFIGURATION, EXIT_USAGE, Level};

const EXIT_BIND: u8 = 4;
const EXIT_ENGINE: u8 = 5;

/// A server that has a name, from before it knows what it serves.
pub(crate) struct Instance {
    name: Name,
    lock: Option<Lock>,
    /// Its own folder, and what of it is to be served.
    own: PathBuf,
    root: PathBuf,
    background: Option<Background>,
}

/// One that has no terminal.
struct Background {
    /// Whoever started it waits here.
    say: OwnedFd,
    look: Look,
    log: PathBuf,
}

/// Reads a name.
pub(crate) fn name(text: &OsStr) -> Result<Name, Failed> {
    Name::parse(text).map_err(|why| Failed { code: EXIT_USAGE, why: format!("--name {}: {why}", text.display()) })
}

/// What `--name` says about this server; its name is held from here on, unless it only explains.
pub(crate) fn instance(typed: &Typed, environment: &[(OsString, OsString)]) -> Result<Option<Instance>, Failed> {
    let Some(text) = &typed.name else { return Ok(None) };
    let name = name(text)?;
    let folders = Folders::find(environment).map_err(Failed::new)?;
    let background = match typed.action {
        Action::InBackground { terminal } => {
            let say = daemon::detach().map_err(|error| Failed::new(format!("cannot go to the background: {error}")))?;
            let look = if terminal { Look::Terminal } else { Look::Plain };
            Some(Background { say, look, log: folders.log(&name) })
        }
        _ => None,
    };
    let lock = match typed.action {
        Action::Explain { .. } => None,
        _ => match Lock::take(&folders, &name) {
            Ok(Some(lock)) => Some(lock),
            Ok(None) => {
                return Err(Failed::new(format!("an instance {name} is running already; ucaffeine -L lists them")));
            }
            Err(error) => return Err(Failed::new(format!("cannot take the name {name}: {error}"))),
        },
    };
    let own = folders.content(&name);
    let broken = |error: io::Error| Failed { code: EXIT_CONFIGURATION, why: format!("the folder of {name}: {error}") };
    let root = Releases::of(&own).served().map_err(broken)?;
    Ok(Some(Instance { name, lock, own, root, background }))
}

impl Instance {
    /// The folder of what runs is given to the user that root is about to become. What is wrong with that user is for the start
    /// to say.
    fn hand_over(&mut self, user: &str) -> Result<(), Failed> {
        let (Some(lock), Ok(user), true) = (&mut self.lock, User::look_up(user), rustix::process::geteuid().is_root())
        else {
            return Ok(());
        };
        let failed = |error: io::Error| Failed::new(format!("cannot give the folder of {} away: {error}", self.name));
        lock.hand_over(user.uid(), user.gid()).map_err(failed)
    }

    /// What holds for an instance where nobody says anything else.
    pub(crate) fn defaults(&self) -> Layer {
        let mut defaults = Layer::default();
        let given = |flag: &str, text: OsString| Given { text, origin: Origin::Flag(flag.to_owned()) };
        // It is made when it is not there: an instance may be started first and filled later.
        let _ = std::fs::create_dir_all(&self.own);
        defaults.add("path", given("--name", self.root.clone().into()));
        if self.background.is_some() {
            defaults.add("access-log", given("--daemon", "-".into()));
        }
        defaults
    }
}

/// Binds, starts the cores, says so, waits for the word to stop, drains.
pub(crate) fn run(config: Config, instance: Option<Instance>, level: &Level) -> Result<(), Failed> {
    // Before any thread exists, so that all of them inherit the mask and the signals come to us.
    let signals = Signals::new(&[Signal::INT, Signal::TERM, Signal::USR1, Signal::XFSZ])
        .map_err(|error| Failed::new(format!("cannot wait for signals: {error}")))?;
    log::start();
    let served = serve(config, instance, level, &signals);
    log::finish();
    served
}

fn serve(mut config: Config, mut instance: Option<Instance>, level: &Level, signals: &Signals) -> Result<(), Failed> {
    // The default site may be the instance's own folder; hosts have folders of theirs.
    let own = instance.as_ref();
    let own = own.filter(|instance| config.options.sites.first().is_some_and(|site| site.root == instance.root));
    if own.is_some_and(|instance| instance.root == instance.own) {
        // While the folder itself is served, its releases are not: what comes with the first deploy.
        let hidden = config.options.sites.first_mut().map(|site| &mut site.hidden);
        hidden.into_iter().for_each(|hidden| hidden.extend(crate::instance::OURS.map(PathBuf::from)));
    }
    let own = own.map(|instance| instance.own.clone());
    // A deploy may bring scripts to an instance that has none.
    let has_scripts = instance.is_some() || config.options.sites.iter().any(|site| !site.mounts.is_empty());
    if has_scripts && let Err(error) = orphans::become_subreaper() {
        tracing::warn!(%error, "what scripts leave behind goes to init");
    }
    if let (Some(user), Some(instance)) = (&config.options.user, &mut instance) {
        instance.hand_over(user)?;
    }
    let started = Server::start(config.options.clone());
    let server = Arc::new(started.map_err(|error| Failed { code: exit_code(&error), why: error.to_string() })?);
    if instance.as_ref().is_some_and(|instance| instance.background.is_some()) {
        // Every path is absolute by now; the folder it was started in may be unmounted.
        let _ = std::env::set_current_dir("/");
    }
    let background = instance.as_ref().and_then(|instance| instance.background.as_ref());
    let own_log = background.map(|background| background.log.clone());
    let logs = Arc::new(Logs { server: Arc::clone(&server), own: own_log });
    let named = instance.map(|instance| Named::start(instance, &config, own, &logs, level)).transpose()?;
    announce(&config, &server, named.as_ref());
    let named = named.map(Named::served);
    wait(signals, &server, &logs, has_scripts);
    if let Some((control, lock)) = named {
        control.tell_end(server.cut_stats());
        lock.clear();
    }
    Ok(())
}

/// An instance that serves.
struct Named {
    name: Name,
    lock: Lock,
    control: Control,
    background: Option<Background>,
}

impl Named {
    /// Opens its control socket, and lets it be found.
    fn start(
        instance: Instance,
        config: &Config,
        own: Option<PathBuf>,
        logs: &Arc<Logs>,
        level: &Level,
    ) -> Result<Named, Failed> {
        let Instance { name, lock, background, .. } = instance;
        let lock = lock.ok_or_else(|| Failed::new(format!("{name} is not locked")))?;
        let failed = |error: io::Error| Failed::new(format!("{name} cannot be controlled: {error}"));
        let dir = config.options.sites.first().map(|site| site.root.clone()).filter(|_| own.is_none());
        let control = Control::start(lock.folder(), desk(config, own, logs, level)).map_err(failed)?;
        let addresses = logs.server.listening().iter().map(address).collect();
        let log = background.as_ref().map(|background| background.log.as_path());
        let state = State::of_this_process(addresses, log, dir.as_deref()).map_err(failed)?;
        lock.tell(&state).map_err(failed)?;
        Ok(Named { name, lock, control, background })
    }

    /// Nobody waits for its start any more.
    fn served(self) -> (Control, Lock) {
        (self.control, self.lock)
    }
}

fn desk(config: &Config, own: Option<PathBuf>, logs: &Arc<Logs>, level: &Level) -> Desk {
    let mut sites = config.options.sites.iter().cloned();
    let mut site = sites.next().unwrap_or_else(|| SiteConfig::files_only(PathBuf::from("/")));
    let hosts: Vec<SiteConfig> = sites.collect();
    if own.as_ref() == Some(&site.root) {
        // What is not to be seen beside the content may well be a part of it.
        site.hidden.retain(|hidden| !crate::instance::OURS.iter().any(|ours| hidden == Path::new(ours)));
    }
    let (programs, level, reopened) = (config.programs, level.clone(), Arc::clone(logs));
    Desk {
        server: Arc::clone(&logs.server),
        own,
        sites_at: Box::new(move |root: &Path| {
            std::iter::once(at_root(&site, root, programs)).chain(hosts.iter().cloned()).collect()
        }),
        set_level: Box::new(move |name| level_of(name).is_some_and(|filter| level.reload(filter).is_ok())),
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
            name: named.name.as_str(),
            pid: rustix::process::getpid().as_raw_nonzero().get(),
            log: background.map(|background| background.log.as_path()),
        }),
    };
    let text = banner::started(&facts, look);
    // Nobody may be left to read it; that does not matter to those who are served.
    let _ = match background {
        Some(background) => daemon::serving(&background.say, &text),
        None => io::stdout().write_all(text.as_bytes()),
    };
}

/// How often what scripts have left behind is looked for and reaped.
const ORPHANS_EVERY: Duration = Duration::from_secs(1);

/// From the first signal on the server drains, from the second it cuts; meanwhile, orphans are reaped.
fn wait(signals: &Signals, server: &Server, logs: &Logs, has_scripts: bool) {
    let (stopped, stopping) = std::sync::mpsc::channel::<()>();
    let stopper = server.stopper();
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
                Ok(Some(_)) if signalled => stopper.cut(),
                Ok(Some(_)) => {
                    signalled = true;
                    stopper.drain();
                }
                Err(error) => {
                    tracing::error!(%error, "cannot wait for signals: stopping");
                    return stopper.cut();
                }
            }
            if has_scripts {
                // NotFound: a kernel without CONFIG_PROC_CHILDREN; then orphans stay zombies until we end.
                let _ = orphans::reap(|_| false);
            }
            if stopping.try_recv() == Err(std::sync::mpsc::TryRecvError::Disconnected) {
                return;
            }
        }
    });
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
