//! The unsafe fence of the models: a ring whose memory the kernel may use, behind calls that cannot be misused.
//!
//! The ring, its buffers and its outbox live until the process ends, so nothing that the kernel was lent is ever freed under
//! it. Owned sends in flight are kept in a slab here and come back with their completion.

use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::AsRawFd;

use io_uring::squeue::Flags;
use io_uring::types::{Fd, Fixed};
use io_uring::{CompletionQueue, EnterFlags, IoUring, SubmissionQueue, Submitter, cqueue, opcode, squeue};

pub(crate) use calls::{duplicate, raise_open_files, set_backlog, set_option, stop_signals};
use memory::BUFFER_GROUP;
pub(crate) use memory::{Buffers, Filled, Outbox};
pub(crate) use process::{Forked, Worker, fork, reap_children_automatically};

pub(crate) mod aio;
mod calls;
mod memory;
pub(crate) mod poller;
mod process;

/// Completions copied out of the ring at a time.
const REAP_ENTRIES: usize = 64;
/// IORING_RECVSEND_POLL_FIRST: do not try before the socket is readable.
const RECV_POLL_FIRST: u16 = 1;
/// `user_data` with this bit is the key of an owned send; callers use the lower bits only.
const OWNED_SEND: u64 = 1 << 63;

/// What a ring is built from; every number is a count of entries unless its name says bytes.
pub(crate) struct Plan {
    pub(crate) submissions: u32,
    pub(crate) completions: u32,
    pub(crate) direct_descriptors: u32,
    /// A power of two, at most 32,768.
    pub(crate) receive_buffers: u16,
    pub(crate) receive_buffer_bytes: u32,
    /// Bytes that one turn may send from the outbox.
    pub(crate) outbox_bytes: usize,
}

/// One completion, with the memory that it hands over.
pub(crate) struct Completion {
    pub(crate) user_data: u64,
    pub(crate) result: i32,
    /// False when a multishot operation has ended.
    pub(crate) more: bool,
    pub(crate) memory: Memory,
}

/// The memory that a completion hands over.
pub(crate) enum Memory {
    None,
    /// A receive buffer, to be given back.
    Filled(Filled),
    /// The bytes of an owned send.
    Returned(Vec<u8>),
}

/// One ring with its provided buffers and its outbox, for one thread, until the process ends.
pub(crate) struct Ring {
    submitter: Submitter<'static>,
    submissions: SubmissionQueue<'static>,
    completions: CompletionQueue<'static>,
    pub(crate) buffers: Buffers,
    pub(crate) outbox: Outbox,
    owned: Vec<Option<OwnedSend>>,
    owned_free: Vec<usize>,
    enter_flags: EnterFlags,
}

struct OwnedSend {
    user_data: u64,
    bytes: Vec<u8>,
}

impl Ring {
    /// Builds the ring on the calling thread, which must be the one that uses it (SINGLE_ISSUER).
    pub(crate) fn new(plan: &Plan) -> io::Result<Ring> {
        let ring: &'static IoUring = Box::leak(Box::new(build(plan)?));
        let mut submitter = ring.submitter();
        submitter.register_files_sparse(plan.direct_descriptors)?;
        // Spares the descriptor look-up in each enter (5.18). An optimisation only: without it the plain descriptor is used.
        let _ = submitter.register_ring_fd();
        let buffers = Buffers::register(&submitter, plan)?;

        let mut enter_flags = EnterFlags::GETEVENTS;
        // An idle wait is not iowait; without the flag, tools read an idle server as a busy machine (6.15).
        enter_flags.set(EnterFlags::NO_IOWAIT, ring.params().is_feature_no_iowait());
        // SAFETY: this is the only submission queue of this ring, and `Ring` is neither `Clone` nor shared.
        let submissions = unsafe { ring.submission_shared() };
        // SAFETY: likewise the only completion queue.
        let completions = unsafe { ring.completion_shared() };
        Ok(Ring {
            submitter,
            submissions,
            completions,
            buffers,
            outbox: Outbox::new(plan.outbox_bytes),
            owned: Vec::new(),
            owned_free: Vec::new(),
            enter_flags,
        })
    }

