//! What went wrong, by class and errno: how often, the first example, and what to do about it.

use serde::{Deserialize, Serialize};

/// How many kinds of error are told apart; later kinds are counted as [`ErrorClass::Other`] without errno.
pub const ERROR_KINDS_MAX: usize = 256;

/// What went wrong with a request or a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorClass {
    /// Nobody listens there.
    Refused,
    /// The connection could not be made for another reason.
    Connect,
    /// The peer cut the connection.
    Reset,
    /// No answer within the deadline.
    Timeout,
    /// The connection ended in order, but before the answer.
    Closed,
    /// The body is shorter than announced or expected.
    Short,
    /// The body is longer than expected, or bytes follow the answer.
    OverLong,
    /// Another status than expected.
    BadStatus,
    /// The right length, other bytes.
    Corrupt,
    /// Not an HTTP/1.1 response.
    Parse,
    /// The request could not be sent.
    Send,
    /// Anything else.
    Other,
}

impl ErrorClass {
    /// As it is written in a summary and in the JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ErrorClass::Refused => "refused",
            ErrorClass::Connect => "connect",
            ErrorClass::Reset => "reset",
            ErrorClass::Timeout => "timeout",
            ErrorClass::Closed => "closed",
            ErrorClass::Short => "short",
            ErrorClass::OverLong => "over-long",
            ErrorClass::BadStatus => "bad-status",
            ErrorClass::Corrupt => "corrupt",
            ErrorClass::Parse => "parse",
            ErrorClass::Send => "send",
            ErrorClass::Other => "other",
        }
    }
}

/// The errors of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorKind {
    /// What went wrong.
    pub class: ErrorClass,
    /// The system's error number, if the system said so.
    pub errno: Option<i32>,
    /// How many, in the measured window.
    pub count: u64,
    /// How many more, during the warm-up.
    pub warmup_count: u64,
    /// The first of them.
    pub first: FirstExample,
}

/// The first error of a kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FirstExample {
    /// When, since the start of the run.
    pub at_ns: u64,
    /// Which URL, by its number.
    pub url: u16,
    /// What was seen, in words.
    pub detail: String,
}

/// The kinds of error seen so far. Only the first error of a kind allocates.
#[derive(Clone, Debug, Default)]
pub struct ErrorTally {
    kinds: Vec<ErrorKind>,
}

impl ErrorTally {
    /// With room for the kinds of an ordinary bad day.
    #[must_use]
    pub fn new() -> ErrorTally {
        ErrorTally { kinds: Vec::with_capacity(16) }
    }

    /// Counts one error; `detail` is asked for the first of a kind only.
    pub fn record(
        &mut self,
        (class, errno): (ErrorClass, Option<i32>),
        warmup: bool,
        first: impl FnOnce() -> FirstExample,
    ) {
        let kind = self.kind((class, errno), first);
        if warmup {
            kind.warmup_count += 1;
        } else {
            kind.count += 1;
        }
    }

    /// Adds the errors of another tally; of two first examples the earlier stays.
    pub fn merge(&mut self, kinds: impl IntoIterator<Item = ErrorKind>) {
        for other in kinds {
            let first = other.first.clone();
            let kind = self.kind((other.class, other.errno), || first);
            kind.count += other.count;
            kind.warmup_count += other.warmup_count;
            if other.first.at_ns < kind.first.at_ns {
                kind.first = other.first;
            }
        }
    }

    /// The kinds, the most frequent first.
    #[must_use]
    pub fn into_kinds(mut self) -> Vec<ErrorKind> {
        let rank = |kind: &ErrorKind| std::cmp::Reverse((kind.count, kind.warmup_count));
        self.kinds.sort_by_key(|kind| (rank(kind), kind.class, kind.errno));
        self.kinds
    }

