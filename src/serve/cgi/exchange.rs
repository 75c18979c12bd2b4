//! A running script: its three pipes, its exit, its client and its deadlines, all watched at once in one task, so that no
//! order of reads and writes in a script can deadlock.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::pin::pin;
use std::process::ExitStatus;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use crate::http::Millis;
use crate::http::status::Status;
use crate::rt::confine::{self, Blame, NotStarted};
use crate::rt::net::{Hangup, TcpStream};
use crate::rt::process::{self, Child, Command, PipeReader, PipeWriter, Remains, SpawnError, Stdio};
use crate::rt::time::{self, Instant, sleep_until};
use crate::rt::{Either, select2};
use crate::site::log_line::{Ending, ScriptEnd};

use super::super::access_log::Logged;
use super::super::link::Link;
use super::super::metrics::Stopped;
use super::super::options::{CgiOptions, Linger};
use super::super::stop::Stage;
use super::super::transfer::Cut;
use super::super::worker::Worker;
use super::body::{self, FeedEnd, Stdin};
use super::journal::Errors;
use super::output::{self, Forwarded};
use super::reap::{Leave, Ward};
use super::{Call, Outcome};

/// Our ends of a script's pipes.
pub(super) struct Pipes {
    pub(super) stdin: Option<PipeWriter>,
    pub(super) stdout: PipeReader,
    pub(super) stderr: PipeReader,
}

/// All that a script has said, and how it has ended. Its stderr was empty, it has been reaped, and nobody holds its pipes.
pub(super) struct LastWords {
    output: Vec<u8>,
    status: ExitStatus,
}

/// Why a script could not be started, in one line for the operator.
pub(super) enum StartError {
    Pipes(io::Error),
    Spawn(SpawnError),
    /// The helper has started, and could not become the script.
    Helper(NotStarted),
    /// It has not become anything.
    HelperLate,
}

impl StartError {
    pub(super) fn blame(&self) -> Blame {
        match self {
            StartError::Pipes(_) => Blame::Shortage,
            StartError::Spawn(error) => error.blame(),
            StartError::Helper(error) => error.blame,
            StartError::HelperLate => Blame::Server,
        }
    }
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StartError::Pipes(error) => {
                write!(f, "no pipe for it: {error} (ulimit -n, fs.file-max, fs.pipe-user-pages-hard)")
            }
            StartError::Spawn(error) => error.fmt(f),
            StartError::Helper(error) => error.fmt(f),
            StartError::HelperLate => f.write_str("the program that binds it has not started it in time"),
        }
    }
}

/// Starts the script on the spawner's thread.
pub(super) async fn start(worker: &Worker, call: &mut Call, stdin: Stdin) -> Result<(Pipes, Child), StartError> {
    let mut command = std::mem::replace(&mut call.command, Command::new(""));
    let make_pipes = || {
        let (stdout, stdout_end) = process::stdout_pipe()?;
        let (stderr, stderr_end) = process::stdout_pipe()?;
        let (stdin, stdin_end) = match stdin {
            Stdin::Null => (None, Stdio::Null),
            Stdin::File(file) => (None, Stdio::Fd(file.into())),
            Stdin::Pipe => process::stdin_pipe().map(|(writer, end)| (Some(writer), Stdio::Fd(end)))?,
        };
        command.stdin(stdin_end).stdout(Stdio::Fd(stdout_end)).stderr(Stdio::Fd(stderr_end));
        let bound = call.bounds.as_ref();
        let report = bound.map(|bounds| bounds.bind(bounds.group(&call.tag).as_deref(), &mut command)).transpose()?;
        Ok((Pipes { stdin, stdout, stderr }, report))
    };
    let (pipes, report) = make_pipes().map_err(StartError::Pipes)?;
    let started = worker.spawner.spawn(command);
    if pipes.stdin.is_none() {
        // Nobody asks for the answer yet, so the spawner's thread does not wake us; nor do a quick script's first words. For one
        // that is soon done we come back once, when it is, and its reply is one send. On failure its pipes are closed, too.
        let mut closed = pin!(pipes.stdout.closed());
        while time::timeout(QUICK, closed.as_mut()).await.is_err() && !started.is_answered() {}
    }
    let child = started.await.map_err(StartError::Spawn)?;
    call.journal.started(child.pid().as_raw_nonzero().get());
    if let Some(report) = report {
        let patience = Duration::from_millis(call.cgi.first_byte_ms_max);
        let started = time::timeout(patience, confine::started(&report)).await;
        started.map_err(|_late| StartError::HelperLate)?.map_err(StartError::Helper)?;
    }
    Ok((pipes, child))
}

