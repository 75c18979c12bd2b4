//! HTTP/1.1, as bytes and meaning (RFC 9110, RFC 9112). Pure: no I/O, no clock, no descriptors.
//!
//! - Requests: [`conn`] (whose turn it is, and until when), [`head`] (one head), [`request`] (what it says), [`body`]
//!   (framing and chunks), [`path`], [`range`], [`conditional`], [`accept`] (types), [`coding`].
//! - Proxies: [`trust`] (whose word is taken), [`forwarded`] (what they say of a request), [`proxy_protocol`] (of a connection).
//! - Responses: [`response`] (the bytes of a head), [`multipart`] (several ranges in one body), [`status`], [`date`].
//!
//! Time is an argument ([`Millis`]), bytes are slices that the caller keeps, and every bound is in [`limits`].
#![forbid(unsafe_code)]

pub mod accept;
pub mod body;
mod chunked;
pub mod coding;
pub mod conditional;
pub mod conn;
pub mod date;
pub mod forwarded;
#[doc(hidden)]
pub mod fuzzing;
pub mod head;
pub mod limits;
pub mod multipart;
mod pace;
pub mod path;
pub mod proxy_protocol;
pub mod range;
mod refusal;
pub mod request;
pub mod response;
mod scan;
pub mod status;
mod target;
pub mod trust;

/// A moment, in milliseconds since an epoch that the caller chose (the runtime's start). Only differences mean
/// anything.
pub type Millis = u64;
