//! Properties of the HTTP layer, over generated inputs; `fuzzing` holds the assertions that the fuzz targets share.

use proptest::collection::vec;
use proptest::prelude::*;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use ucaffeine::http::body::{CHUNK_END, LAST_CHUNK, chunk_head};
use ucaffeine::http::coding::{self, Coding};

use ucaffeine::http::forwarded::{Client, HOPS_MAX};
use ucaffeine::http::limits::Limits;
use ucaffeine::http::proxy_protocol::{Ends, Header};
use ucaffeine::http::request::FieldSlots;
use ucaffeine::http::trust::{Network, Trusted};
use ucaffeine::http::{date, forwarded, fuzzing, head, path, proxy_protocol};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn any_split_of_a_connection_gives_the_same_events(choice: u8, requests in vec(request_text(), 1..4)) {
        fuzzing::request(&[&[choice][..], &requests.concat()].concat());
    }

    #[test]
    fn any_bytes_at_all_give_the_same_events(choice: u8, bytes in vec(any::<u8>(), 0..100)) {
        fuzzing::request(&[&[choice][..], &bytes].concat());
    }

    #[test]
    fn well_formed_requests_are_all_understood(paths in vec("/[a-z0-9/]{0,20}", 1..5), piece in 1usize..50) {
        let input: String = paths.iter().map(|path| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
        let events = fuzzing::transcript(&Limits::default(), input.as_bytes(), piece);
        let understood = events.iter().filter(|event| event.starts_with("request")).count();
        prop_assert_eq!(understood, paths.len(), "{:?}", events);
        prop_assert_eq!(events.last().map(String::as_str), Some("over"));
    }

    #[test]
    fn what_is_written_in_chunks_is_read_as_it_was(pieces in vec(vec(any::<u8>(), 1..70), 0..6), piece in 1usize..100) {
        let mut input = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for payload in &pieces {
            input.extend_from_slice(&chunk_head(payload.len()));
            input.extend_from_slice(payload);
            input.extend_from_slice(CHUNK_END);
        }
        input.extend_from_slice(LAST_CHUNK);
        let events = fuzzing::transcript(&Limits::default(), &input, piece);
        let payload = pieces.concat();
        let body = (!payload.is_empty()).then(|| format!("body {}", payload.escape_ascii()));
        let expected: Vec<_> = body.into_iter().collect();
        prop_assert_eq!(&events[1..events.len() - 2], expected);
        prop_assert_eq!(&events[events.len() - 2..], ["end KeepAlive", "over"]);
    }

    #[test]
    fn chunked_bodies_of_any_bytes(choice: u8, body in chunked_text()) {
        fuzzing::chunked(&[&[choice][..], &body].concat());
    }

    #[test]
    fn whatever_a_client_says_the_outermost_proxy_is_believed(choice: u8, said in forwarded_text()) {
        fuzzing::forwarded(&[&[choice][..], said.as_bytes()].concat());
    }

    #[test]
    fn what_a_proxy_writes_is_read_as_it_was(addr: IpAddr, port: u16, https: bool, proxies in 0usize..40) {
        let trusted = Trusted { networks: vec![Network::parse("198.51.100.7").unwrap()], unix: false };
        let addr = addr.to_canonical();
        prop_assume!(!trusted.has(Some(addr)));
        let node = if addr.is_ipv4() { format!("{addr}:{port}") } else { format!("[{addr}]:{port}") };
        let scheme = if https { "https" } else { "http" };
        let hops = ", for=198.51.100.7".repeat(proxies.min(HOPS_MAX - 1));
        let lines = [
            format!("Forwarded: for=\"{node}\";proto={scheme};host=\"a.example:{port}\"{hops}\r\n"),
            format!("X-Forwarded-For: {node}{}\r\nX-Forwarded-Proto: {scheme}\r\nX-Forwarded-Host: a.example:{port}\r\n", ", 198.51.100.7".repeat(proxies)),
        ];
        for line in lines {
            let bytes = format!("GET / HTTP/1.1\r\nHost: b\r\n{line}\r\n");
            let mut slots = FieldSlots::new();
            let (request, _) = head::parse(&Limits::default(), bytes.as_bytes(), &mut slots).unwrap().unwrap();
            let host = format!("a.example:{port}");
            let want = Client { addr: Some(addr), port: Some(port), https: Some(https), host: Some(host.as_bytes()) };
            prop_assert_eq!(forwarded::client(&request.fields, &trusted), want, "{}", line);
        }
    }

    #[test]
    fn proxy_headers_of_any_bytes(bytes in vec(any::<u8>(), 0..80), start in 0usize..4) {
        let starts: [&[u8]; 4] = [b"", b"PROXY TCP4 ", b"\r\n\r\n\0\r\nQUIT\n", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x14"];
        fuzzing::proxy_protocol(&[starts[start], &bytes].concat());
    }

    #[test]
    fn what_a_balancer_writes_is_read_as_it_was(from: Ipv6Addr, to: Ipv6Addr, v4: (Ipv4Addr, Ipv4Addr), ports: (u16, u16)) {
        let lines = [
            (format!("TCP6 {from} {to}"), IpAddr::V6(from), IpAddr::V6(to)),
            (format!("TCP4 {} {}", v4.0, v4.1), IpAddr::V4(v4.0), IpAddr::V4(v4.1)),
        ];
        for (text, from, to) in lines {
            let line = format!("PROXY {text} {} {}\r\n", ports.0, ports.1);
            let octets = |addr: IpAddr| match addr {
                IpAddr::V4(v4) => v4.octets().to_vec(),
                IpAddr::V6(v6) => v6.octets().to_vec(),
            };
            let block = [octets(from), octets(to), ports.0.to_be_bytes().to_vec(), ports.1.to_be_bytes().to_vec()].concat();
            let fixed = [0x21, if from.is_ipv4() { 0x11 } else { 0x21 }, 0, block.len() as u8];
            let binary = [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &fixed, &block].concat();
            let ends = Ends {
                source: SocketAddr::new(from.to_canonical(), ports.0),
                destination: SocketAddr::new(to.to_canonical(), ports.1),
            };
            for bytes in [line.into_bytes(), binary] {
                let want = Ok(Some(Header { len: bytes.len(), ends: Some(ends), https: None }));
                prop_assert_eq!(proxy_protocol::parse(&bytes), want);
            }
        }
    }

    #[test]
    fn no_path_leaves_the_root(raw in "(/|\\.|%2e|%2E|%2f|%00|%25|%5c|%c3|a|\\\\|\\.well-known|\r|%g){0,12}") {
        fuzzing::path(raw.as_bytes());
        fuzzing::path(format!("/{raw}").as_bytes());
    }

    #[test]
    fn a_name_below_the_root_is_found_as_it_is(name in vec(name_byte(), 1..30)) {
        let raw: String = name.iter().map(|byte| format!("%{byte:02X}")).collect();
        let mut out = Vec::new();
        prop_assert_eq!(path::normalise(format!("/x/../{raw}").as_bytes(), &mut out), Ok(()));
        prop_assert_eq!(out, name);
    }

    #[test]
    fn ranges_stay_inside(length in prop_oneof![0u64..30, any::<u64>()], specs in vec(range_spec(), 0..9)) {
        fuzzing::range(&[&length.to_le_bytes()[..], b"bytes=", specs.join(",").as_bytes()].concat());
    }

    #[test]
    fn dates_are_read_as_they_are_written(unix_secs in 0..=date::UNIX_SECS_MAX) {
        prop_assert_eq!(date::parse(&date::format(unix_secs)), Some(unix_secs));
    }
}

/// A byte that a file's name may have anywhere.
fn name_byte() -> impl Strategy<Value = u8> {
    any::<u8>().prop_filter("no name has it", |byte| !b"\0\r\n/.".contains(byte))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    /// RFC 9110 section 12.5.3, written down once more, and slowly.
    #[test]
    fn the_coding_with_the_greatest_weight_is_chosen(
        said in vec((0usize..6, 0u16..=10), 0..6),
        there in proptest::sample::subsequence(Coding::ALL.to_vec(), 0..=3),
    ) {
        const TOKENS: [&str; 6] = ["br", "zstd", "gzip", "identity", "*", "deflate"];
        let value: Vec<String> =
            said.iter().map(|(token, tenths)| format!("{};q={}.{}", TOKENS[*token], tenths / 10, tenths % 10)).collect();
        let weight = |token: &str| {
            let named = |name: &str| said.iter().filter(|(at, _)| TOKENS[*at] == name).map(|(_, tenths)| *tenths).min();
            named(token).or_else(|| named("*"))
        };
        let wanted = |coding: &Coding| weight(coding.token()).unwrap_or(0);
        let best = there.iter().map(wanted).max().unwrap_or(0);
        let expected = match weight("identity") {
            _ if best == 0 => None,
            Some(identity) if identity > best => None,
            _ => there.iter().copied().find(|coding| wanted(coding) == best),
        };
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: {}\r\n\r\n", value.join(", "));
        let mut slots = FieldSlots::new();
        let (request, _) = head::parse(&Limits::default(), head.as_bytes(), &mut slots).unwrap().unwrap();
        prop_assert_eq!(coding::choose(&request.fields, there.iter().copied()), expected, "{:?}", value);
    }

    #[test]
    fn any_wish_is_read_without_harm(value in "[a-z*;=, .0-9Q\t]{0,40}") {
        fuzzing::coding(value.as_bytes());
    }
}

/// A range with short numbers, or ones around 64 bits.
fn range_spec() -> &'static str {
    "([0-9]{0,2}|[0-9]{19,21})-([0-9]{0,2}|[0-9]{19,21})"
}

