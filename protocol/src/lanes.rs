//! Lanes of a chat set to relaxed order: which one a message belongs to.

use crate::ids::ClientMsgId;
use crate::limits::LANES_MAX;
use crate::partition::murmur2;
use serde::{Deserialize, Serialize};

/// How a chat is spread. Every message has one lane, whoever asks and whenever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lanes {
    /// How many, a power of two from 2 to [`LANES_MAX`].
    pub lanes: u8,
    /// Ids stamped earlier, milliseconds, belong to lane 0, so that a message that was sent before the change and is
    /// sent again after it comes to the same lane.
    pub since_ms: u64,
}

impl Lanes {
    /// Checks the number.
    #[must_use]
    pub fn new(lanes: u8, since_ms: u64) -> Option<Self> {
        let sound = lanes.is_power_of_two() && (2..=LANES_MAX).contains(&lanes);
        sound.then_some(Self { lanes, since_ms })
    }

    /// The lane of a message, from 0.
    #[must_use]
    pub fn of(&self, id: &ClientMsgId) -> u8 {
        if id.timestamp_ms() < self.since_ms || self.lanes < 2 {
            return 0;
        }
        // Below `lanes`, which fits.
        u8::try_from(murmur2(&id.0) % u32::from(self.lanes)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_before_the_change_keep_the_chats_own_lane() {
        let lanes = Lanes::new(8, 1_000).expect("a power of two");
        for n in 0..100 {
            assert_eq!(lanes.of(&ClientMsgId::new(999, [n; 10])), 0);
        }
    }

    #[test]
    fn later_messages_are_spread_evenly_and_always_to_the_same_lane() {
        let lanes = Lanes::new(8, 1_000).expect("a power of two");
        let mut counts = [0; 8];
        for n in 0..8_000_u64 {
            let mut random = [0; 10];
            random[2..].copy_from_slice(&n.to_be_bytes());
            let id = ClientMsgId::new(2_000, random);
            let lane = lanes.of(&id);
            assert_eq!(lane, lanes.of(&id));
            counts[usize::from(lane)] += 1;
        }
        assert!(
            counts.iter().all(|n| (800..1_200).contains(n)),
            "{counts:?}"
        );
    }

    #[test]
    fn only_powers_of_two_from_2_to_64_are_numbers_of_lanes() {
        let sound: Vec<u8> = (0..=255).filter(|n| Lanes::new(*n, 0).is_some()).collect();
        assert_eq!(sound, [2, 4, 8, 16, 32, 64]);
    }
}
