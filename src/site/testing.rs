//! What the tests of this layer share.

use super::reply::{HeadContext, Vary};
use crate::http::head::parse;
use crate::http::limits::Limits;
use crate::http::request::{FieldSlots, Request, Version};

/// A time, as the clock of every test shows it.
pub(crate) const NOW_S: u64 = 1_795_259_446;
pub(crate) const DATE: &[u8; 29] = b"Sat, 21 Nov 2026 11:10:46 GMT";

/// A context that adds nothing to a head but its Date.
pub(crate) const CONTEXT: HeadContext<'static> = HeadContext {
    version: Version::Http11,
    is_head: false,
    keep_alive: true,
    date: DATE,
    place: None,
    vary: Vary::Nothing,
    challenge: None,
};

/// Parses a head and lends it to a test.
pub(crate) fn with_request<T>(head: &str, test: impl FnOnce(&Request<'_>) -> T) -> T {
    try_request(head, test).unwrap_or_else(|| panic!("{head:?} is not a request"))
}

/// The same, of a head that may not be one.
pub(crate) fn try_request<T>(head: &str, test: impl FnOnce(&Request<'_>) -> T) -> Option<T> {
    let mut slots = FieldSlots::new();
    let (request, _) = parse(&Limits::default(), head.as_bytes(), &mut slots).ok()??;
    Some(test(&request))
}
