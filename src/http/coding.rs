//! Content codings, and which of them a client takes (RFC 9110 sections 8.4.1 and 12.5.3).

use super::request::{Fields, Known};
use super::scan::is_token_byte;

/// A compression that a representation can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the codings' names")]
pub enum Coding {
    Brotli,
    Zstd,
    Gzip,
}

impl Coding {
    /// Every coding, in the order in which this server prefers them where the client does not mind: compressed at
    /// leisure, Brotli makes text smallest, and Zstandard smaller than gzip.
    pub const ALL: [Coding; 3] = [Coding::Brotli, Coding::Zstd, Coding::Gzip];

    /// The value of Content-Encoding.
    pub const fn token(self) -> &'static str {
        match self {
            Coding::Brotli => "br",
            Coding::Zstd => "zstd",
            Coding::Gzip => "gzip",
        }
    }
}

/// The coding, of those that are `available`, that a request wants most; `None` is the representation as it is.
///
/// Among equal weights the first of `available` wins, and any of them wins over none. Where the request has no
/// Accept-Encoding, or one that is not well-formed, nothing is coded: a body that cannot be read is worse than a longer
/// one. So it is where everything is refused (`*;q=0`), which section 12.5.3 prefers to an answer of 406.
pub fn choose(fields: &Fields<'_>, available: impl DoubleEndedIterator<Item = Coding>) -> Option<Coding> {
    let weights = Weights::of(fields)?;
    let least = weights.of_identity().max(1);
    // Reversed, because `max_by_key` takes the last of equals.
    available.rev().filter(|&coding| weights.of_coding(coding) >= least).max_by_key(|&coding| weights.of_coding(coding))
}

/// Weights in thousandths, by what they are for ([`slot`]).
struct Weights([Option<u16>; 5]);

const IDENTITY: usize = 3;
const ANY: usize = 4;

/// Where the weight of a coding is kept; nothing for one that this server has no use for.
fn slot(token: &[u8]) -> Option<usize> {
    let [br, zstd, gzip] = Coding::ALL.map(|coding| coding as usize);
    let known = [("br", br), ("zstd", zstd), ("gzip", gzip), ("x-gzip", gzip), ("identity", IDENTITY), ("*", ANY)];
    known.iter().find(|(name, _)| token.eq_ignore_ascii_case(name.as_bytes())).map(|(_, slot)| *slot)
}

impl Weights {
    /// What all lines of the field say; `None` where there is none, or one that cannot be read.
    fn of(fields: &Fields<'_>) -> Option<Weights> {
        let mut weights = Weights([None; 5]);
        let mut lines = fields.get_all(Known::AcceptEncoding).peekable();
        lines.peek()?;
        // A value may hold no comma but the list's own: neither tokens nor weights are quoted. Empty elements are
        // allowed (section 5.6.1.2).
        for element in lines.flat_map(|line| line.split(|&byte| byte == b',')).map(<[u8]>::trim_ascii) {
            if element.is_empty() {
                continue;
            }
            let (token, weight) = parse_element(element)?;
            if let Some(slot) = slot(token) {
                // Said twice, the lower weight holds: what is refused once is refused.
                let said = weights.0[slot].get_or_insert(weight);
                *said = weight.min(*said);
            }
        }
        Some(weights)
    }

    fn of_coding(&self, coding: Coding) -> u16 {
        self.0[coding as usize].or(self.0[ANY]).unwrap_or(0)
    }

    /// What was not coded is acceptable without being named, but wanted less than all that is.
    fn of_identity(&self) -> u16 {
        self.0[IDENTITY].or(self.0[ANY]).unwrap_or(0)
    }
}

/// `codings [ OWS ";" OWS "q=" qvalue ]`.
fn parse_element(element: &[u8]) -> Option<(&[u8], u16)> {
    let end = element.iter().position(|&byte| !is_token_byte(byte)).unwrap_or(element.len());
    let (token, rest) = element.split_at(end);
    if token.is_empty() {
        return None;
    }
    match rest.trim_ascii_start() {
        b"" => Some((token, 1000)),
        [b';', weight @ ..] => match weight.trim_ascii_start() {
            [b'q' | b'Q', b'=', qvalue @ ..] => Some((token, parse_qvalue(qvalue)?)),
            _ => None,
        },
        _ => None,
    }
}

