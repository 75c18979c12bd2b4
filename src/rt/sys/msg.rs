//! `struct msghdr` for two owned buffers: a head and a body in one send.

use super::io_buf::IoBuf;

/// Two buffers, and the header of a message that gathers them. Boxed, because the header points into its own box; and
/// used again, because a box for each send would be the only allocation of that send.
pub struct Message<A, B> {
    parts: Option<(A, B)>,
    vectors: [libc::iovec; 2],
    header: libc::msghdr,
}

impl<A: IoBuf, B: IoBuf> Message<A, B> {
    /// Without buffers.
    pub fn new() -> Box<Message<A, B>> {
        let nowhere = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        // SAFETY: all zeroes is a valid `msghdr`: no name, no control data, no vectors.
        let header: libc::msghdr = unsafe { std::mem::zeroed() };
        Box::new(Message { parts: None, vectors: [nowhere; 2], header })
    }

    /// Puts two buffers in, in place of those that are there.
    pub fn set(&mut self, first: A, second: B) {
        self.parts = Some((first, second));
    }

    /// Takes the buffers out.
    pub fn take(&mut self) -> Option<(A, B)> {
        self.parts.take()
    }

    /// Bytes in both together.
    pub fn bytes_len(&self) -> usize {
        self.parts.as_ref().map_or(0, |(first, second)| first.bytes_len() + second.bytes_len())
    }

    /// The header of what is there from byte `start` on. It points into the box, which does not move when the value that
    /// owns it does.
    ///
    /// # Panics
    /// If `start` is beyond the end of both.
    pub(crate) fn header(self: &mut Box<Message<A, B>>, start: usize) -> *const libc::msghdr {
        assert!(start <= self.bytes_len(), "the start of a write is beyond its end");
        if let Some((first, second)) = &self.parts {
            let (first_len, second_len) = (first.bytes_len(), second.bytes_len());
            let skip = start.min(first_len);
            self.vectors = [
                vector(first.bytes_ptr().wrapping_add(skip), first_len - skip),
                vector(second.bytes_ptr().wrapping_add(start - skip), second_len - (start - skip)),
            ];
        }
        self.header.msg_iov = self.vectors.as_mut_ptr();
        self.header.msg_iovlen = self.vectors.len();
        &raw const self.header
    }
}

fn vector(start: *const u8, len: usize) -> libc::iovec {
    libc::iovec { iov_base: start.cast_mut().cast(), iov_len: len }
}
