//! Reads the sources and holds what the compiler does not: which layer may know which, what is pure, where `unsafe` may be,
//! and that the documents tell the truth about paths and tests. It never counts lines.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Which of our own modules a layer may name. A top-level module of `src/` that is not here is a fault: place it first.
const ARROWS: &[(&str, &[&str])] = &[
    (
        "main",
        &["run", "check", "cli", "config", "instance", "serve", "banner", "log", "rehearse", "rt", "http", "site"],
    ),
    ("run", &["cli", "config", "instance", "serve", "banner", "log", "rt", "main"]),
    ("check", &["cli", "config", "main", "run", "serve"]),
    ("log", &[]),
    // Tests only: the manual pages.
    ("manual", &["cli", "config", "rehearse"]),
    ("rehearse", &["cli", "serve"]),
    // The hidden flag by which an instance starts itself in the background.
    ("cli", &["config", "instance", "serve", "http", "site"]),
    ("config", &["cli", "serve", "http", "site", "log"]),
    // It prints the plan of CPUs.
    ("banner", &["config", "serve", "http", "site", "rt"]),
    ("instance", &["config", "serve"]),
    ("lib", &["serve", "site", "http", "rt"]),
    ("serve", &["site", "http", "rt"]),
    ("site", &["http"]),
    ("rt", &[]),
    ("http", &[]),
];

/// The layers that only decide: what they know, they were told.
const PURE: &[&str] = &["http", "site"];

/// The parts of the load generator that only decide.
const PURE_IN_LOADGEN: &[&str] = &[
    "loadgen/src/bench/cell.rs",
    "loadgen/src/bench/plan.rs",
    "loadgen/src/bench/report/lessons.rs",
    "loadgen/src/bench/report/lines.rs",
    "loadgen/src/bench/report/pictures.rs",
    "loadgen/src/bench/report/readme.rs",
    "loadgen/src/bench/report/sheet.rs",
    "loadgen/src/bench/report/tables.rs",
    "loadgen/src/bench/report/text.rs",
    "loadgen/src/bench/stats.rs",
    "loadgen/src/bench/subject.rs",
    "loadgen/src/gate/metric.rs",
    "loadgen/src/gate/replay.rs",
    "loadgen/src/gate/stats.rs",
    "loadgen/src/gate/verdict.rs",
    "loadgen/src/plan.rs",
    "loadgen/src/reader",
    "loadgen/src/report/svg/page.rs",
    "loadgen/src/rng.rs",
    "loadgen/src/schedule.rs",
    "loadgen/src/search.rs",
    "loadgen/src/verdict",
];

/// What a pure layer must not name.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::os",
    "std::io",
    "std::env",
    "std::process",
    "std::thread",
    "Instant::now",
    "SystemTime::now",
    "elapsed",
    "libc",
    "rustix",
    "io_uring",
    "println",
    "eprintln",
    "tracing",
];

/// What of those it may name all the same: values that do nothing, and writing into a slice.
const HARMLESS: &[(&str, &[&str])] =
    &[("std::net", &["IpAddr", "Ipv4Addr", "Ipv6Addr", "SocketAddr"]), ("std::io", &["Write"])];

/// Where `unsafe` may be: the kernel's fence, the operations, which lend memory to the kernel, and the waker's vtable.
const FENCE: &[&str] = &["src/rt/sys/", "src/rt/op/", "src/rt/waker.rs"];

/// What is not committed.
const UNFINISHED: &[&str] = &["todo!", "unimplemented!", "dbg!"];

#[test]
fn arrows_point_one_way() {
    report(sources().iter().flat_map(arrow_faults));
}

#[test]
fn pure_layers_are_pure() {
    report(sources().iter().flat_map(purity_faults));
}

#[test]
fn the_load_generator_knows_the_runtime_and_no_other_layer() {
    let sources = loadgen_sources();
    report(sources.iter().flat_map(|source| {
        let ours = prefixed_modules(&source.code, &["ucaffeine::"]).into_iter();
        let others = ours.filter(|(name, _)| name != "rt");
        others.map(|(name, line)| source.fault(line, format!("the load generator must not know `{name}`")))
    }));
}

