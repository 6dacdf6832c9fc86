//! `aimctl node show`: one page about one node. A section that this aimctl cannot read is named, not left out.

use std::fmt::Write;

use aim_common::api::nodes::{InventorySectionView, Node};
use aim_common::inventory::{Cpu, Disks, Dmi, Fact, Filesystems, Gpus, Infiniband, Memory, Network, System};
use aim_common::metric::Metric;
use serde::de::DeserializeOwned;

use super::list::{labels, presence};
use super::show_tables as tables;
use super::values::Readings;
use crate::client::Route;
use crate::context::Context;
use crate::error::CliError;
use crate::output::{Cell, Grid, Output, Tone, View, text};

/// Runs it.
pub(super) async fn run(context: &Context, node: &str) -> Result<(), CliError> {
    let client = context.client().await?;
    let answer = client.get(Route::v1(["nodes", node])).await?;
    let view = Context::view(&client);
    context.output.one::<Node>(
        answer,
        |node| node.summary.name.to_string(),
        |node| Page { output: &context.output, node, view, text: String::new() }.write(),
    )
}

/// The page while it is written.
struct Page<'a> {
    output: &'a Output,
    node: &'a Node,
    view: View,
    text: String,
}

impl Page<'_> {
    fn write(mut self) -> String {
        let identity = self.identity();
        self.text.push_str(&self.output.pairs(identity));
        self.conditions();
        self.section::<System>("system", Self::system);
        self.section::<Dmi>("dmi", Self::dmi);
        self.section::<Cpu>("cpu", Self::cpu);
        self.section::<Memory>("memory", Self::memory);
        self.table_section::<Disks>("disks", tables::disks);
        self.table_section::<Filesystems>("filesystems", tables::filesystems);
        self.table_section::<Network>("network", tables::network);
        self.table_section::<Infiniband>("infiniband", tables::infiniband);
        self.section::<Gpus>("gpus", Self::gpus);
        self.text
    }

    fn identity(&self) -> Vec<(&'static str, Cell)> {
        let node = self.node;
        let summary = &node.summary;
        let seen = summary
            .last_seen_age_ms
            .map(|age| format!("{} ago", text::span(i64::try_from(age).unwrap_or(i64::MAX))));
        let certificate = node.certificate_serial.as_ref().map(|serial| {
            let left = node.certificate_expires_at.map(|at| text::until(at, self.view.now));
            format!("{serial}, {} left", left.as_deref().unwrap_or("?"))
        });
        vec![
            ("name", Cell::new(summary.name.as_str())),
            ("id", Cell::new(summary.id.to_string())),
            ("state", self.state()),
            ("last packet", Cell::or_none(seen)),
            ("address", Cell::or_none(node.address.as_ref())),
            ("agent", Cell::or_unknown(summary.agent_version.as_ref())),
            ("certificate", Cell::or_none(certificate)),
            ("clock offset", Cell::or_unknown(node.clock_offset_ms.map(|ms| format!("{ms:+} ms")))),
            ("enrolled", Cell::new(summary.enrolled_at.to_rfc3339())),
            ("labels", Cell::or_none(labels(summary))),
            ("groups", Cell::or_none((!summary.groups.is_empty()).then(|| summary.groups.join(",")))),
        ]
    }

    fn state(&self) -> Cell {
        use aim_common::api::nodes::Presence;
        let cell = presence(&self.node.summary.presence);
        let tone = match &self.node.summary.presence {
            Presence::Present { .. } => Tone::Good,
            Presence::Silent { .. } => Tone::Warn,
            Presence::Absent { .. } => Tone::Bad,
            Presence::NeverSeen => return cell,
        };
        let (Presence::Present { since } | Presence::Silent { since } | Presence::Absent { since, .. }) =
            &self.node.summary.presence
        else {
            return cell;
        };
        Cell::new(format!("{} since {}", cell.text(), text::ago(*since, self.view.now))).tone(tone)
    }

    fn conditions(&mut self) {
        if self.node.conditions_detail.is_empty() {
            return;
        }
        self.text.push_str("\nCONDITIONS\n");
        let mut grid = Grid::new([("NAME", 0), ("SUBJECT", 1), ("SINCE", 2), ("DETAIL", 0)]);
        for condition in &self.node.conditions_detail {
            grid.row(vec![
                Cell::new(&condition.name).tone(Tone::Bad),
                Cell::or_none((!condition.subject.is_empty()).then_some(&condition.subject)),
                Cell::new(text::ago(condition.since, self.view.now)),
                Cell::new(&condition.detail),
            ]);
        }
        self.text.push_str(&self.output.grid(&grid));
    }

    /// One section: its title with its age, then what `write` makes of it.
    fn section<T: DeserializeOwned>(&mut self, name: &str, write: impl FnOnce(&mut Self, &T)) {
        let Some(section) = self.node.inventory.get(name) else { return };
        let age = text::span(i64::try_from(section.age_ms).unwrap_or(i64::MAX));
        let _ = writeln!(self.text, "\n{} ({age} ago)", name.to_uppercase());
        match read::<T>(section) {
            Ok(content) => write(self, &content),
            Err(error) => {
                let hint = Cell::new(format!("not readable by this aimctl ({error}); -o json shows it"));
                self.text.push_str(hint.text());
                self.text.push('\n');
            }
        }
    }

    fn table_section<T: DeserializeOwned>(&mut self, name: &str, table: fn(&T, &Readings<'_>) -> Grid) {
        self.section::<T>(name, |page, content| page.grid(&table(content, &Readings::of(page.node))));
    }

    fn grid(&mut self, grid: &Grid) {
        if grid.is_empty() {
            self.text.push_str("none\n");
        } else {
            self.text.push_str(&self.output.grid(grid));
        }
    }

    fn pairs(&mut self, pairs: Vec<(&'static str, Cell)>) {
        self.text.push_str(&self.output.pairs(pairs));
    }

    fn system(&mut self, system: &System) {
        let readings = Readings::of(self.node);
        let loads = [Metric::Load1, Metric::Load5, Metric::Load15].map(|load| readings.cell(load, ""));
        self.pairs(vec![
            ("hostname", Cell::new(system.hostname.as_str())),
            ("os", fact(&system.os_name, |name| name.as_str().to_owned())),
            ("kernel", Cell::new(system.kernel_release.as_str())),
            ("architecture", Cell::new(system.architecture.as_str())),
            ("virtualization", fact(&system.virtualization, |word| word.as_str().to_owned())),
            ("booted", Cell::new(format!("{} ago", text::ago(system.booted, self.view.now)))),
            ("boot id", Cell::new(system.boot_id.to_string())),
            ("load", Cell::new(loads.each_ref().map(Cell::text).join(" "))),
        ]);
    }

    fn dmi(&mut self, dmi: &Dmi) {
        let text = |name: &aim_common::inventory::Text| name.as_str().to_owned();
        self.pairs(vec![
            ("vendor", fact(&dmi.system_vendor, text)),
            ("product", fact(&dmi.product_name, text)),
            ("serial", fact(&dmi.product_serial, text)),
            ("board", fact(&dmi.board_name, text)),
            ("board serial", fact(&dmi.board_serial, text)),
            ("bios", fact(&dmi.bios_version, text)),
        ]);
    }

    fn cpu(&mut self, cpu: &Cpu) {
        let readings = Readings::of(self.node);
        let number = |count: &u32| count.to_string();
        self.pairs(vec![
            ("model", fact(&cpu.model, |model| model.as_str().to_owned())),
            ("sockets", fact(&cpu.sockets, number)),
            ("cores", fact(&cpu.cores, number)),
            ("threads", fact(&cpu.threads, number)),
            ("numa nodes", Cell::new(cpu.numa_nodes.len().to_string())),
            ("governor", fact(&cpu.governor, |word| word.as_str().to_owned())),
            ("utilization", readings.cell(Metric::CpuUtilization, "")),
            ("waiting for io", readings.cell(Metric::CpuIowait, "")),
        ]);
    }

    fn memory(&mut self, memory: &Memory) {
        let readings = Readings::of(self.node);
        let pools = memory.hugepages.iter().filter(|pool| pool.pages > 0);
        let pools: Vec<String> = pools
            .map(|pool| format!("{} x {}", pool.pages, text::bytes(pool.page_kib.saturating_mul(1024))))
            .collect();
        self.pairs(vec![
            ("total", fact(&memory.total_bytes, |bytes| text::bytes(*bytes))),
            ("used", readings.cell(Metric::MemoryUsed, "")),
            ("available", readings.cell(Metric::MemoryAvailable, "")),
            ("swap", fact(&memory.swap_bytes, |bytes| text::bytes(*bytes))),
            ("swap free", readings.cell(Metric::SwapFree, "")),
            ("huge pages", Cell::or_none((!pools.is_empty()).then(|| pools.join(", ")))),
            ("modules", fact(&memory.dimms, |dimms| dimms.len().to_string())),
        ]);
    }

    fn gpus(&mut self, gpus: &Gpus) {
        let text = |version: &aim_common::inventory::Text| version.as_str().to_owned();
        let mut pairs = vec![("library", tables::library(&gpus.library))];
        if !gpus.gpus.is_empty() || gpus.driver_version.known().is_some() {
            pairs.push(("driver", fact(&gpus.driver_version, text)));
            pairs.push(("cuda", fact(&gpus.cuda_version, text)));
        }
        if !gpus.switches.is_empty() {
            pairs.push(("nvswitches", Cell::new(gpus.switches.len().to_string())));
        }
        self.pairs(pairs);
        if !gpus.gpus.is_empty() {
            let grid = tables::gpus(gpus, &Readings::of(self.node));
            self.grid(&grid);
        }
    }
}

fn read<T: DeserializeOwned>(section: &InventorySectionView) -> Result<T, serde_json::Error> {
    T::deserialize(&section.content)
}

/// A fact as a cell.
pub(super) fn fact<T>(value: &Fact<T>, show: impl FnOnce(&T) -> String) -> Cell {
    let cell = Cell::new(text::fact(value, show));
    if value.known().is_none() { cell.tone(Tone::Dim) } else { cell }
}
