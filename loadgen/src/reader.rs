//! HTTP/1.1 responses, from bytes in any pieces (RFC 9112). Pure.
//!
//! Not `ucaffeine::http`, which reads requests for the server that is measured here: a misunderstanding that both shared
//! would hide. It is strict where a lenient reader would hide a server's fault, and bounded everywhere.

mod chunked;
mod head;
mod heads;

use std::fmt;

pub use head::Head;
pub use heads::Heads;

use chunked::Chunked;
use head::Framing;

/// Bounds of one response, beyond which it is a fault.
pub const HEAD_BYTES_MAX: usize = 64 << 10;
const INTERIM_RESPONSES_MAX: u8 = 16;

/// One connection's reader.
pub struct Reader {
    state: State,
    /// The beginning of a head whose end has not come yet; empty, and without memory, most of the time.
    split: Vec<u8>,
    interim: u8,
    /// Of the response under way.
    wire_bytes: u64,
    body_bytes: u64,
}

/// A piece of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'i> {
    /// The final head; interim ones (1xx) are passed over.
    Head(Head),
    /// Some of the body, in order, chunk framing removed.
    Body(&'i [u8]),
    /// The response is over.
    End(Extent),
}

/// How long a response was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// All of its bytes.
    pub wire_bytes: u64,
    /// Of its body, without chunk framing.
    pub body_bytes: u64,
}

/// What is wrong with a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It does not begin with an HTTP/1.x status line.
    StatusLine,
    /// A header field is malformed.
    Field,
    /// Content-Length is no number, or two different ones.
    Length,
    /// Transfer-Encoding ends in something other than `chunked`, or is accompanied by a Content-Length.
    TransferEncoding,
    /// A chunk's size, extension or end is malformed.
    Chunk,
    /// A line does not end in CR LF.
    LineEnd,
    /// The head, or the trailers, have no end in sight.
    TooLong,
    /// 101, which nobody asked for, or interim responses without end.
    Interim,
    /// The connection ended in the midst of it.
    Truncated,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::StatusLine => "no HTTP/1.x status line",
            Fault::Field => "a malformed header field",
            Fault::Length => "a malformed or contradictory Content-Length",
            Fault::TransferEncoding => "a Transfer-Encoding other than chunked, or beside a Content-Length",
            Fault::Chunk => "a malformed chunk",
            Fault::LineEnd => "a line that does not end in CR LF",
            Fault::TooLong => "a head of more than 64 KiB",
            Fault::Interim => "an interim response that nobody asked for",
            Fault::Truncated => "the connection ended in the midst of it",
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Between responses, or in a head.
    Head,
    Length {
        left: u64,
    },
    Chunked(Chunked),
    UntilClose,
}

impl Default for Reader {
    fn default() -> Reader {
        Reader { state: State::Head, split: Vec::new(), interim: 0, wire_bytes: 0, body_bytes: 0 }
    }
}

