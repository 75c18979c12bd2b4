//! CGI over real sockets and real processes: the request's body on its way to a script's stdin.

mod support;

use support::{Response, Server, Site, noise, wait_until};

const ECHO: &str = "printf 'Content-Type: application/octet-stream\\n\\n'; exec cat";

fn serve(site: &Site) -> Server {
    Server::start(site, [])
}

#[test]
fn bodies_by_length_and_chunked() {
    let site = Site::new().sh("cgi-bin/echo.sh", ECHO).sh(
        "cgi-bin/length.sh",
        "printf 'Content-Type: text/plain\\n\\n%s %s %s' \"$REQUEST_METHOD\" \"$CONTENT_TYPE\" \"$CONTENT_LENGTH\"; cat >/dev/null",
    );
    let server = serve(&site);
    let mut client = server.connect();
    let content = noise(3 << 20);
    assert_eq!(client.post("/cgi-bin/length.sh", "text/x", b"12345").expect(200).text(), "POST text/x 5");
    let empty = client.post("/cgi-bin/length.sh", "text/x", b"").expect(200).text();
    assert!(["POST text/x 0", "POST text/x "].contains(&empty.as_str()), "{empty}");
    for len in [1, 1000, 65_536, 262_145, 3 << 20] {
        let echo = both_ways(&server, &format!("Content-Length: {len}"), content[..len].to_vec());
        assert!(echo.expect(200).body == content[..len], "{len} bytes by length");
        let chunks: Vec<u8> = content[..len].chunks(10_007).flat_map(chunk).chain(*b"0\r\n\r\n").collect();
        let echo = both_ways(&server, "Transfer-Encoding: chunked", chunks);
        assert!(echo.expect(200).body == content[..len], "{len} bytes in chunks");
    }
    client.head(&[
        "POST /cgi-bin/length.sh HTTP/1.1",
        "Host: {host}",
        "Transfer-Encoding: chunked",
        "Content-Type: t/t",
    ]);
    client.send(content[..2 << 20].chunks(50_000).flat_map(chunk).chain(*b"0\r\n\r\n").collect::<Vec<_>>());
    assert_eq!(client.read().expect(200).text(), format!("POST t/t {}", 2 << 20));
    server.stop();
}

fn chunk(data: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat()
}

fn both_ways(server: &Server, framing: &str, body: Vec<u8>) -> Response {
    let mut client = server.connect();
    client.head(&["POST /cgi-bin/echo.sh HTTP/1.1", "Host: {host}", framing]);
    let mut socket = client.socket().try_clone().expect("a second handle");
    let sender = std::thread::spawn(move || std::io::Write::write_all(&mut socket, &body));
    let response = client.read();
    sender.join().expect("the sender").expect("the whole body is taken");
    response
}

#[test]
fn a_chunked_body_beyond_the_spool_is_413() {
    let site = Site::new().sh("cgi-bin/echo.sh", ECHO);
    let args = [
        "--cgi-spool-file-bytes-max",
        "100000",
        "--cgi-spool-memory-bytes-max",
        "1000",
        "--cgi-body-bytes-max",
        "200000",
    ];
    let server = Server::start(&site, args);
    let mut client = server.connect();
    client.head(&["POST /cgi-bin/echo.sh HTTP/1.1", "Host: {host}", "Transfer-Encoding: chunked"]);
    let _ = client.try_send(chunk(&[b'x'; 100_001]));
    client.read().expect(413);
    let mut client = server.connect();
    client.head(&["POST /cgi-bin/echo.sh HTTP/1.1", "Host: {host}", "Content-Length: 200001"]).read().expect(413);
    let echo =
        both_ways(&server, "Transfer-Encoding: chunked", [chunk(&[b'x'; 50_000]), b"0\r\n\r\n".to_vec()].concat());
    assert_eq!(echo.expect(200).body.len(), 50_000, "a body that does not fit into memory comes from the file");
    server.stop();
}

#[test]
fn no_order_of_reads_and_writes_can_deadlock() {
    let site = Site::new()
        .sh(
            "cgi-bin/stderr-first.sh",
            "yes complaint | head -c 1048576 >&2; printf 'Content-Type: text/plain\\n\\n'; cat",
        )
        .sh("cgi-bin/never-reads.sh", "printf 'Content-Type: text/plain\\n\\nnot interested'")
        .sh(
            "cgi-bin/closes-stdin.sh",
            "exec 0<&-; printf 'Content-Type: text/plain\\n\\nclosed'; sleep 0.2; printf ' early'",
        )
        .sh("cgi-bin/writes-first.sh", "printf 'Content-Type: text/plain\\n\\n'; yes 1234567 | head -c 2097152; wc -c");
    let server = serve(&site);
    let length = 5 << 20;
    for (script, expected) in [
        ("never-reads.sh", "not interested".to_owned()),
        ("closes-stdin.sh", "closed early".to_owned()),
        ("stderr-first.sh", "b".repeat(length)),
        ("writes-first.sh", format!("{}{length}\n", "1234567\n".repeat(262_144))),
    ] {
        let mut client = server.connect();
        client.head(&[
            &format!("POST /cgi-bin/{script} HTTP/1.1"),
            "Host: {host}",
            &format!("Content-Length: {length}"),
        ]);
        let mut socket = client.socket().try_clone().expect("a second handle");
        // A script that does not read may end the connection while the body is under way: that is no failure.
        let sender = std::thread::spawn(move || std::io::Write::write_all(&mut socket, &vec![b'b'; length]));
        assert!(client.read().expect(200).text() == expected, "{script}");
        drop(client);
        let _ = sender.join().expect("the sender");
    }
    server.stop();
}

