//! Mainboard and chassis identity, from `/sys/class/dmi/id`. Serials are for root only: unknown, with that reason.

use std::path::PathBuf;

use aim_common::inventory::{Dmi, Section};

use super::source;
use super::{CollectError, Collector, Roots, SampleSink};

/// Reads the firmware's identity.
#[derive(Debug)]
pub(super) struct DmiCollector {
    directory: PathBuf,
}

impl DmiCollector {
    /// Below these roots.
    pub(super) fn new(roots: &Roots) -> Self {
        Self { directory: roots.sys.join("class/dmi/id") }
    }
}

impl Collector for DmiCollector {
    fn name(&self) -> &'static str {
        "dmi"
    }

    fn inventory(&mut self) -> Result<Option<Section>, CollectError> {
        if let Err(error) = std::fs::metadata(&self.directory) {
            return Err(source::failure(&self.directory, error));
        }
        let fact = |name: &str| source::text_fact(&self.directory.join(name));
        Ok(Some(Section::Dmi(Dmi {
            system_vendor: fact("sys_vendor"),
            product_name: fact("product_name"),
            product_serial: fact("product_serial"),
            product_uuid: fact("product_uuid"),
            board_vendor: fact("board_vendor"),
            board_name: fact("board_name"),
            board_serial: fact("board_serial"),
            chassis_serial: fact("chassis_serial"),
            bios_vendor: fact("bios_vendor"),
            bios_version: fact("bios_version"),
            bios_date: fact("bios_date"),
        })))
    }

    fn sample(&mut self, _sink: &mut SampleSink) -> Result<(), CollectError> {
        Ok(())
    }
}
