//! What the generator costs: counted, not timed. One test in this binary, because the counters are the process's.

#[path = "../../tests/counting/mod.rs"]
mod counting;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use counting::Counting;
use loadgen::schedule::{Bounds, Load};
use loadgen::selfcheck;
use loadgen::session::{self, About};
use loadgen::sink::{Reply, Sink};

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static IS_GENERATOR: std::cell::Cell<Option<bool>> = const { std::cell::Cell::new(None) };
}

fn is_generator() -> bool {
    IS_GENERATOR.try_with(|known| match known.get() {
        Some(is) => is,
        None => {
            // Asking for the name may allocate: not again meanwhile.
            known.set(Some(false));
            let is = std::thread::current().name().is_some_and(|name| name.starts_with("loadgen-"));
            known.set(Some(is));
            is
        }
    }) == Ok(true)
}

/// Counts the allocations of the generator's thread.
fn count() {
    if is_generator() {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting(count);

/// Allocations of the generator in a run of so many requests, and its enters.
fn cost(requests: u64) -> (u64, u64) {
    let sink = Sink::start(Arc::new(|_| Reply::ok(b"hello"))).unwrap();
    let bounds = Bounds { duration_ns: u64::MAX, requests };
    let plan = selfcheck::plan(&sink.url(), Load::Closed, 4, bounds).unwrap();
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    let run = session::run(&Arc::new(plan), &About::default(), drop).unwrap();
    assert_eq!((run.measured.responses, run.measured.errors), (requests, 0));
    (ALLOCATIONS.load(Ordering::Relaxed) - before, run.facts.generator.enters)
}

#[test]
fn a_request_allocates_nothing_and_shares_its_enter() {
    let (few, _) = cost(2_000);
    let (many, enters) = cost(22_000);
    // 20,000 requests more: the difference is the series' intervals, and what lists had to grow.
    let extra = many.saturating_sub(few);
    assert!(few > 10, "the allocations of the start are counted: {few}");
    assert!(extra < 200, "{extra} allocations for 20,000 requests");
    // One enter a turn, and a turn at most for the answer; the connects and the start have some more.
    assert!(enters <= 22_000 + 500, "{enters} enters for 22,000 requests");
}
