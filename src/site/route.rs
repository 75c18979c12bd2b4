//! Which kind of answer a request gets.

use super::reply::{Allow, Reply};
use super::{MountKind, Site};
use crate::http::path;
use crate::http::request::{Method, Request};
use crate::http::status::Status;

/// What answers a request.
#[derive(Debug)]
pub enum Route<'s> {
    /// A file of the site: the path buffer holds its path, relative to the root, with the index name where the path
    /// ended in a slash.
    File,
    /// A script: the path buffer holds the decoded rest of the path after the mount's prefix: empty, or with a slash
    /// first.
    Cgi(CgiRoute),
    /// No more facts are needed.
    Reply(Reply<'s>),
}

/// The mount under which a request's path lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CgiRoute {
    /// Its index in [`Site::mounts`].
    pub mount: usize,
    /// Its kind: a folder needs [`super::script::candidates`], a program takes the whole rest as PATH_INFO.
    pub kind: MountKind,
}

/// Decides what answers a request, and leaves the path in `path_buf` in the form that the answer needs.
///
/// Mounts are compared with the decoded, normalised path: `/x/../cgi-bin/a` and `/%63gi-bin/a` are scripts, never
/// files.
pub fn route<'s>(site: &'s Site, request: &Request<'_>, path_buf: &mut Vec<u8>) -> Route<'s> {
    path_buf.clear();
    if request.path == b"*" {
        return Route::Reply(server_wide(site, request.method));
    }
    if let Err(error) = path::normalise(request.path, path_buf) {
        return Route::Reply(Reply::error(error.status()));
    }
    let mount = longest(site.mounts.iter().map(|mount| &mount.prefix), path_buf);
    let hidden = longest(&site.options.hidden, path_buf);
    match mount {
        Some((mount, length)) if hidden.is_none_or(|(_, hidden)| hidden <= length) => {
            if matches!(request.method, Method::Trace | Method::Connect) {
                return Route::Reply(Reply::method_not_allowed(Allow::Script));
            }
            match length {
                0 => path_buf.insert(0, b'/'),
                _ => drop(path_buf.drain(..length)),
            }
            Route::Cgi(CgiRoute { mount, kind: site.mounts[mount].kind })
        }
        _ if hidden.is_some() => Route::Reply(Reply::error(Status::NOT_FOUND)),
        _ if matches!(request.method, Method::Trace | Method::Connect) => {
            Route::Reply(Reply::method_not_allowed(Allow::File))
        }
        _ => {
            if path_buf.is_empty() || path_buf.ends_with(b"/") {
                path_buf.extend_from_slice(site.options.index.as_bytes());
            }
            Route::File
        }
    }
}

/// Whether a path (relative to the root, decoded) can name a file at all: what is mounted or hidden is no file, whoever
/// asks for it.
pub(super) fn is_open(site: &Site, path: &[u8]) -> bool {
    let mounts = site.mounts.iter().map(|mount| &mount.prefix);
    longest(mounts.chain(&site.options.hidden), path).is_none()
}

/// `OPTIONS *` asks what the server can do at all (RFC 9110 section 9.3.7); no other method has that target.
fn server_wide<'s>(site: &Site, method: Method) -> Reply<'s> {
    match method {
        Method::Options if site.mounts.is_empty() => Reply::options(Allow::File),
        Method::Options => Reply::options(Allow::Script),
        _ => Reply::error(Status::BAD_REQUEST),
    }
}

/// The longest of some prefixes under which a path lies: its index, and its length within the path. Of equal ones, the
/// first.
fn longest<'p>(prefixes: impl IntoIterator<Item = &'p String>, path: &[u8]) -> Option<(usize, usize)> {
    let matching = prefixes.into_iter().enumerate().filter_map(|(index, prefix)| Some((index, under(path, prefix)?)));
    matching.reduce(|best, other| if other.1 > best.1 { other } else { best })
}

