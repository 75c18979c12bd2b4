//! Files: opened and read on the ring; facts by plain `fstat(2)`, because STATX always goes to a worker thread.

mod cold;
mod read_dir;
mod watch;

use std::cell::Cell;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};

pub use read_dir::ReadDir;

use super::op::{Op, Unclaimed, filled};
use super::sys::file::{self, OpenRequest};
use super::sys::io_buf::{IoBuf, IoBufMut};
use super::sys::sqe::{Fd, Sqe};

pub use super::sys::read_pool::ReadBuf;
pub use cold::{ReadAhead, ReadBuffers};
pub use watch::{Change, Event, Watch, Watcher};

/// An open file.
#[derive(Debug)]
pub struct File {
    fd: OwnedFd,
    /// Whether cachestat(2) answers for it; `None` until it was asked.
    is_counted: Cell<Option<bool>>,
}

/// What kind of thing a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link; only where none is followed ([`Dir::find_itself`]).
    Symlink,
    /// A FIFO, socket or device.
    Special,
}

/// The facts of an inode, as `fstat(2)` gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: Kind,
    /// Bytes.
    pub len: u64,
    /// Permission bits.
    pub mode: u32,
    /// Last change of the contents: seconds since 1970, and nanoseconds.
    pub mtime: (i64, u32),
    /// Last change of the inode.
    pub ctime: (i64, u32),
    /// The inode's number, unique in its device.
    pub inode: u64,
    /// The device.
    pub device: u64,
    /// Its names (hard links); 0 after the last was deleted.
    pub links: u64,
}

impl File {
    /// Opens for reading.
    ///
    /// Dropped while waiting: a descriptor that was opened is closed.
    ///
    /// # Errors
    /// ENOENT, EACCES, EMFILE: openat2(2).
    pub async fn open(path: impl AsRef<Path>) -> io::Result<File> {
        File::open_with(path.as_ref(), OFlags::RDONLY, Mode::empty()).await
    }

