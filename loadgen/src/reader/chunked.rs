//! Chunked bodies: RFC 9112, section 7.1.

use super::Fault;

/// Of one chunk's extensions, and of all trailers together.
const EXTENSION_BYTES_MAX: u16 = 4 << 10;
const TRAILER_BYTES_MAX: u16 = 16 << 10;
/// More would not fit.
const SIZE_DIGITS_MAX: u8 = 16;

/// Where in the framing the next byte falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunked {
    Size {
        value: u64,
        digits: u8,
    },
    Extension {
        value: u64,
        bytes: u16,
    },
    SizeEnd {
        value: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataEnd,
    /// At the beginning of a line of the trailers.
    Line {
        bytes: u16,
    },
    Trailer {
        bytes: u16,
    },
    TrailerEnd {
        bytes: u16,
    },
    /// The LF of the empty line.
    LastEnd,
}

/// What a piece of the input was.
pub(super) enum Step<'i> {
    Starved,
    Data(&'i [u8]),
    End,
}

impl Default for Chunked {
    fn default() -> Chunked {
        Chunked::Size { value: 0, digits: 0 }
    }
}

impl Chunked {
    pub(super) fn next<'i>(&mut self, input: &mut &'i [u8]) -> Result<Step<'i>, Fault> {
        loop {
            if let Chunked::Data { left } = *self {
                let (data, rest) = input.split_at(usize::try_from(left).unwrap_or(usize::MAX).min(input.len()));
                *input = rest;
                let left = left - data.len() as u64;
                *self = if left == 0 { Chunked::DataCr } else { Chunked::Data { left } };
                if !data.is_empty() {
                    return Ok(Step::Data(data));
                }
            }
            let Some((byte, rest)) = input.split_first() else { return Ok(Step::Starved) };
            *input = rest;
            let last = *self == Chunked::LastEnd;
            *self = self.after(*byte)?;
            if last {
                return Ok(Step::End);
            }
        }
    }

    fn after(self, byte: u8) -> Result<Chunked, Fault> {
        Ok(match (self, byte) {
            (Chunked::Size { value, digits }, _) if byte.is_ascii_hexdigit() && digits < SIZE_DIGITS_MAX => {
                let digit = (byte as char).to_digit(16).map_or(0, u64::from);
                Chunked::Size { value: value << 4 | digit, digits: digits + 1 }
            }
            (Chunked::Size { value, digits: 1.. }, b'\r') => Chunked::SizeEnd { value },
            (Chunked::Size { value, digits: 1.. }, b';' | b' ' | b'\t') => Chunked::Extension { value, bytes: 0 },
            (Chunked::Extension { value, .. }, b'\r') => Chunked::SizeEnd { value },
            (Chunked::Extension { value, bytes }, _) if byte != b'\n' && bytes < EXTENSION_BYTES_MAX => {
                Chunked::Extension { value, bytes: bytes + 1 }
            }
            (Chunked::SizeEnd { value: 0 }, b'\n') => Chunked::Line { bytes: 0 },
            (Chunked::SizeEnd { value }, b'\n') => Chunked::Data { left: value },
            (Chunked::DataCr, b'\r') => Chunked::DataEnd,
            (Chunked::DataEnd, b'\n') => Chunked::default(),
            (Chunked::Line { .. }, b'\r') => Chunked::LastEnd,
            (Chunked::Trailer { bytes }, b'\r') => Chunked::TrailerEnd { bytes },
            (Chunked::TrailerEnd { bytes }, b'\n') => Chunked::Line { bytes },
            (Chunked::Line { bytes } | Chunked::Trailer { bytes }, _) if byte != b'\n' => {
                if bytes == TRAILER_BYTES_MAX {
                    return Err(Fault::TooLong);
                }
                Chunked::Trailer { bytes: bytes + 1 }
            }
            (Chunked::LastEnd, b'\n') => Chunked::default(),
            _ => return Err(Fault::Chunk),
        })
    }
}
