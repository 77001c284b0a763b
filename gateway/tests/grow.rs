//! `delivery` grows on a real Kafka while two nodes hold live sessions and both ingest: nobody is cut off, nothing is lost,
//! shown twice or out of order, and who was away goes on where it was (`docs/adr/0024-growing-delivery.md`).
//! `dev/engines up kafka`, then HAWSER_TEST_KAFKA=127.0.0.1:9092.
#![cfg(feature = "engines")]

mod support;

use hawser_engines::kafka::{GrowError, KafkaConfig, KafkaLog, grow};
use hawser_engines::log::{Log, Topic};
use hawser_fanout::ingest::{Driver, DriverConfig, IngestShare};
use hawser_gateway::counters::{Counter, Gauge};
use hawser_gateway::node::NodeHandle;
use hawser_protocol::frame::{ClientFrame, ServerFrame};
use hawser_protocol::ids::{ChatId, ClientMsgId};
use hawser_protocol::partition::partition;
use hawser_protocol::pb;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use support::client::{Client, Closed, PATIENCE, Resume, Target, now_ms};
use support::cluster::{eventually, member, url};
use support::{Node, dm};

const BEFORE: u32 = 4;
const AFTER: u32 = 16;

/// The brokers to test against, or a loud skip.
fn brokers() -> Option<String> {
    let brokers = std::env::var("HAWSER_TEST_KAFKA").ok();
    if brokers.is_none() {
        println!("SKIPPED: HAWSER_TEST_KAFKA is not set (dev/engines up kafka prints it)");
    }
    brokers
}

fn kafka(brokers: &str, test: &str) -> KafkaConfig {
    let mut config = KafkaConfig::new(brokers);
    config.prefix = format!("{test}-{}-{}.", std::process::id(), now_ms());
    config.partitions = BEFORE;
    config.replication = 1;
    config.min_insync = 1;
    config.allow_unsafe = true;
    config
}

/// A node on that log, alone, with so many cores.
fn node(config: &KafkaConfig, cores: u16) -> Node {
    Node::with(
        |c| {
            c.log.kind = "kafka".to_owned();
            c.log.bootstrap = config.brokers.split(',').map(str::to_owned).collect();
            c.log.prefix.clone_from(&config.prefix);
            c.log.partitions = config.partitions;
            c.log.replication = config.replication;
            c.log.allow_unsafe_log = true;
            c.node.cores = cores;
        },
        |n| n.cluster = member("a", 1_500),
    )
}

/// A second node beside the first, with a client of the log and an ingest of its own.
struct Beside {
    handle: Option<NodeHandle>,
    at: Target,
    _driver: Driver,
}

fn beside(a: &Node, config: &KafkaConfig) -> Beside {
    let log: Arc<dyn Log> = Arc::new(KafkaLog::open(config.clone()).expect("the log"));
    let share = IngestShare::default();
    let mut settings = DriverConfig::of(&*log, 0);
    settings.share = Some(share.clone());
    let services = &a.backing().services;
    let (store, directory) = (services.store.clone(), services.directory.clone());
    let driver = Driver::start(log.clone(), store, directory, settings).expect("an ingest");
    let (handle, at) = a.beside_with(
        |services| (services.log, services.ingest) = (log, Some(share)),
        |n| (n.cluster, n.cores) = (member("b", 1_500), 2),
    );
    Beside {
        handle: Some(handle),
        at,
        _driver: driver,
    }
}

impl Beside {
    fn handle(&self) -> &NodeHandle {
        self.handle.as_ref().expect("it runs")
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            let ended = handle.join();
            if !std::thread::panicking() {
                ended.expect("a clean end");
            }
        }
    }
}

