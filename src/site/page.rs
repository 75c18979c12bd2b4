//! The bodies of error replies and redirects: the status and its phrase, small, readable in the dark. Built by the
//! compiler.

use crate::http::status::Status;

/// The page of a status: HTML, or nothing for a status without a phrase.
pub(super) fn page(status: Status) -> &'static [u8] {
    // The table is in the order of the codes.
    match PAGES.binary_search_by_key(&status.code(), |page| page.code) {
        Ok(index) => PAGES[index].html.as_bytes(),
        Err(_) => b"",
    }
}

struct Page {
    code: u16,
    html: Html,
}

const HTML_BYTES_MAX: usize = 512;

struct Html {
    bytes: [u8; HTML_BYTES_MAX],
    len: usize,
}

const BEFORE_TITLE: &str = "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
    <meta name=\"viewport\" content=\"width=device-width\">\n\
    <meta name=\"color-scheme\" content=\"light dark\">\n<title>";
const BEFORE_HEADING: &str = "</title>\n<style>body{font:1.25rem/1.4 system-ui,sans-serif;display:grid;\
    place-content:center;min-height:90vh;margin:0}h1{font-size:1.5rem;font-weight:500}</style>\n<h1>";
const AFTER_HEADING: &str = "</h1>\n";

macro_rules! pages {
    ($($name:ident)*) => { &[$(Page { code: Status::$name.code(), html: Html::of(Status::$name) },)*] };
}

static PAGES: &[Page] = pages! {
    MULTIPLE_CHOICES MOVED_PERMANENTLY FOUND SEE_OTHER TEMPORARY_REDIRECT PERMANENT_REDIRECT
    BAD_REQUEST UNAUTHORIZED FORBIDDEN NOT_FOUND METHOD_NOT_ALLOWED NOT_ACCEPTABLE REQUEST_TIMEOUT CONFLICT GONE
    LENGTH_REQUIRED PRECONDITION_FAILED CONTENT_TOO_LARGE URI_TOO_LONG UNSUPPORTED_MEDIA_TYPE RANGE_NOT_SATISFIABLE
    EXPECTATION_FAILED MISDIRECTED_REQUEST UNPROCESSABLE_CONTENT TOO_MANY_REQUESTS FIELDS_TOO_LARGE
    INTERNAL_SERVER_ERROR NOT_IMPLEMENTED BAD_GATEWAY SERVICE_UNAVAILABLE GATEWAY_TIMEOUT VERSION_NOT_SUPPORTED
};

impl Html {
    /// Evaluated at compile time only: a page that does not fit does not compile.
    const fn of(status: Status) -> Html {
        let code = status.code();
        let digits = [b'0' + (code / 100) as u8, b'0' + (code / 10 % 10) as u8, b'0' + (code % 10) as u8, b' '];
        let empty = Html { bytes: [0; HTML_BYTES_MAX], len: 0 };
        let title = empty.then(BEFORE_TITLE.as_bytes()).then(&digits).then(status.phrase().as_bytes());
        let heading = title.then(BEFORE_HEADING.as_bytes()).then(&digits).then(status.phrase().as_bytes());
        heading.then(AFTER_HEADING.as_bytes())
    }

    const fn then(mut self, text: &[u8]) -> Html {
        let mut at = 0;
        while at < text.len() {
            self.bytes[self.len] = text[at];
            self.len += 1;
            at += 1;
        }
        self
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.split_at(self.len).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_a_page() {
        for status in (400..600).filter_map(Status::from_code).filter(|status| !status.phrase().is_empty()) {
            let text = std::str::from_utf8(page(status)).expect("a page is UTF-8");
            let words = format!("{} {}", status.code(), status.phrase());
            assert!(text.contains(&format!("<title>{words}</title>")), "{status:?}");
            assert!(text.ends_with(&format!("<h1>{words}</h1>\n")), "{status:?}");
        }
    }

    #[test]
    fn a_bodyless_or_unknown_status_has_none() {
        for code in [100, 200, 204, 304, 299, 499, 999] {
            assert_eq!(page(Status::from_code(code).expect("in range")), b"", "{code}");
        }
    }

    #[test]
    fn the_table_is_in_order() {
        assert!(PAGES.is_sorted_by(|one, next| one.code < next.code));
    }
}
