//! The kernel, made safe: one file per kernel noun.

pub mod cgroup;
pub mod cpu;
