//! `--metrics`, as a collector and a balancer see it.

mod exposition;
mod instance_support;
mod support;

use exposition::{Exposition, Form};
use instance_support::Home;
use rustix::process::Signal;
use std::net::SocketAddr;
use std::path::Path;
use support::{Client, Launch, Response, Server, Site, wait_until};

/// A server that can be watched.
struct Watched {
    server: Server,
    at: SocketAddr,
}

impl Watched {
    fn start<'a>(site: &Site, args: impl IntoIterator<Item = &'a str>) -> Watched {
        let server = Launch::new(site).args(["--metrics", "127.0.0.1:0"]).args(args).start();
        // Its line comes after the one with the address, in the same write or not.
        wait_until("the banner says where the metrics are", || metrics_at(&server.output()).is_some());
        let at = metrics_at(&server.output()).expect("just seen");
        Watched { server, at }
    }

    fn ask(&self, path: &str) -> Response {
        let mut client = Client::connect(self.at);
        let response = client.get(path);
        client.expect_close();
        response
    }

    #[track_caller]
    fn scrape(&self) -> Exposition {
        let response = self.ask("/metrics").expect(200);
        assert_eq!(response.must("content-type"), "text/plain; version=0.0.4; charset=utf-8");
        Exposition::parse(&response.text(), Form::Prometheus)
    }
}

fn metrics_at(said: &str) -> Option<SocketAddr> {
    let line = said.lines().find_map(|line| line.strip_prefix("metrics http://"))?;
    line.strip_suffix("/metrics")?.parse().ok()
}

#[test]
fn every_kind_of_reply_is_counted_and_both_forms_are_valid() {
    let site = Site::new()
        .file("a.txt", "hello")
        .file("big.bin", vec![7; 300_000])
        .file("folder/x", "x")
        .sh("cgi-bin/ok.sh", "echo 'Content-Type: text/plain'; echo; echo hi")
        .sh("cgi-bin/teapot.sh", "echo 'Status: 418 Teapot'; echo; exit 3")
        .sh("cgi-bin/nothing.sh", "exit 0");
    let watched = Watched::start(&site, ["--listing", "--cores", "2"]);
    let server = &watched.server;
    let etag = server.get("/a.txt").expect(200).must("etag").to_owned();
    let mut client = server.connect();
    client.request("GET", "/a.txt", &[&format!("If-None-Match: {etag}")]).expect(304);
    client.request("GET", "/a.txt", &["Range: bytes=0-1"]).expect(206);
    client.get("/a.txt").expect(200);
    client.get("/big.bin").expect(200);
    client.get("/folder").expect(301);
    client.get("/folder/").expect(200);
    client.get("/no/such/path").expect(404);
    client.request("DELETE", "/a.txt", &[]).expect(405);
    client.get("/cgi-bin/ok.sh").expect(200);
    client.get("/cgi-bin/teapot.sh").expect(418);
    server.get("/cgi-bin/nothing.sh").expect(502);
    server.get("/cgi-bin/missing.sh").expect(404);
    server.connect().send("nonsense\r\n\r\n").read().expect(400);

    let kinds = [
        ("file", "200", 3.0),
        ("file", "206", 1.0),
        ("file", "304", 1.0),
        ("listing", "200", 1.0),
        ("redirect", "301", 1.0),
        ("error", "400", 1.0),
        ("error", "404", 2.0),
        ("error", "405", 1.0),
        ("cgi", "200", 1.0),
        ("cgi", "418", 1.0),
        ("cgi", "502", 1.0),
    ];
    let all: f64 = kinds.iter().map(|(_, _, count)| count).sum();
    let counted = |page: &Exposition| page.sum("ucaffeine_requests_total", &[]) == all;
    let whole = |page: &Exposition| page.sum("ucaffeine_request_duration_seconds_count", &[]) == all;
    let exited = |page: &Exposition| page.sum("ucaffeine_cgi_exits_total", &[]) == 3.0;
    wait_until("all is counted, all is sent, and the scripts have exited", || {
        let page = watched.scrape();
        counted(&page) && whole(&page) && exited(&page)
    });
    let page = watched.scrape();
    for (kind, code, count) in kinds {
        assert_eq!(page.sum("ucaffeine_requests_total", &[("kind", kind), ("code", code)]), count, "{kind} {code}");
    }
    assert_eq!(page.sum("ucaffeine_request_first_byte_seconds_count", &[]), all);
    assert_eq!(page.sum("ucaffeine_request_first_byte_seconds_count", &[("by", "cgi")]), 3.0);
    for (how, count) in [("success", 2.0), ("failure", 1.0), ("signal", 0.0)] {
        assert_eq!(page.sum("ucaffeine_cgi_exits_total", &[("how", how)]), count, "{how}");
    }
    assert_eq!(page.sum("ucaffeine_cgi_run_seconds_count", &[]), 3.0);
    assert_eq!(page.sum("ucaffeine_cgi_started_total", &[]), 3.0);
    assert_eq!(page.sum("ucaffeine_core_up", &[]), 2.0);
    for (name, least) in [
        ("ucaffeine_sent_bytes_total", 300_000.0),
        ("ucaffeine_received_bytes_total", 500.0),
        ("ucaffeine_connections_accepted_total", 5.0),
        ("ucaffeine_ring_enters_total", 10.0),
        ("ucaffeine_ring_submissions_total", 10.0),
        ("ucaffeine_ring_completions_total", 10.0),
        ("ucaffeine_file_cache_misses_total", 1.0),
        ("ucaffeine_file_cache_hits_total", 1.0),
        ("ucaffeine_file_cache_bytes", 5.0),
        ("process_resident_memory_bytes", 1e6),
        ("process_start_time_seconds", 1.7e9),
    ] {
        assert!(page.sum(name, &[]) >= least, "{name}: {}", page.sum(name, &[]));
    }
    for name in ["ucaffeine_requests_cut_total", "ucaffeine_requests_in_flight", "ucaffeine_tasks_panicked_total"] {
        assert_eq!(page.sum(name, &[]), 0.0, "{name}");
    }
    the_other_form_has_the_same_series(&watched, &page);
    drop(client);
    watched.server.stop();
}

