//! Commands on the coordinator's host, with and without a running coordinator.

use std::path::Path;

use aim_coordinator::config::Config;
use aim_coordinator::{host_commands, serve};
use reqwest::StatusCode;

use crate::support::{Fixture, config};

fn config_of(fixture: &Fixture) -> Config {
    (*fixture.running.app.config).clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn pki_12_a_node_is_revoked_on_the_host_through_the_running_coordinator_and_without_one() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    fixture.enrol(&admin, "gpu001").await;
    fixture.enrol(&admin, "gpu002").await;
    let config = config_of(&fixture);
    let revoke = |node: &str| host_commands::revoke(&config, node.to_owned(), "stolen".to_owned());

    assert!(revoke("gpu009").await.unwrap_err().to_string().contains("gpu009"));
    let revoked = revoke("gpu001").await.unwrap();
    assert!(!revoked.database_pending);
    let app = &fixture.running.app;
    assert!(
        app.keyvault.identities().resolve("gpu001").is_none(),
        "the running coordinator knows it at once"
    );
    let record = fixture.audit().await.pop().unwrap();
    assert!(record.actor.starts_with("host:") && record.detail.contains("stolen"), "{record:?}");

    let directory = fixture.stop().await;
    revoke("gpu002").await.unwrap();
    assert!(revoke("gpu002").await.is_err(), "it is no living node any more");
    let again = serve::start(crate::support::config(&directory)).await.unwrap();
    assert!(again.app.keyvault.identities().resolve("gpu002").is_none());
    again.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_coordinators_do_not_share_a_state_directory() {
    let fixture = Fixture::start().await;
    let refused = serve::start(config(&fixture.directory)).await.err().unwrap().to_string();
    assert!(refused.contains("another coordinator"), "{refused}");
    let directory = fixture.stop().await;
    serve::start(config(&directory)).await.unwrap().shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_salt_master_key_is_imported_on_the_host_and_comes_back_byte_for_byte() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/keyvault/testdata");
    let file = data.join("salt-master.pub");
    let now = fixture.running.app.clock.now();
    let imported = host_commands::salt_key_import(&config_of(&fixture), &file, false, now).await.unwrap();
    let known = std::fs::read_to_string(data.join("salt-master.fingerprint")).unwrap();
    assert!(known.contains(&imported.fingerprint), "{} is not in {known}", imported.fingerprint);
    let (status, shown) = fixture.call(&admin, "GET", "/api/v1/salt/master-key", None).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(shown["pem"].as_str().unwrap(), std::fs::read_to_string(&file).unwrap());
    fixture.stop().await;
}
