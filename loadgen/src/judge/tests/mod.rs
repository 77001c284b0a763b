//! A world that keeps its promises is clean, whatever its shape; each broken promise is found by its kind.

mod plant;

use ahash::AHashMap;
use plant::plant;
use proptest::prelude::*;

use super::*;
use crate::history::Chat;
use crate::random::Random;

const USERS: u32 = 6;

/// A run that keeps every promise: messages get places one after the other; each device sees its chats in order, with
/// reconnects, redeliveries and answers that were lost and sent again.
struct World {
    run: Run,
    entries: Vec<Entry>,
}

impl World {
    fn new(seed: u64, messages: u32) -> Self {
        let chats: Vec<Vec<u32>> = vec![vec![0, 1], vec![2, 3], (0..USERS).collect()];
        let mut making = Making::new(seed, chats);
        for seq in 1..=u64::from(messages) {
            making.message(seq);
        }
        making.finish(seed)
    }

    fn judged(&self) -> Verdict {
        let mut judge = Judge::new(&self.run);
        self.entries.iter().for_each(|entry| judge.entry(entry));
        judge.finish()
    }

    /// Places of entries of this kind, one of which is picked.
    fn pick(&self, pick: usize, wanted: impl Fn(&Op) -> bool) -> Option<usize> {
        let found: Vec<usize> = (0..self.entries.len())
            .filter(|at| wanted(&self.entries[*at].op))
            .collect();
        (!found.is_empty()).then(|| found[pick % found.len()])
    }

    fn deliver(&self, pick: usize) -> Option<usize> {
        self.pick(pick, |op| matches!(op, Op::Deliver { .. }))
    }

    fn place(&mut self, at: usize) -> &mut Place {
        match &mut self.entries[at].op {
            Op::Deliver { place, .. } | Op::Ok { place, .. } | Op::Row { place, .. } => place,
            other => panic!("{other:?} has no place"),
        }
    }
}

/// A world on the way.
struct Making {
    random: Random,
    chats: Vec<Vec<u32>>,
    streams: Vec<Vec<Op>>,
    offs: Vec<u64>,
    /// (last seq, ordinal) per chat.
    heads: Vec<(u64, u64)>,
    numbers: AHashMap<(u32, u32), u32>,
    rows: Vec<(u32, Op)>,
}

impl Making {
    fn new(seed: u64, chats: Vec<Vec<u32>>) -> Self {
        Self {
            random: Random::new(seed),
            heads: vec![(0, 0); chats.len()],
            chats,
            streams: vec![vec![Op::Welcome { recovered: false }, Op::CaughtUp]; USERS as usize],
            offs: vec![0; USERS as usize],
            numbers: AHashMap::new(),
            rows: Vec::new(),
        }
    }

    fn one_in(&mut self, chances: u64) -> bool {
        self.random.below(chances) == 0
    }

    fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.random.below(len as u64)).expect("small")
    }

    fn message(&mut self, seq: u64) {
        let chat = self.index(self.chats.len());
        let c = u32::try_from(chat).expect("small");
        let members = self.chats[chat].clone();
        let sender = members[self.index(members.len())];
        let number = self.numbers.entry((sender, c)).or_default();
        *number += 1;
        let n = *number;
        let id = Id(u128::from(seq).to_be_bytes());
        let again = self.one_in(8);
        let send = |again| Op::Send { c, id, n, again };
        let mine = &mut self.streams[sender as usize];
        mine.push(send(false));
        if again {
            mine.extend([Op::Unknown { id }, send(true)]);
        }
        if self.one_in(10) {
            let (error, retry_ms) = (7, 500);
            self.streams[sender as usize].push(Op::Fail {
                id,
                error,
                retry_ms,
            });
            return;
        }
        let (last, ordinal) = self.heads[chat];
        self.heads[chat] = (seq, ordinal + 1);
        let (prev, ord) = (last, ordinal + 1);
        let place = Place {
            c,
            id,
            seq,
            prev,
            ord,
        };
        for user in &members {
            self.arrives(*user, sender, place, n);
        }
        self.rows.push((members[0], Op::Row { place, n }));
    }

    fn arrives(&mut self, user: u32, from: u32, place: Place, n: u32) {
        let at = user as usize;
        self.offs[at] += 1 + self.random.below(3);
        let off = self.offs[at];
        let (mid, replayed) = (format!("{:x}", place.seq), false);
        self.streams[at].push(match user == from {
            true => Op::Ok { off, place, mid },
            false => Op::Deliver {
                off,
                place,
                n,
                from,
                replayed,
            },
        });
        if self.one_in(4) {
            self.streams[at].push(Op::Ack { off });
        }
        if self.one_in(20) {
            let welcome = Op::Welcome { recovered: true };
            self.streams[at].extend([
                Op::Close {
                    code: 0,
                    why: String::new(),
                },
                welcome,
                Op::CaughtUp,
            ]);
        }
    }

    fn finish(mut self, seed: u64) -> World {
        for (reader, row) in self.rows {
            self.streams[reader as usize].push(row);
        }
        let mut chats = Vec::new();
        for (c, members) in (0_u32..).zip(self.chats) {
            let truncated_before = 0;
            let swept = Op::Swept {
                c,
                truncated_before,
            };
            self.streams[members[0] as usize].push(swept);
            let chat = format!("g:{c}");
            chats.push(Chat { chat, members });
        }
        let mut entries = Vec::new();
        for (u, stream) in (0_u32..).zip(self.streams) {
            entries.extend(stream.into_iter().map(|op| Entry { t: 1, u, op }));
        }
        let run = Run {
            command: String::new(),
            began_ms: 0,
            seed,
            prefix: "u".to_owned(),
            chats,
        };
        World { run, entries }
    }
}

const KINDS: [Kind; 14] = [
    Kind::LostDelivery,
    Kind::LostHistory,
    Kind::Duplicate,
    Kind::Inversion,
    Kind::SenderOrder,
    Kind::Gap,
    Kind::HistoryGap,
    Kind::Fencing,
    Kind::TwoResults,
    Kind::RefusedButShown,
    Kind::CursorRegressed,
    Kind::OffsetRegressed,
    Kind::MixedReplay,
    Kind::Ghost,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_world_that_keeps_its_promises_is_clean(seed: u64, messages in 0_u32..300) {
        let verdict = World::new(seed, messages).judged();
        prop_assert!(verdict.clean(), "{:?}", verdict);
        prop_assert_eq!(verdict.sent, u64::from(messages));
        prop_assert_eq!(verdict.acknowledged + verdict.refused, verdict.sent);
    }

    #[test]
    fn every_planted_fault_is_found_by_its_kind(seed: u64, kind in 0..KINDS.len(), pick in 0_usize..1_000) {
        let mut world = World::new(seed, 120);
        let kind = KINDS[kind];
        if plant(&mut world, kind, pick).is_some() {
            let verdict = world.judged();
            prop_assert!(verdict.count(kind) > 0, "{:?} was not found: {:?}", kind, verdict);
            prop_assert!(!verdict.clean());
            prop_assert!(verdict.first.iter().any(|offence| offence.kind == kind));
        }
    }
}

#[test]
fn each_kind_of_fault_finds_an_occasion() {
    for kind in KINDS {
        let planted = (0..60).any(|seed| plant(&mut World::new(seed, 120), kind, 3).is_some());
        assert!(planted, "{kind:?} was never planted");
    }
}

#[test]
fn a_cut_history_proves_nothing() {
    let mut world = World::new(1, 10);
    let cut = Entry {
        t: 0,
        u: 0,
        op: Op::Cut,
    };
    world.entries.push(cut);
    assert!(!world.judged().clean());
}

#[test]
fn a_device_that_lost_its_place_is_not_judged_for_what_it_missed() {
    let mut world = World::new(3, 60);
    let at = world.deliver(0).expect("a delivery");
    let user = world.entries[at].u;
    let last = world
        .entries
        .iter()
        .rposition(|e| e.u == user && matches!(e.op, Op::Deliver { .. }));
    world.entries.remove(last.expect("one"));
    assert_eq!(world.judged().count(Kind::LostDelivery), 1);
    let again = Entry {
        t: 1,
        u: user,
        op: Op::Welcome { recovered: false },
    };
    world.entries.push(again);
    let verdict = world.judged();
    assert_eq!(
        (verdict.count(Kind::LostDelivery), verdict.unjudged_devices),
        (0, 1)
    );
}
