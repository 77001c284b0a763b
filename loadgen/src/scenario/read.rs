//! TOML as a scenario, strictly: a key that does nothing is refused, and so is what cannot be.

use std::collections::BTreeMap;

use hawser_protocol::limits::BODY_BYTES_MAX;

use super::figures;
use super::file::{Bodies, File, KINDS, PhaseFile, put};
use super::model::{Body, Kind, Load, Phase, Scenario, Sessions, Target};
use crate::payload::PAYLOAD_BYTES_MIN;

/// Phases of a scenario at most.
const PHASES_MAX: usize = 100;
/// Seconds of a phase at most: a week.
const SECONDS_MAX: u64 = 7 * 24 * 3_600;

/// A shorter soak has too few samples of memory to say whether it grew.
const SOAK_MINUTES_MIN: f64 = 0.25;

/// What is wrong with a scenario: its author's to mend.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ScenarioError {
    /// No TOML, an unknown key, a key that is missing or of another type.
    #[error("{0}")]
    Syntax(String),
    /// A value that cannot be.
    #[error("{}{key}: {words}", at_line(.line))]
    Value {
        /// Where, from 1; `None`: not in the file as it is.
        line: Option<usize>,
        /// Which.
        key: String,
        /// Why, and the way out.
        words: String,
    },
    /// `--set` names no place.
    #[error(
        "--set {0}: give section.key=value, phase.NAME.key=value, or phase.N.key=value with N from 1"
    )]
    Set(String),
}

fn at_line(line: &Option<usize>) -> String {
    line.map_or_else(String::new, |line| format!("line {line}: "))
}

/// Reads a scenario; `stem` is its name where it gives itself none, `sets` are values in the place of the file's.
///
/// # Errors
/// See [`ScenarioError`].
pub fn scenario(text: &str, stem: &str, sets: &[String]) -> Result<Scenario, ScenarioError> {
    let syntax =
        |error: toml::de::Error| ScenarioError::Syntax(error.to_string().trim_end().to_owned());
    // Of the file as it is, so that lines are those of the file.
    let file: File = toml::from_str(text).map_err(syntax)?;
    if sets.is_empty() {
        return Reader { text: Some(text) }.scenario(file, stem);
    }
    let mut table: toml::Table = text.parse().map_err(syntax)?;
    for set in sets {
        put(&mut table, set)?;
    }
    let text = toml::to_string(&table).unwrap_or_default();
    let file: File = toml::from_str(&text).map_err(syntax)?;
    Reader { text: None }.scenario(file, stem)
}

struct Reader<'a> {
    /// The file, where lines can be told.
    text: Option<&'a str>,
}

/// A phase of the file, with where it is.
struct Place<'a> {
    reader: &'a Reader<'a>,
    span: std::ops::Range<usize>,
    name: String,
}

impl Reader<'_> {
    fn scenario(&self, file: File, stem: &str) -> Result<Scenario, ScenarioError> {
        self.sessions(&file.sessions)?;
        let sessions = &file.sessions;
        if file.phase.is_empty() || file.phase.len() > PHASES_MAX {
            let words = format!("give 1 to {PHASES_MAX} [[phase]], the first with kind = \"ramp\"");
            return Err(self.fault("phase", None, words));
        }
        let mut phases = Vec::new();
        let mut live = 0;
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        let mut drained = Vec::new();
        for phase in file.phase {
            let span = phase.span();
            let phase = phase.into_inner();
            let name = phase.name.clone().unwrap_or_else(|| {
                let count = counts.entry(phase.kind.clone()).or_default();
                *count += 1;
                match *count {
                    1 => phase.kind.clone(),
                    more => format!("{}{more}", phase.kind),
                }
            });
            let place = Place {
                reader: self,
                span,
                name,
            };
            if !is_name(&place.name) || phases.iter().any(|p: &Phase| p.name == place.name) {
                let words = "give each phase a name of its own of letters, digits, - and _; server and run are taken";
                return Err(place.fault("name", words.to_owned()));
            }
            let kind = place.kind(&phase)?;
            place.fits(&kind, &file.target, sessions, &mut live, &mut drained)?;
            phases.push(Phase {
                name: place.name,
                kind,
            });
        }
        let mut scenario = Scenario {
            name: file.name.unwrap_or_else(|| stem.to_owned()),
            target: file.target,
            sessions: file.sessions,
            phases,
            expects: Vec::new(),
        };
        for expect in file.expect {
            let span = expect.span();
            let expect = expect.into_inner();
            figures::check(&scenario, &expect).map_err(|words| {
                self.fault(
                    &format!("expect {}", expect.metric),
                    Some(span.start),
                    words,
                )
            })?;
            scenario.expects.push(expect);
        }
        Ok(scenario)
    }

    fn sessions(&self, sessions: &Sessions) -> Result<(), ScenarioError> {
        let top = |key: &str, words: String| self.fault(key, None, words);
        if sessions.count < 2 || sessions.count % 2 == 1 {
            return Err(top(
                "count",
                format!(
                    "{} is not even and at least 2: people talk in pairs",
                    sessions.count
                ),
            ));
        }
        if sessions.threads == 0 {
            return Err(top("threads", "give at least 1".to_owned()));
        }
        if !(2..=1_000).contains(&sessions.group_size) {
            return Err(top(
                "group_size",
                format!("{} is not between 2 and 1000", sessions.group_size),
            ));
        }
        if sessions.settle_s == 0 || sessions.settle_s > 600 {
            return Err(top(
                "settle_s",
                format!("{} is not between 1 and 600", sessions.settle_s),
            ));
        }
        Ok(())
    }

    /// `at`: a byte of the file; without one the line that begins with the key.
    fn fault(&self, key: &str, at: Option<usize>, words: String) -> ScenarioError {
        let line = self.text.and_then(|text| match at {
            Some(at) => Some(text.get(..at)?.matches('\n').count() + 1),
            None => line_of(text, key),
        });
        ScenarioError::Value {
            line,
            key: key.to_owned(),
            words,
        }
    }
}

