//! The name of an instance: one path component that can be nothing else.

use std::ffi::OsStr;
use std::fmt;

/// A letter or digit, then letters, digits, dots, underscores and hyphens: neither `.` nor `..` nor anything with a slash, and
/// nothing that a shell or a terminal would take for something else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name(String);

/// The longest name.
const NAME_BYTES_MAX: usize = 64;

impl Name {
    /// # Errors
    /// What is wrong with it, in words.
    pub(crate) fn parse(text: &OsStr) -> Result<Name, String> {
        let text = text.to_str().unwrap_or_default();
        let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        let fits = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
        match starts && fits && text.len() <= NAME_BYTES_MAX {
            true => Ok(Name(text.to_owned())),
            false => Err(format!(
                "not a name; a letter or digit, then letters, digits, dots, underscores and hyphens, {NAME_BYTES_MAX} at most"
            )),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_component_and_nothing_else() {
        for good in ["a", "api_service", "0", "www.example.org", "A-b_c.d", &"x".repeat(64)] {
            assert!(Name::parse(good.as_ref()).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "../a", "a/b", ".a", "-a", "_a", "a b", "a\n", "a\0", "é", "/a", &"x".repeat(65)] {
            assert!(Name::parse(bad.as_ref()).is_err(), "{bad:?}");
        }
    }
}
