//! Tables, plans, and members on one log.

use super::*;

fn name(text: &str) -> NodeName {
    NodeName::new(text).expect("a name")
}

fn node(incarnation: u64, beat: u64) -> NodeRecord {
    NodeRecord {
        incarnation,
        replaces: 0,
        beat,
        state: NodeState::Active,
        weight: 1,
        edge: true,
        ingest: false,
        url: "wss://node/v1/ws".to_owned(),
        plain_url: String::new(),
        link: String::new(),
        lane: None,
    }
}

/// A log, and members that read it to its end at each step.
struct World {
    log: Vec<LeaseRecord>,
    members: Vec<(Member, usize)>,
    now_ms: u64,
    /// Members whose beats do not reach the log, and who do not read it.
    cut: Vec<usize>,
    steps: Vec<Vec<Step>>,
}

impl World {
    fn new(partitions: u32, nodes: &[&str]) -> Self {
        let mut world = Self {
            log: Vec::new(),
            members: Vec::new(),
            now_ms: 1_000,
            cut: Vec::new(),
            steps: Vec::new(),
        };
        for (index, node) in nodes.iter().enumerate() {
            world.join(partitions, node, 100 + index as u64);
        }
        world
    }

    fn join(&mut self, partitions: u32, node_name: &str, incarnation: u64) {
        let config = MemberConfig::new(name(node_name), incarnation, node(0, 0));
        let member = Member::new(config, partitions, 0);
        self.members.push((member, 0));
        self.steps.push(Vec::new());
    }

    fn take(&mut self, index: usize, steps: Vec<Step>) {
        for step in steps {
            match &step {
                Step::Append(record) if !self.cut.contains(&index) => self.log.push(record.clone()),
                Step::Prepare(kind, partition) => {
                    let mut more = Vec::new();
                    self.members[index]
                        .0
                        .prepared(self.now_ms, *kind, *partition, &mut more);
                    self.steps[index].push(step.clone());
                    self.take(index, more);
                    continue;
                }
                _ => {}
            }
            self.steps[index].push(step);
        }
    }

    fn run(&mut self, ms: u64) {
        let until = self.now_ms + ms;
        while self.now_ms < until {
            self.now_ms += 100;
            for index in 0..self.members.len() {
                let mut out = Vec::new();
                let now_ms = self.now_ms;
                let (member, read) = &mut self.members[index];
                if !self.cut.contains(&index) {
                    while let Some(record) = self.log.get(*read) {
                        let (key, value) = (record.key(), record.value());
                        member.record(now_ms, *read as u64, key.as_bytes(), &value, &mut out);
                        *read += 1;
                    }
                    member.caught_up(now_ms, &mut out);
                }
                member.tick(now_ms, &mut out);
                self.take(index, out);
            }
        }
    }

    /// What is on the log is read by all, and nothing comes of it.
    fn read_all(&mut self) {
        for (member, read) in &mut self.members {
            for (offset, record) in self.log.iter().enumerate().skip(*read) {
                let (key, value) = (record.key(), record.value());
                let now_ms = self.now_ms;
                member.record(
                    now_ms,
                    offset as u64,
                    key.as_bytes(),
                    &value,
                    &mut Vec::new(),
                );
            }
            *read = self.log.len();
        }
    }

    fn owned(&self) -> Vec<usize> {
        let members = self.members.iter();
        members.map(|(m, _)| m.owned(Kind::Delivery)).collect()
    }
}

#[test]
fn records_are_read_as_they_were_written_and_nothing_else_is() {
    let owner = OwnerRecord {
        lease_epoch: 7,
        node: name("edge-1"),
        incarnation: 9,
    };
    for record in [
        LeaseRecord::Node(name("edge-1"), node(3, 4)),
        LeaseRecord::Owner(Kind::Ingest, 12, owner),
    ] {
        let read = LeaseRecord::read(record.key().as_bytes(), &record.value());
        assert_eq!(read, Some(record));
    }
    for (key, value) in [
        ("cluster", "{}"),
        ("node/", "{}"),
        ("node/a b", "{}"),
        ("delivery/x", "{}"),
        ("delivery/1", "{}"),
        ("ingest/1", "not json"),
        (
            "delivery/99999999999",
            "{\"lease_epoch\":1,\"node\":\"a\",\"incarnation\":1}",
        ),
    ] {
        assert_eq!(
            LeaseRecord::read(key.as_bytes(), value.as_bytes()),
            None,
            "{key}"
        );
    }
}

