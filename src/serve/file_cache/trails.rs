//! Which look-ups crossed what: the books behind "a change drops what it concerns, and nothing else". No calls.

use std::cell::{Cell, RefCell};
use std::collections::hash_map::Entry as Slot;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, Hash};
use std::rc::Rc;

use crate::rt::fs::Watch;

/// Names that changed lately, for the look-ups that were under way then.
const RECENT_MAX: usize = 1024;

/// A name in a watched directory, as a hash: where two are the same, a change is one look-up too many and no mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Name(u64);

/// How a path of directories was resolved: from the root down, through links, to the directory in which files are then
/// looked up. Or how a link to a file was.
pub(super) struct Trail<K> {
    path: Box<[u8]>,
    /// Every name that was looked up on the way.
    crossed: Box<[Name]>,
    /// Every directory in which one was, and the one that it ends in.
    watches: Box<[Watch]>,
    /// Nothing happens in these directories that is not told.
    pub(super) is_told_all: bool,
    holds: Cell<bool>,
    /// Look-ups that are using it.
    users: Cell<u32>,
    /// What was found at the end of it, and is kept.
    kept: RefCell<HashSet<K>>,
}

impl<K> Trail<K> {
    /// The directory that it ends in.
    pub(super) fn end(&self) -> Watch {
        self.watches[self.watches.len() - 1]
    }

    /// Whether nothing that it crossed has changed.
    pub(super) fn holds(&self) -> bool {
        self.holds.get()
    }
}

/// All trails, and what is kept at their ends by its key.
pub(super) struct Trails<K> {
    by_path: HashMap<Box<[u8]>, Rc<Trail<K>>>,
    by_name: HashMap<Name, Vec<Rc<Trail<K>>>>,
    by_watch: HashMap<Watch, Vec<Rc<Trail<K>>>>,
    kept: HashMap<Name, Few<K>>,
    recent: VecDeque<Name>,
    /// How many names went out of `recent`.
    past: u64,
    hasher: foldhash::fast::RandomState,
}

/// Mostly one.
enum Few<K> {
    One(K),
    More(Vec<K>),
}

impl<K: Copy + Eq + Hash> Trails<K> {
    pub(super) fn new() -> Trails<K> {
        Trails {
            by_path: HashMap::new(),
            by_name: HashMap::new(),
            by_watch: HashMap::new(),
            kept: HashMap::new(),
            recent: VecDeque::new(),
            past: 0,
            hasher: foldhash::fast::RandomState::default(),
        }
    }

    /// Directories that are watched for some trail.
    pub(super) fn watches(&self) -> usize {
        self.by_watch.len()
    }

    pub(super) fn all(&self) -> Vec<Rc<Trail<K>>> {
        self.by_path.values().cloned().collect()
    }

    pub(super) fn all_watches(&self) -> impl Iterator<Item = Watch> {
        self.by_watch.keys().copied()
    }

    pub(super) fn is_used(&self, watch: Watch) -> bool {
        self.by_watch.contains_key(&watch)
    }

    pub(super) fn name(&self, watch: Watch, name: &[u8]) -> Name {
        Name(self.hasher.hash_one((watch, name)))
    }

    pub(super) fn get(&self, path: &[u8]) -> Option<Rc<Trail<K>>> {
        self.by_path.get(path).map(Rc::clone)
    }

    /// Adds a trail; one that has been added by somebody else meanwhile is handed back instead.
    pub(super) fn add(&mut self, path: &[u8], found: Found) -> Rc<Trail<K>> {
        let slot = match self.by_path.entry(path.into()) {
            Slot::Occupied(there) => return Rc::clone(there.get()),
            Slot::Vacant(slot) => slot,
        };
        let Found { mut crossed, mut watches, is_told_all } = found;
        crossed.sort_unstable_by_key(|name| name.0);
        crossed.dedup();
        let end = watches.pop();
        watches.retain(|watch| Some(*watch) != end);
        watches.sort_unstable();
        watches.dedup();
        watches.extend(end);
        let trail = Rc::new(Trail {
            path: path.into(),
            crossed: crossed.into(),
            watches: watches.into(),
            is_told_all,
            holds: Cell::new(true),
            users: Cell::new(0),
            kept: RefCell::default(),
        });
        slot.insert(Rc::clone(&trail));
        for name in &trail.crossed {
            self.by_name.entry(*name).or_default().push(Rc::clone(&trail));
        }
        for watch in &trail.watches {
            self.by_watch.entry(*watch).or_default().push(Rc::clone(&trail));
        }
        trail
    }

    /// Keeps something that was found at the end of a trail, by these names.
    pub(super) fn keep(&mut self, trail: &Trail<K>, names: &[Name], key: K) {
        trail.kept.borrow_mut().insert(key);
        for name in names {
            match self.kept.entry(*name) {
                Slot::Vacant(slot) => drop(slot.insert(Few::One(key))),
                Slot::Occupied(mut few) => few.get_mut().add(key),
            }
        }
    }

