//! CGI over real sockets and real processes: what cannot be run, what the log says about it, and that nobody sees a source.

mod support;

use support::{Server, Site};

fn serve(site: &Site) -> Server {
    Server::start(site, [])
}

#[test]
fn failures_are_told_apart() {
    let site = Site::new()
        .file("cgi-bin/not-executable.sh", "#!/bin/sh\n# TOP SECRET\n")
        .script("cgi-bin/no-shebang", "printf 'TOP SECRET'\n")
        .script("cgi-bin/no-interpreter", "#!/nowhere/at/all\nTOP SECRET\n")
        .sh("cgi-bin/malformed.sh", "echo this is not a field; echo; echo body")
        .sh("cgi-bin/silent.sh", "exit 0")
        .sh("cgi-bin/fails.sh", "exit 3")
        .sh("cgi-bin/dies.sh", "kill -9 $$")
        .sh("cgi-bin/no-end.sh", "printf 'Content-Type: text/plain\\n'")
        .sh("cgi-bin/bad-status.sh", "printf 'Status: many\\n\\n'")
        .sh("cgi-bin/injects.sh", "printf 'Content-Type: text/plain\\nX-A: b\\rX-B: c\\n\\n'")
        .sh("cgi-bin/huge-head.sh", "yes 'X-Long: 0123456789' | head -c 100000; printf '\\n\\n'")
        .sh("cgi-bin/ok.sh", "printf 'Content-Type: text/plain\\n\\nok'")
        .file("cgi-bin/sub/readme.txt", "x");
    let server = serve(&site);
    for (script, status) in [
        ("not-executable.sh", 403),
        ("absent.sh", 404),
        ("sub/absent.sh", 404),
        ("no-shebang", 500),
        ("no-interpreter", 500),
        ("malformed.sh", 502),
        ("silent.sh", 502),
        ("fails.sh", 502),
        ("dies.sh", 502),
        ("no-end.sh", 502),
        ("bad-status.sh", 502),
        ("injects.sh", 502),
        ("huge-head.sh", 502),
        ("ok.sh", 200),
    ] {
        let response = server.get(&format!("/cgi-bin/{script}"));
        assert_eq!(response.status, status, "{script}: {response:?}");
        assert!(!response.text().contains("SECRET"), "{script}");
    }
    for folder in ["/cgi-bin/", "/cgi-bin", "/cgi-bin/sub/", "/cgi-bin/sub"] {
        let response = server.get(folder);
        assert!(matches!(response.status, 301 | 403 | 404), "{folder}: {response:?}");
    }
    let said = server.stop();
    assert!(said.contains("no-shebang"), "the log names the script that could not be started:\n{said}");
}

#[test]
fn the_source_is_never_disclosed() {
    let secret = "#!/bin/sh\n# TOP SECRET\nprintf 'Content-Type: text/plain\\n\\nran'\n";
    let site = Site::new()
        .script("cgi-bin/x.sh", secret)
        .file("cgi-bin/x.sh.gz", "TOP SECRET packed")
        .file("cgi-bin/x.sh~", secret)
        .file("cgi-bin/lib.inc", "TOP SECRET")
        .file("cgi-bin/index.html", "TOP SECRET")
        .script("programs/y.sh", secret)
        .link("alias", "cgi-bin/x.sh")
        .file("index.html", "home");
    let mount = format!("/y={}", site.at("programs/y.sh").display());
    let targets = [
        "/cgi-bin/x.sh",
        "/cgi-bin/x.sh/",
        "/cgi-bin/x.sh%20",
        "/cgi-bin/x.sh.",
        "/cgi-bin/x.sh~",
        "/cgi-bin/x.sh.gz",
        "/cgi-bin/lib.inc",
        "/cgi-bin/index.html",
        "/cgi-bin/",
        "/cgi-bin",
        "/cgi-bin//x.sh",
        "/cgi-bin/./x.sh",
        "//cgi-bin/x.sh",
        "/./cgi-bin/x.sh",
        "/a/../cgi-bin/x.sh",
        "/%63gi-bin/x.sh",
        "/cgi-bin%2fx.sh",
        "/CGI-BIN/x.sh",
        "/cgi-bin/x.sh%3f",
        "/cgi-bin/X.SH",
        "/y",
        "/y/",
    ];
    for args in [vec!["--cgi", mount.as_str()], vec!["--no-cgi"]] {
        let server = Server::start(&site, args.iter().copied());
        for target in targets {
            for (method, fields) in [
                ("GET", vec![]),
                ("HEAD", vec![]),
                ("GET", vec!["Range: bytes=0-100"]),
                ("GET", vec!["Accept-Encoding: gzip, br, zstd"]),
                ("POST", vec!["Content-Length: 0"]),
            ] {
                let mut client = server.connect();
                let lines = [vec!["Host: {host}"], fields.clone()].concat();
                client.head(&[vec![format!("{method} {target} HTTP/1.1").as_str()], lines].concat());
                let response = client.read_for(method);
                assert!(!response.text().contains("SECRET"), "{method} {target} {fields:?} with {args:?}");
                if args == ["--no-cgi"] {
                    assert!(matches!(response.status, 404 | 405), "{method} {target}: {response:?}");
                }
            }
        }
        server.stop();
    }
}

