//! What must hold for any bytes: the bodies of the fuzz targets (`fuzz/`), of their replay on stable
//! (`tests/fuzz_replay.rs`) and of the properties (`tests/http_properties.rs`). A violation panics.

use super::chunked::{Chunks, Decoded};
use super::coding::{self, Coding};
use super::conn::{BodyEvent, Conn, Event, Next};
use super::forwarded;
use super::head;
use super::limits::Limits;
use super::multipart::{Boundary, Multipart};
use super::path;
use super::proxy_protocol;
use super::range::{self, Ranges, Span};
use super::refusal::Fault;
use super::request::{FieldSlots, Known};
use super::response;
use super::scan::Scan;
use super::trust::{Network, Trusted};

/// Bounds that short inputs can cross.
fn small_limits() -> Limits {
    Limits {
        target_bytes_max: 40,
        field_bytes_max: 60,
        fields_max: 5,
        head_bytes_max: 200,
        trailer_bytes_max: 30,
        chunk_ext_bytes_max: 20,
        drain_bytes_max: 50,
        ..Limits::default()
    }
}

/// A connection's whole input: the first byte chooses limits and the size of the pieces that it is cut into. What
/// comes of it does not depend on the pieces, and both readers of heads agree.
pub fn request(data: &[u8]) {
    let Some((&choice, input)) = data.split_first() else { return };
    let limits = if choice & 0x80 == 0 { small_limits() } else { Limits::default() };
    let whole = transcript(&limits, input, usize::MAX);
    for piece in [1, 2 + usize::from(choice & 0x7f)] {
        assert_eq!(whole, transcript(&limits, input, piece), "pieces of {piece}");
    }
    readers_agree(&limits, input);
}

/// What a connection makes of `input`, arriving in pieces of `piece` bytes and then a FIN: each event as a line,
/// payload joined.
pub fn transcript(limits: &Limits, input: &[u8], piece: usize) -> Vec<String> {
    let mut reader =
        Reader { limits, conn: Conn::new(0), unread: Vec::new(), lines: Vec::new(), in_body: false, is_over: false };
    for bytes in input.chunks(piece) {
        reader.unread.extend_from_slice(bytes);
        reader.read_all();
    }
    reader.conn.end_of_input();
    reader.read_all();
    assert!(reader.is_over, "a connection whose input ended comes to an end");
    reader.lines
}

/// A server that answers everything at once.
struct Reader<'l> {
    limits: &'l Limits,
    conn: Conn,
    unread: Vec<u8>,
    lines: Vec<String>,
    in_body: bool,
    is_over: bool,
}

impl Reader<'_> {
    fn read_all(&mut self) {
        while !self.is_over && if self.in_body { self.read_body() } else { self.read_head() } {}
    }

    fn read_head(&mut self) -> bool {
        let mut slots = FieldSlots::new();
        let (line, head_len) = match self.conn.poll(self.limits, 0, &self.unread, &mut slots) {
            Event::NeedBytes { .. } => return false,
            Event::Request { request, head_len } => {
                assert!(head_len <= self.unread.len() && head_len <= self.limits.head_bytes_max + 2);
                assert!(request.path.starts_with(b"/") || request.path == b"*");
                assert!(request.target.len() <= self.limits.target_bytes_max);
                assert!(request.fields.iter().count() <= self.limits.fields_max);
                assert_eq!(request.fields.get_all(Known::Host).count() > 0, request.fields.has(Known::Host));
                self.conn.begin(self.limits, 0, &request);
                self.in_body = true;
                let fields: Vec<_> =
                    request.fields.iter().map(|(name, value)| (name, value.escape_ascii().to_string())).collect();
                (format!("request {:?} {} {fields:?}", request.framing, request.target.escape_ascii()), head_len)
            }
            Event::Refuse(refusal) => {
                self.is_over = true;
                (format!("refuse {refusal:?}"), 0)
            }
            Event::Over => {
                self.is_over = true;
                ("over".to_string(), 0)
            }
        };
        self.lines.push(line);
        self.unread.drain(..head_len);
        true
    }

    fn read_body(&mut self) -> bool {
        match self.conn.body(self.limits, 0, &self.unread) {
            BodyEvent::Data { skip, len } => {
                assert!(len > 0);
                let payload = self.unread[skip..skip + len].escape_ascii().to_string();
                match self.lines.last_mut() {
                    Some(line) if line.starts_with("body") => line.push_str(&payload),
                    _ => self.lines.push(format!("body {payload}")),
                }
                self.unread.drain(..skip + len);
            }
            BodyEvent::NeedBytes { consumed, .. } => {
                self.unread.drain(..consumed);
                return false;
            }
            BodyEvent::End { consumed } => {
                self.unread.drain(..consumed);
                self.in_body = false;
                let next = self.conn.finish(self.limits, 0);
                self.is_over = next != Next::KeepAlive;
                self.lines.push(format!("end {next:?}"));
            }
            event @ (BodyEvent::Refuse(_) | BodyEvent::Cut) => {
                self.is_over = true;
                self.lines.push(format!("{event:?}"));
            }
        }
        true
    }
}

