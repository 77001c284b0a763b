//! What librdkafka says on its own threads, told to the node's log and to the watch.

use super::health::{Health, Refusal};
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError as Native, RDKafkaErrorCode};
use std::sync::Arc;

/// Context of every client; the delivery callback's is built around it.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) health: Arc<Health>,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        use RDKafkaLogLevel::{Alert, Critical, Emerg, Error, Notice, Warning};
        match level {
            // A broker that is away fails again and again: that it is away is said once, by the watch.
            Error | Warning if matches!(facility, "FAIL" | "ERROR" | "REQTMOUT") => {
                tracing::debug!(facility, message, "librdkafka");
            }
            Emerg | Alert | Critical | Error => tracing::error!(facility, message, "librdkafka"),
            Warning => tracing::warn!(facility, message, "librdkafka"),
            Notice => tracing::info!(facility, message, "librdkafka"),
            _ => tracing::debug!(facility, message, "librdkafka"),
        }
    }

    fn error(&self, error: Native, reason: &str) {
        let code = error.rdkafka_error_code();
        if code == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.health.suspect();
        } else {
            let refusal = match code {
                Some(
                    RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed,
                ) => Some(Refusal::Credentials),
                // Other errors of TLS may be of a connection that broke.
                Some(RDKafkaErrorCode::SSL) if reason.contains("verif") => {
                    Some(Refusal::Certificate)
                }
                _ => None,
            };
            self.health.complain(reason, refusal);
        }
        tracing::debug!(%error, reason, "librdkafka");
    }
}

impl ConsumerContext for Context {}
