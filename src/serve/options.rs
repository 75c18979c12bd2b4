//! What a server is told before it starts: plain values, each with the default that the documentation promises.
//!
//! `config` fills them from flags, variables and a file; a program that uses the library fills them by hand. Nothing here
//! is checked against the machine: that has happened before, or happens when the server binds.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::http::limits::Limits;
use crate::http::trust::Trusted;
use crate::site::headers::Rules;
use crate::site::location::Location;
use crate::site::log_line::Form;
use crate::site::pages::Pages;

/// Everything that a server needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where to listen; never empty.
    pub listen: Vec<Listen>,
    /// Threads, each with a ring and a listener of its own. `None`: as many as there are CPUs to use.
    pub cores: Option<usize>,
    /// Which engine moves the bytes.
    pub engine: Engine,
    /// What is served. The first site answers every host that no site names.
    pub sites: Vec<SiteConfig>,
    /// What a client may ask for, and how slowly.
    pub limits: Limits,
    /// Requests on one connection before it is closed. `None`: unlimited.
    pub requests_per_connection_max: Option<u64>,
    /// Connections per core. `None`: what the descriptor limit allows.
    pub connections_max: Option<usize>,
    /// From the end of `drain_delay_ms` until what is still in flight is cut.
    pub drain_ms_max: u64,
    /// From the word to stop until the listeners close. Meanwhile everything is served, but `/readyz` says that it will not be.
    pub drain_delay_ms: u64,
    /// How long a process that is to take this one's place has to be ready.
    pub upgrade_ms_max: u64,
    /// How scripts are run, and for how long.
    pub cgi: CgiOptions,
    /// How files are kept and sent.
    pub files: FileOptions,
    /// Where a line per request goes.
    pub access_log: AccessLog,
    /// Where metrics and probes are answered.
    pub metrics: Option<Listen>,
    /// What such a line looks like.
    pub access_log_form: Form,
    /// Lines of a core that wait to be written; beyond, they are lost, and counted.
    pub access_log_buffer_bytes_max: usize,
    /// The proxies whose word about a client is taken.
    pub trusted: Trusted,
    /// Listeners on which every connection begins with a header of the PROXY protocol, from somebody who is trusted.
    pub proxy_protocol: ProxyProtocol,
    /// Connections of one address, or of one /64 of IPv6, over all cores. `None`: unlimited. Trusted proxies are not counted.
    pub conns_per_ip_max: Option<u32>,
    /// `USER` or `USER:GROUP`, whom the whole process becomes once it listens, for good. `None`: it stays who it is. Needs root.
    pub user: Option<String>,
    /// Slowness on purpose.
    pub inject: Inject,
}

/// What a server is slowed down by, for proving that a measurement finds it. By default nothing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Inject {
    /// How long an answer is held back, while the core serves others. Zero: never.
    pub delay: Duration,
    /// How many of a million answers are.
    pub delayed_per_million: u32,
    /// How long the core is kept busy for each that comes. Zero: not at all.
    pub spin: Duration,
}

/// Where the PROXY protocol is spoken. It is nowhere guessed: there it is required, elsewhere it is no HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum ProxyProtocol {
    /// Nowhere.
    #[default]
    Off,
    /// On every listener.
    All,
    /// On these, as they stand in [`Options::listen`].
    On(Vec<Listen>),
}

impl ProxyProtocol {
    /// Whether it is spoken there.
    pub fn is_spoken_on(&self, listen: &Listen) -> bool {
        match self {
            ProxyProtocol::Off => false,
            ProxyProtocol::All => true,
            ProxyProtocol::On(these) => these.contains(listen),
        }
    }
}

/// One address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Listen {
    /// IPv4 or IPv6; port 0 lets the kernel choose.
    Tcp(SocketAddr),
    /// A Unix stream socket at this path.
    Unix(PathBuf),
}

/// What moves the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Engine {
    /// io_uring where it works, epoll elsewhere.
    #[default]
    Auto,
    /// io_uring, or no start.
    Uring,
    /// epoll, even where io_uring works.
    Epoll,
}

/// One folder that is served, and the programs mounted on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteConfig {
    /// Hosts that this site answers, in lower case and without a port, perhaps with `*.` before them. Empty: every host that no
    /// other site names.
    pub names: Vec<String>,
    /// The folder; absolute.
    pub root: PathBuf,
    /// Where programs answer instead of files. No two have the same prefix; the longest that fits wins.
    pub mounts: Vec<MountConfig>,
    /// Paths under `root`, decoded, without a final slash, that are never served as files: each of them, and all below it, is
    /// 404. They hold programs whose source must not leak. A mount whose prefix fits the request comes first.
    pub hidden: Vec<PathBuf>,
    /// Variables for every script of the site.
    pub cgi_env: Vec<EnvVar>,
    /// What it answers with besides its files.
    pub pages: Pages,
    /// Whether a compressed sibling of a file (`a.css.br`, `.zst`, `.gz`) is sent in its place to a client that takes it.
    pub precompressed: bool,
    /// Fields of the replies to some paths.
    pub headers: Rules,
    /// What holds for some paths only.
    pub locations: Vec<Location>,
}

