//! What is known about a path: a file and its compressed siblings, with their bytes or open.

use std::cell::Cell;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::http::Millis;
use crate::http::coding::Coding;
use crate::rt::fs::{Change, File, Metadata};
use crate::site::static_file::{FileStat, Found};

use super::trails::{Name, Trail};
use super::{Cache, Key};

/// What an entry costs besides its bytes: key, facts, prebuilt head, and its part in the books.
const ENTRY_BYTES: usize = 1152;
/// And each of its siblings.
const SIBLING_BYTES: usize = 512;

/// A file whose last change is younger may be in the middle of one, and the next change may bear the same time: time stamps
/// move on with the timer tick, every 10 ms at most (CONFIG_HZ is 100 or more; since 6.13, ext4, xfs, btrfs and tmpfs have
/// finer ones for files that somebody looks at). Until then it is not held, and its tag is used only once.
pub(super) const SETTLED_AFTER: Duration = Duration::from_millis(20);
/// A file that changed so lately is copied before it is sent: `sendfile(2)` would hand its pages to the socket, and whoever
/// writes to them before the client has read them changes what was sent.
const SENT_BY_COPY: Duration = Duration::from_secs(1);
/// How long after a file was given a new name the event may come.
const TOLD_LATE_MAX: Duration = Duration::from_millis(5);
/// A stamp so far ahead is of another clock, or from before ours was set back: it tells nothing.
const CLOCK_SKEW_MAX: Duration = Duration::from_secs(1);

/// What is known about a path.
pub(in crate::serve) struct Entry {
    pub(in crate::serve) found: Found,
    /// Of the tree that it was found in.
    pub(in crate::serve) generation: u32,
    /// The file as it is, then its siblings; nothing where `found` is no file.
    pub(super) held: Vec<Held>,
    /// What the look-up saw at the names of the file and its siblings; some of it may be of no use.
    pub(super) seen: Vec<Seen>,
    pub(super) trust: Cell<Trust>,
    /// Where it is kept, if it is.
    pub(super) kept: Option<Kept>,
}

/// How far an entry can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// Until then; then one request looks again, and the others go on.
    Until(u64),
    /// Something has happened to it: nobody gets it before somebody has looked.
    Not,
}

/// Under which names changes to an entry will be told, and where it is kept.
pub(super) struct Kept {
    pub(super) path: Rc<[u8]>,
    pub(super) key: Cell<Option<Key>>,
    /// Of the directory, and of the file where that is a link. Empty: nothing is told.
    pub(super) trails: Vec<Rc<Trail<Key>>>,
    pub(super) names: Box<[Name]>,
    /// How long it is trusted after a look.
    pub(super) trusted_ms: u64,
}

/// A name is told by its coding: the file itself has none.
pub(super) type Seen = (Option<Coding>, Metadata);

/// One representation of a file.
pub(in crate::serve) struct Held {
    pub(super) coding: Option<Coding>,
    /// The head of a plain 200, but for Date and Connection.
    pub(in crate::serve) head: Box<[u8]>,
    pub(in crate::serve) content: Content,
}

/// Where the bytes of a file are. Cheap to clone.
#[derive(Clone)]
pub(in crate::serve) enum Content {
    /// Here.
    Memory(Bytes),
    /// In the kernel's page cache, or on the disk.
    File(Rc<OpenFile>),
}

/// An open file that is to be sent as it was when its facts were taken, or not to its end.
pub(in crate::serve) struct OpenFile {
    file: Rc<File>,
    /// As it was then, but for what has happened since to its name and its permissions.
    metadata: Cell<Metadata>,
    /// A write was told.
    is_written: Cell<bool>,
    /// What was seen to be in memory last, and when: this part, in this millisecond.
    resident: Cell<(Millis, u64, u64)>,
    told: Cell<Told>,
    cache: Weak<Cache>,
}

/// What comes to be known of what happens to an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Nothing,
    /// New names, and most writes.
    Names,
    All,
}

impl Entry {
    /// About what is not kept.
    pub(super) fn passing(found: Found, generation: u32) -> Entry {
        Entry { found, generation, held: Vec::new(), seen: Vec::new(), trust: Cell::new(Trust::Not), kept: None }
    }

    /// The representation of that coding, if it is here.
    pub(in crate::serve) fn held(&self, coding: Option<Coding>) -> Option<&Held> {
        self.held.iter().find(|held| held.coding == coding)
    }

    pub(super) fn open_files(&self) -> impl Iterator<Item = &Rc<OpenFile>> {
        self.held.iter().filter_map(|held| match &held.content {
            Content::File(file) => Some(file),
            Content::Memory(_) => None,
        })
    }

    /// A large file is open: whether it was written to is a cheap question (`fstat`, 0.2 us), and a wrong length costs a
    /// connection.
    pub(super) fn has_changed(&self) -> bool {
        self.open_files().any(|file| file.file.metadata().ok() != Some(file.metadata.get()))
    }

