//! The one task that writes what comes from nodes: groups of records, one transaction each.
//!
//! Enters: batches of spools, events and notes of the coordinator, through bounded queues. Leaves: an answer per batch,
//! given only after the commit. Never: an acknowledgement before it, or a record dropped because the database is away.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aim_common::identity::{NodeId, SpoolId};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::live::Live;
use super::moment::Moment;
use super::node::HeldSection;
use super::plan::{AfterCommit, Batch, Plan};
use crate::conditions::Conditions;
use crate::store::spool::{EventRow, NodeWrite};
use crate::store::{Store, StoreError};

/// How long a group waits for company; with the commit itself it stays below 50 ms.
const GROUP_WINDOW: Duration = Duration::from_millis(20);
/// Records of one group.
const GROUP_RECORDS: usize = 500;
/// Batches that wait; 1 MiB each at the worst, which bounds the memory while the database is away (FLT-10).
pub(super) const BATCH_QUEUE: usize = 64;
/// Events and notes of the coordinator that wait: some for each of 10,000 nodes.
pub(super) const NOTE_QUEUE: usize = 32 * 1024;
/// Notes of one group.
const GROUP_NOTES: usize = 1_000;
/// First and longest pause between attempts while the database is away.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));
/// The condition while the database is away.
pub const DATABASE_UNAVAILABLE: &str = "database_unavailable";

/// Why a batch was not stored.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The coordinator is stopping; the node keeps the records.
    #[error("the coordinator is stopping")]
    Stopping,
    /// The database refuses the records themselves.
    #[error("the records were refused: {0}")]
    Refused(StoreError),
}

/// A batch and who waits for it.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) batch: Batch,
    pub(super) done: oneshot::Sender<Result<Option<i64>, SubmitError>>,
}

/// What the coordinator itself writes; nobody waits for it.
#[derive(Debug, Clone)]
pub(super) enum Note {
    Event(EventRow),
    Node(NodeId, NodeWrite),
}

/// The task's state.
pub(super) struct Writer {
    pub(super) store: Store,
    pub(super) live: Arc<Live>,
    pub(super) conditions: Arc<Conditions>,
    pub(super) jobs: mpsc::Receiver<Job>,
    pub(super) notes: mpsc::Receiver<Note>,
    pub(super) stop: CancellationToken,
    /// The position of each node's newest spool, as the database has it.
    pub(super) positions: HashMap<NodeId, (SpoolId, Option<i64>)>,
}

impl Writer {
    /// Writes until stopped; then once more what waits, if the database takes it.
    pub(super) async fn run(mut self) {
        let stop = self.stop.clone();
        loop {
            let (mut jobs, mut notes) = (Vec::new(), Vec::new());
            tokio::select! {
                Some(job) = self.jobs.recv() => jobs.push(job),
                Some(note) = self.notes.recv() => notes.push(note),
                () = stop.cancelled() => break,
            }
            self.gather(&mut jobs, &mut notes).await;
            self.write(jobs, notes).await;
        }
        let (mut jobs, mut notes) = (Vec::new(), Vec::new());
        while let Ok(job) = self.jobs.try_recv() {
            jobs.push(job);
        }
        while let Ok(note) = self.notes.try_recv() {
            notes.push(note);
        }
        self.write(jobs, notes).await;
    }

    /// Waits a moment for company, so that one commit serves many nodes.
    async fn gather(&mut self, jobs: &mut Vec<Job>, notes: &mut Vec<Note>) {
        let window = tokio::time::sleep(GROUP_WINDOW);
        tokio::pin!(window);
        while jobs.iter().map(|job| job.batch.records.len()).sum::<usize>() < GROUP_RECORDS
            && notes.len() < GROUP_NOTES
        {
            tokio::select! {
                Some(job) = self.jobs.recv() => jobs.push(job),
                Some(note) = self.notes.recv() => notes.push(note),
                () = &mut window => break,
                () = self.stop.cancelled() => break,
            }
        }
    }

    /// Writes a group; where it is refused, each of its parts alone, so that one bad record stops nobody else.
    async fn write(&mut self, mut jobs: Vec<Job>, mut notes: Vec<Note>) {
        // A session that ended will offer its records again.
        jobs.retain(|job| !job.done.is_closed());
        if jobs.is_empty() && notes.is_empty() {
            return;
        }
        if self.write_together(&mut jobs, &notes).await.is_ok() {
            return;
        }
        for job in jobs.drain(..) {
            let mut alone = vec![job];
            if let Err(error) = self.write_together(&mut alone, &[]).await {
                for job in alone {
                    tracing::error!(node.id = %job.batch.node.id, %error, "records of a node were refused by the database");
                    let _ = job.done.send(Err(SubmitError::Refused(StoreError::Conflict(error.to_string()))));
                }
            }
        }
        for note in notes.drain(..) {
            if let Err(error) = self.write_together(&mut Vec::new(), std::slice::from_ref(&note)).await {
                tracing::error!(%error, ?note, "a note of the coordinator was refused by the database");
            }
        }
    }

