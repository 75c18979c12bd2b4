//! Passwords, over real sockets: who gets in, who does not, by which ways, and what programs and the log are told.

mod support;

use std::net::SocketAddr;
use std::process::Command;

use support::{Client, Launch, Response, Server, Site, wait_until};

/// By `htpasswd -nb[BmS25] NAME 'open sesame'`, with a cost of 5.
const USERS: &str = "# who may pass\n\
    bea:$2y$05$nI0v2hTYAwMepuLKj2u1MOxR3ZpUhFEArcDPXHHOzOtwV/BqAxHEC\n\
    max:$apr1$a2khajgb$emF6dfccMch57SU/rStc91\n\
    sue:{SHA}W8r/fyL/UzygmbNAjq2HbA67qac=\n\
    two:$5$S7HKuwTSQQ1IvlAH$9wT37jOdt3nvktnshoNkMPv7M3VPg9RZOw832JKiyX6\n\
    J\u{f6}rg Smith:$1$abcdefgh$9qMkHazuSy1Q8myEum7yb/\n";
const PASSWORD: &str = "open sesame";

const HEAD: &str = "printf 'Content-Type: text/plain\\n\\n'";
const WHO: &str = "echo user=$REMOTE_USER type=$AUTH_TYPE field=$HTTP_AUTHORIZATION spoofed=$HTTP_REMOTE_USER";

/// What `toml` says, with these users in `users`, beside the folder `www` that is served.
fn serve(folder: &Site, toml: &str, flags: &[&str]) -> Server {
    let toml = format!("path = \"www\"\n{toml}");
    let file = folder.write("site.toml", toml);
    if !folder.at("users").exists() {
        folder.write("users", USERS);
    }
    let launch = Launch::bare(Command::new(Launch::binary()), folder.root()).arg_os("-c").arg_os(file);
    launch.args(["--port", "0", "--cores", "1"]).args(flags.iter().copied()).start()
}

const PRIVATE: &str =
    "[[location]]\npattern = \"/private/\"\nauth = { htpasswd = \"users\", realm = \"Staff \\\"only\\\"\" }\n";

fn basic(user: &str, password: &str) -> String {
    format!("Authorization: Basic {}", base64(format!("{user}:{password}").as_bytes()))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let quads = bytes.chunks(3).map(|three| {
        let bits = three.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        let digit = |at: usize| match at <= three.len() {
            true => char::from(DIGITS[(bits >> (18 - 6 * at) & 63) as usize]),
            false => '=',
        };
        (0..4).map(digit).collect::<String>()
    });
    quads.collect()
}

fn get(server: &Server, target: &str, fields: &[&str]) -> Response {
    server.connect().request("GET", target, fields)
}

#[test]
fn a_password_opens_the_door() {
    let folder = Site::new().file("www/private/a.txt", "secret").file("www/index.html", "open");
    let server = serve(&folder, PRIVATE, &[]);
    let with = |field: &str| get(&server, "/private/a.txt", &[field]);
    // In turns, so that nothing that was learned about one is believed of another.
    for _ in 0..2 {
        for user in ["bea", "max", "sue", "two", "J\u{f6}rg Smith"] {
            assert_eq!(with(&basic(user, PASSWORD)).expect(200).text(), "secret", "{user}");
            for wrong in ["", "open sesam", "open sesame!", "OPEN SESAME"] {
                with(&basic(user, wrong)).expect(401);
            }
        }
    }
    for wrong in [
        &basic("nobody", PASSWORD),
        &basic("", ""),
        "Authorization: Basic",
        "Authorization: Basic !!!!",
        "Authorization: Bearer b3BlbiBzZXNhbWU=",
        "X: y",
        &basic("BEA", PASSWORD),
        &format!("{}\r\n{0}", basic("bea", PASSWORD)),
        &format!("Authorization: Basic {}", base64(b"bea:open sesame\n")),
    ] {
        let refused = with(wrong).expect(401);
        assert_eq!(
            refused.must("www-authenticate"),
            "Basic realm=\"Staff \\\"only\\\"\", charset=\"UTF-8\"",
            "{wrong}"
        );
        assert!(refused.text().contains("401 Unauthorized") && !refused.text().contains("secret"));
    }
    assert_eq!(get(&server, "/", &[]).expect(200).text(), "open");
    server.stop();
}

