//! The README of a comparison: how it was made, what it shows, and what it does not. Pure.

use std::fmt::Write as _;

use super::super::results::Results;
use super::super::stats;
use super::{lessons, tables, text};
use crate::report::units;

/// The document. `pictures` are the names of the files beside it.
pub(super) fn write(results: &Results, pictures: &[String]) -> String {
    let settings = &results.settings;
    let mut out = format!(
        "# {}: {} side by side, {}\n\n",
        settings.question,
        units::plural(settings.servers.len() as u64, "server"),
        settings.date
    );
    out.push_str(&state(results));
    let _ = write!(out, "## On one screen\n\n{}\n{}\n\n", tables::screen(results), SCREEN_NOTE);
    out.push_str("## Pictures\n\n");
    for name in pictures {
        let _ = write!(out, "![{}]({name})\n\n", alternative(name));
    }
    let _ = write!(out, "## What it teaches\n\n{}\n\n{}\n", TEACHES_NOTE, lessons::all(results));
    let _ = write!(out, "## Model by model\n\n{}\n", lessons::each(results));
    let _ = write!(out, "## How it was made\n\n{}\n", made(results));
    let _ = write!(out, "## What it does not show\n\n{}\n", not_shown(results));
    let _ = write!(out, "## What is not valid\n\n{}", lessons::doubts(results));
    out
}

const SCREEN_NOTE: &str = "Medians; the best of each column is bold (`floor` is the limit, and no server). \u{2265}: the generator \
was the limit. (3 of 5): so many rounds are valid. ~~Struck out~~: none is. All cells with their intervals: [tables.md](tables.md); \
as numbers: [figures.csv](figures.csv) and, round by round, [rounds.csv](rounds.csv).";

const TEACHES_NOTE: &str = "A ratio is the median of the ratios of the rounds, with its interval; it is called a difference only \
if the whole interval is on one side of 1. The sentences are chosen by the figures.";

/// Says first what a reader must know: that it is not whole, or has too few rounds.
fn state(results: &Results) -> String {
    let settings = &results.settings;
    let wanted = settings.first_part().len() + settings.second_part().len();
    let there: usize = results.rows().map(|(_, _, row)| row.rounds.len()).sum();
    let mut out = String::new();
    if there < wanted {
        let _ = write!(out, "**Not whole:** {there} of {wanted} measurements are there.\n\n");
    }
    if settings.rounds < ROUNDS_MIN {
        let rounds = units::plural(u64::from(settings.rounds), "round");
        let _ = write!(
            out,
            "**A first look:** {rounds}; no interval of so few says anything, and no difference is claimed.\n\n"
        );
    }
    out
}

/// With fewer, the smallest and the largest round hold the median too seldom.
const ROUNDS_MIN: u32 = 5;

