//! Accepting: one task per core and listener, admission before anything is read.

use super::admission::AddressPermit;
use super::listener::Bound;
use crate::counters::{Counter, Gauge};
use crate::handshake;
use crate::reactor::core::Core;
use crate::reactor::guard::Guarded;
use crate::reactor::readiness::Readiness;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Connections accepted before other tasks of the core get their turn.
const ACCEPTS_PER_TURN: usize = 32;
/// Pause after accept(2) failed for want of descriptors or memory: the backlog keeps the clients.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// A connection that was let in.
pub(crate) struct Admitted {
    pub(crate) stream: TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    pub(crate) permit: AddressPermit,
    pub(crate) at_us: u64,
}

/// Accepts until the node drains.
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
        for _ in 0..ACCEPTS_PER_TURN {
            match bound.socket.accept() {
                Ok((stream, peer)) => admit(&core, stream, peer, bound.tls.as_ref()),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(_) => {
                    core.counters.inc(Counter::AcceptErrors);
                    monoio::time::sleep(EXHAUSTED_PAUSE).await;
                    break;
                }
            }
        }
    }
}

/// Lets a connection in and begins its handshake, or closes it.
fn admit(
    core: &Rc<Core>,
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<&Arc<rustls::ServerConfig>>,
) {
    core.counters.inc(Counter::Accepted);
    let limits = &core.node.config.admission;
    let now_ms = core.node.clock.now_ms();
    if core.handshakes.get() >= limits.handshakes_max || !core.accepts.borrow_mut().take(1, now_ms)
    {
        core.counters.inc(Counter::RefusedRate);
        return;
    }
    if core.node.full() {
        core.counters.inc(Counter::RefusedSessions);
        return;
    }
    let Some(permit) = core.node.addresses.enter(peer.ip()) else {
        core.counters.inc(Counter::RefusedAddress);
        return;
    };
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
