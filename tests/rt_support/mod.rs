//! What the runtime's tests share: a thread per runtime, a guard against hanging, and futures polled by hand.
#![allow(dead_code)]

use std::future::{Future, poll_fn};
use std::io;
use std::net::{SocketAddr, TcpStream as Client};
use std::pin::Pin;
use std::sync::mpsc;
use std::task::Poll;
use std::time::Duration;

use ucaffeine::rt::{self, Builder, Stats, net::TcpListener, net::TcpStream};

/// A lost wake-up shows as a test that never ends; this ends it. Nothing is measured by it.
const STUCK: Duration = Duration::from_secs(120);

/// Runs `work` on a core of its own (a thread has one runtime in its life), drops the runtime, and hands the result out.
pub fn on_core<T: Send + 'static, F: Future<Output = T>>(
    builder: Builder,
    work: impl FnOnce() -> F + Send + 'static,
) -> T {
    on_thread(move || builder.build().unwrap_or_else(|why| panic!("{why}")).block_on(async { work().await }))
}

/// Runs `work` on a fresh thread; panics with it, and where it does not end.
pub fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    // Thousands of connections do not fit into the usual soft limit of 1,024.
    rt::net::raise_descriptor_limit();
    let (done, result) = mpsc::channel();
    let thread = std::thread::spawn(move || done.send(work()).unwrap());
    match result.recv_timeout(STUCK) {
        Ok(value) => {
            thread.join().unwrap();
            value
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => std::panic::resume_unwind(thread.join().unwrap_err()),
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("stuck: a wake-up was lost"),
    }
}

/// A small runtime: tests run side by side.
pub fn small() -> Builder {
    Builder::new().direct_slots(256).recv_buffers(64, 4096)
}

pub fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// A connection: the runtime's end, and a plain blocking one.
pub async fn pair(listener: &TcpListener) -> (TcpStream, Client) {
    let client = Client::connect(listener.local_addr().unwrap()).unwrap();
    (listener.accept().await.unwrap(), client)
}

/// Polls once. `Some` if it was ready.
pub async fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Option<F::Output> {
    let mut future = future;
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// Lets some turns pass, in which the kernel gets and gives what there is.
pub async fn turns(count: u32) {
    for _ in 0..count {
        rt::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Waits until it is true; forever, if it never is.
pub async fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        turns(1).await;
    }
}

/// What must be again as it was when everything is over.
pub fn gauges() -> [usize; 5] {
    let Stats { tasks, operations_in_flight, buffers_out, timers, direct_used, .. } = rt::stats();
    [tasks, operations_in_flight, buffers_out, timers, direct_used as usize]
}

/// Waits until the gauges are as they were.
pub async fn until_as_before(before: [usize; 5]) {
    until(|| {
        // The timer of `until` itself has fired when the gauges are read.
        gauges() == before
    })
    .await;
    assert_eq!(rt::stats().stray_completions, 0);
}

/// What the client still receives until the end or a reset; read by a thread, so that the core goes on.
pub async fn read_to_end(mut client: Client) -> io::Result<Vec<u8>> {
    join(std::thread::spawn(move || {
        let mut all = Vec::new();
        io::Read::read_to_end(&mut client, &mut all).map(|_| all)
    }))
    .await
}

/// Waits for a thread without blocking the core; panics with it.
pub async fn join<T>(thread: std::thread::JoinHandle<T>) -> T {
    until(|| thread.is_finished()).await;
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
