//! The names in a folder and what they are. These calls block: getdents64(2) and stat(2) have no place on the ring, so they
//! are for a thread that may wait ([`crate::rt::blocking`]).

use std::io;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;

use rustix::fs::{Access, AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{Dir, Kind, Metadata, facts, metadata};

/// A rename beneath the root while a name is resolved makes the kernel ask for another try (openat2(2), EAGAIN).
const TRIES_MAX: usize = 16;

/// A folder beneath a [`Dir`], open to be read.
#[derive(Debug)]
pub struct ReadDir<'r> {
    root: &'r Dir,
    path: Vec<u8>,
    folder: OwnedFd,
}

impl Dir {
    /// Another handle to the same directory, for another thread.
    ///
    /// # Errors
    /// EMFILE: fcntl(2).
    pub fn try_clone(&self) -> io::Result<Dir> {
        Ok(Dir { fd: self.fd.try_clone()?, shut: self.shut.clone() })
    }

    /// Opens the folder at a relative path to read its names; the empty path is the directory itself. Blocking.
    ///
    /// # Errors
    /// ENOENT, ENOTDIR, EACCES, ELOOP; EXDEV for what leads outside.
    pub fn read_dir(&self, path: &[u8]) -> io::Result<ReadDir<'_>> {
        let folder = self.open_beneath(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOCTTY)?;
        Ok(ReadDir { root: self, path: path.to_owned(), folder })
    }

    /// As [`Dir::find`], but now, on this thread.
    ///
    /// # Errors
    /// As [`Dir::find`].
    pub fn metadata(&self, path: &[u8]) -> io::Result<Metadata> {
        metadata(self.open_beneath(path, OFlags::PATH)?)
    }

    fn open_beneath(&self, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        let path = if path.is_empty() { b"." } else { path };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let open = || rustix::fs::openat2(&self.fd, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve);
        let mut tries = (0..TRIES_MAX).map(|_| open()).filter(|opened| !matches!(opened, Err(Errno::AGAIN)));
        let opened = tries.next().unwrap_or(Err(Errno::AGAIN))?;
        if self.is_shut(&opened)? {
            return Err(Errno::NOENT.into());
        }
        Ok(opened)
    }
}

impl ReadDir<'_> {
    /// Every name in the folder, in no order, but `.` and `..`; until it is told to stop.
    ///
    /// # Errors
    /// getdents64(2): EIO, or ENOENT for a folder that was deleted.
    pub fn each_name(&self, mut name: impl FnMut(&[u8]) -> ControlFlow<()>) -> io::Result<()> {
        for entry in rustix::fs::Dir::read_from(&self.folder)? {
            let entry = entry?;
            let bytes = entry.file_name().to_bytes();
            if bytes != b"." && bytes != b".." && name(bytes).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// What a name leads to, links followed, for somebody who would open it: a file to be read, a folder to be entered. The
    /// thing itself is not opened.
    ///
    /// # Errors
    /// ENOENT: it has gone, or the link is broken. EXDEV, ELOOP: the link leads out of the root, or nowhere. EACCES: this
    /// process may not.
    pub fn metadata(&self, name: &[u8]) -> io::Result<Metadata> {
        let stat = rustix::fs::statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let metadata = match FileType::from_raw_mode(stat.st_mode) {
            // From the root again: a link may lead up, as long as it stays inside.
            FileType::Symlink => {
                let path = if self.path.is_empty() { name.to_vec() } else { [&self.path, &b"/"[..], name].concat() };
                self.root.metadata(&path)?
            }
            _ => facts(&stat),
        };
        let access = match metadata.kind {
            Kind::File => Access::READ_OK,
            Kind::Directory => Access::EXEC_OK,
            Kind::Symlink | Kind::Special => return Ok(metadata),
        };
        rustix::fs::accessat(&self.folder, name, access, AtFlags::EACCESS)?;
        Ok(metadata)
    }
}
