//! Ingest as the commit hook of the embedded engine: what a record comes to is committed with it.

use super::reference::on_lane;
use super::{Core, IngestConfig, IngestCounters};
use hawser_engines::embedded::{CommitHook, HookBatch};
use hawser_engines::log::Record;
use hawser_engines::store::Store;
use std::sync::Arc;

/// The hook; give it to `EmbeddedEngine::set_hook`.
#[derive(Debug)]
pub struct EmbeddedIngest {
    core: Core,
    counters: Arc<IngestCounters>,
}

impl EmbeddedIngest {
    /// The generation comes from the engine.
    #[must_use]
    pub fn new(config: IngestConfig) -> Self {
        Self {
            core: Core::new(config, 1),
            counters: Arc::default(),
        }
    }

    /// What it does, for metrics.
    #[must_use]
    pub fn counters(&self) -> Arc<IngestCounters> {
        Arc::clone(&self.counters)
    }
}

impl CommitHook for EmbeddedIngest {
    fn begin(&mut self, generation: u16) {
        self.core.begin(generation);
    }

    fn record(&mut self, partition: u32, record: &Record, store: &dyn Store, out: &mut HookBatch) {
        match self.core.judge(partition, record, store) {
            Ok(plan) => {
                self.counters.count(plan.verdict);
                out.store = plan.store;
                if let Some(body) = plan.body {
                    // The only node's.
                    let lane = on_lane(0, body, record.timestamp_ms);
                    out.fleeting.push(lane);
                    self.counters.referred(1, 0);
                }
                out.produce = plan.produce;
                out.groups = plan.groups;
            }
            Err(error) => out.abort = Some(error.to_string()),
        }
    }

    fn batch_committed(&mut self) {
        self.core.committed();
    }

    fn batch_failed(&mut self) {
        self.core.failed();
    }
}
