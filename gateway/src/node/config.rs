//! What a node is started with: plain values, checked by whoever made them (`config` maps the file
//! to this), with the defaults that tests use.

use crate::accept::addresses::AddressLimits;
use crate::accept::admission;
use crate::accept::slots::{Line, Queue};
use crate::admin::{MetricsSource, TroubleSource};
use axum::Router;
use hawser_engines::directory::Directory;
use hawser_engines::log::Log;
use hawser_engines::presence::PresenceStore;
use hawser_engines::store::Store;
use hawser_fanout::engines::{EngineHealth, IngestLag};
use hawser_fanout::ingest::IngestShare;
use hawser_protocol::limits;
use hawser_protocol::ownership::NodeName;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Seconds' worth of the pace that may wait in a backlog.
const BACKLOG_S: u32 = 5;
/// A backlog is at least so long, whatever the pace.
const BACKLOG_MIN: u32 = 128;
/// Direct descriptors of one ring at most: its table is one allocation of the kernel's.
pub(crate) const FILES_PER_RING_MAX: u64 = 32_768;
/// Addresses known beside those of the sessions.
const ADDRESSES_SPARE: usize = 65_536;

/// One address that clients connect to.
#[derive(Clone)]
pub struct Listener {
    /// Where; port 0 takes a free one (see `NodeHandle::addrs`).
    pub addr: SocketAddr,
    /// TLS with this configuration (its certificate resolver reloads by itself); `None`: plain, which
    /// is refused beyond loopback unless `NodeConfig::plain_anywhere`.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

/// The session rings of a core.
#[derive(Debug, Clone, Copy)]
pub struct RingLimits {
    /// Rings per core. One ring's table is capped by RLIMIT_NOFILE, so several hold more sessions.
    pub rings_per_core: usize,
    /// Direct descriptors per ring: sessions it can hold. About 16 bytes of kernel memory each.
    pub files_per_ring: u32,
    /// Submission queue entries per ring, a power of two; completions are four times as many.
    pub entries: u32,
    /// Receive buffers per ring, a power of two.
    pub buffers: u16,
    /// Bytes of one receive buffer.
    pub buffer_bytes: usize,
}

/// What is let in.
#[derive(Debug, Clone, Copy)]
pub struct AdmissionLimits {
    /// New connections per second and core, sustained.
    pub accepts_per_second: u32,
    /// New connections per core in a burst; 0: 50 ms' worth, with which a storm is let in flat.
    pub accepts_burst: u32,
    /// Handshakes in progress per core; each costs up to some 60 KB while it lasts.
    pub handshakes_max: usize,
    /// Connections per client address (IPv6: per /64); 0: no bound.
    pub per_address_max: u32,
    /// New connections per second and client address, sustained; 0: no bound.
    pub per_address_per_second: u32,
    /// New connections per client address in a burst.
    pub per_address_burst: u32,
    /// Loopback is bounded like any other address: for tests.
    pub per_address_loopback: bool,
    /// Sessions per second of the whole node that begin without being resumed, which costs reads of history.
    pub fresh_per_second: u32,
    /// Sessions of the whole node.
    pub sessions_max: usize,
    /// Resident bytes above which sessions that are not resumed are told to come again, and typing and presence are shed; 0:
    /// no bound.
    pub memory_bytes_low: usize,
    /// Resident bytes above which nobody is let in; 0: no bound.
    pub memory_bytes_max: usize,
}

/// Messages that are compressed on connections that agreed to it (permessage-deflate).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeflateLimits {
    /// Shorter ones are not, bytes of payload.
    pub min_bytes: usize,
    /// 1 (fastest) to 9 (smallest).
    pub level: u8,
}

