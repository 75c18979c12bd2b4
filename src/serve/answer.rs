//! The synchronous heart: looks at the bytes that are there, answers what can be answered at once, and says what has to
//! be waited for. Requests borrow from the connection's bytes, so nothing of one survives this; where a fact is missing
//! the caller finds it out and comes back, and the request is read again.

mod decide;
mod write;

use std::cell::OnceCell;
use std::rc::Rc;

use bytes::Bytes;

use crate::http::Millis;
use crate::http::conn::{Event, Next, Refusal};
use crate::http::forwarded::Client;
use crate::http::range::Span;
use crate::http::request::{FieldSlots, Request};
use crate::http::status::Status;
use crate::site::auth::Credentials;
use crate::site::listing::ListingFacts;
use crate::site::reply::{Body, Failure, HeadContext, Reply, Vary};
use crate::site::resolve::Look;

use super::access_log::{Layout, Logged};
use super::file_cache::{Entry, OpenFile};
use super::link::Link;
use super::listing::{self, Listed};
use super::metrics::Answered;
use super::origin::Origin;
use super::parts::Parts;
use super::sites::Sites;
use super::transfer::Slice;
use super::worker::Worker;
use super::{auth, cgi, error_page};

/// Replies that gather before they are sent, when requests are pipelined.
pub(super) const OUT_BYTES_MAX: usize = 64 << 10;
/// A body up to this long is copied behind its head and leaves in the send buffer; a longer one goes out beside it, as a
/// message of two parts.
pub(super) const COPIED_BODY_BYTES_MAX: usize = 16 << 10;

/// What a connection does next.
pub(super) enum Step {
    /// Send what has gathered, then wait for more.
    Receive { until: Millis },
    /// Send what has gathered: it is much.
    Flush,
    /// Find out what is at a path of a site, and come back with it.
    Learn { sites: Rc<Sites>, site: usize, path: Box<[u8]>, look: Look },
    /// The same, of the page for an error.
    LearnPage { sites: Rc<Sites>, site: usize, path: Box<[u8]>, failure: Failure },
    /// List a folder, and come back with the page.
    List(listing::Order),
    /// Send what has gathered and these bytes.
    SendBytes(Bytes),
    /// Send what has gathered and a part of this file.
    SendFile(Rc<OpenFile>, Span),
    /// Send the rest of a file, of which the last slice came to this.
    SendRest(Slice),
    /// Send what has gathered and several parts of one file.
    SendParts(Box<Parts>),
    /// Find out whether that is the password, and come back with the answer.
    Verify(Box<auth::Order>),
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
    File(Look, Rc<Entry>),
    Page(Box<(Failure, Rc<Entry>)>),
    Listing(Box<Listed>),
    Verified(auth::Verified),
    Script(Box<cgi::Located>),
}

