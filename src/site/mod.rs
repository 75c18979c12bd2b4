//! Policy: a request and the facts about what it names become a reply. Pure: no I/O, no clock, no descriptors.
//!
//! - [`select`] picks the [`Site`] of a host, [`route::route`] what kind of answer a request gets there.
//! - [`representation`] knows the forms in which a file is there: as it is, and compressed beforehand.
//! - [`headers`] are the fields that an operator wants in the replies to some paths, by [`pattern`].
//! - [`static_file::static_file`] turns the facts about a file into a [`reply::Reply`], which says exactly what to
//!   send.
//! - [`cgi_env`] says what a script is told, [`cgi_reply`] what its output means.
//! - [`log_line`] says what is written down about it.
#![forbid(unsafe_code)]

pub mod cgi_env;
pub mod cgi_reply;

pub mod headers;
pub mod log_line;
pub mod mime;
pub mod pattern;
pub mod reply;
pub mod representation;
pub mod route;
pub mod script;
pub mod static_file;

mod page;

#[cfg(test)]
mod testing;

/// What is served under some host names. Pure data: the root itself, and the targets of the mounts, are descriptors
/// that `serve` keeps beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Site {
    /// The host names, without port; compared without case. A site without names answers for every host that no other
    /// site names.
    pub names: Vec<String>,
    /// Raised by each deploy and reload: a part of every cache key.
    pub generation: u32,
    /// Where scripts are run.
    pub mounts: Vec<Mount>,
    /// Everything else.
    pub options: SiteOptions,
}

/// A part of the path space whose requests are answered by scripts. Nothing under it is ever served as a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The decoded path, with its first slash and without a final one: `/cgi-bin`; empty to mount at the root.
    pub prefix: String,
    /// What stands there.
    pub kind: MountKind,
    /// Variables for the scripts of this mount; they win over those of the site.
    pub env: Vec<(String, String)>,
    /// Whether scripts get the Authorization field. Off by default: a password is not every script's business (RFC 3875
    /// section 9.2).
    pub pass_authorization: bool,
}

/// What a [`Mount`] mounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountKind {
    /// A folder of scripts: the first components of the rest of the path name one, what follows is its PATH_INFO.
    Folder,
    /// One program, which gets the whole rest of the path as PATH_INFO.
    Program,
}

/// The settings of a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteOptions {
    /// The file that stands for a path that ends in a slash.
    pub index: String,
    /// Variables for the scripts of all mounts.
    pub env: Vec<(String, String)>,
    /// Path prefixes that are answered 404, written as [`Mount::prefix`] is; a mount of the same or a longer prefix is
    /// not hidden.
    pub hidden: Vec<String>,
    /// Whether a compressed sibling of a file (`a.css.br`) is sent in its place to a client that takes it.
    pub precompressed: bool,
    /// Fields of the replies to some paths.
    pub headers: headers::Rules,
}

impl Default for SiteOptions {
    fn default() -> SiteOptions {
        SiteOptions {
            index: "index.html".into(),
            env: Vec::new(),
            hidden: Vec::new(),
            precompressed: true,
            headers: headers::Rules::default(),
        }
    }
}

/// The index of the site that answers for a host (a Host field's value, with or without a port): the first that names
/// it, else the first without names, else the first.
pub fn select(sites: &[Site], host: &[u8]) -> usize {
    // One site is the common case, and its names cannot change the answer.
    if sites.len() < 2 {
        return 0;
    }
    let name = host_name(host);
    let named = |site: &Site| site.names.iter().any(|other| host_name(other.as_bytes()).eq_ignore_ascii_case(name));
    let by_name = if name.is_empty() { None } else { sites.iter().position(named) };
    by_name.or_else(|| sites.iter().position(|site| site.names.is_empty())).unwrap_or(0)
}

/// The name in a host: without port, without the final dot of an absolute name, an IPv6 literal with its brackets.
pub fn host_name(host: &[u8]) -> &[u8] {
    let name = match host.iter().position(|byte| *byte == b']') {
        Some(end) if host.starts_with(b"[") => &host[..=end],
        _ => host.split(|byte| *byte == b':').next().unwrap_or(host),
    };
    name.strip_suffix(b".").unwrap_or(name)
}

/// The digits of a number, in the end of a buffer that holds the longest.
fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[start..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(names: &[&str]) -> Site {
        Site { names: names.iter().map(|name| (*name).into()).collect(), ..Site::default() }
    }

    #[test]
    fn select_by_host() {
        let sites = [site(&["example.com", "www.example.com"]), site(&["[2001:db8::1]", "other.example"]), site(&[])];
        let cases: [(&[u8], usize); 14] = [
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
        ];
        for (host, expected) in cases {
            assert_eq!(select(&sites, host), expected, "{}", host.escape_ascii());
        }
    }

    #[test]
    fn select_falls_back_to_the_first() {
        assert_eq!(select(&[site(&["a"]), site(&["b"])], b"c"), 0);
        assert_eq!(select(&[site(&["a"])], b"b"), 0);
        assert_eq!(select(&[], b"b"), 0);
    }

    #[test]
    fn decimals() {
        for number in [0, 9, 10, 12_345, u64::MAX] {
            assert_eq!(decimal(number, &mut [0; 20]), number.to_string().as_bytes());
        }
    }
}
