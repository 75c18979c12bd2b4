//! The folder of a comparison: `settings.json`, a file for each cell and round, and what is made from them.
//!
//! A file is written beside its place and then moved there, so that a comparison that was cut off has whole cells only.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::cell::Key;
use super::measure::{Facts, Measured};
use super::settings::{SCHEMA, Settings};
use crate::record::Run;
use crate::report::json;

/// A folder of results.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
}

const SETTINGS: &str = "settings.json";
const RAW: &str = "raw";

impl Store {
    /// A new one.
    ///
    /// # Errors
    /// When there are results already, or the folder cannot be made.
    pub fn create(folder: &Path) -> Result<Store, String> {
        if folder.join(SETTINGS).exists() {
            return Err(format!(
                "there are results in {}: go on with --resume, or choose another --out",
                folder.display()
            ));
        }
        fs::create_dir_all(folder.join(RAW)).map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
        Ok(Store { folder: folder.to_owned() })
    }

    /// One that is there.
    ///
    /// # Errors
    /// When there are no results, or of another kind.
    pub fn open(folder: &Path) -> Result<(Store, Settings), String> {
        let path = folder.join(SETTINGS);
        let text = fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let settings: Settings =
            serde_json::from_str(&text).map_err(|error| format!("{} is not whole: {error}", path.display()))?;
        if settings.schema != SCHEMA {
            return Err(format!(
                "{}: its schema is `{}`, and this program reads `{SCHEMA}`",
                path.display(),
                settings.schema
            ));
        }
        Ok((Store { folder: folder.to_owned() }, settings))
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes the settings down.
    ///
    /// # Errors
    /// What could not be written.
    pub fn keep_settings(&self, settings: &Settings) -> Result<(), String> {
        let text = serde_json::to_string_pretty(settings).map_err(|error| error.to_string())?;
        self.write(Path::new(SETTINGS), format!("{text}\n").as_bytes())
    }

    /// Whether that cell is there.
    #[must_use]
    pub fn has(&self, key: Key, server: &str, round: u32) -> bool {
        self.folder.join(place(key, server, round)).exists()
    }

    /// Writes a cell down.
    ///
    /// # Errors
    /// What could not be written.
    pub fn keep(&self, measured: &Measured) -> Result<(), String> {
        let facts = &measured.facts;
        self.write(&place(facts.cell, &facts.server, facts.round), &cell_text(measured)?)
    }

    /// Reads a cell back; `None` if it is not there.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn cell(&self, key: Key, server: &str, round: u32) -> Result<Option<Measured>, String> {
        let path = self.folder.join(place(key, server, round));
        match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("cannot read {}: {error}", path.display())),
            Ok(bytes) => parse_cell(&bytes).map(Some).map_err(|why| format!("{}: {why}", path.display())),
        }
    }

    /// Writes a file of the report.
    ///
    /// # Errors
    /// What could not be written.
    pub fn write(&self, name: &Path, bytes: &[u8]) -> Result<(), String> {
        let path = self.folder.join(name);
        let failed = |error: std::io::Error| format!("cannot write {}: {error}", path.display());
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let beside = path.with_extension("new");
        let written = File::create(&beside).and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_data()));
        written.and_then(|()| fs::rename(&beside, &path)).map_err(failed)
    }

    /// Removes what a former report left in that folder and this one does not have.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn keep_only(&self, below: &str, names: &BTreeSet<PathBuf>) -> Result<(), String> {
        for entry in fs::read_dir(self.folder.join(below)).into_iter().flatten().flatten() {
            let name = Path::new(below).join(entry.file_name());
            if !names.contains(&name) && entry.path().is_file() {
                fs::remove_file(entry.path()).map_err(|error| format!("cannot remove {}: {error}", name.display()))?;
            }
        }
        Ok(())
    }
}

/// Where a cell lies, below the folder. An `@` would have to be escaped in links.
#[must_use]
pub fn place(key: Key, server: &str, round: u32) -> PathBuf {
    Path::new(RAW).join(folder_name(key)).join(format!("{server}-{}.json", round + 1))
}

/// A cell's name in paths.
#[must_use]
pub fn folder_name(key: Key) -> String {
    key.to_string().replace('@', "-at-").replace("-at-ramp", "-ramp")
}

/// The run as `loadgen --json` writes it, on one line, with one more member: `bench`.
fn cell_text(measured: &Measured) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    json::write(&measured.run, &mut bytes).map_err(|error| error.to_string())?;
    let mut value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    let facts = serde_json::to_value(&measured.facts).map_err(|error| error.to_string())?;
    if let Some(members) = value.as_object_mut() {
        members.insert(String::from("bench"), facts);
    }
    let mut text = serde_json::to_vec(&value).map_err(|error| error.to_string())?;
    text.push(b'\n');
    Ok(text)
}

#[derive(Deserialize)]
struct Beside {
    bench: Facts,
}

fn parse_cell(bytes: &[u8]) -> Result<Measured, String> {
    let Beside { bench } = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let run: Run = json::read(bytes)?;
    Ok(Measured { facts: bench, run })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    fn measured(cell: &str) -> Measured {
        let facts = Facts {
            cell: cell.parse().unwrap(),
            server: "nginx".into(),
            round: 2,
            note: Some("a note".into()),
            said: String::new(),
            offered: Some((1.5, 1.5)),
        };
        Measured { facts, run: samples::open() }
    }

    #[test]
    fn a_cell_is_read_back_as_it_was_and_is_a_run_for_others() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::create(folder.path()).unwrap();
        let one = measured("close@50");
        assert!(!store.has(one.facts.cell, "nginx", 2));
        assert!(store.cell(one.facts.cell, "nginx", 2).unwrap().is_none());
        store.keep(&one).unwrap();
        assert!(store.has(one.facts.cell, "nginx", 2));
        let back = store.cell(one.facts.cell, "nginx", 2).unwrap().unwrap();
        assert_eq!((&back.facts, &back.run), (&one.facts, &one.run));
        let path = folder.path().join("raw/close-at-50/nginx-3.json");
        assert_eq!(crate::report::read_run(&path).unwrap(), one.run);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_cell_that_is_cut_off_is_an_error_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::create(folder.path()).unwrap();
        let one = measured("close");
        store.keep(&one).unwrap();
        let path = folder.path().join(place(one.facts.cell, "nginx", 2));
        let text = fs::read(&path).unwrap();
        fs::write(&path, &text[..text.len() / 2]).unwrap();
        assert!(store.cell(one.facts.cell, "nginx", 2).unwrap_err().contains("nginx-3.json"));
    }

    #[test]
    fn what_is_there_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::create(folder.path()).unwrap();
        store.write(Path::new(SETTINGS), b"{}").unwrap();
        assert!(Store::create(folder.path()).unwrap_err().contains("--resume"));
        assert!(Store::open(folder.path()).unwrap_err().contains("not whole"));
        assert!(Store::open(&folder.path().join("none")).unwrap_err().contains("cannot read"));
    }
}
