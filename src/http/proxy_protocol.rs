//! What a proxy says at the start of a connection about the one that it forwards: the PROXY protocol, versions 1 (a line) and
//! 2 (binary), as HAProxy's `proxy-protocol.txt` defines them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest header that is read. Version 1 has at most 107 bytes; version 2 may add what it knows, a certificate say.
pub const HEADER_BYTES_MAX: usize = 4 << 10;

/// The longest line of version 1, with its end (its section 2.1).
const LINE_BYTES_MAX: usize = 107;
/// How version 2 begins.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The signature, version and command, family, and the length of what follows.
const FIXED_BYTES: usize = 16;

/// What the header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its own length; the connection's bytes begin after it.
    pub len: usize,
    /// The ends of the connection that is forwarded. Nothing where it is the proxy's own (LOCAL: a check of ours), or not of
    /// the internet (UNKNOWN, UNSPEC, a Unix socket).
    pub ends: Option<Ends>,
    /// Whether the client speaks TLS to the proxy; nothing where it does not say (it has no PP2_TYPE_SSL).
    pub https: Option<bool>,
}

/// Both ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Where it comes from: the client.
    pub source: SocketAddr,
    /// Where it was made to: the proxy's own address, mostly.
    pub destination: SocketAddr,
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// They begin as no version does.
    NoHeader,
    /// A line that version 1 does not know.
    BadLine,
    /// A version, command or family that version 2 does not know, or a length that does not fit.
    BadHeader,
    /// Longer than [`HEADER_BYTES_MAX`].
    TooLong,
    /// It has a checksum, and that is another's.
    BadChecksum,
}

impl Fault {
    /// For a log.
    pub fn why(self) -> &'static str {
        match self {
            Fault::NoHeader => "it begins with no PROXY header",
            Fault::BadLine => "its PROXY line (version 1) is malformed",
            Fault::BadHeader => "its PROXY header (version 2) is malformed",
            Fault::TooLong => "its PROXY header is too long",
            Fault::BadChecksum => "the checksum of its PROXY header is wrong",
        }
    }
}

/// Reads a header from the start of a connection; nothing as long as it is not whole.
///
/// # Errors
/// No bytes that may still come make it one.
pub fn parse(bytes: &[u8]) -> Result<Option<Header>, Fault> {
    match bytes.first() {
        None => Ok(None),
        Some(b'P') => parse_line(bytes),
        Some(_) => parse_binary(bytes),
    }
}

/// Version 1: `PROXY TCP4 192.0.2.1 192.0.2.2 4711 80` and CRLF.
fn parse_line(bytes: &[u8]) -> Result<Option<Header>, Fault> {
    const START: &[u8] = b"PROXY ";
    let begun = bytes.len().min(START.len());
    if bytes[..begun] != START[..begun] {
        return Err(Fault::NoHeader);
    }
    let window = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = window.iter().position(|&byte| byte == b'\n') else {
        return if window.len() == LINE_BYTES_MAX { Err(Fault::BadLine) } else { Ok(None) };
    };
    let line = window[START.len()..end].strip_suffix(b"\r").ok_or(Fault::BadLine)?;
    let ends = ends_of_line(line).ok_or(Fault::BadLine)?;
    Ok(Some(Header { len: end + 1, ends, https: None }))
}

/// The outer nothing is a fault, the inner one a line that says nothing about the ends.
fn ends_of_line(line: &[u8]) -> Option<Option<Ends>> {
    let line = str::from_utf8(line).ok()?;
    // Whatever follows UNKNOWN is to be ignored (section 2.1).
    if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        return Some(None);
    }
    let mut words = line.split(' ');
    let is_v4 = match words.next()? {
        "TCP4" => true,
        "TCP6" => false,
        _ => return None,
    };
    let mut addr = || words.next()?.parse::<IpAddr>().ok().filter(|addr| addr.is_ipv4() == is_v4);
    let (source, destination) = (addr()?, addr()?);
    let mut port = || words.next().and_then(port_of);
    let (source_port, destination_port) = (port()?, port()?);
    let ends = Ends {
        source: SocketAddr::new(source.to_canonical(), source_port),
        destination: SocketAddr::new(destination.to_canonical(), destination_port),
    };
    words.next().is_none().then_some(Some(ends))
}

/// Digits, and no zero before others.
fn port_of(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if is_number { text.parse().ok() } else { None }
}

