//! What the runtime relies on in the kernel, asked of the kernel by bare rings: one test for each behaviour. Where the
//! kernel is too old for an operation the test says SKIPPED; with STRICT=1 it fails instead.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use io_uring::{IoUring, cqueue, opcode, squeue, types};

type Ring = IoUring<squeue::Entry, cqueue::Entry>;

/// As the runtime sets its rings up.
fn ring() -> Ring {
    let mut builder = Ring::builder();
    builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag().setup_submit_all();
    builder.build(64).expect("io_uring with DEFER_TASKRUN (6.1)")
}

fn ring_with_table(slots: u32) -> Ring {
    let ring = ring();
    ring.submitter().register_files_sparse(slots).unwrap();
    ring
}

/// # Safety
/// What the entry points to lives until the operation's last completion.
unsafe fn push(ring: &mut Ring, entry: squeue::Entry, user_data: u64) {
    // SAFETY: the caller's promise.
    unsafe { ring.submission().push(&entry.user_data(user_data)) }.unwrap();
}

/// Submits, and runs completions for up to 200 ms or until `count` are there. (user_data, result, flags) of each.
fn reap(ring: &mut Ring, count: usize) -> Vec<(u64, i32, u32)> {
    let time = types::Timespec::from(Duration::from_millis(200));
    let _ = ring.submitter().submit_with_args(count, &types::SubmitArgs::new().timespec(&time));
    ring.completion().map(|cqe| (cqe.user_data(), cqe.result(), cqe.flags())).collect()
}

fn one(ring: &mut Ring) -> (u64, i32, u32) {
    let all = reap(ring, 1);
    assert_eq!(all.len(), 1, "{all:?}");
    all[0]
}

/// EINVAL or EOPNOTSUPP where success is expected: the kernel does not know the operation.
fn skipped(what: &str, result: i32) -> bool {
    let old = result == -libc::EINVAL || result == -libc::EOPNOTSUPP;
    if old {
        assert!(std::env::var_os("STRICT").is_none(), "{what}: this kernel does not have it ({result})");
        println!("SKIPPED {what}: this kernel does not have it");
    }
    old
}

