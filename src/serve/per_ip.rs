//! How many connections each address has, over all cores: touched when one is accepted and when it closes, never by a request.
//!
//! A table of fixed size, in which an address has a counter in each of two rows, found by a hash with keys that nobody knows.
//! Addresses may share a counter; an address is refused when both of its own are full. So none ever has more than it may, and
//! one that has fewer is refused only if both rows put it beside others that fill them: where k addresses hold as many as they
//! may, by a chance of about (k / 65536)² (docs/decisions/0024-who-the-client-is.md).

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// Of each row: 256 KiB.
const COUNTERS: usize = 1 << 16;

/// The counters of all cores.
pub(super) struct PerIp {
    most: u32,
    keys: RandomState,
    rows: [Box<[AtomicU32]>; 2],
}

/// One connection of an address; given back when dropped.
pub(super) struct Place {
    table: Arc<PerIp>,
    at: [usize; 2],
}

impl PerIp {
    /// A table in which each address may have so many.
    pub(super) fn new(most: u32) -> PerIp {
        let row = || (0..COUNTERS).map(|_| AtomicU32::new(0)).collect();
        PerIp { most, keys: RandomState::new(), rows: [row(), row()] }
    }

    /// One more of this address, unless it has as many as it may.
    pub(super) fn place(self: &Arc<PerIp>, addr: IpAddr) -> Option<Place> {
        let place = Place { table: Arc::clone(self), at: self.find(addr) };
        place.counters().for_each(|counter| _ = counter.fetch_add(1, SeqCst));
        // Looked at after both have counted: of several that come at once, the last one sees all the others.
        let has_room = place.counters().any(|counter| counter.load(SeqCst) <= self.most);
        has_room.then_some(place)
    }

    /// An IPv6 client has a whole /64 to itself (RFC 6177).
    fn find(&self, addr: IpAddr) -> [usize; 2] {
        let network: u64 = match addr.to_canonical() {
            IpAddr::V4(v4) => v4.to_bits().into(),
            IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64,
        };
        let of_row = |row: u8| self.keys.hash_one((row, addr.to_canonical().is_ipv4(), network)) as usize % COUNTERS;
        [of_row(0), of_row(1)]
    }
}

impl Place {
    fn counters(&self) -> impl Iterator<Item = &AtomicU32> {
        self.table.rows.iter().zip(self.at).map(|(row, at)| &row[at])
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.counters().for_each(|counter| _ = counter.fetch_sub(1, SeqCst));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_address_has_so_many_and_gets_them_back() {
        let table = Arc::new(PerIp::new(3));
        let held: Vec<Place> = (0..3).map(|_| table.place(addr("192.0.2.1")).unwrap()).collect();
        assert!(table.place(addr("192.0.2.1")).is_none());
        assert!(table.place(addr("::ffff:192.0.2.1")).is_none(), "the same in other clothes");
        assert!(table.place(addr("192.0.2.2")).is_some());
        drop(held);
        assert!(table.place(addr("192.0.2.1")).is_some());
        assert!(table.rows.iter().flatten().all(|counter| counter.load(SeqCst) == 0), "nothing is left");
    }

    #[test]
    fn the_addresses_of_a_64_count_together() {
        let table = Arc::new(PerIp::new(1));
        let _one = table.place(addr("2001:db8::1")).unwrap();
        assert!(table.place(addr("2001:db8::ffff:1")).is_none());
        assert!(table.place(addr("2001:db8:0:1::1")).is_some());
        assert!(table.place(addr("::1")).is_some());
    }

    /// Many cores take and give at once: at no moment does an address have more than it may, and in the end it has none.
    #[test]
    fn no_race_lets_one_more_in() {
        const MOST: u32 = 5;
        let table = Arc::new(PerIp::new(MOST));
        let inside = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..5_000 {
                        let places: Vec<Place> = (0..3)
                            .filter_map(|_| table.place(addr("192.0.2.1")))
                            .inspect(|_| _ = inside.fetch_add(1, SeqCst))
                            .collect();
                        assert!(inside.load(SeqCst) <= MOST);
                        inside.fetch_sub(places.len() as u32, SeqCst);
                        drop(places);
                    }
                });
            }
        });
        assert!(table.rows.iter().flatten().all(|counter| counter.load(SeqCst) == 0));
    }
}
