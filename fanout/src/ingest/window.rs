//! The dedup window: what the client message ids of the last records came to, and since when it knows all of them.
//!
//! A client message id is stamped with the time at which it was made, and a record that is earlier than its stamp by
//! more than the clock skew is refused. So an id can be in no record older than its stamp less that skew; where the
//! window holds every record since then, an id that it does not hold is new, and the store need not be asked.

use super::API_DEVICE;
use super::memory::DedupKey;
use ahash::AHashMap;
use hawser_engines::log::Record;
use hawser_engines::store::DedupRow;
use hawser_protocol::ids::{ChatId, ClientMsgId, DeviceId, Seq, UserId};
use hawser_protocol::limits::CLOCK_SKEW_MS_MAX;
use hawser_protocol::record::SourceRecord;
use xxhash_rust::xxh3::Xxh3;

/// How far apart the clocks of two edge nodes are at most, milliseconds: they stamp the records.
pub(super) const NODE_SKEW_MS_MAX: u64 = 60_000;

/// 128 bits in place of the whole key; two keys that share them are as likely as a broken disk.
type Digest = u128;

/// Records of before the commit, read once more so that the window knows their ids; of the time just before them
/// nothing is assumed but that clocks differ.
#[derive(Debug, Clone, Default)]
pub struct Recollection {
    digests: Vec<Digest>,
    /// The latest time of them, milliseconds.
    latest_ms: u64,
    whole: bool,
}

impl Recollection {
    /// Of nothing: the log begins with a record of this time, or what came before it is in a log that is gone.
    #[must_use]
    pub fn begins_at(time_ms: u64) -> Self {
        Self {
            latest_ms: time_ms,
            ..Self::default()
        }
    }

    /// What can be remembered of a stretch of a partition. `whole`: nothing comes before it in the log.
    #[must_use]
    pub fn of(records: &[Record], whole: bool) -> Self {
        let mut found = Self {
            whole,
            ..Self::default()
        };
        for record in records {
            found.latest_ms = found.latest_ms.max(record.timestamp_ms);
            if let Ok(SourceRecord::Send {
                sender,
                device,
                send,
            }) = SourceRecord::decode(&record.value)
            {
                let id = send.client_msg_id;
                found
                    .digests
                    .push(digest(&sender, &device, &send.chat, &id));
            }
        }
        found
    }
}

/// The window of one memory.
#[derive(Debug)]
pub(super) struct Window {
    /// Ids of one half; each costs about 100 bytes.
    half_max: usize,
    recent: AHashMap<Digest, DedupRow>,
    older: AHashMap<Digest, DedupRow>,
    /// Of what is in `older`: latest seq and time.
    older_last: (Seq, u64),
    recent_last: (Seq, u64),
    /// Ids of before the commit: what they came to is in the store.
    recalled: AHashMap<Digest, ()>,
    recalled_last_ms: u64,
    /// Every id of a record of this time or later is here, milliseconds; `u64::MAX`: of none.
    since_ms: u64,
}

/// What the window says of an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// It came to this.
    Known(DedupRow),
    /// No record before had it.
    New,
    /// The store knows.
    Ask,
}

impl Window {
    pub(super) fn new(half_max: usize) -> Self {
        Self {
            half_max,
            recent: AHashMap::new(),
            older: AHashMap::new(),
            older_last: (Seq::NONE, 0),
            recent_last: (Seq::NONE, 0),
            recalled: AHashMap::new(),
            recalled_last_ms: 0,
            since_ms: u64::MAX,
        }
    }

    pub(super) fn look(&self, key: &DedupKey) -> Said {
        let digest = digest(&key.0, &key.1, &key.2, &key.3);
        if let Some(row) = self.recent.get(&digest).or_else(|| self.older.get(&digest)) {
            return Said::Known(row.clone());
        }
        // Operations of the API are few, and whether one has been judged before decides what is done.
        let earliest = key.3.timestamp_ms().saturating_sub(CLOCK_SKEW_MS_MAX);
        let covered = earliest >= self.since_ms && key.1.as_str() != API_DEVICE;
        match covered && !self.recalled.contains_key(&digest) {
            true => Said::New,
            false => Said::Ask,
        }
    }

    pub(super) fn remember(&mut self, key: &DedupKey, row: DedupRow) {
        self.recent_last.0 = self.recent_last.0.max(row.seq);
        self.recent_last.1 = self.recent_last.1.max(row.stored_ts_ms);
        let digest = digest(&key.0, &key.1, &key.2, &key.3);
        self.recent.insert(digest, row);
    }

    /// Records before all that it knows.
    pub(super) fn recall(&mut self, found: &Recollection) {
        self.recalled.extend(found.digests.iter().map(|d| (*d, ())));
        self.recalled_last_ms = self.recalled_last_ms.max(found.latest_ms);
        if found.whole {
            self.since_ms = 0;
        } else if !found.digests.is_empty() || found.latest_ms > 0 {
            self.since_ms = found.latest_ms.saturating_add(NODE_SKEW_MS_MAX);
        }
    }

    /// How many it may recall.
    pub(super) fn room(&self) -> usize {
        self.half_max.saturating_sub(self.recalled.len())
    }

    /// What came before `seq` is in the store: makes room.
    pub(super) fn settled(&mut self, seq: Seq) {
        if self.recent.len() <= self.half_max || self.older_last.0 >= seq {
            return;
        }
        if !self.older.is_empty() || !self.recalled.is_empty() {
            if self.since_ms != u64::MAX {
                let gone = self.older_last.1.max(self.recalled_last_ms);
                self.since_ms = self.since_ms.max(gone.saturating_add(1));
            }
            self.recalled = AHashMap::new();
        }
        self.older = std::mem::take(&mut self.recent);
        self.older_last = self.recent_last;
    }
}

fn digest(user: &UserId, device: &DeviceId, chat: &ChatId, id: &ClientMsgId) -> Digest {
    let mut hash = Xxh3::new();
    for text in [user.as_str(), device.as_str(), chat.as_str()] {
        hash.update(text.as_bytes());
        // No id holds it.
        hash.update(&[0]);
    }
    hash.update(&id.0);
    hash.digest128()
}
