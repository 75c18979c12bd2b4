//! What scripts are bound by: from the options to what the spawner is told.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::rt::confine::groups::Groups;
use crate::rt::confine::{Confinement, User};
use crate::rt::process::{Command, PipeReader};

use super::super::options::{Cgroup, ScriptBounds};

/// Ready to be used for every script.
pub(in crate::serve) struct Bounds {
    confinement: Confinement,
    helper: PathBuf,
    groups: Option<Groups>,
}

/// What was asked for so far, each tried once: a program is started for that.
#[derive(Default)]
pub(in crate::serve) struct AllBounds(Mutex<Vec<(ScriptBounds, Option<Arc<Bounds>>)>>);

impl AllBounds {
    /// As [`Bounds::new`], which is asked only if nobody has wanted the same before. Blocking.
    pub(in crate::serve) fn of(&self, wanted: &ScriptBounds) -> Result<Option<Arc<Bounds>>, String> {
        let mut tried = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bounds)) = tried.iter().find(|(other, _)| other == wanted) {
            return Ok(bounds.clone());
        }
        let bounds = Bounds::new(wanted)?.map(Arc::new);
        tried.push((wanted.clone(), bounds.clone()));
        Ok(bounds)
    }

    /// At the end, when no script runs any more: control groups are removed by whoever is the last to need them.
    pub(in crate::serve) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Bounds {
    /// Nothing, if nothing was asked for. Blocking.
    ///
    /// # Errors
    /// One line: what is not possible here, and why. It has been tried.
    fn new(wanted: &ScriptBounds) -> Result<Option<Bounds>, String> {
        let confinement = confinement(wanted)?;
        if confinement.is_empty() && wanted.cgroup == Cgroup::Off {
            return Ok(None);
        }
        let helper = wanted.helper.clone().ok_or("no helper was named that could bind scripts")?;
        let groups = groups(&wanted.cgroup)?;
        let probed = groups.as_ref().map(|groups| groups.of("probe"));
        match confinement.probe(&helper, probed.as_deref()) {
            Ok(()) => Ok(Some(Bounds { confinement, helper, groups })),
            Err(why) if wanted.cgroup == Cgroup::Auto && groups.is_some() => {
                confinement.probe(&helper, None)?;
                tracing::warn!("scripts get no control groups: {why}");
                Ok((!confinement.is_empty()).then_some(Bounds { confinement, helper, groups: None }))
            }
            Err(why) => Err(why),
        }
    }

    /// Where the control group of a request's script will be.
    pub(super) fn group(&self, request: &str) -> Option<PathBuf> {
        self.groups.as_ref().map(|groups| groups.of(request))
    }

    /// Binds one script. What the pipe says has to be waited for.
    pub(super) fn bind(&self, group: Option<&Path>, command: &mut Command) -> std::io::Result<PipeReader> {
        self.confinement.wrap(&self.helper, group, command)
    }
}

fn confinement(wanted: &ScriptBounds) -> Result<Confinement, String> {
    let user = wanted.user.as_deref().map(User::look_up).transpose();
    Ok(Confinement {
        cpu_s_max: wanted.cpu_ms_max.map(|ms| ms.div_ceil(1000)),
        address_space_bytes_max: wanted.address_space_bytes_max,
        open_files_max: wanted.open_files_max,
        processes_max: wanted.processes_max,
        file_bytes_max: wanted.file_bytes_max,
        core_bytes_max: wanted.core_bytes_max,
        nice: wanted.nice.map(i32::from),
        umask: wanted.umask.map(u32::from),
        user: user.map_err(|why| format!("cgi-user: {why}"))?,
    })
}

fn groups(wanted: &Cgroup) -> Result<Option<Groups>, String> {
    let (parent, must) = match wanted {
        Cgroup::Off => return Ok(None),
        Cgroup::Auto => (None, false),
        Cgroup::Below(parent) => (Some(parent.as_path()), true),
    };
    match Groups::new(parent) {
        Ok(groups) => Ok(Some(groups)),
        Err(error) if must => Err(format!("cgi-cgroup: {}: {error}", parent.unwrap_or(Path::new("")).display())),
        Err(error) => {
            tracing::warn!(%error, "scripts get no control groups");
            Ok(None)
        }
    }
}
