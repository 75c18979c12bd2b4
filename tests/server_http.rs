//! HTTP/1.1 over real sockets: framing, connection reuse, limits, and what is refused (RFC 9110, 9112; the strict reading).

mod support;

use std::time::Duration;
use support::{Client, Framing, Response, Server, Site, wait_until};

const ECHO: &str = "printf 'Content-Type: application/octet-stream\\n\\n'; exec cat";

fn site() -> Site {
    Site::new()
        .file("index.html", "<!doctype html><title>home</title>")
        .file("a.txt", "alpha")
        .file("b.txt", "beta")
        .file("dir/index.html", "in a folder")
        .sh("cgi-bin/echo.sh", ECHO)
        .sh("cgi-bin/length.sh", "printf 'Content-Type: text/plain\\n\\n[%s]' \"${CONTENT_LENGTH-unset}\"; exec wc -c")
}

fn server(site: &Site) -> Server {
    Server::start(site, [])
}

#[test]
fn keep_alive_is_the_default_of_1_1_and_an_option_of_1_0() {
    let site = site();
    let server = server(&site);

    let mut client = server.connect();
    for _ in 0..3 {
        let response = client.get("/a.txt").expect(200);
        assert_eq!((response.text().as_str(), response.framing), ("alpha", Framing::Length));
        assert!(!response.closes());
    }
    assert!(client.request("GET", "/b.txt", &["Connection: close"]).expect(200).closes());
    client.expect_close();

    let mut old = server.connect();
    assert_eq!(old.head(&["GET /a.txt HTTP/1.0"]).read().expect(200).text(), "alpha");
    old.expect_close();

    let mut old = server.connect();
    let kept = old.head(&["GET /a.txt HTTP/1.0", "Connection: keep-alive"]).read().expect(200);
    assert!(kept.must("connection").eq_ignore_ascii_case("keep-alive"));
    old.head(&["GET /b.txt HTTP/1.0"]).read().expect(200);
    old.expect_close();
    server.stop();
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let site = (0..20).fold(site(), |site, i| site.file(&format!("n/{i}.txt"), format!("number {i}")));
    let server = server(&site);
    let mut client = server.connect();
    let mut wire = String::new();
    for i in 0..200 {
        let i = i % 20;
        wire += &match i % 5 {
            3 => format!("POST /cgi-bin/echo.sh HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{i:02}"),
            4 => "GET /absent HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
            _ => format!("GET /n/{i}.txt HTTP/1.1\r\nHost: x\r\n\r\n"),
        };
    }
    client.send(wire);
    for i in 0..200 {
        let i = i % 20;
        let response = client.read();
        match i % 5 {
            3 => assert_eq!(response.expect(200).text(), format!("{i:02}")),
            4 => drop(response.expect(404)),
            _ => assert_eq!(response.expect(200).text(), format!("number {i}")),
        }
    }
    server.stop();
}

#[test]
fn a_request_may_come_one_byte_at_a_time() {
    let site = site();
    let server = server(&site);
    let mut client = server.connect();
    let requests = "GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n\
                    POST /cgi-bin/echo.sh HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
                    4;ext=\"v\"\r\nWiki\r\n5\r\npedia\r\n0\r\nTrailer: dropped\r\n\r\n\
                    GET /b.txt HTTP/1.1\r\nHost: x\r\n\r\n";
    for byte in requests.as_bytes() {
        client.send([*byte]);
        std::thread::yield_now();
    }
    assert_eq!(client.read().expect(200).text(), "alpha");
    assert_eq!(client.read().expect(200).text(), "Wikipedia");
    assert_eq!(client.read().expect(200).text(), "beta");
    server.stop();
}

#[test]
fn a_half_closed_client_still_gets_its_answers() {
    let site = site();
    let server = server(&site);
    let mut client = server.connect();
    client.send("GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\nGET /b.txt HTTP/1.1\r\nHost: x\r\n\r\n").finish();
    assert_eq!(client.read().expect(200).text(), "alpha");
    assert_eq!(client.read().expect(200).text(), "beta");
    client.expect_close();

    let mut client = server.connect();
    client.send("POST /cgi-bin/echo.sh HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody").finish();
    assert_eq!(client.read().expect(200).text(), "body");
    client.expect_close();
    server.stop();
}

