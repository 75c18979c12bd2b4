//! One record of the access log, in one of two forms: the combined log format with the duration at its end, or an object of
//! JSON with all that is known.
//!
//! ```text
//! 192.0.2.7 - - [21/Nov/2026:11:10:46 +0000] "GET /a?b HTTP/1.1" 200 1234 "https://example.com/" "curl/8" 513
//! ```
//!
//! A line is printable ASCII, whatever a client has sent: what it sent stays in its place, a line is one line, and no
//! terminal sequence reaches whoever reads the log. In the combined format that is done by `\xHH`, as its readers expect;
//! in JSON by `\uXXXX`, see `json`.

mod json;

use super::decimal;
use crate::http::request::{Method, Version};

/// How a record is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Form {
    /// As most servers do, and most tools read.
    #[default]
    Combined,
    /// One object a line.
    Json,
}

impl Form {
    /// Every form, with the name it is asked for by.
    pub const NAMES: [(&'static str, Form); 2] = [("combined", Form::Combined), ("json", Form::Json)];
}

/// What is known of a request when its reply is over, or will not come.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The client's address, without the port; empty for a Unix socket.
    pub remote: &'a str,
    /// Who the client is, as far as it has proved it.
    pub user: Option<&'a [u8]>,
    /// When it was over.
    pub moment: Moment<'a>,
    /// What was asked; nothing when no request could be read.
    pub request: Option<RequestLine<'a>>,
    /// The host that was asked for.
    pub host: Option<&'a [u8]>,
    /// The status that was answered; [`NOT_ANSWERED`] for none.
    pub status: u16,
    /// Body bytes that the connection took; less than announced when it was cut.
    pub body_bytes: u64,
    /// All of the reply has been taken.
    pub complete: bool,
    /// The Referer field.
    pub referer: Option<&'a [u8]>,
    /// The User-Agent field.
    pub user_agent: Option<&'a [u8]>,
    /// From the first byte of the request to the last of the reply.
    pub duration_us: u64,
    /// From the first byte of the request to the first of the reply, if one was taken.
    pub first_byte_us: Option<u64>,
    /// Where it was answered.
    pub place: Place,
    /// The program that answered, if one did.
    pub script: Option<ScriptEnd>,
    /// Why it was refused, if it was no request.
    pub refused: Option<&'static str>,
}

/// The status of a request that got none: its client had gone first, or the server had to stop.
pub const NOT_ANSWERED: u16 = 499;

/// A moment on the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// Its second, as an IMF-fixdate.
    pub date: &'a [u8; 29],
    /// Microseconds since that.
    pub micros: u32,
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

/// Where a request was answered: by these three it has a name that no other has while the server lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The core.
    pub core: u32,
    /// Which of the core's connections, from 1.
    pub connection: u64,
    /// Which of the connection's requests, from 1.
    pub request: u64,
}

/// How a program ended that answered a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScriptEnd {
    /// `None` when it had not ended when its reply had.
    pub ending: Option<Ending>,
    /// From its start to its end, or to that of its reply.
    pub run_us: u64,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It exited with this code.
    Exit(i32),
    /// This signal ended it.
    Signal(i32),
}

/// Appends the line of a record, with its line end.
pub fn log_line(form: Form, record: &Record<'_>, out: &mut Vec<u8>) {
    match form {
        Form::Combined => combined(record, out),
        Form::Json => json::write(record, out),
    }
    out.push(b'\n');
}

fn combined(record: &Record<'_>, out: &mut Vec<u8>) {
    write_word(record.remote.as_bytes(), out);
    out.extend_from_slice(b" - ");
    write_user(record.user, out);
    out.extend_from_slice(b" [");
    write_date(record.moment.date, out);
    out.extend_from_slice(b"] \"");
    match record.request {
        Some(line) => {
            out.extend_from_slice(line.method.as_str().as_bytes());
            out.push(b' ');
            write_escaped(line.target, out);
            out.push(b' ');
            out.extend_from_slice(name_of(line.version).as_bytes());
        }
        None => out.push(b'-'),
    }
    out.extend_from_slice(b"\" ");
    write_decimal(record.status.into(), out);
    out.push(b' ');
    write_decimal(record.body_bytes, out);
    for value in [record.referer, record.user_agent] {
        out.extend_from_slice(b" \"");
        write_escaped(value.unwrap_or(b"-"), out);
        out.push(b'"');
    }
    out.push(b' ');
    write_decimal(record.duration_us, out);
}

fn name_of(version: Version) -> &'static str {
    match version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
    }
}

/// `Sat, 21 Nov 2026 11:10:46 GMT` becomes `21/Nov/2026:11:10:46 +0000`: the fields of an IMF-fixdate are at fixed
/// places.
fn write_date(date: &[u8; 29], out: &mut Vec<u8>) {
    for (part, after) in [(&date[5..7], "/"), (&date[8..11], "/"), (&date[12..16], ":"), (&date[17..25], " +0000")] {
        out.extend_from_slice(part);
        out.extend_from_slice(after.as_bytes());
    }
}

/// A name may be a dash, or nothing: neither may pass for nobody.
fn write_user(user: Option<&[u8]>, out: &mut Vec<u8>) {
    match user {
        Some(b"-") => out.extend_from_slice(b"\\x2d"),
        Some(b"") => out.extend_from_slice(b"\"\""),
        user => write_word(user.unwrap_or_default(), out),
    }
}

