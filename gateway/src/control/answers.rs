//! Questions of the cores that block: each is answered from a bounded pool of threads, or at once with
//! "overloaded" when too many wait.

use super::bodies::Fetches;
use super::message::ToControl;
use crate::deliver::partition::{self, Opened};
use crate::node::shared::NodeShared;
use crate::reactor::inbox::ToCore;
use crate::session::SessionId;
use hawser_engines::log::{AppendOutcome, Appended, Log, Produce, ReadError, Topic};
use hawser_engines::presence::{Presence, PresenceStore};
use hawser_engines::store::Store;
use hawser_fanout::history::History;
use hawser_fanout::signals;
use hawser_protocol::codes::ErrorCode;
use hawser_protocol::frame::FrameType;
use hawser_protocol::ids::{ChatId, UserId};
use hawser_protocol::pb;
use hawser_protocol::server::Fetched;
use std::sync::{Arc, OnceLock};
use tokio::sync::Semaphore;

/// What the questions are answered from.
pub(crate) struct Answers {
    pub(crate) node: Arc<NodeShared>,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) presence: Arc<dyn PresenceStore>,
    pub(crate) history: History,
    /// Places for telling the presence engine who types: none free, none told.
    pub(crate) typing_threads: OnceLock<Arc<Semaphore>>,
    /// Bodies that are being read.
    pub(crate) fetches: Fetches,
}

/// Hint with a page that could not be read, milliseconds.
const SYNC_RETRY_MS: u32 = 1_000;

impl Answers {
    /// Answers one question; blocks for as long as the engine takes.
    pub(crate) fn answer(&self, question: ToControl) {
        match question {
            ToControl::Sync {
                core,
                session,
                user,
                request,
            } => {
                let mut page = Box::new(self.history.sync(&user, &request));
                hint(&mut page);
                self.tell(core, ToCore::SyncPage { session, page });
            }
            ToControl::Watch {
                core,
                session,
                users,
            } => {
                let states = self.presence.get(&users, self.node.clock.wall_ms());
                let states = users.into_iter().zip(states).collect();
                self.tell(core, ToCore::PresenceOf { session, states });
            }
            ToControl::Typing {
                core,
                session,
                user,
                chat,
                stopped,
            } => {
                if let Err(code) = self.typing(&user, &chat, stopped) {
                    self.tell(core, denied(session, code));
                }
            }
            ToControl::ReadLog {
                core,
                session,
                generation,
                partition,
                from,
                max,
                bytes,
            } => {
                let read = || self.log.read(Topic::Delivery, partition, from, max, bytes);
                let result = partition::of_one_generation(&*self.log, generation, read);
                self.tell(
                    core,
                    ToCore::Replay {
                        session,
                        from,
                        result,
                    },
                );
            }
            ToControl::OpenPartition {
                core,
                partition,
                generation,
                waker,
            } => {
                let opened = Opened::open(&*self.log, partition, generation, &waker);
                let opened = ToCore::Opened {
                    generation,
                    partition,
                    result: opened.map(Box::new),
                };
                self.tell(core, opened);
            }
            ToControl::ClosePartition(partition) => drop(partition),
            ToControl::FetchBody(fetch) => self.fetch_body(&fetch),
            // Not questions.
            ToControl::Presence(_) | ToControl::Http(_) => {}
        }
    }

