//! What the comparison teaches: questions with the pairs that answer them, as a table. Each answer is written for whichever
//! way the figures fall. Pure.

use super::super::cell::{CELLS, Key, What};
use super::super::results::{Belief, Metric, Results};
use super::super::stats::{Estimate, Verdict};
use super::sheet::{LIMIT, OURS};
use super::text;

/// A question.
struct Lesson {
    title: &'static str,
    /// What to know before the figures.
    about: &'static str,
    pairs: &'static [Pair],
}

/// Two servers in one cell: the ratio of the first to the second, and what it means.
struct Pair {
    key: &'static str,
    metric: Metric,
    one: &'static str,
    other: &'static str,
    more: &'static str,
    less: &'static str,
    even: &'static str,
}

/// Servers that wait by io_uring.
const RINGS: &[&str] = &["tokio-uring", "monoio", "floor", "ucaffeine"];

const fn pair(key: &'static str, metric: Metric, one: &'static str, other: &'static str) -> Pair {
    Pair { key, metric, one, other, more: "", less: "", even: "" }
}

const LESSONS: &[Lesson] = &[
    Lesson {
        title: "What passing a descriptor costs",
        about: "Both have four worker processes that read, serve and close; in `prefork-fdpass` the parent accepts and passes \
                each client over a Unix socket, in `prefork-reuseport` the workers accept for themselves.",
        pairs: &[
            Pair {
                more: "Passing a client on costs that much more work for each of them.",
                less: "Passing costs nothing that can be seen: the parent that accepts for all saves more than it takes.",
                even: "What passing costs is less than these rounds can tell apart.",
                ..pair("close", Metric::Cpu, "prefork-fdpass", "prefork-reuseport")
            },
            Pair {
                more: "It does not cost capacity.",
                less: "So much of the capacity is left of it.",
                even: "It costs no capacity that can be seen.",
                ..pair("close", Metric::Rate, "prefork-fdpass", "prefork-reuseport")
            },
            Pair {
                more: "The way through the parent is in the tail, too.",
                less: "The tail is shorter: the parent gives clients to workers that are ready, and nobody waits behind a slow one.",
                even: "In the tail it does not show.",
                ..pair("close@80", Metric::P99, "prefork-fdpass", "prefork-reuseport")
            },
            Pair {
                more: "Beside a program's start it still shows.",
                less: "Beside a program's start it does not show.",
                even: "Beside a program's start it does not show.",
                ..pair("cgi-hello", Metric::Cpu, "prefork-fdpass", "prefork-reuseport")
            },
        ],
    },
    Lesson {
        title: "What the queue costs",
        about: "`thread-pool` accepts on one thread and hands clients through a bounded queue with a mutex and two condition \
                variables; the workers of `prefork-reuseport` take theirs from the listener. With a connection per request \
                each passes the queue once.",
        pairs: &[
            Pair {
                more: "A lock, a wake-up and a change of thread for each request: that is the queue.",
                less: "The queue costs less than processes that all wait on one listener.",
                even: "The queue costs no more than waiting on one listener does.",
                ..pair("close", Metric::Cpu, "thread-pool", "prefork-reuseport")
            },
            Pair {
                more: "The wake-ups can be counted.",
                less: "The wake-ups are fewer, not more: who finds work in the queue does not sleep.",
                even: "Wake-ups are as many.",
                ..pair("close", Metric::Switches, "thread-pool", "prefork-reuseport")
            },
            Pair {
                more: "In the tail the queue is a wait.",
                less: "In the tail the queue is shorter than the other wait.",
                even: "In the tail it does not show.",
                ..pair("close@80", Metric::P99, "thread-pool", "prefork-reuseport")
            },
            Pair {
                more: "Without the queue, on a connection that is kept, a thread that blocks is dearer than a loop that hands work to one.",
                less: "Without the queue, on a connection that is kept, blocking is the cheaper way to wait for one client.",
                even: "Without the queue, on a connection that is kept, both ways of waiting cost the same.",
                ..pair("keepalive-1", Metric::Cpu, "thread-pool", "reactor-pool")
            },
        ],
    },
    Lesson {
        title: "What readiness costs against completion",
        about: "`reactor-pool` is told that a client can be read (epoll), and reads; `monoio` and `tokio-uring` are told that \
                it was read (io_uring). None of the three caches files, so the difference is how they wait, and what the \
                runtimes make of it.",
        pairs: &[
            Pair {
                more: "Readiness costs that much more than completion.",
                less: "Readiness is cheaper here: a ring does not pay by itself.",
                even: "The two ways of waiting cost the same.",
                ..pair("keepalive-64", Metric::Cpu, "reactor-pool", "monoio")
            },
            Pair {
                more: "Readiness costs that much more than completion.",
                less: "Readiness is cheaper here: a ring does not pay by itself.",
                even: "The two ways of waiting cost the same.",
                ..pair("keepalive-64", Metric::Cpu, "reactor-pool", "tokio-uring")
            },
            Pair {
                more: "One loop on epoll is dearer than one on a ring, when every request is a connection.",
                less: "One loop on epoll is cheaper than one on a ring, when every request is a connection.",
                even: "When every request is a connection, one loop costs as much as the other: connections cost what they cost.",
                ..pair("close", Metric::Cpu, "epoll-aio", "monoio")
            },
            Pair {
                more: "The tail of readiness is longer.",
                less: "The tail of readiness is shorter.",
                even: "The tails are alike.",
                ..pair("keepalive-64@80", Metric::P99, "reactor-pool", "monoio")
            },
            Pair {
                more: "`ucaffeine`, which has a ring and caches files besides, needs that much less.",
                less: "`ucaffeine`, with its ring and its cache, needs more.",
                even: "`ucaffeine`, with its ring and its cache, needs as much.",
                ..pair("keepalive-64", Metric::Cpu, "reactor-pool", "ucaffeine")
            },
        ],
    },
    Lesson {
        title: "What AIO does to files",
        about: "`epoll-aio-dynamic` is the same server asked for the same files below `dynamic/`, which it reads by Linux AIO \
                into its own memory, where `epoll-aio` has the kernel send them (`sendfile(2)`).",
        pairs: &[
            Pair {
                more: "For a small file AIO is that much more work: a submission, an eventfd and a copy for 1 KiB.",
                less: "For a small file AIO is less work than `sendfile`.",
                even: "For a small file AIO costs nothing that can be seen.",
                ..pair("close", Metric::Cpu, "epoll-aio-dynamic", "epoll-aio")
            },
            Pair {
                more: "At 100 KiB it still is.",
                less: "At 100 KiB it is less.",
                even: "At 100 KiB they cost the same.",
                ..pair("file-100k", Metric::Cpu, "epoll-aio-dynamic", "epoll-aio")
            },
            Pair {
                more: "And at 10 MiB.",
                less: "At 10 MiB AIO is ahead.",
                even: "At 10 MiB they cost the same.",
                ..pair("file-10m", Metric::Core, "epoll-aio-dynamic", "epoll-aio")
            },
        ],
    },
    Lesson {
        title: "What a server costs above the limit",
        about: "`floor` is a raw ring that parses a head and copies a reply. What `ucaffeine` needs besides is routing, \
                conditionals, limits and deadlines.",
        pairs: &[
            Pair {
                more: "That is the price of being a server.",
                less: "That is less than the limit, so the limit is not one: look for what was wrong.",
                even: "It cannot be told from the limit.",
                ..pair("keepalive-64", Metric::Cpu, "ucaffeine", "floor")
            },
            Pair {
                more: "Where nothing but our own work is left, it is most.",
                less: "Where nothing but our own work is left, it is less than the limit's.",
                even: "It cannot be told from the limit.",
                ..pair("pipelined", Metric::Cpu, "ucaffeine", "floor")
            },
            Pair {
                more: "Beside the making of a connection it is what remains.",
                less: "Beside the making of a connection it is less than the limit's.",
                even: "Beside the making of a connection it does not show.",
                ..pair("close", Metric::Cpu, "ucaffeine", "floor")
            },
            Pair {
                more: "`monoio` as one would use it, without a cache, needs that much more than `ucaffeine`.",
                less: "`monoio` as one would use it needs less than `ucaffeine`.",
                even: "`monoio` as one would use it needs as much as `ucaffeine`.",
                ..pair("keepalive-64", Metric::Cpu, "monoio", "ucaffeine")
            },
        ],
    },
];

