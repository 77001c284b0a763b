//! What a node was measured to need, out of results of `hawser-loadgen`.
//!
//! Taken from the JSON of a load (`--json`), of a storm (its `run`), and of the latency table (`latency.json`).

use serde_json::Value;

use super::input::{Input, InputError, Origin};

/// Sessions between two idle samples, at least, for their difference to mean something.
const SESSIONS_APART: f64 = 10_000.0;
/// Messages that a CPU time is divided by, at least.
const MESSAGES_MIN: f64 = 1_000.0;
/// Microseconds of a clock tick.
const TICK_US: f64 = 10_000.0;
/// Name of the gateways' processes in a latency table (`--process gateway=PID`).
const GATEWAY: &str = "gateway";

/// One figure that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The key that it is for.
    pub key: &'static str,
    /// Its value in the key's unit.
    pub value: f64,
}

/// Sets what a result says of a node, and tells what that was.
///
/// # Errors
/// The text is no JSON of a result, says nothing of a node, or something that cannot be.
pub fn apply(text: &str, origin: &Origin, input: &mut Input) -> Result<Vec<Found>, InputError> {
    let found = read(text)?;
    for Found { key, value } in &found {
        input.set(key, *value, origin.clone())?;
    }
    // One of the two was measured on a slower machine than the other's default: what was measured counts for both.
    let (short, long) = ("cpu_us_delivery_200", "cpu_us_delivery_5k");
    let is = |key: &str| found.iter().any(|found| found.key == key);
    if input.value(long) < input.value(short) && is(short) != is(long) {
        let (from, to) = if is(short) {
            (short, long)
        } else {
            (long, short)
        };
        let value = input.value(from);
        input.set(to, value, origin.clone())?;
    }
    Ok(found)
}

/// What a result says of a node.
///
/// # Errors
/// The text is no JSON of a result, or says nothing of a node.
pub fn read(text: &str) -> Result<Vec<Found>, InputError> {
    let value: Value = serde_json::from_str(text).map_err(|error| InputError::Impossible {
        what: format!("this is no JSON: {error}"),
        way_out: "give a file of hawser-loadgen --json, storm --json, or latency.json".to_owned(),
    })?;
    let found = match &value {
        Value::Array(cells) => latency_table(cells),
        other => load(other.get("run").unwrap_or(other)),
    };
    if found.is_empty() {
        return Err(InputError::Impossible {
            what: "this result says nothing of what a node needs".to_owned(),
            way_out: "run hawser-loadgen with --server-pid and --warm (memory needs 10,000 sessions, CPU 1,000 messages), or latency \
                      with --process gateway=PID"
                .to_owned(),
        });
    }
    Ok(found)
}

/// A table of latencies: the cell with the most messages a second of those that kept up.
fn latency_table(cells: &[Value]) -> Vec<Found> {
    let number = |cell: &Value, name: &str| cell.get(name).and_then(Value::as_f64);
    let cpu = |cell: &Value| {
        let pairs = cell.get("cpu_us")?.as_array()?;
        let of_gateway = |pair: &&Value| pair.get(0).and_then(Value::as_str) == Some(GATEWAY);
        pairs.iter().find(of_gateway)?.get(1)?.as_f64()
    };
    let kept_up = |cell: &&Value| {
        let (rate, sent) = (number(cell, "rate"), number(cell, "sent_per_s"));
        rate.zip(sent)
            .is_some_and(|(rate, sent)| sent >= 0.95 * rate)
            && number(cell, "not_sent") == Some(0.0)
    };
    let rated = cells.iter().filter(kept_up).filter_map(|cell| {
        let us = cpu(cell).filter(|us| *us > 0.0)?;
        Some((number(cell, "rate")?, us))
    });
    let best = rated.max_by(|a, b| a.0.total_cmp(&b.0));
    best.into_iter()
        .map(|(_, value)| Found {
            key: "cpu_us_one_to_one",
            value,
        })
        .collect()
}

fn load(report: &Value) -> Vec<Found> {
    let empty = Vec::new();
    let samples = report
        .get("samples")
        .and_then(Value::as_array)
        .unwrap_or(&empty);
    let mut found = memory(samples);
    found.extend(cpu(report, samples));
    found
}

fn usage(sample: &Value, name: &str) -> Option<f64> {
    sample.get("usage")?.get(name)?.as_f64()
}

/// Slopes between the fewest and the most idle sessions. The slab is the machine's, so of both ends of loopback connections.
fn memory(samples: &[Value]) -> Vec<Found> {
    let sessions = |sample: &Value| sample.get("sessions").and_then(Value::as_f64);
    let mut idle: Vec<(f64, &Value)> = samples
        .iter()
        .filter(|sample| sample.get("phase").and_then(Value::as_str) == Some("idle"))
        .filter_map(|sample| Some((sessions(sample)?, sample)))
        .collect();
    idle.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (Some(first), Some(last)) = (idle.first(), idle.last()) else {
        return Vec::new();
    };
    let apart = last.0 - first.0;
    if apart < SESSIONS_APART {
        return Vec::new();
    }
    let slope = |name: &str| Some((usage(last.1, name)? - usage(first.1, name)?) / apart);
    let pairs = [
        ("session_user_bytes", slope("rss")),
        (
            "session_kernel_bytes",
            slope("slab").map(|bytes| bytes / 2.0),
        ),
    ];
    let known = pairs
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)));
    known
        .filter(|(_, value)| *value >= 1.0)
        .map(|(key, value)| Found { key, value })
        .collect()
}

