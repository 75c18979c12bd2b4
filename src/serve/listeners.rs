//! The listening sockets of a server: made at its start, or taken over from somebody who listened there before; and given to
//! whoever takes its place.
//!
//! What waits in the backlog of a socket is lost when the last descriptor of that socket is closed, and not before. So nothing
//! is moved: a successor is given the very sockets, and every one of them is accepted from, also where it has fewer cores.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::rt::net::{self, Share, TcpListener};

use super::options::{Listen, Options};
use super::{StartError, holder};

/// An address, and the sockets that listen there.
#[derive(Debug)]
pub struct Listener {
    /// As it was asked for, perhaps with port 0.
    pub asked: Listen,
    /// Where it listens.
    pub bound: Listen,
    /// Somebody else keeps it, too (a service manager): it goes on listening without us.
    pub kept: bool,
    /// It is for those who watch the server: [`Options::metrics`].
    pub for_metrics: bool,
    /// One for each core; or one for all, where `kept` or a Unix socket.
    pub sockets: Vec<OwnedFd>,
}

/// An address of a server.
#[derive(Clone, Debug)]
pub(super) struct Address {
    asked: Listen,
    pub(super) bound: Listen,
    kept: bool,
}

/// A core's sockets, each with the number of its address.
pub(super) type Sockets = Vec<(usize, OwnedFd)>;

/// Which sockets go on listening without this server, by the number of their address.
pub(super) struct LivesOn {
    addresses: Vec<AtomicBool>,
    /// A successor serves those who come from now on.
    has_successor: AtomicBool,
}

/// The sockets of every core, new ones and those that were handed over. What was handed over and is not asked for is closed.
pub(super) fn listen_all(
    options: &Options,
    handed: Vec<Listener>,
    backlog: i32,
    cores: usize,
) -> Result<(Vec<Address>, Vec<Sockets>), StartError> {
    let mut handed = handed;
    let mut addresses = Vec::new();
    let mut sockets: Vec<Sockets> = (0..cores).map(|_| Vec::new()).collect();
    for (number, listen) in options.listen.iter().enumerate() {
        let failed = |error: io::Error| {
            let holder = holder::of(listen).filter(|_| error.kind() == io::ErrorKind::AddrInUse);
            StartError::Bind { listen: listen.clone(), error, holder }
        };
        let is_it = |handed: &Listener| !handed.for_metrics && handed.asked == *listen;
        let listener = match handed.iter().position(is_it) {
            Some(index) => handed.remove(index),
            None => bind(listen, backlog, cores).map_err(failed)?,
        };
        let Listener { asked, bound, kept, sockets: all, .. } = listener;
        let all = share_out(all, &bound, kept, backlog, cores).map_err(failed)?;
        addresses.push(Address { asked, bound, kept });
        for (index, socket) in all.into_iter().enumerate() {
            sockets[index % cores].push((number, socket));
        }
    }
    Ok((addresses, sockets))
}

/// Connections to the metrics that wait for a thread.
const METRICS_BACKLOG: i32 = 16;

/// The socket that metrics are told on: one that was handed over, or a new one. Where it listens comes first.
pub(super) fn listen_for_metrics(listen: &Listen, handed: &mut Vec<Listener>) -> Result<(Listen, OwnedFd), StartError> {
    let failed = |error: io::Error| {
        let holder = holder::of(listen).filter(|_| error.kind() == io::ErrorKind::AddrInUse);
        StartError::Bind { listen: listen.clone(), error, holder }
    };
    let is_it = |handed: &Listener| handed.for_metrics && handed.asked == *listen && !handed.sockets.is_empty();
    let given = handed.iter().position(is_it);
    let mut listener = match given {
        Some(index) => handed.remove(index),
        None => bind(listen, METRICS_BACKLOG, 1).map_err(failed)?,
    };
    Ok((listener.bound, listener.sockets.remove(0)))
}

