//! What a run found: latencies, rates, correctness, what the server cost; as text and JSON.

use crate::check::Findings;
use crate::usage::{Cpu, Sample};
use hawser_protocol::codes::ErrorCode;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2Serializer};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Bounds of a histogram, nanoseconds, and its significant digits.
const LEAST_NS: u64 = 1_000;
const MOST_NS: u64 = 600_000_000_000;
const DIGITS: u8 = 3;
/// Head of the V2 format: cookie, bytes of counts, offset, digits (4 bytes each), least, most, ratio (8 bytes each).
const PACKED_HEAD: usize = 40;
/// Nine bytes of ones are no count; the library's arithmetic ends there.
const NO_COUNT: [u8; 9] = [0xff; 9];

/// Why bytes are no histogram of ours: the peer's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no histogram of 1 µs to 10 minutes in the V2 format")]
pub struct NoHistogram;

/// Latencies of one kind, nanoseconds, 1 µs to 10 minutes, three significant digits.
#[derive(Debug, Clone)]
pub struct Latency(Histogram<u64>);

impl Default for Latency {
    fn default() -> Self {
        Self::new()
    }
}

impl Latency {
    /// Empty.
    #[must_use]
    pub fn new() -> Self {
        // Bounds are constants that hdrhistogram accepts.
        Self(
            Histogram::new_with_bounds(LEAST_NS, MOST_NS, DIGITS)
                .unwrap_or_else(|_| unreachable!("constant bounds")),
        )
    }

    /// Records one latency; what lies outside the bounds counts at the bound.
    pub fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns);
    }

    /// Adds another histogram.
    pub fn add(&mut self, other: &Self) {
        // Same bounds, so this cannot fail.
        let _ = self.0.add(&other.0);
    }

    /// In HdrHistogram's V2 format: as long as what was recorded is varied, some 200 KB at most.
    #[must_use]
    pub fn pack(&self) -> Vec<u8> {
        let mut out = Vec::new();
        // Only a count above 2^63 could not be written.
        let _ = V2Serializer::new().serialize(&self.0, &mut out);
        out
    }

    /// Reads what [`Latency::pack`] wrote.
    ///
    /// # Errors
    /// The bytes are none, or a histogram of other bounds.
    pub fn unpack(bytes: &[u8]) -> Result<Self, NoHistogram> {
        let own = Self::new().pack();
        let (head, counts) = bytes.split_at_checked(PACKED_HEAD).ok_or(NoHistogram)?;
        // All but how many bytes of counts follow, which is what follows.
        let is_own = head[..4] == own[..4] && head[8..] == own[8..PACKED_HEAD];
        let is_whole = u32::try_from(counts.len()).is_ok_and(|len| head[4..8] == len.to_be_bytes());
        let is_counts = !counts.windows(NO_COUNT.len()).any(|nine| nine == NO_COUNT);
        if !is_own || !is_whole || !is_counts {
            return Err(NoHistogram);
        }
        let read = Deserializer::new().deserialize(&mut &*bytes);
        read.map(Self).map_err(|_| NoHistogram)
    }

    /// For a plot of quantiles: (one in so many is slower, milliseconds), as far as the samples go; empty without any.
    #[must_use]
    pub fn curve(&self) -> Vec<(f64, f64)> {
        let count = self.0.len() as f64;
        let steps = (0..=120).map(|step| 10_f64.powf(f64::from(step) / 20.0));
        let within = steps.take_while(|one_in| *one_in <= count.max(0.5));
        let point = |one_in: f64| {
            let ns = self.0.value_at_quantile(1.0 - 1.0 / one_in.max(1.0 + 1e-9));
            (one_in, ns as f64 / 1e6)
        };
        within.map(point).collect()
    }

    /// Summary in milliseconds.
    #[must_use]
    pub fn summary(&self) -> Quantiles {
        let at = |q: f64| self.0.value_at_quantile(q) as f64 / 1e6;
        Quantiles {
            count: self.0.len(),
            mean_ms: self.0.mean() / 1e6,
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: self.0.max() as f64 / 1e6,
        }
    }
}

/// Quantiles, milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Quantiles {
    /// Samples.
    pub count: u64,
    /// Mean.
    pub mean_ms: f64,
    /// Median.
    pub p50_ms: f64,
    /// 90 %.
    pub p90_ms: f64,
    /// 99 %.
    pub p99_ms: f64,
    /// 99.9 %.
    pub p999_ms: f64,
    /// Largest.
    pub max_ms: f64,
}

/// Bytes per idle session, between two counts of sessions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PerSession {
    /// The server's resident set.
    pub rss: f64,
    /// The machine's slab: both ends of loopback connections.
    pub slab: f64,
    /// This load generator's resident set.
    pub own: f64,
}

