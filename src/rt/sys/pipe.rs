//! Pipes between this process and a child.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::pipe::PipeFlags;

/// Which end does not block. O_NONBLOCK belongs to the open file description, and each end of a pipe has one of its own:
/// the end that this process keeps can be non-blocking while the child's stays blocking, which is what programs expect of
/// their stdin and stdout (a script whose `write` returns EAGAIN loses output without noticing).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nonblocking {
    /// Both ends block.
    Neither,
    /// The read end: a child's stdout or stderr, read here.
    Read,
    /// The write end: a child's stdin, written here.
    Write,
}

/// A pipe, `(read, write)`. Both ends are CLOEXEC; `posix_spawn` makes the child's copy with `dup2`, which clears the flag.
pub fn pipe(nonblocking: Nonblocking) -> io::Result<(OwnedFd, OwnedFd)> {
    // Not O_NONBLOCK here: pipe2(2) would set it on both ends.
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    match nonblocking {
        Nonblocking::Neither => {}
        Nonblocking::Read => set_nonblocking(&read)?,
        Nonblocking::Write => set_nonblocking(&write)?,
    }
    Ok((read, write))
}

/// Asks for a capacity (F_SETPIPE_SZ) and returns the one in force. The kernel rounds up to a power of two of pages.
///
/// EPERM means that the user's pipes hold more than `pipe-user-pages-soft` together, or that `bytes` is over
/// `pipe-max-size`; EBUSY that more is in the pipe already. The pipe works on as it was.
pub fn set_capacity_bytes(pipe: impl AsFd, bytes: usize) -> io::Result<usize> {
    Ok(rustix::pipe::fcntl_setpipe_size(pipe, bytes)?)
}

fn set_nonblocking(pipe: &OwnedFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(pipe)?;
    Ok(rustix::fs::fcntl_setfl(pipe, flags | OFlags::NONBLOCK)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::FdFlags;

    fn is_nonblocking(fd: &OwnedFd) -> bool {
        rustix::fs::fcntl_getfl(fd).unwrap().contains(OFlags::NONBLOCK)
    }

    #[test]
    fn each_end_has_its_own_nonblocking_flag() {
        for (asked, read_end, write_end) in
            [(Nonblocking::Neither, false, false), (Nonblocking::Read, true, false), (Nonblocking::Write, false, true)]
        {
            let (read, write) = pipe(asked).unwrap();
            assert_eq!((is_nonblocking(&read), is_nonblocking(&write)), (read_end, write_end), "{asked:?}");
        }
    }

    #[test]
    fn both_ends_are_cloexec() {
        let (read, write) = pipe(Nonblocking::Neither).unwrap();
        for end in [read, write] {
            assert!(rustix::io::fcntl_getfd(&end).unwrap().contains(FdFlags::CLOEXEC));
        }
    }

    #[test]
    fn the_capacity_is_rounded_up_to_pages() {
        let (read, _write) = pipe(Nonblocking::Neither).unwrap();
        assert_eq!(set_capacity_bytes(&read, 16 << 10).unwrap(), 16 << 10);
        assert_eq!(set_capacity_bytes(&read, 1).unwrap(), rustix::param::page_size());
    }
}
