//! Places of which a core has so many: of descriptors that connections may hold.

use std::cell::Cell;
use std::rc::Rc;

/// How many there are, and how many are taken.
pub(super) struct Places {
    taken: Rc<Cell<usize>>,
    max: usize,
}

/// One of them; given back when dropped.
pub(super) struct Place(Rc<Cell<usize>>);

impl Places {
    pub(super) fn new(max: usize) -> Places {
        Places { taken: Rc::default(), max }
    }

    /// One, if there is one.
    pub(super) fn place(&self) -> Option<Place> {
        let taken = self.taken.get();
        (taken < self.max).then(|| {
            self.taken.set(taken + 1);
            Place(Rc::clone(&self.taken))
        })
    }

    /// More than half of them are taken: they are not to be kept for later.
    pub(super) fn is_crowded(&self) -> bool {
        self.taken.get() > self.max / 2
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_back() {
        let places = Places::new(2);
        let first = places.place();
        assert!(first.is_some() && !places.is_crowded());
        let second = places.place();
        assert!(second.is_some() && places.is_crowded());
        assert!(places.place().is_none());
        drop(first);
        assert!(!places.is_crowded() && places.place().is_some());
    }
}
