//! What a scenario is once it was read: every value is possible.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scenario {
    /// For the report; default: the name of the file.
    pub name: String,
    /// Where to.
    pub target: Target,
    /// Who.
    pub sessions: Sessions,
    /// What, in this order.
    pub phases: Vec<Phase>,
    /// What has to come of it.
    pub expects: Vec<Expect>,
}

/// Where the load goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// `ws://` or `wss://`.
    pub url: String,
    /// More gateways of the cluster, HOST:PORT.
    #[serde(default)]
    pub also: Vec<String>,
    /// HTTP API, for groups.
    #[serde(default = "default_api")]
    pub api: String,
    /// Key that tokens are signed with, or the data directory of an embedded gateway.
    pub key: PathBuf,
    /// `kid` of that key; default: as an embedded gateway derives it.
    pub kid: Option<String>,
    /// `iss` of tokens.
    pub issuer: Option<String>,
    /// `aud` of tokens.
    pub audience: Option<String>,
    /// `tenant` of tokens.
    pub tenant: Option<String>,
    /// Certificates (PEM) that the server's is checked against.
    pub ca: Option<PathBuf>,
    /// Admin addresses, HOST:PORT, in the order of `url` and `also`; asked by `drain`.
    #[serde(default)]
    pub admin: Vec<String>,
    /// Token with the scope `admin`, where the admin address is on another machine.
    pub admin_token: Option<String>,
    /// Processes whose memory and CPU time are read, on this machine.
    #[serde(default)]
    pub server_pid: Vec<u32>,
    /// Allows targets beyond loopback.
    #[serde(default)]
    pub anywhere: bool,
}

/// Who takes part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sessions {
    /// Users, one session each.
    pub count: u32,
    /// Threads, each with a ring.
    #[serde(default = "one")]
    pub threads: u16,
    /// Source addresses; default on loopback: one of 127.0.0.0/8 per 10,000 sessions.
    #[serde(default)]
    pub sources: Vec<Ipv4Addr>,
    /// Asked for in Hello, milliseconds; 0: the server's default.
    #[serde(default)]
    pub heartbeat_ms: u32,
    /// Of the users' names.
    #[serde(default = "default_prefix")]
    pub prefix: String,
    /// Each session sends and gets a message after a ramp, before its memory is looked at.
    #[serde(default)]
    pub warm: bool,
    /// Members of each group.
    #[serde(default = "default_group_size")]
    pub group_size: u32,
    /// Of the schedule.
    #[serde(default = "one_long")]
    pub seed: u64,
    /// The wait at the end of a phase ends when nothing came for so many seconds.
    #[serde(default = "default_settle")]
    pub settle_s: u64,
}

/// One phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// By which expectations name it.
    pub name: String,
    /// What is done.
    pub kind: Kind,
}

/// What a phase does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Kind {
    /// Sessions are opened.
    Ramp {
        /// Until so many are live.
        to: u32,
        /// At this pace.
        per_second: u32,
    },
    /// Nothing is sent but heartbeats.
    Hold {
        /// For so long.
        seconds: u64,
    },
    /// Messages by an open-loop schedule.
    Mix {
        /// For so long.
        seconds: u64,
        /// Of what.
        load: Load,
    },
    /// The same for long.
    Soak {
        /// For so long.
        minutes: f64,
        /// Of what.
        load: Load,
        /// By how much the server's memory may grow, percent.
        rss_growth_pct: f64,
    },
    /// Sessions are cut off at once and come back by the protocol's rules.
    Storm {
        /// This share of them.
        share: f64,
        /// Without a past.
        fresh: bool,
        /// At which the gateway is configured to take them back, per second.
        pace: Option<u32>,
        /// Between those that stay.
        load: Load,
    },
    /// Some do not read.
    SlowReaders {
        /// This share of the sessions.
        share: f64,
        /// For so long.
        seconds: u64,
        /// Meanwhile.
        load: Load,
    },
    /// A gateway is drained.
    Drain {
        /// Its place in `admin`.
        gateway: usize,
        /// Given up after so long.
        seconds: u64,
        /// Meanwhile.
        load: Load,
    },
}

