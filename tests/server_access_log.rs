//! The access log, as its reader sees it: one record a request, however that ends; what is in it; what a full disk does to it.

mod support;

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use serde_json::Value;
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{Launch, Server, Site, run, wait_until};

/// More than a socket and its buffers hold, so that a client that reads nothing keeps the rest from leaving.
const LARGE: usize = 64 << 20;

struct Logged {
    server: Server,
    log: PathBuf,
    /// Holds the log; not inside the site, whose folder is watched.
    _dir: tempfile::TempDir,
}

/// A server with a log of its own.
fn start(site: &Site, args: &[&str]) -> Logged {
    let dir = tempfile::tempdir().expect("a folder");
    let log = dir.path().join("access.log");
    let path = log.to_str().expect("UTF-8").to_owned();
    let server = Launch::new(site).args(["--access-log", &path]).args(args.iter().copied()).start();
    Logged { server, log, _dir: dir }
}

fn start_json(site: &Site, args: &[&str]) -> Logged {
    start(site, &[&["--access-log-format", "json"], args].concat())
}

impl Logged {
    fn text(&self) -> String {
        fs::read_to_string(&self.log).expect("the log")
    }

    /// Everything, after the server has ended.
    fn records(self) -> Vec<Value> {
        let said = self.server.stop();
        assert!(!said.contains(BEGINS), "{said}");
        records(&self.log)
    }
}

