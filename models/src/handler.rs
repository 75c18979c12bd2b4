//! Starts a program whose standard output is the client's socket: it writes the whole response, the server is out of the
//! way, and the connection ends with it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A program and what it is told.
pub(crate) struct Call {
    program: PathBuf,
    env: Vec<(OsString, OsString)>,
    has_body: bool,
    /// The request's body, read whole before the program starts.
    pub(crate) body: Vec<u8>,
}

impl Call {
    pub(crate) fn new(program: &Path, has_body: bool) -> Call {
        Call { program: program.to_owned(), env: Vec::new(), has_body, body: Vec::new() }
    }

    pub(crate) fn put(&mut self, name: &[u8], value: &[u8]) {
        self.env.push((OsStr::from_bytes(name).to_owned(), OsStr::from_bytes(value).to_owned()));
    }

    /// Starts it. The caller waits for the child or leaves it to the kernel.
    ///
    /// # Errors
    /// What `execve(2)` says; no file for the body.
    pub(crate) fn start(self, client: OwnedFd) -> io::Result<Child> {
        // Scripts write to a socket that blocks; that flag is the socket's, not the descriptor's.
        rustix::io::ioctl_fionbio(&client, false)?;
        let mut command = Command::new(&self.program);
        command.env_clear().envs(self.env).stdout(Stdio::from(client)).stderr(Stdio::inherit());
        if let Some(folder) = self.program.parent() {
            command.current_dir(folder);
        }
        match self.has_body {
            false => command.stdin(Stdio::null()),
            true => {
                // A chunked body has its length only now.
                command.env("CONTENT_LENGTH", self.body.len().to_string());
                command.stdin(Stdio::from(in_memory(&self.body)?))
            }
        };
        command.spawn().map_err(|error| {
            eprintln!("{}: {error}", self.program.display());
            error
        })
    }
}

fn in_memory(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create("body", rustix::fs::MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}
