//! Sends: order, ids, retries, refusals.

use super::live::{CHAT, two};
use super::model::World;
use hawser_protocol::frame::ClientFrame;
use hawser_protocol::ids::ChatId;
use hawser_protocol::message::Send;

const HALL: &str = "g:hall";
const LANE: &str = "g:hall#1";

fn sends(world: &World, user: &str) -> Vec<Send> {
    let sends = world.frames_of(user).filter_map(|frame| match frame {
        ClientFrame::Send(send) => Some(send.clone()),
        _ => None,
    });
    sends.collect()
}

#[test]
fn what_is_written_offline_leaves_in_order_once_live_and_survives_a_crash() {
    let (mut world, alice, bob) = two();
    world.devices[alice].unreachable = true;
    world.drop_user("alice", 1006);
    world.pass(10);
    for text in ["a", "b", "c"] {
        world.say(alice, CHAT, text);
    }
    world.pass(10);
    world.crash(alice);
    world.pass(3_000);
    assert_eq!(world.devices[bob].disk.texts(CHAT).len(), 0);
    world.devices[alice].unreachable = false;
    world.pass(60_000);
    assert_eq!(world.devices[bob].disk.texts(CHAT), ["a", "b", "c"]);
    assert!(world.devices[alice].disk.saved.pending.is_empty());
}

#[test]
fn an_answer_lost_with_the_connection_is_got_by_a_retry_of_the_same_id() {
    let (mut world, alice, _) = two();
    world.hold_results = true;
    world.say(alice, CHAT, "once");
    world.pass(100);
    world.hold_results = false;
    world.never_recover = true;
    world.drop_user("alice", 1006);
    world.pass(10_000);
    assert_eq!(world.cluster.texts(CHAT), ["once"]);
    assert_eq!(world.devices[alice].disk.texts(CHAT), ["once"]);
    assert!(world.devices[alice].disk.saved.pending.is_empty());
}

#[test]
fn queued_without_a_result_is_sent_again_after_60_s_marked_as_a_retry() {
    let (mut world, alice, _) = two();
    world.hold_results = true;
    world.say(alice, CHAT, "x");
    world.pass(59_000);
    assert_eq!(sends(&world, "alice").len(), 1);
    world.pass(2_000);
    let sends = sends(&world, "alice");
    assert_eq!(sends.len(), 2);
    assert_eq!(sends[0].client_msg_id, sends[1].client_msg_id);
    assert_eq!([sends[0].retry, sends[1].retry], [false, true]);
}

#[test]
fn a_busy_answer_is_retried_and_later_ones_of_the_chat_do_not_overtake() {
    let (mut world, alice, bob) = two();
    world.next_errors = vec![42, 43, 40];
    world.say(alice, CHAT, "1");
    world.say(alice, CHAT, "2");
    world.say(alice, "dm:alice:alice", "note");
    world.pass(10_000);
    assert_eq!(world.devices[bob].disk.texts(CHAT), ["1", "2"]);
    assert_eq!(world.devices[alice].disk.texts("dm:alice:alice"), ["note"]);
}

#[test]
fn a_refusal_for_good_is_kept_and_not_sent_again() {
    let (mut world, alice, _) = two();
    world.say(alice, "dm:alice:nobody", "hm");
    world.pass(70_000);
    let pending = &world.devices[alice].disk.saved.pending;
    assert_eq!(pending[0].refused.as_ref().map(|r| r.code), Some(30));
    assert_eq!(sends(&world, "alice").len(), 1);
    world.crash(alice);
    world.pass(70_000);
    assert_eq!(sends(&world, "alice").len(), 1);
}

#[test]
fn no_send_leaves_before_the_disk_has_it() {
    let (mut world, alice, bob) = two();
    world.devices[alice].disk_stopped = true;
    world.say(alice, CHAT, "x");
    world.pass(1_000);
    assert_eq!(sends(&world, "alice").len(), 0);
    world.resume_disk(alice);
    world.pass(200);
    assert_eq!(world.devices[bob].disk.texts(CHAT), ["x"]);
}

#[test]
fn an_id_older_than_the_dedup_window_is_renewed_after_the_sync() {
    let (mut world, alice, bob) = two();
    world.devices[alice].unreachable = true;
    world.drop_user("alice", 1006);
    world.pass(10);
    world.say(alice, CHAT, "from last week");
    world.pass(10);
    let old = world.devices[alice].disk.saved.pending[0].id;
    world.ms += 8 * 24 * 3_600_000;
    world.devices[alice].unreachable = false;
    world.pass(60_000);
    assert_eq!(world.devices[bob].disk.texts(CHAT), ["from last week"]);
    let send = sends(&world, "alice").remove(0);
    assert_ne!(send.client_msg_id, old);
    assert!(send.client_msg_id.timestamp_ms() > world.now().wall_ms - 61_000);
    assert!(world.devices[alice].disk.saved.pending.is_empty());
}

#[test]
fn an_accepted_send_whose_dedup_is_forgotten_is_found_by_the_sync_and_not_sent_again() {
    let (mut world, alice, bob) = two();
    world.hold_results = true;
    world.say(alice, CHAT, "accepted long ago");
    world.pass(100);
    world.devices[alice].unreachable = true;
    world.drop_user("alice", 1006);
    world.pass(10);
    world.ms += 8 * 24 * 3_600_000;
    world.hold_results = false;
    world.never_recover = true;
    world.devices[alice].unreachable = false;
    world.pass(60_000);
    assert_eq!(world.devices[bob].disk.texts(CHAT), ["accepted long ago"]);
    assert_eq!(world.cluster.texts(CHAT).len(), 1);
    assert!(world.devices[alice].disk.saved.pending.is_empty());
}

#[test]
fn ids_are_stamped_with_the_servers_clock() {
    let (mut world, alice, _) = two();
    world.say(alice, CHAT, "x");
    let wall_ms = world.now().wall_ms;
    world.pass(100);
    let id = sends(&world, "alice")[0].client_msg_id;
    assert!(id.is_v7());
    assert!(id.timestamp_ms().abs_diff(wall_ms) < 10);
}

#[test]
fn what_is_stored_in_a_lane_of_the_chat_is_kept_in_that_lane() {
    let (mut world, alice, bob) = two();
    let at = world.now().wall_ms;
    for chat in [HALL, LANE] {
        world.cluster.group(chat, "alice", &["alice", "bob"], at);
    }
    world.pass(2_000);
    world.say(alice, HALL, "in the group's own lane");
    world.pass(1_000);
    let id = |chat| ChatId::new(chat).expect("a chat");
    world.cluster.in_lane.insert(id(HALL), id(LANE));
    world.say(alice, HALL, "in another");
    world.pass(1_000);
    for device in [alice, bob] {
        let disk = &world.devices[device].disk;
        assert_eq!(disk.texts(HALL), ["in the group's own lane"]);
        assert_eq!(disk.texts(LANE), ["in another"]);
    }
    assert!(world.devices[alice].disk.saved.pending.is_empty());
}
