//! Deploys, as an operator does them: through the real binary, with the instance running, not running, and under load.

mod instance_support;
mod support;

use instance_support::Home;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use support::{Client, no_forks, wait_until};

/// A file outside of the instance's folders.
fn file(home: &Home, path: &str, content: &str, mode: u32) -> String {
    let _quiet = no_forks();
    let at = home.path().join(path);
    fs::create_dir_all(at.parent().expect("a parent")).expect("mkdir");
    fs::write(&at, content).expect("write");
    fs::set_permissions(&at, fs::Permissions::from_mode(mode)).expect("chmod");
    at.to_str().expect("UTF-8").to_owned()
}

fn hello(text: &str) -> String {
    format!("#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\necho {text}\n")
}

/// The releases that are there.
fn releases(home: &Home, name: &str) -> Vec<String> {
    let entries = fs::read_dir(home.own(name).join("releases")).into_iter().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("it").file_name().into_string().expect("text")).collect();
    names.sort();
    names
}

#[test]
fn a_program_is_deployed_and_answers_at_the_url_that_is_printed() {
    let home = Home::new();
    let addr = home.run(["-D", "-n", "a", "-p", "0", "--cores", "2"]).expect(0).addr();
    let program = file(&home, "hello", &hello("one"), 0o755);
    let said = home.run(["-d", &program, "-n", "a"]).expect(0).stdout;
    assert_eq!(said, format!("release 1\nurl http://{addr}/cgi-bin/hello\n"));
    assert_eq!(Client::connect(addr).get("/cgi-bin/hello").expect(200).text(), "one\n");
    assert_eq!(fs::metadata(home.own("a").join("current/cgi-bin/hello")).expect("it").mode() & 0o777, 0o755);
    // A page beside it: what was there stays.
    let page = file(&home, "index.html", "page", 0o644);
    let said = home.run(["-d", &page, "-n", "a"]).expect(0).stdout;
    assert_eq!(said, format!("release 2\nurl http://{addr}/index.html\n"));
    let mut client = Client::connect(addr);
    assert_eq!(client.get("/").expect(200).text(), "page");
    assert_eq!(client.get("/cgi-bin/hello").expect(200).text(), "one\n");
    client.get("/releases/1/cgi-bin/hello").expect(404);
    client.get("/current/index.html").expect(404);
    home.run(["-s", "-n", "a"]).expect(0);
    // And it is still there after the next start.
    let addr = home.run(["-D", "-n", "a", "-p", "0"]).expect(0).addr();
    assert_eq!(Client::connect(addr).get("/cgi-bin/hello").expect(200).text(), "one\n");
    home.run(["-s", "-n", "a"]).expect(0);
}

#[test]
fn a_folder_takes_the_place_of_all_or_of_a_part() {
    let home = Home::new();
    home.content("a", "old.html", "old");
    let addr = home.run(["-D", "-n", "a", "-p", "0"]).expect(0).addr();
    let mut client = Client::connect(addr);
    assert_eq!(client.get("/old.html").expect(200).text(), "old");
    file(&home, "site/index.html", "new", 0o644);
    file(&home, "site/sub/a b.html", "deep", 0o644);
    file(&home, "site/releases/current.html", "of the site", 0o644);
    let site = home.path().join("site").to_str().expect("UTF-8").to_owned();
    assert_eq!(home.run(["-d", &site, "-n", "a"]).expect(0).stdout, format!("release 2\nurl http://{addr}/\n"));
    assert_eq!(client.get("/").expect(200).text(), "new");
    assert_eq!(client.get("/releases/current.html").expect(200).text(), "of the site");
    client.get("/old.html").expect(404);
    let part = home.path().join("site/sub").to_str().expect("UTF-8").to_owned();
    let said = home.run(["-d", &part, "-n", "a", "--to", "x/y z"]).expect(0).stdout;
    assert_eq!(said, format!("release 3\nurl http://{addr}/x/y%20z/\n"));
    assert_eq!(client.get("/x/y%20z/a%20b.html").expect(200).text(), "deep");
    assert_eq!(client.get("/").expect(200).text(), "new");
    // Back to the folder, and once more to what was there before the first deploy.
    assert_eq!(home.run(["--rollback", "-n", "a"]).expect(0).stdout, "release 2\n");
    client.get("/x/y%20z/a%20b.html").expect(404);
    assert_eq!(home.run(["--rollback", "-n", "a"]).expect(0).stdout, "release 1\n");
    assert_eq!(client.get("/old.html").expect(200).text(), "old");
    let last = home.run(["--rollback", "-n", "a"]).expect(1);
    assert!(last.stderr.contains("no release of a before 1 is kept"), "{}", last.stderr);
    assert_eq!(client.get("/old.html").expect(200).text(), "old");
    home.run(["-s", "-n", "a"]).expect(0);
}

