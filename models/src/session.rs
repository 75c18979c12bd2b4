//! One connection without its socket: bytes in, bytes and steps out. Every model drives this; how bytes move is what they
//! differ in.

use std::fs::File;
use std::net::SocketAddr;

use ucaffeine::http::Millis;
use ucaffeine::http::conn::{BodyEvent, Conn, Event, Next};
use ucaffeine::http::date;
use ucaffeine::http::multipart::Boundary;
use ucaffeine::http::request::{FieldSlots, Framing, Method, Request, Version};
use ucaffeine::http::status::Status;
use ucaffeine::site::cgi_env::{self, Peer, Script};
use ucaffeine::site::reply::{Body, HeadContext, Reply, Vary};
use ucaffeine::site::route::{CgiRoute, Route, route};
use ucaffeine::site::static_file::{Circumstances, static_file};
use ucaffeine::site::{MountKind, script};

use crate::handler::Call;
use crate::served::{Served, unix_s};

/// A request body that a program gets; 413 beyond. The seeds read a request whole before they start anything.
const BODY_BYTES_MAX: usize = 1 << 20;
/// Replies that gather before they have to be sent.
const OUT_BYTES_MAX: usize = 64 << 10;

/// What a model has to do next. In every case it first sends what is in [`Session::out`].
pub(crate) enum Step {
    /// Receive, into [`Session::received`]; no later than `until`.
    Read { until: Millis },
    /// Only send.
    Write,
    /// Send this part of a file.
    File(FilePart),
    /// Hand the client over to a program, and forget the connection.
    Program(Box<Call>),
    /// Close; the client may still be sending when `linger` is set.
    Close { linger: bool },
}

/// A part of an open file.
pub(crate) struct FilePart {
    pub(crate) file: File,
    pub(crate) start: u64,
    pub(crate) len: u64,
    /// The decoded path that it was found at, relative to the root.
    pub(crate) path: Box<[u8]>,
}

/// How many requests a connection gets answered.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Requests {
    /// One, then it is closed.
    One,
    /// As many as the client likes.
    Many,
}

/// The state of a connection.
pub(crate) struct Session {
    conn: Conn,
    input: Vec<u8>,
    path: Vec<u8>,
    phase: Phase,
    requests: Requests,
    ends: Option<(SocketAddr, SocketAddr)>,
    /// Bytes that wait to be sent.
    pub(crate) out: Vec<u8>,
}

enum Phase {
    Head,
    /// A program waits for the request's body.
    Body(Box<Call>),
    /// The reply is on its way.
    Replied,
    /// The rest of a body that nobody wants.
    Draining,
}

impl Session {
    /// A connection that was just accepted; `ends` are the client's and our address.
    pub(crate) fn new(now: Millis, requests: Requests, ends: Option<(SocketAddr, SocketAddr)>) -> Session {
        let conn = Conn::new(now);
        Session { conn, input: Vec::new(), path: Vec::new(), phase: Phase::Head, requests, ends, out: Vec::new() }
    }

    /// Bytes from the client; none is the end of its stream.
    pub(crate) fn received(&mut self, bytes: &[u8]) {
        match bytes {
            [] => self.conn.end_of_input(),
            bytes => self.input.extend_from_slice(bytes),
        }
    }

    /// So many bytes were taken by the client.
    pub(crate) fn sent(&mut self, now: Millis, bytes: usize) {
        self.conn.sent(now, bytes as u64);
    }

    /// Until when the client may take nothing at all.
    pub(crate) fn send_until(&mut self, served: &Served) -> Millis {
        self.conn.reply_until(&served.limits)
    }

    /// A send is about to start.
    pub(crate) fn sending(&mut self, now: Millis) {
        self.conn.sending(now);
    }

