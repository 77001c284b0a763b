//! The thread itself: one tokio runtime with a bounded pool for what blocks.

use super::answers::{Answers, produce_ephemeral};
use super::http::{self, HttpConnection};
use super::lanes::LaneNews;
use super::message::ToControl;
use super::pools::{Pools, THREADS_MAX};
use super::presence::{OnlineUsers, PresenceDue};
use super::transitions::Transitions;
use crate::counters::{CoreCounters, Counter, Gauge};
use crate::node::memory;
use crate::node::shared::NodeShared;
use crate::owners::peers;
use axum::Router;
use hawser_engines::log::Topic;
use hawser_engines::presence::Presence;
use hawser_fanout::signals;
use hawser_protocol::ids::UserId;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::MissedTickBehavior;

/// HTTP connections open at once; beyond, they are closed.
const HTTP_CONNECTIONS_MAX: usize = 1_024;
/// How often presence, memory and the like are looked at.
const TICK: Duration = Duration::from_millis(500);
/// Batches of presence per round.
const BATCHES_PER_ROUND: usize = 16;
/// Messages of the cores taken before others get their turn.
const MESSAGES_PER_TURN: usize = 256;

/// What the thread is made of.
pub(crate) struct Control {
    pub(crate) answers: Arc<Answers>,
    pub(crate) transitions: Transitions,
    pub(crate) lane_news: LaneNews,
    pub(crate) inbox: mpsc::Receiver<ToControl>,
    /// Page and API.
    pub(crate) http: Router,
    /// The admin listener and what it serves.
    pub(crate) admin: Option<(TcpListener, Router)>,
    /// True ends the thread.
    pub(crate) stop: watch::Receiver<bool>,
}

/// Runs until told to stop.
///
/// # Errors
/// The runtime cannot be made: the process is out of descriptors.
pub(crate) fn run(control: Control) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(THREADS_MAX)
        .thread_name("hawser-engines")
        .build()?;
    runtime.block_on(turn(control));
    // What still blocks may end by itself; nobody waits for its answer.
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(())
}

/// What the loop keeps between turns.
struct State {
    node: Arc<NodeShared>,
    counters: Arc<CoreCounters>,
    answers: Arc<Answers>,
    pools: Pools,
    connections: Arc<Semaphore>,
    online: OnlineUsers,
    /// One batch of presence at a time is on its way.
    presence_busy: Arc<Semaphore>,
    http: Router,
}

async fn turn(mut control: Control) {
    let node = control.answers.node.clone();
    let pools = Pools::new();
    control
        .answers
        .typing_threads
        .get_or_init(|| pools.presence_threads());
    let mut state = State {
        counters: node.counters.control().clone(),
        node,
        answers: control.answers,
        pools,
        connections: Arc::new(Semaphore::new(HTTP_CONNECTIONS_MAX)),
        online: OnlineUsers::default(),
        presence_busy: Arc::new(Semaphore::new(1)),
        http: control.http,
    };
    if let Some((listener, router)) = control.admin.take() {
        tokio::spawn(serve_admin(listener, router));
    }
    if state.node.owners.in_cluster() {
        tokio::spawn(peers::watch(state.node.clone()));
    }
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut messages = Vec::with_capacity(MESSAGES_PER_TURN);
    loop {
        tokio::select! {
            _ = control.stop.wait_for(|stop| *stop) => return,
            count = control.inbox.recv_many(&mut messages, MESSAGES_PER_TURN) => {
                if count == 0 {
                    return;
                }
                messages.drain(..).for_each(|message| state.take(message));
                state.update_presence(false);
            }
            () = control.transitions.changed() => {
                control.transitions.forward(&state.node.cores, &state.counters);
            }
            () = control.lane_news.changed() => state.learn_lanes(&mut control.lane_news),
            _ = ticks.tick() => {
                state.tick();
                // Also what a failed read has left.
                state.learn_lanes(&mut control.lane_news);
            }
        }
    }
}

impl State {
    fn take(&mut self, message: ToControl) {
        let now_ms = self.node.clock.now_ms();
        match message {
            ToControl::Presence(users) => {
                for (user, came) in users {
                    match came {
                        true => self.online.came(user, now_ms),
                        false => self.online.left(&user, now_ms),
                    }
                }
            }
            ToControl::Http(connection) => self.serve(connection),
            question => self.ask(question),
        }
    }

