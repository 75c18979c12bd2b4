//! The proof that it measures right: in a simulated world, where every delay is known to the nanosecond and nothing sleeps.

use std::sync::Arc;
use std::time::Duration;

use loadgen::engine;
use loadgen::plan::{Plan, Think};
use loadgen::record::Run;
use loadgen::schedule::{Arrivals, Bounds, Load, Rate};
use loadgen::selfcheck;
use loadgen::session::{self, About};
use ucaffeine::rt::sim::{Peer, World};

const MILLISECOND_NS: u64 = 1_000_000;
const SECOND_NS: u64 = 1_000_000_000;
/// What a request costs in this world besides the server's delay: the turns of the loop, the segments on their way and
/// the send's completion, some nanoseconds each; the timer wheel is not involved. Nothing else may be added.
const WORLD_NS_MAX: u64 = 1_000;

/// Runs a plan in a world of its own, against a server that waits before each answer as `delay` says of its number.
fn run(change: impl FnOnce(&mut Plan), delay: fn(u64) -> Duration) -> Run {
    let url = "http://127.0.0.1:1/";
    let mut plan = selfcheck::plan(url, Load::Closed, 1, Bounds { duration_ns: u64::MAX, requests: 100 }).unwrap();
    plan.spin = Duration::ZERO;
    change(&mut plan);
    let plan = Arc::new(plan);
    // A thread has one runtime in its life.
    std::thread::spawn(move || {
        let world = World::new(1, Duration::from_nanos(1));
        let (listening, numbers) = (world.clone(), std::rc::Rc::new(std::cell::Cell::new(0)));
        world.spawn(async move {
            loop {
                let peer = listening.dialled().await;
                listening.spawn(serve(listening.clone(), peer, std::rc::Rc::clone(&numbers), delay));
            }
        });
        let finished = engine::run_here(&plan, |builder| world.runtime(builder)).unwrap();
        session::result(&plan, finished, &About::default())
    })
    .join()
    .unwrap()
}

async fn serve(world: World, peer: Peer, numbers: std::rc::Rc<std::cell::Cell<u64>>, delay: fn(u64) -> Duration) {
    let mut received = Vec::new();
    while let Some(bytes) = peer.read().await {
        received.extend(bytes);
        while let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") {
            received.drain(..end + 4);
            let delay = delay(numbers.replace(numbers.get() + 1));
            if !delay.is_zero() {
                world.pause(delay).await;
            }
            if !peer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await {
                return;
            }
        }
    }
}

fn constant(rate: f64) -> Load {
    Load::Open(Rate { from: rate, to: rate }, Arrivals::Constant)
}

/// Three digits are kept of every value, rounded up; the least is rounded down.
fn assert_reads(measured_ns: u64, real_ns: u64, what: &str) {
    let most = real_ns + WORLD_NS_MAX + (real_ns + WORLD_NS_MAX) / 1000 + 1;
    let least = real_ns - real_ns / 1000;
    assert!((least..=most).contains(&measured_ns), "{what}: {measured_ns} ns, {real_ns} were real");
}

#[test]
fn a_fixed_delay_reads_as_what_it_is() {
    let run = run(|plan| plan.connections = 4, |_| Duration::from_millis(1));
    assert_eq!((run.measured.responses, run.measured.errors), (100, 0));
    for quantile in [0.0, 0.5, 0.99, 1.0] {
        assert_reads(run.latency.service.at_quantile(quantile), MILLISECOND_NS, "service time");
        assert_reads(run.latency.response.at_quantile(quantile), MILLISECOND_NS, "response time");
    }
    // Four connections, a millisecond each: 100 answers in 25.
    assert_reads(run.facts.elapsed_ns, 25 * MILLISECOND_NS, "the whole");
}

