//! What the KeyVault does by itself: sweeping, writing down what waited, watching the database, changing certificates.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{KeyVault, journal};

/// Between two rounds; ENR-14 allows a secret 60 s after its end.
const ROUND: Duration = Duration::from_secs(5);
/// The journal is marked and the registry swept each so many rounds.
const ROUNDS_TO_MARK: u64 = 12;
/// A round that takes longer waits for a database that hangs.
const LONGEST_ROUND: Duration = Duration::from_secs(20);
/// From the loss of the database to its noticing, and from one look to the next: a round and its deadline each.
const NOTICED_LATE: Duration = Duration::from_secs(20);
/// Name of the condition of a database that is away.
const DATABASE_UNAVAILABLE: &str = "database_unavailable";

impl KeyVault {
    /// Runs until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut clones = self.raised_alarms.lock().await;
        let mut rounds = tokio::time::interval(ROUND);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut lost_since = None;
        for number in 0_u64.. {
            tokio::select! {
                () = stop.cancelled() => break,
                Some((node, reason)) = clones.recv() => self.write_quarantine(node, reason).await,
                _ = rounds.tick() => {
                    lost_since = self.watch_database(lost_since).await;
                    if lost_since.is_none() && tokio::time::timeout(LONGEST_ROUND, self.round(number)).await.is_err() {
                        tracing::warn!("the database stopped answering within a round of the KeyVault");
                    }
                    self.renew_server_certificate();
                }
            }
        }
        // The next start compares with the last mark.
        if let Err(error) = self.mark_audit().await {
            tracing::warn!(%error, "the journal could not be marked at the end");
        }
    }

    async fn round(&self, number: u64) {
        if let Err(error) = self.write_kept().await {
            tracing::warn!(%error, "decisions still wait for the database");
        }
        if let Err(error) = self.sweep_tokens().await {
            tracing::warn!(%error, "tokens could not be swept");
        }
        if let Err(error) = self.sweep_requests().await {
            tracing::warn!(%error, "requests for approval could not be swept");
        }
        self.renew_issuing().await;
        let now = self.clock.now();
        if number.is_multiple_of(ROUNDS_TO_MARK) {
            self.identities.write().sweep(now);
            let horizon = now.plus_ms(-journal::REDEEMED_MEMORY_MS);
            self.redeemed
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .retain(|_, expires_at| *expires_at > horizon);
            if !self.fence().fenced
                && let Err(error) = self.mark_audit().await
            {
                tracing::warn!(%error, "the journal could not be marked");
            }
            if let Err(error) = self.journal.compact_if_large(now).await {
                tracing::error!(%error, "the journal could not be compacted");
            }
        }
    }

    /// Since when the database is away by the monotonic clock; enters and leaves report-only mode.
    pub(super) async fn watch_database(&self, lost_since: Option<Duration>) -> Option<Duration> {
        let now = self.clock.monotonic();
        let answer = tokio::time::timeout(ROUND, self.store.ping()).await;
        let detail = match answer {
            Ok(Ok(())) => {
                self.conditions.leave(DATABASE_UNAVAILABLE, "keyvault");
                self.identities.set_stale(false);
                return None;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the database did not answer in time".to_owned(),
        };
        let since = lost_since.unwrap_or(now);
        self.conditions.enter(DATABASE_UNAVAILABLE, "keyvault", self.clock.now(), &detail);
        let admitted = Duration::from_secs(self.config.admission_without_database_seconds.into());
        self.identities.set_stale(now.saturating_sub(since) + NOTICED_LATE >= admitted);
        Some(since)
    }
}
