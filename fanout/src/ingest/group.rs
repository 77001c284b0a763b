//! A change of a group: authorised, applied to intervals, written as a message into the chat.

use super::API_DEVICE;
use super::membership::{MembershipBody, MembershipOp};
use super::memory::{DedupKey, GroupState, Memory};
use super::plan::{Place, Plan, Verdict};
use super::send::{dedup_row, message_id};
use super::{feed, lane};
use bytes::Bytes;
use hawser_engines::directory::Group;
use hawser_engines::store::{
    ChatHead, ChatInfo, DedupRow, Interval, Membership, Page, Store, StoreError, StoreOp,
};
use hawser_protocol::codes::ErrorCode;
use hawser_protocol::ids::{ChatId, ClientMsgId, DeviceId, Seq, UserId};
use hawser_protocol::lanes::Lanes;
use hawser_protocol::limits::GROUP_MEMBERS_MAX;
use hawser_protocol::message::{MessageRecord, MessageType};
use hawser_protocol::record::GroupOp;
use std::collections::BTreeSet;

/// Times that one user may join one group; the row stays below 8 KiB.
const INTERVALS_MAX: usize = 256;

pub(super) fn judge(
    place: &Place<'_>,
    memory: &mut Memory,
    store: &dyn Store,
    (actor, op_id): (&UserId, ClientMsgId),
    chat: &ChatId,
    op: &GroupOp,
) -> Result<Plan, StoreError> {
    // The name is a constant of the right form.
    let device = DeviceId::new(API_DEVICE).expect("a plain word");
    let key: DedupKey = (actor.clone(), device, chat.clone(), op_id);
    let plan = match known(place, memory, store, &key)? {
        Some(plan) => plan,
        None => {
            let decided = decided(place, store, &key)?;
            let previous = memory.head_before(chat, place.seq, store)?;
            let group = memory.group(chat, store)?;
            let mut change = Change::new(place.seq, previous.ordinal + 1, group, decided);
            match change.apply(place, actor, chat, op) {
                Ok(body) => {
                    let touched = change.touched();
                    let effects = Effects { body, touched };
                    accept(place, memory, store, &key, previous, effects)?
                }
                Err(code) => return Ok(refuse(place, memory, &key, code)),
            }
        }
    };
    let mut plan = plan;
    if plan.verdict == Verdict::Changed {
        let group = memory.group(chat, store)?;
        let told = lane::tell(place, (actor, op_id), chat, op, group);
        plan.produce.extend(told);
    }
    Ok(plan)
}

/// What is to be done for a change that has been judged before: nothing, where the record is another one; else what
/// was done then.
pub(super) fn known(
    place: &Place<'_>,
    memory: &mut Memory,
    store: &dyn Store,
    key: &DedupKey,
) -> Result<Option<Plan>, StoreError> {
    match memory.dedup(key, store)? {
        Some(row) if row.seq < place.seq => Ok(Some(Plan::empty(Verdict::Duplicate))),
        Some(row) if row.seq == place.seq => replay(place, memory, store, &key.2, &row).map(Some),
        _ => Ok(None),
    }
}

/// Whether this very record was found to be allowed before, though not all that follows from it may be written. The
/// decision is stored before everything else, so that where there is none, nothing is written.
pub(super) fn decided(
    place: &Place<'_>,
    store: &dyn Store,
    key: &DedupKey,
) -> Result<bool, StoreError> {
    let row = store.dedup(&key.0, &decided_device(), &key.2, &key.3)?;
    Ok(row.is_some_and(|row| row.seq == place.seq))
}

/// Device under which decisions are remembered.
pub(super) fn decided_device() -> DeviceId {
    // The name is a constant of the right form.
    DeviceId::new("api-decided").expect("plain words")
}

/// What a change that is allowed comes to.
pub(super) struct Effects {
    pub(super) body: MembershipBody,
    pub(super) touched: BTreeSet<UserId>,
}

