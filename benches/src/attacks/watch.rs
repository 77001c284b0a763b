//! What the gateway's process costs while it is watched, from /proc and its metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::rivals::proc::{Usage, slab_bytes};

use super::site::Site;

/// Memory is read so often.
const EVERY: Duration = Duration::from_millis(50);
/// The metrics so often: they cost the gateway some milliseconds.
const PAGES: u32 = 10;

/// The most of what was seen since it began.
#[derive(Debug, Default)]
pub struct Peaks {
    /// Resident memory, bytes.
    pub rss: AtomicU64,
    /// Slab of the machine, bytes.
    pub slab: AtomicU64,
    /// `hawser_handshakes`.
    pub handshakes: AtomicU64,
    /// `hawser_unsent_tail_bytes`.
    pub tails: AtomicU64,
}

/// Looks at a gateway until it is dropped.
pub struct Watch {
    peaks: Arc<Peaks>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Begins.
    ///
    /// # Errors
    /// There is no thread for it.
    pub fn begin(site: &Arc<Site>) -> std::io::Result<Self> {
        let (peaks, stop) = (Arc::<Peaks>::default(), Arc::new(AtomicBool::new(false)));
        let (seen, until, site) = (Arc::clone(&peaks), Arc::clone(&stop), Arc::clone(site));
        let thread = std::thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || {
                let mut turn = 0_u32;
                while !until.load(Ordering::Acquire) {
                    look(&site, &seen, turn.is_multiple_of(PAGES));
                    turn = turn.wrapping_add(1);
                    std::thread::sleep(EVERY);
                }
            })?;
        Ok(Self {
            peaks,
            stop,
            thread: Some(thread),
        })
    }

    /// What it has seen.
    #[must_use]
    pub fn peaks(&self) -> &Peaks {
        &self.peaks
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // It holds nothing that its panic could have broken.
            let _ = thread.join();
        }
    }
}

fn look(site: &Site, peaks: &Peaks, with_metrics: bool) {
    let usage = Usage::read(&[site.place.pid]);
    peaks.rss.fetch_max(usage.rss_bytes, Ordering::AcqRel);
    peaks.slab.fetch_max(slab_bytes(), Ordering::AcqRel);
    if with_metrics && let Ok(metrics) = site.metrics() {
        let most = |peak: &AtomicU64, name| peak.fetch_max(metrics.whole(name), Ordering::AcqRel);
        most(&peaks.handshakes, "hawser_handshakes");
        most(&peaks.tails, "hawser_unsent_tail_bytes");
    }
}

/// One instant: what has been used so far.
#[derive(Debug, Clone, Copy)]
pub struct Instantly {
    at: Instant,
    gateway: Usage,
    own: Usage,
}

impl Instantly {
    /// Now.
    #[must_use]
    pub fn of(site: &Site) -> Self {
        Self {
            at: Instant::now(),
            gateway: Usage::read(&[site.place.pid]),
            own: Usage::read(&[std::process::id()]),
        }
    }

    /// Resident memory of the gateway, bytes.
    #[must_use]
    pub fn rss(&self) -> u64 {
        self.gateway.rss_bytes
    }

    /// Seconds since an earlier instant; CPU of the gateway in them and of this process, percent of a core.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> (f64, f64, f64) {
        let seconds = self.at.duration_since(earlier.at).as_secs_f64().max(1e-9);
        let pct = |now: &Usage, then: &Usage| now.since(then).cpu_us() as f64 / seconds / 1e4;
        (
            seconds,
            pct(&self.gateway, &earlier.gateway),
            pct(&self.own, &earlier.own),
        )
    }
}
