//! Accepting at the end of the descriptor table: nobody is cut, nobody is forgotten, and a full table costs nothing.

mod rt_support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream as Client};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use rt_support::*;
use ucaffeine::rt::{self, net::TcpStream};

fn thirty_two_slots() -> rt::Builder {
    rt::Builder::new().direct_slots(32).recv_buffers(64, 4096)
}

/// Clients that each send a byte and expect it back. On TCP a full backlog drops SYNs, and the client tries again after 1,
/// 3, 7 s; on a Unix socket it just waits.
fn clients(addr: SocketAddr, count: usize) -> Vec<JoinHandle<()>> {
    spawn_clients(count, move || Client::connect(addr).unwrap())
}

fn unix_clients(path: &Path, count: usize) -> Vec<JoinHandle<()>> {
    let path = path.to_owned();
    spawn_clients(count, move || UnixStream::connect(&path).unwrap())
}

fn spawn_clients<S: Read + Write>(
    count: usize,
    connect: impl Fn() -> S + Clone + Send + 'static,
) -> Vec<JoinHandle<()>> {
    let client = move || {
        let mut client = connect();
        client.write_all(b"?").unwrap();
        let mut byte = [0];
        client.read_exact(&mut byte).expect("served, not cut");
        assert_eq!(byte, *b"?");
    };
    (0..count).map(|_| std::thread::Builder::new().stack_size(64 << 10).spawn(client.clone()).unwrap()).collect()
}

async fn join_all(clients: Vec<JoinHandle<()>>) {
    for client in clients {
        join(client).await;
    }
}

async fn echo_once(stream: TcpStream, hold: Duration) {
    if let Ok(Some(data)) = stream.recv().await {
        rt::time::sleep(hold).await;
        let _ = stream.write_all(data.to_vec()).await;
    }
}

#[test]
fn two_hundred_clients_and_thirty_two_slots() {
    on_core(thirty_two_slots(), || async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = rt::net::UnixListener::bind_unix(&path).unwrap();
        let clients = unix_clients(&path, 200);
        for _ in 0..200 {
            rt::spawn_detached(echo_once(listener.accept().await.unwrap(), Duration::from_millis(3)));
            assert!(rt::stats().direct_used <= 32);
        }
        until(|| rt::stats().direct_used == 0).await;
        join_all(clients).await;
    });
}

/// Turns in which nothing happens, with `held` connections open, `queued` in the backlog, and a task that accepts.
async fn idle_turns(held: usize, queued: usize) -> u64 {
    let (listener, addr) = listen();
    let mut kept = Vec::new();
    for _ in 0..held {
        kept.push(pair(&listener).await);
    }
    let queued: Vec<_> = (0..queued).map(|_| Client::connect(addr).unwrap()).collect();
    let more = rt::spawn(async move {
        let mut more = Vec::new();
        while more.len() < queued.len() {
            more.push(listener.accept().await.unwrap());
        }
        let _ = listener.accept().await;
    });
    turns(5).await;
    let before = rt::stats().turns;
    rt::time::sleep(Duration::from_millis(200)).await;
    let turns = rt::stats().turns - before;
    drop(more);
    turns
}

/// At every fill of the table, an accept that waits is asleep. A spinning one makes thousands of turns in this time.
#[test]
fn waiting_to_accept_costs_no_turns() {
    for (held, queued) in [(0, 0), (12, 0), (18, 0), (20, 0), (24, 0), (31, 0), (32, 0), (32, 5)] {
        let turns = on_core(thirty_two_slots(), move || idle_turns(held, queued));
        assert!(turns <= 20, "{turns} turns with {held} of 32 slots used and {queued} clients waiting");
    }
}

/// In a large table connections are accepted in crowds. Nobody takes them here, and the crowd ends at the mark.
#[test]
fn a_multishot_accept_ends_at_the_high_mark() {
    const WAVES: usize = 16;
    const WAVE: usize = 100;
    on_core(rt::Builder::new().direct_slots(4096).recv_buffers(64, 4096), || async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = rt::net::UnixListener::bind_unix(&path).unwrap();
        let mut accept = Box::pin(listener.accept());
        assert!(poll_once(accept.as_mut()).await.is_none());
        drop(accept);
        let mut clients = Vec::new();
        for _ in 0..WAVES {
            // None of these waits: the backlog holds 1,024.
            clients.extend((0..WAVE).map(|_| UnixStream::connect(&path).unwrap()));
            turns(3).await;
        }
        let used = rt::stats().direct_used as usize;
        assert!((1024..WAVES * WAVE).contains(&used), "{used} accepted");
        assert_eq!(rt::stats().accept_pauses, 1);
        let mut streams = Vec::new();
        while streams.len() < WAVES * WAVE {
            streams.push(listener.accept().await.unwrap());
        }
        drop(streams);
        assert_eq!(rt::stats().direct_used, 0);
        turns(5).await;
        for mut client in clients {
            assert_eq!(client.read(&mut [0]).unwrap(), 0, "closed, after it was accepted");
        }
        // Below the mark again, and in crowds again.
        let more = UnixStream::connect(directory.path().join("socket")).unwrap();
        drop((listener.accept().await.unwrap(), more));
    });
}

