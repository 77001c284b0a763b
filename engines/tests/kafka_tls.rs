//! The log on Kafka over TLS: against `HAWSER_TEST_KAFKA_TLS` and the authority of `HAWSER_TEST_CA` (dev/engines up kafka
//! --tls), in a build with the feature `kafka-ssl`.
#![cfg(feature = "kafka-ssl")]

mod support;

use hawser_engines::kafka::{KafkaConfig, KafkaError, KafkaLog};
use hawser_engines::log::{Log, Topic};
use std::time::{Duration, Instant};
use support::kafka::config;
use support::{append, record};

/// The address with TLS and the authority, or a loud skip.
fn given() -> Option<(String, String)> {
    let given = ["HAWSER_TEST_KAFKA_TLS", "HAWSER_TEST_CA"].map(|name| std::env::var(name).ok());
    let [Some(brokers), Some(authority)] = given else {
        println!("SKIPPED: HAWSER_TEST_KAFKA_TLS is not set (dev/engines up kafka --tls)");
        return None;
    };
    Some((brokers, authority))
}

fn over_tls(brokers: &str, authority: &str) -> KafkaConfig {
    let mut config = config(brokers, "tls");
    config.properties = [("security.protocol", "ssl"), ("ssl.ca.location", authority)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .to_vec();
    config
}

#[test]
fn a_record_goes_through_tls_and_comes_back() {
    let Some((brokers, authority)) = given() else {
        return;
    };
    let log = KafkaLog::open(over_tls(&brokers, &authority)).unwrap();
    append(&log, record(Topic::ChatMessages, 1, b"sealed")).unwrap();
    let read = log.read(Topic::ChatMessages, 1, 0, 10, 1 << 20).unwrap();
    assert_eq!(read[0].value.as_ref(), b"sealed");
}

#[test]
fn an_authority_that_did_not_sign_ends_the_start_at_once_and_names_the_key() {
    let Some((brokers, _)) = given() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (key, other) = (
        folder.path().join("key.pem"),
        folder.path().join("other.pem"),
    );
    let made = std::process::Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ])
        .args(["-subj", "/CN=other", "-days", "1", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&other)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let mut config = over_tls(&brokers, other.to_str().unwrap());
    config.open_timeout = Duration::from_secs(60);
    let began = Instant::now();
    let error = KafkaLog::open(config).err().unwrap();
    assert!(matches!(error, KafkaError::Certificate { .. }), "{error}");
    assert!(error.to_string().contains("ssl.ca.location"), "{error}");
    let took = began.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
}
