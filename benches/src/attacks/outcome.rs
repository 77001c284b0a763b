//! What one attack did, as JSON, and what it is judged by.

use hawser_loadgen::report::Quantiles;
use serde::{Deserialize, Serialize};

use super::raw::How;

/// What was measured where, beside the outcomes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// Day of the run.
    pub date: String,
    /// Processors, memory, kernel, load before the run.
    pub machine: String,
    /// How it was run.
    pub command: String,
}

/// One attack.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Mark in docs/guarantees.md.
    pub fault: String,
    /// Its name on the command line.
    pub name: String,
    /// What is done, in words.
    pub words: String,
    /// How long the attack was, seconds.
    pub seconds: f64,
    /// Connections per second that the schedule wanted.
    pub rate: f64,
    /// Connections that TCP opened.
    pub made: u64,
    /// Those that the gateway let in meanwhile.
    pub accepted: u64,
    /// Connections that the schedule wanted and the attacker had no descriptors for.
    pub skipped: u64,
    /// What else was counted, and what it is.
    pub units: u64,
    /// See [`Outcome::units`].
    pub unit: String,
    /// CPU time of the gateway.
    pub cpu: Cpu,
    /// Memory of the gateway, and the machine's slab.
    pub memory: Memory,
    /// Send → Deliver of the bystanders before, during and after the attack.
    pub bystanders: [Look; 3],
    /// What became of their messages.
    pub kept: Kept,
    /// How the attacker's connections ended.
    pub endings: Vec<Ending>,
    /// With the fault over without it: the bystanders' p99 of each pair of spans, where pairs were made.
    pub ratios: Vec<f64>,
    /// What is expected.
    pub goals: Vec<Goal>,
}

/// CPU time of the gateway, shares of one core in percent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Cpu {
    /// Cores that the gateway runs on.
    pub cores: u64,
    /// Before the attack: bystanders alone.
    pub before_pct: f64,
    /// While connections were opened.
    pub during_pct: f64,
    /// The difference: what the attack cost.
    pub attack_pct: f64,
    /// The same over all connections of the attack until the last had ended, microseconds each.
    pub each_us: f64,
    /// The attacker's and the bystanders' own process meanwhile.
    pub own_pct: f64,
}

/// Memory, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Resident before.
    pub rss_before: u64,
    /// Resident at most.
    pub rss_peak: u64,
    /// Resident after all had ended.
    pub rss_after: u64,
    /// Slab of the machine before, both ends of all connections in it.
    pub slab_before: u64,
    /// At most.
    pub slab_peak: u64,
    /// After.
    pub slab_after: u64,
    /// Handshakes in progress at most.
    pub handshakes_peak: u64,
    /// Bytes that waited in user space for sockets to take them, at most.
    pub tails_peak: u64,
}

/// Latencies of one span, milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Look {
    /// Deliveries.
    pub count: u64,
    /// Median.
    pub p50_ms: f64,
    /// 99 %.
    pub p99_ms: f64,
    /// Most.
    pub max_ms: f64,
}

impl From<Quantiles> for Look {
    fn from(q: Quantiles) -> Self {
        Self {
            count: q.count,
            p50_ms: q.p50_ms,
            p99_ms: q.p99_ms,
            max_ms: q.max_ms,
        }
    }
}

/// What became of the bystanders' messages, of this attack alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Acknowledged.
    pub acknowledged: u64,
    /// Delivered.
    pub delivered: u64,
    /// Acknowledged and not delivered.
    pub lost: u64,
    /// Shown twice.
    pub duplicated: u64,
    /// Out of order.
    pub reordered: u64,
    /// Sessions that ended without being asked.
    pub closed: u64,
}

/// How connections of the attacker ended.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Ending {
    /// What they said, where the attack is made of several.
    pub what: String,
    /// How, in words.
    pub how: String,
    /// Close code, where there is one.
    pub code: Option<u16>,
    /// How many.
    pub count: u64,
    /// Time until then, milliseconds: median.
    pub p50_ms: f64,
    /// 99 %.
    pub p99_ms: f64,
    /// Most.
    pub max_ms: f64,
}

