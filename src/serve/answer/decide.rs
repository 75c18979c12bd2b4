//! What answers a request: who may ask, what is at its path, and which page an error has.

use std::ops::ControlFlow;
use std::rc::Rc;

use super::super::auth::{self, Outcome};
use super::super::file_cache::Entry;
use super::super::listing::{self, Listed};
use super::super::{cgi, error_page};
use super::{Answer, Asked, Decision, Learned, Step};
use crate::http::path::normalise;
use crate::http::status::Status;
use crate::site::auth::{Admission, Credentials};
use crate::site::listing::reply as listing_reply;
use crate::site::reply::{Reply, Vary};
use crate::site::resolve::{Look, Search, Verdict};
use crate::site::route::{Named, Route, route};
use crate::site::static_file::is_surely_fine;

impl<'a> Answer<'a> {
    pub(super) fn decide(&self, learned: Learned) -> Decision<'a> {
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
    pub(super) fn user(&self) -> Option<&[u8]> {
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
}
