//! The tables of `aimctl node show`: disks, file systems, interfaces, HCAs, GPUs, with their newest values.

use aim_common::inventory::{
    Disks, FilesystemState, Filesystems, GpuLibraryState, GpuState, Gpus, Infiniband, LinkLayer, Network,
    Text,
};
use aim_common::metric::Metric;

use super::show::fact;
use super::values::Readings;
use crate::output::{Cell, Grid, Tone, text};

fn word(value: &Text) -> String {
    value.as_str().to_owned()
}

/// Disks with what was read and written since boot.
pub(super) fn disks(disks: &Disks, readings: &Readings<'_>) -> Grid {
    let mut grid = Grid::new([
        ("NAME", 0),
        ("SIZE", 0),
        ("KIND", 3),
        ("READ", 2),
        ("WRITTEN", 2),
        ("PARTITIONS", 4),
        ("SERIAL", 1),
        ("MODEL", 0),
    ]);
    for disk in &disks.disks {
        let name = disk.name.as_str();
        grid.row(vec![
            Cell::new(name),
            fact(&disk.size_bytes, |bytes| text::bytes(*bytes)),
            fact(&disk.rotational, |spins| if *spins { "disk" } else { "flash" }.to_owned()),
            readings.cell(Metric::DiskReadBytes, name),
            readings.cell(Metric::DiskWrittenBytes, name),
            Cell::new(disk.partitions.len().to_string()),
            fact(&disk.serial, word),
            fact(&disk.model, word),
        ]);
    }
    grid
}

/// File systems with what is free now.
pub(super) fn filesystems(filesystems: &Filesystems, readings: &Readings<'_>) -> Grid {
    let mut grid = Grid::new([
        ("MOUNT POINT", 0),
        ("SIZE", 0),
        ("AVAILABLE", 0),
        ("STATE", 1),
        ("TYPE", 2),
        ("SOURCE", 3),
    ]);
    for filesystem in &filesystems.filesystems {
        let mount_point = filesystem.mount_point.as_str();
        grid.row(vec![
            Cell::new(mount_point),
            fact(&filesystem.size_bytes, |bytes| text::bytes(*bytes)),
            readings.cell(Metric::FilesystemAvailable, mount_point),
            match filesystem.state {
                FilesystemState::Responding => Cell::new("responding").tone(Tone::Good),
                FilesystemState::Unresponsive => Cell::new("unresponsive").tone(Tone::Bad),
                FilesystemState::Failed => Cell::new("failed").tone(Tone::Bad),
                FilesystemState::NotYet => Cell::new("? (not yet)").tone(Tone::Dim),
            },
            Cell::new(filesystem.fs_type.as_str()),
            Cell::new(filesystem.source.as_str()),
        ]);
    }
    grid
}

/// Interfaces with their traffic since boot.
pub(super) fn network(network: &Network, readings: &Readings<'_>) -> Grid {
    let mut grid = Grid::new([
        ("NAME", 0),
        ("STATE", 0),
        ("SPEED", 1),
        ("MTU", 4),
        ("RECEIVED", 2),
        ("SENT", 2),
        ("DRIVER", 3),
        ("MAC", 1),
    ]);
    for interface in &network.interfaces {
        let name = interface.name.as_str();
        grid.row(vec![
            Cell::new(name),
            fact(&interface.state, word),
            fact(&interface.speed_mbps, |mbps| text::link_speed(*mbps)),
            fact(&interface.mtu, u32::to_string),
            readings.cell(Metric::NetworkReceiveBytes, name),
            readings.cell(Metric::NetworkTransmitBytes, name),
            fact(&interface.driver, word),
            fact(&interface.mac, word),
        ]);
    }
    grid
}

/// Every port of every HCA.
pub(super) fn infiniband(infiniband: &Infiniband, readings: &Readings<'_>) -> Grid {
    let mut grid = Grid::new([
        ("PORT", 0),
        ("STATE", 0),
        ("RATE", 0),
        ("LAYER", 2),
        ("DOWNED", 1),
        ("SYMBOL ERRORS", 1),
        ("NETDEV", 4),
        ("FIRMWARE", 3),
    ]);
    for device in &infiniband.devices {
        for port in &device.ports {
            let name = format!("{}/{}", device.name.as_str(), port.number);
            let state = fact(&port.state, word);
            let tone = if state.text() == "ACTIVE" { Tone::Good } else { Tone::Bad };
            grid.row(vec![
                Cell::new(&name),
                state.tone(tone),
                fact(&port.rate, word),
                fact(&port.link_layer, |layer| match layer {
                    LinkLayer::Infiniband => "InfiniBand".to_owned(),
                    LinkLayer::Ethernet => "Ethernet".to_owned(),
                    LinkLayer::Other(other) => word(other),
                }),
                readings.cell(Metric::InfinibandLinkDowned, &name),
                readings.cell(Metric::InfinibandSymbolErrors, &name),
                fact(&port.netdev, word),
                fact(&device.firmware, word),
            ]);
        }
    }
    grid
}

/// How the GPU library does.
pub(super) fn library(state: &GpuLibraryState) -> Cell {
    match state {
        GpuLibraryState::Working => Cell::new("working").tone(Tone::Good),
        GpuLibraryState::NotPresent => Cell::new("no GPU on the PCI bus"),
        GpuLibraryState::LibraryMissing => {
            Cell::new("cards, but no library: libnvidia-ml.so.1 is missing").tone(Tone::Bad)
        }
        GpuLibraryState::DriverNotLoaded => Cell::new("driver not loaded").tone(Tone::Bad),
        GpuLibraryState::DriverMismatch => Cell::new("library and kernel module differ").tone(Tone::Bad),
        GpuLibraryState::Unresponsive(call) => {
            Cell::new(format!("hangs in {}", call.as_str())).tone(Tone::Bad)
        }
        GpuLibraryState::Failing(why) => Cell::new(format!("failing: {}", why.as_str())).tone(Tone::Bad),
    }
}

/// GPUs with their newest values.
pub(super) fn gpus(gpus: &Gpus, readings: &Readings<'_>) -> Grid {
    let mut grid = Grid::new([
        ("GPU", 0),
        ("STATE", 0),
        ("UTIL", 1),
        ("MEMORY", 1),
        ("OF", 3),
        ("TEMP", 2),
        ("POWER", 2),
        ("CAP", 6),
        ("PCI", 4),
        ("SERIAL", 7),
        ("UUID", 8),
        ("MODEL", 5),
    ]);
    for gpu in &gpus.gpus {
        let uuid = gpu.uuid.known().map_or("", Text::as_str);
        grid.row(vec![
            Cell::new(gpu.index.to_string()),
            match &gpu.state {
                GpuState::Working => Cell::new("working").tone(Tone::Good),
                GpuState::Lost => Cell::new("lost").tone(Tone::Bad),
                GpuState::ResetRequired => Cell::new("reset required").tone(Tone::Bad),
                GpuState::Failing(why) => Cell::new(format!("failing: {}", why.as_str())).tone(Tone::Bad),
            },
            readings.cell(Metric::GpuUtilization, uuid),
            readings.cell(Metric::GpuMemoryUsed, uuid),
            fact(&gpu.memory_bytes, |bytes| text::bytes(*bytes)),
            readings.cell(Metric::GpuTemperature, uuid),
            readings.cell(Metric::GpuPower, uuid),
            readings.cell(Metric::GpuPowerLimit, uuid),
            fact(&gpu.pci_address, word),
            fact(&gpu.serial, word),
            fact(&gpu.uuid, word),
            fact(&gpu.model, word),
        ]);
    }
    grid
}
