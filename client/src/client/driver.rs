//! The task that moves bytes between session, links, disk and application.

use super::{Command, Event, Settings, expiry_ms, token};
use crate::api::Api;
use crate::disk::{Disk, Stored};
use crate::link::{Link, Report};
use crate::store::Store;
use crate::transport::ReachError;
use hawser_protocol::client::{Config, Effect, HistoryDone, Now, Saved, Session};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot};

/// Messages of connections that wait for the session.
const REPORTS_WAITING_MAX: usize = 64;
/// Reports of the disk that wait for the session.
const STORED_WAITING_MAX: usize = 64;
/// With so many batches at the disk nothing new is taken in (the disk's own queue is longer, so
/// that giving it one never waits).
const WRITING_MAX: usize = 512;
/// With so many events that the application has not taken nothing more is received.
const BACKLOG_MAX: usize = 64;

/// The longest sleep: a timer that is further away is looked at again.
const WAIT_MAX: Duration = Duration::from_secs(3_600);

struct Driver {
    session: Session,
    settings: Settings,
    api: Api,
    begun: Instant,
    links: BTreeMap<u32, Link>,
    reports: mpsc::Sender<(u32, Report)>,
    tokens: mpsc::Sender<Result<String, ReachError>>,
    disk: Disk,
    /// Batches given to the disk and not reported yet, and the last of them.
    writing: usize,
    last_ticket: u64,
    /// History that is complete once this batch is written.
    history: Vec<(u64, HistoryDone)>,
    /// Events that the application has not taken: commands are served all the same.
    backlog: VecDeque<Event>,
    events: mpsc::Sender<Event>,
    stopping: Option<oneshot::Sender<()>>,
}

/// What a driver waits for.
struct Inputs {
    commands: mpsc::Receiver<Command>,
    reports: mpsc::Receiver<(u32, Report)>,
    tokens: mpsc::Receiver<Result<String, ReachError>>,
    stored: mpsc::Receiver<Stored>,
}

/// Starts the task.
pub(super) fn start(
    settings: Settings,
    seed: u64,
    saved: Saved,
    store: Arc<Store>,
    api: Api,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
) {
    let config = Config {
        user: settings.user.clone(),
        device: settings.device.clone(),
        url: settings.url.clone(),
        client: concat!("hawser-rust/", env!("CARGO_PKG_VERSION")).into(),
        heartbeat_ms: settings.heartbeat_ms,
        live_only: false,
    };
    let (to_reports, reports) = mpsc::channel(REPORTS_WAITING_MAX);
    let (to_tokens, tokens) = mpsc::channel(1);
    let (to_stored, stored) = mpsc::channel(STORED_WAITING_MAX);
    let driver = Driver {
        session: Session::new(config, seed, saved),
        disk: Disk::start(store, settings.user.clone(), to_stored),
        settings,
        api,
        begun: Instant::now(),
        links: BTreeMap::new(),
        reports: to_reports,
        tokens: to_tokens,
        writing: 0,
        last_ticket: 0,
        history: Vec::new(),
        backlog: VecDeque::new(),
        events,
        stopping: None,
    };
    let inputs = Inputs {
        commands,
        reports,
        tokens,
        stored,
    };
    tokio::spawn(driver.run(inputs));
}

impl Driver {
    async fn run(mut self, mut inputs: Inputs) {
        self.session.start(self.now());
        self.settle().await;
        while !(self.stopping.is_some() && self.writing == 0) {
            self.step(&mut inputs).await;
            self.settle().await;
        }
        for event in self.backlog.drain(..) {
            let _ = self.events.try_send(event);
        }
        // Whoever has waited for the end may open the store again.
        self.disk.end().await;
        if let Some(done) = self.stopping.take() {
            let _ = done.send(());
        }
    }

    /// Waits for one input and gives it to the session.
    async fn step(&mut self, inputs: &mut Inputs) {
        let now_ms = self.now().ms;
        let due = self.session.next_timeout_ms();
        let wait = due.map(|at| Duration::from_millis(at.saturating_sub(now_ms)).min(WAIT_MAX));
        let timer = async {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        let events = self.events.clone();
        let writes = self.writing < WRITING_MAX;
        let takes = self.backlog.len() < BACKLOG_MAX || self.stopping.is_some();
        tokio::select! {
            command = inputs.commands.recv(), if self.stopping.is_none() && writes => self.command(command),
            Some((link, report)) = inputs.reports.recv(), if takes && writes => self.report(link, report),
            Some(token) = inputs.tokens.recv() => self.token(token),
            Some(stored) = inputs.stored.recv(), if takes => self.stored(stored),
            permit = events.reserve(), if !self.backlog.is_empty() => match (permit, self.backlog.pop_front()) {
                (Ok(permit), Some(event)) => permit.send(event),
                _ => self.backlog.clear(), // the application has gone away
            },
            () = timer => self.session.handle_timeout(self.now()),
        }
    }

    fn now(&self) -> Now {
        let since = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Now {
            ms: since(self.begun.elapsed()),
            wall_ms: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, since),
        }
    }

