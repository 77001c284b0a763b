//! What runs inside the commit of `chat-messages` records: ingest, in embedded mode.

use crate::directory::GroupNews;
use crate::log::{Produce, Record};
use crate::store::{Store, StoreOp};
use hawser_protocol::ids::Seq;

/// What one source record comes to; it is committed in the same atomic batch as the record.
#[derive(Debug, Default)]
pub struct HookBatch {
    /// Rows of the store.
    pub store: Vec<StoreOp>,
    /// Records derived from the source record (delivery, dead letters; for the lanes of a chat, `chat-messages`:
    /// such a record is judged in the same batch, and must not derive another one without end).
    pub produce: Vec<Produce>,
    /// Records for ephemeral topics: told when the batch is durable, before the others.
    pub fleeting: Vec<Produce>,
    /// What changes of groups come to, for the directory, each with the seq of the change.
    pub groups: Vec<(GroupNews, Seq)>,
    /// Set when the record cannot be judged now (a row that cannot be read): the record is then
    /// refused, nothing of it is written, and the text goes to the operator's log.
    pub abort: Option<String>,
}

/// Called on the commit thread. Reads of `store` see what is committed; what earlier records of the
/// same batch came to is for the hook itself to remember until `batch_committed` or `batch_failed`.
pub trait CommitHook: Send {
    /// The generation of `chat-messages`: called before the first record, and again whenever the
    /// engine had to open its database anew.
    fn begin(&mut self, generation: u16) {
        let _ = generation;
    }

    /// Judges one record of `chat-messages`; records of a partition come in offset order.
    /// After `batch_failed` an offset can come again with another record.
    fn record(&mut self, partition: u32, record: &Record, store: &dyn Store, out: &mut HookBatch);

    /// All records since the last call are durable and visible: reads of the store see them.
    fn batch_committed(&mut self) {}

    /// None of the records since the last call was written (as far as is known): forget them.
    fn batch_failed(&mut self) {}
}
