//! Compressed siblings over real sockets: `a.css.br` beside `a.css`, and who gets which.

mod support;

use std::fs;
use std::time::{Duration, SystemTime};
use support::{Client, Server, Site, noise, wait_until};

/// A site with one file and siblings of it. What is in them does not matter to the server: it never looks.
fn styles() -> Site {
    Site::new()
        .file("a.css", "identity")
        .file("a.css.br", "brotli!")
        .file("a.css.zst", "zstandard")
        .file("a.css.gz", "gzip, longer than the rest")
        .file("plain.css", "no siblings")
        .file("orphan.js.gz", "a sibling of nothing")
        .file("index.html", "home")
        .file("index.html.gz", "home, gzipped")
}

fn asking(client: &mut Client, method: &str, target: &str, accepted: &str) -> support::Response {
    client.request(method, target, &[&format!("Accept-Encoding: {accepted}")])
}

#[test]
fn the_client_says_what_it_takes() {
    let site = styles();
    let server = Server::start(&site, []);
    let mut client = server.connect();
    let mut tags = Vec::new();
    for (accepted, coding, body) in [
        ("gzip, deflate, br, zstd", Some("br"), "brotli!"),
        ("gzip, zstd", Some("zstd"), "zstandard"),
        ("gzip", Some("gzip"), "gzip, longer than the rest"),
        ("br;q=0.1, gzip;q=0.9", Some("gzip"), "gzip, longer than the rest"),
        ("*", Some("br"), "brotli!"),
        ("identity, br;q=0", None, "identity"),
        ("deflate", None, "identity"),
        ("", None, "identity"),
        ("br;q=much", None, "identity"),
        // Nothing acceptable: the file as it is, and not a 406 (RFC 9110 section 12.5.3).
        ("identity;q=0", None, "identity"),
        ("*;q=0", None, "identity"),
    ] {
        let got = asking(&mut client, "GET", "/a.css", accepted).expect(200);
        assert_eq!((got.field("content-encoding"), got.text().as_str()), (coding, body), "{accepted:?}");
        assert_eq!(got.must("content-type"), "text/css; charset=utf-8");
        assert_eq!(got.must("content-length"), body.len().to_string());
        assert_eq!(got.must("vary"), "Accept-Encoding");
        tags.push((got.must("etag").to_owned(), coding));
        let head = asking(&mut client, "HEAD", "/a.css", accepted).expect(200);
        assert_eq!(without_date(head), without_date(got));
    }
    let silent = client.get("/a.css").expect(200);
    assert_eq!((silent.field("content-encoding"), silent.text().as_str()), (None, "identity"));
    assert_eq!(silent.must("vary"), "Accept-Encoding");
    tags.sort();
    tags.dedup();
    assert_eq!(tags.len(), 4, "each representation has one ETag of its own: {tags:?}");

    let home = asking(&mut client, "GET", "/", "gzip").expect(200);
    assert_eq!((home.must("content-encoding"), home.text().as_str()), ("gzip", "home, gzipped"));
    assert_eq!(home.must("content-type"), "text/html; charset=utf-8");
    server.stop();
}

fn without_date(mut response: support::Response) -> Vec<(String, String)> {
    response.fields.retain(|(name, _)| name != "date");
    response.fields
}

#[test]
fn without_a_choice_nothing_varies() {
    let site = styles();
    let server = Server::start(&site, []);
    let mut client = server.connect();
    let plain = asking(&mut client, "GET", "/plain.css", "br, gzip").expect(200);
    assert!(plain.field("vary").is_none() && plain.field("content-encoding").is_none(), "{plain:?}");
    // Asked for by its own name, a sibling is a file like any other.
    let itself = asking(&mut client, "GET", "/a.css.gz", "gzip, br").expect(200);
    assert_eq!((itself.must("content-type"), itself.field("content-encoding")), ("application/gzip", None));
    assert_eq!(itself.text(), "gzip, longer than the rest");
    assert!(itself.field("vary").is_none(), "{itself:?}");
    // A sibling of what is not there is no representation of it.
    asking(&mut client, "GET", "/orphan.js", "gzip").expect(404);
    server.stop();

    let server = Server::start(&site, ["--no-precompressed"]);
    let off = asking(&mut server.connect(), "GET", "/a.css", "br").expect(200);
    assert_eq!((off.text().as_str(), off.field("vary")), ("identity", None));
    server.stop();
}

#[test]
fn conditions_and_ranges_are_about_the_chosen_one() {
    let site = styles();
    let server = Server::start(&site, []);
    let mut client = server.connect();
    let br = asking(&mut client, "GET", "/a.css", "br").must("etag").to_owned();
    let (if_none_match, if_range) = (format!("If-None-Match: {br}"), format!("If-Range: {br}"));
    let cases: [(&[&str], u16, &str); 8] = [
        (&["Accept-Encoding: br", &if_none_match], 304, ""),
        (&["Accept-Encoding: gzip", &if_none_match], 200, "gzip, longer than the rest"),
        (&[&if_none_match], 200, "identity"),
        (&["Accept-Encoding: br", "Range: bytes=2-4"], 206, "otl"),
        (&["Accept-Encoding: br", "Range: bytes=-1", &if_range], 206, "!"),
        (&["Range: bytes=2-4", &if_range], 200, "identity"),
        (&["Range: bytes=2-4"], 206, "ent"),
        (&["Accept-Encoding: zstd", "Range: bytes=-4"], 206, "dard"),
    ];
    for (fields, status, body) in cases {
        let got = client.request("GET", "/a.css", fields).expect(status);
        assert_eq!(got.text(), body, "{fields:?}");
        assert_eq!(got.must("vary"), "Accept-Encoding", "{fields:?}");
    }
    let part = client.request("GET", "/a.css", &["Accept-Encoding: br", "Range: bytes=2-4"]);
    assert_eq!((part.must("content-range"), part.must("content-encoding")), ("bytes 2-4/7", "br"));
    let beyond = client.request("GET", "/a.css", &["Accept-Encoding: br", "Range: bytes=7-"]).expect(416);
    assert_eq!((beyond.must("content-range"), beyond.must("vary")), ("bytes */7", "Accept-Encoding"));
    server.stop();
}

