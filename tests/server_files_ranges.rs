//! Several ranges in one request over real sockets: what comes back, read by a reader of its own, and what an attacker gets.

mod support;

use std::fs::File;
use std::os::unix::fs::FileExt;
use support::{Client, Response, Server, Site, noise};

/// One part of a multipart body.
#[derive(Debug, PartialEq)]
struct Part {
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Part {
    fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

/// Reads a `multipart/byteranges` reply as RFC 2046 section 5.1.1 writes it.
#[track_caller]
fn parts(response: &Response) -> Vec<Part> {
    assert_eq!(response.status, 206, "{response:?}");
    assert_eq!(response.field("content-range"), None, "of a part, not of the whole: {response:?}");
    let boundary = response.must("content-type").strip_prefix("multipart/byteranges; boundary=").expect("the type");
    assert!(boundary.len() >= 32 && boundary.len() <= 70, "{boundary}");
    let delimiter = format!("\r\n--{boundary}");
    let mut rest = response.body.strip_prefix(&delimiter.as_bytes()[2..]).expect("it starts with the boundary");
    let mut parts = Vec::new();
    while let Some(part) = rest.strip_prefix(b"\r\n") {
        let end = find(part, delimiter.as_bytes());
        let head = find(part, b"\r\n\r\n");
        let fields = std::str::from_utf8(&part[..head]).expect("ASCII").split("\r\n");
        let fields = fields.map(|line| line.split_once(": ").expect("a field"));
        let fields = fields.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        parts.push(Part { fields, body: part[head + 4..end].to_vec() });
        rest = &part[end + delimiter.len()..];
    }
    assert_eq!(rest, b"--\r\n", "and ends with the last one");
    parts
}

#[track_caller]
fn find(bytes: &[u8], needle: &[u8]) -> usize {
    bytes.windows(needle.len()).position(|window| window == needle).expect("it is there")
}

fn ranged(client: &mut Client, target: &str, ranges: &str) -> Response {
    client.request("GET", target, &[&format!("Range: {ranges}")])
}

#[test]
fn parts_come_in_the_order_in_which_they_were_asked_for() {
    let content = noise(100_000);
    let site = Site::new().file("f.txt", &content);
    let server = Server::start(&site, []);
    let mut client = server.connect();
    let whole = client.get("/f.txt").expect(200);
    for (ranges, expected) in [
        ("bytes=0-9,500-509", vec![0..10, 500..510]),
        ("bytes=-10,0-9", vec![99_990..100_000, 0..10]),
        ("bytes=70000-,5-5, ,100-199", vec![70_000..100_000, 5..6, 100..200]),
        // Overlapping and adjacent ones are joined, where the first of them stood.
        ("bytes=900-999,0-9,1000-1099,950-960", vec![900..1100, 0..10]),
        // What does not exist is left out.
        ("bytes=0-0,100000-,99999-200000", vec![0..1, 99_999..100_000]),
        ("bytes=0-0,-18446744073709551616", vec![]),
    ] {
        let got = ranged(&mut client, "/f.txt", ranges);
        if expected.is_empty() {
            assert_eq!(got.must("content-range"), "bytes 0-99999/100000", "{ranges}");
            continue;
        }
        let parts = parts(&got);
        assert_eq!(parts.len(), expected.len(), "{ranges}");
        for (part, range) in parts.iter().zip(expected) {
            let content_range = format!("bytes {}-{}/100000", range.start, range.end - 1);
            assert_eq!(part.field("content-range"), Some(content_range.as_str()), "{ranges}");
            assert_eq!(part.field("content-type"), Some("text/plain; charset=utf-8"));
            assert!(part.body == content[range], "{ranges}");
        }
        for name in ["etag", "last-modified", "accept-ranges"] {
            assert_eq!(got.field(name), whole.field(name), "{name}");
        }
        assert_eq!(got.must("content-length"), got.body.len().to_string());
    }
    let boundary = |response: &Response| response.must("content-type").to_owned();
    let (one, other) = (ranged(&mut client, "/f.txt", "bytes=0-0,5-5"), ranged(&mut client, "/f.txt", "bytes=0-0,5-5"));
    assert_ne!(boundary(&one), boundary(&other), "a boundary cannot be known beforehand");
    server.stop();
}

#[test]
fn one_part_is_left_and_needs_no_multipart() {
    let content = noise(1000);
    let site = Site::new().file("f.bin", &content);
    let server = Server::start(&site, []);
    let mut client = server.connect();
    for (ranges, expected) in [
        ("bytes=0-9,5-19", 0..20),
        ("bytes=10-19,0-9", 0..20),
        ("bytes=5-5,2000-,1000-", 5..6),
        ("bytes=0-,-1", 0..1000),
        ("bytes=-1000,3-4,-5", 0..1000),
    ] {
        let got = ranged(&mut client, "/f.bin", ranges).expect(206);
        assert_eq!(got.must("content-type"), "application/octet-stream", "{ranges}");
        assert_eq!(got.must("content-range"), format!("bytes {}-{}/1000", expected.start, expected.end - 1));
        assert!(got.body == content[expected], "{ranges}");
    }
    for ranges in ["bytes=1000-,2000-3000", "bytes=-0,1000-", "bytes=-0,-0"] {
        assert_eq!(ranged(&mut client, "/f.bin", ranges).expect(416).must("content-range"), "bytes */1000");
    }
    // One that cannot be read spoils the list; a HEAD has no ranges.
    for ranges in ["bytes=0-9,x", "bytes=0-9,5-4", "bytes=0-9;20-29", "bytes=0-9,20-29-"] {
        assert!(ranged(&mut client, "/f.bin", ranges).expect(200).body == content, "{ranges}");
    }
    let head = client.request("HEAD", "/f.bin", &["Range: bytes=0-9,500-509"]).expect(200);
    assert_eq!((head.must("content-length"), head.field("content-range")), ("1000", None));
    // Two fields are no list (RFC 9110 section 14.2).
    let twice = client.request("GET", "/f.bin", &["Range: bytes=0-9", "Range: bytes=20-29"]).expect(200);
    assert!(twice.body == content);
    server.stop();
}

#[test]
fn conditions_come_before_parts() {
    let site = Site::new().file("f.bin", noise(5000));
    let server = Server::start(&site, []);
    let mut client = server.connect();
    let etag = client.get("/f.bin").must("etag").to_owned();
    let ask = |client: &mut Client, condition: &str| {
        client.request("GET", "/f.bin", &["Range: bytes=0-9,20-29", &condition.replace("ETAG", &etag)])
    };
    assert_eq!(parts(&ask(&mut client, "If-Range: ETAG")).len(), 2);
    assert_eq!(parts(&ask(&mut client, "If-Match: ETAG")).len(), 2);
    ask(&mut client, "If-Range: W/ETAG").expect(200);
    ask(&mut client, "If-Range: \"other\"").expect(200);
    ask(&mut client, "If-None-Match: ETAG").expect(304);
    ask(&mut client, "If-Match: \"other\"").expect(412);
    server.stop();
}

/// From the cache and from an open file, gathered, copied, beside the head and by sendfile.
#[test]
fn parts_of_every_size_from_memory_and_from_a_file() {
    let content = noise(3_000_000);
    let site = Site::new().file("small.bin", &content[..200_000]).file("large.bin", &content);
    for flags in [&[][..], &["--cache-bytes-max", "0"]] {
        let server = Server::start(&site, flags.iter().copied());
        let mut client = server.connect();
        for (target, len) in [("/small.bin", 200_000), ("/large.bin", 3_000_000)] {
            let spans = [(0, 16_384), (20_000, 16_385), (50_000, 1), (60_000, 70_000), (len - 50_000, 50_000)];
            let list: Vec<String> = spans.iter().map(|(at, count)| format!("{at}-{}", at + count - 1)).collect();
            for _ in 0..2 {
                let got = ranged(&mut client, target, &format!("bytes={}", list.join(",")));
                for (part, (at, count)) in parts(&got).iter().zip(spans) {
                    assert!(part.body == content[at..at + count], "{target} at {at}");
                }
            }
            // Replies before and behind it keep their places.
            let wire = "GET TARGET HTTP/1.1\r\nHost: a\r\nRange: bytes=0-1,9-9,20000-90000\r\n\r\n\
                        GET TARGET HTTP/1.1\r\nHost: a\r\nRange: bytes=7-7\r\n\r\n";
            client.send(wire.replace("TARGET", target).repeat(2));
            for _ in 0..2 {
                let got = client.read();
                assert!(parts(&got)[2].body == content[20_000..90_001]);
                assert!(client.read().expect(206).body == content[7..8]);
            }
        }
        server.stop();
    }
}

/// research: CVE-2011-3192 (Apache), CVE-2017-5850 (OpenBSD httpd), CVE-2017-7529 (nginx), MS15-034 (IIS).
#[test]
fn range_bombs_get_no_more_than_the_file() {
    let content = noise(20_000);
    let site = Site::new().file("f.bin", &content);
    let server = Server::start(&site, ["--head-bytes-max", "256KiB", "--field-bytes-max", "256KiB"]);
    let mut client = server.connect();
    let list = |count: usize, spec: &dyn Fn(usize) -> String| {
        format!("bytes={}", (0..count).map(spec).collect::<Vec<_>>().join(","))
    };
    let apart = |n: usize| format!("{}-{}", 2 * n, 2 * n);
    let bombs = [
        list(1300, &|n| format!("5-{n}")),
        list(1300, &|n| format!("{n}-")),
        list(200, &|n| format!("{n}-")),
        list(200, &|_| "0-".into()),
        list(200, &|_| "0-0".into()),
        list(10_000, &apart),
        list(200, &apart),
        list(201, &apart),
        "bytes=0-18446744073709551615".into(),
        "bytes=0-9223372036854775807,0-18446744073709551615".into(),
        "bytes=-9223372036854775808".into(),
        "bytes=-17208,-9223372036854758792".into(),
        "bytes=9223372036854775807-,0-0".into(),
        "bytes=18446744073709551615-18446744073709551615".into(),
        "bytes=-0,0-0".into(),
    ];
    for bomb in &bombs {
        let got = ranged(&mut client, "/f.bin", bomb);
        assert!(matches!(got.status, 200 | 206 | 416), "{}: {got:?}", &bomb[..bomb.len().min(60)]);
        assert!(got.body.len() <= content.len(), "{}: {} bytes", &bomb[..bomb.len().min(60)], got.body.len());
    }
    // As many as the bound says are answered, one more is a request for the whole.
    let bounded = Server::start(&site, ["--ranges-max", "3"]);
    let mut client = bounded.connect();
    assert_eq!(parts(&ranged(&mut client, "/f.bin", &list(3, &apart))).len(), 3);
    assert!(ranged(&mut client, "/f.bin", &list(4, &apart)).expect(200).body == content);
    bounded.stop();
    server.stop();
}

/// Two hundred parts, three thousand times: what the server holds does not grow with what was asked for.
#[test]
fn many_parts_take_no_memory() {
    let site = Site::new();
    let file = File::create(site.at("f.bin")).expect("create");
    file.set_len(64 << 20).expect("set_len");
    let server = Server::start(&site, ["--cores", "1"]);
    let list: Vec<String> = (0..200).map(|n| format!("{}-{}", n * 300_000, n * 300_000 + 250_000)).collect();
    let ranges = format!("Range: bytes={}", list.join(","));
    let mut client = server.connect();
    client.get("/f.bin").expect(200);
    let before = server.resident_bytes();
    client.head(&["GET /f.bin HTTP/1.1", "Host: {host}", &ranges]);
    let len: usize = client.read_head().expect(206).must("content-length").parse().expect("a length");
    assert!(len > 200 * 250_001 && len < 64 << 20);
    let mut left = len;
    while left > 0 {
        left -= client.read_exact(left.min(1 << 20)).len();
        let grown = server.resident_bytes().saturating_sub(before);
        assert!(grown < 8 << 20, "{grown} bytes more");
    }
    server.stop();
}

/// Parts of two versions are no parts of one file: what was promised cannot be kept, so the connection ends.
#[test]
fn a_file_that_changes_between_its_parts_closes_the_connection() {
    const PART: usize = 40 << 20;
    for tail in [8, 40 << 10] {
        let site = Site::new().file("f.bin", vec![b'a'; PART + (4 << 20)]);
        let server = Server::start(&site, ["--cores", "1"]);
        let mut client = server.connect();
        let ranges = format!("Range: bytes=0-{},-{tail}", PART - 1);
        client.head(&["GET /f.bin HTTP/1.1", "Host: {host}", &ranges]);
        let promised: usize = client.read_head().expect(206).must("content-length").parse().expect("a length");
        client.read_exact(1 << 20);
        // More than every buffer on the way holds is still to come, so the second part has not been looked at.
        let file = File::options().write(true).open(site.at("f.bin")).expect("open");
        file.write_all_at(&vec![b'B'; 1 << 20], (PART + (3 << 20)) as u64).expect("write");
        let rest = client.read_to_end();
        assert!((1 << 20) + rest.len() < promised, "cut short");
        assert!(!rest.contains(&b'B'), "nothing of the other version");
        assert_eq!(server.get("/f.bin").expect(200).body.len(), PART + (4 << 20));
        server.stop();
    }
}

#[test]
fn parts_beyond_4_gib() {
    const LEN: u64 = 5_000_000_000;
    let marks = [1 << 31, (1_u64 << 32) - 3, 1 << 32, LEN - 8];
    let site = Site::new();
    let file = File::create(site.at("sparse.bin")).expect("create");
    file.set_len(LEN).expect("set_len");
    let bytes = |mark: u64| [0xA5, (mark >> 24) as u8, (mark >> 1) as u8 ^ 0x5A];
    marks.iter().for_each(|mark| file.write_all_at(&bytes(*mark), *mark).expect("write"));
    let server = Server::start(&site, []);
    let mut client = server.connect();
    let list: Vec<String> = marks.iter().map(|mark| format!("{mark}-{}", mark + 2)).collect();
    let got = parts(&ranged(&mut client, "/sparse.bin", &format!("bytes={}", list.join(","))));
    // The two at 4 GiB touch each other.
    let expected = [bytes(marks[0]).to_vec(), [bytes(marks[1]), bytes(marks[2])].concat(), bytes(marks[3]).to_vec()];
    assert_eq!(got.iter().map(|part| part.body.clone()).collect::<Vec<_>>(), expected);
    assert_eq!(got[1].field("content-range"), Some("bytes 4294967293-4294967298/5000000000"));
    assert_eq!(client.request("HEAD", "/sparse.bin", &[]).must("content-length"), "5000000000");
    let one = ranged(&mut client, "/sparse.bin", "bytes=4294967296-4294967298").expect(206);
    assert_eq!(one.must("content-range"), "bytes 4294967296-4294967298/5000000000");
    assert_eq!(one.body, bytes(marks[2]));
    let tail = ranged(&mut client, "/sparse.bin", "bytes=-8").expect(206);
    assert_eq!(tail.body[..3], bytes(marks[3]));
    assert_eq!(
        ranged(&mut client, "/sparse.bin", "bytes=5000000000-").expect(416).must("content-range"),
        "bytes */5000000000"
    );
    server.stop();
}

/// Which part of a compressed body is meant can only be said of the compressed body: that is said with each part.
#[test]
fn parts_of_a_compressed_sibling() {
    let content = noise(9000);
    let site = Site::new().file("a.css", noise(20_000)).file("a.css.br", &content);
    let server = Server::start(&site, []);
    let got = server.connect().request("GET", "/a.css", &["Accept-Encoding: br", "Range: bytes=0-9,-10"]);
    assert_eq!((got.must("vary"), got.field("content-encoding")), ("Accept-Encoding", None));
    let parts = parts(&got);
    for (part, range) in parts.iter().zip([0..10, 8990..9000]) {
        assert_eq!(part.field("content-encoding"), Some("br"));
        assert_eq!(part.field("content-type"), Some("text/css; charset=utf-8"));
        assert!(part.body == content[range]);
    }
    server.stop();
}
