//! The files of one site on one core: what was found at each path, the hot small ones with their bytes.
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

use crate::rt::fs::{Dir, File, Kind, Metadata};
use crate::site::reply::whole_file_head;
use crate::site::static_file::{FileFacts, FileStat, Found};

use super::options::FileOptions;

mod shelf;

/// How long an answer from the cache may be behind the file system.
const FRESH_MS: u64 = 100;
/// What an entry costs besides its bytes: key, facts, prebuilt head and bookkeeping.
const ENTRY_BYTES: usize = 1024;

/// What is known about a path.
pub(super) struct Entry {
    pub(super) found: Found,
    /// The head of a plain 200, but for Date and Connection.
    pub(super) head: Box<[u8]>,
    pub(super) content: Content,
    identity: Option<Metadata>,
    fresh_until_ms: Cell<u64>,
    /// Used since the clock hand last passed.
    hot: Cell<bool>,
}

/// Where the bytes of a file are.
pub(super) enum Content {
    /// Nothing was found, or it has no bytes to give.
    None,
    /// Here.
    Memory(Bytes),
    /// In the kernel's page cache, or on the disk.
    File(Rc<File>),
}

pub(super) struct FileCache {
    root: Dir,
    pub(super) root_path: PathBuf,
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
    pub(super) fn new(root: Dir, root_path: PathBuf, options: FileOptions, files_max: usize) -> FileCache {
        FileCache {
            root,
            root_path,
            options,
            files_max,
            entries: RefCell::default(),
            clock: RefCell::default(),
            bytes: Cell::new(0),
            files: Cell::new(0),
        }
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

    /// Looks at the file system, and remembers what is there.
    pub(super) async fn learn(&self, path: &[u8], now_ms: u64, now_s: u64) -> Rc<Entry> {
        let found = match self.root.find(path).await {
            Ok(found) => found,
            Err(error) => return self.forget(path, nothing(&error)),
        };
        match found.metadata.kind {
            Kind::Directory => return self.forget(path, Found::Directory),
            Kind::Special => return self.forget(path, Found::Refused),
            Kind::File => {}
        }
        if let Some(entry) = self.unchanged(path, &found.metadata, now_ms) {
            return entry;
        }
        let file = match found.open() {
            Ok(file) => file,
            Err(error) => return self.forget(path, nothing(&error)),
        };
        let metadata = found.metadata;
        drop(found);
        let facts = FileFacts::new(&stat(&metadata), path, now_s);
        let mut head = Vec::new();
        whole_file_head(&facts, &mut head);
        let content = self.content(file, &metadata).await;
        let entry = Rc::new(Entry {
            found: Found::File(facts),
            head: head.into(),
            content,
            identity: Some(metadata),
            fresh_until_ms: Cell::new(now_ms + FRESH_MS),
            hot: Cell::new(true),
        });
        self.insert(path, &entry);
        entry
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

    fn unchanged(&self, path: &[u8], metadata: &Metadata, now_ms: u64) -> Option<Rc<Entry>> {
        let entries = self.entries.borrow();
        let entry = entries.get(path).filter(|entry| entry.identity.as_ref() == Some(metadata))?;
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
            head: Box::default(),
            content: Content::None,
            identity: None,
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
    /// A large file is open: whether it was written to is a cheap question (`fstat`, 0.2 us), and a wrong length costs a
    /// connection.
    fn has_changed(&self) -> bool {
        match &self.content {
            Content::File(file) => file.metadata().ok() != self.identity,
            Content::None | Content::Memory(_) => false,
        }
    }

    /// Bytes and open files that it holds.
    fn cost(&self) -> (usize, usize) {
        match &self.content {
            Content::None => (ENTRY_BYTES, 0),
            Content::Memory(bytes) => (ENTRY_BYTES + bytes.len(), 0),
            Content::File(_) => (ENTRY_BYTES, 1),
        }
    }
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
        let cache = FileCache::new(Dir::open(root.path()).unwrap(), root.path().into(), FileOptions::default(), 8);
        for _ in 0..10 {
            std::fs::write(root.path().join("a"), "content").unwrap();
            let there = runtime.block_on(cache.learn(b"a", 0, 0));
            assert!(matches!(there.found, Found::File(_)));
            std::fs::remove_file(root.path().join("a")).unwrap();
            let gone = runtime.block_on(cache.learn(b"a", 0, 0));
            assert!(matches!(gone.found, Found::Nothing));
        }
        assert_eq!((cache.clock.borrow().len(), cache.entries.borrow().len(), cache.bytes.get()), (0, 0, 0));
    }
}
