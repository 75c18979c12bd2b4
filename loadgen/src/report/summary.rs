//! The summary of a run in a terminal: how far to believe it, what was measured and how, and what went wrong.

use std::fmt::Write as _;

use super::spectrum::{self, Series};
use super::style::{Colour, Style, Table, shorten};
use super::units::{self, plural};
use crate::record::{ErrorKind, Hist, LoadModel, Percentile, Run, errno_name, hint};
use crate::verdict::{Outcome, Verdict};

/// URLs in the table; the rest is in the JSON.
const URL_ROWS_MAX: usize = 20;

/// The whole summary, with a line end.
#[must_use]
pub fn summary(run: &Run, style: &Style) -> String {
    let mut out = String::new();
    verdict(&mut out, run, style);
    let sections: [Section; 9] = [load, rates, latencies, own_error, spectrum, urls, errors, resources, machine];
    for section in sections {
        section(&mut out, run, style);
    }
    out
}

type Section = fn(&mut String, &Run, &Style);

/// The first line, and one more for each further reason and for the SLO.
fn verdict(out: &mut String, run: &Run, style: &Style) {
    let (word, colour) = match run.validity.verdict {
        Verdict::Valid => ("valid", Colour::Good),
        Verdict::GeneratorLimited => ("generator-limited", Colour::Doubtful),
        Verdict::Invalid => ("INVALID", Colour::Bad),
    };
    let mut reasons = run.validity.reasons.iter().map(|reason| reason.text.as_str());
    let word = style.paint(colour, word);
    let _ = match reasons.next() {
        Some(reason) => writeln!(out, "{word}: {reason}"),
        None => writeln!(out, "{word}"),
    };
    for reason in reasons {
        style.hanging(out, "    also: ", 10, reason);
    }
    if let Some(slo) = &run.slo {
        let colour = match slo.outcome {
            Outcome::Held => Colour::Good,
            Outcome::CannotSay => Colour::Doubtful,
            Outcome::Breached => Colour::Bad,
        };
        style.hanging(out, &style.paint(colour, slo.word()), slo.word().len() + 2, &format!(": {}", slo.details()));
    }
    if run.validity.verdict == Verdict::GeneratorLimited {
        style.paragraph(out, "    ", "the rate is a lower bound of the server's, and the latencies are upper bounds");
    }
}

fn load(out: &mut String, run: &Run, style: &Style) {
    let (facts, load) = (&run.facts, &run.facts.load);
    let model = match (load.model, &load.schedule) {
        (LoadModel::Closed, _) => String::from("closed loop"),
        (LoadModel::Open, None) => String::from("open loop"),
        (LoadModel::Open, Some(schedule)) => format!("open loop, {schedule}"),
    };
    let mut text = format!(
        "{model}, {}, {}",
        plural(u64::from(load.connections), "connection"),
        plural(u64::from(load.threads), "thread")
    );
    if load.pipeline > 1 {
        let _ = write!(text, ", pipeline {}", load.pipeline);
    }
    let _ = write!(text, "; {} measured", units::duration(facts.window_ns()));
    if facts.warmup_ns > 0 {
        let _ = write!(text, " after {} of warm-up", units::duration(facts.warmup_ns));
    }
    if !run.parts.is_empty() {
        let _ = write!(text, "; {} merged", plural(run.parts.len() as u64, "run"));
    }
    style.paragraph(out, "", &text);
    if let [url] = facts.urls.as_slice() {
        let _ = writeln!(out, "{}", shorten(url, style.width));
    }
}

fn rates(out: &mut String, run: &Run, style: &Style) {
    let measured = &run.measured;
    let answered = format!("{} answered, {}", units::count(measured.responses), plural(measured.errors, "error"));
    let per_second = |bytes: u64| units::bytes(crate::record::per_second(bytes, run.facts.window_ns()));
    let received = format!(
        "{}, of which bodies {}",
        units::bytes(measured.wire_bytes as f64),
        units::bytes(measured.body_bytes as f64)
    );
    let mut rows = vec![
        ("requests", units::rate(run.requests_per_second()), answered),
        ("received", format!("{}/s", per_second(measured.wire_bytes)), received),
    ];
    if let Some(offered) = run.facts.offered_per_second() {
        rows.push(("offered", units::rate(offered), offered_remark(run, offered)));
    }
    let width = rows.iter().map(|(_, number, _)| number.len()).max().unwrap_or(0);
    out.push('\n');
    for (name, number, remark) in rows {
        let padded = format!("{number:>width$}");
        let shown = if name == "requests" { style.paint(Colour::Strong, &padded) } else { padded };
        style.hanging(out, &format!("{name:<10}{shown}   "), 13 + width, &remark);
    }
}

