//! Posted sends over real sockets: silent where they succeed, told where something is left over.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot set itself up has failed"
)]

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use hawser_ring::{Errno, Event, Key, Ring, RingConfig, RingError, SendOutcome};

fn ring(cq_entries: u32) -> Ring {
    Ring::new(RingConfig {
        sq_entries: 16,
        cq_entries,
        files: 256,
        buffers: 8,
        buffer_bytes: 1024,
    })
    .unwrap()
}

fn pair(ring: &mut Ring) -> (Key, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    let timeout = Some(Duration::from_secs(10));
    client.set_read_timeout(timeout).unwrap();
    (ring.adopt(OwnedFd::from(server)).unwrap(), client)
}

fn events(ring: &mut Ring) -> Vec<Event> {
    std::iter::from_fn(|| ring.next_event()).collect()
}

fn read(mut client: &TcpStream, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    client.read_exact(&mut bytes).unwrap();
    bytes
}

#[test]
fn one_piece_goes_to_many_sockets_and_nothing_is_told() {
    let mut ring = ring(32);
    let pairs: Vec<_> = (0..100).map(|_| pair(&mut ring)).collect();
    for round in 0..3 {
        let text = format!("round {round}");
        let piece = ring.put(text.as_bytes()).unwrap();
        for (key, _) in &pairs {
            assert!(ring.may_send(*key));
            ring.post(*key, piece).unwrap();
            assert!(!ring.may_send(*key));
            assert_eq!(ring.post(*key, piece), Err(RingError::Busy));
        }
        ring.submit().unwrap();
        for (_, client) in &pairs {
            assert_eq!(read(client, text.len()), text.as_bytes());
        }
        assert!(events(&mut ring).is_empty());
        let (key, _) = pairs[0];
        assert_eq!(ring.post(key, piece), Err(RingError::Stale), "forgotten");
    }
}

