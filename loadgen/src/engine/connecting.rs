//! Making connections: no more at a time than the server's backlog holds, from as many addresses as it takes.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use ucaffeine::rt::net::{ConnectOptions, TcpStream};
use ucaffeine::rt::time::{self, Instant};

use crate::plan::Plan;
use crate::target::Address;

/// A connect that found a Unix listener's backlog full is tried again after that.
const BACKLOG_PAUSE: Duration = Duration::from_millis(1);

/// The connects of one thread.
pub(super) struct Connecting {
    /// How many more may be under way.
    room: Cell<u32>,
    /// Who waits, and where it is told that it need not any more.
    waiting: RefCell<VecDeque<(Waker, Rc<Cell<bool>>)>>,
    /// Connections asked for so far: the next one's source.
    made: Cell<usize>,
}

/// One connect under way; its end lets another one begin.
struct Permit<'c>(&'c Connecting);

impl Connecting {
    pub(super) fn new(window: u32) -> Connecting {
        Connecting { room: Cell::new(window.max(1)), waiting: RefCell::default(), made: Cell::new(0) }
    }

    /// Connects, in turn. How long it took, without the wait for the turn.
    pub(super) async fn connect(&self, plan: &Plan, first: usize) -> io::Result<(TcpStream, u64)> {
        let _permit = self.permit().await;
        let number = self.made.replace(self.made.get() + 1);
        let begun = Instant::fresh();
        let made = time::timeout(plan.timeout, async {
            match &plan.address {
                Address::Tcp(addr) => {
                    let source = (!plan.connecting.sources.is_empty())
                        .then(|| plan.connecting.sources[(first + number) % plan.connecting.sources.len()]);
                    TcpStream::connect_with(*addr, ConnectOptions::new().source(source).nodelay(true)).await
                }
                Address::Unix(path) => loop {
                    match TcpStream::connect_unix(path).await {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => time::sleep(BACKLOG_PAUSE).await,
                        other => break other,
                    }
                },
            }
        });
        let stream = made.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        Ok((stream, Instant::fresh().duration_since(begun).as_nanos() as u64))
    }

    async fn permit(&self) -> Permit<'_> {
        if self.room.get() > 0 {
            self.room.set(self.room.get() - 1);
            return Permit(self);
        }
        let mut told: Option<Rc<Cell<bool>>> = None;
        poll_fn(|context| match &told {
            Some(told) if told.get() => Poll::Ready(Permit(self)),
            Some(_) => Poll::Pending,
            None => {
                let place = told.insert(Rc::default());
                self.waiting.borrow_mut().push_back((context.waker().clone(), Rc::clone(place)));
                Poll::Pending
            }
        })
        .await
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        while let Some((waker, told)) = self.0.waiting.borrow_mut().pop_front() {
            // Somebody still waits: it has the other half.
            if Rc::strong_count(&told) > 1 {
                told.set(true);
                return waker.wake();
            }
        }
        self.0.room.set(self.0.room.get() + 1);
    }
}