/// The whole section, in Markdown.
pub(super) fn all(results: &Results) -> String {
    let mut out = String::new();
    for lesson in LESSONS {
        out.push_str(&format!("### {}\n\n{}\n\n{}\n\n", lesson.title, lesson.about, answers(results, lesson.pairs)));
    }
    out.push_str(&format!("### Where io_uring does not help\n\n{}\n\n", rings(results)));
    out.push_str(&format!("### Who is best at what\n\n{}\n", winners(results)));
    if let Some(said) = aio_said(results) {
        let marker = "### What a server costs above the limit";
        out = out.replace(marker, &format!("{said}\n\n{marker}"));
    }
    out
}

fn answers(results: &Results, pairs: &[Pair]) -> String {
    let known: Vec<String> = pairs.iter().filter_map(|pair| pair.answer(results)).collect();
    if known.is_empty() {
        return String::from("Not measured here.");
    }
    known.join("\n")
}

impl Pair {
    fn answer(&self, results: &Results) -> Option<String> {
        let key: Key = self.key.parse().ok()?;
        // A server or a cell that was not in this comparison is not missing from it.
        let measured = |name: &str| results.row(key, results.subject(name)?);
        measured(self.one).and(measured(self.other))?;
        let what =
            format!("{}, `{}` over `{}`, {}", capital(text::noun(self.metric)), self.one, self.other, place(key));
        let Some(ratio) = results.ratio(key, self.metric, self.one, self.other) else {
            return Some(format!("- {what}: no round is valid for both."));
        };
        Some(format!(
            "- {what}: **{}**. {}",
            text::ratio(&ratio),
            self.meaning(&ratio, bounded(results, key, self.metric, self.one, self.other))
        ))
    }

