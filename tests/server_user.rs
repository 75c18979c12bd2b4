//! `--user`: a server that root has started is root no more, in none of its parts. Without root, what can be shown is that it
//! says so.

mod instance_support;
mod support;

use instance_support::Home;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use support::{Launch, Server, Site, no_forks, wait_until};

/// Somebody whom every system has, with his numbers.
fn nobody() -> (String, u32, u32) {
    let text = fs::read_to_string("/etc/passwd").expect("/etc/passwd");
    let mut users = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let fields = users.find(|fields| fields[0] == "nobody").expect("every system has a nobody");
    let number = |index: usize| fields[index].parse().expect("a number");
    ("nobody".to_owned(), number(2), number(3))
}

/// Whether this is root, and of a system with all its users: a container may have root and nobody else. Says that a test needs it.
fn is_root() -> bool {
    let can_be = |uid: u32, gid: u32| {
        let _quiet = no_forks();
        Command::new("true").uid(uid).gid(gid).status().is_ok_and(|status| status.success())
    };
    let (_, uid, gid) = nobody();
    let is_root = rustix::process::geteuid().is_root() && can_be(uid, gid) && can_be(54_321, 4321);
    if !is_root {
        support::not_here("only root can become another user");
    }
    is_root
}

fn site() -> Site {
    let status =
        "printf 'Content-Type: text/plain\\n\\n'; grep -E '^(Uid|Gid|Groups|CapPrm|CapEff):' /proc/self/status";
    Site::new().file("index.html", "home").sh("cgi-bin/status", status)
}

/// The lines of proc_pid_status(5) about privileges say that it is this user, and nothing more.
#[track_caller]
fn is_held_to(status: &str, uid: u32, gid: u32) {
    let line = |name: &str| -> Vec<String> {
        let line =
            status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name} in {status}"));
        line.split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(line("Uid:"), vec![uid.to_string(); 4], "{status}");
    assert_eq!(line("Gid:"), vec![gid.to_string(); 4], "{status}");
    assert!(!line("Groups:").contains(&String::from("0")), "{status}");
    for name in ["CapPrm:", "CapEff:"] {
        assert!(line(name)[0].bytes().all(|digit| digit == b'0'), "{status}");
    }
}

/// A nice value cannot be lowered without privileges, and the thread that starts programs has raised its own: the start-up's
/// trial said yes, and every request 500.
#[test]
fn without_privileges_a_program_may_still_be_less_nice_than_others() {
    if !is_root() {
        return;
    }
    let site = Site::new().sh(
        "cgi-bin/stat",
        "printf 'Content-Type: text/plain\\n\\n'; cut -d' ' -f19,41 /proc/$$/stat; ls -ld /proc/$$ | cut -d' ' -f3",
    );
    let server = Server::start(&site, ["--user", "nobody", "--cgi-nice", "5"]);
    assert_eq!(server.get("/cgi-bin/stat").expect(200).text(), "5 3\nnobody\n", "nice, SCHED_BATCH, user");
    server.stop();
}

#[test]
fn every_thread_and_every_program_is_that_user() {
    if !is_root() {
        return;
    }
    let (name, uid, gid) = nobody();
    let site = site().file("secret", "root's");
    fs::set_permissions(site.at("secret"), fs::Permissions::from_mode(0o600)).expect("chmod");
    let server = Server::start(&site, ["--user", &name, "--cores", "2"]);
    assert_eq!(server.get("/").expect(200).text(), "home");
    // Now every thread that it ever has is there: those of the cores, their spawners, the log's.
    is_held_to(&server.get("/cgi-bin/status").expect(200).text(), uid, gid);
    let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).expect("its threads");
    let mut count = 0;
    for task in tasks.flatten() {
        // One that has just ended has none.
        let Ok(status) = fs::read_to_string(task.path().join("status")) else { continue };
        is_held_to(&status, uid, gid);
        count += 1;
    }
    assert!(count >= 5, "{count} threads");
    assert!(matches!(server.get("/secret").status, 403 | 404), "what root may read, it may not");
    server.stop();
}

/// The helper that binds programs is this binary, found through `/proc/self`, which a process that was root sees with other eyes.
#[test]
fn programs_can_be_bound_all_the_same() {
    if !is_root() {
        return;
    }
    let (name, uid, gid) = nobody();
    let site = site().sh("cgi-bin/files", "printf 'Content-Type: text/plain\\n\\n'; ulimit -n");
    let server = Server::start(&site, ["--user", &name, "--cgi-open-files-max", "77"]);
    assert_eq!(server.get("/cgi-bin/files").expect(200).text(), "77\n");
    is_held_to(&server.get("/cgi-bin/status").expect(200).text(), uid, gid);
    server.stop();
}

