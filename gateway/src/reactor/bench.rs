//! What `crate::bench` gives away.

use super::alone::Alone;
use super::inbox::{Encoding, Greeting, Kind};
use crate::counters::Counter;
use crate::node::config::NodeConfig;
use bytes::Bytes;
use hawser_engines::log::Log;
use hawser_fanout::auth::{Claims, Verifier};
use hawser_protocol::ids::{DeviceId, UserId};
use hawser_protocol::pb;
use hawser_wire::record::Layer;
use std::io;
use std::net::TcpStream;
use std::sync::Arc;

/// A core, alone; see `crate::bench`.
pub struct BenchCore(Alone);

/// Who connects.
pub struct BenchSession {
    /// Whose session.
    pub user: UserId,
    /// Of which device.
    pub device: DeviceId,
    /// JSON instead of binary frames.
    pub json: bool,
    /// The server's end of the record layer.
    pub layer: Layer,
    /// When the token expires, milliseconds since 1970.
    pub expires_at_ms: u64,
}

impl BenchCore {
    /// A core that has all delivery partitions of this log, with the defaults of a node but for its replay ring of so many bytes
    /// and the receive buffers of its io_uring, of which there are so many that no receive finds none.
    ///
    /// # Errors
    /// No ring, no descriptor, or the log cannot be read.
    pub fn new(log: Arc<dyn Log>, verifier: Verifier, replay_bytes: usize) -> io::Result<Self> {
        let mut config = NodeConfig {
            replay_bytes,
            ..NodeConfig::default()
        };
        config.ring.buffers = 2_048;
        config.ring.buffer_bytes = 4_096;
        let alone = Alone::new(config, log, verifier);
        alone.map(Self).map_err(io::Error::other)
    }

    /// A session begins at the head, without a past; the client's socket.
    ///
    /// # Errors
    /// No descriptor, or no place for a connection.
    pub fn join(&mut self, session: BenchSession) -> io::Result<TcpStream> {
        let BenchSession {
            user,
            device,
            json,
            layer,
            expires_at_ms,
        } = session;
        let hello = pb::Hello {
            device: device.as_str().to_owned(),
            live_only: true,
            heartbeat_ms: u32::MAX,
            ..pb::Hello::default()
        };
        let claims = Claims {
            user,
            device: Some(device.clone()),
            expires_at_ms,
            issued_at_ms: 0,
            admin: false,
            jti: None,
        };
        let encoding = match json {
            true => Encoding::Json,
            false => Encoding::Binary,
        };
        let greeting = Greeting {
            encoding,
            hello,
            claims,
            device,
            frames: Bytes::new(),
        };
        self.0.connect(Kind::Session(Box::new(greeting)), layer)
    }

    /// A whole turn. Returns whether there is more to do at once.
    pub fn turn(&mut self) -> bool {
        self.0.reactor.turn()
    }

    /// The part of a turn that reads the partitions and writes each record for its recipients.
    pub fn deliver(&mut self) {
        self.0.reactor.deliver();
    }

    /// The part of a turn that seals what waits and queues it in the ring.
    pub fn flush(&mut self) {
        self.0.reactor.flush();
    }

    /// Hands what is queued to the kernel.
    pub fn submit(&mut self) {
        self.0.reactor.submit();
    }

    /// The part of a turn that takes completions. Returns whether there may be more.
    pub fn events(&mut self) -> bool {
        self.0.reactor.ring_events(0)
    }

    /// Frames that sessions have sent.
    #[must_use]
    pub fn frames_in(&self) -> u64 {
        self.count(Counter::FramesIn)
    }

    /// Records that were written for a session as they came.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.count(Counter::Delivered)
    }

    /// Records that the replay ring has let go.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.0.reactor.replay.evicted()
    }

    fn count(&self, counter: Counter) -> u64 {
        self.0.node.counters.total(counter)
    }
}