    fn meaning(&self, ratio: &Estimate, bounded: bool) -> String {
        let meaning = match ratio.verdict() {
            Verdict::More => self.more,
            Verdict::Less => self.less,
            Verdict::Even if ratio.rounds < 5 => "So few rounds say nothing of it.",
            Verdict::Even => self.even,
        };
        let bounded = if bounded {
            " (The generator was the limit of one of the two, so it may be able to do more.)"
        } else {
            ""
        };
        format!("{meaning}{bounded}")
    }
}

/// Whether the generator was the limit of either, which only a capacity feels.
fn bounded(results: &Results, key: Key, metric: Metric, one: &str, other: &str) -> bool {
    let limited = |name: &str| {
        let row = results.subject(name).and_then(|subject| results.row(key, subject));
        row.is_some_and(|row| row.belief() == Belief::AtLeast)
    };
    metric == Metric::Rate && (limited(one) || limited(other))
}

fn place(key: Key) -> String {
    match key.is_open() {
        false => key.load().title.to_owned(),
        true => format!("{}, at {}", key.load().title, text::drive(key)),
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    // A term that begins with a small letter and a digit, as p99, stays as it is.
    match chars.next() {
        Some(first) if !text.starts_with("p9") && !text.starts_with("p5") => {
            first.to_uppercase().chain(chars).collect()
        }
        _ => text.to_owned(),
    }
}

/// The server with the least of a metric (of a rate, the most), among those of which something is valid.
fn best(results: &Results, key: Key, metric: Metric, among: impl Fn(&str) -> bool) -> Option<usize> {
    let subjects = 0..results.settings.servers.len();
    let known = subjects.filter(|subject| among(results.name(*subject))).filter_map(|subject| {
        let figure = results.figure(key, subject, metric)?;
        let number = figure.estimate.median * if metric == Metric::Rate { -1.0 } else { 1.0 };
        (figure.belief != Belief::Invalid).then_some((subject, number))
    });
    known.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(subject, _)| subject)
}

