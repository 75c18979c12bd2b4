//! Who listens on an address that we cannot have: found by the socket's inode in /proc, as far as we may look.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use super::options::Listen;

/// "NAME (pid N)", if it can be known.
pub(super) fn of(listen: &Listen) -> Option<String> {
    let inode = match listen {
        Listen::Tcp(addr) => tcp_inode(*addr)?,
        Listen::Unix(path) => unix_inode(path)?,
    };
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes.filter(|process| has_fd(&process.path(), &wanted)).find_map(|process| {
        let name = fs::read_to_string(process.path().join("comm")).ok()?;
        Some(format!("{} (pid {})", name.trim(), process.file_name().to_string_lossy()))
    })
}

fn has_fd(process: &Path, wanted: &str) -> bool {
    let Ok(fds) = fs::read_dir(process.join("fd")) else { return false };
    fds.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target.as_os_str() == wanted))
}

/// The inode of whoever listens on that port, on this address or on all: /proc/net/tcp, proc(5).
fn tcp_inode(addr: SocketAddr) -> Option<String> {
    const LISTENING: &str = "0A";
    let port = format!(":{:04X}", addr.port());
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].into_iter().filter_map(|path| fs::read_to_string(path).ok());
    tables.collect::<String>().lines().find_map(|line| {
        let mut columns = line.split_whitespace();
        let local = columns.nth(1)?;
        let state = columns.nth(1)?;
        (local.ends_with(&port) && state == LISTENING).then(|| columns.nth(5).map(str::to_owned))?
    })
}

fn unix_inode(path: &Path) -> Option<String> {
    let table = fs::read_to_string("/proc/net/unix").ok()?;
    let path = path.to_str()?;
    let line = table.lines().find(|line| line.ends_with(path) && line.split_whitespace().nth(5) == Some("01"))?;
    line.split_whitespace().nth(6).map(str::to_owned)
}
