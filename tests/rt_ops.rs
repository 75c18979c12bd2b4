//! Operations whose future goes away: before they are submitted, in flight, in the very turn in which they succeed.
//! In each case nothing stays behind (an operation, a slot, a buffer, a timer) and the connection is in a state that the
//! documentation of the dropped future names.

mod rt_support;

use std::io::{Read, Write};
use std::net::TcpStream as Client;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use rt_support::*;
use ucaffeine::rt::net::{Message, TcpStream};
use ucaffeine::rt::{self, fs, process, time};

/// Every kind of operation, polled once and dropped after `pause` turns; over and over, so that slots are used again.
async fn drop_everything(pause: u32) {
    let (listener, addr) = listen();
    let (stream, client) = pair(&listener).await;
    let directory = tempfile::tempdir().unwrap();
    let file = fs::File::create(directory.path().join("file")).await.unwrap();
    turns(2).await;
    let before = gauges();
    for _ in 0..20 {
        let mut accept = Box::pin(listener.accept());
        let mut recv = Box::pin(stream.recv());
        let mut connect = Box::pin(TcpStream::connect(addr));
        let mut sleep = Box::pin(time::sleep(Duration::from_secs(3600)));
        let mut open = Box::pin(fs::File::open("/proc/self/exe"));
        let mut write = Box::pin(file.write_at(vec![b'x'; 10_000], 0));
        let mut broken = Box::pin(stream.broken());
        let mut peer = Box::pin(stream.peer_addr());
        let mut install = Box::pin(stream.install());
        poll_once(accept.as_mut()).await;
        poll_once(recv.as_mut()).await;
        poll_once(connect.as_mut()).await;
        poll_once(sleep.as_mut()).await;
        poll_once(open.as_mut()).await;
        poll_once(write.as_mut()).await;
        poll_once(broken.as_mut()).await;
        poll_once(peer.as_mut()).await;
        poll_once(install.as_mut()).await;
        turns(pause).await;
    }
    // The listener keeps its accept, and connections that the connects made: they go with it. So does the stream's recv.
    drop((listener, stream, client));
    until(|| gauges() <= [before[0], 0, 0, 0, 0]).await;
    assert_eq!(rt::stats().stray_completions, 0);
}

#[test]
fn dropped_before_it_was_submitted() {
    on_core(small(), || drop_everything(0));
}

#[test]
fn dropped_in_flight() {
    on_core(small(), || drop_everything(2));
}

#[test]
fn a_future_that_was_never_polled_does_nothing() {
    on_core(small(), || async {
        let (listener, addr) = listen();
        let (stream, _client) = pair(&listener).await;
        turns(2).await;
        let before = gauges();
        drop((
            stream.recv(),
            stream.read(vec![0; 10]),
            stream.write_all(vec![1]),
            stream.shutdown(std::net::Shutdown::Write),
        ));
        drop((TcpStream::connect(addr), time::sleep(Duration::from_secs(9)), fs::File::open("/")));
        until_as_before(before).await;
    });
}

/// A descriptor number is free again as soon as its file is dropped. An entry that still waits for its submission with
/// that number in it must not hit whatever is opened next.
#[test]
fn a_write_that_was_dropped_never_reaches_the_next_pipe_of_its_number() {
    on_core(small(), || async {
        for round in 0..50 {
            // Its number goes to the second's reading end, so that the second's writing end gets the first's.
            let placeholder = std::fs::File::open("/dev/null").unwrap();
            let (first, _its_reader) = process::stdin_pipe().unwrap();
            let mut write = Box::pin(first.write_all(b"meant for the first".to_vec()));
            poll_once(write.as_mut()).await;
            drop(write);
            drop((first, placeholder));
            let (second, its_reader) = process::stdin_pipe().unwrap();
            turns(2).await;
            second.write_all("the second's").await.0.unwrap();
            drop(second);
            let read = std::io::read_to_string(std::fs::File::from(its_reader)).unwrap();
            assert_eq!(read, "the second's", "round {round}");
        }
    });
}

/// As above, for a listener: its dropped accept must not steal the next listener's connection.
#[test]
fn an_accept_that_was_dropped_never_takes_from_the_next_listener() {
    on_core(small(), || async {
        for _ in 0..50 {
            let (first, _) = listen();
            let mut accept = Box::pin(first.accept());
            poll_once(accept.as_mut()).await;
            drop(accept);
            drop(first);
            let (second, addr) = listen();
            let client = Client::connect(addr).unwrap();
            turns(1).await;
            let stream = second.accept().await.unwrap();
            stream.write_all("hello").await.0.unwrap();
            drop(stream);
            assert_eq!(read_to_end(client).await.unwrap(), b"hello");
        }
    });
}

