use proptest::prelude::*;

use super::*;

const MS: u64 = 1_000_000;

fn config() -> RecorderConfig {
    RecorderConfig { warmup_ns: 100 * MS, interval_ns: 100 * MS, urls: 2, connections: 4 }
}

fn facts(elapsed_ms: u64) -> RunFacts {
    RunFacts {
        urls: vec![String::from("/a"), String::from("/b")],
        elapsed_ns: elapsed_ms * MS,
        warmup_ns: 100 * MS,
        ..RunFacts::default()
    }
}

fn answer(intended_ms: u64, sent_ms: u64, done_ms: u64) -> Completion {
    Completion {
        url: 0,
        intended_ns: intended_ms * MS,
        sent_ns: sent_ms * MS,
        first_byte_ns: done_ms * MS - MS / 2,
        done_ns: done_ms * MS,
        conn: 1,
        wire_bytes: 1_200,
        body_bytes: 1_000,
        status: 200,
    }
}

#[test]
fn response_time_counts_from_the_schedule_and_service_time_from_the_sending() {
    let mut recorder = Recorder::new(&config());
    recorder.response(answer(150, 170, 180));
    let run = Recorder::merge(vec![recorder], facts(300));
    let close = |hist: &Hist, ms: f64| (hist.mean() / (ms * MS as f64) - 1.0).abs() < 0.001 && hist.count() == 1;
    assert!(close(&run.latency.response, 30.0), "{:?}", run.latency.response.mean());
    assert!(close(&run.latency.service, 10.0), "{:?}", run.latency.service.mean());
    assert!(close(&run.latency.first_byte, 9.5), "{:?}", run.latency.first_byte.mean());
}

#[test]
fn the_warm_up_is_counted_apart_and_measured_nowhere() {
    let mut recorder = Recorder::new(&config());
    recorder.connected(MS);
    recorder.lag(5);
    recorder.batch(3, 5);
    recorder.response(answer(10, 10, 99));
    recorder.error(0, ErrorClass::Timeout, None, 99 * MS, String::new);
    recorder.advance(100 * MS);
    recorder.lag(7);
    recorder.batch(2, 7);
    recorder.response(answer(99, 99, 100));
    let run = Recorder::merge(vec![recorder], facts(200));
    assert_eq!((run.warmup.responses, run.warmup.errors), (1, 1));
    assert_eq!((run.measured.responses, run.measured.errors), (1, 0));
    assert_eq!((run.latency.response.count(), run.latency.connect.count()), (1, 1));
    assert_eq!((run.generator.lag.count(), run.generator.reap.count(), run.generator.batch.count()), (1, 2, 1));
    assert_eq!((run.errors[0].count, run.errors[0].warmup_count), (0, 1));
    assert_eq!((run.connections.connections, run.connections.answered), (4, 1));
    assert_eq!(run.requests_per_second(), 10.0);
}

#[test]
fn the_intervals_have_no_gaps_and_the_window_s_edges() {
    let mut config = config();
    config.warmup_ns = 150 * MS;
    let mut recorder = Recorder::new(&config);
    recorder.response(answer(160, 160, 170));
    recorder.response(answer(160, 160, 420));
    recorder.error(1, ErrorClass::Reset, Some(104), 430 * MS, || String::from("cut"));
    let run = Recorder::merge(vec![recorder], RunFacts { warmup_ns: 150 * MS, ..facts(450) });
    let rows: Vec<_> = run
        .intervals
        .iter()
        .map(|i| (i.start_ns / MS, i.duration_ns / MS, i.responses, i.errors, i.response.max / MS))
        .collect();
    assert_eq!(rows, [(150, 50, 1, 0, 10), (200, 100, 0, 0, 0), (300, 100, 0, 0, 0), (400, 50, 1, 1, 260)]);
    assert_eq!(run.last_interval_per_second(), Some(0.0));
}

#[test]
fn what_ends_while_the_run_is_stopped_belongs_to_the_last_interval() {
    let mut recorder = Recorder::new(&config());
    recorder.response(answer(110, 110, 120));
    recorder.response(answer(110, 110, 299));
    recorder.response(answer(110, 110, 305));
    let run = Recorder::merge(vec![recorder], facts(300));
    let rows: Vec<_> = run.intervals.iter().map(|i| (i.start_ns / MS, i.duration_ns / MS, i.responses)).collect();
    assert_eq!(rows, [(100, 100, 1), (200, 100, 2)]);
}

