//! What has left a script's process group (setsid), found again and ended: by its control group where scripts have one,
//! else by its environment.

use std::collections::HashSet;
use std::future::{Future, poll_fn};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::rt;
use crate::rt::confine::groups;
use crate::rt::process::{self, Signal, orphans};

/// A variable that every script has with a value of its own, and its descendants with it, wherever they go: how those are
/// found that leave the process group. The name is the one that other servers use for a request's unique number.
pub(super) const TAG: &str = "UNIQUE_ID";

/// How the descendants of one script can be told from all other processes.
#[derive(Clone)]
pub(super) struct Escaped {
    /// The value of [`TAG`] in their environment.
    tag: String,
    /// The control group that they cannot leave, where scripts have one.
    group: Option<PathBuf>,
}

impl Escaped {
    pub(super) fn new(tag: String, group: Option<PathBuf>) -> Escaped {
        Escaped { tag, group }
    }

    /// TERM, and KILL after `patience`, to all of them. A thread of its own does it, one for all that are ended at the
    /// same time: it reads the environment of every process, which is nothing for a core to do. It happens whether or not
    /// the future is polled; that is ready afterwards.
    pub(super) fn end(&self, cpus: &[usize], patience: Duration) -> impl Future<Output = ()> + use<> {
        let done = Arc::new(Done::default());
        let job = Job { whom: self.clone(), patience, asked: None, done: Arc::clone(&done) };
        if let Err(error) = ENDER.give(cpus, |jobs| jobs.new.push(job)) {
            tracing::warn!(%error, request = self.tag, "no thread to end what a script has left behind");
            done.tell();
        }
        poll_fn(move |context| done.poll(context))
    }

    /// Nobody is waited for any more: the control group goes as soon as it is empty. Who lingers in it may stay.
    pub(super) fn forget(&mut self, cpus: &[usize]) {
        if let Some(group) = self.group.take() {
            // Without a thread it stays until the server ends, which removes them all.
            let _ = ENDER.give(cpus, |jobs| {
                jobs.spent.push(group);
                jobs.spent_is_news = true;
            });
        }
    }
}

/// Those that are being ended, and the thread that does it while there are any.
struct Ender {
    jobs: Mutex<Jobs>,
    bell: Condvar,
}

#[derive(Default)]
struct Jobs {
    new: Vec<Job>,
    /// Control groups that nobody needs any more.
    spent: Vec<PathBuf>,
    /// One of them has not been looked at.
    spent_is_news: bool,
    has_thread: bool,
}

struct Job {
    whom: Escaped,
    patience: Duration,
    /// Once TERM has been sent.
    asked: Option<Asked>,
    done: Arc<Done>,
}

/// What has been asked to end.
struct Asked {
    kill_at: Instant,
    /// When to see whether it has, and how long to wait after that.
    look_at: Instant,
    pause: Duration,
}

/// How soon it is looked whether somebody has ended, and how seldom it becomes: mostly it has at once, and its place is
/// wanted; but a look reads the environment of every process.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

static ENDER: Ender = Ender {
    jobs: Mutex::new(Jobs { new: Vec::new(), spent: Vec::new(), spent_is_news: false, has_thread: false }),
    bell: Condvar::new(),
};

const STACK_BYTES: usize = 128 << 10;
const TIDY_TRIES: usize = 5;
const TIDY_PAUSE: Duration = Duration::from_millis(10);

impl Ender {
    fn give(&'static self, cpus: &[usize], add: impl FnOnce(&mut Jobs)) -> std::io::Result<()> {
        let mut jobs = self.jobs();
        if !jobs.has_thread {
            let cpus = cpus.to_owned();
            let thread = std::thread::Builder::new().name("end-escaped".to_owned()).stack_size(STACK_BYTES);
            thread.spawn(move || self.work(&cpus))?;
            jobs.has_thread = true;
        }
        add(&mut jobs);
        drop(jobs);
        self.bell.notify_one();
        Ok(())
    }

