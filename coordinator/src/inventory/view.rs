//! The live state as the API shows it: nothing old is shown as current.

use std::collections::BTreeMap;

use aim_common::api::nodes::{
    GpuProcessList, GpuProcessView, InventorySectionView, LiveValues, Node as NodeView, NodeSummary,
    ValueView,
};
use aim_common::identity::NodeId;

use super::moment::Moment;
use super::node::{Node, NodeState};
use super::series::Utilization;

impl NodeState {
    /// What lists show.
    pub fn summary(&self, id: NodeId, now: Moment) -> NodeSummary {
        let utilization =
            if self.is_present() { self.series.utilization(now) } else { Utilization::default() };
        let mut conditions: Vec<String> =
            self.conditions_in_force().into_iter().map(|condition| condition.name).collect();
        conditions.sort_unstable();
        conditions.dedup();
        NodeSummary {
            id,
            name: self.name.clone(),
            presence: self.presence.clone(),
            last_seen: self.last_seen.map(|seen| seen.wall),
            last_seen_age_ms: self.last_seen.map(|seen| seen.age_ms(now)),
            labels: self.labels.clone(),
            groups: self.groups.clone(),
            owner: self.owner,
            agent_version: self.agent_version.clone(),
            kernel_release: self.facts.kernel_release.clone(),
            os_name: self.facts.os_name.clone(),
            cpu_threads: self.facts.cpu_threads,
            memory_bytes: self.facts.memory_bytes,
            gpu_model: self.facts.gpu_model.clone(),
            gpus_working: self.facts.gpus_working,
            gpus_total: self.facts.gpus_total,
            conditions,
            cpu_utilization: utilization.cpu,
            memory_used_bytes: utilization.memory_used_bytes,
            gpu_utilization: utilization.gpu,
            enrolled_at: self.enrolled_at,
        }
    }

    /// The inventory by section name. A section is confirmed for as long as the session's inventory hash equals ours.
    pub fn inventory_view(&self, now: Moment) -> BTreeMap<String, InventorySectionView> {
        let confirmed = self.session.as_ref().filter(|session| session.inventory_confirmed);
        let confirmed = confirmed.and(self.last_seen);
        self.readable_sections()
            .into_iter()
            .map(|(section, received)| {
                let age_ms = confirmed.map_or(u64::MAX, |seen| seen.age_ms(now)).min(received.age_ms(now));
                let view =
                    InventorySectionView { received_at: received.wall, age_ms, content: section.to_json() };
                (section.name().to_owned(), view)
            })
            .collect()
    }
}

impl Node {
    /// What lists show.
    pub fn summary(&self, now: Moment) -> NodeSummary {
        self.state().summary(self.id, now)
    }

    /// Everything of the node.
    pub fn view(&self, now: Moment) -> NodeView {
        let state = self.state();
        let session = state.session.as_ref();
        NodeView {
            summary: state.summary(self.id, now),
            conditions_detail: state.conditions_in_force(),
            boot_id: state.boot_id,
            address: session.map(|session| session.address.clone()),
            certificate_serial: session.map(|session| session.certificate_serial.to_string()),
            certificate_expires_at: session.map(|session| session.certificate_expires_at),
            clock_offset_ms: session.map(|session| session.clock_offset_ms),
            inventory: state.inventory_view(now),
            values: state.series.values(now),
        }
    }

    /// The newest values, each with its age.
    pub fn values(&self, now: Moment) -> Vec<ValueView> {
        self.state().series.values(now)
    }

    /// One message of the live stream.
    pub fn live_values(&self, now: Moment) -> LiveValues {
        let state = self.state();
        LiveValues {
            node_id: self.id,
            presence: state.presence.clone(),
            interval_ms: state.series.interval_ms(),
            values: state.series.values(now),
        }
    }

    /// The processes on the GPUs. A list is sent when it changes: while the session lives the last one holds.
    pub fn gpu_processes(&self, now: Moment) -> GpuProcessList {
        let state = self.state();
        let held = state.gpu_processes.as_ref();
        let confirmed = held.filter(|held| held.this_session && state.session.is_some()).and(state.last_seen);
        let items = held.iter().flat_map(|held| &held.processes).map(|process| GpuProcessView {
            gpu_uuid: process.gpu_uuid.to_string(),
            pid: process.pid,
            uid: process.uid,
            name: process.name.to_string(),
            memory_bytes: process.memory_bytes,
            compute: process.compute,
        });
        GpuProcessList {
            items: items.collect(),
            left_out: held.map_or(0, |held| held.left_out),
            received_at: held.map(|held| held.received.wall),
            age_ms: held
                .map(|held| confirmed.unwrap_or(held.received).age_ms(now).min(held.received.age_ms(now))),
        }
    }
}