    /// The one system call of a loop turn: submits, waits for `want` completions, and collects every completion that is
    /// there. What the outbox held before this call may still be read (failed sends in `into` are about it) until the next.
    pub(crate) fn turn(&mut self, want: u32, into: &mut Vec<Completion>) -> io::Result<()> {
        self.buffers.publish();
        self.enter(want)?;
        self.reap(into);
        while !self.submissions.is_empty() || self.submissions.cq_overflow() {
            // Rare: what the kernel could not take or could not post must be out before the outbox is turned over.
            self.enter(0)?;
            self.reap(into);
        }
        self.outbox.turn_over();
        Ok(())
    }

    fn enter(&mut self, want: u32) -> io::Result<()> {
        self.submissions.sync();
        let to_submit = self.submissions.len() as u32;
        // SAFETY: no argument is passed, and entries were checked when they were pushed.
        let entered = unsafe { self.submitter.enter::<libc::sigset_t>(to_submit, want, self.enter_flags.bits(), None) };
        self.submissions.sync();
        match entered {
            Ok(_) => Ok(()),
            // EINTR: a debugger or a stop. EBUSY, EAGAIN: completions have to be reaped before the kernel takes more.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY | libc::EAGAIN)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn reap(&mut self, into: &mut Vec<Completion>) {
        self.completions.sync();
        let mut entries = [const { MaybeUninit::<cqueue::Entry>::uninit() }; REAP_ENTRIES];
        loop {
            let filled = self.completions.fill(&mut entries);
            let full = filled.len() == REAP_ENTRIES;
            into.extend(filled.iter().map(|entry| completion(entry, &mut self.owned, &mut self.owned_free)));
            if !full {
                break;
            }
        }
        self.completions.sync();
    }

    /// Accepts into direct descriptors until cancelled or failed; `result` is the slot.
    pub(crate) fn accept_multishot(&mut self, listener: &impl AsRawFd, user_data: u64) {
        let accept = opcode::AcceptMulti::new(Fd(listener.as_raw_fd())).allocate_file_index(true);
        self.push(accept.flags(libc::SOCK_NONBLOCK).build().user_data(user_data));
    }

    /// Receives once into a provided buffer, on a connection from which nothing is expected to be there yet.
    pub(crate) fn receive_first(&mut self, slot: u32, user_data: u64) {
        let receive = opcode::Recv::new(Fixed(slot), std::ptr::null_mut(), 0)
            .buf_group(BUFFER_GROUP)
            .ioprio(RECV_POLL_FIRST)
            .build();
        self.push(receive.flags(Flags::BUFFER_SELECT).user_data(user_data));
    }

    /// Receives into provided buffers until the end of the stream, an error, or a lack of buffers.
    pub(crate) fn receive_multishot(&mut self, slot: u32, user_data: u64) {
        self.push(opcode::RecvMulti::new(Fixed(slot), BUFFER_GROUP).build().user_data(user_data));
    }

    /// Sends a range of this turn's outbox without waiting. A completion comes only when not all of it was taken: nothing
    /// in the next turn's completions means that the bytes are out.
    pub(crate) fn send_from_outbox(&mut self, slot: u32, range: &Range<usize>, user_data: u64) {
        let bytes = self.outbox.writing(range);
        // MSG_DONTWAIT makes the kernel fail instead of keeping the request (and a pointer into the outbox) for later;
        // MSG_WAITALL makes a partial send a failure, which CQE_SKIP_SUCCESS then does not hide.
        let flags = libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
        let send = opcode::Send::new(Fixed(slot), bytes.as_ptr(), bytes.len() as u32).flags(flags).build();
        self.push(send.flags(Flags::SKIP_SUCCESS).user_data(user_data));
    }

    /// Sends bytes that the ring keeps until the completion hands them back. With `is_last` they wait in the socket for the
    /// `close` that the caller submits next, and leave in one segment with the FIN.
    pub(crate) fn send_owned(&mut self, slot: u32, bytes: Vec<u8>, is_last: bool, user_data: u64) {
        // The heap block of a Vec does not move with the Vec.
        let send = opcode::Send::new(Fixed(slot), bytes.as_ptr(), bytes.len() as u32)
            .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL | if is_last { libc::MSG_MORE } else { 0 })
            .build();
        let send_slot = Some(OwnedSend { user_data, bytes });
        let key = match self.owned_free.pop() {
            Some(key) => {
                self.owned[key] = send_slot;
                key
            }
            None => {
                self.owned.push(send_slot);
                self.owned.len() - 1
            }
        };
        self.push(send.user_data(OWNED_SEND | key as u64));
    }