/// What one session may do.
#[derive(Debug, Clone, Copy)]
pub struct SessionLimits {
    /// Default interval at which a client pings, milliseconds.
    pub heartbeat_ms: u64,
    /// Unacknowledged frames before a session lags.
    pub window_frames: usize,
    /// Unacknowledged bytes before a session lags.
    pub window_bytes: usize,
    /// Sends per second of one user, sustained.
    pub sends_per_second: u32,
    /// Sends of one user in a burst.
    pub sends_burst: u32,
    /// Bytes per second from one user, sustained; the burst is four seconds' worth.
    pub bytes_per_second: u32,
    /// Life of a resume token, milliseconds.
    pub resume_ms: u64,
    /// Unsent bytes older than this close the session, milliseconds.
    pub slow_reader_ms: u64,
    /// TLS, upgrade and Hello together, milliseconds.
    pub hello_ms: u64,
}

/// Socket options of client connections.
#[derive(Debug, Clone, Copy)]
pub struct SocketLimits {
    /// SO_SNDBUF, bytes; 0: the kernel's choice.
    pub send_buffer_bytes: usize,
    /// TCP_NOTSENT_LOWAT, bytes; 0: not set. Bounds what waits unsent in the kernel.
    pub unsent_bytes: u32,
    /// listen(2)'s backlog at most; it is no longer than what the pace lets in within 5 s. The kernel caps it at
    /// `net.core.somaxconn`.
    pub backlog: u32,
}

/// A node of a cluster.
#[derive(Debug, Clone)]
pub struct ClusterConfig {
    /// Among the others; no other may have it.
    pub name: NodeName,
    /// Share of the delivery partitions; 0: none.
    pub weight: u32,
    /// A node that was not heard for so long owns nothing, milliseconds.
    pub lease_ms: u64,
    /// `ws://host:port/v1/ws` for clients without TLS that are sent here; empty: made from the first plain listener.
    pub plain_url: String,
    /// The admin listener as others reach it, `host:port`; empty: made from it.
    pub link: String,
}

/// Everything a node needs to know beside its services.
#[derive(Clone)]
pub struct NodeConfig {
    /// Name in Welcome, logs and metrics.
    pub name: String,
    /// Threads, each with its own runtime and rings.
    pub cores: usize,
    /// Pins thread i to core i of those this process may use.
    pub pin: bool,
    /// Client listeners.
    pub listeners: Vec<Listener>,
    /// Metrics, health and readiness; port 0 takes a free one.
    pub admin: Option<SocketAddr>,
    /// Allows plain listeners beyond loopback (a proxy ends TLS in front).
    pub plain_anywhere: bool,
    /// Origins that browsers may connect from; `*` for any. Loopback pages of this node always may.
    pub origins: Vec<String>,
    /// `wss://host:port/v1/ws` for clients that are sent here; empty: made from the first listener.
    pub public_url: String,
    /// This node among others; `None`: there are none.
    pub cluster: Option<ClusterConfig>,
    /// Serves `/v1/echo`.
    pub echo: bool,
    /// Agrees to compress with clients that offer it; `None`: no offer is accepted.
    pub deflate: Option<DeflateLimits>,
    /// Bytes of replay rings, whole node.
    pub replay_bytes: usize,
    /// Bytes of message records that delivery records refer to, whole node.
    pub body_bytes: usize,
    /// How long a drain may take, milliseconds.
    pub drain_ms: u64,
    /// Not ready while the oldest record that waits for ingest is older.
    pub lag_ready: Duration,
    /// Seals resume tokens; the same on every node of a cluster.
    pub resume_key: [u8; 32],
    /// Bound of a core's inbound queue, messages.
    pub mailbox: usize,
    /// Appends in flight per core.
    pub appends_max: usize,
    /// Rings.
    pub ring: RingLimits,
    /// Admission.
    pub admission: AdmissionLimits,
    /// Sessions.
    pub session: SessionLimits,
    /// Sockets.
    pub socket: SocketLimits,
}

impl AdmissionLimits {
    /// Connections that may wait in one listener's backlog: those that are let in within 5 s. A client gives up after 10 s, and
    /// who finds no room knocks again after 1, 3 and 7 s by TCP itself, so a storm keeps it filled.
    #[must_use]
    pub fn backlog(&self, max: u32) -> u32 {
        let let_in = self.accepts_per_second.saturating_mul(BACKLOG_S);
        let_in.max(BACKLOG_MIN).min(max)
    }

