//! Instances, as an operator has them: started, listed, looked at and stopped through the real binary.

mod instance_support;
mod support;

use instance_support::Home;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use support::{Client, wait_until};

#[test]
fn a_daemon_serves_when_its_start_returns_and_is_gone_when_its_stop_does() {
    let home = Home::new();
    home.content("api", "index.html", "home");
    let started = home.run(["-D", "-n", "api", "-p", "0", "--cores", "1"]).expect(0);
    let banner = &started.stdout;
    for part in ["instance api (pid ", "listening http://127.0.0.1:", "log ", "stop ucaffeine -s -n api stops it"] {
        assert!(banner.contains(part), "no {part:?} in {banner}");
    }
    let addr = started.addr();
    assert_eq!(Client::connect(addr).get("/").expect(200).text(), "home");
    let pid = home.pid("api");
    let stopped = home.run(["-s", "-n", "api"]).expect(0);
    assert!(stopped.stdout.contains(&format!("api (pid {pid}) has stopped; nothing was cut")), "{}", stopped.stdout);
    assert!(std::net::TcpStream::connect(addr).is_err());
    assert_eq!(home.left_running(), Vec::<String>::new());
    // And the name is free again.
    home.run(["-D", "-n", "api", "-p", "0"]).expect(0);
    home.run(["--stop", "--name", "api"]).expect(0);
}

#[test]
fn a_daemon_that_cannot_start_says_why_with_the_exit_code_of_the_foreground() {
    let home = Home::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let table: [(&[&str], i32, &str); 4] = [
        (&["-p", &port], 4, "cannot listen on 127.0.0.1:"),
        (&["-p", "0", "--config", "/nonexistent.toml"], 3, "/nonexistent.toml"),
        (&["-p", "0", "/nonexistent"], 3, "/nonexistent"),
        (&["-p", "many"], 2, "not a port"),
    ];
    for (args, code, says) in table {
        let foreground = home.run(["-n", "a"].iter().chain(args).copied()).expect(code);
        let background = home.run(["-n", "a", "-D"].iter().chain(args).copied()).expect(code);
        assert!(background.stderr.contains(says), "{}", background.stderr);
        assert_eq!(background.stderr, foreground.stderr, "the same words");
        assert_eq!(background.stdout, "");
    }
    assert_eq!(home.left_running(), Vec::<String>::new());
}

#[test]
fn usage_errors_of_instances() {
    let home = Home::new();
    for flag in ["-D", "-s", "-l", "--reset-logs", "--rollback", "-d=x"] {
        assert!(home.run([flag]).expect(2).stderr.contains("--name"), "{flag}");
    }
    for name in ["..", "a/b", "", ".a", "-"] {
        for action in ["-D", "-s", "-l", "--reset-logs", "--rollback", "--deploy=x"] {
            let name = format!("--name={name}");
            assert_eq!(home.run([action, name.as_str()]).code, Some(2), "{action} {name}");
        }
    }
    home.run(["-s", "-l", "-n", "a"]).expect(2);
    home.run(["-n", "a", "--follow"]).expect(2);
    home.run(["--json"]).expect(2);
    assert!(home.run(["-s", "-n", "a", "--timeout", "soon"]).expect(2).stderr.contains("soon"));
}

#[test]
fn a_stop_of_something_not_running_is_one_line_and_1() {
    let home = Home::new();
    let stopped = home.run(["-s", "-n", "nobody"]).expect(1);
    assert_eq!(stopped.stderr, "ucaffeine: no instance nobody is running\n");
    assert!(!home.run_folder("nobody").exists(), "looking leaves nothing");
}

#[test]
fn a_name_runs_once() {
    let home = Home::new();
    home.run(["-D", "-n", "one", "-p", "0"]).expect(0);
    for args in [&["-D", "-n", "one", "-p", "0"][..], &["-n", "one", "-p", "0"]] {
        let second = home.run(args.iter().copied()).expect(1);
        assert!(second.stderr.contains("an instance one is running already"), "{}", second.stderr);
    }
    home.run(["-D", "-n", "two", "-p", "0"]).expect(0);
    home.run(["-s", "-n", "one"]).expect(0);
    home.run(["-s", "-n", "two"]).expect(0);
}

