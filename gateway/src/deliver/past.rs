//! What a partition of a topic holds, read from its beginning.

use hawser_engines::log::{Log, ReadError, Record, Topic};

/// One read.
const READ_RECORDS: usize = 1_024;
const READ_BYTES: usize = 4 << 20;

/// Hands out every record that is there, in order. Blocks.
///
/// # Errors
/// The log cannot be read.
pub(crate) fn each_record(
    log: &dyn Log,
    topic: Topic,
    partition: u32,
    mut each: impl FnMut(&Record),
) -> Result<(), ReadError> {
    let mut from = log.watermarks(topic, partition)?.low;
    loop {
        let records = log.read(topic, partition, from, READ_RECORDS, READ_BYTES)?;
        let Some(last) = records.last() else {
            return Ok(());
        };
        from = last.offset + 1;
        records.iter().for_each(&mut each);
    }
}
