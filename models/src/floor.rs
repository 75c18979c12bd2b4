//! The limit: what no server on io_uring can beat. A head is parsed, a prepared head and 1 KiB are copied, one send goes out.
//!
//! No routing, no files, no deadlines; what it does do, it does as RFC 9112 wants it: keep-alive, pipelining (replies to
//! pipelined requests leave in one send), `Connection: close`, a current Date. What was tried, with numbers, is in
//! docs/decisions/0003-floor.md.

use std::io;
use std::net::TcpListener;
use std::ops::Range;
use std::time::SystemTime;

use clap::{Arg, ArgAction, ArgMatches};

use self::reply::{Reply, Then, answer};
use crate::Args;
use crate::sys::{self, Completion, Filled, Memory, Plan, Ring};

mod reply;

const HEAD_LIMIT_BYTES: usize = 64 * 1024;
/// Replies waiting for a client that does not read; past it the connection is cut.
const UNSENT_LIMIT_BYTES: usize = 1024 * 1024;
const OUTBOX_BYTES: usize = 1024 * 1024;
const RECEIVE_BUFFERS: u16 = 256;
const RECEIVE_BUFFER_BYTES: u32 = 4096;
const DIRECT_DESCRIPTORS_MAX: u64 = 32 * 1024;
const BACKLOG_MAX: u32 = 4096;

const IS_LAST: bool = true;
/// The flag for TCP_DEFER_ACCEPT: a connection is accepted when its first bytes are there, so one wake-up less.
const DEFER_ACCEPT: &str = "defer-accept";
const DEFER_ACCEPT_SECS: i32 = 10;

pub(crate) fn flags() -> Vec<Arg> {
    let defer = Arg::new(DEFER_ACCEPT).long(DEFER_ACCEPT).action(ArgAction::SetTrue);
    vec![defer.help("Accept a connection only when its first request is there")]
}