    /// Bytes that it holds, its own included.
    pub(super) fn bytes(&self) -> usize {
        let own = ENTRY_BYTES + SIBLING_BYTES * self.held.len().saturating_sub(1);
        let content = |held: &Held| match &held.content {
            Content::Memory(content) => content.len(),
            Content::File(_) => 0,
        };
        own + self.held.iter().map(content).sum::<usize>()
    }
}

impl OpenFile {
    pub(super) fn new(file: File, metadata: Metadata, cache: Weak<Cache>) -> OpenFile {
        OpenFile {
            file: Rc::new(file),
            metadata: Cell::new(metadata),
            is_written: Cell::new(false),
            resident: Cell::default(),
            told: Cell::new(Told::Nothing),
            cache,
        }
    }

    /// One that no cache knows.
    #[cfg(test)]
    pub(in crate::serve) fn unwatched(file: File) -> OpenFile {
        let metadata = file.metadata().expect("fstat of an open file");
        OpenFile::new(file, metadata, Weak::new())
    }

    /// From now on.
    pub(super) fn set_told(&self, told: Told) {
        self.told.set(told);
    }

    /// Whether its content is still what it was when the head of the reply was made. One `fstat` (0.2 us); ask before each
    /// slice is handed out, and where a slice is copied, between the copy and the sending.
    ///
    /// What is renamed, replaced, deleted or given other permissions meanwhile is unchanged, if its directory is watched;
    /// else only what nothing at all has happened to.
    pub(in crate::serve) fn is_unchanged(&self) -> bool {
        let Ok(now) = self.file.metadata() else { return false };
        if !self.is_written.get() && now == self.metadata.get() {
            return true;
        }
        let has_same_content = |now: &Metadata, then: Metadata| (now.len, now.mtime) == (then.len, then.mtime);
        if !has_same_content(&now, self.metadata.get()) {
            return false;
        }
        // A write whose time was set back, or a new name? What has been told decides: a write is told before its time can be
        // set back, a new name only after it is one (the kernel changes the inode, and then queues the event).
        let Some(cache) = self.cache.upgrade() else { return false };
        let since = Instant::now();
        loop {
            cache.hear();
            let Ok(now) = self.file.metadata() else { return false };
            let then = self.metadata.get();
            match self.told.get() {
                _ if self.is_written.get() => return false,
                _ if now == then => return true,
                Told::All => return has_same_content(&now, then),
                // Microseconds, and seldom: the core waits.
                Told::Names if has_same_content(&now, then) && since.elapsed() < TOLD_LATE_MAX => {
                    std::thread::yield_now()
                }
                Told::Names | Told::Nothing => return false,
            }
        }
    }

    /// Whether this part is in memory, or was in this very millisecond: to look costs two calls, and nothing that is asked for
    /// twice in a millisecond leaves the page cache by itself. What somebody throws out meanwhile may be waited for once.
    pub(in crate::serve) fn was_resident(&self, start: u64, len: usize, now_ms: Millis) -> bool {
        let end = start + len as u64;
        let (seen_ms, from, to) = self.resident.get();
        if seen_ms == now_ms && from <= start && end <= to {
            return true;
        }
        let is_resident = self.file.is_resident(start, len);
        if is_resident {
            self.resident.set((now_ms, start, end));
        }
        is_resident
    }

    /// The file, for what goes on when nobody sends it any more.
    pub(in crate::serve) fn shared(&self) -> &Rc<File> {
        &self.file
    }

    /// Whether it is likely to be written to while it is sent. Then its bytes must be copied before they are sent.
    pub(in crate::serve) fn changed_lately(&self) -> bool {
        age(&self.metadata.get()).is_some_and(|age| age < SENT_BY_COPY)
    }

    /// Something was told about its name.
    pub(super) fn told(&self, change: Change) {
        if change == Change::Modified {
            self.is_written.set(true);
        }
        let Ok(now) = self.file.metadata() else { return };
        let then = self.metadata.get();
        if (now.len, now.mtime) == (then.len, then.mtime) {
            self.metadata.set(now);
        }
    }
}

impl std::ops::Deref for OpenFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

/// How long to wait until the last change of a file is long enough ago; `None`: it is.
pub(super) fn settles_in(metadata: &Metadata) -> Option<Duration> {
    SETTLED_AFTER.checked_sub(age(metadata)?).filter(|left| !left.is_zero())
}

/// How long ago a file changed in any way; `None` where its stamp is not of our clock.
fn age(metadata: &Metadata) -> Option<Duration> {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
    let (seconds, nanoseconds) = metadata.ctime;
    let changed = Duration::new(u64::try_from(seconds).ok()?, nanoseconds);
    if changed > since_1970 + CLOCK_SKEW_MAX {
        return None;
    }
    Some(since_1970.saturating_sub(changed))
}

pub(super) fn stat(metadata: &Metadata) -> FileStat {
    FileStat {
        len: metadata.len,
        mtime_s: metadata.mtime.0,
        mtime_ns: metadata.mtime.1,
        ctime_s: metadata.ctime.0,
        ctime_ns: metadata.ctime.1,
        inode: metadata.inode,
    }
}
