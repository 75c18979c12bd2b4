//! Several ranges in one body: `multipart/byteranges` (RFC 9110 section 14.6, RFC 2046 section 5.1.1).

use super::range::Span;
use super::response::{write_content_range, write_field};

/// What separates the parts: 128 bits that whoever made the content could not know, in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boundary([u8; BOUNDARY_BYTES]);

const BOUNDARY_BYTES: usize = 32;

impl Boundary {
    /// A boundary from 128 random bits.
    pub fn new(random: u128) -> Boundary {
        let mut digits = [0; BOUNDARY_BYTES];
        for (at, digit) in digits.iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(random >> (4 * at) & 15) as usize];
        }
        Boundary(digits)
    }
}

/// A body that consists of parts of a representation, less their bytes: what stands before, between and behind them.
/// It is sent part by part, and nobody ever has the whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Multipart {
    spans: Box<[Span]>,
    /// Of the representation.
    length: u64,
    /// The field lines of every part but for Content-Range.
    fields: Box<[u8]>,
    boundary: Boundary,
    content_length: u64,
}

impl Multipart {
    /// Of these spans of a representation of that length, with these field lines before each.
    pub fn new(spans: &[Span], length: u64, fields: Vec<u8>, boundary: Boundary) -> Multipart {
        let mut multipart =
            Multipart { spans: spans.into(), length, fields: fields.into(), boundary, content_length: 0 };
        multipart.content_length = multipart.measure();
        multipart
    }

    /// The spans, in the order in which they are sent.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// The length of the body, to its last byte; the greatest number where it does not fit.
    pub fn content_length(&self) -> u64 {
        self.content_length
    }

    /// The Content-Type of the reply.
    pub fn write_content_type(&self, out: &mut Vec<u8>) {
        write_field(out, "Content-Type", &[&b"multipart/byteranges; boundary="[..], &self.boundary.0].concat());
    }

    /// What stands before the bytes of a part.
    pub fn write_part_head(&self, index: usize, out: &mut Vec<u8>) {
        let Some(span) = self.spans.get(index) else { return };
        // The line break before a boundary belongs to it; before the first there is nothing to break.
        out.extend_from_slice(if index == 0 { &BETWEEN[2..] } else { BETWEEN });
        out.extend_from_slice(&self.boundary.0);
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&self.fields);
        write_content_range(out, *span, self.length);
        out.extend_from_slice(b"\r\n");
    }

    /// What stands behind the bytes of the last part.
    pub fn write_end(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(BETWEEN);
        out.extend_from_slice(&self.boundary.0);
        out.extend_from_slice(LAST);
    }

    /// Writing the heads to measure them is simpler than adding up digits.
    fn measure(&self) -> u64 {
        let mut head = Vec::new();
        let parts = self.spans.iter().enumerate().map(|(index, span)| {
            head.clear();
            self.write_part_head(index, &mut head);
            // Neither overlapping nor outside of the representation, the spans cannot exceed 64 bits; their heads could.
            span.len.saturating_add(head.len() as u64)
        });
        let parts = parts.fold(0, u64::saturating_add);
        parts.saturating_add((BETWEEN.len() + BOUNDARY_BYTES + LAST.len()) as u64)
    }
}

const BETWEEN: &[u8] = b"\r\n--";
const LAST: &[u8] = b"--\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole body, as it would be sent.
    fn body(multipart: &Multipart, content: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        for (index, span) in multipart.spans().iter().enumerate() {
            multipart.write_part_head(index, &mut body);
            body.extend_from_slice(&content[span.start as usize..(span.start + span.len) as usize]);
        }
        multipart.write_end(&mut body);
        body
    }

    #[test]
    fn a_body_reads_as_rfc_9110_section_14_6_shows() {
        let spans = [Span { start: 8, len: 2 }, Span { start: 0, len: 3 }];
        let fields = b"Content-Type: text/plain\r\n".to_vec();
        let multipart = Multipart::new(&spans, 10, fields, Boundary::new(0xABC));
        let expected = "--cba00000000000000000000000000000\r\nContent-Type: text/plain\r\n\
             Content-Range: bytes 8-9/10\r\n\r\n89\r\n\
             --cba00000000000000000000000000000\r\nContent-Type: text/plain\r\n\
             Content-Range: bytes 0-2/10\r\n\r\n012\r\n\
             --cba00000000000000000000000000000--\r\n";
        assert_eq!(String::from_utf8_lossy(&body(&multipart, b"0123456789")), expected);
        assert_eq!(multipart.content_length(), expected.len() as u64);
        let mut head = Vec::new();
        multipart.write_content_type(&mut head);
        assert_eq!(head, b"Content-Type: multipart/byteranges; boundary=cba00000000000000000000000000000\r\n");
    }

    #[test]
    fn lengths_neither_wrap_nor_panic() {
        let spans = [Span { start: 0, len: u64::MAX - 10 }, Span { start: u64::MAX - 5, len: 5 }];
        assert_eq!(Multipart::new(&spans, u64::MAX, Vec::new(), Boundary::new(0)).content_length(), u64::MAX);
    }
}
