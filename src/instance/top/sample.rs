//! One look at an instance, and what has come between two of them. Pure: values in, values out.

use serde_json::{Value, json};
use ucaffeine::serve::Times;

/// What an instance had counted when it was looked at.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample {
    pub(super) pid: i32,
    pub(super) state: String,
    pub(super) uptime_ms: u64,
    /// `None`: that core did not answer.
    cores: Vec<Option<Core>>,
    classes: [u64; 5],
    times: [Times; 3],
    cgi_queued: u64,
    paths: Vec<(String, u64)>,
    scripts: Vec<Script>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Core {
    now_ns: u64,
    cpu_ns: u64,
    busy_ns: u64,
    requests: u64,
    errors: u64,
    in_flight: u64,
    cut: u64,
    connections: u64,
    accepted: u64,
    received_bytes: u64,
    sent_bytes: u64,
    enters: u64,
    completions: u64,
    cgi_running: u64,
}

/// A script that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Script {
    pub(super) pid: i64,
    pub(super) age_ms: u64,
    pub(super) path: String,
}

/// What is shown of the time between two looks. Rates are per second.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    pub(super) name: String,
    pub(super) pid: i32,
    pub(super) state: String,
    pub(super) uptime_s: u64,
    /// Between the looks.
    pub(super) seconds: f64,
    pub(super) requests: f64,
    /// Since the start.
    pub(super) requests_all: u64,
    pub(super) errors: f64,
    pub(super) errors_all: u64,
    pub(super) cut: f64,
    /// By the first digit of the status, from 1.
    pub(super) classes: [f64; 5],
    pub(super) received_bytes: f64,
    pub(super) sent_bytes: f64,
    pub(super) accepted: f64,
    pub(super) connections: u64,
    pub(super) in_flight: u64,
    pub(super) cgi_running: u64,
    pub(super) cgi_queued: u64,
    pub(super) cores: Vec<CoreView>,
    pub(super) latency: Vec<Latency>,
    pub(super) paths: Vec<PathView>,
    pub(super) scripts: Vec<Script>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct CoreView {
    pub(super) core: usize,
    /// It did not answer, now or the time before.
    pub(super) is_silent: bool,
    /// CPU time of its thread by time, 0 to 1.
    pub(super) load: f64,
    /// The part of that which is not the kernel's.
    pub(super) user: f64,
    pub(super) requests: f64,
    pub(super) enters: f64,
    pub(super) completions_per_enter: f64,
    pub(super) connections: u64,
    pub(super) in_flight: u64,
}

/// Percentiles of one kind of reply.
#[derive(Clone, Debug)]
pub(super) struct Latency {
    pub(super) of: &'static str,
    pub(super) count: u64,
    /// Those of [`PARTS`]; `None` where there was no reply.
    pub(super) ns: [Option<u64>; 4],
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct PathView {
    pub(super) path: String,
    pub(super) per_s: f64,
    /// Since somebody watches.
    pub(super) count: u64,
}

/// The percentiles that are shown.
pub(super) const PARTS: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];
/// What replies are told apart by, with the key of each in an answer.
const TIMES: [(&str, &str); 3] =
    [("server", "server"), ("scripts, first byte", "cgi_first_byte"), ("scripts, whole", "cgi")];

