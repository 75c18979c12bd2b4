//! A record as an object of JSON (RFC 8259). All of it is ASCII: what is not printable there is `\uXXXX`, so that no
//! viewer of the raw log is led astray by control characters, or by those that turn the direction of text.
//!
//! What a client sends need not be UTF-8, and a string of JSON must be. In a field that is not, each byte that fits nowhere
//! is the text `\xHH` and each backslash is doubled, and the field's name stands in `escaped`: nothing is lost, and nothing
//! is taken for something else.

use super::{Ending, HEX, Moment, Record, ScriptEnd, name_of, write_decimal};

pub(super) fn write(record: &Record<'_>, out: &mut Vec<u8>) {
    let mut object = Object { out, escaped: [""; TEXTS], count: 0 };
    let line = record.request;
    object.out.extend_from_slice(b"{\"time\":\"");
    write_time(record.moment, object.out);
    object.out.push(b'"');
    let remote = Some(record.remote.as_bytes()).filter(|remote| !remote.is_empty());
    object.text("remote", remote);
    object.text("user", record.user);
    object.text("method", line.as_ref().map(|line| line.method.as_str().as_bytes()));
    object.text("target", line.map(|line| line.target));
    object.text("protocol", line.map(|line| name_of(line.version).as_bytes()));
    object.text("host", record.host);
    object.number("status", record.status.into());
    object.number("bytes", record.body_bytes);
    object.raw("complete", if record.complete { b"true" } else { b"false" });
    object.number("duration_us", record.duration_us);
    object.maybe("first_byte_us", record.first_byte_us);
    object.text("referer", record.referer);
    object.text("user_agent", record.user_agent);
    object.number("core", record.place.core.into());
    object.number("connection", record.place.connection);
    object.number("request", record.place.request);
    if let Some(script) = record.script {
        object.script(script);
    }
    if let Some(why) = record.refused {
        object.text("refused", Some(why.as_bytes()));
    }
    object.end();
}

/// An object that is being written.
struct Object<'o> {
    out: &'o mut Vec<u8>,
    /// Names of the fields that were not UTF-8, and how many there are.
    escaped: [&'static str; TEXTS],
    count: usize,
}

/// Fields of a record that are text.
const TEXTS: usize = 9;

impl Object<'_> {
    fn name(&mut self, name: &str) {
        self.out.extend_from_slice(b",\"");
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn raw(&mut self, name: &str, value: &[u8]) {
        self.name(name);
        self.out.extend_from_slice(value);
    }

    fn number(&mut self, name: &str, number: u64) {
        self.name(name);
        write_decimal(number, self.out);
    }

    fn maybe(&mut self, name: &str, number: Option<u64>) {
        match number {
            Some(number) => self.number(name, number),
            None => self.raw(name, b"null"),
        }
    }

    fn text(&mut self, name: &'static str, bytes: Option<&[u8]>) {
        let Some(bytes) = bytes else { return self.raw(name, b"null") };
        self.name(name);
        self.out.push(b'"');
        match std::str::from_utf8(bytes) {
            Ok(text) => text.chars().for_each(|c| write_char(c, self.out)),
            Err(_) => {
                self.escaped[self.count] = name;
                self.count += 1;
                write_lossless(bytes, self.out);
            }
        }
        self.out.push(b'"');
    }

    fn script(&mut self, script: ScriptEnd) {
        let (exit, signal) = match script.ending {
            Some(Ending::Exit(code)) => (u64::try_from(code).ok(), None),
            Some(Ending::Signal(signal)) => (None, u64::try_from(signal).ok()),
            None => (None, None),
        };
        self.name("cgi");
        self.out.extend_from_slice(b"{\"run_us\":");
        write_decimal(script.run_us, self.out);
        self.maybe("exit", exit);
        self.maybe("signal", signal);
        self.out.push(b'}');
    }

    fn end(self) {
        if self.count > 0 {
            self.out.extend_from_slice(b",\"escaped\":[");
            for (index, name) in self.escaped[..self.count].iter().enumerate() {
                self.out.extend_from_slice(if index == 0 { b"\"" } else { b",\"" });
                self.out.extend_from_slice(name.as_bytes());
                self.out.push(b'"');
            }
            self.out.push(b']');
        }
        self.out.push(b'}');
    }
}

fn write_char(c: char, out: &mut Vec<u8>) {
    match c {
        '"' | '\\' => out.extend_from_slice(&[b'\\', c as u8]),
        ' '..='~' => out.push(c as u8),
        _ => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| {
            out.extend_from_slice(b"\\u");
            let digit = |shift: u32| HEX[usize::from(unit >> shift & 15)];
            out.extend_from_slice(&[digit(12), digit(8), digit(4), digit(0)]);
        }),
    }
}

