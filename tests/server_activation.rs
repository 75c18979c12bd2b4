//! Under a service manager: the tests are the manager, with real sockets (sd_listen_fds(3), sd_notify(3)).

mod support;
mod tcp_queues;

use rustix::process::{Pid, Signal, kill_process};
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use support::{Client, HANG, Launch, Site, no_forks, wait_until};

/// What a manager hears.
struct Ear(UnixDatagram);

impl Ear {
    fn at(path: &Path) -> Ear {
        Ear::of(UnixDatagram::bind(path).expect("bind"))
    }

    fn of(socket: UnixDatagram) -> Ear {
        socket.set_read_timeout(Some(HANG)).expect("a timeout");
        Ear(socket)
    }

    #[track_caller]
    fn next(&self) -> String {
        let mut message = [0; 4096];
        let count = self.0.recv(&mut message).expect("the server says something");
        String::from_utf8_lossy(&message[..count]).into_owned()
    }

    /// The next one, which is not about being alive.
    #[track_caller]
    fn word(&self) -> String {
        std::iter::repeat_with(|| self.next()).find(|word| word != "WATCHDOG=1").expect("endless")
    }
}

/// A server that was given two sockets, as descriptors 3 and 4. It and whatever took its place are killed on drop.
struct Managed {
    child: Child,
    output: Arc<Mutex<String>>,
    reader: Option<std::thread::JoinHandle<()>>,
    /// Of those that took its place.
    others: Vec<i32>,
}

impl Managed {
    /// `variables` may name `$$`, the number of the process.
    fn start(site: &Site, sockets: [OwnedFd; 2], variables: &str, arguments: &[&str]) -> Managed {
        let script = format!("exec 3<&0 4>&1 </dev/null >&2; export {variables}; exec \"$0\" \"$@\"");
        let [third, fourth] = sockets;
        let mut command = Command::new("sh");
        command.args(["-c", &script]).arg(Launch::binary()).arg(site.root()).args(["--cores", "2"]).args(arguments);
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.stdin(third).stdout(fourth).stderr(Stdio::piped());
        let mut child = {
            let _quiet = no_forks();
            command.spawn().expect("a shell")
        };
        // The manager has its own; these are the server's.
        drop(command);
        let output = Arc::new(Mutex::new(String::new()));
        let (mut from, into) = (child.stderr.take().expect("stderr"), Arc::clone(&output));
        let reader = std::thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut part) {
                into.lock().expect("output").push_str(&String::from_utf8_lossy(&part[..count]));
            }
        });
        Managed { child, output, reader: Some(reader), others: Vec::new() }
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid")
    }

    fn signal(&self, pid: i32, signal: Signal) {
        kill_process(Pid::from_raw(pid).expect("a pid"), signal).expect("kill");
    }

    /// Its exit code, and all that it said. To be called when nobody else has its output.
    fn ended(&mut self) -> (Option<i32>, String) {
        wait_until("it ends", || self.child.try_wait().expect("wait").is_some());
        let status = self.child.wait().expect("wait");
        self.reader.take().into_iter().for_each(|reader| reader.join().expect("a reader"));
        (status.code(), self.output.lock().expect("output").clone())
    }
}

impl Drop for Managed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for &pid in self.others.iter().filter(|&&pid| runs(pid)) {
            let _ = Pid::from_raw(pid).map(|pid| kill_process(pid, Signal::KILL));
        }
        if std::thread::panicking() {
            println!("the server said:\n{}", self.output.lock().expect("output"));
        }
    }
}

