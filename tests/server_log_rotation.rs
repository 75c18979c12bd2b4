//! Logs that are moved away while they are written: by SIGUSR1, by the control socket, and as logrotate does it. No record is lost,
//! and none is in both.

mod instance_support;
mod support;

use instance_support::Home;
use rustix::process::Signal;
use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use support::{Server, Site, run, wait_until};

const REOPENED: &str = "the logs were opened again";

/// The targets in a log, in its order.
fn targets(log: &Path) -> Vec<String> {
    let text = fs::read_to_string(log).unwrap_or_default();
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    let target = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        value["target"].as_str().expect("a target").to_owned()
    };
    text.lines().map(target).collect()
}

/// Clients that ask for something else each time, until they are told to stop; how many answers they got.
fn under_load(server: &Server, during: impl FnOnce()) -> usize {
    let (stop, answers) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for client in 0..4 {
            let (stop, answers) = (&stop, &answers);
            scope.spawn(move || {
                let mut connection = server.connect();
                let mut number = 0;
                while !stop.load(Ordering::Relaxed) {
                    connection.get(&format!("/a.txt?{client}-{number}")).expect(200);
                    answers.fetch_add(1, Ordering::Relaxed);
                    number += 1;
                }
            });
        }
        // Whatever happens there, the clients end.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(during));
        stop.store(true, Ordering::Relaxed);
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    answers.into_inner()
}

#[test]
fn twenty_renames_under_load_lose_nothing_and_repeat_nothing() {
    let site = Site::new().file("a.txt", "aaaa");
    let dir = tempfile::tempdir().expect("a folder");
    let log = dir.path().join("access.log");
    let path = log.to_str().expect("UTF-8");
    // Room for all of it: that a machine is too busy to write is another test's matter.
    let room = ["--access-log-buffer-bytes-max", "1GiB"];
    let args = ["--cores", "2", "--access-log", path, "--access-log-format", "json"];
    let server = Server::start(&site, args.into_iter().chain(room));
    let moved = |number: usize| dir.path().join(format!("access.log.{number}"));
    let answers = under_load(&server, || {
        for number in 1..=20 {
            wait_until("something is written", || fs::metadata(&log).is_ok_and(|facts| facts.len() > 0));
            fs::rename(&log, moved(number)).expect("rename");
            server.signal(Signal::USR1);
            wait_until("it is opened again", || server.output().matches(REOPENED).count() == number);
            // From here on the old one does not change: it may be compressed.
            assert!(log.exists());
        }
    });
    let sealed: Vec<u64> = (1..=20).map(|number| fs::metadata(moved(number)).expect("a log").len()).collect();
    server.stop();
    let now: Vec<u64> = (1..=20).map(|number| fs::metadata(moved(number)).expect("a log").len()).collect();
    assert_eq!(sealed, now, "nothing was written to an old log");
    let logs = (1..=20).map(moved).chain([log]);
    let all: Vec<String> = logs.flat_map(|log| targets(&log)).collect();
    assert_eq!(all.len(), answers);
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), answers, "none twice");
}

#[test]
fn a_log_that_cannot_be_opened_again_is_said_and_the_old_one_goes_on() {
    let site = Site::new().file("a.txt", "aaaa");
    let dir = tempfile::tempdir().expect("a folder");
    let log = dir.path().join("logs/access.log");
    fs::create_dir(dir.path().join("logs")).expect("mkdir");
    let server = Server::start(&site, ["--access-log", log.to_str().expect("UTF-8"), "--access-log-format", "json"]);
    server.get("/a.txt?1").expect(200);
    fs::rename(dir.path().join("logs"), dir.path().join("old")).expect("rename");
    server.signal(Signal::USR1);
    wait_until("it is said", || server.output().contains("it goes on in the old one"));
    assert!(server.output().contains(&format!("cannot open the access log {}", log.display())));
    server.get("/a.txt?2").expect(200);
    server.stop();
    assert_eq!(targets(&dir.path().join("old/access.log")), ["/a.txt?1", "/a.txt?2"]);
}

