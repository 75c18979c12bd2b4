//! Real sockets: servers that behave, and servers that do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use loadgen::plan::{CloseEvery, Plan};
use loadgen::record::Run;
use loadgen::schedule::{Arrivals, Bounds, Load, Rate};
use loadgen::selfcheck;
use loadgen::session::{self, About};
use loadgen::sink::{Reply, Sink};
use loadgen::target::Address;

/// Runs a plan for that many requests against a server of that script; the result, and the requests the server saw.
fn run(
    requests: u64,
    change: impl FnOnce(&mut Plan),
    script: impl Fn(u64) -> Reply + Send + Sync + 'static,
) -> (Run, u64) {
    let sink = Sink::start(Arc::new(script)).unwrap();
    let mut plan = selfcheck::plan(&sink.url(), Load::Closed, 4, Bounds { duration_ns: u64::MAX, requests }).unwrap();
    change(&mut plan);
    let run = session::run(&Arc::new(plan), &About::default(), drop).unwrap();
    (run, sink.requests())
}

/// The errors by class: (name, how many).
fn errors(run: &Run) -> Vec<(&'static str, u64)> {
    run.errors.iter().map(|kind| (kind.class.name(), kind.count)).collect()
}

#[test]
fn counts_equal_the_servers_to_the_request() {
    for (threads, pipeline, close) in [
        (1, 1, CloseEvery::Never),
        (2, 1, CloseEvery::Never),
        (1, 8, CloseEvery::Never),
        (1, 1, CloseEvery::Requests(7)),
        (2, 4, CloseEvery::Requests(10)),
        (1, 1, CloseEvery::Chance(0.1)),
    ] {
        let change = |plan: &mut Plan| (plan.threads, plan.pipeline, plan.close) = (threads, pipeline, close);
        let (run, served) = run(3_000, change, |_| Reply::ok(b"hello"));
        assert_eq!(errors(&run), [], "{threads} {pipeline} {close:?}");
        assert_eq!((run.measured.responses, served), (3_000, 3_000), "{threads} {pipeline} {close:?}");
        assert_eq!(run.measured.body_bytes, 3_000 * 5);
        assert_eq!(run.latency.response.count(), 3_000);
    }
}

#[test]
fn an_open_loop_sends_what_its_schedule_says() {
    for arrivals in [Arrivals::Constant, Arrivals::Poisson, Arrivals::Uniform] {
        let change = |plan: &mut Plan| {
            plan.load = Load::Open(Rate { from: 5_000.0, to: 5_000.0 }, arrivals);
            plan.bounds = Bounds { duration_ns: 500_000_000, requests: u64::MAX };
        };
        let (run, served) = run(0, change, |_| Reply::ok(b"hello"));
        assert_eq!(errors(&run), []);
        assert_eq!(run.facts.load.offered_requests, Some(served));
        assert_eq!(run.measured.responses, served);
        // 2,500; of a Poisson process with a deviation of 50.
        assert!((2_250..2_750).contains(&served), "{served} of {arrivals:?}");
    }
}

/// Every tenth answer is bad.
fn tenth(number: u64, bad: Reply) -> Reply {
    if number % 10 == 9 { bad } else { Reply::ok(b"hello") }
}

fn raw(text: &str) -> Reply {
    Reply { delay: Duration::ZERO, bytes: text.as_bytes().to_vec(), closes: false }
}

#[test]
fn bodies_that_are_corrupt_short_or_over_long_are_caught() {
    let one = |plan: &mut Plan| plan.connections = 1;
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    let cases: [(Reply, &str); 9] = [
        (Reply::ok(b"hellO"), "corrupt"),
        (Reply::ok(b"hell"), "short"),
        (Reply::ok(b"helloo"), "over-long"),
        // Less and more than the head has said.
        (raw(&format!("{head}hel")).closing(), "short"),
        (raw(&format!("{head}hello!!!")), "over-long"),
        (raw("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"), "bad-status"),
        (raw("HTTP/1.1 200 OK\nContent-Length: 0\n\n"), "parse"),
        (raw("").closing(), "closed"),
        (raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n").closing(), "short"),
    ];
    for (bad, class) in cases {
        let script = bad.clone();
        let (run, served) = run(200, one, move |number| tenth(number, script.clone()));
        let found = errors(&run);
        assert!(found.iter().all(|(name, _)| *name == class), "{bad:?}: {found:?}");
        assert_eq!(found.iter().map(|kind| kind.1).sum::<u64>(), 20, "{bad:?}: {found:?}");
        // What is over-long by bytes behind the answer is found with the next thing: the answer itself was right.
        let behind = bad.bytes.ends_with(b"!!!");
        assert_eq!(run.measured.responses, if behind { 200 } else { 180 }, "{bad:?}");
        assert_eq!(served, 200);
    }
}

#[test]
fn a_body_until_the_end_of_the_connection_is_a_whole_one() {
    let (run, served) = run(50, |_| {}, |_| raw("HTTP/1.1 200 OK\r\n\r\nhello").closing());
    assert_eq!((errors(&run), run.measured.responses, served), (vec![], 50, 50));
    assert_eq!(run.measured.body_bytes, 250);
}

#[test]
fn a_server_that_says_close_is_connected_to_again() {
    let close = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello";
    let (run, served) = run(200, |_| {}, move |_| raw(close).closing());
    assert_eq!((errors(&run), run.measured.responses, served), (vec![], 200, 200));
}

#[test]
fn nobody_there_is_a_failure_in_one_line() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let bounds = Bounds { duration_ns: 1_000_000_000, requests: u64::MAX };
    let plan = selfcheck::plan(&format!("http://{free}/"), Load::Closed, 4, bounds).unwrap();
    let failure = session::run(&Arc::new(plan), &About::default(), drop).err().unwrap().to_string();
    assert!(failure.contains("cannot connect") && failure.contains("refused"), "{failure}");
}

