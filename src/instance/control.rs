//! The server's end of the control socket: threads of its own, plain and blocking, that reach the cores by their mailboxes.

use std::io::{self, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use ucaffeine::serve::options::SiteConfig;
use ucaffeine::serve::{CutStats, Server};

use super::protocol::{LINE_BYTES_MAX, VERSION, at, line, read};
use super::registry::{SOCKET, SOCKET_DRAFT};
use super::releases::Releases;

/// Commands that are answered at the same time; there is one operator.
const CONVERSATIONS_MAX: usize = 32;
/// A command that says nothing is no command.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// The sites for a root of the default one.
type SitesAt = Box<dyn Fn(&Path) -> Vec<SiteConfig> + Send + Sync>;

/// Runs something by itself.
type Alone = Box<dyn Fn(&mut dyn FnMut()) + Send + Sync>;

/// What the commands work on.
pub(crate) struct Desk {
    pub(crate) server: Arc<Server>,
    /// The instance's own folder; `None` while it is told to serve another.
    pub(crate) own: Box<dyn Fn() -> Option<PathBuf> + Send + Sync>,
    /// The sites, the default one with this folder as its root.
    pub(crate) sites_at: SitesAt,
    /// Sets the level of the log; false for one that is none.
    pub(crate) set_level: Box<dyn Fn(&str) -> bool + Send + Sync>,
    /// Opens the logs again.
    pub(crate) reopen_logs: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// Runs this while nothing else changes what is served.
    pub(crate) alone: Alone,
    /// Reads the configuration again: what needs a restart, or what is wrong with it.
    pub(crate) reload: Box<dyn Fn() -> Result<Vec<&'static str>, Vec<String>> + Send + Sync>,
    /// Has another process take over; its number, or why it does not.
    pub(crate) upgrade: Box<dyn Fn() -> Result<u32, String> + Send + Sync>,
}

/// The control socket, open for as long as the process lives.
pub(crate) struct Control {
    shared: Arc<Shared>,
}

struct Shared {
    desk: Desk,
    started: Instant,
    /// Who asked for the end, and waits for it.
    waiting: Mutex<Vec<UnixStream>>,
    /// Questions whose answer is not written yet; and that there is one less.
    answering: Mutex<u32>,
    answered: Condvar,
    /// One more reference than there are conversations.
    conversations: Arc<()>,
}

impl Control {
    /// Listens in the instance's folder.
    ///
    /// # Errors
    /// bind(2), chmod(2); no thread.
    pub(crate) fn start(folder: &Path, desk: Desk) -> io::Result<Control> {
        // In one step in the place of one that a process before us may still answer on.
        let listener = at(folder, SOCKET_DRAFT, |path| {
            let _ = std::fs::remove_file(path);
            let listener = UnixListener::bind(path)?;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
            Ok(listener)
        })?;
        std::fs::rename(folder.join(SOCKET_DRAFT), folder.join(SOCKET))?;
        let shared = Arc::new(Shared {
            desk,
            started: Instant::now(),
            waiting: Mutex::default(),
            answering: Mutex::default(),
            answered: Condvar::new(),
            conversations: Arc::default(),
        });
        let serving = Arc::clone(&shared);
        std::thread::Builder::new().name("control".into()).spawn(move || listen(&listener, &serving))?;
        Ok(Control { shared })
    }

    /// Tells everybody who waits for the end what it cost. Who has asked for something else is answered first: an upgrade is over
    /// when the cores have ended, which may be before the word that it has come off.
    pub(crate) fn tell_end(&self, cut: CutStats) {
        let answering = self.shared.answering.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever does not read its answer is waited for no longer.
        drop(self.shared.answered.wait_timeout_while(answering, SILENCE_MAX, |answering| *answering > 0));
        let answer = ok(json!({ "cut": { "connections": cut.connections, "scripts": cut.scripts } }));
        let waiting = std::mem::take(&mut *self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        for mut stream in waiting {
            // Whoever asked may have gone.
            let _ = stream.write_all(line(&answer).as_bytes());
        }
    }
}

fn listen(listener: &UnixListener, shared: &Arc<Shared>) {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::error!(%error, "the control socket: trying again in a second");
                std::thread::sleep(Duration::from_secs(1));
                continue;
            }
        };
        // Only this thread starts conversations: what it counts can but shrink meanwhile.
        if !may_command(&stream) || Arc::strong_count(&shared.conversations) > CONVERSATIONS_MAX {
            continue;
        }
        let (speaking, counted) = (Arc::clone(shared), Arc::clone(&shared.conversations));
        let spoken = std::thread::Builder::new().name("control".into()).spawn(move || {
            // Cut short by a command that has gone: nothing is left to do.
            let _ = speak(stream, &speaking);
            drop(counted);
        });
        if let Err(error) = spoken {
            tracing::error!(%error, "no thread for a command");
        }
    }
}

/// The folder and the socket let nobody else in; this holds where a file system ignores their modes.
fn may_command(stream: &UnixStream) -> bool {
    let ours = rustix::process::geteuid();
    rustix::net::sockopt::socket_peercred(stream).is_ok_and(|peer| peer.uid == ours || peer.uid.is_root())
}

