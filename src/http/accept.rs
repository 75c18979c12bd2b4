//! Which media types a client takes, and how much it wants each (RFC 9110 section 12.5.1).

use super::coding::parse_qvalue;
use super::request::{Fields, Known};
use super::scan::is_token_byte;

/// The highest weight, in thousandths.
const WEIGHT_MAX: u16 = 1000;

/// How closely a media range describes a type; of several that do, the closest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Closeness {
    /// `*/*`
    Any,
    /// `text/*`
    Kind,
    /// `text/html`
    Exact,
}

/// The weight of a media type (`text/html`, in lower case) in thousandths; 0 is "not at all". Without an Accept field
/// everything is as welcome as can be.
///
/// Parameters of a range do not count: a client that writes `application/json; charset=utf-8` means JSON. An element
/// that cannot be read says nothing; the others stand.
pub fn weight(fields: &Fields<'_>, media_type: &str) -> u16 {
    match closest(fields, media_type) {
        _ if !fields.has(Known::Accept) => WEIGHT_MAX,
        Some((_, weight)) => weight,
        None => 0,
    }
}

/// Whether a media type is asked for by its whole name.
pub fn names(fields: &Fields<'_>, media_type: &str) -> bool {
    matches!(closest(fields, media_type), Some((Closeness::Exact, 1..)))
}

fn closest(fields: &Fields<'_>, media_type: &str) -> Option<(Closeness, u16)> {
    let elements = fields.get_all(Known::Accept).flat_map(elements);
    let said = elements.filter_map(|element| {
        let (range, weight) = parse(element)?;
        Some((closeness(range, media_type)?, weight))
    });
    // Said twice, the higher weight holds: it is a wish, not a ban.
    said.max()
}

fn closeness(range: &[u8], media_type: &str) -> Option<Closeness> {
    let kind = media_type.split('/').next().unwrap_or_default();
    match range {
        b"*/*" => Some(Closeness::Any),
        _ if range.eq_ignore_ascii_case(media_type.as_bytes()) => Some(Closeness::Exact),
        [start @ .., b'/', b'*'] if start.eq_ignore_ascii_case(kind.as_bytes()) => Some(Closeness::Kind),
        _ => None,
    }
}

/// The elements of a list. A parameter may be a quoted string, and hold a comma.
fn elements(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let text = rest?;
        let (mut quoted, mut escaped) = (false, false);
        let end = text.iter().position(|&byte| {
            let escapes = quoted && !escaped && byte == b'\\';
            quoted ^= byte == b'"' && !escaped;
            escaped = escapes;
            byte == b',' && !quoted
        });
        rest = end.and_then(|end| text.get(end + 1..));
        Some(text[..end.unwrap_or(text.len())].trim_ascii())
    })
}

/// A media range without its parameters, and its weight.
fn parse(element: &[u8]) -> Option<(&[u8], u16)> {
    let mut parts = element.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
    let range = parts.next()?;
    let is_token = |part: &[u8]| !part.is_empty() && part.iter().all(|&byte| is_token_byte(byte));
    let slash = range.iter().position(|&byte| byte == b'/')?;
    if !is_token(&range[..slash]) || !is_token(&range[slash + 1..]) {
        return None;
    }
    let qvalue = parts.find_map(|part| part.strip_prefix(b"q=").or_else(|| part.strip_prefix(b"Q=")));
    Some((range, qvalue.map_or(Some(WEIGHT_MAX), parse_qvalue)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head;
    use crate::http::limits::Limits;
    use crate::http::request::FieldSlots;

    fn with_accept<T>(lines: &[&str], test: impl FnOnce(&Fields<'_>) -> T) -> T {
        let lines: String = lines.iter().map(|line| format!("Accept: {line}\r\n")).collect();
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        let mut slots = FieldSlots::new();
        let Ok(Some((request, _))) = head::parse(&Limits::default(), head.as_bytes(), &mut slots) else {
            panic!("{head:?} is no request")
        };
        test(&request.fields)
    }

    #[test]
    fn the_closest_range_decides() {
        // The weights of text/html and of application/json.
        let cases: [(&[&str], u16, u16); 20] = [
            (&[], 1000, 1000),
            (&["*/*"], 1000, 1000),
            (&["text/html"], 1000, 0),
            (&["TEXT/HTML"], 1000, 0),
            (&["text/*"], 1000, 0),
            (&["application/json"], 0, 1000),
            (&["application/json; charset=utf-8"], 0, 1000),
            (&["application/json;q=0.5, text/html;q=0.4"], 400, 500),
            (&["text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8"], 1000, 800),
            (&["*/*;q=0.1, application/json"], 100, 1000),
            (&["text/html;q=0, */*"], 0, 1000),
            (&["text/*;q=0.3", "text/html;q=0.7", "*/*;q=0.5"], 700, 500),
            (&["text/html;q=0.2, text/html;q=0.9"], 900, 0),
            (&["a/b;c=\"x,text/html;q=1\", application/json;q=0.001"], 0, 1),
            (&["a/b;c=\"\\\",text/html\", application/json"], 0, 1000),
            (&["text/html;q=2, application/json;q=0.1234, */*;q=0.6"], 600, 600),
            (&["html, */*/, /json, text/, ;q=1"], 0, 0),
            (&[""], 0, 0),
            (&["text/html ; level=1 ; Q=0.5"], 500, 0),
            (&["*/json, text*/html"], 0, 0),
        ];
        for (lines, html, json) in cases {
            let weights =
                with_accept(lines, |fields| (weight(fields, "text/html"), weight(fields, "application/json")));
            assert_eq!(weights, (html, json), "{lines:?}");
        }
    }

    #[test]
    fn a_type_is_named_or_only_not_refused() {
        for (lines, expected) in [
            (&[][..], false),
            (&["*/*"], false),
            (&["text/*"], false),
            (&["text/html;q=0"], false),
            (&["text/html;q=0.1"], true),
            (&["image/png, text/html, */*"], true),
        ] {
            assert_eq!(with_accept(lines, |fields| names(fields, "text/html")), expected, "{lines:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[ -~]{0,40}") {
            with_accept(&[&text], |fields| (weight(fields, "text/html"), names(fields, "text/html")));
        }
    }
}
