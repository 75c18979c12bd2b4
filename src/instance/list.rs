//! What runs, as a table for people or as JSON for programs.

use std::time::Duration;

use serde_json::{Value, json};

use super::protocol::Client;
use super::registry::{State, list};
use super::{Failed, Folders, Name};

/// How long an instance has to answer; then it is unresponsive.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// What `--list-instances` prints.
///
/// # Errors
/// The folder of what runs cannot be looked into.
pub(crate) fn text(folders: &Folders, as_json: bool) -> Result<String, Failed> {
    let running = list(folders).map_err(|error| Failed::new(format!("cannot list instances: {error}")))?;
    let rows: Vec<Value> = running.iter().map(|(name, state)| row(folders, name, state.as_ref())).collect();
    Ok(match as_json {
        true => format!("{:#}\n", Value::from(rows)),
        false => table(&rows),
    })
}

fn row(folders: &Folders, name: &Name, state: Option<&State>) -> Value {
    let Some(state) = state else { return json!({ "name": name.as_str(), "state": "starting" }) };
    let stats = Client::connect(&folders.run(name))
        .and_then(|mut client| client.ask("stats", json!({}), ANSWER_MAX))
        .unwrap_or_else(|_| json!({ "state": "unresponsive" }));
    json!({
        "name": name.as_str(),
        "pid": state.pid,
        "addresses": state.addresses,
        "started_unix_s": state.started_unix_s,
        "argv": state.argv,
        "log": state.log,
        "memory_bytes": memory_bytes(state),
        "state": stats["state"],
        "uptime_s": stats["uptime_s"],
        "cores": stats["cores"],
        "requests": stats["requests"],
        "errors": stats["errors"],
        "connections_open": stats["connections_open"],
        "scripts_running": stats["scripts_running"],
        "log_records_lost": stats["log_records_lost"],
    })
}

/// VmRSS of proc_pid_status(5), if the process is still that one.
fn memory_bytes(state: &State) -> Option<u64> {
    let _it_is_that_one = state.process()?;
    let status = std::fs::read_to_string(format!("/proc/{}/status", state.pid)).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}

const HEADINGS: [&str; 9] = ["NAME", "PID", "ADDRESS", "UPTIME", "CORES", "REQUESTS", "ERRORS", "MEMORY", "STATE"];

fn table(rows: &[Value]) -> String {
    let mut cells = vec![HEADINGS.map(str::to_owned)];
    cells.extend(rows.iter().map(line));
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEADINGS.len()).map(width).collect();
    let join = |row: &[String; 9]| {
        let padded: Vec<String> = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    cells.iter().map(join).collect()
}

fn line(row: &Value) -> [String; 9] {
    let number = |key: &str| row[key].as_u64().map_or_else(|| String::from("-"), |number| number.to_string());
    let text = |key: &str| row[key].as_str().unwrap_or("-").to_owned();
    let addresses = row["addresses"].as_array().map(Vec::as_slice).unwrap_or_default();
    let address = match addresses.first().and_then(Value::as_str) {
        Some(first) if addresses.len() > 1 => format!("{first} +{}", addresses.len() - 1),
        first => first.unwrap_or("-").to_owned(),
    };
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| String::from("-"));
    [
        text("name"),
        number("pid"),
        address,
        or_dash(row["uptime_s"].as_u64().map(uptime)),
        number("cores"),
        number("requests"),
        number("errors"),
        or_dash(row["memory_bytes"].as_u64().map(memory)),
        text("state"),
    ]
}

/// The two largest units: `3d 4h`.
fn uptime(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

fn memory(bytes: u64) -> String {
    format!("{:.1}MiB", bytes as f64 / (1 << 20) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_dash_for_what_is_not_known() {
        let rows = [
            json!({
                "name": "api", "pid": 12, "addresses": ["http://127.0.0.1:80/", "unix:/x"], "uptime_s": 3661, "cores": 2,
                "requests": 10, "errors": 0, "memory_bytes": 3 << 20, "state": "serving",
            }),
            json!({ "name": "b", "state": "starting" }),
        ];
        let want = "NAME  PID  ADDRESS                  UPTIME  CORES  REQUESTS  ERRORS  MEMORY  STATE\n\
                    api   12   http://127.0.0.1:80/ +1  1h 1m   2      10        0       3.0MiB  serving\n\
                    b     -    -                        -       -      -         -       -       starting\n";
        assert_eq!(table(&rows), want);
        assert_eq!([59, 60, 90_000].map(uptime), ["59s", "1m 0s", "1d 1h"]);
    }
}