#[test]
fn what_a_full_socket_does_not_take_comes_back_and_nothing_is_lost() {
    let mut ring = ring(32);
    let (key, client) = pair(&mut ring);
    let (other, other_client) = pair(&mut ring);
    let chunk: Vec<u8> = (0..100_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let (mut taken, mut rest) = (0, Vec::new());
    for _ in 0..1_000 {
        let piece = ring.put(&chunk).unwrap();
        ring.post(key, piece).unwrap();
        ring.submit().unwrap();
        match events(&mut ring).pop() {
            None => taken += chunk.len(),
            Some(Event::Sent {
                buf, from, outcome, ..
            }) => {
                assert_eq!((&buf, from), (&chunk, 0));
                let sent = match outcome {
                    SendOutcome::Sent(sent) => sent,
                    SendOutcome::WouldBlock => 0,
                    SendOutcome::Failed(errno) => panic!("{errno}"),
                };
                assert!(sent < chunk.len());
                taken += sent;
                rest = buf[sent..].to_vec();
                break;
            }
            Some(event) => panic!("{event:?}"),
        }
    }
    assert!(!rest.is_empty(), "the socket is full at last");
    // A piece to a full socket and to one that reads: each has its own end.
    let piece = ring.put(b"both").unwrap();
    ring.post(key, piece).unwrap();
    ring.post(other, piece).unwrap();
    ring.submit().unwrap();
    assert_eq!(read(&other_client, 4), b"both");
    assert!(!ring.may_send(key) && ring.may_send(other));
    assert!(matches!(
        &events(&mut ring)[..],
        [Event::Sent { key: of, buf, outcome: SendOutcome::WouldBlock, .. }] if *of == key && buf == b"both"
    ));
    assert!(ring.may_send(key));
    let reader = std::thread::spawn(move || read(&client, taken));
    let got = reader.join().unwrap();
    let expected = got.iter().enumerate();
    assert!(
        expected
            .filter(|(at, byte)| chunk[at % chunk.len()] != **byte)
            .count()
            == 0
    );
}

#[test]
fn many_failures_at_once_are_all_told_whatever_the_queue_holds() {
    let mut ring = ring(16);
    let broken: Vec<_> = (0..200).map(|_| pair(&mut ring)).collect();
    let (alive, client) = pair(&mut ring);
    for (_, client) in &broken {
        let client = socket2::SockRef::from(client);
        client.set_linger(Some(Duration::ZERO)).unwrap();
    }
    let keys: Vec<Key> = broken.into_iter().map(|(key, _)| key).collect();
    std::thread::sleep(Duration::from_millis(50));
    let piece = ring.put(b"to nobody").unwrap();
    for key in &keys {
        ring.post(*key, piece).unwrap();
    }
    ring.post(alive, piece).unwrap();
    ring.submit().unwrap();
    assert_eq!(read(&client, 9), b"to nobody");
    let mut failed = Vec::new();
    for event in events(&mut ring) {
        match event {
            Event::Sent {
                key,
                buf,
                outcome: SendOutcome::Failed(Errno(_)),
                ..
            } => {
                assert_eq!(buf, b"to nobody");
                failed.push(key);
            }
            other => panic!("{other:?}"),
        }
    }
    failed.sort_unstable();
    assert_eq!(failed, keys);
    assert!(ring.may_send(alive));
}

#[test]
fn failures_of_a_full_queue_are_told_whoever_looks_before_the_submit() {
    let mut ring = ring(64);
    let broken: Vec<_> = (0..40).map(|_| pair(&mut ring)).collect();
    for (_, client) in &broken {
        let client = socket2::SockRef::from(client);
        client.set_linger(Some(Duration::ZERO)).unwrap();
    }
    let keys: Vec<Key> = broken.into_iter().map(|(key, _)| key).collect();
    std::thread::sleep(Duration::from_millis(50));
    let piece = ring.put(b"to nobody").unwrap();
    // More than the submission queue holds: the kernel has had some of them by now.
    for key in &keys {
        ring.post(*key, piece).unwrap();
    }
    let mut told: Vec<Event> = ring.next_event().into_iter().collect();
    assert_eq!(
        told.len(),
        1,
        "it takes all that there are, and tells of one"
    );
    ring.submit().unwrap();
    told.extend(events(&mut ring));
    let mut failed: Vec<Key> = told
        .into_iter()
        .map(|event| match event {
            Event::Sent {
                key,
                buf,
                outcome: SendOutcome::Failed(Errno(_)),
                ..
            } if buf == b"to nobody" => key,
            other => panic!("{other:?}"),
        })
        .collect();
    failed.sort_unstable();
    assert_eq!(failed, keys);
}

#[test]
fn a_close_after_a_post_lets_it_out_first() {
    let mut ring = ring(32);
    let (key, client) = pair(&mut ring);
    ring.poll_readable(key).unwrap();
    let piece = ring.put(b"last words").unwrap();
    ring.post(key, piece).unwrap();
    ring.close(key).unwrap();
    assert!(!ring.may_send(key));
    assert_eq!(ring.post(key, piece), Err(RingError::Stale));
    let mut gone = false;
    for _ in 0..100 {
        ring.submit_and_wait(Duration::from_millis(10)).unwrap();
        gone |= events(&mut ring)
            .iter()
            .any(|event| matches!(event, Event::Gone { key: of } if *of == key));
        if gone {
            break;
        }
    }
    assert!(gone);
    let mut all = Vec::new();
    (&client).read_to_end(&mut all).unwrap();
    assert_eq!(all, b"last words");
}

#[test]
fn sends_and_posts_to_one_socket_keep_their_order() {
    let mut ring = ring(32);
    let (key, client) = pair(&mut ring);
    let mut expected = Vec::new();
    for n in 0..200_u32 {
        let text = format!("{n};");
        expected.extend_from_slice(text.as_bytes());
        if n % 3 == 0 {
            ring.send(key, text.into_bytes(), 0).unwrap();
            ring.submit().unwrap();
            assert!(matches!(&events(&mut ring)[..], [Event::Sent { .. }]));
        } else {
            let piece = ring.put(text.as_bytes()).unwrap();
            ring.post(key, piece).unwrap();
            ring.submit().unwrap();
        }
    }
    assert_eq!(read(&client, expected.len()), expected);
}

#[test]
fn what_does_not_fit_is_refused_and_what_fits_again_is_taken() {
    let mut ring = ring(32);
    let (key, client) = pair(&mut ring);
    assert_eq!(ring.put(b""), None);
    assert_eq!(ring.put(&vec![0; (256 << 10) + 1]), None);
    let big = vec![1; 200 << 10];
    let first = ring.put(&big).unwrap();
    assert_eq!(first.len(), big.len());
    // There is no room for both: what was put before is given up where nothing posts it.
    let second = ring.put(&big).unwrap();
    assert_eq!(ring.post(key, first), Err(RingError::Stale));
    let reader = std::thread::spawn(move || read(&client, 200 << 10));
    ring.post(key, second).unwrap();
    ring.submit().unwrap();
    // What the socket did not take goes as a send.
    while let Some(Event::Sent {
        buf, from, outcome, ..
    }) = ring.next_event()
    {
        let sent = match outcome {
            SendOutcome::Sent(sent) => from + sent,
            SendOutcome::WouldBlock => from,
            SendOutcome::Failed(errno) => panic!("{errno}"),
        };
        if sent < buf.len() {
            std::thread::sleep(Duration::from_millis(20));
            ring.send(key, buf, sent).unwrap();
            ring.submit().unwrap();
        }
    }
    assert_eq!(reader.join().unwrap(), big);
}
