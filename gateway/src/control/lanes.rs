//! Groups in relaxed order: every node follows which there are, so that a message is appended to its own lane.
//!
//! A node that has not heard of one yet appends to the group's own lane, and ingest sends the message on: what is
//! known here saves work and decides nothing.

use ahash::AHashMap;
use arc_swap::ArcSwap;
use hawser_engines::log::{Consumer, Log, ReadError, Record, Start, Topic, Wake};
use hawser_protocol::ids::ChatId;
use hawser_protocol::lanes::Lanes;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

/// Groups known at most, about 100 bytes each; of further ones ingest takes care.
const GROUPS_MAX: usize = 65_536;
/// Records taken per look.
const RECORDS_PER_LOOK: usize = 256;
/// What the records' keys begin with; the chat follows.
const KEY: &[u8] = b"lanes/";

/// How groups are spread; read by every core.
#[derive(Debug, Default)]
pub(crate) struct LaneTable {
    any: AtomicBool,
    groups: ArcSwap<AHashMap<ChatId, Lanes>>,
}

impl LaneTable {
    /// How a group is spread, where this node has heard that it is.
    pub(crate) fn of(&self, chat: &ChatId) -> Option<Lanes> {
        match self.any.load(Ordering::Relaxed) {
            true => self.groups.load().get(chat).copied(),
            false => None,
        }
    }

    fn learn(&self, news: Vec<(ChatId, Lanes)>) {
        if news.is_empty() {
            return;
        }
        let mut groups = AHashMap::clone(&self.groups.load());
        for (chat, lanes) in news {
            if groups.len() < GROUPS_MAX || groups.contains_key(&chat) {
                groups.insert(chat, lanes);
            }
        }
        self.groups.store(Arc::new(groups));
        self.any.store(true, Ordering::Relaxed);
    }
}

/// Follows the records that tell of lanes.
pub(crate) struct LaneNews {
    consumer: Box<dyn Consumer>,
    woken: Arc<Notify>,
}

struct Woken(Arc<Notify>);

impl Wake for Woken {
    fn wake(&self) {
        self.0.notify_one();
    }
}

impl LaneNews {
    /// Begins at the first record that there is.
    ///
    /// # Errors
    /// The log cannot be reached.
    pub(crate) fn open(log: &dyn Log) -> Result<Self, ReadError> {
        let woken = Arc::new(Notify::new());
        let wake = Arc::new(Woken(Arc::clone(&woken)));
        let consumer = log.consumer(Topic::Leases, 0, Start::Earliest, wake)?;
        woken.notify_one();
        Ok(Self { consumer, woken })
    }

    /// Returns when there may be news.
    pub(crate) async fn changed(&self) {
        self.woken.notified().await;
    }

    /// Takes what there is. Returns whether it could be read.
    pub(crate) fn take(&mut self, table: &LaneTable) -> bool {
        let mut news = Vec::new();
        let taken = self
            .consumer
            .poll(RECORDS_PER_LOOK, &mut |record| news.extend(read(&record)));
        table.learn(news);
        match taken {
            Ok(RECORDS_PER_LOOK) => self.woken.notify_one(),
            Ok(_) => {}
            // Compaction has removed what we stood at: later records of the same groups are there.
            Err(ReadError::OutOfRange { low, .. }) if self.consumer.seek(low).is_ok() => {
                self.woken.notify_one();
            }
            Err(_) => return false,
        }
        true
    }
}

/// What a record tells; others of the topic tell nothing here.
fn read(record: &Record) -> Option<(ChatId, Lanes)> {
    let chat = std::str::from_utf8(record.key.strip_prefix(KEY)?).ok()?;
    let told: Lanes = serde_json::from_slice(&record.value).ok()?;
    Some((
        ChatId::new(chat).ok()?,
        Lanes::new(told.lanes, told.since_ms)?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn record(key: &str, value: &str) -> Record {
        Record {
            offset: 0,
            timestamp_ms: 0,
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::copy_from_slice(value.as_bytes()),
        }
    }

    #[test]
    fn only_sound_records_of_lanes_are_taken() {
        let good = r#"{"lanes":8,"since_ms":1000}"#;
        let (chat, lanes) = read(&record("lanes/g:hall", good)).expect("sound");
        assert_eq!(
            (chat.as_str(), lanes.lanes, lanes.since_ms),
            ("g:hall", 8, 1_000)
        );
        for (key, value) in [
            ("generation/chat-messages", good),
            ("lanes/", good),
            ("lanes/hall", good),
            ("lanes/g:hall", r#"{"lanes":3,"since_ms":0}"#),
            ("lanes/g:hall", "8"),
            ("lanes/g:hall", ""),
        ] {
            assert_eq!(read(&record(key, value)), None, "{key} {value}");
        }
    }

    #[test]
    fn a_group_is_spread_as_it_was_told_and_others_are_not() {
        let table = LaneTable::default();
        let hall = ChatId::new("g:hall").expect("a group");
        assert_eq!(table.of(&hall), None);
        let lanes = Lanes::new(8, 1_000).expect("a power of two");
        table.learn(vec![(hall.clone(), lanes)]);
        assert_eq!(table.of(&hall), Some(lanes));
        for other in ["g:other", "g:hall#1", "dm:a:b"] {
            assert_eq!(table.of(&ChatId::new(other).expect("a chat")), None);
        }
    }
}
