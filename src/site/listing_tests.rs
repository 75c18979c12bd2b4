use super::super::testing::with_request;
use super::super::{Mount, MountKind, SiteOptions};
use super::*;

const FILE: EntryKind = EntryKind::File { bytes: 1536 };

fn entry(name: &[u8], kind: EntryKind) -> Entry {
    Entry { name: name.to_owned(), kind, mtime: (1_795_259_446, 0) }
}

fn folder(path: &str, entries: Vec<Entry>) -> Folder {
    Folder { path: path.into(), entries, cut_off: None }
}

fn wanted(query: &str, accept: &str) -> Wanted {
    with_request(&format!("GET /{query} HTTP/1.1\r\nHost: h\r\nAccept: {accept}\r\n\r\n"), Wanted::of)
}

fn page(folder: Folder, wanted: Wanted) -> String {
    let (facts, page) = render(folder, wanted);
    assert_eq!((facts.len, facts.format), (page.len() as u64, wanted.format));
    String::from_utf8(page).expect("UTF-8")
}

#[test]
fn what_a_request_wants() {
    for (accept, format) in [
        ("*/*", Format::Html),
        ("text/html", Format::Html),
        ("application/json", Format::Json),
        ("text/html, application/json", Format::Html),
        ("text/html;q=0.9, application/json", Format::Json),
        ("application/json;q=0.9, */*;q=0.8", Format::Json),
        ("application/json;q=0, */*", Format::Html),
        ("image/png", Format::Html),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Format::Html),
    ] {
        assert_eq!(wanted("", accept).format, format, "{accept}");
    }
    use Direction::{Ascending, Descending};
    for (query, key, direction) in [
        ("", Key::Name, Ascending),
        ("?sort=size", Key::Size, Ascending),
        ("?sort=time&order=desc", Key::Time, Descending),
        ("?order=desc", Key::Name, Descending),
        ("?sort=name&order=asc", Key::Name, Ascending),
        ("?sort=colour&order=up&x=y&&sort", Key::Name, Ascending),
        ("?sort=%73ize", Key::Name, Ascending),
    ] {
        let wanted = wanted(query, "*/*");
        assert_eq!((wanted.key, wanted.direction), (key, direction), "{query}");
    }
}

#[test]
fn folders_come_first_in_every_order() {
    let file = |name: &[u8], bytes, at| Entry { mtime: (at, 0), ..entry(name, EntryKind::File { bytes }) };
    let entries = vec![
        file(b"b10", 5, 30),
        file(b"b9", 500, 10),
        file(b"A", 50, 20),
        Entry { mtime: (5, 0), ..entry(b"zoo", EntryKind::Directory) },
        Entry { mtime: (7, 0), ..entry(b"art", EntryKind::Directory) },
    ];
    for (query, expected) in [
        ("", "art zoo A b9 b10"),
        ("?order=desc", "zoo art b10 b9 A"),
        ("?sort=size", "art zoo b10 A b9"),
        ("?sort=size&order=desc", "art zoo b9 A b10"),
        ("?sort=time", "zoo art b9 A b10"),
        ("?sort=time&order=desc", "art zoo b10 A b9"),
    ] {
        let data = json::parse(&page(folder("", entries.clone()), wanted(query, "application/json")));
        let names: Vec<&str> = data.get("entries").items().iter().map(|entry| entry.get("name").text()).collect();
        assert_eq!(names.join(" "), expected, "{query}");
    }
}

