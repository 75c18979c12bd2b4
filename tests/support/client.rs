//! A client that writes raw bytes and reads responses strictly: what a lenient one would forgive fails the test.

use super::HANG;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;

/// A connected TCP socket whose waits end in an error instead of a hang.
#[track_caller]
pub fn tcp(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&addr, HANG).unwrap_or_else(|e| panic!("connect to {addr}: {e}"));
    stream.set_read_timeout(Some(HANG)).expect("read timeout");
    stream.set_write_timeout(Some(HANG)).expect("write timeout");
    stream.set_nodelay(true).expect("nodelay");
    stream
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// One connection.
pub struct Client {
    stream: Stream,
    /// Received and not yet consumed.
    pending: Vec<u8>,
    /// True once the peer has sent FIN or RST.
    ended: bool,
    /// What goes into the Host field of requests built here.
    host: String,
}

/// How the end of a body was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// The response has no body by its nature (1xx, 204, 304, HEAD).
    Bodyless,
    /// Content-Length.
    Length,
    /// Transfer-Encoding: chunked.
    Chunked,
    /// The end of the connection.
    Close,
}

/// One response.
#[derive(Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The whole status line, without its line end.
    pub status_line: String,
    /// The fields in order, names in lower case.
    pub fields: Vec<(String, String)>,
    /// The content, decoded.
    pub body: Vec<u8>,
    /// How the body ended.
    pub framing: Framing,
    /// False when the connection ended before the body did.
    pub complete: bool,
}

impl Client {
    /// A new TCP connection.
    #[track_caller]
    pub fn connect(addr: SocketAddr) -> Client {
        Client { stream: Stream::Tcp(tcp(addr)), pending: Vec::new(), ended: false, host: addr.to_string() }
    }

