//! What stays when not all fits, so that one crawl over everything does not push out what people ask for. Pure: values,
//! costs and hashes; no clock.
//!
//! S3-FIFO (Yang and others, "FIFO queues are all you need for cache eviction", SOSP 2023): what comes for the first time
//! waits in a small queue, a tenth of the budget. What is used there more than once moves on to the main queue; the rest
//! is forgotten but for its hash, and whoever comes back while that is remembered goes to the main queue at once. Each
//! value has two bits of use and a second chance for each use. A hit writes one counter; every value is moved a bounded
//! number of times for each time it was used.

use std::cell::Cell;

/// Of the budget, for what has not been asked for twice: enough for a burst, small enough that a crawl costs little.
const NEWCOMERS_SHARE: usize = 10;
/// More uses than this are not told apart.
const USES_MAX: u8 = 3;
/// A newcomer that was used more often than this stays.
const USES_OF_A_VISITOR: u8 = 1;
/// Hashes of forgotten newcomers, four bytes each; one that comes later may take the place of one before.
const GHOSTS: usize = 1 << 14;
const NONE: u32 = u32::MAX;

/// Values up to a total cost.
pub(super) struct Shelf<T> {
    nodes: Vec<Node<T>>,
    free: u32,
    newcomers: Queue,
    regulars: Queue,
    /// Empty until something is forgotten.
    ghosts: Vec<u32>,
    budget: usize,
}

/// Where a value is. It is given to another after the value has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place(u32);

struct Node<T> {
    value: Option<T>,
    hash: u64,
    cost: usize,
    uses: Cell<u8>,
    is_regular: bool,
    /// Towards the older end; of a free node, the next free one.
    older: u32,
    newer: u32,
}

struct Queue {
    oldest: u32,
    newest: u32,
    cost: usize,
}

impl<T> Shelf<T> {
    pub(super) fn new(budget: usize) -> Shelf<T> {
        Shelf {
            nodes: Vec::new(),
            free: NONE,
            newcomers: Queue::EMPTY,
            regulars: Queue::EMPTY,
            ghosts: Vec::new(),
            budget,
        }
    }

    /// What all values cost together.
    pub(super) fn cost(&self) -> usize {
        self.newcomers.cost + self.regulars.cost
    }

    /// A value, which counts as one use of it.
    pub(super) fn get(&self, place: Place) -> Option<&T> {
        let node = self.nodes.get(place.0 as usize)?;
        node.uses.set((node.uses.get() + 1).min(USES_MAX));
        node.value.as_ref()
    }

    /// A value, without counting.
    pub(super) fn peek(&self, place: Place) -> Option<&T> {
        self.nodes.get(place.0 as usize)?.value.as_ref()
    }

    /// Takes a value in. `None`: it costs more than there is. Call [`make_room`](Self::make_room) next; what goes may be
    /// this one.
    pub(super) fn insert(&mut self, hash: u64, cost: usize, value: T) -> Option<Place> {
        if cost > self.budget {
            return None;
        }
        let is_regular = self.was_forgotten(hash);
        let at = self.take_free();
        let node = &mut self.nodes[at as usize];
        *node = Node { value: Some(value), hash, cost, uses: Cell::new(0), is_regular, older: NONE, newer: NONE };
        self.link(at);
        Some(Place(at))
    }

    /// Another value in the same place, with the uses of the one before, which is handed back.
    pub(super) fn replace(&mut self, place: Place, cost: usize, value: T) -> Option<T> {
        let node = self.nodes.get_mut(place.0 as usize)?;
        let (old, is_regular) = (node.value.replace(value)?, node.is_regular);
        let before = std::mem::replace(&mut node.cost, cost);
        let queue = if is_regular { &mut self.regulars } else { &mut self.newcomers };
        queue.cost = queue.cost - before + cost;
        Some(old)
    }

    pub(super) fn remove(&mut self, place: Place) -> Option<T> {
        let value = self.nodes.get_mut(place.0 as usize)?.value.take()?;
        self.unlink(place.0);
        self.nodes[place.0 as usize].older = std::mem::replace(&mut self.free, place.0);
        Some(value)
    }

