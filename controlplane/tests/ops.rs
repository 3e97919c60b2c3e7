//! The dashboard and the alert rules in ops/: sound for promtool, and about metrics that exist.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use mstream_controlplane::metrics::METRICS;
use serde_json::Value;

fn ops() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../ops")
}

/// Runs promtool in ops/; says so if it is not there.
fn promtool(test: &str, args: &[&str]) {
    let Ok(output) = Command::new("promtool").current_dir(ops()).args(args).output() else {
        eprintln!("SKIP {test}: promtool is not installed");
        return;
    };
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

/// Every value of a key `expr` in the dashboard, with Grafana's variables filled in.
fn expressions(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value.as_str() {
                    Some(text) if key == "expr" => into
                        .push(text.replace("$__rate_interval", "1m").replace("$instance", "a:1")),
                    _ => expressions(value, into),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| expressions(item, into)),
        _ => {}
    }
}

fn dashboard() -> Vec<String> {
    let text = std::fs::read_to_string(ops().join("grafana/mstream.json")).expect("the dashboard");
    let mut found = Vec::new();
    expressions(&serde_json::from_str(&text).expect("JSON"), &mut found);
    found
}

/// The names of our metrics in `text`.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("mstream_")).collect()
}

#[test]
fn every_expression_of_the_dashboard_is_sound() {
    let expressions = dashboard();
    assert!(expressions.len() > 20, "{}", expressions.len());
    let mut rules = "groups:\n  - name: dashboard\n    rules:\n".to_string();
    for (number, expression) in expressions.iter().enumerate() {
        let expression = expression.replace('\'', "''");
        rules += &format!("      - record: dashboard:{number}\n        expr: '{expression}'\n");
    }
    let file = tempfile::NamedTempFile::with_suffix(".yml").expect("a file");
    std::fs::write(file.path(), rules).expect("written");
    let path = file.path().to_str().expect("plain");
    promtool("every_expression_of_the_dashboard_is_sound", &["check", "rules", path]);
}

#[test]
fn the_alert_rules_are_sound_and_fire_when_they_should() {
    let test = "the_alert_rules_are_sound_and_fire_when_they_should";
    promtool(test, &["check", "rules", "alerts.yml"]);
    promtool(test, &["test", "rules", "alerts.test.yml"]);
    let read = |file| std::fs::read_to_string(ops().join(file)).expect("a file");
    let (rules, tests) = (read("alerts.yml"), read("alerts.test.yml"));
    for rule in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(tests.contains(&format!("alertname: {rule}\n")), "{rule} has no test");
    }
}

#[test]
fn dashboard_and_rules_name_metrics_that_exist() {
    let rules = std::fs::read_to_string(ops().join("alerts.yml")).expect("the rules");
    let text = dashboard().join("\n") + &rules;
    let found = names(&text);
    assert!(found.len() > 20, "{found:?}");
    for name in found {
        let known = METRICS
            .iter()
            .any(|metric| name == metric.name || name.strip_suffix("_bucket") == Some(metric.name));
        assert!(known, "{name} is no metric");
    }
}