/// Answers as many requests as it can. What `learned` holds is for the first of them.
pub(super) fn step(worker: &Worker, link: &mut Link, mut learned: Learned) -> Step {
    loop {
        if link.out.len() >= OUT_BYTES_MAX {
            return Step::Flush;
        }
        let mut slots = FieldSlots::new();
        let Link { conn, input, out, since_ns, .. } = link;
        // One look at what is served by now, for all that is asked of it below.
        let sites = worker.sites();
        match conn.poll(&sites.limits, worker.now_ms(), input.unread(), &mut slots) {
            Event::NeedBytes { until } => {
                if !input.unread().is_empty() {
                    conn.heard();
                }
                return Step::Receive { until };
            }
            Event::Over => return Step::Close { linger: false },
            Event::Refuse(refusal) => {
                let learned = std::mem::replace(&mut learned, Learned::Nothing);
                conn.heard();
                return match refuse(worker, conn, out, refusal, learned) {
                    Some(_) if !out.is_empty() => Step::Flush,
                    Some(missing) => missing,
                    None => Step::Close { linger: true },
                };
            }
            Event::Request { request, head_len } => {
                conn.heard();
                let answer = Answer::new(worker, &sites, &request, link.origin.as_deref());
                let decided = match answer.decide(std::mem::replace(&mut learned, Learned::Nothing)) {
                    // The replies before it must not wait for what this one lacks.
                    Decision::Missing(_) if !out.is_empty() => return Step::Flush,
                    Decision::Missing(step) => {
                        worker.metrics.asked(since_ns);
                        return step;
                    }
                    decided => decided,
                };
                conn.begin(&sites.limits, worker.now_ms(), &request);
                conn.asked(&request, answer.client.addr, answer.user());
                let requests = u64::from(conn.requests());
                let is_last = sites.options.requests_per_connection_max.is_some_and(|max| requests >= max);
                // A request that is refused as malformed is the last: what follows it cannot be trusted either.
                if is_last || worker.draining.get() || decided.is_bad_request() {
                    conn.close_after();
                }
                let (is_run, is_listing) =
                    (matches!(decided, Decision::Run(_)), matches!(decided, Decision::Listing(..)));
                let before = out.len();
                let ((status, body_bytes), mut step) = answer.write(decided, out, conn.keep_alive());
                worker.metrics.watch.asked(request.target);
                count(worker, is_listing, status, step.as_mut(), since_ns);
                if !is_run {
                    conn.answered(status, Layout { before, after: out.len(), body_bytes, is_gathered: step.is_none() });
                }
                input.consume(head_len);
                if let Some(step) = step.or_else(|| finish(worker, link)) {
                    return step;
                }
            }
        }
    }
}

/// Counts a reply that is decided on.
fn count(worker: &Worker, is_listing: bool, status: Status, step: Option<&mut Step>, since_ns: &mut u64) {
    let by = match (is_listing, Answered::by_status(status)) {
        (true, Answered::File) => Answered::Listing,
        (_, by) => by,
    };
    match step {
        // Its status is known when it has said it.
        Some(Step::Run(call)) => {
            worker.metrics.asked(since_ns);
            call.since_ns = *since_ns;
        }
        Some(Step::SendFile(..) | Step::SendParts(_)) => worker.metrics.begins_to_reply(by, status, since_ns),
        _ => worker.metrics.replied(by, status, since_ns),
    }
}

/// What a local redirect leads to.
pub(super) enum Redirect {
    Missing(Step),
    /// The head is in `link.out`, the body too or in the step.
    Answered {
        status: Status,
        step: Option<Step>,
    },
}

/// Answers a request that a script made of the client's (a local redirect): the connection is in the middle of that one.
pub(super) fn redirected(worker: &Worker, link: &mut Link, request: &Request<'_>, learned: Learned) -> Redirect {
    let sites = worker.sites();
    let answer = Answer::new(worker, &sites, request, link.origin.as_deref());
    match answer.decide(learned) {
        Decision::Missing(step) => Redirect::Missing(step),
        decided => {
            let is_run = matches!(decided, Decision::Run(_));
            let before = link.out.len();
            let ((status, body_bytes), step) = answer.write(decided, &mut link.out, link.conn.keep_alive());
            if !is_run {
                // In the log it is the answer to what the client asked for.
                let layout = Layout { before, after: link.out.len(), body_bytes, is_gathered: step.is_none() };
                link.conn.answered(status, layout);
            }
            Redirect::Answered { status, step }
        }
    }
}

/// What follows a reply that is on its way whole; `None`: the next request.
pub(super) fn finish(worker: &Worker, link: &mut Link) -> Option<Step> {
    worker.metrics.sent(&worker.metrics.own, &mut link.since_ns);
    match link.conn.finish(&worker.limits(), worker.now_ms()) {
        Next::KeepAlive => None,
        Next::Drain => Some(Step::Drain),
        Next::Close => Some(Step::Close { linger: !link.input.unread().is_empty() }),
        Next::CloseLingering => Some(Step::Close { linger: true }),
    }
}

