//! Presence while Redis is absent, silent, killed, empty and back: unknown meanwhile, never "offline",
//! and no caller waits longer than one time-out.
#![cfg(feature = "redis")]
#![expect(clippy::unwrap_used, reason = "a test may panic, its makers too")]

#[path = "support/proxy.rs"]
mod proxy;
#[path = "support/redis_server.rs"]
mod redis_server;

use hawser_engines::bridge::Bridge;
use hawser_engines::presence::{Presence, PresenceStore};
use hawser_engines::redis::{RedisConfig, RedisPresence};
use hawser_protocol::ids::{ChatId, UserId};
use hawser_protocol::limits::PRESENCE_TTL_MS;
use proxy::Proxy;
use redis_server::RedisServer;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Long enough for a busy machine, short enough to tell one time-out from two.
const TIMEOUT_MS: u32 = 250;
const PATIENCE: Duration = Duration::from_secs(20);

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_millis()).unwrap()
}

fn open(place: String) -> RedisPresence {
    let mut config = RedisConfig::new(vec![place]);
    config.timeout_ms = TIMEOUT_MS;
    RedisPresence::open(config, Bridge::start("redis-test").unwrap()).unwrap()
}

/// Every call once: what they answer, and how long all of them took.
fn every_call(presence: &RedisPresence) -> (Vec<Presence>, Duration) {
    let (a, chat) = (user("a"), ChatId::new("g:x").unwrap());
    let began = Instant::now();
    assert!(
        presence
            .refresh(std::slice::from_ref(&a), now_ms())
            .is_empty()
    );
    presence.set_typing(&a, &chat, true, now_ms());
    assert!(presence.typing(&chat, now_ms()).is_empty());
    let states = presence.get(&[a, user("b")], now_ms());
    presence.leave(&user("c"), now_ms());
    (states, began.elapsed())
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn silent_costs_one_timeout(presence: &RedisPresence) {
    let unknown = [Presence::Unknown, Presence::Unknown];
    let (states, took) = every_call(presence);
    assert_eq!(states, unknown);
    let one = Duration::from_millis(u64::from(TIMEOUT_MS));
    assert!(
        took >= one && took < 2 * one,
        "five calls, one time-out: {took:?}"
    );
    let began = Instant::now();
    for _ in 0..200 {
        assert_eq!(every_call(presence).0, unknown);
    }
    let took = began.elapsed();
    assert!(
        took < 2 * one,
        "a thousand calls wait for nothing: {took:?}"
    );
    let trouble = presence.trouble().unwrap();
    assert!(trouble.contains("presence.servers"), "{trouble}");
    let stats = presence.stats();
    assert_eq!((stats.timeouts, stats.outages), (1, 1));
    assert!(stats.shed >= 1_000);
}

#[test]
fn f3_a_stopped_redis_costs_one_timeout_and_comes_back() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let presence = open(server.place());
    assert_eq!(presence.refresh(&[user("a")], now_ms()), [user("a")]);
    server.stop(true);
    silent_costs_one_timeout(&presence);
    server.stop(false);
    until("Redis is asked again", || presence.trouble().is_none());
    assert_eq!(presence.get(&[user("a")], now_ms()), [Presence::Online]);
    assert_eq!(presence.stats().losses, 0);
}

#[test]
fn f3_a_network_that_swallows_everything_costs_one_timeout_and_comes_back() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let proxy = Proxy::start(server.address);
    let presence = open(proxy.place());
    presence.refresh(&[user("a")], now_ms());
    proxy.stall(true);
    silent_costs_one_timeout(&presence);
    proxy.stall(false);
    until("Redis is asked again", || presence.trouble().is_none());
    assert_eq!(presence.get(&[user("a")], now_ms()), [Presence::Online]);
    assert!(
        proxy.accepted() >= 2,
        "a new connection, not the one that hung"
    );
}

#[test]
fn f3_threads_that_call_while_redis_stops_wait_one_timeout_each_and_together() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let presence = open(server.place());
    server.stop(true);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for n in 0..8 {
            let presence = &presence;
            scope.spawn(move || {
                for _ in 0..50 {
                    let states = presence.get(&[user(&format!("u{n}"))], now_ms());
                    assert_eq!(states, [Presence::Unknown]);
                }
            });
        }
    });
    let took = began.elapsed();
    assert!(
        took < Duration::from_millis(2 * u64::from(TIMEOUT_MS)),
        "{took:?}"
    );
    assert_eq!(presence.stats().outages, 1);
    server.stop(false);
}

