//! An entry carried out on the spot by the syscall that it stands for: how a driver that plays the kernel does files.
//! Each returns what the completion's result would be: a count or a descriptor, or a negated errno.

use std::io;
use std::os::fd::RawFd;

use super::lent::Lent;
use super::sqe::op;

/// pread(2) of at most `most` bytes.
pub(crate) fn read_at(lent: &Lent, most: usize) -> i32 {
    let sqe = lent.sqe();
    assert_eq!(sqe.opcode, op::READ);
    let len = (sqe.len as usize).min(most);
    // SAFETY: a READ lends `len` writable bytes at `addr` (`Lent::new`); the syscall is over before this returns.
    result(unsafe { libc::pread(sqe.fd, sqe.addr as *mut libc::c_void, len, sqe.off as i64) })
}

/// pwrite(2), or write(2) where the entry has no offset.
pub(crate) fn write(lent: &Lent) -> i32 {
    let sqe = lent.sqe();
    assert_eq!(sqe.opcode, op::WRITE);
    let (from, len) = (sqe.addr as *const libc::c_void, sqe.len as usize);
    if sqe.off == u64::MAX {
        // SAFETY: a WRITE lends `len` readable bytes at `addr` (`Lent::new`).
        return result(unsafe { libc::write(sqe.fd, from, len) });
    }
    // SAFETY: as above.
    result(unsafe { libc::pwrite(sqe.fd, from, len, sqe.off as i64) })
}

/// openat2(2). Whether a name is in the kernel's cache must not depend on the machine: `cold` says it, and a request for
/// cached names only is then refused; otherwise the name is looked up wherever it takes.
pub(crate) fn openat2(lent: &Lent, cold: bool) -> i32 {
    let sqe = lent.sqe();
    assert_eq!(sqe.opcode, op::OPENAT2);
    // SAFETY: an OPENAT2 lends an `open_how` at `off` (`Lent::new`), which is plain integers.
    let mut how = unsafe { (sqe.off as *const libc::open_how).read() };
    if how.resolve & libc::RESOLVE_CACHED != 0 && cold {
        return -libc::EAGAIN;
    }
    how.resolve &= !libc::RESOLVE_CACHED;
    // SAFETY: the entry lends a C string at `addr`; `how` is here, of the size that is told.
    let opened = unsafe { libc::syscall(libc::SYS_openat2, sqe.fd, sqe.addr, &raw const how, size_of_val(&how)) };
    result(opened as isize)
}

/// close(2).
pub(crate) fn close(fd: RawFd) -> i32 {
    // SAFETY: the runtime queued this close for a descriptor that it owns, and forgot the number.
    result(unsafe { libc::close(fd) } as isize)
}

fn result(returned: isize) -> i32 {
    if returned < 0 { -io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO) } else { returned as i32 }
}
