//! The listing of a folder: entries in, a page out. HTML for people, JSON for programs.
//!
//! Whoever reads the folder offers every name to [`Names`], finds out about those that are kept, and gets the page from
//! [`render`]: all of it away from the core, for a folder can hold a million names.

mod html;
mod json;
mod order;

pub use html::STYLE;
pub use order::natural;

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::reply::Reply;
use super::static_file::mix;
use super::{Site, route};
use crate::http::accept;
use crate::http::conditional::{self, Precondition};
use crate::http::request::Request;
use crate::http::status::Status;

/// Names beyond the kept ones are counted, up to here: a folder that others fill must not keep a thread busy for ever.
pub const NAMES_COUNTED_MAX: usize = 1_000_000;

/// What a request wants of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The form of the page.
    pub format: Format,
    /// What decides the order.
    pub key: Key,
    /// Which way.
    pub direction: Direction,
}

/// The form of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A page.
    Html,
    /// Data.
    Json,
}

/// What a listing is sorted by. Folders come first in any case, and what is equal goes by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// By [`natural`] order.
    Name,
    /// By length.
    Size,
    /// By the time of the last change.
    Time,
}

/// The direction of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The smallest first.
    Ascending,
    /// The largest first.
    Descending,
}

/// A folder, as far as it is shown.
#[derive(Clone, Debug)]
pub struct Folder {
    /// Its path: decoded, relative to the root, without a slash at either end; empty for the root.
    pub path: Vec<u8>,
    /// What is in it.
    pub entries: Vec<Entry>,
    /// Where it has more names than may be shown: how many.
    pub cut_off: Option<Total>,
}

/// How many names a folder has that could be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Total {
    /// So many.
    Exactly(usize),
    /// More than are counted.
    MoreThan(usize),
}

/// Something in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name: any bytes but NUL and slash.
    pub name: Vec<u8>,
    /// What it is, links followed.
    pub kind: EntryKind,
    /// The time of its last change: seconds since 1970, and nanoseconds.
    pub mtime: (i64, u32),
}

/// What can be in a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryKind {
    /// A folder.
    Directory,
    /// A regular file.
    File {
        /// Its length.
        bytes: u64,
    },
}

/// What the reply says about a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListingFacts {
    /// Its form.
    pub format: Format,
    /// Its length.
    pub len: u64,
    /// The opaque part of its entity tag, with the quotes. The tag is weak: 64 bits of a hash promise nothing about every
    /// byte.
    pub etag: [u8; 18],
}

impl Wanted {
    /// What a request asks for: the form by Accept (JSON only where it is wanted more than HTML), the order by
    /// `?sort=name|size|time&order=asc|desc`. Anything else in the query means nothing.
    pub fn of(request: &Request<'_>) -> Wanted {
        let json = accept::weight(&request.fields, "application/json");
        let is_json = json > accept::weight(&request.fields, "text/html");
        let mut wanted = Wanted {
            format: if is_json { Format::Json } else { Format::Html },
            key: Key::Name,
            direction: Direction::Ascending,
        };
        for part in request.query.unwrap_or_default().split(|&byte| byte == b'&') {
            match part {
                b"sort=name" => wanted.key = Key::Name,
                b"sort=size" => wanted.key = Key::Size,
                b"sort=time" => wanted.key = Key::Time,
                b"order=asc" => wanted.direction = Direction::Ascending,
                b"order=desc" => wanted.direction = Direction::Descending,
                _ => {}
            }
        }
        wanted
    }

    fn compare(self, one: &Entry, other: &Entry) -> Ordering {
        let by_key = match self.key {
            Key::Name => Ordering::Equal,
            Key::Size => one.kind.cmp(&other.kind),
            Key::Time => one.mtime.cmp(&other.mtime),
        };
        let ascending = match self.key {
            Key::Name => natural(&one.name, &other.name),
            Key::Size | Key::Time => by_key,
        };
        let directed = if self.direction == Direction::Descending { ascending.reverse() } else { ascending };
        let folders_first = other.kind.is_directory().cmp(&one.kind.is_directory());
        folders_first.then(directed).then_with(|| natural(&one.name, &other.name))
    }
}

