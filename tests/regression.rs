//! Faults that were found and fixed, each by the name of what must not happen again.

mod support;

use rustix::net::sockopt;
use rustix::process::Signal;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use support::{Server, Site, noise, wait_until};

/// Says that it has begun, and goes on until a file named `go` appears beside it.
const WAIT: &str =
    "printf 'Content-Type: text/plain\\n\\n'; echo begun; while [ ! -e go ]; do sleep 0.02; done; echo ended";

/// The read at the end of a pipe completes with a buffer of the pool, though without data. That buffer was not put back:
/// three a script, and the 86th hung on an empty pool.
#[test]
fn a_buffer_that_comes_with_the_end_of_a_pipe_goes_back() {
    let site = Site::new().sh("cgi-bin/hello.sh", "printf 'Content-Type: text/plain\\n\\nhello'");
    let server = Server::start(&site, ["--cores", "1"]);
    let mut client = server.connect();
    for _ in 0..300 {
        assert_eq!(client.get("/cgi-bin/hello.sh").expect(200).text(), "hello");
    }
    drop(client);
    server.stop();
}

/// The core that had nothing left to do told all the others that the time was over.
#[test]
fn a_core_that_has_drained_does_not_cut_the_others() {
    let site = Site::new().sh("cgi-bin/wait.sh", WAIT);
    let server = Server::start(&site, ["--cores", "2"]);
    let mut client = server.connect();
    client.head(&["GET /cgi-bin/wait.sh HTTP/1.1", "Host: {host}"]);
    client.read_until(b"begun");
    server.signal(Signal::TERM);
    wait_until("one core has stopped", || cores(&server) == 1);
    site.write("cgi-bin/go", "");
    client.read_until(b"ended");
    client.read_until(b"\r\n0\r\n\r\n");
    client.expect_close();
    assert_eq!(server.wait().code, Some(0));
}

fn cores(server: &Server) -> usize {
    server.threads().iter().filter(|name| name.starts_with("core-")).count()
}

/// At a drain the backlog was emptied for as long as somebody came within the moment that it is given. Clients that keep
/// coming kept the listener open.
#[test]
fn connections_during_a_drain_do_not_prolong_it() {
    let content = noise(64 << 20);
    let site = Site::new().file("big.bin", &content);
    let server = Server::start(&site, ["--cores", "1"]);
    let mut download = server.connect();
    download.head(&["GET /big.bin HTTP/1.1", "Host: {host}"]);
    download.read_head().expect(200);
    let stop = Arc::new(AtomicBool::new(false));
    let (tell, refused) = mpsc::channel();
    let clients: Vec<_> = (0..KNOCKERS)
        .map(|_| {
            let (stop, tell, addr) = (Arc::clone(&stop), tell.clone(), server.addr);
            std::thread::spawn(move || knock(addr, &stop, &tell))
        })
        .collect();
    server.signal(Signal::TERM);
    let all_refused = clients.iter().all(|_| refused.recv_timeout(REFUSED_SOON).is_ok());
    stop.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| client.join().expect("a client"));
    assert!(all_refused, "connections are still taken {REFUSED_SOON:?} after the signal");
    assert!(download.read_exact(content.len()) == content, "the download goes on to its end");
    download.expect_close();
    assert_eq!(server.wait().code, Some(0));
}

/// Far more than the 20 ms that the backlog is given, and far less than the 30 s of the drain.
const REFUSED_SOON: Duration = Duration::from_secs(10);
/// Enough that 20 ms never pass without a connection.
const KNOCKERS: usize = 8;

/// Connects again and again until the port refuses, and tells.
fn knock(addr: SocketAddr, stop: &AtomicBool, refused: &mpsc::Sender<()>) {
    while !stop.load(Ordering::Relaxed) {
        match TcpStream::connect(addr) {
            // A reset leaves no TIME_WAIT: the ports would run out before the test's patience.
            Ok(connection) => sockopt::set_socket_linger(connection, Some(Duration::ZERO)).expect("SO_LINGER"),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                // Nobody listens any more once the test has failed.
                let _ = refused.send(());
                return;
            }
            Err(_) => {}
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The end of a client's input is reported along with the events of a hangup. It was taken for one, and the script was
/// killed under a client that was reading.
#[test]
fn a_half_closed_client_of_a_script_is_not_gone() {
    let site = Site::new().sh("cgi-bin/wait.sh", WAIT);
    let server = Server::start(&site, []);
    let mut client = server.connect();
    client.head(&["GET /cgi-bin/wait.sh HTTP/1.1", "Host: {host}"]);
    client.read_until(b"begun");
    client.finish();
    // Time for the server to hear of it, and to do the wrong thing.
    std::thread::sleep(Duration::from_millis(500));
    assert!(!server.scripts().is_empty(), "the script is alive");
    site.write("cgi-bin/go", "");
    client.read_until(b"ended");
    client.read_until(b"\r\n0\r\n\r\n");
    client.expect_close();
    server.stop();
}

/// A request that a script redirects to another path of the server got two lines: its own and that path's.
#[test]
fn the_access_log_has_one_line_for_each_request() {
    let site = Site::new()
        .file("index.html", "home")
        .sh("cgi-bin/hello.sh", "printf 'Content-Type: text/plain\\n\\nhello'")
        .sh("cgi-bin/moved.sh", "printf 'Location: /index.html\\n\\n'");
    let log = site.at("access.log");
    let path = log.to_str().expect("a temporary path is UTF-8").to_owned();
    let server = Server::start(&site, ["--access-log", &path]);
    let mut client = server.connect();
    client.get("/").expect(200);
    client.get("/none").expect(404);
    client.get("/cgi-bin/hello.sh").expect(200);
    assert_eq!(client.get("/cgi-bin/moved.sh").expect(200).text(), "home");
    server.connect().send("nonsense\r\n\r\n").read().expect(400);
    drop(client);
    // The last lines are written before the server ends.
    server.stop();
    let written = std::fs::read_to_string(log).expect("the log");
    let mut seen: Vec<(&str, &str)> = (written.lines())
        .map(|line| {
            let mut quoted = line.split('"');
            let (_, request, after) = (quoted.next(), quoted.next().expect("a request"), quoted.next());
            (request, after.and_then(|after| after.split_whitespace().next()).expect("a status"))
        })
        .collect();
    seen.sort_unstable();
    let expected = [
        ("-", "400"),
        ("GET / HTTP/1.1", "200"),
        ("GET /cgi-bin/hello.sh HTTP/1.1", "200"),
        ("GET /cgi-bin/moved.sh HTTP/1.1", "200"),
        ("GET /none HTTP/1.1", "404"),
    ];
    assert_eq!(seen, expected, "{written}");
}