#[test]
fn what_decides_in_the_load_generator_is_pure() {
    let sources = loadgen_sources();
    for path in PURE_IN_LOADGEN {
        assert!(sources.iter().any(|source| source.path.starts_with(path)), "{path} is not there");
    }
    let pure = |source: &&Source| PURE_IN_LOADGEN.iter().any(|path| source.path.starts_with(path));
    report(sources.iter().filter(pure).flat_map(impure_lines));
}

#[test]
fn unsafe_stays_behind_the_fence_and_says_why() {
    report(sources().iter().flat_map(unsafe_faults));
}

#[test]
fn nothing_is_left_unfinished() {
    report(sources().iter().chain(&loadgen_sources()).flat_map(unfinished_faults));
}

#[test]
fn links_in_documents_lead_somewhere() {
    let documents = documents();
    assert!(documents.iter().any(|(path, _)| path.ends_with("README.md")), "the documents were found");
    report(documents.iter().flat_map(|(path, text)| link_faults(path, text, |target| root().join(target).exists())));
}

#[test]
fn the_tests_that_the_kernel_table_names_exist() {
    let table = fs::read_to_string(root().join("docs/kernel.md")).expect("docs/kernel.md");
    let tests = test_names();
    assert!(tests.len() > 50, "only {} tests were found", tests.len());
    report(named_test_faults(&table, |name| tests.iter().any(|test| test == name)));
}

/// One source file, as the checks see it.
struct Source {
    /// Relative to the repository, with forward slashes.
    path: String,
    text: String,
    /// The text with comments and the insides of strings blanked; the same number of lines.
    code: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned(), code: blank(text) }
    }

    /// The top-level module that the file belongs to: `src/http/conn.rs` is in `http`, `src/main.rs` is `main`.
    fn layer(&self) -> &str {
        let inside = self.path.strip_prefix("src/").unwrap_or(&self.path);
        let first = inside.split('/').next().unwrap_or(inside);
        first.strip_suffix(".rs").unwrap_or(first)
    }

    fn fault(&self, line: usize, what: impl std::fmt::Display) -> String {
        format!("{}:{}: {what}", self.path, line + 1)
    }
}

fn arrow_faults(source: &Source) -> Vec<String> {
    let layer = source.layer();
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == layer) else {
        return vec![source.fault(0, format!("`{layer}` is a layer that tests/tidy.rs does not know"))];
    };
    let ours = |name: &str| ARROWS.iter().any(|(known, _)| *known == name);
    let named = referenced_modules(&source.code);
    named
        .into_iter()
        .filter(|(name, _)| name != layer && ours(name) && !allowed.contains(&name.as_str()))
        .map(|(name, line)| source.fault(line, format!("`{layer}` must not know `{name}`")))
        .collect()
}

/// The first segments behind `crate::` and `ucaffeine::`, groups included: `use crate::{http::Conn, site}` names both.
fn referenced_modules(code: &str) -> BTreeMap<String, usize> {
    prefixed_modules(code, &["crate::", "ucaffeine::"])
}

fn prefixed_modules(code: &str, prefixes: &[&str]) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for prefix in prefixes {
        for (at, _) in code.match_indices(prefix).filter(|(at, _)| !ident_before(code, *at)) {
            let line = line_of(code, at);
            let rest = code[at + prefix.len()..].trim_start();
            let names = rest.strip_prefix('{').map_or_else(|| vec![ident(rest)], group);
            for name in names.into_iter().filter(|name| !name.is_empty()) {
                found.entry(name.to_owned()).or_insert(line);
            }
        }
    }
    found
}

/// The first identifier of each item of a `use` group, nested groups skipped.
fn group(inside: &str) -> Vec<&str> {
    let (mut depth, mut start, mut names) = (0_usize, 0, Vec::new());
    for (at, c) in inside.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                names.push(ident(inside[start..at].trim_start()));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(ident(inside[start..at].trim_start()));
                start = at + 1;
            }
            _ => {}
        }
    }
    names
}

fn purity_faults(source: &Source) -> Vec<String> {
    if !PURE.contains(&source.layer()) {
        return Vec::new();
    }
    impure_lines(source)
}

