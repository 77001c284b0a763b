//! What one client address may have: connections at a time, and new ones per second. Judged after accept(2) and before
//! anything is read.

use ahash::AHashMap;
use hawser_protocol::server::Rate;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Shards of the table; a lock is held for one look-up, twice per connection's life.
const SHARDS: usize = 64;
/// A shard is swept of what has expired at most so often, milliseconds.
const SWEEP_MS: u64 = 5_000;

/// Bounds of one address.
#[derive(Debug, Clone, Copy)]
pub struct AddressLimits {
    /// Connections at a time; 0: no bound.
    pub connections_max: u32,
    /// New connections per second, sustained; 0: no bound.
    pub per_second: u32,
    /// New connections in a burst.
    pub burst: u32,
    /// Loopback addresses are bounded too.
    pub loopback: bool,
    /// Addresses known at a time; one more is let in uncounted. Some 24 bytes each.
    pub addresses_max: usize,
}

/// Why an address gets no connection now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressRefusal {
    /// It has as many as it may.
    Connections,
    /// It opens them too fast.
    Rate,
}

#[derive(Debug, Default)]
struct Known {
    connections: u32,
    rate: Rate,
}

#[derive(Debug, Default)]
struct Shard {
    known: AHashMap<u64, Known>,
    swept_ms: u64,
}

/// All addresses of a node, over all cores. An IPv4 address, or the /64 of an IPv6 address: one customer has a whole /64.
#[derive(Debug)]
pub struct AddressTable {
    shards: [Mutex<Shard>; SHARDS],
    limits: AddressLimits,
}

impl AddressTable {
    /// An empty table.
    #[must_use]
    pub fn new(limits: AddressLimits) -> Arc<Self> {
        Arc::new(Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            limits,
        })
    }

    /// Counts a connection of `ip` until the permit is dropped.
    ///
    /// # Errors
    /// The address has too many, or opens them too fast.
    pub fn enter(
        self: &Arc<Self>,
        ip: IpAddr,
        now_ms: u64,
    ) -> Result<AddressPermit, AddressRefusal> {
        let limits = &self.limits;
        let unbounded = limits.connections_max == 0 && limits.per_second == 0;
        if unbounded || ip.to_canonical().is_loopback() && !limits.loopback {
            return Ok(AddressPermit { held: None });
        }
        let key = key(ip);
        let mut shard = self.shard(key);
        if !shard.known.contains_key(&key) && !shard.has_room(limits, now_ms) {
            // Their number is bounded, their pace is the node's: only what this one has is not known.
            return Ok(AddressPermit { held: None });
        }
        let known = shard.known.entry(key).or_default();
        if limits.connections_max > 0 && known.connections >= limits.connections_max {
            return Err(AddressRefusal::Connections);
        }
        if limits.per_second > 0 {
            let taken = known.rate.take(1, limits.per_second, limits.burst, now_ms);
            taken.map_err(|_| AddressRefusal::Rate)?;
        }
        known.connections += 1;
        Ok(AddressPermit {
            held: Some((self.clone(), key)),
        })
    }

    /// Addresses known now.
    #[must_use]
    pub fn len(&self) -> usize {
        let shards = self.shards.iter();
        shards.map(|shard| lock(shard).known.len()).sum()
    }

    /// Whether none is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn leave(&self, key: u64) {
        let mut shard = self.shard(key);
        if let Some(known) = shard.known.get_mut(&key) {
            known.connections -= 1;
            if known.connections == 0 && self.limits.per_second == 0 {
                shard.known.remove(&key);
            }
        }
    }

    fn shard(&self, key: u64) -> MutexGuard<'_, Shard> {
        let mixed = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58;
        lock(&self.shards[mixed as usize % SHARDS])
    }
}

