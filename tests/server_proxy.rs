//! Behind a proxy: whom it names is the client, if it is trusted, and nobody if it is not.

mod support;

use std::net::IpAddr;
use support::{Client, Server, Site, wait_until};

/// What a script is told about its client, and what it is not.
const WHO: &str = "printf 'Content-Type: text/plain\\n\\n'\n\
    echo \"$REMOTE_ADDR ${REMOTE_PORT:+port} ${HTTPS:-off} $REQUEST_SCHEME $SERVER_NAME $SERVER_PORT $HTTP_HOST\"\n\
    echo \"xff=${HTTP_X_FORWARDED_FOR-none} f=${HTTP_FORWARDED-none} real=${HTTP_X_REAL_IP-none}\"";

fn site() -> Site {
    Site::new().file("index.html", "home").sh("cgi-bin/who", WHO)
}

/// What `who` says, with these fields.
#[track_caller]
fn who(client: &mut Client, fields: &[&str]) -> String {
    let mut lines = vec!["GET /cgi-bin/who HTTP/1.1", "Host: inner.example:8080"];
    lines.extend_from_slice(fields);
    client.head(&lines);
    client.read().expect(200).text()
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// Another address of this machine, that nobody trusts.
fn stranger() -> IpAddr {
    "127.0.0.2".parse().expect("an address")
}

#[test]
fn a_trusted_proxy_names_the_client_of_each_request() {
    let site = site();
    let server = Server::start(&site, ["--trusted-proxy", "127.0.0.1", "--trusted-proxy", "10.0.0.0/8"]);
    let port = server.addr.port();
    let mut client = server.connect();
    let own = format!("127.0.0.1 port off http inner.example {port} inner.example:8080");
    let table: [(&[&str], &str); 9] = [
        (&[], own.as_str()),
        (&["X-Forwarded-For: 192.0.2.1"], &format!("192.0.2.1  off http inner.example {port} inner.example:8080")),
        (
            &[
                "X-Forwarded-For: 203.0.113.9, 192.0.2.1, 10.1.1.1",
                "X-Forwarded-Proto: https",
                "X-Forwarded-Host: out.example",
            ],
            "192.0.2.1  on https out.example 443 out.example",
        ),
        (
            &["X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: http"],
            "192.0.2.1  off http inner.example 8080 inner.example:8080",
        ),
        (
            &["Forwarded: for=\"[2001:db8::1]:4711\";proto=https;host=\"out.example:8443\";by=_us"],
            "2001:db8::1 port on https out.example 8443 out.example:8443",
        ),
        (
            &["Forwarded: for=203.0.113.9", "Forwarded: for=192.0.2.1;proto=https, for=10.1.1.1;proto=http"],
            "192.0.2.1  on https inner.example 8080 inner.example:8080",
        ),
        (
            &["Forwarded: for=203.0.113.9;proto=https", "X-Forwarded-For: 192.0.2.1"],
            &format!("192.0.2.1  off http inner.example {port} inner.example:8080"),
        ),
        (&["Forwarded: for=\""], own.as_str()),
        (&["X-Real-IP: 192.0.2.1"], own.as_str()),
    ];
    for (fields, want) in table {
        assert_eq!(first_line(&who(&mut client, fields)), want, "{fields:?}");
    }
    let passed =
        who(&mut client, &["X-Forwarded-For: 203.0.113.9", "X-Forwarded-For: 192.0.2.1", "X-Real-IP: 1.2.3.4"]);
    assert!(passed.ends_with("xff=203.0.113.9, 192.0.2.1 f=none real=1.2.3.4\n"), "{passed}");
    drop(client);
    server.stop();
}

#[test]
fn from_anybody_else_it_means_nothing() {
    let site = site();
    let said =
        ["X-Forwarded-For: 192.0.2.1", "Forwarded: for=192.0.2.1", "X-Real-IP: 192.0.2.1", "X-Forwarded-Proto: https"];
    let trusting = Server::start(&site, ["--trusted-proxy", "127.0.0.1"]);
    let mut client = Client::connect_from(stranger(), trusting.addr);
    let port = trusting.addr.port();
    let heard = who(&mut client, &said);
    assert_eq!(
        heard,
        format!("127.0.0.2 port off http inner.example {port} inner.example:8080\nxff=none f=none real=none\n"),
        "scripts do not get it either"
    );
    drop(client);
    trusting.stop();
    // Where nobody is trusted, the fields are fields as any others.
    let plain = Server::start(&site, []);
    let mut client = plain.connect();
    let port = plain.addr.port();
    let heard = who(&mut client, &said);
    assert_eq!(
        heard,
        format!(
            "127.0.0.1 port off http inner.example {port} inner.example:8080\nxff=192.0.2.1 f=for=192.0.2.1 real=192.0.2.1\n"
        )
    );
    drop(client);
    plain.stop();
}

#[test]
fn the_log_has_the_client_of_each_request() {
    let site = site().sh("cgi-bin/to", "printf 'Location: /cgi-bin/who\\n\\n'");
    let log = site.at("log");
    let path = log.display().to_string();
    let server = Server::start(&site, ["--trusted-proxy", "127.0.0.1", "--access-log", &path]);
    let mut client = server.connect();
    for (target, field) in [
        ("/", "X-Forwarded-For: 192.0.2.1"),
        ("/absent", "X-Forwarded-For: 2001:db8::1"),
        ("/cgi-bin/who", "Forwarded: for=192.0.2.3"),
        ("/", "X-Other: 1"),
    ] {
        client.request("GET", target, &[field]);
    }
    // A local redirect is the client's request still.
    let heard = client.request("GET", "/cgi-bin/to", &["X-Forwarded-For: 192.0.2.5"]).expect(200).text();
    assert!(heard.starts_with("192.0.2.5 "), "{heard}");
    let mut stranger = Client::connect_from(stranger(), server.addr);
    stranger.request("GET", "/", &["X-Forwarded-For: 192.0.2.1"]).expect(200);
    let lines = || std::fs::read_to_string(&log).unwrap_or_default();
    wait_until("six lines", || lines().lines().count() == 6);
    let text = lines();
    let clients: Vec<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(clients, ["192.0.2.1", "2001:db8::1", "192.0.2.3", "127.0.0.1", "192.0.2.5", "127.0.0.2"], "{text}");
    drop((client, stranger));
    server.stop();
}

#[test]
fn who_comes_by_a_unix_socket_can_be_trusted() {
    let site = site();
    let path = site.at("listen.sock");
    let bind = format!("unix:{}", path.display());
    let server = Server::start(&site, ["--bind", "127.0.0.1", "--bind", &bind, "--trusted-proxy", "unix"]);
    let field = "X-Forwarded-For: 192.0.2.1";
    assert!(who(&mut Client::connect_unix(&path), &[field]).starts_with("192.0.2.1 "));
    assert!(who(&mut server.connect(), &[field]).starts_with("127.0.0.1 "));
    server.stop();
}

/// Version 2, with this command and family, and what follows.
fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).expect("a length").to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[command, family], &length, rest].concat()
}

