//! The command line from outside: what starts, what does not and why, what is said, and how it ends.

mod support;

use rustix::process::Signal;
use std::os::unix::process::CommandExt;
use std::process::Command;
use support::{Client, Launch, Server, Site, noise, wait_until};

const SCRIPT: &str =
    "printf 'Content-Type: text/plain\\n\\n'; echo begun; while [ ! -e go ]; do sleep 0.02; done; echo ended";

fn site() -> Site {
    Site::new().file("index.html", "home").sh("cgi-bin/wait.sh", SCRIPT)
}

#[test]
fn the_banner_says_what_runs() {
    let site = site();
    let server = Server::start(&site, ["--cores", "1"]);
    let banner = server.output();
    for part in [&format!("http://{}/", server.addr), site.root().to_str().expect("UTF-8"), "/cgi-bin", "uring", "core"]
    {
        assert!(banner.contains(part), "no {part:?} in the banner:\n{banner}");
    }
    server.stop();
}

#[test]
fn without_a_folder_it_serves_the_current_one() {
    let site = site();
    let server = Launch::bare(Command::new(Launch::binary()), site.root())
        .args(["--port", "0"])
        .current_dir(site.root())
        .start();
    assert_eq!(server.get("/").expect(200).text(), "home");
    server.stop();
}

#[test]
fn path_is_the_same_as_the_argument() {
    let site = site();
    let launch =
        Launch::bare(Command::new(Launch::binary()), site.root()).args(["-p", "0", "--path"]).arg_os(site.root());
    let server = launch.start();
    assert_eq!(server.get("/").expect(200).text(), "home");
    server.stop();
}

#[test]
fn a_taken_port_is_refused() {
    let site = site();
    let server = Server::start(&site, []);
    let port = server.addr.port().to_string();
    let second = Launch::new(&site).args(["--port", &port]).fails();
    assert_eq!(second.code, Some(4), "{}", second.output);
    assert!(second.output.contains(&port), "{}", second.output);
    server.get("/").expect(200);
    server.stop();
}

/// The first forty cores took it all: each had the largest ring that still fitted.
#[test]
fn sixty_four_cores_share_the_usual_locked_memory() {
    if !support::skip_or_fail("setpriv") || !support::skip_or_fail("prlimit") {
        return;
    }
    let site = site();
    let mut command = Command::new("prlimit");
    command.arg("--memlock=8388608:8388608");
    if rustix::process::geteuid().is_root() {
        // Root is exempt by this capability; nobody else has it.
        command.args(["setpriv", "--bounding-set=-ipc_lock", "--inh-caps=-all"]);
    }
    command.arg(Launch::binary());
    let server = Launch::bare(command, site.root()).arg_os(site.root()).args(["-p", "0", "--cores", "64"]).start();
    assert_eq!(server.get("/").expect(200).text(), "home");
    server.stop();
}

#[test]
fn many_cores_on_a_small_machine() {
    let site = site();
    let server = Server::start(&site, ["--cores", "64"]);
    let banner = server.output();
    let cpus = std::thread::available_parallelism().expect("CPUs").get();
    assert!(banner.contains("64"), "{banner}");
    if cpus < 64 {
        assert!(banner.contains("sharing"), "64 threads on {cpus} CPUs share them, and it says so:\n{banner}");
    }
    for _ in 0..200 {
        server.get("/").expect(200);
    }
    server.stop();
}

#[test]
fn usage_and_configuration_errors() {
    let site = site().file("bad.toml", "cores = 1\nprot = 80\n").file("good.toml", "cores = 1\n");
    let unknown = Launch::new(&site).args(["--no-such-flag"]).fails();
    assert_eq!(unknown.code, Some(2), "{}", unknown.output);
    let value = Launch::new(&site).args(["--cores", "none at all"]).fails();
    assert!(matches!(value.code, Some(2 | 3)), "{value:?}");
    let config = Launch::new(&site).args(["--config"]).arg_os(site.at("bad.toml")).fails();
    assert_eq!(config.code, Some(3), "{}", config.output);
    assert!(config.output.contains("bad.toml:2") && config.output.contains("port"), "{}", config.output);
    let absent = Launch::bare(Command::new(Launch::binary()), site.root()).arg_os(site.at("absent")).fails();
    assert!(matches!(absent.code, Some(2 | 3)), "{absent:?}");
    let help = Launch::new(&site).args(["--help"]).fails();
    assert_eq!(help.code, Some(0));
    let version = Launch::new(&site).args(["--version"]).fails();
    assert_eq!((version.code, version.output.trim_end()), (Some(0), concat!("ucaffeine ", env!("CARGO_PKG_VERSION"))));
    let server = Launch::new(&site).args(["--config"]).arg_os(site.at("good.toml")).start();
    server.stop();
}

