//! HTTP dates (RFC 9110 section 5.6.7). Time is whole seconds since 1970; what is earlier is the caller's to clamp.

use std::fmt::{self, Write};
// Only httpdate's type for a moment: nobody asks it what time it is.
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use httpdate::HttpDate;

/// 9999-12-31T23:59:59Z: four digits are all that a date has for a year.
pub const UNIX_SECS_MAX: u64 = 253_402_300_799;

/// The IMF-fixdate of a moment; later ones than [`UNIX_SECS_MAX`] are written as that.
pub fn format(unix_secs: u64) -> [u8; 29] {
    let date = HttpDate::from(UNIX_EPOCH + Duration::from_secs(unix_secs.min(UNIX_SECS_MAX)));
    let mut text = Text { bytes: [b' '; 29], len: 0 };
    // An IMF-fixdate has 29 bytes, whatever the year up to 9999: it fills the text, and cannot overflow it.
    let _ = write!(text, "{date}");
    text.bytes
}

/// The moment of a date in any of the three forms; nothing for what is not one, or lies before 1970.
pub fn parse(text: &[u8]) -> Option<u64> {
    let date: HttpDate = str::from_utf8(text).ok()?.parse().ok()?;
    Some(SystemTime::from(date).duration_since(UNIX_EPOCH).ok()?.as_secs())
}

/// Room for one date, to be formatted into without an allocation.
struct Text {
    bytes: [u8; 29],
    len: usize,
}

impl Write for Text {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        let room = self.bytes.get_mut(self.len..).and_then(|rest| rest.get_mut(..piece.len())).ok_or(fmt::Error)?;
        room.copy_from_slice(piece.as_bytes());
        self.len += piece.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_three_forms_are_read_and_one_is_written() {
        let moment = 784_111_777;
        for text in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(parse(text.as_bytes()), Some(moment), "{text}");
        }
        assert_eq!(&format(moment), b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(&format(0), b"Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(&format(u64::MAX), b"Fri, 31 Dec 9999 23:59:59 GMT");
    }

    #[test]
    fn what_is_not_a_date_is_none() {
        for text in [
            "",
            "0",
            "Mon, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "é",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse(b"\xff\xfe"), None);
    }
}