/// Writes an applied change as a message into the chat.
pub(super) fn accept(
    place: &Place<'_>,
    memory: &mut Memory,
    store: &dyn Store,
    key: &DedupKey,
    previous: ChatHead,
    effects: Effects,
) -> Result<Plan, StoreError> {
    let Effects { body, touched } = effects;
    let record = MessageRecord {
        seq: place.seq,
        prev_seq: previous.seq,
        ordinal: previous.ordinal + 1,
        message_id: message_id(place, place.time_ms, place.seq),
        client_msg_id: key.3,
        send_ts_ms: place.time_ms,
        stored_ts_ms: place.time_ms,
        message_type: MessageType::MEMBERSHIP,
        sender: key.0.clone(),
        sender_device: key.1.clone(),
        chat: key.2.clone(),
        // Strings and numbers always serialize.
        body: Bytes::from(serde_json::to_vec(&body).unwrap_or_default()),
    };
    let group = memory.group(&record.chat, store)?;
    let plan = planned(place, key, &record, group, &touched);
    let head = ChatHead {
        seq: record.seq,
        ordinal: record.ordinal,
    };
    memory.accepted(&record.chat, head);
    memory
        .concern()
        .wrote(&record.chat, record.prev_seq, record.seq, &record.sender);
    memory.touched(touched.len());
    memory.remember(key, dedup_row(&record));
    Ok(plan)
}

/// The refusal is remembered, so that whoever asked can read it.
pub(super) fn refuse(
    place: &Place<'_>,
    memory: &mut Memory,
    key: &DedupKey,
    code: ErrorCode,
) -> Plan {
    let mut plan = Plan::empty(Verdict::Rejected(code));
    let row = DedupRow {
        seq: place.seq,
        error: code.number(),
        ordinal: 0,
        prev_seq: Seq::NONE,
        stored_ts_ms: place.time_ms,
    };
    plan.store.push(dedup_op(key, row.clone()));
    plan.produce = feed::refused(place, key, row.error);
    memory.remember(key, row);
    plan
}

fn dedup_op(key: &DedupKey, row: DedupRow) -> StoreOp {
    StoreOp::Dedup {
        user: key.0.clone(),
        device: key.1.clone(),
        chat: key.2.clone(),
        client_msg_id: key.3,
        row,
    }
}

fn planned(
    place: &Place<'_>,
    key: &DedupKey,
    record: &MessageRecord,
    group: &GroupState,
    touched: &BTreeSet<UserId>,
) -> Plan {
    let chat = &record.chat;
    let bytes = record.encode();
    let mut plan = Plan::empty(Verdict::Changed);
    let decision = (key.0.clone(), decided_device(), key.2.clone(), key.3);
    plan.store.push(dedup_op(&decision, dedup_row(record)));
    plan.store.push(StoreOp::Message {
        chat: chat.clone(),
        ordinal: record.ordinal,
        seq: record.seq,
        record: bytes.clone(),
        envelopes: Bytes::new(),
    });
    plan.store.push(StoreOp::Head {
        chat: chat.clone(),
        head: ChatHead {
            seq: record.seq,
            ordinal: record.ordinal,
        },
    });
    for member in touched.iter().filter_map(|user| group.members.get(user)) {
        plan.store.push(StoreOp::Member {
            chat: chat.clone(),
            member: member.clone(),
            write_seq: record.seq,
        });
    }
    if let Some(info) = &group.info {
        plan.store.push(StoreOp::Chat {
            chat: chat.clone(),
            info: info.clone(),
        });
    }
    plan.store.push(dedup_op(key, dedup_row(record)));
    plan.deliver(place.deliver(chat, &bytes, concerned(group, record.seq), &[], None));
    plan.produce.extend(feed::accepted(place, group, record));
    plan.groups.extend(shown(chat, group));
    plan
}

/// As the directory shows the group; a lane is none of its own.
fn shown(chat: &ChatId, group: &GroupState) -> Option<(Group, Seq)> {
    match chat.lane() {
        0 => group.view(chat),
        _ => None,
    }
}

/// Who sees a change: the members before it and those after it.
fn concerned(group: &GroupState, seq: Seq) -> impl Iterator<Item = &UserId> {
    let touches = move |i: &Interval| i.joined <= seq && i.left.is_none_or(|left| seq <= left);
    let all = group.members.values();
    all.filter(move |m| m.intervals.iter().any(touches))
        .map(|m| &m.user)
}