#[test]
fn one_blank_line_before_a_request_is_tolerated() {
    let site = site();
    let server = server(&site);
    let mut client = server.connect();
    client.send("\r\nGET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n").read().expect(200);
    client.send("\r\nGET /b.txt HTTP/1.1\r\nHost: x\r\n\r\n").read().expect(200);
    let mut client = server.connect();
    client.send("\r\n\r\nGET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n").read().expect(400);
    client.expect_close();
    server.stop();
}

#[test]
fn the_absolute_form_is_a_path_like_any_other() {
    let site = site();
    let server = server(&site);
    let mut client = server.connect();
    client.head(&["GET http://example.test/a.txt HTTP/1.1", "Host: example.test"]).read().expect(200);
    client.head(&["GET http://example.test HTTP/1.1", "Host: example.test"]).read().expect(200);
    server.stop();
}

#[test]
fn continue_is_sent_only_when_the_body_will_be_read() {
    let site = site();
    let server = server(&site);

    let mut client = server.connect();
    let ask = ["Content-Length: 4", "Expect: 100-continue"];
    let lines = |first: &'static str| [vec![first, "Host: {host}"], ask.to_vec()].concat();
    client.head(&lines("POST /cgi-bin/echo.sh HTTP/1.1")).read().expect(100);
    assert_eq!(client.send("body").read().expect(200).text(), "body");
    client.get("/a.txt").expect(200);

    let mut client = server.connect();
    client.head(&lines("POST /cgi-bin/absent.sh HTTP/1.1")).read().expect(404);

    let mut client = server.connect();
    client.head(&lines("POST /cgi-bin/echo.sh HTTP/1.0")).send("body");
    assert_eq!(client.read().expect(200).text(), "body");

    let mut client = server.connect();
    client.head(&["GET /a.txt HTTP/1.1", "Host: {host}", "Expect: a-miracle"]).read().expect(417);
    server.stop();
}

#[test]
fn head_is_get_without_the_body_on_errors_too() {
    let site = site();
    let server = server(&site);
    let mut client = server.connect();
    for target in ["/", "/a.txt", "/dir", "/absent", "/a%2fb"] {
        let get = client.get(target);
        let head = client.request("HEAD", target, &[]);
        let comparable = |r: &Response| {
            let fields = r.fields.iter().filter(|(name, _)| name != "date").cloned().collect::<Vec<_>>();
            (r.status, fields)
        };
        assert_eq!(comparable(&get), comparable(&head), "{target}");
        assert!(head.body.is_empty());
    }
    client.get("/a.txt").expect(200);
    server.stop();
}

#[test]
fn methods() {
    let site = site();
    let server = server(&site);
    let mut client = server.connect();
    let star = client.request("OPTIONS", "*", &[]);
    assert!(matches!(star.status, 200 | 204), "{star:?}");
    for method in ["PUT", "DELETE", "PATCH"] {
        let refused = server.connect().request(method, "/a.txt", &[]).expect(405);
        let allow = refused.must("allow");
        assert!(allow.split(',').any(|m| m.trim() == "GET") && allow.split(',').any(|m| m.trim() == "HEAD"), "{allow}");
    }
    server.connect().request("BREW", "/a.txt", &[]).expect(501);
    server.connect().request("get", "/a.txt", &[]).expect(501);
    server.stop();
}

#[test]
fn a_post_without_a_length_has_an_empty_body() {
    let site = site();
    let server = server(&site);
    let mut client = server.connect();
    let response = client.request("POST", "/cgi-bin/length.sh", &[]).expect(200);
    assert!(["[]0\n", "[0]0\n", "[unset]0\n"].contains(&response.text().as_str()), "{}", response.text());
    client.get("/a.txt").expect(200);
    server.stop();
}

#[test]
fn a_body_that_nobody_wants_never_desynchronises() {
    let site = site();
    let server = server(&site);
    for body in [0, 10, 1 << 10, 60 << 10, 8 << 20] {
        let mut client = server.connect();
        client.head(&["POST /a.txt HTTP/1.1", "Host: {host}", &format!("Content-Length: {body}")]);
        // A server that closes early may reset while this is being written; the answer must be readable all the same.
        let smuggled = "GET /b.txt HTTP/1.1\r\nHost: x\r\n\r\n";
        let sent = client.try_send(&smuggled.repeat(1 + body / smuggled.len())[..body]);
        let refused = client.read().expect(405);
        if refused.closes() {
            client.expect_close();
        } else {
            sent.expect("a kept connection takes the whole body");
            assert_eq!(client.get("/b.txt").expect(200).text(), "beta");
        }
    }
    server.stop();
}

