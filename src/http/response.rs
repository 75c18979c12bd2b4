//! The bytes of a response head. No other file writes a status line or a field, so what keeps them well-formed is all
//! here.
//!
//! Nothing allocates but the growth of `out`.

use super::range::Span;
use super::request::Version;
use super::scan::{is_token_byte, is_value_byte};
use super::status::Status;

/// The interim response that a client waits for before it sends its body (RFC 9110 section 10.1.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// How the body of a response is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// There is none and none is described: 1xx, 204, 304.
    None,
    /// So many bytes; or, to HEAD, so many that GET would have sent.
    Length(u64),
    /// Chunks.
    Chunked,
    /// What comes until the connection closes: a length that is not known, to HTTP/1.0. The caller has to close it then
    /// ([`super::conn::Conn::close_after`]), before it writes Connection.
    UntilClose,
}

impl BodyFraming {
    /// The framing of a body whose length may not be known yet, to a client of that version.
    pub fn of(version: Version, status: Status, length: Option<u64>) -> BodyFraming {
        match (length, version) {
            _ if status.is_bodyless() => BodyFraming::None,
            (Some(length), _) => BodyFraming::Length(length),
            (None, Version::Http11) => BodyFraming::Chunked,
            (None, Version::Http10) => BodyFraming::UntilClose,
        }
    }
}

/// The status line. It says HTTP/1.1 to 1.0 clients too (RFC 9110 section 2.5). A code without a registered phrase
/// gets none.
pub fn write_status(out: &mut Vec<u8>, status: Status) {
    write_status_with(out, status, status.phrase().as_bytes());
}

/// As [`write_status`], with a phrase of the caller's; control characters in it become spaces.
pub fn write_status_with(out: &mut Vec<u8>, status: Status, phrase: &[u8]) {
    out.extend_from_slice(b"HTTP/1.1 ");
    write_decimal(out, status.code().into());
    out.push(b' ');
    out.extend(phrase.iter().map(|byte| if byte.is_ascii_control() { b' ' } else { *byte }));
    out.extend_from_slice(b"\r\n");
}

/// One field line. Whatever the caller passes, this is one line: control characters of the value become spaces (RFC
/// 9110 section 5.5), and a name that is not a token writes nothing, and returns false.
pub fn write_field(out: &mut Vec<u8>, name: &str, value: &[u8]) -> bool {
    if name.is_empty() || !name.bytes().all(is_token_byte) {
        return false;
    }
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    if value.iter().all(|&byte| is_value_byte(byte)) {
        out.extend_from_slice(value);
    } else {
        out.extend(value.iter().map(|&byte| if is_value_byte(byte) { byte } else { b' ' }));
    }
    out.extend_from_slice(b"\r\n");
    true
}

/// A field line whose value is a number.
pub fn write_number(out: &mut Vec<u8>, name: &str, value: u64) -> bool {
    write_field(out, name, Decimal::new(value).as_bytes())
}

/// Date; see [`super::date::format`], once a second and not once a response.
pub fn write_date(out: &mut Vec<u8>, date: &[u8; 29]) {
    out.extend_from_slice(b"Date: ");
    out.extend_from_slice(date);
    out.extend_from_slice(b"\r\n");
}

