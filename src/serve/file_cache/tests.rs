use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;
use crate::rt;

/// A thread has one runtime in its life, and a test may share its thread with others.
fn with_cache(options: FileOptions, test: impl FnOnce(&Tester<'_>) + Send + 'static) {
    let test = move || {
        let root = tempfile::tempdir().unwrap();
        let runtime = rt::Builder::new().build().unwrap();
        let cache = FileCache::new(Dir::open(root.path()).unwrap(), root.path().into(), options, 8, 0);
        test(&Tester { runtime: &runtime, root: root.path(), cache: &cache, site: Site::default() });
    };
    std::thread::spawn(test).join().unwrap();
}

struct Tester<'t> {
    runtime: &'t rt::Runtime,
    root: &'t Path,
    cache: &'t FileCache,
    site: Site,
}

impl Tester<'_> {
    fn write(&self, path: &str, content: &str) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), content).unwrap();
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn learn(&self, path: &str) -> Rc<Entry> {
        self.runtime.block_on(self.cache.learn(&self.site, path.as_bytes(), 0))
    }

    fn learn_all(&self, paths: &[&str]) {
        paths.iter().for_each(|path| drop(self.learn(path)));
    }

    /// What a request gets without asking the file system: the bytes, or `-` where they are not here.
    fn known(&self, path: &str) -> Option<String> {
        // A turn, in which the ring tells what has happened.
        self.runtime.block_on(rt::yield_now());
        // At the beginning of time nothing is too old: what is not known then, something was told about.
        let entry = self.cache.get(path.as_bytes(), 0)?;
        Some(match &entry.held(None)?.content {
            Content::Memory(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Content::File(_) => "-".into(),
        })
    }

    fn assert_empty(&self) {
        let store = self.cache.0.store.borrow();
        assert_eq!((store.keys.len(), store.in_memory.cost(), store.open.cost(), store.open_bytes), (0, 0, 0, 0));
        let trails = self.cache.0.watching.trails.borrow();
        assert_eq!((trails.watches(), trails.all().len()), (0, 0));
    }
}

/// Each time a file had gone and come back, the clock kept one more key of it.
#[test]
fn a_file_that_comes_and_goes_leaves_nothing_behind() {
    with_cache(FileOptions::default(), |t| {
        for _ in 0..3 {
            t.write("d/a", "content");
            assert!(matches!(t.learn("d/a").found, Found::File(_)));
            assert_eq!(t.known("d/a").as_deref(), Some("content"));
            fs::remove_file(t.at("d/a")).unwrap();
            assert!(matches!(t.learn("d/a").found, Found::Nothing));
        }
        t.assert_empty();
    });
}

