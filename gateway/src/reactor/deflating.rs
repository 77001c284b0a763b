//! Messages of connections that have agreed to compress; of the others, one branch.

use super::turn::Reactor;
use crate::counters::Counter;
use crate::session::connection::Connection;
use crate::session::deflate::Shrunk;
use hawser_wire::ws::{Deflate, Deflated, WsError};

impl Reactor {
    /// Compresses the one frame that was written to the output from `from` on, where both ends have agreed on that.
    pub(super) fn compress(&mut self, connection: &mut Connection, from: usize) {
        if let Some(agreed) = connection.decoder.deflate() {
            self.compress_frame(connection, agreed, from);
        }
    }

    #[inline(never)]
    fn compress_frame(&mut self, connection: &mut Connection, agreed: Deflate, from: usize) {
        let Some(limits) = self.node.config.deflate else {
            return;
        };
        let out = connection.output.plain(&mut self.pool);
        let before = out.len().saturating_sub(from) as u64;
        let shrunk = self.scratch.deflating.shrink(limits, agreed, out, from);
        let counters = &self.counters;
        let saved = match shrunk {
            Shrunk::Not => return,
            Shrunk::InVain => return counters.inc(Counter::DeflateInVain),
            Shrunk::Fresh(saved) => saved,
            Shrunk::Shared(saved) => {
                counters.inc(Counter::DeflateShared);
                saved
            }
        };
        counters.inc(Counter::DeflateMessages);
        counters.add(Counter::DeflateBytesBefore, before);
        counters.add(Counter::DeflateBytesAfter, before - saved as u64);
    }

    /// Reads a message that came compressed. What it has more than came over the wire counts towards its sender's byte rate.
    pub(super) fn inflate(&mut self, connection: &mut Connection, deflated: Deflated<'_>) {
        let before = deflated.len();
        let mut inflater = self.scratch.deflating.take();
        match deflated.inflate(&mut inflater) {
            Ok(message) => {
                let after = message.len();
                self.counters.inc(Counter::InflateMessages);
                self.counters
                    .add(Counter::InflateBytesBefore, before as u64);
                self.counters.add(Counter::InflateBytesAfter, after as u64);
                self.pace(connection, after.saturating_sub(before));
                self.message(connection, message);
            }
            Err(error) => {
                if error == WsError::TooLong {
                    self.counters.inc(Counter::InflateTooLarge);
                }
                self.broke_websocket(connection, error);
            }
        }
        self.scratch.deflating.give(inflater);
    }
}
