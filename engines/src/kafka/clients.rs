//! What librdkafka is told: the clients of the log, and why each property is as it is.

use super::config::KafkaConfig;
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use std::time::Duration;

impl KafkaConfig {
    /// What every client has in common.
    fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client
            .set_log_level(RDKafkaLogLevel::Info)
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "hawser")
            .set("socket.nagle.disable", "true")
            .set("socket.keepalive.enable", "true")
            .set("socket.timeout.ms", "10000")
            .set("socket.connection.setup.timeout.ms", "3000")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "500")
            .set("retry.backoff.ms", "50")
            .set("retry.backoff.max.ms", "500")
            .set("topic.metadata.refresh.interval.ms", "30000")
            .set("topic.metadata.refresh.fast.interval.ms", "50")
            .set("allow.auto.create.topics", "false");
        for (key, value) in &self.properties {
            client.set(key, value);
        }
        client
    }

    /// The producer of durable records: acks=all, idempotent, in order.
    pub(super) fn durable_producer(&self) -> ClientConfig {
        let mut client = self.client();
        client
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("message.max.bytes", MESSAGE_BYTES_MAX.to_string())
            .set("compression.type", self.compression.name())
            .set("linger.ms", millis(self.linger))
            .set("batch.size", (u64::from(self.batch_kib) << 10).to_string())
            .set("batch.num.messages", self.batch_records_max.to_string())
            // None times out: those behind it in its partition would be appended without it. The watch tells who waits.
            .set("message.timeout.ms", "0")
            .set("request.timeout.ms", millis(self.call_timeout))
            .set(
                "queue.buffering.max.messages",
                self.queue_records_max.to_string(),
            )
            .set("queue.buffering.max.kbytes", self.queue_kib_max.to_string());
        client
    }

    /// The producer of ephemeral records: nobody waits for them, and they do not wait.
    pub(super) fn ephemeral_producer(&self) -> ClientConfig {
        let mut client = self.client();
        client
            .set("acks", "0")
            .set("linger.ms", "2")
            .set("message.timeout.ms", "2000")
            .set("message.max.bytes", MESSAGE_BYTES_MAX.to_string())
            .set("queue.buffering.max.messages", "16384")
            .set("queue.buffering.max.kbytes", "16384");
        client
    }

    /// The producer that asks whether a fence holds: each record is tried once.
    pub(super) fn probe_producer(&self) -> ClientConfig {
        let mut client = self.client();
        client
            .set("acks", "all")
            .set("retries", "0")
            .set("linger.ms", "0")
            .set("message.timeout.ms", "3000");
        client
    }

    /// The client for administration.
    pub(super) fn admin(&self) -> ClientConfig {
        self.client()
    }

    /// A consumer that asks for metadata, watermarks and offsets, and consumes nothing.
    pub(super) fn asking_consumer(&self) -> ClientConfig {
        self.consumer(&format!("{}hawser-ask", self.prefix))
    }

    /// The consumer that follows the `leases` topic.
    pub(super) fn leases_consumer(&self) -> ClientConfig {
        let mut client = self.consumer(&format!("{}hawser-leases", self.prefix));
        client.set("enable.partition.eof", "true");
        client
    }

    /// A consumer with manually assigned partitions. librdkafka wants a group's name; nothing joins it.
    fn consumer(&self, group: &str) -> ClientConfig {
        let mut client = self.client();
        client
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("isolation.level", "read_uncommitted")
            .set("check.crcs", "true")
            .set("fetch.error.backoff.ms", "50")
            .set("fetch.queue.backoff.ms", "5")
            .set("queued.min.messages", "10000")
            .set(
                "queued.max.messages.kbytes",
                self.prefetch_kib.max(64).to_string(),
            )
            // A request that waits at the broker holds up a partition that is assigned meanwhile.
            .set("fetch.wait.max.ms", "50")
            .set("fetch.message.max.bytes", "1048576");
        client
    }

    /// The consumer of a node's live readers.
    pub(super) fn live_consumer(&self) -> ClientConfig {
        self.consumer(&format!("{}hawser-live", self.prefix))
    }

    /// A consumer for one blocking read after the other.
    pub(super) fn read_consumer(&self) -> ClientConfig {
        let mut client = self.consumer(&format!("{}hawser-read", self.prefix));
        client
            .set("enable.partition.eof", "true")
            .set("fetch.wait.max.ms", "10");
        client
    }

    /// A consumer that only commits, and asks for what is committed.
    pub(super) fn group_consumer(&self, group: &str) -> ClientConfig {
        let mut client = self.consumer(&format!("{}{group}", self.prefix));
        // A coordinator that is away holds up a commit for this long.
        client.set("coordinator.query.interval.ms", millis(self.call_timeout));
        client
    }
}

/// Largest record on the wire: a value of 1 MiB, a key, and the framing of a batch.
pub(super) const MESSAGE_BYTES_MAX: u64 = (1 << 20) + (64 << 10) + 4_096;

fn millis(duration: Duration) -> String {
    format!("{}", duration.as_micros() as f64 / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn librdkafka_knows_every_property() {
        let config = KafkaConfig::new("127.0.0.1:1");
        for producer in [
            config.durable_producer(),
            config.ephemeral_producer(),
            config.probe_producer(),
        ] {
            producer.create_native_config().expect("known properties");
        }
        for consumer in [config.live_consumer(), config.read_consumer()] {
            consumer.create_native_config().expect("known properties");
        }
        for other in [config.asking_consumer(), config.leases_consumer()] {
            other.create_native_config().expect("known properties");
        }
        let group = config.group_consumer("ingest");
        group.create_native_config().expect("known properties");
    }
}
