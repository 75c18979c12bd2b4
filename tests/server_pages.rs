//! What a site answers with besides its files, over real sockets: listings, clean URLs, the page of an application, pages for
//! errors.

mod support;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};

use support::{Client, Launch, Response, Server, Site, skip_or_fail, wait_until};

const JSON: &str = "Accept: application/json";
const NAVIGATES: &str = "Accept: text/html,application/xhtml+xml,*/*;q=0.8";

fn listing(site: &Site) -> Server {
    Server::start(site, ["--listing"])
}

fn fifo(at: &Path) {
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, at, rustix::fs::FileType::Fifo, mode, 0).expect("mkfifo");
}

/// The names in a listing as HTML: where each link leads, decoded.
fn names(page: &Response) -> Vec<Vec<u8>> {
    let text = page.text();
    let rows = text.split_once("<tbody>\n").and_then(|(_, rest)| rest.split_once("</tbody>")).expect("a table").0;
    rows.lines()
        .map(|row| decoded(row.split_once("<a href=\"./").expect("a link").1.split('"').next().unwrap()))
        .collect()
}

fn decoded(url: &str) -> Vec<u8> {
    let mut bytes = url.bytes();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let digits: String = bytes.by_ref().take(2).map(char::from).collect();
                u8::from_str_radix(&digits, 16).expect("two digits")
            }
            byte => byte,
        });
    }
    out
}

fn text_names(page: &Response) -> Vec<String> {
    names(page).into_iter().map(|name| String::from_utf8(name).expect("UTF-8")).collect()
}

