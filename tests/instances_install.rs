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
        ("share/systemd/user/ucaffeine@.service", "--name=%i"),
    ] {
        let text = fs::read_to_string(prefix.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(text.contains(part), "{path} lacks {part}");
    }
    assert_eq!(files(&prefix).len(), 8, "{:?}", files(&prefix));
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

/// By the tool of the system that would run it, where there is one.
#[test]
fn the_unit_is_sound() {
    if support::on_path("systemd-analyze").is_none() {
        return support::not_here("systemd-analyze is not installed");
    }
    let dir = tempfile::tempdir().expect("a folder");
    assert!(run(script().arg(dir.path())).status.success());
    let unit = dir.path().join("share/systemd/user/ucaffeine@.service");
    let verified = run(Command::new("systemd-analyze")
        .args(["--user", "verify", "--man=no"])
        .arg(unit)
        .env("XDG_RUNTIME_DIR", dir.path()));
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
}
