//! CGI over real sockets and real processes: what a script is told, and what it is given (RFC 3875 section 4).

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use support::{Client, Launch, Response, Server, Site};

/// The initial environment of the script, a variable a line. `env` would show what the shell adds; and the shell must live on
/// while it is read, because an exec replaces it.
const ENV: &str = "printf 'Content-Type: text/plain\\n\\n'; tr '\\0' '\\n' </proc/$$/environ; :";

fn serve(site: &Site) -> Server {
    Server::start(site, [])
}

fn variables(response: &Response) -> BTreeMap<String, String> {
    let lines = response.text();
    lines.lines().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

#[test]
fn the_environment_is_this_and_nothing_else() {
    let site = Site::new().sh("cgi-bin/env.sh", ENV);
    let root = std::fs::canonicalize(site.root()).expect("the root");
    let server = Launch::new(&site).env("LEAK", "from the server").start();
    let mut client = server.connect();
    let response = client.request(
        "GET",
        "/cgi-bin/env.sh/more/p%20ath?q=1&r=%20",
        &["X-One: a", "X-One: b", "Cookie: c=1", "Cookie: d=2", "Accept: text/html"],
    );
    let vars = variables(&response.expect(200));
    let inside = |path: &str| root.join(path).to_str().expect("UTF-8").to_owned();
    let port = server.addr.port().to_string();
    let expected = [
        ("DOCUMENT_ROOT", root.to_str().expect("UTF-8").to_owned()),
        ("GATEWAY_INTERFACE", "CGI/1.1".into()),
        ("HTTP_ACCEPT", "text/html".into()),
        ("HTTP_COOKIE", "c=1; d=2".into()),
        ("HTTP_HOST", server.addr.to_string()),
        ("HTTP_X_ONE", "a, b".into()),
        ("PATH_INFO", "/more/p ath".into()),
        ("PATH_TRANSLATED", inside("more/p ath")),
        ("QUERY_STRING", "q=1&r=%20".into()),
        ("REDIRECT_STATUS", "200".into()),
        ("REMOTE_ADDR", "127.0.0.1".into()),
        ("REMOTE_HOST", "127.0.0.1".into()),
        ("REQUEST_METHOD", "GET".into()),
        ("REQUEST_SCHEME", "http".into()),
        ("REQUEST_URI", "/cgi-bin/env.sh/more/p%20ath?q=1&r=%20".into()),
        ("SCRIPT_FILENAME", inside("cgi-bin/env.sh")),
        ("SCRIPT_NAME", "/cgi-bin/env.sh".into()),
        ("SERVER_ADDR", "127.0.0.1".into()),
        ("SERVER_NAME", "127.0.0.1".into()),
        ("SERVER_PORT", port),
        ("SERVER_PROTOCOL", "HTTP/1.1".into()),
    ];
    for (name, value) in &expected {
        assert_eq!(vars.get(*name), Some(value), "{name} in {vars:#?}");
    }
    assert!(vars["SERVER_SOFTWARE"].starts_with("ucaffeine/"));
    assert!(vars["PATH"].split(':').any(|dir| dir == "/usr/bin"));
    assert!(vars["REMOTE_PORT"].parse::<u16>().is_ok());
    let known: Vec<&str> =
        expected.iter().map(|(name, _)| *name).chain(["SERVER_SOFTWARE", "PATH", "REMOTE_PORT"]).collect();
    // One more tags the request, so that a process that escaped its group can be found.
    let strange: Vec<_> = vars.keys().filter(|k| !known.contains(&k.as_str()) && k.as_str() != "UNIQUE_ID").collect();
    assert!(strange.is_empty(), "variables that nobody promised: {strange:?}");

    let plain = variables(&client.get("/cgi-bin/env.sh").expect(200));
    assert_eq!(plain["QUERY_STRING"], "", "it is always there");
    for absent in ["PATH_INFO", "PATH_TRANSLATED"] {
        assert!(plain.get(absent).is_none_or(String::is_empty), "{absent} without a rest of the path");
    }
    assert!(plain.get("CONTENT_LENGTH").is_none_or(String::is_empty));
    server.stop();
}

#[test]
fn fields_cannot_pose_as_other_variables() {
    let site = Site::new().sh("cgi-bin/env.sh", ENV);
    let server = serve(&site);
    let mut client = server.connect();
    let fields = ["Proxy: http://evil.test", "X_Foo: underscore", "X-Foo: dash", "Content_Length: 9", "LD_PRELOAD: x"];
    let vars = variables(&client.request("GET", "/cgi-bin/env.sh?LD_PRELOAD=x", &fields).expect(200));
    assert_eq!(vars.get("HTTP_X_FOO").map(String::as_str), Some("dash"));
    for absent in ["HTTP_PROXY", "HTTP_LD_PRELOAD", "LD_PRELOAD", "HTTP_CONTENT_LENGTH", "HTTP_CONTENT_TYPE"] {
        assert!(!vars.contains_key(absent), "{absent} in {vars:#?}");
    }
    client.head(&["POST /cgi-bin/env.sh HTTP/1.1", "Host: {host}", "Transfer-Encoding: chunked"]);
    client.send("2\r\nhi\r\n0\r\nX-Foo: from a trailer\r\nContent-Type: from/trailer\r\n\r\n");
    let vars = variables(&client.read().expect(200));
    assert!(!vars.values().any(|value| value.contains("trailer")), "{vars:#?}");
    assert_eq!(vars["CONTENT_LENGTH"], "2");
    assert!(!vars.contains_key("HTTP_TRANSFER_ENCODING"), "it was decoded: {vars:#?}");
    server.stop();
}

#[test]
fn variables_for_all_and_for_one_mount() {
    let site = Site::new().sh("cgi-bin/env.sh", ENV).sh("other/env.sh", ENV);
    let mount = format!("/app/={}", site.at("other").display());
    let args = ["--cgi", &mount, "--cgi-env", "ALL=1", "--cgi-env", "/app:ONE=a=b", "--cgi-env", "PASSED"];
    let server = Launch::new(&site).args(args).env("PASSED", "through").start();
    let vars = variables(&server.get("/cgi-bin/env.sh").expect(200));
    assert_eq!((vars.get("ALL").map(String::as_str), vars.get("ONE")), (Some("1"), None));
    assert_eq!(vars["PASSED"], "through");
    let vars = variables(&server.get("/app/env.sh").expect(200));
    assert_eq!((vars["ALL"].as_str(), vars["ONE"].as_str()), ("1", "a=b"));
    server.stop();
}

#[test]
fn mounts_of_a_folder_and_of_a_program() {
    let outside = Site::new().sh("tools/env.sh", ENV).sh("bin/prog", ENV);
    let site = Site::new().sh("cgi-bin/env.sh", ENV).sh("cgi-bin/sub/env.sh", ENV);
    let mounts = [
        format!("/tools/={}", outside.at("tools").display()),
        format!("/prog={}", outside.at("bin/prog").display()),
        format!("/prog2/={}", outside.at("bin/prog").display()),
    ];
    let server = Server::start(&site, ["--cgi", &mounts[0], "--cgi", &mounts[1], "--cgi", &mounts[2]]);
    let mut client = server.connect();
    let cases = [
        ("/cgi-bin/env.sh", "/cgi-bin/env.sh", ""),
        ("/cgi-bin/env.sh/", "/cgi-bin/env.sh", "/"),
        ("/cgi-bin/env.sh/a/b", "/cgi-bin/env.sh", "/a/b"),
        ("/cgi-bin/sub/env.sh/a", "/cgi-bin/sub/env.sh", "/a"),
        ("/tools/env.sh/x", "/tools/env.sh", "/x"),
        ("/prog", "/prog", ""),
        ("/prog/", "/prog", "/"),
        ("/prog/a/b", "/prog", "/a/b"),
        ("/prog2/a/b", "/prog2", "/a/b"),
        ("/prog2", "/prog2", ""),
    ];
    for (target, script_name, path_info) in cases {
        let vars = variables(&client.get(target).expect(200));
        assert_eq!(vars["SCRIPT_NAME"], script_name, "{target}");
        assert_eq!(vars.get("PATH_INFO").map_or("", String::as_str), path_info, "{target}");
        let translated = (!path_info.is_empty()).then(|| format!("{}{path_info}", site.root().display()));
        assert_eq!(vars.get("PATH_TRANSLATED"), translated.as_ref(), "{target}");
    }
    client.get("/programme").expect(404);
    server.stop();
}

#[test]
fn a_script_gets_three_descriptors_one_argument_and_its_own_folder() {
    // `ls` has a descriptor of its own for the folder that it reads: 3. Anything else would be the server's.
    let site = Site::new()
        .sh("cgi-bin/fds.sh", "printf 'Content-Type: text/plain\\n\\n'; exec ls /proc/self/fd")
        .sh("cgi-bin/args.sh", "printf 'Content-Type: text/plain\\n\\n%s' $#")
        .sh("cgi-bin/sub/pwd.sh", "printf 'Content-Type: text/plain\\n\\n'; pwd")
        .sh("cgi-bin/stdin.sh", "printf 'Content-Type: text/plain\\n\\n'; readlink /proc/self/fd/0")
        .sh("cgi-bin/signals.sh", "printf 'Content-Type: text/plain\\n\\n'; grep -E '^Sig(Ign|Blk)' /proc/self/status")
        .sh("cgi-bin/group.sh", "printf 'Content-Type: text/plain\\n\\n'; echo $$ $(cut -d' ' -f5 /proc/$$/stat)");
    let server = serve(&site);
    let _held: Vec<Client> = (0..50).map(|_| server.connect()).collect();
    let mut client = server.connect();
    for _ in 0..5 {
        assert_eq!(client.get("/cgi-bin/fds.sh").expect(200).text(), "0\n1\n2\n3\n");
    }
    let post = client.post("/cgi-bin/fds.sh", "text/plain", b"body").expect(200);
    assert_eq!(post.text(), "0\n1\n2\n3\n");
    for query in ["", "?-s", "?a+b+c", "?-d+allow_url_include%3d1"] {
        assert_eq!(client.get(&format!("/cgi-bin/args.sh{query}")).expect(200).text(), "0", "{query}");
    }
    let folder = std::fs::canonicalize(site.at("cgi-bin/sub")).expect("the folder");
    assert_eq!(Path::new(client.get("/cgi-bin/sub/pwd.sh").expect(200).text().trim_end()), folder);
    assert_eq!(client.get("/cgi-bin/stdin.sh").expect(200).text(), "/dev/null\n");
    for line in client.get("/cgi-bin/signals.sh").expect(200).text().lines() {
        assert_eq!(line.split_whitespace().nth(1), Some("0000000000000000"), "{line}: nothing is ignored or blocked");
    }
    let group = client.get("/cgi-bin/group.sh").expect(200).text();
    let (pid, pgrp) = group.trim_end().split_once(' ').expect("two numbers");
    assert_eq!(pid, pgrp, "a script leads a process group of its own");
    server.stop();
}

#[test]
fn authorization_is_for_those_who_may_have_it() {
    let site = Site::new().sh("cgi-bin/env.sh", ENV).sh("other/env.sh", ENV);
    let mount = format!("/app={}", site.at("other").display());
    let fields = ["Authorization: Basic c2VjcmV0", "Proxy-Authorization: Basic c2VjcmV0"];
    for (args, passed) in [(vec![], [false, false]), (vec!["/app"], [false, true]), (vec!["all"], [true, true])] {
        let flags = args.iter().flat_map(|prefix| ["--cgi-pass-authorization", prefix]);
        let server = Server::start(&site, ["--cgi", &mount].into_iter().chain(flags));
        for (target, passed) in ["/cgi-bin/env.sh", "/app/env.sh"].into_iter().zip(passed) {
            let response = server.connect().request("GET", target, &fields).expect(200);
            let value = variables(&response).get("HTTP_AUTHORIZATION").cloned();
            assert_eq!(value.as_deref(), passed.then_some("Basic c2VjcmV0"), "{target} with {args:?}");
            assert!(passed || !response.text().contains("c2VjcmV0"), "under no name: {}", response.text());
        }
        server.stop();
    }
}

#[test]
fn what_programs_need_is_passed_as_it_came() {
    let site = Site::new().sh("cgi-bin/env.sh", ENV);
    let server = serve(&site);
    let fields = [
        "Content-Encoding: gzip",
        "Git-Protocol: version=2",
        "X-Shock: () { :;}; echo vulnerable",
        "X-High: \u{e9}",
        "HTTPS: on",
        "Https: on",
    ];
    let vars = variables(&server.connect().request("GET", "/cgi-bin/env.sh?a=%0d%0aSet-Cookie:b", &fields).expect(200));
    for (name, value) in [
        ("HTTP_CONTENT_ENCODING", "gzip"),
        ("HTTP_GIT_PROTOCOL", "version=2"),
        ("GIT_PROTOCOL", "version=2"),
        ("HTTP_X_SHOCK", "() { :;}; echo vulnerable"),
        ("HTTP_X_HIGH", "\u{e9}"),
        ("HTTP_HTTPS", "on, on"),
        ("QUERY_STRING", "a=%0d%0aSet-Cookie:b"),
    ] {
        assert_eq!(vars.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(!vars.contains_key("HTTPS"), "only a connection that is encrypted says so");
    server.get("/cgi-bin/env.sh/a%0d%0ab").expect(400);
    server.get("/cgi-bin/env.sh/a%00b").expect(400);
    server.stop();
}

#[test]
fn what_a_script_inherits_is_what_it_should() {
    let site = Site::new()
        .sh("cgi-bin/umask.sh", "printf 'Content-Type: text/plain\\n\\n'; umask")
        .sh("cgi-bin/stat.sh", "printf 'Content-Type: text/plain\\n\\n'; cut -d' ' -f19,41 /proc/$$/stat")
        .sh("cgi-bin/session.sh", "printf 'Content-Type: text/plain\\n\\n'; cut -d' ' -f6 /proc/$$/stat");
    let server = serve(&site);
    let own = own_stat(server.pid());
    let nice: i32 = own[19 - 3].parse().expect("a nice value");
    let umask = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("the server's status");
    let umask = umask.lines().find_map(|line| line.strip_prefix("Umask:")).expect("Umask").trim().to_owned();
    assert_eq!(server.get("/cgi-bin/umask.sh").expect(200).text().trim(), umask);
    // 3 is SCHED_BATCH. The shell's copy of the fields is shifted by none: its name has no space.
    let batch = "3";
    assert_eq!(server.get("/cgi-bin/stat.sh").expect(200).text().trim(), format!("{} {batch}", (nice + 19).min(19)));
    assert_eq!(server.get("/cgi-bin/session.sh").expect(200).text().trim(), own[6 - 3], "no session of its own");
    server.stop();
}

/// The fields of /proc/PID/stat from the third on.
fn own_stat(pid: i32) -> Vec<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the server's stat");
    stat.rsplit_once(')').expect("a name").1.split_whitespace().map(str::to_owned).collect()
}