fn offered_remark(run: &Run, offered: f64) -> String {
    let mut remark =
        format!("{} of it achieved", units::share(run.requests_per_second() / offered.max(f64::MIN_POSITIVE)));
    if let Some(last) = run.last_interval_per_second() {
        let _ = write!(remark, "; {} in the last interval", units::rate(last));
    }
    let load = &run.facts.load;
    for (count, what) in [(load.unsent_requests, "never sent"), (load.unanswered_requests, "unanswered at the end")] {
        if count > 0 {
            let _ = write!(remark, "; {} {what}", units::count(count));
        }
    }
    remark
}

fn latencies(out: &mut String, run: &Run, style: &Style) {
    let latency = &run.latency;
    let rows = [
        ("response", &latency.response),
        ("service", &latency.service),
        ("first byte", &latency.first_byte),
        ("connect", &latency.connect),
    ];
    let mut table = Table::default();
    table.row(heads("latency", style));
    for (name, hist) in rows.into_iter().filter(|(_, hist)| !hist.is_empty()) {
        table.row(cells(name, hist, style));
    }
    if latency.response.is_empty() && latency.connect.is_empty() {
        return;
    }
    out.push('\n');
    push_lines(out, table.lines(style.width));
    if latency.response.is_empty() {
        return;
    }
    let response = match run.facts.load.model {
        LoadModel::Open => {
            "response: from the moment that the schedule set for sending, so waiting behind a stall counts"
        }
        LoadModel::Closed => {
            "response: closed-loop round trip, from the moment the connection was free; what a stall kept from being sent is \
             not in it"
        }
    };
    style.paragraph(out, "  ", response);
    style.paragraph(out, "  ", "service: from the actual sending to the last byte");
    let too_few = |percentile: &&Percentile| !percentile.is_known_from(latency.response.count());
    if let Some(percentile) = style.percentiles.iter().find(too_few) {
        let needed = units::count(percentile.samples_min());
        style.paragraph(
            out,
            "  ",
            &format!("-: fewer than 100 answers beyond it; p{percentile} takes {needed} answers"),
        );
    }
    let clamped = latency.response.clamped();
    if clamped > 0 {
        let text = format!("{} took longer than an hour, and are counted as an hour", plural(clamped, "answer"));
        style.paragraph(out, "  ", &text);
    }
}

/// The percentiles asked for, and what is always printed.
fn heads(name: &str, style: &Style) -> Vec<String> {
    let percentiles = style.percentiles.iter().map(|percentile| format!("p{percentile}"));
    let fixed = |name: &str| name.to_owned();
    [fixed(name)].into_iter().chain(percentiles).chain([fixed("max"), fixed("mean")]).collect()
}

fn cells(name: &str, hist: &Hist, style: &Style) -> Vec<String> {
    let known = |percentile: &Percentile| hist.at(*percentile).map_or_else(|| String::from("-"), units::duration);
    let max =
        if hist.clamped() > 0 { format!(">{}", units::duration(hist.max())) } else { units::duration(hist.max()) };
    let percentiles = style.percentiles.iter().map(known);
    [name.to_owned()].into_iter().chain(percentiles).chain([max, units::duration_f64(hist.mean())]).collect()
}

/// The generator's own part in the latencies. Two shares of the samples, each below its bound, leave at least what both
/// leave: so for 99 % of the answers, lag and reap delay together are at most the sum of their p99.5.
fn own_error(out: &mut String, run: &Run, style: &Style) {
    let Some((text, _)) = own_error_bound(run) else { return };
    style.paragraph(out, "  ", &text);
}

/// What the generator itself contributed at most, in words, and in ns for 99 % of the answers if that is known.
pub(crate) fn own_error_bound(run: &Run) -> Option<(String, Option<u64>)> {
    let (lag, reap) = (&run.generator.lag, &run.generator.reap);
    if reap.is_empty() || run.latency.response.is_empty() {
        return None;
    }
    let open = run.facts.load.model == LoadModel::Open;
    let sum = |value: &dyn Fn(&Hist) -> Option<u64>| Some(value(reap)? + if open { value(lag)? } else { 0 });
    let half = Percentile::P99.halfway_to_max();
    let (usual, most) = (sum(&|hist| hist.at(half)), sum(&|hist| Some(hist.max()))?);
    let parts = if open { "sent late, seen late" } else { "seen late" };
    let most = units::duration(most);
    let text = match usual {
        Some(ns) => format!(
            "the generator itself contributed at most {} to 99% of the response times, and {most} to any ({parts})",
            units::duration(ns)
        ),
        None => format!("the generator itself contributed at most {most} to a response time ({parts})"),
    };
    Some((text, usual))
}

