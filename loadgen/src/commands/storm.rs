//! `hawser-loadgen storm`: everybody is cut off at once and comes back by the protocol's rules (F13).

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Parser;
use serde::Serialize;

use crate::args::Args;
use crate::engine::{Counters, Found, Phase, Shared, Storm};
use crate::report::{Latency, Quantiles, Report};
use crate::run::{self, Conductor};

/// After all are back, the bystanders' load goes on for so long.
const AFTER: Duration = Duration::from_secs(2);
/// All may take so many times as long as the pace says before they are given up, and so much more.
const GIVE_UP_TIMES: f64 = 3.0;
const GIVE_UP_S: f64 = 30.0;
/// The stated time: as long as the pace says, a tenth more, and the longest first pause and a handshake.
const STATED_TIMES: f64 = 1.1;
const STATED_S: f64 = 2.0;

/// Opens sessions, cuts off all but the bystanders at once, and lets them come back by the protocol's rules: jittered pauses
/// that double, and what the gateway tells them to wait. Prints how many were welcomed in each second, how far that is from the
/// gateway's configured pace, how long it took until all were back, and Send → Deliver between bystanders before and in the
/// storm.
///
/// The pace is the gateway's `limits.accepts_per_second` times its cores; with --fresh, `limits.fresh_per_second`.
/// Arguments behind `--` are as for load: --url, --key, --ramp, --rate (of the bystanders), --body, --server-pid ..
/// Exit codes: 0, 1 when a second was too far from the pace, not all were back in the stated time, bystanders were too slow or a
/// message was lost, doubled or reordered, 3 when it could not be done.
#[derive(Debug, Clone, Parser)]
pub struct StormArgs {
    /// Sessions to cut off.
    #[arg(long, default_value_t = 2_000)]
    pub cut: u32,
    /// Sessions that stay, and send to each other all the time.
    #[arg(long, default_value_t = 100)]
    pub bystanders: u32,
    /// Sessions per second at which the gateway is configured to take them back.
    #[arg(long)]
    pub pace: u32,
    /// They come back without resume tokens, as after the loss of their place: each has to read its history.
    #[arg(long)]
    pub fresh: bool,
    /// Seconds of the bystanders' load before the cut.
    #[arg(long, default_value_t = 10)]
    pub before_s: u64,
    /// Deviation of a second from the pace that is still flat, percent.
    #[arg(long, default_value_t = 20.0)]
    pub within_percent: f64,
    /// The bystanders' p99 in the storm, as a multiple of the one before, that is still well.
    #[arg(long, default_value_t = 2.0)]
    pub p99_times: f64,
    /// A p99 below this is well whatever it was before, milliseconds: multiples of next to nothing say nothing.
    #[arg(long, default_value_t = 10.0)]
    pub p99_floor_ms: f64,
    /// Writes the result as JSON, `-` for standard output instead of the text.
    #[arg(long, value_name = "FILE")]
    pub json: Option<std::path::PathBuf>,
    /// As for load.
    #[arg(last = true)]
    pub run: Vec<String>,
}

/// How those that were cut came back.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Return {
    /// Cut off.
    pub cut: u64,
    /// Welcomed again.
    pub back: u64,
    /// Of these, resumed where they were.
    pub resumed: u64,
    /// Welcomed in each second after the cut.
    pub per_second: Vec<u64>,
    /// Those per second over all whole seconds between the first and the last.
    pub mean_per_s: f64,
    /// The largest deviation of one of these seconds from the pace, percent.
    pub worst_percent: f64,
    /// The deviation of their mean, percent.
    pub mean_percent: f64,
    /// Until the last was back, seconds.
    pub back_s: f64,
    /// Within which they should be.
    pub stated_s: f64,
    /// Were told to come later.
    pub told: u64,
    /// What they were told, milliseconds: least and most.
    pub told_ms: (u32, u32),
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Stormed {
    /// Configured, per second.
    pub pace: u32,
    /// They came without a past.
    pub fresh: bool,
    /// Those that were cut.
    pub storm: Return,
    /// Send → Deliver between bystanders before the cut.
    pub before: Quantiles,
    /// The same from the cut until all were back.
    pub during: Quantiles,
    /// Everything kept its bounds.
    pub clean: bool,
    /// The whole run.
    pub run: Report,
}

