//! What one core has: its sites and their open files, its buffers, clock, counters, and the connections it serves.

use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::http::date;
use crate::http::limits::Limits;
use crate::rt;
use crate::rt::net::TcpListener;
use crate::rt::process::Spawner;
use crate::rt::time::Instant;
use crate::site::Site;

use super::access_log::AccessLog;
use super::cgi::Admission;
use super::conn;
use super::file_cache::FileCache;
use super::metrics::Metrics;
use super::options::Options;
use super::registry::Registry;

/// Send buffers kept for the next reply; more than one turn sends at once is never kept.
const SPARE_BUFFERS_MAX: usize = 64;
/// A send buffer that grew beyond this is not kept.
const SPARE_BUFFER_BYTES_MAX: usize = 64 << 10;

/// Everything that the connections of a core share. Never shared with another core.
pub(super) struct Worker {
    pub(super) sites: Vec<Site>,
    /// One per site, by index.
    pub(super) files: Vec<FileCache>,
    pub(super) mounts: Vec<Vec<super::cgi::MountRoot>>,
    pub(super) limits: Limits,
    pub(super) options: Arc<Options>,
    pub(super) admission: Arc<Admission>,
    pub(super) spawner: Spawner,
    pub(super) log: Option<AccessLog>,
    pub(super) metrics: Metrics,
    pub(super) registry: Registry,
    /// Room for the path of the request that is being routed.
    pub(super) path: RefCell<Vec<u8>>,
    pub(super) draining: Cell<bool>,
    clock: Clock,
    spare: RefCell<Vec<Vec<u8>>>,
}

/// The wall clock, read once a second: an IMF-fixdate has no finer unit.
struct Clock {
    /// Milliseconds on the runtime's clock until which `unix_s` and `date` hold.
    until_ms: Cell<u64>,
    unix_s: Cell<u64>,
    date: Cell<[u8; 29]>,
}

impl Worker {
    pub(super) fn new(
        sites: Vec<Site>,
        files: Vec<FileCache>,
        mounts: Vec<Vec<super::cgi::MountRoot>>,
        shared: &super::Shared,
        spawner: Spawner,
        log: Option<AccessLog>,
    ) -> Worker {
        Worker {
            sites,
            files,
            mounts,
            limits: shared.options.limits.clone(),
            options: Arc::clone(&shared.options),
            admission: Arc::clone(&shared.admission),
            spawner,
            log,
            metrics: Metrics::default(),
            registry: Registry::default(),
            path: RefCell::default(),
            draining: Cell::new(false),
            clock: Clock { until_ms: Cell::new(0), unix_s: Cell::new(0), date: Cell::new([0; 29]) },
            spare: RefCell::default(),
        }
    }

    /// Milliseconds on the core's clock, the same for the whole turn.
    pub(super) fn now_ms(&self) -> u64 {
        Instant::now().as_millis()
    }

    /// Seconds since 1970.
    pub(super) fn unix_s(&self) -> u64 {
        self.read_clock();
        self.clock.unix_s.get()
    }

    /// The Date of replies.
    pub(super) fn date(&self) -> [u8; 29] {
        self.read_clock();
        self.clock.date.get()
    }

    fn read_clock(&self) {
        let now_ms = self.now_ms();
        if now_ms < self.clock.until_ms.get() {
            return;
        }
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        self.clock.until_ms.set(now_ms + 1000 - u64::from(since_1970.subsec_millis()));
        self.clock.unix_s.set(since_1970.as_secs());
        self.clock.date.set(date::format(since_1970.as_secs()));
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

    /// Accepts on one listener until told to stop, one task per connection.
    async fn accept(self: Rc<Self>, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok(stream) => {
                    self.metrics.connections.add(1);
                    self.registry.make_room();
                    rt::spawn_detached(conn::run(stream, Rc::clone(&self)));
                }
                Err(error) => {
                    tracing::error!(%error, "accept failed; trying again in a second");
                    rt::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }
}

/// The life of a core: serve until the word comes, then let what is in flight finish, until the deadline.
pub(super) async fn serve(worker: Rc<Worker>, listeners: Vec<OwnedFd>, stop: super::StopSignal) {
    let accepting: Vec<_> = listeners
        .into_iter()
        .map(|fd| {
            let (worker, stop) = (Rc::clone(&worker), stop.clone());
            rt::spawn(async move { rt::select2(worker.accept(TcpListener::from_fd(fd)), stop.drain()).await })
        })
        .collect();
    stop.drain().await;
    // The listeners close first: what the kernel has already handed over is served, nobody else gets in.
    for accept in accepting {
        let _ = accept.await;
    }
    worker.draining.set(true);
    worker.registry.wake_all();
    let drained = async {
        while worker.registry.len() > 0 || worker.admission_guards() > 0 {
            worker.registry.left().await;
        }
    };
    let deadline = rt::time::sleep(Duration::from_millis(worker.options.drain_ms_max));
    let _ = rt::select2(drained, rt::select2(deadline, stop.cut())).await;
}

impl Worker {
    /// Scripts of this core that are still running after their reply.
    fn admission_guards(&self) -> usize {
        self.metrics.scripts_running.get() as usize
    }
}
