//! Connecting, and refusing what could lose messages.

use super::runner::Runner;
use super::schema::{self, NotReady};
use super::statements::Statements;
use super::{CassandraConfig, CassandraError, Inner};
use scylla::client::PoolSize;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::policies::load_balancing::DefaultPolicy;
use scylla::policies::retry::FallthroughRetryPolicy;
use scylla::statement::Consistency;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long one attempt to connect may take.
const CONNECT: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_secs(1);
/// How often somebody who waits is told so.
const TELL: Duration = Duration::from_secs(5);

pub(super) async fn open(config: &CassandraConfig) -> Result<Inner, CassandraError> {
    let mut patience = Patience::new(config);
    let session = loop {
        match connect(config).await? {
            Ok(session) => break session,
            Err(reason) => patience.again(&reason).await?,
        }
    };
    let statements = loop {
        match ready(&session, config).await {
            Ok(statements) => break statements,
            Err(NotReady::Lasting(error)) => return Err(error),
            Err(NotReady::NotMigrated(error)) => {
                let waited = patience.again(&error.to_string()).await;
                waited.map_err(|_| error)?;
            }
            Err(NotReady::Passing(reason)) => patience.again(&reason).await?,
        }
    };
    Ok(Inner {
        runner: Runner::new(session, config),
        statements,
    })
}

/// How long the start waits, and what is said meanwhile.
struct Patience {
    nodes: String,
    started: Instant,
    until: Instant,
    told: Option<Instant>,
}

impl Patience {
    fn new(config: &CassandraConfig) -> Self {
        let started = Instant::now();
        Self {
            nodes: config.contact_points.join(","),
            started,
            until: started + config.open_timeout,
            told: None,
        }
    }

    /// Waits a little, or gives up.
    async fn again(&mut self, reason: &str) -> Result<(), CassandraError> {
        let nodes = &self.nodes;
        if Instant::now() + AGAIN >= self.until {
            return Err(CassandraError::Unreachable {
                nodes: nodes.clone(),
                waited: self.started.elapsed(),
                reason: reason.to_owned(),
            });
        }
        if self.told.is_none_or(|at| at.elapsed() >= TELL) {
            self.told = Some(Instant::now());
            tracing::warn!(
                nodes,
                reason,
                "waiting for Cassandra (store.contact_points)"
            );
        }
        tokio::time::sleep(AGAIN).await;
        Ok(())
    }
}

/// Connects once; `Ok(Err(_))`: not now.
async fn connect(config: &CassandraConfig) -> Result<Result<Session, String>, CassandraError> {
    let error = match tokio::time::timeout(CONNECT, builder(config)?.build()).await {
        Ok(Ok(session)) => return Ok(Ok(session)),
        Ok(Err(error)) => chain(&error),
        Err(_) => format!("no connection within {CONNECT:?}"),
    };
    if wrong_login(&error) {
        return Err(CassandraError::Credentials {
            user: config.user.clone(),
            reason: error,
        });
    }
    Ok(Err(error))
}

/// Makes or checks the tables.
async fn ready(session: &Session, config: &CassandraConfig) -> Result<Statements, NotReady> {
    check_datacenter(session, config)?;
    schema::prepare(session, config).await?;
    let copies = schema::copies(session, &config.keyspace).await?;
    check_copies(&copies, config)?;
    Statements::prepare(session, config).await
}

fn builder(config: &CassandraConfig) -> Result<SessionBuilder, CassandraError> {
    let mut policy = DefaultPolicy::builder().token_aware(true);
    if !config.local_datacenter.is_empty() {
        policy = policy
            .prefer_datacenter(config.local_datacenter.clone())
            .permit_dc_failover(true);
    }
    // Repetitions are ours: they know the deadline and the breaker.
    let profile = ExecutionProfile::builder()
        .load_balancing_policy(policy.build())
        .retry_policy(Arc::new(FallthroughRetryPolicy::new()))
        .request_timeout(Some(config.deadline))
        .consistency(Consistency::Quorum)
        .serial_consistency(None)
        .build();
    let connections = NonZeroUsize::new(config.connections).unwrap_or(NonZeroUsize::MIN);
    let mut builder = SessionBuilder::new()
        .known_nodes(&config.contact_points)
        .default_execution_profile_handle(profile.into_handle())
        .disallow_shard_aware_port(true)
        .pool_size(PoolSize::PerHost(connections))
        .connection_timeout(CONNECT / 2)
        .tcp_nodelay(true);
    if !config.user.is_empty() {
        builder = builder.user(&config.user, &config.password);
    }
    if let Some(tls) = &config.tls {
        builder = builder.tls_context(Some(tls.config()?));
    }
    Ok(builder)
}