/// The result of a run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// The command line.
    pub command: String,
    /// Sessions asked for.
    pub connections: u32,
    /// Sessions live at the end of the ramp.
    pub live: u64,
    /// Sessions that closed without being asked.
    pub closed: u64,
    /// Connection attempts that failed.
    pub failed: u64,
    /// Reconnects, moves included.
    pub reconnects: u64,
    /// Sessions and attempts that a gateway sent to another one.
    pub moved: u64,
    /// Seconds of the ramp.
    pub ramp_s: f64,
    /// Seconds of the load.
    pub load_s: f64,
    /// Messages sent per second of load.
    pub sent_per_s: f64,
    /// Deliveries per second of load.
    pub delivered_per_s: f64,
    /// TCP connect to Welcome.
    pub connect: Quantiles,
    /// Due instant to Queued: the log has it.
    pub queued: Quantiles,
    /// From an attempt to its refusal, or to the word that its outcome is unknown.
    pub refused: Quantiles,
    /// Due instant to SendResult.
    pub send_result: Quantiles,
    /// Due instant to each receiver's Deliver.
    pub deliver: Quantiles,
    /// Correctness.
    pub findings: Findings,
    /// Refusals and `Error` frames by code.
    pub errors: BTreeMap<u32, u64>,
    /// Closes of live sessions by code; 0: without one.
    pub closes: BTreeMap<u16, u64>,
    /// Messages that the schedule wanted and that no session could take.
    pub shed: u64,
    /// Deliveries whose sender, chat or body is not what was sent.
    pub foreign: u64,
    /// Users whose deliveries were not judged: never live, or their place in the log was lost.
    pub unjudged: u64,
    /// The first failures in words.
    pub failures: Vec<String>,
    /// The server over time.
    pub samples: Vec<Sample>,
    /// Resident bytes of this load generator at the end.
    pub own_rss: u64,
}

impl Report {
    /// Whether every promise was kept.
    #[must_use]
    pub fn clean(&self) -> bool {
        self.findings.clean() && self.foreign == 0
    }

    /// Bytes per session between the samples of the fewest and the most idle sessions, when they are at least 10,000 apart.
    #[must_use]
    pub fn bytes_per_session(&self) -> Option<PerSession> {
        let idle = || self.samples.iter().filter(|sample| sample.phase == "idle");
        let (first, last) = (
            idle().min_by_key(|s| s.sessions)?,
            idle().max_by_key(|s| s.sessions)?,
        );
        let sessions = last
            .sessions
            .checked_sub(first.sessions)
            .filter(|n| *n >= 10_000)?;
        let slope = |of: fn(&Sample) -> u64| (of(last) as f64 - of(first) as f64) / sessions as f64;
        Some(PerSession {
            rss: slope(|sample| sample.usage.rss),
            slab: slope(|sample| sample.usage.slab),
            own: slope(|sample| sample.own.rss),
        })
    }

    /// CPU time of one connection from accept to Welcome, TLS included, over the ramps: µs per session.
    #[must_use]
    pub fn cpu_per_connect(&self) -> Option<Cpu> {
        let begins = self.samples.iter().filter(|s| s.phase == "ramp");
        let ends = self.samples.iter().filter(|s| s.phase == "ramped");
        let pairs: Vec<(&Sample, &Sample)> = begins.zip(ends).collect();
        let sessions = |(from, to): &(&Sample, &Sample)| to.sessions.saturating_sub(from.sessions);
        let opened: u64 = pairs.iter().map(sessions).sum();
        let spent = pairs.iter().map(|(from, to)| Cpu::between(from, to));
        let spent = spent.reduce(|a, b| a.plus(&b))?;
        (opened >= 100).then(|| spent.over(opened as f64))
    }