fn runs(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// The manager's sockets: it keeps them.
struct Sockets {
    tcp: TcpListener,
    unix: UnixListener,
    addr: SocketAddr,
}

impl Sockets {
    fn new(site: &Site) -> Sockets {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = tcp.local_addr().expect("an address");
        Sockets { tcp, unix: UnixListener::bind(site.at("served.sock")).expect("a socket"), addr }
    }

    fn pass(&self) -> [OwnedFd; 2] {
        [self.tcp.try_clone().expect("a descriptor").into(), self.unix.try_clone().expect("a descriptor").into()]
    }
}

const PASSED: &str = "LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=web:local";

#[test]
fn sockets_that_are_passed_are_what_is_served() {
    let site = Site::new().file("index.html", "home");
    let (sockets, ear) = (Sockets::new(&site), Ear::at(&site.at("notify.sock")));
    // Whoever comes first starts it, and waits in the backlog meanwhile.
    let mut early = Client::connect(sockets.addr);
    let variables = format!("{PASSED} NOTIFY_SOCKET={}", site.at("notify.sock").display());
    // The address that it would have had otherwise is taken, and not needed.
    let arguments = ["--bind", &sockets.addr.to_string()];
    let mut server = Managed::start(&site, sockets.pass(), &variables, &arguments);
    let ready = ear.next();
    assert!(ready.starts_with("READY=1\nSTATUS=serving http://127.0.0.1:"), "{ready}");
    assert_eq!(early.get("/").expect(200).text(), "home");
    for _ in 0..16 {
        assert_eq!(Client::connect(sockets.addr).get("/").expect(200).text(), "home");
        assert_eq!(Client::connect_unix(&site.at("served.sock")).get("/").expect(200).text(), "home");
    }
    server.signal(server.pid(), Signal::TERM);
    assert_eq!(ear.next(), "STOPPING=1\nSTATUS=draining");
    let (code, output) = server.ended();
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("the service manager's socket \"web\"") && output.contains("\"local\""), "{output}");
    // The manager still listens: nobody is refused, and the next start serves him.
    let mut late = Client::connect(sockets.addr);
    late.head(&["GET / HTTP/1.1", "Host: {host}"]);
    let mut server = Managed::start(&site, sockets.pass(), &variables, &[]);
    assert_eq!(late.read().expect(200).text(), "home");
    assert!(ear.next().starts_with("READY=1\n"));
    server.signal(server.pid(), Signal::TERM);
    assert_eq!(server.ended().0, Some(0));
}

/// BBR, which a connection has from the socket that it was accepted from. A client that does not read has little waiting for it.
#[test]
fn a_paced_connection_holds_little_that_is_unsent() {
    let site = Site::new().file("large.bin", support::noise(16 << 20));
    let sockets = Sockets::new(&site);
    if rustix::net::sockopt::set_tcp_congestion(&sockets.tcp, "bbr").is_err() {
        return support::not_here("this kernel has no BBR, or we may not have it");
    }
    // What is younger is copied.
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    let _server = Managed::start(&site, sockets.pass(), PASSED, &[]);
    let mut client = Client::connect(sockets.addr);
    client.head(&["GET /large.bin HTTP/1.1", "Host: test"]);
    client.read_head();
    let mut held = 0;
    wait_until("the connection is full", || {
        std::thread::sleep(std::time::Duration::from_millis(100));
        let [now, _] = tcp_queues::queues(sockets.addr, client.socket().local_addr().expect("an address"));
        now > 0 && now == std::mem::replace(&mut held, now)
    });
    // The bound, and the kernel's buffer (64 KiB) that was begun below it. Without the bound it was 4 MB.
    assert!(held <= 192 << 10, "{held} bytes");
}

#[test]
fn what_is_passed_to_somebody_else_or_is_no_socket() {
    let site = Site::new().file("index.html", "home");
    let sockets = Sockets::new(&site);
    // For another process: it listens where it is told to, and leaves them alone.
    let mut server = Managed::start(&site, sockets.pass(), "LISTEN_PID=1 LISTEN_FDS=2", &["--port", "0"]);
    wait_until("it has a port of its own", || server.output.lock().expect("output").contains("listening http://"));
    let said = server.output.lock().expect("output").clone();
    assert!(!said.contains(&sockets.addr.to_string()), "{said}");
    server.signal(server.pid(), Signal::TERM);
    assert_eq!(server.ended().0, Some(0));
    let table = [
        ("LISTEN_PID=$$ LISTEN_FDS=3; exec 5</dev/null; export X=", "descriptor 5 is no listening stream socket"),
        ("LISTEN_PID=$$ LISTEN_FDS=9999", "more than 1024 sockets"),
    ];
    for (variables, says) in table {
        let (code, output) = Managed::start(&site, sockets.pass(), variables, &[]).ended();
        assert_eq!(code, Some(4), "{output}");
        assert!(output.contains(says) && output.lines().count() <= 3, "{output}");
    }
}

