//! The client: one device that stays connected by itself, keeps what it receives and what it has not
//! sent yet, and tells the application what changed.

mod driver;

use crate::api::{Api, TokenFacts};
use crate::store::{Store, StoreError, Written};
use crate::transport::{ReachError, Trust};
use bytes::Bytes;
use hawser_protocol::client::{HistoryDone, PendingSend, Phase, SubmitError};
use hawser_protocol::ids::{ChatId, ClientMsgId, DeviceId, Seq, UserId};
use hawser_protocol::message::MessageType;
use hawser_protocol::pb;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Commands that wait for the client's task.
const COMMANDS_WAITING_MAX: usize = 256;
/// Events that wait for the application; while they do, nothing more is received.
const EVENTS_WAITING_MAX: usize = 1_024;

/// Where tokens come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tokens {
    /// The demo's login (`POST /v1/demo/login`), beside the WebSocket.
    Demo,
    /// This one; when it expires there is no other.
    Fixed(String),
    /// The content of a file, read anew each time one is needed.
    File(PathBuf),
}

/// Who, where, and what is kept where.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `ws://` or `wss://` URL of a node.
    pub url: String,
    /// The user.
    pub user: UserId,
    /// This installation; unique within the user, and the same at every start.
    pub device: DeviceId,
    /// Whom to trust.
    pub trust: Trust,
    /// Where tokens come from.
    pub tokens: Tokens,
    /// Directory of the local store, of this (user, device) alone.
    pub dir: PathBuf,
    /// Wished ping interval, milliseconds; 0: the server's default.
    pub heartbeat_ms: u32,
}

/// Why a client does not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The local store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The URL.
    #[error(transparent)]
    Url(#[from] ReachError),
    /// Randomness for ids and jitter.
    #[error("the system gives no random bytes")]
    NoRandomness,
}

/// The client's task has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the client has stopped")]
pub struct Stopped;

/// Why a message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Too many wait, or it is too large.
    #[error(transparent)]
    Refused(#[from] SubmitError),
    /// The client's task has ended.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// What the application is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The connection's phase.
    Phase(Phase),
    /// Why the last connection ended, for people.
    Lost(String),
    /// The local store changed.
    Changed(Box<Written>),
    /// The log has one of ours: not "sent" yet.
    Queued(ClientMsgId),
    /// The history that was asked for is in the store.
    History(HistoryDone),
    /// Somebody types.
    Typing(pb::TypingUpdate),
    /// Somebody came or went.
    Presence(pb::PresenceUpdate),
    /// Something went wrong that belongs to no message.
    Problem(String),
}

enum Command {
    Send(
        ChatId,
        MessageType,
        Bytes,
        oneshot::Sender<Result<PendingSend, SubmitError>>,
    ),
    Discard(ClientMsgId),
    Read(ChatId, Seq),
    Typing(ChatId, bool),
    Watch(Vec<String>, Vec<String>),
    History(ChatId, u64, u32),
    RefreshChats,
    Nudge,
    Start,
    Stop(oneshot::Sender<()>),
}

/// A handle; cheap to clone. The client ends when every handle is dropped, or by [`Client::stop`].
#[derive(Debug, Clone)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    store: Arc<Store>,
    user: UserId,
    device: DeviceId,
    api: Api,
    tokens: Tokens,
}

