//! A script run once, without a server: the same way to it, the same environment, descriptors, bounds and clock, and what the
//! server would make of its output. For who says "but it works in my shell" (`ucaffeine cgi-env`).

use std::cell::{Cell, RefCell};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use crate::http::conn::{Conn, Event};
use crate::http::forwarded;
use crate::http::request::{FieldSlots, Request};
use crate::http::status::Status;
use crate::rt::process::{self, PipeReader, PipeWriter, Signal};
use crate::rt::time::{self, timeout};
use crate::rt::{join2, select2};
use crate::site::cgi_reply::{Head, Output, Parsed};
use crate::site::route::{Route, route};

use super::super::link::Addresses;
use super::super::options::{AccessLog, CgiOptions, Options};
use super::super::worker::Worker;
use super::super::{StartError, start};
use super::body::Stdin;
use super::exchange::{self, Pipes, describe};
use super::{Call, Located, Refused, Wanted, find, status_of};

/// Whose request it is.
#[derive(Clone, Debug)]
pub struct Client<'a> {
    /// Its address.
    pub remote: SocketAddr,
    /// The one that it would have connected to.
    pub local: SocketAddr,
    /// The head of its request, to the blank line.
    pub head: &'a [u8],
    /// The body, of the length that the head says.
    pub body: &'a [u8],
}

/// Runs the script that such a request leads to, and says all there is to say about it: to `out`, but the script's own stderr to
/// `errors`. True when the client would get the script's reply, whatever its status; false when it would get one of the server's own.
///
/// Blocks until the script has ended, or was ended as the server would have.
///
/// # Errors
/// As for the start of a server, but that nothing is listened on.
pub fn rehearse(
    options: Options,
    client: &Client<'_>,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> Result<bool, StartError> {
    let (runtime, worker) = start::deaf(Options { access_log: AccessLog::Off, ..options })?;
    let stage = Stage { worker: &worker, out: RefCell::new(out), errors: RefCell::new(errors) };
    let outcome = runtime.block_on(stage.play(client));
    drop(runtime);
    Ok(match outcome {
        Ok(()) => true,
        Err(Ending { status, why }) => {
            let name = format!("{} {}", status.code(), status.phrase());
            stage.say("answer", format_args!("{name}, the server's own: {why}"));
            false
        }
    })
}

/// How often is looked whether a script that was asked to end has done so.
const LOOK_MS: u64 = 20;

/// The client would get the server's own reply.
struct Ending {
    status: Status,
    why: String,
}

fn ending(status: Status, why: impl ToString) -> Ending {
    Ending { status, why: why.to_string() }
}

struct Stage<'a> {
    worker: &'a Worker,
    out: RefCell<&'a mut dyn Write>,
    errors: RefCell<&'a mut dyn Write>,
}

/// What a script has written, and how it has ended.
struct Performance {
    /// The beginning of its output, in which the head is.
    head: Vec<u8>,
    bytes: u64,
    /// Its last byte is a line's end.
    ends_line: bool,
    exit: Option<ExitStatus>,
    /// A limit that it has run into.
    late: Option<&'static str>,
}

