//! What a request costs, counted: the program behind `loadgen gate counters` (docs/gate.md).
//!
//! `counters served`: a server in this process answers requests one after the other, and its core says what that took.
//! `counters calls`, `counters call NAME N`: a pure function, N times, for valgrind.

#[path = "../../tests/counting/mod.rs"]
mod counting;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, SystemTime};

use counting::Counting;
use loadgen::gate::counters::{Cost, Counters, SCHEMA};
use ucaffeine::http::head;
use ucaffeine::http::limits::Limits;
use ucaffeine::http::request::{FieldSlots, Version};
use ucaffeine::http::status::Status;
use ucaffeine::serve::options::{Listen, Options, SiteConfig};
use ucaffeine::serve::{CoreStats, Server};
use ucaffeine::site::reply::{HeadContext, Reply, Vary};

/// The thread whose allocations are counted; 0 for none.
static WATCHED: AtomicI32 = AtomicI32::new(0);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// Counts the allocations of one thread.
fn count() {
    let watched = WATCHED.load(SeqCst);
    if watched != 0 && watched == rustix::thread::gettid().as_raw_nonzero().get() {
        ALLOCATIONS.fetch_add(1, SeqCst);
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting(count);

#[allow(dead_code, reason = "the tests include this file, too")]
fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["served"] => println!("{}", serde_json::to_string(&served(Options::default())).expect("JSON")),
        ["calls"] => CALLS.iter().for_each(|(name, _)| println!("{name}")),
        ["call", name, rounds] => {
            let call = CALLS.iter().find(|(known, _)| *known == name);
            let (Some((_, call)), Ok(rounds)) = (call, rounds.parse::<u64>()) else { return ExitCode::from(2) };
            (0..rounds).for_each(|_| call());
        }
        _ => return ExitCode::from(2),
    }
    ExitCode::SUCCESS
}

/// Pure functions of the way of every request.
#[allow(dead_code, reason = "the tests include this file, too")]
const CALLS: [(&str, fn()); 3] =
    [("a short head read", read_short), ("a browser's head read", read_long), ("a head written", write_head)];

const SHORT: &[u8] = b"GET /1k.css HTTP/1.1\r\nHost: test\r\n\r\n";
const LONG: &[u8] = b"GET /static/css/site.css?v=12 HTTP/1.1\r\nHost: www.example.org\r\nConnection: keep-alive\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\nAccept: text/css,*/*;q=0.1\r\n\
    Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nReferer: http://www.example.org/\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef\r\nIf-None-Match: \"0123456789abcdef\"\r\nDNT: 1\r\n\r\n";

fn read_short() {
    read(SHORT);
}

fn read_long() {
    read(LONG);
}

fn read(bytes: &[u8]) {
    let (limits, mut slots) = (Limits::default(), FieldSlots::new());
    let read = head::parse(&limits, std::hint::black_box(bytes), &mut slots);
    assert!(matches!(&read, Ok(Some((_, len))) if *len == bytes.len()));
    std::hint::black_box(&read);
}

fn write_head() {
    let context = HeadContext {
        version: Version::Http11,
        is_head: false,
        keep_alive: true,
        date: b"Sat, 21 Nov 2026 12:00:00 GMT",
        place: None,
        vary: Vary::Nothing,
        challenge: None,
    };
    let mut out = Vec::with_capacity(1024);
    Reply::error(std::hint::black_box(Status::NOT_FOUND)).write_head(&mut out, &context);
    assert!(!std::hint::black_box(&out).is_empty());
}

/// Requests of a round: few, so that a machine that is slow still has rounds in which no file was looked at again.
const ROUND: u64 = 200;
/// Whatever happens beside costs more and never less: of so many rounds, the cheapest is what a request costs.
const ROUNDS: u32 = 40;

/// A request, and the beginning of its answer.
const CASES: [(&str, &str, &str); 4] = [
    ("GET 1 KiB", "GET /1k.css HTTP/1.1\r\nHost: test\r\n\r\n", "HTTP/1.1 200"),
    ("HEAD", "HEAD /1k.css HTTP/1.1\r\nHost: test\r\n\r\n", "HTTP/1.1 200"),
    (
        "304",
        "GET /1k.css HTTP/1.1\r\nHost: test\r\nIf-Modified-Since: Sun, 09 Sep 2001 01:46:40 GMT\r\n\r\n",
        "HTTP/1.1 304",
    ),
    ("a range", "GET /1k.css HTTP/1.1\r\nHost: test\r\nRange: bytes=0-99\r\n\r\n", "HTTP/1.1 206"),
];

