use std::collections::BTreeMap;

use super::super::headers::Rules;
use super::super::pages::Pages;
use super::super::representation::Representations;
use super::super::route::{Route, route};
use super::super::static_file::{Circumstances, FileFacts, FileStat, static_file};
use super::super::testing::{NOW_S, with_request};
use super::super::{Mount, MountKind, SiteOptions};
use super::*;

/// What is in a folder: `name/` is a folder, `name!` something that is not served.
fn found(tree: &str, path: &[u8]) -> Found {
    let path = std::str::from_utf8(path).unwrap();
    let is_there = |name: String| tree.split_whitespace().any(|other| other == name);
    match () {
        () if path.is_empty() || is_there(format!("{path}/")) => Found::Directory,
        () if is_there(format!("{path}!")) => Found::Refused,
        () if is_there(path.to_owned()) => {
            let facts =
                FileFacts::new(&FileStat { len: path.len() as u64, ..FileStat::default() }, path.as_bytes(), NOW_S);
            Found::File(Representations::new(Box::new([facts]), Rules::default().lines(path.as_bytes())))
        }
        () => Found::Nothing,
    }
}

/// The answer as one line (`200 PATH`, `301 LOCATION`, `list PATH`, a status), and the looks that led there.
fn answered(site: &Site, tree: &str, line: &str, fields: &str) -> (String, Vec<Look>) {
    let head = format!("{line} HTTP/1.1\r\nHost: h\r\n{}\r\n", fields.replace('|', "\r\n"));
    with_request(&head, |request| {
        let mut path = Vec::new();
        let Route::File(named) = route(site, request, &mut path) else { return ("not a file".into(), Vec::new()) };
        let search = Search { site, request, path: &path, named };
        let (mut looks, mut look) = (Vec::new(), Look::Asked);
        loop {
            assert!(looks.last().is_none_or(|last| *last < look), "{looks:?} and then {look:?}");
            looks.push(look);
            let mut room = Vec::new();
            let place = search.place(look, &mut room);
            let there = found(tree, place);
            let show = |reply: &Reply<'_>, vary: Vary| {
                let mut head = Vec::new();
                reply.write_head(&mut head, &super::super::testing::CONTEXT);
                let head = String::from_utf8(head).unwrap();
                let location = head.lines().find_map(|line| line.strip_prefix("Location: "));
                let place = if reply.is_whole() { Some(std::str::from_utf8(place).unwrap()) } else { location };
                let vary = if vary == Vary::Navigation { " varies" } else { "" };
                let place = place.map_or_else(String::new, |place| format!(" {place}"));
                format!("{}{place}{vary}", reply.status().code())
            };
            let answer = match search.verdict(look, &there) {
                Verdict::Found(vary) => {
                    let given = Circumstances { now_s: NOW_S, ranges_max: 1, boundary: &|| unreachable!("no ranges") };
                    show(&static_file(request, &path, &there, &given), vary)
                }
                Verdict::Reply(reply, vary) => show(&reply, vary),
                Verdict::List(_) => format!("list /{}", String::from_utf8_lossy(place)),
                Verdict::Look(next) => {
                    look = next;
                    continue;
                }
            };
            return (answer, looks);
        }
    })
}

fn site(pages: Pages) -> Site {
    let mount = Mount { prefix: "/git".into(), kind: MountKind::Program, env: Vec::new(), pass_authorization: false };
    let hidden = vec!["/tool.html".into()];
    Site { mounts: vec![mount], options: SiteOptions { hidden, pages, ..SiteOptions::default() }, ..Site::default() }
}

const NAVIGATES: &str = "Accept: text/html,*/*;q=0.8|";
const TREE: &str = "index.html about.html both both.html dir/ dir.html dir/index.html bare/ bare/page.html pipe! \
    odd/ odd/index.html/ shut/ shut/index.html! git.html tool.html post.html.html a.js up.HTML";

#[track_caller]
fn check(site: &Site, cases: &[(&str, &str, &str)]) {
    for (line, fields, expected) in cases {
        assert_eq!(answered(site, TREE, line, fields).0, *expected, "{line} {fields}");
    }
}