fn more(flags: u32) -> bool {
    cqueue::more(flags)
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

fn accept_direct(ring: &mut Ring, listener: &TcpListener) -> u32 {
    let entry = opcode::Accept::new(types::Fd(listener.as_raw_fd()), std::ptr::null_mut(), std::ptr::null_mut());
    let entry = entry.flags(libc::SOCK_NONBLOCK).file_index(Some(types::DestinationSlot::auto_target())).build();
    // SAFETY: no address is asked for.
    unsafe { push(ring, entry, 1) };
    u32::try_from(one(ring).1).expect("a slot")
}

fn cancel(user_data: u64) -> squeue::Entry {
    opcode::AsyncCancel::new(user_data).build()
}

/// A buffer ring of `count` buffers of 64 bytes, group 0.
struct Buffers {
    entries: *mut u8,
    memory: Vec<u8>,
    count: u16,
}

impl Buffers {
    fn new(ring: &Ring, count: u16) -> Buffers {
        let layout = std::alloc::Layout::from_size_align(4096, 4096).unwrap();
        // SAFETY: the layout is not empty.
        let entries = unsafe { std::alloc::alloc_zeroed(layout) };
        // SAFETY: the page lives for ever (it is leaked).
        unsafe { ring.submitter().register_buf_ring_with_flags(entries as u64, count, 0, 0) }.unwrap();
        let buffers = Buffers { entries, memory: vec![0; usize::from(count) * 64], count };
        (0..count).for_each(|bid| buffers.provide(bid, bid + 1));
        buffers
    }

    fn provide(&self, bid: u16, tail: u16) {
        let addr = self.memory.as_ptr() as u64 + u64::from(bid) * 64;
        let place = self.entries.wrapping_add(usize::from((tail - 1) % self.count) * 16);
        // SAFETY: inside the page; the tail (bytes 14 and 15 of the first entry) is left alone.
        unsafe { place.cast::<u64>().write(addr) };
        // SAFETY: as above.
        unsafe { place.wrapping_add(8).cast::<u32>().write(64) };
        // SAFETY: as above.
        unsafe { place.wrapping_add(12).cast::<u16>().write(bid) };
        // SAFETY: the tail is an aligned u16 that both sides use atomically.
        let shared = unsafe { std::sync::atomic::AtomicU16::from_ptr(self.entries.wrapping_add(14).cast()) };
        shared.store(tail, std::sync::atomic::Ordering::Release);
    }
}

#[test]
fn deferred_completions_need_getevents() {
    let mut ring = ring();
    let listener = listener();
    let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    let client = _client;
    let mut room = [0u8; 8];
    let entry = opcode::Recv::new(types::Fd(client.as_raw_fd()), room.as_mut_ptr(), 8).build();
    // SAFETY: `room` outlives the test's last look at the ring.
    unsafe { push(&mut ring, entry, 1) };
    ring.submit().unwrap();
    stream.write_all(b"data").unwrap();
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(ring.completion().count(), 0, "it appeared by itself");
    assert_eq!(one(&mut ring), (1, 4, 0));
}

#[test]
fn a_multishot_accept_into_a_full_table_cuts_a_client() {
    let mut ring = ring_with_table(2);
    let listener = listener();
    let mut clients: Vec<_> = (0..4).map(|_| TcpStream::connect(listener.local_addr().unwrap()).unwrap()).collect();
    let entry = opcode::AcceptMulti::new(types::Fd(listener.as_raw_fd())).allocate_file_index(true).build();
    // SAFETY: it points to nothing.
    unsafe { push(&mut ring, entry, 1) };
    let all = reap(&mut ring, 3);
    assert_eq!(all.iter().map(|(_, result, _)| *result).collect::<Vec<_>>(), [0, 1, -libc::ENFILE]);
    assert!(!more(all[2].2));
    // The third was taken off the backlog and closed; the fourth still waits there.
    assert!(matches!(clients[2].read(&mut [0]), Ok(0) | Err(_)));
    clients[3].set_nonblocking(true).unwrap();
    assert_eq!(clients[3].read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn a_receive_parks_on_a_nonblocking_socket() {
    let mut ring = ring_with_table(4);
    let listener = listener();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let slot = accept_direct(&mut ring, &listener);
    let mut room = [0u8; 8];
    let entry = opcode::Recv::new(types::Fixed(slot), room.as_mut_ptr(), 8).build();
    // SAFETY: `room` outlives the operation, which ends below.
    unsafe { push(&mut ring, entry, 2) };
    assert_eq!(reap(&mut ring, 1), [], "no EAGAIN");
    client.write_all(b"later").unwrap();
    assert_eq!(one(&mut ring).1, 5);
}

#[test]
fn an_empty_buffer_ring_ends_a_multishot_receive() {
    let mut ring = ring_with_table(4);
    let _buffers = Buffers::new(&ring, 1);
    let listener = listener();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let slot = accept_direct(&mut ring, &listener);
    // SAFETY: the buffers outlive the ring's operations.
    unsafe { push(&mut ring, opcode::RecvMulti::new(types::Fixed(slot), 0).build(), 2) };
    client.write_all(&[1; 100]).unwrap();
    let all = reap(&mut ring, 2);
    assert_eq!(all.iter().map(|(_, result, _)| *result).collect::<Vec<_>>(), [64, -libc::ENOBUFS]);
    assert!(more(all[0].2) && !more(all[1].2));
}

#[test]
fn a_read_of_an_empty_pipe_takes_no_buffer_until_there_is_data() {
    let mut ring = ring();
    let buffers = Buffers::new(&ring, 1);
    let pipes: Vec<_> = (0..2).map(|_| std::io::pipe().unwrap()).collect();
    for (n, (reader, _)) in pipes.iter().enumerate() {
        let entry = opcode::Read::new(types::Fd(reader.as_raw_fd()), std::ptr::null_mut(), 64).buf_group(0).build();
        // SAFETY: the kernel picks one of `buffers`.
        unsafe { push(&mut ring, entry.flags(squeue::Flags::BUFFER_SELECT), n as u64) };
    }
    assert_eq!(reap(&mut ring, 1), [], "both wait, neither for want of a buffer");
    // The second gets the only buffer, though the first has been waiting longer.
    (&pipes[1].1).write_all(b"abc").unwrap();
    let (user_data, result, flags) = one(&mut ring);
    assert_eq!((user_data, result, cqueue::buffer_select(flags)), (1, 3, Some(0)));
    buffers.provide(0, 2);
    (&pipes[0].1).write_all(b"de").unwrap();
    let (user_data, result, flags) = one(&mut ring);
    assert_eq!((user_data, result, cqueue::buffer_select(flags)), (0, 2, Some(0)));
}

#[test]
fn a_nonblocking_eventfd_parks() {
    let mut ring = ring();
    // SAFETY: no pointer.
    let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
    assert!(fd >= 0);
    // SAFETY: just made, and nobody else's.
    let event = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut room = [0u8; 8];
    // SAFETY: `room` outlives the operation, which ends below.
    unsafe { push(&mut ring, opcode::Read::new(types::Fd(fd), room.as_mut_ptr(), 8).offset(u64::MAX).build(), 1) };
    assert_eq!(reap(&mut ring, 1), [], "no EAGAIN");
    std::fs::File::from(event).write_all(&1u64.to_ne_bytes()).unwrap();
    assert_eq!(one(&mut ring).1, 8);
}

#[test]
fn a_direct_descriptor_can_be_installed() {
    let mut ring = ring_with_table(4);
    let listener = listener();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let slot = accept_direct(&mut ring, &listener);
    // SAFETY: it points to nothing.
    unsafe { push(&mut ring, opcode::FixedFdInstall::new(types::Fixed(slot), 0).build(), 2) };
    let (_, fd, _) = one(&mut ring);
    if skipped("FIXED_FD_INSTALL (6.8)", fd) {
        return;
    }
    // SAFETY: the kernel has just made it for us.
    let mut stream = unsafe { TcpStream::from_raw_fd(fd) };
    // SAFETY: no pointer.
    assert_eq!(unsafe { libc::fcntl(fd, libc::F_GETFD) }, libc::FD_CLOEXEC);
    stream.write_all(b"real").unwrap();
    client.read_exact(&mut [0; 4]).unwrap();
}

/// SO_PEERNAME through URING_CMD: never asked for more than the address has.
fn peer_name(ring: &mut Ring, slot: u32, room: &mut [u8]) -> i32 {
    let entry = opcode::SetSockOpt::new(
        types::Fixed(slot),
        libc::SOL_SOCKET as u32,
        28,
        room.as_mut_ptr().cast(),
        room.len() as u32,
    );
    let mut entry = entry.build();
    // SAFETY: an entry is the kernel's 64-byte struct; byte 8 is the command: 2 is GETSOCKOPT, 3 SETSOCKOPT.
    unsafe { (&raw mut entry).cast::<u32>().wrapping_add(2).write(2) };
    // SAFETY: the caller keeps `room` until the completion, which is waited for here.
    unsafe { push(ring, entry, 9) };
    one(ring).1
}

#[test]
fn the_peer_of_a_direct_descriptor_is_known() {
    let mut ring = ring_with_table(4);
    let listener = listener();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let slot = accept_direct(&mut ring, &listener);
    let mut room = [0u8; 28];
    let result = peer_name(&mut ring, slot, &mut room[..16]);
    if result != 16 && skipped("URING_CMD GETSOCKOPT (6.7)", result) {
        return;
    }
    assert_eq!(result, 16);
    assert_eq!(u16::from_be_bytes([room[2], room[3]]), client.local_addr().unwrap().port());
    assert_eq!(peer_name(&mut ring, slot, &mut room), -libc::EINVAL, "a larger room than the address is refused");
}

#[test]
fn nodelay_is_inherited_from_the_listener() {
    let listener = listener();
    rustix::net::sockopt::set_tcp_nodelay(&listener, true).unwrap();
    let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    assert!(listener.accept().unwrap().0.nodelay().unwrap());
}

#[test]
fn a_thread_without_a_ring_can_post_to_one() {
    let mut ring = ring();
    let fd: RawFd = ring.as_raw_fd();
    let posted = std::thread::spawn(move || {
        let entry = opcode::MsgRingData::new(types::Fd(fd), 5, 77, None).build();
        // SAFETY: REGISTER_SEND_MSG_RING (31) takes one entry, alive for the call.
        unsafe { libc::syscall(libc::SYS_io_uring_register, -1, 31, &raw const entry, 1) as i32 }
    });
    let result = posted.join().unwrap();
    if result < 0 {
        assert!(skipped("REGISTER_SEND_MSG_RING (6.13)", -libc::EINVAL));
        return;
    }
    assert_eq!(one(&mut ring), (77, 5, 0));
}

#[test]
#[allow(clippy::zombie_processes, reason = "the ring reaps it: that is what is tested")]
fn a_child_can_be_waited_for_by_pidfd() {
    let mut ring = ring();
    let child = std::process::Command::new("/bin/sh").args(["-c", "exit 7"]).spawn().unwrap();
    // SAFETY: no pointer.
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, child.id(), 0) } as i32;
    assert!(pidfd >= 0);
    let mut info = Box::new(std::mem::MaybeUninit::<libc::siginfo_t>::zeroed());
    let entry = opcode::WaitId::new(libc::P_PIDFD, pidfd as u32, libc::WEXITED).infop(info.as_mut_ptr()).build();
    // SAFETY: `info` outlives the operation, which is waited for.
    unsafe { push(&mut ring, entry, 1) };
    let mut all = Vec::new();
    while all.is_empty() {
        all = reap(&mut ring, 1);
    }
    if skipped("WAITID (6.7)", all[0].1) {
        return;
    }
    assert_eq!(all[0].1, 0);
    // SAFETY: the kernel filled it, and it was zeroed before.
    let info = unsafe { info.assume_init() };
    assert_eq!(info.si_code, libc::CLD_EXITED);
    // SAFETY: a CLD_ code has the status.
    assert_eq!(unsafe { info.si_status() }, 7);
}

#[test]
fn a_cached_name_opens_in_the_submit() {
    let mut ring = ring();
    std::fs::metadata("/proc/self/exe").unwrap();
    let path = std::env::current_exe().unwrap();
    drop(std::fs::File::open(&path).unwrap());
    let path = std::ffi::CString::new(path.into_os_string().into_encoded_bytes()).unwrap();
    const RESOLVE_CACHED: u64 = 0x20;
    let how = types::OpenHow::new().flags((libc::O_RDONLY | libc::O_CLOEXEC) as u64).resolve(RESOLVE_CACHED);
    let entry = opcode::OpenAt2::new(types::Fd(libc::AT_FDCWD), path.as_ptr(), &how).build();
    // SAFETY: both live until the completion, which is waited for.
    unsafe { push(&mut ring, entry, 1) };
    ring.submit().unwrap();
    // No GETEVENTS: only what ran inline is here.
    let (result, cqes) = ring.completion().fold((0, 0), |(_, count), cqe| (cqe.result(), count + 1));
    assert_eq!(cqes, 1, "inline");
    assert!(result >= 0, "{result}");
    // SAFETY: the kernel has just made it for us.
    drop(unsafe { OwnedFd::from_raw_fd(result) });
}

#[test]
fn a_listener_that_shares_late_still_excludes_others() {
    use rustix::net::{AddressFamily, SocketType, bind, listen, socket, sockopt};
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    let first = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    sockopt::set_socket_reuseaddr(&first, true).unwrap();
    bind(&first, &any).unwrap();
    listen(&first, 16).unwrap();
    sockopt::set_socket_reuseport(&first, true).unwrap();
    let addr = std::net::SocketAddr::try_from(rustix::net::getsockname(&first).unwrap()).unwrap();
    let another = |reuseport| {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        sockopt::set_socket_reuseaddr(&socket, true).unwrap();
        sockopt::set_socket_reuseport(&socket, reuseport).unwrap();
        bind(&socket, &addr).and_then(|()| listen(&socket, 16))
    };
    assert_eq!(another(false), Err(rustix::io::Errno::ADDRINUSE), "a second instance, which probes first");
    assert_eq!(another(true), Ok(()), "another core");
}

/// A close takes the slot's name away; the receive stays armed on a socket that nobody can name. So: cancel, then close.
#[test]
fn a_close_does_not_end_an_armed_receive() {
    let mut ring = ring_with_table(1);
    let _buffers = Buffers::new(&ring, 4);
    let listener = listener();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let slot = accept_direct(&mut ring, &listener);
    // SAFETY: the buffers outlive the ring's operations.
    unsafe { push(&mut ring, opcode::RecvMulti::new(types::Fixed(slot), 0).build(), 2) };
    assert_eq!(reap(&mut ring, 1), []);
    // SAFETY: it points to nothing.
    unsafe { push(&mut ring, opcode::Close::new(types::Fixed(slot)).build(), 3) };
    assert_eq!(one(&mut ring), (3, 0, 0));
    client.write_all(b"still heard").unwrap();
    let (user_data, result, flags) = one(&mut ring);
    assert_eq!((user_data, result, more(flags)), (2, 11, true));
    // The slot is free for the next connection meanwhile.
    let _next = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    assert_eq!(accept_direct(&mut ring, &listener), slot);
    // SAFETY: it points to nothing.
    unsafe { push(&mut ring, cancel(2), 4) };
    let mut all = reap(&mut ring, 2);
    all.sort_unstable();
    assert_eq!(all, [(2, -libc::ECANCELED, 0), (4, 0, 0)]);
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)), "and only now the socket closes");
}