    /// The pace of sessions that are not resumed.
    #[must_use]
    pub fn fresh(&self) -> Queue {
        let per_second = self.fresh_per_second;
        Queue::new(per_second, admission::burst(per_second, 0))
    }

    /// The pace at which `cores` cores can take back those for whom there was no room.
    #[must_use]
    pub fn returns(&self, cores: usize) -> Line {
        let cores = u32::try_from(cores).unwrap_or(u32::MAX);
        let per_second = self.accepts_per_second.saturating_mul(cores);
        Line::new(per_second, admission::burst(per_second, 0))
    }

    /// Bounds of one client address. As many may be known as there are connections, and others whose bucket fills up again.
    #[must_use]
    pub fn of_address(&self) -> AddressLimits {
        AddressLimits {
            connections_max: self.per_address_max,
            per_second: self.per_address_per_second,
            burst: self.per_address_burst,
            loopback: self.per_address_loopback,
            addresses_max: self.sessions_max + ADDRESSES_SPARE,
        }
    }
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            name: "node".to_owned(),
            cores: 1,
            pin: true,
            listeners: Vec::new(),
            admin: None,
            plain_anywhere: false,
            origins: Vec::new(),
            public_url: String::new(),
            cluster: None,
            echo: false,
            deflate: None,
            replay_bytes: 64 << 20,
            body_bytes: 64 << 20,
            drain_ms: 10_000,
            lag_ready: Duration::from_secs(60),
            resume_key: [0; 32],
            mailbox: 8_192,
            appends_max: 8_192,
            ring: RingLimits {
                rings_per_core: 1,
                files_per_ring: 8_192,
                entries: 1_024,
                buffers: 256,
                buffer_bytes: 16_384,
            },
            admission: AdmissionLimits {
                accepts_per_second: 2_000,
                accepts_burst: 0,
                handshakes_max: 4_096,
                per_address_max: 1_024,
                per_address_per_second: 100,
                per_address_burst: 1_024,
                per_address_loopback: false,
                fresh_per_second: 1_000,
                sessions_max: 100_000,
                memory_bytes_low: 0,
                memory_bytes_max: 0,
            },
            session: SessionLimits {
                heartbeat_ms: limits::HEARTBEAT_MS_DEFAULT,
                window_frames: limits::WINDOW_FRAMES,
                window_bytes: limits::WINDOW_BYTES,
                sends_per_second: 50,
                sends_burst: 200,
                bytes_per_second: 1 << 20,
                resume_ms: 7 * 24 * 3_600 * 1_000,
                slow_reader_ms: 60_000,
                hello_ms: limits::HELLO_DEADLINE_MS,
            },
            socket: SocketLimits {
                send_buffer_bytes: 65_536,
                unsent_bytes: 16_384,
                backlog: 65_535,
            },
        }
    }
}

/// What stands behind the edge. Calls that may block are made on the control thread only.
#[derive(Clone)]
pub struct Services {
    /// The log: Kafka or embedded.
    pub log: Arc<dyn Log>,
    /// Messages, for history.
    pub store: Arc<dyn Store>,
    /// Who is online.
    pub presence: Arc<dyn PresenceStore>,
    /// Users and devices.
    pub directory: Arc<dyn Directory>,
    /// Page and API, served by the control thread on the client listeners.
    pub http: Router,
    /// The engines' numbers, for the exporter.
    pub metrics: Vec<MetricsSource>,
    /// How each engine does, for readiness.
    pub health: Vec<EngineHealth>,
    /// What else can be wrong behind the edge, for readiness.
    pub troubles: Vec<TroubleSource>,
    /// How far ingest is behind, for readiness and Pong.
    pub lag: IngestLag,
    /// What this process ingests of a log that others share, if that is a role of it.
    pub ingest: Option<IngestShare>,
}
