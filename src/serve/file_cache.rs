//! The files of one site on one core: what was found at each path, the hot small ones with their bytes. A file and its
//! compressed siblings are one entry: found by one look-up, fresh and stale together.
//!
//! The cache belongs to one root at one generation: a deploy makes a new one. What it knows is trusted for
//! [`FRESH_MS`]; then one request looks again while the others are still answered from it, so a change shows within
//! that time, and the look costs one `openat2` and one `fstat`.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use bytes::Bytes;

use crate::http::coding::Coding;
use crate::rt::fs::{self, Dir, File, Kind, Metadata};
use crate::site::Site;
use crate::site::reply::whole_file_head;
use crate::site::representation::{self, Representations};
use crate::site::static_file::{FileFacts, FileStat, Found};

use super::options::FileOptions;

/// How long an answer from the cache may be behind the file system.
const FRESH_MS: u64 = 100;
/// What an entry costs besides its bytes: key, facts, prebuilt head and bookkeeping.
const ENTRY_BYTES: usize = 1024;
/// And each of its siblings.
const SIBLING_BYTES: usize = 512;

/// What is known about a path.
pub(super) struct Entry {
    pub(super) found: Found,
    /// Of the tree that it was found in.
    pub(super) generation: u32,
    /// The file as it is, then its siblings; nothing where `found` is no file.
    held: Vec<Held>,
    /// What the look-up saw at the names of the file and its siblings; some of it may be of no use.
    seen: Vec<Seen>,
    fresh_until_ms: Cell<u64>,
    /// Used since the clock hand last passed.
    hot: Cell<bool>,
}

/// One representation of a file.
pub(super) struct Held {
    coding: Option<Coding>,
    /// The head of a plain 200, but for Date and Connection.
    pub(super) head: Box<[u8]>,
    pub(super) content: Content,
    metadata: Metadata,
}

/// A name is told by its coding: the file itself has none.
type Seen = (Option<Coding>, Metadata);

/// Where the bytes of a file are. Cheap to clone.
#[derive(Clone)]
pub(super) enum Content {
    /// Here.
    Memory(Bytes),
    /// In the kernel's page cache, or on the disk.
    File(Rc<File>),
}

pub(super) struct FileCache {
    root: Dir,
    pub(super) root_path: PathBuf,
    generation: u32,
    options: FileOptions,
    /// Large files are kept open, so many of them.
    files_max: usize,
    entries: RefCell<HashMap<Rc<[u8]>, Rc<Entry>, foldhash::fast::RandomState>>,
    /// The keys in the order of the clock hand: a hot one gets a second round.
    clock: RefCell<VecDeque<Rc<[u8]>>>,
    bytes: Cell<usize>,
    files: Cell<usize>,
}

impl FileCache {
    pub(super) fn new(
        root: Dir,
        root_path: PathBuf,
        options: FileOptions,
        files_max: usize,
        generation: u32,
    ) -> FileCache {
        FileCache {
            root,
            root_path,
            generation,
            options,
            files_max,
            entries: RefCell::default(),
            clock: RefCell::default(),
            bytes: Cell::new(0),
            files: Cell::new(0),
        }
    }

    /// The folder whose files these are.
    pub(super) fn root(&self) -> &Dir {
        &self.root
    }

    /// What is known about a path, if it may still be trusted.
    pub(super) fn get(&self, path: &[u8], now_ms: u64) -> Option<Rc<Entry>> {
        let entries = self.entries.borrow();
        let entry = entries.get(path)?;
        if now_ms >= entry.fresh_until_ms.get() {
            // This request looks again; those that come meanwhile need not.
            entry.fresh_until_ms.set(now_ms + FRESH_MS);
            return None;
        }
        if entry.has_changed() {
            return None;
        }
        entry.hot.set(true);
        Some(Rc::clone(entry))
    }

