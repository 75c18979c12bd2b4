//! The kernel, one file per noun: the only place (with `rt::op` and `rt::waker`) where `unsafe` is allowed.

pub(crate) mod buf_ring;
pub(crate) mod clock;
pub(crate) mod file;
pub(crate) mod io_buf;
pub(crate) mod lent;
pub(crate) mod msg;
pub(crate) mod ring;
pub(crate) mod socket;
pub(crate) mod sqe;