/// A live session where the user belongs.
fn at_home(a: &Node, targets: &[&Target], user: &str, device: &str, resume: &Resume) -> Client {
    let token = a.token(user, device);
    let mut to = 0;
    let until = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < until, "{user} finds no node");
        match Client::try_connect(targets[to], &token, device, resume.clone()) {
            Ok(client) => return client,
            Err(Closed::Redirected(at)) => {
                to = targets.iter().position(|t| url(t) == at).expect("a node");
            }
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn live(a: &Node, targets: &[&Target], user: &str, device: &str) -> Client {
    let mut client = at_home(a, targets, user, device, &Resume::default());
    client.adopt();
    client.caught_up();
    client
}

/// What a person sent and saw in one session.
#[derive(Default)]
struct Seen {
    sent: BTreeSet<String>,
    unanswered: BTreeMap<[u8; 16], (ClientMsgId, ChatId, String)>,
    /// By chat: seq and body, in the order of their coming.
    delivered: BTreeMap<String, Vec<(u64, String)>>,
    offsets: Vec<u64>,
    longest_ms: u128,
    ended: Option<Closed>,
    relocated: bool,
    token: Vec<u8>,
}

/// How far a person is.
#[derive(Default)]
struct Progress {
    sent: AtomicUsize,
    unanswered: AtomicUsize,
    delivered: AtomicUsize,
}

/// A person who talks to the next one all the time, until told to be silent, and listens until told to leave.
struct Person {
    silent: Arc<AtomicBool>,
    leave: Arc<AtomicBool>,
    progress: Arc<Progress>,
    thread: Option<JoinHandle<(Client, Seen)>>,
}

impl Person {
    fn start(mut client: Client, name: String, chat: ChatId) -> Self {
        let (silent, leave): (Arc<AtomicBool>, Arc<AtomicBool>) = Default::default();
        let progress: Arc<Progress> = Arc::default();
        let told = (silent.clone(), leave.clone(), progress.clone());
        let thread = std::thread::spawn(move || {
            let (silent, leave, progress) = told;
            let mut seen = Seen::default();
            let tcp = client.socket.get_ref().tcp();
            tcp.set_read_timeout(Some(Duration::from_millis(10)))
                .expect("an option");
            let (mut number, mut next_at, mut last) = (0, Instant::now(), Instant::now());
            while !leave.load(Ordering::Acquire) && seen.ended.is_none() {
                if !silent.load(Ordering::Acquire)
                    && Instant::now() >= next_at
                    && seen.unanswered.len() < 32
                {
                    let body = format!("{name}/{number}");
                    let id = client.send(&chat, body.as_bytes());
                    seen.sent.insert(body.clone());
                    seen.unanswered.insert(id.0, (id, chat.clone(), body));
                    number += 1;
                    next_at = Instant::now() + Duration::from_millis(40);
                }
                match client.poll() {
                    None => {}
                    Some(Err(closed)) => seen.ended = Some(closed),
                    Some(Ok(frame)) => take(&mut seen, &mut client, frame, &mut last),
                }
                let delivered = seen.delivered.values().map(Vec::len).sum();
                progress.delivered.store(delivered, Ordering::Release);
                let unanswered = seen.unanswered.len();
                progress.unanswered.store(unanswered, Ordering::Release);
                progress.sent.store(seen.sent.len(), Ordering::Release);
            }
            (client, seen)
        });
        Self {
            silent,
            leave,
            progress,
            thread: Some(thread),
        }
    }

    fn finish(&mut self) -> (Client, Seen) {
        self.leave.store(true, Ordering::Release);
        let thread = self.thread.take().expect("it runs");
        thread.join().expect("no panic")
    }
}

fn take(seen: &mut Seen, client: &mut Client, frame: ServerFrame, last: &mut Instant) {
    match frame {
        ServerFrame::Deliver(d) => {
            seen.offsets.push(d.offset);
            let body = String::from_utf8(d.record.body.to_vec()).expect("text");
            let chat = d.record.chat.as_str().to_owned();
            let all = seen.delivered.entry(chat).or_default();
            all.push((d.record.seq.0, body));
            seen.longest_ms = seen.longest_ms.max(last.elapsed().as_millis());
            *last = Instant::now();
        }
        ServerFrame::SendResult(result) => {
            if result.offset > 0 {
                seen.offsets.push(result.offset);
            }
            let id = <[u8; 16]>::try_from(&result.client_msg_id[..]).expect("an id");
            if result.error == 0 {
                seen.unanswered.remove(&id);
                return;
            }
            // Brokers that are too busy for a moment: the same id again.
            assert!(result.retry_after_ms > 0, "{result:?}");
            std::thread::sleep(Duration::from_millis(200));
            if let Some((id, chat, body)) = seen.unanswered.get(&id) {
                client.send_as(*id, chat, body.as_bytes());
            }
        }
        ServerFrame::Pong(pong) if !pong.resume_token.is_empty() => {
            seen.token = pong.resume_token.to_vec();
        }
        ServerFrame::Error(error) => {
            // Refused for now: the same id again.
            assert!(error.retry_after_ms > 0, "{error:?}");
            let id = <[u8; 16]>::try_from(&error.client_msg_id[..]);
            if let Some((id, chat, body)) = id.ok().and_then(|id| seen.unanswered.get(&id)) {
                client.send_as(*id, chat, body.as_bytes());
            }
        }
        ServerFrame::Relocate(_) => seen.relocated = true,
        _ => {}
    }
}

/// Everything that somebody sent came to the other once, in the chat's order, at growing offsets.
fn check(name: &str, chat: &ChatId, expected: &BTreeSet<String>, seen: &Seen) {
    assert!(seen.unanswered.is_empty(), "{name}: {:?}", seen.unanswered);
    let all = seen.delivered.get(chat.as_str());
    let all = all.map_or(&[][..], Vec::as_slice);
    assert!(
        all.windows(2).all(|w| w[0].0 < w[1].0),
        "{name}: in order, once"
    );
    let bodies: BTreeSet<String> = all.iter().map(|(_, body)| body.clone()).collect();
    assert_eq!(&bodies, expected, "{name}");
    assert_eq!(all.len(), expected.len(), "{name}: nothing twice");
    let grows = seen.offsets.windows(2).all(|w| w[0] < w[1]);
    assert!(grows, "{name}: {:?}", seen.offsets);
}

fn grow_now(config: &KafkaConfig) {
    let began = Instant::now();
    for _ in 0..5 {
        let outcome = grow(config.clone(), Topic::Delivery, AFTER, &mut |step| {
            println!("{:?}: {step}", began.elapsed());
            ControlFlow::Continue(())
        });
        match outcome {
            Ok(()) => return,
            Err(error @ GrowError::Brokers { .. }) => println!("{error}"),
            Err(error) => panic!("{error}"),
        }
    }
    panic!("it does not grow");
}

#[test]
#[expect(clippy::too_many_lines, reason = "one growth, told from its beginning")]
fn sessions_stay_and_miss_nothing_while_delivery_grows_and_who_was_away_resumes() {
    let Some(brokers) = brokers() else { return };
    let config = kafka(&brokers, "live");
    let a = node(&config, 1);
    let b = beside(&a, &config);
    let owned = |handle: &NodeHandle| handle.counters().sum(Gauge::PartitionsOwned);
    let half = u64::from(BEFORE / 2);
    eventually("each has its half", || {
        owned(a.handle()) == half && owned(b.handle()) == half
    });
    let targets = [&a.plain, &b.at];
    let names: Vec<String> = (0..12).map(|n| format!("person{n}")).collect();
    let chats: Vec<ChatId> = (0..12)
        .map(|n| dm(&names[n], &names[(n + 1) % 12]))
        .collect();
    let clients: Vec<Client> = names
        .iter()
        .map(|name| live(&a, &targets, name, "phone"))
        .collect();
    let welcomes: Vec<Resume> = clients.iter().map(Client::resume).collect();
    let mut persons: Vec<Person> = clients
        .into_iter()
        .zip(&names)
        .zip(&chats)
        .map(|((client, name), chat)| Person::start(client, name.clone(), chat.clone()))
        .collect();
    // One that has all, one that misses something of before and something of after.
    let up_to_date = live(&a, &targets, "alice", "phone").resume();
    let behind = live(&a, &targets, "bob", "phone").resume();
    let mut carol = live(&a, &targets, "carol", "phone");
    let to_bob = dm("bob", "carol");
    let id = carol.send(&to_bob, b"before");
    assert_eq!(carol.result(id).error, 0);
    std::thread::sleep(Duration::from_secs(1));
    grow_now(&config);
    let went_over = |handle: &NodeHandle| handle.counters().total(Counter::GrownInPlace);
    eventually("every session went over", || {
        went_over(a.handle()) + went_over(b.handle()) == 13
    });
    let id = carol.send(&to_bob, b"after");
    assert_eq!(carol.result(id).error, 0);
    eventually("all partitions are owned", || {
        owned(a.handle()) + owned(b.handle()) == u64::from(AFTER)
    });
    assert_eq!(
        owned(a.handle()),
        owned(b.handle()),
        "and where their users are"
    );
    std::thread::sleep(Duration::from_secs(2));
    persons
        .iter()
        .for_each(|p| p.silent.store(true, Ordering::Release));
    let of = |n: usize, what: fn(&Progress) -> &AtomicUsize| {
        what(&persons[n].progress).load(Ordering::Acquire)
    };
    let until = Instant::now() + PATIENCE * 3;
    let whole = |n: usize| {
        of(n, |p| &p.unanswered) == 0 && of(n, |p| &p.delivered) >= of((n + 11) % 12, |p| &p.sent)
    };
    while Instant::now() < until && !(0..12).all(whole) {
        std::thread::sleep(Duration::from_millis(50));
    }
    // What comes twice would come now.
    std::thread::sleep(Duration::from_millis(500));
    let mut ended: Vec<(Client, Seen)> = persons.iter_mut().map(Person::finish).collect();
    for (n, name) in names.iter().enumerate() {
        let (seen, from) = (&ended[n].1, (n + 11) % 12);
        println!(
            "{name}: {} sent, longest wait {} ms",
            seen.sent.len(),
            seen.longest_ms
        );
        assert_eq!(seen.ended, None, "{name} stays connected");
        assert!(!seen.relocated, "{name} is where it belongs");
        check(name, &chats[from], &ended[from].1.sent, seen);
    }
    assert_eq!(a.handle().counters().total(Counter::NotRecovered), 0);
    // A fresh token comes with the next Pong; the one from before is as good.
    let (client, _) = &mut ended[0];
    let tcp = client.socket.get_ref().tcp();
    tcp.set_read_timeout(Some(PATIENCE)).expect("an option");
    client.send_frame(&ClientFrame::Ping(pb::Ping {
        client_time_ms: 1,
        ..pb::Ping::default()
    }));
    let fresh = client.until(|frame| match frame {
        ServerFrame::Pong(pong) => Some(pong.resume_token.to_vec()),
        _ => None,
    });
    assert!(!fresh.is_empty(), "a token of the new generation");
    let last_offset = client.last_offset;
    for token in [fresh, welcomes[0].token.clone()] {
        let resume = Resume {
            token,
            last_offset,
            ..Resume::default()
        };
        let mut again = at_home(&a, &targets, &names[0], "phone", &resume);
        assert!(again.welcome.recovered && again.welcome.generation == 2);
        assert_eq!(again.welcome.partition, partition(&names[0], AFTER));
        again.caught_up();
        assert!(again.quiet(Duration::from_millis(300)), "it has all");
    }
    let mut alice = at_home(&a, &targets, "alice", "phone", &up_to_date);
    assert!(alice.welcome.recovered, "nothing is missed");
    alice.caught_up();
    let mut bob = at_home(&a, &targets, "bob", "phone", &behind);
    assert!(bob.welcome.recovered, "all of it is still there");
    assert_eq!(&*bob.deliver().record.body, b"before");
    assert_eq!(&*bob.deliver().record.body, b"after");
    bob.caught_up();
    assert!(bob.quiet(Duration::from_millis(300)), "once");
}

#[test]
fn where_a_users_core_is_another_the_session_lives_on_and_is_told_to_come_again() {
    let Some(brokers) = brokers() else { return };
    let config = kafka(&brokers, "cores");
    // Four partitions on three cores: most users' cores change.
    let a = node(&config, 3);
    eventually("it owns all", || {
        a.handle().counters().sum(Gauge::PartitionsOwned) == u64::from(BEFORE)
    });
    let targets = [&a.plain];
    let mut sessions: Vec<(String, Client)> = (0..12)
        .map(|n| format!("person{n}"))
        .map(|name| (name.clone(), live(&a, &targets, &name, "phone")))
        .collect();
    grow_now(&config);
    eventually("every session went over", || {
        a.handle().counters().total(Counter::GrownInPlace) == 12
    });
    let core = |name: &str, partitions| partition(name, partitions) % 3;
    let moved: Vec<bool> = sessions
        .iter()
        .map(|(name, _)| core(name, BEFORE) != core(name, AFTER))
        .collect();
    let strays = moved.iter().filter(|moved| **moved).count();
    assert!(strays > 0 && strays < 12, "{strays} of 12 move");
    assert_eq!(a.handle().counters().total(Counter::Strays), strays as u64);
    let mut sender = live(&a, &targets, "sender", "phone");
    for (name, client) in &mut sessions {
        let id = sender.send(&dm(name, "sender"), name.as_bytes());
        assert_eq!(sender.result(id).error, 0);
        let mut relocated = None;
        let body = client.until(|frame| match frame {
            ServerFrame::Deliver(d) => Some(d.record.body.to_vec()),
            ServerFrame::Relocate(relocate) => {
                relocated = Some(relocate.url);
                None
            }
            _ => None,
        });
        assert_eq!(body, name.as_bytes());
        let moves = core(name, BEFORE) != core(name, AFTER);
        assert_eq!(relocated.is_some(), moves, "{name}");
        assert!(relocated.is_none_or(|at| at == url(&a.plain)));
    }
    // The next session of each is on its own core, and goes on there.
    for (name, client) in &mut sessions {
        let mut next = at_home(&a, &targets, name, "phone", &client.resume());
        assert!(next.welcome.recovered);
        next.caught_up();
        let id = sender.send(&dm(name, "sender"), b"again");
        assert_eq!(sender.result(id).error, 0);
        assert_eq!(&*next.deliver().record.body, b"again");
        *client = next;
    }
    eventually("nothing of it is left", || {
        a.handle().counters().sum(Gauge::Sessions) == 13
    });
}
