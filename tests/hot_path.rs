//! The hot path, counted: a cached file costs no allocation, one enter a turn, and a bounded number of entries and
//! completions a request, and no kernel thread.
//!
//! The server runs in this process, so that its core's allocations can be counted where they happen.

mod counting;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};

use counting::Counting;
use ucaffeine::http::trust::{Network, Trusted};
use ucaffeine::serve::options::{AccessLog, Listen, Options, SiteConfig};
use ucaffeine::serve::{CoreStats, Server};
use ucaffeine::site::auth::Guard;
use ucaffeine::site::location::{Access, Location};
use ucaffeine::site::log_line::Form;
use ucaffeine::site::pages::{ErrorPage, Pages, Statuses};
use ucaffeine::site::pattern::Pattern;

/// Of each kind, in rounds of [`ROUND`].
const REQUESTS: usize = 10_000;
/// Short next to the 100 ms for which a cached file is trusted: most rounds see no look at the disk.
const ROUND: usize = 200;
/// On a machine so slow that most rounds take 100 ms, this ends.
const ROUNDS_MAX: usize = 20 * REQUESTS / ROUND;
/// Requests that arrive in one segment.
const DEPTH: usize = 20;
/// The first of them are shown with a backtrace, where they fail the test.
const SHOWN_MAX: u64 = 3;

/// Beyond what is copied behind its head: a message of two parts, and what leaves by `sendfile`, in one slice or in two.
const LONGER: [(&str, usize); 2] = [("24k.bin", 24 << 10), ("100k.bin", 100 << 10)];

/// The thread whose allocations are counted now; 0 for none.
static WATCHED: AtomicI32 = AtomicI32::new(0);
static COUNT: AtomicU64 = AtomicU64::new(0);
/// Where the first of them came from.
static SHOWN: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Counts the allocations of one thread.
fn count() {
    let watched = WATCHED.load(SeqCst);
    if watched != 0 && watched == rustix::thread::gettid().as_raw_nonzero().get() {
        let number = COUNT.fetch_add(1, SeqCst);
        if number < SHOWN_MAX {
            // What the backtrace allocates is not the server's.
            WATCHED.store(0, SeqCst);
            let trace = std::backtrace::Backtrace::force_capture().to_string();
            SHOWN.lock().unwrap_or_else(PoisonError::into_inner).push(trace);
            WATCHED.store(watched, SeqCst);
        }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting(count);

/// What one kind of request costs.
struct Case {
    name: &'static str,
    /// A request, whole.
    request: String,
    /// The status line's beginning.
    status: &'static str,
    /// Of each response.
    body_bytes: usize,
    /// Requests in one write.
    depth: usize,
    /// Each of them is written down.
    has_log: bool,
}

#[test]
fn a_cached_file_costs_no_allocation_and_two_entries() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, bytes) in [("1k.css", 1024), ("coded.css", 1024), ("coded.css.br", 700)].into_iter().chain(LONGER) {
        std::fs::write(folder.path().join(name), vec![b'x'; bytes]).expect("a file");
    }
    // A name that the kernel does not have in its cache is looked up by a worker, and not every file system lets it keep
    // names that do not exist. What is held here is that there is no other reason for one: these are too old to be used.
    let coded = ["1k.css", "coded.css"].into_iter().chain(LONGER.map(|(name, _)| name));
    for name in coded.flat_map(|name| [".br", ".zst", ".gz"].map(|suffix| format!("{name}{suffix}"))) {
        if name != "coded.css.br" {
            let sibling = std::fs::File::create(folder.path().join(name)).expect("a sibling");
            sibling.set_modified(std::time::UNIX_EPOCH).expect("utimensat");
        }
    }
    let outside = tempfile::tempdir().expect("a temporary folder");
    let users = outside.path().join("users");
    std::fs::write(&users, "ann:{SHA}W8r/fyL/UzygmbNAjq2HbA67qac=\n").expect("a file");
    // What changed within the last second is copied before it is sent.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let options = Options {
        sites: vec![SiteConfig::files_only(folder.path().into())],
        listen: vec![Listen::Tcp("127.0.0.1:0".parse().expect("an address"))],
        cores: Some(1),
        ..Options::default()
    };
    hold_all(options.clone(), "");
    // Behind a proxy that is believed, and with the connections of each address counted.
    let loopback = Network::parse("127.0.0.0/8").expect("a network");
    let trusted = Trusted { networks: vec![loopback], unix: false };
    let behind_a_proxy = Options { trusted, conns_per_ip_max: Some(100), ..options.clone() };
    let said = "Forwarded: for=203.0.113.9, for=\"[2001:db8::1]:4711\";proto=https;host=a.example, for=127.0.0.9\r\n";
    hold_all(behind_a_proxy, said);
    // What a site may have besides its files costs a file that is there nothing.
    let pages = Pages {
        listing: true,
        clean_urls: true,
        spa_fallback: Some("app.html".into()),
        error_pages: vec![ErrorPage { statuses: Statuses::Class(4), path: "404.html".into() }],
    };
    let site = SiteConfig { pages, ..SiteConfig::files_only(folder.path().into()) };
    hold_all(Options { sites: vec![site.clone()], ..options.clone() }, "");
    // Nor do hosts, and what holds for some of the paths: the request is for a host that only a wildcard names.
    let host = |name: &str| SiteConfig { names: vec![name.into()], ..SiteConfig::files_only(folder.path().into()) };
    let mut wild = host("*.example.org");
    let pattern = |text| Pattern::parse(text).expect("a pattern");
    let quiet = Location { listing: Some(false), ..Location::new(pattern("/quiet/")) };
    let guard = Guard::new("x", users).expect("a realm");
    let guarded = Location { access: Some(Access::Guarded(guard)), ..Location::new(pattern("/private/")) };
    wild.locations = vec![quiet.clone(), Location { spa_fallback: Some(None), ..Location::new(pattern("/**/*.bin")) }];
    let hosts = (0..100).map(|number| host(&format!("host-{number}.example.org")));
    let sites: Vec<SiteConfig> = [site.clone(), wild].into_iter().chain(hosts).collect();
    hold_all_of("a.deep.example.org:8080", Options { sites, ..options.clone() }, "");
    // Nor does a door somewhere else on the site.
    let sites = vec![SiteConfig { locations: vec![quiet, guarded], ..site }];
    hold_all(Options { sites, ..options.clone() }, "");
    // Nor does somebody who may watch.
    let metrics = Some(Listen::Tcp("127.0.0.1:0".parse().expect("an address")));
    hold_all(Options { metrics, ..options.clone() }, "");
    // With a record for each request: one more entry a turn, and nothing else.
    for access_log_form in Form::NAMES.map(|(_, form)| form) {
        let logs = tempfile::tempdir().expect("a temporary folder");
        let log = logs.path().join("access.log");
        let requests =
            hold_all(Options { access_log: AccessLog::File(log.clone()), access_log_form, ..options.clone() }, "");
        let records = std::fs::read_to_string(log).expect("the log").lines().count() as u64;
        assert_eq!(records, requests, "{access_log_form:?}");
    }
}

