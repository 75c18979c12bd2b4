//! A server process for one measurement: started on its CPUs, asked until it answers, and ended with all that it has started.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal, waitpid};

use super::subject::{Fill, Subject};
use crate::watch;

/// A server that does not answer by then has not started.
const START_DEADLINE: Duration = Duration::from_secs(10);
/// One that answers wrongly may still be starting a part of itself.
const WRONG_DEADLINE: Duration = Duration::from_secs(3);
/// How often it is asked.
const ASK_PERIOD: Duration = Duration::from_millis(10);
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
/// From SIGTERM to SIGKILL.
const STOP_DEADLINE_SECS: i64 = 5;
/// So often the rest of a process tree is looked for: each time its parents are gone, their children are found.
const SWEEPS_MAX: u32 = 100;
/// Of what a server said, the end is kept.
const SAID_CHARS_MAX: usize = 600;

/// What ends everything early: SIGINT, SIGTERM or SIGHUP.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

/// A running server.
#[derive(Debug)]
pub struct Server {
    child: Child,
    pidfd: OwnedFd,
    output: PathBuf,
    /// Where it answers.
    pub url: String,
}

impl Interrupt {
    /// From now on the signals end nothing by themselves, and are seen here.
    ///
    /// # Errors
    /// The system's.
    pub fn listen() -> Result<Interrupt, String> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&flag))
                .map_err(|error| format!("signals cannot be caught: {error}"))?;
        }
        Ok(Interrupt(flag))
    }

    /// Whether there was one.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Children whose parents have ended become ours, so that they are found.
///
/// # Errors
/// The system's.
pub fn adopt_orphans() -> Result<(), String> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|error| format!("orphans cannot be adopted: {error}"))
}

/// A port that is free now.
///
/// # Errors
/// The system's.
pub fn free_port() -> Result<u16, String> {
    let probe = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    probe.map(|address| address.port()).map_err(|error| format!("there is no free port: {error}"))
}

impl Server {
    /// Starts it on these CPUs, and waits until it answers `path` with a body of that length.
    ///
    /// # Errors
    /// Why there is no such server: a line with what it said.
    pub fn start(
        subject: &Subject,
        fill: &Fill,
        cpus: &[usize],
        (path, bytes): (&str, u64),
        interrupt: &Interrupt,
    ) -> Result<Server, String> {
        let output = Path::new(&fill.folder).join("output");
        let child = spawn(subject, fill, cpus, &output)?;
        let pidfd = Pid::from_raw(child.id() as i32)
            .ok_or_else(|| String::from("no process"))
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).map_err(|error| format!("pidfd_open: {error}")));
        let mut server = match pidfd {
            Ok(pidfd) => Server { child, pidfd, output, url: String::new() },
            Err(why) => {
                let mut child = child;
                let _ = child.kill();
                let _ = child.wait();
                return Err(why);
            }
        };
        let ready = server.wait_until_it_answers(subject, fill, path, bytes, interrupt);
        ready.map_err(|why| {
            let said = server.said();
            if said.is_empty() { why } else { format!("{why}; it said: {said}") }
        })?;
        Ok(server)
    }

    /// Its process, whose tree is watched.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<String> {
        self.child.try_wait().ok().flatten().map(|status| status.to_string())
    }

    /// The end of what it has said, on one line.
    #[must_use]
    pub fn said(&self) -> String {
        let text = std::fs::read(&self.output).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).split_whitespace().collect::<Vec<_>>().join(" ");
        let skipped = text.chars().count().saturating_sub(SAID_CHARS_MAX);
        text.chars().skip(skipped).collect()
    }

    /// Ends it, and gives what it has said.
    pub fn end(mut self) -> String {
        self.stop();
        self.said()
    }

    fn wait_until_it_answers(
        &mut self,
        subject: &Subject,
        fill: &Fill,
        path: &str,
        bytes: u64,
        interrupt: &Interrupt,
    ) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                return Err(format!("{} ended at once ({status})", subject.name));
            }
            let url = subject.url.as_ref().map(|url| fill.apply(url)).or_else(|| url_in(&self.output));
            let answer = match &url {
                None => Err(Unready::Silent(String::from("it has not said where it listens"))),
                Some(url) => ask(url, path, bytes),
            };
            let waited = begun.elapsed();
            match answer {
                Ok(()) => {
                    self.url = url.unwrap_or_default();
                    return Ok(());
                }
                Err(_) if interrupt.is_set() => return Err(String::from("interrupted")),
                Err(Unready::Wrong(why)) if waited > WRONG_DEADLINE => {
                    return Err(format!("{} answered {path} wrongly: {why}", subject.name));
                }
                Err(Unready::Silent(why)) if waited > START_DEADLINE => {
                    return Err(format!("{} does not answer: {why}", subject.name));
                }
                Err(_) => sleep(ASK_PERIOD),
            }
        }
    }

    fn stop(&mut self) {
        if self.ended().is_none() {
            let _ = pidfd_send_signal(&self.pidfd, Signal::TERM);
            let deadline = Timespec { tv_sec: STOP_DEADLINE_SECS, tv_nsec: 0 };
            let _ = poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(&deadline));
            let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
            let _ = self.child.wait();
        }
        // Nothing else is a child of ours: one server runs at a time, and what it leaves behind was adopted.
        for _ in 0..SWEEPS_MAX {
            let left = watch::children();
            if left.is_empty() {
                return;
            }
            left.into_iter().for_each(kill_and_reap);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A child of ours cannot be another process by now: its number is its own until it is reaped.
fn kill_and_reap(pid: u32) {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
    if let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) {
        let _ = pidfd_send_signal(&pidfd, Signal::KILL);
    }
    let _ = waitpid(Some(pid), WaitOptions::empty());
}

