//! The transcripts of `tests/wire/*.md`: bytes in, events out. `tests/wire/README.md` says how to read and write them.
//!
//! Every case runs whole, split in two at every byte, and byte by byte. The events must be the same.

use std::fmt::Write;
use std::path::Path;

use ucaffeine::http::Millis;
use ucaffeine::http::conn::{BodyEvent, Conn, Event, Next};
use ucaffeine::http::limits::Limits;
use ucaffeine::http::request::{FieldSlots, Framing, Request, Version};

#[test]
fn transcripts_hold_however_the_bytes_are_split() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wire");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let (mut cases, mut failures) = (0, String::new());
    for file in files.iter().filter(|file| file.file_name().is_some_and(|name| name != "README.md")) {
        for case in Case::parse_all(file) {
            cases += 1;
            if let Err(failure) = case.run() {
                writeln!(failures, "{}: {}\n{failure}", file.display(), case.title).unwrap();
            }
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
    assert!(cases > 150, "only {cases} cases were found");
}

/// A case: steps in order, and after each group of actions the events that it must have caused.
struct Case {
    title: String,
    groups: Vec<Group>,
}

#[derive(Default)]
struct Group {
    actions: Vec<Action>,
    expected: Vec<String>,
}

enum Action {
    Bytes(Vec<u8>),
    Limit(String, u64),
    /// Time passes.
    Wait(Millis),
    Fin,
    /// The server wants to stop.
    Stop,
    /// From now on the server answers without reading bodies.
    AnswerEarly,
    /// From now on each request is followed by its fields.
    ShowFields,
}

impl Case {
    fn parse_all(file: &Path) -> Vec<Case> {
        let (mut cases, mut is_fenced) = (Vec::<Case>::new(), false);
        for (number, line) in std::fs::read_to_string(file).unwrap().lines().enumerate() {
            match line.split_at_checked(2).unwrap_or((line, "")) {
                ("##", title) => cases.push(Case { title: format!("line {}:{title}", number + 1), groups: Vec::new() }),
                ("``", _) => is_fenced = !is_fenced,
                ("> " | "@ " | "< ", text) if is_fenced => cases.last_mut().unwrap().push(&line[..1], text),
                _ => assert!(!is_fenced, "{}:{}: not a step: {line:?}", file.display(), number + 1),
            }
        }
        cases
    }

    fn push(&mut self, mark: &str, text: &str) {
        let starts_group = mark != "<" && self.groups.last().is_none_or(|group| !group.expected.is_empty());
        if starts_group {
            self.groups.push(Group::default());
        }
        let group = self.groups.last_mut().expect("events come after actions");
        match mark {
            "<" => group.expected.push(text.to_string()),
            ">" => match group.actions.last_mut() {
                Some(Action::Bytes(bytes)) => bytes.extend(unescape(text)),
                _ => group.actions.push(Action::Bytes(unescape(text))),
            },
            _ => group.actions.push(Action::parse(text)),
        }
    }

    fn run(&self) -> Result<(), String> {
        let total = self.groups.iter().flat_map(|group| &group.actions).map(Action::len).sum::<usize>();
        // Cases of tens of kilobytes are few; they are split at some thousands of places.
        let step = 1 + total / 4_000;
        self.run_split("whole", |_| false)?;
        self.run_split("byte by byte", |_| true)?;
        (1..total).step_by(step).try_for_each(|at| self.run_split(&format!("split at {at}"), |offset| offset == at))
    }

    fn run_split(&self, how: &str, is_split_at: impl Fn(usize) -> bool) -> Result<(), String> {
        let (mut server, mut offset) = (Server::new(), 0);
        for group in &self.groups {
            for action in &group.actions {
                let Action::Bytes(bytes) = action else {
                    server.act(action);
                    server.pump();
                    continue;
                };
                for byte in bytes {
                    if offset > 0 && is_split_at(offset) {
                        server.pump();
                    }
                    server.unread.push(*byte);
                    offset += 1;
                }
                server.pump();
            }
            if group.expected.last().is_some_and(|line| line.starts_with("waits until")) {
                server.note_deadline();
            }
            let events = std::mem::take(&mut server.events);
            if events != group.expected {
                let (expected, events) = (group.expected.join("\n    < "), events.join("\n    < "));
                return Err(format!("  {how}, expected\n    < {expected}\n  but there was\n    < {events}\n"));
            }
        }
        Ok(())
    }
}

impl Action {
    fn parse(text: &str) -> Action {
        let words: Vec<_> = text.split(' ').collect();
        match words[..] {
            ["limit", name, value] => Action::Limit(name.to_string(), value.parse().unwrap()),
            ["wait", ms] => Action::Wait(ms.parse().unwrap()),
            ["fin"] => Action::Fin,
            ["stop"] => Action::Stop,
            ["answer", "early"] => Action::AnswerEarly,
            ["show", "fields"] => Action::ShowFields,
            _ => panic!("no such action: {text}"),
        }
    }

    fn len(&self) -> usize {
        if let Action::Bytes(bytes) = self { bytes.len() } else { 0 }
    }
}

/// `\r`, `\n`, `\t`, `\0`, `\\`, `\xHH`, and `\{text*N}`: the text N times.
fn unescape(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text);
    while let Some((plain, escaped)) = rest.split_once('\\') {
        bytes.extend(plain.bytes());
        let used = match escaped.as_bytes()[0] {
            b'x' => {
                bytes.push(u8::from_str_radix(&escaped[1..3], 16).unwrap());
                3
            }
            b'{' => {
                let (inside, _) = escaped[1..].split_once('}').unwrap();
                let (unit, times) = inside.rsplit_once('*').unwrap();
                bytes.extend(unescape(unit).repeat(times.parse().unwrap()));
                inside.len() + 2
            }
            letter => {
                let index = b"rnt0\\".iter().position(|&known| known == letter).expect("an escape");
                bytes.push(b"\r\n\t\0\\"[index]);
                1
            }
        };
        rest = &escaped[used..];
    }
    bytes.extend(rest.bytes());
    bytes
}

