//! How the bytes of files move: what is not in memory is read on the ring, and what need not be copied is not, where the
//! kernel can. The server runs in this process, so that its counters can be looked at.

mod support;

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{Advice, fadvise};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use support::{Client, noise, skip, wait_until};
use ucaffeine::serve::options::{FileOptions, Listen, Options, SiteConfig};
use ucaffeine::serve::{CoreStats, Server};

/// What is read and looked at together.
const WINDOW: usize = 256 << 10;

fn serve(folder: &Path, files: FileOptions) -> (Server, SocketAddr) {
    let options = Options {
        sites: vec![SiteConfig::files_only(folder.into())],
        listen: vec![Listen::Tcp("127.0.0.1:0".parse().expect("an address"))],
        cores: Some(1),
        files,
        ..Options::default()
    };
    let server = Server::start(options).expect("a server");
    let [Listen::Tcp(addr)] = *server.listening() else { panic!("one address") };
    (server, addr)
}

fn stats(server: &Server) -> CoreStats {
    server.stats()[0]
}

/// A folder on a disk: what is in memory only cannot be dropped from it.
fn on_disk() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder")
}

/// Drops a part of a file from the page cache. False where that cannot be done here. Pages that a socket or a list of another
/// core still holds stay for a moment.
fn drop_pages(file: &File, offset: usize, len: usize) -> bool {
    (0..200).any(|_| {
        let is_cold = drop_pages_now(file, offset, len);
        if !is_cold {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        is_cold
    })
}

fn drop_pages_now(file: &File, offset: usize, len: usize) -> bool {
    let len = std::num::NonZeroU64::new(len as u64);
    fadvise(file, offset as u64, len, Advice::DontNeed).expect("advice");
    let mut byte = [0];
    let mut room = [std::io::IoSliceMut::new(&mut byte)];
    // The question itself starts a read-ahead: once, about one byte, and then the pages go again.
    let cold = preadv2(file, &mut room, offset as u64, ReadWriteFlags::NOWAIT) == Err(Errno::AGAIN);
    if cold {
        let mut whole = vec![0; len.map_or(0, |len| len.get() as usize)];
        file.read_exact_at(&mut whole, offset as u64).expect("a read");
        fadvise(file, offset as u64, len, Advice::DontNeed).expect("advice");
    }
    cold
}

/// What has changed within the last second is copied before it is sent, whatever else is decided.
fn until_files_are_old() {
    std::thread::sleep(std::time::Duration::from_millis(1_100));
}

#[test]
fn what_is_not_in_memory_never_goes_to_sendfile() {
    let folder = on_disk();
    let content = noise(4 << 20);
    std::fs::write(folder.path().join("cold.bin"), &content).expect("the file");
    let file = File::open(folder.path().join("cold.bin")).expect("the file");
    file.sync_all().expect("written back");
    let (server, addr) = serve(folder.path(), FileOptions::default());
    until_files_are_old();
    let mut client = Client::connect(addr);
    // Hot: what has just been written is in memory.
    let before = stats(&server);
    assert!(client.get("/cold.bin").expect(200).body == content);
    let after = stats(&server);
    assert!(after.slices_sent > before.slices_sent);
    assert_eq!((after.slices_absent, after.slices_cold), (before.slices_absent, before.slices_cold));
    let mut cold = 0;
    for start in (0..content.len()).step_by(WINDOW) {
        if !drop_pages(&file, 0, content.len()) {
            return skip("this file system keeps what it is asked to drop");
        }
        let before = stats(&server);
        let range = format!("Range: bytes={start}-{}", start + WINDOW - 1);
        let response = client.request("GET", "/cold.bin", &[&range]).expect(206);
        assert!(response.body == content[start..start + WINDOW]);
        let after = stats(&server);
        let absent = after.slices_absent - before.slices_absent;
        // Each part that was found missing was read through the ring, and only then went out.
        assert_eq!(after.slices_cold - before.slices_cold, absent, "from byte {start}");
        cold += absent;
    }
    assert!(cold >= 8, "of {} cold parts, {cold} were seen to be cold", content.len() / WINDOW);
    // All of it, with what is read ahead.
    assert!(drop_pages(&file, 0, content.len()));
    let before = stats(&server);
    assert!(client.get("/cold.bin").expect(200).body == content);
    let after = stats(&server);
    assert!(after.slices_cold > before.slices_cold);
    assert_eq!(after.slices_cold - before.slices_cold, after.slices_absent - before.slices_absent);
}

/// What slow readers cost is in the kernel: the server keeps no bytes of a large file for any of them.
#[test]
fn slow_readers_of_a_large_file_cost_bounded_memory_and_hold_up_nobody() {
    const READERS: usize = 200;
    let site = support::Site::new().file("small.txt", "small");
    let file = File::create(site.at("large.bin")).expect("the file");
    file.set_len(50 << 20).expect("a length");
    file.write_all_at(b"the end", (50 << 20) - 7).expect("its end");
    let server = support::Launch::new(&site).args(["--cores", "1"]).start();
    let resident_kib = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("the server's status");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number")
    };
    until_files_are_old();
    Client::connect(server.addr).get("/small.txt").expect(200);
    let before = resident_kib();
    let mut readers: Vec<Client> = (0..READERS).map(|_| Client::connect(server.addr)).collect();
    for reader in &mut readers {
        reader.head(&["GET /large.bin HTTP/1.1", "Host: test"]);
        reader.read_head();
    }
    for _ in 0..20 {
        for reader in &mut readers {
            reader.read_exact(10_000);
        }
        assert_eq!(Client::connect(server.addr).get("/small.txt").expect(200).body, b"small");
    }
    let grown = resident_kib().saturating_sub(before);
    // 200 times 64 KiB would be 12,800 KiB; the pool of receive buffers and the tables of a core are some 5,000.
    assert!(grown < 8_192, "{READERS} readers cost {grown} KiB");
    // And what is slow is not cut short.
    let mut reader = readers.swap_remove(0);
    let rest = reader.read_exact((50 << 20) - 20 * 10_000);
    assert!(rest.ends_with(b"the end"));
}

