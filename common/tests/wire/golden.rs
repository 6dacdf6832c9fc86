//! A released message's bytes never change: each sample against its committed file.
//!
//! A new kind is recorded by `AIM_RECORD_GOLDEN=1 cargo test -p aim-common --test wire golden`.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use aim_common::event::EventKind;
use aim_common::inventory::Section;
use aim_common::metric::Metric;
use aim_common::protocol::{CloseCode, Kind};

use crate::samples::{self, Sample};

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"))
}

fn hex_lines(bytes: &[u8]) -> String {
    bytes.chunks(32).map(|line| hex::encode(line) + "\n").collect()
}

fn pretty(sample: &Sample) -> String {
    serde_json::to_string_pretty(&sample.meaning).unwrap() + "\n"
}

#[test]
fn golden_bytes_of_every_sample_are_as_committed() {
    let record = std::env::var_os("AIM_RECORD_GOLDEN").is_some();
    for sample in samples::all() {
        for (ending, found) in [("hex", hex_lines(&sample.bytes)), ("json", pretty(sample))] {
            let file = folder().join(format!("{}.{ending}", sample.name));
            if record {
                fs::write(&file, &found).unwrap();
            }
            let committed =
                fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            assert_eq!(found, committed, "{}: the bytes of a message changed", file.display());
        }
    }
}

#[test]
fn golden_bytes_are_read_back_as_written() {
    for sample in samples::all() {
        assert_eq!((sample.again)(&sample.bytes).as_ref(), Some(&sample.bytes), "{}", sample.name);
    }
}

#[test]
fn golden_files_and_kinds_match_one_to_one() {
    let samples = samples::all();
    for kind in Kind::ALL {
        assert!(samples.iter().any(|sample| sample.kind == Some(*kind)), "{kind:?} has no golden sample");
    }
    for (_, name) in Section::ALL {
        assert!(
            samples.iter().any(|sample| sample.name == format!("section_{name}")),
            "{name} has no sample"
        );
    }
    let expected: BTreeSet<String> = samples
        .iter()
        .flat_map(|sample| ["hex", "json"].map(|ending| format!("{}.{ending}", sample.name)))
        .collect();
    let found: BTreeSet<String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(found, expected, "files left over or missing in {}", folder().display());
}

#[test]
fn inj_04_no_two_types_share_a_number() {
    fn distinct<T: Ord>(what: &str, numbers: impl Iterator<Item = T>) {
        let numbers: Vec<T> = numbers.collect();
        let count = numbers.len();
        assert_eq!(numbers.into_iter().collect::<BTreeSet<T>>().len(), count, "{what}");
    }
    distinct("kinds", Kind::ALL.iter().map(|kind| kind.number().0));
    distinct("sections", Section::ALL.iter().map(|(tag, _)| *tag));
    distinct("metrics", Metric::ALL.iter().map(|metric| metric.number()));
    distinct("metric names", Metric::ALL.iter().map(|metric| metric.name()));
    distinct("events", EventKind::ALL.iter());
    distinct("event names", EventKind::ALL.iter().map(|kind| kind.name()));
    distinct("close codes", CloseCode::ALL.iter().map(|code| code.code()));
}

/// Names of all fields of the messages whose names begin so.
fn fields_of(names: &[&str]) -> BTreeSet<String> {
    fn collect(value: &serde_json::Value, into: &mut BTreeSet<String>) {
        if let Some(object) = value.as_object() {
            into.extend(object.keys().cloned());
            object.values().for_each(|inner| collect(inner, into));
        }
        value.as_array().into_iter().flatten().for_each(|inner| collect(inner, into));
    }
    let mut fields = BTreeSet::new();
    for sample in
        samples::all().iter().filter(|sample| names.iter().any(|name| sample.name.starts_with(name)))
    {
        collect(&sample.meaning, &mut fields);
    }
    fields
}

#[test]
fn idn_02_no_message_to_a_node_has_a_field_for_another() {
    let found = fields_of(&["welcome", "goodbye", "ack", "live_mode", "renew_response"]);
    let known = [
        "Issued",
        "Refused",
        "acknowledged",
        "cause",
        "chain_der",
        "clock",
        "coordinator_version",
        "duration_ms",
        "interval_ms",
        "inventory_wanted",
        "protocol",
        "report_interval_ms",
        "roots_der",
        "sequence",
        "series_wanted",
        "spool_id",
    ];
    assert_eq!(
        found,
        known.map(str::to_owned).into(),
        "a new field: does it say anything about another node?"
    );
}

#[test]
fn idn_05_no_message_of_a_node_has_a_field_for_its_rights() {
    let found = fields_of(&[
        "hello",
        "series_table",
        "gauge_report",
        "node_conditions",
        "gpu_processes",
        "spool_batch",
        "renew_request",
    ]);
    for right in [
        "name_of_node",
        "node_id",
        "label",
        "labels",
        "group",
        "groups",
        "owner",
        "role",
        "policy",
        "revoked",
        "quarantine",
    ] {
        assert!(!found.contains(right), "{right}");
    }
    assert!(found.len() > 30, "only {} fields were looked at", found.len());
}
