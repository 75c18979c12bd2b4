//! What a script's output means: the head that it starts with becomes the head of the reply (RFC 3875 section 6).
//!
//! Strict where a mistake could change what follows (line structure, lengths, status), tolerant where it is only a gap:
//! - lines end in LF or CRLF; a control character inside one (a bare CR, a NUL) refuses the whole output, so nothing
//!   can be injected;
//! - a body without Content-Type is passed on as it is: nothing is invented for it;
//! - what belongs to the connection, and Date and Server, which this server says itself, are dropped;
//! - output that starts with `HTTP/1.` is a complete response, as "non-parsed header" scripts write it. It is read and
//!   framed again, so that it can neither cut the connection's framing nor its keep-alive short.

use super::reply::{HeadContext, write_end};
use crate::http::response::{BodyFraming, write_field, write_framing, write_status_with};
use crate::http::status::Status;

/// What the output so far is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed<'b> {
    /// Not yet a whole head. At the end of the output it never will be one: 502.
    NeedMore,
    /// A response; its body starts after the head.
    Document(CgiReply<'b>),
    /// Serve that path (and query) instead, as if the client had asked for it by GET (RFC 3875 section 6.2.2).
    LocalRedirect(&'b [u8]),
    /// Not a response: 502, and why, for the log.
    Malformed(&'static str),
}

/// The head of a script's response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgiReply<'b> {
    /// The status.
    pub status: Status,
    /// What the script calls it; empty where it left that to us.
    phrase: &'b [u8],
    /// How the script delimits its body.
    pub output: Output,
    /// Where the body starts in the bytes that were parsed.
    pub head_len: usize,
    /// The field lines, already found valid, to the blank line.
    lines: &'b [u8],
}

/// How a script delimits the body that it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// It ends where the output ends.
    UntilEof,
    /// Exactly so many bytes; less is a broken reply, more is cut off.
    Length(u64),
    /// In chunks (complete responses only): they are decoded, then framed again.
    Chunked,
}

/// The head at the start of a script's output, while it comes. It remembers how far it has looked: a script that writes
/// byte by byte costs no more than one that writes all at once.
#[derive(Debug, Default)]
pub struct Head {
    /// The bytes that have been looked at.
    seen: usize,
    /// Where the line begins in which they end.
    line_start: usize,
}

impl Head {
    /// Reads all of the output so far; to be called again with more bytes behind the same after [`Parsed::NeedMore`]. A
    /// head that is longer than `head_bytes_max` is refused. `is_nph`: the script's name says that it writes complete
    /// responses.
    pub fn read<'b>(&mut self, bytes: &'b [u8], head_bytes_max: usize, is_nph: bool) -> Parsed<'b> {
        match self.end(&bytes[..bytes.len().min(head_bytes_max)]) {
            Some(head_len) => interpret(&bytes[..head_len], is_nph).unwrap_or_else(Parsed::Malformed),
            None if bytes.len() >= head_bytes_max => Parsed::Malformed("its head is too long"),
            None => Parsed::NeedMore,
        }
    }

    /// The length of the head with its blank line, if it is whole.
    fn end(&mut self, bytes: &[u8]) -> Option<usize> {
        while let Some(at) = bytes.get(self.seen..)?.iter().position(|byte| *byte == b'\n') {
            let end = self.seen + at;
            if matches!(&bytes[self.line_start..end], b"" | b"\r") {
                return Some(end + 1);
            }
            (self.seen, self.line_start) = (end + 1, end + 1);
        }
        self.seen = bytes.len();
        None
    }
}

