//! Starting and stopping: listeners, mailboxes, one pinned thread per core, the control thread.

use super::config::{NodeConfig, Services};
use super::shared::{Left, NodeShared};
use crate::accept::addresses::AddressTable;
use crate::accept::listener::{BindError, Bound, bind_all};
use crate::admin;
use crate::control::answers::Answers;
use crate::control::bodies::Fetches;
use crate::control::lanes::{LaneNews, LaneTable};
use crate::control::thread::{self as control, Control};
use crate::control::transitions::Transitions;
use crate::counters::{Counter, NodeCounters};
use crate::owners::{Following, Owners, lane, locate};
use crate::reactor::core::{self, CoreSetup};
use crate::reactor::inbox::ToCore;
use crate::reactor::runtime;
use axum::Router;
use axum::routing::get;
use hawser_engines::log::ReadError;
use hawser_fanout::auth::Verifier;
use hawser_fanout::history::History;
use hawser_fanout::ingest::IngestShare;
use hawser_fanout::owners::{Clock, FollowError};
use hawser_ring::{Receiver, Ring, RingError, Waker, mailbox};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};

/// Questions waiting for the control thread; full means shed.
const CONTROL_QUEUE: usize = 8_192;
/// Pause before a full mailbox is tried again.
const MAILBOX_PAUSE: Duration = Duration::from_millis(20);
/// Time for a core to make its rings and reach its loop.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// Why the node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The machine lacks io_uring, or forbids it.
    #[error("{0}")]
    NoIoUring(RingError),
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The log cannot be reached.
    #[error("the log cannot be read: {0}")]
    Log(#[from] ReadError),
    /// The node cannot take its place among the others.
    #[error("cluster: {0}")]
    Cluster(String),
    /// A core could not begin.
    #[error("core {core} did not start: {reason}")]
    Core {
        /// Which.
        core: usize,
        /// Why.
        reason: String,
    },
    /// A thread or descriptor could not be had.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The system's words.
        source: io::Error,
    },
    /// Metrics of one name: ours.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// A running node. Dropping it without `join` leaves its threads running.
pub struct NodeHandle {
    addrs: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
    node: Arc<NodeShared>,
    cores: Vec<JoinHandle<Result<(), String>>>,
    control: JoinHandle<io::Result<()>>,
    stop_control: watch::Sender<bool>,
    owners: Option<JoinHandle<()>>,
    ended: Arc<Notify>,
    /// Why it has to end, where that is no core's failure.
    reason: Arc<OnceLock<String>>,
}

/// Starts a node.
///
/// # Errors
/// See [`StartError`]; nothing is left running.
pub fn start(
    config: NodeConfig,
    services: Services,
    verifier: Arc<Verifier>,
) -> Result<NodeHandle, StartError> {
    Ring::probe().map_err(StartError::NoIoUring)?;
    let cores = config.cores.max(1);
    let mut socket = config.socket;
    socket.backlog = config.admission.backlog(socket.backlog);
    let (bound, addrs) = bind_all(&config.listeners, cores, config.plain_anywhere, &socket)?;
    let (admin, admin_addr) = bind_admin(config.admin)?;
    let mut inboxes = Vec::with_capacity(cores);
    let mut senders = Vec::with_capacity(cores);
    for _ in 0..cores {
        let waker = Waker::new().map_err(|e| io_error("cannot make an eventfd", e))?;
        let (sender, receiver) = mailbox(config.mailbox, waker.clone());
        senders.push(sender);
        inboxes.push((receiver, waker));
    }
    let (to_control, inbox) = mpsc::channel(CONTROL_QUEUE);
    let body_lane = match &config.cluster {
        Some(cluster) => lane::choose(&*services.log, &cluster.name)?,
        None => 0,
    };
    let node = Arc::new(NodeShared {
        clock: Clock::start(),
        counters: NodeCounters::new(cores),
        addresses: AddressTable::new(config.admission.of_address()),
        fresh: config.admission.fresh(),
        returns: config.admission.returns(cores),
        log: services.log.clone(),
        verifier,
        cores: senders,
        control: to_control,
        stop: Waker::new().map_err(|e| io_error("cannot make an eventfd", e))?,
        draining: AtomicBool::new(false),
        end_asked: Notify::new(),
        pressure: AtomicU8::new(0),
        sessions: AtomicUsize::new(0),
        urls: urls(&config, &addrs),
        owners: Arc::new(Owners::new(config.cluster.is_some())),
        ports: addrs.iter().map(SocketAddr::port).collect(),
        health: services.health,
        troubles: services.troubles,
        lag: services.lag,
        lanes: LaneTable::default(),
        body_lane,
        config,
    });
    let registry = admin::exporter(
        node.counters.clone(),
        &node.config.name,
        services.metrics.clone(),
    )?;
    let transitions = Transitions::open(&*services.log)?;
    let lane_news = LaneNews::open(&*services.log)?;
    let (stop_control, stop) = watch::channel(false);
    let control = Control {
        answers: Arc::new(Answers {
            node: node.clone(),
            log: services.log,
            history: History::new(services.store.clone()),
            store: services.store,
            presence: services.presence,
            typing_threads: OnceLock::new(),
            fetches: Fetches::default(),
        }),
        transitions,
        lane_news,
        inbox,
        http: services.http.merge(locate_router(node.clone())),
        admin: admin.map(|listener| (listener, admin::router(node.clone(), registry))),
        stop,
    };
    let control = start_control(control)?;
    let (ended, reason) = (Arc::new(Notify::new()), Arc::new(OnceLock::new()));
    let mut handle = NodeHandle {
        addrs,
        admin: admin_addr,
        node,
        cores: Vec::with_capacity(cores),
        control,
        stop_control,
        owners: None,
        ended,
        reason,
    };
    let started = handle.start_cores(inboxes, bound);
    match started.and_then(|()| handle.join_cluster(admin_addr, services.ingest)) {
        Ok(()) => Ok(handle),
        Err(error) => {
            // The first error is the one to tell.
            let _ = handle.join();
            Err(error)
        }
    }
}

