//! The pure core: one record in, one plan out.

use super::memory::{Memory, MemoryBounds};
use super::plan::{Place, Plan, Sender, Verdict};
use super::window::Recollection;
use super::{API_DEVICE, IngestConfig, TIME_MS_MAX, TIME_MS_MIN};
use bytes::Bytes;
use hawser_engines::log::Record;
use hawser_engines::store::{Ask, Store, StoreError};
use hawser_protocol::codes::ErrorCode;
use hawser_protocol::ids::{ChatId, ClientMsgId, DeviceId, Seq, UserId};
use hawser_protocol::partition::partition;
use hawser_protocol::record::{RECORD_VERSION, SourceRecord};

/// Judges the records of any number of partitions of `chat-messages`, each in offset order.
#[derive(Debug)]
pub struct Core {
    config: IngestConfig,
    generation: u16,
    memory: Memory,
}

impl Core {
    /// `generation` is that of `chat-messages`, from 1.
    #[must_use]
    pub fn new(config: IngestConfig, generation: u16) -> Self {
        Self {
            config,
            generation,
            memory: Memory::default(),
        }
    }

    /// The log was opened anew: forgets everything, goes on under this generation.
    pub fn begin(&mut self, generation: u16) {
        self.generation = generation;
        self.memory.forget();
    }

    /// Judges one record. The plan depends on the record, on what the records before it came to,
    /// and on nothing else: no clock, no randomness.
    ///
    /// # Errors
    /// The store cannot be read now: nothing was judged, come again with the same record.
    pub fn judge(
        &mut self,
        partition_no: u32,
        record: &Record,
        store: &dyn Store,
    ) -> Result<Plan, StoreError> {
        let config = self.config;
        let place = place(&config, self.generation, partition_no, record);
        let memory = &mut self.memory;
        match SourceRecord::decode(&record.value) {
            Err(error) => {
                let at = record.offset;
                tracing::error!(%error, partition = partition_no, offset = at, "to dead-letters");
                Ok(poison(&place, record))
            }
            Ok(source)
                if partition(source.chat().as_str(), self.config.source_partitions)
                    != partition_no =>
            {
                let at = record.offset;
                tracing::error!(
                    partition = partition_no,
                    offset = at,
                    "to dead-letters: a chat of another partition"
                );
                Ok(poison(&place, record))
            }
            Ok(SourceRecord::Send {
                sender,
                device,
                send,
            }) => {
                let sender = Sender {
                    user: &sender,
                    device: &device,
                };
                super::send::judge(&place, memory, store, sender, &send)
            }
            Ok(SourceRecord::Receipt {
                user,
                chat,
                delivered,
                read,
                ..
            }) => super::receipt::judge(&place, memory, store, &user, &chat, (delivered, read)),
            Ok(SourceRecord::Group {
                actor,
                op_id,
                chat,
                op,
            }) => super::group::judge(&place, memory, store, (&actor, op_id), &chat, &op),
            Ok(SourceRecord::Lane {
                actor,
                op_id,
                chat,
                op,
            }) => super::lane::judge(&place, memory, store, (&actor, op_id), &chat, &op),
        }
    }

    /// As [`judge`](Self::judge), for a record whose rows the store refuses for good: it is parked. A message keeps
    /// its place in the chat, without its body, so that all that comes after it is as it was.
    ///
    /// # Errors
    /// As [`judge`](Self::judge).
    pub fn park(
        &mut self,
        partition_no: u32,
        record: &Record,
        store: &dyn Store,
    ) -> Result<Plan, StoreError> {
        let plan = self.judge(partition_no, record, store)?;
        let place = place(&self.config, self.generation, partition_no, record);
        let (plan, refused) = super::park::park(&place, record, plan);
        if let Some((key, row)) = refused {
            self.memory.remember(&key, row);
        }
        Ok(plan)
    }

    /// The same with other bounds of memory.
    #[must_use]
    pub fn bounded(mut self, bounds: MemoryBounds) -> Self {
        self.memory = Memory::new(bounds);
        self
    }

