//! What seed 002 claims.

mod common;

use std::time::Duration;

use common::{Client, Model, WORKERS, launch, site};

const NAME: &str = "thread-pool";

/// Whether something comes within a while. What is held back stays held back, so a slow machine changes nothing.
fn is_answered(client: &Client) -> bool {
    client.socket().set_read_timeout(Some(Duration::from_millis(200))).expect("timeout");
    let answered = client.socket().peek(&mut [0]).is_ok();
    client.socket().set_read_timeout(Some(common::support::HANG)).expect("timeout");
    answered
}

fn asked(model: &Model) -> Client {
    let mut client = model.connect();
    client.head(&["GET /a.txt HTTP/1.1", "Host: h"]);
    client
}

#[test]
fn as_many_clients_as_threads_are_served_at_once() {
    let site = site();
    let model = Model::start(NAME, &site, &[]);
    let mut clients: Vec<Client> = (0..WORKERS).map(|_| model.connect()).collect();
    for _ in 0..3 {
        clients.iter_mut().for_each(|client| assert_eq!(client.get("/a.txt").expect(200).text(), "alpha"));
    }
    // Every thread has its client, and keeps it.
    let mut late = asked(&model);
    assert!(!is_answered(&late));
    clients.pop();
    assert_eq!(late.read().expect(200).text(), "alpha");
    drop((clients, late));
    model.stop();
}

#[test]
fn a_full_queue_blocks_and_drains() {
    let site = site();
    let model = Model::start(NAME, &site, &["--queue", "2"]);
    let mut held: Vec<Client> = (0..WORKERS).map(|_| model.connect()).collect();
    held.iter_mut().for_each(|client| drop(client.get("/a.txt").expect(200)));
    // Two in the queue, one in the main thread's hands, the rest in the backlog.
    let waiting: Vec<Client> = (0..10).map(|_| asked(&model)).collect();
    assert!(!is_answered(&waiting[0]));
    drop(held);
    for mut client in waiting {
        assert_eq!(client.read().expect(200).text(), "alpha");
    }
    model.stop();
}

#[test]
fn files_and_errors() {
    let site = site();
    let model = Model::start(NAME, &site, &[]);
    assert_eq!(model.get("/").expect(200).text(), "home");
    model.get("/none").expect(404);
    model.stop();
    let exit = launch(NAME, &site).args(["--queue", "0"]).fails();
    assert_eq!(exit.code, Some(2));
    assert!(exit.output.contains("--queue"), "{}", exit.output);
}

#[test]
fn sigint_joins_every_thread() {
    let site = site();
    let model = Model::start(NAME, &site, &["--queue", "1"]);
    // Idle clients hold every thread, the queue is full, and the main thread waits for room.
    let mut idle: Vec<Client> = (0..WORKERS).map(|_| model.connect()).collect();
    idle.iter_mut().for_each(|client| drop(client.get("/a.txt").expect(200)));
    let queued: Vec<Client> = (0..4).map(|_| asked(&model)).collect();
    assert!(!is_answered(&queued[0]));
    model.signal(rustix::process::Signal::INT);
    let mut first = queued.into_iter().next().expect("four");
    assert_eq!(first.read().expect(200).text(), "alpha", "what was in the queue is still served");
    idle.iter_mut().for_each(Client::expect_close);
    model.ended();
}

#[test]
fn one_worker_is_the_first_part() {
    let site = site();
    let server = launch(NAME, &site).args(["--workers", "1"]).start();
    for _ in 0..20 {
        assert_eq!(server.get("/a.txt").expect(200).text(), "alpha");
    }
    server.signal(rustix::process::Signal::INT);
    assert_eq!(server.wait().code, Some(0));
}
