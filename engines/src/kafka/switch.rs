//! What the marks of `leases` mean for a running node: whose cluster this is, and that a topic's next generation
//! counts from now on.

use super::Shared;
use super::error::KafkaError;
use super::leases::Leases;
use super::marks::{CLUSTER, ClusterMark, LAYOUT, Marks};
use super::topics::{TopicState, check_cluster, current, place};
use crate::log::{AppendOutcome, Appended, Produce, Topic};
use bytes::Bytes;
use hawser_protocol::partition::partition;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Topics that can have a next generation while nodes run; with `delivery` go [`Topic::WITH_DELIVERY`].
pub(super) const GROWING: &[Topic] = &[Topic::ChatMessages, Topic::Delivery];

/// Who appends to `chat-messages` may have computed the partition for the generation before: after a switch it follows from
/// the key. (A record of `delivery` has the chat as its key and is for a partition of users: it says its generation.)
pub(super) fn placed(mut record: Produce, state: &TopicState) -> Produce {
    if record.topic == Topic::ChatMessages
        && state.generation > 1
        && let Ok(key) = std::str::from_utf8(&record.key)
        && !key.is_empty()
    {
        record.partition = partition(key, state.partitions);
    }
    record
}

/// The cluster's id; made and written at the very first start.
pub(super) fn identify(shared: &Shared) -> Result<String, KafkaError> {
    let unreachable = |reason: String| shared.admin.unreachable(reason);
    if shared.leases().marks().cluster.is_none() {
        let mark = ClusterMark {
            version: 1,
            layout: LAYOUT,
            id: uuid::Uuid::now_v7().to_string(),
            name: shared.config.cluster.clone(),
        };
        shared.put_mark(CLUSTER, &mark).map_err(unreachable)?;
    }
    // Another node may have been faster: the first counts.
    let marks = shared.leases().marks().clone();
    check_cluster(&shared.config, &marks)?;
    let id = marks.cluster.map(|mark| mark.id);
    id.ok_or_else(|| unreachable("the cluster's record cannot be read back".to_owned()))
}

impl Shared {
    pub(super) fn leases(&self) -> MutexGuard<'_, Leases> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows the marks; of the watch's thread.
    pub(super) fn switch(&self) {
        let marks = {
            let mut leases = self.leases();
            leases.take(Duration::ZERO);
            leases.marks().clone()
        };
        for topic in GROWING {
            self.follow(&marks, *topic);
        }
    }

    /// Whether a mark is ahead of what is in use: its topic was not known yet.
    fn behind(&self, marks: &Marks, topic: Topic) -> bool {
        let used = self.state(topic);
        marks.of(topic.name()).is_some_and(|mark| {
            let fenced = mark.next.as_ref().is_some_and(|next| next.fenced);
            mark.generation > used.generation
                || (mark.generation == used.generation && fenced != used.fenced)
        })
    }

    fn follow(&self, marks: &Marks, topic: Topic) {
        if !self.behind(marks, topic) {
            return;
        }
        let Ok(metadata) = self.admin.metadata() else {
            return;
        };
        let current = |topic| current(&self.config, &metadata, marks, topic);
        let Some(found) = current(topic) else {
            return;
        };
        let with = match topic {
            Topic::Delivery => Topic::WITH_DELIVERY,
            _ => &[],
        };
        let Some(others) = with.iter().map(|t| current(*t)).collect::<Option<Vec<_>>>() else {
            return;
        };
        let used = self.state(topic);
        let odd = !found.partitions.is_power_of_two();
        if odd || found.generation < used.generation || found == **used {
            return;
        }
        tracing::warn!(
            topic = &*found.name,
            generation = found.generation,
            partitions = found.partitions,
            fenced = found.fenced,
            "the topic in use changes: leases says so"
        );
        drop(used);
        // Who sees the topic's next generation finds that of the others.
        for (topic, state) in with.iter().zip(others) {
            self.topics[place(*topic)].store(Arc::new(state));
        }
        self.topics[place(topic)].store(Arc::new(found));
    }

    /// Writes a mark, and waits until it was read back (which does not mean that it counts).
    pub(super) fn put_mark(&self, key: &str, mark: &impl serde::Serialize) -> Result<(), String> {
        let value = serde_json::to_vec(mark).map_err(|error| error.to_string())?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let record = Produce {
            topic: Topic::Leases,
            partition: 0,
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::from(value),
            timestamp_ms: u64::try_from(now.unwrap_or_default().as_millis()).unwrap_or(0),
        };
        let (sender, outcome) = sync_channel(1);
        let done: Arc<dyn Appended> = Arc::new(Told(sender));
        let name = Arc::clone(&self.state(Topic::Leases).name);
        let sent = self.producers.append((&name, 0), record, 0, &done);
        sent.map_err(|error| error.to_string())?;
        let timeout = self.config.produce_timeout + Duration::from_secs(1);
        let end = match outcome.recv_timeout(timeout) {
            Ok(Ok(Some(offset))) => offset,
            // Somewhere below what is the end now.
            Ok(Ok(None)) => self.admin.watermarks(&name, 0)?.1.saturating_sub(1),
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err("no answer in time".to_owned()),
        };
        let until = Instant::now() + self.config.call_timeout;
        loop {
            let mut leases = self.leases();
            if leases.next() > end {
                return Ok(());
            }
            leases.take(Duration::from_millis(10));
            drop(leases);
            if Instant::now() >= until {
                return Err("a record of leases cannot be read back in time".to_owned());
            }
        }
    }
}

/// Tells the one outcome to the thread that waits.
struct Told(SyncSender<AppendOutcome>);

impl Appended for Told {
    fn appended(&self, _tag: u64, outcome: AppendOutcome) {
        let _ = self.0.try_send(outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(generation: u16) -> TopicState {
        TopicState {
            name: "chat-messages".into(),
            partitions: 8,
            generation,
            fenced: false,
            base: 0,
            past: None,
        }
    }

    fn record(topic: Topic, key: &'static str) -> Produce {
        Produce {
            topic,
            partition: 3,
            key: Bytes::from_static(key.as_bytes()),
            value: Bytes::new(),
            timestamp_ms: 0,
        }
    }

    #[test]
    fn after_a_switch_the_key_says_the_partition_and_before_it_the_caller() {
        for key in ["g:a", "g:b", "d:x|y"] {
            let placed_first = placed(record(Topic::ChatMessages, key), &state(1));
            assert_eq!(placed_first.partition, 3);
            let later = placed(record(Topic::ChatMessages, key), &state(2));
            assert_eq!(later.partition, partition(key, 8));
        }
        assert_eq!(placed(record(Topic::Delivery, "u"), &state(2)).partition, 3);
    }
}
