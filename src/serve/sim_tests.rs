//! A whole core, from its accept to its drain, on a simulated kernel: clients that pipeline, split, half-close and break
//! off, real files, and a reader that takes no byte on trust.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use tempfile::TempDir;

use super::listeners::LivesOn;
use super::options::{AccessLog, FileOptions, Options, SiteConfig};
use super::stop::{Stage, StopSignal};
use super::worker::{self, Worker};
use super::{Shared, cgi::Admission, start};
use crate::http::limits::Limits;
use crate::http::request::Version;
use crate::http::status::Status;
use crate::rt::driver::sim::seeds::{Plan, check_plans, first_to_find};
use crate::rt::driver::sim::{Client, Incoming, Rng, World};
use crate::rt::process::Spawner;
use crate::rt::{self, Bug, Either, join2, select2, time};
use crate::site::log_line::Form;
use crate::site::reply::{Body, HeadContext, Reply, Vary};

/// Seeds that a planted fault must be found within.
const FIND_WITHIN: u64 = 2_000;
/// Virtual time in which the clients must be done, and then the server's tasks.
const CLIENTS_MAX: Duration = Duration::from_secs(900);
const TASKS_MAX: Duration = Duration::from_secs(60);
const CLIENTS_A_WORLD_MAX: usize = 8;
const REQUESTS_A_CLIENT_MAX: usize = 6;
/// Of a request body that is read only to find the next request.
const DRAIN_BYTES_MAX: u64 = 2_000;
/// Name and length; each is for worlds whose windows are not much smaller, or it takes too many segments.
const FILES: [(&str, usize); 8] = [
    ("empty", 0),
    ("small.txt", 10),
    ("index.html", 300),
    ("a/b.html", 700),
    ("mid.bin", 3_000),
    ("full.bin", 16 << 10),
    ("big.bin", 20_000),
    ("huge.bin", 70_000),
];

#[test]
fn every_reply_is_whole_and_in_order() {
    let folder = Folder::new();
    check_plans("every_reply_is_whole_and_in_order", 10_000, plan_of, |world| core_scenario(world, &folder));
    let judged = folder.judged.lock().unwrap();
    println!("{judged:?}");
    // One seed alone proves nothing about what the others reach.
    if std::env::var_os("UCAFFEINE_SIM_SEED").is_none() && std::env::var_os("UCAFFEINE_SIM_SEEDS").is_none() {
        for status in [200, 204, 206, 304, 400, 404, 405, 416, 501, 505] {
            assert!(judged.get(&status).is_some_and(|count| *count > 200), "hardly any {status}: {judged:?}");
        }
    }
}

/// Whatever clients and the kernel do: sent in pieces, pipelined, refused, cut, or told to go.
#[test]
fn each_request_has_one_record() {
    let (folder, logs) = (Folder::new(), tempfile::tempdir().unwrap());
    check_plans("each_request_has_one_record", 2_000, plan_of, |world| {
        let log = logs.path().join(world.seed().to_string());
        let folder = &folder;
        async move {
            core_with_log(world, folder, Some(&log)).await;
            std::fs::remove_file(&log).unwrap();
        }
    });
}

#[test]
fn a_core_that_stops_midway_leaves_nothing_behind() {
    let folder = Folder::new();
    let scenario = |world: World| async {
        let moment = time::sleep(Duration::from_millis(world.rng(7).below(8)));
        select2(core_scenario(world, &folder), moment).await;
    };
    let plan = |seed| Plan { stops_midway: true, ..plan_of(seed) };
    check_plans("a_core_that_stops_midway_leaves_nothing_behind", 1_000, plan, scenario);
}

#[test]
fn the_same_seed_serves_the_same_world() {
    let folder = Folder::new();
    for seed in [5, 99, 4321] {
        let run = || plan_of(seed).run(&|world| core_scenario(world, &folder)).unwrap();
        // Not the whole trace: descriptors of real files are the machine's.
        assert_eq!(run().virtual_ns, run().virtual_ns);
    }
}

#[test]
fn planted_generation_ignored_is_found_by_connections() {
    assert_found(Bug::GenerationIgnored);
}

#[test]
fn planted_short_send_ignored_is_found_by_connections() {
    assert_found(Bug::ShortSendIgnored);
}