fn bind(listen: &Listen, backlog: i32, cores: usize) -> io::Result<Listener> {
    let (bound, sockets) = match listen {
        Listen::Tcp(addr) => {
            let first = net::listen_tcp(*addr, backlog, Share::First)?;
            // Port 0 is a port now, and the other cores share that one.
            let addr = net::listening_on(&first)?;
            let others = (1..cores).map(|_| net::listen_tcp(addr, backlog, Share::Another));
            (Listen::Tcp(addr), std::iter::once(Ok(first)).chain(others).collect::<io::Result<_>>()?)
        }
        Listen::Unix(path) => (listen.clone(), vec![net::listen_unix(path, backlog)?]),
    };
    Ok(Listener { asked: listen.clone(), bound, kept: false, for_metrics: false, sockets })
}

/// At least one for each core, and every one that there is.
fn share_out(
    sockets: Vec<OwnedFd>,
    bound: &Listen,
    kept: bool,
    backlog: i32,
    cores: usize,
) -> io::Result<Vec<OwnedFd>> {
    let mut sockets = sockets;
    let given = sockets.len();
    for index in given..cores {
        let of_its_own = match bound {
            Listen::Tcp(addr) if !kept => net::listen_tcp(*addr, backlog, Share::Another).ok(),
            // Unix sockets have no SO_REUSEPORT, and a socket that somebody else keeps did not ask for it.
            _ => None,
        };
        // Who may no longer bind there (a port below 1024, another user) takes turns at what there is.
        let socket = of_its_own.map_or_else(|| sockets[index % given].try_clone(), Ok)?;
        sockets.push(socket);
    }
    Ok(sockets)
}

/// What the cores accept from, put together again: each socket once.
pub(super) fn gather(addresses: &[Address], of_cores: Vec<Sockets>) -> Vec<Listener> {
    let mut listeners: Vec<Listener> = addresses
        .iter()
        .map(|Address { asked, bound, kept }| Listener {
            asked: asked.clone(),
            bound: bound.clone(),
            kept: *kept,
            for_metrics: false,
            sockets: Vec::new(),
        })
        .collect();
    let mut seen = Vec::new();
    for (number, socket) in of_cores.into_iter().flatten() {
        let inode = rustix::fs::fstat(&socket).map(|facts| facts.st_ino).ok();
        if inode.is_none_or(|inode| !seen.contains(&inode)) {
            seen.extend(inode);
            listeners[number].sockets.push(socket);
        }
    }
    listeners
}

impl LivesOn {
    pub(super) fn new(options: &Options, handed: &[Listener]) -> LivesOn {
        let is_kept = |listen: &Listen| handed.iter().any(|handed| handed.kept && handed.asked == *listen);
        let addresses = options.listen.iter().map(|listen| AtomicBool::new(is_kept(listen))).collect();
        LivesOn { addresses, has_successor: AtomicBool::new(false) }
    }

    /// Somebody else listens on these from now on.
    pub(super) fn hand_over(&self, addresses: &[Address], taken: &[Listen]) {
        for (lives_on, address) in self.addresses.iter().zip(addresses) {
            lives_on.fetch_or(taken.contains(&address.asked), Ordering::AcqRel);
        }
        self.has_successor.store(true, Ordering::Release);
    }

    pub(super) fn has_successor(&self) -> bool {
        self.has_successor.load(Ordering::Acquire)
    }

    pub(super) fn holds(&self, number: usize) -> bool {
        self.addresses.get(number).is_some_and(|lives_on| lives_on.load(Ordering::Acquire))
    }
}

/// What a core accepts from, for as long as it does.
#[derive(Default)]
pub(super) struct Accepting(std::cell::RefCell<Vec<(usize, Weak<TcpListener>)>>);

impl Accepting {
    pub(super) fn add(&self, number: usize, listener: &Rc<TcpListener>) {
        self.0.borrow_mut().push((number, Rc::downgrade(listener)));
    }

    /// Another descriptor of each.
    ///
    /// # Errors
    /// EMFILE.
    pub(super) fn try_clone(&self) -> io::Result<Sockets> {
        let all = self.0.borrow();
        let open = all.iter().filter_map(|(number, listener)| Some((*number, listener.upgrade()?)));
        open.map(|(number, listener)| Ok((number, listener.try_clone_fd()?))).collect()
    }
}
