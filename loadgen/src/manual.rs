//! The manual page loadgen(1), held to the command line that there is.

#[path = "../../tests/roff/mod.rs"]
mod roff;

use std::collections::BTreeSet;
use std::path::Path;

use clap::Command;

use crate::app::command;
use roff::Page;

#[test]
fn the_page_of_the_program_is_as_the_command_line_is() {
    page().hold(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/loadgen.1"));
}

/// What is written by hand must not name what does not exist.
#[test]
fn every_flag_that_the_text_names_exists() {
    fn flags(command: &Command) -> BTreeSet<String> {
        let own = command.get_arguments().flat_map(|arg| arg.get_long_and_visible_aliases().unwrap_or_default());
        own.map(str::to_owned).chain(command.get_subcommands().flat_map(flags)).collect()
    }
    let known = flags(&command());
    for text in [SYNOPSIS, DESCRIPTION, EXAMPLES] {
        for flag in text.split("--").skip(1) {
            let name: String = flag.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
            assert!(known.contains(&name), "--{name} is named, and does not exist");
        }
    }
}

fn page() -> Page {
    let page = Page::new(
        "loadgen",
        1,
        env!("CARGO_PKG_VERSION"),
        "load an HTTP/1.1 server, and say how far to believe the result",
    )
    .section("SYNOPSIS")
    .text(SYNOPSIS)
    .section("DESCRIPTION")
    .text(DESCRIPTION)
    .section("OPTIONS")
    .options(&command())
    .section("SUBCOMMANDS")
    .subcommands("loadgen", &command())
    .section("EXIT STATUS");
    let page = EXIT_STATUS.iter().fold(page, |page, (code, meaning)| page.term(&format!("`{code}`"), meaning));
    page.section("EXAMPLES").text(EXAMPLES).section("SEE ALSO").text("`ucaffeine`(1), `io_uring`(7)")
}

const SYNOPSIS: &str = "\
`loadgen` [<flags>] [<URL>]

`loadgen` <subcommand> [<flags>] <FILE> ...";

const DESCRIPTION: &str = "\
`loadgen` sends requests to an HTTP/1.1 server over many connections, from one `io_uring`(7) a thread, and reports how many were \
answered, how fast, and whether the report can be believed.

Without `--rate` or `--ramp` it is a closed loop: each connection sends when it has its answer, and what is measured is capacity. \
With one of them it is an open loop: requests are due by a schedule that does not wait for answers, as users do not, and the time that a \
request waits because the server stalls is in its response time.

A run is judged before anything is printed: errors, the rate that was offered and not achieved, how late requests were sent, the \
generator's own CPU time. One that fails is said to be invalid.";

const EXIT_STATUS: [(&str, &str); 5] = [
    ("0", "A valid run, or a generator-limited one."),
    ("1", "The run failed: nobody listens, no io_uring, a file that cannot be written."),
    ("2", "Wrong usage."),
    ("3", "The SLO is breached; with `--find-max`, no rate keeps it."),
    ("4", "The run is invalid, or has too few samples to say anything of the SLO."),
];

const EXAMPLES: &str = "\
64 connections, 10 seconds after one of warm-up; and ten thousand connections, from CPU 1:

    loadgen http://127.0.0.1:8080/
    loadgen --conns 10k --pin 1

An open loop; and the highest rate that keeps a promise:

    loadgen --rate 50k --arrival poisson
    loadgen --find-max --slo 'p99<2ms'

Two saved runs, compared:

    loadgen --json a.json
    loadgen --json b.json
    loadgen diff a.json b.json";