#[test]
fn a_stall_is_in_the_response_times_of_an_open_loop() {
    // At 1,000 a second the 200 requests that are due while number 500 takes 200 ms wait 200 ms, 199 ms, and so on.
    let run = run(
        |plan| {
            plan.load = constant(1000.0);
            plan.bounds = Bounds { duration_ns: 2 * SECOND_NS, requests: u64::MAX };
        },
        |number| if number == 500 { Duration::from_millis(200) } else { Duration::ZERO },
    );
    assert_eq!((run.measured.responses, run.facts.load.offered_requests), (2_000, Some(2_000)));
    let response = &run.latency.response;
    assert_reads(response.max(), 200 * MILLISECOND_NS, "the longest");
    for waited_ms in [10, 50, 100, 150, 199] {
        // Those that waited more than so long: due in the first 200 - so many milliseconds of the stall.
        let above = response.count_above(waited_ms * MILLISECOND_NS + 2 * MILLISECOND_NS / 5);
        assert_eq!(above, 200 - waited_ms, "waited over {waited_ms}.4 ms");
    }
    // What the server did is one slow answer, and that is what the service times say.
    assert_eq!(run.latency.service.count_above(MILLISECOND_NS), 1);
    // Nor was the generator late: requests waited for the connection, not for it.
    assert!(run.generator.lag.max() <= WORLD_NS_MAX, "{}", run.generator.lag.max());
}

#[test]
fn the_same_stall_is_one_sample_of_a_closed_loop() {
    let run = run(
        |plan| plan.bounds.requests = 2_000,
        |number| if number == 500 { Duration::from_millis(200) } else { Duration::ZERO },
    );
    assert_eq!(run.latency.response.count(), 2_000);
    assert_eq!(run.latency.response.count_above(MILLISECOND_NS), 1);
    assert_reads(run.latency.response.max(), 200 * MILLISECOND_NS, "the longest");
}

#[test]
fn a_server_that_is_too_slow_shows_as_waiting_that_grows() {
    // 1,000 a second are offered, 500 are served: the last of 1,000 has waited for the 500 in front of it.
    let run = run(
        |plan| {
            plan.load = constant(1000.0);
            plan.bounds = Bounds { duration_ns: SECOND_NS, requests: u64::MAX };
        },
        |_| Duration::from_millis(2),
    );
    assert_eq!(run.measured.responses, 1_000);
    assert_reads(run.latency.service.max(), 2 * MILLISECOND_NS, "service time");
    let longest_ns = run.latency.response.max();
    // Due at 999 ms, answered at 2,000.
    assert!((1_000..=1_003).contains(&(longest_ns / MILLISECOND_NS)), "{longest_ns}");
    assert_eq!(run.facts.elapsed_ns / MILLISECOND_NS, 2_000);
}

#[test]
fn a_deadline_sheds_what_is_too_late_and_says_so() {
    let run = run(
        |plan| {
            plan.load = constant(1000.0);
            plan.bounds = Bounds { duration_ns: SECOND_NS, requests: u64::MAX };
            plan.deadline = Some(Duration::from_millis(100));
        },
        |_| Duration::from_millis(2),
    );
    assert_eq!(run.measured.responses + run.measured.errors, 1_000);
    assert!(run.measured.errors > 400, "{} errors", run.measured.errors);
    // Sent at most 100 ms late, and answered in 2.
    assert!(run.latency.response.max() <= 103 * MILLISECOND_NS, "{}", run.latency.response.max());
}

#[test]
fn thinking_is_not_waiting() {
    let run = run(|plan| plan.think = Think::Fixed(10 * MILLISECOND_NS), |_| Duration::from_millis(1));
    assert_reads(run.latency.response.max(), MILLISECOND_NS, "response time");
    // 100 requests of 1 ms, and 10 ms of rest between them.
    assert_reads(run.facts.elapsed_ns, 99 * 11 * MILLISECOND_NS + MILLISECOND_NS, "the whole");
}

#[test]
fn an_answer_that_never_comes_is_an_error_after_the_timeout() {
    let run = run(
        |plan| {
            plan.bounds.requests = 3;
            plan.timeout = Duration::from_millis(500);
        },
        |number| if number == 1 { Duration::from_secs(30) } else { Duration::ZERO },
    );
    assert_eq!((run.measured.responses, run.measured.errors), (2, 1));
    assert_eq!(run.errors[0].class.name(), "timeout");
}
