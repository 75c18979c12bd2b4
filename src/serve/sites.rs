//! What a core serves, as one value that is replaced whole: a request sees what was there before, or what came after, and
//! never some of both. Whoever waits in the middle of a request keeps what it began with.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::http::limits::Limits;
use crate::rt::fs::Dir;
use crate::site::Site;
use crate::site::host::Hosts;
use crate::site::location::{Access, Location};

use super::StartError;
use super::auth::{Door, UsersFile};
use super::cgi::{Admission, AllBounds, Bounds, Caps, MountRoot};
use super::file_cache::FileCache;
use super::options::{CgiOptions, MountConfig, MountKind, Options, SiteConfig};
use super::start;

/// The sites of a core, with what is open for them, and all that may change with them. Lists beside each other, because deciding
/// needs no more than the first.
pub(super) struct Sites {
    /// Which of them answers for which host.
    pub(super) hosts: Hosts,
    pub(super) list: Vec<Site>,
    /// One per site, by index.
    pub(super) files: Vec<Rc<FileCache>>,
    pub(super) mounts: Vec<Vec<MountRoot>>,
    /// One per location of each site; nothing for those that ask nobody.
    doors: Vec<Vec<Option<Door>>>,
    /// What they were made from. This core's own copy: no core counts references to another's.
    pub(super) options: Rc<Options>,
    /// A copy of those in there, for a connection that holds no more.
    pub(super) limits: Rc<Limits>,
    /// For as long as this is here, its folders are in use.
    _roots: Arc<[PathBuf]>,
}

/// Everything that can fail about sites has been done; it may be handed to a core.
pub(super) struct Opened {
    sites: Vec<OpenedSite>,
    options: Options,
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
    /// The sites of these options, for one core.
    ///
    /// # Errors
    /// [`StartError::Site`], [`StartError::Bounds`].
    pub(super) fn open(
        options: &Options,
        generation: u32,
        admission: &Admission,
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
            let number = |mount: &MountConfig| admission.number(&config.names, &mount.prefix);
            let mounts = config.mounts.iter().map(|mount| open_mount(options, mount, number(mount), bounds));
            let mounts = mounts.collect::<Result<_, _>>()?;
            let users = config.locations.iter().map(open_users).collect::<Result<_, _>>()?;
            Ok::<_, StartError>(OpenedSite { config: config.clone(), generation, root, mounts, users })
        };
        let sites = options.sites.iter().map(open).collect::<Result<_, _>>()?;
        let roots = in_use.add(options.sites.iter().map(|site| site.root.clone()).collect());
        Ok(Opened { sites, options: options.clone(), roots })
    }

    /// The sites, on the core that they were opened for; `files_max` as for a [`FileCache`].
    pub(super) fn into_sites(self, files_max: usize) -> Sites {
        let list: Vec<Site> = self.sites.iter().map(|site| start::site(&site.config, site.generation)).collect();
        let mut sites = Sites {
            hosts: Hosts::new(&list),
            list,
            files: Vec::new(),
            mounts: Vec::new(),
            doors: Vec::new(),
            limits: Rc::new(self.options.limits.clone()),
            options: Rc::new(self.options),
            _roots: self.roots,
        };
        for OpenedSite { config, generation, root, mounts, users } in self.sites {
            let options = sites.options.files.clone();
            let files = FileCache::new(root, config.root, options, files_max, generation);
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

/// Shares the places for scripts out among the mounts of these options.
pub(super) fn share_places(options: &Options, admission: &Admission) {
    let mounts = options.sites.iter().flat_map(|site| site.mounts.iter().map(move |mount| (site, mount)));
    let caps = |(site, mount): (&SiteConfig, &MountConfig)| {
        let caps = Caps { running_max: mount.running_max, queued_max: mount.queued_max };
        (admission.number(&site.names, &mount.prefix), caps)
    };
    admission.share(options.cgi.running_max, options.cgi.queued_max, &mounts.map(caps).collect::<Vec<_>>());
}

fn open_mount(
    options: &Options,
    mount: &MountConfig,
    number: usize,
    bounds: &AllBounds,
) -> Result<OpenedMount, StartError> {
    let dir = match mount.kind {
        MountKind::Folder => Some(open_dir(&mount.target)?),
        MountKind::Program => None,
    };
    let cgi = mount.cgi.as_deref().unwrap_or(&options.cgi).clone();
    let bounds = bounds.of(&cgi.bounds).map_err(StartError::Bounds)?;
    Ok(OpenedMount { dir, target: mount.target.clone(), number, cgi, bounds })
}

fn open_users(location: &Location) -> Result<Option<Arc<UsersFile>>, StartError> {
    let Some(Access::Guarded(guard)) = &location.access else { return Ok(None) };
    let opened = UsersFile::open(&guard.htpasswd);
    opened.map(Some).map_err(|error| StartError::Site { path: guard.htpasswd.clone(), error })
}