    /// Nothing is lost when the connection is closed now.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Head) && self.conn.is_between_requests() && self.out.is_empty()
    }

    /// Decides.
    pub(crate) fn step(&mut self, served: &Served) -> Step {
        loop {
            let now = served.now_ms();
            let step = match self.phase {
                Phase::Head if self.out.len() >= OUT_BYTES_MAX => Some(Step::Write),
                Phase::Head => self.head(served, now),
                Phase::Body(_) | Phase::Draining => self.body(served, now),
                Phase::Replied => match self.conn.finish(&served.limits, now) {
                    Next::KeepAlive => self.go(Phase::Head),
                    Next::Drain => self.go(Phase::Draining),
                    Next::Close => Some(Step::Close { linger: !self.input.is_empty() }),
                    Next::CloseLingering => Some(Step::Close { linger: true }),
                },
            };
            if let Some(step) = step {
                return step;
            }
        }
    }

    fn go(&mut self, phase: Phase) -> Option<Step> {
        self.phase = phase;
        None
    }

    fn head(&mut self, served: &Served, now: Millis) -> Option<Step> {
        let Session { conn, input, path, out, .. } = self;
        let mut slots = FieldSlots::new();
        match conn.poll(&served.limits, now, input, &mut slots) {
            Event::NeedBytes { until } => Some(Step::Read { until }),
            Event::Over => Some(Step::Close { linger: false }),
            Event::Refuse(refusal) => {
                write(&Reply::error(refusal.status), Version::Http11, false, false, out);
                Some(Step::Close { linger: true })
            }
            Event::Request { request, head_len } => {
                conn.begin(&served.limits, now, &request);
                if self.requests == Requests::One {
                    conn.close_after();
                }
                let answered = answer(served, &request, conn.keep_alive(), self.ends, path, out);
                input.drain(..head_len);
                match answered {
                    Answered::Whole => self.go(Phase::Replied),
                    Answered::File(part) => {
                        self.phase = Phase::Replied;
                        Some(Step::File(part))
                    }
                    Answered::Program(call) => self.go(Phase::Body(call)),
                }
            }
        }
    }

    fn body(&mut self, served: &Served, now: Millis) -> Option<Step> {
        match self.conn.body(&served.limits, now, &self.input) {
            BodyEvent::Data { skip, len } => {
                if let Phase::Body(call) = &mut self.phase {
                    call.body.extend_from_slice(&self.input[skip..skip + len]);
                    if call.body.len() > BODY_BYTES_MAX {
                        self.conn.close_after();
                        write(&Reply::error(Status::CONTENT_TOO_LARGE), Version::Http11, false, false, &mut self.out);
                        return Some(Step::Close { linger: true });
                    }
                }
                self.input.drain(..skip + len);
                None
            }
            BodyEvent::NeedBytes { consumed, until } => {
                self.input.drain(..consumed);
                Some(Step::Read { until })
            }
            BodyEvent::End { consumed } => {
                self.input.drain(..consumed);
                match std::mem::replace(&mut self.phase, Phase::Replied) {
                    Phase::Body(call) => Some(Step::Program(call)),
                    _ => None,
                }
            }
            BodyEvent::Refuse(refusal) => {
                if let Phase::Body(_) = self.phase {
                    write(&Reply::error(refusal.status), Version::Http11, false, false, &mut self.out);
                }
                Some(Step::Close { linger: true })
            }
            BodyEvent::Cut => Some(Step::Close { linger: true }),
        }
    }

    /// The program could not be started: this is its answer, and the connection's last.
    pub(crate) fn launch_failed(&mut self) -> Step {
        self.conn.close_after();
        write(&Reply::error(Status::INTERNAL_SERVER_ERROR), Version::Http11, false, false, &mut self.out);
        Step::Close { linger: true }
    }
}

enum Answered {
    Whole,
    File(FilePart),
    Program(Box<Call>),
}