fn impure_lines(source: &Source) -> Vec<String> {
    let impure =
        |line: &str| IMPURE.iter().copied().find(|name| words(line, name).any(|at| !harmless(&line[at..], name)));
    let code = non_test(&source.code);
    let found = code.lines().enumerate().filter_map(|(i, line)| Some((i, impure(line)?)));
    found.map(|(i, name)| source.fault(i, format!("`{name}` in a pure layer"))).collect()
}

/// True when a path that begins with an impure module goes on to harmless names only.
fn harmless(path: &str, module: &str) -> bool {
    let Some((_, fine)) = HARMLESS.iter().find(|(name, _)| *name == module) else { return false };
    let Some(rest) = path[module.len()..].strip_prefix("::") else { return false };
    let names = rest.strip_prefix('{').map_or_else(|| vec![ident(rest)], group);
    !names.is_empty() && names.iter().all(|name| fine.contains(name))
}

fn unsafe_faults(source: &Source) -> Vec<String> {
    let fenced = FENCE.iter().any(|fence| source.path.starts_with(fence));
    let lines: Vec<&str> = source.code.lines().collect();
    let texts: Vec<&str> = source.text.lines().collect();
    let mut faults = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        for at in words(line, "unsafe") {
            let rest = format!("{} {}", &line[at + "unsafe".len()..], lines.get(i + 1).unwrap_or(&""));
            let block = rest.trim_start().starts_with('{') || rest.trim_start().starts_with("impl");
            if !fenced {
                faults.push(source.fault(i, "`unsafe` outside the fence"));
            } else if block && !justified(&texts, i) {
                faults.push(source.fault(i, "`unsafe` without a SAFETY comment above it"));
            }
        }
    }
    faults
}

/// True when the lines right above (comments, attributes, and the beginning of the same statement) hold a SAFETY comment.
fn justified(texts: &[&str], line: usize) -> bool {
    if texts[line].contains("// SAFETY:") {
        return true;
    }
    let above = texts[..line].iter().rev().map(|text| text.trim());
    // A statement ends with one of these; above it is another one's comment.
    let belongs = |text: &&str| {
        text.starts_with("//") || text.starts_with("#[") || !text.ends_with([';', '{', '}']) && !text.is_empty()
    };
    above.take_while(belongs).any(|text| text.starts_with("// SAFETY:"))
}

fn unfinished_faults(source: &Source) -> Vec<String> {
    let found = |line: &str| {
        UNFINISHED.iter().copied().find(|name| line.match_indices(name).any(|(at, _)| !ident_before(line, at)))
    };
    let lines = source.code.lines().enumerate().filter_map(|(i, line)| Some((i, found(line)?)));
    lines.map(|(i, name)| source.fault(i, format!("`{name}`"))).collect()
}

/// Relative targets of Markdown links and images, outside of code.
fn link_faults(path: &str, text: &str, exists: impl Fn(&Path) -> bool) -> Vec<String> {
    let dir = Path::new(path).parent().unwrap_or(Path::new(""));
    let mut faults = Vec::new();
    let mut in_code = false;
    for (i, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        let prose = if in_code { String::new() } else { line.split('`').step_by(2).collect::<Vec<_>>().join("") };
        for (at, _) in prose.match_indices("](") {
            let target = prose[at + 2..].split([')', ' ', '#']).next().unwrap_or("");
            if !target.is_empty()
                && !target.contains("://")
                && !target.starts_with("mailto:")
                && !exists(&dir.join(target))
            {
                faults.push(format!("{path}:{}: the link to {target} leads nowhere", i + 1));
            }
        }
    }
    faults
}

/// In the table's last column every `` `name` `` is the name of a test.
fn named_test_faults(table: &str, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut faults = Vec::new();
    for (i, line) in table.lines().enumerate().filter(|(_, line)| line.starts_with('|')) {
        let last = line.trim_end().trim_end_matches('|').rsplit('|').next().unwrap_or("");
        for name in last.split('`').skip(1).step_by(2) {
            let name = name.rsplit("::").next().unwrap_or(name);
            if !exists(name) {
                faults.push(format!("docs/kernel.md:{}: there is no test `{name}`", i + 1));
            }
        }
    }
    faults
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    let sources: Vec<Source> = files("src", "rs").iter().map(|(path, text)| Source::new(path, text)).collect();
    assert!(sources.len() > 5, "only {} sources were found", sources.len());
    sources
}

