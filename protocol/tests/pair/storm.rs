//! Seeded storms: whatever happens, nothing is lost, shown twice or out of order.

use super::model::{Weather, World};
use hawser_protocol::client::Phase;
use std::collections::BTreeSet;

const GROUP: &str = "g:x";
/// `HAWSER_SEEDS=from-to` runs others.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=250;

fn storm(seed: u64) -> World {
    let mut world = World::new(seed);
    world.weather = Weather {
        delay_ms: (1, 40),
        disk_ms: 5,
        append_ms: 4,
    };
    world.settings.window_frames = 16;
    world.cluster.redeliver_every = 7;
    let users = ["alice", "bob", "carol"];
    for user in users {
        world.join(user, "d1");
    }
    world.join("alice", "d2");
    let at = world.now().wall_ms;
    world.cluster.group(GROUP, "alice", &users, at);
    world.deliver();
    for step in 0..200 {
        let device = usize::try_from(world.chance.below(4)).expect("small");
        let user = world.devices[device].user.to_string();
        let name = world.devices[device].name.clone();
        match world.chance.below(100) {
            0..60 => world.say(device, GROUP, &format!("{user}-{name} {step}")),
            60..66 => world.drop_user(&user, 1006),
            66..70 => world.drop_user(&user, 4300),
            70..76 => world.crash(device),
            76..78 => world.kill_edge(),
            78..81 => world.never_recover = !world.never_recover,
            81..85 => world.next_errors.push(42),
            85..89 => world.devices[device].disk_stopped = true,
            89..93 => world.resume_disk(device),
            93..95 => toggle_black_hole(&mut world, device),
            95..96 => world.cluster.low = world.cluster.log.len() as u64,
            96..97 => {
                world.kill_edge();
                world.cluster.recreate_log();
            }
            _ => {
                world.hold_results = !world.hold_results;
                world.kill_edge();
            }
        }
        let ms = world.chance.below(600);
        world.pass(ms);
    }
    world.hold_results = false;
    world.next_errors.clear();
    world.kill_edge();
    for device in 0..4 {
        world.devices[device].black_hole = false;
        world.resume_disk(device);
    }
    world.pass(300_000);
    world
}

/// A connection that lost bytes is lost, at the latest when the network is back.
fn toggle_black_hole(world: &mut World, device: usize) {
    let healed = world.devices[device].black_hole;
    world.devices[device].black_hole = !healed;
    if healed {
        let user = world.devices[device].user.to_string();
        world.drop_user(&user, 1006);
    }
}

fn check(world: &World, seed: u64) {
    let stored = world.cluster.texts(GROUP);
    let unique: BTreeSet<&String> = stored.iter().collect();
    assert_eq!(unique.len(), stored.len(), "seed {seed}: stored twice");
    for device in &world.devices {
        let who = format!("seed {seed}, {} {}", device.user, device.name);
        assert_eq!(device.phase, Phase::Live, "{who}");
        assert!(device.disk.saved.pending.is_empty(), "{who}: unsent");
        // A device that first came late has the newest page, and everything since.
        let texts = device.disk.texts(GROUP);
        assert!(stored.ends_with(&texts), "{who}: a hole in {texts:?}");
        assert!(
            texts.len() >= stored.len().min(60),
            "{who}: {}",
            texts.len()
        );
        let shown: BTreeSet<_> = device.disk.shown.iter().collect();
        assert_eq!(shown.len(), device.disk.shown.len(), "{who}: shown twice");
        for text in &device.disk.accepted {
            assert!(stored.contains(text), "{who}: lost {text}");
        }
        let mine = format!("{}-{} ", device.user, device.name);
        let own = stored.iter().filter_map(|text| text.strip_prefix(&mine));
        let steps: Vec<u64> = own.map(|step| step.parse().expect("a step")).collect();
        assert!(steps.is_sorted(), "{who}: order {steps:?}");
    }
}

#[test]
fn nothing_is_lost_or_shown_twice_or_out_of_order_whatever_happens() {
    let wished = std::env::var("HAWSER_SEEDS").ok();
    let wished = wished.as_deref().and_then(|range| range.split_once('-'));
    let seeds = match wished.and_then(|(a, b)| Some(a.parse().ok()?..=b.parse().ok()?)) {
        Some(seeds) => seeds,
        None => SEEDS,
    };
    for seed in seeds {
        check(&storm(seed), seed);
    }
}

#[test]
fn one_seed_is_one_run() {
    let run = |seed| {
        let world = storm(seed);
        (world.cluster.texts(GROUP), world.seen.len(), world.ms)
    };
    assert_eq!(run(5), run(5));
}
