//! The path of a request becomes a path below a root. Decoded once, and never out of the root.

use super::status::Status;

/// Why a path names nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathError {
    /// It does not start with a slash (`*`).
    NotAbsolute,
    /// `..` above the root.
    AboveRoot,
    /// `%` without two hexadecimal digits.
    BadEscape,
    /// NUL, CR or LF, encoded or not.
    Control,
    /// `%2F`: a slash that is not a separator is in no file's name.
    EncodedSlash,
    /// A segment that starts with a dot, other than `.well-known` at the root (RFC 8615).
    Dotfile,
}

impl PathError {
    /// What to answer.
    pub fn status(self) -> Status {
        match self {
            PathError::NotAbsolute | PathError::AboveRoot | PathError::BadEscape | PathError::Control => {
                Status::BAD_REQUEST
            }
            PathError::EncodedSlash | PathError::Dotfile => Status::NOT_FOUND,
        }
    }
}

/// Replaces `out` by the path below the root: percent-decoded once, without empty and dot segments, without a leading
/// slash. A final slash stays one; the root is empty. After an error `out` is empty.
pub fn normalise(raw: &[u8], out: &mut Vec<u8>) -> Result<(), PathError> {
    out.clear();
    let [b'/', rest @ ..] = raw else { return Err(PathError::NotAbsolute) };
    if is_normal(raw, rest) {
        out.extend_from_slice(rest);
        return Ok(());
    }
    let result = rest.split(|&byte| byte == b'/').try_for_each(|segment| push_segment(segment, out));
    if result.is_err() {
        out.clear();
    }
    result
}

/// Nothing to decode, drop or refuse: one scan over `raw` and, one byte ahead, `rest`, and for most requests the only
/// one. It has no early exit, so that the compiler looks at many bytes at once.
fn is_normal(raw: &[u8], rest: &[u8]) -> bool {
    let is_plain = |byte: u8| (byte != b'%') & (byte != 0) & (byte != b'\r') & (byte != b'\n');
    raw.iter().zip(rest).fold(true, |is_good, (&last, &byte)| {
        is_good & is_plain(byte) & ((last != b'/') | ((byte != b'/') & (byte != b'.')))
    })
}

/// Appends one segment. Between segments `out` is empty or ends with a slash; only the last one can end without.
fn push_segment(segment: &[u8], out: &mut Vec<u8>) -> Result<(), PathError> {
    let start = out.len();
    // The slash before this segment; the first one, and one after a slash or a dot segment, has none to add.
    if start > 0 && out[start - 1] != b'/' {
        out.push(b'/');
    }
    let start = out.len();
    decode(segment, out)?;
    match &out[start..] {
        b"." => out.truncate(start),
        b".." => {
            out.truncate(start);
            drop_last_segment(out)?;
        }
        b".well-known" if start == 0 => {}
        [b'.', ..] => return Err(PathError::Dotfile),
        _ => {}
    }
    Ok(())
}

/// `out` ends with the slash after the segment to drop.
fn drop_last_segment(out: &mut Vec<u8>) -> Result<(), PathError> {
    let without_slash = out.len().checked_sub(1).ok_or(PathError::AboveRoot)?;
    let end = out[..without_slash].iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
    out.truncate(end);
    Ok(())
}

fn decode(segment: &[u8], out: &mut Vec<u8>) -> Result<(), PathError> {
    let mut rest = segment;
    while let [first, tail @ ..] = rest {
        let (byte, tail) = match (first, tail) {
            (b'%', [high, low, tail @ ..]) => (hex_digit(*high)? << 4 | hex_digit(*low)?, tail),
            (b'%', _) => return Err(PathError::BadEscape),
            _ => (*first, tail),
        };
        match byte {
            0 | b'\r' | b'\n' => return Err(PathError::Control),
            b'/' => return Err(PathError::EncodedSlash),
            _ => out.push(byte),
        }
        rest = tail;
    }
    Ok(())
}

