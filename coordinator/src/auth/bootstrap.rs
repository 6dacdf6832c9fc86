//! The first start: the role templates, and one user `admin` with a random password (AUT-09).

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use aim_common::identity::UserId;
use aim_common::units::EpochMs;
use serde_json::json;

use super::{Passwords, generate, templates};
use crate::entropy::random_bytes;
use crate::private_file;
use crate::store::Store;
use crate::store::audit::{Decision, NewAuditRecord};
use crate::store::users::{ADMIN, NewUser};

/// Seeds the roles; makes `admin` where there is no user at all.
///
/// The password goes to `password_file`, else once to the terminal, else (no terminal, as under systemd) to a file in
/// the state directory: never into a log. It is kept before the user exists, so that a crash between the two leaves
/// no user whose password nobody knows.
pub async fn first_start(
    store: &Store,
    password_file: Option<&Path>,
    state_dir: &Path,
    now: EpochMs,
) -> anyhow::Result<()> {
    store.seed_roles(&templates::templates()?).await?;
    if store.user_count().await? > 0 {
        return Ok(());
    }
    let password = generate()?;
    let hash = Passwords::default().hash("password", &password).await?;
    let in_state_dir = state_dir.join("initial-admin-password");
    let file: Option<PathBuf> = match password_file {
        Some(file) => Some(file.to_owned()),
        None if std::io::stderr().is_terminal() => None,
        None => Some(in_state_dir),
    };
    if let Some(file) = &file {
        private_file::write(file, format!("{}\n", *password).as_bytes())?;
    }
    let user = NewUser {
        id: UserId::from_random(random_bytes()?),
        username: ADMIN.to_owned(),
        password_hash: hash,
        password_generated: true,
        roles: vec![ADMIN.to_owned()],
        groups: Vec::new(),
    };
    let record = NewAuditRecord {
        at: now,
        actor: "coordinator".to_owned(),
        source: String::new(),
        action: "user.create",
        target: ADMIN.to_owned(),
        decision: Decision::Allowed,
        detail: json!({"reason": "first start"}),
        request_id: String::new(),
    };
    store.create_user(&user, now, &record).await?;
    match file {
        Some(file) => {
            tracing::info!(file = %file.display(), "user admin was made; its first password is in this file");
        }
        None => writeln!(
            std::io::stderr(),
            "user=admin password={} (shown this once; change it soon)",
            *password
        )?,
    }
    Ok(())
}
