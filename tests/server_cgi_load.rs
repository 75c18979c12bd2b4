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

#[test]
fn a_slow_mount_does_not_starve_another() {
    let wait = format!(": >started-$QUERY_STRING; {WAIT_FOR_GO}; printf 'Content-Type: text/plain\\n\\ndone'");
    let site =
        Site::new().sh("slow/wait.sh", &wait).sh("cgi-bin/quick.sh", "printf 'Content-Type: text/plain\\n\\nquick'");
    let mount = format!("/slow={}", site.at("slow").display());
    // By default a place is kept for the other mount; and a cap of the slow one's own does it as well.
    for args in [
        &["--cgi-running-max", "4", "--cgi-queued-max", "4"][..],
        &["--cgi-running-max", "8", "--cgi-mount-running-max", "/slow=3", "--cgi-mount-queued-max", "/slow=3"],
    ] {
        let server = Server::start(&site, ["--cgi", &mount].into_iter().chain(args.iter().copied()));
        let mut slow: Vec<_> = (0..6)
            .map(|number| {
                let mut client = server.connect();
                client.head(&[&format!("GET /slow/wait.sh?{number} HTTP/1.1"), "Host: {host}"]);
                client
            })
            .collect();
        let started = || (0..9).filter(|number| site.at(&format!("slow/started-{number}")).exists()).count();
        wait_until("as many as may run do", || started() == 3);
        // Three run and three wait: the next is too many, of this mount.
        wait_until("the queue is full", || server.get("/slow/wait.sh?7").status == 503);
        for _ in 0..20 {
            assert_eq!(server.get("/cgi-bin/quick.sh").expect(200).text(), "quick", "{args:?}");
        }
        assert_eq!(started(), 3, "{args:?}");
        site.write("slow/go", "");
        for client in &mut slow {
            assert_eq!(client.read().expect(200).text(), "done");
        }
        server.stop();
        std::fs::remove_file(site.at("slow/go")).expect("rm");
        (0..9).for_each(|number| drop(std::fs::remove_file(site.at(&format!("slow/started-{number}")))));
    }
}

/// A client at ten kilobytes a second, and a script that writes a gibibyte: neither the server nor the pipe may hold more
/// than their buffers.
#[test]
fn a_slow_client_holds_back_its_script() {
    let site = Site::new().sh(
        "cgi-bin/much.sh",
        "printf 'Content-Type: application/octet-stream\\n\\n'; exec head -c 1073741824 /dev/zero",
    );
    let server = Server::start(&site, ["--cores", "1", "--cgi-term-to-kill-ms", "300"]);
    let mut warm = server.connect();
    warm.head(&["GET /cgi-bin/much.sh HTTP/1.1", "Host: {host}"]).read_head().expect(200);
    warm.read_exact(8 << 20);
    drop(warm);
    wait_until("the first is gone", || server.scripts().is_empty());
    let before = server.resident_bytes();
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let mut client = server.connect();
            client.head(&["GET /cgi-bin/much.sh HTTP/1.1", "Host: {host}"]).read_head().expect(200);
            client
        })
        .collect();
    let mut most = 0;
    for _ in 0..20 {
        for client in &clients {
            // 1,000 bytes each tenth of a second.
            let mut some = [0; 1000];
            let _ = std::io::Read::read(&mut client.socket(), &mut some).expect("some of it");
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
        most = most.max(server.resident_bytes());
    }
    assert!(most < before + (8 << 20), "from {before} to {most} bytes for four slow clients");
    assert_eq!(server.scripts().len(), 4, "all four still write");
    drop(clients);
    wait_until("the scripts are ended", || server.scripts().is_empty());
    server.stop();
}

/// A worker thread of the kernel's for a script would cost more than the script's own start.
#[test]
fn scripts_make_no_worker_threads() {
    let site = Site::new()
        .sh("cgi-bin/hello.sh", "printf 'Content-Type: text/plain\\n\\nhello'")
        .sh("cgi-bin/echo.sh", "printf 'Content-Type: text/plain\\n\\n'; exec cat")
        .sh("cgi-bin/stderr.sh", "echo complaint >&2; printf 'Content-Type: text/plain\\n\\n'");
    let server = serve(&site);
    let mut client = server.connect();
    for _ in 0..50 {
        client.get("/cgi-bin/hello.sh").expect(200);
        client.get("/cgi-bin/stderr.sh").expect(200);
        let body = vec![b'x'; 100_000];
        assert!(client.post("/cgi-bin/echo.sh", "text/plain", &body[..1000]).expect(200).body == body[..1000]);
        client.head(&["POST /cgi-bin/echo.sh HTTP/1.1", "Host: {host}", "Transfer-Encoding: chunked"]);
        client.send("5\r\nhello\r\n0\r\n\r\n").read().expect(200);
        let workers: Vec<String> = server.threads().into_iter().filter(|name| name.starts_with("iou-wrk")).collect();
        assert!(workers.is_empty(), "{workers:?}");
    }
    server.stop();
}

/// Whoever reads the server's own log may be slow, or gone to lunch: no core may wait for that.
#[test]
fn a_log_that_nobody_reads_holds_up_nobody() {
    let site = Site::new()
        .sh("cgi-bin/loud.sh", "yes complaint | head -c 200000 >&2; printf 'Content-Type: text/plain\\n\\nsaid'")
        .file("a.txt", "alpha");
    let (unread, stderr) = std::io::pipe().expect("a pipe");
    let mut command = std::process::Command::new(support::Launch::binary());
    command.arg(site.root()).args(["--port", "0", "--cores", "1"]).stdout(std::process::Stdio::piped()).stderr(stderr);
    let mut server = {
        let _quiet = support::no_forks();
        command.spawn().expect("the server")
    };
    drop(command);
    let mut said = std::io::BufReader::new(server.stdout.take().expect("piped"));
    let mut line = String::new();
    std::io::BufRead::read_line(&mut said, &mut line).expect("a line");
    let addr = line.trim().strip_prefix("listening http://").and_then(|url| url.strip_suffix('/')).expect("an address");
    let addr = addr.parse().expect("an address");
    for _ in 0..10 {
        assert_eq!(support::Client::connect(addr).get("/cgi-bin/loud.sh").expect(200).text(), "said");
        assert_eq!(support::Client::connect(addr).get("/a.txt").expect(200).text(), "alpha");
    }
    let pid = rustix::process::Pid::from_raw(i32::try_from(server.id()).expect("a pid")).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("kill");
    let mut ended = None;
    wait_until("it stops all the same", || {
        ended = server.try_wait().expect("wait");
        ended.is_some()
    });
    assert!(ended.is_some_and(|status| status.success()));
    drop(unread);
}
