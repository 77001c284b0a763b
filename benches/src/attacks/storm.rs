//! Everybody comes back at once (F13): the load generator's storm, beside a watch on the gateway.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use hawser_loadgen::commands::storm::{self, StormArgs};
use serde_json::Value;

use crate::rivals::proc::slab_bytes;

use super::conduct::{Size, memory};
use super::outcome::{Ending, Goal, Kept, Look, Outcome};
use super::site::Site;
use super::watch::{Instantly, Watch};

/// How far the rate of a storm may be from the pace, percent.
const WITHIN_PERCENT: f64 = 5.0;
/// How many times longer connected clients' p99 may be.
const P99_TIMES: f64 = 2.0;

/// Makes F13. The gateway's `limits.accepts_per_second` times its cores has to be [`Size::pace`].
///
/// # Errors
/// It could not be made.
pub fn run(site: &Arc<Site>, size: &Size) -> anyhow::Result<Outcome> {
    let metrics = site.metrics()?;
    let slab_before = slab_bytes();
    let before = Instantly::of(site);
    let watch = Watch::begin(site)?;
    let file = std::env::temp_dir().join(format!("hawser-attacks-storm-{}", std::process::id()));
    let words = [
        "hawser-loadgen storm".to_owned(),
        format!("--cut={}", size.cut),
        format!("--bystanders={}", size.bystanders),
        format!("--pace={}", size.pace),
        format!("--before-s={}", size.quiet_s.ceil()),
        format!("--within-percent={WITHIN_PERCENT}"),
        format!("--json={}", file.display()),
        "--".to_owned(),
        format!("--url={}", site.place.wss),
        format!("--api={}", site.place.api),
        format!("--key={}", site.place.key.display()),
        format!("--ramp={}", size.pace * 9 / 10),
        format!("--rate={}", size.rate),
        format!("--body={}", size.body),
        "--prefix=storm-".to_owned(),
        "--quiet".to_owned(),
    ];
    let made = storm::run(&StormArgs::try_parse_from(words)?);
    let text = std::fs::read_to_string(&file).context("the storm's report");
    // It may never have been written.
    let _ = std::fs::remove_file(&file);
    made?;
    let told: Value = serde_json::from_str(&text?)?;
    std::thread::sleep(Duration::from_secs(1));
    let after = Instantly::of(site);
    let page = site.metrics()?;
    let mut outcome = Outcome {
        fault: "F13".to_owned(),
        name: "storm".to_owned(),
        words: format!(
            "{} of {} sessions cut off at once; the gateway's pace is {}/s",
            size.cut,
            size.cut + size.bystanders,
            size.pace
        ),
        ..Outcome::default()
    };
    memory(&mut outcome, &watch, (slab_before, &before, &after));
    drop(watch);
    let (_, during_pct, own_pct) = after.since(&before);
    (outcome.cpu.during_pct, outcome.cpu.own_pct) = (during_pct, own_pct);
    read(&mut outcome, &told);
    outcome.accepted = page.grown(&metrics, "hawser_accepted_total");
    outcome.judge_all(page.grown(&metrics, "hawser_panics_total"));
    Ok(outcome)
}

/// Takes the figures from the storm's own report.
fn read(outcome: &mut Outcome, told: &Value) {
    let number = |path: &str| told.pointer(path).and_then(Value::as_f64).unwrap_or(0.0);
    let count = |path: &str| told.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    let look = |name: &str| Look {
        count: count(&format!("/{name}/count")),
        p50_ms: number(&format!("/{name}/p50_ms")),
        p99_ms: number(&format!("/{name}/p99_ms")),
        max_ms: number(&format!("/{name}/max_ms")),
    };
    outcome.bystanders = [look("before"), look("during"), Look::default()];
    let found = |name: &str| count(&format!("/run/findings/{name}"));
    let cut = count("/storm/cut");
    outcome.kept = Kept {
        acknowledged: found("acknowledged"),
        delivered: found("delivered"),
        lost: found("lost"),
        duplicated: found("duplicated"),
        reordered: found("reordered") + found("seq_regressed"),
        closed: count("/run/closed").saturating_sub(cut),
    };
    outcome.made = cut;
    outcome.rate = number("/pace");
    outcome.seconds = number("/storm/back_s");
    let (mean, off) = (number("/storm/mean_per_s"), number("/storm/mean_percent"));
    outcome.goals.push(Goal {
        what: "let in per second, over all whole seconds".to_owned(),
        goal: format!("{:.0} ± {WITHIN_PERCENT} %", outcome.rate),
        figure: format!(
            "{mean:.1} ({off:.1} % off; worst second {:.1} %)",
            number("/storm/worst_percent")
        ),
        holds: off <= WITHIN_PERCENT && mean > 0.0,
        timed: true,
    });
    let (back_s, stated_s, back) = (
        number("/storm/back_s"),
        number("/storm/stated_s"),
        count("/storm/back"),
    );
    outcome.goals.push(Goal {
        what: format!("all {cut} are back"),
        goal: format!("≤ {stated_s:.1} s"),
        figure: format!("{back} after {back_s:.1} s"),
        holds: back >= cut && cut > 0 && back_s <= stated_s,
        timed: true,
    });
    let [before, during, _] = outcome.bystanders;
    outcome.goals.push(Goal {
        what: "connected clients' p99, in the storm over before".to_owned(),
        goal: format!("< {P99_TIMES}"),
        figure: format!("{:.2}", during.p99_ms / before.p99_ms.max(0.001)),
        holds: during.count > 0 && during.p99_ms < P99_TIMES * before.p99_ms,
        timed: true,
    });
    outcome.endings.push(Ending {
        what: "client".to_owned(),
        how: format!("came back: {} resumed", count("/storm/resumed")),
        count: back,
        ..Ending::default()
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_that_kept_its_bounds_holds_and_one_that_did_not_does_not() {
        let told = |p99: f64, mean_percent: f64| {
            serde_json::json!({
                "pace": 100,
                "storm": {"cut": 500, "back": 500, "resumed": 499, "mean_per_s": 99.0, "mean_percent": mean_percent,
                    "worst_percent": 6.0, "back_s": 5.1, "stated_s": 7.5},
                "before": {"count": 9, "p50_ms": 1.0, "p99_ms": 4.0, "max_ms": 5.0},
                "during": {"count": 9, "p50_ms": 1.0, "p99_ms": p99, "max_ms": 9.0},
                "run": {"closed": 0, "findings": {"acknowledged": 10, "lost": 0}},
            })
        };
        let judged = |told: &Value| {
            let mut outcome = Outcome::default();
            read(&mut outcome, told);
            outcome.judge_all(0);
            outcome.holds()
        };
        assert!(judged(&told(7.9, 1.0)));
        assert!(!judged(&told(8.1, 1.0)));
        assert!(!judged(&told(7.9, 5.1)));
        assert!(!judged(&Value::Null));
    }
}
