//! Changes of groups, as the API puts them on the log.

use super::client::{PATIENCE, new_id, now_ms};
use bytes::Bytes;
use hawser_engines::log::{AppendOutcome, Appended, Log, Produce, Topic};
use hawser_protocol::ids::{ChatId, UserId};
use hawser_protocol::partition::partition;
use hawser_protocol::record::{GroupOp, SourceRecord};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

struct Told(Sender<AppendOutcome>);

impl Appended for Told {
    fn appended(&self, _tag: u64, outcome: AppendOutcome) {
        self.0.send(outcome).expect("somebody waits");
    }
}

/// Appends a record and waits until the log has it.
pub fn append(log: &dyn Log, record: &SourceRecord) {
    let chat = record.chat().as_str();
    let produce = Produce {
        topic: Topic::ChatMessages,
        partition: partition(chat, log.partitions(Topic::ChatMessages)),
        key: Bytes::copy_from_slice(chat.as_bytes()),
        value: record.encode(),
        timestamp_ms: now_ms(),
    };
    let (sender, told) = channel();
    let done: Arc<dyn Appended> = Arc::new(Told(sender));
    log.produce(produce, 0, &done).expect("taken");
    told.recv_timeout(PATIENCE)
        .expect("an answer")
        .expect("appended");
}

/// A change by alice.
pub fn change(log: &dyn Log, chat: &ChatId, op: GroupOp) {
    let record = SourceRecord::Group {
        actor: UserId::new("alice").expect("an id"),
        op_id: new_id(),
        chat: chat.clone(),
        op,
    };
    append(log, &record);
}

/// Makes a group of alice and others.
pub fn create(log: &dyn Log, chat: &ChatId, others: &[&str]) {
    let op = GroupOp::Create {
        name: "Group".to_owned(),
        picture: String::new(),
        members: users(others),
    };
    change(log, chat, op);
}

pub fn users(names: &[&str]) -> Vec<UserId> {
    let ids = names.iter().map(|name| UserId::new(name).expect("an id"));
    ids.collect()
}
