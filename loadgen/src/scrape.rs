//! Metrics pages of Hawser's processes, and CPU time of any process of this machine.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind};
use std::time::Duration;

use crate::http::exchange;

/// A page is at most this many bytes.
const PAGE_BYTES_MAX: u64 = 8 << 20;
/// A process that answers later is busy with something else.
const PAGE_DEADLINE: Duration = Duration::from_secs(5);

/// Why a page was not had.
#[derive(Debug, thiserror::Error)]
pub enum ScrapeError {
    /// The URL is not `http://host:port`.
    #[error("--metrics {0}: give http://HOST:PORT, where the admin address of a process is")]
    Url(String),
    /// No connection, or it broke.
    #[error("the metrics at {url} cannot be read: {source}")]
    Io {
        /// Which.
        url: String,
        /// The system's words.
        source: Error,
    },
}

/// Sums and counts of distributions, by name and, where there is one, stage; added up over everything else.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page(BTreeMap<String, (f64, f64)>);

impl Page {
    /// Reads the text format of Prometheus.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut page = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else {
                continue;
            };
            let Ok(value) = value.parse::<f64>() else {
                continue;
            };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let stage = labels
                .split("stage=\"")
                .nth(1)
                .and_then(|rest| rest.split('"').next());
            let of = |name: &str| {
                stage.map_or_else(|| name.to_owned(), |stage| format!("{name}/{stage}"))
            };
            // Ingest shows its stages as two counters each.
            if let Some(name) = name.strip_suffix("_microseconds_total") {
                page.0.entry(of(name)).or_default().0 += value;
            } else if let Some(name) = name.strip_suffix("_records_total") {
                page.0.entry(of(name)).or_default().1 += value;
            } else if let Some(name) = name.strip_suffix("_sum") {
                page.0.entry(of(name)).or_default().0 += value;
            } else if let Some(name) = name.strip_suffix("_count") {
                page.0.entry(of(name)).or_default().1 += value;
            }
        }
        page
    }

    /// Adds another process's.
    pub fn add(&mut self, other: &Self) {
        for (name, (sum, count)) in &other.0 {
            let mine = self.0.entry(name.clone()).or_default();
            (mine.0, mine.1) = (mine.0 + sum, mine.1 + count);
        }
    }

    /// The mean of a distribution since an earlier page, in its own unit; `None` when nothing was counted.
    #[must_use]
    pub fn mean_since(&self, before: &Self, name: &str) -> Option<f64> {
        let now = self.0.get(name)?;
        let then = before.0.get(name).copied().unwrap_or_default();
        let count = now.1 - then.1;
        (count > 0.0).then(|| (now.0 - then.0) / count)
    }
}

/// One page from each address, added up.
///
/// # Errors
/// See [`ScrapeError`].
pub fn pages(urls: &[String]) -> Result<Page, ScrapeError> {
    let mut all = Page::default();
    for url in urls {
        all.add(&Page::parse(&page(url)?));
    }
    Ok(all)
}

fn page(url: &str) -> Result<String, ScrapeError> {
    let authority = url
        .strip_prefix("http://")
        .map(|rest| rest.split('/').next().unwrap_or_default())
        .ok_or_else(|| ScrapeError::Url(url.to_owned()))?;
    read(authority).map_err(|source| ScrapeError::Io {
        url: url.to_owned(),
        source,
    })
}

fn read(authority: &str) -> std::io::Result<String> {
    let request =
        format!("GET /metrics HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
    match exchange(authority, &request, PAGE_DEADLINE, PAGE_BYTES_MAX)? {
        (200, page) => Ok(page),
        _ => Err(Error::new(ErrorKind::InvalidData, "not 200")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_are_added_up_over_cores_and_told_apart_by_stage() {
        let text = "# TYPE a_us histogram\n\
            a_us_bucket{core=\"0\",le=\"2\"} 1\n\
            a_us_sum{core=\"0\"} 10\na_us_count{core=\"0\"} 2\n\
            a_us_sum{core=\"1\"} 20\na_us_count{core=\"1\"} 1\n\
            stage_microseconds_total{stage=\"store\"} 7\nstage_records_total{stage=\"store\"} 7\n\
            stage_records_total{stage=\"log\"} 2\nstage_microseconds_total{stage=\"log\"} 4\nplain 5\n";
        let page = Page::parse(text);
        let before = Page::default();
        assert_eq!(page.mean_since(&before, "a_us"), Some(10.0));
        assert_eq!(page.mean_since(&before, "stage/log"), Some(2.0));
        assert_eq!(page.mean_since(&page, "a_us"), None, "nothing since");
        let mut twice = page.clone();
        twice.add(&page);
        assert_eq!(twice.mean_since(&page, "stage/store"), Some(1.0));
    }
}
