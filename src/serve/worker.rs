//! What one core has: its sites and their open files, its buffers, clock, counters, and the connections it serves.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::http::date;
use crate::http::limits::Limits;
use crate::http::multipart::Boundary;
use crate::rt;
use crate::rt::fs::ReadBuffers;
use crate::rt::net::{Message, TcpListener, TcpStream};
use crate::rt::process::Spawner;
use crate::rt::time::Instant;

use super::access_log::AccessLog;
use super::auth;
use super::cgi::Admission;
use super::conn;
use super::inject::Injector;
use super::listeners::{Accepting, LivesOn, Sockets};
use super::metrics::{Cut, Metrics};
use super::options::Options;
use super::origin;
use super::per_ip::PerIp;
use super::places::Places;
use super::registry::Registry;
use super::seldom::Seldom;
use super::sites::{Opened, Sites};
use super::stop::{Stage, StopSignal};
use super::transfer::{Gathered, ZeroCopy};

/// Send buffers kept for the next reply; more than one turn sends at once is never kept.
const SPARE_BUFFERS_MAX: usize = 64;
/// At the end, how long the last lines of the access log are waited for.
const LOG_WRITTEN_MAX: Duration = Duration::from_secs(1);
/// At a stop, how long the backlog is given to show what it holds.
const BACKLOG_MS_MAX: u64 = 20;
/// Descriptors of their own that connections of a core may always have, however few there are.
const INSTALLED_MIN: usize = 4;
/// A send buffer that grew beyond this is not kept.
const SPARE_BUFFER_BYTES_MAX: usize = 64 << 10;

/// Everything that the connections of a core share. Never shared with another core.
pub(super) struct Worker {
    sites: RefCell<Rc<Sites>>,
    /// Large files that a cache keeps open.
    files_max: usize,
    /// Those of the start. What a reload may change is asked of the [`sites`](Self::sites).
    pub(super) options: Arc<Options>,
    pub(super) admission: Arc<Admission>,
    pub(super) spawner: Spawner,
    /// The CPUs that everything but the cores' own threads may use.
    pub(super) cpus: Vec<usize>,
    pub(super) log: Option<AccessLog>,
    pub(super) metrics: Metrics,
    pub(super) registry: Registry,
    pub(super) stop: StopSignal,
    pub(super) accepting: Accepting,
    lives_on: Arc<LivesOn>,
    pub(super) cut: Arc<Cut>,
    /// Room for the path of the request that is being routed.
    pub(super) path: RefCell<Vec<u8>>,
    pub(super) draining: Cell<bool>,
    /// While it drains: until when an idle connection may still bring a request.
    pub(super) idle_until_ms: Cell<u64>,
    /// Of listings that clients have yet to take.
    pub(super) listing_bytes: Arc<AtomicUsize>,
    /// What cold files are read into, once there was one.
    pub(super) cold: OnceCell<ReadBuffers>,
    pub(super) zero_copy: ZeroCopy,
    /// Passwords that are being verified.
    pub(super) verifying: Places,
    pub(super) inject: Option<Injector>,
    /// Process-wide descriptors that connections hold.
    pub(super) installed: Places,
    /// Somebody wants to know who a connection is from.
    pub(super) asks_who: bool,
    pub(super) per_ip: Option<Arc<PerIp>>,
    /// About connections of an address that has too many, and without a PROXY header.
    pub(super) crowd_lines: Seldom,
    pub(super) header_lines: Seldom,
    clock: Clock,
    /// The start of every request's tag, random; and how many there were.
    tags: (u64, Cell<u64>),
    /// Keys that nobody knows, for numbers that nobody can guess; and how many there were.
    secret: (RandomState, Cell<u64>),
    spare: RefCell<Vec<Vec<u8>>>,
    spare_messages: RefCell<Vec<Gathered>>,
}

/// The wall clock, read once a second: an IMF-fixdate has no finer unit, and what is finer follows from the runtime's clock.
#[derive(Default)]
struct Clock {
    /// From here to here, in nanoseconds on the runtime's clock, `unix_s` and `date` hold.
    second_ns: Cell<u64>,
    until_ns: Cell<u64>,
    unix_s: Cell<u64>,
    date: Cell<[u8; 29]>,
}

