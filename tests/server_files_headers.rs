//! Fields by rules of the operator: which replies have them, and what is refused at the start.

mod support;

use support::{Launch, Response, Server, Site};

fn pages() -> Site {
    Site::new()
        .file("index.html", "home")
        .file("a.css", "a { color: red; background: blue; margin: 0; padding: 0 }".repeat(20))
        .file("a.css.gz", "gzip")
        .file("docs/index.html", "docs")
        .file("docs/guide/index.html", "guide")
        .file("docs/note.txt", "note")
        .file("fonts/f.woff2", "font")
        .file("sp ace/caf\u{e9}.txt", "unicode")
        .sh("cgi-bin/hello", "printf 'Content-Type: text/plain\\n\\nhello'")
}

fn field(response: &Response, name: &str) -> Option<String> {
    response.field(name).map(str::to_owned)
}

#[test]
fn rules_reach_files_indexes_redirects_and_errors() {
    let site = pages();
    let server = Server::start(
        &site,
        [
            "--header",
            "/ X-All: yes",
            "--header",
            "/docs/ X-Docs: yes",
            "--header",
            "/**/index.html X-Index: yes",
            "--header",
            "/fonts/ Access-Control-Allow-Origin: *",
            "--header",
            "/docs/note.txt X-All: other",
            "--header",
            "/sp%20ace/caf\u{e9}.txt X-Exact: yes",
            "--cache-control",
            "/ no-cache",
            "--cache-control",
            "/**/*.css public, max-age=31536000, immutable",
        ],
    );
    let mut client = server.connect();
    for (target, status, fields) in [
        // An index is a file of its folder, under whatever address it was asked for.
        ("/", 200, &[("x-all", Some("yes")), ("x-index", Some("yes")), ("x-docs", None)][..]),
        ("/docs/", 200, &[("x-all", Some("yes")), ("x-index", Some("yes")), ("x-docs", Some("yes"))]),
        ("/docs/guide/", 200, &[("x-index", Some("yes")), ("x-docs", Some("yes"))]),
        ("/docs/guide/index.html", 200, &[("x-index", Some("yes")), ("x-docs", Some("yes"))]),
        ("/docs/note.txt", 200, &[("x-all", Some("other")), ("x-index", None), ("x-docs", Some("yes"))]),
        ("/fonts/f.woff2", 200, &[("access-control-allow-origin", Some("*"))]),
        ("/sp%20ace/caf%C3%A9.txt", 200, &[("x-exact", Some("yes"))]),
        // Redirects and errors, with and without a folder.
        ("/docs", 301, &[("x-docs", Some("yes")), ("x-all", Some("yes"))]),
        ("/docs/absent", 404, &[("x-docs", Some("yes")), ("x-all", Some("yes"))]),
        ("/docs/.hidden", 404, &[("x-all", Some("yes"))]),
        ("/fonts/absent", 404, &[("access-control-allow-origin", Some("*"))]),
        // Scripts say themselves what their replies say.
        ("/cgi-bin/hello", 200, &[("x-all", None), ("cache-control", None)]),
        ("/cgi-bin/absent", 404, &[("x-all", None), ("cache-control", None)]),
    ] {
        let got = client.get(target).expect(status);
        for (name, value) in fields {
            assert_eq!(got.field(name), *value, "{name} of {target}: {got:?}");
        }
        if target == "/cgi-bin/hello" {
            continue;
        }
        let head = client.request("HEAD", target, &[]).expect(status);
        assert_eq!(head.fields.len(), got.fields.len(), "{target}: {head:?}");
        assert_eq!(got.field("cache-control").is_some(), status == 200, "{target}: {got:?}");
        assert_eq!(got.field("x-content-type-options"), Some("nosniff"), "{target}");
    }
    let options = client.request("OPTIONS", "/fonts/f.woff2", &[]).expect(204);
    assert_eq!(options.must("access-control-allow-origin"), "*");
    let not_allowed = client.request("POST", "/fonts/f.woff2", &["Content-Length: 0"]).expect(405);
    assert_eq!(not_allowed.must("access-control-allow-origin"), "*");
    server.stop();
}

