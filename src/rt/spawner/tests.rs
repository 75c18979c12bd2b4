//! Real children on real threads. What counts descriptors, threads or orphans runs in a process of its own.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::pin::pin;
use std::task::{Wake, Waker};
use std::thread::Thread;
use std::time::Instant;

use rustix::process::Pid;

use super::*;
use crate::rt::sys::pipe::pipe;

/// Runs one `#[ignore]`d test of this binary in a new process, where nothing else goes on.
pub(crate) fn in_a_process_of_its_own(test: &str) {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"])
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", text.escape_ascii());
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// All the CPUs that this process may use.
fn cpus() -> Vec<usize> {
    let set = rustix::thread::sched_getaffinity(None).unwrap();
    (0..rustix::thread::CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect()
}

fn spawner() -> Spawner {
    Spawner::start("test-spawn", &cpus()).unwrap()
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(script).env("PATH", "/usr/bin:/bin");
    command
}

/// The command with a pipe for its stdout, and the pipe's other end.
fn piped(mut command: Command) -> (Command, File) {
    let (read, write) = pipe().unwrap();
    command.stdout(Stdio::Fd(write));
    (command, read.into())
}

fn read_all(mut file: File) -> String {
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    text
}

fn output_of(spawner: &Spawner, command: Command) -> String {
    let (command, read) = piped(command);
    let child = block_on(spawner.spawn(command)).unwrap();
    let output = read_all(read);
    assert!(child.wait().unwrap().status.success());
    output
}

/// Whether the process is there, dead or alive.
fn exists(pid: Pid) -> bool {
    fs::exists(format!("/proc/{pid}")).unwrap()
}

/// True within ten seconds, or never.
fn eventually(mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(10) {
        if condition() {
            return true;
        }
        thread::sleep(Duration::from_millis(2));
    }
    false
}

/// Field `number` of /proc/PID/stat, counted from 1 as in proc(5).
fn stat_field(stat: &str, number: usize) -> i64 {
    // The second field is the name in brackets, which may contain anything.
    let rest = &stat[stat.rfind(')').unwrap() + 2..];
    rest.split_ascii_whitespace().nth(number - 3).unwrap().parse().unwrap()
}

const STAT_NICE: usize = 19;
const STAT_POLICY: usize = 41;

/// Of a child that looks only when it has been handed over.
fn stat_of_a_child(spawner: &Spawner, priority: Priority) -> String {
    let (go_read, go) = pipe().unwrap();
    let (mut command, read) = piped(shell("read go; exec cat /proc/self/stat"));
    command.stdin(Stdio::Fd(go_read)).priority(priority);
    let child = block_on(spawner.spawn(command)).unwrap();
    rustix::io::write(&go, b"\n").unwrap();
    let stat = read_all(read);
    assert!(child.wait().unwrap().status.success());
    stat
}

#[test]
fn children_run_in_the_background_unless_asked_otherwise() {
    let spawner = spawner();
    let own_nice = i64::from(rustix::process::getpriority_process(None).unwrap());
    let stat = stat_of_a_child(&spawner, Priority::Background);
    assert_eq!(stat_field(&stat, STAT_POLICY), i64::from(libc::SCHED_BATCH));
    assert_eq!(stat_field(&stat, STAT_NICE), (own_nice + i64::from(NICE_INCREMENT)).min(19));

    let stat = stat_of_a_child(&spawner, Priority::Normal);
    assert_eq!(stat_field(&stat, STAT_POLICY), i64::from(libc::SCHED_OTHER));
    assert_eq!(stat_field(&stat, STAT_NICE), own_nice);
}

#[test]
fn children_are_not_pinned_though_the_thread_that_asks_is() {
    let all = cpus();
    thread::spawn(move || {
        sched::set_affinity(&all[..1]).unwrap();
        let spawner = Spawner::start("unpinned", &all).unwrap();
        let mut command = Command::new("/bin/cat");
        command.arg("/proc/self/status");
        let status = output_of(&spawner, command);
        let mask = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed:")).unwrap().trim();
        let bits: u32 = mask.chars().filter_map(|digit| digit.to_digit(16)).map(u32::count_ones).sum();
        assert_eq!(bits as usize, all.len());
    })
    .join()
    .unwrap();
}

#[test]
fn the_thread_blocks_all_signals_but_sigchld_and_its_children_none() {
    let spawner = Spawner::start("masked", &cpus()).unwrap();
    let status = output_of(&spawner, shell("cat /proc/self/status"));
    assert!(status.contains("SigBlk:\t0000000000000000"), "{status}");

    let statuses = fs::read_dir("/proc/self/task").unwrap().filter_map(|task| {
        // Another test's thread may be gone by now.
        fs::read_to_string(task.unwrap().path().join("status")).ok()
    });
    let own = statuses.into_iter().find(|status| status.starts_with("Name:\tmasked\n")).unwrap();
    // All but KILL and STOP, which cannot be blocked, and 32 and 33, which glibc keeps for itself. And SIGCHLD: blocked here,
    // each child's end would wake the main thread.
    assert!(own.contains("SigBlk:\tfffffffe7ffafeff"), "{own}");
}

#[test]
fn a_failure_comes_back_as_the_answer() {
    let error = block_on(spawner().spawn(Command::new("/nonexistent"))).unwrap_err();
    assert_eq!((error.errno, error.cause), (Errno::NOENT, Cause::Missing));
}

#[test]
fn eof_comes_when_the_child_has_closed_its_end() {
    // Our own copies of the write ends go, too: a read that ends is the proof.
    let (command, read) = piped(shell("echo one; exec >&-; exec sleep 1000"));
    let child = block_on(spawner().spawn(command)).unwrap();
    assert_eq!(read_all(read), "one\n");
    assert!(exists(child.pid()));
}

#[test]
fn a_dropped_child_is_killed_with_its_group_and_reaped() {
    let spawner = spawner();
    // The group's second member holds stdout open: EOF is its death.
    let (command, read) = piped(shell("trap '' TERM HUP; sleep 1000 & echo; wait"));
    let child = block_on(spawner.spawn(command)).unwrap();
    let pid = child.pid();
    drop(child);
    assert!(eventually(|| !exists(pid)), "no zombie");
    read_all(read);
}

#[test]
fn a_child_dropped_after_its_spawner_is_reaped_too() {
    let child = block_on(spawner().spawn(shell("sleep 1000"))).unwrap();
    let pid = child.pid();
    drop(child);
    assert!(!exists(pid), "by the thread that dropped it");
}

#[test]
fn a_detached_child_lives_on_and_is_reaped() {
    let spawner = spawner();
    let (read, write) = pipe().unwrap();
    let mut command = Command::new("/bin/cat");
    command.stdin(Stdio::Fd(read)).stdout(Stdio::Null);
    let child = block_on(spawner.spawn(command)).unwrap();
    let pid = child.pid();
    child.detach();
    // Something else is served meanwhile.
    output_of(&spawner, shell("echo"));
    assert!(exists(pid));
    drop(write);
    assert!(eventually(|| !exists(pid)));
}

#[test]
fn a_future_dropped_before_it_was_ready_leaves_nothing() {
    let spawner = spawner();
    let (command, read) = piped(shell("echo $$; exec sleep 1000"));
    drop(spawner.spawn(command));
    // Either it was not begun, or it was killed: this ends, and the pid, if there was one, goes.
    let output = read_all(read);
    if let Some(pid) = output.trim().parse().ok().and_then(Pid::from_raw) {
        assert!(eventually(|| !exists(pid)));
    }
}

#[test]
fn a_future_dropped_when_the_child_has_started_kills_it() {
    let spawner = spawner();
    let (command, mut read) = piped(shell("echo $$; exec sleep 1000"));
    let future = spawner.spawn(command);
    let mut line = [0; 32];
    let len = read.read(&mut line).unwrap();
    let pid = Pid::from_raw(str::from_utf8(&line[..len]).unwrap().trim().parse().unwrap()).unwrap();
    assert!(exists(pid));
    drop(future);
    assert!(eventually(|| !exists(pid)));
    assert_eq!(read_all(read), "");
}

#[test]
fn what_was_not_begun_is_answered_when_the_spawner_stops() {
    let spawner = spawner();
    let directory = tempfile::TempDir::new().unwrap();
    // A busy program holds the thread for 21 ms; what is queued behind it is not begun.
    let path = directory.path().join("busy");
    let writer = File::create(&path).unwrap();
    rustix::fs::fchmod(&writer, rustix::fs::Mode::from_raw_mode(0o755)).unwrap();
    let busy = spawner.spawn(Command::new(&path));
    let behind = spawner.spawn(Command::new("/bin/true"));
    drop(spawner);
    let causes = [busy, behind].map(|future| block_on(future).unwrap_err().cause);
    // The first may have been taken already, or not.
    assert!([Cause::Busy, Cause::Stopped].contains(&causes[0]));
    assert_eq!(causes[1], Cause::Stopped);
}

#[test]
fn a_program_that_was_written_just_now_is_tried_again() {
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join("fresh");
    fs::write(&path, "#!/bin/sh\necho ran\n").unwrap();
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let writer = File::options().append(true).open(&path).unwrap();
    let closer = thread::spawn(move || {
        thread::sleep(Duration::from_millis(3));
        drop(writer);
    });
    assert_eq!(output_of(&spawner(), Command::new(&path)), "ran\n");
    closer.join().unwrap();
}

#[test]
fn the_remains_of_a_group_can_be_killed_after_its_leader_was_reaped() {
    let (command, read) = piped(shell("sleep 1000 & echo"));
    let child = block_on(spawner().spawn(command)).unwrap();
    let group = child.pid().as_raw_nonzero().get();
    let exited = child.wait().unwrap();
    assert!(exited.status.success());
    exited.kill_group(Signal::KILL).unwrap();
    assert_eq!(read_all(read), "\n");
    assert!(eventually(|| exited.kill_group(Signal::KILL).is_err() || !lives(group)), "nobody is left");
}

/// Whether anybody of a group is more than a zombie: a process 1 that is no init leaves those for ever.
fn lives(group: i32) -> bool {
    let stats =
        fs::read_dir("/proc").unwrap().filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("stat")).ok());
    stats.into_iter().any(|stat| {
        let mut fields = stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ')).into_iter().flatten();
        let (state, its_group) = (fields.next(), fields.nth(1));
        state != Some("Z") && its_group.and_then(|text| text.parse().ok()) == Some(group)
    })
}