    /// Opens for writing; creates it, or empties it.
    ///
    /// Dropped while waiting: the file may have been created.
    ///
    /// # Errors
    /// EACCES, ENOSPC, EMFILE: openat2(2).
    pub async fn create(path: impl AsRef<Path>) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
        File::open_with(path.as_ref(), flags, Mode::from_raw_mode(0o666)).await
    }

    /// A file without a name in a folder; it is gone when it is closed. Blocking, but nothing is looked up.
    ///
    /// # Errors
    /// EACCES, ENOSPC, EOPNOTSUPP: open(2) with O_TMPFILE.
    pub fn temporary(folder: &Path) -> io::Result<File> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        Ok(rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR)?.into())
    }

    /// A file in memory; `name` is what /proc shows.
    ///
    /// # Errors
    /// EMFILE, ENOMEM: memfd_create(2).
    pub fn in_memory(name: &str) -> io::Result<File> {
        Ok(rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC)?.into())
    }

    /// Sets the descriptor to the start of the file, for whoever gets it next.
    ///
    /// # Errors
    /// ESPIPE: lseek(2).
    pub fn rewind(&self) -> io::Result<()> {
        rustix::fs::seek(&self.fd, rustix::fs::SeekFrom::Start(0))?;
        Ok(())
    }

    async fn open_with(path: &Path, flags: OFlags, mode: Mode) -> io::Result<File> {
        let path = path.as_os_str().as_encoded_bytes();
        let request = OpenRequest::new(path, flags | OFlags::CLOEXEC, mode, ResolveFlags::empty())?;
        Ok(open_at(libc::AT_FDCWD, request).await.0?.into())
    }

    /// Reads up to the buffer's capacity from `offset` on, replacing its contents; 0 is the end of the file.
    ///
    /// Dropped while waiting: nothing is lost, a read at an offset can be repeated.
    ///
    /// # Errors
    /// EIO, EISDIR: pread(2).
    pub async fn read_at<B: IoBufMut>(&self, buffer: B, offset: u64) -> (io::Result<usize>, B) {
        let entry = |buffer: &mut B| Sqe::read(self.raw(), buffer.room_ptr(), buffer.room_len(), Some(offset));
        let (outcome, buffer) = Op::start(buffer, Unclaimed::Forget, entry).await;
        filled(outcome, buffer)
    }

    /// Writes some of the bytes at `offset`; the result may be short.
    ///
    /// Dropped while waiting: it is not known how much was written.
    ///
    /// # Errors
    /// ENOSPC, EIO: pwrite(2).
    pub async fn write_at<B: IoBuf>(&self, buffer: B, offset: u64) -> (io::Result<usize>, B) {
        let entry = |buffer: &mut B| Sqe::write(self.raw(), buffer.bytes_ptr(), buffer.bytes_len(), Some(offset));
        let (outcome, buffer) = Op::start(buffer, Unclaimed::Forget, entry).await;
        (outcome.count(), buffer)
    }

    /// Writes some of the bytes from `start` on where the descriptor stands: a log opened to append, a terminal, a pipe.
    ///
    /// Dropped while waiting: it is not known how much was written.
    ///
    /// # Errors
    /// ENOSPC, EPIPE: write(2).
    ///
    /// # Panics
    /// If `start` is beyond the end.
    pub async fn append<B: IoBuf>(&self, buffer: B, start: usize) -> (io::Result<usize>, B) {
        let len = buffer.bytes_len().checked_sub(start).expect("the start of a write is beyond its end");
        let entry = |buffer: &mut B| Sqe::write(self.raw(), buffer.bytes_ptr().wrapping_add(start), len, None);
        let (outcome, buffer) = Op::start(buffer, Unclaimed::Forget, entry).await;
        (outcome.count(), buffer)
    }

    /// Writes all of the bytes where the descriptor stands, now, on this thread: for files in memory, which the ring would
    /// write on a worker thread although nothing can block.
    ///
    /// # Errors
    /// ENOSPC, ENOMEM: write(2).
    pub fn write_now(&self, bytes: &[u8]) -> io::Result<()> {
        let mut left = bytes;
        while !left.is_empty() {
            match rustix::io::write(&self.fd, left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => left = &left[count..],
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// As [`write_now`](Self::write_now), where the descriptor may be a pipe that nobody empties: each part waits for room, for
    /// `patience` at most. How much was written, and why not all.
    pub fn write_within(&self, bytes: &[u8], patience: Duration) -> (usize, Option<io::Error>) {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut written = 0;
        let late = Timespec::try_from(patience).ok();
        while written < bytes.len() {
            match poll(&mut [PollFd::new(&self.fd, PollFlags::OUT)], late.as_ref()) {
                Ok(0) => return (written, Some(io::ErrorKind::TimedOut.into())),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return (written, Some(errno.into())),
            }
            // A pipe that has room for anything has it for so much (pipe(7), PIPE_BUF), and does not block.
            let part = &bytes[written..bytes.len().min(written + libc::PIPE_BUF)];
            match rustix::io::write(&self.fd, part) {
                Ok(0) => return (written, Some(io::ErrorKind::WriteZero.into())),
                Ok(count) => written += count,
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                Err(errno) => return (written, Some(errno.into())),
            }
        }
        (written, None)
    }

    /// Cuts the file to this length, or extends it by zeros.
    ///
    /// # Errors
    /// EINVAL for what has no length: ftruncate(2).
    pub fn set_len(&self, len: u64) -> io::Result<()> {
        Ok(rustix::fs::ftruncate(&self.fd, len)?)
    }

    /// The facts as they are now.
    ///
    /// # Errors
    /// fstat(2); hardly ever.
    pub fn metadata(&self) -> io::Result<Metadata> {
        metadata(&self.fd)
    }

    fn raw(&self) -> Fd {
        Fd::Raw(self.fd.as_raw_fd())
    }
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<File> for OwnedFd {
    fn from(file: File) -> OwnedFd {
        file.fd
    }
}

impl From<OwnedFd> for File {
    fn from(fd: OwnedFd) -> File {
        File { fd, is_counted: Cell::new(None) }
    }
}

/// A directory that names are looked up in, and never outside of: no `..`, symlink or magic link leads out of it
/// (`RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS`, openat2(2)), whatever is changed while the look-up runs.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    /// Places beneath it that nothing is found in, relative to it.
    shut: Vec<PathBuf>,
}

/// What a name beneath a [`Dir`] led to. Nothing has been opened for reading: a FIFO or device was not touched.
#[derive(Debug)]
pub struct Found {
    path_only: OwnedFd,
    /// Its facts.
    pub metadata: Metadata,
}

impl Dir {
    /// Opens the directory itself. Blocking; for start-up.
    ///
    /// # Errors
    /// ENOENT, ENOTDIR, EACCES: open(2).
    pub fn open(path: &Path) -> io::Result<Dir> {
        Ok(Dir { fd: file::open_dir(path)?, shut: Vec::new() })
    }

    /// From now on nothing is found that really is one of these places or below one, whatever symlinks lead there.
    /// Absolute paths; those that are not beneath this directory have no effect, and those that do not exist yet have.
    /// Hard links are other names of the same file, not ways to it: they are found. Blocking; for start-up.
    ///
    /// # Errors
    /// readlink(2); hardly ever.
    pub fn shut(&mut self, places: impl IntoIterator<Item = PathBuf>) -> io::Result<()> {
        let own = file::real_path(&self.fd)?;
        for place in places {
            // Where it is now, should it be a symlink itself; and where its name is, for what is made there later.
            let named = place.parent().zip(place.file_name()).map(|(folder, name)| real_as_far(folder).join(name));
            let both = [Some(real_as_far(&place)), named].into_iter().flatten();
            let beneath = both.filter_map(|place| Some(place.strip_prefix(&own).ok()?.to_owned()));
            self.shut.extend(beneath.filter(|place| !place.as_os_str().is_empty()));
        }
        self.shut.sort();
        self.shut.dedup();
        Ok(())
    }

    /// Where a file really is: asked of the kernel, since any part of the name may have been a symlink.
    fn is_shut(&self, found: &OwnedFd) -> io::Result<bool> {
        if self.shut.is_empty() {
            return Ok(false);
        }
        // Both, because the directory itself may have been renamed meanwhile.
        let (own, real) = (file::real_path(&self.fd)?, file::real_path(found)?);
        // What is outside by now cannot be told: it is not found.
        let Ok(beneath) = real.strip_prefix(&own) else { return Ok(true) };
        let bytes = beneath.as_os_str().as_bytes();
        let unlinked = bytes.strip_suffix(b" (deleted)").map(|bytes| Path::new(OsStr::from_bytes(bytes)));
        let lies = |path: &Path| self.shut.iter().any(|place| path.starts_with(place));
        Ok(lies(beneath) || unlinked.is_some_and(lies))
    }

    /// Looks a relative name up. From the kernel's name cache at once; else on one of at most four worker threads.
    ///
    /// # Errors
    /// ENOENT, ENOTDIR, EACCES, ELOOP; EXDEV for what leads outside. ENOENT for what has been [`shut`](Dir::shut).
    pub async fn find(&self, name: &[u8]) -> io::Result<Found> {
        self.look_up(name, OFlags::empty()).await
    }

    /// As [`find`](Self::find), but a symbolic link at the end of the name is found itself.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub async fn find_itself(&self, name: &[u8]) -> io::Result<Found> {
        self.look_up(name, OFlags::NOFOLLOW).await
    }

    async fn look_up(&self, name: &[u8], flags: OFlags) -> io::Result<Found> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::CACHED;
        let name = if name.is_empty() { b"." } else { name };
        let mut request = OpenRequest::new(name, OFlags::PATH | OFlags::CLOEXEC | flags, Mode::empty(), resolve)?;
        loop {
            let (opened, back) = open_at(self.fd.as_raw_fd(), request).await;
            match opened {
                // Not in the name cache; or, without CACHED, something was renamed meanwhile: look again.
                Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => request = back.without_cached(),
                opened => {
                    let path_only = opened?;
                    if self.is_shut(&path_only)? {
                        return Err(io::Error::from_raw_os_error(libc::ENOENT));
                    }
                    return Ok(Found { metadata: metadata(&path_only)?, path_only });
                }
            }
        }
    }
}

