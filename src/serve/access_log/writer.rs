//! The task that writes a core's records: on the ring, so that no core ever waits for a disk or for whoever reads a pipe; one
//! batch at a time, so that what comes meanwhile is the next batch.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use crate::rt::select2;
use crate::rt::time::sleep;

use super::sink::Turn;
use super::{KEPT_BYTES, Shared, Target, count_lines};

/// How often it is tried again while nothing can be written.
const RETRY: Duration = Duration::from_secs(1);
/// The same, for a non-blocking pipe or terminal that is full: a program beside us has made it so.
const FULL_RETRY: Duration = Duration::from_millis(10);

pub(super) async fn run(shared: Rc<Shared>) {
    while shared.work().await {
        shared.move_on();
        if !shared.take_batch() {
            continue;
        }
        let mut turn = Some(shared.settings.sink.turn().await);
        while let Err(error) = write_batch(&shared, turn.as_ref()).await {
            shared.fails(&error.to_string());
            // Others may have more luck, with a shorter batch or another file.
            drop(turn.take());
            select2(sleep(RETRY), shared.reopened()).await;
            shared.move_on();
            turn = Some(shared.settings.sink.turn().await);
        }
        drop(turn);
        shared.batch.take();
        // Under a load that the disk cannot bear, each batch would be the end of one trouble and the beginning of the next.
        if shared.lines.borrow().len() <= shared.settings.buffer_bytes_max / 2 {
            shared.recovers();
        }
        shared.settings.sink.stand_back().await;
    }
}

impl Shared {
    /// Waits until there is something to write, or another place to write to. False when there will be nothing more.
    async fn work(&self) -> bool {
        poll_fn(|context| {
            if !self.lines.borrow().is_empty() || self.next.borrow().is_some() {
                return Poll::Ready(true);
            }
            if self.closed.get() {
                return Poll::Ready(false);
            }
            *self.writer.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    async fn reopened(&self) {
        poll_fn(|context| {
            if self.next.borrow().is_some() {
                return Poll::Ready(());
            }
            *self.writer.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// To the new place, if there is one. Nothing is in flight to the old one, and it ends with a whole line, or with a piece of
    /// one that comes whole in the new.
    fn move_on(&self) {
        if let Some(reopened) = self.next.borrow_mut().take() {
            *self.target.borrow_mut() = Rc::new(reopened.target);
            self.settings.sink.replace_torn(false);
        }
    }

    /// Everything that has gathered; the room of the batch before is for what comes next.
    fn take_batch(&self) -> bool {
        let (batch, done) = &mut *self.rest.borrow_mut();
        batch.clear();
        batch.shrink_to(KEPT_BYTES);
        *done = 0;
        std::mem::swap(batch, &mut *self.lines.borrow_mut());
        self.batch.set((batch.len(), count_lines(batch)));
        !batch.is_empty()
    }
}

/// Writes what is left of the batch. After an error it is left with whole lines.
async fn write_batch(shared: &Shared, _turn: Option<&Turn<'_>>) -> io::Result<()> {
    let target = Rc::clone(&shared.target.borrow());
    let sink = &shared.settings.sink;
    if sink.replace_torn(false)
        && let Err(error) = append(&target, vec![b'\n'], 0).await.0
    {
        sink.replace_torn(true);
        return Err(error);
    }
    loop {
        let (batch, done) = shared.rest.take();
        if done == batch.len() {
            *shared.rest.borrow_mut() = (batch, done);
            return Ok(());
        }
        let (count, batch) = append(&target, batch, done).await;
        match count {
            Ok(count) => *shared.rest.borrow_mut() = (batch, done + count),
            Err(error) => {
                let whole = batch[..done].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                if whole < done && !take_back(&target, done - whole) {
                    sink.replace_torn(true);
                }
                shared.batch.set((batch.len() - whole, count_lines(&batch[whole..])));
                *shared.rest.borrow_mut() = (batch, whole);
                return Err(error);
            }
        }
    }
}

/// Writes some of it.
async fn append(target: &Target, mut batch: Vec<u8>, start: usize) -> (io::Result<usize>, Vec<u8>) {
    loop {
        let (count, back) = target.file.append(batch, start).await;
        batch = back;
        match count {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(FULL_RETRY).await,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), batch),
            count => return (count, batch),
        }
    }
}

/// Takes the piece of a line back that a full disk had room for. It is our turn: nobody else of this server has written behind it.
fn take_back(target: &Target, piece: usize) -> bool {
    let shorten = |facts: crate::rt::fs::Metadata| target.file.set_len(facts.len.saturating_sub(piece as u64));
    target.is_regular && target.file.metadata().and_then(shorten).is_ok()
}
