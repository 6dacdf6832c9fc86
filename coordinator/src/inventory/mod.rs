//! The fleet's state: live values and inventory in memory with an age on everything, history in the store.
//!
//! Enters: sessions, reports and records from `fleet/`. Leaves: views for `api/`, rows for `store/`, a feed of changes.
//! Never: an acknowledgement before the commit, an old value shown as current, a decision about who may see what.

mod diff;
mod facts;
mod feed;
mod live;
mod moment;
mod node;
mod plan;
mod retention;
mod series;
mod view;
mod writer;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use aim_common::api::nodes::Presence;
use aim_common::event::{EventKind, Severity};
use aim_common::identity::{BootId, CertificateSerial, NodeId, NodeName, Sha256Digest, SpoolId};
use aim_common::protocol::TableError;
use aim_common::protocol::{GaugeReport, GpuProcesses, NodeConditions, SeriesTable, SpoolBatch};
use aim_common::units::EpochMs;
use tokio::sync::{broadcast, mpsc, oneshot};

pub use self::feed::FeedItem;
pub use self::moment::Moment;
pub use self::node::{Node, NodeState};
pub use self::series::{ReportError, Utilization};
pub use self::writer::{DATABASE_UNAVAILABLE, SubmitError};

use self::live::Live;
use self::node::{HeldProcesses, HeldSection, SessionFacts};
use self::plan::Batch;
use self::writer::{BATCH_QUEUE, Job, NOTE_QUEUE, Note, Writer};
use crate::clock::SharedClock;
use crate::conditions::Conditions;
use crate::store::nodes::{NodeState as IdentityState, NodeUpdate, Quarantine};
use crate::store::spool::{EventRow, NodeWrite};
use crate::store::{Store, StoreError};
use crate::supervise::Tasks;

/// How often the last packet of each present node is written, so that a restart knows it to the minute.
const LAST_SEEN_EVERY: Duration = Duration::from_mins(1);

/// What Hello says, with what the connection knows.
#[derive(Debug, Clone)]
pub struct Opening {
    /// Tells the session from others of the node that end at this moment; later ones have higher numbers.
    pub session: u64,
    /// The agent's version.
    pub agent_version: String,
    /// The boot.
    pub boot_id: BootId,
    /// SHA-256 of the machine-id.
    pub machine_id_sha256: Option<Sha256Digest>,
    /// Hash of the inventory the node has.
    pub inventory_sha256: Sha256Digest,
    /// Hash of the series table the node uses.
    pub series_sha256: Sha256Digest,
    /// Node clock less coordinator clock.
    pub clock_offset_ms: i64,
    /// The peer's address.
    pub address: String,
    /// The certificate in use.
    pub certificate_serial: CertificateSerial,
    /// The end of that certificate.
    pub certificate_expires_at: EpochMs,
}

/// What the node must send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Its inventory.
    pub inventory: bool,
    /// Its series table.
    pub series: bool,
}

/// The inventory of the whole fleet.
pub struct Inventory {
    live: Arc<Live>,
    store: Store,
    jobs: mpsc::Sender<Job>,
    notes: mpsc::Sender<Note>,
}

impl Inventory {
    /// Rebuilds the state from the database and starts the writer and the retention among the caller's tasks.
    pub async fn load(
        store: Store,
        clock: SharedClock,
        conditions: Arc<Conditions>,
        events_days: u32,
        tasks: &mut Tasks,
    ) -> Result<Arc<Self>, StoreError> {
        let live = Arc::new(Live::new(clock));
        let mut touched: HashMap<NodeId, Arc<Node>> = HashMap::new();
        for row in store.nodes_load().await? {
            live.put(row);
        }
        for row in store.sections_load().await? {
            let Some(node) = live.get(row.node) else { continue };
            let held =
                HeldSection { encoded: Arc::new(row.section), received: Moment::stored(row.received_at) };
            node.state().sections.insert(held.encoded.tag.0, held);
            touched.insert(row.node, node);
        }
        for node in touched.values() {
            node.state().read_facts();
        }

        let (jobs, jobs_in) = mpsc::channel(BATCH_QUEUE);
        let (notes, notes_in) = mpsc::channel(NOTE_QUEUE);
        let writer = Writer {
            store: store.clone(),
            live: Arc::clone(&live),
            conditions,
            jobs: jobs_in,
            notes: notes_in,
            stop: tasks.stop_token(),
            positions: HashMap::new(),
        };
        tasks.spawn("inventory writer", writer.run());
        let stop = tasks.stop_token();
        tasks.spawn("retention", retention::run(store.clone(), Arc::clone(&live.clock), events_days, stop));
        let inventory = Arc::new(Self { live, store, jobs, notes });
        let stop = tasks.stop_token();
        tasks.spawn("last seen", Arc::clone(&inventory).write_last_seen(stop));
        Ok(inventory)
    }

