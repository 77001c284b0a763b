//! The goals that Hawser is held to, and whether a table meets them.

use std::fmt;

use super::outcome::Scenario;
use super::table::{Family, HAWSER, Spread};

/// Total CPU of a fan-out of one message each, against the best rival.
const FANOUT_RATIO_MAX: f64 = 0.8;
/// The same with eight waiting messages.
const BURST_RATIO_MAX: f64 = 0.4;
/// User-space share of a delivery, microseconds: plain and TLS.
const USER_US_MAX: [f64; 2] = [0.7, 1.2];
/// One message to one, microseconds.
const PAIR_US_MAX: f64 = 15.0;
/// One TLS connect, microseconds.
const CONNECT_US_MAX: f64 = 200.0;

/// One goal in one family.
#[derive(Debug, Clone, PartialEq)]
pub struct Goal {
    /// What.
    pub name: String,
    /// Hawser's figure.
    pub own: f64,
    /// The bound.
    pub bound: f64,
    /// What the bound is made of.
    pub against: String,
}

impl Goal {
    /// Whether it is met.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.own <= self.bound
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.is_met() { "met" } else { "**not met**" };
        write!(
            f,
            "| {} | {:.2} | {:.2}: {} | {word} |",
            self.name, self.own, self.bound, self.against
        )
    }
}

/// The goals of one family, as far as it was measured with Hawser in it.
#[must_use]
pub fn judge(family: &Family<'_>) -> Vec<Goal> {
    let mut goals = Vec::new();
    let way = family.name();
    if family.tls
        && let Some(own) = family.of_runs(HAWSER, |one| one.cpu_us)
    {
        goals.push(Goal {
            name: format!("CPU µs per connect, {way}"),
            own: own.median,
            bound: CONNECT_US_MAX,
            against: "the goal".to_owned(),
        });
    }
    for body in family.bodies() {
        let mut against =
            |scenario: Scenario, ratio: f64, what: &str, of: &dyn Fn(&str) -> Option<Spread>| {
                if let (Some(own), Some((rival, best))) = (of(HAWSER), family.best(of)) {
                    goals.push(Goal {
                        name: format!("{what}, {} of {body} B, {way}", scenario.name()),
                        own: own.median,
                        bound: ratio * best,
                        against: format!("{ratio} × {rival}"),
                    });
                }
            };
        for (scenario, ratio) in [
            (Scenario::Fanout, FANOUT_RATIO_MAX),
            (Scenario::Burst, BURST_RATIO_MAX),
        ] {
            against(scenario, ratio, "CPU µs", &|server| {
                family.of_cells(server, scenario, body, |cell| cell.cpu_us)
            });
        }
        against(Scenario::Fanout, 1.0, "p99 ms", &|server| {
            family.of_cells(server, Scenario::Fanout, body, |cell| cell.p99_ms)
        });
        let user = USER_US_MAX[usize::from(family.tls)];
        for (scenario, bound, what) in [
            (Scenario::Fanout, user, "user µs"),
            (Scenario::Pair, PAIR_US_MAX, "CPU µs"),
        ] {
            let measure = if what == "user µs" {
                |cell: &super::outcome::Cell| cell.user_us
            } else {
                |cell: &super::outcome::Cell| cell.cpu_us
            };
            if let Some(own) = family.of_cells(HAWSER, scenario, body, measure) {
                goals.push(Goal {
                    name: format!("{what}, {} of {body} B, {way}", scenario.name()),
                    own: own.median,
                    bound,
                    against: "the goal".to_owned(),
                });
            }
        }
    }
    goals
}

#[cfg(test)]
mod tests {
    use super::super::table::outcome;
    use super::*;

    #[test]
    fn goals_are_judged_against_the_best_rival() {
        let outcomes = [
            outcome(HAWSER, true, 1, 7.0),
            outcome("a", true, 1, 10.0),
            outcome("b", true, 1, 9.0),
        ];
        let goals: Vec<Goal> = Family::all(&outcomes).iter().flat_map(judge).collect();
        let found = |start: &str| {
            goals
                .iter()
                .find(|goal| goal.name.starts_with(start))
                .expect(start)
        };
        assert!(found("CPU µs per connect").is_met());
        let fanout = found("CPU µs, fan-out of 200 B");
        assert!(fanout.is_met() && fanout.against == "0.8 × b", "{fanout}");
        assert!(!found("CPU µs, burst of 8 of 5120 B").is_met());
        assert!(found("p99 ms, fan-out").is_met());
        assert!(found("user µs, fan-out").is_met());
        assert!(found("CPU µs, 1:1").is_met());
        assert_eq!(goals.len(), 11);
    }

    #[test]
    fn without_hawser_there_is_nothing_to_judge() {
        let outcomes = [outcome("a", true, 1, 10.0)];
        assert!(
            Family::all(&outcomes)
                .iter()
                .flat_map(judge)
                .next()
                .is_none()
        );
    }
}
