//! Reloading: the configuration is read again while the server runs, without a request that notices.

mod instance_support;
mod support;

use instance_support::Home;
use rustix::process::Signal;
use std::fs;
use support::{Client, Launch, Server, Site, noise, wait_until};

const ALL_IS_WELL: &str = "the configuration was reloaded";

/// How often a line with this has been written.
fn count(text: &str, what: &str) -> usize {
    text.matches(what).count()
}

/// Sends SIGHUP, and waits until what came of it was said.
#[track_caller]
fn hup(server: &Server, says: &str) {
    let before = count(&server.output(), says);
    server.signal(Signal::HUP);
    wait_until(says, || count(&server.output(), says) > before);
}

/// A site with a configuration beside it, and a server of that.
fn configured(site: &Site, config: &str) -> Server {
    site.write("site.toml", config);
    let config = site.at("site.toml");
    let launch = Launch::bare(std::process::Command::new(Launch::binary()), site.root()).current_dir(site.root());
    launch.args(["--port", "0", "--cores", "2", "--config"]).arg_os(config).start()
}

#[test]
fn the_next_request_of_an_open_connection_has_the_new_configuration() {
    let site = Site::new().file("a.txt", "a").file("deep/b.txt", "b");
    let server = configured(&site, "header = ['/ X-Which: one']\ntarget_bytes_max = 100\n");
    let mut clients: Vec<Client> = (0..8).map(|_| server.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/a.txt").expect(200).field("x-which"), Some("one"));
    }
    site.write("site.toml", "header = ['/ X-Which: two']\ntarget_bytes_max = 60\nlisting = true\n");
    hup(&server, ALL_IS_WELL);
    let long = format!("/{}", "x".repeat(70));
    for client in &mut clients {
        assert_eq!(client.get("/a.txt").expect(200).field("x-which"), Some("two"), "on every core");
        assert!(client.get("/deep/").expect(200).text().contains("b.txt"), "what was switched on is on");
        client.get(&long).expect(414);
    }
    // And back again, for those who come now.
    site.write("site.toml", "header = ['/ X-Which: three']\n");
    hup(&server, ALL_IS_WELL);
    let mut client = server.connect();
    assert_eq!(client.get("/a.txt").expect(200).field("x-which"), Some("three"));
    client.get("/deep/").expect(404);
    client.get(&long).expect(404);
    server.stop();
}

#[test]
fn what_is_under_way_ends_as_it_began() {
    let body = noise(64 << 20);
    let site = Site::new().file("old/large.bin", &body).file("new/large.bin", "small").file("old/sub/x", "");
    let site = site.sh(
        "old/cgi-bin/slow",
        "echo Content-Type: text/plain; echo; echo began; while [ ! -e go ]; do sleep 0.02; done; cat ../which",
    );
    site.write("old/which", "old");
    site.write("new/which", "new");
    let server = configured(&site, "path = 'old'\n");
    // A request whose head has begun, a download that is stuck, and a script that waits.
    let (mut begun, mut download, mut script) = (server.connect(), server.connect(), server.connect());
    download.head(&["GET /large.bin HTTP/1.1", "Host: {host}"]);
    assert_eq!(download.read_head().field("content-length"), Some((64 << 20).to_string().as_str()));
    script.head(&["GET /cgi-bin/slow HTTP/1.1", "Host: {host}"]);
    script.read_until(b"began\n");
    begun.send("GET /which HTTP/1.1\r\nHost: a\r\n");
    // The script's site goes, and with it the mount.
    site.write("site.toml", "path = 'new'\nno_cgi = true\ncgi_idle_ms_max = 1\nstall_ms_max = 1\n");
    hup(&server, ALL_IS_WELL);
    assert_eq!(begun.send("\r\n").read().expect(200).text(), "new", "it began to be answered after the reload");
    assert_eq!(server.get("/large.bin").expect(200).text(), "small");
    server.get("/cgi-bin/slow").expect(404);
    assert!(download.read_exact(body.len()) == body, "a download goes on to its end");
    site.write("old/cgi-bin/go", "");
    // Its folder is the old one's, and so is what lies beside it.
    script.read_until(b"old");
    server.stop();
}