#[test]
fn bytes_that_arrive_in_the_turn_of_the_drop_are_kept() {
    on_core(small(), || async {
        let (listener, _) = listen();
        let (stream, mut client) = pair(&listener).await;
        let mut seen = Vec::new();
        for round in 0..200u8 {
            let mut recv = Box::pin(stream.recv());
            assert!(poll_once(recv.as_mut()).await.is_none());
            if round % 2 == 0 {
                turns(1).await;
            }
            client.write_all(&[round]).unwrap();
            if round % 3 == 0 {
                rt::yield_now().await;
            }
            drop(recv);
            while seen.len() <= usize::from(round) {
                seen.extend_from_slice(&stream.recv().await.unwrap().unwrap());
            }
        }
        assert!(seen.iter().copied().eq(0..200));
    });
}

#[test]
fn a_stream_that_is_dropped_in_the_turn_of_its_data_leaves_nothing() {
    on_core(small(), || async {
        let (listener, _) = listen();
        turns(1).await;
        let (stream, _) = pair(&listener).await;
        drop(stream);
        turns(2).await;
        let before = gauges();
        for round in 0..100 {
            let (stream, mut client) = pair(&listener).await;
            let mut recv = Box::pin(stream.recv());
            poll_once(recv.as_mut()).await;
            if round % 2 == 0 {
                turns(1).await;
            }
            client.write_all(&[7; 30_000]).unwrap();
            if round % 3 == 0 {
                rt::yield_now().await;
            }
            drop(recv);
            drop(stream);
            // The client sees the end, or a reset because of what was not read; never silence.
            let _ = read_to_end(client).await;
        }
        until_as_before(before).await;
    });
}

/// `read` into a buffer of the caller's says that a drop loses what had arrived. What comes later is whole.
#[test]
fn a_read_that_was_dropped_loses_at_most_what_had_arrived() {
    on_core(small(), || async {
        let (listener, _) = listen();
        let (stream, mut client) = pair(&listener).await;
        for _ in 0..100 {
            let mut read = Box::pin(stream.read(vec![0; 16]));
            assert!(poll_once(read.as_mut()).await.is_none());
            client.write_all(b"early").unwrap();
            drop(read);
            turns(1).await;
            client.write_all(b"late\n").unwrap();
            let mut line = Vec::new();
            while !line.ends_with(b"\n") {
                let (count, bytes) = stream.read(vec![0; 16]).await;
                assert_ne!(count.unwrap(), 0);
                line.extend_from_slice(&bytes);
            }
            assert!(line == b"late\n" || line == b"earlylate\n", "{line:?}");
        }
    });
}

#[test]
fn a_connection_that_arrives_in_the_turn_of_the_drop_is_kept() {
    on_core(small(), || async {
        let (listener, addr) = listen();
        for round in 0..100 {
            let mut accept = Box::pin(listener.accept());
            assert!(poll_once(accept.as_mut()).await.is_none());
            if round % 2 == 0 {
                turns(1).await;
            }
            let client = Client::connect(addr).unwrap();
            if round % 3 == 0 {
                rt::yield_now().await;
            }
            drop(accept);
            let stream = listener.accept().await.unwrap();
            stream.write_all("x").await.0.unwrap();
            drop(stream);
            assert_eq!(read_to_end(client).await.unwrap(), b"x");
        }
    });
}

#[test]
fn a_listener_that_is_dropped_gives_back_what_nobody_accepted() {
    on_core(small(), || async {
        turns(1).await;
        let before = gauges();
        for _ in 0..10 {
            let (listener, addr) = listen();
            let mut accept = Box::pin(listener.accept());
            poll_once(accept.as_mut()).await;
            drop(accept);
            let clients: Vec<_> = (0..20).map(|_| Client::connect(addr).unwrap()).collect();
            turns(2).await;
            drop(listener);
            until_as_before(before).await;
            for client in clients {
                // Closed or reset; in no case left hanging.
                assert!(read_to_end(client).await.unwrap_or_default().is_empty());
            }
        }
    });
}

#[test]
fn a_dropped_connect_closes_its_socket() {
    on_core(small(), || async {
        let (listener, addr) = listen();
        turns(1).await;
        let before = gauges();
        for pause in [0, 0, 1, 2, 3] {
            let mut connect = Box::pin(TcpStream::connect(addr));
            poll_once(connect.as_mut()).await;
            for _ in 0..pause {
                rt::yield_now().await;
                if poll_once(connect.as_mut()).await.is_some() {
                    break;
                }
            }
            drop(connect);
            until_as_before(before).await;
        }
        drop(listener);
    });
}

#[test]
fn a_buffer_comes_back_with_a_failed_write() {
    on_core(small(), || async {
        let (listener, _) = listen();
        let (stream, client) = pair(&listener).await;
        drop(client);
        let mut buffer = vec![9u8; 100_000];
        loop {
            let (result, back) = stream.write_all(buffer).await;
            buffer = back;
            assert_eq!(buffer.len(), 100_000);
            if let Err(error) = result {
                assert!([libc::EPIPE, libc::ECONNRESET].contains(&error.raw_os_error().unwrap()), "{error}");
                break;
            }
        }
    });
}

