//! `hawser-loadgen churn`: connections that are broken off at the worst moments, over and over (F12).

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::Parser;
use hawser_protocol::frame::{ClientFrame, ServerFrame, split};
use hawser_protocol::ids::ClientMsgId;
use hawser_protocol::message::{MessageRecord, MessageType, Send};
use hawser_protocol::pb;
use serde::Serialize;
use socket2::SockRef;

use crate::args::Args;
use crate::engine::wall_ms;
use crate::link::{Inbound, Link, Scratch, Target};
use crate::plan::Plan;
use crate::random::Random;
use crate::target;
use crate::tokens::Signer;
use crate::usage::Usage;

/// An answer that has not come by then does not come.
const PATIENCE: Duration = Duration::from_secs(10);
/// Attempts to get a Send answered after it was broken off.
const ATTEMPTS_MAX: u32 = 50;
/// Cycles after which memory and descriptors are first looked at: buffers and tables have their size by then.
const WARM_SHARE: u64 = 4;

/// Breaks off connections with RST at the worst moments: inside the TLS or upgrade handshake, inside a frame, and after a Send
/// before its answer. Each Send is then sent again under the same id by the next connection until it is answered, and in the
/// end each chat is read back: every acknowledged message must be there exactly once. The server's memory and descriptors
/// are compared between a quarter of the cycles and the end.
///
/// Exit codes: 0, 1 when a message was lost or doubled or descriptors or memory grew, 3 when it could not be done.
#[derive(Debug, Clone, Parser)]
pub struct ChurnArgs {
    /// Connections broken off in all.
    #[arg(long, default_value_t = 10_000)]
    pub cycles: u64,
    /// Threads.
    #[arg(long, default_value_t = 4)]
    pub threads: u32,
    /// Growth of the server's resident memory that is still flat, percent: G7's bound.
    #[arg(long, default_value_t = 20)]
    pub rss_percent: u64,
    /// The same, MiB more: what allocators and an embedded store's tables keep, however many cycles there are.
    #[arg(long, default_value_t = 16)]
    pub rss_mib: u64,
    /// Growth of the server's descriptors that is still flat.
    #[arg(long, default_value_t = 32)]
    pub descriptors: u64,
    /// Writes the result as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<std::path::PathBuf>,
    /// As for load: --url, --key, --server-pid, --prefix, --seed ..
    #[arg(last = true)]
    pub run: Vec<String>,
}

/// What came of it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Churned {
    /// Connections broken off.
    pub cycles: u64,
    /// Of these, inside a handshake.
    pub mid_handshake: u64,
    /// Inside a frame.
    pub mid_frame: u64,
    /// After a Send, before its answer.
    pub after_send: u64,
    /// Sends acknowledged in the end.
    pub acknowledged: u64,
    /// Acknowledged and not in history.
    pub lost: u64,
    /// In history more than once.
    pub duplicated: u64,
    /// Cycles per second.
    pub per_s: f64,
    /// The server at a quarter of the cycles.
    pub before: Option<Usage>,
    /// The server at the end.
    pub after: Option<Usage>,
    /// Seed of the choices.
    pub seed: u64,
}

struct World {
    args: Args,
    target: Target,
    address: std::net::SocketAddr,
    signer: Signer,
    plan: Plan,
    cycles: AtomicU64,
    before: Mutex<Option<Usage>>,
}

