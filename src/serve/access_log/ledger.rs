//! What is to be written down about the requests of one connection: each from its first byte to the last of its reply, exactly
//! once, however it ends.
//!
//! Replies are places in the stream of bytes that the connection sends. A request is over when the last byte of its reply has been
//! taken, and what was not over when the connection ended is written down with what was taken of it. So nobody who sends bytes
//! has to know of the log: they say what was sent, as they do for the deadlines ([`Logged::sent`]).

use std::collections::VecDeque;
use std::io::Write;
use std::net::IpAddr;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use crate::http::Millis;
use crate::http::conn::Conn;
use crate::http::request::{Known, Method, Request, Version};
use crate::http::status::Status;
use crate::rt::time::Instant;
use crate::site::log_line::{Moment, NOT_ANSWERED, Place, Record, RequestLine, ScriptEnd};

use super::super::worker::Worker;

/// A connection's state, and what the log is to know of it.
pub(in crate::serve) struct Logged {
    conn: Conn,
    /// Nothing where there is no log.
    ledger: Option<Box<Ledger>>,
}

/// Where in the send buffer a reply is.
#[derive(Clone, Copy)]
pub(in crate::serve) struct Layout {
    /// What was in the buffer before it.
    pub(in crate::serve) before: usize,
    /// What is in it now.
    pub(in crate::serve) after: usize,
    /// Of its body.
    pub(in crate::serve) body_bytes: u64,
    /// The body is in the buffer, too; else it follows.
    pub(in crate::serve) is_gathered: bool,
}

/// The requests of one connection.
struct Ledger {
    worker: Rc<Worker>,
    remote: Box<str>,
    connection: u64,
    requests: u64,
    /// When the first byte of the next request was there.
    heard_ns: Option<u64>,
    /// When the send that is under way was begun.
    began_ns: u64,
    /// Bytes that the connection has taken.
    sent: u64,
    /// Empty-handed between two requests: an idle connection holds no buffer.
    pages: Option<Box<Pages>>,
}

/// What was asked for, and is not over.
#[derive(Default)]
pub(super) struct Pages {
    entries: VecDeque<Entry>,
    /// What requests have said: their own bytes do not stay.
    text: Vec<u8>,
}

struct Entry {
    request: u64,
    line: Option<(Method, Span, Version)>,
    client: Option<Span>,
    user: Option<Span>,
    host: Option<Span>,
    referer: Option<Span>,
    user_agent: Option<Span>,
    since_ns: u64,
    first_ns: Option<u64>,
    status: u16,
    /// Where in the stream its head begins, and its body; and where that ends, as far as it is known.
    head_at: u64,
    body_at: u64,
    end_at: u64,
    /// Of its body, without what frames it.
    body_bytes: u64,
    script: Option<ScriptEnd>,
    refused: Option<&'static str>,
}

/// A part of the text.
#[derive(Clone, Copy)]
struct Span(u32, u32);

/// A place in the stream that is not known yet.
const UNKNOWN: u64 = u64::MAX;
/// Pages that have grown beyond this are not kept.
const KEPT_TEXT_BYTES_MAX: usize = 16 << 10;
const KEPT_ENTRIES_MAX: usize = 512;

impl Logged {
    pub(in crate::serve) fn new(conn: Conn) -> Logged {
        Logged { conn, ledger: None }
    }

    /// From now on what requests come to is written down, if there is a log.
    /// `remote` is who is at the other end; empty on a Unix socket.
    pub(in crate::serve) fn follow(&mut self, worker: &Rc<Worker>, remote: &str) {
        self.ledger = worker.log.as_ref().map(|log| {
            Box::new(Ledger {
                worker: Rc::clone(worker),
                remote: remote.into(),
                connection: log.connection(),
                requests: 0,
                heard_ns: None,
                began_ns: 0,
                sent: 0,
                pages: None,
            })
        });
    }

    /// Bytes of a request are there.
    pub(in crate::serve) fn heard(&mut self) {
        if let Some(ledger) = &mut self.ledger {
            ledger.heard_ns.get_or_insert_with(|| Instant::now().as_nanos());
        }
    }