#[test]
fn one_node_takes_all_and_a_second_half_of_it_after_preparing() {
    let mut world = World::new(16, &["a"]);
    world.run(500);
    assert_eq!(world.owned(), [16]);
    world.join(16, "b", 200);
    world.run(3_000);
    assert_eq!(world.owned(), [8, 8]);
    let prepared = world.steps[1]
        .iter()
        .filter(|s| matches!(s, Step::Prepare(..)));
    assert_eq!(prepared.count(), 8, "no more moves than it takes");
    let yielded = world.steps[0]
        .iter()
        .filter(|s| matches!(s, Step::Yield(..)));
    assert_eq!(yielded.count(), 8);
    world.run(20_000);
    let appended = world
        .log
        .iter()
        .filter(|r| matches!(r, LeaseRecord::Owner(..)));
    assert_eq!(appended.count(), 24, "it rests");
}

#[test]
fn who_is_cut_off_fences_itself_before_others_take_over_and_comes_back_as_another_life() {
    let mut world = World::new(16, &["a", "b", "c"]);
    world.run(5_000);
    assert_eq!(world.owned().iter().sum::<usize>(), 16);
    world.cut.push(1);
    let cut_at = world.now_ms;
    while !world.members[1].0.is_fenced() {
        world.run(100);
        assert!(world.now_ms <= cut_at + 3_200, "fenced within its lease");
        let others =
            world.members[0].0.owned(Kind::Delivery) + world.members[2].0.owned(Kind::Delivery);
        assert!(others < 16, "nobody takes over what is not fenced");
    }
    world.run(3_000);
    assert_eq!(world.owned()[0] + world.owned()[2], 16);
    world.cut.clear();
    world.run(6_000);
    assert!(!world.members[1].0.is_fenced());
    assert_eq!(
        world.owned().iter().sum::<usize>(),
        16,
        "{:?}",
        world.owned()
    );
    assert!(world.owned().iter().all(|n| *n >= 5), "{:?}", world.owned());
    assert!(world.steps[1].contains(&Step::Fence));
    world.read_all();
    let ends = [
        &world.members[0].0,
        &world.members[1].0,
        &world.members[2].0,
    ];
    assert!(ends.iter().all(|m| m.table() == ends[0].table()));
}

#[test]
fn a_restart_under_the_same_name_gets_back_what_it_had() {
    let mut world = World::new(16, &["a", "b"]);
    world.run(5_000);
    let had: Vec<u32> = (0..16)
        .filter(|p| world.members[1].0.owns(Kind::Delivery, *p).is_some())
        .collect();
    // Killed, and at once started again.
    world.cut.push(1);
    world.join(16, "b", 777);
    world.run(1_000);
    let has: Vec<u32> = (0..16)
        .filter(|p| world.members[2].0.owns(Kind::Delivery, *p).is_some())
        .collect();
    assert_eq!(has, had);
}

#[test]
fn of_two_processes_with_one_name_the_older_ends() {
    let mut world = World::new(4, &["a"]);
    world.run(2_000);
    world.join(4, "a", 900);
    world.run(2_000);
    assert!(world.steps[0].contains(&Step::Displaced));
    assert!(world.members[0].0.is_fenced());
    assert_eq!(world.owned()[1], 4);
}

#[test]
fn draining_gives_all_away_and_leaving_frees_the_rest() {
    let mut world = World::new(16, &["a", "b"]);
    world.run(5_000);
    let (mut out, now_ms) = (Vec::new(), world.now_ms);
    world.members[0].0.drain(now_ms, &mut out);
    world.take(0, out);
    world.run(5_000);
    assert_eq!(world.owned(), [0, 16]);
    let (mut out, now_ms) = (Vec::new(), world.now_ms);
    world.members[1].0.drain(now_ms, &mut out);
    world.take(1, out);
    world.run(5_000);
    assert_eq!(world.owned(), [0, 16], "nobody takes it: it stays");
}