/// Content-Length or Transfer-Encoding, or neither.
pub fn write_framing(out: &mut Vec<u8>, framing: BodyFraming) {
    match framing {
        BodyFraming::None | BodyFraming::UntilClose => {}
        BodyFraming::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        BodyFraming::Length(length) => {
            out.extend_from_slice(b"Content-Length: ");
            write_decimal(out, length);
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Connection, where it differs from what the version implies. `close` is said to both: an intermediary may have
/// changed the version.
pub fn write_connection(out: &mut Vec<u8>, version: Version, keep_alive: bool) {
    match (keep_alive, version) {
        (true, Version::Http11) => {}
        (true, Version::Http10) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        (false, _) => out.extend_from_slice(b"Connection: close\r\n"),
    }
}

/// Content-Range of a 206, or of one part of it.
pub fn write_content_range(out: &mut Vec<u8>, span: Span, length: u64) {
    out.extend_from_slice(b"Content-Range: bytes ");
    write_decimal(out, span.start);
    out.push(b'-');
    write_decimal(out, span.start.saturating_add(span.len.saturating_sub(1)));
    out.push(b'/');
    write_decimal(out, length);
    out.extend_from_slice(b"\r\n");
}

/// Content-Range of a 416.
pub fn write_content_range_unsatisfied(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"Content-Range: bytes */");
    write_decimal(out, length);
    out.extend_from_slice(b"\r\n");
}

/// The blank line that ends the head.
pub fn write_end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

fn write_decimal(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(Decimal::new(value).as_bytes());
}

/// A number in decimal, on the stack: 20 digits are 64 bits.
struct Decimal {
    digits: [u8; 20],
    start: usize,
}

impl Decimal {
    fn new(mut value: u64) -> Decimal {
        let mut decimal = Decimal { digits: [b'0'; 20], start: 20 };
        loop {
            decimal.start -= 1;
            decimal.digits[decimal.start] = b'0' + (value % 10) as u8;
            value /= 10;
            if value == 0 {
                return decimal;
            }
        }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.digits[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn a_head_reads_as_it_should() {
        let head = written(|out| {
            write_status(out, Status::PARTIAL_CONTENT);
            write_date(out, &crate::http::date::format(784_111_777));
            write_content_range(out, Span { start: 5, len: 10 }, 20);
            write_framing(out, BodyFraming::Length(10));
            write_connection(out, Version::Http11, false);
            write_number(out, "Retry-After", u64::MAX);
            write_end(out);
        });
        assert_eq!(
            head,
            "HTTP/1.1 206 Partial Content\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Range: bytes 5-14/20\r\n\
             Content-Length: 10\r\nConnection: close\r\nRetry-After: 18446744073709551615\r\n\r\n"
        );
        let unregistered = Status::from_code(299).map(|status| written(|out| write_status(out, status)));
        assert_eq!(unregistered.as_deref(), Some("HTTP/1.1 299 \r\n"));
        assert_eq!(written(|out| write_content_range_unsatisfied(out, 0)), "Content-Range: bytes */0\r\n");
    }

    #[test]
    fn connection_is_said_only_where_it_is_news() {
        assert_eq!(written(|out| write_connection(out, Version::Http11, true)), "");
        assert_eq!(written(|out| write_connection(out, Version::Http10, true)), "Connection: keep-alive\r\n");
        assert_eq!(written(|out| write_connection(out, Version::Http10, false)), "Connection: close\r\n");
    }

    #[test]
    fn framing_follows_version_and_status() {
        use BodyFraming::{Chunked, Length, UntilClose};
        assert_eq!(BodyFraming::of(Version::Http11, Status::OK, None), Chunked);
        assert_eq!(BodyFraming::of(Version::Http10, Status::OK, None), UntilClose);
        assert_eq!(BodyFraming::of(Version::Http10, Status::OK, Some(3)), Length(3));
        assert_eq!(BodyFraming::of(Version::Http11, Status::NOT_MODIFIED, Some(3)), BodyFraming::None);
        assert_eq!(written(|out| write_framing(out, Chunked)), "Transfer-Encoding: chunked\r\n");
        assert_eq!(written(|out| write_framing(out, UntilClose)), "");
    }

    #[test]
    fn no_value_and_no_name_can_start_another_line() {
        assert_eq!(
            written(|out| _ = write_field(out, "A", b"b\r\nSet-Cookie: c\0d\x7f\n")),
            "A: b  Set-Cookie: c d  \r\n"
        );
        for name in ["", "A B", "A:", "A\r\nB", "A\0", "\u{e9}"] {
            assert_eq!(written(|out| assert!(!write_field(out, name, b"x"))), "", "{name:?}");
        }
    }
}
