//! Giving up root: between listening, which may need it, and everything else.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{OpenOptionsExt, fchown};
use std::path::Path;

use rustix::fs::Access;

use crate::rt::confine::User;

use super::StartError;
use super::options::{AccessLog, Options};

/// Whom this process is to become; nobody where nothing is asked for, or where it is that user already (so that a server which
/// has given root up can start anew).
pub(super) fn whom(options: &Options) -> Result<Option<User>, StartError> {
    let Some(name) = &options.user else { return Ok(None) };
    let user = User::look_up(name).map_err(|why| StartError::User { user: name.clone(), why })?;
    if user.is_this_process() {
        return Ok(None);
    }
    match rustix::process::geteuid().is_root() {
        true => Ok(Some(user)),
        false => Err(StartError::NotRoot { user: name.clone() }),
    }
}

/// This process becomes that user. The log that it will write to is made before, if it is not there: the folders of logs are
/// root's.
pub(super) fn give_up_root(user: &User, options: &Options) -> Result<(), StartError> {
    if let AccessLog::File(path) = &options.access_log {
        hand_over(path, user).map_err(|error| StartError::Log { path: path.clone(), error })?;
    }
    let name = options.user.clone().unwrap_or_default();
    user.assume().map_err(|why| StartError::User { user: name, why })?;
    may_enter(options)
}

/// What root could enter when the settings were read, that user may not: opening a folder to look things up beneath it does not
/// tell (O_PATH), and then every request would be refused.
fn may_enter(options: &Options) -> Result<(), StartError> {
    let sites = options.sites.iter();
    let mut places =
        sites.flat_map(|site| std::iter::once(&site.root).chain(site.mounts.iter().map(|mount| &mount.target)));
    places.try_for_each(|path| {
        let entered = rustix::fs::access(path, Access::EXEC_OK);
        entered.map_err(|error| StartError::Site { path: path.clone(), error: error.into() })
    })
}

/// Makes a file that is that user's. One that is there is as somebody wants it.
fn hand_over(path: &Path, user: &User) -> io::Result<()> {
    match OpenOptions::new().append(true).create_new(true).mode(0o640).open(path) {
        Ok(file) => fchown(file, Some(user.uid()), Some(user.gid())),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}