    fn kind(
        &mut self,
        (class, errno): (ErrorClass, Option<i32>),
        first: impl FnOnce() -> FirstExample,
    ) -> &mut ErrorKind {
        let place = |kinds: &[ErrorKind], class, errno| kinds.iter().position(|k| (k.class, k.errno) == (class, errno));
        let full = self.kinds.len() >= ERROR_KINDS_MAX - 1;
        let known = place(&self.kinds, class, errno);
        let (class, errno) = if known.is_none() && full { (ErrorClass::Other, None) } else { (class, errno) };
        let at = known.or_else(|| place(&self.kinds, class, errno)).unwrap_or_else(|| {
            self.kinds.push(ErrorKind { class, errno, count: 0, warmup_count: 0, first: first() });
            self.kinds.len() - 1
        });
        &mut self.kinds[at]
    }
}

/// The name of an error number on Linux, for those that sockets give.
#[must_use]
pub fn errno_name(errno: i32) -> Option<&'static str> {
    let at = ERRNO_NAMES.binary_search_by_key(&errno, |&(number, _)| number).ok()?;
    Some(ERRNO_NAMES[at].1)
}

/// errno(3), asm-generic.
const ERRNO_NAMES: &[(i32, &str)] = &[
    (1, "EPERM"),
    (2, "ENOENT"),
    (4, "EINTR"),
    (5, "EIO"),
    (9, "EBADF"),
    (11, "EAGAIN"),
    (12, "ENOMEM"),
    (13, "EACCES"),
    (22, "EINVAL"),
    (23, "ENFILE"),
    (24, "EMFILE"),
    (32, "EPIPE"),
    (62, "ETIME"),
    (71, "EPROTO"),
    (90, "EMSGSIZE"),
    (97, "EAFNOSUPPORT"),
    (98, "EADDRINUSE"),
    (99, "EADDRNOTAVAIL"),
    (100, "ENETDOWN"),
    (101, "ENETUNREACH"),
    (103, "ECONNABORTED"),
    (104, "ECONNRESET"),
    (105, "ENOBUFS"),
    (106, "EISCONN"),
    (107, "ENOTCONN"),
    (110, "ETIMEDOUT"),
    (111, "ECONNREFUSED"),
    (113, "EHOSTUNREACH"),
    (115, "EINPROGRESS"),
    (125, "ECANCELED"),
];

/// What probably causes an error, and what to do about it.
#[must_use]
pub fn hint(class: ErrorClass, errno: Option<i32>) -> Option<&'static str> {
    let fits = |row: &&Hint| {
        let class_fits = row.0.is_none_or(|wanted| wanted == class);
        class_fits && (row.1.is_none() || row.1 == errno)
    };
    HINTS.iter().find(fits).map(|row| row.2)
}

