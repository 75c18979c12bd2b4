//! CGI over real sockets and real processes: what a script's output means (RFC 3875 section 6).

mod support;

use support::{Framing, Server, Site};

/// Runs until a file named `go` appears beside the script.
const WAIT_FOR_GO: &str = "while [ ! -e go ]; do sleep 0.02; done";

fn serve(site: &Site) -> Server {
    Server::start(site, [])
}

#[test]
fn what_a_script_says_about_its_response() {
    let site = Site::new()
        .file("other.html", "the other page")
        .sh("cgi-bin/plain.sh", "printf 'Content-Type: text/plain\\n\\nplain'")
        .sh("cgi-bin/crlf.sh", "printf 'Content-Type: text/plain\\r\\nX-Own: yes\\r\\n\\r\\nplain'")
        .sh("cgi-bin/status.sh", "printf 'Status: 418 Short and stout\\nContent-Type: text/plain\\n\\nteapot'")
        .sh("cgi-bin/no-content.sh", "printf 'Status: 204 No Content\\n\\n'")
        .sh("cgi-bin/local.sh", "printf 'Location: /other.html\\n\\n'")
        .sh("cgi-bin/local-query.sh", "printf 'Location: /cgi-bin/query.sh?a=b\\n\\n'")
        .sh("cgi-bin/query.sh", "printf 'Content-Type: text/plain\\n\\n%s' \"$QUERY_STRING\"")
        .sh("cgi-bin/loop.sh", "printf 'Location: /cgi-bin/loop.sh\\n\\n'")
        .sh("cgi-bin/absolute.sh", "printf 'Location: http://example.test/x\\n\\n'")
        .sh(
            "cgi-bin/moved.sh",
            "printf 'Status: 301 Moved\\nLocation: http://example.test/x\\nContent-Type: text/plain\\n\\nmoved'",
        )
        .sh("cgi-bin/cookies.sh", "printf 'Content-Type: text/plain\\nSet-Cookie: a=1\\nSet-Cookie: b=2\\n\\n'")
        .sh("cgi-bin/length.sh", "printf 'Content-Type: text/plain\\nContent-Length: 5\\n\\nexact'")
        .sh("cgi-bin/empty-body.sh", "printf 'Content-Type: text/plain\\n\\n'");
    let server = serve(&site);
    let mut client = server.connect();
    let plain = client.get("/cgi-bin/plain.sh").expect(200);
    assert_eq!((plain.text().as_str(), plain.must("content-type")), ("plain", "text/plain"));
    assert_eq!(client.get("/cgi-bin/crlf.sh").expect(200).must("x-own"), "yes");
    let status = client.get("/cgi-bin/status.sh").expect(418);
    assert_eq!(status.status_line, "HTTP/1.1 418 Short and stout");
    assert!(status.field("status").is_none(), "Status is for the server: {status:?}");
    client.get("/cgi-bin/no-content.sh").expect(204);
    let local = client.get("/cgi-bin/local.sh").expect(200);
    assert_eq!((local.text().as_str(), local.field("location")), ("the other page", None));
    assert_eq!(client.get("/cgi-bin/local-query.sh").expect(200).text(), "a=b");
    let looped = client.get("/cgi-bin/loop.sh");
    assert!(matches!(looped.status, 500 | 502 | 508), "{looped:?}");
    assert_eq!(server.get("/cgi-bin/absolute.sh").expect(302).must("location"), "http://example.test/x");
    let moved = server.get("/cgi-bin/moved.sh").expect(301);
    assert_eq!((moved.text().as_str(), moved.must("location")), ("moved", "http://example.test/x"));
    let cookies = server.get("/cgi-bin/cookies.sh").expect(200);
    assert_eq!(cookies.fields.iter().filter(|(name, _)| name == "set-cookie").count(), 2);
    let length = server.get("/cgi-bin/length.sh").expect(200);
    assert_eq!((length.text().as_str(), length.framing), ("exact", Framing::Length));
    assert_eq!(server.get("/cgi-bin/empty-body.sh").expect(200).body, b"");

    let head = server.connect().request("HEAD", "/cgi-bin/length.sh", &[]).expect(200);
    assert_eq!((head.must("content-length"), head.body.len()), ("5", 0));
    let mut client = server.connect();
    client.request("HEAD", "/cgi-bin/plain.sh", &[]).expect(200);
    assert_eq!(client.get("/other.html").expect(200).text(), "the other page", "no body followed the head");

    let mut old = server.connect();
    let old = old.head(&["GET /cgi-bin/plain.sh HTTP/1.0"]).read().expect(200);
    assert_eq!(old.text(), "plain");
    assert_ne!(old.framing, Framing::Chunked, "1.0 knows no chunks");
    server.stop();
}

