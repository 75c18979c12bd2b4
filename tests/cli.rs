//! The command line from outside: help, versions, refusals and exit codes. Knows nothing of the code.

use std::fs;
use std::path::Path;
use std::time::Duration;

use assert_cmd::Command;

/// The binary, in a folder of its own and with no variable of ours.
fn ucaffeine(folder: &Path) -> Command {
    let mut command = Command::cargo_bin("ucaffeine").unwrap();
    // A server that starts although it should refuse ends here, and its test fails.
    command.current_dir(folder).env_clear().timeout(Duration::from_secs(60));
    command
}

struct Answer {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn answer(folder: &Path, arguments: &[&str]) -> Answer {
    let output = ucaffeine(folder).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Answer { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// What is refused, with which code, and what the one line about it says.
fn refused(folder: &Path, arguments: &[&str], code: i32, says: &str) {
    let got = answer(folder, arguments);
    assert_eq!(got.code, Some(code), "{arguments:?}: {}", got.stderr);
    assert!(got.stderr.contains(says), "{arguments:?} should say {says:?}: {}", got.stderr);
    assert_eq!(got.stdout, "", "{arguments:?}");
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn help_is_an_answer() {
    let folder = folder();
    let short = answer(folder.path(), &["-h"]);
    let long = answer(folder.path(), &["--help"]);
    assert_eq!((short.code, long.code), (Some(0), Some(0)));
    assert!(short.stdout.contains("Examples:") && !short.stdout.contains("--idle-ms-max"), "limits are for --help");
    for part in ["--idle-ms-max <TIME>", "[default: 64KiB]", "UCAFFEINE_HEAD_BYTES_MAX", "Exit codes:"] {
        assert!(long.stdout.contains(part), "{part}");
    }
    for text in [short.stdout, long.stdout] {
        assert!(text.lines().all(|line| line.chars().count() <= 100), "a line is too wide:\n{text}");
    }
}

#[test]
fn version_is_one_line() {
    let folder = folder();
    for flag in ["-V", "--version"] {
        let got = answer(folder.path(), &[flag]);
        assert_eq!((got.code, got.stdout), (Some(0), format!("ucaffeine {}\n", env!("CARGO_PKG_VERSION"))));
    }
}

#[test]
fn flags_that_do_not_exist_are_usage_errors() {
    let folder = folder();
    refused(folder.path(), &["--prot", "1"], 2, "--port");
    for flag in ["--demon", "--names", "--halt"] {
        refused(folder.path(), &[flag], 2, "unexpected argument");
    }
    refused(folder.path(), &["a", "b"], 2, "unexpected argument");
    refused(folder.path(), &[".", "--path", "."], 2, "cannot be used with");
    refused(folder.path(), &["--no-cgi", "--cgi", "/a=."], 2, "cannot be used with");
}

#[test]
fn the_last_flag_of_a_name_wins() {
    let folder = folder();
    let got = answer(folder.path(), &["--explain", "--idle-ms-max", "1s", "--idle-ms-max", "2s"]);
    let line = got.stdout.lines().find(|line| line.trim_start().starts_with("idle-ms-max")).unwrap_or_default();
    assert!(got.code == Some(0) && line.contains("2s") && !line.contains("1s"), "{line}\n{}", got.stderr);
}

#[test]
fn values_that_cannot_be_read_are_usage_errors() {
    let folder = folder();
    for (arguments, says) in [
        (["--port", "99999"], "ucaffeine: --port 99999: not a port; 0 to 65535"),
        (["--port", "tcp"], "--port tcp: not a port"),
        (["--bind", "localhost"], "--bind localhost: not an address; write 127.0.0.1"),
        (["--bind", "unix:"], "an empty path"),
        (["--cores", "0"], "1 to 1024, or auto"),
        (["--engine", "urign"], "did you mean uring?"),
        (["--head-bytes-max", "64KB"], "--head-bytes-max 64KB: not a size"),
        (["--idle-ms-max", "0"], "out of bounds; 1ms to"),
        (["--idle-ms-max", "none"], "not a time"),
        (["--fields-max", "257"], "1 to 256"),
        (["--cgi", "/usr/bin/env"], "needs PREFIX=TARGET"),
        (["--cgi", "git=/usr/bin/env"], "must begin with a slash"),
        (["--cgi", "/a/../b=."], "segment"),
        (["--cgi", "/a%20b=."], "decoded"),
        (["--cgi-env", "1A=x"], "letters, digits and underscores"),
        (["--cgi-env", "HTTP_PROXY=x"], "only the server sets it"),
        (["--cgi-env", "QUERY_STRING=x"], "only the server sets it"),
    ] {
        refused(folder.path(), &arguments, 2, says);
    }
}

#[test]
fn every_mistake_is_told_at_once_and_on_one_line_each() {
    let folder = folder();
    let got = answer(folder.path(), &["--port", "x", "--cores", "y", "no\nwhere"]);
    assert_eq!(got.code, Some(2));
    assert_eq!(got.stderr.lines().count(), 3, "{}", got.stderr);
    assert!(got.stderr.lines().all(|line| line.starts_with("ucaffeine: ")), "{}", got.stderr);
}

#[test]
fn a_folder_that_cannot_be_served_is_a_configuration_error() {
    let folder = folder();
    fs::write(folder.path().join("file"), "x").unwrap();
    refused(folder.path(), &["nowhere"], 3, "ucaffeine: DIR nowhere: no such file or folder");
    refused(folder.path(), &["--path", "nowhere"], 3, "--path nowhere: no such");
    refused(folder.path(), &["file"], 3, "not a folder");
    refused(folder.path(), &["file/below"], 3, "DIR file/below");
}

#[test]
fn a_program_that_cannot_be_run_is_a_configuration_error() {
    let folder = folder();
    fs::write(folder.path().join("script"), "#!/bin/sh\n").unwrap();
    refused(folder.path(), &["--cgi", "/a=nowhere"], 3, "--cgi /a=nowhere: no such file");
    refused(folder.path(), &["--cgi", "/a=script"], 3, "not executable; chmod +x");
    refused(folder.path(), &["--cgi", "/a=."], 3, "source would be served");
    refused(folder.path(), &["--cgi-env", "NOT_SET_ANYWHERE"], 3, "write NOT_SET_ANYWHERE=VALUE");
    refused(folder.path(), &["--cgi-env", "/git:A=b"], 3, "nothing is mounted at /git");
}

#[test]
fn a_secret_is_never_shown() {
    let folder = folder();
    let twice = ["--cgi-env", "KEY=hush", "--cgi-env", "KEY=hush"];
    refused(folder.path(), &twice, 2, "KEY is set already");
    for arguments in [&twice[..], &["--explain", "--cgi-env", "KEY=hush"]] {
        let got = answer(folder.path(), arguments);
        assert!(!got.stderr.contains("hush") && !got.stdout.contains("hush"), "{}{}", got.stdout, got.stderr);
    }
}

#[test]
fn the_configuration_file_must_be_there() {
    let folder = folder();
    refused(folder.path(), &["--config", "none.toml"], 3, "ucaffeine: none.toml: cannot be read: No such file");
    refused(folder.path(), &["-c", "/dev/zero"], 3, "longer than");
    refused(folder.path(), &["-c", "."], 3, "cannot be read");
}

#[test]
fn a_closed_pipe_is_no_error() {
    let folder = folder();
    let program = assert_cmd::cargo::cargo_bin("ucaffeine");
    let script = format!("'{}' --explain | true; echo \"${{PIPESTATUS[0]}}\"", program.display());
    let output = std::process::Command::new("bash").current_dir(folder.path()).args(["-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0\n", "{}", String::from_utf8_lossy(&output.stderr));
}
