//! The two forms of the text: Prometheus 0.0.4 and OpenMetrics 1.0. They differ in what a family of counters is called, in its unit
//! and in the last line; families and samples are the same.

use std::fmt::{Display, Write};

use crate::rt::histogram::Times;

/// Which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Prometheus,
    OpenMetrics,
}

impl Format {
    /// OpenMetrics for whoever asks for it by name, and wants it no less than anything else that it names.
    pub(super) fn wanted<'a>(accept: impl IntoIterator<Item = &'a [u8]>) -> Format {
        let mut weights = [0_u16; 2];
        for range in accept.into_iter().flat_map(|line| line.split(|byte| *byte == b',')) {
            let mut parts = range.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let is_open = parts.next().unwrap_or_default().eq_ignore_ascii_case(b"application/openmetrics-text");
            let (mut weight, mut is_ours) = (1000, true);
            for parameter in parts {
                let text = std::str::from_utf8(parameter).unwrap_or_default().to_ascii_lowercase();
                match text.split_once('=') {
                    Some(("q", value)) => {
                        weight = value.parse::<f32>().map_or(0, |value| (value.clamp(0.0, 1.0) * 1000.0) as u16);
                    }
                    Some(("version", value)) => is_ours = matches!(value.trim_matches('"'), "1.0.0" | "0.0.4"),
                    _ => {}
                }
            }
            if is_ours {
                let best = &mut weights[usize::from(is_open)];
                *best = (*best).max(weight);
            }
        }
        let [other, open] = weights;
        if open > 0 && open >= other { Format::OpenMetrics } else { Format::Prometheus }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What a family's samples are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Counter,
    Gauge,
    Histogram,
    Info,
}

/// The text, as it grows.
pub(super) struct Page {
    format: Format,
    text: String,
    family: &'static str,
    is: Type,
}

/// Names and values of a sample's labels.
pub(super) type Labels<'a> = &'a [(&'a str, &'a dyn Display)];

impl Page {
    pub(super) fn new(format: Format) -> Page {
        Page { format, text: String::new(), family: "", is: Type::Gauge }
    }

    /// Begins a family: the samples that follow are of it. `name` has no `_total` and no `_info`.
    pub(super) fn family(&mut self, name: &'static str, is: Type, help: &str) -> &mut Page {
        (self.family, self.is) = (name, is);
        let (suffix, of) = match (self.format, is) {
            (Format::Prometheus, Type::Counter) => ("_total", "counter"),
            (Format::Prometheus, Type::Info) => ("_info", "gauge"),
            (Format::OpenMetrics, Type::Counter) => ("", "counter"),
            (Format::OpenMetrics, Type::Info) => ("", "info"),
            (_, Type::Gauge) => ("", "gauge"),
            (_, Type::Histogram) => ("", "histogram"),
        };
        let _ = writeln!(self.text, "# HELP {name}{suffix} {}", escaped(help, self.format == Format::OpenMetrics));
        let _ = writeln!(self.text, "# TYPE {name}{suffix} {of}");
        let unit = ["seconds", "bytes"].into_iter().find(|unit| name.ends_with(&format!("_{unit}")));
        if let Some(unit) = unit.filter(|_| self.format == Format::OpenMetrics) {
            let _ = writeln!(self.text, "# UNIT {name} {unit}");
        }
        self
    }

    pub(super) fn sample(&mut self, labels: Labels<'_>, value: impl Display) -> &mut Page {
        let suffix = match self.is {
            Type::Counter => "_total",
            Type::Info => "_info",
            Type::Gauge | Type::Histogram => "",
        };
        self.line(suffix, labels, None, value)
    }

