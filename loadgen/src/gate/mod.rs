//! The gate: tells a regression from noise, and is not easily alarmed. What it does and how well: docs/gate.md.
//!
//! [`stats`], [`metric`], [`verdict`] and [`replay`] only decide; the rest measures and reports.

pub mod baseline;
pub mod build;
pub mod calibrate;
pub mod cli;
pub mod compare;
pub mod counters;
pub mod history;
pub mod margins;
pub mod metric;
pub mod recording;
pub mod replay;
pub mod report;
pub mod selftest;
pub mod server;
pub mod stats;
pub mod trial;
pub mod verdict;