fn write_lossless(bytes: &[u8], out: &mut Vec<u8>) {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '\\' {
                write_char(c, out);
            }
            write_char(c, out);
        }
        for byte in chunk.invalid() {
            write_char('\\', out);
            out.extend_from_slice(&[b'x', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}

/// `2026-11-21T11:10:46.000042Z` (RFC 3339).
fn write_time(moment: Moment<'_>, out: &mut Vec<u8>) {
    let date = moment.date;
    let month = MONTHS.iter().position(|month| **month == date[8..11]).map_or(0, |index| index + 1);
    out.extend_from_slice(&date[12..16]);
    out.extend_from_slice(&[b'-', b'0' + (month / 10) as u8, b'0' + (month % 10) as u8, b'-']);
    out.extend_from_slice(&date[5..7]);
    out.push(b'T');
    out.extend_from_slice(&date[17..25]);
    out.push(b'.');
    let digit = |place: u32| b'0' + (moment.micros / place % 10) as u8;
    out.extend_from_slice(&[100_000, 10_000, 1_000, 100, 10, 1].map(digit));
    out.push(b'Z');
}

/// As an IMF-fixdate has them (RFC 9110 section 5.6.7).
const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

#[cfg(test)]
mod tests {
    use super::super::tests::{RECORD, line};
    use super::super::{Form, Place, RequestLine};
    use super::*;
    use crate::http::request::{Method, Version};
    use serde_json::{Value, json};

    fn value(record: &Record<'_>) -> Value {
        serde_json::from_str(&line(Form::Json, record)).expect("JSON")
    }

    #[test]
    fn a_line_is_an_object() {
        assert_eq!(
            line(Form::Json, &RECORD),
            "{\"time\":\"2026-11-21T11:10:46.000042Z\",\"remote\":\"192.0.2.7\",\"user\":null,\"method\":\"GET\",\
             \"target\":\"/a?b\",\"protocol\":\"HTTP/1.1\",\"host\":\"example.com\",\"status\":200,\"bytes\":1234,\
             \"complete\":true,\"duration_us\":513,\"first_byte_us\":480,\"referer\":null,\"user_agent\":\"curl/8\",\
             \"core\":1,\"connection\":17,\"request\":3}\n"
        );
    }

    #[test]
    fn what_is_missing_is_null_and_what_is_rare_is_there_when_it_is() {
        let script = ScriptEnd { ending: Some(Ending::Signal(9)), run_us: 7 };
        let (place, status) = (Place::default(), 400);
        let refused = Some("no \"Host\"");
        let record = Record { remote: "", request: None, first_byte_us: None, place, status, refused, ..RECORD };
        let value = value(&Record { script: Some(script), complete: false, ..record });
        for name in ["remote", "user", "method", "target", "protocol", "first_byte_us", "referer"] {
            assert_eq!(value[name], Value::Null, "{name}");
        }
        assert_eq!(value["refused"], "no \"Host\"");
        assert_eq!(value["cgi"], json!({ "exit": null, "signal": 9, "run_us": 7 }));
        assert_eq!(value["complete"], false);
    }

    #[test]
    fn bytes_that_are_not_text_are_marked_and_can_be_had_back() {
        let request = |target| Some(RequestLine { method: Method::Get, target, version: Version::Http11 });
        let text = value(&Record { request: request("/\\x41 é\u{202e}😀\u{1b}".as_bytes()), ..RECORD });
        assert_eq!((&text["target"], &text["escaped"]), (&json!("/\\x41 é\u{202e}😀\u{1b}"), &Value::Null));
        let bytes = value(&Record { request: request(b"/\\x41 \xff\xc3"), user: Some(b"\xfe"), ..RECORD });
        assert_eq!(bytes["target"], "/\\\\x41 \\xff\\xc3");
        assert_eq!(bytes["escaped"], json!(["user", "target"]));
    }

    /// What was written into a field that is marked as escaped.
    fn unescaped(text: &str) -> Vec<u8> {
        let (mut bytes, mut rest) = (Vec::new(), text);
        while let Some(c) = rest.chars().next() {
            let (byte, taken) = match rest.as_bytes() {
                [b'\\', b'\\', ..] => (Some(b'\\'), 2),
                [b'\\', b'x', ..] => (Some(u8::from_str_radix(&rest[2..4], 16).unwrap()), 4),
                _ => (None, c.len_utf8()),
            };
            match byte {
                Some(byte) => bytes.push(byte),
                None => bytes.extend_from_slice(&rest.as_bytes()[..taken]),
            }
            rest = &rest[taken..];
        }
        bytes
    }

    proptest::proptest! {
        #[test]
        fn every_byte_comes_back(agent: Vec<u8>, host: Vec<u8>) {
            let value = value(&Record { user_agent: Some(&agent), host: Some(&host), ..RECORD });
            let escaped = value["escaped"].as_array().cloned().unwrap_or_default();
            for (name, sent) in [("user_agent", &agent), ("host", &host)] {
                let text = value[name].as_str().unwrap();
                let back = if escaped.contains(&json!(name)) { unescaped(text) } else { text.as_bytes().to_vec() };
                proptest::prop_assert_eq!(&back, sent);
            }
        }
    }
}
