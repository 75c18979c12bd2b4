//! What is said about some paths of a site only.

use super::Site;
use super::auth::Guard;
use super::pages::{ErrorPage, Pages, error_page};
use super::pattern::Pattern;
use crate::http::status::Status;

/// A part of the paths of a site, and what holds there. Of what several say about one path, the last holds; what none says is as
/// the site has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// Which paths: as they were asked for, relative to the root and decoded, with the name of the index behind a slash.
    pub pattern: Pattern,
    /// As [`Pages::listing`].
    pub listing: Option<bool>,
    /// As [`Pages::clean_urls`].
    pub clean_urls: Option<bool>,
    /// As [`Pages::spa_fallback`]; `Some(None)`: there is none here.
    pub spa_fallback: Option<Option<String>>,
    /// As [`Pages::error_pages`].
    pub error_pages: Vec<ErrorPage>,
    /// Who may have what is here.
    pub access: Option<Access>,
}

/// Who may have something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody, whatever an earlier location says.
    Open,
    /// Who has a password.
    Guarded(Guard),
}

impl Location {
    /// These paths, about which nothing is said yet.
    pub fn new(pattern: Pattern) -> Location {
        Location { pattern, listing: None, clean_urls: None, spa_fallback: None, error_pages: Vec::new(), access: None }
    }

    /// Every file that is named here.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        let fallback = self.spa_fallback.iter().flatten();
        fallback.chain(self.error_pages.iter().map(|page| &page.path)).map(String::as_str)
    }
}

impl Site {
    /// What the last location says that fits a path and says anything.
    fn said<'s, T>(&'s self, path: &[u8], what: impl Fn(&'s Location) -> Option<T>) -> Option<T> {
        let fitting = |location: &'s Location| what(location).filter(|_| location.pattern.matches(path));
        self.locations.iter().rev().find_map(fitting)
    }

    fn pages(&self) -> &Pages {
        &self.options.pages
    }

    /// Whether a folder at this path is listed.
    pub fn listing(&self, path: &[u8]) -> bool {
        self.said(path, |location| location.listing).unwrap_or(self.pages().listing)
    }

    /// Whether pages at this path are known by a shorter one.
    pub fn clean_urls(&self, path: &[u8]) -> bool {
        self.said(path, |location| location.clean_urls).unwrap_or(self.pages().clean_urls)
    }

    /// The page of the application that this path belongs to.
    pub fn spa_fallback(&self, path: &[u8]) -> Option<&str> {
        let said = self.said(path, |location| location.spa_fallback.as_ref().map(Option::as_deref));
        said.unwrap_or(self.pages().spa_fallback.as_deref())
    }

    /// The page for an error at this path; nothing where the built-in one stands.
    pub fn error_page(&self, path: &[u8], status: Status) -> Option<&str> {
        let said = self.said(path, |location| error_page(&location.error_pages, status));
        said.or_else(|| error_page(&self.pages().error_pages, status))
    }

    /// Whether there is a page of its own for any error.
    pub fn has_error_pages(&self) -> bool {
        !self.pages().error_pages.is_empty() || self.locations.iter().any(|location| !location.error_pages.is_empty())
    }

    /// Whether anything asks for a password.
    pub fn has_guards(&self) -> bool {
        self.locations.iter().any(|location| matches!(location.access, Some(Access::Guarded(_))))
    }

