//! What a child sees, asked of real children.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, FromRawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use tempfile::TempDir;

use super::*;
use crate::rt::sys::pipe::pipe;

/// Runs it to its end and returns what it wrote to stdout.
fn output_of(command: &mut Command) -> String {
    let (read, write) = pipe().unwrap();
    command.stdout(Stdio::Fd(write));
    let process = spawn_unless_busy(command).unwrap();
    command.stdout(Stdio::Null);
    let mut output = String::new();
    File::from(read).read_to_string(&mut output).unwrap();
    assert!(process.wait().unwrap().success(), "{output}");
    output
}

/// Tests write scripts and start children at the same time, in one process: see `spawner::BUSY_RETRY_MS`.
fn spawn_unless_busy(command: &Command) -> Result<Process, SpawnError> {
    loop {
        match spawn(command) {
            Err(error) if error.cause == Cause::Busy => std::thread::yield_now(),
            answer => return answer,
        }
    }
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(script).env("PATH", "/usr/bin:/bin");
    command
}

fn status_line(status: &str, name: &str) -> String {
    status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned()
}

fn script(directory: &TempDir, name: &str, mode: u32, content: impl AsRef<[u8]>) -> PathBuf {
    let path = directory.path().join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

fn failure(program: &Path) -> SpawnError {
    spawn_unless_busy(Command::new(program).stdout(Stdio::Null)).unwrap_err()
}

#[test]
fn a_child_has_descriptors_0_1_and_2_and_no_others() {
    // As if inherited, or opened by a library that does not know CLOEXEC.
    let null = File::open("/dev/null").unwrap();
    let leaky: Vec<_> = (0..3).map(|_| rustix::io::dup(&null).unwrap()).collect();
    let flags = rustix::io::fcntl_getfd(&leaky[0]).unwrap();
    assert!(!flags.contains(rustix::io::FdFlags::CLOEXEC));
    let high = rustix::io::fcntl_dupfd_cloexec(&null, 900).unwrap();
    rustix::io::fcntl_setfd(&high, rustix::io::FdFlags::empty()).unwrap();

    // The shell expands the glob by opening the directory itself: one more, which is gone again when echo runs.
    let output = output_of(&mut shell("for fd in /proc/$$/fd/*; do [ -e $fd ] && echo ${fd##*/}; done; exit 0"));
    assert_eq!(output.split_ascii_whitespace().collect::<Vec<_>>(), ["0", "1", "2"]);
}

#[test]
fn signals_are_default_and_unblocked_although_this_process_ignores_sigpipe() {
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let sigpipe = 1u64 << (Signal::PIPE.as_raw() - 1);
    assert_ne!(u64::from_str_radix(&status_line(&own, "SigIgn:"), 16).unwrap() & sigpipe, 0);

    let _blocked = crate::rt::sys::signal::block(&SignalSet::every());
    let status = output_of(Command::new("/bin/cat").arg("/proc/self/status"));
    for set in ["SigIgn:", "SigBlk:", "SigCgt:"] {
        assert_eq!(status_line(&status, set), "0000000000000000", "{set}");
    }
}

#[test]
fn a_writer_ends_when_its_reader_has() {
    assert_eq!(output_of(&mut shell("yes | head -1")), "y\n");
}

#[test]
fn a_child_leads_a_group_of_its_own_in_our_session() {
    let (read, write) = pipe().unwrap();
    let process = spawn(Command::new("/bin/cat").stdin(Stdio::Fd(read)).stdout(Stdio::Null)).unwrap();
    let (_, group, session) = family_of(&process.pid().to_string());
    assert_eq!(group, process.pid().as_raw_nonzero().to_string());
    assert_eq!(session, family_of("self").2);
    drop(write);
    assert!(process.wait().unwrap().success());
}

/// Parent, process group and session, as `proc_pid_stat(5)` has them. Not by `getsid(2)`: in a container that was entered from outside,
/// our own session is not in our PID namespace and reads as 0, which no `Pid` can hold.
fn family_of(pid: &str) -> (String, String, String) {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, after_name) = stat.rsplit_once(") ").unwrap();
    let mut fields = after_name.split_ascii_whitespace().skip(1).map(str::to_owned);
    (fields.next().unwrap(), fields.next().unwrap(), fields.next().unwrap())
}

