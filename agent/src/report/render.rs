//! What would be sent, for a person or a script: `aim-agent report --once`.

use aim_common::inventory::Section;
use aim_common::protocol::{SeriesKey, Value};
use serde_json::{Map, json};

use super::Interval;

/// The inventory by section as the API shows it, and every value in the unit of its name:
/// `{inventory: {SECTION: …}, values: [{name, instance, value | min, average, max | unknown}]}`.
pub fn json(sections: &[Section], interval: &Interval) -> serde_json::Value {
    let inventory: Map<String, serde_json::Value> =
        sections.iter().map(|section| (section.name().to_owned(), section.to_json())).collect();
    let values: Vec<serde_json::Value> =
        values(interval).map(|(key, value)| value_json(key, value)).collect();
    json!({
        "at": interval.end,
        "interval_ms": interval.interval_ms,
        "inventory": inventory,
        "values": values,
    })
}

/// One line for each value: name, instance, value; a gauge that moved shows its mean with minimum and maximum.
pub fn table(interval: &Interval) -> String {
    let rows: Vec<[String; 3]> = values(interval)
        .map(|(key, value)| [key.metric.name().to_owned(), key.instance.to_string(), value_text(value)])
        .collect();
    let header = ["NAME", "INSTANCE", "VALUE"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(header).chain(rows).collect();
    let width = |cell: fn(&[String; 3]) -> &String| {
        rows.iter().map(|row| cell(row).chars().count()).max().unwrap_or_default()
    };
    let (name_width, instance_width) = (width(|[name, ..]| name), width(|[_, instance, _]| instance));
    let line = |[name, instance, value]: &[String; 3]| {
        format!("{name:name_width$}  {instance:instance_width$}  {value}")
    };
    let lines: Vec<String> = rows.iter().map(line).collect();
    lines.join("\n") + "\n"
}

fn values(interval: &Interval) -> impl Iterator<Item = (&SeriesKey, Value)> {
    let series = interval.table.known().zip(&interval.readings);
    series.map(|(key, reading)| (key, reading.value(key.metric)))
}

fn value_json(key: &SeriesKey, value: Value) -> serde_json::Value {
    let (name, instance) = (key.metric.name(), key.instance.as_str());
    match value {
        Value::Gauge { min, average, max } => {
            json!({"name": name, "instance": instance, "min": min, "average": average, "max": max})
        }
        Value::Counter(value) => json!({"name": name, "instance": instance, "value": value}),
        Value::Unknown(reason) => json!({"name": name, "instance": instance, "unknown": reason}),
    }
}

#[expect(clippy::float_cmp, reason = "equal steps give equal floats")]
fn value_text(value: Value) -> String {
    match value {
        Value::Gauge { min, average, max } if min == max => format!("{average}"),
        Value::Gauge { min, average, max } => format!("{average} ({min} to {max})"),
        Value::Counter(value) => format!("{value}"),
        Value::Unknown(reason) => {
            let reason = serde_json::to_value(reason).unwrap_or_default();
            format!("unknown: {}", reason.as_str().unwrap_or_default().replace('_', " "))
        }
    }
}

#[cfg(test)]
mod tests {
    use aim_common::inventory::{Network, UnknownReason};
    use aim_common::metric::Metric;
    use aim_common::units::EpochMs;

    use super::*;
    use crate::collect::SampleSink;
    use crate::report::Aggregator;

    #[test]
    fn values_carry_their_unit_and_unknown_its_reason() {
        let mut sink = SampleSink::default();
        sink.gauge(Metric::Temperature, "cpu", 41.5);
        sink.gauge(Metric::Temperature, "cpu", 42.5);
        sink.counter(Metric::DiskReadBytes, "sda", 1024.0);
        sink.unknown(Metric::MemoryAvailable, "", UnknownReason::NotPresent);
        let mut aggregator = Aggregator::new();
        aggregator.add(sink.samples);
        let interval = aggregator.close(EpochMs(0), 10_000);

        let report =
            json(&[Section::Network(Network { interfaces: Vec::new().try_into().unwrap() })], &interval);
        assert_eq!(report["inventory"]["network"], json!({"interfaces": []}));
        assert_eq!(
            report["values"],
            json!([
                {"name": "memory_available_bytes", "instance": "", "unknown": "not_present"},
                {"name": "disk_read_bytes_total", "instance": "sda", "value": 1024.0},
                {"name": "temperature_celsius", "instance": "cpu", "min": 41.5, "average": 42.0, "max": 42.5},
            ])
        );
        let table = table(&interval);
        assert!(table.contains("memory_available_bytes            unknown: not present\n"), "{table}");
        assert!(table.contains("temperature_celsius     cpu       42 (41.5 to 42.5)\n"), "{table}");
    }
}
