//! Files that change while they are served: what comes is always one version, under one tag, and the newest.
//!
//! Every file is made of records that say which file and version they are of, and where they stand, so that any byte
//! in the wrong place is seen for what it is.

mod support;

use std::collections::HashMap;
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use support::{Client, Framing, Response, Server, Site, wait_until};

/// One record.
const RECORD: usize = 32;
/// What is written by one call: the file is never seen in the middle of one.
const CHUNK: usize = 4096;
/// How long the flips go on.
const FLIPS_FOR: Duration = Duration::from_secs(10);
const SECRET: &str = "this is outside the root";

/// A version of a file, whole.
fn version(name: &str, version: u64, len: usize) -> Vec<u8> {
    let records = len.div_ceil(RECORD);
    let mut content = Vec::with_capacity(records * RECORD);
    for at in 0..records {
        // 8 + 1 + 12 + 1 + 9 + 1
        content.extend(format!("{name:<8} {version:>12} {at:>9}\n").bytes());
    }
    content.truncate(len);
    content
}

/// What a part of a file is made of: the version of each chunk that it touches. Panics where a chunk holds two, or where a
/// record is not where it should be.
#[track_caller]
fn chunks(name: &str, start: usize, part: &[u8]) -> Vec<(usize, u64)> {
    let mut found: Vec<(usize, u64)> = Vec::new();
    let mut at = start.next_multiple_of(RECORD);
    while at + RECORD <= start + part.len() {
        let record = std::str::from_utf8(&part[at - start..][..RECORD]).unwrap_or_else(|_| panic!("at {at}: no text"));
        let (its_name, rest) = record.split_at(8);
        assert_eq!(its_name.trim_end(), name, "at {at} of {name}");
        let mut words = rest.split_ascii_whitespace().map(|word| word.parse::<u64>().expect("a number"));
        let (version, index) = (words.next().expect("a version"), words.next().expect("an index"));
        assert_eq!(index, (at / RECORD) as u64, "at {at} of {name}: a record of somewhere else");
        match found.last() {
            Some((chunk, before)) if *chunk == at / CHUNK => {
                assert_eq!(*before, version, "at {at} of {name}: two versions in what was written by one call");
            }
            _ => found.push((at / CHUNK, version)),
        }
        at += RECORD;
    }
    found
}

/// How a file changes, which is what its states look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Another takes its place: all of it is one version.
    Replaced,
    /// Its chunks are written one after the other: some are of the next version, and the others behind them of the last.
    InPlace,
    /// It is emptied and written anew: some chunks of one version, and no more.
    Truncated,
    /// It grows.
    Appended,
}

struct Subject {
    /// What its records say.
    name: &'static str,
    /// Where it is, and where else requests may ask for it.
    targets: &'static [&'static str],
    len: usize,
    kind: Kind,
    /// Between two changes.
    pause_ms: u64,
}

const fn subject(
    name: &'static str,
    targets: &'static [&'static str],
    len: usize,
    kind: Kind,
    pause_ms: u64,
) -> Subject {
    Subject { name, targets, len, kind, pause_ms }
}

const SUBJECTS: &[Subject] = &[
    subject("quick", &["/quick"], 1000, Kind::Replaced, 1),
    subject("slow", &["/d/e/slow", "/link/slow"], 20_000, Kind::Replaced, 60),
    subject("large", &["/large", "/d/../large"], 700_000, Kind::Replaced, 25),
    subject("inplace", &["/inplace", "/d/to-it"], 3 * CHUNK, Kind::InPlace, 40),
    subject("big", &["/big"], 160 * CHUNK, Kind::InPlace, 2),
    subject("backdate", &["/backdate"], 500, Kind::InPlace, 30),
    subject("trunc", &["/trunc"], 4 * CHUNK, Kind::Truncated, 50),
    subject("log", &["/log"], 0, Kind::Appended, 35),
];

/// Folders and links that change their meaning: (target, what its records may say).
const MOVING: &[(&str, &[&str])] = &[
    ("/current/file", &["r1", "r2"]),
    ("/swap/file", &["s1", "s2"]),
    ("/evil/file", &["r1"]),
    ("/evil/deep/../file", &["r1"]),
    ("/comes", &["comes"]),
];

