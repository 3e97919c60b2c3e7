//! The metrics, exported by OTLP over gRPC.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mstream_admin::v1;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry_otlp::{ExporterBuildError, MetricExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{
    Instrument, PeriodicReader, SdkMeterProvider, Stream, Temporality,
};

use super::sample::{self, Sample, Value};
use super::table::{Kind, METRICS, Metric};

/// Takes a snapshot of the node. Called from a thread of the exporter.
pub type Snapshot = Arc<dyn Fn() -> v1::Status + Send + Sync>;

/// The instruments of one export are read within this time of each other, so from one snapshot.
const SAME_EXPORT: Duration = Duration::from_millis(20);
/// How long the endpoint may take for an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Series that one metric may have: as many as the devices of many ports have counts.
const MOST_SERIES: usize = 100_000;

/// Why the export could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("[metrics] otlp_endpoint {endpoint}: {source}")]
pub struct OtlpError {
    endpoint: String,
    source: ExporterBuildError,
}

/// A running export. It has a thread of its own; the connection belongs to the runtime that it was started in.
#[derive(Debug)]
pub struct Otlp {
    provider: SdkMeterProvider,
}

impl Otlp {
    /// Exports what `snapshot` tells to `endpoint` every `interval`. Must be called inside a tokio runtime. An
    /// endpoint that does not answer is no failure: it is logged once and tried again every interval.
    ///
    /// # Errors
    /// The endpoint is not the URI of a server.
    pub fn start(
        endpoint: &str,
        interval: Duration,
        snapshot: Snapshot,
    ) -> Result<Otlp, OtlpError> {
        let exporter = MetricExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .with_timeout(PATIENCE)
            .build()
            .map_err(|source| OtlpError { endpoint: endpoint.to_string(), source })?;
        let exporter =
            Telling { exporter, endpoint: endpoint.to_string(), failing: AtomicBool::new(false) };
        let status = snapshot();
        let resource = Resource::builder()
            .with_service_name("mstreamd")
            .with_attributes([
                KeyValue::new("service.version", status.version),
                KeyValue::new("service.instance.id", status.node_name),
            ])
            .build();
        let provider = SdkMeterProvider::builder()
            .with_resource(resource)
            .with_reader(PeriodicReader::builder(exporter).with_interval(interval).build())
            .with_view(|_: &Instrument| {
                Stream::builder().with_cardinality_limit(MOST_SERIES).build().ok()
            })
            .build();
        let values = Arc::new(Latest { snapshot, taken: Mutex::new(None) });
        let meter = provider.meter("mstream");
        for (at, metric) in METRICS.iter().enumerate() {
            register(&meter, metric, at, &values);
        }
        Ok(Otlp { provider })
    }

    /// Exports once more and ends. Blocks until the endpoint answered or a timeout is over, so it must not be
    /// called on the only thread of the runtime.
    pub fn stop(self) {
        // What could not be exported was logged.
        let _ = self.provider.shutdown();
    }
}

/// The values of all metrics, as of the export that is under way.
struct Latest {
    snapshot: Snapshot,
    taken: Mutex<Option<(Instant, Values)>>,
}

/// As [`sample::read`] makes them.
type Values = Arc<Vec<Vec<Sample>>>;

impl Latest {
    fn get(&self) -> Values {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        match &*taken {
            Some((at, values)) if at.elapsed() < SAME_EXPORT => Arc::clone(values),
            _ => {
                let values = Arc::new(sample::read(&(self.snapshot)()));
                *taken = Some((Instant::now(), Arc::clone(&values)));
                values
            }
        }
    }
}

