//! A receipt: watermarks of one member, stored by maximum and told to the chat.

use super::RECEIPT_MEMBERS_MAX;
use super::memory::Memory;
use super::plan::{Place, Plan, Verdict};
use hawser_engines::store::{ReceiptRow, Store, StoreError, StoreOp};
use hawser_protocol::codes::ErrorCode;
use hawser_protocol::ids::{ChatId, Seq, UserId};

pub(super) fn judge(
    place: &Place<'_>,
    memory: &mut Memory,
    store: &dyn Store,
    user: &UserId,
    chat: &ChatId,
    (delivered, read): (Seq, Seq),
) -> Result<Plan, StoreError> {
    let dm = chat.dm_users().map(|(a, b)| [a, b]);
    let told: Vec<&UserId> = match &dm {
        Some([a, b]) if user != a && user != b => Vec::new(),
        Some([a, b]) if a == b => vec![a],
        Some([a, b]) => vec![a, b],
        None => {
            let group = memory.group(chat, store)?;
            let few = group.at(place.seq).nth(RECEIPT_MEMBERS_MAX).is_none();
            let member = group.has(user, place.seq);
            match (member, few) {
                (false, _) => Vec::new(),
                (true, false) => vec![user],
                (true, true) => {
                    return tell_group(place, memory, store, user, chat, (delivered, read));
                }
            }
        }
    };
    if told.is_empty() {
        return Ok(Plan::empty(Verdict::Rejected(ErrorCode::NotMember)));
    }
    let head = memory.head_before(chat, place.seq, store)?.seq;
    Ok(tell(place, user, chat, marks(delivered, read, head), &told))
}

fn tell_group(
    place: &Place<'_>,
    memory: &mut Memory,
    store: &dyn Store,
    user: &UserId,
    chat: &ChatId,
    (delivered, read): (Seq, Seq),
) -> Result<Plan, StoreError> {
    let head = memory.head_before(chat, place.seq, store)?.seq;
    let group = memory.group(chat, store)?;
    let members: Vec<&UserId> = group.at(place.seq).map(|m| &m.user).collect();
    Ok(tell(
        place,
        user,
        chat,
        marks(delivered, read, head),
        &members,
    ))
}

/// Nobody has what is not there yet, and what is read was delivered.
fn marks(delivered: Seq, read: Seq, head: Seq) -> (Seq, Seq) {
    (delivered.max(read).min(head), read.min(head))
}

fn tell(
    place: &Place<'_>,
    user: &UserId,
    chat: &ChatId,
    (delivered, read): (Seq, Seq),
    told: &[&UserId],
) -> Plan {
    let mut plan = Plan::empty(Verdict::Receipt);
    if delivered == Seq::NONE {
        return plan;
    }
    plan.store.push(StoreOp::Receipt {
        chat: chat.clone(),
        row: ReceiptRow {
            user: user.clone(),
            delivered,
            read,
            ts_ms: place.time_ms,
        },
    });
    plan.produce = place.tell_receipt(chat, user, (delivered, read), told);
    plan
}
