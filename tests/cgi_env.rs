//! `ucaffeine cgi-env` against the server: the same environment, the same verdicts, and nothing served.

mod support;

use std::collections::BTreeMap;
use std::process::Command;

use support::{Launch, Server, Site, noise, run};

/// The initial environment of the script, a variable a line.
const ENV: &str = "printf 'Content-Type: text/plain\\n\\n'; tr '\\0' '\\n' </proc/$$/environ; :";

struct Said {
    code: Option<i32>,
    out: String,
    errors: String,
}

fn cgi_env(site: &Site, target: &str, flags: &[&str], request: &[&str]) -> Said {
    let mut command = Command::new(Launch::binary());
    command.arg("cgi-env").arg(target).arg(site.root()).args(flags);
    if !request.is_empty() {
        command.arg("--").args(request);
    }
    command.env_clear().env("LEAK", "from the shell").env("PATH", "/usr/bin:/bin");
    let output = run(&mut command);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { code: output.status.code(), out: text(&output.stdout), errors: text(&output.stderr) }
}

impl Said {
    /// What it says about this, a value a line.
    fn all(&self, what: &str) -> Vec<&str> {
        let values = self.out.lines().filter_map(|line| Some(line.strip_prefix(what)?.strip_prefix(' ')?.trim_start()));
        values.collect()
    }

    #[track_caller]
    fn one(&self, what: &str) -> &str {
        let all = self.all(what);
        assert_eq!(all.len(), 1, "{what} in:\n{}{}", self.out, self.errors);
        all[0]
    }

    /// The script's own output, between the two lines that mark it.
    #[track_caller]
    fn output(&self) -> &str {
        let (_, rest) = self.out.split_once("---------- output (process ").expect("the output begins");
        let (_, rest) = rest.split_once(")\n").expect("a line's end");
        rest.split_once("---------- the end of it").expect("the output ends").0
    }
}

fn variables(lines: impl Iterator<Item = impl AsRef<str>>) -> BTreeMap<String, String> {
    lines
        .filter_map(|line| line.as_ref().split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())))
        .collect()
}

#[test]
fn the_environment_is_that_of_the_same_request_through_the_server() {
    let site = Site::new().sh("cgi-bin/env.sh", ENV).file("index.html", "home");
    let flags = ["--cgi-env", "FOR_ALL=a b", "--cgi-env", "/cgi-bin:FOR_ONE=1"];
    let target = "/cgi-bin/env.sh/more/p%20ath?q=1&r=%20";
    let fields = [
        "X-One: a",
        "X-One: b",
        "Cookie: c=1",
        "Accept: text/html",
        "X_Under: no",
        "Proxy: no",
        "Host: example.test:81",
    ];

    let server = Server::start(&site, flags);
    let mut client = server.connect();
    client.head(&[&[&*format!("GET {target} HTTP/1.1")], &fields[..]].concat());
    let served = client.read().expect(200).text();
    server.stop();
    let options: Vec<&str> = fields.iter().flat_map(|field| ["-H", field]).collect();
    let said = cgi_env(&site, target, &flags, &options);
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.errors);

    let mut served = variables(served.lines());
    let mut announced = variables(said.all("variable").into_iter());
    let body = said.output().split_once("\n\n").expect("a head").1;
    assert_eq!(variables(body.lines()), announced, "what it announces is what the script has");
    for of_the_connection in ["REMOTE_PORT", "SERVER_PORT", "UNIQUE_ID"] {
        assert!(served.remove(of_the_connection).is_some() && announced.remove(of_the_connection).is_some());
    }
    assert_eq!(announced, served);
    assert_eq!((served["FOR_ALL"].as_str(), served["FOR_ONE"].as_str()), ("a b", "1"));
    assert!(!served.contains_key("LEAK"));
}

#[test]
fn the_way_to_the_script_is_said() {
    let site =
        Site::new().sh("cgi-bin/sub/pwd.sh", "echo 'Content-Type: text/plain'; echo; pwd; echo oops >&2; exit 3");
    let said = cgi_env(&site, "/cgi-bin/sub/pwd.sh/x", &[], &[]);
    let script = std::fs::canonicalize(site.at("cgi-bin/sub/pwd.sh")).expect("the script");
    assert_eq!(said.code, Some(0), "an exit code changes nothing:\n{}{}", said.out, said.errors);
    assert_eq!(said.one("program"), script.to_str().expect("UTF-8"));
    assert_eq!(said.one("folder"), script.parent().and_then(|it| it.to_str()).expect("UTF-8"));
    assert_eq!(said.one("stdin"), "/dev/null");
    assert_eq!(said.one("exit"), "exit status: 3");
    assert!(said.all("answer").contains(&"HTTP/1.1 200 OK"), "{}", said.out);
    assert!(said.all("variable").contains(&"PATH_INFO=/x"), "{}", said.out);
    assert!(said.errors.contains("oops"), "{}", said.errors);
    assert!(said.output().ends_with(&format!("{}\n", said.one("folder"))), "{}", said.out);
}