#[test]
fn a_folder_without_an_index_is_listed() {
    let site = Site::new()
        .file("b10.txt", "ten")
        .file("b9.txt", "nine!")
        .file("A.txt", "a")
        .file("zoo/lion", "")
        .file("with-index/index.html", "the index");
    let server = listing(&site);
    let mut client = server.connect();
    let page = client.request("GET", "/", &[NAVIGATES]).expect(200);
    assert_eq!(text_names(&page), ["with-index/", "zoo/", "A.txt", "b9.txt", "b10.txt"]);
    assert_eq!(page.must("content-type"), "text/html; charset=utf-8");
    assert_eq!(page.must("cache-control"), "no-cache");
    assert_eq!(page.must("vary"), "Accept");
    assert_eq!(page.must("x-content-type-options"), "nosniff");
    let policy = page.must("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
    assert!(page.text().contains("<td title=\"5 bytes\">5 B</td>"), "{page:?}");
    assert_eq!(text_names(&client.get("/zoo/").expect(200)), ["lion"]);
    assert_eq!(client.get("/zoo").expect(301).must("location"), "/zoo/");
    assert_eq!(client.get("/with-index/").expect(200).text(), "the index");
    client.get("/missing/").expect(404);
    client.get("/A.txt/").expect(404);
    server.stop();
    let server = Server::start(&site, []);
    server.get("/").expect(404);
    server.get("/zoo/").expect(404);
    server.stop();
}

#[test]
fn methods_and_conditions_of_a_listing() {
    let site = Site::new().file("d/a", "1");
    let server = listing(&site);
    let mut client = server.connect();
    let page = client.get("/d/").expect(200);
    let head = client.request("HEAD", "/d/", &[]).expect(200);
    let fields = |response: &Response| -> Vec<(String, String)> {
        response.fields.iter().filter(|(name, _)| name != "date").cloned().collect()
    };
    assert_eq!(fields(&head), fields(&page));
    for method in ["POST", "PUT", "DELETE"] {
        let response = client.request(method, "/d/", &["Content-Length: 0"]).expect(405);
        assert_eq!(response.must("allow"), "GET, HEAD, OPTIONS");
    }
    assert_eq!(client.request("OPTIONS", "/d/", &[]).expect(204).must("allow"), "GET, HEAD, OPTIONS");
    let etag = page.must("etag").to_owned();
    assert!(etag.starts_with("W/\""), "{etag}");
    let same = format!("If-None-Match: {etag}");
    let unchanged = client.request("GET", "/d/", &[&same]).expect(304);
    for name in ["etag", "vary", "cache-control"] {
        assert_eq!(unchanged.must(name), page.must(name));
    }
    client.request("GET", "/d/", &["If-None-Match: *"]).expect(304);
    client.request("GET", "/d/", &["If-None-Match: \"other\""]).expect(200);
    client.request("GET", "/d/", &[&format!("If-Match: {etag}")]).expect(412);
    client.request("GET", "/d/", &["If-Match: *"]).expect(200);
    client.request("GET", "/d/", &["If-Modified-Since: Fri, 31 Dec 2100 23:59:59 GMT"]).expect(200);
    assert_ne!(client.request("GET", "/d/", &[JSON, &same]).expect(200).must("etag"), etag);
    // A range of it is not to be had; and a new file shows at once.
    assert_eq!(client.request("GET", "/d/", &["Range: bytes=0-3"]).expect(200).body, page.body);
    site.write("d/b", "2");
    assert_eq!(text_names(&client.request("GET", "/d/", &[&same]).expect(200)), ["a", "b"]);
    server.stop();
}

#[test]
fn what_cannot_be_asked_for_is_not_shown() {
    let outside = Site::new().file("secret", "outside");
    let site = Site::new()
        .file("file", "content")
        .file(".hidden", "")
        .file(".git/config", "")
        .file("private/bin/tool", "")
        .sh("cgi-bin/script.sh", "echo")
        .sh("prog.sh", "echo")
        .sh("deep/tools/run.sh", "echo")
        .file("deep/data", "")
        .file("old\nname", "")
        .file("target/x", "")
        .link("inside", "target")
        .link("deep/up", "../target")
        .link("to-file", "file")
        .link("outside", outside.at("secret"))
        .link("outside-folder", outside.root())
        .link("up-and-out", "../../../../etc/passwd")
        .link("broken", "nowhere")
        .link("circle", "circle");
    fifo(&site.at("pipe"));
    let _socket = UnixListener::bind(site.at("socket")).expect("a socket");
    let tools = format!("/run={}", site.at("deep/tools").display());
    let program = format!("/prog={}", site.at("prog.sh").display());
    let server = Server::start(&site, ["--listing", "--cgi", &tools, "--cgi", &program]);
    let mut client = server.connect();
    let root = client.get("/").expect(200);
    assert_eq!(text_names(&root), ["deep/", "inside/", "private/", "target/", "file", "to-file"]);
    assert_eq!(text_names(&client.get("/deep/").expect(200)), ["up/", "data"]);
    assert_eq!(text_names(&client.get("/inside/").expect(200)), ["x"]);
    assert_eq!(text_names(&client.get("/deep/up/").expect(200)), ["x"]);
    let json = client.request("GET", "/", &[JSON]).expect(200).text();
    for name in ["hidden", "cgi-bin", "prog.sh", "outside", "broken", "pipe", "socket", "circle", "passwd", "old"] {
        assert!(!json.contains(name), "{name} in {json}");
    }
    for path in ["/cgi-bin/", "/deep/tools/", "/.git/", "/outside-folder/"] {
        assert!(matches!(client.get(path).status, 404 | 403), "{path}");
    }
    server.stop();
}

/// Names that break a page, or lead elsewhere, where they are not taken for what they are.
const NASTY: [&[u8]; 16] = [
    b"<img src=x onerror=alert(1)>",
    b"\"><script>alert(1)<",
    b"' onmouseover='alert(1)",
    b"javascript:alert(1)",
    b"a&lt;b&amp;",
    b"100% sure? #1",
    b"with space",
    b"tab\tand\x1b[31mescape\x7f",
    b"back\\slash",
    "\u{fc}ml\u{e4}ut \u{202e}gpj.exe".as_bytes(),
    b"latin \xe4\xf6\xfc",
    b"\xff\xfe",
    b"%2e%2e",
    b"{\"json\": [1]}",
    b"?sort=size",
    b"~tilde+plus,comma;semi=eq@at!",
];

fn nasty_site() -> Site {
    let site = Site::new();
    for (index, name) in NASTY.iter().enumerate() {
        fs::write(site.root().join(OsStr::from_bytes(name)), format!("content {index}")).expect("write");
    }
    site
}

#[test]
fn every_name_stays_text_and_leads_to_its_file() {
    let site = nasty_site();
    let server = listing(&site);
    let mut client = server.connect();
    let page = client.get("/").expect(200);
    let listed: BTreeSet<Vec<u8>> = names(&page).into_iter().collect();
    assert_eq!(listed, NASTY.iter().map(|name| name.to_vec()).collect());
    let text = page.text();
    for forbidden in ["<img", "<script", "onerror=\"", "href=\"javascript:", "'>", "\x1b", "\t"] {
        assert!(!text.to_ascii_lowercase().contains(forbidden), "{forbidden} in\n{text}");
    }
    for link in text.split("<a href=\"./").skip(1) {
        let link = link.split('"').next().expect("an end");
        let index = NASTY.iter().position(|name| *name == decoded(link)).expect("one of them");
        assert_eq!(client.get(&format!("/{link}")).expect(200).text(), format!("content {index}"));
    }
    server.stop();
}

#[test]
fn json_is_json_and_its_names_come_back() {
    if !skip_or_fail("python3") {
        return;
    }
    let site = nasty_site().file("folder/x", "");
    let server = listing(&site);
    let answer = server.connect().request("GET", "/", &["Accept: application/json;q=0.9, text/html;q=0.1"]).expect(200);
    assert_eq!(answer.must("content-type"), "application/json");
    assert_eq!(answer.must("vary"), "Accept");
    assert_eq!(answer.field("content-security-policy"), None);
    // Another reader than ours: names as bytes, by href, and as text.
    let program = "import json, sys, urllib.parse\n\
        page = json.load(sys.stdin.buffer)\n\
        assert page['path'] == '/' and page['total'] == len(page['entries']) and not page['cut_off']\n\
        for entry in page['entries']:\n\
        \x20   name = urllib.parse.unquote_to_bytes(entry['href'])\n\
        \x20   assert name.startswith(b'./') and entry['modified'].endswith('Z')\n\
        \x20   kind = entry['type']\n\
        \x20   assert (kind == 'directory') == name.endswith(b'/') == ('size' not in entry)\n\
        \x20   name = name[2:].rstrip(b'/')\n\
        \x20   assert entry['name'] == name.decode('utf-8', 'replace') or b'\\xff' in name or b'\\xe4' in name\n\
        \x20   print(name.hex())\n";
    let mut python = {
        let _quiet = support::no_forks();
        let mut command = Command::new("python3");
        command.args(["-c", program]).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.spawn().expect("python3")
    };
    python.stdin.take().expect("stdin").write_all(&answer.body).expect("write");
    let output = python.wait_with_output().expect("python3");
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).expect("ASCII");
    let hex = |name: &[u8]| name.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let expected: BTreeSet<String> = NASTY.iter().map(|name| hex(name)).chain([hex(b"folder")]).collect();
    assert_eq!(text.lines().map(str::to_owned).collect::<BTreeSet<_>>(), expected);
    server.stop();
}

