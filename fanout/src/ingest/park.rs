//! A record that is sound, but whose rows the store will never take: it is kept in `dead-letters`, its sender is told,
//! and its place in the chat is taken by a message without a body.

use super::memory::DedupKey;
use super::plan::{Place, Plan, Sender, Verdict};
use bytes::Bytes;
use hawser_engines::log::{Produce, Record, Topic};
use hawser_engines::store::{DedupRow, StoreOp};
use hawser_protocol::codes::ErrorCode;
use hawser_protocol::message::MessageRecord;
use hawser_protocol::record::{DeliveryKind, DeliveryRecord, SourceRecord};

/// What is done in place of a plan, and what the client message id came to then.
pub(super) fn park(
    place: &Place<'_>,
    record: &Record,
    plan: Plan,
) -> (Plan, Option<(DedupKey, DedupRow)>) {
    let mut parked = Plan::empty(Verdict::Poison);
    let (mut refused, mut left) = (None, Bytes::new());
    for op in plan.store {
        parked.store.push(match op {
            StoreOp::Message {
                chat,
                ordinal,
                seq,
                record,
                ..
            } => {
                left = emptied(record);
                StoreOp::Message {
                    chat,
                    ordinal,
                    seq,
                    record: left.clone(),
                    envelopes: Bytes::new(),
                }
            }
            StoreOp::Dedup {
                user,
                device,
                chat,
                client_msg_id,
                mut row,
            } => {
                row.error = ErrorCode::BadFrame.number();
                let key = (user.clone(), device.clone(), chat.clone(), client_msg_id);
                refused = Some((key, row.clone()));
                StoreOp::Dedup {
                    user,
                    device,
                    chat,
                    client_msg_id,
                    row,
                }
            }
            other => other,
        });
    }
    parked.groups = plan.groups;
    let produce = plan.produce.into_iter();
    parked.produce = produce.map(|p| without_body(p, &left)).collect();
    if let Ok(SourceRecord::Send {
        sender,
        device,
        send,
    }) = SourceRecord::decode(&record.value)
    {
        let to = Sender {
            user: &sender,
            device: &device,
        };
        let chat = send.chat.as_str();
        let answer = place.refuse(to, send.client_msg_id, chat, ErrorCode::BadFrame);
        parked.produce.push(second(answer));
    }
    parked.produce.push(place.dead_letter(record));
    (parked, refused)
}

/// What cannot be decoded stays as it is: it is ours.
fn emptied(record: Bytes) -> Bytes {
    match MessageRecord::decode(&record) {
        Ok(mut message) => {
            message.body = Bytes::new();
            message.encode()
        }
        Err(_) => record,
    }
}

/// The delivery record with what is `left` of the message record in it, whether it had the record or referred to it.
fn without_body(produce: Produce, left: &Bytes) -> Produce {
    changed(produce, |delivery| {
        if let DeliveryKind::Message { recipients, .. }
        | DeliveryKind::Reference { recipients, .. } = &mut delivery.kind
        {
            delivery.kind = DeliveryKind::Message {
                recipients: std::mem::take(recipients),
                record: left.clone(),
                envelopes: Vec::new(),
                // The sender is told by an answer of its own.
                sender_entry: None,
            };
        }
    })
}

/// The second record of its source in a delivery partition.
fn second(produce: Produce) -> Produce {
    changed(produce, |delivery| delivery.sub_index = 1)
}

fn changed(mut produce: Produce, change: impl FnOnce(&mut DeliveryRecord)) -> Produce {
    if produce.topic == Topic::Delivery
        && let Ok(mut delivery) = DeliveryRecord::decode(&produce.value)
    {
        change(&mut delivery);
        produce.value = delivery.encode();
    }
    produce
}
