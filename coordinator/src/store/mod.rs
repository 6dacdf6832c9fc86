//! SQL: one file per aggregate, the same text for SQLite and PostgreSQL.
//!
//! Enters: typed rows and ids of the layers above. Leaves: typed rows, `Option` for not found. Never: SQL built from
//! input, a secret in clear, a decision about who may do what.
//!
//! SQLite has one writing connection (`writer`) and several reading ones; PostgreSQL has one pool for both.

pub mod audit;
pub mod certificates;
mod deadline;
pub mod enrolment;
pub mod enrolment_requests;
mod error;
pub mod events;
mod fence;
pub mod inventory;
pub mod nodes;
pub mod roles;
pub mod salt;
pub mod sealed;
pub mod sessions;
pub mod spool;
pub mod tokens;
pub mod users;

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgSslMode};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

pub use error::StoreError;

/// Runs the expression with a pool to read from, on whichever engine is in use.
macro_rules! read {
    ($store:expr, $pool:ident => $body:expr) => {
        match &$store.db {
            $crate::store::Db::Lite { reader: $pool, .. } => $body,
            $crate::store::Db::Pg { pool: $pool } => $body,
        }
    };
}

/// Runs the expression with a pool to write to, on whichever engine is in use.
///
/// Begin transactions with `$pool.begin_with($store.begin())`, so that SQLite takes its lock at once.
macro_rules! write {
    ($store:expr, $pool:ident => $body:expr) => {
        match &$store.db {
            $crate::store::Db::Lite { writer: $pool, .. } => $body,
            $crate::store::Db::Pg { pool: $pool } => $body,
        }
    };
}

/// Begins a writing transaction that decides by what it reads first, such as "is this the last administrator?".
///
/// SQLite's writer is alone anyway; on PostgreSQL such transactions wait for each other, those of other coordinators too.
macro_rules! begin_deciding {
    ($store:expr, $pool:expr) => {{
        let mut tx = $pool.begin_with($store.begin()).await?;
        if let Some(lock) = $store.audit_lock() {
            sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(lock).execute(&mut *tx).await?;
        }
        tx
    }};
}

pub(crate) use {begin_deciding, read, write};

static SQLITE_MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES_MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("migrations/postgres");

/// Longest wait for a connection of the pool (DAT-06).
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for SQLite's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Reading connections; two cores do not serve more at once.
const READERS: u32 = 4;
/// PostgreSQL connections of one coordinator.
const POSTGRES_CONNECTIONS: u32 = 16;

/// The engine in use.
#[derive(Debug, Clone)]
pub(crate) enum Db {
    /// SQLite.
    Lite {
        /// The one writing connection.
        writer: SqlitePool,
        /// Reading connections.
        reader: SqlitePool,
    },
    /// PostgreSQL.
    Pg {
        /// Its pool.
        pool: PgPool,
    },
}

/// The database.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) db: Db,
}

impl Store {
    /// Opens SQLite in one file and brings its schema up to date.
    pub async fn open_sqlite(path: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // FULL, not NORMAL: what was acknowledged must survive a power cut.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true)
            // What was deleted is overwritten: a token's hash must not stay behind in free space (ENR-14).
            .pragma("secure_delete", "ON");
        let opened = |source| StoreError::Open { what: path.display().to_string(), source };
        let pool = |connections| {
            SqlitePoolOptions::new().max_connections(connections).acquire_timeout(ACQUIRE_TIMEOUT)
        };
        let writer = pool(1).connect_with(options.clone()).await.map_err(opened)?;
        SQLITE_MIGRATIONS.run(&writer).await?;
        let reader = pool(READERS)
            .after_release(|connection, _| Box::pin(deadline::Interrupt::disarm(connection)))
            .connect_with(options.read_only(true))
            .await
            .map_err(opened)?;
        Ok(Self { db: Db::Lite { writer, reader } })
    }

    /// Opens PostgreSQL by URL, over the network only with a verified certificate, and brings its schema up to date under the migrator's own lock.
    pub async fn open_postgres(url: &str) -> Result<Self, StoreError> {
        // The URL may hold a password, so that no message repeats it.
        let opened = |source| StoreError::Open { what: "the PostgreSQL database".to_owned(), source };
        let mut options: PgConnectOptions = url.parse().map_err(opened)?;
        if !is_on_this_host(&options) {
            // A password and the fleet's data travel only to the server that the certificate names.
            options = options.ssl_mode(PgSslMode::VerifyFull);
        }
        let options = options.options([("statement_timeout", "5000"), ("synchronous_commit", "on")]);
        let pool = PgPoolOptions::new()
            .max_connections(POSTGRES_CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(options)
            .await
            .map_err(opened)?;
        POSTGRES_MIGRATIONS.run(&pool).await?;
        Ok(Self { db: Db::Pg { pool } })
    }

    /// The statement that begins a writing transaction.
    pub(crate) fn begin(&self) -> &'static str {
        match self.db {
            Db::Lite { .. } => "BEGIN IMMEDIATE",
            Db::Pg { .. } => "BEGIN",
        }
    }

    /// Closes every connection after running statements have ended.
    pub async fn close(&self) {
        match &self.db {
            Db::Lite { writer, reader } => {
                reader.close().await;
                writer.close().await;
            }
            Db::Pg { pool } => pool.close().await,
        }
    }
}

/// The server is reached by a socket or by the loopback interface, where nobody can listen in.
fn is_on_this_host(options: &PgConnectOptions) -> bool {
    let host = options.get_host();
    options.get_socket().is_some()
        || host.starts_with('/')
        || host == "localhost"
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_server_on_this_host_is_reached_without_a_certificate() {
        for (url, here) in [
            ("postgres:///aim?host=/run/postgresql", true),
            ("postgres://aim@localhost/aim", true),
            ("postgres://aim@127.0.0.1:5433/aim", true),
            ("postgres://aim@db.example.org/aim?sslmode=disable", false),
            ("postgres://aim@192.0.2.7/aim", false),
        ] {
            assert_eq!(is_on_this_host(&url.parse().unwrap()), here, "{url}");
        }
    }
}
