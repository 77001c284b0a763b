//! Losing connections and finding new ones.

use super::live::{CHAT, two};
use super::model::World;
use hawser_protocol::client::Phase;
use hawser_protocol::frame::{ClientFrame, FrameType, ServerFrame};
use hawser_protocol::pb;

fn hellos(world: &World, user: &str) -> Vec<pb::Hello> {
    let hellos = world.frames_of(user).filter_map(|frame| match frame {
        ClientFrame::Hello(hello) => Some(hello.clone()),
        _ => None,
    });
    hellos.collect()
}

#[test]
fn resume_gives_exactly_the_missed_range_and_shows_nothing_twice() {
    let (mut world, alice, bob) = two();
    world.say(alice, CHAT, "1");
    world.pass(300);
    let next = world.devices[bob].disk.next().expect("live");
    world.devices[bob].unreachable = true;
    world.drop_user("bob", 1006);
    for n in 2..=600 {
        world.say(alice, CHAT, &n.to_string());
        world.pass(5);
    }
    world.devices[bob].unreachable = false;
    world.pass(60_000);
    let all: Vec<String> = (1..=600).map(|n| n.to_string()).collect();
    assert_eq!(world.devices[bob].disk.texts(CHAT), all);
    assert_eq!(world.devices[bob].disk.shown.len(), 600);
    let hello = hellos(&world, "bob").pop().expect("a second Hello");
    assert_eq!(hello.last_offset, Some(next - 1));
    assert!(!hello.resume_token.is_empty());
    let phases = &world.devices[bob].phases;
    assert_eq!(phases.iter().filter(|p| **p == "syncing").count(), 1);
}

#[test]
fn below_the_logs_start_it_syncs_instead() {
    let (mut world, alice, bob) = two();
    world.say(alice, CHAT, "1");
    world.pass(300);
    world.devices[bob].unreachable = true;
    world.drop_user("bob", 1006);
    for n in 2..=9 {
        world.say(alice, CHAT, &n.to_string());
        world.pass(50);
    }
    world.cluster.low = world.cluster.log.len() as u64;
    world.devices[bob].unreachable = false;
    world.pass(60_000);
    assert_eq!(world.devices[bob].disk.texts(CHAT).len(), 9);
    let phases = &world.devices[bob].phases;
    assert_eq!(phases.iter().filter(|p| **p == "syncing").count(), 2);
}

#[test]
fn a_log_of_another_generation_is_not_resumed_and_old_offsets_are_not_acknowledged() {
    let (mut world, alice, bob) = two();
    for n in 1..=20 {
        world.say(alice, CHAT, &n.to_string());
        world.pass(50);
    }
    world.weather.disk_ms = 300;
    world.say(alice, CHAT, "21");
    world.pass(20);
    world.kill_edge();
    world.cluster.recreate_log();
    world.pass(10_000);
    world.say(alice, CHAT, "22");
    world.pass(5_000);
    for device in [alice, bob] {
        assert_eq!(world.devices[device].phase, Phase::Live);
        assert_eq!(world.devices[device].disk.texts(CHAT).len(), 22);
        assert!(!world.devices[device].phases.contains(&"refused"));
    }
}

#[test]
fn waits_are_jittered_up_to_30_s_and_a_nudge_ends_them() {
    let mut world = World::new(1);
    let alice = world.join("alice", "a1");
    world.pass(200);
    world.devices[alice].unreachable = true;
    world.drop_user("alice", 1006);
    world.pass(600_000);
    let tries = world.devices[alice].opened.len();
    assert!((20..90).contains(&tries), "{tries}");
    world.devices[alice].unreachable = false;
    let now = world.now();
    world.devices[alice].session.nudge(now);
    world.settle(alice);
    world.pass(100);
    assert_eq!(world.devices[alice].phase, Phase::Live);
}

#[test]
fn a_half_open_connection_is_noticed_by_the_missing_pong() {
    let (mut world, alice, _) = two();
    world.devices[alice].black_hole = true;
    world.pass(41_000);
    assert!(world.devices[alice].phases.contains(&"waiting"));
    world.devices[alice].black_hole = false;
    world.pass(60_000);
    assert_eq!(world.devices[alice].phase, Phase::Live);
    assert!(world.conns.len() <= 2, "the edge noticed too");
}

