//! Linux AIO (io_setup(2) and its kin): reads of files whose completions an eventfd announces.
//!
//! It is asynchronous only with O_DIRECT; a buffered read is done within `io_submit` itself.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;

/// Bytes of one read; a multiple of what O_DIRECT wants memory, offset and length to be multiples of.
pub(crate) const BLOCK_BYTES: usize = 64 << 10;
const ALIGNMENT_BYTES: usize = 4096;
/// IOCB_CMD_PREAD and IOCB_FLAG_RESFD of linux/aio_abi.h.
const PREAD: u16 = 0;
const RESFD: u32 = 1;

/// `struct iocb` of linux/aio_abi.h, for little-endian machines.
#[repr(C)]
#[derive(Default)]
struct Iocb {
    data: u64,
    key: u32,
    rw_flags: i32,
    opcode: u16,
    priority: i16,
    fd: u32,
    buffer: u64,
    bytes: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    event_fd: u32,
}

/// `struct io_event` of linux/aio_abi.h.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct IoEvent {
    data: u64,
    object: u64,
    result: i64,
    result2: i64,
}

/// A context with its eventfd, and the reads in flight: their memory and files stay here until their completion.
pub(crate) struct Aio {
    context: libc::c_ulong,
    announcements: OwnedFd,
    reads: Vec<Option<Read>>,
    free: Vec<usize>,
}

struct Read {
    token: u64,
    block: Block,
    _file: File,
}

/// A read that is over.
pub(crate) struct Done {
    /// What it was submitted with.
    pub(crate) token: u64,
    pub(crate) result: io::Result<usize>,
    pub(crate) block: Block,
}

impl Aio {
    /// Room for so many reads at once.
    ///
    /// # Errors
    /// EAGAIN: more than fs.aio-max-nr on this machine.
    pub(crate) fn new(reads_max: usize) -> io::Result<Aio> {
        let mut context: libc::c_ulong = 0;
        // SAFETY: writes the context into the integer that it is given.
        check(unsafe { libc::syscall(libc::SYS_io_setup, reads_max as libc::c_long, &raw mut context) })?;
        // SAFETY: takes two integers.
        let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) }.into())? as i32;
        // SAFETY: just opened, and nobody else has it.
        let announcements = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Aio { context, announcements, reads: Vec::new(), free: Vec::new() })
    }

    /// Starts a read of a block from an offset. The file's descriptor is kept until it is over.
    ///
    /// # Errors
    /// EAGAIN: too many in flight; EINVAL: the file system cannot. The block comes back.
    pub(crate) fn read(
        &mut self,
        file: &File,
        block: Block,
        offset: u64,
        token: u64,
    ) -> Result<(), (io::Error, Block)> {
        let file = match file.try_clone() {
            Ok(file) => file,
            Err(error) => return Err((error, block)),
        };
        let index = self.free.pop().unwrap_or(self.reads.len());
        let mut iocb = Iocb {
            data: index as u64,
            opcode: PREAD,
            fd: file.as_raw_fd() as u32,
            buffer: block.memory.as_ptr() as u64,
            bytes: BLOCK_BYTES as u64,
            offset: offset as i64,
            flags: RESFD,
            event_fd: self.announcements.as_raw_fd() as u32,
            ..Iocb::default()
        };
        let mut list = [&raw mut iocb];
        // SAFETY: one valid iocb, which the kernel copies; the block that it names is kept below until its event came.
        let submitted = check(unsafe { libc::syscall(libc::SYS_io_submit, self.context, 1, list.as_mut_ptr()) });
        match submitted {
            Ok(_) => {
                let read = Some(Read { token, block, _file: file });
                match self.reads.get_mut(index) {
                    Some(slot) => *slot = read,
                    None => self.reads.push(read),
                }
                Ok(())
            }
            Err(error) => {
                if index < self.reads.len() {
                    self.free.push(index);
                }
                Err((error, block))
            }
        }
    }

    /// The reads that are over, without waiting.
    pub(crate) fn finished(&mut self) -> io::Result<Vec<Done>> {
        let mut events = [IoEvent::default(); 64];
        let mut done = Vec::new();
        // The counter of announcements goes back to nothing; what it counted is collected below.
        let _ = rustix::io::read(&self.announcements, &mut [0; 8]);
        loop {
            let no_wait = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            let (list, room) = (events.as_mut_ptr(), events.len() as libc::c_long);
            // SAFETY: `list` has room for so many events, and both outlive the call.
            let count = check(unsafe {
                libc::syscall(libc::SYS_io_getevents, self.context, 0, room, list, &raw const no_wait)
            })?;
            for event in &events[..count as usize] {
                let Some(Read { token, block, .. }) = self.reads.get_mut(event.data as usize).and_then(Option::take)
                else {
                    continue;
                };
                self.free.push(event.data as usize);
                let result = match event.result {
                    ..0 => Err(io::Error::from_raw_os_error(-event.result as i32)),
                    count => Ok(count as usize),
                };
                done.push(Done { token, result, block });
            }
            if (count as usize) < events.len() {
                return Ok(done);
            }
        }
    }
}

impl AsFd for Aio {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.announcements.as_fd()
    }
}

impl Drop for Aio {
    fn drop(&mut self) {
        // SAFETY: io_destroy waits for what is in flight, so the blocks that are dropped after it are nobody's.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.context) };
    }
}

/// Memory that O_DIRECT can read into.
pub(crate) struct Block {
    memory: NonNull<u8>,
}

impl Block {
    const LAYOUT: Layout = match Layout::from_size_align(BLOCK_BYTES, ALIGNMENT_BYTES) {
        Ok(layout) => layout,
        Err(_) => panic!("a power of two, and no overflow"),
    };

    pub(crate) fn new() -> Block {
        // SAFETY: the size is not zero.
        let memory = unsafe { alloc_zeroed(Block::LAYOUT) };
        match NonNull::new(memory) {
            Some(memory) => Block { memory },
            None => handle_alloc_error(Block::LAYOUT),
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: so many bytes, initialised at the start, and no read is in flight: those own their block.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr(), BLOCK_BYTES) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout, and freed once.
        unsafe { dealloc(self.memory.as_ptr(), Block::LAYOUT) }
    }
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_block_by_block_to_its_end() {
        use std::io::Write;
        let mut file = tempfile::tempfile().unwrap();
        let content: Vec<u8> = (0..BLOCK_BYTES + 1000).map(|at| (at % 251) as u8).collect();
        file.write_all(&content).unwrap();
        let mut aio = Aio::new(4).unwrap();
        for token in 0..3 {
            aio.read(&file, Block::new(), token * BLOCK_BYTES as u64, token).map_err(|(error, _)| error).unwrap();
        }
        let mut done = Vec::new();
        while done.len() < 3 {
            done.extend(aio.finished().unwrap());
        }
        done.sort_by_key(|done| done.token);
        let lengths: Vec<_> = done.iter().map(|done| *done.result.as_ref().unwrap()).collect();
        assert_eq!(lengths, [BLOCK_BYTES, 1000, 0]);
        assert_eq!(done[0].block.bytes(), &content[..BLOCK_BYTES]);
        assert_eq!(&done[1].block.bytes()[..1000], &content[BLOCK_BYTES..]);
    }

    #[test]
    fn a_context_that_goes_waits_for_its_reads() {
        let file = File::open("/proc/self/exe").unwrap();
        let mut aio = Aio::new(8).unwrap();
        for token in 0..8 {
            aio.read(&file, Block::new(), token * BLOCK_BYTES as u64, token).map_err(|(error, _)| error).unwrap();
        }
        drop(aio);
    }
}