/// Churns. Says whether all was well.
///
/// # Errors
/// It could not be done.
pub fn run(churn: &ChurnArgs) -> anyhow::Result<bool> {
    let own = [
        "hawser-loadgen".to_owned(),
        format!("-n={}", 2 * churn.threads.max(1)),
        "--group-share=0".to_owned(),
    ];
    let args = Args::try_parse_from(own.iter().chain(&churn.run))?;
    args.check().map_err(anyhow::Error::msg)?;
    let (target, addresses, _) = target::resolve(&args)?;
    let world = World {
        signer: Signer::open(&args)?,
        plan: Plan::new(&args.prefix, 2 * churn.threads.max(1), 1).context("--prefix")?,
        target,
        address: *addresses.first().context("no address")?,
        args,
        cycles: AtomicU64::new(0),
        before: Mutex::new(None),
    };
    let begun = Instant::now();
    let results: Vec<anyhow::Result<Churned>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..churn.threads.max(1))
            .map(|index| {
                let world = &world;
                scope.spawn(move || Person::new(world, index).churn(churn.cycles))
            })
            .collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread
                .join()
                .unwrap_or_else(|_| Err(anyhow::anyhow!("a thread panicked")))
        };
        threads.into_iter().map(join).collect()
    });
    let mut all = Churned::default();
    for result in results {
        let one = result?;
        all.mid_handshake += one.mid_handshake;
        all.mid_frame += one.mid_frame;
        all.after_send += one.after_send;
        all.acknowledged += one.acknowledged;
        all.lost += one.lost;
        all.duplicated += one.duplicated;
    }
    all.cycles = all.mid_handshake + all.mid_frame + all.after_send;
    all.per_s = all.cycles as f64 / begun.elapsed().as_secs_f64();
    all.seed = world.args.seed;
    all.before = world.before.lock().ok().and_then(|before| *before);
    // What the server closes lazily is closed.
    std::thread::sleep(Duration::from_secs(2));
    all.after = world.args.server_pid.and_then(Usage::read);
    let flat = all.flat(churn);
    all.print(flat);
    if let Some(path) = &churn.json {
        std::fs::write(path, serde_json::to_string_pretty(&all)? + "\n")?;
    }
    Ok(flat && all.lost == 0 && all.duplicated == 0)
}

impl Churned {
    fn flat(&self, churn: &ChurnArgs) -> bool {
        let (Some(before), Some(after)) = (self.before, self.after) else {
            return true;
        };
        let rss_max = before.rss + before.rss * churn.rss_percent / 100 + (churn.rss_mib << 20);
        after.descriptors <= before.descriptors + churn.descriptors && after.rss <= rss_max
    }

    fn print(&self, flat: bool) {
        println!(
            "cycles     {} at {:.0}/s: {} mid-handshake, {} mid-frame, {} after a Send (seed {})",
            self.cycles, self.per_s, self.mid_handshake, self.mid_frame, self.after_send, self.seed
        );
        println!(
            "messages   {} acknowledged, {} lost, {} duplicated",
            self.acknowledged, self.lost, self.duplicated
        );
        if let (Some(before), Some(after)) = (self.before, self.after) {
            println!(
                "server     descriptors {} → {}, resident {} → {} KiB: {}",
                before.descriptors,
                after.descriptors,
                before.rss >> 10,
                after.rss >> 10,
                if flat { "flat" } else { "GROWN" }
            );
        }
    }
}

/// One user with one device.
struct Person<'a> {
    world: &'a World,
    user: u32,
    random: Random,
    churned: Churned,
}

impl<'a> Person<'a> {
    fn new(world: &'a World, index: u32) -> Self {
        let seed = world.args.seed.wrapping_mul(1_000_003) ^ u64::from(index);
        Self {
            world,
            user: 2 * index,
            random: Random::new(seed),
            churned: Churned::default(),
        }
    }

    fn churn(mut self, cycles: u64) -> anyhow::Result<Churned> {
        let mut acknowledged = Vec::new();
        loop {
            let number = self.world.cycles.fetch_add(1, Ordering::Relaxed);
            if number >= cycles {
                break;
            }
            if number == cycles / WARM_SHARE {
                let usage = self.world.args.server_pid.and_then(Usage::read);
                if let Ok(mut before) = self.world.before.lock() {
                    *before = usage;
                }
            }
            match self.random.below(8) {
                0..=3 => self.mid_handshake()?,
                4..=6 => self.mid_frame()?,
                _ => acknowledged.push(self.after_send()?),
            }
        }
        self.churned.acknowledged = acknowledged.len() as u64;
        let mut history = self.history()?;
        history.sort_unstable();
        for id in acknowledged {
            match history.iter().filter(|known| **known == id).count() {
                0 => self.churned.lost += 1,
                1 => {}
                _ => self.churned.duplicated += 1,
            }
        }
        Ok(self.churned)
    }