#[test]
fn the_signal_does_no_harm_where_there_is_no_log() {
    let site = Site::new().file("a.txt", "aaaa");
    for args in [&[][..], &["--access-log", "-"]] {
        let server = Server::start(&site, args.iter().copied());
        server.signal(Signal::USR1);
        wait_until("it is said", || server.output().contains(REOPENED));
        server.get("/a.txt").expect(200);
        let output = server.stop();
        assert_eq!(output.matches("\"GET /a.txt HTTP/1.1\" 200 4").count(), usize::from(!args.is_empty()), "{output}");
    }
}

/// The log of an instance in the background, which is both of its outputs; by the control socket.
#[test]
fn the_log_of_an_instance_is_moved_and_opened_again() {
    let home = Home::new();
    home.content("api", "a.txt", "aaaa");
    let addr = home.run(["-D", "-n", "api", "-p", "0", "--access-log-format", "json"]).expect(0).addr();
    let get = |number: usize| {
        let target = format!("/a.txt?{number}");
        support::Client::connect(addr).get(&target).expect(200);
        format!("\"target\":\"{target}\"")
    };
    let (log, old) = (home.log("api"), home.log("api").with_extension("1"));
    let has = |log: &Path, what: &str| fs::read_to_string(log).unwrap_or_default().contains(what);
    let first = get(1);
    wait_until("it is written", || has(&log, &first));
    fs::rename(&log, &old).expect("rename");
    home.run(["-n", "api", "--reopen-logs"]).expect(0);
    let second = get(2);
    wait_until("it is written", || has(&log, &second) && has(&log, REOPENED));
    assert!(!has(&old, &second) && !has(&log, &first));
    assert!(home.run(["-l", "-n", "api"]).expect(0).stdout.contains(&second), "the log is where it was");
    home.run(["-s", "-n", "api"]).expect(0);
    let said = home.run(["-n", "api", "--reopen-logs"]).expect(1);
    assert!(said.stderr.contains("no instance api is running"), "{said:?}");
}

/// The example of docs/logs.md, by logrotate itself.
#[test]
fn logrotate_with_the_example_of_the_documentation() {
    // Its package brings a cron daemon along: no test is worth that.
    if support::on_path("logrotate").is_none() {
        return support::not_here("logrotate is not installed");
    }
    let page = include_str!("../docs/logs.md");
    let example = page.split("```logrotate\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let home = Home::new();
    home.content("api", "a.txt", "aaaa");
    let log = home.path().join("api.log");
    let args = ["-D", "-n", "api", "-p", "0", "--access-log-format", "json", "--access-log"];
    let addr = home.run(args.into_iter().chain([log.to_str().expect("UTF-8")])).expect(0).addr();
    let get = |number: usize| drop(support::Client::connect(addr).get(&format!("/a.txt?{number}")).expect(200));
    get(1);
    wait_until("it is written", || targets(&log) == ["/a.txt?1"]);
    // What is this machine's: where the log is, the binary and its folders; and that nobody else is about.
    let run_folder = home.path().join("run");
    let binary = support::Launch::binary().display();
    let command = format!("XDG_RUNTIME_DIR={} {binary} --reopen-logs", run_folder.display());
    let config = example
        .replace("/var/log/ucaffeine/*.log", &log.display().to_string())
        .replace("ucaffeine --reopen-logs", &command)
        .lines()
        .filter(|line| !line.trim_start().starts_with("su "))
        .collect::<Vec<_>>()
        .join("\n");
    assert!(config.contains(&command), "the example has the command: {config}");
    let file = home.path().join("logrotate.conf");
    fs::write(&file, config + "\n").expect("a file");
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("chmod");
    let state = home.path().join("logrotate.state");
    let rotated = run(Command::new("logrotate").arg("--force").arg("--state").arg(&state).arg(&file));
    assert!(rotated.status.success(), "{rotated:?}");
    get(2);
    wait_until("it is written", || targets(&log) == ["/a.txt?2"]);
    home.run(["-s", "-n", "api"]).expect(0);
    let old = fs::read_dir(home.path()).expect("the folder").flatten().map(|entry| entry.path());
    let old: Vec<_> = old.filter(|path| path.display().to_string().contains("api.log.")).collect();
    assert_eq!(old.len(), 1, "{old:?}");
}
