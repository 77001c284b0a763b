//! The engines behind both programs: where they are, how they are opened and waited for, and how they do.

mod ending;
mod health;
mod ingesting;
#[cfg_attr(
    not(any(test, feature = "engines")),
    expect(dead_code, reason = "the embedded engine never lags")
)]
mod lag;
pub mod numbers;
mod open;
#[cfg(feature = "engines")]
mod probe;
#[cfg(feature = "engines")]
mod real;
#[cfg(feature = "engines")]
pub(crate) use real::kafka_config;
mod sections;
mod waiting;

pub use ending::end_by;
pub use health::{EngineHealth, Needed};
pub use ingesting::{IngestSection, Ingesting, IngestingError};
pub use lag::{IngestLag, PartitionLag};
pub use numbers::token_numbers;
pub use numbers::{Number, NumberSource};
pub use open::{Engines, OpenEnginesError};
pub use sections::{
    DirectorySection, EngineSections, EnginesSection, LogSection, PresenceSection, StoreSection,
    Uses,
};
pub(crate) use waiting::Awaited;
pub use waiting::EngineError;
