//! Replay: whatever prefix was written before a crash, going on from any earlier commit comes to the
//! same store and to the same deliveries, some of them repeated.

use super::Bench;
use crate::ingest::{Core, IngestConfig};
use crate::rig::engine::CONFIG;
use crate::rig::memory_store::{MemoryStore, Rows};
use crate::rig::{create, deliveries, group_op, plain, receipt, sent, user, users};
use hawser_engines::directory::{Group, GroupNews};
use hawser_engines::log::{Produce, Record};
use hawser_engines::store::Store;
use hawser_protocol::ids::{ChatId, Seq, UserId};
use hawser_protocol::record::{
    DeliveryKind, DeliveryRecord, DeliveryView, GroupOp, SourceRecord, ViewKind,
};
use hawser_protocol::shards::ShardTable;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const NAMES: [&str; 4] = ["alice", "bob", "carol", "dave"];
const CHATS: [&str; 4] = ["dm:alice:bob", "dm:bob:carol", "g:crew", "g:deck"];

/// Any record of a small world, so that ids, members and chats collide often.
fn source() -> impl Strategy<Value = SourceRecord> {
    let name = || proptest::sample::select(NAMES.as_slice());
    let chat = || proptest::sample::select(CHATS.as_slice());
    let group = || proptest::sample::select(&CHATS[2..]);
    let op = prop_oneof![
        name().prop_map(|n| GroupOp::Add { users: users(&[n]) }),
        name().prop_map(|n| GroupOp::Remove { users: users(&[n]) }),
        Just(GroupOp::Leave),
        (0u8..9).prop_map(|n| GroupOp::Update {
            name: format!("n{n}"),
            picture: String::new()
        }),
        (name(), any::<bool>()).prop_map(|(n, admin)| GroupOp::SetAdmin {
            user: user(n),
            admin
        }),
    ];
    prop_oneof![
        6 => (name(), chat(), 0u16..12).prop_map(|(by, to, n)| sent(by, plain(to, n))),
        2 => (name(), chat(), 0u64..4, 0u64..4).prop_map(|(by, of, d, r)| {
            receipt(by, of, (1 << 48) + d * 9, (1 << 48) + r * 9)
        }),
        2 => (name(), group(), 100u16..130, name()).prop_map(|(by, of, n, m)| create(by, n, of, &[m])),
        4 => (name(), group(), 200u16..240, op).prop_map(|(by, of, n, op)| group_op(by, n, of, op)),
    ]
}

/// Everything that one run leaves behind.
#[derive(Debug, Default, PartialEq)]
struct Run {
    rows: Rows,
    groups: BTreeMap<String, Group>,
    /// By delivery partition.
    delivered: BTreeMap<u32, Vec<DeliveryRecord>>,
}

fn show(groups: &mut BTreeMap<String, Group>, seen: &[(GroupNews, Seq)]) {
    for (news, seq) in seen {
        let chat = match news {
            GroupNews::Whole(group) => &group.chat,
            GroupNews::Touched(delta) => &delta.chat,
        };
        let old = groups.get(chat).filter(|old| old.write_seq >= seq.0);
        if old.is_some() {
            continue;
        }
        let mut group = match news {
            GroupNews::Whole(group) => group.clone(),
            GroupNews::Touched(delta) => {
                let mut group = groups.get(chat).cloned().unwrap_or_default();
                group.apply(delta);
                group
            }
        };
        group.write_seq = seq.0;
        groups.insert(chat.clone(), group);
    }
}

fn deliver(delivered: &mut BTreeMap<u32, Vec<DeliveryRecord>>, produce: &[Produce]) {
    for (partition, record) in deliveries(produce) {
        delivered.entry(partition).or_default().push(record);
    }
}

/// Judges records in batches of `batch`; the store is written per batch. Ends early where `crash`
/// says: (records judged and stored, how many of the last batch's deliveries got out).
fn run(
    config: IngestConfig,
    records: &[(u32, Record)],
    batch: usize,
    store: &MemoryStore,
    out: &mut Run,
    crash: Option<(usize, usize)>,
) {
    let mut core = Core::new(config, 1);
    let mut done = 0;
    for chunk in records.chunks(batch) {
        let plans: Vec<_> = chunk
            .iter()
            .map(|(p, r)| core.judge(*p, r, store).unwrap())
            .collect();
        let ops: Vec<_> = plans.iter().flat_map(|plan| plan.store.clone()).collect();
        let produce: Vec<Produce> = plans.iter().flat_map(|plan| plan.produce.clone()).collect();
        store.write(&ops).unwrap();
        done += chunk.len();
        if let Some((stored, got_out)) = crash
            && done >= stored
        {
            deliver(&mut out.delivered, &produce[..got_out.min(produce.len())]);
            return;
        }
        plans
            .iter()
            .for_each(|plan| show(&mut out.groups, &plan.groups));
        deliver(&mut out.delivered, &produce);
        core.committed();
    }
    out.rows = store.rows();
}

