//! Moves one server through its scenarios and reads what they cost.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::engine::{Engine, EngineError};
use super::outcome::{Cell, Connections, Outcome, Scenario};
use super::proc::{Usage, family, slab_bytes};
use super::shared::{Job, Shared};

/// How often the conductor looks.
const LOOK: Duration = Duration::from_millis(5);
/// A step that makes no progress for so long is given up.
const PATIENCE: Duration = Duration::from_secs(20);
/// After the last delivery: acknowledgements and what else a server does for it belong to its cost.
const REST: Duration = Duration::from_millis(300);
/// Messages at once in a burst.
const BURST: u32 = 8;
/// Instants of a schedule at least.
const TICKS_MIN: u32 = 3;
/// The least rest between two instants.
const EVERY_NS_MIN: u64 = 100_000;

/// What is measured.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Name and version of the server, and the round.
    pub server: String,
    /// See [`Wish::server`].
    pub version: String,
    /// See [`Wish::server`].
    pub round: u32,
    /// Its first process.
    pub pid: u32,
    /// Deliveries per second of fan-outs and bursts.
    pub rate: f64,
    /// Messages per second of pairs.
    pub pair_rate: f64,
    /// Sizes of bodies.
    pub bodies: Vec<usize>,
    /// Which scenarios.
    pub scenarios: Vec<Scenario>,
    /// Length of each, seconds.
    pub seconds: f64,
    /// Rest before memory is read, so that what is freed lazily is freed.
    pub idle: Duration,
}

/// Runs everything.
///
/// # Errors
/// The client itself failed; what the server did wrong is in the outcome.
pub fn run(shared: &Arc<Shared>, wish: &Wish) -> anyhow::Result<Outcome> {
    let threads = start(shared)?;
    let mut outcome = Outcome {
        server: wish.server.clone(),
        version: wish.version.clone(),
        tls: shared.plan.tls.is_some(),
        recipients: shared.plan.recipients,
        round: wish.round,
        connections: None,
        cells: Vec::new(),
        lost: 0,
        faults: std::collections::BTreeMap::new(),
        gave_up: None,
    };
    let ended = steps(shared, wish, &mut outcome);
    shared.end();
    for thread in threads {
        if let Ok(result) = thread.join() {
            result?;
        } else {
            bail!("a thread of the client panicked");
        }
    }
    outcome.gave_up = ended.err().map(|error| error.to_string());
    outcome.lost = shared.lost.load(Ordering::Acquire);
    outcome.faults = shared.faults();
    Ok(outcome)
}

fn start(shared: &Arc<Shared>) -> anyhow::Result<Vec<JoinHandle<Result<(), EngineError>>>> {
    let mut threads = Vec::new();
    for index in 0..shared.plan.threads {
        let shared = Arc::clone(shared);
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        // A ring is made in the thread that drives it.
        let thread = std::thread::Builder::new()
            .name(format!("ring-{index}"))
            .spawn(move || match Engine::new(shared, index) {
                Ok(engine) => {
                    let _ = tell.send(true);
                    engine.run()
                }
                Err(error) => {
                    let _ = tell.send(false);
                    Err(error)
                }
            })?;
        threads.push(thread);
        told.recv().context("a thread of the client ended")?;
    }
    Ok(threads)
}

fn steps(shared: &Shared, wish: &Wish, outcome: &mut Outcome) -> anyhow::Result<()> {
    let plan = &shared.plan;
    let pids = family(wish.pid);
    let begun = Usage::read(&pids);
    let half = plan.recipients / 2;
    connect(shared, half)?;
    std::thread::sleep(wish.idle);
    let (half_usage, half_slab) = (Usage::read(&pids), slab_bytes());
    connect(shared, plan.recipients)?;
    let spent = Usage::read(&pids).since(&begun);
    std::thread::sleep(wish.idle);
    let (full_usage, full_slab) = (Usage::read(&pids), slab_bytes());
    let all = f64::from(plan.recipients.max(1));
    let more = f64::from((plan.recipients - half).max(1));
    outcome.connections = Some(Connections {
        cpu_us: spent.cpu_us() as f64 / all,
        user_us: spent.user_us as f64 / all,
        rss_bytes: (full_usage.rss_bytes as f64 - half_usage.rss_bytes as f64) / more,
        slab_bytes: (full_slab as f64 - half_slab as f64) / more,
    });
    connect(shared, plan.connections())?;
    std::thread::sleep(wish.idle);
    for body in &wish.bodies {
        for scenario in &wish.scenarios {
            // Buffers and tables are as they are when it has run for a while.
            measure(shared, wish, &pids, *scenario, *body, Some(2))?;
            let cell = measure(shared, wish, &pids, *scenario, *body, None)?;
            outcome.cells.push(cell);
        }
    }
    Ok(())
}

