//! Finding out which directories a path crosses, and being told of what happens in them.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Once;

use crate::rt::fs::{Dir, Event, Kind, Watch, Watcher};

use super::Key;
use super::trails::{Found, Name, Trail, Trails};

/// Directories that a core watches; the files of others are looked at again every [`super::UNTOLD_MS`]. The kernel holds
/// about a kilobyte for each, and may allow a user no more than `fs.inotify.max_user_watches`.
const WATCHES_MAX: usize = 8192;
/// Links in one path, as the kernel counts them (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// File systems on which nothing happens but through this kernel, and inotify hears of it all: `f_type` of statfs(2).
/// Not overlayfs, whose layers can change beneath it, and none that another machine or a program serves.
const TOLD_ALL: [(i64, &str); 11] = [
    (0xEF53, "ext2, ext3, ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683E, "btrfs"),
    (0x0102_1994, "tmpfs"),
    (0x8584_58F6, "ramfs"),
    (0xF2F5_2010, "f2fs"),
    (0xCA45_1A4E, "bcachefs"),
    (0x2FC1_2FC1, "zfs"),
    (0x7371_7368, "squashfs"),
    (0xE0F5_E1E2, "erofs"),
    (0x9660, "iso9660"),
];

/// The eyes of one cache.
pub(super) struct Watching {
    /// `None`: it is switched off, or cannot be.
    watcher: RefCell<Option<Rc<Watcher>>>,
    pub(super) trails: RefCell<Trails<Key>>,
    /// Walks under way: what they watch is in no trail yet.
    walks: Cell<usize>,
    /// Perhaps not needed any more.
    strays: RefCell<Vec<Watch>>,
}

impl Watching {
    pub(super) fn new(is_wanted: bool) -> Watching {
        let watcher = match is_wanted.then(Watcher::new) {
            None => None,
            Some(Ok(watcher)) => Some(Rc::new(watcher)),
            Some(Err(error)) => {
                tell(&error);
                None
            }
        };
        Watching {
            watcher: watcher.into(),
            trails: Trails::new().into(),
            walks: Cell::new(0),
            strays: RefCell::default(),
        }
    }

    pub(super) fn watcher(&self) -> Option<Rc<Watcher>> {
        self.watcher.borrow().clone()
    }

    /// Whether the trail of a path need not be walked, or cannot be.
    pub(super) fn knows(&self, path: &[u8]) -> bool {
        self.watcher.borrow().is_none() || self.trails.borrow().get(path).is_some()
    }

    /// Whether something has happened that [`read`](Self::read) would tell. No call, no allocation.
    pub(super) fn has_news(&self) -> bool {
        self.watcher.borrow().as_ref().is_some_and(|watcher| watcher.has_news())
    }

    /// All that has happened up to now. False: it cannot be known any more.
    pub(super) fn read(&self, each: impl FnMut(Event<'_>)) -> bool {
        let Some(watcher) = self.watcher() else { return true };
        let Err(error) = watcher.read(each) else { return true };
        tracing::warn!(%error, "changes of files are not told any more; they are looked at every 100 ms instead");
        self.watcher.take();
        false
    }

    /// The trail of a path, walked if it is new; then `hear` is called, so that what has happened meanwhile is known. `None`
    /// where not all of it can be watched.
    pub(super) async fn trail(&self, root: &Dir, path: &[u8], hear: impl Fn()) -> Option<Rc<Trail<Key>>> {
        if let Some(trail) = self.trails.borrow().get(path) {
            return Some(trail);
        }
        let watcher = self.watcher()?;
        let walk = Walk::start(self);
        let moment = self.trails.borrow().moment();
        let mut found = Found { crossed: Vec::new(), watches: Vec::new(), is_told_all: true };
        let walked = self.walk(&watcher, root, path, &mut found).await;
        if let Err(error) = walked {
            tell(&error);
            return None;
        }
        hear();
        let mut trails = self.trails.borrow_mut();
        let holds = trails.is_untouched_since(moment, &found.crossed);
        let trail = holds.then(|| trails.add(path, found));
        drop(trails);
        drop(walk);
        trail
    }

    /// As the kernel would walk there: what it passes through is watched before it is looked into.
    async fn walk(&self, watcher: &Watcher, root: &Dir, path: &[u8], found: &mut Found) -> io::Result<()> {
        let mut ahead: Vec<Vec<u8>> = components(path).collect();
        let mut stack: Vec<(Option<Dir>, Watch)> = vec![(None, self.watch(watcher, root, found)?)];
        let mut links = 0;
        while let Some(name) = ahead.pop() {
            let Some((dir, watch)) = stack.last() else { return Err(io::ErrorKind::NotFound.into()) };
            if name == b".." {
                stack.pop();
                found.watches.extend(stack.last().map(|(_, watch)| watch));
                continue;
            }
            found.crossed.push(self.trails.borrow().name(*watch, &name));
            let there = dir.as_ref().unwrap_or(root).find_itself(&name).await?;
            match there.metadata.kind {
                Kind::Directory => {
                    let dir = there.into_dir()?;
                    let watch = self.watch(watcher, &dir, found)?;
                    stack.push((Some(dir), watch));
                }
                Kind::Symlink => {
                    links += 1;
                    let target = there.link_target()?;
                    if links > LINKS_MAX || target.starts_with(b"/") {
                        return Err(io::ErrorKind::NotFound.into());
                    }
                    ahead.extend(components(&target));
                }
                Kind::File | Kind::Special if ahead.is_empty() => return Ok(()),
                Kind::File | Kind::Special => return Err(io::ErrorKind::NotFound.into()),
            }
        }
        Ok(())
    }

    fn watch(&self, watcher: &Watcher, dir: &Dir, found: &mut Found) -> io::Result<Watch> {
        if self.trails.borrow().watches() >= WATCHES_MAX {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let watch = watcher.add(dir)?;
        found.is_told_all &= dir.file_system().is_ok_and(|kind| TOLD_ALL.iter().any(|(told, _)| *told == kind));
        found.watches.push(watch);
        // Until the walk has come to an end, which may be that its future is dropped.
        self.strays.borrow_mut().push(watch);
        Ok(watch)
    }

    /// What was found at the end of a trail is gone, or was not kept.
    pub(super) fn tidy(&self, trail: &Rc<Trail<Key>>) {
        let unused = self.trails.borrow_mut().tidy(trail);
        self.end(unused);
    }

    /// A trail leads somewhere else by now. What was kept at its end.
    pub(super) fn remove(&self, trail: &Rc<Trail<Key>>) -> Vec<Key> {
        let mut trails = self.trails.borrow_mut();
        let (kept, unused) = (trails.kept_at(trail), trails.remove(trail));
        drop(trails);
        self.end(unused);
        kept
    }

    fn end(&self, unused: Vec<Watch>) {
        self.strays.borrow_mut().extend(unused);
        self.end_strays();
    }

    /// Not while somebody walks: the same directory has the same watch, and he may have found it, too.
    fn end_strays(&self) {
        if self.walks.get() > 0 {
            return;
        }
        let strays = self.strays.take();
        let Some(watcher) = self.watcher() else { return };
        let trails = self.trails.borrow();
        strays.into_iter().filter(|watch| !trails.is_used(*watch)).for_each(|watch| watcher.remove(watch));
    }

    /// The names of files in the directory that a trail ends in.
    pub(super) fn names<'n>(&self, trail: &Trail<Key>, names: impl Iterator<Item = &'n [u8]>) -> Box<[Name]> {
        let trails = self.trails.borrow();
        names.map(|name| trails.name(trail.end(), name)).collect()
    }
}

impl Drop for Watching {
    /// Whoever waits for changes is told that there will be none.
    fn drop(&mut self) {
        if let Some(watcher) = self.watcher.take() {
            self.trails.borrow().all_watches().for_each(|watch| watcher.remove(watch));
        }
    }
}

/// Counts a walk for as long as it goes on, also where its future is dropped.
struct Walk<'w>(&'w Watching);

impl<'w> Walk<'w> {
    fn start(watching: &'w Watching) -> Walk<'w> {
        watching.walks.set(watching.walks.get() + 1);
        Walk(watching)
    }
}

impl Drop for Walk<'_> {
    fn drop(&mut self) {
        self.0.walks.set(self.0.walks.get() - 1);
        self.0.end_strays();
    }
}

/// The components of a path, the last one first.
fn components(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let parts = path.split(|byte| *byte == b'/').rev();
    parts.filter(|part| !part.is_empty() && *part != b".").map(<[u8]>::to_vec)
}

/// Says why not everything is watched: once for the process, where an operator can do something about it.
fn tell(error: &io::Error) {
    static TOLD: Once = Once::new();
    let why = match error.raw_os_error() {
        Some(libc::EMFILE) => {
            "this user has no inotify instance left: fs.inotify.max_user_instances, or too few descriptors (ulimit -n)"
        }
        Some(libc::ENOSPC) => "this user has no inotify watch left: fs.inotify.max_user_watches",
        _ if error.kind() == io::ErrorKind::QuotaExceeded => {
            "8,192 directories are watched on this core, which is the limit"
        }
        // A directory that may be entered but not read, or one that has just gone.
        _ => return tracing::debug!(%error, "a directory is not watched"),
    };
    TOLD.call_once(|| {
        tracing::warn!("{why}; files of folders that are not watched are looked at every 100 ms instead")
    });
}
