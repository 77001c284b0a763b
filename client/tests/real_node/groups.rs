//! Groups over the HTTP API, as their members see them.

use crate::node::Node;
use crate::person::{Person, chat};
use hawser_client::transport::ReachError;
use hawser_protocol::ids::UserId;

#[tokio::test]
async fn a_group_is_made_joined_renamed_and_left() {
    let Some(node) = Node::start() else { return };
    let mut alice = Person::live(&node, "alice", "a1").await;
    let mut bob = Person::live(&node, "bob", "b1").await;
    let mut carol = Person::live(&node, "carol", "c1").await;
    let token = alice.client.token().await.expect("token");
    let api = alice.client.api().clone();
    let members = ["bob".to_owned()];
    let group = api
        .create_group(&token, "Watch", &members)
        .await
        .expect("made");
    let id = group.to_string();

    bob.until(|b| b.client.store().chat(&group).expect("read").name == "Watch")
        .await;
    alice.say(&id, "before carol").await;
    bob.until_texts(&id, &["before carol"]).await;

    api.add(&token, &group, &["carol".to_owned()])
        .await
        .expect("added");
    alice.say(&id, "welcome").await;
    carol.until_texts(&id, &["welcome"]).await;
    let in_group = |p: &Person| {
        let row = p.client.store().chat(&chat(&id)).expect("read");
        row.members
            .iter()
            .map(|m| m.user.clone())
            .collect::<Vec<_>>()
    };
    bob.until(|b| in_group(b).contains(&"carol".to_owned()))
        .await;

    api.rename(&token, &group, "Night watch")
        .await
        .expect("renamed");
    carol
        .until(|c| c.client.store().chat(&group).expect("read").name == "Night watch")
        .await;

    let bobs = bob.client.token().await.expect("token");
    let refused = api.rename(&bobs, &group, "Bob's").await;
    assert!(
        matches!(
            refused,
            Err(ReachError::Status {
                status: 403 | 404,
                ..
            })
        ),
        "{refused:?}"
    );

    let removed = UserId::new("bob").expect("user");
    api.remove(&token, &group, &removed).await.expect("removed");
    bob.until(|b| b.client.store().chat(&group).expect("read").gone)
        .await;
    alice.say(&id, "without bob").await;
    carol.until_texts(&id, &["welcome", "without bob"]).await;
    bob.say(&id, "let me in").await;
    bob.until(|b| {
        let unsent = b.client.store().unsent().expect("read");
        unsent
            .iter()
            .any(|send| send.refused.as_ref().is_some_and(|r| r.code == 30))
    })
    .await;
    assert_eq!(bob.texts(&id), ["before carol", "welcome"]);

    let carols = carol.client.token().await.expect("token");
    api.leave(&carols, &group).await.expect("left");
    carol
        .until(|c| c.client.store().chat(&group).expect("read").gone)
        .await;
    alice.until(|a| in_group(a) == ["alice"]).await;
}
