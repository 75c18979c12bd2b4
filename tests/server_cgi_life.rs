//! CGI over real sockets and real processes: when a script ends, and that nothing of it is left.

mod support;

use support::{Server, Site, wait_until};

fn serve(site: &Site) -> Server {
    Server::start(site, [])
}

#[test]
fn a_script_that_says_nothing_is_504() {
    let site = Site::new()
        .sh("cgi-bin/late.sh", "sleep 1000")
        .sh("cgi-bin/pauses.sh", "printf 'Content-Type: text/plain\\n\\nbegun'; sleep 1000")
        .file("a.txt", "alpha");
    let server = Server::start(&site, ["--cgi-first-byte-ms-max", "1000", "--cgi-idle-ms-max", "1000"]);
    server.get("/cgi-bin/late.sh").expect(504);
    let mut client = server.connect();
    client.head(&["GET /cgi-bin/pauses.sh HTTP/1.1", "Host: {host}"]);
    let cut = client.read_cut("GET").expect(200);
    assert!(!cut.complete && cut.text() == "begun", "{cut:?}");
    wait_until("both scripts are ended", || server.scripts().is_empty());
    server.get("/a.txt").expect(200);
    server.stop();
}

#[test]
fn when_the_client_leaves_the_whole_group_goes() {
    let head = "printf 'Content-Type: text/plain\\n\\nhello\\n'";
    let site = Site::new()
        .sh("cgi-bin/silent.sh", &format!("{head}; sleep 1000 & sleep 1000"))
        .sh("cgi-bin/chatty.sh", &format!("{head}; sleep 1000 & yes"))
        .sh("cgi-bin/stubborn.sh", &format!("trap '' TERM; {head}; sleep 1000 & while :; do sleep 1; done"))
        .sh("cgi-bin/escapes.sh", &format!("setsid sleep 1000 & {head}; sleep 1000"));
    for script in ["silent.sh", "chatty.sh", "stubborn.sh", "escapes.sh"] {
        if script == "escapes.sh" && !support::skip_or_fail("setsid") {
            continue;
        }
        let server = Server::start(&site, ["--cgi-term-to-kill-ms", "300"]);
        let mut client = server.connect();
        client.head(&[&format!("GET /cgi-bin/{script} HTTP/1.1"), "Host: {host}"]);
        client.read_until(b"hello");
        wait_until("the script and its child run", || server.scripts().len() >= 2);
        client.reset();
        wait_until(&format!("nothing of {script} is left"), || server.scripts().is_empty());
        server.stop();
    }
}

#[test]
fn a_half_closed_client_gets_the_whole_answer() {
    let site = Site::new().sh(
        "cgi-bin/slow.sh",
        "printf 'Content-Type: text/plain\\n\\n'; for i in 1 2 3 4; do sleep 0.1; echo $i; done",
    );
    let server = serve(&site);
    let mut client = server.connect();
    client.head(&["GET /cgi-bin/slow.sh HTTP/1.1", "Host: {host}"]).finish();
    assert_eq!(client.read().expect(200).text(), "1\n2\n3\n4\n");
    client.expect_close();
    server.stop();
}

#[test]
fn a_grandchild_that_holds_stdout_does_not_hold_the_response() {
    let site = Site::new()
        .sh("cgi-bin/holds.sh", "printf 'Content-Type: text/plain\\n\\nanswer'; sleep 1000 & exit 0")
        .sh("cgi-bin/detaches.sh", "printf 'Content-Type: text/plain\\n\\nanswer'; sleep 5 >/dev/null 2>&1 & exit 0");
    let server = Server::start(&site, ["--cgi-held-stdout-ms-max", "300"]);
    let mut client = server.connect();
    assert_eq!(client.get("/cgi-bin/holds.sh").expect(200).text(), "answer");
    wait_until("the grandchild that held stdout is ended", || server.scripts().is_empty());
    // One that closed its outputs may live on after the answer.
    assert_eq!(client.get("/cgi-bin/detaches.sh").expect(200).text(), "answer");
    assert!(!server.scripts().is_empty(), "it was not killed");
    server.stop();
}

const HEAD: &str = "printf 'Content-Type: text/plain\\n\\n'";