fn answer(
    served: &Served,
    request: &Request<'_>,
    keep_alive: bool,
    ends: Option<(SocketAddr, SocketAddr)>,
    path: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Answered {
    let is_head = request.method == Method::Head;
    let mut plain = |reply: &Reply<'_>| {
        write(reply, request.version, is_head, keep_alive, out);
        Answered::Whole
    };
    match route(&served.site, request, path) {
        Route::Reply(reply) => plain(&reply),
        Route::Cgi(cgi) => match program(served, request, &cgi, path, ends) {
            Ok(call) => {
                if request.expects_continue && request.version >= Version::Http11 {
                    out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                }
                Answered::Program(Box::new(call))
            }
            Err(status) => plain(&Reply::error(status)),
        },
        Route::File(_) => {
            let now_s = unix_s();
            let (found, file) = served.find(path, now_s);
            // One range or the whole: several are the server's own business.
            let given = Circumstances { now_s, ranges_max: 1, boundary: &|| Boundary::new(0) };
            let reply = static_file(request, path, &found, &given);
            let date = date::format(now_s);
            let (version, date) = (request.version, &date);
            let context = HeadContext { version, is_head, keep_alive, date, place: None, vary: Vary::Nothing };
            match (reply.body(&context), file) {
                (Body::File(span), Some(file)) => {
                    reply.write_head(out, &context);
                    let path = path.as_slice().into();
                    Answered::File(FilePart { file, start: span.start, len: span.len, path })
                }
                _ => plain(&reply),
            }
        }
    }
}

/// What runs, and with which environment.
fn program(
    served: &Served,
    request: &Request<'_>,
    cgi: &CgiRoute,
    rest: &[u8],
    ends: Option<(SocketAddr, SocketAddr)>,
) -> Result<Call, Status> {
    use std::os::unix::ffi::OsStrExt;
    let (file, name, path_info) = match cgi.kind {
        MountKind::Program => (served.targets[cgi.mount].clone(), Vec::new(), rest),
        MountKind::Folder => served.script(cgi.mount, rest).ok_or(Status::NOT_FOUND)?,
    };
    // A program that leaves the response to the server is not what the models compare.
    if cgi.kind == MountKind::Folder && !script::is_nph(file.as_os_str().as_bytes()) {
        return Err(Status::NOT_IMPLEMENTED);
    }
    let is_executable = file.metadata().is_ok_and(|found| {
        use std::os::unix::fs::PermissionsExt;
        found.permissions().mode() & 0o111 != 0
    });
    match file.exists() {
        false => return Err(Status::NOT_FOUND),
        true if !is_executable => return Err(Status::FORBIDDEN),
        true => {}
    }
    let translated = [served.root_path.as_os_str().as_bytes(), path_info].concat();
    let script = Script {
        script_name: &name,
        path_info,
        script_filename: file.as_os_str().as_bytes(),
        document_root: served.root_path.as_os_str().as_bytes(),
        path_translated: &translated,
    };
    let (remote, local) = match ends {
        Some((remote, local)) => (Some(remote), Some(local)),
        None => (None, None),
    };
    let address = |end: Option<SocketAddr>| end.map(|end| end.ip().to_string()).unwrap_or_default();
    let (remote_addr, server_addr) = (address(remote), address(local));
    let peer = Peer {
        remote_addr: &remote_addr,
        remote_port: remote.map(|remote| remote.port()),
        server_addr: &server_addr,
        server_port: local.map_or(80, |local| local.port()),
        server_name: &server_addr,
        https: false,
        hearsay: false,
    };
    let length = match request.framing {
        Framing::Length(length) => Some(length),
        Framing::None | Framing::Chunked => None,
    };
    let mut call = Call::new(&file, request.framing != Framing::None);
    let mount = &served.site.mounts[cgi.mount];
    cgi_env::cgi_env(&served.site, mount, request, &script, &peer, length, &mut |name, value| call.put(name, value));
    Ok(call)
}

fn write(reply: &Reply<'_>, version: Version, is_head: bool, keep_alive: bool, out: &mut Vec<u8>) {
    let date = date::format(unix_s());
    let context = HeadContext { version, is_head, keep_alive, date: &date, place: None, vary: Vary::Nothing };
    reply.write_head(out, &context);
    if let Body::Bytes(bytes) = reply.body(&context) {
        out.extend_from_slice(bytes);
    }
}