/// A value that stands between spaces, without quotes: neither those nor the brackets of the date may be in it.
fn write_word(bytes: &[u8], out: &mut Vec<u8>) {
    if bytes.is_empty() {
        out.push(b'-');
    }
    for byte in bytes {
        match byte {
            b' ' | b'[' | b']' => write_hex(*byte, out),
            _ => write_escaped(std::slice::from_ref(byte), out),
        }
    }
}

/// Only printable ASCII stays as it is; a quote, a backslash and everything else become `\xHH`.
fn write_escaped(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        match byte {
            b'"' | b'\\' | 0..b' ' | 0x7f.. => write_hex(*byte, out),
            _ => out.push(*byte),
        }
    }
}

fn write_hex(byte: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(&[b'\\', b'x', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn write_decimal(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(decimal(number, &mut [0; 20]));
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const RECORD: Record<'static> = Record {
        remote: "192.0.2.7",
        user: None,
        moment: Moment { date: b"Sat, 21 Nov 2026 11:10:46 GMT", micros: 42 },
        request: Some(RequestLine { method: Method::Get, target: b"/a?b", version: Version::Http11 }),
        host: Some(b"example.com"),
        status: 200,
        body_bytes: 1234,
        complete: true,
        referer: None,
        user_agent: Some(b"curl/8"),
        duration_us: 513,
        first_byte_us: Some(480),
        place: Place { core: 1, connection: 17, request: 3 },
        script: None,
        refused: None,
    };

    pub(super) fn line(form: Form, record: &Record<'_>) -> String {
        let mut out = Vec::new();
        log_line(form, record, &mut out);
        String::from_utf8(out).expect("a line is ASCII")
    }

    #[test]
    fn a_line_is_combined_format_and_the_duration() {
        assert_eq!(
            line(Form::Combined, &RECORD),
            "192.0.2.7 - - [21/Nov/2026:11:10:46 +0000] \"GET /a?b HTTP/1.1\" 200 1234 \"-\" \"curl/8\" 513\n"
        );
    }

    #[test]
    fn what_is_missing_is_a_dash() {
        let record = Record { remote: "", request: None, status: 400, user_agent: None, ..RECORD };
        let want = "- - - [21/Nov/2026:11:10:46 +0000] \"-\" 400 1234 \"-\" \"-\" 513\n";
        assert_eq!(line(Form::Combined, &record), want);
    }

    #[test]
    fn a_user_is_one_word() {
        for (user, want) in [
            (&b"ann"[..], "ann"),
            (b"Ann Smith ", r"Ann\x20Smith\x20"),
            (b"-", r"\x2d"),
            (b"", "\"\""),
            (b"j\xc3\xb6rg\"", r"j\xc3\xb6rg\x22"),
            (b"a [b] \"c", r"a\x20\x5bb\x5d\x20\x22c"),
        ] {
            let line = line(Form::Combined, &Record { user: Some(user), ..RECORD });
            assert!(line.starts_with(&format!("192.0.2.7 - {want} [21/Nov/")), "{line}");
        }
    }

    #[test]
    fn nothing_that_a_client_sends_leaves_its_place() {
        let hostile = b"\" 200 0 \"x\"\r\n10.0.0.1 - -\x1b[2J\\\t\x00\xc3\xa9";
        let request = RequestLine { method: Method::Get, target: hostile, version: Version::Http10 };
        let record = Record { request: Some(request), referer: Some(hostile), user_agent: Some(hostile), ..RECORD };
        let line = line(Form::Combined, &record);
        assert_eq!(line.matches('\n').count(), 1);
        assert_eq!(line.matches('"').count(), 6, "three quoted parts");
        assert!(line.contains(r"\x22 200 0 \x22x\x22\x0d\x0a10.0.0.1 - -\x1b[2J\x5c\x09\x00\xc3\xa9"));
    }

    /// The parts of a line, as a reader of the format finds them: words, brackets and quotes.
    fn parts(line: &str) -> Vec<&str> {
        let (mut parts, mut rest) = (Vec::new(), line.strip_suffix('\n').unwrap());
        while !rest.is_empty() {
            let (part, after) = match rest.as_bytes()[0] {
                b'"' => rest[1..].split_once('"').unwrap(),
                b'[' => rest[1..].split_once(']').unwrap(),
                _ => rest.split_at(rest.find(' ').unwrap_or(rest.len())),
            };
            parts.push(part);
            rest = after.strip_prefix(' ').unwrap_or(after);
        }
        parts
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_forge_a_line_or_reach_a_terminal(
            target: Vec<u8>, host: Vec<u8>, referer: Vec<u8>, user_agent: Vec<u8>, user: Vec<u8>, remote: String
        ) {
            let request = RequestLine { method: Method::Get, target: &target, version: Version::Http11 };
            let record = Record {
                remote: &remote,
                request: Some(request),
                host: Some(&host),
                referer: Some(&referer),
                user_agent: Some(&user_agent),
                user: Some(&user),
                ..RECORD
            };
            for form in [Form::Combined, Form::Json] {
                let line = line(form, &record);
                let body = line.strip_suffix('\n').unwrap();
                proptest::prop_assert!(body.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{}", line);
            }
            let line = line(Form::Combined, &record);
            let parts = parts(&line);
            proptest::prop_assert_eq!(parts.len(), 10, "{}", line);
            proptest::prop_assert_eq!(parts[9], "513");
            proptest::prop_assert_eq!(parts[6], "1234");
        }
    }
}
