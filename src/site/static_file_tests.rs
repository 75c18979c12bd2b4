use super::super::reply::{Body, HeadContext, whole_file_head, write_end};
use super::super::testing::{CONTEXT, DATE, NOW_S, with_request};
use super::*;
use crate::http::request::Version;

const STAT: FileStat =
    FileStat { len: 1000, mtime_s: 1_700_000_000, mtime_ns: 5, ctime_s: 1_700_000_000, ctime_ns: 6, inode: 77 };
const MODIFIED: &str = "Tue, 14 Nov 2023 22:13:20 GMT";

const GIVEN: Circumstances<'static> =
    Circumstances { now_s: NOW_S, ranges_max: 200, boundary: &|| Boundary::new(0xABC) };

fn facts() -> FileFacts {
    FileFacts::new(&STAT, b"a.txt", NOW_S)
}

fn file() -> Representations {
    Representations::new(Box::new([facts()]), Lines::default())
}

/// The head and body that some request gets for a file: `ETAG` in the request stands for the file's own tag, and the
/// other way around in the reply.
fn answered(found: &Found, path: &[u8], request_line: &str, fields: &[&str]) -> (String, String) {
    let etag = facts();
    let etag = std::str::from_utf8(etag.etag.as_bytes()).expect("ASCII").to_owned();
    let lines: String = fields.iter().map(|field| format!("{}\r\n", field.replace("ETAG", &etag))).collect();
    with_request(&format!("{request_line} HTTP/1.1\r\nHost: h\r\n{lines}\r\n"), |request| {
        let reply = static_file(request, path, found, &GIVEN);
        let context = HeadContext { is_head: request.method == Method::Head, ..CONTEXT };
        let mut head = Vec::new();
        reply.write_head(&mut head, &context);
        let head = String::from_utf8(head).expect("ASCII").replace(&etag, "ETAG").replace("\r\n", "\n");
        let body = match reply.body(&context) {
            Body::Empty => "empty".into(),
            Body::Bytes(bytes) => format!("page {}", bytes.len()),
            Body::File(span) => format!("file {}+{}", span.start, span.len),
            Body::Parts(parts) => {
                let spans = parts.spans().iter().map(|span| format!(" {}+{}", span.start, span.len));
                format!("parts{}", spans.collect::<String>())
            }
        };
        (head, body)
    })
}

/// The same as one line: `STATUS BODY`, for a file of 1000 bytes.
fn status_and_body(request_line: &str, fields: &[&str]) -> String {
    let (head, body) = answered(&Found::File(file()), b"a.txt", request_line, fields);
    let status = head.split(' ').nth(1).expect("a status").to_owned();
    format!("{status} {}", if body.starts_with("page") { "page" } else { &body })
}

#[test]
fn the_test_clock_agrees_with_itself() {
    assert_eq!(&date::format(NOW_S), DATE);
}

#[test]
fn a_whole_file() {
    let expected = "HTTP/1.1 200 OK\nServer: ucaffeine\nX-Content-Type-Options: nosniff\n\
        Content-Type: text/plain; charset=utf-8\nContent-Length: 1000\n\
        Last-Modified: Tue, 14 Nov 2023 22:13:20 GMT\nETag: ETAG\nAccept-Ranges: bytes\n\
        Date: Sat, 21 Nov 2026 11:10:46 GMT\n\n";
    let file = Found::File(file());
    assert_eq!(answered(&file, b"a.txt", "GET /a.txt", &[]), (expected.into(), "file 0+1000".into()));
    assert_eq!(answered(&file, b"a.txt", "HEAD /a.txt", &[]), (expected.into(), "empty".into()));
}

#[test]
fn a_part_of_a_file() {
    let (head, body) = answered(&Found::File(file()), b"a.txt", "GET /a.txt", &["Range: bytes=10-19"]);
    assert_eq!(
        head,
        "HTTP/1.1 206 Partial Content\nServer: ucaffeine\nX-Content-Type-Options: nosniff\n\
         Content-Type: text/plain; charset=utf-8\nContent-Length: 10\nContent-Range: bytes 10-19/1000\n\
         Last-Modified: Tue, 14 Nov 2023 22:13:20 GMT\nETag: ETAG\nAccept-Ranges: bytes\n\
         Date: Sat, 21 Nov 2026 11:10:46 GMT\n\n"
    );
    assert_eq!(body, "file 10+10");
}