impl Sample {
    /// Reads what [`tell`](super::tell::tell) said. `None`: it is something else.
    pub(super) fn read(told: &Value, pid: i32) -> Option<Sample> {
        let times = |key: &str| {
            let pairs = told[key]["buckets"].as_array()?.iter();
            let counts = pairs.map(|pair| Some((usize::try_from(pair[0].as_u64()?).ok()?, pair[1].as_u64()?)));
            Times::from_sparse(counts.collect::<Option<Vec<_>>>()?, told[key]["sum_ns"].as_u64()?)
        };
        let [server, first_byte, whole] = TIMES.map(|(_, key)| times(key));
        let core = |value: &Value| if value.is_null() { Some(None) } else { Core::read(value).map(Some) };
        let path = |pair: &Value| Some((pair[0].as_str()?.to_owned(), pair[1].as_u64()?));
        let script = |value: &Value| {
            Some(Script {
                pid: value["pid"].as_i64()?,
                age_ms: value["age_ms"].as_u64()?,
                path: value["path"].as_str()?.to_owned(),
            })
        };
        let classes: Vec<u64> = told["replies"].as_array()?.iter().map(Value::as_u64).collect::<Option<_>>()?;
        Some(Sample {
            pid,
            state: told["state"].as_str()?.to_owned(),
            uptime_ms: told["uptime_ms"].as_u64()?,
            cores: told["cores"].as_array()?.iter().map(core).collect::<Option<_>>()?,
            classes: classes.try_into().ok()?,
            times: [server?, first_byte?, whole?],
            cgi_queued: told["cgi_queued"].as_u64()?,
            paths: told["paths"].as_array()?.iter().map(path).collect::<Option<_>>()?,
            scripts: told["scripts"].as_array()?.iter().map(script).collect::<Option<_>>()?,
        })
    }

    /// Whether it is a later look at the same run of a server.
    pub(super) fn follows(&self, earlier: &Sample) -> bool {
        self.pid == earlier.pid && self.uptime_ms >= earlier.uptime_ms && self.cores.len() == earlier.cores.len()
    }

    /// What has come since `earlier`, which this one follows.
    pub(super) fn since(&self, earlier: &Sample, name: &str) -> View {
        let seconds = ((self.uptime_ms - earlier.uptime_ms) as f64 / 1000.0).max(0.001);
        let pairs = || self.cores.iter().flatten().zip(earlier.cores.iter().flatten());
        let both = self.cores.iter().zip(&earlier.cores).all(|(now, then)| now.is_some() == then.is_some());
        // Cores that were silent once would look as if they had done all their work since.
        let rate = |count: fn(&Core) -> u64| match both {
            true => pairs().map(|(now, then)| count(now).saturating_sub(count(then))).sum::<u64>() as f64 / seconds,
            false => 0.0,
        };
        let sum = |count: fn(&Core) -> u64| self.cores.iter().flatten().map(count).sum::<u64>();
        let latency = TIMES.iter().zip(self.times.iter().zip(&earlier.times)).map(|((of, _), (now, then))| {
            let between = now.since(then);
            Latency { of, count: between.count(), ns: PARTS.map(|(_, part)| between.quantile_ns(part)) }
        });
        let path = |(path, count): &(String, u64)| {
            let before = earlier.paths.iter().find(|(other, _)| other == path).map_or(0, |(_, count)| *count);
            PathView { path: path.clone(), per_s: count.saturating_sub(before) as f64 / seconds, count: *count }
        };
        let class = |index: usize| self.classes[index].saturating_sub(earlier.classes[index]) as f64 / seconds;
        View {
            name: name.to_owned(),
            pid: self.pid,
            state: self.state.clone(),
            uptime_s: self.uptime_ms / 1000,
            seconds,
            requests: rate(|core| core.requests),
            requests_all: sum(|core| core.requests),
            errors: rate(|core| core.errors),
            errors_all: sum(|core| core.errors),
            cut: rate(|core| core.cut),
            classes: std::array::from_fn(class),
            received_bytes: rate(|core| core.received_bytes),
            sent_bytes: rate(|core| core.sent_bytes),
            accepted: rate(|core| core.accepted),
            connections: sum(|core| core.connections),
            in_flight: sum(|core| core.in_flight),
            cgi_running: sum(|core| core.cgi_running),
            cgi_queued: self.cgi_queued,
            cores: self.cores.iter().zip(&earlier.cores).enumerate().map(core_view).collect(),
            latency: latency.collect(),
            paths: self.paths.iter().map(path).collect(),
            scripts: self.scripts.clone(),
        }
    }
}

