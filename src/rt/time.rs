//! Time: a clock that is read once a turn, sleeping and timeouts to the millisecond, alarms to the nanosecond.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::alarm::AlarmKey;
use super::select::{Either, select2};
use super::timer::TimerKey;
use super::{try_with_core, with_core};

/// A moment on this core's clock: CLOCK_MONOTONIC, or virtual in a simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant {
    ns: u64,
}

impl Instant {
    /// The start of the current turn: reading it costs nothing, and everything that happens in one turn has one time.
    ///
    /// # Panics
    /// Outside a runtime.
    pub fn now() -> Instant {
        Instant { ns: with_core(|core| core.now_ns.get()) }
    }

    /// As [`now`](Self::now); `None` outside a runtime: for what may be dropped after its own.
    pub fn try_now() -> Option<Instant> {
        try_with_core(|core| Instant { ns: core.now_ns.get() })
    }

    /// This very moment, by a look at the clock (some 30 ns).
    ///
    /// # Panics
    /// Outside a runtime.
    pub fn fresh() -> Instant {
        Instant { ns: with_core(|core| core.driver.borrow().now_ns()) }
    }

    /// Nanoseconds since the clock's epoch.
    pub fn as_nanos(self) -> u64 {
        self.ns
    }

    /// The moment so many nanoseconds after the clock's epoch.
    pub fn from_nanos(ns: u64) -> Instant {
        Instant { ns }
    }

    /// Whole milliseconds since the clock's epoch.
    pub fn as_millis(self) -> u64 {
        self.ns / 1_000_000
    }

    /// The moment so many milliseconds after the clock's epoch.
    pub fn from_millis(ms: u64) -> Instant {
        Instant { ns: ms.saturating_mul(1_000_000) }
    }

    /// How long ago `earlier` was; zero if it is later.
    pub fn duration_since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.ns.saturating_sub(earlier.ns))
    }
}

impl std::ops::Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, duration: Duration) -> Instant {
        Instant { ns: self.ns.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)) }
    }
}

/// Waits until a moment; see [`sleep_until`]. Can be set again and again without touching the wheel: moving a deadline
/// later only notes it, and the wheel entry moves when it comes due. A connection's deadline costs nothing a request.
pub struct Sleep {
    until: u64,
    /// The tick that it is in the wheel for, if it is: never after `until`.
    tick: u64,
    armed: Option<TimerKey>,
    /// The key means something on this thread only: not `Send`.
    of_one_thread: PhantomData<*const ()>,
}

impl Sleep {
    /// Moves the deadline.
    pub fn reset(&mut self, until: Instant) {
        // Rounded up: never early.
        self.until = until.ns.div_ceil(1_000_000);
        if self.armed.is_some() && self.tick > self.until {
            self.disarm();
        }
    }

    /// Ready at or after the deadline.
    pub fn poll_expired(&mut self, context: &mut Context<'_>) -> Poll<()> {
        with_core(|core| {
            let mut timers = core.timers.borrow_mut();
            let now = core.now_ns.get() / 1_000_000;
            if let Some(key) = self.armed
                && timers.poll(key, context.waker())
            {
                timers.remove(key);
                self.armed = None;
            }
            if now >= self.until {
                return Poll::Ready(());
            }
            if self.armed.is_none() {
                self.armed = Some(timers.insert(self.until, context.waker().clone()));
                self.tick = self.until;
            }
            Poll::Pending
        })
    }

    fn disarm(&mut self) {
        if let Some(key) = self.armed.take() {
            try_with_core(|core| core.timers.borrow_mut().remove(key));
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.poll_expired(context)
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.disarm();
    }
}

/// Waits until `until`: ready in the first turn at or after it. Dropping it forgets the timer.
pub fn sleep_until(until: Instant) -> Sleep {
    Sleep { until: until.ns.div_ceil(1_000_000), tick: 0, armed: None, of_one_thread: PhantomData }
}

/// Waits for `duration` from the start of this turn.
///
/// # Panics
/// Outside a runtime.
pub fn sleep(duration: Duration) -> Sleep {
    sleep_until(Instant::now() + duration)
}

/// Waits until a moment, to the nanosecond as far as the kernel and the CPU allow; see [`alarm`].
pub struct Alarm {
    until: Instant,
    armed: Option<AlarmKey>,
    /// The key means something on this thread only: not `Send`.
    of_one_thread: PhantomData<*const ()>,
}

impl Future for Alarm {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        with_core(|core| {
            let mut alarms = core.alarms.borrow_mut();
            if core.now_ns.get() >= self.until.ns {
                self.armed.take().into_iter().for_each(|key| alarms.remove(key));
                return Poll::Ready(());
            }
            match self.armed {
                Some(key) => alarms.set_waker(key, context.waker()),
                None => self.armed = Some(alarms.insert(self.until.ns, context.waker())),
            }
            Poll::Pending
        })
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some(key) = self.armed.take() {
            try_with_core(|core| core.alarms.borrow_mut().remove(key));
        }
    }
}

/// As [`sleep_until`], without rounding to the millisecond; dearer, so for pacing and not for deadlines. Ready in the
/// first turn at or after `until`, which [`Builder::spin`](super::Builder::spin) brings nearer. Dropping it forgets it.
pub fn alarm(until: Instant) -> Alarm {
    Alarm { until, armed: None, of_one_thread: PhantomData }
}

/// The time was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

impl std::fmt::Display for Elapsed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("deadline has elapsed")
    }
}

impl std::error::Error for Elapsed {}

/// `future`'s output, unless it takes longer than `duration`; then it is dropped.
///
/// # Errors
/// [`Elapsed`].
pub async fn timeout<F: Future>(duration: Duration, future: F) -> Result<F::Output, Elapsed> {
    match select2(future, sleep(duration)).await {
        Either::First(output) => Ok(output),
        Either::Second(()) => Err(Elapsed),
    }
}