#[test]
fn a_server_that_goes_away_midway_ends_the_run_with_errors_and_not_with_a_hang() {
    let sink = Sink::start(Arc::new(|_| Reply::ok(b"hello"))).unwrap();
    let bounds = Bounds { duration_ns: 600_000_000, requests: u64::MAX };
    let plan = selfcheck::plan(&sink.url(), Load::Closed, 4, bounds).unwrap();
    let ender = std::thread::spawn(move || {
        while sink.requests() < 100 {
            std::thread::yield_now();
        }
        drop(sink);
    });
    let run = session::run(&Arc::new(plan), &About::default(), drop).unwrap();
    ender.join().unwrap();
    assert!(run.measured.responses >= 100);
    let found = errors(&run);
    assert!(found.iter().any(|(name, _)| *name == "refused"), "{found:?}");
}

#[test]
fn a_run_of_so_many_requests_ends_though_the_server_is_gone() {
    let sink = Sink::start(Arc::new(|_| Reply::ok(b"hello"))).unwrap();
    let bounds = Bounds { duration_ns: u64::MAX, requests: 200 };
    let plan = selfcheck::plan(&sink.url(), Load::Closed, 4, bounds).unwrap();
    let ender = std::thread::spawn(move || {
        while sink.requests() < 150 {
            std::thread::yield_now();
        }
        drop(sink);
    });
    let run = session::run(&Arc::new(plan), &About::default(), drop).unwrap();
    ender.join().unwrap();
    // Each request ends as one or the other. A connection that is reset before it has sent anything is an error, too, and no
    // request: the listener's backlog had it when it closed, once for each of the four at most.
    let ended = run.measured.responses + run.measured.errors;
    assert!((200..=204).contains(&ended), "{ended}: {:?}", run.errors);
}

#[test]
fn a_unix_socket_is_a_server_too() {
    use std::io::{Read, Write};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let served = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&served);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, counter) = (stream.unwrap(), Arc::clone(&counter));
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                // Small requests of one connection come one by one, whole.
                while stream.read(&mut buffer).is_ok_and(|count| count > 0) {
                    counter.fetch_add(1, Ordering::SeqCst);
                    stream.write_all(&Reply::ok(b"hello").bytes).unwrap();
                }
            });
        }
    });
    let bounds = Bounds { duration_ns: u64::MAX, requests: 500 };
    let mut plan = selfcheck::plan("http://127.0.0.1:1/", Load::Closed, 4, bounds).unwrap();
    plan.address = Address::Unix(path);
    let run = session::run(&Arc::new(plan), &About::default(), drop).unwrap();
    assert_eq!((errors(&run), run.measured.responses, served.load(Ordering::SeqCst)), (vec![], 500, 500));
}

#[test]
fn large_bodies_go_both_ways_whole() {
    use loadgen::target::Url;
    use loadgen::traffic::{Expect, Request, Traffic};
    use std::io::{Read, Write};
    // A server that sends a body of a mebibyte back as it came.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut received = Vec::new();
                let mut buffer = vec![0; 64 << 10];
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    received.extend_from_slice(&buffer[..count]);
                    let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
                    if received.len() >= end + 4 + (1 << 20) {
                        let body: Vec<u8> = received.drain(..end + 4 + (1 << 20)).skip(end + 4).collect();
                        stream.write_all(&Reply::ok(&body).bytes).unwrap();
                    }
                }
            });
        }
    });
    let body: Vec<u8> = (0..1u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let expect = Expect { status: Some(200), length: Some(1 << 20), crc32: Some(crc32fast::hash(&body)) };
    let bounds = Bounds { duration_ns: u64::MAX, requests: 40 };
    let mut plan = selfcheck::plan(&url.to_string(), Load::Closed, 4, bounds).unwrap();
    plan.traffic = Traffic::new(vec![Request::new("POST", &url, &[], &body, expect)]).unwrap();
    let run = session::run(&Arc::new(plan), &About::default(), drop).unwrap();
    assert_eq!((errors(&run), run.measured.responses), (vec![], 40));
}
