//! The Prometheus text format.

use mstream_admin::v1;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode_registry;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeGaugeValue, GaugeValueEncoder, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::sample::{self, Sample, Value};
use super::table::{Kind, METRICS};

/// Content type of what [`render`] makes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The snapshot `status` in the Prometheus text format, version 0.0.4.
pub fn render(status: &v1::Status) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Values(sample::read(status))));
    let mut text = String::new();
    // Writing to a string does not fail, and the values below do not either.
    let _ = encode_registry(&mut text, &registry);
    text
}

/// The values of each metric of the table, in its order.
#[derive(Debug)]
struct Values(Vec<Vec<Sample>>);

impl Collector for Values {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for (metric, samples) in METRICS.iter().zip(&self.0).filter(|(_, s)| !s.is_empty()) {
            let kind = match metric.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            let mut encoder = encoder.encode_descriptor(metric.name, metric.help, None, kind)?;
            for sample in samples {
                let values = sample.labels.iter().map(|value| escaped(value));
                let labels: Vec<_> = metric.labels.iter().copied().zip(values).collect();
                match labels.is_empty() {
                    true => encode(&mut encoder, &sample.value)?,
                    false => encode(&mut encoder.encode_family(&labels)?, &sample.value)?,
                }
            }
        }
        Ok(())
    }
}

fn encode(encoder: &mut MetricEncoder<'_>, value: &Value) -> Result<(), std::fmt::Error> {
    match value {
        Value::Histogram(histogram) => {
            // The encoder writes its greatest number as +Inf.
            let finite = |(bound, count): &(f64, u64)| (bound.min(f64::MAX), *count);
            let buckets: Vec<_> = histogram.buckets.iter().map(finite).collect();
            encoder.encode_histogram::<NoLabelSet>(histogram.sum, histogram.count, &buckets, None)
        }
        // Counters go the same way: the text format, unlike OpenMetrics, has the whole name of a counter in its
        // TYPE line, and the table's names end in _total already.
        Value::Count(count) => encoder.encode_gauge(&Number::Count(*count)),
        Value::Seconds(seconds) => encoder.encode_gauge(&Number::Seconds(*seconds)),
    }
}

/// A value that always can be encoded.
#[derive(Clone, Copy, Debug)]
enum Number {
    Count(u64),
    Seconds(f64),
}

impl EncodeGaugeValue for Number {
    fn encode(&self, encoder: &mut GaugeValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        match *self {
            Number::Count(count) => match i64::try_from(count) {
                Ok(count) => count.encode(encoder),
                Err(_) => (count as f64).encode(encoder),
            },
            Number::Seconds(seconds) => seconds.encode(encoder),
        }
    }
}

/// A label's value as the format wants it: the encoder takes it as it is.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
