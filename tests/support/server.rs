//! The real binary, started on a port of its own and ended without a trace.

use super::{Client, HANG, Response, Site, children, no_forks, processes_in, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

/// How the binary is to be started.
pub struct Launch {
    command: Command,
    root: PathBuf,
}

/// A running server. Killed on drop, with whatever scripts it left.
pub struct Server {
    child: Child,
    readers: Vec<JoinHandle<()>>,
    output: Arc<Mutex<String>>,
    root: PathBuf,
    /// What it held when it had started: its own outputs.
    held: Vec<String>,
    /// The first TCP address of the banner.
    pub addr: SocketAddr,
}

/// How a run that was meant to end by itself ended.
#[derive(Debug)]
pub struct Exit {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Both outputs.
    pub output: String,
}

impl Launch {
    /// `ucaffeine ROOT --port 0`, with nothing of the caller's configuration.
    pub fn new(site: &Site) -> Launch {
        Launch::bare(Command::new(Launch::binary()), site.root()).arg_os(site.root()).args(["--port", "0"])
    }

    /// A command that ends in running the binary (a wrapper that sets limits, say); no arguments are added.
    pub fn bare(mut command: Command, root: &Path) -> Launch {
        let ours = std::env::vars_os().map(|(name, _)| name);
        for name in ours.filter(|name| name.as_encoded_bytes().starts_with(b"UCAFFEINE_")) {
            command.env_remove(name);
        }
        command.env_remove("RUST_LOG");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Launch { command, root: root.to_path_buf() }
    }

    /// The binary under test.
    pub fn binary() -> &'static Path {
        Path::new(env!("CARGO_BIN_EXE_ucaffeine"))
    }

    /// More arguments.
    pub fn args<'a>(mut self, args: impl IntoIterator<Item = &'a str>) -> Launch {
        self.command.args(args);
        self
    }

    /// One argument that need not be UTF-8.
    pub fn arg_os(mut self, arg: impl AsRef<std::ffi::OsStr>) -> Launch {
        self.command.arg(arg);
        self
    }

    /// A variable of the server's environment.
    pub fn env(mut self, name: &str, value: &str) -> Launch {
        self.command.env(name, value);
        self
    }

    /// The folder that the server starts in.
    pub fn current_dir(mut self, dir: &Path) -> Launch {
        self.command.current_dir(dir);
        self
    }

    /// Anything else that `Command` can do.
    pub fn with(mut self, change: impl FnOnce(&mut Command)) -> Launch {
        change(&mut self.command);
        self
    }

    /// Starts the server and waits for the URL in its banner.
    #[track_caller]
    pub fn start(self) -> Server {
        let Launch { command, root } = self;
        let (mut child, output, readers) = spawn(command);
        let start = Instant::now();
        let addr = loop {
            let text = output.lock().expect("output").clone();
            if let Some(addr) = text.lines().find_map(url_of) {
                break addr;
            }
            if let Some(status) = child.try_wait().expect("wait") {
                panic!(
                    "the server ended ({status}) before its banner had a URL; it said:\n{}",
                    drain(readers, &output)
                );
            }
            if start.elapsed() > HANG {
                let _ = child.kill();
                let _ = child.wait();
                panic!("no URL in the banner:\n{text}");
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        };
        let mut server = Server { child, readers, output, root, held: Vec::new(), addr };
        server.held = server.held_for_scripts();
        server
    }

    /// Runs it to its end; for runs that must fail at start.
    #[track_caller]
    pub fn fails(self) -> Exit {
        let (mut child, output, readers) = spawn(self.command);
        let status = wait_exit(&mut child, &output);
        Exit { code: status.code(), output: drain(readers, &output) }
    }
}

