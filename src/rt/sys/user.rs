//! Users and groups by name, as the system knows them (nsswitch.conf(5)): not only from /etc/passwd. And becoming one.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;

/// The strings of one entry; a group of a thousand members needs more than what sysconf(3) suggests (1 KiB).
const ENTRY_BYTES: usize = 256 << 10;
/// NGROUPS_MAX, `<linux/limits.h>`.
const GROUPS_MAX: usize = 65_536;

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Passwd {
    pub(crate) name: CString,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// The user of this name, if there is one. Blocking.
///
/// # Errors
/// EIO, EMFILE: getpwnam(3).
pub(crate) fn user_by_name(name: &CStr) -> io::Result<Option<Passwd>> {
    entry(|passwd: *mut libc::passwd, strings, len, found| {
        // SAFETY: `entry` passes memory for one entry, a buffer of `len` bytes and a place for a pointer, all of which
        // outlive the call; the name is NUL-terminated.
        unsafe { libc::getpwnam_r(name.as_ptr(), passwd, strings, len, found) }
    })
    .map(|found| found.map(|(uid, gid)| Passwd { name: name.to_owned(), uid, gid }))
}

/// The number of the group of this name, if there is one. Blocking.
///
/// # Errors
/// As [`user_by_name`].
pub(crate) fn group_by_name(name: &CStr) -> io::Result<Option<u32>> {
    entry(|group: *mut libc::group, strings, len, found| {
        // SAFETY: as in `user_by_name`.
        unsafe { libc::getgrnam_r(name.as_ptr(), group, strings, len, found) }
    })
}

/// What is read of an entry. Only its numbers: its strings lie in a buffer that goes.
trait Entry {
    type Numbers;
    fn numbers(&self) -> Self::Numbers;
}

impl Entry for libc::passwd {
    type Numbers = (u32, u32);

    fn numbers(&self) -> (u32, u32) {
        (self.pw_uid, self.pw_gid)
    }
}

impl Entry for libc::group {
    type Numbers = u32;

    fn numbers(&self) -> u32 {
        self.gr_gid
    }
}

fn entry<E: Entry>(
    ask: impl Fn(*mut E, *mut libc::c_char, usize, *mut *mut E) -> libc::c_int,
) -> io::Result<Option<E::Numbers>> {
    let mut room = MaybeUninit::<E>::uninit();
    let mut strings = vec![0; ENTRY_BYTES];
    let mut found = std::ptr::null_mut();
    match ask(room.as_mut_ptr(), strings.as_mut_ptr(), strings.len(), &mut found) {
        0 if found.is_null() => Ok(None),
        // SAFETY: 0 and a pointer that is not null: the entry has been written to `room` (getpwnam(3)).
        0 => Ok(Some(unsafe { room.assume_init_ref() }.numbers())),
        // The manual's list of ways to say that there is no such name.
        libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM => Ok(None),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// The calling process becomes that user, all of its threads: glibc has each of them make these calls, where the kernel would
/// change only the one that asks (nptl(7)). Groups first, for without privileges they cannot be changed any more; all three
/// numbers of each, so that there is no way back.
///
/// # Errors
/// EPERM, EINVAL, EAGAIN, with the call that failed.
pub(crate) fn become_user(uid: u32, gid: u32, groups: &[u32]) -> Result<(), (&'static str, io::Error)> {
    let done = |call, answer: libc::c_int| if answer == 0 { Ok(()) } else { Err((call, io::Error::last_os_error())) };
    // SAFETY: `groups` is as many readable numbers as its length says, and the kernel copies them.
    done("setgroups", unsafe { libc::setgroups(groups.len(), groups.as_ptr()) })?;
    // SAFETY: three integers.
    done("setresgid", unsafe { libc::setresgid(gid, gid, gid) })?;
    // SAFETY: as above.
    done("setresuid", unsafe { libc::setresuid(uid, uid, uid) })
}

/// Whether this process can become root. It then has.
pub(crate) fn can_be_root() -> bool {
    // SAFETY: an integer.
    let as_effective = unsafe { libc::seteuid(0) } == 0;
    // SAFETY: three integers; -1 leaves one as it is.
    let as_any = unsafe { libc::setresuid(0, u32::MAX, u32::MAX) } == 0;
    as_effective || as_any
}

/// Every group that a user is in, the given one included. Blocking.
pub(crate) fn groups_of(user: &Passwd) -> io::Result<Vec<u32>> {
    let mut groups = vec![0; GROUPS_MAX];
    let mut count = GROUPS_MAX as libc::c_int;
    // SAFETY: the name is NUL-terminated, and `groups` has room for as many as `count` says.
    let answer = unsafe { libc::getgrouplist(user.name.as_ptr(), user.gid, groups.as_mut_ptr(), &mut count) };
    if answer < 0 {
        return Err(io::Error::other("the user is in too many groups"));
    }
    groups.truncate(usize::try_from(count).unwrap_or(0));
    Ok(groups)
}
