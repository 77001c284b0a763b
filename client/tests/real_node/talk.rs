//! Two people, one node, and what may happen to it.

use crate::node::Node;
use crate::person::{Person, chat, settings};
use hawser_client::store::StoreError;
use hawser_client::transport::Trust;
use hawser_client::{Event, OpenError, Settings, Tokens};
use hawser_protocol::client::Phase;
use hawser_protocol::pb::PresenceState;
use std::collections::BTreeSet;

const CHAT: &str = "dm:alice:bob";

#[tokio::test]
async fn a_message_is_sent_delivered_and_read() {
    let Some(node) = Node::start() else { return };
    let mut alice = Person::live(&node, "alice", "a1").await;
    let mut bob = Person::live(&node, "bob", "b1").await;
    alice.say(CHAT, "ahoy").await;
    bob.until_texts(CHAT, &["ahoy"]).await;
    alice.until_texts(CHAT, &["ahoy"]).await;
    let seq = alice.messages(CHAT)[0].seq.0;
    alice.until(|a| a.mark(CHAT, "bob").delivered == seq).await;
    assert_eq!(alice.mark(CHAT, "bob").read, 0);
    assert_eq!(
        bob.client
            .store()
            .unread(&chat(CHAT), bob.client.user())
            .expect("read"),
        1
    );
    bob.read_all(CHAT).await;
    alice.until(|a| a.mark(CHAT, "bob").read == seq).await;
    assert!(alice.client.store().unsent().expect("read").is_empty());
    assert_eq!(
        bob.client
            .store()
            .unread(&chat(CHAT), bob.client.user())
            .expect("read"),
        0
    );
}

#[tokio::test]
async fn typing_and_presence_are_told_to_those_who_watch() {
    let Some(node) = Node::start() else { return };
    let mut alice = Person::live(&node, "alice", "a1").await;
    let watched = alice.client.watch(vec!["bob".into()], vec![CHAT.into()]);
    watched.await.expect("runs");
    let is = |state| {
        move |p: &Person| {
            let now = p.seen.iter().rev().find_map(|event| match event {
                Event::Presence(update) => Some(update.state()),
                _ => None,
            });
            now == Some(state)
        }
    };
    alice.until(is(PresenceState::PresenceOffline)).await;
    let bob = Person::live(&node, "bob", "b1").await;
    alice.until(is(PresenceState::PresenceOnline)).await;
    bob.client.typing(chat(CHAT), false).await.expect("runs");
    alice
        .until(|a| {
            a.seen
                .iter()
                .any(|e| matches!(e, Event::Typing(t) if t.user == "bob" && !t.stopped))
        })
        .await;
    bob.client.stop().await;
    alice.until(is(PresenceState::PresenceOffline)).await;
}

#[tokio::test]
async fn killed_in_the_middle_of_traffic_nothing_is_lost_or_shown_twice() {
    let Some(mut node) = Node::start() else {
        return;
    };
    let mut alice = Person::live(&node, "alice", "a1").await;
    let mut bob = Person::live(&node, "bob", "b1").await;
    let mut wanted = Vec::new();
    for round in 0..3 {
        for n in 0..40 {
            let text = format!("{round}-{n}");
            alice.say(CHAT, &text).await;
            wanted.push(text);
            if n == 20 {
                let half = wanted.len() - 10;
                alice.until(|a| a.texts(CHAT).len() >= half).await;
                node.kill();
            }
        }
        node.up();
        alice.until(|a| a.texts(CHAT) == wanted).await;
        bob.until(|b| b.texts(CHAT) == wanted).await;
    }
    for person in [&alice, &bob] {
        let told = person.told();
        let unique: BTreeSet<_> = told.iter().collect();
        assert_eq!(unique.len(), told.len(), "shown twice");
    }
    assert!(alice.client.store().unsent().expect("read").is_empty());
}

#[tokio::test]
async fn what_is_written_without_a_node_survives_the_program_and_is_sent_later() {
    let Some(mut node) = Node::start() else {
        return;
    };
    let mut bob = Person::live(&node, "bob", "b1").await;
    let alice = Person::live(&node, "alice", "a1").await;
    node.kill();
    for text in ["one", "two", "three"] {
        alice.say(CHAT, text).await;
    }
    alice.client.stop().await;
    let offline = Person::open(settings(&node, "alice", "a1"));
    offline.say(CHAT, "four").await;
    offline.client.stop().await;
    node.up();
    let mut alice = Person::live(&node, "alice", "a1").await;
    let all = ["one", "two", "three", "four"];
    bob.until_texts(CHAT, &all).await;
    alice.until_texts(CHAT, &all).await;
}