/// Whoever starts it at the same moment: one wins, the others say so.
#[test]
fn of_many_starts_at_once_one_wins() {
    let home = Home::new();
    let codes: Vec<_> = std::thread::scope(|scope| {
        let starts: Vec<_> =
            (0..4).map(|_| scope.spawn(|| home.run(["-D", "-n", "a", "-p", "0", "--cores", "1"]).code)).collect();
        starts.into_iter().map(|start| start.join().expect("a start")).collect()
    });
    assert_eq!(codes.iter().filter(|code| **code == Some(0)).count(), 1, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| **code == Some(1)).count(), 3, "{codes:?}");
    home.run(["-s", "-n", "a"]).expect(0);
}

#[test]
fn the_list_says_what_runs() {
    let home = Home::new();
    home.content("a", "index.html", "home");
    assert_eq!(home.run(["-L", "--json"]).expect(0).stdout, "[]\n");
    let addr = home.run(["-D", "-n", "a", "-p", "0", "--cores", "2"]).expect(0).addr();
    let mut client = Client::connect(addr);
    for _ in 0..3 {
        client.get("/").expect(200);
    }
    let row = home.row("a");
    assert_eq!(row["name"], "a");
    assert_eq!(row["addresses"][0], format!("http://{addr}/"));
    assert_eq!((row["cores"].as_u64(), row["requests"].as_u64(), row["errors"].as_u64()), (Some(2), Some(3), Some(0)));
    assert_eq!((row["state"].as_str(), row["connections_open"].as_u64()), (Some("serving"), Some(1)));
    assert!(row["memory_bytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20), "{row}");
    assert!(row["uptime_s"].is_u64() && row["log"].as_str().is_some_and(|log| log.ends_with("/a/log")), "{row}");
    let table = home.run(["-L"]).expect(0).stdout;
    let words: Vec<&str> = table.lines().nth(1).expect("a row").split_whitespace().collect();
    assert_eq!(
        (words[0], words[1], words[2]),
        ("a", home.pid("a").to_string().as_str(), format!("http://{addr}/").as_str())
    );
    assert!(table.starts_with("NAME") && table.trim_end().ends_with("serving"), "{table}");
    home.run(["-s", "-n", "a"]).expect(0);
    assert_eq!(home.run(["-L", "--json"]).expect(0).stdout, "[]\n");
}

#[test]
fn errors_are_counted() {
    let home = Home::new();
    home.script("a", "cgi-bin/bad", "echo no head");
    let addr = home.run(["-D", "-n", "a", "-p", "0"]).expect(0).addr();
    Client::connect(addr).get("/cgi-bin/bad").expect(502);
    Client::connect(addr).get("/missing").expect(404);
    let row = home.row("a");
    assert_eq!((row["requests"].as_u64(), row["errors"].as_u64()), (Some(2), Some(1)), "a 404 is the client's error");
    home.run(["-s", "-n", "a"]).expect(0);
}

/// The lock is the truth: what a killed one leaves, or one of another boot, is cleaned up and nobody is signalled for it.
#[test]
fn stale_entries_are_recognised_and_cleaned() {
    let home = Home::new();
    home.run(["-D", "-n", "killed", "-p", "0"]).expect(0);
    let pid = home.pid("killed");
    let state = fs::read_to_string(home.run_folder("killed").join("state.json")).expect("its state");
    kill_process(Pid::from_raw(pid).expect("a pid"), Signal::KILL).expect("kill");
    wait_until("its lock is free", || home.run(["-L", "--json"]).expect(0).stdout == "[]\n");
    assert!(!home.run_folder("killed").exists(), "cleaned");
    // As of another boot, and with the number of a process that lives: ours.
    let us = std::process::id();
    let stale = state.replace(&format!("\"pid\":{pid}"), &format!("\"pid\":{us}"));
    assert_ne!(stale, state);
    for command in [&["-s", "-n", "killed"][..], &["-L"], &["-D", "-n", "killed", "-p", "0"]] {
        fs::create_dir_all(home.run_folder("killed")).expect("mkdir");
        fs::write(home.run_folder("killed").join("lock"), "").expect("a lock");
        fs::write(home.run_folder("killed").join("control.sock"), "").expect("a socket, or so");
        fs::write(home.run_folder("killed").join("state.json"), &stale).expect("a state");
        let code = if command[0] == "-s" { 1 } else { 0 };
        home.run(command.iter().copied()).expect(code);
    }
    home.run(["-s", "-n", "killed"]).expect(0);
}

#[test]
fn state_is_private() {
    let home = Home::new();
    home.run(["-D", "-n", "a", "-p", "0"]).expect(0);
    let mode = |path: &std::path::Path| fs::metadata(path).expect("it is there").mode() & 0o777;
    let run = home.run_folder("a");
    assert_eq!((mode(&run), mode(run.parent().expect("a parent"))), (0o700, 0o700));
    assert_eq!(mode(&run.join("control.sock")), 0o600);
    assert_eq!((mode(&run.join("lock")), mode(&run.join("state.json"))), (0o600, 0o600));
    assert_eq!((mode(&home.log("a")), mode(home.log("a").parent().expect("a parent"))), (0o600, 0o700));
    home.run(["-s", "-n", "a"]).expect(0);
}

#[test]
fn a_stop_says_what_it_had_to_cut() {
    let home = Home::new();
    home.script("a", "cgi-bin/slow", "printf 'Content-Type: text/plain\\n\\nbegun\\n'; exec sleep 600");
    let addr = home.run(["-D", "-n", "a", "-p", "0"]).expect(0).addr();
    let mut client = Client::connect(addr);
    client.send(b"GET /cgi-bin/slow HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_until("the script runs", || home.row("a")["scripts_running"] == 1);
    let stopped = home.run(["-s", "-n", "a", "--timeout", "200ms"]).expect(0);
    assert!(stopped.stdout.contains("it had to cut 1 connection and 1 script"), "{}", stopped.stdout);
    assert_eq!(home.left_running(), Vec::<String>::new());
}

#[test]
fn a_stop_waits_for_what_is_in_flight() {
    let home = Home::new();
    let go = home.path().join("go");
    let body = format!(
        "printf 'Content-Type: text/plain\\n\\n'; while [ ! -e {} ]; do sleep 0.02; done; echo done",
        go.display()
    );
    home.script("a", "cgi-bin/slow", &body);
    let addr = home.run(["-D", "-n", "a", "-p", "0"]).expect(0).addr();
    std::thread::scope(|scope| {
        let reply = scope.spawn(|| Client::connect(addr).get("/cgi-bin/slow").expect(200).text());
        wait_until("the script runs", || home.row("a")["scripts_running"] == 1);
        let stop = scope.spawn(|| home.run(["-s", "-n", "a"]).expect(0));
        wait_until("it drains", || home.row("a")["state"] == "draining");
        fs::write(&go, "").expect("the word");
        assert_eq!(reply.join().expect("a reply"), "done\n");
        assert!(stop.join().expect("a stop").stdout.contains("nothing was cut"));
    });
}

#[test]
fn one_that_does_not_answer_is_unresponsive_and_can_be_stopped() {
    let home = Home::new();
    home.run(["-D", "-n", "a", "-p", "0"]).expect(0);
    let pid = Pid::from_raw(home.pid("a")).expect("a pid");
    kill_process(pid, Signal::STOP).expect("stop");
    assert_eq!(home.row("a")["state"], "unresponsive");
    // It reads its signal when it goes on.
    std::thread::scope(|scope| {
        let stop = scope.spawn(|| home.run(["-s", "-n", "a", "--timeout", "1m"]).expect(0));
        std::thread::sleep(std::time::Duration::from_millis(100));
        kill_process(pid, Signal::CONT).expect("continue");
        assert!(stop.join().expect("a stop").stdout.contains("has stopped"));
    });
}

#[test]
fn the_log_is_shown_followed_and_emptied_while_it_is_written() {
    let home = Home::new();
    home.content("a", "index.html", "home");
    assert!(home.run(["-l", "-n", "a"]).expect(1).stderr.contains("there is no log of a"));
    let addr = home.run(["-D", "-n", "a", "-p", "0"]).expect(0).addr();
    Client::connect(addr).get("/first").expect(404);
    wait_until("the first line", || home.run(["-l", "-n", "a"]).expect(0).stdout.contains("GET /first"));
    home.run(["--reset-logs", "-n", "a"]).expect(0);
    Client::connect(addr).get("/second").expect(404);
    wait_until("the second line", || home.run(["-l", "-n", "a"]).expect(0).stdout.contains("GET /second"));
    let log = fs::read(home.log("a")).expect("the log");
    assert!(!log.contains(&0), "no hole where the first lines were");
    assert!(!String::from_utf8_lossy(&log).contains("/first"));
    let follow = home.follow("a");
    follow.wait_for("/second");
    Client::connect(addr).get("/third").expect(404);
    follow.wait_for("/third");
    home.run(["--reset-logs", "-n", "a"]).expect(0);
    Client::connect(addr).get("/fourth").expect(404);
    follow.wait_for("/fourth");
    drop(follow);
    home.run(["-s", "-n", "a"]).expect(0);
    assert!(home.run(["-l", "-n", "a"]).expect(0).stdout.contains("/fourth"), "a log outlives its instance");
}

#[test]
fn the_level_of_the_log_can_be_chosen_and_changed() {
    let home = Home::new();
    let addr = home.run(["-D", "-n", "a", "-p", "0", "--log-level", "error"]).expect(0).addr();
    let refused = || {
        let mut client = Client::connect(addr);
        client.send(b"nonsense\r\n\r\n");
        client.read().expect(400);
    };
    refused();
    wait_until("its line", || fs::read_to_string(home.log("a")).expect("the log").contains("400"));
    assert!(!fs::read_to_string(home.log("a")).expect("the log").contains("DEBUG"));
    home.run(["-l", "-n", "a", "--log-level", "debug"]).expect(0);
    refused();
    wait_until("a line of that level", || fs::read_to_string(home.log("a")).expect("the log").contains("DEBUG"));
    assert!(home.run(["-l", "-n", "a", "--log-level", "loud"]).expect(1).stderr.contains("loud is not a level"));
    assert!(home.run(["-n", "b", "-p", "0", "--log-level", "loud"]).expect(2).stderr.contains("not a level"));
    home.run(["-s", "-n", "a"]).expect(0);
    assert!(home.run(["-l", "-n", "a", "--log-level", "info"]).expect(1).stderr.contains("no instance a is running"));
}

#[test]
fn an_instance_in_the_foreground_is_one_too() {
    let home = Home::new();
    let site = support::Site::new().file("index.html", "given");
    let server = home.launch(["-n", "front", "-p", "0"]).arg_os(site.root()).start();
    assert_eq!(server.get("/").expect(200).text(), "given");
    assert_eq!(home.row("front")["state"], "serving");
    assert!(home.run(["-l", "-n", "front"]).expect(1).stderr.contains("runs in the foreground"));
    let given = home.run(["-d", "/etc/hostname", "-n", "front"]).expect(1).stderr;
    assert!(given.contains("which it was given"), "{given}");
    home.run(["-s", "-n", "front"]).expect(0);
    assert_eq!(server.wait().code, Some(0));
    assert!(!home.run_folder("front").exists());
}

/// What does not speak the protocol is told so, and hurts nobody.
#[test]
fn the_control_socket_bears_nonsense() {
    let home = Home::new();
    home.run(["-D", "-n", "a", "-p", "0"]).expect(0);
    let path = home.run_folder("a").join("control.sock");
    let say = |text: &[u8]| {
        let mut stream = std::os::unix::net::UnixStream::connect(&path).expect("the socket");
        stream.write_all(text).expect("a line");
        stream.shutdown(std::net::Shutdown::Write).expect("the end");
        let mut answer = String::new();
        let _ = std::io::Read::read_to_string(&mut stream, &mut answer);
        answer
    };
    assert!(say(b"{\"v\":9,\"verb\":\"stats\"}\n").contains("speaks version 1"));
    assert!(say(b"{\"v\":1,\"verb\":\"dance\"}\n").contains("there is no verb"));
    assert!(say(b"{\"v\":1,\"verb\":\"release\",\"number\":7}\n").contains("no such release"));
    assert_eq!(say(b"nonsense\n"), "");
    assert_eq!(say(&[b'x'; 100_000]), "");
    assert!(say(b"{\"v\":1,\"verb\":\"stats\"}\n").contains("\"ok\":true"));
    home.run(["-s", "-n", "a"]).expect(0);
}

#[test]
fn completions_know_the_flags() {
    let home = Home::new();
    for (shell, part) in [("bash", "--list-instances"), ("zsh", "--list-instances"), ("fish", "list-instances")] {
        assert!(home.run(["--completions", shell]).expect(0).stdout.contains(part), "{shell}");
    }
}

#[test]
fn a_folder_that_somebody_else_can_open_is_closed() {
    let home = Home::new();
    let parent = home.run_folder("a").parent().expect("a parent").to_owned();
    fs::create_dir_all(&parent).expect("mkdir");
    fs::set_permissions(&parent, fs::Permissions::from_mode(0o755)).expect("chmod");
    home.run(["-D", "-n", "a", "-p", "0"]).expect(0);
    assert_eq!(fs::metadata(&parent).expect("it").mode() & 0o777, 0o700);
    home.run(["-s", "-n", "a"]).expect(0);
}
