//! Conditional requests (RFC 9110 section 13). Times are whole seconds since 1970.

use super::date;
use super::request::{Fields, Known, Method};

/// What the preconditions of a request say about the current representation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// They hold, or there are none.
    Proceed,
    /// The client has it already: 304.
    NotModified,
    /// They do not hold: 412.
    PreconditionFailed,
}

/// Evaluates the preconditions in the order of RFC 9110 section 13.2.2, for a resource that exists: `etag` is its
/// strong entity tag with the quotes, `mtime` its Last-Modified. A date that is not one, or comes twice, is as if it
/// were not there.
pub fn evaluate(fields: &Fields<'_>, method: Method, etag: &[u8], mtime: u64) -> Precondition {
    let reads = matches!(method, Method::Get | Method::Head);
    if fields.has(Known::IfMatch) {
        if !names_tag(fields, Known::IfMatch, |tag| tag.matches_strongly(etag)) {
            return Precondition::PreconditionFailed;
        }
    } else if single_date(fields, Known::IfUnmodifiedSince).is_some_and(|date| mtime > date) {
        return Precondition::PreconditionFailed;
    }
    if fields.has(Known::IfNoneMatch) {
        return match names_tag(fields, Known::IfNoneMatch, |tag| tag.opaque == etag) {
            false => Precondition::Proceed,
            true if reads => Precondition::NotModified,
            true => Precondition::PreconditionFailed,
        };
    }
    match single_date(fields, Known::IfModifiedSince) {
        Some(date) if reads && mtime <= date => Precondition::NotModified,
        _ => Precondition::Proceed,
    }
}

/// As [`evaluate`], for what has a weak tag (`opaque` is the tag without its `W/`) and no Last-Modified: no tag of If-Match
/// matches a weak one, and dates say nothing (sections 13.1.1, 13.1.3 and 13.1.4).
pub fn evaluate_weak(fields: &Fields<'_>, opaque: &[u8]) -> Precondition {
    if fields.has(Known::IfMatch) && !names_tag(fields, Known::IfMatch, |_| false) {
        return Precondition::PreconditionFailed;
    }
    match fields.has(Known::IfNoneMatch) && names_tag(fields, Known::IfNoneMatch, |tag| tag.opaque == opaque) {
        true => Precondition::NotModified,
        false => Precondition::Proceed,
    }
}

/// Whether Range may be honoured (RFC 9110 section 13.1.5): there is no If-Range, or it names exactly this
/// representation. A tag must be strong. So must a date, and one is only if the file cannot have changed again within
/// its second: `now` is later.
pub fn if_range_holds(fields: &Fields<'_>, etag: &[u8], mtime: u64, now: u64) -> bool {
    let mut values = fields.get_all(Known::IfRange);
    match (values.next(), values.next()) {
        (None, _) => true,
        (Some(value), None) => match Tag::split_first(value) {
            Some((tag, b"")) => tag.matches_strongly(etag),
            Some(_) => false,
            None => date::parse(value) == Some(mtime) && mtime < now,
        },
        (Some(_), Some(_)) => false,
    }
}

/// An entity tag in a field; `opaque` has its quotes.
#[derive(Clone, Copy)]
struct Tag<'b> {
    is_weak: bool,
    opaque: &'b [u8],
}

impl<'b> Tag<'b> {
    fn matches_strongly(self, etag: &[u8]) -> bool {
        !self.is_weak && self.opaque == etag
    }

    /// The tag that `text` starts with, and what follows it. A tag may hold commas, so a list cannot be split first.
    fn split_first(text: &'b [u8]) -> Option<(Tag<'b>, &'b [u8])> {
        let (is_weak, quoted) = match text {
            [b'W', b'/', quoted @ ..] => (true, quoted),
            _ => (false, text),
        };
        let [b'"', inside @ ..] = quoted else { return None };
        let end = inside.iter().position(|&byte| !is_etag_byte(byte))?;
        let (opaque, rest) = quoted.split_at_checked(end + 2)?;
        opaque.ends_with(b"\"").then_some((Tag { is_weak, opaque }, rest))
    }
}

/// etagc (RFC 9110 section 8.8.3).
fn is_etag_byte(byte: u8) -> bool {
    byte == b'!' || (b'#'..=b'~').contains(&byte) || byte >= 0x80
}

/// Whether one of the tags in all lines of that name is wanted, or the only value is `*`. What follows a malformed
/// element of a line names nothing.
fn names_tag(fields: &Fields<'_>, known: Known, is_wanted: impl Fn(Tag<'_>) -> bool) -> bool {
    let mut values = fields.get_all(known);
    if let (Some(b"*"), None) = (values.next(), values.next()) {
        return true;
    }
    fields.get_all(known).any(|line| tags(line).any(&is_wanted))
}

fn tags(line: &[u8]) -> impl Iterator<Item = Tag<'_>> {
    let mut rest = line;
    std::iter::from_fn(move || {
        while let [b' ' | b'\t' | b',', after @ ..] = rest {
            rest = after;
        }
        let (tag, after) = Tag::split_first(rest)?;
        rest = after;
        // Only a comma may follow, or the tag is not what it seems.
        let next = after.iter().find(|&&byte| byte != b' ' && byte != b'\t');
        next.is_none_or(|&byte| byte == b',').then_some(tag)
    })
}

