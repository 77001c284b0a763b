//! A core with sessions, a log in memory that it delivers from, and the other ends of its connections.

use bytes::Bytes;
use hawser_benches::record;
use hawser_engines::log::{
    Appended, Consumer, Log, Produce, ProduceError, ReadError, Record, Start, Topic, Wake,
    Watermarks,
};
use hawser_fanout::auth::{Issuer, Verifier};
use hawser_gateway::bench::{BenchCore, BenchSession};
use hawser_protocol::frame::{Ack, ClientFrame};
use hawser_protocol::ids::{DeviceId, Seq, UserId};
use hawser_protocol::json;
use hawser_protocol::message::Envelope;
use hawser_protocol::record::{Audience, DeliveryKind, DeliveryRecord};
use hawser_wire::record::Layer;
use hawser_wire::ws::{Data, OpCode, encode};
use std::collections::VecDeque;
use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Why the edge did not do what it is there to do.
pub(crate) type Failed = Box<dyn Error>;

const MASK: [u8; 4] = [0x51, 0xa3, 0x0e, 0xc7];
/// Records that the replay ring has room for, about; what one costs it beside its body, and beside its recipients.
const KEPT_RECORDS: usize = 8;
const RECORD_BYTES: usize = 400;
const RECIPIENT_BYTES: usize = 28;
/// What is on its way between the ends is waited for in pauses, so many at most.
const PAUSE: Duration = Duration::from_millis(1);
const PAUSES_MAX: usize = 5_000;
/// Looks after which what was asked for does not come any more.
const LOOKS_MAX: usize = 100_000;

/// Whose wake tells of a record, once there is a consumer.
type Woken = Mutex<Option<Arc<dyn Wake>>>;

/// `delivery` is one partition of records that are not yet read, every other topic is empty.
#[derive(Default)]
struct MemoryLog {
    delivery: Arc<Mutex<VecDeque<Record>>>,
    woken: Woken,
}

impl MemoryLog {
    fn append(&self, record: Record) {
        let mut records = self.delivery.lock().unwrap_or_else(PoisonError::into_inner);
        records.push_back(record);
        drop(records);
        let woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(wake) = &*woken {
            wake.wake();
        }
    }
}

impl Log for MemoryLog {
    fn partitions(&self, _: Topic) -> u32 {
        1
    }

    fn generation(&self, _: Topic) -> u16 {
        1
    }

    fn produce(&self, _: Produce, tag: u64, done: &Arc<dyn Appended>) -> Result<(), ProduceError> {
        done.appended(tag, Ok(Some(tag)));
        Ok(())
    }

    fn consumer(
        &self,
        topic: Topic,
        _: u32,
        _: Start,
        wake: Arc<dyn Wake>,
    ) -> Result<Box<dyn Consumer>, ReadError> {
        if topic != Topic::Delivery {
            return Ok(Box::new(MemoryConsumer::default()));
        }
        *self.woken.lock().unwrap_or_else(PoisonError::into_inner) = Some(wake);
        Ok(Box::new(MemoryConsumer {
            records: self.delivery.clone(),
            position: 0,
        }))
    }

    fn read(&self, _: Topic, _: u32, _: u64, _: usize, _: usize) -> Result<Vec<Record>, ReadError> {
        Ok(Vec::new())
    }

    fn watermarks(&self, _: Topic, _: u32) -> Result<Watermarks, ReadError> {
        Ok(Watermarks { low: 0, high: 0 })
    }

    fn commit(&self, _: &str, _: Topic, _: u32, _: u64) -> Result<(), ReadError> {
        Ok(())
    }

    fn committed(&self, _: &str, _: Topic, _: u32) -> Result<Option<u64>, ReadError> {
        Ok(None)
    }

    fn writable(&self) -> Result<(), String> {
        Ok(())
    }
}

#[derive(Default)]
struct MemoryConsumer {
    records: Arc<Mutex<VecDeque<Record>>>,
    position: u64,
}