/// 192.0.2.1:4711 to 198.51.100.1:443.
const ENDS: &[u8] = &[192, 0, 2, 1, 198, 51, 100, 1, 0x12, 0x67, 0x01, 0xbb];
/// PP2_TYPE_SSL: the client speaks TLS.
const TLS: &[u8] = &[0x20, 0, 5, 1, 0, 0, 0, 0];

const ENDS_SH: &str = "printf 'Content-Type: text/plain\\n\\n'\n\
    echo \"$REMOTE_ADDR ${REMOTE_PORT:-none} $SERVER_ADDR $SERVER_PORT ${HTTPS:-off}\"";

#[test]
fn a_proxy_header_names_the_ends_of_the_connection() {
    let site = site().sh("cgi-bin/ends", ENDS_SH);
    let server = Server::start(&site, ["--trusted-proxy", "127.0.0.1", "--proxy-protocol", "all"]);
    let port = server.addr.port();
    let own = format!("127.0.0.1 PORT 127.0.0.1 {port} off\n");
    let https = "192.0.2.1 4711 198.51.100.1 443 on\n";
    let plain = "192.0.2.1 4711 198.51.100.1 443 off\n";
    let table: [(Vec<u8>, &str); 8] = [
        (b"PROXY TCP4 192.0.2.1 198.51.100.1 4711 443\r\n".to_vec(), plain),
        (b"PROXY TCP6 2001:db8::1 2001:db8::2 4711 443\r\n".to_vec(), "2001:db8::1 4711 2001:db8::2 443 off\n"),
        (b"PROXY UNKNOWN\r\n".to_vec(), &own),
        (binary(0x21, 0x11, ENDS), plain),
        (binary(0x21, 0x11, &[ENDS, TLS].concat()), https),
        (binary(0x21, 0x11, &[ENDS, &[0x05, 0, 2, b'i', b'd'], TLS].concat()), https),
        (binary(0x20, 0x00, b""), &own),
        (binary(0x21, 0x00, b""), &own),
    ];
    for (header, want) in table {
        // At once, and in pieces: of one byte, and with the request right behind it.
        let request = b"GET /cgi-bin/ends HTTP/1.1\r\nHost: a:443\r\n\r\n";
        for pieces in [1, 7, usize::MAX] {
            let mut client = server.connect();
            for piece in [&header[..], request].concat().chunks(pieces) {
                client.send(piece);
            }
            // Of the connection and not of a request: it holds for the next one, too.
            for _ in 0..2 {
                let heard = client.read().expect(200).text();
                let source_port = client.socket().local_addr().expect("an address").port();
                assert_eq!(heard, want.replace("PORT", &source_port.to_string()), "{}", header.escape_ascii());
                client.send(request);
            }
            client.read().expect(200);
        }
    }
    server.stop();
}

