//! Accepting: one task per core and listener, admission before anything is read.
//!
//! A storm is not answered by closing: whoever would exceed the core's pace, its bound of handshakes or the memory is left in
//! the kernel's backlog, which costs no work, and is let in when it is their turn.

use super::addresses::{AddressPermit, AddressRefusal};
use super::listener::Bound;
use crate::counters::{Counter, Gauge};
use crate::handshake;
use crate::node::memory::Pressure;
use crate::reactor::core::Core;
use crate::reactor::guard::Guarded;
use crate::reactor::readiness::Readiness;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Connections accepted before other tasks of the core get their turn.
const ACCEPTS_PER_TURN: usize = 32;
/// Pause after accept(2) failed for want of descriptors or memory: the backlog keeps the clients.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);
/// A core at its bound of handshakes looks again after so long: about as long as one takes.
const HANDSHAKES_PAUSE: Duration = Duration::from_millis(5);
/// The same above the high memory watermark.
const MEMORY_PAUSE: Duration = Duration::from_millis(50);

/// A connection that was let in.
pub(crate) struct Admitted {
    pub(crate) stream: TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    pub(crate) permit: AddressPermit,
    pub(crate) at_us: u64,
}

/// Accepts until the node ends, or drains alone.
pub(crate) async fn run(core: Rc<Core>, bound: Bound) {
    let (Ok(ready), Ok(stop)) = (Readiness::of(&bound.socket), Readiness::of(&core.node.stop))
    else {
        tracing::error!("no descriptors left for a listener; it is closed");
        return;
    };
    loop {
        monoio::select! {
            _ = stop.readable() => return,
            result = ready.readable() => if result.is_err() { return },
        }
        // Somebody waits.
        while let Some((pause, counter)) = closed(&core) {
            core.counters.inc(counter);
            paused(&core, 1);
            let stopped = monoio::select! {
                _ = stop.readable() => true,
                () = monoio::time::sleep(pause) => false,
            };
            paused(&core, -1);
            if stopped {
                return;
            }
        }
        if let Err(pause) = accept(&core, &bound) {
            core.counters.inc(Counter::AcceptErrors);
            monoio::time::sleep(pause).await;
        }
    }
}

/// Why nobody is let in now, and when to look again.
fn closed(core: &Core) -> Option<(Duration, Counter)> {
    if core.node.pressure() == Pressure::High {
        return Some((MEMORY_PAUSE, Counter::AcceptPausedMemory));
    }
    if core.handshakes.get() >= core.node.config.admission.handshakes_max {
        return Some((HANDSHAKES_PAUSE, Counter::AcceptPausedHandshakes));
    }
    let wait_ms = core.accepts.borrow_mut().wait_ms(core.node.clock.now_ms());
    (wait_ms > 0).then(|| (Duration::from_millis(wait_ms), Counter::AcceptPausedPace))
}

fn paused(core: &Core, change: isize) {
    core.paused
        .set(core.paused.get().saturating_add_signed(change));
    core.counters.set(Gauge::AcceptPaused, core.paused.get());
}

/// Accepts what waits, as far as the core lets in now.
///
/// # Errors
/// The process is out of descriptors or memory: how long to wait.
fn accept(core: &Rc<Core>, bound: &Bound) -> Result<(), Duration> {
    for _ in 0..ACCEPTS_PER_TURN {
        if closed(core).is_some() {
            return Ok(());
        }
        match bound.socket.accept() {
            // A client that gave up in the backlog costs nobody else's turn: where a core is behind, most of its work would be
            // for those.
            Ok((stream, _)) if gone(&stream) => core.counters.inc(Counter::BacklogGone),
            Ok((stream, peer)) => admit(core, stream, peer, bound.tls.as_ref()),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(_) => return Err(EXHAUSTED_PAUSE),
        }
    }
    Ok(())
}

/// Whether the peer has closed or reset the connection. One system call.
pub(crate) fn gone(stream: &TcpStream) -> bool {
    let flags = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
    let mut fds = [PollFd::new(stream, PollFlags::RDHUP)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0 && fds[0].revents().intersects(flags))
}

/// Lets a connection in and begins its handshake, or closes it.
fn admit(
    core: &Rc<Core>,
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<&Arc<rustls::ServerConfig>>,
) {
    core.counters.inc(Counter::Accepted);
    let now_ms = core.node.clock.now_ms();
    // First, and without a token: what one address does too much is not at the others' cost.
    let permit = match core.node.addresses.enter(peer.ip(), now_ms) {
        Ok(permit) => permit,
        Err(AddressRefusal::Connections) => return core.counters.inc(Counter::RefusedAddress),
        Err(AddressRefusal::Rate) => return core.counters.inc(Counter::RefusedAddressRate),
    };
    core.accepts.borrow_mut().take(now_ms);
    if core.node.full() {
        core.counters.inc(Counter::RefusedSessions);
        return;
    }
    if stream.set_nonblocking(true).is_err() {
        return;
    }
    // A socket without TCP_NODELAY works, only slower.
    let _ = stream.set_nodelay(true);
    let admitted = Admitted {
        stream,
        peer,
        tls: tls.cloned(),
        permit,
        at_us: core.node.clock.now_us(),
    };
    core.handshakes.set(core.handshakes.get() + 1);
    core.counters.set(Gauge::Handshakes, core.handshakes.get());
    let core = core.clone();
    monoio::spawn(async move {
        if Guarded::new(handshake::run(core.clone(), admitted))
            .await
            .is_err()
        {
            core.counters.inc(Counter::Panics);
        }
        core.handshakes.set(core.handshakes.get() - 1);
        core.counters.set(Gauge::Handshakes, core.handshakes.get());
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;

    #[test]
    fn a_client_that_has_gone_is_known_before_anything_is_read() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let mut client = TcpStream::connect(address).expect("connects");
        let (server, _) = listener.accept().expect("it waits");
        client.write_all(b"a ClientHello").expect("room");
        assert!(!gone(&server), "it waits for an answer");
        drop(client);
        // The end of its stream is behind what it said.
        let mut waited = 0;
        while !gone(&server) && waited < 200 {
            std::thread::sleep(Duration::from_millis(10));
            waited += 1;
        }
        assert!(gone(&server));
    }
}
