//! Being told of changes in directories (inotify(7)), on the ring.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::task::{Context, Poll};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use crate::rt::op::{Multi, Next, Unclaimed};
use crate::rt::sys::sqe::{Fd, Sqe};

/// Bytes of events taken from the kernel at once: 30 with the longest names, 250 with common ones.
const READ_BYTES: usize = 8 << 10;

/// Watches directories, each for what happens to the names in it.
///
/// The kernel queues an event before the call that caused it returns, and the ring is told in the same moment. What it is not told
/// of: what another machine does to a network file system, writes to a mapping of a file, and writes by another name of a
/// file (a hard link) in a directory that is not watched.
///
/// Dropped: all watches end. That waits for the kernel to let go of them, some milliseconds if there are any.
pub struct Watcher {
    fd: OwnedFd,
    poll: RefCell<Multi>,
    /// The poll has reported something that has not been read.
    news: Cell<bool>,
}

/// One directory that is watched. The same directory has the same, by whatever name it was found, until its watch ends;
/// numbers are not used again before two thousand million others were.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Watch(i32);

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// To a name in a watched directory.
    Name {
        /// The directory.
        watch: Watch,
        /// The name.
        name: &'a [u8],
        /// What.
        change: Change,
    },
    /// To the attributes of a watched directory itself.
    Attributes(Watch),
    /// The watch has ended: the directory was deleted, its file system unmounted, or the watch removed.
    Ended(Watch),
    /// Events were lost (`fs.inotify.max_queued_events`): anything may have happened.
    Overflow,
}

/// What has happened to a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Created, or moved here, perhaps in the place of another.
    Came,
    /// Deleted, or moved away.
    Left,
    /// Written to, or cut short.
    Modified,
    /// Its permissions, owner, times or number of links have changed.
    Attributes,
}

impl Watcher {
    /// A watcher that watches nothing yet.
    ///
    /// # Errors
    /// EMFILE: this user has `fs.inotify.max_user_instances` of them, or the process is out of descriptors. ENOSYS.
    pub fn new() -> io::Result<Watcher> {
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let poll = RefCell::new(armed(&fd));
        Ok(Watcher { fd, poll, news: Cell::new(false) })
    }