/// A program, or a folder of programs, at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountConfig {
    /// Decoded, begins with `/`, without a final slash (`/git`); the empty string mounts at the root.
    pub prefix: String,
    /// The program or the folder; absolute.
    pub target: PathBuf,
    /// Which of the two `target` is.
    pub kind: MountKind,
    /// Variables for the scripts of this mount; they win over the site's.
    pub env: Vec<EnvVar>,
    /// Whether its scripts get the Authorization field.
    pub pass_authorization: bool,
    /// Its scripts that run at the same time. `None`: what is left for it of the whole server's.
    pub running_max: Option<usize>,
    /// Its requests that wait for one of them to end. `None`: what is left for it of the whole server's.
    pub queued_max: Option<usize>,
    /// How its scripts are run, and for how long. `None`: as the server's. What is about the whole server is not asked here.
    pub cgi: Option<Box<CgiOptions>>,
}

impl MountConfig {
    /// A mount as it is when nothing more is said about it.
    pub fn new(prefix: String, target: PathBuf, kind: MountKind) -> MountConfig {
        MountConfig {
            prefix,
            target,
            kind,
            env: Vec::new(),
            pass_authorization: false,
            running_max: None,
            queued_max: None,
            cgi: None,
        }
    }
}

/// What a mount's target is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountKind {
    /// The next segment of the path names the script.
    Folder,
    /// One program; the rest of the path is its PATH_INFO.
    Program,
}

/// A variable of a script's environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvVar {
    /// `[A-Za-z_][A-Za-z0-9_]*`, and none of those that the server sets itself.
    pub name: String,
    /// Any bytes but NUL.
    pub value: OsString,
}

/// What becomes of a script that lives on after its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Linger {
    /// It may finish what it is doing, as long as it holds neither stdout nor stderr.
    #[default]
    Keep,
    /// It is ended, and all that it has started.
    Kill,
}

/// How scripts are run, and for how long (RFC 3875). The bounds of running and queued scripts hold for the whole server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgiOptions {
    /// Scripts that run at the same time.
    pub running_max: usize,
    /// Requests that wait for one of them to end; 503 beyond.
    pub queued_max: usize,
    /// How long a request waits; 503 beyond.
    pub queue_ms_max: u64,
    /// A script's header section; 502 beyond.
    pub head_bytes_max: usize,
    /// From the start of a script, or the last that it took of its request's body, to its first byte; 504 beyond.
    pub first_byte_ms_max: u64,
    /// A script that neither reads nor writes; 504, or a cut connection, beyond.
    pub idle_ms_max: u64,
    /// The whole life of a script. `None`: unlimited.
    pub total_ms_max: Option<u64>,
    /// From SIGTERM to SIGKILL.
    pub term_to_kill_ms: u64,
    /// How long a descendant may hold stdout open after the script itself has exited.
    pub held_stdout_ms_max: u64,
    /// How long the last chunk waits for the exit status, so that a script killed by a signal is not taken for a whole reply.
    pub exit_wait_ms_max: u64,
    /// How long a script may go on after its client closed its half of the connection and takes no more output.
    pub no_reader_ms_max: u64,
    /// A request body with a Content-Length. `None`: unlimited, since it is streamed. 413 beyond.
    pub body_bytes_max: Option<u64>,
    /// Of a request body, read ahead of a slow script; then the client waits.
    pub buffered_body_bytes_max: usize,
    /// Of a chunked body, kept in memory until its length is known; then in a temporary file.
    pub spool_memory_bytes_max: usize,
    /// Of a chunked body, in all; 413 beyond.
    pub spool_file_bytes_max: u64,
    /// What becomes of a script that lives on after its reply.
    pub linger: Linger,
    /// What scripts are bound by besides.
    pub bounds: ScriptBounds,
}

/// What scripts are bound by. If anything is asked for, [`helper`](ScriptBounds::helper) is needed; by default nothing is.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ScriptBounds {
    /// CPU time of one process, rounded up to seconds.
    pub cpu_ms_max: Option<u64>,
    /// Address space of one process.
    pub address_space_bytes_max: Option<u64>,
    /// Open descriptors of one process.
    pub open_files_max: Option<u64>,
    /// Processes of the scripts' user, all together. Root has no such bound.
    pub processes_max: Option<u64>,
    /// The longest file that may be written.
    pub file_bytes_max: Option<u64>,
    /// The longest core file.
    pub core_bytes_max: Option<u64>,
    /// The nice value; without it 19, or the server's own and 19 where that is negative.
    pub nice: Option<u8>,
    /// The umask; without it, the server's own.
    pub umask: Option<u16>,
    /// `USER` or `USER:GROUP`; without it, the server's own. Needs root.
    pub user: Option<String>,
    /// Whether each script gets a control group of its own.
    pub cgroup: Cgroup,
    /// A program that passes the arguments behind `cgi-exec` on to [`confine::main`](crate::rt::confine::main).
    pub helper: Option<PathBuf>,
}