#[test]
fn the_first_claim_of_an_epoch_counts_and_is_repeated_after_a_late_one() {
    let mut table = Table::new(4, 0);
    let claim = |epoch: u64, who: &str| {
        let record = OwnerRecord {
            lease_epoch: epoch,
            node: name(who),
            incarnation: 1,
        };
        LeaseRecord::Owner(Kind::Delivery, 2, record)
    };
    let mut apply = |offset, record: &LeaseRecord| {
        table.apply(offset, record.key().as_bytes(), &record.value())
    };
    assert!(matches!(
        apply(0, &claim(1, "a")),
        Applied::Owner { before: None, .. }
    ));
    assert!(matches!(
        apply(1, &claim(1, "b")),
        Applied::Late { partition: 2, .. }
    ));
    assert_eq!(apply(2, &claim(1, "a")), Applied::Nothing);
    assert!(matches!(apply(3, &claim(2, "b")), Applied::Owner { .. }));
    assert_eq!(table.version(), 4);
}

#[test]
fn plans_are_even_by_weight_and_stay_as_they_are() {
    let mut table = Table::new(64, 0);
    for (index, (who, weight)) in [("a", 1), ("b", 1), ("c", 2)].iter().enumerate() {
        let record = NodeRecord {
            weight: *weight,
            ..node(1, 1)
        };
        let record = LeaseRecord::Node(name(who), record);
        table.apply(index as u64, record.key().as_bytes(), &record.value());
    }
    let planned = plan(&table, Kind::Delivery);
    let count = |planned: &[Option<NodeName>], who: &str| {
        planned
            .iter()
            .filter(|p| p.as_ref().is_some_and(|n| n.as_str() == who))
            .count()
    };
    assert_eq!(
        [
            count(&planned, "a"),
            count(&planned, "b"),
            count(&planned, "c")
        ],
        [16, 16, 32]
    );
    for (partition, owner) in (0..).zip(&planned) {
        let record = OwnerRecord {
            lease_epoch: 1,
            node: owner.clone().expect("planned"),
            incarnation: 1,
        };
        let record = LeaseRecord::Owner(Kind::Delivery, partition, record);
        table.apply(
            10 + u64::from(partition),
            record.key().as_bytes(),
            &record.value(),
        );
    }
    assert_eq!(plan(&table, Kind::Delivery), planned, "what is even stays");
    assert!(plan(&table, Kind::Ingest).is_empty());
}

/// A member that has read of some nodes, and where its log ends.
fn member_among(partitions: u32, others: &[&str]) -> (Member, Vec<LeaseRecord>) {
    let config = MemberConfig::new(name("me"), 500, node(0, 0));
    let mut member = Member::new(config, partitions, 0);
    let log = others
        .iter()
        .map(|other| LeaseRecord::Node(name(other), node(1, 1)));
    let mut log: Vec<LeaseRecord> = log.collect();
    for offset in 0..log.len() {
        read(&mut member, 0, offset, &log);
    }
    let mut out = Vec::new();
    member.caught_up(0, &mut out);
    append(&mut log, &out);
    (member, log)
}

fn append(log: &mut Vec<LeaseRecord>, steps: &[Step]) {
    log.extend(steps.iter().filter_map(|step| match step {
        Step::Append(record) => Some(record.clone()),
        _ => None,
    }));
}

fn read(member: &mut Member, now_ms: u64, offset: usize, log: &[LeaseRecord]) -> Vec<Step> {
    let (key, value) = (log[offset].key(), log[offset].value());
    let mut out = Vec::new();
    member.record(now_ms, offset as u64, key.as_bytes(), &value, &mut out);
    out
}