    /// A request will be answered: of this client, if a proxy named one, and of a user who was admitted by a password.
    pub(in crate::serve) fn asked(&mut self, request: &Request<'_>, client: Option<IpAddr>, user: Option<&[u8]>) {
        if let Some(ledger) = &mut self.ledger {
            ledger.open(Some(request));
            let Some(pages) = &mut ledger.pages else { return };
            let (client, user) = (pages.keep_addr(client), pages.keep(user));
            if let Some(entry) = pages.entries.back_mut() {
                (entry.client, entry.user) = (client, user);
            }
        }
    }

    /// What was no request will be answered.
    pub(in crate::serve) fn refused(&mut self, why: &'static str) {
        if let Some(ledger) = &mut self.ledger {
            ledger.open(None).refused = Some(why);
        }
    }

    /// The answer is known, and is in the send buffer or follows it.
    pub(in crate::serve) fn answered(&mut self, status: Status, layout: Layout) {
        if let Some(ledger) = &mut self.ledger {
            let sent = ledger.sent;
            let Some(entry) = ledger.last() else { return };
            let gathered = if layout.is_gathered { layout.body_bytes } else { 0 };
            entry.status = status.code();
            entry.head_at = sent + layout.before as u64;
            entry.body_at = sent + layout.after as u64 - gathered;
            entry.body_bytes = layout.body_bytes;
            entry.end_at = entry.body_at + layout.body_bytes;
        }
    }

    /// The head of an answer is known, and is in the send buffer; how long the answer will be is not.
    pub(in crate::serve) fn answering(&mut self, status: Status, before: usize, after: usize) {
        if let Some(ledger) = &mut self.ledger {
            let sent = ledger.sent;
            let Some(entry) = ledger.last() else { return };
            entry.status = status.code();
            (entry.head_at, entry.body_at) = (sent + before as u64, sent + after as u64);
        }
    }

    /// So much of that answer's body there is by now.
    pub(in crate::serve) fn grown(&mut self, body_bytes: u64) {
        if let Some(entry) = self.ledger.as_mut().and_then(|ledger| ledger.last()) {
            entry.body_bytes = body_bytes;
        }
    }

    /// There will be no more of it than what is in the send buffer, if its end was not known before.
    pub(in crate::serve) fn ended(&mut self, gathered: usize) {
        if let Some(ledger) = &mut self.ledger {
            let sent = ledger.sent;
            let Some(entry) = ledger.last().filter(|entry| entry.end_at == UNKNOWN) else { return };
            entry.end_at = sent + gathered as u64;
            ledger.close_over(Instant::fresh().as_nanos());
        }
    }

    /// What the program has come to that answers.
    pub(in crate::serve) fn ran(&mut self, script: ScriptEnd) {
        if let Some(entry) = self.ledger.as_mut().and_then(|ledger| ledger.last()) {
            entry.script = Some(script);
        }
    }

    /// As [`Conn::sending`].
    pub(in crate::serve) fn sending(&mut self, now: Millis) {
        self.conn.sending(now);
        if let Some(ledger) = &mut self.ledger {
            ledger.began_ns = Instant::fresh().as_nanos();
        }
    }

    /// As [`Conn::sent`].
    pub(in crate::serve) fn sent(&mut self, now: Millis, bytes: u64) {
        self.conn.sent(now, bytes);
        if let Some(ledger) = &mut self.ledger {
            ledger.sent(bytes, Instant::fresh().as_nanos());
        }
    }

    /// The same, of a send that took all of it when it was begun, although that is noticed only now.
    pub(in crate::serve) fn sent_at_once(&mut self, now: Millis, bytes: u64) {
        self.conn.sent(now, bytes);
        if let Some(ledger) = &mut self.ledger {
            ledger.sent(bytes, ledger.began_ns);
        }
    }
}

impl Deref for Logged {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        &self.conn
    }
}

impl DerefMut for Logged {
    fn deref_mut(&mut self) -> &mut Conn {
        &mut self.conn
    }
}

