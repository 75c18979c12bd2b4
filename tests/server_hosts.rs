//! Virtual hosts and what holds for some paths of them only, over real sockets, as a file says it.

mod instance_support;
mod support;

use std::path::Path;
use std::process::Command;

use instance_support::Home;
use support::{Client, Launch, Response, Server, Site};

const HEAD: &str = "printf 'Content-Type: text/plain\\n\\n'";
const NAVIGATES: &str = "Accept: text/html,*/*;q=0.8";

/// A server of what `site.toml` in that folder says, and of these flags.
fn serve(folder: &Site, toml: &str, flags: &[&str]) -> Server {
    let file = folder.write("site.toml", toml);
    let launch = Launch::bare(Command::new(Launch::binary()), folder.root()).arg_os("-c").arg_os(file);
    launch.args(["--port", "0", "--cores", "1"]).args(flags.iter().copied()).start()
}

/// A GET with that target and Host field.
fn ask(server: &Server, target: &str, host: &str, fields: &[&str]) -> Response {
    let (line, host) = (format!("GET {target} HTTP/1.1"), format!("Host: {host}"));
    let mut client = server.connect();
    client.head(&[&[line.as_str(), host.as_str()], fields].concat());
    client.read()
}

/// Four folders, each with its name as its page.
fn four() -> Site {
    ["default", "shop", "wild", "deep"]
        .iter()
        .fold(Site::new(), |site, name| site.file(&format!("{name}/index.html"), name))
}

const FOUR: &str = r#"
    path = "default"
    [[host]]
    names = ["shop.example", "WWW.shop.example.", "[2001:db8::7]", "192.0.2.7"]
    path = "shop"
    [[host]]
    names = "*.shop.example"
    path = "wild"
    [[host]]
    names = ["*.deep.shop.example", "static.shop.example"]
    path = "deep"
"#;

#[test]
fn each_host_has_its_own_site() {
    let folder = four();
    let server = serve(&folder, FOUR, &[]);
    for (host, page) in [
        ("shop.example", "shop"),
        ("SHOP.Example", "shop"),
        ("shop.example:80", "shop"),
        ("shop.example:", "shop"),
        ("shop.example.", "shop"),
        ("shop.example.:65535", "shop"),
        ("www.shop.example", "shop"),
        ("[2001:DB8::7]", "shop"),
        ("[2001:db8::7]:8080", "shop"),
        ("192.0.2.7:1", "shop"),
        ("a.shop.example", "wild"),
        ("A.b.SHOP.example:1", "wild"),
        ("deep.shop.example", "wild"),
        ("x.deep.shop.example", "deep"),
        ("x.y.deep.shop.example", "deep"),
        ("static.shop.example", "deep"),
        ("x.static.shop.example", "wild"),
        ("shop.example.evil", "default"),
        ("xshop.example", "default"),
        ("other", "default"),
        ("[2001:db8::8]", "default"),
        (&"a.".repeat(200), "default"),
    ] {
        assert_eq!(ask(&server, "/", host, &[]).expect(200).text(), page, "{host}");
    }
    server.stop();
}

/// RFC 9112 section 3.2.2: the target's host counts, whatever the field says. Requests of one connection may be for several hosts.
#[test]
fn an_absolute_target_names_the_host() {
    let folder = four();
    let server = serve(&folder, FOUR, &[]);
    for (target, field, page) in [
        ("http://shop.example/", "other", "shop"),
        ("HTTP://a.shop.example:99/", "shop.example", "wild"),
        ("http://other/", "shop.example", "default"),
        ("http://shop.example", "other", "shop"),
    ] {
        assert_eq!(ask(&server, target, field, &[]).expect(200).text(), page, "{target} {field}");
    }
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\nGET / HTTP/1.1\r\nHost: x.shop.example\r\n\r\n");
    client.send("GET / HTTP/1.0\r\n\r\n");
    let pages: Vec<String> = (0..3).map(|_| client.read().expect(200).text()).collect();
    assert_eq!(pages, ["shop", "wild", "default"]);
    client.expect_close();
    server.stop();
}

