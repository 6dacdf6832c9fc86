//! `aimctl node label`, `group`, `delete`, `revoke`, `release`: changes of one node or of a host list.

use std::collections::BTreeMap;

use aim_common::api::certificates::{ReleaseRequest, RevokeRequest, RevokeResponse};
use aim_common::api::nodes::UpdateNodeRequest;
use aim_common::hostlist::HostList;
use futures_util::StreamExt;
use reqwest::Method;

use crate::client::{Client, Route};
use crate::context::{Context, confirm};
use crate::error::CliError;
use crate::output::{self, typed};

/// Requests under way at once: enough to hide the network, too few to meet the coordinator's rate limits.
const AT_ONCE: usize = 4;

/// `KEY=VALUE` or `KEY-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Label {
    key: String,
    value: Option<String>,
}

/// Reads a label as the command line has it.
pub(crate) fn parse_label(given: &str) -> Result<Label, String> {
    let label = match given.split_once('=') {
        Some((key, value)) => Label { key: key.to_owned(), value: Some(value.to_owned()) },
        None => match given.strip_suffix('-') {
            Some(key) => Label { key: key.to_owned(), value: None },
            None => return Err(format!("{given:?} is neither KEY=VALUE nor KEY-")),
        },
    };
    if label.key.is_empty() { Err(format!("{given:?} has no key")) } else { Ok(label) }
}

/// Sets or removes labels.
pub(super) async fn label(context: &Context, hosts: HostList, labels: Vec<Label>) -> Result<(), CliError> {
    let labels: BTreeMap<String, Option<String>> =
        labels.into_iter().map(|label| (label.key, label.value)).collect();
    update(context, hosts, UpdateNodeRequest { labels, ..UpdateNodeRequest::default() }, "labelled").await
}

/// Sets the groups.
pub(super) async fn group(context: &Context, hosts: HostList, groups: Vec<String>) -> Result<(), CliError> {
    let request = UpdateNodeRequest { groups: Some(groups), ..UpdateNodeRequest::default() };
    update(context, hosts, request, "regrouped").await
}

async fn update(
    context: &Context,
    hosts: HostList,
    request: UpdateNodeRequest,
    done: &str,
) -> Result<(), CliError> {
    // An absent owner stays as it is; serde would write it as null, which removes it.
    let mut body = serde_json::to_value(&request)
        .map_err(|error| CliError::Failed(format!("writing the request as JSON: {error}")))?;
    if let Some(fields) = body.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    let client = context.client().await?;
    let (client, body) = (&client, &body);
    each(hosts, |node| async move {
        client.change(Method::PATCH, Route::v1(["nodes", &node]), Some(body)).await?;
        Ok(format!("{node}: {done}"))
    })
    .await
}

/// Deletes nodes.
pub(super) async fn delete(context: &Context, hosts: HostList, yes: bool) -> Result<(), CliError> {
    confirm(yes, &format!("{} will be deleted ({} in all)", hosts, hosts.len()))?;
    let client = context.client().await?;
    let client = &client;
    each(hosts, |node| async move {
        client.delete(Route::v1(["nodes", &node])).await?;
        Ok(format!("{node}: deleted"))
    })
    .await
}

/// Arguments of `node revoke` and `cert revoke`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: aimctl node revoke gpu001 --reason 'disk sent to the vendor'")]
pub(crate) struct RevokeArgs {
    /// Host list, or an id
    hosts: HostList,
    /// Why; kept in the audit trail
    #[arg(long)]
    reason: String,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// Revokes nodes' identities.
pub(crate) async fn revoke(context: &Context, args: RevokeArgs) -> Result<(), CliError> {
    let RevokeArgs { hosts, reason, yes } = args;
    confirm(yes, &format!("the identity of {hosts} will be revoked ({} in all)", hosts.len()))?;
    let client = context.client().await?;
    let (client, request) = (&client, &RevokeRequest { reason });
    each(hosts, |node| async move { revoke_one(client, &node, request).await }).await
}

async fn revoke_one(client: &Client, node: &str, request: &RevokeRequest) -> Result<String, CliError> {
    let answer = client.change(Method::POST, Route::v1(["nodes", node, "revoke"]), Some(request)).await?;
    let answer: RevokeResponse = typed(answer)?;
    let pending = if answer.database_pending { "; it is in the journal, the database follows" } else { "" };
    Ok(format!("{node}: revoked, {} session(s) cut{pending}", answer.sessions_closed))
}

/// Ends the quarantine of nodes.
pub(super) async fn release(context: &Context, hosts: HostList, reason: String) -> Result<(), CliError> {
    let client = context.client().await?;
    let (client, request) = (&client, &ReleaseRequest { reason });
    each(hosts, |node| async move {
        client.change(Method::POST, Route::v1(["nodes", &node, "release"]), Some(request)).await?;
        Ok(format!("{node}: released from quarantine"))
    })
    .await
}

/// Does it for each host, a few at once; every outcome is said, the first failure decides the exit code.
async fn each<F, Fut>(hosts: HostList, act: F) -> Result<(), CliError>
where
    F: Fn(String) -> Fut,
    Fut: Future<Output = Result<String, CliError>>,
{
    let total = hosts.len();
    let mut outcomes = futures_util::stream::iter(hosts.into_vec())
        .map(|host| {
            let name = host.to_string();
            let doing = act(name.clone());
            async move { (name, doing.await) }
        })
        .buffered(AT_ONCE);
    let mut failures = 0;
    let mut first = None;
    while let Some((name, outcome)) = outcomes.next().await {
        match outcome {
            Ok(done) => output::note(&done),
            Err(error) => {
                failures += 1;
                if total > 1 {
                    output::note(&format!("{name}: {}", output::text::escape_lines(&error.to_string())));
                }
                first.get_or_insert(error);
            }
        }
    }
    if failures > 1 {
        output::note(&format!("{failures} of {total} failed"));
    }
    first.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_set_removed_or_refused() {
        let label =
            |key: &str, value: Option<&str>| Label { key: key.into(), value: value.map(str::to_owned) };
        assert_eq!(parse_label("rack=a1"), Ok(label("rack", Some("a1"))));
        assert_eq!(parse_label("note=a=b-"), Ok(label("note", Some("a=b-"))));
        assert_eq!(parse_label("rack="), Ok(label("rack", Some(""))));
        assert_eq!(parse_label("rack-"), Ok(label("rack", None)));
        for bad in ["rack", "=x", "-", ""] {
            assert!(parse_label(bad).is_err(), "{bad:?}");
        }
    }
}
