//! Everything that can be said apart from the limits, and the three names that each thing has.

use super::limits::LIMITS;

/// Headings of the help, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    Serving,
    Files,
    Cgi,
    RequestLimits,
    ConnectionLimits,
    CgiLimits,
    FileLimits,
    LogLimits,
}

/// One thing that can be said, which is not a limit.
pub(crate) struct Setting {
    /// As a flag, without the dashes before it.
    pub(crate) name: &'static str,
    pub(crate) short: Option<char>,
    pub(crate) alias: Option<&'static str>,
    pub(crate) kind: Kind,
    pub(crate) group: Group,
    pub(crate) help: &'static str,
    /// What `--help` adds; empty for nothing.
    pub(crate) more: &'static str,
    /// What holds when nothing is said, in words.
    pub(crate) default: &'static str,
}

/// How often it may be said, and with what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Switch,
    One(&'static str),
    Many(&'static str),
    /// As `Many`, of values that may hold semicolons.
    Lines(&'static str),
}

const VARIABLE_PREFIX: &str = "UCAFFEINE_";

pub(crate) static SETTINGS: &[Setting] = &[
    Setting {
        name: "path",
        short: None,
        alias: None,
        kind: Kind::One("DIR"),
        group: Group::Serving,
        help: "Serve this folder; the same as DIR",
        more: "",
        default: "the current folder",
    },
    Setting {
        name: "port",
        short: Some('p'),
        alias: None,
        kind: Kind::One("PORT"),
        group: Group::Serving,
        help: "Listen on this port; 0 takes a free one and prints it",
        more: "It goes with every --bind that names no port of its own.",
        default: "8080",
    },
    Setting {
        name: "bind",
        short: Some('b'),
        alias: None,
        kind: Kind::Many("ADDR"),
        group: Group::Serving,
        help: "Listen on this address; may be repeated",
        more: "An IPv4 or IPv6 address, with or without a port (0.0.0.0, [::1]:9000), or unix:PATH. 0.0.0.0 and [::] are every \
               address of this machine. Host names are not looked up.",
        default: "127.0.0.1",
    },
    Setting {
        name: "cores",
        short: Some('w'),
        alias: Some("workers"),
        kind: Kind::One("N"),
        group: Group::Serving,
        help: "Run this many threads, each with its own ring and listener",
        more: "By default there are as many as this process may use CPUs, by its affinity mask and its control groups' quota, \
               and each is pinned to one. With more threads than CPUs, they share the CPUs and none is pinned.",
        default: "auto",
    },
    Setting {
        name: "engine",
        short: None,
        alias: None,
        kind: Kind::One("auto|uring|epoll"),
        group: Group::Serving,
        help: "Move bytes by io_uring or by epoll",
        more: "auto is io_uring where it works. --explain says what works here, and what stands in the way.",
        default: "auto",
    },
    Setting {
        name: "access-log",
        short: None,
        alias: None,
        kind: Kind::One("-|FILE|off"),
        group: Group::Serving,
        help: "Write a line per request to standard output (-) or a file",
        more: "A file is opened again at SIGUSR1, and by --reopen-logs, so that it can be moved away. A file named off is ./off.",
        default: "off",
    },
    Setting {
        name: "access-log-format",
        short: None,
        alias: None,
        kind: Kind::One("combined|json"),
        group: Group::Serving,
        help: "Write those lines in the combined log format, or as JSON",
        more: "combined is what most tools read, with the duration in microseconds at its end; json has all that is known.",
        default: "combined",
    },
    Setting {
        name: "log-level",
        short: None,
        alias: None,
        kind: Kind::One("LEVEL"),
        group: Group::Serving,
        help: "Log this much: error, warn, info, debug or trace",
        more: "",
        default: "info",
    },
    Setting {
        name: "log-format",
        short: None,
        alias: None,
        kind: Kind::One("text|json"),
        group: Group::Serving,
        help: "Log in lines for people, or as JSON",
        more: "",
        default: "text",
    },
    Setting {
        name: "trusted-proxy",
        short: None,
        alias: None,
        kind: Kind::Many("CIDR|unix"),
        group: Group::Serving,
        help: "Believe what these proxies say about their clients; may be repeated",
        more: "An address or a network (10.0.0.0/8, ::1), or unix for whoever connects to a Unix socket. From them, X-Forwarded-For, \
               -Proto and -Host, or else Forwarded, tell who the client is; from anybody else they mean nothing.",
        default: "none",
    },
    Setting {
        name: "proxy-protocol",
        short: None,
        alias: None,
        kind: Kind::Many("ADDR|all"),
        group: Group::Serving,
        help: "Expect a PROXY header (version 1 or 2) on connections to this --bind; may be repeated",
        more: "From a --trusted-proxy, and from nobody else: any other connection to that address is closed.",
        default: "none",
    },
    Setting {
        name: "conns-per-ip",
        short: None,
        alias: None,
        kind: Kind::One("N"),
        group: Group::Serving,
        help: "Let one address have so many connections at a time, 503 beyond; 0 is no bound",
        more: "All cores together. Of IPv6, a /64 counts as one address. A --trusted-proxy is not counted; whom it names by a PROXY \
               header is.",
        default: "0",
    },
    Setting {
        name: "user",
        short: None,
        alias: None,
        kind: Kind::One("USER[:GROUP]"),
        group: Group::Serving,
        help: "Become this user once it listens; only root can",
        more: "Names or numbers, for the server and its programs, and for good. Without a GROUP it is in all groups of the user.",
        default: "whoever starts it",
    },
    Setting {
        name: "metrics",
        short: None,
        alias: None,
        kind: Kind::One("ADDR"),
        group: Group::Serving,
        help: "Answer /metrics, /healthz and /readyz at this address, for those who watch",
        more: "An address with its port (127.0.0.1:9100, [::1]:9100; port 0 takes a free one and prints it), or unix:PATH. There is \
               no password: choose one that only those reach who may know.",
        default: "none",
    },
    Setting {
        name: "cache-control",
        short: None,
        alias: None,
        kind: Kind::Lines("PATTERN VALUE"),
        group: Group::Files,
        help: "What caches may do with the files that the pattern fits; may be repeated",
        more: "--cache-control '/assets/ public, max-age=31536000, immutable'. In a PATTERN, * is any part of a segment, ** anything, \
               and a slash at the end the folder and all below it. The last rule that fits a file holds.",
        default: "none",
    },
    Setting {
        name: "header",
        short: None,
        alias: None,
        kind: Kind::Lines("PATTERN NAME: VALUE"),
        group: Group::Files,
        help: "Add this field to the replies to these paths; may be repeated",
        more: "--header '/fonts/ Access-Control-Allow-Origin: *'. Redirects and errors have it too. The last rule that fits and \
               names the field holds, and an empty VALUE takes the field away. What the server decides itself cannot be set.",
        default: "none",
    },
    Setting {
        name: "no-precompressed",
        short: None,
        alias: None,
        kind: Kind::Switch,
        group: Group::Files,
        help: "Never send a compressed sibling (a.css.br, .zst, .gz) in a file's place",
        more: "By default it is sent to the clients that accept it, unless it is older than the file.",
        default: "false",
    },
    Setting {
        name: "no-watch",
        short: None,
        alias: None,
        kind: Kind::Switch,
        group: Group::Files,
        help: "Do not watch the folders of cached files for changes",
        more: "A change then shows within 100 ms instead of at once.",
        default: "false",
    },
    Setting {
        name: "listing",
        short: None,
        alias: None,
        kind: Kind::Switch,
        group: Group::Files,
        help: "List folders that have no index",
        more: "As a page, or as JSON for a client that wants application/json more than text/html. Dotfiles, programs, and \
               links that lead outside of DIR are not shown.",
        default: "false",
    },
    Setting {
        name: "clean-urls",
        short: None,
        alias: None,
        kind: Kind::Switch,
        group: Group::Files,
        help: "Answer /about with about.html, and send /about.html there",
        more: "Where about exists, or about/, that comes first, and about.html stays where it is. /x/index.html leads to /x/.",
        default: "false",
    },
    Setting {
        name: "spa-fallback",
        short: None,
        alias: None,
        kind: Kind::One("PATH"),
        group: Group::Files,
        help: "Answer navigations to missing paths with this file (/index.html)",
        more: "For applications whose script reads the path. A navigation is a GET or HEAD that asks for text/html by name, or \
               says Sec-Fetch-Mode: navigate; a missing picture or script stays 404.",
        default: "none",
    },
    Setting {
        name: "error-page",
        short: None,
        alias: None,
        kind: Kind::Many("STATUS=PATH"),
        group: Group::Files,
        help: "Send this file with errors of this status (404=/404.html); may be repeated",
        more: "STATUS is a code, 4xx or 5xx; a code comes before its class. What programs answer stays as it is.",
        default: "the built-in pages",
    },
    Setting {
        name: "cgi",
        short: None,
        alias: None,
        kind: Kind::Many("PREFIX=TARGET"),
        group: Group::Cgi,
        help: "Run programs below this path; may be repeated",
        more: "TARGET is a folder of programs, or one program that gets the rest of the path as PATH_INFO: \
               --cgi /git=/usr/lib/git-core/git-http-backend. /git and /git/ are the same. The longest PREFIX that fits wins. \
               A cgi-bin folder inside DIR is mounted at /cgi-bin without being asked for.",
        default: "cgi-bin inside DIR",
    },
    Setting {
        name: "no-cgi",
        short: None,
        alias: None,
        kind: Kind::Switch,
        group: Group::Cgi,
        help: "Run no programs at all",
        more: "cgi-bin, and every TARGET of --cgi that lies inside DIR, is then 404: a program's source is never served.",
        default: "false",
    },
    Setting {
        name: "cgi-env",
        short: None,
        alias: None,
        kind: Kind::Many("[PREFIX:]NAME[=VALUE]"),
        group: Group::Cgi,
        help: "Set a variable for every program; may be repeated",
        more: "Without =VALUE, it is the server's own variable of that name. With a PREFIX of --cgi it is for that mount only: \
               --cgi-env /git:GIT_PROJECT_ROOT=/srv/git. Programs get nothing else of the server's environment.",
        default: "none",
    },
    Setting {
        name: "cgi-pass-authorization",
        short: None,
        alias: None,
        kind: Kind::Many("PREFIX|all"),
        group: Group::Cgi,
        help: "Give the programs of this mount the Authorization field; may be repeated",
        more: "Without it no program sees a password or a token. PREFIX is one of --cgi, or /cgi-bin.",
        default: "none",
    },
    Setting {
        name: "cgi-mount-running-max",
        short: None,
        alias: None,
        kind: Kind::Many("[PREFIX=]N"),
        group: Group::Cgi,
        help: "Run so many programs of each mount, or of this one, at the same time; may be repeated",
        more: "Without it a mount may use what --cgi-running-max allows, less a part that is kept for each of the others.",
        default: "none",
    },
    Setting {
        name: "cgi-mount-queued-max",
        short: None,
        alias: None,
        kind: Kind::Many("[PREFIX=]N"),
        group: Group::Cgi,
        help: "Let so many requests of each mount, or of this one, wait; 503 beyond; may be repeated",
        more: "Without it a mount may use what --cgi-queued-max allows, less a part that is kept for each of the others.",
        default: "none",
    },
    Setting {
        name: "cgi-linger",
        short: None,
        alias: None,
        kind: Kind::One("keep|kill"),
        group: Group::Cgi,
        help: "What becomes of a program that lives on after its reply",
        more: "keep: it may finish what it is doing, once it has closed stdout and stderr. kill: it is ended, and all that it \
               has started.",
        default: "keep",
    },
    Setting {
        name: "cgi-nice",
        short: None,
        alias: None,
        kind: Kind::One("N"),
        group: Group::Cgi,
        help: "The nice value of programs, 0 to 19",
        more: "Below the server's own it needs CAP_SYS_NICE.",
        default: "19",
    },
    Setting {
        name: "cgi-umask",
        short: None,
        alias: None,
        kind: Kind::One("OCTAL"),
        group: Group::Cgi,
        help: "The umask of programs, as in 027",
        more: "",
        default: "the server's own",
    },
    Setting {
        name: "cgi-user",
        short: None,
        alias: None,
        kind: Kind::One("USER[:GROUP]"),
        group: Group::Cgi,
        help: "Run programs as this user; only root can",
        more: "Names or numbers. Without a GROUP, programs are in all groups of the user.",
        default: "the server's own",
    },
    Setting {
        name: "cgi-cgroup",
        short: None,
        alias: None,
        kind: Kind::One("off|auto|DIR"),
        group: Group::Cgi,
        help: "Give each program a control group of its own, so that nothing it starts escapes",
        more: "auto makes them below the server's own group, if that can be written to; DIR below another of cgroup2. Without \
               one, what leaves a program's process group is found by its environment.",
        default: "off",
    },
];

/// The name of everything that can be said, settings first.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().map(|setting| setting.name).chain(LIMITS.iter().map(|limit| limit.name))
}

/// `head-bytes-max` in a file: `head_bytes_max`.
pub(crate) fn key(name: &str) -> String {
    name.replace('-', "_")
}

/// `head-bytes-max` in the environment: `UCAFFEINE_HEAD_BYTES_MAX`.
pub(crate) fn variable(name: &str) -> String {
    format!("{VARIABLE_PREFIX}{}", key(name).to_ascii_uppercase())
}

/// Whether the environment may hold a variable for us under this name.
pub(crate) fn is_ours(variable: &str) -> bool {
    variable.starts_with(VARIABLE_PREFIX)
}

/// Whether it may be said more than once.
pub(crate) fn is_list(name: &str) -> bool {
    list_separator(name).is_some()
}

/// What separates the values in a variable, if there may be several.
pub(crate) fn list_separator(name: &str) -> Option<char> {
    match SETTINGS.iter().find(|setting| setting.name == name)?.kind {
        Kind::Many(_) => Some(';'),
        Kind::Lines(_) => Some('\n'),
        Kind::Switch | Kind::One(_) => None,
    }
}

/// Whether each value is a name, `=` and what belongs to it: a table of a file.
pub(crate) fn is_pairs(name: &str) -> bool {
    matches!(name, "cgi" | "cgi-env" | "error-page" | "cgi-mount-running-max" | "cgi-mount-queued-max")
}

impl Group {
    /// Whether it has settings; the others have limits.
    pub(crate) fn is_of_settings(self) -> bool {
        matches!(self, Group::Serving | Group::Files | Group::Cgi)
    }

    pub(crate) fn heading(self) -> &'static str {
        match self {
            Group::Serving => "Serving",
            Group::Files => "Files",
            Group::Cgi => "Programs (CGI)",
            Group::RequestLimits => "Limits of a request",
            Group::ConnectionLimits => "Limits of a connection",
            Group::CgiLimits => "Limits of programs (CGI)",
            Group::FileLimits => "Limits of files",
            Group::LogLimits => "Limits of logs",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_name_is_spelled_once_and_in_one_way() {
        let all: Vec<_> = names().collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "a name twice");
        for name in all {
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{name}");
        }
        assert_eq!(key("head-bytes-max"), "head_bytes_max");
        assert_eq!(variable("head-bytes-max"), "UCAFFEINE_HEAD_BYTES_MAX");
    }
}
