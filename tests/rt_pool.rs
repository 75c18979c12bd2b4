//! The pool of receive buffers, when it is empty: everyone who waits goes on as soon as a buffer is there, whoever else
//! has gone meanwhile, and nobody takes all of it.

mod rt_support;

use std::cell::Cell;
use std::io::Write;
use std::net::TcpStream as Client;
use std::rc::Rc;

use rt_support::*;
use ucaffeine::rt::{self, net::TcpListener, net::TcpStream};

fn two_buffers() -> rt::Builder {
    rt::Builder::new().direct_slots(256).recv_buffers(2, 4096)
}

/// A connection with one byte in its socket buffer.
async fn pair_with_byte(listener: &TcpListener) -> (TcpStream, Client) {
    let (stream, mut client) = pair(listener).await;
    client.write_all(b"x").unwrap();
    (stream, client)
}

#[test]
fn fifty_connections_and_two_buffers() {
    on_core(two_buffers(), || async {
        let (listener, _) = listen();
        let before = gauges();
        let done = Rc::new(Cell::new(0));
        let mut clients = Vec::new();
        for _ in 0..50 {
            let (stream, mut client) = pair(&listener).await;
            client.write_all(&[5; 20_000]).unwrap();
            clients.push(client);
            let done = Rc::clone(&done);
            rt::spawn_detached(async move {
                let mut count = 0;
                while count < 20_000 {
                    let guard = stream.recv().await.unwrap().unwrap();
                    count += guard.len();
                    // Held over turns: the others find the pool empty.
                    turns(1).await;
                    assert!(guard.iter().all(|byte| *byte == 5));
                }
                done.set(done.get() + 1);
            });
        }
        until(|| done.get() == 50).await;
        assert!(rt::stats().buffers_exhausted > 0);
        until(|| gauges()[2] == 0 && gauges()[4] == 0).await;
        assert_eq!(gauges()[0], before[0]);
    });
}

/// The one who is first in line is gone when a buffer comes back: the next in line gets it.
#[test]
fn a_wake_up_for_a_dead_waiter_goes_to_a_living_one() {
    on_core(two_buffers(), || async {
        let (listener, _) = listen();
        let (a, _a) = pair_with_byte(&listener).await;
        let (b, _b) = pair_with_byte(&listener).await;
        let kept = a.recv().await.unwrap().unwrap();
        let guard = b.recv().await.unwrap().unwrap();
        let (c, _c) = pair_with_byte(&listener).await;
        let (d, _d) = pair_with_byte(&listener).await;
        let exhausted = rt::stats().buffers_exhausted;
        let first =
            rt::spawn(async move { rt::time::timeout(std::time::Duration::from_millis(20), c.recv()).await.is_err() });
        until(|| rt::stats().buffers_exhausted == exhausted + 1).await;
        let second = rt::spawn(async move { d.recv().await.unwrap().unwrap().len() });
        until(|| rt::stats().buffers_exhausted == exhausted + 2).await;
        assert!(first.await.unwrap(), "there was no buffer for it");
        drop(guard);
        assert_eq!(second.await, Ok(1));
        drop(kept);
    });
}

/// A buffer comes back after the kernel found none, and before the receiver hears of it.
#[test]
fn a_buffer_that_came_back_just_before_is_seen() {
    on_core(two_buffers(), || async {
        let (listener, _) = listen();
        let (a, _a) = pair_with_byte(&listener).await;
        let (b, _b) = pair_with_byte(&listener).await;
        let kept = a.recv().await.unwrap().unwrap();
        let guard = b.recv().await.unwrap().unwrap();
        let (c, _c) = pair_with_byte(&listener).await;
        let mut recv = Box::pin(c.recv());
        assert!(poll_once(recv.as_mut()).await.is_none());
        turns(3).await;
        drop(guard);
        assert_eq!(recv.await.unwrap().unwrap().len(), 1);
        drop(kept);
    });
}

/// A task that is polled all the time (its other half is busy) stands in line once, and asks the kernel once.
#[test]
fn a_busy_waiter_stands_in_line_once() {
    on_core(two_buffers(), || async {
        let (listener, _) = listen();
        let (a, _a) = pair_with_byte(&listener).await;
        let (b, _b) = pair_with_byte(&listener).await;
        let kept = (a.recv().await.unwrap().unwrap(), b.recv().await.unwrap().unwrap());
        let (c, _c) = pair_with_byte(&listener).await;
        let mut recv = Box::pin(c.recv());
        let exhausted = rt::stats().buffers_exhausted;
        let submissions = rt::stats().submissions;
        for _ in 0..100 {
            assert!(poll_once(recv.as_mut()).await.is_none());
            turns(1).await;
        }
        let now = rt::stats();
        assert_eq!(now.buffers_exhausted - exhausted, 1);
        assert!(now.submissions - submissions <= 2, "{}", now.submissions - submissions);
        drop(kept);
        assert_eq!(recv.await.unwrap().unwrap().len(), 1);
    });
}

/// Armed and then not read, with megabytes on the way: the others still get buffers.
#[test]
fn an_unread_connection_does_not_drain_the_pool() {
    on_core(rt::Builder::new().direct_slots(64).recv_buffers(16, 4096), || async {
        let (listener, _) = listen();
        let (unread, mut flooding) = pair(&listener).await;
        assert!(poll_once(Box::pin(unread.recv()).as_mut()).await.is_none());
        turns(1).await;
        let flood = std::thread::spawn(move || {
            let _ = flooding.write_all(&vec![1; 8 << 20]);
        });
        turns(20).await;
        assert!(rt::stats().buffers_out < 16, "{} of 16", rt::stats().buffers_out);
        let (stream, mut client) = pair(&listener).await;
        for _ in 0..100 {
            client.write_all(b"ping").unwrap();
            assert_eq!(&stream.recv().await.unwrap().unwrap()[..], b"ping");
        }
        // And nothing of it is lost: it can be read on.
        let mut count = 0;
        while count < 8 << 20 {
            let data = unread.recv().await.unwrap().unwrap();
            assert!(data.iter().all(|byte| *byte == 1));
            count += data.len();
        }
        join(flood).await;
        drop(unread);
        until(|| gauges()[2] == 0).await;
    });
}

/// A guard outlives its connection, and the runtime.
#[test]
fn a_guard_outlives_everything() {
    let bytes = on_thread(|| {
        let runtime = two_buffers().build().unwrap();
        let guard = runtime.block_on(async {
            let (listener, _) = listen();
            let (stream, _client) = pair_with_byte(&listener).await;
            stream.recv().await.unwrap().unwrap()
        });
        drop(runtime);
        guard.to_vec()
    });
    assert_eq!(bytes, b"x");
}
