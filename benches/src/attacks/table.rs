//! Outcomes as tables to read.

use std::fmt::Write as _;

use super::outcome::{About, Ending, Outcome};

/// Endings of one attack that are told; the JSON has all.
const ENDINGS_MAX: usize = 8;

/// All of it, as Markdown.
#[must_use]
pub fn markdown(outcomes: &[Outcome], about: &About) -> String {
    let mut out = String::from("# Floods and slow readers\n\n");
    let _ = writeln!(
        out,
        "{}; {}.\n\n`{}`\n",
        about.date, about.machine, about.command
    );
    let missed = outcomes.iter().filter(|outcome| !outcome.holds()).count();
    let _ = writeln!(
        out,
        "{} of {} attacks met every goal.\n",
        outcomes.len() - missed,
        outcomes.len()
    );
    costs(&mut out, outcomes);
    bystanders(&mut out, outcomes);
    endings(&mut out, outcomes);
    goals(&mut out, outcomes);
    out
}

/// One outcome in a line, for whoever waits.
#[must_use]
pub fn line(outcome: &Outcome) -> String {
    let missed: Vec<String> = outcome
        .goals
        .iter()
        .filter(|goal| !goal.holds)
        .map(|goal| format!("{} {} (goal {})", goal.what, goal.figure, goal.goal))
        .collect();
    let verdict = if missed.is_empty() {
        "ok".to_owned()
    } else {
        format!("MISSED: {}", missed.join("; "))
    };
    format!(
        "{} {}: {} connections, {:.1} % of a core, p99 {:.1} / {:.1} / {:.1} ms, {verdict}",
        outcome.fault,
        outcome.name,
        outcome.made,
        outcome.cpu.attack_pct,
        outcome.bystanders[0].p99_ms,
        outcome.bystanders[1].p99_ms,
        outcome.bystanders[2].p99_ms
    )
}

fn mib(bytes: u64) -> String {
    format!("{:.0}", bytes as f64 / f64::from(1 << 20))
}

fn costs(out: &mut String, outcomes: &[Outcome]) {
    out.push_str(
        "## What it cost the gateway\n\n\
         | | attack | connections (a second) | let in | else | gateway's CPU: before, in it, for it (% of a core) | µs a connection | RSS MiB: before, peak, after | slab MiB: before, peak, after | handshakes at most |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for o in outcomes {
        let (c, m) = (&o.cpu, &o.memory);
        let units = match (o.units, o.unit.as_str()) {
            (_, "") => "–".to_owned(),
            (units, unit) => format!("{units} {unit}"),
        };
        let skipped = if o.skipped > 0 {
            format!(", {} not tried", o.skipped)
        } else {
            String::new()
        };
        let (per_s, each) = if o.rate > 0.0 {
            (format!(" ({:.0})", o.rate), format!("{:.0}", c.each_us))
        } else {
            (String::new(), "–".to_owned())
        };
        let each = if c.each_us > 0.0 {
            each
        } else {
            "–".to_owned()
        };
        let _ = writeln!(
            out,
            "| {} | `{}`: {} | {}{per_s}{skipped} | {} | {units} | {:.1}, {:.1}, **{:.1}** | {each} | {}, {}, {} | {}, {}, {} | {} |",
            o.fault,
            o.name,
            o.words,
            o.made,
            if o.accepted > 0 {
                o.accepted.to_string()
            } else {
                "–".to_owned()
            },
            c.before_pct,
            c.during_pct,
            c.attack_pct,
            mib(m.rss_before),
            mib(m.rss_peak),
            mib(m.rss_after),
            mib(m.slab_before),
            mib(m.slab_peak),
            mib(m.slab_after),
            m.handshakes_peak
        );
    }
    out.push('\n');
}

fn bystanders(out: &mut String, outcomes: &[Outcome]) {
    out.push_str(
        "## What the others noticed\n\n\
         Send → Deliver from the instant that the schedule had for the message, milliseconds.\n\n\
         | attack | p50: before, in it, after | p99: before, in it, after | acknowledged | lost | duplicated | reordered | closed |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for o in outcomes {
        let [a, b, c] = o.bystanders;
        let after = |value: f64| {
            if c.count > 0 {
                format!("{value:.2}")
            } else {
                "–".to_owned()
            }
        };
        let k = o.kept;
        let _ = writeln!(
            out,
            "| `{}` | {:.2}, {:.2}, {} | {:.2}, {:.2}, {} | {} | {} | {} | {} | {} |",
            o.name,
            a.p50_ms,
            b.p50_ms,
            after(c.p50_ms),
            a.p99_ms,
            b.p99_ms,
            after(c.p99_ms),
            k.acknowledged,
            k.lost,
            k.duplicated,
            k.reordered,
            k.closed
        );
    }
    out.push('\n');
}

fn endings(out: &mut String, outcomes: &[Outcome]) {
    out.push_str(
        "## How the attacker's connections ended\n\n\
         | attack | ended | time until then, ms: p50, most |\n| --- | --- | --- |\n",
    );
    for o in outcomes {
        let mut all: Vec<&Ending> = o.endings.iter().collect();
        all.sort_by_key(|ending| std::cmp::Reverse(ending.count));
        for ending in all.iter().take(ENDINGS_MAX) {
            let what = match ending.what.as_str() {
                "" => String::new(),
                what => format!("{what}: "),
            };
            let _ = writeln!(
                out,
                "| `{}` | {what}{} × {} | {:.1}, {:.1} |",
                o.name, ending.count, ending.how, ending.p50_ms, ending.max_ms
            );
        }
    }
    out.push('\n');
}

fn goals(out: &mut String, outcomes: &[Outcome]) {
    out.push_str(
        "## Goals\n\n| | attack | what | goal | found | |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    for o in outcomes {
        for goal in &o.goals {
            let _ = writeln!(
                out,
                "| {} | `{}` | {} | {} | {} | {} |",
                o.fault,
                o.name,
                goal.what,
                goal.goal,
                goal.figure,
                if goal.holds { "ok" } else { "**MISSED**" }
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::outcome::Goal;
    use super::*;

    #[test]
    fn every_goal_is_told_with_its_figure_and_a_missed_one_stands_out() {
        let outcome = Outcome {
            fault: "F14".to_owned(),
            name: "x".to_owned(),
            goals: vec![
                Goal::at_most("CPU", 31.0, 25.0, "%"),
                Goal::none("panics", 0),
            ],
            endings: vec![Ending::still_open(3)],
            ..Outcome::default()
        };
        let text = markdown(std::slice::from_ref(&outcome), &About::default());
        assert!(
            text.contains("| CPU | ≤ 25 % | 31.00 % | **MISSED** |"),
            "{text}"
        );
        assert!(text.contains("| panics | 0 | 0 | ok |"));
        assert!(text.contains("3 × still open"));
        assert!(text.contains("0 of 1 attacks met every goal"));
        assert!(line(&outcome).contains("MISSED: CPU 31.00 % (goal ≤ 25 %)"));
    }
}
