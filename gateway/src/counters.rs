//! What the node counts: one cache-padded block of counters, gauges and histograms per core,
//! written by that core alone and read by whoever scrapes.
//!
//! A core adds by a plain load and store (it is the only writer), so a count costs no locked
//! instruction and no shared cache line. Everything refused and every bad input has a counter.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! metrics {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $text:literal, $help:literal;)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(usize)]
        pub enum $name { $(#[doc = $help] $variant,)* }

        impl $name {
            /// All of them, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The exported name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// One sentence for the exporter.
            #[must_use]
            pub fn help(self) -> &'static str {
                match self { $(Self::$variant => $help,)* }
            }
        }
    };
}

metrics! {
    /// Counters that only grow.
    Counter {
        Accepted = "hawser_accepted_total", "Connections accepted.";
        AcceptErrors = "hawser_accept_errors_total", "Failures of accept(2), descriptor exhaustion included.";
        AcceptPausedPace = "hawser_accept_paused_pace_total", "Times a core left newcomers in the backlog until its pace let in the next.";
        AcceptPausedHandshakes = "hawser_accept_paused_handshakes_total", "Times a core left newcomers in the backlog for its bound of handshakes.";
        AcceptPausedMemory = "hawser_accept_paused_memory_total", "Times a core left newcomers in the backlog for want of memory.";
        BacklogGone = "hawser_backlog_gone_total", "Connections that had gone before they were let in.";
        RefusedAddress = "hawser_refused_address_total", "Connections closed before TLS: too many of one address.";
        RefusedAddressRate = "hawser_refused_address_rate_total", "Connections closed before TLS: one address opens them too fast.";
        RefusedSessions = "hawser_refused_sessions_total", "Connections refused: the core holds its maximum of sessions.";
        FreshHeld = "hawser_fresh_held_total", "Sessions without a past that waited for their turn with the connection open.";
        FreshLater = "hawser_fresh_later_total", "Sessions without a past that were told when to come again.";
        RefusedMemory = "hawser_refused_memory_total", "Sessions without a past that were told to come again: memory is above its low watermark.";
        RefusedDraining = "hawser_refused_draining_total", "Connections refused: the node drains.";
        TlsFailures = "hawser_tls_failures_total", "TLS handshakes that failed or were cut short.";
        TlsTruncated = "hawser_tls_truncated_total", "TLS connections that ended without close_notify.";
        TlsRecordErrors = "hawser_tls_record_errors_total", "Established TLS sessions closed for a bad record.";
        HandshakeTimeouts = "hawser_handshake_timeouts_total", "Connections without a complete Hello by the deadline.";
        HandshakeEof = "hawser_handshake_eof_total", "Connections that ended before their Hello.";
        HttpBad = "hawser_http_bad_total", "HTTP heads refused as malformed (400).";
        HttpHeadTooLarge = "hawser_http_head_too_large_total", "HTTP heads refused as too large (431).";
        HttpRequests = "hawser_http_requests_total", "HTTP requests that are no upgrade.";
        HttpHandedOver = "hawser_http_handed_over_total", "HTTP connections handed to the control thread's router.";
        HttpPathUnknown = "hawser_http_path_unknown_total", "Upgrades or requests for a path that is not served (404).";
        OriginRefused = "hawser_origin_refused_total", "Upgrades refused for their Origin (403).";
        SubprotocolRefused = "hawser_subprotocol_refused_total", "Upgrades refused for want of a known subprotocol (400).";
        Upgrades = "hawser_upgrades_total", "WebSocket upgrades answered 101.";
        HelloBad = "hawser_hello_bad_total", "First frames that were no valid Hello.";
        AuthRefused = "hawser_auth_refused_total", "Hellos whose token was refused.";
        AuthExpired = "hawser_auth_expired_total", "Hellos whose token had expired.";
        AuthRevoked = "hawser_auth_revoked_total", "Hellos of a revoked user, device or token.";
        DeviceMismatch = "hawser_device_mismatch_total", "Hellos whose device is not the token's.";
        Handovers = "hawser_handovers_total", "Connections handed to another core.";
        HandoverQueueFull = "hawser_handover_queue_full_total", "Connections refused because the owner core's queue was full.";
        SessionsOpened = "hawser_sessions_opened_total", "Sessions adopted by their owner core.";
        SessionsClosed = "hawser_sessions_closed_total", "Sessions that ended, for any reason.";
        SessionsDisplaced = "hawser_sessions_displaced_total", "Sessions closed because the same device connected again.";
        Resumed = "hawser_resumed_total", "Sessions resumed exactly.";
        NotRecovered = "hawser_not_recovered_total", "Sessions answered recovered=false though they had a resume token.";
        ResumeTokenBad = "hawser_resume_token_bad_total", "Resume tokens that did not open or name another device.";
        FramesIn = "hawser_frames_in_total", "Frames received.";
        FramesOut = "hawser_frames_out_total", "Frames sent.";
        BytesIn = "hawser_bytes_in_total", "Bytes received on sessions, TLS included.";
        BytesOut = "hawser_bytes_out_total", "Bytes sent on sessions, TLS included.";
        SocketSends = "hawser_socket_sends_total", "Socket sends submitted; frames over sends is the coalescing.";
        WsProtocolErrors = "hawser_ws_protocol_errors_total", "Sessions closed for breaking RFC 6455 (1002, 1007, 1009).";
        FrameErrors = "hawser_frame_errors_total", "Frames answered with Error.";
        ProtocolCloses = "hawser_protocol_closes_total", "Sessions closed for breaking the session protocol (4000-4099).";
        RateLimited = "hawser_rate_limited_total", "Frames refused by a session's rate limit.";
        Sends = "hawser_sends_total", "Send frames passed to the log.";
        SendsQueued = "hawser_sends_queued_total", "Sends that the log has.";
        SendsRefused = "hawser_sends_refused_total", "Sends refused by the log, nothing accepted.";
        SendsUnknown = "hawser_sends_unknown_total", "Sends whose outcome is unknown.";
        SendsOverloaded = "hawser_sends_overloaded_total", "Sends refused for the core's bound of in-flight appends.";
        DeliveryRecords = "hawser_delivery_records_total", "Delivery records consumed.";
        DeliveryDuplicates = "hawser_delivery_duplicates_total", "Delivery records dropped below the source's high-water mark.";
        DeliveryBad = "hawser_delivery_bad_total", "Delivery records that could not be decoded.";
        Delivered = "hawser_delivered_total", "Frames delivered to sessions, live and replayed.";
        Replayed = "hawser_replayed_total", "Frames delivered from the replay ring or the log.";
        Lagged = "hawser_lagged_total", "Times a session fell behind its window.";
        LagLogReads = "hawser_lag_log_reads_total", "Reads of the log for sessions behind the replay ring.";
        LagLost = "hawser_lag_lost_total", "Sessions closed because the log no longer holds what they miss.";
        RingEvictions = "hawser_replay_ring_evictions_total", "Entries evicted from the replay rings.";
        ReceiptsDelivered = "hawser_receipts_delivered_total", "Delivered watermarks written from acks.";
        ReceiptsRead = "hawser_receipts_read_total", "Receipts written from Receipt frames.";
        ReceiptsShed = "hawser_receipts_shed_total", "Receipts postponed because the log refused.";
        CursorRecords = "hawser_cursor_records_total", "Records written to the cursors topic.";
        CursorErrors = "hawser_cursor_errors_total", "Records that the cursors topic refused.";
        TypingShed = "hawser_typing_shed_total", "Typing and presence updates shed.";
        ControlShed = "hawser_control_shed_total", "Requests refused because the control thread's queue was full.";
        IdleTimeouts = "hawser_idle_timeouts_total", "Sessions closed for want of a heartbeat (4203).";
        TokenExpiries = "hawser_token_expiries_total", "Live sessions closed because their token expired (4100).";
        Revocations = "hawser_revocations_total", "Live sessions closed because user, device or token was revoked (4003).";
        RevocationsLearnt = "hawser_revocations_learnt_total", "Revocations, and pardons, that a delivery partition told of before the directory's list did.";
        RevocationsNotLearnt = "hawser_revocations_not_learnt_total", "The same beyond the bound: sessions are closed, newcomers refused once the list is read.";
        SlowReaders = "hawser_slow_readers_total", "Sessions closed because their bytes did not drain (4204).";
        Redirected = "hawser_redirected_total", "Hellos answered with the address of the node that owns the user's partition.";
        GrownInPlace = "hawser_grown_in_place_total", "Live sessions that went on in the next generation of delivery without being told.";
        Strays = "hawser_strays_total", "Live sessions told to come again because their user belongs to another core since delivery has grown.";
        SentHome = "hawser_sent_home_total", "Live sessions told that another node owns their partition.";
        ServedTold = "hawser_served_told_total", "Times other nodes were told that a device whose partition another owns has its session here.";
        Relocated = "hawser_relocated_total", "Sessions closed because the node drains (4300).";
        Panics = "hawser_panics_total", "Panics caught while serving one connection.";
        ReadErrors = "hawser_log_read_errors_total", "Errors of a delivery consumer.";
        SyncPages = "hawser_sync_pages_total", "Pages of history read.";
        PresenceShed = "hawser_presence_shed_total", "Presence changes that a core's full mailbox did not take.";
        HttpConnectionsShed = "hawser_http_connections_shed_total", "HTTP connections closed because too many were open.";
        Reloads = "hawser_reloads_total", "Certificates, keys or revocations taken into force without a restart.";
        ReloadErrors = "hawser_reload_errors_total", "Certificates, keys or revocations that could not be read again; the old ones stay in force.";
        Bodies = "hawser_bodies_total", "Message records read from this node's lane of bodies.";
        BodiesShed = "hawser_bodies_shed_total", "Bodies that a core's full mailbox did not take, and sessions told to wait because too many bodies were waited for.";
        BodyHits = "hawser_body_hits_total", "Delivery records that refer to a body which was here.";
        BodyMisses = "hawser_body_misses_total", "Delivery records that refer to a body which was not here (yet).";
        BodyFetches = "hawser_body_fetches_total", "Bodies that a core asked to be read in the store.";
        BodiesGone = "hawser_bodies_gone_total", "Messages passed over for a session because the store no longer has their body.";
        BodyEvictions = "hawser_body_evictions_total", "Bodies forgotten for want of room.";
        DeflateAgreed = "hawser_deflate_agreed_total", "WebSocket upgrades whose ends agreed to compress (permessage-deflate).";
        DeflateMessages = "hawser_deflate_messages_total", "Messages that went out compressed.";
        DeflateShared = "hawser_deflate_shared_total", "Of these, those that had been compressed for another recipient.";
        DeflateInVain = "hawser_deflate_in_vain_total", "Messages that did not get smaller and went out as they were.";
        DeflateBytesBefore = "hawser_deflate_bytes_before_total", "Bytes of their frames before that.";
        DeflateBytesAfter = "hawser_deflate_bytes_after_total", "Bytes of their frames as they went out.";
        InflateMessages = "hawser_inflate_messages_total", "Messages that came compressed.";
        InflateBytesBefore = "hawser_inflate_bytes_before_total", "Bytes of them as they came.";
        InflateBytesAfter = "hawser_inflate_bytes_after_total", "Bytes of them once they were decompressed.";
        InflateTooLarge = "hawser_inflate_too_large_total", "Connections closed because a message was above its limit once it was decompressed (1009).";
        EchoMessages = "hawser_echo_messages_total", "Messages echoed on /v1/echo.";
    }
}

