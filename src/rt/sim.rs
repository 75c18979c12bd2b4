//! A simulated kernel with virtual time, for the tests of programs that run on this runtime (feature `sim`).
//!
//! A [`World`] has a clock that only moves when everybody waits, and a network in memory. The program under test runs on a
//! [`Runtime`] in it ([`World::runtime`]) and connects as it always does; whatever address it connects to, a program of the
//! test's own is at the far end ([`World::dialled`]). Nothing sleeps, and the same seed gives the same world.
//!
//! A world has no faults: it is for what must be exact. (The runtime's own tests inject them, from below.)

use std::future::Future;
use std::time::Duration;

use super::driver::sim::{self, Client, Faults, Incoming};
use super::{Builder, Runtime};

/// A world; clones are the same one.
#[derive(Clone)]
pub struct World(sim::World);

/// The far end of a connection. Dropped: closed.
pub struct Peer(Client);

impl World {
    /// A world in which a segment takes `latency` to arrive, 1 ns at least, and a turn of the loop 1 ns.
    pub fn new(seed: u64, latency: Duration) -> World {
        let latency_ns_max = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX).max(1);
        World(sim::World::new(seed, Faults { latency_ns_max, enter_ns_max: 1, ..Faults::none() }))
    }

    /// A runtime on this thread, in this world.
    ///
    /// # Panics
    /// If this thread had a runtime before.
    pub fn runtime(&self, builder: Builder) -> Runtime {
        builder.build_sim(&self.0)
    }

    /// Virtual nanoseconds since the world's epoch.
    pub fn now_ns(&self) -> u64 {
        self.0.now_ns()
    }

    /// Starts a program of the test's own. It may await only what a world and its peers offer. A panic in it ends the test.
    pub fn spawn(&self, program: impl Future<Output = ()> + 'static) {
        self.0.spawn(program);
    }

    /// Waits for the next connection that the runtime makes; for programs of [`World::spawn`].
    pub async fn dialled(&self) -> Peer {
        Peer(self.0.dialled().await)
    }

    /// Waits for so long by the world's clock; for programs of [`World::spawn`].
    pub async fn pause(&self, time: Duration) {
        self.0.pause(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)).await;
    }
}

impl Peer {
    /// The next bytes; `None` at the end of input, or when the connection is broken.
    pub async fn read(&self) -> Option<Vec<u8>> {
        match self.0.read(usize::MAX).await {
            Incoming::Bytes(bytes) => Some(bytes),
            Incoming::End | Incoming::Reset => None,
        }
    }

    /// Sends all of the bytes, in segments of any size. False: the connection is broken.
    pub async fn write(&self, bytes: &[u8]) -> bool {
        self.0.write(bytes).await
    }
}