/// `0[.ddd]` or `1[.000]` (section 12.4.2), in thousandths.
fn parse_qvalue(text: &[u8]) -> Option<u16> {
    let (whole, decimals) = match text {
        [whole] | [whole, b'.'] => (*whole, &[][..]),
        [whole, b'.', decimals @ ..] => (*whole, decimals),
        _ => return None,
    };
    if !matches!(whole, b'0' | b'1') || decimals.len() > 3 || !decimals.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |at: usize| decimals.get(at).map_or(0, |digit| u16::from(digit - b'0'));
    let thousandths = u16::from(whole - b'0') * 1000 + digit(0) * 100 + digit(1) * 10 + digit(2);
    (thousandths <= 1000).then_some(thousandths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head;
    use crate::http::limits::Limits;
    use crate::http::request::FieldSlots;

    /// The chosen token, where all of `available` (`br zstd gzip`) are there; `|` starts another line of the field.
    fn chosen(lines: Option<&str>, available: &str) -> &'static str {
        let lines: String =
            lines.into_iter().flat_map(|lines| lines.split('|')).map(|l| format!("Accept-Encoding: {l}\r\n")).collect();
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        let mut slots = FieldSlots::new();
        let Ok(Some((request, _))) = head::parse(&Limits::default(), head.as_bytes(), &mut slots) else {
            panic!("{head:?} is no request")
        };
        let available = Coding::ALL.into_iter().filter(|coding| available.contains(coding.token()));
        choose(&request.fields, available).map_or("identity", Coding::token)
    }

    #[test]
    fn by_weight_and_then_by_preference() {
        for (lines, expected) in [
            ("gzip", "gzip"),
            ("gzip, deflate, br, zstd", "br"),
            ("gzip, zstd", "zstd"),
            ("gzip;q=1.0, br;q=0.5", "gzip"),
            ("gzip;q=0.001", "gzip"),
            ("br;q=0.999, gzip;q=1", "gzip"),
            ("GZIP", "gzip"),
            ("x-gzip", "gzip"),
            ("gzip ;\t Q=0.5 , br ; q=0.4", "gzip"),
            ("*", "br"),
            ("*;q=0.5, gzip;q=0.6", "gzip"),
            ("br;q=0, *", "zstd"),
            ("br;q=0|zstd;q=0|*", "gzip"),
            ("gzip;q=0, gzip", "identity"),
            ("gzip, br;q=0.9, identity;q=0.95", "gzip"),
            ("br;q=0.9, identity;q=0.95", "identity"),
            ("gzip;q=0.5, identity;q=0.5", "gzip"),
            ("gzip;q=0.3, *;q=0.5, br;q=0, zstd;q=0", "identity"),
            ("identity", "identity"),
            ("deflate, compress", "identity"),
            ("identity;q=0, br", "br"),
            ("*;q=0, gzip", "gzip"),
        ] {
            assert_eq!(chosen(Some(lines), "br zstd gzip"), expected, "{lines:?}");
        }
    }

    #[test]
    fn only_what_is_there() {
        for (lines, available, expected) in [
            ("gzip, br, zstd", "gzip", "gzip"),
            ("gzip, br, zstd", "zstd gzip", "zstd"),
            ("gzip, br, zstd", "", "identity"),
            ("br", "gzip", "identity"),
            // Nothing that is there is acceptable: what is not coded is sent all the same.
            ("identity;q=0", "br zstd gzip", "identity"),
            ("identity;q=0, br", "gzip", "identity"),
            ("*;q=0", "br zstd gzip", "identity"),
        ] {
            assert_eq!(chosen(Some(lines), available), expected, "{lines:?} of {available}");
        }
    }

    #[test]
    fn without_a_wish_that_can_be_read_nothing_is_coded() {
        assert_eq!(chosen(None, "br zstd gzip"), "identity");
        for lines in [
            "",
            " ",
            ",",
            "br;q=1.001",
            "br;q=2",
            "br;q=",
            "br;q=0.1234",
            "br;q=.5",
            "br;q=-1",
            "br;q=1e3",
            "br;level=5",
            "br q=1",
            "br;q=1;q=1",
            "br gzip",
            "br/gzip",
            "\"br\"",
            ";q=1",
            "gzip, br;q",
            "br|gzip;q=x",
            "br;",
            "br;q =1",
        ] {
            assert_eq!(chosen(Some(lines), "br zstd gzip"), "identity", "{lines:?}");
        }
    }
}
