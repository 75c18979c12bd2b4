//! What a script is told about its request: the meta-variables of RFC 3875 section 4.1 and those that scripts have come
//! to expect.
//!
//! The environment is built from nothing; nothing of the server's own gets in. Each name is emitted once, and what the
//! operator set (for the mount, else for the site) wins over what the request says.
//!
//! Fields become `HTTP_*`, with these exceptions:
//! - a name with anything but letters, digits and hyphens is dropped: `X_Forwarded_For` must not pass for
//!   `X-Forwarded-For`;
//! - `Proxy` is dropped, because programs take `HTTP_PROXY` for a setting (CVE-2016-5385);
//! - `Authorization` is withheld unless the mount passes it;
//! - what is between the client and this server stays there: `Connection`, `TE` and their like, and the body's framing;
//! - `Content-Type` and `Content-Length` are only `CONTENT_TYPE` and `CONTENT_LENGTH`.
//!
//! A pair with a NUL in it is left out whole: the kernel would end the value there, and a part is worse than none.

use super::{Mount, Site, decimal, host_name};
use crate::http::request::{Known, Request, Version};

/// Which script runs, and how the path led there. All decoded; paths of files are absolute.
#[derive(Clone, Copy, Debug)]
pub struct Script<'a> {
    /// The part of the path that names the script (see [`super::script::script_name`]).
    pub script_name: &'a [u8],
    /// The part of the path after it: empty, or with a slash first.
    pub path_info: &'a [u8],
    /// The script's file.
    pub script_filename: &'a [u8],
    /// The root of the site.
    pub document_root: &'a [u8],
    /// `path_info` as a file under the root; used only when `path_info` is not empty.
    pub path_translated: &'a [u8],
}

/// The two ends of the connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer<'a> {
    /// The client's address, without brackets; empty for a Unix socket.
    pub remote_addr: &'a str,
    /// The client's port; nothing for a Unix socket.
    pub remote_port: Option<u16>,
    /// The address that the client connected to; empty for a Unix socket.
    pub server_addr: &'a str,
    /// The port that the client connected to.
    pub server_port: u16,
    /// The server's name, when the request names no host.
    pub server_name: &'a str,
    /// The connection is encrypted.
    pub https: bool,
    /// Who was admitted by a password (Basic).
    pub user: Option<&'a [u8]>,
}

/// The only PATH that a script gets, unless the operator sets another.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The server's name and version, as scripts are told it.
pub const SERVER_SOFTWARE: &str = concat!("ucaffeine/", env!("CARGO_PKG_VERSION"));

/// Emits the whole environment of a script, as (name, value) pairs.
///
/// `body_len` is the length of the request's body, known by then even if it came in chunks; nothing when there is no
/// body.
pub fn cgi_env(
    site: &Site,
    mount: &Mount,
    request: &Request<'_>,
    script: &Script<'_>,
    peer: &Peer<'_>,
    body_len: Option<u64>,
    emit: &mut dyn FnMut(&[u8], &[u8]),
) {
    let configured = Configured { site: &site.options.env, mount: &mount.env };
    let mut put = |name: &[u8], value: &[u8]| {
        if !configured.has(name) && !name.contains(&0) && !value.contains(&0) {
            emit(name, value);
        }
    };
    put(b"PATH", PATH.as_bytes());
    put_request(request, body_len, &mut put);
    put_script(script, &mut put);
    put_peer(request, peer, &mut put);
    put_fields(request, mount, &mut put);
    configured.each(emit);
}

fn put_request(request: &Request<'_>, body_len: Option<u64>, put: &mut dyn FnMut(&[u8], &[u8])) {
    put(b"GATEWAY_INTERFACE", b"CGI/1.1");
    put(b"SERVER_SOFTWARE", SERVER_SOFTWARE.as_bytes());
    put(b"SERVER_PROTOCOL", if request.version == Version::Http10 { b"HTTP/1.0" } else { b"HTTP/1.1" });
    put(b"REQUEST_METHOD", request.method.as_str().as_bytes());
    put(b"QUERY_STRING", request.query.unwrap_or(b""));
    // Applications route on this one and expect a path, so an absolute target is given in origin form, too.
    if request.target.starts_with(b"/") {
        put(b"REQUEST_URI", request.target);
    } else {
        let query = request.query.map(|query| [b"?", query].concat()).unwrap_or_default();
        put(b"REQUEST_URI", &[request.path, &query].concat());
    }
    if let Some(length) = body_len {
        put(b"CONTENT_LENGTH", decimal(length, &mut [0; 20]));
    }
    // php-cgi serves nothing without it; it stands for "a web server started this".
    put(b"REDIRECT_STATUS", b"200");
}