#[test]
fn a_child_starts_in_its_directory() {
    let directory = TempDir::new().unwrap();
    let real = fs::canonicalize(directory.path()).unwrap();
    assert_eq!(output_of(Command::new("/bin/pwd").directory(&real)), format!("{}\n", real.display()));
}

#[test]
fn a_relative_program_is_looked_for_in_that_directory() {
    let directory = TempDir::new().unwrap();
    script(&directory, "here", 0o755, "#!/bin/sh\necho found\n");
    assert_eq!(output_of(Command::new("./here").directory(directory.path())), "found\n");
    let error = spawn(Command::new("./absent").directory(directory.path())).unwrap_err();
    assert_eq!(error.cause, Cause::Missing);
}

#[test]
fn the_environment_is_what_was_given() {
    let mut command = Command::new("/bin/cat");
    command.arg("/proc/self/environ").env("A", "1").env("EMPTY", "").env("B", b"\xff\n=");
    let (read, write) = pipe().unwrap();
    let process = spawn(command.stdout(Stdio::Fd(write))).unwrap();
    drop(command);
    let mut output = Vec::new();
    File::from(read).read_to_end(&mut output).unwrap();
    assert_eq!(output, b"A=1\0EMPTY=\0B=\xff\n=\0");
    assert!(process.wait().unwrap().success());

    assert_eq!(output_of(Command::new("/bin/cat").arg("/proc/self/environ")), "");
}

#[test]
fn a_script_alone_has_one_argument() {
    let directory = TempDir::new().unwrap();
    let path = script(&directory, "count", 0o755, "#!/bin/sh\necho $# $0\nexec cat /proc/$$/cmdline\n");
    let output = output_of(&mut Command::new(&path));
    assert!(output.starts_with(&format!("0 {}\n", path.display())), "{output}");
}

#[test]
fn stdin_is_null_or_a_file_where_it_stands() {
    assert_eq!(output_of(&mut shell("readlink /proc/self/fd/0; cat")), "/dev/null\n");

    let directory = TempDir::new().unwrap();
    let spool = File::open(script(&directory, "spool", 0o600, "0123456789")).unwrap();
    rustix::fs::seek(&spool, rustix::fs::SeekFrom::Start(4)).unwrap();
    assert_eq!(output_of(Command::new("/bin/cat").stdin(Stdio::Fd(spool.into()))), "456789");
}

/// In a process of its own, since it rearranges 0 to 2.
#[test]
#[ignore = "run by descriptors_below_three_may_be_given_in_any_order"]
fn isolated_low_descriptors() {
    let directory = TempDir::new().unwrap();
    let (out, err) = (directory.path().join("out"), directory.path().join("err"));
    let (as_0, as_1) = (File::create(&out).unwrap(), File::create(&err).unwrap());
    for (source, target) in [(&as_0, 0), (&as_1, 1)] {
        // SAFETY: both numbers are open; what was at the target is not used again in this process but for printing.
        assert_eq!(unsafe { libc::dup2(source.as_raw_fd(), target) }, target);
    }
    // stdout comes from 0 and stderr from 1, and stdin is opened over 0 first.
    let mut command = shell("echo to out; echo to err >&2");
    // SAFETY: 0 and 1 stay open for the rest of this process, whose test harness does not use them again; the
    // `OwnedFd`s are forgotten below, not dropped.
    let (zero, one) = unsafe { (OwnedFd::from_raw_fd(0), OwnedFd::from_raw_fd(1)) };
    command.stdin(Stdio::Null).stdout(Stdio::Fd(zero)).stderr(Stdio::Fd(one));
    let status = spawn(&command).unwrap().wait().unwrap();
    std::mem::forget(command);
    assert!(status.success());
    assert_eq!(fs::read_to_string(out).unwrap(), "to out\n");
    assert_eq!(fs::read_to_string(err).unwrap(), "to err\n");
}

#[test]
fn descriptors_below_three_may_be_given_in_any_order() {
    crate::rt::spawner::tests::in_a_process_of_its_own("rt::sys::spawn::tests::isolated_low_descriptors");
}

