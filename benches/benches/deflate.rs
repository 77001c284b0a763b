//! permessage-deflate: one message compressed and decompressed, none of which knows of another. What it saves is printed.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use hawser_wire::ws::{
    Data, Decoder, Deflate, Deflater, Inflater, Limits, Message, Role, deflated_header,
};

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// English as people write it, for the lack of anybody's messages.
const PROSE: &str = include_str!("../../docs/reliability.md");

/// What is sent: prose, and what nobody can compress (ciphertext).
fn payloads() -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for (name, len) in [("200b", 200), ("5k", 5_120)] {
        let prose = PROSE.bytes().skip(600).take(len).collect();
        all.push((format!("prose_{name}"), prose));
        let mut state = 7_u64;
        let noise = (0..len).map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            state.to_be_bytes()[0]
        });
        all.push((format!("noise_{name}"), noise.collect()));
    }
    all
}

fn compress(c: &mut Criterion) {
    let mut group = c.benchmark_group("deflate");
    let agreed = Deflate::default();
    for (name, payload) in payloads() {
        group.throughput(Throughput::Bytes(payload.len() as u64));
        for level in [1, 6, 9] {
            let mut deflater = Deflater::new(level);
            let smaller = deflater.compress(agreed, &payload).map(<[u8]>::len);
            eprintln!("{name}, level {level}: {} -> {smaller:?}", payload.len());
            group.bench_function(format!("{name}_level_{level}"), |b| {
                b.iter(|| deflater.compress(agreed, black_box(&payload)).is_some());
            });
        }
    }
    group.finish();
}

fn inflate(c: &mut Criterion) {
    let mut group = c.benchmark_group("inflate");
    let mut deflater = Deflater::new(1);
    let mut inflater = Inflater::default();
    for (name, payload) in payloads() {
        let Some(smaller) = deflater.compress(Deflate::default(), &payload) else {
            continue;
        };
        let mut wire = Vec::new();
        deflated_header(Data::Binary, smaller.len(), Some([0; 4]), &mut wire);
        wire.extend_from_slice(smaller);
        let decoder = Decoder::new(Role::Server, Limits::default());
        let mut decoder = decoder.deflating(Some(Deflate::default()));
        group.throughput(Throughput::Bytes(payload.len() as u64));
        group.bench_function(name, |b| {
            b.iter_batched_ref(
                || wire.clone(),
                |wire| match decoder.next(wire, &mut 0).expect("sound") {
                    Some(Message::Deflated(deflated)) => {
                        black_box(deflated.inflate(&mut inflater).expect("sound").len())
                    }
                    other => panic!("{other:?}"),
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(30);
    targets = compress, inflate
}
criterion_main!(benches);
