//! What is sent, and what is expected in return: requests as bytes, made once, before the run.

use std::sync::OnceLock;

use bytes::Bytes;

use crate::rng::Rng;
use crate::target::Url;

/// How closely bodies are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// Only that they are as long as the head says.
    Off,
    /// That all answers of a URL have the same length.
    Len,
    /// That they have the same bytes, by a CRC-32.
    Sum,
}

/// One kind of request.
#[derive(Debug)]
pub struct Request {
    /// For people: the URL, and the method unless it is GET.
    pub name: String,
    /// How often, among all.
    pub weight: u32,
    /// As it is sent.
    pub bytes: Bytes,
    /// Whether it is a HEAD, whose answers have no body.
    pub to_head: bool,
    /// What the answer must be, as far as the scenario says.
    pub expect: Expect,
    /// What the first right answer was, for what the scenario does not say.
    pub seen: OnceLock<Body>,
}

/// What an answer must be; `None` is left to `Verify`, and of the status to its class (2xx and 3xx are right).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expect {
    /// The status.
    pub status: Option<u16>,
    /// The length of the body.
    pub length: Option<u64>,
    /// Its CRC-32 (the one of zip and PNG).
    pub crc32: Option<u32>,
}

/// A body, as far as it is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body {
    /// Its length.
    pub length: u64,
    /// Its CRC-32; 0 where it is not looked at.
    pub crc32: u32,
}

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// Another status; this one was expected, or any 2xx or 3xx.
    Status(Option<u16>),
    /// Shorter than that.
    Short(u64),
    /// Longer than that.
    OverLong(u64),
    /// Other bytes: this was the expected CRC-32.
    Corrupt(u32),
}

/// All kinds of requests, and which comes next.
#[derive(Debug)]
pub struct Traffic {
    requests: Vec<Request>,
    /// The weight of each and of all before it.
    upto: Vec<u64>,
}

impl Request {
    /// A request of these parts. Host is added, and Content-Length where there is a body or the method wants one.
    #[must_use]
    pub fn new(method: &str, url: &Url, headers: &[(String, String)], body: &[u8], expect: Expect) -> Request {
        let has = |name: &str| headers.iter().any(|header| header.0.eq_ignore_ascii_case(name));
        let mut bytes = format!("{method} {} HTTP/1.1\r\n", url.path).into_bytes();
        let mut field = |name: &str, value: &str| bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        if !has("host") {
            field("Host", &url.host);
        }
        if !has("content-length") && (!body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH")) {
            field("Content-Length", &body.len().to_string());
        }
        headers.iter().for_each(|(name, value)| field(name, value));
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body);
        Request {
            name: if method == "GET" { url.to_string() } else { format!("{method} {url}") },
            weight: 1,
            bytes: bytes.into(),
            to_head: method == "HEAD",
            expect,
            seen: OnceLock::new(),
        }
    }

    /// Whether the checksum of an answer's body matters.
    #[must_use]
    pub fn wants_sum(&self, verify: Verify) -> bool {
        verify == Verify::Sum || self.expect.crc32.is_some()
    }

    /// Judges an answer.
    ///
    /// # Errors
    /// What is wrong with it.
    #[inline]
    pub fn check(&self, status: u16, body: Body, verify: Verify) -> Result<(), Wrong> {
        let right = match self.expect.status {
            Some(expected) => status == expected,
            None => (200..400).contains(&status),
        };
        if !right {
            return Err(Wrong::Status(self.expect.status));
        }
        if verify == Verify::Off && self.expect.length.is_none() && self.expect.crc32.is_none() {
            return Ok(());
        }
        // A right answer to another status is another body: 304 beside 200 is not short.
        let first = if verify == Verify::Off { body } else { *self.seen.get_or_init(|| body) };
        let length = self.expect.length.unwrap_or(first.length);
        if body.length < length {
            return Err(Wrong::Short(length));
        }
        if body.length > length {
            return Err(Wrong::OverLong(length));
        }
        let crc32 = self.expect.crc32.unwrap_or(first.crc32);
        if self.wants_sum(verify) && body.crc32 != crc32 {
            return Err(Wrong::Corrupt(crc32));
        }
        Ok(())
    }
}