    /// Some bytes of the first flight or of the upgrade, then RST.
    fn mid_handshake(&mut self) -> anyhow::Result<()> {
        let mut wire = Wire::dial(self.world)?;
        let mut first = Vec::new();
        wire.link.begin(&self.world.target, [7; 16], &mut first)?;
        let cut = usize::try_from(self.random.below(first.len() as u64 + 1)).unwrap_or(0);
        // The server may have had enough of us: then it is broken off already.
        let _ = wire.stream.write_all(&first[..cut]);
        wire.reset();
        self.churned.mid_handshake += 1;
        Ok(())
    }

    /// A session that is cut off inside a Send's frame.
    fn mid_frame(&mut self) -> anyhow::Result<()> {
        if let Ok(mut wire) = self.session() {
            let mut bytes = Vec::new();
            let id = self.id();
            let frame = self.send(id, false)?;
            wire.link.send(&frame, &mut wire.scratch, &mut bytes)?;
            let cut = usize::try_from(1 + self.random.below(bytes.len() as u64 - 1)).unwrap_or(1);
            let _ = wire.stream.write_all(&bytes[..cut]);
            wire.reset();
        }
        self.churned.mid_frame += 1;
        Ok(())
    }

    /// A Send, RST before its answer, and the same id again until it is answered.
    fn after_send(&mut self) -> anyhow::Result<[u8; 16]> {
        let id = self.id();
        for attempt in 0..ATTEMPTS_MAX {
            let Ok(mut wire) = self.session() else {
                std::thread::sleep(Duration::from_millis(20));
                continue;
            };
            let frame = self.send(id, attempt > 0)?;
            if wire.write(&frame).is_err() {
                continue;
            }
            if attempt == 0 {
                wire.reset();
                self.churned.after_send += 1;
                continue;
            }
            let answered = wire.until(|frame| match frame {
                ServerFrame::SendResult(result) if result.client_msg_id[..] == id.0 => {
                    Some(result.error)
                }
                ServerFrame::Error(error) if error.client_msg_id[..] == id.0 => Some(error.code),
                _ => None,
            });
            match answered {
                Ok(0) => return Ok(id.0),
                Ok(_) => std::thread::sleep(Duration::from_millis(100)),
                Err(_) => {}
            }
        }
        bail!("a Send had no answer after {ATTEMPTS_MAX} attempts")
    }

    fn id(&mut self) -> ClientMsgId {
        let mut random = [0; 10];
        random[..8].copy_from_slice(&self.random.bits().to_le_bytes());
        ClientMsgId::new(wall_ms(), random)
    }

    fn send(&self, id: ClientMsgId, retry: bool) -> anyhow::Result<Vec<u8>> {
        let chat = self.world.plan.chat(self.world.plan.pair(self.user));
        let frame = ClientFrame::Send(Send {
            client_msg_id: id,
            send_ts_ms: wall_ms(),
            message_type: MessageType::CUSTOM,
            retry,
            chat: chat.context("no chat")?.clone(),
            body: Bytes::from_static(b"broken off"),
            envelopes: Vec::new(),
        });
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        Ok(bytes)
    }

    /// Connected and welcomed, at the head of the log: its window is empty, so what it never acknowledges holds up nothing.
    fn session(&mut self) -> anyhow::Result<Wire<'a>> {
        let mut wire = Wire::dial(self.world)?;
        wire.open()?;
        let user = self.world.plan.name(self.user);
        let token = self
            .world
            .signer
            .token(&user, "churn", wall_ms() / 1_000, self.random.bits());
        let hello = ClientFrame::Hello(pb::Hello {
            token,
            device: "churn".to_owned(),
            client: concat!("loadgen/", env!("CARGO_PKG_VERSION")).to_owned(),
            redirect_never: true,
            live_only: true,
            ..pb::Hello::default()
        });
        let mut bytes = Vec::new();
        hello.encode(&mut bytes);
        wire.write(&bytes)?;
        let refused = wire.until(|frame| match frame {
            ServerFrame::Welcome(_) => Some(None),
            ServerFrame::Error(error) => Some(Some(error.code)),
            _ => None,
        })?;
        if let Some(code) = refused {
            bail!("Hello was refused with {code}");
        }
        Ok(wire)
    }

    /// Every id of the chat's history.
    fn history(&mut self) -> anyhow::Result<Vec<[u8; 16]>> {
        let chat = self
            .world
            .plan
            .chat(self.world.plan.pair(self.user))
            .context("no chat")?
            .clone();
        let (mut ids, mut after) = (Vec::new(), 0);
        let mut wire = self.session()?;
        loop {
            let frame = ClientFrame::Sync(pb::Sync {
                sync_id: 1,
                chat: chat.as_str().to_owned(),
                after_ordinal: after,
                limit: 256,
                ..pb::Sync::default()
            });
            let mut bytes = Vec::new();
            frame.encode(&mut bytes);
            wire.write(&bytes)?;
            let page = wire.until(|frame| match frame {
                ServerFrame::SyncPage(page) => Some(page.clone()),
                _ => None,
            })?;
            // A chat without a message is not known yet.
            if page.error != 0 && self.churned.acknowledged > 0 {
                bail!("history was refused with {}: {}", page.error, page.text);
            }
            for record in &page.records {
                ids.push(MessageRecord::decode(record)?.client_msg_id.0);
            }
            after = page.next_ordinal;
            if !page.more {
                return Ok(ids);
            }
        }
    }
}

