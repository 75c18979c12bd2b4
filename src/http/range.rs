//! Byte ranges (RFC 9110 section 14).

use super::request::{Fields, Known};

/// A part of a representation: never empty, and inside its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first byte.
    pub start: u64,
    /// How many.
    pub len: u64,
}

/// What a Range field asks of a representation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ranges {
    /// Nothing that we understand, or too much: send the whole.
    Ignore,
    /// Only parts that do not exist: 416.
    Unsatisfiable,
    /// These parts.
    Satisfiable(Spans),
}

/// Parts in the order in which they were asked for, neither overlapping nor touching. One part, the usual case, needs no
/// memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spans {
    /// One part.
    One(Span),
    /// At least two.
    Many(Vec<Span>),
}

/// What the request's Range asks; a repeated field is not one (RFC 9110 section 14.2) and is ignored. So are more than
/// `ranges_max` ranges: nobody needs so many, but attacks do (CVE-2011-3192 and its kin).
pub fn requested(fields: &Fields<'_>, length: u64, ranges_max: usize) -> Ranges {
    let mut values = fields.get_all(Known::Range);
    match (values.next(), values.next()) {
        (Some(value), None) => parse(value, length, ranges_max),
        _ => Ranges::Ignore,
    }
}

/// Reads the value of a Range field against the length of the representation.
pub fn parse(value: &[u8], length: u64, ranges_max: usize) -> Ranges {
    let Some(specs) = strip_unit(value) else { return Ranges::Ignore };
    let mut spans: Option<Spans> = None;
    let mut count = 0;
    // Empty list elements are allowed (RFC 9110 section 5.6.1.2); a list of nothing else is not a list.
    for spec in specs.split(|&byte| byte == b',').map(trim_ows).filter(|spec| !spec.is_empty()) {
        let Some(spec) = Spec::parse(spec) else { return Ranges::Ignore };
        count += 1;
        if count > ranges_max || spec.asks_the_end_of_nothing(length) {
            return Ranges::Ignore;
        }
        if let Some(span) = spec.resolve(length) {
            spans = Some(Spans::with(spans, span));
        }
    }
    match (spans, count) {
        (_, 0) => Ranges::Ignore,
        (None, _) => Ranges::Unsatisfiable,
        (Some(spans), _) => Ranges::Satisfiable(spans.merged()),
    }
}

/// One element of the list.
#[derive(Clone, Copy)]
enum Spec {
    /// `first-last`; an open end is the greatest number.
    Bounded { first: u64, last: u64 },
    /// `-length`: the end of the representation.
    Suffix(u64),
}

impl Spec {
    fn parse(text: &[u8]) -> Option<Spec> {
        let dash = text.iter().position(|&byte| byte == b'-')?;
        let (first, last) = (&text[..dash], &text[dash + 1..]);
        match (first, last) {
            (b"", _) => decimal(last).map(Spec::Suffix),
            (_, b"") => Some(Spec::Bounded { first: decimal(first)?, last: u64::MAX }),
            _ => {
                let (first, last) = (decimal(first)?, decimal(last)?);
                (first <= last).then_some(Spec::Bounded { first, last })
            }
        }
    }

    /// A suffix of an empty representation is satisfiable, but no Content-Range could say it: send the (empty) whole.
    fn asks_the_end_of_nothing(self, length: u64) -> bool {
        length == 0 && matches!(self, Spec::Suffix(1..))
    }

    /// The part of a representation of that length, if there is one.
    fn resolve(self, length: u64) -> Option<Span> {
        let (start, end) = match self {
            Spec::Bounded { first, last } => (first, last.saturating_add(1).min(length)),
            Spec::Suffix(suffix) => (length - suffix.min(length), length),
        };
        (start < end).then(|| Span { start, len: end - start })
    }
}

impl Spans {
    /// The parts, in order.
    pub fn as_slice(&self) -> &[Span] {
        match self {
            Spans::One(span) => std::slice::from_ref(span),
            Spans::Many(spans) => spans,
        }
    }

    fn with(spans: Option<Spans>, span: Span) -> Spans {
        match spans {
            None => Spans::One(span),
            Some(Spans::One(first)) => Spans::Many(vec![first, span]),
            Some(Spans::Many(mut spans)) => {
                spans.push(span);
                Spans::Many(spans)
            }
        }
    }

    /// With overlapping and adjacent parts joined, where the first of them stood (RFC 9110 section 15.3.7.2): a client
    /// that asked for the end first wants it first.
    fn merged(self) -> Spans {
        let Spans::Many(spans) = self else { return self };
        let mut ranked: Vec<(usize, Span)> = spans.into_iter().enumerate().collect();
        ranked.sort_unstable_by_key(|(_, span)| span.start);
        ranked.dedup_by(|(rank, next), (kept_rank, kept)| {
            // Both ends are at most the representation's length, so the sums fit.
            let joins = next.start <= kept.start + kept.len;
            if joins {
                kept.len = kept.len.max(next.start + next.len - kept.start);
                *kept_rank = (*kept_rank).min(*rank);
            }
            joins
        });
        ranked.sort_unstable_by_key(|(rank, _)| *rank);
        match ranked[..] {
            [(_, only)] => Spans::One(only),
            _ => Spans::Many(ranked.into_iter().map(|(_, span)| span).collect()),
        }
    }
}

