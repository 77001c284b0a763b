//! Connections that one core accepts and another owns: the mailbox, the wake-up, and the socket into the other's ring.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use hawser_ring::{Event, Ring, RingConfig, Sender, mailbox};

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Sockets that are open at once.
const AT_ONCE: usize = 256;
const PAUSE: Duration = Duration::from_secs(1);

/// A core of its own thread that adopts what it is sent, polls it as a session's socket is polled, and closes it. Says how many
/// it has adopted in each turn.
fn owner() -> (Sender<OwnedFd>, mpsc::Receiver<usize>) {
    let (told, adopted) = mpsc::channel();
    let (handed, sender) = mpsc::channel();
    std::thread::spawn(move || {
        let mut ring = Ring::new(RingConfig::default()).expect("a kernel with io_uring");
        let (sender, inbox) = mailbox(AT_ONCE, ring.waker());
        handed.send(sender).expect("somebody waits");
        loop {
            ring.submit_and_wait(PAUSE).expect("a working ring");
            while let Some(event) = ring.next_event() {
                if !matches!(event, Event::Woken) {
                    continue;
                }
                let mut count = 0;
                while let Some(fd) = inbox.try_recv() {
                    let key = ring.adopt(fd).expect("room");
                    ring.poll_readable(key).expect("a live key");
                    ring.close(key).expect("a live key");
                    count += 1;
                }
                if told.send(count).is_err() {
                    return;
                }
            }
        }
    });
    (sender.recv().expect("the owner lives"), adopted)
}

fn sockets(many: usize) -> Vec<(TcpStream, OwnedFd)> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let to = listener.local_addr().expect("an address");
    (0..many)
        .map(|_| {
            let client = TcpStream::connect(to).expect("it listens");
            let (server, _) = listener.accept().expect("it connects");
            (client, OwnedFd::from(server))
        })
        .collect()
}

/// Hands over so many at once, again and again; the time from the first to the last that is adopted.
fn hand_over(at_once: usize, many: u64) -> Duration {
    let (sender, adopted) = owner();
    let (mut took, mut left) = (Duration::ZERO, many);
    while left > 0 {
        let now = at_once.min(usize::try_from(left).unwrap_or(at_once));
        let (clients, servers): (Vec<_>, Vec<_>) = sockets(now).into_iter().unzip();
        let began = Instant::now();
        for server in servers {
            sender.try_send(server).expect("room in the mailbox");
        }
        let mut done = 0;
        while done < now {
            done += adopted.recv().expect("the owner lives");
        }
        took += began.elapsed();
        drop(clients);
        left -= now as u64;
    }
    took
}

fn handover(c: &mut Criterion) {
    let mut group = c.benchmark_group("handover");
    for (name, at_once) in [("one", 1), ("burst_of_256", AT_ONCE)] {
        group.bench_function(name, |b| b.iter_custom(|many| hand_over(at_once, many)));
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .sample_size(20);
    targets = handover
}
criterion_main!(benches);