fn single_date(fields: &Fields<'_>, known: Known) -> Option<u64> {
    let mut values = fields.get_all(known);
    match (values.next(), values.next()) {
        (Some(value), None) => date::parse(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head;
    use crate::http::limits::Limits;
    use crate::http::request::FieldSlots;

    const MTIME: u64 = 784_111_777;
    const AT: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn with_fields<T>(lines: &str, ask: impl Fn(&Fields<'_>) -> T) -> T {
        let lines = lines.replace("AT", AT).replace("BEFORE", BEFORE).replace("AFTER", AFTER);
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", lines.replace('|', "\r\n"));
        let mut slots = FieldSlots::new();
        match head::parse(&Limits::default(), head.as_bytes(), &mut slots) {
            Ok(Some((request, _))) => ask(&request.fields),
            other => panic!("{other:?}"),
        }
    }

    /// For GET and for PUT; `|` ends a line.
    fn outcomes(lines: &str) -> (Precondition, Precondition) {
        with_fields(lines, |fields| {
            (evaluate(fields, Method::Get, b"\"x\"", MTIME), evaluate(fields, Method::Put, b"\"x\"", MTIME))
        })
    }

    #[test]
    fn preconditions_by_rfc_9110_section_13() {
        use Precondition::{NotModified, PreconditionFailed as Failed, Proceed};
        for (lines, get, put) in [
            ("", Proceed, Proceed),
            ("If-Match: \"x\"|", Proceed, Proceed),
            ("If-Match: \"y\", \"x\"|", Proceed, Proceed),
            ("If-Match: \"y\"|If-Match: \"x\"|", Proceed, Proceed),
            ("If-Match: *|", Proceed, Proceed),
            ("If-Match: \"y\"|", Failed, Failed),
            ("If-Match: W/\"x\"|", Failed, Failed),
            ("If-Match: x|", Failed, Failed),
            ("If-Match:|", Failed, Failed),
            ("If-Match: \"y\"\"x\"|", Failed, Failed),
            ("If-Match: \"y,\"x\",\"|", Failed, Failed),
            ("If-None-Match: \"x\"|", NotModified, Failed),
            ("If-None-Match: W/\"x\"|", NotModified, Failed),
            ("If-None-Match: \"y\" ,,\t\"x\"|", NotModified, Failed),
            ("If-None-Match: \"a,b\",\"x\"|", NotModified, Failed),
            ("If-None-Match: \"y\"|If-None-Match: \"x\"|", NotModified, Failed),
            ("If-None-Match: *|", NotModified, Failed),
            ("If-None-Match: \"y\"|", Proceed, Proceed),
            ("If-None-Match: \"a,\"|", Proceed, Proceed),
            ("If-None-Match: *, \"x\"|", Proceed, Proceed),
            ("If-None-Match: \"x|", Proceed, Proceed),
            ("If-Modified-Since: AT|", NotModified, Proceed),
            ("If-Modified-Since: AFTER|", NotModified, Proceed),
            ("If-Modified-Since: BEFORE|", Proceed, Proceed),
            ("If-Modified-Since: yesterday|", Proceed, Proceed),
            ("If-Modified-Since: AT|If-Modified-Since: AT|", Proceed, Proceed),
            ("If-Unmodified-Since: AT|", Proceed, Proceed),
            ("If-Unmodified-Since: BEFORE|", Failed, Failed),
            ("If-Unmodified-Since: now|", Proceed, Proceed),
            // The one that compares tags beats the one that compares dates.
            ("If-None-Match: \"y\"|If-Modified-Since: AT|", Proceed, Proceed),
            ("If-None-Match: \"x\"|If-Modified-Since: BEFORE|", NotModified, Failed),
            ("If-Match: \"x\"|If-Unmodified-Since: BEFORE|", Proceed, Proceed),
            ("If-Match: \"x\"|If-None-Match: \"x\"|", NotModified, Failed),
            ("If-Match: \"y\"|If-None-Match: \"x\"|", Failed, Failed),
            ("If-Unmodified-Since: BEFORE|If-Modified-Since: AT|", Failed, Failed),
        ] {
            assert_eq!(outcomes(lines), (get, put), "{lines:?}");
        }
    }

    #[test]
    fn if_range_compares_strongly() {
        for (lines, expected) in [
            ("", true),
            ("If-Range: \"x\"|", true),
            ("If-Range: W/\"x\"|", false),
            ("If-Range: \"y\"|", false),
            ("If-Range: \"x\", \"y\"|", false),
            ("If-Range: \"x\"|If-Range: \"x\"|", false),
            ("If-Range: AT|", true),
            ("If-Range: AFTER|", false),
            ("If-Range: BEFORE|", false),
            ("If-Range: x|", false),
        ] {
            assert_eq!(
                with_fields(lines, |fields| if_range_holds(fields, b"\"x\"", MTIME, MTIME + 1)),
                expected,
                "{lines:?}"
            );
        }
        let within_its_second = with_fields("If-Range: AT|", |fields| if_range_holds(fields, b"\"x\"", MTIME, MTIME));
        assert!(!within_its_second);
    }
}
