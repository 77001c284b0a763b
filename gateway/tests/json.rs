//! A conversation on `hawser.v1+json`, as a person would type it.

mod support;

use serde_json::{Value, json};
use support::client::{PATIENCE, Stream, new_id};
use support::{Node, dm};
use tungstenite::{Message, WebSocket};

struct Typist(WebSocket<Stream>);

impl Typist {
    fn connect(node: &Node, user: &str) -> Self {
        let mut this = Self(node.plain.upgrade("hawser.v1+json"));
        this.say(&json!({"type": "hello", "token": node.token(user, "json"), "device": "json"}));
        let welcome = this.hear("welcome");
        assert_eq!(
            (&welcome["user"], &welcome["recovered"]),
            (&json!(user), &json!(false))
        );
        this.say(&json!({"type": "ack", "adopt": true}));
        this.hear("caught_up");
        this
    }

    fn say(&mut self, frame: &Value) {
        self.0
            .send(Message::Text(frame.to_string().into()))
            .expect("it reads");
    }

    /// The next frame of a type.
    fn hear(&mut self, frame_type: &str) -> Value {
        let deadline = std::time::Instant::now() + PATIENCE;
        while std::time::Instant::now() < deadline {
            if let Message::Text(text) = self.0.read().expect("a message") {
                let frame: Value = serde_json::from_str(&text).expect("JSON");
                if frame["type"] == frame_type {
                    return frame;
                }
            }
        }
        panic!("no {frame_type}");
    }
}

#[test]
fn two_people_talk_in_json_and_one_of_them_to_a_binary_client() {
    let node = Node::start();
    let mut alice = Typist::connect(&node, "alice");
    let mut bob = Typist::connect(&node, "bob");
    let mut binary = node.live("bob", "binary");
    let chat = dm("alice", "bob");
    let id = new_id().to_string();
    alice
        .say(&json!({"type": "send", "client_msg_id": id, "chat": chat.as_str(), "body": "héllo"}));
    let result = alice.hear("send_result");
    assert_eq!(result["client_msg_id"], json!(id), "{result}");
    let deliver = bob.hear("deliver");
    assert_eq!(deliver["body"], json!("héllo"), "{deliver}");
    assert_eq!(deliver["sender"], json!("alice"));
    assert_eq!(&binary.deliver().record.body[..], "héllo".as_bytes());
    bob.say(&json!({"type": "ack", "offset": deliver["offset"]}));
    let update = alice.hear("receipt_update");
    assert_eq!(update["delivered_seq"], result["seq"], "{update}");
}

#[test]
fn what_is_no_json_is_an_error_and_a_close() {
    let node = Node::start();
    let mut alice = Typist::connect(&node, "alice");
    alice
        .0
        .send(Message::Text("{not json".into()))
        .expect("it reads");
    let error = alice.hear("error");
    assert_eq!(error["code"], json!(1), "{error}");
    let close = loop {
        if let Message::Close(close) = alice.0.read().expect("a message") {
            break close.expect("a code");
        }
    };
    assert_eq!(u16::from(close.code), 4000);
}
