//! A reactor without its thread, its listeners and other cores, with connections that need no handshake: for the
//! reactor's own tests, and for `benches/`.

use super::core::CoreError;
use super::inbox::{Arriving, Kind};
use super::turn::Reactor;
use crate::accept::addresses::AddressTable;
use crate::control::ToControl;
use crate::control::lanes::LaneTable;
use crate::counters::NodeCounters;
use crate::node::config::NodeConfig;
use crate::node::shared::NodeShared;
use crate::owners::Owners;
use hawser_engines::log::Log;
use hawser_fanout::auth::Verifier;
use hawser_fanout::engines::IngestLag;
use hawser_fanout::owners::Clock;
use hawser_ring::{Waker, mailbox};
use hawser_wire::record::Layer;
use hawser_wire::ws;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize};

/// Messages that the inbox, and the queue to a control thread that is not there, take before they are full.
const QUEUE: usize = 8;

/// See the module.
pub(crate) struct Alone {
    pub(crate) node: Arc<NodeShared>,
    pub(crate) reactor: Reactor,
    listener: TcpListener,
    control: tokio::sync::mpsc::Receiver<ToControl>,
}

impl Alone {
    /// A core that has all delivery partitions of this log.
    ///
    /// # Errors
    /// No ring, no descriptor, or the log cannot be read.
    pub(crate) fn new(
        config: NodeConfig,
        log: Arc<dyn Log>,
        verifier: Verifier,
    ) -> Result<Self, CoreError> {
        let waker = Waker::new()?;
        let (sender, inbox) = mailbox(QUEUE, waker.clone());
        let (control, questions) = tokio::sync::mpsc::channel(QUEUE);
        let node = Arc::new(NodeShared {
            clock: Clock::start(),
            counters: NodeCounters::new(1),
            addresses: AddressTable::new(config.admission.of_address()),
            fresh: config.admission.fresh(),
            returns: config.admission.returns(1),
            log,
            verifier: Arc::new(verifier),
            cores: vec![sender],
            control,
            stop: Waker::new()?,
            draining: AtomicBool::new(false),
            end_asked: tokio::sync::Notify::new(),
            pressure: AtomicU8::new(0),
            sessions: AtomicUsize::new(0),
            urls: [String::new(), String::new()],
            owners: Arc::new(Owners::new(false)),
            ports: Vec::new(),
            health: Vec::new(),
            troubles: Vec::new(),
            lag: IngestLag::default(),
            lanes: LaneTable::default(),
            body_lane: 0,
            config,
        });
        Ok(Self {
            reactor: Reactor::new(0, node.clone(), inbox, &waker)?,
            node,
            listener: TcpListener::bind("127.0.0.1:0")?,
            control: questions,
        })
    }

    /// Hands over a connection as a handshake does; the other end.
    ///
    /// # Errors
    /// No descriptor, or no place for a connection.
    pub(crate) fn connect(&mut self, kind: Kind, layer: Layer) -> io::Result<TcpStream> {
        // Nobody answers; what is told must not be told again with every tick.
        while self.control.try_recv().is_ok() {}
        let client = TcpStream::connect(self.listener.local_addr()?)?;
        let (stream, peer) = self.listener.accept()?;
        stream.set_nonblocking(true)?;
        let full = || io::Error::other("no place for a connection");
        let permit = self
            .node
            .addresses
            .enter(peer.ip(), 0)
            .map_err(|_| full())?;
        self.reactor.arrive(Arriving {
            stream,
            layer,
            undecrypted: Vec::new(),
            carried: Vec::new(),
            decoder: ws::Decoder::new(ws::Role::Server, ws::Limits::default())
                .deflating(self.node.config.deflate.map(|_| ws::Deflate::default())),
            peer,
            permit,
            place: self.node.take_place().ok_or_else(full)?,
            kind,
        });
        Ok(client)
    }
}