impl Server {
    /// A server of that site, with more arguments.
    #[track_caller]
    pub fn start<'a>(site: &Site, args: impl IntoIterator<Item = &'a str>) -> Server {
        Launch::new(site).args(args).start()
    }

    /// A new connection.
    #[track_caller]
    pub fn connect(&self) -> Client {
        Client::connect(self.addr)
    }

    /// One GET on a connection of its own.
    #[track_caller]
    pub fn get(&self, target: &str) -> Response {
        self.connect().get(target)
    }

    /// Everything that the server has written so far, both outputs.
    pub fn output(&self) -> String {
        self.output.lock().expect("output").clone()
    }

    /// The process id.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid fits")
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid()).expect("a pid is positive"), signal).expect("kill");
    }

    /// The names of the server's threads, kernel workers of its rings included.
    pub fn threads(&self) -> Vec<String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).expect("the server's threads");
        let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).ok();
        tasks.filter_map(|task| Some(name(task.ok()?)?.trim_end().to_owned())).collect()
    }

    /// Memory that the server holds, in bytes: VmRSS of proc(5).
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the server's status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
    }

    /// How many descriptors the server has open.
    pub fn fds(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("the server's descriptors").count()
    }

    /// What the server has open for scripts: pipes, their processes, request bodies in memory and in files without a name.
    pub fn held_for_scripts(&self) -> Vec<String> {
        let folder = format!("/proc/{}/fd", self.pid());
        let fds = std::fs::read_dir(folder).expect("the server's descriptors");
        let links = fds.filter_map(|fd| Some(std::fs::read_link(fd.ok()?.path()).ok()?.display().to_string()));
        let is_a_scripts = |link: &String| {
            let nameless = link.contains("/#") && link.ends_with(" (deleted)");
            link.starts_with("pipe:") || link.contains("[pidfd]") || link.starts_with("/memfd:") || nameless
        };
        let mut held: Vec<String> = links.filter(is_a_scripts).collect();
        held.sort();
        held
    }

    /// Scripts of this site that are alive.
    pub fn scripts(&self) -> Vec<i32> {
        processes_in(&self.root).into_iter().filter(|&pid| pid != self.pid()).collect()
    }

    /// Waits for the process to end by itself.
    #[track_caller]
    pub fn wait(mut self) -> Exit {
        self.ended()
    }

    #[track_caller]
    fn ended(&mut self) -> Exit {
        let status = wait_exit(&mut self.child, &self.output);
        Exit { code: status.code(), output: drain(std::mem::take(&mut self.readers), &self.output) }
    }

    /// SIGTERM; then exit code 0. Before, no zombie, and no descriptor that was opened for a script; after, no script. Returns
    /// what the server wrote.
    #[track_caller]
    pub fn stop(self) -> String {
        let pid = self.pid();
        wait_until("every zombie is reaped", || children(pid).iter().all(|&(_, state)| state != 'Z'));
        wait_until("every pipe, pidfd and spool is closed", || self.held_for_scripts() == self.held);
        self.stop_in_flight()
    }

    /// As `stop`, while scripts are running.
    #[track_caller]
    pub fn stop_in_flight(mut self) -> String {
        self.signal(Signal::TERM);
        let exit = self.ended();
        assert_eq!(exit.code, Some(0), "exit code after SIGTERM; the server said:\n{}", exit.output);
        // Before the drop, which kills what is left.
        wait_until("no script is left", || processes_in(&self.root).is_empty());
        exit.output
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // A script that the server had no chance to end must not outlive the test.
        for pid in processes_in(&self.root) {
            if let Some(pid) = Pid::from_raw(pid).filter(|pid| pid.as_raw_nonzero().get() != own_pid()) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        if std::thread::panicking() {
            println!("the server said:\n{}", self.output());
        }
    }
}

fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

type Spawned = (Child, Arc<Mutex<String>>, Vec<JoinHandle<()>>);

#[track_caller]
fn spawn(mut command: Command) -> Spawned {
    let mut child = {
        let _quiet = no_forks();
        command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"))
    };
    let output = Arc::new(Mutex::new(String::new()));
    let stdout = child.stdout.take().expect("stdout is piped");
    let stderr = child.stderr.take().expect("stderr is piped");
    let readers = vec![collect(stdout, &output), collect(stderr, &output)];
    (child, output, readers)
}

/// Appends whole lines as they come, so that lines of the two outputs never mix.
fn collect(from: impl Read + Send + 'static, into: &Arc<Mutex<String>>) -> JoinHandle<()> {
    let into = Arc::clone(into);
    std::thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            into.lock().expect("output").push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    })
}

#[track_caller]
fn wait_exit(child: &mut Child, output: &Mutex<String>) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("wait") {
            return status;
        }
        if start.elapsed() > HANG {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the server did not end; it said:\n{}", output.lock().expect("output"));
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// The last lines can still be in a pipe when the process is gone. A script may hold that pipe open, so this waits for lines
/// only as long as they come to an end by themselves.
fn drain(readers: Vec<JoinHandle<()>>, output: &Mutex<String>) -> String {
    let start = Instant::now();
    while !readers.iter().all(JoinHandle::is_finished) && start.elapsed().as_secs() < 5 {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    output.lock().expect("output").clone()
}

/// The address in the first `http://HOST:PORT` of a line.
fn url_of(line: &str) -> Option<SocketAddr> {
    let rest = line.split_once("http://")?.1;
    let end = rest.find(|c: char| !(c.is_ascii_hexdigit() || ".:[]".contains(c))).unwrap_or(rest.len());
    rest[..end].parse().ok()
}
