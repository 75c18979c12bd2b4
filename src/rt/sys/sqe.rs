//! The 64-byte submission entry (`struct io_uring_sqe`, `linux/io_uring.h`), one constructor per operation that we use.
//!
//! Our own layout, and not the crate's opcode builders, because the crate hides the fields that a few operations need
//! (POLL_FIRST, GETSOCKOPT, cancel by descriptor) and because the simulated driver has to read entries back.
//! Building an entry is safe: nothing happens until it is lent to a driver (`rt::sys::lent`).

use std::os::fd::RawFd;

/// One submission entry. Field names are the kernel's; unions are named after what we put there.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sqe {
    pub(crate) opcode: u8,
    pub(crate) flags: u8,
    pub(crate) ioprio: u16,
    pub(crate) fd: i32,
    pub(crate) off: u64,
    pub(crate) addr: u64,
    pub(crate) len: u32,
    pub(crate) op_flags: u32,
    pub(crate) user_data: u64,
    pub(crate) buf_group: u16,
    pub(crate) personality: u16,
    pub(crate) file_index: u32,
    pub(crate) addr3: u64,
    pub(crate) pad: u64,
}

const _: () = assert!(size_of::<Sqe>() == 64 && align_of::<Sqe>() == 8);

/// A descriptor as the ring names it: a process-wide number, or a slot of the ring's own table ("direct descriptor").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fd {
    Raw(RawFd),
    Direct(u32),
}

/// Operation codes (`enum io_uring_op`).
pub(crate) mod op {
    pub(crate) const NOP: u8 = 0;
    pub(crate) const READ_FIXED: u8 = 4;
    pub(crate) const POLL_ADD: u8 = 6;
    pub(crate) const TIMEOUT: u8 = 11;
    pub(crate) const ACCEPT: u8 = 13;
    pub(crate) const ASYNC_CANCEL: u8 = 14;
    pub(crate) const CONNECT: u8 = 16;
    pub(crate) const CLOSE: u8 = 19;
    pub(crate) const READ: u8 = 22;
    pub(crate) const WRITE: u8 = 23;
    pub(crate) const FADVISE: u8 = 24;
    pub(crate) const SEND: u8 = 26;
    pub(crate) const SENDMSG: u8 = 9;
    pub(crate) const RECV: u8 = 27;
    pub(crate) const OPENAT2: u8 = 28;
    pub(crate) const MSG_RING: u8 = 40;
    pub(crate) const SOCKET: u8 = 45;
    pub(crate) const URING_CMD: u8 = 46;
    pub(crate) const SEND_ZC: u8 = 47;
    pub(crate) const WAITID: u8 = 50;
    pub(crate) const FIXED_FD_INSTALL: u8 = 54;
}

/// Entry flags (`IOSQE_*`).
pub(crate) const FIXED_FILE: u8 = 1 << 0;
pub(crate) const BUFFER_SELECT: u8 = 1 << 5;
pub(crate) const CQE_SKIP_SUCCESS: u8 = 1 << 6;

/// `IORING_ACCEPT_MULTISHOT` and `IORING_RECV_MULTISHOT` live in `ioprio`.
pub(crate) const ACCEPT_MULTISHOT: u16 = 1 << 0;
pub(crate) const RECV_MULTISHOT: u16 = 1 << 1;
/// `IORING_POLL_ADD_MULTI` lives in `len`.
pub(crate) const POLL_ADD_MULTI: u32 = 1 << 0;
/// `IORING_RECVSEND_POLL_FIRST`, in `ioprio`.
pub(crate) const RECVSEND_POLL_FIRST: u16 = 1 << 0;
/// `IORING_SEND_ZC_REPORT_USAGE`, in `ioprio`.
const SEND_ZC_REPORT_USAGE: u16 = 1 << 3;
/// `IORING_TIMEOUT_ABS`: a moment, not a duration.
const TIMEOUT_ABS: u32 = 1 << 0;
/// "Any free slot of the table" (`IORING_FILE_INDEX_ALLOC`).
pub(crate) const FILE_INDEX_ALLOC: u32 = u32::MAX;
/// Cancel flags (`IORING_ASYNC_CANCEL_*`).
pub(crate) const CANCEL_ALL: u32 = 1 << 0;
pub(crate) const CANCEL_ANY: u32 = 1 << 2;
/// `SOCKET_URING_OP_GETSOCKOPT`, `SOCKET_URING_OP_SETSOCKOPT`.
pub(crate) const SOCKET_GETSOCKOPT: u64 = 2;
pub(crate) const SOCKET_SETSOCKOPT: u64 = 3;