/// What else is said of a file stays as it is, behind the door.
#[test]
fn behind_the_door_everything_is_as_ever() {
    let folder = Site::new().file("www/private/a.txt", "secret").file("www/open.txt", "open");
    let server = serve(&folder, PRIVATE, &[]);
    let key = basic("max", PASSWORD);
    let mut client = server.connect();
    let whole = client.request("GET", "/private/a.txt", &[&key]).expect(200);
    assert_eq!(client.request("HEAD", "/private/a.txt", &[&key]).expect(200).must("content-length"), "6");
    assert!(client.request("HEAD", "/private/a.txt", &[]).expect(401).field("www-authenticate").is_some());
    let none_match = format!("If-None-Match: {}", whole.must("etag"));
    client.request("GET", "/private/a.txt", &[&key, &none_match]).expect(304);
    client.request("GET", "/private/a.txt", &[&none_match]).expect(401);
    assert_eq!(client.request("GET", "/private/a.txt", &[&key, "Range: bytes=1-2"]).expect(206).text(), "ec");
    client.request("DELETE", "/private/a.txt", &[&key]).expect(405);
    client.request("DELETE", "/private/a.txt", &[]).expect(401);
    client.request("GET", "/private/none", &[&key]).expect(404);
    client.request("GET", "/private/none", &[]).expect(401);
    client.request("OPTIONS", "/private/a.txt", &[]).expect(401);
    // Replies come in order, whatever has to be found out for which of them.
    let head = |target: &str, field: &str| format!("GET {target} HTTP/1.1\r\nHost: x\r\n{field}\r\n\r\n");
    let sue = basic("sue", PASSWORD);
    client.send([head("/open.txt", "X: y"), head("/private/a.txt", &sue), head("/private/a.txt", "X: y")].concat());
    client.send([head("/private/a.txt", &basic("sue", "no")), head("/private/a.txt", &sue)].concat());
    let statuses: Vec<u16> = (0..5).map(|_| client.read().status).collect();
    assert_eq!(statuses, [200, 200, 401, 401, 200]);
    // A body that nobody will have is not asked for, and the connection stays in step.
    client.send("POST /private/a.txt HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody");
    client.read().expect(401);
    client.request("GET", "/open.txt", &[]).expect(200);
    server.stop();
}

#[test]
fn no_other_way_leads_around_the_door() {
    let folder = Site::new()
        .file("www/private/index.html", "secret index")
        .file("www/private/a.txt", "secret")
        .file("www/private/deep/b.txt", "secret")
        .file("www/one.html", "secret page")
        .file("www/app.html", "secret app")
        .file("www/plain", "secret")
        .link("www/link", "private")
        .sh("www/cgi-bin/admin", &format!("{HEAD}; {WHO}"))
        .sh("www/cgi-bin/jump", "printf 'Location: /private/a.txt\\n\\n'")
        .sh("www/cgi-bin/open", &format!("{HEAD}; echo open"));
    let toml = format!(
        "listing = true\nclean_urls = true\nspa_fallback = '/app.html'\n{PRIVATE}
        [[location]]
        pattern = '/one.html'
        auth = {{ htpasswd = 'users' }}
        [[location]]
        pattern = '/app.html'
        auth = {{ htpasswd = 'users' }}
        [[location]]
        pattern = '/plain'
        auth = {{ htpasswd = 'users' }}
        [[location]]
        pattern = '/cgi-bin/admin'
        auth = {{ htpasswd = 'users' }}
        "
    );
    let server = serve(&folder, &toml, &[]);
    let key = basic("max", PASSWORD);
    for target in [
        "/private",
        "/private/",
        "/private/a.txt",
        "/private/none",
        "/private/deep/",
        "/private/deep/b.txt",
        "//private/a.txt",
        "/%70rivate/a.txt",
        "/x/../private/a.txt",
        "/./private/./a.txt",
        "http://127.0.0.1/private/a.txt",
        "/one",
        "/one.html",
        "/plain",
        "/plain/more",
        "/cgi-bin/admin",
        "/cgi-bin/admin/",
        "/cgi-bin/admin/any/thing",
        "/cgi-bin/x/../admin/y",
        "/cgi-bin/jump",
    ] {
        let refused = get(&server, target, &[]).expect(401);
        assert!(!refused.text().contains("secret"), "{target}");
        let admitted = get(&server, target, &[&key]);
        assert!(admitted.status != 401, "{target}: {admitted:?}");
    }
    // The application's page answers for paths where nothing is, and asks all the same.
    get(&server, "/some/where", &["Accept: text/html"]).expect(401);
    assert_eq!(get(&server, "/some/where", &["Accept: text/html", &key]).expect(200).text(), "secret app");
    assert_eq!(get(&server, "/cgi-bin/jump", &[&key]).expect(200).text(), "secret");
    assert_eq!(get(&server, "/cgi-bin/open", &[]).expect(200).text(), "open\n");
    // A link is another name: what leads to it is as open as its own path.
    get(&server, "/link/a.txt", &[]).expect(200);
    server.stop();
}