#[tokio::test]
async fn a_program_started_again_resumes_without_a_sync() {
    let Some(node) = Node::start() else { return };
    let alice = Person::live(&node, "alice", "a1").await;
    let mut bob = Person::live(&node, "bob", "b1").await;
    alice.say(CHAT, "before").await;
    bob.until_texts(CHAT, &["before"]).await;
    bob.client.stop().await;
    alice.say(CHAT, "meanwhile").await;
    let mut bob = Person::live(&node, "bob", "b1").await;
    bob.until_texts(CHAT, &["before", "meanwhile"]).await;
    // It is in the store a moment before it is told. (The demonstration's own group may come at any time.)
    let told = |person: &Person| {
        let all = person.told().into_iter();
        all.filter(|(chat, _)| chat == CHAT).collect::<Vec<_>>()
    };
    bob.until(|b| !told(b).is_empty()).await;
    assert!(!bob.seen.contains(&Event::Phase(Phase::Syncing)));
    assert_eq!(
        told(&bob),
        [(CHAT.to_owned(), 2)],
        "what was missed, and nothing else"
    );
}

#[tokio::test]
async fn a_new_device_has_the_newest_page_and_older_ones_on_request() {
    let Some(node) = Node::start() else { return };
    let mut alice = Person::live(&node, "alice", "a1").await;
    for n in 0..100 {
        alice.say(CHAT, &n.to_string()).await;
    }
    alice.until(|a| a.texts(CHAT).len() == 100).await;
    let mut tablet = Person::live(&node, "bob", "tablet").await;
    let first = tablet.messages(CHAT)[0].ordinal;
    assert_eq!(first, 37, "64 of 100");
    tablet
        .client
        .history(chat(CHAT), first, 100)
        .await
        .expect("runs");
    tablet
        .until(|t| t.seen.iter().any(|e| matches!(e, Event::History(_))))
        .await;
    assert_eq!(tablet.messages(CHAT).len(), 100);
}

#[tokio::test]
async fn over_tls_exactly_the_pinned_certificate_is_trusted() {
    let Some(node) = Node::start() else { return };
    let tls = |trust, device| Settings {
        url: node.tls_url(),
        trust,
        ..settings(&node, "alice", device)
    };
    let pinned = Trust::fingerprint(&node.fingerprint).expect("the banner names it");
    let mut alice = Person::open(tls(pinned, "a1"));
    alice.until_phase(&Phase::Live).await;
    for (trust, device) in [(Trust::System, "a2"), (Trust::Pinned(vec![0xab; 32]), "a3")] {
        let mut other = Person::open(tls(trust, device));
        other
            .until(|p| p.seen.iter().any(|e| matches!(e, Event::Lost(_))))
            .await;
        assert!(!other.seen.contains(&Event::Phase(Phase::Live)));
    }
}

#[tokio::test]
async fn one_device_is_one_program() {
    let Some(node) = Node::start() else { return };
    let _alice = Person::live(&node, "alice", "a1").await;
    let again = hawser_client::Client::open(settings(&node, "alice", "a1"));
    assert!(matches!(again, Err(OpenError::Store(StoreError::InUse(_)))));
}

#[tokio::test]
async fn a_token_of_somebody_elses_making_is_refused_for_good() {
    let Some(node) = Node::start() else { return };
    // {"alg":"EdDSA","typ":"JWT"} and {"sub":"alice","dev":"m1","exp":4102444800}, signed by nobody.
    let token = [
        "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCJ9",
        "eyJzdWIiOiJhbGljZSIsImRldiI6Im0xIiwiZXhwIjo0MTAyNDQ0ODAwfQ",
        "AAAA",
    ];
    let forged = Settings {
        tokens: Tokens::Fixed(token.join(".")),
        ..settings(&node, "alice", "m1")
    };
    let mut mallory = Person::open(forged);
    let refused = |e: &Event| matches!(e, Event::Phase(Phase::Refused { code: 4001, .. }));
    mallory.until(|p| p.seen.iter().any(refused)).await;
}