/// What an edge makes of it: records not above the mark of their source partition are dropped.
fn seen(records: &[DeliveryRecord]) -> Vec<DeliveryRecord> {
    let mut marks = BTreeMap::new();
    let mut seen = Vec::new();
    for record in records {
        let mark = marks
            .entry(record.source_partition)
            .or_insert((Seq::NONE, 0));
        let place = (record.source_seq, record.sub_index);
        if place > *mark {
            *mark = place;
            seen.push(record.clone());
        }
    }
    seen
}

/// Where a receipt stands, what it says, and to whom.
type Told = ((u32, Seq), (ChatId, UserId, Seq, Seq), BTreeSet<UserId>);

/// Receipts apart: after a crash it is not remembered whom they concern, and more are told.
fn apart(records: Vec<DeliveryRecord>) -> (Vec<DeliveryRecord>, Vec<Told>) {
    let (mut others, mut told) = (Vec::new(), Vec::new());
    for record in records {
        match record.kind {
            DeliveryKind::Receipt {
                recipients,
                chat,
                user,
                delivered,
                read,
                ..
            } => told.push((
                (record.source_partition, record.source_seq),
                (chat, user, delivered, read),
                recipients.into_iter().collect(),
            )),
            // Told once more, it tells of later changes too.
            DeliveryKind::Shard { .. } => {}
            _ => others.push(record),
        }
    }
    (others, told)
}

/// What an edge knows of edge-sharded groups once it has read all: chat, user, and the seqs that are theirs.
fn shards(records: &[DeliveryRecord]) -> Vec<(ChatId, UserId, Vec<u64>)> {
    let mut table = ShardTable::default();
    let mut all = BTreeSet::new();
    for record in records {
        let value = record.encode();
        let DeliveryKind::Shard { chat, members } = &record.kind else {
            continue;
        };
        all.extend(members.iter().map(|m| (chat.clone(), m.user.clone())));
        if let ViewKind::Shard(shard) = DeliveryView::parse(&value).unwrap().kind {
            table.apply(&shard, |_| true);
        }
    }
    let seqs = |chat: &ChatId, user: &UserId| {
        let has =
            |offset: &u64| table.has(chat.as_str(), user.as_str(), Seq::new(1, *offset), false);
        (0..100).filter(has).collect()
    };
    all.into_iter()
        .map(|(chat, user)| (chat.clone(), user.clone(), seqs(&chat, &user)))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn any_crash_and_replay_comes_to_the_same_store_and_deliveries(
        sources in proptest::collection::vec(source(), 1..60),
        (batch, again) in (1usize..20, 1usize..20),
        (stored, back, got_out) in (0usize..60, 0usize..60, 0usize..12),
        listed_max in proptest::sample::select(vec![1u32, 2, 10_000]),
    ) {
        let config = IngestConfig { listed_max, ..CONFIG };
        let mut bench = Bench::new();
        let records: Vec<_> = sources.iter().map(|s| bench.place(s)).collect();
        let mut whole = Run::default();
        run(config, &records, batch, &MemoryStore::default(), &mut whole, None);

        let store = MemoryStore::default();
        let mut crashed = Run::default();
        let stored = stored.min(records.len());
        run(config, &records, batch, &store, &mut crashed, Some((stored, got_out)));
        // The commit never is beyond what was delivered whole: the batches before the last.
        let written = stored.div_ceil(batch).max(1) * batch;
        let from = (written.min(records.len()).saturating_sub(batch)).saturating_sub(back);
        run(config, &records[from..], again, &store, &mut crashed, None);

        prop_assert_eq!(&crashed.rows, &whole.rows);
        prop_assert_eq!(&crashed.groups, &whole.groups);
        for (partition, records) in &whole.delivered {
            let got = crashed.delivered.get(partition).cloned().unwrap_or_default();
            prop_assert_eq!(shards(&got), shards(records), "partition {}", partition);
            let (got, receipts) = apart(seen(&got));
            let (wanted, told) = apart(records.clone());
            prop_assert_eq!(got, wanted, "partition {}", partition);
            for (place, marks, to) in told {
                let more = receipts.iter().any(|r| (r.0, &r.1) == (place, &marks) && r.2.is_superset(&to));
                prop_assert!(more, "partition {}: {:?} is not told {:?}", partition, to, marks);
            }
        }
    }

    #[test]
    fn plans_do_not_depend_on_how_records_are_batched(
        sources in proptest::collection::vec(source(), 1..60),
        (one, other) in (1usize..60, 1usize..60),
        listed_max in proptest::sample::select(vec![1u32, 2, 10_000]),
    ) {
        let config = IngestConfig { listed_max, ..CONFIG };
        let mut bench = Bench::new();
        let records: Vec<_> = sources.iter().map(|s| bench.place(s)).collect();
        let (mut a, mut b) = (Run::default(), Run::default());
        run(config, &records, one, &MemoryStore::default(), &mut a, None);
        run(config, &records, other, &MemoryStore::default(), &mut b, None);
        prop_assert_eq!(a, b);
    }
}
