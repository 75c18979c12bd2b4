//! The runtime in a simulated world: an echo server, clients of every temper, and proof that planted faults are found.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use super::driver::sim::seeds::{Plan, check_plans, check_seeds, clients_against, first_to_find};
use super::driver::sim::{Client, Faults, Incoming, Rng, World};
use super::net::{Hangup, Message, TcpListener, TcpStream};
use super::{Bug, Either, fs, join2, select2, stats, time};

/// Seeds that a planted fault must be found within.
const FIND_WITHIN: u64 = 2_000;

#[test]
fn every_byte_comes_back_in_order() {
    check_seeds("every_byte_comes_back_in_order", 2_000, echo_scenario);
}

#[test]
fn a_world_without_faults_has_no_excuses() {
    let scenario = |world: World| {
        let served = Rc::new(Cell::new(0));
        let count = Rc::clone(&served);
        async move {
            let serve = move |stream, rng| echo(stream, rng);
            clients_against(world, serve, move |world, client| {
                let count = Rc::clone(&count);
                async move {
                    patient(&world, &client).await;
                    assert!(!client.is_excused());
                    count.set(count.get() + 1);
                }
            })
            .await;
            assert!(served.get() > 0);
        }
    };
    let plan = |seed| Plan { faults: Faults::none(), direct_slots: 256, ..Plan::of_seed(seed) };
    check_plans("a_world_without_faults_has_no_excuses", 200, plan, scenario);
}

#[test]
fn a_runtime_that_stops_midway_leaves_nothing_behind() {
    let scenario = |world: World| async move {
        let moment = time::sleep(Duration::from_millis(world.rng(7).below(8)));
        select2(echo_scenario(world), moment).await;
    };
    let plan = |seed| Plan { stops_midway: true, ..Plan::of_seed(seed) };
    check_plans("a_runtime_that_stops_midway_leaves_nothing_behind", 1_000, plan, scenario);
}

#[test]
fn a_dropped_stream_closes_whatever_was_under_way() {
    let serve = |stream: TcpStream, mut rng: Rng| async move {
        let moment = time::sleep(Duration::from_millis(rng.below(3)));
        match rng.below(4) {
            0 => drop(select2(stream.hangup(), moment).await),
            1 => drop(select2(stream.recv(), moment).await),
            2 => drop(select2(stream.read(Vec::with_capacity(50)), moment).await),
            _ => drop(stream.recv().await),
        }
    };
    let client = |_, client: Client| async move {
        client.write(&[7; 50][..client.rng().up_to(50)]).await;
        // End or reset: what matters is that it comes.
        assert_eq!(client.read_to_end().await.0, b"");
    };
    let scenario = |world| clients_against(world, serve, client);
    check_seeds("a_dropped_stream_closes_whatever_was_under_way", 500, scenario);
}

#[test]
fn a_connection_that_nobody_reads_holds_few_buffers() {
    const SENT: usize = 3_200;
    let serve = |stream: TcpStream, _| async move {
        let mut received = stream.recv().await.unwrap().map_or(0, |data| data.len());
        time::sleep(Duration::from_millis(50)).await;
        assert!(stats().buffers_out <= 8, "{} buffers are out", stats().buffers_out);
        while let Some(data) = stream.recv().await.unwrap() {
            received += data.len();
        }
        assert_eq!(received, SENT);
    };
    let scenario = |world: World| async move {
        let listener = TcpListener::from_fd(world.listen());
        let (client, clock) = (world.connect(0), world.clone());
        world.spawn(async move {
            for _ in 0..SENT / 16 {
                client.write(&[7; 16]).await;
                clock.pause(100_000).await;
            }
            client.shutdown();
            assert_eq!(client.read_to_end().await, (Vec::new(), Incoming::End));
        });
        serve(listener.accept().await.unwrap(), ()).await;
        world.clients_done().await;
    };
    let plan = |seed| Plan { faults: Faults::none(), buffers: 128, buffer_bytes: 16, ..Plan::of_seed(seed) };
    check_plans("a_connection_that_nobody_reads_holds_few_buffers", 50, plan, scenario);
}

#[test]
fn files_are_real_and_read_in_virtual_time() {
    let folder = tempfile::tempdir().unwrap();
    let contents: Vec<u8> = (0..50_000u32).map(|n| (n.wrapping_mul(31) >> 3) as u8).collect();
    std::fs::write(folder.path().join("file"), &contents).unwrap();
    let (path, contents) = (folder.path(), &contents);
    let scenario = |_: World| async move {
        let dir = fs::Dir::open(path).unwrap();
        assert_eq!(dir.find(b"missing").await.unwrap_err().kind(), std::io::ErrorKind::NotFound);
        let file = dir.find(b"file").await.unwrap().open().unwrap();
        let (mut all, mut buffer) = (Vec::new(), Vec::with_capacity(7_000));
        loop {
            let (read, back) = file.read_at(buffer, all.len() as u64).await;
            buffer = back;
            match read.unwrap() {
                0 => break,
                _ => all.extend_from_slice(&buffer),
            }
        }
        assert!(all == *contents);
    };
    check_seeds("files_are_real_and_read_in_virtual_time", 100, scenario);
}