#[test]
fn a_cancel_that_comes_too_late_finds_nothing() {
    let mut ring = ring();
    // SAFETY: they point to nothing.
    unsafe { push(&mut ring, opcode::Nop::new().build(), 1) };
    // SAFETY: as above.
    unsafe { push(&mut ring, cancel(1), 2) };
    assert_eq!(reap(&mut ring, 2), [(1, 0, 0), (2, -libc::ENOENT, 0)]);
}

/// POLLRDHUP is reported whether or not it was asked for: the end of the peer's input is not the end of the peer.
#[test]
fn a_poll_for_nothing_reports_a_half_close() {
    let mut ring = ring();
    let listener = listener();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (stream, _) = listener.accept().unwrap();
    // SAFETY: it points to nothing.
    unsafe { push(&mut ring, opcode::PollAdd::new(types::Fd(stream.as_raw_fd()), 0).multi(true).build(), 1) };
    assert_eq!(reap(&mut ring, 1), []);
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let (_, events, flags) = one(&mut ring);
    assert_eq!(
        (events & (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR) as i32, more(flags)),
        (libc::POLLRDHUP.into(), true)
    );
    rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
    drop(client);
    assert_ne!(one(&mut ring).1 & i32::from(libc::POLLHUP | libc::POLLERR), 0);
}