impl Ledger {
    fn open(&mut self, request: Option<&Request<'_>>) -> &mut Entry {
        let log = self.worker.log.as_ref();
        let pages = self.pages.get_or_insert_with(|| log.map(super::AccessLog::pages).unwrap_or_default());
        self.requests += 1;
        let field = |name| request.and_then(|request| request.fields.get(name));
        let host = request.map(|request| request.host).filter(|host| !host.is_empty());
        let (host, referer) = (pages.keep(host), pages.keep(field(Known::Referer)));
        let user_agent = pages.keep(field(Known::UserAgent));
        let line =
            request.and_then(|request| Some((request.method, pages.keep(Some(request.target))?, request.version)));
        pages.entries.push_back(Entry {
            request: self.requests,
            line,
            client: None,
            user: None,
            host,
            referer,
            user_agent,
            since_ns: self.heard_ns.take().unwrap_or_else(|| Instant::now().as_nanos()),
            first_ns: None,
            status: NOT_ANSWERED,
            head_at: UNKNOWN,
            body_at: UNKNOWN,
            end_at: UNKNOWN,
            body_bytes: 0,
            script: None,
            refused: None,
        });
        let last = pages.entries.len() - 1;
        &mut pages.entries[last]
    }

    fn last(&mut self) -> Option<&mut Entry> {
        self.pages.as_mut()?.entries.back_mut()
    }

    fn sent(&mut self, bytes: u64, at_ns: u64) {
        self.sent += bytes;
        self.close_over(at_ns);
    }

    /// Writes down what is over.
    fn close_over(&mut self, at_ns: u64) {
        let Some(pages) = &mut self.pages else { return };
        for entry in pages.entries.iter_mut().filter(|entry| entry.head_at < self.sent) {
            entry.first_ns.get_or_insert(at_ns);
        }
        while self.first().is_some_and(|entry| entry.end_at <= self.sent) {
            self.close_first(at_ns);
        }
        if self.first().is_none() {
            self.put_away();
        }
    }

    fn first(&self) -> Option<&Entry> {
        self.pages.as_ref()?.entries.front()
    }

    fn put_away(&mut self) {
        if let (Some(mut pages), Some(log)) = (self.pages.take(), &self.worker.log) {
            pages.text.clear();
            log.recycle(pages);
        }
    }

    fn close_first(&mut self, at_ns: u64) {
        let (Some(pages), Some(log)) = (&mut self.pages, &self.worker.log) else { return };
        let Some(entry) = pages.entries.pop_front() else { return };
        let Pages { text, .. } = &**pages;
        let part = |span: Option<Span>| span.map(|Span(from, to)| &text[from as usize..to as usize]);
        let since_us = |ns: u64| ns.saturating_sub(entry.since_ns) / 1000;
        let (date, micros) = self.worker.moment(at_ns);
        log.push(&Record {
            remote: part(entry.client).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or(&self.remote),
            user: part(entry.user),
            moment: Moment { date: &date, micros },
            request: entry.line.map(|(method, target, version)| RequestLine {
                method,
                target: part(Some(target)).unwrap_or_default(),
                version,
            }),
            host: part(entry.host),
            status: entry.status,
            body_bytes: entry.body_bytes.min(self.sent.saturating_sub(entry.body_at)),
            complete: entry.end_at <= self.sent,
            referer: part(entry.referer),
            user_agent: part(entry.user_agent),
            duration_us: since_us(at_ns),
            first_byte_us: entry.first_ns.map(since_us),
            place: Place { core: log.core(), connection: self.connection, request: entry.request },
            script: entry.script,
            refused: entry.refused,
        });
    }
}

impl Drop for Ledger {
    /// The connection has ended, and with it what it was in the middle of.
    fn drop(&mut self) {
        // After the runtime, there is no clock: then its last word has to do.
        let now_ns = Instant::try_now().map_or(self.began_ns, Instant::as_nanos);
        while self.first().is_some() {
            self.close_first(now_ns);
        }
        self.put_away();
    }
}

impl Pages {
    fn keep(&mut self, bytes: Option<&[u8]>) -> Option<Span> {
        let from = u32::try_from(self.text.len()).ok()?;
        self.text.extend_from_slice(bytes?);
        Some(Span(from, u32::try_from(self.text.len()).ok()?))
    }

    fn keep_addr(&mut self, addr: Option<IpAddr>) -> Option<Span> {
        let from = u32::try_from(self.text.len()).ok()?;
        // Into memory: it cannot fail.
        write!(self.text, "{}", addr?).ok()?;
        Some(Span(from, u32::try_from(self.text.len()).ok()?))
    }

    pub(super) fn is_small(&self) -> bool {
        self.text.capacity() <= KEPT_TEXT_BYTES_MAX && self.entries.capacity() <= KEPT_ENTRIES_MAX
    }
}
