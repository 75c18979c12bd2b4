//! CGI over real sockets and real processes: what scripts are bound by when that is asked for.

mod support;

use support::{Launch, Server, Site, not_here, wait_until};

const HEAD: &str = "printf 'Content-Type: text/plain\\n\\n'";

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn limits_nice_and_umask_are_what_was_asked_for() {
    let site = Site::new()
        .sh("cgi-bin/limits.sh", &format!("{HEAD}; cat /proc/self/limits"))
        .sh("cgi-bin/nice.sh", &format!("{HEAD}; cut -d' ' -f19 /proc/$$/stat; umask"))
        .sh("cgi-bin/fds.sh", &format!("{HEAD}; exec ls /proc/self/fd"))
        .sh("cgi-bin/args.sh", &format!("{HEAD}; echo $# $0"))
        .sh("cgi-bin/signals.sh", &format!("{HEAD}; grep -E '^Sig(Ign|Blk)' /proc/self/status"))
        .sh("cgi-bin/env.sh", &format!("{HEAD}; tr '\\0' '\\n' </proc/$$/environ; :"))
        .sh("cgi-bin/group.sh", &format!("{HEAD}; echo $$ $(cut -d' ' -f5 /proc/$$/stat)"))
        .sh("cgi-bin/echo.sh", &format!("{HEAD}; exec cat"));
    let args = [
        ["--cgi-cpu-ms-max", "1500"],
        ["--cgi-address-space-bytes-max", "1GiB"],
        ["--cgi-open-files-max", "50"],
        ["--cgi-processes-max", "5000"],
        ["--cgi-file-bytes-max", "1MiB"],
        ["--cgi-core-bytes-max", "0"],
        ["--cgi-nice", "15"],
        ["--cgi-umask", "027"],
    ];
    let server = Launch::new(&site).args(args.into_iter().flatten()).env("LEAK", "x").start();
    let mut client = server.connect();
    let limits = client.get("/cgi-bin/limits.sh").expect(200).text();
    for (name, soft, hard) in [
        ("Max cpu time", "2", "3"),
        ("Max address space", "1073741824", "1073741824"),
        ("Max open files", "50", "50"),
        ("Max processes", "5000", "5000"),
        ("Max file size", "1048576", "1048576"),
        ("Max core file size", "0", "0"),
    ] {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {limits}"));
        let values: Vec<&str> = line[name.len()..].split_whitespace().take(2).collect();
        assert_eq!(values, [soft, hard], "{line}");
    }
    assert_eq!(client.get("/cgi-bin/nice.sh").expect(200).text(), "15\n0027\n");
    // And nothing else is different: the helper leaves no trace.
    assert_eq!(client.get("/cgi-bin/fds.sh").expect(200).text(), "0\n1\n2\n3\n", "3 is of ls itself");
    let own = site.at("cgi-bin/args.sh");
    assert_eq!(client.get("/cgi-bin/args.sh?-s").expect(200).text(), format!("0 {}\n", own.display()));
    for line in client.get("/cgi-bin/signals.sh").expect(200).text().lines() {
        assert_eq!(line.split_whitespace().nth(1), Some("0000000000000000"), "{line}: nothing is ignored or blocked");
    }
    let environment = client.get("/cgi-bin/env.sh").expect(200).text();
    assert!(environment.contains("\nSCRIPT_NAME=/cgi-bin/env.sh\n") && !environment.contains("LEAK"), "{environment}");
    let group = client.get("/cgi-bin/group.sh").expect(200).text();
    let (pid, pgrp) = group.trim_end().split_once(' ').expect("two numbers");
    assert_eq!(pid, pgrp, "a script leads a process group of its own");
    assert_eq!(client.post("/cgi-bin/echo.sh", "text/plain", b"body").expect(200).text(), "body");
    server.stop();
}

#[test]
fn a_script_that_goes_beyond_a_limit_is_stopped_by_it() {
    let site = Site::new()
        .sh("cgi-bin/spins.sh", "while :; do :; done")
        .sh("cgi-bin/writes.sh", &format!("{HEAD}; head -c 100000 /dev/zero >big 2>/dev/null; echo $(wc -c <big)"));
    let args = ["--cgi-cpu-ms-max", "1s", "--cgi-file-bytes-max", "4096"];
    let server = Server::start(&site, args);
    assert_eq!(server.get("/cgi-bin/writes.sh").expect(200).text(), "4096\n");
    server.get("/cgi-bin/spins.sh").expect(502);
    let said = server.stop();
    assert!(said.contains("SIGXCPU") || said.contains("SIGKILL"), "{said}");
}

