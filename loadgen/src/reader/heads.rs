//! A head that was read before need not be read again.

use super::Head;

/// A longer head is read each time.
const KNOWN_BYTES_MAX: usize = 1 << 10;

/// The last head that was read, and what it said. A server's heads are the same, byte for byte, until its Date changes: one such
/// memory serves all connections of a thread. Only a head that is the same from its first byte to its empty line is recognised, so
/// nothing is believed that was not read and found sound.
#[derive(Debug, Default)]
pub struct Heads {
    bytes: Vec<u8>,
    head: Option<Head>,
}

impl Heads {
    /// The head that `input` begins with, if it is the last one, and its length.
    #[inline]
    pub(super) fn recognise(&self, input: &[u8]) -> Option<(usize, Head)> {
        let head = self.head?;
        input.starts_with(&self.bytes).then_some((self.bytes.len(), head))
    }

    /// A whole head, with its empty line, and what it says. Allocates when it is longer than any before it.
    pub(super) fn remember(&mut self, bytes: &[u8], head: Head) {
        if bytes.len() > KNOWN_BYTES_MAX {
            return;
        }
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
        self.head = Some(head);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::{Extent, Part, Reader};

    fn ends(heads: &mut Heads, mut input: &[u8]) -> Vec<(u16, Extent)> {
        let (mut reader, mut status, mut ends) = (Reader::default(), 0, Vec::new());
        while let Some(part) = reader.next(heads, &mut input, false).expect("sound answers") {
            match part {
                Part::Head(head) => status = head.status,
                Part::Body(_) => {}
                Part::End(extent) => ends.push((status, extent)),
            }
        }
        ends
    }

    #[test]
    fn what_is_recognised_is_what_would_have_been_read() {
        let one = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        // One digit longer, one header more, another status: none of them is the one before.
        let others: [&[u8]; 4] = [
            b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n000000000000000000000000000000",
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nA: b\r\n\r\nabc",
            b"HTTP/1.1 404 OK\r\nContent-Length: 3\r\n\r\nabc",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        ];
        for other in others {
            let answers = [one.as_slice(), one, other, other, one].concat();
            let mut known = Heads::default();
            let alone = |answer: &[u8]| ends(&mut Heads::default(), answer)[0];
            assert_eq!(ends(&mut known, &answers), [one.as_slice(), one, other, other, one].map(alone));
        }
    }

    #[test]
    fn a_head_that_is_split_or_long_is_read() {
        let one = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        let mut heads = Heads::default();
        assert_eq!(ends(&mut heads, one).len(), 1);
        let (mut reader, mut rest) = (Reader::default(), one.as_slice());
        let mut first = rest.split_off(..20).expect("so long");
        assert_eq!(reader.next(&mut heads, &mut first, false), Ok(None));
        assert!(matches!(reader.next(&mut heads, &mut rest, false), Ok(Some(Part::Head(head))) if head.status == 200));
        let long = [b"HTTP/1.1 204 No\r\nA: ", b"x".repeat(KNOWN_BYTES_MAX).as_slice(), b"\r\n\r\n"].concat();
        assert_eq!(ends(&mut heads, &long)[0].0, 204);
        assert_eq!(heads.recognise(&long), None);
        assert!(heads.recognise(one).is_some());
    }
}
