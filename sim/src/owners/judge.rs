//! What must be true: at every event, and at rest.

use super::process::{Process, TRUE_SPEED};
use super::truth::{End, Found, Place};
use super::world::{ProcessNo, SPEED_OFF, World};
use super::{OwnersBreak, storm};
use hawser_protocol::ownership::{Kind, LeaseRecord, NodeName, NodeState, Table};

/// A lease, as members have it by default.
pub(super) const LEASE_MS: u64 = 3_000;
/// A lease by the slowest clock: a process that has read nothing of a take-over is fenced after it.
const LEASE_TRUE_MS: u64 = LEASE_MS * TRUE_SPEED / (TRUE_SPEED - SPEED_OFF) + 1;
/// Appends are counted over so long.
const RATE_MS: u64 = 1_000;
/// Beats in that time, with those of new lives and of a good-bye.
const BEATS_MAX: usize = 6;
/// A partition may be claimed, and its claim said again, as often as there are names at most.
const PER_PLACE_MAX: usize = storm::NAMES.len();

/// Two tables are equal where it matters: who lives, and who of them owns what.
fn agree(one: &Table, other: &Table) -> Result<(), String> {
    let living = |table: &Table| -> Vec<(NodeName, u64, NodeState)> {
        let living = table.nodes().filter(|(_, n)| n.state != NodeState::Gone);
        living
            .map(|(name, n)| (name.clone(), n.incarnation, n.state))
            .collect()
    };
    let (nodes, others) = (living(one), living(other));
    if nodes != others {
        return Err(format!("{nodes:?} live, and {others:?}"));
    }
    for kind in Kind::ALL {
        for partition in 0..one.partitions(kind) {
            let owner = one.owner(kind, partition);
            let theirs = other.owner(kind, partition);
            if owner.map(|(name, _)| name) != theirs.map(|(name, _)| name) {
                return Err(format!(
                    "{kind:?} {partition} is of {owner:?}, and of {theirs:?}"
                ));
            }
        }
    }
    Ok(())
}

impl World {
    /// After a turn of a process, which serves something else now if `changed`.
    pub(super) fn judge_turn(&mut self, number: ProcessNo, changed: bool) {
        let found = self
            .judge_rate(number)
            .and_then(|()| self.judge_life(number));
        self.hold(found);
        if changed {
            let understood = self.processes[number].is_understood();
            let ignored = [OwnersBreak::Fence, OwnersBreak::Yield].map(Some);
            if !understood && self.processes[number].alive && !ignored.contains(&self.broken) {
                let who = self.title(number);
                self.violate(
                    "steps",
                    format!("{who} owns other things than its steps say"),
                );
            }
            self.find_contested(number);
        }
        if self.contested.is_empty() {
            return;
        }
        let found = self.contested.iter().try_for_each(|contest| {
            let (place, former, later) = *contest;
            self.judge_contest(place, former, later)
        });
        self.hold(found);
    }

    /// A process appends no more than so much in a second, whatever fails.
    fn judge_rate(&mut self, number: ProcessNo) -> Found {
        let since_ms = self.ms.saturating_sub(RATE_MS);
        let appended_ms = &mut self.processes[number].appended_ms;
        while appended_ms.front().is_some_and(|at| *at < since_ms) {
            appended_ms.pop_front();
        }
        let places: u32 = self.partitions.iter().sum();
        let most = BEATS_MAX + (places as usize + 1) * PER_PLACE_MAX;
        let count = appended_ms.len();
        if count > most {
            let who = self.title(number);
            return Err(("rate", format!("{who} appends {count} records in a second")));
        }
        Ok(())
    }

    /// Who has been called gone is fenced, and was before it was called so.
    fn judge_life(&self, number: ProcessNo) -> Found {
        let process = &self.processes[number];
        let able = process.alive && !process.is_paused() && !process.fenced;
        match able.then(|| self.truth.end_of(&process.life)).flatten() {
            Some(End::Gone(offset)) => {
                let who = self.title(number);
                Err((
                    "lease",
                    format!("{who} is gone since {offset} and not fenced"),
                ))
            }
            _ => Ok(()),
        }
    }

    /// What a living process owns is prepared before it is claimed.
    pub(super) fn judge_prepared(&mut self) {
        let Some((life, place, claim)) = self.truth.unprepared.take() else {
            return;
        };
        if self.processes.iter().any(|p| p.alive && p.life == life) {
            let what = format!("{place:?}: {claim:?} was not prepared, and {life:?} lives");
            self.violate("prepare", what);
        }
    }

    /// The same of all.
    pub(super) fn judge_lives(&mut self) {
        let mut all = 0..self.processes.len();
        let found = all.try_for_each(|number| self.judge_life(number));
        self.hold(found);
    }

