//! The gate's command line, with the real server: what it does and how it ends, and nothing about what it finds of time.

use std::path::Path;
use std::process::{Command, Output};

fn gate(folder: &Path, words: &[&str]) -> Output {
    let mut loadgen = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    loadgen.current_dir(folder).arg("gate").args(words).output().expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn assert_exits(output: &Output, code: i32, part: &str) {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}\n{err}");
    assert!(out.contains(part) || err.contains(part), "{part}\n{out}\n{err}");
}

#[test]
fn what_makes_no_sense_exits_with_2_and_says_why() {
    let folder = tempfile::tempdir().expect("a folder");
    for (words, why) in [
        (&[][..], "Usage"),
        (&["ab"], "--base"),
        (&["ab", "--base", "x", "--base-binary", "y"], "cannot be used with"),
        (&["selftest", "--only", "all"], "aa"),
        (&["calibrate", "--time", "1us"], "between 50ms"),
        (&["calibrate", "--scenario", "none"], "keepalive"),
        (&["bless"], "--reason"),
    ] {
        assert_exits(&gate(folder.path(), words), 2, why);
    }
    if cfg!(debug_assertions) {
        assert_exits(&gate(folder.path(), &["selftest"]), 2, "--release");
    }
}

#[test]
fn what_is_not_there_is_said_in_one_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let nowhere = ["--base-binary", "/nowhere/a", "--head-binary", "/nowhere/b", "--unoptimised"];
    let output = gate(folder.path(), &[&["ab"], &nowhere[..]].concat());
    // On a machine with one CPU it does not come so far.
    assert!(matches!(output.status.code(), Some(1)), "{output:?}");
    let said = text(&output.stderr);
    assert!(said.contains("/nowhere/a cannot be started") || said.contains("two CPUs"), "{said}");
    let output = gate(folder.path(), &["counters", "--program", "/nowhere/c"]);
    assert_exits(&output, 1, "/nowhere/c");
}

/// A program that says where it listens and is none of ours: the gate ends it, leaves no folder behind, and says what it saw.
#[test]
fn a_server_that_answers_nobody_is_a_failure_and_is_ended() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("server");
    // Where nobody listens: no port that was free a moment ago is as sure as one that needs privileges and has no use any more.
    std::fs::write(
        &program,
        format!(
            "#!/bin/sh\necho $$ >{}/pid\necho listening http://127.0.0.1:1/\nexec sleep 1000\n",
            folder.path().display()
        ),
    )
    .expect("written");
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("executable");
    let path = program.to_str().expect("UTF-8");
    let output = gate(folder.path(), &["ab", "--base-binary", path, "--head-binary", path, "--unoptimised"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = text(&output.stderr);
    if said.contains("two CPUs") {
        return eprintln!("skipped: {said}");
    }
    assert!(said.contains("cannot connect"), "{said}");
    let pid = std::fs::read_to_string(folder.path().join("pid")).expect("it was started");
    assert!(!Path::new("/proc").join(pid.trim()).exists(), "{pid} is still there");
}