metrics! {
    /// Values that rise and fall.
    Gauge {
        Handshakes = "hawser_handshakes", "Connections in handshake.";
        AcceptPaused = "hawser_accept_paused", "Listeners that leave newcomers in the backlog now.";
        Addresses = "hawser_client_addresses", "Client addresses whose connections and rate are known.";
        MemoryBytes = "hawser_memory_resident_bytes", "Resident bytes of this process.";
        MemoryPressure = "hawser_memory_pressure", "0: below the low memory watermark, 1: above it, 2: above the high one.";
        Sessions = "hawser_sessions", "Sessions held.";
        FreshWaiting = "hawser_fresh_waiting", "Sessions without a past that wait for their turn with the connection open.";
        FreshPromised = "hawser_fresh_promised", "Clients without a past for whom a place is kept when they come again.";
        Lagging = "hawser_lagging_sessions", "Sessions behind their window, or waiting to adopt a head.";
        Tails = "hawser_unsent_tails", "Sessions whose socket has not taken all bytes.";
        TailBytes = "hawser_unsent_tail_bytes", "Bytes in those tails.";
        ReplayBytes = "hawser_replay_ring_bytes", "Bytes in the replay rings.";
        ReplayEntries = "hawser_replay_ring_entries", "Records in the replay rings.";
        BodyBytes = "hawser_body_bytes", "Bytes of bodies that a core's table holds; the cores of a node share them.";
        BodiesWanted = "hawser_bodies_wanted", "Bodies that are waited for.";
        InFlight = "hawser_appends_in_flight", "Appends to the log without an outcome.";
        Users = "hawser_users", "Users with at least one session here.";
        UsersRested = "hawser_users_rested", "Users without a session here whose spent rates are still known.";
        Cursors = "hawser_device_cursors", "Devices with a cursor in this core's partitions.";
        HttpConnections = "hawser_http_connections", "HTTP connections open.";
        ControlWaiting = "hawser_control_waiting", "Requests to the control thread without an answer yet.";
        Partitions = "hawser_partitions", "Delivery partitions that this core reads.";
        PartitionsOwned = "hawser_partitions_owned", "Delivery partitions that this node owns.";
        Nodes = "hawser_nodes", "Nodes of the cluster that are not gone, as far as this one knows.";
        Fenced = "hawser_fenced", "1 while this node's beats do not come back from the log.";
        Guests = "hawser_guests", "Sessions of this core whose partition another node owns.";
        ShardMembers = "hawser_shard_members", "Memberships of edge-sharded groups that this core knows.";
        ShardBytes = "hawser_shard_bytes", "About what they cost, bytes.";
        WaitingForPartition = "hawser_sessions_waiting_for_partition", "Sessions that begin once their partition is read here.";
    }
}

