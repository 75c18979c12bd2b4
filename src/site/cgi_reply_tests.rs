use super::super::testing::{CONTEXT, DATE};
use super::*;
use crate::http::request::Version;

const HEAD_BYTES_MAX: usize = 1024;

fn parse(bytes: &[u8], head_bytes_max: usize, is_nph: bool) -> Parsed<'_> {
    Head::default().read(bytes, head_bytes_max, is_nph)
}

/// What a whole output becomes, as a line: `STATUS OUTPUT body`, `local PATH`, `more`, or `502 WHY`.
fn meaning(output: &[u8]) -> String {
    match parse(output, HEAD_BYTES_MAX, false) {
        Parsed::NeedMore => "more".into(),
        Parsed::Document(reply) => {
            let framing = match reply.output {
                Output::UntilEof => "eof".into(),
                Output::Length(length) => length.to_string(),
                Output::Chunked => "chunked".into(),
            };
            format!("{} {framing} {}", reply.status.code(), output[reply.head_len..].escape_ascii())
        }
        Parsed::LocalRedirect(path) => format!("local {}", path.escape_ascii()),
        Parsed::Malformed(why) => format!("502 {why}"),
    }
}

#[test]
fn meanings() {
    let cases: [(&[u8], &str); 60] = [
        // Documents.
        (b"Content-Type: text/plain\n\nhi", "200 eof hi"),
        (b"Content-Type: text/plain\r\n\r\nhi", "200 eof hi"),
        (b"Content-Type: text/plain\r\n\nhi\n\n", "200 eof hi\\n\\n"),
        (b"Content-Type:text/plain\nContent-Length: 2\n\nhi", "200 2 hi"),
        (b"Status: 404 Not Found\nContent-Type: text/plain\n\n", "404 eof "),
        (b"Status: 404\n\n", "404 eof "),
        (b"status:\t418 I'm a teapot\n\n", "418 eof "),
        (b"X-Powered-By: PHP\n\nx", "200 eof x"),
        (b"Content-Type: a/b\nTransfer-Encoding: chunked\n\nx", "200 eof x"),
        // Not whole yet.
        (b"", "more"),
        (b"Content-Type: text/plain", "more"),
        (b"Content-Type: text/plain\n", "more"),
        (b"Content-Type: text/plain\r\n\r", "more"),
        (b"HTTP/1.1 200 OK\r\n", "more"),
        // Redirects.
        (b"Location: /a?b\n\n", "local /a?b"),
        (b"location:/a\r\n\r\n", "local /a"),
        (b"Location: https://example.com/\n\n", "302 eof "),
        (b"Location: //example.com/\n\n", "302 eof "),
        (b"Location: /a#b\n\n", "302 eof "),
        (b"Location: a\n\n", "302 eof "),
        (b"Location: /a\nContent-Type: text/html\n\nx", "302 eof x"),
        (b"Location: /a\nSet-Cookie: a=b\n\n", "302 eof "),
        (b"Location: /a\nStatus: 303 See Other\n\n", "303 eof "),
        (b"Status: 201\nLocation: https://example.com/x\n\n", "201 eof "),
        (b"Location: /a b\n\n", "502 its local Location is not a path"),
        (b"Location: /a\nLocation: /b\n\n", "502 it has two Location fields"),
        // Complete responses.
        (b"HTTP/1.1 200 OK\r\n\r\nhi", "200 eof hi"),
        (b"HTTP/1.0 404 Not Found\nContent-Length: 2\n\nhi", "404 2 hi"),
        (b"HTTP/1.1 200\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n\r\n", "200 chunked 0\\r\\n\\r\\n"),
        (b"HTTP/1.1 302 Found\r\nLocation: /a\r\n\r\n", "302 eof "),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "502 its Transfer-Encoding is not chunked"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
            "502 it has both Content-Length and Transfer-Encoding",
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "502 it has two Transfer-Encoding fields",
        ),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "502 its status is not a number from 200 to 599"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "502 its status is not a number from 200 to 599"),
        (b"HTTP/1.1  200 OK\r\n\r\n", "502 its status is not a number from 200 to 599"),
        (b"HTTP/1.x 200 OK\r\n\r\n", "502 its status line is malformed"),
        (b"HTTP/1.1\r\n\r\n", "502 its status line is malformed"),
        (b"HTTP/2 200\r\n\r\n", "502 a line of its head is not a field"),
        // Not responses.
        (b"\n", "502 its head has no fields"),
        (b"\r\nhello", "502 its head has no fields"),
        (b"hello\n\n", "502 a line of its head is not a field"),
        (b"Content-Type: a/b\nhello\n\n", "502 a line of its head is not a field"),
        (b"Content-Type: a/b\n folded\n\n", "502 a line of its head is not a field"),
        (b"Content-Type: a/b\n folded: x\n\n", "502 the name of a field is malformed"),
        (b"Content-Type : a/b\n\n", "502 the name of a field is malformed"),
        (b": a\n\n", "502 the name of a field is malformed"),
        (b"X\xc3\xa9: a\n\n", "502 the name of a field is malformed"),
        (b"X: a\rSet-Cookie: b\n\n", "502 there is a control character in a field"),
        (b"X: a\0b\n\n", "502 there is a control character in a field"),
        (b"X: a\x1b[2J\n\n", "502 there is a control character in a field"),
        (b"Content-Length: 1\nContent-Length: 1\n\n", "502 it has two Content-Length fields"),
        (b"Content-Length: +1\n\n", "502 its Content-Length is not a number"),
        (b"Content-Length: -1\n\n", "502 its Content-Length is not a number"),
        (b"Content-Length: 1, 1\n\n", "502 its Content-Length is not a number"),
        (b"Content-Length:\n\n", "502 its Content-Length is not a number"),
        (b"Content-Length: 18446744073709551616\n\n", "502 its Content-Length is not a number"),
        (b"Status: 200\nStatus: 200\n\n", "502 it has two Status fields"),
        (b"Status: OK\n\n", "502 its status is not a number from 200 to 599"),
        (b"Status: 2000\n\n", "502 its status is not a number from 200 to 599"),
    ];
    for (output, expected) in cases {
        assert_eq!(meaning(output), expected, "{}", output.escape_ascii());
    }
}