/// In and out of the cache, copied behind the head, beside it, and by sendfile.
#[test]
fn siblings_of_every_size() {
    let content = noise(3 << 20);
    let (small, medium, large) = (&content[..10_000], &content[5..100_005], &content[9..2_000_009]);
    let site = Site::new()
        .file("a.js", &content)
        .file("a.js.br", small)
        .file("a.js.zst", medium)
        .file("a.js.gz", large)
        .file("b.js", small)
        .file("b.js.gz", large);
    for flags in [&[][..], &["--cache-bytes-max", "0"], &["--cache-bytes-max", "110KiB"]] {
        let server = Server::start(&site, flags.iter().copied());
        let mut client = server.connect();
        for _ in 0..2 {
            for (target, accepted, expected) in [
                ("/a.js", "br", small),
                ("/a.js", "zstd", medium),
                ("/a.js", "gzip", large),
                ("/a.js", "identity", content.as_slice()),
                ("/b.js", "gzip", large),
                ("/b.js", "br", small),
            ] {
                let got = asking(&mut client, "GET", target, accepted).expect(200);
                assert!(got.body == expected, "{target} as {accepted} with {flags:?}: {got:?}");
                let part = [format!("Accept-Encoding: {accepted}"), "Range: bytes=100-9999".into()];
                let part = client.request("GET", target, &[&part[0], &part[1]]).expect(206);
                assert!(part.body == expected[100..10_000], "{target} as {accepted} with {flags:?}: {part:?}");
            }
        }
        server.stop();
    }
}

#[test]
fn a_sibling_that_is_older_is_not_used() {
    let site = styles();
    let now = SystemTime::now();
    let set = |path: &str, time: SystemTime| {
        fs::OpenOptions::new().write(true).open(site.at(path)).expect("open").set_modified(time).expect("utimensat");
    };
    set("a.css", now);
    set("a.css.br", now - Duration::from_nanos(1));
    set("a.css.zst", now);
    set("a.css.gz", now - Duration::from_secs(60));
    let server = Server::start(&site, []);
    let mut client = server.connect();
    let got = asking(&mut client, "GET", "/a.css", "br, zstd, gzip").expect(200);
    assert_eq!(got.must("content-encoding"), "zstd", "copied times are as good as later ones");
    assert_eq!(asking(&mut client, "GET", "/a.css", "br, gzip").expect(200).text(), "identity");

    // The file changes: what was made from it before is no longer it.
    site.write("a.css", "identity, changed");
    set("a.css", now + Duration::from_secs(1));
    wait_until("the stale sibling is passed over", || {
        asking(&mut client, "GET", "/a.css", "zstd").text() == "identity, changed"
    });
    assert!(client.get("/a.css").field("vary").is_none(), "there is no choice any more");
    // And made again, it is used again.
    site.write("a.css.gz", "gzip, changed");
    set("a.css.gz", now + Duration::from_secs(2));
    wait_until("the new sibling is found", || asking(&mut client, "GET", "/a.css", "gzip").text() == "gzip, changed");
    assert_eq!(client.get("/a.css").must("vary"), "Accept-Encoding");
    fs::remove_file(site.at("a.css.gz")).expect("remove");
    wait_until("a sibling that is gone is not sent", || {
        asking(&mut client, "GET", "/a.css", "gzip").field("content-encoding").is_none()
    });
    server.stop();
}

#[test]
fn what_could_not_be_asked_for_is_no_sibling() {
    let outside = Site::new().file("secret", "TOP SECRET");
    let site = Site::new()
        .file("a.css", "identity")
        .link("a.css.br", outside.at("secret"))
        .file("a.css.zst/folder", "x")
        .file("a.css.gz", "")
        .file("b.css", "identity")
        .link("b.css.gz", "b.css")
        .file("tool", "identity")
        .sh("tool.br", "# TOP SECRET")
        .file(".well-known/a.txt", "identity")
        .file(".well-known/a.txt.gz", "gzip");
    let fifo = support::run(std::process::Command::new("mkfifo").arg(site.at("tool.gz")));
    assert!(fifo.status.success());
    let mount = format!("/run={}", site.at("tool.br").display());
    let server = Server::start(&site, ["--cgi", &mount]);
    let mut client = server.connect();
    for target in ["/a.css", "/b.css", "/tool"] {
        let got = asking(&mut client, "GET", target, "br, zstd, gzip").expect(200);
        assert_eq!((got.text().as_str(), got.field("vary")), ("identity", None), "{target}");
    }
    assert_eq!(asking(&mut client, "GET", "/.well-known/a.txt", "gzip").expect(200).text(), "gzip");
    server.stop();
}