impl Traffic {
    /// Of these kinds; there is at least one, and one with a weight.
    ///
    /// # Errors
    /// A line that says what is missing.
    pub fn new(requests: Vec<Request>) -> Result<Traffic, String> {
        let mut sum = 0;
        let add = |request: &Request| {
            sum += u64::from(request.weight);
            sum
        };
        let upto: Vec<u64> = requests.iter().map(add).collect();
        match () {
            () if sum == 0 => Err(String::from("there is no request with a weight above 0")),
            () if requests.len() > usize::from(u16::MAX) => Err(String::from("there are more than 65,535 requests")),
            () => Ok(Traffic { requests, upto }),
        }
    }

    /// The kinds, by number.
    #[must_use]
    pub fn requests(&self) -> &[Request] {
        &self.requests
    }

    /// The only kind, if there is only one.
    #[must_use]
    pub fn only(&self) -> Option<&Request> {
        match self.requests.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }

    /// The number of the next one, by weight.
    #[inline]
    #[must_use]
    pub fn draw(&self, rng: &mut Rng) -> u16 {
        if self.requests.len() == 1 {
            return 0;
        }
        let drawn = rng.below(self.upto.last().copied().unwrap_or(0));
        self.upto.partition_point(|upto| *upto <= drawn) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(expect: Expect) -> Request {
        Request::new("GET", &Url::parse("http://h:81/x").unwrap(), &[], b"", expect)
    }

    #[test]
    fn requests_are_what_a_server_expects() {
        let url = Url::parse("http://h:81/x?y").unwrap();
        let get = Request::new("GET", &url, &[], b"", Expect::default());
        assert_eq!(&get.bytes[..], b"GET /x?y HTTP/1.1\r\nHost: h:81\r\n\r\n");
        let headers = [("host".to_owned(), "other".to_owned()), ("X-A".to_owned(), "b".to_owned())];
        let post = Request::new("POST", &url, &headers, b"abc", Expect::default());
        assert_eq!(&post.bytes[..], b"POST /x?y HTTP/1.1\r\nContent-Length: 3\r\nhost: other\r\nX-A: b\r\n\r\nabc");
        assert_eq!(post.name, "POST http://h:81/x?y");
        let put = Request::new("PUT", &url, &[], b"", Expect::default());
        assert!(put.bytes.windows(17).any(|bytes| bytes == b"Content-Length: 0"));
    }

    #[test]
    fn the_first_answer_is_the_truth_unless_the_scenario_knows_better() {
        let body = |length, crc32| Body { length, crc32 };
        let by_first = request(Expect::default());
        assert_eq!(by_first.check(200, body(10, 7), Verify::Sum), Ok(()));
        assert_eq!(by_first.check(200, body(10, 7), Verify::Sum), Ok(()));
        assert_eq!(by_first.check(200, body(9, 7), Verify::Sum), Err(Wrong::Short(10)));
        assert_eq!(by_first.check(200, body(11, 7), Verify::Len), Err(Wrong::OverLong(10)));
        assert_eq!(by_first.check(200, body(10, 8), Verify::Sum), Err(Wrong::Corrupt(7)));
        assert_eq!(by_first.check(200, body(10, 8), Verify::Len), Ok(()));
        assert_eq!(by_first.check(500, body(10, 7), Verify::Off), Err(Wrong::Status(None)));
        let told = request(Expect { status: Some(404), length: Some(3), crc32: Some(5) });
        assert_eq!(told.check(404, body(3, 5), Verify::Off), Ok(()));
        assert_eq!(told.check(200, body(3, 5), Verify::Off), Err(Wrong::Status(Some(404))));
        assert_eq!(told.check(404, body(2, 5), Verify::Off), Err(Wrong::Short(3)));
        assert_eq!(told.check(404, body(3, 6), Verify::Off), Err(Wrong::Corrupt(5)));
        let unchecked = request(Expect::default());
        assert_eq!(unchecked.check(200, body(1, 0), Verify::Off), Ok(()));
        assert_eq!(unchecked.check(200, body(2, 0), Verify::Off), Ok(()));
    }

    #[test]
    fn kinds_come_by_their_weight() {
        let weigh = |weight| Request { weight, ..request(Expect::default()) };
        let traffic = Traffic::new(vec![weigh(1), weigh(0), weigh(3)]).unwrap();
        let mut rng = Rng::new(1, 0);
        let mut counts = [0u32; 3];
        (0..40_000).for_each(|_| counts[usize::from(traffic.draw(&mut rng))] += 1);
        assert_eq!(counts[1], 0);
        // 10,000 with a deviation of 87.
        assert!((9_600..10_400).contains(&counts[0]), "{counts:?}");
        assert!(Traffic::new(vec![weigh(0)]).is_err());
        assert!(Traffic::new(vec![]).is_err());
    }
}