#[test]
fn a_broken_file_changes_nothing_and_is_one_line() {
    let site = Site::new().file("a.txt", "a");
    let server = configured(&site, "header = ['/ X-Which: one']\n");
    let mut client = server.connect();
    let not = "the configuration was not reloaded, and is as it was";
    let path = site.at("site.toml").display().to_string();
    let table = [
        ("header = [\n", "not TOML".to_owned()),
        (
            "prot = 1\nzort = 2\n",
            format!("{path}:1:1: unknown key prot; did you mean port?; {path}:2:1: unknown key zort"),
        ),
        ("path = '/nonexistent'\n", "no such file or folder".to_owned()),
        ("idle_ms_max = 'soon'\n", "not a time".to_owned()),
    ];
    for (text, says) in table {
        site.write("site.toml", text);
        let before = server.output().len();
        hup(&server, not);
        let output = server.output()[before..].to_owned();
        assert!(output.contains(&says), "no {says:?} in {output}");
        assert_eq!(count(&output, not), 1, "{output}");
        assert_eq!(output.trim_end().lines().count(), 1, "{output}");
        assert_eq!(client.get("/a.txt").expect(200).field("x-which"), Some("one"));
    }
    fs::remove_file(site.at("site.toml")).expect("it was there");
    hup(&server, not);
    site.write("site.toml", "header = ['/ X-Which: two']\n");
    hup(&server, ALL_IS_WELL);
    assert_eq!(client.get("/a.txt").expect(200).field("x-which"), Some("two"));
    server.stop();
}

#[test]
fn what_needs_a_restart_is_named_and_the_rest_is_applied() {
    let site = Site::new().file("a.txt", "a");
    let server = configured(&site, "header = ['/ X-Which: one']\n");
    site.write(
        "site.toml",
        "bind = '127.0.0.2'\nconnections_max = 7\nengine = 'uring'\nheader = ['/ X-Which: two']\naccess_log = '-'\n",
    );
    hup(&server, "needs a restart (--upgrade): bind, engine, access-log, connections-max");
    assert_eq!(server.get("/a.txt").expect(200).field("x-which"), Some("two"));
    // It is told each time, for as long as it holds.
    hup(&server, "needs a restart (--upgrade): bind, engine, access-log, connections-max");
    server.stop();
}

/// Flags and variables are read again as they were, and win as before; also from another folder than the first one.
#[test]
fn flags_and_variables_still_win() {
    let site = Site::new().file("www/a.txt", "a");
    site.write("site.toml", "path = 'nowhere'\nheader = ['/ X-Which: one']\nlog_level = 'debug'\n");
    let command = std::process::Command::new(Launch::binary());
    let launch = Launch::bare(command, site.root()).current_dir(site.root());
    let launch = launch.args(["www", "--port", "0", "--cores", "1", "--config", "site.toml"]);
    let server = launch.env("UCAFFEINE_LOG_LEVEL", "info").start();
    site.write("site.toml", "path = 'elsewhere'\nheader = ['/ X-Which: two']\nlog_level = 'trace'\n");
    hup(&server, ALL_IS_WELL);
    assert_eq!(server.get("/a.txt").expect(200).field("x-which"), Some("two"));
    server.get("/%00").expect(400);
    assert!(!server.output().contains("refused"), "debug was not asked for: {}", server.output());
    server.stop();
}

/// Descriptors of that kind, by what they lead to.
fn held(server: &Server, what: &str) -> usize {
    let fds = fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("its descriptors");
    fds.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok())
        .filter(|link| link.to_string_lossy().contains(what))
        .count()
}

#[test]
fn a_site_that_is_gone_is_freed_when_its_last_request_ends() {
    let body = noise(64 << 20);
    let site = Site::new().file("old/large.bin", &body).file("old/a.txt", "a").file("new/a.txt", "b");
    let server = configured(&site, "path = 'old'\n");
    let root = site.at("old").display().to_string();
    let mut idle: Vec<Client> = (0..8).map(|_| server.connect()).collect();
    idle.iter_mut().for_each(|client| assert_eq!(client.get("/a.txt").expect(200).text(), "a"));
    assert_eq!((held(&server, "inotify"), held(&server, &root) >= 2), (2, true), "a cache and a root on each core");
    let mut download = server.connect();
    download.head(&["GET /large.bin HTTP/1.1", "Host: {host}"]);
    download.read_head();
    site.write("site.toml", "path = 'new'\n");
    hup(&server, ALL_IS_WELL);
    assert_eq!(server.get("/a.txt").expect(200).text(), "b");
    assert!(held(&server, &root) > 0, "its download is under way");
    assert!(download.read_exact(body.len()) == body);
    // Connections that asked the old site, and are idle now, hold nothing of it.
    wait_until("nothing is held of the old site", || held(&server, &root) == 0);
    wait_until("nothing of it is watched", || held(&server, "inotify") == 2);
    for _ in 0..20 {
        hup(&server, ALL_IS_WELL);
    }
    wait_until("a reload leaves nothing behind", || held(&server, "inotify") == 2);
    idle.iter_mut().for_each(|client| assert_eq!(client.get("/a.txt").expect(200).text(), "b"));
    server.stop();
}