fn claim(partition: u32, lease_epoch: u64, who: &str, incarnation: u64) -> LeaseRecord {
    let record = OwnerRecord {
        lease_epoch,
        node: name(who),
        incarnation,
    };
    LeaseRecord::Owner(Kind::Delivery, partition, record)
}

#[test]
fn what_was_claimed_in_vain_is_prepared_before_it_is_claimed_of_who_serves_it() {
    let (mut member, mut log) = member_among(2, &["other"]);
    let mut out = read(&mut member, 0, 1, &log);
    member.tick(0, &mut out);
    let asked = out.iter().find_map(|step| match step {
        Step::Append(LeaseRecord::Owner(_, partition, _)) => Some(*partition),
        _ => None,
    });
    let ours = asked.expect("one of two is planned for it");
    log.push(claim(1 - ours, 1, "other", 1));
    log.push(claim(ours, 1, "other", 1));
    for offset in 2..4 {
        out = read(&mut member, 10, offset, &log);
    }
    member.tick(10, &mut out);
    assert!(
        out.iter().any(|step| matches!(step, Step::Prepare(..))),
        "{out:?}"
    );
    assert!(
        !out.iter().any(|step| matches!(step, Step::Append(_))),
        "{out:?}"
    );
}

#[test]
fn an_owner_claims_anew_what_another_has_claimed_too_late() {
    let (mut member, mut log) = member_among(1, &[]);
    let mut out = read(&mut member, 0, 0, &log);
    member.tick(0, &mut out);
    append(&mut log, &out);
    assert!(read(&mut member, 0, 1, &log).contains(&Step::Own(Kind::Delivery, 0, 1)));
    log.push(claim(0, 1, "late", 7));
    let mut out = read(&mut member, 0, 2, &log);
    member.tick(0, &mut out);
    append(&mut log, &out);
    // Who begins with what compaction leaves, the late claim, and who has read it all.
    let mut table = Table::new(1, 0);
    for (offset, record) in log.iter().enumerate().skip(2) {
        table.apply(offset as u64, record.key().as_bytes(), &record.value());
    }
    read(&mut member, 0, 3, &log);
    assert_eq!(
        table.claimed(Kind::Delivery, 0),
        member.table().claimed(Kind::Delivery, 0)
    );
    assert_eq!(member.owns(Kind::Delivery, 0), Some(2));
}

#[test]
fn a_dead_owners_partition_is_claimed_by_who_knows_better_than_whom_the_plan_names() {
    let (mut member, mut log) = member_among(1, &["dead", "astray"]);
    log.push(claim(0, 1, "dead", 1));
    log.push(claim(0, 1, "me", 500));
    let gone = NodeRecord {
        state: NodeState::Gone,
        ..node(1, 1)
    };
    log.push(LeaseRecord::Node(name("dead"), gone));
    for offset in 2..log.len() {
        read(&mut member, 0, offset, &log);
    }
    let mut claimed = false;
    for now_ms in (0..20_000).step_by(100) {
        let mut out = Vec::new();
        member.tick(now_ms, &mut out);
        claimed |= out
            .iter()
            .any(|step| matches!(step, Step::Append(LeaseRecord::Owner(..))));
        let before = log.len();
        append(&mut log, &out);
        // It lives as well.
        let beat = 2 + now_ms / 100;
        log.push(LeaseRecord::Node(name("astray"), node(1, beat)));
        for offset in before..log.len() {
            if !matches!(log[offset], LeaseRecord::Owner(..)) {
                read(&mut member, now_ms, offset, &log);
            }
        }
    }
    assert!(claimed);
}

