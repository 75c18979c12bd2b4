//! The request target and the authority (RFC 9112 section 3.2, RFC 3986 section 3.2).

use super::refusal::Fault;
use super::request::Method;

/// A request target, taken apart; nothing is decoded.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target<'b> {
    /// Starts with `/`, or is `*`.
    pub(super) path: &'b [u8],
    pub(super) query: Option<&'b [u8]>,
    /// The authority of an absolute form: it overrides the Host field.
    pub(super) authority: Option<&'b [u8]>,
}

/// The target's form decides what it may be: origin, absolute (http and https) or, for OPTIONS, `*`.
pub(super) fn parse(method: Method, target: &[u8]) -> Result<Target<'_>, Fault> {
    match target {
        [b'/', ..] => {
            let (path, query) = split_query(target);
            Ok(Target { path, query, authority: None })
        }
        b"*" if method == Method::Options => Ok(Target { path: target, query: None, authority: None }),
        _ => parse_absolute(method, strip_scheme(target).ok_or(Fault::TargetForm)?),
    }
}

fn parse_absolute(method: Method, after_scheme: &[u8]) -> Result<Target<'_>, Fault> {
    let end = after_scheme.iter().position(|&byte| byte == b'/' || byte == b'?').unwrap_or(after_scheme.len());
    let (authority, rest) = after_scheme.split_at(end);
    if !is_authority(authority) {
        return Err(Fault::Authority);
    }
    let (path, query) = split_query(rest);
    let path = match (path, method, query) {
        // An OPTIONS for a whole server reaches the last proxy in this form (RFC 9112 section 3.2.4).
        (b"", Method::Options, None) => b"*",
        (b"", ..) => b"/",
        _ => path,
    };
    Ok(Target { path, query, authority: Some(authority) })
}

fn strip_scheme(target: &[u8]) -> Option<&[u8]> {
    [b"http://".as_slice(), b"https://"].into_iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}

fn split_query(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    match target.iter().position(|&byte| byte == b'?') {
        Some(mark) => (&target[..mark], Some(&target[mark + 1..])),
        None => (target, None),
    }
}

/// `uri-host [ ":" port ]` with a host that is not empty. User information is not part of it (RFC 9110 section 4.2.4).
pub(super) fn is_authority(text: &[u8]) -> bool {
    let (host_is_good, port) = match text {
        [b'[', rest @ ..] => match rest.iter().position(|&byte| byte == b']') {
            Some(end) => (is_ip_literal(&rest[..end]), &rest[end + 1..]),
            None => return false,
        },
        _ => {
            let end = text.iter().position(|&byte| byte == b':').unwrap_or(text.len());
            (is_reg_name(&text[..end]), &text[end..])
        }
    };
    host_is_good && is_port(port)
}

/// What follows the host: nothing, or a colon and a port; the digits may be missing (RFC 3986 section 3.2.3).
fn is_port(text: &[u8]) -> bool {
    match text {
        [] => true,
        [b':', digits @ ..] => {
            let value = digits.iter().try_fold(0u32, |value, &byte| {
                let digit = byte.is_ascii_digit().then(|| u32::from(byte - b'0'))?;
                Some(value * 10 + digit).filter(|&value| value <= 65_535)
            });
            value.is_some()
        }
        _ => false,
    }
}

/// What stands in brackets: an IPv6 address, or a future form that is only held to its alphabet.
fn is_ip_literal(text: &[u8]) -> bool {
    match text {
        [b'v' | b'V', rest @ ..] => !rest.is_empty() && rest.iter().all(|&byte| is_reg_name_byte(byte) || byte == b':'),
        _ => str::from_utf8(text).is_ok_and(|text| text.parse::<core::net::Ipv6Addr>().is_ok()),
    }
}

/// reg-name, which IPv4 addresses are too (RFC 3986 section 3.2.2), but never empty.
fn is_reg_name(text: &[u8]) -> bool {
    // Nearly every host: a name or an IPv4 address, without escapes.
    if !text.is_empty() && text.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-')) {
        return true;
    }
    let mut rest = text;
    loop {
        rest = match rest {
            [] => return !text.is_empty(),
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => rest,
            [byte, rest @ ..] if is_reg_name_byte(*byte) => rest,
            _ => return false,
        };
    }
}

/// unreserved and sub-delims.
fn is_reg_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_follow_rfc_3986() {
        for good in ["a", "a:80", "a:", "127.0.0.1:8080", "[::1]", "[::1]:80", "[v1.a:b]", "a%41", "x_y", "a:65535"] {
            assert!(is_authority(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            ":80",
            "a b",
            "a:b",
            "a:80:80",
            "u@a",
            "[::1",
            "::1",
            "[]",
            "[::1]x",
            "a/b",
            "a%4",
            "a%zz",
            "a:65536",
            "a,b c",
            "a\\b",
            "[v]",
            "a:99999999999999999999",
        ] {
            assert!(!is_authority(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn each_form_is_taken_apart() {
        let parts = |method, text: &'static str| parse(method, text.as_bytes()).map(|t| (t.path, t.query, t.authority));
        assert_eq!(parts(Method::Get, "/a?b?c"), Ok((&b"/a"[..], Some(&b"b?c"[..]), None)));
        assert_eq!(parts(Method::Get, "/a?"), Ok((&b"/a"[..], Some(&b""[..]), None)));
        assert_eq!(parts(Method::Get, "HTTP://h:1/a"), Ok((&b"/a"[..], None, Some(&b"h:1"[..]))));
        assert_eq!(parts(Method::Get, "https://h?q"), Ok((&b"/"[..], Some(&b"q"[..]), Some(&b"h"[..]))));
        assert_eq!(parts(Method::Options, "http://h"), Ok((&b"*"[..], None, Some(&b"h"[..]))));
        assert_eq!(parts(Method::Options, "*"), Ok((&b"*"[..], None, None)));
        for bad in ["*", "a", "ftp://h/", "http:/h", "h:80", "*a", "http:///a", "http://u@h/"] {
            assert!(parse(Method::Get, bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
