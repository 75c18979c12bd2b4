//! The head of a response: RFC 9112, sections 4 to 6.

use memchr::{memchr, memchr_iter};

use super::Fault;

/// What a head says that matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The status code, 100 to 999.
    pub status: u16,
    /// Whether the connection may be used again.
    pub keeps_alive: bool,
    pub(super) framing: Framing,
}

/// How the end of the body is found (section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

/// The length of the head that `bytes` begins with, its empty line included. `from`: where to begin to look.
pub(super) fn end_of(bytes: &[u8], from: usize) -> Option<usize> {
    let mut ends = memchr_iter(b'\n', &bytes[from..]).map(|at| from + at);
    // LF, or CR LF, right behind an LF; a bare LF is `parse`'s to refuse.
    ends.find(|at| matches!(bytes[..*at], [.., b'\n', b'\r'] | [.., b'\n'])).map(|at| at + 1)
}

impl Head {
    /// Reads a whole head.
    pub(super) fn parse(head: &[u8]) -> Result<Head, Fault> {
        let (line, mut rest) = line_of(head)?;
        let (status, minor) = status_line(line)?;
        let mut fields = Fields::default();
        loop {
            let (line, after) = line_of(rest)?;
            if line.is_empty() {
                break;
            }
            fields.read(line)?;
            rest = after;
        }
        let framing = fields.framing()?;
        let stays = match minor {
            0 => fields.keep_alive && !fields.close,
            _ => !fields.close,
        };
        Ok(Head { status, keeps_alive: stays && framing != Framing::UntilClose, framing })
    }
}

fn line_of(bytes: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    let end = memchr(b'\n', bytes).ok_or(Fault::LineEnd)?;
    match &bytes[..end] {
        [line @ .., b'\r'] if memchr(b'\r', line).is_none() => Ok((line, &bytes[end + 1..])),
        _ => Err(Fault::LineEnd),
    }
}

/// The status, and the minor version.
fn status_line(line: &[u8]) -> Result<(u16, u8), Fault> {
    let [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor @ b'0'..=b'9', b' ', a, b, c, reason @ ..] = line else {
        return Err(Fault::StatusLine);
    };
    let digits = [a, b, c].map(|digit| u16::from(digit.wrapping_sub(b'0')));
    if digits.iter().any(|digit| *digit > 9) || digits[0] == 0 || !matches!(reason, [] | [b' ', ..]) {
        return Err(Fault::StatusLine);
    }
    Ok((digits[0] * 100 + digits[1] * 10 + digits[2], minor - b'0'))
}

#[derive(Default)]
struct Fields {
    length: Option<u64>,
    encoded: bool,
    chunked: bool,
    close: bool,
    keep_alive: bool,
}

impl Fields {
    fn read(&mut self, line: &[u8]) -> Result<(), Fault> {
        let colon = memchr(b':', line).ok_or(Fault::Field)?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        // A space here is an obsolete fold, or a space before the colon; both have been used to smuggle.
        if name.is_empty() || !name.iter().all(|byte| byte.is_ascii_graphic()) {
            return Err(Fault::Field);
        }
        match name.len() {
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let length = number(value).ok_or(Fault::Length)?;
                if self.length.replace(length).is_some_and(|before| before != length) {
                    return Err(Fault::Length);
                }
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                self.encoded = true;
                let last = value.rsplit(|byte| *byte == b',').next().unwrap_or_default();
                self.chunked = last.trim_ascii().eq_ignore_ascii_case(b"chunked");
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    self.close |= option.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn framing(&self) -> Result<Framing, Fault> {
        match (self.encoded, self.chunked, self.length) {
            (true, true, None) => Ok(Framing::Chunked),
            (true, ..) => Err(Fault::TransferEncoding),
            (false, _, Some(length)) => Ok(Framing::Length(length)),
            (false, _, None) => Ok(Framing::UntilClose),
        }
    }
}

/// 1*DIGIT that fits.
fn number(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0u64, |sum, digit| match digit {
        b'0'..=b'9' => sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}
