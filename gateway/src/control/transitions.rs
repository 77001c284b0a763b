//! Presence changes of the whole cluster, and who serves guests: every node reads all of `chat-presence` from its end and
//! tells its cores (docs/adr/0005, 0021).

use crate::counters::{CoreCounters, Counter};
use crate::reactor::inbox::ToCore;
use hawser_engines::log::{Consumer, Log, ReadError, Start, Topic, Wake};
use hawser_engines::presence::Presence;
use hawser_protocol::record::{EphemeralPresence, EphemeralRecord};
use hawser_ring::Sender;
use std::sync::Arc;
use tokio::sync::Notify;

/// Changes taken from one partition per look.
const CHANGES_PER_LOOK: usize = 256;

/// The consumers of all partitions.
pub(crate) struct Transitions {
    consumers: Vec<Box<dyn Consumer>>,
    woken: Arc<Notify>,
}

struct Woken(Arc<Notify>);

impl Wake for Woken {
    fn wake(&self) {
        self.0.notify_one();
    }
}

impl Transitions {
    /// Begins at the end of every partition.
    ///
    /// # Errors
    /// The log cannot be reached.
    pub(crate) fn open(log: &dyn Log) -> Result<Self, ReadError> {
        let woken = Arc::new(Notify::new());
        let consumers = (0..log.partitions(Topic::ChatPresence))
            .map(|partition| {
                let wake = Arc::new(Woken(woken.clone()));
                log.consumer(Topic::ChatPresence, partition, Start::Latest, wake)
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { consumers, woken })
    }

    /// Returns when there may be changes.
    pub(crate) async fn changed(&self) {
        self.woken.notified().await;
    }

    /// Tells every core what has changed.
    pub(crate) fn forward(&mut self, cores: &[Sender<ToCore>], counters: &CoreCounters) {
        let mut again = false;
        for consumer in &mut self.consumers {
            let mut changed = Vec::new();
            let taken = consumer.poll(
                CHANGES_PER_LOOK,
                &mut |record| match EphemeralRecord::decode(&record.value) {
                    Ok(EphemeralRecord::Presence {
                        user,
                        state,
                        last_seen_ms,
                    }) => changed.push((user, presence(state, last_seen_ms))),
                    Ok(EphemeralRecord::Served(served)) => {
                        let served = || ToCore::Served(Box::new(served.clone()));
                        tell(served, 1, cores, counters);
                    }
                    Ok(EphemeralRecord::Typing { .. }) | Err(_) => {}
                },
            );
            if !changed.is_empty() {
                let changed: Arc<[_]> = changed.into();
                let letter = || ToCore::PresenceChanged(changed.clone());
                tell(letter, changed.len(), cores, counters);
            }
            match taken {
                Ok(taken) => again |= taken == CHANGES_PER_LOOK,
                // What is gone was presence: go on with what comes.
                Err(ReadError::OutOfRange { high, .. }) => again |= consumer.seek(high).is_ok(),
                Err(_) => counters.inc(Counter::ReadErrors),
            }
        }
        if again {
            self.woken.notify_one();
        }
    }
}

fn presence(state: EphemeralPresence, last_seen_ms: u64) -> Presence {
    match state {
        EphemeralPresence::Unknown => Presence::Unknown,
        EphemeralPresence::Online => Presence::Online,
        EphemeralPresence::Offline => Presence::Offline { last_seen_ms },
    }
}

/// Gives every core a letter with so many changes in it.
fn tell(
    letter: impl Fn() -> ToCore,
    changes: usize,
    cores: &[Sender<ToCore>],
    counters: &CoreCounters,
) {
    for core in cores {
        if core.try_send(letter()).is_err() {
            counters.add(Counter::PresenceShed, changes as u64);
        }
    }
}
