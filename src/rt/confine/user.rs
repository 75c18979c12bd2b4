//! Whom a child becomes, or this process itself.

use std::ffi::CString;
use std::fmt;
use std::fs;

use crate::rt::sys::user::{self, Passwd, group_by_name, groups_of, user_by_name};

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

    /// Its number.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// The number of its first group.
    pub fn gid(&self) -> u32 {
        self.gid
    }

    /// Whether this process is that user already, and in that group.
    pub fn is_this_process(&self) -> bool {
        use rustix::process::{getegid, geteuid, getgid, getuid};
        [getuid(), geteuid()].iter().all(|uid| uid.as_raw() == self.uid)
            && [getgid(), getegid()].iter().all(|gid| gid.as_raw() == self.gid)
    }

    /// This process becomes that user, in all of its threads and for good. Needs root. Afterwards it has been looked at: every
    /// thread is that user and has no capability, and root cannot be had back.
    ///
    /// Privileges of programs that are started are their own matter: `no_new_privs` is not set, because programs that send
    /// mail need the set-group-id bit of `postdrop`.
    ///
    /// # Errors
    /// One line. The process may be half that user then, and should end.
    pub fn assume(&self) -> Result<(), String> {
        user::become_user(self.uid, self.gid, &self.groups)
            .map_err(|(call, error)| format!("{call} failed: {error}; it needs root with all of its capabilities"))?;
        if user::can_be_root() {
            return Err(String::from("root can be had back, so it was not given up"));
        }
        let tasks = fs::read_dir("/proc/self/task").map_err(|error| format!("/proc/self/task: {error}"))?;
        for task in tasks.flatten() {
            // A thread that has ended meanwhile has no status.
            let Ok(status) = fs::read_to_string(task.path().join("status")) else { continue };
            self.is_held_to(&status).map_err(|line| format!("a thread kept what it had: {line}"))?;
        }
        Ok(())
    }

    /// Whether proc_pid_status(5) of a thread says so; the error is the line that does not.
    fn is_held_to(&self, status: &str) -> Result<(), String> {
        let of_groups = |name: &str, numbers: &[u32]| match name {
            "Uid:" => numbers == [self.uid; 4],
            "Gid:" => numbers == [self.gid; 4],
            _ => numbers.iter().all(|gid| self.groups.contains(gid)),
        };
        for line in status.lines() {
            let mut words = line.split_whitespace();
            let is_fine = match words.next() {
                Some(name @ ("Uid:" | "Gid:" | "Groups:")) => {
                    let numbers: Result<Vec<u32>, _> = words.map(str::parse).collect();
                    numbers.is_ok_and(|numbers| of_groups(name, &numbers))
                }
                Some("CapPrm:" | "CapEff:" | "CapAmb:") => words.all(|set| set.bytes().all(|digit| digit == b'0')),
                _ => true,
            };
            if !is_fine {
                return Err(line.to_owned());
            }
        }
        Ok(())
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
    fn what_a_thread_has_kept_is_found() {
        let user = User { uid: 33, gid: 34, groups: vec![34, 35] };
        let good = "Name:\tx\nUid:\t33\t33\t33\t33\nGid:\t34\t34\t34\t34\nGroups:\t34 35 \nCapInh:\t0000000000000001\n\
                    CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t000001ffffffffff\nCapAmb:\t0000000000000000\n";
        assert_eq!(user.is_held_to(good), Ok(()));
        for (from, to) in [
            ("33\t33\nGid", "33\t0\nGid"),
            ("34\t34\t34\t34", "0\t34\t34\t34"),
            ("34 35", "0 34 35"),
            ("CapPrm:\t0", "CapPrm:\t8"),
            ("CapEff:\t0", "CapEff:\t8"),
            ("CapAmb:\t0", "CapAmb:\t8"),
        ] {
            let bad = good.replace(from, to);
            assert_ne!(bad, good);
            assert!(user.is_held_to(&bad).is_err(), "{to}");
        }
    }

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
