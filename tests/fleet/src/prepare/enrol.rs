//! Enrolment as an agent does it, many at once: each over its own TLS connection, with its own key.

use std::collections::HashMap;
use std::str::FromStr;
use std::time::Duration;

use aim_agent::files::ensure_private_dir;
use aim_agent::identity::{Enrolment, IdentityStore, enrol};
use aim_common::api::keyvault::GeneratedToken;
use aim_common::enrolment::JoinString;
use aim_common::identity::NodeName;
use anyhow::Context;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Stores;
use crate::report::say;

const TELL_EVERY: Duration = Duration::from_secs(5);

/// Enrols every node with its token.
pub(super) async fn all(missing: Stores, tokens: Vec<GeneratedToken>, parallel: usize) -> anyhow::Result<()> {
    let mut joins: HashMap<NodeName, String> =
        tokens.into_iter().filter_map(|token| Some((token.node?, token.join?))).collect();
    let total = missing.len();
    let mut running = JoinSet::new();
    let mut tell_at = Instant::now();
    for (done, (name, store)) in missing.into_iter().enumerate() {
        let join = joins.remove(&name).with_context(|| format!("no token came back for {name}"))?;
        if running.len() >= parallel
            && let Some(ended) = running.join_next().await
        {
            ended??;
        }
        // The agent's code syncs its files: a thread each, so that nothing else waits for the disk.
        let runtime = tokio::runtime::Handle::current();
        running.spawn_blocking(move || runtime.block_on(one(&name, &store, &join)));
        if Instant::now() >= tell_at {
            say(&format!("enrolling: {done} of {total}"));
            tell_at = Instant::now() + TELL_EVERY;
        }
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    say(&format!("enrolled {total}"));
    Ok(())
}

async fn one(name: &NodeName, store: &IdentityStore, join: &str) -> anyhow::Result<()> {
    ensure_private_dir(store.directory())?;
    let join = JoinString::from_str(join)?;
    enrol(&join, &Enrolment { store, replace: false })
        .await
        .with_context(|| format!("enrolling {name} (start again: what is enrolled is kept)"))?;
    Ok(())
}