    /// Looks at the file system, and remembers what is there. `site` is the one that this is the cache of.
    pub(super) async fn learn(&self, site: &Site, path: &[u8], now_ms: u64, now_s: u64) -> Rc<Entry> {
        let found = match self.root.find(path).await {
            Ok(found) => found,
            Err(error) => return self.forget(path, nothing(&error)),
        };
        match found.metadata.kind {
            Kind::Directory => return self.forget(path, Found::Directory),
            Kind::Special => return self.forget(path, Found::Refused),
            Kind::File => {}
        }
        let found = self.with_siblings(site, path, found).await;
        let seen: Vec<Seen> = found.iter().map(|(coding, found)| (*coding, found.metadata)).collect();
        if let Some(entry) = self.unchanged(path, &seen, now_ms) {
            return entry;
        }
        let mut opened = Vec::with_capacity(found.len());
        for (coding, found) in found {
            match found.open() {
                Ok(file) => opened.push((coding, found.metadata, file)),
                Err(error) if coding.is_none() => return self.forget(path, nothing(&error)),
                Err(error) => tracing::debug!(%error, "a compressed sibling cannot be opened"),
            }
        }
        let file = representations(site, path, &opened, now_s);
        let mut held = Vec::with_capacity(opened.len());
        for (facts, (coding, metadata, file)) in file.all().zip(opened) {
            let mut head = Vec::new();
            whole_file_head(facts, &mut head);
            held.push(Held { coding, head: head.into(), content: self.content(file, &metadata).await, metadata });
        }
        let entry = Rc::new(Entry {
            found: Found::File(file),
            generation: self.generation,
            held,
            seen,
            fresh_until_ms: Cell::new(now_ms + FRESH_MS),
            hot: Cell::new(true),
        });
        self.insert(path, &entry);
        entry
    }

    /// The file, and behind it its siblings that may stand for it.
    async fn with_siblings(&self, site: &Site, path: &[u8], file: fs::Found) -> Vec<(Option<Coding>, fs::Found)> {
        let original = stat(&file.metadata);
        let mut all = vec![(None, file)];
        for (coding, sibling) in representation::siblings(site, path) {
            if let Ok(found) = self.root.find(&sibling).await
                && found.metadata.kind == Kind::File
                && representation::stands_for(&stat(&found.metadata), &original)
            {
                all.push((Some(coding), found));
            }
        }
        all
    }

    /// The bytes of a small file; a large one stays open.
    async fn content(&self, file: File, metadata: &Metadata) -> Content {
        let len = metadata.len as usize;
        if metadata.len > self.options.cached_file_bytes_max as u64 || len > self.options.cache_bytes_max {
            return Content::File(Rc::new(file));
        }
        match read_whole(&file, len).await {
            // Changed while it was read: what came may be a mixture. It is sent from the file, with a cut if it shrinks.
            Ok(bytes) if file.metadata().is_ok_and(|now| now == *metadata) && bytes.len() == len => {
                Content::Memory(Bytes::from(bytes))
            }
            _ => Content::File(Rc::new(file)),
        }
    }

    fn unchanged(&self, path: &[u8], seen: &[Seen], now_ms: u64) -> Option<Rc<Entry>> {
        let entries = self.entries.borrow();
        let entry = entries.get(path).filter(|entry| entry.seen == seen)?;
        entry.fresh_until_ms.set(now_ms + FRESH_MS);
        entry.hot.set(true);
        Some(Rc::clone(entry))
    }

    /// What is not a file is not remembered: names that do not exist are without number.
    fn forget(&self, path: &[u8], found: Found) -> Rc<Entry> {
        if let Some(old) = self.entries.borrow_mut().remove(path) {
            self.uncount(&old);
            // Its key, too: a file that comes and goes would leave one behind each time.
            self.clock.borrow_mut().retain(|key| **key != *path);
        }
        Rc::new(Entry {
            found,
            generation: self.generation,
            held: Vec::new(),
            seen: Vec::new(),
            fresh_until_ms: Cell::new(0),
            hot: Cell::new(false),
        })
    }

    fn insert(&self, path: &[u8], entry: &Rc<Entry>) {
        let (bytes, files) = entry.cost();
        if bytes > self.options.cache_bytes_max || files > self.files_max {
            self.forget(path, Found::Nothing);
            return;
        }
        let key: Rc<[u8]> = path.into();
        let mut entries = self.entries.borrow_mut();
        match entries.insert(Rc::clone(&key), Rc::clone(entry)) {
            Some(old) => self.uncount(&old),
            None => self.clock.borrow_mut().push_back(key),
        }
        self.bytes.set(self.bytes.get() + bytes);
        self.files.set(self.files.get() + files);
        drop(entries);
        self.evict();
    }

