//! From options to running cores.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::rc::Rc;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use crate::rt::cpu::{self, CpuFacts, CpuId, CpuPlan};
use crate::rt::fs::{Dir, Kind};
use crate::rt::net;
use crate::rt::process::Spawner;
use crate::rt::{self, Unavailable};
use crate::site::location::Location;
use crate::site::{self, Site, SiteOptions};

use super::access_log::{self, AccessLog};
use super::cgi::{Admission, AllBounds};
use super::listeners::{self, LivesOn, Sockets, listen_all};
use super::metrics::{Last, Listener as MetricsListener, Observer};
use super::options::{AccessLog as LogTarget, MountConfig, MountKind, Options, SiteConfig};
use super::per_ip::PerIp;
use super::sites::{self, InUse, Opened};
use super::stop::{Stage, StopSignal};
use super::worker::{self, Worker};
use super::{Core, Current, Listener, Server, Shared, StartError, user};

/// A core's turn is short, and nothing on its CPU should make it wait.
const SLICE: Duration = Duration::from_micros(100);
/// Direct descriptors of a core, where nothing else is said: 64 Ki connections.
const CONNECTIONS_MAX: usize = 1 << 16;
/// Large files that the cores keep open, at most, and at least.
const OPEN_FILES_MAX: usize = 1024;
const OPEN_FILES_MIN: usize = 4;

thread_local! {
    /// This core's worker, for messages from outside.
    static WORKER: RefCell<Option<Rc<Worker>>> = const { RefCell::new(None) };
}

/// What a core reports when it is ready, or why it is not.
type Ready = Result<rt::Remote, StartError>;

pub(super) fn start(options: Options, handed: Vec<Listener>, first: Stage) -> Result<Server, StartError> {
    let plan = cpu::plan(&CpuFacts::read(), options.cores);
    let user = user::whom(&options)?;
    let nofile = raise_limits();
    let lives_on = LivesOn::new(&options, &handed);
    let backlog = net::backlog_max(slots(&options, nofile) as u32) as i32;
    let mut handed = handed;
    let metrics = options.metrics.as_ref().map(|listen| listeners::listen_for_metrics(listen, &mut handed));
    let metrics = metrics.transpose()?;
    let (addresses, mut sockets) = listen_all(&options, handed, backlog, plan.cores)?;
    let listening = addresses.iter().map(|address| address.bound.clone()).collect();
    // From here on nothing is done that needs root: no thread of ours exists yet, and no ring.
    if let Some(user) = user {
        user::give_up_root(&user, &options)?;
    }
    let shared = share(options, &plan, nofile, lives_on, first)?;
    shared.options.sites.iter().for_each(warn_of_missing_pages);
    let (runs, running) = mpsc::channel::<Infallible>();
    let (stop, running) = (shared.stop.clone(), Mutex::new(running));
    let options = Arc::clone(&shared.options);
    let (cut, in_use) = (Arc::clone(&shared.cut), Arc::clone(&shared.in_use));
    let current = Mutex::new(Current { generation: 0, options });
    let (admission, all_bounds) = (Arc::clone(&shared.admission), Arc::clone(&shared.all_bounds));
    let lives_on = Arc::clone(&shared.lives_on);
    let (remotes, last) = (Vec::new(), Arc::default());
    let observer = Arc::new(Observer::new(remotes, stop.clone(), Arc::clone(&shared.admission), Arc::clone(&last)));
    let mut server = Server {
        listening,
        addresses,
        lives_on,
        plan,
        stop,
        cores: Vec::new(),
        running,
        current,
        admission,
        cut,
        in_use,
        all_bounds,
        observer,
        metrics: None,
    };
    for index in 0..server.plan.cores {
        let (shared, runs, last) = (Arc::clone(&shared), runs.clone(), Arc::clone(&last));
        let (ready, report) = mpsc::channel::<Ready>();
        let pinned = server.plan.chosen.get(index).copied().flatten();
        let listeners = sockets.remove(0);
        let thread = std::thread::Builder::new()
            .name(format!("core-{index}"))
            .spawn(move || {
                core(index, pinned, &shared, listeners, &ready, &last);
                drop(runs);
            })
            .map_err(StartError::Thread)?;
        // One at a time: an engine that is missing is missing once, and said once.
        match report.recv() {
            Ok(Ok(remote)) => server.cores.push(Core { thread: Some(thread), remote }),
            Ok(Err(error)) => {
                let _ = thread.join();
                return Err(error);
            }
            // The panic hook has said why.
            Err(mpsc::RecvError) => return Err(StartError::Thread(io::Error::other("a core panicked at its start"))),
        }
    }
    let remotes = server.cores.iter().map(|core| core.remote.clone()).collect();
    server.observer = Arc::new(Observer::new(remotes, server.stop.clone(), Arc::clone(&shared.admission), last));
    if let (Some((bound, socket)), Some(asked)) = (metrics, &shared.options.metrics) {
        let listener = MetricsListener::start(asked.clone(), bound, socket, Arc::clone(&server.observer));
        server.metrics = Some(listener.map_err(StartError::Thread)?);
    }
    Ok(server)
}

