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