#[test]
fn a_drain_finishes_what_is_in_flight() {
    let content = noise(64 << 20);
    let site = site().file("big.bin", &content);
    let server = Server::start(&site, []);

    let mut idle = server.connect();
    idle.get("/").expect(200);
    let mut download = server.connect();
    download.head(&["GET /big.bin HTTP/1.1", "Host: {host}"]);
    download.read_head().expect(200);
    let mut script = server.connect();
    script.head(&["GET /cgi-bin/wait.sh HTTP/1.1", "Host: {host}"]);
    script.read_until(b"begun");
    let mut upload = server.connect();
    upload.head(&["POST /cgi-bin/wait.sh HTTP/1.1", "Host: {host}", "Content-Length: 10"]).send("12345");
    upload.read_until(b"begun");

    server.signal(Signal::TERM);
    wait_until("new connections are refused", || std::net::TcpStream::connect(server.addr).is_err());
    idle.expect_close();
    assert!(download.read_exact(content.len()) == content, "the download goes on to its end");
    download.expect_close();
    upload.send("67890");
    site.write("cgi-bin/go", "");
    for mut client in [script, upload] {
        client.read_until(b"ended");
        client.read_until(b"\r\n0\r\n\r\n");
        client.expect_close();
    }
    assert_eq!(server.wait().code, Some(0));
}

#[test]
fn a_request_that_arrives_before_the_signal_is_answered_with_close() {
    let site = site();
    let server = Server::start(&site, []);
    let mut client = server.connect();
    client.head(&["GET /cgi-bin/wait.sh HTTP/1.1", "Host: {host}"]);
    client.read_until(b"begun");
    server.signal(Signal::INT);
    site.write("cgi-bin/go", "");
    client.read_until(b"0\r\n\r\n");
    client.expect_close();
    assert_eq!(server.wait().code, Some(0), "SIGINT drains as SIGTERM does");
}

#[test]
fn a_second_signal_ends_the_drain() {
    let site = site();
    let server = Server::start(&site, []);
    let mut client = server.connect();
    client.head(&["GET /cgi-bin/wait.sh HTTP/1.1", "Host: {host}"]);
    client.read_until(b"begun");
    server.signal(Signal::TERM);
    wait_until("new connections are refused", || std::net::TcpStream::connect(server.addr).is_err());
    server.signal(Signal::TERM);
    client.read_to_end();
    let root = site.root().to_path_buf();
    server.wait();
    wait_until("no script is left", || support::processes_in(&root).is_empty());
}

#[test]
fn the_drain_has_a_deadline() {
    let site = site();
    let server = Server::start(&site, ["--drain-ms-max", "300", "--cgi-term-to-kill-ms", "300"]);
    let mut client = server.connect();
    client.head(&["GET /cgi-bin/wait.sh HTTP/1.1", "Host: {host}"]);
    client.read_until(b"begun");
    let mut half = server.connect();
    half.send("GET / HT");
    server.stop_in_flight();
    let rest = client.read_to_end();
    assert!(!rest.ends_with(b"0\r\n\r\n"), "a script that was cut is not passed off as whole");
}

#[test]
fn a_unix_listener_beside_tcp() {
    let site = site().sh("cgi-bin/who.sh", "printf 'Content-Type: text/plain\\n\\n[%s]' \"$REMOTE_ADDR\"");
    let path = site.at("listen.sock");
    let bind = format!("unix:{}", path.display());
    let server = Server::start(&site, ["--bind", "127.0.0.1", "--bind", &bind]);
    let mut client = Client::connect_unix(&path);
    assert_eq!(client.get("/").expect(200).text(), "home");
    assert_eq!(client.get("/").expect(200).text(), "home");
    client.get("/cgi-bin/who.sh").expect(200);
    assert_eq!(server.get("/").expect(200).text(), "home");
    assert!(server.output().contains(&bind), "{}", server.output());
    drop(client);
    server.stop();
    // A socket file that a killed server left must not keep the next one from starting.
    drop(Server::start(&site, ["--bind", "127.0.0.1", "--bind", &bind]));
    let again = Server::start(&site, ["--bind", "127.0.0.1", "--bind", &bind]);
    Client::connect_unix(&path).get("/").expect(200);
    again.stop();
}