    /// What [`judge`](Self::judge) will ask the store for, so that it can be had for many records at once. Judging
    /// may ask for more: what a replay needs, and what the answers lead to.
    pub fn asks(&self, record: &Record, asks: &mut Vec<Ask>) {
        let memory = &self.memory;
        let Ok(source) = SourceRecord::decode(&record.value) else {
            return;
        };
        let chat = source.chat();
        asks.extend(memory.ask_group(chat));
        asks.extend(memory.ask_head(chat));
        let key = match &source {
            SourceRecord::Send {
                sender,
                device,
                send,
            } => (
                sender.clone(),
                device.clone(),
                chat.clone(),
                send.client_msg_id,
            ),
            SourceRecord::Group { actor, op_id, .. } | SourceRecord::Lane { actor, op_id, .. } => {
                // The name is a constant of the right form.
                let device = DeviceId::new(API_DEVICE).expect("a plain word");
                let decided = super::group::decided_device();
                asks.push(Ask::Dedup(actor.clone(), decided, chat.clone(), *op_id));
                (actor.clone(), device, chat.clone(), *op_id)
            }
            SourceRecord::Receipt { .. } => return,
        };
        asks.extend(memory.ask_dedup(&key));
    }

    /// Records of before the first that is judged: what they came to is in the store. Comes from the latest to the
    /// earliest.
    pub fn recall(&mut self, found: &Recollection) {
        self.memory.recall(found);
    }

    /// Client message ids that it may still recall.
    #[must_use]
    pub fn room(&self) -> usize {
        self.memory.room()
    }

    /// Everything judged so far is in the store.
    pub fn committed(&mut self) {
        self.memory.settled(Seq(u64::MAX));
    }

    /// Everything of one partition that was judged at offsets before this one is in the store; for a core that
    /// judges one partition.
    pub fn settled(&mut self, offset: u64) {
        let offset = offset.min(Seq::OFFSET_MAX);
        self.memory.settled(Seq::new(self.generation, offset));
    }

    /// Something judged since the last `committed` may not be in the store.
    pub fn failed(&mut self) {
        self.memory.forget();
    }
}

fn place<'c>(
    config: &'c IngestConfig,
    generation: u16,
    partition: u32,
    record: &Record,
) -> Place<'c> {
    Place {
        config,
        partition,
        seq: Seq::new(generation, record.offset.min(Seq::OFFSET_MAX)),
        time_ms: record.timestamp_ms.clamp(TIME_MS_MIN, TIME_MS_MAX),
    }
}

/// A record that can never be processed: kept whole, and its sender told where one can be made out.
fn poison(place: &Place<'_>, record: &Record) -> Plan {
    let mut plan = Plan::empty(Verdict::Poison);
    if let Some((user, device, id, chat)) = salvage(&record.value) {
        let to = Sender {
            user: &user,
            device: &device,
        };
        let chat = chat.as_ref().map_or("", ChatId::as_str);
        let answer = place.refuse(to, id, chat, ErrorCode::BadFrame);
        plan.produce.push(answer);
    }
    plan.produce.push(place.dead_letter(record));
    plan
}

type Salvaged = (UserId, DeviceId, ClientMsgId, Option<ChatId>);

/// Sender, device and client_msg_id of a Send that cannot be decoded as a whole: they stand first.
fn salvage(value: &Bytes) -> Option<Salvaged> {
    const SEND: u8 = 1;
    fn short<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
        let (len, tail) = rest.split_first()?;
        let (text, tail) = tail.split_at_checked(usize::from(*len))?;
        *rest = tail;
        std::str::from_utf8(text).ok()
    }
    let mut rest = value.strip_prefix(&[RECORD_VERSION, SEND])?;
    let user = UserId::new(short(&mut rest)?).ok()?;
    let device = DeviceId::new(short(&mut rest)?).ok()?;
    let (id, tail) = rest.split_first_chunk::<16>()?;
    // send_ts_ms, type, retry.
    let chat = tail.get(10..).and_then(|mut tail| short(&mut tail));
    let chat = chat.and_then(|chat| ChatId::new(chat).ok());
    Some((user, device, ClientMsgId(*id), chat))
}
