//! Slots: when a client that cannot be served now comes again, so that those who are refused together do not return
//! together.
//!
//! A [`Line`] is a virtual queue: the places in it are so far apart as its pace says. A [`Queue`] is two of them. Those who
//! are served stand in the *room*, with the connection open, which is cheaper than another handshake; it is a few seconds long
//! and is left exactly at the pace. Those for whom it is too long are told when to come again: each at a place of its own,
//! a little before the room would be empty otherwise. That place is kept ([`Promises`]): who comes then has a place in the
//! room, whoever came meanwhile, and who comes too early is told the same again.

use ahash::AHashMap;
use hawser_protocol::limits::SLOT_HORIZON_MS;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

/// Whose place is at most so far away is let into the room, milliseconds.
const NEAR_MS: u64 = 2_000;
/// The room is at most so long, milliseconds: a client waits 10 s for its Welcome. With the pace that bounds who waits.
const ROOM_MS_MAX: u64 = 5_000;
/// A room that is shorter takes anybody: some of those who were told to come do not.
const ROOM_MS_MIN: u64 = 250;
/// A client is asked to come so long before its place: its own jitter and its handshake are to fit in, milliseconds.
const LEAD_MS: u64 = 1_000;
/// Spread of what clients are told beside their places, milliseconds.
const SPREAD_MS: u64 = 250;
/// A promised place is kept so long after its time, the longest pause of a client, milliseconds.
const KEEP_MS: u64 = 30_000;
/// Places promised per core at a time; who comes then is told to come beyond the horizon. Some 40 bytes each.
const PROMISES_MAX: usize = 65_536;
/// The least that a client is told to wait for want of room, milliseconds.
const AGAIN_MS_MIN: u64 = 1_000;
/// Nanoseconds of a millisecond.
const MS: u64 = 1_000_000;

/// Places at a pace, shared by all cores: one atomic operation a place.
#[derive(Debug)]
pub struct Line {
    /// The next free place, nanoseconds.
    tail_ns: AtomicU64,
    step_ns: u64,
    /// So much of a quiet time is made up for.
    burst_ns: u64,
}

impl Line {
    /// A line of `per_second` places, of which `burst` may be taken at once after a quiet time.
    #[must_use]
    pub fn new(per_second: u32, burst: u32) -> Self {
        let step_ns = 1_000_000_000 / u64::from(per_second.max(1));
        Self {
            tail_ns: AtomicU64::new(0),
            step_ns,
            burst_ns: step_ns * u64::from(burst.saturating_sub(1)),
        }
    }

    /// Takes the next place, in milliseconds (past or present: now), if it is within `within_ms`; otherwise nothing is taken.
    pub fn take(&self, now_ms: u64, within_ms: u64) -> Option<u64> {
        let now_ns = now_ms.saturating_mul(MS);
        let last_ns = now_ns.saturating_add(within_ms.saturating_mul(MS));
        let first_ns = now_ns.saturating_sub(self.burst_ns);
        let place = |tail_ns: u64| tail_ns.max(first_ns);
        let taken = self
            .tail_ns
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |tail_ns| {
                let place_ns = place(tail_ns);
                (place_ns <= last_ns).then_some(place_ns + self.step_ns)
            });
        taken.ok().map(|tail_ns| place(tail_ns) / MS)
    }

    /// How far the next free place is, milliseconds.
    #[must_use]
    pub fn wait_ms(&self, now_ms: u64) -> u64 {
        (self.tail_ns.load(Ordering::Relaxed) / MS).saturating_sub(now_ms)
    }

    /// When a client that finds no room may come again: it takes a place, but none is kept for it. `salt` spreads those
    /// who are told the same.
    pub fn come_again_ms(&self, salt: u64, now_ms: u64) -> u32 {
        let wait_ms = match self.take(now_ms, SLOT_HORIZON_MS) {
            Some(place_ms) => place_ms.saturating_sub(now_ms).max(AGAIN_MS_MIN) + salt % SPREAD_MS,
            None => beyond_ms(salt),
        };
        u32::try_from(wait_ms).unwrap_or(u32::MAX)
    }
}

/// A pace of the node at which clients are served, and who waits for it.
#[derive(Debug)]
pub struct Queue {
    room: Line,
    promised: Line,
}

impl Queue {
    /// Serves `per_second`, and `burst` at once after a quiet time.
    #[must_use]
    pub fn new(per_second: u32, burst: u32) -> Self {
        Self {
            room: Line::new(per_second, burst),
            promised: Line::new(per_second, 1),
        }
    }
}

