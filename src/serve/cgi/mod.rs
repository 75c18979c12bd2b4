//! CGI: from a request to a running script and back.
//!
//! [`locate`] finds the script (facts), `site` says what it is told and what its output means, [`run`] moves the bytes:
//! admission, the body to stdin, stdout to the client and stderr to the log, all at once, under the deadlines of
//! `CgiOptions`; [`reap`] sees the child off.

mod admission;
mod body;
mod bounds;
mod escaped;
mod exchange;
mod journal;
mod output;
mod reap;
pub(super) mod rehearsal;
mod splice;

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::http::conn::{Conn, Event};
use crate::http::forwarded::Client;
use crate::http::request::{FieldSlots, Framing, Method, Request, Version};
use crate::http::status::Status;
use crate::rt::confine::Blame;
use crate::rt::fs::{Dir, Kind};
use crate::rt::process::Command;
use crate::rt::time::Instant;
use crate::site::cgi_env::{Peer, Script, cgi_env};
use crate::site::reply::{Failure, HeadContext, Vary};
use crate::site::route::CgiRoute;
use crate::site::{MountKind, script};

pub(super) use admission::{Admission, Caps};
pub(super) use bounds::{AllBounds, Bounds};
use journal::Journal;

use super::link::{Addresses, Link};
use super::options::CgiOptions;
use super::origin::Origin;
use super::sites::Sites;
use super::transfer::{self, Cut};
use super::worker::Worker;
use super::{answer, error_page, learn};

/// Redirects to other paths of this server that one request may take (RFC 3875 section 6.2.2 sets no bound).
const LOCAL_REDIRECTS_MAX: usize = 5;
/// What a 503 tells the client to wait.
const RETRY_AFTER_S: u32 = 5;

/// Where the scripts of a mount are.
pub(super) struct MountRoot {
    /// The folder; `None` for a mount of one program.
    pub(super) dir: Option<Dir>,
    pub(super) target: PathBuf,
    /// Its number among the mounts of all sites.
    pub(super) number: usize,
    /// How its scripts are run, and for how long.
    pub(super) cgi: Rc<CgiOptions>,
    /// What they are bound by, if by anything.
    pub(super) bounds: Option<Arc<Bounds>>,
}

/// A request for a script that has to be found.
pub(super) struct Wanted {
    pub(super) sites: Rc<Sites>,
    pub(super) site: usize,
    pub(super) route: CgiRoute,
    /// The path after the mount's prefix, decoded.
    pub(super) rest: Box<[u8]>,
}

/// A script, or why there is none.
pub(super) struct Located {
    sites: Rc<Sites>,
    site: usize,
    mount: usize,
    pub(super) place: Result<Place, Status>,
    addresses: Addresses,
    /// A name that no other request has (`Worker::request_tag`).
    request: String,
}

pub(super) struct Place {
    file: PathBuf,
    name: Vec<u8>,
    path_info: Vec<u8>,
}

impl Place {
    /// The path that leads to the script alone, relative to the root: whatever follows it, it is this one that runs.
    pub(super) fn script_path(&self) -> &[u8] {
        self.name.strip_prefix(b"/").unwrap_or(&self.name)
    }

    /// The whole path.
    fn path(&self) -> Vec<u8> {
        [self.script_path(), &self.path_info].concat()
    }
}

/// A script that is to be run for a request, with everything that the request said.
pub(super) struct Call {
    /// Its folder stays for as long as the reply lasts, and what it was to be run by.
    sites: Rc<Sites>,
    site: usize,
    command: Command,
    journal: Rc<Journal>,
    /// What its descendants can be found by.
    tag: String,
    /// Its mount's number, for admission.
    mount: usize,
    cgi: Rc<CgiOptions>,
    bounds: Option<Arc<Bounds>>,
    /// The whole path that was asked for, decoded, relative to the root.
    path: Vec<u8>,
    is_nph: bool,
    framing: Framing,
    expects_continue: bool,
    version: Version,
    method: Method,
    /// The head as it came, for a redirect to another path of this server.
    fields: Vec<(String, Vec<u8>)>,
    /// When the request came, on the core's clock; 0 where nobody counts.
    pub(super) since_ns: u64,
}