/// What a script that is over has left; nothing for one that is not, or has said something on stderr. Where only its end is
/// missing, which comes some microseconds after that of its output, that is waited for, as long as for a quick one. By plain
/// calls: for a script that is done they cost less than watching for what cannot come any more.
pub(super) async fn last_words(pipes: &Pipes, child: &Child) -> Option<LastWords> {
    if pipes.stdin.is_some() {
        return None;
    }
    let mut remains = process::remains(&pipes.stdout, &pipes.stderr, child);
    if remains.process && !remains.stdout {
        time::timeout(QUICK, process::ended(child)).await.ok()?.ok()?;
        remains = process::remains(&pipes.stdout, &pipes.stderr, child);
    }
    if remains != Remains::default() {
        return None;
    }
    let mut output = Vec::new();
    pipes.stdout.take_now(&mut output).ok()??;
    // Last: whoever is told nothing has to find the script as it was. ECHILD: how it has ended is for the others to guess.
    let status = child.try_wait().ok()??;
    Some(LastWords { output, status })
}

/// How long a script that is not fed may run before it is listened to: the first word of one that goes on for longer is late by
/// no more. What was tried beside it: docs/decisions/0020-spawner.md.
const QUICK: Duration = Duration::from_millis(3);

/// What the parts of an exchange tell each other. All of them run in one task.
pub(super) struct Shared<'c> {
    pub(super) conn: RefCell<&'c mut Logged>,
    started: Instant,
    started_ms: Millis,
    /// When it last took something of the request's body; at first, when it was started.
    fed_ms: Cell<Millis>,
    /// The script has written something.
    pub(super) first_byte: Cell<bool>,
    /// The reply's head is on its way: it is too late for another status.
    pub(super) head_sent: Cell<bool>,
    /// The reply waits for the client: time passes on the client's account.
    pub(super) sending: Cell<bool>,
    active_ms: Cell<Millis>,
    /// When the client last took something.
    accepted_ms: Cell<Millis>,
    /// When the client ended its side.
    finished_ms: Cell<Option<Millis>>,
    exit: Cell<Option<(ExitStatus, Millis)>>,
    exited: Cell<Option<Instant>>,
    /// The script is gone and somebody else holds its stdout: what was written is all.
    pub(super) stdout_held: Cell<bool>,
    /// All of its output, where that was known from the start.
    pub(super) said: Cell<Option<Vec<u8>>>,
}

impl<'c> Shared<'c> {
    fn new(conn: &'c mut Logged, now_ms: Millis, started: Instant) -> Shared<'c> {
        Shared {
            conn: RefCell::new(conn),
            started,
            exited: Cell::new(None),
            started_ms: now_ms,
            fed_ms: Cell::new(now_ms),
            first_byte: Cell::new(false),
            head_sent: Cell::new(false),
            sending: Cell::new(false),
            active_ms: Cell::new(now_ms),
            accepted_ms: Cell::new(now_ms),
            finished_ms: Cell::new(None),
            exit: Cell::new(None),
            stdout_held: Cell::new(false),
            said: Cell::new(None),
        }
    }

    /// The script has read or written.
    pub(super) fn active(&self, now_ms: Millis) {
        self.active_ms.set(now_ms);
    }

    /// A part of the request's body has come, or was taken: until it has all of that, nobody waits for its answer.
    pub(super) fn fed(&self, now_ms: Millis) {
        self.fed_ms.set(now_ms);
        self.active(now_ms);
    }

    /// The client has taken a part of the reply.
    pub(super) fn accepted(&self, now_ms: Millis) {
        self.accepted_ms.set(now_ms);
        self.active(now_ms);
    }

    pub(super) fn exit(&self) -> Option<ExitStatus> {
        self.exit.get().map(|(status, _)| status)
    }

    /// For the access log.
    fn end(&self) -> ScriptEnd {
        let until = self.exited.get().unwrap_or_else(Instant::now);
        let run_us = until.duration_since(self.started).as_micros() as u64;
        let ending = self.exit().map(|status| match (status.code(), status.signal()) {
            (Some(code), _) => Ending::Exit(code),
            (None, signal) => Ending::Signal(signal.unwrap_or_default()),
        });
        ScriptEnd { ending, run_us }
    }
}

/// Why an exchange ends before the script's output does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    FirstByteLate,
    IdleTooLong,
    RanTooLong,
    ClientGone,
    ServerStops,
}

