//! What `/proc` says of the server, of the machine and of ourselves, at one moment. Two moments make a window.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::record::ServerUsage;

/// A process, the children it has and the children it has reaped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Server {
    pid: u32,
    processes: u32,
    user_ticks: u64,
    system_ticks: u64,
    run_ns: Option<u64>,
    wait_ns: Option<u64>,
    switches: u64,
    rss_bytes: u64,
    core: Option<u32>,
    core_busy_ticks: Option<u64>,
}

/// The CPU time of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    all: Cpu,
    cores: BTreeMap<u32, Cpu>,
}

/// One line of `/proc/stat`, in ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cpu {
    busy: u64,
    idle: u64,
    steal: u64,
}

impl Server {
    /// Reads the process tree; `None` when the process is not there.
    #[must_use]
    pub fn read(pid: u32, machine: Option<&Machine>) -> Option<Server> {
        let mut server = Server { pid, ..Server::default() };
        let mut cores = BTreeSet::new();
        for process in tree(pid) {
            let Some(stat) = read(&format!("/proc/{process}/stat")).as_deref().and_then(Stat::parse) else { continue };
            server.processes += 1;
            server.user_ticks += stat.user_ticks;
            server.system_ticks += stat.system_ticks;
            server.rss_bytes += stat.rss_pages * rustix::param::page_size() as u64;
            for thread in entries(&format!("/proc/{process}/task")) {
                if let Some((run_ns, wait_ns)) = scheduled(process, thread) {
                    *server.run_ns.get_or_insert(0) += run_ns;
                    *server.wait_ns.get_or_insert(0) += wait_ns;
                }
                let status = read(&format!("/proc/{process}/task/{thread}/status")).unwrap_or_default();
                server.switches += number_of(&status, "voluntary_ctxt_switches:").unwrap_or(0);
                server.switches += number_of(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0);
                // A thread that is pinned to one CPU: that is the server's core, if there is only one.
                cores.extend(number_of(&status, "Cpus_allowed_list:"));
            }
        }
        if let [core] = cores.into_iter().collect::<Vec<u64>>()[..] {
            server.core = u32::try_from(core).ok();
            server.core_busy_ticks =
                server.core.zip(machine).and_then(|(core, machine)| Some(machine.cores.get(&core)?.busy));
        }
        (server.processes > 0).then_some(server)
    }

    /// What was used between `before` and this.
    #[must_use]
    pub fn since(&self, before: &Server) -> ServerUsage {
        let busy = self.core_busy_ticks.zip(before.core_busy_ticks);
        ServerUsage {
            pid: self.pid,
            processes: self.processes,
            user_ns: ticks_to_ns(self.user_ticks.saturating_sub(before.user_ticks)),
            system_ns: ticks_to_ns(self.system_ticks.saturating_sub(before.system_ticks)),
            run_ns: self.run_ns.zip(before.run_ns).map(|(after, before)| after.saturating_sub(before)),
            wait_ns: self.wait_ns.zip(before.wait_ns).map(|(after, before)| after.saturating_sub(before)),
            context_switches: self.switches.saturating_sub(before.switches),
            rss_bytes: self.rss_bytes,
            core: self.core.filter(|core| before.core == Some(*core)),
            core_busy_ns: busy.map(|(after, before)| ticks_to_ns(after.saturating_sub(before))),
        }
    }
}

impl Machine {
    /// Reads `/proc/stat`.
    #[must_use]
    pub fn read() -> Option<Machine> {
        Machine::parse(&read("/proc/stat")?)
    }

    fn parse(text: &str) -> Option<Machine> {
        let mut all = None;
        let mut cores = BTreeMap::new();
        for (name, rest) in text.lines().filter_map(|line| line.split_once(' ')) {
            match name.strip_prefix("cpu") {
                Some("") => all = Cpu::parse(rest),
                Some(number) => {
                    if let (Ok(number), Some(cpu)) = (number.parse(), Cpu::parse(rest)) {
                        cores.insert(number, cpu);
                    }
                }
                None => {}
            }
        }
        Some(Machine { all: all?, cores })
    }

    /// The share of the time since `before` that the hypervisor gave to others.
    #[must_use]
    pub fn steal_share_since(&self, before: &Machine) -> Option<f64> {
        let sum = |cpu: &Cpu| cpu.busy + cpu.idle + cpu.steal;
        let whole = sum(&self.all).saturating_sub(sum(&before.all));
        (whole > 0).then(|| self.all.steal.saturating_sub(before.all.steal) as f64 / whole as f64)
    }
}

impl Cpu {
    /// proc_stat(5): user nice system idle iowait irq softirq steal; guest time is in user already.
    fn parse(text: &str) -> Option<Cpu> {
        let ticks: Vec<u64> = text.split_whitespace().map_while(|word| word.parse().ok()).collect();
        let [user, nice, system, idle, iowait, irq, softirq, steal, ..] = ticks[..] else { return None };
        Some(Cpu { busy: user + nice + system + irq + softirq, idle: idle + iowait, steal })
    }
}

/// What matters of `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    /// Own time and that of the children that were reaped.
    user_ticks: u64,
    system_ticks: u64,
    rss_pages: u64,
}

