//! Degraded modes with the moment they began.

use std::collections::BTreeMap;

use aim_common::protocol::Condition;
use aim_common::units::EpochMs;

/// The degraded modes of one collector.
#[derive(Debug, Default)]
pub(super) struct Standing {
    conditions: BTreeMap<(&'static str, String), Condition>,
}

/// A degraded mode as it is seen now.
#[derive(Debug)]
pub(super) struct Degraded {
    /// Its name (`gpu_lost`).
    pub(super) name: &'static str,
    /// What is affected, or empty.
    pub(super) subject: String,
    /// What is wrong and what to do.
    pub(super) detail: String,
    /// Since when, where that is known better than by looking.
    pub(super) since: Option<EpochMs>,
}

impl Standing {
    /// What stands now replaces the former list; what stood already keeps its beginning.
    pub(super) fn replace(&mut self, now: EpochMs, degraded: Vec<Degraded>) {
        let mut former = std::mem::take(&mut self.conditions);
        for Degraded { name, subject, detail, since } in degraded {
            let key = (name, subject);
            let began = former.remove(&key).map(|condition| condition.since);
            let condition = Condition {
                name: name.into(),
                subject: key.1.as_str().into(),
                since: began.or(since).unwrap_or(now),
                detail: detail.as_str().into(),
            };
            self.conditions.insert(key, condition);
        }
    }

    /// The list.
    pub(super) fn list(&self) -> Vec<Condition> {
        self.conditions.values().cloned().collect()
    }
}
