//! What the settings come to, seen through `--explain`: precedence, files, variables, mounts. Knows nothing of the code.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use assert_cmd::Command;

/// A folder to start in, with what the test puts there.
struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Dir {
        Dir(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn file(self, name: &str, text: &str) -> Dir {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn program(self, name: &str) -> Dir {
        let dir = self.file(name, "#!/bin/sh\n");
        fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(0o755)).unwrap();
        dir
    }

    fn run(&self, variables: &[(&str, &str)], arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::cargo_bin("ucaffeine").unwrap();
        command.current_dir(self.path()).env_clear().envs(variables.iter().copied());
        let output = command.arg("--explain").args(arguments).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    fn explain(&self, variables: &[(&str, &str)], arguments: &[&str]) -> String {
        let (code, stdout, stderr) = self.run(variables, arguments);
        assert_eq!(code, Some(0), "{variables:?} {arguments:?}: {stderr}");
        stdout
    }

    fn refused(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Vec<String> {
        let (code, _, stderr) = self.run(variables, arguments);
        assert_eq!(code, Some(3), "{variables:?} {arguments:?}: {stderr}");
        stderr.lines().map(str::to_owned).collect()
    }
}

/// The rest of every line that begins with this name, spaces squeezed.
fn values(explained: &str, name: &str) -> Vec<String> {
    let line = |line: &str| {
        let rest = line.trim_start().strip_prefix(name)?.strip_prefix("  ")?;
        Some(rest.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    explained.lines().filter_map(line).collect()
}

fn value(explained: &str, name: &str) -> String {
    let found = values(explained, name);
    assert_eq!(found.len(), 1, "{name} in:\n{explained}");
    found.into_iter().next().unwrap()
}

#[test]
fn a_flag_beats_a_variable_beats_the_file_beats_the_default() {
    let dir = Dir::new().file("site.toml", "\nidle_ms_max = '7s'\nport = 7\ncores = 7\n");
    let file: (&[(&str, &str)], &[&str]) = (&[], &["-c", "site.toml"]);
    let variable: (&[(&str, &str)], &[&str]) = (&[("UCAFFEINE_IDLE_MS_MAX", "8s")], &["-c", "site.toml"]);
    let flag = (variable.0, &["-c", "site.toml", "--idle-ms-max", "9s"][..]);
    for ((variables, arguments), want) in [
        ((&[][..], &[][..]), "1m default"),
        (file, "7s site.toml:2"),
        (variable, "8s UCAFFEINE_IDLE_MS_MAX"),
        (flag, "9s --idle-ms-max"),
    ] {
        assert_eq!(value(&dir.explain(variables, arguments), "idle-ms-max"), want);
    }
    let explained = dir.explain(&[("UCAFFEINE_PORT", "8")], &["-c", "site.toml", "-p", "9"]);
    assert_eq!(value(&explained, "at"), "http://127.0.0.1:9/");
    assert_eq!(value(&explained, "threads"), "7");
}

/// Each limit by all of its three names, found in the help: none is forgotten anywhere.
#[test]
fn every_limit_has_a_flag_a_key_and_a_variable() {
    let defaults = Dir::new().explain(&[], &[]);
    let limits: Vec<&str> = defaults
        .lines()
        .skip_while(|line| !line.starts_with("Limits"))
        .filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next())
        .collect();
    assert!(limits.len() >= 30, "{limits:?}");
    let key = |name: &str| name.replace('-', "_");
    // Within the bounds of each, and none its default.
    let fitting = |name: &str, usual: &str| match name {
        "cgi-address-space-bytes-max" => String::from("17MiB"),
        "cold-buffer-bytes-max" | "access-log-buffer-bytes-max" => String::from("1MiB"),
        "send-zerocopy-bytes-min" => String::from("64KiB"),
        "fields-max" => usual.get(..2).unwrap_or(usual).to_owned(),
        name if name.ends_with("body-bytes-max") => String::from("4KiB"),
        _ => usual.to_owned(),
    };
    let everything: String = limits.iter().map(|name| format!("{} = '{}'\n", key(name), fitting(name, "99"))).collect();
    let dir = Dir::new().file("all.toml", &everything);
    let from_file = dir.explain(&[], &["--config", "all.toml"]);
    for (number, name) in limits.iter().enumerate() {
        let want = fitting(name, "99");
        let (shown, origin) = (value(&from_file, name), format!("all.toml:{}", number + 1));
        assert!(shown.starts_with(&want) && shown.ends_with(&origin), "{name}: {shown}");
    }
    let variables: Vec<(String, String)> =
        limits.iter().map(|name| (format!("UCAFFEINE_{}", key(name).to_uppercase()), fitting(name, "5000"))).collect();
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let from_variables = dir.explain(&variables, &["--config", "all.toml"]);
    for name in &limits {
        assert!(value(&from_variables, name).contains(" UCAFFEINE_"), "{name}");
    }
    let flags: Vec<String> = limits.iter().flat_map(|name| [format!("--{name}"), fitting(name, "4097")]).collect();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let from_flags = dir.explain(&variables, &flags);
    for name in &limits {
        assert!(value(&from_flags, name).ends_with(&format!("--{name}")), "{name}");
    }
}

#[test]
fn mistakes_in_a_file_have_a_line_a_column_and_a_suggestion() {
    for (text, want) in [
        ("port = 1\nprot = 2\n", "ucaffeine: site.toml:2:1: unknown key prot; did you mean port?"),
        ("\nport = 'x'\n", "ucaffeine: site.toml:2:8: port = x: not a port; 0 to 65535, where 0 takes a free one"),
        ("head-bytes-max = 1", "ucaffeine: site.toml:1:1: unknown key head-bytes-max; did you mean head_bytes_max?"),
        (
            "path = 'nowhere'",
            "ucaffeine: site.toml:1:8: path = nowhere: no such file or folder; is the path relative to another folder?",
        ),
        ("access_log = \"a\\u0000b\"", "ucaffeine: site.toml:1:14: access_log = a\u{fffd}b: a NUL in a path"),
        ("no_cgi = 'maybe'", "ucaffeine: site.toml:1:10: no_cgi = maybe: neither true nor false"),
    ] {
        let dir = Dir::new().file("site.toml", text);
        assert_eq!(dir.refused(&[], &["-c", "site.toml"]), [want]);
    }
    let broken = Dir::new().file("site.toml", "port = \n").refused(&[], &["-c", "site.toml"]);
    assert!(broken.len() == 1 && broken[0].starts_with("ucaffeine: site.toml:1:8: not TOML: "), "{broken:?}");
    let binary = Dir::new();
    fs::write(binary.path().join("site.toml"), [0xff, 0xfe]).unwrap();
    assert!(binary.refused(&[], &["-c", "site.toml"])[0].contains("valid UTF-8"));
}

#[test]
fn mistakes_in_a_variable_name_it() {
    let dir = Dir::new();
    let got = dir.refused(&[("UCAFFEINE_PROT", "1")], &[]);
    assert_eq!(got, ["ucaffeine: UCAFFEINE_PROT: no such variable; did you mean UCAFFEINE_PORT?"]);
    let got = dir.refused(&[("UCAFFEINE_PORT", "x")], &[]);
    assert_eq!(got, ["ucaffeine: UCAFFEINE_PORT=x: not a port; 0 to 65535, where 0 takes a free one"]);
    assert_eq!(value(&dir.explain(&[("UCAFFEINE_PORT", "")], &[]), "at"), "http://127.0.0.1:8080/");
}

#[test]
fn a_variable_can_name_the_file_and_a_flag_another() {
    let dir = Dir::new().file("a.toml", "port = 1").file("b.toml", "port = 2");
    let variables = [("UCAFFEINE_CONFIG", "a.toml")];
    assert_eq!(value(&dir.explain(&variables, &[]), "at"), "http://127.0.0.1:1/");
    assert_eq!(value(&dir.explain(&variables, &["-c", "b.toml"]), "at"), "http://127.0.0.1:2/");
}

#[test]
fn listeners_are_a_list() {
    let dir = Dir::new().file("site.toml", "port = 81\nbind = ['0.0.0.0', '[::1]:82', 'unix:run.sock']\n");
    let socket = format!("unix:{}", dir.path().join("run.sock").display());
    let want = ["http://0.0.0.0:81/ (every IPv4 address)", "http://[::1]:82/", &socket];
    assert_eq!(values(&dir.explain(&[], &["-c", "site.toml"]), "at"), want);
    let one = dir.explain(&[], &["-c", "site.toml", "-b", "::1"]);
    assert_eq!(values(&one, "at"), ["http://[::1]:81/"], "a list replaces the list below it");
    let variables = [("UCAFFEINE_BIND", "127.0.0.1;127.0.0.2")];
    assert_eq!(values(&dir.explain(&variables, &[]), "at"), ["http://127.0.0.1:8080/", "http://127.0.0.2:8080/"]);
}

#[test]
fn paths_in_a_file_are_relative_to_it() {
    let dir = Dir::new().file("etc/site.toml", "path = '../www'\n[cgi]\n'/x' = 'x.sh'\n").file("www/index.html", "");
    let dir = dir.program("etc/x.sh");
    let explained = dir.explain(&[], &["-c", "etc/site.toml"]);
    assert!(value(&explained, "files").ends_with("etc/../www"), "{explained}");
    assert_eq!(value(&explained, "programs"), format!("/x/ -> {}", dir.path().join("etc/x.sh").display()));
}

#[test]
fn cgi_bin_is_mounted_by_itself_and_hidden_when_turned_off() {
    let dir = Dir::new().program("cgi-bin/hello");
    assert_eq!(value(&dir.explain(&[], &[]), "programs"), "/cgi-bin/ -> cgi-bin");
    for (variables, arguments) in [(&[][..], &["--no-cgi"][..]), (&[("UCAFFEINE_NO_CGI", "1")], &[])] {
        let off = dir.explain(variables, arguments);
        assert_eq!(values(&off, "programs"), [""; 0]);
        assert_eq!(value(&off, "never as files"), "cgi-bin");
    }
    let without = Dir::new().explain(&[], &[]);
    assert_eq!((values(&without, "programs").len(), value(&without, "never as files")), (0, "cgi-bin".into()));
}

#[test]
fn a_mount_inside_the_folder_never_leaks_its_source() {
    let dir = Dir::new().program("tools/run.sh").program("git/backend");
    let arguments = ["--cgi", "/run/=tools/run.sh", "--cgi", "/git=git", "--cgi-env", "/git/:A=b"];
    let explained = dir.explain(&[], &arguments);
    assert_eq!(values(&explained, "programs"), ["/run/ -> tools/run.sh", "/git/ -> git"]);
    assert_eq!(values(&explained, "never as files"), ["cgi-bin", "tools/run.sh", "git"]);
    let file = dir.file("site.toml", "no_cgi = true\n[cgi]\n'/run' = 'tools/run.sh'\n");
    let off = file.explain(&[], &["-c", "site.toml"]);
    assert_eq!(
        (values(&off, "programs").len(), values(&off, "never as files")),
        (0, vec!["cgi-bin".into(), "tools/run.sh".into()])
    );
}

#[test]
fn a_prefix_is_mounted_once() {
    let dir = Dir::new().program("a").program("b");
    let (code, _, stderr) = dir.run(&[], &["--cgi", "/x=a", "--cgi", "/x/=b"]);
    assert_eq!((code, stderr.as_str()), (Some(2), "ucaffeine: --cgi /x/=b: PREFIX is mounted already; say it once\n"));
}

#[test]
fn more_cores_than_cpus_share_and_say_so() {
    let explained = Dir::new().explain(&[], &["--cores", "1024"]);
    assert_eq!(value(&explained, "threads"), "1024");
    assert!(value(&explained, "decision").contains("none is pinned"), "{explained}");
    assert_eq!(value(&Dir::new().explain(&[], &["--workers", "3"]), "threads"), "3");
}

#[test]
fn what_is_said_of_one_mount_wins_over_what_is_said_of_all() {
    let dir = Dir::new().program("a").program("b").file("site.toml", "[cgi_mount_running_max]\n'/x' = 4\n");
    let mounts = ["--cgi", "/x=a", "--cgi", "/y=b"];
    let with = |more: &[&str]| -> Vec<String> { mounts.iter().chain(more).map(|text| text.to_string()).collect() };
    for more in [
        &["--cgi-mount-running-max", "/x=4", "--cgi-mount-running-max", "2"][..],
        &["--cgi-mount-queued-max", "/y/=1", "--cgi-pass-authorization", "all"],
        &["--cgi-pass-authorization", "/x", "--cgi-linger", "kill", "--cgi-umask", "027", "--cgi-nice", "19"],
        &["-c", "site.toml"],
    ] {
        let arguments = with(more);
        dir.explain(&[], &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    }
    for (more, says) in [
        (["--cgi-mount-running-max", "/z=4"], "nothing is mounted at /z"),
        (["--cgi-mount-running-max", "/x=0"], "1 to 1000000"),
        (["--cgi-mount-queued-max", "many"], "needs N or PREFIX=N"),
        (["--cgi-pass-authorization", "/z"], "nothing is mounted at /z"),
        (["--cgi-pass-authorization", "x"], "nor all"),
        (["--cgi-linger", "no"], "neither keep nor kill"),
        (["--cgi-umask", "9"], "not an octal mask"),
        (["--cgi-nice", "20"], "0 to 19"),
        (["--cgi-user", "a:b:c"], "needs USER or USER:GROUP"),
        (["--cgi-address-space-bytes-max", "1MiB"], "out of bounds; 16MiB"),
    ] {
        let arguments = with(&more);
        let (code, _, stderr) = dir.run(&[], &arguments.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(matches!(code, Some(2 | 3)) && stderr.contains(says), "{more:?}: {code:?} {stderr}");
    }
}