fn parse_binary(bytes: &[u8]) -> Result<Option<Header>, Fault> {
    let begun = bytes.len().min(SIGNATURE.len());
    if bytes[..begun] != SIGNATURE[..begun] {
        return Err(Fault::NoHeader);
    }
    let Some(&[version_command, family, high, low]) = bytes.get(SIGNATURE.len()..FIXED_BYTES) else { return Ok(None) };
    let is_local = match version_command {
        0x20 => true,
        0x21 => false,
        _ => return Err(Fault::BadHeader),
    };
    let len = FIXED_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if len > HEADER_BYTES_MAX {
        return Err(Fault::TooLong);
    }
    let Some(header) = bytes.get(..len) else { return Ok(None) };
    // A proxy that speaks for itself may write any family, and whatever it writes is skipped (section 2.2).
    if is_local {
        return Ok(Some(Header { len, ends: None, https: None }));
    }
    let (ends, addresses_len) = ends_of_binary(family, &header[FIXED_BYTES..])?;
    let https = read_extras(header, FIXED_BYTES + addresses_len)?;
    Ok(Some(Header { len, ends, https }))
}

/// The addresses, and how many bytes they take. Stream or datagram makes no difference: a proxy may take HTTP/3 and forward it
/// as HTTP/1.
fn ends_of_binary(family: u8, block: &[u8]) -> Result<(Option<Ends>, usize), Fault> {
    let port = |high: u8, low: u8| u16::from_be_bytes([high, low]);
    match family {
        0x00 => Ok((None, 0)),
        0x11 | 0x12 => {
            let Some(([source @ .., s1, s0, d1, d0], _)) = block.split_first_chunk::<12>() else {
                return Err(Fault::BadHeader);
            };
            let [a, b, c, d, e, f, g, h] = *source;
            let ends = Ends {
                source: SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), port(*s1, *s0)),
                destination: SocketAddr::new(Ipv4Addr::new(e, f, g, h).into(), port(*d1, *d0)),
            };
            Ok((Some(ends), 12))
        }
        0x21 | 0x22 => {
            let Some((addresses, _)) = block.split_first_chunk::<36>() else { return Err(Fault::BadHeader) };
            let addr = |at: usize| {
                let mut octets = [0; 16];
                octets.copy_from_slice(&addresses[at..at + 16]);
                IpAddr::V6(Ipv6Addr::from(octets)).to_canonical()
            };
            let ends = Ends {
                source: SocketAddr::new(addr(0), port(addresses[32], addresses[33])),
                destination: SocketAddr::new(addr(16), port(addresses[34], addresses[35])),
            };
            Ok((Some(ends), 36))
        }
        // Two paths of 108 bytes, which say nothing that can be used.
        0x31 | 0x32 if block.len() >= 216 => Ok((None, 216)),
        _ => Err(Fault::BadHeader),
    }
}

const TYPE_CHECKSUM: u8 = 0x03;
const TYPE_TLS: u8 = 0x20;
/// Of the first byte of that: the client speaks TLS.
const CLIENT_TLS: u8 = 0x01;

/// What follows the addresses, from `at` on: type, length, value, until the end. Whether the client speaks TLS.
fn read_extras(header: &[u8], mut at: usize) -> Result<Option<bool>, Fault> {
    let mut https = None;
    while at < header.len() {
        let Some(&[kind, high, low]) = header.get(at..at + 3) else { return Err(Fault::BadHeader) };
        let start = at + 3;
        let end = start + usize::from(u16::from_be_bytes([high, low]));
        let value = header.get(start..end).ok_or(Fault::BadHeader)?;
        match kind {
            TYPE_CHECKSUM => verify(header, start, value)?,
            // Its bits, and the result of the verification of a certificate (section 2.2.6).
            TYPE_TLS if value.len() >= 5 => https = Some(value[0] & CLIENT_TLS != 0),
            TYPE_TLS => return Err(Fault::BadHeader),
            _ => {}
        }
        at = end;
    }
    Ok(https)
}

/// A checksum that is there has to be right (section 2.2.3): CRC-32C over the header, with zeroes in its own place.
fn verify(header: &[u8], at: usize, value: &[u8]) -> Result<(), Fault> {
    let written = value.try_into().map(u32::from_be_bytes).map_err(|_| Fault::BadHeader)?;
    let zeroed = header.iter().enumerate().map(|(index, &byte)| if (at..at + 4).contains(&index) { 0 } else { byte });
    if crc32c(zeroed) == written { Ok(()) } else { Err(Fault::BadChecksum) }
}

/// Castagnoli's polynomial, reflected (RFC 3720 appendix B.4). Bit by bit: this is once a connection, if at all.
pub(super) fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    let shift = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| shift(crc)))
}

#[cfg(test)]
#[path = "proxy_protocol_tests.rs"]
mod tests;
