//! Tasks, wakers, timers, and what other threads may do to a core.

mod rt_support;

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Poll, Waker};
use std::time::Duration;

use rt_support::*;
use ucaffeine::rt::time::{Instant, sleep, sleep_until, timeout};
use ucaffeine::rt::{self, Either, join2, select2};

/// What must stay on its thread does: this compiles only for types that are not `Send`.
#[test]
fn handles_of_a_core_are_not_send() {
    trait AmbiguousIfSend<A> {
        fn check() {}
    }
    impl<T: ?Sized> AmbiguousIfSend<()> for T {}
    struct IsSend;
    impl<T: ?Sized + Send> AmbiguousIfSend<IsSend> for T {}
    <rt::net::TcpStream as AmbiguousIfSend<_>>::check();
    <rt::net::TcpListener as AmbiguousIfSend<_>>::check();
    <rt::time::Sleep as AmbiguousIfSend<_>>::check();
    <rt::RecvBuf as AmbiguousIfSend<_>>::check();
    <rt::JoinHandle<()> as AmbiguousIfSend<_>>::check();
    <rt::Runtime as AmbiguousIfSend<_>>::check();
}

struct Loud(&'static str);

impl Drop for Loud {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("{}", self.0);
        }
    }
}

#[test]
fn a_panic_ends_its_task_and_nothing_else() {
    on_core(small(), || async {
        let bystander = rt::spawn(async {
            turns(5).await;
            7
        });
        let polled = rt::spawn(async {
            turns(1).await;
            panic!("on purpose, in a task");
        });
        let dropped = rt::spawn(async {
            let _loud = Loud("on purpose, in a destructor of a task's value");
            turns(1).await;
        });
        rt::spawn_detached({
            let loud = Loud("on purpose, in a destructor of a future");
            // Owned by the future, not by its body: dropped with it.
            let mut first = true;
            poll_fn(move |context| {
                let _ = &loud;
                context.waker().wake_by_ref();
                if std::mem::replace(&mut first, false) { Poll::Pending } else { Poll::Ready(()) }
            })
        });
        rt::remote().run(|| panic!("on purpose, in a message"));
        assert_eq!(polled.await, Err::<(), _>(rt::JoinError));
        assert_eq!(dropped.await, Err(rt::JoinError));
        assert_eq!(bystander.await, Ok(7));
        turns(2).await;
        let stats = rt::stats();
        assert_eq!((stats.tasks, stats.tasks_panicked), (0, 4));
    });
}

#[test]
fn a_runtime_is_whole_after_its_main_future_panicked() {
    on_thread(|| {
        let runtime = small().build().unwrap();
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            runtime.block_on(async {
                turns(1).await;
                panic!("on purpose, in the main future");
            })
        }));
        assert!(panicked.is_err());
        assert_eq!(runtime.block_on(async { rt::spawn(async { 3 }).await }), Ok(3));
    });
}

#[test]
fn block_on_inside_a_task_panics_and_is_contained() {
    on_thread(|| {
        let runtime: &'static rt::Runtime = Box::leak(Box::new(small().build().unwrap()));
        let outcome = runtime.block_on(async { rt::spawn(async { runtime.block_on(async {}) }).await });
        assert_eq!(outcome, Err(rt::JoinError));
    });
}

#[test]
fn tasks_go_on_in_the_next_block_on_and_end_with_the_runtime() {
    on_thread(|| {
        struct Ended(Rc<Cell<u32>>);
        impl Drop for Ended {
            fn drop(&mut self) {
                self.0.set(self.0.get() + 1);
                // A destructor may spawn; that task ends with the runtime, too.
                if self.0.get() == 1 {
                    let next = Ended(Rc::clone(&self.0));
                    rt::spawn_detached(async move {
                        let _next = next;
                        pending().await
                    });
                }
            }
        }
        let (count, ended) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let runtime = small().build().unwrap();
        let counting = Rc::clone(&count);
        let guard = Ended(Rc::clone(&ended));
        runtime.block_on(async move {
            rt::spawn_detached(async move {
                let _guard = guard;
                loop {
                    counting.set(counting.get() + 1);
                    rt::yield_now().await;
                }
            });
        });
        for _ in 0..3 {
            let before = count.get();
            runtime.block_on(turns(1));
            assert!(count.get() > before);
        }
        assert_eq!(ended.get(), 0);
        drop(runtime);
        assert_eq!(ended.get(), 2);
    });
}