impl CgiReply<'_> {
    /// How the body is to be framed for the client. A HEAD is told the same as a GET, and sent no body.
    pub fn framing(&self, context: &HeadContext<'_>) -> BodyFraming {
        let length = if let Output::Length(length) = self.output { Some(length) } else { None };
        BodyFraming::of(context.version, self.status, length)
    }

    /// Appends the head of the reply, to its blank line. `framing` is what [`CgiReply::framing`] said, or `Length` when
    /// the whole body is there already. `UntilClose` closes, whatever the context says.
    pub fn write_head(&self, out: &mut Vec<u8>, framing: BodyFraming, context: &HeadContext<'_>) {
        let phrase = if self.phrase.is_empty() { self.status.phrase().as_bytes() } else { self.phrase };
        write_status_with(out, self.status, phrase);
        write_field(out, "Server", b"ucaffeine");
        for line in Lines(self.lines) {
            // The lines were found valid before this value could be made.
            if let Ok((name, value)) = field(line)
                && matches!(role(name), Role::Kept | Role::Location)
            {
                write_field(out, name, value);
            }
        }
        write_framing(out, framing);
        let keep_alive = context.keep_alive && framing != BodyFraming::UntilClose;
        write_end(out, &HeadContext { keep_alive, ..*context });
    }
}

fn interpret(head: &[u8], is_nph: bool) -> Result<Parsed<'_>, &'static str> {
    if head.starts_with(b"HTTP/1.") {
        return complete(head);
    }
    if is_nph {
        return Err("an nph- script must start with a status line");
    }
    let fields = Fields::collect(head)?;
    if fields.count == 0 {
        return Err("its head has no fields");
    }
    let (status, phrase) = match (fields.status, fields.location) {
        (Some(value), _) => final_status(value)?,
        (None, Some(location)) if fields.count == 1 && is_local(location) => return local_redirect(location),
        (None, Some(_)) => (Status::FOUND, b"".as_slice()),
        (None, None) => (Status::OK, b"".as_slice()),
    };
    // In a document, Transfer-Encoding is not the script's to say: it is dropped like the others of its kind.
    let output = fields.content_length.map_or(Output::UntilEof, Output::Length);
    Ok(Parsed::Document(CgiReply { status, phrase, output, head_len: head.len(), lines: head }))
}

/// A complete response. Its length may be said in either of HTTP's ways, but only in one.
fn complete(head: &[u8]) -> Result<Parsed<'_>, &'static str> {
    let status_line = Lines(head).next().unwrap_or(b"");
    let after_minor = status_line.strip_prefix(b"HTTP/1.").and_then(|rest| rest.split_first());
    let Some((b'0'..=b'9', [b' ', rest @ ..])) = after_minor else { return Err("its status line is malformed") };
    let (status, phrase) = final_status(rest)?;
    let after_status_line = head.iter().position(|byte| *byte == b'\n').map_or(head.len(), |at| at + 1);
    let lines = &head[after_status_line..];
    let fields = Fields::collect(lines)?;
    let output = match (fields.content_length, fields.transfer_encoding) {
        (None, None) => Output::UntilEof,
        (Some(length), None) => Output::Length(length),
        (None, Some(coding)) if coding.eq_ignore_ascii_case(b"chunked") => Output::Chunked,
        (None, Some(_)) => return Err("its Transfer-Encoding is not chunked"),
        (Some(_), Some(_)) => return Err("it has both Content-Length and Transfer-Encoding"),
    };
    Ok(Parsed::Document(CgiReply { status, phrase, output, head_len: head.len(), lines }))
}

/// A path is local; what starts with two slashes names a host, and a fragment is for the client to resolve.
fn is_local(location: &[u8]) -> bool {
    location.starts_with(b"/") && !location.starts_with(b"//") && !location.contains(&b'#')
}

fn local_redirect(location: &[u8]) -> Result<Parsed<'_>, &'static str> {
    let is_target = location.iter().all(u8::is_ascii_graphic);
    if is_target { Ok(Parsed::LocalRedirect(location)) } else { Err("its local Location is not a path") }
}

/// `404`, `404 ` or `404 Not Found`; a final status, because the script answers once, and its phrase, perhaps empty.
fn final_status(value: &[u8]) -> Result<(Status, &[u8]), &'static str> {
    const WHY: &str = "its status is not a number from 200 to 599";
    let (digits, phrase) = value.split_first_chunk::<3>().ok_or(WHY)?;
    if !digits.iter().all(u8::is_ascii_digit) || !(phrase.is_empty() || phrase.starts_with(b" ")) {
        return Err(WHY);
    }
    let code = digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    let status = Status::from_code(code).filter(|_| (200..600).contains(&code)).ok_or(WHY)?;
    Ok((status, phrase.trim_ascii()))
}

