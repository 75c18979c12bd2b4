use super::*;
use crate::http::head;
use crate::http::limits::Limits;
use crate::http::request::FieldSlots;
use crate::http::trust::Network;

/// The proxies of these tests: 10/8, 2001:db8::/32 and whoever is on the Unix socket.
fn trusted() -> Trusted {
    let networks = ["10.0.0.0/8", "2001:db8::/32"].map(|text| Network::parse(text).unwrap());
    Trusted { networks: networks.to_vec(), unix: true }
}

/// `ADDR:PORT https|http HOST`, dashes for what is not known.
fn said(lines: &[&str]) -> String {
    let fields: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let bytes = format!("GET / HTTP/1.1\r\nHost: inner:8080\r\n{fields}\r\n");
    let mut slots = FieldSlots::new();
    let (request, _) = head::parse(&Limits::default(), bytes.as_bytes(), &mut slots).unwrap().unwrap();
    let client = client(&request.fields, &trusted());
    let addr = client.addr.map_or_else(|| String::from("-"), |addr| addr.to_string());
    let port = client.port.map_or_else(|| String::from("-"), |port| port.to_string());
    let scheme = client.https.map_or("-", |https| if https { "https" } else { "http" });
    format!("{addr} {port} {scheme} {}", client.host.map_or("-", |host| str::from_utf8(host).unwrap()))
}

#[test]
fn forwarded_is_read_from_its_end() {
    let table: [(&[&str], &str); 32] = [
        (&[], "- - - -"),
        (&["Forwarded: for=192.0.2.1"], "192.0.2.1 - - -"),
        (&["forwarded: FOR=192.0.2.1;Proto=HTTPS;HOST=a.example;by=10.0.0.1"], "192.0.2.1 - https a.example"),
        (&["Forwarded: for=\"192.0.2.1:4711\""], "192.0.2.1 4711 - -"),
        (&["Forwarded: for=\"[2001:db9::1]\""], "2001:db9::1 - - -"),
        (&["Forwarded: for=\"[2001:db9::1]:4711\";proto=http"], "2001:db9::1 4711 http -"),
        (&["Forwarded: for=\"[2001:db9::1]:_made_up\""], "2001:db9::1 - - -"),
        (&["Forwarded: for=\"[::ffff:192.0.2.1]\""], "192.0.2.1 - - -"),
        (&["Forwarded: for=\"\\1\\92.0.2.1\""], "192.0.2.1 - - -"),
        (&["Forwarded: for=192.0.2.1;host=\"a.example:8443\""], "192.0.2.1 - - a.example:8443"),
        // Several elements, in one line and in several: the first from the end that is not a proxy's.
        (&["Forwarded: for=192.0.2.9, for=192.0.2.1"], "192.0.2.1 - - -"),
        (&["Forwarded: for=192.0.2.9, for=192.0.2.1, for=10.0.0.1"], "192.0.2.1 - - -"),
        (&["Forwarded: for=192.0.2.9", "Forwarded: for=192.0.2.1,for=10.0.0.1"], "192.0.2.1 - - -"),
        (
            &["Forwarded: for=192.0.2.1", "Forwarded: for=10.0.0.1", "Forwarded: for=\"[2001:db8::1]\""],
            "192.0.2.1 - - -",
        ),
        (&["Forwarded: for=10.0.0.2, for=10.0.0.1"], "10.0.0.2 - - -"),
        (&["Forwarded: ,for=192.0.2.1 ,, ,for=10.0.0.1,"], "192.0.2.1 - - -"),
        // The outermost proxy that is trusted knows scheme and host.
        (&["Forwarded: for=192.0.2.1;proto=https;host=out, for=10.0.0.1;proto=http;host=in"], "192.0.2.1 - https out"),
        (&["Forwarded: for=192.0.2.1, for=10.0.0.1;proto=https;host=a"], "192.0.2.1 - https a"),
        (&["Forwarded: for=1.1.1.1;proto=https;host=evil, for=192.0.2.1;proto=http"], "192.0.2.1 - http -"),
        // Who hides stays hidden, and nothing before it is believed.
        (&["Forwarded: for=192.0.2.1, for=unknown"], "- - - -"),
        (&["Forwarded: for=192.0.2.1, for=_hidden, for=10.0.0.1;proto=https"], "10.0.0.1 - https -"),
        (&["Forwarded: for=192.0.2.1, proto=https"], "- - https -"),
        (&["Forwarded: for=192.0.2.1, ;"], "- - - -"),
        // What RFC 7239 does not know is passed over; blanks around semicolons are borne with.
        (&["Forwarded: for=192.0.2.1;secret=\"a, b; c\\\"\";ext=x"], "192.0.2.1 - - -"),
        (&["Forwarded: for=192.0.2.1 ; proto=https; "], "192.0.2.1 - https -"),
        // What is no list says nothing. A quote that a client leaves open swallows what the proxy adds, and no more.
        (&["Forwarded: for=192.0.2.9;x=\", for=192.0.2.1"], "- - - -"),
        (&["Forwarded: for=192.0.2.9", "Forwarded: for=\""], "- - - -"),
        (&["Forwarded: for=\"", "Forwarded: for=192.0.2.1, for=10.0.0.1"], "192.0.2.1 - - -"),
        (&["Forwarded: for=192.0.2.1;for=192.0.2.2"], "- - - -"),
        (&["Forwarded: for=2001:db9::1"], "- - - -"),
        (&["Forwarded: for="], "- - - -"),
        (&["Forwarded: for=192.0.2.1;host=\"a b\";proto=gopher"], "192.0.2.1 - - -"),
    ];
    for (lines, want) in table {
        assert_eq!(said(lines), want, "{lines:?}");
    }
}

