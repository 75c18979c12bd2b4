//! What a file says: about the server and its default site at the top, about hosts in `[[host]]`, about some paths of a site in
//! `[[location]]`. Still text, with its places.

use super::settings::{self, Group};
use super::sources::{Given, Layer};
use super::{LIMITS, Limit};

/// A file.
#[derive(Debug, Default)]
pub(crate) struct Document {
    /// What stands above all tables, and what is about the site that answers for hosts without a name here.
    pub(crate) top: Scope,
    pub(crate) hosts: Vec<HostTable>,
}

/// What is said about one site.
#[derive(Debug, Default)]
pub(crate) struct Scope {
    pub(crate) layer: Layer,
    pub(crate) auth: Option<AuthTable>,
    pub(crate) locations: Vec<LocationTable>,
}

/// `[[host]]`
#[derive(Debug)]
pub(crate) struct HostTable {
    /// Where it begins.
    pub(crate) at: Given,
    pub(crate) names: Vec<Given>,
    pub(crate) scope: Scope,
}

/// `[[location]]`, `[[host.location]]`
#[derive(Debug)]
pub(crate) struct LocationTable {
    pub(crate) pattern: Given,
    pub(crate) layer: Layer,
    pub(crate) auth: Option<AuthTable>,
}

/// `[auth]`, or `auth = false`
#[derive(Debug)]
pub(crate) enum AuthTable {
    Off(Given),
    On { at: Given, htpasswd: Option<Given>, realm: Option<Given> },
}

/// Where a key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Top,
    Host,
    Location,
}

impl Level {
    /// The keys that are understood there, as they are written in a file.
    pub(crate) fn keys(self) -> impl Iterator<Item = String> {
        let tables: &[&str] = match self {
            Level::Top => &["auth", "location", "host"],
            Level::Host => &["auth", "location", "names"],
            Level::Location => &["auth", "pattern"],
        };
        settings::names()
            .filter(move |name| self.has(name))
            .map(settings::key)
            .chain(tables.iter().map(|key| (*key).into()))
    }

    /// Whether a setting can be said there.
    pub(crate) fn has(self, name: &str) -> bool {
        match self {
            Level::Top => true,
            Level::Host => is_of_site(name),
            Level::Location => is_of_location(name),
        }
    }

    /// Why it cannot be said there, and where it can.
    pub(crate) fn misplaced(self, name: &str) -> &'static str {
        match self {
            Level::Location if is_of_site(name) => {
                "is about a whole site; say it above the [[location]], at the top of the file or of the [[host]]"
            }
            _ => "is about the whole server; say it above the first table of the file",
        }
    }
}

/// Whether it is about one site, so that each host has its own.
pub(crate) fn is_of_site(name: &str) -> bool {
    const OF_SITE: &[&str] = &[
        "path",
        "cache-control",
        "header",
        "no-precompressed",
        "listing",
        "clean-urls",
        "spa-fallback",
        "error-page",
        "cgi",
        "no-cgi",
        "cgi-env",
        "cgi-pass-authorization",
        "cgi-mount-running-max",
        "cgi-mount-queued-max",
    ];
    OF_SITE.contains(&name)
}

/// Whether it may be different for some paths of a site.
pub(crate) fn is_of_location(name: &str) -> bool {
    let is_file_wide = matches!(name, "path" | "no-cgi" | "no-precompressed");
    is_of_site(name) && !is_file_wide || is_of_programs(name)
}

/// Whether it is about how programs are run, so that each mount has its own.
pub(crate) fn is_of_programs(name: &str) -> bool {
    matches!(name, "cgi-linger" | "cgi-nice" | "cgi-umask" | "cgi-user")
        || limits_of_programs().any(|limit| limit.name == name)
}

/// The limits of one program; those of all together are the server's.
pub(crate) fn limits_of_programs() -> impl Iterator<Item = &'static Limit> {
    let of_all = |limit: &&Limit| matches!(limit.name, "cgi-running-max" | "cgi-queued-max");
    LIMITS.iter().filter(|limit| limit.group == Group::CgiLimits).filter(move |limit| !of_all(limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_a_table_is_a_setting() {
        for name in ["path", "header", "cgi-linger", "cgi-idle-ms-max", "no-cgi"] {
            assert!(settings::names().any(|known| known == name), "{name}");
        }
        let of_site = settings::names().filter(|name| is_of_site(name)).count();
        assert_eq!(of_site, 14, "each name in the list is one of the settings");
        assert!(is_of_location("cgi-idle-ms-max") && !is_of_location("cgi-running-max") && !is_of_location("port"));
        assert!(Level::Host.keys().any(|key| key == "names") && !Level::Host.keys().any(|key| key == "port"));
    }
}
