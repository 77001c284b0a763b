//! Slow readers in groups whose other members talk (F10, G8): nothing, a byte a second, or a window of nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use hawser_loadgen::beside::{Beside, Ended};
use hawser_loadgen::payload::Payload;
use hawser_loadgen::report::Quantiles;
use hawser_protocol::frame::{Ack, ClientFrame, ServerFrame, split};
use hawser_protocol::pb;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::rivals::proc::slab_bytes;

use super::conduct::{Size, kept, memory};
use super::outcome::{Ending, Goal, Outcome};
use super::raw::{How, Inbox, code, connect};
use super::site::{Past, Site, wrapped};
use super::watch::{Instantly, Watch};

/// Members of a group: one of them reads slowly, which is 1 % of the sessions.
const GROUP: u32 = 100;
/// Receive buffer of those whose window is to be nothing, bytes.
const WINDOW_BYTES: u32 = 2 << 10;
/// They say a Ping so often, so that it is not silence that closes them.
const PING: Duration = Duration::from_secs(10);
/// They have to be there by then, and to have read everything by then.
const READY: Duration = Duration::from_secs(30);
/// Nothing came for so long: everything has been read.
const QUIET: Duration = Duration::from_secs(2);
/// By how much others' p99 may change, as a multiple.
const RATIO: f64 = 1.1;

/// Bodies above this are large, bytes: fewer of them are sent, and the last span with slow readers is a long one.
const LARGE: usize = 1_000;

/// What the spans are of.
struct Spans {
    groups: u32,
    is_large: bool,
}

/// How slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    Nothing,
    ByteEachSecond,
    NoWindow,
}

/// What readers and conductor share.
struct Readers {
    site: Arc<Site>,
    slow: AtomicBool,
    end: AtomicBool,
    ready: AtomicU64,
    /// When the last message came, milliseconds after `since`.
    came_ms: AtomicU64,
    since: Instant,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// By conversation and sender: numbers.
    numbers: BTreeMap<(u32, u32, u32), BTreeSet<u32>>,
    /// Shown again on the wire, which (offset) filters.
    repeated: u64,
    regressed: u64,
    ended: BTreeMap<How, u64>,
    resumed: u64,
    not_resumed: u64,
}

