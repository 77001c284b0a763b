//! The server beside a scenario: what its processes use, and how one of its gateways is drained.

use std::time::Duration;

use serde::Deserialize;

use super::model::Target;
use crate::http::exchange;
use crate::usage::Usage;

/// An answer of the admin API is at most this many bytes, and comes within this.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// Why a gateway is not drained.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// No connection, or it broke.
    #[error("the admin address {address} does not answer: {source}")]
    Io {
        /// Which.
        address: String,
        /// The system's words.
        source: std::io::Error,
    },
    /// It refused.
    #[error(
        "the admin address {address} answered {status} (from another machine it takes target.admin_token): {body}"
    )]
    Refused {
        /// Which.
        address: String,
        /// HTTP status.
        status: u16,
        /// Its words.
        body: String,
    },
}

/// How far a drain is.
#[derive(Debug, Clone, Deserialize)]
pub struct Draining {
    /// The gateway's name.
    pub node: String,
    /// Sessions that are left.
    pub sessions: u64,
    /// Nothing is left.
    pub done: bool,
}

/// The processes of a target together; `None` when none is named or one is gone.
#[must_use]
pub fn usage(pids: &[u32]) -> Option<Usage> {
    let mut all = pids.iter().map(|pid| Usage::read(*pid));
    let mut sum = all.next()??;
    for one in all {
        let one = one?;
        sum.rss += one.rss;
        sum.user_ticks += one.user_ticks;
        sum.system_ticks += one.system_ticks;
        sum.descriptors += one.descriptors;
    }
    Some(sum)
}

/// Begins to drain a gateway, or asks how far it is.
///
/// # Errors
/// See [`AdminError`].
pub fn drain(target: &Target, gateway: usize, begin: bool) -> Result<Draining, AdminError> {
    let address = target.admin.get(gateway).cloned().unwrap_or_default();
    let io = |source| AdminError::Io {
        address: address.clone(),
        source,
    };
    let (status, body) = call(target, &address, begin).map_err(io)?;
    let refused = |body: String| AdminError::Refused {
        address: address.clone(),
        status,
        body,
    };
    if !matches!(status, 200 | 202) {
        return Err(refused(body.chars().take(300).collect()));
    }
    serde_json::from_str(&body).map_err(|error| refused(error.to_string()))
}

fn call(target: &Target, address: &str, begin: bool) -> std::io::Result<(u16, String)> {
    let token = target
        .admin_token
        .as_ref()
        .map_or_else(String::new, |token| {
            format!("Authorization: Bearer {token}\r\n")
        });
    let (method, body) = if begin { ("POST", "{}") } else { ("GET", "") };
    let request = format!(
        "{method} /drain HTTP/1.1\r\nHost: {address}\r\n{token}Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    exchange(address, &request, ANSWER_DEADLINE, ANSWER_BYTES_MAX)
}

/// What the report says about the machine that made the load.
#[must_use]
pub fn machine() -> Vec<(&'static str, String)> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let after = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':'))
            .map(|(_, value)| value.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory = after(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
    let memory = memory.trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0) / f64::from(1 << 20);
    let kernel = read("/proc/sys/kernel/osrelease");
    vec![
        ("Cores", cores.to_string()),
        (
            "Processor",
            after(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown".to_owned()),
        ),
        ("Memory", format!("{memory:.1} GiB")),
        ("Kernel", format!("Linux {}", kernel.trim())),
        (
            "Load average at the start",
            read("/proc/loadavg")
                .split(' ')
                .take(3)
                .collect::<Vec<_>>()
                .join(" "),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_added_up_and_one_that_is_gone_leaves_nothing() {
        let own = std::process::id();
        let one = usage(&[own]).expect("own");
        let two = usage(&[own, own]).expect("own twice");
        assert!(two.rss > one.rss + one.rss / 2, "{one:?} {two:?}");
        assert_eq!(usage(&[]), None);
        assert_eq!(usage(&[own, u32::MAX]), None);
    }

    #[test]
    fn the_machine_is_told() {
        let told = machine();
        assert!(told.iter().all(|(_, value)| !value.is_empty()), "{told:?}");
        assert!(told[2].1 != "0.0 GiB", "{told:?}");
    }
}
