//! Acks follow the disk; gaps hold them back; pings carry them.

use super::live::{CHAT, two};
use super::model::World;
use hawser_protocol::frame::{ClientFrame, FrameType};
use hawser_protocol::ids::UserId;

fn count(world: &World, user: &str, frame_type: FrameType) -> usize {
    world
        .frames_of(user)
        .filter(|f| f.frame_type() == frame_type)
        .count()
}

#[test]
fn nothing_is_acknowledged_before_the_disk_has_it() {
    let (mut world, alice, bob) = two();
    world.say(alice, CHAT, "first");
    world.pass(500);
    let before = count(&world, "bob", FrameType::ACK);
    world.devices[bob].disk_stopped = true;
    world.say(alice, CHAT, "second");
    world.pass(5_000);
    assert_eq!(count(&world, "bob", FrameType::ACK), before);
    let second = world.devices[alice].disk.seq_of("second");
    assert!(world.devices[alice].disk.mark(CHAT, "bob").0 < second);
    world.resume_disk(bob);
    world.pass(500);
    assert!(count(&world, "bob", FrameType::ACK) > before);
    assert_eq!(world.devices[alice].disk.mark(CHAT, "bob").0, second);
}

#[test]
fn a_burst_is_acknowledged_in_few_frames() {
    let (mut world, alice, bob) = two();
    for n in 0..100 {
        world.say(alice, CHAT, &n.to_string());
    }
    world.pass(2_000);
    assert_eq!(world.devices[bob].disk.texts(CHAT).len(), 100);
    assert!(count(&world, "bob", FrameType::ACK) < 40);
}

#[test]
fn what_nobody_waits_for_is_acknowledged_with_the_next_ping() {
    let (mut world, alice, _) = two();
    let offset_of = |frame: &ClientFrame| match frame {
        ClientFrame::Ping(ping) => ping.offset,
        _ => None,
    };
    world.pass(1_000);
    let before = count(&world, "alice", FrameType::ACK);
    world.say(
        alice,
        CHAT,
        "its result and its ticks want no ack of their own",
    );
    world.pass(1_000);
    assert_eq!(count(&world, "alice", FrameType::ACK), before);
    world.pass(30_000);
    assert_eq!(count(&world, "alice", FrameType::ACK), before);
    assert!(world.frames_of("alice").filter_map(offset_of).count() > 0);
    // Many do not wait.
    for n in 0..40 {
        world.say(alice, CHAT, &n.to_string());
    }
    world.pass(1_000);
    assert!(count(&world, "alice", FrameType::ACK) > before);
}

#[test]
fn more_than_a_window_is_delivered_ack_by_ack() {
    let (mut world, alice, bob) = two();
    world.devices[bob].disk_stopped = true;
    for n in 0..700 {
        world.say(alice, CHAT, &n.to_string());
        world.pass(5);
    }
    assert_eq!(world.devices[bob].disk.texts(CHAT).len(), 0);
    world.resume_disk(bob);
    world.pass(2_000);
    assert_eq!(world.devices[bob].disk.texts(CHAT).len(), 700);
}

#[test]
fn pings_come_at_the_heartbeat_the_first_one_jittered() {
    let (mut world, ..) = two();
    world.pass(30_000);
    assert_eq!(count(&world, "alice", FrameType::PING), 1);
    world.pass(90_000);
    assert_eq!(count(&world, "alice", FrameType::PING), 4);
}

#[test]
fn an_ack_of_what_only_an_earlier_connection_brought_waits_for_the_replay() {
    let (mut world, alice, bob) = two();
    world.weather.disk_ms = 400;
    world.say(alice, CHAT, "slowly stored");
    world.pass(460);
    world.drop_user("bob", 4300);
    world.pass(5_000);
    assert_eq!(world.devices[bob].disk.texts(CHAT), ["slowly stored"]);
    assert_eq!(world.devices[bob].disk.shown.len(), 1);
    assert!(!world.devices[bob].phases.contains(&"refused"));
}

#[test]
fn a_missing_message_is_fetched_and_holds_back_the_cursor_until_it_is_stored() {
    let (mut world, alice, bob) = two();
    world.say(alice, CHAT, "1");
    world.pass(500);
    let next = world.cluster.log.len() as u64;
    world
        .skipped
        .push((UserId::new("bob").expect("user"), next));
    world.say(alice, CHAT, "2");
    world.pass(100);
    assert_eq!(world.devices[bob].disk.texts(CHAT), ["1"]);
    world.lose_syncs = true;
    world.say(alice, CHAT, "3");
    world.pass(500);
    assert_eq!(world.devices[bob].disk.texts(CHAT), ["1", "3"]);
    assert!(world.devices[bob].disk.next().expect("live") <= next);
    world.lose_syncs = false;
    world.pass(25_000);
    assert_eq!(world.devices[bob].disk.texts(CHAT), ["1", "2", "3"]);
    assert!(world.devices[bob].disk.next().expect("live") > next + 1);
    let asked = world.frames_of("bob").filter_map(|frame| match frame {
        ClientFrame::Sync(sync) => Some((sync.after_ordinal, sync.limit)),
        _ => None,
    });
    assert_eq!(asked.last(), Some((1, 1)));
}

#[test]
fn a_crash_with_an_open_gap_finds_the_gap_again() {
    let (mut world, alice, bob) = two();
    world.say(alice, CHAT, "1");
    world.pass(500);
    let next = world.cluster.log.len() as u64;
    world
        .skipped
        .push((UserId::new("bob").expect("user"), next));
    world.lose_syncs = true;
    world.say(alice, CHAT, "2");
    world.say(alice, CHAT, "3");
    world.pass(500);
    assert_eq!(world.devices[bob].disk.texts(CHAT), ["1", "3"]);
    world.lose_syncs = false;
    world.crash(bob);
    world.pass(1_000);
    assert_eq!(world.devices[bob].disk.texts(CHAT), ["1", "2", "3"]);
}

#[test]
fn a_gap_that_is_not_ours_to_see_is_closed_by_the_answer() {
    let (mut world, alice, bob) = two();
    let at = world.now().wall_ms;
    world.cluster.group("g:x", "alice", &["alice"], at);
    world.deliver();
    world.say(alice, "g:x", "secret");
    world.pass(300);
    world.cluster.group("g:x", "alice", &["alice", "bob"], at);
    world.deliver();
    world.pass(300);
    world.say(alice, "g:x", "welcome");
    world.pass(500);
    assert_eq!(world.devices[bob].disk.texts("g:x"), ["welcome"]);
    let high = world.cluster.log.len() as u64;
    assert_eq!(world.devices[bob].disk.next(), Some(high));
}

#[test]
fn a_second_delivery_is_not_shown_and_is_acknowledged() {
    let (mut world, alice, bob) = two();
    world.cluster.redeliver_every = 1;
    for n in 0..5 {
        world.say(alice, CHAT, &n.to_string());
        world.pass(100);
    }
    world.pass(500);
    assert_eq!(world.devices[bob].disk.shown.len(), 5);
    assert_eq!(world.devices[alice].disk.shown.len(), 5);
    let high = world.cluster.log.len() as u64;
    assert_eq!(world.devices[bob].disk.next(), Some(high));
}
