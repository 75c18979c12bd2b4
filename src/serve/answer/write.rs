//! A decision, in bytes: the head, and as much of the body as goes along with it.

use std::rc::Rc;

use bytes::Bytes;

use super::super::file_cache::{Content, Entry};
use super::super::parts::Parts;
use super::super::{cgi, error_page};
use super::{Answer, Asked, COPIED_BODY_BYTES_MAX, Decision, Step, Written, reserve};
use crate::http::status::Status;
use crate::site::headers::Place;
use crate::site::listing::{ListingFacts, reply as listing_reply};
use crate::site::reply::{Body, Failure, HeadContext, Reply, Vary, write_end};
use crate::site::static_file::{Circumstances, Found, static_file};

impl Answer<'_> {
    /// Puts the decision into bytes, as far as that can be done at once.
    pub(super) fn write(&self, decided: Decision<'_>, out: &mut Vec<u8>, keep_alive: bool) -> (Written, Option<Step>) {
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
    pub(super) fn about<'f>(&self, found: &'f Found) -> Reply<'f> {
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
