//! Two nodes on one log: who serves whom, and what they tell clients.

mod support;

use hawser_gateway::counters::{Counter, Gauge};
use hawser_gateway::node::NodeHandle;
use std::io::{Read, Write};
use support::client::{Client, Closed, Resume, Target};
use support::cluster::{eventually, member, relocated, stay, url};
use support::{Node, dm};

/// Short, so that the tests are.
const LEASE_MS: u64 = 900;

/// Node `a` of the harness and `b` beside it, each with its half.
fn two(drain_ms: u64) -> (Node, NodeHandle, Target) {
    let a = Node::with(
        |_| (),
        |n| (n.cluster, n.drain_ms) = (member("a", LEASE_MS), drain_ms),
    );
    let (b, at_b) = a.beside(|n| (n.cluster, n.drain_ms) = (member("b", LEASE_MS), drain_ms));
    let owned = |handle: &NodeHandle| handle.counters().sum(Gauge::PartitionsOwned);
    eventually("each has its half", || {
        owned(a.handle()) == 8 && owned(&b) == 8
    });
    (a, b, at_b)
}

/// A user whom `at` sends to `to`.
fn user_sent(node: &Node, at: &Target, to: &Target) -> String {
    let mut users = (0..100).map(|i| format!("user{i}"));
    let sent = |user: &String| {
        let token = node.token(user, "phone");
        let tried = Client::try_connect(at, &token, "phone", Resume::default());
        tried.err() == Some(Closed::Redirected(url(to)))
    };
    users.find(sent).expect("one of a hundred")
}

#[test]
fn a_user_is_sent_to_the_owner_or_served_as_a_guest_and_messages_go_between() {
    let (a, b, at_b) = two(500);
    let alice = user_sent(&a, &a.plain, &at_b);
    let bob = user_sent(&a, &at_b, &a.plain);
    assert!(a.handle().counters().total(Counter::Redirected) > 0);
    let mut at_home = a.live_at(&at_b, &alice, "phone");
    let mut bob_there = a.live(&bob, "phone");
    // Another device of hers that cannot go elsewhere.
    let mut guest = stay(&a, &a.plain, &alice, "watch");
    let id = bob_there.send(&dm(&alice, &bob), b"to both of you");
    assert_eq!(bob_there.result(id).error, 0);
    assert_eq!(&*at_home.deliver().record.body, b"to both of you");
    assert_eq!(&*guest.deliver().record.body, b"to both of you");
    eventually("the guest is counted", || {
        a.handle().counters().sum(Gauge::Guests) == 1
    });
    b.join().expect("a clean end");
}

#[test]
fn f20_of_two_sessions_of_a_device_on_two_nodes_the_older_gives_way() {
    let (a, b, at_b) = two(500);
    let alice = user_sent(&a, &a.plain, &at_b);
    let displaced = |handle: &NodeHandle| handle.counters().total(Counter::SessionsDisplaced);
    let as_guest = |device: &str| stay(&a, &a.plain, &alice, device);
    let mut watch = as_guest("watch");
    let mut at_home = a.live_at(&at_b, &alice, "phone");
    // Of two that began in one millisecond the nodes' names decide.
    let later = || std::thread::sleep(std::time::Duration::from_millis(20));
    later();
    // As somebody who has the token does it: at the node that does not own the partition.
    let mut guest = as_guest("phone");
    assert_eq!(at_home.closed(), Closed::Code(4301));
    assert_eq!((displaced(a.handle()), displaced(&b)), (0, 1));
    later();
    let mut again = a.live_at(&at_b, &alice, "phone");
    assert_eq!(guest.closed(), Closed::Code(4301));
    assert_eq!((displaced(a.handle()), displaced(&b)), (1, 1));
    let id = again.send(&dm(&alice, "bob"), b"one of each");
    assert_eq!(again.result(id).error, 0);
    assert_eq!(&*watch.deliver().record.body, b"one of each");
    b.join().expect("a clean end");
}

#[test]
fn a_node_reads_what_it_owns_and_what_it_has_guests_of_and_nothing_else() {
    let (a, b, at_b) = two(500);
    let read = |handle: &NodeHandle| handle.counters().sum(Gauge::Partitions);
    // It was alone at first, and read all.
    eventually("each reads its half", || {
        read(a.handle()) == 8 && read(&b) == 8
    });
    let alice = user_sent(&a, &a.plain, &at_b);
    let as_guest = |device: &str| stay(&a, &a.plain, &alice, device);
    for _ in 0..2 {
        let (mut phone, mut watch) = (as_guest("phone"), as_guest("watch"));
        eventually("the guests' too", || read(a.handle()) == 9);
        let id = phone.send(&dm(&alice, "bob"), b"from afar");
        assert_eq!(phone.result(id).error, 0);
        assert_eq!(&*watch.deliver().record.body, b"from afar");
        drop((phone, watch));
        eventually("nobody needs it any more", || read(a.handle()) == 8);
    }
    b.join().expect("a clean end");
}