fn capacity_keys(results: &Results) -> Vec<Key> {
    results.keys().into_iter().filter(|key| !key.is_open()).collect()
}

/// What an answer costs there: of long files a part is charged to no process.
fn cost(key: Key) -> Metric {
    if key.load().what == What::Large { Metric::Core } else { Metric::Cpu }
}

/// Cell by cell, the cheapest with a ring against the cheapest without.
fn rings(results: &Results) -> String {
    let (mut lines, mut ahead) = (Vec::new(), 0);
    for key in capacity_keys(results) {
        let metric = cost(key);
        let ring = best(results, key, metric, |name| RINGS.contains(&name) && name != LIMIT);
        let other = best(results, key, metric, |name| !RINGS.contains(&name));
        let (Some(ring), Some(other)) = (ring, other) else { continue };
        let (ring, other) = (results.name(ring), results.name(other));
        let Some(ratio) = results.ratio(key, metric, ring, other) else { continue };
        match ratio.verdict() {
            Verdict::Less => ahead += 1,
            verdict => lines.push(format!(
                "- {}: `{ring}`, the cheapest on io_uring, needs {} of the {} of `{other}`{}",
                key.load().title,
                text::ratio(&ratio),
                text::noun(metric),
                match verdict {
                    Verdict::Even if ratio.rounds < 5 => "; so few rounds say nothing of it.",
                    Verdict::Even => ": these rounds cannot tell them apart.",
                    _ => ".",
                },
            )),
        }
    }
    let count = |number: usize| if number == 1 { String::from("one cell") } else { format!("{number} cells") };
    match (lines.is_empty(), ahead) {
        (true, 0) => String::from("Not measured here."),
        (true, ahead) => format!(
            "In each of the {} with both kinds, the cheapest server is one on io_uring (`floor` left out).",
            count(ahead)
        ),
        (false, 0) => format!("In no cell the cheapest server is clearly one on io_uring:\n\n{}", lines.join("\n")),
        (false, ahead) => format!(
            "In {} the cheapest server is one on io_uring (`floor` left out). Not so here, by the CPU of an answer:\n\n{}",
            count(ahead),
            lines.join("\n")
        ),
    }
}

/// Cell by cell, who can do most, and who needs least.
fn winners(results: &Results) -> String {
    let mut rows = Vec::new();
    for key in capacity_keys(results) {
        let mut row = vec![key.load().title.to_owned()];
        for metric in [Metric::Rate, cost(key)] {
            let Some(first) = best(results, key, metric, |name| name != LIMIT) else {
                row.extend([String::from("-"), String::new()]);
                continue;
            };
            let name = results.name(first);
            row.push(format!("`{name}` {}", text::figure(metric, results.figure(key, first, metric).as_ref(), false)));
            let ours = results.ratio(key, metric, OURS, name);
            row.push(match ours {
                _ if name == OURS => String::new(),
                Some(ratio) => text::ratio(&ratio),
                None => String::from("-"),
            });
        }
        rows.push(row);
    }
    if rows.is_empty() {
        return String::from("Not measured here.");
    }
    let heads = ["", "most requests/s", "`ucaffeine` to that", "least CPU us", "`ucaffeine` to that"].map(String::from);
    text::table(&heads, &rows)
}