/// The fields on which the meaning of a head depends.
#[derive(Default)]
struct Fields<'b> {
    count: usize,
    status: Option<&'b [u8]>,
    location: Option<&'b [u8]>,
    content_length: Option<u64>,
    transfer_encoding: Option<&'b [u8]>,
}

impl<'b> Fields<'b> {
    /// Reads every line; the first that is not a field refuses all.
    fn collect(lines: &'b [u8]) -> Result<Fields<'b>, &'static str> {
        let mut fields = Fields::default();
        for line in Lines(lines) {
            let (name, value) = field(line)?;
            fields.count += 1;
            match role(name) {
                Role::Status => once(&mut fields.status, value, "it has two Status fields")?,
                Role::Location => once(&mut fields.location, value, "it has two Location fields")?,
                Role::ContentLength => {
                    once(&mut fields.content_length, length(value)?, "it has two Content-Length fields")?
                }
                Role::TransferEncoding => {
                    once(&mut fields.transfer_encoding, value, "it has two Transfer-Encoding fields")?
                }
                Role::Dropped | Role::Kept => {}
            }
        }
        Ok(fields)
    }
}

fn once<T>(slot: &mut Option<T>, value: T, why: &'static str) -> Result<(), &'static str> {
    if slot.replace(value).is_some() { Err(why) } else { Ok(()) }
}

fn length(value: &[u8]) -> Result<u64, &'static str> {
    const WHY: &str = "its Content-Length is not a number";
    let digits = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|digits| digits.parse().ok()).ok_or(WHY)
}

/// What becomes of a field of a script's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Becomes the status line.
    Status,
    /// Passed on, and may mean a redirect.
    Location,
    /// Becomes the framing.
    ContentLength,
    /// Becomes the framing, of a complete response.
    TransferEncoding,
    /// The connection's, or this server's to say.
    Dropped,
    /// Passed on.
    Kept,
}

const ROLES: [(&str, Role); 13] = [
    ("Status", Role::Status),
    ("Location", Role::Location),
    ("Content-Length", Role::ContentLength),
    ("Transfer-Encoding", Role::TransferEncoding),
    ("Connection", Role::Dropped),
    ("Date", Role::Dropped),
    ("HTTP2-Settings", Role::Dropped),
    ("Keep-Alive", Role::Dropped),
    ("Proxy-Connection", Role::Dropped),
    ("Server", Role::Dropped),
    ("TE", Role::Dropped),
    ("Trailer", Role::Dropped),
    ("Upgrade", Role::Dropped),
];

fn role(name: &str) -> Role {
    // RFC 3875 section 6.3.5: messages to the server, not to the client.
    let is_extension = name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("X-CGI-"));
    let known = ROLES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, role)| *role);
    if is_extension { Role::Dropped } else { known.unwrap_or(Role::Kept) }
}

/// The name and value of a field line (RFC 9110 section 5). A name is a token, so it is ASCII.
fn field(line: &[u8]) -> Result<(&str, &[u8]), &'static str> {
    let colon = line.iter().position(|byte| *byte == b':').ok_or("a line of its head is not a field")?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
        return Err("the name of a field is malformed");
    }
    if value.iter().any(|byte| is_control(*byte)) {
        return Err("there is a control character in a field");
    }
    Ok((std::str::from_utf8(name).map_err(|_| "the name of a field is malformed")?, value.trim_ascii()))
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_control(byte: u8) -> bool {
    byte.is_ascii_control() && byte != b'\t'
}

/// The lines of a head, without their ends, up to the blank one.
struct Lines<'b>(&'b [u8]);

impl<'b> Iterator for Lines<'b> {
    type Item = &'b [u8];

    fn next(&mut self) -> Option<&'b [u8]> {
        let end = self.0.iter().position(|byte| *byte == b'\n')?;
        let line = &self.0[..end];
        self.0 = &self.0[end + 1..];
        Some(line.strip_suffix(b"\r").unwrap_or(line)).filter(|line| !line.is_empty())
    }
}

#[cfg(test)]
#[path = "cgi_reply_tests.rs"]
mod tests;
