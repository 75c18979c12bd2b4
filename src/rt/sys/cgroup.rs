//! How much CPU time this process's control groups allow: `cpu.max` (v2) and `cpu.cfs_quota_us` (v1), the tightest of the
//! whole path, since a group is bounded by each of its ancestors (Documentation/admin-guide/cgroup-v2.rst, sched-bwc.rst).

use std::path::{Component, Path, PathBuf};

/// CPUs' worth of time, or `None` where nothing bounds it. Whatever cannot be read bounds nothing.
pub fn cpu_quota() -> Option<f64> {
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    let membership = read(Path::new("/proc/self/cgroup"))?;
    let mounts = read(Path::new("/proc/self/mountinfo"))?;
    tightest(&groups(&membership, &mounts), read)
}

/// The version 2 group that this process is in, if that hierarchy is mounted.
pub(crate) fn own_group() -> Option<PathBuf> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let (membership, mounts) = (read("/proc/self/cgroup")?, read("/proc/self/mountinfo")?);
    groups(&membership, &mounts).into_iter().find(|(version, _)| *version == Version::V2).map(|(_, path)| path)
}

/// Which generation of control groups a directory belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// The directories that may hold a quota for us: our own group's and those above it, up to each hierarchy's mount point.
fn groups(membership: &str, mounts: &str) -> Vec<(Version, PathBuf)> {
    let mut found = Vec::new();
    for mount in mounts.lines().filter_map(mounted) {
        let Some(group) = membership.lines().find_map(|line| member(line, mount.version)) else { continue };
        let own = below(&mount, group);
        let up_to_mount = own.ancestors().take_while(|dir| dir.starts_with(&mount.point));
        found.extend(up_to_mount.map(|dir| (mount.version, dir.to_path_buf())));
    }
    found
}

fn tightest(groups: &[(Version, PathBuf)], read: impl Fn(&Path) -> Option<String>) -> Option<f64> {
    let quota = |(version, dir): &(Version, PathBuf)| match version {
        Version::V2 => cpu_max(&read(&dir.join("cpu.max"))?),
        Version::V1 => cfs(&read(&dir.join("cpu.cfs_quota_us"))?, &read(&dir.join("cpu.cfs_period_us"))?),
    };
    groups.iter().filter_map(quota).min_by(f64::total_cmp)
}

/// `QUOTA PERIOD` in microseconds, or `max PERIOD`.
fn cpu_max(text: &str) -> Option<f64> {
    let mut words = text.split_ascii_whitespace();
    let quota = words.next()?;
    ratio(quota, words.next().unwrap_or("100000"))
}

/// A quota of -1 is none.
fn cfs(quota: &str, period: &str) -> Option<f64> {
    ratio(quota.trim(), period.trim())
}

fn ratio(quota: &str, period: &str) -> Option<f64> {
    let (quota, period) = (quota.parse::<u64>().ok()?, period.parse::<u64>().ok()?);
    (quota > 0 && period > 0).then(|| quota as f64 / period as f64)
}

/// Our group's path in the hierarchy, from a line of /proc/PID/cgroup: `ID:CONTROLLERS:PATH` (cgroups(7)).
fn member(line: &str, version: Version) -> Option<&str> {
    let mut parts = line.splitn(3, ':');
    let (id, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let ours = match version {
        Version::V2 => id == "0" && controllers.is_empty(),
        Version::V1 => controllers.split(',').any(|name| name == "cpu"),
    };
    ours.then_some(path)
}

/// A mounted hierarchy: `root` is the group that appears at `point`.
struct Mounted {
    version: Version,
    root: PathBuf,
    point: PathBuf,
}

/// A line of /proc/PID/mountinfo: `ID PARENT DEV ROOT POINT OPTIONS [TAG..] - TYPE SOURCE SUPER_OPTIONS` (proc(5)).
fn mounted(line: &str) -> Option<Mounted> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mut filesystem = filesystem.split(' ');
    let version = match (filesystem.next()?, filesystem.nth(1)) {
        ("cgroup2", _) => Version::V2,
        ("cgroup", Some(options)) if options.split(',').any(|option| option == "cpu") => Version::V1,
        _ => return None,
    };
    let mut words = mount.split(' ').skip(3);
    let (root, point) = (unescape(words.next()?), unescape(words.next()?));
    Some(Mounted { version, root: root.into(), point: point.into() })
}