/// What was sent under a tag: of which name, and which version each chunk was of.
type Told = Mutex<HashMap<String, (String, HashMap<usize, u64>)>>;

#[derive(Default)]
struct Counts {
    whole: AtomicU64,
    parts: AtomicU64,
    cut: AtomicU64,
    missing: AtomicU64,
    flips: AtomicU64,
    tags: AtomicU64,
}

impl Counts {
    fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn every_byte_is_of_a_version_that_was_and_under_its_own_tag() {
    let outside = tempfile::tempdir().expect("a folder outside");
    fs::write(outside.path().join("file"), SECRET.repeat(100)).expect("a secret");
    let site = Site::new().file("d/deep/x", "x");
    for subject in SUBJECTS {
        site.write(path_of(subject), version(subject.name, 1, subject.len));
    }
    for name in ["r1", "r2", "s1", "s2"] {
        site.write(&format!("{name}/file"), version(name, 1, 5000));
        site.write(&format!("{name}/deep/x"), "x");
    }
    fs::rename(site.at("s1"), site.at("swap")).expect("rename");
    let site = site.link("link", "d/e").link("d/to-it", "../inplace").link("current", "r1").link("evil", "r1");
    let server = Server::start(&site, ["--cores", "2", "--cached-file-bytes-max", "64KiB"]);

    let (told, counts, stop) = (Told::default(), Counts::default(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for subject in SUBJECTS {
            scope.spawn(|| flip(&site, subject, &counts, &stop));
        }
        scope.spawn(|| flip_links(&site, outside.path(), &counts, &stop));
        for seed in 1..=6 {
            let (server, told, counts, stop) = (&server, &told, &counts, &stop);
            scope.spawn(move || {
                // Whatever a client finds, the others need not go on.
                let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    ask(server, seed, told, counts, stop);
                }));
                stop.store(true, Ordering::Relaxed);
                if let Err(panic) = result {
                    std::panic::resume_unwind(panic);
                }
            });
        }
        let start = Instant::now();
        while start.elapsed() < FLIPS_FOR && !stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(20));
        }
        stop.store(true, Ordering::Relaxed);
    });
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    println!(
        "{} flips; {} whole, {} parts, {} cut, {} missing, {} tags",
        count(&counts.flips),
        count(&counts.whole),
        count(&counts.parts),
        count(&counts.cut),
        count(&counts.missing),
        lock(&told).len(),
    );
    assert!(count(&counts.flips) > 100 && count(&counts.whole) > 100 && count(&counts.parts) > 20);
    assert!(count(&counts.missing) > 0, "some of it was away at times");
    // When all is quiet, everything is what it is now.
    let mut client = server.connect();
    for subject in SUBJECTS {
        for target in subject.targets.iter().filter(|target| !target.contains("..")) {
            let now = fs::read(site.at(path_of(subject))).expect("a file");
            assert!(client.get(target).expect(200).body == now, "{target}");
        }
    }
    server.stop();
}

fn path_of(subject: &Subject) -> &'static str {
    subject.targets[0].trim_start_matches('/')
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// xorshift64*.
struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound
    }
}