#[test]
fn without_a_proxy_header_or_trust_a_connection_is_closed() {
    let site = site();
    let table: [(&[u8], &str); 5] = [
        (
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "closed a connection from 127.0.0.1, because it begins with no PROXY header",
        ),
        (b"PROXY TCP4 1.2.3.4\r\n", "because its PROXY line (version 1) is malformed"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff", "because its PROXY header is too long"),
        (b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0", "because its PROXY header (version 2) is malformed"),
        (b"", "because it ended before its PROXY header"),
    ];
    for (bytes, says) in table {
        // A server for each: of several lines in a row, the log has the first.
        let server = Server::start(&site, ["--cores", "1", "--trusted-proxy", "127.0.0.1", "--proxy-protocol", "all"]);
        let mut client = server.connect();
        client.send(bytes).finish();
        client.expect_close();
        wait_until("a line about it", || server.output().contains(says));
        let mut good = server.connect();
        good.send(b"PROXY UNKNOWN\r\n").get("/").expect(200);
        server.stop();
    }
    let server = Server::start(&site, ["--cores", "1", "--trusted-proxy", "127.0.0.1", "--proxy-protocol", "all"]);
    let mut client = Client::connect_from(stranger(), server.addr);
    // It may be closed before it has said anything.
    let _ = client.try_send(b"PROXY TCP4 192.0.2.1 198.51.100.1 4711 443\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.expect_close();
    let says = "closed a connection from 127.0.0.2, because nobody trusts it (--trusted-proxy)";
    wait_until("a line about it", || server.output().contains(says));
    server.stop();
}

#[test]
fn a_proxy_header_has_the_time_of_a_head() {
    let site = site();
    let args = ["--trusted-proxy", "127.0.0.1", "--proxy-protocol", "all", "--head-ms-max", "50ms"];
    let server = Server::start(&site, args);
    for begun in [&b""[..], b"PROXY TC", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0"] {
        let mut client = server.connect();
        client.send(begun);
        client.expect_close();
    }
    wait_until("a line about it", || server.output().contains("did not come in time (--head-ms-max)"));
    server.stop();
}

#[test]
fn a_stop_does_not_wait_for_a_proxy_header() {
    let site = site();
    let hour = ["--head-ms-max", "1h", "--drain-ms-max", "1h"];
    let server =
        Server::start(&site, ["--trusted-proxy", "127.0.0.1", "--proxy-protocol", "all"].into_iter().chain(hour));
    let mut silent = server.connect();
    let mut begun = server.connect();
    begun.send(b"PROXY ");
    let mut served = server.connect();
    served.send(b"PROXY UNKNOWN\r\n").get("/").expect(200);
    server.stop();
    silent.expect_close();
    begun.expect_close();
}

#[test]
fn each_listener_speaks_it_or_does_not() {
    let site = site();
    let path = site.at("listen.sock");
    let bind = format!("unix:{}", path.display());
    let server = Server::start(
        &site,
        ["--bind", "127.0.0.1", "--bind", &bind, "--proxy-protocol", &bind, "--trusted-proxy", "unix"],
    );
    server.get("/").expect(200);
    let mut client = Client::connect_unix(&path);
    client.send(b"PROXY TCP4 192.0.2.1 198.51.100.1 4711 443\r\n");
    assert!(who(&mut client, &[]).starts_with("192.0.2.1 "));
    // What it is elsewhere: not HTTP.
    let mut client = server.connect();
    client.send(b"PROXY TCP4 192.0.2.1 198.51.100.1 4711 443\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.read().expect(400);
    server.stop();
}

/// A balancer in front of a proxy: the header says who connected to the balancer, and only if that one is trusted, its fields
/// say who the client is.
#[test]
fn of_a_header_and_fields_the_fields_count_if_the_header_names_somebody_trusted() {
    let site = site();
    let args = ["--trusted-proxy", "127.0.0.1", "--trusted-proxy", "10.0.0.0/8", "--proxy-protocol", "all"];
    let server = Server::start(&site, args);
    let field = "X-Forwarded-For: 203.0.113.9";
    let mut by_proxy = server.connect();
    by_proxy.send(b"PROXY TCP4 10.1.1.1 198.51.100.1 4711 443\r\n");
    assert!(who(&mut by_proxy, &[field]).starts_with("203.0.113.9 "));
    assert!(who(&mut by_proxy, &[]).starts_with("10.1.1.1 "));
    let mut direct = server.connect();
    direct.send(b"PROXY TCP4 192.0.2.1 198.51.100.1 4711 443\r\n");
    let heard = who(&mut direct, &[field]);
    assert!(heard.starts_with("192.0.2.1 ") && heard.contains("xff=none"), "{heard}");
    server.stop();
}