#[test]
fn kill_reaches_the_child_and_kill_group_the_group() {
    let spawner = spawner();
    let child = block_on(spawner.spawn(shell("exec sleep 1000"))).unwrap();
    child.kill(Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().status.signal(), Some(15));
    let child = block_on(spawner.spawn(shell("exec sleep 1000"))).unwrap();
    child.kill_group(Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().status.signal(), Some(2));
}

#[test]
fn what_left_the_group_is_found_by_its_environment() {
    let spawner = spawner();
    let value = format!("{}-{:?}", std::process::id(), Instant::now());
    let mut command = shell("setsid sleep 1000 & echo; exit 0");
    command.env("UCAFFEINE_TEST_REQUEST", &value);
    let (command, read) = piped(command);
    let exited = block_on(spawner.spawn(command)).unwrap().wait().unwrap();
    let ask = |value: &str, signal| {
        let values = std::collections::HashSet::from([value.to_owned(), "nobody's".to_owned()]);
        orphans::kill_by_environment("UCAFFEINE_TEST_REQUEST", &values, signal).unwrap()
    };
    let kill = |value: &str| ask(value, Some(Signal::KILL));
    // Until it has called setsid it is still in the group.
    assert!(eventually(|| exited.kill_group(Signal::CONT).is_err()));
    assert!(kill(&value[1..]).is_empty(), "another request's");
    assert_eq!(ask(&value, None), [value.clone()].into());
    assert_eq!(kill(&value), [value.clone()].into());
    assert!(eventually(|| ask(&value, None).is_empty()));
    assert_eq!(read_all(read), "\n");
}

