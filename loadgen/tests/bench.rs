//! The real binary measures real servers, in a comparison that is as small as can be. No figure is looked at: what is held is
//! that cells are whole, stamped, resumed and rendered, and that nothing is left behind.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Two servers of a few lines: one serves files and closes, the other never starts. Both are there wherever tests run.
const SERVERS: &str = r#"
[[server]]
name = "small"
command = "python3 -u {folder}/../small.py {site}"
after-reply = "closes"

[[server]]
name = "broken"
command = "sh -c 'echo no such luck; exit 3'"
"#;

/// Serves files, a connection at a time each in a thread, from a child process, which has to be found and ended, too.
const SMALL: &str = r#"
import http.server, os, sys
class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *args): pass
    def end_headers(self):
        self.send_header("Connection", "close")
        super().end_headers()
os.chdir(sys.argv[1])
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 1024
    daemon_threads = True
server = Server(("127.0.0.1", 0), Handler)
print("http://127.0.0.1:%d/" % server.server_port, flush=True)
if os.fork() == 0:
    os.setsid()
    server.serve_forever()
os.wait()
"#;

/// A folder of its own: `TMPDIR` of the comparison is inside, so that what it leaves there is seen.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("tmp")).unwrap();
        fs::write(folder.path().join("servers.toml"), SERVERS).unwrap();
        fs::write(folder.path().join("tmp/small.py"), SMALL).unwrap();
        Place { folder }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
        command.arg("bench").args(words).arg("--unoptimised").stdin(Stdio::null());
        command.env("TMPDIR", self.at("tmp"));
        command
    }

    fn bench(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// A comparison of the two in one cell, once.
    fn small(&self, more: &[&str]) -> Vec<String> {
        let (add, out) = (self.at("servers.toml"), self.at("results"));
        let words =
            ["--add", add.to_str().unwrap(), "--out", out.to_str().unwrap(), "--cells", "close", "--seconds", "0.2"];
        words.iter().chain(more).map(|word| (*word).to_owned()).collect()
    }

    /// What the comparison left where temporary files are.
    fn left(&self) -> Vec<String> {
        let names =
            fs::read_dir(self.at("tmp")).unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap());
        names.filter(|name| name != "small.py").collect()
    }

    /// Processes that were started from here and are still there.
    fn processes(&self) -> usize {
        let mark = self.folder.path().to_str().unwrap().to_owned();
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
        lines.filter(|line| String::from_utf8_lossy(line).contains(&mark)).count()
    }
}

fn words(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn assert_exits(output: &Output, code: i32, says: &str) {
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(says), "`{says}` is not in\n{said}");
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))).unwrap()
}

/// The files of cells, below the folder of results.
fn cells(results: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for folder in fs::read_dir(results.join("raw")).into_iter().flatten().flatten() {
        for file in fs::read_dir(folder.path()).into_iter().flatten().flatten() {
            let (folder, file) = (folder.file_name(), file.file_name());
            found.insert(format!("{}/{}", folder.to_string_lossy(), file.to_string_lossy()));
        }
    }
    found
}

/// Without python3 there is no server to measure; CI has it.
fn skipped() -> bool {
    let there = Command::new("python3").arg("--version").output().is_ok_and(|output| output.status.success());
    if !there {
        assert!(std::env::var_os("STRICT").is_none(), "python3 is not installed");
        eprintln!("SKIPPED: python3 is not installed");
    }
    !there
}

#[test]
fn a_small_comparison_is_whole_stamped_and_leaves_nothing_behind() {
    if skipped() {
        return;
    }
    let place = Place::new();
    let results = place.at("results");
    let output = place.bench(&words(&place.small(&["--servers", "small,broken", "--rounds", "1"])));
    assert_exits(&output, 0, "README.md");
    let expected: BTreeSet<String> = ["close", "close-at-10", "close-at-50", "close-at-80"]
        .iter()
        .flat_map(|key| ["small", "broken"].map(|server| format!("{key}/{server}-1.json")))
        .collect();
    assert_eq!(cells(&results), expected);
    // Who does not start is in the results with what it said.
    let broken = json(&results.join("raw/close/broken-1.json"));
    assert_eq!(broken["validity"]["verdict"], "invalid");
    assert!(
        broken["validity"]["reasons"][0]["text"].as_str().unwrap().contains("no such luck"),
        "{}",
        broken["validity"]
    );
    // Who does has answered, was driven with a connection per request, and its child's work was counted.
    let small = json(&results.join("raw/close/small-1.json"));
    assert!(small["measured"]["responses"].as_u64().unwrap() > 0, "{}", small["validity"]);
    assert_eq!(small["facts"]["server"]["processes"], 2);
    // All were offered what the slowest can do, or a share of it.
    let settings = json(&results.join("settings.json"));
    let slowest = settings["rates"]["slowest"]["close"][0].as_f64().unwrap();
    let offered = json(&results.join("raw/close-at-50/small-1.json"))["bench"]["offered"][0].as_f64().unwrap();
    assert!((offered / slowest - 0.5).abs() < 1e-9, "{offered} of {slowest}");
    let readme = fs::read_to_string(results.join("README.md")).unwrap();
    assert!(readme.contains("no such luck") && readme.contains("**A first look:** 1 round"), "{readme}");
    for name in ["tables.md", "figures.csv", "rounds.csv", "pictures/cpu.svg", "pictures/connections.svg"] {
        assert!(results.join(name).exists(), "{name}");
    }
    assert_eq!(place.left(), Vec::<String>::new());
    assert_eq!(place.processes(), 0);
    // The cells are runs, too.
    let show =
        Command::new(env!("CARGO_BIN_EXE_loadgen")).arg("show").arg(results.join("raw/close/small-1.json")).output();
    assert_exits(&show.unwrap(), 0, "answered, ");
}

