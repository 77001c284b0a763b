//! Records between the tiers, and sealed resume tokens.

use bytes::Bytes;
use hawser_protocol::ids::{ChatId, ClientMsgId, DeviceId, Seq, UserId};
use hawser_protocol::message::{MessageRecord, Send};
use hawser_protocol::ownership::NodeName;
use hawser_protocol::record::{
    Audience, BodyKey, BodyRecord, CursorRecord, DeliveryKind, DeliveryRecord, DeliveryView,
    DeviceCursor, Envelopes, EphemeralPresence, EphemeralRecord, GroupOp, Referred, Served,
    ShardMember, SourceRecord, ViewKind,
};
use hawser_protocol::resume::{ResumeKey, ResumeToken};
use hawser_protocol::revocation::Revocation;

use crate::frames;

/// Any bytes as each kind of record: what decodes encodes to something that decodes to the same, and the view that copies
/// nothing agrees with the owned form.
pub fn records(bytes: &[u8]) {
    let shared = Bytes::copy_from_slice(bytes);
    if let Ok(record) = SourceRecord::decode(&shared) {
        assert_eq!(SourceRecord::decode(&record.encode()), Ok(record));
    }
    let owned = DeliveryRecord::decode(&shared);
    if let Ok(view) = DeliveryView::parse(bytes)
        && let Some((to, record)) = match &view.kind {
            ViewKind::Message(message) => Some((message.to(), message.record())),
            ViewKind::Reference(reference) => Some((reference.to, &[][..])),
            _ => None,
        }
    {
        let recipients = to.recipients().count();
        assert!(recipients <= bytes.len());
        let _ = (to.sender(), record, to.envelopes().iter().count());
    }
    if let Ok(record) = owned {
        let again = record.encode();
        assert!(
            DeliveryView::parse(&again).is_ok(),
            "the view reads what the owned form writes"
        );
        assert_eq!(DeliveryRecord::decode(&again), Ok(record));
    }
    if let Ok(body) = BodyRecord::decode(&shared) {
        assert_eq!(BodyRecord::decode(&body.encode()), Ok(body));
    }
    if let Ok(record) = CursorRecord::decode(bytes) {
        assert_eq!(CursorRecord::decode(&record.encode()), Ok(record));
    }
    if let Ok(record) = EphemeralRecord::decode(bytes) {
        assert_eq!(EphemeralRecord::decode(&record.encode()), Ok(record));
    }
    if let Ok(table) = Envelopes::parse(bytes) {
        assert!(table.iter().count() <= bytes.len());
    }
}

/// Any bytes as a resume token: nothing opens but what was sealed.
pub fn resume_token(bytes: &[u8]) {
    let Some(token) = token() else {
        return;
    };
    let key = ResumeKey::new(&[7; 32]);
    if let Ok(opened) = key.open(bytes) {
        assert_eq!(
            opened, token,
            "no other token was ever sealed with this key"
        );
    }
}

fn token() -> Option<ResumeToken> {
    let record = frames::record()?;
    Some(ResumeToken {
        user: record.sender,
        device: record.sender_device,
        generation: 1,
        partition: 3,
        offset: 99,
        checksum: 0xdead_beef,
        expires_ms: 1_800_000_000_000,
    })
}

/// Tokens of two keys.
#[must_use]
pub fn tokens() -> Vec<Vec<u8>> {
    let sealed = token().map(|token| {
        [[7; 32], [8; 32]].map(|key| ResumeKey::new(&key).seal(&token, [3; 12]).to_vec())
    });
    sealed.map_or_else(Vec::new, Vec::from)
}

/// One of each record.
#[must_use]
pub fn encoded() -> Vec<Vec<u8>> {
    samples().unwrap_or_default()
}