/// The limit of a multishot receive (`optlen`): its last result has no MORE flag, and data.
#[test]
fn a_multishot_receive_can_be_limited() {
    let mut ring = ring_with_table(4);
    let _buffers = Buffers::new(&ring, 8);
    let listener = listener();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let slot = accept_direct(&mut ring, &listener);
    let mut entry = opcode::RecvMulti::new(types::Fixed(slot), 0).build();
    // SAFETY: an entry is the kernel's 64-byte struct; `optlen` is the u32 at byte 44.
    unsafe { (&raw mut entry).cast::<u32>().wrapping_add(11).write(128) };
    client.write_all(&[1; 400]).unwrap();
    // SAFETY: the buffers outlive the ring's operations.
    unsafe { push(&mut ring, entry, 2) };
    let all = reap(&mut ring, 2);
    if skipped("a limited multishot receive (6.17)", all[0].1) {
        return;
    }
    let seen: Vec<_> = all.iter().map(|(_, result, flags)| (*result, more(*flags))).collect();
    assert_eq!(seen, [(64, true), (64, false)]);
    assert_eq!(reap(&mut ring, 1), [], "and no more");
}

/// An inotify instance on a temporary folder.
fn watched() -> (OwnedFd, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = std::ffi::CString::new(folder.path().as_os_str().as_encoded_bytes()).unwrap();
    // SAFETY: no pointer; the descriptor is owned here alone.
    let inotify = unsafe { OwnedFd::from_raw_fd(libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC)) };
    let mask = libc::IN_CREATE | libc::IN_MOVED_TO | libc::IN_MODIFY;
    // SAFETY: the path is NUL-terminated and lives across the call.
    assert!(unsafe { libc::inotify_add_watch(inotify.as_raw_fd(), path.as_ptr(), mask) } >= 0);
    (inotify, folder)
}