    /// Second chance: the hand passes over what was used since it last came by.
    fn evict(&self) {
        let (mut entries, mut clock) = (self.entries.borrow_mut(), self.clock.borrow_mut());
        while self.bytes.get() > self.options.cache_bytes_max || self.files.get() > self.files_max {
            let Some(key) = clock.pop_front() else { break };
            match entries.get(&key) {
                None => {}
                Some(entry) if entry.hot.take() => clock.push_back(key),
                Some(entry) => {
                    self.uncount(entry);
                    entries.remove(&key);
                }
            }
        }
    }

    fn uncount(&self, entry: &Entry) {
        let (bytes, files) = entry.cost();
        self.bytes.set(self.bytes.get() - bytes);
        self.files.set(self.files.get() - files);
    }
}

impl Entry {
    /// The representation of that coding, if it is here.
    pub(super) fn held(&self, coding: Option<Coding>) -> Option<&Held> {
        self.held.iter().find(|held| held.coding == coding)
    }

    fn has_changed(&self) -> bool {
        self.held.iter().any(Held::has_changed)
    }

    /// Bytes and open files that it holds.
    fn cost(&self) -> (usize, usize) {
        let own = ENTRY_BYTES + SIBLING_BYTES * self.held.len().saturating_sub(1);
        self.held.iter().fold((own, 0), |(bytes, files), held| match &held.content {
            Content::Memory(content) => (bytes + content.len(), files),
            Content::File(_) => (bytes, files + 1),
        })
    }
}

impl Held {
    /// A large file is open: whether it was written to is a cheap question (`fstat`, 0.2 us), and a wrong length costs a
    /// connection.
    fn has_changed(&self) -> bool {
        match &self.content {
            Content::File(file) => file.metadata().ok() != Some(self.metadata),
            Content::Memory(_) => false,
        }
    }
}

fn representations(
    site: &Site,
    path: &[u8],
    opened: &[(Option<Coding>, Metadata, File)],
    now_s: u64,
) -> Representations {
    let facts = |(coding, metadata, _): &(Option<Coding>, Metadata, File)| {
        FileFacts::coded(&stat(metadata), path, *coding, now_s)
    };
    Representations::new(opened.iter().map(facts).collect(), site.options.headers.lines(path))
}

async fn read_whole(file: &File, len: usize) -> io::Result<Vec<u8>> {
    let mut whole = Vec::with_capacity(len);
    while whole.len() < len {
        // The usual file comes in one read; what is left of an unusual one is read beside and appended.
        let room = if whole.is_empty() { std::mem::take(&mut whole) } else { Vec::with_capacity(len - whole.len()) };
        let offset = if room.capacity() == len { 0 } else { whole.len() as u64 };
        let (count, part) = file.read_at(room, offset).await;
        if count? == 0 {
            break;
        }
        if offset == 0 { whole = part } else { whole.extend_from_slice(&part) }
    }
    whole.truncate(len);
    Ok(whole)
}

fn nothing(error: &io::Error) -> Found {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::EXDEV | libc::ENAMETOOLONG) => Found::Nothing,
        _ => {
            tracing::debug!(%error, "a file cannot be opened");
            Found::Refused
        }
    }
}

fn stat(metadata: &Metadata) -> FileStat {
    FileStat {
        len: metadata.len,
        mtime_s: metadata.mtime.0,
        mtime_ns: metadata.mtime.1,
        ctime_s: metadata.ctime.0,
        ctime_ns: metadata.ctime.1,
        inode: metadata.inode,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each time a file had gone and come back, the clock kept one more key of it.
    #[test]
    fn a_file_that_comes_and_goes_leaves_nothing_behind() {
        // A thread has one runtime in its life, and a test may share its thread with others.
        std::thread::spawn(come_and_go).join().unwrap();
    }

    fn come_and_go() {
        let root = tempfile::tempdir().unwrap();
        let runtime = crate::rt::Builder::new().build().unwrap();
        let cache = FileCache::new(Dir::open(root.path()).unwrap(), root.path().into(), FileOptions::default(), 8, 0);
        let site = Site::default();
        for _ in 0..10 {
            std::fs::write(root.path().join("a"), "content").unwrap();
            let there = runtime.block_on(cache.learn(&site, b"a", 0, 0));
            assert!(matches!(there.found, Found::File(_)));
            std::fs::remove_file(root.path().join("a")).unwrap();
            let gone = runtime.block_on(cache.learn(&site, b"a", 0, 0));
            assert!(matches!(gone.found, Found::Nothing));
        }
        assert_eq!((cache.clock.borrow().len(), cache.entries.borrow().len(), cache.bytes.get()), (0, 0, 0));
    }
}
