//! Who listens on an address that we cannot have: found by the socket's inode in /proc, as far as we may look.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
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

/// The inode of whoever listens on that port: on this very address, or else on all.
fn tcp_inode(addr: SocketAddr) -> Option<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].into_iter().filter_map(|path| fs::read_to_string(path).ok());
    inode_in(&tables.collect::<String>(), addr)
}

/// The rows of /proc/net/tcp (proc_pid_net(5)).
fn inode_in(table: &str, addr: SocketAddr) -> Option<String> {
    const LISTENING: &str = "0A";
    let listeners = table.lines().filter_map(|line| {
        let mut columns = line.split_whitespace();
        let local = local_of(columns.nth(1)?).filter(|local| local.port() == addr.port())?;
        let state = columns.nth(1)?;
        let inode = columns.nth(5)?;
        (state == LISTENING).then_some((local.ip(), inode))
    });
    let in_the_way = listeners.filter(|(ip, _)| *ip == addr.ip() || ip.is_unspecified() || addr.ip().is_unspecified());
    in_the_way.min_by_key(|(ip, _)| *ip != addr.ip()).map(|(_, inode)| inode.to_owned())
}

/// `0100007F:1F90`: the address in words of 32 bits, each as a number of this machine; then the port.
fn local_of(text: &str) -> Option<SocketAddr> {
    let (addr, port) = text.split_once(':')?;
    let word = |at: usize| Some(u32::from_str_radix(addr.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    let ip = match addr.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(words.concat()).ok()?))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

fn unix_inode(path: &Path) -> Option<String> {
    let table = fs::read_to_string("/proc/net/unix").ok()?;
    let end = format!(" {}", path.to_str()?);
    let line = table.lines().find(|line| line.ends_with(&end) && line.split_whitespace().nth(5) == Some("01"))?;
    line.split_whitespace().nth(6).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_one_in_the_way_is_found() {
        let row = |local: &str, state: &str, inode: u32| {
            format!(
                "   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  0  0 {inode} 1 0 100 0 0 10 0\n"
            )
        };
        let table = [
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
                .to_owned(),
            row("0100007F:1F90", "01", 1),
            row("0200007F:1F90", "0A", 2),
            row("0100007F:1F90", "0A", 3),
            row("00000000:1F91", "0A", 4),
            row("00000000000000000000000001000000:1F90", "0A", 5),
            row("00000000000000000000000000000000:1F92", "0A", 6),
        ]
        .concat();
        for (addr, inode) in [
            ("127.0.0.1:8080", Some("3")),
            ("127.0.0.2:8080", Some("2")),
            ("127.0.0.3:8080", None),
            ("0.0.0.0:8080", Some("2")),
            ("127.0.0.1:8081", Some("4")),
            ("[::1]:8080", Some("5")),
            ("0.0.0.0:8082", Some("6")),
            ("127.0.0.1:8083", None),
        ] {
            assert_eq!(inode_in(&table, addr.parse().unwrap()).as_deref(), inode, "{addr}");
        }
    }
}