    /// CPU time while nothing is sent but heartbeats: µs per second and session. At least ten seconds of `hold`.
    #[must_use]
    pub fn cpu_idle(&self) -> Option<Cpu> {
        let held = |sample: &&Sample| sample.phase == "hold";
        let first = self.samples.iter().find(held)?;
        let last = self.samples.iter().rfind(held)?;
        let seconds = last.at_s - first.at_s;
        let units = seconds * last.sessions as f64;
        (seconds >= 10.0 && units > 0.0).then(|| Cpu::between(first, last).over(units))
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        let f = &self.findings;
        let _ = writeln!(
            out,
            "sessions   {} of {} live, {} failed, {} closed, {} reconnects, {} sent elsewhere, ramp {:.1} s",
            self.live,
            self.connections,
            self.failed,
            self.closed,
            self.reconnects,
            self.moved,
            self.ramp_s
        );
        let _ = writeln!(
            out,
            "messages   {:.0}/s sent, {:.0}/s delivered over {:.1} s",
            self.sent_per_s, self.delivered_per_s, self.load_s
        );
        let _ = writeln!(
            out,
            "           {} acknowledged, {} refused, {} unanswered, {} deliveries checked",
            f.acknowledged, f.refused, f.unanswered, f.delivered
        );
        let _ = writeln!(
            out,
            "promises   {} lost, {} duplicated, {} reordered, {} seq regressions: {}",
            f.lost,
            f.duplicated,
            f.reordered,
            f.seq_regressed,
            if self.clean() { "kept" } else { "BROKEN" }
        );
        let _ = writeln!(
            out,
            "latency ms       count      p50      p90      p99    p99.9      max"
        );
        for (name, q) in [
            ("connect", &self.connect),
            ("Send→Queued", &self.queued),
            ("Send→refusal", &self.refused),
            ("Send→SendResult", &self.send_result),
            ("Send→Deliver", &self.deliver),
        ] {
            let _ = writeln!(
                out,
                "{name:<15} {:>6} {:>8.2} {:>8.2} {:>8.2} {:>8.2} {:>8.2}",
                q.count, q.p50_ms, q.p90_ms, q.p99_ms, q.p999_ms, q.max_ms
            );
        }
        self.server(&mut out);
        self.troubles(&mut out);
        out
    }

    /// What the server cost.
    fn server(&self, out: &mut String) {
        if let (Some(first), Some(last)) = (self.samples.first(), self.samples.last()) {
            let cpu = |s: &Sample| (s.usage.user_ticks + s.usage.system_ticks) as f64 / 100.0;
            let _ = writeln!(
                out,
                "server     rss {:.1} → {:.1} MiB, {:.1} CPU s, {} descriptors",
                mib(first.usage.rss),
                mib(last.usage.rss),
                cpu(last) - cpu(first),
                last.usage.descriptors
            );
        }
        if let Some(PerSession { rss, slab, own }) = self.bytes_per_session() {
            let _ = writeln!(
                out,
                "           {:.0} bytes per idle session: {rss:.0} RSS + {slab:.0} slab (both ends of loopback)",
                rss + slab
            );
            let _ = writeln!(out, "loadgen    {own:.0} bytes of RSS per idle session");
        }
        if let Some(cpu) = self.cpu_per_connect() {
            let _ = writeln!(
                out,
                "           {:.0} µs of CPU per connect, Hello and Welcome ({:.0} user, {:.0} system); load generator {:.0}",
                cpu.user_us + cpu.system_us,
                cpu.user_us,
                cpu.system_us,
                cpu.own_us
            );
        }
        if let Some(cpu) = self.cpu_idle() {
            let percent = |us: f64| us * 100_000.0 / 1e6 * 100.0;
            let _ = writeln!(
                out,
                "           {:.1} % of a core per 100,000 idle sessions ({:.1} user, {:.1} system); load generator {:.1} %",
                percent(cpu.user_us + cpu.system_us),
                percent(cpu.user_us),
                percent(cpu.system_us),
                percent(cpu.own_us)
            );
        }
    }

    fn troubles(&self, out: &mut String) {
        let named = |code: &u32| {
            let known = u16::try_from(*code).ok().and_then(ErrorCode::from_number);
            known.map_or_else(|| code.to_string(), |code| code.name().to_owned())
        };
        for (code, count) in &self.errors {
            let _ = writeln!(out, "errors     {count} × {}", named(code));
        }
        for (code, count) in &self.closes {
            let _ = writeln!(out, "closes     {count} × {code}");
        }
        for (count, what) in [
            (self.shed, "messages had no session to take them"),
            (self.foreign, "deliveries were not what was sent"),
            (
                self.unjudged,
                "users were not judged (never live, or lost their place)",
            ),
        ] {
            if count > 0 {
                let _ = writeln!(out, "           {count} {what}");
            }
        }
        for words in &self.failures {
            let _ = writeln!(out, "failure    {words}");
        }
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::Usage;

    #[test]
    fn quantiles_are_in_milliseconds_and_merge() {
        let (mut a, mut b) = (Latency::new(), Latency::new());
        for ms in 1..=50_u64 {
            a.record(ms * 1_000_000);
            b.record((ms + 50) * 1_000_000);
        }
        a.add(&b);
        let q = a.summary();
        assert_eq!(q.count, 100);
        assert!(
            (q.p50_ms - 50.0).abs() < 0.1
                && (q.p99_ms - 99.0).abs() < 0.2
                && (q.max_ms - 100.0).abs() < 0.2,
            "{q:?}"
        );
    }

    proptest::proptest! {
        #[test]
        fn percentiles_of_packed_and_merged_histograms_are_those_of_the_union(
            parts in proptest::collection::vec(proptest::collection::vec(0_u64..700_000_000_000, 0..200), 1..5)
        ) {
            let (mut union, mut merged) = (Latency::new(), Latency::new());
            for part in &parts {
                let mut one = Latency::new();
                part.iter().for_each(|ns| one.record(*ns));
                part.iter().for_each(|ns| union.record(*ns));
                merged.add(&Latency::unpack(&one.pack()).expect("ours"));
            }
            let (of_union, of_merged) = (union.summary(), merged.summary());
            assert_eq!(of_merged, of_union);
            assert_eq!(merged.curve(), union.curve());
        }

        #[test]
        fn bytes_that_are_no_histogram_are_refused(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200), is_head in proptest::prelude::any::<bool>()
        ) {
            let mut packed = Latency::new().pack()[..PACKED_HEAD].to_vec();
            packed[4..8].copy_from_slice(&u32::try_from(bytes.len()).expect("few").to_be_bytes());
            packed.extend_from_slice(&bytes);
            // With a head of ours they may be counts.
            let read = Latency::unpack(if is_head { &packed } else { &bytes });
            assert!(is_head || read.is_err());
        }
    }

