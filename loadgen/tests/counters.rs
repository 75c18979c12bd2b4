//! The counters tier of the gate: what a request costs is what it cost when the baseline was committed. One test in this binary,
//! because the allocations are counted for the process.

#[path = "../examples/counters.rs"]
mod counters;

use std::path::Path;

use loadgen::gate::counters::{Counters, compare};
use ucaffeine::serve::options::Options;

#[test]
fn a_request_costs_what_the_baseline_says_and_a_planted_cost_is_found() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../results/baseline/counters.json");
    let mut baseline = Counters::read(&path).expect("the committed baseline");
    // Of a release build, and `loadgen gate counters` has one.
    baseline.instructions = None;
    let measured = counters::served(Options::default());
    let compared = compare(&baseline, &measured);
    let advice = "if it is meant: cargo run --release -p loadgen -- gate counters --bless";
    assert!(compared.worse.is_empty(), "{:#?}\n{advice}\n{measured:#?}", compared.worse);
    // Without its cache, the server opens the file anew for each request: real, and exactly what the counters are for. (What a GET
    // submits depends on the age of the file: one that is younger than a second is read and sent by the ring, an older one leaves
    // by sendfile(2), with no entry. A HEAD opens it and is sent, always.)
    let mut planted = Options::default();
    planted.files.cache_bytes_max = 0;
    let found = compare(&baseline, &counters::served(planted)).worse;
    for counter in ["GET 1 KiB: enters", "HEAD: submissions", "GET 1 KiB: allocations"] {
        assert!(found.iter().any(|line| line.starts_with(counter)), "{counter} was not found: {found:#?}");
    }
}
