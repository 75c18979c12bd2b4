//! Which part of a path names a script, and which is its PATH_INFO (RFC 3875 sections 4.1.5 and 4.1.13).

use super::Mount;

/// One way to read the rest of a path under a folder mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate<'r> {
    /// The script's path, relative to the folder, without a slash first or last.
    pub file: &'r [u8],
    /// What would be its PATH_INFO: empty, or with a slash first.
    pub path_info: &'r [u8],
}

/// The scripts that a request under a folder mount may mean, shortest first. The first that is a regular file is meant;
/// a folder leads to the next; when there is nothing, or none is left, there is no script.
///
/// A component that starts with a dot is never a part of a script's name, only of a PATH_INFO.
pub fn candidates(rest: &[u8]) -> impl Iterator<Item = Candidate<'_>> {
    let rest = rest.strip_prefix(b"/").unwrap_or(rest);
    let ends = (1..=rest.len()).filter(move |end| rest.get(*end).is_none_or(|byte| *byte == b'/'));
    ends.map(move |end| Candidate { file: &rest[..end], path_info: &rest[end..] }).take_while(|candidate| {
        let name = candidate.file.rsplit(|byte| *byte == b'/').next();
        name.is_some_and(|name| !name.is_empty() && !name.starts_with(b"."))
    })
}

/// Writes the SCRIPT_NAME of a candidate: the mount's prefix, a slash, the file. A program mount's is its prefix alone.
pub fn script_name(mount: &Mount, candidate: &Candidate<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(mount.prefix.as_bytes());
    out.push(b'/');
    out.extend_from_slice(candidate.file);
}

/// Whether a script announces by its name that it writes complete responses.
pub fn is_nph(file: &[u8]) -> bool {
    file.rsplit(|byte| *byte == b'/').next().is_some_and(|name| name.starts_with(b"nph-"))
}

#[cfg(test)]
mod tests {
    use super::super::MountKind;
    use super::*;

    fn listed(rest: &str) -> String {
        let each = candidates(rest.as_bytes());
        let pairs = each.map(|it| format!("{}|{}", it.file.escape_ascii(), it.path_info.escape_ascii()));
        pairs.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn shortest_first() {
        let cases = [
            ("/git/info/refs", "git|/info/refs git/info|/refs git/info/refs|"),
            ("/a", "a|"),
            ("/a/", "a|/"),
            ("/a/b/", "a|/b/ a/b|/"),
            ("/", ""),
            ("", ""),
            ("/.hidden/a", ""),
            ("/a/.git/b", "a|/.git/b"),
        ];
        for (rest, expected) in cases {
            assert_eq!(listed(rest), expected, "{rest}");
        }
    }

    #[test]
    fn names() {
        let mount =
            Mount { prefix: "/cgi-bin".into(), kind: MountKind::Folder, env: vec![], pass_authorization: false };
        let mut name = Vec::new();
        script_name(&mount, &Candidate { file: b"a/b", path_info: b"/c" }, &mut name);
        assert_eq!(name, b"/cgi-bin/a/b");
        assert!(is_nph(b"a/nph-b") && is_nph(b"nph-") && !is_nph(b"nph-a/b") && !is_nph(b"a-nph-b"));
    }
}
