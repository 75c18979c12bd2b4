//! A whole head becomes a [`Request`], or the reason why it is refused.
//!
//! Two readers agree on every byte (`tests/http_properties.rs` holds them to it): `httparse` with a few checks of its
//! leniencies for the common case, a whole head at once, and the byte-by-byte `scan` for the others.

use std::mem::MaybeUninit;

use httparse::Header;

use super::body;
use super::limits::{FIELDS_MAX_CEILING, Limits};
use super::refusal::{Fault, Refusal};
use super::request::{FieldSlots, Fields, Known, Method, Request, Version};
use super::scan::{METHOD_BYTES_MAX, Scan, is_target_byte};
use super::target;

/// Reads one head from the start of `unread`: the request and the length of its head, or nothing as long as it is not
/// whole. For callers without a connection; [`super::conn::Conn`] does the same and remembers how far it came.
pub fn parse<'b>(
    limits: &Limits,
    unread: &'b [u8],
    slots: &'b mut FieldSlots<'b>,
) -> Result<Option<(Request<'b>, usize)>, Refusal> {
    read(limits, &mut Scan::new(), unread, slots).map_err(Fault::refusal)
}

/// As [`parse`], going on where `scan` stopped.
#[inline]
pub(super) fn read<'b>(
    limits: &Limits,
    scan: &mut Scan,
    unread: &'b [u8],
    slots: &'b mut FieldSlots<'b>,
) -> Result<Option<(Request<'b>, usize)>, Fault> {
    let FieldSlots { table, spare } = slots;
    if !scan.is_fresh() && scan.advance(limits, unread)?.is_none() {
        return Ok(None);
    }
    if let Some(head) = read_whole(limits, unread, table) {
        return Ok(Some((interpret(&head)?, head.len)));
    }
    match scan.advance(limits, unread)? {
        None => Ok(None),
        Some(len) => {
            let head = read_later_minor(&unread[..len], spare).ok_or(Fault::NotHttp)?;
            Ok(Some((interpret(&head)?, len)))
        }
    }
}

/// A head as lines, not yet understood.
struct Lines<'b> {
    method: &'b [u8],
    target: &'b [u8],
    minor: u8,
    fields: &'b [Header<'b>],
    /// From the first unread byte (a blank line included) to the end of the head.
    len: usize,
}

/// The hot path: one call of `httparse`. None for anything but a whole and strictly well-formed head.
#[inline]
fn read_whole<'b>(
    limits: &Limits,
    unread: &'b [u8],
    table: &'b mut [MaybeUninit<Header<'b>>; FIELDS_MAX_CEILING],
) -> Option<Lines<'b>> {
    let blank = if unread.starts_with(b"\r\n") { 2 } else { 0 };
    let head = &unread[blank..];
    // httparse would skip any number of further blank lines.
    if matches!(head, [] | [b'\r' | b'\n', ..]) {
        return None;
    }
    let mut parsed = httparse::Request::new(&mut []);
    let room = &mut table[..limits.fields_max.min(FIELDS_MAX_CEILING)];
    let Ok(httparse::Status::Complete(len)) = parsed.parse_with_uninit_headers(head, room) else { return None };
    let (method, target, minor) = (parsed.method?.as_bytes(), parsed.path?.as_bytes(), parsed.version?);
    let fields: &'b [Header<'b>] = parsed.headers;
    let within_bounds = len <= limits.head_bytes_max
        && method.len() <= METHOD_BYTES_MAX
        && target.len() <= limits.target_bytes_max
        && (len <= limits.field_bytes_max || field_lines_fit(limits, &head[..len], fields));
    let is_strict = is_target(target) && ends_lines_with_crlf(&head[..len], fields);
    (within_bounds && is_strict).then_some(Lines { method, target, minor, fields, len: blank + len })
}

/// No early exit: without one the compiler checks many bytes at once.
#[inline]
fn is_target(text: &[u8]) -> bool {
    text.iter().fold(true, |is_good, &byte| is_good & is_target_byte(byte))
}

