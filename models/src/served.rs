//! The site that every model serves: its policy (`ucaffeine::site`), its folder, and the facts about its files. No cache:
//! a file is opened, looked at and closed for each request, as the seeds do it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use ucaffeine::http::limits::Limits;
use ucaffeine::site::representation::Representations;
use ucaffeine::site::static_file::{FileFacts, FileStat, Found};
use ucaffeine::site::{Mount, MountKind, Site, SiteOptions};

use crate::args::Args;

/// Where programs are, unless they are turned off.
const CGI_BIN: &str = "cgi-bin";

/// What is served, and by which rules.
pub(crate) struct Served {
    pub(crate) site: Site,
    pub(crate) root_path: PathBuf,
    pub(crate) limits: Limits,
    /// The folder or program of each mount of the site, by index.
    pub(crate) targets: Vec<PathBuf>,
    root: OwnedFd,
    since: Instant,
}

impl Served {
    /// The folder that the flags name.
    ///
    /// # Errors
    /// It is no folder, or cannot be read.
    pub(crate) fn open(args: &Args) -> io::Result<Served> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", args.root.display()));
        let root_path = args.root.canonicalize().map_err(named)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(&root_path, flags, Mode::empty()).map_err(|errno| named(errno.into()))?;
        let (mounts, targets, hidden) = match &args.program {
            // One program answers everything.
            Some(program) => {
                let program = program.canonicalize().map_err(|error| {
                    io::Error::new(error.kind(), format!("--program {}: {error}", program.display()))
                })?;
                (vec![mount("", MountKind::Program)], vec![program], Vec::new())
            }
            None if args.programs && root_path.join(CGI_BIN).is_dir() => {
                (vec![mount("/cgi-bin", MountKind::Folder)], vec![root_path.join(CGI_BIN)], Vec::new())
            }
            None => (Vec::new(), Vec::new(), vec!["/cgi-bin".to_owned()]),
        };
        let options = SiteOptions { hidden, ..SiteOptions::default() };
        let site = Site { mounts, options, ..Site::default() };
        Ok(Served { site, root_path, limits: Limits::default(), targets, root, since: Instant::now() })
    }

    /// Milliseconds since the start: the clock of connections.
    pub(crate) fn now_ms(&self) -> u64 {
        self.since.elapsed().as_millis() as u64
    }

    /// What is at a path that `route` has left, and the file itself when it is one.
    pub(crate) fn find(&self, path: &[u8], now_s: u64) -> (Found, Option<File>) {
        let Ok(opened) = self.open_beneath(path) else { return (Found::Nothing, None) };
        let Ok(stat) = rustix::fs::fstat(&opened) else { return (Found::Refused, None) };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let facts = FileStat {
                    len: stat.st_size as u64,
                    mtime_s: stat.st_mtime,
                    mtime_ns: stat.st_mtime_nsec as u32,
                    ctime_s: stat.st_ctime,
                    ctime_ns: stat.st_ctime_nsec as u32,
                    inode: stat.st_ino,
                };
                let itself = FileFacts::coded(&facts, path, None, now_s);
                let lines = self.site.options.headers.lines(path);
                (Found::File(Representations::new([itself].into(), lines)), Some(File::from(opened)))
            }
            FileType::Directory => (Found::Directory, None),
            _ => (Found::Refused, None),
        }
    }

    /// Never outside of the root, whatever links say; O_NONBLOCK because a FIFO without a writer would hold the thread.
    fn open_beneath(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let name = if path.is_empty() { b"." } else { path };
        loop {
            match rustix::fs::openat2(self.root.as_fd(), name, flags, Mode::empty(), resolve) {
                // Something was renamed while it was looked up.
                Err(rustix::io::Errno::AGAIN) => {}
                opened => return opened,
            }
        }
    }

    /// The script that a path below a folder mount means, as (file, SCRIPT_NAME, PATH_INFO).
    pub(crate) fn script<'r>(&self, mount: usize, rest: &'r [u8]) -> Option<(PathBuf, Vec<u8>, &'r [u8])> {
        use std::os::unix::ffi::OsStrExt;
        let (folder, mounted) = (&self.targets[mount], &self.site.mounts[mount]);
        for candidate in ucaffeine::site::script::candidates(rest) {
            let file = folder.join(Path::new(std::ffi::OsStr::from_bytes(candidate.file)));
            match file.metadata() {
                Ok(found) if found.is_file() => {
                    let mut name = Vec::new();
                    ucaffeine::site::script::script_name(mounted, &candidate, &mut name);
                    return Some((file, name, candidate.path_info));
                }
                Ok(found) if found.is_dir() => {}
                _ => return None,
            }
        }
        None
    }
}

/// Seconds since 1970.
pub(crate) fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn mount(prefix: &str, kind: MountKind) -> Mount {
    Mount { prefix: prefix.to_owned(), kind, env: Vec::new(), pass_authorization: false }
}
