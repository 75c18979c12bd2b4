//! Who may pass, and by which password: the format of htpasswd(1), a name, a colon and a hash a line.
//!
//! The hashes are those that htpasswd makes (bcrypt, APR1, SHA-1, SHA-256 and SHA-512 crypt), `$1$`, and Argon2 as it is written
//! everywhere. What is no hash, or too weak to be one (a password as it is, crypt(3)'s DES), is a mistake, and lets nobody in.

mod hash;

use std::collections::HashSet;

use hash::Hash;

/// The users of a file.
#[derive(Clone, Debug, Default)]
pub struct Users {
    list: Vec<User>,
    /// The user whose hash takes longest.
    slowest: usize,
}

type User = (Box<[u8]>, Hash);

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// In words, and never with the hash.
    pub what: String,
}

impl Users {
    /// Reads a file. What is wrong is told, and what is right holds all the same: a name that is taken out of the file is out,
    /// whatever else is in it.
    pub fn parse(text: &str) -> (Users, Vec<Mistake>) {
        let (mut users, mut mistakes) = (Users::default(), Vec::new());
        let mut names = HashSet::new();
        for (number, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            match read(line, &mut names) {
                Ok(user) => users.list.push(user),
                Err((column, what)) => mistakes.push(Mistake { line: number + 1, column, what }),
            }
        }
        let slowest = users.list.iter().enumerate().max_by_key(|(_, (_, hash))| hash.work_us());
        users.slowest = slowest.map_or(0, |(index, _)| index);
        (users, mistakes)
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is nobody.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether this is the password of this user. It takes as long as the slowest hash of the file, whoever is asked for: the
    /// time tells nobody which names are in it. Slow on purpose.
    pub fn verify(&self, user: &[u8], password: &[u8]) -> bool {
        let Some((_, slowest)) = self.list.get(self.slowest) else { return false };
        let found = self.list.iter().find(|(name, _)| **name == *user);
        let is_right = found.is_some_and(|(_, hash)| hash.verify(password));
        if found.is_none_or(|(_, hash)| hash.work_us() < slowest.work_us()) {
            std::hint::black_box(slowest.verify(password));
        }
        is_right
    }
}

/// A line; `names` are those of the lines before it.
fn read<'t>(line: &'t str, names: &mut HashSet<&'t str>) -> Result<User, (usize, String)> {
    let Some((name, rest)) = line.split_once(':') else {
        return Err((1, "needs NAME:HASH, as htpasswd writes it".into()));
    };
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err((1, "the name is empty, or has control characters in it".into()));
    }
    let column = name.chars().count() + 2;
    let hash = Hash::parse(rest.trim_end()).map_err(|what| (column, what))?;
    match names.insert(name) {
        true => Ok((name.as_bytes().into(), hash)),
        false => Err((1, "this name is there already; keep one of them".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `htpasswd -nb[BmS25] NAME 'open sesame'`.
    const FILE: &str = "# who may pass\n\
        bea:$2y$05$nI0v2hTYAwMepuLKj2u1MOxR3ZpUhFEArcDPXHHOzOtwV/BqAxHEC\n\
        max:$apr1$a2khajgb$emF6dfccMch57SU/rStc91\n\
        \n\
        sue:{SHA}W8r/fyL/UzygmbNAjq2HbA67qac=\n\
        two:$5$S7HKuwTSQQ1IvlAH$9wT37jOdt3nvktnshoNkMPv7M3VPg9RZOw832JKiyX6\r\n\
        six:$6$642KBNpCdk8kw1Rx$fCCgDT1fZsxFe98.VcJzQ6wBSy8sEsp550Vbafsb2Pz4pkzahS47IvyXsLLQaQExIaiDzBdHuxhohyJes8K2j0\n\
        j\u{f6}rg:$1$abcdefgh$9qMkHazuSy1Q8myEum7yb/\n";

    #[test]
    fn every_user_has_one_password() {
        let (users, mistakes) = Users::parse(FILE);
        assert_eq!((users.len(), mistakes), (6, vec![]));
        for name in ["bea", "max", "sue", "two", "six", "j\u{f6}rg"] {
            assert!(users.verify(name.as_bytes(), b"open sesame"), "{name}");
            for wrong in ["", "open sesam", "open sesame ", "Open sesame"] {
                assert!(!users.verify(name.as_bytes(), wrong.as_bytes()), "{name} {wrong:?}");
            }
        }
        for nobody in ["", "be", "beax", "BEA", "# who may pass"] {
            assert!(!users.verify(nobody.as_bytes(), b"open sesame"), "{nobody}");
        }
        assert!(!Users::default().verify(b"bea", b""));
    }

    #[test]
    fn what_is_wrong_lets_nobody_in_and_does_not_hinder_the_others() {
        let text = format!(
            "ann:plain\nbob\n:x\n{}sue:{{SHA}}W8r/fyL/UzygmbNAjq2HbA67qac=\nx:realm:0123456789abcdef0123456789abcdef\n",
            FILE.lines().nth(4).map(|line| format!("{line}\n")).expect("sue")
        );
        let (users, mistakes) = Users::parse(&text);
        let told: Vec<_> = mistakes.iter().map(|mistake| (mistake.line, mistake.column)).collect();
        assert_eq!(told, [(1, 5), (2, 1), (3, 1), (5, 1), (6, 3)]);
        assert!(mistakes[0].what.contains("htpasswd -B") && !mistakes[0].what.contains("plain"), "{mistakes:?}");
        assert!(mistakes[3].what.contains("already"), "{mistakes:?}");
        assert!(mistakes[4].what.contains("htdigest"), "{mistakes:?}");
        assert!(users.verify(b"sue", b"open sesame") && !users.verify(b"ann", b"plain"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[a:$1256y{}SHA=0-9./\\n-]{0,80}") {
            let (users, _) = Users::parse(&text);
            let _ = users.list.iter().map(|(_, hash)| hash.work_us()).max();
        }
    }
}