#[test]
fn several_parts_of_a_file() {
    let (head, body) = answered(&Found::File(file()), b"a.txt", "GET /a.txt", &["Range: bytes=900-,0-9"]);
    assert_eq!(
        head,
        "HTTP/1.1 206 Partial Content\nServer: ucaffeine\nX-Content-Type-Options: nosniff\n\
         Content-Type: multipart/byteranges; boundary=cba00000000000000000000000000000\nContent-Length: 376\n\
         Last-Modified: Tue, 14 Nov 2023 22:13:20 GMT\nETag: ETAG\nAccept-Ranges: bytes\n\
         Date: Sat, 21 Nov 2026 11:10:46 GMT\n\n"
    );
    assert_eq!(body, "parts 900+100 0+10");
}

#[test]
fn not_modified_names_what_is_still_valid() {
    let (head, body) = answered(&Found::File(file()), b"a.txt", "GET /a.txt", &["If-None-Match: ETAG"]);
    let expected = "HTTP/1.1 304 Not Modified\nServer: ucaffeine\nX-Content-Type-Options: nosniff\nETag: ETAG\n\
        Date: Sat, 21 Nov 2026 11:10:46 GMT\n\n";
    assert_eq!((head.as_str(), body.as_str()), (expected, "empty"));
}

#[test]
fn an_unsatisfiable_range_is_told_the_length() {
    let (head, body) = answered(&Found::File(file()), b"a.txt", "GET /a.txt", &["Range: bytes=1000-"]);
    assert!(head.starts_with("HTTP/1.1 416 Range Not Satisfiable\n"), "{head}");
    assert!(head.contains("\nContent-Range: bytes */1000\n"), "{head}");
    assert!(head.contains(&format!("\nContent-Length: {}\n", &body["page ".len()..])), "{head} {body}");
    assert!(!head.contains("ETAG"), "the page is not the file: {head}");
}

#[test]
fn a_chosen_sibling_is_a_representation_of_its_own() {
    let sibling =
        |coding, inode, len| FileFacts::coded(&FileStat { len, inode, ..STAT }, b"a.txt", Some(coding), NOW_S);
    let all = [facts(), sibling(Coding::Brotli, 78, 100), sibling(Coding::Gzip, 79, 120)];
    let tags: Vec<_> = all.iter().map(|facts| String::from_utf8_lossy(facts.etag.as_bytes()).into_owned()).collect();
    let file = Found::File(Representations::new(all.into(), Lines::default()));
    let get = |fields: &[&str]| answered(&file, b"a.txt", "GET /a.txt", fields);

    let (head, body) = get(&["Accept-Encoding: gzip, br"]);
    assert_eq!(
        head,
        format!(
            "HTTP/1.1 200 OK\nServer: ucaffeine\nX-Content-Type-Options: nosniff\n\
             Content-Type: text/plain; charset=utf-8\nContent-Encoding: br\nContent-Length: 100\n\
             Last-Modified: Tue, 14 Nov 2023 22:13:20 GMT\nETag: {}\nAccept-Ranges: bytes\nVary: Accept-Encoding\n\
             Date: Sat, 21 Nov 2026 11:10:46 GMT\n\n",
            tags[1]
        )
    );
    assert_eq!(body, "file 0+100");
    assert_eq!(answered(&file, b"a.txt", "HEAD /a.txt", &["Accept-Encoding: gzip, br"]), (head, "empty".into()));

    // Conditions are about what was chosen, and so are ranges; whatever is said, it is said that there was a choice.
    let gzip_tag = format!("If-None-Match: {}", tags[2]);
    let if_range = format!("If-Range: {}", tags[2]);
    let if_match = format!("If-Match: {}", tags[2]);
    let cases: [(&[&str], &str, &str); 10] = [
        (&[], "200", "file 0+1000"),
        (&["Accept-Encoding: gzip"], "200", "file 0+120"),
        (&["Accept-Encoding: gzip", &gzip_tag], "304", "empty"),
        (&["Accept-Encoding: br", &gzip_tag], "200", "file 0+100"),
        (&[&gzip_tag], "200", "file 0+1000"),
        (&["Accept-Encoding: gzip", "Range: bytes=110-900"], "206", "file 110+10"),
        (&["Accept-Encoding: gzip", "Range: bytes=110-900", &if_range], "206", "file 110+10"),
        (&["Accept-Encoding: br", "Range: bytes=90-", &if_range], "200", "file 0+100"),
        (&["Accept-Encoding: br", "Range: bytes=100-"], "416", "page"),
        (&["Accept-Encoding: br", &if_match], "412", "page"),
    ];
    for (fields, status, expected) in cases {
        let (head, body) = get(fields);
        assert_eq!(head.split(' ').nth(1), Some(status), "{fields:?}: {head}");
        assert!(body.starts_with(expected), "{fields:?}: {body}");
        assert!(head.contains("\nVary: Accept-Encoding\n"), "{fields:?}: {head}");
    }
    let (unsatisfiable, _) = get(&["Accept-Encoding: br", "Range: bytes=100-"]);
    assert!(unsatisfiable.contains("\nContent-Range: bytes */100\n"), "{unsatisfiable}");
}

