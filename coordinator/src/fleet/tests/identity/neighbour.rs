//! Node B with a life of its own, and a picture of everything that is known of it.

use aim_common::identity::{NodeId, Sha256Digest, SpoolId};
use aim_common::inventory::{EncodedSection, SectionTag};
use aim_common::metric::Metric;
use aim_common::protocol::{
    Ack, Change, GaugeReport, Hello, Record, SeriesChange, SeriesKey, SeriesTable, SpoolBatch, SpoolRecord,
};
use aim_common::units::EpochMs;
use quinn::SendStream;
use sqlx::{Connection, SqliteConnection};

use super::super::site::{Agent, Identity, PATIENCE, Site, frame, hello, until};
use super::super::{event, until_events};

/// The rows that speak of one node, table after table; what is only the time of its last packet is left out.
const ROWS: [&str; 9] = [
    "SELECT 'node ' || quote(id) || quote(name) || quote(state) || quote(owner) || quote(quarantined_at) \
     || quote(machine_id_sha256) || quote(agent_version) || quote(boot_id) || quote(inventory_sha256) \
     || quote(superseded_by) || quote(absent_since) || quote(absent_cause) FROM nodes WHERE id = $1",
    "SELECT 'certificate ' || quote(serial) || quote(generation) || quote(public_key_sha256) || quote(state) \
     || quote(first_used_at) || quote(ended_at) FROM certificates WHERE node_id = $1 ORDER BY generation",
    "SELECT 'label ' || quote(key) || quote(value) FROM node_labels WHERE node_id = $1 ORDER BY key",
    "SELECT 'group ' || quote(name) FROM node_groups WHERE node_id = $1 ORDER BY name",
    "SELECT 'record ' || quote(spool_id) || quote(sequence) || quote(sort) || quote(stored_at) \
     FROM spool_records WHERE node_id = $1 ORDER BY spool_id, sequence",
    "SELECT 'position ' || quote(spool_id) || quote(acknowledged) FROM spool_positions WHERE node_id = $1",
    "SELECT 'section ' || quote(tag) || quote(encoded) || quote(content) || quote(received_at) \
     FROM inventory_sections WHERE node_id = $1 ORDER BY tag",
    "SELECT 'change ' || quote(id) || quote(section) || quote(path) FROM inventory_changes WHERE node_id = $1",
    "SELECT 'event ' || quote(id) || quote(kind_name) || quote(spool_id) || quote(sequence) || quote(message) \
     || quote(stored_at) FROM events WHERE node_id = $1 ORDER BY id",
];

/// B.
pub(super) struct Neighbour {
    pub(super) identity: Identity,
    pub(super) hello: Hello,
    agent: Agent,
    durable: SendStream,
}

impl Neighbour {
    /// Enrols B, opens its session, and lets it report.
    pub(super) async fn start(site: &Site) -> Self {
        let identity = site.enrol("gpu-b").await;
        let hello = Hello {
            machine_id_sha256: Some(Sha256Digest::of(b"machine of B")),
            inventory_sha256: Sha256Digest::of(b"inventory of B"),
            series_sha256: Sha256Digest::of(b"series of B"),
            spool_id: SpoolId::from_random([0xb; 16]),
            ..hello(0xb)
        };
        let agent = site.agent(&identity, &hello).await;
        let mut samples = agent.stream().await;
        let key = SeriesKey { metric: Metric::CpuUtilization, instance: "".into() };
        let change = Change::Gauge { average_delta: 500, below: 0, above: 0 };
        let report = GaugeReport {
            end: EpochMs(1),
            interval_ms: 10_000,
            late: false,
            dropped_before: 0,
            changes: vec![SeriesChange { skip: 0, change }].try_into().unwrap(),
        };
        let table = SeriesTable { series: vec![key.into()].try_into().unwrap() };
        samples.write_all(&[frame(&table), frame(&report)].concat()).await.unwrap();
        let durable = agent.stream().await;
        let mut b = Self { identity, hello, agent, durable };
        let bytes = b"a section of B".to_vec().try_into().unwrap();
        let section = Record::InventorySection(EncodedSection { tag: SectionTag(9_000), bytes });
        assert_eq!(b.store(vec![event(0), SpoolRecord { sequence: 1, record: section }]).await, 1);
        b
    }

    /// Sends records of B's spool, and gives what was acknowledged.
    async fn store(&mut self, records: Vec<SpoolRecord>) -> u64 {
        let batch = SpoolBatch { spool_id: self.hello.spool_id, records: records.try_into().unwrap() };
        self.durable.write_all(&frame(&batch)).await.unwrap();
        self.agent.receive::<Ack>().await.sequence
    }

    /// Waits until everything that the coordinator notes by itself at the start is written.
    pub(super) async fn settle(&self, site: &Site) {
        until_events(site, "node.enrolled", 2).await;
        until_events(site, "node.present", 1).await;
        let node = site.node(self.identity.node);
        until("B's value", PATIENCE, || node.summary(site.inventory.now()).cpu_utilization == Some(0.5))
            .await;
    }

    /// Everything that is stored or shown of B.
    pub(super) async fn snapshot(&self, site: &Site) -> Vec<String> {
        let node = self.identity.node;
        let mut all = rows(site, node).await;
        let mut view = serde_json::to_value(site.node(node).view(site.inventory.now())).unwrap();
        forget_ages(&mut view);
        all.push(format!("{view:#}"));
        all.push(format!("{:?}", site.node(node).gpu_processes(site.inventory.now())));
        all.push(format!("session {}", site.fleet.session_of(node).is_some()));
        all
    }

    /// B's spool goes on with its next record.
    pub(super) async fn goes_on(&mut self, site: &Site) {
        assert!(self.agent.connection.close_reason().is_none(), "B's session was closed");
        assert_eq!(self.store(vec![event(2)]).await, 2);
        assert!(
            rows(site, self.identity.node).await.iter().any(|row| row.contains("2'event'")),
            "it was not stored"
        );
    }
}

async fn rows(site: &Site, node: NodeId) -> Vec<String> {
    let file = format!("sqlite://{}", site.folder.path().join("coordinator.db").display());
    let mut connection = SqliteConnection::connect(&file).await.unwrap();
    let mut all = Vec::new();
    for query in ROWS {
        let found: Vec<(String,)> =
            sqlx::query_as(query).bind(node.to_string()).fetch_all(&mut connection).await.unwrap();
        all.extend(found.into_iter().map(|(row,)| row));
    }
    connection.close().await.unwrap();
    all
}

/// Times that pass by themselves are no change.
fn forget_ages(value: &mut serde_json::Value) {
    if let Some(object) = value.as_object_mut() {
        object.retain(|name, _| !["age_ms", "last_seen", "last_seen_age_ms"].contains(&name.as_str()));
        object.values_mut().for_each(forget_ages);
    }
    value.as_array_mut().into_iter().flatten().for_each(forget_ages);
}
