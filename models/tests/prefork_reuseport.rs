//! What seed 001 claims of its serving; its command line is `ucaffeine`'s own.

mod common;

use std::collections::BTreeSet;
use std::fs;

use common::{Model, WORKERS, help, hold, launch, raw, site, wait_until};
use rustix::process::{Pid, Signal, kill_process};

const NAME: &str = "prefork-reuseport";

/// The sockets of a process, by inode.
fn sockets(pid: i32) -> BTreeSet<String> {
    let fds = fs::read_dir(format!("/proc/{pid}/fd")).expect("a process");
    let links = fds.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok()).map(|link| link.display().to_string());
    links.filter(|link| link.starts_with("socket:")).collect()
}

/// All TCP sockets that listen, named as /proc/PID/fd names them.
fn listening() -> BTreeSet<String> {
    let table = fs::read_to_string("/proc/net/tcp").expect("the table");
    let rows = table.lines().skip(1).map(|row| row.split_ascii_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row[3] == "0A").map(|row| format!("socket:[{}]", row[9])).collect()
}

#[test]
fn every_worker_accepts_on_the_shared_listener() {
    let site = site();
    let model = Model::start(NAME, &site, &[]);
    let workers = model.workers();
    assert_eq!(workers.len(), WORKERS);
    let listeners: BTreeSet<_> = workers.iter().map(|pid| sockets(*pid)).collect();
    assert_eq!(listeners.len(), 1, "one socket, in all of them: {listeners:?}");
    let mut served = BTreeSet::new();
    while served.len() < WORKERS {
        let held: Vec<_> = (1..WORKERS).map(|_| hold(&model)).collect();
        let reply = raw(&model, "/cgi-bin/nph-parent");
        served.insert(reply.rsplit('\n').next().and_then(|pid| pid.parse::<i32>().ok()).expect("a pid"));
        drop(held);
    }
    assert_eq!(served, workers.into_iter().collect());
    model.stop();
}

#[test]
fn the_supervisor_holds_no_listener() {
    let site = site();
    let model = Model::start(NAME, &site, &[]);
    let listening = listening();
    assert!(sockets(model.workers()[0]).is_subset(&listening), "a worker's socket is one");
    assert_eq!(sockets(model.pid()).intersection(&listening).count(), 0);
    model.get("/a.txt").expect(200);
    model.stop();
}

#[test]
fn a_handler_writes_the_whole_response() {
    let site = site();
    let model = Model::start(NAME, &site, &[]);
    let reply = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n";
    assert_eq!(raw(&model, "/cgi-bin/nph-hello"), reply);
    model.stop();
}

#[test]
fn a_slow_handler_does_not_hold_its_worker() {
    let site = site();
    let model = Model::start(NAME, &site, &[]);
    let mut slow: Vec<_> = (0..2 * WORKERS).map(|_| model.connect()).collect();
    for client in &mut slow {
        client.head(&["GET /cgi-bin/nph-wait HTTP/1.1", "Host: h"]);
    }
    wait_until("all of them run", || model.scripts().len() >= 2 * WORKERS);
    assert_eq!(model.get("/a.txt").expect(200).text(), "alpha");
    site.write("cgi-bin/go", "");
    for mut client in slow {
        assert!(client.read_to_end().ends_with(b"went"));
    }
    model.stop();
}

#[test]
fn missing_and_broken_handlers() {
    let site = site();
    let model = Model::start(NAME, &site, &[]);
    model.get("/cgi-bin/nph-none").expect(404);
    model.get("/cgi-bin/nph-broken").expect(500);
    wait_until("the operator is told", || model.output().contains("nph-broken"));
    model.stop();
}

#[test]
fn a_crashing_handler_harms_nobody() {
    let site = site();
    let model = Model::start(NAME, &site, &[]);
    let before = model.workers();
    for _ in 0..2 * WORKERS {
        assert_eq!(raw(&model, "/cgi-bin/nph-crash"), "");
    }
    assert_eq!(model.workers(), before);
    model.stop();
}

#[test]
fn the_flags_are_the_seeds() {
    let help = help(NAME);
    for flag in ["--path", "--port", "[default: 8080]", "-w, --workers", "[default: 4]"] {
        assert!(help.contains(flag), "{flag} is not in:\n{help}");
    }
    let site = site();
    for (bad, named) in [(["--workers", "0"], "--workers"), (["--port", "99999"], "--port")] {
        let exit = launch(NAME, &site).args(bad).fails();
        assert_eq!(exit.code, Some(2));
        assert!(exit.output.contains(named), "{}", exit.output);
    }
    let model = Model::start(NAME, &site, &[]);
    let taken = model.addr.port().to_string();
    let exit = launch(NAME, &site).args(["--path", "."]).fails();
    assert_eq!(exit.code, Some(2), "DIR and --path are one too many");
    let exit = common::support::Launch::bare(std::process::Command::new(env!("CARGO_BIN_EXE_models")), site.root())
        .args([NAME, "--port", &taken])
        .fails();
    assert_eq!(exit.code, Some(1));
    assert!(exit.output.contains(&taken), "{}", exit.output);
    model.stop();
}

#[test]
fn a_killed_worker_is_replaced() {
    let site = site();
    let model = Model::start(NAME, &site, &[]);
    for kills in [1, 1, 2] {
        let before = model.workers();
        let mut held: Vec<_> = (0..WORKERS).map(|_| hold(&model)).collect();
        for pid in &before[..kills] {
            kill_process(Pid::from_raw(*pid).expect("a pid"), Signal::KILL).expect("kill");
        }
        let cut = held.iter_mut().filter_map(|client| client.try_send("\r\n").ok().map(|()| client.read_to_end()));
        let cut = cut.filter(|reply| reply.is_empty()).count();
        assert!(cut <= kills, "{cut} requests were lost with {kills} workers");
        drop(held);
        for _ in 0..10 {
            model.get("/a.txt").expect(200);
        }
        wait_until("others have taken their place", || {
            let now = model.workers();
            now.len() == WORKERS && before[..kills].iter().all(|dead| !now.contains(dead))
        });
        let listeners = || model.workers().into_iter().map(sockets).collect::<BTreeSet<_>>();
        wait_until("all have the one socket, and no client", || {
            let listeners = listeners();
            listeners.len() == 1 && listeners.iter().all(|sockets| sockets.len() == 1)
        });
    }
    model.stop();
}

#[test]
fn when_all_die_at_once_there_is_a_new_listener() {
    let site = site();
    let model = Model::start(NAME, &site, &[]);
    let before = model.workers();
    for pid in &before {
        kill_process(Pid::from_raw(*pid).expect("a pid"), Signal::KILL).expect("kill");
    }
    wait_until("all are new", || {
        let now = model.workers();
        now.len() == WORKERS && now.iter().all(|pid| !before.contains(pid))
    });
    assert_eq!(model.get("/a.txt").expect(200).text(), "alpha");
    model.stop();
}
