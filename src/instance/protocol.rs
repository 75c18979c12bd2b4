//! What is said on a control socket: one JSON object a line, each with the version of the protocol; an answer a question, and
//! for `stop` a second one at the end.
//!
//! | verb | said with it | answered when | and with |
//! |---|---|---|---|
//! | `stats` | | every core has answered | `cores`, `requests`, `errors`, `uptime_s`, `state`, ... |
//! | `top` | | every core has answered, or 2 s are over | what each has counted; `paths` and `scripts` |
//! | `stop` | `now`: cut at once | the drain has begun; and again when it is over | `cut`: `connections`, `scripts` |
//! | `log-level` | `level` | it holds | |
//! | `reopen-logs` | | nothing is written to the old ones any more | |
//! | `reload` | | every core serves by it, or it was refused | `needs_restart`: names of settings; or `problems`: why it was refused |
//! | `upgrade` | | another process serves, and can be found | `pid` |
//! | `release` | `number` | every core serves it | `programs`: the prefixes of its mounts; `in_use`: releases that requests still need |

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::registry::SOCKET;

/// Raised when an old command would misread a new server, or the other way round.
pub(super) const VERSION: u64 = 1;
/// One line: room for the counters of a thousand cores.
pub(super) const LINE_BYTES_MAX: u64 = 1 << 20;

/// One conversation with a running instance.
pub(crate) struct Client {
    stream: BufReader<UnixStream>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nobody listens, or nobody answers in time.
    Silent(io::Error),
    /// It answered that it will not, or cannot.
    Refused(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Silent(error) => write!(f, "it does not answer: {error}"),
            Failure::Refused(why) => f.write_str(why),
        }
    }
}

impl Client {
    /// To the instance whose folder that is.
    pub(crate) fn connect(folder: &Path) -> Result<Client, Failure> {
        at(folder, SOCKET, |path| UnixStream::connect(path))
            .map(|stream| Client { stream: BufReader::new(stream) })
            .map_err(Failure::Silent)
    }

    /// Asks, and waits for the answer.
    pub(crate) fn ask(&mut self, verb: &str, mut with: Value, patience: Duration) -> Result<Value, Failure> {
        with["v"] = json!(VERSION);
        with["verb"] = json!(verb);
        let stream = self.stream.get_mut();
        let sent = stream.set_write_timeout(Some(patience)).and_then(|()| stream.write_all(line(&with).as_bytes()));
        sent.map_err(Failure::Silent)?;
        self.answer(patience)
    }

    /// Waits for one more answer.
    pub(crate) fn answer(&mut self, patience: Duration) -> Result<Value, Failure> {
        self.stream
            .get_mut()
            .set_read_timeout(Some(patience.max(Duration::from_millis(1))))
            .map_err(Failure::Silent)?;
        let value = read(&mut self.stream).map_err(Failure::Silent)?;
        let value = value.ok_or_else(|| Failure::Silent(io::ErrorKind::UnexpectedEof.into()))?;
        match (value["v"].as_u64() == Some(VERSION), value["ok"].as_bool()) {
            (false, _) => Err(Failure::Refused(format!("it speaks another version of the protocol ({})", value["v"]))),
            (true, Some(true)) => Ok(value),
            (true, _) => Err(Failure::Refused(value["error"].as_str().unwrap_or("it refuses").to_owned())),
        }
    }
}

/// Runs `work` with a path of a socket that is short enough for a `sun_path` (unix(7)), however long that of its folder is.
pub(super) fn at<T>(folder: &Path, socket: &str, work: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    use rustix::fs::{Mode, OFlags};
    use std::os::fd::AsRawFd;
    let dir = rustix::fs::open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    work(Path::new(&format!("/proc/self/fd/{}/{socket}", dir.as_raw_fd())))
}

/// The next line; `None` at the end.
pub(super) fn read(from: &mut impl BufRead) -> io::Result<Option<Value>> {
    let mut line = Vec::new();
    match from.take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? {
        0 => Ok(None),
        _ => Ok(Some(serde_json::from_slice(&line)?)),
    }
}

pub(super) fn line(value: &Value) -> String {
    format!("{value}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_value_and_what_is_none_is_an_error() {
        let mut text = &b"{\"v\":1}\nnonsense\n"[..];
        assert_eq!(read(&mut text).unwrap(), Some(json!({"v": 1})));
        assert_eq!(read(&mut text).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(read(&mut text).unwrap(), None);
        let long = vec![b' '; LINE_BYTES_MAX as usize + 10];
        assert!(read(&mut &long[..]).is_err(), "no line is without end");
    }

    #[test]
    fn an_answer_of_another_version_is_refused() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut client = Client { stream: BufReader::new(ours) };
        theirs
            .write_all(b"{\"v\":2,\"ok\":true}\n{\"v\":1,\"ok\":false,\"error\":\"no\"}\n{\"v\":1,\"ok\":true}\n")
            .unwrap();
        drop(theirs);
        let mut answer = || client.answer(Duration::from_secs(60));
        assert!(matches!(answer(), Err(Failure::Refused(why)) if why.contains("version")));
        assert!(matches!(answer(), Err(Failure::Refused(why)) if why == "no"));
        assert!(answer().is_ok());
        assert!(matches!(answer(), Err(Failure::Silent(_))));
    }
}