fn loadgen_sources() -> Vec<Source> {
    let sources: Vec<Source> = files("loadgen/src", "rs").iter().map(|(path, text)| Source::new(path, text)).collect();
    assert!(sources.len() > 5, "only {} sources were found", sources.len());
    sources
}

fn documents() -> Vec<(String, String)> {
    let top =
        fs::read_dir(root()).expect("the repository").filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let top = top
        .filter(|name| name.ends_with(".md"))
        .map(|name| (name.clone(), fs::read_to_string(root().join(&name)).expect("text")));
    top.chain(files("docs", "md")).chain(files("results", "md")).chain(files("examples", "md")).collect()
}

/// The functions of all our Rust sources that carry `#[test]`, and the names inside `proptest!` likewise.
fn test_names() -> Vec<String> {
    let all = ["src", "tests", "models", "loadgen", "benches"].into_iter().flat_map(|dir| files(dir, "rs"));
    let names = |text: String| {
        let code = blank(&text);
        let behind = code
            .split("#[test]")
            .skip(1)
            .filter_map(|rest| Some(ident(rest.split_once("fn ")?.1.trim_start()).to_owned()));
        behind.collect::<Vec<_>>()
    };
    all.flat_map(|(_, text)| names(text)).collect()
}

/// The files below a folder with that extension: path relative to the repository, and text.
fn files(dir: &str, extension: &str) -> Vec<(String, String)> {
    let (mut found, mut folders) = (Vec::new(), vec![root().join(dir)]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == extension) {
                let name = path.strip_prefix(root()).expect("inside").to_string_lossy().replace('\\', "/");
                found.push((name, fs::read_to_string(&path).expect("UTF-8")));
            }
        }
    }
    found.sort();
    found
}

#[track_caller]
fn report(faults: impl IntoIterator<Item = String>) {
    let faults: Vec<String> = faults.into_iter().collect();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// Blanks comments and the insides of string and character literals; line ends stay, so that line numbers do.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut i = 0;
    while i < bytes.len() {
        let end = literal_end(bytes, i);
        for byte in out[i..end].iter_mut().filter(|byte| **byte != b'\n') {
            *byte = b' ';
        }
        i = end.max(i + 1);
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Where the comment or literal that begins at `i` ends; `i` itself when none begins there.
fn literal_end(bytes: &[u8], i: usize) -> usize {
    let rest = &bytes[i..];
    let behind_ident = i > 0 && (bytes[i - 1].is_ascii_alphanumeric() || bytes[i - 1] == b'_');
    let len = match rest {
        [b'/', b'/', ..] => rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len()),
        [b'/', b'*', ..] => block_comment(rest),
        [b'"', ..] => quoted(rest, 1),
        [b'r', b'"' | b'#', ..] if !behind_ident => raw(rest, 1),
        [b'b', b'r', b'"' | b'#', ..] if !behind_ident => raw(rest, 2),
        [b'\'', b'\\', ..] => {
            2 + rest[2..].iter().skip(1).position(|&b| b == b'\'').map_or(rest.len() - 2, |at| at + 2)
        }
        // One character and a quote; otherwise it is a lifetime.
        [b'\'', ..] => {
            rest.iter().take(6).skip(2).position(|&b| b == b'\'').filter(|_| !lifetime(rest)).map_or(0, |at| at + 3)
        }
        _ => 0,
    };
    i + len
}

/// `'a` is followed by something other than a quote.
fn lifetime(rest: &[u8]) -> bool {
    (rest[1].is_ascii_alphanumeric() || rest[1] == b'_') && rest.get(2) != Some(&b'\'')
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut i) = (0, 0);
    while i < rest.len() {
        match &rest[i..] {
            [b'/', b'*', ..] => (depth, i) = (depth + 1, i + 2),
            [b'*', b'/', ..] if depth == 1 => return i + 2,
            [b'*', b'/', ..] => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
    }
    rest.len()
}

fn quoted(rest: &[u8], mut i: usize) -> usize {
    while i < rest.len() {
        match rest[i] {
            b'\\' => i += 2,
            b'"' => return i + 1,
            _ => i += 1,
        }
    }
    rest.len()
}

/// A raw string whose hashes begin at `from`; 0 when it is a raw identifier.
fn raw(rest: &[u8], from: usize) -> usize {
    let hashes = rest[from..].iter().take_while(|&&b| b == b'#').count();
    if rest.get(from + hashes) != Some(&b'"') {
        return 0;
    }
    let close = [&b"\""[..], &b"#".repeat(hashes)].concat();
    let body = from + hashes + 1;
    rest[body..].windows(close.len()).position(|w| w == close).map_or(rest.len(), |at| body + at + close.len())
}

/// The code with its test modules blanked: a test may read a file to feed a pure function.
fn non_test(code: &str) -> String {
    let Some(at) = code.find("#[cfg(test)]\nmod ") else { return code.to_owned() };
    let head = &code[..at];
    head.to_owned() + &code[at..].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect::<String>()
}

/// Where `word` occurs as a whole path or identifier.
fn words<'a>(line: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let after = move |at: usize| line[at + word.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_');
    line.match_indices(word).map(|(at, _)| at).filter(move |&at| !ident_before(line, at) && !after(at))
}

