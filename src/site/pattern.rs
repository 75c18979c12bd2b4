//! Patterns for the paths of a site: `/assets/`, `/*.html`, `/**/*.wasm`.

/// A pattern. It stands for paths relative to the root, decoded, as files have them.
///
/// `*` is any part of a segment, `**` anything at all, and `/**/` any number of whole segments, none too. A slash at the end
/// is the folder and everything below it. Everything else is what it is; what means something is written as in a URL,
/// `%2A`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    tokens: Vec<Token>,
    /// It ends in a slash.
    takes_below: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Text(Vec<u8>),
    /// `*`
    Star,
    /// `**`
    Deep,
    /// `**/` at the start of a segment.
    Segments,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it, for whoever wrote it.
    pub fn parse(text: &str) -> Result<Pattern, String> {
        let Some(mut rest) = text.strip_prefix('/') else {
            return Err(no_slash(text));
        };
        if text.contains("//") {
            return Err("no path has two slashes in a row".into());
        }
        let takes_below = rest.is_empty() || rest.ends_with('/');
        let mut tokens = Vec::new();
        let mut literal = Vec::new();
        let mut starts_segment = true;
        if takes_below {
            rest = rest.strip_suffix('/').unwrap_or(rest);
        }
        while let Some(first) = rest.chars().next() {
            let wildcard = match first {
                '*' if starts_segment && rest.starts_with("**/") => Some((Token::Segments, 3)),
                '*' if rest.starts_with("**") => Some((Token::Deep, 2)),
                '*' => Some((Token::Star, 1)),
                _ => None,
            };
            let len = match (wildcard, first) {
                (Some((token, len)), _) => {
                    tokens.extend((!literal.is_empty()).then(|| Token::Text(std::mem::take(&mut literal))));
                    starts_segment = token == Token::Segments;
                    tokens.push(token);
                    rest = &rest[len..];
                    continue;
                }
                (None, '?' | '#' | '[' | ']' | '{' | '}' | '\\') => {
                    return Err(format!(
                        "{first} means nothing in a pattern; as itself it is %{:02X}",
                        u32::from(first)
                    ));
                }
                (None, '%') => {
                    literal.push(escaped(rest)?);
                    3
                }
                (None, _) => {
                    literal.extend_from_slice(&rest.as_bytes()[..first.len_utf8()]);
                    first.len_utf8()
                }
            };
            starts_segment = first == '/';
            rest = &rest[len..];
        }
        tokens.extend((!literal.is_empty()).then_some(Token::Text(literal)));
        Ok(Pattern { tokens, takes_below })
    }

    /// Whether it stands for a path.
    ///
    /// A star that has taken too little takes one byte more, and where it may not, the last `**` does. What comes before
    /// those never has to be tried again: it has taken as little as it could, and left the most.
    pub fn matches(&self, path: &[u8]) -> bool {
        let (mut token, mut at) = (0, 0);
        let (mut star, mut deep): (Option<Retry>, Option<Retry>) = (None, None);
        loop {
            match self.tokens.get(token) {
                None if at == path.len() || self.takes_below && (at == 0 || path[at] == b'/') => return true,
                Some(Token::Text(text)) if path[at..].starts_with(text) => (token, at) = (token + 1, at + text.len()),
                Some(Token::Star) => {
                    token += 1;
                    star = Some(Retry { token, at });
                }
                Some(Token::Deep | Token::Segments) => {
                    token += 1;
                    (star, deep) = (None, Some(Retry { token, at }));
                }
                None | Some(Token::Text(_)) => {
                    let again = match star.take().and_then(|star| star.one_byte_on(path)) {
                        Some(again) => star.insert(again),
                        None => match deep.take().and_then(|deep| deep.on(&self.tokens, path)) {
                            Some(again) => deep.insert(again),
                            None => return false,
                        },
                    };
                    (token, at) = (again.token, again.at);
                }
            }
        }
    }
}

/// Where to go on when what follows a wildcard does not match.
#[derive(Clone, Copy)]
struct Retry {
    /// What follows it.
    token: usize,
    /// What it has taken ends here.
    at: usize,
}

impl Retry {
    /// Within the segment.
    fn one_byte_on(self, path: &[u8]) -> Option<Retry> {
        path.get(self.at).filter(|byte| **byte != b'/').map(|_| Retry { at: self.at + 1, ..self })
    }

    /// By a byte, or a segment.
    fn on(self, tokens: &[Token], path: &[u8]) -> Option<Retry> {
        let rest = path.get(self.at..)?;
        let taken = match tokens[self.token - 1] {
            Token::Segments => rest.iter().position(|byte| *byte == b'/')? + 1,
            _ => rest.first().map(|_| 1)?,
        };
        Some(Retry { at: self.at + taken, ..self })
    }
}

pub(super) fn no_slash(text: &str) -> String {
    format!("{text} is no pattern of paths; it must begin with a slash")
}