#[test]
fn a_draining_node_sends_its_sessions_to_the_node_that_takes_its_partitions() {
    let (a, b, at_b) = two(8_000);
    let bob = user_sent(&a, &at_b, &a.plain);
    let mut old = a.live(&bob, "phone");
    a.handle().drain();
    let relocate = relocated(&mut old);
    assert_eq!(relocate.url, url(&at_b));
    assert!(relocate.slot_ms < relocate.deadline_ms && relocate.deadline_ms <= 8_000);
    let mut new = None;
    let token = a.token(&bob, "phone");
    eventually("the other node serves", || {
        let resume = old.resume();
        new = Client::try_connect(&at_b, &token, "phone", resume).ok();
        new.is_some()
    });
    let mut new = new.expect("it came");
    assert!(new.welcome.recovered, "the old session is resumed");
    new.caught_up();
    let id = new.send(&dm(&bob, "user0"), b"from there");
    assert_eq!(new.result(id).error, 0);
    eventually("all is the other's", || {
        b.counters().sum(Gauge::PartitionsOwned) == 16
    });
    b.join().expect("a clean end");
}

#[test]
fn a_client_that_comes_to_a_draining_node_is_sent_to_the_node_that_takes_its_partition() {
    let (a, b, at_b) = two(8_000);
    let bob = user_sent(&a, &at_b, &a.plain);
    let token = a.token(&bob, "phone");
    a.handle().drain();
    let comes = |resume: Resume| Client::try_connect(&a.plain, &token, "phone", resume).err();
    eventually("it is sent on", || {
        match comes(Resume::default()).expect("no session begins here") {
            Closed::Redirected(to) => to == url(&at_b),
            // Nobody has its partition yet.
            other => {
                assert_eq!(other, Closed::Code(4300));
                false
            }
        }
    });
    let stays = Resume {
        stays: true,
        ..Resume::default()
    };
    assert_eq!(comes(stays), Some(Closed::Code(4300)));
    assert!(a.handle().counters().total(Counter::RefusedDraining) > 0);
    b.join().expect("a clean end");
}

#[test]
fn a_session_whose_partition_gets_another_owner_is_told_to_go_there_and_lives_on() {
    let a = Node::with(|_| (), |n| n.cluster = member("a", LEASE_MS));
    eventually("it owns all", || {
        a.handle().counters().sum(Gauge::PartitionsOwned) == 16
    });
    let users: Vec<String> = (0..32).map(|i| format!("user{i}")).collect();
    let mut sessions: Vec<Client> = users.iter().map(|user| a.live(user, "phone")).collect();
    let (b, at_b) = a.beside(|n| n.cluster = member("b", LEASE_MS));
    eventually("half of it moves", || {
        b.counters().sum(Gauge::PartitionsOwned) == 8
    });
    a.counted(Counter::SentHome, 4);
    let moved = users.iter().zip(&mut sessions).find(|(user, _)| {
        let token = a.token(user, "phone");
        Client::try_connect(&at_b, &token, "other", Resume::default()).err()
            != Some(Closed::Redirected(url(&a.plain)))
    });
    let (user, session) = moved.expect("one of those that moved");
    let relocate = relocated(session);
    assert_eq!((relocate.url, relocate.deadline_ms), (url(&at_b), 0));
    let id = session.send(&dm(user, "bob"), b"it lives until it has moved");
    assert_eq!(session.result(id).error, 0);
    b.join().expect("a clean end");
    eventually("what the other leaves comes back", || {
        a.handle().counters().sum(Gauge::PartitionsOwned) == 16
    });
}

#[test]
fn locate_says_where_the_bearer_belongs_and_nothing_without_a_token() {
    let (a, b, at_b) = two(500);
    let alice = user_sent(&a, &a.plain, &at_b);
    let token = a.token(&alice, "phone");
    for at in [&a.plain, &at_b] {
        let answer = get(at, &format!("Authorization: Bearer {token}\r\n"));
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let wanted = format!("\"plain_url\":\"{}\",\"node\":\"", url(&at_b));
        assert!(answer.contains(&wanted), "{answer}");
    }
    assert!(get(&a.plain, "").starts_with("HTTP/1.1 401"));
    b.join().expect("a clean end");
}

fn get(at: &Target, headers: &str) -> String {
    let mut stream = at.open();
    let request =
        format!("GET /v1/locate HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).expect("it is read");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}
