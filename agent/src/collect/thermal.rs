//! Temperatures, fans and power: hwmon's sensors and the thermal zones that have none there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use aim_common::inventory::{Text, UnknownReason};
use aim_common::metric::Metric;

use super::source::{self, KeptFile};
use super::{CollectError, Collector, Roots, Round, SampleSink};

/// Most sensors of one node.
const MAX_SENSORS: usize = 256;
/// Rounds between two looks for new sensors: a minute at the longest interval in use, none at all in between.
const ROUNDS_BETWEEN_SCANS: u32 = 60;

/// What hwmon measures that is reported: file prefix, file suffix, metric, units of the file in one of the metric's
/// (Linux: Documentation/hwmon/sysfs-interface.rst).
const KINDS: [(&str, &str, Metric, f64); 4] = [
    ("temp", "_input", Metric::Temperature, 1e3),
    ("fan", "_input", Metric::FanSpeed, 1.0),
    ("power", "_input", Metric::SensorPower, 1e6),
    ("power", "_average", Metric::SensorPower, 1e6),
];

/// One sensor.
#[derive(Debug)]
struct Sensor {
    name: String,
    metric: Metric,
    divisor: f64,
    file: KeptFile,
}

/// Reads sensors.
#[derive(Debug)]
pub(super) struct ThermalCollector {
    hwmon: PathBuf,
    zones: PathBuf,
    sensors: Vec<Sensor>,
    rounds_to_scan: u32,
    skipped: u64,
    buffer: Vec<u8>,
}

impl ThermalCollector {
    /// Below these roots.
    pub(super) fn new(roots: &Roots) -> Self {
        Self {
            hwmon: roots.sys.join("class/hwmon"),
            zones: roots.sys.join("class/thermal"),
            sensors: Vec::new(),
            rounds_to_scan: 0,
            skipped: 0,
            buffer: Vec::new(),
        }
    }

    fn scan(&mut self) {
        let mut found = Vec::new();
        for (_, chip) in source::numbered(&self.hwmon, "hwmon") {
            chip_sensors(&self.hwmon.join(chip), &mut found);
        }
        for (_, zone) in source::numbered(&self.zones, "thermal_zone") {
            found.extend(zone_sensor(&self.zones.join(&zone), &zone));
        }
        let over = found.len().saturating_sub(MAX_SENSORS);
        self.skipped += over as u64;
        found.truncate(MAX_SENSORS);
        make_unique(&mut found);
        self.sensors = found;
    }
}

impl Collector for ThermalCollector {
    fn name(&self) -> &'static str {
        "thermal"
    }

    fn sample(&mut self, sink: &mut SampleSink) -> Result<(), CollectError> {
        if sink.round == Round::Within {
            return Ok(());
        }
        if self.rounds_to_scan == 0 {
            self.scan();
            self.rounds_to_scan = ROUNDS_BETWEEN_SCANS;
        }
        self.rounds_to_scan -= 1;
        if self.sensors.is_empty() {
            return Err(CollectError::NotPresent(self.hwmon.display().to_string()));
        }
        for sensor in &mut self.sensors {
            let value = sensor.file.read_signed(&mut self.buffer).and_then(|raw| sensor.value(raw));
            sink.gauge_or_reason(sensor.metric, &sensor.name, value);
        }
        sink.counter(Metric::AgentSkippedEntries, self.name(), source::float(self.skipped));
        Ok(())
    }
}

impl Sensor {
    /// The number in the metric's unit; a fan that turns backwards and a temperature below the absolute zero are none.
    #[expect(clippy::cast_precision_loss, reason = "sensors are far below 2^53")]
    fn value(&self, raw: i64) -> Result<f64, UnknownReason> {
        let value = raw as f64 / self.divisor;
        let lowest = if self.metric == Metric::Temperature { -273.15 } else { 0.0 };
        if value >= lowest { Ok(value) } else { Err(UnknownReason::Malformed) }
    }
}

fn chip_sensors(chip: &Path, found: &mut Vec<Sensor>) {
    let device = source::link_name(&chip.join("device")).ok();
    // The kernel mirrors thermal zones as chips: those are read as zones.
    if device.as_ref().is_some_and(|device| device.starts_with("thermal_zone")) {
        return;
    }
    let Ok(chip_name) = source::fact(&chip.join("name")).and_then(|name| source::some_text(&name)) else {
        return;
    };
    let chip_name = match device {
        Some(device) => format!("{chip_name}@{device}"),
        None => chip_name.into_string(),
    };
    let (files, _) = source::entries(chip).unwrap_or_default();
    let first = found.len();
    for (prefix, suffix, metric, divisor) in KINDS {
        let number =
            |file: &String| source::number(file.strip_prefix(prefix)?.strip_suffix(suffix)?.as_bytes());
        let mut numbers: Vec<u64> = files.iter().filter_map(number).collect();
        numbers.sort_unstable();
        for number in numbers {
            let channel = format!("{prefix}{number}");
            let label = source::fact(&chip.join(format!("{channel}_label"))).unwrap_or_default();
            let label = source::some_text(&label).map_or_else(|_| channel.clone(), Text::into_string);
            let file = KeptFile::new(chip.join(format!("{channel}{suffix}")));
            found.push(Sensor { name: format!("{chip_name}/{label}"), metric, divisor, file });
        }
    }
    drop_cores_of_packages(found, first, &chip_name);
}

/// Hundreds of cores each a degree from their package's sensor are noise that each report would carry.
fn drop_cores_of_packages(found: &mut Vec<Sensor>, first: usize, chip: &str) {
    let of_chip = found.split_off(first);
    let package = format!("{chip}/Package id ");
    let core = format!("{chip}/Core ");
    let has_package = of_chip.iter().any(|sensor| sensor.name.starts_with(&package));
    found.extend(of_chip.into_iter().filter(|sensor| !(has_package && sensor.name.starts_with(&core))));
}

fn zone_sensor(zone: &Path, name: &str) -> Option<Sensor> {
    let kind = source::fact(&zone.join("type")).and_then(|kind| source::some_text(&kind)).ok()?;
    Some(Sensor {
        name: format!("{name}/{kind}"),
        metric: Metric::Temperature,
        divisor: 1e3,
        file: KeptFile::new(zone.join("temp")),
    })
}

/// Appends a number to the second and later sensors of one name.
fn make_unique(sensors: &mut [Sensor]) {
    let mut seen = BTreeSet::new();
    for sensor in sensors {
        let plain = sensor.name.clone();
        let mut number = 1;
        while !seen.insert((sensor.metric, sensor.name.clone())) {
            number += 1;
            sensor.name = format!("{plain}#{number}");
        }
    }
}
