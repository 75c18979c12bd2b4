//! `--bind` and `--port`: where to listen.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;

use ucaffeine::serve::options::{Listen, PORT_DEFAULT, UNIX_PATH_BYTES_MAX};

use super::problem::Problem;
use super::sources::{Given, Layers};

/// One address for each `--bind`, or the loopback one.
pub(crate) fn listen(layers: &Layers, problems: &mut Vec<Problem>) -> Vec<Listen> {
    let port = layers.one("port").map_or(Ok(PORT_DEFAULT), port).unwrap_or_else(|problem| {
        problems.push(problem);
        PORT_DEFAULT
    });
    let mut listen: Vec<Listen> = Vec::new();
    for given in layers.all("bind") {
        match address(given, port) {
            Ok(address) if repeats(&listen, &address) => {
                problems.push(given.unreadable("listens there already; say it once"));
            }
            Ok(address) => listen.push(address),
            Err(problem) => problems.push(problem),
        }
    }
    if listen.is_empty() {
        listen.push(Listen::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port))));
    }
    listen
}

/// The address that is written, as `--bind` would have it. What is wrong with `--port` has been said.
pub(super) fn address_of(given: &Given, layers: &Layers) -> Result<Listen, Problem> {
    address(given, layers.one("port").and_then(|given| port(given).ok()).unwrap_or(PORT_DEFAULT))
}

fn port(given: &Given) -> Result<u16, Problem> {
    let text = given.str()?;
    text.parse().map_err(|_| match text.contains("://") {
        true => given.unreadable(
            "not a port; Kubernetes sets it for a service named ucaffeine: turn enableServiceLinks off, or give --port",
        ),
        false => given.unreadable("not a port; 0 to 65535, where 0 takes a free one"),
    })
}

/// Twice the same port 0 is two ports.
fn repeats(listen: &[Listen], address: &Listen) -> bool {
    let free = matches!(address, Listen::Tcp(address) if address.port() == 0);
    !free && listen.contains(address)
}

fn address(given: &Given, port: u16) -> Result<Listen, Problem> {
    if let Some(path) = given.text.as_bytes().strip_prefix(b"unix:") {
        return unix(given, path);
    }
    let text = given.str()?;
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(Listen::Tcp(address));
    }
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(Listen::Tcp(SocketAddr::new(address, port)));
    }
    Err(given.unreadable(match text {
        "localhost" => "not an address; write 127.0.0.1, and [::1] for IPv6",
        "*" | "" => "not an address; write 0.0.0.0, and [::] for IPv6",
        text if text.starts_with(':') || text.bytes().all(|byte| byte.is_ascii_digit()) => {
            "not an address; a port alone is --port"
        }
        text if text.contains('/') => "not an address; a Unix socket is unix:PATH",
        _ => "not an address; write 127.0.0.1, [::1]:9000 or unix:PATH (names are not looked up)",
    }))
}

/// `--metrics`: like one `--bind`, but there is no other port that could be meant.
pub(crate) fn metrics(given: &Given) -> Result<Option<Listen>, Problem> {
    match address(given, PORT_DEFAULT)? {
        Listen::Tcp(_) if given.str()?.parse::<SocketAddr>().is_err() => {
            Err(given.unreadable("an address without a port; write 127.0.0.1:9100, [::1]:9100 or unix:PATH"))
        }
        listen => Ok(Some(listen)),
    }
}

fn unix(given: &Given, path: &[u8]) -> Result<Listen, Problem> {
    let path = given.path(std::ffi::OsStr::from_bytes(path))?;
    let length = path.as_os_str().len();
    if length > UNIX_PATH_BYTES_MAX {
        return Err(
            given.unreadable(format!("{length} bytes of path; a Unix socket has at most {UNIX_PATH_BYTES_MAX}"))
        );
    }
    Ok(Listen::Unix(path))
}

#[cfg(test)]
mod tests {
    use super::super::sources::{Layer, Origin};
    use super::*;

    fn resolve(port: Option<&str>, bind: &[&str]) -> (Vec<String>, Vec<String>) {
        let mut layer = Layer::default();
        for (name, flag, text) in
            port.iter().map(|text| ("port", "--port", text)).chain(bind.iter().map(|text| ("bind", "--bind", text)))
        {
            layer.add(name, Given { text: text.into(), origin: Origin::Flag(flag.to_owned()) });
        }
        let mut problems = Vec::new();
        let listen = listen(&Layers([layer, Layer::default(), Layer::default()]), &mut problems);
        let show = |listen: &Listen| match listen {
            Listen::Tcp(address) => address.to_string(),
            Listen::Unix(path) => path.display().to_string(),
        };
        (listen.iter().map(show).collect(), problems.iter().map(Problem::to_string).collect())
    }

    #[test]
    fn addresses_in_every_form() {
        let table: [(Option<&str>, &[&str], &[&str]); 7] = [
            (None, &[], &["127.0.0.1:8080"]),
            (Some("0"), &[], &["127.0.0.1:0"]),
            (Some("81"), &["0.0.0.0", "::", "[::1]"], &["0.0.0.0:81", "[::]:81", "[::1]:81"]),
            (Some("81"), &["127.0.0.1:82", "[::1]:83"], &["127.0.0.1:82", "[::1]:83"]),
            (None, &["unix:/run/x.sock"], &["/run/x.sock"]),
            (Some("0"), &["127.0.0.1", "127.0.0.1"], &["127.0.0.1:0", "127.0.0.1:0"]),
            (None, &["[fe80::1%2]:80"], &["[fe80::1%2]:80"]),
        ];
        for (port, bind, want) in table {
            let (listen, problems) = resolve(port, bind);
            assert_eq!((listen, problems), (want.iter().map(|text| text.to_string()).collect(), vec![]), "{bind:?}");
        }
    }

    #[test]
    fn metrics_need_a_port_of_their_own() {
        let read = |text: &str| metrics(&Given { text: text.into(), origin: Origin::Flag("--metrics".into()) });
        for (text, want) in [("127.0.0.1:0", "127.0.0.1:0"), ("[::1]:9100", "[::1]:9100"), ("unix:/x", "unix:/x")] {
            assert_eq!(read(text).unwrap().unwrap().to_string(), want);
        }
        for text in ["127.0.0.1", "::1", "::0", "[::1]", "9100", "localhost:9100", "unix:", ""] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn anything_else_has_a_cause() {
        let table = [
            ("localhost", "127.0.0.1, and [::1]"),
            ("*", "0.0.0.0"),
            (":8080", "--port"),
            ("8080", "--port"),
            ("/run/x.sock", "unix:PATH"),
            ("example.org", "not looked up"),
            ("127.0.0.1:99999", "not an address"),
            ("unix:", "an empty path"),
        ];
        for (bind, want) in table {
            let problems = resolve(None, &[bind]).1;
            assert!(problems.len() == 1 && problems[0].contains(want), "{bind}: {problems:?}");
        }
        assert!(resolve(None, &["::1", "[::1]:8080"]).1[0].contains("say it once"));
        assert!(resolve(None, &[&format!("unix:/{}", "x".repeat(107))]).1[0].contains("at most 107"));
        assert!(resolve(Some("99999"), &[]).1[0].contains("0 to 65535"));
        assert!(resolve(Some("tcp://10.0.0.1:80"), &[]).1[0].contains("Kubernetes"));
    }
}