fn records(log: &Path) -> Vec<Value> {
    let text = fs::read_to_string(log).expect("the log");
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn one(records: &[Value]) -> &Value {
    assert_eq!(records.len(), 1, "{records:#?}");
    &records[0]
}

/// What a record is about, to be compared.
fn told(record: &Value) -> (String, u64, u64, bool) {
    let line = match record["method"].as_str() {
        Some(method) => format!("{method} {}", record["target"].as_str().expect("a target")),
        None => String::from("-"),
    };
    let number = |name: &str| record[name].as_u64().unwrap_or_else(|| panic!("{name}: {record}"));
    (line, number("status"), number("bytes"), record["complete"].as_bool().expect("complete"))
}

fn all_told(records: &[Value]) -> Vec<(String, u64, u64, bool)> {
    records.iter().map(told).collect()
}

fn want(line: &str, status: u64, bytes: u64) -> (String, u64, u64, bool) {
    (line.to_owned(), status, bytes, true)
}

#[test]
fn keep_alive_and_pipelined_requests_have_a_record_each_in_order() {
    let site = Site::new().file("a.txt", "aaaa").file("b.bin", vec![b'b'; 100_000]);
    let logged = start_json(&site, &["--cores", "1"]);
    let mut client = logged.server.connect();
    client.get("/a.txt").expect(200);
    client.get("/none").expect(404);
    let etag = client.get("/a.txt").expect(200).field("etag").expect("an ETag").to_owned();
    client.request("GET", "/a.txt", &[&format!("If-None-Match: {etag}")]).expect(304);
    client.request("HEAD", "/b.bin", &[]).expect(200);
    client.request("GET", "/b.bin", &["Range: bytes=10-19"]).expect(206);
    let several = client.request("GET", "/b.bin", &["Range: bytes=0-9,50000-90000"]).expect(206).body.len();
    client.send("GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n".repeat(3) + "GET /b.bin HTTP/1.1\r\nHost: x\r\n\r\n");
    (0..4).for_each(|_| drop(client.read().expect(200)));
    drop(client);
    let records = logged.records();
    let not_found = records[1]["bytes"].as_u64().expect("bytes");
    assert!(not_found > 0);
    let expected = [
        want("GET /a.txt", 200, 4),
        want("GET /none", 404, not_found),
        want("GET /a.txt", 200, 4),
        want("GET /a.txt", 304, 0),
        want("HEAD /b.bin", 200, 0),
        want("GET /b.bin", 206, 10),
        want("GET /b.bin", 206, several as u64),
        want("GET /a.txt", 200, 4),
        want("GET /a.txt", 200, 4),
        want("GET /a.txt", 200, 4),
        want("GET /b.bin", 200, 100_000),
    ];
    assert_eq!(all_told(&records), expected);
    let numbers: Vec<u64> = records.iter().map(|record| record["request"].as_u64().expect("a number")).collect();
    assert_eq!(numbers, (1..=11).collect::<Vec<_>>());
    assert!(records.iter().all(|record| record["connection"] == 1 && record["core"] == 0), "{records:#?}");
}

#[test]
fn a_record_says_who_asked_when_and_for_what() {
    let site = Site::new().file("a.txt", "aaaa");
    let logged = start_json(&site, &[]);
    let fields = ["Referer: https://example.com/é", "User-Agent: test/1 \"quoted\""];
    logged.server.connect().request("GET", "/a.txt?x=%20y", &fields).expect(200);
    let host = logged.server.addr.to_string();
    let records = logged.records();
    let record = one(&records);
    for (name, value) in [
        ("remote", "127.0.0.1"),
        ("method", "GET"),
        ("target", "/a.txt?x=%20y"),
        ("protocol", "HTTP/1.1"),
        ("host", &*host),
        ("referer", "https://example.com/é"),
        ("user_agent", "test/1 \"quoted\""),
    ] {
        assert_eq!(record[name], value, "{name}: {record}");
    }
    assert_eq!(record["user"], Value::Null);
    let time = record["time"].as_str().expect("a time");
    assert!(time.len() == 27 && time.starts_with("20") && time.ends_with('Z'), "{time}");
    let (duration, first) = (record["duration_us"].as_u64(), record["first_byte_us"].as_u64());
    assert!(first.is_some() && first <= duration, "{record}");
    assert!(record.get("cgi").is_none() && record.get("refused").is_none() && record.get("escaped").is_none());
}

#[test]
fn what_is_no_request_has_a_record_with_the_reason() {
    let site = Site::new();
    let logged = start_json(&site, &["--head-ms-max", "200ms", "--head-bytes-max", "2000"]);
    logged.server.connect().send("nonsense\r\n\r\n").read().expect(400);
    logged.server.connect().send("GET / HTTP/1.1\r\nHost: x\r\n").read().expect(408);
    let long = format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", "a".repeat(3000));
    logged.server.connect().send(long).read().expect(431);
    // Nobody asks for anything: no record.
    drop(logged.server.connect());
    let records = logged.records();
    let mut statuses: Vec<u64> = records.iter().map(|record| record["status"].as_u64().expect("a status")).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [400, 408, 431]);
    for record in &records {
        assert_eq!(
            (&record["method"], &record["target"], &record["complete"]),
            (&Value::Null, &Value::Null, &Value::Bool(true))
        );
        assert!(record["refused"].as_str().is_some_and(|why| !why.is_empty()), "{record}");
        let is_late = record["status"] == 408;
        let waited = record["duration_us"].as_u64().expect("a duration");
        assert!(!is_late || waited >= 150_000, "from the first byte of the head: {record}");
    }
}

#[test]
fn an_aborted_download_has_a_record_with_what_was_sent() {
    let site = Site::new().file("large.bin", vec![b'x'; LARGE]);
    let logged = start_json(&site, &[]);
    let mut client = logged.server.connect();
    client.send("GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n").read_head();
    client.read_exact(1 << 20);
    drop(client);
    wait_until("the record is there", || logged.text().ends_with('\n'));
    let records = logged.records();
    let (line, status, bytes, complete) = told(one(&records));
    assert_eq!((&*line, status, complete), ("GET /large.bin", 200, false));
    assert!((1 << 20..LARGE as u64).contains(&bytes), "{bytes}");
}