    /// The thread: TERM to whoever is new, a look now and then, KILL to those whose time is over, until nobody is left.
    fn work(&self, cpus: &[usize]) {
        // Not where the core is, and after everything else. A refusal changes only who waits for whom.
        let _ = rt::set_affinity(cpus).and(rt::add_nice(process::NICE_INCREMENT));
        let mut known: Vec<Job> = Vec::new();
        while let Some(new) = self.next(&known) {
            self.tidy();
            known.extend(new);
            let now = Instant::now();
            let found = signal(known.iter().filter(|job| job.asked.is_none()), Some(Signal::TERM));
            known.retain_mut(|job| job.asked.is_some() || found.contains(&job.whom.tag) && job.ask(now) || job.over());
            let is_due = |job: &Job| job.asked.as_ref().is_some_and(|asked| asked.kill_at <= now);
            signal(known.iter().filter(|job| is_due(job)), Some(Signal::KILL));
            known.retain(|job| !is_due(job) || job.over());
            let is_looked_at = |job: &Job| job.asked.as_ref().is_some_and(|asked| asked.look_at <= now);
            let found = signal(known.iter().filter(|job| is_looked_at(job)), None);
            known.retain_mut(|job| !is_looked_at(job) || found.contains(&job.whom.tag) && job.wait(now) || job.over());
        }
    }

    /// Removes the control groups in which nobody is left. What remains is tried again whenever there is something to do,
    /// and at the server's end.
    fn tidy(&self) {
        let mut spent = std::mem::take(&mut self.jobs().spent);
        for _ in 0..TIDY_TRIES {
            spent.retain(|group| !groups::remove(group));
            if spent.is_empty() {
                return;
            }
            // Whoever was killed a moment ago is still in it.
            std::thread::sleep(TIDY_PAUSE);
        }
        self.jobs().spent.append(&mut spent);
    }

    /// Waits for somebody new, or for the time of one that is known. `None`: there is nobody, and the thread is over.
    fn next(&self, known: &[Job]) -> Option<Vec<Job>> {
        let mut jobs = self.jobs();
        if jobs.new.is_empty() && jobs.spent_is_news {
            jobs.spent_is_news = false;
        } else if jobs.new.is_empty() {
            let asked = known.iter().filter_map(|job| job.asked.as_ref());
            let Some(soonest) = asked.map(|asked| asked.kill_at.min(asked.look_at)).min() else {
                jobs.has_thread = false;
                return None;
            };
            let wait = soonest.saturating_duration_since(Instant::now());
            jobs = self.bell.wait_timeout(jobs, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
        Some(std::mem::take(&mut jobs.new))
    }

    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Job {
    /// TERM has been sent. True, so that it is retained.
    fn ask(&mut self, now: Instant) -> bool {
        self.asked = Some(Asked { kill_at: now + self.patience, look_at: now + PAUSE_MIN, pause: PAUSE_MIN });
        true
    }

    /// Somebody is still there. True, so that it is retained.
    fn wait(&mut self, now: Instant) -> bool {
        if let Some(asked) = &mut self.asked {
            asked.pause = (asked.pause * 2).min(PAUSE_MAX);
            asked.look_at = now + asked.pause;
        }
        true
    }

    /// False, so that it is not retained.
    fn over(&self) -> bool {
        self.done.tell();
        false
    }
}

/// The tags of those who had anybody to signal. No signal: who is still there.
fn signal<'j>(jobs: impl Iterator<Item = &'j Job>, signal: Option<Signal>) -> HashSet<String> {
    let mut found = HashSet::new();
    let mut wanted = HashSet::new();
    for Job { whom, .. } in jobs {
        match &whom.group {
            Some(group) if groups::signal(group, signal) => drop(found.insert(whom.tag.clone())),
            Some(_) => {}
            None => drop(wanted.insert(whom.tag.clone())),
        }
    }
    if !wanted.is_empty() {
        found.extend(orphans::kill_by_environment(TAG, &wanted, signal).unwrap_or_default());
    }
    found
}

/// Told by a thread, awaited by a task.
#[derive(Default)]
struct Done(Mutex<(bool, Option<Waker>)>);

impl Done {
    fn tell(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = true;
        let waker = state.1.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.0 {
            return Poll::Ready(());
        }
        state.1 = Some(context.waker().clone());
        Poll::Pending
    }
}