impl Format {
    /// The value of Content-Type.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Html => "text/html; charset=utf-8",
            Format::Json => "application/json",
        }
    }
}

impl EntryKind {
    fn is_directory(self) -> bool {
        self == EntryKind::Directory
    }
}

/// Decides the reply about a listing.
pub fn reply<'f>(request: &Request<'_>, facts: &'f ListingFacts) -> Reply<'f> {
    match conditional::evaluate_weak(&request.fields, &facts.etag) {
        Precondition::Proceed => Reply::listing(facts),
        Precondition::NotModified => Reply::listing_not_modified(facts),
        Precondition::PreconditionFailed => Reply::error(Status::PRECONDITION_FAILED),
    }
}

/// Whether a listing of that folder may show that name at all: what a request for it could not get is not shown, and no
/// dotfile is.
pub fn shows(site: &Site, folder: &[u8], name: &[u8]) -> bool {
    let path = if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() };
    !name.starts_with(b".") && !name.iter().any(|byte| matches!(byte, b'\r' | b'\n')) && route::is_open(site, &path)
}

/// The first names of a folder, in [`natural`] order, and how many there are: its memory is bounded, whatever the folder
/// holds.
#[derive(Debug)]
pub struct Names {
    entries_max: usize,
    kept: BinaryHeap<ByName>,
    total: usize,
}

impl Names {
    /// None yet; at most so many will be kept.
    pub fn new(entries_max: usize) -> Names {
        Names { entries_max, kept: BinaryHeap::new(), total: 0 }
    }

    /// One more. False: there is no use in offering more.
    pub fn offer(&mut self, name: Vec<u8>) -> bool {
        self.total += 1;
        self.kept.push(ByName(name));
        if self.kept.len() > self.entries_max {
            self.kept.pop();
        }
        self.total <= NAMES_COUNTED_MAX.max(self.entries_max)
    }

    /// Those that were kept, and how many there are if that is not all.
    pub fn into_parts(self) -> (Vec<Vec<u8>>, Option<Total>) {
        let counted_max = NAMES_COUNTED_MAX.max(self.entries_max);
        let cut_off = match self.total {
            total if total > counted_max => Some(Total::MoreThan(counted_max)),
            total if total > self.entries_max => Some(Total::Exactly(total)),
            _ => None,
        };
        (self.kept.into_iter().map(|ByName(name)| name).collect(), cut_off)
    }
}

#[derive(Debug, PartialEq, Eq)]
struct ByName(Vec<u8>);

impl Ord for ByName {
    fn cmp(&self, other: &ByName) -> Ordering {
        natural(&self.0, &other.0)
    }
}

impl PartialOrd for ByName {
    fn partial_cmp(&self, other: &ByName) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The page, and what a reply says about it.
pub fn render(mut folder: Folder, wanted: Wanted) -> (ListingFacts, Vec<u8>) {
    folder.entries.sort_unstable_by(|one, other| wanted.compare(one, other));
    let page = match wanted.format {
        Format::Html => html::page(&folder, wanted),
        Format::Json => json::page(&folder),
    };
    (ListingFacts { format: wanted.format, len: page.len() as u64, etag: etag(&page) }, page)
}

fn etag(page: &[u8]) -> [u8; 18] {
    let word = |chunk: &[u8]| chunk.iter().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
    let hash = page.chunks(8).fold(page.len() as u64, |hash, chunk| mix(hash ^ word(chunk)));
    let mut tag = [b'"'; 18];
    tag[1..17].copy_from_slice(format!("{hash:016x}").as_bytes());
    tag
}

/// Appends a name as a part of a path in a URL: nothing but letters, digits and `-._~` stays as it is, so it cannot be taken
/// for a scheme, a query or a fragment, in whatever it is quoted.
fn write_url(name: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in name {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte);
        } else {
            out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}

/// Appends where an entry is, seen from its folder. The dot keeps a name with a colon from being a scheme even if somebody
/// decodes it.
fn write_href(entry: &Entry, out: &mut Vec<u8>) {
    out.extend_from_slice(b"./");
    write_url(&entry.name, out);
    if entry.kind.is_directory() {
        out.push(b'/');
    }
}

#[cfg(test)]
#[path = "listing_tests.rs"]
mod tests;
