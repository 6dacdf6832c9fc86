//! Host name, kernel, operating system and boot.

use std::path::{Path, PathBuf};

use aim_common::identity::{BootId, Sha256Digest};
use aim_common::inventory::{Fact, Section, System, Text, UnknownReason};
use aim_common::units::EpochMs;

use super::source;
use super::{CollectError, Collector, Roots, SampleSink};

/// `btime` is wall clock less time since boot: it moves with every small correction of the clock.
const BOOT_TIME_TOLERANCE_MS: i64 = 2_000;
/// Enough of `/proc/cpuinfo` for the first processor's flags.
const CPUINFO_START: u64 = 8 * 1024;
/// Enough of an os-release file.
const OS_RELEASE: u64 = 16 * 1024;

/// Firmware vendors and products that are hypervisors, with systemd-detect-virt's word.
const HYPERVISORS: [(&str, &str); 9] = [
    ("QEMU", "qemu"),
    ("KVM", "kvm"),
    ("VMware", "vmware"),
    ("VirtualBox", "oracle"),
    ("Xen", "xen"),
    ("Virtual Machine", "microsoft"),
    ("Amazon EC2", "amazon"),
    ("Google Compute Engine", "google"),
    ("Alibaba Cloud ECS", "alibaba"),
];

/// Reads what the system is.
#[derive(Debug)]
pub struct SystemCollector {
    roots: Roots,
    /// The boot time said before: kept while the clock is only corrected a little.
    booted: Option<EpochMs>,
}

impl SystemCollector {
    /// Below these roots.
    pub fn new(roots: &Roots) -> Self {
        Self { roots: roots.clone(), booted: None }
    }

    fn booted(&mut self) -> Result<EpochMs, CollectError> {
        let path = self.roots.proc.join("stat");
        let stat = std::fs::read(&path).map_err(|error| source::failure(&path, error))?;
        let mut fields = source::lines(&stat).rev().map(source::words);
        let seconds = fields.find_map(|mut words| {
            let seconds = words.by_ref().next().filter(|name| *name == b"btime").and(words.next())?;
            i64::try_from(source::number(seconds)?).ok()
        });
        let Some(milliseconds) = seconds.and_then(|seconds| seconds.checked_mul(1000)) else {
            let reason = "it has no btime".to_owned();
            return Err(CollectError::Malformed { what: path.display().to_string(), reason });
        };
        let now = EpochMs(milliseconds);
        let kept = self.booted.filter(|booted| now.since_ms(*booted).abs() <= BOOT_TIME_TOLERANCE_MS);
        Ok(*self.booted.insert(kept.unwrap_or(now)))
    }
}

impl Collector for SystemCollector {
    fn name(&self) -> &'static str {
        "system"
    }

    fn inventory(&mut self) -> Result<Option<Section>, CollectError> {
        let booted = self.booted()?;
        let kernel = self.roots.proc.join("sys/kernel");
        let named = |name: &str| {
            let path = kernel.join(name);
            let bytes = source::read_start(&path, 4096).map_err(|error| source::failure(&path, error))?;
            Ok(source::text(&bytes))
        };
        Ok(Some(Section::System(System {
            hostname: named("hostname")?,
            kernel_release: named("osrelease")?,
            kernel_version: named("version")?,
            architecture: Text::truncated(std::env::consts::ARCH),
            os_name: os_name(&self.roots.etc.join("os-release")).into(),
            boot_id: boot_id(&self.roots)?,
            booted,
            machine_id_sha256: machine_id_sha256(&self.roots),
            kernel_command_line: source::text_fact(&self.roots.proc.join("cmdline")),
            virtualization: virtualization(&self.roots).into(),
        })))
    }

    fn sample(&mut self, _sink: &mut SampleSink) -> Result<(), CollectError> {
        Ok(())
    }
}

/// This boot, as Hello and events name it.
pub fn boot_id(roots: &Roots) -> Result<BootId, CollectError> {
    let path = roots.proc.join("sys/kernel/random/boot_id");
    let bytes = source::read_start(&path, 64).map_err(|error| source::failure(&path, error))?;
    let text = String::from_utf8_lossy(&bytes);
    let what = || path.display().to_string();
    text.parse().map_err(|error| CollectError::Malformed { what: what(), reason: format!("{error}") })
}

/// SHA-256 of the machine id without its line feed: only ever compared.
pub fn machine_id_sha256(roots: &Roots) -> Fact<Sha256Digest> {
    let id = source::fact(&roots.etc.join("machine-id"));
    // An image that was never booted holds the word "uninitialized", or nothing.
    let usable = id.and_then(|id| {
        let is_id = id.len() == 32 && id.iter().all(u8::is_ascii_hexdigit);
        is_id.then(|| Sha256Digest::of(&id)).ok_or(UnknownReason::Malformed)
    });
    usable.into()
}

/// `PRETTY_NAME="…"`, without its quotes.
fn os_name(path: &Path) -> Result<Text, UnknownReason> {
    let file = source::read_start(path, OS_RELEASE).map_err(|error| source::reason(&error))?;
    let name = source::lines(&file).find_map(|line| line.strip_prefix(b"PRETTY_NAME="));
    let name = name.ok_or(UnknownReason::NotPresent)?.trim_ascii();
    let quoted = |quote: &[u8]| name.strip_prefix(quote)?.strip_suffix(quote);
    source::some_text(quoted(b"\"").or_else(|| quoted(b"'")).unwrap_or(name))
}

/// What the firmware calls itself, else whether the processor says that it is lent.
fn virtualization(roots: &Roots) -> Result<Text, UnknownReason> {
    let dmi: PathBuf = roots.sys.join("class/dmi/id");
    let firmware: Vec<Text> = ["sys_vendor", "product_name", "bios_vendor"]
        .iter()
        .filter_map(|name| source::text_fact(&dmi.join(name)).known().cloned())
        .collect();
    let cpuinfo = source::read_start(&roots.proc.join("cpuinfo"), CPUINFO_START);
    let cpuinfo = cpuinfo.map_err(|error| source::reason(&error))?;
    let flags = source::lines(&cpuinfo).find(|line| line.starts_with(b"flags"));
    let lent = flags.map(|flags| source::words(flags).any(|flag| flag == b"hypervisor"));
    let named = HYPERVISORS.iter().find(|(mark, _)| firmware.iter().any(|text| text.contains(mark)));
    match (lent, named) {
        // The clouds' bare metal carries the same names, but its processors are not lent.
        (Some(false), _) => Ok("none".into()),
        (_, Some((_, word))) => Ok((*word).into()),
        (Some(true), None) => Ok("unknown hypervisor".into()),
        (None, None) => Err(UnknownReason::NotSupported),
    }
}