#[test]
fn planted_enobufs_not_rearmed_is_found_by_connections() {
    assert_found(Bug::EnobufsNotRearmed);
}

fn assert_found(bug: Bug) {
    let folder = Folder::new();
    let found = first_to_find(bug, FIND_WITHIN, plan_of, |world| core_scenario(world, &folder));
    let (seed, why) = found.unwrap_or_else(|| panic!("{bug:?} was not found"));
    println!("{bug:?} is found by seed {seed}: {why}");
}

/// Half of the worlds have room for every connection, so that no idle one is ever told to go.
fn plan_of(seed: u64) -> Plan {
    let plan = Plan::of_seed(seed);
    let direct_slots = if Rng::new(seed ^ 0x77).chance(500) { 256 } else { plan.direct_slots };
    Plan { direct_slots, ..plan }
}

/// The site, on a real disk.
struct Folder {
    dir: TempDir,
    files: Vec<(&'static str, Vec<u8>)>,
    judged: Judged,
}

/// How many replies of each status came whole.
type Judged = Arc<Mutex<BTreeMap<u16, u64>>>;

impl Folder {
    fn new() -> Folder {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        let files = FILES.map(|(name, len)| {
            let seed = name.len() as u32;
            let bytes: Vec<u8> = (0..len as u32).map(|n| (n.wrapping_mul(2_654_435_761 + seed) >> 13) as u8).collect();
            std::fs::write(dir.path().join(name), &bytes).unwrap();
            let file = std::fs::File::options().write(true).open(dir.path().join(name)).unwrap();
            file.set_modified(UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
            (name, bytes)
        });
        // Until then they count as being written, by a clock that is not simulated.
        std::thread::sleep(Duration::from_millis(50));
        Folder { dir, files: files.into(), judged: Judged::default() }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }
}

fn worker_of(rng: &mut Rng, root: PathBuf, log: Option<&Path>) -> Worker {
    let limits = Limits {
        drain_bytes_max: DRAIN_BYTES_MAX,
        // A window may be one byte wide.
        progress_bytes_per_s_min: 1,
        ..Limits::default()
    };
    let files = FileOptions {
        cache_bytes_max: rng.one_of(&[0, 5_000, 64 << 20]),
        cached_file_bytes_max: rng.one_of(&[0, 500, 25_000]),
        // There is no inotify on a simulated ring.
        watch: false,
        ..FileOptions::default()
    };
    let sites = vec![SiteConfig::files_only(root)];
    let access_log = log.map_or(AccessLog::Off, |log| AccessLog::File(log.into()));
    let access_log_form = Form::Json;
    let options =
        Options { sites, limits, files, drain_ms_max: 600_000, access_log, access_log_form, ..Options::default() };
    let shared = Shared {
        options: Arc::new(options),
        admission: Admission::new(),
        all_bounds: Arc::default(),
        per_ip: None,
        stop: StopSignal::new(Stage::Serving),
        lives_on: Arc::new(LivesOn::new(&Options::default(), &[])),
        cut: Arc::default(),
        in_use: Arc::default(),
        log_sink: Arc::default(),
        cpus: vec![0],
        cores: 1,
        nofile: 1024,
    };
    start::build_worker(0, &shared, Spawner::idle()).unwrap()
}

/// A core's whole life: it accepts, serves, and is told to stop, when all clients are done or in the middle of it all.
async fn core_scenario(world: World, folder: &Folder) {
    core_with_log(world, folder, None).await;
}

async fn core_with_log(world: World, folder: &Folder, log: Option<&Path>) {
    let plan = plan_of(world.seed());
    let mut rng = world.rng(0);
    let worker = Rc::new(worker_of(&mut rng, folder.path().into(), log));
    let listener = world.listen();
    let stops_early = rng.chance(150);
    let files: Vec<(&'static str, Vec<u8>)> =
        folder.files.iter().filter(|file| file.1.len() <= 40 * plan.faults.window_bytes_max).cloned().collect();
    let files = Rc::new(files);
    for _ in 0..rng.up_to(CLIENTS_A_WORLD_MAX) {
        let (later, world, client) = (rng.below(2_000_000), world.clone(), world.connect(0));
        // Then connections may end between two replies, without a word.
        let may_be_told_to_go = stops_early || plan.direct_slots < 256;
        let judge = Judge { may_be_told_to_go, loses_unread: plan.faults.resets_discard_unread };
        let (files, judged) = (Rc::clone(&files), Arc::clone(&folder.judged));
        world.clone().spawn(async move {
            world.pause(later).await;
            converse(&world, &client, &files, judge, &judged).await;
        });
    }
    let stop = worker.stop.clone();
    let stopping = async {
        let moment = if stops_early { Duration::from_millis(rng.below(12)) } else { CLIENTS_MAX };
        if let Either::Second(()) = select2(world.clients_done(), time::sleep(moment)).await
            && !stops_early
        {
            panic!("{} clients are not done; {:?}\n{}", world.clients_left(), rt::stats(), world.describe());
        }
        stop.raise(Stage::Draining);
        std::future::pending::<()>().await;
    };
    select2(worker::serve(Rc::clone(&worker), vec![(0, listener)]), stopping).await;
    assert!(!worker.stop.has_reached(Stage::Cutting), "the drain ran into its deadline");
    world.stop_listening(0);
    let done = time::timeout(TASKS_MAX, world.clients_done()).await;
    assert!(done.is_ok(), "{} clients outlive the server\n{}", world.clients_left(), world.describe());
    let deadline = time::Instant::now() + TASKS_MAX;
    while rt::stats().tasks > 0 {
        assert!(time::Instant::now() < deadline, "{} tasks are left", rt::stats().tasks);
        time::sleep(Duration::from_millis(10)).await;
    }
    if let (Some(access_log), Some(log)) = (&worker.log, log) {
        access_log.finish();
        let text = std::fs::read_to_string(log).unwrap();
        let records = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let names: BTreeSet<String> = records.map(|one| format!("{}/{}", one["connection"], one["request"])).collect();
        let replies: u64 = worker.metrics.replies().map(|replies| replies.count).sum();
        assert_eq!(text.lines().count() as u64, replies, "a record for each request");
        assert_eq!(names.len(), text.lines().count(), "and no request twice");
    }
}

/// What must come back for one request.
struct Expected {
    status: Status,
    /// What Content-Length says; `None` where there must be none.
    length: Option<usize>,
    body: Vec<u8>,
    content_range: Option<String>,
    after: After,
}

impl std::fmt::Debug for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} with {} of {:?} bytes, {:?}", self.status, self.body.len(), self.length, self.after)
    }
}