metrics! {
    /// Distributions, microseconds, in powers of two.
    Histogram {
        HandshakeUs = "hawser_handshake_microseconds", "From accept to an authenticated Hello.";
        QueuedUs = "hawser_append_microseconds", "From a Send's arrival to the log's acknowledgement.";
        DeliveryLagMs = "hawser_delivery_lag_milliseconds", "Age of a delivery record when its core consumed it.";
        TurnUs = "hawser_turn_microseconds", "Length of one turn of the session ring.";
    }
}

/// Buckets of a histogram: bucket i counts values below 2^i; the last counts the rest.
pub const BUCKETS: usize = 28;

const COUNTERS: usize = Counter::ALL.len();
const GAUGES: usize = Gauge::ALL.len();
const HISTOGRAMS: usize = Histogram::ALL.len();

struct Buckets {
    counts: [AtomicU64; BUCKETS],
    sum: AtomicU64,
}

/// One core's block. Aligned so that no two cores share a cache line (or its prefetched neighbour).
#[repr(align(128))]
pub struct CoreCounters {
    counters: [AtomicU64; COUNTERS],
    gauges: [AtomicU64; GAUGES],
    histograms: [Buckets; HISTOGRAMS],
}

impl Default for CoreCounters {
    fn default() -> Self {
        Self {
            counters: [const { AtomicU64::new(0) }; COUNTERS],
            gauges: [const { AtomicU64::new(0) }; GAUGES],
            histograms: [const {
                Buckets {
                    counts: [const { AtomicU64::new(0) }; BUCKETS],
                    sum: AtomicU64::new(0),
                }
            }; HISTOGRAMS],
        }
    }
}

