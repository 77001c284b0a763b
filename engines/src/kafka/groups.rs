//! Committed positions, as ordinary Kafka tools see them: group, topic, partition, offset. Nobody joins
//! the groups; ownership of partitions is decided elsewhere.

use super::config::KafkaConfig;
use super::context::Context;
use super::live::{bury, list, offset, serve, unavailable};
use super::produce::number;
use crate::log::ReadError;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError as Native, RDKafkaErrorCode as Code};
use rdkafka::{Offset, TopicPartitionList};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Groups whose clients are kept at a time; a client costs threads and connections.
const GROUPS_MAX: usize = 8;
const RETRY_EVERY: Duration = Duration::from_millis(50);

type Client = Arc<BaseConsumer<Context>>;

/// The groups in use, latest last.
pub(super) struct Groups {
    config: KafkaConfig,
    context: Context,
    clients: Mutex<Vec<(String, Client)>>,
}

impl Groups {
    pub(super) fn new(config: &KafkaConfig, context: &Context) -> Self {
        Self {
            config: config.clone(),
            context: context.clone(),
            clients: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(String, Client)>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn client(&self, group: &str) -> Result<Client, ReadError> {
        let mut clients = self.lock();
        if let Some(at) = clients.iter().position(|(name, _)| name == group) {
            let found = clients.remove(at);
            let client = Arc::clone(&found.1);
            clients.push(found);
            return Ok(client);
        }
        let config = self.config.group_consumer(group);
        let client = BaseConsumer::from_config_and_context(&config, self.context.clone());
        let client = Arc::new(client.map_err(|error| unavailable(&error))?);
        if clients.len() >= GROUPS_MAX {
            bury(vec![clients.remove(0)]);
        }
        clients.push((group.to_owned(), Arc::clone(&client)));
        Ok(client)
    }

    /// Commits, and waits until the brokers have it.
    pub(super) fn commit(
        &self,
        group: &str,
        place: &(Arc<str>, u32),
        next: u64,
    ) -> Result<(), ReadError> {
        let client = self.client(group)?;
        self.patiently(|| client.commit(&list(place, offset(next)), CommitMode::Sync))
    }

    /// The committed offset, if any.
    pub(super) fn committed(
        &self,
        group: &str,
        place: &(Arc<str>, u32),
    ) -> Result<Option<u64>, ReadError> {
        let client = self.client(group)?;
        let timeout = self.config.call_timeout;
        self.patiently(|| {
            let answer = client.committed_offsets(list(place, Offset::Invalid), timeout)?;
            let elements = answer.elements();
            let Some(found) = elements.first() else {
                return Ok(None);
            };
            found.error()?;
            Ok(match found.offset() {
                Offset::Offset(at) => u64::try_from(at).ok(),
                _ => None,
            })
        })
    }

    /// The committed offsets of all partitions of a topic, in one request.
    pub(super) fn committed_of_all(
        &self,
        group: &str,
        topic: &str,
        partitions: u32,
    ) -> Result<Vec<Option<u64>>, ReadError> {
        let client = self.client(group)?;
        let timeout = self.config.call_timeout;
        self.patiently(|| {
            let mut list = TopicPartitionList::with_capacity(partitions as usize);
            for partition in 0..partitions {
                list.add_partition(topic, number(partition));
            }
            let answer = client.committed_offsets(list, timeout)?;
            let mut found = vec![None; partitions as usize];
            for element in answer.elements() {
                element.error()?;
                let at = usize::try_from(element.partition()).unwrap_or(usize::MAX);
                if let (Some(place), Offset::Offset(at)) = (found.get_mut(at), element.offset()) {
                    *place = u64::try_from(at).ok();
                }
            }
            Ok(found)
        })
    }

    /// A group's coordinator may be moving: that passes.
    fn patiently<T>(&self, call: impl Fn() -> Result<T, Native>) -> Result<T, ReadError> {
        let until = Instant::now() + self.config.call_timeout;
        loop {
            match call() {
                Ok(value) => return Ok(value),
                Err(error) if passes(&error) && Instant::now() < until => {
                    std::thread::sleep(RETRY_EVERY);
                }
                Err(error) => return Err(unavailable(&error)),
            }
        }
    }

    /// Serves log lines.
    pub(super) fn serve(&self) {
        let clients: Vec<Client> = self.lock().iter().map(|(_, c)| Arc::clone(c)).collect();
        clients.iter().for_each(|client| serve(client));
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        bury(std::mem::take(&mut *self.lock()));
    }
}

fn passes(error: &Native) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::WaitingForCoordinator
                | Code::CoordinatorLoadInProgress
                | Code::CoordinatorNotAvailable
                | Code::NotCoordinator
                | Code::BrokerTransportFailure
                | Code::RequestTimedOut
                | Code::UnknownTopicOrPartition
        )
    )
}
