use super::super::MountKind;
use super::super::testing::with_request;
use super::*;

const SCRIPT: Script<'static> = Script {
    script_name: b"/cgi-bin/env",
    path_info: b"",
    script_filename: b"/srv/cgi-bin/env",
    document_root: b"/srv",
    path_translated: b"/srv/",
};
const PEER: Peer<'static> = Peer {
    remote_addr: "192.0.2.7",
    remote_port: Some(4711),
    server_addr: "198.51.100.1",
    server_port: 8080,
    server_name: "fallback.example",
    https: false,
    user: None,
};

/// Everything that an environment is made of; each test changes what it is about.
struct Case<'a> {
    head: &'a str,
    script: Script<'a>,
    peer: Peer<'a>,
    body_len: Option<u64>,
    site_env: &'a [(&'a str, &'a str)],
    mount_env: &'a [(&'a str, &'a str)],
    pass_authorization: bool,
}

const CASE: Case<'static> = Case {
    head: "GET /cgi-bin/env HTTP/1.1\r\nHost: h.example:8080\r\n\r\n",
    script: SCRIPT,
    peer: PEER,
    body_len: None,
    site_env: &[],
    mount_env: &[],
    pass_authorization: false,
};

/// The environment, sorted, one `NAME=value` a line.
fn environment(case: &Case<'_>) -> Vec<String> {
    let owned = |pairs: &[(&str, &str)]| pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let mut site = Site::default();
    site.options.env = owned(case.site_env);
    let mount = Mount {
        prefix: "/cgi-bin".into(),
        kind: MountKind::Folder,
        env: owned(case.mount_env),
        pass_authorization: case.pass_authorization,
    };
    let mut lines = Vec::new();
    with_request(case.head, |request| {
        cgi_env(&site, &mount, request, &case.script, &case.peer, case.body_len, &mut |name, value| {
            lines.push(format!("{}={}", name.escape_ascii(), value.escape_ascii()));
        });
    });
    lines.sort();
    let names: Vec<_> = lines.iter().map(|line| line.split('=').next()).collect();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "a name is there twice: {lines:?}");
    lines
}

/// The value of a variable.
fn value(case: &Case<'_>, name: &str) -> Option<String> {
    environment(case).iter().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
}

/// The variables that some field lines became: those beyond the ones that every request has.
fn from_fields(lines: &str) -> Vec<String> {
    let head = format!("GET /cgi-bin/env HTTP/1.1\r\nHost: h.example:8080\r\n{lines}\r\n");
    let always = environment(&CASE);
    let mut all = environment(&Case { head: &head, ..CASE });
    all.retain(|line| !always.contains(line));
    all
}

#[test]
fn a_request_without_anything_special() {
    assert_eq!(
        environment(&CASE),
        [
            "DOCUMENT_ROOT=/srv",
            "GATEWAY_INTERFACE=CGI/1.1",
            "HTTP_HOST=h.example:8080",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "QUERY_STRING=",
            "REDIRECT_STATUS=200",
            "REMOTE_ADDR=192.0.2.7",
            "REMOTE_HOST=192.0.2.7",
            "REMOTE_PORT=4711",
            "REQUEST_METHOD=GET",
            "REQUEST_SCHEME=http",
            "REQUEST_URI=/cgi-bin/env",
            "SCRIPT_FILENAME=/srv/cgi-bin/env",
            "SCRIPT_NAME=/cgi-bin/env",
            "SERVER_ADDR=198.51.100.1",
            "SERVER_NAME=h.example",
            "SERVER_PORT=8080",
            "SERVER_PROTOCOL=HTTP/1.1",
            concat!("SERVER_SOFTWARE=ucaffeine/", env!("CARGO_PKG_VERSION")),
        ]
    );
}

#[test]
fn what_the_request_line_says() {
    let head = "POST /cgi-bin/%65nv/a%20b?x=%201&y?z HTTP/1.0\r\n\r\n";
    let script = Script { path_info: b"/a b", path_translated: b"/srv/a b", ..SCRIPT };
    let case = Case { head, script, body_len: Some(12), ..CASE };
    for (name, expected) in [
        ("REQUEST_METHOD", Some("POST")),
        ("REQUEST_URI", Some("/cgi-bin/%65nv/a%20b?x=%201&y?z")),
        ("QUERY_STRING", Some("x=%201&y?z")),
        ("SERVER_PROTOCOL", Some("HTTP/1.0")),
        ("SERVER_NAME", Some("fallback.example")),
        ("HTTP_HOST", None),
        ("PATH_INFO", Some("/a b")),
        ("PATH_TRANSLATED", Some("/srv/a b")),
        ("CONTENT_LENGTH", Some("12")),
        ("CONTENT_TYPE", None),
    ] {
        assert_eq!(value(&case, name).as_deref(), expected, "{name}");
    }
    let absolute = "GET http://h.example:81/cgi-bin/env?q HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    let case = Case { head: absolute, ..CASE };
    assert_eq!(value(&case, "REQUEST_URI").as_deref(), Some("/cgi-bin/env?q"));
    assert_eq!(value(&case, "SERVER_NAME").as_deref(), Some("h.example"));
    assert_eq!(value(&case, "HTTP_HOST").as_deref(), Some("h.example:81"));
}

