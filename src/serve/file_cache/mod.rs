//! The files of one site on one core: what was found at each path, the hot small ones with their bytes. A file and its
//! compressed siblings are one entry: found by one look-up, fresh and stale together.
//!
//! The cache belongs to one root at one generation: a deploy makes a new one. Every directory that a cached path crosses is
//! watched, so that a change is known before the next request is answered; and because not every change is told
//! ([`crate::rt::fs::Watcher`]), what is known is looked at again every [`TOLD_MS`], or [`UNTOLD_MS`] where changes may
//! come unheard. A look costs one `openat2` and one `fstat` for the file and for each sibling.

mod entry;
mod read;
mod shelf;
#[cfg(test)]
mod tests;
mod trails;
mod watch;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::hash::BuildHasher;
use std::io;
use std::path::PathBuf;
use std::rc::{Rc, Weak};
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;

use crate::http::coding::Coding;
use crate::rt::fs::{self, Change, Dir, Event, File, Kind, Metadata};
use crate::rt::time::{self, Instant};
use crate::site::Site;
use crate::site::reply::whole_file_head;
use crate::site::representation::{self, Representations};
use crate::site::static_file::{FileFacts, Found};

pub(super) use entry::{Content, Entry, OpenFile};

use super::options::FileOptions;
use entry::{Held, Kept, Seen, Told, Trust, settles_in, stat};
use read::read_whole;
use shelf::{Place, Shelf};
use trails::{Name, Trail};
use watch::Watching;

/// How far what is cached may be behind the file system where the change was one of those that are not told.
const TOLD_MS: u64 = 1000;
/// The same where directories are not watched, or more can happen in them than is told.
const UNTOLD_MS: u64 = 100;
/// Looks at a file that is being changed; the last takes what is there.
const LOOKS_MAX: usize = 4;
/// Of the budget, two of these for each file that may be kept open.
const OPEN_FILE_BYTES: usize = 1024;

/// A handle: the task that hears of changes has another.
pub(super) struct FileCache(Rc<Cache>);

struct Cache {
    root: Dir,
    root_path: PathBuf,
    generation: u32,
    /// The task that hears of changes ends with the cache.
    end: Rc<End>,
    options: FileOptions,
    watching: Watching,
    store: RefCell<Store>,
    /// Tags for what must not be taken for the same again: how many there were, and what makes them unlike those of others.
    tags: Cell<u64>,
    random: std::hash::RandomState,
    this: Weak<Cache>,
}

/// What is kept.
struct Store {
    keys: HashMap<Rc<[u8]>, Key, foldhash::fast::RandomState>,
    /// Those whose bytes are here, by their bytes.
    in_memory: Shelf<Rc<Entry>>,
    /// Those that are kept open, by the number of their descriptors.
    open: Shelf<Rc<Entry>>,
    /// Bytes of those.
    open_bytes: usize,
    bytes_max: usize,
}

/// Where an entry is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    is_open: bool,
    place: Place,
}

impl FileCache {
    pub(super) fn new(
        root: Dir,
        root_path: PathBuf,
        options: FileOptions,
        files_max: usize,
        generation: u32,
    ) -> FileCache {
        let bytes_max = options.cache_bytes_max;
        let store = Store {
            keys: HashMap::default(),
            in_memory: Shelf::new(bytes_max),
            open: Shelf::new(files_max.min(bytes_max / (2 * OPEN_FILE_BYTES))),
            open_bytes: 0,
            bytes_max,
        };
        let cache = Rc::new_cyclic(|this| Cache {
            root,
            root_path,
            generation,
            end: Rc::default(),
            watching: Watching::new(options.watch && bytes_max > 0),
            options,
            store: store.into(),
            tags: Cell::new(0),
            random: std::hash::RandomState::new(),
            this: Weak::clone(this),
        });
        cache.listen();
        FileCache(cache)
    }

    /// The folder whose files these are.
    pub(super) fn root(&self) -> &Dir {
        &self.0.root
    }