    /// Changes the budget; what it costs now may be more.
    pub(super) fn set_budget(&mut self, budget: usize) {
        self.budget = budget;
    }

    /// Lets one value go, if all together cost more than there is.
    pub(super) fn make_room(&mut self) -> Option<T> {
        while self.cost() > self.budget {
            let from_newcomers = self.newcomers.cost > self.budget / NEWCOMERS_SHARE || self.regulars.is_empty();
            let gone = if from_newcomers { self.pass_newcomer() } else { self.pass_regular() };
            if gone.is_some() {
                return gone;
            }
        }
        None
    }

    /// The oldest newcomer becomes a regular, or goes.
    fn pass_newcomer(&mut self) -> Option<T> {
        let at = self.newcomers.oldest;
        let node = &self.nodes[at as usize];
        if node.uses.get() > USES_OF_A_VISITOR {
            node.uses.set(0);
            self.unlink(at);
            self.nodes[at as usize].is_regular = true;
            self.link(at);
            return None;
        }
        let hash = node.hash;
        self.ghosts.resize(GHOSTS, 0);
        self.ghosts[ghost_of(hash).0] = ghost_of(hash).1;
        self.remove(Place(at))
    }

    /// The oldest regular has another round for each use, or goes.
    fn pass_regular(&mut self) -> Option<T> {
        let at = self.regulars.oldest;
        let uses = &self.nodes[at as usize].uses;
        if uses.get() == 0 {
            return self.remove(Place(at));
        }
        uses.set(uses.get() - 1);
        self.unlink(at);
        self.link(at);
        None
    }

    fn was_forgotten(&mut self, hash: u64) -> bool {
        let (at, mark) = ghost_of(hash);
        let found = self.ghosts.get_mut(at).filter(|ghost| **ghost == mark);
        found.map(|ghost| *ghost = 0).is_some()
    }

    fn take_free(&mut self) -> u32 {
        if self.free == NONE {
            let nothing = Cell::new(0);
            self.nodes.push(Node {
                value: None,
                hash: 0,
                cost: 0,
                uses: nothing,
                is_regular: false,
                older: NONE,
                newer: NONE,
            });
            return (self.nodes.len() - 1) as u32;
        }
        let at = self.free;
        self.free = self.nodes[at as usize].older;
        at
    }

    /// Puts a node at the newer end of its queue.
    fn link(&mut self, at: u32) {
        let Node { is_regular, cost, .. } = self.nodes[at as usize];
        let queue = if is_regular { &mut self.regulars } else { &mut self.newcomers };
        queue.cost += cost;
        let before = std::mem::replace(&mut queue.newest, at);
        if before == NONE {
            queue.oldest = at
        } else {
            self.nodes[before as usize].newer = at
        }
        let node = &mut self.nodes[at as usize];
        (node.older, node.newer) = (before, NONE);
    }

    fn unlink(&mut self, at: u32) {
        let Node { is_regular, cost, older, newer, .. } = self.nodes[at as usize];
        let queue = if is_regular { &mut self.regulars } else { &mut self.newcomers };
        queue.cost -= cost;
        if older == NONE {
            queue.oldest = newer
        } else {
            self.nodes[older as usize].newer = newer
        }
        let queue = if is_regular { &mut self.regulars } else { &mut self.newcomers };
        if newer == NONE { queue.newest = older } else { self.nodes[newer as usize].older = older }
    }
}

impl Queue {
    const EMPTY: Queue = Queue { oldest: NONE, newest: NONE, cost: 0 };

    fn is_empty(&self) -> bool {
        self.oldest == NONE
    }
}

/// Where a hash is remembered, and as what; never as 0.
fn ghost_of(hash: u64) -> (usize, u32) {
    (hash as usize % GHOSTS, (hash >> 32) as u32 | 1)
}

#[cfg(test)]
#[path = "shelf_tests.rs"]
mod tests;
