//! Passwords, as far as a request is concerned: Basic authentication (RFC 7617). Whether a password is right is for
//! [`super::htpasswd`] to say, and takes a while.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Site;
use crate::http::request::{Fields, Known};

/// A door with a list of who may pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// The file with the users and their hashes; absolute.
    pub htpasswd: PathBuf,
    challenge: Box<[u8]>,
}

/// Who somebody says to be.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// `user:password`
    pair: Box<[u8]>,
    colon: usize,
}

/// Whether a request may have what is at a path, as far as it says itself. The number is that of the location that asks.
#[derive(Debug, PartialEq, Eq)]
pub enum Admission {
    /// Nobody is asked.
    Open,
    /// It names nobody: 401.
    Challenge(usize),
    /// If that is the password.
    Verify(usize, Credentials),
}

/// The longest pair that is looked at: the slowest hash is not made slower by whoever sends a long password.
const PAIR_BYTES_MAX: usize = 1024;
/// The longest realm: it is in every 401.
const REALM_BYTES_MAX: usize = 200;

impl Guard {
    /// Reads the realm: what a browser shows to whom it asks.
    ///
    /// # Errors
    /// What is wrong with it, for whoever wrote it.
    pub fn new(realm: &str, htpasswd: PathBuf) -> Result<Guard, String> {
        if let Some(bad) = realm.chars().find(|&c| !c.is_ascii_graphic() && c != ' ') {
            return Err(format!("{bad:?} cannot stand in a realm; printable ASCII can"));
        }
        if realm.len() > REALM_BYTES_MAX {
            return Err(format!("a realm of {} characters; {REALM_BYTES_MAX} are the most", realm.len()));
        }
        let quoted = realm.replace('\\', "\\\\").replace('"', "\\\"");
        // RFC 7617 section 2.1: names and passwords are UTF-8, whatever the browser would have guessed.
        let challenge = format!("Basic realm=\"{quoted}\", charset=\"UTF-8\"");
        Ok(Guard { htpasswd, challenge: challenge.into_bytes().into() })
    }

    /// The value of WWW-Authenticate.
    pub fn challenge(&self) -> &[u8] {
        &self.challenge
    }
}

impl Credentials {
    /// Reads the value of an Authorization field; nothing where it is of another scheme, or malformed.
    pub fn parse(value: &[u8]) -> Option<Credentials> {
        let (scheme, rest) = value.split_at_checked(5)?;
        if !scheme.eq_ignore_ascii_case(b"basic") || !rest.starts_with(b" ") {
            return None;
        }
        let encoded = rest.trim_ascii();
        if encoded.len() > PAIR_BYTES_MAX.div_ceil(3) * 4 {
            return None;
        }
        let pair = STANDARD.decode(encoded).ok()?.into_boxed_slice();
        // A name has no colon (section 2), so the first one ends it. Neither part has control characters.
        let colon = pair.iter().position(|byte| *byte == b':')?;
        (!pair.iter().any(u8::is_ascii_control)).then_some(Credentials { pair, colon })
    }

    /// Of a request. Two fields are none: who sends them hopes that somebody reads the other one.
    pub fn of(fields: &Fields<'_>) -> Option<Credentials> {
        let mut values = fields.get_all(Known::Authorization);
        let value = values.next()?;
        values.next().is_none().then(|| Credentials::parse(value)).flatten()
    }

    /// The name.
    pub fn user(&self) -> &[u8] {
        &self.pair[..self.colon]
    }

    /// The password.
    pub fn password(&self) -> &[u8] {
        &self.pair[self.colon + 1..]
    }

    /// Both, as they were sent: one text for each pair, since a name has no colon.
    pub fn pair(&self) -> &[u8] {
        &self.pair
    }
}

impl std::fmt::Debug for Credentials {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({})", self.user().escape_ascii())
    }
}

