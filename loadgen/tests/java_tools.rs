//! The interval log, read by the tools that it is for: HdrHistogram's own, in Java.

use std::path::Path;
use std::process::Command;

use loadgen::record::{Completion, Recorder, RecorderConfig, Run, RunFacts};
use loadgen::report::{hgrm, hlog};

/// Debian's libhdrhistogram-java.
const JAR: &str = "/usr/share/java/hdrhistogram.jar";

const S: u64 = 1_000_000_000;

#[test]
fn the_java_log_processor_reads_the_log_and_finds_the_same_distribution() {
    let java = Command::new("java").arg("-version").output().is_ok();
    if !java || !Path::new(JAR).exists() {
        assert!(std::env::var_os("STRICT").is_none_or(|v| v != "1"), "STRICT=1 and java or {JAR} is missing");
        println!("SKIPPED: java or {JAR} is not installed");
        return;
    }
    let run = run();
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("run.hlog");
    hlog::write(&run, std::fs::File::create(&log).expect("created")).expect("written");
    let mut processor = Command::new("java");
    processor.args(["-cp", JAR, "org.HdrHistogram.HistogramLogProcessor", "-outputValueUnitRatio", "1000000", "-i"]);
    let output = processor.arg(&log).output().expect("java runs");
    let (theirs, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{errors}");
    let (theirs, ours) = (rows(&theirs), rows(&hgrm::write(&run.latency.response)));
    assert!(ours.len() > 50, "{}", ours.len());
    // The two find a quantile's cell by slightly different rounding: a line in a hundred may be one cell apart.
    assert_eq!(theirs.len(), ours.len(), "{errors}");
    let unlike: Vec<_> = theirs.iter().zip(&ours).filter(|(a, b)| a != b).collect();
    assert!(unlike.len() <= ours.len() / 50, "{unlike:?}");
    assert_eq!(theirs.last(), ours.last());
}

/// Value to three decimals, percentile, and count of each line; what follows are remarks.
fn rows(text: &str) -> Vec<(String, String, String)> {
    let rows = text.lines().skip_while(|line| !line.contains("1/(1-Percentile)")).skip(2);
    let rows = rows.take_while(|line| !line.starts_with('#')).map(|line| {
        let mut cells = line.split_whitespace();
        let value: f64 = cells.next().and_then(|cell| cell.parse().ok()).expect("a value");
        let mut text = || cells.next().expect("a cell").to_owned();
        (format!("{value:.3}"), text(), text())
    });
    rows.collect()
}

/// Three seconds of answers between 0.1 and 100 ms.
fn run() -> Run {
    let config = RecorderConfig { warmup_ns: 0, interval_ns: S, urls: 1, connections: 1 };
    let mut recorder = Recorder::new(&config);
    for n in 0..300_000_u64 {
        let done_ns = n * 10_000;
        let took = 100_000 * (1 + n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 1_000 / (1 + n % 97));
        let sent_ns = done_ns.saturating_sub(took);
        recorder.response(Completion {
            intended_ns: sent_ns,
            sent_ns,
            first_byte_ns: done_ns,
            done_ns,
            ..Completion::default()
        });
    }
    let started_unix_ms = 1_795_269_600_000;
    Recorder::merge(vec![recorder], RunFacts { elapsed_ns: 3 * S, started_unix_ms, ..RunFacts::default() })
}