/// A thousand requests on connections that stay, one configuration after the other: none fails, and none has a mixture.
#[test]
fn no_request_is_dropped_under_reloads() {
    let of =
        |version: usize| format!("header = ['/ X-One: {version}', '/ X-Two: {version}']\ncgi_env = ['V={version}']\n");
    let site = Site::new().file("a.txt", "a").sh("cgi-bin/v", "echo Content-Type: text/plain; echo; echo $V");
    let server = configured(&site, &of(0));
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|number| {
                let (server, stop) = (&server, &stop);
                scope.spawn(move || {
                    let mut client = server.connect();
                    let (mut last, mut asked) = (0, 0);
                    loop {
                        // Looked at before the last request, so that this one begins after the last reload.
                        let is_last = stop.load(std::sync::atomic::Ordering::Acquire) && asked >= 50;
                        asked += 1;
                        let seen: usize = if number == 0 {
                            client.get("/cgi-bin/v").expect(200).text().trim().parse().expect("a version")
                        } else {
                            let reply = client.get("/a.txt").expect(200);
                            assert_eq!(reply.field("x-one"), reply.field("x-two"));
                            reply.field("x-one").expect("a version").parse().expect("a number")
                        };
                        assert!(seen >= last, "{seen} after {last}");
                        last = seen;
                        if is_last {
                            return last;
                        }
                    }
                })
            })
            .collect();
        for version in 1..=40 {
            site.write("site.new", of(version));
            fs::rename(site.at("site.new"), site.at("site.toml")).expect("rename");
            hup(&server, ALL_IS_WELL);
        }
        stop.store(true, std::sync::atomic::Ordering::Release);
        for client in clients {
            assert_eq!(client.join().expect("a client"), 40);
        }
    });
    server.stop();
}

/// Scripts are let in by what holds now: more of them, without a restart, also those that wait already.
#[test]
fn places_for_scripts_are_divided_anew() {
    let site = Site::new()
        .sh("cgi-bin/wait", "echo Content-Type: text/plain; echo; echo began; while [ ! -e go ]; do sleep 0.02; done");
    let server = configured(&site, "cgi_running_max = 1\n");
    let ask = || {
        let mut client = server.connect();
        client.head(&["GET /cgi-bin/wait HTTP/1.1", "Host: {host}"]);
        client
    };
    let mut first = ask();
    first.read_until(b"began\n");
    let mut second = ask();
    site.write("site.toml", "cgi_running_max = 2\ncgi_queued_max = 0\n");
    hup(&server, ALL_IS_WELL);
    second.read_until(b"began\n");
    server.get("/cgi-bin/wait").expect(503);
    site.write("cgi-bin/go", "");
    server.stop();
}

#[test]
fn the_verb_returns_when_every_core_serves_by_it() {
    let home = Home::new();
    home.content("a", "index.html", "home");
    let file = home.path().join("a.toml");
    let write = |text: &str| fs::write(&file, text).expect("write");
    write("header = ['/ X-Which: 0']\n");
    let started = ["-D", "-n", "a", "-p", "0", "--cores", "2", "-c", "a.toml"];
    let addr = home.run(started).expect(0).addr();
    let mut clients: Vec<Client> = (0..8).map(|_| Client::connect(addr)).collect();
    for version in 1..10 {
        write(&format!("header = ['/ X-Which: {version}']\n"));
        let said = home.run(["--reload", "-n", "a"]).expect(0).stdout;
        assert_eq!(said, "a has reloaded its configuration\n");
        for client in &mut clients {
            let reply = client.get("/").expect(200);
            assert_eq!(reply.field("x-which"), Some(version.to_string().as_str()), "at once, on every core");
        }
    }
    write("cores = 1\nport = 1\nbind = ['127.0.0.1', '::1']\n");
    let said = home.run(["--reload", "-n", "a"]).expect(0).stdout;
    assert_eq!(
        said, "a has reloaded its configuration\nneeds a restart (--upgrade): bind\n",
        "flags win over the rest"
    );
    write("prot = 1\nhead_bytes_max = 'much'\n");
    let said = home.run(["--reload", "-n", "a"]).expect(3);
    assert!(said.stderr.starts_with("ucaffeine: a.toml:1:1: unknown key prot; did you mean port?\n"), "{said:?}");
    assert!(said.stderr.ends_with("ucaffeine: a was not reloaded, and is as it was\n"), "{said:?}");
    assert_eq!(said.stdout, "");
    let reply = clients[0].get("/").expect(200);
    assert_eq!((reply.field("x-which"), reply.text().as_str()), (None, "home"));
    assert_eq!(home.run(["--reload", "-n", "nobody"]).expect(1).stderr, "ucaffeine: no instance nobody is running\n");
    home.run(["--reload"]).expect(2);
    home.run(["-s", "-n", "a"]).expect(0);
    assert_eq!(home.left_running(), Vec::<String>::new());
}

