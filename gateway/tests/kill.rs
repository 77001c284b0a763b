//! `kill -9` of the real program in the middle of traffic, and what the people at both ends see.

mod support;

use hawser_gateway::backing;
use hawser_gateway::config::Config;
use hawser_protocol::frame::ServerFrame;
use hawser_protocol::ids::{ChatId, ClientMsgId, DeviceId, UserId};
use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use support::client::{Client, Resume, Target, new_id, now_ms};
use support::dm;
use tempfile::TempDir;

const KILLS: usize = 5;
/// Traffic between two kills.
const BETWEEN: Duration = Duration::from_millis(700);
/// For everything to arrive once nobody is killed any more.
const SETTLE: Duration = Duration::from_secs(30);
const SENDS_IN_FLIGHT: usize = 8;

/// The program on a data directory, on ports of its choice.
struct Program {
    child: Child,
    addr: SocketAddr,
}

impl Program {
    fn start(dir: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_hawser-gateway"))
            .current_dir(dir)
            .args([
                "--embedded",
                "--data-dir",
                "data",
                "--listen",
                "127.0.0.1:0",
            ])
            .args(["--wss", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args([
                "--set",
                "log.disk_reserve_mib=1",
                "--set",
                "session.sends_per_second=100000",
            ])
            .args(["--set", "session.sends_burst=100000"])
            .env_remove("HAWSER_GATEWAY_CONFIG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it runs");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut addr = None;
        for line in lines.map_while(Result::ok) {
            if let Some((_, rest)) = line.split_once("ws://") {
                addr = addr.or_else(|| rest.split('/').next()?.parse().ok());
            }
            if line.starts_with("Ctrl-C") {
                break;
            }
        }
        Self {
            child,
            addr: addr.expect("an address in the banner"),
        }
    }
}

impl Drop for Program {
    /// SIGKILL.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the program listens now, and how to get in.
struct World {
    addr: Mutex<SocketAddr>,
    config: Config,
    /// The receiver has its place in the log.
    ready: AtomicBool,
    over: AtomicBool,
}

impl World {
    fn target(&self) -> Target {
        Target {
            addr: *self.addr.lock().expect("sound"),
            tls: None,
        }
    }

    fn connect(&self, user: &str, resume: &Resume) -> Option<Client> {
        let issuer = backing::issuer(&self.config).expect("a key");
        let (user, device) = (
            UserId::new(user).expect("an id"),
            DeviceId::new("d").expect("an id"),
        );
        let token = issuer.issue(&user, Some(&device), 3_600, false, now_ms());
        Client::try_connect(&self.target(), &token, "d", resume.clone()).ok()
    }
}

/// Sends until it is over, repeating what has no result under the same id; the acknowledged ids.
fn sender(world: &World, user: &str, chat: &ChatId) -> Vec<ClientMsgId> {
    let mut acknowledged = Vec::new();
    let mut pending: Vec<ClientMsgId> = Vec::new();
    let mut resume = Resume::default();
    while !world.ready.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(5));
    }
    loop {
        let Some(mut client) = world.connect(user, &resume) else {
            thread::sleep(Duration::from_millis(20));
            continue;
        };
        if !client.welcome.recovered {
            client.adopt();
        }
        let sent = pending
            .iter()
            .all(|id| client.try_send_as(*id, chat, &id.0));
        let mut alive = sent;
        while alive {
            if pending.is_empty() && world.over.load(Ordering::Relaxed) {
                return acknowledged;
            }
            while pending.len() < SENDS_IN_FLIGHT && !world.over.load(Ordering::Relaxed) {
                let id = new_id();
                pending.push(id);
                alive &= client.try_send_as(id, chat, &id.0);
            }
            match client.try_next() {
                Ok(ServerFrame::SendResult(result)) => {
                    let id = ClientMsgId(result.client_msg_id[..].try_into().expect("16 bytes"));
                    let known = pending.iter().position(|p| *p == id);
                    match (result.error, known) {
                        (0, Some(at)) => {
                            pending.swap_remove(at);
                            acknowledged.push(id);
                        }
                        (0, None) => {}
                        _ => alive &= client.try_send_as(id, chat, &id.0),
                    }
                }
                Ok(_) => {}
                Err(_) => alive = false,
            }
        }
        resume = client.resume();
    }
}

/// What a receiver saw in one chat.
#[derive(Default)]
struct Seen {
    /// (seq, prev_seq) as shown: first time each.
    shown: Vec<(u64, u64)>,
    seqs: HashSet<u64>,
    ids: HashMap<ClientMsgId, u64>,
}

/// Receives until every expected id has come (or time is up); checks each frame as it comes.
fn receiver(
    world: &World,
    enough: &(dyn Fn(&HashMap<ChatId, Seen>) -> bool + Sync),
) -> HashMap<ChatId, Seen> {
    let mut chats: HashMap<ChatId, Seen> = HashMap::new();
    let mut resume = Resume::default();
    let mut first = true;
    let mut deadline = None;
    loop {
        let Some(mut client) = world.connect("bob", &resume) else {
            thread::sleep(Duration::from_millis(20));
            continue;
        };
        assert!(
            first || client.welcome.recovered,
            "the log survives a kill, so does the session"
        );
        if first {
            client.adopt();
            world.ready.store(true, Ordering::Relaxed);
        }
        first = false;
        let mut live = false;
        client
            .socket
            .get_ref()
            .tcp()
            .set_read_timeout(Some(Duration::from_millis(200)))
            .expect("an option");
        loop {
            if world.over.load(Ordering::Relaxed) {
                let at = *deadline.get_or_insert(Instant::now() + SETTLE);
                if enough(&chats) || Instant::now() > at {
                    return chats;
                }
            }
            match client.poll() {
                Some(Ok(ServerFrame::Deliver(deliver))) => {
                    let replayed = deliver.flags.0 & 1 != 0;
                    assert!(
                        replayed != live,
                        "live frames never mix with replay before CaughtUp"
                    );
                    let record = deliver.record;
                    let seen = chats.entry(record.chat.clone()).or_default();
                    if let Some(seq) = seen.ids.insert(record.client_msg_id, record.seq.0) {
                        assert_eq!(seq, record.seq.0, "one client_msg_id, one message");
                    }
                    if seen.seqs.insert(record.seq.0) {
                        seen.shown.push((record.seq.0, record.prev_seq.0));
                    }
                }
                Some(Ok(ServerFrame::CaughtUp(_))) => live = true,
                Some(Ok(_)) | None => {}
                Some(Err(_)) => break,
            }
        }
        resume = client.resume();
    }
}

#[test]
fn a_kill_9_in_traffic_loses_nothing_acknowledged_shows_nothing_twice_and_keeps_the_order() {
    let dir = TempDir::new().expect("a directory");
    let mut program = Program::start(dir.path());
    let mut config = Config::default();
    config.node.data_dir = dir.path().join("data").to_str().expect("utf-8").to_owned();
    let world = Arc::new(World {
        addr: Mutex::new(program.addr),
        config,
        ready: AtomicBool::new(false),
        over: AtomicBool::new(false),
    });
    let expected: Mutex<Option<HashSet<ClientMsgId>>> = Mutex::new(None);
    let enough = |chats: &HashMap<ChatId, Seen>| {
        let expected = expected.lock().expect("sound");
        let has = |id| chats.values().any(|seen| seen.ids.contains_key(id));
        expected.as_ref().is_some_and(|ids| ids.iter().all(has))
    };
    thread::scope(|scope| {
        let bob = scope.spawn(|| receiver(&world, &enough));
        let senders: Vec<_> = ["alice", "carol", "dave"]
            .into_iter()
            .map(|user| {
                let world = &world;
                scope.spawn(move || sender(world, user, &dm(user, "bob")))
            })
            .collect();
        for _ in 0..KILLS {
            thread::sleep(BETWEEN);
            drop(program);
            program = Program::start(dir.path());
            *world.addr.lock().expect("sound") = program.addr;
        }
        thread::sleep(BETWEEN);
        world.over.store(true, Ordering::Relaxed);
        let acknowledged: Vec<Vec<ClientMsgId>> = senders
            .into_iter()
            .map(|s| s.join().expect("a sender"))
            .collect();
        let all: HashSet<ClientMsgId> = acknowledged.iter().flatten().copied().collect();
        assert!(all.len() > KILLS * SENDS_IN_FLIGHT, "{} in all", all.len());
        *expected.lock().expect("sound") = Some(all.clone());
        let chats = bob.join().expect("the receiver");
        let got: HashSet<ClientMsgId> = chats
            .values()
            .flat_map(|seen| seen.ids.keys().copied())
            .collect();
        let lost: Vec<_> = all.difference(&got).collect();
        assert!(
            lost.is_empty(),
            "{} of {} acknowledged were lost",
            lost.len(),
            all.len()
        );
        for (chat, seen) in &chats {
            for pair in seen.shown.windows(2) {
                assert!(pair[0].0 < pair[1].0, "{chat}: the order of the log");
                assert_eq!(pair[1].1, pair[0].0, "{chat}: no gap");
            }
        }
    });
}