    // ---- inputs ----

    fn command(&mut self, command: Option<Command>) {
        let now = self.now();
        let session = &mut self.session;
        match command {
            Some(Command::Send(chat, message_type, body, reply)) => {
                let _ = reply.send(session.submit(chat, message_type, body, now));
            }
            Some(Command::Discard(id)) => session.discard(id, now),
            Some(Command::Read(chat, seq)) => session.read(&chat, seq, now),
            Some(Command::Typing(chat, stopped)) => session.typing(&chat, stopped, now),
            Some(Command::Watch(users, chats)) => session.set_watch(users, chats, now),
            Some(Command::History(chat, before, limit)) => {
                session.history(&chat, before, limit, now);
            }
            Some(Command::RefreshChats) => session.refresh_chats(now),
            Some(Command::Nudge) => session.nudge(now),
            Some(Command::Start) => session.start(now),
            Some(Command::Stop(done)) => {
                session.stop(now);
                self.stopping = Some(done);
            }
            None => {
                session.stop(now);
                self.stopping = Some(oneshot::channel().0);
            }
        }
    }

    fn report(&mut self, link: u32, report: Report) {
        let now = self.now();
        match report {
            Report::Opened => self.session.handle_opened(link, now),
            Report::Message(message) => self.session.handle_message(link, message, now),
            Report::Closed { code, reason } => {
                if self.links.remove(&link).is_some() && !reason.is_empty() {
                    self.tell(Event::Lost(reason.clone()));
                }
                self.session.handle_closed(link, code, &reason, now);
            }
        }
    }

    fn token(&mut self, token: Result<String, ReachError>) {
        let now = self.now();
        match token {
            Ok(token) => {
                let expires = expiry_ms(&token);
                if expires <= self.session.server_ms(now) {
                    let text = "the token has expired";
                    return self.session.handle_token_failed(true, text, now);
                }
                self.session.handle_token(token, expires, now);
            }
            Err(error) => {
                let refused = matches!(error, ReachError::Status { status, .. }
                    if (400..500).contains(&status) && status != 408 && status != 429);
                let text = error.to_string();
                self.tell(Event::Lost(text.clone()));
                self.session.handle_token_failed(refused, &text, now);
            }
        }
    }

    fn stored(&mut self, stored: Stored) {
        match stored {
            Stored::Done { ticket, written } => {
                self.writing -= 1;
                self.session.handle_stored(ticket, self.now());
                self.tell(Event::Changed(written));
                let waiting = std::mem::take(&mut self.history);
                for (at, done) in waiting {
                    if at <= ticket {
                        self.tell(Event::History(done));
                    } else {
                        self.history.push((at, done));
                    }
                }
            }
            Stored::Failed(error) => {
                self.tell(Event::Problem(error.to_string()));
            }
        }
    }

    // ---- effects ----

    async fn settle(&mut self) {
        while let Some(effect) = self.session.poll_effect() {
            self.perform(effect).await;
        }
    }

    async fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Open { link, url } => {
                let (trust, reports) = (self.settings.trust.clone(), self.reports.clone());
                self.links
                    .insert(link, Link::open(link, url, trust, reports));
            }
            Effect::Transmit { link, frame } => {
                if let Some(link) = self.links.get(&link) {
                    link.send(frame);
                }
            }
            Effect::Close { link, code, reason } => {
                if let Some(link) = self.links.remove(&link) {
                    link.close(code, reason);
                }
            }
            Effect::FetchToken => self.fetch_token(),
            Effect::Store { ticket, batch } => {
                self.writing += 1;
                self.last_ticket = ticket;
                self.disk.write(ticket, batch).await;
            }
            Effect::Phase(phase) => self.tell(Event::Phase(phase)),
            Effect::Typing(update) => self.tell(Event::Typing(update)),
            Effect::Presence(update) => self.tell(Event::Presence(update)),
            Effect::Queued(id) => self.tell(Event::Queued(id)),
            Effect::History(done) if self.writing == 0 => self.tell(Event::History(done)),
            Effect::History(done) => self.history.push((self.last_ticket, done)),
            Effect::Problem { code, text } => {
                let name = u16::try_from(code)
                    .ok()
                    .and_then(hawser_protocol::codes::ErrorCode::from_number)
                    .map_or("error", hawser_protocol::codes::ErrorCode::name);
                self.tell(Event::Problem(format!("{name}: {text}")));
            }
        }
    }

    fn fetch_token(&self) {
        let (tokens, settings, api) =
            (self.tokens.clone(), self.settings.clone(), self.api.clone());
        tokio::spawn(async move {
            let got = token(&settings.tokens, &api, &settings.user, &settings.device).await;
            let _ = tokens.send(got).await;
        });
    }

    fn tell(&mut self, event: Event) {
        self.backlog.push_back(event);
    }
}
