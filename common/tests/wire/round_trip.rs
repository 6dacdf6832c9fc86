//! What is written is read back as it was, for any value of every message and section.

use aim_common::inventory::{self, Section};
use aim_common::protocol::{
    Ack, GaugeReport, Goodbye, GpuProcesses, Hello, LiveMode, NodeConditions, RenewRequest, RenewResponse,
    SeriesTable, SpoolBatch, Welcome,
};
use aim_common::wire::{Message, encode};
use proptest::prelude::*;

use crate::any::any_value;
use crate::samples::{PROTOCOL, decode_bytes};

fn check<M: Message + PartialEq + std::fmt::Debug>(message: &M) -> Result<(), TestCaseError> {
    let bytes = encode(PROTOCOL, message).unwrap();
    prop_assert_eq!(&decode_bytes::<M>(&bytes).unwrap().unwrap(), message);
    Ok(())
}

fn check_section(section: &Section) -> Result<(), TestCaseError> {
    let encoded = section.encode().unwrap();
    let decoded = Section::decode(&encoded).unwrap().unwrap();
    prop_assert_eq!(&decoded, section);
    Ok(())
}

macro_rules! messages {
    ($($name:ident: $message:ty;)*) => {
        proptest! { $(#[test] fn $name(message in any_value::<$message>()) { check(&message)?; })* }
    };
}

messages! {
    inj_04_hello_is_read_as_written: Hello;
    inj_04_welcome_is_read_as_written: Welcome;
    inj_04_goodbye_is_read_as_written: Goodbye;
    inj_04_ack_is_read_as_written: Ack;
    inj_04_live_mode_is_read_as_written: LiveMode;
    inj_04_series_table_is_read_as_written: SeriesTable;
    inj_04_gauge_report_is_read_as_written: GaugeReport;
    inj_04_node_conditions_is_read_as_written: NodeConditions;
    inj_04_gpu_processes_is_read_as_written: GpuProcesses;
    inj_04_spool_batch_is_read_as_written: SpoolBatch;
    inj_04_renew_request_is_read_as_written: RenewRequest;
    inj_04_renew_response_is_read_as_written: RenewResponse;
}

macro_rules! sections {
    ($($variant:ident($body:ty),)*) => {
        fn any_section() -> impl Strategy<Value = Section> {
            prop_oneof![$(any_value::<$body>().prop_map(Section::$variant),)*]
        }
    };
}

sections! {
    System(inventory::System),
    Dmi(inventory::Dmi),
    Cpu(inventory::Cpu),
    Memory(inventory::Memory),
    Disks(inventory::Disks),
    Filesystems(inventory::Filesystems),
    Network(inventory::Network),
    Infiniband(inventory::Infiniband),
    Gpus(inventory::Gpus),
    Agent(inventory::AgentFacts),
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn inj_04_every_section_is_read_as_written(section in any_section()) {
        check_section(&section)?;
    }
}
