//! The exporter: reads the cores' blocks when it is asked, so that counting costs the cores nothing more.

use crate::counters::{BUCKETS, CoreCounters, Counter, Gauge, Histogram, NodeCounters};
use crate::node::memory;
use hawser_fanout::engines::{Number, NumberSource};
use prometheus::core::{Collector, Desc};
use prometheus::proto::{self, LabelPair, Metric, MetricFamily, MetricType};
use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

/// Numbers that an engine gives when asked; must not block.
pub type MetricsSource = NumberSource;

/// A registry over the node's blocks and the engines' numbers.
///
/// # Errors
/// Two metrics of one name: ours.
pub(crate) fn exporter(
    counters: NodeCounters,
    node: &str,
    sources: Vec<MetricsSource>,
) -> Result<prometheus::Registry, prometheus::Error> {
    let registry = prometheus::Registry::new();
    let started = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |d| d.as_secs_f64());
    registry.register(Box::new(NodeCollector {
        // A collector has to name itself by at least one description.
        desc: Desc::new(
            "hawser_build_info".to_owned(),
            "Version of this node; always 1.".to_owned(),
            Vec::new(),
            HashMap::new(),
        )?,
        counters,
        node: node.to_owned(),
        started,
        sources,
    }))?;
    Ok(registry)
}

struct NodeCollector {
    desc: Desc,
    counters: NodeCounters,
    node: String,
    started: f64,
    sources: Vec<MetricsSource>,
}

impl Collector for NodeCollector {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let blocks: Vec<(String, &CoreCounters)> = self.counters.named().collect();
        let mut families = Vec::with_capacity(Counter::ALL.len() + Gauge::ALL.len() + 16);
        for counter in Counter::ALL {
            let values = blocks
                .iter()
                .map(|(core, block)| (core, block.counter(*counter)));
            families.push(per_core(
                counter.name(),
                counter.help(),
                MetricType::COUNTER,
                values,
            ));
        }
        for gauge in Gauge::ALL {
            let values = blocks
                .iter()
                .map(|(core, block)| (core, block.gauge(*gauge)));
            families.push(per_core(
                gauge.name(),
                gauge.help(),
                MetricType::GAUGE,
                values,
            ));
        }
        for histogram in Histogram::ALL {
            families.push(distribution(*histogram, &blocks));
        }
        families.extend(self.process());
        families.extend(grouped(
            self.sources.iter().flat_map(|source| source()).collect(),
        ));
        families
    }
}

impl NodeCollector {
    fn process(&self) -> Vec<MetricFamily> {
        let gauge = |name, help, value| {
            let metric = metric(MetricType::GAUGE, value, Vec::new());
            family(name, help, MetricType::GAUGE, vec![metric])
        };
        let labels = vec![
            label("version", env!("CARGO_PKG_VERSION")),
            label("node", &self.node),
        ];
        let build = metric(MetricType::GAUGE, 1.0, labels);
        vec![
            family(
                "hawser_build_info",
                "Version of this node; always 1.",
                MetricType::GAUGE,
                vec![build],
            ),
            gauge(
                "process_start_time_seconds",
                "When this process started, seconds since 1970.",
                self.started,
            ),
            gauge(
                "process_resident_memory_bytes",
                "Resident memory of this process.",
                memory::resident_bytes().map_or(0.0, as_f64),
            ),
            gauge(
                "process_open_fds",
                "Descriptors open in this process; direct descriptors are not among them.",
                open_fds(),
            ),
        ]
    }
}

/// Numbers of one name are one family.
fn grouped(numbers: Vec<Number>) -> Vec<MetricFamily> {
    let mut families: Vec<MetricFamily> = Vec::new();
    for number in numbers {
        let kind = if number.grows {
            MetricType::COUNTER
        } else {
            MetricType::GAUGE
        };
        let labels = number
            .labels
            .iter()
            .map(|(name, value)| label(name, value))
            .collect();
        let metric = metric(kind, number.value, labels);
        match families.iter_mut().find(|f| f.name() == number.name) {
            Some(family) => family.mut_metric().push(metric),
            None => families.push(family(number.name, number.help, kind, vec![metric])),
        }
    }
    families
}

fn per_core<'a>(
    name: &str,
    help: &str,
    kind: MetricType,
    values: impl Iterator<Item = (&'a String, u64)>,
) -> MetricFamily {
    let metrics = values
        .map(|(core, value)| metric(kind, as_f64(value), vec![label("core", core)]))
        .collect();
    family(name, help, kind, metrics)
}

fn distribution(histogram: Histogram, blocks: &[(String, &CoreCounters)]) -> MetricFamily {
    let metrics = blocks
        .iter()
        .map(|(core, block)| {
            let (counts, sum) = block.histogram(histogram);
            let mut cumulated = 0;
            let mut buckets = Vec::with_capacity(BUCKETS);
            for (power, count) in (0_i32..).zip(counts) {
                cumulated += count;
                let mut bucket = proto::Bucket::default();
                // The last one counts the rest and is +Inf, which the encoder adds.
                if (power as usize) < BUCKETS - 1 {
                    bucket.set_cumulative_count(cumulated);
                    bucket.set_upper_bound(2_f64.powi(power));
                    buckets.push(bucket);
                }
            }
            let mut value = proto::Histogram::default();
            value.set_sample_count(cumulated);
            value.set_sample_sum(as_f64(sum));
            value.set_bucket(buckets);
            let mut metric = Metric::from_label(vec![label("core", core)]);
            metric.set_histogram(value);
            metric
        })
        .collect();
    family(
        histogram.name(),
        histogram.help(),
        MetricType::HISTOGRAM,
        metrics,
    )
}

fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

fn metric(kind: MetricType, value: f64, labels: Vec<LabelPair>) -> Metric {
    let mut metric = Metric::from_label(labels);
    if kind == MetricType::COUNTER {
        let mut counter = proto::Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    } else {
        let mut gauge = proto::Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    }
    metric
}

fn label(name: &str, value: &str) -> LabelPair {
    let mut label = LabelPair::default();
    label.set_name(name.to_owned());
    label.set_value(value.to_owned());
    label
}

fn open_fds() -> f64 {
    let list = std::fs::read_dir("/proc/self/fd");
    list.map_or(0.0, |list| as_f64(list.count() as u64))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "Prometheus' numbers are f64; exact up to 2^53"
)]
fn as_f64(value: u64) -> f64 {
    value as f64
}
