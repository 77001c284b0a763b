//! The presence port on real Redis. `dev/engines up redis --tls --cluster` and its `env` name servers in
//! HAWSER_TEST_REDIS, HAWSER_TEST_REDIS_TLS (with HAWSER_TEST_CA) and HAWSER_TEST_REDIS_CLUSTER; without
//! them the tests about them say that they were skipped. Others start a `redis-server` of their own.
#![cfg(feature = "redis")]
#![expect(clippy::unwrap_used, reason = "a test may panic, its makers too")]

#[path = "support/redis_server.rs"]
mod redis_server;

use hawser_engines::bridge::Bridge;
use hawser_engines::contract::presence_suite_on_its_own_clock;
use hawser_engines::presence::{Presence, PresenceStore};
use hawser_engines::redis::{RedisConfig, RedisError, RedisPresence};
use hawser_engines::tls::ClientTls;
use hawser_protocol::ids::{ChatId, UserId};
use hawser_protocol::limits::PRESENCE_TTL_MS;
use redis_server::{RedisServer, ask};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_millis()).unwrap()
}

fn open(config: RedisConfig) -> Result<RedisPresence, RedisError> {
    RedisPresence::open(config, Bridge::start("redis-test").unwrap())
}

fn on(server: &RedisServer) -> RedisConfig {
    // Another load on the machine must not look like an outage.
    let mut config = RedisConfig::new(vec![server.place()]);
    config.timeout_ms = 3_000;
    config
}

/// `redis[s]://[:password@]host:port/`, several with commas, as `dev/engines env` prints them.
fn from_environment(name: &str) -> Option<RedisConfig> {
    let Ok(urls) = std::env::var(name) else {
        println!(
            "SKIPPED: {name} is not set (dev/engines up redis --tls --cluster; dev/engines env)"
        );
        return None;
    };
    let mut config = RedisConfig::new(Vec::new());
    config.timeout_ms = 3_000;
    for url in urls.split(',') {
        let (scheme, rest) = url.split_once("://").unwrap();
        let place = rest.trim_end_matches('/');
        let place = match place.rsplit_once('@') {
            Some((login, place)) => {
                config.password = Some(login.trim_start_matches(':').to_owned());
                place
            }
            None => place,
        };
        config.servers.push(place.to_owned());
        if scheme == "rediss" {
            config.tls = Some(ClientTls {
                ca: Some(std::env::var("HAWSER_TEST_CA").unwrap().into()),
                identity: None,
            });
        }
    }
    config.cluster = config.servers.len() > 1;
    config.prefix = format!("{name}-{}:", now_ms());
    Some(config)
}

fn keeps_the_contract(name: &str) {
    let Some(config) = from_environment(name) else {
        return;
    };
    let presence: Arc<dyn PresenceStore> = Arc::new(open(config).unwrap());
    presence_suite_on_its_own_clock(|| presence.clone());
}

#[test]
fn presence_on_redis_keeps_the_contract() {
    keeps_the_contract("HAWSER_TEST_REDIS");
}

#[test]
fn presence_on_a_redis_cluster_keeps_the_contract() {
    keeps_the_contract("HAWSER_TEST_REDIS_CLUSTER");
}

#[test]
fn presence_on_redis_over_tls_with_a_password_keeps_the_contract() {
    keeps_the_contract("HAWSER_TEST_REDIS_TLS");
}

#[test]
fn presence_on_a_redis_of_the_tests_own_keeps_the_contract() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let presence: Arc<dyn PresenceStore> = Arc::new(open(on(&server)).unwrap());
    presence_suite_on_its_own_clock(|| presence.clone());
}

#[test]
fn keys_are_exactly_those_of_the_documentation() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let presence = open(on(&server)).unwrap();
    let (alice, chat) = (user("alice"), ChatId::new("g:team").unwrap());
    let before = now_ms();
    let one = std::slice::from_ref(&alice);
    assert_eq!(presence.refresh(one, before), one);
    presence.set_typing(&alice, &chat, true, before);
    assert_eq!(server.ask(&["GET", "presence:alice"]), "online");
    let ttl: u64 = server.ask(&["TTL", "presence:alice"]).parse().unwrap();
    assert!((28..=30).contains(&ttl), "{ttl}");
    assert_eq!(server.ask(&["GET", "typing:alice:g:team"]), "typing");
    let ttl: u64 = server.ask(&["TTL", "typing:alice:g:team"]).parse().unwrap();
    assert!((3..=5).contains(&ttl), "{ttl}");
    assert_eq!(server.ask(&["GET", "lastseen:alice"]), before.to_string());
    let mut keys: Vec<String> = server
        .ask(&["KEYS", "*"])
        .split(' ')
        .map(str::to_owned)
        .collect();
    keys.sort();
    let expected = [
        "lastseen:alice",
        "presence-mark",
        "presence:alice",
        "typing:alice:g:team",
        "typists:g:team",
    ];
    assert_eq!(keys, expected);
    presence.leave(&alice, before + 7);
    presence.set_typing(&alice, &chat, false, before);
    assert_eq!(
        server.ask(&["EXISTS", "presence:alice", "typing:alice:g:team"]),
        "0"
    );
    assert_eq!(
        server.ask(&["GET", "lastseen:alice"]),
        (before + 7).to_string()
    );
    // Whoever writes the documented keys is seen.
    server.ask(&["SET", "presence:bob", "online", "EX", "30"]);
    assert_eq!(presence.get(&[user("bob")], before), [Presence::Online]);
}