    /// The folder, as it was configured.
    pub(super) fn root_path(&self) -> &std::path::Path {
        &self.0.root_path
    }

    /// What is known about a path, if it may still be trusted: whatever changed before the request was sent is known.
    pub(super) fn get(&self, path: &[u8], now_ms: u64) -> Option<Rc<Entry>> {
        if self.0.watching.has_news() {
            self.0.hear();
        }
        let store = self.0.store.borrow();
        let entry = store.get(*store.keys.get(path)?)?;
        match entry.trust.get() {
            Trust::Until(then) if now_ms < then => {}
            Trust::Until(_) => {
                // This request looks again; those that come meanwhile need not.
                entry.trust.set(Trust::Until(now_ms + UNTOLD_MS));
                return None;
            }
            Trust::Not => return None,
        }
        (!entry.has_changed()).then(|| Rc::clone(entry))
    }

    /// Looks at the file system, and remembers what is there. `site` is the one that this is the cache of.
    ///
    /// A file that has just changed is looked at again when it has been quiet for [`entry::SETTLED_AFTER`]; one that is
    /// not quiet for so long is given out as it is, under a tag that nothing else has, and not kept.
    pub(super) async fn learn(&self, site: &Site, path: &[u8], now_s: u64) -> Rc<Entry> {
        for _ in 1..LOOKS_MAX {
            match self.0.look(site, path, now_s, Patience::Some).await {
                Ok(entry) => return entry,
                Err(Unsettled(left)) => time::sleep(left).await,
            }
            // Somebody else may have found it out meanwhile.
            if let Some(entry) = self.get(path, Instant::now().as_millis()) {
                return entry;
            }
        }
        let looked = self.0.look(site, path, now_s, Patience::None).await;
        looked.unwrap_or_else(|Unsettled(_)| unreachable!("without patience, whatever is there is taken"))
    }
}

/// Whether a cache has gone; for its one listener. A root that is replaced must not stay watched.
#[derive(Default)]
struct End {
    has_come: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl End {
    async fn come(&self) {
        poll_fn(|context| {
            if self.has_come.get() {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.end.has_come.set(true);
        let waker = self.end.waker.borrow_mut().take();
        waker.into_iter().for_each(Waker::wake);
    }
}

/// Whether to wait for a file that is being changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    Some,
    None,
}

/// How long to wait before it makes sense to look again.
struct Unsettled(Duration);

/// What has been found at the name of a file, or of its sibling by a coding.
type Candidate = (Option<Coding>, fs::Found);

/// Where changes would be told, for a look-up under way.
struct Lookout<'c> {
    trails: Vec<Using<'c>>,
    names: Box<[Name]>,
    /// Before anything was looked up.
    moment: u64,
    /// Whether nothing can happen without being told.
    is_told_all: bool,
}

/// A trail that a look-up uses.
struct Using<'c> {
    cache: &'c Cache,
    trail: Rc<Trail<Key>>,
}

impl Cache {
    /// Hears of changes also while nobody asks for anything: what was deleted must not stay open.
    fn listen(self: &Rc<Self>) {
        let Some(watcher) = self.watching.watcher() else { return };
        let (cache, end) = (Rc::downgrade(self), Rc::clone(&self.end));
        crate::rt::spawn_detached(async move {
            loop {
                crate::rt::select2(watcher.changed(), end.come()).await;
                let Some(cache) = cache.upgrade().filter(|cache| cache.watching.watcher().is_some()) else { return };
                cache.hear();
            }
        });
    }

