//! What is served under which name, as what, by which method, and under which conditions.

mod support;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime};

use rustix::fs::inotify;
use support::{Server, Site};
use ucaffeine::http::date;

#[test]
fn names_are_what_the_file_system_has() {
    let names: [(&str, &[&str]); 11] = [
        ("with space.txt", &["/with%20space.txt"]),
        ("plus+plus.txt", &["/plus+plus.txt", "/plus%2Bplus.txt", "/plus%2bplus.txt"]),
        ("100%.txt", &["/100%25.txt"]),
        ("a%20b.txt", &["/a%2520b.txt"]),
        ("caf\u{e9}.txt", &["/caf%C3%A9.txt", "/caf%c3%a9.txt"]),
        ("\u{65e5}\u{672c}/\u{8a9e}.txt", &["/%E6%97%A5%E6%9C%AC/%E8%AA%9E.txt"]),
        ("q?uestion#hash.txt", &["/q%3Fuestion%23hash.txt"]),
        ("semi;colon,comma&and=is.txt", &["/semi;colon,comma&and=is.txt?a=b"]),
        ("<script>.txt", &["/%3Cscript%3E.txt"]),
        ("back\\slash.txt", &["/back%5Cslash.txt"]),
        ("new\nline.txt", &[]),
    ];
    let site = names.iter().fold(Site::new(), |site, (name, _)| site.file(name, name));
    let site = site.file("Case.TXT", "upper").file("case.txt", "lower");
    let server = Server::start(&site, []);
    let mut client = server.connect();
    for (name, targets) in names {
        for target in targets {
            assert_eq!(client.get(target).expect(200).text(), name, "{target}");
        }
    }
    assert_eq!(client.get("/Case.TXT").expect(200).text(), "upper");
    assert_eq!(client.get("/case.txt").expect(200).text(), "lower");
    for target in
        ["/CASE.TXT", "/with+space.txt", "/with%2520space.txt", "/plus%20plus.txt", "/cafe.txt", "/case.txt%00x"]
    {
        let status = client.get(target).status;
        assert!(matches!(status, 404 | 400), "{target}: {status}");
    }
    // What is no encoding is no request, and a line break is in nobody's path.
    for target in ["/100%.txt", "/%zz", "/%4", "/new%0Aline.txt"] {
        server.get(target).expect(400);
    }
    server.stop();
}

#[test]
fn a_redirect_to_a_folder_is_a_path_that_leads_back() {
    let site = Site::new()
        .file("with space/index.html", "space")
        .file("100%/index.html", "percent")
        .file("caf\u{e9}/index.html", "unicode")
        .file("q?x/index.html", "question");
    let server = Server::start(&site, []);
    let mut client = server.connect();
    for (target, body) in
        [("/with%20space", "space"), ("/100%25", "percent"), ("/caf%C3%A9", "unicode"), ("/q%3Fx", "question")]
    {
        for query in ["", "?a=1&b=%2F%25"] {
            let location = client.get(&format!("{target}{query}")).expect(301).must("location").to_owned();
            assert_eq!(location, format!("{target}/{query}"));
            assert_eq!(client.get(&location).expect(200).text(), body);
        }
    }
    server.stop();
}