/// Finds the script and the addresses that a request needs.
pub(super) async fn locate(link: &Link, worker: &Worker, wanted: Box<Wanted>) -> Box<Located> {
    let addresses = link.addresses().await;
    let place = find(&wanted).await;
    let request = worker.request_tag();
    if let Err(Refused::NotExecutable(file)) = &place {
        let journal = Journal::new(file.display().to_string(), request.clone());
        journal.warn("nobody may execute it (chmod +x): 403");
    }
    let place = place.map_err(|refused| refused.status());
    let Wanted { sites, site, route, .. } = *wanted;
    Box::new(Located { sites, site, mount: route.mount, place, addresses, request })
}

/// Why a request has no script.
enum Refused {
    Missing,
    NotExecutable(PathBuf),
}

impl Refused {
    fn status(&self) -> Status {
        match self {
            Refused::Missing => Status::NOT_FOUND,
            Refused::NotExecutable(_) => Status::FORBIDDEN,
        }
    }
}

async fn find(wanted: &Wanted) -> Result<Place, Refused> {
    let mount = &wanted.sites.list[wanted.site].mounts[wanted.route.mount];
    let root = &wanted.sites.mounts[wanted.site][wanted.route.mount];
    let Some(dir) = root.dir.as_ref().filter(|_| wanted.route.kind == MountKind::Folder) else {
        let name = mount.prefix.clone().into_bytes();
        return Ok(Place { file: root.target.clone(), name, path_info: wanted.rest.to_vec() });
    };
    for candidate in script::candidates(&wanted.rest) {
        let found = dir.find(candidate.file).await.map_err(|_error| Refused::Missing)?;
        let file = root.target.join(std::ffi::OsStr::from_bytes(candidate.file));
        match found.metadata.kind {
            Kind::Directory => continue,
            Kind::Symlink | Kind::Special => return Err(Refused::Missing),
            Kind::File if found.metadata.mode & 0o111 == 0 => return Err(Refused::NotExecutable(file)),
            Kind::File => {}
        }
        let mut name = Vec::new();
        script::script_name(mount, &candidate, &mut name);
        return Ok(Place { file, name, path_info: candidate.path_info.to_vec() });
    }
    Err(Refused::Missing)
}

impl Call {
    /// Takes from the request all that the script will be told: the request itself does not outlive this step.
    /// `user` is who has been admitted by a password.
    pub(super) fn new(
        worker: &Worker,
        request: &Request<'_>,
        located: &Located,
        user: Option<&[u8]>,
        origin: Option<&Origin>,
        client: &Client<'_>,
    ) -> Option<Call> {
        let place = located.place.as_ref().ok()?;
        let site = &located.sites.list[located.site];
        let root = &located.sites.mounts[located.site][located.mount];
        let document_root = located.sites.files[located.site].root_path().as_os_str().as_bytes();
        let mut path_translated = document_root.to_vec();
        path_translated.extend_from_slice(&place.path_info);
        let script = Script {
            script_name: &place.name,
            path_info: &place.path_info,
            script_filename: place.file.as_os_str().as_bytes(),
            document_root,
            path_translated: &path_translated,
        };
        // A client that is known by its proxy has the port that the proxy names, or none.
        let remote = match client.addr {
            Some(addr) => Some((addr, client.port)),
            None => located.addresses.remote.map(|addr| (addr.ip(), Some(addr.port()))),
        };
        let remote_addr = remote.map(|(addr, _)| addr.to_string()).unwrap_or_default();
        let local = located.addresses.local.map(|addr| addr.ip().to_string()).unwrap_or_default();
        let peer = Peer {
            remote_addr: &remote_addr,
            remote_port: remote.and_then(|(_, port)| port),
            server_addr: &local,
            server_port: client
                .server_port(request.host)
                .unwrap_or_else(|| located.addresses.local.map_or(80, |addr| addr.port())),
            server_name: if local.is_empty() { "localhost" } else { &local },
            https: client.https == Some(true),
            user,
            hearsay: origin.is_some_and(|origin| origin.is_doubted(&worker.options.trusted)),
        };
        let request = &Request { host: client.host.unwrap_or(request.host), ..*request };
        let body_len = if let Framing::Length(length) = request.framing { Some(length) } else { None };
        let mut command = Command::new(&place.file);
        let mut emit = |name: &[u8], value: &[u8]| {
            command.env(name, value);
        };
        cgi_env(site, &site.mounts[located.mount], request, &script, &peer, body_len, &mut emit);
        let tag = located.request.clone();
        command.env(escaped::TAG, &tag);
        if let Some(folder) = place.file.parent() {
            command.directory(folder);
        }
        Some(Call {
            sites: Rc::clone(&located.sites),
            site: located.site,
            command,
            journal: Journal::new(place.file.display().to_string(), tag.clone()),
            tag,
            mount: root.number,
            cgi: Rc::clone(&root.cgi),
            bounds: root.bounds.clone(),
            path: place.path(),
            is_nph: script::is_nph(&place.name),
            framing: request.framing,
            expects_continue: request.expects_continue,
            version: request.version,
            method: request.method,
            fields: request.fields.iter().map(|(name, value)| (name.to_owned(), value.to_vec())).collect(),
            since_ns: 0,
        })
    }

