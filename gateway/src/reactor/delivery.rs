//! From the delivery partitions to sessions: pushed to who is live, pulled for who is behind.

use super::turn::Reactor;
use super::users::Present;
use crate::control::ToControl;
use crate::counters::{Counter, Histogram};
use crate::deliver::partition::{Partition, Polled};
use crate::deliver::prepared::{Prepared, Written};
use crate::deliver::replay::Missed;
use crate::session::SessionId;
use crate::session::connection::{Connection, Device, Role};
use bytes::Bytes;
use hawser_engines::log::{ReadError, Record};
use hawser_protocol::codes::CloseCode;
use hawser_protocol::frame::{DeliverFlags, ServerFrame};
use hawser_protocol::pb;
use hawser_protocol::record::{DeliveryView, EphemeralRecord, RecordError, ViewKind};
use hawser_protocol::server::{Found, Offer};
use hawser_protocol::shards::ShardTable;

/// Records of one partition in one turn, and of all.
const RECORDS_PER_POLL: usize = 64;
const RECORDS_PER_TURN: usize = 512;
/// Records that one session reads from the ring before others have their turn.
const RECORDS_PER_PULL: usize = 64;
/// While so many bytes wait to go out, nothing more is delivered.
pub(super) const WAITING_BYTES_MAX: usize = 128 << 10;
/// To ask whether a user is in a giant group costs as much as so many steps through its members.
const PRESENT_COST: usize = 6;
/// One read of the log below the ring.
const LOG_READ_RECORDS: usize = 512;
const LOG_READ_BYTES: usize = 512 << 10;

impl Reactor {
    /// Consumes what the partitions have. Returns whether there may be more.
    pub(super) fn deliver(&mut self) -> bool {
        let now_ms = self.node.clock.now_ms();
        let mut records = std::mem::take(&mut self.scratch.records);
        let mut more = self.read_lane(now_ms, &mut records);
        self.fetch_bodies(now_ms);
        let mut left = RECORDS_PER_TURN;
        for step in 0..self.partitions.len() {
            let at = (self.next_partition + step) % self.partitions.len();
            if left == 0 {
                more = true;
                self.next_partition = at;
                break;
            }
            let partition = &mut self.partitions[at];
            let polled = partition
                .delivery
                .poll(RECORDS_PER_POLL, now_ms, &mut records);
            left = left.saturating_sub(records.len());
            more |= self.polled(polled);
            for record in records.drain(..) {
                self.delivery_record(at, &record);
            }
            self.finish_run(true);
            let partition = &mut self.partitions[at];
            let polled = partition
                .typing
                .poll(RECORDS_PER_POLL, now_ms, &mut records);
            more |= self.polled(polled);
            for record in records.drain(..) {
                self.typing_record(&record.value);
            }
        }
        self.scratch.records = records;
        self.look_for_warm(now_ms);
        more
    }

    pub(super) fn polled(&mut self, polled: Polled) -> bool {
        match polled {
            Polled::More => return true,
            Polled::Idle => {}
            Polled::Skipped { low } => {
                self.counters.inc(Counter::ReadErrors);
                tracing::warn!(low, "records were lost to this reader before this offset");
                return true;
            }
            Polled::Failed(error) => {
                self.counters.inc(Counter::ReadErrors);
                tracing::warn!(%error, "a delivery partition cannot be read");
            }
        }
        false
    }

