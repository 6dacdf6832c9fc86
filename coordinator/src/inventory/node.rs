//! One node's live state: plain data behind a short lock.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aim_common::api::nodes::{Condition, Presence};
use aim_common::identity::{BootId, CertificateSerial, NodeId, NodeName, Sha256Digest, UserId};
use aim_common::inventory::{EncodedSection, Section};
use aim_common::protocol::{GpuProcess, NodeConditions};
use aim_common::units::EpochMs;
use tokio::sync::watch;

use super::facts::Facts;
use super::moment::Moment;
use super::series::Series;
use crate::store::nodes::{NodeRow, NodeState as IdentityState, Quarantine};

/// Most sections kept of one node, those of newer agents included (DOS-04).
pub(super) const MAX_SECTIONS: usize = 64;
/// Most bytes of all sections of one node.
pub(super) const MAX_SECTION_BYTES: usize = 2 * 1024 * 1024;

/// A section as it is held: the bytes as received, 3 to 10 times smaller than its JSON.
#[derive(Debug, Clone)]
pub struct HeldSection {
    /// The section as it travelled.
    pub encoded: Arc<EncodedSection>,
    /// When it was received.
    pub received: Moment,
}

/// What is known of a node only while it has a session.
#[derive(Debug, Clone)]
pub struct SessionFacts {
    /// Tells it from one that it took over from, and whose last words may still come.
    pub number: u64,
    /// Its address now.
    pub address: String,
    /// The certificate in use.
    pub certificate_serial: CertificateSerial,
    /// The end of that certificate.
    pub certificate_expires_at: EpochMs,
    /// Node clock less coordinator clock at Hello.
    pub clock_offset_ms: i64,
    /// The inventory held is the one the node has.
    pub inventory_confirmed: bool,
}

/// The processes on the GPUs, as of the last report.
#[derive(Debug, Clone)]
pub struct HeldProcesses {
    /// The processes.
    pub processes: Vec<GpuProcess>,
    /// Processes left out for want of room.
    pub left_out: u32,
    /// When the list was received.
    pub received: Moment,
    /// It is of the session that is open now, or was open last.
    pub this_session: bool,
}

/// Everything about one node.
#[derive(Debug)]
pub struct NodeState {
    /// Its name.
    pub name: NodeName,
    /// Whether its identity may be used.
    pub identity: IdentityState,
    /// Its owner.
    pub owner: Option<UserId>,
    /// Its groups.
    pub groups: Vec<String>,
    /// Labels set by operators.
    pub labels: BTreeMap<String, String>,
    /// When it was enrolled.
    pub enrolled_at: EpochMs,
    /// Set where it is under suspicion.
    pub quarantine: Option<Quarantine>,
    /// Whether it is there.
    pub presence: Presence,
    /// The last packet.
    pub last_seen: Option<Moment>,
    /// The agent's version.
    pub agent_version: Option<String>,
    /// The last boot.
    pub boot_id: Option<BootId>,
    /// SHA-256 of the machine-id.
    pub machine_id_sha256: Option<Sha256Digest>,
    /// Since when another present node has the same machine-id.
    pub duplicate_machine_id: Option<EpochMs>,
    /// The session, while there is one.
    pub session: Option<SessionFacts>,
    /// The inventory by tag.
    pub sections: BTreeMap<u16, HeldSection>,
    /// Hash of the inventory, where it is whole.
    pub inventory_sha256: Option<Sha256Digest>,
    /// What lists read from the inventory.
    pub facts: Facts,
    /// The node's own degraded modes, as of this session.
    pub conditions: Vec<Condition>,
    /// The processes on its GPUs.
    pub gpu_processes: Option<HeldProcesses>,
    /// Its values.
    pub series: Series,
}