fn spectrum(out: &mut String, run: &Run, style: &Style) {
    let response = Series { mark: '*', name: "response", hist: &run.latency.response };
    let service = Series { mark: '.', name: "service", hist: &run.latency.service };
    let lines = match run.facts.load.model {
        LoadModel::Open => spectrum::draw(&[response, service], style.width),
        LoadModel::Closed => spectrum::draw(&[response], style.width),
    };
    if !lines.is_empty() {
        let _ = writeln!(out, "\nlatency by percentile");
        push_lines(out, lines);
    }
}

fn urls(out: &mut String, run: &Run, style: &Style) {
    if run.urls.len() < 2 {
        return;
    }
    let mut table = Table::default();
    table.row(["url", "answered", "errors", "p50", "p99", "max", "received"]);
    let name_width = (style.width / 2).min(run.urls.iter().map(|url| url.url.chars().count()).max().unwrap_or(0));
    for url in run.urls.iter().take(URL_ROWS_MAX) {
        let known = |percentile| url.response.as_ref().and_then(|hist| hist.at(percentile));
        let shown = |value: Option<u64>| value.map_or_else(|| String::from("-"), units::duration);
        let max = url.response.as_ref().filter(|hist| !hist.is_empty()).map(Hist::max);
        table.row([
            shorten(&url.url, name_width),
            units::count(url.tally.responses),
            units::count(url.tally.errors),
            shown(known(Percentile::P50)),
            shown(known(Percentile::P99)),
            shown(max),
            units::bytes(url.tally.wire_bytes as f64),
        ]);
    }
    out.push('\n');
    push_lines(out, table.lines(style.width));
    if run.urls.len() > URL_ROWS_MAX {
        let _ = writeln!(out, "  and {} more, in the JSON", run.urls.len() - URL_ROWS_MAX);
    }
}

fn errors(out: &mut String, run: &Run, style: &Style) {
    if run.errors.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n{}", style.paint(Colour::Bad, "errors"));
    let width = run.errors.iter().map(|kind| units::count(kind.count).len()).max().unwrap_or(0);
    for kind in &run.errors {
        let _ = writeln!(out, "  {:>width$}  {}", units::count(kind.count), error_name(kind));
        let indent = " ".repeat(width + 4);
        let url = run.facts.urls.get(usize::from(kind.first.url)).map_or("", String::as_str);
        let at = units::duration(kind.first.at_ns);
        style.paragraph(out, &indent, &format!("first at {at}, {url}: {}", kind.first.detail));
        if let Some(hint) = hint(kind.class, kind.errno) {
            style.paragraph(out, &indent, &format!("hint: {hint}"));
        }
    }
    if let Some(drops) = run.facts.listen_overflows.filter(|&drops| drops > 0) {
        let text = format!(
            "the kernel dropped {} because a listen queue was full (ListenOverflows): raise the server's backlog and \
             net.core.somaxconn, or lower --connect-rate",
            plural(drops, "connection")
        );
        style.paragraph(out, "  ", &text);
    }
}

/// `reset (ECONNRESET), 3 more during the warm-up`.
fn error_name(kind: &ErrorKind) -> String {
    let mut name = kind.class.name().to_owned();
    if let Some(errno) = kind.errno {
        let _ = match errno_name(errno) {
            Some(text) => write!(name, " ({text})"),
            None => write!(name, " (errno {errno})"),
        };
    }
    if kind.warmup_count > 0 {
        let _ = write!(name, ", {} more during the warm-up", units::count(kind.warmup_count));
    }
    name
}

fn resources(out: &mut String, run: &Run, style: &Style) {
    out.push('\n');
    if let Some(text) = server(run) {
        style.paragraph(out, "", &format!("server: {text}"));
    }
    style.paragraph(out, "", &format!("generator: {}", generator(run)));
    let fairness = &run.connections;
    if let Some(jain) = fairness.jain() {
        let mut text = format!(
            "connections: {} to {} answers each, Jain's index {jain:.3}",
            units::count(fairness.answered_min),
            units::count(fairness.answered_max)
        );
        if fairness.starved > 0 {
            let _ = write!(text, "; {} never got an answer", units::count(fairness.starved));
        }
        if let Some(slowest) = fairness.slowest.as_ref().filter(|_| fairness.connections > 1) {
            let mean = units::duration_f64(slowest.mean_ns);
            let _ = write!(text, "; the slowest, number {}, took {mean} on average", slowest.number);
        }
        style.paragraph(out, "", &text);
    }
}

