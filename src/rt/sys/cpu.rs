//! The CPUs that this process may use, and which of them each thread gets.
//!
//! [`plan`] is pure: the same [`CpuFacts`] give the same [`CpuPlan`]. [`CpuFacts::read`] asks the machine.

use std::collections::BTreeSet;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::cgroup;

/// A CPU, by the kernel's number.
pub type CpuId = usize;

/// What the machine says.
#[derive(Clone, Debug, PartialEq)]
pub struct CpuFacts {
    /// The affinity mask of the calling thread, ascending; never empty.
    pub allowed: Vec<CpuId>,
    /// CPUs' worth of time that the control groups allow.
    pub quota: Option<f64>,
    /// The hardware threads of one physical core, for those of `allowed` whose siblings are known.
    pub siblings: Vec<Vec<CpuId>>,
}

/// How many threads run, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct CpuPlan {
    /// As in [`CpuFacts`].
    pub allowed: Vec<CpuId>,
    /// As in [`CpuFacts`].
    pub quota: Option<f64>,
    /// Threads to run; at least one.
    pub cores: usize,
    /// One for each thread: the CPU it is pinned to, or `None` where the scheduler is to choose.
    pub chosen: Vec<Option<CpuId>>,
    /// Whether the threads have less than a CPU each.
    pub shared: bool,
    /// The decision in a sentence, for people.
    pub why: String,
}

/// Decides. `requested` is what the operator asked for; `None` is as many as have a CPU each.
///
/// Threads are pinned only where each has a CPU of its own for all of the time: a pinned thread that is throttled, or that
/// waits for another on the same CPU, cannot be helped by the scheduler.
pub fn plan(facts: &CpuFacts, requested: Option<usize>) -> CpuPlan {
    let CpuFacts { allowed, quota, siblings } = facts;
    let usable = usable(allowed.len(), *quota);
    let cores = requested.unwrap_or(usable).max(1);
    let within_quota = quota.is_none_or(|quota| quota >= cores as f64);
    let shared = cores > allowed.len() || !within_quota;
    let chosen = match shared {
        true => vec![None; cores],
        false => physical_first(allowed, siblings).into_iter().take(cores).map(Some).collect(),
    };
    let why = explain(facts, requested, cores, usable, shared);
    CpuPlan { allowed: allowed.clone(), quota: *quota, cores, chosen, shared, why }
}

impl CpuFacts {
    /// Asks the kernel. To be called before any thread is pinned, since the mask is the calling thread's.
    pub fn read() -> CpuFacts {
        let allowed = allowed();
        let siblings = allowed.iter().filter_map(|&cpu| read_siblings(cpu)).collect();
        CpuFacts { allowed, quota: cgroup::cpu_quota(), siblings }
    }
}