/// Sends bytes, expects one answer of that status, and then the end of the connection: whatever follows in the same write
/// (here a whole valid request) is never taken for a second request.
#[track_caller]
fn refused(server: &Server, wire: &[u8], status: u16) {
    let mut client = server.connect();
    client.send([wire, b"GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n"].concat());
    let response = client.read();
    let shown = String::from_utf8_lossy(wire);
    assert_eq!(response.status, status, "for {shown:?}: {response:?}");
    assert!(response.closes(), "no Connection: close for {shown:?}: {response:?}");
    client.expect_close();
}

#[test]
fn malformed_heads_are_400_and_the_end() {
    let site = site();
    let server = server(&site);
    let heads: &[&[u8]] = &[
        b"GET / HTTP/1.1\nHost: x\n\n",
        b"GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n",
        b"GET / HTTP/1.1\rHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA\t: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n",
        b"GET / HTTP/1.1\r\n Host: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n: nameless\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA(b): c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: b\x01c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: b\x7fc\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x/y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x:port\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1 \r\nHost: x\r\n\r\n",
        b"GET / http/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.x\r\nHost: x\r\n\r\n",
        b"GET /\r\nHost: x\r\n\r\n",
        b"GET * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET a.txt HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /a\x00b HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /a\xe4 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /a.txt#part HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /../a.txt HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /%2e%2e/a.txt HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /dir/../../a.txt HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /a%00.txt HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /a%0d%0aX:%20y HTTP/1.1\r\nHost: x\r\n\r\n",
        b"G\x00T / HTTP/1.1\r\nHost: x\r\n\r\n",
    ];
    for head in heads {
        refused(&server, head, 400);
    }
    server.get("/a.txt").expect(200);
    server.stop();
}

#[test]
fn ambiguous_framing_is_400_and_the_end() {
    let site = site();
    let server = server(&site);
    let fields = [
        "Content-Length: +5",
        "Content-Length: -5",
        "Content-Length: 0x5",
        "Content-Length: 5 5",
        "Content-Length: 5, 5",
        "Content-Length:",
        "Content-Length: 18446744073709551616",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: \x0bchunked",
        "Transfer-Encoding:",
    ];
    for field in fields {
        let head = format!("POST /cgi-bin/echo.sh HTTP/1.1\r\nHost: x\r\n{field}\r\n\r\n");
        refused(&server, format!("{head}5\r\nhello\r\n0\r\n\r\n").as_bytes(), 400);
    }
    let old = "POST /cgi-bin/echo.sh HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    refused(&server, old.as_bytes(), 400);
    server.stop();
}

#[test]
fn malformed_chunks_are_400_and_the_end() {
    let site = site();
    let server = server(&site);
    let bodies = [
        "g\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "10000000000000000\r\nhello\r\n0\r\n\r\n",
        "5;a=\x01\r\nhello\r\n0\r\n\r\n",
        "5;a=b\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nbad trailer\r\n\r\n",
        "5\r\nhello\r\n0\r\nA : b\r\n\r\n",
    ];
    for body in bodies {
        let head = "POST /cgi-bin/echo.sh HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        refused(&server, format!("{head}{body}").as_bytes(), 400);
    }
    for size in ["5", "05", "00000005", "5;x=y;z", "5;x=\"a;b\""] {
        let head = "POST /cgi-bin/echo.sh HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n";
        let mut client = server.connect();
        assert_eq!(client.send(format!("{head}{size}\r\nhello\r\n0\r\n\r\n")).read().expect(200).text(), "hello");
        client.get("/a.txt").expect(200);
    }
    server.stop();
}

#[test]
fn what_is_too_large_is_told_apart() {
    let site = site();
    let server = server(&site);
    let get = |target: &str, fields: &str| format!("GET {target} HTTP/1.1\r\nHost: x\r\n{fields}\r\n");

    // The target's limit is 8,000 bytes: at it the file is merely absent.
    let at_limit = format!("/{}", "a/".repeat(3999) + "b");
    assert_eq!(at_limit.len(), 8000);
    let mut client = server.connect();
    client.send(get(&at_limit, "")).read().expect(404);
    refused(&server, get(&format!("{at_limit}c"), "").as_bytes(), 414);

    refused(&server, get("/a.txt", &format!("A: {}\r\n", "v".repeat(16 << 10))).as_bytes(), 431);
    refused(&server, get("/a.txt", &"A: b\r\n".repeat(100)).as_bytes(), 431);
    refused(&server, get("/a.txt", &format!("A: {}\r\n", "v".repeat(15 << 10)).repeat(5)).as_bytes(), 431);
    client.send(get("/a.txt", &"A: b\r\n".repeat(99))).read().expect(200);
    client.send(get("/a.txt", &format!("A: {}\r\n", "v".repeat(15 << 10)).repeat(4))).read().expect(200);
    server.stop();
}