impl Consumer for MemoryConsumer {
    fn poll(&mut self, max: usize, each: &mut dyn FnMut(Record)) -> Result<usize, ReadError> {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        for read in 0..max {
            let Some(record) = records.pop_front() else {
                return Ok(read);
            };
            self.position = record.offset + 1;
            each(record);
        }
        Ok(max)
    }

    fn position(&self) -> u64 {
        self.position
    }

    fn seek(&mut self, to: u64) -> Result<(), ReadError> {
        self.position = to;
        Ok(())
    }
}

/// A connection's other end.
struct Client {
    socket: TcpStream,
    layer: Layer,
    sealed: Vec<u8>,
}

/// The messages that go to all sessions.
#[derive(Clone, Copy, Default)]
pub(crate) struct Shape {
    /// The sessions are on JSON.
    pub(crate) json: bool,
    /// Each has an envelope of its own: no two get the same bytes.
    pub(crate) envelopes: bool,
    /// Bytes of the body.
    pub(crate) body: usize,
}

/// Bytes of an envelope.
const ENVELOPE_BYTES: usize = 64;

/// See the module.
pub(crate) struct Edge {
    /// The core.
    pub(crate) core: BenchCore,
    log: Arc<MemoryLog>,
    clients: Vec<Client>,
    users: Vec<UserId>,
    shape: Shape,
    offset: u64,
    record: Bytes,
    _keys: tempfile::TempDir,
}

impl Edge {
    /// A core with a live session for each of these connections (client's end, server's end), and messages of this shape to
    /// come.
    ///
    /// # Errors
    /// It cannot be made, or a session does not become live.
    pub(crate) fn new(
        connections: impl Iterator<Item = Result<(Layer, Layer), Failed>>,
        shape: Shape,
    ) -> Result<Self, Failed> {
        // A handshake takes long under callgrind: all before the first session waits for its heartbeat.
        let connections: Vec<_> = connections.collect::<Result<_, _>>()?;
        let keys = tempfile::TempDir::new()?;
        let issuer = Issuer::open(keys.path())?;
        let verifier = Verifier::new(issuer.auth_settings(None))?;
        let log = Arc::new(MemoryLog::default());
        let recipient_bytes = match shape.envelopes {
            true => 2 * RECIPIENT_BYTES + ENVELOPE_BYTES,
            false => RECIPIENT_BYTES,
        };
        let record_bytes = shape.body + RECORD_BYTES + connections.len() * recipient_bytes;
        let mut edge = Self {
            core: BenchCore::new(log.clone(), verifier, KEPT_RECORDS * record_bytes)?,
            log,
            clients: Vec::new(),
            users: Vec::new(),
            shape,
            offset: 0,
            record: Bytes::new(),
            _keys: keys,
        };
        for (n, layers) in connections.into_iter().enumerate() {
            edge.join(n, layers)?;
        }
        edge.write_record()?;
        while edge.core.turn() {}
        // What goes round first is as it is ever after: every session is live, the replay ring is full, and memory is there that
        // is used again.
        while edge.core.evicted() < 4 {
            edge.round()?;
        }
        Ok(edge)
    }

    /// A session begins.
    ///
    /// # Errors
    /// There is no place for it.
    pub(crate) fn join(
        &mut self,
        n: usize,
        (client, server): (Layer, Layer),
    ) -> Result<(), Failed> {
        let user = UserId::new(&format!("user-{n:06}"))?;
        let socket = self.core.join(BenchSession {
            user: user.clone(),
            device: DeviceId::new("phone")?,
            json: self.shape.json,
            layer: server,
            expires_at_ms: u64::MAX,
        })?;
        socket.set_nonblocking(true)?;
        self.users.push(user);
        self.clients.push(Client {
            socket,
            layer: client,
            sealed: Vec::new(),
        });
        Ok(())
    }