#[test]
fn orphans_are_reaped_and_owned_children_are_not() {
    in_a_process_of_its_own("rt::spawner::tests::isolated_orphans");
}

#[test]
#[ignore = "run by orphans_are_reaped_and_owned_children_are_not"]
fn isolated_orphans() {
    orphans::become_subreaper().unwrap();
    let spawner = spawner();
    let (command, read) = piped(shell("setsid sh -c 'echo $$; exec sleep 0.05' & exit 0"));
    let parent = block_on(spawner.spawn(command)).unwrap();
    let dead = block_on(spawner.spawn(shell("exit 4"))).unwrap();
    let orphan = Pid::from_raw(read_all(read).trim().parse().unwrap()).unwrap();
    // The orphan dies as a child of ours, and only that one is taken, although both children of the spawner are dead as well,
    // and although nobody said that they are owned.
    let mut reaped = 0;
    assert!(eventually(|| {
        reaped += orphans::reap(|_| false).unwrap();
        reaped == 1
    }));
    assert!(!exists(orphan));
    assert!(exists(parent.pid()) && exists(dead.pid()));
    assert!(parent.wait().unwrap().status.success());
    // When the thread that started it has gone it is the main thread's child: now `is_owned` protects it.
    let pid = dead.pid();
    drop(spawner);
    assert_eq!(orphans::reap(|asked| asked == pid).unwrap(), 0);
    assert_eq!(dead.wait().unwrap().status.code(), Some(4));
}