fn strip_unit(value: &[u8]) -> Option<&[u8]> {
    let (unit, specs) = value.split_at_checked(b"bytes=".len())?;
    unit.eq_ignore_ascii_case(b"bytes=").then_some(specs)
}

/// `1*DIGIT`. A number beyond 64 bits is beyond any representation, and stays the greatest one.
fn decimal(text: &[u8]) -> Option<u64> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let push = |value: u64, digit: &u8| value.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    is_number.then(|| text.iter().fold(0, push))
}

fn trim_ows(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGES_MAX: usize = 200;

    /// The parts as `start+len`, or the word for none.
    fn shown(value: &str, length: u64) -> String {
        match parse(value.as_bytes(), length, RANGES_MAX) {
            Ranges::Ignore => "ignore".into(),
            Ranges::Unsatisfiable => "416".into(),
            Ranges::Satisfiable(spans) => {
                let parts: Vec<_> =
                    spans.as_slice().iter().map(|span| format!("{}+{}", span.start, span.len)).collect();
                parts.join(" ")
            }
        }
    }

    #[test]
    fn ranges_read_as_rfc_9110_section_14_says() {
        for (value, length, expected) in [
            ("bytes=0-0", 10, "0+1"),
            ("bytes=0-", 10, "0+10"),
            ("bytes=9-", 10, "9+1"),
            ("bytes=10-", 10, "416"),
            ("bytes=-1", 10, "9+1"),
            ("bytes=-10", 10, "0+10"),
            ("bytes=-11", 10, "0+10"),
            ("bytes=-0", 10, "416"),
            ("bytes=0-99", 10, "0+10"),
            ("Bytes=1-2", 10, "1+2"),
            ("bytes=2-1", 10, "ignore"),
            ("bytes=0-1,5-4", 10, "ignore"),
            ("bytes=", 10, "ignore"),
            ("bytes=,", 10, "ignore"),
            ("bytes=-", 10, "ignore"),
            ("bytes=a-b", 10, "ignore"),
            ("bytes=+1-2", 10, "ignore"),
            ("bytes=1 -2", 10, "ignore"),
            ("bytes = 1-2", 10, "ignore"),
            ("bytes=1-2-3", 10, "ignore"),
            ("bytes=--1", 10, "ignore"),
            ("lines=0-1", 10, "ignore"),
            ("0-1", 10, "ignore"),
            ("", 10, "ignore"),
        ] {
            assert_eq!(shown(value, length), expected, "{value:?} of {length}");
        }
    }

    #[test]
    fn several_parts_are_merged_and_keep_their_order() {
        for (value, expected) in [
            ("bytes=0-1,4-5", "0+2 4+2"),
            ("bytes=4-5,0-1", "4+2 0+2"),
            ("bytes=-1,0-0,4-4", "9+1 0+1 4+1"),
            // What is joined stands where the first of it stood.
            ("bytes=8-9,4-4,0-1,5-6", "8+2 4+3 0+2"),
            ("bytes=8-8,0-0,4-6,9-9,2-3", "8+2 0+1 2+5"),
            ("bytes=0-1 , ,\t3-3", "0+2 3+1"),
            ("bytes=0-4,3-6", "0+7"),
            ("bytes=0-1,2-3", "0+4"),
            ("bytes=0-8,2-3", "0+9"),
            ("bytes=0-0,0-0,0-0", "0+1"),
            ("bytes=0-,-5", "0+10"),
            ("bytes=0-1,99-", "0+2"),
            ("bytes=99-,98-", "416"),
        ] {
            assert_eq!(shown(value, 10), expected, "{value:?}");
        }
    }

    #[test]
    fn numbers_beyond_64_bits_neither_wrap_nor_panic() {
        for (value, length, expected) in [
            ("bytes=0-18446744073709551615", 10, "0+10"),
            ("bytes=0-99999999999999999999999999", 10, "0+10"),
            ("bytes=18446744073709551615-", 10, "416"),
            ("bytes=99999999999999999999999999-", u64::MAX, "416"),
            ("bytes=-99999999999999999999999999", 10, "0+10"),
            ("bytes=-9223372036854775808", 10, "0+10"),
            ("bytes=0-,1-", u64::MAX, "0+18446744073709551615"),
        ] {
            assert_eq!(shown(value, length), expected, "{value:?} of {length}");
        }
    }

    #[test]
    fn an_empty_representation_has_no_parts() {
        assert_eq!(shown("bytes=0-", 0), "416");
        assert_eq!(shown("bytes=-0", 0), "416");
        assert_eq!(shown("bytes=-5", 0), "ignore");
    }

    #[test]
    fn more_than_the_bound_is_ignored() {
        let list = |count: usize| {
            format!("bytes={}", (0..count).map(|n| format!("{}-{}", 2 * n, 2 * n)).collect::<Vec<_>>().join(","))
        };
        assert_eq!(shown(&list(RANGES_MAX), 1000).split(' ').count(), RANGES_MAX);
        assert_eq!(shown(&list(RANGES_MAX + 1), 1000), "ignore");
    }
}
