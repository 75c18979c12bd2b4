//! The real binary: words in, an exit code and text out.

use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use loadgen::sink::{Reply, Sink};

fn loadgen(words: &[&str]) -> Output {
    // A debug build refuses to run unless it is told that its rates do not matter.
    Command::new(env!("CARGO_BIN_EXE_loadgen")).args(words).output().unwrap()
}

/// A run against a sink of that script, quiet.
fn run(script: impl Fn(u64) -> Reply + Send + Sync + 'static, words: &[&str]) -> Output {
    let sink = Sink::start(Arc::new(script)).unwrap();
    let url = sink.url();
    loadgen(&[&[url.as_str(), "--unoptimised", "--quiet", "-c", "4"], words].concat())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn assert_exits(output: &Output, code: i32, says: &str) {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}\n{err}");
    assert!(out.contains(says) || err.contains(says), "`{says}` is not in\n{out}\n{err}");
}

#[test]
fn a_good_run_exits_with_0_and_its_json_can_be_shown() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("run.json");
    let path = json.to_str().unwrap();
    let good = run(|_| Reply::ok(b"hello"), &["-n", "5k", "--seed", "7", "--json", path]);
    assert_exits(&good, 0, "5,000");
    let saved: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert!(saved["requests_per_second"].as_f64().unwrap() > 0.0);
    assert_eq!(saved["measured"]["responses"], 5_000);
    assert_eq!(saved["facts"]["seed"], 7);
    assert_exits(&loadgen(&["show", path]), 0, "5,000");
}

#[test]
fn json_to_standard_output_is_all_that_is_there() {
    let output = run(|_| Reply::ok(b"hello"), &["-n", "100", "--json", "-"]);
    assert_exits(&output, 0, "requests_per_second");
    serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap();
}

#[test]
fn nobody_there_exits_with_1() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = loadgen(&[&format!("http://{free}/"), "--unoptimised", "--quiet", "-d", "1s"]);
    assert_exits(&output, 1, "refused");
    assert_eq!(text(&output.stderr).lines().count(), 1);
}

#[test]
fn what_makes_no_sense_exits_with_2_and_says_why() {
    for (words, why) in [
        (&["https://x/"][..], "TLS"),
        (&["--burst", "5"], "open loop"),
        (&["--rate", "5", "--think", "1ms"], "closed loop"),
        (&["--ramp", "1:2", "-n", "5"], "--duration"),
        (&["--src", "::1"], "family"),
        (&["--json", "-", "--csv", "-"], "standard output"),
        (&["--scenario", "/nowhere/at/all"], "cannot be read"),
        (&["--urls", "/nowhere/at/all"], "cannot be read"),
        (&["--method", "G T"], "no method"),
        (&["--conns", "9m"], "ulimit"),
        (&["--nonsense"], "--nonsense"),
        (&["--find-max"], "--slo"),
    ] {
        assert_exits(&loadgen(&[&["--unoptimised"], words].concat()), 2, why);
    }
    if cfg!(debug_assertions) {
        assert_exits(&loadgen(&["-n", "1"]), 2, "--release");
    }
}

#[test]
fn a_breached_slo_exits_with_3() {
    let slow = |_| Reply::ok(b"hello").after(Duration::from_millis(2));
    let output = run(slow, &["-n", "1k", "--slo", "p50<1ms"]);
    // A machine whose hypervisor takes time away makes no valid run.
    if !text(&output.stdout).contains("hypervisor") {
        assert_exits(&output, 3, "p50<1ms");
    }
    let hopeless = ["--find-max", "--slo", "max<1ns", "-d", "50ms", "--warmup", "0s"];
    assert_exits(&run(|_| Reply::ok(b"hello"), &hopeless), 3, "not even one request a second");
}

#[test]
fn errors_make_a_run_invalid_and_it_exits_with_4() {
    let broken = |number| match number % 2 {
        0 => Reply::ok(b"hello"),
        _ => Reply { bytes: b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n".to_vec(), ..Reply::ok(b"") },
    };
    let output = run(broken, &["-n", "1k"]);
    assert_exits(&output, 4, "INVALID");
    assert!(text(&output.stdout).lines().next().unwrap().contains("INVALID"), "said first: {}", text(&output.stdout));
    assert_exits(&run(broken, &["-n", "1k", "--max-errors", "1k"]), 0, "bad-status");
}

#[test]
fn a_scenario_is_played_by_its_weights_with_results_by_url() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let scenario = "[[request]]\nweight = 3\npath = \"/a\"\nexpect = { status = 200, length = 5, crc32 = \"3610a686\" }\n\
                    [[request]]\npath = \"/b\"\n";
    let output =
        run(|_| Reply::ok(b"hello"), &["-n", "4k", "--scenario", &write("scenario.toml", scenario), "--json", "-"]);
    assert_exits(&output, 0, "");
    let saved: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let responses = |number: usize| saved["urls"][number]["tally"]["responses"].as_u64().unwrap();
    assert_eq!(responses(0) + responses(1), 4_000);
    // 3,000, with a deviation of 27.
    assert!((2_850..3_150).contains(&responses(0)), "{}", responses(0));
    let urls = run(|_| Reply::ok(b"hello"), &["-n", "100", "--urls", &write("urls.txt", "# two\n/a\n/b\n")]);
    assert_exits(&urls, 0, "/b");
}

#[test]
fn the_server_is_watched() {
    let pid = std::process::id().to_string();
    let output = run(|_| Reply::ok(b"hello"), &["-n", "20k", "--server-pid", &pid, "--json", "-"]);
    assert_exits(&output, 0, "");
    let saved: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let server = &saved["facts"]["server"];
    assert!(server["context_switches"].as_u64().unwrap() > 0 && server["rss_bytes"].as_u64().unwrap() > 0, "{server}");
}

/// What it finds about time is this machine's, at this moment, and no test's business; what it counts is exact.
#[test]
fn selfcheck_says_what_it_found_of_each_and_counts_to_the_request() {
    let output = loadgen(&["selfcheck", "--unoptimised"]);
    let found = text(&output.stdout);
    let (good, all) = (found.lines().filter(|line| line.starts_with("ok ")).count(), found.lines().count());
    assert_eq!(all, 7, "{found}");
    assert_eq!(output.status.success(), good == all, "{found}");
    assert!(found.contains("ok   every request is counted once"), "{found}");
}