/// The least server around a `Conn`: it reads each body, answers at once, and writes down what it was told.
struct Server {
    limits: Limits,
    conn: Conn,
    now: Millis,
    unread: Vec<u8>,
    events: Vec<String>,
    state: State,
    answers_early: bool,
    shows_fields: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    Body { is_shown: bool },
    Closed,
}

impl Server {
    fn new() -> Server {
        Server {
            limits: Limits::default(),
            conn: Conn::new(0),
            now: 0,
            unread: Vec::new(),
            events: Vec::new(),
            state: State::Head,
            answers_early: false,
            shows_fields: false,
        }
    }

    fn act(&mut self, action: &Action) {
        let value = |value: &u64| *value as usize;
        match action {
            Action::Bytes(bytes) => self.unread.extend(bytes),
            Action::Wait(ms) => self.now += ms,
            Action::Fin => self.conn.end_of_input(),
            Action::Stop => self.conn.close_after(),
            Action::AnswerEarly => self.answers_early = true,
            Action::ShowFields => self.shows_fields = true,
            Action::Limit(name, limit) => match name.as_str() {
                "target_bytes_max" => self.limits.target_bytes_max = value(limit),
                "field_bytes_max" => self.limits.field_bytes_max = value(limit),
                "fields_max" => self.limits.fields_max = value(limit),
                "head_bytes_max" => self.limits.head_bytes_max = value(limit),
                "trailer_bytes_max" => self.limits.trailer_bytes_max = value(limit),
                "chunk_ext_bytes_max" => self.limits.chunk_ext_bytes_max = value(limit),
                "drain_bytes_max" => self.limits.drain_bytes_max = *limit,
                _ => panic!("no such limit: {name}"),
            },
        }
    }

    /// Goes on until bytes, or time, are missing.
    fn pump(&mut self) {
        while match self.state {
            State::Head => self.read_head(),
            State::Body { is_shown } => self.read_body(is_shown),
            State::Closed => false,
        } {}
    }

