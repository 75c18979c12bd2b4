//! One connection: sends what is due, reads what comes, and is made anew when it has ended.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ucaffeine::rt::RecvBuf;
use ucaffeine::rt::net::TcpStream;
use ucaffeine::rt::time::{self, Alarm, Sleep};

use super::thread::Thread;
use crate::reader::{Extent, Fault, Head, Part, Reader};
use crate::record::{Completion, ErrorClass};
use crate::traffic::{Body, Request, Wrong};

/// After a connect that failed, and twice as long after each further one, up to the second of these.
const RETRY_FIRST: Duration = Duration::from_millis(10);
const RETRY_MAX: Duration = Duration::from_secs(1);
/// A longer send may find no room, and is then awaited instead of hoped for.
const SMALL_SEND_BYTES: usize = 8 << 10;

/// The life of a connection's place: for as long as the schedule wants requests.
pub(super) async fn run(thread: Rc<Thread>, number: u32) {
    let mut retry = RETRY_FIRST;
    let mut tried = false;
    // Since when this place could have sent.
    let mut free_ns = 0;
    loop {
        let made = thread.connecting.connect(&thread.plan, thread.first).await;
        if !std::mem::replace(&mut tried, true) {
            thread.tried(made.as_ref().err().map(|error| failed_connect(&thread, error)));
        }
        match made {
            Ok((stream, took_ns)) => {
                thread.recorder.borrow_mut().connected(took_ns);
                thread.tally.borrow_mut().connected += 1;
                retry = RETRY_FIRST;
                thread.started().await;
                let mut connection = Connection::new(&thread, number, free_ns);
                connection.exchange(&stream).await;
                free_ns = connection.free_ns;
            }
            Err(error) => {
                let class = match error.kind() {
                    io::ErrorKind::ConnectionRefused => ErrorClass::Refused,
                    io::ErrorKind::TimedOut => ErrorClass::Timeout,
                    _ => ErrorClass::Connect,
                };
                let (errno, now_ns) = (error.raw_os_error(), thread.elapsed_ns());
                thread.recorder.borrow_mut().error(0, class, errno, now_ns, || failed_connect(&thread, &error));
                thread.started().await;
                // In a closed loop that was this place's request: a server that has gone must not keep a run of so many
                // requests from ending. In an open one requests are due for whichever connection there is.
                if !thread.is_open() {
                    thread.next_request(thread.elapsed_ns());
                }
                time::sleep(retry).await;
                retry = (2 * retry).min(RETRY_MAX);
            }
        }
        thread.busy(number);
        thread.rouse();
        if thread.is_over() && !thread.has_due() {
            return;
        }
    }
}

fn failed_connect(thread: &Thread, error: &io::Error) -> String {
    format!("cannot connect to {}: {error}", thread.plan.address)
}

/// A connection that is made.
struct Connection<'t> {
    thread: &'t Thread,
    number: u32,
    reader: Reader,
    /// Sent and not answered, oldest first.
    in_flight: VecDeque<InFlight>,
    /// Of the answer that is being read.
    head: Option<Head>,
    first_byte_ns: u64,
    sum: crc32fast::Hasher,
    /// Since when another request could have been sent, had there been a connection.
    free_ns: u64,
    /// Since when it can be sent on this one.
    ready_ns: u64,
    sent: u64,
    answered: u64,
    /// It is to end when what is in flight has been answered.
    closing: bool,
    /// The rest between an answer and the next request.
    thinking: Option<Alarm>,
}

#[derive(Clone, Copy)]
struct InFlight {
    url: u16,
    intended_ns: u64,
    sent_ns: u64,
}

/// Answers that agree in everything: of a pipelined connection, those that one receive has brought of requests that were sent
/// together. They are written down as one, so many times.
#[derive(Default)]
struct Alike {
    answer: Completion,
    times: u64,
}

impl Alike {
    fn add(&mut self, answer: Completion, thread: &Thread) {
        if self.answer != answer {
            std::mem::take(self).record(thread);
            self.answer = answer;
        }
        self.times += 1;
    }

    fn record(self, thread: &Thread) {
        if self.times > 0 {
            thread.recorder.borrow_mut().responses_alike(self.answer, self.times);
        }
    }
}

/// What a connection waits for.
enum Event {
    Received(io::Result<Option<RecvBuf>>),
    /// A request may be due, or nothing will ever be.
    Roused,
    /// The oldest request has waited too long.
    TimedOut,
    /// The request could not be sent.
    NotSent(io::Error),
}