/// httparse lets a bare LF end a line. Only the two bytes before each name, and the last four, can differ.
#[inline]
fn ends_lines_with_crlf(head: &[u8], fields: &[Header<'_>]) -> bool {
    let is_after_crlf = |field: &Header<'_>| head[..line_start(head, field)].ends_with(b"\r\n");
    head.ends_with(b"\r\n\r\n") && fields.iter().all(is_after_crlf)
}

fn field_lines_fit(limits: &Limits, head: &[u8], fields: &[Header<'_>]) -> bool {
    let starts = fields.iter().map(|field| line_start(head, field));
    // The start of the blank line closes the last field.
    let ends = starts.clone().skip(1).chain([head.len() - 2]);
    // A line has a name, a colon and a line end: more than two bytes.
    starts.zip(ends).all(|(start, end)| end - start - 2 <= limits.field_bytes_max)
}

/// Where the field's line starts. Its name lies inside `head`, so the difference is at most `head.len()`; `min` says
/// so to the compiler.
#[inline]
fn line_start(head: &[u8], field: &Header<'_>) -> usize {
    field.name.as_ptr().addr().wrapping_sub(head.as_ptr().addr()).min(head.len())
}

/// HTTP/1.2 to 1.9, which httparse does not know: RFC 9110 section 2.5 has them served as 1.1. Nobody speaks them, so
/// this may allocate. The scan has accepted every byte of `head`.
fn read_later_minor<'b>(head: &'b [u8], spare: &'b mut Vec<Header<'b>>) -> Option<Lines<'b>> {
    let line_end = |head: &[u8]| head.windows(2).position(|pair| pair == b"\r\n");
    let blank = if head.starts_with(b"\r\n") { 2 } else { 0 };
    let end = blank + line_end(&head[blank..])?;
    let mut words = head[blank..end].split(|&byte| byte == b' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    spare.clear();
    spare.resize(FIELDS_MAX_CEILING, httparse::EMPTY_HEADER);
    let Ok(httparse::Status::Complete((_, fields))) = httparse::parse_headers(&head[end + 2..], spare) else {
        return None;
    };
    Some(Lines { method, target, minor: version.last()? - b'0', fields, len: head.len() })
}

/// What the lines mean together (RFC 9112 sections 3 and 6, RFC 9110 sections 7.2, 7.6.1 and 10.1.1).
#[inline]
fn interpret<'b>(head: &Lines<'b>) -> Result<Request<'b>, Fault> {
    let method = match Method::from_token(head.method).ok_or(Fault::UnknownMethod)? {
        // 501 and not 405: no resource is asked for, and no resource here could ever allow it.
        Method::Connect => return Err(Fault::Connect),
        method => method,
    };
    let version = if head.minor == 0 { Version::Http10 } else { Version::Http11 };
    let target = target::parse(method, head.target)?;
    let facts = Facts::gather(head.fields)?;
    let host = match facts.host {
        Some(host) if target::is_authority(host) => target.authority.unwrap_or(host),
        Some(_) => return Err(Fault::BadHost),
        None if version == Version::Http11 => return Err(Fault::NoHost),
        None => target.authority.unwrap_or_default(),
    };
    let framing = body::framing(version, facts.content_length, facts.transfer_encoding)?;
    // 1.0 has no expectations (RFC 9110 section 10.1.1), and there is nothing to wait for without a body.
    let expects = facts.expect != Expect::Nothing && version == Version::Http11;
    if expects && facts.expect == Expect::Unknown {
        return Err(Fault::Expectation);
    }
    Ok(Request {
        method,
        target: head.target,
        path: target.path,
        query: target.query,
        host,
        version,
        fields: Fields { lines: head.fields, present: facts.present },
        framing,
        expects_continue: expects && body::has_bytes(framing),
        keep_alive: !facts.says_close && (version == Version::Http11 || facts.says_keep_alive),
    })
}

/// The fields that decide about the message itself, gathered in one pass.
#[derive(Default)]
struct Facts<'b> {
    present: u32,
    host: Option<&'b [u8]>,
    content_length: Option<&'b [u8]>,
    transfer_encoding: Option<&'b [u8]>,
    expect: Expect,
    says_close: bool,
    says_keep_alive: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Expect {
    #[default]
    Nothing,
    Continue,
    Unknown,
}

impl<'b> Facts<'b> {
    #[inline]
    fn gather(lines: &'b [Header<'b>]) -> Result<Facts<'b>, Fault> {
        let mut facts = Facts::default();
        for line in lines {
            let Some(known) = Known::of(line.name.as_bytes()) else { continue };
            facts.present |= 1 << known as u32;
            match known {
                Known::Host => once(&mut facts.host, line.value, Fault::RepeatedHost)?,
                Known::ContentLength => once(&mut facts.content_length, line.value, Fault::RepeatedLength)?,
                Known::TransferEncoding => once(&mut facts.transfer_encoding, line.value, Fault::TransferEncoding)?,
                Known::Expect => facts.note_expectation(line.value),
                Known::Connection => facts.note_connection(line.value),
                _ => {}
            }
        }
        Ok(facts)
    }

    fn note_expectation(&mut self, value: &[u8]) {
        let is_known = value.eq_ignore_ascii_case(b"100-continue") && self.expect != Expect::Unknown;
        self.expect = if is_known { Expect::Continue } else { Expect::Unknown };
    }

    fn note_connection(&mut self, value: &[u8]) {
        for option in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            self.says_close |= option.eq_ignore_ascii_case(b"close");
            self.says_keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }
}

/// A field that may come once.
fn once<'b>(slot: &mut Option<&'b [u8]>, value: &'b [u8], repeated: Fault) -> Result<(), Fault> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(repeated),
    }
}
