//! The ring over real sockets.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot set itself up has failed"
)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use hawser_ring::{
    Errno, Event, Key, RecvOutcome, Ring, RingConfig, RingError, SendOutcome, mailbox,
};

fn small() -> RingConfig {
    RingConfig {
        sq_entries: 64,
        cq_entries: 128,
        files: 64,
        buffers: 8,
        buffer_bytes: 1024,
    }
}

fn pair(ring: &mut Ring) -> (Key, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let key = ring.adopt(OwnedFd::from(server)).unwrap();
    (key, client)
}

/// Turns the ring until `done` answers something.
fn turn<T>(ring: &mut Ring, mut done: impl FnMut(&mut Ring, Event) -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        while let Some(event) = ring.next_event() {
            if let Some(result) = done(ring, event) {
                return result;
            }
        }
        assert!(Instant::now() < deadline, "nothing came for 20 s");
        ring.submit_and_wait(Duration::from_secs(1)).unwrap();
    }
}

/// Nothing more is to come: turns for a little while and returns what did.
fn quiet(ring: &mut Ring) -> Vec<Event> {
    let mut events = Vec::new();
    for _ in 0..5 {
        ring.submit_and_wait(Duration::from_millis(5)).unwrap();
        while let Some(event) = ring.next_event() {
            events.push(event);
        }
    }
    events
}

/// Echoes everything until the peer ends, then closes; returns the number of bytes at `Gone`.
fn echo(ring: &mut Ring, key: Key) -> usize {
    let mut total = 0;
    let mut more = false;
    ring.poll_readable(key).unwrap();
    turn(ring, |ring, event| {
        match event {
            Event::Readable { key, .. } => match ring.recv(key) {
                Ok(()) | Err(RingError::Busy) => {}
                Err(error) => panic!("{error}"),
            },
            Event::Received { key, outcome } => match outcome {
                RecvOutcome::Data { data, more: waits } => {
                    total += data.len();
                    more = waits;
                    ring.send(key, data.to_vec(), 0).unwrap();
                }
                RecvOutcome::End => ring.close(key).unwrap(),
                RecvOutcome::WouldBlock => more = false,
                other => panic!("{other:?}"),
            },
            Event::Sent {
                key,
                buf,
                from,
                outcome,
            } => match outcome {
                SendOutcome::Sent(sent) if from + sent < buf.len() => {
                    ring.send(key, buf, from + sent).unwrap()
                }
                SendOutcome::Sent(_) => ring.recv(key).unwrap(),
                other => panic!("{other:?}"),
            },
            Event::Gone { .. } => return Some(()),
            other => panic!("{other:?}"),
        }
        None
    });
    total
}

#[test]
fn echoes_and_closes() {
    let mut ring = Ring::new(small()).unwrap();
    let (key, mut client) = pair(&mut ring);
    let peer = std::thread::spawn(move || {
        let sent: Vec<u8> = (0..100_000_u32).map(|at| at.to_le_bytes()[0]).collect();
        let mut back = vec![0; sent.len()];
        for (chunk, back) in sent.chunks(5_000).zip(back.chunks_mut(5_000)) {
            client.write_all(chunk).unwrap();
            client.read_exact(back).unwrap();
        }
        assert!(sent == back, "the echo differs");
    });
    assert_eq!(echo(&mut ring, key), 100_000);
    peer.join().unwrap();
    assert!(!ring.is_live(key));
    assert_eq!(ring.sockets(), 0);
    assert_eq!(ring.buffers_lent(), 0);
}

#[test]
fn a_stale_key_is_refused_and_never_delivered() {
    let mut ring = Ring::new(RingConfig {
        files: 1,
        ..small()
    })
    .unwrap();
    let (old, mut old_peer) = pair(&mut ring);
    ring.poll_readable(old).unwrap();
    ring.submit().unwrap();
    // Bytes arrive, and the completion waits in the queue while the socket is closed.
    old_peer.write_all(b"late").unwrap();
    ring.close(old).unwrap();
    assert_eq!(ring.close(old), Err(RingError::Stale));
    assert_eq!(ring.recv(old), Err(RingError::Stale));
    let (fd, error) = ring
        .adopt(OwnedFd::from(UnixStream::pair().unwrap().0))
        .unwrap_err();
    assert_eq!(
        error,
        RingError::Full,
        "the slot is not free before the last completion"
    );
    drop(fd);
    let gone = turn(&mut ring, |_, event| match event {
        Event::Gone { key } => Some(key),
        other => panic!("an event of a closed socket: {other:?}"),
    });
    assert_eq!(gone, old);
    let (new, _new_peer) = pair(&mut ring);
    assert_eq!(new.index(), old.index());
    assert_ne!(new, old);
    assert_eq!(ring.send(old, vec![1], 0), Err((vec![1], RingError::Stale)));
    assert!(ring.is_live(new));
    assert!(quiet(&mut ring).is_empty());
}