    fn context<'d>(&self, keep_alive: bool, date: &'d [u8; 29]) -> HeadContext<'d> {
        HeadContext {
            version: self.version,
            is_head: self.method == Method::Head,
            keep_alive,
            date,
            place: None,
            vary: Vary::Nothing,
            challenge: None,
        }
    }
}

/// Whether a body of that framing may go to a script at all.
pub(super) fn body_is_too_large(root: &MountRoot, framing: Framing) -> bool {
    matches!((framing, root.cgi.body_bytes_max), (Framing::Length(length), Some(max)) if length > max)
}

/// What came of a script, as far as its client is concerned.
enum Outcome {
    /// The reply is on its way, whole and framed.
    Replied,
    /// Nothing was sent yet; this is the answer.
    Failed(Status),
    /// Nothing was sent yet; the answer is at this path.
    Redirect(Vec<u8>),
}

/// Runs a script and sends its reply. The request's head is consumed, its body is still to be read.
pub(super) async fn run(link: &mut Link, worker: &Rc<Worker>, call: Box<Call>) -> Result<(), Cut> {
    let mut call = call;
    let mut redirects = 0;
    loop {
        match attempt(link, worker, &mut call).await? {
            Outcome::Replied => break,
            Outcome::Failed(status) => break fail(link, worker, &call, status).await?,
            Outcome::Redirect(_) if redirects == LOCAL_REDIRECTS_MAX => {
                call.journal.error(format_args!("it redirects once more after {redirects} local redirects: 500"));
                let status = Status::INTERNAL_SERVER_ERROR;
                break fail(link, worker, &call, status).await?;
            }
            Outcome::Redirect(path) => match redirect(link, worker, &call, &path).await? {
                Redirected::Script(next) => {
                    let since_ns = call.since_ns;
                    (call, redirects) = (next, redirects + 1);
                    call.since_ns = since_ns;
                }
                Redirected::Sent => break,
            },
        }
    }
    worker.metrics.sent(&worker.metrics.scripted, &mut link.since_ns);
    link.conn.ended(link.out.len());
    Ok(())
}

/// From a place in the queue to the end of the reply.
async fn attempt(link: &mut Link, worker: &Rc<Worker>, call: &mut Call) -> Result<Outcome, Cut> {
    let wait = Duration::from_millis(call.cgi.queue_ms_max);
    let permit = worker.admission.acquire(call.mount, wait);
    let Ok(permit) = transfer::unloading(link.transport.stream(), &mut link.input, permit).await else {
        worker.metrics.scripts.rejected.add(1);
        call.journal.warn("too many scripts are running: 503");
        return Ok(Outcome::Failed(Status::SERVICE_UNAVAILABLE));
    };
    let stdin = match body::prepare(link, worker, call).await? {
        Ok(stdin) => stdin,
        Err(status) => return Ok(Outcome::Failed(status)),
    };
    let group = call.bounds.as_ref().and_then(|bounds| bounds.group(&call.tag));
    let mut escaped = escaped::Escaped::new(call.tag.clone(), group);
    let since = Instant::now();
    let started = exchange::start(worker, call, stdin).await;
    let (pipes, child) = match started {
        Ok(started) => started,
        Err(error) => {
            escaped.forget(&worker.cpus);
            worker.metrics.scripts.not_started.add(1);
            let status = status_of(error.blame());
            call.journal.error(format_args!("{error}: {}", status.code()));
            return Ok(Outcome::Failed(status));
        }
    };
    let run = (call.journal.script(), since);
    let ward = reap::Ward::new(Rc::clone(worker), Rc::clone(&call.cgi), child, escaped, permit, run);
    let last_words = exchange::last_words(&pipes, ward.child()).await;
    match last_words {
        Some(last_words) => exchange::report(link, worker, call, &pipes.stdout, ward, last_words, since).await,
        // Boxed: most scripts are over by now, and need no room for it.
        None => Box::pin(exchange::run(link, worker, call, pipes, ward, since)).await,
    }
}