#[test]
fn what_the_connection_says() {
    let known = Case { peer: Peer { user: Some(b"ann"), ..PEER }, ..CASE };
    assert_eq!(value(&known, "REMOTE_USER").as_deref(), Some("ann"));
    assert_eq!(value(&known, "AUTH_TYPE").as_deref(), Some("Basic"));
    assert_eq!((value(&CASE, "REMOTE_USER"), value(&CASE, "AUTH_TYPE")), (None, None));
    let secure = Case { peer: Peer { https: true, remote_addr: "2001:db8::7", server_port: 443, ..PEER }, ..CASE };
    assert_eq!(value(&secure, "HTTPS").as_deref(), Some("on"));
    assert_eq!(value(&secure, "REQUEST_SCHEME").as_deref(), Some("https"));
    assert_eq!(value(&secure, "REMOTE_ADDR").as_deref(), Some("2001:db8::7"));
    assert_eq!(value(&secure, "SERVER_PORT").as_deref(), Some("443"));
    let unix = Case { peer: Peer { remote_addr: "", remote_port: None, ..PEER }, ..CASE };
    assert_eq!(value(&unix, "REMOTE_ADDR").as_deref(), Some(""));
    assert_eq!(value(&unix, "REMOTE_PORT"), None);
}

#[test]
fn fields_become_variables() {
    let cases: [(&str, &[&str]); 20] = [
        ("X-Forwarded-For: a\r\n", &["HTTP_X_FORWARDED_FOR=a"]),
        ("x-mixed-CASE: a\r\nX-Mixed-Case: b\r\n", &["HTTP_X_MIXED_CASE=a, b"]),
        ("Cookie: a=1\r\nX: y\r\nCookie: b=2\r\n", &["HTTP_COOKIE=a=1; b=2", "HTTP_X=y"]),
        ("X-Empty:\r\n", &["HTTP_X_EMPTY="]),
        ("Content-Encoding: gzip\r\n", &["HTTP_CONTENT_ENCODING=gzip"]),
        ("Content-Type: a/b\r\n", &["CONTENT_TYPE=a/b"]),
        ("Content-Length: 99\r\n", &[]),
        ("Git-Protocol: version=2\r\n", &["GIT_PROTOCOL=version=2", "HTTP_GIT_PROTOCOL=version=2"]),
        ("LD-PRELOAD: x\r\n", &["HTTP_LD_PRELOAD=x"]),
        ("LD_PRELOAD: x\r\n", &[]),
        ("X_Forwarded_For: evil\r\nX-Forwarded-For: good\r\n", &["HTTP_X_FORWARDED_FOR=good"]),
        ("Content_Length: 1\r\nContent_Type: a/b\r\n", &[]),
        ("X.Dot: 1\r\nX!: 2\r\n", &[]),
        ("Proxy: http://evil\r\nPROXY: http://evil\r\n", &[]),
        ("Authorization: Basic x\r\n", &[]),
        ("Proxy-Authorization: Basic x\r\nProxy-Connection: close\r\n", &[]),
        ("Connection: x\r\nKeep-Alive: 1\r\nTE: a\r\nTrailer: b\r\nUpgrade: c\r\n", &[]),
        ("Transfer-Encoding: chunked\r\n", &[]),
        ("Path: /evil\r\nGateway-Interface: x\r\n", &["HTTP_GATEWAY_INTERFACE=x", "HTTP_PATH=/evil"]),
        ("X: () { :;}; echo\r\n", &["HTTP_X=() { :;}; echo"]),
    ];
    for (lines, expected) in cases {
        assert_eq!(from_fields(lines), expected, "{lines}");
    }
}

#[test]
fn a_mount_may_pass_authorization() {
    let head = "GET / HTTP/1.1\r\nHost: h\r\nAuthorization: Basic x\r\nProxy-Authorization: y\r\n\r\n";
    assert_eq!(value(&Case { head, ..CASE }, "HTTP_AUTHORIZATION"), None);
    let passing = Case { head, pass_authorization: true, ..CASE };
    assert_eq!(value(&passing, "HTTP_AUTHORIZATION").as_deref(), Some("Basic x"));
    assert_eq!(value(&passing, "HTTP_PROXY_AUTHORIZATION"), None);
}

#[test]
fn the_operator_has_the_last_word() {
    let case = Case {
        head: "GET / HTTP/1.1\r\nHost: h\r\nX-Tenant: evil\r\n\r\n",
        site_env: &[("A", "site"), ("B", "site"), ("HTTP_X_TENANT", "good"), ("C", "1"), ("C", "2")],
        mount_env: &[("B", "mount"), ("PATH", "/opt/bin"), ("HTTPS", "on")],
        ..CASE
    };
    for (name, expected) in [
        ("A", "site"),
        ("B", "mount"),
        ("C", "2"),
        ("PATH", "/opt/bin"),
        ("HTTPS", "on"),
        ("HTTP_X_TENANT", "good"),
        ("REQUEST_METHOD", "GET"),
    ] {
        assert_eq!(value(&case, name).as_deref(), Some(expected), "{name}");
    }
}

#[test]
fn a_nul_never_gets_in() {
    let script = Script { path_info: b"/a\0b", path_translated: b"/srv/a\0b", ..SCRIPT };
    let case = Case { script, site_env: &[("A\0B", "1"), ("C", "2\x003"), ("D", "4")], ..CASE };
    let lines = environment(&case);
    assert!(lines.iter().all(|line| !line.contains(r"\x00")), "{lines:?}");
    assert!(lines.contains(&"D=4".to_owned()));
    assert_eq!(value(&case, "PATH_INFO"), None);
}
