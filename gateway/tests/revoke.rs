//! Revocations among the messages: who is banned is closed on every node at one place of the stream.
//!
//! Nodes `b` and `c` read no list of revocations at all: what they know, the user's delivery partition has told them.

mod support;

use hawser_gateway::config::Config;
use hawser_gateway::counters::{Counter, Gauge};
use hawser_gateway::node::NodeHandle;
use hawser_gateway::node::config::NodeConfig;
use hawser_protocol::frame::ServerFrame;
use hawser_protocol::ids::ChatId;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use support::client::{Client, Closed, PATIENCE, Resume, Target};
use support::cluster::{self, eventually, url};
use support::{Node, dm};

/// Much longer than a test lives: node `a` reads the list and is not to be faster than the records.
const LIST_READ_MS: u32 = 5_000;

struct Three {
    a: Node,
    b: NodeHandle,
    c: NodeHandle,
    at_b: Target,
    at_c: Target,
}

fn member(settings: &mut NodeConfig, name: &str, lease_ms: u64) {
    // Somebody talks without a pause.
    settings.session.sends_per_second = 100_000;
    settings.session.sends_burst = 100_000;
    settings.cluster = cluster::member(name, lease_ms);
}

impl Three {
    fn start(change: impl FnOnce(&mut Config), lease_ms: u64) -> Self {
        let change = |config: &mut Config| {
            config.engines.revocations_ms = LIST_READ_MS;
            change(config);
        };
        let a = Node::with(change, |n| member(n, "a", lease_ms));
        let beside = |name| {
            // One process ingests.
            let tune = |n: &mut NodeConfig| member(n, name, lease_ms);
            a.beside_judging(a.judge(), |services| services.ingest = None, tune)
        };
        let ((b, at_b), (c, at_c)) = (beside("b"), beside("c"));
        let owned = |handle: &NodeHandle| handle.counters().sum(Gauge::PartitionsOwned);
        eventually("each has its third", || {
            let all = [owned(a.handle()), owned(&b), owned(&c)];
            all.iter().sum::<u64>() == 16 && all.iter().all(|n| *n >= 5)
        });
        Self {
            a,
            b,
            c,
            at_b,
            at_c,
        }
    }

    /// A user of `b`'s whom the directory knows.
    fn user_of_b(&self) -> String {
        let mut users = (0..100).map(|i| format!("user{i}"));
        let sent = |user: &String| {
            let token = self.a.token(user, "probe");
            let tried = Client::try_connect(&self.a.plain, &token, "probe", Resume::default());
            tried.err() == Some(Closed::Redirected(url(&self.at_b)))
        };
        let user = users.find(sent).expect("one of a hundred");
        let body = format!("{{\"user\":\"{user}\"}}");
        assert_eq!(self.a.administer("POST", "/v1/users", &body), 201);
        user
    }

    fn live(&self, at: &Target, user: &str, device: &str) -> Client {
        let mut client = self.greet(at, user, device, Resume::default()).expect("in");
        client.adopt();
        client.caught_up();
        client
    }

    /// Says Hello where it may not be sent elsewhere.
    fn greet(&self, at: &Target, user: &str, device: &str, from: Resume) -> Result<Client, Closed> {
        let token = self.a.token(user, device);
        let resume = Resume {
            stays: true,
            ..from
        };
        Client::try_connect(at, &token, device, resume)
    }

    fn ban(&self, user: &str, banned: bool) {
        let body = format!("{{\"banned\":{banned}}}");
        let path = format!("/v1/users/{user}");
        assert_eq!(self.a.administer("PATCH", &path, &body), 200, "in order");
    }

    fn end(self) {
        self.c.join().expect("a clean end");
        self.b.join().expect("a clean end");
    }
}

/// Bob, who sends numbers to a chat until he is stopped, and waits for each to be sent.
struct Talker {
    next: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Talker {
    fn start(mut bob: Client, chat: ChatId) -> Self {
        let (next, stop) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (count, end) = (next.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            while !end.load(Ordering::SeqCst) {
                let number = count.fetch_add(1, Ordering::SeqCst);
                let id = bob.send(&chat, number.to_string().as_bytes());
                assert_eq!(bob.result(id).error, 0, "nobody else notices");
            }
            count.load(Ordering::SeqCst)
        });
        Self { next, stop, thread }
    }

    /// Waits until so many more are sent; the first number that is not taken yet.
    fn goes_on(&self, more: u64) -> u64 {
        let until = self.next.load(Ordering::SeqCst) + more;
        eventually("he goes on", || self.next.load(Ordering::SeqCst) >= until);
        self.next.load(Ordering::SeqCst)
    }

    /// How many were sent.
    fn end(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().expect("all were sent")
    }
}

