//! The node's devices: disks, network, InfiniBand, sensors, GPUs.

use std::fs;

use super::{GPUS, HCAS, HostTree};

impl HostTree {
    pub(crate) fn disks(&self) {
        let mut diskstats = Vec::new();
        for disk in 0..4 {
            let controller = format!("sys/devices/pci0000:80/0000:8{disk}:00.0/nvme/nvme{disk}");
            let directory = format!("{controller}/nvme{disk}n1");
            let (serial, wwid) = (format!("S6CXNN0W80{disk}"), format!("eui.36434630588000{disk}"));
            self.write_all(
                &controller,
                &[("model", "SAMSUNG MZQL23T8HCLS-00A07"), ("serial", &serial), ("firmware_rev", "GDC5902Q")],
            );
            self.write_all(
                &directory,
                &[
                    ("dev", &format!("259:{disk}")),
                    ("size", "7501476528"),
                    ("removable", "0"),
                    ("ro", "0"),
                    ("hidden", "0"),
                    ("wwid", &wwid),
                    ("queue/rotational", "0"),
                ],
            );
            fs::create_dir(self.path(&format!("{directory}/slaves"))).unwrap();
            self.link(&format!("{directory}/device"), &controller);
            self.link(&format!("sys/block/nvme{disk}n1"), &directory);
            diskstats.push(format!(
                " 259       {disk} nvme{disk}n1 100 1 2048 500 200 2 4096 600 {disk} 700 1100 0 0 0 0 9 9"
            ));
        }
        for (partition, size) in [(1, "2203648"), (2, "7499270144")] {
            let name = format!("nvme0n1p{partition}");
            self.write_all(
                &format!("sys/block/nvme0n1/{name}"),
                &[("partition", &partition.to_string()), ("size", size)],
            );
            diskstats.push(format!(" 259       9 {name} 1 1 1 1 1 1 1 1 0 1 1"));
        }
        self.scsi_disk();
        // What lsblk -d leaves out: an empty loop device, a RAM disk, a path of a multipath NVMe, a stacked device.
        self.write_all("sys/block/loop0", &[("dev", "7:0"), ("size", "0")]);
        self.write_all("sys/block/ram0", &[("dev", "1:0"), ("size", "8192")]);
        self.write_all("sys/block/nvme0c0n1", &[("dev", "259:77"), ("size", "7501476528"), ("hidden", "1")]);
        self.write_all("sys/block/dm-0", &[("dev", "253:0"), ("size", "7499270144")]);
        self.link("sys/block/dm-0/slaves/nvme0n1p2", "sys/block/nvme0n1/nvme0n1p2");
        // What it shows: a loop device with a file.
        self.write_all("sys/block/loop1", &[("dev", "7:1"), ("size", "100"), ("loop/backing_file", "/a b")]);
        diskstats.push("   7       0 loop0 0 0 0 0 0 0 0 0 0 0 0\n   7       1 loop1 5 0 10 0 0 0 0 0 0 0 0\n 253       0 dm-0 1 1 1 1 1 1 1 1 0 1 1".to_owned());
        diskstats.push("   8       0 sda 7 0 16 1 0 0 0 0 0 1 1".to_owned());
        self.write("proc/diskstats", &diskstats.join("\n"));
    }

    fn scsi_disk(&self) {
        self.write_all(
            "sys/block/sda",
            &[
                ("dev", "8:0"),
                ("size", "937703088"),
                ("removable", "0"),
                ("ro", "1"),
                ("queue/rotational", "1"),
            ],
        );
        self.write_all(
            "sys/block/sda/device",
            &[("model", "MICRON 5400 PRO "), ("rev", "A001"), ("wwid", "naa.500a0751")],
        );
        fs::write(self.path("sys/block/sda/device/vpd_pg80"), b"\x00\x80\x00\x0a   MSA1234trailing").unwrap();
    }