    fn read_head(&mut self) -> bool {
        let mut again = FieldSlots::new();
        let first = format!("{:?}", self.conn.poll(&self.limits, self.now, &self.unread, &mut again));
        let mut slots = FieldSlots::new();
        let event = self.conn.poll(&self.limits, self.now, &self.unread, &mut slots);
        assert_eq!(first, format!("{event:?}"), "the same bytes give the same event");
        match event {
            Event::NeedBytes { .. } => return false,
            Event::Over => {
                self.events.push("over".to_string());
                self.state = State::Closed;
            }
            Event::Refuse(refusal) => {
                self.events.push(format!("refuse {} {}", refusal.status.code(), refusal.why));
                self.state = State::Closed;
            }
            Event::Request { request, head_len } => {
                self.events.push(show(&request));
                if self.shows_fields {
                    let shown = |(name, value): (&str, &[u8])| format!("field {name}: {}", value.escape_ascii());
                    self.events.extend(request.fields.iter().map(shown));
                }
                self.conn.begin(&self.limits, self.now, &request);
                assert!(!self.conn.is_between_requests());
                self.state = State::Body { is_shown: request.framing != Framing::None && !self.answers_early };
                self.unread.drain(..head_len);
                if self.answers_early {
                    self.finish();
                }
            }
        }
        true
    }

    fn read_body(&mut self, is_shown: bool) -> bool {
        match self.conn.body(&self.limits, self.now, &self.unread) {
            BodyEvent::Data { skip, len } => {
                let payload = self.unread[skip..skip + len].escape_ascii().to_string();
                self.unread.drain(..skip + len);
                match self.events.last_mut() {
                    Some(line) if is_shown && line.starts_with("body ") => line.push_str(&payload),
                    _ if is_shown => self.events.push(format!("body {payload}")),
                    _ => {}
                }
            }
            BodyEvent::NeedBytes { consumed, .. } => {
                self.unread.drain(..consumed);
                return false;
            }
            BodyEvent::End { consumed } => {
                self.unread.drain(..consumed);
                if is_shown {
                    self.events.push("end".to_string());
                }
                self.finish();
            }
            BodyEvent::Refuse(refusal) => {
                self.events.push(format!("refuse {} {}", refusal.status.code(), refusal.why));
                assert!(!self.conn.keep_alive());
                self.state = State::Closed;
            }
            BodyEvent::Cut => {
                self.events.push("cut".to_string());
                assert!(!self.conn.keep_alive());
                self.state = State::Closed;
            }
        }
        true
    }

    fn finish(&mut self) {
        let said_keep_alive = self.conn.keep_alive();
        let next = self.conn.finish(&self.limits, self.now);
        assert_eq!(said_keep_alive, matches!(next, Next::KeepAlive | Next::Drain));
        let (word, state) = match next {
            Next::KeepAlive => ("keep-alive", State::Head),
            Next::Drain => ("drain", State::Body { is_shown: false }),
            Next::Close => ("close", State::Closed),
            Next::CloseLingering => ("close lingering", State::Closed),
        };
        self.events.push(word.to_string());
        self.state = state;
    }

    fn note_deadline(&mut self) {
        let mut slots = FieldSlots::new();
        let until = match self.state {
            State::Head => match self.conn.poll(&self.limits, self.now, &self.unread, &mut slots) {
                Event::NeedBytes { until } => until,
                event => panic!("{event:?}"),
            },
            State::Body { .. } => match self.conn.body(&self.limits, self.now, &self.unread) {
                BodyEvent::NeedBytes { until, .. } => until,
                event => panic!("{event:?}"),
            },
            State::Closed => return,
        };
        self.events.push(format!("waits until {until}"));
    }
}

/// A request on one line: what it says, and then what is unusual about it.
fn show(request: &Request<'_>) -> String {
    let version = if request.version == Version::Http10 { "1.0" } else { "1.1" };
    let target = request.target.escape_ascii();
    let mut line = format!("{} {target} {version} host={}", request.method.as_str(), request.host.escape_ascii());
    let query = request.query.map(|query| [b"?", query].concat()).unwrap_or_default();
    if [request.path, &query].concat() != request.target {
        write!(line, " path={}{}", request.path.escape_ascii(), query.escape_ascii()).unwrap();
    }
    match request.framing {
        Framing::None => {}
        Framing::Length(length) => write!(line, " length={length}").unwrap(),
        Framing::Chunked => line.push_str(" chunked"),
    }
    if request.expects_continue {
        line.push_str(" expects-continue");
    }
    line
}