#[test]
fn old_releases_go_and_a_deploy_after_a_rollback_takes_the_place_of_what_was_rolled_back() {
    let home = Home::new();
    for number in 1..=5 {
        let page = file(&home, "page.html", &number.to_string(), 0o644);
        assert!(home.run(["-d", &page, "-n", "a"]).expect(0).stdout.contains("url /page.html (when it runs)"));
    }
    assert_eq!(releases(&home, "a"), ["3", "4", "5"]);
    home.run(["--rollback", "-n", "a"]).expect(0);
    home.run(["--rollback", "-n", "a"]).expect(0);
    let page = file(&home, "page.html", "six", 0o644);
    home.run(["-d", &page, "-n", "a"]).expect(0);
    assert_eq!(fs::read_to_string(home.own("a").join("current/page.html")).expect("it"), "six");
    assert_eq!(home.run(["--rollback", "-n", "a"]).expect(0).stdout, "release 5\n");
}

#[test]
fn what_cannot_be_deployed_changes_nothing() {
    let home = Home::new();
    let page = file(&home, "page.html", "page", 0o644);
    home.run(["-d", &page, "-n", "a"]).expect(0);
    let table: [(&[&str], i32, &str); 5] = [
        (&["-d", "/nonexistent/x"], 1, "cannot deploy /nonexistent/x: No such file"),
        (&["-d", "/dev/null"], 1, "neither a file nor a folder"),
        (&["-d", &page, "--to", "../x"], 2, "not a path below the site"),
        (&["-d", home.path().to_str().expect("UTF-8")], 1, "holds the releases of a itself"),
        (&["--rollback"], 1, "no release of a before 1 is kept"),
    ];
    for (args, code, says) in table {
        let said = home.run(args.iter().copied().chain(["-n", "a"])).expect(code).stderr;
        assert!(said.contains(says), "{args:?}: {said}");
    }
    assert_eq!(releases(&home, "a"), ["1"]);
    assert_eq!(home.run(["--rollback", "-n", "b"]).expect(1).stderr, "ucaffeine: nothing was ever deployed to b\n");
    // What a deploy that was killed half-way leaves is swept by the next one, and never served.
    fs::create_dir_all(home.own("a").join("releases/.new-2/half")).expect("mkdir");
    home.run(["-d", &page, "-n", "a"]).expect(0);
    assert_eq!(releases(&home, "a"), ["1", "2"]);
}

#[test]
fn programs_that_are_turned_off_are_noted() {
    let home = Home::new();
    let addr = home.run(["-D", "-n", "a", "-p", "0", "--no-cgi"]).expect(0).addr();
    let program = file(&home, "hello", &hello("one"), 0o755);
    let said = home.run(["-d", &program, "-n", "a"]).expect(0).stdout;
    assert!(said.contains("note programs are turned off"), "{said}");
    Client::connect(addr).get("/cgi-bin/hello").expect(404);
    home.run(["-s", "-n", "a"]).expect(0);
}

/// A deploy that is killed at any moment leaves the old release or the new one, whole.
#[test]
fn a_deploy_that_is_killed_leaves_one_or_the_other() {
    let home = Home::new();
    let tree = |number: usize| -> PathBuf {
        for part in 0..50 {
            file(&home, &format!("site{number}/{part}.txt"), &number.to_string(), 0o644);
        }
        home.path().join(format!("site{number}"))
    };
    let trees = [tree(1), tree(2)];
    home.run(["-d", trees[0].to_str().expect("UTF-8"), "-n", "a"]).expect(0);
    let addr = home.run(["-D", "-n", "a", "-p", "0"]).expect(0).addr();
    let mut client = Client::connect(addr);
    for round in 0..20 {
        let what = trees[(round + 1) % 2].to_str().expect("UTF-8").to_owned();
        home.kill_during(["-d", &what, "-n", "a"], std::time::Duration::from_millis(round as u64));
        // What it began may still be on its way through the server, but each look sees one tree.
        let first = client.get("/0.txt").expect(200).text();
        wait_until("one release", || {
            let first = client.get("/0.txt").expect(200).text();
            (0..50).all(|part| client.get(&format!("/{part}.txt")).expect(200).text() == first)
        });
        assert!(first == "1" || first == "2");
        let link = fs::read_dir(home.own("a").join("current")).expect("a release").count();
        assert_eq!(link, 50);
    }
    home.run(["-s", "-n", "a"]).expect(0);
}

