//! The bytes of a head, one at a time: the strict grammar of RFC 9112 sections 2 to 5, and the bounds.
//!
//! `httparse` reads a whole, well-formed head faster than this does. This reader takes over for the rest: a head that
//! arrives in pieces is scanned once, however small the pieces are, and a malformed one is refused at the first byte
//! that proves it, with the same answer however the bytes were split.

use super::limits::{FIELDS_MAX_CEILING, Limits};
use super::refusal::Fault;

/// No method that is served, or registered, is longer; 501 beyond (RFC 9112 section 3).
pub(super) const METHOD_BYTES_MAX: usize = 32;

/// Where in the head the last byte left the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Before anything.
    Start,
    /// After the CR of a blank line before the request.
    BlankLf,
    /// After that blank line: only one is tolerated.
    First,
    Method,
    Target,
    Version,
    /// After the version.
    VersionCr,
    /// After the CR of the request line or of a field line.
    LineLf,
    /// At the first byte of a field line, or of the blank line that ends the head.
    LineStart,
    Name,
    Value,
    /// After the CR of the blank line.
    EndLf,
    End,
}

/// A reader's progress through one head. It holds offsets into the unread bytes, never the bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scan {
    at: At,
    /// Where the method starts: 0, or 2 after a blank line.
    start: u8,
    fields: u16,
    /// Bytes seen so far.
    scanned: u32,
    /// Where the method, target, version or line that is being read starts.
    mark: u32,
}

impl Scan {
    pub(super) const fn new() -> Scan {
        Scan { at: At::Start, start: 0, fields: 0, scanned: 0, mark: 0 }
    }

    /// Nothing was scanned yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.scanned == 0
    }

    /// Reads on through `unread`, which starts where it started the last time: the head's length once it is whole.
    pub(super) fn advance(&mut self, limits: &Limits, unread: &[u8]) -> Result<Option<usize>, Fault> {
        // Offsets are 32 bits wide, so a bound beyond that would be none.
        let head_bytes_max = limits.head_bytes_max.min(u32::MAX as usize / 2);
        for (offset, &byte) in unread.iter().enumerate().skip(self.scanned as usize) {
            if self.at == At::End {
                break;
            }
            if offset >= head_bytes_max + self.start as usize {
                return Err(Fault::HeadTooLarge);
            }
            self.at = self.step(limits, offset, byte)?;
            self.scanned = offset as u32 + 1;
        }
        Ok((self.at == At::End).then_some(self.scanned as usize))
    }

    fn step(&mut self, limits: &Limits, offset: usize, byte: u8) -> Result<At, Fault> {
        let length = offset - self.mark as usize;
        Ok(match (self.at, byte) {
            (At::Start, b'\r') => At::BlankLf,
            (At::BlankLf, b'\n') => {
                self.start = 2;
                self.mark = 2;
                At::First
            }
            (At::BlankLf, _) => return Err(Fault::BareCr),
            (At::Start | At::First, b'\n') => return Err(Fault::BareLf),
            (At::Start | At::First, _) if is_token_byte(byte) => At::Method,
            (At::Start | At::First, _) => return Err(Fault::NotHttp),

            (At::Method, b' ') => self.enter(At::Target, offset + 1),
            (At::Method, _) if !is_token_byte(byte) => return Err(Fault::NotHttp),
            (At::Method, _) if length >= METHOD_BYTES_MAX => return Err(Fault::MethodTooLong),
            (At::Method, _) => At::Method,

            (At::Target, b' ') if length > 0 => self.enter(At::Version, offset + 1),
            (At::Target, _) if !is_target_byte(byte) => return Err(Fault::TargetByte),
            (At::Target, _) if length >= limits.target_bytes_max => return Err(Fault::TargetTooLong),
            (At::Target, _) => At::Target,

            (At::Version, _) => version_step(length, byte)?,
            (At::VersionCr, b'\r') => At::LineLf,
            (At::VersionCr, b'\n') => return Err(Fault::BareLf),
            (At::VersionCr, _) => return Err(Fault::VersionText),

            (At::LineLf, b'\n') => self.enter(At::LineStart, offset + 1),
            (At::EndLf, b'\n') => At::End,
            (At::LineLf | At::EndLf, _) => return Err(Fault::BareCr),

            (At::LineStart, b'\r') => At::EndLf,
            (At::LineStart, b'\n') => return Err(Fault::BareLf),
            (At::LineStart, b' ' | b'\t') => return Err(Fault::Folded),
            (At::LineStart, b':') => return Err(Fault::Nameless),
            (At::LineStart, _) if !is_token_byte(byte) => return Err(Fault::FieldName),
            (At::LineStart, _) if usize::from(self.fields) >= limits.fields_max.min(FIELDS_MAX_CEILING) => {
                return Err(Fault::TooManyFields);
            }
            (At::LineStart, _) => {
                self.fields += 1;
                At::Name
            }

            (At::Name, b' ' | b'\t') => return Err(Fault::SpaceBeforeColon),
            (At::Name, _) if byte != b':' && !is_token_byte(byte) => return Err(Fault::FieldName),
            (At::Value, b'\r') => At::LineLf,
            (At::Value, b'\n') => return Err(Fault::BareLf),
            (At::Value, _) if !is_value_byte(byte) => return Err(Fault::FieldValue),
            (At::Name | At::Value, _) if length >= limits.field_bytes_max => return Err(Fault::FieldTooLarge),
            (At::Name, b':') => At::Value,
            (At::Name | At::Value | At::End, _) => self.at,
        })
    }

    fn enter(&mut self, at: At, mark: usize) -> At {
        self.mark = mark as u32;
        at
    }
}

/// `HTTP/1.` and one digit. Another major version is 505, and a later minor one is served as 1.1 (RFC 9110 section
/// 2.5).
fn version_step(index: usize, byte: u8) -> Result<At, Fault> {
    match (index, byte) {
        (5, b'0' | b'2'..=b'9') => Err(Fault::MajorVersion),
        (7, b'0'..=b'9') => Ok(At::VersionCr),
        _ if b"HTTP/1.".get(index) == Some(&byte) => Ok(At::Version),
        _ => Err(Fault::VersionText),
    }
}

/// tchar (RFC 9110 section 5.6.2).
pub(super) const fn is_token_byte(byte: u8) -> bool {
    TOKEN[byte as usize]
}

/// What a target may hold on the wire: visible ASCII, and no fragment.
pub(super) const fn is_target_byte(byte: u8) -> bool {
    byte > b' ' && byte < 0x7f && byte != b'#'
}

/// field-vchar, obs-text, SP and HTAB (RFC 9110 section 5.5).
pub(super) const fn is_value_byte(byte: u8) -> bool {
    byte >= b' ' && byte != 0x7f || byte == b'\t'
}

static TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let marks = b"!#$%&'*+-.^_`|~";
    let mut mark = 0;
    while mark < marks.len() {
        table[marks[mark] as usize] = true;
        mark += 1;
    }
    table
};
