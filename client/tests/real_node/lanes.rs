//! A group in relaxed order: many chats to the server, one conversation to people.

use crate::node::Node;
use crate::person::{Person, chat};
use hawser_client::Event;
use hawser_client::conversation::{Ask, Conversation, HISTORY_PAGE};
use hawser_protocol::client::Phase;
use hawser_protocol::ids::ChatId;
use hawser_protocol::limits::LANES_NOTICE_MS;
use hawser_protocol::message::{MessageRecord, MessageType};
use std::collections::BTreeSet;
use std::time::Duration;

const LANES: u8 = 4;
/// Messages of each of the two.
const EACH: usize = 20;

/// The texts of a conversation as a person sees it who has just opened it, each with its lane.
fn shown(person: &Person, group: &ChatId) -> Vec<(u8, String)> {
    let open = Conversation::open(person.client.store(), group).expect("read");
    let texts = open.messages().iter().filter(is_text);
    texts.map(|r| (r.chat.lane(), text(r))).collect()
}

fn is_text(record: &&MessageRecord) -> bool {
    record.message_type == MessageType::TEXT
}

fn text(record: &MessageRecord) -> String {
    String::from_utf8_lossy(&record.body).into_owned()
}

async fn until_shown(person: &mut Person, group: &ChatId, wanted: &BTreeSet<String>) {
    person
        .until(|p| {
            let texts = shown(p, group);
            let found: BTreeSet<String> = texts.iter().map(|(_, text)| text.clone()).collect();
            assert_eq!(
                found.len(),
                texts.len(),
                "something is shown twice: {texts:?}"
            );
            found == *wanted
        })
        .await;
}

/// What a device that has just come scrolls back through, to the start.
async fn scrolled_to_the_start(person: &mut Person, group: &ChatId) -> Vec<String> {
    let store = person.client.store().clone();
    let mut open = Conversation::open(&store, group).expect("read");
    let mut answered = 0;
    while !open.at_start() {
        let Some(Ask { chat, before }) = open.older(&store).expect("read") else {
            continue;
        };
        let asked = person.client.history(chat, before, HISTORY_PAGE);
        asked.await.expect("runs");
        let is_answer = |e: &&Event| matches!(e, Event::History(_));
        person
            .until(|p| p.seen.iter().filter(is_answer).count() > answered)
            .await;
        answered += 1;
        let Some(Event::History(done)) = person.seen.iter().rev().find(is_answer) else {
            unreachable!("there is one")
        };
        open.answered(&store, done).expect("read");
    }
    let texts = open.messages().iter().filter(is_text);
    texts.map(text).collect()
}

#[tokio::test]
async fn two_see_one_conversation_in_a_relaxed_group_each_message_once_whatever_happens() {
    let Some(mut node) = Node::start() else {
        return;
    };
    let mut alice = Person::live(&node, "alice", "a1").await;
    let mut bob = Person::live(&node, "bob", "b1").await;
    let token = alice.client.token().await.expect("token");
    let api = alice.client.api().clone();
    let members = ["bob".to_owned()];
    let group = api
        .create_group(&token, "Hall", &members)
        .await
        .expect("made");
    let id = group.to_string();
    alice.say(&id, "before").await;
    bob.until_texts(&id, &["before"]).await;
    api.relax(&token, &group, LANES).await.expect("relaxed");
    let wait = Duration::from_millis(LANES_NOTICE_MS + 500);
    tokio::time::sleep(wait).await;

    let mut wanted = BTreeSet::from(["before".to_owned()]);
    for n in 0..EACH {
        for person in [&alice, &bob] {
            let text = format!("{}-{n}", person.client.user());
            person.say(&id, &text).await;
            wanted.insert(text);
        }
        if n == EACH / 2 {
            alice.until(|a| shown(a, &group).len() > EACH / 2).await;
            node.kill();
        }
    }
    node.up();
    for person in [&mut alice, &mut bob] {
        until_shown(person, &group, &wanted).await;
        person
            .until(|p| p.client.store().unsent().expect("read").is_empty())
            .await;
        let told = person.told();
        let unique: BTreeSet<_> = told.iter().collect();
        assert_eq!(unique.len(), told.len(), "told twice");
    }
    let seen = shown(&alice, &group);
    assert_eq!(seen, shown(&bob, &group), "both see the same order");
    let lanes: BTreeSet<u8> = seen.iter().map(|(lane, _)| *lane).collect();
    assert_eq!(lanes, (0..LANES).collect());

    // Reading to the end is reading every lane.
    let open = Conversation::open(bob.client.store(), &group).expect("read");
    for (lane, seq) in open.newest() {
        bob.client.read(lane.clone(), seq).await.expect("runs");
    }
    let read = |a: &Person| {
        open.newest()
            .all(|(lane, seq)| a.mark(lane.as_str(), "bob").read == seq.0)
    };
    alice.until(read).await;
    // And typing is in the group, wherever it is done.
    let watched = alice.client.watch(vec![], vec![id.clone()]);
    watched.await.expect("runs");
    let lane = chat(&format!("{id}#1"));
    let typed = |e: &Event| matches!(e, Event::Typing(t) if t.chat == id && t.user == "bob");
    // The two have connections of their own: what is told before the node has heard of the watching is told to nobody.
    let mut told = false;
    for _ in 0..5 {
        let typing = bob.client.typing(lane.clone(), false);
        typing.await.expect("runs");
        let heard = alice.until(|a| a.seen.iter().any(typed));
        let again = Duration::from_secs(4);
        told |= tokio::time::timeout(again, heard).await.is_ok();
        if told {
            break;
        }
    }
    assert!(told, "typing is heard");

    // The programs start again, and a device comes that was not there.
    alice.client.stop().await;
    bob.client.stop().await;
    for (user, device) in [("alice", "a1"), ("bob", "b1")] {
        let mut again = Person::live(&node, user, device).await;
        assert!(!again.seen.contains(&Event::Phase(Phase::Syncing)));
        assert_eq!(shown(&again, &group), seen);
        let texts: Vec<String> = seen.iter().map(|(_, text)| text.clone()).collect();
        assert_eq!(scrolled_to_the_start(&mut again, &group).await, texts);
        again.client.stop().await;
    }
    let mut tablet = Person::live(&node, "bob", "tablet").await;
    let texts: Vec<String> = seen.into_iter().map(|(_, text)| text).collect();
    assert_eq!(scrolled_to_the_start(&mut tablet, &group).await, texts);
}
