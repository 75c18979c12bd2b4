//! A server that answers as scripted, on a thread of its own: what the generator is checked against.
//!
//! Plain blocking sockets, a thread for each connection, and the system's sleep: nothing that the generator uses.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How each request is answered: the number of the request, from 0, to what happens.
pub type Script = Arc<dyn Fn(u64) -> Reply + Send + Sync>;

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// How long to wait before it.
    pub delay: Duration,
    /// The bytes, head and all.
    pub bytes: Vec<u8>,
    /// Whether to close the connection behind it.
    pub closes: bool,
}

/// A running one; dropped, it stops.
pub struct Sink {
    addr: SocketAddr,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

struct Shared {
    script: Script,
    stopping: AtomicBool,
    requests: AtomicU64,
    delays: Mutex<Delays>,
    /// By number, so that those that are over can be taken out.
    streams: Mutex<HashMap<u64, TcpStream>>,
}

/// The delays as they were: a sleep lasts longer than it was asked to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delays {
    /// How many.
    pub count: u64,
    /// All of them together.
    pub sum_ns: u64,
    /// The longest.
    pub longest_ns: u64,
}

impl Reply {
    /// 200 with that body.
    #[must_use]
    pub fn ok(body: &[u8]) -> Reply {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        Reply { delay: Duration::ZERO, bytes: [head.as_bytes(), body].concat(), closes: false }
    }

    /// After a delay.
    #[must_use]
    pub fn after(self, delay: Duration) -> Reply {
        Reply { delay, ..self }
    }

    /// And then the end.
    #[must_use]
    pub fn closing(self) -> Reply {
        Reply { closes: true, ..self }
    }
}

impl Sink {
    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// bind(2).
    pub fn start(script: Script) -> io::Result<Sink> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            script,
            stopping: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            delays: Mutex::default(),
            streams: Mutex::default(),
        });
        let for_thread = Arc::clone(&shared);
        let listener = std::thread::spawn(move || for_thread.listen(&listener));
        Ok(Sink { addr, shared, listener: Some(listener) })
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/", self.addr)
    }

    /// Requests that came whole.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// The delays so far, as they were.
    #[must_use]
    pub fn delays(&self) -> Delays {
        *self.shared.delays.lock().expect("nobody panics with it")
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Wakes the accept.
        let _ = TcpStream::connect(self.addr);
        for stream in self.shared.streams.lock().expect("nobody panics with it").values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let _ = self.listener.take().map(JoinHandle::join);
    }
}

impl Shared {
    fn listen(self: &Arc<Shared>, listener: &TcpListener) {
        let mut threads = Vec::new();
        for (number, stream) in (0..).zip(listener.incoming()) {
            if self.stopping.load(Ordering::SeqCst) {
                break;
            }
            let Ok(stream) = stream else { continue };
            if let Ok(other) = stream.try_clone() {
                self.streams.lock().expect("nobody panics with it").insert(number, other);
            }
            let shared = Arc::clone(self);
            // The end of a client is no fault of the sink.
            threads.push(std::thread::spawn(move || {
                let _ = shared.serve(&stream);
                // Not by dropping it: there is the other descriptor.
                let _ = stream.shutdown(Shutdown::Both);
                shared.streams.lock().expect("nobody panics with it").remove(&number);
            }));
        }
        // Those that came while it stopped.
        for stream in self.streams.lock().expect("nobody panics with it").values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        threads.into_iter().for_each(|thread| drop(thread.join()));
    }

    /// Requests have no bodies here: each ends with an empty line.
    fn serve(&self, mut stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut received = Vec::new();
        let mut buffer = [0; 16 << 10];
        loop {
            while let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") {
                received.drain(..end + 4);
                let reply = (self.script)(self.requests.fetch_add(1, Ordering::SeqCst));
                self.delay(reply.delay);
                stream.write_all(&reply.bytes)?;
                if reply.closes {
                    return Ok(());
                }
            }
            match stream.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => received.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn delay(&self, delay: Duration) {
        if delay.is_zero() {
            return;
        }
        let begun = Instant::now();
        std::thread::sleep(delay);
        let took_ns = begun.elapsed().as_nanos() as u64;
        let mut delays = self.delays.lock().expect("nobody panics with it");
        delays.count += 1;
        delays.sum_ns += took_ns;
        delays.longest_ns = delays.longest_ns.max(took_ns);
    }
}
