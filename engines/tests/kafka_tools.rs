//! Around the log on Kafka: brokers that ask for credentials, and ordinary Kafka tools that show the lag. A broker of
//! this test's own (dev/engines); runs when HAWSER_TEST_KAFKA is set, which says that Kafka can be had here.
#![cfg(feature = "kafka")]
#![expect(clippy::unwrap_used, reason = "a test may panic, its makers too")]

mod support;

use hawser_engines::embedded::INGEST_GROUP;
use hawser_engines::kafka::{KafkaConfig, KafkaError, KafkaLog};
use hawser_engines::log::{Log, Topic};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use support::kafka::{Cluster, config};
use support::{PATIENCE, append, record};

const PORT: u16 = 28_292;

/// Adds a listener that wants a user and a password, five above the plain one.
fn with_credentials(cluster: &Cluster) -> String {
    let path = cluster.folder().join("kafka-1/server.properties");
    let text = std::fs::read_to_string(&path).unwrap();
    let asking = format!("ASKING://127.0.0.1:{}", PORT + 5);
    let lines = text.lines().map(|line| match line.split_once('=') {
        Some(("listeners" | "advertised.listeners", _)) => format!("{line},{asking}"),
        Some(("listener.security.protocol.map", _)) => format!("{line},ASKING:SASL_PLAINTEXT"),
        _ => line.to_owned(),
    });
    let mut lines: Vec<String> = lines.collect();
    lines.push("listener.name.asking.sasl.enabled.mechanisms=PLAIN".to_owned());
    lines.push(
        "listener.name.asking.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule \
         required user_hawser=\"right\";"
            .to_owned(),
    );
    cluster.engines(&["kill", "kafka-1"]);
    // A killed process lets go of its port with its last thread.
    let until = Instant::now() + PATIENCE;
    while TcpStream::connect(("127.0.0.1", PORT)).is_ok() {
        assert!(Instant::now() < until, "the port stays taken");
        std::thread::sleep(Duration::from_millis(50));
    }
    std::fs::write(&path, lines.join("\n") + "\n").unwrap();
    cluster.engines(&["start", "kafka-1"]);
    format!("127.0.0.1:{}", PORT + 5)
}

fn as_user(mut config: KafkaConfig, password: &str) -> KafkaConfig {
    config.properties = [
        ("security.protocol", "sasl_plaintext"),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.username", "hawser"),
        ("sasl.password", password),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .to_vec();
    config
}

#[test]
fn credentials_are_asked_for_and_the_lag_is_shown_by_ordinary_tools() {
    let Some(cluster) = Cluster::up(1, PORT) else {
        return;
    };
    let asking = with_credentials(&cluster);
    let mut config = config(&asking, "tools");
    config.prefix = "hawser-".to_owned();
    // Wrong ones are told at once, however long a start may wait.
    let mut wrong = as_user(config.clone(), "wrong");
    wrong.open_timeout = Duration::from_secs(60);
    let began = Instant::now();
    let error = KafkaLog::open(wrong).err().unwrap();
    assert!(matches!(error, KafkaError::Credentials { .. }), "{error}");
    let said = error.to_string();
    assert!(
        said.contains("sasl.password") && said.contains("log.properties"),
        "{said}"
    );
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    // None at all, where some are asked for.
    let mut none = config.clone();
    none.call_timeout = Duration::from_secs(2);
    assert!(matches!(
        KafkaLog::open(none).err().unwrap(),
        KafkaError::Unreachable { .. }
    ));
    let log = KafkaLog::open(as_user(config, "right")).unwrap();
    for n in 0..7_u8 {
        append(&log, record(Topic::ChatMessages, 1, &[n])).unwrap();
    }
    log.commit(INGEST_GROUP, Topic::ChatMessages, 1, 4).unwrap();
    let shown = cluster.engines(&[
        "tool",
        "ConsumerGroupCommand",
        "--describe",
        "--group",
        "hawser-ingest",
    ]);
    // GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG
    let line = shown
        .lines()
        .find(|line| line.contains("hawser-chat-messages"));
    let cells: Vec<&str> = line.unwrap().split_whitespace().collect();
    assert_eq!(
        cells[..6],
        ["hawser-ingest", "hawser-chat-messages", "1", "4", "7", "3"],
        "{shown}"
    );
}
