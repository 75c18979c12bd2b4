//! The life of a connection: what has come is answered, what is missing is waited for. Decides nothing itself.

#![expect(clippy::manual_async_fn, reason = "an `async fn` keeps its arguments twice: see `run`")]

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use crate::http::Millis;
use crate::http::conn::BodyEvent;
use crate::rt;
use crate::rt::net::{Sending, TcpStream};
use crate::rt::time::Instant;

use super::answer::{self, Learned, Step};
use super::link::Link;
use super::origin::{self, Origin};
use super::registry::SeatGuard;
use super::transfer::{self, Cut, Gathered, Slice, Unsent};
use super::worker::Worker;
use super::{cgi, learn};

/// Serves one connection until it closes.
///
/// Here and in what it awaits while a connection is at rest, functions return `async move` blocks instead of being `async`:
/// arguments of those are kept twice, and this future is most of what an idle connection costs.
///
/// With `forwards` it begins with a PROXY header.
pub(super) fn run(stream: TcpStream, worker: Rc<Worker>, forwards: bool) -> impl Future<Output = ()> {
    let mut link = Link::new(stream, worker.now_ms());
    async move {
        let seat = worker.registry.sit(worker.now_ms());
        if worker.asks_who && Box::pin(origin::meet(&mut link, &worker, &seat, forwards)).await.is_err() {
            return if !link.out.is_empty() {
                Box::pin(transfer::send_last(link, &worker)).await
            };
        }
        if worker.log.is_some() {
            let Link { conn, origin, .. } = &mut link;
            conn.follow(&worker, origin.as_deref().map(Origin::own_text).unwrap_or_default());
        }
        // However it ends, dropping the link closes the socket.
        let served = serve(&mut link, &worker, &seat).await;
        worker.metrics.left(&mut link.since_ns);
        match served {
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
            match decide(link, worker, std::mem::replace(&mut learned, Learned::Nothing))? {
                Usual::Receive { until } => {
                    transfer::flush_and_listen(link, worker).await?;
                    receive(link, worker, seat, until).await?;
                    if let Some(inject) = &worker.inject
                        && let Some(delay) = inject.disturb()
                    {
                        Box::pin(delay).await;
                    }
                }
                Usual::Close { linger } => return Ok(Farewell::of(link, linger)),
                Usual::Sending(sending) => {
                    transfer::sent_with(link, worker, sending).await?;
                    if let Some(farewell) = over(link, worker).await? {
                        return Ok(farewell);
                    }
                }
                // A slice a turn.
                Usual::Slice => rt::yield_now().await,
                Usual::Sent => {
                    // Also for whoever sends the next request before it has the answer to this one.
                    if !link.input.unread().is_empty() {
                        rt::yield_now().await;
                    }
                    if let Some(farewell) = over(link, worker).await? {
                        return Ok(farewell);
                    }
                }
                Usual::Other(step) => match act(link, worker, *step).await? {
                    After::GoOn(more) => learned = more,
                    After::Close(farewell) => return Ok(farewell),
                },
            }
        }
    }
}

/// The steps of every request, and the rarer ones, boxed: an idle connection would have room for one.
enum Usual {
    Receive {
        until: Millis,
    },
    Close {
        linger: bool,
    },
    /// A body from memory is on its way.
    Sending(Sending<Gathered>),
    /// A slice of a file has left, and there are more.
    Slice,
    /// All of it has.
    Sent,
    Other(Box<Step>),
}

fn decide(link: &mut Link, worker: &Worker, learned: Learned) -> Result<Usual, Cut> {
    if link.unsent().is_some() {
        return next_slice(link, worker);
    }
    Ok(match answer::step(worker, link, learned) {
        Step::Receive { until } => Usual::Receive { until },
        Step::Close { linger } => Usual::Close { linger },
        Step::SendBytes(bytes) if !worker.zero_copy.is_for(bytes.len(), worker.now_ms()) => {
            Usual::Sending(transfer::start_with(link, worker, bytes))
        }
        Step::SendFile(file, span) if link.is_installed() && !file.changed_lately() => {
            link.set_unsent(Unsent::just_found(file, span));
            return next_slice(link, worker);
        }
        step => Usual::Other(Box::new(step)),
    })
}

fn next_slice(link: &mut Link, worker: &Worker) -> Result<Usual, Cut> {
    Ok(match transfer::next_slice(link, worker)? {
        Slice::Over => Usual::Sent,
        Slice::Sent => Usual::Slice,
        tried => Usual::Other(Box::new(Step::SendRest(tried))),
    })
}

/// After a reply that has been sent whole: how the connection ends, if it does.
fn over(link: &mut Link, worker: &Worker) -> impl Future<Output = Result<Option<Farewell>, Cut>> {
    async move {
        let Some(step) = answer::finish(worker, link) else { return Ok(None) };
        match Box::pin(finish_with(link, worker, step)).await? {
            After::Close(farewell) => Ok(Some(farewell)),
            After::GoOn(_) => Ok(None),
        }
    }
}

/// What follows a step.
enum After {
    GoOn(Learned),
    Close(Farewell),
}