impl Dir {
    /// What kind of file system it is on: the `f_type` of fstatfs(2).
    ///
    /// # Errors
    /// fstatfs(2); hardly ever.
    pub fn file_system(&self) -> io::Result<i64> {
        Ok(rustix::fs::fstatfs(&self.fd)?.f_type as i64)
    }
}

/// A path without symlinks in the part of it that exists.
fn real_as_far(path: &Path) -> PathBuf {
    let real = |part: &Path| Some(part.canonicalize().ok()?.join(path.strip_prefix(part).ok()?));
    path.ancestors().find_map(real).unwrap_or_else(|| path.to_owned())
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Found {
    /// Opens what was found for reading: that very inode.
    ///
    /// # Errors
    /// EACCES; `InvalidInput` for a special file.
    pub fn open(&self) -> io::Result<File> {
        match self.metadata.kind {
            Kind::Symlink | Kind::Special => Err(io::ErrorKind::InvalidInput.into()),
            Kind::File | Kind::Directory => Ok(file::reopen(&self.path_only)?.into()),
        }
    }
}

impl Found {
    /// The directory that was found, to look things up in.
    ///
    /// # Errors
    /// `NotADirectory`.
    pub fn into_dir(self) -> io::Result<Dir> {
        match self.metadata.kind {
            Kind::Directory => Ok(Dir { fd: self.path_only, shut: Vec::new() }),
            Kind::File | Kind::Symlink | Kind::Special => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// What a symbolic link says.
    ///
    /// # Errors
    /// ENOENT for what is no link: readlinkat(2).
    pub fn link_target(&self) -> io::Result<Vec<u8>> {
        Ok(rustix::fs::readlinkat(&self.path_only, c"", Vec::new())?.into_bytes())
    }
}

async fn open_at(dir: i32, request: OpenRequest) -> (io::Result<OwnedFd>, OpenRequest) {
    let entry = |request: &mut OpenRequest| {
        let (path, how) = request.pointers();
        Sqe::openat2(dir, path, how)
    };
    let (outcome, request) = Op::start(request, Unclaimed::CloseRaw, entry).await;
    (outcome.count().map(|fd| file::adopt(fd as i32)), request)
}

fn metadata(fd: impl AsFd) -> io::Result<Metadata> {
    Ok(facts(&file::stat(fd)?))
}

fn facts(stat: &rustix::fs::Stat) -> Metadata {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        _ => Kind::Special,
    };
    Metadata {
        kind,
        len: stat.st_size as u64,
        mode: stat.st_mode & 0o7777,
        mtime: (stat.st_mtime, stat.st_mtime_nsec as u32),
        ctime: (stat.st_ctime, stat.st_ctime_nsec as u32),
        inode: stat.st_ino,
        device: stat.st_dev,
        links: stat.st_nlink,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// Those of the names that are found. A thread has one runtime in its life, and a test may share its thread with others.
    fn found<'n>(dir: &Dir, names: &[&'n str]) -> Vec<&'n str> {
        let look = || {
            let runtime = crate::rt::Builder::new().build().unwrap();
            runtime.block_on(async {
                let mut found = Vec::new();
                for name in names {
                    if dir.find(name.as_bytes()).await.is_ok() {
                        found.push(*name);
                    }
                }
                found
            })
        };
        std::thread::scope(|scope| scope.spawn(look).join().unwrap())
    }

    #[test]
    fn no_symlink_leads_to_what_is_shut() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("root");
        std::fs::create_dir_all(root.join("tools")).unwrap();
        for file in ["tools/a.sh", "prog", "open", "toolsmith"] {
            std::fs::write(root.join(file), file).unwrap();
        }
        symlink("root", outer.path().join("spelled-otherwise")).unwrap();
        symlink("tools", root.join("cgi-bin")).unwrap();
        symlink("cgi-bin/a.sh", root.join("alias")).unwrap();
        symlink("tools", root.join("folder")).unwrap();
        symlink("prog", root.join("to-prog")).unwrap();
        symlink("open", root.join("to-open")).unwrap();
        symlink("later", root.join("to-later")).unwrap();
        std::fs::hard_link(root.join("tools/a.sh"), root.join("hard")).unwrap();
        let mut dir = Dir::open(&root).unwrap();
        let spelled = outer.path().join("spelled-otherwise");
        dir.shut(["cgi-bin", "prog", "later"].map(|place| spelled.join(place))).unwrap();
        std::fs::create_dir(root.join("later")).unwrap();
        std::fs::write(root.join("later/b.sh"), "b").unwrap();
        let moved = outer.path().join("moved");
        const ALL: &[&str] = &[
            "tools/a.sh",
            "cgi-bin/a.sh",
            "cgi-bin",
            "alias",
            "folder/a.sh",
            "folder",
            "prog",
            "to-prog",
            "open",
            "to-open",
            "toolsmith",
            "hard",
            "to-later/b.sh",
            "later/b.sh",
        ];
        let open = ["open", "to-open", "toolsmith", "hard"];
        assert_eq!(found(&dir, ALL), open);
        std::fs::rename(&root, &moved).unwrap();
        assert_eq!(found(&dir, ALL), open, "the folder may be renamed while it is served");
    }
}
