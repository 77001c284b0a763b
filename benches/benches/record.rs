//! The TLS layer: handshakes, sealing and opening.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use hawser_benches::{LARGE, SMALL, configs, handshake, layers};

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn records(c: &mut Criterion) {
    let mut group = c.benchmark_group("tls");
    for (name, len) in [("small", SMALL), ("5k", LARGE)] {
        let payload = vec![7_u8; len];
        group.throughput(Throughput::Bytes(len as u64));
        let (mut client, mut server) = layers().expect("our ends agree");
        let mut out = Vec::new();
        group.bench_function(format!("seal_{name}"), |b| {
            b.iter(|| {
                out.clear();
                server
                    .seal(black_box(&payload), &mut out)
                    .expect("an open connection");
            });
        });
        let (mut plain, mut reply) = (Vec::new(), Vec::new());
        let (mut sender, mut receiver) = layers().expect("our ends agree");
        // Records open in their order only, so each round seals one; that is not in its time.
        group.bench_function(format!("open_{name}"), |b| {
            b.iter_batched_ref(
                || {
                    let mut wire = Vec::new();
                    sender
                        .seal(&payload, &mut wire)
                        .expect("an open connection");
                    wire
                },
                |wire| {
                    plain.clear();
                    receiver
                        .open(wire, &mut plain, &mut reply)
                        .expect("what was sealed")
                },
                BatchSize::PerIteration,
            );
        });
        client.close_notify(&mut out);
    }
    group.finish();
    let (client_config, server_config) = configs().expect("a certificate");
    c.bench_function("tls/handshake_both_ends", |b| {
        b.iter(|| handshake(&client_config, &server_config).expect("our ends agree"));
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(30);
    targets = records
}
criterion_main!(benches);
