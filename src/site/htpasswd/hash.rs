//! The kinds of hashes that stand for passwords.

use argon2::Argon2;
use argon2::password_hash::PasswordVerifier;
use argon2::password_hash::phc::PasswordHash;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use sha_crypt::ShaCrypt;
use sha1::Sha1;
use subtle::ConstantTimeEq;

/// A hash, ready to be compared with.
#[derive(Clone)]
pub(super) enum Hash {
    Bcrypt {
        text: Box<str>,
        cost: u32,
    },
    Argon2 {
        hash: Box<PasswordHash>,
        work_us: u64,
    },
    ShaCrypt {
        text: Box<str>,
        rounds: u64,
    },
    /// `$apr1$` and `$1$`: a thousand rounds of MD5.
    Md5 {
        magic: &'static str,
        salt: Box<str>,
        digest: Box<str>,
    },
    Sha1([u8; 20]),
}

/// What is longer is no way to log in, but one to keep a server busy.
const WORK_US_MAX: u64 = 10_000_000;
/// What one verification of Argon2 may take of memory.
const MEMORY_KIB_MAX: u32 = 256 << 10;
/// What crypt(3) says where nothing is said.
const SHA_ROUNDS: u64 = 5_000;
/// Of `$apr1$` and `$1$`.
const SALT_BYTES_MAX: usize = 8;

impl Hash {
    /// Reads one; the error never holds it.
    pub(super) fn parse(text: &str) -> Result<Hash, String> {
        let hash = match text {
            _ if ["$2y$", "$2b$", "$2a$"].iter().any(|start| text.starts_with(start)) => bcrypt(text),
            _ if text.starts_with("$argon2") => argon2(text),
            _ if text.starts_with("$5$") || text.starts_with("$6$") => sha_crypt(text),
            _ if text.starts_with("$apr1$") => md5("$apr1$", text),
            _ if text.starts_with("$1$") => md5("$1$", text),
            _ if text.starts_with("{SHA}") => sha1(text),
            // htdigest(1): a realm, and the MD5 of all three.
            _ if text.split_once(':').is_some_and(|(_, digest)| digest.len() == 32) => {
                return Err("this is a file of htdigest; make one by htpasswd -B".into());
            }
            _ => {
                return Err(
                    "no hash that is known: make it by htpasswd -B (a password as it is, and DES, are none)".into()
                );
            }
        };
        let hash = hash.ok_or("a hash that is cut short or malformed; make it again by htpasswd -B")?;
        match hash.work_us() {
            work if work > WORK_US_MAX => Err(format!(
                "this hash takes about {} s for each login; {} s are the most",
                work / 1_000_000,
                WORK_US_MAX / 1_000_000
            )),
            _ => Ok(hash),
        }
    }

    /// About how long [`Hash::verify`] takes, in microseconds: a rule of thumb, and good for comparing.
    pub(super) fn work_us(&self) -> u64 {
        match self {
            Hash::Bcrypt { cost, .. } => 50 << cost,
            Hash::Argon2 { work_us, .. } => *work_us,
            Hash::ShaCrypt { rounds, .. } => rounds / 2,
            Hash::Md5 { .. } => 300,
            Hash::Sha1(_) => 1,
        }
    }

    /// Whether that is the password.
    pub(super) fn verify(&self, password: &[u8]) -> bool {
        match self {
            Hash::Bcrypt { text, .. } => bcrypt::verify(password, text).unwrap_or(false),
            Hash::Argon2 { hash, .. } => Argon2::default().verify_password(password, &**hash).is_ok(),
            Hash::ShaCrypt { text, .. } => ShaCrypt::default().verify_password(password, &**text).is_ok(),
            Hash::Md5 { magic, salt, digest } => {
                let tried = md5_crypt(magic, salt.as_bytes(), password);
                tried.as_bytes().ct_eq(digest.as_bytes()).into()
            }
            Hash::Sha1(digest) => Sha1::digest(password).as_slice().ct_eq(digest).into(),
        }
    }
}

impl std::fmt::Debug for Hash {
    /// Its kind.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Hash::Bcrypt { .. } => "bcrypt",
            Hash::Argon2 { .. } => "argon2",
            Hash::ShaCrypt { .. } => "sha-crypt",
            Hash::Md5 { .. } => "md5-crypt",
            Hash::Sha1(_) => "sha1",
        })
    }
}

fn bcrypt(text: &str) -> Option<Hash> {
    let parts: bcrypt::HashParts = text.parse().ok()?;
    let cost = parts.get_cost();
    (4..=31).contains(&cost).then(|| Hash::Bcrypt { text: text.into(), cost })
}

fn argon2(text: &str) -> Option<Hash> {
    let hash = PasswordHash::new(text).ok()?;
    let params = argon2::Params::try_from(&hash).ok()?;
    argon2::Algorithm::try_from(hash.algorithm.as_str()).ok()?;
    let known = [None, Some(0x10), Some(0x13)].contains(&hash.version) && hash.salt.is_some() && hash.hash.is_some();
    if !known || params.m_cost() > MEMORY_KIB_MAX {
        return None;
    }
    let work_us = u64::from(params.m_cost()) * u64::from(params.t_cost());
    Some(Hash::Argon2 { hash: Box::new(hash), work_us })
}

