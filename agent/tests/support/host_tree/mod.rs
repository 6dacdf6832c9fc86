//! A GPU node's `/proc` and `/sys` in a temporary directory, written from the kernel's documentation: two sockets of 16
//! cores with two threads each, 8 GPUs, 8 InfiniBand HCAs and a RoCE bond, NVMe disks, EDAC, hwmon.

mod devices;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use aim_agent::collect::Roots;
use tempfile::TempDir;

/// The PCI addresses of the eight HCAs, in the order of their names.
pub(crate) const HCAS: [&str; 8] = [
    "0000:18:00.0",
    "0000:29:00.0",
    "0000:3a:00.0",
    "0000:4b:00.0",
    "0000:9a:00.0",
    "0000:ab:00.0",
    "0000:bc:00.0",
    "0000:cd:00.0",
];

/// The PCI addresses of the eight GPUs.
pub(crate) const GPUS: [&str; 8] = [
    "0000:19:00.0",
    "0000:2a:00.0",
    "0000:3b:00.0",
    "0000:4c:00.0",
    "0000:9b:00.0",
    "0000:ac:00.0",
    "0000:bd:00.0",
    "0000:ce:00.0",
];

/// A tree that tests can change.
pub(crate) struct HostTree {
    directory: TempDir,
}

impl HostTree {
    /// Nothing but the four roots.
    pub(crate) fn empty() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for root in ["proc", "sys", "etc", "dev"] {
            fs::create_dir(directory.path().join(root)).unwrap();
        }
        Self { directory }
    }

    /// Some parts of the GPU node: a whole one takes a busy disk a second.
    pub(crate) fn of(parts: &[fn(&Self)]) -> Self {
        let tree = Self::empty();
        for part in parts {
            part(&tree);
        }
        tree
    }

    /// The whole GPU node.
    pub(crate) fn gpu_node() -> Self {
        let tree = Self::empty();
        tree.system();
        tree.cpus();
        tree.memory();
        tree.disks();
        tree.network();
        tree.infiniband();
        tree.sensors();
        tree.gpus();
        tree
    }

    pub(crate) fn roots(&self) -> Roots {
        let root = |name: &str| self.directory.path().join(name);
        Roots { proc: root("proc"), sys: root("sys"), etc: root("etc"), dev: root("dev") }
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    /// Writes a file with its directories; a line feed is added, as the kernel does.
    pub(crate) fn write(&self, path: &str, content: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{content}\n")).unwrap();
    }

    /// Several files of one directory.
    pub(crate) fn write_all(&self, directory: &str, files: &[(&str, &str)]) {
        for (name, content) in files {
            self.write(&format!("{directory}/{name}"), content);
        }
    }

    /// A symbolic link to a place in the tree.
    pub(crate) fn link(&self, path: &str, target: &str) {
        let (path, target) = (self.path(path), self.path(target));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::create_dir_all(&target).unwrap();
        symlink(target, path).unwrap();
    }

    pub(crate) fn remove(&self, directory: &str) {
        fs::remove_dir_all(self.path(directory)).unwrap();
    }

    /// Takes everybody's right to read but the owner's, as the kernel does with serial numbers.
    pub(crate) fn for_root_only(&self, path: &str) {
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(0o400)).unwrap();
    }

    /// `/proc/stat` with this first line.
    pub(crate) fn stat(&self, cpu: &str) {
        let cpus: Vec<String> = (0..64).map(|cpu| format!("cpu{cpu} 10 0 10 100 0 0 0 0 0 0")).collect();
        let cpus = cpus.join("\n");
        let interrupts = "0 ".repeat(2000);
        self.write(
            "proc/stat",
            &format!(
                "cpu  {cpu}\n{cpus}\nintr 99 {interrupts}\nctxt 123456789\nbtime 1760000000\nprocesses 4242\n\
                 procs_running 17\nprocs_blocked 3\nsoftirq 7 1 1 1 1 1 1 1 0 0 0"
            ),
        );
    }

    pub(crate) fn system(&self) {
        self.write_all(
            "proc",
            &[
                ("sys/kernel/hostname", "gpu042"),
                ("sys/kernel/osrelease", "5.15.0-113-generic"),
                ("sys/kernel/version", "#123-Ubuntu SMP Mon Jun 10 08:16:17 UTC 2024"),
                ("sys/kernel/random/boot_id", "0f5c9d2e-8a3b-4c1d-9e7f-a1b2c3d4e5f6"),
                ("cmdline", "BOOT_IMAGE=/vmlinuz root=/dev/nvme0n1p2 ro iommu=pt default_hugepagesz=1G"),
                ("self/stat", "42 (aim-agent) S 1 42 42 0 -1 4194560 900 0 0 0 250 150 30 20 20 0 3 0 500 50000000 1536 0"),
            ],
        );
        self.write_all(
            "etc",
            &[
                ("machine-id", "0123456789abcdef0123456789abcdef"),
                ("os-release", "NAME=\"Ubuntu\"\nPRETTY_NAME=\"Ubuntu 22.04.4 LTS\"\nID=ubuntu"),
            ],
        );
        self.write_all(
            "sys/class/dmi/id",
            &[
                ("sys_vendor", "Supermicro"),
                ("product_name", "SYS-821GE-TNHR"),
                ("product_serial", "S555555X4444444"),
                ("product_uuid", "2e7d7a00-5a5a-11ee-8000-7cc255abcdef"),
                ("board_vendor", "Supermicro"),
                ("board_name", "X13DEG-OAD"),
                ("board_serial", "WM238S001234"),
                ("chassis_serial", "C8010MM12345678"),
                ("bios_vendor", "American Megatrends International, LLC."),
                ("bios_version", "2.1"),
                ("bios_date", "03/01/2024"),
            ],
        );
    }

    pub(crate) fn cpus(&self) {
        self.stat("1000 200 300 5000 400 50 60 70 0 0");
        self.write("proc/loadavg", "12.50 8.25 4.00 17/2345 99999");
        self.write("proc/uptime", "86400.55 9999999.99");
        self.write("proc/cpuinfo", "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Xeon(R) Platinum 8462Y+\nmicrocode\t: 0x2b0004d0\nflags\t\t: fpu vme msr\n\nprocessor\t: 1\nmodel name\t: other");
        for (name, microseconds) in [("cpu", 1_500_000), ("memory", 2_500_000), ("io", 3_500_000)] {
            let line = |kind| format!("{kind} avg10=0.00 avg60=0.00 avg300=0.00 total={microseconds}");
            self.write(&format!("proc/pressure/{name}"), &format!("{}\n{}", line("some"), line("full")));
        }
        let cpus = "sys/devices/system/cpu";
        self.write_all(cpus, &[("online", "0-63"), ("offline", ""), ("possible", "0-63")]);
        for cpu in 0..64 {
            // The second threads come after all first ones.
            let core = cpu % 32;
            let topology = format!("{cpus}/cpu{cpu}/topology");
            let (package, core) = ((core / 16).to_string(), (core % 16).to_string());
            self.write_all(
                &topology,
                &[("physical_package_id", &package), ("core_id", &core), ("die_id", "0")],
            );
        }
        // More policies than frequencies are read.
        for policy in 0..20 {
            let policy = format!("{cpus}/cpufreq/policy{policy}");
            self.write_all(&policy, &[("scaling_cur_freq", "2800000"), ("scaling_governor", "performance")]);
        }
        self.write(&format!("{cpus}/cpu0/cpufreq/cpuinfo_max_freq"), "4100000");
        for (node, list) in [(0, "0-15,32-47"), (1, "16-31,48-63")] {
            let directory = format!("sys/devices/system/node/node{node}");
            let memory = format!("Node {node} MemTotal:       1056563200 kB\nNode {node} MemFree:  5 kB");
            self.write_all(&directory, &[("cpulist", list), ("meminfo", &memory)]);
        }
    }

    pub(crate) fn memory(&self) {
        self.write(
            "proc/meminfo",
            "MemTotal:       2113126400 kB\nMemFree:        1800000000 kB\nMemAvailable:   2000000000 kB\n\
             Buffers:            1000 kB\nCached:         100000000 kB\nSwapCached:            0 kB\n\
             SwapTotal:       8388604 kB\nSwapFree:        8388000 kB\nDirty:               512 kB\n\
             Slab:            4000000 kB\nHugePages_Total:      64\nHugepagesize:    1048576 kB",
        );
        self.write("proc/vmstat", "nr_free_pages 12\noom_kill_disable 5\noom_kill 3\nnuma_hit 9");
        let pools = "sys/kernel/mm/hugepages";
        for (size, total, free) in [("2048", "1024", "1000"), ("1048576", "64", "16")] {
            let pool = format!("{pools}/hugepages-{size}kB");
            self.write_all(&pool, &[("nr_hugepages", total), ("free_hugepages", free)]);
        }
        for controller in 0..8 {
            let directory = format!("sys/devices/system/edac/mc/mc{controller}");
            self.write_all(
                &directory,
                &[("ce_count", "5"), ("ue_count", "0"), ("mc_name", "Intel_0 Socket#0 IMC#0")],
            );
            for dimm in 0..2 {
                let label = format!("CPU_SrcID#{}_MC#{}_Chan#{dimm}_DIMM#0", controller / 4, controller % 4);
                let files =
                    [("size", "131072"), ("dimm_label", &label), ("dimm_mem_type", "Registered-DDR5")];
                self.write_all(&format!("{directory}/dimm{dimm}"), &files);
            }
        }
        self.write("sys/firmware/dmi/tables/DMI", "binary");
        self.for_root_only("sys/firmware/dmi/tables/DMI");
    }
}

/// Runs a test's part as an ordinary user, also where the tests run as root: each Linux thread has its own user.
pub(crate) fn as_ordinary_user<T: Send>(part: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if rustix::process::geteuid().is_root() {
                let nobody = rustix::process::Uid::from_raw(65_534);
                rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            }
            part()
        });
        thread.join().unwrap()
    })
}

/// Whether a path is there for the tests on this machine.
pub(crate) fn exists(path: &str) -> bool {
    Path::new(path).exists()
}
