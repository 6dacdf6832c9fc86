//! What the database can answer instead of rows.

/// "Character not in repertoire": of the texts that Rust knows, only those with NUL.
const POSTGRES_NOT_IN_REPERTOIRE: &str = "22021";

/// Why the database did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It could not be opened.
    #[error("cannot open {what}: {source}; check that it exists, is readable and is not damaged")]
    Open {
        /// The file or database.
        what: String,
        /// The driver's reason.
        source: sqlx::Error,
    },
    /// Its schema could not be brought up to date.
    #[error("cannot bring the database schema up to date: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// It is not there, is full, or did not answer in time: the caller may try again.
    #[error("the database is not available: {0}")]
    Unavailable(sqlx::Error),
    /// A list was asked for in a way that takes too long to answer (API-02).
    #[error("this takes too long to find; ask for less: one node, one kind, a shorter time")]
    TooSlow,
    /// A unique value exists already.
    #[error("{0} exists already")]
    Conflict(String),
    /// A text holds NUL, which PostgreSQL's texts cannot hold.
    #[error("a text holds a NUL character, which the database cannot hold")]
    NulCharacter,
    /// A row does not form what it should.
    #[error("row {id} of table {table} is damaged in column {column}: {reason}")]
    Damaged {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The row.
        id: String,
        /// What is wrong.
        reason: String,
    },
    /// Any other refusal of the driver: a fault of ours.
    #[error("a database statement failed: {0}")]
    Statement(sqlx::Error),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Io(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::Tls(_) => Self::Unavailable(error),
            sqlx::Error::Database(cause) if cause.is_unique_violation() => {
                Self::Conflict(cause.constraint().unwrap_or("a value").to_owned())
            }
            sqlx::Error::Database(cause) if cause.code().as_deref() == Some(POSTGRES_NOT_IN_REPERTOIRE) => {
                Self::NulCharacter
            }
            // SQLite: busy, locked, read-only, I/O error, full, cannot open. PostgreSQL: classes 08, 53, 57.
            sqlx::Error::Database(cause) => match cause.code().as_deref() {
                Some("5" | "6" | "8" | "10" | "13" | "14" | "261" | "517") => Self::Unavailable(error),
                Some(code)
                    if ["08", "53", "57"].iter().any(|class| code.len() == 5 && code.starts_with(class)) =>
                {
                    Self::Unavailable(error)
                }
                _ => Self::Statement(error),
            },
            _ => Self::Statement(error),
        }
    }
}
