//! The task that writes batches, one after the other, off the session's thread.

use crate::store::{Store, StoreError, Written};
use hawser_protocol::client::Batch;
use hawser_protocol::ids::UserId;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Batches that wait for the disk. A session stops the server by not acknowledging, so there are
/// few; at the bound the session waits.
const BATCHES_WAITING_MAX: usize = 1_024;
/// A failed write is tried again after this: batches are never skipped.
const RETRY: Duration = Duration::from_secs(1);

/// What the disk reports.
#[derive(Debug)]
pub(crate) enum Stored {
    /// A batch is written, with all before it.
    Done {
        /// As the session named it.
        ticket: u64,
        /// What it changed.
        written: Box<Written>,
    },
    /// A write failed; it is tried again.
    Failed(StoreError),
}

/// The session's end of the disk.
#[derive(Debug)]
pub(crate) struct Disk {
    batches: mpsc::Sender<(u64, Box<Batch>)>,
    task: JoinHandle<()>,
}

impl Disk {
    /// Starts the task; it ends when this is dropped and everything is written.
    pub(crate) fn start(store: Arc<Store>, me: UserId, reports: mpsc::Sender<Stored>) -> Self {
        let (batches, mut inbox) = mpsc::channel::<(u64, Box<Batch>)>(BATCHES_WAITING_MAX);
        let task = tokio::spawn(async move {
            while let Some((ticket, batch)) = inbox.recv().await {
                let batch: Arc<Batch> = Arc::from(batch);
                let report = loop {
                    let (store, batch, me) = (Arc::clone(&store), Arc::clone(&batch), me.clone());
                    let write = tokio::task::spawn_blocking(move || store.write(&batch, &me));
                    match write.await {
                        Ok(Ok(written)) => break written,
                        Ok(Err(error)) => {
                            let _ = reports.try_send(Stored::Failed(error));
                            tokio::time::sleep(RETRY).await;
                        }
                        Err(_) => return,
                    }
                };
                let written = Box::new(report);
                if reports
                    .send(Stored::Done { ticket, written })
                    .await
                    .is_err()
                {
                    return;
                }
            }
        });
        Self { batches, task }
    }

    /// Gives a batch to the disk.
    pub(crate) async fn write(&self, ticket: u64, batch: Box<Batch>) {
        let _ = self.batches.send((ticket, batch)).await;
    }

    /// Waits until everything is written and the store is let go of.
    pub(crate) async fn end(self) {
        drop(self.batches);
        let _ = self.task.await;
    }
}
