//! Every limit, once. The flag, the key, the variable, the help, `--explain` and the documentation follow from this table.

use std::ops::RangeInclusive;

use ucaffeine::http::limits::FIELDS_MAX_CEILING;
use ucaffeine::serve::options::Options;

use super::settings::Group;
use super::units::{NONE, Unit};

/// One bound, where it lives in [`Options`], and what it may be.
pub(crate) struct Limit {
    /// As a flag, without the dashes before it.
    pub(crate) name: &'static str,
    pub(crate) unit: Unit,
    pub(crate) group: Group,
    pub(crate) range: RangeInclusive<u64>,
    pub(crate) help: &'static str,
    slot: fn(&mut Options) -> Slot<'_>,
}

/// Where a limit's value lives. The default is what [`Options::default`] has there, so it is written once.
enum Slot<'a> {
    U64(&'a mut u64),
    Usize(&'a mut usize),
    MaybeU64(&'a mut Option<u64>),
    MaybeUsize(&'a mut Option<usize>),
}

/// No deadline is longer: sums of a moment and a few of them cannot overflow.
const TIME: u64 = 365 * 24 * 3_600_000;
/// More than any disk, and far from the overflow of a sum.
const SIZE: u64 = 1 << 50;
/// What is allocated for one connection or one script.
const MEMORY: u64 = 64 << 20;
const COUNT: u64 = 1_000_000;

use Group::{CgiLimits, ConnectionLimits, FileLimits, LogLimits, RequestLimits};
use Unit::{Bytes, BytesPerSecond, Count, Millis};

macro_rules! limits {
    ($($name:literal $unit:ident $group:ident $range:expr, $($field:ident).+, $help:literal;)+) => {
        &[$(Limit {
            name: $name,
            unit: $unit,
            group: $group,
            range: $range,
            help: $help,
            slot: |options| Slot::from(&mut options.$($field).+),
        }),+]
    };
}

#[rustfmt::skip]
pub(crate) static LIMITS: &[Limit] = limits! {
    "target-bytes-max" Bytes RequestLimits 1..=MEMORY, limits.target_bytes_max,
        "Request target (path and query); 414 beyond";
    "field-bytes-max" Bytes RequestLimits 1..=MEMORY, limits.field_bytes_max,
        "One header field, name and value; 431 beyond";
    "fields-max" Count RequestLimits 1..=FIELDS_MAX_CEILING as u64, limits.fields_max,
        "Header fields in one request; 431 beyond";
    "head-bytes-max" Bytes RequestLimits 64..=MEMORY, limits.head_bytes_max,
        "The whole head, from the method to the blank line; 431 beyond";
    "trailer-bytes-max" Bytes RequestLimits 0..=MEMORY, limits.trailer_bytes_max,
        "Trailers after a chunked body; 431 beyond";
    "chunk-ext-bytes-max" Bytes RequestLimits 0..=MEMORY, limits.chunk_ext_bytes_max,
        "Chunk extensions of one body, all together; 400 beyond";
    "ranges-max" Count RequestLimits 1..=10_000, files.ranges_max,
        "Ranges in one request; with more, Range is ignored";

    "head-ms-max" Millis ConnectionLimits 1..=TIME, limits.head_ms_max,
        "From the first byte of a request's head to its last; 408 beyond";
    "idle-ms-max" Millis ConnectionLimits 1..=TIME, limits.idle_ms_max,
        "Between two requests; the connection is closed beyond";
    "stall-ms-max" Millis ConnectionLimits 1..=TIME, limits.stall_ms_max,
        "A body or a reply that makes no progress; the connection is closed beyond";
    "progress-bytes-per-s-min" BytesPerSecond ConnectionLimits 0..=SIZE, limits.progress_bytes_per_s_min,
        "The slowest transfer that is kept, per second, averaged over --stall-ms-max";
    "drain-bytes-max" Bytes ConnectionLimits 0..=SIZE, limits.drain_bytes_max,
        "Read of a refused request's body to keep the connection; closed beyond";
    "requests-per-connection-max" Count ConnectionLimits 1..=SIZE, requests_per_connection_max,
        "Requests on one connection; closed after the last";
    "connections-max" Count ConnectionLimits 1..=COUNT, connections_max,
        "Connections per core; none is what the descriptor limit allows";
    "drain-ms-max" Millis ConnectionLimits 0..=TIME, drain_ms_max,
        "From SIGINT or SIGTERM until what is still in flight is cut; a second signal cuts it at once";
    "drain-delay-ms" Millis ConnectionLimits 0..=TIME, drain_delay_ms,
        "How long it serves on after SIGINT or SIGTERM, while /readyz says 503, before the drain begins";
    "upgrade-ms-max" Millis ConnectionLimits 1..=TIME, upgrade_ms_max,
        "From the start of a new process for --upgrade until it must be ready; the old one goes on beyond";

    "cgi-running-max" Count CgiLimits 1..=COUNT, cgi.running_max,
        "Scripts that run at the same time, on all cores together";
    "cgi-queued-max" Count CgiLimits 0..=COUNT, cgi.queued_max,
        "Requests that wait for a script to end; 503 beyond";
    "cgi-queue-ms-max" Millis CgiLimits 0..=TIME, cgi.queue_ms_max,
        "How long such a request waits; 503 beyond";
    "cgi-head-bytes-max" Bytes CgiLimits 64..=MEMORY, cgi.head_bytes_max,
        "The header of a script's reply; 502 beyond";
    "cgi-first-byte-ms-max" Millis CgiLimits 1..=TIME, cgi.first_byte_ms_max,
        "From a script's start, or its last read of the request's body, to its first byte; 504 beyond";
    "cgi-idle-ms-max" Millis CgiLimits 1..=TIME, cgi.idle_ms_max,
        "A script that neither reads nor writes; ended beyond";
    "cgi-total-ms-max" Millis CgiLimits 1..=TIME, cgi.total_ms_max,
        "The whole life of a script; ended beyond";
    "cgi-term-to-kill-ms" Millis CgiLimits 0..=TIME, cgi.term_to_kill_ms,
        "From SIGTERM to SIGKILL when a script is ended";
    "cgi-held-stdout-ms-max" Millis CgiLimits 0..=TIME, cgi.held_stdout_ms_max,
        "How long a descendant may hold stdout after the script has exited";
    "cgi-exit-wait-ms-max" Millis CgiLimits 0..=TIME, cgi.exit_wait_ms_max,
        "How long the end of a reply waits for the script's exit status";
    "cgi-no-reader-ms-max" Millis CgiLimits 0..=TIME, cgi.no_reader_ms_max,
        "How long a script goes on after its client has stopped sending and takes no output";
    "cgi-body-bytes-max" Bytes CgiLimits 0..=SIZE, cgi.body_bytes_max,
        "A request body with a Content-Length, streamed to the script; 413 beyond";
    "cgi-buffered-body-bytes-max" Bytes CgiLimits 4096..=MEMORY, cgi.buffered_body_bytes_max,
        "Of a request body, read ahead of a slow script; then the client waits";
    "cgi-spool-memory-bytes-max" Bytes CgiLimits 0..=MEMORY, cgi.spool_memory_bytes_max,
        "Of a chunked request body, kept in memory; then in a temporary file";
    "cgi-spool-file-bytes-max" Bytes CgiLimits 0..=SIZE, cgi.spool_file_bytes_max,
        "A chunked request body in all; 413 beyond";
    "cgi-cpu-ms-max" Millis CgiLimits 1..=TIME, cgi.bounds.cpu_ms_max,
        "CPU time of a process, rounded up to seconds; SIGXCPU then, a second later SIGKILL (RLIMIT_CPU)";
    "cgi-address-space-bytes-max" Bytes CgiLimits (16 << 20)..=SIZE, cgi.bounds.address_space_bytes_max,
        "Address space of a process (RLIMIT_AS)";
    "cgi-open-files-max" Count CgiLimits 16..=COUNT, cgi.bounds.open_files_max,
        "Descriptors of a process (RLIMIT_NOFILE)";
    "cgi-processes-max" Count CgiLimits 1..=COUNT, cgi.bounds.processes_max,
        "Processes of the programs' user in all; does not bind root (RLIMIT_NPROC)";
    "cgi-file-bytes-max" Bytes CgiLimits 0..=SIZE, cgi.bounds.file_bytes_max,
        "A file that a process writes (RLIMIT_FSIZE)";
    "cgi-core-bytes-max" Bytes CgiLimits 0..=SIZE, cgi.bounds.core_bytes_max,
        "A core file (RLIMIT_CORE)";

    "cache-bytes-max" Bytes FileLimits 0..=SIZE, files.cache_bytes_max,
        "Each core's cache of hot files; 0 turns it off";
    "cached-file-bytes-max" Bytes FileLimits 0..=SIZE, files.cached_file_bytes_max,
        "The largest file that is cached; larger ones are sent by sendfile";
    "cold-buffer-bytes-max" Bytes FileLimits 256<<10..=MEMORY, files.cold_buffer_bytes_max,
        "What each core reads files into that are not in the page cache";
    "send-zerocopy-bytes-min" Bytes FileLimits 4096..=SIZE, files.send_zerocopy_bytes_min,
        "Cached bodies so long are sent without a copy (SEND_ZC), until the kernel says that it copies all the same";
    "listing-entries-max" Count FileLimits 1..=COUNT, files.listing_entries_max,
        "Names in a listing: the first ones, with the number of all";

    "access-log-buffer-bytes-max" Bytes LogLimits (64 << 10)..=(1 << 30), access_log_buffer_bytes_max,
        "Each core's lines that wait while the access log cannot be written; lost, and counted, beyond";
};

impl Limit {
    /// Takes what was written. The error says what would have been right.
    pub(crate) fn set(&self, options: &mut Options, text: &str) -> Result<(), String> {
        let mut slot = (self.slot)(options);
        if text.eq_ignore_ascii_case(NONE) && slot.clear() {
            return Ok(());
        }
        let value = self.unit.parse(text)?;
        if !self.range.contains(&value) || !slot.fill(value) {
            let (least, most) = (self.unit.show(*self.range.start()), self.unit.show(*self.range.end()));
            return Err(format!("out of bounds; {least} to {most}"));
        }
        Ok(())
    }

    /// As it would be written.
    pub(crate) fn show(&self, options: &mut Options) -> String {
        (self.slot)(options).value().map_or_else(|| NONE.to_owned(), |value| self.unit.show(value))
    }

    /// What holds when nothing is said.
    pub(crate) fn default(&self) -> String {
        self.show(&mut Options::default())
    }

    /// Whether `none` is allowed.
    pub(crate) fn optional(&self) -> bool {
        (self.slot)(&mut Options::default()).clear()
    }
}

impl Slot<'_> {
    fn value(&self) -> Option<u64> {
        match self {
            Slot::U64(value) => Some(**value),
            Slot::Usize(value) => Some(**value as u64),
            Slot::MaybeU64(value) => **value,
            Slot::MaybeUsize(value) => value.map(|value| value as u64),
        }
    }

    /// False where the number does not fit this machine.
    fn fill(&mut self, number: u64) -> bool {
        let word = usize::try_from(number);
        match (self, word) {
            (Slot::U64(value), _) => **value = number,
            (Slot::MaybeU64(value), _) => **value = Some(number),
            (Slot::Usize(value), Ok(word)) => **value = word,
            (Slot::MaybeUsize(value), Ok(word)) => **value = Some(word),
            (_, Err(_)) => return false,
        }
        true
    }

    /// False where there must be a limit.
    fn clear(&mut self) -> bool {
        match self {
            Slot::U64(_) | Slot::Usize(_) => return false,
            Slot::MaybeU64(value) => **value = None,
            Slot::MaybeUsize(value) => **value = None,
        }
        true
    }
}

macro_rules! slot_from {
    ($($kind:ty => $variant:ident),+) => {
        $(impl<'a> From<&'a mut $kind> for Slot<'a> {
            fn from(value: &'a mut $kind) -> Slot<'a> {
                Slot::$variant(value)
            }
        })+
    };
}
slot_from!(u64 => U64, usize => Usize, Option<u64> => MaybeU64, Option<usize> => MaybeUsize);

#[cfg(test)]
mod tests {
    use super::*;
    use ucaffeine::http::limits::Limits;
    use ucaffeine::serve::options::{CgiOptions, FileOptions, ScriptBounds};

    fn limit(name: &str) -> &'static Limit {
        LIMITS.iter().find(|limit| limit.name == name).unwrap()
    }

    /// The patterns have no `..`: a field that is added to the options does not compile here until it is in the table.
    #[test]
    fn no_field_is_forgotten() {
        let mut options = Options::default();
        for (number, limit) in LIMITS.iter().enumerate() {
            // Within the bounds of each, and no two the same.
            let value = (5_000 + number as u64).clamp(*limit.range.start(), *limit.range.end());
            limit.set(&mut options, &value.to_string()).unwrap();
        }
        let Limits {
            target_bytes_max,
            field_bytes_max,
            fields_max,
            head_bytes_max,
            trailer_bytes_max,
            chunk_ext_bytes_max,
            head_ms_max,
            idle_ms_max,
            stall_ms_max,
            progress_bytes_per_s_min,
            drain_bytes_max,
        } = options.limits;
        let CgiOptions {
            running_max,
            queued_max,
            queue_ms_max,
            head_bytes_max: cgi_head_bytes_max,
            first_byte_ms_max,
            idle_ms_max: cgi_idle_ms_max,
            total_ms_max,
            term_to_kill_ms,
            held_stdout_ms_max,
            exit_wait_ms_max,
            no_reader_ms_max,
            body_bytes_max,
            buffered_body_bytes_max,
            spool_memory_bytes_max,
            spool_file_bytes_max,
            linger: _,
            bounds,
        } = options.cgi;
        let ScriptBounds {
            cpu_ms_max,
            address_space_bytes_max,
            open_files_max,
            processes_max,
            file_bytes_max,
            core_bytes_max,
            nice: _,
            umask: _,
            user: _,
            cgroup: _,
            helper: _,
        } = bounds;
        let FileOptions {
            cache_bytes_max,
            watch: _,
            cached_file_bytes_max,
            cold_buffer_bytes_max,
            send_zerocopy_bytes_min,
            ranges_max,
            listing_entries_max,
        } = options.files;
        let mut values = vec![
            target_bytes_max as u64,
            field_bytes_max as u64,
            fields_max as u64,
            head_bytes_max as u64,
            trailer_bytes_max as u64,
            chunk_ext_bytes_max as u64,
            head_ms_max,
            idle_ms_max,
            stall_ms_max,
            progress_bytes_per_s_min,
            drain_bytes_max,
            running_max as u64,
            queued_max as u64,
            queue_ms_max,
            cgi_head_bytes_max as u64,
            first_byte_ms_max,
            cgi_idle_ms_max,
            total_ms_max.unwrap(),
            term_to_kill_ms,
            held_stdout_ms_max,
            exit_wait_ms_max,
            no_reader_ms_max,
            body_bytes_max.unwrap(),
            buffered_body_bytes_max as u64,
            spool_memory_bytes_max as u64,
            spool_file_bytes_max,
            cpu_ms_max.unwrap(),
            address_space_bytes_max.unwrap(),
            open_files_max.unwrap(),
            processes_max.unwrap(),
            file_bytes_max.unwrap(),
            core_bytes_max.unwrap(),
            cache_bytes_max as u64,
            cached_file_bytes_max as u64,
            cold_buffer_bytes_max as u64,
            send_zerocopy_bytes_min.unwrap() as u64,
            ranges_max as u64,
            listing_entries_max as u64,
            options.drain_ms_max,
            options.drain_delay_ms,
            options.upgrade_ms_max,
            options.requests_per_connection_max.unwrap(),
            options.connections_max.unwrap() as u64,
            options.access_log_buffer_bytes_max as u64,
        ];
        assert_eq!(values.len(), LIMITS.len());
        assert!(values.iter().all(|&value| value == 256 || value >= 5_000), "every field was set: {values:?}");
        values.sort();
        values.dedup();
        assert_eq!(values.len(), LIMITS.len(), "no two rows share a field: {values:?}");
    }

    #[test]
    fn names_end_as_their_unit_says() {
        for Limit { name, unit, .. } in LIMITS {
            let fits = match unit {
                Unit::Bytes => name.contains("bytes-max") || name.ends_with("bytes-min"),
                Unit::Millis => name.ends_with("-ms-max") || name.ends_with("-ms"),
                Unit::Count => !name.contains("bytes") && name.ends_with("-max"),
                Unit::BytesPerSecond => name.contains("-bytes-per-s-"),
            };
            assert!(fits, "{name}");
        }
    }

    #[test]
    fn defaults_are_allowed_and_read_back() {
        for limit in LIMITS {
            let mut options = Options::default();
            limit.set(&mut options, &limit.default()).unwrap_or_else(|error| panic!("{}: {error}", limit.name));
            assert_eq!(options, Options::default(), "{}", limit.name);
        }
    }

    #[test]
    fn bounds_are_held() {
        let mut options = Options::default();
        assert_eq!(limit("fields-max").set(&mut options, "257"), Err("out of bounds; 1 to 256".into()));
        assert_eq!(limit("idle-ms-max").set(&mut options, "0"), Err("out of bounds; 1ms to 8760h".into()));
        assert!(limit("idle-ms-max").set(&mut options, "none").unwrap_err().contains("not a time"));
        assert_eq!(options, Options::default());
        limit("cgi-total-ms-max").set(&mut options, "1h").unwrap();
        assert_eq!(options.cgi.total_ms_max, Some(3_600_000));
        limit("cgi-total-ms-max").set(&mut options, "none").unwrap();
        assert_eq!(options.cgi.total_ms_max, None);
    }
}
