//! Whether a fenced partition's leader refuses records, asked without leaving one: the probe is stamped so long ago
//! that a leader which does not know the fence yet refuses it for its time, and one that does for its size, which
//! it looks at first.

use super::config::KafkaConfig;
use super::produce::number;
use rdkafka::ClientContext;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Bound of one round of probes.
const PROBE: Duration = Duration::from_secs(5);
/// 1970: zero would mean now.
const LONG_AGO_MS: i64 = 1;

/// Partitions that were seen to refuse for size.
#[derive(Clone, Default)]
struct Answers(Arc<Mutex<Vec<u32>>>);

impl ClientContext for Answers {}

impl ProducerContext for Answers {
    type DeliveryOpaque = Box<u32>;

    fn delivery(&self, result: &DeliveryResult<'_>, partition: Box<u32>) {
        match result {
            Err((error, _)) if error.rdkafka_error_code() == Some(Code::MessageSizeTooLarge) => {
                let mut fenced = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                fenced.push(*partition);
            }
            Ok(_) => tracing::warn!(
                partition,
                "a probe of the fence was appended: ingest will park it in dead-letters"
            ),
            Err(_) => {}
        }
    }
}

/// Those of these partitions whose leader does not refuse records, or does not answer.
pub(super) fn not_fenced(
    config: &KafkaConfig,
    topic: &str,
    partitions: &[u32],
) -> Result<Vec<u32>, String> {
    let answers = Answers::default();
    let client = config.probe_producer();
    let producer = BaseProducer::<Answers>::from_config_and_context(&client, answers.clone());
    let producer = producer.map_err(|error| error.to_string())?;
    for partition in partitions {
        let record = BaseRecord::with_opaque_to(topic, Box::new(*partition))
            .partition(number(*partition))
            .timestamp(LONG_AGO_MS)
            .key("hawser/fence")
            .payload("fence");
        producer
            .send(record)
            .map_err(|(error, _)| error.to_string())?;
    }
    let until = Instant::now() + PROBE;
    while producer.in_flight_count() > 0 && Instant::now() < until {
        producer.poll(Duration::from_millis(20));
    }
    let fenced = answers.0.lock().unwrap_or_else(PoisonError::into_inner);
    let open = partitions.iter().filter(|p| !fenced.contains(p));
    Ok(open.copied().collect())
}
