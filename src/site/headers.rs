//! Rules that add fields to the replies of some paths: what caches may do, and whatever else an operator wants said.

use std::borrow::Cow;

use super::pattern::{self, Pattern};
use crate::http::response::write_field;

/// One rule: a pattern, and a field of the replies to the paths that it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pattern: Pattern,
    name: String,
    /// Empty to take the field away.
    value: String,
}

/// The rules of a site. For each field, the last rule whose pattern fits a path holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules(pub Vec<Rule>);

/// The field lines that the rules make for a path, and those that hold without rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lines {
    /// In every reply: of errors and redirects too.
    everywhere: Box<[u8]>,
    /// In those that are about the file's content: 200, 206, 304 (RFC 9110 section 15.4.5).
    caching: Box<[u8]>,
}

/// What holds where no rule says otherwise: a file is what its type says.
const NO_SNIFF: (&str, &str) = ("X-Content-Type-Options", "nosniff");
pub(super) const DEFAULT_LINES: &[u8] = b"X-Content-Type-Options: nosniff\r\n";
const CACHE_CONTROL: &str = "Cache-Control";

/// The longest value of a rule, in bytes.
const VALUE_BYTES_MAX: usize = 8 << 10;

/// The fields that the server itself decides on, and why no rule may.
const OWNED: [(&str, &[&str]); 4] = [
    (
        "the server says how a reply travels",
        &[
            "Connection",
            "Content-Length",
            "Keep-Alive",
            "Proxy-Connection",
            "TE",
            "Trailer",
            "Transfer-Encoding",
            "Upgrade",
            "Date",
            "Server",
            "Via",
        ],
    ),
    (
        "the server says what the content is, by the file and its name",
        &["Accept-Ranges", "Content-Encoding", "Content-Range", "Content-Type", "ETag", "Last-Modified", "Vary"],
    ),
    ("the server says it where it is true", &["Allow", "Location", "Retry-After", "WWW-Authenticate"]),
    ("say it with --cache-control", &["Age", "Cache-Control", "Expires", "Pragma"]),
];

impl Rule {
    /// Reads `PATTERN NAME: VALUE`.
    ///
    /// # Errors
    /// What is wrong with it, for whoever wrote it.
    pub fn header(text: &str) -> Result<Rule, String> {
        let (pattern, field) = split(text, "PATTERN NAME: VALUE, as in '/fonts/ Access-Control-Allow-Origin: *'")?;
        Rule::header_at(pattern, field)
    }

    /// Reads `NAME: VALUE`, for a pattern.
    ///
    /// # Errors
    /// As [`Rule::header`].
    pub fn header_at(pattern: &str, field: &str) -> Result<Rule, String> {
        let Some((name, value)) = field.split_once(':') else {
            return Err(format!("{field} is no field; NAME: VALUE is, as in X-Robots-Tag: noindex"));
        };
        if !is_token(name) {
            return Err(format!("{name:?} is no field name; letters, digits and hyphens are"));
        }
        for (why, names) in OWNED {
            if names.iter().any(|owned| owned.eq_ignore_ascii_case(name)) {
                return Err(format!("{name} cannot be set: {why}"));
            }
        }
        Rule::new(pattern, name, value)
    }

    /// Reads `PATTERN VALUE`, for Cache-Control.
    ///
    /// # Errors
    /// As [`Rule::header`].
    pub fn cache_control(text: &str) -> Result<Rule, String> {
        let (pattern, value) = split(text, "PATTERN VALUE, as in '/assets/ public, max-age=31536000, immutable'")?;
        Rule::cache_control_at(pattern, value)
    }

    /// The same, for a pattern.
    ///
    /// # Errors
    /// As [`Rule::header`].
    pub fn cache_control_at(pattern: &str, value: &str) -> Result<Rule, String> {
        Rule::new(pattern, CACHE_CONTROL, value)
    }

    fn new(pattern: &str, name: &str, value: &str) -> Result<Rule, String> {
        let value = value.trim_matches([' ', '\t']);
        if let Some(bad) = value.chars().find(|&c| !c.is_ascii_graphic() && c != ' ' && c != '\t') {
            return Err(format!("{bad:?} cannot stand in the value of a field"));
        }
        if value.len() > VALUE_BYTES_MAX {
            return Err(format!("a value of {} bytes; {VALUE_BYTES_MAX} are the most", value.len()));
        }
        Ok(Rule { pattern: Pattern::parse(pattern)?, name: name.into(), value: value.into() })
    }
}

/// The pattern, which has no spaces, and what follows it.
fn split<'t>(text: &'t str, needed: &str) -> Result<(&'t str, &'t str), String> {
    let text = text.trim_matches([' ', '\t']);
    match text.split_once([' ', '\t']) {
        // Of a rule without a pattern, this is what to say first.
        Some((pattern, _)) if !pattern.starts_with('/') => Err(pattern::no_slash(pattern)),
        Some((pattern, rest)) => Ok((pattern, rest.trim_matches([' ', '\t']))),
        None => Err(format!("needs {needed}")),
    }
}

fn is_token(name: &str) -> bool {
    // One judge of what a name is: the writer, which writes nothing for what is none.
    write_field(&mut Vec::new(), name, b"")
}