#[test]
fn types_of_what_sites_are_made_of() {
    const TEXT: [(&str, &str); 12] = [
        ("a.html", "text/html; charset=utf-8"),
        ("a.HTM", "text/html; charset=utf-8"),
        ("a.css", "text/css; charset=utf-8"),
        ("a.js", "text/javascript; charset=utf-8"),
        ("a.mjs", "text/javascript; charset=utf-8"),
        ("a.txt", "text/plain; charset=utf-8"),
        ("a.md", "text/markdown; charset=utf-8"),
        ("a.csv", "text/csv; charset=utf-8"),
        ("a.vtt", "text/vtt; charset=utf-8"),
        ("a.ics", "text/calendar; charset=utf-8"),
        ("a.rs", "text/plain; charset=utf-8"),
        ("a.log", "text/plain; charset=utf-8"),
    ];
    const DATA: [(&str, &str); 13] = [
        ("a.json", "application/json"),
        ("a.js.map", "application/json"),
        ("a.jsonld", "application/ld+json"),
        ("a.webmanifest", "application/manifest+json"),
        ("a.xml", "application/xml"),
        ("a.atom", "application/atom+xml"),
        ("a.rss", "application/rss+xml"),
        ("a.xhtml", "application/xhtml+xml"),
        ("a.wasm", "application/wasm"),
        ("a.pdf", "application/pdf"),
        ("a.zip", "application/zip"),
        ("a.tar.gz", "application/gzip"),
        ("a.none-such", "application/octet-stream"),
    ];
    const MEDIA: [(&str, &str); 23] = [
        ("a.svg", "image/svg+xml"),
        ("a.png", "image/png"),
        ("a.jpg", "image/jpeg"),
        ("a.jpeg", "image/jpeg"),
        ("a.gif", "image/gif"),
        ("a.webp", "image/webp"),
        ("a.avif", "image/avif"),
        ("a.ico", "image/x-icon"),
        ("a.woff", "font/woff"),
        ("a.woff2", "font/woff2"),
        ("a.ttf", "font/ttf"),
        ("a.otf", "font/otf"),
        ("a.mp4", "video/mp4"),
        ("a.webm", "video/webm"),
        ("a.mov", "video/quicktime"),
        ("a.mp3", "audio/mpeg"),
        ("a.m4a", "audio/mp4"),
        ("a.ogg", "audio/ogg"),
        ("a.oga", "audio/ogg"),
        ("a.ogv", "video/ogg"),
        ("a.opus", "audio/ogg"),
        ("a.flac", "audio/flac"),
        ("a.wav", "audio/wav"),
    ];
    let all = || TEXT.iter().chain(&DATA).chain(&MEDIA);
    let site = all().fold(Site::new(), |site, (name, _)| site.file(name, "x"));
    let server = Server::start(&site, []);
    let mut client = server.connect();
    let wrong: Vec<String> = all()
        .filter_map(|(name, expected)| {
            let got = client.get(&format!("/{name}")).expect(200);
            assert_eq!(got.must("x-content-type-options"), "nosniff");
            (got.must("content-type") != *expected).then(|| format!("{name}: {}", got.must("content-type")))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    server.stop();
}

#[test]
fn methods_of_a_file() {
    let site = Site::new().file("a.txt", "alpha").file("dir/index.html", "dir");
    let server = Server::start(&site, []);
    let mut client = server.connect();
    for target in ["/a.txt", "/dir/", "/dir"] {
        let options = client.request("OPTIONS", target, &[]).expect(204);
        assert_eq!(options.must("allow"), "GET, HEAD, OPTIONS", "{target}");
        assert!(options.body.is_empty() && options.field("content-length").is_none());
        for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE"] {
            let refused = client.request(method, target, &["If-Match: \"x\""]).expect(405);
            assert_eq!(refused.must("allow"), "GET, HEAD, OPTIONS", "{method} {target}");
        }
    }
    // What is not there has no methods, and a method that nobody knows has no files.
    client.request("OPTIONS", "/absent", &[]).expect(404);
    client.request("DELETE", "/absent", &[]).expect(404);
    client.request("BREW", "/a.txt", &[]).expect(501);
    server.stop();
}

/// RFC 9110 section 13.2.2, step by step, and what a step hides.
#[test]
fn conditions_in_their_order() {
    let site = Site::new().file("a.txt", "alpha");
    let written = SystemTime::now() - Duration::from_secs(3600);
    File::options().write(true).open(site.at("a.txt")).expect("open").set_modified(written).expect("utimensat");
    let server = Server::start(&site, []);
    let mut client = server.connect();
    let first = client.get("/a.txt").expect(200);
    let (etag, date) = (first.must("etag").to_owned(), first.must("last-modified").to_owned());
    let cases: &[(&str, u16)] = &[
        // 1. If-Match, and 2. If-Unmodified-Since only without it.
        ("If-Match: ETAG", 200),
        ("If-Match: \"x\", ETAG", 200),
        ("If-Match: *", 200),
        ("If-Match: \"x\"", 412),
        ("If-Match: W/ETAG", 412),
        ("If-Match: ETAG|If-Unmodified-Since: OLD", 200),
        ("If-Match: \"x\"|If-Unmodified-Since: NEW", 412),
        ("If-Unmodified-Since: DATE", 200),
        ("If-Unmodified-Since: NEW", 200),
        ("If-Unmodified-Since: OLD", 412),
        ("If-Unmodified-Since: whenever", 200),
        ("If-Unmodified-Since: OLD|If-Unmodified-Since: OLD", 200),
        // 3. If-None-Match, and 4. If-Modified-Since only without it.
        ("If-None-Match: ETAG", 304),
        ("If-None-Match: W/ETAG", 304),
        ("If-None-Match: \"x\", W/ETAG", 304),
        ("If-None-Match: *", 304),
        ("If-None-Match: \"x\"", 200),
        ("If-None-Match: \"x\"|If-Modified-Since: DATE", 200),
        ("If-None-Match: ETAG|If-Modified-Since: OLD", 304),
        ("If-Modified-Since: DATE", 304),
        ("If-Modified-Since: NEW", 304),
        ("If-Modified-Since: OLD", 200),
        ("If-Modified-Since: whenever", 200),
        // The first two steps come before the others.
        ("If-Match: \"x\"|If-None-Match: ETAG", 412),
        ("If-Match: ETAG|If-None-Match: ETAG", 304),
        ("If-Unmodified-Since: OLD|If-None-Match: ETAG", 412),
        ("If-Unmodified-Since: DATE|If-Modified-Since: DATE", 304),
        // 5. Range comes last.
        ("Range: bytes=0-1|If-Match: \"x\"", 412),
        ("Range: bytes=0-1|If-None-Match: ETAG", 304),
        ("Range: bytes=99-|If-None-Match: ETAG", 304),
        ("Range: bytes=0-1|If-None-Match: \"x\"", 206),
        ("Range: bytes=0-1|If-Range: ETAG", 206),
        ("Range: bytes=0-1|If-Range: W/ETAG", 200),
        ("Range: bytes=0-1|If-Range: \"x\"", 200),
        ("Range: bytes=0-1|If-Range: DATE", 206),
        ("Range: bytes=0-1|If-Range: NEW", 200),
        ("Range: bytes=0-1|If-Range: OLD", 200),
        ("Range: bytes=0-1|If-Range: whenever", 200),
        ("Range: bytes=99-|If-Range: ETAG", 416),
        ("Range: bytes=99-|If-Range: \"x\"", 200),
        ("If-Range: \"x\"", 200),
    ];
    for (fields, status) in cases {
        let fields = fields.replace("ETAG", &etag).replace("DATE", &date);
        let fields =
            fields.replace("OLD", "Thu, 01 Jan 1970 00:00:01 GMT").replace("NEW", "Fri, 31 Dec 2100 23:59:59 GMT");
        let lines: Vec<&str> = fields.split('|').collect();
        let got = client.request("GET", "/a.txt", &lines).expect(*status);
        // A HEAD has no ranges, and else the same answer.
        let head = client.request("HEAD", "/a.txt", &lines);
        let expected = if matches!(status, 206 | 416) { 200 } else { *status };
        assert_eq!(head.status, expected, "HEAD with {fields}");
        if *status == 304 {
            assert_eq!((got.must("etag"), got.field("content-length")), (etag.as_str(), None), "{fields}");
        }
    }
    server.stop();
}

/// RFC 9110 section 8.8.2.1.
#[test]
fn no_modification_is_in_the_future() {
    let site = Site::new().file("a.txt", "alpha");
    let future = SystemTime::now() + Duration::from_secs(3600);
    File::options().write(true).open(site.at("a.txt")).expect("open").set_modified(future).expect("utimensat");
    let server = Server::start(&site, []);
    let mut client = server.connect();
    let whole = client.get("/a.txt").expect(200);
    let seconds = |name: &str| date::parse(whole.must(name).as_bytes()).expect("a date");
    assert!(seconds("last-modified") <= seconds("date"), "{whole:?}");
    let etag = format!("If-Range: {}", whole.must("etag"));
    client.request("GET", "/a.txt", &["Range: bytes=0-1", &etag]).expect(206);
    server.stop();
}

/// However a change is hidden, by the same length and by the old time, the tag tells.
#[test]
fn a_tag_changes_within_a_second_and_under_a_forged_time() {
    let site = Site::new().file("a.txt", "version 0");
    let server = Server::start(&site, []);
    let mut client = server.connect();
    let forged = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let mut tags = Vec::new();
    for version in 0..5 {
        let body = format!("version {version}");
        let file = File::options().write(true).open(site.at("a.txt")).expect("open");
        file.write_all_at(body.as_bytes(), 0).expect("write");
        file.set_modified(forged).expect("utimensat");
        support::wait_until("the new content", || client.get("/a.txt").text() == body);
        let got = client.get("/a.txt").expect(200);
        assert_eq!(got.must("last-modified"), "Tue, 14 Nov 2023 22:13:20 GMT");
        tags.push(got.must("etag").to_owned());
    }
    let stale = format!("If-None-Match: {}", tags[..4].join(", "));
    assert_eq!(client.request("GET", "/a.txt", &[&stale]).expect(200).text(), "version 4");
    tags.sort();
    tags.dedup();
    assert_eq!(tags.len(), 5);
    server.stop();
}

/// Opening a FIFO waits for a writer, and opening a device may do anything. The watch sees every open that is not O_PATH.
#[test]
fn what_is_not_a_file_is_not_even_opened() {
    let site = Site::new().file("a.txt", "alpha").link("null", "/dev/null").link("to-fifo", "fifo");
    let fifo = support::run(std::process::Command::new("mkfifo").arg(site.at("fifo")));
    assert!(fifo.status.success());
    let _socket = std::os::unix::net::UnixListener::bind(site.at("socket")).expect("a socket file");
    let server = Server::start(&site, ["--cores", "1"]);
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK).expect("inotify");
    inotify::add_watch(&watch, site.root(), inotify::WatchFlags::OPEN).expect("a watch");
    let mut client = server.connect();
    for target in ["/fifo", "/to-fifo", "/socket", "/null", "/a.txt"] {
        let status = client.get(target).status;
        assert_eq!(status, if target == "/a.txt" { 200 } else { 404 }, "{target}");
    }
    let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(&watch, &mut buffer);
    let mut opened = Vec::new();
    while let Ok(event) = events.next() {
        opened.extend(event.file_name().map(|name| name.to_string_lossy().into_owned()));
    }
    opened.dedup();
    assert_eq!(opened, ["a.txt"]);
    server.stop();
}