/// The length of a prefix (written with its first slash) under which a path (written without) lies by whole components.
fn under(path: &[u8], prefix: &str) -> Option<usize> {
    let prefix = prefix.strip_prefix('/').unwrap_or(prefix);
    let rest = path.strip_prefix(prefix.as_bytes())?;
    (prefix.is_empty() || rest.is_empty() || rest.starts_with(b"/")).then_some(prefix.len())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{try_request, with_request};
    use super::super::{Mount, SiteOptions};
    use super::*;

    fn mount(prefix: &str, kind: MountKind) -> Mount {
        Mount { prefix: prefix.into(), kind, env: Vec::new(), pass_authorization: false }
    }

    fn site() -> Site {
        Site {
            mounts: vec![
                mount("/cgi-bin", MountKind::Folder),
                mount("/git", MountKind::Program),
                mount("/cgi-bin/deep", MountKind::Program),
                mount("/shut/open", MountKind::Program),
            ],
            options: SiteOptions {
                hidden: vec!["/private".into(), "/cgi-bin/deep/er".into(), "/shut".into()],
                ..SiteOptions::default()
            },
            ..Site::default()
        }
    }

    /// The route as one line: `file PATH`, `cgi MOUNT REST` or the status.
    fn routed(site: &Site, line: &str) -> String {
        with_request(&format!("{line} HTTP/1.1\r\nHost: h\r\n\r\n"), |request| {
            let mut path_buf = b"left over".to_vec();
            match route(site, request, &mut path_buf) {
                Route::File => format!("file {}", path_buf.escape_ascii()),
                Route::Cgi(cgi) => {
                    assert_eq!(cgi.kind, site.mounts[cgi.mount].kind);
                    format!("cgi {} {}", cgi.mount, path_buf.escape_ascii())
                }
                Route::Reply(reply) => reply.status().code().to_string(),
            }
        })
    }

    #[test]
    fn routes() {
        let cases = [
            ("GET /", "file index.html"),
            ("GET /?q", "file index.html"),
            ("GET /a", "file a"),
            ("GET /a/", "file a/index.html"),
            ("GET /a/..", "file index.html"),
            ("GET /a%20b", "file a b"),
            ("POST /a", "file a"),
            ("GET /.well-known/acme", "file .well-known/acme"),
            ("GET /.well-known/.git", "404"),
            ("GET /.well-knownx", "404"),
            ("GET /.git/config", "404"),
            ("GET /a/.htaccess", "404"),
            ("GET /%2egit/config", "404"),
            ("GET /a%2fb", "404"),
            ("GET /../a", "400"),
            ("GET /a%00", "400"),
            ("GET /cgi-bin", "cgi 0 "),
            ("GET /cgi-bin/", "cgi 0 /"),
            ("GET /cgi-bin/a/b", "cgi 0 /a/b"),
            ("POST /cgi-bin/a?q", "cgi 0 /a"),
            ("GET /x/../cgi-bin/a", "cgi 0 /a"),
            ("GET /%63gi-bin/a", "cgi 0 /a"),
            ("GET //cgi-bin//a", "cgi 0 /a"),
            ("GET /./cgi-bin/./a", "cgi 0 /a"),
            ("GET /cgi-bin/x/../../a", "file a"),
            ("GET /cgi-binary", "file cgi-binary"),
            ("GET /cgi-bin/deep/x", "cgi 2 /x"),
            ("GET /cgi-bin/deep/er/x", "404"),
            ("GET /git", "cgi 1 "),
            ("GET /git/", "cgi 1 /"),
            ("GET /git/r.git/info/refs", "cgi 1 /r.git/info/refs"),
            ("GET /git/work/.git/HEAD", "404"),
            ("GET /private", "404"),
            ("GET /private/x", "404"),
            ("GET /x/../private/x", "404"),
            ("GET /privateer", "file privateer"),
            ("GET /shut/x", "404"),
            ("GET /shut/open/x", "cgi 3 /x"),
            ("TRACE /a", "405"),
            ("TRACE /cgi-bin/a", "405"),
            ("OPTIONS *", "204"),
            ("OPTIONS /a", "file a"),
            ("OPTIONS /cgi-bin/a", "cgi 0 /a"),
        ];
        for (line, expected) in cases {
            assert_eq!(routed(&site(), line), expected, "{line}");
        }
    }

    #[test]
    fn a_prefix_holds_whole_components() {
        assert_eq!(under(b"cgi-bin", "/cgi-bin"), Some(7));
        assert_eq!(under(b"cgi-bin/x", "/cgi-bin"), Some(7));
        assert_eq!(under(b"cgi-binary", "/cgi-bin"), None);
        assert_eq!(under(b"cgi", "/cgi-bin"), None);
        assert_eq!(under(b"x", ""), Some(0));
    }

    #[test]
    fn with_cgi_off_its_folder_is_not_there() {
        let options = SiteOptions { hidden: vec!["/cgi-bin".into()], ..SiteOptions::default() };
        let site = Site { options, ..Site::default() };
        assert_eq!(routed(&site, "GET /cgi-bin/a"), "404");
        assert_eq!(routed(&site, "GET /x/..//%63gi-bin/a"), "404");
    }

    #[test]
    fn a_mount_at_the_root_takes_everything() {
        let site = Site { mounts: vec![mount("", MountKind::Program)], ..Site::default() };
        assert_eq!(routed(&site, "GET /"), "cgi 0 /");
        assert_eq!(routed(&site, "GET /a/b"), "cgi 0 /a/b");
    }

    proptest::proptest! {
        /// However a path is written, what is mounted is not served as a file, and a file is below the root.
        #[test]
        fn no_spelling_makes_a_script_a_file(
            parts in proptest::collection::vec(proptest::sample::select(PARTS.to_vec()), 0..8),
        ) {
            let head = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", parts.concat());
            try_request(&head, |request| {
                let mut path_buf = Vec::new();
                if let Route::File = route(&site(), request, &mut path_buf) {
                    let components: Vec<&[u8]> = path_buf.split(|byte| *byte == b'/').collect();
                    assert!(!matches!(components[0], b"cgi-bin" | b"git" | b"private" | b"shut"), "{head}");
                    assert!(components.iter().all(|component| !matches!(*component, b"" | b"." | b"..")), "{head}");
                }
            });
        }
    }

    const PARTS: [&str; 14] =
        ["/", "//", ".", "..", "%2e", "%2E%2e", "%2f", "cgi-bin", "%63gi-bin", "cgi%2Dbin", "git", "a", "%00", "?"];
}