    pub(crate) fn network(&self) {
        let mut dev = vec![
            "Inter-|   Receive                            |  Transmit".to_owned(),
            " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop"
                .to_owned(),
        ];
        let mut add = |index: u32, name: &str, device: Option<&str>, driver: &str, files: &[(&str, &str)]| {
            let directory = device
                .map_or(format!("sys/devices/virtual/net/{name}"), |device| format!("{device}/net/{name}"));
            let index = index.to_string();
            self.write_all(
                &directory,
                &[("ifindex", &index), ("iflink", &index), ("carrier_changes", "2"), ("dev_port", "0")],
            );
            self.write_all(&directory, files);
            if let Some(device) = device {
                self.link(&format!("{directory}/device"), device);
                if !self.path(&format!("{device}/driver")).exists() {
                    self.link(&format!("{device}/driver"), &format!("sys/bus/pci/drivers/{driver}"));
                }
            }
            self.link(&format!("sys/class/net/{name}"), &directory);
            dev.push(format!("{name:>6}: {index}000 {index}00 1 2 0 0 0 0 {index}001 {index}01 3 4 0 0 0 0"));
        };
        add(
            1,
            "lo",
            None,
            "",
            &[("address", "00:00:00:00:00:00"), ("mtu", "65536"), ("operstate", "unknown")],
        );
        for port in 0..2 {
            let device = format!("sys/devices/pci0000:70/0000:71:00.{port}");
            self.write(&format!("{device}/numa_node"), "0");
            let mac = format!("7c:c2:55:00:00:0{port}");
            let files = [
                ("address", mac.as_str()),
                ("mtu", "9000"),
                ("operstate", "up"),
                ("speed", "200000"),
                ("duplex", "full"),
            ];
            add(2 + port, &format!("ens1f{port}np{port}"), Some(&device), "mlx5_core", &files);
        }
        add(
            4,
            "bond0",
            None,
            "",
            &[
                ("address", "7c:c2:55:00:00:00"),
                ("mtu", "9000"),
                ("operstate", "up"),
                ("speed", "400000"),
                ("duplex", "full"),
            ],
        );
        add(
            5,
            "eno1",
            Some("sys/devices/pci0000:00/0000:01:00.0"),
            "ixgbe",
            &[
                ("address", "3c:ec:ef:00:00:01"),
                ("mtu", "1500"),
                ("operstate", "down"),
                ("speed", "-1"),
                ("duplex", "unknown"),
            ],
        );
        // One end of a container's pair: in the inventory, without series.
        add(
            90,
            "veth1a2b",
            None,
            "",
            &[("address", "de:ad:be:ef:00:01"), ("mtu", "1500"), ("operstate", "up"), ("iflink", "2")],
        );
        self.write("sys/class/net/bonding_masters", "bond0");
        for (number, hca) in HCAS.iter().enumerate() {
            let device = pci(hca);
            self.write(&format!("{device}/numa_node"), if number < 4 { "0" } else { "1" });
            let files = [
                ("address", "00:00:10:29:fe:80"),
                ("mtu", "4092"),
                ("operstate", "up"),
                ("speed", "400000"),
                ("duplex", "full"),
            ];
            add(
                10 + u32::try_from(number).unwrap(),
                &format!("ib{number}"),
                Some(&device),
                "mlx5_core",
                &files,
            );
        }
        self.write("proc/net/dev", &dev.join("\n"));
    }

    pub(crate) fn infiniband(&self) {
        for (number, address) in HCAS.iter().enumerate() {
            let lid = format!("{:#x}", 0x1a + number);
            self.hca(
                &format!("mlx5_{number}"),
                &pci(address),
                "MT_0000000838",
                "InfiniBand",
                "400 Gb/sec (4X NDR)",
                &lid,
            );
        }
        self.hca(
            "mlx5_bond_0",
            "sys/devices/pci0000:70/0000:71:00.0",
            "MT_0000000359",
            "Ethernet",
            "200 Gb/sec (4X HDR)",
            "0x0",
        );
        self.write("sys/class/infiniband/mlx5_bond_0/ports/1/gid_attrs/ndevs/0", "bond0");
        let hardware = [
            ("out_of_sequence", "11"),
            ("packet_seq_err", "12"),
            ("local_ack_timeout_err", "13"),
            ("lifespan", "10"),
        ];
        self.write_all("sys/class/infiniband/mlx5_bond_0/ports/1/hw_counters", &hardware);
    }