#[test]
fn complete_responses() {
    let body = "printf 'HTTP/1.1 202 Own line\\r\\nDate: Thu, 01 Jan 1970 00:00:01 GMT\\r\\nContent-Length: 4\\r\\nX-Own: a\\r\\n\\r\\nraw!'";
    let site = Site::new().sh("cgi-bin/nph-own.sh", body).sh("cgi-bin/prefix.sh", body).sh(
        "cgi-bin/nph-close.sh",
        "printf 'HTTP/1.0 200 OK\\r\\nDate: Thu, 01 Jan 1970 00:00:01 GMT\\r\\nConnection: close\\r\\n\\r\\nuntil the end'",
    );
    let server = serve(&site);
    for script in ["nph-own.sh", "prefix.sh"] {
        let response = server.get(&format!("/cgi-bin/{script}")).expect(202);
        assert_eq!((response.text().as_str(), response.must("x-own")), ("raw!", "a"), "{script}");
        assert!(response.status_line.ends_with("202 Own line"), "{script}: {response:?}");
    }
    let mut client = server.connect();
    client.head(&["GET /cgi-bin/nph-close.sh HTTP/1.1", "Host: {host}", "Connection: close"]);
    let text = String::from_utf8(client.read_to_end()).expect("ASCII");
    assert!(text.starts_with("HTTP/1.") && text.contains("until the end"), "{text}");
    server.stop();
}

#[test]
fn output_is_streamed() {
    let lines = format!("printf 'Content-Type: text/plain\\n\\n'; echo first; {WAIT_FOR_GO}; echo second");
    let site = Site::new().sh("cgi-bin/lines.sh", &lines);
    let server = serve(&site);
    let mut client = server.connect();
    client.head(&["GET /cgi-bin/lines.sh HTTP/1.1", "Host: {host}"]);
    let head = client.read_head().expect(200);
    assert_eq!(head.must("transfer-encoding"), "chunked");
    assert_eq!(client.read_chunk().as_deref(), Some(&b"first\n"[..]), "it came while the script was still running");
    assert_eq!(server.scripts().len().min(1), 1);
    site.write("cgi-bin/go", "");
    assert_eq!(client.read_chunk().as_deref(), Some(&b"second\n"[..]));
    assert_eq!(client.read_chunk(), None);
    server.stop();
}

#[test]
fn a_body_that_is_not_what_was_promised_is_never_passed_off_as_whole() {
    let site = Site::new()
        .sh("cgi-bin/killed.sh", "printf 'Content-Type: text/plain\\n\\nhalf of it'; kill -9 $$")
        .sh("cgi-bin/failed.sh", "printf 'Content-Type: text/plain\\n\\nall of it'; exit 7")
        .sh("cgi-bin/short.sh", "printf 'Content-Type: text/plain\\nContent-Length: 100\\n\\nshort'")
        .sh("cgi-bin/long.sh", "printf 'Content-Type: text/plain\\nContent-Length: 4\\n\\nlonger than four'")
        .file("a.txt", "alpha");
    let server = serve(&site);
    let get = |script: &str| {
        let mut client = server.connect();
        client.head(&[&format!("GET /cgi-bin/{script} HTTP/1.1"), "Host: {host}"]);
        client.read_cut("GET")
    };
    // Nothing has been sent of a script that is soon over: then it can still be said.
    let killed = get("killed.sh");
    assert!(killed.status == 502 || killed.status == 200 && !killed.complete, "killed by a signal: {killed:?}");
    assert!(get("failed.sh").expect(200).complete, "an exit code changes nothing");
    assert!(!get("short.sh").expect(200).complete);
    assert_eq!(get("long.sh").expect(200).text(), "long");
    server.get("/a.txt").expect(200);
    server.stop();
}

