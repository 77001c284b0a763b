//! Live readers: one consumer handle for the node, its partitions assigned by hand, each with a queue of
//! its own that its owner polls and that wakes its owner. A second reader of the same partition gets a
//! place on a second handle.

use super::admin::Admin;
use super::config::KafkaConfig;
use super::context::Context;
use super::produce::number;
use crate::log::{Consumer, ReadError, Record, Wake};
use bytes::{Bytes, BytesMut};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError as Native, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// Events of a client that are served in one go: log lines and errors, of which a broker that is away makes a few a second.
const EVENTS_PER_SERVE: usize = 64;
/// Readers of one partition at a time: a handle costs threads and connections.
const HANDLES_MAX: usize = 8;
/// Bound of a seek, which is answered within librdkafka.
const SEEK_TIMEOUT: Duration = Duration::from_secs(3);

type Handle = Arc<BaseConsumer<Context>>;
type Queue = PartitionQueue<Context>;
/// Topic's name and partition.
type Place = (Arc<str>, u32);

struct Assigned {
    handle: Handle,
    places: HashSet<Place>,
}

/// The handles of this node.
pub(super) struct Live {
    config: KafkaConfig,
    context: Context,
    admin: Arc<Admin>,
    assigned: Mutex<Vec<Assigned>>,
}