/// How far a send is. The first attempt completes while it is submitted, most of the time; the rest is awaited.
enum Writing<N> {
    Nothing,
    AtOnce(N),
    Rest(Pin<Box<dyn Future<Output = (io::Result<usize>, Bytes)>>>, usize),
}

/// Why a connection ends in disorder: what becomes of the request it happened to.
struct Broken {
    class: ErrorClass,
    errno: Option<i32>,
    detail: String,
}

impl<'t> Connection<'t> {
    fn new(thread: &'t Thread, number: u32, free_ns: u64) -> Connection<'t> {
        Connection {
            thread,
            number,
            reader: Reader::default(),
            in_flight: VecDeque::new(),
            head: None,
            first_byte_ns: 0,
            sum: crc32fast::Hasher::new(),
            free_ns,
            ready_ns: thread.elapsed_ns(),
            sent: 0,
            answered: 0,
            closing: false,
            thinking: None,
        }
    }

    /// Until the connection is closed by either side, or nothing is left to do.
    async fn exchange(&mut self, stream: &TcpStream) {
        let thread = self.thread;
        let mut writing = Writing::Nothing;
        let mut deadline = time::sleep_until(thread.moment(0));
        loop {
            if matches!(writing, Writing::Nothing)
                && let Some(bytes) = self.gather()
            {
                writing = match bytes.len() <= SMALL_SEND_BYTES {
                    true => Writing::AtOnce(stream.write_and_listen(bytes)),
                    false => Writing::Rest(Box::pin(stream.write_from(bytes, 0)), 0),
                };
            }
            match self.in_flight.front() {
                Some(oldest) => deadline.reset(thread.moment(oldest.sent_ns) + thread.plan.timeout),
                None if self.closing || (thread.is_over() && !thread.has_due()) => return,
                None => {}
            }
            let done = match poll_fn(|context| self.poll(stream, &mut writing, &mut deadline, context)).await {
                Event::Received(Ok(Some(received))) => self.receive(&received),
                Event::Received(Ok(None)) => self.end_of_input(),
                Event::Received(Err(error)) => Err(Broken::by(ErrorClass::Reset, &error)),
                Event::Roused => Ok(()),
                Event::NotSent(error) => Err(Broken::by(ErrorClass::Send, &error)),
                Event::TimedOut => {
                    Err(Broken::saying(ErrorClass::Timeout, || format!("no answer within {:?}", thread.plan.timeout)))
                }
            };
            if let Err(broken) = done {
                return self.give_up(&broken);
            }
        }
    }

    fn poll<N: Future<Output = (io::Result<usize>, Bytes)> + Unpin>(
        &mut self,
        stream: &TcpStream,
        writing: &mut Writing<N>,
        deadline: &mut Sleep,
        context: &mut Context<'_>,
    ) -> Poll<Event> {
        if let Poll::Ready(received) = stream.poll_recv(context) {
            return Poll::Ready(Event::Received(received));
        }
        let wrote = !matches!(writing, Writing::Nothing);
        if let Err(error) = writing.poll(stream, context) {
            return Poll::Ready(Event::NotSent(error));
        }
        if !self.in_flight.is_empty() && deadline.poll_expired(context).is_ready() {
            return Poll::Ready(Event::TimedOut);
        }
        if let Some(thinking) = &mut self.thinking {
            if Pin::new(thinking).poll(context).is_pending() {
                return Poll::Pending;
            }
            self.thinking = None;
            return Poll::Ready(Event::Roused);
        }
        if !matches!(writing, Writing::Nothing) || !self.has_room() {
            return Poll::Pending;
        }
        if wrote || self.thread.has_due() || (self.in_flight.is_empty() && self.thread.is_over()) {
            return Poll::Ready(Event::Roused);
        }
        if self.thread.is_open() {
            self.thread.rest(self.number, context.waker());
        }
        Poll::Pending
    }

    fn has_room(&self) -> bool {
        !self.closing && (self.in_flight.len() as u64) < self.room()
    }

    /// Requests that may be in flight now.
    fn room(&self) -> u64 {
        let plan = &self.thread.plan;
        u64::from(plan.pipeline).min(plan.close.room(self.sent).saturating_add(self.in_flight.len() as u64))
    }

    /// The bytes of all requests that may be sent now.
    fn gather(&mut self) -> Option<Bytes> {
        if self.closing || self.thinking.is_some() {
            return None;
        }
        let (thread, before) = (self.thread, self.in_flight.len());
        let mut several = BytesMut::new();
        while self.has_room()
            && let Some(intended_ns) = thread.next_request(self.free_ns)
        {
            let traffic = &thread.plan.traffic;
            let url = traffic.draw(&mut thread.rng.borrow_mut());
            if traffic.only().is_none() {
                several.extend_from_slice(&traffic.requests()[usize::from(url)].bytes);
            }
            self.in_flight.push_back(InFlight { url, intended_ns, sent_ns: 0 });
            self.sent += 1;
        }
        let count = self.in_flight.len() - before;
        if count == 0 {
            return None;
        }
        thread.busy(self.number);
        let now_ns = thread.fresh_ns();
        let mut recorder = thread.recorder.borrow_mut();
        let (mut since_ns, mut alike) = (0, 0);
        for new in self.in_flight.iter_mut().skip(before) {
            new.sent_ns = now_ns;
            // Late by our own fault: a request that had to wait for this connection was not.
            let could_ns = new.intended_ns.max(self.ready_ns);
            if could_ns != since_ns && alike > 0 {
                recorder.lags_alike(now_ns.saturating_sub(since_ns), alike);
                alike = 0;
            }
            (since_ns, alike) = (could_ns, alike + 1);
        }
        recorder.lags_alike(now_ns.saturating_sub(since_ns), alike);
        thread.sent(count as u64, now_ns);
        Some(match thread.plan.traffic.only() {
            Some(only) => thread.burst.slice(..count * only.bytes.len()),
            None => several.freeze(),
        })
    }

    fn receive(&mut self, received: &[u8]) -> Result<(), Broken> {
        let mut alike = Alike::default();
        let read = self.read(received, &mut alike);
        alike.record(self.thread);
        read
    }

    fn read(&mut self, received: &[u8], alike: &mut Alike) -> Result<(), Broken> {
        let thread = self.thread;
        let now_ns = thread.elapsed_ns();
        thread.note_turn(now_ns);
        let heads = &mut *thread.heads.borrow_mut();
        let mut input = received;
        while !input.is_empty() || self.head.is_some() {
            let Some(oldest) = self.in_flight.front().copied() else {
                return Err(Broken::saying(ErrorClass::OverLong, || {
                    format!("{} bytes that answer no request", input.len())
                }));
            };
            let request = &thread.plan.traffic.requests()[usize::from(oldest.url)];
            if !self.reader.is_midway() {
                self.first_byte_ns = now_ns;
            }
            match self.reader.next(heads, &mut input, request.to_head).map_err(Broken::by_fault)? {
                None => return Ok(()),
                Some(Part::Head(head)) => self.head = Some(head),
                Some(Part::Body(body)) if request.wants_sum(thread.plan.verify) => self.sum.update(body),
                Some(Part::Body(_)) => {}
                Some(Part::End(extent)) => self.answered(oldest, request, extent, now_ns, alike),
            }
        }
        Ok(())
    }

    /// The oldest request has its answer.
    fn answered(&mut self, oldest: InFlight, request: &Request, extent: Extent, now_ns: u64, alike: &mut Alike) {
        let (thread, plan) = (self.thread, &self.thread.plan);
        let Some(head) = self.head.take() else { return };
        self.in_flight.pop_front();
        self.answered += 1;
        let wants_sum = request.wants_sum(plan.verify);
        let crc32 = if wants_sum { std::mem::take(&mut self.sum).finalize() } else { 0 };
        let body = Body { length: extent.body_bytes, crc32 };
        match request.check(head.status, body, plan.verify) {
            Ok(()) => {
                let answer = Completion {
                    url: oldest.url,
                    intended_ns: oldest.intended_ns,
                    sent_ns: oldest.sent_ns,
                    first_byte_ns: self.first_byte_ns,
                    done_ns: now_ns,
                    conn: self.number,
                    wire_bytes: extent.wire_bytes,
                    body_bytes: extent.body_bytes,
                    status: head.status,
                };
                alike.add(answer, thread);
            }
            Err(wrong) => {
                let broken = Broken::by_answer(wrong, head.status, body);
                thread.recorder.borrow_mut().error(oldest.url, broken.class, None, now_ns, || broken.detail);
            }
        }
        thread.ended(now_ns);
        let rng = &mut thread.rng.borrow_mut();
        self.closing |= !head.keeps_alive || plan.close.is_due(self.answered, rng);
        let rest_ns = plan.think.draw(rng);
        self.free_ns = now_ns + rest_ns;
        self.ready_ns = self.free_ns;
        if rest_ns > 0 {
            self.thinking = Some(time::alarm(thread.moment(self.free_ns)));
        }
    }

    /// The server has ended its side: the end of an answer without a length, or of the connection.
    fn end_of_input(&mut self) -> Result<(), Broken> {
        let ended = self.reader.end_of_input();
        self.closing = true;
        match (ended, self.in_flight.front().copied()) {
            (Ok(Some(extent)), Some(oldest)) => {
                let request = &self.thread.plan.traffic.requests()[usize::from(oldest.url)];
                let mut alike = Alike::default();
                self.answered(oldest, request, extent, self.thread.elapsed_ns(), &mut alike);
                alike.record(self.thread);
            }
            (Err(Fault::Truncated), _) if self.head.is_some() => {
                let left = self.reader.body_left();
                return Err(Broken::saying(ErrorClass::Short, || match left {
                    Some(left) => format!("the connection ended {left} bytes before the end of the body"),
                    None => String::from("the connection ended before the last chunk"),
                }));
            }
            _ => {}
        }
        match self.in_flight.is_empty() {
            true => Ok(()),
            false => Err(Broken::saying(ErrorClass::Closed, || String::from("the server ended the connection"))),
        }
    }

    /// What is in flight will have no answer. A connection that breaks with nothing in flight does no harm, unless what
    /// came belongs to no request.
    fn give_up(&mut self, broken: &Broken) {
        let now_ns = self.thread.elapsed_ns();
        let mut recorder = self.thread.recorder.borrow_mut();
        if self.in_flight.is_empty() && matches!(broken.class, ErrorClass::OverLong | ErrorClass::Parse) {
            recorder.error(0, broken.class, broken.errno, now_ns, || broken.detail.clone());
        }
        let others =
            Broken::saying(ErrorClass::Closed, || format!("in flight behind one that failed: {}", broken.detail));
        for (at, lost) in self.in_flight.drain(..).enumerate() {
            let cause = if at == 0 { broken } else { &others };
            recorder.error(lost.url, cause.class, cause.errno, now_ns, || cause.detail.clone());
            self.thread.ended(now_ns);
        }
        self.free_ns = now_ns;
    }
}

impl<N: Future<Output = (io::Result<usize>, Bytes)> + Unpin> Writing<N> {
    /// Goes on as far as it goes.
    fn poll(&mut self, stream: &TcpStream, context: &mut Context<'_>) -> io::Result<()> {
        loop {
            let (polled, start) = match self {
                Writing::Nothing => return Ok(()),
                Writing::AtOnce(sending) => (Pin::new(sending).poll(context), 0),
                Writing::Rest(sending, start) => (sending.as_mut().poll(context), *start),
            };
            let Poll::Ready((written, bytes)) = polled else { return Ok(()) };
            let start = match written {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => start,
                other => start + other?,
            };
            *self = match start < bytes.len() {
                true => Writing::Rest(Box::pin(stream.write_from(bytes, start)), start),
                false => Writing::Nothing,
            };
        }
    }
}

impl Broken {
    fn by(class: ErrorClass, error: &io::Error) -> Broken {
        Broken { class, errno: error.raw_os_error(), detail: error.to_string() }
    }

    fn saying(class: ErrorClass, detail: impl FnOnce() -> String) -> Broken {
        Broken { class, errno: None, detail: detail() }
    }

    fn by_fault(fault: Fault) -> Broken {
        Broken::saying(ErrorClass::Parse, || fault.to_string())
    }

    fn by_answer(wrong: Wrong, status: u16, body: Body) -> Broken {
        let Body { length, crc32 } = body;
        match wrong {
            Wrong::Status(Some(expected)) => {
                Broken::saying(ErrorClass::BadStatus, || format!("status {status}, {expected} was expected"))
            }
            Wrong::Status(None) => {
                Broken::saying(ErrorClass::BadStatus, || format!("status {status}, 2xx or 3xx was expected"))
            }
            Wrong::Short(expected) => {
                Broken::saying(ErrorClass::Short, || format!("a body of {length} bytes, {expected} were expected"))
            }
            Wrong::OverLong(expected) => {
                Broken::saying(ErrorClass::OverLong, || format!("a body of {length} bytes, {expected} were expected"))
            }
            Wrong::Corrupt(expected) => Broken::saying(ErrorClass::Corrupt, || {
                format!("a body with the CRC-32 {crc32:08x}, {expected:08x} was expected")
            }),
        }
    }
}
