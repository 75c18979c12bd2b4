//! A run as JSON: `docs/loadgen-json.md` describes it. The histograms in it are whole, so everything else can be made from
//! the file again.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use crate::record::Run;

/// The name and number of the schema. The number grows when a reader of the old one would misread the new one.
pub const SCHEMA: &str = "loadgen-run/1";

/// A file larger than this is no run: an hour in intervals of 10 ms takes a tenth of it.
const FILE_BYTES_MAX: u64 = 4 << 30;

/// What is written: the run, and before it what readers look for first.
#[derive(Serialize)]
struct Document<'a> {
    schema: &'a str,
    requests_per_second: f64,
    offered_requests_per_second: Option<f64>,
    last_interval_requests_per_second: Option<f64>,
    server_cpu_ns_per_request: Option<f64>,
    error_share: f64,
    jain_index: Option<f64>,
    #[serde(flatten)]
    run: &'a Run,
}

/// What decides whether the rest can be read.
#[derive(Deserialize)]
struct Head {
    schema: String,
}

/// Writes a run, with a line end.
///
/// # Errors
/// When the writer fails.
pub fn write(run: &Run, mut out: impl Write) -> io::Result<()> {
    let document = Document {
        schema: SCHEMA,
        requests_per_second: run.requests_per_second(),
        offered_requests_per_second: run.facts.offered_per_second(),
        last_interval_requests_per_second: run.last_interval_per_second(),
        server_cpu_ns_per_request: run.server_cpu_ns_per_request(),
        error_share: run.measured.error_share(),
        jain_index: run.connections.jain(),
        run,
    };
    serde_json::to_writer_pretty(&mut out, &document)?;
    out.write_all(b"\n")
}

/// Reads a run.
///
/// # Errors
/// In one line, what is wrong with the text.
pub fn read(text: impl Read) -> Result<Run, String> {
    let mut bytes = Vec::new();
    text.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    let head: Head = serde_json::from_slice(&bytes).map_err(|error| not_a_run(&bytes, &error))?;
    if head.schema != SCHEMA {
        return Err(format!("its schema is `{}`, and this program reads `{SCHEMA}`", head.schema));
    }
    let run: Run = serde_json::from_slice(&bytes).map_err(|error| format!("not a whole run: {error}"))?;
    for (number, interval) in run.intervals.iter().enumerate() {
        interval.response.unpack().map_err(|error| format!("interval {number}: {error}"))?;
    }
    Ok(run)
}

fn not_a_run(bytes: &[u8], error: &serde_json::Error) -> String {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return String::from("it is empty");
    }
    format!("not a run that `loadgen --json` wrote: {error}")
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    fn text(run: &Run) -> String {
        let mut out = Vec::new();
        write(run, &mut out).expect("a vector takes it");
        String::from_utf8(out).expect("JSON")
    }

    #[test]
    fn what_is_written_is_read_back_equal() {
        for run in [samples::closed(), samples::open(), samples::stretched(0, 1.0)] {
            assert_eq!(read(text(&run).as_bytes()).expect("a run"), run);
        }
    }

    #[test]
    fn the_rate_stands_at_the_top() {
        let json: serde_json::Value = serde_json::from_str(&text(&samples::closed())).expect("JSON");
        assert_eq!(json["requests_per_second"], 100_000.0);
        assert_eq!(json["schema"], SCHEMA);
        assert_eq!(json["latency"]["response"]["percentiles"]["99.99"], serde_json::Value::Null);
    }

    #[test]
    fn what_is_no_run_is_an_error_that_says_why() {
        let good = text(&samples::closed());
        let last = good.rfind("HISTFAA").expect("the last interval's");
        let last_broken = format!("{}HISTG{}", &good[..last], &good[last + 5..]);
        for (text, why) in [
            (String::new(), "it is empty"),
            (String::from("hello"), "not a run that `loadgen --json` wrote"),
            (String::from("{}"), "missing field `schema`"),
            (good.replace("loadgen-run/1", "loadgen-run/2"), "its schema is `loadgen-run/2`"),
            (good[..good.len() / 2].to_owned(), "not a run that `loadgen --json` wrote"),
            (good.replace("\"count\": 200000", "\"count\": 7"), "says it has 7"),
            (good.replacen("HISTFAA", "HISTGAA", 1), "V2 format"),
            (last_broken, "interval 3"),
        ] {
            let error = read(text.as_bytes()).expect_err(why);
            assert!(error.contains(why), "{why}: {error}");
        }
    }

    /// The rows of the tables in docs/loadgen-json.md: `` | `name` | ... ``.
    fn documented() -> std::collections::BTreeSet<String> {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/loadgen-json.md");
        let text = std::fs::read_to_string(path).expect("docs/loadgen-json.md");
        let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        rows.map(str::to_owned).collect()
    }

    /// The paths of every member: `latency.response`, `errors[].first.at_ns`. A histogram is a leaf with its own table.
    fn members(value: &serde_json::Value, path: &str, found: &mut std::collections::BTreeSet<String>) {
        match value {
            serde_json::Value::Object(map) if map.contains_key("encoded") => {
                let kind = if map.contains_key("unit") { "HISTOGRAM" } else { "PACKED" };
                found.extend(map.keys().map(|key| format!("{kind}.{key}")));
            }
            serde_json::Value::Object(_) if path == "statuses" => {}
            serde_json::Value::Object(map) => {
                for (key, value) in map {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    found.insert(path.clone());
                    members(value, &path, found);
                }
            }
            serde_json::Value::Array(items) => {
                for item in items {
                    members(item, &format!("{path}[]"), found);
                }
            }
            _ => {}
        }
    }

    #[test]
    fn the_document_names_every_member_and_no_other() {
        let mut run = samples::open();
        // The same as the facts, which have their table.
        run.parts.clear();
        let json = serde_json::from_str(&text(&run)).expect("JSON");
        let mut found = std::collections::BTreeSet::new();
        members(&json, "", &mut found);
        let documented = documented();
        let missing: Vec<_> = found.difference(&documented).collect();
        let unknown: Vec<_> = documented.difference(&found).collect();
        assert!(missing.is_empty() && unknown.is_empty(), "not documented: {missing:#?}\nnot written: {unknown:#?}");
    }
}