    fn hca(&self, name: &str, device: &str, board: &str, link_layer: &str, rate: &str, lid: &str) {
        let directory = format!("{device}/infiniband/{name}");
        self.write_all(
            &directory,
            &[
                ("board_id", board),
                ("fw_ver", "28.39.3004"),
                ("hca_type", "MT4129"),
                ("node_guid", "a088:c203:0012:3456"),
            ],
        );
        self.link(&format!("{directory}/device"), device);
        self.link(&format!("sys/class/infiniband/{name}"), &directory);
        let port = format!("{directory}/ports/1");
        self.write_all(
            &port,
            &[
                ("link_layer", link_layer),
                ("state", "4: ACTIVE"),
                ("phys_state", "5: LinkUp"),
                ("rate", rate),
                ("lid", lid),
                ("sm_lid", "0x1"),
            ],
        );
        let zeros = [
            "link_error_recovery",
            "local_link_integrity_errors",
            "port_rcv_errors",
            "port_rcv_remote_physical_errors",
            "port_rcv_switch_relay_errors",
            "port_xmit_discards",
            "excessive_buffer_overrun_errors",
        ];
        for counter in zeros {
            self.write(&format!("{port}/counters/{counter}"), "0");
        }
        self.write_all(
            &format!("{port}/counters"),
            &[
                ("port_rcv_data", "1000"),
                ("port_xmit_data", "2000"),
                ("port_rcv_packets", "30"),
                ("port_xmit_packets", "40"),
                ("symbol_error", "5"),
                ("link_downed", "1"),
                ("port_xmit_wait", "77"),
                ("port_rcv_constraint_errors", "2"),
                ("port_xmit_constraint_errors", "3"),
                ("VL15_dropped", "N/A (no PMA)"),
            ],
        );
    }

    pub(crate) fn sensors(&self) {
        for package in 0..2 {
            let device = format!("sys/devices/platform/coretemp.{package}");
            let chip = format!("{device}/hwmon/hwmon{package}");
            let label = format!("Package id {package}");
            self.write_all(
                &chip,
                &[
                    ("name", "coretemp"),
                    ("temp1_input", "41000"),
                    ("temp1_label", &label),
                    ("temp1_crit", "100000"),
                    ("temp2_input", "39000"),
                    ("temp2_label", "Core 0"),
                    ("temp3_input", "40000"),
                    ("temp3_label", "Core 1"),
                ],
            );
            self.link(&format!("{chip}/device"), &device);
            self.link(&format!("sys/class/hwmon/hwmon{package}"), &chip);
        }
        // A chip without a device, two fans of one label, and power in µW.
        self.write_all(
            "sys/class/hwmon/hwmon2",
            &[
                ("name", "nct6798"),
                ("fan1_input", "8400"),
                ("fan1_label", "FAN"),
                ("fan2_input", "8500"),
                ("fan2_label", "FAN"),
                ("power1_average", "2150500000"),
                ("temp1_input", "-5500"),
            ],
        );
        self.write_all("sys/class/thermal/thermal_zone0", &[("type", "acpitz"), ("temp", "27800")]);
        self.write_all("sys/class/hwmon/hwmon3", &[("name", "acpitz"), ("temp1_input", "27800")]);
        self.link("sys/class/hwmon/hwmon3/device", "sys/class/thermal/thermal_zone0");
    }

    /// The cards on the PCI bus, as the kernel shows them without any driver's help.
    pub(crate) fn gpus(&self) {
        for (number, address) in GPUS.iter().enumerate() {
            let device = pci(address);
            let numa_node = if number < 4 { "0" } else { "1" };
            self.write_all(
                &device,
                &[
                    ("vendor", "0x10de"),
                    ("device", "0x2330"),
                    ("class", "0x030200"),
                    ("numa_node", numa_node),
                ],
            );
            self.link(&format!("sys/bus/pci/devices/{address}"), &device);
        }
    }
}

fn pci(address: &str) -> String {
    format!("sys/devices/pci{}/{address}", &address[..7])
}