#[test]
fn an_idle_socket_closed_under_its_poll_is_gone() {
    let mut ring = Ring::new(small()).unwrap();
    let (key, mut client) = pair(&mut ring);
    ring.poll_readable(key).unwrap();
    ring.poll_writable(key).unwrap();
    assert!(matches!(
        turn(&mut ring, |_, event| Some(event)),
        Event::Writable { .. }
    ));
    assert_eq!(ring.in_flight(key), 1, "the poll for reading stays");
    ring.close(key).unwrap();
    assert!(
        matches!(turn(&mut ring, |_, event| Some(event)), Event::Gone { key: gone } if gone == key)
    );
    let mut rest = Vec::new();
    assert_eq!(
        client.read_to_end(&mut rest).unwrap(),
        0,
        "the peer sees the end"
    );
}

#[test]
fn a_close_in_one_batch_with_a_send_returns_the_buffer_first() {
    let mut ring = Ring::new(small()).unwrap();
    let (key, mut client) = pair(&mut ring);
    ring.send(key, b"xlast words".to_vec(), 1).unwrap();
    ring.close(key).unwrap();
    let sent = turn(&mut ring, |_, event| Some(event));
    match sent {
        Event::Sent {
            buf, from, outcome, ..
        } => {
            assert_eq!((buf.as_slice(), from), (b"xlast words".as_slice(), 1));
            assert_eq!(outcome, SendOutcome::Sent(10));
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        turn(&mut ring, |_, event| Some(event)),
        Event::Gone { .. }
    ));
    let mut rest = String::new();
    client.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "last words");
}

#[test]
fn used_up_buffers_are_reported_and_recover() {
    let mut ring = Ring::new(RingConfig {
        buffers: 2,
        ..small()
    })
    .unwrap();
    let peers: Vec<(Key, TcpStream)> = (0..3).map(|_| pair(&mut ring)).collect();
    for (key, peer) in &peers {
        let mut peer = peer;
        peer.write_all(b"hello").unwrap();
        ring.poll_readable(*key).unwrap();
    }
    let mut held = Vec::new();
    let starved = turn(&mut ring, |ring, event| match event {
        Event::Readable { key, .. } => {
            ring.recv(key).unwrap();
            None
        }
        Event::Received { key, outcome } => match outcome {
            RecvOutcome::Data { data, .. } => {
                held.push(data);
                None
            }
            RecvOutcome::NoBuffers => Some(key),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    });
    assert_eq!(held.len(), 2);
    assert_eq!(ring.buffers_lent(), 2);
    assert!(held.iter().all(|data| &data[..] == b"hello"));
    held.clear();
    ring.recv(starved).unwrap();
    let data = turn(&mut ring, |_, event| match event {
        Event::Received {
            outcome: RecvOutcome::Data { data, .. },
            ..
        } => Some(data.to_vec()),
        other => panic!("{other:?}"),
    });
    assert_eq!(data, b"hello");
    assert_eq!(ring.buffers_lent(), 0);
}

#[test]
fn a_full_socket_would_block_then_becomes_writable() {
    let mut ring = Ring::new(small()).unwrap();
    let (key, mut client) = pair(&mut ring);
    let chunk = vec![7_u8; 1 << 20];
    let mut taken = 0;
    ring.send(key, chunk, 0).unwrap();
    turn(&mut ring, |ring, event| match event {
        Event::Sent {
            key, buf, outcome, ..
        } => match outcome {
            SendOutcome::Sent(sent) => {
                taken += sent;
                ring.send(key, buf, 0).unwrap();
                None
            }
            SendOutcome::WouldBlock => Some(()),
            SendOutcome::Failed(errno) => panic!("{errno}"),
        },
        other => panic!("{other:?}"),
    });
    ring.poll_writable(key).unwrap();
    assert_eq!(ring.poll_writable(key), Err(RingError::Busy));
    assert!(
        quiet(&mut ring).is_empty(),
        "not writable while nobody reads"
    );
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        assert!(all.iter().all(|byte| *byte == 7));
        all.len()
    });
    assert!(matches!(
        turn(&mut ring, |_, event| Some(event)),
        Event::Writable { hangup: false, .. }
    ));
    ring.shutdown_write(key).unwrap();
    assert!(matches!(
        turn(&mut ring, |_, event| Some(event)),
        Event::ShutDown { .. }
    ));
    assert_eq!(reader.join().unwrap(), taken);
}

#[test]
fn a_reset_is_a_hangup_and_a_failed_send() {
    let mut ring = Ring::new(small()).unwrap();
    let (key, client) = pair(&mut ring);
    ring.poll_readable(key).unwrap();
    ring.submit().unwrap();
    let client = socket2::Socket::from(client);
    client.set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    assert!(matches!(
        turn(&mut ring, |_, event| Some(event)),
        Event::Readable { hangup: true, .. }
    ));
    ring.recv(key).unwrap();
    assert!(matches!(
        turn(&mut ring, |_, event| Some(event)),
        Event::Received {
            outcome: RecvOutcome::Failed(Errno(libc::ECONNRESET)),
            ..
        }
    ));
    ring.send(key, vec![1], 0).unwrap();
    assert!(matches!(
        turn(&mut ring, |_, event| Some(event)),
        Event::Sent {
            outcome: SendOutcome::Failed(Errno(libc::EPIPE)),
            ..
        }
    ));
}

