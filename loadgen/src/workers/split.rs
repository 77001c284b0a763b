//! How a scenario's users are divided among processes: disjoint ranges in which pairs and groups are whole, so that whoever sends a
//! message and whoever gets it are one process's, on one clock, and before one checker.

use crate::scenario::crew::{Part, Step};
use crate::scenario::model::Scenario;

/// Why a scenario is not divided: its author's to mend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{count} sessions in {what} of {unit} are {units} at most: give no more than {units} workers, or more sessions.count"
)]
pub struct TooFew {
    /// Sessions.
    pub count: u32,
    /// What stays whole.
    pub what: &'static str,
    /// Users of which.
    pub unit: u32,
    /// So many there are.
    pub units: u32,
}

/// Users by process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Users that stay together; even.
    unit: u32,
    workers: u32,
    count: u32,
}

impl Split {
    /// Divides the users of a scenario among so many processes, at least one.
    ///
    /// # Errors
    /// There is not one pair, or group where some phase sends to groups, for each.
    pub fn new(scenario: &Scenario, workers: u32) -> Result<Self, TooFew> {
        let mut loads = scenario.phases.iter().filter_map(|phase| phase.kind.load());
        let has_groups = loads.any(|load| load.group_share > 0.0);
        let (what, unit) = match has_groups {
            true => ("groups", even(scenario.sessions.group_size)),
            false => ("pairs", 2),
        };
        let count = scenario.sessions.count;
        let units = count / unit;
        if workers > units {
            return Err(TooFew {
                count,
                what,
                unit,
                units,
            });
        }
        Ok(Self {
            unit,
            workers: workers.max(1),
            count,
        })
    }

    /// Whose users are which.
    #[must_use]
    pub fn parts(&self) -> Vec<Part> {
        let mut first = 0;
        let counts = (0_u32..).zip(self.shares(self.count));
        let part = |(index, count)| {
            let part = Part {
                index,
                first,
                count,
            };
            first += count;
            part
        };
        counts.map(part).collect()
    }

    /// What each process is to do of a step, `before` which so many sessions were wanted.
    #[must_use]
    pub fn divide(&self, step: &Step, before: u32) -> Vec<Step> {
        let sessions = self.shares(step.sessions);
        let were = self.shares(before.min(step.sessions));
        let come = |(now, before): (&u32, &u32)| now.saturating_sub(*before);
        let news: Vec<u32> = sessions.iter().zip(&were).map(come).collect();
        let all_stay = || sessions.clone();
        let stay = step
            .storm
            .map_or_else(all_stay, |storm| portion(storm.bystanders, &sessions));
        let slow = portion(step.sessions.saturating_sub(step.slow_from), &sessions);
        let stay_in_all = sum(&stay);
        let rows = sessions.iter().zip(&news).zip(stay.iter().zip(&slow));
        let own = |((sessions, new), (stay, slow)): ((&u32, &u32), (&u32, &u32))| {
            let mut own = step.clone();
            own.sessions = *sessions;
            // Where nobody new is to come, those who failed to may at an even share of the pace.
            own.load.ramp *= match sum(&news) {
                0 => 1.0 / f64::from(self.workers),
                all => f64::from(*new) / all as f64,
            };
            // Each session sends as much as any other.
            own.load.rate *= f64::from(*stay) / stay_in_all.max(1) as f64;
            if let Some(storm) = &mut own.storm {
                storm.bystanders = *stay;
            }
            if step.slow_from != u32::MAX {
                own.slow_from = sessions - slow;
            }
            own
        };
        rows.map(own).collect()
    }

    /// Divides the first so many users evenly: in whole units, and what is left over beside them to the next in turn. Who has more of
    /// fewer users has more of more.
    fn shares(&self, users: u32) -> Vec<u32> {
        let (units, rest) = (users / self.unit, users % self.unit);
        let (each, turn) = (units / self.workers, units % self.workers);
        let share = |index: u32| {
            let own = each + u32::from(index < turn);
            own * self.unit + if index == turn { rest } else { 0 }
        };
        (0..self.workers).map(share).collect()
    }
}

/// The least even number of users that holds whole groups of so many.
fn even(group_size: u32) -> u32 {
    match group_size % 2 {
        0 => group_size.max(2),
        _ => group_size.saturating_mul(2),
    }
}

fn sum(all: &[u32]) -> u64 {
    all.iter().map(|one| u64::from(*one)).sum()
}

/// An even number of users divided as `rooms` are, in pairs; the rooms are even, and together at least as large.
fn portion(users: u32, rooms: &[u32]) -> Vec<u32> {
    let all = sum(rooms).max(1);
    let part = |room: &u32| {
        let pairs = u64::from(users) * u64::from(*room) / (2 * all);
        u32::try_from(pairs).map_or(0, |pairs| (2 * pairs).min(*room))
    };
    let mut parts: Vec<u32> = rooms.iter().map(part).collect();
    let mut left = u64::from(users).saturating_sub(sum(&parts)) / 2;
    while left > 0 {
        let mut with_room = parts
            .iter_mut()
            .zip(rooms)
            .filter(|(part, room)| **part < **room);
        let Some(first) = with_room.next() else {
            break;
        };
        for (part, _) in std::iter::once(first).chain(with_room) {
            if left > 0 {
                *part += 2;
                left -= 1;
            }
        }
    }
    parts
}

#[cfg(test)]
#[path = "split_tests.rs"]
mod tests;
