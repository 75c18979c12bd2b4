//! What seed 004 claims.

mod common;

use common::{Client, Model, WORKERS, hold, noise, site, until_full, wait_until};
use rustix::process::Signal;

const NAME: &str = "reactor-pool";

#[test]
fn a_burst_is_accepted_by_one_event() {
    const BURST: usize = 100;
    let site = site();
    let model = Model::start(NAME, &site, &[]);
    // All of them are in the backlog before the loop sees the first.
    model.signal(Signal::STOP);
    wait_until("every thread has stopped", || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", model.pid())).expect("its threads");
        let stats = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("stat")).ok());
        stats.into_iter().all(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')))
    });
    let mut clients: Vec<Client> = (0..BURST).map(|_| model.connect()).collect();
    model.signal(Signal::CONT);
    clients.iter_mut().for_each(|client| assert_eq!(client.get("/a.txt").expect(200).text(), "alpha"));
    drop(clients);
    let output = model.stop();
    assert!(output.contains(&format!("{BURST} clients by 1 readiness events")), "{output}");
}

#[test]
fn one_client_is_never_on_two_threads() {
    let site = site();
    let model = Model::start(NAME, &site, &[]);
    let mut clients: Vec<Client> = (0..4 * WORKERS).map(|_| model.connect()).collect();
    // Bytes trickle in, so every client is parked and dispatched many times; replies out of order would show.
    let requests = "GET /a.txt HTTP/1.1\r\nHost: h\r\n\r\nGET /folder/ HTTP/1.1\r\nHost: h\r\n\r\n".repeat(10);
    for piece in requests.as_bytes().chunks(7) {
        for client in &mut clients {
            client.send(piece);
        }
    }
    for client in &mut clients {
        for _ in 0..10 {
            assert_eq!(client.read().expect(200).text(), "alpha");
            assert_eq!(client.read().expect(200).text(), "inside");
        }
    }
    drop(clients);
    model.stop();
}

#[test]
fn slow_clients_hold_no_thread() {
    let site = site();
    let model = Model::start(NAME, &site, &[]);
    let mut half: Vec<Client> = (0..10 * WORKERS).map(|_| hold(&model)).collect();
    let mut lazy: Vec<Client> = (0..2 * WORKERS).map(|_| model.connect()).collect();
    for client in &mut lazy {
        client.head(&["GET /static/large.bin HTTP/1.1", "Host: h"]);
    }
    for _ in 0..20 {
        assert_eq!(model.get("/a.txt").expect(200).text(), "alpha");
    }
    half.iter_mut().for_each(|client| assert_eq!(client.send("\r\n").read().expect(200).text(), "alpha"));
    lazy.iter_mut().for_each(|client| assert!(client.read().expect(200).body == noise(3_000_000)));
    drop((half, lazy));
    model.stop();
}

#[test]
fn a_request_in_pieces() {
    let site = site();
    let model = Model::start(NAME, &site, &[]);
    let mut client = model.connect();
    for byte in "GET /a.txt HTTP/1.1\r\nHost: h\r\n\r\n".as_bytes() {
        client.send([*byte]);
    }
    assert_eq!(client.read().expect(200).text(), "alpha");
    drop(client);
    model.stop();
}

#[test]
fn keep_alive_and_close() {
    let site = site();
    let model = Model::start(NAME, &site, &[]);
    let mut client = model.connect();
    for _ in 0..50 {
        client.get("/a.txt").expect(200);
    }
    client.request("GET", "/a.txt", &["Connection: close"]).expect(200);
    client.expect_close();
    model.stop();
}

#[test]
fn sigint_drains_and_joins() {
    let site = site();
    let model = Model::start(NAME, &site, &[]);
    let mut idle = model.connect();
    idle.get("/a.txt").expect(200);
    let mut lazy = model.connect();
    lazy.head(&["GET /static/large.bin HTTP/1.1", "Host: h"]);
    lazy.read_head();
    model.signal(Signal::INT);
    assert!(lazy.read_exact(3_000_000) == noise(3_000_000), "what is on its way gets there");
    idle.expect_close();
    drop(lazy);
    model.ended();
}

#[test]
fn a_client_that_reads_late_gets_every_byte() {
    let site = site();
    let model = Model::start(NAME, &site, &[]);
    let mut client = model.connect();
    // More than both sockets hold: writes are partial.
    let request = "GET /static/large.bin HTTP/1.1\r\nHost: h\r\n\r\n";
    client.send(request.repeat(5));
    until_full(&[&client]);
    for _ in 0..5 {
        assert!(client.read().expect(200).body == noise(3_000_000));
    }
    drop(client);
    model.stop();
}