/// Registers the instruments of the metric `at` its place in the table.
fn register(meter: &Meter, metric: &'static Metric, at: usize, values: &Arc<Latest>) {
    match metric.kind {
        Kind::Counter => counter(meter, metric.name, metric, values, at, count),
        Kind::Gauge if metric.unit() == "s" => {
            let values = Arc::clone(values);
            meter
                .f64_observable_gauge(metric.name)
                .with_description(metric.help)
                .with_unit(metric.unit())
                .with_callback(move |observer| {
                    for sample in &values.get()[at] {
                        if let Value::Seconds(seconds) = sample.value {
                            observer.observe(seconds, &labels(metric, sample));
                        }
                    }
                })
                .build();
        }
        Kind::Gauge => {
            let values = Arc::clone(values);
            meter
                .u64_observable_gauge(metric.name)
                .with_description(metric.help)
                .with_unit(metric.unit())
                .with_callback(move |observer| {
                    for sample in &values.get()[at] {
                        for (value, labels) in count(metric, sample) {
                            observer.observe(value, &labels);
                        }
                    }
                })
                .build();
        }
        Kind::Histogram => histogram(meter, metric, at, values),
    }
}

/// The instruments of a histogram: the API has none that takes counts which are there already.
fn histogram(meter: &Meter, metric: &'static Metric, at: usize, values: &Arc<Latest>) {
    counter(meter, format!("{}_bucket", metric.name), metric, values, at, buckets);
    counter(meter, format!("{}_count", metric.name), metric, values, at, |metric, sample| {
        let Value::Histogram(histogram) = &sample.value else { return Vec::new() };
        vec![(histogram.count, labels(metric, sample))]
    });
    let values = Arc::clone(values);
    meter
        .f64_observable_counter(format!("{}_sum", metric.name))
        .with_description(metric.help)
        .with_unit(metric.unit())
        .with_callback(move |observer| {
            for sample in &values.get()[at] {
                if let Value::Histogram(histogram) = &sample.value {
                    observer.observe(histogram.sum, &labels(metric, sample));
                }
            }
        })
        .build();
}

/// Numbers with their labels, made of one sample.
type Counts = Vec<(u64, Vec<KeyValue>)>;

fn counter(
    meter: &Meter,
    name: impl Into<std::borrow::Cow<'static, str>>,
    metric: &'static Metric,
    values: &Arc<Latest>,
    at: usize,
    counts: fn(&Metric, &Sample) -> Counts,
) {
    let values = Arc::clone(values);
    meter
        .u64_observable_counter(name)
        .with_description(metric.help)
        .with_callback(move |observer| {
            for sample in &values.get()[at] {
                for (value, labels) in counts(metric, sample) {
                    observer.observe(value, &labels);
                }
            }
        })
        .build();
}

fn count(metric: &Metric, sample: &Sample) -> Counts {
    match sample.value {
        Value::Count(count) => vec![(count, labels(metric, sample))],
        Value::Seconds(_) | Value::Histogram(_) => Vec::new(),
    }
}

/// The buckets of a histogram, each with all that is below its bound.
fn buckets(metric: &Metric, sample: &Sample) -> Counts {
    let Value::Histogram(histogram) = &sample.value else { return Vec::new() };
    let mut below = 0;
    let bucket = |(bound, count): &(f64, u64)| {
        below += count;
        let mut labels = labels(metric, sample);
        let le = if bound.is_finite() { bound.to_string() } else { "+Inf".to_string() };
        labels.push(KeyValue::new("le", le));
        (below, labels)
    };
    histogram.buckets.iter().map(bucket).collect()
}

fn labels(metric: &Metric, sample: &Sample) -> Vec<KeyValue> {
    let pairs = metric.labels.iter().zip(&sample.labels);
    pairs.map(|(name, value)| KeyValue::new(*name, value.clone())).collect()
}

/// Tells when the endpoint is lost, and when it is back; not each failure in between.
struct Telling {
    exporter: MetricExporter,
    endpoint: String,
    failing: AtomicBool,
}

impl PushMetricExporter for Telling {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let exported = self.exporter.export(metrics).await;
        // Relaxed: one export at a time.
        let failed_before = self.failing.swap(exported.is_err(), Ordering::Relaxed);
        let endpoint = self.endpoint.as_str();
        match &exported {
            Err(error) if !failed_before => {
                tracing::warn!(endpoint, %error, "metrics cannot be exported; it is tried again");
            }
            Ok(()) if failed_before => tracing::info!(endpoint, "metrics are exported again"),
            _ => {}
        }
        exported
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}
