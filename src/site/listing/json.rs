//! A listing as data (docs/listing.md has the schema).

use super::order::rfc3339;
use super::{EntryKind, Folder, Total, write_href, write_url};
use crate::site::decimal;

/// JSON is Unicode and names are bytes: `name` is for people, and `href` is the name exactly, for programs.
pub(super) fn page(folder: &Folder) -> Vec<u8> {
    let mut out = Vec::with_capacity(128 + folder.entries.len() * ENTRY_BYTES_GUESS);
    out.extend_from_slice(b"{\"path\":\"/");
    for part in folder.path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
        write_url(part, &mut out);
        out.push(b'/');
    }
    let (total, exact) = match folder.cut_off {
        None => (folder.entries.len(), true),
        Some(Total::Exactly(total)) => (total, true),
        Some(Total::MoreThan(total)) => (total, false),
    };
    out.extend_from_slice(b"\",\"total\":");
    out.extend_from_slice(decimal(total as u64, &mut [0; 20]));
    out.extend_from_slice(if exact { b",\"total_is_exact\":true" } else { b",\"total_is_exact\":false" });
    out.extend_from_slice(if folder.cut_off.is_some() { b",\"cut_off\":true" } else { b",\"cut_off\":false" });
    out.extend_from_slice(b",\"entries\":[");
    for (index, entry) in folder.entries.iter().enumerate() {
        out.extend_from_slice(if index > 0 { b",\n{\"name\":\"" } else { b"\n{\"name\":\"" });
        put_string(&mut out, &entry.name);
        out.extend_from_slice(b"\",\"href\":\"");
        write_href(entry, &mut out);
        match entry.kind {
            EntryKind::Directory => out.extend_from_slice(b"\",\"type\":\"directory\""),
            EntryKind::File { bytes } => {
                out.extend_from_slice(b"\",\"type\":\"file\",\"size\":");
                out.extend_from_slice(decimal(bytes, &mut [0; 20]));
            }
        }
        out.extend_from_slice(b",\"modified\":\"");
        out.extend_from_slice(&rfc3339(entry.mtime.0));
        out.extend_from_slice(b"\"}");
    }
    out.extend_from_slice(b"\n]}\n");
    out
}

/// An entry with a name of usual length; only the page's first allocation depends on it.
const ENTRY_BYTES_GUESS: usize = 128;

/// The inside of a string (RFC 8259 section 7). What is not UTF-8 becomes U+FFFD.
fn put_string(out: &mut Vec<u8>, name: &[u8]) {
    for c in String::from_utf8_lossy(name).chars() {
        match c {
            '"' | '\\' => out.extend_from_slice(&[b'\\', c as u8]),
            c if c.is_control() => out.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes()),
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}