#[test]
fn dotfiles_are_nowhere_but_well_known() {
    let site = Site::new()
        .file(".env", "SECRET")
        .file(".git/HEAD", "SECRET")
        .file("sub/.env", "SECRET")
        .file("sub/.well-known/x", "SECRET")
        .file("...", "SECRET")
        .file(".well-known/security.txt", "contact")
        .file(".well-known/.secret", "SECRET")
        .file(".well-known/index.html", "index")
        .file("a.b.txt", "dots");
    let server = Server::start(&site, []);
    let mut client = server.connect();
    assert_eq!(client.get("/.well-known/security.txt").expect(200).text(), "contact");
    assert_eq!(client.get("/.well-known/").expect(200).text(), "index");
    assert_eq!(client.get("/.well-known").expect(301).must("location"), "/.well-known/");
    assert_eq!(client.get("/a.b.txt").expect(200).text(), "dots");
    for target in [
        "/.env",
        "/%2eenv",
        "/%2Eenv",
        "/sub/../.env",
        "/.git",
        "/.git/",
        "/.git/HEAD",
        "/sub/.env",
        "/sub/.well-known/x",
        "/...",
        "/.well-known/.secret",
        "/.well-known/%2esecret",
        "/.WELL-KNOWN/security.txt",
    ] {
        let got = client.get(target).expect(404);
        assert!(!got.text().contains("SECRET"), "{target}");
    }
    server.stop();
}

#[test]
fn a_sibling_made_later_is_found() {
    let site = Site::new().file("a.js", "identity");
    let server = Server::start(&site, []);
    let mut client = server.connect();
    let coded = |client: &mut support::Client| {
        client.request("GET", "/a.js", &["Accept-Encoding: gzip"]).field("content-encoding").map(str::to_owned)
    };
    assert_eq!(coded(&mut client), None);
    site.write("a.js.gz.tmp", "gzip");
    fs::rename(site.at("a.js.gz.tmp"), site.at("a.js.gz")).expect("rename");
    support::wait_until("the sibling is found", || coded(&mut client).as_deref() == Some("gzip"));
    server.stop();
}