    /// Watches an open directory (an O_PATH descriptor will do), from now on. Plain calls, which do not wait.
    ///
    /// # Errors
    /// ENOSPC: this user has `fs.inotify.max_user_watches`. EACCES: the directory may not be read. ENOTDIR.
    pub fn add(&self, directory: impl AsFd) -> io::Result<Watch> {
        let flags = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::ONLYDIR
            // Whoever goes on writing to a file that was deleted does nothing to its name.
            | WatchFlags::EXCL_UNLINK;
        let link = format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd());
        Ok(Watch(inotify::add_watch(&self.fd, link, flags)?))
    }

    /// Ends a watch. Events that were queued before are still read.
    pub fn remove(&self, watch: Watch) {
        // EINVAL: it has ended by itself.
        let _ = inotify::remove_watch(&self.fd, watch.0);
    }

    /// Whether there is something to be read, as far as the ring knows: no call.
    pub fn has_news(&self) -> bool {
        self.news.get() || self.poll.borrow().has_news()
    }

    /// Waits until there is something to be read. One task at a time.
    ///
    /// Dropped while waiting: nothing is lost.
    pub async fn changed(&self) {
        poll_fn(|context| self.poll_changed(context)).await;
    }

    fn poll_changed(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.news.get() {
            return Poll::Ready(());
        }
        let next = self.poll.borrow_mut().poll_next(context);
        next.map(|_next| self.news.set(true))
    }

    /// Hands out all that has happened up to now, in order, asking the kernel: nothing that was caused by a call which has
    /// returned is missing.
    ///
    /// # Errors
    /// The watcher cannot be told any more, on this ring; what is still watched is not heard of.
    pub fn read(&self, mut each: impl FnMut(Event<'_>)) -> io::Result<()> {
        self.listen()?;
        let mut room = [MaybeUninit::uninit(); READ_BYTES];
        let mut events = Reader::new(&self.fd, &mut room);
        loop {
            match events.next() {
                Ok(event) => {
                    if let Some(event) = event_of(&event) {
                        each(event);
                    }
                }
                Err(Errno::WOULDBLOCK) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Takes what the poll has said, and arms it again where it has ended: before the events are read, so that those which
    /// come after are told anew.
    fn listen(&self) -> io::Result<()> {
        self.news.set(false);
        let mut poll = self.poll.borrow_mut();
        loop {
            match poll.take_next() {
                Some(Next::Result(outcome)) => drop(outcome.count()?),
                Some(Next::Ended) => *poll = armed(&self.fd),
                None => return Ok(()),
            }
        }
    }
}

/// A poll that goes on: one operation for good, and none that waits in a worker.
fn armed(fd: &OwnedFd) -> Multi {
    Multi::start(Unclaimed::Forget, Sqe::poll_multi(Fd::Raw(fd.as_raw_fd()), libc::POLLIN as u32))
}

fn event_of<'a>(event: &'a inotify::Event<'_>) -> Option<Event<'a>> {
    let (watch, flags) = (Watch(event.wd()), event.events());
    if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
        return Some(Event::Overflow);
    }
    if flags.contains(ReadFlags::IGNORED) {
        return Some(Event::Ended(watch));
    }
    let change = match () {
        () if flags.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) => Change::Came,
        () if flags.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM) => Change::Left,
        () if flags.contains(ReadFlags::MODIFY) => Change::Modified,
        () if flags.contains(ReadFlags::ATTRIB) => Change::Attributes,
        // IN_UNMOUNT: IN_IGNORED follows.
        () => return None,
    };
    match event.file_name() {
        Some(name) => Some(Event::Name { watch, name: name.to_bytes(), change }),
        None => Some(Event::Attributes(watch)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::fs::Dir;
    use std::fs;
    use std::path::Path;

    /// A thread has one runtime in its life, and a test may share its thread with others.
    fn watching(test: impl FnOnce(&Watcher, &Path) + Send + 'static) {
        let test = move || {
            let folder = tempfile::tempdir().unwrap();
            let runtime = crate::rt::Builder::new().build().unwrap();
            runtime.block_on(async { test(&Watcher::new().unwrap(), folder.path()) });
        };
        std::thread::spawn(test).join().unwrap();
    }

    fn read(watcher: &Watcher) -> Vec<(String, Change)> {
        let mut all = Vec::new();
        let each = |event: Event<'_>| match event {
            Event::Name { name, change, .. } => all.push((String::from_utf8_lossy(name).into_owned(), change)),
            other => all.push((format!("{other:?}"), Change::Left)),
        };
        watcher.read(each).unwrap();
        all
    }

    #[test]
    fn each_change_is_told_before_its_call_returns() {
        watching(|watcher, folder| {
            fs::write(folder.join("old"), "1").unwrap();
            watcher.add(Dir::open(folder).unwrap()).unwrap();
            assert_eq!(read(watcher), []);
            fs::write(folder.join("new"), "").unwrap();
            assert_eq!(read(watcher), [("new".into(), Change::Came)]);
            fs::write(folder.join("old"), "22").unwrap();
            let told = read(watcher);
            assert!(!told.is_empty() && told.iter().all(|one| *one == ("old".into(), Change::Modified)), "{told:?}");
            fs::rename(folder.join("new"), folder.join("old")).unwrap();
            assert_eq!(read(watcher), [("new".into(), Change::Left), ("old".into(), Change::Came)]);
            fs::remove_file(folder.join("old")).unwrap();
            assert_eq!(read(watcher).last(), Some(&("old".into(), Change::Left)));
        });
    }

    #[test]
    fn a_directory_by_two_names_has_one_watch_and_its_end_is_told() {
        watching(|watcher, folder| {
            let inside = folder.join("inside");
            fs::create_dir(&inside).unwrap();
            std::os::unix::fs::symlink("inside", folder.join("link")).unwrap();
            let watch = watcher.add(Dir::open(&inside).unwrap()).unwrap();
            assert_eq!(watcher.add(Dir::open(&folder.join("link")).unwrap()).unwrap(), watch);
            fs::remove_dir(&inside).unwrap();
            assert_eq!(read(watcher), [(format!("{:?}", Event::Ended(watch)), Change::Left)]);
            watcher.remove(watch);
        });
    }

    #[test]
    fn what_is_not_a_directory_is_refused() {
        watching(|watcher, folder| {
            fs::write(folder.join("file"), "").unwrap();
            let error = watcher.add(fs::File::open(folder.join("file")).unwrap()).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENOTDIR));
        });
    }

    #[test]
    fn the_ring_tells_that_there_is_something_and_again_after_it_was_read() {
        let test = || {
            let folder = tempfile::tempdir().unwrap();
            let runtime = crate::rt::Builder::new().build().unwrap();
            runtime.block_on(async {
                let watcher = Watcher::new().unwrap();
                watcher.add(Dir::open(folder.path()).unwrap()).unwrap();
                for round in 0..20 {
                    assert!(!watcher.has_news());
                    let path = folder.path().join(format!("file-{round}"));
                    let writer = std::thread::spawn(move || fs::write(path, "").unwrap());
                    watcher.changed().await;
                    writer.join().unwrap();
                    assert!(watcher.has_news());
                    assert!(!read(&watcher).is_empty());
                    // What was told twice is read once.
                    while watcher.has_news() {
                        read(&watcher);
                    }
                }
            });
        };
        std::thread::spawn(test).join().unwrap();
    }
}
