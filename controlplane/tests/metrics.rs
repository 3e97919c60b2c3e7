//! The metrics of a snapshot, as text and by OTLP, and their page.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mstream_admin::v1;
use mstream_controlplane::metrics::{METRICS, Otlp, REASONS, page, render};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

fn number(name: &str, value: u64) -> v1::Number {
    v1::Number { name: name.to_string(), value }
}

/// A node with one shard and one port, all of whose numbers differ.
fn snapshot() -> v1::Status {
    let port = v1::Port {
        name: "a \"b\" \\ c".to_string(),
        driver: "dpdk".to_string(),
        device: "tap".to_string(),
        addresses: vec!["10.0.0.1".to_string(), "fd00::1".to_string()],
        mac: "02:00:00:00:00:01".to_string(),
        vlan: 7,
        link_up: true,
        counters: vec![number("rx_frames", 11), number("rx_no_buffer", 12)],
        device_counters: vec![
            number("rx_good_packets", 13),
            number("rx_good_packets", 14),
            number("pool_free", 15),
            number("pool_buffers", 16),
        ],
        rx_checksums_verified: true,
        tx_checksums_offloaded: false,
    };
    let shard = v1::Shard {
        number: 3,
        core: 1,
        udp_port: 7503,
        level: v1::Level::PmemEmulated.into(),
        epoch: 5,
        log_id: vec![0xab; 16],
        positions: vec![number("appended_lsn", u64::MAX), number("slots_ready", 2)],
        counters: vec![number("messages", 21), number("log_full", 22), number("block_crc", 0)],
        ports: vec![port],
        poll_ns: Some(v1::Histogram {
            bounds: vec![250, 1_000, 2_000],
            counts: vec![4, 2, 1],
            max: 9_000,
            sum: 12_000,
        }),
        sync_ns: Some(v1::Histogram {
            bounds: vec![1_000_000, 2_000_000],
            counts: vec![1, 1],
            max: 3_000_000,
            sum: 4_000_000,
        }),
        log_condition: "possible-loss".to_string(),
        required_level: v1::Level::Process.into(),
        missing: Vec::new(),
        missing_messages: 17,
        unreadable: None,
        shortage: Some(v1::Shortage {
            reason: "no space".to_string(),
            since_ns: 1_700_000_001_000_000_000,
        }),
        cold: Some(v1::Cold {
            dir: "/cold".to_string(),
            level: v1::Level::MediaSync.into(),
            condition: "full".to_string(),
            positions: vec![number("files", 41), number("lag_ms", 42)],
            counters: vec![number("reads", 43)],
        }),
    };
    v1::Status {
        node_id: 9,
        node_name: "n".to_string(),
        version: "1.2.3".to_string(),
        time_ns: 1_700_000_002_500_000_000,
        started_ns: 1_700_000_000_000_000_000,
        streams: 31,
        publishers: 32,
        shards: vec![shard],
        findings: vec![finding("governor"), finding("governor"), finding("thp")],
        ready: true,
        catalogue_condition: "its disk is full".to_string(),
    }
}

fn finding(check: &str) -> v1::Finding {
    v1::Finding { check: check.to_string(), ..Default::default() }
}

