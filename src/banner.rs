//! What is said at the start, and what `--explain` says. Text from facts; printing is the caller's.

use std::path::Path;

use serde_json::{Map, Value, json};
use ucaffeine::rt::cpu::{CpuPlan, ranges};
use ucaffeine::serve::options::{Listen, MountConfig, Options, SiteConfig};

use crate::config::{Group, Part, Settled, Unit, one_line};

/// What a server that has started knows about itself.
pub(crate) struct Started<'a> {
    /// As bound: port 0 has become a real one.
    pub(crate) listen: &'a [Listen],
    pub(crate) options: &'a Options,
    pub(crate) cpus: &'a CpuPlan,
    /// The engine that was chosen, in words.
    pub(crate) engine: &'a str,
    /// Its name, if it has one.
    pub(crate) instance: Option<Instance<'a>>,
}

/// What a server that is an instance knows about that.
#[derive(Clone, Copy)]
pub(crate) struct Instance<'a> {
    pub(crate) name: &'a str,
    pub(crate) pid: i32,
    /// Where its output goes, if it is in the background.
    pub(crate) log: Option<&'a Path>,
}

/// How a text is to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// One `name value` per line, for programs.
    Plain,
    /// Aligned and with a little colour, for people.
    Terminal,
}

/// The lines that a server prints once it listens. Plain, each line is a name, a space and a value.
pub(crate) fn started(facts: &Started<'_>, look: Look) -> String {
    let mut rows: Vec<(&str, String)> = Vec::new();
    rows.extend(facts.instance.map(|instance| ("instance", format!("{} (pid {})", instance.name, instance.pid))));
    rows.extend(facts.listen.iter().map(|listen| ("listening", url(listen))));
    for site in &facts.options.sites {
        rows.extend((!site.names.is_empty()).then(|| ("host", site.names.join(" "))));
        rows.push(("files", site.root.display().to_string()));
        rows.extend(site.mounts.iter().map(|mount| ("programs", mounted(mount, &site.root))));
    }
    rows.push(("cores", cores(facts.cpus)));
    rows.push(("engine", facts.engine.to_owned()));
    rows.push(("limits", main_limits(facts.options)));
    let log = facts.instance.and_then(|instance| instance.log);
    rows.extend(log.map(|log| ("log", log.display().to_string())));
    let stop = stop(facts.options, facts.instance.filter(|instance| instance.log.is_some()));
    match look {
        Look::Plain => {
            rows.push(("stop", stop));
            rows.iter().map(|(name, value)| format!("{name} {}\n", one_line(value))).collect()
        }
        Look::Terminal => {
            let title = format!("\n  {BOLD}ucaffeine{RESET} {}\n\n", env!("CARGO_PKG_VERSION"));
            let body: String = rows.iter().map(row).collect();
            format!("{title}{body}\n  {DIM}{stop}{RESET}\n\n")
        }
    }
}

fn row((name, value): &(&str, String)) -> String {
    let value = one_line(value);
    match *name {
        "listening" => format!("  {DIM}{name:<10}{RESET} {BOLD}{value}{RESET}\n"),
        name => format!("  {DIM}{name:<10}{RESET} {value}\n"),
    }
}

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const RESET: &str = "\x1b[0m";

/// What can be typed into a browser; a Unix socket has no URL, so it is named as `--bind` names it.
pub(crate) fn url(listen: &Listen) -> String {
    match listen {
        Listen::Unix(path) => format!("unix:{}", path.display()),
        Listen::Tcp(address) if address.ip().is_unspecified() => {
            format!("http://{address}/ (every {} address)", if address.is_ipv4() { "IPv4" } else { "IPv6" })
        }
        Listen::Tcp(address) => format!("http://{address}/"),
    }
}

fn mounted(mount: &MountConfig, root: &Path) -> String {
    let target = match mount.target.strip_prefix(root) {
        Ok(inside) => inside.display().to_string(),
        Err(_) => mount.target.display().to_string(),
    };
    format!("{}/ -> {target}", mount.prefix)
}