impl Site {
    /// Whether a request with these fields may have what is at a path (relative to the root, decoded).
    pub fn admission(&self, path: &[u8], fields: &Fields<'_>) -> Admission {
        let Some(location) = self.guard(path) else { return Admission::Open };
        match Credentials::of(fields) {
            None => Admission::Challenge(location),
            Some(credentials) => Admission::Verify(location, credentials),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::location::{Access, Location};
    use super::super::pattern::Pattern;
    use super::super::testing::with_request;
    use super::*;

    fn encoded(pair: &[u8]) -> String {
        STANDARD.encode(pair)
    }

    #[test]
    fn who_somebody_says_to_be() {
        let parsed = |value: &str| {
            let credentials = Credentials::parse(value.as_bytes())?;
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            Some((text(credentials.user()), text(credentials.password())))
        };
        let is = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        let cases = [
            // RFC 7617 section 2, and its section 2.1.
            ("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", is("Aladdin", "open sesame")),
            ("Basic dGVzdDoxMjPCow==", is("test", "123\u{a3}")),
            ("bAsIc QWxhZGRpbjpvcGVuIHNlc2FtZQ==", is("Aladdin", "open sesame")),
            ("Basic   QWxhZGRpbjpvcGVuIHNlc2FtZQ==", is("Aladdin", "open sesame")),
            (&format!("Basic {}", encoded(b"a:b:c")), is("a", "b:c")),
            (&format!("Basic {}", encoded(b":")), is("", "")),
            (&format!("Basic {}", encoded(b"no colon")), None),
            (&format!("Basic {}", encoded(b"a\n:b")), None),
            (&format!("Basic {}", encoded(b"a:b\0")), None),
            ("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ", None),
            ("Basic QWxhZGRpbjpvcGVuIHNlc2FtZR==", None),
            ("Basic QWxh ZGRpbjpvcGVuIHNlc2FtZQ==", None),
            ("Basic\tQTpi", None),
            ("BasicQTpi", None),
            ("Basic", None),
            ("Basic ", None),
            ("", None),
            ("Bearer QTpi", None),
            ("Digest username=\"a\"", None),
        ];
        for (value, expected) in cases {
            assert_eq!(parsed(value), expected, "{value}");
        }
        let longest = [b"u:", &[b'x'; PAIR_BYTES_MAX - 2][..]].concat();
        assert!(parsed(&format!("Basic {}", encoded(&longest))).is_some());
        assert!(parsed(&format!("Basic {}", encoded(&[&longest[..], b"xxxx"].concat()))).is_none());
    }

    #[test]
    fn a_request_names_one_person() {
        let of = |fields: &str| {
            with_request(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"), |request| {
                Credentials::of(&request.fields).map(|credentials| credentials.user().to_vec())
            })
        };
        assert_eq!(of("Authorization: Basic QTpi\r\n").as_deref(), Some(&b"A"[..]));
        assert_eq!(of(""), None);
        assert_eq!(of("Authorization: Basic QTpi\r\nAuthorization: Basic QTpi\r\n"), None);
    }

    #[test]
    fn a_password_is_never_shown() {
        let credentials = Credentials::parse(format!("Basic {}", encoded(b"ann:hush")).as_bytes()).expect("a pair");
        assert_eq!(format!("{credentials:?}"), "Credentials(ann)");
    }

    #[test]
    fn a_realm_stays_inside_of_its_quotes() {
        let guard = |realm| Guard::new(realm, "/x".into()).map(|guard| String::from_utf8(guard.challenge.into()));
        let text = |realm| guard(realm).expect("a realm").expect("ASCII");
        assert_eq!(text("Staff only"), "Basic realm=\"Staff only\", charset=\"UTF-8\"");
        assert_eq!(text("a\"b\\c"), "Basic realm=\"a\\\"b\\\\c\", charset=\"UTF-8\"");
        for bad in ["a\r\nb", "\u{e9}", "a\0"] {
            assert!(guard(bad).is_err_and(|error| error.contains("printable ASCII")), "{bad:?}");
        }
        assert!(guard(&"x".repeat(201)).is_err_and(|error| error.contains("200")));
    }

    #[test]
    fn the_decision_is_a_value() {
        let guard = Guard::new("x", "/x".into()).expect("a realm");
        let pattern = Pattern::parse("/private/").expect("a pattern");
        let location = Location { access: Some(Access::Guarded(guard)), ..Location::new(pattern) };
        let site = Site { locations: vec![location], ..Site::default() };
        let admission = |path: &str, field: &str| {
            with_request(&format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n"), |request| {
                format!("{:?}", site.admission(path.as_bytes(), &request.fields))
            })
        };
        assert_eq!(admission("index.html", ""), "Open");
        assert_eq!(admission("privateer", "Authorization: Basic QTpi\r\n"), "Open");
        assert_eq!(admission("private", ""), "Challenge(0)");
        assert_eq!(admission("private/x", "Authorization: Bearer QTpi\r\n"), "Challenge(0)");
        assert_eq!(admission("private/x", "Authorization: Basic QTpi\r\n"), "Verify(0, Credentials(A))");
    }
}
