//! Putting content into an instance's folder: a new release beside the old ones, and then one step to it.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};

use super::folders::private;
use super::protocol::{Client, Failure};
use super::registry::{Entry, Lock, State, look};
use super::releases::{OURS, Releases, copy};
use super::{Failed, Folders, Name};

/// Where a program goes that is deployed by itself.
const CGI_BIN: &str = "cgi-bin";
/// How long the instance's cores have to take a release up.
const SWAP_MAX: Duration = Duration::from_secs(30);
/// How long an instance may be between its start and its first answer.
const START_MAX: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// What is deployed, and where to.
#[derive(Debug)]
pub(crate) struct Deploy {
    pub(crate) what: PathBuf,
    pub(crate) to: Option<OsString>,
}

/// Makes a release of it and serves that. Returns what there is to say: the release, and the URL.
///
/// # Errors
/// It cannot be read or written, or the instance does not take it; what was served before is served, then.
pub(crate) fn deploy(folders: &Folders, name: &Name, deploy: &Deploy) -> Result<String, Failed> {
    let source = Source::look(deploy)?;
    let (releases, _lock) = open(folders, name)?;
    let base = folders.content(name);
    if base.join("releases").starts_with(&source.path) {
        return Err(Failed::new(format!("{} holds the releases of {name} itself", source.path.display())));
    }
    let failed = |error: io::Error| Failed::new(format!("nothing was deployed to {name}: {error}"));
    let before = match releases.current().map_err(failed)? {
        Some(number) => Some(number),
        None => keep_what_was_there(&releases, &base).map_err(failed)?,
    };
    let mut place = PathBuf::new();
    let number = releases
        .add(|folder| {
            place = source.fill(folder, before.map(|number| releases.folder(number)).as_deref())?;
            Ok::<_, io::Error>(())
        })
        .map_err(failed)?;
    let taken = switch(folders, name, &releases, number);
    if taken.is_err() && releases.current().ok().flatten() != Some(number) {
        releases.remove(number);
    }
    let taken = taken?;
    releases.prune(number, &taken.in_use());
    Ok(format!("release {number}\n{}", taken.url(&place, source.is_dir)))
}

/// Goes back to the release before the current one.
///
/// # Errors
/// There is none, or the instance does not take it.
pub(crate) fn rollback(folders: &Folders, name: &Name) -> Result<String, Failed> {
    let (releases, _lock) = open(folders, name)?;
    let failed = |error: io::Error| Failed::new(format!("{name} stays as it is: {error}"));
    let Some(current) = releases.current().map_err(failed)? else {
        return Err(Failed::new(format!("nothing was ever deployed to {name}")));
    };
    let before = releases.all().map_err(failed)?.into_iter().filter(|&number| number < current).max();
    let Some(before) = before else {
        return Err(Failed::new(format!("no release of {name} before {current} is kept")));
    };
    switch(folders, name, &releases, before)?;
    Ok(format!("release {before}\n"))
}

/// The releases, for one command at a time.
fn open(folders: &Folders, name: &Name) -> Result<(Releases, File), Failed> {
    if let Ok(Entry::Running(Some(State { dir: Some(dir), .. }))) = look(folders, name) {
        return Err(Failed::new(format!("{name} serves {dir}, which it was given; only its own folder has releases")));
    }
    let base = folders.content(name);
    let opened = fs::create_dir_all(&base).and_then(|()| private(&folders.state(name))).and_then(|()| {
        let path = folders.state(name).join("deploy.lock");
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        flock(&lock, FlockOperation::LockExclusive)?;
        Ok(lock)
    });
    match opened {
        Ok(lock) => Ok((Releases::of(&base), lock)),
        Err(error) => Err(Failed::new(format!("the folder of {name} cannot be used: {error}"))),
    }
}

/// What lay in the folder before the first deploy becomes the first release, so that there is a way back to it.
fn keep_what_was_there(releases: &Releases, base: &Path) -> io::Result<Option<u64>> {
    if let Some(&last) = releases.all()?.last() {
        return Ok(Some(last));
    }
    let ours = |entry: &fs::DirEntry| OURS.iter().any(|name| entry.file_name() == *name);
    if fs::read_dir(base)?.flatten().all(|entry| ours(&entry)) {
        return Ok(None);
    }
    releases.add(|folder| copy(base, folder, &OURS)).map(Some)
}

