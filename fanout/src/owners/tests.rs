use super::{Clock, Follower, IngestMember};
use crate::ingest::IngestShare;
use crate::rig::engine::{PARTITIONS, Rig, until};
use hawser_protocol::ownership::{NodeName, NodeRecord};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// One ingest among others, without anything to ingest.
struct Process {
    member: IngestMember,
    share: IngestShare,
    displaced: Receiver<String>,
}

fn process(rig: &Rig, name: &str) -> Process {
    let share = IngestShare::default();
    let (tell, displaced) = channel();
    let follower = Follower {
        name: NodeName::new(name).unwrap(),
        name_key: "fanout.name",
        record: NodeRecord::ingest(100, String::new()),
        lease_ms: 1_500,
        clock: Clock::start(),
    };
    let member = IngestMember::start(follower, rig.log.clone(), share.clone(), move |words| {
        let _ = tell.send(words);
    });
    Process {
        member: member.unwrap(),
        share,
        displaced,
    }
}

#[test]
fn ingests_divide_the_partitions_and_one_that_ends_gives_all_to_the_other() {
    let rig = Rig::plain();
    let all = PARTITIONS as usize;
    let first = process(&rig, "ingest-1");
    until("the only one has all", || first.share.owned() == all);
    let second = process(&rig, "ingest-2");
    until("both have half", || {
        first.share.owned() == all / 2 && second.share.owned() == all / 2
    });
    assert!(first.member.drain(Duration::from_secs(10)));
    assert_eq!(first.share.owned(), 0);
    until("the other has all", || second.share.owned() == all);
    drop(first.member);
    // Nobody is there to take anything: that is not waited for.
    assert!(second.member.drain(Duration::from_secs(10)));
    assert_eq!(second.share.owned(), all);
}

#[test]
fn of_two_processes_of_one_name_the_later_stays_and_the_other_is_told() {
    let rig = Rig::plain();
    let all = PARTITIONS as usize;
    let first = process(&rig, "ingest-1");
    let second = process(&rig, "ingest-2");
    until("both have half", || {
        first.share.owned() == all / 2 && second.share.owned() == all / 2
    });
    // Its thread goes on to the end of the test, as that of a process that nobody sees: what it says is another's.
    let twin = process(&rig, "ingest-1");
    let words = first
        .displaced
        .recv_timeout(Duration::from_secs(20))
        .unwrap();
    assert!(words.contains("fanout.name"), "{words}");
    until("the new life of the name has its half", || {
        twin.share.owned() == all / 2 && second.share.owned() == all / 2
    });
}
