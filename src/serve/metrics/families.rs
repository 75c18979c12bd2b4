//! Every metric, once: its name, what it is, what it says. The documentation follows (docs/metrics.md; a test holds it to this).

use std::fmt::Display;

use super::exposition::{Format, Page, Seconds, Type};
use super::observer::Observer;
use super::process::Process;
use super::{Answered, CoreReport, CoreStats, Exit, Stopped};
use crate::rt::histogram::Times;

/// A number of each core.
struct OfCore {
    name: &'static str,
    is: Type,
    help: &'static str,
    value: Value,
}

/// How it is read, and written.
enum Value {
    Count(fn(&CoreStats) -> u64),
    Nanoseconds(fn(&CoreStats) -> u64),
}

macro_rules! of_core {
    ($($name:literal $is:ident $value:ident $read:expr, $help:literal;)+) => {
        &[$(OfCore { name: $name, is: Type::$is, help: $help, value: Value::$value($read) }),+]
    };
}

#[rustfmt::skip]
static OF_CORE: &[OfCore] = of_core! {
    "ucaffeine_requests_in_flight" Gauge Count |stats| stats.in_flight,
        "Requests being answered that take more than one turn of the loop: scripts, large files, cold look-ups.";
    "ucaffeine_requests_cut" Counter Count |stats| stats.cut,
        "Such requests that ended without a whole reply: the client left or stalled, or a script broke off.";
    "ucaffeine_received_bytes" Counter Count |stats| stats.rt.received_bytes,
        "Bytes received from clients.";
    "ucaffeine_sent_bytes" Counter Count |stats| stats.sent_bytes,
        "Bytes that clients' sockets took, heads included.";
    "ucaffeine_connections_open" Gauge Count |stats| stats.connections_open as u64,
        "Connections open now.";
    "ucaffeine_connections_accepted" Counter Count |stats| stats.connections,
        "Connections accepted.";
    "ucaffeine_connections_idle_closed" Counter Count |stats| stats.idle_closed,
        "Connections closed because no request came for idle-ms-max.";
    "ucaffeine_connections_evicted" Counter Count |stats| stats.evicted,
        "Idle connections closed to make room when the descriptor table was filling up.";
    "ucaffeine_connections_refused_per_ip" Counter Count |stats| stats.connections_refused_per_ip,
        "Connections that were refused because their address had as many as it may.";
    "ucaffeine_proxy_headers_refused" Counter Count |stats| stats.proxy_headers_refused,
        "Connections that were closed for want of a PROXY header, or of trust in who sent it.";
    "ucaffeine_accept_pauses" Counter Count |stats| stats.rt.accept_pauses,
        "Times that accepting paused because the descriptor table was nearly full: newcomers wait in the backlog.";
    "ucaffeine_file_cache_hits" Counter Count |stats| stats.cache_hits,
        "Looks into the file cache that found what is at a path, also that there is nothing.";
    "ucaffeine_file_cache_misses" Counter Count |stats| stats.cache_misses,
        "Looks that had to go to the file system.";
    "ucaffeine_file_cache_bytes" Gauge Count |stats| stats.cache_bytes,
        "Memory of the file cache in use.";
    "ucaffeine_file_slices_sent" Counter Count |stats| stats.slices_sent,
        "Parts of large files sent by sendfile.";
    "ucaffeine_file_slices_cold" Counter Count |stats| stats.slices_cold,
        "Parts of large files that were not in memory, and were read through the ring.";
    "ucaffeine_cgi_started" Counter Count |stats| stats.scripts,
        "Scripts started.";
    "ucaffeine_cgi_not_started" Counter Count |stats| stats.scripts_not_started,
        "Scripts that could not be started.";
    "ucaffeine_cgi_rejected" Counter Count |stats| stats.scripts_rejected,
        "Requests for scripts answered 503: no place, and none in the queue or not in time.";
    "ucaffeine_cgi_running" Gauge Count |stats| stats.scripts_running,
        "Scripts that hold a place now.";
    "ucaffeine_ring_enters" Counter Count |stats| stats.rt.enters,
        "io_uring_enter calls.";
    "ucaffeine_ring_short_waits_over" Counter Count |stats| stats.rt.short_waits_over,
        "Timers for short waits that were over; each may have cost an enter.";
    "ucaffeine_ring_submissions" Counter Count |stats| stats.rt.submissions,
        "Entries submitted to the ring.";
    "ucaffeine_ring_completions" Counter Count |stats| stats.rt.completions,
        "Completions reaped from the ring.";
    "ucaffeine_ring_cancels" Counter Count |stats| stats.rt.cancels,
        "Operations that the kernel was asked to give up.";
    "ucaffeine_ring_operations_in_flight" Gauge Count |stats| stats.rt.operations_in_flight as u64,
        "Operations whose last completion is still to come.";
    "ucaffeine_ring_buffers_exhausted" Counter Count |stats| stats.rt.buffers_exhausted,
        "Receives that ended because the buffer ring was empty (ENOBUFS).";
    "ucaffeine_ring_buffers_out" Gauge Count |stats| stats.rt.buffers_out as u64,
        "Receive buffers outside the buffer ring now.";
    "ucaffeine_ring_direct_descriptors" Gauge Count |stats| u64::from(stats.rt.direct_used),
        "Slots of the ring's descriptor table in use.";
    "ucaffeine_zero_copy_sends" Counter Count |stats| stats.rt.zero_copies,
        "Sends without a copy.";
    "ucaffeine_zero_copy_sends_copied" Counter Count |stats| stats.rt.zero_copies_copied,
        "Sends that were to be without a copy, and were copied.";
    "ucaffeine_loop_turns" Counter Count |stats| stats.rt.turns,
        "Turns of the loop.";
    "ucaffeine_loop_busy_seconds" Counter Nanoseconds |stats| stats.rt.busy_ns,
        "Time between the return of one enter and the next: tasks and the loop itself, without the kernel's part.";
    "ucaffeine_core_cpu_seconds" Counter Nanoseconds |stats| stats.rt.cpu_ns,
        "CPU time of the core's thread, the kernel's part included.";
    "ucaffeine_tasks" Gauge Count |stats| stats.rt.tasks as u64,
        "Tasks alive.";
    "ucaffeine_tasks_panicked" Counter Count |stats| stats.rt.tasks_panicked,
        "Tasks that ended by a panic; anything but 0 is a bug.";
    "ucaffeine_access_log_records_lost" Counter Count |stats| stats.log_records_lost,
        "Lines of the access log that were dropped because it was written too slowly.";
};