/// A line of the log about this script, with all of these in it.
#[track_caller]
fn expect_line(said: &str, script: &str, parts: &[&str]) {
    let about = |line: &&str| line.contains(&format!("{script}\"")) && parts.iter().all(|part| line.contains(part));
    assert!(said.lines().any(|line| about(&line)), "no line about {script} with {parts:?} in:\n{said}");
}

#[test]
fn the_log_says_what_is_wrong_with_a_script() {
    let site = Site::new()
        .file("cgi-bin/not-executable.sh", "#!/bin/sh\n")
        .script("cgi-bin/no-shebang", "printf 'hello'\n")
        .script("cgi-bin/no-interpreter", "#!/nowhere/at/all\n")
        .script("cgi-bin/crlf", "#!/bin/sh\r\necho hello\r\n")
        .script("cgi-bin/bom", "\u{feff}#!/bin/sh\n")
        .script("cgi-bin/empty", "")
        .sh("cgi-bin/silent.sh", "echo the reason >&2; exit 3")
        .sh("cgi-bin/dies.sh", "kill -9 $$")
        .sh("cgi-bin/short.sh", "printf 'Content-Length: 9\\n\\nx'");
    for args in [&[][..], &["--cgi-umask", "027"]] {
        // With the second, a helper of the server's becomes the script: what it says must be as good.
        let server = Server::start(&site, args.iter().copied());
        let cases = [
            ("not-executable.sh", 403, &["may execute it (chmod +x)"][..]),
            ("no-shebang", 500, &["no #! line", "os error 8"]),
            ("no-interpreter", 500, &["its interpreter /nowhere/at/all does not exist", "os error 2"]),
            ("crlf", 500, &["CRLF line end after the interpreter /bin/sh\\\\r", "os error 2"]),
            ("bom", 500, &["a byte order mark", "os error 8"]),
            ("empty", 500, &["the file is empty", "os error 8"]),
            ("silent.sh", 502, &["it ended without a word (exit status: 3): 502", "pid="]),
            ("silent.sh", 502, &["stderr: the reason", "pid="]),
            ("dies.sh", 502, &["(signal: 9 (SIGKILL))", "pid="]),
        ];
        for (script, status, _) in cases {
            server.get(&format!("/cgi-bin/{script}")).expect(status);
        }
        let mut client = server.connect();
        client.head(&["GET /cgi-bin/short.sh HTTP/1.1", "Host: {host}"]);
        assert!(!client.read_cut("GET").complete);
        let said = server.stop();
        for (script, _, parts) in cases {
            let parts: Vec<&str> = parts.iter().chain(&["request=\""]).copied().collect();
            let parts: Vec<String> = parts.iter().map(|part| part.replace("\\\\", "\\")).collect();
            expect_line(&said, script, &parts.iter().map(String::as_str).collect::<Vec<_>>());
        }
        expect_line(&said, "short.sh", &["wrote less than its Content-Length", "pid=", "request="]);
    }
}