#[test]
fn every_failure_says_its_cause() {
    let directory = TempDir::new().unwrap();
    let at = |name: &str| directory.path().join(name);
    let tool = script(&directory, "tool", 0o644, "");
    let cases = [
        (at("absent"), Errno::NOENT, Cause::Missing),
        (at("tool").join("below-a-file"), Errno::NOTDIR, Cause::Missing),
        (directory.path().to_owned(), Errno::ACCESS, Cause::NotAFile),
        (script(&directory, "plain", 0o644, "#!/bin/sh\n"), Errno::ACCESS, Cause::NotExecutable),
        // Not handed to /bin/sh, as execvp and posix_spawnp would.
        (script(&directory, "bare", 0o755, "echo hello\n"), Errno::NOEXEC, Cause::NoInterpreterLine),
        (script(&directory, "empty", 0o755, ""), Errno::NOEXEC, Cause::Empty),
        (script(&directory, "bom", 0o755, "\u{feff}#!/bin/sh\n"), Errno::NOEXEC, Cause::ByteOrderMark),
        (script(&directory, "hash", 0o755, "#!\n"), Errno::NOEXEC, Cause::BadInterpreterLine),
        (script(&directory, "elf", 0o755, b"\x7fELF\x02\x01\x01 not really"), Errno::NOEXEC, Cause::WrongMachine),
        (
            script(&directory, "no-interpreter", 0o755, "#!/nonexistent/foo -w\n"),
            Errno::NOENT,
            Cause::InterpreterMissing("/nonexistent/foo".into()),
        ),
        (
            script(&directory, "crlf", 0o755, "#!/bin/sh\r\necho hello\r\n"),
            Errno::NOENT,
            Cause::InterpreterWithCr("/bin/sh\r".into()),
        ),
        (
            script(&directory, "dead-interpreter", 0o755, format!("#!{}\n", tool.display())),
            Errno::ACCESS,
            Cause::InterpreterNotExecutable(tool.clone()),
        ),
    ];
    for (path, errno, cause) in cases {
        assert_eq!(failure(&path), SpawnError { errno, cause, path });
    }
    let line = failure(&at("crlf")).to_string();
    assert!(line.contains("CRLF line end after the interpreter /bin/sh\\r"), "{line}");
}

#[test]
fn a_binary_without_its_loader_says_so() {
    let directory = TempDir::new().unwrap();
    let mut binary = fs::read("/bin/true").unwrap();
    let loader = binary.windows(4).position(|window| window == b"/lib").unwrap();
    binary[loader + 1] = b'X';
    let error = failure(&script(&directory, "true", 0o755, binary));
    assert_eq!((error.errno, error.cause), (Errno::NOENT, Cause::LoaderMissing));
}

#[test]
fn a_missing_directory_is_not_taken_for_a_missing_program() {
    let error = spawn(Command::new("/bin/true").directory("/nonexistent")).unwrap_err();
    assert_eq!((error.errno, error.cause), (Errno::NOENT, Cause::Directory("/nonexistent".into())));
}

#[test]
fn an_environment_that_is_too_large_says_so() {
    // One string may have 32 pages (MAX_ARG_STRLEN).
    let error = spawn(Command::new("/bin/true").env("A", vec![b'x'; 32 * rustix::param::page_size()])).unwrap_err();
    assert_eq!((error.errno, error.cause), (Errno::TOOBIG, Cause::TooBig));
}

#[test]
fn a_program_that_is_being_written_is_busy() {
    let directory = TempDir::new().unwrap();
    let path = script(&directory, "busy", 0o755, "#!/bin/sh\n");
    let writer = File::options().write(true).open(&path).unwrap();
    let error = spawn(&Command::new(&path)).unwrap_err();
    assert_eq!((error.errno, error.cause.clone(), error.is_transient()), (Errno::TXTBSY, Cause::Busy, true));
    drop(writer);
    assert!(spawn_unless_busy(&Command::new(&path)).unwrap().wait().unwrap().success());
}

#[test]
fn a_nul_is_refused_wherever_it_is() {
    let mut in_value = Command::new("/bin/true");
    in_value.env("A", "x\0B=y");
    let mut in_argument = Command::new("/bin/true");
    in_argument.arg("a\0b");
    let mut in_directory = Command::new("/bin/true");
    in_directory.directory("/\0");
    for command in [Command::new("/bin/tr\0ue"), in_value, in_argument, in_directory] {
        assert_eq!(spawn(&command).unwrap_err().cause, Cause::Nul);
    }
}