    #[test]
    fn a_histogram_of_other_bounds_or_cut_off_or_with_an_impossible_count_is_refused() {
        let mut one = Latency::new();
        [2_000, 5_000_000, 1 << 40]
            .into_iter()
            .for_each(|ns| one.record(ns));
        let packed = one.pack();
        assert_eq!(
            Latency::unpack(&packed).expect("ours").summary(),
            one.summary()
        );
        for len in 0..packed.len() {
            assert!(Latency::unpack(&packed[..len]).is_err(), "{len} bytes");
        }
        let other = Histogram::<u64>::new_with_bounds(1, u64::MAX, 5).expect("bounds");
        let mut bytes = Vec::new();
        V2Serializer::new()
            .serialize(&other, &mut bytes)
            .expect("written");
        assert!(Latency::unpack(&bytes).is_err());
        let mut bytes = Latency::new().pack()[..PACKED_HEAD].to_vec();
        bytes[4..8].copy_from_slice(&20_u32.to_be_bytes());
        bytes.extend([0xff; 20]);
        assert!(Latency::unpack(&bytes).is_err());
    }

    #[test]
    fn bytes_per_session_are_slopes_between_idle_counts() {
        let sample = |phase, sessions, rss, slab, own| Sample {
            at_s: 0.0,
            phase,
            sessions,
            usage: Usage {
                rss,
                slab,
                ..Usage::default()
            },
            own: Usage {
                rss: own,
                ..Usage::default()
            },
        };
        let mut report = Report {
            samples: vec![
                sample("idle", 0, 1_000_000, 500_000, 2_000_000),
                sample("load", 40_000, u64::MAX / 2, 0, 0),
                sample("idle", 20_000, 21_000_000, 80_500_000, 12_000_000),
            ],
            ..Report::default()
        };
        let expected = PerSession {
            rss: 1_000.0,
            slab: 4_000.0,
            own: 500.0,
        };
        assert_eq!(report.bytes_per_session(), Some(expected));
        assert!(
            report
                .text()
                .contains("5000 bytes per idle session: 1000 RSS + 4000 slab")
        );
        report.samples[2].sessions = 9_999;
        assert_eq!(report.bytes_per_session(), None, "too few to divide by");
    }

    #[test]
    fn cpu_is_told_per_connect_and_per_idle_second() {
        let sample = |at_s, phase, sessions, user_ticks, system_ticks| Sample {
            at_s,
            phase,
            sessions,
            usage: Usage {
                user_ticks,
                system_ticks,
                ..Usage::default()
            },
            own: Usage {
                user_ticks: system_ticks,
                ..Usage::default()
            },
        };
        let mut report = Report {
            samples: vec![
                sample(0.0, "ramp", 0, 0, 0),
                sample(1.0, "ramped", 100, 1, 1),
                sample(2.0, "ramp", 100, 50, 50),
                sample(3.0, "ramped", 200, 52, 51),
                sample(5.0, "hold", 200, 60, 60),
                sample(25.0, "hold", 200, 100, 80),
            ],
            ..Report::default()
        };
        let per_connect = Cpu {
            user_us: 150.0,
            system_us: 100.0,
            own_us: 100.0,
        };
        assert_eq!(report.cpu_per_connect(), Some(per_connect));
        let idle = Cpu {
            user_us: 100.0,
            system_us: 50.0,
            own_us: 50.0,
        };
        assert_eq!(report.cpu_idle(), Some(idle));
        assert!(
            report
                .text()
                .contains("1500.0 % of a core per 100,000 idle sessions")
        );
        report.samples.pop();
        assert_eq!(report.cpu_idle(), None, "too short");
    }
}
