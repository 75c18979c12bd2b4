//! One connection: whose turn it is, how a body is framed, whether it stays open, and until when to wait. Never
//! bytes, never a clock: both are arguments.
//!
//! ```text
//!            poll: Request        begin                      finish
//!   Head ───────────────────▶ (caller) ─────▶ Exchange ──────────────────▶ Head (KeepAlive)
//!    │                                         │    │ └──────────────────▶ Draining ──finish──▶ Head
//!    └─ poll: Refuse, Over                     │    └─ finish: Close, CloseLingering
//!                                              └─ body: Data*, End
//! ```

pub use super::refusal::Refusal;

use super::Millis;
use super::body::Body;
use super::chunked::Decoded;
use super::head;
use super::limits::Limits;
use super::pace::{Pace, Terms};
use super::refusal::Fault;
use super::request::{FieldSlots, Request};
use super::scan::Scan;

/// The state of one connection.
#[derive(Debug)]
pub struct Conn {
    phase: Phase,
    terms: Terms,
    /// The client's patience budget while we wait for its body.
    upload: Pace,
    /// And while it takes our reply.
    reply: Pace,
    /// How much of the body may be read only to keep the connection usable.
    drain_bytes_left: u32,
    /// Requests that have begun.
    requests: u32,
    /// The last `body` found nothing: time passes on the client's account.
    waits_for_body: bool,
    /// The client waits for 100 Continue, and nobody asked for its body yet.
    holds_back_body: bool,
    /// The client would keep the connection.
    client_stays: bool,
    /// We will not.
    closes: bool,
    input_ended: bool,
}

#[derive(Debug)]
enum Phase {
    /// Between requests, or in a head that has begun.
    Head {
        since: Millis,
        has_begun: bool,
        scan: Scan,
    },
    /// A request is being answered.
    Exchange(Body),
    /// It was answered; what is left of its body is read and dropped.
    Draining(Body),
    Refused(Fault),
}

/// What [`Conn::poll`] found.
#[derive(Debug)]
pub enum Event<'b> {
    /// Nothing whole is there; wait no longer than `until`.
    NeedBytes {
        /// When to poll again at the latest.
        until: Millis,
    },
    /// A request. Nothing changes until [`Conn::begin`].
    Request {
        /// The head.
        request: Request<'b>,
        /// How much of the unread bytes it takes, a tolerated blank line before it included.
        head_len: usize,
    },
    /// Answer this and close, lingering.
    Refuse(Refusal),
    /// The peer has finished, or was idle for too long: close without a word.
    Over,
}

/// What [`Conn::body`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyEvent {
    /// Payload at `unread[skip..skip + len]`; consume `skip + len`.
    Data {
        /// Framing before the payload.
        skip: usize,
        /// The payload's length, never 0.
        len: usize,
    },
    /// Consume `consumed`, and wait for more, no longer than `until`.
    NeedBytes {
        /// Framing that was read.
        consumed: usize,
        /// When to ask again at the latest.
        until: Millis,
    },
    /// The body is over.
    End {
        /// Framing that was read.
        consumed: usize,
    },
    /// The body is malformed or too slow: answer this if nothing was answered yet, and close, lingering.
    Refuse(Refusal),
    /// The rest will not come, or is not worth reading: the peer hung up, or too much is left after the reply. Close.
    Cut,
}

/// What follows a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Poll for the next request.
    KeepAlive,
    /// A part of the body is unread: call [`Conn::body`] and drop what it finds until `End`, then finish again.
    Drain,
    /// Close; the client asked for it and has sent all that it announced. With unread bytes left, linger all the same.
    Close,
    /// Close for writing, read and drop for a while, then close: the client may still be sending, and a reset would
    /// destroy the reply on its way (RFC 9112 section 9.6).
    CloseLingering,
}

impl Conn {
    /// A connection that was just accepted.
    pub fn new(now: Millis) -> Conn {
        let terms = Terms::new(&Limits::default());
        let pace = Pace::start(terms, now);
        Conn {
            phase: Phase::Head { since: now, has_begun: false, scan: Scan::new() },
            terms,
            upload: pace,
            reply: pace,
            drain_bytes_left: 0,
            requests: 0,
            waits_for_body: false,
            holds_back_body: false,
            client_stays: false,
            closes: false,
            input_ended: false,
        }
    }