#[test]
fn a_program_has_a_record_with_its_end() {
    let site = Site::new()
        .sh("cgi-bin/hello.sh", "printf 'Content-Type: text/plain\\n\\nhello'")
        .sh("cgi-bin/three.sh", "printf 'Content-Type: text/plain\\n\\nhello'; exit 3")
        .sh("cgi-bin/silent.sh", "exit 7")
        .sh("cgi-bin/killed.sh", "printf 'Content-Type: text/plain\\n\\nhel'; sleep 0.1; kill -9 $$")
        .sh("cgi-bin/moved.sh", "printf 'Location: /page.html\\n\\n'")
        .file("page.html", "page");
    // However long a loaded machine takes to tell of an exit.
    let logged = start_json(&site, &["--cgi-exit-wait-ms-max", "1m"]);
    for (target, status) in
        [("hello.sh", 200), ("three.sh", 200), ("silent.sh", 502), ("moved.sh", 200), ("none.sh", 404)]
    {
        logged.server.get(&format!("/cgi-bin/{target}")).expect(status);
    }
    let mut client = logged.server.connect();
    client.send("GET /cgi-bin/killed.sh HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(!client.read_cut("GET").complete);
    let records = logged.records();
    assert_eq!(records.len(), 6, "{records:#?}");
    let of = |name: &str| {
        let target = format!("/cgi-bin/{name}.sh");
        records.iter().find(|record| record["target"] == *target).unwrap_or_else(|| panic!("no {name}"))
    };
    assert_eq!(told(of("hello")), want("GET /cgi-bin/hello.sh", 200, 5));
    assert_eq!(of("hello")["cgi"]["exit"], 0);
    assert!(of("hello")["cgi"]["run_us"].as_u64().is_some_and(|time| time > 0), "{}", of("hello"));
    assert_eq!(of("three")["cgi"]["exit"], 3);
    assert_eq!((&of("silent")["status"], &of("silent")["cgi"]["exit"]), (&Value::from(502), &Value::from(7)));
    assert_eq!((&of("killed")["cgi"]["signal"], &of("killed")["complete"]), (&Value::from(9), &Value::Bool(false)));
    assert_eq!(told(of("killed")).2, 3, "{}", of("killed"));
    assert_eq!(told(of("moved")), want("GET /cgi-bin/moved.sh", 200, 4));
    assert_eq!(of("none").get("cgi"), None);
}

#[test]
fn a_client_that_leaves_during_a_program_has_a_record() {
    let site = Site::new()
        .sh("cgi-bin/begins.sh", "printf 'Content-Type: text/plain\\n\\nbegun'; : >begun; sleep 600")
        .sh("cgi-bin/waits.sh", ": >waits; sleep 600");
    let logged = start_json(&site, &[]);
    let mut client = logged.server.connect();
    client.send("GET /cgi-bin/begins.sh HTTP/1.1\r\nHost: x\r\n\r\n");
    client.read_until(b"begun");
    drop(client);
    wait_until("the first record is there", || logged.text().ends_with('\n'));
    let mut client = logged.server.connect();
    client.send("GET /cgi-bin/waits.sh HTTP/1.1\r\nHost: x\r\n\r\n");
    wait_until("the program runs", || site.at("cgi-bin/waits").exists());
    drop(client);
    wait_until("the second record is there", || logged.text().lines().count() == 2);
    let records = logged.records();
    let (line, status, bytes, complete) = told(&records[0]);
    assert_eq!((&*line, status, bytes, complete), ("GET /cgi-bin/begins.sh", 200, 5, false));
    let (line, status, bytes, complete) = told(&records[1]);
    assert_eq!((&*line, status, bytes, complete), ("GET /cgi-bin/waits.sh", 499, 0, false), "no answer had begun");
    assert_eq!(records[1]["first_byte_us"], Value::Null);
}

/// Told to stop in the middle of it all, and cut by a second signal: what was in flight is written down before the end.
#[test]
fn no_record_is_lost_when_the_server_ends() {
    let site = Site::new()
        .file("a.txt", "aaaa")
        .file("large.bin", vec![b'x'; LARGE])
        .sh("cgi-bin/waits.sh", ": >waits; trap '' TERM; sleep 600");
    let logged = start_json(&site, &["--cgi-term-to-kill-ms", "100ms"]);
    let mut idle = logged.server.connect();
    for _ in 0..50 {
        idle.get("/a.txt").expect(200);
    }
    let mut download = logged.server.connect();
    download.send("GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n").read_head();
    let mut program = logged.server.connect();
    program.send("GET /cgi-bin/waits.sh HTTP/1.1\r\nHost: x\r\n\r\n");
    wait_until("the program runs", || site.at("cgi-bin/waits").exists());
    logged.server.signal(Signal::TERM);
    idle.expect_close();
    logged.server.signal(Signal::TERM);
    let Logged { server, log, _dir } = logged;
    assert_eq!(server.wait().code, Some(0));
    let records = records(&log);
    assert_eq!(records.len(), 52, "{records:#?}");
    let cut = |target: &str| records.iter().find(|record| record["target"] == target).expect("a record");
    let (_, status, bytes, complete) = told(cut("/large.bin"));
    assert_eq!((status, complete), (200, false));
    assert!(bytes > 0 && bytes < LARGE as u64, "{bytes}");
    assert_eq!(cut("/cgi-bin/waits.sh")["complete"], cut("/cgi-bin/waits.sh")["status"] == 503);
    drop(download);
}

#[test]
fn cores_and_clients_never_share_a_line_and_each_request_has_a_name_of_its_own() {
    const CLIENTS: usize = 16;
    const REQUESTS: usize = 200;
    let site = Site::new().file("a.txt", "aaaa");
    let logged = start_json(&site, &["--cores", "4"]);
    // Ten of them are more than a pipe takes in one piece; all of them are less than one core may keep.
    let pad = "x".repeat(600);
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (server, pad) = (&logged.server, &pad);
            scope.spawn(move || {
                let mut connection = server.connect();
                for round in 0..REQUESTS / 10 {
                    let request = |number| {
                        format!("GET /a.txt?{client}-{round}-{number} HTTP/1.1\r\nHost: x\r\nUser-Agent: {pad}\r\n\r\n")
                    };
                    connection.send((0..10).map(request).collect::<String>());
                    (0..10).for_each(|_| drop(connection.read().expect(200)));
                }
            });
        }
    });
    let records = logged.records();
    let targets: HashSet<&str> = records.iter().map(|record| record["target"].as_str().expect("a target")).collect();
    assert_eq!((records.len(), targets.len()), (CLIENTS * REQUESTS, CLIENTS * REQUESTS));
    let names: HashSet<String> = records
        .iter()
        .map(|record| format!("{}/{}/{}", record["core"], record["connection"], record["request"]))
        .collect();
    assert_eq!(names.len(), records.len());
    assert!(records.iter().all(|record| record["user_agent"] == *pad));
}

