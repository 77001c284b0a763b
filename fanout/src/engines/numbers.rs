//! Numbers for Prometheus, as both programs show them.

use crate::auth::Verifier;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

/// One number of an engine's or of ingest's.
#[derive(Debug, Clone, PartialEq)]
pub struct Number {
    /// Exported name.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// Names and values of labels; none for a name that stands once.
    pub labels: Vec<(&'static str, String)>,
    /// Present value.
    pub value: f64,
    /// Only grows (a counter) or rises and falls (a gauge).
    pub grows: bool,
}

/// Gives numbers when asked; must not block.
pub type NumberSource = Arc<dyn Fn() -> Vec<Number> + Send + Sync>;

impl Number {
    /// What rises and falls.
    #[expect(clippy::cast_precision_loss, reason = "Prometheus' numbers are f64")]
    #[must_use]
    pub fn level(name: &'static str, help: &'static str, value: u64) -> Self {
        Self {
            name,
            help,
            labels: Vec::new(),
            value: value as f64,
            grows: false,
        }
    }

    /// What only grows.
    #[must_use]
    pub fn grows(name: &'static str, help: &'static str, value: u64) -> Self {
        Self {
            grows: true,
            ..Self::level(name, help, value)
        }
    }

    /// The same with a label.
    #[must_use]
    pub fn of(mut self, label: &'static str, value: impl Into<String>) -> Self {
        self.labels.push((label, value.into()));
        self
    }

    /// The same with a value in thousandths, for seconds of milliseconds.
    #[must_use]
    pub fn thousandths(mut self) -> Self {
        self.value /= 1_000.0;
        self
    }
}

/// What reading a key set at its address has come to; nothing where the keys are in a file.
#[must_use]
pub fn token_numbers(verifier: &Verifier) -> Vec<Number> {
    let Some(fetches) = verifier.key_fetches() else {
        return Vec::new();
    };
    vec![
        Number::grows(
            "hawser_jwks_read_total",
            "Times that the key set was read at its address.",
            fetches.good,
        ),
        Number::grows(
            "hawser_jwks_failed_total",
            "Times that it could not be had; the set in force stayed.",
            fetches.failed,
        ),
    ]
}

/// Prometheus' text format; numbers of one name stand together.
#[must_use]
pub fn text(numbers: &[Number]) -> String {
    let mut out = String::new();
    let mut told = BTreeSet::new();
    for first in numbers {
        if !told.insert(first.name) {
            continue;
        }
        let kind = if first.grows { "counter" } else { "gauge" };
        let name = first.name;
        // Writing into a String does not fail.
        let _ = writeln!(out, "# HELP {name} {}\n# TYPE {name} {kind}", first.help);
        for number in numbers.iter().filter(|n| n.name == name) {
            let labels: Vec<String> = number
                .labels
                .iter()
                .map(|(label, value)| format!("{label}=\"{}\"", escaped(value)))
                .collect();
            let _ = match labels.is_empty() {
                true => writeln!(out, "{name} {}", number.value),
                false => writeln!(out, "{name}{{{}}} {}", labels.join(","), number.value),
            };
        }
    }
    out
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_one_name_share_its_head() {
        let up = |engine: &str| Number::level("up", "Whether.", 1).of("engine", engine);
        let numbers = [up("log"), Number::grows("n", "Many.", 7), up("a\"b")];
        assert_eq!(
            text(&numbers),
            "# HELP up Whether.\n# TYPE up gauge\nup{engine=\"log\"} 1\nup{engine=\"a\\\"b\"} 1\n\
             # HELP n Many.\n# TYPE n counter\nn 7\n"
        );
    }
}