fn start_control(control: Control) -> Result<JoinHandle<io::Result<()>>, StartError> {
    let thread = std::thread::Builder::new().name("hawser-control".to_owned());
    let started = thread.spawn(move || control::run(control));
    started.map_err(|e| io_error("cannot start the control thread", e))
}

impl NodeHandle {
    /// Client listeners, in the configuration's order, with their real ports.
    #[must_use]
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// The admin listener.
    #[must_use]
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// What the node counts.
    #[must_use]
    pub fn counters(&self) -> &NodeCounters {
        &self.node.counters
    }

    /// Sessions now.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.node.sessions.load(Ordering::Relaxed)
    }

    /// What a drain has to move.
    pub(crate) fn left(&self) -> Left {
        self.node.left()
    }

    /// Returns why when the node has to end: a core has ended, which none does by itself unless it failed, or another
    /// process has this node's name.
    pub async fn ended(&self) -> String {
        self.ended.notified().await;
        let reason = self.reason.get().map(String::as_str);
        reason.unwrap_or("a core has ended").to_owned()
    }

    /// Returns when an operator asks the process to end, as by SIGTERM.
    pub async fn end_asked(&self) {
        self.node.end_asked.notified().await;
    }

    /// Keys or revocations were read again: every live session's token is judged anew.
    pub fn recheck(&self) {
        recheck(&self.node);
    }

    /// The same for whoever outlives this handle's owner; does nothing once the node is gone.
    pub fn rechecker(&self) -> impl Fn() + Send + 'static {
        let node = Arc::downgrade(&self.node);
        move || {
            if let Some(node) = node.upgrade() {
                recheck(&node);
            }
        }
    }

    /// Counts what was taken into force without a restart, or could not be.
    pub(crate) fn reloaded(&self, taken: bool) {
        // No other thread writes these two.
        let counter = if taken {
            Counter::Reloads
        } else {
            Counter::ReloadErrors
        };
        self.node.counters.control().inc(counter);
    }

    /// Takes no more sessions and tells every one to move. Returns at once; see `sessions`.
    pub fn drain(&self) {
        if !self.node.begin_draining() {
            return;
        }
        let deadline_ms = self.node.config.drain_ms;
        for core in &self.node.cores {
            // A mailbox that is full now is not full for ever; `join` stops the core all the same.
            let _ = core.try_send(ToCore::Drain { deadline_ms });
        }
    }

    /// Closes what is left and waits for the threads.
    ///
    /// # Errors
    /// What a core or the control thread failed of.
    pub fn join(self) -> Result<(), String> {
        self.node.draining.store(true, Ordering::Release);
        self.node.stop.wake();
        let mut result = Ok(());
        // From now on the others send nobody here.
        self.node.owners.end();
        if let Some(owners) = self.owners {
            let ended = owners.join();
            result = ended.map_err(|_| "the thread of owners panicked".to_owned());
        }
        for (index, core) in self.cores.into_iter().enumerate() {
            while !core.is_finished() && self.node.cores[index].try_send(ToCore::Stop).is_err() {
                std::thread::sleep(MAILBOX_PAUSE);
            }
            let ended = core
                .join()
                .unwrap_or_else(|_| Err("the thread panicked".to_owned()));
            result = result.and(ended.map_err(|reason| format!("core {index}: {reason}")));
        }
        self.stop_control.send_replace(true);
        let control = self
            .control
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread panicked")));
        result.and(control.map_err(|e| format!("control thread: {e}")))
    }

    /// Takes a place among the nodes, now that clients can be served.
    fn join_cluster(
        &mut self,
        admin: Option<SocketAddr>,
        ingest: Option<IngestShare>,
    ) -> Result<(), StartError> {
        let Some(cluster) = &self.node.config.cluster else {
            return Ok(());
        };
        let (ended, reason) = (self.ended.clone(), self.reason.clone());
        let following = Following {
            log: self.node.log.clone(),
            owners: self.node.owners.clone(),
            cores: self.node.cores.clone(),
            clock: self.node.clock,
            counters: self.node.counters.owners().clone(),
            ingest,
            body_lane: self.node.body_lane,
            displaced: Box::new(move |words| {
                // Once only.
                let _ = reason.set(words);
                ended.notify_one();
            }),
        };
        let link = hawser_fanout::owners::link(&cluster.link, admin);
        let urls = self.node.urls.clone().map(reachable);
        let started = following.start(cluster, urls, link);
        self.owners =
            Some(started.map_err(|error: FollowError| StartError::Cluster(error.to_string()))?);
        Ok(())
    }

    fn start_cores(
        &mut self,
        inboxes: Vec<(Receiver<ToCore>, Waker)>,
        bound: Vec<Vec<Bound>>,
    ) -> Result<(), StartError> {
        let usable = if self.node.config.pin {
            runtime::usable_cores()
        } else {
            Vec::new()
        };
        let (started, starts) = sync_channel(bound.len().max(1));
        for (index, ((inbox, waker), listeners)) in inboxes.into_iter().zip(bound).enumerate() {
            let setup = CoreSetup {
                index,
                node: self.node.clone(),
                listeners,
                inbox,
                waker,
                pin: (!usable.is_empty()).then(|| usable[index % usable.len()]),
            };
            let (started, ended) = (started.clone(), self.ended.clone());
            let thread = std::thread::Builder::new()
                .name(format!("hawser-core-{index}"))
                .spawn(move || {
                    let result = run_core(setup, &started);
                    ended.notify_one();
                    result
                })
                .map_err(|e| io_error("cannot start a core's thread", e))?;
            self.cores.push(thread);
        }
        drop(started);
        for _ in 0..self.cores.len() {
            match starts.recv_timeout(START_PATIENCE) {
                Ok((_, Ok(()))) => {}
                Ok((core, Err(reason))) => return Err(StartError::Core { core, reason }),
                Err(_) => {
                    let reason = "no word from it".to_owned();
                    return Err(StartError::Core { core: 0, reason });
                }
            }
        }
        Ok(())
    }
}

