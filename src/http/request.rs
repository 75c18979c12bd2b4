//! A request head, as a view over the bytes that it came in.

use std::mem::MaybeUninit;

use super::limits::FIELDS_MAX_CEILING;

/// A request method that this server knows (RFC 9110 section 9, RFC 5789). Any other token is answered 501 by the parser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the methods")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
}

/// The minor version of HTTP/1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0: closes unless asked to stay, never chunked, no 100 Continue.
    Http10,
    /// HTTP/1.1 (and any later 1.x, answered as 1.1).
    Http11,
}

/// How the body of a request is delimited (RFC 9112 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    None,
    /// Exactly so many bytes (0 included, when Content-Length said so).
    Length(u64),
    /// Chunks, then a trailer section.
    Chunked,
}

/// A request head. Everything borrows from the connection's bytes: it lives for one synchronous step, never across an await.
#[derive(Clone, Copy, Debug)]
pub struct Request<'b> {
    /// The method.
    pub method: Method,
    /// The target as it was sent (REQUEST_URI): origin form, absolute form or `*`.
    pub target: &'b [u8],
    /// The path as it was sent, still encoded: starts with `/`, or is `*` for `OPTIONS *`.
    pub path: &'b [u8],
    /// What follows the first `?`, still encoded; `Some(b"")` for a bare `?`.
    pub query: Option<&'b [u8]>,
    /// The authority: of an absolute target, else of the Host field; empty for HTTP/1.0 without one.
    pub host: &'b [u8],
    /// The version.
    pub version: Version,
    /// The field lines, in order.
    pub fields: Fields<'b>,
    /// How the body is delimited.
    pub framing: Framing,
    /// The client waits for 100 Continue before it sends the body.
    pub expects_continue: bool,
    /// The client would keep the connection (version and Connection field together).
    pub keep_alive: bool,
}

/// The field lines of a head, with a mark for each [`Known`] name that occurs, so that the common miss costs one bit test.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'b> {
    pub(super) lines: &'b [httparse::Header<'b>],
    pub(super) present: u32,
}

/// The field names that a decision depends on; found once, while the head is parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are the fields' names")]
pub enum Known {
    Host,
    Connection,
    ContentLength,
    TransferEncoding,
    Expect,
    Range,
    IfRange,
    IfMatch,
    IfNoneMatch,
    IfModifiedSince,
    IfUnmodifiedSince,
    AcceptEncoding,
    ContentType,
    Authorization,
    Cookie,
    Accept,
    Referer,
    UserAgent,
    Proxy,
    Upgrade,
    Te,
    Trailer,
    KeepAlive,
    Forwarded,
    XForwardedFor,
    XForwardedProto,
    XForwardedHost,
}

/// Room for the parsed field lines of one head; lives on the stack of one step (8 KiB, never initialised).
pub struct FieldSlots<'b> {
    pub(super) table: [MaybeUninit<httparse::Header<'b>>; FIELDS_MAX_CEILING],
    /// For a head that claims HTTP/1.2 or later, which goes another way; empty, and without memory, for every other.
    pub(super) spare: Vec<httparse::Header<'b>>,
}

impl Known {
    /// Which known name this is, if any (names compare without case).
    pub(super) fn of(name: &[u8]) -> Option<Known> {
        use Known::*;
        // Length and first letter leave at most one candidate, so an unknown name costs no comparison.
        let (candidate, text): (Known, &[u8]) = match (name.len(), name.first()?.to_ascii_lowercase()) {
            (4, b'h') => (Host, b"host"),
            (10, b'c') => (Connection, b"connection"),
            (14, b'c') => (ContentLength, b"content-length"),
            (17, b't') => (TransferEncoding, b"transfer-encoding"),
            (6, b'e') => (Expect, b"expect"),
            (5, b'r') => (Range, b"range"),
            (8, b'i') => match name[3].to_ascii_lowercase() {
                b'r' => (IfRange, b"if-range"),
                _ => (IfMatch, b"if-match"),
            },
            (13, b'i') => (IfNoneMatch, b"if-none-match"),
            (17, b'i') => (IfModifiedSince, b"if-modified-since"),
            (19, b'i') => (IfUnmodifiedSince, b"if-unmodified-since"),
            (15, b'a') => (AcceptEncoding, b"accept-encoding"),
            (12, b'c') => (ContentType, b"content-type"),
            (13, b'a') => (Authorization, b"authorization"),
            (6, b'c') => (Cookie, b"cookie"),
            (6, b'a') => (Accept, b"accept"),
            (7, b'r') => (Referer, b"referer"),
            (10, b'u') => (UserAgent, b"user-agent"),
            (5, b'p') => (Proxy, b"proxy"),
            (7, b'u') => (Upgrade, b"upgrade"),
            (2, b't') => (Te, b"te"),
            (7, b't') => (Trailer, b"trailer"),
            (10, b'k') => (KeepAlive, b"keep-alive"),
            (9, b'f') => (Forwarded, b"forwarded"),
            (15, b'x') => (XForwardedFor, b"x-forwarded-for"),
            (17, b'x') => (XForwardedProto, b"x-forwarded-proto"),
            (16, b'x') => (XForwardedHost, b"x-forwarded-host"),
            _ => return None,
        };
        name.eq_ignore_ascii_case(text).then_some(candidate)
    }
}

impl<'b> Fields<'b> {
    /// No field lines.
    pub const NONE: Fields<'static> = Fields { lines: &[], present: 0 };

    /// Whether a line of that name is there.
    pub fn has(&self, known: Known) -> bool {
        self.present & (1 << known as u32) != 0
    }

    /// The value of the first line of that name.
    pub fn get(&self, known: Known) -> Option<&'b [u8]> {
        self.get_all(known).next()
    }

    /// The values of all lines of that name, in order.
    pub fn get_all(&self, known: Known) -> impl Iterator<Item = &'b [u8]> + use<'b> {
        let lines = if self.has(known) { self.lines } else { &[] };
        lines.iter().filter(move |line| Known::of(line.name.as_bytes()) == Some(known)).map(|line| line.value)
    }

    /// Every line, as (name, value), in order; names as they were sent.
    pub fn iter(&self) -> impl Iterator<Item = (&'b str, &'b [u8])> + use<'b> {
        self.lines.iter().map(|line| (line.name, line.value))
    }
}

impl<'b> FieldSlots<'b> {
    /// Empty room; costs nothing.
    #[inline]
    pub fn new() -> FieldSlots<'b> {
        FieldSlots { table: [const { MaybeUninit::uninit() }; FIELDS_MAX_CEILING], spare: Vec::new() }
    }
}

impl Default for FieldSlots<'_> {
    fn default() -> Self {
        FieldSlots::new()
    }
}

impl Method {
    /// The method of that token, compared with case (RFC 9110 section 9.1).
    pub fn from_token(token: &[u8]) -> Option<Method> {
        METHODS.iter().find(|(text, _)| text.as_bytes() == token).map(|(_, method)| *method)
    }

    /// The token.
    pub fn as_str(self) -> &'static str {
        METHODS.iter().find(|(_, method)| *method == self).map_or("", |(text, _)| text)
    }
}

/// GET and HEAD first: `from_token` searches in order.
const METHODS: [(&str, Method); 9] = [
    ("GET", Method::Get),
    ("HEAD", Method::Head),
    ("POST", Method::Post),
    ("PUT", Method::Put),
    ("DELETE", Method::Delete),
    ("CONNECT", Method::Connect),
    ("OPTIONS", Method::Options),
    ("TRACE", Method::Trace),
    ("PATCH", Method::Patch),
];
