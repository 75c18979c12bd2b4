//! The service manager that started this process, if one did: sockets that it listens on for us (sd_listen_fds(3)), and what it
//! wants to hear (sd_notify(3)).

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use ucaffeine::rt::inherited::{self, Bound};
use ucaffeine::serve::options::Listen;
use ucaffeine::serve::{Listener, Server};

use crate::EXIT_BIND;
use crate::instance::Failed;

/// No manager passes more; what says so was not made by one.
const SOCKETS_MAX: usize = 1024;

/// What this process was given, of the variables for it.
type Environment = [(OsString, OsString)];

fn set<'e>(environment: &'e Environment, name: &str) -> Option<&'e OsStr> {
    let found = environment.iter().find(|(known, text)| known == name && !text.is_empty());
    found.map(|(_, text)| text.as_os_str())
}

fn number(environment: &Environment, name: &str) -> Option<u64> {
    set(environment, name)?.to_str()?.parse().ok()
}

fn own_pid() -> u64 {
    u64::from(rustix::process::getpid().as_raw_nonzero().get().unsigned_abs())
}

/// The sockets that were passed to this very process, each on one socket for all cores. To be called before anything is opened.
///
/// # Errors
/// One of the descriptors is no listening stream socket.
pub(crate) fn passed(environment: &Environment) -> Result<Vec<Listener>, Failed> {
    if number(environment, "LISTEN_PID") != Some(own_pid()) {
        return Ok(Vec::new());
    }
    let count = number(environment, "LISTEN_FDS").and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
    let names = set(environment, "LISTEN_FDNAMES").unwrap_or_default().to_string_lossy();
    let name = |index: usize| names.split(':').nth(index).filter(|name| !name.is_empty()).unwrap_or("unknown");
    let refused = |why: String| Failed { code: EXIT_BIND, why: format!("LISTEN_FDS={count}: {why}") };
    if count > SOCKETS_MAX {
        return Err(refused(format!("more than {SOCKETS_MAX} sockets")));
    }
    let sockets = inherited::listening_sockets(count)
        .map_err(|number| refused(format!("descriptor {number} is no listening stream socket")))?;
    let listener = |(index, socket)| {
        let bound = match inherited::bound_to(&socket) {
            Ok(Bound::Tcp(address)) => {
                // Accepted sockets inherit it. A socket that will not have it is served all the same.
                let _ = rustix::net::sockopt::set_tcp_nodelay(&socket, true);
                Listen::Tcp(address)
            }
            Ok(Bound::Unix(path)) => Listen::Unix(PathBuf::from(OsString::from(OsStr::from_bytes(&path)))),
            Err(error) => return Err(refused(format!("{}: {error}", name(index)))),
        };
        tracing::info!("{bound} is the service manager's socket {:?}; all cores accept on it", name(index));
        Ok(Listener { asked: bound.clone(), bound, kept: true, for_metrics: false, sockets: vec![socket] })
    };
    sockets.into_iter().enumerate().map(listener).collect()
}

/// Who wants to hear how we are. Without a service manager, nobody does.
pub(crate) struct Manager {
    ear: Option<(UnixDatagram, SocketAddr)>,
    /// It wants to hear from us at least so often.
    watchdog: Option<Duration>,
}

impl Manager {
    /// By `NOTIFY_SOCKET` and `WATCHDOG_USEC`. What is meant for another process (`WATCHDOG_PID`) is meant for us as well, if we are
    /// to take its place.
    pub(crate) fn find(environment: &Environment, is_successor: bool) -> Manager {
        let ear = set(environment, "NOTIFY_SOCKET").and_then(|name| match open(name) {
            Ok(ear) => Some(ear),
            Err(error) => {
                tracing::warn!(%error, "NOTIFY_SOCKET={}: the service manager hears nothing", name.display());
                None
            }
        });
        let is_ours = is_successor || number(environment, "WATCHDOG_PID").is_none_or(|pid| pid == own_pid());
        let watchdog = number(environment, "WATCHDOG_USEC").filter(|&us| us > 0 && is_ours).map(Duration::from_micros);
        Manager { ear, watchdog }
    }

    /// It serves, or serves again; with a line about it.
    pub(crate) fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// A reload begins. [`ready`](Self::ready) ends it, whatever came of it.
    pub(crate) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let us = now.tv_sec.unsigned_abs() * 1_000_000 + now.tv_nsec.unsigned_abs() / 1_000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={us}\nSTATUS=reloading"));
    }

    /// It drains.
    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=draining");
    }

    /// Another process takes our place: what it says counts from now on.
    pub(crate) fn main_pid(&self, pid: u32) {
        self.tell(&format!("MAINPID={pid}"));
    }

    fn tell(&self, what: &str) {
        let Some((socket, to)) = &self.ear else { return };
        if let Err(error) = socket.send_to_addr(what.as_bytes(), to) {
            tracing::debug!(%error, "the service manager does not hear us");
        }
    }

    /// From now on it hears that we are alive, at twice the rate that it asks for, and only while every core takes its turns.
    pub(crate) fn watch(self: &Arc<Manager>, server: &Arc<Server>) {
        let Some(every) = self.watchdog.filter(|_| self.ear.is_some()).map(|most| most / 2) else { return };
        let (manager, server) = (Arc::clone(self), Arc::clone(server));
        let watch = move || {
            loop {
                match server.is_alive(every) {
                    true => manager.tell("WATCHDOG=1"),
                    false => {
                        tracing::error!("a core does not take its turns: the watchdog is not told that we are alive")
                    }
                }
                std::thread::sleep(every);
            }
        };
        if let Err(error) = std::thread::Builder::new().name("watchdog".into()).spawn(watch) {
            tracing::error!(%error, "no thread for the watchdog");
        }
    }
}

/// A path, or `@NAME` of the abstract namespace.
fn open(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let to = match name.as_bytes().split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
        Some((b'/', _)) => SocketAddr::from_pathname(name)?,
        _ => return Err(io::Error::new(io::ErrorKind::Unsupported, "neither a path nor an abstract name")),
    };
    Ok((UnixDatagram::unbound()?, to))
}