/// One buffer, and more clients than that.
#[test]
fn cold_reads_stand_in_line_for_a_buffer() {
    let folder = on_disk();
    let content = noise(3 << 20);
    std::fs::write(folder.path().join("cold.bin"), &content).expect("the file");
    let file = File::open(folder.path().join("cold.bin")).expect("the file");
    file.sync_all().expect("written back");
    let (server, addr) = serve(folder.path(), FileOptions { cold_buffer_bytes_max: WINDOW, ..FileOptions::default() });
    until_files_are_old();
    if !drop_pages(&file, 0, content.len()) {
        return skip("this file system keeps what it is asked to drop");
    }
    let mut clients: Vec<Client> = (0..16).map(|_| Client::connect(addr)).collect();
    for client in &mut clients {
        client.head(&["GET /cold.bin HTTP/1.1", "Host: test"]);
    }
    for client in &mut clients {
        assert!(client.read().expect(200).body == content);
    }
    assert!(stats(&server).slices_cold > 0);
}

#[test]
fn sends_without_copies_switch_themselves_off_where_the_kernel_copies() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let content = noise(300 << 10);
    std::fs::write(folder.path().join("a.bin"), &content).expect("the file");
    let files = FileOptions {
        cached_file_bytes_max: 1 << 20,
        send_zerocopy_bytes_min: Some(64 << 10),
        ..FileOptions::default()
    };
    let (server, addr) = serve(folder.path(), files);
    let mut client = Client::connect(addr);
    assert!(client.get("/a.bin").expect(200).body == content);
    // Loopback copies, and says so when the client has the bytes.
    wait_until("the kernel says that it has copied", || stats(&server).rt.zero_copies_copied > 0);
    let first = stats(&server).rt;
    for _ in 0..20 {
        assert!(client.get("/a.bin").expect(200).body == content);
    }
    let then = stats(&server).rt;
    // What the first reply sent in several parts may have been reported since.
    assert!(then.zero_copies_copied - first.zero_copies_copied <= 4, "{first:?} {then:?}");
    assert_eq!((then.zero_copies, then.stray_completions), (0, 0));
    wait_until("nothing is under way", || stats(&server).rt.operations_in_flight <= first.operations_in_flight);
}

#[test]
fn a_client_that_leaves_in_a_send_without_copies_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let content = noise(8 << 20);
    std::fs::write(folder.path().join("a.bin"), &content).expect("the file");
    let files = FileOptions {
        cached_file_bytes_max: 16 << 20,
        send_zerocopy_bytes_min: Some(64 << 10),
        ..FileOptions::default()
    };
    let (server, addr) = serve(folder.path(), files);
    let idle = stats(&server).rt.operations_in_flight;
    let mut client = Client::connect(addr);
    client.head(&["GET /a.bin HTTP/1.1", "Host: test"]);
    client.read_head();
    client.reset();
    wait_until("nothing is under way", || {
        let now = stats(&server);
        now.connections_open == 0 && now.rt.operations_in_flight <= idle
    });
    assert_eq!(stats(&server).rt.stray_completions, 0);
    assert!(Client::connect(addr).get("/a.bin").expect(200).body == content);
}