impl Worker {
    pub(super) fn new(
        sites: Sites,
        files_max: usize,
        shared: &super::Shared,
        spawner: Spawner,
        log: Option<AccessLog>,
    ) -> Worker {
        Worker {
            sites: RefCell::new(Rc::new(sites)),
            files_max,
            options: Arc::clone(&shared.options),
            admission: Arc::clone(&shared.admission),
            spawner,
            cpus: shared.cpus.clone(),
            asks_who: origin::is_asked(&shared.options, log.is_some()),
            per_ip: shared.per_ip.clone(),
            crowd_lines: Seldom::default(),
            header_lines: Seldom::default(),
            log,
            metrics: Metrics::default(),
            registry: Registry::new(shared.stop.clone(), Arc::clone(&shared.cut)),
            stop: shared.stop.clone(),
            accepting: Accepting::default(),
            lives_on: Arc::clone(&shared.lives_on),
            cut: Arc::clone(&shared.cut),
            path: RefCell::default(),
            draining: Cell::new(false),
            idle_until_ms: Cell::new(0),
            listing_bytes: Arc::default(),
            cold: OnceCell::new(),
            zero_copy: ZeroCopy::new(shared.options.files.send_zerocopy_bytes_min),
            verifying: auth::places(),
            inject: Injector::new(shared.options.inject),
            installed: Places::new((shared.nofile as usize / 2 / shared.cores.max(1)).max(INSTALLED_MIN)),
            clock: Clock::default(),
            tags: (RandomState::new().build_hasher().finish(), Cell::new(0)),
            secret: (RandomState::new(), Cell::new(0)),
            spare: RefCell::default(),
            spare_messages: RefCell::default(),
        }
    }

    /// What is served now. For one request; the next may see others.
    pub(super) fn sites(&self) -> Rc<Sites> {
        Rc::clone(&self.sites.borrow())
    }

    pub(super) fn replace_sites(&self, opened: Opened) {
        let sites = opened.into_sites(self.files_max);
        self.zero_copy.set_bytes_min(sites.options.files.send_zerocopy_bytes_min);
        let old = self.sites.replace(Rc::new(sites));
        drop(old);
    }

    /// The bounds of what begins now.
    pub(super) fn limits(&self) -> Rc<Limits> {
        Rc::clone(&self.sites.borrow().limits)
    }

    /// Milliseconds on the core's clock, the same for the whole turn.
    pub(super) fn now_ms(&self) -> u64 {
        Instant::now().as_millis()
    }

    /// Seconds since 1970.
    pub(super) fn unix_s(&self) -> u64 {
        self.read_clock(Instant::now().as_nanos());
        self.clock.unix_s.get()
    }

    /// The Date of replies.
    pub(super) fn date(&self) -> [u8; 29] {
        self.read_clock(Instant::now().as_nanos());
        self.clock.date.get()
    }

    /// What the wall clock showed at a moment of the runtime's, which is not long ago: its second, and microseconds since that.
    pub(super) fn moment(&self, at_ns: u64) -> ([u8; 29], u32) {
        self.read_clock(at_ns);
        let since_ns = at_ns.saturating_sub(self.clock.second_ns.get());
        (self.clock.date.get(), (since_ns / 1000).min(999_999) as u32)
    }

    fn read_clock(&self, at_ns: u64) {
        if at_ns < self.clock.until_ns.get() {
            return;
        }
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let now_ns = Instant::try_now().map_or(at_ns, |now| now.as_nanos()).max(at_ns);
        let subsec_ns = u64::from(since_1970.subsec_nanos());
        self.clock.second_ns.set(now_ns.saturating_sub(subsec_ns));
        self.clock.until_ns.set(now_ns + 1_000_000_000 - subsec_ns);
        self.clock.unix_s.set(since_1970.as_secs());
        self.clock.date.set(date::format(since_1970.as_secs()));
    }

    /// A name that no other request has, and that cannot be guessed.
    pub(super) fn request_tag(&self) -> String {
        let (random, count) = &self.tags;
        count.set(count.get() + 1);
        format!("{random:016x}{:08x}", count.get())
    }

    /// What separates the parts of a reply; never the same twice.
    pub(super) fn boundary(&self) -> Boundary {
        let (keys, count) = &self.secret;
        count.set(count.get() + 1);
        let half = |half: u8| u128::from(keys.hash_one((count.get(), half)));
        Boundary::new(half(0) << 64 | half(1))
    }