#[test]
fn whatever_is_sent_stays_in_its_place() {
    let site = Site::new().file("a.txt", "aaaa");
    let agent = b"\x1b[2Jx\" 200 0 \"-\" \"y\xff\xe2\x80\xae\t\\x41".as_slice();
    let request = [b"GET /a.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\nUser-Agent: ", agent, b"\r\n\r\n"].concat();
    for form in ["combined", "json"] {
        let logged = start(&site, &["--access-log-format", form]);
        let status = logged.server.connect().send(&request).read().status;
        logged.server.connect().get("/a.txt").expect(200);
        let log = logged.log.clone();
        let Logged { server, _dir, .. } = logged;
        server.stop();
        let text = fs::read_to_string(log).expect("the log");
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.bytes().all(|byte| byte == b'\n' || (b' '..=b'~').contains(&byte)), "{form}: {text}");
        // A control character makes it no request at all; what is not ASCII does not.
        assert_eq!(status, 400);
    }
    let agent = b"x\" 200 0 \"-\" \"y\xff\xe2\x80\xae\\x41".as_slice();
    let request = [b"GET /a.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\nUser-Agent: ", agent, b"\r\n\r\n"].concat();
    let logged = start(&site, &[]);
    logged.server.connect().send(&request).read().expect(200);
    let log = logged.log.clone();
    let Logged { server, _dir, .. } = logged;
    server.stop();
    let text = fs::read_to_string(log).expect("the log");
    assert!(text.contains("\"x\\x22 200 0 \\x22-\\x22 \\x22y\\xff\\xe2\\x80\\xae\\x5cx41\" "), "{text}");
    let logged = start_json(&site, &[]);
    logged.server.connect().send(&request).read().expect(200);
    let records = logged.records();
    assert_eq!(one(&records)["user_agent"], "x\" 200 0 \"-\" \"y\\xff\u{202e}\\\\x41");
    assert_eq!(one(&records)["escaped"], serde_json::json!(["user_agent"]));
}