/// What is put in, and under which name.
struct Source {
    path: PathBuf,
    is_dir: bool,
    place: Place,
}

enum Place {
    /// The whole site.
    Site,
    /// This path; a folder that is there already, or is said to be one, takes it in under its own name.
    At { path: PathBuf, inside: bool },
}

impl Source {
    fn look(deploy: &Deploy) -> Result<Source, Failed> {
        let cannot = |error: io::Error| Failed::new(format!("cannot deploy {}: {error}", deploy.what.display()));
        let path = deploy.what.canonicalize().map_err(cannot)?;
        let facts = fs::metadata(&path).map_err(cannot)?;
        if !facts.is_dir() && !facts.is_file() {
            return Err(cannot(io::Error::other("neither a file nor a folder")));
        }
        let is_program = facts.is_file() && facts.permissions().mode() & 0o111 != 0;
        let place = match &deploy.to {
            Some(to) => Place::At { path: subpath(Path::new(to))?, inside: to.as_bytes().ends_with(b"/") },
            None if facts.is_dir() => Place::Site,
            None if is_program => Place::At { path: CGI_BIN.into(), inside: true },
            None => Place::At { path: PathBuf::new(), inside: true },
        };
        Ok(Source { path, is_dir: facts.is_dir(), place })
    }

    /// Fills a release: with what the one before it holds, and this in its place. Returns where that is.
    fn fill(&self, folder: &Path, before: Option<&Path>) -> io::Result<PathBuf> {
        let Place::At { path, inside } = &self.place else {
            copy(&self.path, folder, &[])?;
            return Ok(PathBuf::new());
        };
        if let Some(before) = before {
            copy(before, folder, &[])?;
        }
        // The name as it was typed is gone with a link; canonical paths of files and of all folders but / have one.
        let own = self.path.file_name().unwrap_or_default();
        let taken_in = !self.is_dir && (*inside || folder.join(path).is_dir());
        let place = if taken_in { path.join(own) } else { path.clone() };
        if place.as_os_str().is_empty() {
            // The folder itself, by `--to .`: all of it.
            fs::remove_dir_all(folder)?;
            copy(&self.path, folder, &[])?;
            return Ok(place);
        }
        let parent = place.parent().unwrap_or(Path::new(""));
        no_links(folder, parent)?;
        fs::create_dir_all(folder.join(parent))?;
        let target = folder.join(&place);
        match fs::symlink_metadata(&target) {
            Ok(facts) if facts.is_dir() => fs::remove_dir_all(&target)?,
            Ok(_) => fs::remove_file(&target)?,
            Err(_) => {}
        }
        copy(&self.path, &target, &[])?;
        Ok(place)
    }
}

/// `--to`: a path below the site, as in `a/b` or `/a/b/`.
fn subpath(to: &Path) -> Result<PathBuf, Failed> {
    let wrong = || Failed { code: 2, why: format!("--to {}: not a path below the site", to.display()) };
    let mut path = PathBuf::new();
    for component in to.components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(wrong()),
        }
    }
    if to.as_os_str().is_empty() || to.as_os_str().as_bytes().contains(&0) {
        return Err(wrong());
    }
    Ok(path)
}

/// A link in a release could lead anywhere; nothing is written through one.
fn no_links(folder: &Path, below: &Path) -> io::Result<()> {
    let mut path = folder.to_owned();
    for component in below.components() {
        path.push(component);
        if fs::symlink_metadata(&path).is_ok_and(|facts| facts.is_symlink()) {
            return Err(io::Error::other(format!("{} is a link", below.display())));
        }
    }
    Ok(())
}

/// Who serves a release now.
struct Taken {
    /// `None`: nobody runs.
    by: Option<(State, Value)>,
}