#[test]
fn a_page_as_a_whole() {
    let entries = vec![entry(b"b & c.txt", FILE), entry(b"sub dir", EntryKind::Directory)];
    let text = page(folder("a", entries.clone()), wanted("?sort=size", "*/*"));
    let rows = "<tbody>\n<tr><td><a href=\"./sub%20dir/\"><bdi>sub dir</bdi>/</a></td><td>\u{2013}</td>\
        <td><time datetime=\"2026-11-21T11:10:46Z\">2026-11-21 11:10</time></td></tr>\n\
        <tr><td><a href=\"./b%20%26%20c.txt\"><bdi>b &amp; c.txt</bdi></a></td><td title=\"1,536 bytes\">1.5 KiB</td>\
        <td><time datetime=\"2026-11-21T11:10:46Z\">2026-11-21 11:10</time></td></tr>\n</tbody>";
    for part in [
        rows,
        "<title>/a/</title>",
        "<th scope=\"col\"><a href=\"?sort=name&amp;order=asc\">Name</a></th>",
        "<th scope=\"col\" aria-sort=\"ascending\"><a href=\"?sort=size&amp;order=desc\">Size</a></th>",
        "<p>1 folder, 1 file</p>",
        "<a href=\"../\"><bdi>Home</bdi></a>",
    ] {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
    assert!(!text.contains("<script") && !text.contains("<base") && !text.contains("http:"), "{text}");
    let data = page(folder("a b/c", entries), wanted("", "application/json"));
    assert_eq!(
        data,
        "{\"path\":\"/a%20b/c/\",\"total\":2,\"total_is_exact\":true,\"cut_off\":false,\"entries\":[\n\
         {\"name\":\"sub dir\",\"href\":\"./sub%20dir/\",\"type\":\"directory\",\"modified\":\"2026-11-21T11:10:46Z\"},\n\
         {\"name\":\"b & c.txt\",\"href\":\"./b%20%26%20c.txt\",\"type\":\"file\",\"size\":1536,\
         \"modified\":\"2026-11-21T11:10:46Z\"}\n]}\n"
    );
}

#[test]
fn an_empty_folder_and_one_that_is_cut_off() {
    let text = page(folder("", Vec::new()), wanted("", "*/*"));
    assert!(text.contains("<title>/</title>") && text.contains("<p>Nothing is here.</p>"), "{text}");
    for (total, html, exact) in [
        (Total::Exactly(12_345), "<p>1 of 12,345 names are shown: ", true),
        (Total::MoreThan(1_000_000), "<p>1 of more than 1,000,000 names are shown: ", false),
    ] {
        let cut = || Folder { cut_off: Some(total), ..folder("", vec![entry(b"a", FILE)]) };
        assert!(page(cut(), wanted("", "*/*")).contains(html));
        let data = json::parse(&page(cut(), wanted("", "application/json")));
        assert_eq!((data.get("cut_off").flag(), data.get("total_is_exact").flag()), (true, exact));
    }
}

#[test]
fn the_first_names_are_kept_and_all_are_counted() {
    let mut names = Names::new(3);
    for name in ["n10", "n2", "N1", "n30", "n3"] {
        assert!(names.offer(name.into()));
    }
    let (mut kept, total) = names.into_parts();
    kept.sort();
    assert_eq!((kept, total), (vec![b"N1".to_vec(), b"n2".to_vec(), b"n3".to_vec()], Some(Total::Exactly(5))));
    let mut names = Names::new(3);
    (0..3).for_each(|number: u8| assert!(names.offer(vec![number])));
    assert_eq!(names.into_parts().1, None);
    let mut names = Names::new(3);
    let offered = (0..2 * NAMES_COUNTED_MAX).take_while(|_| names.offer(Vec::new())).count();
    assert_eq!((offered, names.into_parts().1), (NAMES_COUNTED_MAX, Some(Total::MoreThan(NAMES_COUNTED_MAX))));
}

#[test]
fn what_cannot_be_asked_for_is_not_shown() {
    let mount = Mount { prefix: "/git".into(), kind: MountKind::Program, env: Vec::new(), pass_authorization: false };
    let hidden = vec!["/cgi-bin".into(), "/a/tools".into()];
    let site =
        Site { mounts: vec![mount], options: SiteOptions { hidden, ..SiteOptions::default() }, ..Site::default() };
    for (folder, name, expected) in [
        ("", "file", true),
        ("", "cgi-bin", false),
        ("", "cgi-binary", true),
        ("", "git", false),
        ("a", "git", true),
        ("a", "tools", false),
        ("", "tools", true),
        ("", ".git", false),
        ("", ".well-known", false),
        ("a/b", ".", false),
        ("", "a\nb", false),
        ("", "a\rb", false),
    ] {
        assert_eq!(shows(&site, folder.as_bytes(), name.as_bytes()), expected, "{folder}/{name}");
    }
}

#[test]
fn the_tag_follows_the_page() {
    let tag = |name: &[u8], query| render(folder("", vec![entry(name, FILE)]), wanted(query, "*/*")).0.etag;
    assert_eq!(tag(b"a", ""), tag(b"a", ""));
    assert_ne!(tag(b"a", ""), tag(b"b", ""));
    assert_ne!(tag(b"a", ""), tag(b"a", "?order=desc"));
    assert!(tag(b"a", "").iter().all(|byte| byte.is_ascii_graphic()));
}

/// Back to bytes, as a server does it.
fn decoded(url: &str) -> Vec<u8> {
    let mut out = Vec::new();
    crate::http::path::normalise(format!("/{}", url.strip_prefix("./").unwrap()).as_bytes(), &mut out).unwrap();
    out
}

/// What a browser makes of the text of an element.
fn unescaped(text: &str) -> String {
    let entities = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")];
    entities.iter().fold(text.to_owned(), |text, (entity, c)| text.replace(entity, c))
}

fn between<'t>(text: &'t str, start: &str, end: &str) -> &'t str {
    text.split_once(start).and_then(|(_, rest)| rest.split_once(end)).expect("both are there").0
}