    /// The opposite of [`keep`](Self::keep).
    pub(super) fn forget(&mut self, trail: &Trail<K>, names: &[Name], key: K) {
        trail.kept.borrow_mut().remove(&key);
        for name in names {
            if let Slot::Occupied(mut few) = self.kept.entry(*name)
                && few.get_mut().remove(key)
            {
                few.remove();
            }
        }
    }

    /// A look-up uses a trail: it stays, though nothing is kept at its end.
    pub(super) fn hold(&self, trail: &Trail<K>) {
        trail.users.set(trail.users.get() + 1);
    }

    /// The opposite of [`hold`](Self::hold).
    pub(super) fn release(&self, trail: &Trail<K>) {
        trail.users.set(trail.users.get() - 1);
    }

    /// Takes a trail away that nobody uses and that leads to nothing which is kept. These watches are then of no use.
    pub(super) fn tidy(&mut self, trail: &Rc<Trail<K>>) -> Vec<Watch> {
        let is_idle = trail.users.get() == 0 && trail.kept.borrow().is_empty();
        if is_idle && trail.holds.get() { self.remove(trail) } else { Vec::new() }
    }

    /// Something has happened to a name: what is kept by it, and the trails that crossed it.
    pub(super) fn changed(&mut self, name: Name) -> (Vec<K>, Vec<Rc<Trail<K>>>) {
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
            self.past += 1;
        }
        self.recent.push_back(name);
        let kept = self.kept.get(&name).map(|few| few.as_slice().to_vec()).unwrap_or_default();
        (kept, self.by_name.get(&name).cloned().unwrap_or_default())
    }

    /// The trails that cross a directory, or end there.
    pub(super) fn through(&self, watch: Watch) -> Vec<Rc<Trail<K>>> {
        self.by_watch.get(&watch).cloned().unwrap_or_default()
    }

    /// A trail leads somewhere else by now. What was kept at its end, and the watches that are of no use any more.
    pub(super) fn remove(&mut self, trail: &Rc<Trail<K>>) -> Vec<Watch> {
        if !trail.holds.replace(false) {
            return Vec::new();
        }
        self.by_path.remove(&trail.path);
        for name in &trail.crossed {
            remove_from(&mut self.by_name, name, trail);
        }
        let gone = trail.watches.iter().filter(|watch| remove_from(&mut self.by_watch, watch, trail));
        gone.copied().collect()
    }

    /// What is kept at the end of a trail.
    pub(super) fn kept_at(&self, trail: &Trail<K>) -> Vec<K> {
        trail.kept.borrow().iter().copied().collect()
    }

    /// A moment, for [`is_untouched_since`](Self::is_untouched_since).
    pub(super) fn moment(&self) -> u64 {
        self.past + self.recent.len() as u64
    }

    /// Whether nothing has happened to these names since then, as far as that is remembered.
    pub(super) fn is_untouched_since(&self, moment: u64, names: &[Name]) -> bool {
        let Some(known) = moment.checked_sub(self.past) else { return false };
        !self.recent.iter().skip(known as usize).any(|name| names.contains(name))
    }
}

/// What a walk has found.
pub(super) struct Found {
    pub(super) crossed: Vec<Name>,
    /// In order; the last is where it ends.
    pub(super) watches: Vec<Watch>,
    pub(super) is_told_all: bool,
}

/// Whether it was the last there.
fn remove_from<N: Copy + Eq + Hash, K>(map: &mut HashMap<N, Vec<Rc<Trail<K>>>>, at: &N, trail: &Rc<Trail<K>>) -> bool {
    let Some(all) = map.get_mut(at) else { return false };
    if let Some(index) = all.iter().position(|other| Rc::ptr_eq(other, trail)) {
        all.swap_remove(index);
    }
    let is_last = all.is_empty();
    if is_last {
        map.remove(at);
    }
    is_last
}

impl<K: Copy + Eq> Few<K> {
    fn as_slice(&self) -> &[K] {
        match self {
            Few::One(one) => std::slice::from_ref(one),
            Few::More(more) => more,
        }
    }

    fn add(&mut self, key: K) {
        match self {
            Few::One(one) if *one == key => {}
            Few::One(one) => *self = Few::More(vec![*one, key]),
            Few::More(more) if more.contains(&key) => {}
            Few::More(more) => more.push(key),
        }
    }

    /// Whether nothing is left.
    fn remove(&mut self, key: K) -> bool {
        match self {
            Few::One(one) => *one == key,
            Few::More(more) => {
                more.retain(|other| *other != key);
                more.is_empty()
            }
        }
    }
}
