//! The cases that are about serving at all, for every model that they apply to. Where one does not, the table says why.

mod common;

use common::{Client, Model, noise, site, until_full};

/// What a model has, as far as a case can depend on it.
#[derive(PartialEq)]
enum Trait {
    /// A connection stays open for the next request.
    KeepAlive,
    /// Programs below `cgi-bin`.
    Programs,
    /// More clients at once than there are workers, idle ones included.
    Multiplexes,
}

use Trait::{KeepAlive, Multiplexes, Programs};

struct Row {
    name: &'static str,
    has: &'static [Trait],
    /// Why it has not what it has not.
    lacks: &'static str,
}

const MODELS: &[Row] = &[
    Row {
        name: "prefork-fdpass",
        has: &[Programs],
        lacks: "a worker is ready again after one request (seed 000), so it closes after each",
    },
    Row {
        name: "prefork-reuseport",
        has: &[Programs],
        lacks: "a worker returns to accept after one request (seed 001), so it closes after each",
    },
    Row {
        name: "thread-pool",
        has: &[KeepAlive, Programs],
        lacks: "a thread belongs to one client at a time (seed 002)",
    },
    Row {
        name: "epoll-aio",
        has: &[Multiplexes],
        lacks: "the connection is closed after the file, and there are only files (seed 003)",
    },
    Row { name: "reactor-pool", has: &[KeepAlive, Programs, Multiplexes], lacks: "" },
    Row { name: "tokio-uring", has: &[KeepAlive, Programs, Multiplexes], lacks: "" },
    Row { name: "monoio", has: &[KeepAlive, Programs, Multiplexes], lacks: "" },
];

struct Case {
    name: &'static str,
    needs: &'static [Trait],
    run: fn(&Model),
}

const CASES: &[Case] = &[
    Case { name: "files, types, folders and errors", needs: &[], run: files },
    Case { name: "every byte of a large file", needs: &[], run: large },
    Case { name: "ranges and conditions", needs: &[], run: conditions },
    Case { name: "HEAD", needs: &[], run: head },
    Case { name: "malformed requests", needs: &[], run: malformed },
    Case { name: "a request in pieces", needs: &[], run: pieces },
    Case { name: "a client that leaves in the middle", needs: &[], run: leaves },
    Case { name: "a client that reads late gets every byte", needs: &[], run: reads_late },
    Case { name: "nothing outside of the root", needs: &[], run: outside },
    Case { name: "connections one after another", needs: &[], run: many },
    Case { name: "keep-alive, and its end", needs: &[KeepAlive], run: keep_alive },
    Case { name: "pipelined requests in order", needs: &[KeepAlive], run: pipelined },
    Case { name: "idle clients are in nobody's way", needs: &[Multiplexes], run: idle },
    Case { name: "programs", needs: &[Programs], run: programs },
    Case { name: "programs that fail", needs: &[Programs], run: failing_programs },
];

/// One model after another, one case after another on the same server: what one leaves behind, the next trips over, and the
/// end finds.
fn all_cases(name: &str) {
    let row = MODELS.iter().find(|row| row.name == name).expect("a row");
    let site = site();
    let model = Model::start(name, &site, &[]);
    for case in CASES {
        match case.needs.iter().all(|need| row.has.contains(need)) {
            true => {
                println!("{name}: {}", case.name);
                (case.run)(&model);
            }
            false => println!("{name}: {}: does not apply: {}", case.name, row.lacks),
        }
    }
    model.stop();
}

#[test]
fn prefork_fdpass() {
    all_cases("prefork-fdpass");
}

#[test]
fn prefork_reuseport() {
    all_cases("prefork-reuseport");
}

#[test]
fn thread_pool() {
    all_cases("thread-pool");
}

#[test]
fn epoll_aio() {
    all_cases("epoll-aio");
}

#[test]
fn reactor_pool() {
    all_cases("reactor-pool");
}

#[test]
fn tokio_uring() {
    all_cases("tokio-uring");
}

#[test]
fn monoio() {
    all_cases("monoio");
}

#[test]
fn who_lacks_something_says_why() {
    for row in MODELS {
        let lacks = [KeepAlive, Programs, Multiplexes].iter().any(|each| !row.has.contains(each));
        assert_eq!(lacks, !row.lacks.is_empty(), "{}", row.name);
    }
}

fn files(model: &Model) {
    let page = model.get("/").expect(200);
    assert_eq!((page.text(), page.field("content-type")), ("home".into(), Some("text/html; charset=utf-8")));
    assert_eq!(model.get("/a.txt?q").expect(200).text(), "alpha");
    assert_eq!(model.get("/folder/").expect(200).text(), "inside");
    assert_eq!(model.get("/folder?x=1").expect(301).field("location"), Some("/folder/?x=1"));
    assert_eq!(model.get("/empty.txt").expect(200).text(), "");
    assert_eq!(model.get("/dynamic/small.txt").expect(200).text(), "dynamic");
    model.get("/none").expect(404);
    model.get("/.secret").expect(404);
    let refused = model.connect().post("/a.txt", "text/plain", b"x");
    assert_eq!(refused.expect(405).field("allow"), Some("GET, HEAD, OPTIONS"));
}

fn large(model: &Model) {
    let content = noise(3_000_000);
    for path in ["/static/large.bin", "/dynamic/large.bin"] {
        assert!(model.get(path).expect(200).body == content, "{path}");
    }
}