/// `$6$[rounds=N$]SALT$DIGEST`
fn sha_crypt(text: &str) -> Option<Hash> {
    let mut fields = text[3..].split('$');
    let first = fields.next()?;
    let rounds = match first.strip_prefix("rounds=") {
        Some(rounds) => rounds.parse().ok().filter(|rounds| (1_000..=999_999_999).contains(rounds))?,
        None => SHA_ROUNDS,
    };
    let salt = if first.starts_with("rounds=") { fields.next()? } else { first };
    let digest_chars = if text.starts_with("$5$") { 43 } else { 86 };
    let is_whole = fields.next().is_some_and(|digest| digest.len() == digest_chars && digest.bytes().all(is_digit64));
    let fits = salt.len() <= 16 && salt.bytes().all(is_digit64) && is_whole && fields.next().is_none();
    fits.then(|| Hash::ShaCrypt { text: text.into(), rounds })
}

fn md5(magic: &'static str, text: &str) -> Option<Hash> {
    let (salt, digest) = text[magic.len()..].split_once('$')?;
    let fits = salt.len() <= SALT_BYTES_MAX && digest.len() == 22 && digest.bytes().all(is_digit64);
    fits.then(|| Hash::Md5 { magic, salt: salt.into(), digest: digest.into() })
}

fn sha1(text: &str) -> Option<Hash> {
    let digest = STANDARD.decode(text.strip_prefix("{SHA}")?).ok()?;
    digest.try_into().ok().map(Hash::Sha1)
}

/// The digits of crypt(3).
const DIGITS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

fn is_digit64(byte: u8) -> bool {
    DIGITS.contains(&byte)
}

/// What Apache's APR1, and crypt(3)'s `$1$`, make of a password: an MD5 over it and the salt, stirred a thousand times. There is
/// no maintained crate for it, and it is what htpasswd made unasked for twenty years.
fn md5_crypt(magic: &str, salt: &[u8], password: &[u8]) -> String {
    let mixed: [u8; 16] = Md5::new().chain_update(password).chain_update(salt).chain_update(password).finalize().into();
    let mut first = Md5::new().chain_update(password).chain_update(magic).chain_update(salt);
    for piece in password.chunks(16) {
        first.update(&mixed[..piece.len()]);
    }
    let mut left = password.len();
    while left > 0 {
        first.update(if left & 1 == 1 { &[0] } else { &password[..1] });
        left >>= 1;
    }
    let mut digest: [u8; 16] = first.finalize().into();
    for round in 0..1_000 {
        let mut next = Md5::new();
        next.update(if round & 1 == 1 { password } else { &digest });
        if round % 3 != 0 {
            next.update(salt);
        }
        if round % 7 != 0 {
            next.update(password);
        }
        next.update(if round & 1 == 1 { &digest } else { password });
        digest = next.finalize().into();
    }
    // Three bytes are four digits, in an order of its own.
    const ORDER: [[usize; 3]; 5] = [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]];
    let mut text = String::with_capacity(22);
    let mut write = |bits: u32, digits: u32| {
        text.extend((0..digits).map(|digit| char::from(DIGITS[(bits >> (6 * digit) & 63) as usize])));
    };
    for [high, middle, low] in ORDER {
        write(u32::from(digest[high]) << 16 | u32::from(digest[middle]) << 8 | u32::from(digest[low]), 4);
    }
    write(digest[11].into(), 2);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each is what `openssl passwd`, htpasswd(1) or argon2's own documentation makes of the password.
    #[test]
    fn known_pairs() {
        for (text, password) in [
            ("$apr1$RandSalt$PgCXHRrkpSt4cbyC2C6bm/", "password"),
            ("$apr1$ab$S8K6Sgp3W8c9Jb6LxgywZ.", ""),
            ("$apr1$abcdefgh$szgBPAYXOxxKgUAnXZ0qD1", "a password that is longer than sixteen bytes, twice"),
            ("$1$abcdefgh$9qMkHazuSy1Q8myEum7yb/", "open sesame"),
            ("{SHA}W8r/fyL/UzygmbNAjq2HbA67qac=", "open sesame"),
            (
                "$argon2i$v=19$m=65536,t=1,p=1$c29tZXNhbHQAAAAAAAAAAA$+r0d29hqEB0yasKr55ZgICsQGSkl0v0kgwhd+U3wyRo",
                "password",
            ),
        ] {
            let hash = Hash::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert!(hash.verify(password.as_bytes()), "{text}");
            assert!(!hash.verify(format!("{password}x").as_bytes()), "{text}");
            assert!(!format!("{hash:?}").contains('$'));
        }
    }

    #[test]
    fn what_is_no_hash() {
        for (text, why) in [
            ("", "no hash that is known"),
            ("secret", "no hash that is known"),
            ("ab01FAX.bQRSU", "no hash that is known"),
            ("$2y$05$nI0v2hTYAwMepuLKj2u1MOxR3ZpUhFEArcDPXHHOzOtwV/BqAxHE", "malformed"),
            ("$2y$32$nI0v2hTYAwMepuLKj2u1MOxR3ZpUhFEArcDPXHHOzOtwV/BqAxHEC", "malformed"),
            ("$2y$20$nI0v2hTYAwMepuLKj2u1MOxR3ZpUhFEArcDPXHHOzOtwV/BqAxHEC", "for each login"),
            ("$apr1$toolongsalt$S8K6Sgp3W8c9Jb6LxgywZ.", "malformed"),
            ("$apr1$ab$S8K6", "malformed"),
            ("$apr1$ab", "malformed"),
            ("{SHA}W8r/", "malformed"),
            ("{SHA}!", "malformed"),
            ("$6$salt$short", "malformed"),
            ("$6$rounds=99$salt$x", "malformed"),
            ("$argon2id$v=19$m=1048576,t=1,p=1$c29tZXNhbHQ$+r0d29hqEB0yasKr55ZgICsQGSkl0v0kgwhd+U3wyRo", "malformed"),
            ("$argon2id$", "malformed"),
            ("$2y$\u{e9}", "malformed"),
        ] {
            let error = Hash::parse(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
