//! The server's side: what its cores have counted, as JSON, for one look. Sums and counts since the start only; what has come
//! since the look before is for the one who looks to say.

use std::time::Duration;

use serde_json::{Value, json};
use ucaffeine::serve::{CoreReport, Server, Times};

/// How long the cores have to answer; one that takes longer is shown as silent.
const CORES_ANSWER_MAX: Duration = Duration::from_secs(2);
/// Paths and scripts of all cores together.
const TOLD_MAX: usize = 40;

/// What the verb `top` answers. From here on, and until half a minute after the last time, the cores count paths.
pub(in crate::instance) fn tell(server: &Server, uptime: Duration) -> Value {
    let cores = server.watch(CORES_ANSWER_MAX);
    let rows: Vec<Value> =
        cores.iter().map(|core| core.as_ref().map_or(Value::Null, |(report, _)| row(report))).collect();
    let reports = || cores.iter().flatten().map(|(report, _)| report);
    let sum = |times: fn(&CoreReport) -> &Times| {
        let mut all = Times::default();
        reports().for_each(|report| all.add(times(report)));
        let buckets: Vec<[u64; 2]> = all.sparse().map(|(index, count)| [index as u64, count]).collect();
        json!({ "sum_ns": all.sum_ns(), "buckets": buckets })
    };
    json!({
        "state": if server.is_stopping() { "draining" } else { "serving" },
        "uptime_ms": uptime.as_millis() as u64,
        "cores": rows,
        "replies": replies(reports()),
        "server": sum(|report| &report.whole),
        "cgi_first_byte": sum(|report| &report.scripted_first_byte),
        "cgi": sum(|report| &report.scripted_whole),
        "cgi_queued": server.scripts_queued(),
        "paths": paths(&cores),
        "scripts": scripts(&cores),
    })
}

fn row(report: &CoreReport) -> Value {
    let stats = &report.stats;
    json!({
        "now_ns": stats.rt.now_ns,
        "cpu_ns": stats.rt.cpu_ns,
        "busy_ns": stats.rt.busy_ns,
        "requests": stats.requests,
        "errors": stats.errors,
        "in_flight": stats.in_flight,
        "cut": stats.cut,
        "connections": stats.connections_open,
        "accepted": stats.connections,
        "received_bytes": stats.rt.received_bytes,
        "sent_bytes": stats.sent_bytes,
        "enters": stats.rt.enters,
        "completions": stats.rt.completions,
        "cgi_running": stats.scripts_running,
    })
}

/// By the first digit of the status; index 0 is 1xx.
fn replies<'a>(reports: impl Iterator<Item = &'a CoreReport>) -> [u64; 5] {
    let mut classes = [0; 5];
    for replies in reports.flat_map(|report| &report.replies) {
        if let Some(class) = classes.get_mut(usize::from(replies.status / 100).saturating_sub(1)) {
            *class += replies.count;
        }
    }
    classes
}

type Told = Option<(CoreReport, ucaffeine::serve::Watched)>;

fn paths(cores: &[Told]) -> Vec<Value> {
    let mut all = std::collections::BTreeMap::<String, u64>::new();
    for (path, count) in cores.iter().flatten().flat_map(|(_, watched)| &watched.paths) {
        *all.entry(String::from_utf8_lossy(path).into_owned()).or_default() += count;
    }
    let mut all: Vec<_> = all.into_iter().collect();
    all.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    all.truncate(TOLD_MAX);
    all.into_iter().map(|(path, count)| json!([path, count])).collect()
}

fn scripts(cores: &[Told]) -> Vec<Value> {
    let mut all: Vec<_> = cores.iter().flatten().flat_map(|(_, watched)| &watched.scripts).collect();
    all.sort_by_key(|script| std::cmp::Reverse(script.age));
    all.truncate(TOLD_MAX);
    let told = |script: &&ucaffeine::serve::RunningScript| json!({ "pid": script.pid, "age_ms": script.age.as_millis() as u64, "path": script.path });
    all.iter().map(told).collect()
}