impl Sqe {
    const ZERO: Sqe = Sqe {
        opcode: op::NOP,
        flags: 0,
        ioprio: 0,
        fd: -1,
        off: 0,
        addr: 0,
        len: 0,
        op_flags: 0,
        user_data: 0,
        buf_group: 0,
        personality: 0,
        file_index: 0,
        addr3: 0,
        pad: 0,
    };

    fn on(opcode: u8, fd: Fd) -> Sqe {
        let (fd, flags) = match fd {
            Fd::Raw(fd) => (fd, 0),
            Fd::Direct(slot) => (slot as i32, FIXED_FILE),
        };
        Sqe { opcode, fd, flags, ..Sqe::ZERO }
    }

    /// accept(2) into a slot of the direct table (5.19), again and again while `multishot`. The result is the slot.
    /// SOCK_NONBLOCK, because `sendfile(2)` on an installed descriptor blocks without it; ring operations still park.
    /// A multishot ends with -ENFILE when the table is full, and has then closed one client's connection: pause before.
    pub(crate) fn accept(listener: Fd, multishot: bool) -> Sqe {
        let ioprio = if multishot { ACCEPT_MULTISHOT } else { 0 };
        let op_flags = libc::SOCK_NONBLOCK as u32;
        Sqe { ioprio, op_flags, file_index: FILE_INDEX_ALLOC, ..Sqe::on(op::ACCEPT, listener) }
    }

    /// recv(2) into a buffer that the kernel takes from the ring's pool when data is there (6.0), again and again.
    /// Ends (no MORE flag) at end of input, on error, and with -ENOBUFS when the pool is empty.
    /// With `total_bytes` it also ends when it has received so many (`optlen`, 6.17; EINVAL before); 0 is no limit.
    pub(crate) fn recv_multi(socket: Fd, total_bytes: u32) -> Sqe {
        Sqe { ioprio: RECV_MULTISHOT, file_index: total_bytes, ..Sqe::on(op::RECV, socket) }.select_buffer()
    }

    /// recv(2) into a buffer from the pool, once; and without a first try (POLL_FIRST, 5.19), because nothing is there yet.
    pub(crate) fn recv_once(socket: Fd) -> Sqe {
        Sqe { ioprio: RECVSEND_POLL_FIRST, ..Sqe::on(op::RECV, socket) }.select_buffer()
    }

    /// recv(2) into memory that the caller lends.
    pub(crate) fn recv(socket: Fd, addr: *mut u8, len: usize) -> Sqe {
        Sqe { addr: addr as u64, len: clamp(len), ..Sqe::on(op::RECV, socket) }
    }

    /// send(2); the ring sets MSG_NOSIGNAL itself. The result may be short.
    pub(crate) fn send(socket: Fd, addr: *const u8, len: usize) -> Sqe {
        Sqe { addr: addr as u64, len: clamp(len), ..Sqe::on(op::SEND, socket) }
    }

    /// send(2) of what there is room for, now: it completes while it is submitted, and posts a completion only if it was
    /// cut short or failed (-EAGAIN with no room at all). MSG_WAITALL makes "short" a failure, MSG_DONTWAIT makes it final.
    pub(crate) fn send_now(socket: Fd, addr: *const u8, len: usize) -> Sqe {
        let op_flags = (libc::MSG_DONTWAIT | libc::MSG_WAITALL) as u32;
        Sqe { addr: addr as u64, len: clamp(len), op_flags, ..Sqe::on(op::SEND, socket) }.quiet()
    }

    /// The last send(2) of a socket whose close is queued behind it. MSG_MORE: the data leaves with the FIN, in one segment.
    /// MSG_WAITALL: what does not fit now is sent by the kernel when it does, since nobody can send the rest.
    pub(crate) fn send_last(socket: Fd, addr: *const u8, len: usize) -> Sqe {
        let op_flags = (libc::MSG_MORE | libc::MSG_WAITALL) as u32;
        Sqe { addr: addr as u64, len: clamp(len), op_flags, ..Sqe::on(op::SEND, socket) }
    }

    /// send(2) that need not copy (6.0): one completion with the count and MORE, and one more (NOTIF) when the kernel is
    /// through with the memory, which says whether it has copied after all (REPORT_USAGE, 6.2).
    pub(crate) fn send_zero_copy(socket: Fd, addr: *const u8, len: usize) -> Sqe {
        let base = Sqe::on(op::SEND_ZC, socket);
        Sqe { addr: addr as u64, len: clamp(len), ioprio: SEND_ZC_REPORT_USAGE, ..base }
    }

    /// sendmsg(2) with a lent `msghdr`.
    pub(crate) fn sendmsg(socket: Fd, message: *const libc::msghdr) -> Sqe {
        Sqe { addr: message as u64, len: 1, ..Sqe::on(op::SENDMSG, socket) }
    }