#[test]
fn a_body_is_what_the_script_reads() {
    let site = Site::new().sh("cgi-bin/echo.sh", "printf 'Content-Type: text/plain\\n\\n%s ' \"$CONTENT_TYPE\"; wc -c");
    let said = cgi_env(&site, "/cgi-bin/echo.sh", &[], &["-d", "a=1", "-d", "b=2"]);
    assert!(said.output().contains("application/x-www-form-urlencoded 7\n"), "{}", said.out);
    assert!(said.all("variable").contains(&"REQUEST_METHOD=POST"));
    let file = site.write("body.bin", noise(300_000));
    let said =
        cgi_env(&site, "/cgi-bin/echo.sh", &[], &["-X", "PUT", "--data-binary", &format!("@{}", file.display())]);
    assert!(said.output().contains("300000\n"), "{}", said.out);
    assert_eq!(said.one("stdin"), "a pipe with 300000 bytes");
    // A script that reads nothing of it ends all the same.
    let site = site.sh("cgi-bin/deaf.sh", "echo Status: 204; echo");
    let said = cgi_env(&site, "/cgi-bin/deaf.sh", &[], &["--data-binary", &format!("@{}", file.display())]);
    assert_eq!((said.code, said.all("answer")[0]), (Some(0), "HTTP/1.1 204 No Content"));
}

#[test]
fn the_servers_own_replies_are_said_with_their_cause() {
    let site = Site::new()
        .file("index.html", "home")
        .file("cgi-bin/plain.sh", "#!/bin/sh\necho\n")
        .script("cgi-bin/crlf.sh", "#!/bin/sh\r\necho\r\n")
        .sh("cgi-bin/nothing.sh", ":")
        .sh("cgi-bin/junk.sh", "echo junk; echo")
        .sh("cgi-bin/late.sh", "exec sleep 1000")
        .sh("cgi-bin/gone.sh", "echo 'Location: /index.html'; echo");
    let table = [
        ("/cgi-bin/absent.sh", "404 Not Found", "no such program"),
        ("/index.html", "404 Not Found", "a file's"),
        ("/cgi-bin/plain.sh", "403 Forbidden", "chmod +x"),
        ("/cgi-bin/crlf.sh", "500 Internal Server Error", "CRLF"),
        ("/cgi-bin/nothing.sh", "502 Bad Gateway", "without a word"),
        ("/cgi-bin/junk.sh", "502 Bad Gateway", "not a field"),
        ("/cgi-bin/late.sh", "504 Gateway Timeout", "cgi-first-byte-ms-max"),
        ("/cgi-bin/%00", "400 Bad Request", ""),
    ];
    for (target, status, cause) in table {
        let said = cgi_env(&site, target, &["--cgi-first-byte-ms-max", "300ms"], &[]);
        assert_eq!(said.code, Some(1), "{target}:\n{}{}", said.out, said.errors);
        let answer = said.one("answer");
        assert!(answer.starts_with(status) && answer.contains(cause), "{target}: {answer}");
    }
    let said = cgi_env(&site, "/cgi-bin/gone.sh", &[], &[]);
    assert_eq!((said.code, said.one("answer")), (Some(0), "what is at /index.html (a local redirect)"));
}

#[test]
fn wrong_usage_and_configuration_have_their_codes() {
    let site = Site::new().sh("cgi-bin/env.sh", ENV);
    assert_eq!(cgi_env(&site, "cgi-bin/env.sh", &[], &[]).code, Some(2), "no slash");
    assert_eq!(cgi_env(&site, "/cgi-bin/env.sh", &[], &["--nonsense"]).code, Some(2));
    assert_eq!(cgi_env(&site, "/cgi-bin/env.sh", &["--cgi", "/x=/nonexistent"], &[]).code, Some(3));
    assert_eq!(cgi_env(&site, "--help", &[], &[]).code, Some(0));
}