#[test]
fn x_forwarded_is_read_from_its_end() {
    let table: [(&[&str], &str); 21] = [
        (&["X-Forwarded-For: 192.0.2.1"], "192.0.2.1 - - -"),
        (&["x-forwarded-for: 192.0.2.9, 192.0.2.1"], "192.0.2.1 - - -"),
        (&["X-Forwarded-For: 192.0.2.9,192.0.2.1 , 10.0.0.1"], "192.0.2.1 - - -"),
        (&["X-Forwarded-For: 192.0.2.9", "X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: 10.0.0.1"], "192.0.2.1 - - -"),
        (&["X-Forwarded-For: 10.0.0.2, 10.0.0.1"], "10.0.0.2 - - -"),
        (&["X-Forwarded-For: 2001:db9::1"], "2001:db9::1 - - -"),
        (&["X-Forwarded-For: [2001:db9::1]:80"], "2001:db9::1 80 - -"),
        (&["X-Forwarded-For: 192.0.2.1:4711"], "192.0.2.1 4711 - -"),
        (&["X-Forwarded-For: 192.0.2.1:99999"], "192.0.2.1 - - -"),
        (&["X-Forwarded-For: 192.0.2.9, unknown, 10.0.0.1"], "10.0.0.1 - - -"),
        (&["X-Forwarded-For: 192.0.2.9, fe80::1%eth0"], "- - - -"),
        (&["X-Forwarded-For: , ,"], "- - - -"),
        (&["X-Forwarded-Proto: https", "X-Forwarded-Host: a.example"], "- - https a.example"),
        (&["X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: HTTPS"], "192.0.2.1 - https -"),
        (&["X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: wss", "X-Forwarded-Host: a/b"], "192.0.2.1 - - -"),
        // One value for all hops, or one for each: that of the address that is believed.
        (&["X-Forwarded-For: 192.0.2.1, 10.0.0.1", "X-Forwarded-Proto: https"], "192.0.2.1 - https -"),
        (&["X-Forwarded-For: 192.0.2.1, 10.0.0.1", "X-Forwarded-Proto: https, http"], "192.0.2.1 - https -"),
        (&["X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https, http"], "192.0.2.1 - http -"),
        (&["X-Forwarded-For: 192.0.2.1", "X-Forwarded-Host: evil, a.example"], "192.0.2.1 - - a.example"),
        // With both forms, only this one is read, of all its fields.
        (&["Forwarded: for=192.0.2.9;proto=https;host=evil", "X-Forwarded-For: 192.0.2.1"], "192.0.2.1 - - -"),
        (&["Forwarded: for=192.0.2.9;proto=http", "X-Forwarded-Proto: https"], "192.0.2.9 - http -"),
    ];
    for (lines, want) in table {
        assert_eq!(said(lines), want, "{lines:?}");
    }
}

#[test]
fn only_the_last_hops_are_looked_at() {
    let proxies = vec!["for=10.0.0.1"; HOPS_MAX - 1].join(", ");
    assert_eq!(said(&[&format!("Forwarded: for=192.0.2.9, for=192.0.2.1, {proxies}")]), "192.0.2.1 - - -");
    assert_eq!(said(&[&format!("Forwarded: for=192.0.2.1, {proxies}, for=10.0.0.2")]), "10.0.0.1 - - -");
    assert_eq!(
        said(&["Forwarded: for=192.0.2.1", &format!("Forwarded: {proxies}, for=10.0.0.1, for=10.0.0.1")]),
        "10.0.0.1 - - -",
        "and nothing of the lines before"
    );
}

#[test]
fn the_port_is_that_of_the_authority_or_of_the_scheme() {
    let known =
        |https, host: Option<&'static str>| Client { https, host: host.map(str::as_bytes), ..Client::default() };
    let table = [
        (known(None, None), None),
        (known(Some(true), None), Some(8080)),
        (known(Some(true), Some("a.example")), Some(443)),
        (known(Some(false), Some("a.example")), Some(80)),
        (known(Some(true), Some("a.example:8443")), Some(8443)),
        (known(None, Some("a.example:8443")), Some(8443)),
        (known(None, Some("a.example")), None),
        (known(Some(true), Some("[2001:db8::1]")), Some(443)),
        (known(Some(true), Some("[2001:db8::1]:8443")), Some(8443)),
    ];
    for (client, want) in table {
        assert_eq!(client.server_port(b"inner:8080"), want, "{client:?}");
    }
    assert_eq!(known(Some(true), None).server_port(b"inner"), Some(443));
}