/// Something like a request, whose every part may be wrong.
fn request_text() -> impl Strategy<Value = Vec<u8>> {
    let method =
        prop_oneof![4 => Just("GET"), 2 => Just("POST"), 1 => Just("OPTIONS"), 1 => "[A-Z]{1,3}".prop_map(leak)];
    let target = prop_oneof![
        4 => "/[a-z./%?]{0,8}".prop_map(leak),
        1 => Just("*"),
        1 => Just("http://b:1/c?d"),
        1 => ".{0,4}".prop_map(leak),
    ];
    let version =
        prop_oneof![6 => Just("HTTP/1.1"), 2 => Just("HTTP/1.0"), 1 => Just("HTTP/1.3"), 1 => Just("HTTP/2.0")];
    let field = prop_oneof![
        4 => Just("Host: a"),
        2 => Just("Content-Length: 3"),
        2 => Just("Transfer-Encoding: chunked"),
        1 => Just("Connection: keep-alive"),
        1 => Just("Connection: close"),
        1 => Just("Expect: 100-continue"),
        1 => "[A-Za-z]{1,4}:[ -~]{0,6}".prop_map(leak),
        1 => "[ -~]{0,9}".prop_map(leak),
    ];
    let line_end = prop_oneof![30 => Just("\r\n"), 1 => Just("\n"), 1 => Just("\r")];
    let body = prop_oneof![4 => Just(""), 1 => Just("abc"), 1 => Just("3\r\nabc\r\n0\r\n\r\n"), 1 => Just("\r\n")];
    let lines = vec((field, line_end.clone()), 0..4);
    (method, target, version, line_end.clone(), lines, line_end, body).prop_map(
        |(method, target, version, first_end, lines, last_end, body)| {
            let fields: String = lines.iter().map(|(field, end)| format!("{field}{end}")).collect();
            format!("{method} {target} {version}{first_end}{fields}{last_end}{body}").into_bytes()
        },
    )
}

/// Something like a chunked body.
fn chunked_text() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        4 => Just("3\r\nabc\r\n".to_string()),
        2 => Just("3;a=b\r\nabc\r\n".to_string()),
        2 => Just("0\r\n\r\n".to_string()),
        1 => Just("0\r\nA: b\r\n\r\n".to_string()),
        1 => "[0-9a-f]{1,18}\r\n".prop_map(String::from),
        2 => "[0-9a;=\"\\\\ \t\r\n]{1,5}".prop_map(String::from),
    ];
    vec(part, 0..6).prop_map(|parts| parts.concat().into_bytes())
}

/// Lets generated and literal text share a type; a test process ends soon.
fn leak(text: String) -> &'static str {
    text.leak()
}

/// What a client may say to pass for another one.
fn forwarded_text() -> impl Strategy<Value = String> {
    "(for=9\\.9\\.9\\.9|for=10\\.2\\.2\\.2|for=unknown|for=\"\\[2001:db9::1\\]\"|;|;proto=https|;host=evil|\"|\\\\|, ?|\n|10\\.2\\.2\\.2|9\\.9\\.9\\.9| |=|a){0,14}"
}
