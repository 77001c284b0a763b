//! The TOML of a scenario, as it is written.

use serde::Deserialize;
use toml::Spanned;

use super::model::{Body, Expect, Sessions, Target};
use super::read::ScenarioError;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) name: Option<String>,
    pub(super) target: Target,
    pub(super) sessions: Sessions,
    #[serde(default)]
    pub(super) phase: Vec<Spanned<PhaseFile>>,
    #[serde(default)]
    pub(super) expect: Vec<Spanned<Expect>>,
}

/// Every key that some phase has.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PhaseFile {
    pub(super) kind: String,
    pub(super) name: Option<String>,
    pub(super) to: Option<u32>,
    pub(super) per_second: Option<u32>,
    pub(super) seconds: Option<u64>,
    pub(super) minutes: Option<f64>,
    pub(super) rate: Option<f64>,
    pub(super) body: Option<Bodies>,
    pub(super) group_share: Option<f64>,
    pub(super) receipt_share: Option<f64>,
    pub(super) typing_share: Option<f64>,
    pub(super) rss_growth_pct: Option<f64>,
    pub(super) share: Option<f64>,
    pub(super) all: Option<bool>,
    pub(super) fresh: Option<bool>,
    pub(super) pace: Option<u32>,
    pub(super) gateway: Option<usize>,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Bodies {
    One(u32),
    Several(Vec<Body>),
}

pub(super) const LOAD_KEYS: [&str; 5] = [
    "rate",
    "body",
    "group_share",
    "receipt_share",
    "typing_share",
];

/// The keys of each kind, beside `kind` and `name`.
pub(super) const KINDS: [(&str, &[&str]); 7] = [
    ("ramp", &["to", "per_second"]),
    ("hold", &["seconds"]),
    (
        "mix",
        &[
            "seconds",
            "rate",
            "body",
            "group_share",
            "receipt_share",
            "typing_share",
        ],
    ),
    (
        "soak",
        &[
            "minutes",
            "rss_growth_pct",
            "rate",
            "body",
            "group_share",
            "receipt_share",
            "typing_share",
        ],
    ),
    (
        "storm",
        &[
            "share",
            "all",
            "fresh",
            "pace",
            "rate",
            "body",
            "receipt_share",
            "typing_share",
        ],
    ),
    (
        "slow_readers",
        &[
            "share",
            "seconds",
            "rate",
            "body",
            "group_share",
            "receipt_share",
            "typing_share",
        ],
    ),
    (
        "drain",
        &[
            "gateway",
            "seconds",
            "rate",
            "body",
            "group_share",
            "receipt_share",
            "typing_share",
        ],
    ),
];

impl PhaseFile {
    /// Which keys are given.
    pub(super) fn given(&self) -> [(&'static str, bool); 15] {
        let [rate, body, group_share, receipt_share, typing_share] = LOAD_KEYS;
        [
            ("to", self.to.is_some()),
            ("per_second", self.per_second.is_some()),
            ("seconds", self.seconds.is_some()),
            ("minutes", self.minutes.is_some()),
            (rate, self.rate.is_some()),
            (body, self.body.is_some()),
            (group_share, self.group_share.is_some()),
            (receipt_share, self.receipt_share.is_some()),
            (typing_share, self.typing_share.is_some()),
            ("rss_growth_pct", self.rss_growth_pct.is_some()),
            ("share", self.share.is_some()),
            ("all", self.all.is_some()),
            ("fresh", self.fresh.is_some()),
            ("pace", self.pace.is_some()),
            ("gateway", self.gateway.is_some()),
        ]
    }
}

/// Puts `path=value` in the place of what is there.
pub(super) fn put(table: &mut toml::Table, set: &str) -> Result<(), ScenarioError> {
    let fault = || ScenarioError::Set(set.to_owned());
    let (path, value) = set.split_once('=').ok_or_else(fault)?;
    // What is no value of TOML by itself is text.
    let parsed = format!("v = {value}").parse::<toml::Table>().ok();
    let value = parsed
        .and_then(|mut table| table.remove("v"))
        .unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let words: Vec<&str> = path.trim().split('.').collect();
    let place = match words.as_slice() {
        ["phase", which, _] => {
            let phases = table.get_mut("phase").and_then(toml::Value::as_array_mut);
            let phases = phases.ok_or_else(fault)?;
            let number = which.parse::<usize>().ok().and_then(|n| n.checked_sub(1));
            let named = |phase: &toml::Value| {
                let of = |key: &str| phase.get(key).and_then(toml::Value::as_str);
                of("name").or(of("kind")) == Some(which)
            };
            let found = number.or_else(|| phases.iter().position(named));
            let found = found.and_then(|at| phases.get_mut(at));
            found.and_then(toml::Value::as_table_mut)
        }
        [section @ ("target" | "sessions"), _] => {
            table.get_mut(*section).and_then(toml::Value::as_table_mut)
        }
        ["name"] => Some(table),
        _ => None,
    };
    let key = words.last().copied().unwrap_or_default();
    place.ok_or_else(fault)?.insert(key.to_owned(), value);
    Ok(())
}