#[test]
fn scripts_run_as_another_user_if_root_says_so() {
    let id = format!(
        "{HEAD}; id -u; id -g; id -G; cat private 2>&1; touch made 2>&1; kill -0 $PPID 2>&1 || echo no; cat /proc/self/status | grep CapEff"
    );
    let site = Site::new().sh("cgi-bin/id.sh", &id);
    if !is_root() {
        let exit = Launch::new(&site).args(["--cgi-user", "nobody"]).fails();
        assert_eq!(exit.code, Some(3));
        assert!(exit.output.contains("only root can run programs as another user"), "{}", exit.output);
        return not_here("only root can become another user");
    }
    use std::os::unix::fs::PermissionsExt;
    let private = site.write("cgi-bin/private", "SECRET");
    std::fs::set_permissions(private, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    let server = Server::start(&site, ["--cgi-user", "nobody:54321", "--cgi-term-to-kill-ms", "300"]);
    let nobody = std::process::Command::new("id").args(["-u", "nobody"]).output().expect("id");
    let nobody = String::from_utf8(nobody.stdout).expect("a number");
    let text = server.get("/cgi-bin/id.sh").expect(200).text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..3], [nobody.trim(), "54321", "54321"], "{text}");
    assert!(!text.contains("SECRET") && text.contains("no\n") && text.contains("CapEff:\t0000000000000000"), "{text}");
    assert!(!site.at("cgi-bin/made").exists(), "it may not write here");
    // What another user runs can still be ended.
    site.write_script(
        "cgi-bin/stays.sh",
        format!("#!/bin/sh\n{HEAD}; echo begun; trap '' TERM; setsid sleep 1000 & while :; do sleep 0.1; done"),
    );
    let mut client = server.connect();
    client.head(&["GET /cgi-bin/stays.sh HTTP/1.1", "Host: {host}"]).read_until(b"begun");
    client.reset();
    wait_until("nothing is left", || server.scripts().is_empty());
    server.stop();
    for (user, says) in [("nobody-knows-him", "there is no user nobody-knows-him"), ("root", "root is no other user")] {
        let exit = Launch::new(&site).args(["--cgi-user", user]).fails();
        assert_eq!(exit.code, Some(3), "{}", exit.output);
        assert!(exit.output.contains(says), "{}", exit.output);
    }
}

#[test]
fn what_cannot_be_bound_is_said_at_the_start() {
    let site = Site::new().sh("cgi-bin/hello.sh", &format!("{HEAD}; echo hello"));
    let exit = Launch::new(&site).args(["--cgi-cgroup", "/proc"]).fails();
    assert_eq!(exit.code, Some(3), "{}", exit.output);
    assert!(exit.output.contains("cgi-cgroup: /proc: not a directory of cgroup2"), "{}", exit.output);
    // Only where there are scripts.
    let server = Server::start(&site, ["--no-cgi", "--cgi-cgroup", "/proc"]);
    server.get("/cgi-bin/hello.sh").expect(404);
    server.stop();
    let verb = support::run(std::process::Command::new(Launch::binary()).args(["cgi-exec", "--", "/bin/echo"]));
    assert_eq!((verb.status.code(), verb.stdout.len()), (Some(127), 0), "without a report it executes nothing");
}

#[test]
fn nothing_leaves_a_control_group() {
    let escape = "env -i setsid sh -c 'trap \"\" TERM; while :; do /bin/sleep 0.1; done' &";
    let site = Site::new()
        .sh("cgi-bin/escapes.sh", &format!("{escape} {HEAD}; echo begun; sleep 1000"))
        .sh("cgi-bin/hello.sh", &format!("{HEAD}; echo hello"))
        .script("cgi-bin/no-shebang", "hello");
    if !support::skip_or_fail("setsid") {
        return;
    }
    let server = Server::start(&site, ["--cgi-cgroup", "auto", "--cgi-term-to-kill-ms", "300"]);
    if server.output().contains("scripts get no control groups") {
        server.get("/cgi-bin/hello.sh").expect(200);
        server.stop();
        return not_here("the control groups of this machine are not ours to write to");
    }
    for _ in 0..10 {
        assert_eq!(server.get("/cgi-bin/hello.sh").expect(200).text(), "hello\n");
    }
    server.get("/cgi-bin/no-shebang").expect(500);
    let mut client = server.connect();
    client.head(&["GET /cgi-bin/escapes.sh HTTP/1.1", "Host: {host}"]).read_until(b"begun");
    wait_until("it has escaped", || server.scripts().len() >= 3);
    let group = server.scripts().first().map(|pid| std::fs::read_to_string(format!("/proc/{pid}/cgroup")));
    let group = group.expect("a script").expect("its groups");
    let group = group.lines().find_map(|line| line.strip_prefix("0::")).expect("version 2").to_owned();
    assert!(group.contains(&format!("ucaffeine-{}/", server.pid())), "{group}");
    client.reset();
    wait_until("nothing is left, though it has neither its group nor its environment", || server.scripts().is_empty());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let point = mounts.lines().find(|line| line.contains(" - cgroup2 ")).and_then(|line| line.split(' ').nth(4));
    let point = point.expect("a mounted hierarchy").to_owned();
    let pid = server.pid();
    server.stop();
    let left = walk(std::path::Path::new(&point)).into_iter().filter(|path| path.contains(&format!("ucaffeine-{pid}")));
    assert_eq!(left.collect::<Vec<_>>(), Vec::<String>::new(), "no control group is left");
}

fn walk(folder: &std::path::Path) -> Vec<String> {
    let inside = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = inside.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.flat_map(|entry| [vec![entry.path().display().to_string()], walk(&entry.path())].concat()).collect()
}