    fn delivery_record(&mut self, at: usize, record: &Record) {
        let id = self.partitions[at].id;
        self.counters.inc(Counter::DeliveryRecords);
        let wall_ms = self.node.clock.wall_ms();
        let lag_ms = wall_ms.saturating_sub(record.timestamp_ms);
        self.counters.observe(Histogram::DeliveryLagMs, lag_ms);
        let view = DeliveryView::parse(&record.value);
        let found = view.as_ref().map_or(Found::Missing, |v| self.find_body(v));
        let prepared = view.and_then(|view| {
            let prepared = Prepared::new(record.offset, &view, found.record())?;
            Ok((view, prepared))
        });
        let Ok((view, mut prepared)) = prepared else {
            self.counters.inc(Counter::DeliveryBad);
            let nobody = std::iter::empty();
            return self.replay.push(id, record.offset, &record.value, nobody);
        };
        let joins = self.scratch.run.takes(&prepared);
        if !joins {
            self.finish_run(false);
        }
        if let ViewKind::Shard(shard) = &view.kind {
            let shards = self.shards();
            let known = &mut self.partitions[at].shards;
            known.apply(shard, |user| shards.partition(user) == id);
        }
        let marks = &mut self.partitions[at].marks;
        if !marks.pass(view.source_partition, view.source_seq, view.sub_index) {
            self.counters.inc(Counter::DeliveryDuplicates);
            let nobody = std::iter::empty();
            return self.replay.push(id, record.offset, &record.value, nobody);
        }
        self.replay
            .push(id, record.offset, &record.value, prepared.lines());
        if let ViewKind::Revoke(revoke) = &view.kind {
            return self.revoke(revoke);
        }
        let shards = &self.partitions[at].shards;
        if joins {
            self.scratch.run.add(&prepared);
            return self.push_to_sender(&prepared);
        }
        if let Some(audience) = prepared.audience() {
            let mut run = std::mem::take(&mut self.scratch.run);
            run.begin(&prepared, self.rings.len());
            let sender = Some(audience.sender);
            run.for_sender = self.targets(&prepared, shards, sender, &mut run.targets);
            run.add(&prepared);
            self.scratch.run = run;
            return self.push_to_sender(&prepared);
        }
        let mut targets = std::mem::take(&mut self.scratch.targets);
        self.targets(&prepared, shards, None, &mut targets);
        prepared.expect(targets.len());
        for session in targets.drain(..) {
            self.push(session, &prepared);
        }
        self.scratch.targets = targets;
    }

    /// A message that is fanned out with others is not the same for its sender's sessions: they get it at once, where it
    /// is one of those of the run.
    fn push_to_sender(&mut self, prepared: &Prepared<'_>) {
        let Some(audience) = prepared.audience().filter(|_| self.scratch.run.for_sender) else {
            return;
        };
        let mut targets = std::mem::take(&mut self.scratch.targets);
        let present = self.users.sessions(audience.sender);
        targets.extend(present.iter().map(|p| p.session));
        for session in targets.drain(..) {
            self.push(session, prepared);
        }
        self.scratch.targets = targets;
    }

    /// The sessions here that a record is for, but for those of one user. Returns whether that user is a recipient.
    fn targets(
        &self,
        prepared: &Prepared<'_>,
        shards: &ShardTable,
        except: Option<&str>,
        into: &mut Vec<SessionId>,
    ) -> bool {
        let mut found = false;
        let mut take = |user: &str, present: &[Present]| {
            if Some(user) == except {
                found = true;
            } else {
                into.extend(present.iter().map(|p| p.session));
            }
        };
        // Of a giant group few may be here: a node that begins reads its past for nobody.
        let few = prepared
            .group()
            .filter(|(chat, ..)| self.users.len() * PRESENT_COST < shards.size(chat));
        match few {
            Some((chat, seq, changed)) => self
                .users
                .iter()
                .filter(|(user, _)| shards.has(chat, user.as_str(), seq, changed))
                .for_each(|(user, present)| take(user.as_str(), present)),
            None => prepared
                .recipients(shards)
                .for_each(|user| take(user, self.users.sessions(user))),
        }
        found
    }

    /// Gives a record that has just come to a session of one of its recipients.
    fn push(&mut self, id: SessionId, prepared: &Prepared<'_>) {
        let Some(mut connection) = self.take(id) else {
            return;
        };
        self.push_to(&mut connection, prepared);
        self.put(connection);
    }