/// An error with what it comes from.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    text
}

/// Cassandra's words for a user or password that it does not take, and the driver's for one that is missing.
fn wrong_login(error: &str) -> bool {
    let error = error.to_ascii_lowercase();
    ["credentials", "authentication", "password"]
        .iter()
        .any(|word| error.contains(word))
}

/// A datacenter that is not there would be preferred in vain.
fn check_datacenter(session: &Session, config: &CassandraConfig) -> Result<(), CassandraError> {
    let wanted = &config.local_datacenter;
    let state = session.get_cluster_state();
    let there = state.get_nodes_info().iter();
    let there: BTreeSet<&str> = there.filter_map(|n| n.datacenter.as_deref()).collect();
    if wanted.is_empty() || there.contains(wanted.as_str()) {
        return Ok(());
    }
    Err(CassandraError::Datacenter {
        wanted: wanted.clone(),
        there: there.into_iter().collect::<Vec<_>>().join(", "),
    })
}

/// QUORUM of fewer than three copies loses messages or availability with one node.
fn check_copies(
    copies: &BTreeMap<String, u16>,
    config: &CassandraConfig,
) -> Result<(), CassandraError> {
    let fewest = copies.values().copied().min().unwrap_or(0);
    if fewest != config.replication.fewest() {
        tracing::warn!(
            ?copies,
            configured = ?config.replication,
            "the keyspace keeps other copies than configured: store.replication counts only when it is made"
        );
    }
    let Some(reason) = unsafe_reason(fewest, copies.len(), config) else {
        return Ok(());
    };
    if !config.allow_unsafe {
        return Err(CassandraError::Unsafe { reason });
    }
    tracing::warn!(reason, "store.allow_unsafe is set");
    Ok(())
}

/// How acknowledged messages could be lost, or missed by those who look for them.
fn unsafe_reason(fewest: u16, datacenters: usize, config: &CassandraConfig) -> Option<String> {
    let keyspace = &config.keyspace;
    if fewest < 3 {
        return Some(format!(
            "keyspace `{keyspace}` keeps {fewest} copies (store.replication): QUORUM needs three to lose a node and no \
             message"
        ));
    }
    if !config.levels.overlap() {
        return Some(
            "reads may miss acknowledged writes (store.consistency): write, write_members, read and read_history need \
             a quorum"
                .to_owned(),
        );
    }
    if datacenters > 1 && config.levels.local() {
        return Some(format!(
            "keyspace `{keyspace}` is in {datacenters} datacenters: local_quorum (store.consistency) in one of them \
             misses what was written in another, unless ingest and all readers are in one"
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cassandra::Levels;

    #[test]
    fn a_refused_login_is_told_from_an_absent_server() {
        assert!(wrong_login(
            "Provided username x and/or password are incorrect: Bad credentials"
        ));
        assert!(!wrong_login("Connection refused (os error 111)"));
    }

    #[test]
    fn what_can_lose_messages_is_named_with_its_key() {
        let mut config = CassandraConfig::new(vec!["a:9042".to_owned()]);
        assert_eq!(unsafe_reason(3, 1, &config), None);
        let says = |copies, datacenters, config: &CassandraConfig, word: &str| {
            let reason = unsafe_reason(copies, datacenters, config);
            assert!(reason.is_some_and(|r| r.contains(word)), "{word}");
        };
        says(2, 1, &config, "store.replication");
        config.levels.read_history = Consistency::One;
        says(3, 1, &config, "store.consistency");
        config.levels = Levels::all(Consistency::LocalQuorum);
        assert_eq!(unsafe_reason(3, 1, &config), None);
        says(3, 2, &config, "local_quorum");
    }
}
