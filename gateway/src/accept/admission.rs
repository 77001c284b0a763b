//! Who may begin a handshake: refused here, a connection has cost one accept and no TLS.

use ahash::AHashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Shards of the address table; a lock is held for one look-up, once per connection's life.
const SHARDS: usize = 64;

/// A token bucket in whole tokens; `now_ms` is monotonic time.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    per_second: u64,
    burst: u64,
    /// Thousandths of a token.
    level: u64,
    at_ms: u64,
}

impl TokenBucket {
    /// A full bucket.
    #[must_use]
    pub fn new(per_second: u32, burst: u32, now_ms: u64) -> Self {
        Self {
            per_second: u64::from(per_second),
            burst: u64::from(burst) * 1_000,
            level: u64::from(burst) * 1_000,
            at_ms: now_ms,
        }
    }

    /// Takes `tokens`; false leaves the bucket as it is. Time that goes backwards adds nothing.
    pub fn take(&mut self, tokens: u32, now_ms: u64) -> bool {
        let passed = now_ms.saturating_sub(self.at_ms);
        self.at_ms = self.at_ms.max(now_ms);
        // per_second tokens a second are per_second thousandths a millisecond.
        self.level = (self.level + passed.saturating_mul(self.per_second)).min(self.burst);
        let wanted = u64::from(tokens) * 1_000;
        if self.level < wanted {
            return false;
        }
        self.level -= wanted;
        true
    }

    /// Milliseconds until `tokens` are there, at least 1.
    #[must_use]
    pub fn wait_ms(&self, tokens: u32) -> u64 {
        let missing = (u64::from(tokens) * 1_000).saturating_sub(self.level);
        missing.div_ceil(self.per_second.max(1)).max(1)
    }
}

/// Connections per client address (IPv6: per /64), over all cores.
pub struct AddressTable {
    shards: [Mutex<AHashMap<u64, u32>>; SHARDS],
    max: u32,
}

impl AddressTable {
    /// At most `max` connections per address; 0: no bound.
    #[must_use]
    pub fn new(max: u32) -> Arc<Self> {
        Arc::new(Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            max,
        })
    }

    /// Counts a connection of `ip` until the permit is dropped; `None` when it has too many.
    /// Loopback is not counted.
    #[must_use]
    pub fn enter(self: &Arc<Self>, ip: IpAddr) -> Option<AddressPermit> {
        if self.max == 0 || ip.is_loopback() {
            return Some(AddressPermit { held: None });
        }
        let key = key(ip);
        let mut shard = self.shard(key);
        let count = shard.entry(key).or_insert(0);
        if *count >= self.max {
            return None;
        }
        *count += 1;
        Some(AddressPermit {
            held: Some((self.clone(), key)),
        })
    }

    fn leave(&self, key: u64) {
        let mut shard = self.shard(key);
        if let Some(count) = shard.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                shard.remove(&key);
            }
        }
    }

    fn shard(&self, key: u64) -> std::sync::MutexGuard<'_, AHashMap<u64, u32>> {
        let mixed = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58;
        let shard = &self.shards[mixed as usize % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's place in the address table; given back when dropped.
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

/// An IPv4 address, or the /64 of an IPv6 address: one customer has a whole /64.
fn key(ip: IpAddr) -> u64 {
    match ip.to_canonical() {
        IpAddr::V4(v4) => u64::from(v4.to_bits()),
        IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_knows_the_address_that_it_counts() {
        let table = AddressTable::new(1);
        for (ip, wanted) in [
            ("203.0.113.7", Some("203.0.113.7")),
            ("::ffff:203.0.113.8", Some("203.0.113.8")),
            ("2001:db8:1:2:3:4:5:6", Some("2001:db8:1:2::/64")),
            ("127.0.0.1", None),
        ] {
            let permit = table.enter(ip.parse().expect("an address"));
            let address = permit.expect("room").address();
            assert_eq!(address.as_deref(), wanted);
        }
    }

    #[test]
    fn a_bucket_gives_its_burst_then_its_rate() {
        let mut bucket = TokenBucket::new(10, 3, 0);
        assert!((0..3).all(|_| bucket.take(1, 0)));
        assert!(!bucket.take(1, 0));
        assert_eq!(bucket.wait_ms(1), 100);
        assert!(!bucket.take(1, 99));
        assert!(bucket.take(1, 100));
        assert!(!bucket.take(1, 100));
        assert!((0..3).all(|_| bucket.take(1, 10_000)));
        assert!(
            !bucket.take(1, 10_000),
            "no more than the burst is saved up"
        );
    }

    #[test]
    fn time_that_goes_backwards_gives_no_tokens() {
        let mut bucket = TokenBucket::new(1_000, 1, 5_000);
        assert!(bucket.take(1, 5_000));
        assert!(!bucket.take(1, 1_000));
        assert!(!bucket.take(1, 5_000), "nor does it count the way back");
    }

    #[test]
    fn an_address_is_bounded_and_gets_its_place_back() {
        let table = AddressTable::new(2);
        let ip: IpAddr = "203.0.113.7".parse().expect("an address");
        let first = table.enter(ip).expect("first");
        let _second = table.enter(ip).expect("second");
        assert!(table.enter(ip).is_none());
        let other: IpAddr = "203.0.113.8".parse().expect("an address");
        assert!(table.enter(other).is_some());
        drop(first);
        assert!(table.enter(ip).is_some());
    }

    #[test]
    fn one_ipv6_customer_is_one_address() {
        let table = AddressTable::new(1);
        let _held = table.enter("2001:db8:1:2::1".parse().expect("v6"));
        assert!(
            table
                .enter("2001:db8:1:2:ffff::9".parse().expect("v6"))
                .is_none()
        );
        assert!(
            table
                .enter("2001:db8:1:3::1".parse().expect("v6"))
                .is_some()
        );
    }

    #[test]
    fn loopback_is_not_bounded() {
        let table = AddressTable::new(1);
        let held: Vec<_> = (0..9)
            .map(|_| table.enter(IpAddr::from([127, 0, 0, 1])))
            .collect();
        assert!(held.iter().all(Option::is_some));
    }
}