#[test]
fn a_thousand_children_leave_nothing_behind() {
    in_a_process_of_its_own("rt::spawner::tests::isolated_thousand");
}

#[test]
#[ignore = "run by a_thousand_children_leave_nothing_behind"]
fn isolated_thousand() {
    let count = |directory: &str| fs::read_dir(directory).unwrap().count();
    let before = (count("/proc/self/fd"), count("/proc/self/task"));
    let spawner = spawner();
    for round in 0..1_000 {
        let (command, read) = piped(Command::new("/bin/true"));
        let future = spawner.spawn(command);
        // Each way out in turn.
        match round % 4 {
            0 => drop(future),
            1 => drop(block_on(future).unwrap()),
            2 => block_on(future).unwrap().detach(),
            _ => assert!(block_on(future).unwrap().wait().unwrap().status.success()),
        }
        assert_eq!(read_all(read), "");
    }
    let zombies = || {
        let tasks = fs::read_dir("/proc/self/task").unwrap();
        tasks.map(|task| fs::read_to_string(task.unwrap().path().join("children")).unwrap()).collect::<String>()
    };
    assert!(eventually(|| zombies().is_empty()), "{}", zombies());
    drop(spawner);
    assert!(eventually(|| (count("/proc/self/fd"), count("/proc/self/task")) == before));
}

/// `cargo test --release --lib -- --ignored --nocapture spawner::tests::bench`: the numbers of docs/decisions/0004.
#[test]
#[ignore = "a measurement"]
fn bench_on_the_thread_and_off_it() {
    let spawner = spawner();
    report("a start on the calling thread", || {
        let command = bench_command(Priority::Normal);
        let start = Instant::now();
        let process = crate::rt::sys::spawn::spawn(&command).unwrap();
        let elapsed = start.elapsed();
        process.wait().unwrap();
        elapsed
    });
    for priority in [Priority::Normal, Priority::Background] {
        report(&format!("{priority:?}: the caller's part"), || {
            let command = bench_command(priority);
            let start = Instant::now();
            let future = spawner.spawn(command);
            let elapsed = start.elapsed();
            block_on(future).unwrap().wait().unwrap();
            elapsed
        });
        report(&format!("{priority:?}: until the child is there"), || {
            let command = bench_command(priority);
            let start = Instant::now();
            let child = block_on(spawner.spawn(command)).unwrap();
            let elapsed = start.elapsed();
            child.wait().unwrap();
            elapsed
        });
    }
}

fn bench_command(priority: Priority) -> Command {
    let mut command = Command::new("/bin/true");
    for n in 0..30 {
        command.env(format!("VARIABLE_{n}"), "a value of the usual length");
    }
    command.priority(priority);
    command
}

fn report(name: &str, round: impl FnMut() -> Duration) {
    const ROUNDS: usize = 2_000;
    let mut times: Vec<Duration> = std::iter::repeat_with(round).take(ROUNDS).collect();
    times.sort();
    let [p50, p99] = [50, 99].map(|percent| times[ROUNDS * percent / 100].as_nanos() as f64 / 1_000.0);
    println!("{name:42} p50 {p50:7.1} us   p99 {p99:8.1} us");
}

/// Compile-time: what crosses threads may.
#[test]
fn the_parts_are_send() {
    fn is_send<T: Send + 'static>() {}
    is_send::<SpawnFuture>();
    is_send::<Child>();
    is_send::<Exited>();
    is_send::<Command>();
    is_send::<OwnedFd>();
    fn is_sync<T: Sync>() {}
    is_sync::<Spawner>();
}
