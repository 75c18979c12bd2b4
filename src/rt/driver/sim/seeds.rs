//! Running scenarios: one seed, one fresh thread, one runtime, one world; and what must be true at the end of each.
//!
//! `UCAFFEINE_SIM_SEED=n` runs that seed alone; `UCAFFEINE_SIM_SEEDS=count` runs so many instead of the test's own count.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use super::{Client, Faults, Rng, World};
use crate::rt::driver::Driver;
use crate::rt::net::{TcpListener, TcpStream};
use crate::rt::{self, Bug, Builder, Either, PLANTED, Runtime, select2, time};

/// Virtual time in which a scenario's clients must be done, and then the server's tasks.
const CLIENTS_MAX: Duration = Duration::from_secs(900);
const TASKS_MAX: Duration = Duration::from_secs(300);
/// More than any fault's delay.
const GRACE: Duration = Duration::from_millis(100);
const CLIENTS_A_WORLD_MAX: usize = 10;

/// A world and a runtime in it, for whatever a seed makes of them.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) faults: Faults,
    pub(crate) buffers: u16,
    pub(crate) buffer_bytes: usize,
    pub(crate) direct_slots: u32,
    /// The scenario stops in the middle: tasks and clients are left then, and the drain has everything to do.
    pub(crate) stops_midway: bool,
    /// The fault in our own code that the seeds are to find.
    pub(crate) planted: Option<Bug>,
}

impl Plan {
    /// Scarce buffers and slots more often than not.
    pub(crate) fn of_seed(seed: u64) -> Plan {
        let mut rng = Rng::new(seed ^ 0x91a2);
        Plan {
            seed,
            faults: Faults::of_seed(seed),
            buffers: rng.one_of(&[1, 2, 4, 16, 128]),
            buffer_bytes: rng.one_of(&[16, 100, 1000, 16 << 10]),
            direct_slots: rng.one_of(&[8, 16, 256]),
            stops_midway: false,
            planted: None,
        }
    }

    /// Runs a scenario, which is the main future of the runtime, on a thread of its own.
    ///
    /// # Errors
    /// What went wrong, in words: a panic anywhere, a deadlock, or an invariant that does not hold at the end.
    pub(crate) fn run<F: Future<Output = ()>>(
        &self,
        scenario: &(impl Fn(World) -> F + Sync),
    ) -> Result<Summary, String> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                PLANTED.set(self.planted);
                let world = World::new(self.seed, self.faults.clone());
                let builder = Builder::new().recv_buffers(self.buffers, self.buffer_bytes);
                let runtime = builder.direct_slots(self.direct_slots).build_sim(&world);
                // Caught here, so that the runtime is dropped by a thread that is not unwinding.
                let ran = std::panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(scenario(world.clone()))));
                if ran.is_ok() && !self.stops_midway {
                    // Time for the last cancels and closes, the latest of them too.
                    runtime.block_on(time::sleep(GRACE));
                }
                world.abandon_clients();
                let ended = ran.map_err(|panic| words(&*panic)).and_then(|()| self.at_the_end(&runtime, &world));
                ended.map(|()| Summary { trace: world.trace(), virtual_ns: world.now_ns() })
            });
            thread.join().unwrap_or_else(|panic| Err(words(&*panic)))
        })
    }

    /// What holds at the end of every seed, whatever happened: nothing is in flight, lent, leaked, or too much.
    fn at_the_end(&self, runtime: &Runtime, world: &World) -> Result<(), String> {
        let stats = runtime.stats();
        let drained = runtime.core.drain();
        let after = runtime.stats();
        let held = match &*runtime.core.driver.borrow() {
            Driver::Sim(sim) => sim.held(),
            Driver::Uring(_) => Vec::new(),
        };
        let (clients_left, violations) = (world.clients_left(), world.violations());
        let broken: Vec<String> = [
            (stats.tasks > 0 && !self.stops_midway, format!("{} tasks are left", stats.tasks)),
            (stats.tasks_panicked > 0, format!("{} tasks panicked", stats.tasks_panicked)),
            (clients_left > 0 && !self.stops_midway, format!("{clients_left} clients are not done")),
            (
                stats.operations_in_flight > 0 && !self.stops_midway,
                format!("{} operations were left alone", stats.operations_in_flight),
            ),
            (!drained, "the drain gave up".to_owned()),
            (after.operations_in_flight > 0, format!("{} operations are in flight", after.operations_in_flight)),
            (after.buffers_out > 0, format!("{} buffers are out", after.buffers_out)),
            (after.direct_used > 0, format!("{} direct slots are in use by our count", after.direct_used)),
            (after.timers > 0, format!("{} timers are armed", after.timers)),
            (after.stray_completions > 0, format!("{} completions were for nobody", after.stray_completions)),
            (!held.is_empty(), format!("the kernel still holds {held:?}")),
            (!violations.is_empty(), format!("violations: {violations:?}")),
        ]
        .into_iter()
        .filter_map(|(broken, words)| broken.then_some(words))
        .collect();
        if broken.is_empty() { Ok(()) } else { Err(broken.join("; ")) }
    }
}