#[test]
fn a_ttl_that_runs_out_is_offline_since_the_last_refresh_and_is_told_once() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let (one, other) = (open(on(&server)).unwrap(), open(on(&server)).unwrap());
    let began = now_ms();
    let (alone, shared) = (user("alone"), user("shared"));
    one.refresh(&[alone.clone(), shared.clone()], began);
    std::thread::sleep(Duration::from_millis(PRESENCE_TTL_MS - 5_000));
    assert!(one.expired(now_ms()).is_empty());
    let again = other.refresh(std::slice::from_ref(&shared), now_ms());
    assert!(again.is_empty(), "{again:?}");
    let mut gone = Vec::new();
    let until = Instant::now() + Duration::from_secs(10);
    while gone.is_empty() && Instant::now() < until {
        gone = one.expired(now_ms());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(
        gone,
        std::slice::from_ref(&alone),
        "the other node refreshes the shared one"
    );
    let states = other.get(&[alone.clone(), shared], now_ms());
    let offline = Presence::Offline {
        last_seen_ms: began,
    };
    assert_eq!(states, [offline, Presence::Online]);
    std::thread::sleep(Duration::from_secs(2));
    assert!(one.expired(now_ms()).is_empty() && other.expired(now_ms()).is_empty());
    assert_eq!(
        one.refresh(std::slice::from_ref(&alone), now_ms()),
        [alone],
        "it comes back as new"
    );
}

#[test]
fn two_installations_with_prefixes_on_one_server_do_not_see_one_another() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let with = |prefix: &str| {
        let mut config = on(&server);
        config.prefix = prefix.to_owned();
        open(config).unwrap()
    };
    let (eu, us) = (with("eu:"), with("us:"));
    let chat = ChatId::new("g:x").unwrap();
    assert_eq!(eu.refresh(&[user("a")], now_ms()), [user("a")]);
    eu.set_typing(&user("a"), &chat, true, now_ms());
    assert_eq!(
        us.get(&[user("a")], now_ms()),
        [Presence::Offline { last_seen_ms: 0 }]
    );
    assert!(us.typing(&chat, now_ms()).is_empty());
    assert_eq!(us.refresh(&[user("a")], now_ms()), [user("a")]);
    assert_eq!(server.ask(&["GET", "eu:presence:a"]), "online");
}

#[test]
fn typists_are_bounded_and_leave_no_key_behind() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let presence = open(on(&server)).unwrap();
    let chat = ChatId::new("g:loud").unwrap();
    let began = now_ms();
    for n in 0..100 {
        presence.set_typing(&user(&format!("u{n}")), &chat, true, began + n);
    }
    assert_eq!(server.ask(&["ZCARD", "typists:g:loud"]), "64");
    assert_eq!(presence.typing(&chat, began + 100).len(), 64);
    assert!(presence.typing(&chat, began + 100).contains(&user("u99")));
    let ttl: i64 = server.ask(&["PTTL", "typists:g:loud"]).parse().unwrap();
    assert!((1..=10_000).contains(&ttl), "{ttl}");
}

#[test]
fn any_number_of_users_is_a_few_round_trips() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let presence = open(on(&server)).unwrap();
    let users: Vec<UserId> = (0..5_000).map(|n| user(&format!("u{n}"))).collect();
    assert_eq!(presence.refresh(&users, now_ms()).len(), 5_000);
    let before = presence.stats().latency.count();
    assert_eq!(before, 5);
    assert_eq!(
        presence.get(&users, now_ms()),
        vec![Presence::Online; 5_000]
    );
    presence.leave_all(&users, now_ms());
    assert_eq!(presence.stats().latency.count(), 15);
}

fn setting(outcome: Result<RedisPresence, RedisError>) -> (&'static str, String) {
    match outcome.err() {
        Some(RedisError::Setting { key, rule }) => (key, rule),
        other => panic!("{other:?}"),
    }
}