impl Ending {
    /// Of some connections.
    #[must_use]
    pub fn new(what: String, how: How, count: u64, lived: &Quantiles) -> Self {
        let code = match how {
            How::Close(code) => Some(code),
            _ => None,
        };
        Self {
            what,
            how: how.words(),
            code,
            count,
            p50_ms: lived.p50_ms,
            p99_ms: lived.p99_ms,
            max_ms: lived.max_ms,
        }
    }

    /// Of those that waited in the backlog to the end, which costs the gateway nothing.
    #[must_use]
    pub fn never_let_in(count: u64) -> Self {
        Self {
            how: "not let in".to_owned(),
            count,
            ..Self::default()
        }
    }

    /// Of those that did not end while somebody looked.
    #[must_use]
    pub fn still_open(count: u64) -> Self {
        Self {
            how: How::Open.words(),
            count,
            ..Self::default()
        }
    }
}

/// Something that is expected, and what was found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Goal {
    /// What.
    pub what: String,
    /// The bound, in words.
    pub goal: String,
    /// The figure, in words.
    pub figure: String,
    /// Whether it holds.
    pub holds: bool,
    /// It is about how long something takes: on a busy machine it says more of the machine.
    #[serde(default)]
    pub timed: bool,
}

impl Goal {
    /// A figure of time that must not be above a bound.
    #[must_use]
    pub fn at_most(what: &str, figure: f64, bound: f64, unit: &str) -> Self {
        Self {
            what: what.to_owned(),
            goal: format!("≤ {bound} {unit}"),
            figure: format!("{figure:.2} {unit}"),
            holds: figure <= bound,
            timed: true,
        }
    }

    /// A count that must be zero.
    #[must_use]
    pub fn none(what: &str, count: u64) -> Self {
        Self {
            what: what.to_owned(),
            goal: "0".to_owned(),
            figure: count.to_string(),
            holds: count == 0,
            timed: false,
        }
    }
}

impl Outcome {
    /// Whether all that is expected holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.goals.iter().all(|goal| goal.holds)
    }

    /// What every attack is judged by: nothing of the bystanders' is lost, and nothing panics.
    pub fn judge_all(&mut self, panics: u64) {
        let kept = self.kept;
        let broken = kept.lost + kept.duplicated + kept.reordered + kept.closed;
        self.goals.push(Goal {
            what: "bystanders: lost, duplicated, reordered, closed".to_owned(),
            goal: "0, 0, 0, 0".to_owned(),
            figure: format!(
                "{}, {}, {}, {} of {}",
                kept.lost, kept.duplicated, kept.reordered, kept.closed, kept.acknowledged
            ),
            holds: broken == 0 && kept.acknowledged > 0,
            timed: false,
        });
        self.goals.push(Goal::none("panics", panics));
    }

    /// Connections that ended with this code (`None`: however) for each kind of message.
    #[must_use]
    pub fn ended_with(&self, what: &str, code: u16) -> (u64, u64) {
        let of = self.endings.iter().filter(|ending| ending.what == what);
        of.fold((0, 0), |(right, all), ending| {
            let is_right = u64::from(ending.code == Some(code)) * ending.count;
            (right + is_right, all + ending.count)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_that_is_missed_makes_the_attack_missed() {
        let mut outcome = Outcome {
            kept: Kept {
                acknowledged: 5,
                ..Kept::default()
            },
            ..Outcome::default()
        };
        outcome.judge_all(0);
        assert!(outcome.holds());
        outcome
            .goals
            .push(Goal::at_most("handshakes", 25.1, 25.0, "%"));
        assert!(!outcome.holds());
        let nothing = &mut Outcome::default();
        nothing.judge_all(0);
        assert!(!nothing.holds(), "nobody talked");
    }

    #[test]
    fn endings_are_counted_by_what_was_said_and_its_code() {
        let ending = |what: &str, how, count| {
            Ending::new(what.to_owned(), how, count, &Quantiles::default())
        };
        let outcome = Outcome {
            endings: vec![
                ending("a", How::Close(1002), 7),
                ending("a", How::Ended, 2),
                ending("b", How::Close(1002), 1),
            ],
            ..Outcome::default()
        };
        assert_eq!(outcome.ended_with("a", 1002), (7, 9));
        let text = serde_json::to_string(&outcome).expect("JSON");
        assert_eq!(
            serde_json::from_str::<Outcome>(&text).expect("back"),
            outcome
        );
    }
}