impl Rules {
    /// The lines of the replies to a path (relative to the root, decoded).
    pub fn lines(&self, path: &[u8]) -> Lines {
        let (mut everywhere, mut caching) = (Vec::new(), Vec::new());
        let fitting: Vec<&Rule> = self.0.iter().filter(|rule| rule.pattern.matches(path)).collect();
        let names = |rule: &Rule, name: &str| rule.name.eq_ignore_ascii_case(name);
        if !fitting.iter().any(|rule| names(rule, NO_SNIFF.0)) {
            write_field(&mut everywhere, NO_SNIFF.0, NO_SNIFF.1.as_bytes());
        }
        for (index, rule) in fitting.iter().enumerate() {
            let is_overruled = fitting[index + 1..].iter().any(|later| names(later, &rule.name));
            if !is_overruled && !rule.value.is_empty() {
                let out = if rule.name == CACHE_CONTROL { &mut caching } else { &mut everywhere };
                write_field(out, &rule.name, rule.value.as_bytes());
            }
        }
        Lines { everywhere: everywhere.into(), caching: caching.into() }
    }
}

impl Lines {
    /// For every reply.
    pub fn everywhere(&self) -> &[u8] {
        &self.everywhere
    }

    /// For those about the content.
    pub fn caching(&self) -> &[u8] {
        &self.caching
    }
}

impl Default for Lines {
    /// Without rules.
    fn default() -> Lines {
        Lines { everywhere: DEFAULT_LINES.into(), caching: Box::default() }
    }
}

/// Where a request was asked, for replies that are not about a file.
#[derive(Clone, Copy, Debug)]
pub struct Place<'p> {
    /// The rules of the site.
    pub rules: &'p Rules,
    /// The path, relative to the root and decoded.
    pub path: &'p [u8],
}

impl Place<'_> {
    /// The lines there, for every reply.
    pub(super) fn lines(&self) -> Cow<'static, [u8]> {
        match self.rules.0.is_empty() {
            true => Cow::Borrowed(DEFAULT_LINES),
            false => Cow::Owned(self.rules.lines(self.path).everywhere.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(headers: &[&str], cache_control: &[&str]) -> Rules {
        let headers = headers.iter().map(|text| Rule::header(text).expect(text));
        Rules(headers.chain(cache_control.iter().map(|text| Rule::cache_control(text).expect(text))).collect())
    }

    fn shown(lines: &[u8]) -> String {
        String::from_utf8_lossy(lines).replace("\r\n", "|")
    }

    #[test]
    fn the_last_rule_that_fits_holds() {
        let rules = rules(
            &["/ X-A: all", "/a/ X-A: a", "/a/b.html x-a: b", "/a/ X-B: 1", "/c/ X-A:"],
            &["/ no-cache", "/**/*.css public, max-age=60", "/c/ no-store"],
        );
        for (path, everywhere, caching) in [
            ("x", "X-Content-Type-Options: nosniff|X-A: all|", "Cache-Control: no-cache|"),
            ("a/x", "X-Content-Type-Options: nosniff|X-A: a|X-B: 1|", "Cache-Control: no-cache|"),
            ("a/b.html", "X-Content-Type-Options: nosniff|x-a: b|X-B: 1|", "Cache-Control: no-cache|"),
            ("a/x.css", "X-Content-Type-Options: nosniff|X-A: a|X-B: 1|", "Cache-Control: public, max-age=60|"),
            ("c/x", "X-Content-Type-Options: nosniff|", "Cache-Control: no-store|"),
        ] {
            let lines = rules.lines(path.as_bytes());
            assert_eq!(
                (shown(lines.everywhere()), shown(lines.caching())),
                (everywhere.into(), caching.into()),
                "{path}"
            );
        }
        assert_eq!(shown(Lines::default().everywhere()), "X-Content-Type-Options: nosniff|");
        assert_eq!(shown(Lines::default().caching()), "");
        assert_eq!(Lines::default(), Rules::default().lines(b"a"));
    }

    #[test]
    fn nosniff_can_be_replaced_and_taken_away() {
        let rules = rules(&["/a/ X-Content-Type-Options:", "/b/ x-content-type-options: other"], &[]);
        assert_eq!(shown(rules.lines(b"a/x").everywhere()), "");
        assert_eq!(shown(rules.lines(b"b/x").everywhere()), "x-content-type-options: other|");
    }

    #[test]
    fn what_could_break_a_reply_is_refused() {
        for (text, why) in [
            ("/", "needs PATTERN NAME: VALUE"),
            ("/ X-A", "X-A is no field"),
            ("X-A: b", "must begin with a slash"),
            ("X-A:  /a b", "must begin with a slash"),
            ("/ X A: b", "no field name"),
            ("/ X-A : b", "no field name"),
            ("/ : b", "no field name"),
            ("/ X\u{e9}: b", "no field name"),
            ("/ X-A: b\r\nX-B: c", "cannot stand in the value"),
            ("/ X-A: b\0", "cannot stand in the value"),
            ("/ X-A: \u{e9}", "cannot stand in the value"),
            ("/[a] X-A: b", "%5B"),
            ("/ Content-Length: 5", "the server says how a reply travels"),
            ("/ transfer-encoding: chunked", "the server says how a reply travels"),
            ("/ Content-Type: text/html", "what the content is"),
            ("/ VARY: Origin", "what the content is"),
            ("/ Location: /", "where it is true"),
            ("/ Cache-Control: no-store", "--cache-control"),
        ] {
            let error = Rule::header(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(Rule::cache_control("/").is_err_and(|error| error.contains("needs PATTERN VALUE")));
        assert!(Rule::cache_control("/ a\nb").is_err());
        assert!(Rule::header(&format!("/ X-A: {}", "x".repeat(8193))).is_err_and(|error| error.contains("8192")));
    }
}
