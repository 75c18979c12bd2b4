//! CGI over real sockets and real processes (RFC 3875): what a script is given, what its output means, and when it ends.

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc;
use support::{Client, Framing, Launch, Response, Server, Site, children, noise, wait_until};

/// The initial environment of the script, a variable a line. `env` would show what the shell adds; and the shell must live on
/// while it is read, because an exec replaces it.
const ENV: &str = "printf 'Content-Type: text/plain\\n\\n'; tr '\\0' '\\n' </proc/$$/environ; :";
const ECHO: &str = "printf 'Content-Type: application/octet-stream\\n\\n'; exec cat";
/// Runs until a file named `go` appears beside the script.
const WAIT_FOR_GO: &str = "while [ ! -e go ]; do sleep 0.02; done";

fn serve(site: &Site) -> Server {
    Server::start(site, [])
}

fn variables(response: &Response) -> BTreeMap<String, String> {
    let lines = response.text();
    lines.lines().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

#[test]
fn the_environment_is_this_and_nothing_else() {
    let site = Site::new().sh("cgi-bin/env.sh", ENV);
    let root = std::fs::canonicalize(site.root()).expect("the root");
    let server = Launch::new(&site).env("LEAK", "from the server").start();
    let mut client = server.connect();
    let response = client.request(
        "GET",
        "/cgi-bin/env.sh/more/p%20ath?q=1&r=%20",
        &["X-One: a", "X-One: b", "Cookie: c=1", "Cookie: d=2", "Accept: text/html"],
    );
    let vars = variables(&response.expect(200));
    let inside = |path: &str| root.join(path).to_str().expect("UTF-8").to_owned();
    let port = server.addr.port().to_string();
    let expected = [
        ("DOCUMENT_ROOT", root.to_str().expect("UTF-8").to_owned()),
        ("GATEWAY_INTERFACE", "CGI/1.1".into()),
        ("HTTP_ACCEPT", "text/html".into()),
        ("HTTP_COOKIE", "c=1; d=2".into()),
        ("HTTP_HOST", server.addr.to_string()),
        ("HTTP_X_ONE", "a, b".into()),
        ("PATH_INFO", "/more/p ath".into()),
        ("PATH_TRANSLATED", inside("more/p ath")),
        ("QUERY_STRING", "q=1&r=%20".into()),
        ("REDIRECT_STATUS", "200".into()),
        ("REMOTE_ADDR", "127.0.0.1".into()),
        ("REMOTE_HOST", "127.0.0.1".into()),
        ("REQUEST_METHOD", "GET".into()),
        ("REQUEST_SCHEME", "http".into()),
        ("REQUEST_URI", "/cgi-bin/env.sh/more/p%20ath?q=1&r=%20".into()),
        ("SCRIPT_FILENAME", inside("cgi-bin/env.sh")),
        ("SCRIPT_NAME", "/cgi-bin/env.sh".into()),
        ("SERVER_ADDR", "127.0.0.1".into()),
        ("SERVER_NAME", "127.0.0.1".into()),
        ("SERVER_PORT", port),
        ("SERVER_PROTOCOL", "HTTP/1.1".into()),
    ];
    for (name, value) in &expected {
        assert_eq!(vars.get(*name), Some(value), "{name} in {vars:#?}");
    }
    assert!(vars["SERVER_SOFTWARE"].starts_with("ucaffeine/"));
    assert!(vars["PATH"].split(':').any(|dir| dir == "/usr/bin"));
    assert!(vars["REMOTE_PORT"].parse::<u16>().is_ok());
    let known: Vec<&str> =
        expected.iter().map(|(name, _)| *name).chain(["SERVER_SOFTWARE", "PATH", "REMOTE_PORT"]).collect();
    // One more tags the request, so that a process that escaped its group can be found.
    let strange: Vec<_> = vars.keys().filter(|k| !known.contains(&k.as_str()) && k.as_str() != "UNIQUE_ID").collect();
    assert!(strange.is_empty(), "variables that nobody promised: {strange:?}");

    let plain = variables(&client.get("/cgi-bin/env.sh").expect(200));
    assert_eq!(plain["QUERY_STRING"], "", "it is always there");
    for absent in ["PATH_INFO", "PATH_TRANSLATED"] {
        assert!(plain.get(absent).is_none_or(String::is_empty), "{absent} without a rest of the path");
    }
    assert!(plain.get("CONTENT_LENGTH").is_none_or(String::is_empty));
    server.stop();
}

#[test]
fn fields_cannot_pose_as_other_variables() {
    let site = Site::new().sh("cgi-bin/env.sh", ENV);
    let server = serve(&site);
    let mut client = server.connect();
    let fields = ["Proxy: http://evil.test", "X_Foo: underscore", "X-Foo: dash", "Content_Length: 9", "LD_PRELOAD: x"];
    let vars = variables(&client.request("GET", "/cgi-bin/env.sh?LD_PRELOAD=x", &fields).expect(200));
    assert_eq!(vars.get("HTTP_X_FOO").map(String::as_str), Some("dash"));
    for absent in ["HTTP_PROXY", "HTTP_LD_PRELOAD", "LD_PRELOAD", "HTTP_CONTENT_LENGTH", "HTTP_CONTENT_TYPE"] {
        assert!(!vars.contains_key(absent), "{absent} in {vars:#?}");
    }
    client.head(&["POST /cgi-bin/env.sh HTTP/1.1", "Host: {host}", "Transfer-Encoding: chunked"]);
    client.send("2\r\nhi\r\n0\r\nX-Foo: from a trailer\r\nContent-Type: from/trailer\r\n\r\n");
    let vars = variables(&client.read().expect(200));
    assert!(!vars.values().any(|value| value.contains("trailer")), "{vars:#?}");
    assert_eq!(vars["CONTENT_LENGTH"], "2");
    assert!(!vars.contains_key("HTTP_TRANSFER_ENCODING"), "it was decoded: {vars:#?}");
    server.stop();
}

#[test]
fn variables_for_all_and_for_one_mount() {
    let site = Site::new().sh("cgi-bin/env.sh", ENV).sh("other/env.sh", ENV);
    let mount = format!("/app/={}", site.at("other").display());
    let args = ["--cgi", &mount, "--cgi-env", "ALL=1", "--cgi-env", "/app:ONE=a=b", "--cgi-env", "PASSED"];
    let server = Launch::new(&site).args(args).env("PASSED", "through").start();
    let vars = variables(&server.get("/cgi-bin/env.sh").expect(200));
    assert_eq!((vars.get("ALL").map(String::as_str), vars.get("ONE")), (Some("1"), None));
    assert_eq!(vars["PASSED"], "through");
    let vars = variables(&server.get("/app/env.sh").expect(200));
    assert_eq!((vars["ALL"].as_str(), vars["ONE"].as_str()), ("1", "a=b"));
    server.stop();
}

#[test]
fn mounts_of_a_folder_and_of_a_program() {
    let outside = Site::new().sh("tools/env.sh", ENV).sh("bin/prog", ENV);
    let site = Site::new().sh("cgi-bin/env.sh", ENV).sh("cgi-bin/sub/env.sh", ENV);
    let mounts = [
        format!("/tools/={}", outside.at("tools").display()),
        format!("/prog={}", outside.at("bin/prog").display()),
        format!("/prog2/={}", outside.at("bin/prog").display()),
    ];
    let server = Server::start(&site, ["--cgi", &mounts[0], "--cgi", &mounts[1], "--cgi", &mounts[2]]);
    let mut client = server.connect();
    let cases = [
        ("/cgi-bin/env.sh", "/cgi-bin/env.sh", ""),
        ("/cgi-bin/env.sh/", "/cgi-bin/env.sh", "/"),
        ("/cgi-bin/env.sh/a/b", "/cgi-bin/env.sh", "/a/b"),
        ("/cgi-bin/sub/env.sh/a", "/cgi-bin/sub/env.sh", "/a"),
        ("/tools/env.sh/x", "/tools/env.sh", "/x"),
        ("/prog", "/prog", ""),
        ("/prog/", "/prog", "/"),
        ("/prog/a/b", "/prog", "/a/b"),
        ("/prog2/a/b", "/prog2", "/a/b"),
        ("/prog2", "/prog2", ""),
    ];
    for (target, script_name, path_info) in cases {
        let vars = variables(&client.get(target).expect(200));
        assert_eq!(vars["SCRIPT_NAME"], script_name, "{target}");
        assert_eq!(vars.get("PATH_INFO").map_or("", String::as_str), path_info, "{target}");
    }
    client.get("/programme").expect(404);
    server.stop();
}

#[test]
fn a_script_gets_three_descriptors_one_argument_and_its_own_folder() {
    // `ls` has a descriptor of its own for the folder that it reads: 3. Anything else would be the server's.
    let site = Site::new()
        .sh("cgi-bin/fds.sh", "printf 'Content-Type: text/plain\\n\\n'; exec ls /proc/self/fd")
        .sh("cgi-bin/args.sh", "printf 'Content-Type: text/plain\\n\\n%s' $#")
        .sh("cgi-bin/sub/pwd.sh", "printf 'Content-Type: text/plain\\n\\n'; pwd")
        .sh("cgi-bin/stdin.sh", "printf 'Content-Type: text/plain\\n\\n'; readlink /proc/self/fd/0")
        .sh("cgi-bin/signals.sh", "printf 'Content-Type: text/plain\\n\\n'; grep -E '^Sig(Ign|Blk)' /proc/self/status")
        .sh("cgi-bin/group.sh", "printf 'Content-Type: text/plain\\n\\n'; echo $$ $(cut -d' ' -f5 /proc/$$/stat)");
    let server = serve(&site);
    let _held: Vec<Client> = (0..50).map(|_| server.connect()).collect();
    let mut client = server.connect();
    for _ in 0..5 {
        assert_eq!(client.get("/cgi-bin/fds.sh").expect(200).text(), "0\n1\n2\n3\n");
    }
    let post = client.post("/cgi-bin/fds.sh", "text/plain", b"body").expect(200);
    assert_eq!(post.text(), "0\n1\n2\n3\n");
    for query in ["", "?-s", "?a+b+c", "?-d+allow_url_include%3d1"] {
        assert_eq!(client.get(&format!("/cgi-bin/args.sh{query}")).expect(200).text(), "0", "{query}");
    }
    let folder = std::fs::canonicalize(site.at("cgi-bin/sub")).expect("the folder");
    assert_eq!(Path::new(client.get("/cgi-bin/sub/pwd.sh").expect(200).text().trim_end()), folder);
    assert_eq!(client.get("/cgi-bin/stdin.sh").expect(200).text(), "/dev/null\n");
    for line in client.get("/cgi-bin/signals.sh").expect(200).text().lines() {
        assert_eq!(line.split_whitespace().nth(1), Some("0000000000000000"), "{line}: nothing is ignored or blocked");
    }
    let group = client.get("/cgi-bin/group.sh").expect(200).text();
    let (pid, pgrp) = group.trim_end().split_once(' ').expect("two numbers");
    assert_eq!(pid, pgrp, "a script leads a process group of its own");
    server.stop();
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

/// Sends a body while the answer is read: the script echoes, so that neither side may wait for the other to finish.
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
    assert_eq!((old.text().as_str(), old.framing), ("plain", Framing::Close), "1.0 knows no chunks");
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
fn failures_are_told_apart() {
    let site = Site::new()
        .file("cgi-bin/not-executable.sh", "#!/bin/sh\n# TOP SECRET\n")
        .script("cgi-bin/no-shebang", "printf 'TOP SECRET'\n")
        .script("cgi-bin/no-interpreter", "#!/nowhere/at/all\nTOP SECRET\n")
        .sh("cgi-bin/malformed.sh", "echo this is not a field; echo; echo body")
        .sh("cgi-bin/silent.sh", "exit 0")
        .sh("cgi-bin/fails.sh", "exit 3")
        .sh("cgi-bin/dies.sh", "kill -9 $$")
        .sh("cgi-bin/no-end.sh", "printf 'Content-Type: text/plain\\n'")
        .sh("cgi-bin/bad-status.sh", "printf 'Status: many\\n\\n'")
        .sh("cgi-bin/injects.sh", "printf 'Content-Type: text/plain\\nX-A: b\\rX-B: c\\n\\n'")
        .sh("cgi-bin/huge-head.sh", "yes 'X-Long: 0123456789' | head -c 100000; printf '\\n\\n'")
        .sh("cgi-bin/ok.sh", "printf 'Content-Type: text/plain\\n\\nok'")
        .file("cgi-bin/sub/readme.txt", "x");
    let server = serve(&site);
    for (script, status) in [
        ("not-executable.sh", 403),
        ("absent.sh", 404),
        ("sub/absent.sh", 404),
        ("no-shebang", 500),
        ("no-interpreter", 500),
        ("malformed.sh", 502),
        ("silent.sh", 502),
        ("fails.sh", 502),
        ("dies.sh", 502),
        ("no-end.sh", 502),
        ("bad-status.sh", 502),
        ("injects.sh", 502),
        ("huge-head.sh", 502),
        ("ok.sh", 200),
    ] {
        let response = server.get(&format!("/cgi-bin/{script}"));
        assert_eq!(response.status, status, "{script}: {response:?}");
        assert!(!response.text().contains("SECRET"), "{script}");
    }
    for folder in ["/cgi-bin/", "/cgi-bin", "/cgi-bin/sub/", "/cgi-bin/sub"] {
        let response = server.get(folder);
        assert!(matches!(response.status, 301 | 403 | 404), "{folder}: {response:?}");
    }
    let said = server.stop();
    assert!(said.contains("no-shebang"), "the log names the script that could not be started:\n{said}");
}

#[test]
fn a_script_that_says_nothing_is_504() {
    let site = Site::new()
        .sh("cgi-bin/late.sh", "sleep 1000")
        .sh("cgi-bin/pauses.sh", "printf 'Content-Type: text/plain\\n\\nbegun'; sleep 1000")
        .file("a.txt", "alpha");
    let server = Server::start(&site, ["--cgi-first-byte-ms-max", "1000", "--cgi-idle-ms-max", "1000"]);
    server.get("/cgi-bin/late.sh").expect(504);
    let mut client = server.connect();
    client.head(&["GET /cgi-bin/pauses.sh HTTP/1.1", "Host: {host}"]);
    let cut = client.read_cut("GET").expect(200);
    assert!(!cut.complete && cut.text() == "begun", "{cut:?}");
    wait_until("both scripts are ended", || server.scripts().is_empty());
    server.get("/a.txt").expect(200);
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
        client.read_cut("GET").expect(200)
    };
    assert!(!get("killed.sh").complete, "killed by a signal: no last chunk");
    assert!(get("failed.sh").complete, "an exit code changes nothing");
    assert!(!get("short.sh").complete);
    assert_eq!(get("long.sh").text(), "long");
    server.get("/a.txt").expect(200);
    server.stop();
}

#[test]
fn when_the_client_leaves_the_whole_group_goes() {
    let head = "printf 'Content-Type: text/plain\\n\\nhello\\n'";
    let site = Site::new()
        .sh("cgi-bin/silent.sh", &format!("{head}; sleep 1000 & sleep 1000"))
        .sh("cgi-bin/chatty.sh", &format!("{head}; sleep 1000 & yes"))
        .sh("cgi-bin/stubborn.sh", &format!("trap '' TERM; {head}; sleep 1000 & while :; do sleep 1; done"))
        .sh("cgi-bin/escapes.sh", &format!("setsid sleep 1000 & {head}; sleep 1000"));
    for script in ["silent.sh", "chatty.sh", "stubborn.sh", "escapes.sh"] {
        if script == "escapes.sh" && !support::skip_or_fail("setsid") {
            continue;
        }
        let server = Server::start(&site, ["--cgi-term-to-kill-ms", "300"]);
        let mut client = server.connect();
        client.head(&[&format!("GET /cgi-bin/{script} HTTP/1.1"), "Host: {host}"]);
        client.read_until(b"hello");
        wait_until("the script and its child run", || server.scripts().len() >= 2);
        client.reset();
        wait_until(&format!("nothing of {script} is left"), || server.scripts().is_empty());
        server.stop();
    }
}

#[test]
fn a_half_closed_client_gets_the_whole_answer() {
    let site = Site::new().sh(
        "cgi-bin/slow.sh",
        "printf 'Content-Type: text/plain\\n\\n'; for i in 1 2 3 4; do sleep 0.1; echo $i; done",
    );
    let server = serve(&site);
    let mut client = server.connect();
    client.head(&["GET /cgi-bin/slow.sh HTTP/1.1", "Host: {host}"]).finish();
    assert_eq!(client.read().expect(200).text(), "1\n2\n3\n4\n");
    client.expect_close();
    server.stop();
}

#[test]
fn a_grandchild_that_holds_stdout_does_not_hold_the_response() {
    let site = Site::new()
        .sh("cgi-bin/holds.sh", "printf 'Content-Type: text/plain\\n\\nanswer'; sleep 1000 & exit 0")
        .sh("cgi-bin/detaches.sh", "printf 'Content-Type: text/plain\\n\\nanswer'; sleep 5 >/dev/null 2>&1 & exit 0");
    let server = Server::start(&site, ["--cgi-held-stdout-ms-max", "300"]);
    let mut client = server.connect();
    assert_eq!(client.get("/cgi-bin/holds.sh").expect(200).text(), "answer");
    wait_until("the grandchild that held stdout is ended", || server.scripts().is_empty());
    // One that closed its outputs may live on after the answer.
    assert_eq!(client.get("/cgi-bin/detaches.sh").expect(200).text(), "answer");
    assert!(!server.scripts().is_empty(), "it was not killed");
    server.stop();
}

#[test]
fn beyond_the_running_and_the_queued_is_503() {
    let site = Site::new().sh(
        "cgi-bin/wait.sh",
        &format!(": >started-$QUERY_STRING; {WAIT_FOR_GO}; printf 'Content-Type: text/plain\\n\\ndone'"),
    );
    let server = Server::start(&site, ["--cores", "1", "--cgi-running-max", "1", "--cgi-queued-max", "1"]);
    let (tell, hear) = mpsc::channel();
    let ask = |name: &'static str| {
        let (mut client, tell) = (server.connect(), tell.clone());
        std::thread::spawn(move || drop(tell.send(client.get(&format!("/cgi-bin/wait.sh?{name}")))))
    };
    let mut threads = vec![ask("a")];
    wait_until("the first script runs", || site.at("cgi-bin/started-a").exists());
    threads.extend([ask("b"), ask("c")]);
    let refused = hear.recv_timeout(support::HANG).expect("one of three is refused at once").expect(503);
    assert!(refused.must("retry-after").parse::<u32>().is_ok_and(|seconds| seconds > 0));
    assert!(!(site.at("cgi-bin/started-b").exists() || site.at("cgi-bin/started-c").exists()), "one at a time");
    site.write("cgi-bin/go", "");
    for _ in 0..2 {
        assert_eq!(hear.recv_timeout(support::HANG).expect("the other two are served").expect(200).text(), "done");
    }
    for thread in threads {
        thread.join().expect("a client");
    }
    server.stop();
}

