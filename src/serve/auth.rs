//! Doors with passwords: whom this core has let in lately, and finding out about everybody else off its thread, because a good
//! hash takes a quarter of a second.

use std::cell::RefCell;
use std::collections::hash_map::RandomState;
use std::fs::Metadata;
use std::hash::BuildHasher;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use crate::rt::blocking;
use crate::site::auth::Credentials;
use crate::site::htpasswd::Users;

use super::link::Link;
use super::options::USERS_BYTES_MAX;
use super::sites::Sites;
use super::transfer;
use super::worker::Worker;

/// What a 503 tells the client to wait.
pub(super) const RETRY_AFTER_S: u32 = 2;
/// Passwords of one core that are verified, or wait for it, at the same time; 503 beyond.
const VERIFICATIONS_MAX: usize = 16;
/// Those that a core lets in without verifying them again, for each door.
const KNOWN_MAX: usize = 128;
/// How often a core looks whether a file of users has changed.
const LOOK_MS: u64 = 1_000;

/// A file of users, and what was in it.
pub(super) struct UsersFile {
    path: PathBuf,
    read: Mutex<Contents>,
}

struct Contents {
    stamp: Option<Stamp>,
    users: Option<Arc<Users>>,
}

/// What changes when a file does; `None` where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    len: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

/// A guard of one core.
pub(super) struct Door {
    file: Arc<UsersFile>,
    known: RefCell<Known>,
}

/// Whom a core has verified: hashes by a key that nobody knows, never passwords.
struct Known {
    key: RandomState,
    /// What the file was like.
    stamp: Option<Stamp>,
    looked_ms: u64,
    hashes: Vec<u128>,
    /// The one that the next replaces.
    oldest: usize,
}

/// Somebody who has to be verified.
pub(super) struct Order {
    pub(super) sites: Rc<Sites>,
    pub(super) site: usize,
    pub(super) location: usize,
    pub(super) credentials: Credentials,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Admitted,
    Refused,
    /// Too many are being verified, or the file cannot be read now.
    Busy,
}

/// An outcome, and what it is about.
#[derive(Clone, Copy)]
pub(super) struct Verified {
    pub(super) outcome: Outcome,
    pub(super) location: u32,
    pub(super) generation: u32,
}

impl UsersFile {
    /// Reads it for the first time.
    pub(super) fn open(path: &Path) -> io::Result<Arc<UsersFile>> {
        let (stamp, users) = read(path)?;
        let read = Mutex::new(Contents { stamp, users: Some(Arc::new(users)) });
        Ok(Arc::new(UsersFile { path: path.to_owned(), read }))
    }

    /// What is in it now, and what it is like; read again only if it has changed. Blocking.
    fn users(&self) -> (Option<Stamp>, Option<Arc<Users>>) {
        let mut contents = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if contents.stamp.is_none() || contents.stamp != stamp(&self.path) {
            *contents = match read(&self.path) {
                Ok((stamp, users)) => Contents { stamp, users: Some(Arc::new(users)) },
                // Whoever was in it may have been taken out of it.
                Err(error) => {
                    // Once, however many try.
                    if contents.users.is_some() {
                        tracing::error!("{} cannot be read, so nobody is let in: {error}", self.path.display());
                    }
                    Contents { stamp: None, users: None }
                }
            };
        }
        (contents.stamp, contents.users.clone())
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    std::fs::metadata(path).ok().map(|facts| Stamp::of(&facts))
}

impl Stamp {
    fn of(facts: &Metadata) -> Stamp {
        Stamp {
            file: (facts.dev(), facts.ino()),
            len: facts.len(),
            mtime: (facts.mtime(), facts.mtime_nsec()),
            ctime: (facts.ctime(), facts.ctime_nsec()),
        }
    }
}

/// The facts come before the bytes: what changes meanwhile is read again.
fn read(path: &Path) -> io::Result<(Option<Stamp>, Users)> {
    let file = std::fs::File::open(path)?;
    let facts = file.metadata()?;
    if !facts.is_file() {
        return Err(io::Error::other("not a file"));
    }
    let mut text = Vec::new();
    file.take(USERS_BYTES_MAX).read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    let (users, mistakes) = Users::parse(&text);
    for mistake in mistakes {
        tracing::warn!("{}:{}: {}; this line lets nobody in", path.display(), mistake.line, mistake.what);
    }
    Ok((Some(Stamp::of(&facts)), users))
}

impl Door {
    pub(super) fn new(file: Arc<UsersFile>) -> Door {
        let known = Known { key: RandomState::new(), stamp: None, looked_ms: 0, hashes: Vec::new(), oldest: 0 };
        Door { file, known: RefCell::new(known) }
    }

    /// Whether they have been verified here, and the file is as it was then. Now and then that is a stat(2), which is all that
    /// the core's thread ever does about it.
    pub(super) fn knows(&self, credentials: &Credentials, now_ms: u64) -> bool {
        let mut known = self.known.borrow_mut();
        if !known.hashes.is_empty() && now_ms >= known.looked_ms + LOOK_MS {
            known.looked_ms = now_ms;
            let stamp = stamp(&self.file.path);
            known.is_like(stamp);
        }
        let hash = known.hash(credentials);
        // All of them, whether or not one is found: how long it takes tells nothing.
        known.hashes.iter().fold(false, |found, other| found | (*other == hash))
    }

