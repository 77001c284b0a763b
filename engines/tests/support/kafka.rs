//! Shared by the tests on a real Kafka: the brokers to test against, and topics of one's own.
#![expect(clippy::unwrap_used, reason = "a test may panic, its makers too")]

use hawser_engines::kafka::{KafkaConfig, KafkaRetention};
use std::time::{SystemTime, UNIX_EPOCH};

/// The brokers to test against, or a loud skip.
pub(crate) fn brokers() -> Option<String> {
    let brokers = std::env::var("HAWSER_TEST_KAFKA").ok();
    if brokers.is_none() {
        println!("SKIPPED: HAWSER_TEST_KAFKA is not set (dev/engines up kafka prints it)");
    }
    brokers
}

/// A name that no other run has used.
pub(crate) fn prefix(test: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    format!("{test}-{}-{}.", std::process::id(), now.as_nanos())
}

/// Topics of its own, with as many copies as there are brokers.
pub(crate) fn config(brokers: &str, test: &str) -> KafkaConfig {
    let mut config = KafkaConfig::new(brokers);
    let copies = u16::try_from(brokers.split(',').count()).unwrap();
    config.prefix = prefix(test);
    config.partitions = 4;
    config.replication = copies;
    config.min_insync = copies.min(2);
    config.allow_unsafe = copies < 2;
    let forever = KafkaRetention {
        time_ms: u64::MAX,
        bytes: u64::MAX,
    };
    // The suite's records are stamped years ago.
    config.chat_messages = forever;
    config.delivery = forever;
    config.other = forever;
    config.audit = forever;
    config.ephemeral = forever;
    config
}