fn hold_all(options: Options, lines: &str) -> u64 {
    hold_all_of("test", options, lines)
}

/// With these lines in every request. Returns how many requests that were.
fn hold_all_of(host: &str, options: Options, lines: &str) -> u64 {
    let has_log = options.access_log != AccessLog::Off;
    let server = Server::start(options).expect("a server");
    let [Listen::Tcp(addr)] = *server.listening() else { panic!("one address") };
    let core = threads().into_iter().find(|(_, name)| name == "core-0").expect("the core's thread").0;
    let etag = etag(addr);
    let get = format!("GET /1k.css HTTP/1.1\r\nHost: {host}\r\n{lines}");
    let cases = [
        ("GET", format!("{get}\r\n"), "HTTP/1.1 200", 1024),
        ("HEAD", format!("{}\r\n", get.replacen("GET", "HEAD", 1)), "HTTP/1.1 200", 0),
        ("304", format!("{get}If-None-Match: {etag}\r\n\r\n"), "HTTP/1.1 304", 0),
        (
            "a sibling",
            format!("{}Accept-Encoding: gzip, deflate, br;q=0.9\r\n\r\n", get.replacen("1k", "coded", 1)),
            "HTTP/1.1 200",
            700,
        ),
    ];
    for (name, request, status, body_bytes) in cases {
        for depth in [1, DEPTH] {
            hold(&server, core, addr, &Case { name, request: request.clone(), status, body_bytes, depth, has_log });
        }
    }
    for (name, body_bytes) in LONGER {
        let request = format!("GET /{name} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        hold(&server, core, addr, &Case { name, request, status: "HTTP/1.1 200", body_bytes, depth: 1, has_log });
    }
    let requests = stats(&server).requests;
    server.drain();
    server.join();
    requests
}

/// Holds one kind of request to its price.
fn hold(server: &Server, core: i32, addr: SocketAddr, case: &Case) {
    let Case { name, depth, has_log, .. } = *case;
    let mut client = Client::connect(addr);
    // Buffers and tables grow to what they need.
    (0..3).for_each(|_| client.round(case));
    let (mut clean, mut cost) = (0, Cost::default());
    for attempt in 0.. {
        if clean == REQUESTS {
            break;
        }
        assert!(attempt < ROUNDS_MAX, "{name}: the file was looked at again in nearly every round");
        let before = stats(server);
        COUNT.store(0, SeqCst);
        WATCHED.store(core, SeqCst);
        client.round(case);
        WATCHED.store(0, SeqCst);
        let (allocations, after) = (COUNT.load(SeqCst), stats(server));
        let shown = std::mem::take(&mut *SHOWN.lock().unwrap_or_else(PoisonError::into_inner));
        let requests = after.requests - before.requests;
        assert_eq!(requests, ROUND as u64);
        // A round in which the file was looked at again says nothing about the hot path.
        if after.cache_misses > before.cache_misses {
            continue;
        }
        assert_eq!(allocations, 0, "allocations in {ROUND} of {name}, {depth} at once:\n{}", shown.join("\n"));
        assert_eq!(after.cache_hits - before.cache_hits, requests);
        cost.add(before, after);
        clean += ROUND;
    }
    cost.check(name, depth, has_log);
    // Appending to a file is a worker's where its file system cannot do it without waiting.
    if has_log {
        return;
    }
    let workers: Vec<_> = threads().into_iter().filter(|(_, name)| name.starts_with("iou-wrk")).collect();
    assert!(workers.is_empty(), "{name}: {workers:?}");
}

/// Of all clean rounds together.
#[derive(Default)]
struct Cost {
    requests: u64,
    turns: u64,
    enters: u64,
    submissions: u64,
    completions: u64,
    stray: u64,
}

impl Cost {
    fn add(&mut self, before: CoreStats, after: CoreStats) {
        self.requests += after.requests - before.requests;
        self.turns += after.rt.turns - before.rt.turns;
        self.enters += after.rt.enters - before.rt.enters;
        self.submissions += after.rt.submissions - before.rt.submissions;
        self.completions += after.rt.completions - before.rt.completions;
        self.stray += after.rt.stray_completions - before.rt.stray_completions;
    }

    /// A batch of `depth` requests is one receive and one send. Looking at the counters is a message: a completion and a
    /// turn a round.
    fn check(&self, name: &str, depth: usize, has_log: bool) {
        let (batches, looks) = (self.requests / depth as u64, self.requests / ROUND as u64);
        let per = |count: u64| count as f64 / self.requests as f64;
        let (sqes, cqes) = (per(self.submissions), per(self.completions));
        println!(
            "{name} x {depth}: {sqes:.3} entries, {cqes:.3} completions, {:.3} enters a request",
            per(self.enters)
        );
        assert!(self.enters <= self.turns, "{} enters in {} turns", self.enters, self.turns);
        assert_eq!(self.stray, 0);
        // A batch can arrive in more than one segment, and a receive has to be armed again now and then.
        let writes = if has_log { batches } else { 0 };
        assert!(self.submissions <= 2 * batches + writes + looks, "{name} x {depth}: {sqes} entries a request");
        assert!(self.completions <= 3 * batches + writes + 2 * looks, "{name} x {depth}: {cqes} completions a request");
    }
}

struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Client {
    fn connect(addr: SocketAddr) -> Client {
        let stream = TcpStream::connect(addr).expect("connect");
        stream.set_nodelay(true).expect("nodelay");
        stream.set_read_timeout(Some(std::time::Duration::from_secs(60))).expect("a timeout");
        Client { stream, received: Vec::new() }
    }

    /// [`ROUND`] requests, each batch after the responses to the one before.
    fn round(&mut self, case: &Case) {
        let batch = case.request.repeat(case.depth);
        for _ in 0..ROUND / case.depth {
            self.stream.write_all(batch.as_bytes()).expect("send");
            (0..case.depth).for_each(|_| self.response(case));
        }
    }

    fn response(&mut self, case: &Case) {
        let head_len = loop {
            if let Some(at) = self.received.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.more();
        };
        let head = &self.received[..head_len];
        assert!(head.starts_with(case.status.as_bytes()), "{}", String::from_utf8_lossy(head));
        while self.received.len() < head_len + case.body_bytes {
            self.more();
        }
        self.received.drain(..head_len + case.body_bytes);
    }

    fn more(&mut self) {
        let mut room = [0; 16 << 10];
        let count = self.stream.read(&mut room).expect("receive");
        assert!(count > 0, "the server hung up");
        self.received.extend_from_slice(&room[..count]);
    }
}

fn etag(addr: SocketAddr) -> String {
    let mut client = Client::connect(addr);
    client.stream.write_all(b"HEAD /1k.css HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").expect("send");
    let mut head = String::new();
    client.stream.read_to_string(&mut head).expect("a head");
    let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with("etag:")).expect("an ETag");
    line["etag:".len()..].trim().to_owned()
}

fn stats(server: &Server) -> CoreStats {
    server.stats()[0]
}

/// Id and name of each thread of this process, the kernel's workers for its rings included.
fn threads() -> Vec<(i32, String)> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("our threads").flatten();
    let named = |task: std::fs::DirEntry| {
        let name = std::fs::read_to_string(task.path().join("comm")).ok()?;
        Some((task.file_name().to_str()?.parse().ok()?, name.trim_end().to_owned()))
    };
    tasks.filter_map(named).collect()
}
