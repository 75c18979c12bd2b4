//! Messages from other threads: the only path into a running core.
//!
//! A sender puts the message into the mailbox and, if it is the first since the core last looked, posts a completion to
//! the core's ring: MSG_RING from its own ring when it has one, REGISTER_SEND_MSG_RING (6.13) when it has none, and an
//! eventfd that the core reads where the kernel has no such call.

use std::os::fd::{OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::op::{Key, Op, Unclaimed};
use super::sys::lent::Lent;
use super::sys::ring::message_from_outside;
use super::sys::sqe::{Fd, Sqe};
use super::try_with_core;
use super::waker::TaskId;

pub(crate) enum Message {
    Wake(TaskId),
    Run(Box<dyn FnOnce() + Send>),
}

pub(crate) struct Mailbox {
    /// `None` once the core has stopped.
    letters: Mutex<Option<Vec<Message>>>,
    /// Rung under this lock, so that a bell is never rung after its ring was closed and the number given to something else. Not
    /// under that of the letters: the core wakes at the stroke, and where it shares its CPU with the sender, it would find
    /// them locked by a thread that it has just preempted (two more switches for each script).
    closed: Mutex<bool>,
    /// Set by the first sender, cleared by the core when it looks: later senders need not ring.
    rung: AtomicBool,
    bell: Bell,
}

/// How a core is woken.
pub(crate) enum Bell {
    /// A completion posted to this ring.
    Ring(RawFd),
    /// A write to this eventfd, which the core keeps a read on.
    EventFd(OwnedFd),
    /// Not at all: a simulated core never sleeps.
    #[cfg_attr(not(test), expect(dead_code, reason = "only a simulation has none"))]
    None,
}

impl Mailbox {
    pub(crate) fn new(bell: Bell) -> Mailbox {
        Mailbox { letters: Mutex::new(Some(Vec::new())), closed: Mutex::new(false), rung: AtomicBool::new(false), bell }
    }

    pub(crate) fn has_mail(&self) -> bool {
        self.rung.load(Ordering::Acquire)
    }

    /// Everything that has arrived. Costs one load when nothing has.
    pub(crate) fn take(&self) -> Vec<Message> {
        if !self.has_mail() {
            return Vec::new();
        }
        // Cleared before the letters are taken: one that comes in between rings again.
        self.rung.store(false, Ordering::Release);
        self.letters().as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub(crate) fn eventfd(&self) -> Option<&OwnedFd> {
        match &self.bell {
            Bell::EventFd(fd) => Some(fd),
            Bell::Ring(_) | Bell::None => None,
        }
    }

    fn put(&self, message: Message) -> bool {
        let mut letters = self.letters();
        let Some(open) = letters.as_mut() else {
            drop(letters);
            // Only now: it may run destructors.
            drop(message);
            return false;
        };
        open.push(message);
        drop(letters);
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.ring();
        }
        true
    }

    fn ring(&self) {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        if *closed {
            return;
        }
        match &self.bell {
            Bell::None => {}
            Bell::Ring(ring) => {
                // From a core that runs: one more entry of its next enter. It costs no syscall.
                let sent = try_with_core(|core| {
                    if !core.running.get() {
                        return None;
                    }
                    let mut sqe = Sqe::msg_ring(*ring, Key::WAKE_UP.user_data()).quiet();
                    sqe.user_data = Key::NOBODY.user_data();
                    Some(core.push(Lent::without_memory(sqe)))
                });
                if sent.flatten().is_none() {
                    // The ring is gone only when the core is: nobody is left to wake.
                    let _ = message_from_outside(*ring, Key::WAKE_UP.user_data());
                }
            }
            // Fails only when 2^64 - 2 rings are unread.
            Bell::EventFd(fd) => drop(rustix::io::write(fd, &1u64.to_ne_bytes())),
        }
    }

    fn letters(&self) -> std::sync::MutexGuard<'_, Option<Vec<Message>>> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A handle to a core, for any thread.
#[derive(Clone)]
pub struct Remote {
    mailbox: Arc<Mailbox>,
}

impl Remote {
    pub(crate) fn new(mailbox: Arc<Mailbox>) -> Remote {
        Remote { mailbox }
    }

    /// Runs `work` on the core, between two turns. It may spawn tasks there; it should be short.
    /// Returns false when the core has stopped; `work` is dropped then.
    pub fn run(&self, work: impl FnOnce() + Send + 'static) -> bool {
        self.mailbox.put(Message::Run(Box::new(work)))
    }
}

/// Where the kernel cannot post messages from outside: keeps a read on the eventfd, so that a write wakes the core.
pub(crate) async fn listen(mailbox: Arc<Mailbox>) {
    use std::os::fd::AsRawFd;
    while let Some(fd) = mailbox.eventfd() {
        let entry = |buffer: &mut Vec<u8>| Sqe::read(Fd::Raw(fd.as_raw_fd()), buffer.as_mut_ptr(), 8, None);
        let (outcome, _) = Op::start(Vec::with_capacity(8), Unclaimed::Forget, entry).await;
        if outcome.count().is_err() {
            return;
        }
    }
}

/// The mailboxes of all runtimes of the process, by number; for wake-ups across threads only.
static MAILBOXES: RwLock<Vec<Option<Arc<Mailbox>>>> = RwLock::new(Vec::new());

/// Gives a runtime a number. `None`: 65,536 are running.
pub(crate) fn register(make: impl FnOnce() -> Mailbox) -> Option<(u16, Arc<Mailbox>)> {
    let mut all = MAILBOXES.write().unwrap_or_else(PoisonError::into_inner);
    let number = all.iter().position(Option::is_none).unwrap_or(all.len());
    let id = u16::try_from(number).ok()?;
    let mailbox = Arc::new(make());
    if number == all.len() {
        all.push(None);
    }
    all[number] = Some(Arc::clone(&mailbox));
    Some((id, mailbox))
}

pub(crate) fn unregister(id: u16) {
    let mailbox = MAILBOXES.write().unwrap_or_else(PoisonError::into_inner)[usize::from(id)].take();
    if let Some(mailbox) = mailbox {
        *mailbox.closed.lock().unwrap_or_else(PoisonError::into_inner) = true;
        let unread = mailbox.letters().take();
        // After the lock: a letter's destructor may write a letter.
        drop(unread);
    }
}

/// Wakes a task of another thread's core; nobody, if that core is gone.
pub(crate) fn wake_elsewhere(id: TaskId) {
    let mailbox = {
        let all = MAILBOXES.read().unwrap_or_else(PoisonError::into_inner);
        all.get(usize::from(id.runtime())).and_then(Clone::clone)
    };
    if let Some(mailbox) = mailbox {
        mailbox.put(Message::Wake(id));
    }
}