#[test]
fn close_codes_carry_their_policy() {
    let cases = [
        (4000, "refused"),
        (4003, "refused"),
        (1002, "refused"),
        (4200, "waiting"),
        (1006, "waiting"),
        (1011, "waiting"),
        (4300, "live"),
        (1001, "live"),
        (4100, "live"),
    ];
    for (code, expected) in cases {
        let (mut world, alice, _) = two();
        world.pass(15_000);
        let before = world.devices[alice].phases.len();
        world.drop_user("alice", code);
        world.pass(40);
        let phases = &world.devices[alice].phases[before..];
        assert_eq!(phases.last(), Some(&expected), "{code}: {phases:?}");
        assert_eq!(phases.contains(&"waiting"), expected == "waiting", "{code}");
    }
}

#[test]
fn an_expired_token_is_replaced() {
    let (mut world, alice, _) = two();
    world.drop_user("alice", 4100);
    world.pass(2_000);
    assert_eq!(world.devices[alice].token_fetches, 2);
    assert_eq!(world.devices[alice].phase, Phase::Live);
}

#[test]
fn a_used_token_that_is_refused_is_replaced_once_and_a_fresh_one_ends_it() {
    let (mut world, alice, _) = two();
    world.pass(15_000);
    world.drop_user("alice", 1006);
    world.pass(30_000);
    world.drop_user("alice", 4001);
    world.pass(40_000);
    assert_eq!(world.devices[alice].phase, Phase::Live);
    assert_eq!(world.devices[alice].token_fetches, 2);
    world.drop_user("alice", 4001);
    world.pass(100);
    assert!(matches!(
        world.devices[alice].phase,
        Phase::Refused { code: 4001, .. }
    ));
}

#[test]
fn the_token_is_renewed_in_band_before_it_expires() {
    let (mut world, alice, _) = two();
    world.pass(3 * 3_600_000);
    let renewed = world
        .frames_of("alice")
        .filter(|f| f.frame_type() == FrameType::REFRESH_TOKEN);
    assert_eq!(renewed.count(), 3);
    let phases = &world.devices[alice].phases;
    assert_eq!(phases.iter().filter(|p| **p == "live").count(), 1);
}

#[test]
fn displaced_twice_it_gives_way_until_the_user_asks() {
    let (mut world, alice, _) = two();
    world.drop_user("alice", 4301);
    world.pass(1_000);
    assert_eq!(world.devices[alice].phase, Phase::Live);
    world.drop_user("alice", 4301);
    world.pass(100_000);
    assert_eq!(world.devices[alice].phase, Phase::Displaced);
    world.start(alice);
    world.pass(1_000);
    assert_eq!(world.devices[alice].phase, Phase::Live);
}

#[test]
fn a_relocated_session_is_open_before_the_old_one_is_closed() {
    let (mut world, alice, bob) = two();
    let relocate = pb::Relocate {
        url: "ws://other/".into(),
        slot_ms: 500,
        deadline_ms: 5_000,
    };
    world.send_to("alice", &ServerFrame::Relocate(relocate));
    world.pass(400);
    assert_eq!(world.devices[alice].opened, ["ws://home/"]);
    world.pass(600);
    assert_eq!(world.devices[alice].opened, ["ws://home/", "ws://other/"]);
    assert_eq!(world.devices[alice].phase, Phase::Live);
    assert!(!world.devices[alice].phases.contains(&"waiting"));
    world.say(bob, CHAT, "still there?");
    world.pass(400);
    assert_eq!(world.devices[alice].disk.texts(CHAT), ["still there?"]);
}

#[test]
fn a_redirect_is_followed_only_to_an_address_of_our_scheme() {
    for (url, opened) in [
        ("ws://other/", "ws://other/"),
        ("http://evil/", "ws://home/"),
    ] {
        let mut world = World::new(1);
        world.next_hello = Some(ServerFrame::Redirect(pb::Redirect {
            url: url.into(),
            map_version: 1,
            jitter_ms: 100,
        }));
        let alice = world.join("alice", "a1");
        world.pass(2_000);
        assert_eq!(world.devices[alice].opened, ["ws://home/", opened]);
        assert_eq!(world.devices[alice].phase, Phase::Live);
    }
}

fn redirect(url: &str) -> pb::Redirect {
    pb::Redirect {
        url: url.into(),
        map_version: 1,
        jitter_ms: 10,
    }
}