/// The server's time over the load: for each message where all are 1:1, for each delivery where all go to groups.
fn cpu(report: &Value, samples: &[Value]) -> Option<Found> {
    let loads = || {
        samples
            .iter()
            .filter(|sample| sample.get("phase").and_then(Value::as_str) == Some("load"))
    };
    let (first, last) = (loads().next()?, loads().next_back()?);
    let since = |of: &dyn Fn(&Value) -> Option<f64>| Some(of(last)? - of(first)?);
    let seconds = since(&|sample| sample.get("at_s")?.as_f64())?;
    let ticks =
        since(&|sample| Some(usage(sample, "user_ticks")? + usage(sample, "system_ticks")?))?;
    let rate = |name: &str| report.get(name).and_then(Value::as_f64);
    let command = report.get("command").and_then(Value::as_str)?;
    let asked = |flag: &str, default: f64| {
        let words: Vec<&str> = command.split_whitespace().collect();
        let with = format!("{flag}=");
        let joined = words
            .iter()
            .find_map(|word| word.strip_prefix(with.as_str()));
        let behind = || {
            let at = words.iter().position(|word| *word == flag)?;
            words.get(at + 1).copied()
        };
        joined
            .or_else(behind)
            .map_or(Some(default), |text| text.parse().ok())
    };
    let (key, count) = match asked("--group-share", 0.1)? {
        0.0 => ("cpu_us_one_to_one", rate("sent_per_s")?),
        1.0 => match asked("--body", 5_120.0)? {
            body if body <= 1_024.0 => ("cpu_us_delivery_200", rate("delivered_per_s")?),
            body if body >= 4_000.0 => ("cpu_us_delivery_5k", rate("delivered_per_s")?),
            _ => return None,
        },
        _ => return None,
    };
    let (count, us) = (count * seconds, ticks * TICK_US);
    (count >= MESSAGES_MIN && us > 0.0).then(|| Found {
        key,
        value: us / count,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Report;
    use crate::usage::{Sample, Usage};

    fn result(command: &str) -> String {
        let sample = |phase, at_s, sessions, rss, slab, ticks| Sample {
            at_s,
            phase,
            sessions,
            usage: Usage {
                rss,
                slab,
                user_ticks: ticks,
                system_ticks: ticks,
                ..Usage::default()
            },
            own: Usage::default(),
        };
        let report = Report {
            command: command.to_owned(),
            sent_per_s: 1_000.0,
            delivered_per_s: 10_000.0,
            samples: vec![
                sample("start", 0.0, 0, 0, 0, 0),
                sample("idle", 1.0, 0, 10_000_000, 5_000_000, 10),
                sample("idle", 5.0, 20_000, 70_000_000, 165_000_000, 100),
                sample("load", 6.0, 20_000, 70_000_000, 0, 100),
                sample("load", 16.0, 20_000, 80_000_000, 0, 200),
                sample("end", 20.0, 0, 0, 0, 900),
            ],
            ..Report::default()
        };
        serde_json::to_string(&report).expect("JSON")
    }

    fn found(text: &str) -> Vec<(&'static str, f64)> {
        let found = read(text).expect("a result");
        found
            .into_iter()
            .map(|found| (found.key, found.value))
            .collect()
    }

    #[test]
    fn memory_and_cpu_come_out_of_a_load() {
        let memory = [
            ("session_user_bytes", 3_000.0),
            ("session_kernel_bytes", 4_000.0),
        ];
        // 200 ticks are 2 s, over 10 s of 1,000 messages or 10,000 deliveries a second.
        for (flags, last) in [
            ("--group-share 0", Some(("cpu_us_one_to_one", 200.0))),
            (
                "--group-share=1 --body 200",
                Some(("cpu_us_delivery_200", 20.0)),
            ),
            ("--group-share 1", Some(("cpu_us_delivery_5k", 20.0))),
            ("--group-share 1 --body 2000", None),
            ("", None),
        ] {
            let wanted: Vec<_> = memory.into_iter().chain(last).collect();
            assert_eq!(
                found(&result(&format!("hawser-loadgen {flags}"))),
                wanted,
                "{flags}"
            );
        }
        let storm = format!("{{\"pace\":1,\"run\":{}}}", result("--group-share 0"));
        assert_eq!(found(&storm).len(), 3, "a storm has its run inside");
    }

    #[test]
    fn a_latency_table_gives_its_fastest_cell_that_kept_up() {
        let cell = |rate: f64, sent: f64, us: f64| {
            format!(
                "{{\"rate\":{rate},\"sent_per_s\":{sent},\"not_sent\":0,\"cpu_us\":[[\"kafka\",9],[\"gateway\",{us}]]}}"
            )
        };
        let text = format!(
            "[{},{},{}]",
            cell(200.0, 199.0, 900.0),
            cell(2e3, 2e3, 173.0),
            cell(5e3, 1e3, 9.0)
        );
        assert_eq!(found(&text), [("cpu_us_one_to_one", 173.0)]);
    }

    #[test]
    fn what_was_measured_of_one_size_does_not_contradict_the_default_of_the_other() {
        let mut input = Input::default();
        let origin = Origin::Result("r.json".to_owned());
        let slow = result("--group-share 1 --body 200").replace("10000.0", "1000.0");
        apply(&slow, &origin, &mut input).expect("a result");
        assert_eq!(input.check_together(), Ok(()));
        assert_eq!(
            (
                input.value("cpu_us_delivery_200"),
                input.value("cpu_us_delivery_5k")
            ),
            (200.0, 200.0)
        );
    }

    #[test]
    fn a_result_without_a_server_is_refused_with_the_way_out() {
        for text in [
            "{}",
            "[]",
            "no",
            "{\"samples\":[{\"phase\":\"idle\",\"sessions\":3}]}",
        ] {
            let fault = read(text).expect_err(text).to_string();
            assert!(fault.contains("hawser-loadgen"), "{fault}");
        }
    }
}