/// Serves a release from now on: a running instance does it itself, and answers when every core does.
fn switch(folders: &Folders, name: &Name, releases: &Releases, number: u64) -> Result<Taken, Failed> {
    let failed = |why: &dyn std::fmt::Display| Failed::new(format!("{name} does not take release {number}: {why}"));
    let until = Instant::now() + START_MAX;
    loop {
        match look(folders, name).map_err(|error| failed(&error))? {
            // With its lock in our hand it cannot start between the look and the link.
            Entry::Nothing => {
                if let Some(lock) = Lock::take(folders, name).map_err(|error| failed(&error))? {
                    let set = releases.set_current(number);
                    lock.clear();
                    return set.map(|()| Taken { by: None }).map_err(|error| failed(&error));
                }
            }
            Entry::Running(None) => {}
            Entry::Running(Some(state)) => {
                let asked = Client::connect(&folders.run(name))
                    .and_then(|mut client| client.ask("release", json!({ "number": number }), SWAP_MAX));
                match asked {
                    Ok(answer) => return Ok(Taken { by: Some((state, answer)) }),
                    // It may have ended in this moment; then the next look says so.
                    Err(Failure::Silent(_)) if Instant::now() < until => {}
                    Err(failure) => return Err(failed(&failure)),
                }
            }
        }
        if Instant::now() > until {
            return Err(failed(&"it neither starts nor ends"));
        }
        std::thread::sleep(POLL);
    }
}

impl Taken {
    /// Releases that requests which began before still need.
    fn in_use(&self) -> Vec<u64> {
        let all = self.by.as_ref().and_then(|(_, answer)| answer["in_use"].as_array());
        all.into_iter().flatten().filter_map(Value::as_u64).collect()
    }

    /// Where the deployed thing answers.
    fn url(&self, place: &Path, is_dir: bool) -> String {
        let mut path = String::from("/");
        path.push_str(&encoded(place.as_os_str().as_bytes()));
        if is_dir && !path.ends_with('/') {
            path.push('/');
        }
        let Some((state, answer)) = &self.by else { return format!("url {path} (when it runs)\n") };
        let http = state.addresses.iter().find_map(|address| address.strip_prefix("http://"));
        let url = match http {
            // Every address of this machine has one that works here.
            Some(address) => {
                let address =
                    address.trim_end_matches('/').replace("0.0.0.0:", "127.0.0.1:").replace("[::]:", "[::1]:");
                format!("url http://{address}{path}\n")
            }
            None => format!("url {path}\n"),
        };
        let mounted = answer["programs"].as_array().is_some_and(|all| all.iter().any(|prefix| *prefix == "/cgi-bin"));
        match place.starts_with(CGI_BIN) && !mounted {
            true => format!("{url}note programs are turned off there (--no-cgi): it is not found\n"),
            false => url,
        }
    }
}

/// Percent-encoded, but for what a path may hold as it is (RFC 3986 section 3.3).
fn encoded(path: &[u8]) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@".contains(&byte);
    path.iter().map(|&byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subpath_stays_below_the_site() {
        for (to, want) in [("a", "a"), ("/a/b/", "a/b"), ("./a", "a"), (".", ""), ("/", "")] {
            assert_eq!(subpath(Path::new(to)).unwrap(), Path::new(want), "{to}");
        }
        for to in ["..", "a/../b", "", "a\0b"] {
            assert_eq!(subpath(Path::new(to)).unwrap_err().code, 2, "{to:?}");
        }
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (elsewhere, release) = (dir.path().join("elsewhere"), dir.path().join("release"));
        fs::create_dir(&elsewhere).unwrap();
        fs::create_dir(&release).unwrap();
        std::os::unix::fs::symlink(&elsewhere, release.join("link")).unwrap();
        fs::write(dir.path().join("file"), "x").unwrap();
        let deploy = Deploy { what: dir.path().join("file"), to: Some("link/file".into()) };
        let next = dir.path().join("next");
        fs::create_dir(&next).unwrap();
        assert!(Source::look(&deploy).unwrap().fill(&next, Some(&release)).is_err());
        assert_eq!(fs::read_dir(elsewhere).unwrap().count(), 0);
    }

    #[test]
    fn a_url_holds_no_bytes_that_a_url_cannot() {
        assert_eq!(encoded("a b/é%.sh".as_bytes()), "a%20b/%C3%A9%25.sh");
    }
}