fn cores(cpus: &CpuPlan) -> String {
    match (cpus.shared, cpus.cores) {
        (false, 1) => String::from("1, pinned"),
        (false, cores) => format!("{cores}, each pinned to its own CPU"),
        (true, cores) => {
            let time = cpus.quota.map_or(cpus.allowed.len() as f64, |quota| quota.min(cpus.allowed.len() as f64));
            format!("{cores}, sharing {time} CPU{}", if time == 1.0 { "" } else { "s" })
        }
    }
}

fn main_limits(options: &Options) -> String {
    let cgi = &options.cgi;
    let programs = match options.sites.iter().any(|site| !site.mounts.is_empty()) {
        true => format!("{} programs at once and {} waiting, ", cgi.running_max, cgi.queued_max),
        false => String::new(),
    };
    let limits = &options.limits;
    let head = Unit::Bytes.show(limits.head_bytes_max as u64);
    let (time, idle) = (Unit::Millis.show(limits.head_ms_max), Unit::Millis.show(limits.idle_ms_max));
    format!("{programs}head {head} in {time}, idle {idle}")
}

fn stop(options: &Options, background: Option<Instance<'_>>) -> String {
    let drain = Unit::Millis.show(options.drain_ms_max);
    match background {
        Some(instance) => format!("ucaffeine -s -n {} stops it; what is in flight gets {drain}", instance.name),
        None => format!("Ctrl-C (or SIGTERM) stops it; what is in flight gets {drain}"),
    }
}

/// What `--explain` is given.
pub(crate) struct Explained<'a> {
    pub(crate) options: &'a Options,
    pub(crate) cpus: &'a CpuPlan,
    /// The engine that would run and why, and what the kernel can and cannot do, name and finding.
    pub(crate) capabilities: &'a [(String, String)],
    /// What would be locked in memory, name and size.
    pub(crate) memlock: &'a [(String, String)],
    pub(crate) settled: &'a [Settled],
    /// What the file's tables come to.
    pub(crate) parts: &'a [Part],
}

/// Everything that was decided, and why. Sections without facts are left out.
pub(crate) fn explain(facts: &Explained<'_>) -> String {
    let settings = |wanted: fn(Group) -> bool| -> Vec<[String; 3]> {
        let rows = facts.settled.iter().filter(|settled| wanted(settled.group));
        rows.map(|settled| [settled.name.to_owned(), settled.value.clone(), settled.origin.clone()]).collect()
    };
    let pairs = |pairs: &[(String, String)]| -> Vec<[String; 3]> {
        pairs.iter().map(|(name, finding)| [name.clone(), finding.clone(), String::new()]).collect()
    };
    let is_limit = |group: Group| !group.is_of_settings();
    let sections = [
        ("CPUs", cpu_rows(facts.cpus)),
        ("Engine", pairs(facts.capabilities)),
        ("Locked memory", pairs(facts.memlock)),
        ("Serves", served_rows(facts.options)),
        ("Settings (value, and where it was said)", settings(Group::is_of_settings)),
        ("Limits (value, and where it was said)", settings(is_limit)),
    ];
    let titled = |(title, rows): &(&str, Vec<[String; 3]>)| format!("{title}\n{}", table(rows));
    let mut texts: Vec<String> = sections.iter().filter(|(_, rows)| !rows.is_empty()).map(titled).collect();
    facts.parts.iter().for_each(|part| part_texts(part, "", &mut texts));
    texts.join("\n")
}

/// A table of the file, and those in it.
fn part_texts(part: &Part, of: &str, texts: &mut Vec<String>) {
    let kind = if part.kind == "host" { "Host" } else { "Location" };
    let title = format!("{kind} {}{of} ({})", part.title, part.origin);
    let rows: Vec<[String; 3]> =
        part.rows.iter().map(|(name, value, origin)| [name.clone(), value.clone(), origin.clone()]).collect();
    texts.push(format!("{}\n{}", one_line(&title), table(&rows)));
    let of = format!(" of {}", part.title);
    part.parts.iter().for_each(|inner| part_texts(inner, &of, texts));
}

