//! What `/proc` says of the server, of the machine and of ourselves, at one moment. Two moments make a window.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::record::ServerUsage;

/// A process, the children it has and the children it has reaped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Server {
    pid: u32,
    processes: u32,
    /// All of it, as exactly as the kernel says.
    cpu_ns: u64,
    /// How it is shared out, in ticks.
    user_ticks: u64,
    system_ticks: u64,
    run_ns: Option<u64>,
    wait_ns: Option<u64>,
    switches: u64,
    rss_bytes: u64,
    core: Option<u32>,
    core_rest: Option<Rest>,
}

/// How long a core had nothing to do for us, at one moment. The kernel measures that; the time it was busy, it samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rest {
    at_ns: u64,
    rest_ns: u64,
}

/// The CPU time of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    at_ns: u64,
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
            let mut threads_ns = 0;
            server.rss_bytes += stat.rss_pages * rustix::param::page_size() as u64;
            for thread in entries(&format!("/proc/{process}/task")) {
                if let Some((run_ns, wait_ns)) = scheduled(process, thread) {
                    *server.run_ns.get_or_insert(0) += run_ns;
                    *server.wait_ns.get_or_insert(0) += wait_ns;
                    threads_ns += run_ns;
                }
                let status = read(&format!("/proc/{process}/task/{thread}/status")).unwrap_or_default();
                server.switches += number_of(&status, "voluntary_ctxt_switches:").unwrap_or(0);
                server.switches += number_of(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0);
                // A thread that is pinned to one CPU: that is the server's core, if there is only one.
                cores.extend(number_of(&status, "Cpus_allowed_list:"));
            }
            // Ticks are cut off, which is too much of a short run; what the threads say is exact, but leaves out those
            // that have ended. Neither is ever too large.
            server.cpu_ns += ticks_to_ns(stat.own_ticks).max(threads_ns) + ticks_to_ns(stat.reaped_ticks);
        }
        if let [core] = cores.into_iter().collect::<Vec<u64>>()[..] {
            server.core = u32::try_from(core).ok();
            server.core_rest = server.core.zip(machine).and_then(|(core, machine)| {
                let cpu = machine.cores.get(&core)?;
                Some(Rest { at_ns: machine.at_ns, rest_ns: ticks_to_ns(cpu.idle + cpu.steal) })
            });
        }
        (server.processes > 0).then_some(server)
    }

    /// What was used between `before` and this.
    #[must_use]
    pub fn since(&self, before: &Server) -> ServerUsage {
        let rest = self.core_rest.zip(before.core_rest);
        let cpu_ns = self.cpu_ns.saturating_sub(before.cpu_ns);
        let user_ticks = self.user_ticks.saturating_sub(before.user_ticks);
        let system_ticks = self.system_ticks.saturating_sub(before.system_ticks);
        let user_share = user_ticks as f64 / (user_ticks + system_ticks).max(1) as f64;
        let user_ns = (cpu_ns as f64 * user_share) as u64;
        ServerUsage {
            pid: self.pid,
            processes: self.processes,
            user_ns,
            system_ns: cpu_ns.saturating_sub(user_ns),
            run_ns: self.run_ns.zip(before.run_ns).map(|(after, before)| after.saturating_sub(before)),
            wait_ns: self.wait_ns.zip(before.wait_ns).map(|(after, before)| after.saturating_sub(before)),
            context_switches: self.switches.saturating_sub(before.switches),
            rss_bytes: self.rss_bytes,
            core: self.core.filter(|core| before.core == Some(*core)),
            core_busy_ns: rest.map(|(after, before)| {
                let elapsed_ns = after.at_ns.saturating_sub(before.at_ns);
                elapsed_ns.saturating_sub(after.rest_ns.saturating_sub(before.rest_ns))
            }),
        }
    }
}

impl Machine {
    /// Reads `/proc/stat`.
    #[must_use]
    pub fn read() -> Option<Machine> {
        Machine::parse(&read("/proc/stat")?, crate::engine::monotonic_ns())
    }

    fn parse(text: &str, at_ns: u64) -> Option<Machine> {
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
        Some(Machine { at_ns, all: all?, cores })
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
    /// The two, without the children's.
    own_ticks: u64,
    reaped_ticks: u64,
    rss_pages: u64,
}

impl Stat {
    /// proc_pid_stat(5). The name is in parentheses, and may have any in it: fields are counted from the last one.
    fn parse(text: &str) -> Option<Stat> {
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<u64> = rest.split_whitespace().map(|word| word.parse().unwrap_or(0)).collect();
        // The state, which is field 3 of the page, is number 0 here.
        let field = |number: usize| fields.get(number - 3).copied();
        let [user, system, reaped_user, reaped_system] = [field(14)?, field(15)?, field(16)?, field(17)?];
        Some(Stat {
            user_ticks: user + reaped_user,
            system_ticks: system + reaped_system,
            own_ticks: user + system,
            reaped_ticks: reaped_user + reaped_system,
            rss_pages: field(24)?,
        })
    }
}

/// The children of this process, the ended ones that nobody has reaped too.
#[must_use]
pub fn children() -> Vec<u32> {
    let me = std::process::id();
    tree(me).into_iter().filter(|process| *process != me && parent(*process) == Some(me)).collect()
}

fn parent(process: u32) -> Option<u32> {
    let stat = read(&format!("/proc/{process}/stat"))?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
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
        let expected = Stat { user_ticks: 44, system_ticks: 66, own_ticks: 33, reaped_ticks: 77, rss_pages: 77 };
        assert_eq!(Stat::parse(STAT), Some(expected));
        assert_eq!(Stat::parse("42 (x"), None);
        assert_eq!(Stat::parse("42 (x) S 1"), None);
    }

    #[test]
    fn the_machine_is_read_core_by_core() {
        let machine = |steal: u64| {
            let text = format!("cpu  10 1 20 100 5 2 3 {steal} 0 0\ncpu0 1 0 2 50 0 0 0 0 0 0\nintr 1\n");
            Machine::parse(&text, 5).unwrap()
        };
        assert_eq!(machine(0).all, Cpu { busy: 36, idle: 105, steal: 0 });
        assert_eq!(machine(0).cores[&0].busy, 3);
        assert_eq!(machine(9).steal_share_since(&machine(9)), None);
        let later = Machine { all: Cpu { busy: 81, idle: 150, steal: 10 }, ..machine(0) };
        assert_eq!(later.steal_share_since(&machine(0)), Some(0.1));
        assert_eq!(Machine::parse("nothing", 0), None);
    }

    #[test]
    fn a_busy_core_is_one_that_did_not_rest() {
        let at = |at_ns, rest_ns, cpu_ns| Server {
            cpu_ns,
            user_ticks: cpu_ns / 100,
            core: Some(1),
            core_rest: Some(Rest { at_ns, rest_ns }),
            ..Server::default()
        };
        let used = at(5_000, 1_500, 900).since(&at(3_000, 1_000, 100));
        assert_eq!((used.core_busy_ns, used.user_ns, used.system_ns, used.core), (Some(1_500), 800, 0, Some(1)));
        // Rest is written down in ticks, and may be ahead of the clock.
        assert_eq!(at(1_000, 9_000, 0).since(&at(500, 0, 0)).core_busy_ns, Some(0));
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