/// What the server says on standard error about the trouble with its log.
fn said(server: &Server, what: &str) -> usize {
    server.output().lines().filter(|line| line.contains(what)).count()
}

const BEGINS: &str = "the access log cannot be written";
const ENDS: &str = "the trouble with the access log is over";

/// `/dev/full` is a disk without room, for everybody and for good.
#[test]
fn a_log_that_cannot_be_written_stops_nobody_and_is_said_once() {
    let site = Site::new().file("a.txt", "aaaa");
    let server = Server::start(&site, ["--access-log", "/dev/full", "--cores", "2"]);
    for _ in 0..20 {
        let mut client = server.connect();
        (0..10).for_each(|_| drop(client.get("/a.txt").expect(200)));
    }
    wait_until("it is said", || said(&server, BEGINS) == 1);
    assert!(server.output().contains("No space left on device"), "{}", server.output());
    server.get("/a.txt").expect(200);
    let output = server.stop();
    assert_eq!(output.matches(BEGINS).count(), 1, "{output}");
    assert!(output.contains(&format!("{ENDS}: 201 records were lost")), "at the end, with their number: {output}");
}

/// A disk that is full and has room again, made of RLIMIT_FSIZE: the write fails as it does there (a part of it, then none of it),
/// and whoever started the server can raise the limit.
#[test]
fn when_there_is_room_again_nothing_that_fitted_into_the_buffer_is_lost() {
    let site = Site::new().file("a.txt", "aaaa");
    let dir = tempfile::tempdir().expect("a folder");
    let log = dir.path().join("access.log");
    let path = log.to_str().expect("UTF-8").to_owned();
    let mut command = Command::new("bash");
    command.arg("-c").arg("ulimit -S -f 4; exec \"$0\" \"$@\"").arg(Launch::binary()).arg(site.root());
    let args = ["--port", "0", "--cores", "1", "--access-log", &path, "--access-log-format", "json"];
    let server = Launch::bare(command, site.root()).args(args).start();
    let mut client = server.connect();
    for number in 0..100 {
        client.get(&format!("/a.txt?{number}")).expect(200);
    }
    wait_until("it is said", || said(&server, BEGINS) == 1);
    let written = fs::read_to_string(&log).expect("the log");
    assert!(written.len() <= 4096 && written.lines().count() < 100, "{} bytes", written.len());
    assert_eq!(said(&server, ENDS), 0);
    let pid = Pid::from_raw(server.pid());
    prlimit(pid, Resource::Fsize, Rlimit { current: None, maximum: None }).expect("prlimit");
    wait_until("it is written again", || said(&server, ENDS) == 1);
    client.get("/a.txt?100").expect(200);
    drop(client);
    let output = server.stop();
    assert!(
        output.contains(&format!("{ENDS}: 0 records were lost")) && output.matches(BEGINS).count() == 1,
        "{output}"
    );
    let targets: Vec<String> = records(&log).iter().map(|record| record["target"].to_string()).collect();
    let want: Vec<String> = (0..=100).map(|number| format!("\"/a.txt?{number}\"")).collect();
    assert_eq!(targets, want, "each once, and in order");
}