/// What the server itself says of its reads: with O_DIRECT they were asynchronous, else not.
fn aio_said(results: &Results) -> Option<String> {
    let subject = results.subject("epoll-aio-dynamic")?;
    let said = results.rows().filter(|(_, of, _)| *of == subject).flat_map(|(_, _, row)| row.rounds.iter());
    let line = said.filter_map(|round| round.said.split("slices; ").nth(1)).find(|line| line.contains("O_DIRECT"))?;
    Some(format!(
        "The server said of one of its runs: {}. Only what was opened with O_DIRECT is read asynchronously; of the rest \
         `io_submit(2)` itself does the reading.",
        line.trim()
    ))
}

/// Each server in a paragraph: where it stands.
pub(super) fn each(results: &Results) -> String {
    let keys = capacity_keys(results);
    let mut out = String::new();
    for (subject, entrant) in results.settings.servers.iter().enumerate() {
        let name = &entrant.subject.name;
        let mut standing: Vec<(usize, usize, String)> = Vec::new();
        for &key in &keys {
            let mut costs: Vec<(usize, f64)> = (0..results.settings.servers.len())
                .filter(|other| results.name(*other) != LIMIT || *other == subject)
                .filter_map(|other| Some((other, results.figure(key, other, cost(key))?)))
                .filter(|(_, figure)| figure.belief != Belief::Invalid)
                .map(|(other, figure)| (other, figure.estimate.median))
                .collect();
            costs.sort_by(|a, b| a.1.total_cmp(&b.1));
            if let Some(at) = costs.iter().position(|(other, _)| *other == subject) {
                let cost = text::value(Metric::Cpu, costs[at].1);
                standing.push((
                    at,
                    costs.len(),
                    format!("{} ({cost} us, {} of {})", key.load().title, at + 1, costs.len()),
                ));
            }
        }
        let share = |(at, all, _): &(usize, usize, String)| *at as f64 / (*all).max(1) as f64;
        let best = standing.iter().min_by(|a, b| share(a).total_cmp(&share(b)));
        let worst = standing.iter().max_by(|a, b| share(a).total_cmp(&share(b)));
        let standing = match (best, worst) {
            (Some(best), Some(worst)) if best.2 != worst.2 => {
                format!("By CPU for an answer it stands best at {}, and worst at {}.", best.2, worst.2)
            }
            (Some(best), _) => format!("By CPU for an answer: {}.", best.2),
            _ => String::from("Nothing of it is valid here."),
        };
        let note = results.rows().find(|(_, of, row)| *of == subject && row.note.is_some());
        let note =
            note.and_then(|(_, _, row)| row.note.as_ref()).map(|note| format!(" Where others keep theirs, {note}."));
        out.push_str(&format!("- **{name}**: {}. {standing}{}\n", entrant.subject.about, note.unwrap_or_default()));
    }
    out
}

/// Cells in which something is not valid, with their reasons.
pub(super) fn doubts(results: &Results) -> String {
    let mut lines = Vec::new();
    let mut limited = Vec::new();
    for (key, subject, row) in results.rows() {
        let name = results.name(subject);
        if row.belief() == Belief::AtLeast {
            limited.push(format!("`{name}` in {key}"));
        }
        let invalid: Vec<_> = row.rounds.iter().filter(|round| !super::pictures::counts(round.verdict)).collect();
        if let Some(first) = invalid.first() {
            let all = row.rounds.len();
            lines.push(format!(
                "- {key}, `{name}`: {} of {all} rounds, as in: {}",
                invalid.len(),
                first.reasons.join("; ")
            ));
        }
    }
    let mut out = match lines.is_empty() {
        true => String::from("Every round of every cell is valid, or its generator was the limit.\n"),
        false => format!(
            "{} of {} rows have rounds that are not valid:\n\n{}\n",
            lines.len(),
            results.rows().count(),
            lines.join("\n")
        ),
    };
    if !limited.is_empty() {
        out.push_str(&format!(
            "\nThe generator was the limit, so that capacities are lower bounds: {}.\n",
            limited.join(", ")
        ));
    }
    out
}