impl Stat {
    /// proc_pid_stat(5). The name is in parentheses, and may have any in it: fields are counted from the last one.
    fn parse(text: &str) -> Option<Stat> {
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<u64> = rest.split_whitespace().map(|word| word.parse().unwrap_or(0)).collect();
        // The state, which is field 3 of the page, is number 0 here.
        let field = |number: usize| fields.get(number - 3).copied();
        Some(Stat { user_ticks: field(14)? + field(16)?, system_ticks: field(15)? + field(17)?, rss_pages: field(24)? })
    }
}

/// How long a thread was on a CPU, and how long it waited for one: the first numbers of its schedstat (the kernel's
/// Documentation/scheduler/sched-stats.rst).
fn scheduled(process: u32, thread: u32) -> Option<(u64, u64)> {
    let text = read(&format!("/proc/{process}/task/{thread}/schedstat"))?;
    let mut numbers = text.split_whitespace().map_while(|word| word.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

/// A process and what descends from it.
fn tree(root: u32) -> Vec<u32> {
    let mut all = vec![root];
    let mut at = 0;
    while let Some(process) = all.get(at).copied() {
        at += 1;
        for thread in entries(&format!("/proc/{process}/task")) {
            let children = read(&format!("/proc/{process}/task/{thread}/children")).unwrap_or_default();
            let new = children.split_whitespace().filter_map(|word| word.parse::<u32>().ok());
            all.extend(new.filter(|child| *child != root));
        }
    }
    all
}

/// Resident memory of this process.
#[must_use]
pub fn own_rss_bytes() -> u64 {
    let stat = read("/proc/self/stat").as_deref().and_then(Stat::parse);
    stat.map_or(0, |stat| stat.rss_pages * rustix::param::page_size() as u64)
}

/// Connections that were dropped because a listen queue was full, on this machine since it started.
#[must_use]
pub fn listen_overflows() -> Option<u64> {
    overflows_in(&read("/proc/net/netstat")?)
}

/// `TcpExt:` comes twice: once with the names, once with the numbers.
fn overflows_in(netstat: &str) -> Option<u64> {
    let mut lines = netstat.lines().filter_map(|line| line.strip_prefix("TcpExt:"));
    let at = lines.next()?.split_whitespace().position(|name| name == "ListenOverflows")?;
    lines.next()?.split_whitespace().nth(at)?.parse().ok()
}

/// The number behind a word at the beginning of a line.
fn number_of(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

fn ticks_to_ns(ticks: u64) -> u64 {
    ticks.saturating_mul(1_000_000_000 / rustix::param::clock_ticks_per_second().max(1))
}

fn read(path: &str) -> Option<String> {
    // A process's name may be no UTF-8.
    Some(String::from_utf8_lossy(&fs::read(path).ok()?).into_owned())
}

/// The names in a folder that are numbers.
fn entries(path: &str) -> Vec<u32> {
    let names = fs::read_dir(path).into_iter().flatten().flatten();
    names.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 11 22 33 44 20 0 1 0 5000 1000000 77 184";

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let expected = Stat { user_ticks: 44, system_ticks: 66, rss_pages: 77 };
        assert_eq!(Stat::parse(STAT), Some(expected));
        assert_eq!(Stat::parse("42 (x"), None);
        assert_eq!(Stat::parse("42 (x) S 1"), None);
    }

    #[test]
    fn the_machine_is_read_core_by_core() {
        let machine = |steal: u64| {
            let text = format!("cpu  10 1 20 100 5 2 3 {steal} 0 0\ncpu0 1 0 2 50 0 0 0 0 0 0\nintr 1\n");
            Machine::parse(&text).unwrap()
        };
        assert_eq!(machine(0).all, Cpu { busy: 36, idle: 105, steal: 0 });
        assert_eq!(machine(0).cores[&0].busy, 3);
        assert_eq!(machine(9).steal_share_since(&machine(9)), None);
        let later = Machine { all: Cpu { busy: 81, idle: 150, steal: 10 }, ..machine(0) };
        assert_eq!(later.steal_share_since(&machine(0)), Some(0.1));
        assert_eq!(Machine::parse("nothing"), None);
    }

    #[test]
    fn overflows_stand_under_their_name() {
        let text = "IpExt: a\nIpExt: 1\nTcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 1 22 3\n";
        assert_eq!(overflows_in(text), Some(22));
        assert_eq!(overflows_in("TcpExt: a\nTcpExt: 1\n"), None);
    }

    #[test]
    fn this_process_is_there_and_works() {
        let machine = Machine::read().expect("/proc/stat");
        let me = std::process::id();
        let before = Server::read(me, Some(&machine)).expect("this process");
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
        let with_child = Server::read(me, Some(&machine)).expect("this process");
        assert!(tree(me).contains(&child.id()));
        let _ = child.kill();
        let _ = child.wait();
        assert!(with_child.processes >= 2 && before.rss_bytes > 0);
        assert_eq!(with_child.since(&before).pid, me);
        assert_eq!(Server::read(u32::MAX, None), None);
        assert!(own_rss_bytes() > 0 && listen_overflows().is_some());
    }
}
