//! The releases of an instance's folder: `releases/1`, `releases/2`, ... and `current`, a link to the one that is served.
//! A release is never changed once it has its number; to serve another is one rename of the link.

use std::fs::{self, File, FileTimes};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

const RELEASES: &str = "releases";
const CURRENT: &str = "current";
/// A release that is being put together; what a deploy that was interrupted left has such a name, too.
const DRAFT: &str = ".new-";
/// Releases that are kept, the current one included.
const KEPT_MAX: usize = 3;

/// What lies beside the content in an instance's folder, and is never served.
pub(crate) const OURS: [&str; 2] = [RELEASES, CURRENT];

/// The releases in one instance's folder.
#[derive(Clone, Debug)]
pub(crate) struct Releases {
    base: PathBuf,
}

impl Releases {
    pub(crate) fn of(base: &Path) -> Releases {
        Releases { base: base.to_owned() }
    }

    /// Where the content of a release is.
    pub(crate) fn folder(&self, number: u64) -> PathBuf {
        self.base.join(RELEASES).join(number.to_string())
    }

    /// Which release a folder is, if it is one of these.
    pub(crate) fn number(&self, folder: &Path) -> Option<u64> {
        folder.strip_prefix(self.base.join(RELEASES)).ok()?.to_str()?.parse().ok()
    }

    /// What is to be served: the current release, or the folder itself while there is none.
    ///
    /// # Errors
    /// As [`Releases::current`].
    pub(crate) fn served(&self) -> io::Result<PathBuf> {
        Ok(self.current()?.map_or_else(|| self.base.clone(), |number| self.folder(number)))
    }

    /// # Errors
    /// `current` is there, and is not a link to a release.
    pub(crate) fn current(&self) -> io::Result<Option<u64>> {
        let link = self.base.join(CURRENT);
        let target = match fs::read_link(&link) {
            Ok(target) => target,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(_) => return Err(not_ours(&link)),
        };
        let number = target.strip_prefix(RELEASES).ok().and_then(Path::to_str).and_then(|text| text.parse().ok());
        number.map(Some).ok_or_else(|| not_ours(&link))
    }

    /// Every release, in order.
    pub(crate) fn all(&self) -> io::Result<Vec<u64>> {
        let entries = match fs::read_dir(self.base.join(RELEASES)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let number = |entry: io::Result<fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
        let mut all: Vec<u64> = entries.filter_map(number).collect();
        all.sort_unstable();
        Ok(all)
    }

    /// Makes another release: `fill` puts its content into an empty folder, which then gets the next number. Nothing is served
    /// differently by that.
    ///
    /// # Errors
    /// Those of `fill`, or of the file system. Nothing is left then.
    pub(crate) fn add<E: From<io::Error>>(&self, fill: impl FnOnce(&Path) -> Result<(), E>) -> Result<u64, E> {
        self.sweep();
        let number = self.all()?.last().copied().unwrap_or(0).max(self.current()?.unwrap_or(0)) + 1;
        let draft = self.base.join(RELEASES).join(format!("{DRAFT}{number}"));
        fs::create_dir_all(&draft)?;
        let filled = fill(&draft).and_then(|()| {
            // On the disk before anybody is led there: a release that a power cut has emptied is none.
            rustix::fs::syncfs(File::open(&draft)?.as_fd()).map_err(io::Error::from)?;
            fs::rename(&draft, self.folder(number))?;
            Ok(())
        });
        if filled.is_err() {
            let _ = fs::remove_dir_all(&draft);
        }
        filled.map(|()| number)
    }

    /// Leads `current` to a release, in one step.
    ///
    /// # Errors
    /// symlink(2), rename(2); the link is as it was, then.
    pub(crate) fn set_current(&self, number: u64) -> io::Result<()> {
        let draft = self.base.join(RELEASES).join(format!("{DRAFT}link"));
        let _ = fs::remove_file(&draft);
        symlink(Path::new(RELEASES).join(number.to_string()), &draft)?;
        fs::rename(&draft, self.base.join(CURRENT))?;
        File::open(&self.base)?.sync_all()
    }

    /// As it was before the first deploy.
    pub(crate) fn unset_current(&self) -> io::Result<()> {
        fs::remove_file(self.base.join(CURRENT))
    }

    /// Removes what is older than the last few, and what is newer than the current one: a deploy after a rollback takes the place
    /// of what was rolled back. What is in use is left for a later time.
    pub(crate) fn prune(&self, current: u64, in_use: &[u64]) {
        let all = self.all().unwrap_or_default();
        let (older, newer): (Vec<u64>, Vec<u64>) = all.into_iter().partition(|&number| number <= current);
        let too_old = older.len().saturating_sub(KEPT_MAX);
        for number in older.iter().take(too_old).chain(&newer).filter(|number| !in_use.contains(number)) {
            self.remove(*number);
        }
    }

    /// Removes one release. A reader of one of its files keeps that file.
    pub(crate) fn remove(&self, number: u64) {
        let _ = fs::remove_dir_all(self.folder(number));
    }

    /// Removes what an interrupted deploy has left. Whoever calls holds the deploy's lock.
    fn sweep(&self) {
        for entry in fs::read_dir(self.base.join(RELEASES)).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(DRAFT) {
                let _ = fs::remove_dir_all(entry.path()).or_else(|_| fs::remove_file(entry.path()));
            }
        }
    }
}

