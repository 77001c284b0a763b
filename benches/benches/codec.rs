//! Frames, records, WebSocket and HTTP: bytes to messages and back.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use hawser_benches::{LARGE, SMALL, record, send};
use hawser_protocol::frame::{ClientFrame, DeliverFlags, MessageView, deliver_prefix, split};
use hawser_protocol::json;
use hawser_wire::http::{ClientUpgrade, Request, client_request, upgrade};
use hawser_wire::ws::{Data, Decoder, Limits, OpCode, Role, apply_mask, encode};

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BINARY: OpCode = OpCode::Data(Data::Binary);
const MASK: [u8; 4] = [0x51, 0xa3, 0x0e, 0xc7];

fn frames(c: &mut Criterion) {
    let mut group = c.benchmark_group("frame");
    for (name, body) in [("small", SMALL), ("5k", LARGE)] {
        let frame = ClientFrame::Send(send(body).expect("constant ids"));
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        let mut out = Vec::new();
        group.bench_function(format!("encode_send_{name}"), |b| {
            b.iter(|| {
                out.clear();
                black_box(&frame).encode(&mut out);
            });
        });
        let shared = Bytes::from(bytes);
        group.bench_function(format!("decode_send_{name}"), |b| {
            b.iter(|| {
                let mut message = black_box(&shared).clone();
                let raw = split(&mut message).expect("whole").expect("a frame");
                ClientFrame::decode(&raw).expect("a Send")
            });
        });
        let text = json::encode_client(&frame);
        group.bench_function(format!("decode_send_json_{name}"), |b| {
            b.iter(|| json::decode_client(black_box(&text)).expect("a Send"));
        });
        let encoded = record(body).expect("constant ids").encode();
        group.bench_function(format!("view_record_{name}"), |b| {
            b.iter(|| {
                MessageView::parse(black_box(&encoded))
                    .expect("a record")
                    .seq()
            });
        });
    }
    group.bench_function("deliver_prefix", |b| {
        b.iter(|| deliver_prefix(black_box(7), DeliverFlags::default(), 0, black_box(LARGE)));
    });
    group.finish();
}

fn websocket(c: &mut Criterion) {
    let mut group = c.benchmark_group("ws");
    for (name, len) in [("small", SMALL), ("5k", LARGE)] {
        let payload = vec![7_u8; len];
        group.throughput(Throughput::Bytes(len as u64));
        let mut masked = payload.clone();
        group.bench_function(format!("mask_{name}"), |b| {
            b.iter(|| apply_mask(black_box(&mut masked), MASK, 1));
        });
        let mut out = Vec::new();
        group.bench_function(format!("encode_{name}"), |b| {
            b.iter(|| {
                out.clear();
                encode(BINARY, black_box(&payload), None, &mut out);
            });
        });
        let mut wire = Vec::new();
        encode(BINARY, &payload, Some(MASK), &mut wire);
        let mut decoder = Decoder::new(Role::Server, Limits::default());
        // Unmasking in place changes the input, so each round has a copy, which is not in its time.
        group.bench_function(format!("decode_whole_{name}"), |b| {
            b.iter_batched_ref(
                || wire.clone(),
                |wire| {
                    let mut at = 0;
                    black_box(decoder.next(wire, &mut at).expect("valid").is_some())
                },
                BatchSize::SmallInput,
            );
        });
        group.bench_function(format!("decode_in_two_{name}"), |b| {
            b.iter_batched_ref(
                || wire.clone(),
                |wire| {
                    let (first, second) = wire.split_at_mut(len / 2);
                    assert!(decoder.next(first, &mut 0).expect("valid").is_none());
                    black_box(decoder.next(second, &mut 0).expect("valid").is_some())
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn http(c: &mut Criterion) {
    let mut head = Vec::new();
    let asked = ClientUpgrade {
        host: "chat.example:443",
        target: "/v1/ws",
        protocols: &["hawser.v1"],
        headers: &[
            ("Origin", "https://chat.example"),
            ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64)"),
        ],
        deflate: false,
        key: *b"the sample nonce",
    };
    client_request(&asked, &mut head);
    c.bench_function("http/upgrade", |b| {
        b.iter(|| {
            let (request, _) = Request::parse(black_box(&head))
                .expect("valid")
                .expect("whole");
            upgrade(&request, &["hawser.v1", "hawser.v1+json"]).expect("an upgrade")
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(30);
    targets = frames, websocket, http
}
criterion_main!(benches);