/// Pins the calling thread, and what it will start, to one CPU.
pub fn pin(cpu: CpuId) -> std::io::Result<()> {
    if cpu >= CpuSet::MAX_CPU {
        return Err(std::io::Error::from(std::io::ErrorKind::InvalidInput));
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

/// A quota of 1.5 CPUs keeps two threads busy; one of 0.5 still needs one.
fn usable(allowed: usize, quota: Option<f64>) -> usize {
    let by_quota = quota.map_or(usize::MAX, |quota| quota.ceil() as usize);
    allowed.min(by_quota).max(1)
}

/// One hardware thread of each physical core, then their siblings: two busy threads on one core halve each other.
fn physical_first(allowed: &[CpuId], siblings: &[Vec<CpuId>]) -> Vec<CpuId> {
    let rank = |cpu: CpuId| {
        let core = siblings.iter().find(|core| core.contains(&cpu));
        core.map_or(0, |core| core.iter().filter(|&&other| other < cpu && allowed.contains(&other)).count())
    };
    let mut order = allowed.to_vec();
    order.sort_by_key(|&cpu| (rank(cpu), cpu));
    order
}

fn explain(facts: &CpuFacts, requested: Option<usize>, cores: usize, usable: usize, shared: bool) -> String {
    let threads = count(cores, "thread");
    let mut why = match requested {
        Some(_) => format!("{threads}, as asked for"),
        None => format!("{threads}, as many as have CPU time"),
    };
    why += &format!("; affinity allows {} ({})", count(facts.allowed.len(), "CPU"), ranges(&facts.allowed));
    why += &match facts.quota {
        Some(quota) => format!(", the control group {quota:.2} CPUs of time"),
        None => String::from(", no quota"),
    };
    why += &match (shared, cores > usable) {
        (false, _) => String::from("; each pinned to its own CPU"),
        (true, true) => format!("; they share {}, so none is pinned", count(usable, "CPU")),
        (true, false) => String::from("; less than a CPU each, so none is pinned"),
    };
    why
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Never empty: where the mask cannot be had (a kernel built for more CPUs than a `cpu_set_t` has), CPUs are only counted.
fn allowed() -> Vec<CpuId> {
    let mask = sched_getaffinity(None).map(|set| (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect());
    match mask {
        Ok::<Vec<CpuId>, _>(cpus) if !cpus.is_empty() => cpus,
        _ => (0..std::thread::available_parallelism().map_or(1, usize::from)).collect(),
    }
}

fn read_siblings(cpu: CpuId) -> Option<Vec<CpuId>> {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    parse_list(&std::fs::read_to_string(path).ok()?)
}

/// The kernel's list format: `0-3,8,10-11` (cpuset(7)). `None` if it is anything else, or longer than any machine.
fn parse_list(text: &str) -> Option<Vec<CpuId>> {
    let mut cpus = BTreeSet::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<CpuId>().ok()?, last.parse::<CpuId>().ok()?);
        if first > last || last >= CPU_ID_CEILING {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus.into_iter().collect())
}

/// The kernel's own NR_CPUS is at most 8192.
const CPU_ID_CEILING: CpuId = 8192;

/// Numbers as the kernel lists them (`0-3,8`), for people.
pub fn ranges(cpus: &[CpuId]) -> String {
    let mut runs: Vec<(CpuId, CpuId)> = Vec::new();
    for &cpu in cpus {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => runs.push((cpu, cpu)),
        }
    }
    let text = |&(first, last): &(CpuId, CpuId)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    runs.iter().map(text).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(cpus: usize, quota: Option<f64>) -> CpuFacts {
        CpuFacts { allowed: (0..cpus).collect(), quota, siblings: Vec::new() }
    }

    #[test]
    fn the_plan_follows_affinity_quota_and_request() {
        // allowed, quota, requested -> threads, shared
        let table = [
            (2, None, None, 2, false),
            (2, None, Some(8), 8, true),
            (2, None, Some(1), 1, false),
            (8, Some(1.5), None, 2, true),
            (8, Some(2.0), None, 2, false),
            (8, Some(2.0), Some(4), 4, true),
            (8, Some(0.2), None, 1, true),
            (8, Some(64.0), None, 8, false),
            (8, Some(4.0), Some(3), 3, false),
        ];
        for (cpus, quota, requested, cores, shared) in table {
            let got = plan(&facts(cpus, quota), requested);
            assert_eq!((got.cores, got.shared), (cores, shared), "{cpus} CPUs, {quota:?}, {requested:?}: {}", got.why);
            assert_eq!(got.chosen.len(), cores);
            assert_eq!(got.chosen.iter().any(Option::is_none), shared, "pinned exactly when not shared");
        }
    }

    #[test]
    fn pinned_threads_have_different_cpus() {
        let got = plan(&facts(4, None), Some(3));
        assert_eq!(got.chosen, [Some(0), Some(1), Some(2)]);
    }

    #[test]
    fn physical_cores_come_first() {
        let siblings = vec![vec![0, 4], vec![1, 5], vec![0, 4], vec![1, 5], vec![2, 6]];
        assert_eq!(physical_first(&[0, 1, 2, 4, 5, 6], &siblings), [0, 1, 2, 4, 5, 6]);
        // Adjacent numbering, as on many virtual machines.
        let siblings = vec![vec![0, 1], vec![2, 3]];
        assert_eq!(physical_first(&[0, 1, 2, 3], &siblings), [0, 2, 1, 3]);
        // CPU 0 is not ours, so CPU 1 is the first of its core that we have.
        assert_eq!(physical_first(&[1, 2, 3], &siblings), [1, 2, 3]);
        assert_eq!(physical_first(&[3, 5], &[]), [3, 5]);
    }

    #[test]
    fn the_reason_says_what_was_decided() {
        let why = plan(&facts(2, None), Some(8)).why;
        assert_eq!(
            why,
            "8 threads, as asked for; affinity allows 2 CPUs (0-1), no quota; they share 2 CPUs, so none is pinned"
        );
        let why = plan(&facts(8, Some(1.5)), None).why;
        assert!(why.contains("1.50 CPUs of time") && why.contains("less than a CPU each"), "{why}");
        let why = plan(&facts(1, None), None).why;
        assert!(
            why.starts_with("1 thread, as many as have CPU time") && why.ends_with("pinned to its own CPU"),
            "{why}"
        );
    }

    #[test]
    fn lists_are_read_and_written() {
        for (text, want) in [("0-3,8\n", vec![0, 1, 2, 3, 8]), ("5", vec![5]), ("1,0", vec![0, 1])] {
            assert_eq!(parse_list(text), Some(want), "{text:?}");
        }
        for junk in ["", "x", "3-1", "0-99999999999", "1,,2", "-1"] {
            assert_eq!(parse_list(junk), None, "{junk:?}");
        }
        assert_eq!(ranges(&[0, 1, 2, 5, 7, 8]), "0-2,5,7-8");
        assert_eq!(ranges(&[]), "");
    }

    #[test]
    fn this_machine_has_a_cpu() {
        let facts = CpuFacts::read();
        assert!(!facts.allowed.is_empty() && facts.quota.is_none_or(|quota| quota > 0.0));
        assert!(plan(&facts, None).cores >= 1);
    }

    #[test]
    fn a_thread_can_be_pinned_to_each_allowed_cpu_and_no_other() {
        for cpu in CpuFacts::read().allowed {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    pin(cpu).unwrap();
                    assert_eq!(allowed(), [cpu]);
                });
            });
        }
        assert!(pin(CpuSet::MAX_CPU).is_err());
    }
}
