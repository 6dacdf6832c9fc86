//! The coordinator's own degraded modes by name: `/readyz`, a metric, and one log line at entry and exit (INV-7).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use aim_common::api::nodes::Condition;
use aim_common::units::EpochMs;

/// The list of degraded modes in force.
#[derive(Debug, Default)]
pub struct Conditions {
    active: Mutex<BTreeMap<(String, String), Condition>>,
}

impl Conditions {
    /// Enters a mode; entering it again only changes the detail.
    pub fn enter(&self, name: &str, subject: &str, since: EpochMs, detail: &str) {
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (name.to_owned(), subject.to_owned());
        if let Some(condition) = active.get_mut(&key) {
            detail.clone_into(&mut condition.detail);
            return;
        }
        tracing::warn!(condition.name = name, condition.subject = subject, detail, "condition entered");
        let condition = Condition {
            name: name.to_owned(),
            subject: subject.to_owned(),
            since,
            detail: detail.to_owned(),
        };
        active.insert(key, condition);
    }

    /// Leaves a mode; nothing happens where it was not in force.
    pub fn leave(&self, name: &str, subject: &str) {
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        if active.remove(&(name.to_owned(), subject.to_owned())).is_some() {
            tracing::info!(condition.name = name, condition.subject = subject, "condition left");
        }
    }

    /// The mode is in force for any subject.
    pub fn is_active(&self, name: &str) -> bool {
        self.active.lock().unwrap_or_else(PoisonError::into_inner).keys().any(|(active, _)| active == name)
    }

    /// All modes in force, by name.
    pub fn list(&self) -> Vec<Condition> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}