/// Connections that the kernel accepted and nobody has taken yet fill the table, too.
#[test]
fn a_server_that_is_slow_to_accept_cuts_nobody() {
    on_core(thirty_two_slots(), || async {
        let (listener, addr) = listen();
        let clients = clients(addr, 60);
        echo_once(listener.accept().await.unwrap(), Duration::ZERO).await;
        // Long enough for a multishot accept to overrun the table behind our back.
        turns(100).await;
        assert!(rt::stats().direct_used <= 32);
        for _ in 1..60 {
            echo_once(listener.accept().await.unwrap(), Duration::ZERO).await;
        }
        join_all(clients).await;
        until(|| rt::stats().direct_used == 0).await;
    });
}

/// Several listeners share one table: each may have a backlog full of clients, and there may be one free slot.
#[test]
fn listeners_that_share_the_table_cut_nobody() {
    on_core(thirty_two_slots(), || async {
        let directory = tempfile::tempdir().unwrap();
        let mut all = Vec::new();
        let served = std::rc::Rc::new(std::cell::Cell::new(0));
        for n in 0..4 {
            let path = directory.path().join(n.to_string());
            let listener = rt::net::UnixListener::bind_unix(&path).unwrap();
            all.extend(unix_clients(&path, 40));
            let served = std::rc::Rc::clone(&served);
            rt::spawn_detached(async move {
                for _ in 0..40 {
                    let (stream, served) = (listener.accept().await.unwrap(), std::rc::Rc::clone(&served));
                    rt::spawn_detached(async move {
                        echo_once(stream, Duration::from_millis(2)).await;
                        served.set(served.get() + 1);
                    });
                }
            });
        }
        until(|| served.get() == 160).await;
        join_all(all).await;
    });
}

/// The marks crossed in both directions, again and again, while results of a cancelled accept still wait.
#[test]
fn crossing_the_marks_never_stalls() {
    on_core(thirty_two_slots(), || async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = rt::net::UnixListener::bind_unix(&path).unwrap();
        for round in 0..30 {
            let wave = 14 + round % 18;
            let clients = unix_clients(&path, wave);
            let mut streams = Vec::new();
            for n in 0..wave {
                streams.push(listener.accept().await.unwrap());
                if n % 5 == 0 {
                    // Some go at once, below the mark again.
                    echo_once(streams.swap_remove(n / 2 % streams.len()), Duration::ZERO).await;
                }
            }
            for stream in streams {
                echo_once(stream, Duration::ZERO).await;
            }
            join_all(clients).await;
        }
    });
}

#[test]
fn pause_and_go_on() {
    on_core(thirty_two_slots(), || async {
        let (listener, addr) = listen();
        for _ in 0..20 {
            let clients = clients(addr, 3);
            for _ in 0..3 {
                rt::spawn_detached(echo_once(listener.accept().await.unwrap(), Duration::ZERO));
                listener.pause();
            }
            join_all(clients).await;
        }
    });
}

#[test]
fn a_second_instance_is_told_that_the_address_is_taken() {
    on_core(thirty_two_slots(), || async {
        let (first, addr) = listen();
        let error = rt::net::TcpListener::bind(addr).err().expect("taken");
        assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
        let shared = rt::net::TcpListener::bind_shared(addr).unwrap();
        assert_eq!(shared.local_addr().unwrap(), addr);
        drop((first, shared));
        // Their descriptors close with the next turn.
        turns(2).await;
        rt::net::TcpListener::bind(addr).unwrap();
    });
}

#[test]
fn unix_sockets_accept_too() {
    on_core(thirty_two_slots(), || async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = rt::net::UnixListener::bind_unix(&path).unwrap();
        assert_eq!(rt::net::UnixListener::bind_unix(&path).err().unwrap().kind(), std::io::ErrorKind::AddrInUse);
        // The second one looked whether somebody listens by connecting.
        assert!(listener.accept().await.unwrap().recv().await.unwrap().is_none());
        let mut client = std::os::unix::net::UnixStream::connect(&path).unwrap();
        let stream = listener.accept().await.unwrap();
        client.write_all(b"hello").unwrap();
        assert_eq!(&stream.recv().await.unwrap().unwrap()[..], b"hello");
        assert_eq!(stream.peer_addr().await.unwrap_err().kind(), std::io::ErrorKind::Unsupported);
        drop((listener, stream));
        turns(2).await;
        // A file that nobody listens on is replaced.
        rt::net::UnixListener::bind_unix(&path).unwrap();
    });
}

/// One listener after the other on the same socket, a hundred times, while clients come: each of them is served, whether he was accepted,
/// was about to be, or waited in the backlog.
#[test]
fn what_an_accept_leaves_is_there_for_the_next() {
    on_core(rt::Builder::new(), || async {
        let (first, addr) = listen();
        let mut socket = first.try_clone_fd().unwrap();
        let mut listener = first;
        for _ in 0..100 {
            let clients = clients(addr, 4);
            // Some are taken by whoever is there now, and then he stops in the middle of it.
            rt::spawn_detached(echo_once(listener.accept().await.unwrap(), Duration::ZERO));
            listener.pause();
            while let Some(stream) = listener.rest().await {
                rt::spawn_detached(echo_once(stream, Duration::ZERO));
            }
            assert!(listener.rest().await.is_none(), "that was all, for good");
            drop(listener);
            listener = rt::net::TcpListener::from_fd(socket);
            socket = listener.try_clone_fd().unwrap();
            let served = Box::pin(join_all(clients));
            let accepting = async {
                loop {
                    rt::spawn_detached(echo_once(listener.accept().await.unwrap(), Duration::ZERO));
                }
            };
            rt::select2(served, accepting).await;
        }
    });
}
