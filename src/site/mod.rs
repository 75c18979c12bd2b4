//! Policy: a request and the facts about what it names become a reply. Pure: no I/O, no clock, no descriptors.
//!
//! - [`host`] finds the [`Site`] of a host, [`route::route`] what kind of answer a request gets there; [`location`] is what holds
//!   for some of its paths only, [`auth`] and [`htpasswd`] who may have what is there.
//! - [`representation`] knows the forms in which a file is there: as it is, and compressed beforehand.
//! - [`resolve`] says where to look for the answer, and what to make of what was found; [`pages`] are what a site has
//!   besides its files, [`listing`] is one of them.
//! - [`headers`] are the fields that an operator wants in the replies to some paths, by [`pattern`].
//! - [`static_file::static_file`] turns the facts about a file into a [`reply::Reply`], which says exactly what to
//!   send.
//! - [`cgi_env`] says what a script is told, [`cgi_reply`] what its output means.
//! - [`log_line`] says what is written down about it.
#![forbid(unsafe_code)]

pub mod auth;
pub mod cgi_env;
pub mod cgi_reply;
#[doc(hidden)]
pub mod fuzzing;
pub mod headers;
pub mod host;
pub mod htpasswd;
pub mod listing;
pub mod location;
pub mod log_line;
pub mod mime;
pub mod pages;
pub mod pattern;
pub mod reply;
pub mod representation;
pub mod resolve;
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
    /// The host names, without port, perhaps with `*.` before them; compared without case. A site without names answers for
    /// every host that no other site names ([`host::Hosts`]).
    pub names: Vec<String>,
    /// Raised by each deploy and reload: a part of every cache key.
    pub generation: u32,
    /// Where scripts are run.
    pub mounts: Vec<Mount>,
    /// Everything else.
    pub options: SiteOptions,
    /// What holds for some paths only; the last that says something about a path is believed.
    pub locations: Vec<location::Location>,
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
    /// What it answers with besides its files.
    pub pages: pages::Pages,
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
            pages: pages::Pages::default(),
            headers: headers::Rules::default(),
        }
    }
}

pub use host::host_name;

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

    #[test]
    fn decimals() {
        for number in [0, 9, 10, 12_345, u64::MAX] {
            assert_eq!(decimal(number, &mut [0; 20]), number.to_string().as_bytes());
        }
    }
}
