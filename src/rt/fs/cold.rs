//! Files that may not be in memory: what is, and how the rest gets there without anybody waiting for a disk.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use super::File;
use crate::rt::op::{Op, Unclaimed};
use crate::rt::sys::file;
use crate::rt::sys::read_pool::{ReadBuf, ReadPool};
use crate::rt::sys::sqe::Sqe;
use crate::rt::with_core;

impl File {
    /// Whether all of the `len` bytes from `offset` on are in memory. On a file of another user, where only the ends can be
    /// looked at, a hole between them goes unseen.
    pub fn is_resident(&self, offset: u64, len: usize) -> bool {
        file::is_resident(&self.fd, offset, len as u64, &self.is_counted)
    }

    /// Whether [`is_resident`](Self::is_resident) looks at every page of this file, and not only at the ends of a part. False
    /// until it has.
    pub fn knows_every_page(&self) -> bool {
        self.is_counted.get() == Some(true)
    }

    /// sendfile(2) of at most `len` bytes from `offset` on to a non-blocking socket, now, on this thread. It cannot be told
    /// not to wait for a disk: ask [`is_resident`](Self::is_resident) first.
    ///
    /// # Errors
    /// `WouldBlock` when the socket is full; EPIPE, ECONNRESET; EINVAL where the file system cannot.
    pub fn send_to(&self, socket: &OwnedFd, offset: u64, len: usize) -> io::Result<usize> {
        file::sendfile(socket, &self.fd, offset, len)
    }

    /// Reads up to `len` bytes from `offset` on into a buffer of the core's; 0 is the end of the file.
    ///
    /// Dropped while waiting: nothing is lost; the buffer is free again when the kernel is through with it.
    ///
    /// # Errors
    /// As [`read_at`](Self::read_at).
    pub async fn read_into(&self, buffer: ReadBuf, offset: u64, len: usize) -> (io::Result<usize>, ReadBuf) {
        let file = self.raw();
        let entry = |buffer: &mut ReadBuf| {
            let (start, room, number) = buffer.room();
            match number {
                Some(number) => Sqe::read_fixed(file, start, room.min(len), offset, number),
                None => Sqe::read(file, start, room.min(len), Some(offset)),
            }
        };
        let (outcome, mut buffer) = Op::start(buffer, Unclaimed::Forget, entry).await;
        let count = outcome.count();
        buffer.set_filled(count.as_ref().map_or(0, |count| *count));
        (count, buffer)
    }

    /// Asks for a part that will be wanted soon (POSIX_FADV_WILLNEED), and does not wait for it.
    pub fn read_ahead(self: &Rc<File>, offset: u64, len: usize) -> ReadAhead {
        let entry = |file: &mut Rc<File>| Sqe::will_need(file.raw(), offset, len);
        ReadAhead { _asking: Op::start(Rc::clone(self), Unclaimed::Forget, entry) }
    }
}

/// A request to read ahead. Dropped: given up, unless a worker has begun with it.
pub struct ReadAhead {
    _asking: Op<Rc<File>>,
}

/// The buffers that a core reads cold files into. Registered with its ring, and so charged against RLIMIT_MEMLOCK, where
/// that is allowed; plain memory elsewhere. A ring takes one such pool in its life.
pub struct ReadBuffers(Rc<ReadPool>);

impl ReadBuffers {
    /// `count` buffers of `bytes` each.
    ///
    /// # Errors
    /// ENOMEM: mmap(2).
    ///
    /// # Panics
    /// Outside a runtime.
    pub fn new(count: u16, bytes: usize) -> io::Result<ReadBuffers> {
        let pool = ReadPool::new(count, bytes)?;
        match with_core(|core| core.driver.borrow().register_buffers(&pool)) {
            Ok(()) => pool.set_registered(),
            Err(error) => tracing::debug!(%error, "read buffers are not registered; plain reads are used"),
        }
        Ok(ReadBuffers(pool))
    }

    /// A free buffer; first come, first served.
    pub async fn take(&self) -> ReadBuf {
        self.0.take().await
    }

    /// Whether the ring knows them: reads then are READ_FIXED.
    pub fn are_registered(&self) -> bool {
        self.0.is_registered()
    }
}