    fn remember(&self, credentials: &Credentials, verified: Option<Stamp>, now_ms: u64) {
        let mut known = self.known.borrow_mut();
        if verified.is_none() || known.stamp != verified {
            // One of the two is no longer true.
            let stamp = stamp(&self.file.path);
            known.looked_ms = now_ms;
            known.is_like(stamp);
            if stamp.is_none() || stamp != verified {
                return;
            }
        }
        let hash = known.hash(credentials);
        let oldest = known.oldest;
        match known.hashes.get_mut(oldest) {
            Some(place) => *place = hash,
            None => known.hashes.push(hash),
        }
        known.oldest = (oldest + 1) % KNOWN_MAX;
    }
}

impl Known {
    /// What was verified with another file is forgotten.
    fn is_like(&mut self, stamp: Option<Stamp>) {
        if self.stamp != stamp {
            self.hashes.clear();
            (self.stamp, self.oldest) = (stamp, 0);
        }
    }

    fn hash(&self, credentials: &Credentials) -> u128 {
        let half = |half: u8| u128::from(self.key.hash_one((half, credentials.pair())));
        half(0) << 64 | half(1)
    }
}

/// Finds out whether that is the password.
pub(super) async fn verify(link: &mut Link, worker: &Worker, order: Order) -> Verified {
    let Order { sites, site, location, credentials } = order;
    let verified = |outcome| Verified {
        outcome,
        location: location as u32,
        generation: sites.list.get(site).map_or(0, |site| site.generation),
    };
    let Some(door) = sites.door(site, location) else { return verified(Outcome::Busy) };
    let Some(_place) = worker.verifying.place() else { return verified(Outcome::Busy) };
    let (file, asked) = (Arc::clone(&door.file), credentials.clone());
    let work = blocking::run(move || {
        let (stamp, users) = file.users();
        (stamp, users.map(|users| users.verify(asked.user(), asked.password())))
    });
    verified(match transfer::unloading(link.transport.stream(), &mut link.input, work).await {
        Ok((stamp, Some(true))) => {
            door.remember(&credentials, stamp, worker.now_ms());
            Outcome::Admitted
        }
        Ok((_, Some(false))) => Outcome::Refused,
        Ok((_, None)) => Outcome::Busy,
        Err(error) => {
            tracing::warn!(%error, "a password cannot be verified: 503");
            Outcome::Busy
        }
    })
}

/// How many a core verifies at the same time.
pub(super) fn places() -> super::places::Places {
    super::places::Places::new(VERIFICATIONS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(encoded: &str) -> Credentials {
        Credentials::parse(format!("Basic {encoded}").as_bytes()).expect("a pair")
    }

    /// `ann:pw` and `bea:pw`.
    const ANN: &str = "YW5uOnB3";
    const BEA: &str = "YmVhOnB3";
    /// `{SHA}` of `pw`.
    const HASH: &str = "{SHA}GpHWL3ymc5liWkNopqtdSjuqYHM=";

    #[test]
    fn who_was_verified_is_known_until_the_file_changes() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("users");
        std::fs::write(&path, format!("ann:{HASH}\nbea:{HASH}\n")).expect("a file");
        let file = UsersFile::open(&path).expect("users");
        let door = Door::new(Arc::clone(&file));
        let (stamp, users) = file.users();
        assert!(users.expect("users").verify(b"ann", b"pw"));
        assert!(!door.knows(&credentials(ANN), 0));
        door.remember(&credentials(ANN), stamp, 0);
        assert!(door.knows(&credentials(ANN), 5) && !door.knows(&credentials(BEA), 5));

        // Replaced as tools do: another file of the same name. It is looked at again after a second, and not before.
        let next = folder.path().join("next");
        std::fs::write(&next, format!("bea:{HASH}\n")).expect("a file");
        std::fs::rename(&next, &path).expect("rename");
        assert!(door.knows(&credentials(ANN), LOOK_MS - 1));
        assert!(!door.knows(&credentials(ANN), LOOK_MS));
        // What was verified before the change is not remembered after it.
        door.remember(&credentials(ANN), stamp, LOOK_MS);
        assert!(!door.knows(&credentials(ANN), LOOK_MS));
        let (stamp, users) = file.users();
        assert!(!users.expect("users").verify(b"ann", b"pw"));
        door.remember(&credentials(BEA), stamp, LOOK_MS);
        assert!(door.knows(&credentials(BEA), LOOK_MS));

        std::fs::remove_file(&path).expect("remove");
        assert!(!door.knows(&credentials(BEA), 3 * LOOK_MS));
        assert!(file.users().1.is_none(), "nobody is let in by a file that is not there");
    }

    #[test]
    fn a_core_knows_so_many() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("users");
        std::fs::write(&path, "").expect("a file");
        let file = UsersFile::open(&path).expect("no users");
        let door = Door::new(Arc::clone(&file));
        let of = |number: usize| {
            use base64::Engine;
            credentials(&base64::engine::general_purpose::STANDARD.encode(format!("u{number}:pw")))
        };
        let stamp = file.users().0;
        (0..=KNOWN_MAX).for_each(|number| door.remember(&of(number), stamp, 0));
        assert!(!door.knows(&of(0), 0), "the oldest has gone");
        assert!((1..=KNOWN_MAX).all(|number| door.knows(&of(number), 0)));
    }
}