fn core_view((core, (now, then)): (usize, (&Option<Core>, &Option<Core>))) -> CoreView {
    let (Some(now), Some(then)) = (now, then) else {
        return CoreView { core, is_silent: true, ..CoreView::default() };
    };
    let ns = now.now_ns.saturating_sub(then.now_ns);
    let (ns, of) = (ns.max(1) as f64, |count: fn(&Core) -> u64| count(now).saturating_sub(count(then)) as f64);
    let enters = of(|core| core.enters);
    CoreView {
        core,
        is_silent: false,
        load: (of(|core| core.cpu_ns) / ns).min(1.0),
        user: (of(|core| core.busy_ns) / ns).min(1.0),
        requests: of(|core| core.requests) * 1e9 / ns,
        enters: enters * 1e9 / ns,
        completions_per_enter: of(|core| core.completions) / enters.max(1.0),
        connections: now.connections,
        in_flight: now.in_flight,
    }
}

impl Core {
    fn read(value: &Value) -> Option<Core> {
        let number = |key: &str| value[key].as_u64();
        Some(Core {
            now_ns: number("now_ns")?,
            cpu_ns: number("cpu_ns")?,
            busy_ns: number("busy_ns")?,
            requests: number("requests")?,
            errors: number("errors")?,
            in_flight: number("in_flight")?,
            cut: number("cut")?,
            connections: number("connections")?,
            accepted: number("accepted")?,
            received_bytes: number("received_bytes")?,
            sent_bytes: number("sent_bytes")?,
            enters: number("enters")?,
            completions: number("completions")?,
            cgi_running: number("cgi_running")?,
        })
    }
}

