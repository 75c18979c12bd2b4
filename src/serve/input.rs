//! The bytes that a connection has received and not yet used.

use crate::rt::RecvBuf;

/// At most one pool buffer, or a copy of what did not come whole. An idle connection holds neither.
#[derive(Default)]
pub(super) enum Input {
    #[default]
    Empty,
    /// In place in the core's pool: the common case, a whole request in one receive.
    Pool(RecvBuf),
    /// Copied: the start of a request whose rest is still to come.
    Copied { bytes: Vec<u8>, start: usize },
}

impl Input {
    /// What is there, oldest first.
    pub(super) fn unread(&self) -> &[u8] {
        match self {
            Input::Empty => &[],
            Input::Pool(buffer) => buffer,
            Input::Copied { bytes, start } => &bytes[*start..],
        }
    }

    /// Uses up the first `count` bytes.
    pub(super) fn consume(&mut self, count: usize) {
        if count == self.unread().len() {
            *self = Input::Empty;
            return;
        }
        match self {
            Input::Empty => {}
            Input::Pool(buffer) => buffer.advance(count),
            Input::Copied { start, .. } => *start += count,
        }
    }

    /// Adds what was received.
    pub(super) fn push(&mut self, received: RecvBuf) {
        self.release();
        match self {
            Input::Empty | Input::Pool(_) => *self = Input::Pool(received),
            Input::Copied { bytes, start } => {
                bytes.drain(..std::mem::take(start));
                bytes.extend_from_slice(&received);
            }
        }
    }

    /// As `push`, by copy.
    pub(super) fn append(&mut self, received: &[u8]) {
        self.release();
        match self {
            Input::Copied { bytes, .. } => bytes.extend_from_slice(received),
            _ => *self = Input::Copied { bytes: received.to_vec(), start: 0 },
        }
    }

    /// Gives the pool its buffer back: before waiting for more of a request that has begun. Only its tail is copied.
    pub(super) fn release(&mut self) {
        if let Input::Pool(buffer) = self {
            *self = Input::Copied { bytes: buffer.to_vec(), start: 0 };
        }
    }
}
