//! The fields that every reply of this server has, and how a head starts and ends.

use super::http_shim::response;
use super::http_shim::range::Span;
use super::reply::HeadContext;
use crate::http::request::Version;
use crate::http::status::Status;

/// Appends the status line and the fields that no reply is without.
pub(super) fn write_start(status: Status, out: &mut Vec<u8>) {
    response::write_status(out, status);
    out.extend_from_slice(b"Server: ucaffeine\r\nX-Content-Type-Options: nosniff\r\n");
}

/// Appends what ends every head: Date, what becomes of the connection, the blank line.
pub fn write_end(out: &mut Vec<u8>, context: &HeadContext<'_>) {
    write_field(out, "Date", context.date);
    // Staying open is what HTTP/1.1 means by saying nothing, and what an HTTP/1.0 client must be told (RFC 9112 section 9.3).
    match (context.keep_alive, context.version) {
        (false, _) => out.extend_from_slice(b"Connection: close\r\n\r\n"),
        (true, Version::Http10) => out.extend_from_slice(b"Connection: keep-alive\r\n\r\n"),
        (true, Version::Http11) => out.extend_from_slice(b"\r\n"),
    }
}

/// Appends a status line with a phrase of one's own, which may be empty.
pub(super) fn write_status_line(status: Status, phrase: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(decimal(status.code().into(), &mut [0; 20]));
    out.push(b' ');
    out.extend_from_slice(phrase);
    out.extend_from_slice(b"\r\n");
}

/// Appends the field that says that the body comes in chunks.
pub(super) fn write_chunked(out: &mut Vec<u8>) {
    write_field(out, "Transfer-Encoding", b"chunked");
}

/// Appends a field line.
pub(super) fn write_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    response::write_field(out, name.as_bytes(), value);
}

/// Appends a field line with a number.
pub(super) fn write_decimal(out: &mut Vec<u8>, name: &str, value: u64) {
    let mut digits = [0; 20];
    write_field(out, name, decimal(value, &mut digits));
}

/// Appends the place of a part within the whole (RFC 9110 section 14.4). A span is never empty.
pub(super) fn write_content_range(span: Span, len: u64, out: &mut Vec<u8>) {
    let last = span.start + span.len.saturating_sub(1);
    out.extend_from_slice(b"Content-Range: bytes ");
    for (number, after) in [(span.start, "-"), (last, "/"), (len, "\r\n")] {
        out.extend_from_slice(decimal(number, &mut [0; 20]));
        out.extend_from_slice(after.as_bytes());
    }
}

/// Appends the length that a range missed.
pub(super) fn write_unsatisfied_range(out: &mut Vec<u8>, len: u64) {
    out.extend_from_slice(b"Content-Range: bytes */");
    out.extend_from_slice(decimal(len, &mut [0; 20]));
    out.extend_from_slice(b"\r\n");
}

/// The digits of a number, in the end of a buffer that holds the longest.
pub(super) fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[start..];
        }
    }
}