/// Serves until SIGINT or SIGTERM.
pub(crate) fn run(args: &Args, flags: &ArgMatches) -> io::Result<()> {
    if let Some(id) = args.cpu
        && !core_affinity::set_for_current(core_affinity::CoreId { id })
    {
        return Err(io::Error::other(format!("cannot pin to CPU {id}")));
    }
    let descriptors = sys::raise_open_files()?.min(DIRECT_DESCRIPTORS_MAX) as u32;
    let listener = TcpListener::bind(args.address)?;
    // A full table makes a multishot accept destroy a client's connection, and one pass can accept a whole backlog.
    sys::set_backlog(&listener, (descriptors / 4).min(BACKLOG_MAX) as i32)?;
    // Inherited by accepted sockets: the last segment of a coalesced reply does not wait for an ACK.
    sys::set_option(&listener, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
    if flags.get_flag(DEFER_ACCEPT) {
        sys::set_option(&listener, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, DEFER_ACCEPT_SECS)?;
    }
    let stop = sys::stop_signals()?;
    let ring = Ring::new(&Plan {
        submissions: 1024,
        completions: 16 * 1024,
        direct_descriptors: descriptors,
        receive_buffers: RECEIVE_BUFFERS,
        receive_buffer_bytes: RECEIVE_BUFFER_BYTES,
        outbox_bytes: OUTBOX_BYTES,
    })?;
    println!("http://{}/", listener.local_addr()?);
    let mut floor = Floor {
        ring,
        listener,
        connections: Vec::new(),
        live: 0,
        live_max: descriptors - descriptors / 4,
        accept: Accept::Idle,
        sends: Sends::default(),
        reply: Reply::new(SystemTime::now()),
        flush: Vec::new(),
        turn: 0,
    };
    floor.ring.poll_readable(&stop, Tag::plain(Kind::Stop));
    floor.serve()
}

/// The server: one thread, one ring.
struct Floor {
    ring: Ring,
    listener: TcpListener,
    /// Indexed by direct descriptor.
    connections: Vec<Connection>,
    live: u32,
    live_max: u32,
    accept: Accept,
    sends: Sends,
    /// Connections with unsent bytes that nothing in flight will bring out.
    flush: Vec<(u32, u32)>,
    turn: u32,
    reply: Reply,
}

enum Accept {
    Idle,
    Armed,
    Cancelled,
}

/// A slot of the direct table. The generation tells completions of an earlier tenant from those of this one.
#[derive(Default)]
struct Connection {
    generation: u32,
    /// The turn in which the outbox last held a send of this connection.
    sent_in_turn: u32,
    open: bool,
    receiving: Receiving,
    slow: Option<Box<Slow>>,
}

#[derive(Default, Clone, Copy, PartialEq)]
enum Receiving {
    #[default]
    No,
    Once,
    Multishot,
}

/// What only a few connections have: part of a head, or replies that the client does not take.
#[derive(Default)]
struct Slow {
    head: Vec<u8>,
    unsent: Vec<u8>,
    sending: bool,
    close_after: bool,
}

/// The outbox sends of this turn, and of the turn before, whose failures are about to be reported.
#[derive(Default)]
struct Sends {
    writing: Vec<Sent>,
    written: Vec<Sent>,
}

struct Sent {
    slot: u32,
    generation: u32,
    range: Range<usize>,
}

impl Floor {
    fn serve(&mut self) -> io::Result<()> {
        let mut completions = Vec::new();
        loop {
            self.manage_accept();
            let want = u32::from(self.flush.is_empty());
            self.ring.turn(want, &mut completions)?;
            self.turn = self.turn.wrapping_add(1);
            self.sends.turn_over();
            self.reply.refresh(SystemTime::now());
            for completion in completions.drain(..) {
                let tag = Tag::unpack(completion.user_data);
                match tag.kind {
                    Kind::Receive => self.received(tag, completion),
                    Kind::Send => self.not_all_sent(tag.low as usize, completion.result),
                    Kind::Owned => self.owned_sent(tag, completion),
                    Kind::Accept => self.accepted(&completion),
                    Kind::Stop => return Ok(()),
                    Kind::Ignored => {}
                }
            }
            self.flush_unsent();
        }
    }

    /// Accepts while there is room for a whole backlog in the table.
    fn manage_accept(&mut self) {
        match self.accept {
            Accept::Idle if self.live < self.live_max => {
                self.ring.accept_multishot(&self.listener, Tag::plain(Kind::Accept));
                self.accept = Accept::Armed;
            }
            Accept::Armed if self.live >= self.live_max => {
                self.ring.cancel(Tag::plain(Kind::Accept), Tag::plain(Kind::Ignored));
                self.accept = Accept::Cancelled;
            }
            _ => {}
        }
    }

    fn accepted(&mut self, completion: &Completion) {
        if !completion.more {
            self.accept = Accept::Idle;
        }
        let Ok(slot) = u32::try_from(completion.result) else { return };
        if self.connections.len() <= slot as usize {
            self.connections.resize_with(slot as usize + 1, Connection::default);
        }
        self.connections[slot as usize].open = true;
        self.live += 1;
        // A client that asks for `Connection: close` needs one receive only, and a oneshot one needs no cancel.
        self.receive(slot, Receiving::Once);
    }

    fn receive(&mut self, slot: u32, how: Receiving) {
        let connection = &mut self.connections[slot as usize];
        connection.receiving = how;
        let tag = connection.tag(Kind::Receive, slot);
        match how {
            Receiving::No => {}
            Receiving::Once => self.ring.receive_first(slot, tag),
            Receiving::Multishot => self.ring.receive_multishot(slot, tag),
        }
    }

    fn received(&mut self, tag: Tag, completion: Completion) {
        let current = self.is_current(tag);
        if current && !completion.more {
            self.connections[tag.low as usize].receiving = Receiving::No;
        }
        match completion.memory {
            Memory::Filled(filled) => {
                if current && completion.result > 0 {
                    self.answer(tag.low, &filled);
                }
                self.ring.buffers.give_back(filled);
                if current && completion.result <= 0 {
                    self.end(tag.low);
                }
            }
            _ if !current => {}
            // Every buffer was in use; those of this turn are back when the receive is submitted.
            _ if completion.result == -libc::ENOBUFS => self.receive(tag.low, Receiving::Multishot),
            _ => self.end(tag.low),
        }
    }

    /// Answers the requests in a receive buffer and sends the replies together.
    fn answer(&mut self, slot: u32, filled: &Filled) {
        let connection = &mut self.connections[slot as usize];
        let bytes = self.ring.buffers.bytes(filled);
        let is_first_send = connection.sent_in_turn != self.turn;
        if connection.slow.is_some() || !is_first_send || self.ring.outbox.room() < self.reply.most_bytes(bytes.len()) {
            let mut slow = connection.slow.take().unwrap_or_default();
            if !slow.close_after {
                slow.head.extend_from_slice(bytes);
            }
            self.answer_slowly(slot, slow);
            return;
        }
        let start = self.ring.outbox.used();
        let (taken, then) = answer(bytes, &self.reply, &mut self.ring.outbox);
        if taken < bytes.len() && then == Then::Keep {
            connection.slow = Some(Box::new(Slow { head: bytes[taken..].to_vec(), ..Slow::default() }));
        }
        let range = start..self.ring.outbox.used();
        match then {
            Then::Close => {
                let replies = self.ring.outbox.writing(&range).to_vec();
                self.ring.outbox.truncate(start);
                // No order to keep: the send holds the socket until all of it is out, the table's own reference goes now.
                self.ring.send_owned(slot, replies, IS_LAST, Tag::plain(Kind::Ignored));
                self.end(slot);
            }
            Then::Keep => {
                if !range.is_empty() {
                    connection.sent_in_turn = self.turn;
                    let tag = Tag { kind: Kind::Send, generation: 0, low: self.sends.writing.len() as u32 };
                    self.ring.send_from_outbox(slot, &range, tag.pack());
                    self.sends.writing.push(Sent { slot, generation: connection.generation, range });
                }
                self.receive_again(slot);
            }
        }
    }

    /// The same for a connection with a split head, unsent replies, or a send in this turn already.
    fn answer_slowly(&mut self, slot: u32, mut slow: Box<Slow>) {
        let connection = &mut self.connections[slot as usize];
        let (taken, then) = answer(&slow.head, &self.reply, &mut slow.unsent);
        slow.head.drain(..taken);
        slow.close_after |= then == Then::Close;
        if slow.head.len() > HEAD_LIMIT_BYTES || slow.unsent.len() > UNSENT_LIMIT_BYTES {
            self.end(slot);
            return;
        }
        if !slow.unsent.is_empty() && !slow.sending {
            self.flush.push((slot, connection.generation));
        }
        if !slow.close_after {
            connection.slow = Some(slow);
            self.receive_again(slot);
        } else {
            slow.head.clear();
            connection.slow = Some(slow);
        }
    }

    fn receive_again(&mut self, slot: u32) {
        if self.connections[slot as usize].receiving == Receiving::No {
            self.receive(slot, Receiving::Multishot);
        }
    }

    /// Sends what is unsent, once the outcome of the sends before it is known (hence a turn later).
    fn flush_unsent(&mut self) {
        let due = std::mem::take(&mut self.flush);
        for (slot, generation) in due {
            let connection = &mut self.connections[slot as usize];
            if !connection.open || connection.generation != generation {
                continue;
            }
            if connection.sent_in_turn == self.turn {
                self.flush.push((slot, generation));
                continue;
            }
            let tag = connection.tag(Kind::Owned, slot);
            let Some(slow) = &mut connection.slow else { continue };
            if !slow.sending && !slow.unsent.is_empty() {
                slow.sending = true;
                self.ring.send_owned(slot, std::mem::take(&mut slow.unsent), !IS_LAST, tag);
            }
        }
    }

    /// A send of the turn before was refused or taken in part.
    fn not_all_sent(&mut self, index: usize, result: i32) {
        let Some(Sent { slot, generation, range }) = self.sends.written.get(index) else { return };
        let (slot, connection) = (*slot, &mut self.connections[*slot as usize]);
        if !connection.open || connection.generation != *generation {
            return;
        }
        let sent = match result {
            0.. => result as usize,
            _ if result == -libc::EAGAIN => 0,
            _ => return self.end(slot),
        };
        let rest = self.ring.outbox.written(range).get(sent..).unwrap_or(&[]);
        let slow = connection.slow.get_or_insert_default();
        slow.unsent.splice(..0, rest.iter().copied());
        self.flush.push((slot, *generation));
    }

    fn owned_sent(&mut self, tag: Tag, completion: Completion) {
        if !self.is_current(tag) {
            return;
        }
        let (slot, connection) = (tag.low, &mut self.connections[tag.low as usize]);
        let (Memory::Returned(bytes), Some(slow), 0..) = (completion.memory, &mut connection.slow, completion.result)
        else {
            return self.end(slot);
        };
        slow.sending = false;
        let rest = bytes.get(completion.result as usize..).unwrap_or(&[]);
        slow.unsent.splice(..0, rest.iter().copied());
        match (slow.unsent.is_empty(), slow.close_after) {
            (false, _) => self.flush.push((slot, tag.generation)),
            (true, true) => self.end(slot),
            (true, false) if slow.head.is_empty() => connection.slow = None,
            (true, false) => {}
        }
    }

    /// Closes the connection; completions of its operations in flight no longer match its generation.
    fn end(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        let receive = connection.tag(Kind::Receive, slot);
        let was_receiving = std::mem::take(&mut connection.receiving) != Receiving::No;
        connection.open = false;
        connection.generation = (connection.generation + 1) & GENERATION_MASK;
        connection.slow = None;
        self.live -= 1;
        if was_receiving {
            self.ring.cancel(receive, Tag::plain(Kind::Ignored));
        }
        self.ring.close(slot, Tag::plain(Kind::Ignored));
    }

    fn is_current(&self, tag: Tag) -> bool {
        let connection = self.connections.get(tag.low as usize);
        connection.is_some_and(|connection| connection.open && connection.generation == tag.generation)
    }
}

impl Connection {
    fn tag(&self, kind: Kind, slot: u32) -> u64 {
        Tag { kind, generation: self.generation, low: slot }.pack()
    }
}

impl Sends {
    fn turn_over(&mut self) {
        std::mem::swap(&mut self.writing, &mut self.written);
        self.writing.clear();
    }
}

const GENERATION_MASK: u32 = 0xff_ffff;

/// What a completion is about, in the 63 bits of `user_data` that are ours.
#[derive(Clone, Copy)]
struct Tag {
    kind: Kind,
    generation: u32,
    /// The slot; for `Send` the index in `Sends`.
    low: u32,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    Ignored,
    Accept,
    Receive,
    Send,
    Owned,
    Stop,
}

impl Tag {
    const KINDS: [Kind; 6] = [Kind::Ignored, Kind::Accept, Kind::Receive, Kind::Send, Kind::Owned, Kind::Stop];

    fn plain(kind: Kind) -> u64 {
        Tag { kind, generation: 0, low: 0 }.pack()
    }

    fn pack(self) -> u64 {
        (self.kind as u64) << 56 | u64::from(self.generation) << 32 | u64::from(self.low)
    }

    fn unpack(user_data: u64) -> Tag {
        let kind = Tag::KINDS.get((user_data >> 56) as usize).copied().unwrap_or(Kind::Ignored);
        Tag { kind, generation: (user_data >> 32) as u32 & GENERATION_MASK, low: user_data as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_survives_the_ring() {
        for kind in Tag::KINDS {
            let tag = Tag::unpack(Tag { kind, generation: GENERATION_MASK, low: u32::MAX }.pack());
            assert_eq!((tag.kind, tag.generation, tag.low), (kind, GENERATION_MASK, u32::MAX));
        }
    }
}