/// What the buffer cannot hold is lost, and its number said; the rest is whole.
#[test]
fn what_does_not_fit_into_the_buffer_is_lost_and_counted() {
    let site = Site::new().file("a.txt", "aaaa");
    let dir = tempfile::tempdir().expect("a folder");
    let log = dir.path().join("access.log");
    let path = log.to_str().expect("UTF-8").to_owned();
    let mut command = Command::new("bash");
    command.arg("-c").arg("ulimit -S -f 4; exec \"$0\" \"$@\"").arg(Launch::binary()).arg(site.root());
    let args = ["--port", "0", "--cores", "1", "--access-log", &path, "--access-log-format", "json"];
    let small = ["--access-log-buffer-bytes-max", "64KiB"];
    let server = Launch::bare(command, site.root()).args(args.into_iter().chain(small)).start();
    let mut client = server.connect();
    // Some 400 bytes each: twice what the buffer holds.
    const REQUESTS: usize = 320;
    for number in 0..REQUESTS {
        client.request("GET", &format!("/a.txt?{number}"), &[&format!("User-Agent: {}", "x".repeat(200))]).expect(200);
    }
    drop(client);
    wait_until("it is said", || said(&server, BEGINS) == 1);
    prlimit(Pid::from_raw(server.pid()), Resource::Fsize, Rlimit { current: None, maximum: None }).expect("prlimit");
    wait_until("it is written again", || said(&server, ENDS) == 1);
    let output = server.stop();
    let records = records(&log);
    let lost = output
        .split(ENDS)
        .nth(1)
        .and_then(|rest| rest.trim_start_matches(": ").split(' ').next()?.parse::<usize>().ok());
    assert_eq!(records.len() + lost.expect("a number"), REQUESTS, "{output}");
    assert!(lost > Some(0) && records.len() > 100, "{lost:?} of {REQUESTS}");
}

/// A disk that is really full, where this machine lets us make one.
#[test]
fn a_full_tmpfs_is_survived() {
    let dir = tempfile::tempdir().expect("a folder");
    let mounted = Mounted::tmpfs(dir.path());
    let Some(mounted) = mounted else { return support::not_here("a tmpfs cannot be mounted here") };
    let site = Site::new().file("a.txt", "aaaa");
    let log = dir.path().join("access.log");
    let ballast = dir.path().join("ballast");
    let path = log.to_str().expect("UTF-8").to_owned();
    let server = Server::start(&site, ["--access-log", &path, "--access-log-format", "json", "--cores", "2"]);
    server.get("/a.txt?0").expect(200);
    wait_until("the first record is there", || fs::read_to_string(&log).is_ok_and(|text| text.ends_with('\n')));
    // All but the page that the log has begun.
    let full = fs::write(&ballast, vec![0; 1 << 20]).expect_err("the disk is full");
    assert_eq!(full.raw_os_error(), Some(28), "ENOSPC");
    for number in 1..=50 {
        server.get(&format!("/a.txt?{number}")).expect(200);
    }
    wait_until("it is said", || said(&server, BEGINS) == 1);
    fs::remove_file(&ballast).expect("room");
    wait_until("it is written again", || said(&server, ENDS) == 1);
    server.get("/a.txt?51").expect(200);
    let output = server.stop();
    assert!(output.contains(&format!("{ENDS}: 0 records were lost")), "{output}");
    let targets: HashSet<String> = records(&log).iter().map(|record| record["target"].to_string()).collect();
    assert_eq!((targets.len(), records(&log).len()), (52, 52));
    drop(mounted);
}

struct Mounted(PathBuf);

impl Mounted {
    fn tmpfs(at: &Path) -> Option<Mounted> {
        support::on_path("mount")?;
        let mut mount = Command::new("mount");
        let mounted = run(mount.args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(at));
        mounted.status.success().then(|| Mounted(at.to_path_buf()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run(Command::new("umount").arg("-l").arg(&self.0));
    }
}

/// A FIFO that nobody reads cannot be opened: that is said, and not waited for.
#[test]
fn a_log_that_cannot_be_opened_is_a_configuration_error() {
    let site = Site::new();
    let dir = tempfile::tempdir().expect("a folder");
    let fifo = dir.path().join("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .expect("a FIFO");
    for log in [fifo.as_path(), dir.path(), Path::new("/no/such/folder/log")] {
        let exit = Launch::new(&site).args(["--access-log", log.to_str().expect("UTF-8")]).fails();
        assert_eq!(exit.code, Some(3), "{exit:?}");
        assert!(exit.output.contains(&format!("cannot open the access log {}", log.display())), "{exit:?}");
    }
}