/// What this process may have, at most; returns how many descriptors.
fn raise_limits() -> u64 {
    rt::raise_memlock_limit();
    net::raise_descriptor_limit()
}

/// What all cores are to have.
fn share(
    options: Options,
    plan: &CpuPlan,
    nofile: u64,
    lives_on: LivesOn,
    first: Stage,
) -> Result<Arc<Shared>, StartError> {
    let admission = Admission::new();
    sites::share_places(&options, &admission);
    let all_bounds = Arc::new(AllBounds::default());
    // Tried here already: nothing is bound yet, and no core has started.
    for mount in options.sites.iter().flat_map(|site| &site.mounts) {
        let cgi = mount.cgi.as_deref().unwrap_or(&options.cgi);
        all_bounds.of(&cgi.bounds).map_err(StartError::Bounds)?;
    }
    let per_ip = options.conns_per_ip_max.map(PerIp::new).map(Arc::new);
    Ok(Arc::new(Shared {
        options: Arc::new(options),
        admission,
        all_bounds,
        per_ip,
        stop: StopSignal::new(first),
        lives_on: Arc::new(lives_on),
        cut: Arc::default(),
        in_use: Arc::default(),
        log_sink: Arc::default(),
        cpus: plan.allowed.clone(),
        cores: plan.cores,
        nofile,
    }))
}

/// See [`super::check`].
pub(super) fn check(options: &Options) -> Vec<StartError> {
    let (bounds, admission) = (AllBounds::default(), Admission::new());
    let alone = |site: &SiteConfig| Options { sites: vec![site.clone()], ..options.clone() };
    let open = |options| Opened::open(&options, 0, &admission, &InUse::default(), &bounds).map(drop);
    let opened = options.sites.iter().map(alone).map(open);
    let mut problems: Vec<StartError> = opened.chain([may_log(&options.access_log)]).filter_map(Result::err).collect();
    // What several sites share is one problem.
    let mut told = BTreeSet::new();
    problems.retain(|problem| told.insert(problem.to_string()));
    options.sites.iter().for_each(warn_of_missing_pages);
    problems
}

/// Whether the access log could be opened; none is made for that.
fn may_log(target: &LogTarget) -> Result<(), StartError> {
    let LogTarget::File(path) = target else { return Ok(()) };
    let tried = match OpenOptions::new().append(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = path.parent().unwrap_or(path);
            rustix::fs::access(folder, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK).map_err(Into::into)
        }
        tried => tried.map(drop),
    };
    tried.map_err(|error: io::Error| StartError::Log { path: path.clone(), error })
}

/// A core on this thread that listens to nobody.
pub(super) fn deaf(options: Options) -> Result<(rt::Runtime, Rc<Worker>), StartError> {
    let plan = cpu::plan(&CpuFacts::read(), Some(1));
    let lives_on = LivesOn::new(&options, &[]);
    let shared = share(options, &plan, raise_limits(), lives_on, Stage::Serving)?;
    let spawner = Spawner::start("spawn-0", &shared.cpus).map_err(StartError::Thread)?;
    let runtime = rt::Builder::new().direct_slots(1).build().map_err(StartError::Uring)?;
    let worker = runtime.block_on(async { build_worker(0, &shared, spawner) })?;
    Ok((runtime, Rc::new(worker)))
}

/// Direct descriptors of a core.
fn slots(options: &Options, nofile: u64) -> usize {
    options.connections_max.unwrap_or(CONNECTIONS_MAX).min(nofile as usize)
}

/// A core, from its first to its last turn.
fn core(
    index: usize,
    pinned: Option<CpuId>,
    shared: &Shared,
    listeners: Sockets,
    ready: &mpsc::Sender<Ready>,
    last: &Last,
) {
    let built = (|| {
        // Before the core is pinned: what the spawner starts may run anywhere.
        let spawner = Spawner::start(&format!("spawn-{index}"), &shared.cpus).map_err(StartError::Thread)?;
        if let Some(cpu) = pinned {
            cpu::pin(cpu).map_err(StartError::Thread)?;
        }
        if let Err(error) = rt::set_slice(SLICE) {
            tracing::debug!(%error, "no short slice: scripts on the same core may delay it");
        }
        let runtime = rt::Builder::new()
            .direct_slots(slots(&shared.options, shared.nofile) as u32)
            .sharers(shared.cores)
            .helper_cpus(&shared.cpus)
            .build()
            .map_err(StartError::Uring)?;
        let worker = runtime.block_on(async { build_worker(index, shared, spawner) })?;
        Ok((runtime, Rc::new(worker)))
    })();
    let (runtime, worker) = match built {
        Ok(built) => built,
        Err(error) => return drop(ready.send(Err(error))),
    };
    WORKER.with(|current| *current.borrow_mut() = Some(Rc::clone(&worker)));
    let _ = ready.send(Ok(runtime.remote()));
    runtime.block_on(worker::serve(Rc::clone(&worker), listeners));
    runtime.block_on(async { last.keep(index, &worker) });
    WORKER.with(|current| current.borrow_mut().take());
    // First the tasks, and with them the scripts that are left; then the spawner, which reaps them.
    drop(runtime);
    // What is cut has its last word then.
    worker.log.iter().for_each(AccessLog::finish);
    drop(worker);
}