    async fn look(&self, site: &Site, path: &[u8], now_s: u64, patience: Patience) -> Result<Rc<Entry>, Unsettled> {
        let now_ms = Instant::now().as_millis();
        // A name that does not exist, in a folder that nothing is kept of, is not worth a watch.
        if !self.watching.knows(folder_of(path))
            && let Err(error) = self.root.find_itself(path).await
            && !is_for_want_of_room(&error)
        {
            return Ok(self.not_a_file(path, nothing(&error)));
        }
        let mut lookout = self.lookout(site, path).await;
        let found = match self.find(path, &mut lookout).await {
            Ok(found) => found,
            Err(error) if patience == Patience::Some && is_for_want_of_room(&error) => {
                return Err(Unsettled(entry::SETTLED_AFTER));
            }
            Err(error) => return Ok(self.not_a_file(path, nothing(&error))),
        };
        match found.metadata.kind {
            Kind::Directory => return Ok(self.not_a_file(path, Found::Directory)),
            Kind::Special | Kind::Symlink => return Ok(self.not_a_file(path, Found::Refused)),
            Kind::File => {}
        }
        let found = self.with_siblings(site, path, found, &mut lookout).await;
        let left = found.iter().filter_map(|(_, found)| settles_in(&found.metadata)).max();
        if let (Some(left), Patience::Some) = (left, patience) {
            return Err(Unsettled(left));
        }
        let seen: Vec<Seen> = found.iter().map(|(coding, found)| (*coding, found.metadata)).collect();
        if let Some(entry) = self.unchanged(path, &seen, &lookout, now_ms) {
            return Ok(entry);
        }
        let mut opened = Vec::with_capacity(found.len());
        for (coding, found) in found {
            match found.open() {
                Ok(file) => opened.push((coding, found.metadata, file)),
                Err(error) if coding.is_none() => return Ok(self.not_a_file(path, nothing(&error))),
                Err(error) => tracing::debug!(%error, "a compressed sibling cannot be opened"),
            }
        }
        let mut contents = Vec::with_capacity(opened.len());
        for (_, metadata, file) in &opened {
            contents.push(self.read(file, metadata).await);
        }
        let is_settled = left.is_none()
            && contents.iter().all(Result::is_ok)
            && opened.iter().all(|(_, metadata, file)| file.metadata().is_ok_and(|now| now == *metadata))
            && self.is_untouched(&lookout);
        if !is_settled && patience == Patience::Some {
            return Err(Unsettled(entry::SETTLED_AFTER));
        }
        // What nobody can be sure of is nobody else's: under a tag of its own it cannot be taken for anything.
        let salt = if is_settled { 0 } else { self.next_tag() };
        let file = representations(site, path, &opened, now_s, salt);
        let held = file.all().zip(opened).zip(contents).map(|((facts, (coding, metadata, file)), content)| {
            let mut head = Vec::new();
            whole_file_head(facts, &mut head);
            let content = match content {
                Ok(Some(bytes)) => Content::Memory(bytes),
                // Cut when it turns out that it is not what the head says.
                Ok(None) | Err(_) => Content::File(Rc::new(OpenFile::new(file, metadata, self.this.clone()))),
            };
            Held { coding, head: head.into(), content }
        });
        let held = held.collect();
        let entry = Entry { held, seen, ..Entry::passing(Found::File(file), self.generation) };
        if !is_settled {
            self.remove_at(path);
            return Ok(Rc::new(entry));
        }
        Ok(self.keep(path, entry, &lookout, now_ms))
    }

    /// From where changes to a file at that path, and to its siblings, are told from now on.
    async fn lookout(&self, site: &Site, path: &[u8]) -> Lookout<'_> {
        let folder = folder_of(path);
        let name = &path[folder.len()..];
        let trail = self.watching.trail(&self.root, folder, || self.hear()).await;
        let trails: Vec<_> = trail.into_iter().map(|trail| self.using(trail)).collect();
        let names = trails.first().map_or_else(Box::default, |using| {
            let siblings: Vec<Vec<u8>> = representation::siblings(site, path).map(|(_, path)| path).collect();
            let siblings = siblings.iter().map(|sibling| &sibling[folder.len()..]);
            self.watching.names(&using.trail, std::iter::once(name).chain(siblings))
        });
        let is_told_all = trails.first().is_some_and(|using| using.trail.is_told_all);
        let moment = self.watching.trails.borrow().moment();
        Lookout { trails, names, moment, is_told_all }
    }