/// The same for programs: everything is text, as it would be written.
pub(crate) fn explain_json(facts: &Explained<'_>) -> String {
    let pairs = |pairs: &[(String, String)]| -> Value {
        pairs.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect::<Map<_, _>>().into()
    };
    let settled: Map<String, Value> = facts
        .settled
        .iter()
        .map(|settled| {
            let key = settled.name.replace('-', "_");
            (key, json!({ "value": settled.value, "origin": settled.origin }))
        })
        .collect();
    let listen: Vec<String> = facts.options.listen.iter().map(|listen| listen.to_string()).collect();
    let site = |site: &SiteConfig| {
        let mounts = site
            .mounts
            .iter()
            .map(|mount| json!({ "prefix": mount.prefix, "target": mount.target.display().to_string() }));
        json!({ "names": site.names, "path": site.root.display().to_string(), "mounts": mounts.collect::<Vec<_>>() })
    };
    let whole = json!({
        "listen": listen,
        "cores": facts.cpus.cores,
        "engine": pairs(facts.capabilities),
        "locked_memory": pairs(facts.memlock),
        "settings": settled,
        "tables": facts.parts.iter().map(part_json).collect::<Vec<_>>(),
        "sites": facts.options.sites.iter().map(site).collect::<Vec<_>>(),
    });
    format!("{whole:#}\n")
}

fn part_json(part: &Part) -> Value {
    let rows: Map<String, Value> = part
        .rows
        .iter()
        .map(|(key, value, origin)| (key.clone(), json!({ "value": value, "origin": origin })))
        .collect();
    let title = if part.kind == "host" { "names" } else { "pattern" };
    let tables: Vec<Value> = part.parts.iter().map(part_json).collect();
    json!({ "kind": part.kind, title: part.title, "origin": part.origin, "settings": rows, "tables": tables })
}

fn served_rows(options: &Options) -> Vec<[String; 3]> {
    let mut rows: Vec<(&str, String)> = options.listen.iter().map(|listen| ("at", url(listen))).collect();
    for site in &options.sites {
        rows.extend((!site.names.is_empty()).then(|| ("host", site.names.join(" "))));
        rows.push(("files", site.root.display().to_string()));
        rows.extend(site.mounts.iter().map(|mount| ("programs", mounted(mount, &site.root))));
        rows.extend(site.hidden.iter().map(|path| ("never as files", path.display().to_string())));
    }
    rows.into_iter().map(|(name, finding)| [name.to_owned(), finding, String::new()]).collect()
}

fn cpu_rows(cpus: &CpuPlan) -> Vec<[String; 3]> {
    let pins: Vec<_> = cpus.chosen.iter().flatten().copied().collect();
    let order = pins.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let rows = [
        ("decision", cpus.why.clone()),
        ("allowed", ranges(&cpus.allowed)),
        ("quota", cpus.quota.map_or_else(|| String::from("none"), |quota| format!("{quota:.2} CPUs of time"))),
        ("threads", cpus.cores.to_string()),
        ("pinned to", if pins.is_empty() { String::from("nothing; the scheduler chooses") } else { order }),
    ];
    rows.into_iter().map(|(name, finding)| [name.to_owned(), finding, String::new()]).collect()
}

/// Columns as wide as their widest cell, but for a few that are wider than the rest.
fn table(rows: &[[String; 3]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.filter(|&width| width <= CELL_CHARS_MAX).max().unwrap_or(0)
    };
    let (first, second) = (width(0), width(1));
    let line = |[name, value, origin]: &[String; 3]| {
        let line = format!("  {name:<first$}  {:<second$}  {}", one_line(value), one_line(origin));
        format!("{}\n", line.trim_end())
    };
    rows.iter().map(line).collect()
}