/// Each line by itself, with who wrote it, and without a way to forge another.
#[test]
fn stderr_is_logged_line_by_line() {
    let site = Site::new()
        .sh(
            "cgi-bin/talks.sh",
            "echo first >&2; printf 'second\\nthird' >&2; printf '\\033[31mred\\r\\nWARN forged\\n' >&2; \
             printf 'Content-Type: text/plain\\n\\n%s %s' $$ $UNIQUE_ID; echo and last >&2",
        )
        .sh("cgi-bin/long.sh", "yes 0123456789 | tr -d '\\n' | head -c 10000 >&2; printf 'Content-Type: a/b\\n\\n'")
        .sh("cgi-bin/loud.sh", "yes loud | head -c 1000000 >&2; printf 'Content-Type: a/b\\n\\n'");
    let server = serve(&site);
    let answer = server.get("/cgi-bin/talks.sh").expect(200).text();
    let (pid, request) = answer.split_once(' ').expect("a pid and a request");
    server.get("/cgi-bin/long.sh").expect(200);
    server.get("/cgi-bin/loud.sh").expect(200);
    let said = server.stop();
    let who = [format!("pid={pid} "), format!("request=\"{request}\"")];
    for line in ["stderr: first ", "stderr: second ", "stderr: WARN forged", "stderr: and last "] {
        expect_line(&said, "talks.sh", &[line, &who[0], &who[1]]);
    }
    assert!(!said.contains('\u{1b}') && !said.lines().any(|line| line.starts_with("WARN forged")), "{said}");
    let long: Vec<&str> = said.lines().filter(|line| line.contains("long.sh\"") && line.contains("stderr:")).collect();
    assert_eq!(long.len(), 3, "10,000 bytes in lines of at most 4 KiB");
    assert!(long.iter().all(|line| line.len() < 5000));
    expect_line(&said, "loud.sh", &["stderr: 737856 bytes more were dropped"]);
}

#[test]
fn a_script_that_is_being_written_is_waited_for() {
    let site = Site::new().sh("cgi-bin/busy.sh", "printf 'Content-Type: text/plain\\n\\nran'");
    for args in [&[][..], &["--cgi-umask", "027"]] {
        let server = Server::start(&site, args.iter().copied());
        let open = std::fs::OpenOptions::new().append(true).open(site.at("cgi-bin/busy.sh")).expect("open");
        server.get("/cgi-bin/busy.sh").expect(500);
        drop(open);
        assert_eq!(server.get("/cgi-bin/busy.sh").expect(200).text(), "ran");
        let said = server.stop();
        expect_line(&said, "busy.sh", &["the file is open for writing", "os error 26"]);
    }
}

/// What is really in a folder of programs is not served by another name for it either.
#[test]
fn no_link_discloses_a_source() {
    let secret = "#!/bin/sh\n# TOP SECRET\nprintf 'Content-Type: text/plain\\n\\nran'\n";
    let site = Site::new()
        .script("cgi-bin/x.sh", secret)
        .script("programs/y.sh", secret)
        .script("real/z.sh", secret)
        .link("alias.sh", "cgi-bin/x.sh")
        .link("alias.txt", "alias.sh")
        .link("folder", "cgi-bin")
        .link("deep/er", "../folder")
        .link("to-y.txt", "programs/y.sh")
        .link("scripts", "real")
        .file("index.html", "home")
        .link("home.txt", "index.html");
    let mounts = [format!("/y={}", site.at("programs/y.sh").display()), format!("/z={}", site.at("scripts").display())];
    for args in [vec!["--cgi", &mounts[0], "--cgi", &mounts[1]], vec![]] {
        let server = Server::start(&site, args.iter().copied());
        for path in ["alias.sh", "alias.txt", "folder/x.sh", "deep/er/x.sh", "folder", "folder/"] {
            server.get(&format!("/{path}")).expect(404);
        }
        assert_eq!(server.get("/home.txt").expect(200).text(), "home", "other links are followed");
        if !args.is_empty() {
            for path in ["to-y.txt", "programs/y.sh", "real/z.sh", "scripts/z.sh"] {
                server.get(&format!("/{path}")).expect(404);
            }
            assert_eq!(server.get("/z/z.sh").expect(200).text(), "ran");
        }
        server.stop();
    }
    let server = Server::start(&site, ["--no-cgi"]);
    server.get("/alias.sh").expect(404);
    server.stop();
}
