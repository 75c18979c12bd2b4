//! What the black-box tests share: a site made of temporary files, the real binary on a port of its own, and a client that
//! writes raw bytes and reads responses strictly.
//!
//! Nothing here measures time. A wait ends when its condition holds; [`HANG`] only turns a hang into a failure with a name.
#![allow(dead_code, unreachable_pub, reason = "each test binary compiles its own copy and uses a part of it")]
#![allow(unused_imports, reason = "each test binary names the part that it uses")]

mod client;
mod server;

pub use client::{Client, Framing, Response, tcp};
pub use server::{Exit, Launch, Server};

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longer than any healthy step on a slow, shared machine. Reaching it is a hang.
pub const HANG: Duration = Duration::from_secs(60);

/// A folder to serve, removed on drop.
pub struct Site {
    dir: TempDir,
}

impl Site {
    /// An empty folder that every user may enter (some tests drop privileges).
    pub fn new() -> Site {
        let dir = tempfile::Builder::new().prefix("ucaffeine-test-").tempdir().expect("a temporary folder");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod of the folder");
        Site { dir }
    }

    /// Adds a file, and the folders on the way to it.
    pub fn file(self, path: &str, content: impl AsRef<[u8]>) -> Site {
        self.write(path, content);
        self
    }

    /// Adds an executable file.
    pub fn script(self, path: &str, content: impl AsRef<[u8]>) -> Site {
        self.write_script(path, content);
        self
    }

    /// Adds an executable `/bin/sh` script with this body.
    pub fn sh(self, path: &str, body: &str) -> Site {
        self.script(path, format!("#!/bin/sh\n{body}\n"))
    }

    /// Writes a file now; returns where it is.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let _quiet = no_forks();
        let at = self.at(path);
        fs::create_dir_all(at.parent().expect("a file has a folder")).expect("mkdir");
        fs::write(&at, content).expect("write");
        at
    }

    /// Writes an executable file now; returns where it is.
    pub fn write_script(&self, path: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let at = self.write(path, content);
        fs::set_permissions(&at, fs::Permissions::from_mode(0o755)).expect("chmod");
        at
    }

    /// Adds a symbolic link at `path`.
    pub fn link(self, path: &str, target: impl AsRef<Path>) -> Site {
        let at = self.at(path);
        fs::create_dir_all(at.parent().expect("a link has a folder")).expect("mkdir");
        std::os::unix::fs::symlink(target, at).expect("symlink");
        self
    }

    /// The path of something inside.
    pub fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        self.dir.path()
    }
}

/// A file open for writing is inherited by a child that another thread forks, and until that child execs, running the file
/// fails with ETXTBSY. So no test of a process writes an executable while another one forks.
pub fn no_forks() -> MutexGuard<'static, ()> {
    static FORK: Mutex<()> = Mutex::new(());
    FORK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// True when the program can be run. Otherwise says SKIPPED, or panics when `STRICT=1`: on CI a skip is a failure.
#[must_use]
pub fn skip_or_fail(program: &str) -> bool {
    let found = program.contains('/') && Path::new(program).exists() || on_path(program).is_some();
    if !found {
        skip(&format!("{program} is not installed"));
    }
    found
}

/// Says why a test cannot run here, or panics when `STRICT=1`.
pub fn skip(reason: &str) {
    assert!(std::env::var_os("STRICT").is_none_or(|v| v != "1"), "STRICT=1 and {reason}");
    println!("SKIPPED: {reason}");
}

/// Says that this kernel or network cannot show what a test is about; no package would help, so it is never a failure.
pub fn not_here(reason: &str) {
    println!("SKIPPED: {reason}");
}

/// Where `program` is on PATH.
pub fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// Waits until `done`; panics with `what` when that looks like a hang.
#[track_caller]
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < HANG, "still not true after {HANG:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs a program to its end, with its output; panics when it cannot start.
#[track_caller]
pub fn run(command: &mut Command) -> std::process::Output {
    let child = {
        let _quiet = no_forks();
        command
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?}: {e}"))
    };
    child.wait_with_output().expect("the program's output")
}

/// Bytes that do not repeat within a file, so that a wrong offset shows: xorshift64* from a fixed seed.
pub fn noise(len: usize) -> Vec<u8> {
    let mut x = 0x9E37_79B9_7F4A_7C15_u64;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        out.extend_from_slice(&x.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
    }
    out.truncate(len);
    out
}

/// Processes whose working directory is inside `dir`: scripts run in their own folder, so these are the site's scripts.
pub fn processes_in(dir: &Path) -> Vec<i32> {
    let dir = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_path_buf());
    pids()
        .into_iter()
        .filter(|pid| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(&dir)))
        .collect()
}

/// The children of a process, with their state letter (`Z` is a zombie).
pub fn children(parent: i32) -> Vec<(i32, char)> {
    let child = |pid: i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name is in parentheses and may contain spaces: split behind the last one.
        let mut rest = stat.rsplit_once(')')?.1.split_whitespace();
        let state = rest.next()?.chars().next()?;
        let ppid: i32 = rest.next()?.parse().ok()?;
        (ppid == parent).then_some((pid, state))
    };
    pids().into_iter().filter_map(child).collect()
}

fn pids() -> Vec<i32> {
    let entries = fs::read_dir("/proc").expect("/proc");
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}
