//! Files over real sockets: types, conditionals, ranges, what is never served, and large files byte for byte.

mod support;

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use support::{Client, Server, Site, noise, wait_until};

fn serve(site: &Site) -> Server {
    Server::start(site, [])
}

#[test]
fn types_follow_the_name() {
    let names = [
        ("page.html", "text/html"),
        ("style.css", "text/css"),
        ("code.js", "text/javascript"),
        ("image.png", "image/png"),
        ("photo.jpg", "image/jpeg"),
        ("drawing.svg", "image/svg+xml"),
        ("data.json", "application/json"),
        ("words.txt", "text/plain"),
        ("module.wasm", "application/wasm"),
        ("UPPER.HTML", "text/html"),
        ("archive.unknown-suffix", "application/octet-stream"),
        ("nosuffix", "application/octet-stream"),
    ];
    let site = names.iter().fold(Site::new(), |site, (name, _)| site.file(name, "content"));
    let server = serve(&site);
    let mut client = server.connect();
    for (name, expected) in names {
        let response = client.get(&format!("/{name}")).expect(200);
        let got = response.must("content-type");
        assert_eq!(got.split(';').next(), Some(expected), "{name}: {got}");
        assert_eq!(response.text(), "content");
    }
    server.stop();
}

#[test]
fn folders_have_an_index_and_a_slash() {
    let site = Site::new()
        .file("index.html", "home")
        .file("dir/index.html", "dir")
        .file("bare/file.txt", "x")
        .file("sp ace/index.html", "space");
    let server = serve(&site);
    let mut client = server.connect();
    assert_eq!(client.get("/").expect(200).text(), "home");
    assert_eq!(client.get("/?q=1").expect(200).text(), "home");
    assert_eq!(client.get("/dir/").expect(200).text(), "dir");
    assert_eq!(client.get("/dir").expect(301).must("location"), "/dir/");
    assert_eq!(client.get("/dir?a=b&c").expect(301).must("location"), "/dir/?a=b&c");
    assert_eq!(client.get("/dir?a=%0d%0ab").expect(301).must("location"), "/dir/?a=%0d%0ab");
    assert_eq!(client.get("/sp%20ace").expect(301).must("location"), "/sp%20ace/");
    assert_eq!(client.get("/sp%20ace/").expect(200).text(), "space");
    // A Location that starts with two slashes would name another host.
    for target in ["//dir", "//dir?x", "///dir", "//example.test/../dir"] {
        let response = client.get(target);
        if let Some(location) = response.field("location") {
            assert!(location.starts_with('/') && !location.starts_with("//"), "{target} leads to {location}");
        }
    }
    let listing = client.get("/bare/");
    assert!(matches!(listing.status, 403 | 404), "no listing unless asked for: {listing:?}");
    client.get("/index.html/").expect(404);
    client.get("/index.html/more").expect(404);
    server.stop();
}

#[test]
fn conditionals() {
    let site = Site::new().file("a.txt", "alpha").file("b.txt", "beta");
    let server = serve(&site);
    let mut client = server.connect();
    let first = client.get("/a.txt").expect(200);
    let (etag, modified) = (first.must("etag").to_owned(), first.must("last-modified").to_owned());
    assert!(etag.starts_with('"') && etag.ends_with('"') && etag.len() > 2, "a strong ETag: {etag}");
    assert_ne!(client.get("/b.txt").expect(200).must("etag"), etag);

    let (old, future) = ("Thu, 01 Jan 1970 00:00:01 GMT", "Fri, 31 Dec 2100 23:59:59 GMT");
    let cases = [
        (vec![format!("If-None-Match: {etag}")], 304),
        (vec![format!("If-None-Match: W/{etag}")], 304),
        (vec![format!("If-None-Match: \"x\", {etag}")], 304),
        (vec!["If-None-Match: *".into()], 304),
        (vec!["If-None-Match: \"x\"".into()], 200),
        (vec![format!("If-Modified-Since: {modified}")], 304),
        (vec![format!("If-Modified-Since: {old}")], 200),
        (vec!["If-Modified-Since: nonsense".into()], 200),
        (vec!["If-None-Match: \"x\"".into(), format!("If-Modified-Since: {modified}")], 200),
        (vec![format!("If-Match: {etag}")], 200),
        (vec!["If-Match: *".into()], 200),
        (vec!["If-Match: \"x\"".into()], 412),
        (vec![format!("If-Match: W/{etag}")], 412),
        (vec![format!("If-Unmodified-Since: {old}")], 412),
        (vec![format!("If-Unmodified-Since: {future}")], 200),
        (vec![format!("If-Match: {etag}"), format!("If-Unmodified-Since: {old}")], 200),
        (vec![format!("If-Match: {etag}"), format!("If-None-Match: {etag}")], 304),
    ];
    for (fields, status) in cases {
        let lines: Vec<&str> = fields.iter().map(String::as_str).collect();
        for method in ["GET", "HEAD"] {
            let response = client.request(method, "/a.txt", &lines);
            assert_eq!(response.status, status, "{method} with {fields:?}: {response:?}");
            if status == 304 {
                assert_eq!(response.must("etag"), etag);
                assert!(response.body.is_empty());
            }
        }
    }
    server.stop();
}