/// RFC 9110 section 15.4.5: what a cache would have been told by a 200, it is told by a 304.
#[test]
fn cache_control_is_the_same_in_200_206_and_304() {
    let site = pages();
    let server = Server::start(&site, ["--cache-control", "/**/*.css public, max-age=60", "--header", "/ X-All: yes"]);
    let mut client = server.connect();
    for accepted in ["identity", "gzip"] {
        let coding = format!("Accept-Encoding: {accepted}");
        let whole = client.request("GET", "/a.css", &[&coding]).expect(200);
        let etag = whole.must("etag");
        let same = ["cache-control", "etag", "vary", "x-all", "x-content-type-options"];
        for (fields, status) in [
            (vec![format!("If-None-Match: {etag}")], 304),
            (vec!["Range: bytes=0-1".into()], 206),
            (vec!["If-None-Match: *".into(), "Range: bytes=0-1".into()], 304),
        ] {
            let fields: Vec<&str> = fields.iter().map(String::as_str).chain([coding.as_str()]).collect();
            let got = client.request("GET", "/a.css", &fields).expect(status);
            for name in same {
                assert_eq!(field(&got, name), field(&whole, name), "{name} with {fields:?}");
                assert!(got.field(name).is_some(), "{name} with {fields:?}");
            }
        }
        // A failure is about the request, and not to be kept.
        for (bad, status) in [("If-Match: \"other\"", 412), ("Range: bytes=9999999-", 416)] {
            let got = client.request("GET", "/a.css", &[bad, &coding]).expect(status);
            assert_eq!((got.field("cache-control"), got.field("x-all")), (None, Some("yes")), "{got:?}");
        }
    }
    let several = client.request("GET", "/a.css", &["Range: bytes=0-1,100-110"]).expect(206);
    assert_eq!(several.must("cache-control"), "public, max-age=60");
    server.stop();
}

#[test]
fn nosniff_can_be_taken_away_where_somebody_insists() {
    let site = pages();
    let server = Server::start(&site, ["--header", "/docs/ X-Content-Type-Options:"]);
    let mut client = server.connect();
    assert_eq!(client.get("/docs/note.txt").expect(200).field("x-content-type-options"), None);
    assert_eq!(client.get("/docs/absent").expect(404).field("x-content-type-options"), None);
    assert_eq!(client.get("/a.css").expect(200).must("x-content-type-options"), "nosniff");
    server.stop();
}

#[test]
fn rules_from_a_file_and_from_a_variable() {
    let site = pages();
    let config = site.write(
        "site.toml",
        "header = [\"/ Content-Security-Policy: default-src 'self'; img-src *\", '/docs/ X-B: 2']\n\
         cache_control = ['/ no-cache']\n",
    );
    let server = Launch::new(&site).args(["--config", config.to_str().expect("UTF-8")]).start();
    let got = server.get("/docs/note.txt").expect(200);
    assert_eq!(got.must("content-security-policy"), "default-src 'self'; img-src *");
    assert_eq!((got.must("x-b"), got.must("cache-control")), ("2", "no-cache"));
    server.stop();

    let lines = "/ Content-Security-Policy: default-src 'self'; img-src *\n/docs/ X-B: 2\n";
    let server = Launch::new(&site).env("UCAFFEINE_HEADER", lines).start();
    let got = server.get("/docs/note.txt").expect(200);
    assert_eq!(got.must("content-security-policy"), "default-src 'self'; img-src *");
    assert_eq!(got.must("x-b"), "2");
    server.stop();
}

#[test]
fn a_rule_that_could_break_a_reply_keeps_the_server_from_starting() {
    let site = pages();
    for (flag, text, why) in [
        ("--header", "/ Content-Length: 5", "Content-Length cannot be set"),
        ("--header", "/ connection: close", "connection cannot be set"),
        ("--header", "/ Date: today", "Date cannot be set"),
        ("--header", "/ Cache-Control: no-store", "--cache-control"),
        ("--header", "/ X-A: b\r\nX-B: c", "cannot stand in the value"),
        ("--header", "/ X A: b", "no field name"),
        ("--header", "X-A: b", "must begin with a slash"),
        ("--header", "/a.{css,js} X-A: b", "%7B"),
        ("--cache-control", "no-cache", "needs PATTERN VALUE"),
        ("--cache-control", "/ a\nb", "cannot stand in the value"),
    ] {
        let exit = Launch::new(&site).args([flag, text]).fails();
        assert_eq!(exit.code, Some(2), "{text:?}: {exit:?}");
        assert!(exit.output.contains(why) && exit.output.trim().lines().count() == 1, "{text:?}: {exit:?}");
    }
    let exit = Launch::new(&site).env("UCAFFEINE_HEADER", "/ ETag: x").fails();
    assert_eq!(exit.code, Some(3), "{exit:?}");
}
