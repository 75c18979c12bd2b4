//! Addresses to come from: one destination gives each of them a port range of its own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// More than that brings nothing: 64 addresses have 1.8 million ports.
const ADDRESSES_MAX: u64 = 4096;

/// A range of addresses, as in `127.0.0.1/28`: those from the given one to the end of its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sources {
    first: IpAddr,
    count: u64,
}

impl Sources {
    /// `count` addresses from 127.0.0.1 on.
    #[must_use]
    pub fn of_loopback(count: u64) -> Sources {
        Sources { first: IpAddr::V4(Ipv4Addr::LOCALHOST), count: count.clamp(1, ADDRESSES_MAX) }
    }

    /// The addresses, `most` at most.
    #[must_use]
    pub fn list(&self, most: u64) -> Vec<IpAddr> {
        let after = |number: u64| match self.first {
            IpAddr::V4(first) => IpAddr::V4(Ipv4Addr::from(u32::from(first).wrapping_add(number as u32))),
            IpAddr::V6(first) => IpAddr::V6(Ipv6Addr::from(u128::from(first).wrapping_add(u128::from(number)))),
        };
        (0..self.count.min(most)).map(after).collect()
    }
}

impl FromStr for Sources {
    type Err = String;

    fn from_str(text: &str) -> Result<Sources, String> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let first: IpAddr = address.parse().map_err(|_| format!("`{address}` is no IP address"))?;
        let (value, bits) = match first {
            IpAddr::V4(first) => (u128::from(u32::from(first)), 32),
            IpAddr::V6(first) => (u128::from(first), 128),
        };
        let prefix = match prefix.map(str::parse::<u32>) {
            None => bits,
            Some(Ok(prefix)) if prefix <= bits => prefix,
            Some(_) => return Err(format!("`{text}`: the prefix is a number up to {bits}")),
        };
        // Of a network itself (127.0.0.0/8) the first address is no host's.
        let host_bits = bits - prefix;
        let offset = if host_bits == 0 { 0 } else { value & (u128::MAX >> (128 - host_bits)) };
        let size = 1u128.checked_shl(host_bits).unwrap_or(u128::MAX);
        let skipped = u128::from(offset == 0 && host_bits > 1);
        let count = u64::try_from(size - offset - skipped).unwrap_or(u64::MAX).min(ADDRESSES_MAX);
        let first = match first {
            IpAddr::V4(first) => IpAddr::V4(Ipv4Addr::from(u32::from(first) + skipped as u32)),
            IpAddr::V6(first) => IpAddr::V6(Ipv6Addr::from(u128::from(first) + skipped)),
        };
        Ok(Sources { first, count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_begin_where_they_say_and_end_with_their_network() {
        let list = |text: &str| {
            let list = text.parse::<Sources>().unwrap().list(u64::MAX);
            (list.len(), list[0].to_string(), list[list.len() - 1].to_string())
        };
        assert_eq!(list("127.0.0.1"), (1, "127.0.0.1".into(), "127.0.0.1".into()));
        assert_eq!(list("127.0.0.1/28"), (15, "127.0.0.1".into(), "127.0.0.15".into()));
        assert_eq!(list("127.0.0.0/30"), (3, "127.0.0.1".into(), "127.0.0.3".into()));
        assert_eq!(list("127.0.0.0/8"), (4096, "127.0.0.1".into(), "127.0.16.0".into()));
        assert_eq!(list("::1/128"), (1, "::1".into(), "::1".into()));
        assert_eq!(list("0.0.0.0/0").0, 4096);
        assert_eq!(list("::/0").0, 4096);
        assert_eq!(Sources::of_loopback(3).list(2).len(), 2);
        for text in ["x", "127.0.0.1/33", "127.0.0.1/x", "127.0.0.1/"] {
            assert!(text.parse::<Sources>().is_err(), "{text}");
        }
    }
}