#[test]
fn waiting_in_the_queue_has_an_end() {
    let site = Site::new()
        .sh("cgi-bin/wait.sh", &format!(": >started; {WAIT_FOR_GO}; printf 'Content-Type: text/plain\\n\\ndone'"));
    let server = Server::start(&site, ["--cores", "1", "--cgi-running-max", "1", "--cgi-queue-ms-max", "200"]);
    let mut first = server.connect();
    first.head(&["GET /cgi-bin/wait.sh HTTP/1.1", "Host: {host}"]);
    wait_until("the first script runs", || site.at("cgi-bin/started").exists());
    server.get("/cgi-bin/wait.sh").expect(503).must("retry-after");
    site.write("cgi-bin/go", "");
    first.read().expect(200);
    server.stop();
}

#[test]
fn the_source_is_never_disclosed() {
    let secret = "#!/bin/sh\n# TOP SECRET\nprintf 'Content-Type: text/plain\\n\\nran'\n";
    let site = Site::new()
        .script("cgi-bin/x.sh", secret)
        .file("cgi-bin/x.sh.gz", "TOP SECRET packed")
        .file("cgi-bin/x.sh~", secret)
        .file("cgi-bin/lib.inc", "TOP SECRET")
        .file("cgi-bin/index.html", "TOP SECRET")
        .script("programs/y.sh", secret)
        .link("alias", "cgi-bin/x.sh")
        .file("index.html", "home");
    let mount = format!("/y={}", site.at("programs/y.sh").display());
    let targets = [
        "/cgi-bin/x.sh",
        "/cgi-bin/x.sh/",
        "/cgi-bin/x.sh%20",
        "/cgi-bin/x.sh.",
        "/cgi-bin/x.sh~",
        "/cgi-bin/x.sh.gz",
        "/cgi-bin/lib.inc",
        "/cgi-bin/index.html",
        "/cgi-bin/",
        "/cgi-bin",
        "/cgi-bin//x.sh",
        "/cgi-bin/./x.sh",
        "//cgi-bin/x.sh",
        "/./cgi-bin/x.sh",
        "/a/../cgi-bin/x.sh",
        "/%63gi-bin/x.sh",
        "/cgi-bin%2fx.sh",
        "/CGI-BIN/x.sh",
        "/cgi-bin/x.sh%3f",
        "/cgi-bin/X.SH",
        "/y",
        "/y/",
    ];
    for args in [vec!["--cgi", mount.as_str()], vec!["--no-cgi"]] {
        let server = Server::start(&site, args.iter().copied());
        for target in targets {
            for (method, fields) in [
                ("GET", vec![]),
                ("HEAD", vec![]),
                ("GET", vec!["Range: bytes=0-100"]),
                ("GET", vec!["Accept-Encoding: gzip, br, zstd"]),
                ("POST", vec!["Content-Length: 0"]),
            ] {
                let mut client = server.connect();
                let lines = [vec!["Host: {host}"], fields.clone()].concat();
                client.head(&[vec![format!("{method} {target} HTTP/1.1").as_str()], lines].concat());
                let response = client.read_for(method);
                assert!(!response.text().contains("SECRET"), "{method} {target} {fields:?} with {args:?}");
                if args == ["--no-cgi"] {
                    assert!(matches!(response.status, 404 | 405), "{method} {target}: {response:?}");
                }
            }
        }
        server.stop();
    }
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
fn a_thousand_scripts_leave_nothing() {
    let site = Site::new().sh("cgi-bin/ok.sh", "echo Content-Type: text/plain; echo; echo $QUERY_STRING");
    let server = serve(&site);
    server.get("/cgi-bin/ok.sh?0").expect(200);
    let fds = server.fds();
    let clients = (0..8).map(|i| {
        let mut client = server.connect();
        std::thread::spawn(move || {
            for j in 0..125 {
                let target = format!("/cgi-bin/ok.sh?{i}-{j}");
                assert_eq!(client.get(&target).expect(200).text(), format!("{i}-{j}\n"));
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.join().expect("a client");
    }
    wait_until("no child is left", || children(server.pid()).is_empty());
    wait_until("no descriptor is left", || server.fds() <= fds);
    server.stop();
}
