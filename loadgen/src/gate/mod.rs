//! The gate: tells a regression from noise, and is not easily alarmed. What it does and how well: docs/gate.md.
//!
//! [`stats`], [`metric`], [`verdict`] and [`replay`] only decide; the rest measures and reports.

pub mod calibrate;
pub mod cli;
pub mod compare;
pub mod margins;
pub mod metric;
pub mod recording;
pub mod server;
pub mod stats;
pub mod trial;
pub mod verdict;
