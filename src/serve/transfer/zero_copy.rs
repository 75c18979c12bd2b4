//! Bodies from memory that need not be copied (SEND_ZC): wanted where the operator says so, and given up for a while when the
//! kernel says that it copies all the same, as it does on loopback and where the network card cannot gather.

use std::cell::Cell;
use std::io;

use bytes::Bytes;

use super::{Cut, by_unloading, progress, unload};
use crate::rt;
use crate::serve::link::Link;
use crate::serve::worker::Worker;

/// How long it is not tried again: other clients may be behind another card.
const GIVEN_UP_MS: u64 = 60_000;

/// Whether a core sends without copies.
pub(in crate::serve) struct ZeroCopy {
    bytes_min: Cell<Option<usize>>,
    given_up_until_ms: Cell<u64>,
    /// What the runtime had counted when that was last looked at.
    copied: Cell<u64>,
}

impl ZeroCopy {
    pub(in crate::serve) fn new(bytes_min: Option<usize>) -> ZeroCopy {
        ZeroCopy { bytes_min: Cell::new(bytes_min), given_up_until_ms: Cell::new(0), copied: Cell::new(0) }
    }

    pub(in crate::serve) fn set_bytes_min(&self, bytes_min: Option<usize>) {
        self.bytes_min.set(bytes_min);
    }

    /// Whether a body of this length is to go without a copy.
    pub(in crate::serve) fn is_for(&self, len: usize, now_ms: u64) -> bool {
        if self.bytes_min.get().is_none_or(|min| len < min) {
            return false;
        }
        let copied = rt::net::zero_copies_copied();
        if copied > self.copied.replace(copied) {
            self.give_up(now_ms);
        }
        now_ms >= self.given_up_until_ms.get()
    }

    fn give_up(&self, now_ms: u64) {
        self.given_up_until_ms.set(now_ms + GIVEN_UP_MS);
    }
}

/// Sends a body without a copy; what is left of it where that does not work comes back. The kernel keeps `body` for as long
/// as it reads from it, whatever becomes of the connection.
pub(super) async fn send(link: &mut Link, worker: &Worker, mut body: Bytes) -> Result<Bytes, Cut> {
    link.conn.sending(worker.now_ms());
    while !body.is_empty() {
        let until = link.conn.reply_until(&worker.limits());
        let stream = link.transport.stream();
        let sent = stream.write_zero_copy(body.clone(), 0);
        let sent = by_unloading(stream, Some(&mut link.input), &mut link.timer, until, sent).await;
        match sent.map_err(|_late| Cut)? {
            Err(error) if cannot(&error) => {
                worker.zero_copy.give_up(worker.now_ms());
                break;
            }
            sent => drop(body.split_to(progress(&mut link.conn, worker, sent)?)),
        }
        if !body.is_empty() {
            unload(link.transport.stream(), &mut link.input);
        }
    }
    Ok(body)
}

/// Not the client's fault: a socket that has no such sends, or too many of them under way.
fn cannot(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EINVAL | libc::ENOMEM | libc::ENOBUFS))
}
