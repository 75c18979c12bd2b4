//! The pages of a site's own for errors. What cannot be had, because it is missing or no file, is the built-in page's to say.

use std::rc::Rc;

use crate::site::reply::{Body, Failure, HeadContext, Reply};
use crate::site::static_file::{FileFacts, Found};

use super::answer::{self, Step};
use super::file_cache::{Content, Entry};
use super::link::Link;
use super::sites::Sites;
use super::transfer::{self, Cut};
use super::worker::Worker;

/// What is known about the page for an error.
pub(super) enum Known {
    /// The site has none for this status.
    BuiltIn,
    Page(Rc<Entry>),
    /// It has to be looked at first.
    Missing(Step),
}

/// `asked` is the path at which it failed, relative to the root and decoded.
pub(super) fn known(worker: &Worker, sites: &Rc<Sites>, site: usize, asked: &[u8], failure: Failure) -> Known {
    let page = sites.list.get(site).and_then(|site| site.error_page(asked, failure.status()));
    let Some(path) = page.map(str::as_bytes) else { return Known::BuiltIn };
    match sites.files[site].get(path, worker.now_ms()) {
        Some(entry) => Known::Page(entry),
        None => Known::Missing(Step::LearnPage { sites: Rc::clone(sites), site, path: path.into(), failure }),
    }
}

/// The facts about a page, if it is a file.
pub(super) fn facts(entry: &Entry) -> Option<&FileFacts> {
    match &entry.found {
        Found::File(file) => file.all().next(),
        _ => None,
    }
}

/// A page that is in memory, with its bytes.
pub(super) fn in_memory(entry: &Entry) -> Option<(&FileFacts, &[u8])> {
    match (facts(entry)?, &entry.held(None)?.content) {
        (facts, Content::Memory(bytes)) => Some((facts, bytes)),
        _ => None,
    }
}

/// Answers a request, in the middle of which a connection is, with an error; returns the length of the body.
pub(super) async fn send(
    link: &mut Link,
    worker: &Worker,
    site: usize,
    asked: &[u8],
    failure: Failure,
    context: HeadContext<'_>,
) -> Result<u64, Cut> {
    let page = match known(worker, &worker.sites(), site, asked, failure) {
        Known::BuiltIn => None,
        Known::Page(entry) => Some(entry),
        Known::Missing(Step::LearnPage { sites, path, .. }) => {
            Some(sites.files[site].learn(&sites.list[site], &path, worker.unix_s()).await)
        }
        Known::Missing(_) => None,
    };
    let facts = page.as_ref().and_then(|entry| facts(entry));
    let reply = Reply::failed(failure, facts);
    answer::reserve(worker, &mut link.out);
    reply.write_head(&mut link.out, &context);
    let held = page.as_ref().and_then(|entry| entry.held(None));
    match (reply.body(&context), held.map(|held| &held.content)) {
        (Body::Bytes(bytes), _) => {
            link.out.extend_from_slice(bytes);
            Ok(bytes.len() as u64)
        }
        (Body::File(span), Some(Content::Memory(bytes))) => {
            transfer::flush_with(link, worker, bytes.clone()).await?;
            Ok(span.len)
        }
        (Body::File(span), Some(Content::File(file))) => {
            transfer::file(link, worker, Rc::clone(file), span).await?;
            Ok(span.len)
        }
        _ => Ok(0),
    }
}