    fn find_contested(&mut self, number: ProcessNo) {
        let others = self.contested.iter().copied();
        let mut contested: Vec<_> = others
            .filter(|(_, former, later)| *former != number && *later != number)
            .collect();
        let process = &self.processes[number];
        for place in process.power.keys() {
            let Some(epoch) = process.serves(*place) else {
                break;
            };
            for (other_number, other) in self.processes.iter().enumerate() {
                match other.serves(*place).filter(|_| other_number != number) {
                    Some(theirs) if theirs < epoch => {
                        contested.push((*place, other_number, number));
                    }
                    Some(_) => contested.push((*place, number, other_number)),
                    None => {}
                }
            }
        }
        self.contested = contested;
    }

    /// Two serve one place: only until the former can know.
    fn judge_contest(&self, place: Place, former: ProcessNo, later: ProcessNo) -> Found {
        let (before, after) = (&self.processes[former], &self.processes[later]);
        let (Some(epoch), Some(later_epoch)) = (before.serves(place), after.serves(place)) else {
            return Ok(());
        };
        let (who, by) = (self.title(former), self.title(later));
        let say = |what: &str| {
            let what = format!("{place:?} of {who} ({epoch}) and of {by} ({later_epoch}): {what}");
            Err(("fencing", what))
        };
        let claim = self.truth.taken_over(place, epoch, &before.life);
        let Some(claim) = claim.filter(|_| epoch < later_epoch) else {
            return say("no claim says so");
        };
        match claim.former_ended {
            Some(End::Gone(_)) => return say("the former was gone by then"),
            Some(End::Replaced(offset)) if before.next > offset => {
                return say("the former has read who has its name");
            }
            _ => {}
        }
        if before.next > claim.offset {
            return say("the former has read the claim");
        }
        if self.ms > claim.landed_ms + LEASE_TRUE_MS + self.turn_ms {
            return say("for longer than a lease");
        }
        Ok(())
    }

    /// Who has read the same knows the same.
    pub(super) fn judge_agreement(&mut self) {
        let alive = self.processes.iter().filter(|process| process.alive);
        let found = alive.into_iter().try_for_each(|process| {
            let (table, next) = (process.member.table(), process.next);
            let found = self.truth.agrees(table, next, process.whole);
            found.map_err(|(oracle, what)| (oracle, format!("{}: {what}", process.name)))
        });
        self.hold(found);
    }

    /// All faults are over for long.
    pub(super) fn judge_rest(&mut self) {
        let found = self
            .judge_fenced()
            .and_then(|()| Kind::ALL.iter().try_for_each(|kind| self.judge_kind(*kind)));
        self.hold(found);
        let mut alive = self.processes.iter().filter(|process| process.alive);
        let Some(first) = alive.next() else {
            return;
        };
        let found = alive.try_for_each(|process| {
            let found = agree(first.member.table(), process.member.table());
            let names = format!("{} and {}", first.name, process.name);
            found.map_err(|what| ("agreement", format!("{names}: {what}")))
        });
        self.hold(found);
    }

    fn judge_fenced(&self) -> Found {
        for (number, process) in self.processes.iter().enumerate() {
            if process.alive && process.fenced {
                return Err(("live", format!("{} is still fenced", self.title(number))));
            }
        }
        Ok(())
    }

    fn judge_kind(&self, kind: Kind) -> Found {
        let takers: Vec<&Process> = self.processes.iter().filter(|p| p.takes(kind)).collect();
        let partitions = self.truth.table.partitions(kind);
        for place in (0..partitions).map(|partition| (kind, partition)) {
            let serving = self.processes.iter().filter(|p| p.serves(place).is_some());
            let serving: Vec<&Process> = serving.collect();
            let well = match serving.as_slice() {
                [] => takers.is_empty(),
                [one] => takers.is_empty() || one.takes(kind),
                _ => false,
            };
            if !well {
                let names: Vec<_> = serving.iter().map(|p| p.name.as_str()).collect();
                let drains = serving.iter().any(|p| p.draining);
                let oracle = if drains { "drain" } else { "live" };
                return Err((oracle, format!("{place:?} is served by {names:?}")));
            }
        }
        let weights: u64 = takers.iter().map(|p| u64::from(p.weight)).sum();
        for taker in &takers {
            let count = taker.power.keys().filter(|(k, _)| *k == kind).count() as u64;
            let share = u64::from(partitions) * u64::from(taker.weight);
            if (count * weights).abs_diff(share) > weights {
                let what = format!(
                    "{} has {count} of {kind:?}, its share is {share}/{weights}",
                    taker.name
                );
                return Err(("share", what));
            }
        }
        Ok(())
    }

    /// From an offset on there are only beats.
    pub(super) fn judge_quiet(&mut self, since: usize) {
        let mut at = since;
        while let Some((offset, entry)) = self.log.next(at) {
            at = offset + 1;
            let beats = match &entry.record {
                LeaseRecord::Node(_, node) => node.state != NodeState::Gone,
                LeaseRecord::Owner(..) => false,
            };
            if !beats {
                let what = format!("nothing happens, and {offset} is {:?}", entry.record);
                return self.violate("quiet", what);
            }
        }
    }
}
