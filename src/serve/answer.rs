//! The synchronous heart: looks at the bytes that are there, answers what can be answered at once, and says what has to
//! be waited for. Requests borrow from the connection's bytes, so nothing of one survives this; where a fact is missing
//! the caller finds it out and comes back, and the request is read again.

use std::rc::Rc;

use bytes::Bytes;

use crate::http::Millis;
use crate::http::conn::{Event, Next, Refusal};
use crate::http::range::Span;
use crate::http::request::{FieldSlots, Request};
use crate::http::status::Status;
use crate::rt::fs::File;
use crate::site::reply::{Body, HeadContext, Reply, write_end};
use crate::site::route::{Route, route};
use crate::site::static_file::static_file;
use crate::site::{self};

use super::access_log::{self, AccessLog};
use super::cgi;
use super::file_cache::{Content, Entry};
use super::link::Link;
use super::transfer::Slice;
use super::worker::Worker;

/// Replies that gather before they are sent, when requests are pipelined.
const OUT_BYTES_MAX: usize = 64 << 10;
/// A body up to this long is copied behind its head and leaves in the send buffer; a longer one goes out beside it, as a
/// message of two parts.
const COPIED_BODY_BYTES_MAX: usize = 16 << 10;

/// What a connection does next.
pub(super) enum Step {
    /// Send what has gathered, then wait for more.
    Receive { until: Millis },
    /// Send what has gathered: it is much.
    Flush,
    /// Find out what is at a path of a site, and come back with it.
    Learn { site: usize, path: Box<[u8]> },
    /// Send what has gathered and these bytes.
    SendBytes(Bytes),
    /// Send what has gathered and a part of this file.
    SendFile(Rc<File>, Span),
    /// Send the rest of a file, of which the last slice came to this.
    SendRest(Slice),
    /// Find the script, and come back with it.
    FindScript(Box<cgi::Wanted>),
    /// Run it.
    Run(Box<cgi::Call>),
    /// The reply is whole, but a body is unread.
    Drain,
    /// Send what has gathered and close.
    Close { linger: bool },
}

/// What the last step was missing.
pub(super) enum Learned {
    Nothing,
    File(Rc<Entry>),
    Script(Box<cgi::Located>),
}

/// Answers as many requests as it can. What `learned` holds is for the first of them.
pub(super) fn step(worker: &Worker, link: &mut Link, mut learned: Learned) -> Step {
    loop {
        if link.out.len() >= OUT_BYTES_MAX {
            return Step::Flush;
        }
        let mut slots = FieldSlots::new();
        let Link { conn, input, out, .. } = link;
        match conn.poll(&worker.limits, worker.now_ms(), input.unread(), &mut slots) {
            Event::NeedBytes { until } => return Step::Receive { until },
            Event::Over => return Step::Close { linger: false },
            Event::Refuse(refusal) => {
                refuse(worker, out, link.peer.as_deref(), refusal);
                return Step::Close { linger: true };
            }
            Event::Request { request, head_len } => {
                let log = worker.log.as_ref();
                let answer = Answer { worker, request: &request, peer: link.peer.as_deref(), log };
                let decided = match answer.decide(std::mem::replace(&mut learned, Learned::Nothing)) {
                    // The replies before it must not wait for what this one lacks.
                    Decision::Missing(_) if !out.is_empty() => return Step::Flush,
                    Decision::Missing(step) => return step,
                    decided => decided,
                };
                worker.metrics.requests.add(1);
                conn.begin(&worker.limits, worker.now_ms(), &request);
                link.requests_left -= u64::from(link.requests_left != u64::MAX);
                // A request that is refused as malformed is the last: what follows it cannot be trusted either.
                if link.requests_left == 0 || worker.draining.get() || decided.is_bad_request() {
                    conn.close_after();
                }
                let (_, step) = answer.write(decided, out, conn.keep_alive());
                input.consume(head_len);
                if let Some(step) = step.or_else(|| finish(worker, link)) {
                    return step;
                }
            }
        }
    }
}

/// What a local redirect leads to.
pub(super) enum Redirect {
    Missing(Step),
    /// The head is in `link.out`, the body too or in the step.
    Answered {
        status: Status,
        bytes: u64,
        step: Option<Step>,
    },
}

/// Answers a request that a script made of the client's (a local redirect): the connection is in the middle of that one.
pub(super) fn redirected(worker: &Worker, link: &mut Link, request: &Request<'_>, learned: Learned) -> Redirect {
    // The client asked for something else: that request's line is written when its reply is over.
    let answer = Answer { worker, request, peer: link.peer.as_deref(), log: None };
    match answer.decide(learned) {
        Decision::Missing(step) => Redirect::Missing(step),
        decided => {
            let ((status, bytes), step) = answer.write(decided, &mut link.out, link.conn.keep_alive());
            Redirect::Answered { status, bytes, step }
        }
    }
}

/// What follows a reply that is on its way whole; `None`: the next request.
pub(super) fn finish(worker: &Worker, link: &mut Link) -> Option<Step> {
    match link.conn.finish(&worker.limits, worker.now_ms()) {
        Next::KeepAlive => None,
        Next::Drain => Some(Step::Drain),
        Next::Close => Some(Step::Close { linger: !link.input.unread().is_empty() }),
        Next::CloseLingering => Some(Step::Close { linger: true }),
    }
}

