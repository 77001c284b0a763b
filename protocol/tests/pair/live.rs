//! Coming live: sync, adopting the head, receipts, history.

use super::model::{Weather, World};
use hawser_protocol::client::{Phase, Position};
use hawser_protocol::frame::{ClientFrame, FrameType};
use hawser_protocol::ids::{ChatId, Seq};

pub(crate) const CHAT: &str = "dm:alice:bob";

pub(crate) fn two() -> (World, usize, usize) {
    let mut world = World::new(1);
    let (alice, bob) = (world.join("alice", "a1"), world.join("bob", "b1"));
    world.pass(200);
    (world, alice, bob)
}

fn types(world: &World, user: &str) -> Vec<FrameType> {
    world.frames_of(user).map(ClientFrame::frame_type).collect()
}

#[test]
fn a_fresh_device_syncs_adopts_the_head_and_is_live() {
    let mut world = World::new(1);
    let alice = world.join("alice", "a1");
    world.pass(200);
    assert_eq!(
        world.devices[alice].phases,
        ["connecting", "syncing", "catching-up", "live"]
    );
    assert_eq!(
        types(&world, "alice"),
        [FrameType::HELLO, FrameType::SYNC, FrameType::ACK]
    );
    assert_eq!(world.devices[alice].disk.next(), Some(0));
    assert_eq!(
        world.devices[alice].disk.positions[0],
        Position::SyncingFrom(0)
    );
}

#[test]
fn a_message_reaches_the_others_disk_and_its_ticks_come_back() {
    let (mut world, alice, bob) = two();
    world.say(alice, CHAT, "hello");
    world.pass(500);
    assert_eq!(world.devices[bob].disk.texts(CHAT), ["hello"]);
    assert_eq!(world.devices[alice].disk.texts(CHAT), ["hello"]);
    assert!(world.devices[alice].disk.saved.pending.is_empty());
    assert_eq!(world.devices[alice].queued, 1);
    let seq = world.devices[alice].disk.seq_of("hello");
    assert_eq!(
        world.devices[alice].disk.mark(CHAT, "bob"),
        (seq, Seq::NONE)
    );
    world.read(bob, CHAT, seq);
    world.pass(500);
    assert_eq!(world.devices[alice].disk.mark(CHAT, "bob"), (seq, seq));
}

#[test]
fn what_came_by_sync_is_acknowledged_by_receipt() {
    let mut world = World::new(1);
    let alice = world.join("alice", "a1");
    world
        .cluster
        .users
        .insert(hawser_protocol::ids::UserId::new("bob").expect("user"));
    world.pass(200);
    world.say(alice, CHAT, "before bob came");
    world.pass(200);
    let bob = world.join("bob", "b1");
    world.pass(500);
    assert_eq!(world.devices[bob].disk.texts(CHAT), ["before bob came"]);
    let seq = world.devices[alice].disk.seq_of("before bob came");
    assert_eq!(world.devices[alice].disk.mark(CHAT, "bob").0, seq);
}

#[test]
fn no_head_is_adopted_before_the_synced_chats_are_on_the_disk() {
    let (mut world, alice, bob) = two();
    world.say(alice, CHAT, "one");
    world.pass(100);
    world.never_recover = true;
    world.devices[bob].disk_stopped = true;
    world.drop_user("bob", 4300);
    world.pass(5_000);
    assert_eq!(world.devices[bob].phase, Phase::Syncing);
    let adopted = |world: &World| {
        let acks = world.frames_of("bob");
        acks.filter(|f| matches!(f, ClientFrame::Ack(ack) if ack.offset == u64::MAX))
            .count()
    };
    assert_eq!(adopted(&world), 1);
    world.resume_disk(bob);
    world.pass(100);
    assert_eq!(world.devices[bob].phase, Phase::Live);
    assert_eq!(adopted(&world), 2);
}