#[test]
fn a_peer_has_an_address_and_no_descriptor_can_be_had() {
    let scenario = |world: World| async move {
        let listener = TcpListener::from_fd(world.listen());
        let client = world.connect(0);
        let stream = listener.accept().await.unwrap();
        let peer = stream.peer_addr().await.unwrap();
        assert!(peer.ip().is_loopback() && peer.port() > 0);
        assert_eq!(stream.install().await.unwrap_err().raw_os_error(), Some(libc::EMFILE));
        stream.write_all("hello").await.0.unwrap();
        drop(stream);
        world.spawn(async move {
            assert_eq!(client.read(2).await, Incoming::Bytes(b"he".to_vec()));
            assert!(client.unread() <= 3);
            assert_eq!(client.read_to_end().await, (b"llo".to_vec(), Incoming::End));
            assert!(client.is_closed());
        });
        world.clients_done().await;
    };
    let plan = |seed| Plan { faults: Faults::none(), ..Plan::of_seed(seed) };
    check_plans("a_peer_has_an_address_and_no_descriptor_can_be_had", 100, plan, scenario);
}

#[test]
fn the_same_seed_plays_the_same_world() {
    for seed in [3, 77, 1234] {
        let plan = Plan::of_seed(seed);
        let summary = plan.run(&echo_scenario).unwrap();
        assert_eq!(plan.run(&echo_scenario).unwrap(), summary);
        assert_ne!(Plan::of_seed(seed + 1).run(&echo_scenario).unwrap().trace, summary.trace);
    }
}

#[test]
fn nothing_left_to_happen_is_a_deadlock() {
    let scenario = |world: World| async move {
        let _client = world.connect(listener_that_nobody_accepts_on(&world));
        std::future::pending::<()>().await;
    };
    let why = Plan::of_seed(1).run(&scenario).unwrap_err();
    assert!(why.contains("deadlock"), "{why}");
}

