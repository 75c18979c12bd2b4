//! A server process of one trial: started on one CPU, found by what it prints, and ended.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// How long a server has until it says where it listens.
const START_MAX: Duration = Duration::from_secs(20);
/// How long it has to end after SIGTERM.
const END_MAX: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(5);

/// One of the two that are compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arm {
    /// As the report calls it.
    pub name: String,
    /// What is started.
    pub program: PathBuf,
    /// With what, before the folder and the port.
    pub before: Vec<OsString>,
    /// And after them.
    pub after: Vec<OsString>,
}

impl Arm {
    /// `PROGRAM SITE --port 0 --cores 1`: the server of this project.
    #[must_use]
    pub fn ucaffeine(name: &str, program: &Path) -> Arm {
        let after = ["--cores", "1"].map(OsString::from).to_vec();
        Arm { name: name.to_owned(), program: program.to_owned(), before: Vec::new(), after }
    }

    /// The same with more flags.
    #[must_use]
    pub fn with(mut self, flags: &[&str]) -> Arm {
        self.after.extend(flags.iter().map(OsString::from));
        self
    }

    /// `models floor SITE --port 0`: what no server can beat.
    #[must_use]
    pub fn floor(models: &Path) -> Arm {
        Arm { name: String::from("floor"), program: models.to_owned(), before: vec!["floor".into()], after: Vec::new() }
    }
}

/// A running server. Ended on drop.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Where it listens, with a slash at the end.
    pub url: String,
}

impl Server {
    /// Starts it on that CPU and waits until it listens.
    ///
    /// # Errors
    /// A line that says why it did not.
    pub fn start(arm: &Arm, site: &Path, cpu: usize) -> Result<Server, String> {
        let shown = arm.program.display();
        let mut child = spawn(arm, site, cpu).map_err(|error| format!("{shown} cannot be started: {error}"))?;
        let stdout = child.stdout.take();
        // Dropped, and with it the child, on every way out.
        let mut server = Server { child, url: String::new() };
        let (found, url) = mpsc::channel();
        std::thread::spawn(move || {
            // To the end, so that the server never waits for a reader.
            for line in BufReader::new(stdout.expect("a pipe was asked for")).lines().map_while(Result::ok) {
                if let Some(at) = line.find("http://") {
                    let _ = found.send(line[at..].split_whitespace().next().unwrap_or_default().to_owned());
                }
            }
        });
        match url.recv_timeout(START_MAX) {
            Ok(url) => server.url = url,
            Err(mpsc::RecvTimeoutError::Timeout) => return Err(format!("{shown} does not say where it listens")),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let status = server.child.wait().map_err(|error| error.to_string())?;
                return Err(format!("{shown} ended at its start ({status})"));
            }
        }
        Ok(server)
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
            && matches!(self.child.try_wait(), Ok(None))
        {
            let _ = kill_process(pid, Signal::TERM);
        }
        let begun = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && begun.elapsed() < END_MAX {
            std::thread::sleep(POLL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A child inherits the CPUs of the thread that starts it: one of our own is bound for the moment, and no code runs between
/// fork and exec.
fn spawn(arm: &Arm, site: &Path, cpu: usize) -> std::io::Result<Child> {
    let mut command = Command::new(&arm.program);
    command.args(&arm.before).arg(site).args(["--port", "0"]).args(&arm.after);
    let ours = std::env::vars_os().map(|(name, _)| name);
    for name in ours.filter(|name| name.as_encoded_bytes().starts_with(b"UCAFFEINE_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let starting = std::thread::spawn(move || {
        let mut only = CpuSet::new();
        only.set(cpu);
        sched_setaffinity(None, &only)?;
        command.spawn()
    });
    starting.join().unwrap_or_else(|_| Err(std::io::Error::other("the starting thread panicked")))
}

/// The CPUs of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpus {
    /// The server's.
    pub server: usize,
    /// The generator's.
    pub generator: usize,
}

impl Cpus {
    /// The first and the last that this process may use.
    ///
    /// # Errors
    /// A line that says that there are not two.
    pub fn choose() -> Result<Cpus, String> {
        let set = sched_getaffinity(None).map_err(|error| format!("sched_getaffinity: {error}"))?;
        let allowed: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect();
        match allowed[..] {
            [server, .., generator] => Ok(Cpus { server, generator }),
            _ => Err(String::from("two CPUs are needed: one for the server, one for the generator")),
        }
    }
}