/// How many cells there are in the table of cells; a helper of texts.
pub(super) fn cell_titles(results: &Results) -> Vec<(&'static str, &'static str)> {
    results.settings.cell_places().into_iter().map(|cell| (CELLS[cell].name, CELLS[cell].title)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::results::tests::{invalid, run, settings};
    use super::super::tests::sample;
    use super::*;

    fn pair_of(first_ns: u64, second_ns: u64) -> Results {
        let mut results = Results::empty(settings(&["prefork-fdpass", "prefork-reuseport"], &["close"], 5));
        for round in 0..5 {
            for (subject, ns) in [(0, first_ns), (1, second_ns)] {
                let key = "close".parse().unwrap();
                results.add(key, subject, round, &run(2_000, ns + u64::from(round) * 10, 1.0), "", None, None).unwrap();
            }
        }
        results
    }

    #[test]
    fn what_is_said_follows_the_figures_whichever_way_they_fall() {
        let text = |first, second| all(&pair_of(first, second));
        assert!(text(12_000, 10_000).contains("x1.20 (x1.20 to x1.20)**. Passing a client on costs that much more"));
        assert!(text(10_000, 12_000).contains("**. Passing costs nothing that can be seen"));
        assert!(text(10_000, 10_000).contains("What passing costs is less than these rounds can tell apart."));
        // The other questions are about servers that were not there.
        assert!(text(1, 2).contains("### What AIO does to files") && text(1, 2).contains("Not measured here."));
    }

    #[test]
    fn invalid_rounds_say_so_instead_of_a_ratio() {
        let mut results = Results::empty(settings(&["prefork-fdpass", "prefork-reuseport"], &["close"], 1));
        let key = "close".parse().unwrap();
        results.add(key, 0, 0, &run(2_000, 5, 1.0), "", None, None).unwrap();
        results.add(key, 1, 0, &invalid("it broke"), "", None, None).unwrap();
        assert!(all(&results).contains("no round is valid for both"));
        let doubts = doubts(&results);
        assert!(doubts.contains("close, `prefork-reuseport`: 1 of 1 rounds, as in: it broke"), "{doubts}");
    }

    #[test]
    fn where_a_ring_is_not_the_cheapest_is_found_and_named() {
        let with = |ring_ns, other_ns| {
            let mut results = Results::empty(settings(&["nginx", "ucaffeine"], &["close"], 5));
            for round in 0..5 {
                let key = "close".parse().unwrap();
                results.add(key, 0, round, &run(2_000, other_ns, 1.0), "", None, None).unwrap();
                results.add(key, 1, round, &run(2_000, ring_ns, 1.0), "", None, None).unwrap();
            }
            (rings(&results), winners(&results))
        };
        let (text, table) = with(6_000, 5_000);
        assert!(
            text.contains("`ucaffeine`, the cheapest on io_uring, needs x1.20") && text.contains("`nginx`"),
            "{text}"
        );
        assert!(table.contains("`nginx` 5.00") && table.contains("x1.20"), "{table}");
        let (text, _) = with(4_000, 5_000);
        assert!(text.starts_with("In each of the one cell with both kinds"), "{text}");
    }

    #[test]
    fn every_pair_of_the_table_is_about_known_servers_and_cells_and_has_its_three_answers() {
        let known = super::super::super::subject::known();
        for pair in LESSONS.iter().flat_map(|lesson| lesson.pairs) {
            assert!(pair.key.parse::<Key>().is_ok(), "{}", pair.key);
            for name in [pair.one, pair.other] {
                assert!(known.iter().any(|subject| subject.name == name), "{name}");
            }
            assert!(!pair.more.is_empty() && !pair.less.is_empty() && !pair.even.is_empty(), "{}", pair.key);
        }
    }

    #[test]
    fn each_server_has_its_paragraph() {
        let results = sample();
        let text = each(&results);
        for subject in 0..results.settings.servers.len() {
            assert!(text.contains(&format!("- **{}**: ", results.name(subject))), "{text}");
        }
        assert!(!cell_titles(&results).is_empty());
    }
}