#[test]
fn ipv6() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return support::not_here("this machine has no IPv6 loopback");
    }
    let site = site();
    let server = Server::start(&site, ["--bind", "::1"]);
    assert!(server.addr.is_ipv6());
    server.get("/").expect(200);
    server.stop();
}

#[test]
fn the_epoll_engine_is_not_there_yet_and_says_so() {
    let site = site();
    let exit = Launch::new(&site).args(["--engine", "epoll"]).fails();
    assert_eq!(exit.code, Some(5), "{}", exit.output);
    assert!(exit.output.contains("epoll"), "{}", exit.output);
}

#[test]
fn io_uring_forbidden_by_seccomp_is_named() {
    for engine in ["auto", "uring"] {
        let site = site();
        let exit = without_io_uring(Launch::new(&site).args(["--engine", engine]), libc::EPERM).fails();
        assert_eq!(exit.code, Some(5), "{}", exit.output);
        assert!(exit.output.contains("seccomp"), "{}", exit.output);
        assert_eq!(exit.output.trim_end().lines().count(), 1, "one line:\n{}", exit.output);
    }
}

#[test]
fn a_kernel_without_io_uring_is_named() {
    let site = site();
    let exit = without_io_uring(Launch::new(&site), libc::ENOSYS).fails();
    assert_eq!(exit.code, Some(5), "{}", exit.output);
    let said = exit.output.to_lowercase();
    assert!(said.contains("kernel") && !said.contains("memlock"), "{said}");
    assert_eq!(exit.output.trim_end().lines().count(), 1, "one line:\n{}", exit.output);
}

#[test]
fn too_little_locked_memory_is_named() {
    // Ring memory counts against RLIMIT_MEMLOCK on new kernels, and never for root: the server runs as nobody, from a copy
    // that nobody may read.
    let site = site();
    let binary = site.at("ucaffeine");
    {
        let _quiet = support::no_forks();
        std::fs::copy(Launch::binary(), &binary).expect("a copy");
    }
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "ulimit -l 0 && exec \"$@\"", "sh"]).arg(&binary).arg(site.root()).args(["--port", "0"]);
    if rustix::process::getuid().is_root() {
        command.uid(65_534).gid(65_534);
    }
    let launch = Launch::bare(command, site.root());
    if !charges_rings() {
        return support::not_here("this kernel does not charge rings to RLIMIT_MEMLOCK");
    }
    let exit = launch.fails();
    assert_eq!(exit.code, Some(5), "{}", exit.output);
    assert!(exit.output.to_lowercase().contains("memlock"), "{}", exit.output);
}

/// Kernels since 6.14 charge rings to RLIMIT_MEMLOCK again, as those before 5.12 did.
fn charges_rings() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel's release");
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 14)
}

#[test]
fn sixty_four_descriptors_and_two_hundred_clients() {
    let site = site();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "ulimit -n 64 && exec \"$@\"", "sh"]).arg(Launch::binary()).arg(site.root());
    let server = Launch::bare(command, site.root()).args(["--port", "0", "--cores", "1"]).start();
    // Every client keeps its connection after its answer, so that the server has to close idle ones to go on. A client that
    // is so slow that its connection is closed before it has asked tries again, as browsers do.
    let everyone = std::sync::Arc::new(std::sync::Barrier::new(200));
    let clients = (0..200).map(|_| {
        let (addr, everyone) = (server.addr, std::sync::Arc::clone(&everyone));
        std::thread::spawn(move || {
            let again = || std::thread::sleep(std::time::Duration::from_millis(5));
            let held = (0..200).find_map(|_| {
                ask_once(addr).or_else(|| {
                    again();
                    None
                })
            });
            everyone.wait();
            held.is_some()
        })
    });
    let clients: Vec<_> = clients.collect();
    let served = clients.into_iter().map(|client| client.join().expect("a client"));
    assert_eq!(served.filter(|&ok| ok).count(), 200);
    assert_eq!(server.get("/").expect(200).text(), "home", "and afterwards it serves as before");
    server.get("/cgi-bin/absent").expect(404);
    server.stop();
}