/// A deploy after a reload has the new configuration, and a reload after a deploy the new content; another folder and back.
#[test]
fn reloads_and_deploys_go_together() {
    let home = Home::new();
    home.content("a", "index.html", "first");
    let file = home.path().join("a.toml");
    fs::write(&file, "# nothing\n").expect("write");
    let addr = home.run(["-D", "-n", "a", "-p", "0", "-c", "a.toml"]).expect(0).addr();
    fs::write(&file, "header = ['/ X-Which: two']\n").expect("write");
    home.run(["--reload", "-n", "a"]).expect(0);
    let page = home.path().join("index.html");
    fs::write(&page, "second").expect("write");
    home.run(["-d", "index.html", "-n", "a"]).expect(0);
    let mut client = Client::connect(addr);
    let seen = |client: &mut Client| {
        let reply = client.get("/").expect(200);
        (reply.text(), reply.field("x-which").map(str::to_owned))
    };
    assert_eq!(seen(&mut client), ("second".into(), Some("two".into())));
    fs::write(&file, "header = ['/ X-Which: three']\n").expect("write");
    home.run(["--reload", "-n", "a"]).expect(0);
    assert_eq!(seen(&mut client), ("second".into(), Some("three".into())));
    let other = home.path().join("other");
    fs::create_dir(&other).expect("mkdir");
    fs::write(other.join("index.html"), "other").expect("write");
    fs::write(&file, "path = 'other'\n").expect("write");
    home.run(["--reload", "-n", "a"]).expect(0);
    assert_eq!(seen(&mut client), ("other".into(), None));
    assert!(home.run(["-d", "index.html", "-n", "a"]).expect(1).stderr.contains("which it was given"));
    fs::write(&file, "# nothing\n").expect("write");
    home.run(["--reload", "-n", "a"]).expect(0);
    assert_eq!(seen(&mut client), ("second".into(), None));
    home.run(["--rollback", "-n", "a"]).expect(0);
    assert_eq!(seen(&mut client), ("first".into(), None));
    home.run(["-s", "-n", "a"]).expect(0);
}

/// Hosts come and go, and so do their passwords.
#[test]
fn hosts_come_and_go() {
    let site = Site::new().file("top/a.txt", "top").file("one/a.txt", "one").file("two/a.txt", "two");
    let server = configured(&site, "path = 'top'\n[[host]]\nnames = 'one.test'\npath = 'one'\n");
    let mut client = server.connect();
    let mut seen = |host: &str| {
        let reply = client.head(&["GET /a.txt HTTP/1.1", &format!("Host: {host}")]).read();
        if reply.status == 200 { reply.text() } else { reply.status.to_string() }
    };
    assert_eq!(["one.test", "two.test"].map(&mut seen), ["one", "top"]);
    let users = site.write("users", "ada:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n");
    let guarded = format!(
        "path = 'top'\n[[host]]\nnames = 'two.test'\npath = 'two'\n[host.auth]\nhtpasswd = '{}'\n",
        users.display()
    );
    site.write("site.toml", guarded);
    hup(&server, ALL_IS_WELL);
    assert_eq!(["one.test", "two.test"].map(&mut seen), ["top", "401"]);
    let one = site.at("one").display().to_string();
    wait_until("nothing is held of the one that went", || held(&server, &one) == 0);
    site.write("site.toml", "path = 'top'\n[[host]]\nnames = 'two.test'\npath = 'nowhere'\n");
    hup(&server, "was not reloaded");
    assert_eq!(["one.test", "two.test"].map(&mut seen), ["top", "401"]);
    site.write("site.toml", "path = 'top'\n[[host]]\nnames = '*.test'\npath = 'two'\n");
    hup(&server, ALL_IS_WELL);
    assert_eq!(["one.test", "two.test"].map(&mut seen), ["two", "two"]);
    server.stop();
}
