//! `aim-agent enroll`: a join string, or a person's approval, becomes this node's identity.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aim_agent::config::Config;
use aim_agent::exit::Exit;
use aim_agent::files;
use aim_agent::identity::{
    EnrolError, Enrolment, Identity, IdentityStore, JoinSource, RequestOptions, VaultError, enrol,
    request_approval,
};
use aim_common::identity::{NodeName, Sha256Digest, TrustDomain};

use super::{fail, runtime, say};

const EXAMPLES: &str = "\
Examples:
  aimctl token create --node gpu001 --join-file join
  aim-agent enroll --join-file join               # the file is removed after success
  ssh coordinator aimctl token create --node $(hostname) | aim-agent enroll --join-file -
  aim-agent enroll --request --coordinator aim.example.org:8443 --root-sha256 6f0c…
";

/// Give this node its identity.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// File with the join string, mode 0600; "-" reads standard input. Without it: the systemd credential aim.join.
    #[arg(long, value_name = "PATH", conflicts_with = "request")]
    join_file: Option<PathBuf>,
    /// Give up the identity that is there.
    #[arg(long)]
    replace_identity: bool,
    /// Ask to be approved by a person instead of using a token.
    #[arg(long, requires_all = ["coordinator", "root_sha256"])]
    request: bool,
    /// With --request: the coordinator's HTTPS address; may be repeated.
    #[arg(long, value_name = "HOST:PORT", requires = "request")]
    coordinator: Vec<String>,
    /// With --request: SHA-256 of the coordinator's root certificate, in hexadecimal.
    #[arg(long, value_name = "HEX", requires = "request")]
    root_sha256: Option<Sha256Digest>,
    /// With --request: the coordinator's trust domain.
    #[arg(long, value_name = "DOMAIN", default_value = "aim.internal", requires = "request")]
    trust_domain: TrustDomain,
    /// With --request: the name wished for [default: this machine's].
    #[arg(long, value_name = "NAME", requires = "request")]
    node_name: Option<NodeName>,
    /// With --request: how long to wait for a person.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, requires = "request")]
    wait_seconds: u32,
    /// Run as root: the user that the state belongs to, if there is one.
    #[arg(long, value_name = "USER", default_value = "aim-agent")]
    user: String,
}

pub(super) fn main(args: &Args, config: &Config, not_private: &[String]) -> Exit {
    let _log = match aim_agent::log::start(&config.log.filter, true) {
        Ok(log) => log,
        Err(error) => return fail(Exit::Config, &error),
    };
    for reason in not_private {
        tracing::warn!("{reason}");
    }
    if let Err(error) = files::ensure_private_dir(&config.state_dir) {
        return fail(Exit::Failed, &error);
    }
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(exit) => return exit,
    };
    let store = IdentityStore::new(&config.state_dir);
    let enrolment = Enrolment { store: &store, replace: args.replace_identity };
    let done = if args.request {
        runtime.block_on(by_request(args, &enrolment))
    } else {
        runtime.block_on(by_token(args, &enrolment))
    };
    let identity = match done {
        Ok(identity) => identity,
        Err(exit) => return exit,
    };
    if let Err(error) = give_to_user(&args.user, &config.state_dir) {
        return fail(Exit::Failed, &error);
    }
    say(&format!(
        "enrolled: node {} ({}), certificate good until {}\n",
        identity.node_name,
        identity.node_id,
        identity.not_after()
    ))
}

async fn by_token(args: &Args, enrolment: &Enrolment<'_>) -> Result<Identity, Exit> {
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let source = JoinSource::find(args.join_file.as_deref(), credentials.as_deref())
        .map_err(|error| fail(Exit::Usage, &error))?;
    let join = source.read().map_err(|error| fail(Exit::Usage, &error))?;
    let identity = enrol(&join, enrolment).await.map_err(|error| refused(&error))?;
    // The node is enrolled; a join string that stays is useless to others, and yet worth a word.
    if let Err(error) = source.consumed() {
        tracing::warn!(%error, "remove the used join string by hand");
    }
    Ok(identity)
}

async fn by_request(args: &Args, enrolment: &Enrolment<'_>) -> Result<Identity, Exit> {
    let Some(root_sha256) = args.root_sha256 else {
        return Err(fail(Exit::Usage, &"--request needs --root-sha256"));
    };
    let node = match &args.node_name {
        Some(name) => name.clone(),
        None => rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .parse()
            .map_err(|error| fail(Exit::Usage, &format!("{error}; say --node-name")))?,
    };
    let options = RequestOptions {
        addresses: args.coordinator.clone(),
        root_sha256,
        trust_domain: args.trust_domain.clone(),
        node,
        inventory: serde_json::Value::Null,
        patience: Duration::from_secs(args.wait_seconds.into()),
    };
    let mut told = false;
    let waiting = |fingerprint: &str| {
        if !std::mem::replace(&mut told, true) {
            tracing::info!("waiting to be approved; compare the key's fingerprint: {fingerprint}");
        }
    };
    request_approval(&options, enrolment, waiting).await.map_err(|error| refused(&error))
}

fn refused(error: &EnrolError) -> Exit {
    let exit = match error {
        EnrolError::Vault(VaultError::Untrusted { .. }) | EnrolError::Unfit(_) => Exit::PinMismatch,
        EnrolError::Vault(VaultError::Clock { .. }) => Exit::Clock,
        EnrolError::Vault(VaultError::Unreachable { .. } | VaultError::Unanswered { .. }) => {
            Exit::Unreachable
        }
        EnrolError::Vault(VaultError::Refused { .. }) | EnrolError::Rejected => Exit::Refused,
        EnrolError::AlreadyEnrolled { .. } => Exit::AlreadyEnrolled,
        EnrolError::NotApproved { .. } => Exit::NotApproved,
        _ => Exit::Failed,
    };
    fail(exit, error)
}

/// Root enrols for the agent's user: the state directory and what is in it become that user's.
fn give_to_user(user: &str, directory: &Path) -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let Some((uid, gid)) = find_user(user)? else {
        tracing::info!(%user, "no such user on this machine: the state stays root's");
        return Ok(());
    };
    let entries = std::fs::read_dir(directory)
        .map_err(|error| format!("cannot list {}: {error}", directory.display()))?;
    let mut paths = vec![directory.to_owned()];
    paths.extend(entries.flatten().map(|entry| entry.path()));
    for path in paths {
        std::os::unix::fs::lchown(&path, Some(uid), Some(gid))
            .map_err(|error| format!("cannot give {} to {user}: {error}", path.display()))?;
    }
    Ok(())
}

/// User and group id from /etc/passwd; system users are always there.
fn find_user(user: &str) -> Result<Option<(u32, u32)>, String> {
    let table = std::fs::read_to_string("/etc/passwd")
        .map_err(|error| format!("cannot read /etc/passwd: {error}"))?;
    Ok(table.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != user {
            return None;
        }
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some((uid, gid))
    }))
}