#[test]
fn the_text_has_every_value() {
    let text = render(&snapshot());
    let port = r#"shard="3",port="a \"b\" \\ c""#;
    let lines = [
        r#"mstream_build_info{version="1.2.3"} 1"#.to_string(),
        r#"mstream_node_info{node="9",name="n"} 1"#.to_string(),
        "mstream_start_time_seconds 1700000000.0".to_string(),
        "mstream_uptime_seconds 2.5".to_string(),
        "mstream_ready 1".to_string(),
        "mstream_streams 31".to_string(),
        "mstream_publishers 32".to_string(),
        r#"mstream_catalogue_faulty{condition="its disk is full"} 1"#.to_string(),
        r#"mstream_host_findings{check="governor"} 2"#.to_string(),
        r#"mstream_host_findings{check="thp"} 1"#.to_string(),
        format!(
            r#"mstream_shard_info{{shard="3",core="1",udp_port="7503",log_id="{}"}} 1"#,
            "ab".repeat(16)
        ),
        r#"mstream_shard_level_info{shard="3",level="pmem-emulated"} 1"#.to_string(),
        r#"mstream_shard_level{shard="3"} 2"#.to_string(),
        r#"mstream_shard_required_level{shard="3"} 1"#.to_string(),
        r#"mstream_shard_epoch{shard="3"} 5"#.to_string(),
        r#"mstream_shard_log_faulty{shard="3",condition="possible-loss"} 1"#.to_string(),
        r#"mstream_shard_missing_messages{shard="3"} 17"#.to_string(),
        r#"mstream_shard_segments_faulty{shard="3",condition="no space"} 1"#.to_string(),
        r#"mstream_shard_segments_faulty_seconds{shard="3"} 1.5"#.to_string(),
        r#"mstream_shard_cold_faulty{shard="3",condition="full"} 1"#.to_string(),
        r#"mstream_shard_cold_files{shard="3"} 41"#.to_string(),
        r#"mstream_shard_cold_lag_seconds{shard="3"} 0.042"#.to_string(),
        r#"mstream_shard_cold_reads_total{shard="3"} 43"#.to_string(),
        r#"mstream_shard_appended_lsn{shard="3"} 18446744073709553000.0"#.to_string(),
        r#"mstream_shard_segments_ready{shard="3"} 2"#.to_string(),
        "# TYPE mstream_shard_messages_stored_total counter".to_string(),
        r#"mstream_shard_messages_stored_total{shard="3"} 21"#.to_string(),
        r#"mstream_shard_refusals_total{shard="3",reason="log_full"} 22"#.to_string(),
        r#"mstream_shard_refusals_total{shard="3",reason="block_crc"} 0"#.to_string(),
        r#"mstream_shard_sync_seconds_bucket{le="0.001",shard="3"} 1"#.to_string(),
        r#"mstream_shard_sync_seconds_bucket{le="+Inf",shard="3"} 2"#.to_string(),
        r#"mstream_shard_sync_seconds_sum{shard="3"} 0.004"#.to_string(),
        "# TYPE mstream_shard_poll_seconds histogram".to_string(),
        r#"mstream_shard_poll_seconds_bucket{le="2.5e-7",shard="3"} 4"#.to_string(),
        r#"mstream_shard_poll_seconds_bucket{le="0.000001",shard="3"} 6"#.to_string(),
        r#"mstream_shard_poll_seconds_bucket{le="+Inf",shard="3"} 7"#.to_string(),
        r#"mstream_shard_poll_seconds_count{shard="3"} 7"#.to_string(),
        r#"mstream_shard_poll_seconds_sum{shard="3"} 0.000012"#.to_string(),
        format!(
            r#"mstream_port_info{{{port},driver="dpdk",device="tap",addresses="10.0.0.1,fd00::1",mac="02:00:00:00:00:01",vlan="7"}} 1"#
        ),
        format!("mstream_port_link_up{{{port}}} 1"),
        format!("mstream_port_received_frames_total{{{port}}} 11"),
        format!("mstream_port_no_buffer_total{{{port}}} 12"),
        "# TYPE mstream_port_pool_free_buffers gauge".to_string(),
        format!("mstream_port_pool_free_buffers{{{port}}} 15"),
        format!("mstream_port_pool_buffers{{{port}}} 16"),
        format!(r#"mstream_port_device_events_total{{{port},name="rx_good_packets"}} 13"#),
    ];
    for line in lines {
        assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
    }
    assert!(!text.contains("name=\"rx_good_packets\"} 14"), "a name is written once");
    assert!(!text.contains("name=\"pool_"), "what rises and falls is no counter: {text}");
}

#[test]
fn promtool_takes_the_text() {
    let text = render(&snapshot());
    let child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        eprintln!("SKIP promtool_takes_the_text: promtool is not installed");
        return;
    };
    child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn a_node_without_shards_has_metrics_too() {
    let text = render(&v1::Status::default());
    assert!(text.contains("mstream_ready 0\n"), "{text}");
    assert!(!text.contains("mstream_shard"), "{text}");
}

#[test]
fn names_are_unique_and_follow_the_conventions() {
    let mut names: Vec<_> = METRICS.iter().map(|metric| metric.name).collect();
    assert!(names.iter().all(|name| name.starts_with("mstream_")));
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    let mut reasons: Vec<_> = REASONS.iter().map(|(reason, _)| *reason).collect();
    reasons.sort_unstable();
    assert!(reasons.windows(2).all(|pair| pair[0] != pair[1]), "{reasons:?}");
}

#[test]
fn the_page_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == page(),
        "docs/metrics.md is old: `mstreamd --reference metrics > docs/metrics.md` writes it"
    );
}