/// Histograms of each core.
type OfTimes = (&'static str, &'static str, &'static [(&'static str, fn(&CoreReport) -> &Times)]);

const REPLY_TIMES: [OfTimes; 2] = [
    (
        "ucaffeine_request_first_byte_seconds",
        "From the turn that read a request to the head of its reply; `by` is who answered.",
        &[("server", |core| &core.first_byte), ("cgi", |core| &core.scripted_first_byte)],
    ),
    (
        "ucaffeine_request_duration_seconds",
        "From the turn that read a request until the socket was given all of its reply.",
        &[("server", |core| &core.whole), ("cgi", |core| &core.scripted_whole)],
    ),
];

/// The whole text.
pub(super) fn page(format: Format, cores: &[Option<CoreReport>], observer: &Observer) -> String {
    let mut page = Page::new(format);
    let told = || cores.iter().enumerate().filter_map(|(index, core)| Some((index, core.as_ref()?)));
    let version = env!("CARGO_PKG_VERSION");
    page.family("ucaffeine_build", Type::Info, "The program.")
        .sample(&[("version", &version), ("engine", &"uring")], 1);
    page.family("ucaffeine_ready", Type::Gauge, "1 while it serves and was not told to stop; as /readyz.")
        .sample(&[], u8::from(observer.is_ready()));
    page.family("ucaffeine_core_up", Type::Gauge, "1 for a core that answered this scrape in time.");
    for (index, core) in cores.iter().enumerate() {
        page.sample(&[("core", &index)], u8::from(core.is_some()));
    }
    page.family("ucaffeine_requests", Type::Counter, "Requests answered, by what answered and with which status.");
    for (index, core) in told() {
        for replies in &core.replies {
            let labels: [(&str, &dyn Display); 3] =
                [("core", &index), ("kind", &replies.by.name()), ("code", &replies.status)];
            page.sample(&labels, replies.count);
        }
        // Known from the beginning, so that a rate of it is one from the first request on.
        if !core.replies.iter().any(|replies| replies.by == Answered::File && replies.status == 200) {
            page.sample(&[("core", &index), ("kind", &Answered::File.name()), ("code", &200)], 0);
        }
    }
    for (name, help, times) in REPLY_TIMES {
        page.family(name, Type::Histogram, help);
        for (index, core) in told() {
            times.iter().for_each(|(by, times)| {
                page.histogram(&[("core", &index), ("by", by)], times(core));
            });
        }
    }
    for of_core in OF_CORE {
        page.family(of_core.name, of_core.is, of_core.help);
        for (index, core) in told() {
            match of_core.value {
                Value::Count(read) => page.sample(&[("core", &index)], read(&core.stats)),
                Value::Nanoseconds(read) => page.sample(&[("core", &index)], Seconds(read(&core.stats))),
            };
        }
    }
    page.family("ucaffeine_cgi_queued", Type::Gauge, "Requests that wait for a script's place, on all cores together.")
        .sample(&[], observer.scripts_queued());
    page.family("ucaffeine_cgi_run_seconds", Type::Histogram, "From the start of a script to its exit.");
    for (index, core) in told() {
        page.histogram(&[("core", &index)], &core.script_run);
    }
    page.family("ucaffeine_cgi_exits", Type::Counter, "Scripts that have exited, by how.");
    for (index, core) in told() {
        for (exit, count) in Exit::ALL.iter().zip(core.exits) {
            page.sample(&[("core", &index), ("how", &exit.name())], count);
        }
    }
    page.family("ucaffeine_cgi_ended", Type::Counter, "Scripts that the server ended before they were done, by why.");
    for (index, core) in told() {
        for (why, count) in Stopped::ALL.iter().zip(core.stops) {
            page.sample(&[("core", &index), ("why", &why.name())], count);
        }
    }
    process(&mut page);
    page.finish()
}