    /// An empty send buffer.
    pub(super) fn buffer(&self) -> Vec<u8> {
        self.spare.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(4096))
    }

    /// Takes a send buffer back.
    pub(super) fn recycle(&self, mut buffer: Vec<u8>) {
        let mut spare = self.spare.borrow_mut();
        if spare.len() < SPARE_BUFFERS_MAX && (1..=SPARE_BUFFER_BYTES_MAX).contains(&buffer.capacity()) {
            buffer.clear();
            spare.push(buffer);
        }
    }

    /// A message of what has gathered and a body.
    pub(super) fn message(&self, head: Vec<u8>, body: Bytes) -> Gathered {
        let mut message = self.spare_messages.borrow_mut().pop().unwrap_or_else(Message::new);
        message.set(head, body);
        message
    }

    /// Takes a message back, and the send buffer in it.
    pub(super) fn recycle_message(&self, mut message: Gathered) {
        if let Some((head, _body)) = message.take() {
            self.recycle(head);
        }
        let mut spare = self.spare_messages.borrow_mut();
        if spare.len() < SPARE_BUFFERS_MAX {
            spare.push(message);
        }
    }

    /// With `forwards` the connection begins with a PROXY header.
    fn welcome(self: &Rc<Self>, stream: TcpStream, forwards: bool) {
        self.metrics.connections.add(1);
        self.registry.make_room(self.now_ms());
        rt::spawn_detached(conn::run(stream, Rc::clone(self), forwards));
    }

    /// Accepts on one listener, one task per connection.
    async fn accept(self: Rc<Self>, listener: &TcpListener, forwards: bool) {
        loop {
            match listener.accept().await {
                Ok(stream) => self.welcome(stream, forwards),
                Err(error) => {
                    tracing::error!(%error, "accept failed; trying again in a second");
                    rt::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }
}

/// The life of a core: serve until the word comes, then let what is in flight finish, until the deadline.
pub(super) async fn serve(worker: Rc<Worker>, sockets: Sockets) {
    rt::spawn_detached(leave(worker.stop.clone(), Duration::from_millis(worker.options.drain_delay_ms)));
    let accepting: Vec<_> = sockets
        .into_iter()
        .map(|(number, socket)| {
            let listener = Rc::new(TcpListener::from_fd(socket));
            worker.accepting.add(number, &listener);
            let options = &worker.options;
            let forwards = options.listen.get(number).is_some_and(|listen| options.proxy_protocol.is_spoken_on(listen));
            rt::spawn(accept_until_drain(Rc::clone(&worker), number, listener, forwards))
        })
        .collect();
    // The listeners close first: what the kernel has already handed over is served, nobody else gets in.
    for accept in accepting {
        let _ = accept.await;
    }
    drain(&worker).await;
    if let Some(log) = &worker.log {
        let _ = rt::time::timeout(LOG_WRITTEN_MAX, log.written()).await;
        log.close();
    }
}

async fn drain(worker: &Rc<Worker>) {
    let stop = &worker.stop;
    worker.draining.set(true);
    if worker.lives_on.has_successor() {
        worker.idle_until_ms.set(worker.now_ms() + worker.limits().head_ms_max);
    }
    worker.registry.wake_all();
    let options = Rc::clone(&worker.sites().options);
    let deadline = rt::time::sleep(Duration::from_millis(options.drain_ms_max));
    let late = rt::select2(deadline, stop.reached(Stage::Cutting));
    if let rt::Either::First(()) = rt::select2(all_left(worker), late).await {
        return;
    }
    // Connections count themselves: they may hear of it before this does. A script takes until the next turn to end.
    worker.cut.add(0, worker.metrics.scripts.running.get());
    // What is left, here and on the other cores, is cut: scripts get a TERM, and as long as ever before the KILL.
    stop.raise(Stage::Cutting);
    let patience = Duration::from_millis(options.cgi.term_to_kill_ms + 1000);
    let _ = rt::time::timeout(patience, scripts_ended(worker)).await;
}

/// Between the word to stop and the drain: those who ask whether it is ready shall have asked once more.
async fn leave(stop: StopSignal, delay: Duration) {
    stop.reached(Stage::Leaving).await;
    rt::time::sleep(delay).await;
    // Every core does; it is once.
    stop.raise(Stage::Draining);
}

async fn accept_until_drain(worker: Rc<Worker>, number: usize, listener: Rc<TcpListener>, forwards: bool) {
    let stop = worker.stop.clone();
    stop.reached(Stage::Serving).await;
    rt::select2(worker.clone().accept(&listener, forwards), stop.reached(Stage::Draining)).await;
    listener.pause();
    if worker.lives_on.holds(number) {
        // What the kernel has given us is ours to answer; the backlog is somebody else's.
        while let Some(stream) = listener.rest().await {
            worker.welcome(stream, forwards);
        }
        return;
    }
    // What is in the backlog has been promised an answer: it is taken, but for no longer than a moment.
    let _ = rt::time::timeout(Duration::from_millis(BACKLOG_MS_MAX), async {
        while let Ok(stream) = listener.accept().await {
            worker.welcome(stream, forwards);
        }
    })
    .await;
}

async fn all_left(worker: &Worker) {
    while worker.registry.len() > 0 || worker.metrics.scripts.running.get() > 0 {
        worker.registry.left().await;
    }
}

async fn scripts_ended(worker: &Worker) {
    while worker.metrics.scripts.running.get() > 0 {
        worker.registry.left().await;
    }
}