fn made(results: &Results) -> String {
    let settings = &results.settings;
    let host = &settings.host;
    let list = |cpus: &[usize]| cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    let machine = if host.virtual_machine { "a virtual machine" } else { "a machine" };
    let mut out = format!("    {}\n\n", settings.command_line.join(" "));
    let coverage = stats::estimate(&vec![1.0; settings.rounds as usize]).map_or(0.0, |one| one.coverage);
    let _ = writeln!(
        out,
        "On {machine} with {} ({}), {} of memory, Linux {}, TCP congestion control {}, over loopback.\n",
        units::plural(u64::from(host.cores), "CPU"),
        host.cpu_model,
        units::bytes(host.memory_bytes as f64),
        host.kernel,
        settings.congestion_control
    );
    let lines = [
        format!(
            "Each of {} is a server started for it, on CPU {}; the generator is on CPU {}. The server's whole process tree is \
             ended after it.",
            units::plural((settings.first_part().len() + settings.second_part().len()) as u64, "measurement"),
            list(&settings.server_cpus),
            list(&settings.generator_cpus)
        ),
        format!(
            "{} of {} s after {} s of warm-up. A round goes through all cells, and a cell through all servers in the order of \
             a row of a Latin square, another one each round.",
            units::plural(u64::from(settings.rounds), "round"),
            text::digits(settings.seconds),
            text::digits(settings.warmup)
        ),
        match coverage > 0.0 {
            false => String::from("A figure is that of the one round."),
            true => format!(
                "A figure is the median of its rounds; its interval is a pair of order statistics, which holds the true median in \
             {} of cases, whatever the distribution.",
                units::share(coverage)
            ),
        },
        String::from(
            "Capacity is a closed loop. Response times are of an open loop with evenly spaced arrivals, from the moment a \
             request was due; all servers are offered the same rates, shares of what the slowest of them can do. Ramps have \
             Poisson arrivals.",
        ),
        String::from(
            "CPU is that of the server's process tree, kernel included, over the answers. For programs it is the busy time of \
             the server's core, since a server that lets the kernel reap its children is not charged for them.",
        ),
        String::from(
            "A server that closes, or that holds a worker per connection, is driven with a connection per request where \
             keep-alive would starve it; its name has a star in the tables then.",
        ),
        String::from(
            "Programs are compiled without a C library. The models and `ucaffeine` run them as `nph-` programs, which write the \
             whole response; the others as CGI programs, whose head they complete. Both say how long they are, and each \
             request has a connection of its own.",
        ),
    ];
    lines.iter().for_each(|line| {
        let _ = writeln!(out, "- {line}");
    });
    let _ = writeln!(out, "\n| server | version |\n| --- | --- |");
    for entrant in &settings.servers {
        let version =
            entrant.version_found.as_deref().unwrap_or(if entrant.program_crc32.is_some() { "" } else { "not found" });
        let _ = writeln!(out, "| {} | {version} |", entrant.subject.name);
    }
    let _ = writeln!(out, "\n| cell | load |\n| --- | --- |");
    for (name, title) in lessons::cell_titles(results) {
        let _ = writeln!(out, "| {name} | {title} |");
    }
    let _ = writeln!(
        out,
        "\n`raw/` has a file for each measurement, which `loadgen show` reads; `hgrm/` has the response times of all valid \
         rounds by percentile; [settings.json](settings.json) has the commands and configurations. Tables, pictures and this \
         text are made from them: `loadgen bench --render DIR`."
    );
    out
}

fn not_shown(results: &Results) -> String {
    let mut lines = vec![
        String::from(
            "A network card: all of it is loopback, where the generator's CPU does a part of the server's work.",
        ),
        String::from("More than one core, unless the servers had several: see above."),
        String::from(
            "Latency at capacity: a closed loop waits for the server, so what it would say of latency is left out.",
        ),
        String::from("Files that are not in the page cache; slow clients; anything over TLS."),
        String::from(
            "`ucaffeine` caches files and descriptors, as nginx was told to; the models open a file for each request.",
        ),
    ];
    if tables::has(results, "file-10m") {
        lines.push(String::from(
            "The whole price of long files in the column of CPU: what the kernel sends from a timer or an acknowledgement is \
             charged to no process. The time of the core has it.",
        ));
    }
    let mut out: String = lines.iter().map(|line| format!("- {line}\n")).collect();
    let left_out = tables::left_out(results);
    if !left_out.is_empty() {
        let _ = write!(out, "\n{}\n", left_out.join("\n"));
    }
    out
}

fn alternative(name: &str) -> String {
    let stem = name.rsplit('/').next().unwrap_or(name).trim_end_matches(".svg");
    match stem {
        "knee" => String::from("p99 of the response time over the offered rate"),
        "cpu" => String::from("Server CPU for an answer"),
        "connections" => String::from("Capacity over connections"),
        stem => format!("Response time by percentile, {}", stem.trim_start_matches("spectrum-")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::results::tests::settings;
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn it_says_how_it_was_made_what_it_shows_and_what_not() {
        let text = write(&sample(), &[String::from("pictures/cpu.svg")]);
        for part in [
            "## On one screen",
            "![Server CPU for an answer](pictures/cpu.svg)",
            "## What it teaches",
            "## Model by model",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(text.contains("93.8% of cases") && text.contains("loadgen bench"), "{text}");
        assert!(text.contains("Linux 6.18.44") && text.contains("## What is not valid"), "{text}");
        assert!(!text.contains("**A first look:**"), "five rounds are evidence");
    }

    #[test]
    fn what_is_not_whole_or_has_few_rounds_says_so_first() {
        let text = write(&Results::empty(settings(&["nginx", "ucaffeine"], &["close"], 3)), &[]);
        let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part}: {text}"));
        assert!(at("**Not whole:** 0 of 24 measurements") < at("## On one screen"));
        assert!(at("**A first look:** 3 rounds") < at("## On one screen"));
        assert!(text.contains("Not measured here."));
    }
}