#[test]
fn without_any_pages_a_path_is_a_file() {
    check(
        &site(Pages::default()),
        &[
            ("GET /", NAVIGATES, "200 index.html"),
            ("GET /about.html", "", "200 about.html"),
            ("GET /about", NAVIGATES, "404"),
            ("GET /dir", "", "301 /dir/"),
            ("GET /dir/", "", "200 dir/index.html"),
            ("GET /bare/", NAVIGATES, "404"),
            ("GET /odd/", "", "404"),
            ("GET /pipe", "", "404"),
            ("GET /missing.js", "", "404"),
            ("POST /about.html", "", "405"),
            ("POST /missing", "", "404"),
        ],
    );
}

#[test]
fn clean_urls() {
    check(
        &site(Pages { clean_urls: true, ..Pages::default() }),
        &[
            ("GET /about", "", "200 about.html"),
            ("HEAD /about", "", "200 about.html"),
            ("OPTIONS /about", "", "204"),
            ("POST /about", "", "405"),
            ("GET /about.html", "", "301 /about"),
            ("HEAD /about.html?a=b&c", "", "301 /about?a=b&c"),
            ("POST /about.html", "", "405"),
            ("GET /about/", "", "404"),
            // A file of the shorter name, or a folder, comes first; the page stays where it is.
            ("GET /both", "", "200 both"),
            ("GET /both.html", "", "200 both.html"),
            ("GET /dir", "", "301 /dir/"),
            ("GET /dir.html", "", "200 dir.html"),
            ("GET /index.html", "", "301 /"),
            ("GET /index.html?q", "", "301 /?q"),
            ("GET /dir/index.html", "", "301 /dir/"),
            ("GET /", "", "200 index.html"),
            ("GET /dir/", "", "200 dir/index.html"),
            ("GET /index", "", "301 /"),
            ("GET /dir/index", "", "301 /dir/"),
            ("GET /bare/page", "", "200 bare/page.html"),
            ("GET /bare/page.html", "", "301 /bare/page"),
            ("GET /missing", NAVIGATES, "404"),
            ("GET /missing.html", "", "404"),
            ("GET /up.HTML", "", "200 up.HTML"),
            ("GET /up", "", "404"),
            // What is mounted or hidden is no page, and no page leads there.
            ("GET /git.html", "", "200 git.html"),
            ("GET /git", "", "not a file"),
            ("GET /tool", "", "404"),
            ("GET /tool.html", "", "not a file"),
            ("GET /.well-known", "", "404"),
            ("GET /post.html", "", "200 post.html.html"),
            ("GET /post.html.html", "", "301 /post.html"),
            ("GET /post", "", "404"),
        ],
    );
}

#[test]
fn listings() {
    check(
        &site(Pages { listing: true, ..Pages::default() }),
        &[
            ("GET /bare/", "", "list /bare"),
            ("HEAD /bare/", "", "list /bare"),
            ("OPTIONS /bare/", "", "204"),
            ("POST /bare/", "", "405"),
            ("GET /bare", "", "301 /bare/"),
            ("GET /odd/", "", "list /odd"),
            ("GET /shut/", "", "404"),
            ("GET /dir/", "", "200 dir/index.html"),
            ("GET /missing/", "", "404"),
            ("GET /about.html/", "", "404"),
            ("POST /missing/", "", "404"),
        ],
    );
    let listing = site(Pages { listing: true, ..Pages::default() });
    assert_eq!(answered(&listing, "a.txt", "GET /", "").0, "list /");
}

