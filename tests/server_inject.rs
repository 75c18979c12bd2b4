//! The hidden flags by which the gate proves that it finds a slower server (docs/gate.md): they do what they say. Only what is
//! longer than it would be is looked at: a busy machine makes nothing shorter.

mod support;

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use support::{Launch, Server, Site};

const REQUESTS: u32 = 20;

fn site() -> Site {
    Site::new().file("index.html", "home")
}

/// user and system of the process, all threads (proc_pid_stat(5), fields 14 and 15).
fn cpu(pid: i32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the server's stat");
    let (_, after_name) = stat.rsplit_once(") ").expect("a name");
    let ticks: u64 = after_name.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().expect("ticks")).sum();
    Duration::from_millis(ticks * 1_000 / rustix::param::clock_ticks_per_second())
}

#[test]
fn a_delay_of_all_comes_before_every_answer() {
    let site = site();
    let server = Server::start(&site, ["--cores", "1", "--inject-delay", "20ms:1"]);
    let mut client = server.connect();
    for _ in 0..REQUESTS {
        let start = Instant::now();
        assert_eq!(client.get("/").expect(200).text(), "home");
        assert!(start.elapsed() >= Duration::from_millis(20), "{:?}", start.elapsed());
    }
    server.stop();
}

#[test]
fn a_delay_of_some_comes_to_some() {
    let site = site();
    let server = Server::start(&site, ["--cores", "1", "--inject-delay", "50ms:0.5"]);
    let mut client = server.connect();
    let took: Vec<Duration> = (0..2 * REQUESTS)
        .map(|_| {
            let start = Instant::now();
            client.get("/").expect(200);
            start.elapsed()
        })
        .collect();
    // The draw is from a fixed seed, which gives about twenty of forty.
    let delayed = took.iter().filter(|took| **took >= Duration::from_millis(50)).count();
    assert!(delayed >= 10, "{took:?}");
    server.stop();
}

#[test]
fn a_spin_is_time_of_the_cpu() {
    let site = site();
    let server = Server::start(&site, ["--cores", "1", "--inject-spin", "20ms"]);
    let mut client = server.connect();
    let before = cpu(server.pid());
    for _ in 0..REQUESTS {
        client.get("/").expect(200);
    }
    let used = cpu(server.pid()) - before;
    // 400 ms by the clock, of which it may be off its CPU for most; twenty plain answers are less than one of these.
    assert!(used >= Duration::from_millis(40), "{used:?}");
    server.stop();
}

#[test]
fn they_are_in_no_help_and_refuse_nonsense() {
    let help = Command::new(Launch::binary()).arg("--help").output().expect("it runs");
    assert!(!String::from_utf8_lossy(&help.stdout).contains("inject"));
    for bad in [["--inject-delay", "200us"], ["--inject-delay", "1us:2"], ["--inject-spin", "1s"]] {
        let output = Command::new(Launch::binary()).args(bad).output().expect("it runs");
        assert_eq!(output.status.code(), Some(2), "{bad:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(bad[0]), "{bad:?}");
    }
}