/// Whether the ring holds a parked operation of that code: then no worker has it.
fn parked(ring: &Ring, code: u8) -> bool {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", ring.as_raw_fd())).unwrap();
    let polls = info.split_once("PollList:").map_or("", |(_, rest)| rest);
    let polls = polls.split_once("CqOverflowList:").map_or(polls, |(polls, _)| polls);
    polls.lines().any(|line| line.trim_start().starts_with(&format!("op={code},")))
}

/// What is queued, as the number of bytes that a read(2) gets.
fn read_events(inotify: &OwnedFd) -> isize {
    let mut room = [0u8; 4096];
    // SAFETY: the room lives across the call.
    unsafe { libc::read(inotify.as_raw_fd(), room.as_mut_ptr().cast(), room.len()) }
}

#[test]
fn a_poll_of_inotify_goes_on_and_takes_no_worker() {
    let mut ring = ring();
    let (inotify, folder) = watched();
    let poll = opcode::PollAdd::new(types::Fd(inotify.as_raw_fd()), libc::POLLIN as u32).multi(true).build();
    // SAFETY: no pointers.
    unsafe { push(&mut ring, poll, 1) };
    for round in 0..3 {
        assert!(reap(&mut ring, 0).is_empty(), "what has been read is not told again");
        std::fs::write(folder.path().join(format!("{round}")), "").unwrap();
        let (user_data, result, flags) = one(&mut ring);
        assert_eq!((user_data, result), (1, i32::from(libc::POLLIN)));
        assert!(more(flags));
        assert!(read_events(&inotify) > 0);
        assert!(parked(&ring, opcode::PollAdd::CODE));
    }
}