impl Reader {
    /// The next piece of what `input` holds, which is advanced beyond it; `None` when `input` is used up.
    /// `to_head`: the request was a HEAD, so that no body follows whatever the head says. `heads`: what was read before, here or
    /// by another reader.
    ///
    /// # Errors
    /// [`Fault`]: then the connection is of no use any more.
    #[inline]
    pub fn next<'i>(
        &mut self,
        heads: &mut Heads,
        input: &mut &'i [u8],
        to_head: bool,
    ) -> Result<Option<Part<'i>>, Fault> {
        match self.state {
            State::Head => self.head(heads, input, to_head),
            State::Length { left: 0 } => Ok(Some(self.end())),
            State::Length { left } => {
                let body = self.take(input, usize::try_from(left).unwrap_or(usize::MAX));
                self.state = State::Length { left: left - body.len() as u64 };
                Ok(self.body(body))
            }
            State::UntilClose => {
                let body = self.take(input, usize::MAX);
                Ok(self.body(body))
            }
            State::Chunked(mut chunked) => {
                let before = input.len();
                let step = chunked.next(input)?;
                self.state = State::Chunked(chunked);
                self.wire_bytes += (before - input.len()) as u64;
                match step {
                    chunked::Step::Starved => Ok(None),
                    chunked::Step::Data(body) => Ok(self.body(body)),
                    chunked::Step::End => Ok(Some(self.end())),
                }
            }
        }
    }

    /// The peer has ended its side. The end of a response that only this ends; `None` between responses.
    ///
    /// # Errors
    /// [`Fault::Truncated`] in the midst of one.
    pub fn end_of_input(&mut self) -> Result<Option<Extent>, Fault> {
        match self.state {
            State::Head if self.split.is_empty() && self.interim == 0 => Ok(None),
            State::UntilClose => {
                let Part::End(extent) = self.end() else { unreachable!("`end` makes ends") };
                Ok(Some(extent))
            }
            _ => Err(Fault::Truncated),
        }
    }

    /// Bytes of the body that are still to come, where the head has said how many.
    pub fn body_left(&self) -> Option<u64> {
        match self.state {
            State::Length { left } => Some(left),
            _ => None,
        }
    }

    /// Passes over bytes of the body that were received and thrown away elsewhere, at most [`body_left`](Self::body_left).
    pub fn skip(&mut self, bytes: u64) {
        if let State::Length { left } = &mut self.state {
            *left = left.saturating_sub(bytes);
            self.wire_bytes += bytes;
            self.body_bytes += bytes;
        }
    }

    /// Whether some of a response has come, and not all of it.
    pub fn is_midway(&self) -> bool {
        self.state != State::Head || !self.split.is_empty()
    }

    fn head<'i>(&mut self, heads: &mut Heads, input: &mut &'i [u8], to_head: bool) -> Result<Option<Part<'i>>, Fault> {
        while !input.is_empty() {
            let Some(head) = self.whole_head(heads, input)? else { return Ok(None) };
            if head.status < 200 {
                self.interim += 1;
                if head.status == 101 || self.interim > INTERIM_RESPONSES_MAX {
                    return Err(Fault::Interim);
                }
                continue;
            }
            self.interim = 0;
            self.state = match head.framing {
                _ if to_head || matches!(head.status, 204 | 304) => State::Length { left: 0 },
                Framing::Length(left) => State::Length { left },
                Framing::Chunked => State::Chunked(Chunked::default()),
                Framing::UntilClose => State::UntilClose,
            };
            return Ok(Some(Part::Head(head)));
        }
        Ok(None)
    }

    /// Takes a head off the input, if its end is there.
    fn whole_head(&mut self, heads: &mut Heads, input: &mut &[u8]) -> Result<Option<Head>, Fault> {
        if self.split.is_empty()
            && let Some((len, head)) = heads.recognise(input)
        {
            self.take(input, len);
            return Ok(Some(head));
        }
        if self.split.is_empty()
            && let Some(len) = head::end_of(input, 0)
        {
            if len > HEAD_BYTES_MAX {
                return Err(Fault::TooLong);
            }
            let bytes = self.take(input, len);
            let head = Head::parse(bytes)?;
            heads.remember(bytes, head);
            return Ok(Some(head));
        }
        // Rare: split over two receives. Only then is anything copied.
        let before = self.split.len();
        self.split.extend_from_slice(&input[..input.len().min(HEAD_BYTES_MAX + 1 - before)]);
        let Some(len) = head::end_of(&self.split, before.saturating_sub(3)) else {
            if self.split.len() > HEAD_BYTES_MAX {
                return Err(Fault::TooLong);
            }
            self.take(input, usize::MAX);
            return Ok(None);
        };
        if len > HEAD_BYTES_MAX {
            return Err(Fault::TooLong);
        }
        self.take(input, len - before);
        let head = Head::parse(&self.split[..len]);
        self.split = Vec::new();
        head.map(Some)
    }

    fn take<'i>(&mut self, input: &mut &'i [u8], most: usize) -> &'i [u8] {
        let (taken, rest) = input.split_at(most.min(input.len()));
        *input = rest;
        self.wire_bytes += taken.len() as u64;
        taken
    }

    fn body<'i>(&mut self, body: &'i [u8]) -> Option<Part<'i>> {
        self.body_bytes += body.len() as u64;
        (!body.is_empty()).then_some(Part::Body(body))
    }

    fn end<'i>(&mut self) -> Part<'i> {
        let extent = Extent { wire_bytes: self.wire_bytes, body_bytes: self.body_bytes };
        (self.state, self.wire_bytes, self.body_bytes) = (State::Head, 0, 0);
        Part::End(extent)
    }
}

#[cfg(test)]
mod tests;
