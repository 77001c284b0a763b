//! No allocation on the delivery path: a record that has come is written, sealed, queued and sent for every recipient in memory
//! that was there.
//!
//! The allocator counts (dhat's, which knows the place of each allocation). What a record costs once, whoever it is for, is
//! bounded; one more recipient may add nothing, and its ack the bytes of its message.

#[path = "../instructions/edge.rs"]
mod edge;

use edge::{Edge, Failed, Shape};
use hawser_benches::{configs, handshake};
use hawser_wire::record::{Layer, compact_client, compact_server};
use std::sync::Arc;

#[global_allocator]
static COUNTING: dhat::Alloc = dhat::Alloc;

const FEW: usize = 8;
const MANY: usize = 72;
const ROUNDS: u64 = 16;
/// Of a record, whoever it is for: the id of its chat, and in the replay ring a copy of it and the list of its recipients.
const PER_RECORD: u64 = 3;
/// Of an ack: the bytes of a client's message are its own.
const PER_ACK: u64 = 1;

/// How the sessions of a core are connected, and what they are sent.
struct Variant {
    name: &'static str,
    tls: bool,
    body: usize,
}

const VARIANTS: [Variant; 4] = [
    Variant {
        name: "plain, 200 B",
        tls: false,
        body: 200,
    },
    Variant {
        name: "plain, 5 KB",
        tls: false,
        body: 5_120,
    },
    Variant {
        name: "TLS, 200 B",
        tls: true,
        body: 200,
    },
    Variant {
        name: "TLS, 5 KB",
        tls: true,
        body: 5_120,
    },
];

/// Blocks that the core allocates in so many rounds, for deliveries and for acks; more than `allowed` is a failure, which leaves
/// the places of all allocations in a file.
fn blocks(variant: &Variant, sessions: usize, allowed: [u64; 2]) -> Result<(), Failed> {
    let (client, server) = configs()?;
    let (mut client, mut server) = ((*client).clone(), (*server).clone());
    compact_client(&mut client);
    compact_server(&mut server);
    let (client, server) = (Arc::new(client), Arc::new(server));
    let connections = (0..sessions).map(|_| match variant.tls {
        true => handshake(&client, &server),
        false => Ok((Layer::Plain, Layer::Plain)),
    });
    let shape = Shape {
        body: variant.body,
        ..Shape::default()
    };
    let mut edge = Edge::new(connections, shape)?;
    let place = format!("{}/allocations.json", env!("CARGO_TARGET_TMPDIR"));
    let counting = dhat::Profiler::builder().testing().file_name(place);
    let _counting = counting.trim_backtraces(None).build();
    let (mut delivering, mut hearing) = (0, 0);
    for _ in 0..ROUNDS {
        edge.append();
        let delivered = edge.core.delivered();
        let before = dhat::HeapStats::get().total_blocks;
        edge.core.deliver();
        edge.core.flush();
        edge.core.submit();
        edge.sent();
        delivering += dhat::HeapStats::get().total_blocks - before;
        edge.came_to_all(delivered)?;
        edge.read()?;
        edge.acknowledge()?;
        let before = dhat::HeapStats::get().total_blocks;
        edge.hear()?;
        hearing += dhat::HeapStats::get().total_blocks - before;
    }
    let name = variant.name;
    println!("{name}, {sessions} sessions: {delivering} blocks to deliver, {hearing} for acks");
    dhat::assert!(
        delivering <= allowed[0],
        "{name}: {delivering} blocks to deliver"
    );
    dhat::assert!(hearing <= allowed[1], "{name}: {hearing} blocks for acks");
    Ok(())
}

#[test]
fn one_more_recipient_allocates_nothing() -> Result<(), Failed> {
    for variant in &VARIANTS {
        for sessions in [FEW, MANY] {
            let acks = PER_ACK * ROUNDS * sessions as u64;
            blocks(variant, sessions, [PER_RECORD * ROUNDS, acks])?;
        }
    }
    Ok(())
}
