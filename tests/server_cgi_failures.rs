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
