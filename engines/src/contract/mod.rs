//! What every adapter of a port must do, as tests against the port: the embedded engine and the real
//! one run the same. A suite tolerates an engine that is shared and already holds data: it uses ids of
//! its own and polls with a deadline.

pub mod directory;
pub mod log;
pub mod presence;
pub mod store;
mod store_batches;

pub use directory::directory_suite;
pub use log::log_suite;
pub use presence::{presence_suite, presence_suite_on_its_own_clock};
pub use store::store_suite;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a suite waits for something that must happen.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// One fact: its name, and the check that panics when it does not hold.
pub type Fact<T> = (&'static str, fn(&Arc<T>));

/// Checks every fact on a port of its own, and panics at the end with the names of those that fail.
fn run<T: ?Sized>(suite: &str, facts: &[Fact<T>], make: impl Fn() -> Arc<T>) {
    let mut failed = Vec::new();
    for (name, check) in facts {
        let port = make();
        if catch_unwind(AssertUnwindSafe(|| check(&port))).is_err() {
            failed.push(*name);
        }
    }
    assert!(
        failed.is_empty(),
        "{suite}: {} of {} facts do not hold: {failed:#?}",
        failed.len(),
        facts.len()
    );
}

/// A text that no other call has given, in this run or an earlier one: `[a-z0-9]`.
fn unique() -> String {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |d| d.as_nanos());
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    format!("{:x}x{now:x}x{call:x}", std::process::id())
}
