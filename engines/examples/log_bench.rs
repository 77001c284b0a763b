//! What the log on Kafka costs, by compression, linger and size of body: records per second and client CPU at full
//! speed, bytes on the brokers' disks, and append latency at a fixed rate, counted from when a record was due.
//!
//!   dev/engines up kafka
//!   cargo run -p hawser-engines --features kafka --example log_bench -- --brokers 127.0.0.1:9092 --data DIR
//!
//! `--data DIR` (again for every broker) is a broker's data folder, for bytes on disk. `--rounds N`
//! (default 3) measures everything N times in turn and tells the medians. Prints a line of JSON for each case, and then a table.
#![expect(clippy::print_stdout, reason = "its output")]

use hawser_engines::kafka::{Compression, KafkaConfig, KafkaLog};
use hawser_engines::log::{AppendOutcome, Appended, Log, Produce, Topic};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const PARTITIONS: u32 = 16;
/// Records between the two ends at full speed: what a busy node has in flight.
const WINDOW: u64 = 4_096;
/// Appends per second when latency is measured.
const RATE: u64 = 2_000;

struct Settings {
    brokers: String,
    data: Vec<PathBuf>,
    rounds: usize,
}

#[derive(Clone, Copy)]
enum Body {
    /// As a client without encryption has it.
    Text,
    /// As an end-to-end encrypted one has it: incompressible.
    Cipher,
}

#[derive(Clone, Copy)]
struct Case {
    codec: Compression,
    body: Body,
    bytes: usize,
    linger_us: u64,
    batch_kib: u32,
}

struct Figures {
    case: Case,
    per_second: f64,
    cpu_us: f64,
    cpu_us_at_rate: f64,
    disk_bytes: Option<f64>,
    p50_ms: f64,
    p99_ms: f64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let settings = arguments()?;
    let cases = cases();
    let mut measured: Vec<Vec<Figures>> = cases.iter().map(|_| Vec::new()).collect();
    for _ in 0..settings.rounds.max(1) {
        for (case, figures) in cases.iter().zip(&mut measured) {
            figures.push(measure(&settings, *case)?);
        }
    }
    let results: Vec<Figures> = measured.iter().map(|all| medians(all)).collect();
    for result in &results {
        println!("{}", json(result));
    }
    println!("\n{}", table(&results));
    Ok(())
}

/// The median of each figure by itself.
fn medians(all: &[Figures]) -> Figures {
    let of = |figure: fn(&Figures) -> f64| {
        let mut values: Vec<f64> = all.iter().map(figure).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let disk = all[0].disk_bytes.is_some();
    Figures {
        case: all[0].case,
        per_second: of(|f| f.per_second),
        cpu_us: of(|f| f.cpu_us),
        cpu_us_at_rate: of(|f| f.cpu_us_at_rate),
        disk_bytes: disk.then(|| of(|f| f.disk_bytes.unwrap_or(0.0))),
        p50_ms: of(|f| f.p50_ms),
        p99_ms: of(|f| f.p99_ms),
    }
}

fn arguments() -> Result<Settings, String> {
    let mut settings = Settings {
        brokers: "127.0.0.1:9092".to_owned(),
        data: Vec::new(),
        rounds: 3,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--brokers" => settings.brokers = value()?,
            "--data" => settings.data.push(value()?.into()),
            "--rounds" => {
                settings.rounds = value()?.parse().map_err(|_| "--rounds N".to_owned())?;
            }
            other => {
                return Err(format!(
                    "what is {other}? --brokers LIST, --data DIR, --quick"
                ));
            }
        }
    }
    Ok(settings)
}

/// Every compression with every body; then linger and batch with the default one.
fn cases() -> Vec<Case> {
    let case = |codec, body, bytes, linger_us, batch_kib| Case {
        codec,
        body,
        bytes,
        linger_us,
        batch_kib,
    };
    let mut cases = Vec::new();
    for bytes in [200, 5_000] {
        for body in [Body::Text, Body::Cipher] {
            for codec in Compression::ALL {
                cases.push(case(*codec, body, bytes, 500, 256));
            }
        }
    }
    for bytes in [200, 5_000] {
        for linger_us in [0, 2_000, 5_000] {
            cases.push(case(Compression::Lz4, Body::Text, bytes, linger_us, 256));
        }
        for batch_kib in [32, 1_024] {
            cases.push(case(Compression::Lz4, Body::Text, bytes, 500, batch_kib));
        }
    }
    cases
}