/// For which class (any), for which errno (any), what to say.
type Hint = (Option<ErrorClass>, Option<i32>, &'static str);

/// The first row that fits is said: a row with an errno stands before the class's own.
const HINTS: &[Hint] = &[
    (
        None,
        Some(99),
        "the source address has no free port left: ip_local_port_range gives about 28,000 to one destination; spread the \
         connections with --src 127.0.0.0/8, or widen the range",
    ),
    (
        None,
        Some(24),
        "this process has no free file descriptor: raise `ulimit -n` above the number of connections, or lower --conns",
    ),
    (None, Some(23), "the whole system has no free file descriptor: see fs.file-max"),
    (None, Some(105), "the kernel has no buffer left: lower --conns, or raise net.ipv4.tcp_mem"),
    (None, Some(12), "out of memory, or over RLIMIT_MEMLOCK: lower --conns, or raise `ulimit -l`"),
    (Some(ErrorClass::Refused), None, "nobody listens there: is the server up, and on this address and port?"),
    (
        Some(ErrorClass::Connect),
        Some(110),
        "the SYN was dropped: the server's listen queue is full; lower --connect-rate, or raise its backlog and \
         net.core.somaxconn",
    ),
    (Some(ErrorClass::Connect), Some(113), "no route to the host"),
    (Some(ErrorClass::Connect), Some(101), "no route to the network"),
    (Some(ErrorClass::Connect), Some(2), "there is no such Unix socket"),
    (Some(ErrorClass::Connect), Some(13), "the Unix socket may not be opened by this user"),
    (Some(ErrorClass::Connect), Some(11), "the Unix socket's listen queue is full: lower --connect-rate"),
    (
        Some(ErrorClass::Reset),
        None,
        "the server closed with data unread, or an overflowing listen queue was told to reset: look at its log and limits",
    ),
    (
        Some(ErrorClass::Closed),
        None,
        "the server ended the connection without an answer: does it limit requests per connection, or idle time?",
    ),
    (
        Some(ErrorClass::Timeout),
        None,
        "no answer in time: the server is overloaded or stuck, or the connection waits in its listen queue; lower --conns or \
         --rate, or raise --timeout",
    ),
    (Some(ErrorClass::Short), None, "the body ended before its announced or expected length: truncated by the server?"),
    (Some(ErrorClass::OverLong), None, "more bytes than expected: does the resource change, or is the framing wrong?"),
    (Some(ErrorClass::BadStatus), None, "another status than expected: check the path, and the server's log"),
    (
        Some(ErrorClass::Corrupt),
        None,
        "the right length but other bytes: does the resource change, or do answers get mixed up?",
    ),
    (Some(ErrorClass::Parse), None, "not an HTTP/1.1 answer: is it another protocol, or TLS, on that port?"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn example(at_ns: u64, detail: &str) -> FirstExample {
        FirstExample { at_ns, url: 0, detail: detail.to_owned() }
    }

    #[test]
    fn errors_are_counted_by_class_and_errno_with_the_first_example() {
        let mut tally = ErrorTally::new();
        tally.record((ErrorClass::Reset, Some(104)), true, || example(1, "early"));
        for at in 2..5 {
            tally.record((ErrorClass::Reset, Some(104)), false, || example(at, "later"));
        }
        tally.record((ErrorClass::Reset, None), false, || example(9, "other"));
        let kinds = tally.into_kinds();
        assert_eq!(kinds.len(), 2);
        assert_eq!((kinds[0].count, kinds[0].warmup_count), (3, 1));
        assert_eq!(kinds[0].first, example(1, "early"));
    }

    #[test]
    fn the_kinds_are_bounded_and_no_error_is_lost() {
        let mut tally = ErrorTally::new();
        for errno in 0..1_000 {
            tally.record((ErrorClass::Connect, Some(errno)), false, || example(0, ""));
        }
        let kinds = tally.into_kinds();
        assert_eq!(kinds.len(), ERROR_KINDS_MAX);
        assert_eq!(kinds.iter().map(|kind| kind.count).sum::<u64>(), 1_000);
    }

    #[test]
    fn merged_tallies_add_up_and_keep_the_earlier_example() {
        let mut a = ErrorTally::new();
        a.record((ErrorClass::Timeout, None), false, || example(7, "a"));
        let mut b = ErrorTally::new();
        b.record((ErrorClass::Timeout, None), false, || example(3, "b"));
        b.record((ErrorClass::Parse, None), false, || example(4, "b"));
        a.merge(b.into_kinds());
        let kinds = a.into_kinds();
        assert_eq!((kinds[0].class, kinds[0].count, &kinds[0].first), (ErrorClass::Timeout, 2, &example(3, "b")));
        assert_eq!((kinds[1].class, kinds[1].count), (ErrorClass::Parse, 1));
    }

    #[test]
    fn the_errors_that_puzzle_people_are_explained() {
        for (class, errno, word) in [
            (ErrorClass::Connect, Some(99), "--src"),
            (ErrorClass::Connect, Some(24), "ulimit -n"),
            (ErrorClass::Connect, Some(110), "somaxconn"),
            (ErrorClass::Refused, Some(111), "nobody listens"),
            (ErrorClass::Parse, None, "protocol"),
        ] {
            let hint = hint(class, errno).expect("a hint");
            assert!(hint.contains(word), "{class:?} {errno:?}: {hint}");
        }
        assert_eq!(hint(ErrorClass::Other, Some(5)), None);
    }

    #[test]
    fn error_numbers_have_their_names() {
        assert_eq!(errno_name(99), Some("EADDRNOTAVAIL"));
        assert_eq!(errno_name(111), Some("ECONNREFUSED"));
        assert_eq!(errno_name(100_000), None);
        assert!(ERRNO_NAMES.is_sorted_by_key(|&(number, _)| number));
    }
}