    /// Answers a question on its engine's threads.
    fn ask(&self, question: ToControl) {
        if matches!(question, ToControl::Sync { .. }) {
            self.counters.inc(Counter::SyncPages);
        }
        if let ToControl::FetchBody(fetch) = &question
            && !self.answers.fetches.begin(fetch.key)
        {
            return;
        }
        if !self.pools.ask(&self.answers, question) {
            self.counters.inc(Counter::ControlShed);
        }
    }

    fn learn_lanes(&self, news: &mut LaneNews) {
        if !news.take(&self.node.lanes) {
            self.counters.inc(Counter::ReadErrors);
        }
    }

    fn serve(&self, connection: HttpConnection) {
        let Ok(permit) = self.connections.clone().try_acquire_owned() else {
            self.counters.inc(Counter::HttpConnectionsShed);
            return;
        };
        let router = self.http.clone();
        tokio::spawn(async move {
            http::serve(connection, router).await;
            drop(permit);
        });
    }

    fn tick(&mut self) {
        self.watch_memory();
        self.update_presence(true);
        self.counters
            .set(Gauge::Addresses, self.node.addresses.len());
        let open = HTTP_CONNECTIONS_MAX - self.connections.available_permits();
        self.counters.set(Gauge::HttpConnections, open);
        if self.node.owners.in_cluster() {
            let map = self.node.owners.map();
            self.counters.set(Gauge::PartitionsOwned, map.owned());
            self.counters.set(Gauge::Nodes, map.nodes.len());
            self.counters.set(Gauge::Fenced, usize::from(map.fenced));
        }
        self.counters
            .set(Gauge::ControlWaiting, self.pools.waiting());
    }

    fn watch_memory(&self) {
        let limits = &self.node.config.admission;
        let (low, high) = (
            limits.memory_bytes_low as u64,
            limits.memory_bytes_max as u64,
        );
        let Some(resident) = memory::resident_bytes() else {
            return;
        };
        let before = self.node.pressure();
        let pressure = before.next(resident, low, high);
        let bytes = usize::try_from(resident).unwrap_or(usize::MAX);
        self.counters.set(Gauge::MemoryBytes, bytes);
        self.counters
            .set(Gauge::MemoryPressure, usize::from(pressure as u8));
        if pressure != before {
            self.node.pressure.store(pressure as u8, Ordering::Relaxed);
            tracing::warn!(resident, low, high, ?pressure, "memory watermark");
        }
    }

    /// Tells the presence engine who came, is still here, and left; one round at a time.
    fn update_presence(&mut self, expire: bool) {
        let Ok(permit) = self.presence_busy.clone().try_acquire_owned() else {
            return;
        };
        let now_ms = self.node.clock.now_ms();
        let mut batches = Vec::new();
        while batches.len() < BATCHES_PER_ROUND {
            let due = self.online.due(now_ms);
            if due == PresenceDue::default() {
                break;
            }
            batches.push(due);
        }
        if batches.is_empty() && !expire {
            return;
        }
        let answers = self.answers.clone();
        tokio::task::spawn_blocking(move || {
            batches.iter().for_each(|due| tell_presence(&answers, due));
            if expire {
                forget_expired(&answers);
            }
            drop(permit);
        });
    }
}

/// One batch to the presence engine; what changed by it is told to the cluster.
fn tell_presence(answers: &Answers, due: &PresenceDue) {
    let now_ms = answers.node.clock.wall_ms();
    if !due.refresh.is_empty() {
        for user in answers.presence.refresh(&due.refresh, now_ms) {
            announce(answers, &user, Presence::Online, now_ms);
        }
    }
    if !due.leave.is_empty() {
        answers.presence.leave_all(&due.leave, now_ms);
    }
    for user in &due.leave {
        announce(
            answers,
            user,
            Presence::Offline {
                last_seen_ms: now_ms,
            },
            now_ms,
        );
    }
}

/// Users whose TTL ran out without a word.
fn forget_expired(answers: &Answers) {
    let now_ms = answers.node.clock.wall_ms();
    let expired = answers.presence.expired(now_ms);
    if expired.is_empty() {
        return;
    }
    let states = answers.presence.get(&expired, now_ms);
    for (user, state) in expired.iter().zip(states) {
        announce(answers, user, state, now_ms);
    }
}

fn announce(answers: &Answers, user: &UserId, state: Presence, now_ms: u64) {
    let partitions = answers.log.partitions(Topic::ChatPresence);
    produce_ephemeral(
        &*answers.log,
        signals::presence(user, state, partitions, now_ms),
    );
}

async fn serve_admin(listener: TcpListener, router: Router) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the admin listener is lost"),
    };
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    if let Err(error) = axum::serve(listener, service).await {
        tracing::error!(%error, "the admin listener has ended");
    }
}
