//! `struct msghdr` for two owned buffers: a head and a body in one send.

use super::io_buf::IoBuf;

/// Two buffers and the message that points to them. Boxed: the message points into its own box.
pub(crate) struct Pair<A, B> {
    first: A,
    second: B,
    vectors: [libc::iovec; 2],
    message: libc::msghdr,
}

impl<A: IoBuf, B: IoBuf> Pair<A, B> {
    /// From byte `start` of both together on.
    pub(crate) fn new(first: A, second: B, start: usize) -> Box<Pair<A, B>> {
        let (first_len, second_len) = (first.bytes_len(), second.bytes_len());
        assert!(start <= first_len + second_len, "the start of a write is beyond its end");
        let skip = start.min(first_len);
        let vectors = [
            vector(first.bytes_ptr().wrapping_add(skip), first_len - skip),
            vector(second.bytes_ptr().wrapping_add(start - skip), second_len - (start - skip)),
        ];
        // SAFETY: all zeroes is a valid `msghdr`: no name, no control data, no vectors.
        let message: libc::msghdr = unsafe { std::mem::zeroed() };
        let mut pair = Box::new(Pair { first, second, vectors, message });
        pair.message.msg_iov = pair.vectors.as_mut_ptr();
        pair.message.msg_iovlen = 2;
        pair
    }

    pub(crate) fn message(this: &mut Box<Pair<A, B>>) -> *const libc::msghdr {
        &raw const this.message
    }

    pub(crate) fn into_parts(self) -> (A, B) {
        (self.first, self.second)
    }
}

fn vector(start: *const u8, len: usize) -> libc::iovec {
    libc::iovec { iov_base: start.cast_mut().cast(), iov_len: len }
}
