//! What operators do with two running nodes, by the program's own subcommands and by plain requests.

mod support;

use hawser_fanout::ingest::IngestShare;
use hawser_fanout::owners::{Clock, Follower, IngestMember};
use hawser_gateway::counters::{Counter, Gauge};
use hawser_gateway::node::NodeHandle;
use hawser_gateway::node::config::NodeConfig;
use hawser_protocol::frame::ServerFrame;
use hawser_protocol::ids::{DeviceId, UserId};
use hawser_protocol::ownership::{NodeName, NodeRecord};
use hawser_protocol::pb;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Output};
use std::thread::JoinHandle;
use support::Node;
use support::client::{Client, Closed, PATIENCE, Resume, Target};
use support::cluster::{self, eventually, relocated, url};

/// Short, so that the tests are.
const LEASE_MS: u64 = 900;

fn member(settings: &mut NodeConfig, name: &str) {
    settings.drain_ms = 8_000;
    settings.admin = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    settings.cluster = cluster::member(name, LEASE_MS);
}

/// Node `a` of the harness and `b` beside it, each with its half, and their admin listeners.
struct Two {
    a: Node,
    b: Option<NodeHandle>,
    at_b: Target,
    admin_a: SocketAddr,
    admin_b: SocketAddr,
}

impl Two {
    fn start() -> Self {
        let a = Node::with(|_| (), |n| member(n, "a"));
        let (b, at_b) = a.beside(|n| member(n, "b"));
        let owned = |handle: &NodeHandle| handle.counters().sum(Gauge::PartitionsOwned);
        eventually("each has its half", || {
            owned(a.handle()) == 8 && owned(&b) == 8
        });
        let admin = |handle: &NodeHandle| handle.admin_addr().expect("an admin listener");
        Self {
            admin_a: admin(a.handle()),
            admin_b: admin(&b),
            a,
            b: Some(b),
            at_b,
        }
    }

    /// A user of `b`'s.
    fn user_of_b(&self) -> String {
        let mut users = (0..100).map(|i| format!("user{i}"));
        let sent = |user: &String| {
            let token = self.a.token(user, "probe");
            let tried = Client::try_connect(&self.a.plain, &token, "probe", Resume::default());
            tried.err() == Some(Closed::Redirected(url(&self.at_b)))
        };
        users.find(sent).expect("one of a hundred")
    }

    /// A session at a node that does not own the user, of a client that cannot go elsewhere.
    fn guest(&self, at: &Target, user: &str, device: &str, from: Resume) -> Client {
        let token = self.a.token(user, device);
        let resume = Resume {
            live_only: true,
            stays: true,
            ..from
        };
        let mut guest = Client::connect(at, &token, device, resume);
        guest.caught_up();
        guest
    }

    fn end(mut self) {
        self.b.take().expect("it runs").join().expect("a clean end");
    }
}

/// The real program, asking a node; its exit code, what it printed, and what it said beside.
fn operate(ask: SocketAddr, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hawser-gateway"));
    command.args(args).args(["--ask", &ask.to_string()]);
    for name in ["HAWSER_GATEWAY_CONFIG", "HAWSER_ADMIN_TOKEN"] {
        command.env_remove(name);
    }
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (status.code(), text(stdout), text(stderr))
}

fn json(ask: SocketAddr, args: &[&str]) -> Value {
    let args: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
    let (code, text, said) = operate(ask, &args);
    assert_eq!(code, Some(0), "{args:?}: {text}{said}");
    serde_json::from_str(&text).expect("JSON")
}

/// The same beside what the test does.
fn meanwhile(ask: SocketAddr, args: &'static [&'static str]) -> JoinHandle<Value> {
    std::thread::spawn(move || json(ask, args))
}

/// What a node says of a user's or other things: the entry of its name.
fn of<'a>(report: &'a Value, node: &str) -> &'a Value {
    let nodes = report["nodes"].as_array().expect("a list");
    let mut its = nodes.iter().filter(|entry| entry["node"] == node);
    its.next().expect("an answer of that node")
}