    /// The location that asks for a password at this path.
    ///
    /// A guard also holds for what is below a path that its pattern fits: `/private` guards `/private/x` too, whatever its author
    /// has thought of slashes. What opens a path opens just what its pattern fits.
    pub fn guard(&self, path: &[u8]) -> Option<usize> {
        let above = || path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at]);
        let says = |location: &Location| match &location.access {
            None => false,
            Some(Access::Open) => location.pattern.matches(path),
            Some(Access::Guarded(_)) => {
                location.pattern.matches(path) || above().any(|folder| location.pattern.matches(folder))
            }
        };
        let last = self.locations.iter().rposition(says)?;
        matches!(self.locations[last].access, Some(Access::Guarded(_))).then_some(last)
    }

    /// What a 401 there says (WWW-Authenticate).
    pub fn challenge(&self, location: usize) -> Option<&[u8]> {
        match &self.locations.get(location)?.access {
            Some(Access::Guarded(guard)) => Some(guard.challenge()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::SiteOptions;
    use super::super::pages::Statuses;
    use super::*;

    fn at(pattern: &str) -> Location {
        Location::new(Pattern::parse(pattern).expect("a pattern"))
    }

    fn page(statuses: Statuses, path: &str) -> ErrorPage {
        ErrorPage { statuses, path: path.into() }
    }

    fn site_of(locations: Vec<Location>) -> Site {
        let pages = Pages {
            spa_fallback: Some("app.html".into()),
            error_pages: vec![page(Statuses::Only(Status::NOT_FOUND), "404.html")],
            ..Pages::default()
        };
        Site { locations, options: SiteOptions { pages, ..SiteOptions::default() }, ..Site::default() }
    }

    #[test]
    fn the_last_that_fits_and_says_so_holds() {
        let site = site_of(vec![
            Location { listing: Some(true), clean_urls: Some(true), ..at("/pub/") },
            Location { listing: Some(false), ..at("/pub/quiet/") },
            Location { spa_fallback: Some(None), ..at("/pub/") },
            Location { spa_fallback: Some(Some("shop/index.html".into())), ..at("/shop/") },
        ]);
        for (path, listing, clean, fallback) in [
            ("index.html", false, false, Some("app.html")),
            ("pub/index.html", true, true, None),
            ("pub/quiet/index.html", false, true, None),
            ("shop/cart", false, false, Some("shop/index.html")),
        ] {
            let path = path.as_bytes();
            let got = (site.listing(path), site.clean_urls(path), site.spa_fallback(path));
            assert_eq!(got, (listing, clean, fallback), "{}", path.escape_ascii());
        }
    }

    /// A page of a location comes before one of the site, also where the site's is for the very status.
    #[test]
    fn error_pages_are_the_nearest() {
        let site = site_of(vec![
            Location { error_pages: vec![page(Statuses::Class(4), "api/4xx.json")], ..at("/api/") },
            Location { error_pages: vec![page(Statuses::Only(Status::NOT_FOUND), "api/v2.json")], ..at("/api/v2/") },
        ]);
        for (path, status, expected) in [
            ("x", Status::NOT_FOUND, Some("404.html")),
            ("x", Status::FORBIDDEN, None),
            ("api/x", Status::NOT_FOUND, Some("api/4xx.json")),
            ("api/v2/x", Status::NOT_FOUND, Some("api/v2.json")),
            ("api/v2/x", Status::FORBIDDEN, Some("api/4xx.json")),
            ("api/v2/x", Status::BAD_GATEWAY, None),
        ] {
            assert_eq!(site.error_page(path.as_bytes(), status), expected, "{path} {status:?}");
        }
        assert!(site.has_error_pages());
    }

    #[test]
    fn the_last_word_on_access_counts() {
        let guard = |file: &str| Some(Access::Guarded(Guard::new("x", file.into()).expect("a realm")));
        let site = site_of(vec![
            Location { access: guard("/a"), ..at("/") },
            Location { access: Some(Access::Open), ..at("/public/") },
            Location { listing: Some(true), ..at("/public/") },
            Location { access: guard("/b"), ..at("/public/not/") },
        ]);
        for (path, expected) in
            [("index.html", Some(0)), ("public/index.html", None), ("public/not/x", Some(3)), ("publicx", Some(0))]
        {
            assert_eq!(site.guard(path.as_bytes()), expected, "{path}");
        }
        assert!(site.has_guards());
        let slashless = site_of(vec![
            Location { access: guard("/a"), ..at("/private") },
            Location { access: Some(Access::Open), ..at("/private/*.css") },
        ]);
        for (path, expected) in [
            ("private", Some(0)),
            ("private/", Some(0)),
            ("private/x/y", Some(0)),
            ("privateer", None),
            ("private/a.css", None),
            ("private/a.css/b", Some(0)),
        ] {
            assert_eq!(slashless.guard(path.as_bytes()), expected, "{path}");
        }
        assert_eq!(site.challenge(1), None);
        assert_eq!(site.challenge(9), None);
    }
}
