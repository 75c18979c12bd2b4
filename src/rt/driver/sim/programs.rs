//! The clients: small async programs that the world runs between its events, beside the runtime under test and without
//! using it.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use super::net::{Happening, Side};
use super::{Rng, World};

/// Which programs are to be polled, in order. Behind a mutex only because wakers must be `Send`.
#[derive(Default)]
pub(super) struct Ready {
    programs: Mutex<Vec<usize>>,
    wakes: AtomicU64,
}

impl Ready {
    pub(super) fn wakes(&self) -> u64 {
        self.wakes.load(Ordering::Relaxed)
    }

    pub(super) fn push(&self, program: usize) {
        self.wakes.fetch_add(1, Ordering::Relaxed);
        let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        if !programs.contains(&program) {
            programs.push(program);
        }
    }

    pub(super) fn take(&self) -> Vec<usize> {
        std::mem::take(&mut *self.programs.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct ProgramWaker {
    program: usize,
    ready: Arc<Ready>,
}

impl Wake for ProgramWaker {
    fn wake(self: Arc<Self>) {
        self.ready.push(self.program);
    }
}

/// The client programs of a world.
#[derive(Default)]
pub(super) struct Programs {
    /// `None`: over, or being polled.
    all: Vec<Option<Pin<Box<dyn Future<Output = ()>>>>>,
    wakers: Vec<Waker>,
    left: usize,
    abandoned: bool,
    waiting_for_end: Vec<Waker>,
}

impl World {
    /// Starts a client program. It is polled by the world, inside `enter`, so it may await only what a [`Client`] or the
    /// world offers. A panic in it ends the test.
    pub(crate) fn spawn(&self, program: impl Future<Output = ()> + 'static) {
        let mut programs = self.inner.programs.borrow_mut();
        programs.all.push(Some(Box::pin(program)));
        programs.left += 1;
        let program = programs.all.len() - 1;
        programs.wakers.push(Arc::new(ProgramWaker { program, ready: Arc::clone(&self.inner.ready) }).into());
        self.inner.ready.push(program);
    }

    /// Waits until every client program is over; for the main future of the runtime under test.
    pub(crate) async fn clients_done(&self) {
        poll_fn(|context| {
            let mut programs = self.inner.programs.borrow_mut();
            if programs.left == 0 {
                return Poll::Ready(());
            }
            programs.waiting_for_end.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Client programs that are not over.
    pub(crate) fn clients_left(&self) -> usize {
        self.inner.programs.borrow().left
    }

    /// The clients are no more: after a failure, what they think of the end is of no interest. Their connections close.
    pub(crate) fn abandon_clients(&self) {
        let mut programs = self.inner.programs.borrow_mut();
        programs.abandoned = true;
        let all = std::mem::take(&mut programs.all);
        drop(programs);
        drop(all);
    }

    /// Waits for so many virtual nanoseconds; for client programs.
    pub(crate) async fn pause(&self, ns: u64) {
        let mut until = None;
        poll_fn(|context| {
            let mut state = self.state();
            if let Some(until_ns) = until {
                return if state.now_ns >= until_ns { Poll::Ready(()) } else { Poll::Pending };
            }
            until = Some(state.now_ns + ns);
            state.schedule(ns, Happening::Wake(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// Polls each program that was woken, until none is.
    pub(super) fn run_programs(&self) -> bool {
        if self.inner.programs.borrow().abandoned {
            return false;
        }
        let ready = self.inner.ready.take();
        for program in &ready {
            // Taken out meanwhile: it may start others, and one that panics must not be polled again.
            let Some(mut future) = self.inner.programs.borrow_mut().all[*program].take() else { continue };
            let waker = self.inner.programs.borrow().wakers[*program].clone();
            if future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
                self.inner.programs.borrow_mut().all[*program] = Some(future);
                continue;
            }
            drop(future);
            let mut programs = self.inner.programs.borrow_mut();
            programs.left -= 1;
            if programs.left == 0 {
                let waiting = std::mem::take(&mut programs.waiting_for_end);
                drop(programs);
                waiting.into_iter().for_each(|waker| self.state().fire(waker));
            }
        }
        !ready.is_empty()
    }
}

/// What a client's read gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    Bytes(Vec<u8>),
    /// The server has ended its output.
    End,
    /// The connection is broken.
    Reset,
}

/// A client's end of a connection. Dropped: closed.
pub(crate) struct Client {
    world: World,
    conn: usize,
}

impl Client {
    pub(super) fn new(world: World, conn: usize) -> Client {
        Client { world, conn }
    }

    /// Sends all of the bytes, in segments of any size, as the server's window allows. False: the connection is broken.
    pub(crate) async fn write(&self, bytes: &[u8]) -> bool {
        let mut left = bytes;
        while !left.is_empty() {
            let sent = poll_fn(|context| {
                let mut state = self.world.state();
                let conn = &mut state.conns[self.conn];
                if conn.end(Side::Client).dead || conn.end(Side::Client).closed {
                    return Poll::Ready(None);
                }
                let room = conn.room_from(Side::Client).min(left.len());
                if room == 0 {
                    conn.wait(context.waker());
                    return Poll::Pending;
                }
                let count = if state.rng.chance(500) { room } else { state.rng.up_to(room) };
                state.send(self.conn, Side::Client, left[..count].to_vec());
                Poll::Ready(Some(count))
            });
            let Some(count) = sent.await else { return false };
            left = &left[count..];
        }
        true
    }

    /// The next bytes, at most `most`, or how it ended. What arrived before an end is read first.
    pub(crate) async fn read(&self, most: usize) -> Incoming {
        poll_fn(|context| {
            let mut state = self.world.state();
            let conn = &mut state.conns[self.conn];
            let end = conn.end(Side::Client);
            if !end.unread.is_empty() {
                return Poll::Ready(Incoming::Bytes(state.take_unread(self.conn, Side::Client, most)));
            }
            if end.dead || end.closed {
                return Poll::Ready(Incoming::Reset);
            }
            if end.ended {
                return Poll::Ready(Incoming::End);
            }
            conn.wait(context.waker());
            Poll::Pending
        })
        .await
    }

    /// Everything until the server's end of output, or the reset.
    pub(crate) async fn read_to_end(&self) -> (Vec<u8>, Incoming) {
        let mut all = Vec::new();
        loop {
            match self.read(usize::MAX).await {
                Incoming::Bytes(bytes) => all.extend(bytes),
                end => return (all, end),
            }
        }
    }

    /// What has arrived and was not read, without waiting.
    pub(crate) fn unread(&self) -> usize {
        self.world.state().conns[self.conn].end(Side::Client).unread.len()
    }

    /// Whether the server has ended or broken the connection, as far as this end has heard.
    pub(crate) fn is_closed(&self) -> bool {
        let state = self.world.state();
        let end = state.conns[self.conn].end(Side::Client);
        end.ended || end.dead
    }

    /// Ends this side's output; the server may go on.
    pub(crate) fn shutdown(&self) {
        self.world.state().shutdown(self.conn, Side::Client);
    }

    /// Closes; with unread bytes that is a reset, as everywhere.
    pub(crate) fn close(&self) {
        self.world.state().close(self.conn, Side::Client);
    }

    /// Breaks the connection.
    pub(crate) fn reset(&self) {
        self.world.state().reset(self.conn, Side::Client);
    }

    /// Whether the world broke this connection, so that the server is not to blame.
    pub(crate) fn is_excused(&self) -> bool {
        self.world.state().conns[self.conn].excused
    }

    /// A source of chance of this client's own.
    pub(crate) fn rng(&self) -> Rng {
        self.world.rng(1 + self.conn as u64)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Not where a panic unwinds through the world itself.
        if let Ok(mut state) = self.world.inner.state.try_borrow_mut() {
            state.close(self.conn, Side::Client);
        }
    }
}
