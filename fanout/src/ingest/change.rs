//! One change of a group: authorised, and applied to the times that its members were in it.

use super::lane;
use super::membership::{MembershipBody, MembershipOp};
use super::memory::{GroupState, number};
use super::plan::Place;
use hawser_engines::store::{ChatInfo, Headcount, Interval, Membership, Sharded};
use hawser_protocol::codes::ErrorCode;
use hawser_protocol::ids::{ChatId, Seq, UserId};
use hawser_protocol::lanes::Lanes;
use hawser_protocol::limits::{GROUP_LISTED_MAX, GROUP_MEMBERS_MAX};
use hawser_protocol::record::GroupOp;
use std::collections::BTreeSet;

/// Times that one user may join one group; the row stays below 8 KiB.
const INTERVALS_MAX: usize = 256;

/// One change in the making; nothing of it is applied when it is refused.
pub(super) struct Change<'g> {
    seq: Seq,
    ordinal: u64,
    group: &'g mut GroupState,
    touched: BTreeSet<UserId>,
    /// It was found to be allowed before: what of it is written already must not be held against it.
    decided: bool,
    /// Members and admins before it.
    base: Headcount,
    listed_max: u32,
}

impl<'g> Change<'g> {
    pub(super) fn new(
        place: &Place<'_>,
        ordinal: u64,
        group: &'g mut GroupState,
        decided: bool,
    ) -> Self {
        let seq = place.seq;
        if decided {
            group.before(seq);
        }
        Self {
            base: group.headcount(seq),
            listed_max: place.config.listed_max,
            seq,
            ordinal,
            group,
            decided,
            touched: BTreeSet::new(),
        }
    }

    /// It was allowed in another lane: who is admin here decides nothing.
    pub(super) fn allowed(mut self) -> Self {
        self.decided = true;
        self
    }

    /// Whose rows are to be written.
    pub(super) fn touched(self) -> BTreeSet<UserId> {
        self.touched
    }

    /// Does what the actor may do.
    pub(super) fn apply(
        &mut self,
        place: &Place<'_>,
        actor: &UserId,
        chat: &ChatId,
        op: &GroupOp,
    ) -> Result<MembershipBody, ErrorCode> {
        if !chat.is_group() || chat.lane() != 0 {
            return Err(ErrorCode::BadId);
        }
        if matches!(op, GroupOp::Create { .. }) {
            return self.perform(actor, op, None);
        }
        // Whoever is not in it learns no more than that.
        if self.group.info.is_none() || !self.group.has(actor, self.seq) {
            return Err(ErrorCode::NotMember);
        }
        if !self.decided && !matches!(op, GroupOp::Leave) && !self.admin(actor) {
            return Err(ErrorCode::Forbidden);
        }
        let lanes = match op {
            GroupOp::Relax { lanes } => {
                Some(lane::from_now(place, *lanes).ok_or(ErrorCode::BadFrame)?)
            }
            _ => None,
        };
        self.perform(actor, op, lanes)
    }

    /// Does what was allowed.
    pub(super) fn perform(
        &mut self,
        actor: &UserId,
        op: &GroupOp,
        lanes: Option<Lanes>,
    ) -> Result<MembershipBody, ErrorCode> {
        match op {
            GroupOp::Create {
                name,
                picture,
                members,
            } => self.create(actor, (name, picture), members),
            GroupOp::Leave => self.part(&BTreeSet::from([actor.clone()]), MembershipOp::Leave),
            GroupOp::Add { users } => self.add(users),
            GroupOp::Remove { users } => {
                let set = users.iter().filter(|u| self.group.has(u, self.seq));
                self.part(&set.cloned().collect(), MembershipOp::Remove)
            }
            GroupOp::Update { name, picture } => Ok(self.update(name, picture)),
            GroupOp::SetAdmin { user, admin } => self.set_admin(user, *admin),
            GroupOp::Relax { .. } => self.relax(lanes),
        }
    }