fn the_other_form_has_the_same_series(watched: &Watched, page: &Exposition) {
    let accept = "Accept: application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    let response = Client::connect(watched.at).request("GET", "/metrics", &[accept]).expect(200);
    assert_eq!(response.must("content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let open = Exposition::parse(&response.text(), Form::OpenMetrics);
    assert_eq!(open.shape(), page.shape());
    assert_eq!(open.families["ucaffeine_build"].is, "info");
}

/// Whatever clients ask for, there are no more series.
#[test]
fn no_path_becomes_a_label() {
    let site = Site::new().file("secret-name.txt", "x");
    let watched = Watched::start(&site, []);
    let before = watched.scrape().shape();
    let mut client = watched.server.connect();
    client.get("/secret-name.txt").expect(200);
    client.get("/secret-other\\n%22").expect(404);
    wait_until("both are counted", || watched.scrape().sum("ucaffeine_requests_total", &[]) == 2.0);
    let text = watched.ask("/metrics").text();
    assert!(!text.contains("secret"), "{text}");
    let after = watched.scrape().shape();
    let new: Vec<_> = after.difference(&before).collect();
    assert_eq!(new.len(), 1, "only that there was a 404: {new:?}");
}

#[test]
fn a_script_that_is_ended_is_counted_by_why_and_how() {
    let site = Site::new().sh("cgi-bin/silent.sh", "sleep 600");
    let watched = Watched::start(&site, ["--cgi-first-byte-ms-max", "300"]);
    watched.server.get("/cgi-bin/silent.sh").expect(504);
    wait_until("it is ended, and that is counted", || {
        let page = watched.scrape();
        page.sum("ucaffeine_cgi_ended_total", &[("why", "first_byte")]) == 1.0
            && page.sum("ucaffeine_cgi_exits_total", &[("how", "signal")]) == 1.0
            && page.sum("ucaffeine_cgi_running", &[]) == 0.0
    });
    assert_eq!(watched.scrape().sum("ucaffeine_requests_total", &[("kind", "cgi"), ("code", "504")]), 1.0);
}

#[test]
fn a_reply_that_is_cut_was_in_flight_and_is_not_whole() {
    let site = Site::new().sh("cgi-bin/slow.sh", "echo 'Content-Type: text/plain'; echo; echo begun; sleep 600");
    let watched = Watched::start(&site, ["--cgi-running-max", "1", "--cgi-queued-max", "0"]);
    let mut client = watched.server.connect();
    client.head(&["GET /cgi-bin/slow.sh HTTP/1.1", "Host: {host}"]);
    client.read_until(b"begun");
    let page = watched.scrape();
    assert_eq!(page.sum("ucaffeine_requests_in_flight", &[]), 1.0);
    assert_eq!(page.sum("ucaffeine_cgi_running", &[]), 1.0);
    // Its reply has a head.
    assert_eq!(page.sum("ucaffeine_requests_total", &[("kind", "cgi"), ("code", "200")]), 1.0);
    watched.server.get("/cgi-bin/slow.sh").expect(503);
    assert_eq!(watched.scrape().sum("ucaffeine_cgi_rejected_total", &[]), 1.0);
    client.reset();
    wait_until("the reply was cut, and the script ended", || {
        let page = watched.scrape();
        page.sum("ucaffeine_requests_cut_total", &[]) == 1.0
            && page.sum("ucaffeine_requests_in_flight", &[]) == 0.0
            && page.sum("ucaffeine_cgi_ended_total", &[("why", "client_gone")]) == 1.0
    });
    let page = watched.scrape();
    let (answered, whole) = ("ucaffeine_requests_total", "ucaffeine_request_duration_seconds_count");
    assert_eq!(page.sum(answered, &[]), page.sum(whole, &[]) + page.sum("ucaffeine_requests_cut_total", &[]));
    watched.server.stop_in_flight();
}

#[test]
fn idle_connections_are_counted_when_they_are_closed() {
    let watched = Watched::start(&Site::new(), ["--idle-ms-max", "100"]);
    watched.server.connect().expect_close();
    wait_until("it is counted", || {
        let page = watched.scrape();
        page.sum("ucaffeine_connections_idle_closed_total", &[]) == 1.0
            && page.sum("ucaffeine_connections_open", &[]) == 0.0
    });
    assert_eq!(watched.scrape().sum("ucaffeine_connections_accepted_total", &[]), 1.0);
}

#[test]
fn the_site_knows_nothing_of_it_and_the_listener_nothing_of_the_site() {
    let site = Site::new().file("a", "a");
    let watched = Watched::start(&site, []);
    for path in ["/metrics", "/healthz", "/readyz"] {
        watched.server.get(path).expect(404);
        watched.ask(path).expect(200);
    }
    assert_eq!(watched.ask("/healthz").text(), "ok\n");
    watched.ask("/metrics?x=1").expect(200);
    watched.ask("/a").expect(404);
    let response = Client::connect(watched.at).request("POST", "/metrics", &["Content-Length: 0"]).expect(405);
    assert_eq!(response.must("allow"), "GET, HEAD");
    Client::connect(watched.at).send("GET  /metrics HTTP/1.1\r\n\r\n").read().expect(400);
    let head = Client::connect(watched.at).request("HEAD", "/healthz", &[]).expect(200);
    assert_eq!((head.must("content-length"), head.body.len()), ("3", 0));
    let mut old = Client::connect(watched.at);
    old.send("GET /readyz HTTP/1.0\r\n\r\n").read().expect(200);
}

#[test]
fn readiness_ends_before_service_does() {
    let site = Site::new().file("a", "a");
    let watched = Watched::start(&site, ["--drain-delay-ms", "1h"]);
    watched.ask("/readyz").expect(200);
    let mut kept = watched.server.connect();
    kept.get("/a").expect(200);
    watched.server.signal(Signal::TERM);
    wait_until("it says that it is about to stop", || watched.ask("/readyz").status == 503);
    // Who has come, and who comes now, is served as ever.
    assert!(!kept.get("/a").expect(200).closes());
    assert!(!watched.server.get("/a").expect(200).closes());
    watched.ask("/healthz").expect(200);
    assert_eq!(watched.scrape().sum("ucaffeine_ready", &[]), 0.0);
    // The second word is the last.
    watched.server.signal(Signal::TERM);
    assert_eq!(watched.server.wait().code, Some(0));
}

#[test]
fn a_delay_ends_by_itself() {
    let site = Site::new().file("a", "a");
    let watched = Watched::start(&site, ["--drain-delay-ms", "50"]);
    watched.server.stop();
}

#[test]
fn probes_are_answered_while_it_drains() {
    let site = Site::new().sh(
        "cgi-bin/wait.sh",
        "echo 'Content-Type: text/plain'; echo; echo begun; while [ ! -e ../go ]; do sleep 0.05; done; echo done",
    );
    let watched = Watched::start(&site, []);
    let mut client = watched.server.connect();
    client.head(&["GET /cgi-bin/wait.sh HTTP/1.1", "Host: {host}"]);
    client.read_until(b"begun");
    watched.server.signal(Signal::TERM);
    wait_until("it says that it stops", || watched.ask("/readyz").status == 503);
    watched.ask("/healthz").expect(200);
    // Of the cores that have nothing left to do, the numbers stay.
    assert_eq!(watched.scrape().sum("ucaffeine_requests_total", &[("kind", "cgi")]), 1.0);
    site.write("go", "");
    client.read_until(b"done");
    assert_eq!(watched.server.wait().code, Some(0));
}

#[test]
fn connections_are_few_and_the_next_ones_are_told() {
    let site = Site::new();
    let watched = Watched::start(&site, []);
    // Each may be silent for ten seconds; on a machine that is slower than that, another try.
    wait_until("the ninth is told that it is one too many", || {
        let silent: Vec<Client> = (0..8).map(|_| Client::connect(watched.at)).collect();
        let mut ninth = Client::connect(watched.at);
        let told = ninth.read_to_end();
        drop(silent);
        told.starts_with(b"HTTP/1.1 503 ")
    });
    wait_until("when they have gone, others are answered", || {
        let mut client = Client::connect(watched.at);
        let _ = client.try_send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
        client.read_to_end().starts_with(b"HTTP/1.1 200 ")
    });
}

#[test]
fn a_unix_socket_will_do() {
    let site = Site::new();
    let socket = tempfile::tempdir().expect("a temporary folder");
    let path = socket.path().join("metrics.sock");
    let server = Launch::new(&site).args(["--metrics", &format!("unix:{}", path.display())]).start();
    wait_until("it is there", || path.exists());
    let ask = |target: &str| {
        let mut client = Client::connect_unix(&path);
        client.get(target).expect(200).text()
    };
    assert_eq!(ask("/readyz"), "ok\n");
    Exposition::parse(&ask("/metrics"), Form::Prometheus);
    assert!(server.output().contains(&format!("metrics unix:{}", path.display())), "{}", server.output());
}

#[test]
fn an_address_that_is_taken_is_said_before_anything_is_served() {
    let site = Site::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = taken.local_addr().expect("an address").to_string();
    let exit = Launch::new(&site).args(["--metrics", &at]).fails();
    assert_eq!(exit.code, Some(4), "{}", exit.output);
    assert!(exit.output.contains(&format!("cannot listen on {at}")), "{}", exit.output);
    let exit = Launch::new(&site).args(["--metrics", "127.0.0.1"]).fails();
    assert_eq!(exit.code, Some(2), "{}", exit.output);
    assert!(exit.output.contains("without a port"), "{}", exit.output);
}

/// `-L` and the metrics are two views of the same numbers.
#[test]
fn the_list_says_what_the_metrics_say() {
    let home = Home::new();
    home.content("shop", "a.txt", "hello");
    home.script("shop", "cgi-bin/fail.sh", "exit 1");
    let said = home.run(["-D", "-n", "shop", "-p", "0", "--metrics", "127.0.0.1:0"]).expect(0);
    let (addr, at) = (said.addr(), metrics_at(&said.stdout).expect("where the metrics are"));
    let mut client = Client::connect(addr);
    for (path, status) in [("/a.txt", 200), ("/a.txt", 200), ("/missing", 404)] {
        client.get(path).expect(status);
    }
    client.get("/cgi-bin/fail.sh").expect(502);
    let page = Exposition::parse(&Client::connect(at).get("/metrics").expect(200).text(), Form::Prometheus);
    let row = home.row("shop");
    assert_eq!(page.sum("ucaffeine_requests_total", &[]), 4.0);
    assert_eq!(row["requests"], 4);
    assert_eq!((row["errors"].as_f64(), page.sum("ucaffeine_requests_total", &[("code", "502")])), (Some(1.0), 1.0));
    assert_eq!((&row["state"], page.sum("ucaffeine_ready", &[])), (&"serving".into(), 1.0));
    let memory = row["memory_bytes"].as_f64().expect("a number");
    let resident = page.sum("process_resident_memory_bytes", &[]);
    assert!(memory > resident / 2.0 && memory < resident * 2.0, "{memory} and {resident}");
    home.run(["-s", "-n", "shop"]).expect(0);
    assert!(!Path::new(&home.run_folder("shop")).join("control").exists());
}