#[test]
fn a_word_that_came_too_late_is_outranked_for_who_begins_with_it() {
    let (mut member, mut log) = member_among(1, &[]);
    let LeaseRecord::Node(_, beat) = log[0].clone() else {
        panic!("a beat");
    };
    let of = |beat: NodeRecord| LeaseRecord::Node(name("me"), beat);
    let gone = NodeRecord {
        beat: 0,
        state: NodeState::Gone,
        ..beat.clone()
    };
    let twin = NodeRecord {
        incarnation: 900,
        ..beat
    };
    log.push(of(gone));
    log.push(of(twin));
    for offset in 0..3 {
        read(&mut member, 0, offset, &log);
    }
    let mut out = Vec::new();
    member.tick(1_000, &mut out);
    append(&mut log, &out);
    let next = log.iter().rposition(|r| matches!(r, LeaseRecord::Node(..)));
    let next = next.expect("a beat");
    read(&mut member, 1_000, next, &log);
    assert!(!member.is_fenced());
    for first in 1..3 {
        let mut table = Table::new(1, 0);
        for offset in [first, next] {
            let (key, value) = (log[offset].key(), log[offset].value());
            table.apply(offset as u64, key.as_bytes(), &value);
        }
        assert_eq!(table.node(&name("me")), member.table().node(&name("me")));
    }
}

#[test]
fn what_is_no_longer_planned_makes_room_at_once() {
    let (mut member, mut log) = member_among(64, &["a"]);
    for partition in 0..64 {
        log.push(claim(partition, 1, "a", 1));
    }
    for offset in 1..log.len() {
        read(&mut member, 0, offset, &log);
    }
    let mut out = Vec::new();
    member.tick(0, &mut out);
    let first: Vec<u32> = out
        .iter()
        .filter_map(|step| match step {
            Step::Prepare(_, partition) => Some(*partition),
            _ => None,
        })
        .collect();
    assert_eq!(first.len(), 4);
    // Another has taken just these, and the rest that is ours has its turn.
    log.push(LeaseRecord::Node(name("b"), node(1, 1)));
    for partition in &first {
        log.push(claim(*partition, 2, "b", 1));
    }
    for offset in log.len() - 5..log.len() {
        read(&mut member, 0, offset, &log);
    }
    let mut out = Vec::new();
    member.tick(0, &mut out);
    let forgotten = out.iter().filter(|s| matches!(s, Step::Forget(..)));
    assert_eq!(forgotten.count(), 4);
    let prepared = out.iter().filter(|s| matches!(s, Step::Prepare(..)));
    assert_eq!(prepared.count(), 4);
}

#[test]
fn a_log_that_was_away_for_all_moves_nothing_when_it_is_back() {
    let mut world = World::new(16, &["a", "b", "c"]);
    world.run(5_000);
    let had = world.owned();
    let claims = |world: &World| {
        let owners = world.log.iter();
        owners
            .filter(|r| matches!(r, LeaseRecord::Owner(..)))
            .count()
    };
    let claimed = claims(&world);
    world.cut = vec![0, 1, 2];
    world.run(30_000);
    assert!(world.members.iter().all(|(m, _)| m.is_fenced()));
    // It is back for one a moment before it is for the others.
    for cut in [vec![1, 2], vec![2], vec![]] {
        world.cut = cut;
        world.run(1_000);
    }
    world.run(10_000);
    assert!(world.members.iter().all(|(m, _)| !m.is_fenced()));
    assert_eq!(world.owned(), had);
    assert_eq!(claims(&world), claimed, "nobody claims anything");
}

#[test]
fn more_partitions_go_to_the_owners_of_those_that_they_were_a_part_of() {
    let mut world = World::new(4, &["a", "b"]);
    world.run(6_000);
    assert_eq!(world.owned(), [2, 2]);
    let owner_of = |world: &World, partition| {
        let table = world.members[0].0.table();
        let owner = table.owner(Kind::Delivery, partition);
        owner.map(|(name, _)| name.clone())
    };
    let before: Vec<_> = (0..4).map(|p| owner_of(&world, p)).collect();
    for index in 0..2 {
        let mut out = Vec::new();
        let now_ms = world.now_ms;
        let member = &mut world.members[index].0;
        member.set_partitions(now_ms, Kind::Delivery, 16, &mut out);
        world.take(index, out);
    }
    world.run(6_000);
    assert_eq!(world.owned(), [8, 8]);
    for partition in 0..16 {
        let parent = before[partition as usize % 4].clone();
        assert_eq!(owner_of(&world, partition), parent, "{partition}");
    }
}
