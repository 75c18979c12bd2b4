//! Finds out what a step was missing.

use std::rc::Rc;

use super::answer::{Learned, Step};
use super::link::Link;
use super::sites::Sites;
use super::worker::Worker;
use super::{auth, cgi, listing};

/// The facts that a step is missing; nothing for a step that is missing none.
pub(super) async fn learn(link: &mut Link, worker: &Worker, step: Step) -> Learned {
    let now_s = worker.unix_s();
    let look_up = async |sites: Rc<Sites>, site: usize, path: Box<[u8]>| -> Rc<super::file_cache::Entry> {
        sites.files[site].learn(&sites.list[site], &path, now_s).await
    };
    match step {
        Step::Learn { sites, site, path, look } => Learned::File(look, look_up(sites, site, path).await),
        Step::LearnPage { sites, site, path, failure } => {
            Learned::Page(Box::new((failure, look_up(sites, site, path).await)))
        }
        Step::List(order) => Learned::Listing(Box::new(listing::list(link, worker, order).await)),
        Step::Verify(order) => Learned::Verified(auth::verify(link, worker, *order).await),
        Step::FindScript(wanted) => Learned::Script(cgi::locate(link, worker, wanted).await),
        _ => Learned::Nothing,
    }
}