/// How often a script redirects before it answers is the number in its query.
const COUNTDOWN: &str = "if [ \"$QUERY_STRING\" -gt 0 ]; then printf 'Location: /cgi-bin/countdown.sh?%s\\n\\n' \
    $((QUERY_STRING - 1)); else printf 'Content-Type: text/plain\\n\\n%s [%s] [%s]' $REQUEST_METHOD \
    \"$CONTENT_LENGTH$CONTENT_TYPE$HTTP_RANGE$HTTP_IF_NONE_MATCH\" \"$HTTP_X_KEPT\"; cat; fi";

#[test]
fn local_redirects_are_five_at_most_and_are_a_get_without_a_body() {
    let site = Site::new()
        .sh("cgi-bin/countdown.sh", COUNTDOWN)
        .sh("cgi-bin/to.sh", "printf 'Location: %s\\n\\n' \"$QUERY_STRING\"")
        .file("page.html", "the page")
        .file("a.txt", "alpha");
    let server = serve(&site);
    let mut client = server.connect();
    for count in [0, 1, 5] {
        let body = client.get(&format!("/cgi-bin/countdown.sh?{count}")).expect(200).text();
        assert_eq!(body, "GET [] []", "{count} redirects");
    }
    client.get("/cgi-bin/countdown.sh?6").expect(500);

    client.head(&[
        "POST /cgi-bin/countdown.sh?1 HTTP/1.1",
        "Host: {host}",
        "Content-Length: 4",
        "Content-Type: text/plain",
        "Range: bytes=0-1",
        "If-None-Match: *",
        "X-Kept: yes",
    ]);
    assert_eq!(client.send("body").read().expect(200).text(), "GET [] [yes]", "the body stays with the first script");
    assert_eq!(client.get("/a.txt").expect(200).text(), "alpha", "and is not taken for the next request");

    let head = client.request("HEAD", "/cgi-bin/to.sh?/page.html", &[]).expect(200);
    assert_eq!(head.must("content-length"), "8");
    for (path, status) in [
        ("/page.html", 200),
        ("/x/../page.html", 200),
        ("/absent", 404),
        ("/../page.html", 400),
        ("/%2e%2e/page.html", 400),
        ("/.git/config", 404),
        ("/a.txt%00", 400),
        ("/cgi-bin/absent", 404),
    ] {
        let mut client = server.connect();
        client.head(&[&format!("GET /cgi-bin/to.sh?{path} HTTP/1.1"), "Host: {host}"]);
        client.read().expect(status);
    }
    let said = server.stop();
    assert!(said.contains("once more after 5 local redirects"), "{said}");
}