#[test]
fn join_handles() {
    on_core(small(), || async {
        assert_eq!(rt::spawn(async { "at once" }).await, Ok("at once"));
        let runs_on = Rc::new(Cell::new(false));
        let flag = Rc::clone(&runs_on);
        drop(rt::spawn(async move {
            turns(2).await;
            flag.set(true);
        }));
        until(|| runs_on.get()).await;
        // Awaited by one task, then by another.
        let handle = rt::spawn(async {
            turns(3).await;
            5
        });
        let mut handle = Box::pin(handle);
        assert_eq!(poll_once(handle.as_mut()).await, None);
        assert_eq!(rt::spawn(handle).await, Ok(Ok(5)));
    });
}

/// A task is woken by a waker in another thread's hands, 2,000 times; none is lost.
#[test]
fn wakers_work_from_other_threads() {
    on_core(small(), || async {
        let (send, receive) = mpsc::channel::<(Waker, Arc<AtomicBool>)>();
        let thread = std::thread::spawn(move || {
            for (n, (waker, flag)) in receive.into_iter().enumerate() {
                if n % 7 == 0 {
                    std::thread::yield_now();
                }
                flag.store(true, Ordering::Release);
                waker.wake();
            }
        });
        for _ in 0..2000 {
            let flag = Arc::new(AtomicBool::new(false));
            let mut sent = false;
            poll_fn(|context| {
                if flag.load(Ordering::Acquire) {
                    return Poll::Ready(());
                }
                if !std::mem::replace(&mut sent, true) {
                    send.send((context.waker().clone(), Arc::clone(&flag))).unwrap();
                }
                Poll::Pending
            })
            .await;
        }
        drop(send);
        join(thread).await;
    });
}

#[test]
fn a_waker_may_outlive_its_task_and_its_runtime() {
    let wakers = on_core(small(), || async {
        let wakers = Arc::new(Mutex::new(Vec::new()));
        for _ in 0..10 {
            let keep = Arc::clone(&wakers);
            rt::spawn(poll_fn(move |context| {
                keep.lock().unwrap().push(context.waker().clone());
                Poll::Ready(())
            }))
            .await
            .unwrap();
        }
        for waker in wakers.lock().unwrap().iter() {
            waker.wake_by_ref();
        }
        turns(2).await;
        wakers
    });
    wakers.lock().unwrap().drain(..).for_each(Waker::wake);
}