#[test]
fn g10_a_redis_killed_and_started_empty_is_unknown_until_users_are_refreshed() {
    let Some(mut server) = RedisServer::start(&[]) else {
        return;
    };
    let presence = open(server.place());
    let (a, b) = (user("a"), user("b"));
    presence.refresh(&[a.clone(), b.clone()], now_ms());
    server.kill();
    let states = presence.get(&[a.clone(), b.clone()], now_ms());
    assert_eq!(states, [Presence::Unknown, Presence::Unknown]);
    assert!(presence.trouble().unwrap().contains("presence.servers"));
    server.restart();
    until("Redis is asked again", || presence.trouble().is_none());
    assert_eq!(presence.stats().losses, 1);
    let states = presence.get(&[a.clone(), b.clone()], now_ms());
    assert_eq!(
        states,
        [Presence::Unknown, Presence::Unknown],
        "lost is not offline"
    );
    assert_eq!(
        presence.refresh(std::slice::from_ref(&a), now_ms()),
        std::slice::from_ref(&a),
        "told anew"
    );
    presence.leave(&b, now_ms());
    let states = presence.get(&[a, b, user("nobody")], now_ms());
    // Nobody knows of b until all nodes have told: b may be on another.
    assert_eq!(
        states,
        [Presence::Online, Presence::Unknown, Presence::Unknown]
    );
    let began = Instant::now();
    let settled = Duration::from_millis(PRESENCE_TTL_MS / 2 + 5_000);
    std::thread::sleep(settled.saturating_sub(began.elapsed()) + Duration::from_secs(1));
    let state = presence.get(&[user("b"), user("nobody")], now_ms());
    assert!(matches!(state[0], Presence::Offline { last_seen_ms } if last_seen_ms > 0));
    assert_eq!(state[1], Presence::Offline { last_seen_ms: 0 });
}

#[test]
fn data_that_vanish_under_a_live_connection_are_noticed() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let presence = open(server.place());
    presence.refresh(&[user("a")], now_ms());
    server.ask(&["FLUSHALL"]);
    assert_eq!(presence.get(&[user("a")], now_ms()), [Presence::Unknown]);
    assert_eq!(presence.stats().losses, 1);
    until("the mark is made again", || {
        server.ask(&["EXISTS", "presence-mark"]) == "1"
    });
    presence.get(&[user("a")], now_ms());
    assert_eq!(presence.stats().losses, 1, "noticed once");
}

#[test]
fn users_lapsed_in_an_outage_are_told_once_as_unknown_and_are_news_again() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let proxy = Proxy::start(server.address);
    let presence = open(proxy.place());
    let a = [user("a")];
    let began = now_ms();
    assert_eq!(presence.refresh(&a, began), a);
    proxy.cut(true);
    let later = began + PRESENCE_TTL_MS;
    assert!(presence.expired(later - 1).is_empty());
    assert_eq!(presence.expired(later), a);
    assert_eq!(presence.get(&a, later), [Presence::Unknown]);
    assert!(presence.expired(later + 1).is_empty());
    proxy.cut(false);
    until("Redis is asked again", || presence.trouble().is_none());
    assert_eq!(
        presence.refresh(&a, later + 2),
        a,
        "although its key is still there"
    );
    assert!(presence.refresh(&a, later + 3).is_empty());
}

#[test]
fn a_redis_absent_at_start_is_waited_for_boundedly_and_used_when_it_comes() {
    let Some(mut server) = RedisServer::start(&[]) else {
        return;
    };
    server.kill();
    let mut config = RedisConfig::new(vec![server.place()]);
    config.open_timeout_ms = 700;
    let began = Instant::now();
    let presence = RedisPresence::open(config, Bridge::start("redis-test").unwrap()).unwrap();
    let took = began.elapsed();
    assert!(
        took >= Duration::from_millis(700) && took < Duration::from_secs(5),
        "{took:?}"
    );
    let trouble = presence.trouble().unwrap();
    assert!(
        trouble.contains("presence.servers") && trouble.contains(&server.place()),
        "{trouble}"
    );
    assert_eq!(presence.get(&[user("a")], now_ms()), [Presence::Unknown]);
    server.restart();
    until("Redis is asked", || presence.trouble().is_none());
    assert_eq!(presence.refresh(&[user("a")], now_ms()), [user("a")]);
}

#[test]
fn a_full_redis_is_unknown_with_its_reason_and_recovers() {
    let Some(server) = RedisServer::start(&["--maxmemory-policy", "noeviction"]) else {
        return;
    };
    let presence = open(server.place());
    server.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    assert!(presence.refresh(&[user("a")], now_ms()).is_empty());
    let trouble = presence.trouble().unwrap();
    assert!(trouble.contains("OOM"), "{trouble}");
    assert_eq!(presence.get(&[user("a")], now_ms()), [Presence::Unknown]);
    server.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    until("Redis is asked again", || presence.trouble().is_none());
    assert_eq!(presence.refresh(&[user("a")], now_ms()), [user("a")]);
}
