//! Numbers and units as people read them.

/// What a value is in; the value itself is in the base unit (bytes, seconds, 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A number of things, with no unit.
    Count,
    /// A number that need not be whole.
    Ratio,
    /// 0 to 1, shown as percent.
    Share,
    /// Things a second.
    PerSecond,
    /// Things a day.
    PerDay,
    /// Bytes, decimal prefixes.
    Bytes,
    /// Bytes a second.
    BytesPerSecond,
    /// Bytes a day.
    BytesPerDay,
    /// Seconds.
    Seconds,
    /// Milliseconds, not converted: settings of the gateway are in them.
    Milliseconds,
    /// Cores of a processor, fully used.
    Cores,
}

impl Unit {
    /// The base unit, as in machine-readable output.
    #[must_use]
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Count | Self::Ratio | Self::Share => "1",
            Self::PerSecond => "1/s",
            Self::PerDay => "1/day",
            Self::Bytes => "B",
            Self::BytesPerSecond => "B/s",
            Self::BytesPerDay => "B/day",
            Self::Seconds => "s",
            Self::Milliseconds => "ms",
            Self::Cores => "cores",
        }
    }

    /// A value for people: three or four significant digits and a prefix that fits.
    #[must_use]
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Count | Self::Ratio => plain(value),
            Self::Share => format!("{} %", short(value * 100.0)),
            Self::PerSecond => format!("{}/s", rounded(value)),
            Self::PerDay => format!("{}/day", rounded(value)),
            Self::Bytes => bytes(value),
            Self::BytesPerSecond => format!("{}/s", bytes(value)),
            Self::BytesPerDay => format!("{}/day", bytes(value)),
            Self::Seconds => seconds(value),
            Self::Milliseconds => format!("{} ms", rounded(value)),
            Self::Cores => format!("{} cores", rounded(value)),
        }
    }
}

/// A number with separators of thousands; whole numbers whole, others with about four significant digits.
#[must_use]
pub fn plain(value: f64) -> String {
    let size = value.abs();
    if size >= 1e15 {
        return format!("{value:.3e}");
    }
    if (value - value.round()).abs() < 1e-9 * size.max(1e-3) {
        return grouped(&format!("{value:.0}"));
    }
    let digits: usize = match size {
        s if s >= 100_000.0 => 0,
        s if s >= 100.0 => 1,
        s if s >= 10.0 => 2,
        s if s >= 0.1 => 3,
        s if s >= 0.001 => 5,
        _ => return format!("{value:.2e}"),
    };
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        &text
    };
    grouped(text)
}

/// As [`plain`], but nothing behind the point from 100 on.
fn rounded(value: f64) -> String {
    if value.abs() >= 100.0 {
        plain(value.round())
    } else {
        plain(value)
    }
}

/// Whole numbers whole, others with three digits.
fn short(value: f64) -> String {
    if value.abs() < 1.0 || (value - value.round()).abs() < 1e-9 * value.abs() {
        plain(value)
    } else {
        three(value)
    }
}

fn three(value: f64) -> String {
    let digits: usize = match value.abs() {
        s if s >= 100.0 => 0,
        s if s >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    grouped(&text)
}

fn bytes(value: f64) -> String {
    let prefixes = [
        (1e18, "EB"),
        (1e15, "PB"),
        (1e12, "TB"),
        (1e9, "GB"),
        (1e6, "MB"),
        (1e3, "KB"),
    ];
    for (size, name) in prefixes {
        // 999.9 KB would be shown as 1000 KB.
        if value >= size * 0.9995 {
            return format!("{} {name}", three(value / size));
        }
    }
    format!("{} B", plain(value))
}

fn seconds(value: f64) -> String {
    match value {
        s if s >= 2.0 * 86_400.0 => format!("{} days", short(s / 86_400.0)),
        s if s >= 7_200.0 => format!("{} h", short(s / 3_600.0)),
        s if s >= 300.0 => format!("{} min", short(s / 60.0)),
        s => format!("{} s", short(s)),
    }
}

fn grouped(digits: &str) -> String {
    let (sign, rest) = match digits.strip_prefix('-') {
        Some(rest) => ("−", rest),
        None => ("", digits),
    };
    let (whole, part) = match rest.split_once('.') {
        Some((whole, part)) => (whole, format!(".{part}")),
        None => (rest, String::new()),
    };
    let mut out = String::with_capacity(rest.len() * 2);
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    format!("{sign}{out}{part}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_as_people_write_them() {
        for (value, wanted) in [
            (400e6, "400,000,000"),
            (46_296.296, "46,296.3"),
            (231_481_481.5, "231,481,482"),
            (4.1, "4.1"),
            (0.25, "0.25"),
            (115.74, "115.7"),
            (0.001_25, "0.00125"),
            (0.0, "0"),
            (999.0, "999"),
            (1_000.0, "1,000"),
            (-3.0, "−3"),
            (2.5e17, "2.500e17"),
            (100.0, "100"),
            (1e-7, "1.00e-7"),
        ] {
            assert_eq!(plain(value), wanted);
        }
        for (unit, value, wanted) in [
            (Unit::BytesPerDay, 2e12, "2.00 TB/day"),
            (Unit::Bytes, 42e12, "42.0 TB"),
            (Unit::Bytes, 1.8e15, "1.80 PB"),
            (Unit::BytesPerSecond, 231.48e6, "231 MB/s"),
            (Unit::Bytes, 999_900.0, "1.00 MB"),
            (Unit::Bytes, 280.0, "280 B"),
            (Unit::Share, 0.1, "10 %"),
            (Unit::Seconds, 60.0, "60 s"),
            (Unit::Seconds, 500.0, "8.33 min"),
            (Unit::Seconds, 0.25, "0.25 s"),
            (Unit::Share, 14.236, "1,424 %"),
            (Unit::Seconds, 86_400.0, "24 h"),
            (Unit::PerSecond, 166_666.7, "166,667/s"),
        ] {
            assert_eq!(unit.show(value), wanted);
        }
    }
}