const CELL_CHARS_MAX: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use ucaffeine::rt::cpu::{CpuFacts, plan};
    use ucaffeine::serve::options::MountKind;

    fn options() -> Options {
        let mut site = SiteConfig::files_only(PathBuf::from("/srv/site"));
        let mount = |prefix: &str, target: &str, kind| MountConfig::new(prefix.into(), target.into(), kind);
        site.mounts.push(mount("/cgi-bin", "/srv/site/cgi-bin", MountKind::Folder));
        site.mounts.push(mount("/git", "/usr/lib/git-http-backend", MountKind::Program));
        Options { sites: vec![site], ..Options::default() }
    }

    fn cpus(allowed: usize, quota: Option<f64>, requested: Option<usize>) -> CpuPlan {
        plan(&CpuFacts { allowed: (0..allowed).collect(), quota, siblings: Vec::new() }, requested)
    }

    fn text(listen: &[Listen], look: Look) -> String {
        let cpus = cpus(2, None, Some(8));
        started(&Started { listen, options: &options(), cpus: &cpus, engine: "uring", instance: None }, look)
    }

    #[test]
    fn plain_is_a_name_and_a_value_per_line() {
        let listen = [Listen::Tcp(([127, 0, 0, 1], 41234).into()), Listen::Unix("/run/x.sock".into())];
        let want = "listening http://127.0.0.1:41234/\n\
            listening unix:/run/x.sock\n\
            files /srv/site\n\
            programs /cgi-bin/ -> cgi-bin\n\
            programs /git/ -> /usr/lib/git-http-backend\n\
            cores 8, sharing 2 CPUs\n\
            engine uring\n\
            limits 64 programs at once and 256 waiting, head 64KiB in 10s, idle 1m\n\
            stop Ctrl-C (or SIGTERM) stops it; what is in flight gets 30s\n";
        assert_eq!(text(&listen, Look::Plain), want);
    }

    #[test]
    fn a_terminal_gets_colour_and_no_path_can_add_to_it() {
        let listen = [Listen::Unix("/run/\x1b[31m\n.sock".into())];
        assert!(text(&listen, Look::Terminal).contains(BOLD));
        for look in [Look::Plain, Look::Terminal] {
            assert!(!text(&listen, look).contains("\x1b[31m"));
        }
        assert!(!text(&listen, Look::Plain).contains('\x1b'));
    }

    #[test]
    fn wildcards_say_what_they_are() {
        assert_eq!(url(&Listen::Tcp(([0, 0, 0, 0], 80).into())), "http://0.0.0.0:80/ (every IPv4 address)");
        assert_eq!(url(&Listen::Tcp("[::]:80".parse().unwrap())), "http://[::]:80/ (every IPv6 address)");
        assert_eq!(url(&Listen::Tcp("[::1]:80".parse().unwrap())), "http://[::1]:80/");
    }

    #[test]
    fn cores_say_whether_they_share() {
        assert_eq!(cores(&cpus(2, None, None)), "2, each pinned to its own CPU");
        assert_eq!(cores(&cpus(1, None, None)), "1, pinned");
        assert_eq!(cores(&cpus(8, Some(1.5), None)), "2, sharing 1.5 CPUs");
        assert_eq!(cores(&cpus(1, Some(4.0), Some(3))), "3, sharing 1 CPU");
    }

    #[test]
    fn explain_leaves_out_what_is_not_known() {
        let cpus = cpus(2, None, None);
        let settled = [Settled {
            name: "port",
            group: Group::Serving,
            value: String::from("81"),
            origin: String::from("UCAFFEINE_PORT"),
        }];
        let capabilities = [(String::from("engine"), String::from("uring"))];
        let options = options();
        let got = explain(&Explained {
            options: &options,
            cpus: &cpus,
            capabilities: &capabilities,
            memlock: &[],
            settled: &settled,
            parts: &[],
        });
        assert!(got.contains("Engine\n  engine  uring\n") && !got.contains("Locked memory"), "{got}");
        assert!(got.contains("  never as files  cgi-bin\n"), "{got}");
        assert!(got.contains("  port  81  UCAFFEINE_PORT\n"), "{got}");
        assert!(got.contains("pinned to  0, 1\n"), "{got}");
    }
}