#[test]
fn the_form_is_chosen_by_weight_and_the_order_by_query() {
    let site = Site::new().file("d/small-new", "1").file("d/big-old", "12345").file("d/sub/x", "");
    let old = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000));
    fs::File::options().write(true).open(site.at("d/big-old")).expect("open").set_times(old).expect("utimes");
    let server = listing(&site);
    let mut client = server.connect();
    for (accept, expected) in [
        ("*/*", "text/html"),
        ("text/html", "text/html"),
        ("application/json", "application/json"),
        ("application/json, text/html", "text/html"),
        ("text/html;q=0.5, application/json", "application/json"),
        ("application/json;q=0", "text/html"),
        ("image/webp", "text/html"),
    ] {
        let page = client.request("GET", "/d/", &[&format!("Accept: {accept}")]).expect(200);
        assert!(page.must("content-type").starts_with(expected), "{accept}: {page:?}");
    }
    for (query, expected) in [
        ("", ["sub/", "big-old", "small-new"]),
        ("?sort=name&order=desc", ["sub/", "small-new", "big-old"]),
        ("?sort=size", ["sub/", "small-new", "big-old"]),
        ("?sort=size&order=desc", ["sub/", "big-old", "small-new"]),
        ("?sort=time&order=asc", ["sub/", "big-old", "small-new"]),
        ("?sort=time&order=desc", ["sub/", "small-new", "big-old"]),
        ("?sort=%22%3E&order=sideways", ["sub/", "big-old", "small-new"]),
    ] {
        let page = client.get(&format!("/d/{query}")).expect(200);
        assert_eq!(text_names(&page), expected, "{query}");
        // Every heading is a link that works without a script.
        let text = page.text();
        let links: Vec<String> = text
            .split("<a href=\"?")
            .skip(1)
            .map(|link| link.split('"').next().unwrap().replace("&amp;", "&"))
            .collect();
        assert_eq!(links.len(), 3, "{text}");
        for link in links {
            client.get(&format!("/d/?{link}")).expect(200);
        }
    }
    assert!(client.get("/d/").text().contains("<time datetime=\"2001-09-09T01:46:40Z\">2001-09-09 01:46</time>"));
    server.stop();
}

