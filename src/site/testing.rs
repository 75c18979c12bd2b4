//! What the tests of this layer share.

use super::reply::HeadContext;
use crate::http::request::{Fields, Framing, Known, Method, Request, Version};

/// A time, as the clock of every test shows it.
pub(crate) const NOW_S: u64 = 1_795_259_446;
pub(crate) const DATE: &[u8; 29] = b"Sat, 21 Nov 2026 11:10:46 GMT";

/// A context that adds nothing to a head but its Date.
pub(crate) const CONTEXT: HeadContext<'static> =
    HeadContext { version: Version::Http11, is_head: false, keep_alive: true, date: DATE };

/// Parses a head and lends it to a test.
pub(crate) fn with_request<T>(head: &str, test: impl FnOnce(&Request<'_>) -> T) -> T {
    let mut lines = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut lines);
    assert!(parsed.parse(head.as_bytes()).expect("a valid head").is_complete());
    let target = parsed.path.expect("a target");
    let rest = target.strip_prefix("http://").map_or(target, |rest| &rest[rest.find('/').expect("a path")..]);
    let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
    let fields = Fields::of(parsed.headers);
    test(&Request {
        method: Method::from_token(parsed.method.expect("a method").as_bytes()).expect("a known method"),
        target: target.as_bytes(),
        path: path.as_bytes(),
        query: query.map(str::as_bytes),
        host: fields.get(Known::Host).unwrap_or(b""),
        version: if parsed.version == Some(0) { Version::Http10 } else { Version::Http11 },
        fields,
        framing: Framing::None,
        expects_continue: false,
        keep_alive: true,
    })
}
