//! Pipes to child processes.

use std::io;
use std::os::fd::OwnedFd;

use rustix::pipe::PipeFlags;

/// A pipe, `(read, write)`. Both ends are CLOEXEC; a starting child makes its copies with `dup2`, which clears the flag.
///
/// Both ends block. The child's, because programs expect that of their stdin and stdout: a script whose `write` returns
/// EAGAIN loses output without noticing. Ours, because the ring parks a read or write of a pipe without a thread, and needs
/// no flag for that.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::OFlags;
    use rustix::io::FdFlags;

    #[test]
    fn both_ends_block_and_are_cloexec() {
        let (read, write) = pipe().unwrap();
        for end in [read, write] {
            assert!(!rustix::fs::fcntl_getfl(&end).unwrap().contains(OFlags::NONBLOCK));
            assert!(rustix::io::fcntl_getfd(&end).unwrap().contains(FdFlags::CLOEXEC));
        }
    }
}