/// Opens connections until so many are ready, or lost.
fn connect(shared: &Shared, target: u32) -> anyhow::Result<()> {
    shared.set_target(target);
    let (mut last, mut since) = (0, Instant::now());
    loop {
        let ready = shared.ready.load(Ordering::Acquire);
        let lost = shared.lost.load(Ordering::Acquire);
        if ready + lost >= target {
            if u64::from(lost) * 50 > u64::from(target) {
                bail!("{lost} of {target} connections were lost");
            }
            return Ok(());
        }
        if ready + lost != last {
            (last, since) = (ready + lost, Instant::now());
        }
        if since.elapsed() > PATIENCE {
            bail!("{ready} of {target} connections are ready, and no more become so");
        }
        std::thread::sleep(LOOK);
    }
}

/// The schedule of a scenario, and how many deliveries it makes.
fn schedule(shared: &Shared, wish: &Wish, scenario: Scenario, ticks: Option<u32>) -> (Job, u64) {
    let plan = &shared.plan;
    let (burst, rate, each) = match scenario {
        Scenario::Fanout => (1, wish.rate, u64::from(plan.recipients)),
        Scenario::Burst => (BURST, wish.rate, u64::from(plan.recipients)),
        Scenario::Pair => (1, wish.pair_rate, 1),
    };
    let deliveries = each * u64::from(burst);
    let every_ns = nanoseconds(deliveries as f64 / rate).max(EVERY_NS_MIN);
    let wanted = (nanoseconds(wish.seconds) + every_ns / 2) / every_ns;
    let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
    let ticks = ticks.unwrap_or_else(|| wanted.max(TICKS_MIN));
    let job = Job {
        number: 0,
        is_pair: scenario == Scenario::Pair,
        body: 0,
        first_ns: 0,
        every_ns,
        ticks,
        burst,
    };
    (job, deliveries * u64::from(ticks))
}

/// An hour for what is no time, as a rate of 0 has it.
fn nanoseconds(seconds: f64) -> u64 {
    let time = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::from_secs(3_600));
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn measure(
    shared: &Shared,
    wish: &Wish,
    pids: &[u32],
    scenario: Scenario,
    body: usize,
    ticks: Option<u32>,
) -> anyhow::Result<Cell> {
    let (mut job, expected) = schedule(shared, wish, scenario, ticks);
    job.body = body;
    let own = [std::process::id()];
    let (before, own_before) = (Usage::read(pids), Usage::read(&own));
    shared.begin(job);
    let (mut last, mut since) = (0, Instant::now());
    let patience = PATIENCE + Duration::from_nanos(job.every_ns);
    let delivered = loop {
        let delivered = shared.delivered.load(Ordering::Acquire);
        if delivered >= expected || since.elapsed() > patience {
            break delivered;
        }
        if delivered != last {
            (last, since) = (delivered, Instant::now());
        }
        std::thread::sleep(LOOK);
    };
    if delivered == 0 {
        bail!("{} of {body} B: nothing was delivered", scenario.name());
    }
    std::thread::sleep(REST);
    let (spent, own_spent) = (
        Usage::read(pids).since(&before),
        Usage::read(&own).since(&own_before),
    );
    let per = |us: u64| us as f64 / delivered as f64;
    let latency = shared.latency();
    let ms = |quantile| latency.value_at_quantile(quantile) as f64 / 1e6;
    Ok(Cell {
        scenario,
        body,
        rate: expected as f64 / (f64::from(job.ticks) * job.every_ns as f64 / 1e9),
        expected,
        delivered,
        cpu_us: per(spent.cpu_us()),
        user_us: per(spent.user_us),
        client_us: per(own_spent.cpu_us()),
        p50_ms: ms(0.5),
        p99_ms: ms(0.99),
    })
}