impl Shard {
    /// Whether one more address can be known, once those are forgotten that have no connection and a full bucket.
    fn has_room(&mut self, limits: &AddressLimits, now_ms: u64) -> bool {
        if now_ms >= self.swept_ms + SWEEP_MS {
            self.swept_ms = now_ms;
            self.known
                .retain(|_, known| known.connections > 0 || !known.rate.is_full(now_ms));
        }
        self.known.len() < (limits.addresses_max / SHARDS).max(1)
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection's place in the table; given back when dropped.
#[derive(Debug)]
pub struct AddressPermit {
    held: Option<(Arc<AddressTable>, u64)>,
}

impl AddressPermit {
    /// What the table knows of the address: an IPv4 address or the /64 of an IPv6 address; `None`: it is not counted.
    #[must_use]
    pub fn address(&self) -> Option<String> {
        let (_, key) = self.held.as_ref()?;
        Some(match u32::try_from(*key) {
            Ok(v4) => Ipv4Addr::from_bits(v4).to_string(),
            // No /64 that is routed begins with 32 zero bits.
            Err(_) => format!("{}/64", Ipv6Addr::from_bits(u128::from(*key) << 64)),
        })
    }
}

impl Drop for AddressPermit {
    fn drop(&mut self) {
        if let Some((table, key)) = self.held.take() {
            table.leave(key);
        }
    }
}

fn key(ip: IpAddr) -> u64 {
    match ip.to_canonical() {
        IpAddr::V4(v4) => u64::from(v4.to_bits()),
        IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: AddressLimits = AddressLimits {
        connections_max: 2,
        per_second: 0,
        burst: 1,
        loopback: false,
        addresses_max: 1 << 16,
    };

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_permit_knows_the_address_that_it_counts() {
        let table = AddressTable::new(LIMITS);
        for (at, wanted) in [
            ("203.0.113.7", Some("203.0.113.7")),
            ("::ffff:203.0.113.8", Some("203.0.113.8")),
            ("2001:db8:1:2:3:4:5:6", Some("2001:db8:1:2::/64")),
            ("127.0.0.1", None),
        ] {
            let permit = table.enter(ip(at), 0);
            let address = permit.expect("room").address();
            assert_eq!(address.as_deref(), wanted);
        }
    }

    #[test]
    fn an_address_is_bounded_and_gets_its_place_back() {
        let table = AddressTable::new(LIMITS);
        let first = table.enter(ip("203.0.113.7"), 0).expect("first");
        let _second = table.enter(ip("203.0.113.7"), 0).expect("second");
        let third = table.enter(ip("203.0.113.7"), 0);
        assert_eq!(third.err(), Some(AddressRefusal::Connections));
        assert!(table.enter(ip("203.0.113.8"), 0).is_ok());
        drop(first);
        assert!(table.enter(ip("203.0.113.7"), 0).is_ok());
    }

    #[test]
    fn f24_one_ipv6_customer_is_one_address_however_many_they_use() {
        let table = AddressTable::new(AddressLimits {
            connections_max: 1,
            ..LIMITS
        });
        let _held = table.enter(ip("2001:db8:1:2::1"), 0);
        assert!(table.enter(ip("2001:db8:1:2:ffff::9"), 0).is_err());
        assert!(table.enter(ip("2001:db8:1:3::1"), 0).is_ok());
    }

    #[test]
    fn f24_reconnecting_does_not_refill_an_addresss_bucket() {
        let table = AddressTable::new(AddressLimits {
            per_second: 10,
            burst: 3,
            ..LIMITS
        });
        for _ in 0..3 {
            drop(table.enter(ip("203.0.113.7"), 1_000).expect("its burst"));
        }
        let fourth = table.enter(ip("203.0.113.7"), 1_000);
        assert_eq!(fourth.err(), Some(AddressRefusal::Rate));
        assert!(table.enter(ip("203.0.113.8"), 1_000).is_ok(), "another");
        assert!(table.enter(ip("203.0.113.7"), 1_099).is_err());
        assert!(table.enter(ip("203.0.113.7"), 1_100).is_ok());
    }

    #[test]
    fn addresses_are_forgotten_once_they_have_nothing_and_a_full_table_lets_in_uncounted() {
        let table = AddressTable::new(AddressLimits {
            per_second: 10,
            burst: 3,
            addresses_max: SHARDS * 4,
            ..LIMITS
        });
        let mut permits = Vec::new();
        for n in 0..2_000_u32 {
            let ip = IpAddr::from(n.to_be_bytes());
            permits.push(table.enter(ip, 0).expect("let in"));
        }
        assert_eq!(table.len(), SHARDS * 4, "its bound");
        permits.clear();
        assert_eq!(table.len(), SHARDS * 4, "their buckets are not full yet");
        for n in 0..2_000_u32 {
            let ip = IpAddr::from((n | 1 << 24).to_be_bytes());
            drop(table.enter(ip, SWEEP_MS));
        }
        let known = |n: u32| {
            let shard = table.shard(u64::from(n));
            shard.known.contains_key(&u64::from(n))
        };
        assert!(!(0..2_000).any(known), "the old ones are gone");
    }

    #[test]
    fn loopback_is_not_bounded_unless_asked_for() {
        for (loopback, let_in) in [(false, 9), (true, 2)] {
            let table = AddressTable::new(AddressLimits { loopback, ..LIMITS });
            let held: Vec<_> = (0..9)
                .filter_map(|_| table.enter(ip("127.0.0.1"), 0).ok())
                .collect();
            assert_eq!(held.len(), let_in);
        }
    }
}
