//! What is looked at for a request that names a file, and what is made of what was found: clean URLs, listings, the page of
//! an application.
//!
//! Whoever serves only loops: look, ask here, and either answer or look at what comes next.

use super::listing::Wanted;
use super::reply::{Allow, Reply, Vary};
use super::route::{self, Named};
use super::static_file::Found;
use super::{Site, mime};
use crate::http::accept;
use crate::http::request::{Method, Request};
use crate::http::status::Status;

/// Where to look. A verdict names only looks that come after the one that it is about, so that every search ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Look {
    /// At the path as it was asked for; for a folder, at its index.
    Asked,
    /// At the path with `.html` behind it.
    WithHtml,
    /// At the path without its `.html`: whether the shorter one would lead back here.
    WithoutHtml,
    /// At the path as it was asked for, again, for it is the answer after all.
    AskedAgain,
    /// At the folder that has no index.
    Folder,
    /// At the page of the application.
    Fallback,
}

/// What is made of what was found.
#[derive(Debug)]
pub enum Verdict<'f> {
    /// It is the answer ([`super::static_file::static_file`]).
    Found(Vary),
    /// This is the answer.
    Reply(Reply<'f>, Vary),
    /// The folder that was looked at is listed.
    List(Wanted),
    /// Look there next.
    Look(Look),
}

/// A request on its way to its answer.
#[derive(Clone, Copy, Debug)]
pub struct Search<'s> {
    /// Where it is asked.
    pub site: &'s Site,
    /// What is asked.
    pub request: &'s Request<'s>,
    /// The path as [`route::route`] left it.
    pub path: &'s [u8],
    /// What it names.
    pub named: Named,
}

/// What a clean URL does without.
const HTML: &[u8] = b".html";

impl<'s> Search<'s> {
    /// The path to look at, relative to the root; `room` is for one that has to be made.
    pub fn place<'p>(&'p self, look: Look, room: &'p mut Vec<u8>) -> &'p [u8] {
        match look {
            Look::Asked | Look::AskedAgain => self.path,
            Look::WithoutHtml => self.path.strip_suffix(HTML).unwrap_or(self.path),
            Look::Folder => self.folder(),
            Look::Fallback => self.site.spa_fallback(self.path).map_or(b"", str::as_bytes),
            Look::WithHtml => {
                room.clear();
                room.extend_from_slice(self.path);
                room.extend_from_slice(HTML);
                room
            }
        }
    }

    /// What to make of what was found.
    pub fn verdict<'f>(&self, look: Look, found: &Found) -> Verdict<'f> {
        const FOUND: Verdict<'_> = Verdict::Found(Vary::Nothing);
        let reply = |reply| Verdict::Reply(reply, Vary::Nothing);
        let clean_urls = || self.site.clean_urls(self.path);
        match (look, found) {
            (Look::Asked, Found::File(_)) if self.named == Named::File && clean_urls() => self.clean(),
            (Look::Asked, Found::File(_) | Found::Refused) | (Look::AskedAgain, _) => FOUND,
            (Look::Asked, Found::Directory) if self.named == Named::File => FOUND,
            (Look::Asked, Found::Nothing) if self.named == Named::File => match clean_urls() && self.has_html() {
                true => Verdict::Look(Look::WithHtml),
                false => self.missing(),
            },
            // The index of a folder is not there, or is a folder.
            (Look::Asked, _) if self.site.listing(self.path) => Verdict::Look(Look::Folder),
            (Look::WithHtml, Found::File(_)) if self.reads() && self.is_index(&[self.path, HTML].concat()) => {
                self.moved(self.folder())
            }
            (Look::WithHtml, Found::File(_)) => FOUND,
            // What would be at the shorter path is this file.
            (Look::WithoutHtml, Found::Nothing) => {
                reply(Reply::moved(self.path.strip_suffix(HTML).unwrap_or(self.path), self.request.query))
            }
            (Look::WithoutHtml, _) => Verdict::Look(Look::AskedAgain),
            (Look::Folder, Found::Directory) => match self.request.method {
                Method::Get | Method::Head => Verdict::List(Wanted::of(self.request)),
                Method::Options => reply(Reply::options(Allow::File)),
                _ => reply(Reply::method_not_allowed(Allow::File)),
            },
            (Look::Fallback, Found::File(_)) => Verdict::Found(Vary::Navigation),
            (Look::Fallback, _) => Verdict::Reply(Reply::error(Status::NOT_FOUND), Vary::Navigation),
            (Look::Asked | Look::WithHtml | Look::Folder, _) => self.missing(),
        }
    }

    /// A file that was asked for by its whole name has a shorter address, if it is a page.
    fn clean<'f>(&self) -> Verdict<'f> {
        let reads = self.reads();
        match self.path.strip_suffix(HTML) {
            _ if reads && self.is_index(self.path) => self.moved(self.folder()),
            Some(shorter) if reads && route::is_open(self.site, shorter) => Verdict::Look(Look::WithoutHtml),
            _ => Verdict::Found(Vary::Nothing),
        }
    }

    /// What to make of it when nothing is at any of the names that a file could have, or a folder turns out not to be
    /// readable: the answer, or where to look next.
    pub fn nothing<'f>(&self) -> Result<(Reply<'f>, Vary), Look> {
        let not_found = Reply::error(Status::NOT_FOUND);
        if !self.reads() || self.is_asset() || self.site.spa_fallback(self.path).is_none() {
            return Ok((not_found, Vary::Nothing));
        }
        if is_navigation(self.request) { Err(Look::Fallback) } else { Ok((not_found, Vary::Navigation)) }
    }

    fn missing<'f>(&self) -> Verdict<'f> {
        match self.nothing() {
            Ok((reply, vary)) => Verdict::Reply(reply, vary),
            Err(next) => Verdict::Look(next),
        }
    }

    fn moved<'f>(&self, folder: &[u8]) -> Verdict<'f> {
        let slash: &[u8] = if folder.is_empty() { b"" } else { b"/" };
        Verdict::Reply(Reply::moved(&[folder, slash].concat(), self.request.query), Vary::Nothing)
    }

    fn reads(&self) -> bool {
        matches!(self.request.method, Method::Get | Method::Head)
    }

    /// The folder that the path is in, without a slash at its end.
    fn folder(&self) -> &'s [u8] {
        let slash = self.path.iter().rposition(|byte| *byte == b'/');
        &self.path[..slash.unwrap_or(0)]
    }

    fn is_index(&self, path: &[u8]) -> bool {
        path.rsplit(|byte| *byte == b'/').next() == Some(self.site.options.index.as_bytes())
    }

    /// Whether the path with `.html` may be looked at: a program's may not.
    fn has_html(&self) -> bool {
        // The one name with a dot that may be asked for has no page: that would be a dotfile.
        self.path != b".well-known" && route::is_open(self.site, &[self.path, HTML].concat())
    }

    /// Whether the path names what a page consists of, and never a page. A path like `/users/john.doe` may be one.
    fn is_asset(&self) -> bool {
        self.named == Named::File && mime::is_asset(self.path)
    }
}

/// Whether somebody goes to a page, and a page will be looked at: a browser says so by Sec-Fetch-Mode, and anybody by
/// asking for HTML by name. `*/*`, which a script's fetch sends, is no such thing.
fn is_navigation(request: &Request<'_>) -> bool {
    let mode = |(name, value): (&str, &[u8])| name.eq_ignore_ascii_case("sec-fetch-mode") && value == b"navigate";
    accept::names(&request.fields, "text/html") || request.fields.iter().any(mode)
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
