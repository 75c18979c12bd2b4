//! What an operator does wrong, and what he is told: one line with what failed, on what, and the likely cause, and the exit code
//! that the documentation promises.

mod instance_support;
mod support;

use instance_support::{Home, Said};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use support::Launch;

/// One line on standard error, this one, and nothing else.
#[track_caller]
fn says(said: Said, code: i32, line: &str) {
    assert_eq!(
        (said.code, said.stderr.as_str(), said.stdout.as_str()),
        (Some(code), format!("ucaffeine: {line}\n").as_str(), "")
    );
}

/// A command that may not end where it should fail: one that serves, say. Then it is ended, and the test with it.
#[track_caller]
fn run<'a>(home: &Home, args: impl IntoIterator<Item = &'a str>) -> Said {
    let exit = home.launch(args).fails();
    Said { code: exit.code, stdout: String::new(), stderr: exit.output }
}

/// As `text`, without what the user who runs this would have to be told in other words.
fn refused_to_read(path: &Path) -> bool {
    let is_refused = fs::File::open(path).is_err();
    if !is_refused {
        support::not_here("this user may read everything");
    }
    is_refused
}

#[test]
fn a_port_that_is_taken_is_said_to_be_whose() {
    let home = Home::new();
    let site = support::Site::new().file("index.html", "home");
    let first = support::Server::start(&site, []);
    let (port, pid) = (first.addr.port().to_string(), first.pid());
    for bind in ["127.0.0.1", "0.0.0.0"] {
        let said = run(&home, ["-p", &port, "-b", bind]);
        says(
            said,
            4,
            &format!(
                "cannot listen on {bind}:{port}: Address already in use (os error 98); ucaffeine (pid {pid}) has it"
            ),
        );
    }
    first.stop();
    // Not the one that has the same port on another address.
    let elsewhere = std::net::TcpListener::bind("127.0.0.2:0").expect("a port");
    let port = elsewhere.local_addr().expect("an address").port();
    if let Ok(here) = std::net::TcpListener::bind(("127.0.0.3", port)) {
        let said = run(&home, ["-b", &format!("127.0.0.3:{port}")]);
        assert!(said.stderr.contains(&format!("(pid {}) has it", std::process::id())), "{said:?}");
        drop(here);
    }
}

#[test]
fn a_socket_path_that_is_taken_is_said_to_be_whose_and_no_file_is_removed() {
    let home = Home::new();
    let site = support::Site::new().file("index.html", "home").file("page.html", "precious");
    let path = site.at("x.sock");
    let bind = format!("unix:{}", path.display());
    let first = support::Server::start(&site, ["--bind", "127.0.0.1", "--bind", &bind]);
    let line = format!(
        "cannot listen on {bind}: Address already in use (os error 98); ucaffeine (pid {}) has it",
        first.pid()
    );
    says(run(&home, ["-b", &bind]), 4, &line);
    first.stop();
    let page = site.at("page.html");
    let bind = format!("unix:{}", page.display());
    says(
        run(&home, ["-b", &bind]),
        4,
        &format!("cannot listen on {bind}: a file that is no socket is there; move it away"),
    );
    assert_eq!(fs::read_to_string(&page).expect("the page"), "precious");
    let missing = format!("unix:{}", site.at("missing/x.sock").display());
    says(
        run(&home, ["-b", &missing]),
        4,
        &format!("cannot listen on {missing}: No such file or directory (os error 2)"),
    );
    let folder = format!("unix:{}", site.root().display());
    let said = run(&home, ["-b", &folder]).expect(4);
    assert!(said.stderr.starts_with(&format!("ucaffeine: cannot listen on {folder}: ")), "{said:?}");
    assert!(site.root().is_dir());
}

#[test]
fn an_address_of_nobody_here() {
    let home = Home::new();
    says(
        run(&home, ["-b", "192.0.2.1", "-p", "0"]),
        4,
        "cannot listen on 192.0.2.1:0: Cannot assign requested address (os error 99); no interface has this address",
    );
}

#[test]
fn a_folder_that_cannot_be_served() {
    let home = Home::new();
    let site =
        support::Site::new().file("file", "x").link("loop", "loop").link("nowhere", "absent").file("closed/x", "x");
    let at = |path: &str| site.at(path).display().to_string();
    let too_long = "x".repeat(300);
    let table = [
        ("absent", "no such file or folder; is the path relative to another folder?"),
        ("nowhere", "no such file or folder; is the path relative to another folder?"),
        ("file", "not a folder; give the folder that holds it"),
        ("loop", "Too many levels of symbolic links (os error 40)"),
        ("file/below", "Not a directory (os error 20)"),
        (too_long.as_str(), "File name too long (os error 36)"),
    ];
    for (path, what) in table {
        let dir = at(path);
        says(run(&home, ["-p", "0", &dir]), 3, &format!("DIR {dir}: {what}"));
    }
    fs::set_permissions(site.at("closed"), fs::Permissions::from_mode(0o000)).expect("chmod");
    if refused_to_read(&site.at("closed")) {
        let dir = at("closed");
        let what = "permission denied; this user may not enter the folder";
        says(run(&home, ["-p", "0", &dir]), 3, &format!("DIR {dir}: {what}"));
    }
    fs::set_permissions(site.at("closed"), fs::Permissions::from_mode(0o755)).expect("chmod");
}

