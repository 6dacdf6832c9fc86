//! The cards of the node, those that are lost included: answers of the library laid over the PCI bus.

use std::collections::BTreeMap;

use aim_common::inventory::{Fact, Gpu, GpuLibraryState, GpuState, List, PcieLink, Text, UnknownReason};

use super::pci::PciDevices;
use super::talk::{GpuView, hang_of};

/// Cards remembered at most; a node has 16.
const MOST_CARDS: usize = 256;

/// Every card that was ever seen by this agent.
#[derive(Debug, Default)]
pub(super) struct Cards {
    known: BTreeMap<Text, Gpu>,
}

impl Cards {
    /// The cards by PCI address (or `gpu N` where that was never told), in that order.
    pub(super) fn list(&self) -> impl Iterator<Item = (&Text, &Gpu)> {
        self.known.iter()
    }

    /// Takes what library and bus say now.
    pub(super) fn update(&mut self, view: &GpuView, bus: &PciDevices) {
        let absent = state_of_absent(view);
        for gpu in self.known.values_mut() {
            gpu.state = absent.clone();
        }
        for card in &bus.cards {
            if !self.known.contains_key(&card.address) {
                let unread = unread(Fact::Known(card.address.clone()), absent.clone());
                self.insert(card.address.clone(), unread);
            }
        }
        for (index, now) in &view.gpus {
            let address = &now.reading.pci_address;
            let key = address.known().cloned().unwrap_or_else(|| Text::truncated(&format!("gpu {index}")));
            let remembered = self.known.get(&key);
            let mut gpu = now
                .facts
                .as_deref()
                .or(remembered)
                .cloned()
                .unwrap_or_else(|| unread(address.clone(), GpuState::Working));
            gpu.index = *index;
            if now.reading.uuid.known().is_some() {
                gpu.uuid = now.reading.uuid.clone();
            }
            gpu.state = match hang_of(view, *index) {
                Some(hang) => GpuState::Failing(Text::truncated(&format!("no answer from {}", hang.call))),
                None => now.reading.state.clone(),
            };
            self.insert(key, gpu);
        }
        for card in &bus.cards {
            if let Some(gpu) = self.known.get_mut(&card.address) {
                gpu.numa_node = card.numa_node.clone();
            }
        }
    }

    fn insert(&mut self, key: Text, gpu: Gpu) {
        if self.known.len() < MOST_CARDS || self.known.contains_key(&key) {
            self.known.insert(key, gpu);
        }
    }
}

/// What is to be said of a card that the library does not list.
fn state_of_absent(view: &GpuView) -> GpuState {
    let failing = |why: &str| GpuState::Failing(Text::truncated(why));
    if let Some(hang) = view.hangs.first() {
        return failing(&format!("the library hangs in {}", hang.call));
    }
    let Some(library) = &view.library else { return failing("the library has not answered yet") };
    match &library.state {
        // Every GPU that the library lists has answered: this one is not among them.
        GpuLibraryState::Working if view.settled => GpuState::Lost,
        GpuLibraryState::Working => failing("not read yet"),
        GpuLibraryState::NotPresent | GpuLibraryState::LibraryMissing => failing("the library is missing"),
        GpuLibraryState::DriverNotLoaded => failing("no driver is loaded"),
        GpuLibraryState::DriverMismatch => failing("library and kernel module are of different versions"),
        GpuLibraryState::Unresponsive(call) => failing(&format!("the library hangs in {}", call.as_str())),
        GpuLibraryState::Failing(why) => failing(why),
    }
}

/// A card of which nothing was read.
fn unread(pci_address: Fact<Text>, state: GpuState) -> Gpu {
    fn unknown<T>() -> Fact<T> {
        Fact::Unknown(UnknownReason::Unresponsive)
    }
    Gpu {
        index: u32::MAX,
        uuid: unknown(),
        model: unknown(),
        serial: unknown(),
        pci_address,
        vbios: unknown(),
        inforom: unknown(),
        memory_bytes: unknown(),
        default_power_limit_milliwatts: unknown(),
        max_power_limit_milliwatts: unknown(),
        pcie: PcieLink { max_generation: unknown(), max_width: unknown() },
        ecc_enabled: unknown(),
        persistence_mode: unknown(),
        compute_mode: unknown(),
        mig_enabled: unknown(),
        mig_instances: List::default(),
        nvlinks: List::default(),
        numa_node: Fact::Unknown(UnknownReason::NotSupported),
        state,
    }
}
