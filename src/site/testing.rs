//! What the tests of this layer share.

use super::reply::HeadContext;
use crate::http::head::parse;
use crate::http::limits::Limits;
use crate::http::request::{FieldSlots, Request, Version};

/// A time, as the clock of every test shows it.
pub(crate) const NOW_S: u64 = 1_795_259_446;
pub(crate) const DATE: &[u8; 29] = b"Sat, 21 Nov 2026 11:10:46 GMT";

/// A context that adds nothing to a head but its Date.
pub(crate) const CONTEXT: HeadContext<'static> =
    HeadContext { version: Version::Http11, is_head: false, keep_alive: true, date: DATE };

/// Parses a head and lends it to a test.
pub(crate) fn with_request<T>(head: &str, test: impl FnOnce(&Request<'_>) -> T) -> T {
    let mut slots = FieldSlots::new();
    match parse(&Limits::default(), head.as_bytes(), &mut slots) {
        Ok(Some((request, _))) => test(&request),
        other => panic!("{head:?} is not a request: {other:?}"),
    }
}
