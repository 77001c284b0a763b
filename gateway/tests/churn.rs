//! Connections that come and go (F12); alone in its process, because it counts descriptors.

mod support;

use hawser_protocol::frame::ClientFrame;
use hawser_protocol::pb;
use std::io::Write;
use std::time::{Duration, Instant};
use support::client::{Client, Resume};
use support::{Node, dm};

#[test]
fn f12_connections_that_come_and_go_leave_nothing_behind() {
    let node = Node::start();
    let files = || std::fs::read_dir("/proc/self/fd").expect("a Linux").count();
    let _warm = node.live("carol", "warm");
    let before = files();
    for round in 0..60 {
        let mut client = node.live_at(
            if round % 2 == 0 {
                &node.plain
            } else {
                &node.tls
            },
            "alice",
            "phone",
        );
        match round % 3 {
            // A reset in the middle of a frame.
            0 => drop(client.socket.get_mut().write(&[0x82, 0xfe, 0x10])),
            // A send that nobody waits for.
            1 => drop(client.send(&dm("alice", "bob"), b"gone")),
            _ => client.send_frame(&ClientFrame::Bye(pb::Bye::default())),
        }
    }
    let deadline = Instant::now() + support::client::PATIENCE;
    while node.handle().sessions() > 1 || files() > before + 4 {
        assert!(
            Instant::now() < deadline,
            "{} sessions, {} files, {before} before",
            node.handle().sessions(),
            files()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let token = node.token("bob", "laptop");
    let mut bob = Client::connect(&node.plain, &token, "laptop", Resume::default());
    bob.adopt();
    bob.caught_up();
}
