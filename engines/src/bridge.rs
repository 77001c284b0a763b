//! Between threads that wait and clients that are asynchronous: one small runtime beside the callers.
//!
//! A port's calls block. Their adapters' clients (Cassandra, Redis, PostgreSQL) live on this runtime; a caller hands a
//! future over and waits for it on its own thread, which may be any, one of another runtime's pool included.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime};

/// Threads of the runtime: sockets and encoding, nothing that waits.
const WORKERS: usize = 2;
/// How long the runtime's end waits for what is under way.
const END: Duration = Duration::from_secs(1);

/// No answer in time; what was asked goes on unless it has a time-out of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no answer within {0:?}")]
pub struct Elapsed(pub Duration);

/// The runtime. It ends with the last reference, which must not be dropped on one of its own threads' tasks.
#[derive(Debug)]
pub struct Bridge {
    runtime: Option<Runtime>,
}

impl Bridge {
    /// Starts the threads, named after `name`.
    ///
    /// # Errors
    /// The system gives no thread or descriptor.
    pub fn start(name: &str) -> io::Result<Arc<Self>> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name(name)
            .enable_all()
            .build()?;
        Ok(Arc::new(Self {
            runtime: Some(runtime),
        }))
    }

    /// Runs a future and waits for it, on this thread.
    ///
    /// # Errors
    /// It was not ready in time: it is dropped where it stands, or has ended without an answer.
    pub fn wait<F>(&self, timeout: Duration, future: F) -> Result<F::Output, Elapsed>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let (answer, answered) = sync_channel(1);
        let task = self.handle().spawn(async move {
            // Whoever asked may have given up.
            let _ = answer.try_send(future.await);
        });
        answered.recv_timeout(timeout).map_err(|error| {
            if error == RecvTimeoutError::Timeout {
                task.abort();
            }
            Elapsed(timeout)
        })
    }

    /// Runs a future by itself.
    pub fn spawn<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.handle().spawn(future);
    }

    /// The runtime's handle, for clients that start tasks of their own.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        // It is taken when this is dropped, and not before.
        self.runtime.as_ref().expect("a running bridge").handle()
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else {
            return;
        };
        if Handle::try_current().is_ok() {
            // On a thread of a runtime, which must not wait.
            runtime.shutdown_background();
        } else {
            runtime.shutdown_timeout(END);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn an_answer_comes_to_any_thread_one_of_another_runtime_included() {
        let bridge = Bridge::start("bridge-test").expect("threads");
        assert_eq!(bridge.wait(Duration::from_secs(5), async { 7 }), Ok(7));
        let other = Builder::new_current_thread().build().expect("a runtime");
        let answer =
            other.block_on(async move { bridge.wait(Duration::from_secs(5), async { 8 }) });
        assert_eq!(answer, Ok(8));
    }

    #[test]
    fn what_takes_too_long_is_given_up_in_time_and_so_is_what_panics() {
        let bridge = Bridge::start("bridge-test").expect("threads");
        let short = Duration::from_millis(20);
        let since = Instant::now();
        let late = bridge.wait(short, async {
            tokio::time::sleep(Duration::from_secs(60)).await;
        });
        assert_eq!(late, Err(Elapsed(short)));
        assert!(since.elapsed() < Duration::from_secs(30));
        let long = Duration::from_secs(60);
        let panicked = bridge.wait(long, async move { assert!(short > long, "on purpose") });
        assert_eq!(panicked, Err(Elapsed(long)));
    }
}
