//! What a core serves, as one value that is replaced whole: a request sees what was there before, or what came after, and
//! never some of both. Whoever waits in the middle of a request keeps what it began with.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::rt::fs::Dir;
use crate::site::Site;
use crate::site::host::Hosts;
use crate::site::location::{Access, Location};

use super::StartError;
use super::auth::{Door, UsersFile};
use super::cgi::{AllBounds, Bounds, Caps, MountRoot};
use super::file_cache::FileCache;
use super::options::{CgiOptions, FileOptions, MountConfig, MountKind, Options, SiteConfig};
use super::start;

/// The sites of a core, with what is open for them. Lists beside each other, because deciding needs no more than the first.
pub(super) struct Sites {
    /// Which of them answers for which host.
    pub(super) hosts: Hosts,
    pub(super) list: Vec<Site>,
    /// One per site, by index.
    pub(super) files: Vec<Rc<FileCache>>,
    pub(super) mounts: Vec<Vec<MountRoot>>,
    /// One per location of each site; nothing for those that ask nobody.
    doors: Vec<Vec<Option<Door>>>,
    /// For as long as this is here, its folders are in use.
    _roots: Arc<[PathBuf]>,
}

/// Everything that can fail about sites has been done; it may be handed to a core.
pub(super) struct Opened {
    sites: Vec<OpenedSite>,
    roots: Arc<[PathBuf]>,
}

/// The folders that any core still serves something from: a script in an old one may be running.
#[derive(Default)]
pub(super) struct InUse(Mutex<Vec<Weak<[PathBuf]>>>);

struct OpenedSite {
    config: SiteConfig,
    generation: u32,
    root: Dir,
    mounts: Vec<OpenedMount>,
    /// One per location.
    users: Vec<Option<Arc<UsersFile>>>,
}

/// What becomes a [`MountRoot`] on its core.
struct OpenedMount {
    dir: Option<Dir>,
    target: PathBuf,
    number: usize,
    cgi: CgiOptions,
    bounds: Option<Arc<Bounds>>,
}

impl Opened {
    /// `first` is what the server was started with: for what a mount says nothing about, and for its part of the places.
    pub(super) fn open(
        sites: &[SiteConfig],
        generation: u32,
        first: &Options,
        in_use: &InUse,
        bounds: &AllBounds,
    ) -> Result<Opened, StartError> {
        let open = |config: &SiteConfig| {
            let mut root = open_dir(&config.root)?;
            // Also by a symlink a program's source is not to be had. Names are judged by `site::route`, places here.
            let hidden = config.hidden.iter().map(|path| config.root.join(path));
            let programs =
                config.mounts.iter().map(|mount| mount.target.clone()).filter(|target| *target != config.root);
            let shut = root.shut(hidden.chain(programs));
            shut.map_err(|error| StartError::Site { path: config.root.clone(), error })?;
            let mounts = config.mounts.iter().map(|mount| open_mount(first, config, mount, bounds));
            let mounts = mounts.collect::<Result<_, _>>()?;
            let users = config.locations.iter().map(open_users).collect::<Result<_, _>>()?;
            Ok::<_, StartError>(OpenedSite { config: config.clone(), generation, root, mounts, users })
        };
        let opened = sites.iter().map(open).collect::<Result<_, _>>()?;
        Ok(Opened { sites: opened, roots: in_use.add(sites.iter().map(|site| site.root.clone()).collect()) })
    }

    /// The sites of one core; `files_max` as for a [`FileCache`].
    pub(super) fn into_sites(self, options: &FileOptions, files_max: usize) -> Sites {
        let list: Vec<Site> = self.sites.iter().map(|site| start::site(&site.config, site.generation)).collect();
        let mut sites = Sites {
            hosts: Hosts::new(&list),
            list,
            files: Vec::new(),
            mounts: Vec::new(),
            doors: Vec::new(),
            _roots: self.roots,
        };
        for OpenedSite { config, generation, root, mounts, users } in self.sites {
            let files = FileCache::new(root, config.root, options.clone(), files_max, generation);
            sites.files.push(Rc::new(files));
            sites.mounts.push(mounts.into_iter().map(OpenedMount::into_root).collect());
            sites.doors.push(users.into_iter().map(|file| Some(Door::new(file?))).collect());
        }
        sites
    }
}

impl Sites {
    /// The door of a location that asks for a password.
    pub(super) fn door(&self, site: usize, location: usize) -> Option<&Door> {
        self.doors.get(site)?.get(location)?.as_ref()
    }
}

impl OpenedMount {
    fn into_root(self) -> MountRoot {
        let OpenedMount { dir, target, number, cgi, bounds } = self;
        MountRoot { dir, target, number, cgi: Rc::new(cgi), bounds }
    }
}

impl InUse {
    fn add(&self, roots: Arc<[PathBuf]>) -> Arc<[PathBuf]> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|old| old.strong_count() > 0);
        all.push(Arc::downgrade(&roots));
        roots
    }

    pub(super) fn roots(&self) -> Vec<PathBuf> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter_map(Weak::upgrade).flat_map(|roots| roots.to_vec()).collect()
    }
}

fn open_dir(path: &std::path::Path) -> Result<Dir, StartError> {
    Dir::open(path).map_err(|error| StartError::Site { path: path.to_owned(), error })
}

/// What each mount may have of the places for scripts, in the order of their numbers; one at least, for a mount that comes later.
pub(super) fn caps(options: &Options) -> Vec<Caps> {
    let caps = |mount: &MountConfig| Caps { running_max: mount.running_max, queued_max: mount.queued_max };
    let mut all: Vec<Caps> = options.sites.iter().flat_map(|site| &site.mounts).map(caps).collect();
    if all.is_empty() {
        all.push(Caps::default());
    }
    all
}

/// The number of a mount in admission: that of the first configuration, by its path. One that has come since shares the places
/// of the first.
fn number(first: &Options, site: &SiteConfig, mount: &MountConfig) -> usize {
    let mounts = first.sites.iter().flat_map(|site| site.mounts.iter().map(move |mount| (site, mount)));
    let mut numbered = mounts.enumerate();
    let same = numbered.find(|(_, (old, other))| old.names == site.names && other.prefix == mount.prefix);
    same.map_or(0, |(number, _)| number)
}

fn open_mount(
    first: &Options,
    site: &SiteConfig,
    mount: &MountConfig,
    bounds: &AllBounds,
) -> Result<OpenedMount, StartError> {
    let dir = match mount.kind {
        MountKind::Folder => Some(open_dir(&mount.target)?),
        MountKind::Program => None,
    };
    let cgi = mount.cgi.as_deref().unwrap_or(&first.cgi).clone();
    let bounds = bounds.of(&cgi.bounds).map_err(StartError::Bounds)?;
    Ok(OpenedMount { dir, target: mount.target.clone(), number: number(first, site, mount), cgi, bounds })
}

fn open_users(location: &Location) -> Result<Option<Arc<UsersFile>>, StartError> {
    let Some(Access::Guarded(guard)) = &location.access else { return Ok(None) };
    let opened = UsersFile::open(&guard.htpasswd);
    opened.map(Some).map_err(|error| StartError::Site { path: guard.htpasswd.clone(), error })
}
