//! Panic isolation: what one connection does wrong in our code ends that connection alone.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

/// A panic was caught; its message has gone to the panic hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Panicked;

/// Runs one step. What the step touched besides its own connection must be left sound at every call
/// that can panic; the callers keep to tables whose methods do not.
pub(crate) fn guarded<T>(step: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(step)).map_err(|_| Panicked)
}

/// A future whose panics become its output.
pub(crate) struct Guarded<F> {
    future: Pin<Box<F>>,
}

impl<F: Future> Guarded<F> {
    pub(crate) fn new(future: F) -> Self {
        Self {
            future: Box::pin(future),
        }
    }
}

impl<F: Future> Future for Guarded<F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match guarded(|| self.future.as_mut().poll(cx)) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(panicked) => Poll::Ready(Err(panicked)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panicking_step_is_an_error_not_an_unwind() {
        assert_eq!(guarded(|| 3), Ok(3));
        let step = || -> u8 { panic!("on purpose") };
        assert_eq!(guarded(step), Err(Panicked));
    }
}