fn put_script(script: &Script<'_>, put: &mut dyn FnMut(&[u8], &[u8])) {
    put(b"SCRIPT_NAME", script.script_name);
    put(b"SCRIPT_FILENAME", script.script_filename);
    put(b"DOCUMENT_ROOT", script.document_root);
    if !script.path_info.is_empty() {
        put(b"PATH_INFO", script.path_info);
        put(b"PATH_TRANSLATED", script.path_translated);
    }
}

fn put_peer(request: &Request<'_>, peer: &Peer<'_>, put: &mut dyn FnMut(&[u8], &[u8])) {
    let named = host_name(request.host);
    put(b"SERVER_NAME", if named.is_empty() { peer.server_name.as_bytes() } else { named });
    put(b"SERVER_PORT", decimal(peer.server_port.into(), &mut [0; 20]));
    put(b"SERVER_ADDR", peer.server_addr.as_bytes());
    put(b"REMOTE_ADDR", peer.remote_addr.as_bytes());
    // RFC 3875 section 4.1.9: the address may stand for a name that nobody looked up.
    put(b"REMOTE_HOST", peer.remote_addr.as_bytes());
    if let Some(port) = peer.remote_port {
        put(b"REMOTE_PORT", decimal(port.into(), &mut [0; 20]));
    }
    put(b"REQUEST_SCHEME", if peer.https { b"https" } else { b"http" });
    if peer.https {
        put(b"HTTPS", b"on");
    }
    if let Some(user) = peer.user {
        put(b"AUTH_TYPE", b"Basic");
        put(b"REMOTE_USER", user);
    }
}

/// The fields that are not for scripts, or not under a name of their own, whatever the mount says.
const WITHHELD: [&str; 13] = [
    "Connection",
    "Content-Length",
    "Content-Type",
    "HTTP2-Settings",
    "Keep-Alive",
    "Proxy",
    "Proxy-Authenticate",
    "Proxy-Authorization",
    "Proxy-Connection",
    "TE",
    "Trailer",
    "Transfer-Encoding",
    "Upgrade",
];

fn put_fields(request: &Request<'_>, mount: &Mount, put: &mut dyn FnMut(&[u8], &[u8])) {
    let (mut name, mut value) = (Vec::new(), Vec::new());
    for (at, (field, _)) in request.fields.iter().enumerate() {
        let is_first = !request.fields.iter().take(at).any(|(earlier, _)| earlier.eq_ignore_ascii_case(field));
        if !is_first || !becomes_variable(field, mount) {
            continue;
        }
        name.clear();
        name.extend_from_slice(b"HTTP_");
        name.extend(field.bytes().map(|byte| if byte == b'-' { b'_' } else { byte.to_ascii_uppercase() }));
        join(request, field, &mut value);
        // The host of an absolute target overrides the field (RFC 9112 section 3.2.2), for scripts as for ourselves.
        put(&name, if field.eq_ignore_ascii_case("Host") { request.host } else { &value });
        // git-http-backend reads it without the prefix.
        if field.eq_ignore_ascii_case("Git-Protocol") {
            put(b"GIT_PROTOCOL", &value);
        }
    }
    if request.fields.has(Known::ContentType) {
        join(request, "Content-Type", &mut value);
        put(b"CONTENT_TYPE", &value);
    }
}

fn becomes_variable(field: &str, mount: &Mount) -> bool {
    field.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !WITHHELD.iter().any(|withheld| withheld.eq_ignore_ascii_case(field))
        && (mount.pass_authorization || !field.eq_ignore_ascii_case("Authorization"))
}

/// All values of a field in one: a list is joined by commas (RFC 9110 section 5.3), cookie pairs by semicolons (RFC
/// 6265 section 4.2.1).
fn join(request: &Request<'_>, field: &str, value: &mut Vec<u8>) {
    value.clear();
    let separator: &[u8] = if field.eq_ignore_ascii_case("Cookie") { b"; " } else { b", " };
    for (at, (_, one)) in request.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case(field)).enumerate() {
        if at > 0 {
            value.extend_from_slice(separator);
        }
        value.extend_from_slice(one);
    }
}

/// What the operator set. Of one name, the mount's wins over the site's, and the last in a list over those before.
struct Configured<'a> {
    site: &'a [(String, String)],
    mount: &'a [(String, String)],
}

impl Configured<'_> {
    fn has(&self, name: &[u8]) -> bool {
        self.site.iter().chain(self.mount).any(|(other, _)| other.as_bytes() == name)
    }

    fn each(&self, emit: &mut dyn FnMut(&[u8], &[u8])) {
        for (at, (name, value)) in self.site.iter().chain(self.mount).enumerate() {
            let is_last = !self.site.iter().chain(self.mount).skip(at + 1).any(|(later, _)| later == name);
            if is_last && !name.contains('\0') && !value.contains('\0') {
                emit(name.as_bytes(), value.as_bytes());
            }
        }
    }
}

#[cfg(test)]
#[path = "cgi_env_tests.rs"]
mod tests;
