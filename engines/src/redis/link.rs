//! One connection to a server, or the connections to a cluster: many commands in one round trip.

use super::config::{RedisConfig, address};
use super::error::RedisError;
use futures_util::future::join_all;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ConnectionAddr, ConnectionInfo,
    IntoConnectionInfo, Pipeline, ProtocolVersion, RedisConnectionInfo, RedisResult,
    TlsCertificates, Value,
};
use std::path::Path;
use std::time::Duration;

/// Connects to what the configuration says.
#[derive(Clone)]
pub(super) enum Maker {
    Single(Client, Duration),
    Cluster(redis::cluster::ClusterClient),
}

/// Connected. Clones share the connection, their commands are pipelined.
#[derive(Clone)]
pub(super) enum Link {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Maker {
    /// Looks at the configuration and reads the certificates; connects nowhere.
    pub(super) fn new(config: &RedisConfig) -> Result<Self, RedisError> {
        config.check()?;
        let timeout = Duration::from_millis(u64::from(config.timeout_ms));
        let certificates = certificates(config)?;
        let nodes = config.servers.iter().map(|server| node(server, config));
        let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
        let wrong = |error: redis::RedisError| RedisError::of(&error, config);
        if config.cluster {
            let mut builder = ClusterClientBuilder::new(nodes)
                .connection_timeout(timeout)
                .response_timeout(timeout)
                .overall_response_timeout(Some(timeout))
                // What a moved slot or a new primary takes; the time-out is above all of them.
                .retries(3)
                .min_retry_wait(5)
                .max_retry_wait(50);
            if let Some(certificates) = certificates {
                builder = builder.certs(certificates);
            }
            return Ok(Self::Cluster(builder.build().map_err(wrong)?));
        }
        let Some(node) = nodes.into_iter().next() else {
            return Err(RedisError::Setting {
                key: "presence.servers",
                rule: "name at least one server, host:port".to_owned(),
            });
        };
        let client = match certificates {
            Some(certificates) => Client::build_with_tls(node, certificates),
            None => Client::open(node),
        };
        Ok(Self::Single(client.map_err(wrong)?, timeout))
    }

    /// Connects, logs in.
    pub(super) async fn connect(&self) -> RedisResult<Link> {
        match self {
            Self::Single(client, timeout) => {
                let config = AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(*timeout))
                    .set_response_timeout(Some(*timeout));
                let link = client.get_multiplexed_async_connection_with_config(&config);
                Ok(Link::Single(link.await?))
            }
            Self::Cluster(client) => Ok(Link::Cluster(client.get_async_connection().await?)),
        }
    }
}

impl Link {
    /// Whether one command may name many keys.
    pub(super) fn takes_many_keys(&self) -> bool {
        matches!(self, Self::Single(_))
    }

    /// Sends all at once and gives their answers in order: one pipeline to a server, in a cluster one
    /// batch to each of its nodes.
    pub(super) async fn run(&mut self, commands: Vec<Cmd>) -> RedisResult<Vec<Value>> {
        let answers = match self {
            Self::Single(link) => {
                let mut pipeline = Pipeline::with_capacity(commands.len());
                let count = commands.len();
                commands.into_iter().for_each(|command| {
                    pipeline.add_command(command);
                });
                link.req_packed_commands(&pipeline, 0, count).await?
            }
            Self::Cluster(link) => {
                let each = commands.into_iter().map(|command| {
                    let mut link = link.clone();
                    async move { link.req_packed_command(&command).await }
                });
                let answers = join_all(each).await;
                answers.into_iter().collect::<RedisResult<_>>()?
            }
        };
        answers.into_iter().map(Value::extract_error).collect()
    }
}

fn node(server: &str, config: &RedisConfig) -> Result<ConnectionInfo, RedisError> {
    let (host, port) = address(server)?;
    let host = host.to_owned();
    let addr = match config.tls {
        None => ConnectionAddr::Tcp(host, port),
        Some(_) => ConnectionAddr::TcpTls {
            host,
            port,
            insecure: false,
            tls_params: None,
        },
    };
    let mut login = RedisConnectionInfo::default()
        .set_db(i64::from(config.database))
        .set_protocol(ProtocolVersion::RESP2)
        .set_lib_name("hawser", env!("CARGO_PKG_VERSION"));
    if let Some(user) = &config.user {
        login = login.set_username(user);
    }
    if let Some(password) = &config.password {
        login = login.set_password(password);
    }
    let node = addr.into_connection_info();
    let node = node.map_err(|error| RedisError::of(&error, config))?;
    Ok(node.set_redis_settings(login))
}

/// Certificates as texts, which is how the client takes them.
fn certificates(config: &RedisConfig) -> Result<Option<TlsCertificates>, RedisError> {
    let Some(tls) = &config.tls else {
        return Ok(None);
    };
    // Says what is wrong with the files in our words, before the client reads them in its own.
    tls.config().map_err(|error| RedisError::Setting {
        key: "presence.tls_ca",
        rule: error.to_string(),
    })?;
    // The client takes the process's provider: the only one in the build, unless one was chosen before.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let client_tls = match &tls.identity {
        None => None,
        Some((chain, key)) => Some(ClientTlsConfig {
            client_cert: read("presence.tls_cert", chain)?,
            client_key: read("presence.tls_key", key)?,
        }),
    };
    let ca = tls.ca.as_deref();
    Ok(Some(TlsCertificates {
        client_tls,
        root_cert: ca.map(|ca| read("presence.tls_ca", ca)).transpose()?,
    }))
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, RedisError> {
    std::fs::read(path).map_err(|error| RedisError::Setting {
        key,
        rule: format!("{}: {error}", path.display()),
    })
}
