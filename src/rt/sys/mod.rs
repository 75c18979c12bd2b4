//! The kernel, one file per noun: the only place (with `rt::op` and `rt::waker`) where `unsafe` is allowed.
#![allow(unsafe_code)]

pub(crate) mod buf_ring;
pub mod cgroup;
pub(crate) mod clock;
pub mod cpu;
pub(crate) mod file;
pub(crate) mod io_buf;
pub(crate) mod lent;
pub mod msg;
#[cfg(any(test, feature = "sim"))]
pub(crate) mod perform;
pub mod pipe;
pub(crate) mod read_pool;
pub(crate) mod ring;
pub mod sched;
pub mod signal;
pub(crate) mod socket;
pub mod spawn;
pub(crate) mod sqe;
mod standing;
pub(crate) mod user;
