//! Which core owns which user: a (delivery partition, sub-slot) shard each.

use hawser_protocol::partition;

/// The map of one node. With at least as many partitions as cores, a partition belongs to one core;
/// with fewer, a partition is split over several cores by the users' slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shards {
    partitions: u32,
    cores: u32,
}

impl Shards {
    /// For `partitions` (a power of two) on `cores`, both at least 1.
    #[must_use]
    pub fn new(partitions: u32, cores: u32) -> Self {
        assert!(
            partitions.is_power_of_two() && cores > 0,
            "checked at start"
        );
        Self { partitions, cores }
    }

    /// How many delivery partitions there are.
    #[must_use]
    pub fn partitions(&self) -> u32 {
        self.partitions
    }

    /// The user's delivery partition.
    #[must_use]
    pub fn partition(&self, user: &str) -> u32 {
        partition::partition(user, self.partitions)
    }

    /// The core that owns the user's shard.
    #[must_use]
    pub fn core(&self, user: &str) -> u32 {
        let slot = partition::slot(user);
        let partition = slot % self.partitions;
        let sub_slot = slot / self.partitions;
        let owners = self.owners(partition);
        self.owner(partition, sub_slot % owners)
    }

    /// Every partition that a core reads.
    pub fn partitions_of(&self, core: u32) -> impl Iterator<Item = u32> {
        let this = *self;
        (0..self.partitions).filter(move |p| this.reads(core, *p))
    }

    /// Whether a core reads a partition.
    #[must_use]
    pub fn reads(&self, core: u32, partition: u32) -> bool {
        (0..self.owners(partition)).any(|i| self.owner(partition, i) == core)
    }

    /// How many cores share a partition.
    #[must_use]
    pub fn owners(&self, partition: u32) -> u32 {
        if self.partitions >= self.cores {
            return 1;
        }
        let spare = u32::from(partition < self.cores % self.partitions);
        self.cores / self.partitions + spare
    }

    fn owner(&self, partition: u32, index: u32) -> u32 {
        (partition + index * self.partitions) % self.cores
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_user_has_one_core_which_reads_their_partition() {
        for (partitions, cores) in [(16, 1), (16, 2), (16, 3), (1, 4), (4, 6), (2, 2), (8, 16)] {
            let shards = Shards::new(partitions, cores);
            let mut used = vec![0; cores as usize];
            for i in 0..2_000 {
                let user = format!("user{i}");
                let core = shards.core(&user);
                used[core as usize] += 1;
                let partition = shards.partition(&user);
                assert!(
                    shards.partitions_of(core).any(|p| p == partition),
                    "{partitions}/{cores}: {user} is on core {core}, which does not read {partition}"
                );
            }
            assert!(
                used.iter().all(|n| *n > 0),
                "{partitions}/{cores}: {used:?}"
            );
        }
    }

    #[test]
    fn a_partition_has_one_core_where_there_are_enough() {
        let shards = Shards::new(16, 3);
        let total: usize = (0..3).map(|core| shards.partitions_of(core).count()).sum();
        assert_eq!(total, 16);
    }
}