/// The line, from 1, that gives a key.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let gives = |line: &str| {
        let rest = line.trim_start().strip_prefix(key);
        rest.is_some_and(|rest| rest.trim_start().starts_with('='))
    };
    text.lines().position(gives).map(|line| line + 1)
}

fn is_name(name: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    !name.is_empty()
        && name.len() <= 40
        && name.chars().all(is_word)
        && !["server", "run"].contains(&name)
}

impl Place<'_> {
    fn fault(&self, key: &str, words: String) -> ScenarioError {
        let text = self.reader.text;
        // The key's own line within the phase, or the phase's.
        let part = text.and_then(|text| text.get(self.span.start..));
        let end = part.map_or(0, |part| {
            part.get(1..)
                .unwrap_or_default()
                .find("\n[")
                .map_or(part.len(), |end| end + 1)
        });
        let inside = part
            .and_then(|part| line_of(&part[..end], key))
            .unwrap_or(1);
        let before = text.and_then(|text| text.get(..self.span.start));
        let line = before.map(|before| before.matches('\n').count() + inside);
        ScenarioError::Value {
            line,
            key: format!("phase {}, {key}", self.name),
            words,
        }
    }

    fn kind(&self, phase: &PhaseFile) -> Result<Kind, ScenarioError> {
        let Some((_, keys)) = KINDS.iter().find(|(kind, _)| *kind == phase.kind) else {
            let kinds: Vec<&str> = KINDS.iter().map(|(kind, _)| *kind).collect();
            let words = format!(
                "\"{}\" is no kind of phase: give {}",
                phase.kind,
                kinds.join(", ")
            );
            return Err(self.fault("kind", words));
        };
        self.only(phase, keys)?;
        Ok(match phase.kind.as_str() {
            "ramp" => Kind::Ramp {
                to: self.need("to", phase.to)?,
                per_second: self.within(
                    "per_second",
                    self.need("per_second", phase.per_second)?,
                    1,
                    1_000_000,
                )?,
            },
            "hold" => Kind::Hold {
                seconds: self.seconds(phase.seconds)?,
            },
            "mix" => Kind::Mix {
                seconds: self.seconds(phase.seconds)?,
                load: self.load(phase, None)?,
            },
            "soak" => Kind::Soak {
                minutes: self.within(
                    "minutes",
                    self.need("minutes", phase.minutes)?,
                    SOAK_MINUTES_MIN,
                    SECONDS_MAX as f64 / 60.0,
                )?,
                rss_growth_pct: self.within(
                    "rss_growth_pct",
                    phase.rss_growth_pct.unwrap_or(20.0),
                    0.0,
                    10_000.0,
                )?,
                load: self.load(phase, None)?,
            },
            "storm" => Kind::Storm {
                share: self.storm_share(phase.share, phase.all)?,
                fresh: phase.fresh.unwrap_or(false),
                pace: phase
                    .pace
                    .map(|pace| self.within("pace", pace, 1, 1_000_000))
                    .transpose()?,
                load: self.load(phase, Some(0.0))?,
            },
            "slow_readers" => Kind::SlowReaders {
                share: self.within("share", self.need("share", phase.share)?, 0.000_1, 0.5)?,
                seconds: self.seconds(phase.seconds)?,
                load: self.load(phase, None)?,
            },
            _ => Kind::Drain {
                gateway: phase.gateway.unwrap_or(0),
                seconds: self.seconds(Some(phase.seconds.unwrap_or(120)))?,
                load: self.load(phase, Some(0.0))?,
            },
        })
    }

    /// Nothing is given but these.
    fn only(&self, phase: &PhaseFile, keys: &[&str]) -> Result<(), ScenarioError> {
        for (key, given) in phase.given() {
            if given && !keys.contains(&key) {
                let words = format!(
                    "does nothing in a phase of kind {}, which takes {}",
                    phase.kind,
                    keys.join(", ")
                );
                return Err(self.fault(key, words));
            }
        }
        Ok(())
    }

    fn storm_share(&self, share: Option<f64>, all: Option<bool>) -> Result<f64, ScenarioError> {
        match (share, all) {
            (Some(share), None) => self.within("share", share, 0.000_1, 1.0),
            (None, Some(true)) => Ok(1.0),
            _ => Err(self.fault("share", "give share, 0 to 1, or all = true".to_owned())),
        }
    }

    fn load(&self, phase: &PhaseFile, rate: Option<f64>) -> Result<Load, ScenarioError> {
        let share =
            |key: &str, value: Option<f64>| self.within(key, value.unwrap_or(0.0), 0.0, 1.0);
        let rate = match phase.rate.or(rate) {
            Some(rate) => self.within("rate", rate, 0.0, 10_000_000.0)?,
            None => {
                return Err(self.fault(
                    "rate",
                    "is missing: messages per second over all sessions".to_owned(),
                ));
            }
        };
        let mut bodies = match &phase.body {
            None => vec![Body {
                bytes: 5_120,
                share: 1.0,
            }],
            Some(Bodies::One(bytes)) => vec![Body {
                bytes: *bytes,
                share: 1.0,
            }],
            Some(Bodies::Several(several)) => several.clone(),
        };
        let sum: f64 = bodies.iter().map(|body| body.share).sum();
        let shares = bodies.iter().all(|body| body.share > 0.0);
        if bodies.is_empty() || !shares || (sum - 1.0).abs() > 1e-6 {
            return Err(self.fault(
                "body",
                format!(
                    "the shares add up to {sum}: give {{ bytes = .., share = .. }} that add up to 1"
                ),
            ));
        }
        for body in &mut bodies {
            let most = u32::try_from(BODY_BYTES_MAX).unwrap_or(u32::MAX);
            let least = u32::try_from(PAYLOAD_BYTES_MIN).unwrap_or(0);
            self.within("body", body.bytes, least, most)?;
        }
        Ok(Load {
            rate,
            bodies,
            group_share: share("group_share", phase.group_share)?,
            receipt_share: share("receipt_share", phase.receipt_share)?,
            typing_share: share("typing_share", phase.typing_share)?,
        })
    }

    fn seconds(&self, seconds: Option<u64>) -> Result<u64, ScenarioError> {
        self.within("seconds", self.need("seconds", seconds)?, 1, SECONDS_MAX)
    }

    fn need<T>(&self, key: &str, value: Option<T>) -> Result<T, ScenarioError> {
        value.ok_or_else(|| self.fault(key, "is missing".to_owned()))
    }

    fn within<T: PartialOrd + Copy + std::fmt::Display>(
        &self,
        key: &str,
        value: T,
        least: T,
        most: T,
    ) -> Result<T, ScenarioError> {
        if value >= least && value <= most {
            return Ok(value);
        }
        Err(self.fault(key, format!("{value} is not between {least} and {most}")))
    }

    /// What a phase cannot do after those before it, or with this target.
    fn fits(
        &self,
        kind: &Kind,
        target: &Target,
        sessions: &Sessions,
        live: &mut u32,
        drained: &mut Vec<usize>,
    ) -> Result<(), ScenarioError> {
        if let Kind::Ramp { to, .. } = kind {
            if *to > sessions.count || to % 2 == 1 || *to <= *live {
                let count = sessions.count;
                return Err(self.fault("to", format!("{to}: give an even number above {live}, where the ramps before have led, up to sessions.count, {count}")));
            }
            *live = *to;
        } else if *live == 0 {
            return Err(self.fault(
                "kind",
                "there are no sessions yet: a ramp comes first".to_owned(),
            ));
        }
        if let Kind::Drain { gateway, .. } = kind {
            if target.also.is_empty() {
                return Err(self.fault("kind", "with one gateway its sessions have nowhere to go: give target.also and target.admin".to_owned()));
            }
            if *gateway >= target.admin.len() || drained.contains(gateway) {
                let known = target.admin.len();
                return Err(self.fault("gateway", format!("{gateway} is not in target.admin, which has {known} (the first is 0), or is drained before")));
            }
            drained.push(*gateway);
            if drained.len() > target.also.len() {
                return Err(self.fault(
                    "gateway",
                    "the last gateway cannot be drained: its sessions have nowhere to go"
                        .to_owned(),
                ));
            }
        }
        let groups = kind.load().is_some_and(|load| load.group_share > 0.0);
        if groups && sessions.group_size > *live {
            return Err(self.fault(
                "group_share",
                format!(
                    "sessions.group_size, {}, is above the {live} sessions",
                    sessions.group_size
                ),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
