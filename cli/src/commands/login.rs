//! `aimctl login`, `logout`, `whoami`.

use std::path::PathBuf;

use aim_common::api::auth::{LoginMode, LoginRequest, SessionInfo};
use aim_common::identity::{Sha256Digest, TrustDomain};

use crate::client::{Client, Route, parse_server};
use crate::context::{Context, read_password};
use crate::error::CliError;
use crate::output::{self, Cell};
use crate::profile::{Profile, Trust, check_profile_name};

/// Arguments of `login`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The coordinator must prove who it is: by the SHA-256 of AIM's own root certificate, which the coordinator writes to
its journal at its first start, or by a certificate from an authority that --ca-file holds. There is no insecure mode.

Examples:
  aimctl login https://aim.example:8443 --root-sha256 5f2c…
  aimctl login https://aim.example --ca-file /etc/ssl/certs/ca-certificates.crt --profile prod
  aimctl login --password-file /run/credentials/aim-admin       again, on the profile's address")]
pub(crate) struct LoginArgs {
    /// The coordinator's address, https://HOST:PORT [default: the profile's]
    server: Option<String>,
    /// User name
    #[arg(short, long, default_value = "admin", value_name = "NAME")]
    user: String,
    /// Read the password from the first line of this file; - is standard input
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Trust the coordinator by the SHA-256 of its root certificate, 64 hexadecimal digits
    #[arg(long, value_name = "PIN", conflicts_with = "ca_file")]
    root_sha256: Option<Sha256Digest>,
    /// The trust domain of the pinned root
    #[arg(long, value_name = "DOMAIN", requires = "root_sha256", default_value_t)]
    trust_domain: TrustDomain,
    /// Trust a coordinator whose certificate comes from an authority in this PEM file
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

/// Opens a session, and makes the profile the current one.
pub(crate) async fn login(context: &Context, args: LoginArgs) -> Result<(), CliError> {
    let mut config = context.dir.load()?;
    let name = context.profile_name(&config);
    check_profile_name(&name)?;
    let known = config.profiles.get(&name);
    let trust = match (args.root_sha256, args.ca_file) {
        (Some(root_sha256), _) => Trust::Pin { root_sha256, trust_domain: args.trust_domain },
        (None, Some(ca_file)) => Trust::CaFile {
            ca_file: std::path::absolute(&ca_file).map_err(CliError::file("finding", ca_file))?,
        },
        (None, None) => known.map(|profile| profile.trust.clone()).ok_or_else(|| {
            CliError::Usage(
                "say how the coordinator proves who it is: --root-sha256 PIN or --ca-file FILE".to_owned(),
            )
        })?,
    };
    let server = args
        .server
        .or_else(|| known.map(|profile| profile.server.clone()))
        .ok_or_else(|| CliError::Usage("say which coordinator: aimctl login https://HOST:PORT".to_owned()))?;
    parse_server(&server)?;
    let profile = Profile { server: server.trim_end_matches('/').to_owned(), trust };

    let prompt = format!("Password of {} on {}: ", args.user, profile.server);
    let password = read_password(args.password_file.as_deref(), &prompt, false)?;
    let client = Client::new(&profile, context.dir.credentials(&name)?).await?;
    let request = LoginRequest { username: args.user, password, mode: LoginMode::Bearer };
    let answer = client.login(&request).await?;

    config.profiles.insert(name.clone(), profile);
    config.current = Some(name.clone());
    context.dir.save(&config)?;
    output::note(&format!(
        "logged in to {} as {} (profile {name})",
        client.server(),
        answer.session.username
    ));
    if answer.session.password_change_advised {
        output::note("this is still the generated password; change it with: aimctl user password");
    }
    Ok(())
}

/// Ends the session.
pub(crate) async fn logout(context: &Context) -> Result<(), CliError> {
    let client = context.client().await?;
    client.logout().await?;
    output::note(&format!("logged out of {}", client.server()));
    Ok(())
}

/// Shows who is logged in.
pub(crate) async fn whoami(context: &Context) -> Result<(), CliError> {
    let client = context.client().await?;
    let session = client.get(Route::v1(["auth", "session"])).await?;
    context.output.one::<SessionInfo>(
        session,
        |session| session.username.clone(),
        |session| {
            let permissions: Vec<String> = session.permissions.iter().map(ToString::to_string).collect();
            context.output.pairs(vec![
                ("user", Cell::new(&session.username)),
                ("server", Cell::new(client.server())),
                ("roles", Cell::new(session.roles.join(" "))),
                ("permissions", Cell::new(permissions.join(" "))),
                ("session", Cell::new(&session.session_id)),
            ])
        },
    )
}
