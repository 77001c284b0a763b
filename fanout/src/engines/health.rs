//! How each engine does, for readiness and metrics.

use super::numbers::{Number, NumberSource};
use std::sync::Arc;

/// Says what is wrong with an engine now, if anything; must not block.
pub(super) type TroubleSource = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// What is lost without an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needed {
    /// Readiness: clients are better sent elsewhere.
    ForReadiness,
    /// Something less; the rest goes on.
    ForLess,
}

/// One engine.
#[derive(Clone)]
pub struct EngineHealth {
    /// `log`, `store`, `presence` or `directory`.
    pub engine: &'static str,
    /// `embedded`, or the real engine's name.
    pub kind: &'static str,
    /// What its absence takes away.
    pub needed: Needed,
    trouble: TroubleSource,
    numbers: NumberSource,
}

impl EngineHealth {
    pub(super) fn new(
        engine: &'static str,
        kind: &'static str,
        needed: Needed,
        trouble: TroubleSource,
        numbers: NumberSource,
    ) -> Self {
        Self {
            engine,
            kind,
            needed,
            trouble,
            numbers,
        }
    }

    /// What is wrong with it now, in one sentence.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let reason = (self.trouble)()?;
        Some(format!("the {} ({}): {reason}", self.engine, self.kind))
    }

    /// Whether it answers, and what it counts.
    #[must_use]
    pub fn numbers(&self) -> Vec<Number> {
        let up = Number::level(
            "hawser_engine_up",
            "1 while the engine answers.",
            u64::from((self.trouble)().is_none()),
        );
        let up = up.of("engine", self.engine).of("kind", self.kind);
        let mut numbers = vec![up];
        numbers.extend((self.numbers)());
        numbers
    }
}

impl std::fmt::Debug for EngineHealth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineHealth")
            .field("engine", &self.engine)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}
