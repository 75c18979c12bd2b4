//! Instances: servers with a name, which are started, watched and stopped by it. Ordinary blocking code, off the request path.
//!
//! - [`registry`] says who runs: a lock a name, held for life.
//! - [`daemon`] starts one in the background, [`stop`] sees one to its end, [`list`] and [`logs`] look.
//! - [`change`] has one read its configuration again, or another process take its place.
//! - [`control`] is a running server's ear, [`protocol`] what is said there.
//! - [`top`] watches one.
//! - [`deploy`] puts content into an instance's folder; [`releases`] keeps it there.

mod change;
mod control;
pub(crate) mod daemon;
mod deploy;
mod folders;
mod list;
mod logs;
mod name;
mod protocol;
mod registry;
mod releases;
mod stop;
mod top;

pub(crate) use change::{reload, upgrade};
pub(crate) use control::{Control, Desk};
pub(crate) use deploy::{Deploy, deploy, rollback};
pub(crate) use folders::Folders;
pub(crate) use list::text as list;
pub(crate) use logs::{reopen as reopen_log, reset as reset_log, set_level, show as show_log};
pub(crate) use name::Name;
pub(crate) use registry::{Lock, State};
pub(crate) use releases::{OURS, Releases};
pub(crate) use stop::stop;
pub(crate) use top::{Show, watch};

/// Why something could not be done, and the exit code for it.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) code: u8,
    /// For standard error. One line without its end; or, of a start in the background, all that it said.
    pub(crate) why: String,
}

/// It was understood, and could not be done.
pub(crate) const EXIT_FAILED: u8 = 1;

impl Failed {
    pub(crate) fn new(why: String) -> Failed {
        Failed { code: EXIT_FAILED, why }
    }
}
