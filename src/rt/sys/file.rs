//! Files: the calls that have no place on the ring because there they always go to a worker thread (statx, splice) or do
//! not exist (sendfile).

use std::cell::Cell;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};

/// Takes ownership of a descriptor that the kernel has just given to this process.
pub(crate) fn adopt(fd: RawFd) -> OwnedFd {
    assert!(fd >= 0);
    // SAFETY: every caller passes the result of a completed operation that created the descriptor (FIXED_FD_INSTALL,
    // OPENAT2), taken from its slot exactly once; nobody else knows the number.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// What `openat2` is told, and the path. Boxed, because every slot, of an idle connection too, has room for the largest
/// thing that is not.
pub(crate) struct OpenRequest {
    path: CString,
    how: Box<libc::open_how>,
}

impl OpenRequest {
    /// # Errors
    /// `InvalidInput` for a path with a NUL.
    pub(crate) fn new(path: &[u8], flags: OFlags, mode: Mode, resolve: ResolveFlags) -> io::Result<OpenRequest> {
        // SAFETY: all zeroes is a valid `open_how` (the kernel demands it for what it does not know).
        let mut how: libc::open_how = unsafe { std::mem::zeroed() };
        how.flags = u64::from(flags.bits());
        how.mode = u64::from(mode.bits());
        how.resolve = resolve.bits();
        Ok(OpenRequest { path: CString::new(path)?, how: Box::new(how) })
    }

    pub(crate) fn pointers(&self) -> (*const libc::c_char, *const libc::open_how) {
        (self.path.as_ptr(), &raw const *self.how)
    }

    pub(crate) fn without_cached(mut self) -> OpenRequest {
        self.how.resolve &= !ResolveFlags::CACHED.bits();
        self
    }
}

/// Facts about an open file.
pub(crate) fn stat(fd: impl AsFd) -> io::Result<rustix::fs::Stat> {
    Ok(rustix::fs::fstat(fd)?)
}

/// Opens for reading what an O_PATH descriptor names: the same inode, whatever the path leads to by now.
pub(crate) fn reopen(path_only: &OwnedFd) -> io::Result<OwnedFd> {
    let link = format!("/proc/self/fd/{}", path_only.as_raw_fd());
    Ok(rustix::fs::open(link, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK, Mode::empty())?)
}

/// Where an open file is now, by the kernel's own account; with ` (deleted)` behind when it has no name any more.
pub(crate) fn real_path(fd: &OwnedFd) -> io::Result<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// A directory to open things beneath.
pub(crate) fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// sendfile(2): the next bytes of the file from `offset` on. EAGAIN when the socket is full (it is non-blocking); 0 at
/// the end of the file. Blocks on cold data, for at most `count` bytes of it: there is no NOWAIT.
pub(crate) fn sendfile(socket: &OwnedFd, file: &OwnedFd, offset: u64, count: usize) -> io::Result<usize> {
    let mut offset = offset;
    Ok(rustix::fs::sendfile(socket, file, Some(&mut offset), count)?)
}

/// Whether all of a part of a file is in memory, so that nobody who reads it waits for a disk.
///
/// cachestat(2) (6.5) counts the pages of the whole part (0.18 us for 256 KiB), but counts those that a read-ahead has only
/// just asked for, too; a read of the last byte that refuses to wait (RWF_NOWAIT, 0.21 us) tells those apart, since disks
/// are read in order. Where cachestat is not allowed (another's file, 6.15) or not known, both ends are read, and a hole
/// between them goes unseen. `is_counted` remembers that: `None` until it was asked.
pub(crate) fn is_resident(file: &OwnedFd, offset: u64, len: u64, is_counted: &Cell<Option<bool>>) -> bool {
    let Some(last) = offset.checked_add(len.max(1) - 1) else { return false };
    let page = rustix::param::page_size() as u64;
    let pages = last / page - offset / page + 1;
    if is_counted.get() != Some(false) {
        let counted = cached_pages(file, offset, len);
        is_counted.set(Some(counted.is_ok()));
        if counted.is_ok_and(|cached| cached < pages) {
            return false;
        }
    }
    is_readable_now(file, last) && (is_counted.get() == Some(true) || is_readable_now(file, offset))
}

/// Pages in the page cache, being read or not.
fn cached_pages(file: &OwnedFd, offset: u64, len: u64) -> io::Result<u64> {
    const CACHESTAT: libc::c_long = 451;
    let range = [offset, len];
    let mut counts = [0u64; 5];
    let (range, room) = (range.as_ptr(), counts.as_mut_ptr());
    // SAFETY: `range` is a `struct cachestat_range` and `room` has the size of a `struct cachestat` (five u64); both are
    // alive for the call.
    match unsafe { libc::syscall(CACHESTAT, file.as_raw_fd(), range, room, 0) } {
        0 => Ok(counts[0]),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A read of one byte that refuses to wait (RWF_NOWAIT, 4.14).
fn is_readable_now(file: &OwnedFd, offset: u64) -> bool {
    let mut byte = [0u8; 1];
    let mut room = [io::IoSliceMut::new(&mut byte)];
    let read = rustix::io::preadv2(file, &mut room, offset, rustix::io::ReadWriteFlags::NOWAIT);
    // EOPNOTSUPP: a file system that cannot tell; then it is treated as hot.
    !matches!(read, Err(rustix::io::Errno::AGAIN))
}