fn not_ours(link: &Path) -> io::Error {
    io::Error::other(format!("{} is not a link to a release; move it away", link.display()))
}

/// Copies a file, folder or link with its permissions and times; `skip` are names that are left out at the top.
///
/// # Errors
/// Something cannot be read or written, or is neither; with its path.
pub(crate) fn copy(from: &Path, to: &Path, skip: &[&str]) -> io::Result<()> {
    let facts = fs::symlink_metadata(from).map_err(|error| about(from, &error))?;
    if facts.is_dir() {
        fs::create_dir_all(to).map_err(|error| about(to, &error))?;
        for entry in fs::read_dir(from).map_err(|error| about(from, &error))? {
            let entry = entry.map_err(|error| about(from, &error))?;
            if !skip.iter().any(|name| entry.file_name() == *name) {
                copy(&entry.path(), &to.join(entry.file_name()), &[])?;
            }
        }
        let mode = facts.permissions().mode() & 0o777 | 0o700;
        return fs::set_permissions(to, fs::Permissions::from_mode(mode)).map_err(|error| about(to, &error));
    }
    if facts.is_symlink() {
        let target = fs::read_link(from).map_err(|error| about(from, &error))?;
        return symlink(target, to).map_err(|error| about(to, &error));
    }
    if !facts.is_file() {
        return Err(io::Error::other(format!("{} is neither a file, a folder nor a link", from.display())));
    }
    copy_file(from, to, &facts).map_err(|error| about(from, &error))
}

/// Its times, too: a compressed sibling that is older than its file is not sent.
fn copy_file(from: &Path, to: &Path, facts: &fs::Metadata) -> io::Result<()> {
    fs::copy(from, to)?;
    let copied = File::open(to)?;
    copied.set_times(FileTimes::new().set_accessed(facts.accessed()?).set_modified(facts.modified()?))?;
    copied.set_permissions(fs::Permissions::from_mode(facts.permissions().mode() & 0o777))
}

fn about(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(text: &str) -> impl FnOnce(&Path) -> io::Result<()> {
        move |folder| fs::write(folder.join("a"), text)
    }

    #[test]
    fn releases_are_numbered_linked_and_pruned() {
        let dir = tempfile::tempdir().unwrap();
        let releases = Releases::of(dir.path());
        assert_eq!(releases.served().unwrap(), dir.path());
        for number in 1..=5 {
            assert_eq!(releases.add(fill("x")).unwrap(), number);
            assert_eq!(releases.current().unwrap(), (number > 1).then(|| number - 1), "adding serves nothing");
            releases.set_current(number).unwrap();
            releases.prune(number, &[]);
        }
        assert_eq!(releases.all().unwrap(), [3, 4, 5]);
        assert_eq!(releases.number(&releases.folder(4)), Some(4));
        assert_eq!(fs::read_to_string(dir.path().join("current/a")).unwrap(), "x");
        releases.set_current(4).unwrap();
        assert_eq!(releases.add(fill("y")).unwrap(), 6);
        releases.prune(4, &[6]);
        assert_eq!(releases.all().unwrap(), [3, 4, 6], "what is in use stays");
        releases.prune(4, &[]);
        assert_eq!(releases.all().unwrap(), [3, 4], "what is newer than the current one is gone");
    }

    #[test]
    fn what_fails_or_was_interrupted_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let releases = Releases::of(dir.path());
        fs::create_dir_all(dir.path().join("releases/.new-1/half")).unwrap();
        let failed = releases.add(|folder| {
            fs::write(folder.join("a"), "x")?;
            Err::<(), io::Error>(io::Error::other("no"))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read_dir(dir.path().join("releases")).unwrap().count(), 0);
        fs::write(dir.path().join("current"), "a file of somebody's").unwrap();
        assert!(releases.current().unwrap_err().to_string().contains("not a link to a release"));
    }
}
