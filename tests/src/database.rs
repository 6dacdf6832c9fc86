//! A coordinator's database, looked at or held from outside.

use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Row};
use tokio::runtime::Runtime;

/// Holds the database's write lock until it is dropped.
pub struct Locked {
    // Declared first: its transaction must end on the runtime.
    _connection: SqliteConnection,
    _runtime: Runtime,
}

/// Takes the write lock, so that no other connection can write.
pub fn lock(file: &Path) -> Locked {
    let runtime = runtime();
    let connection = runtime.block_on(async {
        let mut connection = SqliteConnectOptions::new().filename(file).connect().await.unwrap();
        sqlx::query("BEGIN IMMEDIATE").execute(&mut connection).await.unwrap();
        connection
    });
    Locked { _connection: connection, _runtime: runtime }
}

/// Every (spool, sequence) with the number of its rows.
pub fn spool_records(file: &Path) -> Vec<(String, u64, u64)> {
    runtime().block_on(async {
        let options = SqliteConnectOptions::new().filename(file).read_only(true);
        let mut connection = options.connect().await.unwrap();
        let rows =
            sqlx::query("SELECT spool_id, sequence, COUNT(*) FROM spool_records GROUP BY spool_id, sequence")
                .fetch_all(&mut connection)
                .await
                .unwrap();
        let number = |row: &sqlx::sqlite::SqliteRow, at: usize| row.get::<i64, _>(at).unsigned_abs();
        rows.iter().map(|row| (row.get(0), number(row, 1), number(row, 2))).collect()
    })
}

/// Every record that came from a node: its node, spool and sequence.
pub fn records(file: &Path) -> Vec<(String, String, u64)> {
    runtime().block_on(async {
        let options = SqliteConnectOptions::new().filename(file).read_only(true);
        let mut connection = options.connect().await.unwrap();
        let rows = sqlx::query("SELECT node_id, spool_id, sequence FROM spool_records")
            .fetch_all(&mut connection)
            .await
            .unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1), row.get::<i64, _>(2).unsigned_abs())).collect()
    })
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
