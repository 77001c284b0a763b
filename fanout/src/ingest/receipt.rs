//! A receipt: watermarks of one member, stored by maximum and told to those whose messages they cover.

use super::RECEIPT_MEMBERS_MAX;
use super::memory::Memory;
use super::plan::{Place, Plan, Verdict};
use hawser_engines::store::{ReceiptRow, Store, StoreError, StoreOp};
use hawser_protocol::codes::ErrorCode;
use hawser_protocol::ids::{ChatId, Seq, UserId};
use std::collections::BTreeSet;

pub(super) fn judge(
    place: &Place<'_>,
    memory: &mut Memory,
    store: &dyn Store,
    user: &UserId,
    chat: &ChatId,
    (delivered, read): (Seq, Seq),
) -> Result<Plan, StoreError> {
    let dm = chat.dm_users().map(|(a, b)| [a, b]);
    let member = match &dm {
        Some(users) => users.contains(user),
        None => memory
            .group_with(chat, &[user], place.seq, store)?
            .has(user, place.seq),
    };
    if !member {
        return Ok(Plan::empty(Verdict::Rejected(ErrorCode::NotMember)));
    }
    let head = memory.head_before(chat, place.seq, store)?.seq;
    let marks = marks(delivered, read, head);
    let told: BTreeSet<UserId> = match dm {
        // One's own devices are told what is read.
        Some(users) => {
            let told = users.into_iter();
            told.filter(|other| other != user || marks.1 > Seq::NONE)
                .collect()
        }
        None => concerned(place, memory, store, user, chat, marks)?,
    };
    Ok(tell(place, user, chat, marks, &told))
}

/// Of a group: the authors, or all when they are not known; in a large one nobody else.
fn concerned(
    place: &Place<'_>,
    memory: &mut Memory,
    store: &dyn Store,
    user: &UserId,
    chat: &ChatId,
    marks: (Seq, Seq),
) -> Result<BTreeSet<UserId>, StoreError> {
    let group = memory.group(chat, store)?;
    if group.sharded(place.seq) || group.at(place.seq).nth(RECEIPT_MEMBERS_MAX).is_some() {
        return Ok(BTreeSet::from([user.clone()]));
    }
    let authors = memory.concern().of(chat, user, marks);
    let group = memory.group(chat, store)?;
    Ok(match authors {
        Some(mut authors) => {
            authors.retain(|author| group.has(author, place.seq));
            authors
        }
        None => group.at(place.seq).map(|m| m.user.clone()).collect(),
    })
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
    told: &BTreeSet<UserId>,
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