#[test]
fn ten_thousand_entries_and_one_more() {
    let site = Site::new();
    for number in 0..10_000 {
        fs::File::create(site.root().join(format!("file number {number}.txt"))).expect("create");
    }
    let server = listing(&site);
    let mut client = server.connect();
    let page = client.get("/").expect(200);
    let expected: Vec<String> = (0..10_000).map(|number| format!("file number {number}.txt")).collect();
    assert_eq!(text_names(&page), expected);
    assert!(page.text().contains("<p>0 folders, 10,000 files</p>"));
    site.write("0 the first", "");
    let page = client.get("/").expect(200);
    assert_eq!(text_names(&page)[..2], ["0 the first", "file number 0.txt"]);
    assert_eq!(names(&page).len(), 10_000);
    assert!(page.text().contains("<p>10,000 of 10,001 names are shown"));
    let json = client.request("GET", "/", &[JSON]).expect(200).text();
    assert!(json.starts_with("{\"path\":\"/\",\"total\":10001,\"total_is_exact\":true,\"cut_off\":true,"));
    server.stop();
    let server = Server::start(&site, ["--listing", "--listing-entries-max", "3"]);
    let page = server.get("/").expect(200);
    assert_eq!(text_names(&page), ["0 the first", "file number 0.txt", "file number 1.txt"]);
    server.stop();
}

/// The core that serves a listing serves others meanwhile, on the same thread; its helpers come when they are needed.
#[test]
fn many_listings_at_once_are_answered_or_refused_politely() {
    let site = Site::new().file("file", "content");
    for number in 0..3_000 {
        fs::File::create(site.root().join(format!("d{number}"))).expect("create");
    }
    let server = Server::start(&site, ["--listing", "--cores", "1"]);
    let helpers = |server: &Server| server.threads().iter().filter(|name| *name == "helper").count();
    server.get("/file").expect(200);
    assert_eq!(helpers(&server), 0, "no folder was listed yet");
    let mut clients: Vec<Client> = (0..120).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.head(&["GET / HTTP/1.1", "Host: {host}"]);
    }
    assert_eq!(server.get("/file").expect(200).text(), "content");
    let mut counts = [0; 2];
    for client in &mut clients {
        let page = client.read();
        match page.status {
            200 => assert_eq!(names(&page).len(), 3_001),
            503 => assert_eq!(page.must("retry-after"), "5"),
            _ => panic!("{page:?}"),
        }
        counts[usize::from(page.status == 503)] += 1;
        client.get("/file").expect(200);
    }
    assert!(counts[0] > 0, "{counts:?}");
    assert!((1..=2).contains(&helpers(&server)));
    server.stop();
}

#[test]
fn pipelined_requests_around_a_listing_stay_in_order() {
    let site = Site::new().file("d/x", "").file("a", "A").file("b", "B");
    let server = listing(&site);
    let mut client = server.connect();
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n");
    client.send(["/a", "/d/", "/b", "/d/", "/d", "/a"].map(request).concat());
    assert_eq!(client.read().text(), "A");
    assert_eq!(text_names(&client.read()), ["x"]);
    assert_eq!(client.read().text(), "B");
    assert_eq!(text_names(&client.read()), ["x"]);
    client.read().expect(301);
    assert_eq!(client.read().text(), "A");
    server.stop();
}

#[test]
fn the_policy_of_a_listing_names_its_style() {
    if !skip_or_fail("python3") {
        return;
    }
    let server = listing(&Site::new());
    let page = server.get("/").expect(200);
    let text = page.text();
    let style = text.split_once("<style>").and_then(|(_, rest)| rest.split_once("</style>")).expect("a style").0;
    let program =
        "import base64, hashlib, sys; print(base64.b64encode(hashlib.sha256(sys.argv[1].encode()).digest()).decode())";
    let output = support::run(Command::new("python3").args(["-c", program, style]));
    let hash = String::from_utf8(output.stdout).expect("ASCII");
    let policy = page.must("content-security-policy");
    assert!(policy.contains(&format!("'sha256-{}'", hash.trim_end())), "the hash is {hash}, the policy {policy}");
    for element in ["<script", "<base", "<link", "<img", "<form", " style="] {
        assert!(!text.contains(element), "{element} in\n{text}");
    }
    server.stop();
}

