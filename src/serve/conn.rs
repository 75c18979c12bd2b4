//! The life of a connection: what has come is answered, what is missing is waited for. Decides nothing itself.

use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::Poll;

use crate::http::conn::BodyEvent;
use crate::rt::net::TcpStream;
use crate::rt::time::Instant;

use super::answer::{self, Learned, Step};
use super::link::Link;
use super::registry::SeatGuard;
use super::transfer::{self, Cut};
use super::worker::Worker;
use super::{access_log, cgi};

/// Serves one connection until it closes.
///
/// Here and in what it awaits while a connection is at rest, functions return `async move` blocks instead of being `async`:
/// arguments of those are kept twice, and this future is most of what an idle connection costs.
pub(super) fn run(stream: TcpStream, worker: Rc<Worker>) -> impl Future<Output = ()> {
    let mut link = Link::new(stream, worker.now_ms(), worker.options.requests_per_connection_max);
    async move {
        let seat = worker.registry.sit();
        if worker.log.is_some() {
            Box::pin(access_log::ask_peer(&mut link)).await;
        }
        // However it ends, dropping the link closes the socket.
        match serve(&mut link, &worker, &seat).await {
            Ok(Farewell::Plain) if !link.out.is_empty() => Box::pin(transfer::send_last(link, &worker)).await,
            Ok(Farewell::Linger) => Box::pin(transfer::linger(&mut link, &worker)).await,
            Ok(Farewell::Plain) | Err(Cut) => {}
        }
    }
}

/// How a connection ends. What is still in `link.out` is sent in any case.
enum Farewell {
    /// The client has said all it had to say.
    Plain,
    /// It may still be sending.
    Linger,
}

impl Farewell {
    fn of(link: &Link, linger: bool) -> Farewell {
        if linger && !link.transport.stream().has_ended() { Farewell::Linger } else { Farewell::Plain }
    }
}

fn serve(link: &mut Link, worker: &Rc<Worker>, seat: &SeatGuard<'_>) -> impl Future<Output = Result<Farewell, Cut>> {
    async move {
        let mut learned = Learned::Nothing;
        loop {
            let step = answer::step(worker, link, std::mem::replace(&mut learned, Learned::Nothing));
            let done = match step {
                Step::Receive { until } => {
                    transfer::flush_and_listen(link, worker).await?;
                    receive(link, worker, seat, until).await?;
                    continue;
                }
                Step::Flush => {
                    Box::pin(transfer::flush(link, worker)).await?;
                    continue;
                }
                // Rare, and large as futures: boxed, so that a connection at rest is small.
                Step::Learn { site, path } => {
                    let (now_ms, now_s) = (worker.now_ms(), worker.unix_s());
                    learned = Learned::File(Box::pin(worker.files[site].learn(&path, now_ms, now_s)).await);
                    continue;
                }
                Step::FindScript(wanted) => {
                    learned = Learned::Script(Box::pin(cgi::locate(link, worker, wanted)).await);
                    continue;
                }
                Step::SendBytes(bytes) => Box::pin(transfer::flush_with(link, worker, bytes)).await,
                Step::SendFile(file, span) => Box::pin(transfer::file(link, worker, &file, span)).await,
                Step::Run(call) => Box::pin(cgi::run(link, worker, call)).await,
                Step::Drain => Box::pin(drain(link, worker)).await,
                Step::Close { linger } => return Ok(Farewell::of(link, linger)),
            };
            done?;
            while let Some(step) = answer::finish(worker, link) {
                match step {
                    Step::Close { linger } => return Ok(Farewell::of(link, linger)),
                    _ => Box::pin(drain(link, worker)).await?,
                }
            }
        }
    }
}

/// Waits for bytes. An idle connection also goes when it is told to: to make room, or because the server stops.
fn receive(
    link: &mut Link,
    worker: &Worker,
    seat: &SeatGuard<'_>,
    until: u64,
) -> impl Future<Output = Result<(), Cut>> {
    async move {
        let idle = link.conn.is_between_requests();
        if idle {
            seat.idle(worker.now_ms());
        }
        link.input.release();
        link.timer.reset(Instant::from_millis(until));
        let received = poll_fn(|context| {
            if let Poll::Ready(received) = link.transport.stream().poll_recv(context) {
                return Poll::Ready(received.map_err(|_reset| Cut));
            }
            if idle && (seat.is_evicted(context.waker()) || worker.draining.get()) {
                return Poll::Ready(Err(Cut));
            }
            // Late: what that means is for `http` to say, at the next step.
            match link.timer.poll_expired(context) {
                Poll::Ready(()) => Poll::Ready(Ok(None)),
                Poll::Pending => Poll::Pending,
            }
        })
        .await?;
        seat.busy();
        match received {
            Some(bytes) => link.input.push(bytes),
            None if link.transport.stream().has_ended() => link.conn.end_of_input(),
            None => {}
        }
        Ok(())
    }
}

/// Reads the rest of a body that nobody wants, so that the next request can be found.
async fn drain(link: &mut Link, worker: &Worker) -> Result<(), Cut> {
    transfer::flush(link, worker).await?;
    loop {
        match link.conn.body(&worker.limits, worker.now_ms(), link.input.unread()) {
            BodyEvent::Data { skip, len } => link.input.consume(skip + len),
            BodyEvent::End { consumed } => {
                link.input.consume(consumed);
                return Ok(());
            }
            BodyEvent::NeedBytes { consumed, until } => {
                link.input.consume(consumed);
                match link.recv(until).await {
                    Ok(Ok(Some(bytes))) => link.input.push(bytes),
                    Ok(Ok(None)) => link.conn.end_of_input(),
                    Ok(Err(_reset)) => return Err(Cut),
                    Err(_late) => {}
                }
            }
            BodyEvent::Refuse(_) | BodyEvent::Cut => {
                link.conn.close_after();
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Most of what an idle connection costs.
    #[test]
    fn a_connection_is_at_most_512_bytes() {
        fn output_size<A, B, F: Future>(_: impl FnOnce(A, B) -> F) -> usize {
            size_of::<F>()
        }
        let size = output_size(run);
        println!("{size}");
        assert!(size <= 512, "{size}");
    }
}
