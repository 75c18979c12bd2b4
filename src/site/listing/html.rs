//! A listing as a page: it works without script, in the dark and on a phone, and a browser runs nothing that is in a name.

use super::order::rfc3339;
use super::{Direction, Entry, EntryKind, Folder, Key, Total, Wanted, write_href};
use crate::site::decimal;

/// The style of the page. The reply's Content-Security-Policy names its hash and allows nothing else, so a change here
/// changes that ([`super::super::reply`]).
pub const STYLE: &str = "\
:root{--ink:#1c1c1e;--dim:#5f6368;--line:#e2e2e6;--back:#fff;--link:#0b57d0;--hover:#f4f6fb}\
@media(prefers-color-scheme:dark){:root{--ink:#e6e6e9;--dim:#9aa0a6;--line:#333338;--back:#161618;--link:#9cc2ff;--hover:#212227}}\
*{box-sizing:border-box}\
body{margin:0 auto;max-width:60rem;padding:1.5rem 1rem 3rem;font:1rem/1.5 system-ui,sans-serif;color:var(--ink);background:var(--back)}\
h1{margin:0 0 1rem;padding:0 .5rem;font-size:1.25rem;font-weight:600;overflow-wrap:anywhere}\
a{color:var(--link);text-decoration:none}a:hover{text-decoration:underline}\
h1 span{color:var(--dim);font-weight:400;padding:0 .3em}\
table{width:100%;border-collapse:collapse}\
th{font-size:.85rem;font-weight:500;text-align:left;white-space:nowrap}th a{color:var(--dim)}\
th[aria-sort=ascending] a::after{content:' \\2191'}th[aria-sort=descending] a::after{content:' \\2193'}\
th,td{padding:.4rem .5rem;border-bottom:1px solid var(--line);vertical-align:top}\
tbody tr:hover{background:var(--hover)}\
td:first-child{overflow-wrap:anywhere;width:100%}\
td:first-child a{display:block}\
td+td,th+th{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}td+td{color:var(--dim)}\
p{color:var(--dim);margin:1rem .5rem}\
@media(max-width:36rem){\
table,thead,tbody{display:block}thead tr{display:flex;gap:1.2rem}thead th{padding:.4rem .5rem;border:0}\
tbody{border-top:1px solid var(--line)}tbody tr{display:flex;flex-wrap:wrap;gap:0 1rem;padding:.45rem .5rem;border-bottom:1px solid var(--line)}\
tbody td{padding:0;border:0;font-size:.85rem}tbody td:first-child{font-size:1rem}}";

pub(super) fn page(folder: &Folder, wanted: Wanted) -> Vec<u8> {
    let mut out = Vec::with_capacity(STYLE.len() + 1024 + folder.entries.len() * ROW_BYTES_GUESS);
    put(&mut out, "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n");
    put(&mut out, "<meta name=\"viewport\" content=\"width=device-width\">\n");
    put(&mut out, "<meta name=\"color-scheme\" content=\"light dark\">\n<title>/");
    put_text(&mut out, &folder.path);
    put(&mut out, if folder.path.is_empty() { "</title>\n<style>" } else { "/</title>\n<style>" });
    put(&mut out, STYLE);
    put(&mut out, "</style>\n");
    put_breadcrumbs(&mut out, &folder.path);
    put(&mut out, "<main>\n<table>\n<thead><tr>");
    put_column(&mut out, "Name", "name", Key::Name, wanted);
    put_column(&mut out, "Size", "size", Key::Size, wanted);
    put_column(&mut out, "Modified (UTC)", "time", Key::Time, wanted);
    put(&mut out, "</tr></thead>\n<tbody>\n");
    for entry in &folder.entries {
        put_row(&mut out, entry);
    }
    put(&mut out, "</tbody>\n</table>\n<p>");
    put_summary(&mut out, folder);
    put(&mut out, "</p>\n</main>\n</html>\n");
    out
}

/// A row of a name of usual length; only the page's first allocation depends on it.
const ROW_BYTES_GUESS: usize = 200;

/// Every folder on the way, each a link but the last. They are relative, so that the page works behind a proxy that serves
/// it below a path of its own.
fn put_breadcrumbs(out: &mut Vec<u8>, path: &[u8]) {
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).collect();
    put(out, "<nav aria-label=\"Breadcrumbs\"><h1>");
    put_crumb(out, b"Home", parts.len());
    for (index, part) in parts.iter().enumerate() {
        put(out, "<span>/</span>");
        put_crumb(out, part, parts.len() - index - 1);
    }
    put(out, "</h1></nav>\n");
}

fn put_crumb(out: &mut Vec<u8>, name: &[u8], levels_up: usize) {
    if levels_up == 0 {
        put(out, "<bdi aria-current=\"page\">");
        put_text(out, name);
        return put(out, "</bdi>");
    }
    put(out, "<a href=\"");
    put(out, &"../".repeat(levels_up));
    put(out, "\"><bdi>");
    put_text(out, name);
    put(out, "</bdi></a>");
}

/// A heading that sorts by its column; where it does already, the other way around.
fn put_column(out: &mut Vec<u8>, heading: &str, sort: &str, key: Key, wanted: Wanted) {
    let (state, order) = match (key == wanted.key, wanted.direction) {
        (false, _) => ("", "asc"),
        (true, Direction::Ascending) => (" aria-sort=\"ascending\"", "desc"),
        (true, Direction::Descending) => (" aria-sort=\"descending\"", "asc"),
    };
    put(out, &format!("<th scope=\"col\"{state}><a href=\"?sort={sort}&amp;order={order}\">{heading}</a></th>"));
}