#[test]
fn a_length_is_held_against_what_comes() {
    let reply = |fields: &str, body: &str| format!("printf 'Content-Type: text/plain\\n{fields}\\n{body}'");
    let site = Site::new()
        .sh("cgi-bin/short.sh", &reply("Content-Length: 9\\n", "short"))
        .sh("cgi-bin/long.sh", &reply("Content-Length: 4\\n", "longer"))
        .sh("cgi-bin/two.sh", &reply("Content-Length: 4\\nContent-Length: 4\\n", "four"))
        .sh("cgi-bin/list.sh", &reply("Content-Length: 4, 4\\n", "four"))
        .sh("cgi-bin/nph-short.sh", "printf 'HTTP/1.1 200 OK\\r\\nContent-Length: 9\\r\\n\\r\\nshort'")
        .sh("cgi-bin/nph-long.sh", "printf 'HTTP/1.1 200 OK\\r\\nContent-Length: 4\\r\\n\\r\\nlonger'")
        .sh("cgi-bin/204.sh", "printf 'Status: 204 No Content\\nContent-Length: 4\\n\\nbody'")
        .sh("cgi-bin/304.sh", "printf 'Status: 304 Not Modified\\n\\nbody'")
        .sh("cgi-bin/exact.sh", &reply("Content-Length: 5\\n", "exact"));
    let server = serve(&site);
    for (script, body, complete) in [
        ("short.sh", "short", false),
        ("long.sh", "long", true),
        ("nph-short.sh", "short", false),
        ("nph-long.sh", "long", true),
    ] {
        let mut client = server.connect();
        client.head(&[&format!("GET /cgi-bin/{script} HTTP/1.1"), "Host: {host}"]);
        let response = client.read_cut("GET").expect(200);
        assert_eq!((response.text().as_str(), response.complete), (body, complete), "{script}");
        client.expect_close();
    }
    for script in ["two.sh", "list.sh"] {
        server.get(&format!("/cgi-bin/{script}")).expect(502);
    }
    let mut client = server.connect();
    for (script, status) in [("204.sh", 204), ("304.sh", 304)] {
        let bodyless = client.get(&format!("/cgi-bin/{script}")).expect(status);
        assert_eq!((bodyless.field("content-length"), bodyless.field("transfer-encoding")), (None, None), "{script}");
    }
    let head = client.request("HEAD", "/cgi-bin/exact.sh", &[]).expect(200);
    assert_eq!(head.must("content-length"), "5");
    assert_eq!(client.get("/cgi-bin/exact.sh").expect(200).text(), "exact", "the connection is where it should be");
    server.stop();
}

#[test]
fn what_belongs_to_the_connection_is_not_a_scripts_to_say() {
    let fields = "Connection: close\\nTransfer-Encoding: chunked\\nKeep-Alive: timeout=1\\nUpgrade: h2c\\nTE: trailers\\n\
        Trailer: X\\nProxy-Connection: close\\nDate: never\\nServer: other\\nX-CGI-Note: secret\\nX-Own: kept\\n";
    let site = Site::new().sh("cgi-bin/hops.sh", &format!("printf 'Content-Type: text/plain\\n{fields}\\nbody'")).sh(
        "cgi-bin/nph-hops.sh",
        "printf 'HTTP/1.1 200 OK\\r\\nConnection: Upgrade\\r\\nUpgrade: x\\r\\nTrailer: y\\r\\n\\r\\nbody'",
    );
    let server = serve(&site);
    let mut client = server.connect();
    for script in ["hops.sh", "nph-hops.sh"] {
        let response = client.get(&format!("/cgi-bin/{script}")).expect(200);
        assert_eq!(response.text(), "body", "{script}");
        assert_ne!(response.framing, Framing::Close, "{script}");
        for name in ["connection", "keep-alive", "upgrade", "te", "trailer", "proxy-connection", "x-cgi-note"] {
            assert_eq!(response.field(name), None, "{script}");
        }
        assert_eq!(response.must("server"), "ucaffeine", "{script}");
    }
    assert_eq!(client.get("/cgi-bin/hops.sh").expect(200).must("x-own"), "kept");
    server.stop();
}