/// What makes a change visible at once: its event stands before every request that is sent after it. The receive is armed, as
/// that of a client which has been answered is.
#[test]
fn the_event_of_a_rename_comes_before_what_is_sent_after_it() {
    let (inotify, folder) = watched();
    let listener = listener();
    for _ in 0..50 {
        let mut ring = ring_with_table(4);
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let slot = accept_direct(&mut ring, &listener);
        let poll = opcode::PollAdd::new(types::Fd(inotify.as_raw_fd()), libc::POLLIN as u32).multi(true).build();
        let mut room = [0u8; 16];
        let recv = opcode::Recv::new(types::Fixed(slot), room.as_mut_ptr(), room.len() as u32).build();
        // SAFETY: the room outlives the completion, which is waited for below.
        unsafe {
            push(&mut ring, recv, 2);
            push(&mut ring, poll, 1);
        }
        assert!(reap(&mut ring, 0).is_empty());
        let at = folder.path().to_owned();
        let other = std::thread::spawn(move || {
            std::fs::write(at.join("new"), "").unwrap();
            std::fs::rename(at.join("new"), at.join("old")).unwrap();
            client.write_all(b"request").unwrap();
            client
        });
        let _client = other.join().unwrap();
        let told: Vec<u64> = reap(&mut ring, 2).into_iter().map(|(user_data, ..)| user_data).collect();
        assert_eq!(told, [1, 2]);
        assert!(read_events(&inotify) > 0);
    }
}
