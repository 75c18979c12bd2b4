//! A bounded queue between threads, of one mutex and two conditions.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Items in the order in which they were added.
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    has_room: Condvar,
    has_item: Condvar,
    length_max: usize,
}

struct State<T> {
    items: VecDeque<T>,
    closed: bool,
}

impl<T> Queue<T> {
    /// An empty queue for so many items.
    pub(crate) fn new(length_max: usize) -> Queue<T> {
        let state = Mutex::new(State { items: VecDeque::with_capacity(length_max), closed: false });
        Queue { state, has_room: Condvar::new(), has_item: Condvar::new(), length_max }
    }

    /// Waits for room. What comes after the close is dropped.
    pub(crate) fn add(&self, item: T) {
        let full = |state: &mut State<T>| state.items.len() >= self.length_max && !state.closed;
        let mut state = self.has_room.wait_while(self.lock(), full).unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return;
        }
        state.items.push_back(item);
        drop(state);
        self.has_item.notify_one();
    }

    /// Waits for an item; none once the queue is closed and empty.
    pub(crate) fn take(&self) -> Option<T> {
        let empty = |state: &mut State<T>| state.items.is_empty() && !state.closed;
        let mut state = self.has_item.wait_while(self.lock(), empty).unwrap_or_else(PoisonError::into_inner);
        let item = state.items.pop_front();
        drop(state);
        self.has_room.notify_one();
        item
    }

    /// What is in it is still taken; who waits for room or for an item is let go.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.has_item.notify_all();
        self.has_room.notify_all();
    }

    /// No code that can panic runs under the lock, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    #[test]
    fn a_full_queue_blocks_and_drains() {
        let queue = Queue::new(2);
        let (said, heard) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0..5 {
                    queue.add(number);
                    said.send(number).unwrap();
                }
            });
            assert_eq!([heard.recv().unwrap(), heard.recv().unwrap()], [0, 1]);
            // The third is held: it is added only when one was taken.
            assert!(heard.recv_timeout(Duration::from_millis(50)).is_err());
            assert_eq!(queue.take(), Some(0));
            assert_eq!(heard.recv().unwrap(), 2);
            assert_eq!((1..5).map(|_| queue.take().unwrap()).collect::<Vec<_>>(), [1, 2, 3, 4]);
        });
    }

    #[test]
    fn an_empty_queue_blocks() {
        let queue = Queue::new(1);
        let (said, heard) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| said.send(queue.take()).unwrap());
            assert!(heard.recv_timeout(Duration::from_millis(50)).is_err());
            queue.add(7);
            assert_eq!(heard.recv().unwrap(), Some(7));
            scope.spawn(|| said.send(queue.take()).unwrap());
            queue.close();
            assert_eq!(heard.recv().unwrap(), None);
        });
    }

    #[test]
    fn a_close_lets_go_who_waits_for_room() {
        let queue = Queue::new(1);
        queue.add(1);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| queue.add(2));
            queue.close();
            waiting.join().unwrap();
        });
        assert_eq!([queue.take(), queue.take()], [Some(1), None]);
    }

    #[test]
    fn nothing_is_lost_or_doubled() {
        const EACH: usize = 5_000;
        let queue = Queue::new(3);
        let mut taken: Vec<usize> = thread::scope(|scope| {
            let takers: Vec<_> =
                (0..4).map(|_| scope.spawn(|| std::iter::from_fn(|| queue.take()).collect::<Vec<_>>())).collect();
            let adders: Vec<_> = (0..4)
                .map(|adder| {
                    let queue = &queue;
                    scope.spawn(move || (0..EACH).for_each(|number| queue.add(adder * EACH + number)))
                })
                .collect();
            adders.into_iter().for_each(|adder| adder.join().unwrap());
            queue.close();
            takers.into_iter().flat_map(|taker| taker.join().unwrap()).collect()
        });
        taken.sort_unstable();
        assert_eq!(taken, (0..4 * EACH).collect::<Vec<_>>());
    }
}