    /// Tries until the database is there; answers every job on success and leaves them untouched on refusal.
    async fn write_together(&mut self, jobs: &mut Vec<Job>, notes: &[Note]) -> Result<(), StoreError> {
        let mut pause = RETRY.0;
        let mut conflicts = 0;
        loop {
            match self.attempt(jobs, notes).await {
                Ok(()) => {
                    self.conditions.leave(DATABASE_UNAVAILABLE, "");
                    return Ok(());
                }
                Err(StoreError::Unavailable(error)) => {
                    self.conditions.enter(
                        DATABASE_UNAVAILABLE,
                        "",
                        self.live.clock.now(),
                        &format!("events and inventory wait on the nodes; mend the database: {error}"),
                    );
                    if self.stop.is_cancelled() {
                        // Nothing was acknowledged: the nodes offer it again.
                        jobs.drain(..).for_each(|job| {
                            let _ = job.done.send(Err(SubmitError::Stopping));
                        });
                        return Ok(());
                    }
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = self.stop.cancelled() => {}
                    }
                    pause = (pause * 2).min(RETRY.1);
                }
                // Somebody else stored a record: the positions in memory are behind those of the database.
                Err(StoreError::Conflict(what)) if conflicts == 0 => {
                    tracing::warn!(what, "a record was stored already; reading the positions again");
                    self.positions.clear();
                    conflicts += 1;
                }
                Err(error) => {
                    self.positions.clear();
                    return Err(error);
                }
            }
        }
    }

    async fn attempt(&mut self, jobs: &mut Vec<Job>, notes: &[Note]) -> Result<(), StoreError> {
        let mut plan = Plan::new(self.live.clock.now());
        let mut reached: HashMap<NodeId, (SpoolId, Option<i64>)> = HashMap::new();
        let mut answers = Vec::with_capacity(jobs.len());
        for job in jobs.iter() {
            let batch = &job.batch;
            let position = match reached.get(&batch.node.id) {
                Some((spool, position)) if *spool == batch.spool => *position,
                _ => self.position(batch.node.id, batch.spool).await?,
            };
            let position = plan.add_batch(batch, position);
            reached.insert(batch.node.id, (batch.spool, position));
            answers.push(position);
        }
        for note in notes {
            match note {
                Note::Event(event) => plan.add_event(event.clone()),
                Note::Node(node, write) => plan.group.nodes.push((*node, write.clone())),
            }
        }
        let ids = self.store.commit_group(&plan.group).await?;
        self.positions.extend(reached);
        self.apply(&plan.after, plan.group.stored_at);
        for (event, id) in plan.group.events.into_iter().zip(ids) {
            self.live.publish_event(event, id, plan.group.stored_at);
        }
        for (job, position) in jobs.drain(..).zip(answers) {
            // The session may have ended meanwhile.
            let _ = job.done.send(Ok(position));
        }
        Ok(())
    }

    async fn position(&self, node: NodeId, spool: SpoolId) -> Result<Option<i64>, StoreError> {
        match self.positions.get(&node) {
            Some((known, position)) if *known == spool => Ok(*position),
            _ => self.store.spool_position(node, spool).await,
        }
    }

    /// Brings the live state to what is durable now.
    fn apply(&self, after: &AfterCommit, stored_at: aim_common::units::EpochMs) {
        let received = Moment { wall: stored_at, monotonic: Some(self.live.clock.monotonic()) };
        for (id, node) in &after.nodes {
            let sections = after.sections.iter().filter(|((owner, _), _)| owner == id);
            let mut changed = false;
            let mut state = node.state();
            for ((_, tag), section) in sections {
                changed = true;
                match section {
                    Some(encoded) => {
                        let encoded = Arc::clone(encoded);
                        state.sections.insert(*tag, HeldSection { encoded, received });
                    }
                    None => {
                        state.sections.remove(tag);
                    }
                }
            }
            if let Some(hash) = after.hashes.get(id) {
                state.inventory_sha256 = *hash;
                if let Some(session) = &mut state.session {
                    session.inventory_confirmed = hash.is_some();
                }
            }
            if changed {
                state.read_facts();
            }
            drop(state);
            if changed {
                self.live.publish_node(node);
            }
        }
    }
}