#[test]
fn other_versions() {
    let site = site();
    let server = server(&site);
    refused(&server, b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505);
    refused(&server, b"GET / HTTP/3.1\r\nHost: x\r\n\r\n", 505);
    server.connect().head(&["GET /a.txt HTTP/1.0"]).read().expect(200);
    server.stop();
}

#[test]
fn an_unfinished_head_is_408_and_silence_is_just_closed() {
    let site = site();
    let server = Server::start(&site, ["--head-ms-max", "300", "--idle-ms-max", "300"]);

    let mut client = server.connect();
    client.send("GET /a.txt HTTP/1.1\r\nHo");
    assert!(client.read().expect(408).closes());
    client.expect_close();

    // Nothing was received, so nothing is answered.
    server.connect().expect_close();

    let mut client = server.connect();
    client.get("/a.txt").expect(200);
    client.expect_close();
    server.stop();
}

#[test]
fn a_body_that_stops_is_408_and_one_that_crawls_is_not() {
    let site = site();
    let server = Server::start(&site, ["--stall-ms-max", "3000"]);
    let head = ["POST /cgi-bin/length.sh HTTP/1.1", "Host: {host}"];

    // Twice the limit in all, and never near it between two pieces: 2,560 B/s is five times the slowest healthy rate.
    let mut slow = server.connect();
    slow.head(&[head[0], head[1], "Content-Length: 15360"]);
    let crawl = std::thread::spawn(move || {
        for _ in 0..60 {
            slow.send([b'x'; 256]);
            std::thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(slow.read().expect(200).text(), "[15360]15360\n");
    });

    let mut stalled = server.connect();
    stalled.head(&[head[0], head[1], "Transfer-Encoding: chunked"]).send("5\r\nhel");
    stalled.read().expect(408);
    stalled.expect_close();
    crawl.join().expect("the slow but healthy client");
    server.stop();
}

#[test]
fn a_reader_that_stops_is_cut() {
    let site = site().file("big.bin", support::noise(32 << 20));
    let server = Server::start(&site, ["--stall-ms-max", "500", "--cores", "1"]);
    // The core may keep the file itself open for the next client.
    server.connect().request("HEAD", "/big.bin", &[]).expect(200);
    let idle = server.fds();
    let mut client = server.connect();
    client.head(&["GET /big.bin HTTP/1.1", "Host: {host}"]);
    client.read_head().expect(200);
    wait_until("the server drops the connection of the stalled reader", || {
        server.fds() <= idle && connections(&server) == 0
    });
    let rest = client.read_to_end();
    assert!(rest.len() < 32 << 20, "the whole file cannot have fitted into the socket's buffers");
    server.get("/a.txt").expect(200);
    server.stop();
}

/// Established connections to the server's port, as the kernel counts them. A direct descriptor is not in /proc/PID/fd.
fn connections(server: &Server) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("/proc/net/tcp");
    let port = format!(":{:04X}", server.addr.port());
    let established = |line: &&str| {
        let mut columns = line.split_whitespace().skip(1);
        columns.next().is_some_and(|local| local.ends_with(&port)) && columns.nth(1) == Some("01")
    };
    table.lines().filter(established).count()
}

#[test]
fn ten_thousand_requests_on_one_connection() {
    let site = site();
    let server = server(&site);
    let mut client = server.connect();
    for i in 0..10_000 {
        let (target, body) = if i % 2 == 0 { ("/a.txt", "alpha") } else { ("/b.txt", "beta") };
        assert_eq!(client.get(target).expect(200).text(), body);
    }
    server.stop();
}

#[test]
fn many_connections_on_two_cores() {
    let site = site();
    let server = Server::start(&site, ["--cores", "2"]);
    let mut clients: Vec<Client> = (0..200).map(|_| server.connect()).collect();
    for round in 0..5 {
        for client in &mut clients {
            client.head(&["GET /a.txt HTTP/1.1", "Host: {host}"]);
        }
        for client in &mut clients {
            assert_eq!(client.read().expect(200).text(), "alpha", "round {round}");
        }
    }
    drop(clients);
    wait_until("every connection is closed", || connections(&server) == 0);
    server.stop();
}