#[test]
fn what_is_there_is_not_measured_again_and_rendering_measures_nothing() {
    if skipped() {
        return;
    }
    let place = Place::new();
    let results = place.at("results");
    let folder = results.to_str().unwrap();
    let all = place.small(&["--servers", "small", "--rounds", "2"]);
    assert_exits(&place.bench(&words(&all)), 0, "README.md");
    let whole = cells(&results);
    assert_eq!(whole.len(), 8);
    // Cut off: a cell is missing, and so is everything that was made of them.
    let missing = results.join("raw/close-at-80/small-2.json");
    let kept = results.join("raw/close/small-1.json");
    let before = fs::read(&kept).unwrap();
    fs::remove_file(&missing).unwrap();
    fs::remove_file(results.join("README.md")).unwrap();
    assert_exits(&place.bench(&["--render", folder]), 0, "README.md");
    let readme = fs::read_to_string(results.join("README.md")).unwrap();
    assert!(readme.contains("**Not whole:** 7 of 8 measurements are there"), "{readme}");
    let output = place.bench(&["--resume", folder]);
    assert_exits(&output, 0, "README.md");
    assert_eq!(text(&output.stderr).lines().filter(|line| line.contains("close@80 small")).count(), 1);
    assert_eq!(cells(&results), whole);
    assert_eq!(fs::read(&kept).unwrap(), before, "a cell that is there is left as it is");
    assert!(!fs::read_to_string(results.join("README.md")).unwrap().contains("**Not whole:**"));
    // Nothing is written over, and nothing is mixed.
    assert_exits(&place.bench(&words(&all)), 2, "--resume");
    let settings = fs::read_to_string(results.join("settings.json")).unwrap();
    fs::write(results.join("settings.json"), settings.replace("\"kernel\": \"", "\"kernel\": \"not ")).unwrap();
    assert_exits(&place.bench(&["--resume", folder]), 2, "another machine");
}

#[test]
fn an_interruption_ends_the_server_and_keeps_what_is_whole() {
    if skipped() {
        return;
    }
    let place = Place::new();
    let results = place.at("results");
    let all = place.small(&["--servers", "small", "--rounds", "500"]);
    let mut bench = place.command(&words(&all)).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(120);
    while cells(&results).len() < 2 && bench.try_wait().unwrap().is_none() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    let pid = rustix::process::Pid::from_child(&bench);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(bench.wait().unwrap().code(), Some(1));
    assert_eq!((place.left(), place.processes()), (Vec::new(), 0));
    let there = cells(&results);
    assert!(there.len() >= 2 && there.iter().all(|name| name.ends_with(".json")), "{there:?}");
    for name in there {
        assert_eq!(json(&results.join("raw").join(&name))["schema"], "loadgen-run/1", "{name}");
    }
    assert_exits(&place.bench(&["--render", results.to_str().unwrap()]), 0, "README.md");
}

#[test]
fn what_makes_no_sense_exits_with_2_and_says_why() {
    let place = Place::new();
    fs::write(place.at("bad.toml"), "[[server]]\nname = 'x'\ncommand = 'x'\nnonsense = 1\n").unwrap();
    let bad = place.at("bad.toml");
    for (words, why) in [
        (&["--servers", "nobody"][..], "there is no server `nobody`"),
        (&["--cells", "nothing"], "there is no cell `nothing`"),
        (&["--add", "/nowhere/at/all"], "cannot read"),
        (&["--add", bad.to_str().unwrap()], "nonsense"),
        (&["--server-cpus", "4095"], "there is no CPU 4095"),
        (&["--within", "1", "--rounds", "50"], "minutes at least"),
        (&["--seconds", "0"], "seconds"),
    ] {
        assert_exits(&place.bench(words), 2, why);
    }
    assert_exits(&place.bench(&["--render", "/nowhere/at/all"]), 1, "cannot read");
}

#[test]
fn the_list_says_what_would_be_measured_and_measures_nothing() {
    let place = Place::new();
    let output =
        place.bench(&["--list", "--cells", "close,file-10m", "--servers", "ucaffeine,floor", "--seconds", "1"]);
    // ucaffeine: close and file-10m, floor: close; and the three rates of close for both; in five rounds.
    assert_exits(&output, 0, "45 measurements of 1 s");
    assert!(!place.at("results").exists());
}
