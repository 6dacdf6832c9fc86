//! The library as the agent's wrapper sees it: loaded by path, with a scenario that changes while it is loaded.

use nvidia_ml::Installed;
use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::TemperatureSensor;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::structs::device::FieldId;

fn load(fake: &Installed) -> Result<Nvml, NvmlError> {
    Nvml::builder().lib_path(fake.library.as_os_str()).init()
}

#[test]
fn eight_healthy_cards_without_a_scenario() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Installed::into_folder(folder.path()).unwrap();
    let nvml = load(&fake).unwrap();
    assert_eq!(nvml.device_count().unwrap(), 8);
    let last = nvml.device_by_index(7).unwrap();
    assert_eq!(last.uuid().unwrap(), "GPU-00000000-0000-4000-8000-000000000007");
    assert_eq!(last.pci_info().unwrap().bus_id, "00000000:87:00.0");
    assert_eq!(last.memory_info().unwrap().total, 85_520_809_984);
    assert_eq!(last.temperature(TemperatureSensor::Gpu).unwrap(), 54);
    assert!(last.link_wrapper_for(17).is_active().unwrap());
    assert!(matches!(last.link_wrapper_for(18).is_active(), Err(NvmlError::InvalidArg)));
    assert!(last.running_compute_processes().unwrap().is_empty());
}

#[test]
fn a_card_is_lost_and_comes_back_while_the_library_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Installed::into_folder(folder.path()).unwrap();
    fake.scenario(r#"{"gpus": [{}, {"lost": true}]}"#).unwrap();
    let nvml = load(&fake).unwrap();
    let lost = nvml.device_by_index(1).unwrap();
    assert!(matches!(lost.temperature(TemperatureSensor::Gpu), Err(NvmlError::GpuLost)));
    assert!(nvml.device_by_index(0).unwrap().uuid().is_ok());
    fake.scenario(r#"{"gpus": [{}, {"temperature": 33}]}"#).unwrap();
    assert_eq!(lost.temperature(TemperatureSensor::Gpu).unwrap(), 33);
}

#[test]
fn mig_instances_fields_and_what_is_not_supported() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Installed::into_folder(folder.path()).unwrap();
    fake.scenario(
        r#"{"gpus": [{"mig_enabled": true, "remapped_rows": [3, 1, 1, 0], "memory_temperature": null,
            "mig": [{"uuid": "MIG-1", "name": "MIG 1g.10gb", "memory_total": 10, "memory_used": 4,
                     "processes": [{"pid": 4242, "memory": null}]}]}]}"#,
    )
    .unwrap();
    let nvml = load(&fake).unwrap();
    let card = nvml.device_by_index(0).unwrap();
    let instance = card.mig_device_by_index(0).unwrap();
    assert_eq!(instance.uuid().unwrap(), "MIG-1");
    assert_eq!(instance.memory_info().unwrap().free, 6);
    assert_eq!(instance.running_compute_processes().unwrap()[0].pid, 4242);
    assert!(matches!(card.mig_device_by_index(1), Err(NvmlError::NotFound)));
    let fields = card.field_values_for(&[FieldId(82), FieldId(142), FieldId(144)]).unwrap();
    let values: Vec<_> = fields.into_iter().map(|field| field.unwrap().value.ok()).collect();
    assert_eq!(format!("{values:?}"), "[None, Some(U32(3)), Some(U32(1))]");
}

#[test]
fn faults_are_codes_of_nvml() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Installed::into_folder(folder.path()).unwrap();
    fake.scenario(r#"{"init_error": 18}"#).unwrap();
    assert!(matches!(load(&fake), Err(NvmlError::LibRmVersionMismatch)));
    fake.scenario(
        r#"{"gpus": [{}], "faults": [{"function": "nvmlDeviceGetName", "gpu": 0, "effect": {"error": 999}}]}"#,
    )
    .unwrap();
    let nvml = load(&fake).unwrap();
    assert!(matches!(nvml.device_by_index(0).unwrap().name(), Err(NvmlError::Unknown)));
}

#[test]
fn a_hang_ends_with_the_folder_of_the_test_that_wanted_it() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Installed::into_folder(folder.path()).unwrap();
    fake.scenario(r#"{"faults": [{"function": "nvmlDeviceGetCount_v2", "effect": "hang"}]}"#).unwrap();
    let nvml = load(&fake).unwrap();
    std::thread::scope(|scope| {
        let call = scope.spawn(|| nvml.device_count().unwrap());
        drop(folder);
        assert_eq!(call.join().unwrap(), 8);
    });
}
