//! The synchronous heart: looks at the bytes that are there, answers what can be answered at once, and says what has to
//! be waited for. Requests borrow from the connection's bytes, so nothing of one survives this; where a fact is missing
//! the caller finds it out and comes back, and the request is read again.

use std::cell::OnceCell;
use std::ops::ControlFlow;
use std::rc::Rc;

use bytes::Bytes;

use crate::http::Millis;
use crate::http::conn::{Event, Next, Refusal};
use crate::http::forwarded::Client;
use crate::http::path::normalise;
use crate::http::range::Span;
use crate::http::request::{FieldSlots, Request};
use crate::http::status::Status;
use crate::site::auth::{Admission, Credentials};
use crate::site::headers::Place;
use crate::site::listing::{ListingFacts, reply as listing_reply};
use crate::site::reply::{Body, Failure, HeadContext, Reply, Vary, write_end};
use crate::site::resolve::{Look, Search, Verdict};
use crate::site::route::{Named, Route, route};
use crate::site::static_file::{Circumstances, Found, is_surely_fine, static_file};

use super::access_log::{Layout, Logged};
use super::auth::Outcome;
use super::file_cache::{Content, Entry, OpenFile};
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

    fn decide(&self, learned: Learned) -> Decision<'a> {
        let index = self.index;
        let learned = self.of_this_tree(index, learned);
        let decided = match self.keep_out(index, &learned) {
            Some(decided) => decided,
            None => self.find(index, learned),
        };
        match self.sites.list[index].has_error_pages() {
            false => decided,
            true => self.with_page(index, decided),
        }
    }

    /// Asks who it is, where the path that was asked for is guarded. Nothing: go on.
    fn keep_out(&self, index: usize, learned: &Learned) -> Option<Decision<'a>> {
        let site = &self.sites.list[index];
        // The error has been decided already; what is missing is its page.
        if !site.has_guards() || matches!(learned, Learned::Page(_)) {
            return None;
        }
        let mut path = self.worker.path.borrow_mut();
        self.asked_path(&mut path);
        if path.is_empty() || path.ends_with(b"/") {
            path.extend_from_slice(site.options.index.as_bytes());
        }
        // Of whichever guard it was on the way: the answer is not asked for twice.
        if let Learned::Verified(verified) = learned
            && let Some(refused) = self.refused(verified.outcome, verified.location as usize)
        {
            return Some(refused);
        }
        self.admit(index, &path, learned)
    }

    /// Whether whoever asks may have what is at a path (relative to the root, decoded). Nothing: yes.
    fn admit(&self, index: usize, path: &[u8], learned: &Learned) -> Option<Decision<'a>> {
        let (location, credentials) = match self.sites.list[index].admission(path, &self.request.fields) {
            Admission::Open => return None,
            Admission::Challenge(location) => return self.refused(Outcome::Refused, location),
            Admission::Verify(location, credentials) => (location, credentials),
        };
        let door = self.sites.door(index, location);
        let is_verified = match learned {
            Learned::Verified(verified) if verified.location as usize == location => true,
            _ => door.is_some_and(|door| door.knows(&credentials, self.worker.now_ms())),
        };
        if !is_verified {
            let order = auth::Order { sites: Rc::clone(self.sites), site: index, location, credentials };
            return Some(Decision::Missing(Step::Verify(Box::new(order))));
        }
        // The same field names the same person, whoever asks.
        let _ = self.user.set(credentials);
        None
    }

    /// What is said to whom a guard does not let in. Nothing: it does.
    fn refused(&self, outcome: Outcome, location: usize) -> Option<Decision<'a>> {
        let reply = match outcome {
            Outcome::Admitted => return None,
            Outcome::Refused => Reply::unauthorized(location),
            Outcome::Busy => Reply::unavailable(auth::RETRY_AFTER_S),
        };
        Some(Decision::Reply(reply, Asked::File(Vary::Nothing)))
    }

    /// The path that was asked for, relative to the root and decoded; empty where it is none.
    fn asked_path(&self, path: &mut Vec<u8>) {
        path.clear();
        if self.request.path != b"*" && normalise(self.request.path, path).is_err() {
            path.clear();
        }
    }

    /// Who was admitted.
    fn user(&self) -> Option<&[u8]> {
        self.user.get().map(Credentials::user)
    }

    /// What was learned in a tree that has been replaced meanwhile is forgotten: the request begins again in the new one. A
    /// script that was found is a path in the old tree and runs there; a listing is that of the old.
    fn of_this_tree(&self, site: usize, learned: Learned) -> Learned {
        let generation = self.sites.list[site].generation;
        match &learned {
            Learned::File(_, entry) if entry.generation != generation => Learned::Nothing,
            Learned::Page(page) if page.1.generation != generation => Learned::Nothing,
            Learned::Verified(verified) if verified.generation != generation => Learned::Nothing,
            _ => learned,
        }
    }

    /// What answers, as far as it is known; an error has the built-in page.
    fn find(&self, index: usize, learned: Learned) -> Decision<'a> {
        let (worker, request) = (self.worker, self.request);
        let mut path = worker.path.borrow_mut();
        match (route(&self.sites.list[index], request, &mut path), learned) {
            (route, Learned::Page(page)) => {
                let (failure, entry) = *page;
                // An error page may not be stored, so what it depends on matters to nobody.
                let asked = if let Route::Cgi(_) = route { Asked::Script } else { Asked::File(Vary::Nothing) };
                Decision::Failed(failure, entry, asked)
            }
            (Route::Reply(reply), _) => Decision::Reply(reply, Asked::File(Vary::Nothing)),
            (Route::File(named), learned) => self.search(index, &path, named, learned),
            (Route::Cgi(cgi), _) if cgi::body_is_too_large(&self.sites.mounts[index][cgi.mount], request.framing) => {
                Decision::Reply(Reply::error(Status::CONTENT_TOO_LARGE), Asked::Script)
            }
            (Route::Cgi(_), Learned::Script(located)) => match &located.place {
                // A guard of the program itself holds whatever path follows its name.
                Ok(place) => match self.admit(index, place.script_path(), &Learned::Nothing) {
                    Some(decided) => decided,
                    None => Decision::Run(located),
                },
                Err(status) => Decision::Reply(Reply::error(*status), Asked::Script),
            },
            (Route::Cgi(cgi), _) => {
                let sites = Rc::clone(self.sites);
                let wanted = cgi::Wanted { sites, site: index, route: cgi, rest: path.as_slice().into() };
                Decision::Missing(Step::FindScript(Box::new(wanted)))
            }
        }
    }

    /// Looks where `resolve` says, until there is an answer or something is not known. Each look is a later one than the one
    /// before it, so there are few.
    fn search(&self, index: usize, path: &[u8], named: Named, learned: Learned) -> Decision<'a> {
        let site = &self.sites.list[index];
        let search = Search { site, request: self.request, path, named };
        let mut next = match learned {
            Learned::File(look, entry) => self.judge(index, &search, look, entry),
            Learned::Listing(listed) => self.listed(&search, *listed),
            _ => ControlFlow::Continue(Look::Asked),
        };
        loop {
            let look = match next {
                ControlFlow::Continue(look) => look,
                ControlFlow::Break(decided) => return decided,
            };
            let mut room = Vec::new();
            let place = search.place(look, &mut room);
            // What stands for the path that was asked for may be guarded where that is not.
            if !matches!(look, Look::Asked | Look::AskedAgain)
                && let Some(decided) = self.admit(index, place, &Learned::Nothing)
            {
                return decided;
            }
            next = match self.look(index, place, look) {
                Ok(entry) => self.judge(index, &search, look, entry),
                Err(missing) => ControlFlow::Break(Decision::Missing(missing)),
            };
        }
    }

    /// What is known to be at a path, or the step that finds it out.
    fn look(&self, site: usize, path: &[u8], look: Look) -> Result<Rc<Entry>, Step> {
        let worker = self.worker;
        match self.sites.files[site].get(path, worker.now_ms()) {
            Some(entry) => {
                worker.metrics.cache_hits.add(1);
                Ok(entry)
            }
            None => {
                worker.metrics.cache_misses.add(1);
                Err(Step::Learn { sites: Rc::clone(self.sites), site, path: path.into(), look })
            }
        }
    }

    /// The answer that was found, or where to look next.
    fn judge(&self, site: usize, search: &Search<'_>, look: Look, entry: Rc<Entry>) -> ControlFlow<Decision<'a>, Look> {
        ControlFlow::Break(match search.verdict(look, &entry.found) {
            Verdict::Found(vary) => Decision::File(entry, vary),
            Verdict::Reply(reply, vary) => Decision::Reply(reply, Asked::File(vary)),
            Verdict::Look(next) => return ControlFlow::Continue(next),
            Verdict::List(wanted) => {
                let path = search.place(look, &mut Vec::new()).into();
                Decision::Missing(Step::List(listing::Order { sites: Rc::clone(self.sites), site, path, wanted }))
            }
        })
    }

    fn listed(&self, search: &Search<'_>, listed: Listed) -> ControlFlow<Decision<'a>, Look> {
        ControlFlow::Break(match listed {
            Listed::Page(facts, page) => match listing_reply(self.request, &facts).failure() {
                Some(failure) => Decision::Reply(Reply::failed(failure, None), Asked::File(Vary::Nothing)),
                None => Decision::Listing(facts, page),
            },
            Listed::Busy => Decision::Reply(Reply::unavailable(listing::RETRY_AFTER_S), Asked::File(Vary::Nothing)),
            Listed::Nothing => match search.nothing() {
                Ok((reply, vary)) => Decision::Reply(reply, Asked::File(vary)),
                Err(next) => return ControlFlow::Continue(next),
            },
        })
    }

    /// The page of the site's own for an error, if it has one.
    fn with_page(&self, site: usize, decided: Decision<'a>) -> Decision<'a> {
        let (failure, asked) = match &decided {
            Decision::Reply(reply, asked) => (reply.failure(), *asked),
            Decision::File(entry, vary) if !is_surely_fine(self.request, &entry.found) => {
                (self.about(&entry.found).failure(), Asked::File(*vary))
            }
            _ => return decided,
        };
        let Some(failure) = failure else { return decided };
        let mut path = Vec::new();
        self.asked_path(&mut path);
        match error_page::known(self.worker, self.sites, site, &path, failure) {
            error_page::Known::BuiltIn => decided,
            error_page::Known::Page(entry) => Decision::Failed(failure, entry, asked),
            error_page::Known::Missing(step) => Decision::Missing(step),
        }
    }

    /// Puts the decision into bytes, as far as that can be done at once.
    fn write(&self, decided: Decision<'_>, out: &mut Vec<u8>, keep_alive: bool) -> (Written, Option<Step>) {
        let (path, date) = (self.worker.path.borrow(), self.worker.date());
        let context = |asked| {
            let context = self.context(keep_alive, &date);
            match asked {
                Asked::File(vary) => HeadContext { place: Some(self.place(&path)), vary, ..context },
                Asked::Script => context,
            }
        };
        match decided {
            Decision::Missing(step) => ((Status::OK, 0), Some(step)),
            Decision::Reply(reply, asked) => {
                let challenge = self.challenge(reply.failure());
                (self.plain(&reply, &HeadContext { challenge, ..context(asked) }, out), None)
            }
            Decision::File(entry, vary) => {
                self.file(&self.about(&entry.found), &entry, &context(Asked::File(vary)), out)
            }
            Decision::Failed(failure, entry, asked) => {
                let context = HeadContext { challenge: self.challenge(Some(failure)), ..context(asked) };
                self.file(&Reply::failed(failure, error_page::facts(&entry)), &entry, &context, out)
            }
            Decision::Listing(facts, page) => self.listing(&facts, page, &context(Asked::File(Vary::Nothing)), out),
            Decision::Run(located) => {
                let call = cgi::Call::new(self.worker, self.request, &located, self.user(), self.origin, &self.client);
                ((Status::OK, 0), call.map(|call| Step::Run(Box::new(call))))
            }
        }
    }

    /// What the policy makes of what was found.
    fn about<'f>(&self, found: &'f Found) -> Reply<'f> {
        let path = self.worker.path.borrow();
        let given = Circumstances {
            now_s: self.worker.unix_s(),
            ranges_max: self.sites.options.files.ranges_max,
            boundary: &|| self.worker.boundary(),
        };
        static_file(self.request, &path, found, &given)
    }

    /// A reply that has no file.
    fn plain(&self, reply: &Reply<'_>, context: &HeadContext<'_>, out: &mut Vec<u8>) -> Written {
        reserve(self.worker, out);
        reply.write_head(out, context);
        let mut sent = 0;
        if let Body::Bytes(bytes) = reply.body(context) {
            out.extend_from_slice(bytes);
            sent = bytes.len() as u64;
        }
        (reply.status(), sent)
    }

    /// A reply about what was found at a path.
    fn file(
        &self,
        reply: &Reply<'_>,
        entry: &Entry,
        context: &HeadContext<'_>,
        out: &mut Vec<u8>,
    ) -> (Written, Option<Step>) {
        let (body, Some(held)) = (reply.body(context), entry.held(reply.coding())) else {
            return (self.plain(reply, context, out), None);
        };
        let body_bytes = match &body {
            Body::Empty | Body::Bytes(_) => return (self.plain(reply, context, out), None),
            Body::File(span) => span.len,
            Body::Parts(parts) => parts.content_length(),
        };
        reserve(self.worker, out);
        if reply.is_whole() {
            out.extend_from_slice(&held.head);
            write_end(out, context);
        } else {
            reply.write_head(out, context);
        }
        let step = match (body, &held.content) {
            (Body::Parts(parts), content) => Some(Step::SendParts(Box::new(Parts::new(parts, content)))),
            (Body::File(span), Content::Memory(bytes)) => {
                let part = span.start as usize..(span.start + span.len) as usize;
                if span.len as usize <= COPIED_BODY_BYTES_MAX {
                    out.extend_from_slice(&bytes[part]);
                    None
                } else {
                    Some(Step::SendBytes(bytes.slice(part)))
                }
            }
            (Body::File(span), Content::File(file)) => Some(Step::SendFile(Rc::clone(file), span)),
            (Body::Empty | Body::Bytes(_), _) => None,
        };
        ((reply.status(), body_bytes), step)
    }

    /// The page of a listing, or that it has not changed.
    fn listing(
        &self,
        facts: &ListingFacts,
        page: Bytes,
        context: &HeadContext<'_>,
        out: &mut Vec<u8>,
    ) -> (Written, Option<Step>) {
        let reply = listing_reply(self.request, facts);
        let Body::File(span) = reply.body(context) else { return (self.plain(&reply, context, out), None) };
        reserve(self.worker, out);
        reply.write_head(out, context);
        ((reply.status(), span.len), Some(Step::SendBytes(page)))
    }

    fn context<'d>(&self, keep_alive: bool, date: &'d [u8; 29]) -> HeadContext<'d> {
        use crate::http::request::Method;
        let is_head = self.request.method == Method::Head;
        let (place, vary, challenge) = (None, Vary::Nothing, None);
        HeadContext { version: self.request.version, is_head, keep_alive, date, place, vary, challenge }
    }

    /// Where the files of a site are, its rules apply, whether or not there is one.
    fn place<'p>(&'p self, path: &'p [u8]) -> Place<'p> {
        Place { rules: &self.sites.list[self.index].options.headers, path }
    }

    /// What a 401 says.
    fn challenge(&self, failure: Option<Failure>) -> Option<&[u8]> {
        self.sites.list[self.index].challenge(failure?.challenge()?)
    }
}

/// A send buffer, when the connection has none yet.
pub(super) fn reserve(worker: &Worker, out: &mut Vec<u8>) {
    if out.capacity() == 0 {
        *out = worker.buffer();
    }
}