#[test]
fn a_users_sessions_are_found_on_every_node_and_kicked_with_the_documented_codes() {
    let two = Two::start();
    let alice = two.user_of_b();
    let mut home = two.a.live_at(&two.at_b, &alice, "phone");
    let mut guest = two.guest(&two.a.plain, &alice, "watch", Resume::default());
    for ask in [two.admin_a, two.admin_b] {
        let report = json(ask, &["sessions", "--user", &alice]);
        assert_eq!(report["missing"].as_array().map(Vec::len), Some(0));
        for (node, device, away) in [("a", "watch", true), ("b", "phone", false)] {
            let view = of(&report, node);
            assert_eq!((&view["owner"], &view["more"]), (&"b".into(), &0.into()));
            let sessions = view["sessions"].as_array().expect("a list");
            assert_eq!(sessions.len(), 1, "{view}");
            let session = &sessions[0];
            assert_eq!(session["device"], device);
            assert_eq!(
                (&session["guest"], &session["stays"]),
                (&away.into(), &away.into())
            );
            assert_eq!(
                (&session["transport"], &session["encoding"]),
                (&"ws".into(), &"binary".into())
            );
            assert_eq!(
                (&session["state"], &session["core"]),
                (&"live".into(), &0.into())
            );
            assert_eq!(session["position"], session["head"]);
            assert!(session["quiet_ms"].as_u64().is_some_and(|ms| ms < 60_000));
        }
        assert_eq!(
            of(&report, "b")["sessions"][0]["session"],
            home.welcome.session
        );
    }
    let (code, text, _) = operate(two.admin_a, &["sessions", "--user", &alice]);
    assert_eq!(code, Some(0));
    assert!(
        text.contains("owned by b") && text.contains("phone"),
        "{text}"
    );

    let report = json(
        two.admin_b,
        &["kick", "--user", &alice, "--device", "watch"],
    );
    assert_eq!(of(&report, "a")["devices"], serde_json::json!(["watch"]));
    assert_eq!(of(&report, "b")["devices"], serde_json::json!([]));
    assert_eq!(guest.closed(), Closed::Code(4300));
    let reason = ["--reason", "please call us"];
    let (code, text, _) = operate(
        two.admin_a,
        &["kick", "--user", &alice, "--stay-out", reason[0], reason[1]],
    );
    assert_eq!(
        (code, text.lines().next()),
        (Some(0), Some("1 sessions closed with 4003"))
    );
    let said = home.until(|frame| match frame {
        ServerFrame::Error(error) => Some(error.text),
        _ => None,
    });
    assert_eq!(said, "please call us");
    assert_eq!(home.closed(), Closed::Code(4003));
    let (code, text, _) = operate(two.admin_a, &["sessions", "--user", &alice]);
    assert!(code == Some(0) && text.contains("no sessions"), "{text}");
    two.end();
}

#[test]
fn relocate_sends_a_users_sessions_to_a_node_and_says_who_stays() {
    let two = Two::start();
    let alice = two.user_of_b();
    let mut old = two.a.live_at(&two.at_b, &alice, "phone");
    let report = json(two.admin_a, &["relocate", "--user", &alice, "--to", "a"]);
    assert_eq!(of(&report, "b")["told"], 1, "{report}");
    assert_eq!(of(&report, "a")["told"], 0, "{report}");
    let relocate = relocated(&mut old);
    assert_eq!((relocate.url, relocate.deadline_ms), (url(&two.a.plain), 0));
    assert!(relocate.slot_ms < 1_000, "a user's sessions go at once");
    // It insists, since the owner is another: otherwise it would be sent back.
    let mut new = two.guest(&two.a.plain, &alice, "phone", old.resume());
    assert!(new.welcome.recovered, "the old session is resumed");
    drop(old);
    // Who owns the partition has the others sent home; this one cannot go.
    let report = json(two.admin_a, &["relocate", "--user", &alice]);
    let at_a = of(&report, "a");
    assert_eq!(
        (&at_a["told"], &at_a["stay"], &at_a["to"]),
        (&0.into(), &1.into(), &"b".into())
    );
    let (code, _, said) = operate(
        two.admin_a,
        &["relocate", "--user", &alice, "--to", "nobody"],
    );
    assert!(
        code == Some(1) && said.contains("knows no node nobody"),
        "{said}"
    );
    new.send_frame(&hawser_protocol::frame::ClientFrame::Ping(
        pb::Ping::default(),
    ));
    new.until(|frame| matches!(frame, ServerFrame::Pong(_)).then_some(()));
    two.end();
}

