//! Which site answers for which host.

use super::Site;

/// The names of some sites, in the order in which they are looked for. Finding one allocates nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    /// Whole names.
    exact: Names,
    /// What follows the star of `*.example.org`, without the dot.
    below: Names,
    /// What answers for every other host.
    default: usize,
}

/// Names in lower case, sorted, each with the index of its site.
type Names = Vec<(Box<[u8]>, usize)>;

/// The longest name that a host may have (RFC 1035 section 2.3.4), and an IPv6 literal's brackets.
const NAME_BYTES_MAX: usize = 255;

impl Hosts {
    /// Of one name the first site that has it answers; the first without names answers for all others, or else the first.
    pub fn new<'s>(sites: impl IntoIterator<Item = &'s Site>) -> Hosts {
        let (mut hosts, mut nameless) = (Hosts::default(), None);
        for (index, site) in sites.into_iter().enumerate() {
            if site.names.is_empty() {
                nameless = nameless.or(Some(index));
            }
            for name in &site.names {
                let name = host_name(name.as_bytes()).to_ascii_lowercase();
                match name.strip_prefix(b"*.") {
                    Some(below) => hosts.below.push((below.into(), index)),
                    None => hosts.exact.push((name.into(), index)),
                }
            }
        }
        for names in [&mut hosts.exact, &mut hosts.below] {
            names.sort();
            names.dedup_by(|later, first| later.0 == first.0);
        }
        hosts.default = nameless.unwrap_or(0);
        hosts
    }

    /// The index of the site that answers for a host (a Host field's value, with or without a port). A whole name comes before
    /// a wildcard, and a longer wildcard before a shorter one; case and port mean nothing.
    pub fn find(&self, host: &[u8]) -> usize {
        if self.exact.is_empty() && self.below.is_empty() {
            return self.default;
        }
        let name = host_name(host);
        let mut room = [0; NAME_BYTES_MAX];
        let Some(lower) = room.get_mut(..name.len()) else { return self.default };
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        let lower = &*lower;
        look_up(&self.exact, lower).or_else(|| self.find_below(lower)).unwrap_or(self.default)
    }

    fn find_below(&self, name: &[u8]) -> Option<usize> {
        if self.below.is_empty() {
            return None;
        }
        // A star stands for one character at least.
        let dots = name.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'.');
        dots.map(|(at, _)| &name[at + 1..]).find_map(|below| look_up(&self.below, below))
    }
}

fn look_up(names: &Names, name: &[u8]) -> Option<usize> {
    let found = names.binary_search_by(|(other, _)| (**other).cmp(name)).ok()?;
    Some(names[found].1)
}

/// The name in a host: without port, without the final dot of an absolute name, an IPv6 literal with its brackets.
pub fn host_name(host: &[u8]) -> &[u8] {
    let name = match host.iter().position(|byte| *byte == b']') {
        Some(end) if host.starts_with(b"[") => &host[..=end],
        _ => host.split(|byte| *byte == b':').next().unwrap_or(host),
    };
    name.strip_suffix(b".").unwrap_or(name)
}

