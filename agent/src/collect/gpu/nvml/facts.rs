//! What a GPU is.

use aim_common::inventory::{Fact, Gpu, List, MigInstance, NvLink, PcieLink, Text, UnknownReason};
use nvml_wrapper::Device;
use nvml_wrapper::enum_wrappers::device::ComputeMode;

use super::reader::Reader;
use super::{MapText, kernel_address};
use crate::collect::gpu::answers::Reading;
use crate::collect::source;

/// Reads all facts; the state is filled in by the caller, the NUMA node by the agent.
pub(super) fn read(reader: &Reader<'_>, device: &Device<'_>, mig: &[Device<'_>], known: &Reading) -> Gpu {
    let limits = reader
        .ask("nvmlDeviceGetPowerManagementLimitConstraints", || device.power_management_limit_constraints());
    let default_limit =
        reader.ask("nvmlDeviceGetPowerManagementDefaultLimit", || device.power_management_limit_default());
    Gpu {
        index: known.index,
        uuid: known.uuid.clone(),
        pci_address: known.pci_address.clone(),
        model: reader.ask("nvmlDeviceGetName", || device.name()).map_text(),
        serial: reader.ask("nvmlDeviceGetSerial", || device.serial()).map_text(),
        vbios: reader.ask("nvmlDeviceGetVbiosVersion", || device.vbios_version()).map_text(),
        inforom: reader
            .ask("nvmlDeviceGetInforomImageVersion", || device.info_rom_image_version())
            .map_text(),
        memory_bytes: reader
            .ask("nvmlDeviceGetMemoryInfo_v2", || device.memory_info())
            .map(|memory| memory.total)
            .into(),
        default_power_limit_milliwatts: default_limit.map(u64::from).into(),
        max_power_limit_milliwatts: limits.map(|limits| u64::from(limits.max_limit)).into(),
        pcie: PcieLink {
            max_generation: reader
                .ask("nvmlDeviceGetMaxPcieLinkGeneration", || device.max_pcie_link_gen())
                .into(),
            max_width: reader.ask("nvmlDeviceGetMaxPcieLinkWidth", || device.max_pcie_link_width()).into(),
        },
        ecc_enabled: reader
            .ask("nvmlDeviceGetEccMode", || device.is_ecc_enabled())
            .map(|ecc| ecc.currently_enabled)
            .into(),
        persistence_mode: reader
            .ask("nvmlDeviceGetPersistenceMode", || device.is_in_persistent_mode())
            .into(),
        compute_mode: reader
            .ask("nvmlDeviceGetComputeMode", || device.compute_mode())
            .map(|mode| Text::truncated(compute_mode(mode)))
            .into(),
        mig_enabled: reader
            .ask("nvmlDeviceGetMigMode", || device.mig_mode())
            .map(|mode| mode.current != 0)
            .into(),
        mig_instances: List::truncated(mig.iter().map(|mig| instance(reader, mig)).collect()).0,
        nvlinks: List::truncated(nvlinks(reader, device)).0,
        numa_node: Fact::Unknown(UnknownReason::NotYet),
        state: reader.state(),
    }
}

fn compute_mode(mode: ComputeMode) -> &'static str {
    match mode {
        ComputeMode::Default => "default",
        ComputeMode::ExclusiveThread => "exclusive_thread",
        ComputeMode::Prohibited => "prohibited",
        ComputeMode::ExclusiveProcess => "exclusive_process",
    }
}

fn instance(reader: &Reader<'_>, instance: &Device<'_>) -> MigInstance {
    let uuid = reader.ask("nvmlDeviceGetUUID", || instance.uuid());
    let (gpu_instance, compute_instance) = uuid.as_deref().map_or((None, None), instance_ids);
    MigInstance {
        gpu_instance: gpu_instance.ok_or(UnknownReason::NotSupported).into(),
        compute_instance: compute_instance.ok_or(UnknownReason::NotSupported).into(),
        uuid: uuid.map_text(),
        name: reader.ask("nvmlDeviceGetName", || instance.name()).map_text(),
        memory_bytes: reader
            .ask("nvmlDeviceGetMemoryInfo_v2", || instance.memory_info())
            .map(|memory| memory.total)
            .into(),
    }
}

/// Drivers before 470 name an instance `MIG-GPU-…/3/0`; newer UUIDs do not tell, and no safe call does.
fn instance_ids(uuid: &str) -> (Option<u32>, Option<u32>) {
    let mut parts = uuid.rsplitn(3, '/');
    let compute = parts.next().and_then(|part| part.parse().ok());
    let gpu = parts.next().and_then(|part| part.parse().ok());
    if gpu.is_some() { (gpu, compute) } else { (None, None) }
}

fn nvlinks(reader: &Reader<'_>, device: &Device<'_>) -> Vec<NvLink> {
    let mut links = Vec::new();
    for (number, active) in super::numbers::nvlink_states(reader, device) {
        let link = device.link_wrapper_for(number);
        let remote = match active {
            Ok(true) => reader.ask("nvmlDeviceGetNvLinkRemotePciInfo_v2", || link.remote_pci_info()),
            Ok(false) => Err(UnknownReason::NotPresent),
            Err(reason) => Err(reason),
        };
        links.push(NvLink {
            link: number,
            active: active.into(),
            version: reader.ask("nvmlDeviceGetNvLinkVersion", || link.version()).into(),
            remote_pci_address: remote.map(|pci| source::text(kernel_address(&pci.bus_id).as_bytes())).into(),
        });
    }
    links
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instance_ids_are_read_only_where_they_are_written() {
        assert_eq!(instance_ids("MIG-GPU-b8ea3855-276c/9/1"), (Some(9), Some(1)));
        assert_eq!(instance_ids("MIG-5c89852c-ba7c-5b3d-88ed-9b9b0c1c3ed8"), (None, None));
        assert_eq!(instance_ids("1/2"), (Some(1), Some(2)));
        assert_eq!(instance_ids(""), (None, None));
    }
}