    /// Now, on both clocks.
    pub fn now(&self) -> Moment {
        Moment::now(&*self.live.clock)
    }

    /// A node by its id.
    pub fn node(&self, id: NodeId) -> Option<Arc<Node>> {
        self.live.get(id)
    }

    /// A node by its name, ignoring case.
    pub fn node_named(&self, name: &NodeName) -> Option<Arc<Node>> {
        self.live.named(name)
    }

    /// Every node, in no order.
    pub fn nodes(&self) -> Vec<Arc<Node>> {
        self.live.all()
    }

    /// Changes from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<FeedItem>> {
        self.live.feed.subscribe()
    }

    /// Takes what changed about a node in the database: enrolled, revoked, superseded, deleted, renamed.
    pub async fn reload_node(&self, id: NodeId) -> Result<Option<Arc<Node>>, StoreError> {
        let row = self.store.node_load(id).await?;
        let shown = row.filter(|row| matches!(row.state, IdentityState::Living | IdentityState::Revoked));
        let Some(row) = shown else {
            if let Some(node) = self.live.remove(id) {
                self.live.publish_deleted(&node);
            }
            return Ok(None);
        };
        let node = self.live.put(row);
        self.live.publish_node(&node);
        Ok(Some(node))
    }

    /// The identity was revoked: the node is absent for this reason from now on, whatever the database says.
    pub fn mark_revoked(&self, id: NodeId) {
        let Some(node) = self.node(id) else { return };
        let former = std::mem::replace(&mut node.state().identity, IdentityState::Revoked);
        if former == IdentityState::Revoked {
            return;
        }
        self.live.leave_machine_id(&node);
        let at = self.live.clock.now();
        self.set_absent(&node, at, "revoked");
        self.tell(&node, EventKind::NodeRevoked, Severity::Warning, "the node's identity was revoked", &[]);
        self.live.publish_node(&node);
    }

    /// Takes an operator's change that the store holds already.
    pub fn apply_update(&self, node: &Node, update: NodeUpdate) {
        {
            let mut state = node.state();
            for (key, value) in update.labels {
                match value {
                    Some(value) => state.labels.insert(key, value),
                    None => state.labels.remove(&key),
                };
            }
            if let Some(groups) = update.groups {
                state.groups = groups;
            }
            if let Some(owner) = update.owner {
                state.owner = owner;
            }
        }
        self.live.publish_node(node);
    }

    /// The highest contiguous sequence of this spool that is durable.
    pub async fn spool_position(&self, node: NodeId, spool: SpoolId) -> Result<Option<i64>, StoreError> {
        self.store.spool_position(node, spool).await
    }

    /// A session is open: the node is present, and its values start from zero.
    pub fn open_session(&self, node: &Node, opening: Opening) -> Wanted {
        let now = self.now();
        let (wanted, was_present) = {
            let mut state = node.state();
            let was_present = state.is_present();
            let wanted = Wanted {
                inventory: state.inventory_sha256 != Some(opening.inventory_sha256),
                series: !state.series.begin_session(opening.series_sha256),
            };
            state.presence = Presence::Present { since: now.wall };
            state.last_seen = Some(now);
            state.agent_version = Some(opening.agent_version.clone());
            state.boot_id = Some(opening.boot_id);
            state.conditions.clear();
            if let Some(held) = &mut state.gpu_processes {
                held.this_session = false;
            }
            state.session = Some(SessionFacts {
                number: opening.session,
                address: opening.address,
                certificate_serial: opening.certificate_serial,
                certificate_expires_at: opening.certificate_expires_at,
                clock_offset_ms: opening.clock_offset_ms,
                inventory_confirmed: !wanted.inventory,
            });
            (wanted, was_present)
        };
        self.live.leave_machine_id(node);
        node.state().machine_id_sha256 = opening.machine_id_sha256;
        if let Some(digest) = opening.machine_id_sha256 {
            self.warn_of_duplicates(node, digest, now.wall);
        }
        self.note(Note::Node(
            node.id,
            NodeWrite::Opened {
                agent_version: opening.agent_version,
                boot_id: opening.boot_id,
                machine_id_sha256: opening.machine_id_sha256,
                at: now.wall,
            },
        ));
        if !was_present {
            self.tell(node, EventKind::NodePresent, Severity::Info, "the node is present", &[]);
        }
        self.changed(node);
        wanted
    }

    fn warn_of_duplicates(&self, node: &Node, digest: Sha256Digest, at: EpochMs) {
        let others = self.live.enter_machine_id(node, digest, at);
        if others.is_empty() {
            return;
        }
        let others: Vec<String> = others.iter().map(ToString::to_string).collect();
        self.tell(
            node,
            EventKind::NodeDuplicateMachineId,
            Severity::Warning,
            "another present node has the same machine-id",
            &[("nodes", &others.join(" "))],
        );
    }

    /// The session ended; one that another took over from says nothing of its node.
    pub fn close_session(&self, node: &Node, session: u64, cause: &str) {
        let since = {
            let mut state = node.state();
            if state.session.as_ref().is_some_and(|facts| facts.number > session) {
                return;
            }
            state.session = None;
            // A node that fell silent is absent since its last packet, and not only since we gave it up.
            state.last_seen.map_or_else(|| self.live.clock.now(), |seen| seen.wall)
        };
        self.live.leave_machine_id(node);
        self.set_absent(node, since, cause);
        self.changed(node);
    }

    /// A session is open and nothing came within the bound: absent with cause unknown since the last packet.
    pub fn fall_silent(&self, node: &Node) {
        let since = {
            let state = node.state();
            if state.session.is_none() {
                return;
            }
            state.last_seen.map_or_else(|| self.live.clock.now(), |seen| seen.wall)
        };
        self.set_absent(node, since, "unknown");
        self.changed(node);
    }

    /// A silent node answers again in the same session.
    pub fn back(&self, node: &Node) {
        {
            let mut state = node.state();
            if state.session.is_none() {
                return;
            }
            state.presence = Presence::Present { since: self.live.clock.now() };
        }
        self.note(Note::Node(node.id, NodeWrite::Back));
        self.tell(node, EventKind::NodePresent, Severity::Info, "the node answers again", &[]);
        self.changed(node);
    }

    fn set_absent(&self, node: &Node, since: EpochMs, cause: &str) {
        let last_seen = {
            let mut state = node.state();
            // Told already; but a silence may turn out to have a cause.
            if let Presence::Absent { cause: former, .. } = &state.presence
                && (cause == "unknown" || former == cause)
            {
                return;
            }
            state.presence = Presence::Absent { since, cause: cause.to_owned() };
            state.last_seen.map_or(since, |seen| seen.wall)
        };
        self.note(Note::Node(node.id, NodeWrite::Absent { since, cause: cause.to_owned(), last_seen }));
        let severity = if cause == "unknown" { Severity::Warning } else { Severity::Info };
        let message = format!("the node is absent, cause: {cause}");
        self.tell(node, EventKind::NodeAbsent, severity, &message, &[("cause", cause)]);
    }

    /// A packet came.
    pub fn seen(&self, node: &Node, at: Moment) {
        node.state().last_seen = Some(at);
    }

    /// The node's address changed during the session (QUI-11).
    pub fn moved(&self, node: &Node, address: String) {
        if let Some(session) = &mut node.state().session {
            session.address = address;
        }
    }

    /// Takes a series table; says how many of its series are passed over.
    pub fn series_table(&self, node: &Node, session: u64, table: SeriesTable) -> Result<usize, TableError> {
        let mut state = node.state();
        if state.is_of(session) { state.series.set_table(table) } else { Ok(0) }
    }

    /// Takes a report.
    pub fn report(&self, node: &Node, session: u64, report: &GaugeReport) -> Result<(), ReportError> {
        let now = self.now();
        {
            let mut state = node.state();
            // A report of a session that was taken over builds on other values.
            if !state.is_of(session) {
                return Ok(());
            }
            state.series.apply(report, now)?;
        }
        node.wake();
        Ok(())
    }

    /// Takes the node's degraded modes.
    pub fn conditions(&self, node: &Node, session: u64, conditions: &NodeConditions) {
        let changed = {
            let mut state = node.state();
            state.is_of(session) && state.set_conditions(conditions)
        };
        if changed {
            self.changed(node);
        }
    }

    /// Takes the processes on the node's GPUs.
    pub fn gpu_processes(&self, node: &Node, session: u64, processes: GpuProcesses) {
        let received = self.now();
        let left_out = processes.left_out;
        let processes = processes.processes.into_vec();
        let mut state = node.state();
        if state.is_of(session) {
            state.gpu_processes = Some(HeldProcesses { processes, left_out, received, this_session: true });
        }
    }

    /// Stores a batch; returns the highest durable sequence once the commit is done, however long that takes.
    pub async fn submit(&self, node: &Arc<Node>, batch: SpoolBatch) -> Result<Option<i64>, SubmitError> {
        let (done, answer) = oneshot::channel();
        let batch =
            Batch { node: Arc::clone(node), spool: batch.spool_id, records: batch.records.into_vec() };
        self.jobs.send(Job { batch, done }).await.map_err(|_| SubmitError::Stopping)?;
        answer.await.unwrap_or(Err(SubmitError::Stopping))
    }

    /// The identity is in two places: no action trusts it until an operator decides (PKI-09). The KeyVault writes it down.
    pub fn quarantine(&self, node: &Node, reason: &str) {
        let at = self.live.clock.now();
        {
            let mut state = node.state();
            if state.quarantine.is_some() {
                return;
            }
            state.quarantine = Some(Quarantine { since: at, reason: reason.to_owned() });
        }
        self.tell(node, EventKind::NodeCloneSuspected, Severity::Critical, reason, &[]);
        self.changed(node);
    }

    /// An operator trusts the node again.
    pub fn release(&self, node: &Node) {
        node.state().quarantine = None;
        self.changed(node);
    }

    /// Stores an event of the coordinator.
    pub fn tell(
        &self,
        node: &Node,
        kind: EventKind,
        severity: Severity,
        message: &str,
        attributes: &[(&str, &str)],
    ) {
        let attributes: BTreeMap<String, String> =
            attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.note(Note::Event(EventRow {
            node: node.id,
            origin: None,
            kind,
            severity,
            occurred: self.live.clock.now(),
            boot_id: None,
            subject: String::new(),
            message: message.to_owned(),
            attributes,
        }));
    }

    /// Hands a note to the writer; a full queue is said, never waited for.
    fn note(&self, note: Note) {
        if let Err(error) = self.notes.try_send(note) {
            tracing::error!(%error, "an event of the coordinator was lost: the queue to the database is full");
        }
    }

    fn changed(&self, node: &Node) {
        node.wake();
        self.live.publish_node(node);
    }

    async fn write_last_seen(self: Arc<Self>, stop: tokio_util::sync::CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LAST_SEEN_EVERY) => {}
                () = stop.cancelled() => return,
            }
            for node in self.nodes() {
                let seen = {
                    let state = node.state();
                    state.is_present().then_some(state.last_seen).flatten()
                };
                if let Some(seen) = seen {
                    // Waits for room, because there may be more nodes than places in the queue.
                    let note = Note::Node(node.id, NodeWrite::Seen(seen.wall));
                    if self.notes.send(note).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}
