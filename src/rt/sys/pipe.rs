//! Pipes to child processes.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::pipe::PipeFlags;

/// A pipe, `(read, write)`. Both ends are CLOEXEC; a starting child makes its copies with `dup2`, which clears the flag.
///
/// Both ends block. The child's, because programs expect that of their stdin and stdout: a script whose `write` returns
/// EAGAIN loses output without noticing. Ours, because the ring parks a read or write of a pipe without a thread, and needs
/// no flag for that.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?)
}

/// Appends what is there to the buffer's spare room, without waiting (RWF_NOWAIT; on pipes since Linux 6.4): EAGAIN when that is
/// nothing. The end itself does not have O_NONBLOCK.
pub fn read_now(pipe: &OwnedFd, into: &mut Vec<u8>) -> Result<usize, Errno> {
    let room = into.spare_capacity_mut();
    let vector = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
    // SAFETY: the one vector is the spare room of `into`, which is ours for the call; the kernel writes no more than its length.
    let count = unsafe { libc::preadv2(pipe.as_raw_fd(), &vector, 1, -1, libc::RWF_NOWAIT) };
    let Ok(count) = usize::try_from(count) else {
        return Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO));
    };
    // SAFETY: the kernel has just filled so many bytes behind the buffer's length, within its capacity.
    unsafe { into.set_len(into.len() + count) };
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::OFlags;
    use rustix::io::FdFlags;

    #[test]
    fn a_read_does_not_wait() {
        let (read, write) = pipe().unwrap();
        let mut bytes = b"before".to_vec();
        bytes.reserve(100);
        assert_eq!(read_now(&read, &mut bytes), Err(Errno::AGAIN));
        rustix::io::write(&write, b" and after").unwrap();
        assert_eq!(read_now(&read, &mut bytes), Ok(10));
        assert_eq!(bytes, b"before and after");
        drop(write);
        assert_eq!(read_now(&read, &mut bytes), Ok(0));
        assert_eq!(bytes, b"before and after");
    }

    #[test]
    fn both_ends_block_and_are_cloexec() {
        let (read, write) = pipe().unwrap();
        for end in [read, write] {
            assert!(!rustix::fs::fcntl_getfl(&end).unwrap().contains(OFlags::NONBLOCK));
            assert!(rustix::io::fcntl_getfd(&end).unwrap().contains(FdFlags::CLOEXEC));
        }
    }
}