#[test]
fn virtual_time_costs_no_time() {
    let began = std::time::Instant::now();
    let scenario = |_| time::sleep(Duration::from_secs(1800));
    let summary = Plan::of_seed(1).run(&|world| async move { scenario(world).await }).unwrap();
    assert!(summary.virtual_ns >= 1_800_000_000_000);
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn planted_generation_ignored_is_found() {
    assert_found(Bug::GenerationIgnored);
}

#[test]
fn planted_short_send_ignored_is_found() {
    assert_found(Bug::ShortSendIgnored);
}

#[test]
fn planted_enobufs_not_rearmed_is_found() {
    assert_found(Bug::EnobufsNotRearmed);
}

fn assert_found(bug: Bug) {
    let (seed, why) = first_to_find(bug, FIND_WITHIN, Plan::of_seed, echo_scenario)
        .unwrap_or_else(|| panic!("{bug:?} was not found"));
    println!("{bug:?} is found by seed {seed}: {why}");
}

fn listener_that_nobody_accepts_on(world: &World) -> usize {
    drop(world.listen());
    0
}

async fn echo_scenario(world: World) {
    clients_against(world, echo, any_client).await;
}

/// Sends back what comes, by a way that the seed picks anew each time: every one of them must be right.
async fn echo(stream: TcpStream, mut rng: Rng) {
    if rng.chance(200) {
        return echo_by_single_reads(stream, rng).await;
    }
    loop {
        let mut bytes = Vec::new();
        match rng.below(8) {
            // Gives up waiting, loses nothing, and waits again. Not for ever: then there would be no deadlock to find.
            0 => {
                let moment = time::sleep(Duration::from_millis(rng.below(4)));
                match select2(stream.recv(), moment).await {
                    Either::First(Ok(Some(data))) => bytes.extend_from_slice(&data),
                    Either::First(_) => return,
                    Either::Second(()) => {}
                }
            }
            1 => stream.pause_recv(),
            2 => drop(select2(stream.writable(), time::sleep(Duration::from_millis(rng.below(3)))).await),
            // Several buffers held at once, for a while.
            3 => {
                let mut held = Vec::new();
                for _ in 0..rng.up_to(4) {
                    let moment = time::sleep(Duration::from_millis(rng.below(3)));
                    match select2(stream.recv(), moment).await {
                        Either::First(Ok(Some(data))) => held.push(data),
                        Either::First(_) => break,
                        Either::Second(()) => {}
                    }
                }
                held.iter().for_each(|data| bytes.extend_from_slice(data));
            }
            _ => match stream.recv().await {
                Ok(Some(data)) => bytes.extend_from_slice(&data),
                Ok(None) | Err(_) => return,
            },
        }
        if !send_back(&stream, &mut rng, bytes).await {
            return;
        }
    }
}

/// Without the pool: receives into buffers of its own.
async fn echo_by_single_reads(stream: TcpStream, mut rng: Rng) {
    loop {
        let room = Vec::with_capacity(rng.up_to(300));
        match stream.read(room).await {
            (Ok(1..), bytes) => {
                if !send_back(&stream, &mut rng, bytes).await {
                    return;
                }
            }
            _ => return,
        }
    }
}

async fn send_back(stream: &TcpStream, rng: &mut Rng, bytes: Vec<u8>) -> bool {
    match rng.below(4) {
        0 => {
            let mut write = pin!(stream.write_all(bytes));
            match select2(write.as_mut(), stream.hangup()).await {
                Either::First((sent, _)) => sent.is_ok(),
                Either::Second(Ok(Hangup::Finished)) => write.await.0.is_ok(),
                Either::Second(Ok(Hangup::Gone) | Err(_)) => false,
            }
        }
        1 => {
            let (mut head, mut tail) = (bytes.clone(), bytes);
            let middle = rng.below(head.len() as u64 + 1) as usize;
            head.truncate(middle);
            tail.drain(..middle);
            let (all, mut sent) = (head.len() + tail.len(), 0);
            let mut message = Message::new();
            message.set(head, tail);
            while sent < all {
                let (written, back) = stream.write_two(message, sent).await;
                message = back;
                match written {
                    Ok(count) => sent += count,
                    Err(_) => return false,
                }
            }
            true
        }
        2 => {
            let (bytes, mut sent) = (bytes::Bytes::from(bytes), 0);
            while sent < bytes.len() {
                match stream.write_zero_copy(bytes.clone(), sent).await {
                    Ok(count) => sent += count,
                    Err(_) => return false,
                }
            }
            true
        }
        _ => stream.write_all(bytes).await.0.is_ok(),
    }
}

async fn any_client(world: World, client: Client) {
    let mut rng = client.rng();
    match rng.below(6) {
        0 => hasty(&world, &client, &mut rng).await,
        _ => patient(&world, &client).await,
    }
}

/// Sends all it has, in pieces, reads as it goes, and wants every byte back.
async fn patient(world: &World, client: &Client) {
    let mut rng = client.rng();
    let len = match rng.below(4) {
        0 => 20_000,
        1 => 2_000,
        _ => 100,
    };
    let sent: Vec<u8> = (0..rng.below(len)).map(|_| rng.next() as u8).collect();
    let (mut writing, mut reading) = (rng.clone(), Rng::new(rng.next()));
    let write = async {
        let mut rest = &sent[..];
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(writing.up_to(rest.len()));
            rest = after;
            if !client.write(piece).await {
                break;
            }
            if writing.chance(300) {
                world.pause(writing.below(3_000_000)).await;
            }
        }
        client.shutdown();
    };
    let read = async {
        let mut back = Vec::new();
        loop {
            if reading.chance(100) {
                world.pause(reading.below(3_000_000)).await;
            }
            match client.read(reading.up_to(4_000)).await {
                Incoming::Bytes(bytes) => back.extend(bytes),
                end => return (back, end),
            }
        }
    };
    let ((), (back, end)) = join2(write, read).await;
    assert!(sent.starts_with(&back), "{} bytes came back, and not as they were sent", back.len());
    if !client.is_excused() {
        assert_eq!((back.len(), end), (sent.len(), Incoming::End), "of {} bytes", sent.len());
    }
}

/// Goes away in the middle, politely or not.
async fn hasty(world: &World, client: &Client, rng: &mut Rng) {
    let sent: Vec<u8> = (0..rng.below(500)).map(|_| rng.next() as u8).collect();
    // It does not read, so the server may stop reading too.
    let moment = rng.below(4_000_000);
    select2(client.write(&sent), world.pause(moment)).await;
    if let Either::First(Incoming::Bytes(back)) = select2(client.read(usize::MAX), world.pause(moment)).await {
        assert!(sent.starts_with(&back));
    }
    match rng.below(3) {
        0 => client.reset(),
        1 => client.close(),
        _ => client.shutdown(),
    }
}
