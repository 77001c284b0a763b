//! A storm: what users do and what breaks, drawn from the seed; then calm, and judgement.

use crate::world::{DeviceNo, EDGES, World};
use crate::{Options, Outcome};
use hawser_protocol::ids::{ChatId, ClientMsgId, DeviceId, UserId};
use hawser_protocol::limits::LANES_NOTICE_MS;
use hawser_protocol::record::{GroupOp, SourceRecord};

const USERS: [&str; 4] = ["alice", "bob", "carol", "dave"];
/// dave comes and goes in the last of them, which is set to relaxed order in some runs.
const CHATS: [&str; 5] = ["g:x", "dm:alice:bob", "dm:alice:carol", "dm:bob:bob", "g:y"];
/// Longest pause between two steps, milliseconds.
const PAUSE_MS: u64 = 500;
/// Everything must be well after so long a calm: above all backoffs and retries, milliseconds.
const CALM_MS: u64 = 400_000;

/// In one run of so many a group is set to relaxed order.
const RELAXED_RUNS: u64 = 4;
/// In one run of so many tokens are revoked, in one step of so many.
const REVOKING_RUNS: u64 = 2;
const REVOKED_STEPS: u64 = 20;
/// The group that is.
const HALL: &str = "g:y";
/// In such a run a user says up to so much at once.
const BURST_MAX: u64 = 4;

/// How a group is set to relaxed order in the midst of a storm.
#[derive(Debug, Clone, Copy)]
struct Relaxing {
    lanes: u8,
    at_step: u64,
    /// Most of the notice passes in one pause, so that its end too is in the midst of the storm.
    pause_step: u64,
    pause_ms: u64,
}

/// Users have reached the beginning of their chats after this, milliseconds.
const SCROLL_MS: u64 = 20_000;

fn user(name: &str) -> UserId {
    UserId::new(name).expect("a plain word")
}

fn chat(name: &str) -> ChatId {
    ChatId::new(name).expect("a chat's id")
}

impl World {
    fn change_group(&mut self, name: &str, by: &str, op: GroupOp) {
        let (stamp, random) = (self.wall_ms(), self.chance.id_bytes());
        let record = SourceRecord::Group {
            actor: user(by),
            op_id: ClientMsgId::new(stamp, random),
            chat: chat(name),
            op,
        };
        self.append(&record);
    }

    fn begin(&mut self) {
        for (group, members) in [("g:x", &USERS[..3]), ("g:y", &USERS[..2])] {
            let members = members.iter().map(|name| user(name)).collect();
            let (name, picture) = (group.to_owned(), String::new());
            let op = GroupOp::Create {
                name,
                picture,
                members,
            };
            self.change_group(group, "alice", op);
        }
        for edge in 0..EDGES {
            self.edge_start(edge);
        }
        for name in USERS {
            self.join(&user(name), DeviceId::new("d1").expect("a plain word"));
        }
        self.join(&user("alice"), DeviceId::new("d2").expect("a plain word"));
        self.pass(2_000);
    }

    fn pick(&mut self, count: usize) -> usize {
        usize::try_from(self.chance.below(count as u64)).unwrap_or(0)
    }

    fn speak(&mut self, device: DeviceNo, step: u64) {
        let name = self.devices[device].user.to_string();
        let mine = |chat: &&str| match chat.strip_prefix("dm:") {
            Some(users) => users.split(':').any(|user| user == name),
            // Those who are in no group try all the same, and are refused.
            None => true,
        };
        let chats: Vec<&str> = CHATS.iter().copied().filter(mine).collect();
        let which = chats[self.pick(chats.len())];
        self.say(device, &chat(which), &format!("{step} by {name}"));
    }

    /// Says some things in the group in relaxed order, at once.
    fn speak_in_hall(&mut self, device: DeviceNo, step: u64) {
        let name = self.devices[device].user.to_string();
        for nth in 0..=self.chance.below(BURST_MAX) {
            self.say(device, &chat(HALL), &format!("{step}.{nth} by {name}"));
        }
    }

    /// One of the chats, or of the lanes that there may be.
    fn pick_chat(&mut self, relaxing: Option<Relaxing>) -> ChatId {
        let which = chat(CHATS[self.pick(CHATS.len())]);
        match relaxing {
            Some(relaxing) if which.as_str() == HALL => {
                let lane = self.pick(usize::from(relaxing.lanes));
                let lane = u8::try_from(lane).unwrap_or(0);
                which.in_lane(lane).unwrap_or(which)
            }
            _ => which,
        }
    }

