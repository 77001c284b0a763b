//! One core's thread: pinned, with a monoio runtime on its own io_uring.

use monoio::{IoUringDriver, RuntimeBuilder};
use std::future::Future;
use std::io;

/// Submission entries of the runtime's own ring: handshakes, timers and waits, not sessions.
const RUNTIME_ENTRIES: u32 = 1_024;

/// Runs `main` on this thread until it returns.
///
/// # Errors
/// io_uring is not available to this process.
pub(crate) fn run<F: Future>(
    pin_to: Option<core_affinity::CoreId>,
    main: F,
) -> io::Result<F::Output> {
    if let Some(core) = pin_to
        && !core_affinity::set_for_current(core)
    {
        tracing::warn!(core = core.id, "this thread could not be pinned");
    }
    let mut runtime = RuntimeBuilder::<IoUringDriver>::new()
        .with_entries(RUNTIME_ENTRIES)
        .enable_timer()
        .build()?;
    Ok(runtime.block_on(main))
}

/// The cores that this process may use, in order; empty when they cannot be told.
pub(crate) fn usable_cores() -> Vec<core_affinity::CoreId> {
    core_affinity::get_core_ids().unwrap_or_default()
}