fn status_of(blame: Blame) -> Status {
    match blame {
        Blame::Missing => Status::NOT_FOUND,
        Blame::Forbidden => Status::FORBIDDEN,
        Blame::Shortage => Status::SERVICE_UNAVAILABLE,
        Blame::Program | Blame::Server => Status::INTERNAL_SERVER_ERROR,
    }
}

/// Answers with an error.
async fn fail(link: &mut Link, worker: &Worker, call: &Call, status: Status) -> Result<(), Cut> {
    worker.metrics.script_replied(status, call.since_ns);
    let failure = match status {
        Status::SERVICE_UNAVAILABLE => Failure::unavailable(RETRY_AFTER_S),
        status => Failure::new(status),
    };
    let date = worker.date();
    let context = call.context(link.conn.keep_alive(), &date);
    error_page::send(link, worker, call.site, &call.path, failure, context).await
}

enum Redirected {
    Script(Box<Call>),
    Sent,
}

/// Serves another path of this server as if the client had asked for it by GET (RFC 3875 section 6.2.2).
async fn redirect(link: &mut Link, worker: &Rc<Worker>, call: &Call, path: &[u8]) -> Result<Redirected, Cut> {
    let head = redirected_head(call, path);
    let mut learned = answer::Learned::Nothing;
    loop {
        let mut slots = FieldSlots::new();
        let mut conn = Conn::new(worker.now_ms());
        let limits = &call.sites.limits;
        let Event::Request { request, .. } = conn.poll(limits, worker.now_ms(), &head, &mut slots) else {
            call.journal.error("it redirects to a path that is none: 502");
            let status = Status::BAD_GATEWAY;
            fail(link, worker, call, status).await?;
            return Ok(Redirected::Sent);
        };
        let step =
            match answer::redirected(worker, link, &request, std::mem::replace(&mut learned, answer::Learned::Nothing))
            {
                answer::Redirect::Missing(step) => step,
                answer::Redirect::Answered { status, step } => {
                    if !matches!(step, Some(answer::Step::Run(_))) {
                        worker.metrics.script_replied(status, call.since_ns);
                    }
                    match step {
                        Some(answer::Step::SendBytes(bytes)) => transfer::flush_with(link, worker, bytes).await?,
                        Some(answer::Step::SendFile(file, span)) => transfer::file(link, worker, file, span).await?,
                        Some(answer::Step::SendParts(parts)) => parts.send(link, worker).await?,
                        Some(answer::Step::Run(call)) => return Ok(Redirected::Script(call)),
                        _ => {}
                    }
                    return Ok(Redirected::Sent);
                }
            };
        learned = learn::learn(link, worker, step).await;
    }
}

/// The head of the request that a local redirect stands for: the client's, but for method, path and body.
fn redirected_head(call: &Call, path: &[u8]) -> Vec<u8> {
    // Of the old request's body; and Range, which would cut a page that the client does not know of.
    const LEFT_OUT: [&str; 6] = ["content-length", "content-type", "transfer-encoding", "expect", "trailer", "range"];
    let method: &[u8] = if call.method == Method::Head { b"HEAD " } else { b"GET " };
    let version: &[u8] = if call.version == Version::Http10 { b" HTTP/1.0\r\n" } else { b" HTTP/1.1\r\n" };
    let mut head = [method, path, version].concat();
    for (name, value) in &call.fields {
        let conditional = name.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("if-"));
        if conditional || LEFT_OUT.iter().any(|other| name.eq_ignore_ascii_case(other)) {
            continue;
        }
        head.extend_from_slice(name.as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value);
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}