    fn step(&mut self, step: u64, relaxing: Option<Relaxing>) {
        let device = self.pick(self.devices.len());
        match self.chance.below(100) {
            0..25 if relaxing.is_some() => self.speak_in_hall(device, step),
            0..50 => self.speak(device, step),
            50..55 => {
                let which = self.pick_chat(relaxing);
                self.read(device, &which);
            }
            55..62 => self.cut(device, 1006),
            62..65 => self.cut(device, 4300),
            65..70 => self.device_crash(device),
            70..74 => {
                let edge = self.pick(EDGES);
                if self.edges[edge].down {
                    self.edge_start(edge);
                } else {
                    self.edge_crash(edge);
                }
            }
            74..76 => self.ingest_crash(),
            76..81 => self.ingest_doom(),
            81..83 => {
                let down = !self.cluster.store.is_down();
                self.cluster.store.set_down(down);
            }
            83..86 => {
                self.weather.append_refused = self.chance.below(30);
                self.weather.append_unknown = self.chance.below(30);
            }
            86..89 => self.devices[device].disk_stopped = true,
            89..92 => self.resume_disk(device),
            92..94 => self.toggle_black_hole(device),
            94..95 => {
                for log in &mut self.cluster.delivery {
                    log.low = log.entries.len() as u64;
                }
            }
            95..96 => self.recreate_delivery(),
            96..98 => {
                let skew = i64::try_from(self.chance.below(60_000)).unwrap_or(0);
                self.edge_skew_ms = skew - 30_000;
            }
            _ => {
                let users = vec![user("dave")];
                let op = match self.chance.below(2) {
                    0 => GroupOp::Add { users },
                    _ => GroupOp::Remove { users },
                };
                self.change_group(HALL, "alice", op);
            }
        }
    }

    /// Draws whether and when a group is set to relaxed order.
    fn draw_relaxing(&mut self, steps: u64) -> Option<Relaxing> {
        if self.chance.below(RELAXED_RUNS) != 0 {
            return None;
        }
        let at_step = self.chance.below(steps / 2);
        Some(Relaxing {
            lanes: [2, 4, 8][self.pick(3)],
            at_step,
            pause_step: at_step + self.chance.below(steps / 4),
            pause_ms: LANES_NOTICE_MS / 3 + self.chance.below(LANES_NOTICE_MS),
        })
    }

    /// What happens besides in a run with a group in relaxed order.
    fn step_relaxing(&mut self, step: u64, relaxing: Relaxing) {
        if step == relaxing.at_step {
            let lanes = relaxing.lanes;
            self.change_group(HALL, "alice", GroupOp::Relax { lanes });
            if self.chance.below(2) == 0 {
                self.ingest_doom();
            }
        }
        if self.chance.below(10) == 0 {
            self.change_hall(relaxing);
        }
        if step == relaxing.pause_step {
            self.pass(relaxing.pause_ms);
        }
    }

    /// A change of the group in relaxed order, allowed or not.
    fn change_hall(&mut self, relaxing: Relaxing) {
        let by = ["alice", "alice", "alice", "bob", "dave"][self.pick(5)];
        let whom = user(USERS[1 + self.pick(USERS.len() - 1)]);
        let op = match self.chance.below(8) {
            0..3 => GroupOp::Add { users: vec![whom] },
            3..5 => GroupOp::Remove { users: vec![whom] },
            5 => GroupOp::Leave,
            6 => GroupOp::SetAdmin {
                user: user(USERS[self.pick(USERS.len())]),
                admin: self.chance.below(2) == 0,
            },
            _ => GroupOp::Relax {
                lanes: relaxing.lanes,
            },
        };
        self.change_group(HALL, by, op);
    }

    /// A connection that lost bytes is lost, at the latest when the network is back.
    fn toggle_black_hole(&mut self, device: DeviceNo) {
        let healed = self.devices[device].black_hole;
        self.devices[device].black_hole = !healed;
        if healed {
            self.cut(device, 1006);
        }
    }

    fn recreate_delivery(&mut self) {
        let down: Vec<bool> = self.edges.iter().map(|edge| edge.down).collect();
        for edge in 0..EDGES {
            self.edge_crash(edge);
        }
        self.cluster.recreate_delivery();
        for (edge, down) in down.into_iter().enumerate() {
            if !down {
                self.edge_start(edge);
            }
        }
    }

    fn heal(&mut self) {
        self.cluster.store.set_down(false);
        self.weather.append_refused = 0;
        self.weather.append_unknown = 0;
        for edge in 0..EDGES {
            if self.edges[edge].down {
                self.edge_start(edge);
            }
        }
        for device in 0..self.devices.len() {
            if self.devices[device].black_hole {
                self.toggle_black_hole(device);
            }
            self.resume_disk(device);
        }
    }
}

/// Runs one seed.
pub(crate) fn run(seed: u64, options: &Options) -> Outcome {
    let mut world = World::new(seed, options);
    world.begin();
    let relaxing = world.draw_relaxing(options.steps);
    let revoking = world.chance.below(REVOKING_RUNS) == 0;
    for step in 0..options.steps {
        if world.violation.is_some() {
            break;
        }
        world.step(step, relaxing);
        if let Some(relaxing) = relaxing {
            world.step_relaxing(step, relaxing);
        }
        if revoking && world.chance.below(REVOKED_STEPS) == 0 {
            let device = world.pick(world.devices.len());
            world.revoke_something(device);
        }
        let pause = world.chance.below(PAUSE_MS);
        world.pass(pause);
    }
    world.heal();
    if revoking {
        world.pardon_all();
    }
    world.pass(CALM_MS);
    world.scroll_all();
    world.pass(SCROLL_MS);
    if world.violation.is_none() {
        world.judge_all();
    }
    let evidence = &world.evidence;
    Outcome {
        seed,
        events: world.events,
        delivered: evidence.delivered,
        replayed: evidence.replayed,
        recovered: evidence.recovered,
        unrecovered: evidence.unrecovered,
        sent_on: world.cluster.sent_on,
        in_lanes: world.in_lanes(),
        fetched: world.fetched,
        ingest_crashes: world.cluster.crashes,
        revoked: evidence.revoked,
        learnt: evidence.learnt,
        violation: world.violation,
    }
}