/// The byte that `%` and two digits stand for.
fn escaped(text: &str) -> Result<u8, String> {
    let digits = text.get(1..3).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
        Some(b'/' | 0) => Err("no path has a slash or a NUL inside of a segment".into()),
        Some(byte) => Ok(byte),
        None => Err("% must be followed by two hexadecimal digits; as itself it is %25".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let cases: [(&str, &[&str], &[&str]); 17] = [
            ("/", &["", "a", "a/b", ".well-known/x"], &[]),
            ("/**", &["", "a", "a/b"], &[]),
            ("/a.html", &["a.html"], &["a.htm", "b/a.html", "a.html/", "a.htmlx", "A.html", ""]),
            ("/assets/", &["assets", "assets/", "assets/a", "assets/a/b"], &["assetsx", "a/assets/b", "asset"]),
            ("/assets/**", &["assets/a", "assets/a/b"], &["assets", "assetsx/a"]),
            ("/*", &["a", "a.html", ""], &["a/b"]),
            ("/*.html", &["a.html", ".html", "a.b.html"], &["a/b.html", "a.htmlx", "html"]),
            ("/**/*.css", &["a.css", "a/b.css", "a/b/c.css"], &["a.css/b", "acss"]),
            ("/**.css", &["a.css", "a/b.css"], &["a.css/b"]),
            ("/a/**/z", &["a/z", "a/b/z", "a/b/c/z"], &["a/bz", "az", "a/z/b", "xa/z"]),
            ("/a*b*c", &["abc", "axbxc", "abbbc", "abcbc"], &["ab/c", "a/bc", "abcd", "ac"]),
            ("/**a*b", &["a/ab", "aab", "x/y/axxb"], &["a/b", "ab/"]),
            ("/*/img/", &["x/img", "x/img/a.png"], &["img/a.png", "x/y/img/a.png", "x/imgs"]),
            ("/a%20b%25%2A", &["a b%*"], &["a%20b%25%2A", "a b%xx"]),
            ("/\u{e9}/*", &["\u{e9}/a", "\u{e9}/\u{e9}"], &["e/a", "\u{e9}"]),
            ("/*\u{e9}", &["caf\u{e9}", "\u{e9}"], &["cafe"]),
            ("/**/", &["a/b", "a/", "a"], &[]),
        ];
        for (pattern, yes, no) in cases {
            let parsed = Pattern::parse(pattern).expect(pattern);
            yes.iter().for_each(|path| assert!(parsed.matches(path.as_bytes()), "{pattern} is {path:?}"));
            no.iter().for_each(|path| assert!(!parsed.matches(path.as_bytes()), "{pattern} is not {path:?}"));
        }
    }

    #[test]
    fn what_is_no_pattern() {
        for (text, why) in [
            ("", "must begin with a slash"),
            ("a/b", "must begin with a slash"),
            ("*.css", "must begin with a slash"),
            ("/a//b", "two slashes"),
            ("/a?b", "? means nothing in a pattern; as itself it is %3F"),
            ("/a.{css,js}", "%7B"),
            ("/[ab]", "%5B"),
            ("/a\\b", "%5C"),
            ("/a%2", "two hexadecimal digits"),
            ("/a%zz", "two hexadecimal digits"),
            ("/a%\u{e9}", "two hexadecimal digits"),
            ("/a%2Fb", "no path has a slash"),
            ("/%00", "NUL"),
        ] {
            let error = Pattern::parse(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    /// As slow as it can be made, and still no slower than the product of both lengths.
    #[test]
    fn no_path_takes_long() {
        let pattern = Pattern::parse(&format!("/{}x", "**a*a".repeat(20))).expect("a pattern");
        assert!(!pattern.matches(&b"a/".repeat(4_000)));
        assert!(!pattern.matches(&b"a".repeat(8_000)));
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(4_000))]

        /// What is found by taking as little as possible is what is found by trying everything.
        #[test]
        fn it_finds_what_trying_everything_finds(
            tokens in proptest::collection::vec(proptest::sample::select(vec!["a", "b", "/", "*", "**", "/**/", "**/"]), 0..7),
            path in proptest::collection::vec(proptest::sample::select(b"ab/".to_vec()), 0..9),
        ) {
            let mut text = format!("/{}", tokens.concat());
            while text.contains("//") {
                text = text.replace("//", "/");
            }
            let pattern = Pattern::parse(&text).expect("a pattern");
            let tried = try_everything(&pattern.tokens, &path, pattern.takes_below, true);
            assert_eq!(pattern.matches(&path), tried, "{text} and {}", path.escape_ascii());
        }
    }

    fn try_everything(tokens: &[Token], path: &[u8], takes_below: bool, is_start: bool) -> bool {
        let on = |tokens: &[Token], taken: usize| {
            try_everything(tokens, &path[taken..], takes_below, is_start && taken == 0)
        };
        let mut ends = 0..=path.len();
        match tokens {
            [] => path.is_empty() || takes_below && (is_start || path[0] == b'/'),
            [Token::Text(text), rest @ ..] => path.starts_with(text) && on(rest, text.len()),
            [Token::Star, rest @ ..] => ends.any(|end| !path[..end].contains(&b'/') && on(rest, end)),
            [Token::Deep, rest @ ..] => ends.any(|end| on(rest, end)),
            [Token::Segments, rest @ ..] => ends.any(|end| (end == 0 || path[end - 1] == b'/') && on(rest, end)),
        }
    }
}