fn conditions(model: &Model) {
    for path in ["/static/large.bin", "/dynamic/large.bin"] {
        let content = noise(3_000_000);
        let part = model.connect().request("GET", path, &["Range: bytes=100001-200000"]).expect(206);
        assert!(part.body == content[100_001..=200_000], "{path}");
        let last = model.connect().request("GET", path, &["Range: bytes=-5"]).expect(206);
        assert_eq!(last.body, content[content.len() - 5..], "{path}");
        model.connect().request("GET", path, &["Range: bytes=3000000-"]).expect(416);
    }
    let tag = model.get("/a.txt").expect(200).field("etag").expect("a tag").to_owned();
    let same = model.connect().request("GET", "/a.txt", &[&format!("If-None-Match: {tag}")]);
    assert_eq!(same.expect(304).field("etag"), Some(tag.as_str()));
}

fn head(model: &Model) {
    let response = model.connect().request("HEAD", "/static/large.bin", &[]).expect(200);
    assert_eq!(response.field("content-length"), Some("3000000"));
}

fn malformed(model: &Model) {
    for request in ["GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\nHost: h\n\n", "nonsense\r\n\r\n"] {
        assert_eq!(model.connect().send(request).read().status, 400, "{request:?}");
    }
    assert_eq!(model.connect().send("FROB / HTTP/1.1\r\nHost: h\r\n\r\n").read().status, 501);
}

fn pieces(model: &Model) {
    let mut client = model.connect();
    for byte in "GET /a.txt HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".as_bytes() {
        client.send([*byte]);
    }
    assert_eq!(client.read().expect(200).text(), "alpha");
}

fn leaves(model: &Model) {
    for _ in 0..5 {
        drop(model.connect());
        model.connect().send("GET /a.t");
        // Gone with a file on its way.
        model.connect().send("GET /static/large.bin HTTP/1.1\r\nHost: h\r\n\r\n");
    }
    assert_eq!(model.get("/a.txt").expect(200).text(), "alpha");
}

fn reads_late(model: &Model) {
    let content = noise(3_000_000);
    let mut clients: Vec<Client> = (0..2).map(|_| model.connect()).collect();
    for client in &mut clients {
        client.send("GET /static/large.bin HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    }
    until_full(&clients.iter().collect::<Vec<_>>());
    for client in &mut clients {
        assert!(client.read().expect(200).body == content);
    }
}

fn outside(model: &Model) {
    model.get("/../a.txt").expect(400);
    model.get("/%2e%2e/%2e%2e/etc/passwd").expect(400);
    model.get("/x%2f..%2fa.txt").expect(404);
}

fn many(model: &Model) {
    for _ in 0..200 {
        assert_eq!(model.get("/a.txt").expect(200).text(), "alpha");
    }
}

fn keep_alive(model: &Model) {
    let mut client = model.connect();
    for _ in 0..20 {
        assert_eq!(client.get("/a.txt").expect(200).text(), "alpha");
        client.get("/none").expect(404);
    }
    let last = client.request("GET", "/", &["Connection: close"]).expect(200);
    assert_eq!(last.field("connection"), Some("close"));
    client.expect_close();
}

fn pipelined(model: &Model) {
    let mut client = model.connect();
    let paths = ["/a.txt", "/none", "/static/large.bin", "/empty.txt", "/"];
    let requests: String = paths.iter().map(|path| format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")).collect();
    client.send(requests);
    let lengths: Vec<_> = paths.iter().map(|_| client.read()).map(|reply| (reply.status, reply.body.len())).collect();
    assert_eq!((lengths[0], lengths[2], lengths[3]), ((200, 5), (200, 3_000_000), (200, 0)));
    assert_eq!((lengths[1].0, lengths[4]), (404, (200, 4)));
}

fn idle(model: &Model) {
    let idle: Vec<Client> = (0..50).map(|_| model.connect()).collect();
    assert_eq!(model.get("/a.txt").expect(200).text(), "alpha");
    drop(idle);
}

fn programs(model: &Model) {
    let reply = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n";
    assert_eq!(sent(model, "GET /cgi-bin/nph-hello HTTP/1.1\r\nHost: h\r\n\r\n"), reply);
    let length = "POST /cgi-bin/nph-echo HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody";
    assert_eq!(sent(model, length), "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nPOST:body");
    let chunks = "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let chunked = format!("POST /cgi-bin/nph-echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
    assert_eq!(sent(model, &chunked), "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nPOST:abcde");
}

fn sent(model: &Model, request: &str) -> String {
    String::from_utf8(model.connect().send(request).read_to_end()).expect("text")
}

fn failing_programs(model: &Model) {
    model.get("/cgi-bin/none").expect(404);
    model.get("/cgi-bin/nph-not-executable").expect(403);
    model.get("/cgi-bin/nph-broken").expect(500);
    // It leaves the response to the server, which is what the models do not compare.
    model.get("/cgi-bin/plain").expect(501);
    // It dies without a word: the connection ends, and nobody else notices.
    model.connect().send("GET /cgi-bin/nph-crash HTTP/1.1\r\nHost: h\r\n\r\n").expect_close();
    assert_eq!(model.get("/a.txt").expect(200).text(), "alpha");
}
