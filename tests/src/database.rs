//! A coordinator's database, looked at or held from outside.

use std::collections::BTreeMap;
use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection, Row};
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

/// What the database holds of one agent token and of what it was redeemed for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenTrace {
    /// `outstanding`, `redeemed`, …
    pub state: String,
    /// The keyed hash by which it could be redeemed is there.
    pub has_hash: bool,
    /// The serial that the token's row names.
    pub serial: Option<String>,
    /// Serials of all certificates of living nodes of the token's name.
    pub certificates: Vec<String>,
    /// Serials that audit records of enrolments of this name tell of.
    pub audited: Vec<String>,
}

/// Every agent token by the name of its node.
pub fn token_traces(file: &Path) -> BTreeMap<String, TokenTrace> {
    runtime().block_on(async {
        let mut connection = SqliteConnectOptions::new().filename(file).connect().await.unwrap();
        let tokens: Vec<(String, String, bool, Option<String>)> = sqlx::query_as(
            "SELECT node_name, state, storage_hash IS NOT NULL, certificate_serial FROM tokens \
             WHERE purpose = 'agent-enrol'",
        )
        .fetch_all(&mut connection)
        .await
        .unwrap();
        let certificates: Vec<(String, String)> = sqlx::query_as(
            "SELECT n.name, c.serial FROM nodes n JOIN certificates c ON c.node_id = n.id WHERE n.state = 'living'",
        )
        .fetch_all(&mut connection)
        .await
        .unwrap();
        let audited: Vec<(String, String)> = sqlx::query_as(
            "SELECT json_extract(detail, '$.name'), json_extract(detail, '$.serial') FROM audit \
             WHERE action = 'node.enrol' AND decision = 'allowed'",
        )
        .fetch_all(&mut connection)
        .await
        .unwrap();
        connection.close().await.unwrap();
        let of = |all: &[(String, String)], name: &str| -> Vec<String> {
            all.iter().filter(|(known, _)| known == name).map(|(_, serial)| serial.clone()).collect()
        };
        let traces = tokens.into_iter().map(|(name, state, has_hash, serial)| {
            let (certificates, audited) = (of(&certificates, &name), of(&audited, &name));
            (name, TokenTrace { state, has_hash, serial, certificates, audited })
        });
        traces.collect()
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
