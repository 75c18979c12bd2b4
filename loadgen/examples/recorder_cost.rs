//! What recording costs the generator: nanoseconds an answer, and microseconds at the end of an interval.
//!
//! `cargo run --release -p loadgen --example recorder_cost`

use std::hint::black_box;
use std::time::Instant;

use loadgen::record::{Completion, Recorder, RecorderConfig};

/// Answers of one interval: what one core reaches in a second.
const ANSWERS: u64 = 200_000;

/// Intervals that are recorded; the fastest and the median are told.
const INTERVALS: u64 = 20;

const S: u64 = 1_000_000_000;

fn main() {
    let config = RecorderConfig { warmup_ns: 0, interval_ns: S, urls: 1, connections: 1_000 };
    let mut recorder = Recorder::new(&config);
    let (mut answers, mut ends) = (Vec::new(), Vec::new());
    for interval in 0..INTERVALS {
        let begin = Instant::now();
        for n in 0..ANSWERS {
            recorder.response(black_box(answer(interval, n)));
            if n % 16 == 0 {
                recorder.batch(black_box(16), black_box(n % 5_000));
            }
        }
        answers.push(begin.elapsed().as_nanos() as f64 / ANSWERS as f64);
        let begin = Instant::now();
        recorder.advance((interval + 1) * S);
        ends.push(begin.elapsed().as_nanos() as f64 / 1e3);
    }
    for (name, unit, mut times) in [("an answer", "ns", answers), ("the end of an interval", "us", ends)] {
        times.sort_by(f64::total_cmp);
        println!("{name}: {:.1} {unit} at best, {:.1} {unit} at the median", times[0], times[times.len() / 2]);
    }
}

/// Between 0.2 and 5 ms, most of them near the lower end, as latencies are.
fn answer(interval: u64, n: u64) -> Completion {
    let random = (interval * ANSWERS + n).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let done_ns = interval * S + n * (S / ANSWERS);
    let took = 200_000 + (random % 2_200) * (random / 7 % 2_200);
    let sent_ns = done_ns.saturating_sub(took);
    let moments = Completion {
        intended_ns: sent_ns,
        sent_ns,
        first_byte_ns: done_ns.saturating_sub(1_000),
        done_ns,
        ..Completion::default()
    };
    Completion { conn: (n % 1_000) as u32, wire_bytes: 1_220, body_bytes: 1_024, status: 200, ..moments }
}