#[test]
fn every_prefix_of_a_good_head_needs_more() {
    for whole in [&b"Content-Type: a/b\nX: y\n\n"[..], b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n", b"Location: /a\r\n\r\n"] {
        for end in 0..whole.len() {
            assert_eq!(
                parse(&whole[..end], HEAD_BYTES_MAX, false),
                Parsed::NeedMore,
                "{}",
                whole[..end].escape_ascii()
            );
        }
        assert_ne!(parse(whole, HEAD_BYTES_MAX, false), Parsed::NeedMore);
    }
}

/// A head of 64 KiB, written byte by byte, was searched from its start each time: two thousand million bytes.
#[test]
fn a_head_that_comes_byte_by_byte_is_looked_at_once() {
    let line = [b"X: ".as_slice(), &[b'a'; 500], b"\r\n"].concat();
    let whole = [b"Content-Type: a/b\r\n".as_slice(), &line, b"\r\nbody"].concat();
    let head_len = whole.len() - 4;
    let mut head = Head::default();
    for end in 0..head_len {
        assert_eq!(head.read(&whole[..end], HEAD_BYTES_MAX, false), Parsed::NeedMore);
        assert_eq!(head.seen, end, "what has been looked at is not looked at again");
    }
    let Parsed::Document(reply) = head.read(&whole, HEAD_BYTES_MAX, false) else { panic!("not a document") };
    assert_eq!(reply.head_len, head_len);
}

#[test]
fn a_head_has_a_longest_length() {
    let head = b"A: b\n\n";
    assert!(matches!(parse(head, head.len(), false), Parsed::Document(_)));
    assert_eq!(parse(head, head.len() - 1, false), Parsed::Malformed("its head is too long"));
    assert_eq!(parse(&head[..4], 4, false), Parsed::Malformed("its head is too long"));
    assert_eq!(parse(&head[..3], 4, false), Parsed::NeedMore);
}

#[test]
fn an_nph_script_writes_a_status_line() {
    let why = "an nph- script must start with a status line";
    assert_eq!(parse(b"Content-Type: a/b\n\n", HEAD_BYTES_MAX, true), Parsed::Malformed(why));
    assert!(matches!(parse(b"HTTP/1.1 200 OK\n\n", HEAD_BYTES_MAX, true), Parsed::Document(_)));
}

/// The head that a client gets for an output.
fn written(output: &[u8], context: &HeadContext<'_>) -> String {
    let Parsed::Document(reply) = parse(output, HEAD_BYTES_MAX, false) else { panic!("not a document") };
    let mut head = Vec::new();
    reply.write_head(&mut head, reply.framing(context), context);
    String::from_utf8(head).expect("ASCII in, ASCII out").replace("\r\n", "\n")
}