#[test]
fn a_host_has_its_own_everything_and_nothing_of_the_default_site() {
    let folder = Site::new()
        .file("default/a.txt", "default")
        .file("default/404.html", "the default is sorry")
        .file("default/app.html", "the application")
        .sh("default/cgi-bin/who", &format!("{HEAD}; echo default $SERVER_NAME $DOCUMENT_ROOT $X"))
        .file("own/a.txt", "own")
        .file("own/sub/b.txt", "b")
        .file("own/oh.html", "own is sorry")
        .sh("tools/who", &format!("{HEAD}; echo own $SERVER_NAME $DOCUMENT_ROOT $X$Y"))
        .sh("own/cgi-bin/who", &format!("{HEAD}; echo never"));
    let toml = r#"
        path = "default"
        header = ["/ X-Of: default"]
        spa_fallback = "/app.html"
        cgi_env = { X = "of-default" }
        [error_page]
        404 = "/404.html"
        [[host]]
        names = ["own.example"]
        path = "own"
        listing = true
        header = ["/sub/ X-Of: own"]
        cache_control = ["/ max-age=7"]
        no_cgi = false
        [host.cgi]
        "/cgi-bin" = "tools"
        [host.cgi_env."/cgi-bin"]
        Y = "of-own"
        [host.error_page]
        404 = "/oh.html"
        [[host]]
        names = ["quiet.example"]
        path = "own"
        no_cgi = true
    "#;
    let server = serve(&folder, toml, &[]);
    let default = |target: &str, fields: &[&str]| ask(&server, target, "x", fields);
    let own = |target: &str, fields: &[&str]| ask(&server, target, "own.example", fields);
    let quiet = |target: &str| ask(&server, target, "quiet.example", &[]);

    let a = default("/a.txt", &[]).expect(200);
    assert_eq!((a.text().as_str(), a.field("x-of"), a.field("cache-control")), ("default", Some("default"), None));
    assert_eq!(default("/none", &[]).expect(404).text(), "the default is sorry");
    assert_eq!(default("/none", &[NAVIGATES]).expect(200).text(), "the application");
    let root = |name: &str| folder.at(name).display().to_string();
    let who = default("/cgi-bin/who", &[]).expect(200).text();
    assert_eq!(who, format!("default x {} of-default\n", root("default")));

    let a = own("/a.txt", &[]).expect(200);
    assert_eq!((a.text().as_str(), a.field("x-of"), a.must("cache-control")), ("own", None, "max-age=7"));
    assert!(own("/sub/", &[]).expect(200).text().contains("b.txt"), "it lists");
    assert_eq!(own("/sub/", &[]).field("x-of"), Some("own"));
    assert_eq!(own("/none", &[NAVIGATES]).expect(404).text(), "own is sorry");
    let who = own("/cgi-bin/who", &[]).expect(200).text();
    assert_eq!(who, format!("own own.example {} of-own\n", root("own")));

    // The same folder again, and nothing of what the other host has on top of it.
    assert_eq!(quiet("/a.txt").expect(200).field("cache-control"), None);
    assert!(quiet("/sub/").expect(404).text().contains("404 Not Found"));
    quiet("/cgi-bin/who").expect(404);
    server.stop();
}

#[test]
fn what_holds_for_some_paths_only() {
    let folder = Site::new()
        .file("www/index.html", "home")
        .file("www/app/index.html", "app")
        .file("www/app/js/site.js", "js")
        .file("www/api/404.json", "{}")
        .file("www/404.html", "page")
        .file("www/pub/a.txt", "a")
        .file("www/pub/hidden/b.txt", "b")
        .file("www/pub/about.html", "about");
    let toml = r#"
        path = "www"
        header = ["/ X-Frame-Options: DENY"]
        error_page = ["404=/404.html"]
        [[location]]
        pattern = "/pub/"
        listing = true
        clean_urls = true
        cache_control = "no-cache"
        [[location]]
        pattern = "/pub/hidden/"
        listing = false
        [[location]]
        pattern = "/app/"
        spa_fallback = "/app/index.html"
        header = { X-Frame-Options = "", X-App = "1" }
        [[location]]
        pattern = "/app/raw/"
        spa_fallback = "none"
        [[location]]
        pattern = "/**/*.js"
        cache_control = "max-age=60"
        header = ["X-Js: 1"]
        [[location]]
        pattern = "/api/"
        error_page = { 404 = "/api/404.json", 4xx = "/404.html" }
    "#;
    let server = serve(&folder, toml, &[]);
    let get = |target: &str, fields: &[&str]| ask(&server, target, "x", fields);

    assert!(get("/pub/", &[]).expect(200).text().contains("a.txt"));
    assert_eq!(get("/pub/hidden/", &[]).expect(404).text(), "page");
    assert_eq!(get("/app/js/", &[]).expect(404).text(), "page");
    assert_eq!(get("/pub/about", &[]).expect(200).text(), "about");
    assert_eq!(get("/pub/about.html", &[]).expect(301).must("location"), "/pub/about");
    assert_eq!(get("/pub/a.txt", &[]).must("cache-control"), "no-cache");

    // Only navigations get the application's page; a missing script is missing.
    assert_eq!(get("/app/users/7", &[NAVIGATES]).expect(200).text(), "app");
    assert_eq!(get("/app/js/none.js", &[NAVIGATES]).expect(404).text(), "page");
    assert_eq!(get("/app/users/7", &["Accept: */*"]).expect(404).text(), "page");
    assert_eq!(get("/app/raw/x", &[NAVIGATES]).expect(404).text(), "page");
    assert_eq!(get("/users/7", &[NAVIGATES]).expect(404).text(), "page");

    let js = get("/app/js/site.js", &[]).expect(200);
    assert_eq!((js.must("cache-control"), js.must("x-js"), js.must("x-app")), ("max-age=60", "1", "1"));
    assert_eq!(js.field("x-frame-options"), None);
    assert_eq!(get("/", &[]).must("x-frame-options"), "DENY");

    assert_eq!(get("/api/none", &[]).expect(404).text(), "{}");
    let mut client = server.connect();
    assert_eq!(client.request("DELETE", "/api/404.json", &[]).expect(405).text(), "page");
    server.stop();
}