    /// The samples of a histogram, in seconds.
    pub(super) fn histogram(&mut self, labels: Labels<'_>, times: &Times) -> &mut Page {
        for (upper_ns, below) in times.cumulative() {
            self.line("_bucket", labels, Some(&Seconds(upper_ns)), below);
        }
        self.line("_bucket", labels, Some(&"+Inf"), times.count());
        self.line("_sum", labels, None, Seconds(times.sum_ns()));
        self.line("_count", labels, None, times.count())
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, le: Option<&dyn Display>, value: impl Display) -> &mut Page {
        let _ = write!(self.text, "{}{suffix}", self.family);
        let all = labels.iter().copied().chain(le.map(|le| ("le", le)));
        for (index, (name, value)) in all.enumerate() {
            let open = if index == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{open}{name}=\"{}\"", escaped(&value.to_string(), true));
        }
        let close = if labels.is_empty() && le.is_none() { "" } else { "}" };
        let _ = writeln!(self.text, "{close} {value}");
        self
    }

    pub(super) fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

/// Backslash and line feed, and the quote where there are quotes around it.
fn escaped(text: &str, quotes: bool) -> String {
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    if quotes { text.replace('"', "\\\"") } else { text }
}

/// Nanoseconds, as a decimal number of seconds, exactly.
pub(super) struct Seconds(pub(super) u64);

impl Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (whole, rest) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        match format!("{rest:09}").trim_end_matches('0') {
            "" => write!(f, "{whole}"),
            digits => write!(f, "{whole}.{digits}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_is_for_those_who_ask_for_it() {
        let table: [(&[&str], Format); 9] = [
            (&[], Format::Prometheus),
            (&["*/*"], Format::Prometheus),
            (&["text/plain"], Format::Prometheus),
            (&["application/openmetrics-text"], Format::OpenMetrics),
            // What Prometheus sends.
            (
                &["application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"],
                Format::OpenMetrics,
            ),
            (&["application/openmetrics-text; version=\"1.0.0\"; q=0.5", "text/plain;q=0.4"], Format::OpenMetrics),
            (&["application/openmetrics-text;version=2.0.0,text/plain;version=0.0.4;q=0.5"], Format::Prometheus),
            (&["application/openmetrics-text;q=0, text/plain"], Format::Prometheus),
            (&["application/openmetrics-text;q=0.2, text/plain;q=0.9"], Format::Prometheus),
        ];
        for (accept, want) in table {
            assert_eq!(Format::wanted(accept.iter().map(|line| line.as_bytes())), want, "{accept:?}");
        }
    }

    #[test]
    fn both_forms_of_the_same() {
        let text = |format| {
            let mut page = Page::new(format);
            page.family("a_seconds", Type::Counter, "A \"b\"\\\n.")
                .sample(&[("x", &"\"\n\\"), ("y", &1)], Seconds(1_500_000));
            page.family("b", Type::Info, "B.").sample(&[("version", &"1")], 1);
            page.family("c", Type::Gauge, "C.").sample(&[], 7);
            page.finish()
        };
        let want = "# HELP a_seconds_total A \"b\"\\\\\\n.\n# TYPE a_seconds_total counter\n\
                    a_seconds_total{x=\"\\\"\\n\\\\\",y=\"1\"} 0.0015\n\
                    # HELP b_info B.\n# TYPE b_info gauge\nb_info{version=\"1\"} 1\n# HELP c C.\n# TYPE c gauge\nc 7\n";
        assert_eq!(text(Format::Prometheus), want);
        let want = "# HELP a_seconds A \\\"b\\\"\\\\\\n.\n# TYPE a_seconds counter\n# UNIT a_seconds seconds\n\
                    a_seconds_total{x=\"\\\"\\n\\\\\",y=\"1\"} 0.0015\n\
                    # HELP b B.\n# TYPE b info\nb_info{version=\"1\"} 1\n# HELP c C.\n# TYPE c gauge\nc 7\n# EOF\n";
        assert_eq!(text(Format::OpenMetrics), want);
    }

    #[test]
    fn nanoseconds_as_seconds() {
        let table = [
            (0, "0"),
            (1, "0.000000001"),
            (1_024_000, "0.001024"),
            (67_108_864_000, "67.108864"),
            (3_000_000_000, "3"),
        ];
        for (ns, want) in table {
            assert_eq!(Seconds(ns).to_string(), want);
        }
    }
}
