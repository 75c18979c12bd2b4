//! What people and programs read of a run. Everything here is made from a [`Run`](crate::record::Run) alone.

mod commands;
pub mod csv;
pub mod diff;
pub mod hgrm;
pub mod hlog;
pub mod json;
pub mod merge;
pub mod progress;
mod show;
pub(crate) mod spectrum;
mod style;
mod summary;
pub mod svg;
pub mod units;

pub use commands::{Outputs, diff, merge, read_run, save, show};
pub use show::side_by_side;
pub use style::{Colour, Style};
pub use summary::summary;

#[cfg(test)]
pub(crate) mod samples;

/// The text that is committed; `UPDATE_TRANSCRIPTS=1 cargo test` writes it anew, to be read before it is committed.
#[cfg(test)]
#[track_caller]
fn transcript(name: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts").join(name);
    if std::env::var_os("UPDATE_TRANSCRIPTS").is_some() {
        std::fs::write(&path, text).expect("written");
    }
    let expected = std::fs::read_to_string(&path).expect("a transcript");
    assert_eq!(text, expected, "{name} differs; UPDATE_TRANSCRIPTS=1 writes it anew");
}
