//! What a file, or the lack of one, answers to a request.

use std::rc::Rc;

use super::headers::Lines;
use super::mime;
use super::reply::{Allow, Reply, write_content};
use super::representation::Representations;
use crate::http::coding::Coding;
use crate::http::conditional::{self, Precondition};
use crate::http::date;
use crate::http::multipart::{Boundary, Multipart};
use crate::http::range::{self, Ranges, Span};
use crate::http::request::{Known, Method, Request};
use crate::http::status::Status;

/// What is at a path.
#[derive(Debug)]
pub enum Found {
    /// A regular file that can be read, and its compressed siblings.
    File(Representations),
    /// A directory.
    Directory,
    /// Nothing, or nothing inside the root.
    Nothing,
    /// Something that is not served: not a regular file, or not readable. Answered as nothing, so that names cannot be
    /// probed.
    Refused,
}

/// What the kernel says about a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileStat {
    /// Its length.
    pub len: u64,
    /// When its content last changed: seconds since 1970, and nanoseconds.
    pub mtime_s: i64,
    /// The nanoseconds of it.
    pub mtime_ns: u32,
    /// When it last changed at all, its times included: a program can set the other time back, but not this one.
    pub ctime_s: i64,
    /// The nanoseconds of it.
    pub ctime_ns: u32,
    /// Its number in its file system: a file that takes the place of another has a different one.
    pub inode: u64,
}

/// All that replies about one representation of a file are made of. Built once, when the file is opened.
#[derive(Clone, Debug)]
pub struct FileFacts {
    /// Its length.
    pub len: u64,
    /// When its content last changed, in seconds since 1970; never later than when the facts were taken.
    pub mtime_s: u64,
    /// Its strong validator.
    pub etag: Etag,
    /// Its media type, by its name; for a compressed sibling, that of what it was made from.
    pub content_type: &'static str,
    /// How it was compressed, if it was.
    pub coding: Option<Coding>,
    /// Whether there are others to choose from: then every reply says so, or a shared cache gives one client what
    /// another can read (RFC 9110 section 12.5.5).
    pub varies: bool,
    /// `mtime_s` as an IMF-fixdate.
    pub last_modified: [u8; 29],
    /// What the rules of the site say about it.
    pub lines: Rc<Lines>,
}

/// A strong entity tag with its quotes: 64 bits of hash over everything that changes when content does. A hash, because
/// an inode number is nobody's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Etag([u8; ETAG_BYTES]);

const ETAG_BYTES: usize = 18;

/// What an answer depends on besides the request and the file.
#[derive(Clone, Copy)]
pub struct Circumstances<'c> {
    /// The time, in seconds since 1970.
    pub now_s: u64,
    /// Ranges in one request; with more, Range is ignored.
    pub ranges_max: usize,
    /// Makes a boundary that nobody can know beforehand. Few requests need one.
    pub boundary: &'c dyn Fn() -> Boundary,
}

/// Decides the reply about what was found at `path` (relative to the root, decoded, as [`super::route::route`] left
/// it).
pub fn static_file<'f>(request: &Request<'_>, path: &[u8], found: &'f Found, given: &Circumstances<'_>) -> Reply<'f> {
    // What does not exist has no methods: 404 comes before 405.
    if let Found::Nothing | Found::Refused = found {
        return Reply::error(Status::NOT_FOUND);
    }
    match (request.method, found) {
        (Method::Get | Method::Head, Found::File(file)) => representation(request, file.choose(&request.fields), given),
        (Method::Get | Method::Head, _) => directory(request, path),
        (Method::Options, _) => Reply::options(Allow::File),
        _ => Reply::method_not_allowed(Allow::File),
    }
}

/// Conditions and ranges are about the representation that was chosen.
fn representation<'f>(request: &Request<'_>, facts: &'f FileFacts, given: &Circumstances<'_>) -> Reply<'f> {
    let (etag, mtime_s) = (facts.etag.as_bytes(), facts.mtime_s);
    match conditional::evaluate(&request.fields, request.method, etag, mtime_s) {
        Precondition::NotModified => return Reply::not_modified(facts),
        Precondition::PreconditionFailed => return Reply::precondition_failed(facts),
        Precondition::Proceed => {}
    }
    // RFC 9110 section 14.2: only GET has ranges, and an If-Range that does not hold makes it a request for the whole.
    let has_range = request.method == Method::Get && request.fields.has(Known::Range);
    if !has_range || !conditional::if_range_holds(&request.fields, etag, mtime_s, given.now_s) {
        return Reply::whole(facts);
    }
    match range::requested(&request.fields, facts.len, given.ranges_max) {
        Ranges::Satisfiable(spans) => match spans.as_slice() {
            [span] => Reply::part(facts, *span),
            spans => parts(facts, spans, (given.boundary)()),
        },
        Ranges::Unsatisfiable => Reply::unsatisfiable(facts),
        Ranges::Ignore => Reply::whole(facts),
    }
}

/// Several parts, unless they and what stands between them are longer than the whole, which is what a server may always
/// send instead (RFC 9110 section 14.2): no Range makes a reply larger.
fn parts<'f>(facts: &'f FileFacts, spans: &[Span], boundary: Boundary) -> Reply<'f> {
    let mut fields = Vec::new();
    write_content(facts, &mut fields);
    let parts = Multipart::new(spans, facts.len, fields, boundary);
    if parts.content_length() < facts.len { Reply::parts(facts, parts) } else { Reply::whole(facts) }
}

/// A directory is at the path with a slash. The root never comes here: its path is that of its index.
fn directory<'f>(request: &Request<'_>, path: &[u8]) -> Reply<'f> {
    match path.first() {
        // Two slashes at the start of a Location would be another host.
        None | Some(b'/') => Reply::error(Status::NOT_FOUND),
        Some(_) => Reply::moved(path, request.query),
    }
}

impl FileFacts {
    /// The facts about a file, by what the kernel says, its name, and the time.
    pub fn new(stat: &FileStat, path: &[u8], now_s: u64) -> FileFacts {
        FileFacts::coded(stat, path, None, now_s)
    }

    /// The facts about a sibling that was made by that coding from the file at `path`.
    pub fn coded(stat: &FileStat, path: &[u8], coding: Option<Coding>, now_s: u64) -> FileFacts {
        // A date before 1970 cannot be written; one in the future must not be (RFC 9110 section 8.8.2.1).
        let mtime_s = u64::try_from(stat.mtime_s).unwrap_or(0).min(now_s);
        FileFacts {
            len: stat.len,
            mtime_s,
            etag: Etag::of(stat),
            content_type: mime::content_type(path),
            coding,
            varies: false,
            last_modified: date::format(mtime_s),
            lines: Rc::default(),
        }
    }
}

impl Etag {
    fn of(stat: &FileStat) -> Etag {
        let times =
            [stat.mtime_s.cast_unsigned(), stat.mtime_ns.into(), stat.ctime_s.cast_unsigned(), stat.ctime_ns.into()];
        let mut hash = times.into_iter().chain([stat.len, stat.inode]).fold(0, |hash, word| mix(hash ^ word));
        let mut tag = [b'"'; ETAG_BYTES];
        for digit in tag[1..ETAG_BYTES - 1].iter_mut().rev() {
            *digit = b"0123456789abcdef"[(hash & 15) as usize];
            hash >>= 4;
        }
        Etag(tag)
    }

    /// The tag, with its quotes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The finaliser of SplitMix64 after its increment: a bijection that spreads every bit over all.
fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
#[path = "static_file_tests.rs"]
mod tests;