/// What becomes of the connection after a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Stays,
    /// And the reply says so.
    Closes,
    /// The reply went out before the server knew.
    ClosesUnannounced,
}

/// A conversation: requests as bytes, and what each must be answered with.
#[derive(Default)]
struct Script {
    requests: Vec<Vec<u8>>,
    expected: Vec<Expected>,
}

impl Script {
    fn of(rng: &mut Rng, files: &[(&'static str, Vec<u8>)]) -> Script {
        let mut script = Script::default();
        for _ in 0..rng.up_to(REQUESTS_A_CLIENT_MAX) {
            let file = &files[rng.below(files.len() as u64) as usize];
            let (bytes, expected) = request(rng, file);
            let is_last = expected.after != After::Stays;
            script.requests.push(bytes);
            script.expected.push(expected);
            if is_last {
                break;
            }
        }
        script
    }
}

fn request(rng: &mut Rng, (name, content): &(&'static str, Vec<u8>)) -> (Vec<u8>, Expected) {
    let len = content.len();
    let path = if *name == "index.html" && rng.chance(500) { "" } else { *name };
    let whole =
        |after| Expected { status: Status::OK, length: Some(len), body: content.clone(), content_range: None, after };
    let on = |method: &str, path: &str, fields: &str| format!("{method} /{path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let (head, expected) = match rng.below(20) {
        0..6 => (on("GET", path, ""), whole(After::Stays)),
        6 => (on("HEAD", path, ""), Expected { body: Vec::new(), ..whole(After::Stays) }),
        7 => (on("GET", "no/such", ""), page(Status::NOT_FOUND, After::Stays)),
        8 => (on("HEAD", "no", ""), Expected { body: Vec::new(), ..page(Status::NOT_FOUND, After::Stays) }),
        9 | 10 => return range_request(rng, path, content),
        11 => (on("GET", path, "If-None-Match: *\r\n"), bodyless(Status::NOT_MODIFIED)),
        12 => (on("OPTIONS", path, ""), bodyless(Status::NO_CONTENT)),
        13..16 => return post(rng, path),
        16 => {
            let (fields, after) =
                if rng.chance(500) { ("Connection: keep-alive\r\n", After::Stays) } else { ("", After::Closes) };
            (format!("GET /{path} HTTP/1.0\r\n{fields}\r\n"), whole(after))
        }
        17 => (on("GET", path, "Connection: close\r\n"), whole(After::Closes)),
        18 => (on("POST", path, "Content-Length: 5\r\nExpect: 100-continue\r\n"), {
            page(Status::METHOD_NOT_ALLOWED, After::Closes)
        }),
        _ => {
            let (bytes, status) = rng.one_of(&[
                ("GET / HT", Status::BAD_REQUEST),
                ("GET / HTTP/1.1\r\nHost: a\r\nX", Status::BAD_REQUEST),
                ("GET / HTTP/1.1\nHost: a\n\n", Status::BAD_REQUEST),
                ("GET / HTTP/1.1\r\n\r\n", Status::BAD_REQUEST),
                ("GET / HTTP/1.1\r\nHost : a\r\n\r\nrubbish behind it", Status::BAD_REQUEST),
                ("GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", Status::BAD_REQUEST),
                ("FROB / HTTP/1.1\r\nHost: a\r\n\r\n", Status::NOT_IMPLEMENTED),
                ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", Status::VERSION_NOT_SUPPORTED),
                (
                    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
                    Status::BAD_REQUEST,
                ),
            ]);
            (bytes.to_owned(), page(status, After::Closes))
        }
    };
    (head.into_bytes(), expected)
}

fn range_request(rng: &mut Rng, path: &str, content: &[u8]) -> (Vec<u8>, Expected) {
    let len = content.len();
    let first = rng.below(len as u64 + 10) as usize;
    let last = first + rng.below(len as u64 + 1) as usize;
    let head = format!("GET /{path} HTTP/1.1\r\nHost: a\r\nRange: bytes={first}-{last}\r\n\r\n");
    let expected = if first < len {
        let end = (last + 1).min(len);
        Expected {
            status: Status::PARTIAL_CONTENT,
            length: Some(end - first),
            body: content[first..end].to_vec(),
            content_range: Some(format!("bytes {first}-{}/{len}", end - 1)),
            after: After::Stays,
        }
    } else {
        let content_range = Some(format!("bytes */{len}"));
        Expected { content_range, ..page(Status::RANGE_NOT_SATISFIABLE, After::Stays) }
    };
    (head.into_bytes(), expected)
}

/// A body that nobody wants: drained, if it is not too long, well framed, and whole.
fn post(rng: &mut Rng, path: &str) -> (Vec<u8>, Expected) {
    let head = |fields: &str| format!("POST /{path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n").into_bytes();
    let after;
    let mut bytes;
    match rng.below(10) {
        0..4 => {
            let body = rng.below(DRAIN_BYTES_MAX + 1) as usize;
            bytes = head(&format!("Content-Length: {body}"));
            bytes.resize(bytes.len() + body, b'G');
            after = After::Stays;
        }
        4..7 => {
            bytes = head("Transfer-Encoding: chunked");
            for _ in 0..rng.below(5) {
                let chunk = rng.up_to(200);
                bytes.extend(format!("{chunk:x};name=value\r\n").bytes());
                bytes.resize(bytes.len() + chunk, b'G');
                bytes.extend(b"\r\n");
            }
            bytes.extend(b"0\r\nTrailer: x\r\n\r\n");
            after = After::Stays;
        }
        7 => {
            let body = DRAIN_BYTES_MAX as usize + rng.up_to(1_000);
            bytes = head(&format!("Content-Length: {body}"));
            bytes.resize(bytes.len() + body, b'G');
            after = After::Closes;
        }
        8 => {
            bytes = head("Transfer-Encoding: chunked");
            bytes.extend(b"5\r\nabcdefghij\r\n");
            after = After::ClosesUnannounced;
        }
        _ => {
            bytes = head("Content-Length: 100");
            bytes.extend(b"cut off");
            after = After::ClosesUnannounced;
        }
    }
    (bytes, page(Status::METHOD_NOT_ALLOWED, after))
}

/// An error with its page.
fn page(status: Status, after: After) -> Expected {
    let context = HeadContext {
        version: Version::Http11,
        is_head: false,
        keep_alive: true,
        date: &[b' '; 29],
        place: None,
        vary: Vary::Nothing,
        challenge: None,
    };
    let reply = Reply::error(status);
    let Body::Bytes(page) = reply.body(&context) else { panic!("{status:?} has no page") };
    Expected { status, length: Some(page.len()), body: page.into(), content_range: None, after }
}

fn bodyless(status: Status) -> Expected {
    Expected { status, length: None, body: Vec::new(), content_range: None, after: After::Stays }
}

async fn converse(world: &World, client: &Client, files: &[(&'static str, Vec<u8>)], judge: Judge, judged: &Judged) {
    let mut rng = client.rng();
    let script = Script::of(&mut rng, files);
    let (received, end) = match rng.below(10) {
        0 => return break_off(world, client, &script, &mut rng, judge).await,
        1..4 => one_by_one(client, &script).await,
        _ => pipelined(world, client, &script, &mut rng).await,
    };
    let whole = judge.all(&script.expected, &received, &end, client.is_excused());
    let mut judged = judged.lock().unwrap();
    script.expected[..whole].iter().for_each(|expected| *judged.entry(expected.status.code()).or_default() += 1);
}

/// Sends everything at once, in pieces of any size, and reads beside it.
async fn pipelined(world: &World, client: &Client, script: &Script, rng: &mut Rng) -> (Vec<u8>, Incoming) {
    let all = script.requests.concat();
    let (mut writing, mut reading) = (rng.clone(), Rng::new(rng.next()));
    let pauses = writing.one_of(&[0, 100, 500]);
    let write = async {
        let mut rest = &all[..];
        while !rest.is_empty() {
            let most = writing.one_of(&[3, 50, rest.len()]).min(rest.len());
            let (piece, after) = rest.split_at(writing.up_to(most));
            rest = after;
            if !client.write(piece).await {
                break;
            }
            if writing.chance(pauses) {
                world.pause(writing.below(1_000_000)).await;
            }
        }
        // A half-close: every request is still to be answered.
        client.shutdown();
    };
    let read = async {
        let mut received = Vec::new();
        loop {
            if reading.chance(50) {
                world.pause(reading.below(1_000_000)).await;
            }
            match client.read(reading.up_to(8_000)).await {
                Incoming::Bytes(bytes) => received.extend(bytes),
                end => return (received, end),
            }
        }
    };
    join2(write, read).await.1
}

/// Waits for each reply before it sends the next request, and half-closes with the last.
async fn one_by_one(client: &Client, script: &Script) -> (Vec<u8>, Incoming) {
    let mut received = Vec::new();
    let mut at = 0;
    let last = script.requests.len() - 1;
    for (request, expected) in script.requests[..last].iter().zip(&script.expected) {
        // Reading begins before the request is out: a reply to its head may come first, and fill the window.
        let reading = async {
            while reply_len(&received[at..], expected).is_none() {
                match client.read(usize::MAX).await {
                    Incoming::Bytes(bytes) => received.extend(bytes),
                    end => return Some(end),
                }
            }
            None
        };
        if let (_, Some(end)) = join2(client.write(request), reading).await {
            return (received, end);
        }
        at += reply_len(&received[at..], expected).unwrap_or(0);
    }
    let writing = async {
        client.write(&script.requests[last]).await;
        client.shutdown();
    };
    let ((), (rest, end)) = join2(writing, client.read_to_end()).await;
    received.extend(rest);
    (received, end)
}

/// Goes away in the middle, politely or not; what it has read must be right as far as it goes.
async fn break_off(world: &World, client: &Client, script: &Script, rng: &mut Rng, judge: Judge) {
    let all = script.requests.concat();
    let moment = rng.below(4_000_000);
    select2(client.write(&all[..rng.up_to(all.len())]), world.pause(moment)).await;
    let mut received = Vec::new();
    for _ in 0..rng.below(3) {
        match select2(client.read(rng.up_to(2_000)), world.pause(moment)).await {
            Either::First(Incoming::Bytes(bytes)) => received.extend(bytes),
            _ => break,
        }
    }
    judge.so_far(&script.expected, &received);
    match rng.below(2) {
        0 => client.reset(),
        _ => client.close(),
    }
}

/// The length of the reply at the start of `bytes`, once it is whole.
fn reply_len(bytes: &[u8], expected: &Expected) -> Option<usize> {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    (bytes.len() >= head + expected.body.len()).then_some(head + expected.body.len())
}

/// Holds what was received against what was expected.
#[derive(Clone, Copy)]
struct Judge {
    /// The connection may end between two replies.
    may_be_told_to_go: bool,
    /// A reset destroys what was not read.
    loses_unread: bool,
}

impl Judge {
    /// How many replies are whole.
    fn all(self, expected: &[Expected], received: &[u8], end: &Incoming, is_excused: bool) -> usize {
        let (whole, rest, said_close) = self.so_far(expected, received);
        if is_excused {
            return whole;
        }
        let lost = self.loses_unread && *end == Incoming::Reset;
        if self.may_be_told_to_go && (said_close || rest == 0 || lost) {
            return whole;
        }
        let all = expected.len();
        assert!(
            whole == all,
            "{whole} of {all} replies came, and {rest} bytes of the next; then {end:?}; {expected:#?}"
        );
        // A lingering close has its bound too: who sends on beyond it is reset, with the reply long in hand.
        let lingers = expected.iter().any(|expected| expected.after != After::Stays);
        assert!(
            *end == Incoming::End || lingers && *end == Incoming::Reset,
            "all {all} replies came, and then {end:?}; {expected:#?}"
        );
        whole
    }

    /// How many replies are whole, how many bytes there are of the next, and whether the last whole one said that the
    /// connection closes.
    fn so_far(self, expected: &[Expected], received: &[u8]) -> (usize, usize, bool) {
        let mut rest = received;
        let mut said_close = false;
        for (number, expected) in expected.iter().enumerate() {
            let Some(head_len) = rest.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4) else {
                assert!(b"HTTP/1.1 ".starts_with(&rest[..rest.len().min(9)]), "{:?}", rest.escape_ascii().to_string());
                return (number, rest.len(), said_close);
            };
            assert!(!said_close, "a reply comes after the last");
            said_close = self.head(expected, &rest[..head_len]);
            let body = &rest[head_len..];
            let there = body.len().min(expected.body.len());
            assert!(body[..there] == expected.body[..there], "reply {number} has another body");
            if there < expected.body.len() {
                return (number, rest.len(), said_close);
            }
            rest = &body[there..];
        }
        assert!(rest.is_empty(), "nobody asked for {:?}", rest.escape_ascii().to_string());
        (expected.len(), 0, said_close)
    }

    /// Whether the head says that the connection closes.
    fn head(self, expected: &Expected, head: &[u8]) -> bool {
        let head = std::str::from_utf8(head).expect("a head is ASCII");
        let mut lines = head.strip_suffix("\r\n\r\n").expect("a whole head").split("\r\n");
        let status = expected.status;
        assert_eq!(lines.next(), Some(&*format!("HTTP/1.1 {} {}", status.code(), status.phrase())), "{head}");
        let fields: Vec<_> = lines.map(|line| line.split_once(": ").unwrap_or_else(|| panic!("{head}"))).collect();
        let field = |name: &str| {
            let mut values = fields.iter().filter(|field| field.0.eq_ignore_ascii_case(name)).map(|field| field.1);
            let value = values.next();
            assert!(values.next().is_none(), "{name} comes twice: {head}");
            value
        };
        assert_eq!(field("Date").map(str::len), Some(29), "{head}");
        assert_eq!(field("Content-Length"), expected.length.map(|length| length.to_string()).as_deref(), "{head}");
        assert_eq!(field("Content-Range"), expected.content_range.as_deref(), "{head}");
        assert_eq!(field("Transfer-Encoding"), None);
        let says_close = field("Connection") == Some("close");
        match expected.after {
            After::Closes => assert!(says_close, "{head}"),
            After::Stays | After::ClosesUnannounced => assert!(!says_close || self.may_be_told_to_go, "{head}"),
        }
        says_close
    }
}
