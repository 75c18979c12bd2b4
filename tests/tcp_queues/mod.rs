//! What TCP holds of a connection, by /proc/net/tcp (proc_pid_net(5)). For tests in which somebody does not read.

use std::net::SocketAddr;

/// Bytes at the end `from` of an IPv4 connection to `to`: sent and not acknowledged (or not sent yet), and received and not read.
pub fn queues(from: SocketAddr, to: SocketAddr) -> [usize; 2] {
    let [from, to] = [from, to].map(|address| match address {
        SocketAddr::V4(v4) => format!("{:08X}:{:04X}", u32::from_ne_bytes(v4.ip().octets()), v4.port()),
        SocketAddr::V6(_) => panic!("an IPv4 socket"),
    });
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the table of sockets");
    let row = table.lines().find_map(|row| row.split_once(&format!("{from} {to} "))).expect("the connection").1;
    // The state, and then both queues.
    let (sent, received) = row.split_whitespace().nth(1).and_then(|both| both.split_once(':')).expect("two queues");
    [sent, received].map(|hex| usize::from_str_radix(hex, 16).expect("a hexadecimal number"))
}
