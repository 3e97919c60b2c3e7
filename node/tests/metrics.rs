//! The metrics of a node that runs: over HTTP, by OTLP, and against the table that they are made from.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use common::admin::get;
use common::traffic::udp;
use common::{Node, PATIENCE, Setting};
use mstream_client::Identity;
use mstream_controlplane::metrics::{METRICS, Origin, REASONS};
use mstream_dataplane::Status;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use tokio::sync::mpsc;

/// What the table reads from among `read`'s names, sorted.
fn known(read: impl Fn(Origin) -> Option<&'static str>) -> Vec<&'static str> {
    let mut names: Vec<_> = METRICS.iter().filter_map(|metric| read(metric.origin)).collect();
    names.sort_unstable();
    names
}

fn sorted(names: impl Iterator<Item = (&'static str, u64)>) -> Vec<&'static str> {
    let mut names: Vec<_> = names.map(|(name, _)| name).collect();
    names.sort_unstable();
    names
}

#[test]
fn every_position_of_a_shard_is_a_metric() {
    let mut known = known(|origin| match origin {
        Origin::Position(name) => Some(name),
        _ => None,
    });
    // Told in seconds, as mstream_shard_segments_ready_seconds.
    known.push("slots_ready_ms");
    known.sort_unstable();
    let table = "controlplane/src/metrics/table.rs: METRICS";
    assert_eq!(sorted(Status::new(0).positions()), known, "shard's positions, {table}");
}

#[test]
fn every_counter_of_a_shard_is_a_metric_or_a_reason() {
    let mut known = known(|origin| match origin {
        Origin::Counter(name) => Some(name),
        _ => None,
    });
    known.extend(REASONS.iter().map(|(reason, _)| *reason));
    known.sort_unstable();
    let table = "controlplane/src/metrics/table.rs: METRICS and REASONS";
    assert_eq!(sorted(Status::new(0).counters()), known, "shard's counters, {table}");
}

/// A node that stored three messages and refused a datagram.
fn busy(setting: &Setting) -> Node {
    let node = setting.start();
    udp(setting, Identity::Anonymous).publishing("s").publish_all(3);
    let stranger = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    stranger.send_to(b"no datagram of ours", setting.address).expect("sent");
    node.wait_count("datagram_too_short", 1);
    node
}

/// The value of the sample whose name and labels are `series`.
fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in {text}")).parse().expect("a number")
}

#[test]
fn a_node_answers_with_its_metrics_and_promtool_takes_them() {
    let setting = Setting::socket();
    let node = busy(&setting);
    let (code, text) = get(node.admin(), "/metrics");
    assert_eq!(code, 200, "{text}");
    assert_eq!(value(&text, "mstream_ready"), 1.0);
    assert_eq!(value(&text, "mstream_streams"), 1.0);
    assert_eq!(value(&text, r#"mstream_shard_messages_stored_total{shard="0"}"#), 3.0);
    let refused = r#"mstream_shard_refusals_total{shard="0",reason="datagram_too_short"}"#;
    assert_eq!(value(&text, refused), 1.0);
    assert!(value(&text, r#"mstream_shard_poll_seconds_count{shard="0"}"#) >= 1.0);
    assert!(value(&text, r#"mstream_port_received_frames_total{shard="0",port="p"}"#) >= 2.0);
    assert_eq!(value(&text, r#"mstream_shard_level{shard="0"}"#), 1.0);
    named_in_ops_exist(&text);
    let check = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    match check {
        Ok(mut check) => {
            check.stdin.take().expect("piped").write_all(text.as_bytes()).expect("it reads");
            let output = check.wait_with_output().expect("it ends");
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            assert!(output.status.success() && said.is_empty(), "{said}");
        }
        Err(_) => eprintln!("SKIP promtool check metrics: promtool is not installed"),
    }
    node.stop();
}

/// Every metric that the dashboard or an alert rule names is in `text`, or has nothing to tell on this node.
fn named_in_ops_exist(text: &str) {
    let ops = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ops");
    let read = |file| fs::read_to_string(ops.join(file)).expect("a file");
    let all = read("grafana/mstream.json") + &read("alerts.yml");
    let words = all.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let names: BTreeSet<_> = words.filter(|word| word.starts_with("mstream_")).collect();
    assert!(names.len() > 20, "{names:?}");
    // A host may be without findings, a port without a device, a log without syncs.
    let may_be_absent = [
        "mstream_host_findings",
        "mstream_port_device_events_total",
        "mstream_port_pool_buffers",
        "mstream_port_pool_free_buffers",
        "mstream_shard_sync_seconds_bucket",
    ];
    for name in names {
        let found = text.lines().any(|line| line.split(['{', ' ']).next() == Some(name));
        assert!(found || may_be_absent.contains(&name), "{name} is not in {text}");
    }
}

/// Hands over what is exported to it.
struct Receiver(mpsc::UnboundedSender<ExportMetricsServiceRequest>);

#[tonic::async_trait]
impl MetricsService for Receiver {
    async fn export(
        &self,
        request: tonic::Request<ExportMetricsServiceRequest>,
    ) -> Result<tonic::Response<ExportMetricsServiceResponse>, tonic::Status> {
        let _ = self.0.send(request.into_inner());
        Ok(tonic::Response::new(ExportMetricsServiceResponse::default()))
    }
}

/// The first number of the counter `name` in an export.
fn exported(request: &ExportMetricsServiceRequest, name: &str) -> Option<i64> {
    let scopes = request.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
    let metric = scopes.flat_map(|scope| &scope.metrics).find(|metric| metric.name == name)?;
    let Some(Data::Sum(sum)) = &metric.data else { return None };
    match sum.data_points.first()?.value? {
        Value::AsInt(value) => Some(value),
        Value::AsDouble(_) => None,
    }
}

#[test]
fn a_node_exports_its_metrics_by_otlp_also_without_an_admin_address() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("one");
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("bound");
    let address = listener.local_addr().expect("its address");
    let mut setting = Setting::socket();
    setting.text = setting.text.replace("admin = \"127.0.0.1:0\"", "admin = \"off\"");
    setting
        .add(&format!("[metrics]\notlp_endpoint = \"http://{address}\"\notlp_interval_ms = 100"));
    let node = busy(&setting);
    runtime.block_on(async {
        let server = tonic::transport::Server::builder()
            .add_service(MetricsServiceServer::new(Receiver(sender)))
            .serve_with_incoming(tonic::transport::server::TcpIncoming::from(listener));
        let server = tokio::spawn(server);
        let until = async {
            loop {
                let request = receiver.recv().await.expect("an export");
                if exported(&request, "mstream_shard_messages_stored_total") == Some(3) {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, until).await.expect("three messages are told");
        // The last export goes out at the end.
        tokio::task::spawn_blocking(|| node.stop()).await.expect("it ends");
        server.abort();
    });
}

#[test]
fn an_otlp_receiver_that_is_away_is_told_once_and_harms_nothing() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = nobody.local_addr().expect("its address");
    drop(nobody);
    let mut setting = Setting::socket();
    setting
        .add(&format!("[metrics]\notlp_endpoint = \"http://{address}\"\notlp_interval_ms = 100"));
    let node = setting.start();
    let first = node.wait_line("metrics cannot be exported");
    assert!(first.contains(&address.to_string()), "{first}");
    udp(&setting, Identity::Anonymous).publishing("s").publish_all(3);
    // Each of some more intervals fails as well.
    std::thread::sleep(std::time::Duration::from_millis(500));
    let text = node.stop();
    assert!(!text.contains("metrics cannot be exported"), "{text}");
    assert!(!text.contains("ERROR"), "{text}");
}
