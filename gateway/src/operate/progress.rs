//! How far a long operation is, on standard error: a bar on a terminal, else a line when something has changed.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Between two lines.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    /// The most that was left.
    most: usize,
    said: Option<(Instant, String)>,
}

impl Progress {
    pub(super) fn new(what: &str) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} gone  {msg}");
            // The template is a constant that indicatif accepts.
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(0)
                .with_prefix(what.to_owned())
                .with_style(style)
        });
        Self {
            bar,
            most: 0,
            said: None,
        }
    }

    /// So many are left; `words` say it in a line.
    pub(super) fn left(&mut self, left: usize, words: &str) {
        self.most = self.most.max(left);
        match &self.bar {
            Some(bar) => {
                bar.set_length(self.most as u64);
                bar.set_position((self.most - left) as u64);
                bar.set_message(words.to_owned());
            }
            None => self.say(left == 0, words),
        }
    }

    fn say(&mut self, last: bool, words: &str) {
        let now = Instant::now();
        let early = |at: &Instant| !last && now < *at + LINE_EVERY;
        let said = self.said.as_ref();
        if said.is_some_and(|(at, before)| before == words || early(at)) {
            return;
        }
        self.said = Some((now, words.to_owned()));
        // Nobody reads it where that fails.
        let _ = writeln!(io::stderr(), "{words}");
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
