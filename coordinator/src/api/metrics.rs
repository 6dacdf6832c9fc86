//! What the HTTP server counts of itself.

use std::sync::atomic::{AtomicU64, Ordering};

use http::StatusCode;

/// Answers by class of status.
#[derive(Debug, Default)]
pub struct HttpMetrics {
    classes: [AtomicU64; 5],
}

impl HttpMetrics {
    /// Counts one answer.
    pub fn count(&self, status: StatusCode) {
        if let Some(class) = self.classes.get(usize::from(status.as_u16() / 100).wrapping_sub(1)) {
            class.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The counts of 1xx to 5xx.
    pub fn classes(&self) -> impl Iterator<Item = (usize, u64)> {
        self.classes.iter().enumerate().map(|(index, count)| (index + 1, count.load(Ordering::Relaxed)))
    }
}