#[test]
fn conditions_and_ranges() {
    let modified_since = format!("If-Modified-Since: {MODIFIED}");
    let unmodified_since = format!("If-Unmodified-Since: {MODIFIED}");
    let if_range = format!("If-Range: {MODIFIED}");
    let old = "Tue, 14 Nov 2023 22:13:19 GMT";
    let cases: &[(&str, &[&str], &str)] = &[
        ("GET /a", &["If-None-Match: \"other\""], "200 file 0+1000"),
        ("GET /a", &["If-None-Match: W/ETAG"], "304 empty"),
        ("GET /a", &["If-None-Match: \"x\", ETAG"], "304 empty"),
        ("GET /a", &["If-None-Match: *"], "304 empty"),
        ("HEAD /a", &["If-None-Match: ETAG"], "304 empty"),
        ("GET /a", &[&modified_since], "304 empty"),
        ("GET /a", &[&format!("If-Modified-Since: {old}")], "200 file 0+1000"),
        ("GET /a", &["If-None-Match: \"other\"", &modified_since], "200 file 0+1000"),
        ("GET /a", &["If-Match: ETAG"], "200 file 0+1000"),
        ("GET /a", &["If-Match: W/ETAG"], "412 page"),
        ("GET /a", &["If-Match: \"other\""], "412 page"),
        ("HEAD /a", &["If-Match: \"other\""], "412 empty"),
        ("GET /a", &[&unmodified_since], "200 file 0+1000"),
        ("GET /a", &[&format!("If-Unmodified-Since: {old}")], "412 page"),
        ("GET /a", &["Range: bytes=0-"], "206 file 0+1000"),
        ("GET /a", &["Range: bytes=-1"], "206 file 999+1"),
        ("GET /a", &["Range: bytes=-5000"], "206 file 0+1000"),
        ("GET /a", &["Range: bytes=990-5000"], "206 file 990+10"),
        ("GET /a", &["Range: bytes=0-9,10-19"], "206 file 0+20"),
        ("GET /a", &["Range: bytes=0-9,20-29"], "206 parts 0+10 20+10"),
        ("GET /a", &["Range: bytes=-5,0-9,5-19,2000-"], "206 parts 995+5 0+20"),
        ("GET /a", &["Range: bytes=0-9,20-29", "If-Range: ETAG"], "206 parts 0+10 20+10"),
        ("GET /a", &["Range: bytes=0-9,20-29", "If-Range: \"other\""], "200 file 0+1000"),
        // With what stands between them, these are longer than the file.
        ("GET /a", &["Range: bytes=0-9,20-29,40-49,60-69,80-89,100-"], "200 file 0+1000"),
        ("HEAD /a", &["Range: bytes=0-9,20-29"], "200 empty"),
        ("GET /a", &["Range: bytes=5-4"], "200 file 0+1000"),
        ("GET /a", &["Range: lines=0-9"], "200 file 0+1000"),
        ("GET /a", &["Range: bytes=-0"], "416 page"),
        ("HEAD /a", &["Range: bytes=0-9"], "200 empty"),
        ("HEAD /a", &["Range: bytes=1000-"], "200 empty"),
        ("GET /a", &["Range: bytes=0-9", "If-Range: ETAG"], "206 file 0+10"),
        ("GET /a", &["Range: bytes=0-9", "If-Range: W/ETAG"], "200 file 0+1000"),
        ("GET /a", &["Range: bytes=0-9", "If-Range: \"other\""], "200 file 0+1000"),
        ("GET /a", &["Range: bytes=0-9", &if_range], "206 file 0+10"),
        ("GET /a", &["Range: bytes=0-9", &format!("If-Range: {old}")], "200 file 0+1000"),
        ("GET /a", &["Range: bytes=1000-", "If-Range: \"other\""], "200 file 0+1000"),
        ("GET /a", &["Range: bytes=0-9", "If-None-Match: ETAG"], "304 empty"),
        ("GET /a", &["Range: bytes=0-9", "If-Match: \"other\""], "412 page"),
        ("POST /a", &["If-Match: \"other\""], "405 page"),
        ("PUT /a", &[], "405 page"),
        ("DELETE /a", &[], "405 page"),
        ("PATCH /a", &[], "405 page"),
        ("OPTIONS /a", &[], "204 empty"),
    ];
    for (request_line, fields, expected) in cases {
        assert_eq!(status_and_body(request_line, fields), *expected, "{request_line} {fields:?}");
    }
}

