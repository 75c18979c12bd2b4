//! Where requests go: `http://HOST[:PORT]/PATH`, or `unix:PATH` for a Unix socket.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

/// What is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix stream socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(addr) => addr.fmt(f),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A URL in its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// What the Host field says: the host, and the port unless it is 80.
    pub host: String,
    /// The origin form: path and query.
    pub path: String,
    /// `HOST:PORT` to be resolved, or the path of a Unix socket.
    place: Place,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Tcp(String, u16),
    Unix(PathBuf),
}

impl Url {
    /// Reads `http://HOST[:PORT][/PATH]`, `HOST:PORT[/PATH]` and `unix:SOCKET[:/PATH]`.
    ///
    /// # Errors
    /// A line that says what is wrong.
    pub fn parse(text: &str) -> Result<Url, String> {
        let refuse = |why: &str| Err(format!("`{text}`: {why}"));
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return refuse("a URL has no spaces, control characters or letters beyond ASCII; percent-encode them");
        }
        if let Some(rest) = text.strip_prefix("unix:") {
            let (socket, path) = rest.split_once(":/").map_or((rest, String::from("/")), |(s, p)| (s, format!("/{p}")));
            if socket.is_empty() {
                return refuse("a path of a socket is missing behind `unix:`");
            }
            return Ok(Url { host: String::from("localhost"), path, place: Place::Unix(socket.into()) });
        }
        let rest = match text.split_once("://") {
            Some(("http", rest)) => rest,
            Some(("https", _)) => return refuse("TLS is not supported; use http://"),
            Some(_) => return refuse("only http:// and unix: are supported"),
            None => text,
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let path = path.split('#').next().unwrap_or_default();
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        if authority.contains('@') {
            return refuse("a user name in a URL is not supported; write the Authorization field with --header");
        }
        // The last colon, unless it is inside the brackets of an IPv6 address.
        let (name, port) = match authority.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => match port.parse() {
                Ok(port) if port > 0 => (name, port),
                _ => return refuse("the port is no number from 1 to 65535"),
            },
            _ => (authority, 80),
        };
        if name.is_empty() || (name.starts_with('[') != name.ends_with(']')) {
            return refuse("a host is missing");
        }
        let host = if port == 80 { name.to_owned() } else { format!("{name}:{port}") };
        let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Url { host, path, place: Place::Tcp(name, port) })
    }

    /// Looks the host up; the first address is taken. Blocks.
    ///
    /// # Errors
    /// A line that says why there is none.
    pub fn resolve(&self) -> Result<Address, String> {
        match &self.place {
            Place::Unix(path) => Ok(Address::Unix(path.clone())),
            Place::Tcp(name, port) => {
                let found = (name.as_str(), *port).to_socket_addrs();
                let mut found = found.map_err(|error| format!("`{name}` cannot be resolved: {error}"))?;
                found.next().map(Address::Tcp).ok_or_else(|| format!("`{name}` has no address"))
            }
        }
    }

    /// Another path on the same server.
    ///
    /// # Errors
    /// A line that says what is wrong with it.
    pub fn with_path(&self, path: &str) -> Result<Url, String> {
        if !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic()) || path.contains('#') {
            return Err(format!(
                "`{path}` is no path: it begins with a slash and has no spaces, `#` or non-ASCII letters"
            ));
        }
        Ok(Url { path: path.to_owned(), ..self.clone() })
    }

    /// Whether both lead to the same server.
    #[must_use]
    pub fn same_place(&self, other: &Url) -> bool {
        self.place == other.place
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Tcp(..) => write!(f, "http://{}{}", self.host, self.path),
            Place::Unix(path) if self.path == "/" => write!(f, "unix:{}", path.display()),
            Place::Unix(path) => write!(f, "unix:{}:{}", path.display(), self.path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_a_host_a_port_and_a_path() {
        for (text, host, path, shown) in [
            ("http://127.0.0.1:8080/", "127.0.0.1:8080", "/", "http://127.0.0.1:8080/"),
            ("http://a.example", "a.example", "/", "http://a.example/"),
            ("http://a.example:80/x?y=1#z", "a.example", "/x?y=1", "http://a.example/x?y=1"),
            ("localhost:81", "localhost:81", "/", "http://localhost:81/"),
            ("http://h?q", "h", "/?q", "http://h/?q"),
            ("http://[::1]:8080/a", "[::1]:8080", "/a", "http://[::1]:8080/a"),
            ("http://[::1]/", "[::1]", "/", "http://[::1]/"),
            ("unix:/run/x.sock", "localhost", "/", "unix:/run/x.sock"),
            ("unix:/run/x.sock:/a/b", "localhost", "/a/b", "unix:/run/x.sock:/a/b"),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!((url.host.as_str(), url.path.as_str(), url.to_string().as_str()), (host, path, shown), "{text}");
        }
    }

    #[test]
    fn what_is_no_url_says_why() {
        for (text, why) in [
            ("https://x/", "TLS"),
            ("ftp://x/", "only http://"),
            ("http:///x", "host"),
            ("http://x:0/", "port"),
            ("http://x:70000/", "port"),
            ("http://u@x/", "user name"),
            ("http://x/a b", "spaces"),
            ("http://x/\u{e9}", "ASCII"),
            ("unix:", "socket"),
            ("", "host"),
        ] {
            let refused = Url::parse(text).unwrap_err();
            assert!(refused.contains(why), "{text}: {refused}");
        }
    }

    #[test]
    fn addresses_resolve() {
        let found = |text: &str| Url::parse(text).unwrap().resolve().unwrap().to_string();
        assert_eq!(found("http://127.0.0.1:8080/x"), "127.0.0.1:8080");
        assert_eq!(found("http://[::1]:81/"), "[::1]:81");
        assert_eq!(found("unix:/x"), "unix:/x");
    }
}