/// Reads the name of a site: a host name, one with `*.` before it, or the literal of an address. It comes back in lower case.
///
/// # Errors
/// What is wrong with it, for whoever wrote it.
pub fn parse_name(text: &str) -> Result<String, String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let below = name.strip_prefix("*.").unwrap_or(&name);
    if name == "*" {
        return Err("it is every name; what no host names is the site at the top of the file".into());
    }
    if below.starts_with('[') {
        let address = below.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let is_address = address.is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
        return if is_address && below.len() == name.len() {
            Ok(name)
        } else {
            Err("not an IPv6 address; write [2001:db8::1], without a port".into())
        };
    }
    let what = match below {
        "" => "an empty name",
        below if below.contains("://") || below.contains('/') => {
            "a URL or a path; write the name alone, as in example.org"
        }
        below if below.contains(':') => "a name has no port: a host is the same on each; write example.org, or [::1]",
        below if below.contains('*') => "a star stands for whole labels at the start, as in *.example.org",
        below if !below.is_ascii() => "a name in a browser is ASCII: write its xn-- form (punycode)",
        below if below.len() > 253 => "longer than the 253 characters of a host name",
        below if below.split('.').any(str::is_empty) => "an empty label between two dots",
        below if !below.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) => {
            "letters, digits, hyphens and dots make a host name"
        }
        _ => return Ok(name),
    };
    Err(what.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(names: &[&str]) -> Site {
        Site { names: names.iter().map(|name| (*name).into()).collect(), ..Site::default() }
    }

    #[test]
    fn a_host_has_its_site() {
        let sites = [
            site(&["example.com", "www.example.com"]),
            site(&["[2001:db8::1]", "other.example"]),
            site(&[]),
            site(&["*.example.com", "*.deep.example.com"]),
            site(&["*.very.deep.example.com", "exact.deep.example.com"]),
        ];
        let hosts = Hosts::new(&sites);
        let cases: [(&[u8], usize); 24] = [
            (b"example.com", 0),
            (b"EXAMPLE.com", 0),
            (b"www.example.com:8080", 0),
            (b"example.com.", 0),
            (b"example.com.:80", 0),
            (b"other.example", 1),
            (b"[2001:DB8::1]", 1),
            (b"[2001:db8::1]:8080", 1),
            (b"[2001:db8::2]", 2),
            (b"evil.example.com.evil", 2),
            (b"xexample.com", 2),
            (b"", 2),
            (b":8080", 2),
            (b"[", 2),
            (b"a.example.com", 3),
            (b"a.b.EXAMPLE.com:1", 3),
            (b".example.com", 2),
            (b"..example.com", 3),
            (b"x.deep.example.com", 3),
            (b"exact.deep.example.com", 4),
            (b"x.exact.deep.example.com", 3),
            (b"very.deep.example.com", 3),
            (b"a.very.deep.example.com", 4),
            (&[b'a'; 300], 2),
        ];
        for (host, expected) in cases {
            assert_eq!(hosts.find(host), expected, "{}", host.escape_ascii());
        }
    }

    #[test]
    fn without_a_default_it_is_the_first() {
        assert_eq!(Hosts::new(&[site(&["a"]), site(&["b"])]).find(b"c"), 0);
        assert_eq!(Hosts::new(&[site(&["a"])]).find(b"b"), 0);
        assert_eq!(Hosts::new(&[]).find(b"b"), 0);
        assert_eq!(Hosts::new(&[site(&["a"]), site(&["a", "b"])]).find(b"a"), 0, "the first has the name");
    }

    #[test]
    fn names_as_people_write_them() {
        for (text, name) in [
            ("Example.ORG", "example.org"),
            ("example.org.", "example.org"),
            ("*.Example.org", "*.example.org"),
            ("localhost", "localhost"),
            ("127.0.0.1", "127.0.0.1"),
            ("[2001:DB8::1]", "[2001:db8::1]"),
            ("my_host-1.xn--bcher-kva.example", "my_host-1.xn--bcher-kva.example"),
        ] {
            assert_eq!(parse_name(text).as_deref(), Ok(name), "{text}");
        }
        for (text, why) in [
            ("", "an empty name"),
            (".", "an empty name"),
            ("*.", "every name"),
            ("*", "every name"),
            ("http://example.org", "a URL"),
            ("example.org/x", "a URL or a path"),
            ("example.org:80", "no port"),
            ("::1", "[::1]"),
            ("[::1]:80", "without a port"),
            ("*.[::1]", "not an IPv6 address"),
            ("a.*.org", "at the start"),
            ("*x.org", "at the start"),
            ("b\u{fc}cher.example", "punycode"),
            ("a..b", "an empty label"),
            (".a", "an empty label"),
            ("a b", "letters, digits"),
        ] {
            let error = parse_name(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(parse_name(&"a.".repeat(130)).is_err_and(|error| error.contains("253")));
    }

    proptest::proptest! {
        /// What is found is what the words of the documentation say, tried one by one.
        #[test]
        fn it_finds_what_the_rule_says(
            names in proptest::collection::vec(proptest::sample::select(
                vec!["a", "b.a", "*.a", "*.b.a", "c.b.a", "*.c"]), 0..4),
            host in proptest::collection::vec(proptest::sample::select(vec!["a", "b", "c", "A", ""]), 1..5),
        ) {
            let sites: Vec<Site> = std::iter::once(site(&[])).chain(names.iter().map(|name| site(&[name]))).collect();
            let host = host.join(".");
            assert_eq!(Hosts::new(&sites).find(host.as_bytes()), by_the_rule(&sites, &host), "{host} in {names:?}");
        }
    }

    fn by_the_rule(sites: &[Site], host: &str) -> usize {
        let host = host.strip_suffix('.').unwrap_or(host).to_lowercase();
        let score = |name: &str| match name.strip_prefix('*') {
            None => (name == host).then_some(usize::MAX),
            Some(below) => (host.len() > below.len() && host.ends_with(below)).then_some(below.len()),
        };
        let scores = sites.iter().enumerate().filter_map(|(at, site)| Some((score(site.names.first()?)?, at)));
        scores.reduce(|best, other| if other.0 > best.0 { other } else { best }).map_or(0, |(_, at)| at)
    }
}