#[test]
fn a_configuration_that_cannot_be_read() {
    let home = Home::new();
    let site = support::Site::new().file("closed.toml", "port = 0\n").link("loop", "loop");
    let at = |path: &str| site.at(path).display().to_string();
    let folder = site.root().display().to_string();
    says(run(&home, ["-c", &folder]), 3, &format!("{folder}: cannot be read: it is a folder; name the file in it"));
    let absent = at("absent.toml");
    says(run(&home, ["-c", &absent]), 3, &format!("{absent}: cannot be read: No such file or directory (os error 2)"));
    let link = at("loop");
    says(
        run(&home, ["-c", &link]),
        3,
        &format!("{link}: cannot be read: Too many levels of symbolic links (os error 40)"),
    );
    fs::set_permissions(site.at("closed.toml"), fs::Permissions::from_mode(0o000)).expect("chmod");
    if refused_to_read(&site.at("closed.toml")) {
        let closed = at("closed.toml");
        says(
            run(&home, ["-c", &closed]),
            3,
            &format!("{closed}: cannot be read: permission denied; this user may not read it"),
        );
    }
    // The same by its variable, and in the background.
    let exit = Launch::new(&site).env("UCAFFEINE_CONFIG", &folder).fails();
    assert_eq!(
        (exit.code, exit.output),
        (Some(3), format!("ucaffeine: {folder}: cannot be read: it is a folder; name the file in it\n"))
    );
    says(
        run(&home, ["-D", "-n", "a", "-c", &folder]),
        3,
        &format!("{folder}: cannot be read: it is a folder; name the file in it"),
    );
}

#[test]
fn an_access_log_that_cannot_be_written() {
    let home = Home::new();
    let site = support::Site::new();
    let root = site.root().display().to_string();
    let table = [
        (root.clone(), "Is a directory (os error 21)"),
        (format!("{root}/absent/log"), "No such file or directory (os error 2)"),
    ];
    for (log, what) in table {
        let said = run(&home, ["-p", "0", "--access-log", &log, &root]);
        says(said, 3, &format!("cannot open the access log {log}: {what}"));
    }
}

#[test]
fn what_is_not_there_cannot_be_stopped_shown_or_rolled_back() {
    let home = Home::new();
    says(run(&home, ["-s", "-n", "a"]), 1, "no instance a is running");
    says(run(&home, ["-l", "-n", "a"]), 1, &format!("there is no log of a ({})", home.log("a").display()));
    says(run(&home, ["--reset-logs", "-n", "a"]), 1, &format!("there is no log of a ({})", home.log("a").display()));
    says(run(&home, ["--rollback", "-n", "a"]), 1, "nothing was ever deployed to a");
    assert_eq!(home.run(["-L"]).expect(0).stdout.lines().count(), 1, "a heading, and nothing below it");
}

#[test]
fn what_is_not_there_cannot_be_deployed() {
    let home = Home::new();
    let site = support::Site::new().link("loop", "loop").link("nowhere", "absent");
    for (path, what) in [
        ("absent", "No such file or directory (os error 2)"),
        ("nowhere", "No such file or directory (os error 2)"),
        ("loop", "Too many levels of symbolic links (os error 40)"),
    ] {
        let path = site.at(path).display().to_string();
        says(run(&home, ["-d", &path, "-n", "a"]), 1, &format!("cannot deploy {path}: {what}"));
    }
    says(run(&home, ["-d", "/dev/null", "-n", "a"]), 1, "cannot deploy /dev/null: neither a file nor a folder");
    assert!(!home.own("a").exists(), "nothing was begun");
}

/// What an instance of before the last boot wrote: another boot's id, and by now anybody's number.
#[test]
fn a_state_from_another_boot_is_cleaned_and_nobody_is_stopped_for_it() {
    let home = Home::new();
    home.run(["-D", "-n", "a", "-p", "0"]).expect(0);
    let folder = home.run_folder("a");
    let state = fs::read_to_string(folder.join("state.json")).expect("its state");
    let mut told: serde_json::Value = serde_json::from_str(&state).expect("JSON");
    home.run(["-s", "-n", "a"]).expect(0);
    told["boot_id"] = "00000000-0000-4000-8000-000000000000".into();
    told["pid"] = std::process::id().into();
    for (state, held) in
        [(told.to_string(), false), ("{}".into(), false), ("not JSON".into(), false), (told.to_string(), true)]
    {
        fs::create_dir_all(&folder).expect("mkdir");
        fs::write(folder.join("state.json"), &state).expect("a state");
        let lock = fs::File::create(folder.join("lock")).expect("a lock");
        if held {
            // Somebody else has it: a backup that locks what it reads, say.
            rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("flock");
            let pid = std::process::id();
            says(
                run(&home, ["-s", "-n", "a"]),
                1,
                &format!("a is locked by a process that is not its own (pid {pid}?)"),
            );
            drop(lock);
        }
        says(run(&home, ["-s", "-n", "a"]), 1, "no instance a is running");
        assert!(!folder.exists(), "cleaned");
    }
}

#[test]
fn what_lies_where_the_folders_of_instances_should_be_is_named() {
    let home = Home::new();
    let folder = home.run_folder("a");
    fs::create_dir_all(folder.parent().expect("a parent")).expect("mkdir");
    fs::write(&folder, "").expect("a file");
    let said = run(&home, ["-n", "a", "-p", "0"]);
    says(said, 1, &format!("cannot take the name a: {}: File exists (os error 17)", folder.display()));
    fs::remove_file(&folder).expect("rm");
    home.content("a", "current", "no link");
    let own = home.own("a");
    let said = run(&home, ["-n", "a", "-p", "0"]);
    says(said, 3, &format!("the folder of a: {}/current is not a link to a release; move it away", own.display()));
}