    /// Once set, the number of lanes stays: which lane a message belongs to must not change.
    fn relax(&mut self, lanes: Option<Lanes>) -> Result<MembershipBody, ErrorCode> {
        let seq = self.seq;
        let info = self.group.info.as_mut();
        let info = info.filter(|info| info.lanes == 0 && info.sharded.is_none());
        let (Some(info), Some(lanes)) = (info, lanes) else {
            return Err(ErrorCode::Conflict);
        };
        info.lanes = lanes.lanes;
        info.lanes_since_ms = lanes.since_ms;
        info.relaxed_seq = seq;
        self.touch(self.base);
        Ok(lane::body(lanes))
    }

    /// Begins a lane with the members that the group has.
    pub(super) fn open(
        &mut self,
        (name, picture): (&str, &str),
        members: &[UserId],
        admins: &[UserId],
        lanes: Lanes,
    ) -> Result<MembershipBody, ErrorCode> {
        if self.group.info.is_some() {
            return Err(ErrorCode::Conflict);
        }
        for user in members {
            self.join(user);
        }
        for user in admins {
            if let Some(member) = self.group.members.get_mut(user) {
                member.admin = true;
            }
        }
        self.group.info = Some(ChatInfo {
            name: name.to_owned(),
            picture: picture.to_owned(),
            write_seq: self.seq,
            created_seq: self.seq,
            lanes: lanes.lanes,
            lanes_since_ms: lanes.since_ms,
            relaxed_seq: self.seq,
            sharded: None,
        });
        Ok(lane::body(lanes))
    }

    fn create(
        &mut self,
        actor: &UserId,
        (name, picture): (&str, &str),
        members: &[UserId],
    ) -> Result<MembershipBody, ErrorCode> {
        if self.group.info.is_some() {
            return Err(ErrorCode::Conflict);
        }
        let mut all: BTreeSet<UserId> = members.iter().cloned().collect();
        all.insert(actor.clone());
        if all.len() > GROUP_MEMBERS_MAX {
            return Err(ErrorCode::GroupFull);
        }
        for user in &all {
            self.join(user);
        }
        if let Some(first) = self.group.members.get_mut(actor) {
            first.admin = true;
        }
        self.group.info = Some(ChatInfo {
            name: name.to_owned(),
            picture: picture.to_owned(),
            write_seq: self.seq,
            created_seq: self.seq,
            ..ChatInfo::default()
        });
        self.shard(Headcount {
            members: number(all.len()),
            admins: 1,
        });
        let mut body = MembershipBody::about(MembershipOp::Create, all.iter());
        body.name = Some(name.to_owned());
        body.picture = Some(picture.to_owned());
        Ok(body)
    }

    fn add(&mut self, users: &[UserId]) -> Result<MembershipBody, ErrorCode> {
        let fresh = users.iter().filter(|u| !self.group.has(u, self.seq));
        let fresh: BTreeSet<UserId> = fresh.cloned().collect();
        let worn = |u: &UserId| {
            let member = self.group.members.get(u);
            member.is_some_and(|m| m.intervals.len() >= INTERVALS_MAX)
        };
        if fresh.is_empty() || fresh.iter().any(worn) {
            return Err(ErrorCode::Conflict);
        }
        let relaxed = self.group.info.as_ref().is_some_and(|info| info.lanes > 0);
        // Records of a group in relaxed order list its members, lane by lane.
        let max = match relaxed {
            true => GROUP_LISTED_MAX,
            false => GROUP_MEMBERS_MAX,
        };
        let count = Headcount {
            members: self.base.members.saturating_add(number(fresh.len())),
            ..self.base
        };
        if count.members > number(max) {
            return Err(ErrorCode::GroupFull);
        }
        for user in &fresh {
            self.join(user);
        }
        self.touch(count);
        if !relaxed {
            self.shard(count);
        }
        Ok(MembershipBody::about(MembershipOp::Add, fresh.iter()))
    }

