//! What the store on Cassandra costs: messages written per second as ingest writes them (row, head and outcome), pages and
//! outcomes read per second, latency of one write, and the processor time of both sides.
//!
//!   dev/engines up cassandra
//!   cargo run --release -p hawser-engines --features cassandra --example store_bench -- \
//!     --cassandra 127.0.0.1:9042 --pid PID --seconds 10
//!
//! `--pid`: the process of Cassandra, for its processor time. Makes and drops a keyspace of its own, `hawser_bench`.
#![expect(clippy::print_stdout, reason = "its output")]

use bytes::Bytes;
use hawser_engines::bridge::Bridge;
use hawser_engines::cassandra::{CassandraConfig, CassandraStore, Replication};
use hawser_engines::store::{Ask, ChatHead, DedupRow, Page, Store, StoreError, StoreOp};
use hawser_protocol::ids::{ChatId, ClientMsgId, DeviceId, Seq, UserId};
use std::error::Error;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Messages under way at full speed: what a busy ingest has.
const WINDOW: usize = 1_024;
/// Messages of one batch.
const BATCH: usize = 16;
const CHATS: u64 = 500;
/// Messages of a page.
const PAGE: u64 = 50;
const TICKS_PER_SECOND: f64 = 100.0;

struct Settings {
    cassandra: String,
    pid: Option<u32>,
    run: Duration,
}

fn settings() -> Result<Settings, Box<dyn Error>> {
    let mut settings = Settings {
        cassandra: "127.0.0.1:9042".to_owned(),
        pid: None,
        run: Duration::from_secs(10),
    };
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        let value = args.next().ok_or("every option has a value")?;
        match name.as_str() {
            "--cassandra" => settings.cassandra = value,
            "--pid" => settings.pid = Some(value.parse()?),
            "--seconds" => settings.run = Duration::from_secs(value.parse()?),
            _ => return Err(format!("{name} is no option").into()),
        }
    }
    Ok(settings)
}

/// Processor time of a process, seconds.
fn cpu(pid: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = |n| {
        after_name
            .split_whitespace()
            .nth(n)
            .and_then(|t| t.parse::<f64>().ok())
    };
    (ticks(11).unwrap_or(0.0) + ticks(12).unwrap_or(0.0)) / TICKS_PER_SECOND
}

struct Used<'a> {
    settings: &'a Settings,
    since: Instant,
    own: f64,
    theirs: f64,
}

impl<'a> Used<'a> {
    fn since_now(settings: &'a Settings) -> Self {
        Self {
            settings,
            since: Instant::now(),
            own: cpu("self"),
            theirs: settings.pid.map_or(0.0, |pid| cpu(&pid.to_string())),
        }
    }

    fn tell(&self, what: &str, count: u64, unit: &str) {
        let seconds = self.since.elapsed().as_secs_f64();
        let own = cpu("self") - self.own;
        let theirs = self
            .settings
            .pid
            .map(|pid| cpu(&pid.to_string()) - self.theirs);
        let count = f64::from(u32::try_from(count).unwrap_or(u32::MAX)).max(1.0);
        let per = |used: f64| used / count * 1e6;
        let theirs = theirs.map_or("?".to_owned(), |used| format!("{:.0}", per(used)));
        println!(
            "| {what} | {:.0} {unit}/s | {:.0} | {theirs} |",
            count / seconds,
            per(own)
        );
    }
}

struct Ids {
    chats: Vec<ChatId>,
    user: UserId,
    device: DeviceId,
}

impl Ids {
    fn new(bytes: usize) -> Result<Self, Box<dyn Error>> {
        let chat = |n| ChatId::new(&format!("g:bench-{bytes}-{n}"));
        Ok(Self {
            chats: (0..CHATS).map(chat).collect::<Result<_, _>>()?,
            user: UserId::new("bench")?,
            device: DeviceId::new("bench")?,
        })
    }

    /// The `n`th message, as ingest writes it.
    fn message(&self, n: u64, record: &Bytes) -> [StoreOp; 3] {
        let (seq, ordinal) = (Seq::new(1, n), n / CHATS + 1);
        let chat = &self.chats[usize::try_from(n % CHATS).unwrap_or(0)];
        [
            StoreOp::Message {
                chat: chat.clone(),
                ordinal,
                seq,
                record: record.clone(),
                envelopes: Bytes::new(),
            },
            StoreOp::Head {
                chat: chat.clone(),
                head: ChatHead { seq, ordinal },
            },
            StoreOp::Dedup {
                user: self.user.clone(),
                device: self.device.clone(),
                chat: chat.clone(),
                client_msg_id: id(n),
                row: DedupRow {
                    seq,
                    error: 0,
                    ordinal,
                    prev_seq: Seq::NONE,
                    stored_ts_ms: 1_700_000_000_000,
                },
            },
        ]
    }
}