#[test]
fn the_page_of_an_application() {
    let app = Pages { spa_fallback: Some("index.html".into()), ..Pages::default() };
    let cases = [
        ("GET /users/7", NAVIGATES, "200 index.html varies"),
        ("HEAD /users/7", NAVIGATES, "200 index.html varies"),
        ("GET /users/7/", NAVIGATES, "200 index.html varies"),
        ("GET /bare/", NAVIGATES, "200 index.html varies"),
        ("GET /users/john.doe", NAVIGATES, "200 index.html varies"),
        ("GET /v1.2", NAVIGATES, "200 index.html varies"),
        ("GET /users/7", "Sec-Fetch-Mode: navigate|Accept: */*|", "200 index.html varies"),
        ("GET /users/7", "", "404 varies"),
        ("GET /users/7", "Accept: */*|", "404 varies"),
        ("GET /users/7", "Accept: application/json|Sec-Fetch-Mode: cors|", "404 varies"),
        ("GET /users/7", "Accept: text/html;q=0|", "404 varies"),
        ("GET /missing.js", NAVIGATES, "404"),
        ("GET /missing.JS", NAVIGATES, "404"),
        ("GET /a/logo.png", NAVIGATES, "404"),
        ("POST /users/7", NAVIGATES, "404"),
        ("GET /pipe", NAVIGATES, "404"),
        ("GET /shut/", NAVIGATES, "404"),
        ("GET /a.js", NAVIGATES, "200 a.js"),
        ("GET /about.html", NAVIGATES, "200 about.html"),
        ("GET /git/x", NAVIGATES, "not a file"),
    ];
    check(&site(app.clone()), &cases);
    // Its file is missing: as if there were none.
    let lost = site(Pages { spa_fallback: Some("app.html".into()), ..Pages::default() });
    check(&lost, &[("GET /users/7", NAVIGATES, "404 varies")]);
    let all = Pages { listing: true, clean_urls: true, ..app };
    check(
        &site(all),
        &[
            ("GET /bare/", NAVIGATES, "list /bare"),
            ("GET /about", NAVIGATES, "200 about.html"),
            ("GET /users/7/", NAVIGATES, "200 index.html varies"),
            ("GET /users/7", NAVIGATES, "200 index.html varies"),
        ],
    );
}

#[test]
fn a_file_that_is_there_is_found_at_the_first_look() {
    let all = Pages { listing: true, clean_urls: true, spa_fallback: Some("index.html".into()), ..Pages::default() };
    for line in ["GET /a.js", "GET /", "GET /both", "GET /dir/", "HEAD /a.js"] {
        assert_eq!(answered(&site(all.clone()), TREE, line, NAVIGATES).1, [Look::Asked], "{line}");
    }
}

proptest::proptest! {
    /// Whatever is there and whatever is asked: the search ends, nothing that is not open is looked at, and who follows a
    /// redirect arrives.
    #[test]
    fn every_search_ends_and_every_redirect_arrives(
        names in proptest::collection::vec(proptest::sample::select(NAMES.to_vec()), 0..8),
        target in proptest::sample::select(TARGETS.to_vec()),
        listing: bool,
        clean_urls: bool,
        has_fallback: bool,
        navigates: bool,
    ) {
        // A name is one thing only.
        let mut things = BTreeMap::new();
        for name in names {
            things.entry(name.trim_end_matches(['/', '!'])).or_insert(name);
        }
        let tree = things.into_values().collect::<Vec<_>>().join(" ");
        let spa_fallback = has_fallback.then(|| "index.html".to_owned());
        let site = site(Pages { listing, clean_urls, spa_fallback, ..Pages::default() });
        let mut target = target.to_owned();
        for hop in 0.. {
            let fields = if navigates { NAVIGATES } else { "" };
            let (answer, looks) = answered(&site, &tree, &format!("GET {target}"), fields);
            assert!(looks.len() <= 4, "{looks:?}");
            let Some(location) = answer.strip_prefix("301 ") else { break };
            assert!(hop < 2, "{tree}: {target} leads to {location}");
            target = location.to_owned();
        }
    }
}

const NAMES: [&str; 14] = [
    "a",
    "a/",
    "a.html",
    "a.html/",
    "a.html.html",
    "a/index.html",
    "a/index.html/",
    "a!",
    "a.html!",
    "index.html",
    "index",
    "index/",
    "a/index",
    "index.html.html",
];
const TARGETS: [&str; 9] =
    ["/", "/a", "/a/", "/a.html", "/a.html/", "/index.html", "/a/index.html", "/index", "/a.html.html"];
