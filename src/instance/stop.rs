//! Stopping: asked for on the control socket, by a signal where nobody answers there, and seen through to the end.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, pidfd_send_signal};
use serde_json::{Value, json};

use super::protocol::Client;
use super::registry::{Entry, State, look};
use super::{Failed, Folders, Name};

/// How long an instance has to answer that it stops.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// How long what was cut may take to end: scripts have 5 s from TERM to KILL by default, and a ring 5 s to give its memory back.
const CUT_MAX: Duration = Duration::from_secs(15);
/// How long the kernel may take to end a process that was killed.
const KILL_MAX: Duration = Duration::from_secs(10);

/// Drains and stops it; what is left after `patience` is cut. Returns when the process has ended, with a line about it.
///
/// # Errors
/// Nothing of that name runs, or it does not end.
pub(crate) fn stop(folders: &Folders, name: &Name, patience: Duration) -> Result<String, Failed> {
    let state = match look(folders, name).map_err(|error| Failed::new(format!("cannot look for {name}: {error}")))? {
        Entry::Nothing => return Err(Failed::new(format!("no instance {name} is running"))),
        Entry::Running(None) => return Err(Failed::new(format!("{name} is starting or ending; try again"))),
        Entry::Running(Some(state)) => state,
    };
    let Some(pidfd) = state.process() else {
        // Its lock is held, so it runs, or did a moment ago; but not as what is written down.
        return match look(folders, name) {
            Ok(Entry::Nothing) => Err(Failed::new(format!("no instance {name} is running"))),
            _ => Err(Failed::new(format!("{name} is locked by a process that is not its own (pid {}?)", state.pid))),
        };
    };
    let mut ending = Ending { name, state: &state, pidfd, folder: folders.run(name), client: None, cut: None };
    ending.ask(false);
    if !ending.wait(patience) {
        ending.ask(true);
        if !ending.wait(CUT_MAX) {
            let _ = pidfd_send_signal(&ending.pidfd, Signal::KILL);
            return match ending.wait(KILL_MAX) {
                true => Ok(format!("{name} (pid {}) did not react, and was killed", state.pid)),
                false => Err(Failed::new(format!("{name} (pid {}) does not end, not even when killed", state.pid))),
            };
        }
    }
    Ok(ending.report())
}

/// An instance on its way out.
struct Ending<'a> {
    name: &'a Name,
    state: &'a State,
    pidfd: OwnedFd,
    folder: PathBuf,
    /// While it answers.
    client: Option<Client>,
    /// What it said at its end.
    cut: Option<Value>,
}

impl Ending<'_> {
    /// To drain, or to cut. A second signal cuts, too.
    fn ask(&mut self, now: bool) {
        // Each time anew: a conversation in which nothing is said ends after a while.
        self.client = Client::connect(&self.folder).ok();
        let asked = self.client.as_mut().map(|client| client.ask("stop", json!({ "now": now }), ANSWER_MAX));
        match asked {
            Some(Ok(answer)) => self.keep(answer),
            Some(Err(_)) | None => {
                self.client = None;
                // It may have ended meanwhile; then there is nobody to signal, which is fine.
                let _ = pidfd_send_signal(&self.pidfd, Signal::TERM);
            }
        }
    }

    fn keep(&mut self, answer: Value) {
        if answer["cut"].is_object() {
            self.cut = Some(answer["cut"].clone());
        }
    }

    /// Whether the process has ended by then.
    fn wait(&mut self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        if let Some(client) = &mut self.client {
            // The word comes shortly before the end; without it the end itself is waited for.
            if let Ok(answer) = client.answer(patience) {
                self.keep(answer);
            }
        }
        let left = Timespec::try_from(until.saturating_duration_since(Instant::now()).max(self.grace())).ok();
        let ended = poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], left.as_ref());
        ended.is_ok_and(|count| count > 0)
    }

    /// After the word that it ends, it ends.
    fn grace(&self) -> Duration {
        if self.cut.is_some() { CUT_MAX } else { Duration::from_millis(50) }
    }

    fn report(&self) -> String {
        let who = format!("{} (pid {}) has stopped", self.name, self.state.pid);
        let Some(cut) = &self.cut else { return who };
        let count = |what: &str| cut[what].as_u64().unwrap_or(0);
        let some = |count: u64, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        match (count("connections"), count("scripts")) {
            (0, 0) => format!("{who}; nothing was cut"),
            (connections, scripts) => {
                format!("{who}; it had to cut {} and {}", some(connections, "connection"), some(scripts, "script"))
            }
        }
    }
}