impl View {
    /// For programs: rates per second, times in nanoseconds.
    pub(super) fn json(&self) -> Value {
        let core = |core: &CoreView| match core.is_silent {
            true => json!({ "core": core.core, "silent": true }),
            false => json!({
                "core": core.core,
                "load": core.load,
                "user": core.user,
                "requests_per_s": core.requests,
                "enters_per_s": core.enters,
                "completions_per_enter": core.completions_per_enter,
                "connections_open": core.connections,
                "in_flight": core.in_flight,
            }),
        };
        let latency = self.latency.iter().zip(TIMES).map(|(latency, (_, key))| {
            let parts = PARTS.iter().zip(latency.ns).map(|((name, _), ns)| (format!("{name}_ns"), json!(ns)));
            let all: serde_json::Map<_, _> = parts.chain([("count".to_owned(), json!(latency.count))]).collect();
            (key.to_owned(), Value::Object(all))
        });
        let path = |path: &PathView| json!({ "path": path.path, "requests_per_s": path.per_s, "requests": path.count });
        let script = |script: &Script| json!({ "pid": script.pid, "age_ms": script.age_ms, "path": script.path });
        let classes = ["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(self.classes);
        json!({
            "name": self.name,
            "pid": self.pid,
            "state": self.state,
            "uptime_s": self.uptime_s,
            "interval_s": self.seconds,
            "requests": self.requests_all,
            "requests_per_s": self.requests,
            "errors": self.errors_all,
            "errors_per_s": self.errors,
            "cut_per_s": self.cut,
            "replies_per_s": classes.map(|(class, rate)| (class.to_owned(), json!(rate))).collect::<serde_json::Map<_, _>>(),
            "received_bytes_per_s": self.received_bytes,
            "sent_bytes_per_s": self.sent_bytes,
            "connections_accepted_per_s": self.accepted,
            "connections_open": self.connections,
            "in_flight": self.in_flight,
            "cgi_running": self.cgi_running,
            "cgi_queued": self.cgi_queued,
            "cores": self.cores.iter().map(core).collect::<Vec<_>>(),
            "latency": latency.collect::<serde_json::Map<_, _>>(),
            "paths": self.paths.iter().map(path).collect::<Vec<_>>(),
            "scripts": self.scripts.iter().map(script).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn told(uptime_ms: u64, requests: u64, buckets: Value) -> Value {
        let core = json!({
            "now_ns": uptime_ms * 1_000_000, "cpu_ns": uptime_ms * 250_000, "busy_ns": uptime_ms * 100_000,
            "requests": requests, "errors": requests / 10, "in_flight": 1, "cut": 0, "connections": 3, "accepted": requests / 2,
            "received_bytes": requests * 100, "sent_bytes": requests * 1000, "enters": requests, "completions": requests * 2,
            "cgi_running": 1,
        });
        let none = json!({ "sum_ns": 0, "buckets": [] });
        json!({
            "state": "serving", "uptime_ms": uptime_ms, "cores": [core, null], "replies": [0, requests, 0, 0, requests / 10],
            "server": { "sum_ns": 1, "buckets": buckets }, "cgi_first_byte": none, "cgi": none, "cgi_queued": 2,
            "paths": [["/a", requests], ["/\u{1b}[31mred", 1]],
            "scripts": [{ "pid": 77, "age_ms": 61_000, "path": "/srv/www/cgi-bin/slow.sh" }],
        })
    }

    #[test]
    fn rates_are_of_what_came_between() {
        let before = Sample::read(&told(1000, 100, json!([[8, 100]])), 7).unwrap();
        let after = Sample::read(&told(3000, 500, json!([[8, 100], [16, 399], [40, 1]])), 7).unwrap();
        assert!(after.follows(&before) && !before.follows(&after));
        let view = after.since(&before, "shop");
        assert_eq!((view.requests, view.errors, view.seconds), (200.0, 20.0, 2.0));
        assert_eq!((view.requests_all, view.errors_all, view.connections), (500, 50, 3));
        assert_eq!(view.classes, [0.0, 200.0, 0.0, 0.0, 20.0]);
        assert_eq!((view.cores[0].load, view.cores[0].user), (0.25, 0.1));
        assert_eq!((view.cores[0].requests, view.cores[0].completions_per_enter), (200.0, 2.0));
        assert!(view.cores[1].is_silent && !view.cores[0].is_silent);
        let server = &view.latency[0];
        assert_eq!(server.count, 400);
        assert_eq!(server.ns, [Some(2250), Some(2250), Some(2250), Some(18_000)]);
        assert_eq!(view.latency[1].ns, [None; 4]);
        assert_eq!((view.paths[0].per_s, view.paths[0].count, view.paths[1].per_s), (200.0, 500, 0.0));
        assert_eq!(view.json()["latency"]["server"]["p99.9_ns"], 18_000);
        assert_eq!(view.json()["cores"][1], json!({ "core": 1, "silent": true }));
    }

    #[test]
    fn another_process_or_an_earlier_time_is_another_run() {
        let before = Sample::read(&told(5000, 100, json!([])), 7).unwrap();
        assert!(!Sample::read(&told(6000, 200, json!([])), 8).unwrap().follows(&before));
        assert!(!Sample::read(&told(100, 1, json!([])), 7).unwrap().follows(&before));
    }

    #[test]
    fn what_is_no_answer_is_none() {
        let mut table = vec![json!({}), json!({ "ok": true }), json!([])];
        for key in ["cores", "server", "paths", "scripts", "replies", "state"] {
            let mut one = told(1, 1, json!([]));
            one[key] = json!([[true]]);
            table.push(one);
        }
        table.push(told(1, 1, json!([[100_000, 1]])));
        for value in table {
            assert!(Sample::read(&value, 1).is_none(), "{value}");
        }
    }

    /// What a core's times came to while another was silent is not known: nothing is shown rather than something wrong.
    #[test]
    fn a_core_that_speaks_again_is_no_burst() {
        let quiet = Sample::read(&told(1000, 100, json!([])), 7).unwrap();
        let mut both = told(2000, 200, json!([]));
        both["cores"][1] = both["cores"][0].clone();
        let view = Sample::read(&both, 7).unwrap().since(&quiet, "shop");
        assert_eq!(view.requests, 0.0);
        assert_eq!((view.cores[0].requests, view.cores[1].is_silent), (100.0, true));
    }
}