#[test]
fn clean_urls() {
    let site = Site::new()
        .file("index.html", "home")
        .file("about.html", "about")
        .file("both", "bare")
        .file("both.html", "page")
        .file("dir/index.html", "folder")
        .file("dir.html", "beside")
        .file("a b/c d.html", "spaces")
        .sh("cgi-bin/run.sh", "printf 'Status: 200\\nContent-Type: text/plain\\n\\nran'")
        .file("cgi-bin.html", "a page");
    let server = Server::start(&site, ["--clean-urls"]);
    let mut client = server.connect();
    let about = client.get("/about").expect(200);
    assert_eq!((about.text(), about.must("content-type")), ("about".into(), "text/html; charset=utf-8"));
    client.request("GET", "/about", &[&format!("If-None-Match: {}", about.must("etag"))]).expect(304);
    assert_eq!(client.request("GET", "/about", &["Range: bytes=1-2"]).expect(206).text(), "bo");
    assert_eq!(client.request("HEAD", "/about", &[]).expect(200).must("content-length"), "5");
    client.request("POST", "/about", &["Content-Length: 0"]).expect(405);
    for (path, location) in [
        ("/about.html", "/about"),
        ("/about.html?a=b&c=%2f", "/about?a=b&c=%2f"),
        ("/index.html", "/"),
        ("/index.html?q", "/?q"),
        ("/dir/index.html", "/dir/"),
        ("/dir/index", "/dir/"),
        ("/a%20b/c%20d.html", "/a%20b/c%20d"),
        ("/dir", "/dir/"),
    ] {
        assert_eq!(client.get(path).expect(301).must("location"), location, "{path}");
    }
    for (path, text) in [
        ("/", "home"),
        ("/both", "bare"),
        ("/both.html", "page"),
        ("/dir/", "folder"),
        ("/dir.html", "beside"),
        ("/a%20b/c%20d", "spaces"),
        // A program's path is never a page's.
        ("/cgi-bin/run.sh", "ran"),
        ("/cgi-bin.html", "a page"),
    ] {
        assert_eq!(client.get(path).expect(200).text(), text, "{path}");
    }
    client.get("/cgi-bin").expect(404);
    client.get("/missing").expect(404);
    client.get("/missing.html").expect(404);
    client.get("/about/").expect(404);
    site.write("later.html", "came later");
    assert_eq!(client.get("/later").expect(200).text(), "came later");
    server.stop();
    let server = Server::start(&site, []);
    server.get("/about").expect(404);
    server.get("/about.html").expect(200);
    server.stop();
}

#[test]
fn the_page_of_an_application() {
    let site = Site::new().file("index.html", "the app").file("app.js", "code").file("dir/x", "");
    let server = Server::start(&site, ["--spa-fallback", "/index.html"]);
    let mut client = server.connect();
    for path in ["/users/7", "/users/7/", "/users/john.doe?tab=1", "/dir/"] {
        for method in ["GET", "HEAD"] {
            let page = client.request(method, path, &[NAVIGATES]).expect(200);
            assert_eq!(page.must("vary"), "Accept, Sec-Fetch-Mode", "{path}");
            assert_eq!(page.must("content-type"), "text/html; charset=utf-8");
            assert_eq!(page.must("content-length"), "7");
        }
    }
    let page = client.request("GET", "/users/7", &["Sec-Fetch-Mode: navigate"]).expect(200);
    client.request("GET", "/users/7", &[NAVIGATES, &format!("If-None-Match: {}", page.must("etag"))]).expect(304);
    assert_eq!(client.get("/users/7").expect(404).must("vary"), "Accept, Sec-Fetch-Mode");
    client.request("GET", "/users/7", &["Accept: application/json", "Sec-Fetch-Mode: cors"]).expect(404);
    for path in ["/missing.js", "/missing.css", "/img/logo.PNG", "/fonts/a.woff2"] {
        let missing = client.request("GET", path, &[NAVIGATES]).expect(404);
        assert_eq!(missing.field("vary"), None, "{path}");
    }
    client.request("POST", "/users/7", &[NAVIGATES, "Content-Length: 0"]).expect(404);
    client.request("GET", "/.git/config", &[NAVIGATES]).expect(404);
    assert_eq!(client.request("GET", "/app.js", &[NAVIGATES]).expect(200).text(), "code");
    assert_eq!(client.request("GET", "/", &[NAVIGATES]).expect(200).field("vary"), None);
    assert_eq!(client.request("GET", "/dir", &[NAVIGATES]).expect(301).must("location"), "/dir/");
    fs::remove_file(site.at("index.html")).expect("remove");
    wait_until("the page is gone", || server.connect().request("GET", "/users/7", &[NAVIGATES]).status == 404);
    server.stop();
}