#[test]
fn whatever_a_script_does_it_ends_with_the_right_answer() {
    // A script, its answer (`None`: cut), and whether a child of it may live on.
    let cases: [(&str, String, Option<&str>, bool); 10] = [
        ("stderr.sh", format!("yes complaint | head -c 1048576 >&2; {HEAD}; echo done"), Some("done\n"), false),
        ("stdin.sh", format!("exec 0<&-; {HEAD}; echo done"), Some("done\n"), false),
        ("stdout.sh", format!("{HEAD}; echo done; exec >&- 2>&-; sleep 0.3"), Some("done\n"), false),
        ("grandchild.sh", format!("{HEAD}; echo done; sleep 1000 & exit 0"), Some("done\n"), false),
        ("stderr-held.sh", format!("{HEAD}; echo done; sleep 1000 >/dev/null & exit 0"), Some("done\n"), false),
        ("session.sh", format!("{HEAD}; echo done; setsid sleep 1000 & exit 0"), Some("done\n"), false),
        ("errors.sh", format!("{HEAD}; echo done; setsid sleep 1000 >/dev/null & exit 0"), Some("done\n"), false),
        ("daemon.sh", format!("{HEAD}; echo done; setsid sleep 5 >/dev/null 2>&1 & exit 0"), Some("done\n"), true),
        ("ignores.sh", format!("trap '' TERM; {HEAD}; echo half; while :; do sleep 0.1; done"), None, false),
        (
            "double.sh",
            format!("(setsid sh -c 'trap \"\" TERM; while :; do sleep 0.1; done' &); {HEAD}; echo half; sleep 1000"),
            None,
            false,
        ),
    ];
    if !support::skip_or_fail("setsid") {
        return;
    }
    let site = cases.iter().fold(Site::new(), |site, (name, body, ..)| site.sh(&format!("cgi-bin/{name}"), body));
    let times = ["--cgi-held-stdout-ms-max", "300", "--cgi-term-to-kill-ms", "300", "--cgi-idle-ms-max", "500"];
    for (name, _, answer, lingers) in &cases {
        let server = Server::start(&site, times);
        let mut client = server.connect();
        client.head(&[&format!("GET /cgi-bin/{name} HTTP/1.1"), "Host: {host}"]);
        let response = client.read_cut("GET").expect(200);
        let expected = answer.unwrap_or("half\n");
        assert_eq!((response.text().as_str(), response.complete), (expected, answer.is_some()), "{name}");
        if *lingers {
            assert!(!server.scripts().is_empty(), "{name}: what has let go of its outputs may finish");
        }
        wait_until(&format!("nothing of {name} is left"), || server.scripts().is_empty());
        server.stop();
    }
}

#[test]
fn every_limit_of_time_ends_a_script() {
    let site = Site::new()
        .sh("cgi-bin/late.sh", "sleep 1000")
        .sh("cgi-bin/idle.sh", &format!("{HEAD}; echo begun; sleep 1000"))
        .sh("cgi-bin/busy.sh", &format!("{HEAD}; while :; do echo begun; sleep 0.05; done"))
        .sh("cgi-bin/head.sh", "while :; do echo X-A: b; sleep 0.05; done");
    let cases = [
        ("late.sh", "--cgi-first-byte-ms-max", Some(504), "cgi-first-byte-ms-max"),
        ("idle.sh", "--cgi-idle-ms-max", None, "cgi-idle-ms-max"),
        ("busy.sh", "--cgi-total-ms-max", None, "cgi-total-ms-max"),
        ("head.sh", "--cgi-total-ms-max", Some(504), "cgi-total-ms-max"),
    ];
    for (script, flag, status, says) in cases {
        let server = Server::start(&site, [flag, "400", "--cgi-term-to-kill-ms", "300"]);
        let mut client = server.connect();
        client.head(&[&format!("GET /cgi-bin/{script} HTTP/1.1"), "Host: {host}"]);
        match status {
            Some(status) => drop(client.read().expect(status)),
            None => {
                let cut = client.read_cut("GET").expect(200);
                assert!(!cut.complete && cut.text().starts_with("begun"), "{script}: {cut:?}");
            }
        }
        wait_until("it is ended", || server.scripts().is_empty());
        let said = server.stop();
        assert!(said.lines().any(|line| line.contains(says) && line.contains("pid=")), "{script}: {said}");
    }
}