proptest::proptest! {
    /// Whatever is in a folder: its names stay text in HTML, lead back to themselves, and survive JSON.
    #[test]
    fn no_name_breaks_a_page(
        names in proptest::collection::vec(
            proptest::prop_oneof![
                proptest::collection::vec(proptest::sample::select(b"<>&\"'\\/%?#:;a1 \x1b\x7f\xff\xc3\xa9=`{}javascript".to_vec()), 1..24),
                proptest::collection::vec(proptest::prelude::any::<u8>(), 1..24),
            ],
            1..8,
        ),
        kinds in proptest::collection::vec(proptest::prelude::any::<bool>(), 8),
        in_folder in "[a-z<\"& ]{0,12}",
    ) {
        let clean = |name: Vec<u8>| -> Vec<u8> {
            name.into_iter().filter(|byte| !matches!(byte, 0 | b'/' | b'\r' | b'\n')).collect()
        };
        let names = names.into_iter().map(clean).filter(|name| !name.is_empty() && !name.starts_with(b"."));
        let mut names: Vec<Vec<u8>> = names.collect();
        names.sort_by(|one, other| natural(one, other));
        names.dedup();
        let kind = |index: usize| if kinds[index] { EntryKind::Directory } else { FILE };
        let entries = |named: &dyn Fn(usize) -> Vec<u8>| -> Vec<Entry> {
            (0..names.len()).map(|index| entry(&named(index), kind(index))).collect()
        };
        let html = page(folder(&in_folder, entries(&|index| names[index].clone())), wanted("", "*/*"));
        let harmless = page(folder("x", entries(&|index| format!("n{index}").into())), wanted("", "*/*"));
        let tags = |page: &str| [b'<', b'>', b'"'].map(|mark| page.bytes().filter(|byte| *byte == mark).count());
        if !in_folder.is_empty() {
            assert_eq!(tags(&html), tags(&harmless), "{html}");
        }
        // Folders first, and then by name: as the rows are.
        let mut sorted: Vec<usize> = (0..names.len()).collect();
        sorted.sort_by_key(|index| !kinds[*index]);
        let rows = between(&html, "<tbody>\n", "</tbody>").lines();
        assert_eq!(rows.clone().count(), names.len());
        for (row, index) in rows.zip(&sorted) {
            let (href, text) = (between(row, "<a href=\"", "\""), between(row, "<bdi>", "</bdi>"));
            let slash: &[u8] = if kinds[*index] { b"/" } else { b"" };
            assert_eq!(decoded(href), [&names[*index], slash].concat());
            let shown: String = String::from_utf8_lossy(&names[*index])
                .chars()
                .map(|c| if c.is_control() { '\u{fffd}' } else { c })
                .collect();
            assert_eq!(unescaped(text), shown);
        }
        let data = json::parse(&page(folder(&in_folder, entries(&|index| names[index].clone())), wanted("", "application/json")));
        let items = data.get("entries").items();
        assert_eq!(items.len(), names.len());
        for (item, index) in items.iter().zip(&sorted) {
            assert_eq!(item.get("name").text(), String::from_utf8_lossy(&names[*index]));
            let slash: &[u8] = if kinds[*index] { b"/" } else { b"" };
            assert_eq!(decoded(item.get("href").text()), [&names[*index], slash].concat());
        }
    }
}

