//! What seed 000 claims.

mod common;

use std::collections::BTreeSet;
use std::os::unix::fs::FileTypeExt;

use common::{Model, WORKERS, family, help, hold, launch, raw, site, support, wait_until};
use rustix::process::{Pid, Signal, kill_process};

const NAME: &str = "prefork-fdpass";

#[test]
fn every_worker_serves() {
    let site = site();
    let model = Model::start(NAME, &site, &[]);
    let workers: BTreeSet<i32> = model.workers().into_iter().collect();
    assert_eq!(workers.len(), WORKERS);
    let mut served = BTreeSet::new();
    while served != workers {
        let mut clients: Vec<_> = (0..WORKERS).map(|_| model.connect()).collect();
        for client in &mut clients {
            client.head(&["GET /cgi-bin/nph-parent HTTP/1.1", "Host: h"]);
        }
        for mut client in clients {
            let reply = String::from_utf8(client.read_to_end()).expect("text");
            let parent = reply.rsplit('\n').next().and_then(|pid| pid.parse().ok()).expect("a pid");
            assert!(workers.contains(&parent), "{parent} is no worker of {workers:?}");
            served.insert(parent);
        }
    }
    model.stop();
}

#[test]
fn the_ipc_socket_is_where_it_was_asked_for() {
    let site = site();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("workers.sock");
    let named = path.to_str().expect("UTF-8");
    let is_socket = || path.symlink_metadata().is_ok_and(|found| found.file_type().is_socket());
    let model = Model::start(NAME, &site, &["--ipc-socket", named]);
    assert!(is_socket());
    model.stop();
    assert!(!path.exists(), "it is gone with its server");

    // Left behind by a server that was killed.
    drop(std::os::unix::net::UnixListener::bind(&path).expect("bind"));
    assert!(is_socket());
    Model::start(NAME, &site, &["--ipc-socket", named]).stop();

    std::fs::write(&path, "mine").expect("write");
    let exit = launch(NAME, &site).args(["--ipc-socket", named]).fails();
    assert_eq!(exit.code, Some(1));
    assert!(exit.output.contains(named), "{}", exit.output);
    assert_eq!(std::fs::read_to_string(&path).expect("read"), "mine");
}

#[test]
fn a_busy_worker_is_passed_over() {
    let site = site();
    let model = Model::start(NAME, &site, &[]);
    let held: Vec<_> = (1..WORKERS).map(|_| hold(&model)).collect();
    for _ in 0..20 {
        model.get("/a.txt").expect(200);
    }
    for mut client in held {
        assert_eq!(client.send("\r\n").read().expect(200).text(), "alpha");
    }
    model.stop();
}

#[test]
fn the_program_answers_every_request() {
    let site = site();
    let program = site.at("cgi-bin/nph-echo");
    let model = Model::start(NAME, &site, &["--program", program.to_str().expect("UTF-8")]);
    for target in ["/", "/a.txt", "/any/where?at=all"] {
        assert!(raw(&model, target).ends_with("\r\n\r\nGET:"), "{target}");
    }
    model.stop();
    let exit = launch(NAME, &site).args(["--program", "/no/such/program"]).fails();
    assert_eq!(exit.code, Some(1));
    assert!(exit.output.contains("/no/such/program"), "{}", exit.output);
}

#[test]
fn a_crashing_program_harms_nobody() {
    let site = site();
    let model = Model::start(NAME, &site, &[]);
    let before = model.workers();
    for _ in 0..2 * WORKERS {
        assert_eq!(raw(&model, "/cgi-bin/nph-crash"), "");
    }
    assert_eq!(model.workers(), before);
    model.get("/a.txt").expect(200);
    model.stop();
}

#[test]
fn the_defaults_are_the_seeds() {
    let help = help(NAME);
    for default in ["[default: 8080]", "[default: 4]", "--program", "--ipc-socket"] {
        assert!(help.contains(default), "{default} is not in:\n{help}");
    }
}

#[test]
fn a_killed_worker_is_replaced() {
    let site = site();
    let model = Model::start(NAME, &site, &[]);
    for round in 0..3 {
        let before = model.workers();
        let mut held = hold(&model);
        let mut others = Vec::new();
        if round == 2 {
            // All of them, busy or not.
            others = before[1..].to_vec();
        }
        for pid in others.iter().chain(&before[..1]) {
            kill_process(Pid::from_raw(*pid).expect("a pid"), Signal::KILL).expect("kill");
        }
        // Whoever had it: this client is answered or cut, and everybody else is served. (Until a killed worker is dead, its
        // channel takes one client more, which is lost with it.)
        let _ = held.try_send("\r\n");
        let _ = held.read_to_end();
        let killed = || before[..1].iter().chain(&others);
        wait_until("the killed are dead", || {
            let children = support::children(model.pid());
            killed().all(|pid| children.iter().all(|(child, state)| child != pid || *state == 'Z'))
        });
        for _ in 0..10 {
            model.get("/a.txt").expect(200);
        }
        wait_until("another has taken its place", || {
            let now = model.workers();
            now.len() == WORKERS && !now.contains(&before[0])
        });
        wait_until("all dead are reaped", || support::children(model.pid()).iter().all(|(_, state)| *state != 'Z'));
    }
    assert_eq!(family(model.pid()).len(), 1 + WORKERS);
    model.stop();
}
