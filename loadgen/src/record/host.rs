//! The machine that a run was made on: enough to see that two results are not comparable.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// A fingerprint of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// The release of the kernel.
    pub kernel: String,
    /// The processor, as it calls itself.
    pub cpu_model: String,
    /// Processors that the system has.
    pub cores: u32,
    /// The first core's frequency governor; nothing where the system does not say.
    pub governor: Option<String>,
    /// True if the processor says that it is a virtual machine's.
    pub virtual_machine: bool,
    /// Memory.
    pub memory_bytes: u64,
}

impl Host {
    /// Reads it from `/proc` and `/sys`; what cannot be read is empty.
    #[must_use]
    pub fn read() -> Host {
        Host::read_below(Path::new("/"))
    }

    fn read_below(root: &Path) -> Host {
        let text = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
        let cpuinfo = text("proc/cpuinfo");
        let governor = text("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
        Host {
            kernel: text("proc/sys/kernel/osrelease").trim().to_owned(),
            cpu_model: field(&cpuinfo, "model name")
                .or_else(|| field(&cpuinfo, "Model"))
                .unwrap_or_default()
                .to_owned(),
            cores: u32::try_from(cpuinfo.lines().filter(|line| line.starts_with("processor")).count())
                .unwrap_or(u32::MAX),
            governor: Some(governor.trim().to_owned()).filter(|name| !name.is_empty()),
            virtual_machine: field(&cpuinfo, "flags")
                .is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
            memory_bytes: field(&text("proc/meminfo"), "MemTotal").and_then(kibibytes).unwrap_or(0),
        }
    }

    /// What differs between two machines, in words; nothing if it is the same kind.
    #[must_use]
    pub fn differences(&self, other: &Host) -> Vec<String> {
        let pairs = [
            ("kernel", &self.kernel, &other.kernel),
            ("CPU", &self.cpu_model, &other.cpu_model),
            ("cores", &self.cores.to_string(), &other.cores.to_string()),
        ];
        let unlike = pairs.into_iter().filter(|(_, a, b)| a != b);
        let mut found: Vec<String> = unlike.map(|(what, a, b)| format!("{what} {a} and {b}")).collect();
        if self.governor != other.governor {
            let name = |host: &Host| host.governor.clone().unwrap_or_else(|| String::from("unknown"));
            found.push(format!("governor {} and {}", name(self), name(other)));
        }
        found
    }
}

/// The value of the first line `name : value`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.into_iter().find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim())
}

/// `2048 kB` is 2 MiB.
fn kibibytes(text: &str) -> Option<u64> {
    text.strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_read_from_its_files() {
        let root = tempfile::tempdir().expect("a folder");
        let files = [
            ("proc/sys/kernel/osrelease", "6.18.44\n"),
            (
                "proc/cpuinfo",
                "processor\t: 0\nmodel name\t: Some CPU @ 2.50GHz\nflags\t\t: fpu hypervisor sse\n\nprocessor\t: 1\n",
            ),
            ("proc/meminfo", "MemTotal:        2048 kB\nMemFree: 1 kB\n"),
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n"),
        ];
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, text).expect("written");
        }
        let host = Host {
            kernel: String::from("6.18.44"),
            cpu_model: String::from("Some CPU @ 2.50GHz"),
            cores: 2,
            governor: Some(String::from("performance")),
            virtual_machine: true,
            memory_bytes: 2 << 20,
        };
        assert_eq!(Host::read_below(root.path()), host);
        assert_eq!(host.differences(&host), Vec::<String>::new());
        let other = Host { kernel: String::from("6.1.0"), governor: None, ..host.clone() };
        assert_eq!(host.differences(&other), ["kernel 6.18.44 and 6.1.0", "governor performance and unknown"]);
    }

    #[test]
    fn a_machine_that_says_nothing_is_empty() {
        let root = tempfile::tempdir().expect("a folder");
        assert_eq!(Host::read_below(root.path()), Host::default());
    }

    #[test]
    fn this_machine_says_something() {
        let host = Host::read();
        assert!(host.cores > 0 && !host.kernel.is_empty(), "{host:?}");
    }
}
