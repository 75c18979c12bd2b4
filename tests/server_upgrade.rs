//! Upgrades: another process of the binary takes the place of the one that runs, and no client notices.

mod instance_support;
mod support;

use instance_support::Home;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use support::{Client, Launch, Site, no_forks, noise, wait_until};

/// A page by a connection of its own, as long as it is asked for. Any that is refused, reset or cut is a failure.
fn one_connection_a_request(addr: SocketAddr, stop: &AtomicBool, served: &AtomicUsize) {
    while !stop.load(Ordering::Relaxed) {
        let reply = Client::connect(addr).request("GET", "/", &["Connection: close"]);
        assert_eq!(reply.expect(200).text(), "home");
        served.fetch_add(1, Ordering::Relaxed);
    }
}

/// The same on a connection that stays, until the server says that it will not.
fn connections_that_stay(addr: SocketAddr, stop: &AtomicBool, served: &AtomicUsize) {
    let mut client = Client::connect(addr);
    while !stop.load(Ordering::Relaxed) {
        let reply = client.get("/");
        if reply.field("connection") == Some("close") {
            client = Client::connect(addr);
        }
        assert_eq!(reply.expect(200).text(), "home");
        served.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn six_upgrades_under_load_refuse_reset_and_cut_nobody() {
    let home = Home::new();
    home.content("a", "index.html", "home");
    let addr = home.run(["-D", "-n", "a", "-p", "0", "--cores", "2"]).expect(0).addr();
    let (stop, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut pids = vec![home.pid("a")];
    std::thread::scope(|scope| {
        let work = [one_connection_a_request, connections_that_stay, one_connection_a_request];
        let (stop, served) = (&stop, &served);
        let clients: Vec<_> = work.map(|work| scope.spawn(move || work(addr, stop, served))).into();
        let more = |count: usize| {
            let before = served.load(Ordering::Relaxed);
            let failed = || clients.iter().any(|client| client.is_finished());
            wait_until("requests are served", || failed() || served.load(Ordering::Relaxed) >= before + count);
        };
        for _ in 0..6 {
            more(100);
            let said = home.run(["--upgrade", "-n", "a"]);
            let pid = home.pid("a");
            if said.code != Some(0) || pids.contains(&pid) {
                stop.store(true, Ordering::Relaxed);
            }
            let said = said.expect(0);
            assert_eq!(said.stdout, format!("a is served by process {pid} now; the one before it drains\n"));
            assert!(!pids.contains(&pid), "{pid} is not new: {pids:?}");
            assert_eq!(home.row("a")["state"], "serving");
            pids.push(pid);
        }
        more(100);
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().for_each(|client| client.join().expect("nobody was turned away"));
    });
    wait_until("the processes before it are gone", || home.left_running().len() == 1);
    let said = home.run(["-s", "-n", "a"]).expect(0).stdout;
    assert_eq!(said, format!("a (pid {}) has stopped; nothing was cut\n", pids.last().expect("a pid")));
    assert!(std::net::TcpStream::connect(addr).is_err());
    assert_eq!(home.left_running(), Vec::<String>::new());
    assert!(!home.run_folder("a").exists(), "the name is free");
}

#[test]
fn metrics_are_told_where_they_were() {
    let home = Home::new();
    home.content("a", "index.html", "home");
    // Both with port 0: the same words for two sockets.
    let started = home.run(["-D", "-n", "a", "-p", "0", "--metrics", "127.0.0.1:0"]).expect(0);
    let addr = started.addr();
    let metrics =
        started.stdout.lines().find_map(|line| line.strip_prefix("metrics http://")?.strip_suffix("/metrics"));
    let metrics: SocketAddr = metrics.expect("where they are").parse().expect("an address");
    for _ in 0..2 {
        home.run(["--upgrade", "-n", "a"]).expect(0);
        assert_eq!(Client::connect(addr).get("/").expect(200).text(), "home");
        let told = Client::connect(metrics).get("/metrics").expect(200).text().to_owned();
        assert!(told.contains("ucaffeine_build_info"), "{told}");
        assert_eq!(Client::connect(metrics).get("/readyz").expect(200).status, 200);
    }
    home.run(["-s", "-n", "a"]).expect(0);
}

/// A binary of our own, which can be replaced.
fn binary(home: &Home) -> PathBuf {
    let at = home.path().join("bin/ucaffeine");
    fs::create_dir_all(home.path().join("bin")).expect("mkdir");
    replace(&at, |new| assert!(fs::copy(Launch::binary(), new).is_ok()));
    at
}

/// As an installation does: another file in its place.
fn replace(at: &Path, write: impl FnOnce(&Path)) {
    let _quiet = no_forks();
    let new = at.with_extension("new");
    write(&new);
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).expect("chmod");
    fs::rename(new, at).expect("rename");
}

#[test]
fn another_binary_may_have_more_cores_or_fewer() {
    let home = Home::new();
    home.content("a", "index.html", "home");
    let binary = binary(&home);
    let config = home.path().join("a.toml");
    let cores = |count: usize| fs::write(&config, format!("cores = {count}\n")).expect("write");
    cores(2);
    let started = home.run_as(&binary, ["-D", "-n", "a", "-p", "0", "-c", "a.toml"]).expect(0);
    let addr = started.addr();
    for count in [4, 1, 3] {
        cores(count);
        let said = home.run(["--reload", "-n", "a"]).expect(0).stdout;
        assert!(said.contains("needs a restart (--upgrade): cores"), "{said}");
        replace(&binary, |new| assert!(fs::copy(Launch::binary(), new).is_ok()));
        home.run(["--upgrade", "-n", "a"]).expect(0);
        assert_eq!(home.row("a")["cores"], count);
        wait_until("the process before it is gone", || home.left_running().len() == 1);
        // Whichever socket the kernel gives them to, somebody accepts from it.
        let mut clients: Vec<Client> = (0..64).map(|_| Client::connect(addr)).collect();
        clients.iter_mut().for_each(|client| assert_eq!(client.get("/").expect(200).text(), "home"));
    }
    home.run(["-s", "-n", "a"]).expect(0);
    assert_eq!(home.left_running(), Vec::<String>::new());
}

#[test]
fn one_that_does_not_start_leaves_the_old_one_serving() {
    let home = Home::new();
    home.content("a", "index.html", "home");
    let binary = binary(&home);
    let config = home.path().join("a.toml");
    fs::write(&config, "# nothing\n").expect("write");
    let arguments = ["-D", "-n", "a", "-p", "0", "-c", "a.toml", "--upgrade-ms-max", "2s"];
    let addr = home.run_as(&binary, arguments).expect(0).addr();
    let pid = home.pid("a");
    let mut client = Client::connect(addr);
    let mut refused = |says: &str| {
        let said = home.run(["--upgrade", "-n", "a"]).expect(1).stderr;
        assert!(said.contains(says), "no {says:?} in {said}");
        assert_eq!(client.get("/").expect(200).text(), "home", "an open connection goes on");
        assert_eq!(Client::connect(addr).get("/").expect(200).text(), "home");
        assert_eq!((home.pid("a"), home.left_running().len()), (pid, 1), "and nothing is left of the other one");
    };
    let script = |text: &str| replace(&binary, |new| fs::write(new, format!("#!/bin/sh\n{text}\n")).expect("write"));
    script("exit 7");
    refused("it ended before it was ready: exit status: 7");
    script("exec sleep 1000");
    refused("it was not ready in time (--upgrade-ms-max)");
    fs::remove_file(&binary).expect("it was there");
    refused("No such file or directory");
    replace(&binary, |new| assert!(fs::copy(Launch::binary(), new).is_ok()));
    fs::write(&config, "prot = 1\n").expect("write");
    refused("a.toml:1:1: unknown key prot; did you mean port?");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("an address");
    fs::write(&config, format!("bind = ['127.0.0.1', '{taken}']\n")).expect("write");
    refused(&format!("cannot listen on {taken}"));
    let log = fs::read_to_string(home.log("a")).expect("a log");
    assert_eq!(log.matches("this one goes on serving").count(), 5, "each time it is said in the log: {log}");
    fs::write(&config, "# nothing\n").expect("write");
    home.run(["--upgrade", "-n", "a"]).expect(0);
    assert_ne!(home.pid("a"), pid);
    assert_eq!(home.run(["--upgrade", "-n", "nobody"]).expect(1).stderr, "ucaffeine: no instance nobody is running\n");
    home.run(["-s", "-n", "a"]).expect(0);
}

#[test]
fn what_is_under_way_ends_in_the_old_process() {
    let home = Home::new();
    let body = noise(64 << 20);
    home.content("a", "index.html", "home");
    fs::write(home.own("a").join("large.bin"), &body).expect("write");
    let wait = "echo Content-Type: text/plain; echo; echo began; while [ ! -e go ]; do sleep 0.02; done; echo over";
    home.script("a", "cgi-bin/wait", wait);
    let addr = home.run(["-D", "-n", "a", "-p", "0", "--cores", "2"]).expect(0).addr();
    let before = home.pid("a");
    let (mut download, mut script) = (Client::connect(addr), Client::connect(addr));
    download.head(&["GET /large.bin HTTP/1.1", "Host: {host}"]).read_head();
    script.head(&["GET /cgi-bin/wait HTTP/1.1", "Host: {host}"]).read_until(b"began\n");
    home.run(["--upgrade", "-n", "a"]).expect(0);
    assert_ne!(home.pid("a"), before);
    assert_eq!(Client::connect(addr).get("/").expect(200).text(), "home");
    assert!(download.read_exact(body.len()) == body);
    home.content("a", "cgi-bin/go", "");
    script.read_until(b"over\n");
    drop((download, script));
    wait_until("the old one ends", || home.left_running().len() == 1);
    // The new one is an instance like any other.
    let page = home.path().join("page.html");
    fs::write(&page, "deployed").expect("write");
    home.run(["-d", "page.html", "-n", "a"]).expect(0);
    assert_eq!(Client::connect(addr).get("/page.html").expect(200).text(), "deployed");
    assert!(home.run(["-D", "-n", "a", "-p", "0"]).expect(1).stderr.contains("running already"));
    home.run(["--reload", "-n", "a"]).expect(0);
    let log = fs::read_to_string(home.log("a")).expect("a log");
    assert!(log.contains("GET /page.html") && log.contains("in the place of process"), "one log goes on: {log}");
    home.run(["-s", "-n", "a"]).expect(0);
    assert_eq!(home.left_running(), Vec::<String>::new());
}

/// Whoever has connected, and has yet to say what he wants, is served by the process that accepted him.
#[test]
fn whoever_was_accepted_before_is_served() {
    let home = Home::new();
    home.content("a", "index.html", "home");
    let addr = home.run(["-D", "-n", "a", "-p", "0", "--cores", "2"]).expect(0).addr();
    let mut silent: Vec<Client> = (0..16).map(|_| Client::connect(addr)).collect();
    let mut stay: Vec<Client> = (0..16).map(|_| Client::connect(addr)).collect();
    stay.iter_mut().for_each(|client| assert_eq!(client.get("/").expect(200).field("connection"), None));
    wait_until("all are accepted", || home.row("a")["connections_open"] == 32);
    home.run(["--upgrade", "-n", "a"]).expect(0);
    for client in silent.iter_mut().chain(&mut stay) {
        let reply = client.get("/").expect(200);
        assert_eq!((reply.field("connection"), reply.text().as_str()), (Some("close"), "home"));
        client.expect_close();
    }
    wait_until("the old one ends", || home.left_running().len() == 1);
    home.run(["-s", "-n", "a"]).expect(0);
}

/// By signal, without a name; a Unix socket, too, and a port that the kernel chose.
#[test]
fn a_signal_upgrades_what_runs_in_the_foreground() {
    let site = Site::new().file("index.html", "home");
    let socket = site.at("server.sock");
    let bind = format!("unix:{}", socket.display());
    let server = Launch::new(&site).args(["--cores", "2", "-b", "127.0.0.1", "-b", &bind]).start();
    let addr = server.addr;
    server.signal(Signal::USR2);
    wait_until("another process serves", || server.output().contains("serves in the place of"));
    let output = server.wait();
    assert_eq!(output.code, Some(0), "{}", output.output);
    let line = output.output.lines().find(|line| line.contains("has taken over")).expect("it is said");
    let pid = line.split("process ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
    let ended = Ended(pid.expect("its number"));
    assert_eq!(Client::connect(addr).get("/").expect(200).text(), "home");
    assert_eq!(Client::connect_unix(&socket).get("/").expect(200).text(), "home");
    ended.stop();
    assert!(std::net::TcpStream::connect(addr).is_err());
}

/// A process that is not our child; ended in any case.
struct Ended(i32);

impl Ended {
    fn runs(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
    }

    fn stop(&self) {
        kill_process(Pid::from_raw(self.0).expect("a pid"), Signal::TERM).expect("kill");
        wait_until("it ends", || !self.runs());
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        if self.runs() {
            let _ = kill_process(Pid::from_raw(self.0).expect("a pid"), Signal::KILL);
        }
    }
}
