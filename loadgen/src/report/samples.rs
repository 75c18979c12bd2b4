//! Runs for the tests of the reports: small, and the same every time.

use crate::record::{
    Completion, ErrorClass, GeneratorUsage, Host, Load, LoadModel, Recorder, RecorderConfig, Run, RunFacts, ServerUsage,
};
use crate::verdict;

pub(crate) const MS: u64 = 1_000_000;

/// A closed loop: 200,000 answers in two seconds after half a second of warm-up, each about a third of a millisecond, one
/// in a hundred slow.
pub(crate) fn closed() -> Run {
    let mut run = Recorder::merge(vec![recorded(1, 200_000, |n| (n * 10_000, n * 10_000))], facts(LoadModel::Closed));
    run.validity = verdict::judge(&run, false, 0);
    run
}

/// An open loop that was sent late during one tenth of a second, with two URLs, errors, and an SLO that it breached.
pub(crate) fn open() -> Run {
    let stall = |n: u64| (n * 10_000, if (100_000..110_000).contains(&n) { 1_100 * MS } else { n * 10_000 });
    let mut recorder = recorded(2, 200_000, stall);
    for n in 0..3 {
        recorder.error(1, ErrorClass::Reset, Some(104), 2_000 * MS + n, || String::from("after 512 bytes of the body"));
    }
    recorder.error(0, ErrorClass::Connect, Some(99), 2_000 * MS, || String::from("connect from 127.0.0.1"));
    let mut facts = facts(LoadModel::Open);
    facts.urls.push(String::from("http://127.0.0.1:8080/another/page.html"));
    facts.load.schedule = Some(String::from("poisson, 100000/s"));
    facts.load.offered_requests = Some(200_010);
    facts.load.unanswered_requests = 6;
    facts.listen_overflows = Some(4);
    let mut run = Recorder::merge(vec![recorder], facts);
    run.validity = verdict::judge(&run, true, 0);
    run.slo = Some("p99<2ms,err<0.1%".parse::<verdict::Slo>().expect("an SLO").evaluate(&run));
    run
}

/// A run of so many answers over two seconds, by the factor that its latencies are stretched by.
pub(crate) fn stretched(answers: u64, factor: f64) -> Run {
    let step = 2_000 * MS / answers.max(1);
    let mut recorder = Recorder::new(&config(1));
    for n in 0..answers {
        recorder.response(answer(n, n * step, n * step, factor));
    }
    let mut run = Recorder::merge(vec![recorder], facts(LoadModel::Closed));
    run.validity = verdict::judge(&run, false, 0);
    run
}

/// A run of answers at those milliseconds of the window, which took so many ns.
pub(crate) fn recorded_at(samples: &[(u64, u32)]) -> Run {
    let mut recorder = Recorder::new(&config(1));
    for &(done_ms, took_ns) in samples {
        let done_ns = (500 + done_ms) * MS;
        let sent_ns = done_ns.saturating_sub(u64::from(took_ns));
        let moments =
            Completion { intended_ns: sent_ns / 2, sent_ns, first_byte_ns: done_ns, done_ns, ..Completion::default() };
        recorder.response(Completion { status: 200 + (took_ns % 3) as u16, wire_bytes: 7, ..moments });
        recorder.lag(u64::from(took_ns % 1_000));
        recorder.batch(1 + took_ns % 64, u64::from(took_ns % 5_000));
    }
    Recorder::merge(vec![recorder], facts(LoadModel::Closed))
}

fn config(urls: usize) -> RecorderConfig {
    RecorderConfig { warmup_ns: 500 * MS, interval_ns: 500 * MS, urls, connections: 4 }
}

fn recorded(urls: u16, answers: u64, moments: impl Fn(u64) -> (u64, u64)) -> Recorder {
    let mut recorder = Recorder::new(&config(usize::from(urls)));
    for conn in 0..4 {
        recorder.connected(80_000 + conn * 10_000);
    }
    let mut pending: Vec<Completion> = (0..answers)
        .map(|n| {
            let (intended, sent) = moments(n);
            Completion { url: u16::from(n % 4 == 3) % urls, ..answer(n, intended, sent, 1.0) }
        })
        .collect();
    pending.sort_by_key(|at| at.done_ns);
    for at in pending {
        recorder.response(at);
        if at.done_ns % 16 == 0 {
            recorder.lag(at.sent_ns - at.intended_ns);
            recorder.batch(8, 2_000 + at.done_ns % 3_000);
        }
    }
    recorder.advance(2_500 * MS);
    recorder
}

/// The warm-up is over when these are sent.
fn answer(n: u64, intended: u64, sent: u64, factor: f64) -> Completion {
    let slow = if n % 100 == 99 { 900_000 + n % 7_919 * 100 } else { 0 };
    let service = ((300_000 + n * 7 % 60_000 + slow) as f64 * factor) as u64;
    Completion {
        url: 0,
        intended_ns: 500 * MS + intended,
        sent_ns: 500 * MS + sent,
        first_byte_ns: 500 * MS + sent + service - 20_000,
        done_ns: 500 * MS + sent + service,
        conn: (n % 4) as u32,
        wire_bytes: 1_220,
        body_bytes: 1_024,
        status: 200,
    }
}

fn facts(model: LoadModel) -> RunFacts {
    RunFacts {
        command_line: ["loadgen", "--conns", "4"].map(String::from).to_vec(),
        seed: 42,
        version: String::from("0.1.0"),
        git_sha: Some(String::from("6bd21d2")),
        started_unix_ms: 1_795_269_600_000,
        host: Host {
            kernel: String::from("6.18.44"),
            cpu_model: String::from("Some CPU @ 2.50GHz"),
            cores: 2,
            governor: None,
            virtual_machine: true,
            memory_bytes: 8 << 30,
        },
        load: Load { model, connections: 4, threads: 1, pipeline: 1, ..Load::default() },
        urls: vec![String::from("http://127.0.0.1:8080/1k")],
        elapsed_ns: 2_500 * MS,
        warmup_ns: 500 * MS,
        generator: GeneratorUsage {
            cpu_ns: 1_400 * MS,
            spin_ns: 0,
            busiest_thread_share: 0.7,
            rss_bytes: 12 << 20,
            enters: 30_000,
        },
        server: Some(ServerUsage {
            pid: 4_711,
            processes: 1,
            user_ns: 200 * MS,
            system_ns: 900 * MS,
            run_ns: None,
            wait_ns: None,
            context_switches: 4_000,
            rss_bytes: 9 << 20,
            core: Some(0),
            core_busy_ns: Some(1_960 * MS),
        }),
        steal_share: Some(0.001),
        listen_overflows: None,
    }
}