    /// Writes anew, for all who have joined, what [`Edge::append`] appends.
    fn write_record(&mut self) -> Result<(), Failed> {
        let message = record(self.shape.body)?;
        let phone = DeviceId::new("phone")?;
        let envelopes = self.users.iter().map(|user| Envelope {
            user: user.clone(),
            device: phone.clone(),
            bytes: Bytes::from_static(&[7; ENVELOPE_BYTES]),
        });
        let envelopes = envelopes.filter(|_| self.shape.envelopes).collect();
        let record = DeliveryRecord {
            source_partition: 3,
            // A record without a source is never a duplicate.
            source_seq: Seq::NONE,
            sub_index: 0,
            kind: DeliveryKind::Message {
                recipients: Audience::Listed(self.users.clone()),
                record: message.encode(),
                envelopes,
                sender_entry: None,
            },
        };
        self.record = record.encode();
        Ok(())
    }

    /// One message for all sessions comes to the log.
    pub(crate) fn append(&mut self) {
        self.log.append(Record {
            offset: self.offset,
            timestamp_ms: 0,
            key: Bytes::new(),
            value: self.record.clone(),
        });
        self.offset += 1;
    }

    /// A message on its way through all of it: to the log, to every session, to the sockets, and acknowledged.
    ///
    /// # Errors
    /// It did not come to each.
    pub(crate) fn round(&mut self) -> Result<(), Failed> {
        self.append();
        let before = self.core.delivered();
        self.core.deliver();
        self.came_to_all(before)?;
        self.core.flush();
        self.core.submit();
        self.sent();
        self.read()?;
        self.acknowledge()?;
        self.hear()
    }

    /// Whether as many records were written since as there are sessions.
    ///
    /// # Errors
    /// There were not.
    pub(crate) fn came_to_all(&self, before: u64) -> Result<(), Failed> {
        let (came, all) = (self.core.delivered() - before, self.clients.len());
        match came == all as u64 {
            true => Ok(()),
            false => Err(format!("{came} of {all} sessions got it").into()),
        }
    }

    /// Takes what has ended of the sends.
    pub(crate) fn sent(&mut self) {
        while self.core.events() {}
        self.core.flush();
    }

    /// The clients read what came.
    ///
    /// # Errors
    /// A connection has ended, or no message has come.
    pub(crate) fn read(&mut self) -> Result<(), Failed> {
        let mut buffer = [0; 16_384];
        for client in &mut self.clients {
            let mut all = 0;
            let mut pauses = 0;
            loop {
                match client.socket.read(&mut buffer) {
                    Ok(0) => return Err("a connection has ended".into()),
                    Ok(n) => all += n,
                    Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error.into()),
                    Err(_) if all > self.shape.body => break,
                    Err(_) if pauses == PAUSES_MAX => {
                        return Err(format!("{all} bytes came").into());
                    }
                    Err(_) => pauses += 1,
                }
                if all <= self.shape.body {
                    std::thread::sleep(PAUSE);
                }
            }
        }
        Ok(())
    }

    /// Every client acknowledges the last message.
    ///
    /// # Errors
    /// A connection has ended.
    pub(crate) fn acknowledge(&mut self) -> Result<(), Failed> {
        let offset = self.offset - 1;
        let ack = ClientFrame::Ack(Ack { offset });
        let mut frame = Vec::new();
        let kind = match self.shape.json {
            true => {
                frame.extend_from_slice(json::encode_client(&ack).as_bytes());
                Data::Text
            }
            false => {
                ack.encode(&mut frame);
                Data::Binary
            }
        };
        let mut message = Vec::new();
        encode(OpCode::Data(kind), &frame, Some(MASK), &mut message);
        for client in &mut self.clients {
            client.sealed.clear();
            client.layer.seal(&message, &mut client.sealed)?;
            client.socket.write_all(&client.sealed)?;
        }
        // Until they have come, so that the core does not look in vain.
        std::thread::sleep(20 * PAUSE);
        Ok(())
    }

    /// The core reads what the clients have said.
    ///
    /// # Errors
    /// Not all of it came.
    pub(crate) fn hear(&mut self) -> Result<(), Failed> {
        let all = self.core.frames_in() + self.clients.len() as u64;
        for _ in 0..LOOKS_MAX {
            while self.core.events() {}
            if self.core.frames_in() >= all {
                return Ok(());
            }
            self.core.submit();
        }
        Err("not all acks came".into())
    }
}
