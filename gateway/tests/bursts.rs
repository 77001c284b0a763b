//! Messages of one group in a row: a session gets those that wait for it as one send, in their order, whoever it is.

mod support;

use hawser_gateway::config::Config;
use hawser_protocol::frame::ServerFrame;
use hawser_protocol::ids::ChatId;
use hawser_protocol::message::MessageType;
use serde_json::{Value, json};
use support::client::{Client, Target};
use support::groups::create;
use support::{Node, dm};
use tungstenite::Message;

const OTHERS: [&str; 7] = ["bob", "carol", "dave", "erin", "frank", "grace", "heidi"];
const MESSAGES: usize = 24;
/// Far above what is referred to and travels apart.
const LONG: usize = 5_000;

fn hall() -> ChatId {
    ChatId::new("g:hall").expect("a group")
}

/// The next text of the group, and its offset.
fn next(client: &mut Client) -> (u64, String) {
    client.until(|frame| match frame {
        ServerFrame::Deliver(d)
            if d.record.chat == hall() && d.record.message_type == MessageType::TEXT =>
        {
            let text = String::from_utf8(d.record.body.to_vec()).expect("a text");
            Some((d.offset, text))
        }
        _ => None,
    })
}

fn text(n: usize, len: usize) -> String {
    format!("{n:0>len$}")
}

/// On JSON.
fn typist(node: &Node, user: &str) -> tungstenite::WebSocket<support::client::Stream> {
    let mut socket = node.plain.upgrade("hawser.v1+json");
    let hello = json!({"type": "hello", "token": node.token(user, "json"), "device": "json"});
    let adopt = json!({"type": "ack", "adopt": true});
    for (say, wait_for) in [(hello, "welcome"), (adopt, "caught_up")] {
        let text = say.to_string();
        socket.send(Message::Text(text.into())).expect("it reads");
        while hear(&mut socket)["type"] != wait_for {}
    }
    socket
}

fn hear(socket: &mut tungstenite::WebSocket<support::client::Stream>) -> Value {
    loop {
        if let Message::Text(text) = socket.read().expect("a message") {
            return serde_json::from_str(&text).expect("JSON");
        }
    }
}

fn all_hear_all_in_order(listed_members_max: u32, target: fn(&Node) -> &Target, len: usize) {
    let node = Node::with(
        |config: &mut Config| config.ingest.listed_members_max = listed_members_max,
        |_| (),
    );
    create(&*node.backing().services.log, &hall(), &OTHERS);
    let target = target(&node);
    let mut alice = node.live_at(target, "alice", "phone");
    let mut tablet = node.live_at(target, "alice", "tablet");
    let mut others: Vec<Client> = OTHERS
        .iter()
        .map(|name| node.live_at(target, name, "phone"))
        .collect();
    let mut json = typist(&node, "bob");
    let texts: Vec<String> = (0..MESSAGES).map(|n| text(n, len)).collect();
    let ids: Vec<_> = texts
        .iter()
        .map(|text| alice.send(&hall(), text.as_bytes()))
        .collect();
    for client in others.iter_mut().chain([&mut tablet]) {
        let mut last = 0;
        for text in &texts {
            let (offset, got) = next(client);
            assert_eq!(&got, text);
            assert!(offset > last, "{offset} after {last}");
            last = offset;
        }
    }
    let mut heard = Vec::new();
    while heard.len() < MESSAGES {
        let frame = hear(&mut json);
        if frame["type"] == "deliver" && frame["message_type"] == 1 {
            heard.push(frame["body"].as_str().expect("a text").to_owned());
            let ack = json!({"type": "ack", "offset": frame["offset"]}).to_string();
            json.send(Message::Text(ack.into())).expect("it reads");
        }
    }
    assert_eq!(heard, texts);
    for id in ids {
        assert_eq!(alice.result(id).error, 0);
    }
    // None of them stands where it should not.
    for (client, name) in others.iter_mut().zip(OTHERS) {
        let id = client.send(&dm("alice", name), name.as_bytes());
        assert_eq!(client.result(id).error, 0);
        let got = alice.until(|frame| match frame {
            ServerFrame::Deliver(d) if d.record.sender.as_str() == name => Some(d.record.body),
            _ => None,
        });
        assert_eq!(got, name.as_bytes());
    }
}

#[test]
fn a_burst_to_a_listed_group_reaches_everybody_in_order() {
    all_hear_all_in_order(10_000, |node| &node.plain, 10);
    all_hear_all_in_order(10_000, |node| &node.tls, 10);
}

#[test]
fn a_burst_to_a_giant_group_reaches_everybody_in_order() {
    all_hear_all_in_order(3, |node| &node.plain, 10);
    all_hear_all_in_order(3, |node| &node.tls, 10);
}

#[test]
fn a_burst_of_long_messages_reaches_everybody_in_order() {
    all_hear_all_in_order(10_000, |node| &node.tls, LONG);
    all_hear_all_in_order(3, |node| &node.plain, LONG);
}