/// Where the control groups of scripts are.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Cgroup {
    /// There are none.
    #[default]
    Off,
    /// Below the server's own, if that may be written to.
    Auto,
    /// Below this one.
    Below(PathBuf),
}

/// How files are kept and sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileOptions {
    /// The cache of each core; 0 turns it off.
    pub cache_bytes_max: usize,
    /// Whether directories are watched, so that a change shows at once. Without, it shows within 100 ms.
    pub watch: bool,
    /// The largest file that the cache keeps; larger ones are sent from the page cache.
    pub cached_file_bytes_max: usize,
    /// What a core reads files into that are not in the page cache.
    pub cold_buffer_bytes_max: usize,
    /// Bodies from memory of at least so many bytes are sent without a copy where the kernel can. `None`: never.
    pub send_zerocopy_bytes_min: Option<usize>,
    /// Ranges in one request; with more, Range is ignored.
    pub ranges_max: usize,
    /// Names in the listing of a folder.
    pub listing_entries_max: usize,
}

/// Where a line per request goes.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum AccessLog {
    /// Nowhere.
    #[default]
    Off,
    /// To standard output.
    Stdout,
    /// To the end of this file.
    File(PathBuf),
}

/// The port, where none was asked for.
pub const PORT_DEFAULT: u16 = 8080;

/// The most threads that may be asked for: as many as a `cpu_set_t` has CPUs.
pub const CORES_MAX: usize = 1024;

/// The longest file of users ([`Guard::htpasswd`](crate::site::auth::Guard::htpasswd)); what is beyond is not read.
pub const USERS_BYTES_MAX: u64 = 16 << 20;

/// The folder that is mounted without being asked for, and never served as files.
pub const CGI_BIN: &str = "cgi-bin";

/// The longest path of a Unix socket: `sun_path` less its NUL (unix(7)).
pub const UNIX_PATH_BYTES_MAX: usize = 107;

impl Default for Options {
    fn default() -> Options {
        Options {
            listen: vec![Listen::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT_DEFAULT)))],
            cores: None,
            engine: Engine::default(),
            sites: Vec::new(),
            limits: Limits::default(),
            requests_per_connection_max: None,
            connections_max: None,
            drain_ms_max: 30_000,
            drain_delay_ms: 0,
            upgrade_ms_max: 30_000,
            cgi: CgiOptions::default(),
            files: FileOptions::default(),
            access_log: AccessLog::default(),
            metrics: None,
            access_log_form: Form::default(),
            access_log_buffer_bytes_max: 4 << 20,
            trusted: Trusted::default(),
            proxy_protocol: ProxyProtocol::default(),
            conns_per_ip_max: None,
            user: None,
            inject: Inject::default(),
        }
    }
}

impl Default for CgiOptions {
    fn default() -> CgiOptions {
        CgiOptions {
            running_max: 64,
            queued_max: 256,
            queue_ms_max: 10_000,
            head_bytes_max: 64 << 10,
            first_byte_ms_max: 60_000,
            idle_ms_max: 300_000,
            total_ms_max: None,
            term_to_kill_ms: 5_000,
            held_stdout_ms_max: 5_000,
            exit_wait_ms_max: 100,
            no_reader_ms_max: 5_000,
            body_bytes_max: None,
            buffered_body_bytes_max: 256 << 10,
            spool_memory_bytes_max: 1 << 20,
            spool_file_bytes_max: 1 << 30,
            linger: Linger::Keep,
            bounds: ScriptBounds::default(),
        }
    }
}

impl Default for FileOptions {
    fn default() -> FileOptions {
        FileOptions {
            cache_bytes_max: 64 << 20,
            watch: true,
            cached_file_bytes_max: 32 << 10,
            cold_buffer_bytes_max: 2 << 20,
            send_zerocopy_bytes_min: None,
            ranges_max: 200,
            listing_entries_max: 10_000,
        }
    }
}

impl SiteConfig {
    /// The files below `root`, for every host, without programs; what `cgi-bin/` holds is hidden.
    pub fn files_only(root: PathBuf) -> SiteConfig {
        let hidden = vec![PathBuf::from(CGI_BIN)];
        SiteConfig {
            names: Vec::new(),
            root,
            mounts: Vec::new(),
            hidden,
            cgi_env: Vec::new(),
            precompressed: true,
            pages: Pages::default(),
            headers: Rules::default(),
            locations: Vec::new(),
        }
    }
}

impl Engine {
    /// Every engine, with the name it is asked for by.
    pub const NAMES: [(&'static str, Engine); 3] =
        [("auto", Engine::Auto), ("uring", Engine::Uring), ("epoll", Engine::Epoll)];
}

impl std::fmt::Display for Listen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Listen::Tcp(addr) => addr.fmt(f),
            Listen::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl std::fmt::Display for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Engine::Auto => "auto",
            Engine::Uring => "uring",
            Engine::Epoll => "epoll",
        })
    }
}