fn server(run: &Run) -> Option<String> {
    let (server, answers) = (run.facts.server.as_ref()?, run.measured.responses);
    if answers == 0 {
        return Some(format!("process {}, {} resident", server.pid, units::bytes(server.rss_bytes as f64)));
    }
    let each = |ns: u64| units::duration_f64(ns as f64 / answers as f64);
    let mut text = format!(
        "{} CPU a request ({} user, {} system), {:.2} context switches, {} resident",
        each(server.cpu_ns()),
        each(server.user_ns),
        each(server.system_ns),
        server.context_switches as f64 / answers as f64,
        units::bytes(server.rss_bytes as f64)
    );
    if let Some(busy) = server.core_busy_ns {
        let core = server.core.map_or_else(String::new, |core| format!(" {core}"));
        let share = units::share(busy as f64 / run.facts.window_ns().max(1) as f64);
        let _ = write!(text, "; its core{core} was {share} busy, {} a request", each(busy));
    }
    Some(text)
}

fn generator(run: &Run) -> String {
    let (usage, answers) = (&run.facts.generator, run.measured.responses);
    let mut text = format!("{} of a core", units::share(usage.busiest_thread_share));
    if run.facts.load.threads > 1 {
        text.push_str(" in its busiest thread");
    }
    if answers > 0 {
        let working = usage.cpu_ns.saturating_sub(usage.spin_ns);
        let _ = write!(text, ", {} CPU a request", units::duration_f64(working as f64 / answers as f64));
    }
    if !run.generator.batch.is_empty() {
        let _ = write!(text, ", {:.1} completions a turn", run.generator.batch.mean());
    }
    if usage.enters > 0 && answers > 0 {
        let _ = write!(text, ", {:.2} system calls a request", usage.enters as f64 / answers as f64);
    }
    if usage.rss_bytes > 0 {
        let _ = write!(text, ", {} resident", units::bytes(usage.rss_bytes as f64));
    }
    if let Some(steal) = run.facts.steal_share {
        let _ = write!(text, "; steal {}", units::share(steal));
    }
    text
}

/// The machine, faintly.
fn machine(out: &mut String, run: &Run, style: &Style) {
    let host = &run.facts.host;
    if host.kernel.is_empty() {
        return;
    }
    let governor = host.governor.as_deref().map_or_else(String::new, |name| format!(", governor {name}"));
    let machine = if host.virtual_machine { ", virtual machine" } else { "" };
    let text = format!(
        "{}, Linux {}, {}{governor}{machine}; seed {}",
        host.cpu_model,
        host.kernel,
        plural(u64::from(host.cores), "core"),
        run.facts.seed
    );
    for line in style.wrapped(&text) {
        let _ = writeln!(out, "{}", style.paint(Colour::Faint, &line));
    }
}

fn push_lines(out: &mut String, lines: Vec<String>) {
    for line in lines {
        let _ = writeln!(out, "{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::super::{samples, transcript};
    use super::*;

    #[test]
    fn a_closed_loop_reads_as_in_its_transcript() {
        transcript("closed-80.txt", &summary(&samples::closed(), &Style::new(Some(80), false)));
    }

    #[test]
    fn an_open_loop_with_errors_reads_as_in_its_transcript() {
        transcript("open-100.txt", &summary(&samples::open(), &Style::new(None, false)));
    }

    #[test]
    fn a_run_without_answers_says_so_first() {
        let text = summary(&samples::stretched(0, 1.0), &Style::new(Some(80), false));
        assert!(text.starts_with("INVALID: nothing was measured"), "{text}");
        assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
    }

    #[test]
    fn few_answers_have_no_percentiles_but_a_maximum() {
        let text = summary(&samples::stretched(150, 1.0), &Style::new(Some(80), false));
        let line = text.lines().find(|line| line.starts_with("response")).expect("the table");
        let cells: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(cells[1..6], ["-", "-", "-", "-", "-"]);
        assert!(line.contains("ms"), "{line}");
        assert!(text.contains("p50 takes 200 answers"), "{text}");
    }

    #[test]
    fn every_line_keeps_to_the_width() {
        for run in [samples::closed(), samples::open()] {
            for width in [60, 80, 120] {
                let text = summary(&run, &Style::new(Some(width), false));
                // The first line is one line, whatever it says.
                let long: Vec<&str> = text.lines().skip(1).filter(|line| line.chars().count() > width).collect();
                assert!(long.is_empty(), "{long:#?}");
            }
        }
    }
}