/// The names are those that every exporter uses.
fn process(page: &mut Page) {
    let process = Process::read();
    let mut one = |name, is, help, value: Option<String>| {
        if let Some(value) = value {
            page.family(name, is, help).sample(&[], value);
        }
    };
    let number = |value: Option<u64>| value.map(|value| value.to_string());
    let help = "Threads that the kernel runs for the rings (iou-wrk); a hot static run has none.";
    one("ucaffeine_io_workers", Type::Gauge, help, number(process.io_workers));
    one(
        "ucaffeine_threads",
        Type::Gauge,
        "Threads of the process, those of the kernel included.",
        number(process.threads),
    );
    let cpu = process.cpu_ns.map(|ns| Seconds(ns).to_string());
    one("process_cpu_seconds", Type::Counter, "CPU time of the process, without that of scripts.", cpu);
    one("process_resident_memory_bytes", Type::Gauge, "Memory that is resident.", number(process.resident_bytes));
    one("process_virtual_memory_bytes", Type::Gauge, "Address space in use.", number(process.virtual_bytes));
    one(
        "process_open_fds",
        Type::Gauge,
        "Open descriptors, without those of the rings' tables.",
        number(process.open_fds),
    );
    one("process_max_fds", Type::Gauge, "The limit of open descriptors.", number(process.fds_max));
    let started = process.started_unix_cs.map(|cs| Seconds(cs * 10_000_000).to_string());
    one("process_start_time_seconds", Type::Gauge, "When the process started, since 1970.", started);
}

#[cfg(test)]
mod tests {
    use super::super::{Replies, Scripts};
    use super::*;

    const DOCUMENT: &str = include_str!("../../../docs/metrics.md");

    fn observer() -> Observer {
        Observer::new(
            Vec::new(),
            super::super::super::stop::StopSignal::new(super::super::super::stop::Stage::Serving),
            crate::serve::cgi::Admission::new(),
            Default::default(),
        )
    }

    #[test]
    fn every_metric_is_documented_with_its_type_and_none_that_is_not() {
        let text = page(Format::Prometheus, &[Some(CoreReport::default())], &observer());
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        let exposed: Vec<(&str, &str)> = types.collect();
        for (name, is) in &exposed {
            let row = format!("| `{name}` | {is} |");
            assert!(DOCUMENT.lines().any(|line| line.starts_with(&row)), "docs/metrics.md lacks: {row}");
        }
        let rows = DOCUMENT.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
        for (name, _) in rows.filter(|(name, _)| name.starts_with("ucaffeine_") || name.starts_with("process_")) {
            assert!(exposed.iter().any(|(known, _)| *known == name), "{name} is documented, and does not exist");
        }
    }

    #[test]
    fn a_core_that_does_not_answer_is_told_of() {
        let replies = vec![Replies { status: 404, by: Answered::Error, count: 3 }];
        let core = CoreReport { replies, ..CoreReport::default() };
        let text = page(Format::Prometheus, &[None, Some(core)], &observer());
        for line in [
            "ucaffeine_core_up{core=\"0\"} 0",
            "ucaffeine_core_up{core=\"1\"} 1",
            "ucaffeine_requests_total{core=\"1\",kind=\"error\",code=\"404\"} 3",
            "ucaffeine_requests_total{core=\"1\",kind=\"file\",code=\"200\"} 0",
            "ucaffeine_request_duration_seconds_bucket{core=\"1\",by=\"server\",le=\"0.000001\"} 0",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} in\n{text}");
        }
        assert!(!text.contains("ucaffeine_ring_enters_total{core=\"0\"}"));
    }

    #[test]
    fn exits_are_counted_by_how() {
        use std::os::unix::process::ExitStatusExt;
        use std::process::ExitStatus;
        let scripts = Scripts::default();
        for status in [Some(0), Some(1 << 8), Some(9), None] {
            scripts.exited(1, status.map(ExitStatus::from_raw));
        }
        assert_eq!(scripts.exits(), [1; 4]);
    }
}
