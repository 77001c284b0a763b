//! What the whole log says, which no reader of a compacted one sees: the yardstick.

use super::log::Entry;
use hawser_protocol::ownership::{Kind, LeaseRecord, NodeName, NodeState, OwnerRecord, Table};
use std::collections::BTreeMap;

/// A partition of a kind.
pub(super) type Place = (Kind, u32);
/// One life of a name.
pub(super) type Life = (NodeName, u64);
/// An oracle's word: its name, and what it saw.
pub(super) type Found = Result<(), (&'static str, String)>;

/// What a key says once a record was read.
#[derive(Debug)]
struct Word {
    offset: usize,
    says: Option<LeaseRecord>,
    /// The record says what is so, and outranks any that does not: compaction that leaves only this one loses nothing.
    holds: bool,
}

/// How a life ended, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It said good-bye, or others have called it gone.
    Gone(usize),
    /// Another process has taken the name.
    Replaced(usize),
}

/// A claim that counted.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    pub(super) offset: usize,
    pub(super) landed_ms: u64,
    pub(super) owner: OwnerRecord,
    /// How the life that owned it before had ended by then; `None`: it had not.
    pub(super) former_ended: Option<End>,
}

#[derive(Debug)]
pub(super) struct Truth {
    pub(super) table: Table,
    words: BTreeMap<String, Vec<Word>>,
    claims: BTreeMap<Place, Vec<Claim>>,
    ends: BTreeMap<Life, End>,
    /// The last claim was of this life's, as far as the log says, and not prepared.
    pub(super) unprepared: Option<(Life, Place, OwnerRecord)>,
    pub(super) claimed: u64,
    pub(super) handed_over: u64,
    pub(super) called_gone: u64,
}

impl Truth {
    pub(super) fn new(delivery: u32, ingest: u32) -> Self {
        Self {
            table: Table::new(delivery, ingest),
            words: BTreeMap::new(),
            claims: BTreeMap::new(),
            ends: BTreeMap::new(),
            unprepared: None,
            claimed: 0,
            handed_over: 0,
            called_gone: 0,
        }
    }

    /// A record was appended; `prepared`: who claims had prepared what it claims.
    pub(super) fn landed(&mut self, offset: usize, entry: &Entry, prepared: bool) -> Found {
        let found = match &entry.record {
            LeaseRecord::Node(name, _) => {
                self.node_landed(offset, entry, name);
                Ok(())
            }
            LeaseRecord::Owner(kind, partition, claim) => {
                self.claim_landed(offset, entry, (*kind, *partition), claim, prepared)
            }
        };
        let says = says(&self.table, &entry.record);
        let words = self.words.entry(entry.key.clone()).or_default();
        let last = words.last();
        let outranked = last.is_none_or(|last| {
            last.holds || last.says.as_ref().map(rank) < says.as_ref().map(rank)
        });
        let holds = outranked && says.as_ref() == Some(&entry.record);
        words.push(Word {
            offset,
            says,
            holds,
        });
        found
    }

    fn apply(&mut self, offset: usize, entry: &Entry) {
        let (key, value) = (entry.key.as_bytes(), &entry.value);
        self.table.apply(offset as u64, key, value);
    }

    fn node_landed(&mut self, offset: usize, entry: &Entry, name: &NodeName) {
        let before = self.table.node(name).cloned();
        self.apply(offset, entry);
        let Some(after) = self.table.node(name) else {
            return;
        };
        let life = |incarnation| (name.clone(), incarnation);
        if let Some(before) = before.filter(|before| before.incarnation != after.incarnation) {
            let ended = self.ends.entry(life(before.incarnation));
            ended.or_insert(End::Replaced(offset));
        }
        if after.state == NodeState::Gone {
            let gone = life(after.incarnation);
            if self.ends.insert(gone, End::Gone(offset)).is_none() {
                self.called_gone += 1;
            }
        }
    }

    fn claim_landed(
        &mut self,
        offset: usize,
        entry: &Entry,
        place: Place,
        claim: &OwnerRecord,
        prepared: bool,
    ) -> Found {
        let (kind, partition) = place;
        let before = self.table.claimed(kind, partition).cloned();
        self.apply(offset, entry);
        let after = self.table.claimed(kind, partition).cloned();
        let above = before
            .as_ref()
            .is_none_or(|before| before.lease_epoch < claim.lease_epoch);
        let expected = if above { Some(claim) } else { before.as_ref() };
        if after.as_ref() != expected {
            let what = format!("{place:?}: {claim:?} after {before:?} makes {after:?}");
            return Err(("epoch", what));
        }
        if !above {
            return Ok(());
        }
        let life = before
            .as_ref()
            .map(|owner| (owner.node.clone(), owner.incarnation));
        let ended = life.as_ref().and_then(|life| self.ends.get(life).copied());
        let same = life == Some((claim.node.clone(), claim.incarnation));
        self.claimed += 1;
        self.claims.entry(place).or_default().push(Claim {
            offset,
            landed_ms: entry.landed_ms,
            owner: claim.clone(),
            former_ended: ended,
        });
        if life.is_none() || ended.is_some() || same {
            return Ok(());
        }
        self.handed_over += 1;
        if !prepared {
            self.unprepared = life.map(|life| (life, place, claim.clone()));
        }
        Ok(())
    }

    pub(super) fn end_of(&self, life: &Life) -> Option<End> {
        self.ends.get(life).copied()
    }

    /// The claim that ended an ownership.
    pub(super) fn taken_over(&self, place: Place, epoch: u64, by: &Life) -> Option<&Claim> {
        let mut claims = self.claims.get(&place)?.iter();
        claims.find(|claim| {
            let owner = &claim.owner;
            owner.lease_epoch > epoch && (&owner.node, owner.incarnation) != (&by.0, by.1)
        })
    }

    /// Whether a table of someone who has read everything below `next` is right; what compaction may have removed
    /// excuses it only where the last record of a key is not what is so.
    pub(super) fn agrees(&self, table: &Table, next: usize, whole: bool) -> Found {
        for (key, words) in &self.words {
            let read = words.partition_point(|word| word.offset < next);
            let Some(word) = words[..read].last() else {
                continue;
            };
            let Some(known) = &word.says else {
                continue;
            };
            if !(word.holds || whole) {
                continue;
            }
            let theirs = says(table, known);
            if theirs.as_ref() != Some(known) {
                let what = format!("{key} below {next}: read {theirs:?}, is {known:?}");
                return Err(("agreement", what));
            }
        }
        Ok(())
    }
}

/// What outranks records that were not so.
fn rank(record: &LeaseRecord) -> u64 {
    match record {
        LeaseRecord::Node(_, node) => node.replaces,
        LeaseRecord::Owner(_, _, owner) => owner.lease_epoch,
    }
}

/// What a table says of a record's key.
fn says(table: &Table, of: &LeaseRecord) -> Option<LeaseRecord> {
    match of {
        LeaseRecord::Node(name, _) => {
            let node = table.node(name)?.clone();
            Some(LeaseRecord::Node(name.clone(), node))
        }
        LeaseRecord::Owner(kind, partition, _) => {
            let owner = table.claimed(*kind, *partition)?.clone();
            Some(LeaseRecord::Owner(*kind, *partition, owner))
        }
    }
}
