//! What to answer, as a value: the seam between policy and whatever moves bytes.

use std::borrow::Cow;

use super::headers::{DEFAULT_LINES, Place};
use super::listing::{Format, ListingFacts};
use super::page;
use super::static_file::FileFacts;
use crate::http::coding::Coding;
use crate::http::multipart::Multipart;
use crate::http::range::Span;
use crate::http::request::Version;
use crate::http::response::{
    self, BodyFraming, write_content_range, write_content_range_unsatisfied, write_field, write_framing, write_number,
    write_status,
};
use crate::http::status::Status;

/// An answer. Only redirects and answers in several parts own memory.
#[derive(Debug)]
pub struct Reply<'f>(Kind<'f>);

/// Each kind has exactly what its head and body are made of.
#[derive(Debug)]
enum Kind<'f> {
    /// 200 with the file.
    Whole(&'f FileFacts),
    /// 206 with a part of it.
    Part(&'f FileFacts, Span),
    /// 206 with several parts of it.
    Parts(&'f FileFacts, Box<Multipart>),
    /// 304.
    NotModified(&'f FileFacts),
    /// 412 about this representation.
    PreconditionFailed(&'f FileFacts),
    /// 416, with the length that the range missed.
    Unsatisfiable(&'f FileFacts),
    /// 204 to OPTIONS.
    Options(Allow),
    /// 405.
    MethodNotAllowed(Allow),
    /// 301 to a path and query of this host.
    Moved(Vec<u8>),
    /// 200 with the listing of a folder.
    Listing(&'f ListingFacts),
    /// 304 about it.
    ListingNotModified(&'f ListingFacts),
    /// An error with a page of the site's own; without, with the built-in one.
    Failed(Failure, Option<&'f FileFacts>),
    /// 401, by the location of that number.
    Unauthorized(usize),
    /// Any other error, perhaps with the seconds after which it is worth another try.
    Error(Status, Option<u32>),
}

/// All that an error reply says, apart from its page: what has to be kept while a page of the site's own is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    status: Status,
    allow: Option<Allow>,
    retry_after_s: Option<u32>,
    /// The length that a range missed.
    missed_len: Option<u64>,
    varies: bool,
    /// The location that asks for a password.
    challenge: Option<usize>,
}

/// The methods of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allow {
    /// A file is only read.
    File,
    /// A script gets every method that has a body or an answer.
    Script,
}

/// The body of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'r> {
    /// Nothing follows the head.
    Empty,
    /// These bytes.
    Bytes(&'r [u8]),
    /// That part of the file that the facts are about.
    File(Span),
    /// Several parts of it.
    Parts(&'r Multipart),
}

/// What a head depends on besides the reply.
#[derive(Clone, Copy, Debug)]
pub struct HeadContext<'c> {
    /// The version of the request.
    pub version: Version,
    /// The request was a HEAD: same head, no body.
    pub is_head: bool,
    /// The connection stays open after the reply.
    pub keep_alive: bool,
    /// The time, as an IMF-fixdate.
    pub date: &'c [u8; 29],
    /// Where it was asked, if the rules of a site apply there.
    pub place: Option<Place<'c>>,
    /// What else of the request decided that this is the reply.
    pub vary: Vary,
    /// What a 401 says ([`super::Site::challenge`]).
    pub challenge: Option<&'c [u8]>,
}

/// On which fields of a request its reply depends, besides those that choose a representation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vary {
    /// On none.
    Nothing,
    /// On those that tell whether somebody goes to a page.
    Navigation,
}

impl HeadContext<'_> {
    fn lines(&self) -> Cow<'static, [u8]> {
        self.place.map_or(Cow::Borrowed(DEFAULT_LINES), |place| place.lines())
    }
}

impl<'f> Reply<'f> {
    /// An error, with its page as the body.
    pub fn error(status: Status) -> Reply<'f> {
        Reply(Kind::Error(status, None))
    }

    /// 503: too much is going on; the client may try again in so many seconds.
    pub fn unavailable(retry_after_s: u32) -> Reply<'f> {
        Reply(Kind::Error(Status::SERVICE_UNAVAILABLE, Some(retry_after_s)))
    }

    /// 401: the location of that number asks for a password.
    pub fn unauthorized(location: usize) -> Reply<'f> {
        Reply(Kind::Unauthorized(location))
    }

    /// 405.
    pub fn method_not_allowed(allow: Allow) -> Reply<'f> {
        Reply(Kind::MethodNotAllowed(allow))
    }

    /// The answer to OPTIONS: 204 with what is allowed.
    pub fn options(allow: Allow) -> Reply<'f> {
        Reply(Kind::Options(allow))
    }

    /// 200 with the whole file.
    pub fn whole(facts: &'f FileFacts) -> Reply<'f> {
        Reply(Kind::Whole(facts))
    }

    pub(super) fn part(facts: &'f FileFacts, span: Span) -> Reply<'f> {
        Reply(Kind::Part(facts, span))
    }

    pub(super) fn parts(facts: &'f FileFacts, parts: Multipart) -> Reply<'f> {
        Reply(Kind::Parts(facts, Box::new(parts)))
    }

    pub(super) fn not_modified(facts: &'f FileFacts) -> Reply<'f> {
        Reply(Kind::NotModified(facts))
    }

    pub(super) fn precondition_failed(facts: &'f FileFacts) -> Reply<'f> {
        Reply(Kind::PreconditionFailed(facts))
    }

    pub(super) fn unsatisfiable(facts: &'f FileFacts) -> Reply<'f> {
        Reply(Kind::Unsatisfiable(facts))
    }

    pub(super) fn listing(facts: &'f ListingFacts) -> Reply<'f> {
        Reply(Kind::Listing(facts))
    }

    pub(super) fn listing_not_modified(facts: &'f ListingFacts) -> Reply<'f> {
        Reply(Kind::ListingNotModified(facts))
    }

    /// An error, with that page if there is one: a file that is sent with this status.
    pub fn failed(failure: Failure, page: Option<&'f FileFacts>) -> Reply<'f> {
        Reply(Kind::Failed(failure, page))
    }

    /// What this says, if it is an error with the built-in page: another can take the place of that.
    pub fn failure(&self) -> Option<Failure> {
        let failure = Failure::new(self.status());
        match &self.0 {
            Kind::PreconditionFailed(facts) => Some(Failure { varies: facts.varies, ..failure }),
            Kind::Unsatisfiable(facts) => {
                Some(Failure { missed_len: Some(facts.len), varies: facts.varies, ..failure })
            }
            Kind::MethodNotAllowed(allow) => Some(Failure { allow: Some(*allow), ..failure }),
            Kind::Unauthorized(location) => Some(Failure { challenge: Some(*location), ..failure }),
            Kind::Error(_, retry_after_s) => Some(Failure { retry_after_s: *retry_after_s, ..failure }),
            Kind::Failed(failure, None) => Some(*failure),
            _ => None,
        }
    }

    /// 301 to another path: relative to the root and decoded.
    pub(super) fn moved(path: &[u8], query: Option<&[u8]>) -> Reply<'f> {
        let mut location = Vec::with_capacity(path.len() + 1 + query.map_or(0, |query| query.len() + 1));
        location.push(b'/');
        write_encoded(path, is_plain_in_path, &mut location);
        if let Some(query) = query {
            location.push(b'?');
            write_encoded(query, |byte| byte.is_ascii_graphic(), &mut location);
        }
        Reply(Kind::Moved(location))
    }

    /// Whether it is a plain 200 with the whole file, whose head can be prebuilt ([`whole_file_head`]).
    pub fn is_whole(&self) -> bool {
        matches!(self.0, Kind::Whole(_))
    }

    /// Which representation the body is, or is a part of.
    pub fn coding(&self) -> Option<Coding> {
        match &self.0 {
            Kind::Whole(facts) | Kind::Part(facts, _) | Kind::Parts(facts, _) => facts.coding,
            _ => None,
        }
    }

    /// The status.
    pub fn status(&self) -> Status {
        match &self.0 {
            Kind::Whole(_) => Status::OK,
            Kind::Part(..) | Kind::Parts(..) => Status::PARTIAL_CONTENT,
            Kind::NotModified(_) => Status::NOT_MODIFIED,
            Kind::PreconditionFailed(_) => Status::PRECONDITION_FAILED,
            Kind::Unsatisfiable(_) => Status::RANGE_NOT_SATISFIABLE,
            Kind::Options(_) => Status::NO_CONTENT,
            Kind::MethodNotAllowed(_) => Status::METHOD_NOT_ALLOWED,
            Kind::Unauthorized(_) => Status::UNAUTHORIZED,
            Kind::Moved(_) => Status::MOVED_PERMANENTLY,
            Kind::Listing(_) => Status::OK,
            Kind::ListingNotModified(_) => Status::NOT_MODIFIED,
            Kind::Failed(failure, _) => failure.status,
            Kind::Error(status, _) => *status,
        }
    }

    /// What follows the head.
    pub fn body(&self, context: &HeadContext<'_>) -> Body<'_> {
        if context.is_head { Body::Empty } else { self.content() }
    }

    /// The value of Content-Length, which a HEAD is told too; nothing where the status has no body.
    pub fn content_length(&self) -> Option<u64> {
        match self.content() {
            _ if self.status().is_bodyless() => None,
            Body::Empty => Some(0),
            Body::Bytes(bytes) => Some(bytes.len() as u64),
            Body::File(span) => Some(span.len),
            Body::Parts(parts) => Some(parts.content_length()),
        }
    }

    /// Appends the head, to its blank line.
    pub fn write_head(&self, out: &mut Vec<u8>, context: &HeadContext<'_>) {
        match &self.0 {
            Kind::Whole(facts) => whole_file_head(facts, out),
            Kind::Part(facts, span) => {
                write_start(Status::PARTIAL_CONTENT, facts.lines.everywhere(), out);
                write_content(facts, out);
                write_framing(out, BodyFraming::Length(span.len));
                write_content_range(out, *span, facts.len);
                write_validators(facts, out);
            }
            // The type and the coding are those of the parts, and stand with them.
            Kind::Parts(facts, parts) => {
                write_start(Status::PARTIAL_CONTENT, facts.lines.everywhere(), out);
                parts.write_content_type(out);
                write_framing(out, BodyFraming::Length(parts.content_length()));
                write_validators(facts, out);
            }
            // RFC 9110 section 15.4.5: what a 200 would have said about caching, and nothing about the content.
            Kind::NotModified(facts) => {
                write_start(Status::NOT_MODIFIED, facts.lines.everywhere(), out);
                write_field(out, "ETag", facts.etag.as_bytes());
                write_caching(facts, out);
            }
            Kind::PreconditionFailed(facts) => {
                self.write_page_start(facts.lines.everywhere(), out);
                write_vary(facts, out);
            }
            Kind::Unsatisfiable(facts) => {
                self.write_page_start(facts.lines.everywhere(), out);
                write_content_range_unsatisfied(out, facts.len);
                write_vary(facts, out);
            }
            Kind::Options(allow) => {
                write_start(Status::NO_CONTENT, &context.lines(), out);
                write_field(out, "Allow", allow.as_bytes());
            }
            Kind::MethodNotAllowed(allow) => {
                self.write_page_start(&context.lines(), out);
                write_field(out, "Allow", allow.as_bytes());
            }
            Kind::Moved(location) => {
                self.write_page_start(&context.lines(), out);
                write_field(out, "Location", location);
            }
            Kind::Listing(facts) => {
                write_start(Status::OK, &context.lines(), out);
                write_field(out, "Content-Type", facts.format.content_type().as_bytes());
                write_framing(out, BodyFraming::Length(facts.len));
                write_listing_validators(facts, out);
                if facts.format == Format::Html {
                    write_field(out, "Content-Security-Policy", LISTING_POLICY.as_bytes());
                }
            }
            Kind::ListingNotModified(facts) => {
                write_start(Status::NOT_MODIFIED, &context.lines(), out);
                write_listing_validators(facts, out);
            }
            Kind::Failed(failure, page) => {
                match page {
                    None => self.write_page_start(&context.lines(), out),
                    Some(facts) => {
                        write_start(failure.status, &context.lines(), out);
                        write_field(out, "Content-Type", facts.content_type.as_bytes());
                        write_framing(out, BodyFraming::Length(facts.len));
                        // A page about a failure is not worth keeping, and its validators would be those of another
                        // resource.
                        write_field(out, "Cache-Control", b"no-store");
                    }
                }
                failure.write_fields(out);
                if failure.challenge.is_some() {
                    write_challenge(context, out);
                }
            }
            Kind::Unauthorized(_) => {
                self.write_page_start(&context.lines(), out);
                write_challenge(context, out);
            }
            Kind::Error(_, retry_after_s) => {
                self.write_page_start(&context.lines(), out);
                if let Some(seconds) = retry_after_s {
                    write_number(out, "Retry-After", u64::from(*seconds));
                }
            }
        }
        write_end(out, context);
    }

    fn content(&self) -> Body<'_> {
        match &self.0 {
            Kind::Whole(facts) => Body::File(Span { start: 0, len: facts.len }),
            Kind::Part(_, span) => Body::File(*span),
            Kind::Parts(_, parts) => Body::Parts(parts),
            Kind::Listing(facts) => Body::File(Span { start: 0, len: facts.len }),
            Kind::Failed(_, Some(facts)) => Body::File(Span { start: 0, len: facts.len }),
            Kind::NotModified(_) | Kind::ListingNotModified(_) | Kind::Options(_) => Body::Empty,
            _ => match page::page(self.status()) {
                b"" => Body::Empty,
                page => Body::Bytes(page),
            },
        }
    }

    fn write_page_start(&self, lines: &[u8], out: &mut Vec<u8>) {
        write_start(self.status(), lines, out);
        if let Body::Bytes(_) = self.content() {
            write_field(out, "Content-Type", b"text/html; charset=utf-8");
        }
        if let Some(length) = self.content_length() {
            write_framing(out, BodyFraming::Length(length));
        }
    }
}

/// The part of a 200's head that depends on the file alone: all but Date, Connection and the blank line. A cache keeps
/// it per file; [`write_end`] completes it to what [`Reply::write_head`] writes.
pub fn whole_file_head(facts: &FileFacts, out: &mut Vec<u8>) {
    write_start(Status::OK, facts.lines.everywhere(), out);
    write_content(facts, out);
    write_framing(out, BodyFraming::Length(facts.len));
    write_validators(facts, out);
}

/// Appends what ends every head: Date, what becomes of the connection, the blank line.
pub fn write_end(out: &mut Vec<u8>, context: &HeadContext<'_>) {
    if context.vary == Vary::Navigation {
        write_field(out, "Vary", b"Accept, Sec-Fetch-Mode");
    }
    response::write_date(out, context.date);
    response::write_connection(out, context.version, context.keep_alive);
    response::write_end(out);
}

/// Appends the status line and the fields that no reply of this server's own is without.
fn write_start(status: Status, lines: &[u8], out: &mut Vec<u8>) {
    write_status(out, status);
    out.extend_from_slice(b"Server: ucaffeine\r\n");
    out.extend_from_slice(lines);
}

/// Appends what a representation is, whole or in part.
pub(super) fn write_content(facts: &FileFacts, out: &mut Vec<u8>) {
    write_field(out, "Content-Type", facts.content_type.as_bytes());
    if let Some(coding) = facts.coding {
        write_field(out, "Content-Encoding", coding.token().as_bytes());
    }
}

fn write_validators(facts: &FileFacts, out: &mut Vec<u8>) {
    write_field(out, "Last-Modified", &facts.last_modified);
    write_field(out, "ETag", facts.etag.as_bytes());
    write_field(out, "Accept-Ranges", b"bytes");
    write_caching(facts, out);
}

/// What a 304 repeats of a 200.
fn write_caching(facts: &FileFacts, out: &mut Vec<u8>) {
    out.extend_from_slice(facts.lines.caching());
    write_vary(facts, out);
}

/// RFC 9110 section 15.5.2: no 401 without it.
fn write_challenge(context: &HeadContext<'_>, out: &mut Vec<u8>) {
    write_field(out, "WWW-Authenticate", context.challenge.unwrap_or(b"Basic"));
}

fn write_vary(facts: &FileFacts, out: &mut Vec<u8>) {
    if facts.varies {
        write_field(out, "Vary", b"Accept-Encoding");
    }
}

impl Failure {
    /// An error that says nothing more.
    pub fn new(status: Status) -> Failure {
        Failure { status, allow: None, retry_after_s: None, missed_len: None, varies: false, challenge: None }
    }

    /// 503: too much is going on; the client may try again in so many seconds.
    pub fn unavailable(retry_after_s: u32) -> Failure {
        Failure { retry_after_s: Some(retry_after_s), ..Failure::new(Status::SERVICE_UNAVAILABLE) }
    }

    /// The status.
    pub fn status(&self) -> Status {
        self.status
    }

    /// The location that asks for a password, if that is why.
    pub fn challenge(&self) -> Option<usize> {
        self.challenge
    }

    fn write_fields(&self, out: &mut Vec<u8>) {
        if let Some(allow) = self.allow {
            write_field(out, "Allow", allow.as_bytes());
        }
        if let Some(len) = self.missed_len {
            write_content_range_unsatisfied(out, len);
        }
        if let Some(seconds) = self.retry_after_s {
            write_number(out, "Retry-After", u64::from(seconds));
        }
        if self.varies {
            write_field(out, "Vary", b"Accept-Encoding");
        }
    }
}

/// What a browser may do with a listing: nothing but show it with its own style. The hash is that of
/// [`super::listing::STYLE`], and `the_policy_of_a_listing_names_its_style` in tests/server_pages.rs holds it.
const LISTING_POLICY: &str = "default-src 'none'; style-src 'sha256-TH8AOj0HVEcEg0EiFXUhcIEsN5X8p03ztjuRDJItnfA='; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'self'";

/// `no-cache`: a listing is asked for again each time, and costs no transfer while nothing has changed.
fn write_listing_validators(facts: &ListingFacts, out: &mut Vec<u8>) {
    write_field(out, "ETag", &[b"W/", &facts.etag[..]].concat());
    write_field(out, "Cache-Control", b"no-cache");
    write_field(out, "Vary", b"Accept");
}

impl Allow {
    /// The value of the Allow field.
    pub fn as_bytes(self) -> &'static [u8] {
        match self {
            Allow::File => b"GET, HEAD, OPTIONS",
            Allow::Script => b"GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS",
        }
    }
}

/// What stays as it is in a path (RFC 3986 section 3.3). A backslash does not: browsers take it for a slash.
fn is_plain_in_path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte)
}

fn write_encoded(bytes: &[u8], is_plain: impl Fn(u8) -> bool, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in bytes {
        if is_plain(*byte) {
            out.push(*byte);
        } else {
            out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}

#[cfg(test)]
#[path = "reply_tests.rs"]
mod tests;