#[test]
fn doors_in_doors() {
    let folder = Site::new()
        .file("www/index.html", "home")
        .file("www/public/a.txt", "public")
        .file("www/public/not/b.txt", "b")
        .file("www/401.html", "who are you?");
    folder.write("others", "zoe:{SHA}W8r/fyL/UzygmbNAjq2HbA67qac=\n");
    let toml = "error_page = ['401=/401.html']
        [auth]
        htpasswd = 'users'
        realm = 'all'
        [[location]]
        pattern = '/public/'
        auth = false
        [[location]]
        pattern = '/public/not/'
        auth = { htpasswd = 'others', realm = 'others' }
        [[host]]
        names = ['free.example']
        path = 'www'
        ";
    let server = serve(&folder, toml, &[]);
    let refused = get(&server, "/", &[]).expect(401);
    assert_eq!((refused.text().as_str(), refused.must("cache-control")), ("who are you?", "no-store"));
    assert!(refused.must("www-authenticate").contains("\"all\""));
    let (max, zoe) = (basic("max", PASSWORD), basic("zoe", PASSWORD));
    get(&server, "/", &[&max]).expect(200);
    assert_eq!(get(&server, "/", &[&zoe]).expect(401).text(), "who are you?");
    get(&server, "/public/a.txt", &[]).expect(200);
    get(&server, "/public/a.txt", &[&basic("max", "wrong")]).expect(200);
    get(&server, "/public/not/b.txt", &[&zoe]).expect(200);
    assert!(get(&server, "/public/not/b.txt", &[&max]).expect(401).must("www-authenticate").contains("\"others\""));
    let mut client = server.connect();
    client.head(&["GET / HTTP/1.1", "Host: free.example"]);
    client.read().expect(200);
    server.stop();
}

#[test]
fn programs_and_the_log_are_told_who_it_is() {
    let folder = Site::new()
        .file("www/private/a.txt", "secret")
        .sh("www/cgi-bin/who", &format!("{HEAD}; {WHO}"))
        .sh("who", &format!("{HEAD}; {WHO}"));
    let toml = format!(
        "{PRIVATE}[[location]]
        pattern = '/who/'
        cgi = 'who'
        auth = {{ htpasswd = 'users' }}
        [[location]]
        pattern = '/passed/'
        cgi = 'who'
        cgi_pass_authorization = true
        auth = {{ htpasswd = 'users' }}
        "
    );
    let server = serve(&folder, &toml, &["--access-log", "-"]);
    let key = basic("max", PASSWORD);
    let spoof = "Remote-User: root";
    let who = |target: &str| get(&server, target, &[&key, spoof]).expect(200).text();
    assert_eq!(who("/who/"), "user=max type=Basic field= spoofed=root\n");
    let passed = format!("user=max type=Basic field={} spoofed=root\n", key.split_once(": ").expect("a field").1);
    assert_eq!(who("/passed/"), passed);
    // Where nobody is asked, nobody is known, whatever is sent along.
    assert_eq!(who("/cgi-bin/who"), "user= type= field= spoofed=root\n");
    get(&server, "/private/a.txt", &[&basic("J\u{f6}rg Smith", PASSWORD)]).expect(200);
    get(&server, "/private/a.txt", &[&basic("max", "wrong")]).expect(401);
    let log = server.stop();
    let line = |part: &str| log.lines().find(|line| line.contains(part)).unwrap_or_else(|| panic!("{part}: {log}"));
    assert!(line("GET /who/ ").starts_with("127.0.0.1 - max ["), "{log}");
    assert!(line("GET /cgi-bin/who ").starts_with("127.0.0.1 - - ["), "{log}");
    assert!(line("GET /private/a.txt HTTP/1.1\" 200").starts_with("127.0.0.1 - J\\xc3\\xb6rg\\x20Smith ["), "{log}");
    assert!(line("GET /private/a.txt HTTP/1.1\" 401").starts_with("127.0.0.1 - - ["), "{log}");
    assert!(!log.contains(PASSWORD) && !log.contains("Authorization"), "{log}");
}

