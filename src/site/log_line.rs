//! One line of the access log: the combined log format, with the duration at its end.
//!
//! ```text
//! 192.0.2.7 - - [21/Nov/2026:11:10:46 +0000] "GET /a?b HTTP/1.1" 200 1234 "https://example.com/" "curl/8" 513
//! ```
//!
//! Tools that read the combined format read this. What a client sent is escaped as in that format (`\xHH`), so a line
//! is one line, a quoted part ends where its quote is, and no terminal sequence reaches whoever reads the log.

use super::decimal;
use crate::http::request::{Method, Version};
use crate::http::status::Status;

/// What is known of an answered request when its reply has been sent, or has failed to be.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The client's address, without the port; empty for a Unix socket.
    pub remote: &'a str,
    /// Who was admitted by a password.
    pub user: Option<&'a [u8]>,
    /// When the reply began: an IMF-fixdate, the one of its Date field.
    pub date: &'a [u8; 29],
    /// What was asked; nothing when no request line could be read.
    pub request: Option<RequestLine<'a>>,
    /// The status that was answered.
    pub status: Status,
    /// Body bytes that were accepted by the connection; less than announced when it was cut.
    pub body_bytes: u64,
    /// The Referer field.
    pub referer: Option<&'a [u8]>,
    /// The User-Agent field.
    pub user_agent: Option<&'a [u8]>,
    /// From the first byte of the request to the last of the reply.
    pub duration_us: u64,
}

/// The request line, as it is logged.
#[derive(Clone, Copy, Debug)]
pub struct RequestLine<'a> {
    /// The method.
    pub method: Method,
    /// The target, as it was sent.
    pub target: &'a [u8],
    /// The version.
    pub version: Version,
}

/// Appends the line of a record, with its line end.
pub fn log_line(record: &Record<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(if record.remote.is_empty() { b"-" } else { record.remote.as_bytes() });
    out.extend_from_slice(b" - ");
    write_user(record.user, out);
    out.extend_from_slice(b" [");
    write_date(record.date, out);
    out.extend_from_slice(b"] \"");
    match record.request {
        Some(line) => {
            out.extend_from_slice(line.method.as_str().as_bytes());
            out.push(b' ');
            write_escaped(line.target, out);
            out.extend_from_slice(match line.version {
                Version::Http10 => b" HTTP/1.0",
                Version::Http11 => b" HTTP/1.1",
            });
        }
        None => out.push(b'-'),
    }
    out.extend_from_slice(b"\" ");
    write_decimal(record.status.code().into(), out);
    out.push(b' ');
    write_decimal(record.body_bytes, out);
    for value in [record.referer, record.user_agent] {
        out.extend_from_slice(b" \"");
        write_escaped(value.unwrap_or(b"-"), out);
        out.push(b'"');
    }
    out.push(b' ');
    write_decimal(record.duration_us, out);
    out.push(b'\n');
}

/// `Sat, 21 Nov 2026 11:10:46 GMT` becomes `21/Nov/2026:11:10:46 +0000`: the fields of an IMF-fixdate are at fixed
/// places.
fn write_date(date: &[u8; 29], out: &mut Vec<u8>) {
    for (part, after) in [(&date[5..7], "/"), (&date[8..11], "/"), (&date[12..16], ":"), (&date[17..25], " +0000")] {
        out.extend_from_slice(part);
        out.extend_from_slice(after.as_bytes());
    }
}

/// A name may have spaces in it, and be a dash: neither may move what follows it, or pass for nobody.
fn write_user(user: Option<&[u8]>, out: &mut Vec<u8>) {
    match user {
        None => out.push(b'-'),
        Some(b"-") => out.extend_from_slice(b"\\x2d"),
        Some(b"") => out.extend_from_slice(b"\"\""),
        Some(name) => {
            for part in name.split_inclusive(|byte| *byte == b' ') {
                let (word, space) = part.strip_suffix(b" ").map_or((part, &b""[..]), |word| (word, b"\\x20"));
                write_escaped(word, out);
                out.extend_from_slice(space);
            }
        }
    }
}

/// Only printable ASCII stays as it is; a quote, a backslash and everything else become `\xHH`.
fn write_escaped(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        match byte {
            b'"' | b'\\' | 0..b' ' | 0x7f.. => {
                out.extend_from_slice(&[b'\\', b'x', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
            _ => out.push(*byte),
        }
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn write_decimal(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(decimal(number, &mut [0; 20]));
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: Record<'static> = Record {
        remote: "192.0.2.7",
        user: None,
        date: b"Sat, 21 Nov 2026 11:10:46 GMT",
        request: Some(RequestLine { method: Method::Get, target: b"/a?b", version: Version::Http11 }),
        status: Status::OK,
        body_bytes: 1234,
        referer: None,
        user_agent: Some(b"curl/8"),
        duration_us: 513,
    };

    fn line(record: &Record<'_>) -> String {
        let mut out = Vec::new();
        log_line(record, &mut out);
        String::from_utf8(out).expect("a line is ASCII")
    }

    #[test]
    fn a_line_is_combined_format_and_the_duration() {
        assert_eq!(
            line(&RECORD),
            "192.0.2.7 - - [21/Nov/2026:11:10:46 +0000] \"GET /a?b HTTP/1.1\" 200 1234 \"-\" \"curl/8\" 513\n"
        );
    }

    #[test]
    fn what_is_missing_is_a_dash() {
        let record = Record { remote: "", request: None, status: Status::BAD_REQUEST, user_agent: None, ..RECORD };
        assert_eq!(line(&record), "- - - [21/Nov/2026:11:10:46 +0000] \"-\" 400 1234 \"-\" \"-\" 513\n");
    }

    #[test]
    fn a_user_is_one_word() {
        for (user, want) in [
            (&b"ann"[..], "ann"),
            (b"Ann Smith ", r"Ann\x20Smith\x20"),
            (b"-", r"\x2d"),
            (b"", "\"\""),
            (b"j\xc3\xb6rg\"", r"j\xc3\xb6rg\x22"),
        ] {
            let line = line(&Record { user: Some(user), ..RECORD });
            assert!(line.starts_with(&format!("192.0.2.7 - {want} [21/Nov/")), "{line}");
        }
    }

    #[test]
    fn nothing_that_a_client_sends_leaves_its_place() {
        let hostile = b"\" 200 0 \"x\"\r\n10.0.0.1 - -\x1b[2J\\\t\x00\xc3\xa9";
        let request = RequestLine { method: Method::Get, target: hostile, version: Version::Http10 };
        let record = Record { request: Some(request), referer: Some(hostile), user_agent: Some(hostile), ..RECORD };
        let line = line(&record);
        assert_eq!(line.matches('\n').count(), 1);
        assert_eq!(line.matches('"').count(), 6, "three quoted parts");
        assert!(line.trim_end().bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        assert!(line.contains(r"\x22 200 0 \x22x\x22\x0d\x0a10.0.0.1 - -\x1b[2J\x5c\x09\x00\xc3\xa9"));
    }
}
