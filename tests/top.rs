//! `ucaffeine top`, as a person sees it and as a program reads it.

mod instance_support;
mod support;

use instance_support::Home;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use support::{Client, Launch, no_forks, skip_or_fail, wait_until};

/// Requests without end, until it is dropped.
struct Traffic {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Traffic {
    fn start(addr: SocketAddr) -> Traffic {
        let over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let mut client = Client::connect(addr);
            while !told.load(SeqCst) {
                client.get("/a.txt").expect(200);
                client.get("/missing").expect(404);
            }
        });
        Traffic { over, thread: Some(thread) }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.over.store(true, SeqCst);
        let ended = self.thread.take().expect("it runs").join();
        assert!(ended.is_ok() || std::thread::panicking(), "every request is answered");
    }
}

fn shop(home: &Home) -> SocketAddr {
    home.content("shop", "a.txt", "hello");
    home.script("shop", "cgi-bin/long.sh", "echo 'Content-Type: text/plain'; echo; echo begun; sleep 600");
    home.run(["-D", "-n", "shop", "-p", "0", "--access-log", "off"]).expect(0).addr()
}

#[test]
fn one_object_for_a_program() {
    let home = Home::new();
    let addr = shop(&home);
    let mut held = Client::connect(addr);
    held.head(&["GET /cgi-bin/long.sh HTTP/1.1", "Host: {host}"]);
    held.read_until(b"begun");
    let traffic = Traffic::start(addr);
    let look = || -> Value {
        serde_json::from_str(&home.run(["top", "-n", "shop", "--json", "-i", "200ms"]).expect(0).stdout).expect("JSON")
    };
    let path = |seen: &Value, path: &str| {
        let paths = seen["paths"].as_array().expect("a list").clone();
        paths.into_iter().find(|row| row["path"] == path)
    };
    let mut seen = Value::Null;
    wait_until("a look sees the traffic", || {
        seen = look();
        seen["requests_per_s"].as_f64() > Some(0.0)
            && path(&seen, "/a.txt").is_some()
            && path(&seen, "/missing").is_some()
    });
    drop(traffic);
    assert_eq!((&seen["name"], &seen["state"]), (&"shop".into(), &"serving".into()));
    assert_eq!(seen["pid"], home.row("shop")["pid"]);
    let cores = seen["cores"].as_array().expect("a list");
    assert_eq!(Some(cores.len() as u64), home.row("shop")["cores"].as_u64());
    for core in cores {
        assert!(core["load"].as_f64().is_some_and(|load| (0.0..=1.0).contains(&load)), "{core}");
        assert!(core["enters_per_s"].is_f64() && core["completions_per_enter"].is_f64(), "{core}");
    }
    let server = &seen["latency"]["server"];
    assert!(server["count"].as_u64() > Some(0), "{seen:#}");
    let parts = ["p50_ns", "p90_ns", "p99_ns", "p99.9_ns"].map(|part| server[part].as_u64().expect("a time"));
    assert!(parts.is_sorted() && parts[0] > 0, "{parts:?}");
    assert!(seen["replies_per_s"]["2xx"].as_f64() > Some(0.0) && seen["replies_per_s"]["4xx"].as_f64() > Some(0.0));
    assert_eq!((seen["cgi_running"].as_u64(), seen["in_flight"].as_u64() >= Some(1)), (Some(1), true), "{seen:#}");
    let scripts = seen["scripts"].as_array().expect("a list");
    assert_eq!(scripts.len(), 1, "{seen:#}");
    let pid = scripts[0]["pid"].as_i64().expect("a pid");
    let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).expect("it runs");
    assert!(
        line.contains("long.sh") && scripts[0]["path"].as_str().is_some_and(|path| path.ends_with("cgi-bin/long.sh"))
    );
    drop(held);
    home.run(["-s", "-n", "shop"]).expect(0);
}