#[test]
fn a_partition_that_is_relocated_is_waited_for_until_its_sessions_have_gone() {
    let two = Two::start();
    let alice = two.user_of_b();
    let mut old = two.a.live_at(&two.at_b, &alice, "phone");
    let partition = old.welcome.partition.to_string();
    let view = json(two.admin_b, &["partitions"]);
    let row = &view["partitions"][old.welcome.partition as usize];
    assert_eq!(
        (&row["sessions"], &row["owner"]),
        (&1.into(), &"b".into()),
        "{row}"
    );
    let ask = two.admin_a;
    let gone = std::thread::spawn(move || {
        operate(ask, &["relocate", "--partition", &partition, "--to", "a"])
    });
    assert_eq!(relocated(&mut old).url, url(&two.a.plain));
    let new = two.guest(&two.a.plain, &alice, "phone", old.resume());
    drop(old);
    let (code, text, said) = gone.join().expect("it ran");
    assert_eq!(code, Some(0), "{text}{said}");
    assert!(
        said.contains("b owns partition"),
        "it is said where they belong: {said}"
    );
    assert!(
        said.contains("0 sessions left"),
        "progress in lines: {said}"
    );
    drop(new);
    // Who does not go is left, and said.
    let mut stuck = two.a.live_at(&two.at_b, &alice, "phone");
    let partition = stuck.welcome.partition.to_string();
    let args = [
        "relocate",
        "--partition",
        &partition,
        "--to",
        "a",
        "--timeout-s",
        "1",
    ];
    let (code, _, said) = operate(two.admin_a, &args);
    assert!(code == Some(1) && said.contains("still there"), "{said}");
    relocated(&mut stuck);
    two.end();
}

#[test]
fn a_drain_by_the_admin_listener_moves_sessions_and_says_when_it_is_done() {
    let two = Two::start();
    let mut users = (0..100).map(|i| format!("user{i}"));
    let bob = users.find(|user| {
        let token = two.a.token(user, "probe");
        Client::try_connect(&two.a.plain, &token, "probe", Resume::default()).is_ok()
    });
    let bob = bob.expect("one of a hundred");
    let mut old = two.a.live(&bob, "phone");
    let before = http(two.admin_a, "GET", "/drain", "", "");
    assert!(before.contains("\"draining\":false"), "{before}");
    let drained = meanwhile(two.admin_a, &["drain"]);
    let relocate = relocated(&mut old);
    assert_eq!(relocate.url, url(&two.at_b));
    let token = two.a.token(&bob, "phone");
    let mut new = None;
    eventually("the other node serves", || {
        new = Client::try_connect(&two.at_b, &token, "phone", old.resume()).ok();
        new.is_some()
    });
    assert!(new.expect("it came").welcome.recovered);
    drop(old);
    let outcome = drained.join().expect("it ran");
    assert_eq!(
        (&outcome["done"], &outcome["sessions"]),
        (&true.into(), &0.into()),
        "{outcome}"
    );
    assert_eq!(
        (&outcome["partitions"], &outcome["ended"]),
        (&0.into(), &false.into())
    );
    eventually("all is the other's", || {
        let b = two.b.as_ref().expect("it runs");
        b.counters().sum(Gauge::PartitionsOwned) == 16
    });
    // It stays up, without clients; a second wish changes nothing.
    assert!(http(two.admin_a, "GET", "/healthz", "", "").starts_with("HTTP/1.1 200"));
    assert!(http(two.admin_a, "GET", "/readyz", "", "").starts_with("HTTP/1.1 503"));
    assert_eq!(json(two.admin_a, &["drain"])["done"], true);
    two.end();
}