#[test]
fn pages_for_errors() {
    let large = support::noise(600 << 10);
    let site = Site::new()
        .file("404.html", "<p>not here</p>")
        .file("4xx.txt", "your mistake")
        .file("large.bin", &large)
        .file("file", "0123456789");
    let args = ["--error-page", "404=/404.html", "--error-page", "4xx=/4xx.txt", "--error-page", "412=/large.bin"];
    let server = Server::start(&site, args);
    let mut client = server.connect();
    for (path, fields) in
        [("/missing", &[][..]), ("/missing", &["Range: bytes=0-3", "If-None-Match: *"]), ("/.git/x", &[])]
    {
        let page = client.request("GET", path, fields).expect(404);
        assert_eq!((page.text(), page.must("content-type")), ("<p>not here</p>".into(), "text/html; charset=utf-8"));
        assert_eq!(page.must("cache-control"), "no-store");
        for name in ["etag", "last-modified", "accept-ranges", "content-range"] {
            assert_eq!(page.field(name), None, "{name} of {page:?}");
        }
        assert!(!page.closes());
    }
    let head = client.request("HEAD", "/missing", &[]).expect(404);
    assert_eq!(head.must("content-length"), "15");
    // What an error says besides its page stays.
    let not_allowed = client.request("DELETE", "/file", &[]).expect(405);
    assert_eq!((not_allowed.text(), not_allowed.must("allow")), ("your mistake".into(), "GET, HEAD, OPTIONS"));
    assert_eq!(not_allowed.must("content-type"), "text/plain; charset=utf-8");
    let missed = client.request("GET", "/file", &["Range: bytes=10-"]).expect(416);
    assert_eq!((missed.text(), missed.must("content-range")), ("your mistake".into(), "bytes */10"));
    assert_eq!(client.request("GET", "/file", &["If-Match: \"x\""]).expect(412).body, large);
    // The page itself is a file as any other.
    client.get("/404.html").expect(200);
    client.get("/file").expect(200);
    // A refusal that ends the connection has its page, too.
    let mut refused = server.connect();
    let answer = refused.send("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").read().expect(400);
    assert_eq!(answer.text(), "your mistake");
    refused.expect_close();
    let mut refused = server.connect();
    refused.send("GET /file HTTP/1.1\r\nHost: a\r\n\r\nGET /missing HTTP/1.1\r\nHost: a\r\n\r\nnonsense\r\n\r\n");
    assert_eq!(refused.read().expect(200).text(), "0123456789");
    assert_eq!(refused.read().expect(404).text(), "<p>not here</p>");
    assert_eq!(refused.read().expect(400).text(), "your mistake");
    refused.expect_close();
    site.write("404.html", "changed");
    wait_until("the new page is sent", || server.get("/missing").text() == "changed");
    fs::remove_file(site.at("404.html")).expect("remove");
    wait_until("the built-in page is sent", || server.get("/missing").text().contains("<h1>404 Not Found</h1>"));
    wait_until("every core has seen that it is gone", || server.get("/404.html").status == 404);
    server.stop();
}

#[test]
fn a_page_that_is_missing_is_warned_of_once() {
    let site = Site::new().file("folder/x", "").file("there.html", "");
    let args = ["--error-page", "404=/gone.html", "--error-page", "5xx=/gone.html", "--error-page", "403=/folder"];
    let server = Server::start(&site, args.into_iter().chain(["--error-page", "410=/there.html", "--cores", "2"]));
    let page = server.get("/missing").expect(404);
    assert!(page.text().contains("<h1>404 Not Found</h1>"), "{page:?}");
    server.get("/missing").expect(404);
    let said = server.stop();
    let warnings = |path: &str| said.lines().filter(|line| line.contains("WARN") && line.contains(path)).count();
    assert_eq!((warnings("/gone.html"), warnings("/folder"), warnings("/there.html")), (1, 1, 0), "{said}");
}