#[test]
fn what_changes_is_not_known_any_more_and_everything_else_is() {
    type Act = fn(&Tester<'_>);
    let acts: [(&str, Act); 12] = [
        ("written in place", |t| fs::write(t.at("d/e/a"), "contend").unwrap()),
        ("cut short", |t| drop(fs::File::options().write(true).truncate(true).open(t.at("d/e/a")).unwrap())),
        ("replaced", |t| {
            t.write("new", "content");
            fs::rename(t.at("new"), t.at("d/e/a")).unwrap();
        }),
        ("deleted", |t| fs::remove_file(t.at("d/e/a")).unwrap()),
        ("given a time", |t| {
            let file = fs::File::options().write(true).open(t.at("d/e/a")).unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
        }),
        ("given a sibling", |t| t.write("d/e/a.gz", "zipped")),
        ("its folder renamed", |t| fs::rename(t.at("d/e"), t.at("d/f")).unwrap()),
        ("a folder above renamed", |t| fs::rename(t.at("d"), t.at("f")).unwrap()),
        ("a folder above closed", |t| {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(t.at("d"), fs::Permissions::from_mode(0o711)).unwrap();
        }),
        ("a folder put in the place of one above", |t| {
            t.write("other/e/a", "another");
            fs::rename(t.at("d"), t.at("away")).unwrap();
            fs::rename(t.at("other"), t.at("d")).unwrap();
        }),
        ("all deleted", |t| fs::remove_dir_all(t.at("d")).unwrap()),
        ("linked a second time and written by that name", |t| {
            fs::hard_link(t.at("d/e/a"), t.at("link")).unwrap();
            fs::write(t.at("d/e/a"), "contend").unwrap();
        }),
    ];
    for (what, act) in acts {
        with_cache(FileOptions::default(), move |t| {
            t.write("d/e/a", "content");
            t.write("d/b", "beside");
            t.write("c", "above");
            t.learn_all(&["d/e/a", "c"]);
            assert_eq!(t.known("d/e/a").as_deref(), Some("content"));
            act(t);
            assert_eq!(t.known("d/e/a"), None, "{what}");
            assert_eq!(t.known("c").as_deref(), Some("above"), "{what}");
        });
    }
}

#[test]
fn links_are_watched_at_both_ends() {
    type Act = fn(&Tester<'_>);
    let acts: [(&str, Act); 6] = [
        ("the target written", |t| fs::write(t.at("r/1/a"), "contend").unwrap()),
        ("the target replaced", |t| fs::rename(t.at("r/2/a"), t.at("r/1/a")).unwrap()),
        ("the target's folder renamed", |t| fs::rename(t.at("r/1"), t.at("r/3")).unwrap()),
        ("the folder of releases renamed", |t| fs::rename(t.at("r"), t.at("s")).unwrap()),
        ("the link swapped", |t| {
            symlink("r/2", t.at("next")).unwrap();
            fs::rename(t.at("next"), t.at("current")).unwrap();
        }),
        ("the link deleted", |t| fs::remove_file(t.at("current")).unwrap()),
    ];
    for (what, act) in acts {
        with_cache(FileOptions::default(), move |t| {
            t.write("r/1/a", "content");
            t.write("r/2/a", "another");
            t.write("b", "beside");
            symlink("r/1", t.at("current")).unwrap();
            symlink("current/../1/a", t.at("file")).unwrap();
            t.learn_all(&["current/a", "file", "b"]);
            for path in ["current/a", "file"] {
                assert_eq!(t.known(path).as_deref(), Some("content"));
            }
            act(t);
            for path in ["current/a", "file"] {
                assert_eq!(t.known(path), None, "{path}: {what}");
            }
            assert_eq!(t.known("b").as_deref(), Some("beside"), "{what}");
        });
    }
}

#[test]
fn a_file_that_is_open_is_let_go_when_it_is_deleted() {
    let options = FileOptions { cached_file_bytes_max: 3, ..FileOptions::default() };
    with_cache(options, |t| {
        t.write("a", "content");
        t.learn("a");
        assert_eq!(t.known("a").as_deref(), Some("-"));
        fs::remove_file(t.at("a")).unwrap();
        t.runtime.block_on(rt::yield_now());
        t.cache.0.hear();
        t.assert_empty();
    });
}

/// What happens to the name of a file that is being sent is nothing to who is getting it; what happens to its bytes is.
#[test]
fn an_open_file_is_unchanged_by_a_new_name_and_not_by_a_write() {
    let options = FileOptions { cached_file_bytes_max: 3, ..FileOptions::default() };
    type Act = fn(&Tester<'_>);
    let acts: [(&str, bool, Act); 6] = [
        ("deleted", true, |t| fs::remove_file(t.at("a")).unwrap()),
        ("replaced", true, |t| fs::rename(t.at("b"), t.at("a")).unwrap()),
        ("renamed", true, |t| fs::rename(t.at("a"), t.at("c")).unwrap()),
        ("written", false, |t| fs::write(t.at("a"), "contend").unwrap()),
        ("grown", false, |t| fs::write(t.at("a"), "content and more").unwrap()),
        ("written, with its time set back, and deleted", false, |t| {
            let then = fs::metadata(t.at("a")).unwrap().modified().unwrap();
            fs::write(t.at("a"), "contend").unwrap();
            fs::File::options().write(true).open(t.at("a")).unwrap().set_modified(then).unwrap();
            fs::remove_file(t.at("a")).unwrap();
        }),
    ];
    for (what, is_unchanged, act) in acts {
        with_cache(options.clone(), move |t| {
            t.write("a", "content");
            t.write("b", "another");
            let entry = t.learn("a");
            let Content::File(file) = &entry.held(None).unwrap().content else { panic!("it is in memory") };
            assert!(file.is_unchanged());
            act(t);
            assert_eq!(file.is_unchanged(), is_unchanged, "{what}");
            assert_eq!(file.is_unchanged(), is_unchanged, "{what}, asked again");
        });
    }
}

/// The kernel changes the inode first and queues the event then: who looks between the two sees a change that nobody told.
#[test]
fn a_new_name_that_is_told_late_cuts_nobody() {
    let options = FileOptions { cached_file_bytes_max: 3, ..FileOptions::default() };
    with_cache(options, |t| {
        for round in 0..40 {
            t.write("a", "content");
            t.write("b", "another");
            let entry = t.learn("a");
            let Content::File(file) = &entry.held(None).unwrap().content else { panic!("it is in memory") };
            let (from, to) = (t.at("b"), t.at("a"));
            let replacing = std::thread::spawn(move || fs::rename(from, to).unwrap());
            while !replacing.is_finished() {
                assert!(file.is_unchanged(), "in round {round}");
            }
            replacing.join().unwrap();
            assert!(file.is_unchanged(), "after round {round}");
        }
    });
}

#[test]
fn a_file_that_is_not_quiet_is_given_out_under_tags_of_its_own() {
    with_cache(FileOptions::default(), |t| {
        let tag = |entry: &Entry| match &entry.found {
            Found::File(file) => file.all().next().unwrap().etag.as_bytes().to_vec(),
            other => panic!("{other:?}"),
        };
        let mut tags = Vec::new();
        // On a busy machine the file may have become quiet before it is looked at.
        for _ in 0..10_000 {
            t.write("a", "content");
            let look = t.cache.0.look(&t.site, b"a", 0, Patience::None);
            let Ok(entry) = t.runtime.block_on(look) else { panic!("somebody waits") };
            if entry.kept.is_none() {
                assert_eq!(t.known("a"), None);
                assert!(!tags.contains(&tag(&entry)));
                tags.push(tag(&entry));
            }
            if tags.len() == 3 {
                break;
            }
        }
        assert_eq!(tags.len(), 3);
        let quiet = tag(&t.learn("a"));
        assert!(!tags.contains(&quiet));
        assert_eq!(tag(&t.learn("a")), quiet);
        assert_eq!(t.known("a").as_deref(), Some("content"));
    });
}

#[test]
fn nothing_is_kept_or_watched_where_the_cache_is_off() {
    with_cache(FileOptions { cache_bytes_max: 0, ..FileOptions::default() }, |t| {
        t.write("a", "content");
        t.learn("a");
        assert_eq!(t.known("a"), None);
        t.assert_empty();
        assert!(t.cache.0.watching.watcher().is_none());
    });
}

#[test]
fn what_has_to_go_is_in_no_book() {
    let options = FileOptions { cache_bytes_max: 20_000, cached_file_bytes_max: 2_000, ..FileOptions::default() };
    with_cache(options, |t| {
        for n in 0..60 {
            t.write(&format!("d{n}/small"), "content");
            t.write(&format!("d{n}/large"), &"x".repeat(3_000));
        }
        for round in 0..3 {
            for n in (0..60).step_by(1 + round) {
                t.learn(&format!("d{n}/small"));
                t.learn(&format!("d{n}/large"));
                t.known(&format!("d{n}/small"));
            }
        }
        let (keys, cost) = {
            let store = t.cache.0.store.borrow();
            assert!(store.open.cost() <= 8, "{} files are open", store.open.cost());
            (store.keys.keys().cloned().collect::<Vec<_>>(), store.in_memory.cost() + store.open_bytes)
        };
        assert!(!keys.is_empty() && cost <= 20_000, "{} entries, {cost} bytes", keys.len());
        assert!(t.cache.0.watching.trails.borrow().watches() <= keys.len() + 1);
        keys.iter().for_each(|key| t.cache.0.remove_at(key));
        t.assert_empty();
    });
}

#[test]
fn the_time_after_which_a_file_is_settled() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let metadata = |age: i64| {
        let file = File::from(std::os::fd::OwnedFd::from(file.reopen().unwrap()));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let ctime = now.as_nanos() as i64 - age * 1_000_000;
        Metadata { ctime: (ctime / 1_000_000_000, (ctime % 1_000_000_000) as u32), ..file.metadata().unwrap() }
    };
    assert!(settles_in(&metadata(0)).is_some());
    assert!(settles_in(&metadata(1)).is_some_and(|left| left <= entry::SETTLED_AFTER));
    assert_eq!(settles_in(&metadata(25)), None);
    assert_eq!(settles_in(&metadata(3_600_000)), None);
    assert_eq!(settles_in(&metadata(-500)), Some(entry::SETTLED_AFTER), "a little ahead");
    assert_eq!(settles_in(&metadata(-3_600_000)), None, "the clock was set back: it would never settle");
}