#[test]
fn a_program_that_dies_while_it_syncs_starts_the_sync_anew() {
    let (mut world, alice, bob) = two();
    world.say(alice, CHAT, "one");
    world.never_recover = true;
    world.lose_syncs = true;
    world.drop_user("bob", 4300);
    world.pass(1_000);
    assert!(matches!(
        world.devices[bob].disk.saved.position,
        Some(Position::SyncingFrom(_))
    ));
    world.never_recover = false;
    world.lose_syncs = false;
    world.crash(bob);
    world.pass(1_000);
    assert_eq!(world.devices[bob].phase, Phase::Live);
    assert_eq!(world.devices[bob].disk.texts(CHAT), ["one"]);
}

#[test]
fn a_chat_known_from_earlier_is_caught_up_page_by_page_all_of_it() {
    let (mut world, alice, bob) = two();
    world.say(alice, CHAT, "0");
    world.pass(200);
    let now = world.now();
    world.devices[bob].session.stop(now);
    world.settle(bob);
    for n in 1..=600 {
        world.say(alice, CHAT, &n.to_string());
        world.pass(8);
    }
    world.pass(1_000);
    world.never_recover = true;
    world.start(bob);
    world.pass(2_000);
    let all: Vec<String> = (0..=600).map(|n| n.to_string()).collect();
    assert_eq!(world.devices[bob].disk.texts(CHAT), all);
}

#[test]
fn of_an_unknown_chat_the_newest_page_is_fetched_and_older_ones_by_history() {
    let (mut world, alice, _) = two();
    for n in 1..=100 {
        world.say(alice, CHAT, &n.to_string());
        world.pass(10);
    }
    let tablet = world.join("bob", "b2");
    world.pass(500);
    assert_eq!(world.devices[tablet].disk.texts(CHAT).len(), 64);
    let (now, chat) = (world.now(), ChatId::new(CHAT).expect("chat"));
    world.devices[tablet].session.history(&chat, 37, 50, now);
    world.settle(tablet);
    world.pass(100);
    assert_eq!(world.devices[tablet].disk.texts(CHAT).len(), 100);
    let done = &world.devices[tablet].history[0];
    assert_eq!(
        (done.before_ordinal, done.at_start, done.error),
        (37, true, 0)
    );
}

#[test]
fn every_chat_of_a_long_list_is_synced() {
    let mut world = World::new(1);
    for n in 0..9 {
        let at = world.now().wall_ms;
        world
            .cluster
            .group(&format!("g:{n}"), "alice", &["alice"], at);
    }
    let alice = world.join("alice", "a1");
    world.pass(500);
    let list = world.devices[alice].disk.chat_list.clone().expect("a list");
    assert_eq!(list.len(), 9);
    assert_eq!(world.devices[alice].disk.saved.tracks.len(), 9);
    assert_eq!(world.devices[alice].phase, Phase::Live);
}

#[test]
fn a_new_group_is_noticed_and_the_list_fetched() {
    let (mut world, _, bob) = two();
    let at = world.now().wall_ms;
    world.cluster.group("g:x", "alice", &["alice", "bob"], at);
    world.deliver();
    world.pass(500);
    let list = world.devices[bob].disk.chat_list.clone().expect("a list");
    assert!(list.contains(&"g:x".to_owned()));
}

#[test]
fn sends_of_a_syncing_session_are_answered_without_an_offset_when_they_were_in_flight() {
    let (mut world, alice, bob) = two();
    world.weather = Weather {
        append_ms: 3_000,
        ..world.weather
    };
    world.never_recover = true;
    world.say(alice, CHAT, "in flight");
    world.pass(50);
    world.drop_user("alice", 4300);
    world.pass(10_000);
    assert_eq!(world.devices[alice].disk.texts(CHAT), ["in flight"]);
    assert_eq!(world.devices[bob].disk.texts(CHAT), ["in flight"]);
    assert!(world.devices[alice].disk.saved.pending.is_empty());
}
