//! Nodes beside one another.

use super::client::{Client, PATIENCE, Target};
use hawser_protocol::frame::ServerFrame;
use hawser_protocol::pb;
use std::time::{Duration, Instant};

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
