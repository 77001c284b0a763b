//! Who should own what: even by weight, with as few moves as that takes.

use super::{Kind, NodeName, NodeState, Table};
use crate::partition::murmur2;
use std::cmp::Reverse;

/// A node that takes partitions.
struct Taker {
    name: NodeName,
    weight: u64,
    quota: usize,
    has: Vec<u32>,
}

/// By partition, who should own it. A function of the table alone: every reader of the same records comes to the same.
///
/// Nobody has more than its share by weight, rounded up for those that have the most already; who has no more than that
/// keeps all. A partition whose owner is gone returns to the same name if that is back and has room; one that nobody had yet,
/// since there are more of them than before, goes to the owner of the one that its users were in, if that has room.
///
/// Returns one entry per partition; `None` where nobody takes any.
#[must_use]
pub fn plan(table: &Table, kind: Kind) -> Vec<Option<NodeName>> {
    let partitions = table.partitions(kind);
    let mut takers = takers(table, kind);
    let mut planned: Vec<Option<NodeName>> = vec![None; partitions as usize];
    if takers.is_empty() {
        return planned;
    }
    let mut free = Vec::new();
    for partition in 0..partitions {
        let owner = table.owner(kind, partition).map(|(name, _)| name);
        match takers.iter_mut().find(|taker| Some(&taker.name) == owner) {
            Some(taker) => taker.has.push(partition),
            None => free.push(partition),
        }
    }
    share_out(&mut takers, partitions);
    for taker in &mut takers {
        let name = taker.name.clone();
        // What is liked least is given away.
        taker.has.sort_by_key(|p| (Reverse(liking(&name, *p)), *p));
        let kept = taker.quota.min(taker.has.len());
        free.extend(taker.has.drain(kept..));
    }
    free.sort_unstable();
    for partition in free {
        let before = before(table, kind, partition);
        let best = takers
            .iter_mut()
            .filter(|taker| taker.has.len() < taker.quota)
            .max_by_key(|taker| {
                let returns = Some(&taker.name) == before;
                (returns, liking(&taker.name, partition))
            });
        if let Some(taker) = best {
            taker.has.push(partition);
        }
    }
    for taker in takers {
        for partition in taker.has {
            planned[partition as usize] = Some(taker.name.clone());
        }
    }
    planned
}

/// Who had a partition last, or the one that it was a part of: with half as many, p and p + half were one.
fn before(table: &Table, kind: Kind, partition: u32) -> Option<&NodeName> {
    let mut partition = partition;
    loop {
        if let Some(owner) = table.claimed(kind, partition) {
            return Some(&owner.node);
        }
        partition ^= 1 << partition.checked_ilog2()?;
    }
}

fn takers(table: &Table, kind: Kind) -> Vec<Taker> {
    let nodes = table
        .nodes()
        .filter(|(_, node)| node.state == NodeState::Active && node.takes(kind) && node.weight > 0);
    let takers = nodes.map(|(name, node)| Taker {
        name: name.clone(),
        weight: u64::from(node.weight),
        quota: 0,
        has: Vec::new(),
    });
    takers.collect()
}

/// Sets quotas: what the weight gives, rounded down; the rest one by one to those with most.
fn share_out(takers: &mut [Taker], partitions: u32) {
    let weights: u64 = takers.iter().map(|taker| taker.weight).sum();
    let mut left = partitions as usize;
    for taker in takers.iter_mut() {
        let share = u64::from(partitions) * taker.weight / weights.max(1);
        taker.quota = usize::try_from(share).unwrap_or(usize::MAX);
        left -= taker.quota.min(left);
    }
    let mut order: Vec<usize> = (0..takers.len()).collect();
    order.sort_by_key(|i| {
        let taker = &takers[*i];
        let above = taker.has.len().saturating_sub(taker.quota);
        let rest = u64::from(partitions) * taker.weight % weights.max(1);
        (Reverse(above.min(1)), Reverse(rest), taker.name.clone())
    });
    for index in order.into_iter().take(left) {
        takers[index].quota += 1;
    }
}

/// Rendezvous hashing: a stable preference of each node for each partition.
fn liking(name: &NodeName, partition: u32) -> u32 {
    let mut key = Vec::with_capacity(name.as_str().len() + 4);
    key.extend_from_slice(name.as_str().as_bytes());
    key.extend_from_slice(&partition.to_le_bytes());
    murmur2(&key)
}