fn recheck(node: &NodeShared) {
    for core in &node.cores {
        // A full mailbox is looked at by the next reload.
        let _ = core.try_send(ToCore::Recheck);
    }
}

/// What the node itself answers beside page and API.
fn locate_router(node: Arc<NodeShared>) -> Router {
    let router = Router::new().route("/v1/locate", get(locate::locate));
    router.with_state(node)
}

/// A core's thread, from its runtime to its end.
fn run_core(
    setup: CoreSetup,
    started: &SyncSender<(usize, Result<(), String>)>,
) -> Result<(), String> {
    let index = setup.index;
    // The channel has a place for every core; whoever waited may have given up.
    let tell = |result: Result<(), String>| drop(started.try_send((index, result)));
    let result = core::run(setup, || tell(Ok(()))).map_err(|error| error.to_string());
    if let Err(reason) = &result {
        tracing::error!(core = index, %reason, "a core has failed");
        tell(result.clone());
    }
    result
}

fn bind_admin(
    addr: Option<SocketAddr>,
) -> Result<(Option<TcpListener>, Option<SocketAddr>), StartError> {
    let Some(addr) = addr else {
        return Ok((None, None));
    };
    let bind = || {
        let listener = TcpListener::bind(addr)?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        Ok((listener, addr))
    };
    let (listener, addr) = bind().map_err(|source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::Taken { addr },
        _ => BindError::Io { addr, source },
    })?;
    Ok((Some(listener), Some(addr)))
}

/// The configured addresses, or the first listener's of each kind: over TLS, and without.
fn urls(config: &NodeConfig, addrs: &[SocketAddr]) -> [String; 2] {
    let first = |tls: bool, scheme: &str| {
        let mut listeners = config.listeners.iter().zip(addrs);
        let found = listeners.find(|(listener, _)| listener.tls.is_some() == tls);
        found.map_or_else(String::new, |(_, addr)| format!("{scheme}://{addr}/v1/ws"))
    };
    let given = |given: &str, made: String| match given {
        "" => made,
        given => given.to_owned(),
    };
    let plain = config.cluster.as_ref().map_or("", |c| c.plain_url.as_str());
    [
        given(&config.public_url, first(true, "wss")),
        given(plain, first(false, "ws")),
    ]
}

/// An address that other machines' clients can be sent to: not "all addresses".
fn reachable(url: String) -> String {
    let everywhere = ["//0.0.0.0:", "//[::]:"]
        .iter()
        .any(|all| url.contains(all));
    if everywhere {
        tracing::warn!(%url, "clients cannot be sent to this address from other nodes: set listen.public_url");
        return String::new();
    }
    url
}

fn io_error(what: &'static str, source: io::Error) -> StartError {
    StartError::Io { what, source }
}