#[test]
fn where_a_redirect_leads_nowhere_the_client_asks_to_be_served_where_it_began() {
    let mut world = World::new(1);
    world.redirect = Some(redirect("ws://dead/"));
    world.dead_url = Some("ws://dead/".into());
    let alice = world.join("alice", "a1");
    world.pass(5_000);
    let wanted = ["ws://home/", "ws://dead/", "ws://home/"];
    assert_eq!(world.devices[alice].opened, wanted);
    assert_eq!(world.devices[alice].phase, Phase::Live);
}

#[test]
fn redirects_that_lead_in_a_circle_end() {
    let mut world = World::new(1);
    world.redirect = Some(redirect("ws://other/"));
    let alice = world.join("alice", "a1");
    world.pass(20_000);
    assert_eq!(world.devices[alice].opened.len(), 5);
    assert_eq!(world.devices[alice].phase, Phase::Live);
}

#[test]
fn a_redirect_of_the_link_that_is_to_take_over_leads_on_while_the_old_one_serves() {
    let (mut world, alice, bob) = two();
    let relocate = pb::Relocate {
        url: "ws://other/".into(),
        slot_ms: 100,
        deadline_ms: 0,
    };
    world.next_hello = Some(ServerFrame::Redirect(redirect("ws://third/")));
    world.send_to("alice", &ServerFrame::Relocate(relocate));
    world.pass(2_000);
    let wanted = ["ws://home/", "ws://other/", "ws://third/"];
    assert_eq!(world.devices[alice].opened, wanted);
    assert_eq!(world.devices[alice].phase, Phase::Live);
    assert!(!world.devices[alice].phases.contains(&"waiting"));
    world.say(bob, CHAT, "still there?");
    world.pass(400);
    assert_eq!(world.devices[alice].disk.texts(CHAT), ["still there?"]);
}

#[test]
fn bytes_that_are_no_frame_end_the_connection_not_the_session() {
    let (mut world, alice, _) = two();
    let now = world.now();
    let (link, _) = world.devices[alice]
        .links
        .first_key_value()
        .expect("a link");
    let (link, junk) = (
        *link,
        bytes::Bytes::from_static(&[0x85, 0, 0, 0, 255, 255, 255, 255]),
    );
    world.devices[alice].session.handle_message(link, junk, now);
    world.settle(alice);
    assert!(matches!(world.devices[alice].phase, Phase::Waiting { .. }));
    world.pass(5_000);
    assert_eq!(world.devices[alice].phase, Phase::Live);
}

#[test]
fn unconfirmed_reads_are_told_again_after_a_reconnect_and_a_crash() {
    for crash in [false, true] {
        let (mut world, alice, bob) = two();
        world.say(alice, CHAT, "1");
        world.pass(300);
        let seq = world.devices[bob].disk.seq_of("1");
        world.devices[bob].black_hole = true;
        world.read(bob, CHAT, seq);
        world.pass(1_000);
        world.devices[bob].black_hole = false;
        if crash {
            world.crash(bob);
        } else {
            world.drop_user("bob", 1006);
        }
        world.pass(10_000);
        assert_eq!(
            world.devices[alice].disk.mark(CHAT, "bob").1,
            seq,
            "crash: {crash}"
        );
    }
}

#[test]
fn the_watch_is_told_again_after_every_welcome_and_typing_reaches_it() {
    let (mut world, alice, bob) = two();
    let now = world.now();
    let users = vec!["alice".to_owned()];
    let session = &mut world.devices[bob].session;
    session.set_watch(users, vec![CHAT.to_owned()], now);
    world.settle(bob);
    world.pass(100);
    world.drop_user("bob", 4300);
    world.pass(1_000);
    let watches = world
        .frames_of("bob")
        .filter(|f| f.frame_type() == FrameType::WATCH);
    assert_eq!(watches.count(), 2);
    let (now, chat) = (
        world.now(),
        hawser_protocol::ids::ChatId::new(CHAT).expect("chat"),
    );
    for _ in 0..5 {
        world.devices[alice].session.typing(&chat, false, now);
    }
    world.settle(alice);
    world.pass(100);
    let typings = world
        .frames_of("alice")
        .filter(|f| f.frame_type() == FrameType::TYPING);
    assert_eq!(typings.count(), 1);
    assert_eq!(world.devices[bob].typing_seen, 1);
}
