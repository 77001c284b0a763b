//! Moves one gateway through the attacks, with others who talk beside each.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hawser_loadgen::args::Args;
use hawser_loadgen::beside::Beside;
use hawser_loadgen::report::Report;

use crate::rivals::proc::slab_bytes;

use super::attacker::{Attack, Done, Kind, Order};
use super::floods::UNANSWERED;
use super::outcome::{Goal, Kept, Outcome};
use super::plans::Plan;
use super::site::Site;
use super::watch::{Instantly, Watch};

/// A connection without a whole Hello is cut after `session.hello_ms`, which is 8 s. What a busy machine may add.
const DEADLINE_MS: f64 = 8_000.0;
const DEADLINE_SLACK_MS: f64 = 500.0;
/// After the last connection the others are waited for, deadline included.
const PATIENCE: Duration = Duration::from_secs(15);
/// Of each core, percent: what unfinished handshakes may cost.
const HANDSHAKES_PCT: f64 = 25.0;

/// How large everything is.
#[derive(Debug, Clone)]
pub struct Size {
    /// Bystanders, in pairs.
    pub bystanders: u32,
    /// Messages per second among them.
    pub rate: f64,
    /// Bytes of each.
    pub body: usize,
    /// Length of the spans before and after an attack, seconds.
    pub quiet_s: f64,
    /// Length of an attack, seconds.
    pub attack_s: f64,
    /// Rest after a change: what is closed is returned lazily, and a backlog is worked off; seconds.
    pub rest_s: f64,
    /// Attackers per second are multiplied by this.
    pub scale: f64,
    /// Sessions of F10, and pairs of spans with slow readers and without, seconds each.
    pub slow_sessions: u32,
    /// See [`Size::slow_sessions`].
    pub pairs: u32,
    /// See [`Size::slow_sessions`].
    pub pair_s: f64,
    /// A last span with slow readers that is longer than the gateway's patience with them, seconds; 0: none.
    pub long_s: f64,
    /// Messages per second to each group of F10.
    pub group_rate: f64,
    /// Sessions that F13 cuts off, and the pace of the gateway.
    pub cut: u32,
    /// See [`Size::cut`].
    pub pace: u32,
}

impl Size {
    /// For figures.
    #[must_use]
    pub fn full() -> Self {
        Self {
            bystanders: 500,
            rate: 300.0,
            body: 200,
            quiet_s: 8.0,
            attack_s: 20.0,
            rest_s: 2.0,
            scale: 1.0,
            slow_sessions: 600,
            pairs: 7,
            pair_s: 8.0,
            long_s: 70.0,
            group_rate: 40.0,
            cut: 5_000,
            pace: 500,
        }
    }

    /// For a minute or two.
    #[must_use]
    pub fn quick() -> Self {
        Self {
            bystanders: 100,
            rate: 200.0,
            quiet_s: 1.0,
            attack_s: 2.0,
            rest_s: 1.0,
            slow_sessions: 200,
            pairs: 1,
            pair_s: 2.0,
            long_s: 0.0,
            cut: 600,
            pace: 200,
            scale: 0.5,
            ..Self::full()
        }
    }

    /// See [`Size::rest_s`].
    #[must_use]
    pub fn rest(&self) -> Duration {
        Duration::from_secs_f64(self.rest_s)
    }

    /// For a test that everything is done.
    #[must_use]
    pub fn tiny() -> Self {
        Self {
            bystanders: 10,
            rate: 50.0,
            quiet_s: 0.3,
            attack_s: 0.3,
            rest_s: 0.3,
            scale: 0.1,
            slow_sessions: 20,
            pair_s: 0.5,
            cut: 20,
            pace: 40,
            ..Self::quick()
        }
    }
}