/// Storms. Says whether all was well.
///
/// # Errors
/// It could not be done.
pub fn run(storm: &StormArgs) -> anyhow::Result<bool> {
    if storm.pace == 0 || storm.cut == 0 {
        bail!("--pace and --cut must not be zero");
    }
    let (cut, bystanders) = ((storm.cut + 1) & !1, storm.bystanders.max(2) & !1);
    let own = [
        "hawser-loadgen".to_owned(),
        format!("-n={}", cut + bystanders),
        "--group-share=0".to_owned(),
    ];
    let mut args = Args::try_parse_from(own.iter().chain(&storm.run))?;
    args.check().map_err(anyhow::Error::msg)?;
    // One for the bystanders, whose latencies are not to be those of our own handshakes.
    args.threads = args.threads.max(2);
    let mut shared = run::prepare(args)?;
    shared.plan.keep_apart(bystanders);
    shared.set_storm(Storm {
        bystanders,
        fresh: storm.fresh,
    });
    let shared = Arc::new(shared);
    let mut conductor = Conductor::start(&shared)?;
    let outcome = conduct(storm, &shared, &mut conductor);
    shared.set_phase(Phase::End);
    let found = conductor.join()?;
    outcome?;
    let told = Stormed::new(storm, &shared, conductor, found);
    match &storm.json {
        Some(path) if path.as_os_str() == "-" => {
            println!("{}", serde_json::to_string_pretty(&told)?);
        }
        Some(path) => {
            print!("{}", told.text());
            std::fs::write(path, serde_json::to_string_pretty(&told)? + "\n")?;
        }
        None => print!("{}", told.text()),
    }
    Ok(told.clean)
}

fn conduct(storm: &StormArgs, shared: &Shared, conductor: &mut Conductor) -> anyhow::Result<()> {
    conductor.ramp(shared.args.connections)?;
    shared.set_phase(Phase::Load);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(storm.before_s) {
        conductor.look()?;
    }
    shared.cut();
    let begun = Instant::now();
    let counters = &shared.counters;
    let give_up_s = f64::from(storm.cut) / f64::from(storm.pace) * GIVE_UP_TIMES + GIVE_UP_S;
    let give_up = Duration::from_secs_f64(give_up_s);
    loop {
        conductor.look()?;
        let cut = Counters::read(&counters.cut);
        let all = cut > 0 && Counters::read(&counters.back) >= cut;
        if all && begun.elapsed() > Duration::from_secs(1) || begun.elapsed() > give_up {
            break;
        }
    }
    std::thread::sleep(AFTER);
    shared.set_phase(Phase::Rest);
    conductor.settle();
    Ok(())
}

impl Return {
    /// Of the instants at which they were welcomed, nanoseconds after the cut.
    pub(crate) fn new(cut: u64, pace: u32, mut back_ns: Vec<u64>) -> Self {
        back_ns.sort_unstable();
        let second = |ns: u64| usize::try_from(ns / 1_000_000_000).unwrap_or(usize::MAX);
        let last_ns = back_ns.last().copied().unwrap_or(0);
        let mut per_second = vec![0; second(last_ns) + 1];
        for ns in &back_ns {
            per_second[second(*ns)] += 1;
        }
        let pace_per_s = f64::from(pace);
        // The first holds the pauses before the first attempts, the last is not whole.
        let whole = per_second.get(1..per_second.len() - 1).unwrap_or_default();
        let percent = |count: f64| (count - pace_per_s).abs() / pace_per_s * 100.0;
        let mean_per_s = match whole.len() {
            0 => 0.0,
            seconds => whole.iter().sum::<u64>() as f64 / seconds as f64,
        };
        Self {
            cut,
            back: back_ns.len() as u64,
            mean_per_s,
            worst_percent: whole.iter().map(|c| percent(*c as f64)).fold(0.0, f64::max),
            mean_percent: if whole.is_empty() {
                0.0
            } else {
                percent(mean_per_s)
            },
            back_s: last_ns as f64 / 1e9,
            stated_s: cut as f64 / pace_per_s * STATED_TIMES + STATED_S,
            per_second,
            ..Self::default()
        }
    }