/// The answer to what is not a request, or not one that can be served; or what is missing for it. No site was asked for, so
/// a page is that of the one that answers for every host.
fn refuse(worker: &Worker, conn: &mut Logged, out: &mut Vec<u8>, refusal: Refusal, learned: Learned) -> Option<Step> {
    let sites = worker.sites();
    use crate::http::request::Version;
    let site = sites.hosts.find(b"");
    let page = match learned {
        Learned::Page(page) => Some(page.1),
        _ => match error_page::known(worker, &sites, site, b"", Failure::new(refusal.status)) {
            error_page::Known::BuiltIn => None,
            error_page::Known::Page(entry) => Some(entry),
            error_page::Known::Missing(step) => return Some(step),
        },
    };
    worker.metrics.replied(Answered::Error, refusal.status, &mut 0);
    let date = worker.date();
    let context = HeadContext {
        version: Version::Http11,
        is_head: false,
        keep_alive: false,
        date: &date,
        place: None,
        vary: Vary::Nothing,
        challenge: None,
    };
    tracing::debug!(status = ?refusal.status, why = refusal.why, "refused");
    reserve(worker, out);
    // The connection is at its end: only what can be sent with the head goes along.
    let in_memory = page.as_ref().and_then(|page| error_page::in_memory(page));
    let reply = Reply::failed(Failure::new(refusal.status), in_memory.map(|(facts, _)| facts));
    let before = out.len();
    reply.write_head(out, &context);
    let body_at = out.len();
    match (reply.body(&context), in_memory) {
        (Body::Bytes(bytes), _) => out.extend_from_slice(bytes),
        (Body::File(_), Some((_, bytes))) => out.extend_from_slice(bytes),
        _ => {}
    }
    conn.refused(refusal.why);
    let layout = Layout { before, after: out.len(), body_bytes: (out.len() - body_at) as u64, is_gathered: true };
    conn.answered(refusal.status, layout);
    None
}

/// One request and what is needed to answer it.
struct Answer<'a> {
    worker: &'a Worker,
    sites: &'a Rc<Sites>,
    request: &'a Request<'a>,
    /// Who is at the other end, where somebody asked; and whose request it is.
    origin: Option<&'a Origin>,
    client: Client<'a>,
    /// The site that answers.
    index: usize,
    /// Who was admitted by a password.
    user: OnceCell<Credentials>,
}

enum Decision<'a> {
    /// Something has to be found out first.
    Missing(Step),
    Reply(Reply<'a>, Asked),
    File(Rc<Entry>, Vary),
    /// An error with a page of the site's own.
    Failed(Failure, Rc<Entry>, Asked),
    Listing(ListingFacts, Bytes),
    Run(Box<cgi::Located>),
}

impl Decision<'_> {
    fn is_bad_request(&self) -> bool {
        let status = match self {
            Decision::Reply(reply, _) => reply.status(),
            Decision::Failed(failure, ..) => failure.status(),
            _ => return false,
        };
        status == Status::BAD_REQUEST
    }
}

/// At what kind of path something was asked.
#[derive(Clone, Copy)]
enum Asked {
    /// Where files are, and the rules of the site for them.
    File(Vary),
    /// Where scripts are: they say themselves what their replies say.
    Script,
}

/// A status, and how many bytes of body it comes with: for the log.
type Written = (Status, u64);

impl<'a> Answer<'a> {
    fn new(
        worker: &'a Worker,
        sites: &'a Rc<Sites>,
        request: &'a Request<'a>,
        origin: Option<&'a Origin>,
    ) -> Answer<'a> {
        let client = origin.map(|origin| origin.client(request, &worker.options.trusted)).unwrap_or_default();
        let index = sites.hosts.find(request.host);
        Answer { worker, sites, request, origin, client, index, user: OnceCell::new() }
    }
}

/// A send buffer, when the connection has none yet.
pub(super) fn reserve(worker: &Worker, out: &mut Vec<u8>) {
    if out.capacity() == 0 {
        *out = worker.buffer();
    }
}
