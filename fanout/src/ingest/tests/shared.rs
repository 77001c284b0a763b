//! Several drivers on one log, each with what its process owns.

use super::pipeline::{committed, done, seen, start_with, texts, whole};
use crate::ingest::IngestShare;
use crate::rig::engine::{PARTITIONS, Rig, until};
use crate::rig::slow_store::SlowStore;
use crate::rig::{create, group_op, users};
use hawser_protocol::record::GroupOp;
use std::sync::Arc;

const DM: &str = "dm:alice:bob";
const CREW: &str = "g:crew";

/// In place, and nothing owned.
fn share() -> IngestShare {
    let share = IngestShare::default();
    share.set_in_place(true);
    share
}

#[test]
fn g2_g3_g4_partitions_that_change_hands_under_load_keep_order_ids_and_every_message_once() {
    let rig = Rig::plain();
    let store = Arc::new(SlowStore::new(4, 3));
    let shares = [share(), share()];
    let drivers = shares
        .each_ref()
        .map(|share| start_with(&rig, rig.log.clone(), &store, Some(share.clone())));
    rig.append(&[create("alice", 900, CREW, &["bob"])]);
    for part in 0..40u16 {
        // Who has it, who has it no more: sometimes both have it for a while, and sometimes nobody has.
        for partition in 0..PARTITIONS {
            let turn = usize::from(part) + partition as usize;
            let (to, from) = (&shares[turn % 2], &shares[(turn + 1) % 2]);
            match turn % 3 {
                0 => {
                    to.own(partition);
                    from.release(partition);
                }
                1 => {
                    from.release(partition);
                    to.own(partition);
                }
                // Until the next part, both have it.
                _ => to.own(partition),
            }
        }
        let mut sources = texts(DM, part * 5..part * 5 + 5);
        sources.extend(texts(CREW, part * 5..part * 5 + 5));
        let op = match part % 2 {
            0 => GroupOp::Add {
                users: users(&["carol"]),
            },
            _ => GroupOp::Remove {
                users: users(&["carol"]),
            },
        };
        sources.push(group_op("alice", 1_000 + part, CREW, op));
        // A client that repeats itself without saying so, to whoever ingests by then.
        sources.extend(texts(DM, part * 5..part * 5 + 2));
        rig.append(&sources);
    }
    done(&rig);
    whole(&store, DM, 200);
    whole(&store, CREW, 241);
    assert_eq!(seen(&rig)[DM], (1..=200).collect::<Vec<_>>());
    let accepted = drivers
        .each_ref()
        .map(|driver| driver.counters().read().accepted);
    assert!(
        accepted.iter().all(|n| *n > 0),
        "both had work: {accepted:?}"
    );
}

#[test]
fn a_driver_without_partitions_reads_nothing_and_one_that_gives_up_leaves_its_commit() {
    let rig = Rig::plain();
    let store = Arc::new(SlowStore::new(1, 0));
    let (ours, theirs) = (share(), share());
    (0..PARTITIONS).for_each(|partition| ours.own(partition));
    let first = start_with(&rig, rig.log.clone(), &store, Some(ours.clone()));
    let second = start_with(&rig, rig.log.clone(), &store, Some(theirs.clone()));
    rig.append(&texts(DM, 0..50));
    done(&rig);
    assert_eq!(second.counters().read().accepted, 0);
    assert_eq!(first.lags().len(), PARTITIONS as usize);
    (0..PARTITIONS).for_each(|partition| ours.release(partition));
    until("all is given up", || first.lags().is_empty());
    let before = committed(&rig, DM);
    rig.append(&texts(DM, 50..60));
    // Nobody ingests it until somebody owns it.
    assert_eq!(committed(&rig, DM), before);
    (0..PARTITIONS).for_each(|partition| theirs.own(partition));
    done(&rig);
    whole(&store, DM, 60);
    let accepted = (
        first.counters().read().accepted,
        second.counters().read().accepted,
    );
    assert_eq!(accepted, (50, 10), "nothing was done twice");
}

#[test]
fn a_driver_whose_process_has_no_place_says_so() {
    let rig = Rig::plain();
    let store = Arc::new(SlowStore::new(1, 0));
    let share = IngestShare::default();
    let driver = start_with(&rig, rig.log.clone(), &store, Some(share.clone()));
    let said = driver.trouble().unwrap();
    assert!(said.contains("no place among the others"), "{said}");
    share.set_in_place(true);
    assert_eq!(driver.trouble(), None);
}