#[test]
fn single_ranges() {
    let content = noise(1000);
    let site = Site::new().file("f.bin", &content).file("empty.bin", "");
    let server = serve(&site);
    let mut client = server.connect();
    let whole = client.get("/f.bin").expect(200);
    assert_eq!(whole.must("accept-ranges"), "bytes");
    let etag = whole.must("etag").to_owned();

    let parts = [
        ("0-4", 0..5),
        ("5-", 5..1000),
        ("-5", 995..1000),
        ("999-", 999..1000),
        ("990-5000", 990..1000),
        ("-5000", 0..1000),
    ];
    for (spec, range) in parts {
        let response = client.request("GET", "/f.bin", &[&format!("Range: bytes={spec}")]).expect(206);
        assert_eq!(response.must("content-range"), format!("bytes {}-{}/1000", range.start, range.end - 1), "{spec}");
        assert_eq!(response.body, content[range], "{spec}");
        assert_eq!(response.must("etag"), etag);
    }
    for spec in ["1000-", "5000-6000", "-0", "9223372036854775807-", "18446744073709551615-"] {
        let response = client.request("GET", "/f.bin", &[&format!("Range: bytes={spec}")]).expect(416);
        assert_eq!(response.must("content-range"), "bytes */1000", "{spec}");
    }
    client.request("GET", "/empty.bin", &["Range: bytes=0-"]).expect(416);
    for invalid in ["bytes=5-4", "bytes=a-b", "bytes", "bytes=", "bytes=-", "lines=0-1", "bytes=0--1", "bytes=1-2x"] {
        let response = client.request("GET", "/f.bin", &[&format!("Range: {invalid}")]).expect(200);
        assert_eq!(response.body, content, "{invalid}");
    }
    let head = client.request("HEAD", "/f.bin", &["Range: bytes=0-4"]).expect(200);
    assert_eq!(head.must("content-length"), "1000");

    let modified = whole.must("last-modified").to_owned();
    let if_range = [(etag.clone(), 206), (format!("W/{etag}"), 200), ("\"x\"".into(), 200)];
    for (value, status) in if_range {
        client.request("GET", "/f.bin", &["Range: bytes=0-4", &format!("If-Range: {value}")]).expect(status);
    }
    client.request("GET", "/f.bin", &["Range: bytes=0-4", "If-Range: Thu, 01 Jan 1970 00:00:01 GMT"]).expect(200);
    // A date as young as this file's is too weak a validator to splice bytes by (RFC 9110 section 8.8.2.2).
    let young = client.request("GET", "/f.bin", &["Range: bytes=0-4", &format!("If-Range: {modified}")]);
    assert!(matches!(young.status, 200 | 206), "{young:?}");
    let stale = client.request("GET", "/f.bin", &["Range: bytes=0-4", "If-Match: \"x\""]);
    assert_eq!(stale.status, 412, "preconditions come before ranges");
    server.stop();
}

#[test]
fn what_is_hidden_or_outside_is_404() {
    let outside = Site::new().file("secret.txt", "TOP SECRET");
    let site = Site::new()
        .file("index.html", "home")
        .file("sub/a.txt", "alpha")
        .file(".secret", "TOP SECRET")
        .file(".git/config", "TOP SECRET")
        .file("sub/.hidden/a.txt", "TOP SECRET")
        .file(".well-known/acme", "token")
        .link("inside.txt", "sub/a.txt")
        .link("folder", "sub")
        .link("escape.txt", outside.at("secret.txt"))
        .link(
            "up.txt",
            format!("../{}/secret.txt", outside.root().file_name().expect("a name").to_str().expect("ASCII")),
        )
        .link("escape-folder", outside.root())
        .link("proc", "/proc/self")
        .link("dangling", "nowhere")
        .link("loop", "loop");
    let server = serve(&site);
    let mut client = server.connect();
    for (target, body) in [
        ("/inside.txt", "alpha"),
        ("/folder/a.txt", "alpha"),
        ("/.well-known/acme", "token"),
        ("/sub/../index.html", "home"),
        ("/sub/./a.txt", "alpha"),
        ("/sub//a.txt", "alpha"),
        ("/%73ub/a.txt", "alpha"),
    ] {
        assert_eq!(client.get(target).expect(200).text(), body, "{target}");
    }
    for target in [
        "/absent",
        "/.secret",
        "/%2esecret",
        "/.git/config",
        "/sub/.hidden/a.txt",
        "/sub/..%2f.secret",
        "/sub%2fa.txt",
        "/sub%2Fa.txt",
        "/escape.txt",
        "/up.txt",
        "/escape-folder/secret.txt",
        "/escape-folder/",
        "/proc/environ",
        "/proc/root/etc/passwd",
        "/dangling",
        "/loop",
        "/index.html%20",
        "/INDEX.HTML",
        "/sub%5ca.txt",
    ] {
        let response = client.get(target).expect(404);
        assert!(!response.text().contains("TOP SECRET"), "{target}");
    }
    for target in ["/../secret.txt", "/%2e%2e/secret.txt", "/sub/%2e%2e/%2E./x", "/a%00", "/a%0a", "/.%2e/x"] {
        server.get(target).expect(400);
    }
    server.stop();
}

