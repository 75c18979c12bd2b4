//! What the kernel knows of this process, as every exporter names it; from proc(5).

use std::fs;

/// Facts that can be had. On a machine without /proc there are none.
#[derive(Debug, Default)]
pub(super) struct Process {
    pub(super) cpu_ns: Option<u64>,
    pub(super) resident_bytes: Option<u64>,
    pub(super) virtual_bytes: Option<u64>,
    pub(super) open_fds: Option<u64>,
    pub(super) fds_max: Option<u64>,
    /// Seconds since 1970, in hundredths.
    pub(super) started_unix_cs: Option<u64>,
    pub(super) threads: Option<u64>,
    /// Of these, the kernel's workers for our rings.
    pub(super) io_workers: Option<u64>,
}

impl Process {
    pub(super) fn read() -> Process {
        let tasks = fs::read_dir("/proc/self/task").ok().map(|tasks| {
            let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).ok();
            tasks.filter_map(|task| name(task.ok()?)).collect::<Vec<_>>()
        });
        let is_worker = |name: &&String| name.starts_with("iou-wrk");
        let text = |path: &str| fs::read_to_string(path).ok();
        let stat = text("/proc/self/stat").as_deref().and_then(Stat::parse);
        let tick_ns = 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1);
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let booted_s = text("/proc/stat")
            .and_then(|text| text.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<u64>().ok()));
        let started = stat.as_ref().zip(booted_s);
        Process {
            cpu_ns: stat.as_ref().map(|stat| stat.cpu_ticks * tick_ns),
            resident_bytes: stat.as_ref().map(|stat| stat.resident_pages * rustix::param::page_size() as u64),
            virtual_bytes: stat.as_ref().map(|stat| stat.virtual_bytes),
            open_fds: fs::read_dir("/proc/self/fd").ok().map(|fds| fds.count() as u64),
            fds_max: limit,
            started_unix_cs: started.map(|(stat, booted_s)| booted_s * 100 + stat.started_ticks * tick_ns / 10_000_000),
            threads: tasks.as_ref().map(|tasks| tasks.len() as u64),
            io_workers: tasks.map(|tasks| tasks.iter().filter(is_worker).count() as u64),
        }
    }
}

struct Stat {
    cpu_ticks: u64,
    started_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    /// Fields 14, 15, 22, 23 and 24 of proc_pid_stat(5). The name is in parentheses and may contain some itself.
    fn parse(text: &str) -> Option<Stat> {
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Stat {
            cpu_ticks: field(14)? + field(15)?,
            started_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_stat() {
        let line =
            "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 11 22 0 0 20 0 3 0 4242 8192000 250 18446744073709551615 1 1";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.cpu_ticks, stat.started_ticks), (33, 4242));
        assert_eq!((stat.virtual_bytes, stat.resident_pages), (8_192_000, 250));
        assert!(Stat::parse("7 (a) S 1 7").is_none());
    }

    #[test]
    fn this_process_has_all_of_them() {
        let process = Process::read();
        assert!(
            process.resident_bytes > Some(1 << 20) && process.virtual_bytes > process.resident_bytes,
            "{process:?}"
        );
        assert!(process.open_fds > Some(2) && process.fds_max >= process.open_fds, "{process:?}");
        assert!(process.threads >= Some(1) && process.cpu_ns.is_some() && process.io_workers.is_some(), "{process:?}");
        let now_s = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        assert!(process.started_unix_cs.is_some_and(|cs| cs / 100 <= now_s + 2), "{process:?}");
    }
}
