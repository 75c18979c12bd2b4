use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

/// SplitMix64.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        hash(self.0)
    }
}

fn hash(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// What a cache is asked for; true when it had it.
trait Cache {
    fn ask(&mut self, name: u64) -> bool;
}

struct Ours {
    shelf: Shelf<u64>,
    places: HashMap<u64, Place>,
}

impl Ours {
    fn new(budget: usize) -> Ours {
        Ours { shelf: Shelf::new(budget), places: HashMap::new() }
    }

    fn ask_of(&mut self, name: u64, cost: usize) -> bool {
        if let Some(&place) = self.places.get(&name) {
            assert_eq!(self.shelf.get(place), Some(&name));
            return true;
        }
        if let Some(place) = self.shelf.insert(hash(name), cost, name) {
            self.places.insert(name, place);
        }
        while let Some(gone) = self.shelf.make_room() {
            assert!(self.places.remove(&gone).is_some(), "{gone} went twice");
        }
        false
    }
}

impl Cache for Ours {
    fn ask(&mut self, name: u64) -> bool {
        self.ask_of(name, 1)
    }
}

/// Least recently used goes.
struct Lru(BTreeMap<u64, u64>, HashMap<u64, u64>, usize, u64);

impl Cache for Lru {
    fn ask(&mut self, name: u64) -> bool {
        self.3 += 1;
        let hit = self.1.insert(name, self.3).inspect(|then| assert!(self.0.remove(then).is_some())).is_some();
        self.0.insert(self.3, name);
        if self.1.len() > self.2 {
            let (_, gone) = self.0.pop_first().unwrap();
            self.1.remove(&gone);
        }
        hit
    }
}

/// Second chance, which is what the cache had before.
struct Clock(VecDeque<u64>, HashMap<u64, bool>, usize);

impl Cache for Clock {
    fn ask(&mut self, name: u64) -> bool {
        if let Some(hot) = self.1.get_mut(&name) {
            *hot = true;
            return true;
        }
        self.1.insert(name, true);
        self.0.push_back(name);
        while self.1.len() > self.2 {
            let name = self.0.pop_front().unwrap();
            if std::mem::take(self.1.get_mut(&name).unwrap()) {
                self.0.push_back(name);
            } else {
                self.1.remove(&name);
            }
        }
        false
    }
}

const FILES: usize = 20_000;
const ROOM: usize = 1_000;

/// Requests with the popularity of Zipf's law, exponent 1.
struct Zipf(Vec<f64>, Rng);

impl Zipf {
    fn new(seed: u64) -> Zipf {
        let mut sum = 0.0;
        let sums = (1..=FILES).map(|rank| {
            sum += 1.0 / rank as f64;
            sum
        });
        Zipf(sums.collect(), Rng(seed))
    }

    fn next(&mut self) -> u64 {
        let at = (self.1.next() >> 11) as f64 / (1u64 << 53) as f64 * self.0[FILES - 1];
        self.0.partition_point(|sum| *sum < at) as u64
    }
}

/// The share of hits among `requests` of people, with `crawled` new names after each of them.
fn hits(cache: &mut dyn Cache, zipf: &mut Zipf, requests: usize, crawled: u64, crawler: &mut u64) -> f64 {
    let mut hits = 0;
    for _ in 0..requests {
        hits += usize::from(cache.ask(zipf.next()));
        for _ in 0..crawled {
            *crawler += 1;
            cache.ask(1 << 40 | *crawler);
        }
    }
    hits as f64 / requests as f64
}

/// Warm, crawled (100,000 files, ten for each request of people), and right after it.
fn shares(mut cache: impl Cache) -> [f64; 3] {
    let (mut zipf, mut crawler) = (Zipf::new(1), 0);
    hits(&mut cache, &mut zipf, 100_000, 0, &mut crawler);
    let warm = hits(&mut cache, &mut zipf, 50_000, 0, &mut crawler);
    let crawled = hits(&mut cache, &mut zipf, 10_000, 10, &mut crawler);
    [warm, crawled, hits(&mut cache, &mut zipf, 1_000, 0, &mut crawler)]
}

#[test]
fn a_crawl_does_not_push_out_what_people_ask_for() {
    let ours = shares(Ours::new(ROOM));
    let lru = shares(Lru(BTreeMap::new(), HashMap::new(), ROOM, 0));
    let clock = shares(Clock(VecDeque::new(), HashMap::new(), ROOM));
    println!("warm, crawled, after: ours {ours:.3?}, LRU {lru:.3?}, CLOCK {clock:.3?}");
    for other in [lru, clock] {
        assert!(ours[0] > other[0], "warm");
        assert!(ours[1] > other[1] + 0.15, "under the crawl");
        assert!(ours[2] > other[2] + 0.05, "right after it");
    }
    assert!(ours[2] > ours[0] - 0.03, "the crawl has cost next to nothing");
}

#[test]
fn what_is_larger_than_the_share_of_newcomers_gets_in_when_it_comes_back() {
    let mut cache = Ours::new(100);
    for name in 0..50 {
        cache.ask_of(name, 2);
    }
    cache.ask_of(99, 40);
    cache.ask_of(99, 40);
    assert!(cache.ask_of(99, 40));
    assert_eq!(cache.shelf.insert(hash(7), 101, 7), None, "and what is larger than all never");
}

#[derive(Clone, Debug)]
enum Act {
    Ask(u64, usize),
    Remove(u64),
    Replace(u64, usize),
    Budget(usize),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (0..60u64, 0..30usize).prop_map(|(name, cost)| Act::Ask(name, cost)),
        1 => (0..60u64).prop_map(Act::Remove),
        1 => (0..60u64, 0..30usize).prop_map(|(name, cost)| Act::Replace(name, cost)),
        1 => (0..200usize).prop_map(Act::Budget),
    ]
}

proptest! {
    /// Against a plain map: nothing is lost, nothing goes twice, and the costs add up.
    #[test]
    fn the_books_are_right(acts in prop::collection::vec(act(), 0..300)) {
        let mut cache = Ours::new(100);
        let mut costs: HashMap<u64, usize> = HashMap::new();
        let mut budget = 100;
        for act in acts {
            match act {
                Act::Ask(name, cost) => {
                    if !cache.ask_of(name, cost) {
                        costs.insert(name, cost);
                    }
                }
                Act::Remove(name) => if let Some(place) = cache.places.remove(&name) {
                    prop_assert_eq!(cache.shelf.remove(place), Some(name));
                    prop_assert_eq!(cache.shelf.remove(place), None);
                },
                Act::Replace(name, cost) => if let Some(&place) = cache.places.get(&name) {
                    prop_assert_eq!(cache.shelf.replace(place, cost, name), Some(name));
                    costs.insert(name, cost);
                },
                Act::Budget(more) => {
                    budget = more;
                    cache.shelf.set_budget(more);
                }
            }
            while let Some(gone) = cache.shelf.make_room() {
                prop_assert!(cache.places.remove(&gone).is_some());
            }
            let total: usize = cache.places.keys().map(|name| costs[name]).sum();
            prop_assert_eq!(cache.shelf.cost(), total);
            prop_assert!(total <= budget);
            prop_assert!(cache.places.iter().all(|(name, &place)| cache.shelf.peek(place) == Some(name)));
            prop_assert_eq!(cache.places.values().collect::<HashSet<_>>().len(), cache.places.len());
        }
    }
}
