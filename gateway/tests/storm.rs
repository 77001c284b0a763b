//! Everybody comes at once (G11, F13): let in at the pace, told when to come again, served then.

mod support;

use hawser_gateway::counters::{Counter, Gauge};
use hawser_gateway::node::NodeHandle;
use hawser_protocol::codes::ErrorCode;
use hawser_protocol::frame::ClientFrame;
use hawser_protocol::pb;
use socket2::{Domain, SockAddr, Socket, Type};
use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use support::client::{Client, Closed, Resume};
use support::{Node, dm};

/// A connection from one of our own addresses.
fn from(ip: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let ip = Ipv4Addr::from(ip);
    let own = SocketAddr::from((ip, 0));
    socket.bind(&SockAddr::from(own)).expect("loopback");
    socket.connect(&SockAddr::from(to)).expect("the backlog");
    socket.into()
}

/// Whether the node closes it within a moment.
fn is_closed(stream: &mut TcpStream) -> bool {
    let moment = Duration::from_millis(100);
    stream.set_read_timeout(Some(moment)).expect("an option");
    loop {
        match stream.read(&mut [0]) {
            // A wait with a time-out is not restarted by the kernel after a signal.
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return !matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
            Ok(bytes) => return bytes == 0,
        }
    }
}

#[test]
fn f13_newcomers_wait_in_the_backlog_and_are_let_in_at_the_pace() {
    const PACE: u32 = 100;
    const CROWD: u64 = 80;
    let node = Node::with(
        |_| (),
        |n| {
            n.admission.accepts_per_second = PACE;
            n.admission.accepts_burst = 5;
        },
    );
    let accepted = || node.handle().counters().total(Counter::Accepted);
    let begun = Instant::now();
    let mut crowd: Vec<TcpStream> = (0..CROWD)
        .map(|_| TcpStream::connect(node.plain.addr).expect("the backlog"))
        .collect();
    while accepted() < CROWD {
        let now = accepted();
        let most = 5.0 + f64::from(PACE) * begun.elapsed().as_secs_f64();
        assert!(now as f64 <= most + 1.0, "{now} of at most {most}");
        assert!(begun.elapsed() < support::client::PATIENCE, "{now}");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(node.handle().counters().total(Counter::AcceptPausedPace) > 0);
    assert!(!crowd.iter_mut().take(3).any(is_closed), "none is refused");
}

#[test]
fn who_gives_up_in_the_backlog_costs_no_turn() {
    let node = Node::with(
        |_| (),
        |n| {
            n.admission.accepts_per_second = 4;
            n.admission.accepts_burst = 1;
        },
    );
    let crowd: Vec<TcpStream> = (0..100)
        .map(|_| TcpStream::connect(node.plain.addr).expect("the backlog"))
        .collect();
    drop(crowd);
    // Not after 25 s, as it were if each had had its turn.
    let begun = Instant::now();
    node.live("alice", "phone");
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert!(node.handle().counters().total(Counter::BacklogGone) >= 80);
}

#[test]
fn a_paused_acceptor_ends_at_once_with_the_node() {
    let mut node = Node::with(
        |c| c.session.hello_ms = 60_000,
        |n| n.admission.handshakes_max = 1,
    );
    let _two = [
        TcpStream::connect(node.plain.addr).expect("let in"),
        TcpStream::connect(node.plain.addr).expect("the backlog"),
    ];
    node.counted(Counter::AcceptPausedHandshakes, 1);
    let begun = Instant::now();
    node.stop();
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn f24_an_address_that_opens_too_fast_is_closed_and_costs_nobody_elses_turn() {
    let node = Node::with(
        |_| (),
        |n| {
            n.admission.per_address_loopback = true;
            n.admission.per_address_per_second = 1;
            n.admission.per_address_burst = 2;
            n.admission.accepts_per_second = 10;
            n.admission.accepts_burst = 4;
        },
    );
    let mut fast: Vec<TcpStream> = (0..40)
        .map(|_| from([127, 0, 0, 9], node.plain.addr))
        .collect();
    let mut other = from([127, 0, 0, 10], node.plain.addr);
    node.counted(Counter::RefusedAddressRate, 37);
    assert!(!is_closed(&mut other), "another address has its turn");
    let closed = fast.iter_mut().filter_map(|s| is_closed(s).then_some(()));
    assert!(closed.count() >= 37);
}

/// Whether a Hello is welcomed, or when to come again.
fn answer(client: Client) -> Result<Client, u32> {
    let mut told: Option<pb::Error> = None;
    match client.welcomed(|error| told = Some(error)) {
        Ok(client) => Ok(client),
        Err(closed) => {
            assert_eq!(closed, Closed::Code(4200));
            let error = told.expect("an Error before the close");
            assert_eq!(error.code, u32::from(ErrorCode::Overloaded.number()));
            Err(error.retry_after_ms)
        }
    }
}

#[test]
fn g11_sessions_without_a_past_get_slots_and_resumed_ones_go_through() {
    let node = Node::with(|_| (), |n| n.admission.fresh_per_second = 4);
    let mut alice = node.live("alice", "phone");
    let bob = node.live("bob", "laptop");
    let resume = bob.resume();
    drop(bob);
    let hello = |device: &str, resume| {
        let token = node.token("alice", device);
        Client::greet(&node.plain, &token, device, resume).expect("an upgrade")
    };
    let crowd: Vec<Client> = (0..30)
        .map(|n| hello(&format!("new{n}"), Resume::default()))
        .collect();
    // The device that is live comes again without its token.
    let again = hello("phone", Resume::default());
    let begun = Instant::now();
    let mut bob = node.resumed("bob", "laptop", resume);
    assert!(bob.welcome.recovered);
    bob.caught_up();
    let bot = Resume {
        live_only: true,
        ..Resume::default()
    };
    node.resumed("carol", "bot", bot).caught_up();
    let resumed_ms = begun.elapsed().as_millis();
    assert!(resumed_ms < 2_000, "{resumed_ms} ms in a storm of others");
    let mut later = Vec::new();
    let mut welcomed = Vec::new();
    for (n, client) in crowd.into_iter().enumerate() {
        match answer(client) {
            Ok(client) => welcomed.push(client),
            Err(retry_ms) => later.push((n, retry_ms)),
        }
    }
    assert!(welcomed.len() >= 8 && later.len() >= 10, "{later:?}");
    assert!(node.handle().counters().total(Counter::FreshHeld) >= 4);
    let hints: Vec<u32> = later.iter().map(|(_, retry_ms)| *retry_ms).collect();
    let (first, last) = (hints[0], hints[hints.len() - 1]);
    assert!(first >= 1 && last >= first + 2_000, "spread: {hints:?}");
    assert!(answer(again).is_err(), "it is a session without a past too");
    let id = alice.send(&dm("alice", "bob"), b"and its live session stays");
    assert_eq!(alice.result(id).error, 0);
    // Whoever comes at its slot has its turn.
    let (n, _) = later[later.len() - 1];
    let slot = Duration::from_millis(u64::from(last));
    std::thread::sleep(slot.saturating_sub(begun.elapsed()));
    assert!(answer(hello(&format!("new{n}"), Resume::default())).is_ok());
}

#[test]
fn g7_above_the_low_watermark_only_resumed_sessions_begin_and_above_the_high_one_none() {
    let node = Node::start();
    let bob = node.live("bob", "laptop");
    let resume = bob.resume();
    drop(bob);
    let is = |node: &NodeHandle, level| {
        let until = Instant::now() + support::client::PATIENCE;
        while node.counters().sum(Gauge::MemoryPressure) != level {
            assert!(Instant::now() < until, "never {level}");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let (short, target) = node.beside(|n| n.admission.memory_bytes_low = 1);
    is(&short, 1);
    for live_only in [false, true] {
        let token = node.token("alice", "phone");
        let fresh = Resume {
            live_only,
            ..Resume::default()
        };
        let fresh = Client::greet(&target, &token, "phone", fresh).expect("an upgrade");
        assert!(answer(fresh).is_err_and(|retry_ms| retry_ms >= 1_000));
    }
    let token = node.token("bob", "laptop");
    let mut bob = Client::connect(&target, &token, "laptop", resume);
    assert!(bob.welcome.recovered);
    bob.caught_up();
    assert_eq!(short.counters().total(Counter::RefusedMemory), 2);
    bob.send_frame(&ClientFrame::Typing(pb::Typing {
        chat: dm("alice", "bob").as_str().to_owned(),
        stopped: false,
    }));
    let until = Instant::now() + support::client::PATIENCE;
    while short.counters().total(Counter::TypingShed) == 0 {
        assert!(Instant::now() < until, "typing is not shed");
        std::thread::sleep(Duration::from_millis(5));
    }
    let (full, target) = node.beside(|n| n.admission.memory_bytes_max = 1);
    is(&full, 2);
    let mut waits = TcpStream::connect(target.addr).expect("the backlog");
    assert!(!is_closed(&mut waits));
    assert_eq!(full.counters().total(Counter::Accepted), 0);
    assert!(full.counters().total(Counter::AcceptPausedMemory) > 0);
    full.join().expect("a clean end");
    short.join().expect("a clean end");
}
