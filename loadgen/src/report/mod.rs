//! What people and programs read of a run. Everything here is made from a [`Run`](crate::record::Run) alone.

pub mod units;
