//! Numbers as a person reads them, and the plain table of `--once`.

use super::sample::{CoreView, Latency, PARTS, PathView, Script, View};

/// Three digits that count: `0.25`, `12.5`, `1,234`, `12.3k`, `4.56M`.
pub(super) fn rate(value: f64) -> String {
    match value {
        0.0 => String::from("0"),
        0.0..9.995 => format!("{value:.2}"),
        9.995..99.95 => format!("{value:.1}"),
        99.95..999.5 => format!("{value:.0}"),
        999.5..9_999.5 => format!("{},{:03}", value.round() as u64 / 1000, value.round() as u64 % 1000),
        9_999.5..999_500.0 => format!("{:.1}k", value / 1e3),
        _ => format!("{:.2}M", value / 1e6),
    }
}

/// Bytes by powers of 1024.
pub(super) fn bytes(value: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (value, 0);
    while value >= 1000.0 && unit + 1 < units.len() {
        (value, unit) = (value / 1024.0, unit + 1);
    }
    let digits = if unit > 0 && value < 99.95 { 1 } else { 0 };
    format!("{value:.digits$} {}", units[unit])
}

/// A time in the unit that leaves few digits; a dash where there is none.
pub(super) fn time(ns: Option<u64>) -> String {
    let Some(ns) = ns else { return String::from("-") };
    let (value, unit) = match ns {
        0..999_500 => (ns as f64 / 1e3, "us"),
        999_500..999_500_000 => (ns as f64 / 1e6, "ms"),
        _ => (ns as f64 / 1e9, "s"),
    };
    let digits = if value < 9.95 { 1 } else { 0 };
    format!("{value:.digits$} {unit}")
}

/// The two largest units: `3d 4h`.
pub(super) fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// What came from a client, without what would move the cursor or look like something else.
pub(super) fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || is_invisible(c) { '\u{fffd}' } else { c }).collect()
}

/// Marks that turn the direction of writing, and spaces without width.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// `shop (pid 12)  serving for 1h 2m`.
pub(super) fn title(view: &View) -> String {
    format!("{} (pid {})  {} for {}", view.name, view.pid, view.state, age(view.uptime_s))
}

/// What all cores did together, as names and values.
pub(super) fn totals(view: &View) -> Vec<(&'static str, String)> {
    vec![
        ("req/s", rate(view.requests)),
        ("2xx", rate(view.classes[1])),
        ("3xx", rate(view.classes[2])),
        ("4xx", rate(view.classes[3])),
        ("5xx", rate(view.classes[4])),
        ("cut/s", rate(view.cut)),
        ("conns", view.connections.to_string()),
        ("out/s", bytes(view.sent_bytes)),
        ("in/s", bytes(view.received_bytes)),
        ("new/s", rate(view.accepted)),
        ("in flight", view.in_flight.to_string()),
        ("scripts", view.cgi_running.to_string()),
        ("queued", view.cgi_queued.to_string()),
    ]
}

pub(super) const CORE_HEADINGS: [&str; 7] = ["CORE", "LOAD", "USER", "REQ/S", "ENTERS/S", "CQE/ENTER", "CONNS"];

pub(super) fn core(core: &CoreView) -> [String; 7] {
    let number = core.core.to_string();
    if core.is_silent {
        let [a, b, c, d, e] = ["-"; 5].map(String::from);
        return [number, String::from("silent"), a, b, c, d, e];
    }
    [
        number,
        format!("{:.0}%", core.load * 100.0),
        format!("{:.0}%", core.user * 100.0),
        rate(core.requests),
        rate(core.enters),
        format!("{:.2}", core.completions_per_enter),
        core.connections.to_string(),
    ]
}

/// `LATENCY  COUNT  p50 ...`.
pub(super) fn latency_headings() -> [&'static str; 6] {
    let [a, b, c, d] = PARTS.map(|(name, _)| name);
    ["LATENCY", "COUNT", a, b, c, d]
}

pub(super) fn latency(latency: &Latency) -> [String; 6] {
    let [a, b, c, d] = latency.ns.map(time);
    [latency.of.to_owned(), latency.count.to_string(), a, b, c, d]
}

pub(super) fn path(path: &PathView) -> [String; 3] {
    [rate(path.per_s), path.count.to_string(), shown(&path.path)]
}

pub(super) fn script(script: &Script) -> [String; 3] {
    [script.pid.to_string(), age(script.age_ms / 1000), shown(&script.path)]
}

/// Everything, once, for a pipe.
pub(super) fn plain(view: &View) -> String {
    let totals: String = totals(view).iter().map(|(name, value)| format!("{name:<10} {value}\n")).collect();
    let mut parts = vec![
        format!("{}\n{totals}", title(view)),
        table(&CORE_HEADINGS, view.cores.iter().map(core)),
        table(&latency_headings(), view.latency.iter().map(latency)),
    ];
    if !view.paths.is_empty() {
        parts.push(table(&["REQ/S", "COUNT", "PATH"], view.paths.iter().map(path)));
    }
    if !view.scripts.is_empty() {
        parts.push(table(&["PID", "AGE", "SCRIPT"], view.scripts.iter().map(script)));
    }
    parts.join("\n")
}

/// Columns as wide as their widest cell.
fn table<const N: usize>(headings: &[&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let all: Vec<[String; N]> = std::iter::once(headings.map(str::to_owned)).chain(rows).collect();
    let width = |column: usize| all.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    all.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let rates = [
            (0.0, "0"),
            (0.25, "0.25"),
            (9.999, "10.0"),
            (12.34, "12.3"),
            (999.6, "1,000"),
            (12_345.0, "12.3k"),
            (4.56e6, "4.56M"),
        ];
        for (value, want) in rates {
            assert_eq!(rate(value), want);
        }
        for (value, want) in [(0.0, "0 B"), (999.0, "999 B"), (1000.0, "1.0 KiB"), (150.0 * 1024.0 * 1024.0, "150 MiB")]
        {
            assert_eq!(bytes(value), want);
        }
        for (ns, want) in [
            (None, "-"),
            (Some(125), "0.1 us"),
            (Some(12_000), "12 us"),
            (Some(3_400_000), "3.4 ms"),
            (Some(2_000_000_000), "2.0 s"),
        ] {
            assert_eq!(time(ns), want);
        }
        assert_eq!([59, 61, 3_661, 90_000].map(age), ["59s", "1m 1s", "1h 1m", "1d 1h"]);
    }

    #[test]
    fn a_path_cannot_move_the_cursor() {
        assert_eq!(shown("/a\u{1b}[2J\n\u{202e}b\u{9b}c"), "/a\u{fffd}[2J\u{fffd}\u{fffd}b\u{fffd}c");
    }
}