impl Stage<'_> {
    async fn play(&self, client: &Client<'_>) -> Result<(), Ending> {
        let worker = self.worker;
        let mut slots = FieldSlots::new();
        let mut conn = Conn::new(worker.now_ms());
        let request = match conn.poll(&worker.limits(), worker.now_ms(), client.head, &mut slots) {
            Event::Request { request, .. } => request,
            Event::Refuse(refusal) => return Err(ending(refusal.status, refusal.why)),
            Event::NeedBytes { .. } | Event::Over => return Err(ending(Status::BAD_REQUEST, "the head is not whole")),
        };
        let located = self.locate(client, &request).await?;
        let Some(mut call) = Call::new(worker, &request, &located, None, None, &forwarded::Client::default()) else {
            return Err(ending(Status::NOT_FOUND, "there is no such program"));
        };
        self.introduce(&call, client);
        let stdin = if client.body.is_empty() { Stdin::Null } else { Stdin::Pipe };
        let started = exchange::start(worker, &mut call, stdin).await;
        let (pipes, child) = started.map_err(|error| ending(status_of(error.blame()), error))?;
        self.line(format_args!("output (process {})", child.pid().as_raw_nonzero()));
        let performance = self.perform(client, &call.cgi, pipes, child).await;
        if !performance.ends_line {
            write(&self.out, b"\n");
        }
        self.line(format_args!("the end of it, {} bytes", performance.bytes));
        self.say("exit", describe(performance.exit));
        self.judge(&call, &performance)
    }

    /// The way to the script, as for any request.
    async fn locate(&self, client: &Client<'_>, request: &Request<'_>) -> Result<Located, Ending> {
        let worker = self.worker;
        let sites = worker.sites();
        let site = sites.hosts.find(request.host);
        let mut rest = Vec::new();
        let route = match route(&sites.list[site], request, &mut rest) {
            Route::Cgi(route) => route,
            Route::File(_) => return Err(ending(Status::NOT_FOUND, "no program is meant: such a path is a file's")),
            Route::Reply(reply) => return Err(ending(reply.status(), "no program is asked for this")),
        };
        if super::body_is_too_large(&sites.mounts[site][route.mount], request.framing) {
            return Err(ending(Status::CONTENT_TOO_LARGE, "the body is too large (cgi-body-bytes-max)"));
        }
        let wanted = Wanted { sites: std::rc::Rc::clone(&sites), site, route, rest: rest.into() };
        let place = find(&wanted).await.map_err(|refused| match refused {
            Refused::Missing => ending(Status::NOT_FOUND, "there is no such program"),
            Refused::NotExecutable(file) => {
                ending(Status::FORBIDDEN, format_args!("nobody may execute {} (chmod +x)", file.display()))
            }
        })?;
        let addresses = Addresses { remote: Some(client.remote), local: Some(client.local) };
        Ok(Located { sites, site, mount: route.mount, place: Ok(place), addresses, request: worker.request_tag() })
    }

    fn introduce(&self, call: &Call, client: &Client<'_>) {
        let command = &call.command;
        self.say("program", command.program_path().display());
        self.say("argument", command.program_path().display());
        self.say("folder", command.directory_path().unwrap_or(std::path::Path::new("")).display());
        match client.body.len() {
            0 => self.say("stdin", "/dev/null"),
            len => self.say("stdin", format_args!("a pipe with {len} bytes")),
        }
        let mut variables: Vec<&[u8]> = command.variables().collect();
        variables.sort_unstable();
        for variable in variables {
            // A line each: what would break it is escaped, as Rust writes strings.
            self.say("variable", String::from_utf8_lossy(variable).escape_debug());
        }
    }

    /// Lets the script run to its end, or to a limit.
    async fn perform(
        &self,
        client: &Client<'_>,
        options: &CgiOptions,
        pipes: Pipes,
        child: process::Child,
    ) -> Performance {
        let Pipes { stdin, stdout, stderr } = pipes;
        let performance =
            RefCell::new(Performance { head: Vec::new(), bytes: 0, ends_line: true, exit: None, late: None });
        let exit = Cell::new(None);
        let talk = join2(
            join2(feed(stdin, client.body), self.listen(options, &stdout, &performance, &child, &exit)),
            self.overhear(&stderr),
        );
        let end = async {
            let status = process::exited(&child).await.ok();
            exit.set(status);
            // Whoever still holds its stdout or stderr then is ended.
            time::sleep(Duration::from_millis(options.held_stdout_ms_max)).await;
        };
        let ended = match options.total_ms_max {
            None => Some(select2(talk, end).await),
            Some(total) => timeout(Duration::from_millis(total), select2(talk, end)).await.ok(),
        };
        let mut performance = performance.into_inner();
        if ended.is_none() {
            performance.late = Some("it ran for too long (cgi-total-ms-max)");
        }
        performance.exit = match exit.get() {
            Some(status) => {
                let exited = child.reaped(status);
                let _ = exited.kill_group(Signal::TERM);
                Some(status)
            }
            None => {
                if performance.late.is_some() {
                    let _ = child.kill_group(Signal::TERM);
                    let patience = Duration::from_millis(options.term_to_kill_ms);
                    if let Ok(Ok(status)) = timeout(patience, process::exited(&child)).await {
                        return Performance { exit: Some(child.reaped(status).status), ..performance };
                    }
                    let _ = child.kill_group(Signal::KILL);
                }
                process::wait(child).await.ok().map(|exited| exited.status)
            }
        };
        performance
    }

    /// Its stdout, as it comes.
    async fn listen(
        &self,
        options: &CgiOptions,
        stdout: &PipeReader,
        performance: &RefCell<Performance>,
        child: &process::Child,
        exit: &Cell<Option<ExitStatus>>,
    ) {
        loop {
            let (ms, why) = match performance.borrow().bytes {
                0 => (options.first_byte_ms_max, "it wrote nothing for too long (cgi-first-byte-ms-max)"),
                _ => (options.idle_ms_max, "it wrote nothing more for too long (cgi-idle-ms-max)"),
            };
            let Ok(read) = timeout(Duration::from_millis(ms), stdout.read()).await else {
                performance.borrow_mut().late = Some(why);
                return end(options, child, exit).await;
            };
            let Ok(Some(bytes)) = read else { return };
            write(&self.out, &bytes);
            let mut performance = performance.borrow_mut();
            performance.bytes += bytes.len() as u64;
            performance.ends_line = bytes.ends_with(b"\n");
            if performance.head.len() < options.head_bytes_max {
                performance.head.extend_from_slice(&bytes);
            }
        }
    }

    async fn overhear(&self, stderr: &PipeReader) {
        while let Ok(Some(bytes)) = stderr.read().await {
            write(&self.errors, &bytes);
        }
    }

    /// What the server would make of it.
    fn judge(&self, call: &Call, performance: &Performance) -> Result<(), Ending> {
        let bad = |why: &str| ending(Status::BAD_GATEWAY, why);
        let head_bytes_max = call.cgi.head_bytes_max;
        let reply = match Head::default().read(&performance.head, head_bytes_max, call.is_nph) {
            Parsed::Document(reply) => reply,
            Parsed::LocalRedirect(path) => {
                let path = String::from_utf8_lossy(path);
                self.say("answer", format_args!("what is at {} (a local redirect)", path.escape_debug()));
                return Ok(());
            }
            Parsed::Malformed(why) => return Err(bad(why)),
            Parsed::NeedMore => {
                return Err(match (performance.late, performance.bytes) {
                    (Some(why), _) => ending(Status::GATEWAY_TIMEOUT, why),
                    (None, 0) => bad("it ended without a word"),
                    (None, _) => bad("its output ended inside its head"),
                });
            }
        };
        let date = self.worker.date();
        let context = call.context(true, &date);
        let mut head = Vec::new();
        reply.write_head(&mut head, reply.framing(&context), &context);
        for line in String::from_utf8_lossy(&head).lines().filter(|line| !line.is_empty()) {
            self.say("answer", line.escape_debug());
        }
        let body = performance.bytes - reply.head_len as u64;
        match reply.output {
            _ if performance.late.is_some() => {
                self.say("body", format_args!("cut after {body} bytes: {}", performance.late.unwrap_or_default()))
            }
            Output::Length(length) if body < length => {
                self.say("body", format_args!("cut: {body} bytes of the {length} that it promised"))
            }
            Output::Length(length) => self.say("body", format_args!("{length} bytes, as promised")),
            Output::UntilEof if performance.exit.is_some_and(|exit| exit.signal().is_some()) => {
                self.say("body", format_args!("cut after {body} bytes: it was killed in the middle of its output"))
            }
            Output::UntilEof => self.say("body", format_args!("{body} bytes, to the end of its output")),
            Output::Chunked => self.say("body", format_args!("chunks, {body} bytes with their sizes")),
        }
        Ok(())
    }

    fn say(&self, what: &str, value: impl std::fmt::Display) {
        write(&self.out, format!("{what:<10} {value}\n").as_bytes());
    }

    fn line(&self, what: impl std::fmt::Display) {
        write(&self.out, format!("---------- {what}\n").as_bytes());
    }
}

/// As the server ends a script: asked first, then made to.
async fn end(options: &CgiOptions, child: &process::Child, exit: &Cell<Option<ExitStatus>>) {
    let _ = child.kill_group(Signal::TERM);
    for _ in 0..options.term_to_kill_ms / LOOK_MS {
        time::sleep(Duration::from_millis(LOOK_MS)).await;
        if exit.get().is_some() {
            return;
        }
    }
    let _ = child.kill_group(Signal::KILL);
}

/// A script that closes its stdin early has read what it wanted.
async fn feed(stdin: Option<PipeWriter>, body: &[u8]) {
    if let Some(stdin) = stdin {
        let _ = stdin.write_all(body.to_vec()).await;
    }
}

/// A reader that has gone (`| head`) is no error.
fn write(to: &RefCell<&mut dyn Write>, bytes: &[u8]) {
    let mut to = to.borrow_mut();
    let _: io::Result<()> = to.write_all(bytes).and_then(|()| to.flush());
}