/// Three deploys later its folder was gone, and the page beside it could not be read.
#[test]
fn a_script_keeps_its_release_until_its_reply_is_over() {
    let home = Home::new();
    let go = home.path().join("go");
    let wait = format!("while [ ! -e {} ]; do sleep 0.02; done; cat ../page.html\n", go.display());
    home.content("a", "page.html", "beside");
    let program = file(&home, "wait", &format!("{}{wait}", hello("begun")), 0o755);
    home.run(["-d", &program, "-n", "a"]).expect(0);
    let addr = home.run(["-D", "-n", "a", "-p", "0"]).expect(0).addr();
    std::thread::scope(|scope| {
        let reply = scope.spawn(|| Client::connect(addr).get("/cgi-bin/wait").expect(200).text());
        wait_until("the script runs", || home.row("a")["scripts_running"] == 1);
        for number in 3..=8 {
            let page = file(&home, "page.html", &number.to_string(), 0o644);
            home.run(["-d", &page, "-n", "a"]).expect(0);
        }
        assert_eq!(releases(&home, "a"), ["2", "6", "7", "8"]);
        fs::write(&go, "").expect("the word");
        assert_eq!(reply.join().expect("a reply"), "begun\nbeside");
    });
    let page = file(&home, "page.html", "9", 0o644);
    home.run(["-d", &page, "-n", "a"]).expect(0);
    assert_eq!(releases(&home, "a"), ["7", "8", "9"]);
    home.run(["-s", "-n", "a"]).expect(0);
}

/// The promise: 200 deploys while clients ask, without one reply that failed, mixed releases, or went back in time.
#[test]
fn two_hundred_deploys_under_load() {
    let home = Home::new();
    let tree = |number: u64| {
        file(&home, "site/index.html", &format!("{number} {}", "x".repeat(100)), 0o644);
        file(&home, "site/large.txt", &format!("{number:08} ").repeat(40_000), 0o644);
        file(&home, "site/cgi-bin/page", &format!("{}cat ../index.html\n", hello(&number.to_string())), 0o755);
        home.path().join("site").to_str().expect("UTF-8").to_owned()
    };
    home.run(["-d", &tree(0), "-n", "a"]).expect(0);
    let addr = home.run(["-D", "-n", "a", "-p", "0", "--cores", "2"]).expect(0).addr();
    // What every core has acknowledged: no reply to a later request may be older.
    let (done, asked, over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let ask = |target: &str, pause: std::time::Duration, release: &dyn Fn(&str) -> u64| {
        let mut client = Client::connect(addr);
        let mut newest = 0;
        while !over.load(Ordering::Acquire) {
            let least = done.load(Ordering::Acquire).max(newest);
            newest = release(&client.get(target).expect(200).text());
            assert!(newest >= least, "{target}: release {newest} after {least}");
            asked.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(pause);
        }
    };
    let number = |text: &str| -> u64 { text.trim().parse().unwrap_or_else(|_| panic!("{text:?}")) };
    let page = |text: &str| number(text.split(' ').next().unwrap_or_default());
    let large = |text: &str| {
        let mut words = text.split_ascii_whitespace().map(number);
        let first = words.next().expect("a word");
        assert!(words.all(|word| word == first), "a mixture");
        first
    };
    // The script says its own number, and then reads the page beside it.
    let script = |text: &str| {
        let (own, beside) = text.split_once('\n').unwrap_or_else(|| panic!("{text:?}"));
        assert_eq!(number(own), page(beside), "a script of one release with a page of another");
        number(own)
    };
    std::thread::scope(|scope| {
        let millis = std::time::Duration::from_millis;
        let ask = &ask;
        let asking = [
            scope.spawn(move || ask("/", millis(0), &page)),
            scope.spawn(move || ask("/", millis(1), &page)),
            scope.spawn(move || ask("/index.html", millis(0), &page)),
            scope.spawn(move || ask("/large.txt", millis(1), &large)),
            scope.spawn(move || ask("/cgi-bin/page", millis(5), &script)),
        ];
        let last = 200;
        for next in 1..=last {
            // A failure of those who ask ends the test at once.
            if asking.iter().any(|thread| thread.is_finished()) {
                break;
            }
            home.run(["-d", &tree(next), "-n", "a"]).expect(0);
            done.store(next, Ordering::Release);
            // Each release is asked for, however slow the machine.
            let before = asked.load(Ordering::Relaxed);
            let is_over = || asking.iter().any(|thread| thread.is_finished());
            wait_until("requests", || asked.load(Ordering::Relaxed) >= before + 6 || is_over());
        }
        over.store(true, Ordering::Release);
        for thread in asking {
            thread.join().expect("no reply was wrong");
        }
    });
    assert_eq!(done.load(Ordering::Acquire), 200);
    println!("{} requests during 200 deploys", asked.load(Ordering::Relaxed));
    assert!(asked.load(Ordering::Relaxed) > 1000);
    let row = home.row("a");
    assert_eq!(row["errors"], 0, "{row}");
    // What was opened for a release is closed with it: a watcher a core is left.
    let watchers = || {
        let fds = fs::read_dir(format!("/proc/{}/fd", row["pid"])).expect("its descriptors");
        let of_inotify =
            |fd: &fs::DirEntry| fs::read_link(fd.path()).is_ok_and(|to| to.ends_with("anon_inode:inotify"));
        fds.flatten().filter(of_inotify).count()
    };
    wait_until("the watchers of old releases are gone", || watchers() <= 2);
    home.run(["-s", "-n", "a"]).expect(0);
}