    /// A new connection from another address of this machine: all of 127.0.0.0/8 are.
    #[track_caller]
    pub fn connect_from(source: std::net::IpAddr, addr: SocketAddr) -> Client {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};
        let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None).expect("a socket");
        bind(&socket, &SocketAddr::new(source, 0)).unwrap_or_else(|e| panic!("bind to {source}: {e}"));
        connect(&socket, &addr).unwrap_or_else(|e| panic!("connect to {addr}: {e}"));
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(HANG)).expect("read timeout");
        stream.set_write_timeout(Some(HANG)).expect("write timeout");
        Client { stream: Stream::Tcp(stream), pending: Vec::new(), ended: false, host: addr.to_string() }
    }

    /// A new connection to a Unix-domain listener.
    #[track_caller]
    pub fn connect_unix(path: &std::path::Path) -> Client {
        let stream = UnixStream::connect(path).unwrap_or_else(|e| panic!("connect to {}: {e}", path.display()));
        stream.set_read_timeout(Some(HANG)).expect("read timeout");
        stream.set_write_timeout(Some(HANG)).expect("write timeout");
        Client { stream: Stream::Unix(stream), pending: Vec::new(), ended: false, host: "localhost".into() }
    }

    /// Writes bytes as they are.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Client {
        self.try_send(bytes).expect("send");
        self
    }

    /// Writes bytes to a server that may have closed already.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        match &mut self.stream {
            Stream::Tcp(stream) => stream.write_all(bytes.as_ref()),
            Stream::Unix(stream) => stream.write_all(bytes.as_ref()),
        }
    }

    /// Writes a request head built from lines; `{host}` stands for the Host field's value.
    #[track_caller]
    pub fn head(&mut self, lines: &[&str]) -> &mut Client {
        let text: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        let text = text.replace("{host}", &self.host.clone());
        self.send(format!("{text}\r\n"))
    }

    /// Writes a bodyless request with these further field lines, and reads its response.
    #[track_caller]
    pub fn request(&mut self, method: &str, target: &str, fields: &[&str]) -> Response {
        let line = format!("{method} {target} HTTP/1.1");
        let mut lines = vec![line.as_str(), "Host: {host}"];
        lines.extend_from_slice(fields);
        self.head(&lines);
        self.read_for(method)
    }

    /// GET, and its response.
    #[track_caller]
    pub fn get(&mut self, target: &str) -> Response {
        self.request("GET", target, &[])
    }

    /// POST by Content-Length, and its response.
    #[track_caller]
    pub fn post(&mut self, target: &str, content_type: &str, body: &[u8]) -> Response {
        let (line, length) = (format!("POST {target} HTTP/1.1"), format!("Content-Length: {}", body.len()));
        self.head(&[&line, "Host: {host}", &format!("Content-Type: {content_type}"), &length]);
        self.send(body).read()
    }

    /// Reads one whole response to a request that was not HEAD; one that is cut short fails the test.
    #[track_caller]
    pub fn read(&mut self) -> Response {
        self.read_for("GET")
    }

    /// Reads one whole response to a request of that method.
    #[track_caller]
    pub fn read_for(&mut self, method: &str) -> Response {
        let response = self.read_cut(method);
        assert!(response.complete, "the response was cut short: {response:?}");
        response
    }

    /// Reads one response that may be cut short.
    #[track_caller]
    pub fn read_cut(&mut self, method: &str) -> Response {
        let mut response = self.read_head();
        match framing_of(method, &response) {
            Framing::Bodyless => response.framing = Framing::Bodyless,
            Framing::Length => {
                let len = response.field("content-length").expect("just seen").parse().expect("a length");
                response.complete = self.fill(len);
                response.body = self.take(len.min(self.pending.len()));
                response.framing = Framing::Length;
            }
            Framing::Chunked => {
                response.framing = Framing::Chunked;
                response.complete = self.read_chunks(&mut response.body);
            }
            Framing::Close => {
                while self.pull() {}
                response.body = std::mem::take(&mut self.pending);
            }
        }
        response
    }

    /// Bytes that have arrived and that nobody has read.
    pub fn arrived(&self) -> u64 {
        let waiting = match &self.stream {
            Stream::Tcp(stream) => rustix::io::ioctl_fionread(stream),
            Stream::Unix(stream) => rustix::io::ioctl_fionread(stream),
        };
        waiting.expect("FIONREAD")
    }

    /// Reads a head only; the body stays in the connection. `framing` is what the fields say.
    #[track_caller]
    pub fn read_head(&mut self) -> Response {
        let end = self
            .find(b"\r\n\r\n")
            .unwrap_or_else(|| panic!("the connection ended before a whole head: {}", show(&self.pending)));
        let head = self.take(end + 4);
        let response = parse_head(&head);
        if response.status >= 200 {
            let dates = response.fields.iter().filter(|(name, _)| name == "date").count();
            assert_eq!(dates, 1, "a final response carries one Date: {response:?}");
        }
        response
    }

    /// Reads exactly that many bytes of what follows a head.
    #[track_caller]
    pub fn read_exact(&mut self, len: usize) -> Vec<u8> {
        assert!(self.fill(len), "the connection ended after {} of {len} bytes", self.pending.len());
        self.take(len)
    }

    /// Reads one chunk of a chunked body; `None` at the last chunk.
    #[track_caller]
    pub fn read_chunk(&mut self) -> Option<Vec<u8>> {
        self.try_chunk().expect("the connection ended inside a chunked body")
    }

    /// Reads until these bytes have come; returns everything up to and with them.
    #[track_caller]
    pub fn read_until(&mut self, needle: &[u8]) -> Vec<u8> {
        let Some(at) = self.find(needle) else { panic!("{} never came; got {}", show(needle), show(&self.pending)) };
        self.take(at + needle.len())
    }

    /// The server must close now (FIN or RST), with nothing unread.
    #[track_caller]
    pub fn expect_close(&mut self) {
        while self.pull() {}
        assert!(self.pending.is_empty(), "after the last response: {}", show(&self.pending));
    }

    /// Everything until the server closes.
    #[track_caller]
    pub fn read_to_end(&mut self) -> Vec<u8> {
        while self.pull() {}
        std::mem::take(&mut self.pending)
    }

    /// So many bytes, or fewer where the server closes before.
    #[track_caller]
    pub fn read_to_end_or(&mut self, len: usize) -> Vec<u8> {
        self.fill(len);
        self.take(len.min(self.pending.len()))
    }

    /// Half-closes: the server sees the end of input and can still answer.
    pub fn finish(&mut self) -> &mut Client {
        let _ = match &self.stream {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
        self
    }

    /// Leaves with RST, as a client that is killed does.
    pub fn reset(self) {
        if let Stream::Tcp(stream) = &self.stream {
            let linger = Some(std::time::Duration::ZERO);
            rustix::net::sockopt::set_socket_linger(stream, linger).expect("SO_LINGER");
        }
    }

    /// The socket, for a test that sets options on it.
    pub fn socket(&self) -> &TcpStream {
        match &self.stream {
            Stream::Tcp(stream) => stream,
            Stream::Unix(_) => panic!("not a TCP connection"),
        }
    }

    /// Receives once more; false at the end. A timeout is a hang and panics.
    #[track_caller]
    fn pull(&mut self) -> bool {
        if self.ended {
            return false;
        }
        let mut buf = vec![0; 64 << 10];
        let got = match &mut self.stream {
            Stream::Tcp(stream) => stream.read(&mut buf),
            Stream::Unix(stream) => stream.read(&mut buf),
        };
        match got {
            Ok(0) => self.ended = true,
            Ok(n) => self.pending.extend_from_slice(&buf[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => self.ended = true,
            Err(e) => panic!("waiting for the server: {e}; so far {}", show(&self.pending)),
        }
        !self.ended
    }

    #[track_caller]
    fn fill(&mut self, len: usize) -> bool {
        while self.pending.len() < len && self.pull() {}
        self.pending.len() >= len
    }

    #[track_caller]
    fn find(&mut self, needle: &[u8]) -> Option<usize> {
        let mut from = 0;
        loop {
            if let Some(at) = self.pending[from..].windows(needle.len()).position(|w| w == needle) {
                return Some(from + at);
            }
            from = self.pending.len().saturating_sub(needle.len() - 1);
            if !self.pull() {
                return None;
            }
        }
    }

    fn take(&mut self, len: usize) -> Vec<u8> {
        let rest = self.pending.split_off(len);
        std::mem::replace(&mut self.pending, rest)
    }

    #[track_caller]
    fn read_chunks(&mut self, body: &mut Vec<u8>) -> bool {
        loop {
            match self.try_chunk() {
                Some(Some(chunk)) => body.extend_from_slice(&chunk),
                Some(None) => return true,
                None => return false,
            }
        }
    }

    /// `Some(None)` is the last chunk (this server sends no trailers), `None` a connection that ended first.
    #[track_caller]
    fn try_chunk(&mut self) -> Option<Option<Vec<u8>>> {
        let end = self.find(b"\r\n")?;
        let line = self.take(end + 2);
        let digits = std::str::from_utf8(&line[..end]).expect("a chunk size is ASCII");
        let size = usize::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("not a chunk size: {digits:?}"));
        if !self.fill(size + 2) {
            return None;
        }
        let mut chunk = self.take(size + 2);
        assert!(chunk.ends_with(b"\r\n"), "a chunk of {size} bytes is followed by CRLF");
        chunk.truncate(size);
        Some((size > 0).then_some(chunk))
    }
}

impl Response {
    /// The value of a field that occurs at most once.
    #[track_caller]
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str());
        let first = values.next();
        assert_eq!(values.next(), None, "{name} occurs twice: {self:?}");
        first
    }

    /// The value of a field that must be there.
    #[track_caller]
    pub fn must(&self, name: &str) -> &str {
        self.field(name).unwrap_or_else(|| panic!("no {name}: {self:?}"))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// True when the response says that the connection ends.
    pub fn closes(&self) -> bool {
        self.field("connection").is_some_and(|v| v.eq_ignore_ascii_case("close"))
    }

    /// Asserts the status, and shows the whole response when it is another one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Response {
        assert_eq!(self.status, status, "{self:?}");
        self
    }
}

