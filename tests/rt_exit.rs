//! The end of a runtime while the kernel is busy with its memory: closing a ring does not stop its worker threads from
//! writing, so `Runtime::drop` waits for the last word. Whatever a dropped buffer becomes must stay as it is.

mod rt_support;

use std::collections::VecDeque;
use std::future::Future;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rt_support::*;
use ucaffeine::rt::{self, IoBufMut, fs};

const FILES: usize = 24;
const FILE_BYTES: usize = 1 << 20;
const ROUNDS: usize = 12;
const FREED: u8 = 0xa5;
const CONTENT: u8 = 0x5a;

/// A buffer that is never unmapped: when it is dropped it is filled with a pattern, as an allocator's next user would.
struct Watched {
    memory: *mut u8,
    filled: usize,
    freed: Arc<AtomicUsize>,
}

// SAFETY: `memory` is a leaked allocation of FILE_BYTES bytes that only this value names until it is dropped.
unsafe impl IoBufMut for Watched {
    fn room_ptr(&mut self) -> *mut u8 {
        self.memory
    }
    fn room_len(&self) -> usize {
        FILE_BYTES
    }
    unsafe fn set_filled(&mut self, count: usize) {
        self.filled = count;
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // SAFETY: as above; the memory lives for ever.
        unsafe { self.memory.write_bytes(FREED, FILE_BYTES) };
        self.freed.fetch_add(1, Ordering::SeqCst);
    }
}

fn cold_files(directory: &Path) -> Vec<PathBuf> {
    (0..FILES)
        .map(|n| {
            let path = directory.join(format!("cold-{n}"));
            let mut file = std::fs::File::create(&path).unwrap();
            file.write_all(&vec![CONTENT; FILE_BYTES]).unwrap();
            file.sync_all().unwrap();
            path
        })
        .collect()
}

fn chill(path: &Path) {
    let file = std::fs::File::open(path).unwrap();
    rustix::fs::fadvise(file.as_fd(), 0, None, rustix::fs::Advice::DontNeed).unwrap();
}

#[test]
fn nothing_is_written_after_the_runtime_is_gone() {
    // Beside the build's artefacts: a real file system, where reads can be cold and writes go to worker threads.
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let files = cold_files(directory.path());
    let memories: Vec<usize> =
        (0..FILES).map(|_| Box::leak(vec![0u8; FILE_BYTES].into_boxed_slice()).as_mut_ptr() as usize).collect();
    for round in 0..ROUNDS {
        files.iter().for_each(|path| chill(path));
        let freed = Arc::new(AtomicUsize::new(0));
        let (files, memories, counted) = (files.clone(), memories.clone(), Arc::clone(&freed));
        let checked = memories.clone();
        let out = directory.path().to_owned();
        on_thread(move || {
            let runtime = small().build().unwrap();
            runtime.block_on(async {
                let mut opened = Vec::new();
                for path in &files {
                    opened.push(fs::File::open(path).await.unwrap());
                }
                let mut reads: VecDeque<Pin<Box<dyn Future<Output = ()>>>> = VecDeque::new();
                for (file, memory) in opened.into_iter().zip(memories) {
                    let buffer = Watched { memory: memory as *mut u8, filled: 0, freed: Arc::clone(&counted) };
                    reads.push_back(Box::pin(async move { drop(file.read_at(buffer, 0).await) }));
                }
                for n in 0..8 {
                    let path = out.join(format!("new-{round}-{n}"));
                    reads.push_back(Box::pin(async move {
                        // Creating goes to a worker thread, and so does a buffered write on most file systems.
                        let file = fs::File::create(path).await.unwrap();
                        let _ = file.write_at(vec![7; FILE_BYTES], 0).await;
                    }));
                }
                for read in &mut reads {
                    poll_once(read.as_mut()).await;
                }
                // Submitted, or not even that; some of it on its way.
                for _ in 0..round % 4 {
                    rt::yield_now().await;
                }
                if round % 2 == 0 {
                    // In tasks, which the runtime's end drops; else here, before that.
                    reads.into_iter().for_each(rt::spawn_detached);
                }
            });
            drop(runtime);
        });
        assert_eq!(freed.load(Ordering::SeqCst), FILES, "round {round}: every buffer was dropped before the end, once");
        for _ in 0..20 {
            for memory in &checked {
                // SAFETY: leaked, and no `Watched` names it now.
                let bytes = unsafe { std::slice::from_raw_parts(*memory as *const u8, FILE_BYTES) };
                assert!(bytes.iter().all(|byte| *byte == FREED), "round {round}: written after it was freed");
            }
        }
    }
}

#[test]
fn a_runtime_with_everything_armed_ends() {
    on_thread(|| {
        let runtime = small().build().unwrap();
        runtime.block_on(async {
            let (listener, _) = listen();
            let mut kept = Vec::new();
            for _ in 0..40 {
                let (stream, client) = pair(&listener).await;
                kept.push(client);
                rt::spawn_detached(async move {
                    while let Ok(Some(data)) = stream.recv().await {
                        drop(data);
                    }
                });
            }
            rt::spawn_detached(async move { while listener.accept().await.is_ok() {} });
            rt::spawn_detached(rt::time::sleep(std::time::Duration::from_secs(3600)));
            turns(2).await;
            // The peers go on talking while it ends.
            std::thread::spawn(move || {
                for client in &mut kept {
                    let _ = client.write_all(&[1; 10_000]);
                }
            });
        });
        drop(runtime);
    });
}

/// More closes than the submission queue holds, all queued at the end.
#[test]
fn a_thousand_closes_at_the_end_are_all_done() {
    on_thread(|| {
        let runtime = rt::Builder::new().direct_slots(4096).build().unwrap();
        let clients = runtime.block_on(async {
            let (listener, _) = listen();
            let (mut streams, mut clients) = (Vec::new(), Vec::new());
            for _ in 0..1500 {
                let (stream, client) = pair(&listener).await;
                poll_once(Box::pin(stream.recv()).as_mut()).await;
                streams.push(stream);
                clients.push(client);
            }
            rt::spawn_detached(async move {
                let _streams = streams;
                std::future::pending().await
            });
            clients
        });
        drop(runtime);
        for mut client in clients {
            assert_eq!(std::io::Read::read(&mut client, &mut [0; 1]).unwrap(), 0, "closed");
        }
    });
}