    fn using(&self, trail: Rc<Trail<Key>>) -> Using<'_> {
        self.watching.trails.borrow().hold(&trail);
        Using { cache: self, trail }
    }

    /// The file; where its name is a link, the way that leads there is watched as well.
    async fn find<'c>(&'c self, path: &[u8], lookout: &mut Lookout<'c>) -> io::Result<fs::Found> {
        let found = self.root.find_itself(path).await?;
        if found.metadata.kind != Kind::Symlink {
            lookout.is_told_all &= found.metadata.links == 1;
            return Ok(found);
        }
        let trail = self.watching.trail(&self.root, path, || self.hear()).await;
        lookout.is_told_all &= trail.as_ref().is_some_and(|trail| trail.is_told_all);
        lookout.trails.extend(trail.map(|trail| self.using(trail)));
        let found = self.root.find(path).await?;
        lookout.is_told_all &= found.metadata.links == 1;
        Ok(found)
    }

    /// The file, and behind it its siblings that may stand for it.
    async fn with_siblings(
        &self,
        site: &Site,
        path: &[u8],
        file: fs::Found,
        lookout: &mut Lookout<'_>,
    ) -> Vec<Candidate> {
        let original = stat(&file.metadata);
        let mut all = vec![(None, file)];
        for (coding, path) in representation::siblings(site, path) {
            let Ok(mut found) = self.root.find_itself(&path).await else { continue };
            if found.metadata.kind == Kind::Symlink {
                // What happens where it leads is not told.
                lookout.is_told_all = false;
                let Ok(there) = self.root.find(&path).await else { continue };
                found = there;
            }
            lookout.is_told_all &= found.metadata.links == 1;
            if found.metadata.kind == Kind::File && representation::stands_for(&stat(&found.metadata), &original) {
                all.push((Some(coding), found));
            }
        }
        all
    }

    /// The bytes of a small file; `None` for a large one. An error: it has changed while it was read.
    async fn read(&self, file: &File, metadata: &Metadata) -> io::Result<Option<Bytes>> {
        let len = metadata.len as usize;
        if metadata.len > self.options.cached_file_bytes_max as u64 || len > self.options.cache_bytes_max {
            return Ok(None);
        }
        let bytes = read_whole(file, len).await?;
        let is_same = bytes.len() == len && file.metadata()? == *metadata;
        if is_same { Ok(Some(Bytes::from(bytes))) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Whether nothing was told since the lookout was taken.
    fn is_untouched(&self, lookout: &Lookout<'_>) -> bool {
        self.hear();
        lookout.trails.iter().all(|using| using.trail.holds())
            && self.watching.trails.borrow().is_untouched_since(lookout.moment, &lookout.names)
    }

    /// The entry that was there before, if it is still right.
    fn unchanged(&self, path: &[u8], seen: &[Seen], lookout: &Lookout<'_>, now_ms: u64) -> Option<Rc<Entry>> {
        if !self.is_untouched(lookout) {
            return None;
        }
        let store = self.store.borrow();
        let entry = store.get(*store.keys.get(path)?)?;
        let kept = entry.kept.as_ref()?;
        let is_same = entry.seen == seen
            && kept.trails.len() == lookout.trails.len()
            && kept.trails.iter().zip(&lookout.trails).all(|(old, new)| Rc::ptr_eq(old, &new.trail))
            && !entry.has_changed();
        is_same.then(|| {
            entry.trust.set(Trust::Until(now_ms + kept.trusted_ms));
            Rc::clone(entry)
        })
    }

    /// What is not a file is not remembered: names that do not exist are without number.
    fn not_a_file(&self, path: &[u8], found: Found) -> Rc<Entry> {
        self.remove_at(path);
        Rc::new(Entry::passing(found, self.generation))
    }

    fn keep(&self, path: &[u8], entry: Entry, lookout: &Lookout<'_>, now_ms: u64) -> Rc<Entry> {
        let trusted_ms = if lookout.is_told_all { TOLD_MS } else { UNTOLD_MS };
        let kept = Kept {
            path: path.into(),
            key: Cell::new(None),
            trails: lookout.trails.iter().map(|using| Rc::clone(&using.trail)).collect(),
            names: lookout.names.clone(),
            trusted_ms,
        };
        let trust = Cell::new(Trust::Until(now_ms + trusted_ms));
        let entry = Rc::new(Entry { trust, kept: Some(kept), ..entry });
        let gone = self.store.borrow_mut().insert(path, &entry);
        gone.iter().for_each(|gone| self.unhook(gone));
        if let Some(kept) = &entry.kept
            && let Some(key) = kept.key.get()
            && let Some((first, more)) = kept.trails.split_first()
        {
            let mut trails = self.watching.trails.borrow_mut();
            trails.keep(first, &kept.names, key);
            more.iter().for_each(|trail| trails.keep(trail, &[], key));
            let told = if lookout.is_told_all { Told::All } else { Told::Names };
            entry.open_files().for_each(|file| file.set_told(told));
        }
        entry
    }

    fn remove_at(&self, path: &[u8]) {
        let gone = self.store.borrow_mut().remove_at(path);
        gone.iter().for_each(|gone| self.unhook(gone));
    }

    /// An entry is not kept any more: it is in no book.
    fn unhook(&self, entry: &Entry) {
        let Some(kept) = &entry.kept else { return };
        let Some(key) = kept.key.take() else { return };
        let Some((first, more)) = kept.trails.split_first() else { return };
        entry.open_files().for_each(|file| file.set_told(Told::Nothing));
        let mut trails = self.watching.trails.borrow_mut();
        trails.forget(first, &kept.names, key);
        more.iter().for_each(|trail| trails.forget(trail, &[], key));
        drop(trails);
        kept.trails.iter().for_each(|trail| self.watching.tidy(trail));
    }

    /// Takes note of everything that has happened up to now.
    fn hear(&self) {
        if !self.watching.read(|event| self.heard(event)) {
            self.clear();
        }
    }

    fn heard(&self, event: Event<'_>) {
        match event {
            Event::Name { watch, name, change } => {
                let mut trails = self.watching.trails.borrow_mut();
                let name = trails.name(watch, name);
                let (kept, crossing) = trails.changed(name);
                drop(trails);
                kept.into_iter().for_each(|key| self.entry_changed(key, change));
                crossing.iter().for_each(|trail| self.trail_changed(trail, change));
            }
            Event::Attributes(watch) | Event::Ended(watch) => {
                let through = self.watching.trails.borrow().through(watch);
                through.iter().for_each(|trail| self.trail_changed(trail, Change::Left));
            }
            Event::Overflow => self.clear(),
        }
    }

    fn entry_changed(&self, key: Key, change: Change) {
        let Some(entry) = self.store.borrow().peek(key).cloned() else { return };
        entry.open_files().for_each(|file| file.told(change));
        // What is open and deleted would keep its blocks on the disk.
        let is_open = entry.open_files().next().is_some();
        match &entry.kept {
            Some(kept) if is_open || change == Change::Left => self.remove_at(&kept.path),
            _ => entry.trust.set(Trust::Not),
        }
    }

    /// All that was found through it has to be found anew.
    fn trail_changed(&self, trail: &Rc<Trail<Key>>, change: Change) {
        for key in self.watching.remove(trail) {
            let Some(entry) = self.store.borrow().peek(key).cloned() else { continue };
            entry.open_files().for_each(|file| file.told(change));
            entry.kept.iter().for_each(|kept| self.remove_at(&kept.path));
        }
    }

    /// Events were lost, so anything may have happened.
    fn clear(&self) {
        let paths: Vec<Rc<[u8]>> = self.store.borrow().keys.keys().cloned().collect();
        tracing::debug!(entries = paths.len(), "changes were lost; the cache starts anew");
        paths.iter().for_each(|path| self.remove_at(path));
        let trails = self.watching.trails.borrow().all();
        trails.iter().for_each(|trail| drop(self.watching.remove(trail)));
    }

    /// A number that no tag was made of before.
    fn next_tag(&self) -> u64 {
        self.tags.set(self.tags.get() + 1);
        self.random.hash_one(self.tags.get())
    }
}

impl Store {
    fn get(&self, key: Key) -> Option<&Rc<Entry>> {
        if key.is_open { self.open.get(key.place) } else { self.in_memory.get(key.place) }
    }

    fn peek(&self, key: Key) -> Option<&Rc<Entry>> {
        if key.is_open { self.open.peek(key.place) } else { self.in_memory.peek(key.place) }
    }

    /// Puts an entry at a path, and tells it where it is. What had to go, which may be the entry itself.
    fn insert(&mut self, path: &[u8], entry: &Rc<Entry>) -> Vec<Rc<Entry>> {
        let Some(kept) = &entry.kept else { return Vec::new() };
        let files = entry.open_files().count();
        let is_open = files > 0;
        let cost = if is_open { files } else { entry.bytes() };
        let mut gone = Vec::new();
        let before = self.keys.get(path).copied();
        let place = match before.filter(|key| key.is_open == is_open) {
            // As hot as it was.
            Some(key) => {
                let old = self.shelf(is_open).replace(key.place, cost, Rc::clone(entry));
                old.iter().for_each(|old| self.uncount(old));
                gone.extend(old);
                Some(key.place)
            }
            None => {
                gone.extend(self.remove_at(path));
                let hash = self.keys.hasher().hash_one(path);
                self.shelf(is_open).insert(hash, cost, Rc::clone(entry))
            }
        };
        let Some(place) = place else { return gone };
        let key = Key { is_open, place };
        kept.key.set(Some(key));
        self.keys.insert(Rc::clone(&kept.path), key);
        self.open_bytes += if is_open { entry.bytes() } else { 0 };
        self.make_room(&mut gone);
        gone
    }

    fn make_room(&mut self, gone: &mut Vec<Rc<Entry>>) {
        loop {
            self.in_memory.set_budget(self.bytes_max.saturating_sub(self.open_bytes));
            let Some(entry) = self.open.make_room().or_else(|| self.in_memory.make_room()) else { return };
            self.uncount(&entry);
            if let Some(kept) = &entry.kept {
                self.keys.remove(&kept.path);
            }
            gone.push(entry);
        }
    }

    fn remove_at(&mut self, path: &[u8]) -> Option<Rc<Entry>> {
        let key = self.keys.remove(path)?;
        let entry = self.shelf(key.is_open).remove(key.place)?;
        self.uncount(&entry);
        Some(entry)
    }

    fn shelf(&mut self, is_open: bool) -> &mut Shelf<Rc<Entry>> {
        if is_open { &mut self.open } else { &mut self.in_memory }
    }

    fn uncount(&mut self, gone: &Entry) {
        if gone.open_files().next().is_some() {
            self.open_bytes -= gone.bytes();
        }
    }
}

impl Drop for Using<'_> {
    fn drop(&mut self) {
        self.cache.watching.trails.borrow().release(&self.trail);
        self.cache.watching.tidy(&self.trail);
    }
}

/// A path up to its last slash.
fn folder_of(path: &[u8]) -> &[u8] {
    &path[..path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1)]
}

fn representations(
    site: &Site,
    path: &[u8],
    opened: &[(Option<Coding>, Metadata, File)],
    now_s: u64,
    salt: u64,
) -> Representations {
    let facts = |(coding, metadata, _): &(Option<Coding>, Metadata, File)| {
        let mut stat = stat(metadata);
        stat.inode ^= salt;
        FileFacts::coded(&stat, path, *coding, now_s)
    };
    Representations::new(opened.iter().map(facts).collect(), site.options.headers.lines(path))
}

/// Many look-ups at once may need more descriptors than there are; those that come first leave theirs to the others.
fn is_for_want_of_room(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM))
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