fn samples() -> Option<Vec<Vec<u8>>> {
    let (record, send) = (frames::record()?, frames::send()?);
    let (user, device, chat) = (
        record.sender.clone(),
        record.sender_device.clone(),
        record.chat.clone(),
    );
    let group = |op| SourceRecord::Group {
        actor: user.clone(),
        op_id: ClientMsgId::new(1_700_000_000_000, [1; 10]),
        chat: chat.clone(),
        op,
    };
    let users = vec![UserId::new("bob").ok()?, UserId::new("carol").ok()?];
    let mut all = ephemeral(&record.sender, &record.chat, &users);
    all.extend(deliveries(&record, &send, &users));
    let sources = [
        SourceRecord::Send {
            sender: user.clone(),
            device: device.clone(),
            send: Box::new(send),
        },
        SourceRecord::Receipt {
            user: user.clone(),
            device: device.clone(),
            chat: chat.clone(),
            delivered: Seq::new(1, 3),
            read: Seq::NONE,
        },
        group(GroupOp::Create {
            name: "friends".to_owned(),
            picture: String::new(),
            members: users,
        }),
        group(GroupOp::SetAdmin {
            user: user.clone(),
            admin: true,
        }),
        group(GroupOp::Leave),
    ];
    all.extend(sources.iter().map(|source| source.encode().to_vec()));
    let cursors = vec![DeviceCursor {
        user,
        device,
        offset: 9,
    }];
    all.push(
        CursorRecord {
            snapshot: true,
            generation: 1,
            cursors,
        }
        .encode()
        .to_vec(),
    );
    Some(all)
}

fn deliveries(record: &MessageRecord, send: &Send, users: &[UserId]) -> Vec<Vec<u8>> {
    let (user, device, chat) = (&record.sender, &record.sender_device, &record.chat);
    let delivery = |kind| {
        let record = DeliveryRecord {
            source_partition: 2,
            source_seq: Seq::new(1, 77),
            sub_index: 0,
            kind,
        };
        record.encode().to_vec()
    };
    vec![
        delivery(DeliveryKind::Message {
            recipients: Audience::Listed(users.to_vec()),
            record: record.encode(),
            envelopes: send.envelopes.clone(),
            sender_entry: Some((user.clone(), device.clone())),
        }),
        delivery(DeliveryKind::Receipt {
            recipients: users.to_vec(),
            chat: chat.clone(),
            user: user.clone(),
            delivered: Seq::new(1, 3),
            read: Seq::NONE,
            ts_ms: 5,
        }),
        delivery(DeliveryKind::Reference {
            recipients: Audience::Listed(users.to_vec()),
            envelopes: send.envelopes.clone(),
            sender_entry: Some((user.clone(), device.clone())),
            chat: chat.clone(),
            referred: Referred::to(record.ordinal, &record.encode()),
        }),
        BodyRecord {
            key: BodyKey {
                source_partition: 2,
                seq: Seq::new(1, 77),
            },
            record: record.encode(),
        }
        .encode()
        .to_vec(),
        delivery(DeliveryKind::Revoke {
            user: user.clone(),
            number: 7,
            revocation: Revocation::Device {
                user: user.clone(),
                device: device.clone(),
                until_ms: Some(1_700_000_000_000),
            },
            reason: "stolen".to_owned(),
        }),
        delivery(DeliveryKind::Shard {
            chat: chat.clone(),
            members: vec![ShardMember {
                user: user.clone(),
                spans: vec![
                    (Seq::new(1, 3), Some(Seq::new(1, 9))),
                    (Seq::new(1, 12), None),
                ],
            }],
        }),
    ]
}

fn ephemeral(user: &UserId, chat: &ChatId, recipients: &[UserId]) -> Vec<Vec<u8>> {
    let typing = EphemeralRecord::Typing {
        chat: chat.clone(),
        user: user.clone(),
        stopped: false,
        recipients: recipients.to_vec(),
    };
    let presence = EphemeralRecord::Presence {
        user: user.clone(),
        state: EphemeralPresence::Offline,
        last_seen_ms: 5,
    };
    let node = NodeName::new("edge-1").into_iter();
    let served = DeviceId::new("phone")
        .into_iter()
        .zip(node)
        .map(|(device, node)| {
            EphemeralRecord::Served(Served {
                user: user.clone(),
                device,
                node,
                began_ms: 5,
            })
        });
    let others = [typing, presence].into_iter();
    others.chain(served).map(|r| r.encode().to_vec()).collect()
}
