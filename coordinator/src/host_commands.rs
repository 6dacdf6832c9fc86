//! What is done on the coordinator's own host, beside the API: by whoever may read its state directory.

use aim_common::api::audit::AuditVerification;
use aim_common::units::EpochMs;
use serde_json::json;
use zeroize::Zeroizing;

use crate::audit;
use crate::auth::lockout::canonical;
use crate::auth::{Passwords, generate};
use crate::config::Config;
use crate::serve::open_store;
use crate::store::Store;
use crate::store::audit::{Decision, NewAuditRecord};
use crate::store::users::{UserChange, UserOutcome};

/// Checks the chain of the audit trail.
pub async fn audit_verify(config: &Config) -> anyhow::Result<AuditVerification> {
    let store = existing_store(config).await?;
    let verification = audit::verify(&store).await;
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

/// The database of a coordinator that was started before; a mistyped path must not make an empty one.
async fn existing_store(config: &Config) -> anyhow::Result<Store> {
    let file = config.sqlite_path();
    if config.database.postgres_url_file.is_none() && !file.exists() {
        anyhow::bail!("{}: there is no database; is this the coordinator's configuration?", file.display());
    }
    Ok(open_store(config).await?)
}

/// A record of something done on this host.
pub fn host_record(at: EpochMs, action: &'static str, target: String) -> NewAuditRecord {
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