fn speak(stream: UnixStream, shared: &Shared) -> io::Result<()> {
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    stream.set_write_timeout(Some(SILENCE_MAX))?;
    let mut from = BufReader::new(stream.try_clone()?);
    let mut to = stream;
    while let Some(question) = read(&mut from)? {
        let answering = Answering::begin(shared);
        let answer = answer(shared, &question).unwrap_or_else(|why| json!({ "v": VERSION, "ok": false, "error": why }));
        to.write_all(line(&answer).as_bytes())?;
        drop(answering);
        if question["verb"] == "stop" {
            // After the answer, so that the answer at the end comes behind it.
            stop(shared, &question, to.try_clone()?);
        }
    }
    Ok(())
}

/// While a question is being answered.
struct Answering<'s>(&'s Shared);

impl<'s> Answering<'s> {
    fn begin(shared: &'s Shared) -> Answering<'s> {
        *shared.answering.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Answering(shared)
    }
}

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        *self.0.answering.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.answered.notify_all();
    }
}

fn answer(shared: &Shared, question: &Value) -> Result<Value, String> {
    if question["v"].as_u64() != Some(VERSION) {
        return Err(format!("this server speaks version {VERSION} of the protocol, not {}", question["v"]));
    }
    match question["verb"].as_str() {
        Some("stats") => Ok(ok(stats(shared))),
        Some("top") => Ok(ok(super::top::tell(&shared.desk.server, shared.started.elapsed()))),
        Some("stop") => Ok(ok(json!({}))),
        Some("log-level") => {
            let level = question["level"].as_str().unwrap_or_default();
            let set = (shared.desk.set_level)(level);
            set.then(|| ok(json!({}))).ok_or_else(|| format!("{level} is not a level of the log"))
        }
        Some("reopen-logs") => (shared.desk.reopen_logs)().map(|()| ok(json!({}))),
        Some("reload") => Ok(ok(reloaded((shared.desk.reload)()))),
        Some("upgrade") => (shared.desk.upgrade)().map(|pid| ok(json!({ "pid": pid }))),
        Some("release") => {
            let mut released = Err(String::new());
            (shared.desk.alone)(&mut || released = release(shared, question["number"].as_u64()).map(ok));
            released
        }
        _ => Err(format!("there is no verb {}", question["verb"])),
    }
}

fn ok(mut with: Value) -> Value {
    with["v"] = json!(VERSION);
    with["ok"] = json!(true);
    with
}

/// Refused is an answer, too: with every problem, as far as a line can hold them.
fn reloaded(reloaded: Result<Vec<&'static str>, Vec<String>>) -> Value {
    match reloaded {
        Ok(needs_restart) => json!({ "needs_restart": needs_restart }),
        Err(mut problems) => {
            let mut room = LINE_BYTES_MAX as usize / 4;
            problems.retain(|problem| {
                let fits = problem.len() <= room;
                room -= if fits { problem.len() } else { 0 };
                fits
            });
            json!({ "problems": problems })
        }
    }
}

fn stats(shared: &Shared) -> Value {
    let server = &shared.desk.server;
    let cores = server.stats();
    let sum = |count: fn(&ucaffeine::serve::CoreStats) -> u64| cores.iter().map(count).sum::<u64>();
    json!({
        "state": if server.is_stopping() { "draining" } else { "serving" },
        "cores": server.plan().cores,
        "uptime_s": shared.started.elapsed().as_secs(),
        "requests": sum(|core| core.requests),
        "errors": sum(|core| core.errors),
        "connections": sum(|core| core.connections),
        "connections_open": sum(|core| core.connections_open as u64),
        "scripts": sum(|core| core.scripts),
        "scripts_running": sum(|core| core.scripts_running),
        "log_records_lost": sum(|core| core.log_records_lost),
    })
}

fn stop(shared: &Shared, question: &Value, to: UnixStream) {
    shared.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(to);
    let server = &shared.desk.server;
    match question["now"].as_bool() {
        Some(true) => server.cut(),
        _ if server.is_stopping() => {}
        _ => {
            server.drain();
            // Wakes the main thread, which sits in a wait for signals; it takes this one for the first.
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM);
        }
    }
}

/// Serves another release, here and after the next start. Done by the server as a whole, so that whoever asks for it may die at
/// any moment.
fn release(shared: &Shared, number: Option<u64>) -> Result<Value, String> {
    if shared.desk.server.has_successor() {
        return Err(String::from("another process has just taken its place; try again"));
    }
    let Some(own) = (shared.desk.own)() else {
        return Err(String::from("it serves a folder that it was given, not its own"));
    };
    let releases = Releases::of(&own);
    let number = number.filter(|&number| releases.folder(number).is_dir()).ok_or("there is no such release")?;
    let before = releases.current().map_err(|error| error.to_string())?;
    let sites = (shared.desk.sites_at)(&releases.folder(number));
    let mounts = sites.first().map(|site| site.mounts.as_slice()).unwrap_or_default();
    let programs: Vec<String> = mounts.iter().map(|mount| mount.prefix.clone()).collect();
    releases.set_current(number).map_err(|error| format!("the link to the release cannot be set: {error}"))?;
    let server = &shared.desk.server;
    if let Err(error) = server.replace_sites(&sites) {
        // Nothing was swapped; the next start shall not find it either.
        let _ = match before {
            Some(before) => releases.set_current(before),
            None => releases.unset_current(),
        };
        return Err(error.to_string());
    }
    tracing::info!(release = number, "serves another release");
    // A script of an old release may still read what lies beside it.
    let in_use: Vec<u64> = server.roots_in_use().iter().filter_map(|root| releases.number(root)).collect();
    Ok(json!({ "programs": programs, "in_use": in_use }))
}