#[test]
fn what_is_not_a_file_never_blocks_the_core() {
    let site = Site::new().file("a.txt", "alpha").link("zero", "/dev/zero").link("tty", "/dev/tty");
    let fifo = support::run(std::process::Command::new("mkfifo").arg(site.at("fifo")));
    assert!(fifo.status.success());
    let _socket = std::os::unix::net::UnixListener::bind(site.at("socket")).expect("a socket file");
    let server = Server::start(&site, ["--cores", "1"]);
    for target in ["/fifo", "/socket", "/zero", "/tty"] {
        let response = server.get(target);
        assert!(matches!(response.status, 403 | 404), "{target}: {response:?}");
        assert_eq!(server.get("/a.txt").expect(200).text(), "alpha");
    }
    server.stop();
}

/// Reads a body of known length in pieces and hands each to `check` with its offset.
fn stream(client: &mut Client, len: u64, mut check: impl FnMut(u64, &[u8])) {
    let mut at = 0;
    while at < len {
        let piece = client.read_exact((len - at).min(1 << 20) as usize);
        check(at, &piece);
        at += piece.len() as u64;
    }
}

#[test]
fn a_sparse_file_of_600_mib() {
    const LEN: u64 = 600 << 20;
    let site = Site::new();
    let marks: Vec<u64> = (0..60).map(|i| i * 10_485_777 + 12_345).chain([0, LEN - 8]).collect();
    let mut file = fs::File::create(site.at("huge.bin")).expect("create");
    file.set_len(LEN).expect("set_len");
    for &mark in &marks {
        file.seek(SeekFrom::Start(mark)).expect("seek");
        file.write_all(&mark.to_be_bytes().map(|b| b ^ 0xA5)).expect("write");
    }
    drop(file);
    let server = serve(&site);
    let mut client = server.connect();
    client.head(&["GET /huge.bin HTTP/1.1", "Host: {host}"]);
    let head = client.read_head().expect(200);
    assert_eq!(head.must("content-length"), LEN.to_string());
    let mut seen = Vec::new();
    let mut tail = Vec::new();
    stream(&mut client, LEN, |at, piece| {
        // A mark may lie across two pieces: keep the last seven bytes of the one before.
        let (base, both) = (at - tail.len() as u64, [tail.as_slice(), piece].concat());
        for &mark in marks.iter().filter(|&&mark| mark >= base && mark + 8 <= base + both.len() as u64) {
            let from = (mark - base) as usize;
            assert_eq!(both[from..from + 8], mark.to_be_bytes().map(|b| b ^ 0xA5), "at offset {mark}");
            seen.push(mark);
        }
        tail = both[both.len() - 7..].to_vec();
    });
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), marks.len());
    client.request("HEAD", "/huge.bin", &[]).expect(200);
    server.stop();
}

#[test]
fn sixty_four_mib_byte_for_byte_and_in_ranges() {
    let content = noise(64 << 20);
    let site = Site::new().file("big.bin", &content);
    let server = serve(&site);
    let mut client = server.connect();
    for _ in 0..2 {
        client.head(&["GET /big.bin HTTP/1.1", "Host: {host}"]);
        client.read_head().expect(200);
        stream(&mut client, content.len() as u64, |at, piece| {
            assert!(content[at as usize..].starts_with(piece), "differs in the MiB at {at}");
        });
    }
    for (from, to) in [(1, 300_000), (262_143, 262_145), (33_554_431, 50_000_000)] {
        let part = client.request("GET", "/big.bin", &[&format!("Range: bytes={from}-{to}")]).expect(206);
        assert!(part.body == content[from..=to], "bytes {from}-{to}");
    }
    server.stop();
}