impl CoreCounters {
    /// Counts one. Only the owning core calls this.
    pub fn inc(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Counts `n`. Only the owning core calls this.
    pub fn add(&self, counter: Counter, n: u64) {
        bump(&self.counters[counter as usize], n);
    }

    /// Sets a gauge. Only the owning core calls this.
    pub fn set(&self, gauge: Gauge, value: usize) {
        self.gauges[gauge as usize].store(value as u64, Ordering::Relaxed);
    }

    /// Adds one to a distribution. Only the owning core calls this.
    pub fn observe(&self, histogram: Histogram, value: u64) {
        let buckets = &self.histograms[histogram as usize];
        let bucket = (u64::BITS - value.leading_zeros()) as usize;
        bump(&buckets.counts[bucket.min(BUCKETS - 1)], 1);
        bump(&buckets.sum, value);
    }

    /// Present value of a counter; any thread.
    #[must_use]
    pub fn counter(&self, counter: Counter) -> u64 {
        self.counters[counter as usize].load(Ordering::Relaxed)
    }

    /// Present value of a gauge; any thread.
    #[must_use]
    pub fn gauge(&self, gauge: Gauge) -> u64 {
        self.gauges[gauge as usize].load(Ordering::Relaxed)
    }

    /// Counts per bucket, and the sum of all values; any thread.
    #[must_use]
    pub fn histogram(&self, histogram: Histogram) -> ([u64; BUCKETS], u64) {
        let buckets = &self.histograms[histogram as usize];
        let counts = std::array::from_fn(|i| buckets.counts[i].load(Ordering::Relaxed));
        (counts, buckets.sum.load(Ordering::Relaxed))
    }
}

fn bump(cell: &AtomicU64, n: u64) {
    let value = cell.load(Ordering::Relaxed).wrapping_add(n);
    cell.store(value, Ordering::Relaxed);
}

/// All cores' blocks and the control thread's, for whoever scrapes.
#[derive(Clone)]
pub struct NodeCounters {
    cores: Arc<[Arc<CoreCounters>]>,
    control: Arc<CoreCounters>,
    owners: Arc<CoreCounters>,
}

impl NodeCounters {
    /// Blocks for `cores` cores.
    #[must_use]
    pub fn new(cores: usize) -> Self {
        Self {
            cores: (0..cores).map(|_| Arc::default()).collect(),
            control: Arc::default(),
            owners: Arc::default(),
        }
    }

