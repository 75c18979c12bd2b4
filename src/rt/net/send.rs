//! Sending.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::TcpStream;
use crate::rt::op::{Op, Parting, Silence, Unclaimed};
use crate::rt::sys::io_buf::IoBuf;
use crate::rt::sys::msg::Message;
use crate::rt::sys::sqe::Sqe;
use crate::rt::{Bug, planted};

impl TcpStream {
    /// Sends some of the bytes; the result may be short.
    ///
    /// Dropped while waiting: it is not known how much was sent.
    ///
    /// # Errors
    /// EPIPE, ECONNRESET: send(2).
    pub async fn write<B: IoBuf>(&self, buffer: B) -> (io::Result<usize>, B) {
        self.write_from(buffer, 0).await
    }

    /// Sends some of the bytes from `start` on; the result may be short.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    ///
    /// # Panics
    /// If `start` is beyond the end.
    pub fn write_from<B: IoBuf>(&self, buffer: B, start: usize) -> Sending<B> {
        let len = buffer.bytes_len().checked_sub(start).expect("the start of a write is beyond its end");
        let fd = self.fd;
        let entry = |buffer: &mut B| Sqe::send(fd, buffer.bytes_ptr().wrapping_add(start), len);
        Sending(Op::start(buffer, Unclaimed::Forget, entry))
    }

    /// Sends some of the bytes from `start` on, without copying them where the kernel can do without (SEND_ZC). The result may
    /// be short, and comes before the kernel is through with the bytes: it keeps `buffer` until the peer has them.
    ///
    /// Dropped while waiting: it is not known how much was sent.
    ///
    /// # Errors
    /// As [`write`](Self::write); EOPNOTSUPP for a Unix socket, ENOMEM where too much is under way.
    ///
    /// # Panics
    /// If `start` is beyond the end.
    pub fn write_zero_copy<B: IoBuf>(
        &self,
        buffer: B,
        start: usize,
    ) -> impl Future<Output = io::Result<usize>> + use<B> {
        let len = buffer.bytes_len().checked_sub(start).expect("the start of a write is beyond its end");
        let fd = self.fd;
        let sent = Parting::start(buffer, |buffer: &mut B| {
            Sqe::send_zero_copy(fd, buffer.bytes_ptr().wrapping_add(start), len)
        });
        async move { sent.await.count() }
    }

    /// Sends what there is room for at once, for a caller with nothing else to do than to wait for the peer: a receive is
    /// armed first, so that the peer's next bytes are noticed, and that all was sent is noticed with the next event, a
    /// millisecond late at most. Costs no completion and no turn of its own, most of the time.
    ///
    /// # Errors
    /// `WouldBlock` when there was no room at all; else as [`write`](Self::write).
    pub fn write_and_listen<B: IoBuf>(&self, buffer: B) -> Sending<B> {
        self.arm_recv();
        let (fd, len) = (self.fd, buffer.bytes_len());
        let entry = |buffer: &mut B| Sqe::send_now(fd, buffer.bytes_ptr(), len);
        Sending(Op::start_at_leisure(buffer, Unclaimed::Forget, Silence::Means(len as u32), entry))
    }

    /// Sends all of the bytes.
    ///
    /// Dropped while waiting: it is not known how much was sent.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub async fn write_all<B: IoBuf>(&self, mut buffer: B) -> (io::Result<()>, B) {
        let mut sent = 0;
        while sent < buffer.bytes_len() {
            let (written, back) = self.write_from(buffer, sent).await;
            buffer = back;
            match written {
                Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), buffer),
                Ok(_) if planted(Bug::ShortSendIgnored) => sent = buffer.bytes_len(),
                Ok(count) => sent += count,
                Err(error) => return (Err(error), buffer),
            }
        }
        (Ok(()), buffer)
    }

    /// Sends all of the bytes and closes the connection, both in the same turn: the last data and the FIN leave together.
    /// The result is how much was sent; anything but all of it means that the connection broke.
    ///
    /// Dropped while waiting: the connection is reset when the kernel has given up what it was sending.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_last<B: IoBuf>(self, buffer: B) -> Sending<B> {
        // First the cancel of a receive that waits, as in `drop`.
        drop(self.recv.take());
        let fd = self.fd;
        let entry = |buffer: &mut B| Sqe::send_last(fd, buffer.bytes_ptr(), buffer.bytes_len());
        let sent = Op::start_at_leisure(buffer, Unclaimed::Forget, Silence::MeansNothing, entry);
        // The close is queued behind the send, which keeps the socket until it is done.
        drop(self);
        Sending(sent)
    }

    /// Sends some of a message of two buffers, from byte `start` of both together on.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    ///
    /// # Panics
    /// If `start` is beyond the end of both.
    pub fn write_two<A: IoBuf, B: IoBuf>(
        &self,
        message: Box<Message<A, B>>,
        start: usize,
    ) -> Sending<Box<Message<A, B>>> {
        let fd = self.fd;
        Sending(Op::start(message, Unclaimed::Forget, |message| Sqe::sendmsg(fd, message.header(start))))
    }

    /// As [`write_and_listen`](Self::write_and_listen), for a message of two buffers.
    ///
    /// # Errors
    /// As [`write_and_listen`](Self::write_and_listen).
    pub fn write_two_and_listen<A: IoBuf, B: IoBuf>(&self, message: Box<Message<A, B>>) -> Sending<Box<Message<A, B>>> {
        self.arm_recv();
        let (fd, len) = (self.fd, message.bytes_len());
        let entry = |message: &mut Box<Message<A, B>>| Sqe::sendmsg_now(fd, message.header(0));
        Sending(Op::start_at_leisure(message, Unclaimed::Forget, Silence::Means(len as u32), entry))
    }
}

/// A send under way: its count and what was lent. Named, and not an `async` block: those keep their arguments twice.
///
/// Dropped: it is not known how much was sent.
pub struct Sending<B>(Op<B>);

impl<B: 'static> Future for Sending<B> {
    type Output = (io::Result<usize>, B);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|(outcome, buffer)| (outcome.count(), buffer))
    }
}