/// What an arrival is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It is its turn.
    Now,
    /// It is its turn then, milliseconds; worth waiting for.
    At(u64),
    /// Come again after so many milliseconds.
    Later(u32),
}

/// The places that are kept for clients of one core.
#[derive(Debug, Default)]
pub struct Promises {
    /// Place of each client, milliseconds.
    kept: AHashMap<u64, u64>,
    /// The same by place, those included that have come: when they are forgotten.
    order: VecDeque<(u64, u64)>,
}

impl Promises {
    /// A client comes, for the first time or again. `client` is a hash of who it is.
    pub fn ask(&mut self, queue: &Queue, client: u64, now_ms: u64) -> Turn {
        self.forget(now_ms);
        let near_ms = now_ms + NEAR_MS;
        match self.kept.get(&client).copied() {
            Some(place_ms) if place_ms > near_ms => return told(place_ms, client, now_ms),
            Some(_) => {}
            None if queue.room.wait_ms(now_ms) <= ROOM_MS_MIN => {}
            None => {
                let room = self.order.len() < PROMISES_MAX;
                let within_ms = if room { SLOT_HORIZON_MS } else { NEAR_MS };
                match queue.promised.take(now_ms, within_ms) {
                    Some(place_ms) if place_ms > near_ms => {
                        return self.promise(place_ms, client, now_ms);
                    }
                    Some(_) => {}
                    None => return later(beyond_ms(client ^ now_ms.wrapping_mul(MIX))),
                }
            }
        }
        match queue.room.take(now_ms, ROOM_MS_MAX) {
            Some(place_ms) => {
                self.kept.remove(&client);
                if place_ms <= now_ms {
                    Turn::Now
                } else {
                    Turn::At(place_ms)
                }
            }
            // More came at once than were told to.
            None => self.promise(now_ms + NEAR_MS, client, now_ms),
        }
    }

    /// Clients for whom a place is kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    fn promise(&mut self, place_ms: u64, client: u64, now_ms: u64) -> Turn {
        self.kept.insert(client, place_ms);
        self.order.push_back((place_ms, client));
        told(place_ms, client, now_ms)
    }

    /// Forgets who has not come.
    pub fn forget(&mut self, now_ms: u64) {
        while let Some((place_ms, client)) = self.order.front().copied()
            && place_ms + KEEP_MS <= now_ms
        {
            self.order.pop_front();
            // One that came may have another place by now.
            if self.kept.get(&client) == Some(&place_ms) {
                self.kept.remove(&client);
            }
        }
    }
}

/// An odd number that spreads small ones over 64 bits.
pub const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

fn told(place_ms: u64, client: u64, now_ms: u64) -> Turn {
    later(place_ms.saturating_sub(now_ms + LEAD_MS) + client % SPREAD_MS)
}

fn later(wait_ms: u64) -> Turn {
    Turn::Later(u32::try_from(wait_ms.max(1)).unwrap_or(u32::MAX))
}

