//! The page of all metrics for people.

use std::fmt::Write;

use super::table::{METRICS, REASONS};

/// `docs/metrics.md`.
pub fn page() -> String {
    let mut text = String::from(
        "# Metrics\n\n\
         What `GET /metrics` on the admin address answers, and what is exported by OTLP if `[metrics] otlp_endpoint` \
         is set. `mstreamd --reference metrics` prints this page.\n\n\
         All numbers come from memory that the shards only write: reading them costs the message path nothing. \
         Counters start at 0 with each start of the node. By OTLP a histogram goes out as three counters whose \
         names end in `_bucket` (with a label `le`), `_sum` and `_count`, as in the Prometheus text.\n\n\
         | metric | kind | labels | what it tells |\n|---|---|---|---|\n",
    );
    for metric in METRICS {
        let labels = metric.labels.join(", ");
        let kind = metric.kind.name();
        // Writing to a string does not fail; so below.
        let _ = writeln!(text, "| `{}` | {kind} | {labels} | {} |", metric.name, metric.help);
    }
    text.push_str(
        "\n## Reasons of refusals\n\n\
         The label `reason` of `mstream_shard_refusals_total`.\n\n\
         | reason | what was refused |\n|---|---|\n",
    );
    for (reason, meaning) in REASONS {
        let _ = writeln!(text, "| `{reason}` | {meaning} |");
    }
    text
}
