//! `ucaffeine check`: what a start would refuse is refused, at the same place and without a start; and `--explain`, which tells what
//! the settings come to.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use assert_cmd::Command;
use serde_json::Value;

struct Folder(tempfile::TempDir);

#[derive(Debug)]
struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Folder {
    /// With a folder to serve, another one, a program, and a file of users.
    fn new() -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        folder.file("www/index.html", "home").file("other/index.html", "other").file("tool", "#!/bin/sh\n");
        fs::set_permissions(folder.0.path().join("tool"), fs::Permissions::from_mode(0o755)).unwrap();
        folder.file("users", "ann:{SHA}W8r/fyL/UzygmbNAjq2HbA67qac=\n").file("plain", "#!/bin/sh\n");
        folder
    }

    fn file(&self, name: &str, text: impl AsRef<[u8]>) -> &Folder {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn run(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Said {
        let mut command = Command::cargo_bin("ucaffeine").unwrap();
        // A server that starts although it should refuse ends here, and its test fails.
        command.current_dir(self.0.path()).env_clear().envs(variables.iter().copied()).timeout(Duration::from_secs(60));
        let output = command.args(arguments).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// What check says about this file; a start says the same, with the program's name before each line.
    fn refused(&self, toml: &str) -> Vec<String> {
        self.file("site.toml", toml);
        let checked = self.run(&[], &["check", "-c", "site.toml"]);
        assert_eq!((checked.code, checked.stdout.as_str()), (Some(3), ""), "{toml}\n{checked:?}");
        let started = self.run(&[], &["-c", "site.toml"]);
        assert_eq!(started.code, Some(3), "{toml}\n{started:?}");
        let as_started: String = checked.stderr.lines().map(|line| format!("ucaffeine: {line}\n")).collect();
        assert_eq!(started.stderr, as_started, "{toml}");
        checked.stderr.lines().map(str::to_owned).collect()
    }

    fn json(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Value {
        let said = self.run(variables, &[&["check", "--explain", "--json"], arguments].concat());
        assert_eq!(said.code, Some(0), "{said:?}");
        serde_json::from_str(&said.stdout).unwrap()
    }
}

#[test]
fn what_is_right_is_good_and_starts_nothing() {
    let folder = Folder::new();
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port();
    // Nothing is listened on: a server that runs already may be checked beside.
    folder.file("site.toml", format!("path = 'www'\nport = {port}\naccess_log = 'log'\n[cgi]\n'/t' = 'tool'\n"));
    let said = folder.run(&[], &["check", "-c", "site.toml"]);
    let root = folder.0.path().join("www");
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{said:?}");
    assert_eq!(said.stdout, format!("good: it would serve {}\n", root.display()));
    assert!(!folder.0.path().join("log").exists());
    assert_eq!(folder.run(&[], &["check", "www"]).code, Some(0));
}

#[test]
fn the_example_is_good() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let folder = Folder::new();
    let said = folder.run(&[], &["check", "-c", examples.join("ucaffeine.toml").to_str().unwrap()]);
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{said:?}");
    assert!(said.stdout.contains("and 1 hosts besides"), "{said:?}");
}

#[test]
fn every_mistake_has_its_place_and_a_hint() {
    let table = [
        (
            "path = 'nowhere'",
            "site.toml:1:8: path = nowhere: no such file or folder; is the path relative to another folder?",
        ),
        ("path = 'plain'", "site.toml:1:8: path = plain: not a folder; give the folder that holds it"),
        (
            "[[host]]\nnames = 'a'\npath = 'www'",
            "site.toml:1:1: [[host]]: no path at the top of the file: say there which folder hosts get that have no table of their own",
        ),
        (
            "path = 'www'\n[[host]]\nnames = 'a'",
            "site.toml:2:1: [[host]]: needs path = \"FOLDER\", which it serves; a host has nothing of the default site",
        ),
        (
            "path = 'www'\n[[host]]\npath = 'other'",
            "site.toml:2:1: [[host]]: needs names, as in names = [\"example.org\", \"*.example.org\"]",
        ),
        (
            "path = 'www'\n[[host]]\nnames = ['a', 'b']\npath = 'www'\n[[host]]\npath = 'www'\nnames = ['c', 'B.']\n",
            "site.toml:7:15: names = B.: line 3 says it already; one host has a name",
        ),
        (
            "path = 'www'\n[[host]]\npath = 'www'\nnames = ['a:80']\n",
            "site.toml:4:10: names = a:80: a name has no port: a host is the same on each; write example.org, or [::1]",
        ),
        (
            "path = 'www'\n[[host]]\npath = 'www'\nnames = 'a'\nlisitng = true\n",
            "site.toml:5:1: unknown key lisitng in a host; did you mean listing?",
        ),
        (
            "path = 'www'\n[[host]]\npath = 'www'\nnames = 'a'\nport = 81\n",
            "site.toml:5:1: port is about the whole server; say it above the first table of the file",
        ),
        (
            "path = 'www'\n[[location]]\npattern = 'a'",
            "site.toml:3:11: pattern = a: a is no pattern of paths; it must begin with a slash",
        ),
        (
            "path = 'www'\n[[location]]\npattern = '/'\nlistin = true",
            "site.toml:4:1: unknown key listin in a location; did you mean listing?",
        ),
        (
            "path = 'www'\n[[location]]\npattern = '/'\nlisting = 'maybe'",
            "site.toml:4:11: listing = maybe: neither true nor false",
        ),
        (
            "path = 'www'\n[[location]]\npattern = '/'\nheader = ['Date: x']",
            "site.toml:4:11: header = Date: x: Date cannot be set: the server says how a reply travels",
        ),
        (
            "path = 'www'\n[[location]]\npattern = '/x/'\ncgi = 'plain'",
            "site.toml:4:7: cgi = plain: not executable; chmod +x it",
        ),
        (
            "path = 'www'\n[[location]]\npattern = '/x/*'\ncgi = 'tool'",
            "site.toml:3:11: pattern = /x/*: programs are mounted at a folder: write it with a slash at its end and without stars",
        ),
        (
            "path = 'www'\ncgi = ['/x=tool']\n[[location]]\npattern = '/x/'\ncgi = 'tool'",
            "site.toml:5:7: cgi = tool: PREFIX is mounted already; say it once",
        ),
        (
            "path = 'www'\n[[location]]\npattern = '/x/'\ncgi_idle_ms_max = '1s'",
            "site.toml:4:19: cgi_idle_ms_max = 1s: nothing is mounted at /x/; add cgi = \"TARGET\"",
        ),
        (
            "path = 'www'\n[[location]]\npattern = '/x/'\ncgi = 'tool'\ncgi_idle_ms_max = '0'",
            "site.toml:5:19: cgi_idle_ms_max = 0: out of bounds; 1ms to 8760h",
        ),
        (
            "path = 'www'\n[auth]\nhtpasswd = 'none'",
            "site.toml:3:12: htpasswd = none: no such file or folder; is the path relative to another folder?",
        ),
        (
            "path = 'www'\n[auth]\nhtpasswd = 'www'",
            "site.toml:3:12: htpasswd = www: not a file; htpasswd -B -c FILE NAME makes one",
        ),
        (
            "path = 'www'\n[auth]\nhtpasswd = 'users'\nrealm = \"a\\nb\"",
            "site.toml:4:9: realm = a\u{fffd}b: '\\n' cannot stand in a realm; printable ASCII can",
        ),
    ];
    let folder = Folder::new();
    for (toml, want) in table {
        assert_eq!(folder.refused(toml), [want], "{toml}");
    }
}

#[test]
fn a_file_of_users_is_looked_at() {
    let folder = Folder::new();
    folder.file("bad", "# comment\nann:secret\nbea:$2y$05$short\nann\n").file("www/.users", "");
    let toml = "path = 'www'\n[auth]\nhtpasswd = 'bad'\n[[location]]\npattern = '/x'\nauth = { htpasswd = 'bad' }\n";
    let bad = folder.0.path().join("bad");
    let place = |line: &str| format!("{}:{line}", bad.display());
    let got = folder.refused(toml);
    assert_eq!(got.len(), 3, "{got:?}");
    assert!(got[0].starts_with(&place("2:5: no hash that is known")) && !got[0].contains("secret"), "{got:?}");
    assert!(got[1].starts_with(&place("3:5: a hash that is cut short")), "{got:?}");
    assert!(got[2].starts_with(&place("4:1: needs NAME:HASH")), "{got:?}");
    // Whatever host it is that serves the folder.
    let toml = "path = 'other'\n[auth]\nhtpasswd = 'www/.users'\n[[host]]\nnames = 'a'\npath = 'www'\n";
    let got = folder.refused(toml);
    assert!(got.len() == 1 && got[0].contains("it lies inside of the served folder"), "{got:?}");
    folder.file("bytes", [b'a', 0xff, b':']);
    let got = folder.refused("path = 'www'\n[auth]\nhtpasswd = 'bytes'\n");
    assert!(got[0].contains("not UTF-8"), "{got:?}");
    fs::set_permissions(folder.0.path().join("users"), fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(folder.0.path().join("users")).is_err() {
        let got = folder.refused("path = 'www'\n[auth]\nhtpasswd = 'users'\n");
        assert!(got[0].contains("permission denied; the server's user must be able to read it"), "{got:?}");
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    let folder = Folder::new();
    folder.file(
        "site.toml",
        "path = 'www'\nprot = 1\nengine = 'x'\nidle_ms_max = 0\n[[host]]\nnames = ['*']\npath = 'nowhere'\n\
         [[host.location]]\npattern = '/'\nlisting = 1\n[[host]]\nnmaes = ['a']\npath = 'other'\nnames = 'b'\n",
    );
    let variables = [("UCAFFEINE_PROT", "1"), ("UCAFFEINE_CORES", "0")];
    let said = folder.run(&variables, &["check", "-c", "site.toml", "--port", "x"]);
    assert_eq!(said.code, Some(3), "whatever it is: {said:?}");
    for part in [
        "site.toml:2:1: unknown key prot",
        "site.toml:3:10: engine = x",
        "site.toml:4:15: idle_ms_max = 0: out of bounds",
        "site.toml:6:10: names = *",
        "site.toml:7:8: path = nowhere",
        "site.toml:12:1: unknown key nmaes in a host; did you mean names?",
        "UCAFFEINE_PROT: no such variable",
        "UCAFFEINE_CORES=0",
        "--port x",
    ] {
        assert!(said.stderr.lines().any(|line| line.starts_with(part)), "{part} in:\n{}", said.stderr);
    }
}

#[test]
fn a_file_that_is_none_is_one_clear_line() {
    let folder = Folder::new();
    folder
        .file("empty.toml", " \n")
        .file("bytes.toml", b"port = 1\n# \xc3\xa9 \xff")
        .file("huge.toml", vec![b'#'; 2 << 20]);
    fs::write(folder.0.path().join("secret.toml"), "port = 1").unwrap();
    fs::set_permissions(folder.0.path().join("secret.toml"), fs::Permissions::from_mode(0o000)).unwrap();
    let may_read = fs::read(folder.0.path().join("secret.toml")).is_ok();
    for (file, says) in [
        ("www", "www: cannot be read: it is a folder; name the file in it"),
        ("none.toml", "none.toml: cannot be read: No such file or directory (os error 2)"),
        ("empty.toml", "empty.toml: empty; leave --config away where there is nothing to say"),
        ("bytes.toml", "bytes.toml:2:5: not valid UTF-8; save the file as UTF-8"),
        ("huge.toml", "huge.toml: longer than 1048576 bytes; is it the configuration?"),
        ("secret.toml", "secret.toml: cannot be read: permission denied; this user may not read it"),
    ] {
        if file == "secret.toml" && may_read {
            continue;
        }
        for arguments in [&["check", "-c", file][..], &["-c", file]] {
            let said = folder.run(&[], arguments);
            let name = if arguments.len() == 2 { "ucaffeine: " } else { "" };
            assert_eq!((said.code, said.stderr), (Some(3), format!("{name}{says}\n")));
        }
    }
}

#[test]
fn what_only_a_start_would_find_out_is_found_out() {
    let folder = Folder::new();
    let said = folder.run(&[], &["check", "www", "--access-log", "nowhere/log"]);
    assert_eq!(said.code, Some(3));
    assert!(said.stderr.contains("cannot open the access log") && said.stderr.lines().count() == 1, "{said:?}");
    let said = folder.run(&[], &["check", "www", "--cgi", "/t=tool", "--cgi-cgroup", "/nowhere"]);
    assert!(said.code == Some(3) && said.stderr.contains("cgi-cgroup"), "{said:?}");
    // What a start would only warn of is a warning.
    let said = folder.run(&[], &["check", "www", "--error-page", "404=/none.html"]);
    assert!(said.code == Some(0) && said.stderr.contains("no page at /none.html"), "{said:?}");
}

#[test]
fn other_commands_are_not_for_check() {
    let folder = Folder::new();
    for arguments in [&["check", "-L"][..], &["check", "--nonsense"], &["check", "--json"]] {
        assert_eq!(folder.run(&[], arguments).code, Some(2), "{arguments:?}");
    }
    assert_eq!(folder.run(&[], &["check", "--help"]).code, Some(0));
}

/// The whole of it, by one table: flag, environment, file, default.
#[test]
fn each_value_says_where_it_comes_from() {
    let folder = Folder::new();
    folder.file(
        "site.toml",
        "path = 'www'\nidle_ms_max = '7s'\nlisting = true\ncgi_idle_ms_max = '1m'\n\
         [[location]]\npattern = '/t/'\ncgi = 'tool'\ncgi_idle_ms_max = '2m'\nlisting = false\ncgi_env = { KEY = 'hush' }\n\
         [[host]]\nnames = ['a.example']\npath = 'other'\nclean_urls = true\n\
         [[host.location]]\npattern = '/x/'\n[host.location.auth]\nhtpasswd = 'users'\n",
    );
    let variables = [("UCAFFEINE_IDLE_MS_MAX", "8s"), ("UCAFFEINE_DRAIN_MS_MAX", "9s")];
    let arguments = ["-c", "site.toml", "--drain-ms-max", "3s", "--cgi-idle-ms-max", "5m"];
    let json = folder.json(&variables, &arguments);
    let row = |table: &Value, key: &str| {
        let row = &table["settings"][key];
        (row["value"].as_str().unwrap_or("-").to_owned(), row["origin"].as_str().unwrap_or("-").to_owned())
    };
    let is = |value: &str, origin: &str| (value.to_owned(), origin.to_owned());
    assert_eq!(row(&json, "drain_ms_max"), is("3s", "--drain-ms-max"));
    assert_eq!(row(&json, "idle_ms_max"), is("8s", "UCAFFEINE_IDLE_MS_MAX"));
    assert_eq!(row(&json, "listing"), is("true", "site.toml:3"));
    assert_eq!(row(&json, "stall_ms_max"), is("30s", "default"));

    let [location, host] = &json["tables"].as_array().unwrap()[..] else { panic!("{json}") };
    assert_eq!((location["pattern"].as_str(), location["origin"].as_str()), (Some("/t/"), Some("site.toml:6")));
    assert_eq!(row(location, "listing"), is("false", "site.toml:9"));
    assert_eq!(row(location, "cgi_idle_ms_max"), is("5m", "--cgi-idle-ms-max"), "the flag beats the table");
    assert_eq!(row(location, "cgi_env"), is("KEY", "site.toml:10"), "and its value is nobody's business");
    assert_eq!((host["names"].as_str(), host["kind"].as_str()), (Some("a.example"), Some("host")));
    assert_eq!(row(host, "clean_urls"), is("true", "site.toml:14"));
    assert_eq!(row(host, "listing"), is("false", "default"), "a host has nothing of the default site");
    assert_eq!(row(&host["tables"][0], "auth"), is("users (realm \"Restricted\")", "site.toml:17"));
    assert_eq!(json["sites"][1]["names"][0], "a.example");
    assert!(!json.to_string().contains("hush"));

    // As text, the same.
    let text = folder.run(&variables, &[&["--explain"], &arguments[..]].concat());
    assert_eq!(text.code, Some(0), "{text:?}");
    for part in
        ["Location /t/ (site.toml:6)", "Host a.example (site.toml:11)", "Location /x/ of a.example (site.toml:16)"]
    {
        assert!(text.stdout.contains(part), "{part} in:\n{}", text.stdout);
    }
}