#[test]
fn a_group_is_the_only_one() {
    if !is_root() {
        return;
    }
    let (name, uid, _) = nobody();
    let site = site();
    let server = Server::start(&site, ["--user", &format!("{name}:4321")]);
    let status = server.get("/cgi-bin/status").expect(200).text();
    is_held_to(&status, uid, 4321);
    assert!(status.lines().any(|line| line.split_whitespace().eq(["Groups:", "4321"])), "{status}");
    server.stop();
    let server = Server::start(&site, ["--user", "54321:4321"]);
    is_held_to(&server.get("/cgi-bin/status").expect(200).text(), 54_321, 4321);
    server.stop();
}

#[test]
fn a_log_that_is_made_is_that_users_and_another_must_be_writable() {
    if !is_root() {
        return;
    }
    let (name, uid, gid) = nobody();
    let site = site();
    let (log, other) = (site.at("made.log"), site.at("roots.log"));
    let path = log.display().to_string();
    let server = Server::start(&site, ["--user", &name, "--access-log", &path]);
    server.get("/").expect(200);
    wait_until("a line", || fs::read_to_string(&log).is_ok_and(|text| text.contains("GET / HTTP/1.1")));
    let facts = fs::metadata(&log).expect("the log");
    assert_eq!((facts.uid(), facts.gid(), facts.mode() & 0o777), (uid, gid, 0o640));
    server.stop();
    fs::write(&other, "").expect("a log of root's");
    let path = other.display().to_string();
    let exit = Launch::new(&site).args(["--user", &name, "--access-log", &path]).fails();
    assert_eq!(exit.code, Some(3), "{}", exit.output);
    assert_eq!(exit.output, format!("ucaffeine: cannot open the access log {path}: Permission denied (os error 13)\n"));
    assert_eq!(fs::metadata(&other).expect("it").uid(), 0, "it is still root's");
}

#[test]
fn a_folder_that_user_may_not_enter_is_named() {
    if !is_root() {
        return;
    }
    let (name, uid, _) = nobody();
    let site = site().file("closed/index.html", "root's");
    let closed = site.at("closed");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("chmod");
    let launch = Launch::bare(Command::new(Launch::binary()), site.root()).arg_os(&closed);
    let exit = launch.args(["--port", "0", "--user", &name]).fails();
    assert_eq!(exit.code, Some(3), "{}", exit.output);
    let what = format!("permission denied; the server's user (uid {uid}) may not enter it");
    assert_eq!(exit.output, format!("ucaffeine: cannot open {}: {what}\n", closed.display()));
}

#[test]
fn who_cannot_be_become_is_named() {
    let site = site();
    let table = [
        ("no-such-user", 3, "ucaffeine: --user no-such-user: there is no user no-such-user\n"),
        ("nobody:no-such-group", 3, "ucaffeine: --user nobody:no-such-group: there is no group no-such-group\n"),
        ("a:b:c", 2, "ucaffeine: --user a:b:c: needs USER or USER:GROUP, as in www-data\n"),
        (":", 2, "ucaffeine: --user :: needs USER or USER:GROUP, as in www-data\n"),
        ("54321", 3, "ucaffeine: --user 54321: user 54321 has no entry, and so no group; write 54321:GROUP\n"),
    ];
    for (user, code, says) in table {
        let exit = Launch::new(&site).args(["--user", user]).fails();
        assert_eq!((exit.code, exit.output.as_str()), (Some(code), says));
    }
    let root = Launch::new(&site).args(["--user", "root"]).fails();
    assert!(root.code == Some(3) && root.output.contains("root is no other user"), "{root:?}");
    let config = site.write("site.toml", "user = 'no-such-user'\n");
    let exit = Launch::new(&site).args(["--config", &config.display().to_string()]).fails();
    assert_eq!(exit.code, Some(3), "{}", exit.output);
}

/// As somebody who is neither root nor the user that is asked for; where this is root, by a copy that everybody may execute.
fn without_root(site: &Site, uid: u32, gid: u32) -> Launch {
    let binary = site.at("ucaffeine");
    {
        let _quiet = no_forks();
        fs::copy(Launch::binary(), &binary).expect("a copy");
    }
    let mut command = Command::new(&binary);
    command.arg(site.root()).args(["--port", "0"]);
    if rustix::process::geteuid().is_root() {
        command.uid(uid).gid(gid);
    }
    Launch::bare(command, site.root())
}

#[test]
fn without_root_it_is_refused() {
    let site = site();
    let (name, uid, _) = nobody();
    if !rustix::process::geteuid().is_root() && rustix::process::geteuid().as_raw() == uid {
        return support::not_here("this is nobody already");
    }
    let exit = without_root(&site, 54_321, 54_321).args(["--user", &name]).fails();
    assert_eq!(exit.code, Some(2), "{}", exit.output);
    let says =
        "ucaffeine: --user nobody: only root can become another user; start it as root, or as nobody without --user\n";
    assert_eq!(exit.output, says);
}

/// So that what has given root up can start anew with the same settings.
#[test]
fn who_is_that_user_already_stays_it() {
    if !is_root() {
        return;
    }
    let site = site();
    let (name, uid, gid) = nobody();
    let server = without_root(&site, uid, gid).args(["--user", &name]).start();
    is_held_to(&server.get("/cgi-bin/status").expect(200).text(), uid, gid);
    server.stop();
}