/// The numbers that come until the connection ends, which is as revoked.
fn until_revoked(client: &mut Client, reason: &str) -> Vec<u64> {
    let (mut numbers, mut said) = (Vec::new(), None);
    loop {
        match client.try_next() {
            Ok(ServerFrame::Deliver(deliver)) => numbers.push(number(&deliver.record.body)),
            Ok(ServerFrame::Error(error)) => said = Some((error.code, error.text)),
            Ok(_) => {}
            Err(closed) => {
                assert_eq!(closed, Closed::Code(4003));
                assert_eq!(said, Some((22, reason.to_owned())));
                return numbers;
            }
        }
    }
}

fn number(body: &[u8]) -> u64 {
    let text = std::str::from_utf8(body).expect("text");
    text.parse().expect("a number")
}

/// What a resumed session gets of a range, all of it in order.
fn gets(client: &mut Client, range: std::ops::Range<u64>) {
    assert!(client.welcome.recovered);
    for wanted in range {
        assert_eq!(number(&client.deliver().record.body), wanted);
    }
}

/// A ban in the midst of messages: what it does at the owner, at a guest's node, at one that did not read the partition;
/// and its end.
fn banned_and_pardoned(three: &Three) {
    let alice = three.user_of_b();
    let chat = dm(&alice, "bob");
    let mut phone = three.live(&three.at_b, &alice, "phone");
    let mut watch = three.live(&three.a.plain, &alice, "watch");
    let bob = three.live(&three.a.plain, "bob", "laptop");
    let talker = Talker::start(bob, chat);
    talker.goes_on(50);
    // Both read on while it is decided.
    for client in [&mut phone, &mut watch] {
        assert_eq!(number(&client.deliver().record.body), 0, "it is served");
    }
    let since = Instant::now();
    three.ban(&alice, true);
    let answered = since.elapsed();
    let after = talker.next.load(Ordering::SeqCst);
    let of_phone = until_revoked(&mut phone, "banned");
    let phone_closed = since.elapsed();
    let of_watch = until_revoked(&mut watch, "banned");
    let watch_closed = since.elapsed();
    println!("MEASURED: answered {answered:?}, closed {phone_closed:?} and {watch_closed:?}");
    assert!(watch_closed < PATIENCE / 2);
    talker.goes_on(50);
    let mut ends = Vec::new();
    for numbers in [of_phone, of_watch] {
        let whole = 1..=*numbers.last().expect("some came");
        assert!(
            numbers.iter().copied().eq(whole),
            "a beginning: {numbers:?}"
        );
        let end = numbers.last().expect("some came") + 1;
        assert!(
            end <= after,
            "{end}: what was sent after the answer to the ban"
        );
        ends.push(end);
    }
    assert_eq!(
        ends[0], ends[1],
        "the same place of the stream on both nodes"
    );
    // Nobody has read the list here, and this node did not read the partition before.
    let refused = Some(Closed::Code(4003));
    for at in [&three.at_c, &three.at_b, &three.a.plain] {
        let tried = three.greet(at, &alice, "phone", phone.resume());
        assert_eq!(tried.err(), refused);
    }
    for node in [&three.b, &three.c] {
        assert_eq!(node.counters().total(Counter::RevocationsLearnt), 1);
    }
    three.ban(&alice, false);
    let sent = talker.end();
    let mut back = None;
    eventually("the pardon reaches the owner", || {
        back = three
            .greet(&three.at_b, &alice, "phone", phone.resume())
            .ok();
        back.is_some()
    });
    gets(&mut back.expect("let in"), ends[0]..sent);
    // A node that opens the partition now reads the old ban as well, and what lifted it.
    let watch = three.greet(&three.at_c, &alice, "watch", watch.resume());
    gets(&mut watch.expect("let in"), ends[1]..sent);
}

#[test]
fn g9_a_ban_ends_the_stream_at_one_place_on_every_node_and_a_pardon_gives_all_that_was_missed() {
    let three = Three::start(|_| (), 900);
    banned_and_pardoned(&three);
    three.end();
}