impl NodeState {
    fn new(row: NodeRow) -> Self {
        let presence = match (row.last_seen, row.absent_since) {
            _ if row.state == IdentityState::Revoked => Presence::Absent {
                since: row.absent_since.or(row.last_seen).unwrap_or(row.enrolled_at),
                cause: "revoked".to_owned(),
            },
            (None, _) => Presence::NeverSeen,
            (Some(seen), since) => Presence::Absent {
                since: since.unwrap_or(seen),
                // Present when the coordinator ended: what happened since is not known.
                cause: row.absent_cause.unwrap_or_else(|| "unknown".to_owned()),
            },
        };
        Self {
            name: row.name,
            identity: row.state,
            owner: row.owner,
            groups: row.groups,
            labels: row.labels,
            enrolled_at: row.enrolled_at,
            quarantine: row.quarantine,
            presence,
            last_seen: row.last_seen.map(Moment::stored),
            agent_version: row.agent_version,
            boot_id: row.boot_id,
            machine_id_sha256: row.machine_id_sha256,
            duplicate_machine_id: None,
            session: None,
            sections: BTreeMap::new(),
            inventory_sha256: row.inventory_sha256,
            facts: Facts::default(),
            conditions: Vec::new(),
            gpu_processes: None,
            series: Series::default(),
        }
    }

    /// Takes what operators and the KeyVault changed in the database; the live part stays.
    pub(super) fn refresh(&mut self, row: NodeRow) {
        self.name = row.name;
        self.identity = row.state;
        self.owner = row.owner;
        self.groups = row.groups;
        self.labels = row.labels;
        self.quarantine = row.quarantine;
    }

    /// The session with this number is the node's.
    pub(super) fn is_of(&self, session: u64) -> bool {
        self.session.as_ref().is_some_and(|facts| facts.number == session)
    }

    /// It has a session that answers.
    pub fn is_present(&self) -> bool {
        matches!(self.presence, Presence::Present { .. })
    }

    /// The sections that this build can read.
    pub fn readable_sections(&self) -> Vec<(Section, Moment)> {
        let read = |held: &HeldSection| {
            // Sections were read once before they were stored.
            Section::decode(&held.encoded).ok().flatten().map(|section| (section, held.received))
        };
        self.sections.values().filter_map(read).collect()
    }

    /// Reads the facts again after the sections changed.
    pub(super) fn read_facts(&mut self) {
        let sections = self.readable_sections();
        self.facts = Facts::read(sections.iter().map(|(section, _)| section));
    }

    /// Takes the node's list of degraded modes.
    pub(super) fn set_conditions(&mut self, conditions: &NodeConditions) -> bool {
        let conditions: Vec<Condition> = conditions
            .conditions
            .iter()
            .map(|condition| Condition {
                name: condition.name.to_string(),
                subject: condition.subject.to_string(),
                since: EpochMs(condition.since.0.clamp(0, EpochMs::MAX.0)),
                detail: condition.detail.to_string(),
            })
            .collect();
        let changed = conditions != self.conditions;
        self.conditions = conditions;
        changed
    }

    /// The degraded modes in force: those the coordinator sees, and the node's own while it is present.
    pub fn conditions_in_force(&self) -> Vec<Condition> {
        let mut conditions = Vec::new();
        if let Some(quarantine) = &self.quarantine {
            conditions.push(Condition {
                name: "quarantined".to_owned(),
                subject: String::new(),
                since: quarantine.since,
                detail: format!(
                    "{}; end the copy and release the node, or revoke it and enrol it again",
                    quarantine.reason
                ),
            });
        }
        if let Some(since) = self.duplicate_machine_id {
            conditions.push(Condition {
                name: "duplicate_machine_id".to_owned(),
                subject: String::new(),
                since,
                detail: "another node that is present has the same machine-id: make a new one with \
                         systemd-machine-id-setup after emptying /etc/machine-id"
                    .to_owned(),
            });
        }
        if self.is_present() {
            conditions.extend(self.conditions.iter().cloned());
        }
        conditions
    }
}

/// A node as everybody holds it.
#[derive(Debug)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    state: Mutex<NodeState>,
    /// Counts reports and presence changes, for live readers; coalesces by nature.
    pub(super) version: watch::Sender<u64>,
}

impl Node {
    pub(super) fn new(row: NodeRow) -> Arc<Self> {
        let (version, _) = watch::channel(0);
        Arc::new(Self { id: row.id, state: Mutex::new(NodeState::new(row)), version })
    }

    /// The state, for a moment: never across an await.
    pub fn state(&self) -> MutexGuard<'_, NodeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes with each report and each change of presence; what comes while the reader is busy is one wake-up.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    pub(super) fn wake(&self) {
        self.version.send_modify(|version| *version += 1);
    }
}
