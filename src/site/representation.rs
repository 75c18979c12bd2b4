//! The forms in which a file is there: as it is, and as siblings that were compressed beforehand (`a.css.br` beside
//! `a.css`).

use std::rc::Rc;

use super::headers::Lines;
use super::route;
use super::static_file::{FileFacts, FileStat};
use super::{Site, mime};
use crate::http::coding::{self, Coding};
use crate::http::request::Fields;

/// What the name of a sibling adds to that of its original.
pub const SUFFIXES: [(Coding, &str); 3] = [(Coding::Brotli, ".br"), (Coding::Zstd, ".zst"), (Coding::Gzip, ".gz")];

/// The representations of one file: the file as it is, then those of its siblings that may stand for it
/// ([`stands_for`]), in the order of [`SUFFIXES`]. Never empty.
#[derive(Clone, Debug)]
pub struct Representations(Box<[FileFacts]>);

impl Representations {
    /// Takes the facts of each, and what the rules of the site say about the file.
    ///
    /// # Panics
    /// If there is none.
    pub fn new(mut facts: Box<[FileFacts]>, lines: Lines) -> Representations {
        assert!(!facts.is_empty(), "a file has at least itself");
        let (varies, lines) = (facts.len() > 1, Rc::new(lines));
        for facts in &mut facts {
            (facts.varies, facts.lines) = (varies, Rc::clone(&lines));
        }
        Representations(facts)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &FileFacts> {
        self.0.iter()
    }

    /// The one that a request gets.
    pub(super) fn choose(&self, fields: &Fields<'_>) -> &FileFacts {
        match &*self.0 {
            [identity, coded @ ..] if !coded.is_empty() => {
                let wanted = coding::choose(fields, coded.iter().filter_map(|facts| facts.coding));
                coded.iter().find(|facts| wanted.is_some() && facts.coding == wanted).unwrap_or(identity)
            }
            // Most files have no siblings, and their requests pay nothing for it.
            all => &all[0],
        }
    }
}

/// Where the siblings of the file at `path` (relative to the root, decoded) may be, in the order of preference.
///
/// A look that finds nothing costs as much as one that does not, so none is made where it would be in vain: beside a
/// picture, a film or an archive. And none where a request could not look either: a sibling's name may belong to a
/// program.
pub fn siblings<'s>(site: &'s Site, path: &'s [u8]) -> impl Iterator<Item = (Coding, Vec<u8>)> + 's {
    let is_wanted = site.options.precompressed && !mime::is_compressed(mime::content_type(path));
    let named = SUFFIXES.iter().map(move |(coding, suffix)| (*coding, [path, suffix.as_bytes()].concat()));
    named.filter(move |(_, sibling)| is_wanted && route::is_open(site, sibling))
}

/// Whether what is at a sibling's name may stand for the original: it is not older, has content (no coding makes nothing of
/// something), and is not the very same file under another name.
pub fn stands_for(sibling: &FileStat, original: &FileStat) -> bool {
    let is_current = (sibling.mtime_s, sibling.mtime_ns) >= (original.mtime_s, original.mtime_ns);
    let is_same =
        (sibling.inode, sibling.ctime_s, sibling.ctime_ns) == (original.inode, original.ctime_s, original.ctime_ns);
    is_current && sibling.len > 0 && !is_same
}

#[cfg(test)]
mod tests {
    use super::super::testing::{NOW_S, with_request};
    use super::super::{Mount, MountKind, SiteOptions};
    use super::*;

    fn names(site: &Site, path: &str) -> Vec<String> {
        siblings(site, path.as_bytes()).map(|(_, path)| String::from_utf8(path).unwrap()).collect()
    }

    #[test]
    fn every_coding_has_a_suffix_and_they_are_in_the_order_of_preference() {
        assert_eq!(SUFFIXES.map(|(coding, _)| coding), Coding::ALL);
    }

    #[test]
    fn siblings_are_looked_for_where_they_make_sense() {
        let site = Site::default();
        assert_eq!(names(&site, "d/a.css"), ["d/a.css.br", "d/a.css.zst", "d/a.css.gz"]);
        assert_eq!(names(&site, "data.bin").len(), 3);
        for path in ["a.png", "a.mp4", "a.css.gz", "a.css.br", "a.zip", "f.woff2"] {
            assert_eq!(names(&site, path), [""; 0], "{path}");
        }
        let off = Site { options: SiteOptions { precompressed: false, ..SiteOptions::default() }, ..Site::default() };
        assert_eq!(names(&off, "a.css"), [""; 0]);
    }

    /// A program's source is never sent, and `tool.br` can be the name of a program.
    #[test]
    fn a_sibling_is_nothing_that_could_not_be_asked_for() {
        let hidden = vec!["/tool.br".into()];
        let prefix = "/tool.gz".into();
        let mount = Mount { prefix, kind: MountKind::Program, env: Vec::new(), pass_authorization: false };
        let options = SiteOptions { hidden, ..SiteOptions::default() };
        let site = Site { mounts: vec![mount], options, ..Site::default() };
        assert_eq!(names(&site, "tool"), ["tool.zst"]);
    }

    #[test]
    fn a_sibling_is_as_young_as_its_original() {
        let original = FileStat { len: 9, mtime_s: 100, mtime_ns: 5, ctime_s: 200, ctime_ns: 6, inode: 1 };
        let other = FileStat { inode: 2, ..original };
        assert!(stands_for(&other, &original), "tools copy the time");
        assert!(stands_for(&FileStat { mtime_ns: 6, ..other }, &original));
        assert!(stands_for(&FileStat { mtime_s: 101, mtime_ns: 0, ..other }, &original));
        assert!(!stands_for(&FileStat { mtime_ns: 4, ..other }, &original), "by a nanosecond");
        assert!(!stands_for(&FileStat { mtime_s: 99, mtime_ns: 9, ..other }, &original));
        assert!(!stands_for(&FileStat { len: 0, ..other }, &original));
        assert!(!stands_for(&original, &original));
    }

    #[test]
    fn what_a_client_takes_is_chosen_of_what_is_there() {
        let facts = |coding: Option<Coding>| {
            let inode = coding.map_or(0, |coding| 1 + coding as u64);
            FileFacts::coded(&FileStat { len: 1, inode, ..FileStat::default() }, b"a.css", coding, NOW_S)
        };
        for (there, accepted, expected) in [
            (&[][..], "gzip, br", None),
            (&[Coding::Gzip], "gzip, br", Some(Coding::Gzip)),
            (&[Coding::Gzip], "br", None),
            (&Coding::ALL, "gzip, br", Some(Coding::Brotli)),
            (&Coding::ALL, "identity;q=0, *;q=0", None),
        ] {
            let codings = [None].into_iter().chain(there.iter().map(|&coding| Some(coding)));
            let file = Representations::new(codings.map(facts).collect(), Lines::default());
            assert!(file.all().all(|facts| facts.varies != there.is_empty()));
            let head = format!("GET / HTTP/1.1\r\nHost: h\r\nAccept-Encoding: {accepted}\r\n\r\n");
            let chosen = with_request(&head, |request| file.choose(&request.fields).coding);
            assert_eq!(chosen, expected, "{accepted} of {there:?}");
        }
    }
}