impl Client {
    /// Opens the local store and starts connecting, in a task of the current tokio runtime.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(settings: Settings) -> Result<(Self, mpsc::Receiver<Event>), OpenError> {
        let api = Api::beside(&settings.url, settings.trust.clone())?;
        let store = Arc::new(Store::open(&settings.dir)?);
        let saved = store.load(&settings.user)?;
        let (commands, inbox) = mpsc::channel(COMMANDS_WAITING_MAX);
        let (events, outbox) = mpsc::channel(EVENTS_WAITING_MAX);
        let client = Self {
            commands,
            store: Arc::clone(&store),
            user: settings.user.clone(),
            device: settings.device.clone(),
            api: api.clone(),
            tokens: settings.tokens.clone(),
        };
        let mut seed = [0; 8];
        aws_lc_rs::rand::fill(&mut seed).map_err(|_| OpenError::NoRandomness)?;
        driver::start(
            settings,
            u64::from_le_bytes(seed),
            saved,
            store,
            api,
            inbox,
            events,
        );
        Ok((client, outbox))
    }

    /// The local store, to read from.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Who this is.
    #[must_use]
    pub fn user(&self) -> &UserId {
        &self.user
    }

    /// Which device.
    #[must_use]
    pub fn device(&self) -> &DeviceId {
        &self.device
    }

    /// The HTTP API beside the session.
    #[must_use]
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// A token for the HTTP API.
    ///
    /// # Errors
    /// None could be had.
    pub async fn token(&self) -> Result<String, ReachError> {
        token(&self.tokens, &self.api, &self.user, &self.device).await
    }

    /// Takes a message to a chat; to a lane of a group is to the group, which stores it in the lane that its id belongs to.
    /// It is in the store before it leaves, leaves once there is a session, and is
    /// retried with the same id until the server has answered.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send(
        &self,
        chat: ChatId,
        message_type: MessageType,
        body: Bytes,
    ) -> Result<PendingSend, SendError> {
        let (reply, answer) = oneshot::channel();
        self.tell(Command::Send(chat.base(), message_type, body, reply))
            .await?;
        let answer = answer.await.map_err(|_| Stopped)?;
        Ok(answer?)
    }

    /// Gives up a message that was refused or has never been answered.
    ///
    /// # Errors
    /// The client has stopped.
    pub async fn discard(&self, id: ClientMsgId) -> Result<(), Stopped> {
        self.tell(Command::Discard(id)).await
    }

    /// The user has seen a chat, one lane of it where it has lanes, up to a message.
    ///
    /// # Errors
    /// The client has stopped.
    pub async fn read(&self, chat: ChatId, seq: Seq) -> Result<(), Stopped> {
        self.tell(Command::Read(chat, seq)).await
    }

    /// The user types, or has stopped to; in a lane is in its group.
    ///
    /// # Errors
    /// The client has stopped.
    pub async fn typing(&self, chat: ChatId, stopped: bool) -> Result<(), Stopped> {
        self.tell(Command::Typing(chat.base(), stopped)).await
    }

    /// Whose presence and which chats' typing to be told of.
    ///
    /// # Errors
    /// The client has stopped.
    pub async fn watch(&self, users: Vec<String>, chats: Vec<String>) -> Result<(), Stopped> {
        self.tell(Command::Watch(users, chats)).await
    }

    /// Fetches messages of a chat, one lane of it where it has lanes, below an ordinal (0: the newest) into the store; [`Event::History`] follows.
    ///
    /// # Errors
    /// The client has stopped.
    pub async fn history(&self, chat: ChatId, before: u64, limit: u32) -> Result<(), Stopped> {
        self.tell(Command::History(chat, before, limit)).await
    }

    /// The list of chats may have changed.
    ///
    /// # Errors
    /// The client has stopped.
    pub async fn refresh_chats(&self) -> Result<(), Stopped> {
        self.tell(Command::RefreshChats).await
    }

    /// Connects now rather than when the backoff says so; checks a connection that is there.
    ///
    /// # Errors
    /// The client has stopped.
    pub async fn nudge(&self) -> Result<(), Stopped> {
        self.tell(Command::Nudge).await
    }

    /// Starts again after a refusal or a displacement.
    ///
    /// # Errors
    /// The client has stopped.
    pub async fn start(&self) -> Result<(), Stopped> {
        self.tell(Command::Start).await
    }

    /// Says Bye, waits until everything is written, lets go of the local store, and ends.
    pub async fn stop(self) {
        let (done, ended) = oneshot::channel();
        if self.tell(Command::Stop(done)).await.is_ok() {
            let _ = ended.await;
        }
    }

    async fn tell(&self, command: Command) -> Result<(), Stopped> {
        self.commands.send(command).await.map_err(|_| Stopped)
    }
}

/// Gets a token.
///
/// # Errors
/// None could be had; a status of 4xx means that none will be.
pub async fn token(
    tokens: &Tokens,
    api: &Api,
    user: &UserId,
    device: &DeviceId,
) -> Result<String, ReachError> {
    match tokens {
        Tokens::Demo => api.demo_login(user, device).await,
        Tokens::Fixed(token) => Ok(token.clone()),
        Tokens::File(path) => read_token(path),
    }
}

fn read_token(path: &Path) -> Result<String, ReachError> {
    let text = std::fs::read_to_string(path).map_err(|source| ReachError::Io {
        host: path.display().to_string(),
        source,
    })?;
    Ok(text.trim().to_owned())
}

/// When a token expires, milliseconds since 1970; `u64::MAX` when it does not say.
fn expiry_ms(token: &str) -> u64 {
    TokenFacts::of(token).map_or(u64::MAX, |facts| facts.expires_at_ms)
}
