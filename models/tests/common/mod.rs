//! What the models' tests share: the server's own test support, a model started by name, and a look at what it leaves behind.
#![allow(dead_code, reason = "each test binary compiles its own copy and uses a part of it")]

#[path = "../../../tests/support/mod.rs"]
pub mod support;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

pub use support::{Client, Launch, Server, Site, noise, wait_until};

/// A model as a test runs it.
pub struct Model {
    server: Option<Server>,
    /// Descriptors and threads of every process when it had just started.
    before: Held,
}

/// What a process tree holds.
#[derive(Debug, PartialEq, Eq)]
pub struct Held {
    processes: usize,
    descriptors: usize,
    threads: usize,
}

/// Few workers: most tests need two, to see that they are not one.
pub const WORKERS: usize = 3;

impl Model {
    /// `models NAME DIR --port 0 --workers 3` and what else is given.
    #[track_caller]
    pub fn start(name: &str, site: &Site, args: &[&str]) -> Model {
        let server = launch(name, site).args(["--workers", &WORKERS.to_string()]).args(args.iter().copied()).start();
        // The banner comes before the last worker.
        let mut before = held(server.pid());
        wait_until("the model has started all that it starts", || {
            std::thread::sleep(std::time::Duration::from_millis(30));
            let now = held(server.pid());
            std::mem::replace(&mut before, now) == before
        });
        let before = held(server.pid());
        Model { server: Some(server), before }
    }

    /// Ends it by SIGINT, as a person would, after looking for what it still holds: every test ends with this.
    #[track_caller]
    pub fn stop(mut self) -> String {
        let server = self.server.take().expect("it runs");
        let mut now = held(server.pid());
        let start = std::time::Instant::now();
        while now != self.before {
            assert!(start.elapsed() < support::HANG, "it holds {now:?}, and began with {:?}", self.before);
            std::thread::sleep(std::time::Duration::from_millis(10));
            now = held(server.pid());
        }
        let family = family(server.pid());
        server.signal(rustix::process::Signal::INT);
        let exit = server.wait();
        assert_eq!(exit.code, Some(0), "exit code after SIGINT; it said:\n{}", exit.output);
        let left: Vec<i32> = family.into_iter().filter(|pid| fs::metadata(format!("/proc/{pid}")).is_ok()).collect();
        assert!(left.is_empty(), "processes left behind: {left:?}");
        exit.output
    }

    /// It was told to end: it does, cleanly.
    #[track_caller]
    pub fn ended(mut self) -> String {
        let server = self.server.take().expect("it runs");
        let exit = server.wait();
        assert_eq!(exit.code, Some(0), "it said:\n{}", exit.output);
        exit.output
    }

    /// Its worker processes.
    pub fn workers(&self) -> Vec<i32> {
        support::children(self.pid()).into_iter().map(|(pid, _)| pid).collect()
    }
}

impl std::ops::Deref for Model {
    type Target = Server;

    fn deref(&self) -> &Server {
        self.server.as_ref().expect("it runs")
    }
}

/// The command, with nothing but the folder and a free port.
pub fn launch(name: &str, site: &Site) -> Launch {
    let mut command = Command::new(env!("CARGO_BIN_EXE_models"));
    command.arg(name);
    Launch::bare(command, site.root()).arg_os(site.root()).args(["--port", "0"])
}

/// A process and all that descend from it.
pub fn family(pid: i32) -> BTreeSet<i32> {
    let mut found = BTreeSet::from([pid]);
    let mut unseen = vec![pid];
    while let Some(parent) = unseen.pop() {
        let children = support::children(parent).into_iter().map(|(child, _)| child);
        unseen.extend(children.filter(|child| found.insert(*child)));
    }
    found
}

fn held(pid: i32) -> Held {
    let count = |pid: i32, what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).map_or(0, Iterator::count);
    let family = family(pid);
    Held {
        processes: family.len(),
        descriptors: family.iter().map(|pid| count(*pid, "fd")).sum(),
        // The kernel's own workers of a ring come and go.
        threads: family.iter().map(|pid| threads(*pid)).sum(),
    }
}

fn threads(pid: i32) -> usize {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| !name.starts_with("iou-")).count()
}

/// What `models NAME --help` says.
pub fn help(name: &str) -> String {
    let output = support::run(Command::new(env!("CARGO_BIN_EXE_models")).args([name, "--help"]));
    String::from_utf8(output.stdout).expect("text")
}

/// A request that its server waits for the end of.
pub fn hold(model: &Model) -> Client {
    let mut client = model.connect();
    client.send("GET /a.txt HTTP/1.1\r\nHost: h\r\n");
    client
}

/// Waits until nothing more arrives at clients that do not read: their sockets, and those of the model, hold what they can.
pub fn until_full(clients: &[&Client]) {
    let arrived = || clients.iter().map(|client| client.arrived()).collect::<Vec<_>>();
    let mut before = arrived();
    wait_until("the sockets are full", || {
        std::thread::sleep(std::time::Duration::from_millis(50));
        let now = arrived();
        now.iter().all(|bytes| *bytes > 0) && std::mem::replace(&mut before, now.clone()) == now
    });
}

/// Everything that comes back: a program writes what it likes.
#[track_caller]
pub fn raw(model: &Model, target: &str) -> String {
    let request = format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
    String::from_utf8(model.connect().send(request).read_to_end()).expect("text")
}

/// A site that every model can serve.
pub fn site() -> Site {
    Site::new()
        .file("index.html", "home")
        .file("a.txt", "alpha")
        .file("folder/index.html", "inside")
        .file("static/large.bin", noise(3_000_000))
        .file("dynamic/large.bin", noise(3_000_000))
        .file("dynamic/small.txt", "dynamic")
        .file("empty.txt", "")
        .file(".secret", "secret")
        .sh("cgi-bin/nph-hello", r#"printf 'HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n'"#)
        .sh("cgi-bin/nph-echo", r#"printf 'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n%s:' "$REQUEST_METHOD"; cat"#)
        .sh("cgi-bin/nph-crash", "kill -SEGV $$")
        .sh("cgi-bin/nph-parent", r#"sleep 0.1; printf 'HTTP/1.1 200 OK\r\n\r\n%s' $PPID"#)
        .sh("cgi-bin/nph-wait", r#"until [ -e go ]; do sleep 0.02; done; printf 'HTTP/1.1 200 OK\r\n\r\nwent'"#)
        .sh("cgi-bin/plain", r#"printf 'Content-Type: text/plain\r\n\r\nplain'"#)
        .script("cgi-bin/nph-broken", "#!/no/such/interpreter\n")
        .file("cgi-bin/nph-not-executable", "#!/bin/sh\n")
}
