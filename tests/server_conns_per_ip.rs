//! `--conns-per-ip`: how many connections an address may have, whichever core takes them.

mod support;

use std::net::IpAddr;
use support::{Client, Server, Site, wait_until};

fn site() -> Site {
    Site::new().file("index.html", "home")
}

fn from(server: &Server, source: &str) -> Client {
    Client::connect_from(source.parse::<IpAddr>().expect("an address"), server.addr)
}

/// It is served, and so it has been counted.
#[track_caller]
fn served(mut client: Client) -> Client {
    assert_eq!(client.get("/").expect(200).text(), "home");
    client
}

#[track_caller]
fn refused(client: &mut Client) {
    let response = client.read().expect(503);
    assert!(response.closes(), "{response:?}");
    assert_eq!(response.must("retry-after"), "5");
    client.expect_close();
}

#[test]
fn one_more_than_may_be_is_503_and_closed() {
    let site = site();
    // Several cores: the kernel spreads the connections of one address over all of them.
    let server = Server::start(&site, ["--cores", "3", "--conns-per-ip", "4"]);
    let mut held: Vec<Client> = (0..4).map(|_| served(server.connect())).collect();
    for _ in 0..5 {
        refused(&mut server.connect());
    }
    wait_until("a line about it", || {
        server.output().contains("127.0.0.1 has as many connections as one address may have (--conns-per-ip): 503")
    });
    // Others are not meant, and who has one keeps it.
    let _other: Vec<Client> = (0..4).map(|_| served(from(&server, "127.0.0.2"))).collect();
    refused(&mut from(&server, "127.0.0.2"));
    held.iter_mut().for_each(|client| _ = client.get("/").expect(200));
    // One that goes makes room for another.
    held.pop();
    let mut again = None;
    wait_until("there is room again", || {
        let mut client = server.connect();
        if client.try_send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").is_err() {
            return false;
        }
        let is_served = client.read_to_end_or(15).starts_with(b"HTTP/1.1 200 OK");
        again = Some(client);
        is_served
    });
    drop(held);
    server.stop();
}

#[test]
fn without_a_bound_there_is_none() {
    let site = site();
    let server = Server::start(&site, ["--conns-per-ip", "0"]);
    let held: Vec<Client> = (0..50).map(|_| served(server.connect())).collect();
    drop(held);
    server.stop();
}

#[test]
fn trusted_proxies_and_unix_sockets_are_not_counted() {
    let site = site();
    let path = site.at("listen.sock");
    let bind = format!("unix:{}", path.display());
    let server = Server::start(
        &site,
        ["--bind", "127.0.0.1", "--bind", &bind, "--conns-per-ip", "1", "--trusted-proxy", "127.0.0.1"],
    );
    let _proxies: Vec<Client> = (0..3).map(|_| served(server.connect())).collect();
    let _local: Vec<Client> = (0..3).map(|_| served(Client::connect_unix(&path))).collect();
    let _one = served(from(&server, "127.0.0.2"));
    refused(&mut from(&server, "127.0.0.2"));
    // What a proxy says of a request counts nothing: the connection is the proxy's.
    let mut client = server.connect();
    client.request("GET", "/", &["X-Forwarded-For: 127.0.0.2"]).expect(200);
    server.stop();
}

#[test]
fn whom_a_proxy_header_names_is_counted() {
    let site = site();
    let args = ["--cores", "2", "--conns-per-ip", "1", "--trusted-proxy", "127.0.0.1", "--proxy-protocol", "all"];
    let server = Server::start(&site, args);
    let connect = |header: &str| {
        let mut client = server.connect();
        client.send(header);
        client
    };
    let ends = |source: &str, own: &str| format!("PROXY {source} {own} 4711 443\r\n");
    let v4 = |source: &str| ends(&format!("TCP4 {source}"), "198.51.100.1");
    let v6 = |source: &str| ends(&format!("TCP6 {source}"), "2001:db8::443");
    let _a = served(connect(&v4("192.0.2.1")));
    refused(&mut connect(&v4("192.0.2.1")));
    refused(&mut connect(&v6("::ffff:192.0.2.1")));
    let _b = served(connect(&v4("192.0.2.2")));
    let _c = served(connect(&v6("2001:db8:0:1::1")));
    refused(&mut connect(&v6("2001:db8:0:1:ffff::2")));
    let _d = served(connect(&v6("2001:db8:0:2::1")));
    // The proxy's own checks.
    let _own: Vec<Client> = (0..3).map(|_| served(connect("PROXY UNKNOWN\r\n"))).collect();
    server.stop();
}