/// Makes an attack of connections.
///
/// # Errors
/// The attacker or the bystanders could not do it; what the gateway did wrong is in the outcome.
pub fn connections(site: &Arc<Site>, size: &Size, plan: &Plan) -> anyhow::Result<Outcome> {
    let prefix = format!("by-{}-", plan.name);
    let mut beside = Beside::open(bystanders(site, size, &prefix)?)?;
    beside.load();
    std::thread::sleep(size.rest());
    let _ = beside.window();
    let metrics = site.metrics()?;
    let (slab_before, begun) = (slab_bytes(), Instantly::of(site));
    std::thread::sleep(Duration::from_secs_f64(size.quiet_s));
    let before = (beside.window(), Instantly::of(site));
    let watch = Watch::begin(site)?;
    let order = Order {
        kind: plan.kind.clone(),
        rate: (plan.rate * size.scale).max(1.0),
        length: Duration::from_secs_f64(size.attack_s),
        patience: PATIENCE,
    };
    let rate = order.rate;
    let from = Instantly::of(site);
    let attack = Attack::begin(site, order)?;
    let until = Instant::now() + Duration::from_secs_f64(size.attack_s + 30.0);
    while !attack.is_over() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    let over = Instantly::of(site);
    let during = beside.window();
    let done = attack.end()?;
    let ended = Instantly::of(site);
    std::thread::sleep(size.rest());
    let _ = beside.window();
    std::thread::sleep(Duration::from_secs_f64(size.quiet_s));
    let after = (beside.window(), Instantly::of(site));
    let mut outcome = Outcome {
        fault: plan.fault.to_owned(),
        name: plan.name.to_owned(),
        words: plan.words.to_owned(),
        unit: plan.unit.to_owned(),
        seconds: size.attack_s,
        rate,
        ..Outcome::default()
    };
    let page = site.metrics()?;
    outcome.accepted = page.grown(&metrics, "hawser_accepted_total");
    memory(&mut outcome, &watch, (slab_before, &before.1, &after.1));
    drop(watch);
    let (_, before_pct, _) = before.1.since(&begun);
    let (_, during_pct, own_pct) = over.since(&from);
    let (seconds, whole_pct, _) = ended.since(&from);
    let cpu = &mut outcome.cpu;
    (cpu.before_pct, cpu.during_pct, cpu.own_pct) = (before_pct, during_pct, own_pct);
    cpu.cores = page.cores();
    cpu.attack_pct = (during_pct - before_pct).max(0.0);
    let each = ((whole_pct - before_pct) * seconds * 1e4).max(0.0);
    cpu.each_us = each / (done.made.max(1) as f64);
    let looks = [&before.0, &during, &after.0];
    outcome.bystanders = looks.map(|window| window.deliver.summary().into());
    beside.settle();
    outcome.kept = kept(&beside.end()?.report);
    took(&mut outcome, done);
    judge(&mut outcome, plan);
    outcome.judge_all(page.grown(&metrics, "hawser_panics_total"));
    Ok(outcome)
}

/// Arguments of those who talk beside.
fn bystanders(site: &Site, size: &Size, prefix: &str) -> anyhow::Result<Args> {
    let (count, rate, body) = (size.bystanders.max(2) & !1, size.rate, size.body);
    let words = [
        format!("--url={}", site.place.wss),
        format!("-n={count}"),
        format!("--ramp={}", count.clamp(50, 500)),
        format!("--rate={rate}"),
        format!("--body={body}"),
        format!("--prefix={prefix}"),
        "--group-share=0".to_owned(),
        "--settle-s=10".to_owned(),
    ];
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    site.loadgen(&words)
}

/// What became of the bystanders' messages.
pub(super) fn kept(report: &Report) -> Kept {
    let found = &report.findings;
    Kept {
        acknowledged: found.acknowledged,
        delivered: found.delivered,
        lost: found.lost,
        duplicated: found.duplicated,
        reordered: found.reordered + found.seq_regressed,
        closed: report.closed,
    }
}

