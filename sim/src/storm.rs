//! A storm: what users do and what breaks, drawn from the seed; then calm, and judgement.

use crate::world::{DeviceNo, EDGES, World};
use crate::{Options, Outcome};
use hawser_protocol::ids::{ChatId, ClientMsgId, DeviceId, UserId};
use hawser_protocol::record::{GroupOp, SourceRecord};

const USERS: [&str; 4] = ["alice", "bob", "carol", "dave"];
/// dave comes and goes in the last of them.
const CHATS: [&str; 5] = ["g:x", "dm:alice:bob", "dm:alice:carol", "dm:bob:bob", "g:y"];
/// Longest pause between two steps, milliseconds.
const PAUSE_MS: u64 = 500;
/// Everything must be well after so long a calm: above all backoffs and retries, milliseconds.
const CALM_MS: u64 = 400_000;

fn user(name: &str) -> UserId {
    UserId::new(name).expect("a plain word")
}

fn chat(name: &str) -> ChatId {
    ChatId::new(name).expect("a chat's id")
}

impl World {
    fn change_group(&mut self, name: &str, op: GroupOp) {
        let (stamp, random) = (self.wall_ms(), self.chance.id_bytes());
        let record = SourceRecord::Group {
            actor: user("alice"),
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
            self.change_group(group, op);
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

    fn step(&mut self, step: u64) {
        let device = self.pick(self.devices.len());
        match self.chance.below(100) {
            0..50 => self.speak(device, step),
            50..55 => {
                let which = CHATS[self.pick(CHATS.len())];
                self.read(device, &chat(which));
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
                self.change_group("g:y", op);
            }
        }
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
    for step in 0..options.steps {
        if world.violation.is_some() {
            break;
        }
        world.step(step);
        let pause = world.chance.below(PAUSE_MS);
        world.pass(pause);
    }
    world.heal();
    world.pass(CALM_MS);
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
        ingest_crashes: world.cluster.crashes,
        violation: world.violation,
    }
}