/// The file is read again by itself, and who was let in before is asked again.
#[test]
fn a_change_of_the_file_counts_soon() {
    let folder = Site::new().file("www/private/a.txt", "secret");
    let server = serve(&folder, PRIVATE, &[]);
    let status = |password: &str| get(&server, "/private/a.txt", &[&basic("max", password)]).status;
    assert_eq!((status(PASSWORD), status("new")), (200, 401));
    // `htpasswd -nbs max new`; replaced as tools do.
    let next = folder.write("next", "max:{SHA}wqawPxkN+ytKqR+K+NR3qbw0Adw=\n");
    std::fs::rename(&next, folder.at("users")).expect("rename");
    wait_until("the new password counts", || status("new") == 200);
    assert_eq!(status(PASSWORD), 401);
    // What is gone lets nobody in, and says so.
    std::fs::remove_file(folder.at("users")).expect("remove");
    wait_until("nobody gets in", || status("new") == 503);
    let refused = get(&server, "/private/a.txt", &[&basic("max", "new")]).expect(503);
    assert!(refused.field("retry-after").is_some());
    wait_until("the log says why", || server.output().contains("users cannot be read, so nobody is let in"));
    folder.write("users", USERS);
    wait_until("it is back", || status(PASSWORD) == 200);
    server.stop();
}

/// Verifying is slow on purpose. It does not hold up whoever is known already, or needs no password, and those who come when too
/// many are waiting are told to come again.
#[test]
fn guessing_wears_out_nobody_else() {
    let folder = Site::new().file("www/private/a.txt", "secret").file("www/open.txt", "open");
    // `htpasswd -nbB -C 11 bea 'open sesame'`
    folder.write("users", "bea:$2y$11$SiXzO4keUdLKFDKrNbQVKuYGiXg6gDZabzKgwa7JWg6/CzOlW3s4e\n");
    let server = serve(&folder, PRIVATE, &[]);
    let key = basic("bea", PASSWORD);
    get(&server, "/private/a.txt", &[&key]).expect(200);
    let guess = |number: usize, addr: SocketAddr| {
        let mut client = Client::connect(addr);
        client.head(&["GET /private/a.txt HTTP/1.1", "Host: x", &basic("bea", &number.to_string())]);
        client
    };
    let mut guessers: Vec<Client> = (0..80).map(|number| guess(number, server.addr)).collect();
    get(&server, "/open.txt", &[]).expect(200);
    get(&server, "/private/a.txt", &[&key]).expect(200);
    let replies: Vec<Response> = guessers.iter_mut().map(Client::read).collect();
    let busy: Vec<&Response> = replies.iter().filter(|reply| reply.status == 503).collect();
    assert!(replies.iter().all(|reply| matches!(reply.status, 401 | 503)), "{replies:?}");
    assert!(!busy.is_empty() && busy.iter().all(|reply| reply.must("retry-after") == "2"), "{replies:?}");
    get(&server, "/private/a.txt", &[&basic("bea", "one more")]).expect(401);
    server.stop();
}