impl Readers {
    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        // Sets are whole at any instant.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes F10 with bodies of this size.
///
/// # Errors
/// Readers or bystanders could not be there.
pub fn run(site: &Arc<Site>, size: &Size, body: usize) -> anyhow::Result<Outcome> {
    let group = GROUP.min(size.slow_sessions);
    let sessions = (size.slow_sessions / group * group).max(2) & !1;
    let groups = sessions / group;
    let prefix = format!("slow{body}-");
    // As many bytes as two cores carry beside everything else.
    let is_large = body > LARGE;
    let rate = size.group_rate * f64::from(groups) * if is_large { 0.25 } else { 1.0 };
    let words = [
        format!("--url={}", site.place.wss),
        format!("-n={sessions}"),
        format!("--ramp={}", sessions.clamp(50, 500)),
        format!("--rate={rate}"),
        format!("--body={body}"),
        format!("--prefix={prefix}"),
        format!("--group-size={group}"),
        "--group-share=1".to_owned(),
        "--away-members=1".to_owned(),
        "--receipt-share=0".to_owned(),
        "--typing-share=0".to_owned(),
    ];
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut beside = Beside::open(site.loadgen(&words)?)?;
    let readers = Arc::new(Readers {
        site: Arc::clone(site),
        slow: AtomicBool::new(false),
        end: AtomicBool::new(false),
        ready: AtomicU64::new(0),
        came_ms: AtomicU64::new(0),
        since: Instant::now(),
        seen: Mutex::default(),
    });
    let names: Vec<String> = (0..groups)
        .map(|number| format!("{prefix}{}away0", number * group))
        .collect();
    let shared = Arc::clone(&readers);
    let thread = std::thread::Builder::new()
        .name("slow".to_owned())
        .spawn(move || read_all(&shared, &names))
        .context("a thread for slow readers")?;
    let mut outcome = Outcome {
        fault: "F10".to_owned(),
        name: format!("slow-{body}"),
        words: format!(
            "{groups} of {} members of {groups} groups read nothing, a byte a second, or with no window; {body} B, {rate:.0} messages/s",
            sessions + groups
        ),
        seconds: size.pair_s,
        made: u64::from(groups),
        ..Outcome::default()
    };
    let spans = Spans { groups, is_large };
    let result = pairs(site, size, &beside, &readers, &mut outcome, &spans);
    readers.slow.store(false, Ordering::Release);
    beside.settle();
    if result.is_ok() {
        wait_for_quiet(&readers);
    }
    readers.end.store(true, Ordering::Release);
    let read = thread.join();
    let ended = beside.end()?;
    let panics = result?;
    read.map_err(|_| anyhow::anyhow!("the slow readers' thread panicked"))??;
    judge(&mut outcome, &readers, &ended, (sessions, groups));
    outcome.judge_all(panics);
    Ok(outcome)
}

/// Spans with slow readers and without, in turn; the number of panics meanwhile.
fn pairs(
    site: &Arc<Site>,
    size: &Size,
    beside: &Beside,
    readers: &Readers,
    outcome: &mut Outcome,
    spans: &Spans,
) -> anyhow::Result<u64> {
    let begun = Instant::now();
    while readers.ready.load(Ordering::Acquire) < u64::from(spans.groups) {
        if begun.elapsed() > READY {
            bail!("the slow readers' sessions could not be opened");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let metrics = site.metrics()?;
    let slab_before = slab_bytes();
    beside.load();
    std::thread::sleep(size.rest());
    let before = Instantly::of(site);
    let watch = Watch::begin(site)?;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    let (mut cpu_without, mut cpu_with) = (Vec::new(), Vec::new());
    for _ in 0..size.pairs.max(1) {
        for slow in [false, true] {
            readers.slow.store(slow, Ordering::Release);
            std::thread::sleep(size.rest());
            let (_, from) = (beside.window(), Instantly::of(site));
            std::thread::sleep(Duration::from_secs_f64(size.pair_s));
            let (window, to) = (beside.window(), Instantly::of(site));
            let (looks, cpus) = if slow {
                (&mut with, &mut cpu_with)
            } else {
                (&mut without, &mut cpu_without)
            };
            looks.push(window.deliver.summary());
            cpus.push((to.since(&from).1, to.since(&from).2));
        }
    }
    if size.long_s > 0.0 && spans.is_large {
        std::thread::sleep(Duration::from_secs_f64(size.long_s));
    }
    readers.slow.store(false, Ordering::Release);
    std::thread::sleep(size.rest() * 2);
    let _ = beside.window();
    std::thread::sleep(Duration::from_secs_f64(size.quiet_s));
    let after = (beside.window(), Instantly::of(site));
    memory(outcome, &watch, (slab_before, &before, &after.1));
    drop(watch);
    let page = site.metrics()?;
    outcome.units = page.grown(&metrics, "hawser_lagged_total");
    "times that a session lagged".clone_into(&mut outcome.unit);
    let mean = |all: &[(f64, f64)], of: fn(&(f64, f64)) -> f64| {
        all.iter().map(of).sum::<f64>() / all.len().max(1) as f64
    };
    let cpu = &mut outcome.cpu;
    cpu.cores = page.cores();
    cpu.before_pct = mean(&cpu_without, |pair| pair.0);
    cpu.during_pct = mean(&cpu_with, |pair| pair.0);
    cpu.own_pct = mean(&cpu_with, |pair| pair.1);
    cpu.attack_pct = (cpu.during_pct - cpu.before_pct).max(0.0);
    outcome.ratios = without
        .iter()
        .zip(&with)
        .map(|(without, with)| with.p99_ms / without.p99_ms.max(0.001))
        .collect();
    outcome.bystanders = [
        median(&without).into(),
        median(&with).into(),
        after.0.deliver.summary().into(),
    ];
    Ok(page.grown(&metrics, "hawser_panics_total"))
}

/// The span whose p99 is in the middle.
fn median(all: &[Quantiles]) -> Quantiles {
    let mut all = all.to_vec();
    all.sort_by(|a, b| a.p99_ms.total_cmp(&b.p99_ms));
    all.get(all.len() / 2).copied().unwrap_or_default()
}

fn wait_for_quiet(readers: &Readers) {
    let begun = Instant::now();
    while begun.elapsed() < READY {
        let came = readers.since + Duration::from_millis(readers.came_ms.load(Ordering::Acquire));
        if came.elapsed() > QUIET && begun.elapsed() > QUIET {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn judge(outcome: &mut Outcome, readers: &Readers, ended: &Ended, (users, groups): (u32, u32)) {
    outcome.kept = kept(&ended.report);
    let seen = readers.lock();
    let (mut expected, mut lost) = (0_u64, 0_u64);
    for ((sender, conversation), numbers) in &ended.lanes {
        let Some(group) = conversation.checked_sub(users / 2) else {
            continue;
        };
        let key = (group, *conversation, *sender);
        let shown = seen.numbers.get(&key);
        for number in 1..=numbers.sent {
            if !numbers.is_answered(number) || numbers.refused.contains(&number) {
                continue;
            }
            expected += 1;
            lost += u64::from(!shown.is_some_and(|shown| shown.contains(&number)));
        }
    }
    let mut ratios = outcome.ratios.clone();
    ratios.sort_by(f64::total_cmp);
    let middle = ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN);
    let spread = (ratios.first(), ratios.last());
    outcome.goals.push(Goal {
        what: format!(
            "others' p99, with over without, median of {} pairs",
            ratios.len()
        ),
        goal: format!("≤ {RATIO}"),
        figure: format!(
            "{middle:.2} ({:.2} to {:.2})",
            spread.0.copied().unwrap_or(0.0),
            spread.1.copied().unwrap_or(0.0)
        ),
        holds: middle <= RATIO,
        timed: true,
    });
    outcome.goals.push(Goal {
        what: "slow readers: acknowledged and never shown to them, out of order".to_owned(),
        goal: "0, 0".to_owned(),
        figure: format!("{lost}, {} of {expected}", seen.regressed),
        holds: lost == 0 && seen.regressed == 0 && expected > 0,
        timed: false,
    });
    // What a session may have in user space beside the kernel's buffer: a window and what answers its pings.
    let each = outcome.memory.tails_peak as f64 / f64::from(groups.max(1)) / 1024.0;
    let mut tail = Goal::at_most("unsent bytes of each in user space", each, 128.0, "KiB");
    "≤ 128 KiB, what a session may have waiting".clone_into(&mut tail.goal);
    outcome.goals.push(tail);
    let ends = seen.ended.iter();
    outcome.endings = ends
        .map(|(how, count)| Ending::new("reader".to_owned(), *how, *count, &Quantiles::default()))
        .collect();
    let back = Ending {
        what: "reader".to_owned(),
        how: format!(
            "came again: {} resumed, {} not",
            seen.resumed, seen.not_resumed
        ),
        count: seen.resumed + seen.not_resumed,
        ..Ending::default()
    };
    if back.count > 0 {
        outcome.endings.push(back);
    }
}

fn read_all(readers: &Arc<Readers>, names: &[String]) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let paces = [Pace::Nothing, Pace::ByteEachSecond, Pace::NoWindow];
    runtime.block_on(async {
        for (number, (name, pace)) in names.iter().zip(paces.iter().cycle()).enumerate() {
            let group = u32::try_from(number).unwrap_or(u32::MAX);
            tokio::spawn(reader(Arc::clone(readers), name.clone(), *pace, group));
        }
        while !readers.end.load(Ordering::Acquire) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    runtime.shutdown_background();
    Ok(())
}

/// A device that comes again whenever it is closed.
async fn reader(readers: Arc<Readers>, name: String, pace: Pace, group: u32) {
    let mut past = Past::default();
    let mut was_ready = false;
    while !readers.end.load(Ordering::Acquire) {
        let how = session(&readers, &name, pace, group, &mut past, &mut was_ready).await;
        *readers.lock().ended.entry(how).or_default() += 1;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn session(
    readers: &Readers,
    name: &str,
    pace: Pace,
    group: u32,
    past: &mut Past,
    was_ready: &mut bool,
) -> How {
    let small = (pace == Pace::NoWindow).then_some(WINDOW_BYTES);
    let to = readers.site.plain;
    let Ok(mut stream) = connect(to, u64::from(group) + 3_000, small).await else {
        return How::Unconnected;
    };
    let mut inbox = Inbox::default();
    if let Err(how) = inbox.upgrade(&mut stream).await {
        return how;
    }
    let hello = readers.site.hello(name, "slow", past.clone());
    if let Err(error) = stream.write_all(&hello).await {
        return How::failed(&error);
    }
    let mut pinged = Instant::now();
    loop {
        if pinged.elapsed() > PING {
            pinged = Instant::now();
            let ping = wrapped(&ClientFrame::Ping(pb::Ping::default()));
            if let Err(error) = stream.write_all(&ping).await {
                return How::failed(&error);
            }
        }
        let before = past.offset;
        while let Some((opcode, payload)) = inbox.frame() {
            match opcode {
                8 => return How::Close(code(&payload)),
                2 => hear(readers, group, payload, past, was_ready),
                _ => {}
            }
        }
        if past.offset != before
            && let Some(offset) = past.offset
        {
            let ack = wrapped(&ClientFrame::Ack(Ack { offset }));
            if let Err(error) = stream.write_all(&ack).await {
                return How::failed(&error);
            }
        }
        let is_slow = readers.slow.load(Ordering::Acquire) && *was_ready;
        match slowly(&mut stream, &mut inbox, is_slow.then_some(pace)).await {
            Ok(true) => {}
            Ok(false) => return How::Ended,
            Err(error) => return How::failed(&error),
        }
    }
}

/// Reads once, as fast as it may, or not at all for a moment.
async fn slowly(
    stream: &mut TcpStream,
    inbox: &mut Inbox,
    pace: Option<Pace>,
) -> std::io::Result<bool> {
    let moment = Duration::from_millis(100);
    match pace {
        None => match tokio::time::timeout(moment, inbox.fill(stream)).await {
            Ok(filled) => filled,
            Err(_) => Ok(true),
        },
        Some(Pace::Nothing | Pace::NoWindow) => {
            tokio::time::sleep(moment).await;
            Ok(true)
        }
        Some(Pace::ByteEachSecond) => {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let mut one = [0];
            let read = tokio::time::timeout(moment, stream.read(&mut one)).await;
            match read {
                Ok(Ok(count)) => {
                    inbox.put(&one[..count]);
                    Ok(count > 0)
                }
                Ok(Err(error)) => Err(error),
                Err(_) => Ok(true),
            }
        }
    }
}

/// What the gateway says in one message.
fn hear(readers: &Readers, group: u32, payload: Vec<u8>, past: &mut Past, was_ready: &mut bool) {
    let mut bytes = Bytes::from(payload);
    while let Ok(Some(raw)) = split(&mut bytes) {
        let Ok(frame) = ServerFrame::decode(&raw) else {
            continue;
        };
        match frame {
            ServerFrame::Welcome(welcome) => {
                if *was_ready {
                    let mut seen = readers.lock();
                    seen.resumed += u64::from(welcome.recovered);
                    seen.not_resumed += u64::from(!welcome.recovered);
                }
                past.token = welcome.resume_token;
            }
            ServerFrame::Pong(pong) if !pong.resume_token.is_empty() => {
                past.token = pong.resume_token;
            }
            ServerFrame::CaughtUp(caught) => {
                if !caught.resume_token.is_empty() {
                    past.token = caught.resume_token;
                }
                if !std::mem::replace(was_ready, true) {
                    readers.ready.fetch_add(1, Ordering::AcqRel);
                }
            }
            ServerFrame::Deliver(deliver) => {
                let mut seen = readers.lock();
                if past.offset.is_some_and(|last| deliver.offset <= last) {
                    seen.repeated += 1;
                    continue;
                }
                past.offset = Some(deliver.offset);
                let Some(said) = Payload::decode(&deliver.record.body) else {
                    continue;
                };
                let now_ms = readers.since.elapsed().as_millis();
                let now_ms = u64::try_from(now_ms).unwrap_or(u64::MAX);
                readers.came_ms.store(now_ms, Ordering::Release);
                let key = (group, said.conversation, said.sender);
                let numbers = seen.numbers.entry(key).or_default();
                let is_late = numbers.last().is_some_and(|last| *last > said.number);
                numbers.insert(said.number);
                seen.regressed += u64::from(is_late && !said.again);
            }
            _ => {}
        }
    }
}
