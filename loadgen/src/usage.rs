//! What a process uses: memory and CPU time, from /proc.

use serde::{Deserialize, Serialize};
use std::fs;

/// A clock tick of /proc, µs.
const TICK_US: f64 = 10_000.0;

/// Memory and CPU time of a process, from /proc.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Resident set, bytes.
    pub rss: u64,
    /// Kernel slab of the whole machine, bytes.
    pub slab: u64,
    /// User time, clock ticks of 10 ms.
    pub user_ticks: u64,
    /// System time, clock ticks of 10 ms.
    pub system_ticks: u64,
    /// Open descriptors.
    pub descriptors: u64,
}

impl Usage {
    /// Reads a process; `None` when it is gone or may not be read.
    #[must_use]
    pub fn read(pid: u32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
        let kib = |text: &str, name: &str| -> Option<u64> {
            let line = text.lines().find(|l| l.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse().ok()
        };
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        Some(Self {
            rss: kib(&status, "VmRSS:")? << 10,
            slab: kib(&meminfo, "Slab:")? << 10,
            user_ticks: fields.get(11)?.parse().ok()?,
            system_ticks: fields.get(12)?.parse().ok()?,
            descriptors: fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |d| d.count() as u64),
        })
    }
}

/// A point of the run at which the server was looked at.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sample {
    /// Seconds since the start.
    pub at_s: f64,
    /// What was going on.
    pub phase: &'static str,
    /// Live sessions.
    pub sessions: u64,
    /// The server.
    pub usage: Usage,
    /// This load generator.
    pub own: Usage,
}

/// CPU time of the server's process over a phase, and of this load generator's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Cpu {
    /// In user space, µs for each unit of the phase.
    pub user_us: f64,
    /// In the kernel, µs for each unit of the phase.
    pub system_us: f64,
    /// This load generator's, both.
    pub own_us: f64,
}

impl Cpu {
    /// What was spent between two samples, µs.
    pub(crate) fn between(from: &Sample, to: &Sample) -> Self {
        let us = |before: u64, after: u64| after.saturating_sub(before) as f64 * TICK_US;
        let own = |usage: &Usage| usage.user_ticks + usage.system_ticks;
        Self {
            user_us: us(from.usage.user_ticks, to.usage.user_ticks),
            system_us: us(from.usage.system_ticks, to.usage.system_ticks),
            own_us: us(own(&from.own), own(&to.own)),
        }
    }

    pub(crate) fn plus(&self, other: &Self) -> Self {
        Self {
            user_us: self.user_us + other.user_us,
            system_us: self.system_us + other.system_us,
            own_us: self.own_us + other.own_us,
        }
    }

    pub(crate) fn over(&self, units: f64) -> Self {
        Self {
            user_us: self.user_us / units,
            system_us: self.system_us / units,
            own_us: self.own_us / units,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_can_be_read() {
        let usage = Usage::read(std::process::id()).expect("own /proc");
        assert!(
            usage.rss > 1 << 16 && usage.slab > 0 && usage.descriptors > 2,
            "{usage:?}"
        );
    }
}