#[test]
fn g9_on_kafka_a_ban_ends_the_stream_at_one_place_on_every_node() {
    let Ok(brokers) = std::env::var("HAWSER_TEST_KAFKA") else {
        println!("SKIPPED: HAWSER_TEST_KAFKA is not set (dev/engines up kafka prints it)");
        return;
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let unique = now.expect("after 1970").as_nanos();
    let on_kafka = |config: &mut Config| {
        let log = &mut config.log;
        log.kind = "kafka".to_owned();
        log.bootstrap = brokers.split(',').map(ToOwned::to_owned).collect();
        log.prefix = format!("revoke-{}-{unique}.", std::process::id());
        log.replication = 1;
        log.allow_unsafe_log = true;
    };
    let three = Three::start(on_kafka, 3_000);
    banned_and_pardoned(&three);
    three.end();
}

#[test]
fn g9_a_device_that_is_signed_out_is_closed_alone_and_a_token_of_later_lets_it_in() {
    let three = Three::start(|_| (), 900);
    let alice = three.user_of_b();
    let mut phone = three.live(&three.at_b, &alice, "phone");
    let mut watch = three.live(&three.at_c, &alice, "watch");
    let old = three.a.token(&alice, "watch");
    let path = format!("/v1/users/{alice}/devices/watch");
    assert_eq!(three.a.administer("DELETE", &path, ""), 204);
    until_revoked(&mut watch, "device signed out");
    let resume = Resume {
        stays: true,
        ..watch.resume()
    };
    let tried = Client::try_connect(&three.at_c, &old, "watch", resume);
    assert_eq!(tried.err(), Some(Closed::Code(4003)));
    let bob = three.live(&three.a.plain, "bob", "laptop");
    let talker = Talker::start(bob, dm(&alice, "bob"));
    talker.goes_on(2);
    talker.end();
    assert_eq!(number(&phone.deliver().record.body), 0, "it lives on");
    // A token says its second.
    std::thread::sleep(Duration::from_millis(1_100));
    let watch = three.greet(&three.at_c, &alice, "watch", watch.resume());
    assert_eq!(number(&watch.expect("let in").deliver().record.body), 0);
    three.end();
}

#[test]
fn g9_one_token_is_revoked_and_the_session_lives_that_has_another() {
    let three = Three::start(|_| (), 900);
    let alice = three.user_of_b();
    let token = three.a.token(&alice, "phone");
    let claims = three.a.judge().verify(&token, support::client::now_ms());
    let jti = claims.expect("sound").jti.expect("it has one");
    let resume = Resume {
        live_only: true,
        stays: true,
        ..Resume::default()
    };
    let mut phone = Client::connect(&three.at_b, &token, "phone", resume);
    let mut watch = three.live(&three.at_b, &alice, "watch");
    let body = format!("{{\"user\":\"{alice}\",\"jti\":\"{jti}\",\"reason\":\"stolen\"}}");
    assert_eq!(three.a.administer("POST", "/v1/revocations", &body), 204);
    until_revoked(&mut phone, "stolen");
    assert!(watch.quiet(Duration::from_millis(200)), "another token");
    three.end();
}

#[test]
fn g9_an_old_ban_that_a_node_reads_again_closes_nobody_who_was_pardoned_since() {
    let node = Node::with(|_| (), |n| n.session.sends_per_second = 100_000);
    let ban = |node: &Node, banned| {
        let body = format!("{{\"banned\":{banned}}}");
        assert_eq!(node.administer("PATCH", "/v1/users/alice", &body), 200);
    };
    let mut alice = node.live("alice", "phone");
    ban(&node, true);
    assert_eq!(alice.closed(), Closed::Code(4003));
    ban(&node, false);
    let node = node.restart();
    let mut alice = node.live("alice", "phone");
    let mut bob = node.live("bob", "laptop");
    // Stands after all that is read again.
    let id = bob.send(&dm("alice", "bob"), b"welcome back");
    assert_eq!(bob.result(id).error, 0);
    assert_eq!(&*alice.deliver().record.body, b"welcome back");
    assert!(alice.quiet(Duration::from_millis(200)), "it lives on");
    node.counted(Counter::DeliveryRecords, 3);
    assert_eq!(node.handle().counters().total(Counter::Revocations), 0);
}

#[test]
fn g9_a_session_that_lags_is_closed_at_the_record_and_gets_nothing_of_what_it_had_not_read() {
    const WINDOW: u64 = 256;
    let node = Node::with(|_| (), |n| n.session.sends_per_second = 100_000);
    let mut alice = node.live("alice", "phone");
    alice.auto_ack = false;
    let bob = node.live("bob", "laptop");
    let talker = Talker::start(bob, dm("alice", "bob"));
    talker.goes_on(WINDOW + 40);
    node.counted(Counter::Lagged, 1);
    let body = "{\"user\":\"alice\",\"reason\":\"signed out\"}";
    assert_eq!(node.administer("POST", "/v1/revocations", body), 204);
    let sent = talker.end();
    let numbers = until_revoked(&mut alice, "signed out");
    assert!(numbers.into_iter().eq(0..WINDOW));
    let mut rest = Vec::new();
    // To its end, or for as long as a read waits.
    let _ = alice.socket.get_mut().read_to_end(&mut rest);
    assert!(rest.is_empty(), "nothing after the close");
    // A token says its second.
    std::thread::sleep(Duration::from_millis(1_100));
    let mut back = node.resumed("alice", "phone", alice.resume());
    gets(&mut back, WINDOW..sent);
}