fn id(n: u64) -> ClientMsgId {
    let mut id = [7; 16];
    id[..8].copy_from_slice(&n.to_be_bytes());
    ClientMsgId(id)
}

type Told = (
    SyncSender<Result<(), StoreError>>,
    Receiver<Result<(), StoreError>>,
);

/// At full speed; how many there are in the end.
fn write(store: &dyn Store, ids: &Ids, record: &Bytes, run: Duration) -> Result<u64, StoreError> {
    let (told, outcomes): Told = sync_channel(WINDOW);
    let (mut sent, mut under_way, until) = (0, 0, Instant::now() + run);
    loop {
        if Instant::now() < until && under_way < WINDOW / BATCH {
            let batch = (0..BATCH as u64).flat_map(|n| ids.message(sent + n, record));
            let told = told.clone();
            let tell = move |outcome| drop(told.send(outcome));
            store.write_later(batch.collect(), Box::new(tell));
            sent += BATCH as u64;
            under_way += 1;
        } else if under_way > 0 {
            outcomes.recv().unwrap_or(Ok(()))?;
            under_way -= 1;
        } else {
            return Ok(sent);
        }
    }
}

/// One message at a time.
fn latency(store: &dyn Store, ids: &Ids, record: &Bytes, from: u64) -> Result<(), StoreError> {
    let mut took = Vec::new();
    for n in 0..500 {
        let since = Instant::now();
        store.write(&ids.message(from + n, record))?;
        took.push(since.elapsed());
    }
    took.sort_unstable();
    let at = |share: usize| took[took.len() * share / 100].as_secs_f64() * 1e3;
    println!(
        "one at a time: p50 {:.2} ms, p99 {:.2} ms (two round trips)",
        at(50),
        at(99)
    );
    Ok(())
}

/// Pages of the newest messages, by eight readers.
fn read(store: &dyn Store, ids: &Ids, run: Duration) -> u64 {
    let reader = |reader: usize| {
        let (mut rows, until) = (0, Instant::now() + run);
        for chat in ids.chats.iter().cycle().skip(reader * 61) {
            if Instant::now() >= until {
                break;
            }
            let page = Page {
                from: 0,
                to: PAGE,
                backwards: true,
                limit: 50,
                bytes_max: 1 << 20,
            };
            rows += store
                .messages(chat, page)
                .map_or(0, |page| page.len() as u64);
        }
        rows
    };
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..8).map(|n| scope.spawn(move || reader(n))).collect();
        readers.into_iter().map(|r| r.join().unwrap_or(0)).sum()
    })
}

/// Outcomes, 512 at once.
fn ask(store: &dyn Store, ids: &Ids, run: Duration) -> Result<u64, StoreError> {
    let (mut asked, until) = (0, Instant::now() + run);
    while Instant::now() < until {
        let one = |n: u64| {
            let chat = &ids.chats[usize::try_from(n % CHATS).unwrap_or(0)];
            Ask::Dedup(ids.user.clone(), ids.device.clone(), chat.clone(), id(n))
        };
        let asks: Vec<_> = (asked..asked + 512).map(one).collect();
        asked += store.ask(&asks)?.len() as u64;
    }
    Ok(asked)
}

fn main() -> Result<(), Box<dyn Error>> {
    let settings = settings()?;
    let bridge = Bridge::start("bench")?;
    let mut config = CassandraConfig::new(vec![settings.cassandra.clone()]);
    config.keyspace = "hawser_bench".to_owned();
    config.replication = Replication::Copies(1);
    config.allow_unsafe = true;
    let store = CassandraStore::open(config, bridge)?;
    for bytes in [200_usize, 5_120] {
        let ids = Ids::new(bytes)?;
        // As ciphertext is: nothing to compress.
        let record: Vec<u8> = (0..bytes)
            .map(|i| (i * i % 251 * (i + 7)).to_le_bytes()[0])
            .collect();
        let record = Bytes::from(record);
        println!("\n{bytes} B: | what | rate | own µs each | Cassandra µs each |");
        let used = Used::since_now(&settings);
        let written = write(&store, &ids, &record, settings.run)?;
        used.tell("write: row, head, outcome", written, "messages");
        latency(&store, &ids, &record, written)?;
        let used = Used::since_now(&settings);
        let rows = read(&store, &ids, settings.run / 2);
        used.tell("history, pages of 50", rows, "rows");
        let used = Used::since_now(&settings);
        let asked = ask(&store, &ids, settings.run / 2)?;
        used.tell("outcomes asked for", asked, "rows");
    }
    println!("\n{:?}", store.stats());
    println!("now: DROP KEYSPACE hawser_bench");
    Ok(())
}
