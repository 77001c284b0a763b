//! A run without faults: nodes come one by one, and each moves no more than it must.

use super::process::Process;
use super::storm::{NAMES, name};
use super::truth::Found;
use super::world::World;
use hawser_protocol::ownership::{Kind, NodeName};

/// Nodes of the beginning start within so long, milliseconds.
const START_MS: u64 = 3_000;

/// Who owns each partition of a kind.
type Owners = Vec<Option<NodeName>>;

impl World {
    pub(super) fn quiet(&mut self) {
        for text in NAMES.iter().take(1 + self.pick(4)) {
            self.join(&name(text));
            let pause_ms = self.chance.below(START_MS);
            self.pass(pause_ms);
        }
        self.settle();
        for _ in 0..2 {
            self.compact();
            let free = self.free_names();
            let joiner = free[self.pick(free.len())].clone();
            let before = Kind::ALL.map(|kind| self.owners(kind));
            self.join(&joiner);
            self.settle();
            if self.violation.is_some() {
                return;
            }
            for (kind, before) in Kind::ALL.into_iter().zip(&before) {
                let found = self.judge_join(kind, &joiner, before);
                self.hold(found);
            }
        }
        let living = self.living();
        let leaves = living[self.pick(living.len())];
        self.drain(leaves);
        self.settle();
    }

    fn owners(&self, kind: Kind) -> Owners {
        let table = &self.truth.table;
        let owner = |partition| table.owner(kind, partition).map(|(name, _)| name.clone());
        (0..table.partitions(kind)).map(owner).collect()
    }

    /// As few partitions have moved as a fair share takes, and to the joiner but for what rounding leaves over.
    fn judge_join(&self, kind: Kind, joiner: &NodeName, before: &Owners) -> Found {
        let after = self.owners(kind);
        let moved = before
            .iter()
            .zip(&after)
            .filter(|(b, a)| b.is_some() && b != a);
        let (to_joiner, between) = moved.fold((0, 0), |(to, between), (_, after)| {
            match after.as_ref() == Some(joiner) {
                true => (to + 1, between),
                false => (to, between + 1),
            }
        });
        let takers: Vec<&Process> = self.processes.iter().filter(|p| p.takes(kind)).collect();
        let weights: u64 = takers.iter().map(|p| u64::from(p.weight)).sum();
        let (mut shared, mut above, mut at_least) = (0, 0, 0);
        for taker in &takers {
            let share = before.len() as u64 * u64::from(taker.weight) / weights.max(1);
            let had = before
                .iter()
                .flatten()
                .filter(|n| **n == taker.name)
                .count() as u64;
            shared += share;
            above += u64::from(had > share);
            at_least += had.saturating_sub(share);
        }
        // What rounding leaves over goes one by one to those who would have to give it away.
        let over = before.len() as u64 - shared;
        let kept = over.min(above);
        let joins = takers.iter().any(|p| p.name == *joiner);
        let expected = match joins {
            true => (at_least - kept, over - kept),
            false => (0, 0),
        };
        if to_joiner + between != expected.0 || between > expected.1 {
            let what = format!(
                "{joiner} joins: {to_joiner} of {kind:?} go to it and {between} between others; {expected:?} had to, of them between others"
            );
            return Err(("moves", what));
        }
        Ok(())
    }
}
