//! Lists a folder, away from the core: reading it blocks, and so would sorting ten thousand names.

use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;

use crate::rt::blocking;
use crate::rt::fs::{Dir, Kind, ReadDir};
use crate::rt::time;
use crate::site::Site;
use crate::site::listing::{Entry, EntryKind, Folder, ListingFacts, Names, Wanted, render, shows};

use super::link::Link;
use super::sites::Sites;
use super::transfer;
use super::worker::Worker;

/// What a 503 tells the client to wait.
pub(super) const RETRY_AFTER_S: u32 = 5;
/// How long a request waits for its listing: a disk that does not answer must not hold a connection for ever.
const LISTING_MS_MAX: u64 = 30_000;
/// The pages that a core holds for its clients, all together: a listing of ten thousand names has about 2 MiB, and a slow
/// client takes it for as long as it likes. Beyond, 503.
const PAGE_BYTES_MAX: usize = 64 << 20;

/// A folder that is to be listed.
pub(super) struct Order {
    pub(super) sites: Rc<Sites>,
    pub(super) site: usize,
    pub(super) path: Box<[u8]>,
    pub(super) wanted: Wanted,
}

/// What came of it.
pub(super) enum Listed {
    Page(ListingFacts, Bytes),
    /// It is gone, or may not be read.
    Nothing,
    /// Too many listings are asked for, or the disk does not answer.
    Busy,
}

/// A page, counted for as long as a client has not taken it.
struct Page {
    bytes: Vec<u8>,
    held: Arc<AtomicUsize>,
}

pub(super) async fn list(link: &mut Link, worker: &Worker, order: Order) -> Listed {
    if worker.listing_bytes.load(Ordering::Relaxed) > PAGE_BYTES_MAX {
        return Listed::Busy;
    }
    let Ok(root) = order.sites.files[order.site].root().try_clone() else { return Listed::Busy };
    let (site, entries_max) = (order.sites.list[order.site].clone(), order.sites.options.files.listing_entries_max);
    let Order { path, wanted, .. } = order;
    let work = blocking::run(move || page(&root, &site, &path, wanted, entries_max));
    let waiting = time::timeout(Duration::from_millis(LISTING_MS_MAX), work);
    match transfer::unloading(link.transport.stream(), &mut link.input, waiting).await {
        Ok(Ok(Some((facts, bytes)))) => {
            let held = Arc::clone(&worker.listing_bytes);
            held.fetch_add(bytes.len(), Ordering::Relaxed);
            Listed::Page(facts, Bytes::from_owner(Page { bytes, held }))
        }
        Ok(Ok(None)) => Listed::Nothing,
        Ok(Err(error)) => {
            tracing::warn!(%error, "a folder cannot be listed: 503");
            Listed::Busy
        }
        Err(_late) => {
            tracing::warn!("a folder was not listed within {LISTING_MS_MAX} ms: 503");
            Listed::Busy
        }
    }
}

/// On a helper thread: reads the folder, and writes its page.
fn page(root: &Dir, site: &Site, path: &[u8], wanted: Wanted, entries_max: usize) -> Option<(ListingFacts, Vec<u8>)> {
    let read = || {
        let folder = root.read_dir(path)?;
        let mut names = Names::new(entries_max);
        folder.each_name(|name| match !shows(site, path, name) || names.offer(name.to_owned()) {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        })?;
        let (names, cut_off) = names.into_parts();
        let entries = names.into_iter().filter_map(|name| entry(&folder, name)).collect();
        Ok::<_, std::io::Error>(Folder { path: path.to_owned(), entries, cut_off })
    };
    match read() {
        Ok(folder) => Some(render(folder, wanted)),
        Err(error) => {
            tracing::debug!(%error, "a folder cannot be read");
            None
        }
    }
}

/// What would be served at that name; nothing for what has gone meanwhile, leads outside, or is neither a file nor a folder.
fn entry(folder: &ReadDir<'_>, name: Vec<u8>) -> Option<Entry> {
    let metadata = folder.metadata(&name).ok()?;
    let kind = match metadata.kind {
        Kind::File => EntryKind::File { bytes: metadata.len },
        Kind::Directory => EntryKind::Directory,
        Kind::Symlink | Kind::Special => return None,
    };
    Some(Entry { name, kind, mtime: metadata.mtime })
}

impl AsRef<[u8]> for Page {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}
