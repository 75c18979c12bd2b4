//! `ucaffeine`: files and CGI programs over HTTP/1.1, one pinned thread, one io_uring and one listener per core.
//!
//! The layers, top-down; an arrow never points up (`tests/tidy.rs` holds that):
//!
//! - [`serve`] is the glue: it moves the bytes that `site` decided on.
//! - [`site`] is policy, pure: a request and the facts about a file become a reply.
//! - [`http`] is HTTP/1.1, pure: bytes become meaning and back. No I/O, no clock.
//! - [`rt`] is the runtime: tasks, timers, sockets, files, pipes and processes on one ring per core.
#![deny(unsafe_code)]

pub mod http;
pub mod rt;
pub mod serve;
pub mod site;
