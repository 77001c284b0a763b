//! Text for a terminal: cleaned, wrapped, and instants as a person writes them.

use ratatui::text::Span;

/// Takes what would move the cursor, colour the screen or turn the text around out of what others
/// wrote; newlines become spaces.
pub(crate) fn clean(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars()
        .filter(|c| !turns(*c))
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// Columns that a text takes.
pub(crate) fn width(text: &str) -> usize {
    Span::raw(text).width()
}

/// Breaks a text into lines of at most `columns`, between words where it can.
pub(crate) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(1);
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        let mut line = String::new();
        for word in paragraph.split(' ') {
            let gap = usize::from(!line.is_empty());
            if width(&line) + gap + width(word) <= columns {
                if gap > 0 {
                    line.push(' ');
                }
                line.push_str(word);
                continue;
            }
            if !line.is_empty() {
                lines.push(std::mem::take(&mut line));
            }
            for c in word.chars() {
                let mut buffer = [0; 4];
                if width(&line) + width(c.encode_utf8(&mut buffer)) > columns {
                    lines.push(std::mem::take(&mut line));
                }
                line.push(c);
            }
        }
        lines.push(line);
    }
    lines
}

/// The beginning of a text, with an ellipsis where it is cut.
pub(crate) fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut out = String::new();
    for c in text.chars() {
        let mut buffer = [0; 4];
        if width(&out) + width(c.encode_utf8(&mut buffer)) + 1 > columns {
            break;
        }
        out.push(c);
    }
    out.push('…');
    out
}

/// The wall clock of a person: an offset to UTC, asked of the system once.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Zone {
    seconds: i64,
}

impl Zone {
    /// As `date +%z` says; UTC where there is no such program.
    pub(crate) fn of_system() -> Self {
        let output = std::process::Command::new("date").arg("+%z").output();
        let text = output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
        Self::parse(&text.unwrap_or_default()).unwrap_or_default()
    }

    fn parse(text: &str) -> Option<Self> {
        let (sign, digits) = text.split_at_checked(1)?;
        let sign = match sign {
            "+" => 1,
            "-" => -1,
            _ => return None,
        };
        let (hours, minutes) = digits.split_at_checked(2)?;
        let seconds = hours.parse::<i64>().ok()? * 3_600 + minutes.parse::<i64>().ok()? * 60;
        Some(Self {
            seconds: sign * seconds,
        })
    }

    fn local_seconds(self, wall_ms: u64) -> i64 {
        i64::try_from(wall_ms / 1_000).unwrap_or(0) + self.seconds
    }

    /// `14:05`.
    pub(crate) fn clock(self, wall_ms: u64) -> String {
        let minutes = self.local_seconds(wall_ms).div_euclid(60);
        format!(
            "{:02}:{:02}",
            minutes.div_euclid(60).rem_euclid(24),
            minutes.rem_euclid(60)
        )
    }

    /// Days since 1970.
    pub(crate) fn day(self, wall_ms: u64) -> i64 {
        self.local_seconds(wall_ms).div_euclid(86_400)
    }

    /// `2026-11-25` (the algorithm of Howard Hinnant's `civil_from_days`).
    pub(crate) fn date(self, wall_ms: u64) -> String {
        let z = self.day(wall_ms) + 719_468;
        let era = z.div_euclid(146_097);
        let doe = z.rem_euclid(146_097);
        let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let day = doy - (153 * mp + 2) / 5 + 1;
        let month = if mp < 10 { mp + 3 } else { mp - 9 };
        let year = yoe + era * 400 + i64::from(month <= 2);
        format!("{year:04}-{month:02}-{day:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_write_cannot_steer_the_terminal() {
        assert_eq!(clean("a\u{1b}[2Jb\r\n\u{202e}c\u{7}"), "a [2Jb  c ");
    }

    #[test]
    fn lines_break_between_words_and_within_long_ones() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("日本語", 4), ["日本", "語"]);
        assert_eq!(wrap("", 4), [""]);
        assert_eq!(wrap("a\nb", 4), ["a", "b"]);
    }

    #[test]
    fn a_cut_text_says_so() {
        assert_eq!(cut("hello", 5), "hello");
        assert_eq!(cut("hello world", 6), "hello…");
    }

    #[test]
    fn instants_are_told_in_the_persons_zone() {
        let ms = 1_764_053_100_000; // 2025-11-25 06:45 UTC
        assert_eq!(Zone::default().date(ms), "2025-11-25");
        assert_eq!(Zone::default().clock(ms), "06:45");
        let zone = Zone::parse("-0730").expect("zone");
        assert_eq!(
            (zone.clock(ms), zone.date(ms)),
            ("23:15".into(), "2025-11-24".into())
        );
        assert!(Zone::parse("nonsense").is_none());
    }
}