impl Live {
    pub(super) fn new(config: &KafkaConfig, context: &Context, admin: &Arc<Admin>) -> Self {
        Self {
            config: config.clone(),
            context: context.clone(),
            admin: Arc::clone(admin),
            assigned: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Assigned>> {
        self.assigned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Assigns a partition from this offset, and gives its queue. Offsets are those of the broker and the base.
    pub(super) fn reader(
        self: &Arc<Self>,
        (place, base): (Place, u64),
        from: u64,
        wake: Arc<dyn Wake>,
    ) -> Result<LiveReader, ReadError> {
        let mut assigned = self.lock();
        let free = assigned.iter().position(|a| !a.places.contains(&place));
        let at = match free {
            Some(at) => at,
            None if assigned.len() < HANDLES_MAX => {
                let client = self.config.live_consumer();
                let handle = BaseConsumer::from_config_and_context(&client, self.context.clone());
                assigned.push(Assigned {
                    handle: Arc::new(handle.map_err(|error| unavailable(&error))?),
                    places: HashSet::new(),
                });
                assigned.len() - 1
            }
            None => {
                return Err(ReadError::Unavailable {
                    reason: format!("{HANDLES_MAX} readers of one partition are the most"),
                });
            }
        };
        let handle = Arc::clone(&assigned[at].handle);
        // Queue and callback before the assignment: no record is missed between them.
        let queue = handle.split_partition_queue(&place.0, number(place.1));
        let mut queue = queue.ok_or_else(|| ReadError::Unavailable {
            reason: "no such partition".to_owned(),
        })?;
        let called = Arc::clone(&wake);
        queue.set_nonempty_callback(move || called.wake());
        assign(&handle, &place, from.saturating_sub(base)).map_err(|error| unavailable(&error))?;
        assigned[at].places.insert(place.clone());
        drop(assigned);
        Ok(LiveReader {
            live: Arc::clone(self),
            handle,
            queue: Some(queue),
            place,
            base,
            position: from.max(base),
            fault: None,
            wake,
        })
    }

    /// Serves what is not a record: librdkafka's log lines and errors.
    pub(super) fn serve(&self) {
        let handles: Vec<Handle> = self.lock().iter().map(|a| Arc::clone(&a.handle)).collect();
        handles.iter().for_each(|handle| serve(handle));
    }

    fn release(&self, handle: &Handle, place: &Place) {
        let mut assigned = self.lock();
        if let Err(error) = handle.incremental_unassign(&list(place, Offset::Invalid)) {
            tracing::warn!(%error, topic = &*place.0, partition = place.1, "unassigning failed");
        }
        let Some(at) = assigned.iter().position(|a| Arc::ptr_eq(&a.handle, handle)) else {
            return;
        };
        assigned[at].places.remove(place);
        if at > 0 && assigned[at].places.is_empty() {
            // It was for second readers of partitions, and there is none.
            let idle = assigned.remove(at);
            drop(assigned);
            bury(vec![idle.handle]);
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let assigned = std::mem::take(&mut *self.lock());
        bury(assigned.into_iter().map(|a| a.handle).collect());
    }
}

/// Closing a consumer waits for its broker: on a thread of its own.
pub(super) fn bury<T: Send + 'static>(gone: Vec<T>) {
    if !gone.is_empty() {
        std::thread::spawn(move || drop(gone));
    }
}

/// Events that are not records; at most some at a time.
pub(super) fn serve(consumer: &BaseConsumer<Context>) {
    for _ in 0..EVENTS_PER_SERVE {
        // None is both a log line and an empty queue, where nothing is lost by asking again: an error may stand behind.
        if let Some(Err(error)) = consumer.poll(Duration::ZERO) {
            tracing::debug!(%error, "a Kafka consumer");
        }
    }
}

/// A list of one partition. Never kept: a list that outlives its consumer hangs librdkafka.
pub(super) fn list(place: &(Arc<str>, u32), offset: Offset) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(1);
    let mut element = list.add_partition(&place.0, number(place.1));
    // Only offsets that Kafka cannot have are refused.
    let _ = element.set_offset(offset);
    list
}

pub(super) fn offset(at: u64) -> Offset {
    Offset::Offset(i64::try_from(at).unwrap_or(i64::MAX))
}

fn assign(handle: &Handle, place: &Place, from: u64) -> Result<(), Native> {
    handle.incremental_assign(&list(place, offset(from)))
}

pub(super) fn unavailable(error: &Native) -> ReadError {
    ReadError::Unavailable {
        reason: error.to_string(),
    }
}

/// Copies a record out of librdkafka's memory: key and value in one allocation.
pub(super) fn record(message: &BorrowedMessage<'_>) -> Record {
    let key = message.key().unwrap_or_default();
    let value = message.payload().unwrap_or_default();
    let mut bytes = BytesMut::with_capacity(key.len() + value.len());
    bytes.extend_from_slice(key);
    bytes.extend_from_slice(value);
    let mut bytes: Bytes = bytes.freeze();
    let key = bytes.split_to(key.len());
    let timestamp = message.timestamp().to_millis().unwrap_or(0);
    Record {
        offset: u64::try_from(message.offset()).unwrap_or(0),
        timestamp_ms: u64::try_from(timestamp).unwrap_or(0),
        key,
        value: bytes,
    }
}

/// What stops a reader until it seeks.
enum Fault {
    /// The position is outside the log; its bounds are being asked for, on another thread.
    Outside(Arc<OnceLock<Result<(u64, u64), String>>>),
    /// The record at the position does not match its checksum.
    Corrupt,
}

/// See [`Consumer`].
pub(super) struct LiveReader {
    live: Arc<Live>,
    handle: Handle,
    /// `None` only while being dropped.
    queue: Option<Queue>,
    place: Place,
    /// Added to the offsets that the broker says.
    base: u64,
    position: u64,
    fault: Option<Fault>,
    wake: Arc<dyn Wake>,
}

impl LiveReader {
    /// What the fault says now; nothing while the bounds are not known yet.
    fn faulted(&mut self) -> Result<(), ReadError> {
        match &self.fault {
            None => Ok(()),
            Some(Fault::Corrupt) => Err(ReadError::Corrupt {
                offset: self.position,
            }),
            Some(Fault::Outside(bounds)) => match bounds.get() {
                None => Ok(()),
                Some(Ok((low, high))) => Err(ReadError::OutOfRange {
                    wanted: self.position,
                    low: self.base + *low,
                    high: self.base + *high,
                }),
                Some(Err(reason)) => {
                    let reason = reason.clone();
                    self.fault = Some(self.ask());
                    Err(ReadError::Unavailable { reason })
                }
            },
        }
    }

    /// Asks for the bounds of the partition; wakes the owner when they are known.
    fn ask(&self) -> Fault {
        let bounds = Arc::new(OnceLock::new());
        let (answer, admin) = (Arc::clone(&bounds), Arc::clone(&self.live.admin));
        let (place, wake) = (self.place.clone(), Arc::clone(&self.wake));
        std::thread::spawn(move || {
            let _ = answer.set(admin.watermarks(&place.0, number(place.1)));
            wake.wake();
        });
        Fault::Outside(bounds)
    }

    /// An event of the partition's queue that is no record. `Ok` when it can be passed over.
    fn event(&mut self, error: &Native) -> Result<(), ReadError> {
        match error.rdkafka_error_code() {
            Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => {
                self.fault = Some(self.ask());
                Ok(())
            }
            Some(Code::BadMessage | Code::InvalidMessage) => {
                self.fault = Some(Fault::Corrupt);
                self.faulted()
            }
            Some(Code::PartitionEOF) => Ok(()),
            _ => Err(unavailable(error)),
        }
    }
}

impl Consumer for LiveReader {
    fn poll(&mut self, max: usize, each: &mut dyn FnMut(Record)) -> Result<usize, ReadError> {
        self.faulted()?;
        let mut handed = 0;
        while handed < max && self.fault.is_none() {
            let Some(queue) = &self.queue else { break };
            let event = match queue.poll(Duration::ZERO) {
                None => break,
                Some(Ok(message)) => {
                    let mut found = record(&message);
                    found.offset += self.base;
                    // A batch is fetched whole: its beginning may lie before the position.
                    if found.offset >= self.position {
                        self.position = found.offset + 1;
                        each(found);
                        handed += 1;
                    }
                    continue;
                }
                Some(Err(error)) => error,
            };
            if let Err(error) = self.event(&event) {
                if handed == 0 {
                    return Err(error);
                }
                // What was read first; a fault stays and is told by the poll that this asks for.
                self.wake.wake();
                break;
            }
        }
        Ok(handed)
    }

    fn position(&self) -> u64 {
        self.position
    }

    fn seek(&mut self, to: u64) -> Result<(), ReadError> {
        let (topic, partition) = (&*self.place.0, number(self.place.1));
        let at = to.saturating_sub(self.base);
        let sought = self
            .handle
            .seek(topic, partition, offset(at), SEEK_TIMEOUT)
            .or_else(|_| {
                // It has not begun to fetch yet, or has stopped: begin anew.
                self.handle
                    .incremental_unassign(&list(&self.place, Offset::Invalid))?;
                assign(&self.handle, &self.place, at)
            });
        sought.map_err(|error| unavailable(&error))?;
        self.position = to.max(self.base);
        self.fault = None;
        Ok(())
    }
}

impl Drop for LiveReader {
    fn drop(&mut self) {
        // The queue first: its callback ends with it.
        self.queue = None;
        self.live.release(&self.handle, &self.place);
    }
}
