//! What the cores share that write to one log: whose turn it is, and what could not be written. None of it is touched for a
//! request; a batch takes its turn, and the rest is for trouble.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::rt::time::sleep;

/// How long a core waits for another one's write before it looks again; its records gather meanwhile.
const TURN_POLL: Duration = Duration::from_millis(1);
/// How long one that has had its turn stands back when others wait: they look twice meanwhile. Without it a busy core takes the
/// next turn in the moment in which it ends this one, and another waits until its buffer is full.
const STAND_BACK: Duration = Duration::from_millis(3);

/// One log, however many cores write to it.
#[derive(Default)]
pub(in crate::serve) struct Sink {
    /// Somebody is writing. One write to a regular file is in one piece, but a batch need not be one write: a pipe takes what it
    /// has room for, and so does a disk that fills up.
    busy: AtomicBool,
    /// Cores that wait for their turn.
    waiting: AtomicUsize,
    /// The last write ended inside a line that could not be taken back.
    torn: AtomicBool,
    lost: AtomicU64,
    trouble: Mutex<Trouble>,
}

#[derive(Default)]
struct Trouble {
    /// Cores that have it.
    cores: usize,
    /// What was lost before it began.
    lost_before: u64,
}

/// Counted among those who wait.
struct Waits<'s>(&'s AtomicUsize);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Held while a batch is written.
pub(super) struct Turn<'s>(&'s Sink);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Release);
    }
}

impl Sink {
    fn try_turn(&self) -> Option<Turn<'_>> {
        let taken = self.busy.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed);
        taken.ok().map(|_| Turn(self))
    }

    pub(super) async fn turn(&self) -> Turn<'_> {
        if let Some(turn) = self.try_turn() {
            return turn;
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waits = Waits(&self.waiting);
        loop {
            sleep(TURN_POLL).await;
            if let Some(turn) = self.try_turn() {
                return turn;
            }
        }
    }

    /// After a turn: lets others have theirs.
    pub(super) async fn stand_back(&self) {
        if self.waiting.load(Ordering::Relaxed) > 0 {
            sleep(STAND_BACK).await;
        }
    }

    /// The same, for a thread that has no runtime any more. `None` when it takes too long: better a line in two pieces than none.
    pub(super) fn wait_turn(&self, patience: Duration) -> Option<Turn<'_>> {
        let since = Instant::now();
        loop {
            match self.try_turn() {
                None if since.elapsed() < patience => std::thread::sleep(TURN_POLL),
                turn => return turn,
            }
        }
    }

    /// Whether the last write ended inside a line; and from now on it did, or did not.
    pub(super) fn replace_torn(&self, torn: bool) -> bool {
        self.torn.swap(torn, Ordering::Relaxed)
    }

    pub(super) fn lose(&self, records: u64) {
        self.lost.fetch_add(records, Ordering::Relaxed);
    }

    /// A core has trouble.
    pub(super) fn begins(&self, why: &str) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.cores += 1;
        if trouble.cores == 1 {
            trouble.lost_before = self.lost.load(Ordering::Relaxed);
            tracing::error!(
                "the access log cannot be written: {why}; serving goes on, and what does not fit into \
                 --access-log-buffer-bytes-max is lost"
            );
        }
    }

    /// A core has none any more.
    pub(super) fn ends(&self) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.cores = trouble.cores.saturating_sub(1);
        if trouble.cores == 0 {
            let lost = self.lost.load(Ordering::Relaxed) - trouble.lost_before;
            tracing::warn!("the trouble with the access log is over: {lost} records were lost");
        }
    }
}
