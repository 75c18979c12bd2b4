//! One connection's parts, and waiting on them with a deadline.

use std::cell::OnceCell;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::Poll;

use crate::http::Millis;
use crate::http::conn::Conn;
use crate::rt::RecvBuf;
use crate::rt::net::TcpStream;
use crate::rt::time::{Instant, Sleep, sleep_until};
use crate::rt::{self, join2};

use super::access_log::Logged;
use super::input::Input;
use super::origin::Origin;
use super::places::Place;
use super::transfer::{Cut, Unsent};
use super::worker::Worker;

/// With so much that it has not sent once, a socket that TCP paces (BBR) is full: one buffer that TCP's timer sends, and the next.
/// A connection that is now and then short of data keeps BBR's estimate of the bandwidth; behind a long queue it sinks to what the
/// client happened to take, and each buffer waits for a timer (10 MiB: 3,300 us of CPU at 170 a second without this bound, 1,700
/// at 440 with it; docs/decisions/0014-large-files.md). Where TCP does not pace, 10 MiB would cost 1.7 times as much.
const PACED_UNSENT_BYTES_MAX: u32 = 128 << 10;

/// What the bytes travel through. TLS will be another variant.
pub(super) enum Transport {
    Plain(TcpStream),
}

impl Transport {
    pub(super) fn stream(&self) -> &TcpStream {
        let Transport::Plain(stream) = self;
        stream
    }

    /// Whether the kernel can copy a file into it directly.
    pub(super) fn can_sendfile(&self) -> bool {
        match self {
            Transport::Plain(_) => true,
        }
    }
}

/// A connection.
pub(super) struct Link {
    pub(super) transport: Transport,
    pub(super) conn: Logged,
    pub(super) input: Input,
    /// Replies that wait to be sent. Without capacity while the connection is idle.
    pub(super) out: Vec<u8>,
    pub(super) timer: Sleep,
    /// When the request came that is being answered since an earlier turn, on the core's clock; 0: there is none.
    pub(super) since_ns: u64,
    /// Who the client is, once somebody asked.
    pub(super) origin: Option<Box<Origin>>,
    /// A process-wide descriptor of the socket, once a file has been sent that needs one.
    installed: Option<Box<Installed>>,
    /// Both ends, once a script was to be told.
    addresses: OnceCell<Box<Addresses>>,
}

/// See [`Link::install`].
struct Installed {
    socket: OwnedFd,
    is_paced: bool,
    /// The rest of a file that is on its way.
    unsent: Option<Unsent>,
    _place: Place,
}

/// Both ends of a connection; `None` on a Unix socket.
#[derive(Clone, Copy, Default)]
pub(super) struct Addresses {
    pub(super) remote: Option<SocketAddr>,
    pub(super) local: Option<SocketAddr>,
}

/// The time was over.
pub(super) struct Late;

impl Link {
    pub(super) fn new(stream: TcpStream, now_ms: Millis) -> Link {
        Link {
            transport: Transport::Plain(stream),
            conn: Logged::new(Conn::new(now_ms)),
            input: Input::Empty,
            out: Vec::new(),
            timer: sleep_until(Instant::from_millis(now_ms)),
            since_ns: 0,
            origin: None,
            installed: None,
            addresses: OnceCell::new(),
        }
    }

    /// A process-wide descriptor, for what has no place on the ring. It is kept for the next file. False where there is none
    /// to be had: others need some, too.
    pub(super) async fn install(&mut self, worker: &Worker) -> bool {
        if self.installed.is_none()
            && self.transport.can_sendfile()
            && let Some(place) = worker.installed.place()
            && let Ok(socket) = self.transport.stream().install().await
        {
            let is_paced = rt::net::is_paced(&socket);
            if is_paced {
                // Without it everything works, and costs more.
                let _ = rt::net::set_notsent_lowat(&socket, PACED_UNSENT_BYTES_MAX);
            }
            self.installed = Some(Box::new(Installed { socket, is_paced, unsent: None, _place: place }));
        }
        self.installed.is_some()
    }

    pub(super) fn is_installed(&self) -> bool {
        self.installed.is_some()
    }

    /// TCP sends what it is given by a timer of its own.
    pub(super) fn is_paced(&self) -> bool {
        self.installed.as_ref().is_some_and(|installed| installed.is_paced)
    }

    /// Leaves a file to be sent, on a connection with a descriptor.
    pub(super) fn set_unsent(&mut self, unsent: Unsent) {
        if let Some(installed) = &mut self.installed {
            installed.unsent = Some(unsent);
        }
    }

    /// The file that is on its way.
    pub(super) fn unsent(&mut self) -> Option<&mut Unsent> {
        self.installed.as_mut()?.unsent.as_mut()
    }

    pub(super) fn take_unsent(&mut self) -> Option<Unsent> {
        self.installed.as_mut()?.unsent.take()
    }

    pub(super) fn socket(&self) -> Option<&OwnedFd> {
        self.installed.as_ref().map(|installed| &installed.socket)
    }

    /// After a file: an idle connection must not keep what a busy one lacks.
    pub(super) fn uninstall_if_crowded(&mut self, worker: &Worker) {
        if worker.installed.is_crowded() {
            self.installed = None;
        }
    }

    /// The next bytes from the client, no later than `until`.
    pub(super) fn recv(&mut self, until: Millis) -> impl Future<Output = Result<io::Result<Option<RecvBuf>>, Late>> {
        let stream = self.transport.stream();
        by(&mut self.timer, until, poll_fn(|context| stream.poll_recv(context)))
    }
}

impl Link {
    /// What a proxy says about the connection that it forwards comes before what the kernel knows.
    pub(super) fn set_addresses(&self, addresses: Addresses) {
        let _ = self.addresses.set(Box::new(addresses));
    }

    /// Asked of the kernel once a connection: our own end costs a descriptor for a moment.
    pub(super) async fn addresses(&self) -> Addresses {
        if let Some(known) = self.addresses.get() {
            return **known;
        }
        let stream = self.transport.stream();
        let (remote, local) = join2(stream.peer_addr(), stream.local_addr()).await;
        **self.addresses.get_or_init(|| Box::new(Addresses { remote: remote.ok(), local: local.ok() }))
    }

    /// Waits for more of a body, no later than `until`. What being late means is for `http` to say, at the next look.
    pub(super) async fn more(&mut self, until: Millis) -> Result<(), Cut> {
        match self.recv(until).await {
            Ok(Ok(Some(bytes))) => self.input.push(bytes),
            Ok(Ok(None)) => self.conn.end_of_input(),
            Ok(Err(_reset)) => return Err(Cut),
            Err(Late) => {}
        }
        Ok(())
    }
}

/// `future`'s output, unless it is not there by `until`; then it is dropped.
///
/// Not an `async fn`: that would keep the future twice, as an argument and where it is pinned, in every connection.
pub(super) fn by<F: Future + Unpin>(
    timer: &mut Sleep,
    until: Millis,
    mut future: F,
) -> impl Future<Output = Result<F::Output, Late>> {
    timer.reset(Instant::from_millis(until));
    poll_fn(move |context| {
        if let Poll::Ready(output) = Pin::new(&mut future).poll(context) {
            return Poll::Ready(Ok(output));
        }
        timer.poll_expired(context).map(|()| Err(Late))
    })
}