/// Beyond the horizon, over half as much again.
fn beyond_ms(salt: u64) -> u64 {
    SLOT_HORIZON_MS + salt % (SLOT_HORIZON_MS / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accept::admission;
    use hawser_protocol::client::{Backoff, Chance};
    use std::collections::BTreeSet;

    /// Clients without a past come at `arrivals` per second from time 0 on and do what the protocol says; of those who are
    /// told to come again one in `lost` does not. Served per second, until all are; and the attempts that they needed.
    fn storm(clients: u64, arrivals: u64, pace: u32, lost: u64) -> (Vec<u32>, u64) {
        let queue = Queue::new(pace, admission::burst(pace, 0));
        let mut promises = Promises::default();
        let mut chance = Chance::new(7);
        let mut backoffs: Vec<Backoff> = (0..clients).map(|_| Backoff::default()).collect();
        let mut due = BTreeSet::new();
        let place = |client: u64| usize::try_from(client).expect("small");
        for client in 0..clients {
            // The attempt that the cut has cost.
            let jitter_ms = backoffs[place(client)].next_ms(0, &mut chance);
            due.insert((client * 1_000 / arrivals + jitter_ms, client));
        }
        let (mut served, mut attempts) = (Vec::new(), 0);
        let mut serve = |at_ms: u64| {
            let second = usize::try_from(at_ms / 1_000).expect("small");
            served.resize(served.len().max(second + 1), 0);
            served[second] += 1;
        };
        while let Some((now_ms, client)) = due.pop_first() {
            attempts += 1;
            match promises.ask(&queue, client.wrapping_mul(MIX), now_ms) {
                Turn::Now => serve(now_ms),
                Turn::At(at_ms) => {
                    assert!(at_ms <= now_ms + ROOM_MS_MAX);
                    serve(at_ms);
                }
                Turn::Later(_) if client % lost == 1 => {}
                Turn::Later(retry_ms) => {
                    let backoff = &mut backoffs[place(client)];
                    let wait_ms = backoff.next_ms(u64::from(retry_ms), &mut chance);
                    due.insert((now_ms + wait_ms, client));
                }
            }
        }
        (served, attempts)
    }

    fn flat(served: &[u32], pace: u32) {
        for (second, count) in served.iter().enumerate() {
            let off = count.abs_diff(pace);
            assert!(off * 10 <= pace, "{count} in second {second}: {served:?}");
        }
    }

    #[test]
    fn g11_a_storm_without_a_past_is_served_flat_and_each_comes_twice_at_most() {
        for (clients, arrivals, pace) in [
            (5_000, 2_000, 200),
            (20_000, 100_000, 1_000),
            (400, 400, 20),
        ] {
            let (served, attempts) = storm(clients, arrivals, pace, u64::MAX);
            let whole = usize::try_from(clients / u64::from(pace)).expect("small");
            flat(&served[..whole - 1], pace);
            assert!(served.len() <= whole + 2, "all are back: {served:?}");
            assert!(attempts <= 2 * clients, "{attempts}");
        }
    }

    #[test]
    fn beyond_the_horizon_nothing_is_promised_and_it_stays_flat() {
        let (served, _) = storm(10_000, 100_000, 50, u64::MAX);
        assert_eq!(served.iter().sum::<u32>(), 10_000);
        flat(&served[..served.len() - 60], 50);
        assert!(served.iter().all(|count| *count <= 55), "{served:?}");
    }

    #[test]
    fn never_more_than_the_pace_although_some_do_not_come_back() {
        let (served, _) = storm(6_000, 6_000, 100, 5);
        assert!(served[1..].iter().all(|count| *count <= 105), "{served:?}");
    }

    #[test]
    fn who_comes_too_early_keeps_its_place_and_newcomers_do_not_take_it() {
        let queue = Queue::new(10, 1);
        let mut promises = Promises::default();
        let mut ask = |client, now_ms| promises.ask(&queue, client * SPREAD_MS, now_ms);
        assert_eq!(ask(1, 5_000), Turn::Now);
        for client in 2..25 {
            assert_eq!(ask(client, 5_000), Turn::At(4_900 + client * 100));
        }
        assert_eq!(ask(25, 5_000), Turn::Later(1_100));
        assert_eq!(ask(25, 5_050), Turn::Later(1_050), "the same place");
        assert_eq!(ask(26, 5_050), Turn::Later(1_150));
        assert_eq!(ask(25, 6_100), Turn::At(7_400));
        assert_eq!(ask(26, 8_000), Turn::Now, "late, and still kept");
        assert_eq!(ask(27, 8_000), Turn::At(8_100), "nobody waits any more");
    }

    #[test]
    fn promises_are_forgotten_in_time() {
        let queue = Queue::new(10, 1);
        let mut promises = Promises::default();
        for client in 0..100 {
            promises.ask(&queue, client, 0);
        }
        let kept = promises.len() as u64;
        assert!((70..80).contains(&kept), "{kept}");
        let last_ms = NEAR_MS + kept * 100;
        promises.forget(last_ms + KEEP_MS - 1);
        assert_eq!(promises.len(), 1);
        promises.forget(last_ms + KEEP_MS);
        assert!(promises.is_empty());
    }

    #[test]
    fn hints_for_want_of_room_are_spread_at_the_pace_of_the_line() {
        let line = Line::new(100, 4);
        let told: Vec<u32> = (0..10_000)
            .map(|n: u64| line.come_again_ms(n.wrapping_mul(MIX), 7_000))
            .collect();
        assert!(told.iter().all(|ms| (1_000..=90_000).contains(ms)));
        let mut seconds = [0; 91];
        for ms in &told {
            seconds[*ms as usize / 1_000] += 1;
        }
        for count in &seconds[3..59] {
            assert!((75..=125).contains(count), "{seconds:?}");
        }
        for count in &seconds[61..89] {
            assert!((80..=200).contains(count), "{seconds:?}");
        }
    }
}