pub(super) fn build_worker(index: usize, shared: &Shared, spawner: Spawner) -> Result<Worker, StartError> {
    let options = &shared.options;
    let files_max = (shared.nofile as usize / 8 / shared.cores.max(1)).clamp(OPEN_FILES_MIN, OPEN_FILES_MAX);
    let opened = Opened::open(options, 0, &shared.admission, &shared.in_use, &shared.all_bounds)?;
    let sites = opened.into_sites(files_max);
    let settings = || access_log::Settings {
        form: options.access_log_form,
        core: index as u32,
        buffer_bytes_max: options.access_log_buffer_bytes_max,
        sink: Arc::clone(&shared.log_sink),
    };
    let log = open_log(&options.access_log)?.map(|fd| AccessLog::start(fd, settings()));
    Ok(Worker::new(sites, files_max, shared, spawner, log))
}

/// A page that cannot be had is no reason not to serve, and it may still come; but whoever named it should know.
pub(super) fn warn_of_missing_pages(config: &SiteConfig) {
    let open = |path: &str| {
        let metadata = Dir::open(&config.root)?.metadata(path.as_bytes())?;
        if metadata.kind != Kind::File {
            return Err(io::Error::other("not a file"));
        }
        std::fs::File::open(config.root.join(path))
    };
    let pages: BTreeSet<&str> = config.pages.files().chain(config.locations.iter().flat_map(Location::files)).collect();
    for path in pages {
        if let Err(error) = open(path) {
            tracing::warn!(%error, "no page at /{path}: until there is one, the built-in pages are sent");
        }
    }
}

/// The part of a site's configuration that decisions depend on.
pub(super) fn site(config: &SiteConfig, generation: u32) -> Site {
    let pairs = |env: &[super::options::EnvVar]| {
        env.iter().map(|var| (var.name.clone(), var.value.to_string_lossy().into_owned())).collect()
    };
    let mount = |mount: &MountConfig| site::Mount {
        prefix: mount.prefix.clone(),
        kind: match mount.kind {
            MountKind::Folder => site::MountKind::Folder,
            MountKind::Program => site::MountKind::Program,
        },
        env: pairs(&mount.env),
        pass_authorization: mount.pass_authorization,
    };
    let hidden = config.hidden.iter().map(|path| format!("/{}", path.display())).collect();
    Site {
        names: config.names.clone(),
        generation,
        mounts: config.mounts.iter().map(mount).collect(),
        options: SiteOptions {
            env: pairs(&config.cgi_env),
            hidden,
            precompressed: config.precompressed,
            pages: config.pages.clone(),
            headers: config.headers.clone(),
            ..SiteOptions::default()
        },
        locations: config.locations.clone(),
    }
}

fn open_log(target: &LogTarget) -> Result<Option<OwnedFd>, StartError> {
    match target {
        LogTarget::Off => Ok(None),
        LogTarget::Stdout => io::stdout().as_fd().try_clone_to_owned().map(Some).map_err(StartError::Thread),
        LogTarget::File(path) => {
            // Of a FIFO without a reader, that is an error, and not a wait without end.
            let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
            let file = OpenOptions::new().append(true).create(true).custom_flags(flags).open(path);
            file.map(|file| Some(file.into())).map_err(|error| StartError::Log { path: path.clone(), error })
        }
    }
}

/// This thread's core serves these from now on. What is in the middle of a request keeps the old ones until it is over.
pub(super) fn replace_sites(opened: Opened) {
    WORKER.with_borrow(|worker| {
        if let Some(worker) = worker {
            worker.replace_sites(opened);
        }
    });
}

/// Another descriptor of every socket that this thread's core accepts from.
pub(super) fn core_sockets() -> io::Result<Sockets> {
    WORKER
        .with_borrow(|worker| worker.as_ref().map_or_else(|| Ok(Sockets::new()), |worker| worker.accepting.try_clone()))
}

/// Opens the access log again, once for each core; `None` where there is none.
pub(super) fn reopen_log(options: &Options, cores: usize) -> Result<Option<Vec<OwnedFd>>, StartError> {
    let opened = (0..cores).map(|_| open_log(&options.access_log));
    Ok(opened.collect::<Result<Vec<_>, _>>()?.into_iter().collect())
}

/// This thread's core writes its access log there from now on.
pub(super) fn replace_log(fd: OwnedFd, done: mpsc::Sender<Infallible>) {
    WORKER.with_borrow(|worker| {
        if let Some(log) = worker.as_ref().and_then(|worker| worker.log.as_ref()) {
            log.reopen(fd, done);
        }
    });
}

/// What `look` makes of this thread's core; `None` on a thread that is none.
pub(super) fn with_worker<T>(look: impl FnOnce(&Worker) -> T) -> Option<T> {
    WORKER.with_borrow(|worker| worker.as_deref().map(look))
}

impl From<Unavailable> for StartError {
    fn from(why: Unavailable) -> StartError {
        StartError::Uring(why)
    }
}