fn ident_before(text: &str, at: usize) -> bool {
    text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
}

fn ident(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    &text[..end]
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count()
}

/// The checks themselves are checked: each planted fault must be found, and its innocent twin must not.
mod planted {
    use super::*;

    fn faults(check: fn(&Source) -> Vec<String>, path: &str, text: &str) -> usize {
        check(&Source::new(path, text)).len()
    }

    #[test]
    fn arrows() {
        let cases = [
            ("src/http/conn.rs", "use crate::site::Route;", 1),
            ("src/http/conn.rs", "use crate::http::Limits;", 0),
            ("src/site/route.rs", "use crate::http::Request;", 0),
            ("src/site/route.rs", "use crate::{http::Request, rt::net};", 1),
            ("src/site/route.rs", "use crate::{\n    http::{a, b},\n    serve,\n    rt,\n};", 2),
            ("src/rt/net/stream.rs", "fn f() { crate::http::parse() }", 1),
            ("src/rt/net/stream.rs", "// crate::http is above us\nlet s = \"crate::http\";", 0),
            ("src/serve/conn.rs", "use crate::{http, rt, site}; use crate::serve::worker;", 0),
            ("src/main.rs", "use ucaffeine::serve::Server; use ucaffeine::rt;", 0),
            ("src/new_layer/mod.rs", "", 1),
        ];
        for (path, text, expected) in cases {
            assert_eq!(faults(arrow_faults, path, text), expected, "{path}: {text}");
        }
    }

    #[test]
    fn purity() {
        let cases = [
            ("src/http/date.rs", "let now = Instant::now();", 1),
            ("src/http/date.rs", "let now = std::time::SystemTime::now();", 1),
            ("src/http/date.rs", "use std::time::{SystemTime, UNIX_EPOCH}; use std::io::Write;", 0),
            ("src/http/date.rs", "let late = then.elapsed();", 1),
            ("src/http/date.rs", "use std::io;", 1),
            ("src/http/date.rs", "use std::io::{Read, Write};", 1),
            ("src/site/static_file.rs", "use std::fs;", 1),
            ("src/site/static_file.rs", "use std::os::fd::AsFd;", 1),
            ("src/site/static_file.rs", "libc::getpid()", 1),
            ("src/site/cgi_env.rs", "use std::net::{TcpStream};", 1),
            ("src/site/cgi_env.rs", "use std::net::TcpStream;", 1),
            ("src/site/cgi_env.rs", "use std::net::SocketAddr;", 0),
            ("src/site/cgi_env.rs", "use std::net::{IpAddr, SocketAddr};", 0),
            ("src/site/cgi_env.rs", "use std::net::{IpAddr, TcpStream};", 1),
            ("src/site/cgi_env.rs", "/// Not `std::fs`.\nlet s = \"libc\"; let unsafe_looking = 1;", 0),
            ("src/http/path.rs", "fn f() {}\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}", 0),
            ("src/rt/fs.rs", "use std::fs; let now = Instant::now();", 0),
        ];
        for (path, text, expected) in cases {
            assert_eq!(faults(purity_faults, path, text), expected, "{path}: {text}");
        }
    }

