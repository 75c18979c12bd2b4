//! What is made of results: tables, pictures, and a README that says what they teach. Made from files alone.

mod lessons;
mod lines;
mod pictures;
mod readme;
mod sheet;
mod tables;
mod text;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::cell::Drive;
use super::results::Results;
use super::store::{Store, folder_name};
use crate::report::hgrm;

/// Where pictures lie, below the folder of results.
const PICTURES: &str = "pictures";

/// Writes all of it.
///
/// # Errors
/// What could not be written.
pub fn write(results: &Results, store: &Store) -> Result<(), String> {
    let mut pictures = Vec::new();
    for (name, svg) in pictures::all(results) {
        let path = format!("{PICTURES}/{name}");
        store.write(Path::new(&path), svg.as_bytes())?;
        pictures.push(path);
    }
    // A comparison that went on may have other pictures than it had.
    let kept: BTreeSet<PathBuf> = pictures.iter().map(PathBuf::from).collect();
    store.keep_only(PICTURES, &kept)?;
    for (key, subject, row) in results.rows().filter(|(key, ..)| key.drive != Drive::Ramp) {
        let Some(spectrum) = row.spectrum.as_ref().filter(|hist| !hist.is_empty()) else { continue };
        let path = Path::new("hgrm").join(folder_name(key)).join(format!("{}.hgrm", results.name(subject)));
        store.write(&path, hgrm::write(spectrum).as_bytes())?;
    }
    for (name, text) in [
        ("tables.md", tables::all(results)),
        ("screen.md", tables::screen(results)),
        ("figures.csv", tables::figures_csv(results)),
        ("rounds.csv", tables::rounds_csv(results)),
        ("README.md", readme::write(results, &pictures)),
    ] {
        store.write(Path::new(name), text.as_bytes())?;
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::cell::Key;
    use super::super::results::tests::{run, settings};
    use super::*;

    /// Four servers in three cells over five rounds, one of them always a little dearer than the one before.
    pub(super) fn sample() -> Results {
        let mut settings =
            settings(&["reactor-pool", "monoio", "ucaffeine", "floor"], &["keepalive-64", "close", "cgi-hello"], 5);
        settings.rates = Some(super::super::settings::Rates {
            slowest: [("keepalive-64", 40_000.0), ("close", 10_000.0), ("cgi-hello", 1_000.0)]
                .map(|(cell, rate)| (cell.to_owned(), (rate, "reactor-pool".to_owned())))
                .into(),
            own: ["reactor-pool", "monoio", "ucaffeine", "floor"].map(|name| (name.to_owned(), 20_000.0)).into(),
        });
        let rates = settings.rates.clone();
        let steps = [settings.first_part(), settings.second_part()].concat();
        let mut results = Results::empty(settings);
        for step in steps {
            let name = results.name(step.subject).to_owned();
            let dearer = 4 - step.subject as u64;
            let run = run(30_000 + 1_000 * u64::from(step.round), 3_000 + 1_000 * dearer, dearer as f64);
            let note = (name == "reactor-pool").then(|| String::from("a connection per request: it is an example"));
            let offered = rates.as_ref().and_then(|rates| rates.offered(step.key, &name));
            results.add(step.key, step.subject, step.round, &run, "", note, offered).unwrap();
        }
        results
    }

    #[test]
    fn everything_is_written_and_can_be_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::create(folder.path()).unwrap();
        let results = sample();
        write(&results, &store).unwrap();
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        let readme = read("README.md");
        for name in ["tables.md", "figures.csv", "rounds.csv", "hgrm/close-at-50/ucaffeine.hgrm", "pictures/knee.svg"] {
            assert!(read(name).len() > 200, "{name}");
        }
        // Every picture that the text shows is there.
        for picture in
            readme.split("](").skip(1).filter_map(|rest| rest.split(')').next()).filter(|link| link.ends_with(".svg"))
        {
            assert!(folder.path().join(picture).exists(), "{picture}");
        }
        store.write(Path::new("pictures/old.svg"), b"old").unwrap();
        write(&results, &store).unwrap();
        assert_eq!(read("README.md"), readme, "the same files make the same text");
        assert!(!folder.path().join("pictures/old.svg").exists());
        assert!(results.keys().contains(&"close@50".parse::<Key>().unwrap()));
    }
}