    /// As `send_now`, for a lent `msghdr`.
    pub(crate) fn sendmsg_now(socket: Fd, message: *const libc::msghdr) -> Sqe {
        let op_flags = (libc::MSG_DONTWAIT | libc::MSG_WAITALL) as u32;
        Sqe { op_flags, ..Sqe::sendmsg(socket, message) }.quiet()
    }

    /// pread(2), or read(2) where `offset` is `None` (a pipe, an eventfd).
    pub(crate) fn read(file: Fd, addr: *mut u8, len: usize, offset: Option<u64>) -> Sqe {
        Sqe { off: offset.unwrap_or(u64::MAX), addr: addr as u64, len: clamp(len), ..Sqe::on(op::READ, file) }
    }

    /// pread(2) into room inside the registered buffer of that number (5.1).
    pub(crate) fn read_fixed(file: Fd, addr: *mut u8, len: usize, offset: u64, buffer: u16) -> Sqe {
        let base = Sqe::on(op::READ_FIXED, file);
        Sqe { off: offset, addr: addr as u64, len: clamp(len), buf_group: buffer, ..base }
    }

    /// posix_fadvise(2) with POSIX_FADV_WILLNEED (5.6): always on a worker thread, because it may wait for the disk to take
    /// the request.
    pub(crate) fn will_need(file: Fd, offset: u64, len: usize) -> Sqe {
        let op_flags = libc::POSIX_FADV_WILLNEED as u32;
        Sqe { off: offset, len: clamp(len), op_flags, ..Sqe::on(op::FADVISE, file) }
    }

    /// read(2) of a pipe into a buffer that the kernel takes from the pool when data is there. One result each.
    pub(crate) fn read_select(pipe: Fd) -> Sqe {
        Sqe { off: u64::MAX, ..Sqe::on(op::READ, pipe) }.select_buffer()
    }

    /// pwrite(2), or write(2) where `offset` is `None`.
    pub(crate) fn write(file: Fd, addr: *const u8, len: usize, offset: Option<u64>) -> Sqe {
        Sqe { off: offset.unwrap_or(u64::MAX), addr: addr as u64, len: clamp(len), ..Sqe::on(op::WRITE, file) }
    }

    /// openat2(2) with a lent path and `open_how`. Inline when the path is in the dentry cache; else on a worker thread,
    /// or -EAGAIN where `how` says RESOLVE_CACHED.
    pub(crate) fn openat2(dir: RawFd, path: *const libc::c_char, how: *const libc::open_how) -> Sqe {
        let len = size_of::<libc::open_how>() as u32;
        Sqe { off: how as u64, addr: path as u64, len, ..Sqe::on(op::OPENAT2, Fd::Raw(dir)) }
    }

    /// close(2), or the release of a direct slot (then `file_index` is the slot plus one and `fd` must be 0).
    pub(crate) fn close(fd: Fd) -> Sqe {
        match fd {
            Fd::Raw(fd) => Sqe::on(op::CLOSE, Fd::Raw(fd)),
            Fd::Direct(slot) => Sqe { file_index: slot + 1, ..Sqe::on(op::CLOSE, Fd::Raw(0)) },
        }
    }

    /// socket(2) into a free slot of the direct table (5.19).
    pub(crate) fn socket(domain: i32, kind: i32, protocol: i32) -> Sqe {
        let base = Sqe::on(op::SOCKET, Fd::Raw(domain));
        Sqe { off: kind as u64, len: protocol as u32, file_index: FILE_INDEX_ALLOC, ..base }
    }

    /// connect(2) to a lent address.
    pub(crate) fn connect(socket: Fd, addr: *const libc::sockaddr_storage, len: u32) -> Sqe {
        Sqe { addr: addr as u64, off: u64::from(len), ..Sqe::on(op::CONNECT, socket) }
    }

    /// poll(2) for one descriptor, once. The result is `revents`.
    pub(crate) fn poll(fd: Fd, events: u32) -> Sqe {
        Sqe { op_flags: events, ..Sqe::on(op::POLL_ADD, fd) }
    }

    /// poll(2) for one descriptor, again whenever something changes (5.13).
    pub(crate) fn poll_multi(fd: Fd, events: u32) -> Sqe {
        Sqe { len: POLL_ADD_MULTI, ..Sqe::poll(fd, events) }
    }

    /// Completes at a moment on CLOCK_MONOTONIC (5.4), a `struct __kernel_timespec`. The result is -ETIME.
    pub(crate) fn timeout_at(timespec: *const [i64; 2]) -> Sqe {
        Sqe { addr: timespec as u64, len: 1, op_flags: TIMEOUT_ABS, ..Sqe::on(op::TIMEOUT, Fd::Raw(-1)) }
    }