#[test]
fn every_partition_has_its_owner_and_both_nodes_are_at_the_end_of_the_log() {
    let two = Two::start();
    let alice = two.user_of_b();
    let mut home = two.a.live_at(&two.at_b, &alice, "phone");
    let id = home.send(&support::dm(&alice, "bob"), b"a record");
    assert_eq!(home.result(id).error, 0);
    // As its owner says: the other may read it still, or no more.
    let mut view = Value::Null;
    eventually("every owner is at the end of the log", || {
        view = json(two.admin_a, &["partitions"]);
        let rows = view["partitions"].as_array().expect("a list");
        rows.iter().all(|row| row["lag"] == 0)
    });
    let rows = view["partitions"].as_array().expect("a list");
    assert_eq!(
        (rows.len(), view["missing"].as_array().map(Vec::len)),
        (16, Some(0))
    );
    for owner in ["a", "b"] {
        let its = rows.iter().filter(|row| row["owner"] == owner);
        assert_eq!(its.count(), 8, "{view}");
    }
    for row in rows {
        assert!(row["lease_epoch"].as_u64() >= Some(1), "{row}");
        assert!(row["position"].is_u64() && row["end"].is_u64(), "{row}");
    }
    let sessions = |view: &Value| -> u64 {
        let rows = view["partitions"].as_array().expect("a list");
        rows.iter().filter_map(|row| row["sessions"].as_u64()).sum()
    };
    assert_eq!(sessions(&view), 1, "{view}");
    assert_eq!(sessions(&json(two.admin_b, &["partitions"])), 1);
    let (code, text, _) = operate(two.admin_a, &["partitions", "--node", "b"]);
    assert_eq!((code, text.lines().count()), (Some(0), 9), "{text}");
    let ingest = json(two.admin_a, &["partitions", "--kind", "ingest"]);
    assert!(
        ingest["partitions"]
            .as_array()
            .is_some_and(|rows| !rows.is_empty())
    );
    let mut lag = Value::Null;
    eventually("everything is read", || {
        lag = json(two.admin_a, &["lag"]);
        // A node reads its eight, and for a while those that it had.
        let delivery = &lag["delivery"];
        delivery["known"].as_u64() >= Some(16) && delivery["records"] == 0
    });
    assert_eq!(lag["nodes"].as_array().map(Vec::len), Some(2), "{lag}");
    let (code, text, _) = operate(two.admin_b, &["lag"]);
    assert!(
        code == Some(0) && text.matches(": 0 records behind").count() >= 2,
        "{text}"
    );
    let (_, text, _) = operate(two.admin_a, &["nodes", "--partitions"]);
    assert!(text.lines().any(|line| line.starts_with("owner")), "{text}");
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    let (code, _, said) = operate(nowhere, &["lag"]);
    assert!(code == Some(1) && said.contains("127.0.0.1:1"), "{said}");
    two.end();
}

#[test]
fn a_process_that_ingests_alone_is_listed_and_not_asked_for_sessions() {
    let two = Two::start();
    let follower = Follower {
        name: NodeName::new("ingest-1").expect("a name"),
        name_key: "fanout.name",
        // Its admin listener knows nothing of sessions.
        record: NodeRecord::ingest(100, "127.0.0.1:1".to_owned()),
        lease_ms: LEASE_MS,
        clock: Clock::start(),
    };
    let member = IngestMember::start(
        follower,
        two.a.backing().services.log.clone(),
        IngestShare::default(),
        |_| (),
    );
    let member = member.expect("it starts");
    eventually("it is listed with its partitions", || {
        let view = json(two.admin_a, &["nodes"]);
        let its = of_name(&view, "ingest-1");
        its.is_some_and(|its| its["edge"] == false && its["ingest_partitions"].as_u64() > Some(0))
    });
    for args in [
        &["sessions", "--user", "alice"][..],
        &["partitions"],
        &["lag"],
    ] {
        let (code, _, said) = operate(two.admin_a, args);
        assert_eq!(code, Some(0), "{args:?}: {said}");
    }
    let (_, text, _) = operate(two.admin_a, &["nodes"]);
    let line = text.lines().find(|line| line.starts_with("ingest-1"));
    assert!(line.is_some_and(|line| line.contains("ingest ")), "{text}");
    drop(member);
    two.end();
}