#[test]
fn wrong_credentials_refuse_to_open_and_name_their_key() {
    let Some(server) = RedisServer::start(&["--requirepass", "secret"]) else {
        return;
    };
    let (key, said) = setting(open(on(&server)));
    assert!(
        key == "presence.password_file" && said.contains("asks for a password"),
        "{said}"
    );
    let mut config = on(&server);
    config.password = Some("wrong".to_owned());
    let (key, said) = setting(open(config.clone()));
    assert!(
        key == "presence.password_file" && said.contains("wrong") && !said.contains("secret"),
        "{said}"
    );
    config.password = Some("secret".to_owned());
    config.database = 99;
    assert_eq!(setting(open(config.clone())).0, "presence.database");
    config.database = 3;
    let presence = open(config.clone()).unwrap();
    assert_eq!(presence.refresh(&[user("a")], now_ms()), [user("a")]);
    config.user = Some("nobody".to_owned());
    assert_eq!(setting(open(config)).0, "presence.password_file");
}

#[test]
fn a_user_who_may_not_use_the_keys_is_named() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    server.ask(&[
        "ACL", "SETUSER", "reader", "on", ">pw", "~*", "+@read", "+client",
    ]);
    let mut config = on(&server);
    config.user = Some("reader".to_owned());
    config.password = Some("pw".to_owned());
    assert_eq!(setting(open(config)).0, "presence.user");
}

#[test]
fn a_server_that_is_something_else_is_named() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let mut config = on(&server);
    config.cluster = true;
    assert_eq!(setting(open(config)).0, "presence.cluster");
    let port = server.address.port().to_string();
    let Some(replica) = RedisServer::start(&["--replicaof", "127.0.0.1", &port]) else {
        return;
    };
    let until = Instant::now() + Duration::from_secs(20);
    while !replica.ask(&["ROLE"]).contains("connected") && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(100));
    }
    let (key, said) = setting(open(on(&replica)));
    assert!(
        key == "presence.servers" && said.contains("replica"),
        "{said}"
    );
    // TLS to a server that speaks none.
    let mut config = on(&server);
    config.tls = Some(ClientTls {
        ca: Some("/nowhere/ca.pem".into()),
        identity: None,
    });
    let (key, said) = setting(open(config));
    assert!(
        key == "presence.tls_ca" && said.contains("/nowhere/ca.pem"),
        "{said}"
    );
}

#[test]
fn a_node_of_a_cluster_that_is_not_called_one_is_named() {
    let Some(mut config) = from_environment("HAWSER_TEST_REDIS_CLUSTER") else {
        return;
    };
    config.cluster = false;
    config.servers.truncate(1);
    let mut named = 0;
    // Whether a key is of this node's slots depends on the key.
    for n in 0..20 {
        config.prefix = format!("p{n}:");
        match open(config.clone()) {
            Err(RedisError::Setting { key, .. }) => {
                assert_eq!(key, "presence.cluster");
                named += 1;
            }
            Err(other) => panic!("{other}"),
            Ok(presence) => {
                let users: Vec<UserId> = (0..50).map(|n| user(&format!("u{n}"))).collect();
                let until = Instant::now() + Duration::from_secs(30);
                // Some keys may be of this node's slots; the others tell, once they have been asked for.
                let told = loop {
                    presence.refresh(&users, now_ms());
                    if let Some(told) = presence.trouble() {
                        break told;
                    }
                    assert!(Instant::now() < until, "nothing is wrong, it says");
                    std::thread::sleep(Duration::from_millis(50));
                };
                assert!(told.contains("presence.cluster"), "{told}");
            }
        }
    }
    assert!(named > 0);
}

#[test]
fn a_certificate_of_an_unknown_authority_is_refused_and_the_key_named() {
    let Some(mut config) = from_environment("HAWSER_TEST_REDIS_TLS") else {
        return;
    };
    config.tls = Some(ClientTls::default());
    match open(config).err() {
        Some(RedisError::Setting { key, .. }) => assert_eq!(key, "presence.tls_ca"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn keys_in_a_cluster_have_the_same_names() {
    let Some(mut config) = from_environment("HAWSER_TEST_REDIS_CLUSTER") else {
        return;
    };
    config.prefix = String::new();
    let nodes: Vec<SocketAddr> = config
        .servers
        .iter()
        .map(|server| server.to_socket_addrs().unwrap().next().unwrap())
        .collect();
    let presence = open(config).unwrap();
    let name = format!("c{}", now_ms());
    presence.refresh(&[user(&name)], now_ms());
    let key = format!("presence:{name}");
    let answers: Vec<String> = nodes
        .iter()
        .map(|node| ask(*node, &["GET", &key]))
        .collect();
    let found = answers.iter().filter(|answer| *answer == "online").count();
    assert_eq!(found, 1, "{answers:?}");
}
