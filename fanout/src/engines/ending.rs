//! An end in time, also when an engine hangs.

use std::time::Duration;

/// Ends the process after `limit`, if it still runs then: what was acknowledged is in the log, and what
/// was not is sent again. Call it when an orderly end begins.
pub fn end_by(limit: Duration) {
    let waiting = std::thread::Builder::new().name("hawser-end".to_owned());
    let spawned = waiting.spawn(move || {
        std::thread::sleep(limit);
        tracing::error!(?limit, "an engine does not let go: ending without it");
        std::process::exit(0);
    });
    if let Err(error) = spawned {
        tracing::error!(%error, "the end is not bounded in time");
    }
}