/// Four threads send work; all of it runs, on the core, in the order of each sender.
#[test]
fn remote_work_arrives_in_order() {
    on_core(small(), || async {
        thread_local! {
            static SEEN: RefCell<Vec<Vec<u32>>> = const { RefCell::new(Vec::new()) };
        }
        SEEN.with_borrow_mut(|seen| seen.resize(4, Vec::new()));
        let threads: Vec<_> = (0..4usize)
            .map(|thread| {
                let remote = rt::remote();
                std::thread::spawn(move || {
                    for n in 0..1000 {
                        assert!(remote.run(move || SEEN.with_borrow_mut(|seen| seen[thread].push(n))));
                        if n % 50 == 0 {
                            std::thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        until(|| SEEN.with_borrow(|seen| seen.iter().all(|from| from.len() == 1000))).await;
        SEEN.with_borrow(|seen| seen.iter().for_each(|from| assert!(from.iter().copied().eq(0..1000))));
        for thread in threads {
            join(thread).await;
        }
    });
}

/// The core sleeps in the kernel with nothing to do, and is woken by a message, over and over.
#[test]
fn a_sleeping_core_is_woken_by_a_message() {
    let (tell, told) = mpsc::channel();
    let done = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&done);
    let core = std::thread::spawn(move || {
        on_core(small(), move || async move {
            tell.send(rt::remote()).unwrap();
            while !stop.load(Ordering::Acquire) {
                // No timer, no operation: only a message ends this wait.
                let woken = Rc::new(Cell::new(false));
                let mut first = true;
                poll_fn(|context| {
                    if !std::mem::replace(&mut first, false) {
                        woken.set(true);
                        return Poll::Ready(());
                    }
                    MAIN.with_borrow_mut(|main| *main = Some(context.waker().clone()));
                    Poll::Pending
                })
                .await;
            }
        })
    });
    thread_local! {
        static MAIN: RefCell<Option<Waker>> = const { RefCell::new(None) };
    }
    let remote = told.recv().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    for n in 0..500 {
        let (counted, done) = (Arc::clone(&count), Arc::clone(&done));
        assert!(remote.run(move || {
            counted.fetch_add(1, Ordering::Release);
            done.store(n == 499, Ordering::Release);
            if let Some(waker) = MAIN.take() {
                waker.wake();
            }
        }));
        let told = std::time::Instant::now();
        while count.load(Ordering::Acquire) != n + 1 && told.elapsed() < Duration::from_secs(60) {
            std::thread::yield_now();
        }
        assert_eq!(count.load(Ordering::Acquire), n + 1, "stuck");
    }
    core.join().unwrap();
    assert!(!remote.run(|| ()), "a core that has stopped says so");
}

/// Two cores throw a ball 500 times: each sends from inside its own loop, through its own ring.
#[test]
fn two_cores_play_ball() {
    thread_local! {
        static HITS: Cell<u32> = const { Cell::new(0) };
    }
    fn hit(here: rt::Remote, there: rt::Remote) {
        HITS.set(HITS.get() + 1);
        if HITS.get() < 500 {
            let (to, back) = (there.clone(), here);
            to.run(move || hit(there, back));
        } else {
            there.run(|| HITS.set(500));
        }
    }
    let (tell, told) = mpsc::channel();
    let start = move |tell: mpsc::Sender<rt::Remote>| {
        std::thread::spawn(move || {
            on_core(small(), move || async move {
                tell.send(rt::remote()).unwrap();
                until(|| HITS.get() == 500).await;
            })
        })
    };
    let threads = [start(tell.clone()), start(tell)];
    let (a, b) = (told.recv().unwrap(), told.recv().unwrap());
    a.clone().run(move || hit(a, b));
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// A thread has a runtime, which is not running; a message that it sends to another core must not wait for it to run.
#[test]
fn a_message_from_a_runtime_that_does_not_run_arrives() {
    on_thread(|| {
        let idle = small().build().unwrap();
        let (tell, told) = mpsc::channel();
        let other = std::thread::spawn(move || {
            on_core(small(), move || async move {
                let stop = Arc::new(AtomicBool::new(false));
                tell.send((rt::remote(), Arc::clone(&stop))).unwrap();
                let forever = sleep(Duration::from_secs(3600));
                let stopped = poll_fn(|context| {
                    if stop.load(Ordering::Acquire) {
                        return Poll::Ready(());
                    }
                    STOP.with_borrow_mut(|waker| *waker = Some(context.waker().clone()));
                    Poll::Pending
                });
                assert_eq!(select2(stopped, forever).await, Either::First(()));
            })
        });
        thread_local! {
            static STOP: RefCell<Option<Waker>> = const { RefCell::new(None) };
        }
        let (remote, stop) = told.recv().unwrap();
        // Asleep by now, most likely; the message has to wake it.
        std::thread::sleep(Duration::from_millis(20));
        remote.run(move || {
            stop.store(true, Ordering::Release);
            STOP.take().into_iter().for_each(Waker::wake);
        });
        other.join().unwrap();
        drop(idle);
    });
}

/// What was queued when the main future ended reaches the kernel without another `block_on`.
#[test]
fn a_stream_dropped_last_is_closed() {
    on_thread(|| {
        let runtime = small().build().unwrap();
        let mut client = runtime.block_on(async {
            let (listener, _) = listen();
            let (stream, client) = pair(&listener).await;
            drop(stream);
            client
        });
        assert_eq!(std::io::Read::read(&mut client, &mut [0; 8]).unwrap(), 0);
        drop(runtime);
    });
}

#[test]
fn timers_fire_in_the_order_of_their_deadlines() {
    on_core(small(), || async {
        let fired = Rc::new(RefCell::new(Vec::new()));
        let start = Instant::now();
        let mut seed = 12345u64;
        let handles: Vec<_> = (0..300)
            .map(|_| {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let deadline = start + Duration::from_micros(seed >> 33 & 0x1_ffff);
                let fired = Rc::clone(&fired);
                rt::spawn(async move {
                    sleep_until(deadline).await;
                    assert!(Instant::now() >= deadline, "never early");
                    fired.borrow_mut().push(Instant::now());
                })
            })
            .collect();
        for handle in handles {
            handle.await.unwrap();
        }
        assert!(fired.borrow().is_sorted());
        assert_eq!(rt::stats().timers, 0);
    });
}

#[test]
fn a_sleep_can_be_moved() {
    on_core(small(), || async {
        let now = Instant::now();
        // Earlier than armed.
        let mut timer = Box::pin(sleep(Duration::from_secs(3600)));
        assert!(poll_once(timer.as_mut()).await.is_none());
        timer.reset(now + Duration::from_millis(10));
        timer.as_mut().await;
        assert!(Instant::now() >= now + Duration::from_millis(10));
        // Later than armed, many times: the old entry fires, and nothing happens.
        let mut timer = Box::pin(sleep(Duration::from_millis(5)));
        assert!(poll_once(timer.as_mut()).await.is_none());
        let late = Instant::now() + Duration::from_millis(60);
        for step in 1..=6 {
            timer.reset(Instant::now() + Duration::from_millis(20));
            assert!(poll_once(timer.as_mut()).await.is_none());
            assert_eq!(rt::stats().timers, 1, "step {step}");
        }
        timer.reset(late);
        timer.as_mut().await;
        assert!(Instant::now() >= late);
        // Into the past; used again after it was ready; dropped while armed.
        timer.reset(now);
        timer.as_mut().await;
        timer.reset(Instant::now() + Duration::from_secs(9));
        assert!(poll_once(timer.as_mut()).await.is_none());
        drop(timer);
        assert_eq!(rt::stats().timers, 0);
    });
}

#[test]
fn select_join_and_timeout() {
    on_core(small(), || async {
        assert_eq!(select2(async { 1 }, async { 2 }).await, Either::First(1));
        assert_eq!(select2(pending::<()>(), async { 2 }).await, Either::Second(2));
        let slow = async {
            turns(3).await;
            "slow"
        };
        assert_eq!(join2(slow, async { "quick" }).await, ("slow", "quick"));
        assert_eq!(timeout(Duration::from_millis(2), pending::<()>()).await, Err(rt::time::Elapsed));
        assert_eq!(timeout(Duration::from_secs(3600), async { 4 }).await, Ok(4));
        // A join whose halves are woken one at a time polls neither after it was ready.
        let (mut a, mut b) = (0, 0);
        let one = poll_fn(|context| {
            a += 1;
            context.waker().wake_by_ref();
            if a == 3 { Poll::Ready(()) } else { Poll::Pending }
        });
        let two = poll_fn(|context| {
            b += 1;
            context.waker().wake_by_ref();
            if b == 9 { Poll::Ready(()) } else { Poll::Pending }
        });
        join2(one, two).await;
        assert_eq!((a, b), (3, 9));
        assert_eq!(rt::stats().timers, 0);
    });
}

/// Tasks that wake each other without end do not keep timers and I/O from their turn.
#[test]
fn busy_tasks_do_not_starve_the_kernel() {
    on_core(small(), || async {
        for _ in 0..50 {
            rt::spawn_detached(async {
                loop {
                    rt::yield_now().await;
                }
            });
        }
        let (listener, _) = listen();
        let (stream, mut client) = pair(&listener).await;
        for _ in 0..20 {
            std::io::Write::write_all(&mut client, b"x").unwrap();
            assert_eq!(stream.recv().await.unwrap().unwrap().len(), 1);
            turns(1).await;
        }
    });
}

/// Their end is a timer that stays from turn to turn (docs/decisions/0029-short-waits.md): each comes, and none too early, in whatever
/// order they are asked for, and more at once than there are such timers.
#[test]
fn short_waits_end() {
    on_core(small(), || async {
        for order in [[1, 2, 3, 4, 5, 6, 7, 8, 9, 12], [12, 9, 8, 7, 6, 5, 4, 3, 2, 1], [5, 1, 9, 1, 3, 12, 2, 2, 7, 4]]
        {
            let waits: Vec<_> = order
                .into_iter()
                .map(|ms| {
                    rt::spawn(async move {
                        let began = Instant::fresh();
                        sleep(Duration::from_millis(ms)).await;
                        (ms, Instant::fresh().duration_since(began))
                    })
                })
                .collect();
            for wait in waits {
                let (ms, took) = wait.await.expect("it sleeps and no more");
                // Waits are counted from the beginning of a turn, and end with a millisecond of the clock.
                assert!(took + Duration::from_millis(1) >= Duration::from_millis(ms), "{ms} ms took {took:?}");
            }
            // One after the other: each has to be armed again, with those of the others still standing.
            for ms in order {
                sleep(Duration::from_millis(ms)).await;
            }
        }
        // With timers that stand, the runtime ends at once.
        let _ = timeout(Duration::from_millis(1), sleep(Duration::from_millis(9))).await;
    });
}
