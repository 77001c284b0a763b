//! The gateway that is attacked: where it is, and what a stranger or a member may say to it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Parser as _;
use hawser_loadgen::args::Args;
use hawser_loadgen::engine::wall_ms;
use hawser_loadgen::target;
use hawser_loadgen::tokens::Signer;
use hawser_protocol::frame::ClientFrame;
use hawser_protocol::pb;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use super::raw;

/// A page of metrics is at most this long, and comes within this time.
const PAGE_BYTES_MAX: u64 = 8 << 20;
const PAGE_DEADLINE: Duration = Duration::from_secs(10);

/// Where a gateway is; `dev/with-gateway` sets the variables.
#[derive(Debug, Clone, clap::Args)]
pub struct Place {
    /// Its plain WebSocket, on loopback.
    #[arg(long, env = "HAWSER_WS")]
    pub ws: String,
    /// The same with TLS.
    #[arg(long, env = "HAWSER_WSS")]
    pub wss: String,
    /// Its HTTP API.
    #[arg(long, env = "HAWSER_HTTP")]
    pub api: String,
    /// Its admin listener.
    #[arg(long, env = "HAWSER_ADMIN")]
    pub admin: String,
    /// Its data directory, for tokens.
    #[arg(long, env = "HAWSER_DATA")]
    pub key: PathBuf,
    /// Its process.
    #[arg(long, env = "HAWSER_PID")]
    pub pid: u32,
}

/// See the module.
pub struct Site {
    /// Where.
    pub place: Place,
    /// Its plain listener.
    pub plain: SocketAddr,
    /// Its TLS listener.
    pub tls: SocketAddr,
    /// A client's TLS, which takes any certificate.
    pub client: Arc<ClientConfig>,
    /// Whom it is called.
    pub name: ServerName<'static>,
    signer: Signer,
    unique: AtomicU64,
}

/// Where a session goes on: its resume token, and the offset seen last.
#[derive(Debug, Clone, Default)]
pub struct Past {
    /// The latest resume token.
    pub token: bytes::Bytes,
    /// The latest offset.
    pub offset: Option<u64>,
}

impl Site {
    /// Looks where the gateway is.
    ///
    /// # Errors
    /// An address is none, or not of this machine; the key cannot be read.
    pub fn open(place: Place) -> anyhow::Result<Self> {
        let plain_args = loadgen(&place, &["--url", &place.ws])?;
        let (_, plain, _) = target::resolve(&plain_args)?;
        let tls_args = loadgen(&place, &["--url", &place.wss])?;
        let (tls_target, tls, _) = target::resolve(&tls_args)?;
        let (client, name) = tls_target.tls.context("--wss: give wss://..")?;
        let signer = Signer::open(&tls_args)?;
        Ok(Self {
            plain: *plain.first().context("--ws has no address")?,
            tls: *tls.first().context("--wss has no address")?,
            client,
            name,
            signer,
            unique: AtomicU64::new(1),
            place,
        })
    }

    /// Arguments of the load generator for this gateway.
    ///
    /// # Errors
    /// One of them is wrong.
    pub fn loadgen(&self, more: &[&str]) -> anyhow::Result<Args> {
        loadgen(&self.place, more)
    }

    /// A WebSocket frame that holds a Hello of this user's device.
    #[must_use]
    pub fn hello(&self, user: &str, device: &str, past: Past) -> Vec<u8> {
        let unique = self.unique.fetch_add(1, Ordering::Relaxed);
        let hello = ClientFrame::Hello(pb::Hello {
            token: self.signer.token(user, device, wall_ms() / 1_000, unique),
            device: device.to_owned(),
            client: "attacks/1".to_owned(),
            resume_token: past.token,
            last_offset: past.offset,
            live_only: true,
            ..pb::Hello::default()
        });
        wrapped(&hello)
    }

    /// The bytes of a ClientHello, as a browser of today says it: with a post-quantum key.
    ///
    /// # Errors
    /// Ours: the configuration is not sound.
    pub fn client_hello(&self) -> anyhow::Result<Vec<u8>> {
        let mut connection = ClientConnection::new(Arc::clone(&self.client), self.name.clone())?;
        let mut bytes = Vec::new();
        connection.write_tls(&mut bytes)?;
        Ok(bytes)
    }

    /// The gateway's metrics.
    ///
    /// # Errors
    /// It does not answer.
    pub fn metrics(&self) -> anyhow::Result<Metrics> {
        let admin = self.place.admin.trim_start_matches("http://");
        let mut stream = TcpStream::connect(admin)?;
        stream.set_read_timeout(Some(PAGE_DEADLINE))?;
        let request =
            format!("GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut page = String::new();
        stream.take(PAGE_BYTES_MAX).read_to_string(&mut page)?;
        if !page.starts_with("HTTP/1.1 200") {
            bail!("the metrics at {admin} cannot be read");
        }
        Ok(Metrics(page))
    }
}

/// A frame of the session protocol as one WebSocket message.
#[must_use]
pub fn wrapped(frame: &ClientFrame) -> Vec<u8> {
    let (mut inner, mut out) = (Vec::new(), Vec::new());
    frame.encode(&mut inner);
    raw::frame(0x82, &inner, &mut out);
    out
}

fn loadgen(place: &Place, more: &[&str]) -> anyhow::Result<Args> {
    let key = place.key.to_str().context("--key is not UTF-8")?;
    let own = [
        "hawser-loadgen",
        "--quiet",
        "--key",
        key,
        "--api",
        &place.api,
    ];
    let args = Args::try_parse_from(own.iter().chain(more))?;
    args.check().map_err(anyhow::Error::msg)?;
    Ok(args)
}

/// A page of metrics.
#[derive(Debug, Clone)]
pub struct Metrics(String);

impl Metrics {
    /// Cores that the node runs, each of which has its own numbers.
    #[must_use]
    pub fn cores(&self) -> u64 {
        let of = |line: &&str| {
            let core = line.strip_prefix("hawser_sessions{core=\"");
            core.is_some_and(|core| core.starts_with(|first: char| first.is_ascii_digit()))
        };
        self.0.lines().filter(of).count() as u64
    }

    /// How much a counter has grown since an earlier page, added up over the cores.
    #[must_use]
    pub fn grown(&self, since: &Self, name: &str) -> u64 {
        self.whole(name).saturating_sub(since.whole(name))
    }

    /// A number as [`Metrics::sum`], whole.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "counts and bytes are whole and far below 2^53"
    )]
    pub fn whole(&self, name: &str) -> u64 {
        self.sum(name) as u64
    }

    /// A number, added up over the cores; 0 where there is none.
    #[must_use]
    pub fn sum(&self, name: &str) -> f64 {
        let lines = self.0.lines().filter(|line| !line.starts_with('#'));
        let values = lines.filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let is_it = series.split('{').next() == Some(name);
            is_it.then(|| value.parse::<f64>().ok()).flatten()
        });
        values.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_added_up_over_cores_and_known_by_their_whole_name() {
        let page = "# HELP a x\na{core=\"0\"} 2\na{core=\"1\"} 3\nab 7\nb 1\n";
        let metrics = Metrics(page.to_owned());
        assert_eq!((metrics.sum("a"), metrics.sum("ab")), (5.0, 7.0));
        assert!(metrics.sum("c").abs() < f64::EPSILON);
        let page = "hawser_sessions{core=\"0\"} 1\nhawser_sessions{core=\"control\"} 0\n";
        assert_eq!(Metrics(page.to_owned()).cores(), 1);
    }
}
