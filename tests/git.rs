//! The program that CGI is most often wanted for: git's own server side, `git http-backend`, behind its own client.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use support::{Server, Site, noise, run, skip_or_fail};

const PUSHED_BYTES: usize = 5 << 20;

#[test]
fn clone_shallow_clone_push_and_fetch() {
    let Some(backend) = backend() else { return };
    let site = Site::new().file("index.html", "home");
    let work = Site::new();
    let bare = site.at("repos/project.git");
    seed(&work, &bare);

    let mount = format!("/git/={}", backend.display());
    let root = format!("GIT_PROJECT_ROOT={}", site.at("repos").display());
    let server = Server::start(&site, ["--cgi", &mount, "--cgi-env", &root, "--cgi-env", "GIT_HTTP_EXPORT_ALL=1"]);
    let url = format!("http://{}/git/project.git", server.addr);

    // The whole history, and only its end.
    git(work.root(), &["clone", "-q", &url, "whole"]);
    git(work.root(), &["clone", "-q", "--depth", "1", &url, "shallow"]);
    let (whole, shallow) = (work.at("whole"), work.at("shallow"));
    assert_eq!(git(&whole, &["rev-list", "--count", "HEAD"]), "20");
    assert_eq!(git(&shallow, &["rev-list", "--count", "HEAD"]), "1");
    assert_eq!(git(&whole, &["rev-parse", "HEAD^{tree}"]), git(&shallow, &["rev-parse", "HEAD^{tree}"]));
    assert_eq!(std::fs::read(whole.join("number.txt")).expect("a file"), b"20\n");

    // Beyond http.postBuffer git does not know the length in advance: it sends the pack in chunks.
    let content = noise(PUSHED_BYTES);
    std::fs::write(whole.join("noise.bin"), &content).expect("write");
    git(&whole, &["add", "noise.bin"]);
    git(&whole, &["commit", "-q", "-m", "five MiB that do not compress"]);
    git(&whole, &["-c", "http.postBuffer=65536", "push", "-q", "origin", "HEAD"]);
    assert_eq!(git(&bare, &["rev-parse", "HEAD"]), git(&whole, &["rev-parse", "HEAD"]));
    git(&bare, &["fsck", "--strict"]);

    git(&shallow, &["pull", "-q"]);
    assert!(std::fs::read(shallow.join("noise.bin")).expect("the pushed file") == content, "fetched as it was pushed");
    git(work.root(), &["clone", "-q", &url, "again"]);
    assert!(std::fs::read(work.at("again/noise.bin")).expect("the pushed file") == content, "cloned as it was pushed");
    git(&work.at("again"), &["fsck", "--strict"]);

    // The old protocol asks in another way: several POSTs with more than one round, and compressed bodies.
    git(work.root(), &["-c", "protocol.version=0", "clone", "-q", &url, "old-protocol"]);
    assert_eq!(git(&work.at("old-protocol"), &["rev-parse", "HEAD"]), git(&whole, &["rev-parse", "HEAD"]));

    // What is not there is an error, not a hang.
    let absent = command(work.root(), &["clone", "-q", &format!("http://{}/git/absent.git", server.addr), "absent"]);
    assert!(!run(&mut { absent }).status.success());
    assert_eq!(server.get("/").expect(200).text(), "home");
    server.stop();
}

/// A bare repository with twenty commits, that takes pushes over HTTP.
fn seed(work: &Site, bare: &Path) {
    let bare_path = bare.to_str().expect("UTF-8");
    git(work.root(), &["init", "-q", "--bare", "-b", "main", bare_path]);
    git(bare, &["config", "http.receivepack", "true"]);
    git(work.root(), &["init", "-q", "-b", "main", "seed"]);
    let seed = work.at("seed");
    for i in 1..=20 {
        std::fs::write(seed.join("number.txt"), format!("{i}\n")).expect("write");
        git(&seed, &["add", "number.txt"]);
        git(&seed, &["commit", "-q", "-m", &format!("number {i}")]);
    }
    git(&seed, &["push", "-q", bare_path, "main"]);
}

/// Where `git http-backend` is; `None`, and SKIPPED, where there is none.
fn backend() -> Option<PathBuf> {
    if !skip_or_fail("git") {
        return None;
    }
    let dir = run(Command::new("git").arg("--exec-path")).stdout;
    let backend = Path::new(String::from_utf8_lossy(&dir).trim_end()).join("git-http-backend");
    skip_or_fail(backend.to_str()?).then_some(backend)
}

/// git, with nothing of the user's configuration and no questions asked.
fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.current_dir(dir).args(args);
    command.env("HOME", dir).env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
    command
        .env("GIT_TERMINAL_PROMPT", "0")
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .env_remove("GIT_INDEX_FILE");
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_NAME"), "A Tester").env(format!("GIT_{role}_EMAIL"), "tester@example.test");
    }
    for proxy in ["http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env_remove(proxy);
    }
    command
}

/// Runs git to its end; returns what it wrote, without the last line end.
#[track_caller]
fn git(dir: &Path, args: &[&str]) -> String {
    let output = run(&mut command(dir, args));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {args:?} in {}: {}\n{said}", dir.display(), output.status);
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}
