//! One suite of every function of the store, run on both engines: what holds on one holds on the other.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod access;
mod fleet;
mod identities;
mod made;
mod trail;

use std::fs;
use std::path::Path;
use std::pin::Pin;

use aim_coordinator::store::Store;
use aim_tests::Postgres;
use aim_tests::statements::workspace;
use tempfile::TempDir;

type Check = fn(Store) -> Pin<Box<dyn Future<Output = ()>>>;

/// A table of (name, check) from names of functions `async fn(Store)`.
macro_rules! checks {
    ($($module:ident::$name:ident,)*) => {
        [$((concat!(stringify!($module), "::", stringify!($name)), {
            fn run(store: Store) -> Pin<Box<dyn Future<Output = ()>>> {
                Box::pin($module::$name(store))
            }
            run as Check
        }),)*]
    };
}

/// Every check begins with an empty database.
const CHECKS: &[(&str, Check)] = &checks! {
    trail::records_form_a_chain_that_is_read_both_ways,
    trail::concurrent_appends_leave_no_gap,
    trail::old_records_end_and_the_rest_is_still_a_chain,
    trail::sealed_secrets_are_kept_once_and_replaced_whole,
    trail::the_salt_key_is_replaced_only_on_request,
    identities::a_token_is_redeemed_once,
    identities::tokens_end_by_time_failures_and_revocation,
    identities::no_more_tokens_than_the_limit_or_none_of_them,
    identities::enrolment_is_whole_or_nothing,
    identities::of_many_enrolments_with_one_token_one_is_done,
    identities::a_replaced_node_is_superseded,
    identities::certificates_follow_their_generations,
    identities::a_revoked_node_is_not_known_any_more,
    identities::quarantine_begins_and_ends_once,
    identities::requests_wait_and_are_decided_once,
    fleet::nodes_change_and_go_with_their_record,
    fleet::a_group_is_stored_whole_and_repeats_nothing,
    fleet::events_are_filtered_and_paged,
    fleet::sections_replace_each_other_and_changes_are_kept,
    fleet::what_a_session_writes_to_its_node,
    fleet::history_ends_and_positions_stay,
    access::users_are_found_changed_and_deleted,
    access::the_last_administrator_stays,
    access::roles_grant_and_go_when_nobody_holds_them,
    access::sessions_open_rotate_and_end,
    access::of_many_uses_of_a_refresh_token_one_is_done,
    access::hostile_texts_are_texts,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_function_on_sqlite() {
    let dir = TempDir::new().unwrap();
    for (name, check) in CHECKS {
        eprintln!("sqlite: {name}");
        let store = Store::open_sqlite(&dir.path().join(format!("{}.db", file(name)))).await.unwrap();
        check(store.clone()).await;
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_function_on_postgres() {
    let dir = TempDir::new().unwrap();
    let server = Postgres::start(dir.path());
    for (name, check) in CHECKS {
        eprintln!("postgres: {name}");
        let store = Store::open_postgres(&server.new_database(&file(name))).await.unwrap();
        check(store.clone()).await;
        store.close().await;
    }
    let refused: Vec<String> =
        server.log().lines().filter(|line| line.contains("ERROR:")).map(str::to_owned).collect();
    // Unique indexes that refuse are how the store learns of a lost race.
    let unexpected: Vec<_> = refused.iter().filter(|line| !line.contains("duplicate key value")).collect();
    assert!(unexpected.is_empty(), "{unexpected:#?}");
}

fn file(check: &str) -> String {
    check.replace("::", "_")
}

/// A function of the store without a check would be proven on no engine.
#[test]
fn no_function_of_the_store_is_left_out() {
    let ours = rust_files(&workspace().join("tests/tests/store_conformance"));
    let mut missing = Vec::new();
    for text in rust_files(&workspace().join("coordinator/src/store")) {
        for found in text.split("pub async fn ").skip(1) {
            let name = found.split(['(', '<']).next().unwrap();
            let is_used = ours.iter().any(|text| text.contains(&format!(".{name}(")));
            if !is_used && !["open_sqlite", "open_postgres"].contains(&name) {
                missing.push(name.to_owned());
            }
        }
    }
    assert!(missing.is_empty(), "functions of the store without a check on both engines: {missing:?}");
}

fn rust_files(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.extension().is_some_and(|end| end == "rs"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect()
}
