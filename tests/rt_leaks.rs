//! Alone in its process, because it counts the process's descriptors: 20,000 connections leave nothing behind.

mod rt_support;

use std::io::{Read, Write};
use std::net::TcpStream as Client;
use std::time::Duration;

use rt_support::*;
use ucaffeine::rt;

const CONNECTIONS: usize = 20_000;
const CLIENTS: usize = 4;

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn twenty_thousand_connections_leave_nothing() {
    let outside = descriptors();
    on_core(rt::Builder::new().direct_slots(1024), || async {
        let (listener, addr) = listen();
        turns(2).await;
        let (before, fds) = (gauges(), descriptors());
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| std::thread::spawn(move || (0..CONNECTIONS / CLIENTS).for_each(|n| visit(addr, client + n))))
            .collect();
        for _ in 0..CONNECTIONS {
            let stream = listener.accept().await.unwrap();
            rt::spawn_detached(async move {
                // Every wait has a deadline, as in a server: timers come and go with connections.
                let echo = async {
                    while let Ok(Some(data)) = stream.recv().await {
                        if stream.write_all(data.to_vec()).await.0.is_err() {
                            break;
                        }
                    }
                };
                rt::time::timeout(Duration::from_secs(3600), echo).await.unwrap();
            });
        }
        for client in clients {
            join(client).await;
        }
        // The listener's multishot accept was not armed before.
        until(|| gauges() == [before[0], before[1] + 1, before[2], before[3], before[4]] || gauges() == before).await;
        drop(listener);
        until(|| gauges() == before).await;
        assert_eq!(descriptors(), fds - 1, "the listener's is gone, and nothing came");
        let stats = rt::stats();
        assert_eq!((stats.stray_completions, stats.tasks_panicked), (0, 0));
        assert!(stats.enters <= stats.turns);
    });
    assert_eq!(descriptors(), outside, "the runtime took its own with it");
}

/// Every way to leave: politely, at once, with a reset.
fn visit(addr: std::net::SocketAddr, n: usize) {
    let mut client = Client::connect(addr).unwrap();
    if !n.is_multiple_of(3) {
        client.write_all(b"hello").unwrap();
        client.read_exact(&mut [0; 5]).unwrap();
    }
    // Without TIME_WAIT, of which 20,000 would use up the ports.
    rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
}
