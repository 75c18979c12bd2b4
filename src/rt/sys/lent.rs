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

    /// The bytes that the entry's (addr, len) lends for reading; for a driver that plays the kernel.
    pub(crate) fn bytes(&self) -> &[u8] {
        if self.0.len == 0 {
            return &[];
        }
        // SAFETY: `Lent::new`'s caller keeps (addr, len) of a SEND or WRITE valid until the completion is reaped,
        // and the simulated driver calls this only before it reports that completion.
        unsafe { std::slice::from_raw_parts(self.0.addr as *const u8, self.0.len as usize) }
    }

    /// The bytes that the entry's (addr, len) lends for writing.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        if self.0.len == 0 {
            return &mut [];
        }
        // SAFETY: as for `bytes`, for a RECV or READ; the slot that owns the memory does not touch it meanwhile.
        unsafe { std::slice::from_raw_parts_mut(self.0.addr as *mut u8, self.0.len as usize) }
    }
}