    /// The control thread's block, which that thread alone writes.
    #[must_use]
    pub fn control(&self) -> &Arc<CoreCounters> {
        &self.control
    }

    /// The block of the thread that follows who owns what, which it alone writes.
    #[must_use]
    pub fn owners(&self) -> &Arc<CoreCounters> {
        &self.owners
    }

    /// Every block with its name in exported labels: `0`, `1`, ..., `control` and `owners`.
    pub fn named(&self) -> impl Iterator<Item = (String, &CoreCounters)> {
        let cores = self.cores.iter().enumerate();
        let cores = cores.map(|(index, block)| (index.to_string(), &**block));
        let others = [("control", &self.control), ("owners", &self.owners)];
        cores.chain(others.map(|(name, block)| (name.to_owned(), &**block)))
    }

    /// One core's block.
    ///
    /// # Panics
    /// `core` is not below the number given to `new`: our own fault.
    #[must_use]
    pub fn core(&self, core: usize) -> &Arc<CoreCounters> {
        &self.cores[core]
    }

    /// Every core's block, by core, then those of the other threads.
    pub fn iter(&self) -> impl Iterator<Item = &CoreCounters> {
        let others = [&*self.control, &*self.owners];
        self.cores.iter().map(|c| &**c).chain(others)
    }

    /// Sum of one counter over the node.
    #[must_use]
    pub fn total(&self, counter: Counter) -> u64 {
        self.iter().map(|c| c.counter(counter)).sum()
    }

    /// Sum of one gauge over the node.
    #[must_use]
    pub fn sum(&self, gauge: Gauge) -> u64 {
        self.iter().map(|c| c.gauge(gauge)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_over_all_cores() {
        let node = NodeCounters::new(2);
        node.core(0).inc(Counter::Accepted);
        node.core(1).add(Counter::Accepted, 4);
        assert_eq!(node.total(Counter::Accepted), 5);
        node.core(1).set(Gauge::Sessions, 7);
        node.core(0).set(Gauge::Sessions, 1);
        assert_eq!(node.sum(Gauge::Sessions), 8);
    }

    #[test]
    fn a_histogram_counts_each_value_once_even_beyond_its_last_bucket() {
        let core = CoreCounters::default();
        for value in [0, 1, 2, 3, 1_000, u64::MAX / 2] {
            core.observe(Histogram::TurnUs, value);
        }
        let (counts, _) = core.histogram(Histogram::TurnUs);
        assert_eq!(counts.iter().sum::<u64>(), 6);
        assert_eq!(counts[0], 1);
        assert_eq!(counts[2], 2);
        assert_eq!(counts[BUCKETS - 1], 1);
    }

    #[test]
    fn exported_names_are_unique() {
        let mut names: Vec<_> = Counter::ALL.iter().map(|c| c.name()).collect();
        names.extend(Gauge::ALL.iter().map(|g| g.name()));
        names.extend(Histogram::ALL.iter().map(|h| h.name()));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
