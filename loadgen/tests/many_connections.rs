//! Ten thousand connections at once, against the real server, with no error that is not explained.

use std::sync::Arc;

use loadgen::plan::Plan;
use loadgen::schedule::{Bounds, Load};
use loadgen::selfcheck;
use loadgen::session::{self, About};
use ucaffeine::rt::net::TcpListener;
use ucaffeine::rt::{self, Builder};

const CONNECTIONS: u32 = 10_000;
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

/// A server on the runtime, which answers whatever comes in one piece. Its address.
fn serve() -> std::net::SocketAddr {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = Builder::new().sharers(2).build().unwrap_or_else(|why| panic!("{why}"));
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            loop {
                let stream = listener.accept().await.unwrap();
                rt::spawn_detached(async move {
                    while let Ok(Some(received)) = stream.recv().await {
                        drop(received);
                        if stream.write_all(ANSWER).await.0.is_err() {
                            break;
                        }
                    }
                });
            }
        });
    });
    told.recv().unwrap()
}

#[test]
fn ten_thousand_connections_and_no_error() {
    // Each connection has a slot at both ends, and the tables count against the limit.
    let descriptors = rt::net::raise_descriptor_limit();
    if descriptors < 2 * u64::from(CONNECTIONS) {
        assert!(std::env::var_os("CI").is_none(), "ulimit -n is {descriptors}, and 20,000 are needed");
        return eprintln!("skipped: ulimit -n is {descriptors}, and 20,000 are needed");
    }
    let bounds = Bounds { duration_ns: u64::MAX, requests: 100_000 };
    let mut plan: Plan = selfcheck::plan(&format!("http://{}/", serve()), Load::Closed, CONNECTIONS, bounds).unwrap();
    plan.connecting.window = 256;
    plan.timeout = std::time::Duration::from_secs(60);
    let run = session::run(&Arc::new(plan), &About::default(), drop).unwrap();
    assert_eq!((run.measured.responses, run.measured.errors), (100_000, 0), "{:?}", run.errors);
    assert_eq!(run.latency.connect.count(), u64::from(CONNECTIONS));
    assert_eq!(run.connections.starved, 0);
    let megabytes = run.facts.generator.rss_bytes >> 20;
    // The server's end of 10,000 connections is in this process, too.
    assert!(megabytes < 128, "{megabytes} MiB");
}