#[test]
fn statuses_come_as_wait_has_them() {
    for (script, code, signal) in [("exit 7", Some(7), None), ("kill -TERM $$", None, Some(15))] {
        let status = spawn(&shell(script)).unwrap().wait().unwrap();
        assert_eq!((status.code(), status.signal()), (code, signal), "{script}");
    }
    let process = spawn(&shell("exit 3")).unwrap();
    let mut fds = [rustix::event::PollFd::from_borrowed_fd(process.pidfd(), rustix::event::PollFlags::IN)];
    rustix::event::poll(&mut fds, None).unwrap();
    // SAFETY: siginfo_t is integers in all its variants: all zeroes is a value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let id = process.pidfd().as_raw_fd() as libc::id_t;
    // SAFETY: the kernel writes one siginfo_t to a reference that outlives the call.
    let answer = unsafe { libc::waitid(libc::P_PIDFD, id, &mut info, libc::WEXITED) };
    assert_eq!((answer, exit_status(&info).unwrap().code()), (0, Some(3)));
    assert!(process.try_wait().is_err(), "it is reaped once only");
}

/// What the runtime relies on: a ring waits for a child that another thread of the process has started.
#[test]
fn a_ring_reaps_what_another_thread_has_started() {
    let mut ring = match io_uring::IoUring::new(8) {
        Ok(ring) => ring,
        Err(error) => return eprintln!("skipped: no io_uring here ({error})"),
    };
    // The other thread lives on: its children do not become ours by its end.
    let (hand_over, receive) = std::sync::mpsc::channel();
    let (done, until_done) = std::sync::mpsc::channel::<()>();
    let other = std::thread::spawn(move || {
        hand_over.send(spawn(&shell("sleep 0.02; exit 5")).unwrap()).unwrap();
        let _ = until_done.recv();
    });
    let process = receive.recv().unwrap();
    // SAFETY: siginfo_t is integers in all its variants: all zeroes is a value.
    let mut info: Box<libc::siginfo_t> = Box::new(unsafe { std::mem::zeroed() });
    let id = process.pidfd().as_raw_fd() as libc::id_t;
    let wait = io_uring::opcode::WaitId::new(libc::P_PIDFD, id, libc::WEXITED).infop(&raw mut *info).build();
    // SAFETY: `info` and the pidfd live until the completion has been seen below.
    unsafe { ring.submission().push(&wait) }.unwrap();
    ring.submit_and_wait(1).unwrap();
    assert_eq!(ring.completion().next().unwrap().result(), 0);
    assert_eq!(exit_status(&info).unwrap().code(), Some(5));
    assert!(process.try_wait().is_err(), "reaped");
    drop(done);
    other.join().unwrap();
}

#[test]
fn a_group_is_killed_whole_also_after_its_leader_was_reaped() {
    let (read, write) = pipe().unwrap();
    let process = spawn(shell("sleep 1000 & echo started").stdout(Stdio::Fd(write))).unwrap();
    assert!(process.wait().unwrap().success());
    // The sleep holds stdout open. (`write` was dropped with the command.)
    let mut output = String::new();
    super::kill_group_of(process.pidfd().as_fd(), Some(Signal::KILL)).unwrap();
    File::from(read).read_to_string(&mut output).unwrap();
    assert_eq!(output, "started\n");
}

#[test]
fn every_cause_has_a_line_of_its_own() {
    // Two that read the same could not be told apart in a log.
    let p = || PathBuf::from("/p");
    let causes = [
        Cause::Missing,
        Cause::Unreachable,
        Cause::NotAFile,
        Cause::Directory(p()),
        Cause::NotExecutable,
        Cause::Forbidden,
        Cause::Empty,
        Cause::NoInterpreterLine,
        Cause::ByteOrderMark,
        Cause::BadInterpreterLine,
        Cause::InterpreterWithCr(p()),
        Cause::InterpreterMissing(p()),
        Cause::InterpreterNotExecutable(p()),
        Cause::LoaderMissing,
        Cause::WrongMachine,
        Cause::Busy,
        Cause::TooBig,
        Cause::ProcessLimit,
        Cause::Memory,
        Cause::Descriptors,
        Cause::Nul,
        Cause::Stopped,
        Cause::Other,
    ];
    let count = causes.len();
    let lines: BTreeSet<String> =
        causes.into_iter().map(|cause| SpawnError { errno: Errno::IO, cause, path: p() }.to_string()).collect();
    assert_eq!(lines.len(), count);
    assert!(lines.iter().all(|line| !line.contains('\n')));
}
