//! Runs docs/recipes.md: the commands on that page, with the real programs.

mod support;

use std::path::Path;
use std::process::Command;

use support::{Launch, Site, run, skip_or_fail};

const PAGE: &str = include_str!("../docs/recipes.md");

#[test]
fn git_http_backend() {
    follow("git, to clone and to push", &["git"]);
}

#[test]
fn cgit() {
    follow("cgit", &["/usr/lib/cgit/cgit.cgi", "git", "curl"]);
}

#[test]
fn php_cgi() {
    follow("PHP", &["/usr/bin/php-cgi", "curl"]);
}

#[test]
fn perl_with_cgi_pm() {
    // A module and no program: where Debian's package puts it.
    follow("Perl, with CGI.pm", &["/usr/share/perl5/CGI.pm", "/usr/bin/perl", "curl"]);
}

#[test]
fn python() {
    follow("Python, as `http.server --cgi` ran it", &["python3", "curl"]);
}

#[test]
fn every_recipe_is_followed() {
    let source = include_str!("recipes.rs");
    for heading in PAGE.lines().filter_map(|line| line.strip_prefix("## ")) {
        assert!(source.contains(&format!("follow(\"{heading}\"")), "no test follows {heading:?}");
    }
}

/// Does what the page says under this heading.
#[track_caller]
fn follow(heading: &str, programs: &[&str]) {
    if !programs.iter().all(|program| skip_or_fail(program)) {
        return;
    }
    let (_, section) = PAGE.split_once(&format!("\n## {heading}\n")).expect("the page has the heading");
    let section = section.split("\n## ").next().expect("a section");
    let (here, there) = (Site::new(), Site::new());

    // `ucaffeine` is the binary under test, on a port of its own.
    let ours = format!("ucaffeine() {{ exec '{}' \"$@\" --port 0; }}\n", Launch::binary().display());
    let server = shell(here.root(), &(ours + block(section, "sh server")));
    let server = Launch::bare(server, here.root()).start();

    let typed = block(section, "sh client").replace("127.0.0.1:8080", &server.addr.to_string());
    let output = run(&mut shell(there.root(), &typed));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{said}{errors}\nthe server said:\n{}", output.status, server.output());
    let promised: Vec<&str> = block(section, "text answer").lines().map(str::trim_end).collect();
    let got: Vec<&str> = said.lines().map(str::trim_end).collect();
    assert_eq!(got, promised, "{errors}\nthe server said:\n{}", server.output());
    server.stop();
}

/// The text of the block with this info string.
#[track_caller]
fn block<'s>(section: &'s str, info: &str) -> &'s str {
    let (_, rest) = section.split_once(&format!("\n```{info}\n")).unwrap_or_else(|| panic!("no block {info:?}"));
    rest.split_once("\n```\n").or_else(|| rest.split_once("\n```")).expect("a block's end").0
}

/// A shell that stops at the first failure, with nothing of the user's configuration.
fn shell(dir: &Path, script: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-euc", script]).current_dir(dir);
    shell
        .env("HOME", dir)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0");
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "http_proxy", "all_proxy", "ALL_PROXY"] {
        shell.env_remove(variable);
    }
    shell
}
