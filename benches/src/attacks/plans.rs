//! The attacks of connections, by name, in the order in which they are made.

use std::sync::Arc;
use std::time::Duration;

use hawser_protocol::limits::WS_MESSAGE_BYTES_MAX;

use super::attacker::{Kind, Stage};
use super::frames::{self, Message};

/// Between two bytes of a ClientHello, and of a head.
const HELLO_PAUSE: Duration = Duration::from_millis(50);
const HEAD_PAUSE: Duration = Duration::from_secs(1);

/// One of them.
pub struct Plan {
    /// Mark in docs/guarantees.md.
    pub fault: &'static str,
    /// Name.
    pub name: &'static str,
    /// What is done.
    pub words: &'static str,
    /// What is counted besides; empty: nothing.
    pub unit: &'static str,
    /// Connections per second.
    pub rate: f64,
    /// What each does.
    pub kind: Kind,
    /// Whether each is to be cut by the deadline of handshakes.
    pub is_cut: bool,
}

/// All of them.
#[must_use]
pub fn all() -> Vec<Plan> {
    let mut all = handshakes();
    all.extend(malformed());
    all.extend(too_much());
    all
}

/// F14.
fn handshakes() -> Vec<Plan> {
    let cut = |name, words, rate, unit, kind| Plan {
        fault: "F14",
        name,
        words,
        unit,
        rate,
        kind,
        is_cut: true,
    };
    let silence = Kind::HelloThenSilence;
    let hello = Kind::HelloByBytes(HELLO_PAUSE);
    let head = |tls| Kind::HeadByBytes {
        pause: HEAD_PAUSE,
        tls,
    };
    vec![
        cut(
            "tls-silence",
            "a ClientHello, then silence",
            2_000.0,
            "ServerHellos",
            silence,
        ),
        cut(
            "tls-bytes",
            "a ClientHello at 20 B/s",
            100.0,
            "bytes",
            hello,
        ),
        cut("head-bytes", "a head at 1 B/s", 250.0, "bytes", head(false)),
        cut(
            "head-bytes-tls",
            "the same in TLS",
            100.0,
            "bytes",
            head(true),
        ),
    ]
}

fn said(all: Vec<Message>, stage: Stage, tls: bool) -> Kind {
    Kind::Messages {
        all: Arc::new(all),
        stage,
        tls,
    }
}

/// F16, and what a connection costs that does nothing wrong.
fn malformed() -> Vec<Plan> {
    let plan = |name, words, rate, kind| Plan {
        fault: "F16",
        name,
        words,
        unit: "",
        rate,
        kind,
        is_cut: false,
    };
    let (up, live) = (Stage::Upgraded, Stage::Live);
    let (sound, six) = (frames::sound, frames::malformed);
    vec![
        plan(
            "control",
            "nothing wrong: upgrade and a proper close",
            1_000.0,
            said(sound(), up, false),
        ),
        plan(
            "frames",
            "six malformed frames in turn, before the Hello",
            1_000.0,
            said(six(), up, false),
        ),
        plan(
            "frames-tls",
            "the same in TLS",
            250.0,
            said(six(), up, true),
        ),
        plan(
            "control-live",
            "nothing wrong: a session and a proper close",
            250.0,
            said(sound(), live, false),
        ),
        plan(
            "frames-live",
            "the six in live sessions",
            250.0,
            said(six(), live, false),
        ),
    ]
}

/// F17.
fn too_much() -> Vec<Plan> {
    let plan = |name, words, unit, rate, kind| Plan {
        fault: "F17",
        name,
        words,
        unit,
        rate,
        kind,
        is_cut: false,
    };
    let (up, live) = (Stage::Upgraded, Stage::Live);
    let ten = frames::oversize(9 * WS_MESSAGE_BYTES_MAX);
    vec![
        plan(
            "over-by-one",
            "a message of 65,537 bytes in a live session",
            "",
            250.0,
            said(frames::oversize(1), live, false),
        ),
        plan(
            "over-ten-times",
            "one of 655,360 bytes",
            "",
            50.0,
            said(ten, live, false),
        ),
        plan(
            "fragments",
            "one of 100,000 fragments of a byte",
            "",
            50.0,
            said(frames::fragments(100_000), live, false),
        ),
        plan(
            "early-pings",
            "100 pings before the Hello",
            "",
            500.0,
            said(frames::early_pings(100), up, false),
        ),
        plan(
            "pings",
            "live sessions that only send pings, as fast as they can",
            "pings",
            1.0,
            Kind::Pings,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attacks_have_names_of_their_own_and_faults_that_the_guarantees_name() {
        let plans = all();
        let names: std::collections::BTreeSet<&str> = plans.iter().map(|plan| plan.name).collect();
        assert_eq!(names.len(), plans.len());
        let of = ["F14", "F16", "F17"];
        assert!(plans.iter().all(|plan| of.contains(&plan.fault)));
    }
}