/// A node of `nodes`.
fn of_name<'a>(view: &'a Value, name: &str) -> Option<&'a Value> {
    view["nodes"]
        .as_array()?
        .iter()
        .find(|node| node["name"] == name)
}

#[test]
fn requests_of_browsers_and_of_others_without_an_admins_token_change_and_show_nothing() {
    let node = Node::with(|c| c.listen.admin = "127.0.0.1:0".to_owned(), |_| ());
    let admin = node.handle().admin_addr().expect("an admin listener");
    let mut alice = node.live("alice", "phone");
    let now_ms = support::client::now_ms();
    let (user, device) = (UserId::new("ops"), DeviceId::new("cli"));
    let (user, device) = (user.expect("an id"), device.expect("an id"));
    let issue = |scope| node.issuer.issue(&user, Some(&device), 60, scope, now_ms);
    let bearer = |token: String| format!("Authorization: Bearer {token}\r\n");
    let (admins, users) = (bearer(issue(true)), bearer(issue(false)));
    let json_type = "Content-Type: application/json\r\n";
    let kick = r#"{"user": "alice"}"#;
    let proxied = "X-Forwarded-For: 192.0.2.7\r\n";
    for (headers, status) in [
        ("Origin: https://evil.example\r\n".to_owned(), 403),
        (format!("Origin: null\r\n{admins}"), 403),
        ("Sec-Fetch-Site: cross-site\r\n".to_owned(), 403),
        (users.clone(), 403),
        (bearer("no.token".to_owned()), 401),
        (proxied.to_owned(), 403),
        (format!("{proxied}{users}"), 403),
    ] {
        for (method, path) in [
            ("POST", "/kick"),
            ("POST", "/relocate"),
            ("POST", "/drain"),
            ("GET", "/sessions?user=alice"),
        ] {
            let body = if method == "POST" { kick } else { "" };
            let answer = http(admin, method, path, &format!("{json_type}{headers}"), body);
            let wanted = format!("HTTP/1.1 {status}");
            assert!(
                answer.starts_with(&wanted),
                "{method} {path} {headers}: {answer}"
            );
            assert!(!answer.contains("phone"), "{answer}");
        }
    }
    // What a form can send without asking first is no JSON.
    for content in ["text/plain", "application/x-www-form-urlencoded"] {
        let headers = format!("Content-Type: {content}\r\n");
        let answer = http(admin, "POST", "/kick", &headers, kick);
        assert!(answer.starts_with("HTTP/1.1 415"), "{answer}");
    }
    for (body, status) in [
        ("{}", 422),
        (r#"{"user": "alice", "more": 1}"#, 422),
        ("{", 400),
        (r#"{"user": "no user"}"#, 400),
        (r#"{"user": "alice", "reason": "two\nlines"}"#, 400),
    ] {
        let answer = http(admin, "POST", "/kick", json_type, body);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{body}: {answer}"
        );
    }
    let long = format!(r#"{{"user": "{}"}}"#, "a".repeat(20_000));
    assert!(http(admin, "POST", "/kick", json_type, &long).starts_with("HTTP/1.1 413"));
    assert!(http(admin, "GET", "/partitions?partition=16", "", "").starts_with("HTTP/1.1 404"));
    assert_eq!(
        node.handle().counters().total(Counter::SessionsClosed),
        0,
        "nobody was closed"
    );
    // From here, and from elsewhere with an administrator's token, it works.
    let seen = http(admin, "GET", "/sessions?user=alice", "", "");
    assert!(seen.contains("\"device\":\"phone\""), "{seen}");
    let headers = format!("{json_type}{proxied}{admins}");
    let kicked = http(admin, "POST", "/kick", &headers, kick);
    assert!(kicked.contains("\"devices\":[\"phone\"]"), "{kicked}");
    assert_eq!(alice.closed(), Closed::Code(4300));
}

fn http(at: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(at).expect("the admin listener");
    stream.set_read_timeout(Some(PATIENCE)).expect("an option");
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).expect("it is read");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}