#[test]
fn more_operations_than_the_queues_hold_are_all_done() {
    const SOCKETS: usize = 300;
    let config = RingConfig {
        sq_entries: 8,
        cq_entries: 16,
        files: 512,
        ..small()
    };
    let mut ring = Ring::new(config).unwrap();
    let mut peers = Vec::new();
    for _ in 0..SOCKETS {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let key = ring.adopt(OwnedFd::from(ours)).unwrap();
        ring.poll_readable(key).unwrap();
        ring.send(key, vec![1], 0).unwrap();
        peers.push(theirs);
    }
    let mut sent = 0;
    turn(&mut ring, |_, event| match event {
        Event::Sent {
            outcome: SendOutcome::Sent(1),
            ..
        } => {
            sent += 1;
            (sent == SOCKETS).then_some(())
        }
        other => panic!("{other:?}"),
    });
    // All peers speak at once, twice: the multishot polls overflow a completion queue of 16 and are armed anew.
    for round in 0..2 {
        for mut peer in &peers {
            peer.write_all(b"x").unwrap();
        }
        let mut bytes = 0;
        turn(&mut ring, |ring, event| match event {
            Event::Readable { key, .. } => {
                match ring.recv(key) {
                    Ok(()) | Err(RingError::Busy) => {}
                    Err(error) => panic!("{error}"),
                }
                None
            }
            Event::Received { key, outcome } => match outcome {
                RecvOutcome::Data { data, more } => {
                    bytes += data.len();
                    if more {
                        ring.recv(key).unwrap();
                    }
                    (bytes == SOCKETS).then_some(())
                }
                RecvOutcome::NoBuffers => {
                    ring.recv(key).unwrap();
                    None
                }
                RecvOutcome::WouldBlock => None,
                other => panic!("{other:?}"),
            },
            other => panic!("round {round}: {other:?}"),
        });
    }
}

#[test]
fn a_mailbox_wakes_a_parked_ring() {
    let mut ring = Ring::new(small()).unwrap();
    let (sender, receiver) = mailbox(1_000, ring.waker());
    let threads: Vec<_> = (0..4_u64)
        .map(|thread| {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for item in 0..5_000_u64 {
                    let mut item = (thread << 32) | item;
                    while let Err(full) = sender.try_send(item) {
                        item = full.0;
                        std::thread::yield_now();
                    }
                }
            })
        })
        .collect();
    let mut next = [0_u64; 4];
    turn(&mut ring, |_, event| {
        assert!(matches!(event, Event::Woken));
        while let Some(item) = receiver.try_recv() {
            let thread = usize::try_from(item >> 32).unwrap();
            assert_eq!(
                item & 0xffff_ffff,
                next[thread],
                "one sender's items stay in order"
            );
            next[thread] += 1;
        }
        (next == [5_000; 4]).then_some(())
    });
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn the_rings_descriptor_is_readable_while_events_wait() {
    let mut ring = Ring::new(small()).unwrap();
    let (key, mut client) = pair(&mut ring);
    ring.poll_readable(key).unwrap();
    ring.submit().unwrap();
    assert!(!readable(&ring, 0));
    let writer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        client.write_all(b"x").unwrap();
        client
    });
    assert!(readable(&ring, 10_000), "parked on the ring's descriptor");
    assert!(ring.has_events());
    assert!(matches!(ring.next_event(), Some(Event::Readable { .. })));
    drop(writer.join().unwrap());
}

/// `poll(2)` on the ring's descriptor.
fn readable(ring: &Ring, timeout_ms: i32) -> bool {
    use std::os::fd::AsRawFd;
    let mut fd = libc::pollfd {
        fd: ring.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one valid pollfd.
    unsafe { libc::poll(&raw mut fd, 1, timeout_ms) == 1 }
}

#[test]
fn a_ring_that_is_dropped_closes_its_sockets() {
    let mut ring = Ring::new(small()).unwrap();
    let (key, mut client) = pair(&mut ring);
    ring.poll_readable(key).unwrap();
    ring.submit().unwrap();
    drop(ring);
    let mut rest = Vec::new();
    assert_eq!(client.read_to_end(&mut rest).unwrap(), 0);
}

#[test]
fn bad_configurations_are_named() {
    let refused = |config: RingConfig| Ring::new(config).map(drop).unwrap_err();
    for config in [
        RingConfig {
            sq_entries: 3,
            ..small()
        },
        RingConfig {
            cq_entries: 32,
            ..small()
        },
        RingConfig {
            files: 0,
            ..small()
        },
        RingConfig {
            buffers: 7,
            ..small()
        },
        RingConfig {
            buffer_bytes: 1,
            ..small()
        },
    ] {
        assert!(
            matches!(refused(config), RingError::Config(_)),
            "{config:?}"
        );
    }
    let huge = RingConfig {
        files: 1 << 20,
        ..small()
    };
    assert!(matches!(
        refused(huge),
        RingError::TooManyFiles {
            asked: 1_048_576,
            ..
        }
    ));
    assert_eq!(Ring::probe(), Ok(()));
}