    fn push_to(&mut self, connection: &mut Connection, prepared: &Prepared<'_>) {
        let whole = !prepared.lacks_body();
        let room = whole && connection.output.waiting() < WAITING_BYTES_MAX;
        let open = connection.is_open();
        let Role::Session(device) = &mut connection.role else {
            return;
        };
        if !open {
            return;
        }
        let lagged = device.session.lagging();
        match device.session.offer(&self.settings, prepared.offset, room) {
            Offer::Send => {
                self.write(connection, prepared, DeliverFlags::default());
            }
            Offer::Syncing if prepared.answers(device) => {
                // Not to be acknowledged: it comes again, with its offset, after the adoption.
                let out = connection.output.plain(&mut self.pool);
                let from = out.len();
                let scratch = &mut self.scratch.frame;
                let flags = DeliverFlags::default();
                if let Some(written) = prepared.write(device, 0, flags, scratch, out) {
                    self.answered(device, &written);
                    device.session.return_window(&mut self.scratch.windows);
                    self.compress(connection, from);
                    self.touch(connection);
                }
            }
            Offer::Later if !lagged && whole => self.counters.inc(Counter::Lagged),
            // It reads it as soon as the body is here, and what comes meanwhile after it.
            Offer::Later if !lagged => self.queue_if_behind(connection),
            Offer::Later | Offer::Old | Offer::Syncing => {}
        }
    }

    /// Writes a record for a session and notes it; `false`: it was not for this device.
    fn write(
        &mut self,
        connection: &mut Connection,
        prepared: &Prepared<'_>,
        flags: DeliverFlags,
    ) -> bool {
        let Role::Session(device) = &mut connection.role else {
            return false;
        };
        let out = connection.output.plain(&mut self.pool);
        let from = out.len();
        let scratch = &mut self.scratch.frame;
        let written = prepared.write(device, prepared.offset, flags, scratch, out);
        let Some(written) = written else {
            device.session.skip_to(prepared.offset + 1);
            return false;
        };
        self.answered(device, &written);
        self.counters.inc(Counter::Delivered);
        self.counters.inc(Counter::FramesOut);
        let Written { bytes, message, .. } = written;
        let (windows, at) = (&mut self.scratch.windows, prepared.offset);
        device.session.delivered_with(windows, at, bytes, message);
        self.compress(connection, from);
        self.touch(connection);
        true
    }

    fn answered(&self, device: &mut Device, written: &Written) {
        if let Some(id) = written.answers {
            device.session.answered(id);
        }
    }

    /// Puts a session that may read now on the list of those.
    pub(super) fn queue_if_behind(&mut self, connection: &mut Connection) {
        let room = connection.output.waiting() < WAITING_BYTES_MAX;
        let id = connection.id;
        let open = connection.is_open();
        if let Role::Session(device) = &mut connection.role
            && open
            && room
            && !device.queued
            && !device.reading_log
            && !device.awaits_body
            && device.session.reading(&self.settings).is_some()
            && self.replay.span(device.partition).is_some()
        {
            device.queued = true;
            self.behind.push_back(id);
        }
    }

    /// Lets sessions that are behind read. Returns whether some still may.
    pub(super) fn pull(&mut self, max: usize) -> bool {
        for _ in 0..max.min(self.behind.len()) {
            let Some(id) = self.behind.pop_front() else {
                break;
            };
            self.with(id, |reactor, connection| {
                if let Some(device) = connection.device() {
                    device.queued = false;
                }
                reactor.pull_for(connection);
                reactor.queue_if_behind(connection);
            });
        }
        !self.behind.is_empty()
    }

