//! The signed checkpoints of the audit trail, and the end of old records (LOG-03).

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use aim_common::api::audit::AuditVerification;
use aim_common::units::EpochMs;
use aim_coordinator::audit::{Witness, prune};
use aim_coordinator::config::Config;
use aim_coordinator::host_commands::audit_verify;
use aim_coordinator::serve;
use aim_coordinator::store::Store;
use aim_coordinator::store::audit::{AuditRow, Decision, NewAuditRecord};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{Fixture, client, config};

const DAY_MS: i64 = 24 * 3600 * 1000;

/// The coordinator's settings without what only its first start needs.
fn settings(fixture: &Fixture) -> Config {
    let mut config = (*fixture.running.app.config).clone();
    config.auth.initial_password_file = None;
    config
}

async fn make_roles(fixture: &Fixture, count: usize) {
    let admin = fixture.admin().await;
    for n in 0..count {
        let body = json!({"permissions": []});
        let path = format!("/api/v1/roles/role-{n}");
        assert!(fixture.call(&admin, "PUT", &path, Some(body)).await.0.is_success());
    }
}

fn checkpoints(config: &Config) -> Vec<Value> {
    let file = config.audit.checkpoint_file.clone();
    let text =
        std::fs::read_to_string(file.unwrap_or_else(|| config.state_dir.join("audit-checkpoints.jsonl")));
    text.unwrap_or_default().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn execute(config: &Config, statements: &[&'static str]) {
    let url = format!("sqlite://{}", config.sqlite_path().display());
    let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
    for statement in statements {
        sqlx::query(*statement).execute(&pool).await.unwrap();
    }
    pool.close().await;
}

/// Gives every record the hashes that its fields have now: what somebody does who knows how the chain is made.
async fn rehash(config: &Config) {
    let url = format!("sqlite://{}", config.sqlite_path().display());
    let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
    let rows: Vec<AuditRow> =
        sqlx::query_as("SELECT * FROM audit ORDER BY sequence").fetch_all(&pool).await.unwrap();
    let mut previous = rows[0].previous_hash.clone();
    for mut row in rows {
        row.previous_hash = previous;
        let hash = row.expected_hash();
        sqlx::query("UPDATE audit SET previous_hash = $1, hash = $2 WHERE sequence = $3")
            .bind(&row.previous_hash)
            .bind(&hash)
            .bind(row.sequence)
            .execute(&pool)
            .await
            .unwrap();
        previous = hash;
    }
    pool.close().await;
}

fn assert_broken(found: &AuditVerification, at: i64, words: &str) {
    assert_eq!((found.intact, found.broken_at), (false, Some(at)), "{found:?}");
    assert!(found.detail.contains(words), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn log_03_checkpoints_find_a_trail_that_was_cut_or_written_anew() {
    let fixture = Fixture::start().await;
    make_roles(&fixture, 6).await;
    let config = settings(&fixture);
    let last = i64::try_from(fixture.audit().await.len()).unwrap();
    let directory = fixture.stop().await;
    // The stop wrote the last one.
    let written = checkpoints(&config);
    assert_eq!(written.last().unwrap()["sequence"], last);
    let file = config.state_dir.join("audit-checkpoints.jsonl");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let found = audit_verify(&config).await.unwrap();
    assert!(found.intact && found.detail.contains("checkpoints agree"), "{found:?}");

    let original = std::fs::read(config.sqlite_path()).unwrap();
    let restore = || std::fs::write(config.sqlite_path(), &original).unwrap();
    // The newest rows are gone.
    execute(&config, &["DELETE FROM audit WHERE sequence > (SELECT MAX(sequence) - 2 FROM audit)"]).await;
    assert_broken(&audit_verify(&config).await.unwrap(), last - 1, "are missing");
    // All rows are gone.
    restore();
    execute(&config, &["DELETE FROM audit"]).await;
    assert_broken(&audit_verify(&config).await.unwrap(), 1, "are missing");
    // A chain that is whole in itself, with another content.
    restore();
    execute(&config, &["UPDATE audit SET actor = 'user:mallory' WHERE sequence = 3"]).await;
    rehash(&config).await;
    let found = audit_verify(&config).await.unwrap();
    assert!(!found.intact && found.detail.contains("signed checkpoint"), "{found:?}");
    // A checkpoint that the key did not sign.
    restore();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace(&format!("\"sequence\":{last}"), "\"sequence\":2")).unwrap();
    let found = audit_verify(&config).await.unwrap();
    assert!(!found.intact && found.detail.contains("audit-checkpoints.jsonl:"), "{found:?}");
    std::fs::write(&file, text).unwrap();
    assert!(audit_verify(&config).await.unwrap().intact);
    drop(directory);
}

#[tokio::test(flavor = "multi_thread")]
async fn log_03_checkpoints_go_where_they_are_configured_and_a_fault_is_a_condition() {
    let elsewhere = tempfile::tempdir().unwrap();
    let path = elsewhere.path().join("exported.jsonl");
    let fixture = Fixture::start_with(|config| config.audit.checkpoint_file = Some(path.clone())).await;
    let config = settings(&fixture);
    await_condition(&fixture, false).await;
    fixture.stop().await;
    assert!(!checkpoints(&config).is_empty());

    let missing = elsewhere.path().join("missing/exported.jsonl");
    let fixture = Fixture::start_with(|config| config.audit.checkpoint_file = Some(missing)).await;
    await_condition(&fixture, true).await;
    fixture.admin().await;
    fixture.stop().await;
}

/// Waits until the condition of an unwritable file is in force, or until the first checkpoint is written.
async fn await_condition(fixture: &Fixture, in_force: bool) {
    let app = &fixture.running.app;
    let deadline = app.clock.monotonic() + Duration::from_secs(30);
    let there = || {
        if in_force {
            app.conditions.is_active("audit_checkpoint_unwritable")
        } else {
            !checkpoints(&app.config).is_empty()
        }
    };
    while !there() {
        assert!(app.clock.monotonic() < deadline, "conditions: {:?}", app.conditions.list());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn append(store: &Store, at: EpochMs, target: &str) {
    let record = NewAuditRecord {
        at,
        actor: "user:alice".to_owned(),
        source: String::new(),
        action: "role.put",
        target: target.to_owned(),
        decision: Decision::Allowed,
        detail: json!({}),
        request_id: String::new(),
    };
    store.audit_append(&record).await.unwrap();
}

fn witness_in(folder: &Path) -> Witness {
    Witness::load_or_create(&Config { state_dir: folder.to_owned(), ..Config::default() }).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn log_03_old_records_end_and_what_is_kept_can_still_be_verified() {
    let fixture = Fixture::start().await;
    make_roles(&fixture, 4).await;
    let (store, audit) = (&fixture.running.app.store, &fixture.running.app.audit);
    let now = fixture.running.app.clock.now();
    let old = i64::try_from(fixture.audit().await.len()).unwrap();
    for n in 0..3 {
        append(store, now.plus_ms((300 + n) * DAY_MS), "kept").await;
    }
    // A day's worth is waited for, and 365 days are kept.
    for early in [364 * DAY_MS, 365 * DAY_MS + DAY_MS / 2] {
        assert_eq!(prune(store, audit.witness(), 365, now.plus_ms(early)).await.unwrap(), None);
    }
    let later = now.plus_ms(400 * DAY_MS);
    assert_eq!(prune(store, audit.witness(), 365, later).await.unwrap(), Some(old));
    assert_eq!(prune(store, audit.witness(), 365, later).await.unwrap(), None, "once");
    let rows = fixture.audit().await;
    let said: Vec<_> = rows.iter().map(|row| (row.sequence - old, row.action.as_str())).collect();
    assert_eq!(said, [(1, "role.put"), (2, "role.put"), (3, "role.put"), (4, "audit.prune")]);
    assert_eq!((rows[3].actor.as_str(), &*rows[3].target), ("coordinator", &*format!("record:{old}")));
    let found = audit.verify().await.unwrap();
    assert_eq!((found.intact, found.checked), (true, 4), "{found:?}");
    // It goes on from there, also through the next deletion and a restart.
    let admin = fixture.admin().await;
    let (status, verified) = fixture.call(&admin, "GET", "/api/v1/audit/verify", None).await;
    assert_eq!((status, &verified["intact"]), (StatusCode::OK, &json!(true)), "{verified}");
    let directory = fixture.stop().await;
    let running = serve::start(config(&directory)).await.unwrap();
    assert!(!running.app.keyvault.fence().fenced, "{:?}", running.app.keyvault.fence());
    let (store, audit) = (&running.app.store, &running.app.audit);
    let through = prune(store, audit.witness(), 365, now.plus_ms(700 * DAY_MS)).await.unwrap();
    assert_eq!(through, Some(old + 3), "what is too new to be deleted stops it");
    assert!(audit.verify().await.unwrap().intact);
    let url = format!("https://localhost:{}/healthz", running.https_addr.port());
    assert!(client(&running).get(url).send().await.unwrap().status().is_success());
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn log_03_a_beginning_that_the_coordinator_did_not_sign_is_found() {
    let fixture = Fixture::start().await;
    make_roles(&fixture, 4).await;
    let (store, audit) = (fixture.running.app.store.clone(), &fixture.running.app.audit);
    let now = fixture.running.app.clock.now();
    let old = i64::try_from(fixture.audit().await.len()).unwrap();
    for n in 0..3 {
        append(&store, now.plus_ms((300 + n) * DAY_MS), "kept").await;
    }
    prune(&store, audit.witness(), 365, now.plus_ms(400 * DAY_MS)).await.unwrap();
    let config = settings(&fixture);
    let directory = fixture.stop().await;
    // Without checkpoints, so that the beginning alone is looked at.
    std::fs::remove_file(config.state_dir.join("audit-checkpoints.jsonl")).unwrap();
    assert!(audit_verify(&config).await.unwrap().intact);
    let original = std::fs::read(config.sqlite_path()).unwrap();
    // One more is cut off than was signed.
    execute(&config, &["DELETE FROM audit WHERE sequence = (SELECT MIN(sequence) FROM audit)"]).await;
    assert_broken(&audit_verify(&config).await.unwrap(), old + 1, "no signed record");
    // The record of the deletion is taken out, and the chain mended.
    std::fs::write(config.sqlite_path(), &original).unwrap();
    execute(
        &config,
        &["DELETE FROM audit WHERE action = 'audit.prune'", "UPDATE audit SET sequence = sequence"],
    )
    .await;
    assert!(!audit_verify(&config).await.unwrap().intact);
    // A beginning that somebody else signed.
    std::fs::write(config.sqlite_path(), &original).unwrap();
    let foreign = tempfile::tempdir().unwrap();
    let store = Store::open_sqlite(&config.sqlite_path()).await.unwrap();
    let foreign = witness_in(foreign.path());
    let through = prune(&store, &foreign, 365, now.plus_ms(667 * DAY_MS)).await.unwrap();
    assert_eq!(through, Some(old + 2));
    store.close().await;
    assert_broken(&audit_verify(&config).await.unwrap(), old + 2, "no signed record");
    drop(directory);
}
