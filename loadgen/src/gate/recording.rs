//! Recorded A/A pairs: the same program on both sides, so that whatever differs is noise. Margins are made from them, and the tests
//! replay them.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::trial::Pair;
use crate::record::Host;

/// The name and number of the schema.
pub const SCHEMA: &str = "loadgen-aa/1";

/// Pairs of one machine and one load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recording {
    /// [`SCHEMA`].
    pub schema: String,
    /// The load.
    pub scenario: String,
    /// The machine.
    pub host: Host,
    /// Requests a second of each trial.
    pub rate: f64,
    /// What was measured of each, in milliseconds.
    pub trial_ms: u64,
    /// What the order inside the pairs was made from.
    pub seed: u64,
    /// The pairs.
    pub pairs: Vec<Pair>,
}

impl Recording {
    /// Reads one.
    ///
    /// # Errors
    /// A line that says what is wrong, with the file's name.
    pub fn read(path: &Path) -> Result<Recording, String> {
        let at = |why: String| format!("{}: {why}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| at(error.to_string()))?;
        let recording: Recording = serde_json::from_str(&text).map_err(|error| at(error.to_string()))?;
        match recording.schema == SCHEMA {
            true => Ok(recording),
            false => Err(at(format!("its schema is `{}`, and this program reads `{SCHEMA}`", recording.schema))),
        }
    }

    /// Writes it, a pair a line.
    ///
    /// # Errors
    /// A line that says what is wrong, with the file's name.
    pub fn write(&self, path: &Path) -> Result<(), String> {
        let at = |why: String| format!("{}: {why}", path.display());
        let head = serde_json::to_string(&Recording { pairs: Vec::new(), ..self.clone() });
        let pairs = self.pairs.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>();
        let (head, pairs) =
            (head.map_err(|error| at(error.to_string()))?, pairs.map_err(|error| at(error.to_string()))?);
        let text = head.replacen("\"pairs\":[]", &format!("\"pairs\":[\n{}\n]", pairs.join(",\n")), 1);
        // In one step: a recording that goes on must not be lost half-way.
        let new = path.with_extension("new");
        let written = std::fs::write(&new, text + "\n").and_then(|()| std::fs::rename(&new, path));
        written.map_err(|error| at(error.to_string()))
    }
}
