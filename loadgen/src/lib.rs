//! `loadgen`: an io_uring load generator for HTTP/1.1 whose numbers can be trusted.
//!
//! It uses [`ucaffeine::rt`] for the ring, and its own reader of responses, so that a bug of the server cannot hide
//! behind the same bug here.
#![forbid(unsafe_code)]

pub mod bench;
pub mod cli;
pub mod engine;
pub mod gate;
pub mod plan;
pub mod prepare;
pub mod reader;
pub mod record;
pub mod report;
pub mod rng;
pub mod scenario;
pub mod schedule;
pub mod search;
pub mod selfcheck;
pub mod session;
pub mod sink;
pub mod sources;
pub mod target;
pub mod traffic;
pub mod verdict;
pub mod watch;