/// Hands over what is exported to it.
struct Receiver(mpsc::UnboundedSender<ExportMetricsServiceRequest>);

#[tonic::async_trait]
impl MetricsService for Receiver {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let _ = self.0.send(request.into_inner());
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

/// Name, labels in the order of their names, and value of each number that was exported.
fn numbers(request: &ExportMetricsServiceRequest) -> Vec<(String, String, f64)> {
    let mut numbers = Vec::new();
    let scopes = request.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
    for metric in scopes.flat_map(|scope| &scope.metrics) {
        let points = match metric.data.as_ref().expect("data") {
            Data::Gauge(gauge) => &gauge.data_points,
            Data::Sum(sum) => {
                assert!(sum.is_monotonic, "{}", metric.name);
                &sum.data_points
            }
            other => panic!("{}: {other:?}", metric.name),
        };
        for point in points {
            let mut labels: Vec<String> = point
                .attributes
                .iter()
                .map(|label| {
                    let value = label.value.as_ref().and_then(|value| value.value.as_ref());
                    let Some(
                        opentelemetry_proto::tonic::common::v1::any_value::Value::StringValue(
                            value,
                        ),
                    ) = value
                    else {
                        panic!("{label:?}")
                    };
                    format!("{}={value}", label.key)
                })
                .collect();
            labels.sort_unstable();
            let value = match point.value.expect("a value") {
                Value::AsInt(value) => value as f64,
                Value::AsDouble(value) => value,
            };
            numbers.push((metric.name.clone(), labels.join(","), value));
        }
    }
    numbers
}

#[test]
fn otlp_carries_the_same_numbers_also_when_the_receiver_comes_late() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("one");
    runtime.block_on(async {
        // Taken, but nobody listens yet.
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind(([127, 0, 0, 1], 0).into()).expect("bound");
        let address = socket.local_addr().expect("its address");
        let asked = Arc::new(AtomicU64::new(0));
        let asks = Arc::clone(&asked);
        let take = Arc::new(move || {
            asks.fetch_add(1, Ordering::Relaxed);
            snapshot()
        });
        let otlp = Otlp::start(&format!("http://{address}"), Duration::from_millis(50), take)
            .expect("started");
        // The start asks once; each later one is an export that finds nobody.
        while asked.load(Ordering::Relaxed) < 4 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let listener = socket.listen(16).expect("it listens");
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let server = tonic::transport::Server::builder()
            .add_service(MetricsServiceServer::new(Receiver(sender)))
            .serve_with_incoming(tonic::transport::server::TcpIncoming::from(listener));
        let server = tokio::spawn(server);
        let request = receiver.recv().await.expect("an export");
        let resource = request.resource_metrics[0].resource.as_ref().expect("a resource");
        assert!(format!("{resource:?}").contains("mstreamd"), "{resource:?}");
        let found = numbers(&request);
        let has = |name: &str, labels: &str, value: f64| {
            let expected = (name.to_string(), labels.to_string(), value);
            assert!(found.contains(&expected), "{expected:?} is not in {found:?}");
        };
        has("mstream_uptime_seconds", "", 2.5);
        has("mstream_streams", "", 31.0);
        has("mstream_shard_segments_ready", "shard=3", 2.0);
        has("mstream_shard_messages_stored_total", "shard=3", 21.0);
        has("mstream_shard_refusals_total", "reason=log_full,shard=3", 22.0);
        has("mstream_shard_poll_seconds_bucket", "le=0.000001,shard=3", 6.0);
        has("mstream_shard_poll_seconds_bucket", "le=+Inf,shard=3", 7.0);
        has("mstream_shard_poll_seconds_count", "shard=3", 7.0);
        has("mstream_shard_poll_seconds_sum", "shard=3", 0.000012);
        has("mstream_port_no_buffer_total", "port=a \"b\" \\ c,shard=3", 12.0);
        tokio::task::spawn_blocking(|| otlp.stop()).await.expect("it stops");
        server.abort();
    });
}