    #[test]
    fn the_fence() {
        let safe = "// SAFETY: the fact.\nunsafe { f() };";
        let cases = [
            ("src/serve/conn.rs", safe, 1),
            ("src/rt/net/stream.rs", "unsafe impl Send for A {}", 1),
            ("src/rt/op/slots.rs", safe, 0),
            ("src/rt/sys/ring.rs", "    // SAFETY: one,\n    // and two.\n    let x = unsafe { f() };", 0),
            ("src/rt/sys/ring.rs", "// SAFETY: three.\n#[inline]\nunsafe impl Send for A {}", 0),
            ("src/rt/sys/ring.rs", "// SAFETY: the call spans lines.\nlet x =\n    unsafe { f() };", 0),
            ("src/rt/sys/ring.rs", "let x = unsafe { f() };", 1),
            ("src/rt/sys/ring.rs", "// SAFETY: of another.\nlet a = 1;\nlet x = unsafe { f() };", 1),
            ("src/rt/sys/ring.rs", "unsafe\n{ f() }", 1),
            ("src/rt/sys/ring.rs", "/// # Safety\n/// Only once.\nunsafe fn f() {}", 0),
            ("src/http/conn.rs", "// unsafe\nlet s = \"unsafe\"; let r = r#\"unsafe \" unsafe\"#; /* unsafe */", 0),
            ("src/lib.rs", "#![deny(unsafe_code)]", 0),
        ];
        for (path, text, expected) in cases {
            assert_eq!(faults(unsafe_faults, path, text), expected, "{path}: {text}");
        }
    }

    #[test]
    fn the_unfinished() {
        let cases = [
            ("fn f() { todo!() }", 1),
            ("unimplemented!(\"later\")", 1),
            ("let x = dbg!(1);", 1),
            ("// todo!\nlet s = \"todo!()\"; my_todo!();", 0),
        ];
        for (text, expected) in cases {
            assert_eq!(faults(unfinished_faults, "src/rt/mod.rs", text), expected, "{text}");
        }
    }

    #[test]
    fn links() {
        let text = "[a](there.md) [b](gone.md)\n![c](img/there.png#x) [d](https://example.test/x) [e](#part)\n\
                    `[f](gone.md)`\n```\n[g](gone.md)\n```\n[h](../gone.md \"title\")\n";
        let faults = link_faults("docs/x.md", text, |target| target.to_string_lossy().contains("there"));
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults[0].starts_with("docs/x.md:1:") && faults[1].starts_with("docs/x.md:7:"), "{faults:?}");
    }

    #[test]
    fn tests_that_a_table_names() {
        let table = "| a | `not_a_test` | `known`, `rt::tests::known` |\n| b | x | `gone` |\nprose `gone`\n";
        let faults = named_test_faults(table, |name| name == "known");
        assert_eq!(faults, ["docs/kernel.md:2: there is no test `gone`"]);
    }

    #[test]
    fn literals_and_lifetimes() {
        let cases = [
            ("let c = '\"'; unsafe", "unsafe"),
            ("let c = '\\''; unsafe", "unsafe"),
            ("fn f<'a>(x: &'a str) { unsafe }", "unsafe"),
            ("let b = b\"\\\"\"; unsafe", "unsafe"),
            ("let r = br##\"a\"# \"##; unsafe", "unsafe"),
            ("let c = '\u{b5}'; unsafe", "unsafe"),
            ("/* /* */ */ unsafe", "unsafe"),
            ("for r in 0..1 { r#type; unsafe }", "unsafe"),
        ];
        for (text, kept) in cases {
            assert!(blank(text).contains(kept), "{text} became {}", blank(text));
        }
        assert!(!blank("let s = \"a\\\" unsafe\";").contains("unsafe"));
        assert_eq!(blank("a /* b\n c */ d").lines().count(), 2);
    }
}