/// One precedence, also between a flag and a table of the file: the flag.
#[test]
fn a_flag_beats_a_table_of_the_file() {
    let folder = Site::new().file("www/pub/a.txt", "a").file("other/index.html", "other");
    let toml = r#"
        path = "www"
        [[location]]
        pattern = "/pub/"
        listing = false
        header = { X-A = "table", X-B = "table" }
        [[host]]
        names = ["other.example"]
        path = "other"
        listing = false
    "#;
    let server = serve(&folder, toml, &["--listing", "--header", "/ X-A: flag"]);
    let page = ask(&server, "/pub/", "x", &[]).expect(200);
    assert!(page.text().contains("a.txt"));
    let a = ask(&server, "/pub/a.txt", "x", &[]).expect(200);
    assert_eq!((a.must("x-a"), a.must("x-b")), ("flag", "table"));
    // A flag about the site is about the default site.
    assert_eq!(ask(&server, "/", "other.example", &[]).expect(200).field("x-a"), None);
    server.stop();
    // The one that no table beats, on any site: nothing runs.
    let folder = Site::new().file("www/a", "a").sh("x/run", "echo no");
    let toml = r#"
        path = "www"
        [[host]]
        names = ["x.example"]
        path = "www"
        [[host.location]]
        pattern = "/run/"
        cgi = "x/run"
    "#;
    let server = serve(&folder, toml, &["--no-cgi"]);
    ask(&server, "/run/", "x.example", &[]).expect(404);
    server.stop();
}

#[test]
fn each_mount_has_its_own_limits() {
    let folder = Site::new()
        .file("www/index.html", "home")
        .sh("www/cgi-bin/bounds", &format!("{HEAD}; umask; ulimit -n; echo $LEVEL"))
        .sh("tool", &format!("{HEAD}; umask; ulimit -n; echo $LEVEL $HTTP_AUTHORIZATION"))
        .sh("slow", &format!("sleep 600; {HEAD}"))
        .sh("patient", &format!("sleep 1; {HEAD}; echo done"));
    let toml = r#"
        path = "www"
        cgi_first_byte_ms_max = "10m"
        [[location]]
        pattern = "/cgi-bin/"
        cgi_umask = "077"
        cgi_open_files_max = 55
        [[location]]
        pattern = "/tool/"
        cgi = "tool"
        cgi_umask = "022"
        cgi_open_files_max = 66
        cgi_env = { LEVEL = "tool" }
        cgi_pass_authorization = true
        [[location]]
        pattern = "/slow/"
        cgi = "slow"
        cgi_first_byte_ms_max = "50ms"
        cgi_term_to_kill_ms = "0"
        cgi_mount_running_max = 1
        cgi_mount_queued_max = 1
        [[location]]
        pattern = "/patient/"
        cgi = "patient"
    "#;
    let server = serve(&folder, toml, &[]);
    let get = |target: &str, fields: &[&str]| ask(&server, target, "x", fields);
    assert_eq!(get("/cgi-bin/bounds", &[]).expect(200).text(), "0077\n55\n\n");
    let pass = "Authorization: Bearer t";
    assert_eq!(get("/tool/", &[pass]).expect(200).text(), "0022\n66\ntool Bearer t\n");
    let mut patient = server.connect();
    patient.head(&["GET /patient/ HTTP/1.1", "Host: x"]);
    get("/slow/", &[]).expect(504);
    assert_eq!(patient.read().expect(200).text(), "done\n");
    server.stop();
    // A flag beats what the table says about a limit.
    let server = serve(&folder, toml, &["--cgi-open-files-max", "77"]);
    assert_eq!(ask(&server, "/tool/", "x", &[]).expect(200).text(), "0022\n77\ntool\n");
    server.stop();
}

#[test]
fn a_deploy_leaves_the_hosts_as_they_are() {
    let home = Home::new();
    home.content("a", "index.html", "old");
    let other = Site::new().file("index.html", "other");
    let file = other.write("conf/site.toml", "[[host]]\nnames = ['other.example']\npath = '..'\n");
    let path = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let addr = home.run(["-D", "-n", "a", "-p", "0", "-c", &path(&file)]).expect(0).addr();
    let page = |host: &str| {
        let mut client = Client::connect(addr);
        client.head(&["GET / HTTP/1.1", &format!("Host: {host}")]);
        client.read().expect(200).text()
    };
    assert_eq!((page("x"), page("other.example")), ("old".into(), "other".into()));
    let new = other.write("new/index.html", "new");
    home.run(["-d", &path(&new), "-n", "a"]).expect(0);
    assert_eq!((page("x"), page("other.example")), ("new".into(), "other".into()));
    home.run(["-s", "-n", "a"]).expect(0);
}