/// httparse with its checks, and the byte-by-byte reader, accept the same heads.
fn readers_agree(limits: &Limits, input: &[u8]) {
    let mut scan = Scan::new();
    let scanned = scan.advance(limits, input);
    let mut slots = FieldSlots::new();
    match (scanned, head::parse(limits, input, &mut slots)) {
        (Ok(Some(len)), Ok(Some((_, head_len)))) => assert_eq!(len, head_len),
        (Ok(None), Ok(None)) => {}
        (Err(fault), Err(refusal)) => assert_eq!(fault.refusal(), refusal),
        // What the bytes allow, their meaning may still forbid; but every byte that was accepted is understood.
        (Ok(Some(_)), Err(refusal)) => assert_ne!(refusal, Fault::NotHttp.refusal()),
        (scanned, parsed) => panic!("{scanned:?} but {parsed:?}"),
    }
}

/// A chunked body: the first byte chooses the size of the pieces. Payload and end do not depend on them.
pub fn chunked(data: &[u8]) {
    let Some((&choice, input)) = data.split_first() else { return };
    let limits = if choice & 0x80 == 0 { small_limits() } else { Limits::default() };
    let whole = decode_chunks(&limits, input, usize::MAX);
    for piece in [1, 2 + usize::from(choice & 0x7f)] {
        assert_eq!(whole, decode_chunks(&limits, input, piece), "pieces of {piece}");
    }
}

/// The payload, and how it ended: with how much input taken, not yet, or with a fault.
fn decode_chunks(limits: &Limits, input: &[u8], piece: usize) -> (Vec<u8>, Result<Option<usize>, Fault>) {
    let (mut chunks, mut payload, mut consumed, mut arrived) = (Chunks::new(), Vec::new(), 0, 0);
    loop {
        let unread = &input[consumed..arrived];
        match chunks.decode(limits, unread) {
            Ok(Decoded::Data { skip, len }) => {
                assert!(len > 0 && skip + len <= unread.len());
                payload.extend_from_slice(&unread[skip..skip + len]);
                consumed += skip + len;
            }
            Ok(Decoded::NeedBytes { consumed: framing }) => {
                assert_eq!(framing, unread.len(), "what is waited for comes after all that is there");
                consumed += framing;
                if arrived == input.len() {
                    return (payload, Ok(None));
                }
                arrived = arrived.saturating_add(piece).min(input.len());
            }
            Ok(Decoded::End { consumed: framing }) => return (payload, Ok(Some(consumed + framing))),
            Err(fault) => return (payload, Err(fault)),
        }
    }
}

