//! Whose word about a client is taken: the networks of the proxies in front of this server.

use std::net::IpAddr;

/// Addresses that begin with the same bits: `10.0.0.0/8`, `2001:db8::/32`, or one of them alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    base: IpAddr,
    prefix_bits: u8,
}

/// The peers whose word is taken. By default it is nobody's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trusted {
    /// Peers with an address.
    pub networks: Vec<Network>,
    /// Peers on Unix sockets, which have none: who may connect there is a matter of the file's permissions.
    pub unix: bool,
}

impl Trusted {
    /// Whether nobody is trusted.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && !self.unix
    }

    /// Whether a peer is; `None` is one on a Unix socket.
    pub fn has(&self, peer: Option<IpAddr>) -> bool {
        match peer {
            Some(addr) => self.networks.iter().any(|network| network.has(addr)),
            None => self.unix,
        }
    }
}

impl Network {
    /// Reads `ADDR` or `ADDR/BITS`.
    ///
    /// # Errors
    /// What would have been right.
    pub fn parse(text: &str) -> Result<Network, String> {
        let (addr, bits) = text.split_once('/').map_or((text, None), |(addr, bits)| (addr, Some(bits)));
        let base: IpAddr =
            addr.parse().map_err(|_| String::from("not a network; write 10.0.0.0/8, 2001:db8::/32 or unix"))?;
        let bits_max: u8 = if base.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match bits {
            None => bits_max,
            Some(bits) => match bits.parse() {
                Ok(number @ 0..) if number <= bits_max && bits.bytes().all(|byte| byte.is_ascii_digit()) => number,
                _ => return Err(format!("not a prefix length; 0 to {bits_max}")),
            },
        };
        // A dual-stack balancer writes the same client in either form.
        if matches!(base, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
            return Err(String::from("an IPv4 address in IPv6 clothes; write it as IPv4"));
        }
        let network = Network { base: first_of(base, prefix_bits), prefix_bits };
        match network.base == base {
            true => Ok(network),
            false => Err(format!("the address has bits beyond the prefix; write {network}")),
        }
    }

    /// Whether an address is one of them. IPv4 within IPv6 (`::ffff:192.0.2.1`) is IPv4.
    pub fn has(&self, addr: IpAddr) -> bool {
        let addr = addr.to_canonical();
        addr.is_ipv4() == self.base.is_ipv4() && first_of(addr, self.prefix_bits) == self.base
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix_bits)
    }
}

/// The address with every bit after the prefix cleared.
fn first_of(addr: IpAddr, prefix_bits: u8) -> IpAddr {
    let kept = u32::from(prefix_bits);
    match addr {
        IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(32 - kept.min(32)).unwrap_or(0)).into()),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & u128::MAX.checked_shl(128 - kept.min(128)).unwrap_or(0)).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_its_addresses_and_no_others() {
        let table: [(&str, &[&str], &[&str]); 8] = [
            (
                "10.0.0.0/8",
                &["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"],
                &["11.0.0.0", "9.255.255.255", "::a00:0"],
            ),
            ("192.0.2.7", &["192.0.2.7"], &["192.0.2.6", "192.0.2.8"]),
            ("192.0.2.6/31", &["192.0.2.6", "192.0.2.7"], &["192.0.2.5", "192.0.2.8"]),
            ("0.0.0.0/0", &["0.0.0.0", "255.255.255.255"], &["::", "2001:db8::1"]),
            ("::/0", &["::", "2001:db8::1"], &["0.0.0.0", "::ffff:1.2.3.4"]),
            ("2001:db8::/33", &["2001:db8::1", "2001:db8:7fff::"], &["2001:db8:8000::", "2001:db9::"]),
            ("::1", &["::1"], &["::", "127.0.0.1"]),
            ("fe80::/10", &["fe80::1", "febf::1"], &["fec0::1"]),
        ];
        for (text, inside, outside) in table {
            let network = Network::parse(text).unwrap();
            for addr in inside {
                assert!(network.has(addr.parse().unwrap()), "{text} has {addr}");
            }
            for addr in outside {
                assert!(!network.has(addr.parse().unwrap()), "{text} has no {addr}");
            }
            assert_eq!(Network::parse(&network.to_string()), Ok(network));
        }
    }

    #[test]
    fn anything_else_has_a_cause() {
        let table = [
            ("", "not a network"),
            ("localhost", "not a network"),
            ("10.0.0", "not a network"),
            ("[::1]", "not a network"),
            ("10.0.0.0/33", "0 to 32"),
            ("10.0.0.0/", "0 to 32"),
            ("10.0.0.0/+8", "0 to 32"),
            ("::/129", "0 to 128"),
            ("10.0.0.1/8", "write 10.0.0.0/8"),
            ("2001:db8::1/64", "write 2001:db8::/64"),
            ("::ffff:10.0.0.0/104", "write it as IPv4"),
        ];
        for (text, says) in table {
            let error = Network::parse(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn nobody_is_trusted_by_default() {
        let nobody = Trusted::default();
        assert!(nobody.is_empty() && !nobody.has(None) && !nobody.has(Some("127.0.0.1".parse().unwrap())));
        let unix = Trusted { unix: true, ..Trusted::default() };
        assert!(unix.has(None) && !unix.has(Some("127.0.0.1".parse().unwrap())) && !unix.is_empty());
    }
}