#[test]
fn what_is_not_a_file() {
    for (found, request_line, expected) in [
        (Found::Nothing, "GET /a", "404"),
        (Found::Nothing, "POST /a", "404"),
        (Found::Nothing, "OPTIONS /a", "404"),
        (Found::Refused, "GET /a", "404"),
        (Found::Directory, "GET /a", "301"),
        (Found::Directory, "HEAD /a", "301"),
        (Found::Directory, "POST /a", "405"),
        (Found::Directory, "OPTIONS /a", "204"),
    ] {
        let (head, _) = answered(&found, b"a", request_line, &[]);
        assert_eq!(head.split(' ').nth(1), Some(expected), "{request_line} {found:?}");
        let allows = head.contains("\nAllow: GET, HEAD, OPTIONS\n");
        assert_eq!(allows, matches!(expected, "405" | "204"), "{request_line} {found:?}");
    }
}

#[test]
fn a_head_is_that_of_a_get_on_errors_and_redirects_too() {
    for found in [Found::Nothing, Found::Directory, Found::File(file())] {
        for fields in [&[][..], &["If-Match: \"other\""], &["If-None-Match: ETAG"]] {
            let (get, _) = answered(&found, b"a", "GET /a", fields);
            assert_eq!(answered(&found, b"a", "HEAD /a", fields), (get, "empty".into()), "{found:?} {fields:?}");
        }
    }
}

#[test]
fn a_directory_redirects_to_a_path_of_this_host() {
    let cases: [(&[u8], &str, &str); 9] = [
        (b"a", "GET /a", "/a/"),
        (b"a/b", "GET /a/b?x=1&y", "/a/b/?x=1&y"),
        (b"a", "GET /a?", "/a/?"),
        (b"a b\xc3\xa9", "GET /a%20b%C3%A9", "/a%20b%C3%A9/"),
        (b"\\evil.example", "GET /%5Cevil.example", "/%5Cevil.example/"),
        (b"evil.example", "GET //evil.example", "/evil.example/"),
        (b"a?b#c", "GET /a%3Fb%23c", "/a%3Fb%23c/"),
        (b"a\r\nX: y", "GET /never-parsed", "/a%0D%0AX:%20y/"),
        (b"http://x", "GET /http:%2f/x", "/http://x/"),
    ];
    for (path, request_line, expected) in cases {
        let (head, _) = answered(&Found::Directory, path, request_line, &[]);
        assert!(head.contains(&format!("\nLocation: {expected}\n")), "{head}");
    }
    for path in [&b""[..], b"/evil.example"] {
        let (head, _) = answered(&Found::Directory, path, "GET //evil.example", &[]);
        assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
    }
}

#[test]
fn a_prebuilt_head_and_its_end_are_the_head() {
    let facts = facts();
    for context in
        [CONTEXT, HeadContext { keep_alive: false, ..CONTEXT }, HeadContext { version: Version::Http10, ..CONTEXT }]
    {
        let (mut whole, mut in_parts) = (Vec::new(), Vec::new());
        Reply::whole(&facts).write_head(&mut whole, &context);
        whole_file_head(&facts, &mut in_parts);
        write_end(&mut in_parts, &context);
        assert_eq!(whole, in_parts);
    }
}

#[test]
fn a_tag_changes_with_every_fact() {
    let others = [
        FileStat { len: 1001, ..STAT },
        FileStat { mtime_s: 1_700_000_001, ..STAT },
        FileStat { mtime_ns: 6, ..STAT },
        FileStat { ctime_s: 1_700_000_001, ..STAT },
        FileStat { ctime_ns: 7, ..STAT },
        FileStat { inode: 78, ..STAT },
        FileStat {
            mtime_s: STAT.ctime_s,
            mtime_ns: STAT.ctime_ns,
            ctime_s: STAT.mtime_s,
            ctime_ns: STAT.mtime_ns,
            ..STAT
        },
    ];
    let tag = Etag::of(&STAT);
    assert_eq!(tag, Etag::of(&STAT.clone()));
    assert!(tag.as_bytes().starts_with(b"\"") && tag.as_bytes().ends_with(b"\"") && tag.as_bytes().len() == 18);
    assert!(tag.as_bytes()[1..17].iter().all(u8::is_ascii_hexdigit));
    for other in others {
        assert_ne!(Etag::of(&other), tag, "{other:?}");
    }
}

#[test]
fn dates_outside_of_http_are_moved_inside() {
    let future = FileFacts::new(&FileStat { mtime_s: i64::MAX, ..STAT }, b"a", NOW_S);
    assert_eq!(&future.last_modified, DATE);
    let past = FileFacts::new(&FileStat { mtime_s: -1, ..STAT }, b"a", NOW_S);
    assert_eq!(&past.last_modified, b"Thu, 01 Jan 1970 00:00:00 GMT");
}
