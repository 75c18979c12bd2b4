//! What people and programs read of a run. Everything here is made from a [`Run`](crate::record::Run) alone.

pub mod csv;
pub mod hgrm;
pub mod hlog;
pub mod json;
pub mod merge;
mod spectrum;
mod style;
mod summary;
pub mod svg;
pub mod units;

pub use style::{Colour, Style};
pub use summary::summary;

#[cfg(test)]
pub(crate) mod samples;
