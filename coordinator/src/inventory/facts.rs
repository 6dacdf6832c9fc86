//! What lists, filters and the search read from the inventory's sections.

use std::collections::BTreeSet;

use aim_common::inventory::{Fact, GpuState, Section, Text};

/// Longest text that the search looks through for one node; a node cannot make the list slow by long serials (DOS-04).
const SEARCH_BYTES: usize = 16 * 1024;

/// The few facts that every list shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Kernel release.
    pub kernel_release: Option<String>,
    /// Operating system.
    pub os_name: Option<String>,
    /// Logical CPUs.
    pub cpu_threads: Option<u32>,
    /// Memory in bytes.
    pub memory_bytes: Option<u64>,
    /// GPU models, joined by ", ".
    pub gpu_model: Option<String>,
    /// GPUs that answer.
    pub gpus_working: Option<u32>,
    /// GPUs in all.
    pub gpus_total: Option<u32>,
    /// Models and serials in lower case, one a line.
    pub search: String,
}

fn text(fact: &Fact<Text>) -> Option<&str> {
    fact.known().map(|text| &**text)
}

impl Facts {
    /// Reads the sections.
    pub fn read<'a>(sections: impl IntoIterator<Item = &'a Section>) -> Self {
        let mut facts = Self::default();
        let mut words: Vec<&str> = Vec::new();
        for section in sections {
            match section {
                Section::System(system) => {
                    facts.kernel_release = Some(system.kernel_release.to_string());
                    facts.os_name = text(&system.os_name).map(str::to_owned);
                    words.push(&system.hostname);
                }
                Section::Dmi(dmi) => {
                    let known = [
                        &dmi.system_vendor,
                        &dmi.product_name,
                        &dmi.product_serial,
                        &dmi.board_serial,
                        &dmi.chassis_serial,
                    ];
                    words.extend(known.into_iter().filter_map(text));
                }
                Section::Cpu(cpu) => {
                    facts.cpu_threads = cpu.threads.known().copied();
                    words.extend(text(&cpu.model));
                }
                Section::Memory(memory) => {
                    facts.memory_bytes = memory.total_bytes.known().copied();
                    let dimms = memory.dimms.known();
                    words.extend(dimms.into_iter().flatten().filter_map(|dimm| text(&dimm.serial)));
                }
                Section::Disks(disks) => {
                    for disk in &disks.disks {
                        words.extend([&disk.model, &disk.serial].into_iter().filter_map(text));
                    }
                }
                Section::Network(network) => {
                    words.extend(network.interfaces.iter().filter_map(|interface| text(&interface.mac)));
                }
                Section::Infiniband(infiniband) => {
                    words.extend(infiniband.devices.iter().filter_map(|device| text(&device.node_guid)));
                }
                Section::Gpus(gpus) => {
                    let models: BTreeSet<&str> =
                        gpus.gpus.iter().filter_map(|gpu| text(&gpu.model)).collect();
                    if !models.is_empty() {
                        facts.gpu_model = Some(models.iter().copied().collect::<Vec<_>>().join(", "));
                    }
                    let working = gpus.gpus.iter().filter(|gpu| gpu.state == GpuState::Working).count();
                    facts.gpus_working = u32::try_from(working).ok();
                    facts.gpus_total = u32::try_from(gpus.gpus.len()).ok();
                    words.extend(models);
                    for gpu in &gpus.gpus {
                        words.extend([&gpu.serial, &gpu.uuid].into_iter().filter_map(text));
                    }
                }
                Section::Filesystems(_) | Section::Agent(_) => {}
            }
        }
        for word in words {
            if facts.search.len() + word.len() > SEARCH_BYTES {
                break;
            }
            facts.search.push_str(&word.to_ascii_lowercase());
            facts.search.push('\n');
        }
        facts
    }
}
