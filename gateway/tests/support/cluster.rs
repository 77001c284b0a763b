//! Nodes beside one another.

use super::Node;
use super::client::{Client, PATIENCE, Resume, Target};
use hawser_gateway::node::config::ClusterConfig;
use hawser_protocol::frame::ServerFrame;
use hawser_protocol::ownership::NodeName;
use hawser_protocol::pb;
use std::time::{Duration, Instant};

/// One node of a cluster.
pub fn member(name: &str, lease_ms: u64) -> Option<ClusterConfig> {
    Some(ClusterConfig {
        name: NodeName::new(name).expect("a name"),
        weight: 100,
        lease_ms,
        plain_url: String::new(),
        link: String::new(),
    })
}

/// A live session that stays where it is, owner or not, without a past.
pub fn stay(node: &Node, at: &Target, user: &str, device: &str) -> Client {
    let resume = Resume {
        live_only: true,
        stays: true,
        ..Resume::default()
    };
    let mut client = Client::connect(at, &node.token(user, device), device, resume);
    client.caught_up();
    client
}

/// Waits until it holds.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Where clients connect without TLS.
pub fn url(target: &Target) -> String {
    format!("ws://{}/v1/ws", target.addr)
}

/// The next Relocate.
pub fn relocated(client: &mut Client) -> pb::Relocate {
    client.until(|frame| match frame {
        ServerFrame::Relocate(relocate) => Some(relocate),
        _ => None,
    })
}