/// A path: what is accepted stays below the root, has neither dot nor empty segments, and is normal already.
pub fn path(raw: &[u8]) {
    let mut out = Vec::new();
    if path::normalise(raw, &mut out).is_err() {
        assert!(out.is_empty());
        return;
    }
    assert!(out.len() < raw.len() && !out.contains(&0));
    let named = out.strip_suffix(b"/").unwrap_or(&out);
    for (index, segment) in named.split(|&byte| byte == b'/').enumerate().filter(|_| !out.is_empty()) {
        assert!(!segment.is_empty(), "{}", out.escape_ascii());
        assert!(!segment.starts_with(b".") || (index == 0 && segment == b".well-known"), "{}", out.escape_ascii());
    }
    // Encoding the result and reading that gives the result: nothing was decoded twice, or not at all.
    let encoded: Vec<u8> = out.iter().fold(vec![b'/'], |mut text, &byte| {
        match byte {
            b'%' => text.extend_from_slice(b"%25"),
            _ => text.push(byte),
        }
        text
    });
    let mut again = Vec::new();
    assert_eq!(path::normalise(&encoded, &mut again), Ok(()));
    assert_eq!(out, again);
}

/// A Range field: eight bytes of length and the value. Parts lie inside the length, apart from each other; sent as one
/// body, they are read back as they were.
pub fn range(data: &[u8]) {
    let Some((length, value)) = data.split_first_chunk() else { return };
    let length = u64::from_le_bytes(*length);
    const RANGES_MAX: usize = 20;
    let Ranges::Satisfiable(spans) = range::parse(value, length, RANGES_MAX) else { return };
    let mut spans = spans.as_slice().to_vec();
    assert!(!spans.is_empty() && spans.len() <= RANGES_MAX);
    if length < 4_096 {
        several_parts(&spans, length);
    }
    spans.sort_by_key(|span| span.start);
    let mut free_from = 0;
    for span in spans {
        assert!(span.len > 0 && span.start >= free_from);
        let end = span.start.checked_add(span.len).filter(|&end| end <= length);
        let Some(end) = end else { panic!("{span:?} of {length}") };
        // One byte at least lies between two parts, or they would be one.
        free_from = end.saturating_add(1);
        let mut out = Vec::new();
        response::write_content_range(&mut out, span, length);
        assert_eq!(out, format!("Content-Range: bytes {}-{}/{length}\r\n", span.start, end - 1).into_bytes());
    }
}

/// A multipart body of some spans, and what a reader finds in it.
fn several_parts(spans: &[Span], length: u64) {
    let content: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
    let parts = Multipart::new(spans, length, b"X: y\r\n".to_vec(), Boundary::new(u128::from(length) << 64 | 7));
    let (mut head, mut body) = (Vec::new(), Vec::new());
    parts.write_content_type(&mut head);
    for (index, span) in parts.spans().iter().enumerate() {
        parts.write_part_head(index, &mut body);
        body.extend_from_slice(&content[span.start as usize..][..span.len as usize]);
    }
    parts.write_end(&mut body);
    assert_eq!(parts.content_length(), body.len() as u64);

    let boundary = head.strip_prefix(b"Content-Type: multipart/byteranges; boundary=").expect("the type");
    let delimiter = [b"\r\n--", boundary.trim_ascii_end()].concat();
    let mut rest = body.strip_prefix(&delimiter[2..]).expect("the first boundary");
    for span in spans {
        let range = format!("bytes {}-{}/{length}", span.start, span.start + span.len - 1);
        let expected = format!("\r\nX: y\r\nContent-Range: {range}\r\n\r\n");
        rest = rest.strip_prefix(expected.as_bytes()).expect("a part's head");
        let end = rest.windows(delimiter.len()).position(|bytes| bytes == delimiter).expect("a part's end");
        assert_eq!(rest[..end], content[span.start as usize..][..span.len as usize]);
        rest = &rest[end + delimiter.len()..];
    }
    assert_eq!(rest, b"--\r\n");
}