fn hex_digit(byte: u8) -> Result<u8, PathError> {
    (byte as char).to_digit(16).map(|digit| digit as u8).ok_or(PathError::BadEscape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_what_becomes_of_them() {
        use PathError::*;
        let table: &[(&str, Result<&[u8], PathError>)] = &[
            ("/", Ok(b"")),
            ("//", Ok(b"")),
            ("/.", Ok(b"")),
            ("/./", Ok(b"")),
            ("/a", Ok(b"a")),
            ("/a/", Ok(b"a/")),
            ("/a//", Ok(b"a/")),
            ("//a", Ok(b"a")),
            ("/a/b", Ok(b"a/b")),
            ("/a//b", Ok(b"a/b")),
            ("/a/./b", Ok(b"a/b")),
            ("/a/.", Ok(b"a/")),
            ("/a/b/..", Ok(b"a/")),
            ("/a/b/../", Ok(b"a/")),
            ("/a/b/../c", Ok(b"a/c")),
            ("/a/..", Ok(b"")),
            ("/a/../", Ok(b"")),
            ("/a//../b", Ok(b"b")),
            ("/a/../b/../c", Ok(b"c")),
            ("/a/b/c/../../d", Ok(b"a/d")),
            ("/a.b", Ok(b"a.b")),
            ("/a../b", Ok(b"a../b")),
            ("/%61", Ok(b"a")),
            ("/%C3%a9", Ok(b"\xc3\xa9")),
            ("/%ff", Ok(b"\xff")),
            ("/a%20b", Ok(b"a b")),
            ("/a+b", Ok(b"a+b")),
            ("/%2561", Ok(b"%61")),
            ("/%252e%252e/x", Ok(b"%2e%2e/x")),
            ("/a\\..\\b", Ok(b"a\\..\\b")),
            ("/%5c", Ok(b"\\")),
            ("/a/%2e/b", Ok(b"a/b")),
            ("/a/%2e%2e/b", Ok(b"b")),
            ("/a/.%2E/b", Ok(b"b")),
            ("/.well-known/x", Ok(b".well-known/x")),
            ("/.well-known", Ok(b".well-known")),
            ("/%2ewell-known/x", Ok(b".well-known/x")),
            ("/a/../.well-known/x", Ok(b".well-known/x")),
            ("/..", Err(AboveRoot)),
            ("/../a", Err(AboveRoot)),
            ("/a/../..", Err(AboveRoot)),
            ("/a/../../b", Err(AboveRoot)),
            ("/%2e%2e/a", Err(AboveRoot)),
            ("/.%2e", Err(AboveRoot)),
            ("//..", Err(AboveRoot)),
            ("/%", Err(BadEscape)),
            ("/%4", Err(BadEscape)),
            ("/%4g", Err(BadEscape)),
            ("/%+1", Err(BadEscape)),
            ("/%4/1", Err(BadEscape)),
            ("/a%00", Err(Control)),
            ("/a%0d", Err(Control)),
            ("/a%0A", Err(Control)),
            ("/a\0", Err(Control)),
            ("/a%2fb", Err(EncodedSlash)),
            ("/..%2f..", Err(EncodedSlash)),
            ("/.git", Err(Dotfile)),
            ("/.git/config", Err(Dotfile)),
            ("/.git/../a", Err(Dotfile)),
            ("/a/.htaccess", Err(Dotfile)),
            ("/%2egit", Err(Dotfile)),
            ("/...", Err(Dotfile)),
            ("/a/.well-known", Err(Dotfile)),
            ("/.well-knownx", Err(Dotfile)),
            ("/.well-known/.x", Err(Dotfile)),
            ("", Err(NotAbsolute)),
            ("*", Err(NotAbsolute)),
            ("a", Err(NotAbsolute)),
        ];
        let mut out = b"leftover".to_vec();
        for (raw, expected) in table {
            let result = normalise(raw.as_bytes(), &mut out);
            assert_eq!(result.map(|()| out.as_slice()), *expected, "{raw:?}");
            assert!(result.is_ok() || out.is_empty(), "{raw:?}");
        }
    }
}