#[test]
fn what_is_kept_and_what_is_dropped() {
    let output = b"HTTP/1.0 200 Fine\nserver: own\nDate: never\nConnection: keep-alive\nKeep-Alive: 5\nUpgrade: h2c\n\
        TE: x\nTrailer: y\nProxy-Connection: z\nStatus: 500\nX-CGI-Note: q\nContent-Type: a/b\n\
        Set-Cookie: a=1\nSet-Cookie: b=2\n\
        content-length: 007\nX: \n\n";
    assert_eq!(
        written(output, &CONTEXT),
        "HTTP/1.1 200 Fine\nServer: ucaffeine\nContent-Type: a/b\nSet-Cookie: a=1\nSet-Cookie: b=2\n\
         X: \nContent-Length: 7\n\
         Date: Sat, 21 Nov 2026 11:10:46 GMT\n\n"
    );
}

#[test]
fn framings() {
    let unknown = b"Content-Type: a/b\n\n";
    let known = b"Content-Type: a/b\nContent-Length: 3\n\n";
    let old = HeadContext { version: Version::Http10, ..CONTEXT };
    let head = HeadContext { is_head: true, ..CONTEXT };
    let closing = HeadContext { keep_alive: false, ..CONTEXT };
    let ends: [(&[u8], &HeadContext<'_>, &str, &str); 8] = [
        (unknown, &CONTEXT, "Transfer-Encoding: chunked\n", "\n"),
        (unknown, &closing, "Transfer-Encoding: chunked\n", "Connection: close\n\n"),
        (unknown, &old, "", "Connection: close\n\n"),
        (unknown, &head, "Transfer-Encoding: chunked\n", "\n"),
        (known, &CONTEXT, "Content-Length: 3\n", "\n"),
        (known, &old, "Content-Length: 3\n", "Connection: keep-alive\n\n"),
        (known, &head, "Content-Length: 3\n", "\n"),
        (known, &closing, "Content-Length: 3\n", "Connection: close\n\n"),
    ];
    for (output, context, framing, end) in ends {
        let date = std::str::from_utf8(DATE).expect("ASCII");
        let expected = format!("HTTP/1.1 200 OK\nServer: ucaffeine\nContent-Type: a/b\n{framing}Date: {date}\n{end}");
        assert_eq!(written(output, context), expected);
    }
    for bodyless in [&b"Status: 204\nContent-Length: 3\n\n"[..], b"Status: 304\n\n"] {
        assert!(!written(bodyless, &CONTEXT).contains("Content-Length"), "no body, no length");
        assert!(!written(bodyless, &CONTEXT).contains("Transfer-Encoding"), "no body, no coding");
    }
}

proptest::proptest! {
    /// In whatever pieces it comes, an output means the same.
    #[test]
    fn pieces_mean_what_the_whole_means(
        output in proptest::collection::vec(proptest::sample::select(b"aH:\r\n\n /1.".to_vec()), 0..64),
        piece in 1..9_usize,
    ) {
        let mut head = Head::default();
        let mut ends = (piece..output.len()).step_by(piece);
        let early = ends.find(|&end| head.read(&output[..end], HEAD_BYTES_MAX, false) != Parsed::NeedMore);
        match early {
            None => assert_eq!(head.read(&output, HEAD_BYTES_MAX, false), parse(&output, HEAD_BYTES_MAX, false)),
            Some(end) => {
                assert_eq!(parse(&output[..end], HEAD_BYTES_MAX, false), parse(&output, HEAD_BYTES_MAX, false));
            }
        }
    }

    /// Whatever a script writes, the head of the reply has exactly its own lines, and only the last is blank.
    #[test]
    fn no_output_injects_a_line(
        output in proptest::collection::vec(proptest::sample::select(b"aH:\r\n\0 \x0b/1.".to_vec()), 0..64),
    ) {
        let framed = [b"A: b\n", &output[..], b"\n\n"].concat();
        if let Parsed::Document(reply) = parse(&framed, HEAD_BYTES_MAX, false) {
            let mut head = Vec::new();
            reply.write_head(&mut head, reply.framing(&CONTEXT), &CONTEXT);
            let lines: Vec<&[u8]> = head.split(|byte| *byte == b'\n').collect();
            let (last, lines) = lines.split_last().expect("at least one");
            assert_eq!(*last, b"");
            assert_eq!(lines.iter().position(|line| *line == b"\r"), Some(lines.len() - 1), "one blank line, the last");
            assert!(lines.iter().all(|line| line.iter().position(|byte| *byte == b'\r') == Some(line.len() - 1)));
        }
    }
}