    /// Frees a direct descriptor. Requests in flight keep their own reference to the socket.
    pub(crate) fn close(&mut self, slot: u32, user_data: u64) {
        self.push(opcode::Close::new(Fixed(slot)).build().flags(Flags::SKIP_SUCCESS).user_data(user_data));
    }

    /// Cancels the operation that was submitted with `target`.
    pub(crate) fn cancel(&mut self, target: u64, user_data: u64) {
        self.push(opcode::AsyncCancel::new(target).build().flags(Flags::SKIP_SUCCESS).user_data(user_data));
    }

    /// One readiness report of an ordinary descriptor.
    pub(crate) fn poll_readable(&mut self, fd: &impl AsRawFd, user_data: u64) {
        let poll = opcode::PollAdd::new(Fd(fd.as_raw_fd()), libc::POLLIN as u32);
        self.push(poll.build().user_data(user_data));
    }

    fn push(&mut self, entry: squeue::Entry) {
        // SAFETY: every memory that an entry points at is leaked (outbox, buffers) or kept in `owned` until its completion.
        while unsafe { self.submissions.push(&entry) }.is_err() {
            // A full queue is submitted without waiting; nothing is reaped, so the outbox stays as it is.
            if let Err(error) = self.enter(0) {
                // Only a broken ring gets here; the next `turn` reports it to the caller.
                eprintln!("io_uring_enter: {error}");
                return;
            }
        }
    }
}

fn completion(entry: &cqueue::Entry, owned: &mut [Option<OwnedSend>], free: &mut Vec<usize>) -> Completion {
    let (flags, result) = (entry.flags(), entry.result());
    let mut user_data = entry.user_data();
    let memory = if user_data & OWNED_SEND != 0 {
        let key = (user_data & !OWNED_SEND) as usize;
        match owned.get_mut(key).and_then(Option::take) {
            Some(send) => {
                free.push(key);
                user_data = send.user_data;
                Memory::Returned(send.bytes)
            }
            None => Memory::None,
        }
    } else if let Some(id) = cqueue::buffer_select(flags) {
        Memory::Filled(Filled::new(id, result.max(0) as u32))
    } else {
        Memory::None
    };
    Completion { user_data, result, more: cqueue::more(flags), memory }
}

fn build(plan: &Plan) -> io::Result<IoUring> {
    let full = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_no_sqarray()
        .setup_submit_all()
        .setup_clamp()
        .setup_cqsize(plan.completions)
        .build(plan.submissions);
    match full {
        // NO_SQARRAY is 6.6, DEFER_TASKRUN 6.1: an older kernel says EINVAL to a flag that it does not know.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            let mut plain = IoUring::builder();
            plain.setup_coop_taskrun().setup_submit_all().setup_clamp().setup_cqsize(plan.completions);
            plain.build(plan.submissions)
        }
        other => other,
    }
}