#[test]
fn an_upload_that_its_client_gives_up_ends_the_script() {
    let site = Site::new().sh("cgi-bin/reads.sh", ": >started; cat >/dev/null; : >finished");
    let server = serve(&site);
    let mut client = server.connect();
    client.head(&["POST /cgi-bin/reads.sh HTTP/1.1", "Host: {host}", "Content-Length: 1000000"]).send([b'x'; 1000]);
    wait_until("the script runs", || site.at("cgi-bin/started").exists());
    client.reset();
    wait_until("the script is gone", || server.scripts().is_empty());
    server.stop();
}

#[test]
fn a_script_that_never_reads_fifty_mebibytes() {
    let site = Site::new()
        .sh("cgi-bin/never-reads.sh", "printf 'Content-Type: text/plain\\n\\nnot interested'")
        .sh("cgi-bin/reads-one.sh", "printf 'Content-Type: text/plain\\n\\n'; head -c 1")
        .file("a.txt", "alpha");
    let server = serve(&site);
    let length = 50 << 20;
    for (script, expected) in [("never-reads.sh", "not interested"), ("reads-one.sh", "b")] {
        let mut client = server.connect();
        client.head(&[
            &format!("POST /cgi-bin/{script} HTTP/1.1"),
            "Host: {host}",
            &format!("Content-Length: {length}"),
        ]);
        let mut socket = client.socket().try_clone().expect("a second handle");
        // The connection may end while the body is under way: that is no failure.
        let sender = std::thread::spawn(move || std::io::Write::write_all(&mut socket, &vec![b'b'; length]));
        assert_eq!(client.read().expect(200).text(), expected, "{script}");
        drop(client);
        let _ = sender.join().expect("the sender");
        wait_until("the script is gone", || server.scripts().is_empty());
    }
    server.get("/a.txt").expect(200);
    server.stop();
}

#[test]
fn a_client_that_asks_first_is_told_to_go_on_only_where_somebody_reads() {
    let site = Site::new().sh("cgi-bin/echo.sh", ECHO);
    let server = serve(&site);
    for framing in ["Content-Length: 4", "Transfer-Encoding: chunked"] {
        let mut client = server.connect();
        client.head(&["POST /cgi-bin/echo.sh HTTP/1.1", "Host: {host}", framing, "Expect: 100-continue"]);
        assert_eq!(client.read().status, 100, "{framing}");
        client.send(if framing.starts_with('C') { "body" } else { "4\r\nbody\r\n0\r\n\r\n" });
        assert_eq!(client.read().expect(200).text(), "body", "{framing}");
    }
    let mut client = server.connect();
    client.head(&["POST /cgi-bin/absent HTTP/1.1", "Host: {host}", "Content-Length: 4", "Expect: 100-continue"]);
    client.read().expect(404);
    server.stop();
}

/// The wait for a script's first byte was counted from its start: an upload that took longer was answered 504, although
/// the script could not have said anything yet.
#[test]
fn an_upload_may_take_longer_than_the_first_byte() {
    let site = Site::new().sh("cgi-bin/count.sh", "n=$(wc -c); printf 'Content-Type: text/plain\\n\\n%s' $n");
    let server = Server::start(&site, ["--cgi-first-byte-ms-max", "600"]);
    let mut client = server.connect();
    client.head(&["POST /cgi-bin/count.sh HTTP/1.1", "Host: {host}", "Content-Length: 10"]);
    for _ in 0..10 {
        // Not what is tested: it only makes the upload longer than the limit. More on a slow machine is as good.
        std::thread::sleep(std::time::Duration::from_millis(150));
        client.send("x");
    }
    assert_eq!(client.read().expect(200).text().trim(), "10");
    server.stop();
}

#[test]
fn a_client_that_stops_in_the_middle_of_its_body_leaves_nothing() {
    let site = Site::new().sh("cgi-bin/reads.sh", ": >started; cat >/dev/null; : >finished; echo done >&2");
    let server = Server::start(&site, ["--cgi-no-reader-ms-max", "300", "--cgi-term-to-kill-ms", "300"]);
    for framing in ["Content-Length: 1000000", "Transfer-Encoding: chunked"] {
        let mut client = server.connect();
        client.head(&["POST /cgi-bin/reads.sh HTTP/1.1", "Host: {host}", framing]);
        let part = if framing.starts_with('C') { "x".repeat(1000) } else { "f4240\r\n".to_owned() + &"x".repeat(1000) };
        client.send(part).finish();
        client.read_to_end();
        wait_until("the script is gone", || server.scripts().is_empty());
    }
    assert!(!site.at("cgi-bin/finished").exists(), "a part of a body was never passed off as the whole");
    server.stop();
}