/// A connection that has come and not asked is given a second, and then it goes as any that is idle: nobody who asks is kept out
/// for good, however full the table is of others who do not.
#[test]
fn who_connects_and_is_silent_keeps_nobody_out() {
    use std::io::Read;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    let site = site();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "ulimit -n 64 && exec \"$@\"", "sh"]).arg(Launch::binary()).arg(site.root());
    let server =
        Launch::bare(command, site.root()).args(["--port", "0", "--cores", "1", "--idle-ms-max", "1h"]).start();
    let connected = std::sync::Arc::new(AtomicUsize::new(0));
    for _ in 0..60 {
        let (addr, connected) = (server.addr, std::sync::Arc::clone(&connected));
        // Each stays until it is told to go; those that never got in end with the server.
        std::thread::spawn(move || {
            let Ok(mut stream) = std::net::TcpStream::connect(addr) else { return };
            connected.fetch_add(1, SeqCst);
            let _ = stream.read(&mut [0]);
        });
    }
    wait_until("many are silent", || connected.load(SeqCst) >= 20);
    wait_until("somebody who asks is answered", || ask_once(server.addr).is_some());
    server.stop();
}

/// One request; the connection is returned when it was answered.
fn ask_once(addr: std::net::SocketAddr) -> Option<std::net::TcpStream> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect_timeout(&addr, support::HANG).ok()?;
    stream.set_read_timeout(Some(support::HANG)).ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").ok()?;
    let mut got = Vec::new();
    let mut buf = [0; 1024];
    while !got.ends_with(b"home") {
        match stream.read(&mut buf) {
            Ok(n) if n > 0 => got.extend_from_slice(&buf[..n]),
            _ => return None,
        }
    }
    got.starts_with(b"HTTP/1.1 200").then_some(stream)
}

#[test]
fn a_hot_static_run_creates_no_kernel_worker() {
    let site = site().file("small.txt", "x".repeat(1024)).file("large.bin", noise(4 << 20)).file("sub/b.css", "b{}");
    // A name that the kernel does not have in its cache is looked up by a worker, and not every file system lets it keep
    // names that do not exist. So each file has siblings here; they are too old to be used.
    for path in ["index.html", "small.txt", "large.bin", "sub/b.css"] {
        for suffix in ["br", "zst", "gz"] {
            let sibling = std::fs::File::create(site.at(&format!("{path}.{suffix}"))).expect("a sibling");
            sibling.set_modified(std::time::UNIX_EPOCH).expect("utimensat");
        }
    }
    let server = Server::start(&site, ["--cores", "1"]);
    let mut client = server.connect();
    for _ in 0..200 {
        for target in ["/", "/small.txt", "/sub/b.css", "/large.bin"] {
            client.get(target).expect(200);
        }
        server.get("/small.txt").expect(200);
    }
    let workers = || server.threads().into_iter().filter(|name| name.starts_with("iou-wrk")).count();
    assert_eq!(workers(), 0, "{:?}", server.threads());
    server.stop();
}

/// Makes `io_uring_setup` fail with `errno` in the server, as a container's seccomp profile does.
fn without_io_uring(launch: Launch, errno: i32) -> Launch {
    launch.with(|command| {
        let setup = move || forbid(libc::SYS_io_uring_setup, errno);
        // SAFETY: between fork and exec only async-signal-safe calls are allowed; `forbid` makes two prctl calls on memory
        // of its own stack, and `io::Error::last_os_error` only reads errno.
        unsafe { command.pre_exec(setup) };
    })
}

fn forbid(syscall: libc::c_long, errno: i32) -> std::io::Result<()> {
    let op = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter { code: code as u16, jt, jf, k };
    // seccomp_data begins with the number of the system call.
    let mut filter = [
        op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, syscall as u32, 0, 1),
        op(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno as u32, 0, 0),
        op(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: prctl with integer arguments only.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: `program` points to `filter`, which lives until the end of this function; the kernel copies both.
    if unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(())
}
