//! CGI over real sockets and real processes: many scripts, slow ones and slow clients.

mod support;

use std::sync::mpsc;
use support::{Server, Site, children, wait_until};

/// Runs until a file named `go` appears beside the script.
const WAIT_FOR_GO: &str = "while [ ! -e go ]; do sleep 0.02; done";

fn serve(site: &Site) -> Server {
    Server::start(site, [])
}

#[test]
fn beyond_the_running_and_the_queued_is_503() {
    let site = Site::new().sh(
        "cgi-bin/wait.sh",
        &format!(": >started-$QUERY_STRING; {WAIT_FOR_GO}; printf 'Content-Type: text/plain\\n\\ndone'"),
    );
    let server = Server::start(&site, ["--cores", "1", "--cgi-running-max", "1", "--cgi-queued-max", "1"]);
    let (tell, hear) = mpsc::channel();
    let ask = |name: &'static str| {
        let (mut client, tell) = (server.connect(), tell.clone());
        std::thread::spawn(move || drop(tell.send(client.get(&format!("/cgi-bin/wait.sh?{name}")))))
    };
    let mut threads = vec![ask("a")];
    wait_until("the first script runs", || site.at("cgi-bin/started-a").exists());
    threads.extend([ask("b"), ask("c")]);
    let refused = hear.recv_timeout(support::HANG).expect("one of three is refused at once").expect(503);
    assert!(refused.must("retry-after").parse::<u32>().is_ok_and(|seconds| seconds > 0));
    assert!(!(site.at("cgi-bin/started-b").exists() || site.at("cgi-bin/started-c").exists()), "one at a time");
    site.write("cgi-bin/go", "");
    for _ in 0..2 {
        assert_eq!(hear.recv_timeout(support::HANG).expect("the other two are served").expect(200).text(), "done");
    }
    for thread in threads {
        thread.join().expect("a client");
    }
    server.stop();
}

#[test]
fn waiting_in_the_queue_has_an_end() {
    let site = Site::new()
        .sh("cgi-bin/wait.sh", &format!(": >started; {WAIT_FOR_GO}; printf 'Content-Type: text/plain\\n\\ndone'"));
    let server = Server::start(&site, ["--cores", "1", "--cgi-running-max", "1", "--cgi-queue-ms-max", "200"]);
    let mut first = server.connect();
    first.head(&["GET /cgi-bin/wait.sh HTTP/1.1", "Host: {host}"]);
    wait_until("the first script runs", || site.at("cgi-bin/started").exists());
    server.get("/cgi-bin/wait.sh").expect(503).must("retry-after");
    site.write("cgi-bin/go", "");
    first.read().expect(200);
    server.stop();
}

#[test]
fn a_thousand_scripts_leave_nothing() {
    let site = Site::new().sh("cgi-bin/ok.sh", "echo Content-Type: text/plain; echo; echo $QUERY_STRING");
    let server = serve(&site);
    server.get("/cgi-bin/ok.sh?0").expect(200);
    let fds = server.fds();
    let clients = (0..8).map(|i| {
        let mut client = server.connect();
        std::thread::spawn(move || {
            for j in 0..125 {
                let target = format!("/cgi-bin/ok.sh?{i}-{j}");
                assert_eq!(client.get(&target).expect(200).text(), format!("{i}-{j}\n"));
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.join().expect("a client");
    }
    wait_until("no child is left", || children(server.pid()).is_empty());
    wait_until("no descriptor is left", || server.fds() <= fds);
    server.stop();
}