/// From the start of a script to the end of its reply.
pub(super) async fn run(
    link: &mut Link,
    worker: &Worker,
    call: &Call,
    pipes: Pipes,
    ward: Ward,
    since: Instant,
) -> Result<Outcome, Cut> {
    let Link { transport, conn, input, out, timer, .. } = link;
    let Pipes { stdin, stdout, stderr } = pipes;
    let shared = Shared::new(conn, worker.now_ms(), since);
    let stream = transport.stream();
    // Polled in this order, each time anything happens: what the supervisor notices, the others see at once.
    let supervised = supervise(&shared, worker, &call.cgi, &ward, stream);
    let fed = body::feed(&shared, worker, &call.sites.limits, stream, input, stdin);
    let forwarded = output::forward(&shared, worker, call, &stdout, stream, out, timer);
    let mut errors = Errors::new(stderr, Rc::clone(&call.journal));
    let logged = poll_fn(|context| {
        let _ = errors.poll_ended(context);
        Poll::<Infallible>::Pending
    });
    let ended = select2(select2(supervised, fed), select2(forwarded, logged)).await;
    let status_if_unsent = |status| if shared.head_sent.get() { Err(Cut) } else { Ok(Outcome::Failed(status)) };
    let (leave, outcome) = match ended {
        Either::First(Either::First(verdict)) => (Leave::Kill, {
            call.journal.warn(verdict.sentence());
            worker.metrics.scripts.stopped(verdict.counted());
            match verdict {
                Verdict::ClientGone => Err(Cut),
                Verdict::ServerStops => status_if_unsent(Status::SERVICE_UNAVAILABLE),
                _ => status_if_unsent(Status::GATEWAY_TIMEOUT),
            }
        }),
        Either::First(Either::Second(FeedEnd::Refused(refusal))) => (Leave::Kill, status_if_unsent(refusal.status)),
        Either::First(Either::Second(FeedEnd::Cut)) => (Leave::Kill, Err(Cut)),
        Either::Second(Either::First(forwarded)) => conclude(forwarded, &shared, worker, call),
        Either::Second(Either::Second(never)) => match never {},
    };
    let exit = shared.exit();
    let script = shared.end();
    link.conn.ran(script);
    ward.dismiss(errors, Rc::clone(&call.journal), exit, leave);
    close_after_failure(link, &outcome);
    outcome
}

/// As [`run`], of a script that is over: there is nothing to watch for.
pub(super) async fn report(
    link: &mut Link,
    worker: &Worker,
    call: &Call,
    stdout: &PipeReader,
    ward: Ward,
    last_words: LastWords,
    since: Instant,
) -> Result<Outcome, Cut> {
    let Link { transport, conn, out, timer, .. } = link;
    let LastWords { output, status } = last_words;
    let shared = Shared::new(conn, worker.now_ms(), since);
    shared.exit.set(Some((status, worker.now_ms())));
    shared.said.set(Some(output));
    let stream = transport.stream();
    let forwarded = output::forward(&shared, worker, call, stdout, stream, out, timer).await;
    let (leave, outcome) = conclude(forwarded, &shared, worker, call);
    let script = shared.end();
    link.conn.ran(script);
    ward.dismiss(Errors::none(), Rc::clone(&call.journal), Some(status), leave);
    close_after_failure(link, &outcome);
    outcome
}

/// What follows from a script's output, for the script and for its client.
fn conclude(forwarded: Forwarded, shared: &Shared<'_>, worker: &Worker, call: &Call) -> (Leave, Result<Outcome, Cut>) {
    let after_reply = match call.cgi.linger {
        Linger::Keep => Leave::Alone,
        Linger::Kill => Leave::Tidy,
    };
    match forwarded {
        Forwarded::Whole if shared.stdout_held.get() => (Leave::Kill, Ok(Outcome::Replied)),
        Forwarded::Whole => (after_reply, Ok(Outcome::Replied)),
        Forwarded::Redirect(path) => (after_reply, Ok(Outcome::Redirect(path))),
        Forwarded::NoReply(why) => {
            call.journal.error(format_args!("{why} ({}): 502", describe(shared.exit())));
            (Leave::Kill, Ok(Outcome::Failed(Status::BAD_GATEWAY)))
        }
        Forwarded::Broken(why) => {
            call.journal.error(format_args!("{why} ({}): the reply is cut", describe(shared.exit())));
            (Leave::Kill, Err(Cut))
        }
        Forwarded::ClientGone => {
            worker.metrics.scripts.stopped(Stopped::ClientGone);
            (Leave::Kill, Err(Cut))
        }
    }
}

fn close_after_failure(link: &mut Link, outcome: &Result<Outcome, Cut>) {
    if !matches!(outcome, Ok(Outcome::Replied | Outcome::Redirect(_))) {
        link.conn.close_after();
    }
}

