//! The end of old audit records on PostgreSQL: the same statements as on SQLite, and nothing refused (LOG-03).
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use aim_common::units::EpochMs;
use aim_coordinator::audit::{Witness, prune, verify};
use aim_coordinator::config::Config;
use aim_coordinator::store::Store;
use aim_coordinator::store::audit::{Decision, NewAuditRecord};
use aim_tests::Postgres;
use serde_json::json;
use tempfile::TempDir;

const DAY_MS: i64 = 24 * 3600 * 1000;

async fn append(store: &Store, day: i64) {
    let record = NewAuditRecord {
        at: EpochMs(day * DAY_MS),
        actor: "user:alice".to_owned(),
        source: String::new(),
        action: "role.put",
        target: "role".to_owned(),
        decision: Decision::Allowed,
        detail: json!({}),
        request_id: String::new(),
    };
    store.audit_append(&record).await.unwrap();
}

#[test]
fn log_03_old_records_end_on_postgresql_and_what_is_kept_can_still_be_verified() {
    let dir = TempDir::new().unwrap();
    let server = Postgres::start(dir.path());
    let url = std::fs::read_to_string(server.url_file(dir.path())).unwrap();
    let config = Config { state_dir: dir.path().to_owned(), ..Config::default() };
    let witness = Witness::load_or_create(&config).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Store::open_postgres(url.trim()).await.unwrap();
        for day in [1, 2, 3, 300, 301] {
            append(&store, day).await;
        }
        assert_eq!(prune(&store, &witness, 365, EpochMs(367 * DAY_MS - 1)).await.unwrap(), None);
        assert_eq!(prune(&store, &witness, 365, EpochMs(400 * DAY_MS)).await.unwrap(), Some(3));
        let found = verify(&store, &witness).await.unwrap();
        assert_eq!((found.intact, found.checked), (true, 3), "{found:?}");
        store.close().await;
    });
    let refused: Vec<_> =
        server.log().lines().filter(|line| line.contains("ERROR:")).map(str::to_owned).collect();
    assert!(refused.is_empty(), "{refused:?}");
}