/// Fills in memory: the slab and the instant before, the instant after.
pub(super) fn memory(
    outcome: &mut Outcome,
    watch: &Watch,
    (slab_before, before, after): (u64, &Instantly, &Instantly),
) {
    let peaks = watch.peaks();
    let memory = &mut outcome.memory;
    memory.rss_before = before.rss();
    memory.rss_peak = peaks.rss.load(Ordering::Acquire).max(before.rss());
    memory.rss_after = after.rss();
    memory.slab_before = slab_before;
    memory.slab_peak = peaks.slab.load(Ordering::Acquire).max(slab_before);
    memory.slab_after = slab_bytes();
    memory.handshakes_peak = peaks.handshakes.load(Ordering::Acquire);
    memory.tails_peak = peaks.tails.load(Ordering::Acquire);
}

fn took(outcome: &mut Outcome, done: Done) {
    outcome.made = done.made;
    outcome.skipped = done.skipped;
    outcome.units = done.units;
    outcome.endings = done.endings;
}

fn judge(outcome: &mut Outcome, plan: &Plan) {
    if plan.is_cut {
        judge_handshakes(outcome);
    }
    let Kind::Messages { all, .. } = &plan.kind else {
        return;
    };
    for message in all.iter() {
        let (right, count) = outcome.ended_with(message.what, message.code);
        outcome.goals.push(Goal {
            what: format!("{}: closed with {}", message.what, message.code),
            goal: "all".to_owned(),
            figure: format!("{right} of {count}"),
            holds: right == count && count > 0,
            timed: false,
        });
    }
}

/// What unfinished handshakes cost, and how long they lived.
fn judge_handshakes(outcome: &mut Outcome) {
    let all = outcome.cpu.attack_pct;
    let each = all / outcome.cpu.cores.max(1) as f64;
    outcome.goals.push(Goal {
        what: "CPU of handshakes, of each core".to_owned(),
        goal: format!("≤ {HANDSHAKES_PCT} %"),
        figure: format!("{each:.1} % ({all:.1} % of one in all)"),
        holds: each <= HANDSHAKES_PCT,
        timed: true,
    });
    let (mut most, mut open) = (0.0_f64, 0);
    for ending in &outcome.endings {
        match ending.how.as_str() {
            "not connected" | "not let in" => {}
            "still open" => open += ending.count,
            _ if ending.what == UNANSWERED => {}
            _ => most = most.max(ending.max_ms),
        }
    }
    outcome.goals.push(Goal {
        what: "each is cut, at most after".to_owned(),
        goal: "8 s, and 0.5 s for a busy machine".to_owned(),
        figure: format!("{:.2} s; {open} still open", most / 1e3),
        holds: open == 0 && outcome.made > 0 && most <= DEADLINE_MS + DEADLINE_SLACK_MS,
        timed: true,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_lives_too_long_or_another_code_is_a_missed_goal() {
        let plans = super::super::plans::all();
        let ending = |what: &str, how: &str, code, max_ms| super::super::outcome::Ending {
            what: what.to_owned(),
            how: how.to_owned(),
            code,
            count: 5,
            max_ms,
            ..Default::default()
        };
        let judged = |name: &str, endings: Vec<_>| {
            let plan = plans.iter().find(|plan| plan.name == name).expect("a plan");
            let mut outcome = Outcome {
                made: 5,
                endings,
                ..Outcome::default()
            };
            judge(&mut outcome, plan);
            outcome.holds()
        };
        assert!(judged(
            "head-bytes",
            vec![ending("", "HTTP 408", None, 8_100.0)]
        ));
        assert!(!judged(
            "head-bytes",
            vec![ending("", "HTTP 408", None, 8_600.0)]
        ));
        assert!(!judged(
            "head-bytes",
            vec![ending("", "still open", None, 0.0)]
        ));
        let over = |code| vec![ending("oversize", "close", Some(code), 1.0)];
        assert!(judged("over-by-one", over(1009)));
        assert!(!judged("over-by-one", over(1002)));
        assert!(!judged("over-by-one", Vec::new()));
    }
}