    fn well(&self, within_percent: f64) -> bool {
        self.back >= self.cut
            && self.back_s <= self.stated_s
            && self.worst_percent <= within_percent
    }
}

impl Stormed {
    fn new(storm: &StormArgs, shared: &Shared, conductor: Conductor, found: Vec<Found>) -> Self {
        let (mut before, mut during) = (Latency::new(), Latency::new());
        let (mut back_ns, mut told_ms, mut resumed) = (Vec::new(), Vec::new(), 0);
        for thread in &found {
            before.add(&thread.deliver);
            during.add(&thread.deliver_in_storm);
            back_ns.extend(&thread.back_ns);
            told_ms.extend(&thread.told_ms);
            resumed += thread.resumed;
        }
        let cut = Counters::read(&shared.counters.cut);
        let returned = Return {
            resumed,
            told: told_ms.len() as u64,
            told_ms: (
                told_ms.iter().copied().min().unwrap_or(0),
                told_ms.iter().copied().max().unwrap_or(0),
            ),
            ..Return::new(cut, storm.pace, back_ns)
        };
        let (before, during) = (before.summary(), during.summary());
        let run = conductor.report(found);
        let p99_max_ms = (before.p99_ms * storm.p99_times).max(storm.p99_floor_ms);
        Self {
            pace: storm.pace,
            fresh: storm.fresh,
            clean: returned.well(storm.within_percent)
                && during.p99_ms <= p99_max_ms
                && run.findings.clean(),
            storm: returned,
            before,
            during,
            run,
        }
    }

    fn text(&self) -> String {
        let mut out = String::new();
        let s = &self.storm;
        let _ = writeln!(
            out,
            "storm      {} cut off, {} back ({} resumed) in {:.1} s; stated: {:.1} s",
            s.cut, s.back, s.resumed, s.back_s, s.stated_s
        );
        let _ = writeln!(
            out,
            "per second {:?}\n           pace {}, mean {:.1} ({:.1} % off), worst second {:.1} % off",
            s.per_second, self.pace, s.mean_per_s, s.mean_percent, s.worst_percent
        );
        let _ = writeln!(
            out,
            "told       {} to come later, by {} to {} ms",
            s.told, s.told_ms.0, s.told_ms.1
        );
        for (name, q) in [("before", &self.before), ("in storm", &self.during)] {
            let _ = writeln!(
                out,
                "{name:<10} {} deliveries to bystanders: p50 {:.2} ms, p99 {:.2} ms, max {:.1} ms",
                q.count, q.p50_ms, q.p99_ms, q.max_ms
            );
        }
        let _ = writeln!(
            out,
            "{}",
            if self.clean {
                "all kept their bounds"
            } else {
                "SOMETHING DID NOT KEEP ITS BOUND"
            }
        );
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn a_return_at_the_pace_is_flat_and_one_with_a_hole_is_not() {
        let at = |n: u64| S / 2 + n * S / 100;
        let flat = Return::new(500, 100, (0..500).map(at).collect());
        assert_eq!(flat.per_second, [50, 100, 100, 100, 100, 50]);
        assert!((flat.worst_percent, flat.mean_percent) == (0.0, 0.0));
        assert!(flat.well(5.0), "{flat:?}");
        let hole = Return::new(500, 100, (0..500).map(|n| at(n + n / 250 * 70)).collect());
        assert!(hole.worst_percent > 20.0 && !hole.well(20.0), "{hole:?}");
        let few = Return::new(501, 100, (0..500).map(at).collect());
        assert!(!few.well(20.0), "one is missing");
    }

    #[test]
    fn nobody_back_is_not_well() {
        let none = Return::new(10, 100, Vec::new());
        assert_eq!(none.per_second, [0]);
        assert!(!none.well(20.0));
    }
}