    /// Looks for a request at the start of `unread`. The same bytes give the same event until [`Conn::begin`]; bytes
    /// are only ever added at the end. Not to be called while a request is being answered.
    pub fn poll<'b>(
        &mut self,
        limits: &Limits,
        now: Millis,
        unread: &'b [u8],
        slots: &'b mut FieldSlots<'b>,
    ) -> Event<'b> {
        let (since, has_begun, scan) = match &mut self.phase {
            Phase::Head { since, has_begun, scan } => (since, has_begun, scan),
            Phase::Refused(fault) => return Event::Refuse(fault.refusal()),
            Phase::Exchange(_) | Phase::Draining(_) => return Event::Over,
        };
        // A blank line alone is not a head that has begun: some clients send one after a body.
        if !*has_begun && !matches!(unread, b"" | b"\r" | b"\r\n") {
            *has_begun = true;
            *since = now;
        }
        match head::read(limits, scan, unread, slots) {
            Ok(Some((request, head_len))) => Event::Request { request, head_len },
            Ok(None) => self.wait_for_head(limits, now),
            Err(fault) => self.refuse(fault),
        }
    }

    /// The head of that request was consumed, and its answer begins.
    pub fn begin(&mut self, limits: &Limits, now: Millis, request: &Request<'_>) {
        self.phase = Phase::Exchange(Body::new(request.framing));
        self.requests = self.requests.saturating_add(1);
        self.terms = Terms::new(limits);
        self.upload = Pace::start(self.terms, now);
        self.reply = Pace::start(self.terms, now);
        self.drain_bytes_left = u32::try_from(limits.drain_bytes_max).unwrap_or(u32::MAX);
        self.waits_for_body = false;
        self.holds_back_body = request.expects_continue;
        self.client_stays = request.keep_alive;
    }

    /// How many requests have begun on this connection.
    pub fn requests(&self) -> u32 {
        self.requests
    }

    /// The peer sent FIN. What it has sent whole is still answered, pipelined requests too: half-close is legal.
    pub fn end_of_input(&mut self) {
        self.input_ended = true;
    }

    /// The next step through the body of the request that is being answered. The first call promises to read it: send
    /// 100 Continue before, if the request expects it.
    pub fn body(&mut self, limits: &Limits, now: Millis, unread: &[u8]) -> BodyEvent {
        let is_draining = matches!(self.phase, Phase::Draining(_));
        let (Phase::Exchange(body) | Phase::Draining(body)) = &mut self.phase else { return BodyEvent::Cut };
        self.holds_back_body = false;
        if !self.waits_for_body {
            self.upload.wait(now);
        }
        let is_late = self.waits_for_body && now >= self.upload.until(Millis::MAX);
        let decoded = body.decode(limits, unread);
        self.waits_for_body = matches!(decoded, Ok(Decoded::NeedBytes { .. }));
        let moved = match decoded {
            Ok(Decoded::Data { skip, len }) => skip + len,
            Ok(Decoded::NeedBytes { consumed } | Decoded::End { consumed }) => consumed,
            Err(_) => 0,
        } as u64;
        if moved > 0 {
            self.upload.progress(self.terms, now, moved);
        }
        if is_draining && !self.pay_for_drain(moved) {
            return BodyEvent::Cut;
        }
        match decoded {
            Ok(Decoded::Data { skip, len }) => BodyEvent::Data { skip, len },
            Ok(Decoded::End { consumed }) => BodyEvent::End { consumed },
            Ok(Decoded::NeedBytes { .. }) if self.input_ended => self.cut(),
            Ok(Decoded::NeedBytes { consumed: 0 }) if is_late => self.refuse_body(Fault::BodyTimeout),
            Ok(Decoded::NeedBytes { consumed }) => {
                BodyEvent::NeedBytes { consumed, until: self.upload.until(Millis::MAX) }
            }
            Err(fault) => self.refuse_body(fault),
        }
    }

    /// A send is about to start: the time since the last one was ours (a script was thinking), not the client's.
    pub fn sending(&mut self, now: Millis) {
        self.reply.wait(now);
    }

    /// So many bytes of the reply left.
    pub fn sent(&mut self, now: Millis, bytes: u64) {
        if bytes > 0 {
            self.reply.progress(self.terms, now, bytes);
        }
    }

    /// When to give up on a reply that is being sent. One that answers a request has the patience that it began with, whatever
    /// `limits` say by now.
    pub fn reply_until(&self, limits: &Limits) -> Millis {
        match self.phase {
            Phase::Exchange(_) | Phase::Draining(_) => self.reply.until(Millis::MAX),
            Phase::Head { .. } | Phase::Refused(_) => self.reply.until(limits.stall_ms_max),
        }
    }

    /// Whether the reply to the current request may say that the connection stays open. False once the client or the
    /// server wants it closed, while more of the body is unread than would be drained, and while a body is held back
    /// that nobody asked for (the client may send it or not: RFC 9110 section 10.1.1).
    ///
    /// The end of the input changes nothing here: a client that half-closed after several pipelined requests gets all
    /// answers.
    pub fn keep_alive(&self) -> bool {
        let can_be_drained = match &self.phase {
            Phase::Exchange(body) | Phase::Draining(body) => match body {
                Body::Length(left) => *left <= self.drain_bytes_left.into(),
                Body::Done | Body::Chunked(_) => true,
                Body::Failed(_) => false,
            },
            Phase::Head { .. } | Phase::Refused(_) => false,
        };
        can_be_drained && self.client_stays && !self.closes && !self.holds_back_body
    }

    /// This reply is the last one: the server is stopping, or cannot keep the framing.
    pub fn close_after(&mut self) {
        self.closes = true;
    }

    /// The reply was sent whole, or the rest of the body was drained.
    pub fn finish(&mut self, limits: &Limits, now: Millis) -> Next {
        let stays = self.keep_alive();
        let is_read_whole = match &self.phase {
            Phase::Exchange(body) | Phase::Draining(body) => body.is_done(),
            Phase::Head { .. } | Phase::Refused(_) => false,
        };
        match (stays, is_read_whole, &self.phase) {
            (true, true, _) => {
                self.phase = Phase::Head { since: now, has_begun: false, scan: Scan::new() };
                Next::KeepAlive
            }
            (true, false, Phase::Exchange(body)) => {
                self.drain_bytes_left = u32::try_from(limits.drain_bytes_max).unwrap_or(u32::MAX);
                self.phase = Phase::Draining(*body);
                Next::Drain
            }
            (true, false, _) => Next::Drain,
            (false, true, _) if !self.closes => Next::Close,
            (false, ..) => Next::CloseLingering,
        }
    }

    /// No request is being answered and nothing of the next one has come: the connection can be closed without loss.
    pub fn is_between_requests(&self) -> bool {
        matches!(self.phase, Phase::Head { has_begun: false, .. })
    }

    fn wait_for_head(&mut self, limits: &Limits, now: Millis) -> Event<'static> {
        let Phase::Head { since, has_begun, .. } = self.phase else { return Event::Over };
        let wait_ms_max = if has_begun { limits.head_ms_max } else { limits.idle_ms_max };
        let until = since.saturating_add(wait_ms_max);
        match (has_begun, self.input_ended, now >= until) {
            (false, true, _) | (false, _, true) => Event::Over,
            (true, true, _) => self.refuse(Fault::CutHead),
            (true, false, true) => self.refuse(Fault::HeadTimeout),
            (_, false, false) => Event::NeedBytes { until },
        }
    }

    fn refuse(&mut self, fault: Fault) -> Event<'static> {
        self.phase = Phase::Refused(fault);
        Event::Refuse(fault.refusal())
    }

    /// After the reply there is nobody left to tell.
    fn refuse_body(&mut self, fault: Fault) -> BodyEvent {
        match &mut self.phase {
            Phase::Exchange(body) => {
                *body = Body::Failed(fault);
                BodyEvent::Refuse(fault.refusal())
            }
            _ => self.cut(),
        }
    }

    fn cut(&mut self) -> BodyEvent {
        self.closes = true;
        BodyEvent::Cut
    }

    /// Whether the bytes just drained were still within the bound.
    fn pay_for_drain(&mut self, bytes: u64) -> bool {
        match u64::from(self.drain_bytes_left).checked_sub(bytes) {
            Some(left) => {
                self.drain_bytes_left = left as u32;
                true
            }
            None => {
                self.closes = true;
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UPLOAD: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n";

    /// A connection that began to answer the request in `head` at 0.
    fn answering(limits: &Limits, head: &[u8]) -> Conn {
        let mut conn = Conn::new(0);
        assert!(conn.is_between_requests());
        let mut slots = FieldSlots::new();
        match conn.poll(limits, 0, head, &mut slots) {
            Event::Request { request, head_len } if head_len == head.len() => conn.begin(limits, 0, &request),
            event => panic!("{event:?}"),
        }
        conn
    }

    #[test]
    fn ten_thousand_idle_connections_fit_a_megabyte() {
        assert!(size_of::<Conn>() <= 96, "{}", size_of::<Conn>());
    }

    #[test]
    fn a_body_costs_the_client_only_the_time_that_we_wait_for_it() {
        let limits = Limits::default();
        let mut conn = answering(&limits, UPLOAD);
        // The script is slow to start.
        assert_eq!(conn.body(&limits, 50_000, b""), BodyEvent::NeedBytes { consumed: 0, until: 80_000 });
        assert_eq!(conn.body(&limits, 70_000, b"abcd"), BodyEvent::Data { skip: 0, len: 4 });
        // And slow to take more.
        assert_eq!(conn.body(&limits, 500_000, b""), BodyEvent::NeedBytes { consumed: 0, until: 510_008 });
        // Asking early changes nothing.
        assert_eq!(conn.body(&limits, 505_000, b""), BodyEvent::NeedBytes { consumed: 0, until: 510_008 });
        let refusal = Fault::BodyTimeout.refusal();
        assert_eq!(conn.body(&limits, 510_008, b""), BodyEvent::Refuse(refusal));
        assert_eq!(conn.body(&limits, 510_009, b"late"), BodyEvent::Refuse(refusal));
        assert_eq!(conn.finish(&limits, 510_009), Next::CloseLingering);
    }

    #[test]
    fn a_reply_costs_the_client_only_the_time_that_a_send_takes() {
        let limits = Limits::default();
        let mut conn = answering(&limits, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(conn.reply_until(&limits), 30_000);
        conn.sending(60_000);
        assert_eq!(conn.reply_until(&limits), 90_000);
        conn.sent(80_000, 1_000);
        assert_eq!(conn.reply_until(&limits), 80_000 + 10_000 + 2_000);
        conn.sent(85_000, 0);
        assert_eq!(conn.reply_until(&limits), 92_000, "nothing sent is no progress");
        conn.sent(85_000, 1 << 20);
        assert_eq!(conn.reply_until(&limits), 115_000, "never more than the whole patience");
        // Limits may be replaced while it is under way: those that it began with hold to its end.
        assert_eq!(conn.reply_until(&Limits { stall_ms_max: 5_000, ..limits }), 115_000);
    }

    #[test]
    fn an_unread_body_decides_whether_the_reply_may_say_keep_alive() {
        let limits = Limits::default();
        let mut conn = answering(&limits, UPLOAD);
        assert!(!conn.keep_alive(), "100,000 bytes are more than are drained");
        assert_eq!(conn.body(&limits, 0, &[0; 40_000]), BodyEvent::Data { skip: 0, len: 40_000 });
        assert!(conn.keep_alive(), "60,000 are not");
        conn.close_after();
        assert!(!conn.keep_alive());
    }

    #[test]
    fn a_connection_outlives_misuse() {
        let limits = Limits::default();
        let mut conn = Conn::new(0);
        assert_eq!(conn.body(&limits, 0, b"x"), BodyEvent::Cut);
        assert_eq!(conn.finish(&limits, 0), Next::CloseLingering);
        let mut conn = answering(&limits, UPLOAD);
        let mut slots = FieldSlots::new();
        assert!(matches!(conn.poll(&limits, 0, UPLOAD, &mut slots), Event::Over));
    }
}