#[test]
fn pages_for_programs_that_fail_and_not_for_their_own_replies() {
    let site = Site::new()
        .file("4.html", "page of 4xx")
        .file("5.html", "page of 5xx")
        .sh("cgi-bin/own.sh", "printf 'Status: 404 Gone Fishing\\nContent-Type: text/plain\\n\\nmine'")
        .sh("cgi-bin/broken.sh", "echo no header at all")
        .sh("cgi-bin/silent.sh", "sleep 60")
        .sh("cgi-bin/here.sh", "printf 'Location: /missing\\n\\n'")
        .sh("cgi-bin/nowhere.sh", "printf 'Location: /a\\001b\\n\\n'")
        .script("cgi-bin/bad.sh", "#!/does/not/exist\n")
        .file("cgi-bin/plain.txt", "not executable");
    let args = ["--error-page", "4xx=/4.html", "--error-page", "5xx=/5.html", "--cgi-first-byte-ms-max", "300ms"];
    let server = Server::start(&site, args);
    let mut client = server.connect();
    assert_eq!(client.get("/cgi-bin/own.sh").expect(404).text(), "mine");
    for (path, status, text) in [
        ("/cgi-bin/broken.sh", 502, "page of 5xx"),
        ("/cgi-bin/silent.sh", 504, "page of 5xx"),
        ("/cgi-bin/missing.sh", 404, "page of 4xx"),
        ("/cgi-bin/plain.txt", 403, "page of 4xx"),
        ("/cgi-bin/here.sh", 404, "page of 4xx"),
    ] {
        let page = server.get(path).expect(status);
        assert_eq!((page.text(), page.must("cache-control")), (text.into(), "no-store"), "{path}");
        let head = server.connect().request("HEAD", path, &[]).expect(status);
        assert_eq!(head.must("content-length"), "11", "{path}");
    }
    let unstartable = server.get("/cgi-bin/bad.sh");
    assert!(unstartable.text().starts_with("page of "), "{unstartable:?}");
    server.stop();
    let args = ["--error-page", "503=/5.html", "--cgi-running-max", "1", "--cgi-queued-max", "0"];
    let server = Server::start(&site, args);
    let mut busy = server.connect();
    busy.head(&["GET /cgi-bin/silent.sh HTTP/1.1", "Host: {host}"]);
    wait_until("the script runs", || !server.scripts().is_empty());
    let refused = server.get("/cgi-bin/own.sh").expect(503);
    assert_eq!((refused.text(), refused.must("retry-after")), ("page of 5xx".into(), "5"));
    drop(busy);
    server.stop();
}

#[test]
fn a_program_can_lead_to_a_listing_or_a_page() {
    let site = Site::new()
        .file("docs/x", "")
        .file("about.html", "about")
        .sh("cgi-bin/list.sh", "printf 'Location: /docs/\\n\\n'")
        .sh("cgi-bin/about.sh", "printf 'Location: /about\\n\\n'");
    let server = Server::start(&site, ["--listing", "--clean-urls"]);
    let mut client = server.connect();
    assert_eq!(text_names(&client.get("/cgi-bin/list.sh").expect(200)), ["x"]);
    assert_eq!(client.get("/cgi-bin/about.sh").expect(200).text(), "about");
    client.request("HEAD", "/cgi-bin/list.sh", &[]).expect(200);
    assert_eq!(client.get("/about").expect(200).text(), "about");
    server.stop();
}

