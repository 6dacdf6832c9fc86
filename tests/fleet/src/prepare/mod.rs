//! Before a run: descriptors, the state folder, identities from the last run or through the real enrolment.

mod api;
mod enrol;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use aim_agent::files::ensure_private_dir;
use aim_agent::identity::{Identity, IdentityStore};
use aim_common::hostlist::HostList;
use aim_common::identity::{NodeName, Sha256Digest};
use anyhow::{Context, bail, ensure};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::args::Args;

/// Descriptors that are not sockets: files, the runtime's own, enrolments at once.
const OTHER_DESCRIPTORS: u64 = 512;
/// Threads that read identities.
const READERS: usize = 4;

/// An agent that can begin.
#[derive(Debug)]
pub(crate) struct Member {
    /// Its name.
    pub(crate) name: NodeName,
    /// Where its identity is.
    pub(crate) store: IdentityStore,
    /// Its identity.
    pub(crate) identity: Arc<Identity>,
    /// A renewed one that was not proven yet.
    pub(crate) next: Option<Arc<Identity>>,
}

/// The state folder, held for as long as this lives.
pub(crate) struct Held(#[expect(dead_code, reason = "its lock ends with it")] File);

/// Two simulators with one set of identities would be clones to the coordinator.
pub(crate) fn hold(state: &Path) -> anyhow::Result<Held> {
    ensure_private_dir(state)?;
    let path = state.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).with_context(|| {
        format!("{} is in use by another aim-fleet; give each its own --state and --prefix", state.display())
    })?;
    Ok(Held(file))
}

/// Raises the limit of open files as far as `sockets` need it.
pub(crate) fn raise_descriptors(sockets: usize) -> anyhow::Result<()> {
    let wanted = u64::try_from(sockets)? + OTHER_DESCRIPTORS;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    limit.current = Some(wanted);
    limit.maximum = limit.maximum.map(|maximum| maximum.max(wanted));
    setrlimit(Resource::Nofile, limit).with_context(|| {
        format!("{wanted} open files are needed: raise the hard limit (ulimit -Hn {wanted})")
    })
}

/// All members, enrolled where they were not; and how many were enrolled now.
pub(crate) async fn members(args: &Args) -> anyhow::Result<(Vec<Member>, usize)> {
    let names = names(&args.prefix, args.nodes)?;
    let folder = args.state.join("nodes");
    ensure_private_dir(&folder)?;
    let stores: Vec<(NodeName, IdentityStore)> = names
        .into_iter()
        .map(|name| {
            let store = IdentityStore::new(folder.join(name.as_str()));
            (name, store)
        })
        .collect();
    let missing = load(stores.clone()).await?.1;
    let enrolled = missing.len();
    if enrolled > 0 {
        enrol_missing(args, missing).await?;
    }
    let (members, missing) = load(stores).await?;
    ensure!(missing.is_empty(), "{} nodes have no identity after their enrolment", missing.len());
    check_root(&members, args)?;
    Ok((members, enrolled))
}

fn names(prefix: &str, count: u32) -> anyhow::Result<Vec<NodeName>> {
    (1..=count)
        .map(|number| format!("{prefix}{number:05}").parse())
        .collect::<Result<_, _>>()
        .context("--prefix must be the beginning of a node name")
}

type Stores = Vec<(NodeName, IdentityStore)>;

/// Reads identities on several threads: each is checked against its chain, which takes a while for thousands.
async fn load(stores: Stores) -> anyhow::Result<(Vec<Member>, Stores)> {
    let size = stores.len().div_ceil(READERS).max(1);
    let mut reading = Vec::new();
    for part in stores.chunks(size) {
        let part = part.to_vec();
        reading.push(tokio::task::spawn_blocking(move || load_part(part)));
    }
    let (mut members, mut missing) = (Vec::new(), Vec::new());
    for part in reading {
        let (some, none) = part.await??;
        members.extend(some);
        missing.extend(none);
    }
    Ok((members, missing))
}

fn load_part(stores: Stores) -> anyhow::Result<(Vec<Member>, Stores)> {
    let (mut members, mut missing) = (Vec::new(), Vec::new());
    for (name, store) in stores {
        match store.load()? {
            Some(identity) => {
                let next = store.load_next()?.map(Arc::new);
                members.push(Member { name, store, identity: Arc::new(identity), next });
            }
            None => missing.push((name, store)),
        }
    }
    Ok((members, missing))
}

async fn enrol_missing(args: &Args, missing: Stores) -> anyhow::Result<()> {
    let Some(password_file) = &args.password_file else {
        bail!(
            "{} nodes are not enrolled yet: give --password-file, so that tokens can be issued",
            missing.len()
        );
    };
    let mut api = api::Api::new(&args.coordinator, &args.trust_domain, args.pin).await?;
    api.login(&args.user, password_file).await?;
    let hosts = HostList::fold(missing.iter().map(|(name, _)| name.as_str()));
    let tokens = api.tokens(hosts, args.replace).await?;
    enrol::all(missing, tokens, usize::from(args.parallel)).await
}

/// Identities of another coordinator would only be refused, one by one.
fn check_root(members: &[Member], args: &Args) -> anyhow::Result<()> {
    let is_of_pin =
        |member: &&Member| !member.identity.roots.iter().any(|root| Sha256Digest::of(root) == args.pin);
    if let Some(member) = members.iter().find(is_of_pin) {
        bail!(
            "the identity of {} in {} is of another coordinator than --pin names: give another --state folder",
            member.name,
            args.state.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_counted_from_one_with_five_digits() {
        let names = names("gpu-", 3).unwrap();
        assert_eq!(
            names.iter().map(NodeName::as_str).collect::<Vec<_>>(),
            ["gpu-00001", "gpu-00002", "gpu-00003"]
        );
        assert!(super::names("no blanks", 1).is_err());
    }
}