fn spawn(subject: &Subject, fill: &Fill, cpus: &[usize], output: &Path) -> Result<Child, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", output.display());
    let log = File::create(output).map_err(failed)?;
    let log_too = log.try_clone().map_err(failed)?;
    if let Some(config) = &subject.config {
        std::fs::write(&fill.config, fill.apply(config)).map_err(|error| format!("{}: {error}", fill.config))?;
    }
    let argv = subject.argv(fill)?;
    let mut command = Command::new(&argv[0]);
    command.args(&argv[1..]).stdin(Stdio::null()).stdout(log).stderr(log_too).current_dir(&fill.folder);
    // A group of its own: Ctrl-C is for us, and we end the server.
    command.process_group(0);
    let start = || {
        // A child begins with the affinity of the thread that starts it, so it is never anywhere else.
        pin_this_thread(cpus)?;
        command.spawn().map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                format!("{} is not there: build it (cargo build --release --workspace), or install it", argv[0])
            }
            _ => format!("{} cannot be started: {error}", argv[0]),
        })
    };
    std::thread::scope(|scope| scope.spawn(start).join()).unwrap_or_else(|_| Err(String::from("a thread panicked")))
}

/// Keeps the calling thread, and what it starts from now on, on these CPUs.
///
/// # Errors
/// There is no such CPU for this process.
pub fn pin_this_thread(cpus: &[usize]) -> Result<(), String> {
    let mut set = rustix::thread::CpuSet::new();
    cpus.iter().for_each(|cpu| set.set(*cpu));
    rustix::thread::sched_setaffinity(None, &set).map_err(|error| format!("cannot pin to CPU {cpus:?}: {error}"))
}

/// The CPUs that this process may use.
#[must_use]
pub fn allowed_cpus() -> Vec<usize> {
    let set = rustix::thread::sched_getaffinity(None).unwrap_or_else(|_| rustix::thread::CpuSet::new());
    (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()
}

/// The first URL that a server has printed.
fn url_in(output: &Path) -> Option<String> {
    let text = std::fs::read_to_string(output).ok()?;
    // Only whole lines: a port that is half written is another port.
    let whole = &text[..=text.rfind('\n')?];
    let found = whole.split_whitespace().find(|word| word.starts_with("http://"))?;
    Some(found.trim_end_matches('/').to_owned())
}

/// Why a server is not ready.
enum Unready {
    /// Nobody answers.
    Silent(String),
    /// Somebody does, and it is not what was asked for.
    Wrong(String),
}

fn ask(url: &str, path: &str, bytes: u64) -> Result<(), Unready> {
    let silent = |error: std::io::Error| Unready::Silent(error.to_string());
    let place = url.trim_start_matches("http://");
    let address: SocketAddr =
        place.parse().map_err(|_| Unready::Silent(format!("{url}: an address and a port are expected")))?;
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_DEADLINE).map_err(silent)?;
    stream.set_read_timeout(Some(ANSWER_DEADLINE)).map_err(silent)?;
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: {place}\r\nConnection: close\r\n\r\n").as_bytes())
        .map_err(silent)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(silent)?;
    check(&answer, bytes).map_err(Unready::Wrong)
}

/// Whether that is a whole answer of so many bytes; the run itself looks closer.
fn check(answer: &[u8], bytes: u64) -> Result<(), String> {
    let status = String::from_utf8_lossy(answer.split(|byte| *byte == b'\r').next().unwrap_or_default()).into_owned();
    let body = answer.windows(4).position(|four| four == b"\r\n\r\n").map_or(0, |at| answer.len() - at - 4);
    match status.split(' ').nth(1) {
        Some("200") if body as u64 >= bytes => Ok(()),
        Some("200") => Err(format!("{body} bytes instead of {bytes}")),
        _ if status.is_empty() => Err(String::from("an empty answer")),
        _ => Err(format!("`{}`", status.chars().take(80).collect::<String>())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_right_or_said_to_be_wrong() {
        assert_eq!(check(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nhello\n", 6), Ok(()));
        for (answer, why) in [
            (&b"HTTP/1.1 200 OK\r\n\r\nhell"[..], "4 bytes instead of 6"),
            (b"HTTP/1.1 404 Not Found\r\n\r\nhello\n", "404 Not Found"),
            (b"", "empty"),
            (b"hello", "`hello`"),
        ] {
            assert!(check(answer, 6).unwrap_err().contains(why), "{why}");
        }
    }

    #[test]
    fn the_address_is_read_from_a_whole_line_of_what_was_printed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("output");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            url_in(&path)
        };
        assert_eq!(read("starting\nlistening http://127.0.0.1:41/\n").as_deref(), Some("http://127.0.0.1:41"));
        assert_eq!(read("listening http://127.0.0.1:41"), None, "it may go on: 4123");
        assert_eq!(read(""), None);
    }

    #[test]
    fn this_process_may_use_some_cpu() {
        let allowed = allowed_cpus();
        assert!(!allowed.is_empty());
        std::thread::spawn(move || {
            pin_this_thread(&allowed[..1]).unwrap();
            assert_eq!(allowed_cpus(), allowed[..1]);
        })
        .join()
        .unwrap();
    }
}