fn put_row(out: &mut Vec<u8>, entry: &Entry) {
    put(out, "<tr><td><a href=\"");
    write_href(entry, out);
    // Isolated: a name that is written from right to left must not turn the rest of the row around.
    put(out, "\"><bdi>");
    put_text(out, &entry.name);
    match entry.kind {
        EntryKind::Directory => put(out, "</bdi>/</a></td><td>\u{2013}</td>"),
        EntryKind::File { bytes } => {
            put(out, "</bdi></a></td><td title=\"");
            put_grouped(out, bytes);
            put(out, if bytes == 1 { " byte\">" } else { " bytes\">" });
            put_size(out, bytes);
            put(out, "</td>");
        }
    }
    let time = rfc3339(entry.mtime.0);
    put(out, "<td><time datetime=\"");
    out.extend_from_slice(&time);
    put(out, "\">");
    out.extend_from_slice(&time[..10]);
    put(out, " ");
    out.extend_from_slice(&time[11..16]);
    put(out, "</time></td></tr>\n");
}

fn put_summary(out: &mut Vec<u8>, folder: &Folder) {
    let shown = folder.entries.len();
    let files = folder.entries.iter().filter(|entry| entry.kind != EntryKind::Directory).count();
    let mut put_count = |count: usize, one: &str, many: &str| {
        put_grouped(out, count as u64);
        put(out, if count == 1 { one } else { many });
    };
    match folder.cut_off {
        None if shown == 0 => put(out, "Nothing is here."),
        None => {
            put_count(shown - files, " folder, ", " folders, ");
            put_count(files, " file", " files");
        }
        Some(total) => {
            put_count(shown, " of ", " of ");
            let (count, more) = match total {
                Total::Exactly(count) => (count, ""),
                Total::MoreThan(count) => (count, "more than "),
            };
            put(out, more);
            put_grouped(out, count as u64);
            put(out, " names are shown: the first by name. The folder has more than a listing may hold.");
        }
    }
}

/// Three significant digits at most, rounded down: a file is at least as long as it says.
fn put_size(out: &mut Vec<u8>, bytes: u64) {
    const UNITS: [&str; 7] = [" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"];
    let power = bytes.checked_ilog2().unwrap_or(0) / 10;
    let tenths = (u128::from(bytes) * 10) >> (10 * power);
    let whole = (tenths / 10) as u64;
    out.extend_from_slice(decimal(whole, &mut [0; 20]));
    if power > 0 && whole < 10 {
        out.extend_from_slice(&[b'.', b'0' + (tenths % 10) as u8]);
    }
    put(out, UNITS[power as usize]);
}

/// `1,234,567`.
fn put_grouped(out: &mut Vec<u8>, number: u64) {
    let mut room = [0; 20];
    let digits = decimal(number, &mut room);
    for (index, digit) in digits.iter().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(b',');
        }
        out.push(*digit);
    }
}

fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// A name as text: what is not UTF-8, and what is invisible and moves the rest, becomes U+FFFD; what HTML gives a meaning is
/// escaped.
fn put_text(out: &mut Vec<u8>, name: &[u8]) {
    for c in String::from_utf8_lossy(name).chars() {
        match c {
            '&' => put(out, "&amp;"),
            '<' => put(out, "&lt;"),
            '>' => put(out, "&gt;"),
            '"' => put(out, "&quot;"),
            '\'' => put(out, "&#39;"),
            c if c.is_control() => put(out, "\u{fffd}"),
            c => put(out, c.encode_utf8(&mut [0; 4])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(put: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        put(&mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn sizes_for_people() {
        for (bytes, short, long) in [
            (0, "0 B", "0"),
            (1023, "1023 B", "1,023"),
            (1024, "1.0 KiB", "1,024"),
            (1535, "1.4 KiB", "1,535"),
            (1536, "1.5 KiB", "1,536"),
            (10_239, "9.9 KiB", "10,239"),
            (10_240, "10 KiB", "10,240"),
            (1_048_575, "1023 KiB", "1,048,575"),
            (1_048_576, "1.0 MiB", "1,048,576"),
            (5_368_709_120, "5.0 GiB", "5,368,709,120"),
            (u64::MAX, "15 EiB", "18,446,744,073,709,551,615"),
        ] {
            assert_eq!(written(|out| put_size(out, bytes)), short);
            assert_eq!(written(|out| put_grouped(out, bytes)), long);
        }
    }

    #[test]
    fn names_are_text() {
        for (name, expected) in [
            (&b"<img src=x onerror=alert(1)>"[..], "&lt;img src=x onerror=alert(1)&gt;"),
            (b"\"'&", "&quot;&#39;&amp;"),
            (b"a\nb\tc\x1b[31m\x7f", "a\u{fffd}b\u{fffd}c\u{fffd}[31m\u{fffd}"),
            (b"caf\xc3\xa9 \xff", "caf\u{e9} \u{fffd}"),
        ] {
            assert_eq!(written(|out| put_text(out, name)), expected);
        }
    }

    #[test]
    fn breadcrumbs_lead_up() {
        assert_eq!(
            written(|out| put_breadcrumbs(out, b"")),
            "<nav aria-label=\"Breadcrumbs\"><h1><bdi aria-current=\"page\">Home</bdi></h1></nav>\n"
        );
        assert_eq!(
            written(|out| put_breadcrumbs(out, b"a <b>/c")),
            "<nav aria-label=\"Breadcrumbs\"><h1><a href=\"../../\"><bdi>Home</bdi></a><span>/</span>\
             <a href=\"../\"><bdi>a &lt;b&gt;</bdi></a><span>/</span><bdi aria-current=\"page\">c</bdi></h1></nav>\n"
        );
    }
}
