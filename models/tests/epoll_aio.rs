//! What seed 003 claims.

mod common;

use common::{Client, Model, hold, noise, site};

const NAME: &str = "epoll-aio";

#[test]
fn a_slow_client_holds_up_nobody() {
    let site = site();
    let model = Model::start(NAME, &site, &[]);
    let mut half = hold(&model);
    let mut lazy: Vec<Client> = ["/static/large.bin", "/dynamic/large.bin"]
        .map(|path| {
            let mut client = model.connect();
            client.head(&[&format!("GET {path} HTTP/1.1"), "Host: h"]);
            client
        })
        .into();
    for _ in 0..20 {
        model.get("/a.txt").expect(200);
        model.get("/dynamic/small.txt").expect(200);
    }
    lazy.iter_mut().for_each(|client| assert!(client.read().expect(200).body == noise(3_000_000)));
    assert_eq!(half.send("\r\n").read().expect(200).text(), "alpha");
    drop((half, lazy));
    model.stop();
}

/// The number before a word in what the model says at its end.
fn counted(output: &str, before: &str) -> u64 {
    let at = output.find(before).unwrap_or_else(|| panic!("no {before:?} in {output}"));
    output[..at]
        .trim_end()
        .rsplit(' ')
        .next()
        .and_then(|number| number.trim().lines().last()?.parse().ok())
        .expect("a number")
}

#[test]
fn static_files_go_by_sendfile() {
    let site = site();
    let model = Model::start(NAME, &site, &[]);
    assert!(model.get("/static/large.bin").expect(200).body == noise(3_000_000));
    model.get("/a.txt").expect(200);
    let output = model.stop();
    assert!(counted(&output, "sendfile(2) slices") >= 2, "{output}");
    assert_eq!(counted(&output, "AIO reads"), 0, "{output}");
}

#[test]
fn dynamic_files_go_by_aio() {
    let site = site();
    let model = Model::start(NAME, &site, &[]);
    assert!(model.get("/dynamic/large.bin").expect(200).body == noise(3_000_000));
    let part = model.connect().request("GET", "/dynamic/large.bin", &["Range: bytes=65535-131073"]).expect(206);
    assert!(part.body == noise(3_000_000)[65_535..=131_073]);
    let output = model.stop();
    assert_eq!(counted(&output, "sendfile(2) slices"), 0, "{output}");
    // 46 blocks of 64 KiB, and 4 that the range touches.
    assert!((49..=50).contains(&counted(&output, "AIO reads")), "{output}");
}

#[test]
fn a_file_that_shrinks_cuts_its_connection() {
    let site = site();
    let model = Model::start(NAME, &site, &[]);
    for path in ["static/huge.bin", "dynamic/huge.bin"] {
        // More than the sockets hold.
        let resize = |bytes| {
            let file = std::fs::File::options().write(true).open(site.at(path));
            file.and_then(|file| file.set_len(bytes)).expect("a new length");
        };
        site.write(path, "");
        resize(64 << 20);
        let mut client = model.connect();
        client.head(&[&format!("GET /{path} HTTP/1.1"), "Host: h"]);
        client.read_head();
        resize(1000);
        assert!(client.read_to_end().len() < 64 << 20, "{path}");
        model.get("/a.txt").expect(200);
    }
    model.stop();
}

#[test]
fn files_and_errors() {
    let site = site();
    let model = Model::start(NAME, &site, &[]);
    assert_eq!(model.get("/").expect(200).text(), "home");
    model.get("/static/none").expect(404);
    model.get("/dynamic/none").expect(404);
    model.stop();
}

#[test]
fn it_closes_after_the_file() {
    let site = site();
    let model = Model::start(NAME, &site, &[]);
    let mut client = model.connect();
    let request = "GET /a.txt HTTP/1.1\r\nHost: h\r\n\r\n";
    assert!(client.send(request.repeat(2)).read().expect(200).closes());
    client.expect_close();
    model.stop();
}

#[test]
fn hundreds_of_connections() {
    let site = site();
    let model = Model::start(NAME, &site, &[]);
    let mut clients: Vec<Client> = (0..400).map(|_| hold(&model)).collect();
    for client in clients.iter_mut().rev() {
        assert_eq!(client.send("\r\n").read().expect(200).text(), "alpha");
    }
    drop(clients);
    model.stop();
}

#[test]
fn programs_are_not_there() {
    let site = site();
    let model = Model::start(NAME, &site, &[]);
    model.get("/cgi-bin/nph-hello").expect(404);
    model.stop();
}
