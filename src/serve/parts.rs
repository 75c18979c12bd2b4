//! Several parts of one file in one reply, sent one after the other: nothing is gathered but what is small.

use std::rc::Rc;

use crate::http::multipart::Multipart;
use crate::http::range::Span;
use crate::rt::fs::File;

use super::answer::{COPIED_BODY_BYTES_MAX, OUT_BYTES_MAX, reserve};
use super::file_cache::Content;
use super::link::Link;
use super::transfer::{self, Cut};
use super::worker::Worker;

/// A body of several parts, and where their bytes are.
pub(super) struct Parts {
    parts: Multipart,
    content: Content,
}

impl Parts {
    pub(super) fn new(parts: &Multipart, content: &Content) -> Parts {
        Parts { parts: parts.clone(), content: content.clone() }
    }

    /// Sends what has gathered in `link.out`, and then the parts. The end of them is left there.
    pub(super) async fn send(&self, link: &mut Link, worker: &Worker) -> Result<(), Cut> {
        for (index, span) in self.parts.spans().iter().enumerate() {
            if link.out.len() >= OUT_BYTES_MAX {
                transfer::flush(link, worker).await?;
            }
            reserve(worker, &mut link.out);
            self.parts.write_part_head(index, &mut link.out);
            self.send_span(link, worker, *span).await?;
        }
        reserve(worker, &mut link.out);
        self.parts.write_end(&mut link.out);
        Ok(())
    }

    /// A short one gathers with others, so that hundreds of them do not become hundreds of segments.
    async fn send_span(&self, link: &mut Link, worker: &Worker, span: Span) -> Result<(), Cut> {
        let is_short = span.len <= COPIED_BODY_BYTES_MAX as u64;
        match &self.content {
            Content::Memory(bytes) => {
                let part = span.start as usize..(span.start + span.len) as usize;
                if is_short {
                    link.out.extend_from_slice(&bytes[part]);
                    return Ok(());
                }
                transfer::flush_with(link, worker, bytes.slice(part)).await
            }
            // A later version has no place behind the head of this one.
            Content::File(file) if is_short => {
                gather(file, span, &mut link.out).await?;
                if file.is_unchanged() { Ok(()) } else { Err(Cut) }
            }
            Content::File(file) => transfer::file(link, worker, Rc::clone(file), span).await,
        }
    }
}

/// Appends a part of a file, read through the ring.
async fn gather(file: &File, span: Span, out: &mut Vec<u8>) -> Result<(), Cut> {
    let (mut at, end) = (span.start, span.start + span.len);
    while at < end {
        let room = (end - at) as usize;
        let (count, bytes) = file.read_at(Vec::with_capacity(room), at).await;
        match count {
            // The file has shrunk: the promised length cannot be kept.
            Ok(0) => return Err(Cut),
            Ok(count) => {
                // A vector may have more room than it was asked for.
                let count = count.min(room);
                out.extend_from_slice(&bytes[..count]);
                at += count as u64;
            }
            Err(error) => {
                tracing::warn!(%error, "a file cannot be read");
                return Err(Cut);
            }
        }
    }
    Ok(())
}
