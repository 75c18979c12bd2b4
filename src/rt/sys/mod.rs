//! The unsafe fence: one file per kernel noun.
#![allow(unsafe_code)]

pub mod pipe;
pub mod sched;
pub mod signal;
pub mod spawn;
