//! Memory in the kernel's hands: the one promise that every driver relies on.

use super::sqe::Sqe;

/// An entry whose pointers stay valid until its last completion has been reaped. A driver takes nothing else.
pub(crate) struct Lent(Sqe);

impl Lent {
    /// # Safety
    /// Everything that the entry points to stays allocated, in place, and untouched by anyone else until the driver
    /// has reported the operation's last completion (one without the MORE flag), or for ever.
    pub(crate) unsafe fn new(sqe: Sqe) -> Lent {
        Lent(sqe)
    }

    /// An entry that points to nothing (close, cancel, poll, a message).
    pub(crate) fn without_memory(sqe: Sqe) -> Lent {
        use super::sqe::op::{ACCEPT, ASYNC_CANCEL, CLOSE, FIXED_FD_INSTALL, MSG_RING, NOP, POLL_ADD, SOCKET};
        let harmless = [ACCEPT, ASYNC_CANCEL, CLOSE, FIXED_FD_INSTALL, MSG_RING, NOP, POLL_ADD, SOCKET];
        assert!(harmless.contains(&sqe.opcode), "operation {} may point to memory", sqe.opcode);
        Lent(sqe)
    }

    pub(crate) fn sqe(&self) -> &Sqe {
        &self.0
    }
}

/// What the entry lends, for a driver that plays the kernel: `rt::driver::sim`, which looks only before it reports the
/// operation's last completion.
#[cfg(any(test, feature = "sim"))]
impl Lent {
    /// The bytes that a SEND lends in (addr, len).
    pub(crate) fn bytes(&self) -> &[u8] {
        if self.0.len == 0 {
            return &[];
        }
        // SAFETY: `Lent::new`'s caller keeps (addr, len) of a SEND or WRITE valid until the completion is reaped,
        // and the simulated driver calls this only before it reports that completion.
        unsafe { std::slice::from_raw_parts(self.0.addr as *const u8, self.0.len as usize) }
    }

    /// The room that a RECV lends in (addr, len).
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        if self.0.len == 0 {
            return &mut [];
        }
        // SAFETY: as for `bytes`, for a RECV or READ; the slot that owns the memory does not touch it meanwhile.
        unsafe { std::slice::from_raw_parts_mut(self.0.addr as *mut u8, self.0.len as usize) }
    }

    /// The bytes that the message of a SENDMSG gathers, vector by vector.
    pub(crate) fn message(&self) -> Vec<&[u8]> {
        assert_eq!(self.0.opcode, super::sqe::op::SENDMSG);
        // SAFETY: the entry of a SENDMSG points to a `msghdr`, valid by the promise of `Lent::new`.
        let message = unsafe { &*(self.0.addr as *const libc::msghdr) };
        if message.msg_iovlen == 0 {
            return Vec::new();
        }
        // SAFETY: a `msghdr` points to `msg_iovlen` vectors, by the same promise.
        let vectors = unsafe { std::slice::from_raw_parts(message.msg_iov, message.msg_iovlen) };
        let filled = vectors.iter().filter(|vector| vector.iov_len > 0);
        // SAFETY: and each of them to `iov_len` bytes that nobody changes meanwhile; empty ones, which may point nowhere,
        // are left out.
        filled.map(|vector| unsafe { std::slice::from_raw_parts(vector.iov_base.cast(), vector.iov_len) }).collect()
    }

    /// The room for the value of a socket option (`Sqe::getsockopt`).
    pub(crate) fn option_mut(&mut self) -> &mut [u8] {
        assert_eq!(self.0.opcode, super::sqe::op::URING_CMD);
        if self.0.file_index == 0 {
            return &mut [];
        }
        // SAFETY: the entry of a GETSOCKOPT lends `file_index` bytes at `addr3`, by the promise of `Lent::new`.
        unsafe { std::slice::from_raw_parts_mut(self.0.addr3 as *mut u8, self.0.file_index as usize) }
    }
}
