//! The runtime: tasks, timers, sockets, files, pipes and processes on one ring per core.

pub mod spawner;
pub mod sys;