/// Where our group is on this machine. In a container the mount may show only our own group (then `root` is the group's path
/// or a part of it), or the group may lie outside of our namespace (`/../x`): then the mount point is all there is to see.
fn below(mount: &Mounted, group: &str) -> PathBuf {
    let group = Path::new(group);
    let outside = group.components().any(|part| part == Component::ParentDir);
    match group.strip_prefix(&mount.root) {
        Ok(rest) if !outside => mount.point.components().chain(rest.components()).collect(),
        _ => mount.point.clone(),
    }
}

/// mountinfo writes space, tab, newline and backslash as three octal digits.
fn unescape(word: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(word.to_owned(), |word, (escape, plain)| word.replace(escape, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2_MOUNT: &str = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    fn dirs(membership: &str, mounts: &str) -> Vec<String> {
        groups(membership, mounts).iter().map(|(_, dir)| dir.display().to_string()).collect()
    }

    fn quota(membership: &str, mounts: &str, files: &[(&str, &str)]) -> Option<f64> {
        let read =
            |path: &Path| files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| text.to_string());
        tightest(&groups(membership, mounts), read)
    }

    #[test]
    fn cpu_max_is_quota_over_period() {
        let table = [
            ("max 100000\n", None),
            ("150000 100000\n", Some(1.5)),
            ("50000 100000", Some(0.5)),
            ("400000", Some(4.0)),
            ("0 100000", None),
            ("100000 0", None),
            ("", None),
            ("-5 100000", None),
            ("junk", None),
        ];
        for (text, want) in table {
            assert_eq!(cpu_max(text), want, "{text:?}");
        }
        assert_eq!(cfs("-1\n", "100000\n"), None);
        assert_eq!(cfs("250000\n", "100000\n"), Some(2.5));
    }

    #[test]
    fn v2_walks_up_to_the_mount_point() {
        let got = dirs("0::/system.slice/ucaffeine.service\n", V2_MOUNT);
        let want = ["/sys/fs/cgroup/system.slice/ucaffeine.service", "/sys/fs/cgroup/system.slice", "/sys/fs/cgroup"];
        assert_eq!(got, want);
    }

    #[test]
    fn the_tightest_ancestor_wins() {
        let files = [("/sys/fs/cgroup/a/b/cpu.max", "400000 100000"), ("/sys/fs/cgroup/a/cpu.max", "150000 100000")];
        assert_eq!(quota("0::/a/b", V2_MOUNT, &files), Some(1.5));
        assert_eq!(quota("0::/a/b", V2_MOUNT, &[]), None);
    }

    #[test]
    fn v1_finds_the_cpu_controller_and_not_cpuset_or_cpuacct() {
        let membership = "4:memory:/m\n3:cpuset:/s\n2:cpu,cpuacct:/docker/abc\n0::/\n";
        let mounts = "\
            40 31 0:30 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n\
            41 31 0:31 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro master:9 - cgroup cgroup rw,cpu,cpuacct\n";
        assert_eq!(dirs(membership, mounts), ["/sys/fs/cgroup/cpu,cpuacct"]);
        let files = [
            ("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "300000\n"),
            ("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
        ];
        assert_eq!(quota(membership, mounts, &files), Some(3.0));
    }

    #[test]
    fn a_mount_that_shows_another_group_is_read_at_its_top() {
        for (membership, root) in [("0::/../other", "/"), ("0::/user.slice", "/kubepods/pod1")] {
            let mounts = format!("29 23 0:26 {root} /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n");
            assert_eq!(dirs(membership, &mounts), ["/sys/fs/cgroup"], "{membership}");
        }
    }

    #[test]
    fn mount_points_are_unescaped_and_junk_is_skipped() {
        let mounts = "29 23 0:26 / /mnt/my\\040groups rw - cgroup2 none rw\nnot a line\n1 2 3 - cgroup2\n";
        assert_eq!(dirs("0::/", mounts), ["/mnt/my groups"]);
        assert_eq!(dirs("junk\n\n0:\n", mounts), Vec::<String>::new());
    }
}
