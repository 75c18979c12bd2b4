//! The log of an instance in the background: shown, followed, emptied.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::time::Duration;

use serde_json::json;

use super::protocol::Client;
use super::registry::{Entry, look};
use super::{Failed, Folders, Name};

/// How often a log that is followed is looked at.
const FOLLOW_EVERY: Duration = Duration::from_millis(100);
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// The server gives a write to an old log 10 s to end.
const REOPEN_ANSWER_MAX: Duration = Duration::from_secs(15);

/// Copies the log to `out`; with `follow`, whatever comes as well, until nobody reads `out` any more.
///
/// # Errors
/// There is no log of that name.
pub(crate) fn show(folders: &Folders, name: &Name, follow: bool, out: &mut impl Write) -> Result<(), Failed> {
    let mut file = File::open(folders.log(name)).map_err(|error| missing(folders, name, &error))?;
    let mut shown = 0;
    loop {
        // It was emptied: what is there now is new.
        if file.metadata().is_ok_and(|facts| facts.len() < shown) {
            shown = file.seek(SeekFrom::Start(0)).unwrap_or(0);
        }
        match copy(&mut file, out) {
            Ok(count) => shown += count,
            // `ucaffeine -l -n NAME | head` ends early; that is no error.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(Failed::new(format!("the log of {name} cannot be shown: {error}"))),
        }
        if !follow {
            return Ok(());
        }
        std::thread::sleep(FOLLOW_EVERY);
    }
}

fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<u64> {
    let count = io::copy(from, to)?;
    to.flush()?;
    Ok(count)
}

/// Empties the log. Safe while the instance runs: it writes at the end, wherever that is (O_APPEND).
///
/// # Errors
/// There is no log of that name.
pub(crate) fn reset(folders: &Folders, name: &Name) -> Result<(), Failed> {
    let file =
        OpenOptions::new().write(true).open(folders.log(name)).map_err(|error| missing(folders, name, &error))?;
    file.set_len(0).map_err(|error| Failed::new(format!("the log of {name} cannot be emptied: {error}")))
}

/// Has a running instance log at this level from now on.
///
/// # Errors
/// It does not run, or does not know the level.
pub(crate) fn set_level(folders: &Folders, name: &Name, level: &str) -> Result<(), Failed> {
    if let Ok(Entry::Nothing) = look(folders, name) {
        return Err(Failed::new(format!("no instance {name} is running, so it has no level to change")));
    }
    let answer = Client::connect(&folders.run(name))
        .and_then(|mut client| client.ask("log-level", json!({ "level": level }), ANSWER_MAX));
    answer.map(|_| ()).map_err(|failure| Failed::new(format!("{name}: {failure}")))
}

/// Has a running instance open its logs again, after they were moved away; returns when it writes to the old ones no more.
///
/// # Errors
/// It does not run, or cannot open one: it goes on with the old one, then.
pub(crate) fn reopen(folders: &Folders, name: &Name) -> Result<(), Failed> {
    if let Ok(Entry::Nothing) = look(folders, name) {
        return Err(Failed::new(format!("no instance {name} is running, so it has no log to open")));
    }
    let answer = Client::connect(&folders.run(name))
        .and_then(|mut client| client.ask("reopen-logs", json!({}), REOPEN_ANSWER_MAX));
    answer.map(|_| ()).map_err(|failure| Failed::new(format!("{name}: {failure}")))
}

fn missing(folders: &Folders, name: &Name, error: &io::Error) -> Failed {
    let path = folders.log(name);
    match (error.kind(), look(folders, name)) {
        (io::ErrorKind::NotFound, Ok(Entry::Running(_))) => {
            Failed::new(format!("{name} runs in the foreground: its log is what it prints there"))
        }
        (io::ErrorKind::NotFound, _) => Failed::new(format!("there is no log of {name} ({})", path.display())),
        _ => Failed::new(format!("cannot open {}: {error}", path.display())),
    }
}