impl Kind {
    /// As in the file.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Ramp { .. } => "ramp",
            Self::Hold { .. } => "hold",
            Self::Mix { .. } => "mix",
            Self::Soak { .. } => "soak",
            Self::Storm { .. } => "storm",
            Self::SlowReaders { .. } => "slow_readers",
            Self::Drain { .. } => "drain",
        }
    }

    /// What is sent, in phases that send.
    #[must_use]
    pub fn load(&self) -> Option<&Load> {
        match self {
            Self::Ramp { .. } | Self::Hold { .. } => None,
            Self::Mix { load, .. }
            | Self::Soak { load, .. }
            | Self::Storm { load, .. }
            | Self::SlowReaders { load, .. }
            | Self::Drain { load, .. } => Some(load),
        }
    }

    /// The same, to be changed.
    pub fn load_mut(&mut self) -> Option<&mut Load> {
        match self {
            Self::Ramp { .. } | Self::Hold { .. } => None,
            Self::Mix { load, .. }
            | Self::Soak { load, .. }
            | Self::Storm { load, .. }
            | Self::SlowReaders { load, .. }
            | Self::Drain { load, .. } => Some(load),
        }
    }

    /// In a sentence.
    #[must_use]
    pub fn words(&self) -> String {
        let share = |share: f64| format!("{:.4}", share * 100.0);
        let share = |value: f64| {
            share(value)
                .trim_end_matches('0')
                .trim_end_matches('.')
                .to_owned()
        };
        match self {
            Self::Ramp { to, per_second } => {
                format!("sessions are opened up to {to}, {per_second} per second")
            }
            Self::Hold { seconds } => format!("{seconds} s without messages"),
            Self::Mix { seconds, load } => format!("{seconds} s of {}", load.words()),
            Self::Soak { minutes, load, .. } => format!("{minutes} min of {}", load.words()),
            Self::Storm {
                share: of,
                fresh,
                load,
                ..
            } => format!(
                "{} % of the sessions are cut off at once and come back{}; meanwhile {}",
                share(*of),
                if *fresh { " without a past" } else { "" },
                load.words()
            ),
            Self::SlowReaders {
                share: of,
                seconds,
                load,
            } => format!(
                "{} % of the sessions read nothing for {seconds} s; meanwhile {}",
                share(*of),
                load.words()
            ),
            Self::Drain { gateway, load, .. } => {
                format!("gateway {gateway} is drained; meanwhile {}", load.words())
            }
        }
    }
}

/// What is sent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Load {
    /// Messages per second over all sessions.
    pub rate: f64,
    /// Bodies by their shares.
    pub bodies: Vec<Body>,
    /// Share of messages that go to groups.
    pub group_share: f64,
    /// Share of deliveries that are answered by a read receipt.
    pub receipt_share: f64,
    /// Typing signals per message.
    pub typing_share: f64,
}

impl Load {
    fn words(&self) -> String {
        if self.rate <= 0.0 {
            return "nothing".to_owned();
        }
        let sizes: Vec<String> = self
            .bodies
            .iter()
            .map(|body| body.bytes.to_string())
            .collect();
        format!(
            "{} messages per second of {} bytes",
            self.rate,
            sizes.join(" / ")
        )
    }
}

/// Bodies of one size.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Body {
    /// Size.
    pub bytes: u32,
    /// Of all messages.
    pub share: f64,
}

/// What has to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// PHASE.FIGURE, or a FIGURE of the whole run.
    pub metric: String,
    /// How it is compared.
    pub op: Op,
    /// With this.
    pub value: f64,
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Below.
    #[serde(rename = "<")]
    Below,
    /// Not above.
    #[serde(rename = "<=")]
    AtMost,
    /// Equal.
    #[serde(rename = "==")]
    Equal,
    /// Not below.
    #[serde(rename = ">=")]
    AtLeast,
    /// Above.
    #[serde(rename = ">")]
    Above,
}

impl Op {
    /// As in the file.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Below => "<",
            Self::AtMost => "<=",
            Self::Equal => "==",
            Self::AtLeast => ">=",
            Self::Above => ">",
        }
    }

    /// Whether it holds. Nothing holds of what is no number.
    #[must_use]
    pub fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Self::Below => left < right,
            Self::AtMost => left <= right,
            Self::Equal => (left - right).abs() <= f64::EPSILON * right.abs(),
            Self::AtLeast => left >= right,
            Self::Above => left > right,
        }
    }
}

fn default_api() -> String {
    "http://127.0.0.1:8080".to_owned()
}

fn default_prefix() -> String {
    "load".to_owned()
}

fn default_group_size() -> u32 {
    20
}

fn default_settle() -> u64 {
    20
}

fn one() -> u16 {
    1
}

fn one_long() -> u64 {
    1
}