#[test]
fn enters_are_never_more_than_turns() {
    let (before, after) = on_core(small(), || async {
        let (listener, addr) = listen();
        let client = std::thread::spawn(move || {
            let mut client = Client::connect(addr).unwrap();
            let mut byte = [0];
            for _ in 0..500 {
                client.write_all(&[1]).unwrap();
                client.read_exact(&mut byte).unwrap();
            }
        });
        let stream = listener.accept().await.unwrap();
        let before = rt::stats();
        while let Ok(Some(data)) = stream.recv().await {
            if stream.write_all(data.to_vec()).await.0.is_err() {
                break;
            }
        }
        join(client).await;
        (before, rt::stats())
    });
    assert!(after.enters > before.enters, "{after:?}");
    assert!(after.enters <= after.turns, "{after:?}");
    // A request-response round trip costs at most a turn for the arrival, one for the send.
    assert!(after.turns - before.turns <= 1100, "{after:?}");
    assert!(after.submissions - before.submissions <= 520, "one send a round trip, the receive stays armed: {after:?}");
}

#[test]
fn two_buffers_from_any_start_to_a_slow_reader() {
    on_core(small(), || async {
        let (listener, _) = listen();
        let (stream, mut client) = pair(&listener).await;
        let first: Vec<u8> = (0..70_001u32).map(|n| n as u8).collect();
        let second: Vec<u8> = (0..1_300_003u32).map(|n| (n / 7) as u8).collect();
        let whole: Vec<u8> = first.iter().chain(&second).copied().collect();
        let starts = [0, 1, 69_999, 70_000, 70_001, 70_002, whole.len() - 1, whole.len()];
        let expected: Vec<u8> = starts.iter().flat_map(|start| whole[*start..].iter().copied()).collect();
        let reader = std::thread::spawn(move || {
            let (mut all, mut some) = (Vec::new(), vec![0; 8_191]);
            loop {
                match client.read(&mut some).unwrap() {
                    0 => return all,
                    count => all.extend_from_slice(&some[..count]),
                }
                if all.len() % 5 == 0 {
                    std::thread::sleep(Duration::from_micros(200));
                }
            }
        });
        let mut message = Message::new();
        message.set(first, second);
        for start in starts {
            let mut sent = start;
            while sent < whole.len() {
                let (count, back) = stream.write_two(message, sent).await;
                message = back;
                sent += count.unwrap();
            }
        }
        drop(stream);
        assert!(join(reader).await == expected);
    });
}

#[test]
fn sixty_four_mebibytes_through_a_slow_reader() {
    on_core(small(), || async {
        const LEN: usize = 64 << 20;
        let (listener, _) = listen();
        let (stream, mut client) = pair(&listener).await;
        let reader = std::thread::spawn(move || {
            let (mut at, mut some) = (0usize, vec![0; 99_991]);
            loop {
                let count = client.read(&mut some).unwrap();
                if count == 0 {
                    return at;
                }
                for (n, byte) in some[..count].iter().enumerate() {
                    assert_eq!(*byte, ((at + n) % 251) as u8);
                }
                at += count;
                std::thread::yield_now();
            }
        });
        let ticks = Rc::new(std::cell::Cell::new(0));
        let ticking = Rc::clone(&ticks);
        rt::spawn_detached(async move {
            loop {
                turns(1).await;
                ticking.set(ticking.get() + 1);
            }
        });
        let data: Vec<u8> = (0..LEN).map(|n| (n % 251) as u8).collect();
        let (sent, data) = stream.write_all(data).await;
        sent.unwrap();
        assert_eq!(data.len(), LEN);
        drop(stream);
        assert_eq!(join(reader).await, LEN);
        assert!(ticks.get() > 0, "the core did other work meanwhile");
    });
}

#[test]
fn facts_of_a_connection() {
    on_core(small(), || async {
        let (listener, _) = listen();
        let (stream, client) = pair(&listener).await;
        assert_eq!(stream.peer_addr().await.unwrap(), client.local_addr().unwrap());
        let installed = stream.install().await.unwrap();
        let flags = rustix::fs::fcntl_getfl(&installed).unwrap();
        assert!(flags.contains(rustix::fs::OFlags::NONBLOCK), "sendfile(2) must not block the core");
        assert!(rustix::net::sockopt::tcp_nodelay(&installed).unwrap(), "inherited from the listener");
        let mut broken = pin!(stream.broken());
        assert!(poll_once(broken.as_mut()).await.is_none());
        client.shutdown(std::net::Shutdown::Write).unwrap();
        turns(5).await;
        assert!(poll_once(broken.as_mut()).await.is_none(), "a half-closed peer is still there");
        assert!(stream.recv().await.unwrap().is_none());
        assert!(stream.recv().await.unwrap().is_none(), "the end stays the end");
        rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
        drop(client);
        broken.await.unwrap();
    });
}