#[test]
fn sizes_around_every_threshold() {
    let content = noise((1 << 20) + 1);
    let edges =
        [0, 1, 1023, 1024, 4095, 4096, 16_384, 65_535, 65_536, 65_537, 262_143, 262_144, 262_145, 524_288, 1 << 20];
    let site = edges.iter().fold(Site::new(), |site, &len| site.file(&format!("{len}.bin"), &content[..len]));
    let server = serve(&site);
    let mut client = server.connect();
    for round in 0..3 {
        for len in edges {
            let response = client.get(&format!("/{len}.bin")).expect(200);
            assert!(response.body == content[..len], "{len} bytes, round {round}");
        }
    }
    // All of them in one write: the replies must still come in order and whole.
    let wire: String = edges.iter().map(|len| format!("GET /{len}.bin HTTP/1.1\r\nHost: x\r\n\r\n")).collect();
    client.send(wire);
    for len in edges {
        assert!(client.read().expect(200).body == content[..len], "{len} bytes, pipelined");
    }
    server.stop();
}

#[test]
fn a_reader_that_pauses_holds_up_nobody() {
    let content = noise(16 << 20);
    let site = Site::new().file("big.bin", &content).file("a.txt", "alpha");
    let server = Server::start(&site, ["--cores", "1"]);
    let mut slow: Vec<Client> = (0..4).map(|_| server.connect()).collect();
    for client in &mut slow {
        client.head(&["GET /big.bin HTTP/1.1", "Host: {host}"]);
        client.read_head().expect(200);
    }
    let mut quick = server.connect();
    for _ in 0..200 {
        quick.get("/a.txt").expect(200);
    }
    for client in &mut slow {
        stream(client, content.len() as u64, |at, piece| {
            assert!(content[at as usize..].starts_with(piece), "differs in the MiB at {at}");
        });
    }
    server.stop();
}

#[test]
fn a_changed_file_is_seen() {
    let site = Site::new().file("page.txt", "one").file("dir/deep/page.txt", "one");
    let server = serve(&site);
    let mut client = server.connect();
    for target in ["/page.txt", "/dir/deep/page.txt"] {
        let path = target.trim_start_matches('/');
        let mut etags = Vec::new();
        for (round, content) in ["one", "two, and longer", "three", "four!"].into_iter().enumerate() {
            if round % 2 == 1 {
                fs::rename(site.write("next.tmp", content), site.at(path)).expect("replaced by rename");
            } else {
                site.write(path, content);
            }
            wait_until("the new content is served", || client.get(target).text() == content);
            etags.push(client.get(target).must("etag").to_owned());
        }
        etags.dedup();
        assert_eq!(etags.len(), 4, "every version has its own ETag");
        fs::remove_file(site.at(path)).expect("remove");
        wait_until("a removed file is gone", || client.get(target).status == 404);
        site.write(path, "back");
        wait_until("a file that came back is there", || client.get(target).status == 200);
    }
    fs::rename(site.at("dir/deep"), site.at("dir/moved")).expect("a folder moves");
    wait_until("a moved folder's files are gone", || client.get("/dir/deep/page.txt").status == 404);
    server.stop();
}

#[test]
fn a_file_that_shrinks_while_it_is_sent_closes_the_connection() {
    let site = Site::new().file("big.bin", vec![b'x'; 64 << 20]);
    let server = serve(&site);
    let mut client = server.connect();
    client.head(&["GET /big.bin HTTP/1.1", "Host: {host}"]);
    client.read_head().expect(200);
    client.read_exact(1 << 20);
    fs::OpenOptions::new().write(true).open(site.at("big.bin")).expect("open").set_len(1 << 20).expect("truncate");
    let rest = client.read_to_end();
    assert!(rest.len() < 63 << 20, "nothing is made up for the missing bytes");
    server.get("/big.bin").expect(200);
    server.stop();
}

#[test]
fn clients_that_do_not_read_take_no_buffers_from_the_others() {
    // More than all socket buffers, and then one small segment after another: each fills a receive buffer of the core.
    const SLOW: usize = 100;
    let site = Site::new().file("large.bin", noise(16 << 20)).file("small.txt", "small");
    let server = Server::start(&site, ["--cores", "1"]);
    let mut slow: Vec<Client> = (0..SLOW).map(|_| server.connect()).collect();
    slow.iter_mut().for_each(|client| {
        client.head(&["GET /large.bin HTTP/1.1", "Host: a"]);
    });
    std::thread::sleep(std::time::Duration::from_millis(300));
    for byte in b"GET /small" {
        slow.iter_mut().for_each(|client| {
            client.send([*byte]);
        });
        std::thread::sleep(std::time::Duration::from_millis(30));
    }
    let mut other = server.connect();
    other.socket().set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
    assert_eq!(other.get("/small.txt").expect(200).text(), "small");
    drop(slow);
    server.stop();
}
