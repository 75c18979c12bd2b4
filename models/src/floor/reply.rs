//! What the floor answers: bytes in, bytes out, no I/O.

use std::mem::MaybeUninit;
use std::time::SystemTime;

use crate::sys;

const BODY_BYTES: usize = 1024;
const HEAD_FIELDS: usize = 64;
/// The prepared heads and the body; only the Date changes.
pub(super) struct Reply {
    second: u64,
    keep: Vec<u8>,
    close: Vec<u8>,
    body: [u8; BODY_BYTES],
}

const BAD_REQUEST: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
/// "GET / HTTP/1.1" with two line ends.
const REQUEST_MIN_BYTES: usize = 18;

impl Reply {
    pub(super) fn new(now: SystemTime) -> Reply {
        let mut reply = Reply { second: 0, keep: Vec::new(), close: Vec::new(), body: [b'.'; BODY_BYTES] };
        reply.refresh(now);
        reply
    }

    pub(super) fn refresh(&mut self, now: SystemTime) {
        let second = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if second == self.second && !self.keep.is_empty() {
            return;
        }
        self.second = second;
        let date = httpdate::fmt_http_date(now);
        let head = format!(
            "HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {BODY_BYTES}\r\n\
             Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\nETag: \"400-6955b900\"\r\nAccept-Ranges: bytes\r\n"
        );
        self.keep = format!("{head}\r\n").into_bytes();
        self.close = format!("{head}Connection: close\r\n\r\n").into_bytes();
    }

    /// An upper bound of what the requests in so many bytes can be answered with.
    pub(super) fn most_bytes(&self, request_bytes: usize) -> usize {
        (request_bytes / REQUEST_MIN_BYTES + 1) * (self.close.len() + BODY_BYTES)
    }
}

/// Where replies are written.
pub(super) trait Replies {
    fn append(&mut self, bytes: &[u8]);
}

impl Replies for sys::Outbox {
    fn append(&mut self, bytes: &[u8]) {
        sys::Outbox::append(self, bytes);
    }
}

impl Replies for Vec<u8> {
    fn append(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Then {
    Keep,
    Close,
}

/// Answers every whole request in `bytes`; says how many bytes that took and whether the connection goes on.
pub(super) fn answer(bytes: &[u8], reply: &Reply, replies: &mut impl Replies) -> (usize, Then) {
    let mut taken = 0;
    while taken < bytes.len() {
        let mut fields = [const { MaybeUninit::uninit() }; HEAD_FIELDS];
        let mut request = httparse::Request::new(&mut []);
        let then = match request.parse_with_uninit_headers(&bytes[taken..], &mut fields) {
            Ok(httparse::Status::Partial) => break,
            Ok(httparse::Status::Complete(len)) => {
                taken += len;
                after(&request)
            }
            Err(_) => None,
        };
        match then {
            Some(Then::Keep) => replies.append(&reply.keep),
            Some(Then::Close) => replies.append(&reply.close),
            None => replies.append(BAD_REQUEST),
        }
        if then.is_some() {
            replies.append(&reply.body);
        }
        if then != Some(Then::Keep) {
            return (taken, Then::Close);
        }
    }
    (taken, Then::Keep)
}

/// Whether the connection goes on after this request (RFC 9112, 9.3); nothing for a request that is refused: the floor
/// knows only GET, and no bodies.
fn after(request: &httparse::Request<'_, '_>) -> Option<Then> {
    if request.method != Some("GET") {
        return None;
    }
    let mut then = if request.version == Some(1) { Then::Keep } else { Then::Close };
    for field in request.headers.iter() {
        match field.name.len() {
            10 if field.name.eq_ignore_ascii_case("connection") => {
                let mut options = field.value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
                if options.any(|option| option.eq_ignore_ascii_case(b"close")) {
                    then = Then::Close;
                }
            }
            14 if field.name.eq_ignore_ascii_case("content-length") => return None,
            17 if field.name.eq_ignore_ascii_case("transfer-encoding") => return None,
            _ => {}
        }
    }
    Some(then)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(requests: &[u8]) -> (usize, Then, String) {
        let reply = Reply::new(SystemTime::UNIX_EPOCH);
        let mut replies = Vec::new();
        let (taken, then) = answer(requests, &reply, &mut replies);
        assert!(replies.len() <= reply.most_bytes(requests.len()));
        (taken, then, String::from_utf8(replies).unwrap())
    }

    #[test]
    fn pipelined_requests_are_all_answered_and_a_partial_one_is_left() {
        let (taken, then, replies) = answered(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\n\r\nGET /c HT");
        assert_eq!((taken, then), (27 + 19, Then::Keep));
        assert_eq!(replies.matches("HTTP/1.1 200 OK\r\n").count(), 2);
        assert!(replies.contains("Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"));
        assert!(replies.ends_with(".") && !replies.contains("Connection"));
    }

    #[test]
    fn close_is_honoured_and_what_follows_is_not_answered() {
        let requests = b"GET / HTTP/1.1\r\nConnection: foo, Close\r\n\r\nGET / HTTP/1.1\r\n\r\n";
        let (taken, then, replies) = answered(requests);
        assert_eq!((taken, then), (16 + 24 + 2, Then::Close));
        assert_eq!(replies.matches("HTTP/1.1 200 OK").count(), 1);
        assert!(replies.contains("Connection: close\r\n\r\n"));
        assert_eq!(answered(b"GET / HTTP/1.0\r\n\r\n").1, Then::Close);
    }

    #[test]
    fn what_the_floor_does_not_know_is_refused() {
        let refused: [&[u8]; 4] = [
            b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx",
            b"GET / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx",
            b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"\x16\x03\x01",
        ];
        for request in refused {
            let (_, then, replies) = answered(request);
            assert_eq!((then, replies.as_bytes()), (Then::Close, BAD_REQUEST));
        }
    }
}
