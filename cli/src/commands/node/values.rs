//! `aimctl node values`, and how one value is shown everywhere.

use aim_common::api::nodes::{Node, ReadingView, ValueView};
use aim_common::metric::MetricKind;
use serde_json::Value;

use crate::client::Route;
use crate::context::Context;
use crate::error::CliError;
use crate::output::{Cell, Column, Listed, Tone, text, typed};

/// Older than this, a value is shown with its age wherever it stands: six missed reports of the usual interval.
const CURRENT_MS: u64 = 60_000;

impl Listed for ValueView {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::always("METRIC", |value, _| Cell::new(value.metric.name())),
        Column::always("INSTANCE", |value, _| {
            Cell::or_none((!value.instance.is_empty()).then_some(&value.instance))
        }),
        Column::always("VALUE", |value, _| reading(value)),
        Column::if_room(2, "MIN", |value, _| match &value.reading {
            ReadingView::Gauge { min, .. } => Cell::new(number(value, *min)),
            _ => Cell::none(),
        }),
        Column::if_room(2, "MAX", |value, _| match &value.reading {
            ReadingView::Gauge { max, .. } => Cell::new(number(value, *max)),
            _ => Cell::none(),
        }),
        Column::always("AGE", |value, _| {
            let cell = Cell::new(text::span(i64::try_from(value.age_ms).unwrap_or(i64::MAX)));
            if value.age_ms > CURRENT_MS { cell.tone(Tone::Warn) } else { cell }
        }),
        Column::wide("AT", |value, _| Cell::new(value.at.to_rfc3339())),
        Column::wide("HELP", |value, _| Cell::new(value.metric.help())),
    ];

    fn name(&self) -> String {
        if self.instance.is_empty() {
            self.metric.name().to_owned()
        } else {
            format!("{}{{{}}}", self.metric.name(), self.instance)
        }
    }
}

/// Runs it.
pub(super) async fn run(context: &Context, node: &str, prefix: Option<&str>) -> Result<(), CliError> {
    let client = context.client().await?;
    let rows = client.whole_list(Route::v1(["nodes", node, "values"])).await?;
    context.output.list::<ValueView>(matching(rows, prefix), Context::view(&client))
}

/// The values whose metric begins with the prefix.
pub(super) fn matching(mut rows: Vec<Value>, prefix: Option<&str>) -> Vec<Value> {
    if let Some(prefix) = prefix {
        rows.retain(|row| row["metric"].as_str().is_some_and(|metric| metric.starts_with(prefix)));
    }
    rows
}

/// The reading itself: the mean of a gauge, the state of a counter, or why it is not known.
pub(super) fn reading(value: &ValueView) -> Cell {
    match &value.reading {
        ReadingView::Gauge { avg, .. } => Cell::new(number(value, *avg)),
        ReadingView::Counter { value: count } => Cell::new(number(value, *count)),
        ReadingView::Unknown { reason } => Cell::new(text::unknown(*reason)).tone(Tone::Dim),
    }
}

/// A number in the unit that the metric's name ends with.
fn number(value: &ValueView, number: f64) -> String {
    let name = value.metric.name();
    let stem = name.strip_suffix("_total").unwrap_or(name);
    if stem.ends_with("_bytes") {
        text::bytes_f64(number)
    } else if stem.ends_with("_bytes_per_second") {
        format!("{}/s", text::bytes_f64(number))
    } else if stem.ends_with("_ratio") {
        format!("{:.1}%", number * 100.0)
    } else if stem.ends_with("_hertz") {
        format!("{}Hz", text::count(number))
    } else if stem.ends_with("_celsius") {
        format!("{number:.1} °C")
    } else if stem.ends_with("_watts") {
        format!("{number:.1} W")
    } else if stem.ends_with("_bitmask") {
        // A mask is a whole number below 2^53 and not negative.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a whole number of NVML's"
        )]
        let mask = number as u64;
        format!("{mask:#x}")
    } else if stem.ends_with("_seconds") {
        format!("{number:.2} s")
    } else if value.kind == MetricKind::Counter || number.fract() == 0.0 {
        format!("{number:.0}")
    } else {
        format!("{number:.2}")
    }
}

/// The newest values of one node by metric and instance.
pub(super) struct Readings<'a>(&'a Node);

impl<'a> Readings<'a> {
    /// Of this node.
    pub(super) fn of(node: &'a Node) -> Self {
        Self(node)
    }

    /// One value for an overview: `?` where it was never reported, with its age where it is not current.
    pub(super) fn cell(&self, metric: aim_common::metric::Metric, instance: &str) -> Cell {
        let found = self.0.values.iter().find(|value| value.metric == metric && value.instance == instance);
        let Some(value) = found else { return Cell::unknown() };
        let cell = reading(value);
        if value.age_ms > CURRENT_MS {
            let age = text::span(i64::try_from(value.age_ms).unwrap_or(i64::MAX));
            return Cell::new(format!("{} ({age} ago)", cell.text())).tone(Tone::Dim);
        }
        cell
    }
}

/// Values as rows of a table.
pub(super) fn rows(values: Vec<Value>) -> Result<Vec<ValueView>, CliError> {
    values.into_iter().map(typed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(metric: &str, reading: &Value) -> ValueView {
        let mut json = serde_json::json!({
            "metric": metric, "instance": "", "kind": "gauge", "at": "2026-11-23T05:00:00.000Z", "age_ms": 5
        });
        for (key, part) in reading.as_object().unwrap() {
            json[key] = part.clone();
        }
        typed(json).unwrap()
    }

    #[test]
    fn numbers_carry_the_unit_of_their_metric() {
        let gauge = |number: f64| serde_json::json!({"gauge": {"min": 0.0, "avg": number, "max": number}});
        let cases = [
            (value("memory_used_bytes", &gauge(1_073_741_824.0)), "1.00 GiB"),
            (value("cpu_utilization_ratio", &gauge(0.125)), "12.5%"),
            (value("gpu_power_watts", &gauge(699.96)), "700.0 W"),
            (value("gpu_throttle_reasons_bitmask", &gauge(32.0)), "0x20"),
            (value("load1", &gauge(0.5)), "0.50"),
            (
                value("network_receive_bytes_total", &serde_json::json!({"counter": {"value": 2048.0}})),
                "2.00 KiB",
            ),
            (
                value("gpu_power_watts", &serde_json::json!({"unknown": {"reason": "not_supported"}})),
                "? (not supported)",
            ),
        ];
        for (value, expected) in cases {
            assert_eq!(reading(&value).text(), expected);
        }
    }

    #[test]
    fn a_prefix_chooses_metrics() {
        let rows = vec![serde_json::json!({"metric": "gpu_x"}), serde_json::json!({"metric": "cpu_x"})];
        assert_eq!(matching(rows.clone(), Some("gpu_")).len(), 1);
        assert_eq!(matching(rows, None).len(), 2);
    }
}