/// An Accept-Encoding field. What is chosen is there, was asked for, and does not depend on what is not chosen.
pub fn coding(value: &[u8]) {
    let head = [b"GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: ", value, b"\r\n\r\n"].concat();
    let mut slots = FieldSlots::new();
    // A value with a line break in it is another head.
    let Ok(Some((request, len))) = head::parse(&Limits::default(), &head, &mut slots) else { return };
    if len != head.len() {
        return;
    }
    let asked = |coding: Coding| {
        let text = value.to_ascii_lowercase();
        let says = |word: &str| text.windows(word.len()).any(|bytes| bytes == word.as_bytes());
        says(coding.token()) || says("*")
    };
    for subset in 0..1 << Coding::ALL.len() {
        let there = Coding::ALL.into_iter().filter(|&coding| subset & 1 << coding as usize != 0);
        let Some(chosen) = coding::choose(&request.fields, there.clone()) else { continue };
        assert!(there.clone().any(|coding| coding == chosen) && asked(chosen), "{chosen:?}");
        assert_eq!(coding::choose(&request.fields, std::iter::once(chosen)), Some(chosen));
        for other in there.clone().filter(|other| *other != chosen) {
            let fewer = there.clone().filter(|&coding| coding != other);
            assert_eq!(coding::choose(&request.fields, fewer), Some(chosen), "without {other:?}");
        }
    }
}

/// What a client says about itself, a line each, and then what the proxies add: whatever the client says, the address that the
/// outermost trusted proxy saw is the client's, or nothing is. The first byte chooses the form, and where the proxies add.
pub fn forwarded(data: &[u8]) {
    let Some((&choice, said)) = data.split_first() else { return };
    let (name, prefix) = if choice & 1 == 0 { ("Forwarded", "for=") } else { ("X-Forwarded-For", "") };
    let mut lines: Vec<Vec<u8>> = said.split(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
    let added = format!("{prefix}192.0.2.7, {prefix}10.1.1.1");
    let on_its_own_line = choice & 2 == 0;
    match lines.last_mut() {
        Some(last) if !on_its_own_line => last.extend_from_slice(format!(", {added}").as_bytes()),
        _ => lines.push(added.into_bytes()),
    }
    let fields = lines.iter().flat_map(|line| [name.as_bytes(), b": ", line, b"\r\n"].concat());
    let head: Vec<u8> = b"GET / HTTP/1.1\r\nHost: a\r\n".iter().copied().chain(fields).chain(*b"\r\n").collect();
    let limits = Limits { fields_max: 256, head_bytes_max: 1 << 20, field_bytes_max: 1 << 20, ..Limits::default() };
    let mut slots = FieldSlots::new();
    // What breaks the head is refused before anybody asks who sent it.
    let Ok(Some((request, len))) = head::parse(&limits, &head, &mut slots) else { return };
    if len != head.len() || request.fields.iter().count() != lines.len() + 1 {
        return;
    }
    let trusted = Trusted { networks: Network::parse("10.0.0.0/8").into_iter().collect(), unix: false };
    let client = forwarded::client(&request.fields, &trusted);
    let seen = client.addr.map(|addr| addr.to_string());
    // A quote that a client leaves open hides what is added to its line, and so everybody.
    let may_be_hidden = name == "Forwarded" && !on_its_own_line;
    assert!(seen.as_deref() == Some("192.0.2.7") || seen.is_none() && may_be_hidden, "{seen:?}");
    if let Some(host) = client.host {
        assert!(super::target::is_authority(host));
    }
}

/// The start of a connection. A header is whole at one length: before it nothing is known, after it nothing changes. A fault
/// stays one.
pub fn proxy_protocol(data: &[u8]) {
    let whole = proxy_protocol::parse(data);
    if let Ok(Some(header)) = whole {
        assert!(header.len <= data.len() && header.len <= proxy_protocol::HEADER_BYTES_MAX);
    }
    let mut decided = None;
    for len in 0..=data.len() {
        let read = proxy_protocol::parse(&data[..len]);
        match (decided, read) {
            (None, Ok(None)) => {}
            (None, Ok(Some(header))) => {
                assert_eq!(header.len, len);
                decided = Some(read);
            }
            (None, Err(_)) => decided = Some(read),
            (Some(before), read) => assert_eq!(before, read, "at {len} bytes"),
        }
    }
    assert_eq!(decided.unwrap_or(Ok(None)), whole);
}
