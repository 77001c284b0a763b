//! From the configuration file to what a node is started with.

use super::Config;
use crate::node::config::{
    AdmissionLimits, ClusterConfig, DeflateLimits, FILES_PER_RING_MAX, Listener, NodeConfig,
    RingLimits, SessionLimits, SocketLimits,
};
use crate::node::memory;
use hawser_fanout::owners::{host_name, node_name};
use hawser_fanout::settings::SettingsError;
use std::sync::Arc;
use std::time::Duration;

/// Rings of one core at most.
const RINGS_PER_CORE_MAX: usize = 64;
/// Bytes of a send that may wait unsent in the kernel.
const UNSENT_BYTES: u32 = 16_384;

/// What the file says, for a process that may open `descriptors` files.
///
/// # Errors
/// An address that is none.
pub fn node_config(
    config: &Config,
    tls: &Arc<rustls::ServerConfig>,
    resume_key: [u8; 32],
    descriptors: u64,
) -> Result<NodeConfig, SettingsError> {
    let plain = config
        .http_addrs()?
        .into_iter()
        .map(|addr| Listener { addr, tls: None });
    let secure = config.wss_addrs()?.into_iter().map(|addr| Listener {
        addr,
        tls: Some(tls.clone()),
    });
    let cores = cores(config);
    let limits = &config.limits;
    let memory_bytes_max = memory::watermark_bytes(config.node.memory_max_mib);
    Ok(NodeConfig {
        name: name(config),
        cores,
        pin: true,
        listeners: plain.chain(secure).collect(),
        admin: config.admin_addr()?,
        plain_anywhere: config.listen.plain_anywhere,
        origins: config.listen.origins.clone(),
        public_url: config.listen.public_url.clone(),
        cluster: cluster(config)?,
        echo: config.listen.echo,
        deflate: deflate(config),
        replay_bytes: (limits.replay_mib as usize) << 20,
        body_bytes: (limits.bodies_mib as usize) << 20,
        drain_ms: sessions_drain_ms(config),
        lag_ready: Duration::from_secs(u64::from(config.engines.lag_ready_s)),
        resume_key,
        ring: rings(config, cores, descriptors),
        admission: AdmissionLimits {
            accepts_per_second: limits.accepts_per_second,
            accepts_burst: limits.accepts_burst,
            handshakes_max: limits.handshakes_max as usize,
            per_address_max: limits.per_address,
            per_address_per_second: limits.per_address_per_second,
            per_address_burst: limits.per_address_burst,
            per_address_loopback: false,
            fresh_per_second: limits.fresh_per_second,
            sessions_max: config.node.max_sessions as usize,
            memory_bytes_low: memory::low_watermark_bytes(
                config.node.memory_low_mib,
                memory_bytes_max,
            ),
            memory_bytes_max,
        },
        session: SessionLimits {
            heartbeat_ms: config.session.heartbeat_ms,
            window_frames: usize::from(config.session.window_frames),
            window_bytes: config.session.window_bytes as usize,
            sends_per_second: config.session.sends_per_second,
            sends_burst: config.session.sends_burst,
            bytes_per_second: config.session.bytes_per_second,
            resume_ms: config.session.resume_ms,
            slow_reader_ms: config.session.slow_reader_ms,
            hello_ms: config.session.hello_ms,
        },
        socket: SocketLimits {
            send_buffer_bytes: limits.send_buffer_bytes as usize,
            unsent_bytes: UNSENT_BYTES,
            ..NodeConfig::default().socket
        },
        ..NodeConfig::default()
    })
}

/// The part of an end in which sessions are moved; the rest is for closing the engines.
#[must_use]
pub fn sessions_drain_ms(config: &Config) -> u64 {
    config.node.drain_ms / 5 * 4
}

/// What is compressed, if anything.
pub(super) fn deflate(config: &Config) -> Option<DeflateLimits> {
    let section = &config.websocket;
    (section.deflate == "on").then_some(DeflateLimits {
        min_bytes: section.deflate_min_bytes as usize,
        level: section.deflate_level,
    })
}

/// Cores to run: as configured, or all that this process may use.
fn cores(config: &Config) -> usize {
    match config.node.cores {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        cores => usize::from(cores),
    }
}

/// This node among others, where the log is one that others can share.
fn cluster(config: &Config) -> Result<Option<ClusterConfig>, SettingsError> {
    if config.log.kind == "embedded" {
        return Ok(None);
    }
    let first = config
        .wss_addrs()?
        .into_iter()
        .chain(config.http_addrs()?)
        .next();
    let port = first.map_or(0, |addr| addr.port());
    let name = match config.node.name.as_str() {
        "" => format!("{}-{port}", name(config)),
        name => name.to_owned(),
    };
    Ok(Some(ClusterConfig {
        name: node_name("node.name", &name)?,
        weight: config.cluster.weight,
        lease_ms: config.cluster.lease_ms,
        plain_url: config.listen.plain_url.clone(),
        link: config.cluster.link.clone(),
    }))
}

fn name(config: &Config) -> String {
    if !config.node.name.is_empty() {
        return config.node.name.clone();
    }
    match host_name() {
        host if host.is_empty() => "hawser".to_owned(),
        host => host,
    }
}

/// As many rings as the sessions need: users do not spread evenly over the cores, so each has a quarter
/// to spare.
fn rings(config: &Config, cores: usize, descriptors: u64) -> RingLimits {
    let files = descriptors.clamp(64, FILES_PER_RING_MAX);
    let per_core = (config.node.max_sessions as usize).div_ceil(cores);
    let per_core = if cores == 1 {
        per_core
    } else {
        per_core + per_core / 4
    };
    let wanted = (per_core as u64).max(1);
    let rings_per_core = match config.node.rings_per_core {
        0 => usize::try_from(wanted.div_ceil(files)).unwrap_or(RINGS_PER_CORE_MAX),
        rings => usize::from(rings),
    };
    let rings_per_core = rings_per_core.min(RINGS_PER_CORE_MAX);
    let files = wanted.div_ceil(rings_per_core as u64).clamp(64, files);
    RingLimits {
        rings_per_core,
        files_per_ring: u32::try_from(files).unwrap_or(u32::MAX),
        buffers: config.limits.ring_buffers,
        buffer_bytes: config.limits.ring_buffer_bytes as usize,
        ..NodeConfig::default().ring
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rings_of(sessions: u32, cores: usize, descriptors: u64) -> RingLimits {
        let mut config = Config::default();
        config.node.max_sessions = sessions;
        rings(&config, cores, descriptors)
    }

    #[test]
    fn there_are_rings_for_every_session_below_the_descriptor_limit() {
        for (sessions, cores, descriptors) in [
            (100, 1, 1_024),
            (100_000, 2, 20_000),
            (1_000_000, 16, 1 << 20),
            (1, 4, 64),
        ] {
            let ring = rings_of(sessions, cores, descriptors);
            let places = cores * ring.rings_per_core * ring.files_per_ring as usize;
            assert!(places >= sessions as usize, "{sessions}/{cores}: {ring:?}");
            assert!(u64::from(ring.files_per_ring) <= descriptors, "{ring:?}");
        }
        assert_eq!(rings_of(8_000, 1, 20_000).rings_per_core, 1);
        assert_eq!(rings_of(100_000, 2, 20_000).rings_per_core, 4);
    }
}