fn measure(settings: &Settings, case: Case) -> Result<Figures, Box<dyn Error>> {
    let copies = settings.brokers.split(',').count();
    let mut config = KafkaConfig::new(&settings.brokers);
    config.prefix = "log-bench-".to_owned();
    config.partitions = PARTITIONS;
    config.replication = if copies < 3 { 1 } else { 3 };
    config.min_insync = config.replication.min(2);
    config.allow_unsafe = copies < 3;
    config.compression = case.codec;
    config.linger = Duration::from_micros(case.linger_us);
    config.batch_kib = case.batch_kib;
    // At full speed a small broker may be silent for longer than a node would bear.
    config.produce_timeout = Duration::from_secs(60);
    config.down_timeout = Duration::from_secs(30);
    let log = KafkaLog::open(config)?;
    let records: u32 = if case.bytes > 1_000 { 12_000 } else { 100_000 };
    // As many bodies as records: a repeated one would be compressed to nothing.
    let (bodies, records) = (bodies(case, records), u64::from(records));
    // Connections, producer ids, leaders.
    full_speed(&log, &bodies, 1_000)?;
    let (disk, cpu, began) = (on_disk(settings), cpu_us()?, Instant::now());
    full_speed(&log, &bodies, records)?;
    let (took, used) = (began.elapsed(), cpu_us()? - cpu);
    let grown = on_disk(settings).zip(disk).map(|(now, then)| now - then);
    let cpu = cpu_us()?;
    let mut waited = at_rate(&log, &bodies, RATE * 3)?;
    let used_at_rate = cpu_us()? - cpu;
    waited.sort_unstable();
    let at = |percent: usize| waited[(waited.len() - 1) * percent / 100].as_secs_f64() * 1e3;
    Ok(Figures {
        case,
        per_second: records as f64 / took.as_secs_f64(),
        cpu_us: used as f64 / records as f64,
        cpu_us_at_rate: used_at_rate as f64 / waited.len() as f64,
        disk_bytes: grown.map(|bytes| bytes as f64 / records as f64),
        p50_ms: at(50),
        p99_ms: at(99),
    })
}

/// Outcomes: how many, and how long after each was due.
#[derive(Default)]
struct Outcomes {
    answered: AtomicU64,
    failed: AtomicU64,
    due: Mutex<Vec<Instant>>,
    waited: Mutex<Vec<Duration>>,
}

impl Appended for Outcomes {
    fn appended(&self, tag: u64, outcome: AppendOutcome) {
        if outcome.is_err() {
            self.failed.fetch_add(1, Ordering::AcqRel);
        }
        let due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let due = usize::try_from(tag)
            .ok()
            .and_then(|tag| due.get(tag).copied());
        if let Some(due) = due {
            let mut waited = self.waited.lock().unwrap_or_else(PoisonError::into_inner);
            waited.push(due.elapsed());
        }
        self.answered.fetch_add(1, Ordering::AcqRel);
    }
}