/// The rarer steps. They are large as futures: boxed, each at the size it has, so that a connection at rest is small.
fn act<'a>(
    link: &'a mut Link,
    worker: &'a Rc<Worker>,
    step: Step,
) -> Pin<Box<dyn Future<Output = Result<After, Cut>> + 'a>> {
    match step {
        // The usual one, at the size that it has.
        Step::Learn { sites, site, path, look } => Box::pin(async move {
            let entry = sites.files[site].learn(&sites.list[site], &path, worker.unix_s()).await;
            Ok(After::GoOn(Learned::File(look, entry)))
        }),
        step @ (Step::LearnPage { .. } | Step::List(_) | Step::FindScript(_) | Step::Verify(_)) => {
            Box::pin(async move { Ok(After::GoOn(learn::learn(link, worker, step).await)) })
        }
        Step::Flush => Box::pin(async move {
            transfer::flush(link, worker).await?;
            Ok(After::GoOn(Learned::Nothing))
        }),
        Step::SendBytes(bytes) => Box::pin(async move {
            transfer::flush_with(link, worker, bytes).await?;
            finish(link, worker).await
        }),
        Step::SendFile(file, span) => Box::pin(async move {
            transfer::file(link, worker, file, span).await?;
            finish(link, worker).await
        }),
        Step::SendRest(tried) => Box::pin(async move {
            transfer::rest_of_file(link, worker, tried).await?;
            finish(link, worker).await
        }),
        Step::SendParts(parts) => Box::pin(async move {
            parts.send(link, worker).await?;
            finish(link, worker).await
        }),
        Step::Run(call) => Box::pin(async move {
            cgi::run(link, worker, call).await?;
            finish(link, worker).await
        }),
        Step::Drain => Box::pin(async move {
            drain(link, worker).await?;
            finish(link, worker).await
        }),
        Step::Receive { .. } | Step::Close { .. } => unreachable!("`decide` tells these apart"),
    }
}

/// What follows a reply that has been sent whole.
async fn finish(link: &mut Link, worker: &Worker) -> Result<After, Cut> {
    match answer::finish(worker, link) {
        Some(step) => finish_with(link, worker, step).await,
        None => Ok(After::GoOn(Learned::Nothing)),
    }
}

async fn finish_with(link: &mut Link, worker: &Worker, step: Step) -> Result<After, Cut> {
    let mut step = Some(step);
    while let Some(next) = step {
        match next {
            Step::Close { linger } => return Ok(After::Close(Farewell::of(link, linger))),
            _ => drain(link, worker).await?,
        }
        step = answer::finish(worker, link);
    }
    Ok(After::GoOn(Learned::Nothing))
}

/// Waits for bytes. An idle connection also goes when it is told to: to make room, or because the server stops.
fn receive(
    link: &mut Link,
    worker: &Worker,
    seat: &SeatGuard<'_>,
    until: Millis,
) -> impl Future<Output = Result<(), Cut>> {
    async move {
        let idle = link.conn.is_between_requests();
        let grace = if idle { seat.idle(worker.now_ms()) } else { None };
        let has_looked = grace.is_some();
        link.input.release();
        link.timer.reset(Instant::from_millis(grace.map_or(until, |over| over.min(until))));
        let received = poll_fn(|context| {
            if let Poll::Ready(received) = link.transport.stream().poll_recv(context) {
                return Poll::Ready(received.map_err(|_reset| Cut));
            }
            if idle {
                let is_evicted = seat.is_evicted(context.waker());
                worker.metrics.evicted.add(u64::from(is_evicted));
                if is_evicted {
                    return Poll::Ready(Err(Cut));
                }
            }
            if idle && worker.draining.get() {
                let last = worker.idle_until_ms.get();
                if worker.now_ms() >= last {
                    return Poll::Ready(Err(Cut));
                }
                link.timer.reset(Instant::from_millis(until.min(last)));
            }
            if idle && !has_looked && seat.is_to_look_again() {
                return Poll::Ready(Ok(None));
            }
            // Late, or no newcomer any more: what that means is for `http` to say, at the next step.
            match link.timer.poll_expired(context) {
                Poll::Ready(()) => {
                    worker.metrics.idle_closed.add(u64::from(idle));
                    Poll::Ready(Ok(None))
                }
                Poll::Pending => Poll::Pending,
            }
        })
        .await?;
        match received {
            Some(bytes) => {
                seat.busy();
                link.input.push(bytes);
            }
            None if link.transport.stream().has_ended() => {
                seat.busy();
                link.conn.end_of_input();
            }
            None => {}
        }
        Ok(())
    }
}

/// Reads the rest of a body that nobody wants, so that the next request can be found.
async fn drain(link: &mut Link, worker: &Worker) -> Result<(), Cut> {
    transfer::flush(link, worker).await?;
    loop {
        let event = link.conn.body(&worker.limits(), worker.now_ms(), link.input.unread());
        match event {
            BodyEvent::Data { skip, len } => link.input.consume(skip + len),
            BodyEvent::End { consumed } => {
                link.input.consume(consumed);
                return Ok(());
            }
            BodyEvent::NeedBytes { consumed, until } => {
                link.input.consume(consumed);
                link.more(until).await?;
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

    fn size_of_future<A, B, C, F: Future>(_: impl FnOnce(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    /// Ten thousand idle connections are ten thousand of these: docs/decisions/0005-idle-memory.md.
    #[test]
    fn a_connection_is_a_small_future() {
        let size = size_of_future(run);
        assert!(size <= 512, "{size} bytes");
    }
}
