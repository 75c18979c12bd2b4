//! `scripts/install.sh`: what it installs works, and what it uninstalls is gone.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{Launch, run};

fn script() -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/install.sh"));
    command.env("UCAFFEINE_BINARY", Launch::binary());
    command
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn what_is_installed_works_and_is_removed_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let prefix = dir.path().join("a prefix");
    let installed = run(script().arg(&prefix));
    assert!(installed.status.success(), "{installed:?}");
    // Twice is as good as once.
    assert!(run(script().arg(&prefix)).status.success());
    let version = run(Command::new(prefix.join("bin/ucaffeine")).arg("--version"));
    assert!(version.status.success(), "{version:?}");
    for (path, part) in [
        ("share/man/man1/ucaffeine.1", ".TH \"UCAFFEINE\" \"1\""),
        ("share/man/man1/loadgen.1", ".TH \"LOADGEN\" \"1\""),
        ("share/man/man5/ucaffeine.toml.5", ".TH \"UCAFFEINE.TOML\" \"5\""),
        ("share/bash-completion/completions/ucaffeine", "--list-instances"),
        ("share/zsh/site-functions/_ucaffeine", "--list-instances"),
        ("share/fish/vendor_completions.d/ucaffeine.fish", "list-instances"),
        ("share/systemd/user/ucaffeine@.service", "bin/ucaffeine\" --name=%i"),
        ("lib/systemd/system/ucaffeine.service", "bin/ucaffeine\" --config"),
        ("lib/systemd/system/ucaffeine.socket", "ListenStream="),
    ] {
        let text = fs::read_to_string(prefix.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(text.contains(part), "{path} lacks {part}");
    }
    assert_eq!(files(&prefix).len(), 10, "{:?}", files(&prefix));
    assert!(run(script().arg("--uninstall").arg(&prefix)).status.success());
    assert_eq!(files(&prefix), Vec::<PathBuf>::new());
    assert_eq!(run(script().arg("--what")).status.code(), Some(2));
    assert_eq!(run(script().args(["a", "b"])).status.code(), Some(2));
}

#[test]
fn the_completions_can_be_read_by_their_shell() {
    let dir = tempfile::tempdir().expect("a folder");
    assert!(run(script().arg(dir.path())).status.success());
    let bash = run(Command::new("bash").arg("-n").arg(dir.path().join("share/bash-completion/completions/ucaffeine")));
    assert!(bash.status.success(), "{bash:?}");
}

/// The units, as they are installed.
const UNITS: [(&str, &str); 3] = [
    ("--user", "share/systemd/user/ucaffeine@.service"),
    ("--system", "lib/systemd/system/ucaffeine.service"),
    ("--system", "lib/systemd/system/ucaffeine.socket"),
];

/// `Key=value` lines with the section that each is in.
fn settings(unit: &str) -> Vec<(String, String, String)> {
    let mut section = String::new();
    let mut settings = Vec::new();
    for line in unit.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name.to_owned();
            continue;
        }
        let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("neither a section nor a setting: {line}"));
        assert!(key.bytes().all(|byte| byte.is_ascii_alphanumeric()) && !value.is_empty(), "{line}");
        settings.push((section.clone(), key.to_owned(), value.to_owned()));
    }
    settings
}

/// As far as it can be known without systemd: what the server relies on is there, and the command lines are understood.
#[test]
fn the_units_say_what_the_server_relies_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let prefix = dir.path().join("a prefix");
    assert!(run(script().arg(&prefix)).status.success());
    for (_, path) in UNITS {
        let text = fs::read_to_string(prefix.join(path)).expect("a unit");
        assert!(!text.contains("@BINARY@"), "{path}");
        let settings = settings(&text);
        let of = |key: &str| settings.iter().find(|(_, known, _)| known == key).map(|(_, _, value)| value.as_str());
        assert!(
            settings.iter().all(|(section, ..)| ["Unit", "Service", "Socket", "Install"].contains(&section.as_str()))
        );
        if !path.ends_with(".service") {
            continue;
        }
        assert_eq!((of("Type"), of("NotifyAccess"), of("KillMode")), (Some("notify"), Some("main"), Some("mixed")));
        let filter = of("SystemCallFilter").unwrap_or("@system-service");
        assert_eq!(filter, "@system-service", "a narrower one may lack io_uring");
        assert_eq!(of("MemoryDenyWriteExecute"), None, "it ends programs that compile");
        let start = of("ExecStart").expect("a command");
        let arguments = start.split_once("bin/ucaffeine\" ").expect("our binary").1.replace("%i", "x");
        let binary = start.split('"').nth(1).expect("quoted");
        let mut command = Command::new(binary);
        command.args(arguments.split(' ')).arg("--explain").env("XDG_CONFIG_HOME", dir.path()).env("HOME", dir.path());
        let explained = run(&mut command);
        let why = String::from_utf8_lossy(&explained.stderr).into_owned();
        // The file is not on this machine; every flag is known.
        assert!(explained.status.success() || why.contains("/etc/ucaffeine.toml: cannot be read"), "{why}");
    }
}

/// By the tool of the system that would run them, where there is one.
#[test]
fn the_units_are_sound() {
    if support::on_path("systemd-analyze").is_none() {
        return support::not_here("systemd-analyze is not installed");
    }
    let dir = tempfile::tempdir().expect("a folder");
    assert!(run(script().arg(dir.path())).status.success());
    for (whose, path) in UNITS {
        let verify = ["verify", "--man=no", "--recursive-errors=no", whose];
        let mut command = Command::new("systemd-analyze");
        command.args(verify).arg(dir.path().join(path)).env("XDG_RUNTIME_DIR", dir.path());
        let verified = run(&mut command);
        let said = String::from_utf8_lossy(&verified.stderr);
        // What it says about other units of this machine, or about the machine, is not for this test to judge.
        let about_ours = said.lines().find(|line| line.contains("ucaffeine"));
        assert_eq!(about_ours, None, "{path}: {said}");
    }
}

/// What the filter of the unit lets through has to hold what the server cannot do without.
#[test]
fn the_filter_lets_io_uring_through() {
    if support::on_path("systemd-analyze").is_none() {
        return support::not_here("systemd-analyze is not installed");
    }
    let mut allowed = Vec::new();
    let mut groups = vec!["@system-service".to_owned()];
    while let Some(group) = groups.pop() {
        let listed = run(Command::new("systemd-analyze").args(["syscall-filter", &group]));
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        for name in listed.lines().skip(1).map(str::trim).filter(|name| !name.is_empty() && !name.starts_with('#')) {
            if name.starts_with('@') { groups.push(name.to_owned()) } else { allowed.push(name.to_owned()) }
        }
    }
    if allowed.is_empty() {
        return support::not_here("systemd-analyze lists no filters");
    }
    let needed = [
        "io_uring_setup",
        "io_uring_enter",
        "io_uring_register",
        "signalfd4",
        "eventfd2",
        "openat2",
        "inotify_init1",
        "sched_setattr",
        "clone3",
        "execve",
        "waitid",
        "pidfd_open",
        "pidfd_send_signal",
        "splice",
        "sendfile",
        "flock",
        "memfd_create",
        "prctl",
        "prlimit64",
        "setpriority",
    ];
    let missing: Vec<&str> = needed.into_iter().filter(|name| !allowed.iter().any(|known| known == name)).collect();
    assert_eq!(missing, Vec::<&str>::new());
}
