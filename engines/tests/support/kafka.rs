//! Shared by the tests on a real Kafka: the brokers to test against, and topics of one's own.
#![allow(dead_code, reason = "each test file uses its part")]
#![expect(clippy::unwrap_used, reason = "a test may panic, its makers too")]

use hawser_engines::kafka::{GrowError, KafkaConfig, KafkaRetention, grow};
use hawser_engines::log::Topic;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
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

/// Brokers of one test's own on ports of their own, ended and removed when dropped.
pub(crate) struct Cluster {
    folder: tempfile::TempDir,
    port: u16,
    count: u16,
}

impl Cluster {
    /// Starts so many, if Kafka can be had here.
    pub(crate) fn up(count: u16, port: u16) -> Option<Self> {
        brokers()?;
        let cluster = Self {
            folder: tempfile::tempdir().unwrap(),
            port,
            count,
        };
        cluster.engines(&["up", "kafka", "--brokers", &count.to_string()]);
        Some(cluster)
    }

    /// Its folder of data, settings and logs.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// All its brokers.
    pub(crate) fn address(&self) -> String {
        let ports = (0..self.count).map(|n| self.port + 10 * n);
        let each: Vec<String> = ports.map(|port| format!("127.0.0.1:{port}")).collect();
        each.join(",")
    }

    /// Runs dev/engines on it; what it prints.
    pub(crate) fn engines(&self, arguments: &[&str]) -> String {
        let script =
            PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("../dev/engines");
        let output = Command::new(script)
            .args(arguments)
            .env("HAWSER_ENGINES_RUN", self.folder.path())
            .env("HAWSER_KAFKA_PORT", self.port.to_string())
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.engines(&["down", "--wipe"]);
    }
}

/// A growth to eight partitions that is stopped after so many steps.
pub(crate) fn grow_stopped_after(config: &KafkaConfig, topic: Topic, steps: usize) {
    let mut made = 0;
    let outcome = grow(config.clone(), topic, 8, &mut |_| {
        made += 1;
        if made > steps {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    assert_eq!(outcome, Err(GrowError::Stopped), "after {steps} steps");
}
