//! How a body is delimited: the decision (RFC 9112 section 6.3), what is left of it, and the chunks that we write.

pub use super::chunked::Decoded;

use super::chunked::Chunks;
use super::limits::Limits;
use super::refusal::Fault;
use super::request::{Framing, Version};

/// The decision table, each row the strict reading: whatever two readers might frame differently is refused.
pub(super) fn framing(
    version: Version,
    content_length: Option<&[u8]>,
    transfer_encoding: Option<&[u8]>,
) -> Result<Framing, Fault> {
    match (content_length, transfer_encoding, version) {
        (None, None, _) => Ok(Framing::None),
        (Some(length), None, _) => decimal(length).map(Framing::Length).ok_or(Fault::ContentLength),
        (Some(_), Some(_), _) => Err(Fault::LengthAndEncoding),
        (None, Some(_), Version::Http10) => Err(Fault::EncodingOn10),
        (None, Some(coding), Version::Http11) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        // Another coding before it would be legal, but its framing is all that we could undo.
        (None, Some(_), Version::Http11) => Err(Fault::TransferEncoding),
    }
}

/// Whether bytes of a body follow the head.
pub(super) fn has_bytes(framing: Framing) -> bool {
    !matches!(framing, Framing::None | Framing::Length(0))
}

/// `1*DIGIT` that fits 64 bits: no sign, no space, no separator, no list.
fn decimal(text: &[u8]) -> Option<u64> {
    let digit = |byte: u8| byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
    let (first, rest) = text.split_first()?;
    rest.iter().try_fold(digit(*first)?, |value, &byte| value.checked_mul(10)?.checked_add(digit(byte)?))
}

/// What is left of a request's body.
#[derive(Clone, Copy, Debug)]
pub(super) enum Body {
    Done,
    Length(u64),
    Chunked(Chunks),
    Failed(Fault),
}

impl Body {
    pub(super) fn new(framing: Framing) -> Body {
        match framing {
            Framing::None | Framing::Length(0) => Body::Done,
            Framing::Length(length) => Body::Length(length),
            Framing::Chunked => Body::Chunked(Chunks::new()),
        }
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self, Body::Done)
    }

    /// The next step through `unread`. A fault stays.
    pub(super) fn decode(&mut self, limits: &Limits, unread: &[u8]) -> Result<Decoded, Fault> {
        let decoded = match self {
            Body::Done => Ok(Decoded::End { consumed: 0 }),
            Body::Length(left) => Ok(take_some(left, unread)),
            Body::Chunked(chunks) => chunks.decode(limits, unread),
            Body::Failed(fault) => Err(*fault),
        };
        match decoded {
            Ok(Decoded::End { .. }) => *self = Body::Done,
            Err(fault) => *self = Body::Failed(fault),
            Ok(Decoded::Data { .. } | Decoded::NeedBytes { .. }) => {}
        }
        decoded
    }
}

fn take_some(left: &mut u64, unread: &[u8]) -> Decoded {
    let len = usize::try_from(*left).unwrap_or(usize::MAX).min(unread.len());
    *left -= len as u64;
    match (len, *left) {
        (0, 0) => Decoded::End { consumed: 0 },
        (0, _) => Decoded::NeedBytes { consumed: 0 },
        _ => Decoded::Data { skip: 0, len },
    }
}

/// A chunked body that did not come from a client: the output of a script that writes complete responses.
#[derive(Clone, Copy, Debug)]
pub struct Dechunk(Chunks);

/// It is not in the chunked coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotChunked;

impl Dechunk {
    /// At the start of a body.
    pub const fn new() -> Dechunk {
        Dechunk(Chunks::new())
    }

    /// The next step through `unread`.
    ///
    /// # Errors
    /// [`NotChunked`], and for ever.
    pub fn decode(&mut self, limits: &Limits, unread: &[u8]) -> Result<Decoded, NotChunked> {
        self.0.decode(limits, unread).map_err(|_fault| NotChunked)
    }
}

impl Default for Dechunk {
    fn default() -> Dechunk {
        Dechunk::new()
    }
}

/// What ends a chunked body, without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// What ends the data of each chunk.
pub const CHUNK_END: &[u8] = b"\r\n";

/// The size line of one chunk, on the stack; dereferences to its bytes.
#[derive(Clone, Copy, Debug)]
pub struct ChunkHead {
    /// Filled from the end: 16 digits and CRLF at most.
    bytes: [u8; 18],
    start: u8,
}

/// The size line of a chunk of `len` bytes; follow the bytes by [`CHUNK_END`]. `len` is not 0: that line would end
/// the body, which is for [`LAST_CHUNK`] to do, so 0 gives no bytes at all.
pub fn chunk_head(len: usize) -> ChunkHead {
    let mut head = ChunkHead { bytes: [0; 18], start: 18 };
    if len == 0 {
        return head;
    }
    head.push(b'\n');
    head.push(b'\r');
    let mut rest = len;
    while rest > 0 {
        head.push(b"0123456789abcdef"[rest % 16]);
        rest /= 16;
    }
    head
}

impl ChunkHead {
    fn push(&mut self, byte: u8) {
        self.start -= 1;
        self.bytes[usize::from(self.start)] = byte;
    }
}

impl std::ops::Deref for ChunkHead {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[usize::from(self.start)..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_decimals_are_lengths() {
        for (text, value) in [
            ("0", Some(0)),
            ("007", Some(7)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("99999999999999999999999", None),
            ("", None),
            ("+1", None),
            ("-1", None),
            ("1 ", None),
            ("1,1", None),
            ("1_0", None),
            ("0x1", None),
        ] {
            assert_eq!(decimal(text.as_bytes()), value, "{text:?}");
        }
    }

    #[test]
    fn chunk_heads_are_lower_case_hex() {
        assert_eq!(&*chunk_head(1), b"1\r\n");
        assert_eq!(&*chunk_head(0x1a2b), b"1a2b\r\n");
        assert_eq!(&*chunk_head(usize::MAX), b"ffffffffffffffff\r\n");
        assert_eq!(&*chunk_head(0), b"");
    }
}