/// What each kind of request costs a server of these options.
pub fn served(options: Options) -> Counters {
    let folder = std::env::temp_dir().join(format!("ucaffeine-counters-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    prepare(&folder);
    let options = Options {
        sites: vec![SiteConfig { precompressed: false, ..SiteConfig::files_only(folder.clone()) }],
        listen: vec![Listen::Tcp("127.0.0.1:0".parse().expect("an address"))],
        cores: Some(1),
        ..options
    };
    let server = Server::start(options).expect("a server");
    let [Listen::Tcp(addr)] = *server.listening() else { panic!("one address") };
    let mut counters = Counters { schema: SCHEMA.to_owned(), ..Counters::default() };
    for (name, request, status) in CASES {
        counters.requests.insert(name.to_owned(), cheapest(&server, addr, request, status));
    }
    server.drain();
    server.join();
    let _ = std::fs::remove_dir_all(&folder);
    counters
}

fn prepare(folder: &Path) {
    let path = folder.join("1k.css");
    std::fs::write(&path, vec![b'x'; 1024]).expect("a file");
    let file = std::fs::File::options().write(true).open(&path).expect("the file");
    // Long past: what changed within the last second is sent in another way.
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).expect("utimensat");
}

/// The least of each counter over all rounds.
fn cheapest(server: &Server, addr: SocketAddr, request: &str, status: &str) -> Cost {
    let mut client = Client::connect(addr);
    let (few, _) = (client.round(request, status), client.round(request, status));
    let core = core_thread();
    let mut least =
        Cost { enters: f64::MAX, submissions: f64::MAX, completions: f64::MAX, allocations: f64::MAX, wire_bytes: few };
    for _ in 0..ROUNDS {
        let before = stats(server);
        ALLOCATIONS.store(0, SeqCst);
        WATCHED.store(core, SeqCst);
        let wire_bytes = client.round(request, status);
        WATCHED.store(0, SeqCst);
        let (allocations, after) = (ALLOCATIONS.load(SeqCst), stats(server));
        assert_eq!(after.requests - before.requests, ROUND, "requests in a round");
        let per = |count: u64| count as f64 / ROUND as f64;
        let least_of = |least: &mut f64, now: f64| *least = least.min(now);
        // Timers that end short waits wake the core a thousand times a second, whatever it does: that is no cost of a request.
        let timers = after.rt.short_waits_over - before.rt.short_waits_over;
        least_of(&mut least.enters, per((after.rt.enters - before.rt.enters).saturating_sub(timers)));
        least_of(&mut least.submissions, per(after.rt.submissions - before.rt.submissions));
        least_of(&mut least.completions, per(after.rt.completions - before.rt.completions));
        least_of(&mut least.allocations, per(allocations));
        least_of(&mut least.wire_bytes, wire_bytes);
    }
    least
}

/// A client that sends a request when it has the answer to the one before.
struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Client {
    fn connect(addr: SocketAddr) -> Client {
        let stream = TcpStream::connect(addr).expect("connect");
        stream.set_nodelay(true).expect("nodelay");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
        Client { stream, received: vec![0; 16 << 10] }
    }

    /// [`ROUND`] of them; the bytes of a response.
    fn round(&mut self, request: &str, status: &str) -> f64 {
        let bytes: usize = (0..ROUND).map(|_| self.exchange(request, status)).sum();
        bytes as f64 / ROUND as f64
    }

    fn exchange(&mut self, request: &str, status: &str) -> usize {
        self.stream.write_all(request.as_bytes()).expect("send");
        let mut have = 0;
        loop {
            let count = self.stream.read(&mut self.received[have..]).expect("receive");
            assert!(count > 0, "the server hung up");
            have += count;
            let head = self.received[..have].windows(4).position(|four| four == b"\r\n\r\n");
            let Some(end) = head.map(|at| at + 4) else { continue };
            let head = String::from_utf8_lossy(&self.received[..end]);
            assert!(head.starts_with(status), "{head}");
            let has_body = !request.starts_with("HEAD") && !status.ends_with("304");
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse::<usize>().ok());
            if have >= end + length.filter(|_| has_body).unwrap_or(0) {
                return have;
            }
        }
    }
}

fn stats(server: &Server) -> CoreStats {
    server.stats()[0]
}

/// The id of the server's one core's thread.
fn core_thread() -> i32 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("our threads").flatten();
    let named = |task: &std::fs::DirEntry| {
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        name.trim_end() == "core-0"
    };
    // The newest: a core of another server in this process may still be ending.
    let ids = tasks.filter(named).filter_map(|task| task.file_name().to_str()?.parse().ok());
    ids.max().expect("the core's thread")
}