    pub(super) fn pull_for(&mut self, connection: &mut Connection) {
        for _ in 0..RECORDS_PER_PULL {
            let room = connection.output.waiting() < WAITING_BYTES_MAX;
            let open = connection.is_open();
            let Role::Session(device) = &mut connection.role else {
                return;
            };
            let Some(from) = device.session.reading(&self.settings) else {
                return;
            };
            let read = self.replay.span(device.partition).is_some();
            // One that was closed while it was on the list gets nothing after its close.
            if !room || !open || device.awaits_body || !read {
                return;
            }
            let (partition, user) = (device.partition, device.user.as_str());
            let lines = lines_of(&self.partitions, partition, user);
            match self.replay.next(partition, lines, from) {
                Missed::Record { offset, value } => {
                    let value: Bytes = value.clone();
                    if !self.replay_record(connection, offset, &value) {
                        return self.look_ahead(connection, offset + 1);
                    }
                }
                Missed::End { offset } => return self.caught_up(connection, offset),
                Missed::Below { .. } => return self.ask_log(connection, from),
            }
        }
    }

    /// Writes one record of the past; `false`: the session waits for its body.
    fn replay_record(&mut self, connection: &mut Connection, offset: u64, value: &[u8]) -> bool {
        let view = DeliveryView::parse(value);
        let found = view.as_ref().map_or(Found::Missing, |v| self.find_body(v));
        if let Ok(view) = &view
            && let ViewKind::Reference(reference) = &view.kind
            && found == Found::Missing
        {
            return !self.await_body(connection, offset, view.body_key(), reference);
        }
        let Role::Session(device) = &mut connection.role else {
            return true;
        };
        if found == Found::Gone {
            self.counters.inc(Counter::BodiesGone);
            device.session.skip_to(offset + 1);
            return true;
        }
        let prepared = view.and_then(|view| Prepared::new(offset, &view, found.record()));
        let prepared = prepared.ok().filter(|prepared| {
            // Of a group's line, it is for those whose time it was.
            prepared.group().is_none()
                || shards_of(&self.partitions, device.partition)
                    .is_some_and(|shards| prepared.is_for(device.user.as_str(), shards))
        });
        let Some(prepared) = prepared else {
            // One that is malformed was counted when it was consumed.
            device.session.skip_to(offset + 1);
            return true;
        };
        let flags = match device.session.replaying() {
            true => DeliverFlags::REPLAYED,
            false => DeliverFlags::default(),
        };
        if self.write(connection, &prepared, flags) {
            self.counters.inc(Counter::Replayed);
        }
        true
    }

    fn caught_up(&mut self, connection: &mut Connection, offset: u64) {
        let Role::Session(device) = &mut connection.role else {
            return;
        };
        let Some(offset) = device.session.at_end(offset) else {
            return;
        };
        let resume_token = self.resume_token(device, offset);
        let caught_up = pb::CaughtUp {
            offset,
            resume_token,
        };
        self.reply(connection, &ServerFrame::CaughtUp(caught_up));
    }

    /// What the ring no longer holds comes from the log, by the control thread.
    fn ask_log(&mut self, connection: &mut Connection, from: u64) {
        let Role::Session(device) = &mut connection.role else {
            return;
        };
        let asked = ToControl::ReadLog {
            core: self.index,
            session: connection.id,
            generation: self.shape.generation,
            partition: device.partition,
            from,
            max: LOG_READ_RECORDS,
            bytes: LOG_READ_BYTES,
        };
        // Full: the tick asks again.
        if self.node.to_control(asked) {
            device.reading_log = true;
            self.counters.inc(Counter::LagLogReads);
        } else {
            self.counters.inc(Counter::ControlShed);
            let again_ms = self.node.clock.now_ms() + 100;
            self.arm(connection, again_ms);
        }
    }

    /// The log has answered a session that is behind.
    pub(super) fn log_read(
        &mut self,
        connection: &mut Connection,
        result: Result<Vec<Record>, ReadError>,
    ) {
        if let Some(device) = connection.device() {
            device.reading_log = false;
        }
        match result {
            Ok(records) => {
                let mut taken = 0;
                for record in &records {
                    if !self.log_record(connection, record) {
                        break;
                    }
                    taken += 1;
                }
                self.look_ahead_in(connection, &records[taken..]);
                // An empty read below the ring: the next look decides.
                self.queue_if_behind(connection);
            }
            Err(ReadError::OutOfRange { .. }) => {
                // What it misses is gone: never a part of it. It comes again and is told to sync.
                self.counters.inc(Counter::LagLost);
                let code = CloseCode::Unavailable;
                self.close(
                    connection,
                    code.number(),
                    "the log no longer holds what is missed",
                );
            }
            Err(_) => {
                let again_ms = self.node.clock.now_ms() + 500;
                self.arm(connection, again_ms);
            }
        }
    }

