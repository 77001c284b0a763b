//! One run of records to all its sessions: each session's state is looked at once, and what it gets is one record of TLS and
//! one send that the kernel tells nothing of unless it failed.

use super::delivery::WAITING_BYTES_MAX;
use super::sockets::Posted;
use super::turn::Reactor;
use crate::counters::Counter;
use crate::deliver::run::Run;
use crate::reactor::inbox::Encoding;
use crate::session::connection::{Connection, Device, Role};
use crate::session::output::POST_BYTES_MAX;
use hawser_protocol::server::Offer;
use std::ops::Range;

/// Sessions that are written to before it is sent to them: their state is in the cache still, and as many buffers do for any
/// number.
const FAN_OUT_AT_ONCE: usize = 256;

impl Reactor {
    /// Gives the records of the run to their sessions. `last`: nothing for them waits behind it, so that it goes out at
    /// once.
    pub(super) fn finish_run(&mut self, last: bool) {
        if self.scratch.run.is_empty() {
            return;
        }
        let mut run = std::mem::take(&mut self.scratch.run);
        let targets = std::mem::take(&mut run.targets);
        for some in targets.chunks(FAN_OUT_AT_ONCE) {
            for session in some {
                if let Some(mut connection) = self.take(*session) {
                    self.fan_out(&mut connection, &mut run, last);
                    self.put(connection);
                }
            }
            if last && some.len() == FAN_OUT_AT_ONCE {
                self.send_now();
            }
        }
        run.targets = targets;
        run.end();
        self.scratch.run = run;
    }

    fn fan_out(&mut self, connection: &mut Connection, run: &mut Run, last: bool) {
        let room = connection.output.waiting() < WAITING_BYTES_MAX;
        let open = connection.is_open();
        let Role::Session(device) = &mut connection.role else {
            return;
        };
        if !open {
            return;
        }
        let encoding = device.encoding;
        run.want(encoding);
        let taken = self.offer_all(device, run, room);
        if taken.is_empty() {
            return;
        }
        let count = taken.len() as u64;
        self.counters.add(Counter::Delivered, count);
        self.counters.add(Counter::FramesOut, count);
        if connection.decoder.deflate().is_some() {
            return self.write_compressed(connection, run, taken, encoding);
        }
        if last && self.post_run(connection, run, &taken, encoding) {
            return;
        }
        let out = connection.output.plain(&mut self.pool);
        out.extend_from_slice(run.messages(encoding, &taken));
        self.touch(connection);
    }

    /// Each record is a message that is compressed for itself; what is the same for the one before is compressed once.
    fn write_compressed(
        &mut self,
        connection: &mut Connection,
        run: &Run,
        taken: Range<usize>,
        encoding: Encoding,
    ) {
        for at in taken {
            let out = connection.output.plain(&mut self.pool);
            let from = out.len();
            out.extend_from_slice(run.messages(encoding, &(at..at + 1)));
            self.compress(connection, from);
        }
        self.touch(connection);
    }

    /// Which of the records are to be written for a session; they are noted as written.
    fn offer_all(&mut self, device: &mut Device, run: &Run, room: bool) -> Range<usize> {
        let (encoding, session) = (device.encoding, &mut device.session);
        let mut taken = 0..0;
        for (at, item) in run.items().iter().enumerate() {
            let lagged = session.lagging();
            match session.offer(&self.settings, item.offset, room) {
                Offer::Send => {
                    if taken.is_empty() {
                        taken.start = at;
                    }
                    taken.end = at + 1;
                    let (windows, bytes) = (&mut self.scratch.windows, item.bytes(encoding));
                    session.delivered_with(windows, item.offset, bytes, item.message.clone());
                }
                Offer::Later if !lagged => self.counters.inc(Counter::Lagged),
                // What answers a Send comes another way.
                Offer::Later | Offer::Old | Offer::Syncing => {}
            }
        }
        taken
    }

    /// Posts records to a session that has nothing else to send. `false`: they are to be written as any other.
    fn post_run(
        &mut self,
        connection: &mut Connection,
        run: &mut Run,
        taken: &Range<usize>,
        encoding: Encoding,
    ) -> bool {
        let (id, ring) = (connection.id, usize::from(connection.id.ring));
        let whole = taken.len() == run.items().len() && encoding == Encoding::Binary;
        // What is not all of it, or JSON, is another piece.
        let mut piece = run.pieces.get(ring).copied().flatten().filter(|_| whole);
        let messages = run.messages(encoding, taken);
        if !connection.output.is_idle()
            || messages.len() > POST_BYTES_MAX
            || !self.rings[ring].ring.may_send(id.key)
        {
            return false;
        }
        let mut sealed = std::mem::take(&mut self.scratch.sealed);
        let posted = self.post(
            id,
            &mut connection.layer,
            messages,
            &mut sealed,
            Some(&mut piece),
        );
        if let Some(place) = run.pieces.get_mut(ring).filter(|_| whole) {
            *place = piece;
        }
        if posted == Posted::Sealed {
            connection.output.put_sealed(&sealed, &mut self.pool);
            self.touch(connection);
        }
        self.scratch.sealed = sealed;
        posted != Posted::No
    }
}