/// The record has been here before, and all its rows are written (the dedup row is the last of
/// them): delivers what is stored once more, and shows the directory the group as it is.
fn replay(
    place: &Place<'_>,
    memory: &mut Memory,
    store: &dyn Store,
    chat: &ChatId,
    row: &DedupRow,
) -> Result<Plan, StoreError> {
    if row.error != 0 {
        // A number that this version does not know was written by a later one.
        let code = ErrorCode::from_number(row.error).unwrap_or(ErrorCode::Internal);
        return Ok(Plan::empty(Verdict::Rejected(code)));
    }
    let mut plan = Plan::empty(Verdict::Changed);
    let page = Page {
        from: row.ordinal,
        to: row.ordinal,
        backwards: false,
        limit: 1,
        bytes_max: usize::MAX,
    };
    // Retention may have removed it: then it is nobody's to get.
    let stored = store.messages(chat, page)?.into_iter().next();
    memory.refresh(chat, place.seq);
    let group = memory.group(chat, store)?;
    if let Some(stored) = stored.filter(|stored| stored.seq == place.seq) {
        let to = concerned(group, place.seq);
        plan.deliver(place.deliver(chat, &stored.record, to, &[], None));
        // What ingest wrote itself can be read.
        if let Ok(record) = MessageRecord::decode(&stored.record) {
            plan.produce.extend(feed::accepted(place, group, &record));
        }
    }
    plan.groups.extend(shown(chat, group));
    let head = ChatHead {
        seq: place.seq,
        ordinal: row.ordinal,
    };
    memory.accepted(chat, head);
    Ok(plan)
}

/// One change in the making; nothing of it is applied when it is refused.
pub(super) struct Change<'g> {
    seq: Seq,
    ordinal: u64,
    group: &'g mut GroupState,
    touched: BTreeSet<UserId>,
    /// It was found to be allowed before: what of it is written already must not be held against it.
    decided: bool,
}

impl<'g> Change<'g> {
    pub(super) fn new(seq: Seq, ordinal: u64, group: &'g mut GroupState, decided: bool) -> Self {
        if decided {
            group.before(seq);
        }
        Self {
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
    fn apply(
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
        let info = self.group.info.as_mut().filter(|info| info.lanes == 0);
        let (Some(info), Some(lanes)) = (info, lanes) else {
            return Err(ErrorCode::Conflict);
        };
        info.lanes = lanes.lanes;
        info.lanes_since_ms = lanes.since_ms;
        info.relaxed_seq = seq;
        self.touch();
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
        if self.group.at(self.seq).count() + fresh.len() > GROUP_MEMBERS_MAX {
            return Err(ErrorCode::GroupFull);
        }
        for user in &fresh {
            self.join(user);
        }
        self.touch();
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
        let staying = || self.group.at(self.seq).filter(|m| !users.contains(&m.user));
        if !self.decided && staying().next().is_some() && !staying().any(|m| m.admin) {
            return Err(ErrorCode::Conflict);
        }
        for user in users {
            if let Some(member) = self.group.members.get_mut(user) {
                member.admin = false;
                if let Some(last) = member.intervals.last_mut() {
                    last.left = Some(self.seq);
                    last.left_ordinal = Some(self.ordinal);
                }
                self.touched.insert(user.clone());
            }
        }
        self.touch();
        Ok(MembershipBody::about(op, users.iter()))
    }

    fn update(&mut self, name: &str, picture: &str) -> MembershipBody {
        if let Some(info) = &mut self.group.info {
            info.name = name.to_owned();
            info.picture = picture.to_owned();
        }
        self.touch();
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
        let others = self.group.at(self.seq).any(|m| m.admin && m.user != *user);
        if !self.decided && !admin && !others {
            return Err(ErrorCode::Conflict);
        }
        if let Some(member) = self.group.members.get_mut(user) {
            member.admin = admin;
            self.touched.insert(user.clone());
        }
        self.touch();
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

    /// The group's own row says which change was the last, whatever it changed.
    fn touch(&mut self) {
        if let Some(info) = &mut self.group.info {
            info.write_seq = self.seq;
        }
    }
}