    /// One record of the whole partition; `false`: the session takes no more now.
    fn log_record(&mut self, connection: &mut Connection, record: &Record) -> bool {
        let room = connection.output.waiting() < WAITING_BYTES_MAX;
        let Role::Session(device) = &mut connection.role else {
            return false;
        };
        let position = device.session.reading(&self.settings);
        let Some(position) = position.filter(|_| room && !device.awaits_body) else {
            return false;
        };
        if record.offset < position {
            return true;
        }
        let shards = shards_of(&self.partitions, device.partition);
        let is_mine = shards
            .is_some_and(|shards| is_for(record, device.user.as_str(), shards).unwrap_or(false));
        if is_mine {
            return self.replay_record(connection, record.offset, &record.value);
        }
        device.session.skip_to(record.offset + 1);
        true
    }

    /// Somebody types: to the recipients' sessions that watch the chat.
    fn typing_record(&mut self, value: &[u8]) {
        let Ok(EphemeralRecord::Typing {
            chat,
            user,
            stopped,
            recipients,
        }) = EphemeralRecord::decode(value)
        else {
            self.counters.inc(Counter::DeliveryBad);
            return;
        };
        let expires_in_ms = if stopped {
            0
        } else {
            hawser_protocol::limits::TYPING_TTL_MS
        };
        let frame = ServerFrame::TypingUpdate(pb::TypingUpdate {
            chat: chat.as_str().to_owned(),
            user: user.as_str().to_owned(),
            stopped,
            expires_in_ms: u32::try_from(expires_in_ms).unwrap_or(u32::MAX),
        });
        let mut targets = std::mem::take(&mut self.scratch.targets);
        for recipient in recipients.iter().filter(|r| **r != user) {
            let sessions = self.users.sessions(recipient.as_str()).iter();
            targets.extend(sessions.map(|present| present.session));
        }
        for session in targets.drain(..) {
            self.signal(session, &frame, |device| device.watches(&chat));
        }
        self.scratch.targets = targets;
    }

    /// Sends what may be lost, where it is wanted and the connection is not busy.
    pub(super) fn signal(
        &mut self,
        id: SessionId,
        frame: &ServerFrame,
        wants: impl Fn(&Device) -> bool,
    ) {
        let Some(mut connection) = self.take(id) else {
            return;
        };
        let busy = connection.output.waiting() >= WAITING_BYTES_MAX / 2;
        let wanted = connection.device().is_some_and(|device| wants(device));
        if wanted && busy {
            self.counters.inc(Counter::TypingShed);
        } else if wanted && connection.is_open() {
            self.reply(&mut connection, frame);
        }
        self.put(connection);
    }
}

/// Who is in the edge-sharded groups of a partition, where it is read here.
fn shards_of(partitions: &[Partition], id: u32) -> Option<&ShardTable> {
    let partition = partitions.iter().find(|partition| partition.id == id);
    partition.map(|partition| &partition.shards)
}

/// The lines of the replay ring on which a user's records are: its own, and those of its giant groups.
pub(super) fn lines_of<'a>(
    partitions: &'a [Partition],
    id: u32,
    user: &'a str,
) -> impl Iterator<Item = &'a str> {
    let chats = shards_of(partitions, id).map(|shards| shards.chats_of(user));
    std::iter::once(user).chain(chats.into_iter().flatten())
}

/// Whether a delivery record is for a user.
fn is_for(record: &Record, user: &str, shards: &ShardTable) -> Result<bool, RecordError> {
    let view = DeliveryView::parse(&record.value)?;
    Ok(Prepared::new(record.offset, &view, None)?.is_for(user, shards))
}
