//! Work on helper threads: results come back, the core goes on meanwhile, and everything has its bound.

mod rt_support;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};

use rt_support::*;
use ucaffeine::rt::blocking::{self, BlockingError, QUEUED_MAX, THREADS_MAX};
use ucaffeine::rt::{self, time};

/// Work that is stuck until the sender is dropped; the receiver hears when it has begun.
fn stuck() -> (mpsc::Sender<()>, mpsc::Receiver<()>, impl FnOnce() + Send) {
    let (release, wait) = mpsc::channel::<()>();
    let (began, begun) = mpsc::channel();
    let work = move || {
        began.send(()).unwrap();
        let _ = wait.recv();
    };
    (release, begun, work)
}

#[test]
fn a_result_comes_back() {
    on_core(small(), || async {
        let core = std::thread::current().id();
        let (sum, thread) = blocking::run(|| ((1..=10).sum::<u32>(), std::thread::current().id())).await.unwrap();
        assert_eq!(sum, 55);
        assert_ne!(thread, core);
        // Also when nobody polls before it is there.
        let late = blocking::run(|| "there");
        time::sleep(std::time::Duration::from_millis(20)).await;
        assert_eq!(late.await, Ok("there"));
    });
}

#[test]
fn the_core_goes_on_meanwhile() {
    on_core(small(), || async {
        let (release, begun, work) = stuck();
        let waiting = rt::spawn(blocking::run(work));
        let ticks = Rc::new(Cell::new(0));
        while begun.try_recv().is_err() {
            rt::yield_now().await;
        }
        for _ in 0..10 {
            time::sleep(std::time::Duration::from_millis(1)).await;
            ticks.set(ticks.get() + 1);
        }
        assert_eq!(ticks.get(), 10);
        drop(release);
        assert_eq!(waiting.await, Ok(Ok(())));
    });
}

#[test]
fn so_many_threads_and_no_more() {
    on_core(small(), || async {
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let work = || {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            blocking::run(move || {
                most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                std::thread::sleep(std::time::Duration::from_millis(2));
                running.fetch_sub(1, SeqCst);
            })
        };
        let all: Vec<_> = (0..20).map(|_| work()).collect();
        for one in all {
            one.await.unwrap();
        }
        assert!((1..=THREADS_MAX).contains(&most.load(SeqCst)), "{most:?}");
    });
}

#[test]
fn a_full_queue_refuses_and_an_abandoned_place_is_free() {
    on_core(small(), || async {
        let mut held = Vec::new();
        for _ in 0..THREADS_MAX {
            let (release, begun, work) = stuck();
            let running = blocking::run(work);
            begun.recv().unwrap();
            held.push((release, running));
        }
        let mut queued: Vec<_> = (0..QUEUED_MAX).map(|number| blocking::run(move || number)).collect();
        assert_eq!(blocking::run(|| ()).await, Err(BlockingError::Busy));
        assert_eq!(blocking::run(|| ()).await, Err(BlockingError::Busy));
        drop(queued.pop());
        let last = blocking::run(|| 1_000);
        assert_eq!(blocking::run(|| ()).await, Err(BlockingError::Busy));
        for (release, running) in held {
            drop(release);
            running.await.unwrap();
        }
        for (number, one) in queued.into_iter().enumerate() {
            assert_eq!(one.await, Ok(number));
        }
        assert_eq!(last.await, Ok(1_000));
    });
}

#[test]
fn what_is_given_up_before_it_began_is_not_done() {
    on_core(small(), || async {
        let mut held = Vec::new();
        for _ in 0..THREADS_MAX {
            let (release, begun, work) = stuck();
            let running = blocking::run(work);
            begun.recv().unwrap();
            held.push((release, running));
        }
        let done = Arc::new(AtomicUsize::new(0));
        let count = |done: &Arc<AtomicUsize>| {
            let done = Arc::clone(done);
            move || done.fetch_add(1, SeqCst)
        };
        let mut given_up = Box::pin(blocking::run(count(&done)));
        assert_eq!(poll_once(given_up.as_mut()).await, None);
        drop(given_up);
        let wanted = blocking::run(count(&done));
        for (release, running) in held {
            drop(release);
            running.await.unwrap();
        }
        assert_eq!(wanted.await, Ok(0), "the one before it was not done");
        assert_eq!(done.load(SeqCst), 1);
    });
}

/// Tells where it was dropped.
struct Telling(Arc<Mutex<Option<std::thread::ThreadId>>>);

impl Drop for Telling {
    fn drop(&mut self) {
        *self.0.lock().unwrap() = Some(std::thread::current().id());
    }
}

#[test]
fn a_result_that_nobody_takes_is_dropped_by_the_helper() {
    on_core(small(), || async {
        let told = Arc::new(Mutex::new(None));
        let (release, begun, work) = stuck();
        let telling = Telling(Arc::clone(&told));
        let running = blocking::run(move || {
            work();
            telling
        });
        begun.recv().unwrap();
        drop(running);
        assert_eq!(*told.lock().unwrap(), None);
        drop(release);
        until(|| told.lock().unwrap().is_some()).await;
        assert_ne!(*told.lock().unwrap(), Some(std::thread::current().id()));
    });
}

#[test]
fn a_panic_is_an_answer_and_the_helpers_live_on() {
    on_core(small(), || async {
        for _ in 0..2 * THREADS_MAX {
            assert_eq!(blocking::run(|| panic!("on purpose")).await, Err::<(), _>(BlockingError::Panicked));
        }
        assert_eq!(blocking::run(|| 1).await, Ok(1));
    });
}

#[test]
fn the_end_of_a_runtime_waits_for_no_helper() {
    let (release, told) = on_core(small(), || async {
        let told = Arc::new(Mutex::new(None));
        let (release, begun, work) = stuck();
        let telling = Telling(Arc::clone(&told));
        rt::spawn_detached(async move {
            let _ = blocking::run(move || {
                work();
                telling
            })
            .await;
        });
        while begun.try_recv().is_err() {
            rt::yield_now().await;
        }
        (release, told)
    });
    assert!(told.lock().unwrap().is_none(), "it still runs");
    drop(release);
    while told.lock().unwrap().is_none() {
        std::thread::yield_now();
    }
}

#[test]
fn what_had_not_begun_at_the_end_is_stopped() {
    let (held, mut queued) = on_core(small(), || async {
        let mut held = Vec::new();
        for _ in 0..THREADS_MAX {
            let (release, begun, work) = stuck();
            let running = blocking::run(work);
            begun.recv().unwrap();
            held.push((release, running));
        }
        (held, Box::pin(blocking::run(|| ())))
    });
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let answer = std::future::Future::poll(queued.as_mut(), &mut context);
    assert_eq!(answer, std::task::Poll::Ready(Err(BlockingError::Stopped)));
    drop(held);
}

#[test]
fn helpers_are_not_pinned_though_the_core_is() {
    let all = rt::cpu::CpuFacts::read().allowed;
    let here = all[0];
    let builder = small().helper_cpus(&all);
    on_core(builder, move || async move {
        rt::cpu::pin(here).unwrap();
        let allowed = blocking::run(|| rt::cpu::CpuFacts::read().allowed).await.unwrap();
        assert_eq!(allowed, all);
    });
}