/// The least of a JSON reader, written from RFC 8259 and not from the writer: it takes nothing that is not JSON.
mod json {
    #[derive(Debug, PartialEq)]
    pub(super) enum Value {
        Text(String),
        Number(f64),
        Flag(bool),
        Items(Vec<Value>),
        Members(Vec<(String, Value)>),
    }

    impl Value {
        pub(super) fn get(&self, key: &str) -> &Value {
            let Value::Members(members) = self else { panic!("{self:?} has no members") };
            &members.iter().find(|(name, _)| name == key).unwrap_or_else(|| panic!("no {key}")).1
        }

        pub(super) fn text(&self) -> &str {
            let Value::Text(text) = self else { panic!("{self:?} is no text") };
            text
        }

        pub(super) fn flag(&self) -> bool {
            matches!(self, Value::Flag(true))
        }

        pub(super) fn items(&self) -> &[Value] {
            let Value::Items(items) = self else { panic!("{self:?} has no items") };
            items
        }
    }

    pub(super) fn parse(text: &str) -> Value {
        let (value, rest) = value(text);
        assert_eq!(rest.trim_ascii(), "");
        value
    }

    fn value(text: &str) -> (Value, &str) {
        let text = text.trim_ascii_start();
        match text.as_bytes()[0] {
            b'{' => {
                let (mut members, mut rest) = (Vec::new(), text[1..].trim_ascii_start());
                while !rest.starts_with('}') {
                    let (key, after) = string(rest);
                    let (value, after) = value(after.trim_ascii_start().strip_prefix(':').expect("a colon"));
                    members.push((key, value));
                    rest = next(after, '}');
                }
                (Value::Members(members), &rest[1..])
            }
            b'[' => {
                let (mut items, mut rest) = (Vec::new(), text[1..].trim_ascii_start());
                while !rest.starts_with(']') {
                    let (item, after) = value(rest);
                    items.push(item);
                    rest = next(after, ']');
                }
                (Value::Items(items), &rest[1..])
            }
            b'"' => {
                let (text, rest) = string(text);
                (Value::Text(text), rest)
            }
            _ => {
                let (word, rest) = text.split_at(text.find([',', '}', ']', '\n']).unwrap_or(text.len()));
                let value =
                    word.parse().map(Value::Flag).unwrap_or_else(|_| Value::Number(word.parse().expect("a number")));
                (value, rest)
            }
        }
    }

    /// After an item: a comma and another item, or the end.
    fn next(after: &str, end: char) -> &str {
        let after = after.trim_ascii_start();
        match after.strip_prefix(',') {
            Some(rest) => {
                assert!(!rest.trim_ascii_start().starts_with(end), "a comma at the end");
                rest.trim_ascii_start()
            }
            None => {
                assert!(after.starts_with(end), "{after}");
                after
            }
        }
    }

    fn string(text: &str) -> (String, &str) {
        let mut chars = text.strip_prefix('"').expect("a string").char_indices();
        let mut out = String::new();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => return (out, &text[at + 2..]),
                '\\' => match chars.next().expect("an escape").1 {
                    c @ ('"' | '\\' | '/') => out.push(c),
                    'u' => {
                        let digits: String = chars.by_ref().take(4).map(|(_, c)| c).collect();
                        let code = u32::from_str_radix(&digits, 16).expect("four digits");
                        out.push(char::from_u32(code).expect("no surrogate is written"));
                    }
                    c => panic!("\\{c}"),
                },
                c => {
                    assert!(c >= ' ', "a control character in a string");
                    out.push(c);
                }
            }
        }
        panic!("a string without an end")
    }
}