#[test]
fn a_sliver_at_the_end_is_no_interval_of_its_own() {
    let intervals = |elapsed_ms: u64| -> Vec<(u64, u64, u64)> {
        let mut recorder = Recorder::new(&config());
        for done in (100..elapsed_ms).step_by(10) {
            recorder.response(answer(done, done, done));
        }
        let run = Recorder::merge(vec![recorder], facts(elapsed_ms));
        run.intervals.iter().map(|i| (i.start_ns / MS, i.duration_ns / MS, i.responses)).collect()
    };
    assert_eq!(intervals(309), [(100, 100, 10), (200, 109, 11)]);
    assert_eq!(intervals(310), [(100, 100, 10), (200, 100, 10), (300, 10, 1)]);
    assert_eq!(intervals(300), [(100, 100, 10), (200, 100, 10)]);
    assert_eq!(intervals(105), [(100, 5, 1)]);
}

#[test]
fn urls_and_statuses_are_counted_and_unknown_ones_lose_nothing() {
    let mut recorder = Recorder::new(&config());
    recorder.response(answer(110, 110, 120));
    recorder.response(Completion { url: 1, status: 206, ..answer(110, 110, 120) });
    recorder.response(Completion { url: 9, status: 9_999, conn: 77, ..answer(110, 110, 120) });
    recorder.error(1, ErrorClass::Corrupt, None, 120 * MS, || String::from("bytes"));
    recorder.error(9, ErrorClass::Corrupt, None, 120 * MS, || unreachable!("only the first is asked for"));
    let run = Recorder::merge(vec![recorder], facts(200));
    assert_eq!(run.statuses.into_iter().collect::<Vec<_>>(), [(0, 1), (200, 1), (206, 1)]);
    let urls: Vec<_> = run.urls.iter().map(|url| (url.tally.responses, url.tally.errors)).collect();
    assert_eq!(urls, [(1, 0), (1, 1)]);
    assert_eq!((run.measured.responses, run.measured.errors, run.measured.body_bytes), (3, 2, 3_000));
    assert_eq!(run.urls[1].response.as_ref().map(Hist::count), Some(1));
}

#[test]
fn another_thread_sees_the_numbers_when_a_batch_ends() {
    let mut recorder = Recorder::new(&config());
    let live = recorder.live();
    recorder.response(answer(50, 50, 60));
    recorder.response(answer(110, 110, 120));
    recorder.error(0, ErrorClass::Reset, None, 121 * MS, String::new);
    assert_eq!(live.read(), Snapshot::default());
    recorder.batch(3, 1);
    let seen = live.read();
    assert_eq!((seen.responses, seen.errors, seen.wire_bytes, seen.now_ns), (2, 1, 2_400, 121 * MS));
    recorder.advance(200 * MS);
    assert_eq!(live.read().last_max_ns / MS, 10);
}

/// What the tests ask of samples that many threads recorded.
fn recorded(threads: &[Vec<(u64, u64)>]) -> Run {
    let record = |samples: &Vec<(u64, u64)>| {
        let mut recorder = Recorder::new(&config());
        let mut samples = samples.clone();
        samples.sort_unstable();
        for (done, took) in samples {
            let intended_ns = done.saturating_sub(took);
            recorder.response(Completion { intended_ns, sent_ns: intended_ns, done_ns: done, ..answer(0, 0, 1) });
        }
        recorder
    };
    Recorder::merge(threads.iter().map(record).collect(), facts(1_000))
}

proptest! {
    #[test]
    fn threads_add_up_to_one_thread_that_saw_it_all(
        threads in proptest::collection::vec(
            proptest::collection::vec((0..1_000 * MS, 0..400 * MS), 0..50), 1..4),
    ) {
        let (merged, single) = (recorded(&threads), recorded(&[threads.concat()]));
        prop_assert_eq!(merged.latency, single.latency);
        prop_assert_eq!(&merged.measured, &single.measured);
        prop_assert_eq!(merged.warmup, single.warmup);
        prop_assert_eq!(&merged.intervals, &single.intervals);
        let parts: u64 = merged.intervals.iter().map(|interval| interval.responses).sum();
        prop_assert_eq!(parts, merged.measured.responses);
    }
}