/// What a failed test shows: the fields, and as much of the body as a person reads.
impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{} ({:?}, complete: {})", self.status_line, self.framing, self.complete)?;
        for (name, value) in &self.fields {
            writeln!(f, "    {name}: {value}")?;
        }
        write!(f, "    {} bytes: {}", self.body.len(), show(&self.body))
    }
}

/// The beginning of some bytes, printable.
fn show(bytes: &[u8]) -> String {
    let shown = bytes[..bytes.len().min(400)].escape_ascii().to_string();
    if bytes.len() > 400 { shown + "..." } else { shown }
}

/// How the body of a response to `method` ends (RFC 9112 section 6.3).
fn framing_of(method: &str, response: &Response) -> Framing {
    let chunked = response.field("transfer-encoding").is_some();
    let length = response.field("content-length").is_some();
    assert!(!(chunked && length), "Content-Length together with Transfer-Encoding: {response:?}");
    match () {
        () if method == "HEAD" || response.status < 200 || matches!(response.status, 204 | 304) => Framing::Bodyless,
        () if chunked => Framing::Chunked,
        () if length => Framing::Length,
        () => Framing::Close,
    }
}

fn parse_head(head: &[u8]) -> Response {
    let text =
        std::str::from_utf8(head).expect("this server's heads are ASCII").strip_suffix("\r\n\r\n").expect("just found");
    assert!(!text.replace("\r\n", "").contains(['\r', '\n', '\0']), "bare CR, LF or NUL in {text:?}");
    let mut lines = text.split("\r\n");
    let status_line = lines.next().expect("split yields one").to_owned();
    let code = status_line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).unwrap_or_default();
    let status = code.parse().unwrap_or_else(|_| panic!("not a status line: {status_line:?}"));
    assert!(status_line.get(12..13).is_none_or(|c| c == " "), "not a status line: {status_line:?}");
    let fields = lines.map(parse_field).collect();
    Response { status, status_line, fields, body: Vec::new(), framing: Framing::Close, complete: true }
}

fn parse_field(line: &str) -> (String, String) {
    let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("a field line without a colon: {line:?}"));
    let token = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c);
    assert!(!name.is_empty() && name.bytes().all(token), "not a field name: {line:?}");
    (name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned())
}
