//! Where the things of an instance are: XDG folders, and for root those of the system.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::Name;

const OURS: &str = "ucaffeine";

/// The folders of this user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Folders {
    /// Of what runs: gone after a boot, mostly.
    run: PathBuf,
    /// Of what stays: logs.
    state: PathBuf,
    /// Of what is served.
    content: PathBuf,
}

impl Folders {
    /// By the environment, as the XDG Base Directory Specification has it: values that are not absolute are ignored. A folder that
    /// another user owns is none for `XDG_RUNTIME_DIR` (`sudo` may have left it in the environment).
    ///
    /// # Errors
    /// There is no HOME to look in.
    pub(crate) fn find(environment: &[(OsString, OsString)]) -> Result<Folders, String> {
        let uid = rustix::process::geteuid().as_raw();
        let owned = |path: &Path| fs::metadata(path).is_ok_and(|facts| facts.uid() == uid);
        Folders::of(environment, uid == 0, owned)
    }

    fn of(environment: &[(OsString, OsString)], root: bool, owned: impl Fn(&Path) -> bool) -> Result<Folders, String> {
        let set = |name: &str| {
            let value = environment.iter().find(|(key, _)| key == name).map(|(_, value)| PathBuf::from(value));
            value.filter(|path| path.is_absolute())
        };
        let home = |below: &str| match set("HOME") {
            Some(home) => Ok(home.join(below)),
            None => Err(String::from("HOME is not set, so there is no folder for instances")),
        };
        let state = match set("XDG_STATE_HOME") {
            Some(state) => state.join(OURS),
            None if root => Path::new("/var/lib").join(OURS),
            None => home(".local/state")?.join(OURS),
        };
        let run = match set("XDG_RUNTIME_DIR").filter(|path| owned(path)) {
            Some(run) => run.join(OURS),
            None if root => Path::new("/run").join(OURS),
            None => state.join("run"),
        };
        let content = set("XDG_CONFIG_HOME").map_or_else(|| home(".config"), Ok)?.join(OURS);
        Ok(Folders { run, state: state.join("instances"), content })
    }

    /// Lock, state and control socket of an instance that runs.
    pub(crate) fn run(&self, name: &Name) -> PathBuf {
        self.run.join(name.as_str())
    }

    /// The parent of all of those.
    pub(crate) fn all_running(&self) -> &Path {
        &self.run
    }

    /// What an instance leaves behind.
    pub(crate) fn state(&self, name: &Name) -> PathBuf {
        self.state.join(name.as_str())
    }

    pub(crate) fn log(&self, name: &Name) -> PathBuf {
        self.state(name).join("log")
    }

    /// What an instance serves, unless it is told otherwise.
    pub(crate) fn content(&self, name: &Name) -> PathBuf {
        self.content.join(name.as_str())
    }
}

/// Makes sure that the folder is there, is ours, and that nobody else may look into it.
///
/// # Errors
/// It cannot be made; `PermissionDenied` for one of another user's.
pub(crate) fn private(folder: &Path) -> io::Result<()> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", folder.display()));
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(named)?;
    let facts = fs::symlink_metadata(folder)?;
    if !facts.is_dir() || facts.uid() != rustix::process::geteuid().as_raw() {
        let what = format!("{} belongs to another user", folder.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
    }
    if facts.mode() & 0o077 != 0 {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// As [`private`], for a folder that root may have given to the user that an instance runs as: it lies in one of root's.
///
/// # Errors
/// As [`private`].
pub(super) fn private_or_given(folder: &Path) -> io::Result<()> {
    let is_given = rustix::process::geteuid().is_root()
        && fs::symlink_metadata(folder).is_ok_and(|facts| facts.is_dir() && facts.uid() != 0);
    if is_given { Ok(()) } else { private(folder) }
}

/// Makes a folder ours that was given away, now that nobody runs there: what its user has left in it is not followed by root.
///
/// # Errors
/// chown(2).
pub(super) fn take_back(folder: &Path) -> io::Result<()> {
    if fs::symlink_metadata(folder)?.uid() != rustix::process::geteuid().as_raw() {
        std::os::unix::fs::lchown(folder, Some(0), Some(0))?;
    }
    private(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders(pairs: &[(&str, &str)], root: bool, owned: bool) -> Result<[String; 3], String> {
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect();
        let name = Name::parse("a".as_ref()).unwrap();
        let found = Folders::of(&pairs, root, |_| owned)?;
        Ok([found.run(&name), found.state(&name), found.content(&name)].map(|path| path.display().to_string()))
    }

    #[test]
    fn folders_are_where_the_standard_says() {
        let all = [("HOME", "/h"), ("XDG_RUNTIME_DIR", "/r"), ("XDG_STATE_HOME", "/s"), ("XDG_CONFIG_HOME", "/c")];
        let want = ["/r/ucaffeine/a", "/s/ucaffeine/instances/a", "/c/ucaffeine/a"].map(String::from);
        assert_eq!(folders(&all, false, true), Ok(want.clone()));
        assert_eq!(folders(&all, true, true), Ok(want), "root may be told, too");
        let want =
            ["/h/.local/state/ucaffeine/run/a", "/h/.local/state/ucaffeine/instances/a", "/h/.config/ucaffeine/a"]
                .map(String::from);
        assert_eq!(folders(&[("HOME", "/h"), ("XDG_RUNTIME_DIR", "r")], false, true), Ok(want));
        let want = ["/run/ucaffeine/a", "/var/lib/ucaffeine/instances/a", "/h/.config/ucaffeine/a"].map(String::from);
        assert_eq!(folders(&[("HOME", "/h"), ("XDG_RUNTIME_DIR", "/r")], true, false), Ok(want));
        assert!(folders(&[], false, true).unwrap_err().contains("HOME"));
    }

    #[test]
    fn a_private_folder_is_made_so() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/b");
        private(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        private(&folder).unwrap();
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
        std::os::unix::fs::symlink(&folder, dir.path().join("link")).unwrap();
        assert!(private(&dir.path().join("link")).is_err(), "a link may be another user's");
    }
}
