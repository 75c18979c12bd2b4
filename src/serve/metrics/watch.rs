//! What is only counted while somebody watches: which paths are asked for most. To a request of a server that nobody watches
//! it is one comparison.

use std::cell::{Cell, RefCell};
use std::hash::BuildHasher;

use super::report::Watched;
use crate::rt::time::Instant;

/// Paths that a core keeps count of.
const PATHS: usize = 64;
/// Of each, so much is kept.
const PATH_BYTES_MAX: usize = 200;
/// Nobody has looked for so long: nobody watches any more.
const WATCH_MS_MAX: u64 = 30_000;
/// Scripts and paths that a core tells of.
const TOLD_MAX: usize = 40;

/// The most frequent paths, by the algorithm of Metwally and others, "Efficient computation of frequent and top-k elements in data
/// streams" (ICDT 2005): a path that is not kept takes the place, and the count, of the least frequent one. So no count is
/// too low, none is too high by more than the lowest, and whatever has more than one request in 64 is in it.
#[derive(Default)]
pub(in crate::serve) struct Watch {
    /// Milliseconds on the core's clock; 0: nobody watches.
    until_ms: Cell<u64>,
    sketch: RefCell<Sketch>,
}

#[derive(Default)]
struct Sketch {
    /// Beside the entries, so that looking for one reads a few cache lines.
    hashes: Vec<u64>,
    entries: Vec<Entry>,
    keys: foldhash::fast::RandomState,
}

struct Entry {
    path: Vec<u8>,
    count: u64,
}

impl Watch {
    /// Notes what was asked for, if anybody wants to know.
    pub(in crate::serve) fn asked(&self, target: &[u8]) {
        if self.until_ms.get() != 0 {
            // Without the query: who knows how many there are.
            self.note(target.split(|byte| *byte == b'?').next().unwrap_or_default());
        }
    }

    #[cold]
    fn note(&self, path: &[u8]) {
        if self.until_ms.get() < Instant::now().as_millis() {
            self.until_ms.set(0);
            self.sketch.take();
            return;
        }
        self.sketch.borrow_mut().count(path);
    }

    /// Somebody looks, and will again.
    pub(super) fn look(&self, scripts: &super::Scripts) -> Watched {
        let now_ms = Instant::now().as_millis();
        if self.until_ms.replace(now_ms + WATCH_MS_MAX) < now_ms {
            self.sketch.take();
        }
        Watched { paths: self.sketch.borrow().most(TOLD_MAX), scripts: scripts.oldest(TOLD_MAX) }
    }
}

impl Sketch {
    fn count(&mut self, path: &[u8]) {
        let path = &path[..path.len().min(PATH_BYTES_MAX)];
        let hash = self.keys.hash_one(path);
        if let Some(index) = self.hashes.iter().position(|known| *known == hash) {
            self.entries[index].count += 1;
        } else if self.entries.len() < PATHS {
            self.hashes.push(hash);
            self.entries.push(Entry { path: path.to_vec(), count: 1 });
        } else if let Some((index, least)) = self.entries.iter_mut().enumerate().min_by_key(|(_, entry)| entry.count) {
            self.hashes[index] = hash;
            least.count += 1;
            least.path.clear();
            least.path.extend_from_slice(path);
        }
    }

    fn most(&self, max: usize) -> Vec<(Vec<u8>, u64)> {
        let mut all: Vec<_> = self.entries.iter().map(|entry| (entry.path.clone(), entry.count)).collect();
        all.sort_by(|(a, more), (b, less)| less.cmp(more).then_with(|| a.cmp(b)));
        all.truncate(max);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_often_is_found_among_much_that_is_not() {
        let mut sketch = Sketch::default();
        for number in 0..20_000_u32 {
            sketch.count(format!("/crawled/{number}").as_bytes());
            if number % 4 == 0 {
                sketch.count(b"/often");
            }
            if number % 8 == 0 {
                sketch.count(b"/sometimes");
            }
        }
        let most = sketch.most(2);
        let total = 20_000 + 5_000 + 2_500;
        assert_eq!([&most[0].0[..], &most[1].0[..]], [&b"/often"[..], b"/sometimes"]);
        for ((_, count), exact) in most.iter().zip([5_000, 2_500]) {
            assert!((exact..=exact + total / PATHS as u64).contains(count), "{count} for {exact}");
        }
        assert_eq!(sketch.entries.len(), PATHS);
    }

    #[test]
    fn a_long_path_is_kept_in_part() {
        let mut sketch = Sketch::default();
        sketch.count(&[b'x'; 9000]);
        sketch.count(&[b'x'; 8000]);
        assert_eq!(sketch.most(9), [(vec![b'x'; PATH_BYTES_MAX], 2)]);
    }

    #[test]
    fn nothing_is_kept_while_nobody_looks() {
        let runtime = std::thread::spawn(|| {
            let runtime = crate::rt::Builder::new().direct_slots(1).build().unwrap();
            runtime.block_on(async {
                let (watch, scripts) = (Watch::default(), super::super::Scripts::default());
                watch.asked(b"/before");
                assert_eq!(watch.look(&scripts).paths, []);
                watch.asked(b"/a?b=/c");
                assert_eq!(watch.look(&scripts).paths, [(b"/a".to_vec(), 1)]);
                // As if nobody had looked for a while.
                watch.until_ms.set(1);
                watch.asked(b"/b");
                assert_eq!(watch.until_ms.get(), 0);
                assert!(watch.sketch.borrow().entries.is_empty());
            });
        });
        runtime.join().unwrap();
    }
}