/// Changes a file, again and again.
fn flip(site: &Site, subject: &Subject, counts: &Counts, stop: &AtomicBool) {
    let Subject { name, len, kind, pause_ms, .. } = *subject;
    let path = site.at(path_of(subject));
    let mut rng = Rng(0x5EED + len as u64);
    for number in 2.. {
        // Sometimes long enough that a file is settled, and held.
        let pause = if rng.below(6) == 0 { 150 } else { pause_ms };
        std::thread::sleep(Duration::from_millis(pause));
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let content = version(name, number, len);
        match kind {
            Kind::Replaced => {
                let next = site.at(&format!("{name}.next"));
                fs::write(&next, &content).expect("write");
                fs::rename(&next, &path).expect("rename");
            }
            Kind::InPlace => {
                let mut file = fs::File::options().write(true).open(&path).expect("open");
                for (at, chunk) in content.chunks(CHUNK).enumerate() {
                    file.seek(SeekFrom::Start((at * CHUNK) as u64)).expect("seek");
                    file.write_all(chunk).expect("write");
                    if at % 40 == 39 {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
                if name == "backdate" {
                    file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).expect("utimensat");
                }
            }
            Kind::Truncated => {
                let mut file = fs::File::create(&path).expect("truncate");
                content.chunks(CHUNK).for_each(|chunk| file.write_all(chunk).expect("write"));
            }
            Kind::Appended => {
                let at = (number as usize - 2) * CHUNK;
                let mut file = fs::File::options().append(true).open(&path).expect("open");
                file.write_all(&version(name, 1, at + CHUNK)[at..]).expect("append");
            }
        }
        Counts::add(&counts.flips);
    }
}

/// Swaps what links and folders mean.
fn flip_links(site: &Site, outside: &Path, counts: &Counts, stop: &AtomicBool) {
    let relink = |target: &Path, link: &str| {
        let next = site.at("link.next");
        symlink(target, &next).expect("symlink");
        fs::rename(&next, site.at(link)).expect("rename");
    };
    for number in 0u64.. {
        std::thread::sleep(Duration::from_millis(if number % 7 == 0 { 120 } else { 3 }));
        if stop.load(Ordering::Relaxed) {
            return;
        }
        relink(Path::new(["r1", "r2"][(number % 2) as usize]), "current");
        match number % 4 {
            0 => relink(outside, "evil"),
            1 => relink(Path::new("/etc"), "evil"),
            2 => relink(Path::new("../../../../../../../tmp"), "evil"),
            _ => relink(Path::new("r1"), "evil"),
        }
        let [here, there] = if number % 2 == 0 { ["s1", "s2"] } else { ["s2", "s1"] };
        fs::rename(site.at("swap"), site.at(here)).expect("a folder moves away");
        fs::rename(site.at(there), site.at("swap")).expect("and another takes its place");
        if number % 2 == 0 {
            fs::write(site.at("comes.next"), version("comes", number, 3000)).expect("write");
            fs::rename(site.at("comes.next"), site.at("comes")).expect("rename");
        } else {
            fs::remove_file(site.at("comes")).expect("remove");
        }
        Counts::add(&counts.flips);
    }
}

/// Asks for everything, and judges each answer.
fn ask(server: &Server, seed: u64, told: &Told, counts: &Counts, stop: &AtomicBool) {
    let mut rng = Rng(seed);
    let mut client = server.connect();
    let mut tags: HashMap<&str, String> = HashMap::new();
    while !stop.load(Ordering::Relaxed) {
        let at = rng.below(SUBJECTS.len() + MOVING.len());
        let (target, names, kind) = match SUBJECTS.get(at) {
            Some(subject) => {
                let target = subject.targets[rng.below(subject.targets.len())];
                (target, std::slice::from_ref(&subject.name), subject.kind)
            }
            None => (MOVING[at - SUBJECTS.len()].0, MOVING[at - SUBJECTS.len()].1, Kind::Replaced),
        };
        let range = format!("Range: bytes={}-{}", rng.below(3000), 3000 + rng.below(40_000));
        let condition = tags.get(target).map(|tag| format!("If-None-Match: {tag}"));
        let (method, fields): (&str, Vec<&str>) = match (rng.below(8), &condition) {
            (0, _) => ("HEAD", vec![]),
            (1 | 2, _) => ("GET", vec![&range]),
            (3, Some(condition)) => ("GET", vec![condition]),
            _ => ("GET", vec![]),
        };
        let line = format!("{method} {target} HTTP/1.1");
        let mut lines = vec![line.as_str(), "Host: {host}"];
        lines.extend_from_slice(&fields);
        client.head(&lines);
        let response = client.read_cut(method);
        judge(target, names, kind, &response, told, counts);
        if let Some(tag) = response.field("etag") {
            tags.insert(target, tag.to_owned());
        }
        if !response.complete || response.closes() {
            client = server.connect();
        }
    }
}

/// One answer: its bytes are of one state of one file, and what was sent under its tag before was of the same.
#[track_caller]
fn judge(target: &str, names: &[&str], kind: Kind, response: &Response, told: &Told, counts: &Counts) {
    assert!(!response.text().contains(SECRET), "{target}: from outside the root");
    let start: usize = match response.status {
        404 => return Counts::add(&counts.missing),
        304 => {
            return assert_eq!(response.framing, Framing::Bodyless);
        }
        // A file can be shorter than the range.
        416 => return,
        200 => 0,
        206 => {
            let range = response.must("content-range").strip_prefix("bytes ").expect("bytes");
            range.split('-').next().and_then(|first| first.parse().ok()).expect("a first byte")
        }
        _ => panic!("{target}: {response:?}"),
    };
    let tag = response.must("etag").to_owned();
    assert!(tag.starts_with('"'), "{target}: a strong tag, not {tag}");
    let name = (response.body.len() >= RECORD).then(|| {
        let at = start.next_multiple_of(RECORD) - start;
        let record = response.body.get(at..at + 8).map(|name| String::from_utf8_lossy(name).trim_end().to_owned());
        record.unwrap_or_default()
    });
    let Some(name) = name.filter(|name| !name.is_empty()) else { return };
    assert!(names.contains(&name.as_str()), "{target}: is {name}");
    let found = chunks(&name, start, &response.body);
    let one_version = found.windows(2).all(|two| two[0].1 == two[1].1);
    match kind {
        Kind::Replaced | Kind::Truncated | Kind::Appended => assert!(one_version, "{target}: a mixture: {found:?}"),
        Kind::InPlace => {
            let in_order = found.windows(2).all(|two| two[0].1 >= two[1].1);
            let neighbours = found.iter().all(|(_, version)| version + 1 >= found[0].1);
            assert!(in_order && neighbours, "{target}: such a state was never: {found:?}");
        }
    }
    let whole = response.complete && response.status == 200 && response.framing == Framing::Length;
    if whole && kind == Kind::Replaced {
        assert!(response.body == version(&name, found[0].1, response.body.len()), "{target}: not as it was written");
    }
    if !response.complete {
        Counts::add(&counts.cut);
    } else {
        Counts::add(if response.status == 206 { &counts.parts } else { &counts.whole });
    }
    let mut told = lock(told);
    let (of, versions) = told.entry(tag.clone()).or_insert_with(|| {
        Counts::add(&counts.tags);
        (name.clone(), HashMap::new())
    });
    assert_eq!(*of, name, "{target}: the tag {tag} is of two files");
    for (chunk, version) in found {
        let before = *versions.entry(chunk).or_insert(version);
        assert_eq!(before, version, "{target}: the tag {tag} is of two versions of chunk {chunk}");
    }
}

/// When the call that changes a file has returned, the next request gets what it is now: nobody waits, and nobody asks
/// twice. Connections that are open, and new ones; on each core.
#[test]
fn a_change_is_there_for_the_next_request() {
    let site = Site::new().file("d/file", "old").file("r/1/file", "one").file("r/2/file", "two");
    let site = site.link("current", "r/1").link("link", "d/file");
    let large = vec![b'x'; 300_000];
    site.write("large", &large);
    let server = Server::start(&site, ["--cores", "2"]);
    let mut clients: Vec<Client> = (0..6).map(|_| server.connect()).collect();
    for round in 0..25 {
        let content = format!("round {round}");
        site.write("d/next", &content);
        fs::rename(site.at("d/next"), site.at("d/file")).expect("rename");
        for client in &mut clients {
            assert_eq!(client.get("/d/file").expect(200).text(), content, "replaced");
            assert_eq!(client.get("/link").expect(200).text(), content, "behind a link");
        }
        let content = format!("ROUND {round}");
        site.write("d/file", &content);
        clients.iter_mut().for_each(|client| assert_eq!(client.get("/d/file").expect(200).text(), content, "written"));
        fs::rename(site.at("d"), site.at("e")).expect("rename");
        clients.iter_mut().for_each(|client| drop(client.get("/d/file").expect(404)));
        fs::rename(site.at("e"), site.at("d")).expect("rename");
        clients.iter_mut().for_each(|client| drop(client.get("/d/file").expect(200)));
        for release in ["2", "1"] {
            symlink(format!("r/{release}"), site.at("next")).expect("symlink");
            fs::rename(site.at("next"), site.at("current")).expect("rename");
            let content = if release == "1" { "one" } else { "two" };
            assert_eq!(server.get("/current/file").expect(200).text(), content);
            for client in &mut clients {
                assert_eq!(client.get("/current/file").expect(200).text(), content, "the link was swapped");
            }
        }
        let content = vec![b'a' + round as u8; 300_000];
        site.write("large", &content);
        clients.iter_mut().for_each(|client| assert!(client.get("/large").expect(200).body == content, "large"));
        fs::remove_file(site.at("large")).expect("remove");
        clients.iter_mut().for_each(|client| drop(client.get("/large").expect(404)));
        site.write("large", &large);
        clients.iter_mut().for_each(|client| assert!(client.get("/large").expect(200).body == large, "it is back"));
    }
    server.stop();
}

/// Where folders are not watched, a change shows in a moment.
#[test]
fn without_watching_a_change_is_seen_all_the_same() {
    let site = Site::new().file("d/file", "old");
    let server = Server::start(&site, ["--no-watch"]);
    let mut client = server.connect();
    for round in 0..4 {
        let content = format!("round {round}");
        site.write("next", &content);
        fs::rename(site.at("next"), site.at("d/file")).expect("rename");
        wait_until("the new content is served", || client.get("/d/file").text() == content);
        fs::rename(site.at("d"), site.at("e")).expect("rename");
        wait_until("it is away", || client.get("/d/file").status == 404);
        fs::rename(site.at("e"), site.at("d")).expect("rename");
        wait_until("it is back", || client.get("/d/file").status == 200);
    }
    server.stop();
}

/// The site is the folder that was there at the start, whatever its name leads to later: a deploy swaps links inside it.
#[test]
fn the_root_is_opened_once() {
    let site = Site::new().file("old/file", "old").file("new/file", "new").link("root", "old");
    let root = site.at("root");
    let server = support::Launch::bare(std::process::Command::new(support::Launch::binary()), site.root())
        .arg_os(&root)
        .args(["--port", "0"])
        .start();
    assert_eq!(server.get("/file").expect(200).text(), "old");
    symlink("new", site.at("next")).expect("symlink");
    fs::rename(site.at("next"), &root).expect("rename");
    assert_eq!(server.get("/file").expect(200).text(), "old");
    fs::write(site.at("old/file"), "old, but changed").expect("write");
    assert_eq!(server.get("/file").expect(200).text(), "old, but changed");
    server.stop();
}

/// A download goes on when its file gets another name, or another file its name; it ends where its bytes are written to.
#[test]
fn a_download_outlives_a_deploy_and_not_a_write() {
    let content = support::noise(64 << 20);
    for (what, outlives) in [("replaced", true), ("deleted", true), ("written", false), ("grown", false)] {
        let site = Site::new().file("big.bin", &content).file("next", "another");
        let server = Server::start(&site, []);
        let mut client = server.connect();
        client.head(&["GET /big.bin HTTP/1.1", "Host: {host}"]);
        client.read_head().expect(200);
        let begin = client.read_exact(1 << 20);
        assert!(content.starts_with(&begin));
        let open = || fs::File::options().write(true).open(site.at("big.bin")).expect("open");
        match what {
            "replaced" => fs::rename(site.at("next"), site.at("big.bin")).expect("rename"),
            "deleted" => fs::remove_file(site.at("big.bin")).expect("remove"),
            "written" => {
                let mut file = open();
                file.seek(SeekFrom::Start(60 << 20)).expect("seek");
                file.write_all(b"other bytes").expect("write");
            }
            _ => open().set_len(65 << 20).expect("ftruncate"),
        }
        let rest = client.read_to_end_or(63 << 20);
        assert!(content[1 << 20..].starts_with(&rest), "{what}");
        assert_eq!(rest.len() == 63 << 20, outlives, "{what}: {} bytes", rest.len());
        server.stop();
    }
}
