//! The chunked coding, read one byte at a time (RFC 9112 section 7.1). Extensions and trailers are parsed, bounded
//! and dropped.

use super::limits::Limits;
use super::refusal::Fault;
use super::scan::{is_token_byte, is_value_byte};

/// 64 bits of size. Leading zeros count: a longer line is an attempt at something.
const SIZE_DIGITS_MAX: u8 = 16;

/// Where in the coding the last byte left the decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Size,
    /// White space after the size: only an extension may follow.
    SizeSpace,
    ExtNameStart,
    ExtName,
    ExtNameSpace,
    ExtValueStart,
    ExtValue,
    ExtQuoted,
    ExtQuotedPair,
    /// After a closing quote.
    ExtEnd,
    ExtEndSpace,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// At the first byte of a trailer line, or of the blank line that ends the body.
    LineStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    End,
}

/// A decoder of one chunked body. It sees bytes once and keeps none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunks {
    at: At,
    digits: u8,
    ext_bytes: u32,
    /// While a size line is read: the size. Then: what is left of the chunk.
    left: u64,
    trailer_bytes: u32,
}

/// One step through a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// Payload at `unread[skip..skip + len]`; consume both.
    Data {
        /// Framing before the payload.
        skip: usize,
        /// The payload's length.
        len: usize,
    },
    /// Consume this much, and come back with more.
    NeedBytes {
        /// Framing that was read.
        consumed: usize,
    },
    /// Consume this much: the body is over.
    End {
        /// Framing that was read.
        consumed: usize,
    },
}

impl Chunks {
    pub(super) const fn new() -> Chunks {
        Chunks { at: At::Size, digits: 0, ext_bytes: 0, left: 0, trailer_bytes: 0 }
    }

    pub(super) fn decode(&mut self, limits: &Limits, unread: &[u8]) -> Result<Decoded, Fault> {
        let mut consumed = 0;
        while self.at != At::End {
            let Some(&byte) = unread.get(consumed) else { return Ok(Decoded::NeedBytes { consumed }) };
            if self.at == At::Data {
                return Ok(self.take_data(consumed, unread.len() - consumed));
            }
            self.at = self.step(limits, byte)?;
            consumed += 1;
        }
        Ok(Decoded::End { consumed })
    }

    fn take_data(&mut self, skip: usize, available: usize) -> Decoded {
        let len = usize::try_from(self.left).unwrap_or(usize::MAX).min(available);
        self.left -= len as u64;
        if self.left == 0 {
            self.at = At::DataCr;
        }
        Decoded::Data { skip, len }
    }

    fn step(&mut self, limits: &Limits, byte: u8) -> Result<At, Fault> {
        match self.at {
            At::Size | At::SizeSpace => self.size_step(limits, byte),
            At::SizeLf if byte != b'\n' => Err(Fault::ChunkSize),
            At::SizeLf => Ok(if self.left == 0 { At::LineStart } else { At::Data }),
            At::DataCr if byte == b'\r' => Ok(At::DataLf),
            At::DataLf if byte == b'\n' => {
                self.digits = 0;
                Ok(At::Size)
            }
            At::DataCr | At::DataLf => Err(Fault::ChunkEnd),
            At::LineStart | At::TrailerName | At::TrailerValue | At::TrailerLf | At::EndLf => {
                bounded(&mut self.trailer_bytes, limits.trailer_bytes_max, Fault::TrailersTooLarge)?;
                trailer_step(self.at, byte)
            }
            At::Data | At::End => Ok(self.at),
            _ => {
                bounded(&mut self.ext_bytes, limits.chunk_ext_bytes_max, Fault::ChunkExtensions)?;
                extension_step(self.at, byte)
            }
        }
    }

    /// `1*HEXDIG`, and then an extension or the end of the line; never a sign, a prefix or a bare LF.
    fn size_step(&mut self, limits: &Limits, byte: u8) -> Result<At, Fault> {
        match byte {
            _ if self.at == At::Size && byte.is_ascii_hexdigit() && self.digits < SIZE_DIGITS_MAX => {
                let digit = (byte as char).to_digit(16).map_or(0, u64::from);
                self.left = if self.digits == 0 { digit } else { self.left << 4 | digit };
                self.digits += 1;
                Ok(At::Size)
            }
            _ if self.digits == 0 => Err(Fault::ChunkSize),
            b'\r' if self.at == At::Size => Ok(At::SizeLf),
            b';' | b' ' | b'\t' => {
                bounded(&mut self.ext_bytes, limits.chunk_ext_bytes_max, Fault::ChunkExtensions)?;
                Ok(if byte == b';' { At::ExtNameStart } else { At::SizeSpace })
            }
            _ => Err(Fault::ChunkSize),
        }
    }
}

/// Counts one byte against a bound.
fn bounded(count: &mut u32, bytes_max: usize, fault: Fault) -> Result<(), Fault> {
    *count = count.saturating_add(1);
    if *count as usize > bytes_max { Err(fault) } else { Ok(()) }
}

/// `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )` and CRLF (RFC 9112 section 7.1.1). What differs
/// between readers here, a CR or LF inside an extension, has been used to smuggle requests, so the whole grammar is
/// held.
fn extension_step(at: At, byte: u8) -> Result<At, Fault> {
    use At::*;
    let is_space = byte == b' ' || byte == b'\t';
    Ok(match (at, byte) {
        (ExtNameStart | ExtNameSpace | ExtValueStart | ExtEndSpace, _) if is_space => at,
        (ExtName, _) if is_space => ExtNameSpace,
        (ExtValue | ExtEnd, _) if is_space => ExtEndSpace,
        (ExtNameStart | ExtName, _) if is_token_byte(byte) => ExtName,
        (ExtName | ExtNameSpace, b'=') => ExtValueStart,
        (ExtValueStart, b'"') => ExtQuoted,
        (ExtValueStart | ExtValue, _) if is_token_byte(byte) => ExtValue,
        (ExtQuoted, b'"') => ExtEnd,
        (ExtQuoted, b'\\') => ExtQuotedPair,
        (ExtQuoted | ExtQuotedPair, _) if is_value_byte(byte) => ExtQuoted,
        (ExtName | ExtNameSpace | ExtValue | ExtEnd | ExtEndSpace, b';') => ExtNameStart,
        (ExtName | ExtValue | ExtEnd, b'\r') => SizeLf,
        _ => return Err(Fault::ChunkExtension),
    })
}

/// Field lines as in a head, and the blank line. No trailer can change anything: all are dropped, Content-Length
/// included.
fn trailer_step(at: At, byte: u8) -> Result<At, Fault> {
    use At::*;
    Ok(match (at, byte) {
        (LineStart, b'\r') => EndLf,
        (LineStart | TrailerName, _) if is_token_byte(byte) => TrailerName,
        (TrailerName, b':') => TrailerValue,
        (TrailerValue, b'\r') => TrailerLf,
        (TrailerValue, _) if is_value_byte(byte) => TrailerValue,
        (TrailerLf, b'\n') => LineStart,
        (EndLf, b'\n') => End,
        _ => return Err(Fault::Trailer),
    })
}
