//! The two programs of a comparison, built from a repository: each revision in a worktree of its own, which is gone afterwards.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A commit, a branch or a tag.
    Revision(String),
    /// A folder with the sources, changes that are not committed included.
    Folder(PathBuf),
}

impl Source {
    /// A folder if there is one of that name, otherwise a revision.
    #[must_use]
    pub fn of(text: &str) -> Source {
        match Path::new(text).join("Cargo.toml").is_file() {
            true => Source::Folder(PathBuf::from(text)),
            false => Source::Revision(text.to_owned()),
        }
    }
}

/// A worktree. Removed on drop.
struct Worktree<'a> {
    repository: &'a Path,
    folder: PathBuf,
}

impl Drop for Worktree<'_> {
    fn drop(&mut self) {
        let _ = git(self.repository, &["worktree", "remove", "--force", &self.folder.to_string_lossy()]);
    }
}

/// Builds `ucaffeine` of that source in release, and puts it at `work/NAME`.
///
/// # Errors
/// A line that says what failed.
pub fn build(repository: &Path, source: &Source, work: &Path, name: &str) -> Result<PathBuf, String> {
    let at = |error: std::io::Error| format!("{}: {error}", work.display());
    std::fs::create_dir_all(work).map_err(at)?;
    let work = work.canonicalize().map_err(at)?;
    let worktree = match source {
        Source::Folder(_) => None,
        Source::Revision(revision) => {
            let folder = work.join(format!("{name}-sources"));
            // What an interrupted run has left.
            drop(Worktree { repository, folder: folder.clone() });
            let _ = std::fs::remove_dir_all(&folder);
            git(repository, &["worktree", "prune"])?;
            git(repository, &["worktree", "add", "--detach", "--quiet", &folder.to_string_lossy(), revision])?;
            Some(Worktree { repository, folder })
        }
    };
    let sources = match (source, &worktree) {
        (Source::Folder(folder), _) => folder.clone(),
        (_, Some(worktree)) => worktree.folder.clone(),
        (_, None) => unreachable!("a revision has a worktree"),
    };
    let target = work.join(target_of(&sources).map_err(at)?);
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(&sources).args(["build", "--release", "--locked", "--bin", "ucaffeine"]);
    cargo.arg("--target-dir").arg(&target).stdin(Stdio::null()).stdout(Stdio::null());
    let output = cargo.output().map_err(|error| format!("cargo cannot be started: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let why = said.lines().find(|line| line.starts_with("error")).unwrap_or("it says nothing");
        return Err(format!("{name} does not build: {why}"));
    }
    let program = work.join(name);
    std::fs::copy(target.join("release/ucaffeine"), &program).map_err(at)?;
    Ok(program)
}

/// A target folder for each folder of sources. Cargo tells packages apart by their place within their workspace and by times, so two
/// checkouts that shared one would be taken for each other; a worktree that is made anew has new times.
fn target_of(sources: &Path) -> std::io::Result<String> {
    let path = sources.canonicalize()?;
    Ok(format!("build-{:08x}", crc32fast::hash(path.as_os_str().as_encoded_bytes())))
}

/// A revision's short name, or as it was given.
#[must_use]
pub fn describe(repository: &Path, revision: &str) -> String {
    git(repository, &["rev-parse", "--short", revision]).unwrap_or_else(|_| revision.to_owned())
}

fn git(repository: &Path, words: &[&str]) -> Result<String, String> {
    let output = Command::new("git").arg("-C").arg(repository).args(words).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("git cannot be started: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("git {}: {}", words.join(" "), said.trim().lines().last().unwrap_or_default()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, says: &str) {
        let manifest = "[package]\nname = \"ucaffeine\"\nversion = \"0.0.1\"\nedition = \"2021\"\n[workspace]\n";
        std::fs::create_dir_all(folder.join("src")).expect("a folder");
        std::fs::write(folder.join("Cargo.toml"), manifest).expect("written");
        std::fs::write(
            folder.join("Cargo.lock"),
            "version = 3\n\n[[package]]\nname = \"ucaffeine\"\nversion = \"0.0.1\"\n",
        )
        .expect("written");
        std::fs::write(folder.join("src/main.rs"), format!("fn main() {{ println!(\"{says}\") }}")).expect("written");
    }

    fn says(program: &Path) -> String {
        String::from_utf8(Command::new(program).output().expect("it runs").stdout).expect("text")
    }

    #[test]
    fn a_revision_and_a_folder_are_built_each_as_it_is_and_nothing_is_left_in_the_repository() {
        let (sources, work) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let repository = sources.path();
        let commit = |words: &[&str]| {
            git(
                repository,
                &[&["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"][..], words].concat(),
            )
            .unwrap_or_else(|why| panic!("{why}"));
        };
        write(repository, "base");
        commit(&["init", "-q"]);
        commit(&["add", "-A"]);
        commit(&["commit", "-q", "-m", "base"]);
        write(repository, "head, not committed");
        let base = build(repository, &Source::Revision("HEAD".into()), work.path(), "base").expect("built");
        let head = Source::of(&repository.to_string_lossy());
        assert_eq!(head, Source::Folder(repository.to_owned()));
        let head = build(repository, &head, work.path(), "head").expect("built");
        assert_eq!((says(&base).as_str(), says(&head).as_str()), ("base\n", "head, not committed\n"));
        assert_eq!(git(repository, &["worktree", "list"]).expect("git").lines().count(), 1);
        assert!(!work.path().join("base-sources").exists());
        let unknown = build(repository, &Source::of("no-such-revision"), work.path(), "x").expect_err("unknown");
        assert!(unknown.contains("no-such-revision") && unknown.lines().count() == 1, "{unknown}");
        write(repository, "broken\"); oops(");
        let broken = build(repository, &Source::Folder(repository.to_owned()), work.path(), "x").expect_err("broken");
        assert!(broken.starts_with("x does not build: error"), "{broken}");
    }
}