/// The answer to what is not a request, or not one that can be served.
fn refuse(worker: &Worker, out: &mut Vec<u8>, peer: Option<&str>, refusal: Refusal) {
    use crate::http::request::Version;
    worker.metrics.requests.add(1);
    let date = worker.date();
    let context = HeadContext { version: Version::Http11, is_head: false, keep_alive: false, date: &date };
    let reply = Reply::error(refusal.status);
    tracing::debug!(status = ?refusal.status, why = refusal.why, "refused");
    reserve(worker, out);
    reply.write_head(out, &context);
    if let Body::Bytes(bytes) = reply.body(&context) {
        out.extend_from_slice(bytes);
    }
    access_log::refused(worker, peer, refusal.status);
}

/// One request and what is needed to answer it.
struct Answer<'a> {
    worker: &'a Worker,
    request: &'a Request<'a>,
    peer: Option<&'a str>,
    /// Where its line goes, if it gets one.
    log: Option<&'a AccessLog>,
}

enum Decision<'a> {
    /// Something has to be found out first.
    Missing(Step),
    Reply(Reply<'a>),
    File(Rc<Entry>),
    Run(Box<cgi::Located>),
}

impl Decision<'_> {
    fn is_bad_request(&self) -> bool {
        matches!(self, Decision::Reply(reply) if reply.status() == Status::BAD_REQUEST)
    }
}

/// A status, and how many bytes of body it came with: for the log.
type Written = (Status, u64);

impl<'a> Answer<'a> {
    fn decide(&self, learned: Learned) -> Decision<'a> {
        let (worker, request) = (self.worker, self.request);
        let index = site::select(&worker.sites, request.host);
        let mut path = worker.path.borrow_mut();
        match (route(&worker.sites[index], request, &mut path), learned) {
            (Route::Reply(reply), _) => Decision::Reply(reply),
            (Route::File, Learned::File(entry)) => Decision::File(entry),
            (Route::File, _) => match worker.files[index].get(&path, worker.now_ms()) {
                Some(entry) => {
                    worker.metrics.cache_hits.add(1);
                    Decision::File(entry)
                }
                None => {
                    worker.metrics.cache_misses.add(1);
                    Decision::Missing(Step::Learn { site: index, path: path.as_slice().into() })
                }
            },
            (Route::Cgi(_), _) if cgi::body_is_too_large(worker, request.framing) => {
                Decision::Reply(Reply::error(Status::CONTENT_TOO_LARGE))
            }
            (Route::Cgi(_), Learned::Script(located)) => match located.place {
                Ok(_) => Decision::Run(located),
                Err(status) => Decision::Reply(Reply::error(status)),
            },
            (Route::Cgi(cgi), _) => {
                let wanted = cgi::Wanted { site: index, route: cgi, rest: path.as_slice().into() };
                Decision::Missing(Step::FindScript(Box::new(wanted)))
            }
        }
    }

    /// Puts the decision into bytes, as far as that can be done at once.
    fn write(&self, decided: Decision<'_>, out: &mut Vec<u8>, keep_alive: bool) -> (Written, Option<Step>) {
        match decided {
            Decision::Missing(step) => ((Status::OK, 0), Some(step)),
            Decision::Reply(reply) => (self.plain(&reply, out, keep_alive), None),
            Decision::File(entry) => self.file(&entry, out, keep_alive),
            Decision::Run(located) => {
                let call = cgi::Call::new(self.worker, self.request, &located);
                ((Status::OK, 0), call.map(|call| Step::Run(Box::new(call))))
            }
        }
    }

    /// A reply that has no file.
    fn plain(&self, reply: &Reply<'_>, out: &mut Vec<u8>, keep_alive: bool) -> Written {
        let date = self.worker.date();
        let context = self.context(keep_alive, &date);
        reserve(self.worker, out);
        reply.write_head(out, &context);
        let mut sent = 0;
        if let Body::Bytes(bytes) = reply.body(&context) {
            out.extend_from_slice(bytes);
            sent = bytes.len() as u64;
        }
        self.log(reply, sent);
        (reply.status(), sent)
    }

    /// A reply about what was found at a path.
    fn file(&self, entry: &Rc<Entry>, out: &mut Vec<u8>, keep_alive: bool) -> (Written, Option<Step>) {
        let path = self.worker.path.borrow();
        let reply = static_file(self.request, &path, &entry.found, self.worker.unix_s());
        let date = self.worker.date();
        let context = self.context(keep_alive, &date);
        let Body::File(span) = reply.body(&context) else {
            return (self.plain(&reply, out, keep_alive), None);
        };
        reserve(self.worker, out);
        if reply.is_whole() {
            out.extend_from_slice(&entry.head);
            write_end(out, &context);
        } else {
            reply.write_head(out, &context);
        }
        self.log(&reply, span.len);
        let step = match &entry.content {
            Content::Memory(bytes) => {
                let part = span.start as usize..(span.start + span.len) as usize;
                if span.len as usize <= COPIED_BODY_BYTES_MAX {
                    out.extend_from_slice(&bytes[part]);
                    None
                } else {
                    Some(Step::SendBytes(bytes.slice(part)))
                }
            }
            Content::File(file) => Some(Step::SendFile(Rc::clone(file), span)),
            Content::None => None,
        };
        ((reply.status(), span.len), step)
    }

    fn context<'d>(&self, keep_alive: bool, date: &'d [u8; 29]) -> HeadContext<'d> {
        use crate::http::request::Method;
        let is_head = self.request.method == Method::Head;
        HeadContext { version: self.request.version, is_head, keep_alive, date }
    }

    fn log(&self, reply: &Reply<'_>, body_bytes: u64) {
        if let Some(log) = self.log {
            access_log::answered(log, self.worker, self.request, self.peer, reply.status(), body_bytes);
        }
    }
}

/// A send buffer, when the connection has none yet.
pub(super) fn reserve(worker: &Worker, out: &mut Vec<u8>) {
    if out.capacity() == 0 {
        *out = worker.buffer();
    }
}