#[test]
fn one_table_where_there_is_no_terminal() {
    let home = Home::new();
    shop(&home);
    for args in [&["top", "-n", "shop", "--once", "-i", "100ms"][..], &["top", "-i", "100ms"]] {
        let said = home.run(args.iter().copied()).expect(0);
        for part in ["shop (pid ", "serving for", "CORE  LOAD", "LATENCY", "p99.9", "req/s", "in flight"] {
            assert!(said.stdout.contains(part), "{part} in:\n{}", said.stdout);
        }
        assert!(!said.stdout.contains('\u{1b}') && said.stderr.is_empty(), "{said:#?}");
    }
    home.run(["-s", "-n", "shop"]).expect(0);
}

#[test]
fn what_cannot_be_watched_has_a_clear_line() {
    let home = Home::new();
    let said = home.run(["top", "-n", "shop", "--once"]).expect(1);
    assert_eq!(said.stderr, "ucaffeine: no instance shop is running\n");
    let said = home.run(["top"]).expect(1);
    assert_eq!(said.stderr, "ucaffeine: no instance is running\n");
    home.run(["top", "-n", "../shop"]).expect(2);
    home.run(["top", "-n", "shop", "-i", "1ms"]).expect(2);
    for name in ["a", "b"] {
        home.run(["-D", "-n", name, "-p", "0", "-w", "1"]).expect(0);
    }
    let said = home.run(["top", "--once"]).expect(1);
    assert!(said.stderr.contains("-n NAME"), "{}", said.stderr);
    for name in ["a", "b"] {
        home.run(["-s", "-n", name]).expect(0);
    }
    assert!(home.run(["top", "--help"]).expect(0).stdout.contains("--interval"));
}

#[test]
fn it_draws_pauses_and_leaves_the_terminal_as_it_was() {
    if !skip_or_fail("script") {
        return;
    }
    let home = Home::new();
    let addr = shop(&home);
    let traffic = Traffic::start(addr);
    let mut terminal = Terminal::start(&home, "");
    terminal.wait_for("the first line", |lines| lines[0].starts_with("ucaffeine top  shop (pid "));
    terminal.wait_for("numbers", |lines| lines[1].contains("req/s") && !lines[1].starts_with("0 req/s"));
    terminal.wait_for("a path", |lines| lines.iter().any(|line| line.contains("/a.txt")));
    terminal
        .wait_for("percentiles", |lines| lines.iter().any(|line| line.starts_with("server ") && line.contains(" us")));
    terminal.press("s").wait_for("another order", |lines| lines[23].contains("sort: count"));
    terminal
        .press("?")
        .wait_for("help", |lines| lines.iter().any(|line| line.contains("CPU time of the core's thread")));
    terminal.press("?").wait_for("no help", |lines| !lines.iter().any(|line| line.contains("CPU time of the core")));
    terminal.press("p").wait_for("a pause", |lines| lines[23].ends_with("PAUSED"));
    assert!(terminal.raw().contains("\u{1b}[38;5;"), "there is colour");
    terminal.press("q");
    let after = terminal.ended();
    assert!(after.contains("ended=0"), "{after}");
    for mode in ["icanon", "echo", "isig", "opost"] {
        assert!(after.split([' ', ';', '\r', '\n']).any(|word| word == mode), "the terminal is not as it was: {after}");
    }
    drop(traffic);
    home.run(["-s", "-n", "shop"]).expect(0);
}

#[test]
fn an_instance_that_ends_is_waited_for() {
    if !skip_or_fail("script") {
        return;
    }
    let home = Home::new();
    shop(&home);
    let mut terminal = Terminal::start(&home, "NO_COLOR=1");
    terminal.wait_for("the first line", |lines| lines[0].contains("serving"));
    home.run(["-s", "-n", "shop"]).expect(0);
    terminal.wait_for("that it has ended", |lines| lines[0].contains("no instance shop is running; waiting for it"));
    home.run(["-D", "-n", "shop", "-p", "0"]).expect(0);
    let pid = home.pid("shop");
    terminal.wait_for("the new one", |lines| lines[0].contains(&format!("(pid {pid})  serving")));
    let raw = terminal.raw();
    assert!(!raw.contains("\u{1b}[38;") && !raw.contains("\u{1b}[31m"), "NO_COLOR is heeded");
    terminal.press("q");
    assert!(terminal.ended().contains("ended=0"));
    home.run(["-s", "-n", "shop"]).expect(0);
}

