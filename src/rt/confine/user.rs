//! Whom a child becomes.

use std::ffi::CString;
use std::fmt;

use crate::rt::sys::user::{Passwd, group_by_name, groups_of, user_by_name};

/// A user with the groups that the child shall be in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
}

impl User {
    /// Looks `USER` or `USER:GROUP` up, by name or by number. Without a group it has all groups of the user, with one it has
    /// that alone. Blocking; for start-up.
    ///
    /// # Errors
    /// One line: there is no such user or group; or it is root, which would be no confinement.
    pub fn look_up(text: &str) -> Result<User, String> {
        let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        let known =
            user_by_name(&c_string(user)?).map_err(|error| format!("user {user} cannot be looked up: {error}"))?;
        let found = match (known, user.parse::<u32>(), group) {
            (Some(known), ..) => known_user(&known, group)?,
            (None, Ok(uid), Some(group)) => alone(uid, gid_of(group)?),
            (None, Ok(_), None) => {
                return Err(format!("user {user} has no entry, and so no group; write {user}:GROUP"));
            }
            (None, Err(_), _) => return Err(format!("there is no user {user}")),
        };
        match (found.uid, found.gid) {
            (0, _) => Err("root is no other user: programs would keep every right".into()),
            (_, 0) => Err("the group of root gives its files away; name another group".into()),
            _ => Ok(found),
        }
    }

    /// As `Display` writes it: `UID:GID:GROUP,GROUP`.
    pub(super) fn from_numbers(text: &str) -> Option<User> {
        let mut parts = text.split(':');
        let mut number = || parts.next()?.parse().ok();
        let (uid, gid) = (number()?, number()?);
        let groups = parts.next()?.split(',').map(|gid| gid.parse().ok()).collect::<Option<_>>()?;
        Some(User { uid, gid, groups })
    }
}

fn known_user(known: &Passwd, group: Option<&str>) -> Result<User, String> {
    if let Some(group) = group {
        return Ok(alone(known.uid, gid_of(group)?));
    }
    let groups = groups_of(known).map_err(|error| format!("its groups cannot be looked up: {error}"))?;
    Ok(User { uid: known.uid, gid: known.gid, groups })
}

fn alone(uid: u32, gid: u32) -> User {
    User { uid, gid, groups: vec![gid] }
}

fn gid_of(group: &str) -> Result<u32, String> {
    let known =
        group_by_name(&c_string(group)?).map_err(|error| format!("group {group} cannot be looked up: {error}"))?;
    known.or_else(|| group.parse().ok()).ok_or_else(|| format!("there is no group {group}"))
}

fn c_string(name: &str) -> Result<CString, String> {
    CString::new(name).map_err(|_| String::from("a NUL in a name"))
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups: Vec<String> = self.groups.iter().map(u32::to_string).collect();
        write!(f, "{}:{}:{}", self.uid, self.gid, groups.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_by_name_and_by_number() {
        let text = std::fs::read_to_string("/etc/passwd").unwrap();
        let mut fields = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let nobody = fields.find(|fields| fields[0] == "nobody").expect("every system has a nobody");
        let (uid, gid): (u32, u32) = (nobody[2].parse().unwrap(), nobody[3].parse().unwrap());
        let user = User::look_up("nobody").unwrap();
        assert_eq!((user.uid, user.gid, user.groups.contains(&gid)), (uid, gid, true));
        assert_eq!(User::look_up("nobody:1234").unwrap(), alone(uid, 1234));
        assert_eq!(User::look_up("54321:1234").unwrap(), alone(54_321, 1234));
        for (text, says) in [
            ("root", "root is no other user"),
            ("0:1", "root is no other user"),
            ("nobody:root", "the group of root"),
            ("54321", "write 54321:GROUP"),
            ("no such user", "there is no user"),
            ("nobody:no such group", "there is no group"),
            ("", "there is no user"),
            ("a\0b", "a NUL"),
        ] {
            let error = User::look_up(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
