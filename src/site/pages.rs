//! Pages that are not files as they were asked for: which of them a site has. Pure data.

use crate::http::status::Status;

/// What a site answers with besides its files. By default, with nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pages {
    /// A folder without an index is listed.
    pub listing: bool,
    /// `/about` is answered with `about.html`, and `/about.html` leads there.
    pub clean_urls: bool,
    /// The file (relative to the root, decoded) that answers navigations to paths where nothing is: a page whose script
    /// knows what the path means.
    pub spa_fallback: Option<String>,
    /// The files that stand for the built-in pages of errors.
    pub error_pages: Vec<ErrorPage>,
}

/// A page for some errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorPage {
    /// For which.
    pub statuses: Statuses,
    /// The file: relative to the root, decoded.
    pub path: String,
}

/// Which errors a page is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statuses {
    /// One.
    Only(Status),
    /// All whose code begins with this digit, 4 or 5, and that have no page of their own.
    Class(u16),
}

/// The page for an error among some.
pub(super) fn error_page(pages: &[ErrorPage], status: Status) -> Option<&str> {
    let page = |wanted: Statuses| pages.iter().find(|page| page.statuses == wanted);
    let found = page(Statuses::Only(status)).or_else(|| page(Statuses::Class(status.code() / 100)));
    found.map(|page| page.path.as_str())
}

impl Pages {
    /// Every file that is named here.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.spa_fallback.iter().chain(self.error_pages.iter().map(|page| &page.path)).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_of_its_own_comes_before_its_class() {
        let page = |statuses, path: &str| ErrorPage { statuses, path: path.into() };
        let error_pages = vec![
            page(Statuses::Class(4), "client.html"),
            page(Statuses::Only(Status::NOT_FOUND), "missing.html"),
            page(Statuses::Only(Status::BAD_GATEWAY), "gateway.html"),
        ];
        for (code, expected) in [
            (404, Some("missing.html")),
            (403, Some("client.html")),
            (499, Some("client.html")),
            (502, Some("gateway.html")),
            (500, None),
            (200, None),
            (304, None),
        ] {
            let status = Status::from_code(code).expect("in range");
            assert_eq!(error_page(&error_pages, status), expected, "{code}");
        }
    }
}
