//! The proxy example, between a client and an echo server.

mod rt_support;

#[path = "../examples/proxy.rs"]
mod proxy;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use rt_support::*;
use ucaffeine::rt;

/// Both directions at once, more than the buffers hold; the half-close goes through, and the rest still comes back.
#[test]
fn the_proxy_passes_everything_and_the_ends() {
    const LEN: usize = 4 << 20;
    on_core(small(), || async {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let back = server.local_addr().unwrap();
        let echo = std::thread::spawn(move || {
            for stream in server.incoming().take(8) {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || {
                    std::io::copy(&mut stream.try_clone().unwrap(), &mut stream).unwrap();
                    stream.write_all(b"the end").unwrap();
                });
            }
        });
        let (listener, front) = listen();
        rt::spawn_detached(async move { proxy::serve(listener, back).await.unwrap() });
        let clients: Vec<_> = (0..8u8)
            .map(|n| {
                std::thread::spawn(move || {
                    let mut client = TcpStream::connect(front).unwrap();
                    let mut sender = client.try_clone().unwrap();
                    let sending = std::thread::spawn(move || {
                        sender.write_all(&vec![n; LEN]).unwrap();
                        sender.shutdown(Shutdown::Write).unwrap();
                    });
                    let mut all = Vec::new();
                    client.read_to_end(&mut all).unwrap();
                    sending.join().unwrap();
                    let (bytes, end) = all.split_at(LEN);
                    assert!(bytes.iter().all(|byte| *byte == n));
                    assert_eq!(end, b"the end");
                })
            })
            .collect();
        for client in clients {
            join(client).await;
        }
        join(echo).await;
        until(|| rt::stats().direct_used == 0).await;
    });
}
