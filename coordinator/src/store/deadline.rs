//! Lists whose cost input decides: they are answered in time or given up, whatever is asked of however many rows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::sqlite::SqliteConnection;

use super::StoreError;

/// Longest work for one answer; with everything around it, the answer is there within 500 ms (API-02).
pub(super) const ANSWER: Duration = Duration::from_millis(400);
/// The same, said to PostgreSQL.
pub(super) const POSTGRES_ANSWER: &str = "SET LOCAL statement_timeout = 400";
/// SQLite looks whether to go on after so many steps, some 10 µs; statements of few rows never do.
const STEPS: i32 = 1_000;

/// Makes the connection's running statement end when dropped: at the deadline, or when the client has gone.
pub(super) struct Interrupt(Arc<AtomicBool>);

impl Drop for Interrupt {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Interrupt {
    /// Arms the connection; the pool disarms it when it comes back.
    pub(super) async fn arm(connection: &mut SqliteConnection) -> Result<Self, StoreError> {
        let over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&over);
        connection.lock_handle().await?.set_progress_handler(STEPS, move || !seen.load(Ordering::Relaxed));
        Ok(Self(over))
    }

    /// Back to a connection whose statements run to their end.
    pub(super) async fn disarm(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
        connection.lock_handle().await?.remove_progress_handler();
        Ok(true)
    }
}

/// The work's outcome, if it is there in time.
pub(super) async fn in_time<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    tokio::time::timeout(ANSWER, work).await.unwrap_or(Err(StoreError::TooSlow))
}

/// A number that takes too long to count is not known.
pub(super) fn if_known(count: Result<i64, StoreError>) -> Result<Option<i64>, StoreError> {
    match count {
        Err(StoreError::TooSlow) => Ok(None),
        counted => counted.map(Some),
    }
}

/// Runs the expression, a `Result`, on a reading connection, on whichever engine is in use, for [`ANSWER`] at most.
macro_rules! read_in_time {
    ($store:expr, $connection:ident => $body:expr) => {
        match &$store.db {
            $crate::store::Db::Lite { reader, .. } => {
                let mut held = reader.acquire().await?;
                let _interrupt = $crate::store::deadline::Interrupt::arm(&mut held).await?;
                let $connection = &mut *held;
                $crate::store::deadline::in_time(async { $body }).await
            }
            $crate::store::Db::Pg { pool } => {
                let mut held = pool.begin().await?;
                sqlx::query($crate::store::deadline::POSTGRES_ANSWER).execute(&mut *held).await?;
                let $connection = &mut *held;
                $crate::store::deadline::in_time(async { $body }).await
            }
        }
    };
}

pub(super) use read_in_time;