/// Each of these would leave a client that trusts its framing in the middle of something else.
#[test]
fn complete_responses_cannot_desynchronise_a_client() {
    let nph = |head: &str, body: &str| format!("printf 'HTTP/1.1 200 OK\\r\\n{head}\\r\\n{body}'");
    let smuggled = "HTTP/1.1 200 OK\\r\\nContent-Length: 5\\r\\n\\r\\nevil!";
    let site = Site::new()
        .sh("cgi-bin/nph-open.sh", &nph("", &format!("body{smuggled}")))
        .sh("cgi-bin/nph-keeps.sh", &nph("Connection: keep-alive\\r\\n", &format!("body{smuggled}")))
        .sh(
            "cgi-bin/nph-chunks.sh",
            &nph("Transfer-Encoding: chunked\\r\\n", &format!("4\\r\\nbody\\r\\n0\\r\\n\\r\\n{smuggled}")),
        )
        .sh("cgi-bin/nph-bad-chunks.sh", &nph("Transfer-Encoding: chunked\\r\\n", "zz\\r\\nbody"))
        .sh("cgi-bin/nph-cut-chunks.sh", &nph("Transfer-Encoding: chunked\\r\\n", "9\\r\\nbody"))
        .sh("cgi-bin/nph-both.sh", &nph("Transfer-Encoding: chunked\\r\\nContent-Length: 4\\r\\n", "body"))
        .sh("cgi-bin/nph-100.sh", "printf 'HTTP/1.1 100 Continue\\r\\n\\r\\nHTTP/1.1 200 OK\\r\\n\\r\\nbody'")
        .file("a.txt", "alpha");
    let server = serve(&site);
    for (script, body) in [
        ("nph-open.sh", "bodyHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nevil!"),
        ("nph-keeps.sh", "bodyHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nevil!"),
        ("nph-chunks.sh", "body"),
    ] {
        let mut client = server.connect();
        assert_eq!(client.get(&format!("/cgi-bin/{script}")).expect(200).text(), body, "{script}");
        assert_eq!(
            client.get("/a.txt").expect(200).text(),
            "alpha",
            "{script}: the next answer is to the next request"
        );
    }
    for script in ["nph-bad-chunks.sh", "nph-cut-chunks.sh"] {
        let mut client = server.connect();
        client.head(&[&format!("GET /cgi-bin/{script} HTTP/1.1"), "Host: {host}"]);
        assert!(!client.read_cut("GET").expect(200).complete, "{script}");
        client.expect_close();
    }
    for script in ["nph-both.sh", "nph-100.sh"] {
        server.get(&format!("/cgi-bin/{script}")).expect(502);
    }
    server.stop();
}

#[test]
fn events_come_one_by_one_as_they_are_written() {
    let script = "printf 'Content-Type: text/event-stream\\n\\n'; i=1; while [ $i -le 3 ]; do printf 'data: %s\\n\\n' $i; \
        while [ ! -e go-$i ]; do sleep 0.02; done; i=$((i+1)); done";
    let site = Site::new().sh("cgi-bin/events.sh", script);
    let server = serve(&site);
    for version in ["1.1", "1.0"] {
        for number in 1..=3 {
            let _ = std::fs::remove_file(site.at(&format!("cgi-bin/go-{number}")));
        }
        let mut client = server.connect();
        client.head(&[&format!("GET /cgi-bin/events.sh HTTP/{version}"), "Host: {host}"]);
        assert_eq!(client.read_head().expect(200).must("content-type"), "text/event-stream");
        for number in 1..=3 {
            // Only when it has come is the script told to go on: were it held back, this would wait for ever.
            client.read_until(format!("data: {number}\n\n").as_bytes());
            site.write(&format!("cgi-bin/go-{number}"), "");
        }
        client.finish().read_to_end();
    }
    server.stop();
}

#[test]
fn a_head_may_come_byte_by_byte() {
    let script = "say() { printf 'Content-Type: text/plain\\nX-Long: '; yes 0123456789 | head -c 3000 | tr -d '\\n'; printf '\\n\\nbody'; }; \
        say | dd bs=1 status=none";
    let site = Site::new().sh("cgi-bin/slow.sh", script);
    let server = serve(&site);
    let response = server.get("/cgi-bin/slow.sh").expect(200);
    assert_eq!((response.text().as_str(), response.must("x-long").len() > 2500), ("body", true));
    server.stop();
}