/// `ucaffeine top` in a pseudo-terminal of 80 by 24, by script(1).
struct Terminal {
    child: Child,
    keys: ChildStdin,
    output: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    #[track_caller]
    fn start(home: &Home, variables: &str) -> Terminal {
        let binary = Launch::binary().display();
        let typed = format!(
            "stty rows 24 cols 80; {variables} '{binary}' top -n shop -i 100ms; echo ended=$?; stty -a; echo over"
        );
        // The variables of the home, by way of a command that it would run.
        let mut command: Command = home.wrapped(["script", "-qec", &typed, "/dev/null"]);
        let mut child = {
            let _quiet = no_forks();
            command.env("TERM", "xterm-256color").env("SHELL", "/bin/sh");
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("script(1)")
        };
        let output = Arc::new(Mutex::new(Vec::new()));
        let (mut from, into) = (child.stdout.take().expect("stdout"), Arc::clone(&output));
        std::thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut part) {
                into.lock().expect("output").extend_from_slice(&part[..count]);
            }
        });
        let keys = child.stdin.take().expect("stdin");
        Terminal { child, keys, output }
    }

    fn raw(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().expect("output")).into_owned()
    }

    #[track_caller]
    fn wait_for(&mut self, what: &str, shows: impl Fn(&[String]) -> bool) -> &mut Terminal {
        let seen =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| wait_until(what, || shows(&screen(&self.raw())))));
        if seen.is_err() {
            panic!("{what} was never shown:\n{}", screen(&self.raw()).join("\n"));
        }
        self
    }

    #[track_caller]
    fn press(&mut self, key: &str) -> &mut Terminal {
        self.keys.write_all(key.as_bytes()).and_then(|()| self.keys.flush()).expect("a key");
        self
    }

    /// What came after the view.
    #[track_caller]
    fn ended(mut self) -> String {
        wait_until("it has ended", || self.raw().contains("\nover\r\n"));
        let _ = self.child.wait();
        let raw = self.raw();
        let (drawn, after) = raw.rsplit_once("\u{1b}[?1049l").expect("the other screen is left");
        assert!(drawn.contains("\u{1b}[?1049h"), "it was entered");
        after.to_owned()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What 80 by 24 cells show after that output: text, cursor moves and clearing; colours say nothing here.
fn screen(raw: &str) -> Vec<String> {
    let mut cells = vec![vec![' '; 80]; 24];
    let (mut row, mut column) = (0_usize, 0_usize);
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => {
                if chars.next() != Some('[') {
                    continue;
                }
                let mut given = String::new();
                let verb = loop {
                    match chars.next() {
                        Some(c @ ('@'..='~')) => break c,
                        Some(c) => given.push(c),
                        None => break ' ',
                    }
                };
                let mut numbers = given.split(';').map(|number| number.parse::<usize>().unwrap_or(1).max(1) - 1);
                match verb {
                    'H' => (row, column) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)),
                    'J' => cells.iter_mut().for_each(|row| row.fill(' ')),
                    _ => {}
                }
            }
            '\r' => column = 0,
            '\n' => row += 1,
            c => {
                if let Some(cell) = cells.get_mut(row).and_then(|row| row.get_mut(column)) {
                    *cell = c;
                }
                column += 1;
            }
        }
    }
    cells.into_iter().map(|row| row.into_iter().collect::<String>().trim_end().to_owned()).collect()
}