    /// Answers without looking: too many wait.
    pub(crate) fn refuse(&self, question: ToControl) {
        match question {
            ToControl::Sync {
                core,
                session,
                request,
                ..
            } => {
                let page = Box::new(pb::SyncPage {
                    sync_id: request.sync_id,
                    chat: request.chat,
                    error: u32::from(ErrorCode::Overloaded.number()),
                    text: "too many requests for history wait on this node".to_owned(),
                    retry_after_ms: SYNC_RETRY_MS,
                    ..pb::SyncPage::default()
                });
                self.tell(core, ToCore::SyncPage { session, page });
            }
            ToControl::Watch {
                core,
                session,
                users,
            } => {
                let states = users
                    .into_iter()
                    .map(|user| (user, Presence::Unknown))
                    .collect();
                self.tell(core, ToCore::PresenceOf { session, states });
            }
            ToControl::ReadLog {
                core,
                session,
                from,
                ..
            } => {
                let reason = "too many reads wait on this node".to_owned();
                let result = Err(ReadError::Unavailable { reason });
                self.tell(
                    core,
                    ToCore::Replay {
                        session,
                        from,
                        result,
                    },
                );
            }
            ToControl::OpenPartition {
                core,
                partition,
                generation,
                ..
            } => {
                let reason = "too many reads wait on this node".to_owned();
                let opened = ToCore::Opened {
                    generation,
                    partition,
                    result: Err(ReadError::Unavailable { reason }),
                };
                self.tell(core, opened);
            }
            ToControl::ClosePartition(partition) => drop(partition),
            ToControl::FetchBody(fetch) => self.tell_fetched(fetch.key, &Fetched::Failed),
            // The first things to be shed, without a word.
            ToControl::Typing { .. } | ToControl::Presence(_) | ToControl::Http(_) => {}
        }
    }

    fn typing(&self, user: &UserId, chat: &ChatId, stopped: bool) -> Result<(), ErrorCode> {
        let partitions = self.log.partitions(Topic::ChatTyping);
        let now_ms = self.node.clock.wall_ms();
        let records = signals::typing(&*self.store, user, chat, stopped, partitions, now_ms)?;
        self.note_typing(user, chat, !stopped, now_ms);
        records
            .into_iter()
            .for_each(|record| produce_ephemeral(&*self.log, record));
        Ok(())
    }

    /// On the presence engine's own threads: the ones of the store must not wait for it.
    fn note_typing(&self, user: &UserId, chat: &ChatId, typing: bool, now_ms: u64) {
        let threads = self.typing_threads.get().cloned();
        let Some(Ok(permit)) = threads.map(Semaphore::try_acquire_owned) else {
            return;
        };
        let presence = self.presence.clone();
        let (user, chat) = (user.clone(), chat.clone());
        tokio::task::spawn_blocking(move || {
            presence.set_typing(&user, &chat, typing, now_ms);
            drop(permit);
        });
    }

    /// An answer that a full mailbox does not take is tried again for a while: a session waits for it.
    pub(super) fn tell(&self, core: usize, answer: ToCore) {
        let Some(sender) = self.node.cores.get(core) else {
            return;
        };
        let mut answer = answer;
        for wait_ms in [0, 1, 5, 20, 50] {
            if wait_ms > 0 {
                std::thread::sleep(std::time::Duration::from_millis(wait_ms));
            }
            match sender.try_send(answer) {
                Ok(()) => return,
                Err(full) => answer = full.0,
            }
        }
    }
}

/// When a page that could not be read now may be asked for again.
fn hint(page: &mut pb::SyncPage) {
    let code = u16::try_from(page.error)
        .ok()
        .and_then(ErrorCode::from_number);
    if code.is_some_and(ErrorCode::may_retry) && page.retry_after_ms == 0 {
        page.retry_after_ms = SYNC_RETRY_MS;
    }
}

fn denied(session: SessionId, code: ErrorCode) -> ToCore {
    ToCore::Denied {
        session,
        frame_type: FrameType::TYPING,
        code,
    }
}

/// Puts a record on an ephemeral topic; whether it arrives, nobody is told.
pub(crate) fn produce_ephemeral(log: &dyn Log, record: Produce) {
    struct Nobody;
    impl Appended for Nobody {
        fn appended(&self, _tag: u64, _outcome: AppendOutcome) {}
    }
    let nobody: Arc<dyn Appended> = Arc::new(Nobody);
    // Typing and presence are the first things shed.
    let _ = log.produce(record, 0, &nobody);
}
