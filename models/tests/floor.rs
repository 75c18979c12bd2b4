//! The floor from outside: what makes its numbers honest is that it answers like a server under every kind of client.

#[path = "../../tests/tcp_queues/mod.rs"]
mod tcp_queues;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const REQUEST: &[u8] = b"GET /1k.html HTTP/1.1\r\nHost: localhost\r\n\r\n";
const BODY_BYTES: usize = 1024;

struct Floor {
    process: Child,
    address: String,
}

impl Floor {
    fn start() -> Floor {
        let mut process = Command::new(env!("CARGO_BIN_EXE_models"))
            .args(["floor", "--port", "0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().trim_start_matches("http://").trim_end_matches('/').to_string();
        Floor { process, address }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    fn stop(mut self, signal: &str) {
        Command::new("kill").args([signal, &self.process.id().to_string()]).status().unwrap();
        assert_eq!(self.process.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Reads whole replies, and checks each.
fn read_replies(stream: &TcpStream, count: usize) {
    let mut reader = BufReader::new(stream);
    for number in 0..count {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(reader.read_line(&mut head).unwrap(), 0, "end of stream in reply {number}");
        }
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("Content-Length: 1024\r\n"), "{head}");
        let mut body = [0; BODY_BYTES];
        reader.read_exact(&mut body).unwrap();
        assert!(body.iter().all(|&byte| byte == b'.'));
    }
    assert!(reader.buffer().is_empty());
}

#[test]
fn keep_alive_and_pipelined_requests() {
    let floor = Floor::start();
    let mut stream = floor.connect();
    for depth in [1, 1, 16, 3, 90] {
        stream.write_all(&REQUEST.repeat(depth)).unwrap();
        read_replies(&stream, depth);
    }
    floor.stop("-TERM");
}

#[test]
fn heads_in_pieces() {
    let floor = Floor::start();
    let mut stream = floor.connect();
    for _ in 0..2 {
        for byte in REQUEST {
            stream.write_all(std::slice::from_ref(byte)).unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
        read_replies(&stream, 1);
    }
    let both = REQUEST.repeat(2);
    let (first, second) = both.split_at(60);
    stream.write_all(first).unwrap();
    read_replies(&stream, 1);
    stream.write_all(second).unwrap();
    read_replies(&stream, 1);
    floor.stop("-INT");
}

#[test]
fn close_means_close() {
    let floor = Floor::start();
    for first in [0, 1, 5] {
        let mut stream = floor.connect();
        let close = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        stream.write_all(&[&REQUEST.repeat(first), close.as_slice()].concat()).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        let heads = all.windows(15).filter(|window| window == b"HTTP/1.1 200 OK").count();
        assert_eq!(heads, first + 1);
        assert!(all.ends_with(&[b'.'; BODY_BYTES]));
    }
    floor.stop("-TERM");
}

/// One exchange, for its length.
fn head_and_body_bytes(stream: &mut TcpStream) -> usize {
    stream.write_all(REQUEST).unwrap();
    let mut reply = Vec::new();
    while !reply.ends_with(&[b'.'; BODY_BYTES]) {
        let mut part = [0; 4096];
        let count = stream.read(&mut part).unwrap();
        assert_ne!(count, 0, "end of stream");
        reply.extend_from_slice(&part[..count]);
    }
    reply.len()
}

/// What TCP holds for the client: unacknowledged at the server's end, unread at ours.
fn held_by_sockets(stream: &TcpStream) -> usize {
    let [ours, theirs] = [stream.local_addr(), stream.peer_addr()].map(Result::unwrap);
    tcp_queues::queues(theirs, ours)[0] + tcp_queues::queues(ours, theirs)[1]
}

#[test]
fn a_client_that_reads_late_gets_every_byte_in_order() {
    let floor = Floor::start();
    let mut stream = floor.connect();
    // More than the sockets hold, in bursts, so that sends are short and replies pile up in the server. They hold 2.7 MB under
    // cubic and 4 under BBR; 1 MiB beyond that the server cuts.
    let (mut bursts, reply_bytes) = (0, head_and_body_bytes(&mut stream));
    while bursts * 30 * reply_bytes < held_by_sockets(&stream) + (256 << 10) {
        stream.write_all(&REQUEST.repeat(30)).unwrap();
        bursts += 1;
        std::thread::sleep(Duration::from_millis(2));
        assert!(bursts < 1_000, "the sockets hold {} bytes", held_by_sockets(&stream));
    }
    read_replies(&stream, bursts * 30);
    stream.write_all(REQUEST).unwrap();
    read_replies(&stream, 1);
    floor.stop("-TERM");
}

#[test]
fn a_client_that_never_reads_is_cut() {
    let floor = Floor::start();
    let mut stream = floor.connect();
    stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
    let error = loop {
        if let Err(error) = stream.write_all(&REQUEST.repeat(100)) {
            break error;
        }
    };
    assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
    floor.stop("-TERM");
}

#[test]
fn resets_half_closes_and_silence_leave_no_trace() {
    let floor = Floor::start();
    for round in 0..600 {
        let mut stream = floor.connect();
        match round % 4 {
            0 => {}
            1 => stream.write_all(&REQUEST[..10]).unwrap(),
            // Dropped with a reply unread: the kernel sends a reset.
            2 => stream.write_all(&REQUEST.repeat(20)).unwrap(),
            _ => {
                stream.write_all(REQUEST).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
                read_replies(&stream, 1);
            }
        }
    }
    // More at once than there are receive buffers: some receives run into ENOBUFS and are armed again.
    let mut streams: Vec<TcpStream> = (0..400).map(|_| floor.connect()).collect();
    for _ in 0..3 {
        for stream in &mut streams {
            stream.write_all(REQUEST).unwrap();
        }
        for stream in &streams {
            read_replies(stream, 1);
        }
    }
    floor.stop("-TERM");
}