#[test]
fn programs_cannot_have_a_user_of_their_own_then() {
    let site = site();
    let exit = Launch::new(&site).args(["--user", "nobody", "--cgi-user", "daemon"]).fails();
    assert_eq!(exit.code, Some(3), "{}", exit.output);
    assert!(exit.output.contains("--cgi-user daemon: the server gives root up (--user)"), "{}", exit.output);
}

/// The owner of what an instance has in the folder of what runs.
fn owner(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).uid()
}

#[test]
fn an_instance_can_be_listed_stopped_and_started_again() {
    if !is_root() {
        return;
    }
    let (name, uid, _) = nobody();
    let (home, site) = (Home::new(), site());
    let root = site.root().display().to_string();
    let start = ["-D", "-n", "a", "-p", "0", "--path", &root];
    let as_nobody = || home.run(start.iter().copied().chain(["--user", &name])).expect(0);
    let addr = as_nobody().addr();
    support::Client::connect(addr).get("/").expect(200);
    let folder = home.run_folder("a");
    assert_eq!((owner(&folder), owner(&folder.join("lock")), owner(&folder.join("control.sock"))), (uid, 0, uid));
    assert_eq!(fs::metadata(&folder).expect("it").mode() & 0o777, 0o700);
    let row = home.row("a");
    assert_eq!((row["state"].as_str(), row["requests"].as_u64()), (Some("serving"), Some(1)), "{row}");
    assert!(home.run(start).expect(1).stderr.contains("an instance a is running already"));
    assert_eq!(owner(&folder), uid, "a start that fails takes nothing away");
    // The folders of its name are root's, and its successor would not be root.
    assert!(home.run(["--upgrade", "-n", "a"]).expect(1).stderr.contains("it has given up root (--user)"));
    support::Client::connect(addr).get("/").expect(200);
    home.run(["-s", "-n", "a"]).expect(0);
    assert_eq!(home.run(["-L", "--json"]).expect(0).stdout, "[]\n");
    // As root again, and as nobody after that.
    home.run(start).expect(0);
    assert_eq!(owner(&folder), 0);
    home.run(["-s", "-n", "a"]).expect(0);
    as_nobody();
    let pid = Pid::from_raw(home.pid("a")).expect("a pid");
    kill_process(pid, Signal::KILL).expect("kill");
    wait_until("its lock is free", || home.run(["-L", "--json"]).expect(0).stdout == "[]\n");
    as_nobody();
    home.run(["-s", "-n", "a"]).expect(0);
    assert_eq!(home.left_running(), Vec::<String>::new());
}

/// Whoever takes such an instance over writes its state. Root must not be led to another's process by that, nor to another file.
#[test]
fn what_that_user_writes_leads_root_nowhere() {
    if !is_root() {
        return;
    }
    let (name, uid, gid) = nobody();
    let (home, site) = (Home::new(), site());
    let root = site.root().display().to_string();
    let start = ["-D", "-n", "a", "-p", "0", "--path", &root];
    home.run(start.iter().copied().chain(["--user", &name])).expect(0);
    let state = home.run_folder("a").join("state.json");
    let good = fs::read_to_string(&state).expect("its state");
    // A process of root's, described as its own.
    let mut victim = {
        let _quiet = no_forks();
        Command::new("sleep").arg("600").spawn().expect("a process of root's")
    };
    let victim_pid = victim.id();
    let stat = fs::read_to_string(format!("/proc/{victim_pid}/stat")).expect("its times");
    let ticks =
        stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(19)).expect("its start").to_owned();
    let mut told: serde_json::Value = serde_json::from_str(&good).expect("JSON");
    told["pid"] = victim_pid.into();
    told["start_ticks"] = ticks.parse::<u64>().expect("a number").into();
    let write = |text: &str| {
        fs::write(&state, text).expect("write");
        std::os::unix::fs::chown(&state, Some(uid), Some(gid)).expect("chown");
    };
    write(&told.to_string());
    home.run(["-s", "-n", "a", "--timeout", "100ms"]).expect(1);
    assert!(victim.try_wait().expect("wait").is_none(), "root's process was ended");
    write(&good);
    home.run(["-s", "-n", "a"]).expect(0);
    // A lock that leads to a file of root's is no lock.
    let target = home.path().join("root's");
    fs::write(&target, "root's").expect("write");
    let folder = home.run_folder("a");
    fs::create_dir_all(&folder).expect("mkdir");
    std::os::unix::fs::symlink(&target, folder.join("lock")).expect("a link");
    std::os::unix::fs::chown(&folder, Some(uid), Some(gid)).expect("chown");
    let refused = home.run(start).expect(1);
    assert!(refused.stderr.contains("cannot take the name a"), "{}", refused.stderr);
    assert_eq!(fs::read_to_string(&target).expect("it"), "root's");
    let _ = victim.kill();
    let _ = victim.wait();
}
