//! A group: who is in it, who may change it, how it is spread.

use hawser_protocol::ids::{ClientMsgId, UserId};
use hawser_protocol::limits::LANES_NOTICE_MS;
use hawser_protocol::partition::murmur2;
use hawser_protocol::record::GroupOp;
use std::collections::BTreeSet;

type Users = BTreeSet<UserId>;

/// A change that was allowed, as every lane must hear of it.
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub(super) id: ClientMsgId,
    pub(super) op: GroupOp,
    /// Members once it was made.
    pub(super) after: Users,
}

/// How the messages of a group in relaxed order are spread.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spread {
    pub(super) lanes: u8,
    pub(super) since_ms: u64,
}

/// As its own lane says.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) members: Users,
    pub(super) spread: Option<Spread>,
    /// The change that set it to relaxed order, and all after it.
    pub(super) told: Vec<Told>,
    admins: Users,
    created: bool,
    /// It has been larger than what records list.
    giant: bool,
}

impl Group {
    /// Makes a change, where it is allowed; gives those who see it.
    pub(super) fn change(
        &mut self,
        ts_ms: u64,
        actor: &UserId,
        id: ClientMsgId,
        op: &GroupOp,
        listed_max: usize,
    ) -> Option<Users> {
        let before = self.members.clone();
        let creates = matches!(op, GroupOp::Create { .. });
        let free = creates || matches!(op, GroupOp::Leave);
        let may = free || self.admins.contains(actor);
        if self.created == creates || (!creates && !self.members.contains(actor)) || !may {
            return None;
        }
        self.make(ts_ms, actor, op)?;
        self.created = true;
        self.giant |= self.spread.is_none() && self.members.len() > listed_max;
        if self.spread.is_some() {
            self.told.push(Told {
                id,
                op: op.clone(),
                after: self.members.clone(),
            });
        }
        Some(before.union(&self.members).cloned().collect())
    }

    /// Changes nothing where it gives `None`.
    fn make(&mut self, ts_ms: u64, actor: &UserId, op: &GroupOp) -> Option<()> {
        match op {
            GroupOp::Create { members, .. } => {
                self.members.extend(members.iter().cloned());
                self.members.insert(actor.clone());
                self.admins.insert(actor.clone());
            }
            GroupOp::Add { users } => {
                let all = self.members.len();
                self.members.extend(users.iter().cloned());
                return (self.members.len() > all).then_some(());
            }
            GroupOp::Remove { users } => return self.part(users),
            GroupOp::Leave => return self.part(std::slice::from_ref(actor)),
            GroupOp::SetAdmin { user, admin: true } => {
                let new = self.members.contains(user) && self.admins.insert(user.clone());
                return new.then_some(());
            }
            GroupOp::SetAdmin { user, admin: false } => {
                let others = self.admins.iter().any(|admin| admin != user);
                return (others && self.admins.remove(user)).then_some(());
            }
            GroupOp::Relax { lanes } => {
                if self.spread.is_some() || self.giant {
                    return None;
                }
                self.spread = Some(Spread {
                    lanes: *lanes,
                    since_ms: ts_ms + LANES_NOTICE_MS,
                });
            }
            // The storm makes no other changes.
            GroupOp::Update { .. } => return None,
        }
        Some(())
    }

    /// Those who stay have an admin among them.
    fn part(&mut self, users: &[UserId]) -> Option<()> {
        let stays = |user: &&UserId| !users.contains(user);
        let members: Users = self.members.iter().filter(stays).cloned().collect();
        let admins: Users = self.admins.iter().filter(stays).cloned().collect();
        if members == self.members || (admins.is_empty() && !members.is_empty()) {
            return None;
        }
        (self.members, self.admins) = (members, admins);
        Some(())
    }

    /// Lanes, its own among them; 0 where it is not spread.
    pub(super) fn lanes(&self) -> u8 {
        self.spread.map_or(0, |spread| spread.lanes)
    }

    /// Members once so many of the changes that lanes hear of were made.
    pub(super) fn members_after(&self, changes: usize) -> Users {
        let last = changes.checked_sub(1).and_then(|at| self.told.get(at));
        last.map(|told| told.after.clone()).unwrap_or_default()
    }

    /// The lane that a message belongs to, as the group is spread by now.
    pub(super) fn lane_of(&self, id: &ClientMsgId) -> u8 {
        match self.spread {
            Some(spread) if id.timestamp_ms() >= spread.since_ms => {
                // A number of lanes is a power of two, and fits.
                u8::try_from(murmur2(&id.0) & u32::from(spread.lanes - 1)).unwrap_or(0)
            }
            _ => 0,
        }
    }
}