#[test]
fn rules_for_headers_hold_for_listings_and_error_pages() {
    let site = Site::new().file("d/x", "").file("404.html", "mine").file("about.html", "about");
    let site = site.sh("cgi-bin/own.sh", "exit 1");
    let args = ["--listing", "--clean-urls", "--error-page", "4xx=/404.html", "--header", "/ X-Ours: yes"];
    let caching = ["--cache-control", "/ max-age=60", "--header", "/404.html X-Page: never"];
    let server = Server::start(&site, args.into_iter().chain(caching));
    let mut client = server.connect();
    let listing = client.get("/d/").expect(200);
    assert_eq!((listing.must("x-ours"), listing.must("cache-control")), ("yes", "no-cache"));
    // A rule is compared with the path of the file, whatever the address; for an error, with the path that was asked for.
    let about = client.get("/about").expect(200);
    assert_eq!((about.must("x-ours"), about.must("cache-control")), ("yes", "max-age=60"));
    assert_eq!(client.get("/about.html").expect(301).must("x-ours"), "yes");
    let missing = client.get("/missing").expect(404);
    assert_eq!((missing.must("x-ours"), missing.must("cache-control")), ("yes", "no-store"));
    assert_eq!((missing.text(), missing.field("x-page")), ("mine".into(), None));
    let script = client.get("/cgi-bin/missing.sh").expect(404);
    assert_eq!((script.text(), script.field("x-ours")), ("mine".into(), None));
    server.stop();
}

#[test]
fn the_settings_have_three_names_each() {
    let site = Site::new().file("about.html", "about").file("404.html", "from the file").file("d/x", "");
    let config = "listing = true\nclean_urls = true\nspa_fallback = '/about.html'\n[error_page]\n404 = '/404.html'\n";
    site.write("conf/site.toml", config);
    let path = site.at("conf/site.toml");
    let server = Server::start(&site, ["--config", path.to_str().expect("UTF-8")]);
    let mut client = server.connect();
    client.get("/d/").expect(200);
    assert_eq!(client.get("/about").expect(200).text(), "about");
    assert_eq!(client.get("/missing.js").expect(404).text(), "from the file");
    assert_eq!(client.request("GET", "/missing", &[NAVIGATES]).expect(200).text(), "about");
    server.stop();
    site.write("conf/site.toml", "error_page = ['404=/404.html', '5xx=/404.html']\n");
    let server = Launch::new(&site)
        .args(["--config", path.to_str().expect("UTF-8")])
        .env("UCAFFEINE_LISTING", "true")
        .env("UCAFFEINE_CLEAN_URLS", "true")
        .start();
    server.get("/d/").expect(200);
    server.get("/about").expect(200);
    assert_eq!(server.get("/missing").expect(404).text(), "from the file");
    server.stop();
    let server = Launch::new(&site).env("UCAFFEINE_ERROR_PAGE", "405=/about.html; 404=/404.html").start();
    assert_eq!(server.get("/missing").expect(404).text(), "from the file");
    assert_eq!(server.connect().request("DELETE", "/about.html", &[]).expect(405).text(), "about");
    server.stop();
}

#[test]
fn what_cannot_be_a_page_is_refused() {
    let site = Site::new().sh("cgi-bin/x.sh", "echo").file("404.html", "");
    for (args, code, words) in [
        (["--error-page", "404"], 2, "needs STATUS=PATH"),
        (["--error-page", "200=/404.html"], 2, "STATUS is 400 to 599, 4xx or 5xx"),
        (["--error-page", "40=/404.html"], 2, "STATUS is 400 to 599"),
        (["--error-page", "3xx=/404.html"], 2, "STATUS is 400 to 599"),
        (["--error-page", "+404=/404.html"], 2, "STATUS is 400 to 599"),
        (["--error-page", "404=404.html"], 2, "begins with a slash"),
        (["--error-page", "404=/"], 2, "it names a file"),
        (["--error-page", "404=/../x"], 2, "it names a file"),
        (["--error-page", "404=/a%20b"], 2, "decoded path"),
        (["--error-page", "404=/cgi-bin/x.sh"], 3, "their source is never sent"),
        (["--spa-fallback", "index.html"], 2, "begins with a slash"),
        (["--spa-fallback", "/cgi-bin/x.sh"], 3, "their source is never sent"),
    ] {
        let exit = Launch::new(&site).args(args).fails();
        assert_eq!(exit.code, Some(code), "{args:?}: {exit:?}");
        assert!(exit.output.contains(words), "{args:?}: {exit:?}");
    }
    let twice = ["--error-page", "404=/404.html", "--error-page", "404=/404.html"];
    assert!(Launch::new(&site).args(twice).fails().output.contains("say it once"));
    let hidden = Launch::new(&site).args(["--no-cgi", "--error-page", "404=/cgi-bin/x.sh"]).fails();
    assert_eq!(hidden.code, Some(3), "{hidden:?}");
}