/// A connection that blocks.
struct Wire<'a> {
    world: &'a World,
    stream: TcpStream,
    link: Link,
    scratch: Scratch,
    inbound: Vec<Inbound>,
}

impl<'a> Wire<'a> {
    fn dial(world: &'a World) -> anyhow::Result<Self> {
        let stream = TcpStream::connect_timeout(&world.address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            world,
            stream,
            link: Link::default(),
            scratch: Scratch::default(),
            inbound: Vec::new(),
        })
    }

    /// With RST instead of FIN.
    fn reset(self) {
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    fn open(&mut self) -> anyhow::Result<()> {
        let mut out = Vec::new();
        self.link.begin(&self.world.target, [7; 16], &mut out)?;
        self.stream.write_all(&out)?;
        while !self.inbound.contains(&Inbound::Opened) {
            self.read()?;
        }
        self.inbound.retain(|item| *item != Inbound::Opened);
        Ok(())
    }

    fn write(&mut self, message: &[u8]) -> anyhow::Result<()> {
        let mut out = Vec::new();
        self.link.send(message, &mut self.scratch, &mut out)?;
        Ok(self.stream.write_all(&out)?)
    }

    fn read(&mut self) -> anyhow::Result<()> {
        let mut bytes = [0; 16_384];
        let len = self.stream.read(&mut bytes)?;
        if len == 0 {
            bail!("the server ended the stream");
        }
        let mut out = Vec::new();
        let target = &self.world.target;
        self.link.feed(
            target,
            &bytes[..len],
            [7; 16],
            &mut self.scratch,
            &mut out,
            &mut self.inbound,
        )?;
        Ok(self.stream.write_all(&out)?)
    }

    /// Reads until a frame is what was asked for.
    fn until<T>(&mut self, wanted: impl Fn(&ServerFrame) -> Option<T>) -> anyhow::Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            for item in std::mem::take(&mut self.inbound) {
                match item {
                    Inbound::Message(mut message) => {
                        while let Some(raw) = split(&mut message)? {
                            if let Some(found) = wanted(&ServerFrame::decode(&raw)?) {
                                return Ok(found);
                            }
                        }
                    }
                    Inbound::Closed(code) => bail!("closed by the server with {code}"),
                    Inbound::Opened => {}
                }
            }
            if Instant::now() > deadline {
                bail!("no answer");
            }
            self.read()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(rss: u64, descriptors: u64) -> Option<Usage> {
        Some(Usage {
            rss,
            slab: 0,
            user_ticks: 0,
            system_ticks: 0,
            descriptors,
        })
    }

    #[test]
    fn growth_beyond_the_bounds_is_not_flat() {
        let churn = ChurnArgs::parse_from(["churn", "--rss-mib", "0"]);
        let of = |rss, descriptors| Churned {
            before: usage(1_000, 20),
            after: usage(rss, descriptors),
            ..Churned::default()
        };
        assert!(of(1_200, 52).flat(&churn));
        assert!(!of(1_201, 20).flat(&churn));
        assert!(!of(1_000, 53).flat(&churn));
    }
}