/// What a seed came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    /// A digest of every completion and its time.
    pub(crate) trace: u64,
    pub(crate) virtual_ns: u64,
}

/// Runs `count` seeds of a scenario.
///
/// # Panics
/// At the first seed that fails, with what went wrong and how to run that seed again.
pub(crate) fn check_seeds<F: Future<Output = ()>>(test: &str, count: u64, scenario: impl Fn(World) -> F + Sync) {
    check_plans(test, count, Plan::of_seed, scenario);
}

/// As [`check_seeds`], with plans of the test's own.
///
/// # Panics
/// As [`check_seeds`].
pub(crate) fn check_plans<F: Future<Output = ()>>(
    test: &str,
    count: u64,
    plan: impl Fn(u64) -> Plan,
    scenario: impl Fn(World) -> F + Sync,
) {
    let wished = |name| std::env::var(name).ok().map(|value| value.parse().expect("a number of a seed, or of seeds"));
    let seeds = match wished("UCAFFEINE_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..wished("UCAFFEINE_SIM_SEEDS").unwrap_or(count),
    };
    for seed in seeds {
        let plan = plan(seed);
        if let Err(why) = plan.run(&scenario) {
            panic!("{why}\n{plan:#?}\nseed {seed} failed: UCAFFEINE_SIM_SEED={seed} cargo test --lib {test}");
        }
    }
}

/// The first of `count` seeds that finds a planted fault, and what it says.
pub(crate) fn first_to_find<F: Future<Output = ()>>(
    bug: Bug,
    count: u64,
    plan: impl Fn(u64) -> Plan,
    scenario: impl Fn(World) -> F + Sync,
) -> Option<(u64, String)> {
    (0..count).find_map(|seed| {
        let plan = Plan { planted: Some(bug), ..plan(seed) };
        plan.run(&scenario).err().map(|why| (seed, why))
    })
}

/// The scenario of every server: accept what comes and run `serve` on each connection, as a task, while several clients
/// do as `client` says; then no more accepting, and every task must come to its end.
pub(crate) async fn clients_against<S, C>(
    world: World,
    serve: impl Fn(TcpStream, Rng) -> S,
    client: impl Fn(World, Client) -> C,
) where
    S: Future<Output = ()> + 'static,
    C: Future<Output = ()> + 'static,
{
    let listener = TcpListener::from_fd(world.listen());
    let mut rng = world.rng(0);
    for _ in 0..rng.up_to(CLIENTS_A_WORLD_MAX) {
        let later = rng.below(2_000_000);
        let (world_of_client, connected) = (world.clone(), world.connect(0));
        let program = client(world.clone(), connected);
        world.spawn(async move {
            world_of_client.pause(later).await;
            program.await;
        });
    }
    let accepting = async {
        for number in 0.. {
            let stream = listener.accept().await.expect("accept");
            rt::spawn_detached(serve(stream, world.rng(1_000_000 + number)));
        }
    };
    let clients = async { select2(world.clients_done(), time::sleep(CLIENTS_MAX)).await };
    if let Either::Second(Either::Second(())) = select2(accepting, clients).await {
        let (left, conns) = (world.clients_left(), world.describe());
        panic!("{left} clients are not done after {CLIENTS_MAX:?}; {:?}\n{conns}", rt::stats());
    }
    drop(listener);
    world.stop_listening(0);
    let deadline = time::Instant::now() + TASKS_MAX;
    while rt::stats().tasks > 0 {
        assert!(time::Instant::now() < deadline, "{} tasks are left after {TASKS_MAX:?}", rt::stats().tasks);
        time::sleep(Duration::from_millis(10)).await;
    }
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without words".to_owned())
}