impl Outcomes {
    fn wait_for(&self, all: u64) -> Result<(), String> {
        let until = Instant::now() + Duration::from_secs(60);
        while self.answered.load(Ordering::Acquire) < all {
            if Instant::now() > until {
                return Err("no answer in 60 s".to_owned());
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        match self.failed.load(Ordering::Acquire) {
            0 => Ok(()),
            failed => Err(format!(
                "{failed} appends failed: nothing can be said of the rest"
            )),
        }
    }
}

fn full_speed(log: &KafkaLog, bodies: &[bytes::Bytes], records: u64) -> Result<(), Box<dyn Error>> {
    let outcomes = Arc::new(Outcomes::default());
    let done: Arc<dyn Appended> = outcomes.clone();
    for n in 0..records {
        outcomes.wait_for(n.saturating_sub(WINDOW))?;
        while log.produce(record(bodies, n), u64::MAX, &done).is_err() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(outcomes.wait_for(records)?)
}

/// One record after the other, each when it is due, whatever the ones before do.
fn at_rate(
    log: &KafkaLog,
    bodies: &[bytes::Bytes],
    records: u64,
) -> Result<Vec<Duration>, Box<dyn Error>> {
    let outcomes = Arc::new(Outcomes::default());
    let done: Arc<dyn Appended> = outcomes.clone();
    let began = Instant::now();
    let due: Vec<Instant> = (0..records)
        .map(|n| began + Duration::from_micros(n * 1_000_000 / RATE))
        .collect();
    *outcomes.due.lock().unwrap_or_else(PoisonError::into_inner) = due.clone();
    for (n, due) in (0..).zip(due) {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        log.produce(record(bodies, n), n, &done)?;
    }
    outcomes.wait_for(records)?;
    let mut waited = outcomes
        .waited
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    Ok(std::mem::take(&mut *waited))
}

fn record(bodies: &[bytes::Bytes], n: u64) -> Produce {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let at = usize::try_from(n).unwrap_or(0);
    Produce {
        topic: Topic::ChatMessages,
        partition: u32::try_from(n.wrapping_mul(7_919) % u64::from(PARTITIONS)).unwrap_or(0),
        key: bytes::Bytes::from(format!("g:chat-{}", n % 5_000)),
        value: bodies[at % bodies.len()].clone(),
        timestamp_ms: u64::try_from(now.unwrap_or_default().as_millis()).unwrap_or(0),
    }
}

const WORDS: &str = "hi yes no ok the a to and you I it in is that for on are with be at this have from or had by not \
    but what all were when we there can said which do how if will up about out many then them these so some her would \
    make like him into time has look two more go see number way could people my than first been call who now find down \
    day did get come made may part tomorrow evening meeting station train coffee please thanks great really maybe";

/// Bodies that differ from one another, as messages do.
fn bodies(case: Case, count: u32) -> Vec<bytes::Bytes> {
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let one = |n: u64, random: &mut dyn FnMut() -> u64| match case.body {
        Body::Text => {
            let mut text = format!(
                "{{\"type\":\"text\",\"client_msg_id\":\"{:016x}-{n}\",\"lang\":\"en\",\"text\":\"",
                random()
            );
            while text.len() + 3 < case.bytes {
                let word = words[usize::try_from(random() % words.len() as u64).unwrap_or(0)];
                text.push_str(word);
                text.push(' ');
            }
            text.truncate(case.bytes - 2);
            text.push_str("\"}");
            text.into_bytes()
        }
        Body::Cipher => {
            let mut bytes = Vec::with_capacity(case.bytes + 8);
            while bytes.len() < case.bytes {
                bytes.extend_from_slice(&random().to_le_bytes());
            }
            bytes.truncate(case.bytes);
            bytes
        }
    };
    (0..u64::from(count))
        .map(|n| one(n, &mut random).into())
        .collect()
}

/// User and system time of this process, all threads.
fn cpu_us() -> Result<u64, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or("");
    let ticks: Vec<u64> = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    // A tick is 10 ms.
    Ok(ticks.iter().sum::<u64>() * 10_000)
}

/// Bytes of chat-messages in the brokers' folders.
fn on_disk(settings: &Settings) -> Option<u64> {
    if settings.data.is_empty() {
        return None;
    }
    let of = |data: &Path| -> std::io::Result<u64> {
        let mut bytes = 0;
        for folder in std::fs::read_dir(data)? {
            let folder = folder?;
            let name = folder.file_name().to_string_lossy().into_owned();
            if !name.starts_with("log-bench-chat-messages-") {
                continue;
            }
            for file in std::fs::read_dir(folder.path())? {
                let file = file?;
                if file.path().extension().is_some_and(|e| e == "log") {
                    bytes += file.metadata()?.len();
                }
            }
        }
        Ok(bytes)
    };
    settings.data.iter().map(|data| of(data).ok()).sum()
}

fn body_name(body: Body) -> &'static str {
    match body {
        Body::Text => "text",
        Body::Cipher => "ciphertext",
    }
}

fn json(result: &Figures) -> String {
    let case = result.case;
    serde_json::json!({
        "compression": case.codec.name(),
        "body": body_name(case.body),
        "bytes": case.bytes,
        "linger_us": case.linger_us,
        "batch_kib": case.batch_kib,
        "records_per_second": result.per_second.round(),
        "client_cpu_us_full_speed": result.cpu_us,
        "client_cpu_us_at_rate": result.cpu_us_at_rate,
        "disk_bytes_per_record_all_brokers": result.disk_bytes,
        "append_p50_ms": result.p50_ms,
        "append_p99_ms": result.p99_ms,
    })
    .to_string()
}

fn table(results: &[Figures]) -> String {
    let mut out = String::from(
        "| body | compression | linger ms | batch KiB | records/s | CPU µs, full speed | CPU µs, 2,000/s | disk B | p50 ms | p99 ms |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for result in results {
        let case = result.case;
        let disk = result
            .disk_bytes
            .map_or("–".to_owned(), |b| format!("{b:.0}"));
        out += &format!(
            "| {} {} B | {} | {} | {} | {:.0} | {:.1} | {:.1} | {disk} | {:.2} | {:.2} |\n",
            body_name(case.body),
            case.bytes,
            case.codec.name(),
            case.linger_us as f64 / 1e3,
            case.batch_kib,
            result.per_second,
            result.cpu_us,
            result.cpu_us_at_rate,
            result.p50_ms,
            result.p99_ms,
        );
    }
    out
}
