//! A home of its own for the instances of a test: XDG folders that vanish, and every daemon with them.
#![allow(dead_code, unreachable_pub, reason = "each test binary compiles its own copy and uses a part of it")]

use crate::support::{Launch, no_forks, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

/// The folders of one user.
pub struct Home {
    dir: TempDir,
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

const FOLDERS: [(&str, &str); 4] =
    [("HOME", "home"), ("XDG_RUNTIME_DIR", "run"), ("XDG_STATE_HOME", "state"), ("XDG_CONFIG_HOME", "config")];

impl Home {
    pub fn new() -> Home {
        let dir = tempfile::Builder::new().prefix("ucaffeine-home-").tempdir().expect("a temporary folder");
        FOLDERS.iter().for_each(|(_, folder)| fs::create_dir(dir.path().join(folder)).expect("mkdir"));
        Home { dir }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn run_folder(&self, name: &str) -> PathBuf {
        self.path().join("run/ucaffeine").join(name)
    }

    pub fn log(&self, name: &str) -> PathBuf {
        self.path().join("state/ucaffeine/instances").join(name).join("log")
    }

    /// The folder that an instance serves of its own.
    pub fn own(&self, name: &str) -> PathBuf {
        self.path().join("config/ucaffeine").join(name)
    }

    pub fn content(&self, name: &str, path: &str, content: &str) -> PathBuf {
        let _quiet = no_forks();
        let at = self.own(name).join(path);
        fs::create_dir_all(at.parent().expect("a parent")).expect("mkdir");
        fs::write(&at, content).expect("write");
        at
    }

    pub fn script(&self, name: &str, path: &str, body: &str) {
        let at = self.content(name, path, &format!("#!/bin/sh\n{body}\n"));
        fs::set_permissions(at, fs::Permissions::from_mode(0o755)).expect("chmod");
    }

    fn command<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Command {
        self.command_of(Launch::binary(), args)
    }

    fn command_of<'a>(&self, binary: &'a Path, args: impl IntoIterator<Item = &'a str>) -> Command {
        let binary = binary.to_str().expect("UTF-8");
        self.wrapped(std::iter::once(binary).chain(args))
    }

    /// Another program, in the same surroundings.
    pub fn wrapped<'a>(&self, line: impl IntoIterator<Item = &'a str>) -> Command {
        let mut line = line.into_iter();
        let mut command = Command::new(line.next().expect("a program"));
        command.args(line).env_clear().current_dir(self.path());
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.envs(FOLDERS.iter().map(|(name, folder)| (name, self.path().join(folder))));
        command
    }

    /// For one that stays in the foreground.
    pub fn launch<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Launch {
        Launch::bare(self.command(args), self.path())
    }

    /// Runs a command to its end.
    #[track_caller]
    pub fn run<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Said {
        self.run_as(Launch::binary(), args)
    }

    /// The same, of another copy of the binary.
    #[track_caller]
    pub fn run_as<'a>(&self, binary: &'a Path, args: impl IntoIterator<Item = &'a str>) -> Said {
        let output = crate::support::run(&mut self.command_of(binary, args));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// Runs a command, and kills it after a while, if it has not ended by then.
    #[track_caller]
    pub fn kill_during<'a>(&self, args: impl IntoIterator<Item = &'a str>, after: std::time::Duration) {
        let mut child = {
            let _quiet = no_forks();
            self.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a command")
        };
        std::thread::sleep(after);
        let _ = child.kill();
        let _ = child.wait();
    }

    /// What the list says about an instance; null for one that is not there.
    #[track_caller]
    pub fn row(&self, name: &str) -> Value {
        let list: Value = serde_json::from_str(&self.run(["-L", "--json"]).expect(0).stdout).expect("JSON");
        let rows = list.as_array().expect("a list");
        rows.iter().find(|row| row["name"] == name).cloned().unwrap_or_default()
    }

    #[track_caller]
    pub fn pid(&self, name: &str) -> i32 {
        i32::try_from(self.row(name)["pid"].as_i64().expect("a pid")).expect("a pid")
    }

    /// `-l --follow`.
    #[track_caller]
    pub fn follow(&self, name: &str) -> Follow {
        let mut child = {
            let _quiet = no_forks();
            self.command(["-l", "-n", name, "--follow"]).stdout(Stdio::piped()).spawn().expect("a follower")
        };
        let text = Arc::new(Mutex::new(Vec::new()));
        let (mut from, into) = (child.stdout.take().expect("stdout"), Arc::clone(&text));
        std::thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut part) {
                into.lock().expect("text").extend_from_slice(&part[..count]);
            }
        });
        Follow { child, text }
    }

    /// The command lines of what runs with this home.
    pub fn left_running(&self) -> Vec<String> {
        self.processes().into_iter().map(|(_, line)| line).collect()
    }

    fn processes(&self) -> Vec<(i32, String)> {
        let ours = format!("XDG_RUNTIME_DIR={}", self.path().join("run").display());
        let scripts = crate::support::processes_in(self.path());
        let entries = fs::read_dir("/proc").expect("/proc");
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        let of = |pid: i32| {
            let environ = fs::read(format!("/proc/{pid}/environ")).ok()?;
            let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let is_ours = environ.split(|byte| *byte == 0).any(|variable| variable == ours.as_bytes());
            // Scripts have another environment, and run in their own folder.
            let is_script = || scripts.contains(&pid);
            (is_ours || is_script()).then(|| (pid, String::from_utf8_lossy(&line).replace('\0', " ")))
        };
        pids.filter_map(of).collect()
    }
}

impl Drop for Home {
    /// Whatever a test that failed has left ends here.
    fn drop(&mut self) {
        if std::thread::panicking() {
            for name in fs::read_dir(self.path().join("state/ucaffeine/instances")).into_iter().flatten().flatten() {
                println!(
                    "the log of {:?}:\n{}",
                    name.file_name(),
                    fs::read_to_string(name.path().join("log")).unwrap_or_default()
                );
            }
        }
        for (pid, _) in self.processes() {
            let _ = Pid::from_raw(pid).map(|pid| kill_process(pid, Signal::KILL));
        }
    }
}

impl Said {
    #[track_caller]
    pub fn expect(self, code: i32) -> Said {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    /// The address in a banner.
    #[track_caller]
    pub fn addr(&self) -> SocketAddr {
        let line = self.stdout.lines().find_map(|line| line.strip_prefix("listening http://"));
        line.and_then(|rest| rest.trim_end_matches('/').parse().ok()).unwrap_or_else(|| panic!("no address: {self:#?}"))
    }
}

/// A log that is followed; ended on drop.
pub struct Follow {
    child: Child,
    text: Arc<Mutex<Vec<u8>>>,
}

impl Follow {
    #[track_caller]
    pub fn wait_for(&self, what: &str) {
        wait_until(what, || String::from_utf8_lossy(&self.text.lock().expect("text")).contains(what));
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