#[test]
fn a_client_that_is_gone_ends_its_script_wherever_it_stands() {
    let site = Site::new()
        .sh("cgi-bin/silent.sh", ": >started; sleep 1000")
        .sh("cgi-bin/reads.sh", ": >started; cat >/dev/null; sleep 1000")
        .sh("cgi-bin/half.sh", &format!("{HEAD}; : >started; echo begun; sleep 1000"))
        .sh("cgi-bin/endless.sh", &format!("{HEAD}; : >started; yes"));
    let server = Server::start(&site, ["--cgi-term-to-kill-ms", "300", "--cgi-no-reader-ms-max", "300"]);
    for (script, body) in [("silent.sh", 0), ("reads.sh", 100), ("half.sh", 0), ("endless.sh", 0)] {
        for leaves in ["resets", "finishes", "closes"] {
            let _ = std::fs::remove_file(site.at("cgi-bin/started"));
            let mut client = server.connect();
            let length = format!("Content-Length: {body}");
            client.head(&[&format!("POST /cgi-bin/{script} HTTP/1.1"), "Host: {host}", &length]);
            client.send(vec![b'x'; body]);
            wait_until("the script runs", || site.at("cgi-bin/started").exists());
            let kept = match leaves {
                "resets" => {
                    client.reset();
                    None
                }
                "closes" => {
                    drop(client);
                    None
                }
                // A half-close is legal: whoever takes what comes is served.
                _ if script == "endless.sh" => {
                    drop(client);
                    None
                }
                _ => {
                    client.finish();
                    Some(client)
                }
            };
            wait_until(&format!("{script} is ended when its client {leaves}"), || server.scripts().is_empty());
            drop(kept);
        }
    }
    server.stop();
}

#[test]
fn at_the_end_of_a_drain_everything_goes() {
    if !support::skip_or_fail("setsid") {
        return;
    }
    let stubborn = "trap '' TERM; while :; do sleep 0.1; done";
    let site = Site::new().sh("cgi-bin/group.sh", &format!("{HEAD}; echo begun; {stubborn}")).sh(
        "cgi-bin/escapes.sh",
        &format!("setsid sh -c \"{stubborn}\" >/dev/null 2>&1 & {HEAD}; echo begun; sleep 1000"),
    );
    for script in ["group.sh", "escapes.sh"] {
        let server = Server::start(&site, ["--drain-ms-max", "300", "--cgi-term-to-kill-ms", "1500"]);
        let mut client = server.connect();
        client.head(&[&format!("GET /cgi-bin/{script} HTTP/1.1"), "Host: {host}"]);
        client.read_until(b"begun");
        wait_until("it runs", || server.scripts().len() >= 2);
        // It looks for scripts that are left when the server has ended.
        server.stop_in_flight();
        assert!(support::processes_in(site.root()).is_empty(), "{script}: nothing outlives the server");
    }
}

#[test]
fn what_lingers_is_kept_or_killed() {
    let linger = format!("{HEAD}; echo done; exec >&- 2>&-; : >lingers; sleep 1000");
    let leaves = format!("{HEAD}; echo done; sleep 1000 >/dev/null 2>&1 & exit 0");
    let session = format!("{HEAD}; echo done; setsid sleep 1000 >/dev/null 2>&1 & exit 0");
    let site =
        Site::new().sh("cgi-bin/self.sh", &linger).sh("cgi-bin/child.sh", &leaves).sh("cgi-bin/session.sh", &session);
    for script in ["self.sh", "child.sh", "session.sh"] {
        if script == "session.sh" && !support::skip_or_fail("setsid") {
            continue;
        }
        let server = Server::start(&site, ["--cgi-linger", "kill", "--cgi-term-to-kill-ms", "300"]);
        assert_eq!(server.get(&format!("/cgi-bin/{script}")).expect(200).text(), "done\n");
        wait_until(&format!("{script} is ended"), || server.scripts().is_empty());
        server.stop();
    }
    let server =
        Server::start(&site, ["--cgi-linger", "keep", "--drain-ms-max", "200", "--cgi-term-to-kill-ms", "300"]);
    assert_eq!(server.get("/cgi-bin/self.sh").expect(200).text(), "done\n");
    wait_until("it lives on", || site.at("cgi-bin/lingers").exists() && !server.scripts().is_empty());
    server.stop_in_flight();
}

#[test]
fn a_script_is_asked_before_it_is_killed() {
    let asks = format!("trap ': >cleaned; exit' TERM; {HEAD}; echo begun; while :; do sleep 0.05; done");
    let site = Site::new().sh("cgi-bin/asks.sh", &asks).sh("cgi-bin/next.sh", &format!("{HEAD}; echo next"));
    let server = Server::start(&site, ["--cgi-term-to-kill-ms", "50s", "--cgi-running-max", "1"]);
    let mut client = server.connect();
    client.head(&["GET /cgi-bin/asks.sh HTTP/1.1", "Host: {host}"]).read_until(b"begun");
    client.reset();
    wait_until("it has cleaned up after itself", || site.at("cgi-bin/cleaned").exists());
    wait_until("it is gone", || server.scripts().is_empty());
    // Its place is free then, and not when the time is over that it could have taken: the queue waits for ten seconds.
    assert_eq!(server.get("/cgi-bin/next.sh").expect(200).text(), "next\n");
    server.stop();
}