#[test]
fn the_manager_hears_of_reloads() {
    let site = Site::new().file("index.html", "home");
    site.write("site.toml", "# nothing\n");
    let config = site.at("site.toml").display().to_string();
    let (sockets, ear) = (Sockets::new(&site), Ear::at(&site.at("notify.sock")));
    let variables = format!("{PASSED} NOTIFY_SOCKET={}", site.at("notify.sock").display());
    let mut server = Managed::start(&site, sockets.pass(), &variables, &["--config", &config]);
    assert!(ear.next().starts_with("READY=1\n"));
    let mut last = 0;
    for (text, says) in [
        ("listing = true\n", "READY=1\nSTATUS=serving"),
        ("prot = 1\n", "READY=1\nSTATUS=serving; not reloaded: "),
        ("cores = 7\nengine = 'uring'\n", "READY=1\nSTATUS=serving; needs a restart: engine"),
    ] {
        site.write("site.toml", text);
        server.signal(server.pid(), Signal::HUP);
        let reloading = ear.next();
        let rest = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap_or_else(|| panic!("{reloading}"));
        let moment: u64 = rest.lines().next().expect("a number").parse().expect("a number");
        assert!(moment > last, "{moment} after {last}");
        last = moment;
        let ready = ear.next();
        assert!(ready.starts_with(says), "{ready:?} is not {says:?}");
    }
    server.signal(server.pid(), Signal::TERM);
    assert_eq!(ear.next(), "STOPPING=1\nSTATUS=draining");
    assert_eq!(server.ended().0, Some(0));
}

/// A socket without a file; and the watchdog, which is told for as long as all is well, by whom it is meant for.
#[test]
fn the_watchdog_is_told_by_whom_it_watches() {
    let site = Site::new().file("index.html", "home");
    let sockets = Sockets::new(&site);
    let name = format!("ucaffeine-test-{}", site.root().file_name().expect("a name").to_string_lossy());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).expect("a name");
    let ear = Ear::of(UnixDatagram::bind_addr(&address).expect("bind"));
    let told = format!("{PASSED} NOTIFY_SOCKET=@{name} WATCHDOG_USEC=20000 WATCHDOG_PID=");
    let mut server = Managed::start(&site, sockets.pass(), &format!("{told}$$"), &[]);
    assert!(ear.word().starts_with("READY=1\n"));
    for _ in 0..3 {
        assert_eq!(ear.next(), "WATCHDOG=1");
    }
    server.signal(server.pid(), Signal::TERM);
    assert_eq!(ear.word(), "STOPPING=1\nSTATUS=draining");
    assert_eq!(server.ended().0, Some(0));
    while ear.0.set_nonblocking(true).is_ok() && ear.0.recv(&mut [0; 64]).is_ok() {}
    ear.0.set_nonblocking(false).expect("blocking");
    let mut server = Managed::start(&site, sockets.pass(), &format!("{told}1"), &[]);
    assert!(ear.next().starts_with("READY=1\n"));
    for _ in 0..20 {
        server.signal(server.pid(), Signal::HUP);
        assert!(ear.next().starts_with("RELOADING=1\n"), "nothing else is said");
        assert!(ear.next().starts_with("READY=1\n"));
    }
    server.signal(server.pid(), Signal::TERM);
    assert_eq!(server.ended().0, Some(0));
}

#[test]
fn an_upgrade_under_a_manager_has_its_sockets_and_its_ear() {
    let site = Site::new().file("index.html", "home");
    let (sockets, ear) = (Sockets::new(&site), Ear::at(&site.at("notify.sock")));
    let notify = site.at("notify.sock").display().to_string();
    let variables = format!("{PASSED} WATCHDOG_USEC=20000 WATCHDOG_PID=$$ NOTIFY_SOCKET={notify}");
    let mut server = Managed::start(&site, sockets.pass(), &variables, &[]);
    assert!(ear.word().starts_with("READY=1\n"));
    let mut pid = server.pid();
    for _ in 0..2 {
        server.signal(pid, Signal::USR2);
        let word = ear.word();
        let next = word.strip_prefix("MAINPID=").unwrap_or_else(|| panic!("{word}")).parse().expect("a number");
        server.others.push(next);
        let word = ear.word();
        assert!(word.starts_with("READY=1\nSTATUS=serving http://127.0.0.1:"), "{word}");
        match pid == server.pid() {
            true => wait_until("the first one ends", || server.child.try_wait().expect("wait").is_some()),
            false => wait_until("it ends", || !runs(pid)),
        }
        pid = next;
        assert_eq!(Client::connect(sockets.addr).get("/").expect(200).text(), "home");
        assert_eq!(Client::connect_unix(&site.at("served.sock")).get("/").expect(200).text(), "home");
    }
    assert_eq!(server.child.wait().expect("wait").code(), Some(0));
    // Nobody but the new one is there to say so.
    while ear.next() != "WATCHDOG=1" {}
    server.signal(pid, Signal::TERM);
    assert_eq!(ear.word(), "STOPPING=1\nSTATUS=draining", "and nobody before it has said that");
    wait_until("it ends", || !runs(pid));
    let output = server.ended().1;
    assert_eq!(output.matches("has taken over").count(), 2, "{output}");
}