/// Watches the exit, the client and the clock. Ends only when the exchange must.
async fn supervise(
    shared: &Shared<'_>,
    worker: &Worker,
    options: &CgiOptions,
    ward: &Ward,
    stream: &TcpStream,
) -> Verdict {
    let mut exit = pin!(process::exited(ward.child()));
    let mut hangup = pin!(stream.hangup());
    let mut broken = pin!(stream.broken());
    let mut stop = pin!(worker.stop.reached(Stage::Cutting));
    let mut timer = sleep_until(Instant::now());
    poll_fn(|context| {
        loop {
            let now_ms = worker.now_ms();
            if shared.exit.get().is_none()
                && let Poll::Ready(status) = exit.as_mut().poll(context)
            {
                // ECHILD: somebody else has reaped it; then all that is known is that it has ended.
                shared.exit.set(Some((status.unwrap_or(ExitStatus::from_raw(0)), now_ms)));
                shared.exited.set(Some(Instant::now()));
            }
            if shared.finished_ms.get().is_none() {
                match hangup.as_mut().poll(context) {
                    Poll::Ready(Ok(Hangup::Finished)) => shared.finished_ms.set(Some(now_ms)),
                    Poll::Ready(_) => return Poll::Ready(Verdict::ClientGone),
                    Poll::Pending => {}
                }
            }
            // Only now: armed before, it would see the end of input a second time.
            if shared.finished_ms.get().is_some() && broken.as_mut().poll(context).is_ready() {
                return Poll::Ready(Verdict::ClientGone);
            }
            if stop.as_mut().poll(context).is_ready() {
                return Poll::Ready(Verdict::ServerStops);
            }
            match shared.next_deadline(options, now_ms) {
                Err(verdict) => return Poll::Ready(verdict),
                Ok(until) => timer.reset(Instant::from_millis(until)),
            }
            if timer.poll_expired(context).is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await
}

impl Shared<'_> {
    /// When to look again, or why it is over.
    fn next_deadline(&self, options: &CgiOptions, now_ms: Millis) -> Result<Millis, Verdict> {
        if let Some((_, exited_ms)) = self.exit.get()
            && now_ms >= exited_ms + options.held_stdout_ms_max
        {
            self.stdout_held.set(true);
        }
        let held = self.exit.get().filter(|_| !self.stdout_held.get()).map(|(_, at)| at + options.held_stdout_ms_max);
        let patient = !self.sending.get();
        let idle = patient.then(|| self.active_ms.get() + options.idle_ms_max);
        let first = (!self.first_byte.get()).then(|| self.fed_ms.get() + options.first_byte_ms_max);
        let total = options.total_ms_max.map(|total| self.started_ms + total);
        let left = self.finished_ms.get().filter(|_| patient);
        let left = left.map(|at| at.max(self.accepted_ms.get()) + options.no_reader_ms_max);
        let table = [
            (first, Verdict::FirstByteLate),
            (idle, Verdict::IdleTooLong),
            (total, Verdict::RanTooLong),
            (left, Verdict::ClientGone),
        ];
        for (at, verdict) in table {
            if at.is_some_and(|at| now_ms >= at) {
                return Err(verdict);
            }
        }
        // At least once a second: a deadline that appears while we wait (an exit, an end of sending) is not missed.
        let soonest = table.iter().filter_map(|(at, _)| *at).chain(held).min();
        Ok(soonest.unwrap_or(Millis::MAX).clamp(now_ms + 1, now_ms + 1000))
    }
}

impl Verdict {
    fn counted(self) -> Stopped {
        match self {
            Verdict::FirstByteLate => Stopped::FirstByte,
            Verdict::IdleTooLong => Stopped::Idle,
            Verdict::RanTooLong => Stopped::Total,
            Verdict::ClientGone => Stopped::ClientGone,
            Verdict::ServerStops => Stopped::ServerStops,
        }
    }

    fn sentence(self) -> &'static str {
        match self {
            Verdict::FirstByteLate => "it wrote nothing for too long: 504, and it is ended (cgi-first-byte-ms-max)",
            Verdict::IdleTooLong => "it neither read nor wrote for too long: it is ended (cgi-idle-ms-max)",
            Verdict::RanTooLong => "it ran for too long: it is ended (cgi-total-ms-max)",
            Verdict::ClientGone => "its client has left: it is ended",
            Verdict::ServerStops => "the server stops: it is ended",
        }
    }
}

/// How it ended, for the log.
pub(super) fn describe(exit: Option<ExitStatus>) -> String {
    match exit {
        None => "running".to_owned(),
        Some(status) => status.to_string(),
    }
}
