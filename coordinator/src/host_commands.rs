//! What is done on the coordinator's own host, beside the API: by whoever may read its state directory.

use std::path::Path;
use std::sync::Arc;

use aim_common::api::audit::AuditVerification;
use aim_common::api::certificates::RevokeResponse;
use aim_common::api::salt::MasterKeyView;
use aim_common::units::EpochMs;
use serde_json::json;
use zeroize::Zeroizing;

use crate::audit::{self, Witness};
use crate::auth::lockout::canonical;
use crate::auth::{Passwords, generate};
use crate::clock::SystemClock;
use crate::conditions::Conditions;
use crate::config::Config;
use crate::fleet::control::NoSessions;
use crate::host_control::{self, HostAnswer, HostCommand, host_requester};
use crate::keyvault::salt::import_salt_key;
use crate::keyvault::{KeyVault, KeyVaultParts, PublicAddresses};
use crate::serve::{open_store, state_dir};
use crate::store::Store;
use crate::store::audit::{Decision, NewAuditRecord};
use crate::store::users::{UserChange, UserOutcome};

/// Checks the chain of the audit trail.
pub async fn audit_verify(config: &Config) -> anyhow::Result<AuditVerification> {
    let witness = Witness::load(config)?;
    let store = existing_store(config).await?;
    let verification = audit::verify(&store, &witness).await;
    store.close().await;
    Ok(verification?)
}

/// Gives the user a new random password, enables it and ends its sessions.
pub async fn reset_password(
    config: &Config,
    username: &str,
    now: EpochMs,
) -> anyhow::Result<Zeroizing<String>> {
    let store = existing_store(config).await?;
    let user = match canonical(username) {
        Some(name) => store.user_by_name(&name).await?,
        None => None,
    };
    let user = user.ok_or_else(|| anyhow::anyhow!("there is no user {username:?}"))?;
    let password = generate()?;
    let hash = Passwords::default().hash("password", &password).await?;
    let change = UserChange {
        password: Some((hash, true)),
        enabled: Some(true),
        end_sessions_except: Some(None),
        ..UserChange::default()
    };
    let record = host_record(now, "user.reset-password", user.username.clone());
    let outcome = store.change_user(&user.id, &change, now, &record).await?;
    store.close().await;
    anyhow::ensure!(outcome == UserOutcome::Done, "user {username:?} could not be changed");
    Ok(password)
}

/// Imports the Salt master's public key; its fingerprint is to be compared with `salt-key -F master`.
pub async fn salt_key_import(
    config: &Config,
    file: &Path,
    replace: bool,
    now: EpochMs,
) -> anyhow::Result<MasterKeyView> {
    let pem = std::fs::read_to_string(file)
        .map_err(|error| anyhow::anyhow!("{}: the key cannot be read: {error}", file.display()))?;
    let store = existing_store(config).await?;
    let requester = host_requester(rustix::process::getuid().as_raw());
    let imported = import_salt_key(&store, &pem, replace, now, &requester).await;
    store.close().await;
    Ok(imported?)
}

/// Ends a node's identity: through the running coordinator, which cuts the live session, or without one.
pub async fn revoke(config: &Config, node: String, reason: String) -> anyhow::Result<RevokeResponse> {
    let command = HostCommand::Revoke { node, reason };
    let running = host_control::ask(&config.state_dir, &command).await?;
    let answer = if let Some(answer) = running {
        answer
    } else {
        let _lock = state_dir::lock(&config.state_dir)?;
        let store = existing_store(config).await?;
        let keyvault = KeyVault::open(KeyVaultParts {
            state_dir: &config.state_dir,
            config: config.keyvault.clone(),
            addresses: PublicAddresses::default(),
            store: store.clone(),
            clock: Arc::new(SystemClock::new()),
            conditions: Arc::new(Conditions::default()),
            sessions: Arc::new(NoSessions),
        })
        .await?;
        let requester = host_requester(rustix::process::getuid().as_raw());
        let answer = host_control::execute(command, &keyvault, &requester).await;
        store.close().await;
        answer
    };
    match answer {
        HostAnswer::Revoked(revoked) => Ok(revoked),
        HostAnswer::Refused(reason) => anyhow::bail!(reason),
    }
}

/// The database of a coordinator that was started before; a mistyped path must not make an empty one.
async fn existing_store(config: &Config) -> anyhow::Result<Store> {
    let file = config.sqlite_path();
    if config.database.postgres_url_file.is_none() && !file.exists() {
        anyhow::bail!("{}: there is no database; is this the coordinator's configuration?", file.display());
    }
    Ok(open_store(config).await?)
}

/// A record of something done on this host.
fn host_record(at: EpochMs, action: &'static str, target: String) -> NewAuditRecord {
    let actor = format!("host:{}", rustix::process::getuid().as_raw());
    NewAuditRecord {
        at,
        actor,
        source: String::new(),
        action,
        target,
        decision: Decision::Allowed,
        detail: json!({}),
        request_id: String::new(),
    }
}