    /// waitid(2) (6.7). The result is 0 and the lent `siginfo_t` is filled.
    pub(crate) fn waitid(idtype: u32, id: i32, info: *mut libc::siginfo_t, options: i32) -> Sqe {
        let base = Sqe::on(op::WAITID, Fd::Raw(id));
        Sqe { off: info as u64, len: idtype, file_index: options as u32, ..base }
    }

    /// A process-wide descriptor for a direct one (6.8), close-on-exec. The result is the descriptor.
    pub(crate) fn install(slot: u32) -> Sqe {
        Sqe::on(op::FIXED_FD_INSTALL, Fd::Direct(slot))
    }

    /// getsockopt(2) on a direct descriptor (6.7; SOL_SOCKET only). The result is the length of the value.
    pub(crate) fn getsockopt(socket: Fd, level: i32, name: i32, value: *mut u8, len: usize) -> Sqe {
        // level and optname share the addr union; optlen sits where file_index does; optval where addr3 does.
        let addr = u64::from(level as u32) | (u64::from(name as u32) << 32);
        Sqe {
            off: SOCKET_GETSOCKOPT,
            addr,
            file_index: clamp(len),
            addr3: value as u64,
            ..Sqe::on(op::URING_CMD, socket)
        }
    }

    /// setsockopt(2) on a direct descriptor (6.7; any level), from lent memory.
    pub(crate) fn setsockopt(socket: Fd, level: i32, name: i32, value: *const u8, len: usize) -> Sqe {
        Sqe { off: SOCKET_SETSOCKOPT, ..Sqe::getsockopt(socket, level, name, value.cast_mut(), len) }
    }

    /// Cancels the operation with that `user_data`: 0, -ENOENT (it was too late) or -EALREADY (it is running).
    pub(crate) fn cancel(user_data: u64) -> Sqe {
        Sqe { addr: user_data, ..Sqe::on(op::ASYNC_CANCEL, Fd::Raw(-1)) }
    }

    /// Cancels every operation of the ring. The result is how many.
    pub(crate) fn cancel_everything() -> Sqe {
        Sqe { op_flags: CANCEL_ALL | CANCEL_ANY, ..Sqe::on(op::ASYNC_CANCEL, Fd::Raw(-1)) }
    }

    /// Posts a completion with that `user_data` and result 0 to another ring (5.18).
    pub(crate) fn msg_ring(ring: RawFd, user_data: u64) -> Sqe {
        Sqe { off: user_data, ..Sqe::on(op::MSG_RING, Fd::Raw(ring)) }
    }

    /// No completion unless it fails.
    pub(crate) fn quiet(self) -> Sqe {
        Sqe { flags: self.flags | CQE_SKIP_SUCCESS, ..self }
    }

    fn select_buffer(self) -> Sqe {
        Sqe { flags: self.flags | BUFFER_SELECT, buf_group: BUF_GROUP, ..self }
    }

    /// The descriptor this entry works on.
    pub(crate) fn target(&self) -> Fd {
        if self.flags & FIXED_FILE != 0 { Fd::Direct(self.fd as u32) } else { Fd::Raw(self.fd) }
    }
}

/// The ring's one buffer group.
pub(crate) const BUF_GROUP: u16 = 0;

/// The kernel counts in u32 and caps a transfer at 2 GiB less a page; a short result says how far it got.
fn clamp(len: usize) -> u32 {
    len.min(0x7fff_f000) as u32
}

/// What the kernel said about one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cqe {
    pub(crate) user_data: u64,
    /// A count or descriptor, or a negated errno.
    pub(crate) result: i32,
    pub(crate) flags: u32,
}

/// Completion flags (`IORING_CQE_F_*`).
pub(crate) const CQE_BUFFER: u32 = 1 << 0;
pub(crate) const CQE_MORE: u32 = 1 << 1;
pub(crate) const CQE_NOTIF: u32 = 1 << 3;
/// `IORING_NOTIF_USAGE_ZC_COPIED`, in the result of a notification.
pub(crate) const NOTIF_COPIED: u32 = 1 << 31;

impl Cqe {
    /// More completions of this operation will follow.
    pub(crate) fn more(&self) -> bool {
        self.flags & CQE_MORE != 0
    }

    /// Of the notification that ends a send without a copy: whether the kernel has copied all the same.
    pub(crate) fn copied(&self) -> Option<bool> {
        (self.flags & CQE_NOTIF != 0).then_some(self.result as u32 & NOTIF_COPIED != 0)
    }

    /// The pool buffer that the kernel filled.
    pub(crate) fn buffer(&self) -> Option<u16> {
        (self.flags & CQE_BUFFER != 0).then_some((self.flags >> 16) as u16)
    }
}