    /// Ends memberships; members without an admin must not be left behind.
    fn part(
        &mut self,
        users: &BTreeSet<UserId>,
        op: MembershipOp,
    ) -> Result<MembershipBody, ErrorCode> {
        if users.is_empty() {
            return Err(ErrorCode::Conflict);
        }
        let admins = users.iter().filter(|user| self.admin(user)).count();
        let count = Headcount {
            members: self.base.members.saturating_sub(number(users.len())),
            admins: self.base.admins.saturating_sub(number(admins)),
        };
        if !self.decided && count.members > 0 && count.admins == 0 {
            return Err(ErrorCode::Conflict);
        }
        let sharded = self.group.sharded(self.seq);
        for user in users {
            if let Some(member) = self.group.members.get_mut(user) {
                // In an edge-sharded group a replay counts once more how many admins left.
                member.admin &= sharded;
                if let Some(last) = member.intervals.last_mut() {
                    last.left = Some(self.seq);
                    last.left_ordinal = Some(self.ordinal);
                }
                self.touched.insert(user.clone());
            }
        }
        self.touch(count);
        Ok(MembershipBody::about(op, users.iter()))
    }

    fn update(&mut self, name: &str, picture: &str) -> MembershipBody {
        if let Some(info) = &mut self.group.info {
            info.name = name.to_owned();
            info.picture = picture.to_owned();
        }
        self.touch(self.base);
        let mut body = MembershipBody::about(MembershipOp::Update, [].iter());
        body.name = Some(name.to_owned());
        body.picture = Some(picture.to_owned());
        body
    }

    fn set_admin(&mut self, user: &UserId, admin: bool) -> Result<MembershipBody, ErrorCode> {
        if !self.group.has(user, self.seq) {
            return Err(ErrorCode::NotFound);
        }
        if !self.decided && self.admin(user) == admin {
            return Err(ErrorCode::Conflict);
        }
        let admins = match admin {
            true => self.base.admins.saturating_add(1),
            false => self.base.admins.saturating_sub(1),
        };
        if !self.decided && !admin && admins == 0 {
            return Err(ErrorCode::Conflict);
        }
        if let Some(member) = self.group.members.get_mut(user) {
            member.admin = admin;
            self.touched.insert(user.clone());
        }
        self.touch(Headcount {
            admins,
            ..self.base
        });
        let mut body = MembershipBody::about(MembershipOp::Admin, [user].into_iter());
        body.admin = Some(admin);
        Ok(body)
    }

    fn admin(&self, user: &UserId) -> bool {
        self.group.members.get(user).is_some_and(|m| m.admin)
    }

    fn join(&mut self, user: &UserId) {
        let members = &mut self.group.members;
        let member = members.entry(user.clone()).or_insert_with(|| Membership {
            user: user.clone(),
            intervals: Vec::new(),
            admin: false,
        });
        member.admin = false;
        member.intervals.push(Interval {
            joined: self.seq,
            joined_ordinal: self.ordinal,
            left: None,
            left_ordinal: None,
        });
        self.touched.insert(user.clone());
    }

    /// The group's own row says which change was the last, whatever it changed, and how many there are now.
    fn touch(&mut self, count: Headcount) {
        if let Some(info) = &mut self.group.info {
            info.write_seq = self.seq;
            if let Some(sharded) = &mut info.sharded {
                (sharded.before, sharded.count) = (self.base, count);
            }
        }
    }

    /// Past its size the group is edge-sharded, from this change on and for good.
    fn shard(&mut self, count: Headcount) {
        let (seq, before) = (self.seq, self.base);
        if let Some(info) = &mut self.group.info
            && info.sharded.is_none()
            && count.members > self.listed_max
        {
            info.sharded = Some(Sharded { seq, count, before });
        }
    }
}
