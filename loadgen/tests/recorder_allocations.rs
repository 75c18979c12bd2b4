//! What a generator does for each event is counted here: it allocates nothing.

#[path = "../../tests/counting/mod.rs"]
mod counting;

use std::cell::Cell;

use counting::Counting;
use loadgen::record::{Completion, ErrorClass, Recorder, RecorderConfig};

thread_local! {
    /// Allocations of this thread while it is watched.
    static COUNT: Cell<Option<u64>> = const { Cell::new(None) };
}

fn count() {
    COUNT.with(|count| count.set(count.get().map(|so_far| so_far + 1)));
}

#[global_allocator]
static ALLOCATOR: Counting = Counting(count);

fn allocations(work: impl FnOnce()) -> u64 {
    COUNT.with(|count| count.set(Some(0)));
    work();
    COUNT.with(|count| count.take()).expect("watched")
}

const S: u64 = 1_000_000_000;

fn recorder() -> Recorder {
    Recorder::new(&RecorderConfig { warmup_ns: S, interval_ns: S, urls: 3, connections: 100 })
}

/// Ten thousand answers in the second `second` of the run, with all that a turn of the loop records besides.
fn record(recorder: &mut Recorder, second: u64) {
    for n in 0..10_000 {
        let done_ns = second * S + n * 50_000;
        let sent_ns = done_ns.saturating_sub(n * n);
        let intended_ns = sent_ns.saturating_sub(n);
        let url = (n % 3) as u16;
        let at = Completion { url, intended_ns, sent_ns, first_byte_ns: done_ns, done_ns, ..Completion::default() };
        recorder.response(Completion { conn: (n % 100) as u32, wire_bytes: 10, body_bytes: 5, status: 200, ..at });
        recorder.connected(n);
        recorder.lag(n);
        recorder.batch(8, n);
        recorder.advance(done_ns);
        recorder.error(url, ErrorClass::Reset, Some(104), done_ns, String::new);
    }
}

#[test]
fn an_event_allocates_nothing() {
    let mut recorder = recorder();
    for second in [0, 1, 2] {
        // The first error of its kind keeps its example, and a new second packs the one before.
        record(&mut recorder, second);
        assert_eq!(allocations(|| record(&mut recorder, second)), 0, "in second {second}");
    }
}

#[test]
fn the_end_of_an_interval_allocates_its_own_few_kilobytes_once() {
    let mut recorder = recorder();
    record(&mut recorder, 1);
    assert_eq!(allocations(|| recorder.advance(2 * S)), 1);
}

#[test]
fn an_allocation_would_be_seen() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(7_u64)))), 1);
    let mut recorder = recorder();
    let first = allocations(|| recorder.error(0, ErrorClass::Parse, None, 2 * S, || String::from("an example")));
    assert!(first >= 1, "the first example is kept");
}
